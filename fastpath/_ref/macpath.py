"""Doorbell to interrupt in plain Python: the twin of ``fastpath.macpath``."""

from __future__ import annotations

from typing import Any

from fastpath.cable import shared
from fastpath.macctrl import find_mac_control
from fastpath.rxring import RX_ABORT, RX_DATA_ABORT, RXT0
from fastpath.txring import RUN_MORE, TXDW

REG_ICR, REG_ICS, REG_IMS, REG_IMC, REG_TDT, REG_RDT = range(6)
BATCH_FRAMES = 512
ROUNDS = 16
CREDIT_MAX, CREDIT_DOORBELL = 1 << 18, 1 << 13
CAUSES = 0x1FFFF
MIN_RING = 8


class MacState:
    """What the blocks of one Nic share."""

    in_engine = reset_pending = memory_on = False


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


class IrqCause:
    """ICR, IMS and the level of the interrupt line."""

    def __init__(self) -> None:
        self._line: Any = None
        self._clock: Any = None
        self._timer: Any = None
        self.asserted = self.disabled = self._out = self.tx_delayed = False
        self.assertions = self._interval_ns = self._last_ns = self._rdtr = self.masks = 0

    def _bind(self, regs: Any, icr: int, ims: int) -> None:
        self._file, self._icr, self._ims = regs, icr, ims

    @property
    def causes(self) -> int:
        """ICR."""
        return int(self._file.peek(self._icr))

    def cause(self, bits: int) -> None:
        """Set causes."""
        self._file.set_bits(self._icr, bits)
        if not self.asserted:
            self._update()

    def _update(self) -> None:
        want = bool(self.causes & self.masks)
        if want and not self.asserted:
            if self._interval_ns:
                now = self._clock.now_ns()
                due = self._last_ns + self._interval_ns
                if now < due:
                    if self._timer is None:
                        self._throttle(due)  # type: ignore[attr-defined]
                    return
                self._last_ns = now
            self.asserted = True
            self.assertions += 1
            self._drive()
        elif self.asserted and not want:
            self.asserted = False
            self._drive()

    def _drive(self) -> None:
        out = self.asserted and not self.disabled
        if out != self._out:
            self._out = out
            self._line.set_level(out)

    def received(self, bits: int) -> None:
        """Frames were stored."""
        if self._rdtr and bits & RXT0:
            bits &= ~RXT0
            self._delay_rx()  # type: ignore[attr-defined]
        if bits:
            self.cause(bits)

    def transmitted(self, bits: int) -> None:
        """Raise transmit causes."""
        if bits & TXDW and self.tx_delayed:
            self._stop_tx_delay()  # type: ignore[attr-defined]
        self.cause(bits)

    def on_read(self, which: int, value: int) -> int:
        """ICR is read: clear it."""
        self._file.poke(self._icr, 0)
        if self.asserted:
            self._update()
        return value

    def on_write(self, which: int, old: int, new: int) -> None:
        """IMS, IMC, ICS or ICR was written."""
        if which == REG_IMS:
            self.masks = old | new
            self._file.poke(self._ims, self.masks)
        elif which == REG_IMC:
            self.masks = self._file.clear_bits(self._ims, new)
            if not self.asserted:
                return  # a mask raises nothing
        elif which == REG_ICS:
            self._file.set_bits(self._icr, new)
        self._update()


