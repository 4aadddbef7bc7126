"""Cards for the programs of programs.py: QEMU's three through its qtest socket, and our NIC."""

from __future__ import annotations

import time
from typing import Any

from e1000emu import Nic, VirtualClock
from e1000emu.clock import RealClock
from e1000emu.embed.qtest import RAM_BASE, QtestMachine
from e1000emu.testing import GuestRings, RecordingLine, RecordingLink, Reg
from fastpath.base.dma import DmaTable, HostMemory
from tests.e1000emu.links.ports import RecordingPort
from tests.qemu.programs import END, MAC, RECEIVED, SENT

DEVICES = {"82540EM": "e1000", "82545EM": "e1000-82545em", "82544GC": "e1000-82544gc"}
"""QEMU's names of the parts."""
AT_ONCE = ("-icount", "shift=0,sleep=off")
"""QEMU's timers expire at once: after each write to RCTL it holds frames back for a second."""
DEADLINE_S = 10.0
PIT_CONTROL, PIT_COUNTER = 0x43, 0x40
PIT_ONE_SHOT, PIT_READ_STATUS, PIT_OUT = 0x30, 0xE2, 0x80
"""Of the 8254 (Intel 231164): counter 0 in mode 0, two bytes; latch its status; its output."""
PIT_HELD = 358
"""300 µs at 1.193182 MHz."""
SECOND_NS = 1_000_000_000
RAM_BYTES = 16 << 20
CLEARED = (
    *(Reg.CTRL_EXT, Reg.RCTL, Reg.TCTL, Reg.RXCSUM, Reg.RDTR, Reg.RADV, Reg.TIDV, Reg.TADV),
    *(Reg.ITR, Reg.RXDCTL, Reg.TXDCTL),
)
"""What QEMU's reset leaves as it was, and a program may have written."""


class _Card:
    """What both do alike; the rest of `programs.Card` each has for itself."""

    rings: GuestRings

    def _quiet(self) -> None:
        """Begin alike: what a reset leaves as it was is written, counters are read."""
        r = self.rings
        r.write(Reg.PBA, 48)  # taken at the reset
        r.reset()
        r.link_up()
        for offset in CLEARED:
            r.write(offset, 0)
        for offset in (*SENT.values(), *RECEIVED.values()):
            r.read(offset)
        r.read(Reg.ICR)


class Ours(_Card):
    """Our NIC on a virtual clock, its memory where QEMU's has it."""

    def __init__(self, model: str) -> None:
        self.clock, self.line, self.link = VirtualClock(), RecordingLine(), RecordingLink()
        self.ram = HostMemory(RAM_BYTES, base=RAM_BASE)
        memory = DmaTable()
        memory.add(self.ram.base, self.ram.buffer)
        self.nic = Nic(
            model=model,
            memory=memory,
            irq=self.line,
            link=self.link,
            clock=self.clock,
            mac=MAC,
        )
        self.rings = GuestRings(
            self.nic.slot,
            self.ram,
            tx_count=64,
            rx_count=64,
            step=lambda: self.clock.run_for(1_000_000),
        )
        self.rings.pci_enable()

    def fresh(self) -> None:
        self._quiet()
        self.clock.run_for(5 * SECOND_NS)
        self.rings.read(Reg.ICR)
        self.link.take()

    def sent(self) -> tuple[bytes, ...]:
        self.clock.run_for(SECOND_NS // 100)
        frames = self.link.take()
        assert frames[-1] == END, frames
        return tuple(frames[:-1])

    def receive(self, *frames: bytes) -> None:
        self.link.inject(*frames, END)
        self.clock.run_for(SECOND_NS // 100)

    def level(self) -> bool:
        return self.line.level

    def close(self) -> None:
        self.nic.halt()


class Qemus(_Card):
    """QEMU's card."""

    def __init__(self, model: str) -> None:
        self.clock = RealClock()
        self.machine = QtestMachine(
            self.clock,
            device=DEVICES[model],
            mac=MAC,
            ram_bytes=RAM_BYTES,
            qemu_arguments=AT_ONCE,
        )
        self.ram = self.machine.ram
        self.line = RecordingLine()
        self.machine.connect_irq(self.line)
        with self.clock.lock:
            self.port = RecordingPort(self.machine.link)
        self.machine.slot.enable()
        self.rings = GuestRings(self.machine.slot, self.ram, tx_count=64, rx_count=64)
        self.rings.pci_enable()

    def _until(self, done: Any) -> bool:
        with self.clock.lock:
            return bool(self.clock.wait(done, 10 * SECOND_NS))

    def fresh(self) -> None:
        self._quiet()
        self.port.frames.clear()

    def sent(self) -> tuple[bytes, ...]:
        frames = self.port.frames
        assert self._until(lambda: frames and frames[-1] == END), frames
        self.port.frames = []
        return tuple(frames[:-1])

    def receive(self, *frames: bytes) -> None:
        r = self.rings
        with self.clock.lock:
            self.port.send(*frames, END)

        def ended() -> bool:
            head = r.read(Reg.RDH)
            entry = r.rx_descriptor((head - 1) % r.rx.count)
            return bool(entry.status & 1 and self.ram.read(entry.addr, 40) == END[:40])

        for _ in range(10_000):
            if ended():
                return
            with self.clock.lock:
                self.clock.wait(lambda: False, 200_000)
        raise AssertionError("the last frame did not come")

    def level(self) -> bool:
        """For 128 µs after an interrupt QEMU holds the next one back. Its clock goes from timer to
        timer when its processor's thread gets its turn. So a timer of the PC's own that is due
        later shows that the interrupt has come if it was to come."""
        q = self.machine.qtest
        q.poll()
        if not self.line.level:
            q.port_out(PIT_CONTROL, PIT_ONE_SHOT, 1)
            for count in PIT_HELD.to_bytes(2, "little"):
                q.port_out(PIT_COUNTER, count, 1)
            late = time.monotonic() + DEADLINE_S
            while not self.line.level and not self._pit_out():
                assert time.monotonic() < late, "QEMU's clock stands still"
        return self.line.level

    def _pit_out(self) -> bool:
        q = self.machine.qtest
        q.port_out(PIT_CONTROL, PIT_READ_STATUS, 1)
        return bool(q.port_in(PIT_COUNTER, 1) & PIT_OUT)

    def close(self) -> None:
        self.machine.close()
        self.clock.close()
