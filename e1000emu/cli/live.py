"""Counters that stay in view while a command serves: on a terminal only, drawn by rich."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from rich.live import Live
from rich.table import Table

from e1000emu.cli.output import console, plain_table

REFRESH_S = 1.0

Row = tuple[str, Mapping[str, int]]
"""A label and counters by name; one whose name ends with `/s` is shown as the rate it grows at."""


def human(value: float) -> str:
    """Return a figure in at most six characters: 999, 12.3k, 4.56M."""
    for unit in ("", "k", "M", "G", "T"):
        if value < 999.5:
            return f"{value:.3g}{unit}" if unit else f"{value:.0f}"
        value /= 1000
    return f"{value:.3g}P"


def table(rows: Sequence[Row], before: Sequence[Row], span_s: float, total_s: float) -> Table:
    """Return the counters of `rows`; rates are since `before`, `span_s` seconds earlier."""
    names = list(dict.fromkeys(name for _, counters in rows for name in counters))
    made = plain_table(f"{total_s:.0f} s", *names, right=tuple(names))
    old = dict(before)
    for label, counters in rows:
        cells = []
        for name in names:
            if name not in counters:
                cells.append("")
                continue
            value: float = counters[name]
            if name.endswith("/s"):
                value = (value - old.get(label, counters).get(name, 0)) / span_s
            cells.append(human(value))
        made.add_row(label, *cells)
    return made


def live_counters(read: Callable[[], Sequence[Row]]) -> AbstractContextManager[object]:
    """Show `read()` once a second in the running asyncio loop, until the context ends.

    On standard error, and only where that is a terminal; what is printed meanwhile stays above.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        return nullcontext()
    return _Counters(read)


class _Counters(AbstractContextManager["_Counters"]):
    """A rich display, and the task that keeps it current."""

    def __init__(self, read: Callable[[], Sequence[Row]]) -> None:
        self._read = read
        self._live = Live(
            console=console(stderr=True),
            auto_refresh=False,
            transient=True,
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
        )
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> _Counters:
        self._live.start()
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self

    async def _run(self) -> None:
        started = last = time.monotonic()
        before = [(label, dict(counters)) for label, counters in self._read()]
        while True:
            await asyncio.sleep(REFRESH_S)
            now = time.monotonic()
            rows = [(label, dict(counters)) for label, counters in self._read()]
            self._live.update(table(rows, before, now - last, now - started), refresh=True)
            before, last = rows, now

    def __exit__(self, *exc: object) -> None:
        if self._task is not None:
            self._task.cancel()
        self._live.stop()
