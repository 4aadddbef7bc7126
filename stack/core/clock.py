"""The clock interface that the stack needs, and defaults for the methods a clock may leave out.

Clocks come from outside; e1000emu.clock has three.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias


class TimerHandle(Protocol):
    """A pending call."""

    def cancel(self) -> None:
        """Cancel the call; harmless when it has already run."""


class Clock(Protocol):
    """Time, timers and the one sleeping primitive of all hosts and devices on this clock."""

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """The lock that guards every host and device on this clock."""

    def now_ns(self) -> int:
        """Return the time in ns; never goes back."""

    def call_at(self, when_ns: int, fn: Callable[[], None]) -> TimerHandle:
        """Run `fn` at `when_ns`."""

    def call_soon(self, fn: Callable[[], None]) -> None:
        """Run `fn` after the current event at the same time, in the order of the calls."""

    def cancel(self, handle: Any) -> None:
        """Cancel a pending call."""

    def wait(self, cond: Callable[[], bool], timeout_ns: int | None = None) -> bool:
        """Sleep until `cond()` or the timeout; return the last `cond()`.  Call with lock held."""

    def wake(self) -> None:
        """Have every `wait` test its condition again."""


HostClock: TypeAlias = Any
"""A host's Clock; for type checkers Any, so that programs can use its other methods
(`host.clock.run_for`)."""


def is_threaded(clock: Clock) -> bool:
    """Whether several threads use the clock: then calls lock, and sleepers need `wake`."""
    return bool(getattr(clock, "threaded", True))


def call_in_background(clock: Clock, when_ns: int, fn: Callable[[], None]) -> TimerHandle:
    """Run `fn` at `when_ns` as housekeeping: alone it does not keep a simulation going."""
    call_at: Callable[..., TimerHandle] = clock.call_at
    try:
        return call_at(when_ns, fn, background=True)
    except TypeError:  # a clock that knows no background events
        return call_at(when_ns, fn)


def realtime_ns(clock: Clock) -> int:
    """Wall time, ns since 1970-01-01 UTC: the clock's own, else the computer's."""
    wall: Callable[[], int] = getattr(clock, "realtime_ns", time.time_ns)
    return wall()


def require_running(clock: Clock, what: str) -> None:
    """Raise when nothing would run the clock while `what` sleeps outside of it."""
    check: Callable[[str], None] | None = getattr(clock, "require_running", None)
    if check is not None:
        check(what)


def watch(
    clock: Clock,
    interrupt: Callable[[], None],
    progress: Callable[[], tuple[Any, ...] | None],
    describe: Callable[[], list[str]],
) -> Callable[[], Any] | None:
    """Register how to detect that a machine has stalled (e1000emu/clock/stall.py).

    Returns the function that unregisters it, or None when the clock does not check for stalls.
    """
    tell: Callable[..., Callable[[], Any]] | None = getattr(clock, "watch", None)
    return None if tell is None else tell(interrupt, progress, describe)
