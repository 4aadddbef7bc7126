"""Interrupt causes, masks and moderation (SDM 3.2.7, 3.4.3, 13.4.17-13.4.21).

One function, `_update` of the compiled base, decides the level of the line; every cause, mask write
and read goes through it.  ITR keeps two assertions apart (256 ns units); RDTR/RADV delay RXT0 and
TIDV/TADV delay TXDW (1.024 us units), all by the clock.  Timers are lazy: a deadline that moves
costs an attribute, and the pending clock event looks at it when it fires.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from e1000emu.ports import Clock, InterruptLine, TimerHandle
from e1000emu.regs import reg
from fastpath.macpath import REG_ICR, REG_ICS, REG_IMC, REG_IMS, IrqCause

if TYPE_CHECKING:
    from e1000emu.nic import Nic

__all__ = ["DelayTimers", "Interrupts"]

ICR, IMS, ITR = reg("ICR").offset, reg("IMS").offset, reg("ITR").offset
RDTR, RADV = reg("RDTR").offset, reg("RADV").offset
TIDV, TADV = reg("TIDV").offset, reg("TADV").offset
FPD = reg("RDTR").mask("FPD")
TXDW, RXT0 = reg("ICR").mask("TXDW"), reg("ICR").mask("RXT0")

ITR_UNIT_NS = 256
DELAY_UNIT_NS = 1024
NEVER_NS = -(1 << 40)
"""The last assertion, when there was none."""


class DelayTimers:
    """A packet timer that every event restarts and an absolute one that none does."""

    __slots__ = (
        "_absolute_ns",
        "_clock",
        "_expired",
        "_handle",
        "_packet_ns",
        "_wake_ns",
        "pending",
    )

    def __init__(self, clock: Clock, expired: Callable[[], None]) -> None:
        self._clock = clock
        self._expired = expired
        self._packet_ns = -1
        self._absolute_ns = -1
        self._wake_ns = -1
        self._handle: TimerHandle | None = None
        self.pending = False
        """A timer is running."""

    def start(self, packet_units: int, absolute_units: int) -> None:
        """Restart the packet timer; start the absolute one when it is idle and not 0."""
        now = self._clock.now_ns()
        self._packet_ns = now + packet_units * DELAY_UNIT_NS
        self.pending = True
        if absolute_units and self._absolute_ns < 0:
            self._absolute_ns = now + absolute_units * DELAY_UNIT_NS
        self._arm()

    def _due_ns(self) -> int:
        if 0 <= self._absolute_ns < self._packet_ns:
            return self._absolute_ns
        return self._packet_ns

    def _arm(self) -> None:
        due = self._due_ns()
        if self._handle is not None:
            if self._wake_ns <= due:
                return
            self._handle.cancel()
        self._wake_ns = due
        self._handle = self._clock.call_at(due, self._fire)

    def _fire(self) -> None:
        self._handle = None
        if not self.pending:
            return
        if self._clock.now_ns() < self._due_ns():
            self._arm()
            return
        self.stop()
        self._expired()

    def stop(self) -> None:
        """Stop both timers.  A pending clock event stays and does nothing."""
        self._packet_ns = self._absolute_ns = -1
        self.pending = False

    def flush(self) -> None:
        """Expire now, when running (RDTR.FPD, TIDV.FPD)."""
        if self.pending:
            self.stop()
            self._expired()

    def close(self) -> None:
        """Stop, and take the clock event back."""
        self.stop()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def state(self) -> list[int]:
        """Return the two deadlines (ns; -1 = idle)."""
        return [self._packet_ns, self._absolute_ns]

    def load(self, state: list[int]) -> None:
        """Take back what `state` returned."""
        self.close()
        self._packet_ns, self._absolute_ns = state
        self.pending = self._packet_ns >= 0
        if self.pending:
            self._arm()


class Interrupts(IrqCause):
    """ICR, ICS, IMS, IMC, ITR and the delay timers; drives the interrupt line.

    The compiled base holds causes, masks and the level (`cause`, `_update`, `_drive`) and serves
    ICR, ICS, IMS and IMC itself; the hooks below are the same by their Python names.
    """

    def __init__(self, nic: Nic, line: InterruptLine) -> None:
        regs = nic.regs.file
        self._bind(regs, ICR, IMS)
        self._nic = nic
        self._regs = regs
        self._clock = nic.clock
        self._line = self._intx = line
        self._last_ns = NEVER_NS
        self.rx_delay = DelayTimers(nic.clock, self._rx_expired)
        self.tx_delay = DelayTimers(nic.clock, self._tx_expired)
        self._radv = self._tidv = self._tadv = 0

    def attach(self) -> None:
        """Serve the registers without Python in between; they are defined by now."""
        for name, which in (("ICR", REG_ICR), ("ICS", REG_ICS), ("IMS", REG_IMS), ("IMC", REG_IMC)):
            self._regs.attach(reg(name).offset // 4, self, which)

    def _throttle(self, due_ns: int) -> None:
        """A cause waits until ITR lets the line rise again."""
        self._timer = self._clock.call_at(due_ns, self._throttled)

    def _throttled(self) -> None:
        self._timer = None
        self._update()

    def set_disabled(self, disabled: bool) -> None:
        """PCI command bit 10 or the power state has changed: the line stays low meanwhile."""
        if disabled != self.disabled:
            self.disabled = disabled
            self._drive()

    def set_messages(self, line: InterruptLine | None) -> None:
        """Drive `line` (MSI) from now on instead of INTA#; None: INTA# again.

        In a device with threads the line is an eventfd either way, and its holder chooses.
        """
        wanted = line or self._intx
        if wanted is self._line or self.beside:
            return
        high = self.asserted and not self.disabled
        if high:
            self._line.set_level(False)
        self._line = wanted
        if high:
            wanted.set_level(True)

    # --- registers -------------------------------------------------------------------------------

    def read_icr(self, value: int) -> int:
        """Return all causes and clear them (SDM 13.4.17)."""
        self._regs.poke(ICR, 0)
        if self.asserted:
            self._update()
        return value

    def write_icr(self, old: int, new: int) -> None:
        """Causes written 1 are cleared already; let the line follow."""
        self._update()

    def write_ics(self, old: int, new: int) -> None:
        """Set causes, the reserved ones among them (ethtool -t sets bits 5 and 8)."""
        self.cause(new)

    def write_ims(self, old: int, new: int) -> None:
        """Unmask; a cause that waits interrupts now."""
        self.masks = old | new
        self._regs.poke(IMS, self.masks)
        if not self.asserted:
            self._update()

    def write_imc(self, old: int, new: int) -> None:
        """Mask; the line falls when nothing is left."""
        self.masks = self._regs.clear_bits(IMS, new)
        if self.asserted:
            self._update()

    def write_itr(self, old: int, new: int) -> None:
        """Change the throttling interval; it counts from the last assertion (SDM 13.4.18)."""
        self._interval_ns = (new & 0xFFFF) * ITR_UNIT_NS
        if self.beside:
            self._update()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._update()

    def write_rdtr(self, old: int, new: int) -> None:
        """Set the receive delay; FPD expires the running timer now (SDM 13.4.30)."""
        self._rdtr = new & 0xFFFF
        if new & FPD:
            self.rx_delay.flush()
            if self.beside:
                self._flush(RXT0)

    def write_radv(self, old: int, new: int) -> None:
        """Set the absolute receive delay."""
        self._radv = new & 0xFFFF

    def write_tidv(self, old: int, new: int) -> None:
        """Set the transmit delay; FPD expires the running timer now (SDM 13.4.41)."""
        self._tidv = new & 0xFFFF
        if new & FPD:
            self.tx_delay.flush()
            if self.beside:
                self._flush(TXDW)

    def write_tadv(self, old: int, new: int) -> None:
        """Set the absolute transmit delay."""
        self._tadv = new & 0xFFFF

    # --- moderated causes ------------------------------------------------------------------------

    def _delay_rx(self) -> None:
        """Frames were stored and RDTR is set (SDM 3.2.7.1)."""
        self.rx_delay.start(self._rdtr, self._radv)

    def transmitted_delayed(self) -> None:
        """A descriptor with RS and IDE was written back (SDM 3.4.3.1)."""
        if self._tidv:
            self.tx_delayed = True
            self.tx_delay.start(self._tidv, self._tadv)
        else:
            self.cause(TXDW)

    def _stop_tx_delay(self) -> None:
        """TXDW was raised: a running delay is pointless."""
        self.tx_delay.stop()
        self.tx_delayed = False

    def _rx_expired(self) -> None:
        self.cause(RXT0)

    def _tx_expired(self) -> None:
        self.tx_delayed = False
        self.cause(TXDW)

    # --- reset, snapshot -------------------------------------------------------------------------

    def reset(self) -> None:
        """CTRL.RST and above: no cause, no mask, no timer, line low (the registers are reset)."""
        self.rx_delay.close()
        self.tx_delay.close()
        self.tx_delayed = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.beside:
            self._set_deadlines(0, 0, 0, 0)
        self._interval_ns = self.masks = 0
        self._last_ns = NEVER_NS
        self._rdtr = self._radv = self._tidv = self._tadv = 0
        self.asserted = False
        self._drive()

    def state(self) -> dict[str, Any]:
        """Return what a snapshot needs beyond the registers."""
        delays = self.rx_delay.state() + self.tx_delay.state()
        if self.beside:
            delays = [at or -1 for at in self._deadlines()]
        return {
            "asserted": self.asserted,
            "assertions": self.assertions,
            "disabled": self.disabled,
            "last_ns": self._last_ns,
            "throttled": self._timer is not None,
            "rx": delays[:2],
            "tx": delays[2:],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned; the registers are loaded already."""
        self.reset()
        peek = self._regs.peek
        self.masks = peek(IMS)
        self._interval_ns = (peek(ITR) & 0xFFFF) * ITR_UNIT_NS
        self._rdtr, self._radv = peek(RDTR) & 0xFFFF, peek(RADV) & 0xFFFF
        self._tidv, self._tadv = peek(TIDV) & 0xFFFF, peek(TADV) & 0xFFFF
        self._last_ns = int(state["last_ns"])
        self.assertions = int(state["assertions"])
        self.disabled = bool(state["disabled"])
        if self.beside:
            rx, rx_abs, tx, tx_abs = (max(0, at) for at in (*state["rx"], *state["tx"]))
            self._set_deadlines(rx, rx_abs, tx, tx_abs)
        else:
            self.rx_delay.load(state["rx"])
            self.tx_delay.load(state["tx"])
            self.tx_delayed = self.tx_delay.pending
        self.asserted = bool(state["asserted"])
        if self.beside:
            self._update()
        elif state["throttled"]:
            due = self._last_ns + self._interval_ns
            self._timer = self._clock.call_at(due, self._throttled)
        self._drive()
