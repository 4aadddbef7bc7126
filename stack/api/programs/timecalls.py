"""System calls about time under virtual time: `TIME_CALLS`, by name.

They work as in `calls.py`. A call that waits with a timeout is kept (`Supervisor.hold`) until
its event has happened; then the kernel executes it. On timeout it is finished here.

    a clock, a timer set     do_clock_gettime, do_setitimer: finished at once
    a sleep, a futex, poll   keep, sleep_until -> Supervisor.hold(call, Held), which raises Waiting
    tried again              Held.ready: None, the kernel executes the call; passed: it timed out

State: `Call.held` of each call that waits, and the `Timer` of each alarm and timerfd. `Attached`
(virtual.py) decides when time advances. Read `keep` first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import struct
from collections.abc import Callable
from typing import Any

from fastpath.base.seccomp import get_fd, read_memory, write_memory
from stack.api.programs.calls import CALLS, MAX_POLLFDS, POLLFD, do_poll, i32, numbers_at, show
from stack.api.programs.filter import ARCH_SET_FS, FUTEX_WAIT
from stack.api.programs.memory import NEVER_NS, TIMESPEC, get_time
from stack.api.programs.supervisor import Call
from stack.api.programs.vdso import patch
from stack.api.programs.virtual import IDLE_POLL, Attached, Held, process_of
from stack.core.clock import realtime_ns
from stack.core.errors import os_error
from stack.core.time64 import NSEC_PER_MSEC, NSEC_PER_SEC
from stack.core.uapi import POLLERR, POLLHUP, POLLIN, POLLOUT, POLLPRI

WALL_CLOCKS = (0, 5, 8, 11)
"""CLOCK_REALTIME, CLOCK_REALTIME_COARSE, CLOCK_REALTIME_ALARM, CLOCK_TAI."""
STEADY_CLOCKS = (1, 4, 6, 7, 9)
"""CLOCK_MONOTONIC, _RAW, _COARSE, CLOCK_BOOTTIME, _BOOTTIME_ALARM."""
TIMER_ABSTIME = 1
FUTEX_CMD, FUTEX_CLOCK_REALTIME = 0x7F, 0x100
ITIMER_REAL = 0
ITIMERSPEC = struct.Struct("=qqqq")
"""Interval and remaining time; struct itimerval has the same form."""
SIGSET_BYTES = 8


def now_of(call: Call, clock: int) -> int | None:
    """The time of one of the program's clocks, in ns; None: it counts processor time."""
    host = call.supervisor.host
    if clock in WALL_CLOCKS:
        return int(realtime_ns(host.clock))
    return int(host.clock.now_ns()) if clock in STEADY_CLOCKS else None


def deadline(call: Call, wait_ns: int, clock: int = 1, absolute: bool = False) -> int:
    """When a wait ends, on the host's clock."""
    now = int(call.supervisor.host.clock.now_ns())
    if absolute:
        wait_ns -= now_of(call, clock) or 0
    return min(now + max(wait_ns, 0), NEVER_NS)


def passed(call: Call, held: Held) -> bool:
    """Whether a wait is over."""
    return bool(call.supervisor.host.clock.now_ns() >= held.deadline)


def attached(call: Call) -> Attached:
    """The programs of the call's clock."""
    found = call.supervisor.attached
    assert found is not None
    return found


# --- what time it is -----------------------------------------------------------------------------


def do_clock_gettime(call: Call) -> int | None:
    """clock_gettime(2)."""
    now = now_of(call, i32(call.args[0]))
    if now is None:
        return None
    attached(call).idle(call.tid)
    write_memory(call.tid, call.args[1], TIMESPEC.pack(*divmod(now, NSEC_PER_SEC)))
    return 0


