"""A table of netlink requests to the kernel of this machine and to a host: the same answers.

Compared byte for byte are the errno, the text and the place of each error, and of each answer its
command and every attribute. What a world chooses by itself (ports, sequence numbers, numbers of
connections) is taken out. `GENERIC_DIFFERENCES` and its like name each request that is answered
otherwise, with the reason. One that differs no more fails the test too. test_route_table.py and
test_diag_table.py have the tables of NETLINK_ROUTE and NETLINK_SOCK_DIAG.
"""

from __future__ import annotations

import socket as stdlib
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from e1000emu.clock import VirtualClock
from stack.core.ethtool_names import ETH_SS_COUNT
from stack.host import Host
from stack.netlink import ct_attrs, ethnl_attrs, genetlink
from stack.netlink.ctnetlink import fill_tuple
from stack.netlink.nlattr import AttrTable
from stack.netlink.tcp_metrics_nl import TCP_METRICS
from tests.stack.netlink.requests import ACK, DUMP, HDR, REQUEST, Request, attr, attributes
from tests.stack.netlink.table import TYPE_MASK, Side, compared, sides, walk
from tests.stack.packet.kernelnet import KernelNet
from tests.support import require

pytestmark = pytest.mark.netns

NESTED = 1 << 15
GENERIC, NETFILTER, CTRL = 16, 12, 16
LEAST = 2000
MAX = int(Path("/proc/sys/net/netfilter/nf_conntrack_max").read_text())

# --- requests -----------------------------------------------------------------------------------


def named(name: str = "v0", flags: int | None = None, index: int | None = None) -> bytes:
    """A header of the ethtool family."""
    inner = b"" if index is None else attr(1, struct.pack("=I", index))
    inner += attr(2, name.encode() + b"\0") if name else b""
    inner += attr(3, struct.pack("=I", flags)) if flags is not None else b""
    return attr(1 | NESTED, inner)


HEADERS = {
    "none": b"",
    "empty": attr(1 | NESTED, b""),
    "not nested": attr(1, attr(2, b"v0\0")),
    "name": named(),
    "compact": named(flags=1),
    "no reply": named(flags=2),
    "statistics": named(flags=4),
    "unknown flags": named(flags=8),
    "lo": named("lo"),
    "no such name": named("v9"),
    "long name": named("v" * 200),
    "no NUL": attr(1 | NESTED, attr(2, b"v0")),
    "no such index": named("", index=99),
    "index": named("", index=1),
    "index and name": named("v0", index=1),
    "index of 2 bytes": attr(1 | NESTED, attr(1, b"\1\0")),
    "unknown attribute": attr(1 | NESTED, attr(2, b"v0\0") + attr(9, b"1234")),
    "cut off": attr(1 | NESTED, b"\7"),
    "too long": struct.pack("=HH", 99, 1 | NESTED) + attr(2, b"v0\0"),
    "twice": named("v9") + named(),
    "and bytes behind": named() + b"\1\2",
}
ETHTOOL: dict[int, AttrTable] = {
    1: ethnl_attrs.STRSET,
    3: ethnl_attrs.LINKINFO,
    5: ethnl_attrs.LINKMODES,
    8: ethnl_attrs.DEBUG,
    10: ethnl_attrs.WOL,
    12: ethnl_attrs.FEATURES,
    16: ethnl_attrs.RINGS,
    20: ethnl_attrs.COALESCE,
    21: ethnl_attrs.PAUSE_GET,
    22: ethnl_attrs.PAUSE,
    24: ethnl_attrs.EEE,
    32: ethnl_attrs.STATS,
}
"""Requests with attributes beside the header."""
GETS = (1, 2, 4, 6, 7, 9, 11, 13, 15, 19, 21, 23, 25, 29, 32, 33)


def command(cmd: int, version: int = 1, reserved: int = 0) -> bytes:
    return genetlink.GENLMSGHDR.pack(cmd, version, reserved)


def bitset(size: int | None, value: bytes | None, mask: bytes | None, *more: bytes) -> bytes:
    """The inside of a set of bits."""
    found = b"" if size is None else attr(2, struct.pack("=I", size))
    found += b"" if value is None else attr(4, value)
    found += b"" if mask is None else attr(5, mask)
    return found + b"".join(more)


