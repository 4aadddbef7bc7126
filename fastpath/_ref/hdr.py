"""Plain-Python twin of ``fastpath.hdr``: member tables, and writers that return bytes."""

from __future__ import annotations

import struct
from typing import NamedTuple

from fastpath._ref.csum import csum_fold, csum_partial


class Member(NamedTuple):
    """`bits` wide, `shift` bits above the end of the `size` bytes at `off`; raw = bytes, no int."""

    off: int
    size: int
    shift: int = 0
    bits: int = 0
    raw: bool = False


def _word(off: int, size: int) -> Member:
    return Member(off, size, 0, size * 8)


def _mac(off: int) -> Member:
    return Member(off, 6, raw=True)


_FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr")
SIZES = {
    "ethhdr": 14,
    "vlan_ethhdr": 18,
    "arphdr": 28,
    "iphdr": 20,
    "ipv6hdr": 40,
    "icmphdr": 8,
    "igmphdr": 8,
    "udphdr": 8,
    "tcphdr": 20,
}
MEMBERS: dict[str, dict[str, Member]] = {
    "ethhdr": {"h_dest": _mac(0), "h_source": _mac(6), "h_proto": _word(12, 2)},
    "vlan_ethhdr": {
        "h_dest": _mac(0),
        "h_source": _mac(6),
        "h_vlan_proto": _word(12, 2),
        "h_vlan_TCI": _word(14, 2),
        "h_vlan_encapsulated_proto": _word(16, 2),
    },
    "arphdr": {
        "ar_hrd": _word(0, 2),
        "ar_pro": _word(2, 2),
        "ar_hln": _word(4, 1),
        "ar_pln": _word(5, 1),
        "ar_op": _word(6, 2),
        "ar_sha": _mac(8),
        "ar_sip": _word(14, 4),
        "ar_tha": _mac(18),
        "ar_tip": _word(24, 4),
    },
    "iphdr": {
        "version": Member(0, 1, 4, 4),
        "ihl": Member(0, 1, 0, 4),
        "tos": _word(1, 1),
        "tot_len": _word(2, 2),
        "id": _word(4, 2),
        "frag_off": _word(6, 2),
        "ttl": _word(8, 1),
        "protocol": _word(9, 1),
        "check": _word(10, 2),
        "saddr": _word(12, 4),
        "daddr": _word(16, 4),
    },
    "ipv6hdr": {
        "version": Member(0, 1, 4, 4),
        "priority": Member(0, 2, 4, 8),
        "flow_lbl": Member(0, 4, 0, 20),
        "payload_len": _word(4, 2),
        "nexthdr": _word(6, 1),
        "hop_limit": _word(7, 1),
        "saddr": _word(8, 16),
        "daddr": _word(24, 16),
    },
    "icmphdr": {
        "type": _word(0, 1),
        "code": _word(1, 1),
        "checksum": _word(2, 2),
        "un": _word(4, 4),
        "id": _word(4, 2),
        "sequence": _word(6, 2),
        "gateway": _word(4, 4),
        "mtu": _word(6, 2),
    },
    "igmphdr": {
        "type": _word(0, 1),
        "code": _word(1, 1),
        "csum": _word(2, 2),
        "group": _word(4, 4),
    },
    "udphdr": {
        "source": _word(0, 2),
        "dest": _word(2, 2),
        "len": _word(4, 2),
        "check": _word(6, 2),
    },
    "tcphdr": {
        "source": _word(0, 2),
        "dest": _word(2, 2),
        "seq": _word(4, 4),
        "ack_seq": _word(8, 4),
        "doff": Member(12, 1, 4, 4),
        "res1": Member(12, 1, 0, 4),
        "flags": _word(13, 1),
        **{name: Member(13, 1, i, 1) for i, name in enumerate(_FLAGS)},
        "window": _word(14, 2),
        "check": _word(16, 2),
        "urg_ptr": _word(18, 2),
    },
}


def get(header: str, name: str, data: bytes) -> int | bytes:
    """Member `name` of the header at the start of `data`."""
    m = MEMBERS[header][name]
    raw = data[m.off : m.off + m.size]
    return raw if m.raw else int.from_bytes(raw, "big") >> m.shift & (1 << m.bits) - 1


