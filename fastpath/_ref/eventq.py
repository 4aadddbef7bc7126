"""The events of a clock whose time jumps, in plain Python: the twin of ``fastpath.base.eventq``."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

INSTANT_EVENTS = 1 << 16
EVENT_NS, EVENT_MAX_NS = 1_000, 1_000_000
NEVER_NS = (1 << 63) - 1

Call = Callable[[], Any]


def clip(ns: int) -> int:
    """An int as 64 bits."""
    return min(max(ns, -NEVER_NS - 1), NEVER_NS)


class TimerHandle:
    """One scheduled call; without `fn` it was executed or cancelled."""

    def __init__(self, when_ns: int, fn: Call | None, background: bool) -> None:
        self.when = clip(when_ns)
        self.fn = fn
        self.background = background

    @property
    def cancelled(self) -> bool:
        """Whether the call was executed or cancelled."""
        return self.fn is None


class JumpQueue:
    """A FIFO of calls for now, and calls for later in the order of time, then of scheduling."""

    def __init__(self, start_ns: int = 0) -> None:
        self._ready: deque[Call] = deque()
        self._later: list[TimerHandle] = []  # as scheduled, including executed ones
        self._now = start_ns
        self._crowd = 0
        self.events = 0

    def now_ns(self) -> int:
        """Virtual time in ns."""
        return self._now

    def call_soon(self, fn: Call) -> None:
        """Call `fn()` after the current event."""
        self._ready.append(fn)

    @property
    def waiting_now(self) -> int:
        """Number of waiting calls for now."""
        return len(self._ready)

    def call_at(self, when_ns: int, fn: Call, *, background: bool = False) -> TimerHandle:
        """Call `fn()` at `when_ns`."""
        handle = TimerHandle(when_ns, fn, background)
        self._later.append(handle)
        return handle

    def cancel(self, handle: TimerHandle) -> None:
        """Cancel a `call_at`."""
        handle.fn = None

    def _waiting(self) -> list[TimerHandle]:
        return [handle for handle in self._later if handle.fn is not None]

    def _first(self) -> TimerHandle | None:
        """The earliest scheduled call."""
        return min(self._waiting(), key=lambda handle: handle.when, default=None)

    def _take_ready(self) -> Call:
        """The next call for now."""
        self.events += 1
        return self._ready.popleft()

    def _take_later(self, handle: TimerHandle) -> Call:
        """The function of a scheduled call."""
        self.events += 1
        fn, handle.fn = handle.fn, None
        assert fn is not None
        return fn

    def next_ns(self) -> int | None:
        """Time (ns) of the earliest scheduled call."""
        first = self._first()
        return None if first is None else first.when

    def only_background(self) -> bool:
        """Whether only background calls are scheduled."""
        return not self.pending()

    def pending(self) -> list[TimerHandle]:
        """The scheduled calls; without background ones."""
        return [handle for handle in self._waiting() if not handle.background]

    def run_expired(self, now_ns: int) -> int:
        """Run the calls due at `now_ns`; returns their number."""
        ran = 0
        while True:
            for _ in range(len(self._ready)):
                if not self._ready:  # one of them waited, and a turn within it ran the rest
                    break
                self._take_ready()()
                ran += 1
            first = self._first()
            if first is None or first.when > clip(now_ns):
                return ran
            self._take_later(first)()
            ran += 1

    def clear(self) -> None:
        """Remove all calls."""
        self._ready.clear()
        self._later.clear()

    def after_event(self) -> int:
        """The end, in ns, of an event if this instant had too many."""
        step = max(self._crowd // INSTANT_EVENTS - 1, 0)
        return clip(self._now + min(EVENT_NS << step, EVENT_MAX_NS))

    def run_now(self) -> bool:
        """Run one of the calls for now."""
        if not self._ready or self._crowd >= INSTANT_EVENTS:
            return False
        self._crowd += 1
        self._take_ready()()
        return True

    def take(self, limit_ns: int | None) -> Call | None:
        """Take the next event off, and move time to it; None if there is none up to the limit."""
        self._crowd += 1
        crowded = self._crowd > INSTANT_EVENTS
        if self._ready and not crowded:
            return self._take_ready()
        now = self.after_event() if crowded else self._now
        first = self._first()
        if self._ready:
            if limit_ns is not None and now > limit_ns:
                return None
            if first is None or first.when > now or self._crowd & 1:
                self._now = now
                return self._take_ready()
            self._now = max(self._now, first.when)
            return self._take_later(first)
        if first is None or (limit_ns is not None and max(first.when, now) > limit_ns):
            return None
        if first.when > now:
            self._crowd = 0
        self._now = first.when if first.when > self._now else now
        return self._take_later(first)

    def wait(self, cond: Callable[[], bool], timeout_ns: int | None = None) -> bool:
        """Run events until `cond()` holds; after those for now, those of a subclass."""
        if cond():
            return True
        deadline = None if timeout_ns is None else self._now + timeout_ns
        if timeout_ns is not None and timeout_ns <= 0:
            self._crowd = 0
        crowd, done = self._crowd, False  # events of these events are counted anew
        while self._ready and crowd < INSTANT_EVENTS and not done:
            crowd += 1
            self._take_ready()()
            done = cond()
        self._crowd = crowd
        return done or self._run_on(cond, deadline)

    def _run_on(self, cond: Callable[[], bool], deadline: int | None) -> bool:
        raise NotImplementedError
