"""Software segmentation of a TCP super-packet, beside its twin and a plain copy of the bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from fastpath._ref import gso as ref_gso
from fastpath._ref import hdr as ref_hdr
from fastpath.base import skbuff as S
from fastpath.base.dma import HostMemory
from fastpath.net.gso import skb_gso_segment

from . import Work, row, size_bytes
from .skbuff import MAC, TIMESTAMPS, TWIN, A, B, repeated

SIZES = ("64KiB",)
MSS, HEADERS = 1448, 66
REPEAT = 3


def super_packet(payload: int, *, v6: bool = False) -> bytes:
    """A TCP frame with `payload` bytes; the length field of its IP header stays what fits."""
    tcp = ref_hdr.tcp_header(1000, 80, 1, 7, 0x10, 500, 0, TIMESTAMPS)
    if v6:
        ip6 = ref_hdr.ipv6_header(0, 0, min(32 + payload, 0xFFFF), 6, 64, A, B)
        return ref_hdr.eth_header(MAC, MAC, 0x86DD) + ip6 + tcp + bytes(payload)
    ip = bytearray(ref_hdr.ip_header(0, 52 + MSS, 1, 0x4000, 64, 6, A, B))
    struct.pack_into(">H", ip, 2, min(52 + payload, 0xFFFF))
    return ref_hdr.eth_header(MAC, MAC, 0x0800) + ip + tcp + bytes(payload)


@row("gso__segment__tcp4", group="segmentation", unit="Mpps", sizes=SIZES)
def segment(size: str) -> Iterator[Work]:
    """skb_gso_segment() with checksums, and the segments freed; segments are counted."""
    yield from _segmented(size, v6=False)


@row("gso__segment__tcp6", group="segmentation", unit="Mpps", sizes=SIZES)
def segment6(size: str) -> Iterator[Work]:
    """The same over IPv6."""
    yield from _segmented(size, v6=True)


def _segmented(size: str, *, v6: bool) -> Iterator[Work]:
    frame, mem = super_packet(size_bytes(size), v6=v6), HostMemory(16 << 20)
    heads, pages = S.SkbPool(mem, 2048, 512), S.SkbPool(mem, 32768, 64)
    headers, l4 = (HEADERS + 20, 54) if v6 else (HEADERS, 34)
    skb = S.alloc_skb(heads, headers, 64)
    assert skb is not None
    S.skb_put_data(skb, frame[:headers])
    S.skb_add_data(skb, pages, frame, headers, len(frame) - headers)
    S.skb_reset_mac_header(skb)
    S.skb_set_network_header(skb, 14)
    S.skb_set_transport_header(skb, l4)
    skb.gso_size, skb.ip_summed = MSS, S.CHECKSUM_PARTIAL
    skb.gso_type = S.SKB_GSO_TCPV6 if v6 else S.SKB_GSO_TCPV4

    def once() -> int:
        segments = skb_gso_segment(skb, heads)
        count = len(segments)
        S.kfree_skb_list(segments)
        return count

    yield Work(repeated(once, REPEAT), REPEAT * once())
    S.kfree_skb(skb)


@row("gso__twin__segment", group="segmentation", unit="Mpps", sizes=SIZES, peer=TWIN)
def segment_twin(size: str) -> Iterator[Work]:
    """The same in plain Python."""
    frame = super_packet(size_bytes(size))

    def once() -> int:
        return len(ref_gso.segment(frame, 14, 34, MSS, ref_gso.SKB_GSO_TCPV4))

    yield Work(repeated(once, REPEAT), REPEAT * once())


@row("gso__peer__memcpy", group="segmentation", unit="Mpps", sizes=SIZES, peer="memcpy")
def copy_segments(size: str) -> Iterator[Work]:
    """The same bytes in pieces of the same size by memcpy, one Python call for each."""
    n = size_bytes(size)
    data, into = memoryview(bytes(n)), memoryview(bytearray(n))
    cuts = [slice(at, min(at + MSS, n)) for at in range(0, n, MSS)]

    def once() -> None:
        for cut in cuts:
            into[cut] = data[cut]

    yield Work(repeated(once, REPEAT), REPEAT * len(cuts))


ROWS = (segment, segment6, segment_twin, copy_segments)
