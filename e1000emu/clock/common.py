"""Common part of the three clocks: errors, the running asyncio loop, a lock for one thread."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from fastpath.errors import E1000Error

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

# A timeout may pass while the process does not run. Input that has arrived by then needs up to this
# many turns of the loop (a frame, its interrupt, the poll, the socket) before a wait may time out.
LATE_TURNS = 64


class ClockError(E1000Error, RuntimeError):
    """An operation that the clock does not support; the message has the remedy."""


class SimulationDeadlock(ClockError):
    """A blocking call waits in virtual time and no remaining event could end the wait."""


def running_loop() -> AbstractEventLoop | None:
    """The asyncio loop that runs in this thread; a program without asyncio does not import it."""
    asyncio = sys.modules.get("asyncio")
    return None if asyncio is None else asyncio.events._get_running_loop()


class NullLock:
    """A lock for clocks that only one thread uses: entering costs two empty calls."""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc: object) -> None:
        return None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        return True

    def release(self) -> None:
        return None
