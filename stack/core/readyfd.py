"""A descriptor of this process that is ready whenever a socket of a host is.

select, poll, epoll, `selectors` and asyncio watch descriptors of the kernel; a socket of ours has
none. A `ReadyFd` is one that shows the same POLL* bits, level by level: an AF_UNIX datagram socket
that nobody talks to but us.

    POLLIN      an empty datagram waits in it
    POLLOUT     off while a datagram that it sent waits at another socket (its send buffer is small)
    POLLERR     its peer disconnected with something unread, which is an error of datagram sockets
    POLLRDHUP   it is shut down for receiving
    POLLHUP     it is shut down both ways

So every bit is the kernel's own, and a poller needs to know nothing. Two differences remain. A
TCP socket before connect or listen shows POLLIN | POLLOUT where Linux has POLLHUP | POLLOUT (the
same to select), since POLLHUP cannot be taken back; and POLLPRI is never shown. What ended and is
connected again gets a fresh socket under the same number, to be registered with epoll again.

It is no way to the data: writing to the descriptor fails (EPIPE), reading it finds nothing.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import socket as unix
import sys
from typing import TYPE_CHECKING, Any

from stack.core.errors import os_error
from stack.core.rows import replace
from stack.core.sock import sk_sleep
from stack.core.uapi import POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDHUP

if TYPE_CHECKING:
    from stack.core.proto import proto_ops
    from stack.core.socket import socket
    from stack.net import Net

SHOWN = POLLIN | POLLOUT | POLLERR | POLLRDHUP | POLLHUP
GONE = POLLIN | POLLOUT | POLLRDHUP | POLLHUP
FILL_BYTES = 2048  # with the smallest send buffer more than the quarter at which poll says no
HUB_USERS = 64  # each may have a datagram of about 1 KiB charged to the hub
HUB_SNDBUF_BYTES = HUB_USERS * 2048


def _endpoint() -> unix.socket:
    """A datagram socket with a name of the kernel's choice."""
    sock = unix.socket(unix.AF_UNIX, unix.SOCK_DGRAM | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC)
    try:
        sock.bind("")  # autobind, see unix(7)
    except BaseException:
        sock.close()
        raise
    return sock


class ReadyHub:
    """The sender of what makes descriptors readable.

    Descriptors are connected to it, so that nobody else can send to them; it receives nothing, so
    that writing to one fails.
    """

    __slots__ = ("name", "pid", "sock", "users")

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.users = 0
        self.sock = _endpoint()
        self.sock.shutdown(unix.SHUT_RD)
        self.sock.setsockopt(unix.SOL_SOCKET, unix.SO_SNDBUF, HUB_SNDBUF_BYTES)
        self.name = self.sock.getsockname()

    def __del__(self) -> None:
        if hasattr(self, "sock"):
            self.sock.close()


def _hub(net: Net) -> ReadyHub:
    """A hub of this host and process with room for another descriptor."""
    hub: ReadyHub | None = net.ready_hub
    if hub is None or hub.users >= HUB_USERS or hub.pid != os.getpid():
        hub = net.ready_hub = ReadyHub()
    return hub


