"""The fibre board: clause 37 between both ends, the TBI's registers, what a driver makes of it."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e1000emu.clock import VirtualClock
from e1000emu.device.nic import Nic
from e1000emu.device.tbi import ACK, DARK, IDLE, LINK_TIMER_NS, Arbiter, AutoNeg, Tbi
from e1000emu.errors import SnapshotError
from e1000emu.links import Impair, pair
from e1000emu.links.farend import FarEnd
from e1000emu.record.recorder import Recorder
from e1000emu.registers.models import MODELS
from e1000emu.registers.regs import reg
from e1000emu.testing.bench import Bench, make_bench
from e1000emu.testing.recorders import RecordingLine
from fastpath.base.batch import FB_SYMBOL_ERR
from fastpath.base.dma import DmaTable
from tests.e1000emu.common import RX_ON, frame, rd, wr
from tests.e1000emu.record.test_record import recording, same
from tests.e1000emu.witness import witness
from tests.support import examples

FIBER = [name for name, part in MODELS.items() if part.fiber]
BOARD = "82545EM-fiber"

FD, HD, PAUSE, ASM_DIR = 0x20, 0x40, 0x80, 0x100
OFFER = FD | PAUSE | ASM_DIR
ANE, TXC = 1 << 31, 1 << 30
LRST, SLU, CTRL_FD, PIN1 = 1 << 3, 1 << 6, 1 << 0, 1 << 19
RFCE, TFCE = 1 << 27, 1 << 28
LU, TBIMODE = 2, 0x20
RXC, SYNCH, ANC = 1 << 29, 1 << 30, 1 << 31
NOCARRIER, INVALID, CHANGE = 1 << 26, 1 << 27, 1 << 28
LSC, RXSEQ, RXCFG = 1 << 2, 1 << 3, 1 << 10
DONE_NS = 3 * LINK_TIMER_NS


def board(far: FarEnd | None = None, *, model: str = BOARD, light: bool = True) -> Bench:
    """Return a fibre board that has been powered on, its link unit in reset."""
    bench = make_bench(model=model)
    plug(bench, far, light=light)
    return bench


def plug(bench: Bench, far: FarEnd | None = None, *, light: bool = True, **more: Any) -> None:
    bench.link.far_end = far
    bench.link.set_carrier(light, **more)


def start(bench: Bench, txcw: int = ANE | OFFER, *, ctrl: int = 0) -> None:
    """Do what e1000_setup_fiber_serdes_link does: TXCW, then out of link reset."""
    wr(bench.nic, "TXCW", txcw)
    wr(bench.nic, "CTRL", rd(bench.nic, "CTRL") & ~LRST | ctrl)


def up(bench: Bench) -> bool:
    return bool(rd(bench.nic, "STATUS") & LU)


# --- clause 37 -----------------------------------------------------------------------------------


def test_two_ends_need_three_link_timers() -> None:
    a, b = Arbiter(), Arbiter()
    a.word, b.word = OFFER, FD
    a.restart()
    b.restart()
    seen = []
    for now in range(0, DONE_NS + 1, LINK_TIMER_NS // 2):
        while a.step(b.sends, now, LINK_TIMER_NS) | b.step(a.sends, now, LINK_TIMER_NS):
            pass
        seen.append(a.state.name)
    assert seen == [
        *["RESTART"] * 2,
        *["COMPLETE_ACKNOWLEDGE"] * 2,
        *["IDLE_DETECT"] * 2,
        "LINK_OK",
    ]
    assert (a.partner, b.partner) == (FD, OFFER)


@pytest.mark.parametrize(
    ("state", "hears", "then"),
    [
        (AutoNeg.DISABLED, 0, AutoNeg.DISABLED),
        *((state, DARK, AutoNeg.ENABLE) for state in AutoNeg if state),
        (AutoNeg.RESTART, OFFER, AutoNeg.RESTART),
        (AutoNeg.ABILITY_DETECT, 0, AutoNeg.ABILITY_DETECT),
        (AutoNeg.ABILITY_DETECT, IDLE, AutoNeg.ABILITY_DETECT),
        (AutoNeg.ABILITY_DETECT, OFFER, AutoNeg.ACKNOWLEDGE_DETECT),
        (AutoNeg.ACKNOWLEDGE_DETECT, OFFER, AutoNeg.ACKNOWLEDGE_DETECT),
        (AutoNeg.ACKNOWLEDGE_DETECT, OFFER | ACK, AutoNeg.COMPLETE_ACKNOWLEDGE),
        (AutoNeg.ACKNOWLEDGE_DETECT, FD | ACK, AutoNeg.ENABLE),
        (AutoNeg.ACKNOWLEDGE_DETECT, 0, AutoNeg.ENABLE),
        (AutoNeg.COMPLETE_ACKNOWLEDGE, 0, AutoNeg.ENABLE),
        (AutoNeg.IDLE_DETECT, 0, AutoNeg.ENABLE),
        (AutoNeg.IDLE_DETECT, OFFER | ACK, AutoNeg.IDLE_DETECT),
        (AutoNeg.LINK_OK, IDLE, AutoNeg.LINK_OK),
        (AutoNeg.LINK_OK, OFFER, AutoNeg.ENABLE),
    ],
)
def test_transitions_of_figure_37_6(state: AutoNeg, hears: int, then: AutoNeg) -> None:
    arbiter = Arbiter()
    arbiter.state, arbiter.partner, arbiter.due_ns = state, OFFER, 100
    arbiter.step(hears, 50, 10)
    assert arbiter.state is then


class Hurrying:
    """A clock that moves on by `step_ns` whenever it is read, as the wall clock does under load."""

    def __init__(self, step_ns: int) -> None:
        self._step_ns = step_ns
        self._now_ns = 0
        self.timers: list[tuple[int, Callable[[], Any]]] = []

    def now_ns(self) -> int:
        self._now_ns += self._step_ns
        return self._now_ns

    def call_at(self, when_ns: int, fn: Callable[[], Any]) -> Any:
        entry = (when_ns, fn)
        self.timers.append(entry)
        return SimpleNamespace(cancel=lambda: self.timers.remove(entry))

    def expire(self) -> None:
        entry = min(self.timers, key=itemgetter(0))
        self.timers.remove(entry)
        self._now_ns = max(self._now_ns, entry[0])
        entry[1]()


@pytest.mark.parametrize("step_ns", [1, LINK_TIMER_NS // 3, LINK_TIMER_NS, 2 * LINK_TIMER_NS])
def test_a_link_timer_that_ends_while_the_other_end_is_asked_is_not_lost(step_ns: int) -> None:
    clock = Hurrying(step_ns)
    tbi = Tbi(
        clock=cast("Any", clock),
        on_link=lambda link: None,
        on_light=lambda light: None,
        on_config=lambda was_up: None,
        on_errors=lambda frames: None,
        on_send=lambda config: None,
        autoneg_ns=DONE_NS,
    )
    tbi.cable(True, 1000, True)
    tbi.follow(0, ANE | OFFER)
    while clock.timers:
        clock.expire()
    assert tbi.link.up


# --- the registers -------------------------------------------------------------------------------


@pytest.mark.parametrize("model", FIBER)
@witness("STATUS.TBIMODE", "CTRL_EXT.LINK_MODE")
def test_the_strap_says_what_the_board_is(model: str) -> None:
    bench = board(model=model)
    assert rd(bench.nic, "STATUS") & TBIMODE
    assert rd(bench.nic, "CTRL_EXT") >> 22 & 3 == 3
    start(bench, 0, ctrl=SLU | CTRL_FD)
    assert up(bench)
    wr(bench.nic, "CTRL_EXT", 0)  # the MAC looks for a PHY, and there is none
    assert not rd(bench.nic, "STATUS") & (LU | TBIMODE)
    copper = make_bench().nic
    wr(copper, "CTRL_EXT", 3 << 22)
    assert rd(copper, "STATUS") & TBIMODE


@witness("CTRL.LRST")
def test_in_link_reset_nothing_is_sent_and_the_far_end_waits() -> None:
    bench = board()
    wr(bench.nic, "TXCW", ANE | OFFER)
    bench.clock.run_for(1_000_000_000)
    assert rd(bench.nic, "CTRL") & LRST
    assert not up(bench)
    assert rd(bench.nic, "RXCW") == 0
    start(bench)
    bench.clock.run_for(DONE_NS)
    assert up(bench)
    wr(bench.nic, "CTRL", rd(bench.nic, "CTRL") | LRST)
    assert not up(bench)


@witness("TXCW.ANE", "TXCW.TXCONFIG", "RXCW.RXCONFIG", "RXCW.RXC", "RXCW.ANC", "RXCW.RXSYNCH")
@witness("RXCW.RXCHANGE", "RXCW.RXNOCARRIER")
def test_the_hardware_negotiates() -> None:
    bench = board(FarEnd(pause=True))
    nic = bench.nic
    rd(nic, "ICR")
    start(bench, ANE | OFFER)
    assert rd(nic, "RXCW") == RXC | SYNCH | NOCARRIER
    assert rd(nic, "ICR") & (RXCFG | LSC) == RXCFG
    bench.clock.run_for(LINK_TIMER_NS)
    assert rd(nic, "RXCW") == RXC | SYNCH | NOCARRIER | CHANGE | FD | PAUSE
    assert not rd(nic, "RXCW") & CHANGE
    bench.clock.run_for(DONE_NS - LINK_TIMER_NS - 1)
    assert not up(bench)
    assert rd(nic, "RXCW") == SYNCH | NOCARRIER | FD | PAUSE
    bench.clock.run_for(1)
    assert rd(nic, "STATUS") & (LU | CTRL_FD) == LU | CTRL_FD
    assert rd(nic, "RXCW") == ANC | SYNCH | NOCARRIER | FD | PAUSE
    assert rd(nic, "ICR") & LSC
    # what is offered counts: half duplex is not common, so there is no link
    wr(nic, "TXCW", 0)
    start(bench, ANE | HD)
    bench.clock.run_for(1_000_000_000)
    assert rd(nic, "RXCW") & ANC
    assert not up(bench)


@pytest.mark.parametrize(
    ("ours", "far", "flow"),
    [
        (FD, FarEnd(pause=True), 0),
        (OFFER, FarEnd(pause=True), RFCE | TFCE),
        (OFFER, FarEnd(pause=False), 0),
        (OFFER, FarEnd(pause=False, asm_dir=True), RFCE),
        (FD | ASM_DIR, FarEnd(pause=True, asm_dir=True), TFCE),
        (FD | ASM_DIR, FarEnd(pause=True), 0),
    ],
)
def test_pause_is_resolved_into_ctrl(ours: int, far: FarEnd, flow: int) -> None:
    """IEEE 802.3 table 37-4; drivers leave the bits alone when the hardware negotiates."""
    bench = board(far)
    start(bench, ANE | ours, ctrl=0 if flow else RFCE)
    bench.clock.run_for(DONE_NS)
    assert up(bench)
    assert rd(bench.nic, "CTRL") & (RFCE | TFCE) == flow
    wr(bench.nic, "CTRL", rd(bench.nic, "CTRL") ^ RFCE)
    bench.clock.run_for(DONE_NS)
    assert rd(bench.nic, "CTRL") & (RFCE | TFCE) == flow ^ RFCE


def test_half_duplex_and_a_fault_are_told() -> None:
    bench = board()
    plug(bench, FarEnd(remote_fault=True), full_duplex=False)
    start(bench, ANE | FD | HD)
    bench.clock.run_for(DONE_NS)
    assert rd(bench.nic, "STATUS") & (LU | CTRL_FD) == LU
    assert rd(bench.nic, "RXCW") & 0x3060 == 0x1000 | HD


@witness("CTRL.SLU")
def test_a_far_end_that_does_not_negotiate_is_forced() -> None:
    bench = board(FarEnd(negotiates=False))
    nic = bench.nic
    start(bench, ANE | OFFER, ctrl=SLU)
    bench.clock.run_for(1_000_000_000)
    assert rd(nic, "RXCW") == SYNCH | NOCARRIER
    assert not up(bench)  # ANE goes before SLU (SDM 8.6.1.5)
    wr(nic, "TXCW", OFFER)
    assert rd(nic, "STATUS") & (LU | CTRL_FD) == LU | CTRL_FD
    wr(nic, "CTRL", rd(nic, "CTRL") & ~CTRL_FD)
    assert rd(nic, "STATUS") & (LU | CTRL_FD) == LU
    wr(nic, "CTRL", rd(nic, "CTRL") & ~SLU)
    assert not up(bench)


@witness("SEC.COUNT")
def test_a_far_end_that_begins_to_negotiate_is_heard_and_met() -> None:
    bench = board(FarEnd(negotiates=False))
    nic = bench.nic
    start(bench, OFFER, ctrl=SLU | CTRL_FD)
    rd(nic, "ICR")
    assert (up(bench), rd(nic, "RXCW") & RXC, rd(nic, "SEC")) == (True, 0, 0)
    plug(bench, FarEnd())
    assert rd(nic, "RXCW") & RXC
    assert rd(nic, "ICR") & (RXCFG | RXSEQ) == RXCFG | RXSEQ
    assert rd(nic, "SEC") == 1
    wr(nic, "TXCW", ANE | OFFER)
    wr(nic, "CTRL", rd(nic, "CTRL") & ~SLU)
    bench.clock.run_for(DONE_NS + LINK_TIMER_NS)
    assert up(bench)
    assert rd(nic, "RXCW") & (ANC | RXC) == ANC
    # and when it begins anew, the hardware does too
    plug(bench, FarEnd(asm_dir=True))
    assert not up(bench)
    bench.clock.run_for(DONE_NS + LINK_TIMER_NS)
    assert up(bench)
    assert rd(nic, "RXCW") & ASM_DIR


@witness("TXCW.TXC")
def test_software_can_negotiate() -> None:
    """The other way of SDM 8.6.1.4: figure 37-6 by register accesses."""
    bench = board(FarEnd(pause=True))
    nic = bench.nic
    start(bench, TXC, ctrl=SLU | CTRL_FD)
    bench.clock.run_for(LINK_TIMER_NS)
    assert not up(bench)
    assert rd(nic, "RXCW") & 0xFFFF == FD | PAUSE
    wr(nic, "TXCW", TXC | OFFER)
    assert rd(nic, "RXCW") & 0xFFFF == FD | PAUSE | ACK
    wr(nic, "TXCW", TXC | OFFER | ACK)
    bench.clock.run_for(LINK_TIMER_NS)
    assert not rd(nic, "RXCW") & RXC
    wr(nic, "TXCW", OFFER)
    bench.clock.run_for(LINK_TIMER_NS)
    assert up(bench)
    assert nic.tbi is not None
    assert nic.tbi.theirs.state is AutoNeg.LINK_OK
    assert not rd(nic, "RXCW") & ANC


@witness("RXCW.RXINVALID", "RXCW.RXSYNCH")
@pytest.mark.parametrize("txcw", [ANE | OFFER, OFFER])
def test_without_light_there_is_no_link(txcw: int) -> None:
    bench = board()
    nic = bench.nic
    start(bench, txcw, ctrl=SLU | CTRL_FD)
    bench.clock.run_for(DONE_NS)
    assert up(bench)
    rd(nic, "ICR")
    rd(nic, "RXCW")
    plug(bench, light=False)
    assert not up(bench)
    assert rd(nic, "ICR") & LSC
    assert rd(nic, "RXCW") & (SYNCH | NOCARRIER | RXC | ANC | INVALID) == INVALID
    assert not rd(nic, "RXCW") & INVALID
    plug(bench)
    bench.clock.run_for(DONE_NS)
    assert up(bench)
    assert rd(nic, "ICR") & LSC
    assert rd(nic, "RXCW") & SYNCH
    # a loss that is over shows once
    plug(bench, light=False)
    plug(bench)
    assert rd(nic, "RXCW") & (SYNCH | INVALID) == INVALID
    assert rd(nic, "RXCW") & (SYNCH | INVALID) == SYNCH


@pytest.mark.parametrize("model", FIBER)
def test_the_optics_drive_sdp1(model: str) -> None:
    """High with light, low on the 82544: what e1000_setup_fiber_serdes_link looks at."""
    bench = board(model=model)
    lit = PIN1 if model == BOARD else 0
    assert rd(bench.nic, "CTRL") & PIN1 == lit
    plug(bench, light=False)
    assert rd(bench.nic, "CTRL") & PIN1 == PIN1 ^ lit
    wr(bench.nic, "CTRL", 1 << 26)
    assert rd(bench.nic, "CTRL") & PIN1 == PIN1 ^ lit


def test_another_speed_is_light_that_cannot_be_read() -> None:
    bench = board()
    plug(bench, speed_mbps=100)
    start(bench, OFFER, ctrl=SLU)
    assert rd(bench.nic, "CTRL") & PIN1
    assert not rd(bench.nic, "RXCW") & SYNCH
    assert not up(bench)


def test_mdic_finds_no_phy() -> None:
    nic = board().nic
    wr(nic, "MDIC", 2 << 26 | 1 << 21 | 2 << 16)
    assert rd(nic, "MDIC") & 0x5000FFFF == 0x5000FFFF  # R, E and ones
    assert nic.misuse.count("phy-address") == 1


@witness("RCTL.LBM")
@pytest.mark.parametrize("lit", [True, False])
def test_the_transceiver_sends_frames_back(lit: bool) -> None:
    bench = board(light=lit)
    bench.guest.up(mac=bench.nic.mac, rctl=RX_ON | 3 << 6)
    bench.guest.send(frame(100))
    assert [f.data for f in bench.guest.receive()] == [frame(100)]
    assert bench.link.frames == []
    assert bench.nic.misuse.count("lbm-without-phy") == 0


@witness("SYMERRS.COUNT", "RXCW.RXINVALID")
def test_bad_symbols_are_counted_whoever_they_are_for() -> None:
    bench = board()
    bench.guest.up(mac=bench.nic.mac)
    nic = bench.nic
    rd(nic, "RXCW")
    stranger = b"\x02" + frame(100)[1:]
    bench.link.inject(frame(100), stranger, frame(100), flags=[FB_SYMBOL_ERR, FB_SYMBOL_ERR, 0])
    assert rd(nic, "SYMERRS") == 2
    assert rd(nic, "RXCW") & INVALID
    assert not rd(nic, "RXCW") & INVALID
    copper = make_bench()
    copper.guest.up(mac=copper.nic.mac)
    copper.clock.run_for(5_000_000_000)
    copper.link.inject(frame(100), flags=[FB_SYMBOL_ERR])
    assert rd(copper.nic, "SYMERRS") == 0


@pytest.mark.parametrize("model", FIBER)
def test_frames_go_and_come(model: str) -> None:
    bench = make_bench(model=model)
    bench.guest.up(mac=bench.nic.mac, rctl=RX_ON)
    assert bench.guest.send(frame(100)) == 1
    bench.link.inject(frame(200))
    assert bench.link.frames == [frame(100)]
    assert [f.data for f in bench.guest.receive()] == [frame(200)]


def test_autoneg_ns_shortens_the_negotiation() -> None:
    for autoneg_ns, timer in ((0, 1), (3_000, 1_000), (10**9, LINK_TIMER_NS)):
        bench = make_bench(model=BOARD)
        other = type(bench.nic)(
            memory=bench.dma,
            irq=bench.line,
            link=type(bench.link)(),
            clock=bench.clock,
            model=BOARD,
            autoneg_ns=autoneg_ns,
        )
        wr(other, "TXCW", ANE | OFFER)
        wr(other, "CTRL", 0)
        bench.clock.run_for(3 * timer - 1)
        assert not rd(other, "STATUS") & LU
        bench.clock.run_for(1)
        assert rd(other, "STATUS") & LU


def test_explain_says_what_keeps_the_link_down() -> None:
    bench = board(FarEnd(negotiates=False), light=False)
    nic = bench.nic

    def says(text: str) -> bool:
        return any(text in str(line) for line in nic.explain())

    assert says("unplugged")
    plug(bench, FarEnd(negotiates=False))
    assert says("CTRL.LRST")
    start(bench)
    assert says("negotiates (TXCW.ANE)")
    wr(nic, "TXCW", 0)
    assert says("CTRL.SLU does not force it")
    wr(nic, "CTRL_EXT", 0)
    assert says("LINK_MODE")
    wr(nic, "CTRL_EXT", 3 << 22)
    wr(nic, "CTRL", SLU)
    assert not says("No link")


# --- snapshots -----------------------------------------------------------------------------------


@pytest.mark.parametrize("part", range(6))
def test_a_negotiation_goes_on_after_a_snapshot(part: int) -> None:
    bench = board()
    start(bench)
    bench.clock.run_for(part * LINK_TIMER_NS // 2)
    state = bench.nic.state()
    rest = DONE_NS - part * LINK_TIMER_NS // 2
    other = board()
    other.clock.run_for(part * LINK_TIMER_NS // 2)
    other.nic.load_state(state)
    other.clock.run_for(rest - 1)
    assert not up(other)
    other.clock.run_for(1)
    assert up(other)
    assert rd(other.nic, "RXCW") & ANC


def test_the_light_is_what_it_is_now() -> None:
    bench = board()
    start(bench)
    bench.clock.run_for(DONE_NS)
    state = bench.nic.state()
    dark = board(light=False)
    dark.nic.load_state(state)
    assert not up(dark)
    assert not rd(dark.nic, "CTRL") & PIN1
    plug(dark)
    dark.clock.run_for(DONE_NS)
    assert up(dark)


@pytest.mark.parametrize(
    ("key", "value"),
    [("ctrl", -1), ("heard", -3), ("config", 1 << 16), ("ours", [9, 0, -1]), ("theirs", [1, 2])],
)
def test_a_damaged_state_is_refused(key: str, value: object) -> None:
    bench = board()
    state = msgspec.msgpack.decode(bench.nic.state())
    state["phy"][key] = value
    with pytest.raises(SnapshotError, match="damaged"):
        bench.nic.load_state(msgspec.msgpack.encode(state))


@pytest.mark.parametrize("model", FIBER)
def test_a_recording_is_replayed(model: str, tmp_path: Path) -> None:
    def act(bench: Bench) -> None:
        start(bench)
        bench.clock.run_for(DONE_NS)
        assert up(bench)
        assert rd(bench.nic, "RXCW") & ASM_DIR
        for light in (False, True):
            plug(bench, far, light=light)
            bench.clock.run_for(2 * DONE_NS)
            assert up(bench) is light
            assert bool(rd(bench.nic, "RXCW") & CHANGE) is False
        plug(bench, light=False)
        assert rd(bench.nic, "CTRL") & LRST == 0
        bench.guest.up(mac=bench.nic.mac, rctl=RX_ON)

    far = FarEnd(pause=False, asm_dir=True)
    same(recording(tmp_path / "fiber", act, model=model, far_end=far))


# --- two boards on one fibre ---------------------------------------------------------------------


class Far:
    """Two boards on the ends of a `pair`, in link reset."""

    def __init__(
        self, models: tuple[str, str] = (BOARD, BOARD), *, path: Path | None = None, **shape: Any
    ) -> None:
        self.clock = VirtualClock()
        self.ends = pair(self.clock, **shape)
        self.recorder = None if path is None else Recorder(path)
        self.nics = [
            Nic(
                memory=DmaTable(),
                irq=RecordingLine(self.clock),
                link=Impair(end) if i else end,
                clock=self.clock,
                model=model,
                mac=bytes((2, 0, 0, 0, 0, i)),
                record=None if i else self.recorder,
            )
            for i, (model, end) in enumerate(zip(models, self.ends, strict=True))
        ]
        for nic in self.nics:
            nic.slot.config_write(4, 7, 2)

    def start(self, which: int, txcw: int = ANE | OFFER, ctrl: int = 0) -> None:
        nic = self.nics[which]
        wr(nic, "TXCW", txcw)
        wr(nic, "CTRL", rd(nic, "CTRL") & ~LRST | ctrl)

    def links(self) -> list[bool]:
        return [bool(rd(nic, "STATUS") & LU) for nic in self.nics]


def test_two_boards_hear_each_other() -> None:
    far = Far(latency_ns=500)
    far.start(0, ANE | FD | ASM_DIR | PAUSE)
    far.clock.run_for(DONE_NS)
    assert far.links() == [False, False]  # the other one is in link reset
    far.start(1, ANE | FD | ASM_DIR)
    far.clock.run_for(DONE_NS + LINK_TIMER_NS)
    assert far.links() == [True, True]
    assert rd(far.nics[0], "RXCW") & 0xFFFF == FD | ASM_DIR
    assert rd(far.nics[1], "RXCW") & 0xFFFF == FD | ASM_DIR | PAUSE
    # Table 28B-3: the one end may send PAUSE frames, the other obeys them.
    assert rd(far.nics[0], "CTRL") & (RFCE | TFCE) == RFCE
    assert rd(far.nics[1], "CTRL") & (RFCE | TFCE) == TFCE


def test_a_board_that_begins_anew_takes_the_other_with_it() -> None:
    far = Far()
    far.start(0)
    far.start(1)
    far.clock.run_for(DONE_NS + 1)
    assert far.links() == [True, True]
    rd(far.nics[0], "ICR")
    wr(far.nics[1], "CTRL", rd(far.nics[1], "CTRL") | LRST)
    far.clock.run_for(1)
    assert far.links() == [False, False]
    assert rd(far.nics[0], "ICR") & LSC
    far.start(1, ANE | FD)
    far.clock.run_for(2 * DONE_NS)
    assert far.links() == [True, True]
    assert rd(far.nics[0], "RXCW") & 0xFFFF == FD
    far.ends[0].plug(False)
    assert far.links() == [False, False]
    far.ends[0].plug(True)
    far.clock.run_for(2 * DONE_NS)
    assert far.links() == [True, True]


def test_boards_that_share_no_mode_have_no_link() -> None:
    far = Far()
    far.start(0, ANE | FD)
    far.start(1, ANE | HD)
    far.clock.run_for(2 * DONE_NS)
    assert far.links() == [False, False]
    assert rd(far.nics[0], "RXCW") & 0xFFFF == HD


def test_a_board_that_is_forced_says_nothing_of_itself() -> None:
    far = Far()
    far.start(0, 0, ctrl=SLU | CTRL_FD)
    far.start(1)
    far.clock.run_for(2 * DONE_NS)
    assert far.links() == [True, False]  # it hears idles and waits; software forces it
    far.start(1, 0, ctrl=SLU | CTRL_FD)
    assert far.links() == [True, True]


def test_a_copper_board_at_the_other_end_has_the_model_in_its_place() -> None:
    far = Far((BOARD, "82545EM"))
    far.start(0)
    far.clock.run_for(DONE_NS)
    assert far.links()[0]
    assert far.ends[0].rx_config is None


def test_a_board_that_is_unplugged_says_nothing_any_more() -> None:
    far = Far()
    far.start(1)
    far.clock.run_for(1)
    assert far.ends[0].rx_config is not None
    far.nics[1].link.detach()
    assert far.ends[0].rx_config is None


@pytest.mark.parametrize("part", range(7))
def test_a_board_is_saved_within_a_negotiation_of_two(part: int) -> None:
    far, plain = Far(), Far()
    for each in (far, plain):
        each.start(0)
        each.start(1, ANE | FD | PAUSE)
        each.clock.run_for(part * LINK_TIMER_NS // 2)
    state = far.nics[0].state()
    far.nics[0].power_on_reset()
    far.nics[0].load_state(state)
    for each in (far, plain):
        each.clock.run_for(3 * DONE_NS)
        assert each.links() == [True, True]
        assert rd(each.nics[0], "RXCW") & 0xFFFF == FD | PAUSE


def test_a_recording_has_what_came_from_the_other_board(tmp_path: Path) -> None:
    far = Far(path=tmp_path / "two")
    assert far.recorder is not None
    far.start(0)
    far.start(1, ANE | FD | ASM_DIR)
    far.clock.run_for(2 * DONE_NS)
    far.start(1, 0, ctrl=SLU)
    far.clock.run_for(2 * DONE_NS)
    far.start(1, ANE | FD | PAUSE)
    far.clock.run_for(2 * DONE_NS)
    assert rd(far.nics[0], "RXCW") & 0xFFFF == FD | PAUSE
    far.recorder.close()
    done = same(tmp_path / "two")
    assert done.nic is not None
    assert done.nic.regs["RXCW"] == far.nics[0].regs["RXCW"]
    assert done.nic.link_up


def test_a_far_end_that_changes_is_in_a_recording(tmp_path: Path) -> None:
    def act(bench: Bench) -> None:
        start(bench)
        bench.clock.run_for(DONE_NS)
        for far in (FarEnd(pause=False), FarEnd(negotiates=False), None):
            plug(bench, far)
            bench.clock.run_for(2 * DONE_NS)
        assert rd(bench.nic, "RXCW") & 0xFFFF == FD | PAUSE

    done = same(recording(tmp_path / "far", act, model=BOARD, far_end=FarEnd(asm_dir=True)))
    assert done.nic is not None
    assert done.nic.link_up


# --- any order of events -------------------------------------------------------------------------

STEPS = st.one_of(
    st.tuples(st.just("ctrl"), st.sampled_from([0, LRST, SLU, SLU | CTRL_FD, LRST | SLU])),
    st.tuples(
        st.just("txcw"),
        st.sampled_from(
            [0, OFFER, TXC, TXC | OFFER, TXC | OFFER | ACK, ANE | OFFER, ANE | HD, ANE]
        ),
    ),
    st.tuples(st.just("light"), st.booleans()),
    st.tuples(
        st.just("far"),
        st.sampled_from([None, FarEnd(negotiates=False), FarEnd(pause=False, asm_dir=True)]),
    ),
    st.tuples(st.just("speed"), st.sampled_from([100, 1000])),
    st.tuples(st.just("time"), st.sampled_from([1, LINK_TIMER_NS // 2, LINK_TIMER_NS, DONE_NS])),
    st.tuples(st.just("reset"), st.sampled_from(["CTRL.RST", "bus", "power"])),
    st.tuples(st.just("snapshot"), st.none()),
    st.tuples(st.just("read"), st.none()),
)


def settled(ctrl: int, txcw: int, *, readable: bool, negotiates: bool) -> bool:
    """Return whether there is a link in the end, whatever was before."""
    if not readable or ctrl & LRST:
        return False
    if txcw & ANE:
        return negotiates and bool(txcw & FD)
    return bool(ctrl & SLU) and not txcw & TXC


@settings(max_examples=examples(150))
@given(st.lists(STEPS, max_size=25))
def test_any_order_of_events_ends_where_the_registers_say(steps: list[tuple[str, Any]]) -> None:
    bench = board()
    nic = bench.nic
    light, speed, far = True, 1000, None
    for name, value in steps:
        if name == "ctrl":
            wr(nic, "CTRL", value)
        elif name == "txcw":
            wr(nic, "TXCW", value)
        elif name == "time":
            bench.clock.run_for(value)
        elif name == "reset" and value == "CTRL.RST":
            wr(nic, "CTRL", 1 << 26)
        elif name == "reset":
            (nic.reset if value == "bus" else nic.power_on_reset)()
            nic.slot.config_write(4, 7, 2)
        elif name == "snapshot":
            before = rd(nic, "STATUS"), nic.regs["RXCW"], nic.regs["CTRL"]
            nic.load_state(nic.state())
            assert (rd(nic, "STATUS"), nic.regs["RXCW"], nic.regs["CTRL"]) == before
        elif name == "read":
            assert rd(nic, "RXCW") >= 0
        else:
            light = value if name == "light" else light
            speed = value if name == "speed" else speed
            far = value if name == "far" else far
            plug(bench, far, light=light, speed_mbps=speed)
        assert nic.regs["RXCW"] & ~(INVALID | CHANGE) == nic.tbi.rxcw & ~(INVALID | CHANGE)
        assert up(bench) <= (light and speed == 1000)
    bench.clock.run_for(10 * LINK_TIMER_NS)
    want = settled(
        nic.regs["CTRL"],
        nic.regs["TXCW"],
        readable=light and speed == 1000,
        negotiates=far is None or far.negotiates,
    )
    assert up(bench) is want
    assert bool(rd(nic, "CTRL") & PIN1) is light
    assert rd(nic, "RXCW") & reg("RXCW").mask("RXCONFIG") < 1 << 16
