"""What comes of random frames is the same on the kernel and on a host (frames_at_random.py)."""

from __future__ import annotations

import pytest

from tests.linux.frames_at_random import Kernel, Ours, difference, told_by
from tests.support import require

pytestmark = pytest.mark.netns


@pytest.mark.parametrize("seed", range(30))
def test_the_same_comes_of_them(seed: int) -> None:
    require.taps()
    kernel, ours = told_by(Kernel, seed), told_by(Ours, seed)
    if kernel != ours:  # its workers may have been late
        kernel = told_by(lambda: Kernel(patience_s=0.02), seed)
    for (frame, theirs), (_, own) in zip(kernel, ours, strict=True):
        assert list(difference(theirs, own)) == [], frame
