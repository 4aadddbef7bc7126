"""The calls of Linux on one host, made by this process: raw arguments in, a value or an errno out.

`stack.api.programs.calls` has most of them: it reads what an argument points to from a program's
memory, here from our own. So an invalid pointer gives EFAULT instead of a crash. The host's sockets
never block. A call that has to wait is tried again when `Waits` says that its socket may be ready.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, cast

from fastpath.base.seccomp import read_memory, write_memory
from stack.api.programs.calls import CALLS, MAX_POLLFDS, POLLFD, i32
from stack.api.programs.placeholder import Opened
from stack.api.programs.supervisor import Call, Waiting, end_of_writing, moved_by
from stack.core.bsd_socket import sockfd_lookup, sys_close
from stack.core.errors import os_error
from stack.core.eventpoll import sys_epoll_create1, sys_epoll_ctl, sys_epoll_wait
from stack.core.fcntl import sys_fcntl
from stack.core.file import fget, vfs_poll
from stack.core.pipe import sys_pipe2
from stack.core.sock import sk_sleep
from stack.core.splice import sys_splice
from stack.core.uapi import O_NONBLOCK, POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT

if TYPE_CHECKING:
    from stack.api.programs.supervisor import Supervisor
    from stack.core.bsd_socket import socket
    from stack.host import Host

F_DUPFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC = 0, 3, 4, 1030
EPOLL_EVENT = struct.Struct("=Iq")
EPOLL_CTL_DEL = 2
MAX_EVENTS = 1 << 12
SYSCALL_ARGS = 6


class Waits(Protocol):
    """How a call sleeps."""

    def __call__(self, cond: Callable[[], bool], timeout_ns: int | None) -> bool:
        """Sleep until `cond()` or the timeout; return the last `cond()`."""


class Descriptor(Opened):
    """An open file of the host under the number that the program knows; `sock` is None if it is
    no socket."""

    def __init__(self, host: Host, fd: int, sock: socket | None, nonblock: bool) -> None:
        super().__init__(fd, fget(host, fd), cast("socket", sock))
        self.nonblock = nonblock


class LocalCall(Call):
    """A call of this process."""

    def __init__(self, face: Face, name: str, args: tuple[int, ...]) -> None:
        super().__init__(cast("Supervisor", face), 0, os.getpid(), name, args)
        self.given = 0
        self.ready = False
        self.deadline_ns: int | None = None
        self.late = errno.EAGAIN

    def woken(self) -> None:
        """The socket may be ready."""
        self.ready = True


class Face:
    """One host's calls. Call with the host's lock held."""

    down = False

    def __init__(
        self,
        host: Host,
        waits: Waits,
        number: Callable[[int], int] = int,
        forget: Callable[[int], Any] = int,
    ) -> None:
        """`number` gives the program's number for a descriptor of the host; `forget` drops it."""
        self.host = host
        self._waits = waits
        self._number = number
        self._forget = forget
        self._open: dict[int, Descriptor] = {}

    # --- the interface that stack.api.programs.calls needs --------------------------------------

    def give(self, call: LocalCall, fd: int, nonblock: bool, flags: int) -> None:
        """A call's value is a new descriptor for the host's socket `fd`."""
        call.given = self._install(fd, sockfd_lookup(self.host, fd), nonblock)

    def at(self, tid: int, number: int) -> Descriptor:
        """The socket under a number. Raises: OSError EBADF, ENOTSOCK."""
        found = self.descriptor(i32(number))
        if found.sock is None:
            raise os_error(errno.ENOTSOCK, f"descriptor {i32(number)} is no socket")
        return found

    def nonblock(self, call: LocalCall) -> bool:
        """Whether O_NONBLOCK is set at a call's descriptor."""
        return self.descriptor(i32(call.args[0])).nonblock

    def sigpipe(self, call: LocalCall) -> None:
        """The caller gets EPIPE, and no signal."""

    def wait(
        self, call: LocalCall, at: Descriptor, timeout_ns: int = 0, late: int = errno.EAGAIN
    ) -> NoReturn:
        """Retry the call later. Raises: Waiting."""
        if timeout_ns and call.deadline_ns is None:
            call.deadline_ns = self.host.clock.now_ns() + timeout_ns
        call.late = late
        raise Waiting

    # --- calls ----------------------------------------------------------------------------------

    def descriptor(self, number: int) -> Descriptor:
        """The open file under a number. Raises: OSError EBADF."""
        found = self._open.get(number)
        if found is None:
            raise os_error(errno.EBADF, f"descriptor {number} of {self.host.name} is not open")
        return found

    def call(self, name: str, args: tuple[int, ...]) -> int:
        """Make the call; its value. Raises: OSError; KeyError, there is no such call."""
        args = tuple(arg & 0xFFFFFFFFFFFFFFFF for arg in args)
        if name in OWN:
            done: int = getattr(self, name)(args)
            return done
        function = CALLS[name]
        call = LocalCall(self, name, args[:SYSCALL_ARGS])
        try:
            return self._do(function, call)
        finally:
            end_of_writing(call)

    def _do(self, function: Callable[[Call], int | None], call: LocalCall) -> int:
        """Try a call until it is done."""
        while True:
            call.socket = None  # another thread may have closed it meanwhile
            try:
                value = function(call)
            except Waiting:
                if not self._sleep(call):
                    moved = moved_by(call)
                    if moved:
                        return moved
                    raise OSError(call.late, os.strerror(call.late)) from None
            else:
                return call.given if value is None else value

    def _sleep(self, call: LocalCall) -> bool:
        """Sleep until a call may continue; False: it timed out."""
        at = self.at(call.tid, call.args[0])
        left = None
        if call.deadline_ns is not None:
            left = call.deadline_ns - self.host.clock.now_ns()
            if left <= 0:
                return False
        queue = sk_sleep(at.sock.sk)
        call.ready = False
        queue.add(call.woken)
        try:
            return self._waits(lambda: call.ready, left)
        finally:
            if at.sock.sk is not None:
                sk_sleep(at.sock.sk).remove(call.woken)

    def _install(self, fd: int, sock: socket | None, nonblock: bool = False) -> int:
        try:
            number = self._number(fd)
        except OSError:
            sys_close(self.host, fd)
            raise
        self._open[number] = Descriptor(self.host, fd, sock, nonblock)
        return number

    def close(self, args: tuple[int, ...]) -> int:
        """close(2)."""
        number = i32(args[0])
        found = self.descriptor(number)
        del self._open[number]
        self._forget(number)
        sys_close(self.host, found.fd)
        return 0

    def fcntl(self, args: tuple[int, ...]) -> int:
        """fcntl(2), without copies of descriptors."""
        at, command, value = self.descriptor(i32(args[0])), i32(args[1]), i32(args[2])
        if command == F_SETFL:
            at.nonblock = bool(value & O_NONBLOCK)
            kept = O_NONBLOCK if at.sock is not None else 0
            return int(sys_fcntl(self.host, at.fd, command, value | kept))
        if command in (F_DUPFD, F_DUPFD_CLOEXEC):
            raise os_error(errno.EINVAL, "descriptors of a host are not copied")
        found = sys_fcntl(self.host, at.fd, command, value)
        if not isinstance(found, int):
            raise os_error(errno.EINVAL, f"fcntl: command {command} takes a struct")
        if command == F_GETFL and at.sock is not None and not at.nonblock:
            found &= ~O_NONBLOCK
        return found

    def _timeout_ns(self, timeout_ms: int) -> int | None:
        return None if timeout_ms < 0 else timeout_ms * 1_000_000

    def poll(self, args: tuple[int, ...]) -> int:
        """poll(2)."""
        addr, count, timeout_ms = args[0], args[1], i32(args[2])
        if count > MAX_POLLFDS:
            raise os_error(errno.EINVAL, f"poll: {count} descriptors")
        pid = os.getpid()
        size = POLLFD.size * count
        rows = list(POLLFD.iter_unpack(bytes(read_memory(pid, addr, size)))) if count else []

        def look() -> list[int]:
            found = []
            for number, events, _ in rows:
                at = self._open.get(number)
                if number < 0:
                    found.append(0)
                elif at is None:
                    found.append(POLLNVAL)
                else:
                    always = POLLERR | POLLHUP
                    found.append(vfs_poll(fget(self.host, at.fd)) & ((events & 0xFFFF) | always))
            return found

        if timeout_ms and not any(look()):
            self._waits(lambda: any(look()), self._timeout_ns(timeout_ms))
        bits = look()
        told = [(n, e, b) for (n, e, _), b in zip(rows, bits, strict=True)]
        if told:
            write_memory(pid, addr, b"".join(POLLFD.pack(*row) for row in told))
        return sum(1 for b in bits if b)

    def epoll_create(self, args: tuple[int, ...]) -> int:
        """epoll_create1(2) without flags."""
        return self._install(sys_epoll_create1(self.host), None)

    def epoll_ctl(self, args: tuple[int, ...]) -> int:
        """epoll_ctl(2)."""
        at, op, target = self.descriptor(i32(args[0])), i32(args[1]), self.descriptor(i32(args[2]))
        events, data = 0, 0
        if op != EPOLL_CTL_DEL:
            room = read_memory(os.getpid(), args[3], EPOLL_EVENT.size)
            events, data = EPOLL_EVENT.unpack(bytes(room))
        sys_epoll_ctl(self.host, at.fd, op, target.fd, events, data)
        return 0

    def epoll_wait(self, args: tuple[int, ...]) -> int:
        """epoll_wait(2)."""
        at, addr = self.descriptor(i32(args[0])), args[1]
        count, timeout_ms = i32(args[2]), i32(args[3])
        most = min(count, MAX_EVENTS)
        found = sys_epoll_wait(self.host, at.fd, most, 0)
        if not found and timeout_ms:
            file = fget(self.host, at.fd)
            self._waits(lambda: bool(vfs_poll(file) & POLLIN), self._timeout_ns(timeout_ms))
            found = sys_epoll_wait(self.host, at.fd, most, 0)
        if found:
            rows = b"".join(EPOLL_EVENT.pack(events, data) for events, data in found)
            write_memory(os.getpid(), addr, rows)
        return len(found)

    def pipe(self, args: tuple[int, ...]) -> int:
        """pipe(2), whose ends do not block."""
        ends = [self._install(fd, None, True) for fd in sys_pipe2(self.host, O_NONBLOCK)]
        write_memory(os.getpid(), args[0], struct.pack("=ii", *ends))
        return 0

    def splice(self, args: tuple[int, ...]) -> int:
        """splice(2) without offsets, which neither sockets nor pipes have. It does not wait.

        A blocking one does not wait before the urgent byte either, and returns 0.
        """
        if args[1] or args[3]:  # the offsets
            raise os_error(errno.ESPIPE, "neither a socket nor a pipe has an offset")
        source, target = self.descriptor(i32(args[0])), self.descriptor(i32(args[2]))
        try:
            return sys_splice(self.host, source.fd, None, target.fd, None, args[4], i32(args[5]))
        except BlockingIOError:
            if source.sock is None or source.nonblock or not source.sock.sk.sk_receive_queue.qlen:
                raise
            if not vfs_poll(fget(self.host, target.fd)) & POLLOUT:
                raise
            return 0


OWN = {"close", "epoll_create", "epoll_ctl", "epoll_wait", "fcntl", "pipe", "poll", "splice"}
"""Calls that are not about one socket, or that `stack.api.programs` leaves to the kernel."""
