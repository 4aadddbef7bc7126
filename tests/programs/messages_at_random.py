"""A program that sends and receives messages at random and prints each result.

    python messages_at_random.py THEME FIRST COUNT       sequences FIRST to FIRST + COUNT - 1

A theme is some kinds of sockets with the addresses, options and control messages that fit them
(`THEMES`). Now and then a call gets those of another theme, cut ones, or wrong lengths. It needs
the interfaces d0 (index 2, 10.9.0.1, fd09::1) and d1 (index 3, 10.9.1.1, fd09:1::1). Both are of
the kind `ifb`, where packets get lost. After each call it prints the call's result and what poll(2)
says of each socket.

What differs by nature is not printed: ports and port ids that the kernel chooses, times, the
identification and checksum of a packet.
"""

from __future__ import annotations

import ctypes
import errno
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
SOL_IP, SOL_IPV6, SOL_UDP, SOL_RAW, SOL_ICMPV6 = 0, 41, 17, 255, 58
SOL_SOCKET, SOL_PACKET, SOL_NETLINK = 1, 263, 270
STEPS, MOST = 30, 5
ROOM = 4096
NAME_ROOM = 128
PORTS = 27101, 27102
POLLRDHUP, POLLWRBAND = 0x2000, 0x200
HUNG_UP = POLLRDHUP | select.POLLHUP
NULL = -1
"""Instead of a length: a null pointer."""


# --- arguments of calls -----------------------------------------------------------------------


def sin(host: str, port: int) -> bytes:
    """A struct sockaddr_in."""
    return struct.pack("=H", socket.AF_INET) + struct.pack(">H", port) + inet(host) + bytes(8)


def sin6(host: str, port: int, scope: int = 0, flow: int = 0) -> bytes:
    """A struct sockaddr_in6."""
    head = struct.pack("=H", socket.AF_INET6) + struct.pack(">HI", port, flow)
    return head + inet(host) + struct.pack("=I", scope)


def sll(ifindex: int, protocol: int, lladdr: bytes = bytes(6)) -> bytes:
    """A struct sockaddr_ll."""
    head = struct.pack("=H", socket.AF_PACKET) + struct.pack(">H", protocol)
    return head + struct.pack("=iHBB", ifindex, 1, 0, len(lladdr)) + lladdr.ljust(8, b"\0")


def snl(pid: int, groups: int = 0, family: int = socket.AF_NETLINK) -> bytes:
    """A struct sockaddr_nl."""
    return struct.pack("=HHII", family, 0, pid, groups)


def inet(host: str) -> bytes:
    """An address of either family."""
    return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)


def i32(value: int) -> bytes:
    """An int."""
    return struct.pack("=i", value)


def cmsg(level: int, kind: int, data: bytes, size: int | None = None) -> bytes:
    """A struct cmsghdr with its data; `size`: its length field."""
    head = struct.pack("=Qii", 16 + len(data) if size is None else size, level, kind)
    return head + data.ljust(len(data) + 7 & ~7, b"\0")


UNSPEC = bytes(16)
GROUPS4 = "239.1.1.1", "239.1.1.2", "224.0.0.1", "232.1.1.1"
SOURCES4 = "10.9.0.1", "127.0.0.1", "10.9.1.1", "10.9.0.77", "10.9.0.78"
NEAR4 = "127.0.0.1", "127.0.0.2", "10.9.0.1", "10.9.1.1", "10.9.0.7", "10.9.0.255"
ODD4 = "0.0.0.0", "255.255.255.255", "192.0.2.1", "240.0.0.1", "127.255.255.255", "0.0.0.5"
GROUPS6 = "ff05::9", "ff02::9", "ff01::9", "ff02::1", "ff35::9"
SOURCES6 = "fd09::1", "::1", "fd09:1::1", "fd09::77", "fd09::78"
NEAR6 = "::1", "fd09::1", "fd09:1::1", "fd09::7", "fe80::7"
ODD6 = "::", "2001:db8::1", "::10.9.0.1", "fec0::1", "ff00::"
MAPPED = "::ffff:127.0.0.1", "::ffff:10.9.0.1", "::ffff:239.1.1.1", "::ffff:0.0.0.0"
INDEXES = 0, 1, 2, 3, 99, -1
PIDS = 0, 70001, 70002, 70003
ETH_P_OURS, ETH_P_IP, ETH_P_ALL = 0x88B5, 0x0800, 0x0003
MAC = bytes.fromhex("020000000009")
INTS = 0, 1, 2, 3, 5, 16, 63, 64, 255, 256, 1000, 65535, 65536, -1, -2, 1 << 30, -(1 << 31)
TIMES = {29, 35, 37, 63, 64, 65}
"""Control messages of SOL_SOCKET that have times."""
UNTOLD = {(SOL_PACKET, 8), (SOL_IPV6, 11)}
"""Others that are not shown: checksums, and hashed flow labels."""
FLAGS = (
    *(socket.MSG_PEEK, socket.MSG_TRUNC, socket.MSG_OOB, socket.MSG_ERRQUEUE, socket.MSG_WAITALL),
    *(socket.MSG_CTRUNC, socket.MSG_CONFIRM, socket.MSG_MORE, socket.MSG_DONTROUTE),
    *(socket.MSG_EOR, 0x8, 0x20, 0x400, 0x1000, 0x2000000, 0x8000000, 0x40000000),
)
SIZES = 0, 1, 7, 8, 20, 100, 1400, 3000, 9000, 66000
FIONREAD, TIOCOUTQ, SIOCATMARK, SIOCGSTAMP, SIOCGSTAMPNS = 0x541B, 0x5411, 0x8905, 0x8906, 0x8907
SIOCGIFNAME, SIOCGIFCONF, SIOCGIFFLAGS, SIOCGIFADDR, SIOCGIFMTU = (
    0x8910,
    0x8912,
    0x8913,
    0x8915,
    0x8921,
)
IOCTLS = (
    *(FIONREAD, FIONREAD, TIOCOUTQ, SIOCATMARK, SIOCGSTAMP, SIOCGSTAMPNS, SIOCGIFNAME),
    *(SIOCGIFFLAGS, SIOCGIFADDR, SIOCGIFMTU, 0x8933, 0x8904, 0x8903, 0x894B, 0x8919, 0x891B),
    *(0x8927, 0x8931, 0x89E0, 0x89F0, 0x8942, 0x8901, 0x89FF, 0x8970),
)


