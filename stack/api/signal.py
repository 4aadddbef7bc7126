"""SIGIO and SIGURG of a host's sockets: the standard library's `signal.signal` for a host.

    signal(host, SIGIO, lambda number, info: ready.append(info))
    fcntl(host, sock, F_SETOWN, getpid())
    fcntl(host, sock, F_SETFL, fcntl(host, sock, F_GETFL) | O_ASYNC)

The clock calls a handler shortly after the event, while the program waits in a call or lets
time pass. The handler gets the signal's number and a `siginfo`, and must not block. With F_SETSIG
the siginfo has the descriptor (`si_fd`) and its POLL* bits (`si_band`). Signals from SIGRTMIN on
are queued.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stack.core.fasync import PID
from stack.core.signal import SIGIO, SIGPOLL, SIGRTMIN, SIGURG, siginfo, sys_rt_sigaction
from stack.net import Net

__all__ = ["SIGIO", "SIGPOLL", "SIGRTMIN", "SIGURG", "getpid", "siginfo", "signal"]


def signal(net: Net, signum: int, handler: Callable[[int, siginfo], Any] | None) -> Any:
    """Set `handler(signum, siginfo)` for a signal, None to ignore it. Returns the previous one.

    Raises: OSError EINVAL.
    """
    with net.lock:
        return sys_rt_sigaction(net, signum, handler)


def getpid() -> int:
    """The process id of all programs of a host: 1."""
    return PID
