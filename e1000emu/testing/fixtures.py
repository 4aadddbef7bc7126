"""pytest fixtures: a device on a bench, with its far sides faked.

Use them with ``pytest_plugins = ["e1000emu.testing.fixtures"]`` in a ``conftest.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.testing.bench import POISON, RAM_BASE, Bench, make_bench
from e1000emu.testing.recorders import RecordingLine, RecordingLink
from fastpath.base.dma import HostMemory

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """A clock at 0 that jumps."""
    return VirtualClock()


@pytest.fixture
def guest_memory() -> HostMemory:
    """16 MiB of poisoned host memory that does not begin at 0."""
    return HostMemory(16 << 20, base=RAM_BASE, poison=POISON)


@pytest.fixture
def recording_line(virtual_clock: VirtualClock) -> RecordingLine:
    """An interrupt line that remembers its edges."""
    return RecordingLine(virtual_clock)


@pytest.fixture
def recording_link() -> RecordingLink:
    """A link that remembers what was sent."""
    return RecordingLink()


@pytest.fixture
def bench() -> Bench:
    """A bench whose driver has not touched the device yet."""
    return make_bench()


@pytest.fixture
def running_bench() -> Bench:
    """A bench whose driver has brought the device up and waited for the link."""
    return Bench.running()


@pytest.fixture
def bench_factory() -> Callable[..., Bench]:
    """Benches with the test's own parameters."""
    return make_bench