@dataclass
class Kind:
    """A kind of sockets."""

    name: str
    family: int
    type: int
    protocol: int
    options: tuple[tuple[int, int], ...] = ()
    """Levels and names."""


@dataclass
class Theme:
    """The elements of one run's calls."""

    kinds: tuple[Kind, ...]
    names: Callable[[random.Random], bytes]
    controls: Callable[[random.Random], bytes]
    values: Callable[[random.Random, int, int], bytes]


def options(level: int, *names: int) -> tuple[tuple[int, int], ...]:
    """Rows of options."""
    return tuple((level, name) for name in names)


SOCKET_OPTIONS = options(
    SOL_SOCKET,
    *(2, 5, 6, 9, 11, 12, 15, 18, 25, 29, 35, 36, 37, 40, 42, 45, 60, 61, 62, 63, 64, 65),
    *(3, 4, 10, 16, 30, 34, 38, 39),
)
IP_OPTIONS = options(SOL_IP, *range(1, 16), *(19, 20, 21, 24, 25, 26, 32, 33, 34, 49, 50, 51, 52))
IPV6_OPTIONS = options(
    SOL_IPV6,
    *(1, 2, 3, 4, 5, 7, 8, 11, 16, 17, 18, 19, 22, 23, 24, 25, 26, 27, 28, 29, 33, 49, 50, 51, 52),
    *(53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 66, 67, 70, 72, 73, 74, 75, 76, 77, 78),
)
UDP_OPTIONS = options(SOL_UDP, 1, 103, 104)
MEMBERSHIP4 = options(SOL_IP, *range(35, 49), 49, 32, 33, 34)
MEMBERSHIP6 = options(SOL_IPV6, 20, 21, *range(42, 49), 29, 17, 18, 19)
PACKET_OPTIONS = options(SOL_PACKET, 1, 2, 6, 7, 8, 9, 10, 11, 12, 14, 17, 18, 19, 20, 23)
NETLINK_OPTIONS = options(SOL_NETLINK, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12)


def names4(pick: random.Random) -> bytes:
    """Addresses of IPv4."""
    hosts = pick.choices((NEAR4, NEAR4[:2], ODD4, GROUPS4), (3, 6, 1, 1))[0]
    return sin(pick.choice(hosts), pick.choice((0, *PORTS, *PORTS, *PORTS)))


def names6(pick: random.Random) -> bytes:
    """Addresses of IPv6."""
    hosts = pick.choices((NEAR6, NEAR6[:1], ODD6, GROUPS6), (3, 6, 1, 1))[0]
    scope = pick.choice(INDEXES[:4]) if pick.random() < 0.3 else 0
    flow = pick.choice((0, 0, 0, 0x12345, 0xFF00000))
    return sin6(pick.choice(hosts), pick.choice((0, *PORTS, *PORTS)), scope, flow)


def names_mapped(pick: random.Random) -> bytes:
    """Addresses of IPv4 for a socket of IPv6."""
    return sin6(pick.choice(MAPPED[:1] * 3 + MAPPED), pick.choice((0, *PORTS, *PORTS)))


def names_ll(pick: random.Random) -> bytes:
    """Addresses of frames."""
    protocol = pick.choice((0, ETH_P_OURS, ETH_P_OURS, ETH_P_IP, ETH_P_ALL))
    return sll(
        pick.choice((1, 1, 2, *INDEXES)), protocol, pick.choice((bytes(6), MAC, b"", MAC[:3]))
    )


def names_nl(pick: random.Random) -> bytes:
    """Addresses of netlink."""
    return snl(pick.choice(PIDS), pick.choice((0, 0, 0, 1, 2, 3, 1 << 31)))


def cred(pick: random.Random) -> bytes:
    """SCM_CREDENTIALS and SCM_RIGHTS."""
    return pick.choice(
        (cmsg(SOL_SOCKET, 2, struct.pack("=iii", 1, 0, 0)), cmsg(SOL_SOCKET, 1, i32(0)))
    )


