"""Signals of the commands that serve until they are told to end (`up`, `vfio-user`); names."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Mapping


def signal_name(number: int) -> str:
    """Return `SIGTERM` for 15; most real-time signals have no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def end_cleanly_before_serving() -> None:
    """Let SIGTERM unwind while the command starts, so that no socket or lock is left behind."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def handle_signals(
    loop: asyncio.AbstractEventLoop,
    stop: Callable[[], None],
    shows: Mapping[signal.Signals, Callable[[], None]],
) -> None:
    """Let SIGINT, SIGTERM and SIGHUP call `stop`, and each signal of `shows` its function.

    The first of the three is enough: timeout(1) sends two, and the other would come amid the end.
    Signals of `shows` that came before (`e1000emu.__main__` blocks them) act as soon as the loop
    runs. SIGHUP stays ignored under nohup(1).
    """
    stops = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        stops.append(signal.SIGHUP)

    def end() -> None:
        for number in stops:
            signal.signal(number, signal.SIG_IGN)
        stop()

    for number in stops:  # not the loop's, which would restore the default when it is closed
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(end))
    for number, show in shows.items():
        loop.add_signal_handler(number, show)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, shows)
