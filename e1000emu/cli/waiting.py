"""A wait that prints its reason on standard error, so that it does not look like a hang."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from e1000emu.quantities import SECOND_NS, show_duration

QUIET_NS = SECOND_NS
"""A shorter wait prints nothing."""
EVERY_NS = 5 * SECOND_NS


class Wait:
    """Waits on `clock`, at most `limit_ns` in all; `option` is the one that caused it."""

    def __init__(self, clock: Any, option: str, limit_ns: int) -> None:
        self._clock = clock
        self._option = option
        self._limit_ns = limit_ns
        self._started_ns = clock.now_ns()
        self._told = False

    def until(self, done: Callable[[], bool], what: Callable[[], str]) -> bool:
        """Wait until `done()`; say after a second, then every five, what is awaited."""
        while (left := self._limit_ns - self._elapsed_ns()) > 0:
            tell_ns = EVERY_NS if self._told else QUIET_NS
            if self._clock.wait(done, min(left, tell_ns - self._elapsed_ns() % tell_ns)):
                return True
            if self._elapsed_ns() < self._limit_ns:
                self._say(f"waiting for {what()}")
        return bool(done())

    def end(self, found: Callable[[], str]) -> None:
        """Print the result, if anything was printed before."""
        if self._told:
            self._say(found())

    def _elapsed_ns(self) -> int:
        return int(self._clock.now_ns() - self._started_ns)

    def _say(self, text: str) -> None:
        elapsed = show_duration(self._elapsed_ns() // SECOND_NS * SECOND_NS)
        of = f" of {show_duration(self._limit_ns)}" if text.startswith("waiting") else ""
        click.echo(f"e1000emu: {self._option}: {text} ({elapsed}{of})", err=True)
        self._told = True
