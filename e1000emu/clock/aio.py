"""The time of an asyncio loop, which drives hosts, links and coroutines."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from e1000emu.clock.common import LATE_TURNS, ClockError, NullLock, running_loop
from fastpath.base.eventq import EventQueue, TimerHandle
from fastpath.errors import check_methods, whole_number

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop


class AsyncioClock(EventQueue):
    """A clock on an asyncio loop: hosts, links and coroutines share the loop's one thread.

    Blocking calls cannot block here: use `stack.aio`, or non-blocking sockets. While the loop is
    not running (set-up, tear-down), `wait` runs it until its condition holds.

    With `busy_poll_ns` the loop polls for that long after a descriptor was readable before it
    sleeps, if the pause before was no longer than that. So the next packet of a conversation finds
    it awake (Linux's net.core.busy_poll, QEMU's poll-max-ns). It never delays a callback.
    """

    __slots__ = (
        "_armed",
        "_armed_ns",
        "_closed",
        "_idle_ns",
        "_poll",
        "_spin_until_ns",
        "_spinning",
        "busy_poll_ns",
        "lock",
        "loop",
    )

    def __init__(self, loop: AbstractEventLoop, *, busy_poll_ns: int = 0) -> None:
        super().__init__()
        takes = "an event loop, such as asyncio.getrunning_loop()"
        check_methods("AsyncioClock", "loop", loop, ("call_soon", "add_reader"), takes)
        self.loop = loop
        self.busy_poll_ns = whole_number("AsyncioClock", "busy_poll_ns", busy_poll_ns, 0, unit="ns")
        self._idle_ns = 0  # end of the last callback of a descriptor
        self._spinning = False  # a _spin is queued on the loop
        # Every packet reads the time. asyncio's own loops have time.monotonic(), uvloop's the
        # same in whole milliseconds.
        if type(loop).__module__.partition(".")[0] not in ("asyncio", "uvloop"):
            self._time = self._loop_ns
        self._spin_until_ns = 0
        self.lock: AbstractContextManager[Any] = NullLock()
        self._armed: Any = None  # asyncio handle of the next timer
        self._armed_ns = 0
        self._poll = False  # a _run is queued on the loop
        self._closed = False

    def _loop_ns(self) -> int:
        return int(self.loop.time() * 1e9)

    def realtime_ns(self) -> int:
        """CLOCK_REALTIME: ns since 1970-01-01 UTC."""
        return time.time_ns()

    def call_at(
        self, when_ns: int, fn: Callable[[], Any], *, background: bool = False
    ) -> TimerHandle:
        """Call `fn()` in the loop once `when_ns` is reached."""
        handle = super().call_at(when_ns, fn, background=background)
        if self._armed is None or when_ns < self._armed_ns:
            self._arm()
        return handle

    def call_soon(self, fn: Callable[[], Any]) -> None:
        """Call `fn()` in the loop after the current callback, FIFO."""
        super().call_soon(fn)
        if not self._poll and not self._closed:
            self._poll = True
            self.loop.call_soon(self._run)

    def add_reader(self, fd: int, fn: Callable[[], Any]) -> None:
        """Call `fn()` whenever `fd` is readable."""
        if self.busy_poll_ns:
            self.loop.add_reader(fd, self._came, fn)
        else:
            self.loop.add_reader(fd, fn)

    def remove_reader(self, fd: int) -> None:
        """Stop watching `fd`."""
        self.loop.remove_reader(fd)

    def _came(self, fn: Callable[[], Any]) -> None:
        """Call `fn()`; if the last call was recent, poll for the next event instead of sleeping."""
        soon = self.now_ns() - self._idle_ns < self.busy_poll_ns
        fn()
        self._idle_ns = now = self.now_ns()
        if soon:
            self._spin_until_ns = now + self.busy_poll_ns
            if not self._spinning:
                self._spinning = True
                self.loop.call_soon(self._spin)

    def _spin(self) -> None:
        # The loop polls its descriptors without sleeping while a callback is queued.
        if self.now_ns() < self._spin_until_ns and not self._closed:
            self.loop.call_soon(self._spin)
        else:
            self._spinning = False

    def require_running(self, what: str) -> None:
        """Reject `what`, which sleeps in a loop, unless that is the clock's loop.

        Raises:
            ClockError: the clock's own loop would stop meanwhile.
        """
        running = running_loop()
        if running is not None and running is not self.loop:
            raise ClockError(f"{what}: this AsyncioClock belongs to another loop than is running")

    def wake(self) -> None:
        """Waiting coroutines are woken by their sockets' wait queues; nothing to do."""

    def _arm(self) -> None:
        """Schedule a call of the loop at the earliest timer's time; an earlier, needless call is
        left."""
        when = self.next_ns()
        if when is None or self._closed:
            return
        if self._armed is not None:
            if self._armed_ns <= when:
                return
            self._armed.cancel()
        self._armed_ns = when
        self._armed = self.loop.call_later(max(0, when - self.now_ns()) / 1e9, self._expire)

    def _expire(self) -> None:
        self._armed = None
        self._run()

    def _run(self) -> None:
        self._poll = False
        if self._closed:
            return
        # asyncio rounds to its resolution and may call a hair early; the next turn catches that.
        try:
            self.run_expired(self.now_ns())
        finally:  # the loop's exception handler gets an exception; other events continue
            if self.waiting_now and not self._poll:
                self._poll = True
                self.loop.call_soon(self._run)
            self._arm()

    def wait(self, cond: Callable[[], bool], timeout_ns: int | None = None) -> bool:
        """Run the loop until `cond()`; only if it is not running.

        Raises:
            ClockError: called from a coroutine or callback, where blocking would stop the loop.
        """
        if cond():
            return True
        if self.loop.is_running():
            raise ClockError(
                "AsyncioClock: a blocking call inside the running loop would stop every host; "
                "use stack.aio or a non-blocking socket"
            )
        deadline = None if timeout_ns is None else self.now_ns() + timeout_ns
        late = 0
        while not cond():
            if deadline is not None and self.now_ns() >= deadline:
                if late and (late == LATE_TURNS or not self._poll):
                    return False
                late += 1
            step = 0.001 if deadline is None else min(0.001, (deadline - self.now_ns()) / 1e9)
            self.loop.call_later(0.0 if self._poll else max(step, 0.0), self.loop.stop)
            self.loop.run_forever()
        return True

    def close(self) -> None:
        """Cancel all scheduled calls; the loop itself belongs to the caller."""
        self._closed = True
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None
        self.clear()
