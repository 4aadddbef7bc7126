"""Streams through two stacks and two NICs in one process, beside the kernel's loopback.

Bulk by the size of a write, round trips by the size of a message, and connections that are opened,
accepted and closed.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from e1000emu.lab import pump
from stack.host import Host
from stack.socket import AF_INET, AF_INET6, IPPROTO_TCP, SOCK_STREAM, TCP_NODELAY, Socket

from . import Work, row, size_bytes
from .ends import OURS, hosts, kernel_listener, kernel_stream, loopback
from .kernel import LOOPBACK, connects_from_c, stream_from_c

BULK_SIZES, BULK_QUICK = ("1460B", "4KiB", "16KiB", "64KiB", "256KiB", "1MiB"), ("1460B", "1MiB")
TRIP_SIZES, ONE = ("64B", "256B", "1460B", "4KiB", "16KiB"), ("64B",)
VOLUME = 256 << 20
"""Bytes of one run; fewer would measure the first touch of the memory more than the path."""
WRITES = 4096
"""Of one run, where they are too small for VOLUME."""
KERNEL_WRITE = 1 << 18
TRIPS = 512
CONNECTIONS = 200
PORT = 5001
TIME_WAIT_NS = 61_000_000_000
ONE_CONNECTION = ("1conns",)


def volume(size: str) -> int:
    """Return the bytes that a run in writes of `size` moves."""
    return min(VOLUME, WRITES * size_bytes(size))


@contextmanager
def listening(host: Host, family: int) -> Iterator[Socket]:
    """A socket of ours that listens."""
    with Socket(host, family, SOCK_STREAM) as listener:
        listener.bind((OURS[family], PORT))
        listener.listen(128)
        yield listener


def connected(a: Host, listener: Socket, family: int) -> tuple[Socket, Socket]:
    """Return both ends of a new connection, which do not wait for more to send."""
    client = Socket(a, family, SOCK_STREAM)
    client.connect((OURS[family], PORT))
    server = listener.accept()[0]
    for end in (client, server):
        end.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    return client, server


def _bulk(family: int, size: str) -> Iterator[Work]:
    """A stream."""
    total = volume(size)
    with hosts(family) as (a, b), listening(b, family) as listener:
        block = memoryview(bytearray(size_bytes(size)))
        ends: list[Socket] = []

        def close() -> None:
            while ends:
                ends.pop().close()

        def prepare() -> None:
            close()
            ends.extend(connected(a, listener, family))

        def run() -> None:
            pieces = iter([block] * (total // len(block)))
            client, server = ends
            moved = pump(client, server, lambda: next(pieces, None), lambda piece: None)
            if moved != total:
                raise RuntimeError("tcp: bytes were lost")

        yield Work(run, total, prepare)
        close()


def receive_all(end: Socket | socket.socket, size: int) -> None:
    """Take `size` bytes."""
    while size:
        size -= len(end.recv(size))


def _trips(family: int, size: str) -> Iterator[Work]:
    with hosts(family) as (a, b), listening(b, family) as listener:
        client, server = connected(a, listener, family)
        with client, server:
            yield from trips(client, server, size)


def trips(
    client: Socket | socket.socket, server: Socket | socket.socket, size: str
) -> Iterator[Work]:
    """Exchange requests and answers, each timed."""
    n, samples = size_bytes(size), list[int]()
    message = bytes(n)

    def run() -> None:
        now, keep = time.thread_time_ns, samples.append
        before = now()
        for _ in range(TRIPS):
            client.send(message)
            receive_all(server, n)
            server.send(message)
            receive_all(client, n)
            after = now()
            keep(after - before)
            before = after

    yield Work(run, TRIPS, samples=samples)


def _connects(family: int, size: str) -> Iterator[Work]:
    with hosts(family) as (a, b), listening(b, family) as listener:
        dest = (OURS[family], PORT)

        def run() -> None:
            for _ in range(CONNECTIONS):
                client = Socket(a, family, SOCK_STREAM)
                client.connect(dest)
                server, _ = listener.accept()
                client.close()
                server.close()

        def prepare() -> None:
            a.clock.run_for(TIME_WAIT_NS)  # or the ports run out

        yield Work(run, CONNECTIONS, prepare)


def _kernel_bulk(size: str) -> Iterator[Work]:
    """The standard library's TCP on loopback, MTU 65536, with the kernel's offloads."""
    total = volume(size)
    with loopback() as ends, kernel_stream(ends, AF_INET) as (client, server):
        client.setblocking(False)
        block = memoryview(bytearray(min(size_bytes(size), KERNEL_WRITE)))
        buffer = bytearray(1 << 20)

        def run() -> None:
            sent = received = 0
            while received < total:
                while sent < total:
                    try:
                        sent += client.send(block[: total - sent])
                    except BlockingIOError:
                        break
                received += server.recv_into(buffer)

        yield Work(run, total)


def _kernel_trips(size: str) -> Iterator[Work]:
    """Round trips through the standard library."""
    with loopback() as ends, kernel_stream(ends, AF_INET) as (client, server):
        yield from trips(client, server, size)


def _kernel_connects(size: str) -> Iterator[Work]:
    """connect(), accept() and close() through the standard library."""
    with loopback() as ends, kernel_listener(ends, AF_INET) as listener:
        dest = listener.getsockname()

        def run() -> None:
            with ends.a:
                for _ in range(CONNECTIONS):
                    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                    client.connect(dest)
                    server, _ = listener.accept()
                    client.close()
                    server.close()

        yield Work(run, CONNECTIONS)


BULK: dict[str, Any] = {
    "group": "tcp",
    "unit": "Gbit/s",
    "sizes": BULK_SIZES,
    "quick": BULK_QUICK,
}
TRIP = BULK | {"group": "tcp_trip", "unit": "k/s", "sizes": TRIP_SIZES, "quick": ONE}
CONNECT = TRIP | {"group": "tcp_connect", "sizes": ONE_CONNECTION, "quick": ONE_CONNECTION}

bulk = row("stack__tcp__bulk", **BULK, layered=True)(partial(_bulk, AF_INET))
trip = row("stack__tcp__trip", **TRIP, layered=True)(partial(_trips, AF_INET))
connect = row("stack__tcp__connect", **CONNECT, layered=True)(partial(_connects, AF_INET))
ROWS = (
    bulk,
    row("stack__tcp6__bulk", **BULK)(partial(_bulk, AF_INET6)),
    row("stack__peer__tcp_bulk", **BULK, peer=LOOPBACK)(_kernel_bulk),
    trip,
    row("stack__tcp6__trip", **TRIP)(partial(_trips, AF_INET6)),
    row("stack__peer__tcp_trip", **TRIP, peer=LOOPBACK)(_kernel_trips),
    connect,
    row("stack__tcp6__connect", **CONNECT)(partial(_connects, AF_INET6)),
    row("stack__peer__tcp_connect", **CONNECT, peer=LOOPBACK)(_kernel_connects),
    *stream_from_c(
        "stack__peer__tcp_bulk",
        lambda lib, a, b, size: lib.tcp_bulk(a, b, size_bytes(size), volume(size)),
        volume,
        **BULK,
    ),
    *stream_from_c(
        "stack__peer__tcp_trip",
        lambda lib, a, b, size: lib.tcp_trips(a, b, size_bytes(size), TRIPS),
        lambda size: TRIPS,
        **TRIP,
    ),
    *connects_from_c("stack__peer__tcp_connect", CONNECTIONS, **CONNECT),
)
