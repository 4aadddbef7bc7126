"""select, poll and epoll over the sockets of a host, with the standard library's interface.

    ep = epoll(host)
    ep.register(server, EPOLLIN)
    for number, events in ep.poll(2.0):
        ...

Calls take Sockets, epolls, other objects with a `host_fd`, and their numbers. Descriptors
are those of the host's own table, also in the results of `poll`. Calls sleep on the host's clock.
Use `Socket.fileno` with the real select.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Iterable
from typing import Any, Self

from stack.core.bsd_socket import sys_close
from stack.core.errors import os_error
from stack.core.eventpoll import (
    EPOLL_CLOEXEC,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLET,
    EPOLLEXCLUSIVE,
    EPOLLONESHOT,
    EPOLLWAKEUP,
    do_epoll_wait,
    ep_eventpoll_of,
    sys_epoll_create1,
    sys_epoll_ctl,
)
from stack.core.file import fget
from stack.core.select import core_sys_select, sys_poll
from stack.core.uapi import (
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLNVAL,
    POLLOUT,
    POLLPRI,
    POLLRDBAND,
    POLLRDHUP,
    POLLRDNORM,
    POLLWRBAND,
    POLLWRNORM,
)
from stack.core.wait import MAX_SCHEDULE_TIMEOUT, wait_queue_head
from stack.net import Net

EPOLLIN = POLLIN
EPOLLPRI = POLLPRI
EPOLLOUT = POLLOUT
EPOLLERR = POLLERR
EPOLLHUP = POLLHUP
EPOLLRDNORM = POLLRDNORM
EPOLLRDBAND = POLLRDBAND
EPOLLWRNORM = POLLWRNORM
EPOLLWRBAND = POLLWRBAND
EPOLLMSG = POLLMSG = 0x400
EPOLLRDHUP = POLLRDHUP

__all__ = [
    "EPOLLERR",
    "EPOLLET",
    "EPOLLEXCLUSIVE",
    "EPOLLHUP",
    "EPOLLIN",
    "EPOLLMSG",
    "EPOLLONESHOT",
    "EPOLLOUT",
    "EPOLLPRI",
    "EPOLLRDBAND",
    "EPOLLRDHUP",
    "EPOLLRDNORM",
    "EPOLLWAKEUP",
    "EPOLLWRBAND",
    "EPOLLWRNORM",
    "EPOLL_CLOEXEC",
    "POLLERR",
    "POLLHUP",
    "POLLIN",
    "POLLMSG",
    "POLLNVAL",
    "POLLOUT",
    "POLLPRI",
    "POLLRDBAND",
    "POLLRDHUP",
    "POLLRDNORM",
    "POLLWRBAND",
    "POLLWRNORM",
    "epoll",
    "poll",
    "select",
]

FD_SETSIZE = 1024
"""The default number of events of `epoll.poll`. It does not limit `select`."""


def host_fd(what: Any) -> int:
    """The number of a Socket or epoll in the host's table; a number is returned unchanged.

    Raises: TypeError; ValueError: negative, as for a closed object.
    """
    number = what if isinstance(what, int) else getattr(what, "host_fd", None)
    if not isinstance(number, int):
        raise TypeError("argument must be an int, or have a host_fd, as Sockets do")
    if number < 0:
        raise ValueError(f"file descriptor cannot be a negative integer ({number})")
    return number


def timeout_ns(seconds: float) -> int:
    """Seconds to ns, rounded up as in the standard library, so that no wait ends early."""
    if math.isnan(seconds):
        raise ValueError("Invalid value NaN (not a number)")
    if seconds * 1e9 >= MAX_SCHEDULE_TIMEOUT:
        raise OverflowError(f"a timeout of {seconds} s has more than 63 bits in ns")
    return math.ceil(seconds * 1e9)


def select(
    net: Net,
    rlist: Iterable[Any],
    wlist: Iterable[Any],
    xlist: Iterable[Any],
    timeout: float | None = None,
) -> tuple[list[Any], list[Any], list[Any]]:
    """As `select.select`: those ready for reading, ready for writing, with urgent data.

    Raises: OSError EBADF. TypeError. ValueError: a negative timeout.
    """
    if timeout is not None and timeout < 0:
        raise ValueError("timeout must be non-negative")
    asked = [[(what, host_fd(what)) for what in whats] for whats in (rlist, wlist, xlist)]
    fds = [[fd for _, fd in pairs] for pairs in asked]
    n = max((fd + 1 for numbers in fds for fd in numbers), default=0)
    limit_ns = None if timeout is None else timeout_ns(timeout)
    with net.lock:
        found = core_sys_select(net, n, fds[0], fds[1], fds[2], limit_ns)
    readable, writable, urgent = (
        [what for what, fd in pairs if fd in numbers]
        for pairs, numbers in zip(asked, map(frozenset, found), strict=True)
    )
    return readable, writable, urgent


class poll:
    """As `select.poll`, on host `net`."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self._wanted: dict[int, int] = {}

    def register(self, fd: Any, eventmask: int = POLLIN | POLLPRI | POLLOUT) -> None:
        """Watch a descriptor, or change its events."""
        self._wanted[host_fd(fd)] = _events16(eventmask)

    def modify(self, fd: Any, eventmask: int) -> None:
        """Change the events of a descriptor. Raises: OSError ENOENT: not watched."""
        number = host_fd(fd)
        if number not in self._wanted:
            raise os_error(errno.ENOENT, f"{number} is not registered")
        self._wanted[number] = _events16(eventmask)

    def unregister(self, fd: Any) -> None:
        """Stop watching it. Raises: KeyError."""
        del self._wanted[host_fd(fd)]

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        """[(number, POLL* bits)] of the ready ones; `timeout` in ms, None or negative: no limit."""
        limit_ns = None if timeout is None or timeout < 0 else timeout_ns(timeout / 1000)
        with self.net.lock:
            return sys_poll(self.net, list(self._wanted.items()), limit_ns)


