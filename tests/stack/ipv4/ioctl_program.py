"""Requests to interfaces, and what is answered: run by the kernel in a namespace, and by ours.

As a program (`python ioctl_program.py`, in the namespace) it prints the answers as JSON. It imports
nothing of the project, so that it needs no path. The interface is `eth0`, number 2, with the
address 02:00:00:00:00:01, down, and without addresses.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

Ioctl = Callable[[Any, int, Any], Any]

ADDRT, DELRT = 0x890B, 0x890C
GIFNAME, GIFCONF, GIFFLAGS, SIFFLAGS = 0x8910, 0x8912, 0x8913, 0x8914
GIFADDR, SIFADDR, GIFDSTADDR, SIFDSTADDR = 0x8915, 0x8916, 0x8917, 0x8918
GIFBRDADDR, SIFBRDADDR, GIFNETMASK, SIFNETMASK = 0x8919, 0x891A, 0x891B, 0x891C
GIFMETRIC, SIFMETRIC, GIFMEM, SIFMEM = 0x891D, 0x891E, 0x891F, 0x8920
GIFMTU, SIFMTU, SIFNAME, SIFHWADDR = 0x8921, 0x8922, 0x8923, 0x8924
GIFHWADDR, GIFSLAVE, ADDMULTI, DELMULTI = 0x8927, 0x8929, 0x8931, 0x8932
GIFINDEX, DIFADDR, SIFHWBROADCAST = 0x8933, 0x8936, 0x8937
GIFTXQLEN, SIFTXQLEN, GIFMAP, SIFMAP, SIFLINK = 0x8942, 0x8943, 0x8970, 0x8971, 0x8911
DARP, GARP, SARP = 0x8953, 0x8954, 0x8955
UP, LOWER = 0x1, 0x10000
RTF_UP, RTF_GATEWAY, RTF_HOST, RTF_REJECT = 1, 2, 4, 0x200


def sin(addr: str, family: int = socket.AF_INET) -> bytes:
    """struct sockaddr_in."""
    return struct.pack("=HH4s8x", family, 0, socket.inet_aton(addr))


def ifr(name: str, data: bytes = b"") -> bytes:
    """struct ifreq."""
    return struct.pack("16s24s", name.encode(), data)


def integer(value: int) -> bytes:
    return struct.pack("=i", value)


def hw(addr: bytes, kind: int = 1) -> bytes:
    """struct sockaddr with a hardware address."""
    return struct.pack("=H14s", kind, addr)


def rtentry(
    dst: str,
    mask: str = "0.0.0.0",
    gateway: str = "0.0.0.0",
    flags: int = RTF_UP,
    dev: Any = None,
    metric: int = 0,
    family: int = socket.AF_INET,
    mask_family: int = socket.AF_INET,
) -> bytes:
    """struct rtentry; `dev` is a ctypes string, which has to live as long."""
    return struct.pack(
        "@L16s16s16sHhLPhPLLH6x",
        *(0, sin(dst, family), sin(gateway), sin(mask, mask_family), flags, 0, 0, 0, metric),
        *(ctypes.addressof(dev) if dev is not None else 0, 0, 0, 0),
    )


def arp(addr: str, mac: bytes = b"", flags: int = 0, dev: str = "eth0", kind: int = 1) -> bytes:
    """struct arpreq."""
    family = socket.AF_INET if addr else 0
    return struct.pack(
        "=16s16si16s16s", sin(addr or "0.0.0.0", family), hw(mac, kind), flags, b"", dev.encode()
    )


def rtmsg(dst: str, plen: int, gateway: str = "::", flags: int = RTF_UP, dev: int = 0) -> bytes:
    """struct in6_rtmsg."""
    a, g = (socket.inet_pton(socket.AF_INET6, x) for x in (dst, gateway))
    return struct.pack("@16s16s16sIHHILIi", a, bytes(16), g, 0, plen, 0, 0, 0, flags, dev)


def in6(addr: str, plen: int, dev: int) -> bytes:
    """struct in6_ifreq."""
    return struct.pack("=16sIi", socket.inet_pton(socket.AF_INET6, addr), plen, dev)


def interfaces() -> Iterator[tuple[str, int, Any]]:
    """(kind of socket, request, argument)."""
    for what in ("inet", "inet6", "unix", "packet"):
        for request in (GIFFLAGS, GIFMTU, GIFINDEX, GIFTXQLEN, GIFMETRIC, GIFMAP, GIFHWADDR):
            yield what, request, ifr("eth0")
            yield what, request, ifr("none")
        yield what, GIFHWADDR, ifr("lo")
        yield what, GIFFLAGS, ifr("lo")
        yield what, GIFNAME, ifr("", integer(2))
        yield what, GIFNAME, ifr("", integer(77))
        yield what, GIFADDR, ifr("eth0")
        yield what, SIFADDR, ifr("none", sin("10.1.2.3"))
        for request in (GIFMEM, SIFMEM, SIFLINK, GIFSLAVE, 0x89FF, 0x8905 + 0x700):
            yield what, request, ifr("eth0")
    # Up, down, its MTU, queue, address and name.
    yield "inet", SIFFLAGS, ifr("eth0", struct.pack("=H", UP))
    yield "unix", GIFFLAGS, ifr("eth0")
    yield "packet", SIFFLAGS, ifr("eth0", struct.pack("=H", UP | 0x1000 | 0x100))
    yield "inet", GIFFLAGS, ifr("eth0:any")
    yield "unix", SIFFLAGS, ifr("eth0", struct.pack("=H", 0x1000))
    yield "inet6", GIFFLAGS, ifr("eth0")
    for mtu in (1400, 60, -1, 1500):
        yield "inet", SIFMTU, ifr("eth0", integer(mtu))
        yield "inet", GIFMTU, ifr("eth0")
    for length in (10, -1, 1000):
        yield "inet", SIFTXQLEN, ifr("eth0", integer(length))
        yield "inet", GIFTXQLEN, ifr("eth0")
    for address in (hw(b"\2\0\0\0\0\7"), hw(b"\2\0\0\0\0\7", 5), hw(b"\1\0\0\0\0\7")):
        yield "inet", SIFHWADDR, ifr("eth0", address)
        yield "inet", GIFHWADDR, ifr("eth0")
    yield "inet", SIFHWBROADCAST, ifr("eth0", hw(b"\xff" * 6, 5))
    yield "inet", SIFHWBROADCAST, ifr("eth0", hw(b"\xff" * 6))
    for request in (ADDMULTI, ADDMULTI, DELMULTI, DELMULTI, DELMULTI):
        yield "inet", request, ifr("eth0", hw(b"\1\0\x5e\1\2\3", 0))
    yield "inet", ADDMULTI, ifr("eth0", hw(b"\1\0\x5e\1\2\3", 1))
    for request in (SIFMETRIC, SIFMAP):
        yield "inet", request, ifr("eth0", integer(1))
    for name in ("", "lo", "a/b", "wan0", "with:colon"):
        yield "inet", SIFNAME, ifr("eth0", name.encode())
    yield "inet", GIFINDEX, ifr("wan0")
    yield "inet", SIFNAME, ifr("wan0", b"eth0")


def addresses() -> Iterator[tuple[str, int, Any]]:
    asked = (GIFADDR, GIFNETMASK, GIFBRDADDR, GIFDSTADDR)
    yield "inet", SIFFLAGS, ifr("eth0", struct.pack("=H", UP | 0x1000))
    for address in ("10.1.2.3", "172.16.0.1", "192.168.7.7", "224.0.0.1", "250.1.1.1"):
        yield "inet", SIFADDR, ifr("eth0", sin(address))
        for request in asked:
            yield "inet", request, ifr("eth0")
    yield "inet", SIFADDR, ifr("eth0", sin("10.1.2.3", 7))
    yield "inet", SIFADDR, ifr("eth0", sin("10.1.2.3"))
    for mask in ("255.255.255.0", "255.0.255.0", "255.255.255.0", "255.255.255.254"):
        yield "packet", SIFNETMASK, ifr("eth0", sin(mask))
        for request in asked:
            yield "packet", request, ifr("eth0")
    for request, address in (
        (SIFBRDADDR, "10.1.2.9"),
        (SIFNETMASK, "255.255.0.0"),
        (SIFDSTADDR, "10.1.77.77"),
        (SIFDSTADDR, "224.1.1.1"),
    ):
        yield "inet", request, ifr("eth0", sin(address))
        for question in asked:
            yield "inet", question, ifr("eth0")
    # Aliases, and which of two addresses is meant.
    yield "inet", SIFADDR, ifr("eth0:1", sin("10.9.9.9"))
    yield "inet", SIFADDR, ifr("eth0:2", sin("10.9.9.10"))
    for name in ("eth0", "eth0:1", "eth0:2", "eth0:3", "none", "lo"):
        for request in asked:
            yield "inet", request, ifr(name)
            yield "inet", request, ifr(name, sin("10.9.9.10"))
    for size in (0, 39, 40, 80, 4000, None):
        yield "inet", GIFCONF, size
        yield "unix", GIFCONF, size
    yield "inet", SIFFLAGS, ifr("eth0:1", struct.pack("=H", 0))
    yield "inet", SIFFLAGS, ifr("eth0:7", struct.pack("=H", 0))
    yield "inet", GIFCONF, 4000
    yield "inet", SIFADDR, ifr("eth0", sin("0.0.0.0"))
    yield "inet", GIFADDR, ifr("eth0")
    yield "inet", GIFCONF, 4000
    for what in ("inet", "inet6"):
        yield what, SIFBRDADDR, ifr("none", sin("1.2.3.4"))


def routes() -> Iterator[tuple[str, int, Any]]:
    dev, alias, none = (ctypes.create_string_buffer(x) for x in (b"eth0", b"eth0:1", b"none"))
    yield "inet", SIFFLAGS, ifr("eth0", struct.pack("=H", UP | 0x1000))
    yield "inet", SIFADDR, ifr("eth0", sin("10.1.2.3"))
    gateway = {"gateway": "10.1.2.254", "flags": RTF_UP | RTF_GATEWAY}
    for request in (ADDRT, ADDRT, DELRT, DELRT):
        yield "inet", request, rtentry("192.0.2.0", "255.255.255.0", **gateway)
        yield "inet", request, rtentry("0.0.0.0", "0.0.0.0", **gateway, mask_family=0)
        yield "inet", request, rtentry("198.51.100.7", flags=RTF_UP | RTF_HOST, dev=dev)
        yield "inet", request, rtentry("203.0.113.0", "255.255.255.0", dev=dev, metric=5)
        yield "inet", request, rtentry("203.0.113.0", "255.255.255.128", flags=RTF_REJECT)
        yield "packet", request, rtentry("192.0.2.0", "255.255.254.0", dev=none)
        yield "inet", request, rtentry("192.0.2.0", "255.255.254.0", dev=alias)
        yield "inet", request, rtentry("192.0.2.0", "255.255.254.0", flags=RTF_GATEWAY)
        yield "inet", request, rtentry("192.0.2.1", "255.255.255.0", dev=dev)
        yield "inet", request, rtentry("192.0.2.0", "255.0.255.0", dev=dev)
        yield "inet", request, rtentry("192.0.2.0", "255.255.255.0", family=9)
        yield "inet", request, rtentry("192.0.2.0", "255.255.255.0", mask_family=9)
        yield "unix", request, rtentry("192.0.2.0", "255.255.255.0", dev=dev)
        far = {"gateway": "203.0.113.99", "flags": RTF_UP | RTF_GATEWAY}
        yield "inet", request, rtentry("198.18.0.0", "255.254.0.0", **far)


def neighbours() -> Iterator[tuple[str, int, Any]]:
    com, perm, netmask = 2, 4, 0x20
    yield "inet", SIFFLAGS, ifr("eth0", struct.pack("=H", UP | 0x1000))
    yield "inet", SIFADDR, ifr("eth0", sin("10.1.2.3"))
    mac = b"\2\0\0\0\0\x99"
    yield "inet", GARP, arp("10.1.2.9")
    yield "inet", SARP, arp("10.1.2.9", mac, com | perm)
    yield "inet", GARP, arp("10.1.2.9")
    yield "packet", GARP, arp("10.1.2.9")
    yield "inet", GARP, arp("10.1.2.9", dev="")
    yield "inet", GARP, arp("10.1.2.9", dev="none")
    yield "inet", SARP, arp("10.1.2.10", mac, com, dev="")
    yield "inet", GARP, arp("10.1.2.10")
    yield "inet", SARP, arp("10.1.2.11", mac, com, kind=5)
    yield "inet", SARP, arp("10.1.2.11", mac, com, kind=0)
    yield "inet", SARP, arp("10.1.2.12", mac, com | netmask)
    yield "inet", SARP, arp("", mac, com)
    yield "inet", SARP, arp("192.0.2.1", mac, com, dev="")
    for request in (DARP, GARP, DARP):
        yield "inet", request, arp("10.1.2.9")
    yield "inet6", GARP, arp("10.1.2.9")


def six() -> Iterator[tuple[str, int, Any]]:
    yield "inet6", SIFFLAGS, ifr("eth0", struct.pack("=H", UP | 0x1000))
    yield "inet6", SIFADDR, in6("2001:db8::5", 64, 2)
    yield "inet6", SIFADDR, in6("2001:db8::5", 64, 2)
    yield "inet6", SIFADDR, in6("2001:db8::6", 129, 2)
    yield "inet6", SIFADDR, in6("2001:db8::6", 64, 77)
    yield "inet6", SIFDSTADDR, in6("2001:db8::6", 64, 2)
    for request in (ADDRT, ADDRT, DELRT, DELRT):
        yield "inet6", request, rtmsg("2001:db8:1::", 48, dev=2)
        yield "inet6", request, rtmsg("2001:db8:2::", 48, "2001:db8::99", RTF_UP | RTF_GATEWAY)
        yield "inet6", request, rtmsg("2001:db8:3::", 48, dev=77)
        yield "inet6", request, rtmsg("2001:db8:4::", 130, dev=2)
        yield "inet6", request, rtmsg("2001:db8:5::", 48, "2001:dead::1", RTF_UP | RTF_GATEWAY)
    for address in ("2001:db8::5", "2001:db8::5"):
        yield "inet6", DIFADDR, in6(address, 64, 2)
    yield "inet6", DIFADDR, in6("2001:db8::5", 64, 77)


PROGRAMS = {f.__name__: f for f in (interfaces, addresses, routes, neighbours, six)}


def ifconf(sock: Any, ioctl: Ioctl, size: int | None) -> list[Any]:
    """SIOCGIFCONF with room for `size` bytes, None: a null pointer."""
    room = ctypes.create_string_buffer(max(size or 0, 1))
    address = 0 if size is None else ctypes.addressof(room)
    answer = ioctl(sock, GIFCONF, struct.pack("@iP", size or 0, address))
    return [struct.unpack_from("=i", answer)[0], room.raw[: size or 0].rstrip(b"\0").hex()]


def run(name: str, sockets: dict[str, Any], ioctl: Ioctl) -> list[Any]:
    """The answers of a program: the struct as hexadecimal digits, or an errno's name."""
    answers: list[Any] = []
    for what, request, arg in PROGRAMS[name]():
        step = [what, f"{request:#x}", arg.hex() if isinstance(arg, bytes) else arg]
        if isinstance(arg, bytes) and request in (ADDRT, DELRT) and what != "inet6":
            step[2] = arg[:88].hex()  # without the address of the name
        try:
            if isinstance(arg, bytes):
                data = bytearray(ioctl(sockets[what], request, arg))
                if request == GIFFLAGS:
                    data[16] &= ~0x40  # IFF_RUNNING comes a little later
                answer: Any = data.hex()
                if request in (ADDRT, DELRT):
                    answer = "done"
            else:
                answer = ifconf(sockets[what], ioctl, arg)
        except OSError as error:
            answer = errno.errorcode.get(error.errno or 0, str(error.errno))
        answers.append([*step, answer])
    return answers


if __name__ == "__main__":
    import sys

    made = {
        "inet": socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "inet6": socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
        "unix": socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
        "packet": socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    }
    print(json.dumps(run(sys.argv[1], made, fcntl.ioctl)))
