"""Valid frames for the tests of this folder, built with struct and the twin's checksum."""

import struct

from fastpath._ref.csum import csum_fold, csum_partial
from fastpath._ref.gso import pseudo_header

ETH = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01"


def ipv4(
    payload: bytes,
    proto: int,
    *,
    ident: int = 0,
    df: bool = True,
    ttl: int = 64,
    tos: int = 0,
    saddr: int = 0x0A000001,
    daddr: int = 0x0A000002,
    frag_off: int = 0,
    options: bytes = b"",
) -> bytes:
    """IPv4 packet with a correct header checksum; the caller sets the payload's check."""
    n = 20 + len(options)
    h = bytearray(
        struct.pack(
            "!BBHHHBBHII",
            0x40 | n // 4,
            tos,
            n + len(payload),
            ident & 0xFFFF,
            0x4000 * df | frag_off,
            ttl,
            proto,
            0,
            saddr,
            daddr,
        )
        + options
    )
    struct.pack_into("!H", h, 10, csum_fold(csum_partial(bytes(h), 0)))
    return bytes(h) + payload


def ipv6(
    payload: bytes, proto: int, *, hop: int = 64, tclass: int = 0, flow: int = 0, src: int = 1
) -> bytes:
    """IPv6 packet."""
    return (
        struct.pack("!IHBB", 6 << 28 | tclass << 20 | flow, len(payload), proto, hop)
        + src.to_bytes(16, "big")
        + (2).to_bytes(16, "big")
        + payload
    )


def with_check(net: bytes, l4: int, place: int, proto: int) -> bytes:
    """Fill the transport checksum at l4 + place."""
    p = bytearray(net)
    p[l4 + place : l4 + place + 2] = b"\0\0"
    body = bytes(p[l4:])
    check = csum_fold(csum_partial(body, csum_partial(pseudo_header(net, proto, len(body)), 0)))
    if check == 0 and proto == 17:
        check = 0xFFFF
    p[l4 + place : l4 + place + 2] = check.to_bytes(2, "big")
    return bytes(p)


def tcp(
    payload: bytes,
    *,
    seq: int = 1,
    ack: int = 7,
    flags: int = 0x10,
    window: int = 500,
    v6: bool = False,
    options: bytes = b"",
    sport: int = 1000,
    dport: int = 80,
    res: int = 0,
    **ip: int,
) -> bytes:
    """Ethernet frame with a valid TCP segment."""
    seg = (
        struct.pack(
            "!HHIIBBHHH",
            sport,
            dport,
            seq & 0xFFFFFFFF,
            ack,
            (20 + len(options)) << 2 | res,
            flags,
            window,
            0,
            0,
        )
        + options
        + payload
    )
    if v6:
        return ETH + b"\x86\xdd" + with_check(ipv6(seg, 6, **ip), 40, 16, 6)
    return ETH + b"\x08\x00" + with_check(ipv4(seg, 6, **ip), 20, 16, 6)


def udp(
    payload: bytes,
    *,
    sport: int = 1000,
    dport: int = 53,
    check: bool = True,
    v6: bool = False,
    **ip: int,
) -> bytes:
    """Ethernet frame with a UDP datagram."""
    d = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload
    net = ipv6(d, 17, **ip) if v6 else ipv4(d, 17, **ip)
    if check:
        net = with_check(net, 40 if v6 else 20, 6, 17)
    return ETH + (b"\x86\xdd" if v6 else b"\x08\x00") + net
