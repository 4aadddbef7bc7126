"""The event queue of clocks against its twin: programs of calls, run by both."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath._ref import eventq as ref
from fastpath.base import eventq
from fastpath.errors import ArgumentError

TIMES = st.one_of(st.integers(-5, 60), st.integers((1 << 63) - 40, 1 << 64), st.just(-(1 << 70)))
# What a call does when it runs: nothing, or schedule another one.
CALLS = st.recursive(
    st.none(),
    lambda inner: st.one_of(
        st.tuples(st.just("soon"), inner),
        st.tuples(st.just("at"), inner, TIMES, st.booleans()),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
    ),
    max_leaves=6,
)
STEPS = st.one_of(
    st.tuples(st.just("soon"), CALLS),
    st.tuples(st.just("at"), CALLS, TIMES, st.booleans()),
    st.tuples(st.just("cancel"), st.integers(0, 20)),
    st.tuples(st.just("take"), st.none() | TIMES),
    st.tuples(st.just("run_now")),
    st.tuples(st.just("run_expired"), TIMES),
    st.tuples(st.just("wait"), st.integers(0, 12), st.none() | st.integers(-3, 40)),
    st.tuples(st.just("crowd"), st.integers(-4, 3), st.integers(1, 14)),
    st.tuples(st.just("clear")),
)


def _player(base: Any) -> Any:
    class Player(base):  # type: ignore[misc]
        """Runs a program; `log` is what happened."""

        def __init__(self) -> None:
            super().__init__(10)
            self.log: list[Any] = []
            self.handles: list[Any] = []
            self.calls = 0

        def _run_on(self, cond: Callable[[], bool], deadline: int | None) -> bool:
            self.log.append(("on", deadline))
            while not cond():
                fn = self.take(deadline)
                if fn is None:
                    return False
                fn()
            return True

        def make(self, what: Any) -> Callable[[], None]:
            self.calls += 1
            number = self.calls

            def call() -> None:
                self.log.append((number, self.now_ns()))
                if what is not None:
                    self.do(*what)

            return call

        def do(self, what: str, *args: Any) -> None:
            match what:
                case "soon":
                    self.call_soon(self.make(args[0]))
                case "at":
                    handle = self.call_at(args[1], self.make(args[0]), background=args[2])
                    self.handles.append(handle)
                case "cancel" if args[0] < len(self.handles):
                    self.cancel(self.handles[args[0]])
                case "take":
                    fn = self.take(args[0])
                    self.log.append(fn is None)
                    if fn is not None:
                        fn()
                case "run_now" | "run_expired" | "clear":
                    self.log.append(getattr(self, what)(*args))
                case "wait":
                    until = len(self.log) + args[0]
                    self.log.append(self.wait(lambda: len(self.log) >= until, args[1]))
                case "crowd":
                    self._crowd = args[1] * eventq.INSTANT_EVENTS + args[0]
            self.log.append((self.now_ns(), self.next_ns(), self.waiting_now, self._crowd))
            self.log.append((self.only_background(), sorted(h.when for h in self.pending())))
            self.log.append([h.cancelled for h in self.handles])

    return Player()


@given(st.lists(STEPS, max_size=25))
def test_a_program_runs_as_on_the_reference(steps: list[tuple[Any, ...]]) -> None:
    ours, twin = _player(eventq.JumpQueue), _player(ref.JumpQueue)
    for step in steps:
        ours.do(*step)
        twin.do(*step)
        assert ours.log == twin.log, step
        assert ours.after_event() == twin.after_event()
        assert ours.events == twin.events


@pytest.mark.parametrize("events", [63, 64, 65, 1000])
def test_calls_for_now_stay_in_order_while_their_ring_grows(events: int) -> None:
    q, seen = eventq.EventQueue(), []
    for _ in range(40):  # the ring begins somewhere in the middle
        q.call_soon(lambda: None)
    q.run_expired(0)
    for i in range(events):
        q.call_soon(lambda i=i: seen.append(i))
    assert q.waiting_now == events
    assert q.run_expired(0) == events
    assert seen == list(range(events))


def test_a_call_may_run_the_others_itself() -> None:
    """As one that waits on a RealClock does: its turn takes the calls of the turn around it."""
    q, seen = eventq.EventQueue(), []
    q.call_soon(lambda: seen.append(q.run_expired(0)))
    for i in range(7, 9):
        q.call_soon(lambda i=i: seen.append(i))
    assert q.run_expired(0) == 1
    assert seen == [7, 8, 2]


def test_any_clock_is_asked() -> None:
    class Other:
        def now_ns(self) -> int:
            return 7

        def call_soon(self, fn: Callable[[], Any]) -> None:
            fn()

    class Own(eventq.EventQueue):
        asked = 0

        def now_ns(self) -> int:
            return 8

        def call_soon(self, fn: Callable[[], Any]) -> None:
            self.asked += 1
            super().call_soon(fn)

    class Told(eventq.EventQueue):
        def __init__(self) -> None:
            super().__init__()
            self._time = lambda: 9

    seen: list[int] = []
    eventq.call_soon(Other(), lambda: seen.append(1))
    assert seen == [1]
    own = Own()
    eventq.call_soon(own, lambda: seen.append(2))
    assert (own.asked, own.run_expired(0), seen) == (1, 1, [1, 2])
    assert [eventq.clock_ns(c) for c in (Other(), own, Told(), eventq.JumpQueue(6))] == [7, 8, 9, 6]
    before = time.monotonic_ns()
    assert before <= eventq.clock_ns(eventq.EventQueue()) <= time.monotonic_ns()
    with pytest.raises(AttributeError):
        eventq.clock_ns(None)


def test_a_time_is_a_whole_number() -> None:
    with pytest.raises(ArgumentError, match="when_ns"):
        eventq.EventQueue().call_at(1.5, print)

    class Three:
        def __index__(self) -> int:
            return 3

    assert eventq.EventQueue().call_at(Three(), print).when == 3


def test_a_forgotten_queue_is_collected_with_what_it_holds() -> None:
    class Owner:
        def __init__(self) -> None:
            self.queue = eventq.JumpQueue()
            self.queue.call_soon(self.run)
            self.queue.call_at(5, self.run)
            self.queue.call_at(6, self.run, background=True)

        def run(self) -> None:
            return None

        def __del__(self) -> None:
            self.queue.call_soon(print)  # harmless, whatever the collector has taken already

    gone = weakref.ref(Owner())
    gc.collect()
    assert gone() is None
