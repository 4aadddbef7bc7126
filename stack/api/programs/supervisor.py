"""Handles the system calls of programs, and keeps those that wait.

The host's clock calls `Supervisor.serve` when a call waits. `calls.CALLS` has the function of each
call. It never sleeps: a blocking call is kept (`Waiting`) and retried when the socket's
wait queue is woken. Only a fatal signal can interrupt a thread in a call, and then the call is
dropped before it consumes data. For other signals the waiting calls are polled,
and return EINTR.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import select
import signal
import socket as unix
import struct
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

from fastpath.base.seccomp import Listener, fd_flags, get_fd, write_memory
from stack.api.programs.filter import numbers
from stack.api.programs.memory import TIMESPEC
from stack.api.programs.placeholder import Opened, Placeholder, show, stale, wait_queue
from stack.api.programs.rings import Lent
from stack.api.programs.sysfs import Tree
from stack.api.programs.virtual import Attached, Held, status_of
from stack.core.bsd_socket import sys_close
from stack.core.errors import os_error
from stack.core.rows import narrow, row, state, wide
from stack.core.sock_flags import SOCK_LINGER
from stack.core.time64 import NSEC_PER_MSEC, NSEC_PER_SEC
from stack.core.uapi import O_NONBLOCK, POLLIN, POLLPRI
from stack.net import Net

SIGNAL_NS: Final = 10_000_000
"""Polling interval for signals of threads that wait in a call."""
RING_NS: Final = NSEC_PER_MSEC
"""Polling interval for a ring while POLLIN is shown."""
SERVED_AT_ONCE: Final = 16
"""Number of calls handled before timers and links run."""
SECCOMP_IOCTL_NOTIF_ADDFD: Final = 0x40182103
SIGNALS = re.compile(
    rb"\nSigPnd:\t(\w+)\nShdPnd:\t(\w+)\nSigBlk:\t(\w+)\nSigIgn:\t\w+\nSigCgt:\t(\w+)\n"
)
NO_SIGNAL: Final = b"\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\n"
ERESTARTSYS: Final = 512
"""For the kernel: EINTR, or a restart if the handler has SA_RESTART."""


def nothing() -> None:
    """The default callback."""


def leave(net: Net, at: Placeholder) -> None:
    """Close the host's socket that programs have closed. This never waits, whatever
    SO_LINGER says, as when a process ends (PF_EXITING). Remaining data is still sent."""
    sk = None if at.sock is None else at.sock.sk
    if sk is not None and sk.sk_lingertime:
        sk.sk_flags &= ~SOCK_LINGER
    sys_close(net, at.fd)


class Waiting(Exception):
    """Raised by a call: it must wait."""


if TYPE_CHECKING:
    Answers: TypeAlias = "Supervisor"
    """To the compiler any object: another class may have the methods that `calls` needs."""


@state
class Call:
    """A program's call. `args` are six numbers of 64 bits, as the program gave them."""

    supervisor: Answers
    """The supervisor that handles it."""
    id: wide
    tid: int
    name: str
    args: tuple[int, ...]
    state: Any = row()
    """State of the call's function between tries; a number: bytes moved."""
    messages: int = row(0)
    """Messages done by a call for many."""
    deadline: int | None = row()
    """Deadline of a call for many messages, in ns."""
    done: bool = row(False)
    socket: Any = row()
    """The Opened of the first argument, once looked up."""
    timer: Any = row()
    held: Held | None = row()
    """What it waits for in virtual time, unless a socket."""
    scheduled: bool = row(False)
    writes_to: Any = row()
    """The struct sock whose sk_write_pending counts this call."""

    def attempt(self) -> None:
        """First attempt of the call."""
        attempt(self.supervisor, self)

    def woken(self) -> None:
        """The socket may be ready. Retry later, as the wake-up is still in progress."""
        if not self.scheduled:
            self.scheduled = True
            self.supervisor.soon(self.again)

    def again(self) -> None:
        """Retry the call, unless its thread was killed meanwhile."""
        self.scheduled = False
        if self.done:
            return
        supervisor: Supervisor = self.supervisor
        if supervisor.listener.valid(self.id):
            attempt(supervisor, self)
            at: Placeholder | None = self.socket
            if not self.done and at is not None:
                show(at)
        else:
            supervisor.dropped(self)

    def interrupted(self, error: int) -> None:
        """End the wait with the amount moved, if any, else with `error`."""
        moved = moved_by(self)
        finish(self.supervisor, self, moved, 0 if moved else error)


