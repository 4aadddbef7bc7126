"""The PHY: a Marvell 88E1011 inside the 82540, reached through MDIC (SDM 8.2, 11, 13.4.7).

`Phy` is the chip: its inputs are register reads and writes, the cable and the time; its output is
the resolved link, by one callback.  Autonegotiation takes time on the clock; settings of speed,
duplex and autonegotiation act only on a PHY reset, a restart, power-up or loss of the link (SDM
p184).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec

from e1000emu.device.state import U16, BlockState, Due, moved
from e1000emu.links.farend import NULL_PAGE, FarEnd
from e1000emu.ports import Clock, TimerHandle
from e1000emu.registers.phyregs import PHY_TABLE, phy_reg
from e1000emu.registers.regs import reg

if TYPE_CHECKING:
    from e1000emu.device.interrupts import Interrupts
    from e1000emu.device.regview import Registers
    from e1000emu.insight.misuse import Misuse
    from e1000emu.insight.unmodelled import Unmodelled

    LateMdio = Callable[[Callable[[], None]], bool]
    """Whether a fault delays an operation, which then calls what it is given."""

AUTONEG_NS = 1_000_000_000
"""Time from start to end of autonegotiation; 1 to 3 s on real cables."""
FORCED_LINK_NS = 10_000_000
"""Time until a forced link is up."""
PAGE_NS = 100_000_000
"""Time that a next page takes, at most as long as all of autonegotiation."""

PHY_ADDRESS = 1

_BMCR, _BMSR, _ANAR, _ANLPAR, _ANER = map(phy_reg, ("BMCR", "BMSR", "ANAR", "ANLPAR", "ANER"))
_GTCR, _GTSR, _PSCR, _PSSR, _PISR = map(phy_reg, ("GTCR", "GTSR", "PSCR", "PSSR", "PISR"))

BMCR, ANAR, ANER, GTCR, PISR = _BMCR.offset, _ANAR.offset, _ANER.offset, _GTCR.offset, _PISR.offset
PHYID1, PHYID2 = phy_reg("PHYID1").offset, phy_reg("PHYID2").offset
PIER, RXERR = phy_reg("PIER").offset, phy_reg("RXERR").offset
PAGE, PAGE_DATA = phy_reg("PAGE").offset, phy_reg("PAGE_DATA").offset

BMCR_RESET, BMCR_LOOPBACK = _BMCR.mask("RESET"), _BMCR.mask("LOOPBACK")
BMCR_SPEED_LSB, BMCR_SPEED_MSB = _BMCR.mask("SPEED_LSB"), _BMCR.mask("SPEED_MSB")
BMCR_ANENABLE, BMCR_ANRESTART = _BMCR.mask("ANENABLE"), _BMCR.mask("ANRESTART")
BMCR_ISOLATE = _BMCR.mask("ISOLATE")
BMCR_PDOWN, BMCR_FULLDPLX = _BMCR.mask("PDOWN"), _BMCR.mask("FULLDPLX")

BMSR_CAPABILITIES = _BMSR.reset
BMSR_RFAULT = _BMSR.mask("RFAULT")
BMSR_ANEGCOMPLETE, BMSR_LSTATUS = _BMSR.mask("ANEGCOMPLETE"), _BMSR.mask("LSTATUS")

ANAR_10HD, ANAR_10FD = _ANAR.mask("10HD"), _ANAR.mask("10FD")
ANAR_100HD, ANAR_100FD = _ANAR.mask("100HD"), _ANAR.mask("100FD")
ANAR_PAUSE, ANAR_ASM_DIR, ANAR_NP = (_ANAR.mask(n) for n in ("PAUSE", "ASM_DIR", "NP"))
ANAR_SELECTOR = _ANAR.field("SELECTOR")
ANER_LP_ANABLE, ANER_PAGE_RX = _ANER.mask("LP_ANABLE"), _ANER.mask("PAGE_RX")
GTCR_1000HD, GTCR_1000FD = _GTCR.mask("1000HD"), _GTCR.mask("1000FD")

ANER_LP_NPABLE = _ANER.mask("LP_NPABLE")
_ANNPTR = phy_reg("ANNPTR")
ANNPTR, ANLPNP = _ANNPTR.offset, phy_reg("ANLPNP").offset
PAGE_NP, PAGE_TOGGLE = _ANNPTR.mask("NP"), _ANNPTR.mask("TOGGLE")

# The register's bits for every far end that negotiates, and for one that offers 100 and 1000 Mb/s.
ANLPAR_NEGOTIATES, ANLPAR_SELECTOR = _ANLPAR.mask("ACK", "10HD", "10FD"), _ANLPAR.field("SELECTOR")
ANLPAR_PAUSE, ANLPAR_ASM_DIR = _ANLPAR.mask("PAUSE"), _ANLPAR.mask("ASM_DIR")
ANLPAR_RFAULT, ANLPAR_NP = _ANLPAR.mask("RFAULT"), _ANLPAR.mask("NP")
ANLPAR_100 = _ANLPAR.mask("100HD", "100FD")
ANLPAR_FULL = _ANLPAR.mask("10FD", "100FD", "PAUSE", "ASM_DIR")
GTSR_1000, GTSR_FULL = _GTSR.mask("LP_1000HD", "LOCAL_OK", "REMOTE_OK"), _GTSR.mask("LP_1000FD")

GTSR_MASTER, GTSR_FAULT = _GTSR.mask("MS_MASTER"), _GTSR.mask("MS_FAULT")
GTCR_REPEATER, GTCR_MS_VALUE = _GTCR.mask("REPEATER"), _GTCR.mask("MS_VALUE")
GTCR_MS_MANUAL = _GTCR.mask("MS_MANUAL")
PSCR, PSCR_MDI, PSCR_SLEEP = _PSCR.offset, _PSCR.field("MDI_MODE"), _PSCR.field("ENERGY_DETECT")
PSCR_LINK_GOOD, PSSR_DOWNSHIFT = _PSCR.mask("FORCE_LINK_GOOD"), _PSSR.mask("DOWNSHIFT")
_EPSCR = phy_reg("EPSCR")
EPSCR, AS_MASTER = _EPSCR.offset, _EPSCR.field("MASTER_DOWNSHIFT")
AS_SLAVE = _EPSCR.field("SLAVE_DOWNSHIFT")
PSSR_ASLEEP, PSSR_PAGE_RCVD = _PSSR.mask("ENERGY_DETECT"), _PSSR.mask("PAGE_RCVD")
PSSR_SPEED, PSSR_SPEEDS = _PSSR.field("SPEED"), {10: 0, 100: 1, 1000: 2}
PSSR_DPLX, PSSR_RESOLVED, PSSR_LINK = (_PSSR.mask(n) for n in ("DPLX", "RESOLVED", "LINK"))
PSSR_MDIX, PSSR_TX_PAUSE, PSSR_RX_PAUSE = (_PSSR.mask(n) for n in ("MDIX", "TX_PAUSE", "RX_PAUSE"))

PISR_ENERGY, PISR_CROSSOVER = _PISR.mask("ENERGY"), _PISR.mask("MDI_CROSSOVER")
PISR_SYMBOL_ERROR = _PISR.mask("SYMBOL_ERROR")
PISR_AN_ERROR, PISR_LINK = _PISR.mask("AN_ERROR"), _PISR.mask("LINK")
PISR_PAGE, PISR_DOWNSHIFT = _PISR.mask("PAGE"), _PISR.mask("DOWNSHIFT")
PISR_NEGOTIATED = _PISR.mask("AN_DONE", "PAGE", "SPEED", "DUPLEX")

RESET_VALUES = {r.offset: r.reset for r in PHY_TABLE}
READ_CLEARS = {r.offset: r.rc_mask for r in PHY_TABLE}
WRITE_MASKS = {r.offset: r.stored_mask for r in PHY_TABLE if r.stored_mask}


@dataclass(frozen=True, slots=True)
class LinkState:
    """The PHY's outputs to the MAC."""

    up: bool
    speed_mbps: int
    full_duplex: bool
    tx_pause: bool = False
    rx_pause: bool = False