def do_gettimeofday(call: Call) -> int:
    """gettimeofday(2)."""
    now = realtime_ns(call.supervisor.host.clock)
    attached(call).idle(call.tid)
    if call.args[0]:
        seconds, rest = divmod(now, NSEC_PER_SEC)
        write_memory(call.tid, call.args[0], TIMESPEC.pack(seconds, rest // 1000))
    if call.args[1]:
        write_memory(call.tid, call.args[1], bytes(8))
    return 0


def do_time(call: Call) -> int:
    """time(2)."""
    seconds = int(realtime_ns(call.supervisor.host.clock)) // NSEC_PER_SEC
    attached(call).idle(call.tid)
    if call.args[0]:
        write_memory(call.tid, call.args[0], struct.pack("=q", seconds))
    return seconds


# --- sleeping ------------------------------------------------------------------------------------


def sleep_until(call: Call, when: int, left_addr: int) -> int:
    """Wait; on a signal, the remaining time is stored at `left_addr`."""
    held = call.held or Held(when, left_addr=left_addr)
    if passed(call, held):
        return 0
    call.supervisor.hold(call, held)


def do_nanosleep(call: Call) -> int:
    """nanosleep(2)."""
    when = 0 if call.held else deadline(call, get_time(call.tid, call.args[0]))
    return sleep_until(call, when, call.args[1])


def do_clock_nanosleep(call: Call) -> int | None:
    """clock_nanosleep(2)."""
    clock, absolute = i32(call.args[0]), bool(call.args[1] & TIMER_ABSTIME)
    if now_of(call, clock) is None:
        return None
    when = 0
    if call.held is None:
        when = deadline(call, get_time(call.tid, call.args[2]), clock, absolute)
    return sleep_until(call, when, 0 if absolute else call.args[3])


def do_futex(call: Call) -> int:
    """futex(2), FUTEX_WAIT and FUTEX_WAIT_BITSET with a timeout.

    A wake is not visible, but the changed word is.
    """
    addr, op, value = call.args[:3]
    same = read_memory(call.tid, addr, 4) == (value & 0xFFFFFFFF).to_bytes(4, "little")
    if call.held is None:
        if not same:
            raise os_error(errno.EAGAIN, "the word of the futex has another value")
        clock = 0 if op & FUTEX_CLOCK_REALTIME else 1
        absolute = op & FUTEX_CMD != FUTEX_WAIT
        when = deadline(call, get_time(call.tid, call.args[3]), clock, absolute)
        held = Held(when)
    elif not same:
        return 0
    else:
        held = call.held
    if passed(call, held):
        raise os_error(errno.ETIMEDOUT, "the futex's time is over")
    call.supervisor.hold(call, held)


def do_rt_sigtimedwait(call: Call) -> int | None:
    """rt_sigtimedwait(2): the kernel returns the signal once there is one."""
    if not call.args[2]:
        return None
    wanted = int.from_bytes(read_memory(call.tid, call.args[0], SIGSET_BYTES), "little")
    # A signal of the set ends the wait, and so does one with a handler.
    held = call.held or Held(deadline(call, get_time(call.tid, call.args[2])))
    if pending(call.tid) & wanted:
        return None
    if passed(call, held):
        raise os_error(errno.EAGAIN, "no signal has come")
    call.supervisor.hold(call, held)


def pending(tid: int) -> int:
    """The pending signals of a thread."""
    found = 0
    with contextlib.suppress(OSError), open(f"/proc/{tid}/status", "rb") as file:
        for line in file:
            if line.startswith((b"SigPnd:", b"ShdPnd:")):
                found |= int(line.split()[1], 16)
    return found


# --- waiting for descriptors -------------------------------------------------------------------


def keep(
    call: Call,
    wait_ns: Callable[[], int | None],
    wanted: Callable[[], list[tuple[int, int]]],
    mask: int | None = None,
) -> bool:
    """Keep a call until a descriptor is ready. True: it timed out. False: the kernel executes it.

    Raises: Waiting.
    """
    held = call.held
    if held is None:
        found = wait_ns()
        if not found:  # no timeout, or no wait
            if found == 0:
                attached(call).idle(call.tid, IDLE_POLL)
            return False
        held = Held(deadline(call, found), mask)
        try:
            held.watch(call.tid, wanted())
        except OSError:  # the kernel reports a bad descriptor
            return False
    if held.ready():
        held.close()
        return False
    if passed(call, held):
        return True
    call.supervisor.hold(call, held)


def get_mask(tid: int, addr: int) -> int | None:
    """A set of signals; None for a null pointer."""
    return int.from_bytes(read_memory(tid, addr, SIGSET_BYTES), "little") if addr else None


def milliseconds(value: int) -> Callable[[], int | None]:
    """A timeout in ms, for `keep`; negative: no timeout."""
    wait = i32(value)
    return lambda: None if wait < 0 else wait * NSEC_PER_MSEC


def seconds_at(tid: int, addr: int, unit_ns: int = 1) -> Callable[[], int | None]:
    """A timeout in the program's memory."""
    return lambda: get_time(tid, addr, unit_ns) if addr else None


def poll_in_time(call: Call) -> int | None:
    """poll(2) and ppoll(2)."""
    told = do_poll(call)
    if told is not None or call.args[1] > MAX_POLLFDS:
        return told
    addr, count = call.args[:2]

    def rows() -> list[tuple[int, int, int]]:
        data = bytes(read_memory(call.tid, addr, POLLFD.size * count))
        return list(POLLFD.iter_unpack(data))

    if call.name == "poll":
        wait, mask = milliseconds(call.args[2]), None
    else:
        wait = seconds_at(call.tid, call.args[2])
        mask = get_mask(call.tid, call.args[3])
    if not keep(call, wait, lambda: [row[:2] for row in rows() if row[0] >= 0], mask):
        return None
    cleared = (POLLFD.pack(number, events, 0) for number, events, _ in rows())
    write_memory(call.tid, addr, b"".join(cleared))
    return 0


def select_in_time(call: Call) -> int | None:
    """select(2) and pselect6(2)."""
    count = min(max(i32(call.args[0]), 0), MAX_POLLFDS)
    size = (count + 63) // 64 * 8

    def wanted() -> list[tuple[int, int]]:
        kinds = (POLLIN | POLLHUP | POLLERR, POLLOUT | POLLERR, POLLPRI)
        found: dict[int, int] = {}
        for addr, kind in zip(call.args[1:4], kinds, strict=True):
            for number in numbers_at(call.tid, addr, count):
                found[number] = found.get(number, 0) | kind
        return list(found.items())

    show(call, (number for number, _ in wanted()))
    mask = None
    if call.name == "pselect6" and call.args[5]:
        (mask_addr,) = struct.unpack("=Q", read_memory(call.tid, call.args[5], 8))
        mask = get_mask(call.tid, mask_addr)
    unit_ns = 1000 if call.name == "select" else 1
    if not keep(call, seconds_at(call.tid, call.args[4], unit_ns), wanted, mask):
        return None
    for addr in call.args[1:4]:
        if addr:
            write_memory(call.tid, addr, bytes(size))
    with contextlib.suppress(OSError):  # it may be in memory that cannot be written
        write_memory(call.tid, call.args[4], bytes(TIMESPEC.size))
    return 0


def do_epoll_wait(call: Call) -> int | None:
    """epoll_wait(2), epoll_pwait(2) and epoll_pwait2(2)."""
    if call.name == "epoll_pwait2":
        wait = seconds_at(call.tid, call.args[3])
    else:
        wait = milliseconds(call.args[3])
    mask = None if call.name == "epoll_wait" else get_mask(call.tid, call.args[4])
    late = keep(call, wait, lambda: [(call.args[0] & 0xFFFFFFFF, POLLIN)], mask)
    return 0 if late else None


# --- timers -------------------------------------------------------------------------------------


class Timer:
    """A timer of a program: calls `ring` at `next_ns`, and each `every_ns` after that."""

    def __init__(self, clock: Any, ring: Callable[[], None], close: Callable[[], None]) -> None:
        self.clock = clock
        self.ring = ring
        self._close = close
        self.every_ns = 0
        self.about: Any = None
        """Of a timerfd: its clock, and our copies of the descriptor while armed."""
        self.handle: Any = None

    def left(self) -> int:
        """Remaining time in ns; 0: not armed."""
        if self.handle is None:
            return 0
        return max(int(self.handle.when) - int(self.clock.now_ns()), 1)

    def set(self, when_ns: int, every_ns: int) -> None:
        """Arm for `when_ns`."""
        self.every_ns = every_ns
        self.handle = self.clock.call_at(when_ns, self._rings)

    def stop(self) -> None:
        """Disarm."""
        self.every_ns = 0
        if self.handle is not None:
            self.handle.cancel()
            self.handle = None

    def close(self) -> None:
        """Release its copies of descriptors."""
        self.stop()
        self._close()

    def _rings(self) -> None:
        when = self.handle.when
        self.handle = None
        if self.every_ns:
            self.set(when + self.every_ns, self.every_ns)
        self.ring()


def nothing() -> None:
    """Nothing to release for a timer of a process."""


def set_alarm(call: Call, wait_ns: int, every_ns: int) -> tuple[int, int]:
    """Send SIGALRM to the process after `wait_ns`; 0: never. Returns time left and interval."""
    supervisor = call.supervisor
    pid = process_of(call.tid) or call.tid
    programs = attached(call)

    def ring() -> None:
        if programs.lives(pid):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGALRM)
            programs.soon()
        else:
            supervisor.timers.pop(pid).stop()

    timer = supervisor.timers.get(pid)
    if timer is None:
        timer = supervisor.timers[pid] = Timer(supervisor.host.clock, ring, nothing)
    before = timer.left(), timer.every_ns
    timer.stop()
    if wait_ns:
        timer.set(supervisor.host.clock.now_ns() + wait_ns, every_ns)
    return before


def do_alarm(call: Call) -> int:
    """alarm(2)."""
    left, _ = set_alarm(call, (call.args[0] & 0xFFFFFFFF) * NSEC_PER_SEC, 0)
    return max((left + NSEC_PER_SEC // 2) // NSEC_PER_SEC, 1) if left else 0


def itimerspec(left: int, every: int, unit_ns: int = 1) -> bytes:
    """struct itimerspec; with 1000 ns as the unit struct itimerval."""
    (seconds, ns), (left_seconds, left_ns) = divmod(every, NSEC_PER_SEC), divmod(left, NSEC_PER_SEC)
    return ITIMERSPEC.pack(seconds, ns // unit_ns, left_seconds, left_ns // unit_ns)


def do_setitimer(call: Call) -> int | None:
    """setitimer(2) of ITIMER_REAL; the others count processor time."""
    which, new, old = call.args[:3]
    if i32(which) != ITIMER_REAL:
        return None
    every = get_time(call.tid, new, 1000) if new else 0
    first = get_time(call.tid, new + TIMESPEC.size, 1000) if new else 0
    before = set_alarm(call, first, every)
    if old:
        write_memory(call.tid, old, itimerspec(*before, unit_ns=1000))
    return 0


def do_getitimer(call: Call) -> int | None:
    """getitimer(2)."""
    if i32(call.args[0]) != ITIMER_REAL:
        return None
    timer = call.supervisor.timers.get(process_of(call.tid) or call.tid)
    left, every = (timer.left(), timer.every_ns) if timer is not None else (0, 0)
    write_memory(call.tid, call.args[1], itimerspec(left, every, unit_ns=1000))
    return 0


def event_number(pid: str, fd: int) -> int | None:
    """The kernel's number of an eventfd; None: another file."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/fdinfo/{fd}", "rb") as file:
        for line in file:
            if line.startswith(b"eventfd-id:"):
                # Apart from the numbers of processes, which are positive.
                return -1 - int(line[11:])
    return None


def do_timerfd_create(call: Call) -> None:
    """timerfd_create(2): the program gets an eventfd, which is read in the same way."""
    clock, flags = i32(call.args[0]), i32(call.args[1])
    if now_of(call, clock) is None or flags & ~(os.O_NONBLOCK | os.O_CLOEXEC):
        raise os_error(errno.EINVAL, f"clock {clock}, flags {flags:#o}")
    supervisor = call.supervisor
    fd = os.eventfd(0, flags | os.O_CLOEXEC)
    try:
        number = event_number("self", fd)
        assert number is not None

        def ring() -> None:
            with contextlib.suppress(OSError):
                os.eventfd_write(copies[0], 1)
            attached(call).soon()
            if timer.handle is None:
                give_back()

        def give_back() -> None:
            while copies:
                os.close(copies.pop())

        copies: list[int] = []
        timer = supervisor.timers[number] = Timer(supervisor.host.clock, ring, give_back)
        timer.about = (clock, copies)
        supervisor.give_file(call, fd, flags & os.O_CLOEXEC)
    finally:
        os.close(fd)


def timer_at(call: Call) -> Any:
    """The timer of a timerfd. Raises: OSError EBADF, EINVAL."""
    fd = call.args[0] & 0xFFFFFFFF
    number = event_number(str(call.tid), fd)
    if number is None or number not in call.supervisor.timers:
        known = os.path.lexists(f"/proc/{call.tid}/fd/{fd}")
        raise os_error(errno.EINVAL if known else errno.EBADF, f"descriptor {fd} has no timer")
    return call.supervisor.timers[number]


def do_timerfd_settime(call: Call) -> int:
    """timerfd_settime(2)."""
    timer = timer_at(call)
    clock, copies = timer.about
    every = get_time(call.tid, call.args[2])
    first = get_time(call.tid, call.args[2] + TIMESPEC.size)
    before = itimerspec(timer.left(), timer.every_ns)
    timer.stop()
    if not copies:
        copies.append(get_fd(call.tid, call.args[0] & 0xFFFFFFFF))
    os.eventfd_write(copies[0], 1)  # so that reading does not wait
    os.eventfd_read(copies[0])
    if first:
        absolute = bool(call.args[1] & TIMER_ABSTIME)
        timer.set(deadline(call, first, clock, absolute), every)
    else:
        timer.every_ns = every
        os.close(copies.pop())
    if call.args[3]:
        write_memory(call.tid, call.args[3], before)
    return 0


def do_timerfd_gettime(call: Call) -> int:
    """timerfd_gettime(2)."""
    timer = timer_at(call)
    write_memory(call.tid, call.args[1], itimerspec(timer.left(), timer.every_ns))
    return 0


# --- threads and programs -------------------------------------------------------------------------


def do_clone(call: Call) -> None:
    """clone(2) and its variants: find the new thread before handling any call."""
    attached(call).makes(call.tid)


def do_exit_group(call: Call) -> None:
    """exit_group(2) stops, so that children are found before they are reparented."""


def do_begin(call: Call) -> None:
    """arch_prctl(2) of ARCH_SET_FS, set_tid_address(2): a program begins."""
    if call.name == "arch_prctl" and i32(call.args[0]) != ARCH_SET_FS:
        return
    patch(call.tid)


TIME_CALLS: dict[str, Callable[[Call], int | None]] = {
    **CALLS,
    "alarm": do_alarm,
    "arch_prctl": do_begin,
    "clock_gettime": do_clock_gettime,
    "clock_nanosleep": do_clock_nanosleep,
    "epoll_pwait": do_epoll_wait,
    "epoll_pwait2": do_epoll_wait,
    "epoll_wait": do_epoll_wait,
    "exit_group": do_exit_group,
    "futex": do_futex,
    "getitimer": do_getitimer,
    "gettimeofday": do_gettimeofday,
    "nanosleep": do_nanosleep,
    "poll": poll_in_time,
    "ppoll": poll_in_time,
    "pselect6": select_in_time,
    "rt_sigtimedwait": do_rt_sigtimedwait,
    "select": select_in_time,
    "set_tid_address": do_begin,
    "setitimer": do_setitimer,
    "time": do_time,
    "timerfd_create": do_timerfd_create,
    "timerfd_gettime": do_timerfd_gettime,
    "timerfd_settime": do_timerfd_settime,
    **dict.fromkeys(("clone", "clone3", "fork", "vfork"), do_clone),
}
