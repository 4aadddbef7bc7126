"""Answers the calls of programs: who waits in which, and when it goes on.

The host's clock calls `Supervisor.serve` when a call waits. `calls.CALLS` has the function of each
call. It never sleeps: a call that has to wait is kept (`Waiting`) and tried again when the socket's
wait queue is woken. Only a fatal signal can interrupt a thread in a call, and then the call is
dropped before it takes anything. For other signals the waiting calls are looked at now and then,
and return EINTR.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import signal
import socket as unix
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from fastpath.base.seccomp import Listener, fd_flags, get_fd, write_memory
from stack.api.programs.filter import numbers
from stack.api.programs.memory import SECOND_NS, TIMESPEC, Room
from stack.api.programs.placeholder import Placeholder
from stack.api.programs.rings import Lent
from stack.api.programs.sysfs import Tree
from stack.api.programs.virtual import Attached, Held, status_of
from stack.core.bsd_socket import sys_close
from stack.core.errors import os_error
from stack.core.sock import sk_sleep
from stack.core.uapi import O_NONBLOCK, POLLIN
from stack.net import Net

SIGNAL_NS = 10_000_000
"""How often the signals of threads that wait in a call are looked at."""
SERVED_AT_ONCE = 16
"""Calls answered until timers and links have their turn."""
SIGNALS = re.compile(
    rb"\nSigPnd:\t(\w+)\nShdPnd:\t(\w+)\nSigBlk:\t(\w+)\nSigIgn:\t\w+\nSigCgt:\t(\w+)\n"
)
ERESTARTSYS = 512
"""To the kernel: EINTR, or the call again, as the signal's handler was installed (SA_RESTART)."""


class Waiting(Exception):
    """Raised by a call: it has to wait."""