def put(header: str, name: str, data: bytearray, value: int | bytes) -> None:
    """Store `value` (its low bits) in member `name`."""
    m = MEMBERS[header][name]
    if isinstance(value, bytes):
        data[m.off : m.off + m.size] = value
        return
    mask = (1 << m.bits) - 1 << m.shift
    word = int.from_bytes(data[m.off : m.off + m.size], "big")
    word = word & ~mask | value << m.shift & mask
    data[m.off : m.off + m.size] = word.to_bytes(m.size, "big")


def options(data: bytes, fixed: int, length_at: int, high: bool) -> bytes:
    """The bytes between the fixed header and the length that its 4-bit field tells."""
    nibble = data[length_at] >> 4 if high else data[length_at] & 0x0F
    return data[fixed : max(fixed, nibble * 4)]


def eth_header(daddr: bytes, saddr: bytes, proto: int) -> bytes:
    """14 bytes."""
    return daddr + saddr + proto.to_bytes(2, "big")


def arp(op: int, sha: bytes, sip: int, tha: bytes, tip: int) -> bytes:
    """28 bytes (RFC 826)."""
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, op)
    return head + sha + sip.to_bytes(4, "big") + tha + tip.to_bytes(4, "big")


def ip_header(
    tos: int,
    tot_len: int,
    ident: int,
    frag_off: int,
    ttl: int,
    protocol: int,
    saddr: int,
    daddr: int,
    opts: bytes = b"",
) -> bytes:
    """IPv4 header with its checksum."""
    n = 20 + len(opts)
    total = tot_len if tot_len <= 0xFFFF else 0
    first = struct.pack("!BBHHHBB", 0x40 | n // 4, tos, total, ident, frag_off, ttl, protocol)
    rest = struct.pack("!II", saddr, daddr) + opts
    check = csum_fold(csum_partial(first + b"\0\0" + rest, 0))
    return first + check.to_bytes(2, "big") + rest


def ipv6_header(
    tclass: int,
    flow_lbl: int,
    payload_len: int,
    nexthdr: int,
    hop_limit: int,
    saddr: int,
    daddr: int,
) -> bytes:
    """40 bytes (RFC 8200)."""
    length = payload_len if payload_len <= 0xFFFF else 0
    word = 6 << 28 | tclass << 20 | flow_lbl
    first = struct.pack("!IHBB", word, length, nexthdr, hop_limit)
    return first + saddr.to_bytes(16, "big") + daddr.to_bytes(16, "big")


def udp_header(sport: int, dport: int, length: int, check: int) -> bytes:
    """8 bytes."""
    return struct.pack("!HHHH", sport, dport, length if length <= 0xFFFF else 0, check)


def tcp_header(
    sport: int,
    dport: int,
    seq: int,
    ack: int,
    flags: int,
    window: int,
    urg_ptr: int,
    opts: bytes = b"",
) -> bytes:
    """TCP header with check 0."""
    doff = (20 + len(opts)) << 2
    return struct.pack("!HHIIBBHHH", sport, dport, seq, ack, doff, flags, window, 0, urg_ptr) + opts


def ip_hdr_validate(packet: bytes, gso: bool = False) -> tuple[int, int]:
    """(verdict as in the compiled function, length to keep)."""
    if len(packet) < 20:
        return 1, 0
    hlen = (packet[0] & 0x0F) * 4
    if packet[0] >> 4 != 4 or hlen < 20 or len(packet) < hlen:
        return 1, 0
    if csum_fold(csum_partial(packet[:hlen], 0)):
        return 2, 0
    total = int.from_bytes(packet[2:4], "big")
    if total == 0 and gso:
        total = len(packet)
    if len(packet) < total:
        return 3, 0
    return (1, 0) if total < hlen else (0, total)


def gso_csum_prep(packet: bytes, l4: int, udp: bool) -> bytes:
    """A super-packet from its network header on, its transport header at `l4`, ready to be cut."""
    out = bytearray(packet)
    if packet[0] >> 4 == 4:
        out[2:4] = out[10:12] = bytes(2)
        addresses = packet[12:20]
    else:
        out[4:6] = bytes(2)
        addresses = packet[8:40]
    seed = csum_partial(addresses + bytes((0, 17 if udp else 6)), 0)
    at = l4 + (6 if udp else 16)
    out[at : at + 2] = (csum_fold(seed) ^ 0xFFFF).to_bytes(2, "big")
    return bytes(out)
