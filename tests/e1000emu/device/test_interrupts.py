"""Causes, masks, throttling and delay timers, all by the clock."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from e1000emu.device.nic import Nic
from e1000emu.errors import E1000Error
from e1000emu.testing.bench import BENCH_MAC, Bench, make_bench
from e1000emu.testing.guest import TxCmd
from e1000emu.testing.recorders import RecordingLink
from tests.e1000emu.common import frame, off, post_tso, rd, running, wr
from tests.e1000emu.witness import witness

RXT0, TXDW, LSC = 0x80, 1, 4
ALL = 0x1FFFF
NAMES = """
    TXDW TXQE LSC RXSEQ RXDMT0 RSV5 RXO RXT0 RSV8 MDAC RXCFG RSV11 PHYINT GPI_SDP6 GPI_SDP7
    TXD_LOW SRPD
"""
CAUSES = NAMES.split()
"""By the number of their bit."""


@pytest.fixture
def bench() -> Bench:
    made = make_bench()
    rd(made.nic, "ICR")
    return made


def test_cause_without_mask_is_silent_and_icr_read_clears(bench: Bench) -> None:
    wr(bench.nic, "ICS", LSC)
    assert not bench.line.level
    assert rd(bench.nic, "ICR") == LSC
    assert rd(bench.nic, "ICR") == 0


def test_unmasking_a_waiting_cause_interrupts(bench: Bench) -> None:
    wr(bench.nic, "ICS", LSC)
    wr(bench.nic, "IMS", LSC)
    assert bench.line.level
    assert rd(bench.nic, "ICR") == LSC
    assert not bench.line.level


def test_ims_writes_accumulate_and_imc_drops_the_line(bench: Bench, nic: Nic) -> None:
    wr(nic, "IMS", LSC)
    wr(nic, "IMS", RXT0)
    assert rd(nic, "IMS") == LSC | RXT0
    wr(nic, "IMS", 0)
    assert rd(nic, "IMS") == LSC | RXT0
    wr(nic, "ICS", RXT0)
    assert bench.line.level
    wr(nic, "IMC", RXT0)
    assert not bench.line.level
    assert rd(nic, "IMS") == LSC
    wr(nic, "IMS", RXT0)
    assert bench.line.level


def test_writing_ones_to_icr_clears_those(bench: Bench, nic: Nic) -> None:
    wr(nic, "IMS", ALL)
    wr(nic, "ICS", LSC | RXT0)
    wr(nic, "ICR", LSC)
    assert bench.line.level
    wr(nic, "ICR", RXT0)
    assert not bench.line.level
    assert rd(nic, "ICR") == 0


@witness("IMS.{cause}", "ICS.{cause}", "ICR.{cause}")
@pytest.mark.parametrize(("bit", "cause"), list(enumerate(CAUSES)))
def test_every_cause_interrupts_also_the_reserved_ones(
    bench: Bench, bit: int, cause: str, nic: Nic
) -> None:
    wr(nic, "IMS", 1 << bit)
    wr(nic, "ICS", 1 << bit)
    assert bench.line.level
    assert rd(nic, "ICR") == 1 << bit
    wr(nic, "ICS", ALL & ~(1 << bit))
    assert not bench.line.level


@witness("IMC.{cause}")
@pytest.mark.parametrize(("bit", "cause"), list(enumerate(CAUSES)))
def test_every_cause_is_masked_by_its_own_bit(bench: Bench, bit: int, cause: str, nic: Nic) -> None:
    wr(nic, "IMS", ALL)
    wr(nic, "IMC", 1 << bit)
    assert rd(nic, "IMS") == ALL & ~(1 << bit)
    wr(nic, "ICS", 1 << bit)
    assert not bench.line.level
    wr(nic, "ICS", ALL)
    assert bench.line.level


def test_bits_above_16_do_nothing(bench: Bench) -> None:
    wr(bench.nic, "IMS", 0xFFFFFFFF)
    wr(bench.nic, "ICS", 0xFFFE0000)
    assert not bench.line.level
    assert rd(bench.nic, "IMS") == ALL
    assert rd(bench.nic, "ICS") == 0
    assert rd(bench.nic, "IMC") == 0


def test_line_follows_one_function_when_the_handler_runs_inside() -> None:
    """A handler that reads ICR inside set_level leaves the line low and is not run again."""
    bench = make_bench()
    nic, line = bench.nic, bench.line
    seen: list[int] = []
    line.on_rise = lambda: seen.append(rd(nic, "ICR"))
    rd(nic, "ICR")
    wr(nic, "IMS", ALL)
    wr(nic, "ICS", 0x11)
    assert seen == [0x11]
    assert not line.level
    assert not nic.interrupts.asserted


@given(st.integers(1, 0xFFFF), st.integers(0, 20_000_000))
def test_itr_keeps_assertions_apart_exactly(interval: int, wait: int) -> None:
    bench = make_bench()
    nic, clock, line = bench.nic, bench.clock, bench.line
    line.on_rise = lambda: rd(nic, "ICR")
    clock.run_for(100_000_000)
    rd(nic, "ICR")
    wr(nic, "ITR", interval)
    wr(nic, "IMS", RXT0)
    wr(nic, "ICS", RXT0)
    first = clock.now_ns()
    clock.run_for(wait)
    wr(nic, "ICS", RXT0)
    clock.run_for(20_000_000)
    rises = [t for t, level in line.edges if level]
    assert rises == [first, first + max(wait, interval * 256)]


def test_itr_zero_never_waits(bench: Bench, nic: Nic) -> None:
    bench.line.on_rise = lambda: rd(nic, "ICR")
    wr(nic, "IMS", ALL)
    for _ in range(5):
        wr(nic, "ICS", RXT0)
    assert bench.line.rises == 5


@witness("ITR.INTERVAL")
def test_clearing_the_cause_while_throttled_leaves_no_interrupt(bench: Bench, nic: Nic) -> None:
    wr(nic, "ITR", 1000)
    wr(nic, "IMS", RXT0)
    wr(nic, "ICS", RXT0)
    rd(nic, "ICR")
    wr(nic, "ICS", RXT0)
    assert not bench.line.level
    assert rd(nic, "ICR") == RXT0
    bench.clock.run_for(10_000_000)
    assert bench.line.rises == 1


def test_itr_written_while_waiting_takes_effect(bench: Bench, nic: Nic) -> None:
    wr(nic, "ITR", 0xFFFF)
    wr(nic, "IMS", RXT0)
    wr(nic, "ICS", RXT0)
    rd(nic, "ICR")
    wr(nic, "ICS", RXT0)
    assert not bench.line.level
    wr(nic, "ITR", 0)
    assert bench.line.level


# --- delays ---------------------------------------------------------------------


def test_rdtr_zero_is_at_once() -> None:
    bench = running(ims=RXT0)
    bench.link.inject(frame())
    assert bench.line.level


def test_rdtr_delays_and_each_frame_restarts_it() -> None:
    bench = running(ims=RXT0)
    nic, clock = bench.nic, bench.clock
    wr(nic, "RDTR", 100)
    for _ in range(5):
        bench.link.inject(frame())
        clock.run_for(100 * 1024 - 1)
        assert not bench.line.level
    clock.run_for(1)
    assert bench.line.level
    assert rd(nic, "ICR") & RXT0


def test_radv_bounds_the_delay() -> None:
    bench = running(ims=RXT0)
    nic, clock = bench.nic, bench.clock
    wr(nic, "RDTR", 100)
    wr(nic, "RADV", 250)
    start = clock.now_ns()
    for _ in range(10):
        bench.link.inject(frame())
        clock.run_for(50 * 1024)
    assert [t for t, level in bench.line.edges if level] == [start + 250 * 1024]


def test_radv_without_rdtr_is_off() -> None:
    bench = running(ims=RXT0)
    wr(bench.nic, "RADV", 250)
    bench.link.inject(frame())
    assert bench.line.level


def test_fpd_expires_a_running_timer_and_reads_zero() -> None:
    bench = running(ims=RXT0)
    nic = bench.nic
    wr(nic, "RDTR", 1 << 31 | 1000)
    assert not bench.line.level
    bench.link.inject(frame())
    assert not bench.line.level
    wr(nic, "RDTR", 1 << 31 | 1000)
    assert bench.line.level
    assert rd(nic, "RDTR") == 1000


def test_tidv_delays_ide_descriptors_only() -> None:
    bench = running(ims=TXDW)
    nic, guest, clock = bench.nic, bench.guest, bench.clock
    wr(nic, "TIDV", 64)
    ide = TxCmd.EOP | TxCmd.IFCS | TxCmd.RS | TxCmd.IDE
    guest.post_legacy(frame(), cmd=ide)
    wr(nic, "TDT", guest.tx.next_to_use)
    assert len(bench.link.take()) == 1
    assert not bench.line.level
    clock.run_for(64 * 1024 - 1)
    assert not bench.line.level
    clock.run_for(1)
    assert bench.line.level
    rd(nic, "ICR")
    guest.post_legacy(frame())
    wr(nic, "TDT", guest.tx.next_to_use)
    assert bench.line.level


def test_tadv_bounds_tidv() -> None:
    bench = running(ims=TXDW)
    nic, guest, clock = bench.nic, bench.guest, bench.clock
    wr(nic, "TIDV", 100)
    wr(nic, "TADV", 250)
    start = clock.now_ns()
    ide = TxCmd.EOP | TxCmd.IFCS | TxCmd.RS | TxCmd.IDE
    for _ in range(6):
        guest.post_legacy(frame(), cmd=ide)
        wr(nic, "TDT", guest.tx.next_to_use)
        clock.run_for(50 * 1024)
    assert [t for t, level in bench.line.edges if level] == [start + 250 * 1024]


def test_tidv_zero_is_at_once_and_fpd_flushes() -> None:
    bench = running(ims=TXDW)
    nic, guest = bench.nic, bench.guest
    ide = TxCmd.EOP | TxCmd.IFCS | TxCmd.RS | TxCmd.IDE
    guest.post_legacy(frame(), cmd=ide)
    wr(nic, "TDT", guest.tx.next_to_use)
    assert rd(nic, "ICR") & TXDW
    wr(nic, "TIDV", 1000)
    guest.post_legacy(frame(), cmd=ide)
    wr(nic, "TDT", guest.tx.next_to_use)
    assert not rd(nic, "ICR") & TXDW
    wr(nic, "TIDV", 1 << 31 | 1000)
    assert rd(nic, "ICR") & TXDW
    assert rd(nic, "TIDV") == 1000


def test_reset_stops_every_timer() -> None:
    bench = running(ims=RXT0 | TXDW)
    nic = bench.nic
    wr(nic, "RDTR", 1000)
    bench.link.inject(frame())
    wr(nic, "CTRL", 1 << 26)
    bench.clock.run_for(100_000_000)
    assert not bench.line.edges
    assert rd(nic, "ICR") == 0


@given(
    st.lists(
        st.tuples(st.integers(0, 300), st.integers(1, 50), st.integers(0, 90)),
        max_size=40,
    )
)
def test_the_delays_equal_a_model(events: list[tuple[int, int, int]]) -> None:
    """Packet and absolute timer against a direct model that looks at every microsecond unit."""
    bench = running(ims=RXT0)
    nic, clock = bench.nic, bench.clock
    bench.line.on_rise = lambda: rd(nic, "ICR")
    start = clock.now_ns()
    expected: list[int] = []
    packet = absolute = -1
    now = 0

    def advance(to: int) -> None:
        nonlocal packet, absolute
        if packet >= 0:
            due = min(packet, absolute) if absolute >= 0 else packet
            if due <= to:
                expected.append(start + due * 1024)
                packet = absolute = -1

    for wait, p, a in events:
        now += wait
        advance(now)
        clock.run_until(start + now * 1024)
        wr(nic, "RDTR", p)
        wr(nic, "RADV", a)
        bench.link.inject(frame())
        packet = now + p
        if a and absolute < 0:
            absolute = now + a
        bench.guest.receive()
    advance(10**6)
    clock.run_until(start + 10**6 * 1024)
    assert [at for at, level in bench.line.edges if level] == expected


TCP_HEADERS = (
    frame(14, kind=0x0800)
    + bytes.fromhex("4500000000014000400600000102030405060708")
    + bytes.fromhex("04d2162e000000000000000050181000101a0000")
)
"""The checksum of TCP is the pseudo header's, as drivers leave it."""


