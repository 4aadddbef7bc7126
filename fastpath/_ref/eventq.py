"""The events of a clock, in plain Python: the twin of ``fastpath.base.eventq``."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from fastpath.errors import whole_number

INSTANT_EVENTS = 1 << 16
EVENT_NS, EVENT_MAX_NS = 1_000, 1_000_000
NEVER_NS = (1 << 63) - 1


def clip(ns: int) -> int:
    """An int as 64 bits."""
    return min(max(ns, -NEVER_NS - 1), NEVER_NS)


class TimerHandle:
    """One scheduled call."""

    def __init__(self, when_ns: int, fn: Callable[[], Any] | None) -> None:
        if when_ns.__class__ is not int:
            when_ns = whole_number("call_at", "when_ns", when_ns, unit="ns")
        self.when = clip(when_ns)
        self.fn = fn

    def cancel(self) -> None:
        """Make sure the call does not happen."""
        self.fn = None

    @property
    def cancelled(self) -> bool:
        """Whether the call was made or cancelled."""
        return self.fn is None


Heap = list[tuple[int, int, TimerHandle]]


class EventQueue:
    """A FIFO of calls for now, and calls for later in (time, order) order."""

    threaded = False

    def __init__(self) -> None:
        self._ready: deque[Callable[[], Any]] = deque()
        self._heap: Heap = []
        self._background: Heap = []
        self._seq = 0
        self.events = 0
        self._time: Callable[[], int] | None = None

    def now_ns(self) -> int:
        """CLOCK_MONOTONIC in ns."""
        return time.monotonic_ns() if self._time is None else self._time()

    def call_soon(self, fn: Callable[[], Any]) -> None:
        """Call `fn()` after the current event."""
        self._ready.append(fn)

    @property
    def waiting_now(self) -> int:
        """How many calls for now wait."""
        return len(self._ready)

    def call_at(
        self, when_ns: int, fn: Callable[[], Any], *, background: bool = False
    ) -> TimerHandle:
        """Call `fn()` at `when_ns`."""
        handle = TimerHandle(when_ns, fn)
        self._seq += 1
        heappush(self._background if background else self._heap, (handle.when, self._seq, handle))
        return handle

    def cancel(self, handle: TimerHandle) -> None:
        """Cancel a `call_at`."""
        handle.fn = None

    def _popleft(self) -> Callable[[], Any]:
        """The next call for now."""
        self.events += 1
        return self._ready.popleft()

    def _pop(self, heap: Heap) -> TimerHandle:
        """The heap's earliest call, taken off to be run."""
        self.events += 1
        return heappop(heap)[2]

    def _top(self) -> Heap | None:
        """The heap that holds the earliest call; cancelled tops are dropped."""
        heap, back = self._heap, self._background
        for each in (heap, back):
            while each and each[0][2].fn is None:
                heappop(each)
        if heap and back:
            return heap if heap[0] < back[0] else back
        return heap or back or None

    def next_ns(self) -> int | None:
        """Time (ns) of the earliest scheduled call."""
        top = self._top()
        return None if top is None else top[0][0]

    def only_background(self) -> bool:
        """Whether nothing but housekeeping is scheduled."""
        self._top()
        return not self._heap

    def pending(self) -> list[TimerHandle]:
        """The scheduled calls; none of background."""
        return [handle for _, _, handle in self._heap if handle.fn is not None]

    def run_expired(self, now_ns: int) -> int:
        """Run what is due at `now_ns`; events run."""
        ran = 0
        while True:
            for _ in range(len(self._ready)):
                if not self._ready:  # one of them waited, and a turn within it ran the rest
                    break
                self._popleft()()
                ran += 1
            top = self._top()
            if top is None or top[0][0] > clip(now_ns):
                return ran
            handle = self._pop(top)
            fn, handle.fn = handle.fn, None
            assert fn is not None
            fn()
            ran += 1

    def clear(self) -> None:
        """Forget every call."""
        self._ready.clear()
        self._heap.clear()
        self._background.clear()


class JumpQueue(EventQueue):
    """An event queue whose time jumps from event to event."""

    def __init__(self, start_ns: int = 0) -> None:
        super().__init__()
        self._now = start_ns
        self._crowd = 0
        self._tasks: list[Any] = []
        self._current: Any = None
        self._waiting: int | None = None

    def now_ns(self) -> int:
        """Virtual time in ns."""
        return self._now

    def after_event(self) -> int:
        """The end, in ns, of an event when this instant has had too many."""
        step = max(self._crowd // INSTANT_EVENTS - 1, 0)
        return clip(self._now + min(EVENT_NS << step, EVENT_MAX_NS))

    def run_now(self) -> bool:
        """Run one of the calls for now."""
        if not self._ready or self._crowd >= INSTANT_EVENTS:
            return False
        self._crowd += 1
        self._popleft()()
        return True

    def take(self, limit_ns: int | None) -> Callable[[], Any] | None:
        """Take the next event off, and move time to it; None when there is none up to the limit."""
        ready = self._ready
        self._crowd += 1
        if self._crowd <= INSTANT_EVENTS:
            if ready:
                return self._popleft()
            now = self._now
        else:
            now = self.after_event()
        heap = self._top()
        when = None if heap is None else heap[0][0]
        if ready:
            if limit_ns is not None and now > limit_ns:
                return None
            if when is None or when > now or self._crowd & 1:
                self._now = now
                return self._popleft()
        elif when is None or (limit_ns is not None and max(when, now) > limit_ns):
            return None
        elif when > now:
            self._crowd = 0
        assert heap is not None
        assert when is not None
        if when > self._now:
            self._now = when
        elif not ready:
            self._now = now
        handle = self._pop(heap)
        fn, handle.fn = handle.fn, None
        return fn

    def wait(self, cond: Callable[[], bool], timeout_ns: int | None = None) -> bool:
        """Run events until `cond()` holds; what is not under way is `_run_on`'s."""
        if self._current is not None and self._in_task():
            return self._task_wait(self._current, cond, timeout_ns)
        if self._waiting is not None:
            self._check_thread()
        if cond():
            return True
        deadline = None
        if timeout_ns is not None:
            deadline = self._now + timeout_ns
            if timeout_ns <= 0:
                self._crowd = 0
        if not self._tasks:
            left = INSTANT_EVENTS - self._crowd
            while self._ready and left > 0:
                left -= 1
                self._popleft()()
                if cond():
                    self._crowd = INSTANT_EVENTS - left
                    return True
            self._crowd = INSTANT_EVENTS - left
        return self._run_on(cond, deadline)

    def _in_task(self) -> bool:
        raise NotImplementedError

    def _task_wait(self, task: Any, cond: Callable[[], bool], timeout_ns: int | None) -> bool:
        raise NotImplementedError

    def _check_thread(self) -> None:
        raise NotImplementedError

    def _run_on(self, cond: Callable[[], bool], deadline: int | None) -> bool:
        raise NotImplementedError


def clock_ns(clock: Any) -> int:
    """The time in ns of any clock."""
    now: int = clock.now_ns()
    return now


def call_soon(clock: Any, fn: Callable[[], Any]) -> None:
    """Have any clock call `fn()` after the current event."""
    clock.call_soon(fn)
