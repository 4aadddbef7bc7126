"""Plain-Python twin of ``fastpath.net.hdr``: members of headers, and writers that return bytes."""

from __future__ import annotations

import struct

from fastpath._ref.csum import csum_fold, csum_partial
from fastpath.net.headers import HEADERS


def get(header: str, name: str, data: bytes) -> int | bytes:
    """Member `name` of the header at the start of `data`."""
    m = HEADERS[header].members[name]
    raw = data[m.at : m.at + m.size]
    return int.from_bytes(raw, "big") >> m.shift & (1 << m.bits) - 1 if m.bits else raw


def put(header: str, name: str, data: bytearray, value: int | bytes) -> None:
    """Store `value` (its low bits) in member `name`."""
    m = HEADERS[header].members[name]
    if isinstance(value, bytes):
        data[m.at : m.at + m.size] = value
        return
    mask = (1 << m.bits) - 1 << m.shift
    word = int.from_bytes(data[m.at : m.at + m.size], "big")
    word = word & ~mask | value << m.shift & mask
    data[m.at : m.at + m.size] = word.to_bytes(m.size, "big")


def options(data: bytes, fixed: int, length_at: int, high: bool) -> bytes:
    """The bytes between the fixed header and the length in its 4-bit field."""
    nibble = data[length_at] >> 4 if high else data[length_at] & 0x0F
    return data[fixed : max(fixed, nibble * 4)]


def eth_header(daddr: bytes, saddr: bytes, proto: int) -> bytes:
    """14 bytes."""
    return daddr + saddr + proto.to_bytes(2, "big")


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
    """TCP header with check 0; `flags` has nine bits."""
    words = (20 + len(opts)) << 10 | flags & 0x1FF
    return struct.pack("!HHIIHHHH", sport, dport, seq, ack, words, window, 0, urg_ptr) + opts


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
    """Super-packet from its network header on, its transport header at `l4`, ready for GSO."""
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