def controls4(pick: random.Random) -> bytes:
    """Control messages for IPv4."""
    ttl, tos = pick.choice(INTS), pick.choice(INTS)
    addr = inet(pick.choice(NEAR4 + ODD4 + SOURCES4))
    info = struct.pack("=i", pick.choice(INDEXES)) + addr + inet(pick.choice(NEAR4))
    return pick.choice(
        (
            cmsg(SOL_IP, 8, info),
            cmsg(SOL_IP, 8, info[: pick.choice((4, 8, 11))]),
            cmsg(SOL_IP, 2, i32(ttl)),
            cmsg(SOL_IP, 2, pick.choice((b"\5", b"\5\0", bytes(8)))),
            cmsg(SOL_IP, 1, i32(tos)),
            cmsg(SOL_IP, 1, pick.choice((b"\20", b"\377", b"", bytes(3), bytes(8)))),
            cmsg(
                SOL_IP,
                7,
                pick.choice((b"", b"\1\1\1\0", b"\224\4\0\0", b"\7\7\4\0\0\0\0", b"\203\3")),
            ),
            cmsg(SOL_IP, 52, i32(pick.choice((1, 17, 253, 0, 300)))),
            cmsg(SOL_IP, pick.choice((3, 10, 11, 20, 99)), i32(1)),
            cmsg(SOL_IPV6, 50, inet(pick.choice(MAPPED)) + i32(pick.choice(INDEXES))),
            *(control_socket(pick), control_udp(pick)),
        )
    )


def control_socket(pick: random.Random) -> bytes:
    """Control messages of SOL_SOCKET."""
    return pick.choice(
        (
            cmsg(SOL_SOCKET, 36, i32(pick.choice(INTS))),
            cmsg(SOL_SOCKET, 36, bytes(pick.choice((0, 2, 8)))),
            cmsg(SOL_SOCKET, 37, i32(pick.choice((0, 2, 8, 0x10, 0x80, 0x100, 0x302, 1 << 20)))),
            cmsg(SOL_SOCKET, 12, i32(pick.choice(INTS))),
            cmsg(SOL_SOCKET, 61, struct.pack("=Q", pick.choice((0, 1, 1 << 40)))),
            cmsg(SOL_SOCKET, 81, i32(7)),
            cmsg(SOL_SOCKET, pick.choice((0, 3, 29, 99)), i32(1)),
            cred(pick),
        )
    )


def control_udp(pick: random.Random) -> bytes:
    """Control messages of SOL_UDP."""
    size = struct.pack("=H", pick.choice((0, 1, 8, 100, 1400, 65535)))
    return cmsg(
        SOL_UDP, *pick.choice(((103, size), (103, size * 2), (103, b""), (104, size), (1, size)))
    )


def controls6(pick: random.Random) -> bytes:
    """Control messages for IPv6."""
    info = inet(pick.choice(NEAR6 + ODD6)) + i32(pick.choice(INDEXES))
    padding = b"\0\0\1\4\0\0\0\0"
    routing = b"\0\4\3\0\0\0\0\0" + bytes(32)
    return pick.choice(
        (
            cmsg(SOL_IPV6, 50, info),
            cmsg(SOL_IPV6, 50, info[: pick.choice((4, 16, 19))]),
            cmsg(SOL_IPV6, 2, info),
            cmsg(SOL_IPV6, 52, i32(pick.choice(INTS))),
            cmsg(SOL_IPV6, 8, i32(pick.choice(INTS))),
            cmsg(SOL_IPV6, 52, pick.choice((b"", b"\5", bytes(8)))),
            cmsg(SOL_IPV6, 67, i32(pick.choice(INTS))),
            cmsg(SOL_IPV6, 67, pick.choice((b"", b"\5", bytes(8)))),
            cmsg(SOL_IPV6, 62, i32(pick.choice((0, 1, 2, -1)))),
            cmsg(SOL_IPV6, 11, struct.pack(">I", pick.choice((0, 5, 0x0FF00000)))),
            cmsg(SOL_IPV6, pick.choice((54, 59, 55, 3, 4)), padding),
            cmsg(SOL_IPV6, pick.choice((54, 59, 55)), padding[: pick.choice((0, 1, 4))]),
            cmsg(
                SOL_IPV6,
                pick.choice((57, 5)),
                pick.choice((routing, routing[:8], b"\0\2\0\1" + bytes(20))),
            ),
            cmsg(SOL_IPV6, pick.choice((1, 25, 72, 99)), i32(1)),
            cmsg(SOL_IP, pick.choice((8, 2)), bytes(12)),
            *(control_socket(pick), control_udp(pick)),
        )
    )


def value4(pick: random.Random, level: int, name: int) -> bytes:
    """A value for an option of IPv4: structs for those of groups."""
    group, source = inet(pick.choice(GROUPS4)), inet(pick.choice(SOURCES4))
    index, local = (
        pick.choice((0, 0, 2, 2, 3, 1, 99, -1)),
        pick.choice(("0.0.0.0", "10.9.0.1", "10.9.1.1", "9.9.9.9")),
    )
    if level == SOL_SOCKET:
        return value_socket(pick, level, name)
    if level != SOL_IP:
        return i32(pick.choice(INTS))
    if name == 32:
        return pick.choice(
            (inet(local), group + inet(local) + i32(index), group + inet(local), i32(index))
        )
    if name in (35, 36):
        return group + inet(local) + (i32(index) if pick.randrange(3) else b"")
    if name in range(37, 41):
        return group + inet(local) + source
    if name == 41:
        sources = [inet(pick.choice(SOURCES4)) for _ in range(pick.choice((0, 1, 2, 2, 12)))]
        count = pick.choice((len(sources), len(sources), len(sources), 3, 1 << 30))
        return (
            group
            + inet(local)
            + struct.pack("=II", pick.choice((0, 1, 1, 2)), count)
            + b"".join(sources)
        )
    return value_mcast(pick, name, GROUPS4, SOURCES4, sin, index)


