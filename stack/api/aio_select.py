"""Waiting for an epoll of a host in a coroutine: the host's time advances as in `stack.aio`."""

from __future__ import annotations

from fastpath.errors import check_type
from stack.api.aio import _Sleep
from stack.api.select import epoll

__all__ = ["epoll_wait"]


async def epoll_wait(ep: epoll, maxevents: int = -1) -> list[tuple[int, int]]:
    """`ep.poll()` for coroutines: [(number, EPOLL* bits)], at least one.

    Use `asyncio.timeout` for a limit. Raises: ValueError: maxevents, or `ep` is closed. OSError.
    """
    check_type("epoll_wait", "ep", ep, epoll, "an epoll of a host")
    while True:
        with ep.net.lock:
            found = ep.poll(0, maxevents)
            if found:
                return found
            sleep = _Sleep(ep)
        try:
            await sleep.future
        finally:
            sleep.close()