def moved_by(call: Call) -> int:
    """The progress of an interrupted call: messages or bytes."""
    return call.messages or (call.state if isinstance(call.state, int) else 0)


def end_of_writing(call: Call) -> None:
    """This call sends no more data."""
    if call.writes_to is not None:
        call.writes_to.sk_write_pending -= 1
        call.writes_to = None


def opened(call: Call) -> Opened | None:
    """The network socket of the first argument, or None.

    Raises: OSError ENETDOWN.
    """
    at: Opened | None = call.socket
    if at is None:
        at = call.supervisor.at(call.tid, call.args[0])
        if at is None:
            return None
        call.socket = at
    if call.supervisor.down:
        raise call.supervisor.gone(call)
    return at


@state
class Supervisor:
    """Serves the programs of one host that share a filter. Call with the host's lock held."""

    host: Net = row()
    attached: Attached | None = row()
    """All programs of the host's clock, if it is virtual."""
    listener: Listener = row()
    log: Callable[[str], Any] = row()
    trace: bool = row(False)
    functions: dict[str, Callable[[Call], int | None]] = row()
    """The function of each call, by name."""
    names: dict[int, str] = row()
    """The name of each call, by number."""
    clock: Any = row()
    sockets: dict[int, Placeholder] = row(make=dict)
    """Placeholders by the inode of the program's end."""
    ends: dict[int, Placeholder] = row(make=dict)
    """Placeholders by the number of our end, which is in the set `hang_ups`."""
    hang_ups: select.epoll = row(make=select.epoll)
    waiting: dict[Call, None] = row(make=dict)
    """Waiting calls, oldest first."""
    timers: dict[int, Any] = row(make=dict)
    """Timers in virtual time, by process id or by the number of their eventfd."""
    rings: list[Placeholder] = row(make=list)
    """Rings for which POLLIN is shown."""
    ring_timer: Any = row()
    """The timer of their next poll."""
    lent: list[Lent] = row(make=list)
    """Rings being mapped by a call."""
    tree: Tree = row(make=Tree)
    calls: int = row(0)
    serving: bool = row(False)
    """`serve` runs or is scheduled."""
    signals: Any = row()
    """The timer of the next poll for signals of waiting threads."""
    on_ended: Callable[[], Any] = row(nothing)
    """Called once, when no process is left."""
    ended: bool = row(False)
    """No process is left."""
    down: bool = row(False)
    """The host no longer serves the remaining processes."""
    told: bool = row(False)
    """The first call that failed for this has been logged."""

    if TYPE_CHECKING:

        def init_state(self) -> None:
            """As `@state` makes it."""

    def __init__(
        self,
        host: Net,
        listener: Listener,
        functions: dict[str, Callable[[Call], int | None]],
        log: Callable[[str], Any],
        trace: bool,
        attached: Attached | None = None,
    ) -> None:
        self.init_state()
        self.host = host
        self.attached = attached
        self.listener = listener
        self.log = log
        self.trace = trace
        self.functions = functions
        self.names = numbers(virtual=attached is not None)
        self.clock = host.clock
        if attached is None:
            self.clock.add_reader(listener.fd, self.serve)
            self.clock.add_reader(self.hang_ups.fileno(), self.look_at_hang_ups)

    # --- descriptors ----------------------------------------------------------------------------

    def at(self, tid: int, number: wide) -> Placeholder | None:
        """The placeholder of a program's descriptor."""
        return self.sockets.get(self.listener.inode(tid, narrow(number & 0xFFFFFFFF)))

    def nonblock(self, call: Call) -> bool:
        """Whether O_NONBLOCK is set on a call's descriptor. Raises: OSError EBADF."""
        number = call.args[0] & 0xFFFFFFFF
        at: Placeholder | None = call.socket
        assert at is not None
        if at.closed:
            return False  # it already waits
        flags: int = self.listener.status(call.tid, number, at.inode)
        if flags < 0:
            flags = fd_flags(call.tid, number)
        if flags < 0:
            raise os_error(errno.EBADF, f"descriptor {number} of thread {call.tid}")
        return bool(flags & O_NONBLOCK)

    def sigpipe(self, call: Call) -> None:
        """SIGPIPE for a write to a closed connection, unless the program ignores it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(call.tid, signal.SIGPIPE)

    def give(self, call: Call, fd: int, nonblock: bool, flags: int) -> None:
        """Return a new descriptor to a call for the host's socket `fd`.

        It is watched before the program has it, so that closes are handled in order.
        """
        changed = None if self.attached is None else self.attached.soon
        placeholder = Placeholder(self.host, fd, nonblock, changed)
        assert placeholder.theirs is not None
        number = -1
        try:
            number = self._put_file(call, placeholder.theirs.fileno(), flags)
        finally:
            placeholder.given()
            if number < 0:
                placeholder.close()
                sys_close(self.host, fd)
        if number >= 0:
            placeholder.where = (call.tid, number)
            if placeholder.sock is not None:
                placeholder.sock.inode = placeholder.inode
            self.sockets[placeholder.inode] = placeholder
            placeholder.moves = self._moved
            self._look_for_close(placeholder, placeholder.number())
        finish(self, call, number, 0)

    def _put_file(self, call: Call, fd: int, flags: int) -> int:
        """Install `fd` in the program's table. Returns its number; -1: the thread was killed.

        The call keeps waiting; once received, only SIGKILL interrupts it.
        Raises: OSError EMFILE.
        """
        asked = bytearray(struct.pack("=QIIII", call.id, 0, fd, 0, flags))
        try:
            number: int = fcntl.ioctl(self.listener.fd, SECCOMP_IOCTL_NOTIF_ADDFD, asked)
            return number
        except OSError as exc:
            if exc.errno != errno.ENOENT:
                raise
            return -1

    def _look_for_close(self, placeholder: Placeholder, number: int) -> None:
        self.ends[number] = placeholder
        self.hang_ups.register(number, select.EPOLLRDHUP)

    def _moved(self, placeholder: Placeholder, before: int, now: int) -> None:
        """Another descriptor signals from now on that programs have closed a socket."""
        self.hang_ups.unregister(before)
        del self.ends[before]
        self._look_for_close(placeholder, now)

    def give_file(self, call: Call, fd: int, flags: int) -> int:
        """Return a copy of the descriptor `fd` to a call; -1: its thread was killed.

        Raises: OSError EMFILE.
        """
        settle(self, call)
        take_calls(self)
        try:
            number = self.listener.answer_fd(call.id, fd, flags)
        except OSError as exc:
            if exc.errno != errno.ENOENT:
                raise
            number = -1
        has_answer(self, call)
        if self.trace:
            self.note(call, number, 0)
        return number

    def look_at_hang_ups(self) -> None:
        """Close the sockets whose last copy programs have closed.

        In the order in which they were closed, which decides which end enters TIME_WAIT. In virtual
        time in order of creation, as programs that exit together close in random order.
        """
        take_calls(self)
        found = [self.ends[number] for number, _ in self.hang_ups.poll(0)]
        if self.attached is not None:
            found.sort(key=lambda placeholder: placeholder.fd)
        for placeholder in found:
            self._drop(placeholder)

    def _drop(self, placeholder: Placeholder) -> None:
        """No program has a copy left. Waiting calls still use the file, as on Linux."""
        number = placeholder.number()
        self.hang_ups.unregister(number)
        del self.ends[number]
        del self.sockets[placeholder.inode]
        if placeholder in self.rings:
            self.rings.remove(placeholder)
        for call in [call for call in self.waiting if call.socket is placeholder]:
            if not self.listener.valid(call.id):  # its thread has ended
                self.dropped(call)
        if placeholder.waiting:
            placeholder.closed = True
        else:
            self.let_go(placeholder)

    def let_go(self, placeholder: Placeholder) -> None:
        """Close the host's socket: neither a program nor a call uses it."""
        placeholder.close()
        if not self.down and not self.host.closed:
            leave(self.host, placeholder)

    def has_ring(self, at: Placeholder) -> None:
        """A program has mapped a socket's ring. In virtual time, waiting calls poll it."""
        if self.attached is None:
            at.filled = self._look_at_ring
            if at.shown & POLLIN:
                self._look_at_ring(at)

    def _look_at_ring(self, at: Placeholder) -> None:
        """Clear POLLIN soon after the program has emptied the ring."""
        if at not in self.rings:
            self.rings.append(at)
        if self.ring_timer is None:
            self.ring_timer = self.clock.call_at(self.clock.now_ns() + RING_NS, self._look_at_rings)

    def _look_at_rings(self) -> None:
        self.ring_timer = None
        rings, self.rings = self.rings, []
        for at in rings:
            tid, number = at.where
            show_at(self, tid, number, at)
            if at.shown & POLLIN:
                self._look_at_ring(at)

    def lend(self, call: Call, number: int, fd: int) -> None:
        """Let `call`, which the kernel executes, find the file `fd` under a socket's number."""
        self.lent.append(Lent(call, number, fd))

    def _forget_lent(self) -> None:
        """The thread that mapped a ring has ended."""
        for lent in self.lent:
            lent.close()
        self.lent.clear()

    # --- calls ----------------------------------------------------------------------------------

    def soon(self, fn: Callable[[], Any]) -> None:
        """Call `fn()` after this event."""
        self.clock.call_soon(fn)

    def serve(self) -> None:
        """Handle the pending calls while nothing else is to be done.

        A thread often runs at once after a result, and makes its next call. Sockets that it closed
        before are closed here first, so the port is free and the peer sees the end.
        """
        if self.hang_ups.closed:
            return  # the last program ended since this was scheduled
        hang_ups = self.hang_ups.fileno()
        self.serving = True
        for _ in range(SERVED_AT_ONCE):
            found = self.listener.next(hang_ups)
            if self.listener.beside:
                self.look_at_hang_ups()
            if found is None:
                if self.listener.ended:
                    self.clock.remove_reader(self.listener.fd)
                    self.has_ended()
                break
            attempt(self, call_of(self, found))
            if self.clock.waiting_now:
                break
        self.serving = False
        take_calls(self)

    def receive(self) -> Call | None:
        """Receive the pending call."""
        found = self.listener.recv()
        return None if found is None else call_of(self, found)

    def has_ended(self) -> None:
        """No process has the filter any longer."""
        self._release()
        self.on_ended()
        self.ended = True  # last, since other threads read it

    def gone(self, call: Call) -> OSError:
        """The error of network calls from now on; the first one is logged."""
        if not self.told:
            self.told = True
            self.log(f"{call.name} of {call.tid}: the host is gone; calls fail with ENETDOWN")
        return os_error(errno.ENETDOWN, "the host is gone")

    def dropped(self, call: Call) -> None:
        """The call's thread has been killed."""
        forget(self, call)
        has_answer(self, call)

    def wait(self, call: Call, at: Any, timeout_ns: int = 0, late: int = errno.EAGAIN) -> NoReturn:
        """Retry the call when the socket may be ready; after `timeout_ns` it fails.

        Raises: Waiting.
        """
        if call not in self.waiting:
            placeholder: Placeholder = at
            self.waiting[call] = None
            placeholder.waiting += 1
            queue = wait_queue(placeholder)
            if queue is not None:
                queue.add(call.woken)
            now = self.clock.now_ns()
            if timeout_ns:
                call.timer = self.clock.call_at(now + timeout_ns, lambda: call.interrupted(late))
            if self.signals is None and self.attached is None:
                self.signals = self.clock.call_at(now + SIGNAL_NS, self._look_at_signals)
        raise Waiting

    def hold(self, call: Call, held: Held) -> NoReturn:
        """Retry the call when all threads are idle, and at its deadline.

        Raises: Waiting.
        """
        call.held = held
        self.waiting[call] = None
        call.timer = self.clock.call_at(held.deadline, call.again)
        raise Waiting

    def look_at_kept(self) -> None:
        """In virtual time, retry calls for which there is no wake-up."""
        for call in list(self.waiting):
            held = call.held
            if call.done:
                continue
            if not self.listener.valid(call.id):
                self.dropped(call)
            elif held is None:
                if has_signal(call.tid):
                    call.interrupted(ERESTARTSYS)
            elif not has_signal(call.tid, held.mask):
                attempt(self, call)
            elif held.mask is not None:  # the kernel unblocks it in the call, which fails
                forget(self, call)
                has_answer(self, call)
                self.listener.go_on(call.id)
            else:
                if held.left_addr:
                    left = max(held.deadline - self.clock.now_ns(), 0)
                    with contextlib.suppress(OSError):
                        write_memory(
                            call.tid, held.left_addr, TIMESPEC.pack(*divmod(left, NSEC_PER_SEC))
                        )
                finish(self, call, 0, errno.EINTR)

    def _look_at_signals(self) -> None:
        self.signals = None
        for call in list(self.waiting):
            if not self.listener.valid(call.id):
                self.dropped(call)
            elif has_signal(call.tid):
                call.interrupted(ERESTARTSYS)
        if self.waiting:
            when = self.clock.now_ns() + SIGNAL_NS
            self.signals = self.clock.call_at(when, self._look_at_signals)

    def note(self, call: Call, value: int, error: int) -> None:
        args = ", ".join(f"{arg:#x}" if arg > 9 else str(arg) for arg in call.args)
        said = f"-1 {errno.errorcode.get(error, error)}" if error else str(value)
        self.log(f"[{call.tid}] {call.name}({args}) = {said}")

    def close(self) -> None:
        """Close the programs' sockets. Later calls on them fail with ENETDOWN; remaining
        processes continue with other calls until they end."""
        for call in list(self.waiting):
            finish(self, call, 0, errno.ENETDOWN)
        for placeholder in self.sockets.values():
            placeholder.end()
            if not self.host.closed:
                leave(self.host, placeholder)
        self.down = True
        self._stop_timers()
        if self.attached is not None:
            self.attached.remove(self)
            self.ended = True
        if self.ended:
            self._release()

    def _stop_timers(self) -> None:
        if self.signals is not None:
            self.signals.cancel()
            self.signals = None
        if self.ring_timer is not None:
            self.ring_timer.cancel()
            self.ring_timer = None
        for timer in self.timers.values():
            timer.close()
        self.timers.clear()

    def _release(self) -> None:
        """Close the descriptors. Safe to call twice."""
        for call in list(self.waiting):
            self.dropped(call)
        self._stop_timers()
        self._forget_lent()
        self.tree.close()
        for placeholder in sorted(self.sockets.values(), key=lambda placeholder: placeholder.fd):
            self._drop(placeholder)
        if self.attached is None and not self.hang_ups.closed:
            self.clock.remove_reader(self.hang_ups.fileno())
        self.hang_ups.close()
        self.listener.close()


