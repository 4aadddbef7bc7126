"""AF_UNIX within one host, beside the kernel's: both ends of a socketpair in one thread.

Peers are the same calls through the standard library.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
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


def _stream(ends: Ends) -> Callable[[str], Iterator[Work]]:
    def start(size: str) -> Iterator[Work]:
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

    return start


def _trip(ends: Ends, kind: int) -> Callable[[str], Iterator[Work]]:
    """Request and answer: two messages are one trip."""

    def start(size: str) -> Iterator[Work]:
        with ExitStack() as stack:
            one, two = ends(stack, kind)
            payload, room = bytes(size_bytes(size)), size_bytes(size)

            def run() -> None:
                for _ in range(TRIPS):
                    one.send(payload)
                    two.send(two.recv(room))
                    one.recv(room)

            yield Work(run, TRIPS)

    return start


def _burst(ends: Ends) -> Callable[[str], Iterator[Work]]:
    """Datagrams one way, so many at a time as Linux queues by itself."""

    def start(size: str) -> Iterator[Work]:
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

    return start


def _row(
    name: str,
    group: str,
    start: Callable[[str], Iterator[Work]],
    sizes: tuple[str, ...],
    **options: Any,
) -> Row:
    quick = tuple(size for size in sizes if size in QUICK)
    return row(name, group=group, sizes=sizes, quick=quick, **options)(start)


ROWS = (
    _row("stack__unix__stream", "unix_stream", _stream(_ours), unit="GB/s", sizes=STREAM_SIZES),
    _row(
        "stack__peer__unix_stream",
        "unix_stream",
        _stream(_kernels),
        unit="GB/s",
        sizes=STREAM_SIZES,
        peer=LINUX,
    ),
    _row(
        "stack__unix__stream_trip",
        "unix_stream_trip",
        _trip(_ours, SOCK_STREAM),
        unit="k/s",
        sizes=("64B",),
    ),
    _row(
        "stack__peer__unix_stream_trip",
        "unix_stream_trip",
        _trip(_kernels, SOCK_STREAM),
        unit="k/s",
        sizes=("64B",),
        peer=LINUX,
    ),
    _row(
        "stack__unix__dgram",
        "unix_dgram",
        _trip(_ours, SOCK_DGRAM),
        unit="k/s",
        sizes=DGRAM_SIZES,
    ),
    _row(
        "stack__peer__unix_dgram",
        "unix_dgram",
        _trip(_kernels, SOCK_DGRAM),
        unit="k/s",
        sizes=DGRAM_SIZES,
        peer=LINUX,
    ),
    _row(
        "stack__unix__dgram_bulk",
        "unix_dgram_bulk",
        _burst(_ours),
        unit="GB/s",
        sizes=DGRAM_SIZES,
    ),
    _row(
        "stack__peer__unix_dgram_bulk",
        "unix_dgram_bulk",
        _burst(_kernels),
        unit="GB/s",
        sizes=DGRAM_SIZES,
        peer=LINUX,
    ),
)
