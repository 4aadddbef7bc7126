"""The headers of an IP packet in plain Python: the twin of ``fastpath.net.parse``."""

from __future__ import annotations

import struct
from dataclasses import dataclass

TCP, UDP = 6, 17
TIMESTAMPS = b"\x01\x01\x08\x0a"


@dataclass(frozen=True, slots=True)
class Ports:
    """A whole TCP or UDP header; the second row is TCP's, zero for UDP."""

    sport: int
    dport: int
    hlen: int
    seq: int = 0
    ack: int = 0
    flags: int = 0
    window: int = 0
    opts: int = 0
    timestamps: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Parsed:
    """A network header with valid lengths. Addresses are those of IPv4."""

    family: int
    proto: int
    length: int
    dsfield: int
    whole: bool
    plain: bool
    l4: int
    saddr: int = 0
    daddr: int = 0
    ports: Ports | None = None


def parse(packet: bytes) -> Parsed | None:
    """Parse a packet, all of it in one piece, from its network header on; None if it is not IP."""
    version = packet[0] >> 4 if packet else 0
    if version == 4:
        return parse4(packet)
    return parse6(packet) if version == 6 else None


def parse4(packet: bytes) -> Parsed | None:
    """RFC 791 3.1."""
    if len(packet) < 20:
        return None
    vihl, tos, total, _, frag, _, proto, _, saddr, daddr = struct.unpack_from("!BBHHHBBHII", packet)
    hlen = (vihl & 15) * 4
    if not 20 <= hlen <= total <= len(packet):
        return None
    whole = not frag & 0x3FFF
    ports = transport(proto, packet[hlen:total]) if whole else None
    plain = whole and hlen == 20
    return Parsed(2, proto, total, tos, whole, plain, hlen, saddr, daddr, ports)


def parse6(packet: bytes) -> Parsed | None:
    """RFC 8200 3. Ignores extension headers."""
    if len(packet) < 40:
        return None
    word, payload, proto = struct.unpack_from("!IHB", packet)
    total = 40 + payload
    if total > len(packet):
        return None
    plain = proto in (TCP, UDP)
    ports = transport(proto, packet[40:total])
    return Parsed(10, proto, total, word >> 20 & 0xFF, plain, plain, 40, ports=ports)


def transport(proto: int, segment: bytes) -> Ports | None:
    """RFC 9293 3.1, RFC 768; None if the header is incomplete."""
    if proto == UDP and len(segment) >= 8:
        sport, dport, length = struct.unpack_from("!HHH", segment)
        if length and not 8 <= length <= len(segment):
            return None
        return Ports(sport, dport, 8)
    if proto != TCP or len(segment) < 20:
        return None
    sport, dport, seq, ack, offset, flags, window = struct.unpack_from("!HHIIBBH", segment)
    hlen = (offset >> 4) * 4
    if not 20 <= hlen <= len(segment):
        return None
    options = segment[20:hlen]
    kind, stamps = (2 if options else 0), None
    if len(options) == 12 and options.startswith(TIMESTAMPS):
        kind, stamps = 1, struct.unpack_from("!II", options, 4)
    return Ports(sport, dport, hlen, seq, ack, flags, window, kind, stamps)
