"""A table of NETLINK_SOCK_DIAG requests, what `ss` asks, to the kernel and to a host: same answers.

Both have the same sockets of each family. Compared are errno, text and place of each error, and of
each socket what is told of it but for what a world chooses: inodes, cookies, timers, memory.
"""

from __future__ import annotations

import socket as stdlib
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import product
from typing import Any

import pytest

from e1000emu.clock import VirtualClock
from stack.host import Host
from tests.stack.netlink.requests import ACK, DUMP, REQUEST, Request, attr
from tests.stack.netlink.table import TYPE_MASK, compared, sides, walk
from tests.stack.packet.kernelnet import KernelNet
from tests.support import require

pytestmark = pytest.mark.netns

SOCK_DIAG, BY_FAMILY, DESTROY = 4, 20, 21
TCP_MD5SIG = 14
TCP, UDP, RAW, LEFT = 6, 17, 255, 5010
ALL = 0xFFFFFFFF
NOCOOKIE = (1 << 64) - 1
WRONG_COOKIE = 1 << 60  # a kernel counts from 1: the first socket that it is asked about has that
ASK, EVERY = REQUEST | ACK, REQUEST | DUMP
LOOP = b"\x7f\0\0\1"

# --- requests -------------------------------------------------------------------------------------


def inet(
    family: int = 2,
    protocol: int = TCP,
    ext: int = 0,
    states: int = ALL,
    ports: tuple[int, int] = (0, 0),
    ends: tuple[bytes, bytes] = (b"", b""),
    dev: int = 0,
    cookie: int = NOCOOKIE,
) -> bytes:
    """struct inet_diag_req_v2."""
    head = struct.pack("=BBBBI", family, protocol, ext, 0, states)
    who = struct.pack(">HH16s16s", *ports, *(one.ljust(16, b"\0") for one in ends))
    return head + who + struct.pack("=IQ", dev, cookie)


def op(code: int, yes: int, no: int) -> bytes:
    """struct inet_diag_bc_op."""
    return struct.pack("=BBH", code, yes, no)


def where(family: int, bits: int, port: int, addr: bytes) -> bytes:
    """struct inet_diag_hostcond."""
    return struct.pack("=BBxxi", family, bits, port) + addr


PORT = op(0, 0, LEFT)
FILTERS: dict[str, bytes] = {
    "empty": b"",
    "jump": op(1, 4, 4),
    "jump out": op(1, 4, 8),
    "jump far": op(1, 4, 400),
    "jump to itself": op(1, 4, 0),
    "nop": op(0, 4, 0),
    "nop jumps": op(0, 8, 8),
    "unknown": op(13, 4, 8),
    "unknown 200": op(200, 4, 8),
    "cgroup": op(13, 16, 20) + bytes(12),
    "half an op": b"\1\4",
    "three bytes": b"\1\4\0",
    "odd": op(1, 5, 8) + b"\0",
    "auto": op(6, 4, 8),
    **{f"port {code}": op(code, 8, 12) + PORT for code in (2, 3, 4, 5, 11, 12)},
    **{f"port {code} is cut": op(code, 8, 12) for code in (2, 5, 12)},
    **{f"port {code} is short": op(code, 4, 8) for code in (2, 5, 12)},
    "not a port": op(11, 8, 16) + PORT + op(1, 4, 8),
    "two ports": op(2, 8, 20) + PORT + op(3, 8, 12) + PORT,
    "into an op": op(2, 8, 12) + PORT + op(3, 8, 4) + PORT,
    "device": op(9, 8, 12) + struct.pack("=I", 1),
    "no device": op(9, 8, 12) + struct.pack("=I", 0),
    "device is cut": op(9, 8, 12),
    "mark": op(10, 12, 16) + struct.pack("=II", 7, 7),
    "no mark": op(10, 12, 16) + struct.pack("=II", 0, 7),
    "mark is cut": op(10, 12, 16) + bytes(4),
    **{
        f"{'source' if code == 7 else 'destination'} {family} /{bits} port {port}": op(
            code, 12 + len(addr), 16 + len(addr)
        )
        + where(family, bits, port, addr)
        for code, (family, addr), bits, port in product(
            (7, 8),
            ((2, LOOP), (10, bytes(15) + b"\1"), (0, b""), (2, b""), (10, LOOP), (7, LOOP)),
            (0, 8, 32, 33, 128, 129, 255),
            (-1, LEFT, 5001),
        )
    },
    "condition is cut": op(7, 12, 16) + bytes(4),
}