def call_of(supervisor: Supervisor, found: tuple[Any, ...]) -> Call:
    """The call object of a notification."""
    supervisor.calls += 1
    call_id, tid, number, args = found
    name = supervisor.names.get(number) or str(number)
    call = Call(supervisor, call_id, tid, name, args)
    if supervisor.lent:
        supervisor.lent = [lent for lent in supervisor.lent if not lent.back(call)]
    return call


def attempt(supervisor: Supervisor, call: Call) -> None:
    """Try a call: finish it, or leave it waiting."""
    supervisor.host.caller = call.tid
    try:
        value = supervisor.functions[call.name](call)
    except Waiting:
        return
    except OSError as exc:
        finish(supervisor, call, 0, exc.errno or errno.EIO)
    except Exception:  # our bugs must not block the program forever
        supervisor.log(f"{call.name} of {call.tid}: {traceback.format_exc()}")
        finish(supervisor, call, 0, errno.EIO)
    else:
        if value is not None:
            finish(supervisor, call, value, 0)
        elif not call.done:  # for the kernel
            forget(supervisor, call)
            has_answer(supervisor, call)
            take_calls(supervisor)
            supervisor.listener.go_on(call.id)
    finally:
        supervisor.host.caller = 0


def finish(supervisor: Supervisor, call: Call, value: int, error: int) -> None:
    """Finish a call: it returns `value`, or fails with `error`, unless that is 0."""
    if call.done:
        forget(supervisor, call)
        return
    if error == errno.EAGAIN and supervisor.attached is not None:
        supervisor.attached.idle(call.tid)
    has_answer(supervisor, call)
    settle(supervisor, call)
    if supervisor.trace:
        supervisor.note(call, value, error)
    take_calls(supervisor)
    supervisor.listener.answer(call.id, value, error)


