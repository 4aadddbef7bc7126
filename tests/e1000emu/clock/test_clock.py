"""The three clocks: order, determinism, waiting, cooperative tasks, readers, asyncio."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e1000emu.clock import (
    EVENT_MAX_NS,
    EVENT_NS,
    INSTANT_EVENTS,
    AsyncioClock,
    ClockError,
    RealClock,
    SimulationDeadlock,
    VirtualClock,
)
from e1000emu.errors import ArgumentError
from tests.support import examples

MS = 1_000_000


@pytest.fixture
def clock():
    return VirtualClock()


def test_events_run_by_time_then_by_order_of_scheduling(clock):
    seen = []
    clock.call_at(20, lambda: seen.append((clock.now_ns(), "c")))
    clock.call_at(10, lambda: seen.append((clock.now_ns(), "a")))
    clock.call_at(10, lambda: seen.append((clock.now_ns(), "b")))
    clock.call_soon(lambda: seen.append((clock.now_ns(), "soon")))
    clock.run_until(15)
    assert seen == [(0, "soon"), (10, "a"), (10, "b")]
    assert clock.now_ns() == 15
    clock.run_until_idle()
    assert seen[-1] == (20, "c")


def test_call_soon_runs_before_a_timer_of_the_same_time(clock):
    seen = []

    def first():
        seen.append(1)
        clock.call_soon(lambda: seen.append(2))

    clock.call_at(5, first)
    clock.call_at(5, lambda: seen.append(3))
    clock.run_until(5)
    assert seen == [1, 2, 3]


def endless(clock):
    """Something that always has more to do at once."""

    def again():
        times.append(clock.now_ns())
        clock.call_soon(again)

    times = []
    clock.call_soon(again)
    return times


def test_a_queue_that_never_ends_takes_time(clock):
    times = endless(clock)
    due = []
    for when in (1, 5_000, 5_500, 40_000_000):
        clock.call_at(when, lambda: due.append(clock.now_ns()))
    clock.run_for(50_000_000)
    assert clock.now_ns() == 50_000_000
    assert times[: INSTANT_EVENTS - 1] == [0] * (INSTANT_EVENTS - 1)
    assert 0 < times[INSTANT_EVENTS] <= 2 * EVENT_NS
    assert times == sorted(times)
    # Timers take turns with the queue: at most two events late.
    assert [at - when for at, when in zip(due, (1, 5_000, 5_500, 40_000_000), strict=True)] == (
        pytest.approx([0] * 4, abs=2 * EVENT_NS)
    )
    ran = len(times)
    clock.run_for(1_000_000)
    assert clock.now_ns() == 51_000_000
    assert len(times) > ran


def test_the_longer_a_queue_goes_on_the_more_time_it_takes(clock):
    times = endless(clock)
    clock.run_for(60_000_000_000)
    assert clock.now_ns() == 60_000_000_000
    assert len(times) < 20 * INSTANT_EVENTS
    assert times[-1] - times[-2] <= EVENT_MAX_NS


@pytest.mark.parametrize("events", [1, 1000, INSTANT_EVENTS - 2])
def test_what_ends_by_itself_takes_no_time(events, clock):
    left = events

    def some():
        nonlocal left
        left -= 1
        if left:
            clock.call_soon(some)
        elif clock.now_ns() < 3 * MS:  # and once more at the next instant, from the start
            left = events
            clock.call_at(clock.now_ns() + MS, some)
        ends.add(clock.now_ns() % MS)

    ends = set()
    clock.call_soon(some)
    assert clock.run_until_idle()
    assert clock.now_ns() == 3 * MS
    assert ends == {0}


def test_every_way_to_run_a_clock_comes_to_its_end(clock):
    times = endless(clock)
    assert not clock.wait(lambda: False, 20 * MS)
    assert clock.now_ns() == 20 * MS
    assert not clock.run_until_idle(20 * MS)
    assert clock.now_ns() == 40 * MS
    clock.call_at(60 * MS, times.clear)
    assert clock.wait(lambda: len(times) < 100)
    assert clock.now_ns() == pytest.approx(60 * MS, abs=2 * EVENT_MAX_NS)


def test_a_run_that_may_not_move_time_has_events_of_its_own(clock):
    times = endless(clock)
    for _ in range(5):
        before = len(times)
        clock.run_for(0)
        assert len(times) == before + INSTANT_EVENTS
        assert not clock.wait(lambda: False, 0)
    assert clock.now_ns() == 0


def test_many_short_runs_without_events_are_no_crowd(clock):
    for _ in range(INSTANT_EVENTS + 10):
        clock.run_for(1)
    assert clock.now_ns() == INSTANT_EVENTS + 10
    seen = []
    clock.call_soon(lambda: seen.append(clock.now_ns()))
    clock.run_for(0)
    assert seen == [INSTANT_EVENTS + 10]


def test_tasks_that_only_wake_each_other_do_not_stop_time(monkeypatch):
    # Turns of threads cost more than events do. The number is the same for both; here it is less.
    monkeypatch.setattr("e1000emu.clock.virtual.INSTANT_EVENTS", 2000)
    clock = VirtualClock()
    turns = []

    def play(mine):
        while True:
            clock.wait(lambda: len(turns) % 2 == mine)
            turns.append(mine)

    for mine in range(2):
        clock.spawn(play, mine)
    due = []
    clock.call_at(3 * MS, lambda: due.append(clock.now_ns()))
    clock.run_for(10 * MS)
    assert clock.now_ns() == 10 * MS
    assert due == [3 * MS]
    clock.close()


def test_a_time_in_the_past_does_not_move_the_clock_back():
    clock = VirtualClock(100)
    seen = []
    clock.call_at(50, lambda: seen.append(clock.now_ns()))
    clock.run_until_idle()
    assert seen == [100]


def test_cancelled_calls_neither_run_nor_move_time(clock):
    seen = []
    handle = clock.call_at(10, lambda: seen.append(1))
    handle.cancel()
    handle.cancel()
    assert handle.cancelled
    assert clock.run_until_idle()
    assert (seen, clock.now_ns(), clock.next_ns()) == ([], 0, None)


def test_wait_returns_as_soon_as_the_condition_holds(clock):
    seen = []
    for when in (10, 20, 30):
        clock.call_at(when, lambda: seen.append(1))
    assert clock.wait(lambda: len(seen) == 2)
    assert clock.now_ns() == 20


def test_wait_times_out_at_the_exact_time(clock):
    clock.call_at(1000, lambda: None)
    assert not clock.wait(lambda: False, 500)
    assert clock.now_ns() == 500
    assert not clock.wait(lambda: False, 500)
    assert clock.now_ns() == 1000


def test_wait_with_nothing_left_names_the_deadlock(clock):
    def never_true():
        return False

    with pytest.raises(SimulationDeadlock, match="never_true"):
        clock.wait(never_true)


def test_housekeeping_alone_does_not_keep_a_wait_alive(clock):
    runs = []

    def housekeeping():
        runs.append(clock.now_ns())
        clock.call_at(clock.now_ns() + 2_000_000_000, housekeeping, background=True)

    housekeeping()
    with pytest.raises(SimulationDeadlock):
        clock.wait(lambda: False)
    assert 100 < len(runs) < 200
    assert clock.run_until_idle()


def test_run_until_idle_stops_at_its_limit(clock):
    def again():
        clock.call_at(clock.now_ns() + MS, again)

    again()
    assert not clock.run_until_idle(10 * MS)
    assert clock.now_ns() == 10 * MS


def test_file_descriptors_are_refused_with_the_remedy():
    with pytest.raises(ClockError, match="RealClock"):
        VirtualClock().add_reader(0, lambda: None)


def test_tasks_take_turns_and_wait_in_virtual_time(clock):
    log = []

    def worker(name, period):
        for _ in range(3):
            assert not clock.wait(lambda: False, period)
            log.append((clock.now_ns(), name))
        return name

    tasks = [clock.spawn(worker, "a", 10), clock.spawn(worker, "b", 15)]
    assert [t.join() for t in tasks] == ["a", "b"]
    assert log == [(10, "a"), (15, "b"), (20, "a"), (30, "b"), (30, "a"), (45, "b")]


def test_a_task_wakes_another_through_shared_state(clock):
    box = []

    def consumer():
        clock.wait(lambda: bool(box))
        return box.pop(), clock.now_ns()

    task = clock.spawn(consumer)
    clock.call_at(77, lambda: box.append("x"))
    assert task.join() == ("x", 77)


def test_a_task_that_raises_raises_in_join(clock):
    def bad():
        raise ValueError("bad task")

    with pytest.raises(ValueError, match="bad task"):
        clock.spawn(bad).join()


def test_join_times_out(clock):
    task = clock.spawn(lambda: clock.wait(lambda: False, 1000))
    with pytest.raises(TimeoutError):
        task.join(10)
    assert task.join() is False


def test_close_ends_tasks_that_still_wait(clock):
    log = []

    def waits():
        try:
            clock.wait(lambda: False, 10**9)
        except ClockError as exc:
            log.append(str(exc))
            raise

    clock.spawn(waits, name="forgotten")
    clock.spawn(waits, name="never ran")
    clock.run_for(10)
    clock.call_soon(lambda: log.append("never"))
    clock.close()
    assert log == [
        "task 'forgotten': the simulation ended",
        "task 'never ran': the simulation ended",
    ]
    clock.run_until_idle()
    assert len(log) == 2


@given(st.integers(0, 2**32))
@settings(max_examples=examples(25), deadline=None)
def test_the_same_seed_gives_the_same_run(seed):
    def run():
        rng = random.Random(seed)
        clock = VirtualClock()
        trace = []

        def event(number):
            trace.append((clock.now_ns(), number))
            for _ in range(rng.randrange(3)):
                if len(trace) < 200:
                    child = rng.randrange(1000)
                    if rng.random() < 0.3:
                        clock.call_soon(partial(event, child))
                    else:
                        handle = clock.call_at(
                            clock.now_ns() + rng.randrange(50), partial(event, child)
                        )
                        if rng.random() < 0.1:
                            handle.cancel()

        for number in range(5):
            clock.call_at(rng.randrange(20), lambda number=number: event(number))
        clock.run_until_idle()
        return trace

    first = run()
    assert first == run()
    assert [t for t, _ in first] == sorted(t for t, _ in first)


@pytest.fixture
def real():
    clock = RealClock()
    yield clock
    clock.close()


def test_a_reader_of_a_descriptor_that_has_become_another_is_not_called(real):
    """Both are readable at once; the first that is called closes the other's and opens it anew."""
    fds = [os.eventfd(1, os.EFD_NONBLOCK) for _ in range(2)]
    called = []

    def reader(me):
        def readable():
            called.append(me)
            os.eventfd_read(fds[me])
            if len(called) == 1:
                other = 1 - me
                real.remove_reader(fds[other])
                os.close(fds[other])
                assert os.eventfd(0, os.EFD_NONBLOCK) == fds[other]
                real.add_reader(fds[other], lambda: called.append("new"))

        return readable

    for me, fd in enumerate(fds):
        real.add_reader(fd, reader(me))
    try:
        with real.lock:
            real.wait(lambda: False, 2 * MS)
            assert len(called) == 1
            os.eventfd_write(fds[1 - called[0]], 1)
            assert real.wait(lambda: "new" in called, 60_000 * MS)
    finally:
        for fd in fds:
            real.remove_reader(fd)
            os.close(fd)


