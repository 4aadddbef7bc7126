"""Thresholds of both rings: when descriptors are fetched, and when they go back together (SDM
13.4.43, 13.4.46)."""

from __future__ import annotations

import pytest

from e1000emu.testing.bench import Bench, make_bench
from tests.e1000emu.common import frame, rd, running, wr
from tests.e1000emu.witness import witness

GRAN, WTHRESH, HTHRESH = 1 << 24, 16, 8
RS, IDE, EOP_IFCS = 8, 0x80, 3
FPD = 1 << 31
TXDW, RXT0 = 1, 0x80
UNIT_NS = 1024
CACHE_LINE = 0x0C


def tx_done(bench: Bench) -> list[int]:
    """Return the first descriptors' DD."""
    ring = bench.guest.tx
    return [bench.memory.read(ring.address(i) + 12, 1)[0] & 1 for i in range(8)]


def rx_done(bench: Bench) -> list[int]:
    ring = bench.guest.rx
    return [bench.memory.read(ring.address(i) + 12, 1)[0] & 1 for i in range(8)]


def send(bench: Bench, *cmds: int) -> None:
    for cmd in cmds:
        bench.guest.post_legacy(frame(), cmd=cmd | EOP_IFCS)
    wr(bench.nic, "TDT", bench.guest.tx.next_to_use)


def transmitter(txdctl: int, **options: object) -> Bench:
    bench = running(**options)
    wr(bench.nic, "TXDCTL", txdctl)
    return bench


@witness("TXDCTL.WTHRESH", "TXDCTL.GRAN")
def test_transmit_descriptors_are_written_back_together() -> None:
    bench = transmitter(GRAN | 3 << WTHRESH)
    send(bench, RS)
    send(bench, RS)
    assert len(bench.link.take()) == 2, "sent at once"
    assert tx_done(bench) == [0] * 8
    assert not rd(bench.nic, "ICR") & TXDW
    send(bench, RS)
    assert tx_done(bench) == [1, 1, 1, 0, 0, 0, 0, 0]
    assert rd(bench.nic, "ICR") & TXDW


def test_they_gather_from_one_with_rs_on() -> None:
    bench = transmitter(GRAN | 2 << WTHRESH)
    send(bench, 0, 0, RS)
    assert tx_done(bench) == [0] * 8
    send(bench, 0)
    assert tx_done(bench) == [0, 0, 1, 1, 0, 0, 0, 0]
    send(bench, 0, RS)
    assert tx_done(bench)[4:] == [0] * 4


@pytest.mark.parametrize(
    ("tadv", "after"),
    [
        pytest.param(0, 100, marks=witness("TIDV.IDV")),
        pytest.param(40, 40, marks=witness("TADV.IDV")),
    ],
)
def test_the_transmit_delay_writes_back(tadv: int, after: int) -> None:
    bench = transmitter(GRAN | 8 << WTHRESH)
    wr(bench.nic, "TIDV", 100)
    wr(bench.nic, "TADV", tadv)
    send(bench, RS | IDE)
    send(bench, RS | IDE)
    bench.clock.run_for(after * UNIT_NS - 1)
    assert tx_done(bench) == [0] * 8
    bench.clock.run_for(1)
    assert tx_done(bench) == [1, 1, 0, 0, 0, 0, 0, 0]
    assert rd(bench.nic, "ICR") & TXDW


def test_a_burst_of_delayed_ones_still_waits_for_tidv_with_its_interrupt() -> None:
    bench = transmitter(GRAN | 2 << WTHRESH)
    wr(bench.nic, "TIDV", 100)
    send(bench, RS | IDE, RS | IDE)
    assert tx_done(bench)[:3] == [1, 1, 0]
    assert not rd(bench.nic, "ICR") & TXDW
    bench.clock.run_for(100 * UNIT_NS)
    assert rd(bench.nic, "ICR") & TXDW


def test_tidv_0_delays_nothing() -> None:
    bench = transmitter(GRAN | 8 << WTHRESH)
    send(bench, RS | IDE)
    assert tx_done(bench)[0] == 1
    assert rd(bench.nic, "ICR") & TXDW


@witness("{register}.FPD")
@pytest.mark.parametrize("register", ["TIDV", "RDTR"])
def test_a_flush_writes_back(register: str) -> None:
    bench = transmitter(GRAN | 8 << WTHRESH)
    wr(bench.nic, "RXDCTL", GRAN | 8 << WTHRESH)
    wr(bench.nic, register, 1000)
    send(bench, RS)
    bench.link.inject(frame())
    wr(bench.nic, register, 1000 | FPD)
    if register == "TIDV":
        assert tx_done(bench)[0] == 1
    else:
        assert rx_done(bench)[0] == 1


