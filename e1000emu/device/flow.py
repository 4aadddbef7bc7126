"""Flow control (IEEE 802.3 annex 31B, SDM 8.7): PAUSE frames out by FIFO level, in by CTRL.RFCE.

Out: with CTRL.TFCE, an XOFF is sent when the receive FIFO rises over FCRTH and an XON when it falls
under FCRTL (with FCRTL.XONE).  In: with CTRL.RFCE, a received PAUSE stops the transmitter.  A MAC
control frame then passes the address filters like any other, with two exceptions (SDM 8.7.4).
RCTL.DPF keeps a PAUSE to the station from the host. RCTL.PMCF gives the host every other one that
is addressed to the station or to the flow control address.  Without RFCE these exceptions do not
apply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from e1000emu.device.mac import Verdict
from e1000emu.device.state import BlockState
from e1000emu.device.tx import FCS_BYTES, MIN_FRAME
from e1000emu.registers.regs import reg

if TYPE_CHECKING:
    from e1000emu.device.filters import Filters
    from e1000emu.device.linkunit import LinkUnit
    from e1000emu.device.regview import Registers
    from e1000emu.device.rx import Rx
    from e1000emu.device.tx import Tx
    from e1000emu.ports import Clock
    from fastpath.nic.macpath import MacState
    from fastpath.nic.regfile import Stats

FCRTL, FCTTV = reg("FCRTL"), reg("FCTTV")
FCAL, FCAH, FCT = (reg(name).offset for name in ("FCAL", "FCAH", "FCT"))
XONE = FCRTL.mask("XONE")
CTRL = reg("CTRL")
CTRL_RFCE = CTRL.mask("RFCE")
RCTL = reg("RCTL")
RCTL_PMCF, RCTL_DPF = RCTL.mask("PMCF"), RCTL.mask("DPF")
PAUSE_OPCODE = 0x0001
QUANTUM_BITS = 512


class FlowState(BlockState):
    """What was sent, and what is still to be sent."""

    xoff_sent: bool = False
    put_off: bool = False
    """SWXOFF was written while the device was paused."""


class FlowControl:
    """PAUSE both ways."""

    def __init__(
        self,
        *,
        regs: Registers,
        stats: Stats,
        filters: Filters,
        shared: MacState,
        clock: Clock,
        tx: Tx,
        rx: Rx,
        link_unit: LinkUnit,
    ) -> None:
        self._regs, self._stats, self._filters = regs, stats, filters
        self._shared, self._clock = shared, clock
        self._tx, self._rx, self._link_unit = tx, rx, link_unit
        self.put_off = False
        """SWXOFF was written while the device was paused."""

    @property
    def xoff_sent(self) -> bool:
        """XOFF was sent to the far end, and no XON yet."""
        return self._rx.xoff_sent

    @xoff_sent.setter
    def xoff_sent(self, value: bool) -> None:
        self._rx.xoff_sent = value

    def update(self) -> None:
        """React to a change of CTRL, FCRTL or FCRTH."""
        self.fifo_changed()  # the FIFO may already be over the new threshold
        tx = self._tx
        if tx.paused and not self._regs.peek(CTRL.offset) & CTRL_RFCE:
            tx.pause(0)

    def fifo_changed(self) -> None:
        """Send XOFF or XON if the receive FIFO has crossed a threshold (`RxPort.pause_due`)."""
        if self._shared.still or not self._rx.pause_due:
            return  # after a pause of the device `go_on` looks
        self.xoff_sent = not self.xoff_sent
        if self.xoff_sent:
            self.send_xoff()
        elif self._regs.peek(FCRTL.offset) & XONE:
            self._send(0)
            self._stats.add("XONTXC")

    def send_xoff(self) -> None:
        """Send one PAUSE frame with the time in FCTTV."""
        if self._shared.still:
            self.put_off = True
            return
        self._send(self._regs.peek(FCTTV.offset) & 0xFFFF)
        self._stats.add("XOFFTXC")

    def go_on(self) -> None:
        """Process requests made during a pause of the device."""
        if self.put_off:
            self.put_off = False
            self.send_xoff()
        self.update()

    def _send(self, quanta: int) -> None:
        tx, peek = self._tx, self._regs.peek
        if not tx.open or tx.loop is not None:
            return
        frame = (
            peek(FCAL).to_bytes(4, "little")
            + (peek(FCAH) & 0xFFFF).to_bytes(2, "little")
            + self._filters.mac(0)
            + (peek(FCT) & 0xFFFF).to_bytes(2, "big")
            + PAUSE_OPCODE.to_bytes(2, "big")
            + quanta.to_bytes(2, "big")
        )
        tx.send_frame(frame.ljust(MIN_FRAME, b"\0"), flow_control=True)

    def control_frame(self, frame: bytes) -> Verdict:
        """Process a frame of type FCT while CTRL.RFCE is set; return whether the host gets it."""
        peek = self._regs.peek
        rctl = peek(RCTL.offset)
        multicast = peek(FCAL).to_bytes(4, "little") + (peek(FCAH) & 0xFFFF).to_bytes(2, "little")
        station = self._filters.mac(0)
        if frame[:6] not in (multicast, station):
            return Verdict.FILTER
        if int.from_bytes(frame[14:16], "big") != PAUSE_OPCODE or len(frame) < 18:
            self._stats.add("FCRUC")
            return Verdict.PASS if rctl & RCTL_PMCF else Verdict.FILTER
        self._pause(int.from_bytes(frame[16:18], "big"))
        if rctl & RCTL_DPF and frame[:6] == station:
            self._stats.add("TPR")
            self._stats.add("TOR", max(len(frame), MIN_FRAME) + FCS_BYTES)
            return Verdict.DROP
        return Verdict.FILTER

    def _pause(self, quanta: int) -> None:
        """Stop for `quanta` of 512 bit times; 0 ends a pause."""
        tx = self._tx
        self._stats.add("XOFFRXC" if quanta else "XONRXC")
        if quanta:
            ns = quanta * QUANTUM_BITS * 1000 // self._link_unit.speed_mbps
            tx.pause(self._clock.now_ns() + ns)
        elif tx.paused:
            tx.pause(0)

    def state(self) -> FlowState:
        """Return what a snapshot needs."""
        return FlowState(xoff_sent=self.xoff_sent, put_off=self.put_off)

    def load(self, state: FlowState) -> None:
        """Take back what `state` returned; registers and FIFO are loaded already."""
        self.xoff_sent, self.put_off = state.xoff_sent, state.put_off
        self.update()

    def reset(self) -> None:
        """CTRL.RST: nothing is paused, nothing was sent."""
        self.xoff_sent = self.put_off = False
        self.update()