def value_mcast(
    pick: random.Random,
    name: int,
    groups: tuple[str, ...],
    sources: tuple[str, ...],
    address: Callable[[str, int], bytes],
    index: int,
) -> bytes:
    """A value for MCAST_* of either family, or an int."""
    group = address(pick.choice(groups), 0)
    if pick.random() < 0.08:
        group = sin("239.1.1.1", 0) if address is sin6 else sin6("ff05::9", 0)
    head = struct.pack("=i4x", index) + group.ljust(128, b"\0")
    if name in (42, 45):
        return head
    if name in (43, 44, 46, 47):
        return head + address(pick.choice(sources), 0).ljust(128, b"\0")
    if name == 48:
        found = [address(pick.choice(sources), 0) for _ in range(pick.choice((0, 1, 2, 2, 12)))]
        count = pick.choice((len(found), len(found), len(found), 3, 1 << 30))
        body = b"".join(one.ljust(128, b"\0") for one in found)
        return head + struct.pack("=II", pick.choice((0, 1, 1, 2)), count) + body
    return i32(pick.choice(INTS))


def value6(pick: random.Random, level: int, name: int) -> bytes:
    """A value for an option of IPv6."""
    group, index = inet(pick.choice(GROUPS6)), pick.choice((0, 0, 2, 2, 3, 1, 99, -1))
    if level == SOL_SOCKET:
        return value_socket(pick, level, name)
    if level != SOL_IPV6:
        return i32(pick.choice(INTS))
    if name in (20, 21):
        return group + i32(index)
    if name in (27, 28):
        return inet(pick.choice(("fd09::", "fd09::77", "ff02::9", "::"))) + i32(index)
    if name == 50:
        return inet(pick.choice(NEAR6 + ODD6)) + i32(index)
    if name in (54, 55, 59):
        return pick.choice((b"", b"\0\0\1\4\0\0\0\0", b"\0\0\1\4", b"\0\1" + bytes(14), i32(0)))
    if name == 57:
        return pick.choice((b"", b"\0\4\3\0" + bytes(36), b"\0\2\0\1" + bytes(20)))
    return value_mcast(pick, name, GROUPS6, SOURCES6, sin6, index)


def value_socket(pick: random.Random, level: int, name: int) -> bytes:
    """A value for an option of SOL_SOCKET."""
    if level == SOL_SOCKET and name == 25:
        return pick.choice((b"", b"lo\0", b"d0", b"d1\0\0\0", b"nothere", b"\0", b"a" * 20))
    if level == SOL_SOCKET and name == 37:
        return i32(pick.choice((0, 8, 0x10, 0x18, 0x12, 0x82, 0x92, 0x1A, 0x212, 0x812, 1 << 20)))
    if level == SOL_SOCKET and name == 61:
        return struct.pack("=iI", pick.choice((0, 1, 11, 99)), pick.choice((0, 1, 2, 9)))
    return i32(pick.choice(INTS))


def value_packet(pick: random.Random, level: int, name: int) -> bytes:
    """A value for an option of AF_PACKET."""
    if level == SOL_PACKET and name in (1, 2):
        size = pick.choice((6, 6, 0, 8, 9))
        address = pick.choice((MAC, bytes.fromhex("01005e010101"))).ljust(8, b"\0")
        return (
            struct.pack("=iHH", pick.choice(INDEXES), pick.choice((0, 1, 2, 3, 4)), size) + address
        )
    if level == SOL_PACKET and name == 18:
        return i32(pick.choice((0, 1, 0x10001, 0x20001, 0x60001, 0x90001, 0x10002001, -1 & 0x7FFF)))
    return value_socket(pick, level, name)


def value_netlink(pick: random.Random, level: int, name: int) -> bytes:
    """A value for an option of netlink; how many groups there are is the kernel's."""
    return (
        i32(pick.choice((0, 1, 2, 3, 31, 32, 10000, -1)))
        if level == SOL_NETLINK
        else value_socket(pick, level, name)
    )


INET, INET6, DGRAM, RAW = socket.AF_INET, socket.AF_INET6, socket.SOCK_DGRAM, socket.SOCK_RAW
UDP4 = Kind("udp", INET, DGRAM, 0, (*IP_OPTIONS, *UDP_OPTIONS, *SOCKET_OPTIONS))
UDP6 = Kind("udp6", INET6, DGRAM, 0, (*IPV6_OPTIONS, *UDP_OPTIONS, *SOCKET_OPTIONS))
MAPPED6 = Kind("udp6", INET6, DGRAM, 0, (*IP_OPTIONS, *IPV6_OPTIONS, *UDP_OPTIONS))
GROUPS = Kind("udp", INET, DGRAM, 0, MEMBERSHIP4), Kind("udp6", INET6, DGRAM, 0, MEMBERSHIP6)
RAW4 = *options(SOL_RAW, 1), *IP_OPTIONS, *SOCKET_OPTIONS
RAW6 = *options(SOL_ICMPV6, 1), *options(SOL_RAW, 1, 7), *IPV6_OPTIONS, *SOCKET_OPTIONS
RAWS4 = (*(Kind(f"raw{number}", INET, RAW, number, RAW4) for number in (1, 17, 253, 255)),)
RAWS6 = (*(Kind(f"raw{number}", INET6, RAW, number, RAW6) for number in (17, 58, 253, 255)),)
PACKETS = tuple(
    Kind(
        f"packet{kind}",
        *(socket.AF_PACKET, kind, socket.htons(protocol), (*PACKET_OPTIONS, *SOCKET_OPTIONS)),
    )
    for kind in (RAW, DGRAM)
    for protocol in (0, ETH_P_OURS, ETH_P_ALL)
)
NETLINKS = tuple(
    Kind(
        f"netlink{protocol}",
        *(socket.AF_NETLINK, kind, protocol, (*NETLINK_OPTIONS, *SOCKET_OPTIONS)),
    )
    for protocol, kind in ((2, RAW), (2, DGRAM), (0, RAW), (16, RAW))
)


