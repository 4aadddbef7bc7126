"""Socket keys of packets as bytes: the twin of ``fastpath.net.inetkey``."""

from __future__ import annotations

import struct

Key = tuple[int, int, int, int, int]
AF_INET, AF_INET6 = 2, 10


def _addresses(net: bytes) -> tuple[int, int, int]:
    """(family, saddr, daddr) of the IP header; IndexError if truncated, ValueError if none."""
    version = net[0] >> 4 if len(net) >= 20 else 0
    if len(net) < (40 if version == 6 else 20):
        raise IndexError("no IP header")
    if version == 4:
        return AF_INET, int.from_bytes(net[12:16], "big"), int.from_bytes(net[16:20], "big")
    if version == 6:
        return AF_INET6, int.from_bytes(net[8:24], "big"), int.from_bytes(net[24:40], "big")
    raise ValueError(f"IP version {version}")


def inet_key(packet: bytes, net: int, l4: int, *, back: bool = False) -> Key:
    """The key of a packet whose headers begin at `net` and `l4`; `back`: of its reply."""
    if len(packet) < l4 + 4:
        raise IndexError("no ports")
    family, saddr, daddr = _addresses(packet[net:])
    sport, dport = struct.unpack_from(">HH", packet, l4)
    return (family, daddr, dport, saddr, sport) if back else (family, saddr, sport, daddr, dport)


def icmp_echo_key(packet: bytes, net: int, l4: int) -> Key:
    """The key of an echo message."""
    if len(packet) < l4 + 8:
        raise IndexError("no ICMP header")
    family, saddr, daddr = _addresses(packet[net:])
    return family, saddr, 0, daddr, int.from_bytes(packet[l4 + 4 : l4 + 6], "big")


def udp_rcv_key(packet: bytes, net: int, l4: int) -> Key | None:
    """The key of a datagram that is verified and not merged, if its length is exact."""
    size = len(packet) - l4
    if size < 8 or int.from_bytes(packet[l4 + 4 : l4 + 6], "big") != size or l4 - net < 20:
        return None
    version = packet[net] >> 4
    if version == 6 and (l4 - net < 40 or packet[l4 + 6 : l4 + 8] == b"\0\0"):
        return None
    if version == 6 and packet[net + 24] == 0xFF:
        return None
    return inet_key(packet, net, l4) if version in (4, 6) else None


def udp_name(packet: bytes, net: int, l4: int, family: int, iif: int) -> Key:
    """The sender as (family, addr, port, flowinfo, scope_id)."""
    wire, saddr, _ = _addresses(packet[net:])
    port = int.from_bytes(packet[l4 : l4 + 2], "big")
    if family == AF_INET:
        return AF_INET, saddr, port, 0, 0
    if wire == AF_INET:
        return AF_INET6, 0xFFFF << 32 | saddr, port, 0, 0
    return AF_INET6, saddr, port, 0, iif if saddr >> 118 == 0x3FA else 0


def siphash(secret: bytes, data: bytes) -> int:
    """SipHash-2-4, the paper's steps one by one."""
    mask = (1 << 64) - 1
    k0, k1 = struct.unpack("<QQ", secret)
    v0, v1 = k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D
    v2, v3 = k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573

    def turned(value: int, bits: int) -> int:
        return (value << bits | value >> (64 - bits)) & mask

    def rounds(count: int) -> None:
        nonlocal v0, v1, v2, v3
        for _ in range(count):
            v0, v2 = (v0 + v1) & mask, (v2 + v3) & mask
            v1, v3 = turned(v1, 13) ^ v0, turned(v3, 16) ^ v2
            v0 = turned(v0, 32)
            v2, v0 = (v2 + v1) & mask, (v0 + v3) & mask
            v1, v3 = turned(v1, 17) ^ v2, turned(v3, 21) ^ v0
            v2 = turned(v2, 32)

    padded = data + bytes(-(len(data) + 1) % 8) + bytes([len(data) & 255])
    for (word,) in struct.iter_unpack("<Q", padded):
        v3 ^= word
        rounds(2)
        v0 ^= word
    v2 ^= 255
    rounds(4)
    return v0 ^ v1 ^ v2 ^ v3


def inet_siphash(secret: bytes, saddr: int, daddr: int, ports: int, more: int = 0) -> int:
    """The low half of the hash of two ends."""
    ends = saddr.to_bytes(16, "big") + daddr.to_bytes(16, "big")
    return siphash(secret, ends + struct.pack(">II", ports, more)) & 0xFFFFFFFF
