"""The clocks that NICs, links and hosts are given: virtual (deterministic), real, asyncio.

All three are the same event queue (fastpath.eventq): a FIFO of things to do now and a heap of
things to do later. They differ only in who advances time: a `VirtualClock` jumps to the next event,
a `RealClock` sleeps in one poll loop with the links' file descriptors, an `AsyncioClock` uses a
running asyncio loop.
"""

from __future__ import annotations

import os
import selectors
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

from e1000emu.stall import QUIET_NS, Patience, Watch
from fastpath.errors import E1000Error, check_methods, whole_number
from fastpath.eventq import (
    EVENT_MAX_NS,
    EVENT_NS,
    INSTANT_EVENTS,
    EventQueue,
    JumpQueue,
    TimerHandle,
)

__all__ = [
    "EPOCH_NS",
    "EVENT_MAX_NS",
    "EVENT_NS",
    "INSTANT_EVENTS",
    "SECOND_NS",
    "AsyncioClock",
    "ClockError",
    "RealClock",
    "SimulationDeadlock",
    "TimerHandle",
    "VirtualClock",
]

SECOND_NS = 1_000_000_000
# Wall time at 0 of a VirtualClock unless it is told another: 2026-01-01 12:00 UTC. Always the same,
# so that a run stays a function of its inputs, and at noon, so that it is that day nearly anywhere.
EPOCH_NS = 1_767_268_800 * SECOND_NS
# A wait without timeout gives up after this much virtual time in which only background timers
# (watchdogs, garbage collection) ran: nothing that they do can end the wait.
BACKGROUND_GRACE_NS = 300 * SECOND_NS

# A timeout may pass while the process does not run. Input that has arrived by then needs up to this
# many turns of the loop (a frame, its interrupt, the poll, the socket) before a wait may give up.
LATE_TURNS = 64

NEVER_NS = (1 << 63) - 1  # after 292 years; a later event never runs

THREADS = (
    "one thread at a time uses a VirtualClock: with ordinary threads put the hosts on "
    "RealClock().start(), or make the threads by clock.spawn(fn)"
)


class ClockError(E1000Error, RuntimeError):
    """A clock was asked for something it cannot do; the message names the remedy."""


class SimulationDeadlock(ClockError):
    """A blocking call waits in virtual time and no event is left that could end the wait."""


def _running_loop() -> AbstractEventLoop | None:
    """The asyncio loop that runs in this thread; a program without asyncio does not import it."""
    asyncio = sys.modules.get("asyncio")
    return None if asyncio is None else asyncio.events._get_running_loop()


class _NullLock:
    """A lock for clocks that only one thread uses: entering costs two empty calls."""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc: object) -> None:
        return None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        return True

    def release(self) -> None:
        return None


class _Task:
    """A cooperative thread of a simulation: runs only while the clock's loop waits for it."""

    __slots__ = (
        "clock",
        "cond",
        "deadline",
        "done",
        "error",
        "fn",
        "go",
        "name",
        "result",
        "thread",
    )

    def __init__(self, clock: VirtualClock, fn: Callable[[], Any], name: str) -> None:
        self.clock = clock
        self.fn = fn
        self.name = name
        self.cond: Callable[[], bool] | None = None
        self.deadline: TimerHandle | None = None
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.go = threading.Semaphore(0)
        self.thread = threading.Thread(target=self._main, name=name, daemon=True)

    def _main(self) -> None:
        self.go.acquire()
        try:
            if self.error is None:
                self.result = self.fn()
        except BaseException as exc:
            self.error = exc
        finally:
            self.done = True
            self.clock._baton.release()

    def join(self, timeout_ns: int | None = None) -> Any:
        """Run the simulation until the task ends; return its result or raise its exception."""
        if not self.clock.wait(self._is_done, timeout_ns):
            raise TimeoutError(f"task {self.name!r} still runs after {timeout_ns} ns")
        if self.error is not None:
            raise self.error
        return self.result

    def _is_done(self) -> bool:
        return self.done