def take_calls(supervisor: Supervisor) -> None:
    """Receive the calls of other threads before one continues, so that its signals do not
    interrupt them. Virtual time handles one call at a time, in its order."""
    if supervisor.attached is None and supervisor.listener.take() and not supervisor.serving:
        supervisor.serving = True
        supervisor.soon(supervisor.serve)


def has_answer(supervisor: Supervisor, call: Call) -> None:
    """Mark the call as done."""
    call.done = True
    if supervisor.attached is not None:
        supervisor.attached.answered(call)


def settle(supervisor: Supervisor, call: Call) -> None:
    """Before a call returns, end its wait and update its placeholder."""
    forget(supervisor, call)
    at: Placeholder | None = call.socket
    if at is not None and not at.closed:
        show_at(supervisor, call.tid, call.args[0] & 0xFFFFFFFF, at)


def show_at(supervisor: Supervisor, tid: int, number: int, at: Placeholder) -> None:
    """Update outdated bits of a program's descriptor."""
    at.where = (tid, number)
    gone = stale(at)
    if not gone:
        return
    if (
        gone == POLLIN
        and not at.shown & POLLPRI
        and supervisor.listener.drain(tid, number, at.inode)
    ):
        at.shown &= ~POLLIN  # nothing is left in the program's end
        return
    with contextlib.suppress(OSError):
        end = unix.socket(unix.AF_UNIX, unix.SOCK_STREAM, 0, get_fd(tid, number))
        with end:
            at.refresh(end)


def forget(supervisor: Supervisor, call: Call) -> None:
    """Remove a call from the waiting ones."""
    if call not in supervisor.waiting:
        return
    del supervisor.waiting[call]
    at: Placeholder | None = call.socket
    if at is not None and call.held is None:
        at.waiting -= 1
        queue = wait_queue(at)
        if queue is not None:
            queue.remove(call.woken)
        if not at.closed:
            show(at)
        elif not at.waiting:
            supervisor.let_go(at)
    end_of_writing(call)
    if call.timer is not None:
        call.timer.cancel()
        call.timer = None
    if call.held is not None:
        call.held.close()


def has_signal(tid: int, mask: int | None = None) -> bool:
    """Whether a signal with a handler in the program is pending for the thread.

    `mask`: the signals that its call blocks, if not those that the thread blocks.
    """
    status = status_of(tid)
    if NO_SIGNAL in status:
        return False
    found = SIGNALS.search(status)
    if found is None:
        return False
    private, shared, blocked, caught = (int(word, 16) for word in found.groups())
    return bool((private | shared) & ~(blocked if mask is None else mask) & caught)
