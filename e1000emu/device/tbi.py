"""The fibre side of an 8254x: 1000BASE-X behind the ten-bit interface (SDM 8.6.1, 13.4.13 and 14).

`Tbi` takes the place of `Phy` on a board with optics. Its inputs are CTRL, TXCW, the light and the
time; its outputs are the link and RXCW. Both ends negotiate by IEEE 802.3 clause 37, each an
`Arbiter`. If the link carries the far board's signal (`ports.Link.rx_config`), this end receives
that. Otherwise this file has an arbiter for the far end, too, configured by `FarEnd`. Only base
pages are exchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Annotated

import msgspec

from e1000emu.device.phy import DOWN, LinkState
from e1000emu.device.state import U16, U32, BlockState, Due, moved
from e1000emu.links.farend import FarEnd
from e1000emu.ports import Clock, TimerHandle
from e1000emu.registers.regs import reg

LINK_TIMER_NS = 10_000_000
"""IEEE 802.3 37.3.1.4; a negotiation takes three of it."""

DARK, IDLE = -2, -1
"""Received signals other than /C/: no readable light, or idles and frames."""

FD, HD, PAUSE, ASM_DIR = 0x0020, 0x0040, 0x0080, 0x0100
LINK_FAILURE, ACK = 0x1000, 0x4000
"""Bits of a /C/ word (802.3 37.2.1)."""

_CTRL, _TXCW, _RXCW = reg("CTRL"), reg("TXCW"), reg("RXCW")
CTRL_LRST, CTRL_SLU, CTRL_FD = _CTRL.mask("LRST"), _CTRL.mask("SLU"), _CTRL.mask("FD")
TXCONFIG, TXC, ANE = (_TXCW.mask(name) for name in ("TXCONFIG", "TXC", "ANE"))
RXCHANGE, RXINVALID = _RXCW.mask("RXCHANGE"), _RXCW.mask("RXINVALID")
RXC, RXNOCARRIER = _RXCW.mask("RXC"), _RXCW.mask("RXNOCARRIER")
RXSYNCH, ANC = _RXCW.mask("RXSYNCH"), _RXCW.mask("ANC")


class AutoNeg(IntEnum):
    """The states of clause 37 (802.3 figure 37-6)."""

    DISABLED = 0
    ENABLE = 1
    RESTART = 2
    ABILITY_DETECT = 3
    ACKNOWLEDGE_DETECT = 4
    COMPLETE_ACKNOWLEDGE = 5
    IDLE_DETECT = 6
    LINK_OK = 7


class ArbiterState(BlockState):
    """One end of the negotiation."""

    state: AutoNeg
    partner: U16
    due_ns: Due


class TbiState(BlockState, tag="tbi"):
    """The link unit and both ends of the fibre, without the light."""

    light: bool
    ctrl: U32
    txcw: U32
    config: U16
    latched: U32
    synch_lost: bool
    heard: Annotated[int, msgspec.Meta(ge=DARK, le=0xFFFF)]
    ours: ArbiterState
    theirs: ArbiterState

    @property
    def plugged(self) -> bool:
        """Light came."""
        return self.light

    def move(self, ns: int) -> None:
        """Move the link timers."""
        for end in (self.ours, self.theirs):
            end.due_ns = moved(end.due_ns, ns)


class Arbiter:
    """One end of the negotiation: its inputs are the time and the received signal, its output the
    sent one."""

    __slots__ = ("due_ns", "partner", "state", "word")

    def __init__(self) -> None:
        self.state = AutoNeg.DISABLED
        self.word = 0
        """The abilities that it advertises."""
        self.partner = 0
        """What the other end advertises, without ACK."""
        self.due_ns = -1
        """When its link timer ends; -1: it does not run."""

    def restart(self) -> None:
        """Begin anew."""
        self.state, self.partner, self.due_ns = AutoNeg.ENABLE, 0, -1

    def disable(self) -> None:
        """Always send idles."""
        self.state, self.partner, self.due_ns = AutoNeg.DISABLED, 0, -1

    @property
    def sends(self) -> int:
        """A /C/ word, or IDLE."""
        match self.state:
            case AutoNeg.ENABLE | AutoNeg.RESTART:
                return 0
            case AutoNeg.ABILITY_DETECT:
                return self.word & ~ACK
            case AutoNeg.ACKNOWLEDGE_DETECT | AutoNeg.COMPLETE_ACKNOWLEDGE:
                return self.word | ACK
        return IDLE

    def _wait(self, state: AutoNeg, until_ns: int) -> None:
        self.state, self.due_ns = state, until_ns

    def step(self, hears: int, now_ns: int, timer_ns: int) -> bool:
        """Make one transition if possible; return whether there was one."""
        before = self.state
        over = 0 <= self.due_ns <= now_ns
        if before is AutoNeg.DISABLED:
            return False
        if hears == DARK:
            self.restart()
            return before is not AutoNeg.ENABLE
        match before:
            case AutoNeg.ENABLE:
                self._wait(AutoNeg.RESTART, now_ns + timer_ns)
            case AutoNeg.RESTART if over:
                self._wait(AutoNeg.ABILITY_DETECT, -1)
            case AutoNeg.ABILITY_DETECT if hears > 0:
                self.partner = hears & ~ACK
                self.state = AutoNeg.ACKNOWLEDGE_DETECT
            case AutoNeg.ACKNOWLEDGE_DETECT if hears > 0 and hears & ACK:
                if hears & ~ACK == self.partner:
                    self._wait(AutoNeg.COMPLETE_ACKNOWLEDGE, now_ns + timer_ns)
                else:
                    self.restart()
            case (
                AutoNeg.ACKNOWLEDGE_DETECT | AutoNeg.COMPLETE_ACKNOWLEDGE | AutoNeg.IDLE_DETECT
            ) if hears == 0:
                self.restart()
            case AutoNeg.COMPLETE_ACKNOWLEDGE if over:
                self._wait(AutoNeg.IDLE_DETECT, now_ns + timer_ns)
            case AutoNeg.IDLE_DETECT if over and hears == IDLE:
                self._wait(AutoNeg.LINK_OK, -1)
            case AutoNeg.LINK_OK if hears >= 0:
                self.restart()
        return self.state is not before

    def save(self) -> ArbiterState:
        """Return what a snapshot needs."""
        return ArbiterState(state=self.state, partner=self.partner, due_ns=self.due_ns)

    def load(self, saved: ArbiterState) -> None:
        """Take back what `save` returned."""
        self.state, self.partner, self.due_ns = saved.state, saved.partner, saved.due_ns


class Tbi:
    """The link unit, its optics and the far end of the fibre."""

    loopback = isolated = powered_down = held_in_reset = False
    """Modes of a PHY, which this does not have."""

    def __init__(
        self,
        *,
        clock: Clock,
        on_link: Callable[[LinkState], None],
        on_light: Callable[[bool], None],
        on_config: Callable[[bool], None],
        on_errors: Callable[[int], None],
        on_send: Callable[[int], None],
        autoneg_ns: int,
    ) -> None:
        """Begin in the dark.

        `on_link` is called at each change of the link or of RXCW, `on_light` at one of the optics'
        signal. `on_config` is called when /C/ begin to arrive (True if the link was up),
        `on_errors` for frames with an invalid symbol. `on_send` gets what is sent beside frames: a
        /C/ word, IDLE or DARK. A negotiation takes the shorter of `autoneg_ns` and three link
        timers.
        """
        self._clock = clock
        self._on_link = on_link
        self._on_light = on_light
        self._on_config = on_config
        self._on_errors = on_errors
        self._on_send = on_send
        self.timer_ns = max(1, min(LINK_TIMER_NS, autoneg_ns // 3))
        self.link = DOWN
        self.cable_up = False
        self.cable_speed_mbps = 1000
        self.cable_full_duplex = True
        self._far = FarEnd()
        self._ctrl = CTRL_LRST
        self._txcw = 0
        self._config = 0
        """The word in RXCW."""
        self._latched = 0
        """RXCHANGE and RXINVALID until they are read."""
        self._synch_lost = False
        """RXSYNCH is low until it is read."""
        self._heard = DARK
        self._timer: TimerHandle | None = None
        self._sent: int | None = None
        """What was last sent beside frames."""
        self._partner: int | None = None
        """What the board at the far end sends; None: `theirs` models the far end."""
        self.ours, self.theirs = Arbiter(), Arbiter()
        self.theirs.restart()

    # --- inputs ----------------------------------------------------------------------------------

    def hear(self, far_end: FarEnd | None) -> None:
        """Set what the far end advertises from the next `cable` on."""
        self._far = far_end or FarEnd()

    def attach(self, partner: int | None) -> None:
        """Set what arrives by the fibre (`receive`), before `cable` says whether there is one."""
        self._sent = None
        self._take_partner(partner)

    def receive(self, partner: int | None) -> None:
        """Take what the board at the far end sends now; None: no such board."""
        self._take_partner(partner)
        self._settle()

    def _take_partner(self, partner: int | None) -> None:
        if partner is None and self._partner is not None and self._far.negotiates:
            self.theirs.restart()
        self._partner = partner

    def cable(self, up: bool, speed_mbps: int, full_duplex: bool) -> None:
        """Take a change of the light or of the far end's abilities."""
        changed = up != self.cable_up or speed_mbps != self.cable_speed_mbps
        self.cable_up, self.cable_speed_mbps = up, speed_mbps
        self.cable_full_duplex = full_duplex
        word = self._far_word()
        disabled = self.theirs.state is AutoNeg.DISABLED
        if changed or word != self.theirs.word or disabled is self._far.negotiates:
            self.theirs.word = word
            if self._far.negotiates:
                self.theirs.restart()
            else:
                self._fall_silent()
        self._on_light(up)
        self._settle()

    def _fall_silent(self) -> None:
        """A far end that does not negotiate; if it did before, it was replaced."""
        self.theirs.disable()
        if self.ours.state is not AutoNeg.DISABLED:
            self.ours.restart()

    def _far_word(self) -> int:
        far = self._far
        word = FD if self.cable_full_duplex else HD
        word |= (PAUSE if far.pause else 0) | (ASM_DIR if far.asm_dir else 0)
        return word | (LINK_FAILURE if far.remote_fault else 0)

    def follow(self, ctrl: int, txcw: int) -> None:
        """Take CTRL and TXCW as written, or as loaded from the EEPROM."""
        before, self._ctrl = self._ctrl, ctrl
        was, self._txcw = self._txcw, txcw
        self.ours.word = txcw & TXCONFIG
        if ctrl & CTRL_LRST or not txcw & ANE:
            self.ours.disable()
        elif before & CTRL_LRST or not was & ANE:
            self.ours.restart()  # SDM 8.6.1.3
        self._settle()

    def count_errors(self, frames: int) -> None:
        """Count frames with an invalid symbol."""
        if frames:
            self._latched |= RXINVALID
            self._on_errors(frames)
            self._on_link(self.link)

    def reset(self) -> None:
        """CTRL.RST: reset registers and negotiation; the light is unchanged."""
        self._config = self._latched = 0
        self._synch_lost = False
        self._heard = DARK
        self.follow(CTRL_LRST, 0)

    def hold(self, held: bool) -> None:
        """CTRL.PHY_RST has no PHY to reset."""

    def hard_reset(self) -> None:
        """A reset of the bus has no PHY to reset either."""

    # --- outputs ---------------------------------------------------------------------------------

    @property
    def rxcw(self) -> int:
        """RXCW as it reads."""
        value = self._config | self._latched
        if self._heard != DARK:
            value |= RXNOCARRIER | (0 if self._synch_lost else RXSYNCH)
            value |= RXC if self._heard >= 0 else 0
        return value | (ANC if self.ours.state is AutoNeg.LINK_OK else 0)

    def read_rxcw(self) -> int:
        """Return RXCW and clear its latched bits."""
        value = self.rxcw
        self._latched = 0
        self._synch_lost = False
        return value

    def _sends(self) -> int:
        if self._ctrl & CTRL_LRST:
            return DARK
        if self._txcw & ANE:
            return self.ours.sends
        return self._txcw & TXCONFIG if self._txcw & TXC else IDLE

    def _hears(self) -> int:
        """The signal that the receiver gets; it can decode only 1000BASE-X."""
        if not self.cable_up or self.cable_speed_mbps != 1000 or self._ctrl & CTRL_LRST:
            return DARK
        return self.theirs.sends if self._partner is None else self._partner

    def _settle(self) -> None:
        """Make all possible transitions of both ends, then report the changes."""
        now, timer = self._clock.now_ns(), self.timer_ns
        moved = True
        while moved:
            reaches = self.cable_up and self.cable_speed_mbps == 1000
            moved = self.ours.step(self._hears(), now, timer)
            if self._partner is None:
                moved = self.theirs.step(self._sends() if reaches else DARK, now, timer) or moved
        if self._sent != self._sends():
            self._sent = self._sends()
            self._on_send(self._sent)
        self._listen()
        self._arm(now)
        self.link = self._resolve()
        self._on_link(self.link)

    def _listen(self) -> None:
        before, self._heard = self._heard, self._hears()
        if before != DARK and self._heard == DARK and not self._ctrl & CTRL_LRST:
            self._latched |= RXINVALID
            self._synch_lost = True
        config = self._config
        if self._txcw & ANE:
            config = self.ours.partner or config
        elif self._heard >= 0:
            config = self._heard
        if self._ctrl & CTRL_LRST:
            config = self._latched = 0
            self._synch_lost = False
        elif config != self._config:
            self._latched |= RXCHANGE
        self._config = config
        if before < 0 <= self._heard:
            self._on_config(self.link.up)

    def _resolve(self) -> LinkState:
        """Return the link as it is (SDM 8.6.1.3 to 8.6.1.5, 802.3 37.2.4.2)."""
        if self._heard == DARK:
            return DOWN
        if not self._txcw & ANE:
            up = bool(self._ctrl & CTRL_SLU) and not self._txcw & TXC
            return LinkState(up, 1000, bool(self._ctrl & CTRL_FD))
        if self.ours.state is not AutoNeg.LINK_OK:
            return DOWN
        ours, theirs = self._txcw, self.ours.partner
        if not ours & theirs & (FD | HD):
            return DOWN
        if not ours & theirs & FD:
            return LinkState(True, 1000, False)
        both = bool(ours & theirs & PAUSE)
        one_way = bool(ours & theirs & ASM_DIR)
        tx_pause = both or (one_way and bool(theirs & PAUSE))
        return LinkState(True, 1000, True, tx_pause, both or (one_way and bool(ours & PAUSE)))

    @property
    def negotiated(self) -> bool:
        """The hardware negotiates, and has found what both ends can do."""
        return self.link.up and bool(self._txcw & ANE)

    def _arm(self, now_ns: int) -> None:
        """Wait for the next link timer.

        `now_ns` is what the arbiters were asked with: by the clock a timer may have ended since.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ends = (self.ours, self.theirs) if self._partner is None else (self.ours,)
        due = [end.due_ns for end in ends if end.due_ns >= 0]
        later = [at for at in due if at > now_ns]
        if later:
            self._timer = self._clock.call_at(min(later), self._expired)

    def _expired(self) -> None:
        self._timer = None
        self._settle()

    # --- snapshot --------------------------------------------------------------------------------

    def state(self) -> TbiState:
        """Return what a snapshot needs."""
        ours, theirs = self.ours.save(), self.theirs.save()
        return TbiState.of(self, light=self.cable_up, ours=ours, theirs=theirs)

    def load(self, state: TbiState) -> None:
        """Take back what `state` returned; the light is what it is now."""
        state.put_into(self, "light", "ours", "theirs")
        self.ours.load(state.ours)
        self.theirs.load(state.theirs)
        self.ours.word, self.theirs.word = self._txcw & TXCONFIG, self._far_word()
        if not self._far.negotiates and self.theirs.state is not AutoNeg.DISABLED:
            self._fall_silent()
        elif self._far.negotiates and self.theirs.state is AutoNeg.DISABLED:
            self.theirs.restart()
        self.link = self._resolve()
        self._settle()
