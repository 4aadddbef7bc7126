"""sk_buffs as Python code calls them, beside the plain-Python twins and a plain copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fastpath._ref import hdr as ref_hdr
from fastpath._ref import skbuff as ref_skb
from fastpath.base.dma import HostMemory
from fastpath.base.skbuff import (
    SkbPool,
    alloc_skb,
    kfree_skb,
    skb_add_data,
    skb_copy_datagram_iter,
    skb_pull,
)
from fastpath.net.hdr import eth_header_push, ip_push, ipv6_push, tcp_push_ts

from . import Work, row, size_bytes

ONE = ("128B",)
COPY: dict[str, Any] = {
    "group": "skb_copy",
    "unit": "GB/s",
    "sizes": ("1448B", "64KiB", "256KiB"),
    "quick": ("256KiB",),
}
REPEAT = 500
BYTES_A_RUN = 8 << 20
A, B = 0x0A000001, 0x0A000002
A6, B6 = 0xFD00 << 112 | 1, 0xFD00 << 112 | 2
MAC = b"\x52\x54\x00\x12\x34\x56"
TIMESTAMPS = b"\x01\x01\x08\x0a" + bytes(8)
TWIN = "Python twin"


def repeated(operation: Callable[[], object], times: int) -> Callable[[], None]:
    """Return a function that does `operation` so often."""

    def run() -> None:
        for _ in range(times):
            operation()

    return run


@row("skb__alloc__free", group="skb_alloc", unit="ns", sizes=ONE)
def alloc_free(size: str) -> Iterator[Work]:
    """alloc_skb() and kfree_skb(), called from Python one by one."""
    pool, head = SkbPool(HostMemory(4 << 20), 2048, 512), size_bytes(size)
    yield Work(repeated(lambda: kfree_skb(alloc_skb(pool, 64, head)), REPEAT), REPEAT)


@row("skb__twin__alloc_free", group="skb_alloc", unit="ns", sizes=ONE, peer=TWIN)
def alloc_free_twin(size: str) -> Iterator[Work]:
    """The same in plain Python."""
    pool, head = ref_skb.SkbPool(2048, 512), size_bytes(size)

    def once() -> None:
        skb = ref_skb.alloc_skb(pool, 64, head)
        assert skb is not None
        ref_skb.kfree_skb(skb)

    yield Work(repeated(once, REPEAT), REPEAT)


@row("skb__push__tcp_ip_eth", group="skb_push", unit="ns", sizes=("66B",))
def push(size: str) -> Iterator[Work]:
    """TCP with time stamps, IP and Ethernet headers in front of a packet, and off again."""
    skb = alloc_skb(SkbPool(HostMemory(4 << 20), 2048, 512), 0, 128)
    assert skb is not None
    whole = size_bytes(size)

    def once() -> None:
        tcp_push_ts(skb, 1000, 80, 1, 2, 0x10, 500, 0, 3, 4)
        ip_push(skb, 0, 52, 1, 0x4000, 64, 6, A, B)
        eth_header_push(skb, MAC, MAC, 0x0800)
        skb_pull(skb, whole)

    yield Work(repeated(once, REPEAT), REPEAT)
    kfree_skb(skb)


@row("skb__push__tcp_ip6_eth", group="skb_push", unit="ns", sizes=("86B",))
def push6(size: str) -> Iterator[Work]:
    """The same with IPv6's header, whose addresses are 128-bit ints."""
    skb = alloc_skb(SkbPool(HostMemory(4 << 20), 2048, 512), 0, 128)
    assert skb is not None
    whole = size_bytes(size)

    def once() -> None:
        tcp_push_ts(skb, 1000, 80, 1, 2, 0x10, 500, 0, 3, 4)
        ipv6_push(skb, 0, 0, 32, 6, 64, A6, B6)
        eth_header_push(skb, MAC, MAC, 0x86DD)
        skb_pull(skb, whole)

    yield Work(repeated(once, REPEAT), REPEAT)
    kfree_skb(skb)


@row("skb__twin__push", group="skb_push", unit="ns", sizes=("66B",), peer=TWIN)
def push_twin(size: str) -> Iterator[Work]:
    """The same headers in plain Python, IP checksum included."""

    def once() -> bytes:
        return (
            ref_hdr.eth_header(MAC, MAC, 0x0800)
            + ref_hdr.ip_header(0, 52, 1, 0x4000, 64, 6, A, B)
            + ref_hdr.tcp_header(1000, 80, 1, 2, 0x10, 500, 0, TIMESTAMPS)
        )

    assert len(once()) == size_bytes(size)
    yield Work(repeated(once, REPEAT), REPEAT)


@row("skb__twin__push6", group="skb_push", unit="ns", sizes=("86B",), peer=TWIN)
def push6_twin(size: str) -> Iterator[Work]:
    """The same with IPv6's header in plain Python."""

    def once() -> bytes:
        return (
            ref_hdr.eth_header(MAC, MAC, 0x86DD)
            + ref_hdr.ipv6_header(0, 0, 32, 6, 64, A6, B6)
            + ref_hdr.tcp_header(1000, 80, 1, 2, 0x10, 500, 0, TIMESTAMPS)
        )

    assert len(once()) == size_bytes(size)
    yield Work(repeated(once, REPEAT), REPEAT)


@row("skb__copy__in", **COPY)
def copy_in(size: str) -> Iterator[Work]:
    """Data of a user into a packet's pages, as tcp_sendmsg does it; packet made and freed."""
    mem, n = HostMemory(64 << 20), size_bytes(size)
    heads, pages, data = SkbPool(mem, 2048, 512), SkbPool(mem, 32768, 256), bytes(n)
    times = BYTES_A_RUN // (n + 1024)

    def once() -> None:
        skb = alloc_skb(heads, 0, 128)
        assert skb is not None
        skb_add_data(skb, pages, data, 0, n)
        kfree_skb(skb)

    yield Work(repeated(once, times), times * n)


@row("skb__copy__out", **COPY)
def copy_out(size: str) -> Iterator[Work]:
    """A packet's pages into a user's buffer, as tcp_recvmsg does it."""
    mem, n = HostMemory(64 << 20), size_bytes(size)
    skb = alloc_skb(SkbPool(mem, 2048, 512), 0, 128)
    assert skb is not None
    skb_add_data(skb, SkbPool(mem, 32768, 256), bytes(n), 0, n)
    buffer, times = bytearray(n), BYTES_A_RUN // (n + 1024)
    yield Work(repeated(lambda: skb_copy_datagram_iter(skb, 0, buffer, 0, n), times), times * n)
    kfree_skb(skb)


@row("skb__peer__memcpy", **COPY, peer="memcpy")
def copy_plain(size: str) -> Iterator[Work]:
    """Copy one buffer into another: one memcpy in one Python call."""
    n = size_bytes(size)
    data, into, times = bytes(n), memoryview(bytearray(n)), BYTES_A_RUN // (n + 1024)

    def once() -> None:
        into[:] = data

    yield Work(repeated(once, times), times * n)


ROWS = (
    alloc_free,
    alloc_free_twin,
    push,
    push6,
    push_twin,
    push6_twin,
    copy_in,
    copy_out,
    copy_plain,
)
