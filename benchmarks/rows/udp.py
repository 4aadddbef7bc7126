"""Datagrams through two stacks and two NICs in one process, beside the kernel's loopback.

One by one, by the batch, and as super-packets of UDP_SEGMENT and UDP_GRO. The kernel is reached
through the standard library's sockets, both ends in this thread, and from C.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from stack.core.uapi import SOL_UDP
from stack.host import Host
from stack.netfilter import firewall
from stack.socket import AF_INET, AF_INET6, UDP_GRO, UDP_SEGMENT

from . import Work, number, row, size_bytes
from .ends import datagrams, hosts, kernel_datagrams, loopback
from .kernel import LOOPBACK, datagrams_from_c

SIZES = ("64B", "256B", "1472B", "4KiB", "16KiB")
"""1472 bytes fill an IPv4 packet; over IPv6 they would be two fragments."""
SIZES6 = ("64B", "256B", "4KiB", "16KiB")
GSO_SIZES, GSO_SIZES6 = ("64B", "256B", "1472B"), ("64B", "256B")
BATCHES = ("1msgs", "8msgs", "32msgs", "64msgs", "256msgs", "1024msgs")
QUICK_BATCHES = ("1msgs", "32msgs", "1024msgs")
ONE, ONE_BATCH = ("64B",), ("32msgs",)
SMALL = 64
"""Bytes of a datagram where something else varies."""
PACKETS = 2048
"""Of one run: a multiple of every batch."""
BATCH = 64
LARGEST = 65507 - 8
TRIPS = 512


def segments(size: int) -> int:
    """Return how many datagrams of `size` bytes one send makes: 64, or what fits."""
    return min(64, LARGEST // size)


def _filtered(host: Host) -> None:
    """One rule on the way in and one on the way out, which match nothing."""
    for chain in ("input", "output"):
        firewall.drop(host, chain, proto="udp", sport=1)


def _tracked(host: Host) -> None:
    """Connection tracking, and rules that accept what it knows."""
    for chain in ("input", "output"):
        firewall.accept(host, chain, state="new,established")


def one_by_one(sender: Any, receiver: Any, size: str) -> Callable[..., None]:
    """Return what sends and receives datagrams in turn, PACKETS unless told."""
    dest = receiver.getsockname()[:2]
    payload, room = bytes(size_bytes(size)), size_bytes(size) + 1

    def run(packets: int = PACKETS) -> None:
        for _ in range(packets):
            sender.sendto(payload, dest)
            receiver.recvfrom(room)

    return run


def _single(
    family: int, size: str, *, set_up: Callable[[Host], object] | None = None
) -> Iterator[Work]:
    with hosts(family) as (a, b), datagrams(a, b, family) as (sender, receiver):
        for host in (a, b) if set_up else ():
            set_up(host)
        run = one_by_one(sender, receiver, size)
        run(20)  # ARP and route are resolved, pools are warm
        yield Work(run, PACKETS)


def _mmsg(family: int, batch_of: Callable[[str], tuple[int, int]], size: str) -> Iterator[Work]:
    """Batches of datagrams."""
    n, batch = batch_of(size)
    with hosts(family) as (a, b), datagrams(a, b, family) as (sender, receiver):
        messages = [(bytes(n), receiver.getsockname()[:2])] * batch
        buffers = [bytearray(n) for _ in messages]

        def run(rounds: int = PACKETS // batch) -> None:
            for _ in range(rounds):
                if sender.sendmmsg(messages) != batch:
                    raise RuntimeError("udp: a datagram was not sent")
                if len(receiver.recvmmsg(buffers)) != batch:
                    raise RuntimeError("udp: a datagram was lost")

        run(2)
        yield Work(run, PACKETS)


def by_size(size: str) -> tuple[int, int]:
    """Return bytes and batch of a row over sizes."""
    return size_bytes(size), BATCH


def by_batch(size: str) -> tuple[int, int]:
    """Return bytes and batch of a row over batches."""
    return SMALL, int(number(size))


def _gso(family: int, size: str) -> Iterator[Work]:
    n = size_bytes(size)
    with hosts(family) as (a, b), datagrams(a, b, family) as (sender, receiver):
        sender.setsockopt(SOL_UDP, UDP_SEGMENT, n)
        receiver.setsockopt(SOL_UDP, UDP_GRO, 1)
        dest, payload = receiver.getsockname()[:2], bytes(n * segments(n))
        buffer = bytearray(1 << 16)

        def run(rounds: int = PACKETS // segments(n)) -> None:
            for _ in range(rounds):
                sender.sendto(payload, dest)
                left = len(payload)
                while left:
                    left -= receiver.recv_into(buffer)

        run(2)
        yield Work(run, gso_amount(size))


def gso_amount(size: str) -> int:
    """Return how many datagrams a run moves."""
    n = segments(size_bytes(size))
    return PACKETS // n * n


def _trip(family: int, size: str) -> Iterator[Work]:
    with hosts(family) as (a, b), datagrams(a, b, family) as (client, server):
        dest, payload = server.getsockname()[:2], bytes(size_bytes(size))
        samples: list[int] = []

        def run() -> None:
            now, keep = time.thread_time_ns, samples.append
            before = now()
            for _ in range(TRIPS):
                client.sendto(payload, dest)
                data, source = server.recvfrom(2048)
                server.sendto(data, source)
                client.recvfrom(2048)
                after = now()
                keep(after - before)
                before = after

        yield Work(run, TRIPS, samples=samples)


def _kernel_single(size: str) -> Iterator[Work]:
    """The standard library's sendto() and recvfrom() over the kernel's loopback."""
    with loopback() as ends, kernel_datagrams(ends, AF_INET) as (_, receiver):
        receiver.settimeout(None)  # a timeout would cost a poll() for each call
        with ends.a:
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sender:
            yield Work(one_by_one(sender, receiver, size), PACKETS)


def _kernel_single_of_batch(size: str) -> Iterator[Work]:
    """The same for the rows over batches: the standard library has no sendmmsg()."""
    yield from _kernel_single(f"{SMALL}B")


def _kernel_gso(size: str) -> Iterator[Work]:
    """UDP_SEGMENT and UDP_GRO through the standard library."""
    n = size_bytes(size)
    with loopback() as ends, kernel_datagrams(ends, AF_INET) as (sender, receiver):
        receiver.settimeout(None)
        sender.setsockopt(SOL_UDP, UDP_SEGMENT, n)
        receiver.setsockopt(SOL_UDP, UDP_GRO, 1)
        payload, buffer = bytes(n * segments(n)), bytearray(1 << 16)

        def run() -> None:
            for _ in range(PACKETS // segments(n)):
                sender.send(payload)
                left = len(payload)
                while left:
                    left -= receiver.recv_into(buffer)

        yield Work(run, gso_amount(size))


def _kernel_trip(size: str) -> Iterator[Work]:
    """Request and answer through the standard library, each timed."""
    with loopback() as ends, kernel_datagrams(ends, AF_INET) as (client, server):
        server.settimeout(None)
        payload = bytes(size_bytes(size))
        samples: list[int] = []

        def run() -> None:
            now, keep = time.thread_time_ns, samples.append
            before = now()
            for _ in range(TRIPS):
                client.send(payload)
                data, source = server.recvfrom(2048)
                server.sendto(data, source)
                client.recv(2048)
                after = now()
                keep(after - before)
                before = after

        yield Work(run, TRIPS, samples=samples)


EACH: dict[str, Any] = {"group": "udp", "unit": "k/s", "sizes": SIZES, "quick": ONE}
MMSG = EACH | {"group": "udp_mmsg"}
BATCHED = EACH | {"group": "udp_batch", "sizes": BATCHES, "quick": QUICK_BATCHES}
GSO = EACH | {"group": "udp_gso", "sizes": GSO_SIZES}
TRIP = EACH | {"group": "udp_trip", "sizes": ONE}
RULES = EACH | {"sizes": ONE, "quick": ()}
OVER6 = {"sizes": SIZES6}

single = row("stack__udp__single", **EACH, layered=True)(partial(_single, AF_INET))
mmsg64 = row("stack__udp__mmsg64", **MMSG, layered=True)(partial(_mmsg, AF_INET, by_size))
gso = row("stack__udp__gso", **GSO, layered=True)(partial(_gso, AF_INET))
ROWS = (
    single,
    row("stack__udp6__single", **EACH | OVER6)(partial(_single, AF_INET6)),
    row("stack__udp__filtered", **RULES)(partial(_single, AF_INET, set_up=_filtered)),
    row("stack__udp__tracked", **RULES)(partial(_single, AF_INET, set_up=_tracked)),
    row("stack__peer__udp_single", **EACH, peer=LOOPBACK)(_kernel_single),
    mmsg64,
    row("stack__udp6__mmsg64", **MMSG | OVER6)(partial(_mmsg, AF_INET6, by_size)),
    row("stack__peer__udp_for_mmsg", **MMSG, peer=LOOPBACK)(_kernel_single),
    row("stack__udp__mmsg", **BATCHED)(partial(_mmsg, AF_INET, by_batch)),
    row("stack__udp6__mmsg", **BATCHED | {"quick": ONE_BATCH})(partial(_mmsg, AF_INET6, by_batch)),
    row("stack__peer__udp_for_batch", **BATCHED, peer=LOOPBACK)(_kernel_single_of_batch),
    gso,
    row("stack__udp6__gso", **GSO | {"sizes": GSO_SIZES6})(partial(_gso, AF_INET6)),
    row("stack__peer__udp_gso", **GSO, peer=LOOPBACK)(_kernel_gso),
    row("stack__udp__trip", **TRIP)(partial(_trip, AF_INET)),
    row("stack__udp6__trip", **TRIP)(partial(_trip, AF_INET6)),
    row("stack__peer__udp_trip", **TRIP, peer=LOOPBACK)(_kernel_trip),
    *datagrams_from_c(
        "stack__peer__udp_single",
        lambda lib, tx, rx, size: lib.udp_each(tx, rx, size_bytes(size), PACKETS),
        lambda size: PACKETS,
        **EACH,
    ),
    *datagrams_from_c(
        "stack__peer__udp_mmsg64",
        lambda lib, tx, rx, size: lib.udp_mmsg(tx, rx, *by_size(size), PACKETS),
        lambda size: PACKETS,
        **MMSG,
    ),
    *datagrams_from_c(
        "stack__peer__udp_mmsg",
        lambda lib, tx, rx, size: lib.udp_mmsg(tx, rx, *by_batch(size), PACKETS),
        lambda size: PACKETS,
        **BATCHED,
    ),
    *datagrams_from_c(
        "stack__peer__udp_gso",
        lambda lib, tx, rx, size: lib.udp_gso(
            tx, rx, size_bytes(size), segments(size_bytes(size)), gso_amount(size)
        ),
        gso_amount,
        **GSO,
    ),
)