def test_what_a_callback_has_waited_for_is_not_called_again(real):
    """Both are readable at once; the first that is called waits for what the other does."""
    fds = [os.eventfd(1, os.EFD_NONBLOCK) for _ in range(2)]
    called = []

    def reader(me):
        def readable():
            called.append(me)
            os.eventfd_read(fds[me])  # raises when it is not readable
            if len(called) == 1:
                assert real.wait(lambda: len(called) == 2, 60_000 * MS)

        return readable

    for me, fd in enumerate(fds):
        real.add_reader(fd, reader(me))
    try:
        with real.lock:
            assert real.wait(lambda: len(called) == 2, 60_000 * MS)
            real.wait(lambda: False, 2 * MS)
        assert sorted(called) == [0, 1]
    finally:
        for fd in fds:
            real.remove_reader(fd)
            os.close(fd)


def test_real_clock_runs_timers_in_the_waiting_thread(real):
    seen = []
    with real.lock:
        real.call_at(real.now_ns() + MS, lambda: seen.append(1))
        real.call_soon(lambda: seen.append(0))
        assert real.wait(lambda: len(seen) == 2, 60_000 * MS)
    assert seen == [0, 1]


def test_real_clock_wait_times_out(real):
    with real.lock:
        assert not real.wait(lambda: False, 2 * MS)


