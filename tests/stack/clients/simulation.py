"""A core, its timer and a wire that loses, doubles and reorders, in a time of their own."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random

SECOND = 1_000_000_000


@dataclass
class Simulation:
    """Events in the order of their time, and of their making where that is equal."""

    seed: int = 1
    loss: float = 0.0
    duplicate: float = 0.0
    jitter_s: float = 0.0
    now_ns: int = 0
    _events: list[tuple[int, int, Callable[[], None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self._serial = itertools.count()
        self._timer = 0

    def at(self, when_ns: int, fn: Callable[[], None]) -> None:
        """Call `fn()` at `when_ns`."""
        heappush(self._events, (max(when_ns, self.now_ns), next(self._serial), fn))

    def set_timer(self, at_ns: int, fn: Callable[[], None]) -> None:
        """One timer: a later call replaces the earlier one; a negative time only stops it."""
        self._timer += 1
        mine = self._timer

        def due() -> None:
            if mine == self._timer:
                fn()

        if at_ns >= 0:
            assert at_ns >= self.now_ns, "a timer in the past would be called at once, for ever"
            self.at(at_ns, due)

    def carry(self, fn: Callable[[], None]) -> None:
        """Deliver one message by calling `fn()`, or not, or twice, after a while."""
        if self.random.random() < self.loss:
            return
        for _ in range(2 if self.random.random() < self.duplicate else 1):
            delay = 1_000_000 + int(self.random.uniform(0, self.jitter_s) * SECOND)
            self.at(self.now_ns + delay, fn)

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let so much time pass, or as much as it takes for `until()`; what that says."""
        end = self.now_ns + int(seconds * SECOND)
        steps = 0
        while not until() and self._events and self._events[0][0] <= end:
            self.now_ns, _, fn = heappop(self._events)
            fn()
            steps += 1
            assert steps < 200_000, "events without end"
        if not until():
            self.now_ns = end
        return until()