@witness("PCI:CACHE_LINE.VALUE")
@pytest.mark.parametrize(
    ("wthresh", "line", "gathered"), [(1, 8, 2), (2, 8, 4), (3, 4, 3), (63, 128, 63)]
)
def test_without_gran_it_counts_cache_lines(wthresh: int, line: int, gathered: int) -> None:
    """Four dwords are a descriptor."""
    bench = transmitter(wthresh << WTHRESH, tx_count=128)
    bench.nic.slot.config_write(CACHE_LINE, line, 1)
    ring = bench.guest.tx
    for n in range(1, gathered + 1):
        assert bench.memory.read(ring.address(0) + 12, 1)[0] & 1 == 0
        send(bench, RS)
        assert n == gathered or bench.memory.read(ring.address(0) + 12, 1)[0] & 1 == 0
    assert bench.memory.read(ring.address(0) + 12, 1)[0] & 1


def test_without_gran_and_a_cache_line_there_is_no_threshold() -> None:
    bench = transmitter(2 << WTHRESH)
    send(bench, RS)
    assert tx_done(bench)[0] == 1


def receiver(rdtr: int, wthresh: int) -> Bench:
    bench = running()
    wr(bench.nic, "RXDCTL", GRAN | wthresh << WTHRESH)
    wr(bench.nic, "RDTR", rdtr)
    return bench


@witness("RXDCTL.WTHRESH")
def test_receive_descriptors_are_written_back_together() -> None:
    bench = receiver(1000, 3)
    for n in range(1, 5):
        bench.link.inject(frame(60 + n))
        assert rx_done(bench)[:4] == ([0] * 4 if n < 3 else [1, 1, 1, 0])
    assert [len(f.data) for f in bench.guest.receive()] == [61, 62, 63]
    bench.clock.run_for(1000 * UNIT_NS)
    assert [len(f.data) for f in bench.guest.receive()] == [64]


@pytest.mark.parametrize(
    ("radv", "after"),
    [
        pytest.param(0, 100, marks=witness("RDTR.DELAY")),
        pytest.param(40, 40, marks=witness("RADV.DELAY")),
    ],
)
def test_the_receive_delay_writes_back(radv: int, after: int) -> None:
    bench = receiver(100, 8)
    wr(bench.nic, "RADV", radv)
    bench.link.inject(frame())
    bench.clock.run_for(after * UNIT_NS - 1)
    assert rx_done(bench)[0] == 0
    assert not rd(bench.nic, "ICR") & RXT0
    bench.clock.run_for(1)
    assert rx_done(bench)[0] == 1
    assert rd(bench.nic, "ICR") & RXT0


@witness("RXDCTL.GRAN")
def test_without_gran_the_receiver_counts_cache_lines(bench: Bench) -> None:
    """Eight dwords are two descriptors."""
    bench.nic.slot.config_write(CACHE_LINE, 8, 1)
    wr(bench.nic, "RXDCTL", 1 << WTHRESH)
    wr(bench.nic, "RDTR", 1000)
    bench.link.inject(frame())
    assert rx_done(bench)[:2] == [0, 0]
    bench.link.inject(frame())
    assert rx_done(bench)[:2] == [1, 1]


@pytest.mark.parametrize("wthresh", [0, 1, 2])
def test_a_lower_threshold_leaves_no_descriptor_behind(wthresh: int) -> None:
    bench = receiver(1000, 5)
    nic = bench.nic
    wr(nic, "TXDCTL", GRAN | 5 << WTHRESH)
    wr(nic, "TIDV", 1000)
    bench.link.inject(frame(), frame(), frame())
    send(bench, RS | IDE, RS, RS | IDE)
    assert tx_done(bench)[0] == rx_done(bench)[0] == 0
    assert not rd(nic, "ICR") & TXDW
    for name in ("RXDCTL", "TXDCTL"):
        wr(nic, name, GRAN | wthresh << WTHRESH)
    assert rd(nic, "ICR") & TXDW
    assert tx_done(bench)[:4] == rx_done(bench)[:4] == [1, 1, 1, 0]


def test_an_interrupt_at_once_writes_back_at_once() -> None:
    """RDTR 0: RXT0 does not wait, and what it tells of is there."""
    bench = receiver(0, 8)
    bench.link.inject(frame())
    assert rx_done(bench)[0] == 1


def test_what_is_held_survives_a_snapshot_and_goes_with_a_reset() -> None:
    bench = receiver(100, 8)
    nic = bench.nic
    wr(nic, "TXDCTL", GRAN | 8 << WTHRESH)
    wr(nic, "TIDV", 100)
    send(bench, RS | IDE)
    bench.link.inject(frame())
    state = nic.state()
    nic.power_on_reset()
    bench.clock.run_for(200 * UNIT_NS)
    assert tx_done(bench)[0] == rx_done(bench)[0] == 0
    copy = make_bench()
    copy.memory.buffer[:] = bench.memory.buffer
    copy.nic.load_state(state)
    copy.clock.run_for(6_000_000_000)
    copy.guest = bench.guest
    assert copy.memory.read(bench.guest.tx.address(0) + 12, 1)[0] & 1
    assert copy.memory.read(bench.guest.rx.address(0) + 12, 1)[0] & 1


def test_a_ring_that_moves_leaves_the_old_one_alone() -> None:
    bench = transmitter(GRAN | 8 << WTHRESH)
    wr(bench.nic, "TIDV", 100)
    send(bench, RS | IDE)
    wr(bench.nic, "TDH", 0)
    bench.clock.run_for(200 * UNIT_NS)
    assert tx_done(bench)[0] == 0


