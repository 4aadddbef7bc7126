"""include/linux/wait.h: wait queues. Sleepers register a callback; `wake_up` runs them.

A blocking call sleeps through `net.clock.wait`; poll-like callers and asyncio add a callback.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stack.core.clock import Clock, is_threaded
from stack.core.rows import row, state

if TYPE_CHECKING:
    from stack.core.sock import sock


@state
class wait_queue_entry:
    """struct wait_queue_entry: one sleeper, and what it sleeps for: `condition(sk, seen)`.

    `seen` is whatever the sleeper looked at before. The condition is a plain function: a wait is
    begun for nearly every message, and makes no function of its own.
    """

    sk: sock
    condition: Callable[[Any, Any], bool]
    seen: Any

    def ready(self) -> bool:
        """Whether the sleeper has to look."""
        return self.condition(self.sk, self.seen)

    @property
    def awaited(self) -> str:
        """The condition's name, for who says what a program waits for."""
        return self.condition.__name__


@state
class wait_queue_head:
    """Callbacks `fn()` to run at `wake_up`, each once per wake-up, in the order they were added."""

    clock: Clock | None = row()
    """None unless it has sleeping threads, which have to hear of wake-ups."""
    waiters: list[Callable[[], Any]] = row(make=list)

    if TYPE_CHECKING:

        def init_state(self) -> None:
            """Give every field its start value (generated from the rows)."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.init_state()
        if clock is not None and is_threaded(clock):
            self.clock = clock

    def add(self, fn: Callable[[], Any]) -> None:
        """Call `fn()` at every wake-up until `remove(fn)`."""
        self.waiters.append(fn)

    def remove(self, fn: Callable[[], Any]) -> None:
        """Forget `fn`; unknown callbacks are ignored."""
        if fn in self.waiters:
            self.waiters.remove(fn)


def wake_up(wq: wait_queue_head | None) -> None:
    """kernel/sched/wait.c: something that sleepers on `wq` wait for may have changed."""
    if wq is None:
        return
    clock = wq.clock
    if clock is not None:
        clock.wake()
    if wq.waiters:
        for fn in tuple(wq.waiters):
            fn()
