"""Sockets with a callback, timers and work of a host, for the runners of cores.

Runners never run inside the packet path: wake-ups and timers queue work, which runs
as an event of the clock (process context). So a core's actions may send and configure.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator

from stack.clients.action import NEVER
from stack.core.bsd_socket import (
    sockfd_lookup,
    sys_bind,
    sys_close,
    sys_connect,
    sys_getsockopt,
    sys_recvfrom,
    sys_sendto,
    sys_setsockopt,
    sys_socket,
)
from stack.core.sock import sk_sleep
from stack.core.sockaddr import sockaddr
from stack.core.timer import TIMER_DEFERRABLE, mod_timer, timer_delete, timer_list
from stack.core.uapi import SO_ERROR, SOCK_NONBLOCK, SOL_SOCKET
from stack.core.workqueue import cancel_delayed_work, schedule_work, work_struct
from stack.net import Net

DATAGRAM_BYTES = 65535
AGAIN = (errno.EAGAIN, errno.EINPROGRESS, errno.EALREADY)


class CoreTimer:
    """The one timer of a core: calls `fn(now_ns)` when due.

    `background`: the timer is for housekeeping (the renewal of a lease), which does not keep
    a simulation running.
    """

    __slots__ = ("_background", "_fn", "_foreground", "_net", "_work")

    def __init__(self, net: Net, fn: Callable[[int], None]) -> None:
        self._net = net
        self._fn = fn
        self._work = work_struct(net.machine, self._run)
        self._foreground = timer_list(net.machine, self._due)
        self._background = timer_list(net.machine, self._due, TIMER_DEFERRABLE)

    def set(self, at_ns: int, *, background: bool = False) -> None:
        """Set the timer to `at_ns`; NEVER: disarm it."""
        cancel_delayed_work(self._work)
        timer_delete(self._foreground)
        timer_delete(self._background)
        if at_ns != NEVER:
            mod_timer(self._background if background else self._foreground, at_ns)

    def _due(self, timer: timer_list) -> None:
        schedule_work(self._work)

    def _run(self) -> None:
        if not self._net.closed:
            self._fn(self._net.now())


class WatchedSocket:
    """A non-blocking socket of a host; `fn(self)` is called after a possible change."""

    __slots__ = ("_fn", "_work", "_wq", "fd", "net")

    def __init__(
        self,
        net: Net,
        family: int,
        type: int,  # noqa: A002 -- as in sys_socket
        fn: Callable[[WatchedSocket], None],
        protocol: int = 0,
    ) -> None:
        self.net = net
        self.fd = sys_socket(net, family, type | SOCK_NONBLOCK, protocol)
        self._fn = fn
        self._work = work_struct(net.machine, self._run)
        self._wq = sk_sleep(sockfd_lookup(net, self.fd).sk)
        self._wq.add(self._wake)

    def _wake(self) -> None:
        schedule_work(self._work)

    def _run(self) -> None:
        if self.fd >= 0 and not self.net.closed:
            self._fn(self)

    def bind(self, name: sockaddr) -> None:
        """bind(2)."""
        sys_bind(self.net, self.fd, name)

    def connect(self, name: sockaddr) -> None:
        """connect(2), without waiting; its end wakes the socket.  Raises: OSError."""
        try:
            sys_connect(self.net, self.fd, name)
        except OSError as error:
            if error.errno not in AGAIN:
                raise

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """setsockopt(2)."""
        sys_setsockopt(self.net, self.fd, level, option, value)

    def error(self) -> int:
        """SO_ERROR: the pending errno, or 0."""
        return int(sys_getsockopt(self.net, self.fd, SOL_SOCKET, SO_ERROR))

    def send(self, data: bytes, name: sockaddr | None = None) -> int:
        """send(2) or sendto(2); bytes accepted, 0 without room.  Raises: OSError."""
        try:
            return sys_sendto(self.net, self.fd, data, 0, name)
        except OSError as error:
            if error.errno not in AGAIN:
                raise
            return 0

    def receive(self) -> tuple[bytes, sockaddr | None] | None:
        """One datagram, or a piece of a stream, with its sender; or None.

        Raises: OSError: an ICMP error or a reset.
        """
        buffer = bytearray(DATAGRAM_BYTES)
        try:
            size, name = sys_recvfrom(self.net, self.fd, buffer)
        except OSError as error:
            if error.errno not in AGAIN:
                raise
            return None
        return bytes(buffer[:size]), name

    def datagrams(self) -> Iterator[tuple[bytes, sockaddr | None]]:
        """The queued datagrams with their senders, while it is open; skips ICMP errors."""
        while self.fd >= 0:
            try:
                got = self.receive()
            except OSError:  # an ICMP error of an earlier datagram
                continue
            if got is None:
                return
            yield got

    def close(self) -> None:
        """close(2); may be repeated."""
        if self.fd < 0:
            return
        self._wq.remove(self._wake)
        cancel_delayed_work(self._work)
        fd, self.fd = self.fd, -1
        if not self.net.closed:
            sys_close(self.net, fd)