class ReadyFd:
    """The descriptors of one open socket: the first, and those of Sockets that share it by `dup`.

    Call with the host's lock held. It keeps itself true: the socket's wait queue tells what came
    from below, and `watched_ops` what a call did.
    """

    __slots__ = (
        "_fds",
        "_given",
        "_hub",
        "_net",
        "_number",
        "_shown",
        "_sink",
        "_sock",
        "_unix",
        "_wq",
        "name",
        "pid",
    )

    def __init__(self, net: Net, sock: socket) -> None:
        self._fds: list[int] = []
        self._given: dict[int, int] = {}  # what `detach` gave away: number to inode
        self._net = net
        self._sock = sock
        self._sink: unix.socket | None = None
        self._connect()
        self._wq = sk_sleep(sock.sk)
        self._wq.add(self.refresh)
        sock.ready = self
        sock.ops = watched_ops(sock.ops)
        self.refresh()

    def _connect(self) -> None:
        """Make the socket that is shown, writable and nothing else."""
        hub = _hub(self._net)
        end = _endpoint()
        end.setsockopt(unix.SOL_SOCKET, unix.SO_SNDBUF, 0)  # the least there is
        end.connect(hub.name)
        hub.users += 1
        self._hub = hub
        self._has(end)
        self.name = end.getsockname()
        self.pid = os.getpid()
        self._shown = POLLOUT

    def _has(self, end: unix.socket) -> None:
        self._unix = end
        self._number = end.fileno()

    def _renew(self) -> None:
        """Begin again under the same numbers: after an end, or because a fork shares the old."""
        old = self._unix
        self._drain()
        if self.pid == os.getpid():
            self._hub.users -= 1
        self._connect()
        new = self._unix
        for fd in {old.fileno(), *self._fds}:
            os.dup2(new.fileno(), fd, inheritable=False)
        new.close()
        self._has(old)  # its number means the new socket now

    def open(self) -> int:
        """A number for one more Socket, which gives it back by `close`.

        Raises:
            OSError: EMFILE.
        """
        fd = self._number
        if fd in self._fds:
            fd = os.dup(fd)
        self._fds.append(fd)
        return fd

    def close(self, fd: int) -> None:
        """The Socket with this number is closed; with the last one the watching ends."""
        self._fds.remove(fd)
        if fd != self._number:
            os.close(fd)
        elif self._fds or self._given:
            self._unix.close()
            left = self._fds[0] if self._fds else os.dup(next(iter(self._given)))
            self._has(unix.socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0, left))
        if not self._fds and not self._given:
            self._unix.close()
            self._drain()
            self._hub.users -= 1
            self._unwatch()

    def give(self, fd: int) -> None:
        """The Socket gave its number away: whose it is, and whether it is open, is unknown."""
        inode = os.fstat(fd).st_ino
        if fd == self._number:
            own = os.dup(fd)
            self._unix.detach()
            self._has(unix.socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0, own))
        self._fds.remove(fd)
        self._given[fd] = inode

    def take(self, fd: int) -> bool:
        """A Socket takes a number up that was given away. False when it is not that any more."""
        try:
            same = self._given.pop(fd) == os.fstat(fd).st_ino
        except OSError:
            same = False
        if same:
            os.dup2(self._number, fd, inheritable=False)  # the same, unless it was renewed
            self._fds.append(fd)
        return same

    def _unwatch(self) -> None:
        self._wq.remove(self.refresh)
        sock = self._sock
        if sock.ready is self:
            sock.ready = None
            if sock.ops is not None:
                sock.ops = sock.ops.plain  # type: ignore[assignment]  # NULL

    def __del__(self) -> None:
        # Its Sockets were forgotten, and their host is closed: nobody can watch the numbers.
        # The collector may have been at `_unix` first: its number is closed then, or another's.
        if hasattr(self, "_number"):
            for fd in self._fds:
                if fd != self._number:
                    os.close(fd)
            self._unix.close()
            self._drain()

    def refresh(self) -> None:
        """Show what poll(2) would say of the socket now."""
        sock = self._sock
        ops = sock.ops
        if ops is None or sock.sk is None:
            self._wq.remove(self.refresh)
            bits = GONE
        else:
            bits = ops.poll(sock.file, sock, None) & SHOWN
            if bits & (POLLHUP | POLLRDHUP) == POLLHUP:
                bits = bits & ~POLLHUP | POLLIN  # nothing has begun yet: it may still be undone
        if bits != self._shown or self.pid != os.getpid():
            self._show(bits)

    def _show(self, bits: int) -> None:
        if self.pid != os.getpid() or self._shown & ~bits & (POLLHUP | POLLRDHUP):
            self._renew()
        if self._shown & POLLHUP:
            bits |= POLLOUT  # what is shut down for sending cannot be filled
        if (bits ^ self._shown) & POLLERR:
            if not bits & POLLERR:
                self._unix.getsockopt(unix.SOL_SOCKET, unix.SO_ERROR)
            elif not self._fail():
                bits = bits & ~POLLERR | POLLIN | POLLOUT  # what select shows of an error
        if (bits ^ self._shown) & POLLOUT:
            if bits & POLLOUT:
                self._drain()
            elif not self._fill():
                bits |= POLLOUT  # who tries to write finds out, and has us try again
        ends = bits & ~self._shown & (POLLHUP | POLLRDHUP)
        if ends:
            self._unix.shutdown(unix.SHUT_RDWR if ends & POLLHUP else unix.SHUT_RD)
        elif not bits & POLLRDHUP and (bits ^ self._shown) & POLLIN:
            if bits & POLLIN:
                self._send()
            else:
                self._unix.recv(1)
        self._shown = bits

    def _send(self) -> None:
        """Make it readable."""
        try:
            self._hub.sock.sendto(b"", self.name)
        except BlockingIOError:  # less memory for sockets than Linux gives by default
            self._hub.users = HUB_USERS
            hub = self._hub = _hub(self._net)
            hub.users += 1
            self._unix.connect(hub.name)
            hub.sock.sendto(b"", self.name)

    def _fill(self) -> bool:
        """Make it not writable. False when the process has no descriptor left for that."""
        try:
            sink = _endpoint()
        except OSError:
            return False
        self._unix.sendto(bytes(FILL_BYTES), sink.getsockname())
        self._sink = sink
        return True

    def _drain(self) -> None:
        """Make it writable."""
        if self._sink is not None:
            self._sink.close()  # which frees what waits there
            self._sink = None

    def _fail(self) -> bool:
        """Make it show an error, and nothing to read. False without descriptors."""
        with contextlib.ExitStack() as made:
            try:
                peer = made.enter_context(_endpoint())
                other = made.enter_context(_endpoint())
            except OSError:
                return False
            other.sendto(b"\0", peer.getsockname())
            self._unix.connect(peer.getsockname())
            peer.connect(self.name)
            peer.connect(other.getsockname())  # with that datagram unread: the error
            self._unix.connect(self._hub.name)
        if not self._shown & POLLRDHUP:
            self._shown &= ~POLLIN
        return True