class Call:
    """A program's call. `args` are six numbers of 64 bits, as the program gave them."""

    state: Any = None
    """What the call's function keeps between its tries; a number: bytes that were moved."""
    row = 0
    """Messages that are done, of a call for many."""
    deadline: int | None = None
    """When a call for many messages takes no more, in ns."""
    done = False
    socket: Placeholder | None = None
    """The socket of the network that the first argument names, once it was looked for."""
    timer: Any = None
    held: Held | None = None
    """What it waits for where time is virtual, unless that is a socket."""
    scheduled = False
    writes_to: Any = None
    """The struct sock whose sk_write_pending counts this call."""

    def __init__(self, supervisor: Supervisor, call_id: int, tid: int, name: str, args: Any):
        self.supervisor = supervisor
        self.id = call_id
        self.tid = tid
        self.name = name
        self.args: tuple[int, ...] = args

    def wrote(self) -> None:
        """No data of this call's will follow."""
        if self.writes_to is not None:
            self.writes_to.sk_write_pending -= 1
            self.writes_to = None

    def woken(self) -> None:
        """The socket may be ready. It is in the midst of what made it so, so later."""
        if not self.scheduled:
            self.scheduled = True
            self.supervisor.soon(self.again)

    def again(self) -> None:
        """Try the call again, if its thread has not been killed meanwhile."""
        self.scheduled = False
        if self.done:
            return
        if self.supervisor.listener.valid(self.id):
            self.supervisor.attempt(self)
            if not self.done and self.socket is not None:
                self.socket.show()
        else:
            self.supervisor.dropped(self)

    def interrupted(self, error: int) -> None:
        """End the wait: with what was moved, if there is any, else with `error`."""
        moved = self.row or (self.state if isinstance(self.state, int) else 0)
        self.supervisor.finish(self, moved, 0 if moved else error)

    def placeholder(self) -> Placeholder | None:
        """The socket of the network that the first argument names; None: it names none.

        Raises: OSError ENETDOWN.
        """
        if self.socket is None:
            self.socket = self.supervisor.at(self.tid, self.args[0])
        if self.socket is not None and self.supervisor.down:
            raise self.supervisor.gone(self)
        return self.socket

    def sigpipe(self) -> None:
        """The signal of a write to a connection that is closed, unless the program ignores it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.tid, signal.SIGPIPE)

    def nonblock(self) -> bool:
        """Whether O_NONBLOCK is set at the descriptor. Raises: OSError EBADF."""
        number = self.args[0] & 0xFFFFFFFF
        assert self.socket is not None
        flags = self.supervisor.listener.status(self.tid, number, self.socket.inode)
        if flags < 0:
            flags = fd_flags(self.tid, number)
        if flags < 0:
            raise os_error(errno.EBADF, f"descriptor {number} of thread {self.tid}")
        return bool(flags & O_NONBLOCK)


class Supervisor(Room):
    """Serves the programs of one host that share a filter. Call with the host's lock held."""

    def __init__(
        self,
        host: Net,
        listener: Listener,
        functions: dict[str, Callable[[Call], int | None]],
        log: Callable[[str], Any],
        trace: bool,
        attached: Attached | None = None,
    ) -> None:
        self.host = host
        self.attached = attached
        """All programs of the host's clock, if that is a virtual one."""
        self.listener = listener
        self.log = log
        self.trace = trace
        self.sockets: dict[int, Placeholder] = {}
        """By the inode of the program's end."""
        self._ends: dict[int, Placeholder] = {}
        """By the number of our end, which is in the set `_hang_ups`."""
        self._hang_ups = select.epoll()
        self.waiting: dict[Call, None] = {}
        """In the order in which they began to wait."""
        self.timers: dict[int, Any] = {}
        """Timers in virtual time: a process's by its number, others by that of their eventfd."""
        self.lent: list[Lent] = []
        """Rings that a call maps at the moment."""
        self.tree = Tree()
        self.calls = 0
        self._names = numbers(virtual=attached is not None)
        self._functions = functions
        self._signals: Any = None
        self.on_ended: Callable[[], Any] = lambda: None
        """Called once, when no process is left that could call."""
        self.ended = False
        """That is so."""
        self.down = False
        """The host serves no longer, but processes are left."""
        self._told = False
        self._clock: Any = host.clock
        if attached is None:
            self._clock.add_reader(listener.fd, self.serve)
            self._clock.add_reader(self._hang_ups.fileno(), self.look_at_hang_ups)

    # --- descriptors ----------------------------------------------------------------------------

    def at(self, tid: int, number: int) -> Placeholder | None:
        """The socket under a program's number."""
        return self.sockets.get(self.listener.inode(tid, number & 0xFFFFFFFF))

    def give(self, call: Call, fd: int, nonblock: bool, flags: int) -> None:
        """Answer a call with a new descriptor for the host's socket `fd`."""
        changed = None if self.attached is None else self.attached.soon
        placeholder = Placeholder(self.host, fd, nonblock, changed)
        assert placeholder.theirs is not None
        number = -1
        try:
            number = self.give_file(call, placeholder.theirs.fileno(), flags)
        finally:
            placeholder.given()
            if number < 0:
                placeholder.close()
                sys_close(self.host, fd)
        if number >= 0:
            placeholder.where = (call.tid, number)
            placeholder.sock.inode = placeholder.inode
            self.sockets[placeholder.inode] = placeholder
            placeholder.moves = self._moved
            self._look_for_close(placeholder, placeholder.number())

    def _look_for_close(self, placeholder: Placeholder, number: int) -> None:
        self._ends[number] = placeholder
        self._hang_ups.register(number, select.EPOLLRDHUP)

    def _moved(self, placeholder: Placeholder, before: int, now: int) -> None:
        """Another descriptor tells from now on that programs have closed a socket."""
        self._hang_ups.unregister(before)
        del self._ends[before]
        self._look_for_close(placeholder, now)

    def give_file(self, call: Call, fd: int, flags: int) -> int:
        """Answer a call with a copy of the descriptor `fd`: its number; -1: its thread was killed.

        Raises: OSError EMFILE.
        """
        self._settle(call)
        try:
            number = self.listener.answer_fd(call.id, fd, flags)
        except OSError as exc:
            if exc.errno != errno.ENOENT:
                raise
            number = -1
        self._ended(call)
        if self.trace:
            self._note(call, number, 0)
        return number

    def look_at_hang_ups(self) -> None:
        """Close the sockets of which programs have closed the last copy."""
        found = [self._ends[number] for number, _ in self._hang_ups.poll(0)]
        for placeholder in sorted(found, key=lambda placeholder: placeholder.fd):
            self._drop(placeholder)

    def _drop(self, placeholder: Placeholder) -> None:
        for call in [call for call in self.waiting if call.socket is placeholder]:
            self.finish(call, 0, errno.EBADF)
        number = placeholder.number()
        self._hang_ups.unregister(number)
        del self._ends[number]
        del self.sockets[placeholder.inode]
        placeholder.close()
        if not self.down and not self.host.closed:
            sys_close(self.host, placeholder.fd)

    def show(self, tid: int, number: int, placeholder: Placeholder) -> None:
        """Bring what is shown under a program's number up to date, of what is no longer true."""
        placeholder.where = (tid, number)
        gone = placeholder.stale()
        if not gone:
            return
        if gone == POLLIN and self.listener.drain(tid, number, placeholder.inode):
            placeholder.drained()
            return
        with contextlib.suppress(OSError):
            end = unix.socket(unix.AF_UNIX, unix.SOCK_STREAM, 0, get_fd(tid, number))
            with end:
                placeholder.refresh(end)

    def lend(self, call: Call, number: int, fd: int) -> None:
        """Have `call`, which goes on, find the file `fd` under a socket's number."""
        self.lent.append(Lent(call, number, fd))

    def _forget_lent(self) -> None:
        """Whoever mapped a ring has ended."""
        for lent in self.lent:
            lent.close()
        self.lent.clear()

    # --- calls ----------------------------------------------------------------------------------

    def soon(self, fn: Callable[[], Any]) -> None:
        """Call `fn()` after this event."""
        self._clock.call_soon(fn)

    def serve(self) -> None:
        """Answer the calls that wait, while nothing else is to be done.

        Whoever gets an answer often runs at once, and has its next call ready.
        """
        for _ in range(SERVED_AT_ONCE):
            found = self.listener.next()
            if found is None:
                if self.listener.ended:
                    self._clock.remove_reader(self.listener.fd)
                    self.has_ended()
                return
            self.attempt(self._call(*found))
            if self._clock.waiting_now:
                return

    def receive(self) -> Call | None:
        """Take the call that waits."""
        found = self.listener.recv()
        return None if found is None else self._call(*found)

    def _call(self, call_id: int, tid: int, number: int, args: tuple[int, ...]) -> Call:
        self.calls += 1
        call = Call(self, call_id, tid, self._names.get(number) or str(number), args)
        if self.lent:
            self.lent = [lent for lent in self.lent if not lent.back(call)]
        return call

    def has_ended(self) -> None:
        """No process has the filter any more."""
        self.ended = True
        self._release()
        self.on_ended()

    def attempt(self, call: Call) -> None:
        """Try a call: answer it, or leave it waiting."""
        try:
            value = self._functions[call.name](call)
        except Waiting:
            return
        except OSError as exc:
            self.finish(call, 0, exc.errno or errno.EIO)
        except Exception:  # a mistake of ours must not stop the program for ever
            self.log(f"{call.name} of {call.tid}: {traceback.format_exc()}")
            self.finish(call, 0, errno.EIO)
        else:
            if value is not None:
                self.finish(call, value)
            elif not call.done:  # not ours
                self.forget(call)
                self._ended(call)
                self.listener.go_on(call.id)

    def finish(self, call: Call, value: int, error: int = 0) -> None:
        """Answer: the call returns `value`, or fails with `error`."""
        if call.done:
            self.forget(call)
        else:
            if error == errno.EAGAIN and self.attached is not None:
                self.attached.idle(call.tid)
            self._ended(call)
            self._settle(call)
            if self.trace:
                self._note(call, value, error)
            self.listener.answer(call.id, value, error)

    def gone(self, call: Call) -> OSError:
        """The error of calls about the network from now on; the first of them is told."""
        if not self._told:
            self._told = True
            self.log(f"{call.name} of {call.tid}: the host is gone; calls fail with ENETDOWN")
        return os_error(errno.ENETDOWN, "the host is gone")

    def _ended(self, call: Call) -> None:
        """The call has its answer."""
        call.done = True
        if self.attached is not None:
            self.attached.answered(call)

    def dropped(self, call: Call) -> None:
        """The call's thread has been killed."""
        self.forget(call)
        self._ended(call)

    def _settle(self, call: Call) -> None:
        """A call is about to return: it waits no longer, and its socket shows what is true now."""
        self.forget(call)
        if call.socket is not None:
            self.show(call.tid, call.args[0] & 0xFFFFFFFF, call.socket)

    def wait(
        self, call: Call, placeholder: Placeholder, timeout_ns: int = 0, late: int = errno.EAGAIN
    ) -> NoReturn:
        """Have the call tried again when the socket may be ready; after `timeout_ns` it fails.

        Raises: Waiting.
        """
        if call not in self.waiting:
            self.waiting[call] = None
            placeholder.waiting += 1
            sk_sleep(placeholder.sock.sk).add(call.woken)
            now = self._clock.now_ns()
            if timeout_ns:
                call.timer = self._clock.call_at(now + timeout_ns, lambda: call.interrupted(late))
            if self._signals is None and self.attached is None:
                self._signals = self._clock.call_at(now + SIGNAL_NS, self._look_at_signals)
        raise Waiting

    def hold(self, call: Call, held: Held) -> NoReturn:
        """Have the call tried again when all threads rest, and at the end of its wait.

        Raises: Waiting.
        """
        call.held = held
        self.waiting[call] = None
        call.timer = self._clock.call_at(held.deadline, call.again)
        raise Waiting

    def forget(self, call: Call) -> None:
        """It waits no longer."""
        if call not in self.waiting:
            return
        del self.waiting[call]
        placeholder = call.socket
        if placeholder is not None and call.held is None:
            placeholder.waiting -= 1
            if placeholder.sock.sk is not None:
                sk_sleep(placeholder.sock.sk).remove(call.woken)
            placeholder.show()
        call.wrote()
        if call.timer is not None:
            call.timer.cancel()
            call.timer = None
        if call.held is not None:
            call.held.close()

    def look_at_kept(self) -> None:
        """Where time is virtual: try calls again whose end the kernel does not tell."""
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
                self.attempt(call)
            elif held.mask is not None:  # the kernel has the call unblock it, and fail
                self.forget(call)
                self._ended(call)
                self.listener.go_on(call.id)
            else:
                if held.left_addr:
                    left = max(held.deadline - self._clock.now_ns(), 0)
                    with contextlib.suppress(OSError):
                        write_memory(
                            call.tid, held.left_addr, TIMESPEC.pack(*divmod(left, SECOND_NS))
                        )
                self.finish(call, 0, errno.EINTR)

    def _look_at_signals(self) -> None:
        self._signals = None
        for call in list(self.waiting):
            if not self.listener.valid(call.id):
                self.dropped(call)
            elif has_signal(call.tid):
                call.interrupted(ERESTARTSYS)
        if self.waiting:
            when = self._clock.now_ns() + SIGNAL_NS
            self._signals = self._clock.call_at(when, self._look_at_signals)

    def _note(self, call: Call, value: int, error: int) -> None:
        args = ", ".join(f"{arg:#x}" if arg > 9 else str(arg) for arg in call.args)
        said = f"-1 {errno.errorcode.get(error, error)}" if error else str(value)
        self.log(f"[{call.tid}] {call.name}({args}) = {said}")

    def close(self) -> None:
        """Close the programs' sockets. From now on calls about them fail with ENETDOWN; processes
        that are left go on with all others until they end."""
        for call in list(self.waiting):
            self.finish(call, 0, errno.ENETDOWN)
        for placeholder in self.sockets.values():
            placeholder.end()
            if not self.host.closed:
                sys_close(self.host, placeholder.fd)
        self.down = True
        self._stop_timers()
        if self.attached is not None:
            self.attached.remove(self)
            self.ended = True
        if self.ended:
            self._release()

    def _stop_timers(self) -> None:
        if self._signals is not None:
            self._signals.cancel()
            self._signals = None
        for timer in self.timers.values():
            timer.close()
        self.timers.clear()

    def _release(self) -> None:
        """Give the descriptors back. Safe to call twice."""
        for call in list(self.waiting):
            self.dropped(call)
        self._stop_timers()
        self._forget_lent()
        self.tree.close()
        for placeholder in sorted(self.sockets.values(), key=lambda placeholder: placeholder.fd):
            self._drop(placeholder)
        if self.attached is None and not self._hang_ups.closed:
            self._clock.remove_reader(self._hang_ups.fileno())
        self._hang_ups.close()
        self.listener.close()


def has_signal(tid: int, mask: int | None = None) -> bool:
    """Whether a signal for which the program has a handler waits for the thread.

    `mask`: the signals that its call blocks, if not those that the thread blocks.
    """
    found = SIGNALS.search(status_of(tid))
    if found is None:
        return False
    private, shared, blocked, caught = (int(word, 16) for word in found.groups())
    return bool((private | shared) & ~(blocked if mask is None else mask) & caught)
