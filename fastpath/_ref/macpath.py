"""Doorbell to interrupt in plain Python: the twin of ``fastpath.nic.macpath``.

`irq.sent` and `irq.received` take the arguments with which compiled ports call their IrqBlock.
"""

from __future__ import annotations

from typing import Any

from fastpath._ref.e1000_hw import CTRL_RFCE, CTRL_TFCE, FCRTH_RTH, FCRTL_RTL, TCTL_EN, Registers
from fastpath.nic.cable import shared
from fastpath.nic.macctrl import find_mac_control
from fastpath.nic.macpath import (
    TX_DISABLED,
    TX_NO_LINK,
    TX_NO_MASTER,
    TX_NO_RING,
    TX_RESTING,
    TX_STILL,
    TX_XOFF,
)
from fastpath.nic.rxring import RX_ABORT, RX_DATA_ABORT, RXSEQ
from fastpath.nic.txring import RUN_DELAYED, RUN_MORE

BATCH_FRAMES = 512
ROUNDS = 16
CREDIT_MAX, CREDIT_DOORBELL = 1 << 18, 1 << 13
CAUSES = 0x1FFFF
WATCH_WAKE, WATCH_MANAGEMENT, WATCH_MAGIC = 1, 2, 4
MIN_RING = 8


class MacState:
    """What the blocks of one Nic share."""

    in_engine = reset_pending = memory_on = halted = bottom_half = still = False


class BarWindow:
    """Aligned 32-bit accesses to BAR 0."""

    def _bind(self, regs: Any, mac: MacState) -> None:
        self._file, self._mac = regs, mac

    def _plain(self, bar: int, off: int, size: int) -> bool:
        return bar == 0 and size == 4 and self._mac.memory_on and off >= 0 and off % 4 == 0

    def bar_read(self, bar: int, off: int, size: int) -> int:
        """Read from a BAR."""
        if self._plain(bar, off, size):
            return int(self._file.read32(off))
        return int(self._slow_read(bar, off, size))  # type: ignore[attr-defined]

    def bar_write(self, bar: int, off: int, value: int, size: int) -> None:
        """Write to a BAR."""
        if self._plain(bar, off, size):
            self._file.write32(off, value & 0xFFFFFFFF)
        else:
            self._slow_write(bar, off, value, size)  # type: ignore[attr-defined]


def _span(first: int, end: int, n: int) -> int:
    return end - first if end >= first else n - first + end


class TxPort:
    """Doorbell, engine runs, hand-over to the link."""

    def __init__(self) -> None:
        self.open = self.paused = self.resting = False
        self._pumping = self._again = self.put_off = False
        self.credit = CREDIT_MAX
        self.loop: Any = None
        self._link: Any = None
        self.doorbells = self.batches = self._descs = 0

    def _bind(self, engine: Any, mac: MacState, irq: Any, finish_reset: Any) -> None:
        self.engine, self._mac, self._irq, self.finish_reset = engine, mac, irq, finish_reset
        self._regs = Registers(engine.regs)

    def _use(self, link: Any) -> None:
        """Send to `link` from now on."""
        self._link = link

    @property
    def stopped_by(self) -> int:
        """TX_* bits of all that keeps frames from being sent."""
        regs, count = self._regs, self._regs["TDLEN"] >> 4
        off = count < MIN_RING or regs["TDH"] >= count or regs["TDT"] > count
        return (
            TX_DISABLED * (not regs["TCTL"] & TCTL_EN)
            | TX_NO_MASTER * (not self.engine.dma.enabled)
            | TX_NO_RING * off
            | TX_NO_LINK * (not self.open)
            | TX_XOFF * self.paused
            | TX_STILL * self._mac.still
            | TX_RESTING * self.resting
        )

    def on_write(self, new: int) -> None:
        """TDT was written."""
        self.doorbells += 1
        self._regs["TDT"] = new
        self.credit = min(self.credit + CREDIT_DOORBELL, CREDIT_MAX)
        if new >= MIN_RING and new == self._regs["TDLEN"] >> 4:
            self._odd_tail()  # type: ignore[attr-defined]
        if self._mac.bottom_half and not self._pumping:
            self._later()  # type: ignore[attr-defined]
        else:
            self.pump()

    def pump(self) -> None:
        """Send what the ring holds, as far as the link takes it."""
        if self._mac.still:
            self.put_off = True
            return
        if self._pumping:
            self._again = True
            return
        if not self.open or self.paused:
            self._explain()  # type: ignore[attr-defined]
            self._fill()
            return
        if self.resting:
            self._fill()
            return
        self._pumping = True
        try:
            later = self._rounds()
        finally:
            self._pumping = False
        if later and self.credit <= 0:
            self._rest()  # type: ignore[attr-defined]
        elif later:
            self._later()  # type: ignore[attr-defined]

    def go_on(self) -> None:
        """The device runs again."""
        if self.put_off:
            self.put_off = False
            self.pump()

    def _fill(self) -> None:
        if flags := self.engine.fill():
            self._rare(flags)  # type: ignore[attr-defined]

    def room(self) -> int:
        """Frames that link or loopback take now."""
        return BATCH_FRAMES if self.loop else min(self._link.tx_room(), BATCH_FRAMES)

    def deliver(self, batch: Any) -> None:
        """Give frames to the link, or to the loopback."""
        frames = len(batch)
        if not frames:
            shared.put(batch)
            return
        self.batches += 1
        self.credit -= frames
        (self.loop or self._link.transmit)(batch)

    def _rounds(self) -> bool:
        for _ in range(1 if self._mac.bottom_half else ROUNDS):
            self._again = False
            room = self.room()
            if room <= 0:
                self._fill()
                return False
            batch = shared.get()
            self._mac.in_engine = True
            head, count = self.engine.head, self._regs["TDLEN"] >> 4
            flags = self.engine.run(batch, room)
            self._descs += _span(head, self.engine.head, count)
            self._mac.in_engine = False
            frames = len(batch)
            self.deliver(batch)
            if flags & ~(CAUSES | RUN_MORE | RUN_DELAYED):
                self._rare(flags)  # type: ignore[attr-defined]
            if flags & (CAUSES | RUN_DELAYED):
                delayed = bool(flags & RUN_DELAYED)
                self._irq.sent(flags & CAUSES, delayed, frames, self._descs, count)
                self._descs = 0
            if self._mac.reset_pending:
                self.finish_reset()
                return False
            if not (flags & RUN_MORE or self._again):
                return False
            if not self.open or self.paused or self._mac.still:
                self.put_off = self._mac.still
                return False
            if self.credit <= 0:
                return True
        return True


