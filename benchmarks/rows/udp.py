"""Datagrams through two stacks and two NICs in one process, beside the kernel's loopback.

One by one, by the batch, and as super-packets of UDP_SEGMENT and UDP_GRO. The kernel is reached
through the standard library's sockets, both ends in this thread, and from C.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

from stack.core.uapi import SOL_UDP
from stack.host import Host
from stack.netfilter import firewall
from stack.socket import AF_INET, AF_INET6, UDP_GRO, UDP_SEGMENT

from . import Row, Work, number, row, size_bytes
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


def _single(
    family: int, set_up: Callable[[Host], object] | None = None
) -> Callable[[str], Iterator[Work]]:
    def start(size: str) -> Iterator[Work]:
        with hosts(family) as (a, b), datagrams(a, b, family) as (sender, receiver):
            for host in (a, b) if set_up else ():
                set_up(host)
            dest = receiver.getsockname()[:2]
            payload, room = bytes(size_bytes(size)), size_bytes(size) + 1

            def run(packets: int = PACKETS) -> None:
                for _ in range(packets):
                    sender.sendto(payload, dest)
                    receiver.recvfrom(room)

            run(20)  # ARP and route are resolved, pools are warm
            yield Work(run, PACKETS)

    return start


def mmsg_rows(
    family: int, batch_of: Callable[[str], tuple[int, int]]
) -> Callable[[str], Iterator[Work]]:
    """Return what starts batches of datagrams."""

    def start(size: str) -> Iterator[Work]:
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

    return start


def by_size(size: str) -> tuple[int, int]:
    """Return bytes and batch of a row over sizes."""
    return size_bytes(size), BATCH


def by_batch(size: str) -> tuple[int, int]:
    """Return bytes and batch of a row over batches."""
    return SMALL, int(number(size))


def _gso(family: int) -> Callable[[str], Iterator[Work]]:
    def start(size: str) -> Iterator[Work]:
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

    return start


def gso_amount(size: str) -> int:
    """Return how many datagrams a run moves."""
    n = segments(size_bytes(size))
    return PACKETS // n * n


def _trip(family: int) -> Callable[[str], Iterator[Work]]:
    def start(size: str) -> Iterator[Work]:
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

    return start


def _kernel_single(size: str) -> Iterator[Work]:
    """The standard library's sendto() and recvfrom() over the kernel's loopback."""
    with loopback() as ends, kernel_datagrams(ends, AF_INET) as (_, receiver):
        receiver.settimeout(None)  # a timeout would cost a poll() for each call
        with ends.a:
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sender:
            dest = receiver.getsockname()
            payload, room = bytes(size_bytes(size)), size_bytes(size) + 1

            def run() -> None:
                for _ in range(PACKETS):
                    sender.sendto(payload, dest)
                    receiver.recvfrom(room)

            yield Work(run, PACKETS)


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


def _row(name: str, group: str, start: Callable[[str], Iterator[Work]], **options: object) -> Row:
    return row(name, group=group, unit="k/s", **options)(start)  # type: ignore[arg-type]


single = _row("stack__udp__single", "udp", _single(AF_INET), sizes=SIZES, quick=ONE, layered=True)
single6 = _row("stack__udp6__single", "udp", _single(AF_INET6), sizes=SIZES6, quick=ONE)
filtered = _row("stack__udp__filtered", "udp", _single(AF_INET, _filtered), sizes=ONE, quick=())
tracked = _row("stack__udp__tracked", "udp", _single(AF_INET, _tracked), sizes=ONE, quick=())
kernel_single = _row(
    "stack__peer__udp_single", "udp", _kernel_single, sizes=SIZES, quick=ONE, peer=LOOPBACK
)
mmsg64 = _row(
    "stack__udp__mmsg64",
    "udp_mmsg",
    mmsg_rows(AF_INET, by_size),
    sizes=SIZES,
    quick=ONE,
    layered=True,
)
mmsg64_6 = _row(
    "stack__udp6__mmsg64", "udp_mmsg", mmsg_rows(AF_INET6, by_size), sizes=SIZES6, quick=ONE
)
kernel_mmsg64 = _row(
    "stack__peer__udp_for_mmsg", "udp_mmsg", _kernel_single, sizes=SIZES, quick=ONE, peer=LOOPBACK
)
mmsg = _row(
    "stack__udp__mmsg",
    "udp_batch",
    mmsg_rows(AF_INET, by_batch),
    sizes=BATCHES,
    quick=QUICK_BATCHES,
)
mmsg6 = _row(
    "stack__udp6__mmsg", "udp_batch", mmsg_rows(AF_INET6, by_batch), sizes=BATCHES, quick=ONE_BATCH
)
kernel_batch = _row(
    "stack__peer__udp_for_batch",
    "udp_batch",
    _kernel_single_of_batch,
    sizes=BATCHES,
    quick=QUICK_BATCHES,
    peer=LOOPBACK,
)
gso = _row("stack__udp__gso", "udp_gso", _gso(AF_INET), sizes=GSO_SIZES, quick=ONE, layered=True)
gso6 = _row("stack__udp6__gso", "udp_gso", _gso(AF_INET6), sizes=GSO_SIZES6, quick=ONE)
kernel_gso = _row(
    "stack__peer__udp_gso", "udp_gso", _kernel_gso, sizes=GSO_SIZES, quick=ONE, peer=LOOPBACK
)
trip = _row("stack__udp__trip", "udp_trip", _trip(AF_INET), sizes=ONE)
trip6 = _row("stack__udp6__trip", "udp_trip", _trip(AF_INET6), sizes=ONE)
kernel_trip = _row("stack__peer__udp_trip", "udp_trip", _kernel_trip, sizes=ONE, peer=LOOPBACK)

FROM_C = [
    *datagrams_from_c(
        "stack__peer__udp_single",
        lambda lib, tx, rx, size: lib.udp_each(tx, rx, size_bytes(size), PACKETS),
        lambda size: PACKETS,
        group="udp",
        unit="k/s",
        sizes=SIZES,
        quick=ONE,
    ),
    *datagrams_from_c(
        "stack__peer__udp_mmsg64",
        lambda lib, tx, rx, size: lib.udp_mmsg(tx, rx, *by_size(size), PACKETS),
        lambda size: PACKETS,
        group="udp_mmsg",
        unit="k/s",
        sizes=SIZES,
        quick=ONE,
    ),
    *datagrams_from_c(
        "stack__peer__udp_mmsg",
        lambda lib, tx, rx, size: lib.udp_mmsg(tx, rx, *by_batch(size), PACKETS),
        lambda size: PACKETS,
        group="udp_batch",
        unit="k/s",
        sizes=BATCHES,
        quick=QUICK_BATCHES,
    ),
    *datagrams_from_c(
        "stack__peer__udp_gso",
        lambda lib, tx, rx, size: lib.udp_gso(
            tx, rx, size_bytes(size), segments(size_bytes(size)), gso_amount(size)
        ),
        gso_amount,
        group="udp_gso",
        unit="k/s",
        sizes=GSO_SIZES,
        quick=ONE,
    ),
]
ROWS = (
    single,
    single6,
    filtered,
    tracked,
    kernel_single,
    mmsg64,
    mmsg64_6,
    kernel_mmsg64,
    mmsg,
    mmsg6,
    kernel_batch,
    gso,
    gso6,
    kernel_gso,
    trip,
    trip6,
    kernel_trip,
    *FROM_C,
)