def _events16(mask: int) -> int:
    """An unsigned short. Raises: OverflowError, ValueError."""
    if mask < 0:
        raise ValueError("value must be positive")
    if mask > 0xFFFF:
        raise OverflowError("Python int too large for C unsigned short")
    return mask


class epoll:
    """As `select.epoll`, on host `net`: an epoll set of the host (stack/core/eventpoll.py).

    Another epoll, `select` and `poll` can watch it, and SCM_RIGHTS sends its number. A coroutine
    waits for it with `stack.api.aio_select.epoll_wait`.
    """

    def __init__(self, net: Net, sizehint: int = -1, flags: int = 0) -> None:
        if sizehint == -1:
            sizehint = FD_SETSIZE - 1
        elif sizehint <= 0:
            raise ValueError("negative sizehint")
        self.net = net
        self._fd = -1
        with net.lock:
            self._fd = sys_epoll_create1(net, flags)

    @classmethod
    def fromfd(cls, net: Net, fd: int) -> Self:
        """The epoll with a number of the host's table, such as one received by SCM_RIGHTS."""
        new = cls.__new__(cls)
        new.net = net
        new._fd = fd
        return new

    @property
    def host_fd(self) -> int:
        """The number in the host's table; -1 when closed."""
        return self._fd

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._fd < 0

    def fileno(self) -> int:
        """`host_fd`: a number for the calls of this module. Raises: ValueError if closed."""
        if self._fd < 0:
            raise ValueError("I/O operation on closed epoll object")
        return self._fd

    def close(self) -> None:
        """Close; closing again is harmless."""
        fd, self._fd = self._fd, -1
        if fd >= 0 and not self.net.closed:
            with self.net.lock:
                sys_close(self.net, fd)

    def __enter__(self) -> Self:
        self.fileno()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def register(self, fd: Any, eventmask: int = EPOLLIN | EPOLLPRI | EPOLLOUT) -> None:
        """Watch a descriptor. Raises: OSError EBADF, EEXIST, EINVAL, ELOOP, EPERM."""
        self._ctl(EPOLL_CTL_ADD, fd, eventmask)

    def modify(self, fd: Any, eventmask: int) -> None:
        """Change its events. Raises: OSError EBADF, ENOENT, EINVAL."""
        self._ctl(EPOLL_CTL_MOD, fd, eventmask)

    def unregister(self, fd: Any) -> None:
        """Stop watching a descriptor. Raises: OSError EBADF, ENOENT."""
        self._ctl(EPOLL_CTL_DEL, fd, 0)

    def _ctl(self, op: int, fd: Any, eventmask: int) -> None:
        own, number = self.fileno(), host_fd(fd)
        if not 0 <= eventmask < 1 << 32:
            raise OverflowError(f"event mask {eventmask:#x} has more than 32 bits")
        with self.net.lock:
            sys_epoll_ctl(self.net, own, op, number, eventmask, number)

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        """[(number, EPOLL* bits)]; `timeout` in seconds, None or negative: no limit.

        Raises: ValueError: maxevents. OSError.
        """
        own = self.fileno()
        if maxevents == -1:
            maxevents = FD_SETSIZE - 1
        elif maxevents < 1:
            raise ValueError(f"maxevents must be greater than 0, got {maxevents}")
        limit_ns = None if timeout is None or timeout < 0 else timeout_ns(timeout)
        with self.net.lock:
            found = do_epoll_wait(self.net, own, maxevents, limit_ns)
        return [(number, events) for events, number in found]

    def wait_queue(self) -> wait_queue_head:
        """The wait queue that is woken when a watched file may be ready."""
        with self.net.lock:
            ep = ep_eventpoll_of(fget(self.net, self.fileno()))
        if ep is None:
            raise os_error(errno.EINVAL, f"{self._fd} is no epoll")
        return ep.poll_wait