class RxPort:
    """Frames of a link to the engine, causes to the interrupt."""

    def __init__(self) -> None:
        self.open = self._held = self.xoff_sent = self.put_off = False
        self.watching = 0
        self.fifo_changed: Any = None
        self.doorbells = self.batches = self._frames = self._descs = 0
        self.stage: Any = None

    def _bind(self, engine: Any, mac: MacState, irq: Any, finish_reset: Any) -> None:
        self.engine, self._mac, self._irq, self.finish_reset = engine, mac, irq, finish_reset
        self._regs = Registers(engine.regs)

    def on_write(self, new: int) -> None:
        """RDT was written."""
        self.doorbells += 1
        count = self._regs["RDLEN"] >> 4
        if new and (new >= count or count < MIN_RING):
            self._odd_tail()  # type: ignore[attr-defined]
        self._regs["RDT"] = new
        if self.stage is not None:
            self._later()  # type: ignore[attr-defined]
            return
        if self._held or self.engine.fifo_frames or self.engine.wants():
            self.kick()

    def receive(self, batch: Any, start: int, hold: bool) -> int:
        """Take frames from the link."""
        if self._mac.still:
            if start >= len(batch) or self._mac.halted:
                return len(batch)
            self.put_off = True
            if hold:
                self._held = True
                return start
            master = self.engine.dma.enabled
            self.engine.dma.enabled = False
            try:
                return self._take(batch, start, False)
            finally:
                self.engine.dma.enabled = master
        return self._take(batch, start, hold)

    def _take(self, batch: Any, start: int, hold: bool) -> int:
        if not self.open:
            return len(batch)
        self.batches += 1
        if self.watching & WATCH_MANAGEMENT:
            return int(self._managed(batch, start, hold))  # type: ignore[attr-defined]
        if self.watching and self._asleep(batch, start):  # type: ignore[attr-defined]
            return len(batch)
        return self._pass_on(batch, start, hold)

    def _pass_on(self, batch: Any, start: int, hold: bool) -> int:
        regs = self._regs
        if regs["CTRL"] & CTRL_RFCE:
            first = find_mac_control(batch, start, regs["FCT"] & 0xFFFF)
            if first < len(batch):
                return int(self._with_control(batch, start, first, hold))  # type: ignore[attr-defined]
        self._mac.in_engine = True
        head = self.engine.head
        end = self.engine.receive(batch, start, hold)
        self._count_stored(end - start, head)
        self._mac.in_engine = False
        if end < len(batch):
            self._held = True
        self._report()
        return int(end)

    def _count_stored(self, frames: int, head: int) -> None:
        self._frames += frames
        self._descs += _span(head, self.engine.head, self._regs["RDLEN"] >> 4)

    def _report(self) -> None:
        causes = self.engine.take_causes()
        if self.stage is None:
            self.settle(causes)
        else:
            self.stage.after(causes)

    @property
    def pause_due(self) -> bool:
        """The FIFO has crossed the threshold at which the next PAUSE frame is sent."""
        regs = self._regs
        used, high = self.engine.fifo_used, regs["FCRTH"] & FCRTH_RTH
        crossed = used <= regs["FCRTL"] & FCRTL_RTL if self.xoff_sent else used > high
        return bool(regs["CTRL"] & CTRL_TFCE and high and crossed)

    def settle(self, causes: int) -> None:
        """Raise `causes`."""
        if causes & (RX_ABORT | RX_DATA_ABORT | RXSEQ):
            self._unusual(causes)  # type: ignore[attr-defined]
        if self.pause_due:
            self.fifo_changed()
        if causes & CAUSES:
            count = self._regs["RDLEN"] >> 4
            self._irq.received(causes & CAUSES, self._frames, self._descs, count)
            self._frames = self._descs = 0
        if self._mac.reset_pending:
            self.finish_reset()

    def kick(self) -> None:
        """Descriptors are free, or the receiver is on."""
        if self._mac.in_engine:
            return
        if self._mac.still:
            self.put_off = True
            return
        if self.engine.fifo_frames or self.engine.wants():
            self._mac.in_engine = True
            head, waiting = self.engine.head, self.engine.fifo_frames
            self.engine.kick()
            self._count_stored(waiting - self.engine.fifo_frames, head)
            self._mac.in_engine = False
            self._report()
        if self._held and self.engine.ready():
            self._release()  # type: ignore[attr-defined]

    def go_on(self) -> None:
        """The device runs again."""
        if self.put_off:
            self.put_off = False
            self.kick()
