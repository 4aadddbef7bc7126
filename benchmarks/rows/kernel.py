"""The kernel's stack as a peer: through the standard library, and from C over three kinds of link.

Rows through the standard library include its cost, as ours include Python's. The rows from C
(`--peers`) measure the kernel alone: over loopback, over a veth pair, and over one without
offloads, where segmentation and checksums are done in software. Softirqs run in the sending thread;
the time of ksoftirqd is not counted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from stack.socket import AF_INET

from . import Row, Work, row
from .ends import (
    Ends,
    kernel_datagrams,
    kernel_listener,
    kernel_stream,
    loopback,
    veth_offloads,
    veth_plain,
)
from .peer import load

__all__ = ["LOOPBACK", "connects_from_c", "datagrams_from_c", "stream_from_c"]

LOOPBACK = "Linux loopback"
FROM_C: dict[str, tuple[str, Callable[[], AbstractContextManager[Ends]]]] = {
    "c": (f"{LOOPBACK}, C", loopback),
    "veth": ("Linux veth, C", veth_offloads),
    "veth_plain": ("Linux veth without offloads, C", veth_plain),
}
Call = Callable[[Any, int, int, str], int]
"""Library, descriptors of both ends, size: what arrived."""


def _checked(what: str, call: Callable[[], int], amount: int) -> Callable[[], None]:
    def run() -> None:
        done = call()
        if done < 0:
            number = load("sockets_peer")[0].errno
            raise OSError(number, f"{what}: {os.strerror(number)}")
        if done < amount:
            raise RuntimeError(f"{what}: {done} of {amount} arrived")

    return run


def _rows(name: str, start: Callable[[Ends, str], Iterator[Work]], **options: Any) -> list[Row]:
    """Return a row for each kind of link."""

    def over(link: Callable[[], AbstractContextManager[Ends]]) -> Callable[[str], Iterator[Work]]:
        def started(size: str) -> Iterator[Work]:
            with link() as ends:
                yield from start(ends, size)

        return started

    return [
        row(f"{name}_{suffix}", peer=peer, extra=True, **options)(over(link))
        for suffix, (peer, link) in FROM_C.items()
    ]


def datagrams_from_c(
    name: str, call: Call, amount: Callable[[str], int], **options: Any
) -> list[Row]:
    """Return rows of `call`, a function of peers/sockets_peer.c that moves datagrams."""

    def start(ends: Ends, size: str) -> Iterator[Work]:
        _, library = load("sockets_peer")
        count = amount(size)
        with kernel_datagrams(ends, AF_INET) as (tx, rx):
            # The descriptor of a socket with a timeout does not block, and C would see EAGAIN.
            rx.setblocking(True)
            fds = (tx.fileno(), rx.fileno())
            yield Work(_checked(name, lambda: call(library, *fds, size), count), count)

    return _rows(name, start, **options)


def stream_from_c(name: str, call: Call, amount: Callable[[str], int], **options: Any) -> list[Row]:
    """Return rows of `call`, a function that uses both ends of a connection."""

    def start(ends: Ends, size: str) -> Iterator[Work]:
        _, library = load("sockets_peer")
        count = amount(size)
        with kernel_stream(ends, AF_INET) as (a, b):
            fds = (a.fileno(), b.fileno())
            yield Work(_checked(name, lambda: call(library, *fds, size), count), count)

    return _rows(name, start, **options)


def connects_from_c(name: str, count: int, **options: Any) -> list[Row]:
    """Return rows of connections made, accepted and closed."""

    def start(ends: Ends, size: str) -> Iterator[Work]:
        _, library = load("sockets_peer")
        with kernel_listener(ends, AF_INET) as listener:

            def connects() -> int:
                with ends.a:
                    made: int = library.tcp_connects(listener.fileno(), count)
                return made

            yield Work(_checked(name, connects, count), count)

    return _rows(name, start, **options)