DOWN = LinkState(False, 1000, True)


class PhyState(BlockState, tag="phy"):
    """The chip, without its cable."""

    regs: Annotated[list[U16], msgspec.Meta(min_length=32, max_length=32)]
    pages: Annotated[list[tuple[U16, U16, U16]], msgspec.Meta(max_length=1 << 16)]
    """Page, register, value."""
    link: tuple[bool, int, bool, bool, bool]
    """`LinkState`."""
    held: bool
    an_done: bool
    applied: U16
    latched_down: bool
    interrupt_level: bool
    due_ns: Due
    master: bool = True
    crossed: bool = True
    next_pages: int = -1
    tries: int = 0
    flags: tuple[bool, bool, bool] = (False, False, False)
    """Downshifted; master/slave fault; remote fault to be told."""

    @property
    def plugged(self) -> bool:
        """It has a state that needs a cable, or in which a cable cannot be detected."""
        off = bool(self.regs[BMCR] & BMCR_PDOWN)
        return self.link[0] or self.due_ns >= 0 or self.held or off

    def move(self, ns: int) -> None:
        """Move the end of a negotiation."""
        self.due_ns = moved(self.due_ns, ns)


class Phy:
    """The 88E1011 at its registers and its cable."""

    def __init__(
        self,
        *,
        clock: Clock,
        phy_id: tuple[int, int],
        on_link: Callable[[LinkState], None],
        on_interrupt: Callable[[bool], None],
        autoneg_ns: int = AUTONEG_NS,
    ) -> None:
        self._clock = clock
        self._phy_id = phy_id
        self._on_link = on_link
        self._on_interrupt = on_interrupt
        self.autoneg_ns = autoneg_ns
        self.regs = [0] * 32
        self.pages: dict[tuple[int, int], int] = {}
        self.link = DOWN
        self.cable_up = False
        self.cable_speed_mbps = 1000
        self.cable_full_duplex = True
        self.held_in_reset = False
        self._an_done = False
        self._master = True
        """Whether autonegotiation made this end master or slave at 1000 Mb/s."""
        self._crossed = True
        """The pairs are crossed over (MDI-X)."""
        self._far = FarEnd()
        self._pages = -1
        """Next pages exchanged in each direction; -1: no exchange."""
        self._tries = 0
        """Attempts at 1000 Mb/s over too few pairs."""
        self._shifted = self._ms_fault = self._told_fault = False
        self._applied = 0  # the BMCR bits that are in force
        self._latched_down = True
        self._interrupt_level = False
        self._timer: TimerHandle | None = None
        self._halted = False
        self._due_ns = 0
        self._load_defaults()

    # --- registers -------------------------------------------------------------------------------

    def _load_defaults(self) -> None:
        self.regs = [0] * 32
        for n, value in RESET_VALUES.items():
            self.regs[n] = value
        self.regs[PHYID1], self.regs[PHYID2] = self._phy_id
        self._latched_down = True
        self._an_done = False

    @property
    def loopback(self) -> bool:
        """Frames that the MAC sends come back (BMCR bit 14); nothing goes to the cable."""
        return bool(self.regs[BMCR] & BMCR_LOOPBACK) and not self.powered_down

    @property
    def powered_down(self) -> bool:
        """BMCR bit 11."""
        return bool(self.regs[BMCR] & BMCR_PDOWN)

    @property
    def isolated(self) -> bool:
        """The PHY is isolated from the MAC (BMCR bit 10)."""
        return bool(self.regs[BMCR] & BMCR_ISOLATE)

    @property
    def asleep(self) -> bool:
        """There is no energy on the wire, and energy detect is enabled (PSCR bits 9:8)."""
        return not self.cable_up and PSCR_SLEEP.get(self.regs[PSCR]) >= 2

    def read(self, n: int) -> int:
        """Read register `n` (0 to 31) with its side effects (latches, read-clear counters)."""
        value = self.regs[n]
        self.regs[n] = value & ~READ_CLEARS.get(n, 0)
        match n:
            case 1:
                value = BMSR_CAPABILITIES
                if self._an_done:
                    value |= BMSR_ANEGCOMPLETE
                # Latched low: the first read after a loss reports it (IEEE 802.3 22.2.4.2.13).
                if self.link.up and not self._latched_down:
                    value |= BMSR_LSTATUS
                self._latched_down = not self.link.up
                value |= BMSR_RFAULT if self._told_fault else 0  # latched too
                self._told_fault = False
            case 5:
                value = self._partner_ability() if self._heard else 0
            case 6:
                if self._heard:
                    value |= ANER_LP_ANABLE | (ANER_LP_NPABLE if self._far.next_pages else 0)
            case 7:
                value |= self._toggle(self.regs[ANAR] & ANAR_ASM_DIR)
            case 10:
                value = self._gigabit_status()
            case 17:
                value = self._specific_status()
            case 19:
                self._update_interrupt()
            case 30:
                value = self.pages.get((self.regs[PAGE], PAGE_DATA), 0)
        return value

    def write(self, n: int, value: int) -> None:
        """Write register `n` (0 to 31); those that do not exist ignore it."""
        if n == BMCR:
            self._write_bmcr(value)
        elif n == PAGE_DATA:
            self.pages[(self.regs[PAGE], PAGE_DATA)] = value & 0xFFFF
        elif n in WRITE_MASKS:
            before, self.regs[n] = self.regs[n], value & WRITE_MASKS[n]
            if n == PIER:
                self._update_interrupt()
            elif n == ANNPTR and self._pages >= 0 and self._timer is None:
                self._arm(self._clock.now_ns() + min(PAGE_NS, self.autoneg_ns))
            elif n == PSCR and (before ^ value) & PSCR_LINK_GOOD and self._forces():
                self._restart()

    def _write_bmcr(self, value: int) -> None:
        was_down, was_loop, was_isolated = self.powered_down, self.loopback, self.isolated
        self.regs[BMCR] = value & WRITE_MASKS[BMCR]
        if value & BMCR_RESET:
            # A software reset keeps the registers and puts them in force (SDM p184).
            self.regs[PISR] = 0
            self._restart()
        elif self.powered_down != was_down or (value & BMCR_ANRESTART and value & BMCR_ANENABLE):
            self._restart()
        elif self.loopback != was_loop or self.isolated != was_isolated:
            self._on_link(self.link)

    def _forces(self) -> bool:
        """Software sets speed and duplex, and FORCE_LINK_GOOD counts."""
        return not self._applied & (BMCR_ANENABLE | BMCR_SPEED_MSB)

    @property
    def _called_good(self) -> bool:
        return bool(self.regs[PSCR] & PSCR_LINK_GOOD) and self._forces()

    @property
    def _there(self) -> bool:
        """A link is possible: a far end is there, or FORCE_LINK_GOOD is set."""
        return not self._halted and (self.cable_up or self._called_good)

    @property
    def _heard(self) -> bool:
        """The far end's base page has arrived."""
        return self._an_done or self._pages >= 0

    def _toggle(self, base: int) -> int:
        """The toggle bit of an end's next page: the first one's is not bit 11 of its base page."""
        return PAGE_TOGGLE if self._pages >= 0 and self._pages % 2 == bool(base) else 0

    def _partner_ability(self) -> int:
        if not self._applied & BMCR_ANENABLE:
            return 0
        far = self._far
        ability = ANLPAR_NEGOTIATES | (ANLPAR_100 if self.cable_speed_mbps >= 100 else 0)
        ability |= ANLPAR_SELECTOR.put(far.selector)
        ability |= (ANLPAR_PAUSE if far.pause else 0) | (ANLPAR_ASM_DIR if far.asm_dir else 0)
        ability |= (ANLPAR_RFAULT if far.remote_fault else 0) | (ANLPAR_NP if far.next_pages else 0)
        return ability if self.cable_full_duplex else ability & ~ANLPAR_FULL

    def _gigabit_status(self) -> int:
        if not (self._an_done and self.cable_speed_mbps >= 1000):
            return 0
        full = GTSR_FULL if self.cable_full_duplex else 0
        fault = GTSR_FAULT if self._ms_fault else 0
        return GTSR_1000 | full | fault | (GTSR_MASTER if self._master else 0)

    def _specific_status(self) -> int:
        link = self.link
        value = PSSR_SPEED.put(PSSR_SPEEDS[link.speed_mbps])
        value |= PSSR_MDIX if self._crossed else 0
        value |= PSSR_ASLEEP if self.asleep else 0
        value |= PSSR_DOWNSHIFT if self._shifted else 0
        value |= PSSR_PAGE_RCVD if self.regs[ANER] & ANER_PAGE_RX else 0
        value |= PSSR_DPLX if link.full_duplex else 0
        if self._an_done or not self._applied & BMCR_ANENABLE:
            value |= PSSR_RESOLVED
        if link.up:
            value |= PSSR_LINK
            value |= PSSR_TX_PAUSE if link.tx_pause else 0
            value |= PSSR_RX_PAUSE if link.rx_pause else 0
        return value

    # --- the link --------------------------------------------------------------------------------

    def hear(self, far_end: FarEnd | None) -> None:
        """Set what the far end advertises at the next negotiation (None: nothing special)."""
        self._far = far_end or FarEnd()

    def cable(self, up: bool, speed_mbps: int, full_duplex: bool) -> None:
        """Set what the far end of the cable offers."""
        changed = (up, speed_mbps, full_duplex) != (
            self.cable_up,
            self.cable_speed_mbps,
            self.cable_full_duplex,
        )
        slept = self.asleep
        self.cable_up = up
        if self.asleep != slept:
            self._event(PISR_ENERGY)
        self.cable_speed_mbps = speed_mbps
        self.cable_full_duplex = full_duplex
        if self._called_good and self.link.up:
            return
        waits = self._timer is not None or self._pages >= 0
        if changed or (up and not self.link.up and not waits):
            self._restart()

    def _restart(self) -> None:
        """Put the settings in force and begin to bring the link up."""
        self._cancel()
        self._applied = self.regs[BMCR]
        self._an_done = self._shifted = self._ms_fault = self._told_fault = False
        self._tries, self._pages = 0, -1
        crossed = bool(PSCR_MDI.get(self.regs[PSCR]))
        if crossed != self._crossed:
            self._crossed = crossed
            self._event(PISR_CROSSOVER)
        self._set_link(DOWN)
        if self._there and not self.powered_down and not self.held_in_reset:
            wait = self.autoneg_ns if self._applied & BMCR_ANENABLE else FORCED_LINK_NS
            self._arm(self._clock.now_ns() + wait)

    def halt(self) -> None:
        """Bring no link up any more."""
        self._halted = True
        self._cancel()

    def _arm(self, when_ns: int) -> None:
        self._due_ns = when_ns
        self._timer = self._clock.call_at(when_ns, self._resolve)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _resolve(self) -> None:
        """Negotiation is over: agree on the best common mode, or use the forced one."""
        self._timer = None
        if not self._there or self.powered_down or self.held_in_reset:
            return
        if self._applied & BMCR_ANENABLE:
            if self._pages < 0 and self._tries == 0:
                self._base_page()
            elif self._pages >= 0:
                self._next_page()
            else:
                self._agree()
        else:
            bits = self._applied
            speed = 1000 if bits & BMCR_SPEED_MSB else 100 if bits & BMCR_SPEED_LSB else 10
            top = self.cable_speed_mbps if self._far.pairs == 4 else min(100, self.cable_speed_mbps)
            up = speed <= top or self._called_good
            self._set_link(LinkState(up, speed, bool(bits & BMCR_FULLDPLX)) if up else DOWN)

    def _base_page(self) -> None:
        """The ends have exchanged their abilities."""
        far, ours = self._far, self.regs[ANAR]
        if far.on_page is not None:
            far.on_page(ours)
        self._told_fault = far.remote_fault
        if ours & ANAR_NP and far.next_pages:
            self._pages = 0  # and it waits for software's
            self.regs[ANER] |= ANER_PAGE_RX
            self._event(PISR_PAGE)
        else:
            self._agree()

    def _next_page(self) -> None:
        """A next page went each way; an end without more pages sends null pages (802.3
        28.2.3.4)."""
        far, k, ours = self._far, self._pages, self.regs[ANNPTR]
        if far.on_page is not None:
            far.on_page(ours & ~PAGE_TOGGLE | self._toggle(self.regs[ANAR] & ANAR_ASM_DIR))
        last = len(far.next_pages) - 1
        theirs = (far.next_pages[k] if k <= last else NULL_PAGE) & ~(PAGE_TOGGLE | PAGE_NP)
        more = PAGE_NP if k < last else 0
        self.regs[ANLPNP] = theirs | more | self._toggle(far.asm_dir)
        self.regs[ANER] |= ANER_PAGE_RX
        self._pages = k + 1
        self._event(PISR_PAGE)
        if not (ours & PAGE_NP or more):
            self._pages = -1
            self._agree()

    def _agree(self) -> None:
        """All pages are exchanged: find the best common mode, and see whether it works."""
        link = self._negotiate(self.cable_speed_mbps)
        self._master = self._wants_master()
        if link.speed_mbps == 1000 and link.up and self._far.pairs < 4:
            # It is tried as often as EPSCR says, then the next best mode is taken.
            limit = (AS_MASTER.get(self.regs[EPSCR]) + 1 if self._master
                     else AS_SLAVE.get(self.regs[EPSCR]))  # fmt: skip
            self._tries += 1
            if self._tries < limit:
                self._arm(self._clock.now_ns() + self.autoneg_ns)
                return
            link = self._negotiate(100) if limit else DOWN
            self._shifted = link.up
        self._ms_fault = link.up and link.speed_mbps == 1000 and self._same_part()
        self._an_done = link.up
        if self._ms_fault:
            link = DOWN
        if link.up:
            self.regs[ANER] |= ANER_PAGE_RX
            self._event(PISR_NEGOTIATED | (PISR_DOWNSHIFT if self._shifted else 0))
        else:
            self._event(PISR_AN_ERROR)
        self._set_link(link)

    def _negotiate(self, top: int) -> LinkState:
        ours, gigabit, far = self.regs[ANAR], self.regs[GTCR], self._far
        full = self.cable_full_duplex
        if ANAR_SELECTOR.get(ours) != far.selector:
            return DOWN
        modes = (
            (1000, True, gigabit & GTCR_1000FD),
            (1000, False, gigabit & GTCR_1000HD),
            (100, True, ours & ANAR_100FD),
            (100, False, ours & ANAR_100HD),
            (10, True, ours & ANAR_10FD),
            (10, False, ours & ANAR_10HD),
        )
        for speed, duplex, offered in modes:
            if offered and speed <= top and (full or not duplex):
                return LinkState(True, speed, duplex, *(self._pause() if duplex else ()))
        return DOWN

    def _pause(self) -> tuple[bool, bool]:
        """Whether PAUSE frames are sent and accepted (802.3 table 28B-3)."""
        pause, asm = self.regs[ANAR] & ANAR_PAUSE, self.regs[ANAR] & ANAR_ASM_DIR
        far = self._far
        both, one_way = bool(pause) and far.pause, bool(asm) and far.asm_dir
        return both or (one_way and far.pause), both or (one_way and bool(pause))

    def _same_part(self) -> bool:
        """Both ends insist on being master, or slave."""
        gtcr = self.regs[GTCR]
        return bool(gtcr & GTCR_MS_MANUAL) and self._far.master is bool(gtcr & GTCR_MS_VALUE)

    def _wants_master(self) -> bool:
        """Set by hand, or the far end's opposite, or by the preference of a multiport device
        (40.5.2)."""
        gtcr = self.regs[GTCR]
        if gtcr & GTCR_MS_MANUAL:
            return bool(gtcr & GTCR_MS_VALUE)
        return bool(gtcr & GTCR_REPEATER) if self._far.master is None else not self._far.master

    def _set_link(self, link: LinkState) -> None:
        was_up = self.link.up
        self.link = link
        if not link.up:
            self._latched_down = True
        if link.up != was_up:
            self._event(PISR_LINK)
        self._on_link(link)

    def count_errors(self, frames: int) -> None:
        """Count frames with a symbol error (RX_ER); RXERR stops at FFFFh."""
        if frames:
            self.regs[RXERR] = min(self.regs[RXERR] + frames, 0xFFFF)
            self._event(PISR_SYMBOL_ERROR)

    # --- interrupt, reset, snapshot --------------------------------------------------------------

    def _event(self, bits: int) -> None:
        self.regs[PISR] |= bits
        self._update_interrupt()

    def _update_interrupt(self) -> None:
        level = bool(self.regs[PISR] & self.regs[PIER])
        if level != self._interrupt_level:
            self._interrupt_level = level
            self._on_interrupt(level)

    def hold(self, held: bool) -> None:
        """Drive the reset pin (CTRL.PHY_RST): while held nothing answers; on release, defaults."""
        if held == self.held_in_reset:
            return
        self.held_in_reset = held
        self.hard_reset()

    def hard_reset(self) -> None:
        """Power-on or reset pin: every register takes its default and negotiation starts."""
        self._load_defaults()
        self._update_interrupt()
        self._restart()

    def state(self) -> PhyState:
        """Return what a snapshot needs."""
        link = self.link
        return PhyState.of(
            self,
            regs=list(self.regs),
            pages=[(page, n, value) for (page, n), value in sorted(self.pages.items())],
            link=(link.up, link.speed_mbps, link.full_duplex, link.tx_pause, link.rx_pause),
            held=self.held_in_reset,
            due_ns=self._due_ns if self._timer is not None else -1,
            next_pages=self._pages,
            flags=(self._shifted, self._ms_fault, self._told_fault),
        )

    def load(self, state: PhyState) -> None:
        """Take back what `state` returned; the cable is what it is now.  Raises: ValueError."""
        if state.link[1] not in PSSR_SPEEDS:
            raise ValueError("phy.link")
        self._cancel()
        state.put_into(self, "regs", "pages", "link", "held", "due_ns", "next_pages", "flags")
        self.regs = list(state.regs)
        self.pages = {(p, n): v for p, n, v in state.pages}
        self.link = LinkState(*state.link)
        self.held_in_reset = state.held
        self._pages = state.next_pages
        self._shifted, self._ms_fault, self._told_fault = state.flags
        if state.due_ns >= 0:
            self._arm(state.due_ns)
        if self.link.up and not self._there:
            self._restart()