def inets() -> Iterator[Request]:
    """Sockets of both families."""
    for family, protocol in product((2, 10), (TCP, UDP, RAW, 0, 132, 136, 1, 58, 200)):
        for flags, what in ((EVERY, "dump"), (ASK, "get")):
            for ext in (0, 0xFF, 0x10, 0x20, 0x40, 0x01):
                name = f"inet {what} {family} {protocol} extensions {ext:#x}"
                yield Request(name, BY_FAMILY, flags, inet(family, protocol, ext))
            for states in (0, 1, 2, 1 << 10, 1 << 7, 1 << 1 | 1 << 10, 0xFFF, 1 << 31):
                body = inet(family, protocol, 0, states)
                yield Request(
                    f"inet {what} {family} {protocol} {states:#x}", BY_FAMILY, flags, body
                )
    for (name, code), family, protocol in product(FILTERS.items(), (2, 10), (TCP, UDP)):
        body = inet(family, protocol) + attr(1, code)
        yield Request(f"inet filter {name} {family} {protocol}", BY_FAMILY, EVERY, body)
    for name, code in FILTERS.items():
        yield Request(f"inet one filter {name}", BY_FAMILY, ASK, inet() + attr(1, code))
    any6 = bytes(16)
    for protocol, ports, ends, family in product(
        (TCP, UDP),
        (
            (5001, 0),
            (0, 0),
            (5002, 0),
            (5003, 0),
            (LEFT, 5001),
            (5001, LEFT),
            (5003, 9),
            (0, 5003),
            (9, 5003),
        ),
        ((b"", b""), (LOOP, LOOP), (LOOP, b""), (any6, any6), (b"\n\0\0\1", b"\n\0\0\2")),
        (2, 10),
    ):
        for dev, cookie in ((0, NOCOOKIE), (1, NOCOOKIE), (99, NOCOOKIE), (0, WRONG_COOKIE)):
            body = inet(family, protocol, 0xFF, ALL, ports, ends, dev, cookie)
            name = f"inet one {family} {protocol} {ports} {ends} {dev} {cookie:#x}"
            yield Request(name, BY_FAMILY, ASK, body)
    for ports in ((LEFT, 5001), (5001, LEFT), (LEFT, 0), (0, 5001), (0, 0)):
        for family, protocol in product((2, 10), (TCP, UDP)):
            body = inet(family, protocol, 0, ALL, ports)
            yield Request(f"inet dump {family} {protocol} ports {ports}", BY_FAMILY, EVERY, body)
    good = inet()
    for cut in range(0, len(good), 3):
        for flags in (ASK, EVERY):
            yield Request(f"inet cut at {cut} {flags:#x}", BY_FAMILY, flags, good[:cut])
    for protocol, tail in product(
        (TCP, UDP, 0),
        (
            attr(3, struct.pack("=I", UDP)),
            attr(3, b"\x11"),
            attr(2, b""),
            attr(9, b"1234"),
            b"\1\2",
        ),
    ):
        body = inet(2, protocol) + tail
        for flags in (ASK, EVERY):
            name = f"inet attribute {protocol} {tail.hex()} {flags:#x}"
            yield Request(name, BY_FAMILY, flags, body)
    for family, protocol, ports in product((2, 10), (TCP, UDP, RAW, 9), ((77, 0), (0, 0), (1, 2))):
        body = inet(family, protocol, 0, ALL, ports)
        yield Request(f"inet destroy {family} {protocol} {ports}", DESTROY, ASK, body)