class VirtualClock(JumpQueue):
    """Time that jumps from event to event: the same inputs give the same run, byte for byte.

    One thread at a time uses it. `wait` runs events until its condition holds, so a blocking call
    of one host lets every other host on the clock go on. `spawn` adds cooperative threads, of
    which exactly one runs at any time.

    Events take no time, so two ports that answer each other without delay would continue at the
    same instant for ever. So after `INSTANT_EVENTS` events at one instant each further one takes
    time, until nothing is left to do at once: `run_for` returns and timers run in any case.

    `epoch_ns` is the wall time (ns since 1970-01-01 UTC) at which the clock shows 0.
    """

    __slots__ = ("_baton", "epoch_ns", "lock", "watches")

    def __init__(self, start_ns: int = 0, *, epoch_ns: int = EPOCH_NS) -> None:
        super().__init__(whole_number("VirtualClock", "start_ns", start_ns, 0, NEVER_NS, unit="ns"))
        self.epoch_ns = whole_number("VirtualClock", "epoch_ns", epoch_ns, 0, unit="ns")
        self.lock: AbstractContextManager[Any] = _NullLock()
        self._baton = threading.Semaphore(0)
        self.watches: list[Watch] = []

    def realtime_ns(self) -> int:
        """Virtual wall time: ns since 1970-01-01 UTC."""
        return self.epoch_ns + self._now

    def rewind(self, when_ns: int) -> None:
        """Set the time back, so that what is set up next happens at the same time as what was.

        The two must not have met. Raises: ArgumentError, no time of 0 to now.
        """
        self._now = whole_number("VirtualClock.rewind", "when_ns", when_ns, 0, self._now, unit="ns")

    def add_reader(self, fd: int, fn: Callable[[], Any]) -> None:
        """Refuse: a file descriptor becomes readable in real time only."""
        raise ClockError(
            f"VirtualClock: cannot watch file descriptor {fd}; use RealClock or AsyncioClock "
            "with links to the outside"
        )

    def remove_reader(self, fd: int) -> None:
        """Nothing to remove: `add_reader` refuses."""

    def require_running(self, what: str) -> None:
        """Refuse `what`, which sleeps outside of the clock, unless an asyncio loop drives it.

        Raises:
            ClockError: virtual time would stand still meanwhile, for ever.
        """
        if getattr(_running_loop(), "clock", None) is not self:
            raise ClockError(
                f"{what}: a VirtualClock moves only while a call waits on it, so whoever sleeps "
                "elsewhere sleeps for ever; run coroutines with stack.aio.run(main(), clock=clock),"
                " use blocking calls or stack.socket.wait_any, or put the hosts on "
                "RealClock().start()"
            )

    def wake(self) -> None:
        """A waiter's condition may have changed. `wait` looks after every event anyway."""

    def watch(
        self,
        interrupt: Callable[[], Any],
        progress: Callable[[], Any],
        describe: Callable[[], list[str]],
    ) -> Callable[[], None]:
        """Register how to see that waiting for a host is hopeless (e1000emu.stall); returns what
        ends that."""
        watch = Watch(interrupt, progress, describe)
        self.watches.append(watch)
        return lambda: self.watches.remove(watch)

    def step(self) -> bool:
        """Run one event, moving time forward if need be. False when none is left."""
        fn = self.take(None)
        if fn is None:
            return False
        fn()
        return True

    def _turn(self, limit_ns: int | None) -> bool:
        """Let tasks run; True when one did and no event waits too long for them to rest."""
        if not self._run_tasks():
            return False
        self._crowd += 1
        if self._crowd <= INSTANT_EVENTS:
            return True
        if self.waiting_now or self.next_ns() is not None:
            return False
        now = self.after_event()
        if limit_ns is not None and now > limit_ns:
            return False
        self._now = now
        return True

    def _end(self, limit_ns: int) -> None:
        """Set the time at the end of a run."""
        if limit_ns > self._now:
            self._now = min(limit_ns, NEVER_NS)
            if not self.waiting_now:
                self._crowd = 0

    def _in_task(self) -> bool:
        """Whether the caller is the running task."""
        task: _Task | None = self._current
        return task is not None and threading.current_thread() is task.thread

    def _check_thread(self) -> None:
        """Refuse a second thread while another one runs the events."""
        waiting = self._waiting
        if waiting is not None and waiting != threading.get_ident():
            name = next((t.name for t in threading.enumerate() if t.ident == waiting), "another")
            raise ClockError(
                f"VirtualClock: thread {threading.current_thread().name!r} called while thread "
                f"{name!r} waits; {THREADS}"
            )

    def _run_on(self, cond: Callable[[], bool], deadline: int | None) -> bool:
        """Run events up to the one that makes `cond()` true, or to `deadline` (ns)."""
        outer, self._waiting = self._waiting, threading.get_ident()
        try:
            return self._run_to(cond, deadline)
        finally:
            self._waiting = outer

    def _run_to(self, cond: Callable[[], bool], deadline: int | None) -> bool:
        alone_since = -1
        patience: Patience | None = None
        look_ns = self._now + QUIET_NS
        while True:
            if self._tasks and self._turn(deadline):
                if cond():
                    return True
                continue
            if deadline is None and not self.waiting_now:
                when = self.next_ns()
                if when is None:
                    raise self._deadlock(cond)
                if self.only_background():
                    if alone_since < 0:
                        alone_since = self._now
                    elif when - alone_since > BACKGROUND_GRACE_NS:
                        raise self._deadlock(cond)
                else:
                    alone_since = -1
                    if when >= look_ns:
                        patience = patience or Patience(self)
                        if patience.hopeless(when):
                            raise self._deadlock(cond)
                        look_ns = patience.look_ns
            fn = self.take(deadline)
            if fn is None:
                assert deadline is not None
                self._end(deadline)
                return bool(cond())
            fn()
            if cond():
                return True

    def _deadlock(self, cond: Callable[[], bool]) -> SimulationDeadlock:
        sleeper = getattr(cond, "__self__", None)
        name = getattr(sleeper, "awaited", None) or getattr(cond, "__qualname__", repr(cond))
        tasks = [t for t in self._tasks if not t.done]
        here = threading.current_thread()
        main = threading.main_thread()
        others = {t for t in threading.enumerate() if t is not here and t is not main}
        others -= {t.thread for t in tasks}
        said = [
            f"at {self._now} ns: waiting for {name}, but no event is left that could end the wait"
            + (f" (tasks also waiting: {', '.join(t.name for t in tasks)})" if tasks else "")
        ]
        said += [sentence for watch in self.watches for sentence in watch.describe()]
        if here is not main or others:
            said.append(THREADS)
        said.append(
            "give the call a timeout, start the peer first, or let both ends take turns: "
            "e1000emu.lab.pump, clock.spawn, or coroutines in stack.aio.run"
        )
        return SimulationDeadlock("; ".join(said))

    def run_until(self, when_ns: int) -> None:
        """Run everything due up to and including `when_ns`, and set the time to that.

        A time past runs what is due now. Raises: ArgumentError, not a whole number.
        """
        when_ns = whole_number("VirtualClock.run_until", "when_ns", when_ns, unit="ns")
        if self._waiting is not None:
            self._check_thread()
        if when_ns <= self._now:
            self._crowd = 0  # it may not move time: it has events of its own
        while True:
            if (self._tasks and self._turn(when_ns)) or self.run_now():
                continue
            fn = self.take(when_ns)
            if fn is None:
                break
            fn()
        self._end(when_ns)

    def due_ns(self) -> int | None:
        """When the next event runs, None without one: later than now if events take time."""
        now = self._now
        if self._crowd >= INSTANT_EVENTS:
            self._crowd += 1  # as `take` counts the event that it takes
            now = self.after_event()
            self._crowd -= 1
        if self.waiting_now:
            return now
        when = self.next_ns()
        return None if when is None else max(when, now)

    def run_before(self, when_ns: int) -> int | None:
        """Run everything due before `when_ns`; return when the next event is due.

        Unlike `run_until` it leaves the time at the last event, so a run in such pieces is the
        same as in one.
        """
        if self._waiting is not None:
            self._check_thread()
        while True:
            if self._tasks and self._turn(when_ns - 1):
                continue
            due = self.due_ns()
            if due is None or due >= when_ns:
                return due
            fn = self.take(when_ns - 1)
            assert fn is not None
            fn()

    def move_to(self, when_ns: int) -> None:
        """Set the time to `when_ns`; nothing may be due before that, nor it be past."""
        self._end(when_ns)

    def run_for(self, duration_ns: int) -> None:
        """`run_until(now + duration_ns)`. Raises: ArgumentError, no whole number of 0 or more."""
        duration_ns = whole_number("VirtualClock.run_for", "duration_ns", duration_ns, 0, unit="ns")
        self.run_until(self._now + duration_ns)

    def run_until_idle(self, limit_ns: int = 60 * SECOND_NS) -> bool:
        """Run until only background timers are left; True then, False when `limit_ns` passed.

        Background timers due before the last foreground event run too, in order.
        """
        limit_ns = whole_number("VirtualClock.run_until_idle", "limit_ns", limit_ns, 0, unit="ns")
        end = self._now + limit_ns
        if limit_ns <= 0:
            self._crowd = 0
        while True:
            if (self._tasks and self._turn(end)) or self.run_now():
                continue
            if not self.waiting_now and self.only_background():
                return True
            fn = self.take(end)
            if fn is None:
                self._end(end)
                return False
            fn()

    # --- cooperative threads ------------------------------------------------------------------

    def spawn(self, fn: Callable[..., Any], *args: Any, name: str | None = None) -> _Task:
        """Start `fn(*args)` as a cooperative thread of the simulation; it may call `wait`.

        It first runs when somebody waits for, or runs, the clock. Returns the task: `.join()`
        gives the result. Tasks take turns in the order they were spawned, so runs repeat.
        """
        task = _Task(self, lambda: fn(*args), name or str(getattr(fn, "__name__", "task")))
        task.cond = _true
        self._tasks.append(task)
        task.thread.start()
        return task

    def close(self) -> None:
        """End what is left: tasks that still wait get a ClockError, scheduled calls are dropped."""
        for task in list(self._tasks):
            task.error = ClockError(f"task {task.name!r}: the simulation ended")
            self._current = task
            task.go.release()
            self._baton.acquire()
            self._current = None
            task.thread.join()
        self._tasks.clear()
        self.clear()

    def _run_tasks(self) -> bool:
        """Let every task whose condition holds run until it waits again. True when one ran."""
        if self._current is not None:
            return False
        ran = False
        for task in list(self._tasks):
            if task.done:
                continue
            cond = task.cond
            late = task.deadline is not None and task.deadline.fn is None
            if late or (cond is not None and cond()):
                ran = True
                self._current = task
                task.cond = None
                task.go.release()
                self._baton.acquire()
                self._current = None
                if task.done:
                    self._tasks.remove(task)
        return ran

    def _task_wait(self, task: _Task, cond: Callable[[], bool], timeout_ns: int | None) -> bool:
        """`wait` called inside a cooperative thread: give the baton back until it holds."""
        if cond():
            return True
        task.deadline = None
        if timeout_ns is not None:
            task.deadline = self.call_at(self._now + timeout_ns, _nothing)
        task.cond = cond
        self._baton.release()
        task.go.acquire()
        if task.deadline is not None:
            task.deadline.cancel()
            task.deadline = None
        if task.error is not None:
            raise task.error
        return bool(cond())


