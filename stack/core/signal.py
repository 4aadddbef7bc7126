"""Signals that files send to callables of the host (kernel/signal.c, asm-generic/siginfo.h).

A host's programs are process 1, which has no thread of its own. The clock therefore calls the
callable that `rt_sigaction` set, shortly after the signal's cause; without one the signal is
ignored. As in the kernel, a pending signal below SIGRTMIN is not queued again.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from typing import Any

from stack.core.errors import os_error
from stack.core.rows import row, state
from stack.net import Net

_NSIG = 64
SIGRTMIN = 32
SIGKILL = 9
SIGSTOP = 19
SIGURG = 23
SIGIO = 29
SIGPOLL = SIGIO
SI_KERNEL = 0x80
SI_SIGIO = -5
SIGQUEUE_MAX = 1024
"""The most pending signals (RLIMIT_SIGPENDING). Above it a file sends SIGIO instead."""


@state
class siginfo:
    """struct siginfo of a signal about a file: `si_code` POLL_*, `si_band` POLL* bits, `si_fd`.

    With `si_code` SI_KERNEL only the signal's number is meaningful.
    """

    si_signo: int
    si_code: int = SI_KERNEL
    si_band: int = 0
    si_fd: int = 0

    def __repr__(self) -> str:
        return (
            f"siginfo(si_signo={self.si_signo}, si_code={self.si_code}, "
            f"si_band={self.si_band:#x}, si_fd={self.si_fd})"
        )


@state
class signal_struct:
    """The signal handlers of a host's process and its pending signals."""

    action: dict[int, Callable[[int, siginfo], Any]] = row(make=dict)
    pending: deque[siginfo] = row(make=deque)
    due: bool = row(False)
    """A call of `do_signal` is scheduled."""


def valid_signal(sig: int) -> bool:
    """include/linux/signal.h"""
    return 0 <= sig <= _NSIG


def sys_rt_sigaction(net: Net, sig: int, handler: Callable[[int, siginfo], Any] | None) -> Any:
    """rt_sigaction(2): `handler(signo, siginfo)` from now on, None for nothing; what was before.

    It runs with the host's lock held and must not sleep. Raises: OSError EINVAL.
    """
    if not 0 < sig <= _NSIG or sig in (SIGKILL, SIGSTOP):
        raise os_error(errno.EINVAL, f"signal {sig} cannot be handled")
    actions = net.signal.action
    before = actions.pop(sig, None)
    if handler is not None:
        actions[sig] = handler
    return before


def do_send_sig_info(net: Net, info: siginfo) -> int:
    """kernel/signal.c: queue a signal for the host's process. 0, or -EAGAIN: too many wait."""
    signal: signal_struct = net.signal
    sig = info.si_signo
    if sig not in signal.action:
        return 0  # ignored
    if sig < SIGRTMIN:
        for waiting in signal.pending:
            if waiting.si_signo == sig:
                return 0
    elif len(signal.pending) >= SIGQUEUE_MAX:
        return -errno.EAGAIN
    signal.pending.append(info)
    if not signal.due:
        signal.due = True
        schedule_signal(net)
    return 0


def schedule_signal(net: Net) -> None:
    """Have the clock run what waits."""
    net.clock.call_soon(lambda: do_signal(net))


def do_signal(net: Net) -> None:
    """arch do_signal: run the handlers of what waits, the lowest number first."""
    signal: signal_struct = net.signal
    signal.due = False
    waiting = sorted(signal.pending, key=lambda info: info.si_signo)
    signal.pending.clear()
    for info in waiting:
        handler = signal.action.get(info.si_signo)
        if handler is not None and not net.closed:
            handler(info.si_signo, info)
