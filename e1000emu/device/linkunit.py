"""The link unit: STATUS, speed and duplex, where frames go, and the PHY or the optics behind it.

`LinkUnit` owns the board's PHY (`Phy`), or on a fibre board the ten-bit interface (`Tbi`), and
tells it the state of the cable.  Its output is STATUS (SDM 13.4.2), whether frames may be sent
(`TxPort.open`) and received (`RxPort.open`), or whether they come back (loopback).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from e1000emu.device.halfduplex import HalfDuplex
from e1000emu.device.phy import AUTONEG_NS, LinkState, Phy, PhyState
from e1000emu.device.tbi import Tbi, TbiState
from e1000emu.registers.regs import LINK_MODE_TBI, reg

if TYPE_CHECKING:
    from e1000emu.device.interrupts import Interrupts
    from e1000emu.device.pins import Pins
    from e1000emu.device.regview import Registers
    from e1000emu.device.rx import Rx
    from e1000emu.device.tx import Tx
    from e1000emu.insight.misuse import Misuse
    from e1000emu.links.caps import LinkCaps
    from e1000emu.ports import Clock, Link, LinkPort
    from e1000emu.registers.models import Model
    from fastpath.nic.regfile import Stats

CTRL, STATUS, CTRL_EXT = reg("CTRL"), reg("STATUS"), reg("CTRL_EXT")
CTRL_FD, CTRL_SLU, CTRL_SPEED = CTRL.mask("FD"), CTRL.mask("SLU"), CTRL.field("SPEED")
CTRL_FRCSPD, CTRL_FRCDPLX = CTRL.mask("FRCSPD"), CTRL.mask("FRCDPLX")
CTRL_PHY_RST = CTRL.mask("PHY_RST")
CTRL_RFCE, CTRL_TFCE = CTRL.mask("RFCE"), CTRL.mask("TFCE")
STATUS_FD, STATUS_LU, TBIMODE = STATUS.mask("FD"), STATUS.mask("LU"), STATUS.mask("TBIMODE")
SPEED, ASDV = STATUS.field("SPEED"), STATUS.field("ASDV")
COMPUTED = STATUS_LU | STATUS_FD | TBIMODE | SPEED.mask
"""The bits of STATUS that follow from the PHY and CTRL."""
EXT_SPD_BYPS = CTRL_EXT.mask("SPD_BYPS")
EXT_PHYINT_EN, EXT_PHYINT = CTRL_EXT.mask("PHYINT_EN"), CTRL_EXT.mask("PHYINT")
EXT_LINK_MODE = CTRL_EXT.field("LINK_MODE")
TXCW, RXCW = reg("TXCW"), reg("RXCW")
ICR_LSC, ICR_PHYINT = reg("ICR").mask("LSC"), reg("ICR").mask("PHYINT")
ICR_RXCFG, ICR_RXSEQ = reg("ICR").mask("RXCFG"), reg("ICR").mask("RXSEQ")
TIPG, AIT = reg("TIPG"), reg("AIT")
IPGT, AIFS, GAP_CLOCKS = TIPG.field("IPGT"), AIT.field("AIFS"), 4
RCTL, LBM = reg("RCTL").offset, reg("RCTL").field("LBM")
LBM_MAC, LBM_TRANSCEIVER = 1, 3
SPEED_CODE = {10: 0, 100: 1, 1000: 2}
CODE_SPEED = {0: 10, 1: 100, 2: 1000, 3: 1000}
SIGNAL_PIN = 1
"""The number of the software definable pin that a fibre board's optics drive."""


