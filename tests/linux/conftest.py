"""Fixtures of the tests against a Linux kernel. All of them share one xdist worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.linux.peer import Wire
from tests.support import require


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """One wire for a whole file: a clean link."""
    require.netns()
    require.tun()
    with Wire() as made:
        yield made


@pytest.fixture
def need_linux() -> None:
    """Ask for what a test needs that makes its own wire."""
    require.netns()
    require.tun()
