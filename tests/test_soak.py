"""A day of virtual time with traffic leaks nothing: no buffer, no timer, no object."""

from __future__ import annotations

import ctypes
import gc
import resource
from collections import Counter
from contextlib import suppress
from pathlib import Path

from e1000emu.lab import pump, two_hosts
from stack.socket import AF_INET, SOCK_DGRAM, Socket, create_connection, create_server

HOUR_NS = 3_600_000_000_000
WARM_UP = 192


def traffic(a, b, number: int) -> None:
    """One UDP exchange, one TCP connection with half a megabyte, closed from either side."""
    with Socket(b, AF_INET, SOCK_DGRAM) as server, Socket(a, AF_INET, SOCK_DGRAM) as client:
        server.bind(("10.0.0.2", 7))
        client.settimeout(1)
        server.settimeout(1)
        while True:  # the wire may lose either datagram
            client.sendto(number.to_bytes(4, "big"), ("10.0.0.2", 7))
            with suppress(TimeoutError):
                data, source = server.recvfrom(100)
                server.sendto(data, source)
                assert client.recv(100) == number.to_bytes(4, "big")
                break
        client.sendto(b"nobody listens", ("10.0.0.2", 9))  # the ICMP error must not stay anywhere
    with create_server(b, ("10.0.0.2", 5001)) as listener:
        client = create_connection(a, ("10.0.0.2", 5001))
        server, _ = listener.accept()
        pieces = iter([memoryview(bytes(100_000))] * 5)
        assert pump(client, server, lambda: next(pieces, None), lambda piece: None) == 500_000
        first, second = (client, server) if number % 2 else (server, client)
        first.close()
        second.close()


def census(*hosts) -> tuple[Counter, list[int]]:
    """Count what could leak: our objects by type, and buffers in use."""
    gc.collect()
    kinds = Counter(
        type(o).__name__
        for o in gc.get_objects()
        if str(type(o).__module__).startswith(("stack", "e1000emu", "fastpath"))
    )
    return kinds, [
        pool.in_use for h in hosts for pool in (h.skb_small, h.skb_pages, h.skb_small_head)
    ]


def resident_bytes() -> int:
    """Memory of this process, without what malloc keeps between objects that moved apart."""
    gc.collect()
    with suppress(AttributeError):  # the C library may be another than glibc
        ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_a_day_of_virtual_time_leaks_nothing():
    with_impair = {"loss": 0.002, "reorder": 0.002, "duplicate": 0.002, "seed": 3}
    a, b = two_hosts(impair=with_impair)
    clock = a.clock
    # A day first: caches, freelists and pools reach their working size, which the longest queue
    # that a loss makes decides.
    for number in range(WARM_UP):
        traffic(a, b, number)
        clock.run_for(HOUR_NS // 8)
    before, buffers = census(a, b)
    memory = resident_bytes()
    start = clock.now_ns()
    number = WARM_UP
    while clock.now_ns() - start < 24 * HOUR_NS:
        traffic(a, b, number)
        number += 1
        clock.run_for(HOUR_NS // 8)
    after, buffers_after = census(a, b)
    assert buffers_after == buffers
    grown = {kind: after[kind] - before[kind] for kind in after if after[kind] > before[kind] + 3}
    assert not grown, grown
    # 192 connections and 90 MB went through; a leak of a buffer of 32 KiB each would show here.
    # What grows are frame batches, of which the links keep 64.
    assert resident_bytes() - memory < 4 << 20
    a.close()
    b.close()
    for host in (a, b):
        assert (host.skb_small.in_use, host.skb_pages.in_use) == (0, 0)
        assert host.skb_small_head.in_use == 0
