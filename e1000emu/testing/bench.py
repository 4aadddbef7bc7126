"""A bench: one NIC with faked memory, interrupt line, link and driver, on a virtual clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from e1000emu.clock import VirtualClock
from e1000emu.closing import Closing
from e1000emu.testing.guest import GuestRings
from e1000emu.testing.recorders import RecordingLine, RecordingLink
from e1000emu.testing.writeback import SlowWriteBack, WatchedMemory
from fastpath.base.dma import DmaTable, HostMemory
from fastpath.errors import known_words, whole_number

if TYPE_CHECKING:
    from e1000emu.capture import PcapngWriter
    from e1000emu.device.nic import Nic
    from e1000emu.insight.faults import Faults
    from e1000emu.ports import ManagementController
    from e1000emu.record.recorder import Recorder

__all__ = ["BENCH_MAC", "POISON", "RAM_BASE", "Bench", "enable_bus_master", "make_bench"]

POISON = 0xFF
"""Fresh memory is all ones, so that a descriptor read before it was written shows."""
RAM_BASE = 0x10_0000
BENCH_MAC = b"\x52\x54\x00\x12\x34\x56"
"""The address in the EEPROM of a bench's card."""
LINK_UP_NS = 5_000_000_000
"""Autonegotiation takes less."""
RING_SIZES = ("rx_buffer_bytes", "rx_count", "step", "tx_count")
"""What `GuestRings` takes of them."""


@dataclass(slots=True, init=False)
class Bench(Closing):
    """One NIC, its memory, interrupt line, link and clock, and the fake driver on top."""

    nic: Nic
    memory: HostMemory
    dma: DmaTable
    line: RecordingLine
    link: RecordingLink
    clock: VirtualClock
    guest: GuestRings

    def __init__(
        self,
        *,
        model: str = "82540EM",
        mac: bytes = BENCH_MAC,
        ram_bytes: int = 16 << 20,
        management: ManagementController | None = None,
        writeback_ns: int = 0,
        faults: Faults | None = None,
        record: Recorder | None = None,
        link: RecordingLink | None = None,
        capture: PcapngWriter | None = None,
        **ring_sizes: Any,
    ) -> None:
        """Build all of it; `faults` and `record` are those of `Nic`, `ring_sizes` of `GuestRings`.

        `link` is the one to use, None: a new one; `capture` gets its frames, both ways.

        With `writeback_ns` the device's writes, and the interrupt that announces them, come so many
        nanoseconds of the bench's clock after the device has used a descriptor. Until then length,
        data and status are the old ones, and a driver that does not wait for DD is reported
        (`rx-before-dd`, `tx-before-dd`). Let time pass with `clock.run_for`; `guest`
        does where it waits for descriptors. Rules that compare the rings (found by *audit*) need
        write-backs that take no time.
        """
        from e1000emu.device.nic import Nic
        from e1000emu.links.capture import Capture

        known_words("Bench", ring_sizes, RING_SIZES)
        ram_bytes = whole_number("Bench", "ram_bytes", ram_bytes, 1, unit="bytes")
        writeback_ns = whole_number("Bench", "writeback_ns", writeback_ns, 0, unit="ns")
        self.clock = clock = VirtualClock()
        self.dma = DmaTable()
        slow = None
        if writeback_ns:
            watched = WatchedMemory(ram_bytes, base=RAM_BASE, poison=POISON)
            slow = SlowWriteBack(watched, self.dma, clock, writeback_ns)
            self.memory = watched
            ring_sizes.setdefault("step", lambda: clock.run_for(writeback_ns))
        else:
            self.memory = HostMemory(ram_bytes, base=RAM_BASE, poison=POISON)
            self.dma.add(self.memory.base, self.memory.buffer)
        self.line = RecordingLine(clock)
        self.link = RecordingLink() if link is None else link
        wire = self.link if capture is None else Capture(self.link, capture, clock=clock)
        self.nic = Nic(
            memory=self.dma,
            irq=self.line,
            link=wire,
            clock=clock,
            model=model,
            mac=mac,
            management=management,
            faults=faults,
            record=record,
        )
        if slow is not None:
            slow.stand_before(self.nic)
        enable_bus_master(self.nic)
        self.guest = GuestRings(self.nic.slot, self.memory, **ring_sizes)

    @classmethod
    def running(cls, **options: Any) -> Bench:
        """Return a bench whose driver has brought the device up and waited for the link."""
        bench = cls(**options)
        bench.guest.up(mac=options.get("mac", BENCH_MAC))
        bench.clock.run_for(LINK_UP_NS)
        bench.line.clear()
        return bench

    @classmethod
    def of(
        cls,
        nic: Nic,
        memory: HostMemory,
        dma: DmaTable,
        line: RecordingLine,
        link: RecordingLink,
        clock: VirtualClock,
        guest: GuestRings,
    ) -> Bench:
        """Return a bench of parts that are there."""
        bench = cls.__new__(cls)
        bench.nic, bench.memory, bench.dma, bench.line = nic, memory, dma, line
        bench.link, bench.clock, bench.guest = link, clock, guest
        return bench

    def close(self) -> None:
        """Halt the NIC; again does nothing."""
        self.nic.halt()


def make_bench(**options: Any) -> Bench:
    """Build a :class:`Bench`, which says what the `options` are."""
    return Bench(**options)


def enable_bus_master(nic: Nic) -> None:
    """Do the BIOS's part: an address for BAR0; memory space, I/O space and bus mastering on."""
    slot = nic.slot
    slot.config_write(0x10, 0xFEBC_0000, 4)
    slot.config_write(0x04, slot.config_read(0x04, 2) | 0x7, 2)