def others() -> Iterator[Request]:
    """Sockets of the other families, and families that have none."""
    unix = struct.Struct("=BBHIIIQ")
    for states, show, protocol in product((0, 2, 1 << 7, 1 << 10, ALL), (0, 0x41, 0x7F), (0, 1)):
        body = unix.pack(1, protocol, 0, states, 0, show, NOCOOKIE)
        yield Request(f"unix dump {states:#x} {show:#x} {protocol}", BY_FAMILY, EVERY, body)
        yield Request(f"unix one {states:#x} {show:#x} {protocol}", BY_FAMILY, ASK, body)
    for show in range(8):
        body = unix.pack(1, 0, 0, ALL, 0, 1 << show, NOCOOKIE)
        yield Request(f"unix dump show {show}", BY_FAMILY, EVERY, body)
    for inode, cookie in product((0, 1, ALL), (0, NOCOOKIE)):
        body = unix.pack(1, 0, 0, ALL, inode, 0, cookie)
        yield Request(f"unix inode {inode} {cookie:#x}", BY_FAMILY, ASK, body)
        yield Request(f"unix destroy {inode} {cookie:#x}", DESTROY, ASK, body)
    short = struct.Struct("=BBHIIQ")
    for family, what in ((17, "packet"), (16, "netlink")):
        for show, protocol in product((0, 1, 2, 4, 8, 0x10, 0x20, 0x3F), (0, 1, 4, 200, 255)):
            body = short.pack(family, protocol, 0, 0, show, NOCOOKIE)
            yield Request(f"{what} dump {show:#x} {protocol}", BY_FAMILY, EVERY, body)
            yield Request(f"{what} one {show:#x} {protocol}", BY_FAMILY, ASK, body)
            yield Request(f"{what} destroy {show:#x} {protocol}", DESTROY, ASK, body)
    for family, size in ((1, 24), (17, 20), (16, 20)):
        for cut, flags, kind in product(range(2, size, 2), (ASK, EVERY), (BY_FAMILY, DESTROY)):
            body = bytes([family]) + bytes(cut - 1)
            yield Request(f"family {family} cut at {cut} {kind} {flags:#x}", kind, flags, body)
    for family, flags, kind in product(
        (0, 3, 4, 9, 38, 40, 44, 45, 46, 47, 255), (ASK, EVERY), (BY_FAMILY, DESTROY)
    ):
        body = bytes([family, TCP]) + bytes(70)
        yield Request(f"family {family} {kind} {flags:#x}", kind, flags, body)
    for kind, size in product((14, 15, 16, 17, 19, 22, 23, 100), (0, 1, 2, 4, 56)):
        body = b"\2\6".ljust(size, b"\0")[:size]
        yield Request(f"kind {kind} of {size}", kind, ASK, body)


# --- answers --------------------------------------------------------------------------------------

HEADS = {1: (16, slice(0, 4)), 17: (16, slice(0, 4)), 16: (32, slice(0, 4))}
"""By family: bytes of the structure, and which are compared: not inode, cookie and port number."""
LEFT_OUT: dict[tuple[int, int], str] = {
    **{(family, 1): "memory" for family in (2, 10)},
    **{(family, 2): "struct tcp_info: times and counts" for family in (2, 10)},
    **{(family, 7): "memory" for family in (2, 10)},
    **{(family, 17): "classes of network: not told here" for family in (2, 10)},
    **{(family, 21): "control groups: not told here" for family in (2, 10)},
    **{(family, 22): "struct inet_diag_sockopt: not told here" for family in (2, 10)},
    (1, 1): "the inode of a file",
    (1, 2): "the inode of the peer",
    (1, 5): "memory",
    (17, 6): "memory",
    (16, 0): "memory",
}
"""By family and number: why an attribute is not compared."""