def bit(*attrs: bytes) -> bytes:
    return attr(3 | NESTED, attr(1 | NESTED, b"".join(attrs)))


INDEX, NAME, VALUE = attr(1, b"\0\0\0\0"), attr(2, b"tx-scatter-gather\0"), attr(3, b"")
BITSETS = {
    "nothing": b"",
    "compact": bitset(64, bytes(8), bytes(8)),
    "no size": bitset(None, bytes(8), bytes(8)),
    "no value": bitset(64, None, bytes(8)),
    "no mask": bitset(64, bytes(8), None),
    "a list": bitset(64, bytes(8), None, attr(1, b"")),
    "a list with a mask": bitset(64, bytes(8), bytes(8), attr(1, b"")),
    "a short value": bitset(64, bytes(4), bytes(8)),
    "a short mask": bitset(64, bytes(8), bytes(4)),
    "of 0 bits": bitset(0, b"", b""),
    "of 70000 bits": bitset(70000, bytes(8752), bytes(8752)),
    "longer": bitset(96, bytes(12), bytes(12)),
    "longer, of more": bitset(96, b"\1" * 12, b"\1" * 12),
    "shorter": bitset(32, bytes(4), bytes(4)),
    "an index": bitset(None, None, None, bit(INDEX)),
    "a name": bitset(None, None, None, bit(NAME)),
    "both": bitset(None, None, None, bit(INDEX, NAME, VALUE)),
    "neither": bitset(None, None, None, bit(VALUE)),
    "that disagree": bitset(None, None, None, bit(attr(1, b"\5\0\0\0"), NAME)),
    "high": bitset(None, None, None, bit(attr(1, b"\0\1\0\0"))),
    "no such name": bitset(None, None, None, bit(attr(2, b"nothing\0"))),
    "of both kinds": bitset(None, bytes(8), None, bit(INDEX)),
    "with another attribute": bitset(None, None, None, attr(3 | NESTED, attr(2, b"1234"))),
    "with an attribute too many": bitset(None, None, None, bit(INDEX, attr(7, b"1234"))),
}


def ethtool() -> Iterator[Request]:
    """Headers, attributes and sets of bits, right and wrong, of each command."""
    for cmd in range(1, 35):
        for name, header in HEADERS.items():
            body = command(cmd) + header
            yield Request(f"ethtool {cmd} header {name}", 0, REQUEST | ACK, body)
            if cmd in GETS and name not in ("name", "lo"):
                yield Request(f"ethtool {cmd} dump {name}", 0, REQUEST | ACK | DUMP, body)
    for cmd, table in ETHTOOL.items():
        for header in (b"", named()):
            what = f"ethtool {cmd} {'with' if header else 'without'} header"
            yield from attributes(what, 0, REQUEST | ACK, command(cmd) + header, table)
    for cmd, number in ((12, 3), (32, 3), (8, 2), (10, 2), (5, 3)):
        for name, inside in BITSETS.items():
            body = command(cmd) + named() + attr(number | NESTED, inside)
            yield Request(f"ethtool {cmd} bits {name}", 0, REQUEST | ACK, body)
    for number in (*range(ETH_SS_COUNT + 2), 99):
        inside = attr(1 | NESTED, attr(1, struct.pack("=I", number)))
        for header in (b"", named(), named("lo")):
            body = command(1) + header + attr(2 | NESTED, inside)
            yield Request(f"ethtool strings {number} {len(header)}", 0, REQUEST | ACK, body)
            body += attr(3, b"")
            yield Request(f"ethtool strings {number} {len(header)}", 0, REQUEST | ACK, body)
    for cut in range(1, 4):
        yield Request(f"ethtool cut at {cut}", 0, REQUEST | ACK, command(2)[:cut])
    yield Request("ethtool reserved", 0, REQUEST | ACK, command(2, 1, 7) + named())
    yield Request("ethtool version 9", 0, REQUEST | ACK, command(2, 9) + named())


