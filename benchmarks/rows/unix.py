"""AF_UNIX within one host, beside the kernel's: both ends of a socketpair in one thread.

Peers are the same calls through the standard library.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

from e1000emu.clock import VirtualClock
from stack.host import Host
from stack.socket import SOCK_DGRAM, SOCK_STREAM, socketpair

from . import Row, Work, row, size_bytes

STREAM_SIZES = ("64B", "4KiB", "64KiB")
DGRAM_SIZES = ("64B", "4KiB", "64KiB")
QUICK = ("64B", "64KiB")
LINUX = "Linux AF_UNIX"
STREAM_BYTES = 1 << 23
MOST_SENDS = 2048
TRIPS = 1024
BURST = 2
"""Datagrams of 64 KiB that wait: with more, a sender of Linux's sleeps (net.core.wmem_default)."""


def _ours(stack: ExitStack, kind: int) -> tuple[Any, Any]:
    host = stack.enter_context(Host("unix", clock=VirtualClock()))
    ends = socketpair(host, type=kind)
    return stack.enter_context(ends[0]), stack.enter_context(ends[1])


def _kernels(stack: ExitStack, kind: int) -> tuple[Any, Any]:
    ends = socket.socketpair(socket.AF_UNIX, kind)
    return stack.enter_context(ends[0]), stack.enter_context(ends[1])


Ends = Callable[[ExitStack, int], tuple[Any, Any]]


def _stream(ends: Ends, size: str) -> Iterator[Work]:
    n = size_bytes(size)
    sends = min(STREAM_BYTES // n, MOST_SENDS)
    with ExitStack() as stack:
        one, two = ends(stack, SOCK_STREAM)
        payload, room = bytes(n), bytearray(n)

        def run() -> None:
            for _ in range(sends):
                one.sendall(payload)
                left = n
                while left:
                    left -= two.recv_into(room)

        yield Work(run, sends * n)


def _trip(ends: Ends, size: str, *, kind: int) -> Iterator[Work]:
    """Request and answer: two messages are one trip."""
    with ExitStack() as stack:
        one, two = ends(stack, kind)
        payload, room = bytes(size_bytes(size)), size_bytes(size)

        def run() -> None:
            for _ in range(TRIPS):
                one.send(payload)
                two.send(two.recv(room))
                one.recv(room)

        yield Work(run, TRIPS)


def _burst(ends: Ends, size: str) -> Iterator[Work]:
    """Datagrams one way, so many at a time as Linux queues by itself."""
    n = size_bytes(size)
    with ExitStack() as stack:
        one, two = ends(stack, SOCK_DGRAM)
        payload, room = bytes(n), bytearray(n)

        def run() -> None:
            for _ in range(MOST_SENDS // BURST):
                for _ in range(BURST):
                    one.send(payload)
                for _ in range(BURST):
                    two.recv_into(room)

        yield Work(run, MOST_SENDS // BURST * BURST * n)


def _pair(
    what: str, start: Callable[..., Iterator[Work]], unit: str, sizes: tuple[str, ...]
) -> tuple[Row, Row]:
    """Ours and the kernel's, which do the same."""
    quick = tuple(size for size in sizes if size in QUICK)
    options: dict[str, Any] = {
        "group": f"unix_{what}",
        "unit": unit,
        "sizes": sizes,
        "quick": quick,
    }
    return (
        row(f"stack__unix__{what}", **options)(partial(start, _ours)),
        row(f"stack__peer__unix_{what}", peer=LINUX, **options)(partial(start, _kernels)),
    )


ROWS = (
    *_pair("stream", _stream, "GB/s", STREAM_SIZES),
    *_pair("stream_trip", partial(_trip, kind=SOCK_STREAM), "k/s", ("64B",)),
    *_pair("dgram", partial(_trip, kind=SOCK_DGRAM), "k/s", DGRAM_SIZES),
    *_pair("dgram_bulk", _burst, "GB/s", DGRAM_SIZES),
)
