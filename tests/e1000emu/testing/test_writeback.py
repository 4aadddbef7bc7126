"""A bench whose write-backs take time: who reads before DD sees old content, and is named."""

from __future__ import annotations

import pytest

from e1000emu import MisuseError
from e1000emu.errors import ArgumentError
from e1000emu.testing.bench import BENCH_MAC, Bench
from e1000emu.testing.guest import Int, Reg
from tests.e1000emu.common import frame

SECOND = 1_000_000_000
DELAY = 2_000
POISON = b"\xff"


def up(**options: int) -> Bench:
    bench = Bench(writeback_ns=DELAY, **options)
    bench.guest.up(mac=BENCH_MAC, ims=int(Int.RXT0 | Int.TXDW))
    bench.clock.run_for(3 * SECOND)
    bench.guest.read(Reg.ICR)
    bench.line.clear()
    return bench


def names(bench: Bench) -> list[str]:
    return [event.name for event in bench.nic.misuse.events()]


def test_a_driver_that_waits_sees_no_difference() -> None:
    bench = up(tx_count=16, rx_count=16)
    bench.nic.misuse.strict = True
    for number in range(100):
        wanted = frame(60 + number)
        assert bench.guest.send(wanted) == 1
        assert bench.link.take() == [wanted]
        assert bench.guest.read(Reg.ICR) & Int.TXDW
        bench.link.inject(wanted)
        bench.clock.run_for(DELAY)
        (got,) = bench.guest.receive()
        assert got.data == wanted
        bench.guest.read(Reg.ICR)
    assert bench.line.rises == 200
    assert names(bench) == []


def test_the_interrupt_comes_with_the_write_back() -> None:
    bench = up()
    start = bench.clock.now_ns()
    bench.link.inject(frame())
    bench.clock.run_for(DELAY - 1)
    assert not bench.line.level
    assert bench.guest.receive() == []
    bench.clock.run_for(1)
    assert bench.line.edges == [(start + DELAY, True)]
    bench.guest.read(Reg.ICR)
    bench.guest.post_legacy(frame())
    bench.guest.kick()
    bench.clock.run_for(DELAY - 1)
    assert not bench.line.level
    assert not bench.guest.tx_done(0)
    bench.clock.run_for(1)
    assert bench.line.level
    assert bench.guest.tx_done(0)


def test_data_and_length_are_the_old_ones_before_dd_and_that_is_named() -> None:
    bench = up()
    for _ in range(3):
        bench.link.inject(frame())
    assert bench.guest.receive() == []  # it polls the status, which is no misuse
    address, _ = bench.guest.rx.buffers[1]
    assert names(bench) == []
    assert bench.memory.read(address, 60) == POISON * 60
    (event,) = bench.nic.misuse.events()
    assert (event.name, event.descriptor, event.count) == ("rx-before-dd", 1, 1)
    assert event.last == f"descriptor 1, {DELAY} ns before its DD"
    bench.clock.run_for(500)
    assert bench.memory.read(bench.guest.rx.address(2) + 8, 2) == b"\0\0"
    assert bench.nic.misuse.cases()[-1].last == f"descriptor 2, {DELAY - 500} ns before its DD"
    assert any("rx-before-dd" in line for line in bench.nic.explain())
    bench.clock.run_for(DELAY)
    assert bench.memory.read(bench.guest.rx.address(2) + 8, 2) == (60).to_bytes(2, "little")
    assert bench.memory.read(address, 60) == frame()
    assert bench.nic.misuse.count("rx-before-dd") == 2


def test_descriptors_that_are_given_again_before_dd_are_named() -> None:
    bench = up(rx_count=16, tx_count=16)
    bench.link.inject(frame())
    bench.guest.write(Reg.RDT, 0)
    bench.guest.write(Reg.RDT, 2)
    bench.clock.run_for(0)
    assert [(e.name, e.descriptor) for e in bench.nic.misuse.events()] == [("rx-before-dd", 0)]
    bench.nic.misuse.clear()
    bench.clock.run_for(DELAY)
    for _ in range(15):
        bench.guest.post_legacy(frame())
    bench.guest.kick()
    bench.clock.run_for(0)
    assert names(bench) == []
    bench.guest.post_legacy(frame())
    bench.guest.post_legacy(frame())
    bench.guest.kick()
    bench.clock.run_for(0)
    assert [(e.name, e.descriptor) for e in bench.nic.misuse.events()] == [("tx-before-dd", 0)]


def test_strict_raises_at_the_read() -> None:
    bench = up()
    bench.nic.misuse.strict = True
    bench.link.inject(frame())
    with pytest.raises(MisuseError, match="wait for DD"):
        bench.memory.read32(bench.guest.rx.buffers[0][0])


def test_a_reset_ends_what_has_not_shown() -> None:
    bench = up()
    bench.link.inject(frame())
    bench.guest.reset()
    bench.clock.run_for(SECOND)
    assert bench.memory.read(bench.guest.rx.buffers[0][0], 60) == POISON * 60
    assert not bench.line.level


def test_what_no_memory_answers_aborts() -> None:
    bench = up()
    bench.guest.post_legacy(None, address=9 << 32, length=60)
    bench.guest.kick()
    bench.clock.run_for(DELAY)
    assert bench.dma.aborts
    assert names(bench) == ["tx-data-abort"]


@pytest.mark.parametrize("bad", [-1, 1.5, "2us"])
def test_a_bad_time_is_refused(bad: object) -> None:
    with pytest.raises(ArgumentError, match="writeback_ns"):
        Bench(writeback_ns=bad)  # type: ignore[arg-type]