GRAN = 1 << 24
"""TXDCTL counts descriptors."""
PACKET = st.tuples(st.booleans(), st.sampled_from([0, TxCmd.RS, TxCmd.RS | TxCmd.IDE]))
RUN = st.tuples(st.integers(1, 400_000), st.booleans(), st.lists(PACKET, min_size=1, max_size=8))


@given(
    st.tuples(*[st.sampled_from([0, 1, 40, 300])] * 3),
    st.sampled_from([0, 1, 2]),
    st.sampled_from([0, 2, 3]),
    st.lists(RUN, max_size=12),
)
@example(  # the last of a run begins a delay that those before it do not end
    (0, 1, 0),
    0,
    0,
    [(1, False, [(False, TxCmd.RS), (False, TxCmd.RS | TxCmd.IDE)]), (1, True, [(False, 0)])],
)
@example(  # a delay of 0 ends in the run: what WTHRESH holds by then is written back, no more
    (0, 0, 0),
    0,
    2,
    [(1, True, [(False, TxCmd.RS | TxCmd.IDE), (False, TxCmd.RS)]), (1, False, [(False, 0)])],
)
def test_a_run_is_one_event_and_comes_to_what_its_packets_do_one_by_one(
    delays: tuple[int, int, int],
    lwthresh: int,
    wthresh: int,
    runs: list[tuple[int, bool, list[tuple[bool, int]]]],
) -> None:
    """ICR and the line agree by the nanosecond, whatever ITR, TIDV, TADV and TXD_LOW are. One
    doorbell for all sends super-frames to a link that takes them and segments to one that does not;
    it agrees with a doorbell for each."""
    seen = []
    ways = [(65535, False), (0, False)]
    if not lwthresh:  # which descriptors given one by one may never reach
        ways.append((0, True))
    for gso_max_bytes, one_by_one in ways:
        bench = make_bench(tx_count=64, link=RecordingLink(gso_max_bytes=gso_max_bytes))
        bench.guest.up(mac=BENCH_MAC, ims=0)
        bench.clock.run_for(5_000_000_000)
        rd(bench.nic, "ICR")
        bench.line.clear()
        for name, value in zip(("ITR", "TIDV", "TADV"), delays, strict=True):
            wr(bench.nic, name, value)
        wr(bench.nic, "TXDCTL", lwthresh << 25 | GRAN | wthresh << 16)
        wr(bench.nic, "IMS", ALL)
        told = []
        for wait_ns, handled, packets in runs:
            for is_tcp, flags in packets:
                if is_tcp:
                    post_tso(bench, TCP_HEADERS + bytes(300), mss=100, flags=flags)
                else:
                    bench.guest.post_legacy(frame(), cmd=TxCmd.EOP | TxCmd.IFCS | flags)
                if one_by_one:
                    bench.guest.kick()
            bench.guest.kick()
            bench.clock.run_for(wait_ns)
            if handled:
                told.append(rd(bench.nic, "ICR"))
            bench.guest.reap()
        bench.clock.run_for(10_000_000)
        told.append(rd(bench.nic, "ICR"))
        frames = bench.nic.stats["GPTC"]
        seen.append((bench.line.edges, told, frames))
        has_tcp = any(is_tcp for *_, packets in runs for is_tcp, _ in packets)
        super_frames = any(len(sent) > 154 for sent in bench.link.take())
        assert super_frames == (has_tcp and gso_max_bytes > 0)
    assert all(other == seen[0] for other in seen)


