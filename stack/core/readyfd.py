"""A real descriptor of this process that is ready whenever a socket of a host is.

select, poll, epoll, `selectors` and asyncio watch descriptors of the kernel, which sockets of a
host do not have. A `ReadyFd` gives a socket one: an AF_UNIX datagram socket, private to this
module, whose POLL* bits follow those of the host's socket:

    POLLIN      an empty datagram waits in it
    POLLOUT     cleared by a datagram that it sent and that was not read: its send buffer is small
    POLLERR     its peer disconnected with unread data, which is an error of datagram sockets
    POLLRDHUP   it is shut down for receiving
    POLLHUP     it is shut down both ways

Two differences to Linux remain. A TCP socket before connect or listen shows POLLIN | POLLOUT
instead of POLLHUP | POLLOUT (the same to select), since POLLHUP cannot be cleared. POLLPRI is never
shown. A socket that ended and is connected again gets a new AF_UNIX socket under the same number,
which must be registered with epoll again.

The descriptor carries no data: writing to it fails with EPIPE, reading it finds nothing.
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
from stack.core.proto import proto_ops
from stack.core.rows import replace
from stack.core.sock import sk_sleep
from stack.core.uapi import POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDHUP
from stack.net import Net

if TYPE_CHECKING:
    from stack.core.bsd_socket import socket

SHOWN = POLLIN | POLLOUT | POLLERR | POLLRDHUP | POLLHUP
GONE = POLLIN | POLLOUT | POLLRDHUP | POLLHUP
FILL_BYTES = 2048  # over a quarter of the smallest send buffer: POLLOUT is cleared
HUB_USERS = 64  # each can have an unread datagram, about 1 KiB charged to the hub
HUB_SNDBUF_BYTES = HUB_USERS * 2048


def _endpoint() -> unix.socket:
    """A datagram socket with a name that the kernel chose."""
    sock = unix.socket(unix.AF_UNIX, unix.SOCK_DGRAM | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC)
    try:
        sock.bind("")  # autobind, see unix(7)
    except BaseException:
        sock.close()
        raise
    return sock


class ReadyHub:
    """Sends the empty datagrams that make descriptors readable.

    Descriptors are connected to it, so that no one else can send to them. Its receiving side is
    shut down, so that writing to a descriptor fails.
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
    """The descriptors of one open socket, one per Socket object that shares it by `dup`.

    Call with the host's lock held. It refreshes itself: packets and timers wake the socket's wait
    queue, and `watched_ops` refreshes after each call.
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
        self._given: dict[int, int] = {}  # detached descriptors and their inodes
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
        """Make the visible socket, initially only writable."""
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
        """Put a new AF_UNIX socket under the same numbers: after a shutdown, in a forked child."""
        old = self._unix
        self._drain()
        if self.pid == os.getpid():
            self._hub.users -= 1
        self._connect()
        new = self._unix
        for fd in {old.fileno(), *self._fds}:
            os.dup2(new.fileno(), fd, inheritable=False)
        new.close()
        self._has(old)  # dup2 put the new socket under its number

    def open(self) -> int:
        """A descriptor for one more Socket, which returns it by `close`.

        Raises: OSError: EMFILE.
        """
        fd = self._number
        if fd in self._fds:
            fd = os.dup(fd)
        self._fds.append(fd)
        return fd

    def close(self, fd: int) -> None:
        """Close a Socket's descriptor; with the last one the socket is no longer watched."""
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
        """The Socket was detached: the program now owns its descriptor and may close it."""
        inode = os.fstat(fd).st_ino
        if fd == self._number:
            own = os.dup(fd)
            self._unix.detach()
            self._has(unix.socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0, own))
        self._fds.remove(fd)
        self._given[fd] = inode

    def take(self, fd: int) -> bool:
        """Give a detached descriptor to a Socket again. False when it is another file by now."""
        try:
            same = self._given.pop(fd) == os.fstat(fd).st_ino
        except OSError:
            same = False
        if same:
            os.dup2(self._number, fd, inheritable=False)  # a no-op unless _renew came between
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
        # No Socket refers to it and the host is closed, so nobody watches the descriptors. The
        # collector may have closed `_unix` first; its number may even be another file's.
        if hasattr(self, "_number"):
            for fd in self._fds:
                if fd != self._number:
                    os.close(fd)
            self._unix.close()
            self._drain()

    def refresh(self) -> None:
        """Update the descriptor to the result of poll(2) for the socket."""
        sock = self._sock
        ops = sock.ops
        if ops is None or sock.sk is None:
            self._wq.remove(self.refresh)
            bits = GONE
        else:
            bits = ops.poll(sock.file, sock, None) & SHOWN
            if bits & (POLLHUP | POLLRDHUP) == POLLHUP:
                bits = bits & ~POLLHUP | POLLIN  # not yet connected, and POLLHUP cannot be cleared
        if bits != self._shown or self.pid != os.getpid():
            self._show(bits)

    def _show(self, bits: int) -> None:
        if self.pid != os.getpid() or self._shown & ~bits & (POLLHUP | POLLRDHUP):
            self._renew()
        if self._shown & POLLHUP:
            bits |= POLLOUT  # after SHUT_WR _fill could not send
        if (bits ^ self._shown) & POLLERR:
            if not bits & POLLERR:
                self._unix.getsockopt(unix.SOL_SOCKET, unix.SO_ERROR)
            elif not self._fail():
                bits = bits & ~POLLERR | POLLIN | POLLOUT  # to select the same
        if (bits ^ self._shown) & POLLOUT:
            if bits & POLLOUT:
                self._drain()
            elif not self._fill():
                bits |= POLLOUT  # a write that fails refreshes again
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
        except BlockingIOError:  # less socket memory than Linux's default
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

    Raises: OSError: EMFILE; ENOTSUP on a system without abstract AF_UNIX names.
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


WATCHED = (
    *("release", "bind", "connect", "ioctl", "listen", "shutdown", "setsockopt", "getsockopt"),
    *("sendmsg", "recvmsg"),
)


@functools.cache
def watched_ops(plain: proto_ops) -> proto_ops:
    """A family's operations for sockets with a ReadyFd; others keep the plain ones."""
    accept = _watched(plain.accept)

    def accept_plain(sock: socket, newsock: socket, *args: Any) -> Any:
        newsock.ops = plain  # sys_accept4 copied the listener's ops
        return accept(sock, newsock, *args)

    return replace(
        plain,
        plain=plain,
        accept=accept_plain,
        **{name: _watched(getattr(plain, name)) for name in WATCHED},
    )