def names_group4(pick: random.Random) -> bytes:
    """Addresses of groups of IPv4, mostly."""
    return sin(pick.choice(GROUPS4 + NEAR4[:3]), pick.choice(PORTS))


def names_group6(pick: random.Random) -> bytes:
    """Addresses of groups of IPv6, mostly."""
    hosts = GROUPS6 + NEAR6[:3]
    return sin6(pick.choice(hosts), pick.choice(PORTS), pick.choice(INDEXES[:4]))


def controls_mapped(pick: random.Random) -> bytes:
    """Control messages of both families."""
    return pick.choice((controls4, controls6))(pick)


def controls_netlink(pick: random.Random) -> bytes:
    """Control messages for netlink."""
    return pick.choice((control_socket, cred))(pick)


THEMES = {
    "udp": Theme((UDP4,), names4, controls4, value4),
    "udp6": Theme((UDP6,), names6, controls6, value6),
    "mapped": Theme((MAPPED6,), names_mapped, controls_mapped, value4),
    "raw": Theme((*RAWS4, Kind("ping", INET, DGRAM, 1, RAW4), UDP4), names4, controls4, value4),
    "raw6": Theme((*RAWS6, Kind("ping", INET6, DGRAM, 58, RAW6), UDP6), names6, controls6, value6),
    "groups": Theme(GROUPS[:1], names_group4, controls4, value4),
    "groups6": Theme(GROUPS[1:], names_group6, controls6, value6),
    "packet": Theme(PACKETS, names_ll, control_socket, value_packet),
    "netlink": Theme(NETLINKS, names_nl, controls_netlink, value_netlink),
}


# --- the calls -----------------------------------------------------------------------------------


