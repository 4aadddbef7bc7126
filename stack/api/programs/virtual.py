"""Programs in virtual time: the events of a VirtualClock wait until every thread waits.

`Attached.settle` is an event. It runs in the same instant after each event that may have let a
program continue. It handles calls until no thread of any program runs. So time advances only
when all of them wait, in a call kept here or asleep in the kernel.

The running threads are read from /proc: whether a thread is runnable or running, and its run time
so far. None has run between two identical readings of all. Most threads sleep while one
reads the time, and for them a reading costs two reads of open files.

Threads and processes are found before their creator continues: creating calls stop here, and
no further call is handled until the creator is idle. One call is handled at a time, in the order in
which the threads were found. Threads that interact only by calls always run in the same order.

A call with a timeout is kept here, since the kernel's timers only use real time. Its condition
is checked when all threads are idle: descriptors by poll(2) over copies, the word of a futex in the
program's memory. A futex wait may end without a wake, so a word that has changed is enough.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastpath.base.seccomp import Task, get_fd
from stack.api.programs.filter import CLONES, number_of
from stack.core.time64 import NSEC_PER_MSEC

if TYPE_CHECKING:
    from stack.api.programs.supervisor import Call, Supervisor

FIRST_S, MOST_S = 0.00002, 0.002
"""Sleep between two readings of thread states."""
IDLE_CALLS = 4096
"""Limit of calls of a thread at one instant without result (the time, EAGAIN). Each further one
takes time, or a polling program would never end."""
IDLE_POLL = 32
"""Weight of a non-blocking poll among them, since its caller likely loops."""
IDLE_NS, IDLE_MOST_NS = 1000, NSEC_PER_MSEC
SPIN_TICKS = max(os.sysconf("SC_CLK_TCK") // 5, 1)
"""A thread that has run this long without a call may wait for another's call."""
RESTS = frozenset("STtZX")
STATUS_BYTES = 1 << 14
KEPT_THREADS = 200
"""Threads whose files stay open: two descriptors each."""
TGID = re.compile(rb"\nTgid:\t(\d+)\n")
COMM = re.compile(rb"^Name:\t(.*)\n")
NSTGID = re.compile(rb"\nNStgid:(?:\t\d+)*?\t(\d+)\n")


class Held:
    """The condition of a call kept here until `deadline` (ns)."""

    __slots__ = ("copies", "deadline", "left_addr", "mask", "poll")

    def __init__(self, deadline: int, mask: int | None = None, left_addr: int = 0) -> None:
        self.deadline = deadline
        self.mask = mask
        """The signals that the call blocks; None: those that the thread blocks."""
        self.left_addr = left_addr
        """Address for the remaining time after a signal; 0: none."""
        self.copies: list[int] = []
        self.poll: Any = None

    def watch(self, tid: int, wanted: list[tuple[int, int]]) -> None:
        """Also wait for descriptors of a thread: (number, events). Raises: OSError EBADF."""
        self.poll = select.poll()
        try:
            for number, events in wanted:
                self.copies.append(get_fd(tid, number))
                self.poll.register(self.copies[-1], events)
        except OSError:
            self.close()
            raise

    def ready(self) -> bool:
        """Whether a descriptor is ready."""
        return bool(self.poll is not None and self.poll.poll(0))

    def close(self) -> None:
        """Close the copies."""
        for fd in self.copies:
            os.close(fd)
        self.copies.clear()
        self.poll = None