def controller() -> Iterator[Request]:
    """The controller: families by number and name, policies."""
    for cmd in (0, 3, 10, 11, 200):
        what = f"controller {cmd}"
        for flags in (REQUEST | ACK, REQUEST | ACK | DUMP):
            if (cmd, flags) == (3, REQUEST | ACK | DUMP):
                continue  # all families of the kernel
            for name in (b"nlctrl\0", b"nlctrl", b"nothere\0", b"x" * 16 + b"\0", b"\0"):
                yield Request(f"{what} {name!r}", CTRL, flags, command(cmd, 2) + attr(2, name))
            for number in (b"\x10\0", b"\x10", b"\0\0", b"\xff\xff", b"\x10\0\0\0"):
                body = command(cmd, 2) + attr(1, number)
                yield Request(f"{what} id {number.hex()}", CTRL, flags, body)
            yield Request(what, CTRL, flags, command(cmd, 2))
            for op in (0, 3, 10, 99):
                body = command(cmd, 2) + attr(2, b"nlctrl\0") + attr(10, struct.pack("=I", op))
                yield Request(f"{what} op {op}", CTRL, flags, body)
            if flags == REQUEST | ACK:
                yield from attributes(what, CTRL, flags, command(cmd, 2), genetlink.CTRL)
    for kind in (18, 99, 1000):
        yield Request(f"family {kind}", kind, REQUEST | ACK, command(1))


def tcp_metrics() -> Iterator[Request]:
    """What is remembered of peers: of none, of addresses that are right and wrong; the policies."""
    for cmd in (0, 1, 2, 3):
        for flags in (REQUEST | ACK, REQUEST | ACK | DUMP):
            what = f"tcp_metrics {cmd} {flags:#x}"
            yield Request(what, 0, flags, command(cmd, 1))
            yield from attributes(what, 0, flags, command(cmd, 1), TCP_METRICS)
    for op in (None, 1, 2, 9):
        body = command(10, 2) + attr(2, b"tcp_metrics\0")
        body += b"" if op is None else attr(10, struct.pack("=I", op))
        yield Request(f"tcp_metrics policy {op}", CTRL, REQUEST | DUMP, body)
    yield Request("tcp_metrics family", CTRL, REQUEST, command(3, 2) + attr(2, b"tcp_metrics\0"))


def tuple_of(reply: bool = False, proto: int = 17, port: int = 5) -> bytes:
    """A tuple of a connection, of the network order."""
    a, b, sport, dport = 0x0A010101, 0x0A010102, port, 6
    found = (2, proto, b, dport, a, sport) if reply else (2, proto, a, sport, b, dport)
    return ct_attrs.CTA.build({"CTA_TUPLE_REPLY" if reply else "CTA_TUPLE_ORIG": fill_tuple(found)})


