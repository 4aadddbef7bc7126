"""include/linux/wait.h: wait queues. Sleepers register a callback; `wake_up` runs them.

A blocking call sleeps through `net.clock.wait`; poll-like callers and asyncio add a callback.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from stack.core.clock import Clock
from stack.core.rows import row, state

if TYPE_CHECKING:
    from stack.core.sock import sock


@state
class wait_queue_entry:
    """struct wait_queue_entry: one sleeper, and what it sleeps for: `condition(sk, seen)`.

    `seen` is the value that the sleeper read before. The condition is a plain function, not a
    closure: nearly every message begins a wait.
    """

    sk: sock | None
    condition: Callable[[Any, Any], bool]
    seen: Any

    def ready(self) -> bool:
        """Whether the condition holds."""
        return self.condition(self.sk, self.seen)

    @property
    def awaited(self) -> str:
        """The condition's name, for reports of what a program waits for."""
        return self.condition.__name__


MAX_SCHEDULE_TIMEOUT: Final = 1 << 62
"""A timeout that never comes, in ns."""


def schedule_timeout(clock: Clock, ready: Callable[[], bool], timeo_ns: int) -> int:
    """kernel/time/timer.c: sleep until `ready()`; the ns left, 0 when time is over."""
    if timeo_ns >= MAX_SCHEDULE_TIMEOUT:
        clock.wait(ready)
        return timeo_ns
    end_ns: int = clock.now_ns() + timeo_ns
    if not clock.wait(ready, timeo_ns):
        return 0
    left_ns: int = end_ns - clock.now_ns()
    return left_ns if left_ns > 1 else 1


NOBODY: Final[list[Callable[[], Any]]] = []
"""`waiters` of a queue that was never waited on. It stays empty."""


@state
class wait_queue_head:
    """Callbacks `fn()` to run at `wake_up`, each once per wake-up, in the order they were added."""

    clock: Clock | None = None
    """The clock whose sleeping threads a wake-up must wake; None without threads."""
    waiters: list[Callable[[], Any]] = row(NOBODY, shared=True)
    exclusive: int = row(0)
    """How many at the end of `waiters` are exclusive: a wake-up ends at the first that is true."""
    key: int = row(0)
    """During a wake-up: the POLL* bits that changed, or 0 when unknown."""

    def add(self, fn: Callable[[], Any]) -> None:
        """Call `fn()` at every wake-up until `remove(fn)`."""
        if self.waiters is NOBODY:
            self.waiters = [fn]
        elif self.exclusive:
            self.waiters.insert(len(self.waiters) - self.exclusive, fn)
        else:
            self.waiters.append(fn)

    def add_first(self, fn: Callable[[], Any]) -> None:
        """kernel/sched/wait.c add_wait_queue: add `fn` at the front."""
        self.waiters = [fn, *self.waiters]

    def add_exclusive(self, fn: Callable[[], Any]) -> None:
        """kernel/sched/wait.c add_wait_queue_exclusive: add `fn` as exclusive, at the end."""
        self.waiters = [*self.waiters, fn]
        self.exclusive += 1

    def remove(self, fn: Callable[[], Any]) -> None:
        """Forget `fn`; unknown callbacks are ignored."""
        waiters = self.waiters
        if fn in waiters:
            at = waiters.index(fn)
            if at >= len(waiters) - self.exclusive:
                self.exclusive -= 1
            del waiters[at]


def wake_up(wq: wait_queue_head | None) -> None:
    """kernel/sched/wait.c: something that sleepers on `wq` wait for may have changed."""
    wake_up_poll(wq, 0)


def wake_up_poll(wq: wait_queue_head | None, key: int) -> None:
    """include/linux/wait.h: the same; `key` has the POLL* bits that may have changed, 0: any."""
    if wq is None:
        return
    clock = wq.clock
    if clock is not None:
        clock.wake()
    if wq.waiters:
        if wq.exclusive:
            __wake_up_common(wq, key)
            return
        raised: BaseException | None = None
        for fn in tuple(wq.waiters):
            wq.key = key  # a nested wake-up may have changed it
            try:
                fn()
            except BaseException as wrong:  # wake the others first
                raised = wrong
        if raised is not None:
            raise raised


def __wake_up_common(wq: wait_queue_head, key: int) -> None:
    """kernel/sched/wait.c: call all ordinary waiters, then exclusive ones until one is true."""
    waiters = tuple(wq.waiters)
    first = len(waiters) - wq.exclusive
    for at, fn in enumerate(waiters):
        wq.key = key
        if fn() and at >= first:
            return