class Attached:
    """The programs of one VirtualClock."""

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.supervisors: list[Supervisor] = []
        self._listeners: Any = None
        """The set of the supervisors' listeners, while there are any."""
        self._listening: dict[int, Supervisor] = {}
        """Supervisors by listener descriptor."""
        self._watched: dict[Callable[[], Any], Callable[[], bool]] = {}
        """Functions to call when all threads are idle and their condition holds."""
        self.stopped: dict[int, Call] = {}
        """Unfinished call by thread."""
        self.pending: list[Call] = []
        """The calls of `stopped` that were not tried yet."""
        self._threads: dict[int, dict[int, tuple[int, Task]]] = {}
        """Threads by process, with their places in the order."""
        self._last: Task | None = None
        """The thread seen running last, which most likely still runs."""
        self._owner: dict[int, Supervisor] = {}
        """Supervisor by process."""
        self._found = 0
        self._makers: dict[int, set[int]] = {}
        """Threads that may have created an unknown thread or process; the children that
        they had before."""
        self._idle: dict[int, tuple[int, int]] = {}
        """By thread: the time, and the calls without result since."""
        self._spins: dict[int, int] = {}
        """By running thread: its used ticks at the first observation."""
        self._scheduled = False
        self._settling = False

    def add(self, supervisor: Supervisor, pid: int) -> None:
        """A program has been started."""
        self.supervisors.append(supervisor)
        if not self._listening:
            self._listeners = select.epoll()
        self._listening[supervisor.listener.fd] = supervisor
        self._listeners.register(supervisor.listener.fd, select.EPOLLIN)
        self._find(pid, supervisor)
        self.soon()

    def remove(self, supervisor: Supervisor) -> None:
        """Time no longer advances for its processes: kill the remaining ones."""
        self._unlisten(supervisor)
        self.pending = [call for call in self.pending if call.supervisor is not supervisor]
        for pid in [pid for pid, owner in self._owner.items() if owner is supervisor]:
            if has_filter(pid):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            self._forget(pid)
        for tid in [tid for tid, call in self.stopped.items() if call.supervisor is supervisor]:
            del self.stopped[tid]

    def _unlisten(self, supervisor: Supervisor) -> None:
        """Stop listening to its calls."""
        if supervisor in self.supervisors:
            self.supervisors.remove(supervisor)
            del self._listening[supervisor.listener.fd]
            self._listeners.unregister(supervisor.listener.fd)
            if not self._listening:
                self._listeners.close()

    def when(self, cond: Callable[[], bool], fn: Callable[[], Any]) -> None:
        """Call `fn()` once `cond()` holds, which is checked whenever all threads are idle."""
        self._watched[fn] = cond
        self.soon()

    def forget(self, fn: Callable[[], Any]) -> None:
        """Undo `when`; harmless after the call."""
        self._watched.pop(fn, None)

    def soon(self) -> None:
        """A program may continue: stop time until it waits again."""
        if not (self._scheduled or self._settling):
            self._scheduled = True
            self.clock.call_soon(self.settle)

    def answered(self, call: Call) -> None:
        """The thread continues."""
        self.stopped.pop(call.tid, None)
        self.soon()

    def makes(self, tid: int) -> None:
        """The thread is about to create a thread or process."""
        self._makers[tid] = set(children_of(tid))

    def idle(self, tid: int, calls: int = 1) -> None:
        """A call of the thread had no result; it counts `calls` times."""
        now = self.clock.now_ns()
        when, count = self._idle.get(tid, (now, 0))
        self._idle[tid] = (now, count + calls if when >= now - IDLE_MOST_NS else calls)

    def lives(self, pid: int) -> bool:
        """Whether the process belongs to a program."""
        return pid in self._threads

    # --- idle threads -----------------------------------------------------------------------

    def _forget(self, pid: int) -> None:
        for _, task in self._threads.pop(pid, {}).values():
            self._ended(task)
        self._owner.pop(pid, None)

    def _ended(self, task: Task) -> None:
        task.close()
        if task is self._last:
            self._last = None
        self._idle.pop(task.tid, None)
        self._spins.pop(task.tid, None)
        self._makers.pop(task.tid, None)

    def _find(self, pid: int, owner: Supervisor) -> None:
        """Look for threads of a process."""
        known = self._threads.get(pid, {})
        try:
            found = sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))
        except OSError:
            self._forget(pid)
            return
        self._owner[pid] = owner
        kept = sum(len(threads) for other, threads in self._threads.items() if other != pid)
        now: dict[int, tuple[int, Task]] = {}
        for tid in found:
            thread = known.pop(tid, None)
            if thread is None:
                self._found += 1
                thread = self._found, Task(tid, kept + len(now) < KEPT_THREADS)
            now[tid] = thread
        for _, task in known.values():
            self._ended(task)
        self._threads[pid] = now

    def _look_at_makers(self) -> None:
        """Find what the creating threads have created."""
        for maker in list(self._makers):
            pid = process_of(maker)
            owner = None if pid is None else self._owner.get(pid)
            if pid is None or owner is None:
                self._makers.pop(maker, None)
                continue
            for found in (pid, *children_of(maker)):
                self._find(found, owner)
            if maker in self.stopped:
                self._makers.pop(maker, None)

    def _waits_for_child(self, tid: int) -> bool:
        """Whether the thread waits for a child that uses its memory (vfork).

        It may also be asleep in the same call before the child is made, for memory or a lock.
        """
        before = self._makers.get(tid)
        return before is not None and in_clone(tid) and not before.issuperset(children_of(tid))

    def _look(self) -> bool | None:
        """Whether all unstopped threads sleep and have not run since the last reading.

        None: one runs.
        """
        stopped, last, same = self.stopped, self._last, True
        if last is not None and last.tid not in stopped:
            same = last.look()
            if last.state == "R":
                return None
            self._last = None
        if self._makers:
            self._look_at_makers()
        for pid in list(self._threads):
            gone = False
            for tid, (_, task) in self._threads[pid].items():
                if tid in stopped:
                    continue
                if not task.look():
                    same = False
                state = task.state
                if not state:
                    gone = True
                elif state not in RESTS and not (state == "D" and self._waits_for_child(tid)):
                    self._last = task
                    return None
            if gone:
                self._find(pid, self._owner[pid])
        return same

    def _rest(self) -> bool:
        """Whether no thread runs."""
        same = self._look()
        if same is None:
            return False
        # A thread seen asleep may have been woken by one read later, or be
        # stopped in a call not yet received.
        if not same and (self._collect(0.0) or not self._look() or self._collect(0.0)):
            return False
        if self._makers:
            for threads in self._threads.values():
                for tid, (_, task) in threads.items():
                    if tid not in self.stopped and task.state != "D":
                        self._makers.pop(tid, None)
        return True

    def _spinning(self) -> int | None:
        """The process of all threads that run, if each has run long without a call."""
        pids = set()
        spin = True
        for pid, threads in self._threads.items():
            for tid, (_, task) in threads.items():
                task.look()
                if tid in self.stopped or not task.state or task.state in RESTS:
                    self._spins.pop(tid, None)
                    continue
                pids.add(pid)
                used = ticks_of(tid)
                spin &= used - self._spins.setdefault(tid, used) >= SPIN_TICKS
        return pids.pop() if spin and len(pids) == 1 else None

    def _serve_spinners(self) -> None:
        """Handle a call although threads run, if they may spin on it.

        They are threads of one process. Other processes share no memory with it.
        """
        pid = self._spinning()
        calls = [call for call in self.pending if call.tid in self._threads.get(pid or 0, ())]
        if calls:
            self._serve(min(calls, key=self._place))

    # --- calls ----------------------------------------------------------------------------------

    def _collect(self, wait_s: float) -> bool:
        """Receive the pending calls, after up to `wait_s`. Whether there were any."""
        found = False
        if wait_s:
            sets = [self._listeners] if self._listening else []
            with contextlib.suppress(ValueError):  # a number beyond select's
                select.select(sets, [], [], wait_s)  # epoll waits for whole milliseconds
        while self._listening and (rows := self._listeners.poll(0)):
            for fd, events in rows:
                supervisor = self._listening[fd]
                if events & select.EPOLLIN:
                    call = supervisor.receive()
                    if call is not None:
                        found = True
                        self._arrived(call)
                else:
                    self._unlisten(supervisor)
                    supervisor.has_ended()
        return found

    def _arrived(self, call: Call) -> None:
        self.stopped[call.tid] = call
        self.pending.append(call)
        self._spins.pop(call.tid, None)
        if not any(call.tid in threads for threads in self._threads.values()):
            pid = process_of(call.tid)
            if pid is not None:
                self._find(pid, call.supervisor)

    def _place(self, call: Call) -> int:
        for threads in self._threads.values():
            if call.tid in threads:
                return threads[call.tid][0]
        return 0

    def settle(self) -> None:
        """Handle calls until every thread waits."""
        self._scheduled = False
        self._settling = True
        pause = FIRST_S
        try:
            while True:
                self._collect(0.0)
                if not self._rest():
                    self._collect(pause)
                    pause = min(2 * pause, MOST_S)
                    if pause == MOST_S and self.pending:
                        self._serve_spinners()
                    continue
                pause = FIRST_S
                if self.pending:
                    self._serve(min(self.pending, key=self._place))
                elif not self._look_again():
                    break
        finally:
            self._settling = False
        for fn, cond in list(self._watched.items()):
            if cond():
                self.forget(fn)
                fn()

    def _serve(self, call: Call) -> None:
        self.pending.remove(call)
        for supervisor in list(self.supervisors):
            supervisor.look_at_hang_ups()  # what was closed before the call
        now = self.clock.now_ns()
        when, count = self._idle.get(call.tid, (now, 0))
        if count > IDLE_CALLS and when >= now - IDLE_MOST_NS:
            step = min(IDLE_NS << min((count - IDLE_CALLS) >> 10, 20), IDLE_MOST_NS)
            self.clock.call_at(now + step, call.again)
        else:
            call.attempt()

    def _look_again(self) -> bool:
        """All are idle: recheck kept calls and signals. Whether any continues."""
        before = len(self.stopped)
        for supervisor in list(self.supervisors):
            supervisor.look_at_hang_ups()
            supervisor.look_at_kept()
        return len(self.stopped) != before or bool(self.pending)


