"""The events of a clock: calls for now, in order, and calls for later, by time.

The clocks of ``e1000emu.clock`` are made of it. Compiled callers ask whatever clock they were given
through `clock_ns` and `call_soon`, which go straight to the queue where it is one of these.

Call everything with the clock's lock held, but for `EventQueue.call_soon`, which any thread may.
"""

from collections.abc import Callable
from typing import Any

INSTANT_EVENTS: int
"""Events that a JumpQueue runs at one instant. Each one beyond takes time: `EVENT_NS`, and twice as
much after each further so many, up to `EVENT_MAX_NS`."""
EVENT_NS: int
EVENT_MAX_NS: int

class TimerHandle:
    """One scheduled call. `cancel()` is O(1): the entry stays in the heap and is skipped.

    `when` is the time in ns, as 64 bits, `fn` what is called, None once it was or will not be.
    """

    fn: Callable[[], Any] | None
    def __init__(self, when_ns: int, fn: Callable[[], Any] | None) -> None: ...
    @property
    def when(self) -> int: ...
    def cancel(self) -> None:
        """Make sure the call does not happen. Cancelling twice, or too late, is harmless."""

    @property
    def cancelled(self) -> bool: ...

class EventQueue:
    """What the clocks share: a FIFO of calls for now, and calls for later in (time, order) order.

    By itself it tells monotonic time (CLOCK_MONOTONIC), or what `_time()` of a subclass gives.
    """

    threaded: bool
    @property
    def events(self) -> int:
        """How many events were taken off so far, to be run."""
    _time: Callable[[], int] | None
    def __init__(self) -> None: ...
    def now_ns(self) -> int:
        """CLOCK_MONOTONIC in ns."""

    def call_soon(self, fn: Callable[[], Any]) -> None:
        """Call `fn()` after the current event, at the same time, in FIFO order."""

    @property
    def waiting_now(self) -> int:
        """How many calls for now wait."""

    def call_at(
        self, when_ns: int, fn: Callable[[], Any], *, background: bool = False
    ) -> TimerHandle:
        """Call `fn()` at `when_ns` (a time past means: as soon as possible, after `call_soon`s).

        `background` marks housekeeping that alone must not keep a waiting call alive.

        Raises:
            ArgumentError: not a whole number.
        """

    def cancel(self, handle: TimerHandle) -> None:
        """Cancel a `call_at`."""

    def next_ns(self) -> int | None:
        """Time (ns) of the earliest scheduled call, None without one (`call_soon` aside)."""

    def only_background(self) -> bool:
        """Whether nothing but housekeeping is scheduled, or nothing at all (`call_soon` aside)."""

    def pending(self) -> list[TimerHandle]:
        """The scheduled calls, in no order; none of background."""

    def run_expired(self, now_ns: int) -> int:
        """Run what is due at `now_ns`: FIFO first, then timers by time. Returns events run."""

    def clear(self) -> None:
        """Forget every call."""

class JumpQueue(EventQueue):
    """An event queue whose time jumps from event to event.

    Events take no time, so two ports that answer each other without delay would never let time
    advance. After `INSTANT_EVENTS` at one instant events do take time, until none is due.

    A subclass has cooperative tasks: `_tasks`, and the one that runs, `_current`; `_in_task()`,
    `_task_wait(task, cond, timeout_ns)`. `_check_thread()` refuses a second thread, and
    `_run_on(cond, deadline)` runs what `wait` has not run itself.
    """

    _now: int
    _crowd: int
    _tasks: list[Any]
    _current: Any
    _waiting: int | None
    def __init__(self, start_ns: int = 0) -> None: ...
    def after_event(self) -> int:
        """The time (ns) when an event ends that is one too many for this instant."""

    def run_now(self) -> bool:
        """Run one of the calls for now. False without one, and when events take time already."""

    def take(self, limit_ns: int | None) -> Callable[[], Any] | None:
        """Take the next event off, and move time to it; None when there is none up to `limit_ns`.

        Calls for now are left where they are when time itself has to move beyond the limit.
        """

    def wait(self, cond: Callable[[], bool], timeout_ns: int | None = None) -> bool:
        """Run events until `cond()` holds; False when `timeout_ns` passes first.

        Raises:
            SimulationDeadlock: no timeout, and nothing is left that could make it true.
        """

    def _in_task(self) -> bool: ...
    def _task_wait(self, task: Any, cond: Callable[[], bool], timeout_ns: int | None) -> bool: ...
    def _check_thread(self) -> None: ...
    def _run_on(self, cond: Callable[[], bool], deadline: int | None) -> bool: ...

def clock_ns(clock: Any) -> int:
    """The time in ns of any clock: `clock.now_ns()`."""

def call_soon(clock: Any, fn: Callable[[], Any]) -> None:
    """Have any clock call `fn()` after the current event: `clock.call_soon(fn)`."""