def ready_fd(net: Net, sock: socket) -> ReadyFd:
    """The ReadyFd of an open socket, made at the first call.

    Raises:
        OSError: EMFILE; ENOTSUP on a system without abstract AF_UNIX names.
    """
    if sock.ready is not None:
        return sock.ready
    if sys.platform != "linux":
        raise os_error(
            errno.ENOTSUP,
            "fileno() needs Linux's AF_UNIX sockets; use sock.poll(), stack.socket.wait_any or "
            "stack.aio",
        )
    return ReadyFd(net, sock)


# --- calls -------------------------------------------------------------------------------------


def _watched(fn: Any) -> Any:
    """`fn(sock, ...)`, after which the socket's descriptor is brought up to date."""

    @functools.wraps(fn)
    def call(sock: socket, *args: Any) -> Any:
        try:
            return fn(sock, *args)
        finally:
            ready = sock.ready
            if ready is not None:
                ready.refresh()

    return call


@functools.cache
def watched_ops(plain: proto_ops) -> proto_ops:
    """A family's operations for sockets that have a ReadyFd; the others pay nothing for it."""
    accept = _watched(plain.accept)

    def accept_plain(sock: socket, newsock: socket, *args: Any) -> Any:
        newsock.ops = plain  # sys_accept4 copied the listener's
        return accept(sock, newsock, *args)

    return replace(
        plain,
        plain=plain,
        release=_watched(plain.release),
        bind=_watched(plain.bind),
        connect=_watched(plain.connect),
        accept=accept_plain,
        ioctl=_watched(plain.ioctl),
        listen=_watched(plain.listen),
        shutdown=_watched(plain.shutdown),
        setsockopt=_watched(plain.setsockopt),
        getsockopt=_watched(plain.getsockopt),
        sendmsg=_watched(plain.sendmsg),
        recvmsg=_watched(plain.recvmsg),
    )
