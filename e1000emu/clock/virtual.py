"""Time that jumps from event to event, and the cooperative threads of a simulation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from e1000emu.clock.common import ClockError, NullLock, SimulationDeadlock, running_loop
from e1000emu.clock.stall import QUIET_NS, StallDetector, Watch
from e1000emu.quantities import SECOND_NS
from fastpath.base.eventq import INSTANT_EVENTS, JumpQueue, TimerHandle
from fastpath.errors import whole_number

# Wall time at 0 of a VirtualClock unless given: 2026-01-01 12:00 UTC. Always the same,
# so that runs are reproducible, and at noon, so that the date is the same in most time zones.
EPOCH_NS = 1_767_268_800 * SECOND_NS
# A wait without timeout gives up after this much virtual time in which only background timers
# (watchdogs, garbage collection) ran: they cannot end the wait.
BACKGROUND_GRACE_NS = 300 * SECOND_NS
NEVER_NS = (1 << 63) - 1  # after 292 years; a later event never runs

THREADS = (
    "one thread at a time uses a VirtualClock: with ordinary threads put the hosts on "
    "RealClock().start(), or make the threads by clock.spawn(fn)"
)


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
    """Time that jumps from event to event: runs are deterministic, byte for byte.

    One thread at a time uses it. `wait` runs events until its condition holds, so a blocking call
    of one host lets all other hosts on the clock run. `spawn` adds cooperative threads, of
    which exactly one runs at any time.

    Events take no time, so two ports that answer each other without delay would continue at the
    same instant forever. So after `INSTANT_EVENTS` events at one instant each further one takes
    time, until no immediate event is left: `run_for` returns and timers run in any case.

    `epoch_ns` is the wall time (ns since 1970-01-01 UTC) at which the clock shows 0.
    """

    __slots__ = ("_baton", "attached", "epoch_ns", "lock", "watches")

    def __init__(self, start_ns: int = 0, *, epoch_ns: int = EPOCH_NS) -> None:
        super().__init__(whole_number("VirtualClock", "start_ns", start_ns, 0, NEVER_NS, unit="ns"))
        self.epoch_ns = whole_number("VirtualClock", "epoch_ns", epoch_ns, 0, unit="ns")
        self.lock: AbstractContextManager[Any] = NullLock()
        self._baton = threading.Semaphore(0)
        self.watches: list[Watch] = []
        self.attached: Any = None
        """The programs that run in this time (stack.api.programs.virtual)."""

    def realtime_ns(self) -> int:
        """Virtual wall time: ns since 1970-01-01 UTC."""
        return self.epoch_ns + self._now

    def idle(self) -> bool:
        """Whether the clock has no calls or tasks."""
        return not (self._tasks or self.waiting_now) and self.next_ns() is None

    def rewind(self, when_ns: int) -> None:
        """Set the time back, so that the next set-up has the same times as the last.

        The two must not interact. Raises: ArgumentError, not from 0 to now.
        """
        self._now = whole_number("VirtualClock.rewind", "when_ns", when_ns, 0, self._now, unit="ns")

    def add_reader(self, fd: int, fn: Callable[[], Any]) -> None:
        """Raise ClockError: a file descriptor becomes readable in real time only."""
        raise ClockError(
            f"VirtualClock: cannot watch file descriptor {fd}; use RealClock or AsyncioClock "
            "with links to the outside"
        )

    def remove_reader(self, fd: int) -> None:
        """No effect, since `add_reader` always fails."""

    def require_running(self, what: str) -> None:
        """Reject `what`, which sleeps outside the clock, unless an asyncio loop drives it.

        Raises:
            ClockError: virtual time would stop forever.
        """
        if getattr(running_loop(), "clock", None) is not self:
            raise ClockError(
                f"{what}: a VirtualClock moves only while a call waits on it, so whoever sleeps "
                "elsewhere sleeps for ever; run coroutines with stack.aio.run(main(), clock=clock),"
                " use blocking calls or stack.socket.wait_any, or put the hosts on "
                "RealClock().start()"
            )

    def wake(self) -> None:
        """A waiter's condition may have changed. `wait` checks after every event anyway."""

    def watch(
        self,
        interrupt: Callable[[], Any],
        progress: Callable[[], Any],
        describe: Callable[[], list[str]],
    ) -> Callable[[], None]:
        """Register a check for hopeless waits for a host (e1000emu.clock.stall).

        Returns a function that removes it.
        """
        watch = Watch(interrupt, progress, describe)
        self.watches.append(watch)
        return lambda: self.watches.remove(watch)

    def step(self) -> bool:
        """Run one event, advancing time if needed. False if none is left."""
        fn = self.take(None)
        if fn is None:
            return False
        fn()
        return True

    def _turn(self, limit_ns: int | None) -> bool:
        """Let tasks run; True if one ran and no event waits too long for them."""
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
        """Reject a second thread while another one runs the events."""
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
        stall: StallDetector | None = None
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
                        stall = stall or StallDetector(self, self.watches)
                        if stall.hopeless(when):
                            raise self._deadlock(cond)
                        look_ns = stall.look_ns
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

        A past time runs the events due now. Raises: ArgumentError: not a whole number.
        """
        when_ns = whole_number("VirtualClock.run_until", "when_ns", when_ns, unit="ns")
        if self._waiting is not None:
            self._check_thread()
        if when_ns <= self._now:
            self._crowd = 0  # not advancing time: it has its own events
        while True:
            if (self._tasks and self._turn(when_ns)) or self.run_now():
                continue
            fn = self.take(when_ns)
            if fn is None:
                break
            fn()
        self._end(when_ns)

    def due_ns(self) -> int | None:
        """Time of the next event, None without one: later than now if events take time."""
        now = self._now
        if self._crowd >= INSTANT_EVENTS:
            self._crowd += 1  # as counted by `take`
            now = self.after_event()
            self._crowd -= 1
        if self.waiting_now:
            return now
        when = self.next_ns()
        return None if when is None else max(when, now)

    def run_before(self, when_ns: int) -> int | None:
        """Run everything due before `when_ns`; return when the next event is due.

        Unlike `run_until` it leaves the time at the last event, so such a divided run is the
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
        """Set the time to `when_ns`; no event may be due before, and it must not be past."""
        self._end(when_ns)

    def run_for(self, duration_ns: int) -> None:
        """`run_until(now + duration_ns)`. Raises: ArgumentError, no whole number of 0 or more."""
        duration_ns = whole_number("VirtualClock.run_for", "duration_ns", duration_ns, 0, unit="ns")
        self.run_until(self._now + duration_ns)

    def run_until_idle(self, limit_ns: int = 60 * SECOND_NS) -> bool:
        """Run until only background timers are left; True then, False after `limit_ns`.

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

        It starts when the clock is next run or waited for. Returns the task: `.join()`
        gives the result. Tasks take turns in the order they were spawned: runs repeat.
        """
        task = _Task(self, lambda: fn(*args), name or str(getattr(fn, "__name__", "task")))
        task.cond = _true
        self._tasks.append(task)
        task.thread.start()
        return task

    def close(self) -> None:
        """Cancel everything: waiting tasks get a ClockError, scheduled calls are dropped."""
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
        """Let every task whose condition holds run until it waits again. True if one ran."""
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
        """`wait` called inside a cooperative thread: yield to the clock until it holds."""
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


def _nothing() -> None:
    return None