class IoVec(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


class MsgHdr(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        *(("name", ctypes.c_void_p), ("namelen", ctypes.c_uint), ("iov", ctypes.c_void_p)),
        *(("iovlen", ctypes.c_size_t), ("control", ctypes.c_void_p)),
        *(("controllen", ctypes.c_size_t), ("flags", ctypes.c_int)),
    )


class MmsgHdr(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (("hdr", MsgHdr), ("len", ctypes.c_uint))


def done(result: int) -> int | str:
    """A call's result, or its errno's name."""
    return result if result >= 0 else errno.errorcode[ctypes.get_errno()]


class Message:
    """A struct msghdr and the memory that it points to."""

    def __init__(self, name: bytes | None, parts: list[bytes], control: bytes | None) -> None:
        self.name = (
            None if name is None else ctypes.create_string_buffer(name, max(len(name), NAME_ROOM))
        )
        self.parts = [ctypes.create_string_buffer(part, max(len(part), 1)) for part in parts]
        self.control = (
            None
            if control is None
            else ctypes.create_string_buffer(control, max(len(control), ROOM))
        )
        self.iov = (IoVec * max(len(parts), 1))()
        for vec, buffer, part in zip(self.iov, self.parts, parts, strict=False):
            vec.base, vec.len = ctypes.addressof(buffer), len(part)
        self.hdr = MsgHdr(
            None if self.name is None else ctypes.addressof(self.name),
            len(name or b""),
            ctypes.addressof(self.iov),
            len(parts),
            None if self.control is None else ctypes.addressof(self.control),
            len(control or b""),
            0x55,
        )

    def told(self, hdr: MsgHdr, size: int, kind: Kind) -> str:
        """The result of a receiving call."""
        data = b"".join(
            part.raw[: vec.len] for vec, part in zip(self.iov, self.parts, strict=False)
        )
        words = [shown_data(kind, data, size), f"flags {hdr.flags:#x}"]
        if self.name is not None:
            words.append(shown_name(self.name.raw, hdr.namelen))
        if self.control is not None:
            words.append(shown_control(self.control.raw[: hdr.controllen], kind))
        return " ".join(words)


def shown_name(raw: bytes, size: int) -> str:
    """A struct sockaddr of `size` bytes, cut to its buffer; chosen ports and ids hidden."""
    name = bytearray(raw[:size])
    family = int.from_bytes(name[:2], "little")
    if len(name) > 3 and family in (2, 10) and int.from_bytes(name[2:4], "big") not in (0, *PORTS):
        name[2:4] = b"??"
    if len(name) > 4 and family == 16 and int.from_bytes(name[4:8], "little") not in PIDS:
        name[4:8] = b"????"
    return f"name[{size}] {name.hex()}"


def shown_data(kind: Kind, data: bytes, size: int) -> str:
    """The first bytes of what was received. For raw sockets, common fields only."""
    data = data[: min(size, len(data))]
    if kind.name == "udp" or kind.name == "udp6":
        return f"{size} bytes {data[:4].hex()}"
    if kind.name.startswith("raw") and kind.family == socket.AF_INET and len(data) >= 20:
        return f"{size} bytes {(data[:4] + data[6:10] + data[12:22]).hex()}"
    if kind.name.startswith("packet"):
        return f"{size} bytes {data[:16].hex()}"
    return f"{size} bytes"


def shown_control(data: bytes, kind: Kind) -> str:
    """Control messages, for those with a time, their length."""
    words = [f"control[{len(data)}]"]
    while len(data) >= 16:
        size, level, name = struct.unpack_from("=Qii", data)
        body = data[16:size]
        timed = (level == SOL_SOCKET and name in TIMES) or (level, name) in UNTOLD
        if (level, name) == (SOL_SOCKET, 2) and kind.family == socket.AF_NETLINK:
            body = body[4:]
        chosen = (level, name) in ((SOL_IP, 20), (SOL_IPV6, 74))
        told = shown_name(body, len(body)) if chosen else body.hex()
        words.append(f"{level}/{name}:{len(body) if timed else told}")
        if size < 16:
            break
        data = data[size + 7 & ~7 :]
    return " ".join(words)


class Sequence:
    """The sockets of one sequence, and the calls on them."""

    def __init__(self, theme: str, seed: int) -> None:
        self.pick = random.Random(f"{theme} {seed}")
        self.theme = THEMES[theme]
        self.at = f"{theme} {seed}"
        self.socks: list[tuple[int, Kind] | None] = []
        self.hung: set[int] = set()
        """Those that have hung up. On a host of ours poll(2) always reports it."""
        self.sent = 0
        self.corked: set[int] = set()
        """Those that may have a part of a datagram: connect() then spoils it on Linux."""

    # --- arguments

    def name(self) -> bytes:
        """An address, seldom a wrong one."""
        pick = self.pick
        luck = pick.random()
        if luck < 0.04:
            if self.theme.kinds[0].family == socket.AF_INET6:  # docs/differences.md
                return pick.choice((names_ll, names_nl))(pick)
            return pick.choice((names4, names6, names_ll, names_nl))(pick)
        found = self.theme.names(pick)
        if luck < 0.08:
            return found[: pick.choice((0, *range(2, len(found))))]
        if luck < 0.10:
            return found.ljust(pick.choice((28, 40, 128)), b"\0")
        if luck < 0.12:
            return pick.choice((UNSPEC, UNSPEC[:2], b"\1\0x", struct.pack("=H", 99) + found[2:]))
        return found

    def data(self, size: int) -> bytes:
        """Bytes to send, which differ from call to call."""
        self.sent += 1
        pick = self.pick
        kinds = self.theme.kinds
        if kinds[0].family == socket.AF_NETLINK:
            whole = struct.pack(
                "=IHHII", max(size, 16), pick.choice((16, 18, 3, 2, 99)), 5, self.sent, 0
            )
            return (whole + bytes(size))[:size]
        start = pick.choice((b"\x08\0\0\0\0\7\0\1", b"\x80\0\0\0\0\7\0\1", b"\x45\0\0\x20", b""))
        if len(kinds) == 1:
            start = struct.pack(">HH", self.sent, size & 0xFFFF)
        return (start + b"m" * size)[:size]

    def size(self) -> int:
        """How much to send; how much netlink's queue holds depends on the kernel's memory."""
        netlink = self.theme.kinds[0].family == socket.AF_NETLINK
        return self.pick.choice(SIZES[:-1] if netlink else SIZES)

    def control(self) -> bytes | None:
        """Control messages to send."""
        pick = self.pick
        luck = pick.random()
        if luck < 0.5:
            return None
        count = pick.choice((1, 1, 1, 2, 3))
        found = b"".join(self.theme.controls(pick) for _ in range(count))
        if luck < 0.56:
            return found[: pick.randrange(len(found))]
        if luck < 0.60:
            return cmsg(SOL_IP, 2, i32(5), pick.choice((0, 8, 15, 16, 17, 100, 1 << 40))) + found
        return found

    def flags(self, fd: int) -> int:
        """MSG_* of a call."""
        pick = self.pick
        if pick.random() < 0.6:
            return socket.MSG_DONTWAIT
        flags = pick.choice(FLAGS) | pick.choice((0, 0, *FLAGS))
        if flags & socket.MSG_MORE:
            self.corked.add(fd)
        return socket.MSG_DONTWAIT | flags

    # --- calls

    def do_bind(self, fd: int, kind: Kind) -> Any:
        name = self.name()
        self.say(name.hex())
        return done(LIBC.bind(fd, name, len(name)))

    def do_connect(self, fd: int, kind: Kind) -> Any:
        if fd in self.corked:
            return None
        name = UNSPEC if self.pick.random() < 0.15 else self.name()
        self.say(name.hex())
        return done(LIBC.connect(fd, name, len(name)))

    def do_shutdown(self, fd: int, kind: Kind) -> Any:
        how = self.pick.choice((0, 1, 2, 3))
        self.say(how)
        return done(LIBC.shutdown(fd, how))

    def do_names(self, fd: int, kind: Kind) -> Any:
        found = []
        for call in (LIBC.getsockname, LIBC.getpeername):
            size = ctypes.c_uint(self.pick.choice((128, 128, 0, 3, 7, 12)))
            room = ctypes.create_string_buffer(NAME_ROOM)
            result = done(call(fd, room, ctypes.byref(size)))
            found.append(shown_name(room.raw, size.value) if result == 0 else result)
        return found

    def do_listen(self, fd: int, kind: Kind) -> Any:
        return done(LIBC.listen(fd, 1)), done(LIBC.accept(fd, None, None))

    def do_sendto(self, fd: int, kind: Kind) -> Any:
        size, flags = self.size(), self.flags(fd)
        name = self.name() if self.pick.randrange(3) else None
        self.say(size, hex(flags), name.hex() if name is not None else None)
        data = self.data(size)
        room = ctypes.c_size_t(size)
        return done(
            LIBC.sendto(fd, data, room, flags | socket.MSG_NOSIGNAL, name, len(name or b""))
        )

    def message(self) -> Message:
        """One to send."""
        pick = self.pick
        name = self.name() if pick.randrange(4) else None
        sizes = [self.size() for _ in range(pick.choice((0, 1, 1, 1, 1, 2, 3)))]
        control = self.control()
        self.say(
            sizes,
            None if name is None else name.hex(),
            None if control is None else control.hex(),
        )
        return Message(name, [self.data(size) for size in sizes], control)

    def do_sendmsg(self, fd: int, kind: Kind) -> Any:
        flags = self.flags(fd)
        self.say(hex(flags))
        message = self.message()
        self.spoil(message.hdr)
        return done(LIBC.sendmsg(fd, ctypes.byref(message.hdr), flags | socket.MSG_NOSIGNAL))

    def spoil(self, hdr: MsgHdr) -> None:
        """Seldom, wrong pointers and lengths."""
        luck = self.pick.randrange(60)
        if luck == 0:
            hdr.name = None
        elif luck == 1:
            hdr.namelen = self.pick.choice((129, 1 << 31))
        elif luck == 2:
            hdr.iovlen = self.pick.choice((1025, 1 << 40))
        elif luck == 3:
            hdr.control, hdr.controllen = None, 24
        elif luck == 4:
            hdr.controllen = self.pick.choice((0, 1 << 31, 1 << 40))
        elif luck == 5:
            hdr.iov = None
        elif luck == 6:
            hdr.name, hdr.namelen = 8, 16
        else:
            return
        self.say("spoilt", luck)

    def do_sendmmsg(self, fd: int, kind: Kind) -> Any:
        flags = self.flags(fd)
        self.say(hex(flags))
        messages = [self.message() for _ in range(self.pick.choice((0, 1, 2, 3)))]
        rows = (MmsgHdr * max(len(messages), 1))()
        for row, message in zip(rows, messages, strict=False):
            row.hdr, row.len = message.hdr, 77
        count = len(messages)
        result = done(LIBC.sendmmsg(fd, rows, count, flags | socket.MSG_NOSIGNAL))
        return result, [row.len for row in rows]

    def room(self) -> Message:
        """A message to receive into."""
        pick = self.pick
        name = bytes(pick.choice((128, 128, 16, 28, 5, 0))) if pick.randrange(4) else None
        sizes = [
            pick.choice((0, 1, 8, 100, 2000, 70000)) for _ in range(pick.choice((0, 1, 1, 1, 2)))
        ]
        control = (
            bytes(pick.choice((512, 512, 512, 0, 15, 16, 20, 24, 40, 64)))
            if pick.randrange(4)
            else None
        )
        self.say(sizes, *(None if part is None else len(part) for part in (name, control)))
        return Message(name, [bytes(size) for size in sizes], control)

    def do_recvfrom(self, fd: int, kind: Kind) -> Any:
        size, flags = self.pick.choice((0, 1, 8, 100, 70000)), self.flags(fd)
        self.say(size, hex(flags))
        data, name = (
            ctypes.create_string_buffer(max(size, 1)),
            ctypes.create_string_buffer(NAME_ROOM),
        )
        length = ctypes.c_uint(self.pick.choice((128, 128, 4, 0)))
        result = done(
            LIBC.recvfrom(fd, data, ctypes.c_size_t(size), flags, name, ctypes.byref(length))
        )
        if isinstance(result, str):
            return result
        return result, shown_data(kind, data.raw[:size], result), shown_name(name.raw, length.value)

    def do_recvmsg(self, fd: int, kind: Kind) -> Any:
        flags = self.flags(fd)
        self.say(hex(flags))
        message = self.room()
        self.spoil(message.hdr)
        result = done(LIBC.recvmsg(fd, ctypes.byref(message.hdr), flags))
        if isinstance(result, str):
            return result, hex(message.hdr.flags)
        return result, message.told(message.hdr, result, kind)

    def do_recvmmsg(self, fd: int, kind: Kind) -> Any:
        flags = self.flags(fd) | self.pick.choice((0, 0, 0x10000))
        self.say(hex(flags))
        messages = [self.room() for _ in range(self.pick.choice((0, 1, 2, 3)))]
        rows = (MmsgHdr * max(len(messages), 1))()
        for row, message in zip(rows, messages, strict=False):
            row.hdr, row.len = message.hdr, 77
        result = done(LIBC.recvmmsg(fd, rows, len(messages), flags, None))
        if isinstance(result, str):
            return result
        return result, [
            message.told(row.hdr, row.len, kind)
            for row, message in zip(rows[:result], messages, strict=False)
        ]

    def do_setsockopt(self, fd: int, kind: Kind) -> Any:
        pick = self.pick
        level, option = pick.choice(kind.options)
        if (level, option) == (SOL_UDP, 1):
            self.corked.add(fd)
        value = self.theme.values(pick, level, option)
        luck = pick.random()
        if luck < 0.1:
            value = value[: pick.randrange(len(value) + 1)]
        elif luck < 0.15:
            value += bytes(pick.choice((1, 4, 300)))
        self.say(level, option, value[:300].hex(), len(value))
        result = done(LIBC.setsockopt(fd, level, option, value, len(value)))
        return result, self.get(fd, level, option, pick.choice((4, 4, 4, 0, 1, 2, 8, 28, 32, 300)))

    def do_getsockopt(self, fd: int, kind: Kind) -> Any:
        level, option = self.pick.choice((*kind.options, (SOL_SOCKET, 4)))
        size = self.pick.choice((4, 4, 0, 1, 3, 8, 16, 20, 40, 300))
        self.say(level, option, size)
        return self.get(fd, level, option, size)

    def get(self, fd: int, level: int, option: int, size: int) -> Any:
        """getsockopt()."""
        if (level, option) in ((SOL_IP, 41), (SOL_IP, 48), (SOL_IPV6, 48)):
            return None  # docs/differences.md
        room, length = ctypes.create_string_buffer(max(size, 1)), ctypes.c_uint(size)
        result = done(LIBC.getsockopt(fd, level, option, room, ctypes.byref(length)))
        return result if result else (length.value, room.raw[: min(length.value, size)].hex())

    def do_ioctl(self, fd: int, kind: Kind) -> Any:
        request = self.pick.choice(IOCTLS)
        name = self.pick.choice((b"lo", b"d0", b"d1", b"none", b""))
        arg = ctypes.create_string_buffer(256)
        struct.pack_into("=16si", arg, 0, name, self.pick.choice((1, 2, 99)))
        before = arg.raw
        self.say(hex(request), name)
        result = done(LIBC.ioctl(fd, ctypes.c_ulong(request), arg))
        if request in (SIOCGSTAMP, SIOCGSTAMPNS, TIOCOUTQ) or arg.raw == before:
            return result
        return result, arg.raw[:40].hex()

    def do_ifconf(self, fd: int, kind: Kind) -> Any:
        size = self.pick.choice((0, 20, 40, 80, 200, 400))
        room = ctypes.create_string_buffer(max(size, 1))
        there = self.pick.choice((0, ctypes.addressof(room), ctypes.addressof(room)))
        arg = ctypes.create_string_buffer(struct.pack("=i4xQ", size, there))
        self.say(size, bool(there))
        result = done(LIBC.ioctl(fd, ctypes.c_ulong(SIOCGIFCONF), arg))
        return result, struct.unpack_from("=i", arg)[0], room.raw[:size].hex()

    def do_close(self, fd: int, kind: Kind) -> Any:
        self.socks[self.socks.index((fd, kind))] = None
        return done(LIBC.close(fd))

    # --- a sequence

    def say(self, *words: Any) -> None:
        """Note a call's arguments."""
        self.words += [str(word) for word in words]

    def add(self) -> None:
        """One more socket, mostly bound at once."""
        pick = self.pick
        kind = pick.choice(self.theme.kinds)
        fd = LIBC.socket(kind.family, kind.type | socket.SOCK_NONBLOCK, kind.protocol)
        print(self.at, len(self.socks), "socket", kind.name, done(min(fd, 0)))
        if fd < 0:
            return
        self.socks.append((fd, kind))
        if kind.family == socket.AF_NETLINK:
            bound = snl(PIDS[len(self.socks) % len(PIDS)], pick.choice((0, 0, 1)))
        elif kind.family == socket.AF_PACKET:
            bound = sll(1, socket.ntohs(kind.protocol))
        elif kind.type == socket.SOCK_RAW:
            return
        elif kind.family == socket.AF_INET:
            bound = sin(pick.choice(("0.0.0.0", "127.0.0.1")), PORTS[len(self.socks) % 2])
        else:
            bound = sin6("::", PORTS[len(self.socks) % 2])
        one = i32(1)
        LIBC.setsockopt(fd, SOL_SOCKET, socket.SO_REUSEADDR, one, 4)
        LIBC.bind(fd, bound, len(bound))

    def step(self) -> None:
        """Make a socket, or a call on one."""
        pick = self.pick
        live = [number for number, sock in enumerate(self.socks) if sock is not None]
        if not live or len(self.socks) < 2 or (pick.random() < 0.1 and len(self.socks) < MOST):
            self.add()
            return
        number = pick.choice(live)
        sock = self.socks[number]
        assert sock is not None
        calls = (
            (3, self.do_bind),
            (6, self.do_connect),
            (2, self.do_shutdown),
            (4, self.do_names),
            (1, self.do_listen),
            (14, self.do_sendto),
            (20, self.do_sendmsg),
            (6, self.do_sendmmsg),
            (8, self.do_recvfrom),
            (22, self.do_recvmsg),
            (8, self.do_recvmmsg),
            (30, self.do_setsockopt),
            (8, self.do_getsockopt),
            (6, self.do_ioctl),
            (1, self.do_ifconf),
            (1, self.do_close),
        )
        (chosen,) = pick.choices(calls, [weight for weight, _ in calls])
        self.words: list[str] = []
        result = chosen[1](*sock)
        time.sleep(0.001)  # sent data arrives
        name = chosen[1].__name__.removeprefix("do_")
        print(self.at, number, sock[1].name, name, *self.words, "=", result, self.state())

    def state(self) -> dict[int, int]:
        """The result of poll(2) for each socket."""
        poll = select.poll()
        numbers = {}
        for number, sock in enumerate(self.socks):
            if sock is not None and number not in self.hung:
                poll.register(sock[0], 0xFFFF)
                numbers[sock[0]] = number
        found = {numbers[fd]: events & ~POLLWRBAND for fd, events in poll.poll(0)}
        self.hung |= {number for number, bits in found.items() if bits & HUNG_UP == HUNG_UP}
        return dict(sorted(found.items()))

    def end(self) -> None:
        """Close all."""
        for sock in self.socks:
            if sock is not None:
                LIBC.close(sock[0])


def main(theme: str, first: int, count: int) -> None:
    # Whether packets have a time depends on all sockets of the machine: so they have one.
    keeper = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    keeper.setsockopt(SOL_SOCKET, 29, 1)
    for seed in range(first, first + count):
        sequence = Sequence(theme, seed)
        for _ in range(STEPS):
            sequence.step()
        sequence.end()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
