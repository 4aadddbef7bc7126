"""Monotonic time: one poll loop, run by a thread of its own or by the one that waits."""

from __future__ import annotations

import os
import selectors
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from e1000emu.clock.common import LATE_TURNS, ClockError
from fastpath.base.eventq import EventQueue, TimerHandle


def _never() -> bool:
    return False


class RealClock(EventQueue):
    """Monotonic time and one poll loop for timers and the links' file descriptors.

    Either `start()` runs the loop in a thread, and other threads call in holding `lock` (they sleep
    on a condition variable). Without `start`, a waiting thread runs the loop itself.
    """

    __slots__ = (
        "_cond",
        "_owner",
        "_polling",
        "_readers",
        "_selector",
        "_sleeping",
        "_stop",
        "_thread",
        "_turns",
        "_wake_r",
        "_wake_w",
        "error",
        "lock",
    )

    threaded = True

    def __init__(self) -> None:
        super().__init__()
        rlock = threading.RLock()
        self.lock: AbstractContextManager[Any] = rlock
        self._cond = threading.Condition(rlock)
        self._selector = selectors.DefaultSelector()
        self._readers: dict[int, Callable[[], Any]] = {}
        self._wake_r, self._wake_w = os.pipe()
        os.set_blocking(self._wake_r, False)
        os.set_blocking(self._wake_w, False)
        self._selector.register(self._wake_r, selectors.EVENT_READ, None)
        self._thread: threading.Thread | None = None
        self._owner: int | None = None  # ident of the thread inside the loop
        self._polling = False
        self._sleeping = 0  # threads in `wait` that do not lead the loop
        self._turns = 0  # number of polls
        self._stop = False
        self.error: BaseException | None = None  # the exception that ended the thread

    def realtime_ns(self) -> int:
        """CLOCK_REALTIME: ns since 1970-01-01 UTC."""
        return time.time_ns()

    def call_at(
        self, when_ns: int, fn: Callable[[], Any], *, background: bool = False
    ) -> TimerHandle:
        """Call `fn()` with the lock held once `when_ns` is reached. Thread safe."""
        with self.lock:
            handle = super().call_at(when_ns, fn, background=background)
            if self._polling and self._owner != threading.get_ident():
                self._interrupt()
            return handle

    def call_soon(self, fn: Callable[[], Any]) -> None:
        """Schedule `fn()` with the lock held, in FIFO order. Thread safe."""
        super().call_soon(fn)
        if self._polling and self._owner != threading.get_ident():
            self._interrupt()

    def add_reader(self, fd: int, fn: Callable[[], Any]) -> None:
        """Call `fn()` (lock held) whenever `fd` is readable, until `remove_reader`."""
        with self.lock:
            if fd in self._readers:
                self._selector.modify(fd, selectors.EVENT_READ, fn)
            else:
                self._selector.register(fd, selectors.EVENT_READ, fn)
            self._readers[fd] = fn
            if self._polling:
                self._interrupt()

    def remove_reader(self, fd: int) -> None:
        """Stop watching `fd`; unknown descriptors are ignored."""
        with self.lock:
            if self._readers.pop(fd, None) is not None:
                self._selector.unregister(fd)
                if self._polling:
                    self._interrupt()

    def require_running(self, what: str) -> None:
        """Reject `what`, which sleeps outside the clock, unless a thread runs the clock.

        Raises:
            ClockError: the clock would stop meanwhile. Call with the lock held.
        """
        if self._thread is None and self._owner is None:
            raise ClockError(
                f"{what}: nobody runs this RealClock meanwhile; call its start() first"
            )

    def wake(self) -> None:
        """Make sleeping `wait`ers check their condition. Call with the lock held."""
        if self._sleeping:
            self._cond.notify_all()

    def wait(self, cond: Callable[[], bool], timeout_ns: int | None = None) -> bool:
        """Sleep until `cond()` or the timeout; returns `cond()`. Call with the lock held once.

        The lock is free while asleep. Without a running loop this thread becomes the loop; work
        that is due at the timeout is done first.
        """
        if cond():
            return True
        me = threading.get_ident()
        deadline = None if timeout_ns is None else time.monotonic_ns() + timeout_ns
        led = False
        try:
            while not cond():
                left = None if deadline is None else deadline - time.monotonic_ns()
                leads = self._owner == me or (self._owner is None and self._thread is None)
                if left is not None and left <= 0:
                    led = led or leads
                    return self._catch_up(cond) if leads else bool(cond())
                if self.error is not None:
                    raise ClockError("the clock's thread ended by an exception") from self.error
                if leads:
                    led = True
                    self._run_once(left)
                else:
                    self._sleeping += 1
                    try:
                        self._cond.wait(None if left is None else left / 1e9)
                    finally:
                        self._own_again((1, me))
                        self._sleeping -= 1
            return True
        finally:
            if led and self._owner is None:
                self._cond.notify_all()  # another sleeper must run the loop now

    def _catch_up(self, cond: Callable[[], bool]) -> bool:
        """Run due events without sleeping, until `cond()`; returns `cond()`."""
        for _ in range(LATE_TURNS):
            if not self._run_once(0) or cond():
                break
        return bool(cond())

    def _run_once(self, limit_ns: int | None) -> bool:
        """One iteration: run due events, poll at most `limit_ns`. Lock held on entry.

        False if there was nothing to do.
        """
        outer = self._owner
        self._owner = threading.get_ident()
        try:
            ran = self.run_expired(time.monotonic_ns())
            if self.waiting_now or ran:
                wait_s: float | None = 0.0
            else:
                when = self.next_ns()
                wait_ns = limit_ns
                if when is not None:
                    due = max(0, when - time.monotonic_ns())
                    wait_ns = due if wait_ns is None else min(wait_ns, due)
                wait_s = None if wait_ns is None else wait_ns / 1e9
            if wait_s == 0.0 and not self._readers:
                if ran:
                    self.wake()
                self._yield_lock()
                return bool(ran or self.waiting_now)
            self._polling = True
            if ran:
                self.wake()
            depth: Any = (1, self._owner)
            try:
                depth = self._release_lock()
                events = self._selector.select(wait_s)
            finally:
                self._own_again(depth)
                self._polling = False
            self._turns += 1
            turn = self._turns
            for key, _ in events:
                if self._turns != turn:
                    break  # a callback ran an iteration; the rest is still readable
                if key.fd == self._wake_r:
                    self._drain()
                    continue
                # An earlier callback may have closed it; its number may be another's by now.
                fn = self._readers.get(key.fd)
                if fn is not None and fn is key.data:
                    fn()
            return bool(ran or events or self.waiting_now)
        finally:
            self._owner = outer

    def _release_lock(self) -> Any:
        return self._cond._release_save()  # type: ignore[attr-defined]  # RLock, any depth

    def _acquire_lock(self, state: Any) -> None:
        self._cond._acquire_restore(state)  # type: ignore[attr-defined]

    def _own_again(self, state: Any) -> None:
        """Own the lock after a sleep, which a signal handler may have interrupted anywhere."""
        if not self._cond._is_owned():  # type: ignore[attr-defined]
            self._acquire_lock(state)

    def _yield_lock(self) -> None:
        """Let other threads take the lock while the loop is busy."""
        state: Any = (1, self._owner)
        try:
            state = self._release_lock()
        finally:
            self._own_again(state)

    def _interrupt(self) -> None:
        try:
            os.write(self._wake_w, b"\0")
        except (BlockingIOError, OSError):
            return  # the pipe is full, so the loop is awake already; or closed

    def _drain(self) -> None:
        try:
            while len(os.read(self._wake_r, 4096)) == 4096:
                pass
        except BlockingIOError:
            return

    def start(self) -> RealClock:
        """Run the loop in a daemon thread until `stop`."""
        with self.lock:
            if self._thread is None:
                self._stop = False
                self._thread = threading.Thread(target=self._main, name="clock", daemon=True)
                self._thread.start()
        return self

    def _main(self) -> None:
        with self.lock:
            try:
                while not self._stop:
                    if self._owner is None:
                        self._run_once(None)
                    else:  # a waiting thread already runs the loop
                        self._cond.wait()
            except BaseException as exc:
                self.error = exc
                raise
            finally:
                self._cond.notify_all()

    def stop(self) -> None:
        """Stop the thread of `start` and wait for it."""
        thread = self._thread
        if thread is None:
            return
        self._stop = True
        self._interrupt()
        if thread is not threading.current_thread():
            with self.lock:
                self._cond.notify_all()
            thread.join()
        with self.lock:
            self._thread = None
            self._cond.notify_all()  # the sleeping thread runs the loop from now on

    def run(self, until: Callable[[], bool] | None = None, timeout_ns: int | None = None) -> bool:
        """Run the loop in this thread until `until()` holds, `timeout_ns` passes or `stop`."""
        deadline = None if timeout_ns is None else time.monotonic_ns() + timeout_ns
        self._stop = False
        with self.lock:
            while not self._stop:
                if until is not None and until():
                    return True
                left = None if deadline is None else deadline - time.monotonic_ns()
                if left is not None and left <= 0:
                    return self._catch_up(until or _never)
                self._run_once(left)
            self._cond.notify_all()
        return until is not None and bool(until())

    def request_stop(self) -> None:
        """Make `run` return; safe in a signal handler."""
        self._stop = True
        self._interrupt()

    def close(self) -> None:
        """Stop the loop and close its own descriptors (not those of `add_reader`)."""
        self.stop()
        with self.lock:
            if self._wake_r >= 0:
                self._selector.close()
                os.close(self._wake_r)
                os.close(self._wake_w)
                self._wake_r = self._wake_w = -1
            self._readers.clear()
            self.clear()
