"""Plain-Python twin of ``fastpath.hdr6``: member tables, and checks and writers over bytes."""

from __future__ import annotations

import struct

from fastpath._ref.csum import csum_fold, csum_ipv6_nofold, csum_partial
from fastpath._ref.hdr import Member


def _word(off: int, size: int) -> Member:
    return Member(off, size, 0, size * 8)


SIZES = {
    "ipv6_opt_hdr": 2,
    "ipv6_rt_hdr": 4,
    "frag_hdr": 8,
    "icmp6hdr": 8,
    "rd_msg": 40,
}
MEMBERS: dict[str, dict[str, Member]] = {
    "ipv6_opt_hdr": {
        "nexthdr": _word(0, 1),
        "hdrlen": _word(1, 1),
    },
    "ipv6_rt_hdr": {
        "nexthdr": _word(0, 1),
        "hdrlen": _word(1, 1),
        "type": _word(2, 1),
        "segments_left": _word(3, 1),
    },
    "frag_hdr": {
        "nexthdr": _word(0, 1),
        "reserved": _word(1, 1),
        "frag_off": _word(2, 2),
        "identification": _word(4, 4),
    },
    "icmp6hdr": {
        "icmp6_type": _word(0, 1),
        "icmp6_code": _word(1, 1),
        "icmp6_cksum": _word(2, 2),
        "icmp6_unused": _word(4, 4),
        "icmp6_mtu": _word(4, 4),
        "icmp6_pointer": _word(4, 4),
        "icmp6_identifier": _word(4, 2),
        "icmp6_sequence": _word(6, 2),
        "icmp6_maxdelay": _word(4, 2),
        "icmp6_router": Member(4, 1, 7, 1),
        "icmp6_solicited": Member(4, 1, 6, 1),
        "icmp6_override": Member(4, 1, 5, 1),
        "icmp6_hop_limit": _word(4, 1),
        "icmp6_addrconf_managed": Member(5, 1, 7, 1),
        "icmp6_addrconf_other": Member(5, 1, 6, 1),
        "icmp6_home_agent": Member(5, 1, 5, 1),
        "icmp6_router_pref": Member(5, 1, 3, 2),
        "icmp6_rt_lifetime": _word(6, 2),
    },
    "rd_msg": {
        "target": _word(8, 16),
        "dest": _word(24, 16),
    },
}


def get(header: str, name: str, data: bytes) -> int:
    """Member `name` of the header at the start of `data`."""
    m = MEMBERS[header][name]
    return int.from_bytes(data[m.off : m.off + m.size], "big") >> m.shift & (1 << m.bits) - 1


def put(header: str, name: str, data: bytearray, value: int) -> None:
    """Store `value` (its low bits) in member `name`."""
    m = MEMBERS[header][name]
    mask = (1 << m.bits) - 1 << m.shift
    word = int.from_bytes(data[m.off : m.off + m.size], "big")
    word = word & ~mask | value << m.shift & mask
    data[m.off : m.off + m.size] = word.to_bytes(m.size, "big")


def body(data: bytes, fixed: int) -> bytes | None:
    """An extension header's bytes after the first `fixed`; None when it is cut off."""
    n = (data[1] + 1) * 8
    return data[fixed:n] if len(data) >= n else None


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
