"""lwIP and DPDK as peers, from the distribution's packages (`--peers`).

lwIP (liblwip-dev) is a whole stack: two Ethernet interfaces on a wire that copies a frame once, the
raw API without sockets, checksums in software. DPDK (libdpdk-dev) has no stack: mbufs through two
net_ring ports, with checksums. It is shown beside the two NICs as the cost of frames without any
register or descriptor, so no ratio is taken to it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from . import Row, Unavailable, Work, device, row, size_bytes, tcp, udp
from .peer import load

__all__ = ["ROWS"]

FRAMES = {"sizes": ("64B", "256B", "1472B")}
"""The harness hands over whole frames, no fragments."""
LARGEST_WRITE = 65535


@functools.cache
def _started(name: str) -> Any:
    """Return the library with its stack running; a process can start it only once."""
    _, library = load(name)
    if getattr(library, f"{name}_start")():
        raise Unavailable(f"{name} does not start")
    return library


def _moving(
    name: str, call: Callable[[Any, str], int], amount: Callable[[str], int], size: str
) -> Iterator[Work]:
    library, wanted = _started(name), amount(size)

    def run() -> None:
        done = call(library, size)
        if done != wanted:
            raise RuntimeError(f"{name}: {done} of {wanted} arrived")

    yield Work(run, wanted)


def _row(
    name: str, harness: str, call: Callable[[Any, str], int], amount: Callable[[str], int], **o: Any
) -> Row:
    peer = {"lwip_peer": "lwIP", "dpdk_peer": "DPDK net_ring"}[harness]
    return row(name, peer=peer, extra=True, **o)(partial(_moving, harness, call, amount))


def packets(size: str) -> int:
    """Return the datagrams of a run of `udp`."""
    return udp.PACKETS


ROWS = (
    _row(
        "stack__peer__udp_single_lwip",
        "lwip_peer",
        lambda lib, size: lib.lwip_peer_udp(size_bytes(size), 1, udp.PACKETS),
        packets,
        **udp.EACH | FRAMES,
    ),
    _row(
        "stack__peer__udp_mmsg64_lwip",
        "lwip_peer",
        lambda lib, size: lib.lwip_peer_udp(*udp.by_size(size), udp.PACKETS),
        packets,
        **udp.MMSG | FRAMES,
    ),
    _row(
        "stack__peer__udp_mmsg_lwip",
        "lwip_peer",
        lambda lib, size: lib.lwip_peer_udp(*udp.by_batch(size), udp.PACKETS),
        packets,
        **udp.BATCHED,
    ),
    _row(
        "stack__peer__tcp_bulk_lwip",
        "lwip_peer",
        lambda lib, size: lib.lwip_peer_bulk(
            min(size_bytes(size), LARGEST_WRITE), tcp.volume(size)
        ),
        tcp.volume,
        **tcp.BULK,
    ),
    _row(
        "stack__peer__tcp_trip_lwip",
        "lwip_peer",
        lambda lib, size: lib.lwip_peer_trips(size_bytes(size), tcp.TRIPS),
        lambda size: tcp.TRIPS,
        **tcp.TRIP,
    ),
    _row(
        "device__peer__dpdk",
        "dpdk_peer",
        lambda lib, size: lib.dpdk_peer_run(size_bytes(size), device.BATCH, device.PACKETS),
        lambda size: device.PACKETS,
        group="two_nics",
        unit="Mpps",
        sizes=device.SIZES,
        quick=device.QUICK,
        ceiling=True,
    ),
)
