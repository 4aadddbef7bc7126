"""Whole steps of IP and UDP on plain bytes: the twin of ``fastpath.net.inet``."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from fastpath._ref.csum import csum_fold, csum_partial


class IpIdents:
    """The generators of IPv4 identifications."""

    def __init__(self, first: Sequence[int]) -> None:
        self.id = [value & 0xFFFF for value in first]
        self.stamp = [0] * 1024

    def reserve(self, slot: int, segs: int, now: int, randrange: Callable[[int], int]) -> int:
        """Reserve `segs` ids of generator `slot`."""
        slot &= 1023
        passed, value = now - self.stamp[slot], self.id[slot]
        self.stamp[slot] = now
        if passed > 1:
            value = (value + randrange(min(passed, 64))) & 0xFFFF
        self.id[slot] = (value + segs) & 0xFFFF
        return value


def datagram(
    saddr: int, daddr: int, sport: int, dport: int, tos: int, ttl: int, df: bool, ident: int,
    payload: bytes,
) -> bytes:  # fmt: skip
    """IPv4 and UDP header and payload; the UDP check is the sum of the pseudo header."""
    n = len(payload) + 8
    pseudo = struct.pack(">IIBBH", saddr, daddr, 0, 17, n)
    udp = struct.pack(">HHHH", sport, dport, n, csum_fold(csum_partial(pseudo)) ^ 0xFFFF)
    head = struct.pack(">BBHHHBBHII", 0x45, tos, n + 20, ident, df << 14, ttl, 17, 0, saddr, daddr)
    check = struct.pack(">H", csum_fold(csum_partial(head)))
    return head[:10] + check + head[12:] + udp + payload


def segments(n: int, size: int, most: int, head_len: int) -> list[int]:
    """Lengths of the datagrams of `n` bytes with UDP_SEGMENT `size`; none: not in one step.

    `most`: payload that fits the MTU.
    """
    if size <= 0 or n <= size or size > most or n + 8 + head_len > 0xFFFF:
        return []
    cut = [min(size, n - at) for at in range(0, n, size)]
    return cut if len(cut) <= 128 else []


def route_fields(packet: bytes) -> tuple[int, int, int, int, int]:
    """The result of ip_route_fields for a frame to this host."""
    tos, frag, protocol, saddr, daddr = struct.unpack_from(">xBxxxxHxBxxII", packet)
    plain = 0 if frag & 0x3FFF else 2 if packet[0] == 0x45 else 1
    return daddr, saddr, tos, protocol, plain


def datagram6(
    saddr: int, daddr: int, sport: int, dport: int, tclass: int, hop_limit: int, label: int,
    payload: bytes,
) -> bytes:  # fmt: skip
    """IPv6 and UDP header and payload; the UDP check is the sum of the pseudo header."""
    n = len(payload) + 8
    addresses = saddr.to_bytes(16, "big") + daddr.to_bytes(16, "big")
    pseudo = csum_partial(addresses + struct.pack(">IHBB", n, 0, 0, 17))
    udp = struct.pack(">HHHH", sport, dport, n, csum_fold(pseudo) ^ 0xFFFF)
    first = struct.pack(">IHBB", 6 << 28 | tclass << 20 | label, n, 17, hop_limit)
    return first + addresses + udp + payload


def rcv_fields6(packet: bytes) -> tuple[int, int, bool]:
    """The result of ip6_rcv_fields."""
    daddr = int.from_bytes(packet[24:40], "big")
    strict = daddr >> 120 == 0xFF or daddr >> 118 == 0x3FA or daddr == 1
    return daddr, packet[6], strict


def neigh_key6(packet: bytes, ifindex: int) -> int:
    """The result of ip6_neigh_key."""
    daddr = int.from_bytes(packet[24:40], "big")
    return 0 if daddr >> 120 == 0xFF or ifindex > 0xFFFF else daddr << 16 | ifindex


def rth_key(daddr: int, tos: int, ifindex: int) -> int:
    """The key of a kept input route."""
    return ifindex << 40 | daddr << 8 | tos


def rth_find(
    routes: dict[int, object],
    own: dict[int, object],
    daddr: int,
    saddr: int,
    tos: int,
    ifindex: int,
) -> object | None:
    """The kept route of a packet from a usual source."""
    top = saddr >> 24
    if not 0 < top < 224 or top == 127 or saddr in own:
        return None
    return routes.get(rth_key(daddr, tos, ifindex))
