"""Plain-Python twin of ``fastpath.net.hdr6``: checks and writers over bytes."""

from __future__ import annotations

import struct

from fastpath._ref.csum import csum_fold, csum_ipv6_nofold, csum_partial


def ipv6_hdr_validate(packet: bytes, *, loopback: bool, gso: bool) -> tuple[int, int]:
    """(verdict as in the compiled function, length to keep)."""
    if len(packet) < 40 or packet[0] >> 4 != 6:
        return 1, 0
    src, dst = int.from_bytes(packet[8:24], "big"), int.from_bytes(packet[24:40], "big")
    group, scope = dst >> 120 == 0xFF, dst >> 112 & 15
    if src >> 120 == 0xFF or (group and scope == 0):
        return 1, 0
    if not loopback and (1 in (src, dst) or (group and scope == 1)):
        return 1, 0
    total = int.from_bytes(packet[4:6], "big") + 40
    if total == 40 and (gso or packet[6] == 0):
        return 0, len(packet)
    return (3, 0) if total > len(packet) else (0, total)


def ipv6_skip_exthdr(packet: bytes, start: int, nexthdr: int) -> tuple[int, int, int]:
    """As the compiled function."""
    frag_off = 0
    while nexthdr in (0, 43, 44, 51, 59, 60):
        head = packet[start : start + 4]
        if nexthdr == 59 or len(head) < 4:
            return -1, nexthdr, frag_off
        if nexthdr == 44:
            frag_off = int.from_bytes(head[2:], "big")
            if frag_off & 0xFFF8:
                break
            size = 8
        else:
            size = (head[1] + 2) * 4 if nexthdr == 51 else (head[1] + 1) * 8
        start, nexthdr = start + size, head[0]
    return start, nexthdr, frag_off


def icmp6_message(kind: int, code: int, un: int, saddr: int, daddr: int, payload: bytes) -> bytes:
    """An ICMPv6 message with its checksum."""
    rest = struct.pack("!I", un) + payload
    acc = csum_ipv6_nofold(saddr, daddr, 4 + len(rest), 58)
    check = csum_fold(csum_partial(bytes([kind, code, 0, 0]) + rest, acc))
    return bytes([kind, code]) + check.to_bytes(2, "big") + rest
