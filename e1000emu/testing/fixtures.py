"""pytest fixtures: a device on a bench, with its far sides faked.

Use them with ``pytest_plugins = ["e1000emu.testing.fixtures"]`` in a ``conftest.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.testing.guest import GuestRings
from e1000emu.testing.recorders import RecordingLine, RecordingLink
from fastpath.dma import DmaTable, HostMemory

if TYPE_CHECKING:
    from collections.abc import Callable

    from e1000emu.nic import Nic
    from e1000emu.ports import ManagementController

POISON = 0xFF
"""Fresh memory is all ones, so that a descriptor read before it was written shows."""
BENCH_MAC = b"\x52\x54\x00\x12\x34\x56"


@dataclass(slots=True)
class Bench:
    """One NIC, its memory, interrupt line, link and clock, and the fake driver on top."""

    nic: Nic
    memory: HostMemory
    dma: DmaTable
    line: RecordingLine
    link: RecordingLink
    clock: VirtualClock
    guest: GuestRings


def make_bench(
    *,
    model: str = "82540EM",
    mac: bytes = BENCH_MAC,
    ram_bytes: int = 16 << 20,
    management: ManagementController | None = None,
    **ring_sizes: Any,
) -> Bench:
    """Build a :class:`Bench`; `ring_sizes` go to :class:`GuestRings`."""
    from e1000emu.nic import Nic

    clock = VirtualClock()
    memory = HostMemory(ram_bytes, base=0x10_0000, poison=POISON)
    dma = DmaTable()
    dma.add(memory.base, memory.buffer)
    line = RecordingLine(clock)
    link = RecordingLink()
    nic = Nic(
        memory=dma, irq=line, link=link, clock=clock, model=model, mac=mac, management=management
    )
    enable_bus_master(nic)
    guest = GuestRings(nic.slot, memory, **ring_sizes)
    return Bench(nic, memory, dma, line, link, clock, guest)


def enable_bus_master(nic: Nic) -> None:
    """Do the BIOS's part: an address for BAR0; memory space, I/O space and bus mastering on."""
    slot = nic.slot
    slot.config_write(0x10, 0xFEBC_0000, 4)
    slot.config_write(0x04, slot.config_read(0x04, 2) | 0x7, 2)


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """A clock at 0 that jumps."""
    return VirtualClock()


@pytest.fixture
def guest_memory() -> HostMemory:
    """16 MiB of poisoned host memory that does not begin at 0."""
    return HostMemory(16 << 20, base=0x10_0000, poison=POISON)


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
    made = make_bench()
    made.guest.up(mac=BENCH_MAC)
    made.clock.run_for(5_000_000_000)
    made.line.clear()
    return made


@pytest.fixture
def bench_factory() -> Callable[..., Bench]:
    """Benches with the test's own parameters."""
    return make_bench