class TxPort:
    """Doorbell, engine runs, hand-over to the link."""

    def __init__(self) -> None:
        self.open = self.deferred = self.resting = self._pumping = self._again = False
        self.credit = CREDIT_MAX
        self.loop: Any = None
        self._link: Any = None
        self._paused_until_ns = self.doorbells = self.batches = 0

    def _bind(self, nic: Any, engine: Any, mac: MacState, irq: Any) -> None:
        self._nic, self.engine, self._mac, self._irq = nic, engine, mac, irq

    def _use(self, link: Any) -> None:
        """Send to `link` from now on."""
        self._link = link

    def on_write(self, which: int, old: int, new: int) -> None:
        """TDT was written."""
        self.doorbells += 1
        self.engine.tail = new
        self.credit = min(self.credit + CREDIT_DOORBELL, CREDIT_MAX)
        if self.deferred and not self._pumping:
            self._later()  # type: ignore[attr-defined]
        else:
            self.pump()

    def pump(self) -> None:
        """Send what the ring holds, as far as the link takes it."""
        if self._pumping:
            self._again = True
            return
        if not self.open or self._paused_until_ns:
            self._explain()  # type: ignore[attr-defined]
            return
        if self.resting:
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

    def _rounds(self) -> bool:
        for _ in range(1 if self.deferred else ROUNDS):
            self._again = False
            send = self.loop or self._link.transmit
            room = BATCH_FRAMES if self.loop else min(self._link.tx_room(), BATCH_FRAMES)
            if room <= 0:
                return False
            batch = shared.get()
            self._mac.in_engine = True
            flags = self.engine.run(batch, room)
            self._mac.in_engine = False
            if batch:
                self.batches += 1
                self.credit -= len(batch)
                send(batch)
            else:
                shared.put(batch)
            if flags & ~(CAUSES | RUN_MORE):
                self._rare(flags)  # type: ignore[attr-defined]
            if flags & CAUSES:
                self._irq.transmitted(flags & CAUSES)
            if self._mac.reset_pending:
                self._nic.finish_reset()
                return False
            if not (flags & RUN_MORE or self._again) or not self.open or self._paused_until_ns:
                return False
            if self.credit <= 0:
                return True
        return True


class RxPort:
    """Frames of a link to the engine, causes to the interrupt."""

    def __init__(self) -> None:
        self.open = self.deferred = self._held = self.xoff_sent = False
        self._watch_fifo = self._watch_control = self._watch_wake = False
        self._control_type = self.doorbells = self.batches = 0

    def _bind(self, nic: Any, engine: Any, mac: MacState, irq: Any) -> None:
        self._nic, self.engine, self._mac, self._irq = nic, engine, mac, irq

    def on_write(self, which: int, old: int, new: int) -> None:
        """RDT was written."""
        self.doorbells += 1
        self.engine.tail = new
        count = self.engine.len >> 4
        if new and (new > count or count < MIN_RING):
            self._odd_tail()  # type: ignore[attr-defined]
        if self._held or self.engine.fifo_frames:
            self.kick()

    def receive(self, batch: Any, start: int, hold: bool) -> int:
        """Take frames from the link."""
        if not self.open:
            return len(batch)
        self.batches += 1
        if self._watch_wake and self._asleep(batch, start):  # type: ignore[attr-defined]
            return len(batch)
        if self._watch_control:
            first = find_mac_control(batch, start, self._control_type)
            if first < len(batch):
                return int(self._with_control(batch, start, first, hold))  # type: ignore[attr-defined]
        self._mac.in_engine = True
        end = self.engine.receive(batch, start, hold)
        self._mac.in_engine = False
        if end < len(batch):
            self._held = True
        self._after(self.engine.take_causes())
        return int(end)

    def _after(self, causes: int) -> None:
        if causes & (RX_ABORT | RX_DATA_ABORT):
            self._unusual(causes)  # type: ignore[attr-defined]
        if self._watch_fifo and (self.xoff_sent or self.engine.fifo_frames):
            self._nic.flow.fifo_changed()
        if causes & CAUSES:
            self._irq.received(causes & CAUSES)
        if self._mac.reset_pending:
            self._nic.finish_reset()

    def kick(self) -> None:
        """Descriptors are free, or the receiver is on."""
        if self._mac.in_engine:
            return
        if self.engine.fifo_frames:
            self._mac.in_engine = True
            self.engine.kick()
            self._mac.in_engine = False
            self._after(self.engine.take_causes())
        if self._held and self.engine.ready():
            self._release()  # type: ignore[attr-defined]
