"""The kernel beside a host of ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.linux.peer import Peer
from tests.support import require


@pytest.fixture
def peer() -> Iterator[Peer]:
    """A namespace of the kernel with `lo` up."""
    require.netns()
    with contextlib.closing(Peer()) as peer:
        peer.ip("link", "set", "lo", "up")
        yield peer