def status_of(tid: int) -> bytes:
    """/proc/TID/status; empty if the thread has ended."""
    with contextlib.suppress(OSError):
        fd = os.open(f"/proc/{tid}/status", os.O_RDONLY)
        try:
            return os.read(fd, STATUS_BYTES)
        finally:
            os.close(fd)
    return b""


def ticks_of(tid: int) -> int:
    """The processor time of a thread, in ticks of the clock."""
    with contextlib.suppress(OSError), open(f"/proc/{tid}/stat", "rb") as file:
        rest = file.read().rpartition(b") ")[2].split()
        return int(rest[11]) + int(rest[12])
    return 0


def process_of(tid: int) -> int | None:
    """The process of a thread; None if it has ended."""
    found = TGID.search(status_of(tid))
    return None if found is None else int(found[1])


def task_tgid_vnr(tid: int) -> int:
    """include/linux/pid.h: a thread's process, numbered as in its namespace; 0: it has ended."""
    found = NSTGID.search(status_of(tid))
    return 0 if found is None else int(found[1])


def get_task_comm(tid: int) -> str:
    """fs/exec.c: the name of a thread; "": it has ended."""
    found = COMM.search(status_of(tid))
    return "" if found is None else os.fsdecode(found[1])


def children_of(tid: int) -> list[int]:
    """The child processes of a thread that it has not waited for."""
    with contextlib.suppress(OSError), open(f"/proc/{tid}/task/{tid}/children") as file:
        return [int(word) for word in file.read().split()]
    return []


def has_filter(pid: int) -> bool:
    """Whether the process has a seccomp filter, so that its number was not reused."""
    return b"\nSeccomp:\t2\n" in status_of(pid)


def in_clone(tid: int) -> bool:
    """Whether the thread is in a call that creates a process."""
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{tid}/syscall") as file:
        return int(file.read().split()[0]) in map(number_of, CLONES)
    return False
