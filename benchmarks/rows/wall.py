"""The second core by the clock on the wall, the one thing that it can make better.

Every other row counts CPU time, which two threads at work take twice. These count elapsed time, and
so whatever else the machine does: believe them on processors that have nothing else to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from e1000emu.lab import pump
from stack.socket import AF_INET

from . import Row, Work, row, size_bytes
from .ends import datagrams, hosts
from .tcp import VOLUME, connected, listening
from .udp import BATCH, PACKETS, SMALL

ONE_THREAD = "one thread"


def by_the_wall(run: Callable[[], object]) -> Callable[[int], float]:
    """Return what runs `run` so many times and tells the seconds that went by."""

    def timed(loops: int) -> float:
        before = time.perf_counter()
        for _ in range(loops):
            run()
        return time.perf_counter() - before

    return timed


def _bulk(device_thread: bool) -> Callable[[str], Iterator[Work]]:
    def start(size: str) -> Iterator[Work]:
        with (
            hosts(device_thread=device_thread) as (a, b),
            listening(b, AF_INET) as listener,
        ):
            block = memoryview(bytearray(size_bytes(size)))
            client, server = connected(a, listener, AF_INET)
            with client, server:

                def run() -> None:
                    pieces = iter([block] * (VOLUME // len(block)))
                    if pump(client, server, lambda: next(pieces, None), lambda piece: None) != (
                        VOLUME
                    ):
                        raise RuntimeError("wall: bytes were lost")

                yield Work(run, VOLUME, timed=by_the_wall(run))

    return start


def _mmsg(device_thread: bool) -> Callable[[str], Iterator[Work]]:
    def start(size: str) -> Iterator[Work]:
        n = size_bytes(size)
        with (
            hosts(device_thread=device_thread) as (a, b),
            datagrams(a, b, AF_INET) as (sender, receiver),
        ):
            messages = [(bytes(n), receiver.getsockname()[:2])] * BATCH
            buffers = [bytearray(n) for _ in messages]

            def run() -> None:
                for _ in range(PACKETS // BATCH):
                    sender.sendmmsg(messages)
                    if len(receiver.recvmmsg(buffers)) != BATCH:
                        raise RuntimeError("wall: a datagram was lost")

            yield Work(run, PACKETS, timed=by_the_wall(run))

    return start


def _rows(
    what: str, unit: str, size: str, start: Callable[[bool], Callable[[str], Iterator[Work]]]
) -> Iterator[Row]:
    """The row with a device thread, and beside it the one without."""
    for device_thread in (True, False):
        yield row(
            f"stack__{'second_core' if device_thread else 'one_core'}__{what}",
            group=f"wall_{what}",
            unit=unit,
            sizes=(size,),
            peer=None if device_thread else ONE_THREAD,
            extra=True,
        )(start(device_thread))


ROWS = (
    *_rows("bulk", "Gbit/s wall", "1MiB", _bulk),
    *_rows("mmsg", "k/s wall", f"{SMALL}B", _mmsg),
)
