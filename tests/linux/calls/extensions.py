"""RFC 4884: valid and invalid extensions of ICMP errors in the error queue.

A raw socket sends the errors to a datagram socket of the same host.
"""

from __future__ import annotations

import struct
from random import Random
from socket import SOCK_DGRAM, SOCK_RAW, inet_pton

from tests.linux.calls.control import DONTWAIT, number
from tests.linux.calls.states import FAMILIES, PORT, V4, Family
from tests.linux.calls.world import World

ERRQUEUE = 0x2000
UNREACHABLE = {"v4": (3, 11, 12, 4), "v6": (1, 3, 4, 2)}
"""Types: those with extensions, then one without; for IPv4 the last is no longer an error."""


def checksum(data: bytes) -> int:
    """The Internet checksum."""
    even = data + bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(even) // 2}H", even))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def structure(objects: bytes, version: int = 2, summed: str = "right") -> bytes:
    """An extension structure; `summed`: correct, wrong or none."""
    head = struct.pack("!BBH", version << 4, 0, 0)
    total = checksum(head + objects)
    if summed != "right":
        total = total ^ 1 or 2 if summed == "wrong" else 0
    return struct.pack("!BBH", version << 4, 0, total) + objects


def thing(data: bytes, length: int | None = None) -> bytes:
    """An object: a label of MPLS."""
    return struct.pack("!HBB", 4 + len(data) if length is None else length, 1, 1) + data


LABEL = thing(b"\0\1\1\xff")
STRUCTURES = {
    "one": structure(LABEL),
    "two": structure(LABEL + thing(bytes(8))),
    "empty": structure(b""),
    "version 1": structure(LABEL, 1),
    "wrong sum": structure(LABEL, 2, "wrong"),
    "no sum": structure(LABEL, 2, "none"),
    "an object too long": structure(thing(bytes(4), 9)),
    "an object too short": structure(thing(bytes(4), 3)),
    "an object of 0": structure(thing(bytes(4), 0)),
    "half an object": structure(LABEL + b"\0\x08"),
    "3 bytes": b"\x20\0\0",
    "4 bytes": b"\x20\0\0\0",
    "nothing": b"",
    "odd": structure(thing(b"abc")),
}


def quoted(f: Family, size: int) -> bytes:
    """A datagram that the socket sent, its first `size` bytes."""
    data = bytes(range(100)) * 2
    lo = inet_pton(f.af, f.lo)
    udp = struct.pack("!HHHH", PORT, PORT + 1, 8 + len(data), 0) + data
    if f is V4:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0)
    else:
        head = struct.pack("!IHBB", 6 << 28, len(udp), 17, 64)
    return (head + lo + lo + udp)[:size]


def error(f: Family, kind: int, words: int, rest: bytes) -> bytes:
    """An ICMP error; for ICMPv6 the kernel computes the checksum."""
    if f is V4:
        plain = struct.pack("!BBHBBH", kind, 1, 0, 0, words, 0) + rest
        return plain[:2] + struct.pack("!H", checksum(plain)) + plain[4:]
    return struct.pack("!BBHBBH", kind, 1, 0, words, 0, 0) + rest


def extensions(w: World) -> None:
    """Each structure, lengths around 128 bytes, types, and random bytes."""
    random = Random(4884)
    for f in FAMILIES:
        unit = 4 if f is V4 else 8
        least = 128 // unit
        for on in (0, 1):
            for label, found in STRUCTURES.items():
                with w.case(f"{f.name}/{on}/{label}"):
                    told(w, f, on, error(f, UNREACHABLE[f.name][0], least, quoted(f, 128) + found))
        for kind in UNREACHABLE[f.name]:
            with w.case(f"{f.name}/type {kind}"):
                told(w, f, 1, error(f, kind, least, quoted(f, 128) + STRUCTURES["one"]))
        for words in (0, 1, least - 1, least + 1, least + 2, 255):
            with w.case(f"{f.name}/{words} words"):
                rest = quoted(f, min(words * unit, 200) or 128) + STRUCTURES["one"]
                told(w, f, 1, error(f, UNREACHABLE[f.name][1], words, rest))
        for n in range(40):
            with w.case(f"{f.name}/random {n}"):
                rest = quoted(f, 128) + random.randbytes(random.randrange(40))
                words = random.choice((least, least, random.randrange(256)))
                told(w, f, 1, error(f, UNREACHABLE[f.name][0], words, rest))


def told(w: World, f: Family, on: int, message: bytes) -> None:
    """The data that a socket reads after an error."""
    fd = w.make(f.af, SOCK_DGRAM)
    level, recverr, rfc4884 = (0, 11, 26) if f is V4 else (41, 25, 31)
    w.raw.bind(fd, f.at(f.lo, PORT))
    w.raw.setsockopt(fd, level, recverr, number(1))
    w.row("on", w.raw.setsockopt, fd, level, rfc4884, number(on))
    w.raw.connect(fd, f.at(f.lo, PORT + 1))
    router = w.make(f.af, SOCK_RAW, f.icmp)
    w.raw.sendto(router, message, 0, f.at(f.lo, 0))
    w.settle()
    w.recvmsg(fd, [300], 512, DONTWAIT | ERRQUEUE)
    w.recvmsg(fd, [300], 512, DONTWAIT | ERRQUEUE)
