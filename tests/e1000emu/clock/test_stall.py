"""A wait without limit on a VirtualClock: when it is given up, and when it must not be."""

from __future__ import annotations

import threading

import pytest

from e1000emu.clock import ClockError, SimulationDeadlock, VirtualClock
from e1000emu.clock.stall import QUIET_NS

SECOND = 1_000_000_000


class Probing:
    """A host whose timer fires every two minutes, for ever."""

    def __init__(self, clock):
        self.clock = clock
        self.runs = 0
        self.state = 0
        self.unwatch = clock.watch(self.interrupt, self.progress, lambda: ["h: a probe goes on"])
        clock.call_at(clock.now_ns(), self.interrupt)

    def interrupt(self):
        self.runs += 1
        self.clock.call_at(self.clock.now_ns() + 120 * SECOND, self.interrupt)
        self.step()

    def step(self):
        pass

    def progress(self):
        return self.state


@pytest.fixture
def clock():
    clock = VirtualClock()
    yield clock
    clock.close()


def never():
    return False


def test_probes_alone_are_given_up_with_the_remedies(clock):
    host = Probing(clock)
    with pytest.raises(SimulationDeadlock, match=r"never.*a probe goes on.*pump.*spawn.*aio\.run"):
        clock.wait(never)
    assert QUIET_NS <= clock.now_ns() <= 3 * QUIET_NS
    assert host.runs < 1000


def test_a_wait_with_a_limit_ends_at_its_limit(clock):
    Probing(clock)
    assert clock.wait(never, 10 * QUIET_NS) is False
    assert clock.now_ns() == 10 * QUIET_NS


@pytest.mark.parametrize("windows", [0.5, 1.5, 2.5, 10])
def test_a_call_of_somebody_else_is_waited_for(clock, windows):
    Probing(clock)
    done = []
    clock.call_at(int(windows * QUIET_NS), lambda: done.append(1))
    assert clock.wait(lambda: bool(done))


def test_a_call_that_schedules_the_next_is_waited_for(clock):
    """What another program's timers will do cannot be known."""
    Probing(clock)
    left = [20]

    def later():
        left[0] -= 1
        if left[0]:
            clock.call_at(clock.now_ns() + QUIET_NS, later)

    later()
    assert clock.wait(lambda: not left[0])
    with pytest.raises(SimulationDeadlock):
        clock.wait(never)


def test_slow_progress_is_progress(clock):
    """Something an application could notice changes once in a while."""
    host = Probing(clock)

    def step():
        if host.runs % 300 == 0:  # every 36,000 s
            host.state += 1

    host.step = step
    assert clock.wait(lambda: host.state == 10)


def test_a_host_that_cannot_tell_is_waited_for(clock):
    host = Probing(clock)
    host.progress = lambda: None
    clock.watches.clear()
    clock.watch(host.interrupt, lambda: None, list)
    assert clock.wait(lambda: host.runs > 2000)


def test_a_task_that_sleeps_is_waited_for_and_one_that_waits_for_ever_is_not(clock):
    Probing(clock)
    done = []

    def sleeper():
        for _ in range(5):
            clock.wait(never, QUIET_NS)
        done.append(1)

    task = clock.spawn(sleeper)
    assert clock.wait(lambda: bool(done))
    task.join()
    clock.spawn(clock.wait, never, name="stuck")
    with pytest.raises(SimulationDeadlock, match="tasks also waiting: stuck"):
        clock.wait(never)


def test_a_host_that_is_gone_is_no_longer_watched(clock):
    host = Probing(clock)
    host.unwatch()
    assert clock.watches == []


def test_a_second_thread_is_refused_with_the_remedy(clock):
    Probing(clock)
    inside, answered = threading.Event(), threading.Event()
    said = []

    def in_the_loop():
        inside.set()
        answered.wait(60)

    def second():
        inside.wait(60)
        for call in (lambda: clock.wait(never, 1), lambda: clock.run_for(1)):
            try:
                call()
            except ClockError as exc:
                said.append(str(exc))
        answered.set()

    thread = threading.Thread(target=second, name="second")
    thread.start()
    clock.call_at(1000, in_the_loop)
    assert not clock.wait(never, 2000)
    thread.join()
    assert len(said) == 2
    assert all("'second' called while thread 'MainThread' waits" in text for text in said)
    assert all("RealClock().start()" in text and "clock.spawn" in text for text in said)
    assert not clock.wait(never, 1), "the first goes on as before"


def test_threads_one_after_the_other_are_fine(clock):
    results = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: results.append(clock.wait(never, 5)))
        thread.start()
        thread.join()
    assert results == [False, False]


def test_a_deadlock_in_a_plain_thread_says_that_it_is_one(clock):
    said = []

    def wait():
        try:
            clock.wait(never)
        except SimulationDeadlock as exc:
            said.append(str(exc))

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    assert "one thread at a time uses a VirtualClock" in said[0]