@pytest.fixture(params=["virtual", "real", "asyncio"])
def any_clock(request):
    if request.param == "virtual":
        yield VirtualClock()
        return
    loop = asyncio.new_event_loop()
    clock = RealClock() if request.param == "real" else AsyncioClock(loop)
    yield clock
    clock.close()
    loop.close()


def test_what_is_there_when_the_timeout_passes_is_done_first(any_clock):
    """A frame takes turns of the loop to its socket, and the process may not run meanwhile."""
    came = []

    def hop(left):
        if left:
            any_clock.call_soon(lambda: hop(left - 1))
        else:
            came.append(True)

    any_clock.call_soon(lambda: (time.sleep(0.002), hop(5)))
    with any_clock.lock:
        assert any_clock.wait(lambda: bool(came), MS)
        any_clock.call_soon(lambda: hop(5))
        came.clear()
        assert any_clock.wait(lambda: bool(came), 0)
        assert not any_clock.wait(lambda: len(came) > 1, 0)


@pytest.mark.parametrize("any_clock", ["real", "asyncio"], indirect=True)
def test_what_a_descriptor_has_when_the_timeout_passes_is_read_first(any_clock):
    r, w = os.pipe()
    came = []
    try:
        any_clock.add_reader(r, lambda: any_clock.call_soon(lambda: came.append(os.read(r, 9))))
        any_clock.call_soon(lambda: (os.write(w, b"frame"), time.sleep(0.002)))
        with any_clock.lock:
            assert any_clock.wait(lambda: bool(came), MS)
        assert came == [b"frame"]
    finally:
        any_clock.remove_reader(r)
        os.close(r)
        os.close(w)


