"""The second core, measured by elapsed time, which is all that it can improve.

All other rows count CPU time, which two threads use twice. These count elapsed time, which any
other load on the machine lengthens: run them on idle processors only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from stack.socket import AF_INET

from . import Row, Work, row
from .tcp import bulk_rows
from .udp import SMALL, by_size, mmsg_rows

ONE_THREAD = "one thread"
Start = Callable[[str], Iterator[Work]]


def elapsed(work: Work, loops: int) -> float:
    """Return the elapsed seconds of so many runs, preparation excluded."""
    total = 0.0
    for _ in range(loops):
        if work.prepare is not None:
            work.prepare()
        before = time.perf_counter()
        work.run()
        total += time.perf_counter() - before
    return total


def by_the_wall(start: Start) -> Start:
    """Return the same work, timed by the clock on the wall."""

    def started(size: str) -> Iterator[Work]:
        with contextmanager(start)(size) as work:
            yield replace(work, timed=lambda loops: elapsed(work, loops))

    return started


def _rows(what: str, unit: str, size: str, start: Callable[[bool], Start]) -> Iterator[Row]:
    """The row with a device thread, and beside it the one without."""
    for device_thread in (True, False):
        yield row(
            f"stack__second_core__{what}{'' if device_thread else '_alone'}",
            group=f"wall_{what}",
            unit=unit,
            sizes=(size,),
            peer=None if device_thread else ONE_THREAD,
            extra=True,
        )(by_the_wall(start(device_thread)))


ROWS = (
    *_rows("bulk", "Gbit/s wall", "1MiB", lambda two: bulk_rows(AF_INET, device_thread=two)),
    *_rows(
        "mmsg",
        "k/s wall",
        f"{SMALL}B",
        lambda two: mmsg_rows(AF_INET, by_size, device_thread=two),
    ),
)
