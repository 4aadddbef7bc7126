"""Host timers: order, lazy re-arming, deletion, deferrable ones; against a simple model."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e1000emu.clock import SimulationDeadlock, VirtualClock
from stack.core.softirq import in_softirq, local_bh_disable, local_bh_enable
from stack.core.timer import (
    TIMER_DEFERRABLE,
    add_timer,
    mod_timer,
    timer_delete,
    timer_list,
    timer_pending,
    timer_shutdown,
)
from stack.host import Host
from tests.support import examples


def recording(host, log, name="t"):
    def fn(timer):
        assert in_softirq(host.machine)
        assert not timer.pending
        log.append((host.now(), name))

    return timer_list(host.machine, fn)


@pytest.fixture
def log():
    """When which timer ran."""
    return []


@pytest.fixture
def timer(host, log):
    return recording(host, log)


def test_a_timer_runs_once_in_softirq_context(host, log, timer):
    assert mod_timer(timer, 100) == 0
    assert timer_pending(timer)
    host.clock.run_until_idle()
    assert log == [(100, "t")]
    assert not timer_pending(timer)


def test_rearming_later_costs_no_event_and_runs_at_the_later_time(host, log, timer):
    mod_timer(timer, 100)
    entries = len(host.machine.timers.heap)
    assert mod_timer(timer, 500) == 1
    assert mod_timer(timer, 300) == 1
    assert len(host.machine.timers.heap) == entries
    host.clock.run_until_idle()
    assert log == [(300, "t")]


def test_rearming_earlier_wins(host, log, timer):
    mod_timer(timer, 500)
    mod_timer(timer, 100)
    host.clock.run_until_idle()
    assert log == [(100, "t")]


def test_deleted_timers_do_not_run_and_do_not_hold_the_clock(host, log, timer):
    mod_timer(timer, 100)
    assert timer_delete(timer) == 1
    assert timer_delete(timer) == 0
    assert host.clock.run_until_idle()
    assert (log, host.now()) == ([], 0)
    mod_timer(timer, 700)  # the old heap entry serves again
    host.clock.run_until_idle()
    assert log == [(700, "t")]


def test_a_timer_may_rearm_itself(host, log):
    def fn(timer):
        log.append(host.now())
        if len(log) < 3:
            mod_timer(timer, host.now() + 10)

    timer = timer_list(host.machine)
    timer.function = fn
    timer.expires = 10
    add_timer(timer)
    host.clock.run_until_idle()
    assert log == [10, 20, 30]


def test_timers_wait_while_bottom_halves_are_off(host, log, timer):
    mod_timer(timer, 10)
    local_bh_disable(host.machine)
    host.clock.run_until(20)
    assert log == []
    local_bh_enable(host.machine)
    assert log == [(20, "t")]


def test_deferrable_timers_run_but_keep_nobody_waiting(host, log):
    def fn(timer):
        log.append(host.now())
        mod_timer(timer, host.now() + 1_000_000_000)

    timer = timer_list(host.machine, fn, TIMER_DEFERRABLE)
    mod_timer(timer, 1_000_000_000)
    assert host.clock.run_until_idle()
    with pytest.raises(SimulationDeadlock):
        host.clock.wait(lambda: False)
    assert len(log) > 10


def test_close_stops_all_timers():
    clock = VirtualClock()
    log = []
    host = Host(clock=clock, inet=False, drivers=False)
    mod_timer(recording(host, log), 10)
    host.close()
    host.close()
    clock.run_until_idle()
    assert log == []


def test_a_timer_that_was_shut_down_is_never_armed_again_and_holds_nothing(host, log, timer):
    timer.data = object()
    mod_timer(timer, 100)
    assert timer_shutdown(timer) == 1
    assert timer_shutdown(timer) == 0
    assert timer.data is None
    assert mod_timer(timer, 200) == 0
    assert not timer_pending(timer)
    assert host.clock.run_until_idle()
    assert (log, host.now()) == ([], 0)


def test_the_heap_does_not_keep_what_nothing_can_come_of(host, log):
    staying = recording(host, log, "staying")
    mod_timer(staying, 10**9)
    for n in range(5000):
        timer = recording(host, log)
        mod_timer(timer, 10**6 + n)
        mod_timer(timer, 10**5 + n)  # the first entry is dead
        timer_shutdown(timer)
    assert len(host.machine.timers.heap) < 300
    assert host.machine.timers.active == 1
    host.clock.run_until_idle()
    assert log == [(10**9, "staying")]


@given(
    st.lists(
        st.tuples(st.sampled_from("marrd"), st.integers(0, 7), st.integers(1, 30)), max_size=80
    ),
    st.integers(0, 300),
)
@settings(max_examples=examples(100), deadline=None)
def test_throwing_dead_entries_out_changes_neither_order_nor_times(ops, crowd):
    """Two hosts do the same; on one the passing timers are shut down, on the other only deleted."""
    logs = []
    for end in (timer_shutdown, timer_delete):
        clock = VirtualClock()
        host = Host(clock=clock, inet=False, drivers=False)
        log = []
        timers = [recording(host, log, n) for n in range(8)]
        for op, n, value in ops:
            when = clock.now_ns() + value
            if op == "m":
                mod_timer(timers[n], when)
            elif op == "a":  # a crowd comes and goes, at the same times
                for k in range(crowd):
                    passing = recording(host, log, "passing")
                    mod_timer(passing, when + k % 5)
                    end(passing)
            elif op == "r":
                clock.run_until(when)
            else:
                timer_delete(timers[n])
        clock.run_until_idle()
        logs.append((log, clock.now_ns()))
        host.close()
    assert logs[0] == logs[1]


operations = st.lists(
    st.tuples(
        st.sampled_from(["mod", "mod", "mod", "del", "run"]),
        st.integers(0, 4),
        st.integers(1, 200),
    ),
    max_size=60,
)


@given(operations)
@settings(max_examples=examples(150))
def test_timers_behave_as_a_plain_dict_of_deadlines(ops):
    clock = VirtualClock()
    host = Host(clock=clock, inet=False, drivers=False)
    log = []
    timers = [recording(host, log, n) for n in range(5)]
    model: dict[int, int] = {}
    expected = []

    def model_run(until):
        for when, n in sorted((when, n) for n, when in model.items()):
            if when <= until:
                expected.append((when, n))
                del model[n]

    for op, n, value in ops:
        if op == "mod":
            when = clock.now_ns() + value
            assert mod_timer(timers[n], when) == (1 if n in model else 0)
            model[n] = when
        elif op == "del":
            assert timer_delete(timers[n]) == (1 if model.pop(n, None) is not None else 0)
        else:
            until = clock.now_ns() + value
            clock.run_until(until)
            model_run(until)
            assert sorted(log) == sorted(expected)
        assert {n for n in range(5) if timers[n].pending} == set(model)
    clock.run_until_idle()
    model_run(1 << 62)
    assert sorted(log) == sorted(expected)
    assert [when for when, _ in log] == sorted(when for when, _ in log)
    host.close()
