"""Decides when a wait without limit on a VirtualClock is hopeless, although events never end.

A sender whose peer does not read probes the closed window forever, and an answered keep-alive
is repeated: virtual time advances without effect. The wait is hopeless if

* every scheduled call is the timer interrupt of a host (another call might read, send or
  close; housekeeping in the background does not), and
* no application-visible state has changed on any host for longer than TCP's timers can
  be silent. An unanswered probe counts as a change, since it may lead to an error.

Each host registers its part of both by `VirtualClock.watch`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastpath.base.eventq import JumpQueue

# The longest silence set by a TCP option: TCP_KEEPIDLE and TCP_KEEPINTVL, 32,767 s.
QUIET_NS = 40_000 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class Watch:
    """The functions that a host registers."""

    interrupt: Callable[[], Any]
    """The only call that the host's timers schedule on the clock."""
    progress: Callable[[], Any]
    """Returns a value that changes with application-visible state; None: unknown
    yet."""
    describe: Callable[[], list[str]]
    """The reasons why the host's sockets wait, a sentence each."""


class StallDetector:
    """Watches one wait without limit: call `hopeless` at every event from `look_ns` on."""

    __slots__ = ("_clock", "_seen", "_since_ns", "_watches", "look_ns")

    def __init__(self, clock: JumpQueue, watches: list[Watch]) -> None:
        self._clock = clock
        self._watches = watches
        self._seen: Any = None
        self._since_ns = 0
        self.look_ns = 0

    def hopeless(self, when_ns: int) -> bool:
        """Return whether the wait is hopeless before the event at `when_ns`; if not, move
        `look_ns`."""
        watches = self._watches
        others = [
            entry.when
            for entry in self._clock.pending()
            if not any(entry.fn == watch.interrupt for watch in watches)
        ]
        if others:
            self.look_ns = max(others) + 1
            return False
        self.look_ns = when_ns + QUIET_NS
        now = [watch.progress() for watch in watches]
        if None in now:
            self._seen = None
        elif now != self._seen:
            self._seen = now
            self._since_ns = when_ns
        else:
            return when_ns - self._since_ns >= QUIET_NS
        return False