def conntrack() -> Iterator[Request]:
    """Messages of conntrack, in an order in which they make, change and delete connections."""
    timeout = attr(7, struct.pack(">I", 1000))
    status = attr(3, struct.pack(">I", 8))
    new, change = REQUEST | ACK | 0x600, REQUEST | ACK | 0x400
    for proto in (6, 17, 1, 58, 47, 136):
        both = tuple_of(False, proto) + tuple_of(True, proto)
        for tail_name, tail in (
            ("", b""),
            ("timeout", timeout),
            ("again", timeout),
            ("mark", timeout + attr(8, b"\0\0\0\7")),
        ):
            for flags in (REQUEST | ACK, new, change):
                body = ct_attrs.NFGENMSG.pack(2, 0, 0) + both + status + tail
                yield Request(f"conntrack new {proto} {tail_name} {flags:#x}", 0x100, flags, body)
        for kind, name in ((0x101, "get"), (0x103, "zero")):
            for family in (0, 2, 10, 7):
                for what, body in (
                    ("original", tuple_of(False, proto)),
                    ("reply", tuple_of(True, proto)),
                    ("another", tuple_of(False, proto, 99)),
                ):
                    head = ct_attrs.NFGENMSG.pack(family, 0, 0)
                    yield Request(
                        f"conntrack {name} {proto} {what} family {family}",
                        kind,
                        REQUEST | ACK,
                        head + body,
                    )
    for kind in (0x100, 0x101, 0x102):
        flags = change if kind == 0x100 else REQUEST | ACK
        what = f"conntrack {kind:#x}"
        for row in ct_attrs.CTA.by_number.values():
            for size in (0, 1, 2, 3, 4, 8):
                body = ct_attrs.NFGENMSG.pack(2, 0, 0) + tuple_of(port=77)
                body += attr(row.number, b"\1" * size)
                yield Request(f"{what} {row.name} of {size}", kind, flags, body)
        for name, body in broken_tuples():
            head = ct_attrs.NFGENMSG.pack(2, 0, 0)
            yield Request(f"{what} tuple {name}", kind, flags, head + body)
    for kind in range(0x100, 0x10C):
        for cut in range(4):
            body = bytes(cut)
            yield Request(f"conntrack {kind:#x} cut at {cut}", kind, REQUEST | ACK, body)
    for bits in (8, 0, 1, 0x200, 0xE, 8):
        body = ct_attrs.NFGENMSG.pack(2, 0, 0) + tuple_of() + attr(3, struct.pack(">I", bits))
        yield Request(f"conntrack status {bits:#x}", 0x100, change, body)
    for flags in (REQUEST | ACK, REQUEST | ACK | DUMP):
        for kind in (0x105, 0x106, 0x107, 0x108, 0x1FF, 0x201, 0x2FF, 0x4FF, 0xD00, 0x10):
            yield Request(f"netfilter {kind:#x} {flags:#x}", kind, flags, bytes(4))
    filters = {
        "nothing": b"",
        "mark": attr(8, b"\0\0\0\7"),
        "mark and mask": attr(8, b"\0\0\0\1") + attr(21, b"\0\0\0\1"),
        "mask": attr(21, b"\0\0\0\1"),
        "status": attr(3, b"\0\0\0\x08"),
        "status mask": attr(26, b"\0\0\0\1"),
        "both masks": attr(3, b"\0\0\0\x08") + attr(26, b"\0\0\0\x0a"),
    }
    for family in (0, 2, 10, 7):
        for name, body in filters.items():
            head = ct_attrs.NFGENMSG.pack(family, 0, 0)
            flags = REQUEST | DUMP
            yield Request(f"conntrack dump {name} family {family}", 0x101, flags, head + body)
    for proto in (6, 17, 1, 17):
        body = ct_attrs.NFGENMSG.pack(2, 0, 0) + tuple_of(proto=proto)
        yield Request(f"conntrack delete {proto}", 0x102, REQUEST | ACK, body)
    yield Request("conntrack flush", 0x102, REQUEST | ACK, bytes(4))
    yield Request("conntrack dump of none", 0x101, REQUEST | DUMP, bytes(4))


def broken_tuples() -> Iterator[tuple[str, bytes]]:
    """Tuples without a part, or with parts that are cut."""
    ip = attr(1 | NESTED, attr(1, b"\n\1\1\1") + attr(2, b"\n\1\1\2"))
    proto = attr(2 | NESTED, attr(1, b"\x11") + attr(2, b"\0\5") + attr(3, b"\0\6"))
    for name, inside in {
        "empty": b"",
        "of addresses": ip,
        "of a protocol": proto,
        "with one address": attr(1 | NESTED, attr(1, b"\n\1\1\1")) + proto,
        "with a short address": attr(1 | NESTED, attr(1, b"\n\1") + attr(2, b"\n\1\1\2")) + proto,
        "without ports": ip + attr(2 | NESTED, attr(1, b"\x11")),
        "without a number": ip + attr(2 | NESTED, attr(2, b"\0\5")),
        "with a short port": ip + attr(2 | NESTED, attr(1, b"\x11") + attr(2, b"\5")),
        "that is whole": ip + proto,
        "not nested inside": attr(1, attr(1, b"\n\1\1\1") + attr(2, b"\n\1\1\2")) + proto,
        "cut": (ip + proto)[:-3],
        "with an unknown part": ip + proto + attr(9, b"1234"),
    }.items():
        yield name, attr(1 | NESTED, inside)
        yield f"{name}, without the mark of nesting", attr(1, inside)


# --- answers ------------------------------------------------------------------------------------


def generic_family(side: Side, name: str) -> int:
    """The number of a family in a world."""
    body = command(3, 2) + attr(2, name.encode() + b"\0")
    (told,) = side.messages(Request("", CTRL, REQUEST, body))
    found = genetlink.CTRL.parse(told, HDR.size + 4)
    return int.from_bytes(found["CTRL_ATTR_FAMILY_ID"].to_bytes(2, "big"), "big")