def plain(kind: int, flags: int, payload: bytes) -> Any:
    """A socket without what a world chooses."""
    family = payload[0]
    if family in HEADS:
        size, shown = HEADS[family]
        head = payload[shown]
    else:
        size, head = 72, payload[:2] + payload[4:44] + payload[56:68]
    attrs = [
        (number, value)
        for number, value in walk(payload, size)
        if (family, number & TYPE_MASK) not in LEFT_OUT
    ]
    return kind, flags, head, *attrs


def open_all(stack: ExitStack, make: Any) -> None:
    """The sockets that both worlds have. `make(family, type, protocol)` opens one."""

    def opened(family: int, kind: int, proto: int = 0) -> Any:
        sock = stack.enter_context(make(family, kind, proto))
        if family in (stdlib.AF_INET, stdlib.AF_INET6) and kind == stdlib.SOCK_STREAM:
            sock.setsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_CONGESTION, b"reno")
        return sock

    tcp = opened(stdlib.AF_INET, stdlib.SOCK_STREAM)
    tcp.bind(("0.0.0.0", 5001))
    for addr, key in (("10.0.0.7", b"of seven"), ("10.0.0.8", b"of eight")):
        who = struct.pack("=H2x4s120x", stdlib.AF_INET, stdlib.inet_aton(addr))
        value = who + struct.pack("=BBHi80s", 0, 0, len(key), 0, key)
        tcp.setsockopt(stdlib.IPPROTO_TCP, TCP_MD5SIG, value)
    tcp.listen(7)
    tcp6 = opened(stdlib.AF_INET6, stdlib.SOCK_STREAM)
    tcp6.setsockopt(stdlib.IPPROTO_IPV6, stdlib.IPV6_V6ONLY, 1)
    tcp6.bind(("::", 5002))
    tcp6.listen(3)
    udp = opened(stdlib.AF_INET, stdlib.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 5003))
    udp6 = opened(stdlib.AF_INET6, stdlib.SOCK_DGRAM)
    udp6.bind(("::1", 5003))
    udp6.connect(("::1", 9))
    raw = opened(stdlib.AF_INET, stdlib.SOCK_RAW, stdlib.IPPROTO_ICMP)
    raw.bind(("127.0.0.1", 0))
    client = opened(stdlib.AF_INET, stdlib.SOCK_STREAM)
    client.bind(("127.0.0.1", LEFT))
    client.connect(("127.0.0.1", 5001))
    stack.enter_context(tcp.accept()[0])
    unix = opened(stdlib.AF_UNIX, stdlib.SOCK_STREAM)
    unix.bind("\0diag")
    unix.listen(2)
    opened(stdlib.AF_UNIX, stdlib.SOCK_DGRAM).bind("\0diag2")
    opened(stdlib.AF_PACKET, stdlib.SOCK_RAW, 0)


@pytest.fixture
def kernel() -> Iterator[KernelNet]:
    require.netns()
    net = KernelNet()
    with ExitStack() as stack:
        open_all(stack, net.socket)
        yield net
    net.close()


@pytest.fixture
def host() -> Iterator[Host]:
    with Host("h", clock=VirtualClock()) as host, ExitStack() as stack:
        open_all(stack, host.socket)
        yield host


DIFFERENCES: dict[str, dict[str, str]] = {
    "inet": {
        r"inet dump \d+ 136 .*": "there is no UDP-Lite here; Linux has it before 7.0",
        r"inet (dump|get) \d+ 255 .*": "the kernel may be built without raw_diag",
    },
    "others": {
        r"netlink dump \w+ (0|4|255)": "the kernel has sockets of its own there",
    },
}


@pytest.mark.parametrize("family", DIFFERENCES)
def test_requests_of_a_family(kernel: KernelNet, host: Host, family: str) -> None:
    theirs, ours = sides(kernel, host, SOCK_DIAG, plain, ordered=False)
    rows = inets() if family == "inet" else others()
    assert compared(theirs, ours, rows, DIFFERENCES[family]) > 400