class LinkUnit:
    """Between MAC and cable.

    `on_flow` is called when the optics' negotiation has set CTRL.RFCE and TFCE, `on_path` when
    frames may go another way than before, `on_link` at a change of STATUS.LU.
    """

    def __init__(
        self,
        *,
        link: Link,
        caps: LinkCaps,
        clock: Clock,
        model: Model,
        regs: Registers,
        stats: Stats,
        interrupts: Interrupts,
        misuse: Misuse,
        pins: Pins,
        tx: Tx,
        rx: Rx,
        on_flow: Callable[[], None],
        on_path: Callable[[], None],
        on_link: Callable[[], None],
        autoneg_ns: int = AUTONEG_NS,
    ) -> None:
        self._link, self._caps = link, caps
        self._model = model
        self._regs, self._stats = regs, stats
        self._interrupts, self._misuse, self._pins = interrupts, misuse, pins
        self._tx, self._rx = tx, rx
        self._on_flow, self._on_path, self._on_link = on_flow, on_path, on_link
        self._connected = True
        self.tbi: Tbi | None = None
        """The ten-bit interface of a fibre board, in the place of the PHY."""
        self.phy: Phy | Tbi
        if model.fiber:
            self.phy = self.tbi = Tbi(
                clock=clock,
                on_link=self._tbi_link,
                on_light=self._tbi_light,
                on_config=self._tbi_config,
                on_errors=self._tbi_errors,
                on_send=self._tbi_sends,
                autoneg_ns=autoneg_ns,
            )
        else:
            self.phy = Phy(
                clock=clock,
                phy_id=model.phy_id,
                on_link=lambda _: self.update(),
                on_interrupt=self._phy_interrupt,
                autoneg_ns=autoneg_ns,
            )

    def plug_in(self, port: LinkPort) -> None:
        """Plug `port` into the link, and connect its other signals."""
        caps, tx = self._caps, self._tx
        self._link.attach(port)
        if caps.shared is not None:
            over = None if tx.dma is None else tx.dma.over
            caps.shared.station = HalfDuplex(self._regs, self._stats, tx.engine, over)
        if caps.fibre is not None:
            caps.fibre.on_rx_config = self.rx_config_changed
        tx.engine.gso_udp = caps.gso_udp

    # --- current state ---------------------------------------------------------------------------

    @property
    def up(self) -> bool:
        """STATUS.LU."""
        return bool(self._regs.peek(STATUS.offset) & STATUS_LU)

    @property
    def speed_mbps(self) -> int:
        """STATUS.SPEED."""
        return CODE_SPEED[SPEED.get(self._regs.peek(STATUS.offset))]

    @property
    def full_duplex(self) -> bool:
        """STATUS.FD."""
        return bool(self._regs.peek(STATUS.offset) & STATUS_FD)

    # --- registers -------------------------------------------------------------------------------

    def hold_phy(self) -> None:
        """Drive the PHY's reset pin from CTRL.PHY_RST."""
        self.phy.hold(bool(self._regs.peek(CTRL.offset) & CTRL_PHY_RST))

    def detect_speed(self) -> None:
        """Measure the speed into STATUS.ASDV (CTRL_EXT.ASDCHK, SDM 13.4.6)."""
        code = SPEED_CODE[self.phy.link.speed_mbps] if self.phy.link.up else 0
        self._regs.clear_bits(STATUS.offset, ASDV.mask)
        self._regs.set_bits(STATUS.offset, ASDV.put(code))

    def read_rxcw(self, value: int) -> int:
        """RXCW; a read clears its latched bits, which the optics have (SDM 13.4.14)."""
        if self.tbi is None:
            self._regs.clear_bits(RXCW.offset, RXCW.rc_mask)
            return value
        value = self.tbi.read_rxcw()
        self._regs.poke(RXCW.offset, self.tbi.rxcw)
        return value

    def follow_optics(self) -> None:
        """Apply CTRL and TXCW to the optics (SDM 13.4.13)."""
        if self.tbi is not None:
            self.tbi.follow(self._regs.peek(CTRL.offset), self._regs.peek(TXCW.offset))

    def follow(self) -> None:
        """CTRL has changed, or was loaded from the EEPROM."""
        self.follow_optics()
        self.update()

    def update(self) -> None:
        """Compute STATUS from the PHY and CTRL; a change of LU raises LSC (SDM 13.4.2)."""
        regs, link = self._regs, self.phy.link
        ctrl, old = regs.peek(CTRL.offset), regs.peek(STATUS.offset)
        ext = regs.peek(CTRL_EXT.offset)
        mode = EXT_LINK_MODE.get(ext)
        # The other interface's pins are not connected.
        own_mode = LINK_MODE_TBI if self._model.fiber else 0
        seen = link.up and not self.phy.isolated and mode == own_mode
        speed = SPEED_CODE[link.speed_mbps]
        if self.tbi is not None:
            up, full = seen, link.full_duplex
        else:
            up = (seen or self.phy.loopback) and bool(ctrl & CTRL_SLU)
            full = bool(ctrl & CTRL_FD) if ctrl & CTRL_FRCDPLX else link.full_duplex
            if ctrl & CTRL_FRCSPD or ext & EXT_SPD_BYPS:
                speed = CTRL_SPEED.get(ctrl)
        new = old & ~COMPUTED | SPEED.put(speed) | (TBIMODE if mode else 0)
        new |= (STATUS_LU if up else 0) | (STATUS_FD if full else 0)
        if new != old:
            regs.poke(STATUS.offset, new)
        self.update_gap()
        self.update_path()
        if (new ^ old) & STATUS_LU:
            self._interrupts.cause(ICR_LSC)
            self._on_link()

    def update_gap(self) -> None:
        """Tell a link that counts time the gap between frames (SDM 13.4.34, 13.4.35).

        A MAC clock is the time of a byte; four are added. On the 82544 AIT is added too; on other
        parts it is a gap of its own, and the longer one counts.
        """
        timed = self._caps.timed
        if timed is not None:
            throttle = AIFS.get(self._regs.peek(AIT.offset)) * self.speed_mbps // 1000
            gap = IPGT.get(self._regs.peek(TIPG.offset))
            clocks = gap + throttle if self._model.ait_adds else max(gap, throttle)
            timed.gap_bytes = clocks + GAP_CLOCKS

    def update_path(self) -> None:
        """Decide where frames go: the link, back at the MAC (RCTL.LBM=1), or back at the PHY."""
        rctl = self._regs.peek(RCTL)
        lbm = LBM.get(rctl)
        loop = lbm == LBM_MAC or self.phy.loopback
        loop = loop or (lbm == LBM_TRANSCEIVER and self.tbi is not None)
        if lbm == LBM_TRANSCEIVER and not loop:
            self._misuse.note("lbm-without-phy", rctl)
        tx, rx, caps = self._tx, self._rx, self._caps
        tx.loop = rx.loop if loop else None
        tx.engine.uncounted = (caps.shared is not None and not loop) or tx.dma is not None
        tx.engine.gso_max_bytes = 0 if loop else caps.gso_max_bytes
        was, tx.open = tx.open, loop or self.up
        is_open = self.up and not loop
        if is_open != rx.open:
            rx.set_open(is_open)
        if tx.open and not was:
            tx.pump()
        self._on_path()

    # --- the cable -------------------------------------------------------------------------------

    def link_changed(self, up: bool, speed_mbps: int, full_duplex: bool) -> None:
        """The cable was plugged, pulled, or the far end changed (LinkPort)."""
        if self._connected:
            self._hear_far_end()
            self.phy.cable(up, speed_mbps, full_duplex)

    def rx_config_changed(self) -> None:
        """The board at the far end of the fibre sends something else (`FibreWire`)."""
        if self.tbi is not None and self._connected:
            self.tbi.receive(self._rx_config())

    def disconnect(self) -> None:
        """Pull the cable: the link is down, whatever the far end does."""
        self._connected = False
        self.phy.cable(False, self.phy.cable_speed_mbps, True)

    def halt(self) -> None:
        """Pull the cable for good."""
        self.disconnect()
        if isinstance(self.phy, Phy):
            self.phy.halt()  # FORCE_LINK_GOOD needs no cable

    def connect(self) -> None:
        """Plug the cable in again."""
        self._connected = True
        self.look_at_cable()

    def look_at_cable(self) -> None:
        """Pass the cable's current state to the PHY."""
        link = self._link
        self._hear_far_end()
        up = self._connected and link.carrier
        self.phy.cable(up, link.speed_mbps, self._caps.full_duplex)

    def _hear_far_end(self) -> None:
        self.phy.hear(self._caps.far_end)
        if self.tbi is not None:
            self.tbi.attach(self._rx_config())

    def _rx_config(self) -> int | None:
        fibre = self._caps.fibre
        return None if fibre is None else fibre.rx_config

    # --- calls from the PHY ----------------------------------------------------------------------

    def _phy_interrupt(self, level: bool) -> None:
        if level:
            self._regs.set_bits(CTRL_EXT.offset, EXT_PHYINT)
            if self._regs.peek(CTRL_EXT.offset) & EXT_PHYINT_EN:
                self._interrupts.cause(ICR_PHYINT)
        else:
            self._regs.clear_bits(CTRL_EXT.offset, EXT_PHYINT)

    # --- calls from the optics -------------------------------------------------------------------

    def _tbi_link(self, link: LinkState) -> None:
        """The link or RXCW has changed."""
        tbi = self.tbi
        assert tbi is not None
        self._regs.poke(RXCW.offset, tbi.rxcw)
        if tbi.negotiated and not self.up:
            # Drivers read the resolution here: they set these bits for a forced link alone.
            flow = (CTRL_RFCE if link.rx_pause else 0) | (CTRL_TFCE if link.tx_pause else 0)
            self._regs.clear_bits(CTRL.offset, CTRL_RFCE | CTRL_TFCE)
            self._regs.set_bits(CTRL.offset, flow)
            self._on_flow()
        self.update()

    def _tbi_light(self, light: bool) -> None:
        """The optics drive a pin by whether they see light (drivers read it before RXCW)."""
        self._pins.drive(SIGNAL_PIN, light is self._model.signal_high)

    def _tbi_config(self, was_up: bool) -> None:
        """/C/ ordered sets have begun to arrive; among idles and frames they are a sequence
        error."""
        self._interrupts.cause(ICR_RXCFG | (ICR_RXSEQ if was_up else 0))
        if was_up:
            self._stats["SEC"] += 1

    def _tbi_errors(self, frames: int) -> None:
        """Count symbol errors, whatever the destination of their frames (SDM 13.7.3)."""
        self._stats["SYMERRS"] += frames

    def _tbi_sends(self, config: int) -> None:
        if self._caps.fibre is not None:
            self._caps.fibre.tx_config = config

    # --- reset, snapshot -------------------------------------------------------------------------

    def reset(self) -> None:
        """CTRL.RST: the optics' negotiation begins anew, the PHY only leaves its reset."""
        self.phy.hold(False)
        if self.tbi is not None:
            self.tbi.reset()

    def state(self) -> PhyState | TbiState:
        """Return what a snapshot needs; STATUS is a register."""
        return self.phy.state()

    def load(self, state: PhyState | TbiState) -> None:
        """Take back what `state` returned.  Raises: ValueError, of another kind of board."""
        match self.phy, state:
            case Phy() as phy, PhyState() as its:
                phy.load(its)
            case Tbi() as tbi, TbiState() as its:
                tbi.load(its)
            case _:
                raise ValueError("phy")

    def loaded(self) -> None:
        """Resume after the whole device was loaded: the cable is what it is now."""
        self.update_gap()
        self.update_path()
        self.look_at_cable()

    def show_light(self) -> None:
        """Update the pin of the optics."""
        if self.tbi is not None:
            self._tbi_light(self.tbi.cable_up)
