"""SIGIO and SIGURG of a host's sockets: the standard library's `signal.signal` for a host.

    signal(host, SIGIO, lambda number, info: ready.append(info))
    fcntl(host, sock, F_SETOWN, getpid())
    fcntl(host, sock, F_SETFL, fcntl(host, sock, F_GETFL) | O_ASYNC)

A handler runs from the host's clock, a moment after what it is told of: while the program waits in
any call, or lets time pass. It gets the signal's number and a `siginfo` and must not block. With
F_SETSIG the siginfo says which descriptor (`si_fd`) became ready for what (`si_band`, POLL* bits);
signals from SIGRTMIN on are queued.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stack.core.fasync import PID
from stack.core.signal import (
    SIGIO,
    SIGPOLL,
    SIGRTMIN,
    SIGURG,
    siginfo,
    sys_rt_sigaction,
)

if TYPE_CHECKING:
    from stack.net import Net

__all__ = ["SIGIO", "SIGPOLL", "SIGRTMIN", "SIGURG", "getpid", "siginfo", "signal"]


def signal(net: Net, signum: int, handler: Callable[[int, siginfo], Any] | None) -> Any:
    """Have `handler(signum, siginfo)` run at that signal, None: nothing. What was set before.

    Raises: OSError EINVAL.
    """
    with net.lock:
        return sys_rt_sigaction(net, signum, handler)


def getpid() -> int:
    """The process that all programs of a host are: 1."""
    return PID