def test_work_without_end_does_not_keep_a_wait_beyond_its_timeout(any_clock):
    def again():
        any_clock.call_soon(again)

    any_clock.call_soon(again)
    with any_clock.lock:
        assert not any_clock.wait(lambda: False, MS)


def test_real_clock_readers_are_called_until_removed(real):
    r, w = os.pipe()
    try:
        got = []
        real.add_reader(r, lambda: got.append(os.read(r, 100)))
        os.write(w, b"one")
        with real.lock:
            assert real.wait(lambda: got == [b"one"], 60_000 * MS)
            real.remove_reader(r)
            real.remove_reader(r)
            os.write(w, b"two")
            assert not real.wait(lambda: len(got) > 1, 5 * MS)
    finally:
        os.close(r)
        os.close(w)


def test_real_clock_thread_serves_waiting_threads(real):
    real.start()
    shared = []
    results = []

    def consumer(number):
        with real.lock:
            results.append(real.wait(lambda: number in shared, 60_000 * MS))

    threads = [threading.Thread(target=consumer, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()

    def produce():
        shared.extend(range(4))
        real.wake()

    real.call_at(real.now_ns() + MS, produce)
    for thread in threads:
        thread.join(60)
    assert results == [True] * 4


def test_real_clock_call_soon_from_another_thread_interrupts_the_poll(real):
    real.start()
    done = threading.Event()
    real.call_soon(done.set)
    assert done.wait(60)
    real.stop()
    real.stop()


def test_real_clock_run_until_and_request_stop(real):
    seen = []
    real.call_at(real.now_ns() + MS, lambda: seen.append(1))
    assert real.run(lambda: bool(seen), 60_000 * MS)
    assert not real.run(lambda: False, MS)
    real.call_at(real.now_ns() + MS, real.request_stop)
    assert not real.run(lambda: False)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_exception_in_the_thread_reaches_those_who_wait(real):
    real.start()
    real.call_at(real.now_ns() + MS, lambda: 1 // 0)
    with real.lock, pytest.raises(ClockError) as info:
        real.wait(lambda: False)
    assert isinstance(info.value.__cause__, ZeroDivisionError)


def test_two_threads_without_a_loop_thread_share_the_loop(real):
    """Whoever waits first runs the loop; when it is done the other takes over."""
    out = []

    def waiter(delay_ms):
        flag = []
        with real.lock:
            real.call_at(real.now_ns() + delay_ms * MS, lambda: flag.append(1))
            out.append(real.wait(lambda: bool(flag), 60_000 * MS))

    threads = [threading.Thread(target=waiter, args=(d,)) for d in (5, 20, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert out == [True] * 3


def test_asyncio_clock_orders_events_and_lends_the_loop():
    async def main():
        clock = AsyncioClock(asyncio.get_running_loop())
        seen = []
        done = asyncio.Event()
        now = clock.now_ns()
        clock.call_at(now + 2 * MS, lambda: (seen.append("late"), done.set()))
        clock.call_at(now + MS, lambda: seen.append("early"))
        clock.call_at(now + MS, lambda: seen.append("cancelled")).cancel()
        clock.call_soon(lambda: seen.append("soon"))
        await asyncio.wait_for(done.wait(), 60)
        with pytest.raises(ClockError, match=r"stack\.aio"):
            clock.wait(lambda: False)
        clock.close()
        return seen

    assert asyncio.run(main()) == ["soon", "early", "late"]


def test_asyncio_clock_wait_runs_a_stopped_loop():
    loop = asyncio.new_event_loop()
    try:
        clock = AsyncioClock(loop)
        seen = []
        clock.call_at(clock.now_ns() + MS, lambda: seen.append(1))
        assert clock.wait(lambda: bool(seen), 60_000 * MS)
        assert not clock.wait(lambda: False, MS)
        clock.close()
    finally:
        loop.close()


def test_an_event_that_raises_holds_up_no_other_of_a_loop():
    seen, told = [], []

    def wrong():
        raise ValueError

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
        clock = AsyncioClock(loop)
        done = asyncio.Event()
        now = clock.now_ns()
        clock.call_at(now + MS, wrong)
        clock.call_at(now + MS, lambda: seen.append("behind it"))
        clock.call_at(now + 2 * MS, done.set)
        await asyncio.wait_for(done.wait(), 30)

    asyncio.run(main())
    assert seen == ["behind it"]
    assert [type(exc) for exc in told] == [ValueError]


def test_time_set_back_runs_what_is_due_later_once() -> None:
    clock, ran = VirtualClock(5), []
    for delay in (10, 30):
        clock.rewind(5)
        clock.call_at(
            clock.now_ns() + delay, lambda delay=delay: ran.append((delay, clock.now_ns()))
        )
        clock.run_for(20)
    assert (ran, clock.now_ns()) == ([(10, 15)], 25)
    clock.run_for(10)
    assert ran == [(10, 15), (30, 35)]
    for wrong in (-1, 36, 1.5):
        with pytest.raises(ArgumentError, match=r"VirtualClock\.rewind: when_ns="):
            clock.rewind(wrong)


# --- a run in pieces -----------------------------------------------------------------------------


def _busy_clock() -> tuple[VirtualClock, list[tuple[int, str]]]:
    """A clock with timers, calls for now, a task, and an instant with too many events."""
    clock, log = VirtualClock(), []

    def note(name: str, again: int = 0) -> None:
        log.append((clock.now_ns(), name))
        if again:
            clock.call_soon(lambda: note(f"{name}'", again - 1))
            clock.call_at(clock.now_ns() + 7 * again, lambda: note(f"{name}+", again - 1))

    def sleeper() -> None:
        for _ in range(4):
            clock.wait(lambda: False, 25)
            note("task")

    for when in (0, 5, 5, 40, 90):
        clock.call_at(when, lambda when=when: note(str(when), 3))
    clock.spawn(sleeper)
    left = [INSTANT_EVENTS + 100]

    def crowd() -> None:
        left[0] -= 1
        if left[0]:
            clock.call_soon(crowd)
        if left[0] < 100:
            note("crowd")

    clock.call_at(60, crowd)
    return clock, log


@pytest.mark.parametrize("step", [1, 3, 1000, 12_345])
def test_a_run_in_pieces_is_the_same(step: int) -> None:
    whole, expected = _busy_clock()
    whole.run_until(300_000)
    whole.close()
    clock, log = _busy_clock()
    due = 0
    while due is not None:
        due = clock.run_before(due + step)
    assert log == expected
    assert clock.now_ns() == max(when for when, _ in log)
    clock.close()


def test_run_before_leaves_what_is_due_then_and_says_when() -> None:
    clock, log = VirtualClock(), []
    clock.call_at(10, lambda: log.append(10))
    clock.call_at(20, lambda: log.append(20))
    assert clock.due_ns() == 10
    assert clock.run_before(20) == 20
    assert (log, clock.now_ns()) == ([10], 10)
    clock.move_to(15)
    clock.call_soon(lambda: log.append(15))
    assert clock.due_ns() == 15
    assert clock.run_before(100) is None
    assert log == [10, 15, 20]
