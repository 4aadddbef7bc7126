"""Flow control (IEEE 802.3 annex 31B, SDM 8.7): PAUSE frames out by FIFO level, in by CTRL.RFCE.

Out: with CTRL.TFCE, an XOFF is sent when the receive FIFO rises over FCRTH and an XON when it falls
under FCRTL (with FCRTL.XONE).  In: with CTRL.RFCE, a received PAUSE stops the transmitter.  A MAC
control frame then passes the address filters as any other does, with two exceptions (SDM 8.7.4):
RCTL.DPF keeps a PAUSE to the station from the host, and RCTL.PMCF gives the host every other one
that is addressed to the station or to the flow control address.  Without RFCE these exceptions do
not apply.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from e1000emu.regs import reg

if TYPE_CHECKING:
    from e1000emu.nic import Nic

__all__ = ["FlowControl", "Verdict"]

FCRTL, FCRTH, FCTTV = reg("FCRTL"), reg("FCRTH"), reg("FCTTV")
FCAL, FCAH, FCT = (reg(name).offset for name in ("FCAL", "FCAH", "FCT"))
RTL, XONE, RTH = FCRTL.mask("RTL"), FCRTL.mask("XONE"), FCRTH.mask("RTH")
CTRL = reg("CTRL")
CTRL_TFCE, CTRL_RFCE = CTRL.mask("TFCE"), CTRL.mask("RFCE")
RCTL = reg("RCTL")
RCTL_PMCF, RCTL_DPF = RCTL.mask("PMCF"), RCTL.mask("DPF")
PAUSE_OPCODE = 0x0001
QUANTUM_BITS = 512
MIN_FRAME, FCS_BYTES = 60, 4


class Verdict(Enum):
    """What becomes of a received MAC control frame."""

    FILTER = "the address filters decide"
    PASS = "the host gets it whatever the filters say"
    DROP = "the host does not get it"


class FlowControl:
    """PAUSE both ways."""

    def __init__(self, nic: Nic) -> None:
        self._nic = nic
        self._regs = nic.regs
        self.put_off = False
        """SWXOFF was written while the device was paused."""

    @property
    def xoff_sent(self) -> bool:
        """The far end was told to stop and not yet to go on."""
        return self._nic.rx.xoff_sent

    @xoff_sent.setter
    def xoff_sent(self, value: bool) -> None:
        self._nic.rx.xoff_sent = value

    def update(self) -> None:
        """React to a change of CTRL, FCRTL or FCRTH."""
        nic, peek = self._nic, self._regs.peek
        ctrl = peek(CTRL.offset)
        if ctrl & CTRL_TFCE and peek(FCRTH.offset) & RTH:
            self.fifo_changed()  # the FIFO may already be over the new threshold
        if not ctrl & CTRL_RFCE and nic.tx.paused:
            nic.tx.pause(0)

    def fifo_changed(self) -> None:
        """Compare the receive FIFO with the thresholds; send XOFF or XON on a crossing."""
        if self._nic.shared.still:
            return  # `go_on` looks
        used, peek = self._nic.rx.engine.fifo_used, self._regs.peek
        if not self.xoff_sent and used > peek(FCRTH.offset) & RTH:
            self.xoff_sent = True
            self.send_xoff()
        elif self.xoff_sent and used <= peek(FCRTL.offset) & RTL:
            self.xoff_sent = False
            if peek(FCRTL.offset) & XONE:
                self._send(0)
                self._nic.stats.add("XONTXC")

    def send_xoff(self) -> None:
        """Send one PAUSE frame with the time in FCTTV."""
        if self._nic.shared.still:
            self.put_off = True
            return
        self._send(self._regs.peek(FCTTV.offset) & 0xFFFF)
        self._nic.stats.add("XOFFTXC")

    def go_on(self) -> None:
        """Do what was asked for during a pause of the device."""
        if self.put_off:
            self.put_off = False
            self.send_xoff()
        self.update()

    def _send(self, quanta: int) -> None:
        nic, peek = self._nic, self._regs.peek
        if not nic.tx.open or nic.tx.loop is not None:
            return
        frame = (
            peek(FCAL).to_bytes(4, "little")
            + (peek(FCAH) & 0xFFFF).to_bytes(2, "little")
            + nic.filters.mac(0)
            + (peek(FCT) & 0xFFFF).to_bytes(2, "big")
            + PAUSE_OPCODE.to_bytes(2, "big")
            + quanta.to_bytes(2, "big")
        )
        nic.tx.send_frame(frame.ljust(MIN_FRAME, b"\0"), flow_control=True)

    def control_frame(self, frame: bytes) -> Verdict:
        """Obey a frame of type FCT, CTRL.RFCE being set; return whether the host is to see it."""
        nic, peek = self._nic, self._regs.peek
        rctl = peek(RCTL.offset)
        multicast = peek(FCAL).to_bytes(4, "little") + (peek(FCAH) & 0xFFFF).to_bytes(2, "little")
        station = nic.filters.mac(0)
        if frame[:6] not in (multicast, station):
            return Verdict.FILTER
        if int.from_bytes(frame[14:16], "big") != PAUSE_OPCODE or len(frame) < 18:
            nic.stats.add("FCRUC")
            return Verdict.PASS if rctl & RCTL_PMCF else Verdict.FILTER
        self._pause(int.from_bytes(frame[16:18], "big"))
        if rctl & RCTL_DPF and frame[:6] == station:
            nic.stats.add("TPR")
            nic.stats.add("TOR", max(len(frame), MIN_FRAME) + FCS_BYTES)
            return Verdict.DROP
        return Verdict.FILTER

    def _pause(self, quanta: int) -> None:
        """Stop for `quanta` of 512 bit times; 0 ends a pause."""
        nic = self._nic
        nic.stats.add("XOFFRXC" if quanta else "XONRXC")
        if quanta:
            ns = quanta * QUANTUM_BITS * 1000 // nic.link_speed_mbps
            nic.tx.pause(nic.clock.now_ns() + ns)
        elif nic.tx.paused:
            nic.tx.pause(0)

    def reset(self) -> None:
        """CTRL.RST: nothing is paused, nothing was sent."""
        self.xoff_sent = self.put_off = False
        self.update()