def _true() -> bool:
    return True


def _never() -> bool:
    return False


def _nothing() -> None:
    return None


class RealClock(EventQueue):
    """Monotonic time and one poll loop for timers and the links' file descriptors.

    Either `start()` runs the loop in a thread, and other threads call in holding `lock` (they
    sleep on a condition variable), or nothing is started and whoever waits runs the loop itself.
    """

    __slots__ = (
        "_cond",
        "_owner",
        "_polling",
        "_readers",
        "_selector",
        "_stop",
        "_thread",
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
        self._stop = False
        self.error: BaseException | None = None  # what ended the thread

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
        """Call `fn()` with the lock held, soon, in FIFO order. Thread safe."""
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
        """Refuse `what`, which sleeps outside of the clock, unless a thread runs it.

        Raises:
            ClockError: nothing would happen meanwhile. Call with the lock held.
        """
        if self._thread is None and self._owner is None:
            raise ClockError(
                f"{what}: nobody runs this RealClock meanwhile; call its start() first"
            )

    def wake(self) -> None:
        """Tell sleeping `wait`ers to look at their condition. Call with the lock held."""
        self._cond.notify_all()

    def wait(self, cond: Callable[[], bool], timeout_ns: int | None = None) -> bool:
        """Sleep until `cond()` or the timeout; returns `cond()`. Call with the lock held once.

        The lock is free while asleep. Without a running loop this thread becomes the loop; what is
        there to be done when the timeout passes is done first.
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
                    try:
                        self._cond.wait(None if left is None else left / 1e9)
                    finally:
                        self._own_again((1, me))
            return True
        finally:
            if led and self._owner is None:
                self._cond.notify_all()  # another sleeper has to run the loop now

    def _catch_up(self, cond: Callable[[], bool]) -> bool:
        """Run what is due, without sleeping, until `cond()`; returns `cond()`."""
        for _ in range(LATE_TURNS):
            if not self._run_once(0) or cond():
                break
        return bool(cond())

    def _run_once(self, limit_ns: int | None) -> bool:
        """One turn of the loop: run what is due, poll at most `limit_ns`. Lock held on entry.

        False when there was nothing to do.
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
                    self._cond.notify_all()
                self._yield_lock()
                return bool(ran or self.waiting_now)
            self._polling = True
            if ran:
                self._cond.notify_all()
            depth: Any = (1, self._owner)
            try:
                depth = self._release_lock()
                events = self._selector.select(wait_s)
            finally:
                self._own_again(depth)
                self._polling = False
            for key, _ in events:
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
        """Own the lock after a sleep, which the handler of a signal may have ended anywhere."""
        if not self._cond._is_owned():  # type: ignore[attr-defined]
            self._acquire_lock(state)

    def _yield_lock(self) -> None:
        """Give threads that want the lock a chance while the loop is busy."""
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
                    else:  # a thread that waits leads the loop, as it began before this one ran
                        self._cond.wait()
            except BaseException as exc:
                self.error = exc
                raise
            finally:
                self._cond.notify_all()

    def stop(self) -> None:
        """Stop the thread that `start` made and wait for it."""
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
            self._cond.notify_all()  # who sleeps runs the loop from now on

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
        """End `run` soon; safe in a signal handler."""
        self._stop = True
        self._interrupt()

    def close(self) -> None:
        """Stop the loop and free the descriptors it made (not those of `add_reader`)."""
        self.stop()
        with self.lock:
            if self._wake_r >= 0:
                self._selector.close()
                os.close(self._wake_r)
                os.close(self._wake_w)
                self._wake_r = self._wake_w = -1
            self._readers.clear()
            self.clear()


class AsyncioClock(EventQueue):
    """A clock on an asyncio loop: hosts, links and coroutines share the loop's one thread.

    Blocking calls cannot block here: use `stack.aio`, or non-blocking sockets. While the loop is
    not running (set-up, tear-down), `wait` runs it until its condition holds.

    With `busy_poll_ns` the loop polls for that long after a descriptor was readable before it
    sleeps, if the pause before was no longer than that: the next packet of a conversation finds it
    awake (Linux's net.core.busy_poll, QEMU's poll-max-ns). It never keeps a callback waiting.
    """

    __slots__ = (
        "_armed",
        "_armed_ns",
        "_closed",
        "_idle_ns",
        "_poll",
        "_spin_until_ns",
        "_spinning",
        "_waiters",
        "busy_poll_ns",
        "lock",
        "loop",
    )

    def __init__(self, loop: AbstractEventLoop, *, busy_poll_ns: int = 0) -> None:
        super().__init__()
        takes = "an event loop, such as asyncio.get_running_loop()"
        check_methods("AsyncioClock", "loop", loop, ("call_soon", "add_reader"), takes)
        self.loop = loop
        self.busy_poll_ns = whole_number("AsyncioClock", "busy_poll_ns", busy_poll_ns, 0, unit="ns")
        self._idle_ns = 0  # when the last callback of a descriptor ended
        self._spinning = False  # a _spin is queued on the loop
        # Every packet asks for the time. asyncio's own loops have time.monotonic(), uvloop's the
        # same in whole milliseconds.
        if type(loop).__module__.partition(".")[0] not in ("asyncio", "uvloop"):
            self._time = self._loop_ns
        self._spin_until_ns = 0
        self.lock: AbstractContextManager[Any] = _NullLock()
        self._armed: Any = None  # asyncio handle of the next timer
        self._armed_ns = 0
        self._poll = False  # a _run is queued on the loop
        self._waiters: list[Callable[[], None]] = []
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
        """Refuse `what`, which sleeps in a loop, if that is another than the clock's.

        Raises:
            ClockError: the clock's own loop would stand still meanwhile.
        """
        running = _running_loop()
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
        finally:  # an event that raised is the loop's exception handler's; the others go on
            if self.waiting_now and not self._poll:
                self._poll = True
                self.loop.call_soon(self._run)
            self._arm()

    def wait(self, cond: Callable[[], bool], timeout_ns: int | None = None) -> bool:
        """Run the loop until `cond()`; only while it is not running already.

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
        """Forget every scheduled call; the loop itself stays the caller's."""
        self._closed = True
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None
        self.clear()