MDIC = reg("MDIC")
MDIC_READY, MDIC_INT, MDIC_ERROR = MDIC.mask("R"), MDIC.mask("I"), MDIC.mask("E")
ICR_MDAC = reg("ICR").mask("MDAC")
OP_WRITE, OP_READ = 1, 2


class Mdic:
    """The MAC's end of the management bus (SDM 13.4.7); operations end at once."""

    def __init__(
        self,
        regs: Registers,
        misuse: Misuse,
        unmodelled: Unmodelled,
        interrupts: Interrupts,
        late: LateMdio | None,
        phy: Phy | None,
    ) -> None:
        self._regs = regs
        self._misuse = misuse
        self._unmodelled = unmodelled
        self._interrupts = interrupts
        self._late = late
        self.phy = phy
        """None: the board has no PHY, and no operation is answered."""

    def write_mdic(self, old: int, new: int) -> None:
        """Start an operation, unless software wrote the R bit as 1 (then nothing starts)."""
        late = self._late
        if new & MDIC_READY or late is None or not late(lambda: self._end(new)):
            self._end(new)
        else:
            self._regs.poke(MDIC.offset, new & ~MDIC_ERROR)

    def _end(self, new: int) -> None:
        """Complete the operation and set R."""
        phy = self.phy
        value = new & ~MDIC_ERROR
        if not new & MDIC_READY:
            n, address = new >> 16 & 31, new >> 21 & 31
            op = new >> 26 & 3
            value |= MDIC_READY
            if address != PHY_ADDRESS or phy is None:
                self._misuse.note("phy-address", new, address)
                value |= MDIC_ERROR | 0xFFFF
            elif phy.held_in_reset:
                self._misuse.note("phy-in-reset", new)
                value |= MDIC_ERROR | 0xFFFF
            elif op == OP_READ:
                value = value & ~0xFFFF | phy.read(n)
            elif op == OP_WRITE:
                self._unmodelled.add("phy", n, new & 0xFFFF)
                phy.write(n, new & 0xFFFF)
            else:
                self._misuse.note("phy-op", new, op)
                value |= MDIC_ERROR
        self._regs.poke(MDIC.offset, value)
        if new & MDIC_INT and not new & MDIC_READY:
            self._interrupts.cause(ICR_MDAC)