def test_the_moderation_is_chosen_by_name(bench: Bench) -> None:
    interrupts = bench.nic.interrupts
    assert interrupts.moderation == "datasheet"
    interrupts.moderation = "adaptive"
    assert interrupts.moderation == "adaptive"
    with pytest.raises(E1000Error, match=r"moderation 'eager': .* use one of datasheet, adaptive"):
        interrupts.moderation = "eager"
    assert interrupts.moderation == "adaptive"


@pytest.mark.parametrize("moderation", ["datasheet", "adaptive"])
def test_thick_traffic_interrupts_a_guest_less_often(moderation: str) -> None:
    """The policies of threads on a clock: 10 frames each 50 us, for 50 ms."""
    bench = running(ims=RXT0)
    nic, clock = bench.nic, bench.clock
    nic.interrupts.moderation = moderation
    bench.line.on_rise = lambda: rd(nic, "ICR")
    before = nic.interrupts.assertions
    for _ in range(1000):
        bench.link.inject(*[frame()] * 10)
        bench.guest.receive()
        clock.run_for(50_000)
    clock.run_for(10_000_000)
    count = nic.interrupts.assertions - before
    assert nic.interrupts.causes == 0
    assert count == 1000 if moderation == "datasheet" else 20 < count < 500


def test_interrupt_count_is_reported() -> None:
    bench = running(ims=RXT0)
    before = bench.nic.counters()["interrupts"]
    bench.link.inject(frame())
    assert bench.nic.counters()["interrupts"] == before + 1
    assert off("ICR") == 0xC0


def test_storm_of_causes_keeps_level_semantics() -> None:
    """ITR=0 and a handler that raises the next cause itself (device.md 27)."""
    bench = make_bench()
    nic, line = bench.nic, bench.line
    rd(nic, "ICR")
    pending: list[int] = []
    line.on_rise = lambda: pending.append(1)
    wr(nic, "IMS", ALL)
    wr(nic, "ICS", RXT0)
    handled = 0
    while line.level and handled < 1000:
        wr(nic, "ICS", LSC)
        assert rd(nic, "ICR") & LSC
        assert not line.level
        handled += 1
        if handled < 1000:
            wr(nic, "ICS", RXT0)
    assert handled == len(pending) == 1000
    assert nic.counters()["interrupts"] == 1000
