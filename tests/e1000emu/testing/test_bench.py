"""A bench: what closes it."""

from __future__ import annotations

from e1000emu.testing import Bench


def test_a_bench_that_is_closed_does_nothing_any_more() -> None:
    with Bench() as bench:
        bench.guest.up()
        bench.clock.run_for(3_000_000_000)
        assert bench.guest.send(bytes(60)) == 1
    now = bench.clock.now_ns()
    bench.clock.run_until_idle(1_000_000_000)
    assert bench.clock.now_ns() == now  # no timer is left
    bench.close()
