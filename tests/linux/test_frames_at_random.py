"""What comes of random frames is the same on the kernel and on a host (frames_at_random.py)."""

from __future__ import annotations

from functools import partial

import pytest

from tests.linux.frames_at_random import Kernel, Ours, difference, told_by
from tests.support import require

pytestmark = pytest.mark.netns

MENDED = (
    *(46, 210, 222, 254, 408, 424, 428, 506, 523, 546, 595, 598, 606, 671, 733, 743, 774, 809),
    *(827, 856, 955, 1178, 1266, 1413),
)
"""Seeds that found a difference once."""


@pytest.mark.parametrize("seed", [*range(20), *MENDED])
def test_the_same_comes_of_them(seed: int) -> None:
    require.taps()
    ours = told_by(Ours, seed)
    found: list[tuple[str, list[str]]] = []
    for patience_s in (0.0003, 0.02, 0.1, 0.4):  # the kernel's workers may be late
        kernel = told_by(partial(Kernel, patience_s=patience_s), seed)
        pairs = zip(kernel, ours, strict=True)
        found = [(frame, list(difference(theirs, own))) for (frame, theirs), (_, own) in pairs]
        found = [(frame, what) for frame, what in found if what]
        if not found:
            break
    assert found == []