class Generic(Side):
    """A socket of NETLINK_GENERIC: a request of type 0 is for the family."""

    def __init__(self, sock: Any, family: str) -> None:
        super().__init__(sock, self.shown)
        self.family = generic_family(self, family)

    def messages(self, request: Request) -> list[bytes]:
        kind = request.type or self.family
        return super().messages(replace(request, type=kind))

    def shown(self, kind: int, flags: int, payload: bytes) -> Any:
        payload = payload.replace(attr(1, struct.pack("=H", self.family)), attr(1, b"\0\0"))
        return "family" if kind == self.family else kind, flags, payload


def generic(kernel: KernelNet, host: Host, family: str) -> tuple[Generic, Generic]:
    """Sockets of both worlds."""
    theirs = kernel.call(stdlib.socket, stdlib.AF_NETLINK, stdlib.SOCK_RAW, GENERIC)
    ours = host.socket(stdlib.AF_NETLINK, stdlib.SOCK_RAW, GENERIC)
    return Generic(theirs, family), Generic(ours, family)


def connection(kind: int, flags: int, payload: bytes) -> Any:
    """A connection but for its number, references, time left and SYNPROXY."""
    attrs = [one for one in walk(payload, 4) if one[0] & TYPE_MASK not in (7, 11, 12, 24)]
    return kind, payload[:4], *attrs


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelNet]:
    require.netns()
    require.tool("ip", "iproute2")
    net = KernelNet()
    net.run("ip link add v0 type veth peer name v1", "ip link set v0 up", "ip link set v1 up")
    net.run("sysctl -qw net.netfilter.nf_conntrack_acct=1")
    yield net
    net.close()


@pytest.fixture
def host() -> Iterator[Host]:
    knobs = {"net.netfilter.nf_conntrack_acct": 1, "net.netfilter.nf_conntrack_max": MAX}
    with Host("h", clock=VirtualClock(), sysctl=knobs) as host:
        host.add_veth("v0", "v1", up=True)
        host.ifconfig("v1", up=True)
        host.wait_carrier("v0")
        yield host


FEATURES = "which offloads a veth has differs, and those of newer protocols are not here"
STRINGS = "the kernel's veth counts what XDP did, too"
LEFTOVER = "Linux tells of bytes left over even where it takes them; the errno is the same"
GENERIC_DIFFERENCES = {
    r"ethtool 1 (header|dump) .*": STRINGS,
    r"ethtool 1 with header .*": STRINGS,
    r"ethtool strings 1 .*": STRINGS,
    r"ethtool 11 .*": FEATURES,
    r"ethtool 32 dump none": "Linux gives a dump's missing attribute a text, that of an empty set",
    r"ethtool (17|18) .*": "the kernel's veth has channels",
    r"ethtool (26|27|28) .*": "no tests of cables, no tunnels that are offloaded",
    r"ethtool 22 .* STATS_SRC .*": "what SET does not take has no policy here",
    r"ethtool 20 .* [RT]X_PROFILE .*": "no driver here has profiles: they are not read",
    r"ethtool 25 dump .*": "this dump alone is of the interface in its header",
    r"controller 3 (one byte behind|length 3|length 0|too long)": LEFTOVER,
}
TCP_METRICS_DIFFERENCES = {
    r"tcp_metrics [12] 0x5 (one byte behind|length 3|length 0|too long)": LEFTOVER,
}
CONNTRACK_DIFFERENCES = {
    r"conntrack \w+ tuple with a short .*": "no text is told of what is nested; the errno is same",
    r"conntrack 0x102 CTA_FILTER of [048]": "a filter beside a tuple is not read here",
}
"""Patterns of the names of requests -> why the answers are not the same."""


def test_generic_requests(kernel: KernelNet, host: Host) -> None:
    rows = (*controller(), *ethtool())
    theirs, ours = generic(kernel, host, "ethtool")
    assert compared(theirs, ours, rows, GENERIC_DIFFERENCES) >= LEAST


def test_requests_of_tcp_metrics(kernel: KernelNet, host: Host) -> None:
    theirs, ours = generic(kernel, host, "tcp_metrics")
    assert compared(theirs, ours, tuple(tcp_metrics()), TCP_METRICS_DIFFERENCES) >= 900


def test_conntrack_requests(kernel: KernelNet, host: Host) -> None:
    theirs, ours = sides(kernel, host, NETFILTER, connection, ordered=False)
    assert compared(theirs, ours, conntrack(), CONNTRACK_DIFFERENCES) >= LEAST // 10