# Fetching. A descriptor that the chip has is what it was, whatever software does to it in memory.


def empty(bench: Bench) -> None:
    """Take all receive descriptors back."""
    wr(bench.nic, "RDT", 0)
    wr(bench.nic, "RDH", 0)
    assert bench.nic.rx.engine.cached() == 0


def given(bench: Bench, first: int, *, prefetch: int = 0) -> list[int]:
    """Give `first` receive descriptors, then 10 more; which of them are read again when used."""
    nic, guest = bench.nic, bench.guest
    empty(bench)
    wr(nic, "RXDCTL", prefetch | 1 << WTHRESH)
    wr(nic, "RDT", first)
    wr(nic, "RDT", first + 10)
    spare = bench.memory.alloc(2048)
    for i in range(first + 10):
        bench.memory.write64(guest.rx.address(i), spare)
    old = []
    for i in range(first + 10):
        bench.memory.write(spare, bytes(60))
        bench.link.inject(frame(60))
        assert rd(nic, "RDH") == i + 1
        old.append(bench.memory.read(spare, 60) == bytes(60))
    return [i for i, kept in enumerate(old) if not kept]


def on_wire(bench: Bench, *, txdctl: int) -> list[int]:
    """While a PAUSE holds the transmitter, give 2 descriptors, then 10; which are read again."""
    nic, guest = bench.nic, bench.guest
    wr(nic, "TXDCTL", txdctl)
    nic.tx.pause(bench.clock.now_ns() + 1_000_000)
    send(bench, RS, RS)
    send(bench, *[RS] * 10)
    spare = bench.memory.alloc(2048)
    bench.memory.write(spare, frame(60, src=b"\x02" * 6))
    for i in range(12):
        bench.memory.write64(guest.tx.address(i), spare)
    bench.clock.run_for(2_000_000)
    return [i for i, f in enumerate(bench.link.take()) if f[6:12] == b"\x02" * 6]


@witness("RXDCTL.PTHRESH")
@witness("RXDCTL.HTHRESH")
def test_receive_descriptors_are_fetched_by_the_thresholds() -> None:
    assert given(running(rx_count=64), 4) == list(range(4, 14)), "the cache was not empty"
    assert given(running(rx_count=64), 4, prefetch=GRAN | 5) == [], "4 are fewer than 5"
    assert given(running(rx_count=64), 4, prefetch=GRAN | 4) == list(range(4, 14))
    assert given(running(rx_count=64), 4, prefetch=GRAN | 5 | 10 << HTHRESH) == []
    assert given(running(rx_count=64), 4, prefetch=GRAN | 5 | 11 << HTHRESH) == list(range(4, 14))


@witness("TXDCTL.PTHRESH")
@witness("TXDCTL.HTHRESH")
def test_transmit_descriptors_are_fetched_by_the_thresholds() -> None:
    assert on_wire(running(), txdctl=0) == list(range(2, 12))
    assert on_wire(running(), txdctl=GRAN | 3) == []
    assert on_wire(running(), txdctl=GRAN | 2) == list(range(2, 12))
    assert on_wire(running(), txdctl=GRAN | 3 | 10 << HTHRESH) == []
    assert on_wire(running(), txdctl=GRAN | 3 | 11 << HTHRESH) == list(range(2, 12))


def test_without_gran_fetching_counts_cache_lines() -> None:
    bench = running(rx_count=64)
    bench.nic.slot.config_write(CACHE_LINE, 8, 1)
    assert given(bench, 4, prefetch=3) == [], "two descriptors are a line"


def test_the_chip_holds_64_descriptors() -> None:
    bench = running(rx_count=128)
    empty(bench)
    wr(bench.nic, "RDT", 100)
    assert bench.nic.rx.engine.cached() == 64
    for _ in range(64):
        bench.link.inject(frame())
    assert bench.nic.rx.engine.cached() == 36


def test_thresholds_that_are_raised_fetch_at_once() -> None:
    bench = running(rx_count=64)
    empty(bench)
    wr(bench.nic, "RDT", 2)
    wr(bench.nic, "RDT", 20)
    assert bench.nic.rx.engine.cached() == 2
    wr(bench.nic, "RXDCTL", GRAN | 31 | 1 << HTHRESH)
    assert bench.nic.rx.engine.cached() == 20


def test_what_was_fetched_survives_a_snapshot_and_goes_with_a_reset(bench: Bench) -> None:
    state = bench.nic.state()
    bench.nic.power_on_reset()
    assert bench.nic.rx.engine.cached() == 0
    spare = bench.memory.alloc(2048)
    bench.memory.write64(bench.guest.rx.address(0), spare)
    bench.nic.load_state(state)
    bench.clock.run_for(6_000_000_000)
    bench.link.inject(frame())
    assert bench.memory.read(bench.guest.rx.address(0) + 12, 1)[0] & 1
    assert bench.memory.read(spare, 60) != frame()
