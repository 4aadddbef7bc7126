"""Requests of NETLINK_ROUTE that make, ask for, change and delete, right and wrong, by group.

test_route_table.py calls GROUPS. Each group begins in the same state: lo, v1 with index 2, v0 with
index 3, 10.0.0.1/24 at v0. They are sent in order, so that a request meets what those before it
left. Behind each lot of changes the objects are dumped.
"""

from __future__ import annotations

import socket as stdlib
import struct
from collections.abc import Iterator
from itertools import product

from stack.netlink.rt_attrs import BR_MDB_ENTRY, IFADDRMSG, NDMSG, NHMSG, RTMSG
from tests.stack.netlink.requests import (
    ACK,
    ADDR,
    CREATE,
    DUMP,
    EXCL,
    LINK,
    NEIGH,
    REPLACE,
    REQUEST,
    ROUTE,
    RULE,
    Request,
    attr,
)

NEXTHOP = 104
SETNEIGHTBL = 67
V0, V1, LO, NONE = 3, 2, 1, 99
APPEND = 0x800
NEW, DEL, GET = 0, 1, 2
ASK, MAKE, TAKE = REQUEST | ACK, REQUEST | ACK | CREATE | EXCL, REQUEST | ACK | CREATE | REPLACE
HOW = {
    "new": (NEW, MAKE),
    "replace": (NEW, TAKE),
    "append": (NEW, REQUEST | ACK | CREATE | APPEND),
    "change": (NEW, REQUEST | ACK | REPLACE),
    "neither": (NEW, REQUEST | ACK),
    "del": (DEL, ASK),
    "get": (GET, ASK),
}
NESTED = 1 << 15
BULK = 0x200
BR0, BR1, BRIDGE_MAC = 4, 5, "0200000000b0"


def ip(text: str) -> bytes:
    """An address as bytes."""
    return stdlib.inet_pton(stdlib.AF_INET6 if ":" in text else stdlib.AF_INET, text)


def u32(value: int) -> bytes:
    return struct.pack("=I", value)


def dumps(what: str, group: int, head: bytes) -> Iterator[Request]:
    """All objects, for old and for strict programs."""
    for strict in (False, True):
        yield Request(f"{what} dump", group + GET, REQUEST | ACK | DUMP, head, strict)


# --- addresses ------------------------------------------------------------------------------------


def addresses() -> Iterator[Request]:
    """Addresses of both families."""
    for family, local, other, lengths in (
        (2, "10.2.0.1", "10.2.0.9", (24, 32, 0, 33, 200)),
        (10, "fd01::1", "fd01::9", (64, 128, 0, 129, 200)),
    ):
        parts = {
            "local": attr(2, ip(local)),
            "address": attr(1, ip(local)),
            "both": attr(2, ip(local)) + attr(1, ip(local)),
            "peer": attr(2, ip(local)) + attr(1, ip(other)),
            "none": b"",
            "zero": attr(2, bytes(len(ip(local)))),
            "short": attr(2, b"\n\0"),
            "multicast": attr(2, b"\xe0\0\0\1" if family == 2 else b"\xff\2" + bytes(13) + b"\5"),
        }
        tails = {
            "": b"",
            "lifetimes": attr(6, struct.pack("=IIII", 100, 200, 0, 0)),
            "no life": attr(6, struct.pack("=IIII", 0, 0, 0, 0)),
            "wrong lives": attr(6, struct.pack("=IIII", 200, 100, 0, 0)),
            "label": attr(3, b"v0:1\0"),
            "metric": attr(9, u32(7)),
        }
        for how, length in product(("new", "new", "change", "del", "del"), lengths):
            step, flags = HOW[how]
            for (part, data), index in product(parts.items(), (V0, V1, NONE, 0)):
                head = IFADDRMSG.pack(family, length, 0, 0, index)
                name = f"addr {how} {family} {part}/{length} dev {index}"
                yield Request(name, ADDR + step, flags, head + data)
            yield from dumps(f"addr {family}", ADDR, IFADDRMSG.pack(family, 0, 0, 0, 0))
        for (tail, more), how in product(tails.items(), ("new", "change", "get", "del")):
            step, flags = HOW[how]
            head = IFADDRMSG.pack(family, lengths[0], 0, 0, V0)
            yield Request(
                f"addr {how} {family} {tail}", ADDR + step, flags, head + parts["both"] + more
            )
            yield from dumps(f"addr {family} {tail}", ADDR, IFADDRMSG.pack(family, 0, 0, 0, 0))
        for flag, scope in product((0, 0x01, 0x02, 0x80), (0, 200, 253, 254, 255)):
            for how in ("new", "del"):
                step, flags = HOW[how]
                head = IFADDRMSG.pack(family, lengths[0], flag, scope, V0)
                name = f"addr {how} {family} flags {flag} scope {scope}"
                yield Request(name, ADDR + step, flags, head + parts["both"])
                if how == "new":
                    head = IFADDRMSG.pack(family, 0, 0, 0, V0)
                    yield from dumps(f"addr {family} of v0 {scope}", ADDR, head)
    for index in (V0, V1, LO, NONE):
        yield from dumps(f"addr of {index}", ADDR, IFADDRMSG.pack(0, 0, 0, 0, index))


# --- neighbours -----------------------------------------------------------------------------------


def neighbours() -> Iterator[Request]:
    """Neighbours and proxies of both families."""
    macs = {
        "": b"",
        "mac": attr(2, b"\2\0\0\0\0\7"),
        "short": attr(2, b"\2\0"),
        "zero": attr(2, b""),
    }
    for family, host in ((2, "10.0.0.7"), (10, "fd02::7")):
        dst = {
            "good": attr(1, ip(host)),
            "none": b"",
            "short": attr(1, ip(host)[:3]),
            "long": attr(1, ip(host) + b"\0\0"),
            "group": attr(1, b"\xe0\0\0\1" if family == 2 else b"\xff\2" + bytes(14)),
            "any": attr(1, bytes(len(ip(host)))),
        }
        for how in ("new", "new", "replace", "change", "neither", "get", "del", "del", "get"):
            step, flags = HOW[how]
            for (what, data), (mac, lladdr), index in product(
                dst.items(), macs.items(), (V0, NONE, 0)
            ):
                head = NDMSG.pack(family, 0, 0, index, 0 if step == GET else 0x80, 0, 0)
                name = f"neigh {how} {family} {what} {mac} dev {index}"
                yield Request(name, NEIGH + step, flags, head + data + lladdr)
            yield from dumps(f"neigh {family}", NEIGH, NDMSG.pack(family, 0, 0, 0, 0, 0, 0))
        for how, index in product(("new", "new", "get", "del", "del", "get"), (V0, 0, NONE)):
            step, flags = HOW[how]
            for what, data in dst.items():
                head = NDMSG.pack(family, 0, 0, index, 0, 8, 0)
                name = f"neigh {how} {family} proxy {what} dev {index}"
                yield Request(name, NEIGH + step, flags, head + data)
            yield from dumps(f"neigh {family} proxies", NEIGH, NDMSG.pack(family, 0, 0, 0, 0, 8, 0))
        for state in (0, 1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80, 0xC0, 0x100):
            for how in ("replace", "del"):
                step, flags = HOW[how]
                head = NDMSG.pack(family, 0, 0, V1, state, 0, 0)
                name = f"neigh {how} {family} state {state:#x}"
                yield Request(name, NEIGH + step, flags, head + dst["good"] + macs["mac"])
                if how == "replace" and state in (0x40, 0x80, 0xC0):
                    head = NDMSG.pack(family, 0, 0, 0, 0, 0, 0)
                    yield from dumps(f"neigh {family} state {state:#x}", NEIGH, head)
    for family, index in product((0, 7, 1, 200), (V0, 0)):
        head = NDMSG.pack(family, 0, 0, index, 0x80, 0, 0)
        for how in ("new", "get", "del"):
            step, flags = HOW[how]
            name = f"neigh {how} family {family} dev {index}"
            yield Request(name, NEIGH + step, flags, head + attr(1, b"\n\0\0\7"))
    for what, tail in (
        ("v0", attr(8, u32(V0))),
        ("none", attr(8, u32(NONE))),
        ("master", attr(9, u32(5))),
    ):
        yield from dumps(f"neigh of {what}", NEIGH, NDMSG.pack(0, 0, 0, 0, 0, 0, 0) + tail)


def neighbour_tables() -> Iterator[Request]:
    """RTM_SETNEIGHTBL: tables, interfaces, and each parameter in each length."""
    tables = {"arp": attr(1, b"arp_cache\0"), "other": attr(1, b"none\0"), "no": b""}
    for family, (table, name), index in product((0, 2, 10, 7), tables.items(), (None, V0, NONE)):
        place = attr(1, u32(index)) if index is not None else b""
        body = struct.pack("=Bxxx", family) + name + attr(6, place + attr(9, u32(0)))
        yield Request(f"{table} of {family} dev {index}", SETNEIGHTBL, ASK, body)
    for number, size in product(range(1, 20), (0, 1, 4, 8, 12)):
        parms = attr(1, u32(V0)) + attr(number, (3).to_bytes(size, "little") if size else b"")
        body = struct.pack("=Bxxx", 2) + tables["arp"] + attr(6, parms)
        yield Request(f"parameter {number} of {size} bytes", SETNEIGHTBL, ASK, body)
    for size in (0, 1, 3, 4):
        yield Request(f"a header of {size} bytes", SETNEIGHTBL, ASK, bytes(size))


# --- routes ---------------------------------------------------------------------------------------


def rtmsg(family: int, length: int, table: int = 254, kind: int = 1, scope: int = 0) -> bytes:
    return RTMSG.pack(family, length, 0, 0, table, 3, scope, kind, 0)


def hops(*each: tuple[int, int, bytes]) -> bytes:
    """RTA_MULTIPATH of (index, weight - 1, attributes)."""
    found = b""
    for index, weight, inner in each:
        found += struct.pack("=HBBi", 8 + len(inner), 0, weight, index) + inner
    return attr(9, found)


def routes() -> Iterator[Request]:
    """Routes of both families."""
    for family, to, gw, far, me in (
        (2, "10.9.0.0", "10.0.0.9", "10.77.0.1", "10.0.0.1"),
        (10, "fd09::", "fd00::9", "fd77::1", "fd00::1"),
    ):
        size = 24 if family == 2 else 64
        head = IFADDRMSG.pack(10, 64, 2, 0, V0)
        yield Request("route address", ADDR, MAKE, head + attr(2, ip("fd00::1")))
        dst = attr(1, ip(to))
        via, oif = attr(5, ip(gw)), attr(4, u32(V0))
        where = {
            "via": via,
            "dev": oif,
            "via dev": via + oif,
            "far": attr(5, ip(far)),
            "far dev": attr(5, ip(far)) + oif,
            "own": attr(5, ip(me)) + oif,
            "none": b"",
            "no dev": attr(4, u32(NONE)),
            "other dev": via + attr(4, u32(V1)),
            "short via": attr(5, b"\n\0") + oif,
            "src": oif + attr(7, ip(me)),
            "wrong src": oif + attr(7, ip(far)),
            "metric": oif + attr(6, u32(5)),
            "table": oif + attr(15, u32(77)),
            "big table": oif + attr(15, u32(7777)),
            "mtu": oif + attr(8, attr(2, u32(1300))),
            "metrics": oif + attr(8, attr(2, u32(1300)) + attr(8, u32(500)) + attr(7, u32(9))),
            "all metrics": oif
            + attr(
                8, b"".join(attr(n, u32(300 - n)) for n in range(17, 0, -1) if n not in (12, 16))
            ),
            "no feature": oif + attr(8, attr(12, u32(32))),
            "features": oif + attr(8, attr(12, u32(9))),
            "wrong metric": oif + attr(8, attr(99, u32(1))),
            "short metric": oif + attr(8, attr(2, b"\1")),
            "congestion": oif + attr(8, attr(16, b"cubic\0")),
            "no congestion": oif + attr(8, attr(16, b"nothere\0")),
            "two": hops((V0, 0, via), (V1, 2, b"")),
            "one of many": hops((V0, 0, via)),
            "hop of no dev": hops((NONE, 0, via)),
            "hop too long": attr(9, struct.pack("=HBBi", 99, 0, 0, V0)),
            "hop cut": attr(9, b"\x08\0\0"),
            "object": attr(30, u32(5)),
            "object and dev": attr(30, u32(5)) + oif,
            "inet6": attr(18, b"\n\0" + ip("fd00::9")) + oif,
            "encap": oif + attr(21, b"\1\0"),
            "pref": oif + attr(20, b"\1"),
            "wrong pref": oif + attr(20, b"\7"),
            "mark": oif + attr(16, u32(1)),
        }
        ways = ("new", "new", "replace", "append", "change", "neither", "del", "del")
        for (what, tail), how in product(where.items(), ways):
            step, flags = HOW[how]
            body = rtmsg(family, size) + dst + tail
            yield Request(f"route {how} {family} {what}", ROUTE + step, flags, body)
            if how in ("append", "neither"):
                yield from dumps(
                    f"route {family} {what}", ROUTE, rtmsg(family, 0, 0, 0)[:1] + bytes(11)
                )
        for kind, scope in product(range(13), (0, 200, 253, 254, 255)):
            for how, (what, tail) in product(
                ("new", "del"), (("dev", oif), ("", b""), ("via", via))
            ):
                step, flags = HOW[how]
                body = rtmsg(family, size, 254, kind, scope) + dst + tail
                name = f"route {how} {family} type {kind} scope {scope} {what}"
                yield Request(name, ROUTE + step, flags, body)
            yield from dumps(f"route {family} type {kind}", ROUTE, bytes([family]) + bytes(11))
        for length, bits in product((0, 1, 8, 24, 31, 32, 33, 64, 127, 128, 129, 255), (to, me)):
            for how in ("new", "del"):
                step, flags = HOW[how]
                body = rtmsg(family, length) + attr(1, ip(bits)) + oif
                yield Request(f"route {how} {family} {bits}/{length}", ROUTE + step, flags, body)
        for flag in (1, 2, 4, 8, 16, 0x20, 0x100, 0x200, 0x400, 0x800, 0x10000):
            body = RTMSG.pack(family, size, 0, 0, 254, 3, 0, 1, flag) + dst + via + oif
            for how in ("new", "del"):
                step, flags = HOW[how]
                yield Request(f"route {how} {family} flag {flag:#x}", ROUTE + step, flags, body)
        yield from looked_up(family, gw, far, me)
        for field, tail in (
            ("table 77", attr(15, u32(77))),
            ("no table", attr(15, u32(12345))),
            ("v0", oif),
        ):
            head = bytes([family]) + bytes(11)
            yield from dumps(f"route {family} of {field}", ROUTE, head + tail)


def looked_up(family: int, gw: str, far: str, me: str) -> Iterator[Request]:
    """`ip route get`."""
    full = 32 if family == 2 else 128
    tails = {
        "": b"",
        "oif": attr(4, u32(V0)),
        "other oif": attr(4, u32(V1)),
        "no oif": attr(4, u32(NONE)),
        "iif": attr(3, u32(V0)),
        "no iif": attr(3, u32(NONE)),
        "mark": attr(16, u32(7)),
        "uid": attr(25, u32(0)),
        "ports": attr(27, b"\x06") + attr(28, b"\0\7") + attr(29, b"\0\x08"),
        "protocol": attr(27, b"\x63"),
        "gateway": attr(5, ip(gw)),
    }
    loop = "127.0.0.1" if family == 2 else "::1"
    for to, (what, tail), strict in product((gw, far, me, loop), tails.items(), (False, True)):
        for flag in (0, 0x1000, 0x2000):
            head = RTMSG.pack(family, full, 0, 0, 0, 0, 0, 0, flag)
            name = f"route get {family} {to} {what} {flag:#x}"
            yield Request(name, ROUTE + GET, ASK, head + attr(1, ip(to)) + tail, strict)


# --- rules ----------------------------------------------------------------------------------------


def rules() -> Iterator[Request]:
    """Rules of both families."""
    for family, src in ((2, "10.9.0.0"), (10, "fd09::")):
        full = 8 * len(ip(src))
        tails = {
            "table": attr(15, u32(77)),
            "priority": attr(6, u32(100)) + attr(15, u32(77)),
            "iif": attr(3, b"v0\0") + attr(15, u32(77)),
            "oif": attr(17, b"v0\0") + attr(15, u32(77)),
            "no dev": attr(3, b"v9\0") + attr(15, u32(77)),
            "mark": attr(10, u32(5)) + attr(15, u32(77)),
            "mark and mask": attr(10, u32(5)) + attr(16, u32(15)) + attr(15, u32(77)),
            "ports": attr(23, struct.pack("=HH", 5, 9)) + attr(15, u32(77)),
            "wrong ports": attr(23, struct.pack("=HH", 9, 5)) + attr(15, u32(77)),
            "no port": attr(24, struct.pack("=HH", 0, 5)) + attr(15, u32(77)),
            "uids": attr(20, struct.pack("=II", 5, 9)) + attr(15, u32(77)),
            "wrong uids": attr(20, struct.pack("=II", 9, 5)) + attr(15, u32(77)),
            "protocol": attr(22, b"\x06") + attr(15, u32(77)),
            "suppress": attr(14, u32(0)) + attr(15, u32(254)),
            "group": attr(13, u32(3)) + attr(15, u32(254)),
            "l3mdev": attr(19, b"\1"),
            "wrong l3mdev": attr(19, b"\2"),
            "l3mdev and table": attr(19, b"\1") + attr(15, u32(77)),
            "tunnel": attr(12, struct.pack(">Q", 5)) + attr(15, u32(77)),
            "goto": attr(4, u32(40000)),
            "backward": attr(4, u32(5)) + attr(6, u32(100)),
            "origin": attr(21, b"\4") + attr(15, u32(77)),
            "source": attr(2, ip(src)) + attr(15, u32(77)),
            "short source": attr(2, b"\n") + attr(15, u32(77)),
            "no table": b"",
        }
        ways = ("new", "new", "del", "del")
        for (what, tail), action, length, how in product(
            tails.items(), (0, 1, 2, 6, 9), (0, 24, full, full + 1), ways
        ):
            if length and what not in ("source", "short source", "table"):
                continue
            step, flags = HOW[how]
            head = RTMSG.pack(family, 0, length, 0, 0, 0, 0, action, 0)
            name = f"rule {how} {family} {what} action {action} /{length}"
            yield Request(name, RULE + step, flags, head + tail)
            if how == "new":
                yield from dumps(f"rule {family} {what}", RULE, bytes([family]) + bytes(11))
        for tos, flag in product((0, 4, 3, 0x1C), (0, 2)):
            for how in ("new", "del"):
                step, flags = HOW[how]
                head = RTMSG.pack(family, 0, 0, tos, 50, 0, 0, 1, flag)
                name = f"rule {how} {family} tos {tos} flag {flag}"
                yield Request(name, RULE + step, flags, head)
                yield from dumps(
                    f"rule {family} tos {tos} {flag}", RULE, bytes([family]) + bytes(11)
                )
        for how in ("new", "del", "new", "del"):
            step, flags = HOW[how]
            head = RTMSG.pack(family, 0, 0, 0, 50, 0, 0, 1, 1)
            yield Request(f"rule {how} {family} permanent", RULE + step, flags, head)


# --- next hops as objects -------------------------------------------------------------------------


def nexthops() -> Iterator[Request]:
    """Objects of `ip nexthop`."""
    head6 = IFADDRMSG.pack(10, 64, 2, 0, V0)
    yield Request("nexthop address", ADDR, MAKE, head6 + attr(2, ip("fd00::1")))
    oif = attr(5, u32(V0))
    member = struct.Struct("=IBBH")
    kinds: dict[str, tuple[int, bytes]] = {
        "dev": (2, oif),
        "via": (2, oif + attr(6, ip("10.0.0.9"))),
        "far": (2, oif + attr(6, ip("10.77.0.9"))),
        "via alone": (2, attr(6, ip("10.0.0.9"))),
        "short via": (2, oif + attr(6, b"\n\0")),
        "dev6": (10, oif),
        "via6": (10, oif + attr(6, ip("fd00::9"))),
        "via of 4": (10, oif + attr(6, ip("10.0.0.9"))),
        "blackhole": (2, attr(4, b"")),
        "blackhole6": (10, attr(4, b"")),
        "blackhole dev": (2, attr(4, b"") + oif),
        "no dev": (2, attr(5, u32(NONE))),
        "dev 0": (2, attr(5, u32(0))),
        "lo": (2, attr(5, u32(LO))),
        "nothing": (2, b""),
        "no family": (0, oif),
        "family 7": (7, oif),
        "group": (0, attr(2, member.pack(1, 0, 0, 0))),
        "group of 2": (0, attr(2, member.pack(1, 0, 0, 0) + member.pack(2, 5, 0, 0))),
        "group twice": (0, attr(2, member.pack(1, 0, 0, 0) * 2)),
        "group of none": (0, attr(2, b"")),
        "group of another": (0, attr(2, member.pack(99, 0, 0, 0))),
        "group odd": (0, attr(2, member.pack(1, 0, 0, 0)[:5])),
        "group reserved": (0, attr(2, member.pack(1, 0, 0, 7))),
        "group weight": (0, attr(2, member.pack(1, 255, 255, 0))),
        "group family": (2, attr(2, member.pack(1, 0, 0, 0))),
        "group dev": (0, attr(2, member.pack(1, 0, 0, 0)) + oif),
        "group type": (0, attr(2, member.pack(1, 0, 0, 0)) + attr(3, b"\1\0")),
        "group type 5": (0, attr(2, member.pack(1, 0, 0, 0)) + attr(3, b"\5\0")),
        "fdb": (2, attr(11, b"") + attr(6, ip("10.0.0.9"))),
        "fdb dev": (2, attr(11, b"") + oif),
        "encap": (2, oif + attr(7, b"\1\0")),
        "encap alone": (2, oif + attr(8 | NESTED, b"")),
        "statistics": (2, oif + attr(16, u32(1))),
        "unknown": (2, oif + attr(40, u32(1))),
        "reserved": (2, oif + attr(15, u32(1))),
    }
    for nhid in (1, 2):
        head = NHMSG.pack(2, 0, 4, 0, 0)
        body = head + attr(1, u32(nhid)) + oif + attr(6, ip(f"10.0.0.{9 + nhid}"))
        yield Request(f"nexthop first {nhid}", NEXTHOP, MAKE, body)
    ways = ("new", "new", "replace", "change", "neither", "get", "del", "del", "get")
    for (what, (family, tail)), how in product(kinds.items(), ways):
        step, flags = HOW[how]
        head = NHMSG.pack(family if step == NEW else 0, 0, 4 if step == NEW else 0, 0, 0)
        body = head + attr(1, u32(9)) + (tail if step == NEW else b"")
        yield Request(f"nexthop {how} {what}", NEXTHOP + step, flags, body)
        if how in ("new", "replace"):
            yield from dumps(f"nexthop {what}", NEXTHOP, NHMSG.pack(0, 0, 0, 0, 0))
    for scope, reserved, flag in product((0, 253), (0, 1), (0, 1, 4, 16)):
        for how in ("new", "get", "del"):
            step, flags = HOW[how]
            head = NHMSG.pack(2, scope, 4, reserved, flag)
            body = head + attr(1, u32(9)) + (kinds["via"][1] if step == NEW else b"")
            name = f"nexthop {how} scope {scope} reserved {reserved} flag {flag}"
            yield Request(name, NEXTHOP + step, flags, body)
    filters = {
        "dev": oif,
        "no dev": attr(5, u32(NONE)),
        "dev 0": attr(5, u32(0)),
        "groups": attr(9, b""),
        "master": attr(10, u32(5)),
        "fdb": attr(11, b""),
        "id": attr(1, u32(1)),
        "unknown": attr(40, u32(1)),
    }
    for what, tail in filters.items():
        yield from dumps(f"nexthop of {what}", NEXTHOP, NHMSG.pack(0, 0, 0, 0, 0) + tail)
    for how in ("get", "del"):
        step, flags = HOW[how]
        for what, tail in (
            ("no id", b""),
            ("id 0", attr(1, u32(0))),
            ("id 77", attr(1, u32(77))),
            ("short id", attr(1, b"\1")),
            ("id and dev", attr(1, u32(1)) + oif),
        ):
            body = NHMSG.pack(0, 0, 0, 0, 0) + tail
            yield Request(f"nexthop {how} {what}", NEXTHOP + step, flags, body)


# --- settings, counters, groups of bridges, queueing ----------------------------------------------

QDISC, CLASS, FILTER, NETCONF, MDB, STATS, CHAIN = 36, 40, 44, 80, 84, 92, 100
ADDRLABEL = 72


def settings() -> Iterator[Request]:
    """RTM_GETNETCONF of all, and of one, which is not served."""
    for family, tail in product((0, 2, 10, 7), (b"", attr(1, u32(V0)), attr(9, u32(V0)), b"\1")):
        head = bytes([family, 0, 0, 0])
        yield from dumps(f"netconf {family} {tail.hex()}", NETCONF, head + tail)
    for cut, strict in product(range(1, 4), (False, True)):
        flags = REQUEST | ACK | DUMP
        yield Request(f"netconf cut at {cut}", NETCONF + GET, flags, bytes(cut), strict)


def labels() -> Iterator[Request]:
    """RTM_NEWADDRLABEL, RTM_DELADDRLABEL, RTM_GETADDRLABEL."""
    head = struct.Struct("=BxBBII")
    wanted = {
        f"{prefix} {label}": attr(1, ip(prefix)) + attr(2, u32(label))
        for prefix in ("2001:db8::1", "2001::1", "::ffff:10.0.0.1", "::1", "::1.2.3.4", "::")
        for label in (7, 0xFFFFFFFF)
    }
    wanted |= {
        "no address": attr(2, u32(7)),
        "no label": attr(1, ip("2001::")),
        "of IPv4": attr(1, ip("10.0.0.1")) + attr(2, u32(7)),
        "short label": attr(1, ip("2001::")) + attr(2, b"\1"),
        "nothing": b"",
    }
    for how, plen, index in product(
        ("new", "new", "replace", "get", "del", "del"),
        (0, 32, 96, 97, 128, 129),
        (0, V0, NONE),
    ):
        step, flags = HOW[how]
        for (name, tail), family in product(wanted.items(), (10, 2)):
            body = head.pack(family, plen, 0, index, 0) + tail
            what = f"label {how} {family} {name}/{plen} dev {index}"
            yield Request(what, ADDRLABEL + step, flags, body)
        yield from dumps(f"label {how} {plen} {index}", ADDRLABEL, head.pack(10, 0, 0, 0, 0))
    for name, body in {
        "flags": head.pack(10, 128, 1, 0, 0) + attr(1, ip("::1")),
        "seq": head.pack(10, 128, 0, 0, 1) + attr(1, ip("::1")),
        "cut": head.pack(10, 128, 0, 0, 0)[:8],
        "a label": head.pack(10, 128, 0, 0, 0) + attr(1, ip("::1")) + attr(2, u32(1)),
        "unknown": head.pack(10, 128, 0, 0, 0) + attr(1, ip("::1")) + attr(3, u32(1)),
        "short": head.pack(10, 0, 0, 0, 0) + b"\1",
    }.items():
        for strict in (True,) if name == "short" else (False, True):
            yield Request(f"label get {name} {strict}", ADDRLABEL + GET, ASK, body, strict)
        yield from dumps(f"label {name}", ADDRLABEL, body)
    for (name, tail), plen in product(wanted.items(), (0, 128)):
        body = head.pack(10, plen, 0, 0, 0) + tail
        yield Request(f"label get {name}/{plen} strict", ADDRLABEL + GET, ASK, body, True)


def statistics() -> Iterator[Request]:
    """RTM_GETSTATS: groups of one interface and of all, with filters right and wrong."""
    head = struct.Struct("=BBHII")
    inner = {
        "all": b"",
        "no kinds": attr(1 | NESTED, attr(4, u32(0))),
        "a kind": attr(1 | NESTED, attr(4, u32(2))),
        "another kind": attr(1 | NESTED, attr(4, u32(8))),
        "an unknown kind": attr(1 | NESTED, attr(4, u32(16))),
        "short": attr(1 | NESTED, attr(4, b"\1")),
        "not nested": attr(1, attr(4, u32(2))),
        "of other groups": attr(1 | NESTED, attr(1, u32(1))),
        "empty": attr(1 | NESTED, b""),
        "unknown": attr(3, u32(1)),
        "to be set": attr(2, b"\1"),
    }
    for (name, tail), index, mask in product(inner.items(), (V0, 0, 99), (1, 8, 25, 31, 0)):
        body = head.pack(0, 0, 0, index, mask) + tail
        yield from asked(f"stats {name} of {index} {mask}", STATS, body)
    for mask in (2, 4, 32, 64, 0xFFFFFFFF):
        yield from asked(f"stats of groups {mask:#x}", STATS, head.pack(0, 0, 0, V0, mask))
    for fields in ((7, 0, 0), (0, 1, 0), (0, 0, 1)):
        yield from asked(f"stats {fields}", STATS, head.pack(*fields, V0, 1))
    yield from asked("stats of index -1", STATS, head.pack(0, 0, 0, 0xFFFFFFFF, 1))
    yield from asked("stats cut", STATS, bytes(11))


def asked(name: str, group: int, body: bytes) -> Iterator[Request]:
    """A get and a dump of a body, each with and without strict checking."""
    for flags, strict in product((REQUEST | ACK, REQUEST | ACK | DUMP), (False, True)):
        how = "dump" if flags & DUMP else "get"
        yield Request(f"{name} {how}{' strict' * strict}", group + GET, flags, body, strict)


def queueing() -> Iterator[Request]:
    """Disciplines, classes, filters and chains: what no module of the kernel is needed for."""
    tcm = struct.Struct("=BxxxiIII")
    kinds = {
        "pfifo": attr(1, b"pfifo\0"),
        "pfifo with a limit": attr(1, b"pfifo\0") + attr(2, u32(7)),
        "bfifo short": attr(1, b"bfifo\0") + attr(2, b"\1"),
        "unknown": attr(1, b"nothere\0"),
        "none": b"",
        "empty": attr(1, b"\0"),
        "long": attr(1, b"x" * 40 + b"\0"),
        "ingress": attr(1, b"ingress\0"),
        "clsact": attr(1, b"clsact\0"),
        "noqueue": attr(1, b"noqueue\0"),
    }
    root, ingress = 0xFFFFFFFF, 0xFFFFFFF1
    places = ((root, 0), (root, 0x10000), (ingress, 0), (0x10001, 0), (0, 0), (root, 0x10001))
    ways = ("new", "new", "replace", "change", "get", "del", "del")
    for (what, tail), (parent, handle), how in product(kinds.items(), places, ways):
        step, flags = HOW[how]
        body = tcm.pack(0, V0, handle, parent, 0) + tail
        yield Request(f"qdisc {how} {what} {parent:#x} {handle:#x}", QDISC + step, flags, body)
        if how == "new":
            yield from dumps(f"qdisc {what} {parent:#x}", QDISC, tcm.pack(0, V0, 0, 0, 0))
    groups = ((QDISC, "qdisc"), (CLASS, "class"), (FILTER, "filter"), (CHAIN, "chain"))
    for (group, name), index, how in product(groups, (V0, NONE, 0), ("new", "get", "del")):
        step, flags = HOW[how]
        for parent, handle in ((0, 0), (root, 0), (0x10000, 0x10001), (ingress, 0)):
            body = tcm.pack(0, index, handle, parent, 0)
            what = f"{name} {how} of {index} {parent:#x} {handle:#x}"
            yield Request(what, group + step, flags, body)
        for cut in (1, 8, 19):
            yield Request(f"{name} {how} cut at {cut}", group + step, flags, bytes(cut))
        yield from dumps(f"{name} of {index}", group, tcm.pack(0, index, 0, root, 0))


# --- forwarding databases -------------------------------------------------------------------------


def bridges() -> Iterator[Request]:
    """br0 with the port v1, and br1."""
    ifi = struct.Struct("=BxHiII")
    kind = attr(18, attr(1, b"bridge\0"))
    named = attr(3, b"br0\0") + attr(1, bytes.fromhex(BRIDGE_MAC)) + kind
    yield Request("br0", LINK, MAKE, ifi.pack(0, 0, 0, 0, 0) + named)
    named = attr(3, b"br1\0") + attr(1, bytes.fromhex("0200000000b1")) + kind
    yield Request("br1", LINK, MAKE, ifi.pack(0, 0, 0, 1, 1) + named)
    yield Request("br0 up", LINK + 3, ASK, ifi.pack(0, 0, BR0, 1, 1))
    yield Request("v1 a port", LINK + 3, ASK, ifi.pack(0, 0, V1, 1, 1) + attr(10, u32(BR0)))


def forwarding() -> Iterator[Request]:
    """The database of a bridge with the port v1, and what interfaces receive."""
    yield from bridges()
    ifi = struct.Struct("=BxHiII")
    one, other = attr(2, bytes.fromhex("020000000107")), attr(2, bytes.fromhex("020000000108"))
    addresses = {
        "one": one,
        "group": attr(2, bytes.fromhex("333300000777")),
        "zero": attr(2, bytes(6)),
        "its own": attr(2, bytes.fromhex(BRIDGE_MAC)),
        "none": b"",
        "short": attr(2, b"\2\0"),
        "of a VLAN": one + attr(5, b"\7\0"),
        "of a wrong VLAN": one + attr(5, b"\0\0"),
        "with flags": one + attr(15, u32(0)),
    }
    places = (V1, V0, BR0, BR1, LO, NONE, 0)
    ways = ("new", "new", "replace", "change", "neither", "get", "del", "del", "get")
    dump = NDMSG.pack(7, 0, 0, 0, 0, 0, 0)
    for how, (what, mac), index in product(ways, addresses.items(), places):
        step, flags = HOW[how]
        for bits in (0, 2, 4, 6):
            for state in (0,) if step == GET else (0x80, 0x40, 0x02, 0, 0x04):
                head = NDMSG.pack(7, 0, 0, index, state, bits, 0)
                name = f"fdb {how} {what} dev {index} state {state:#x} flags {bits:#x}"
                yield Request(name, NEIGH + step, flags, head + mac)
        if index == 0:
            yield from dumps(f"fdb {what}", NEIGH, dump)
    for bits in (0x01, 0x08, 0x10, 0x14, 0x44, 0x40, 0x80, 0xC4):
        for state, how in product((0x80, 0x40, 0x02), ("replace", "get", "del")):
            step, flags = HOW[how]
            head = NDMSG.pack(7, 0, 0, V1, 0 if step == GET else state, bits, 0)
            name = f"fdb {how} state {state:#x} with {bits:#x}"
            yield Request(name, NEIGH + step, flags, head + other)
            yield Request(
                f"{name}: told", NEIGH + GET, ASK, NDMSG.pack(7, 0, 0, V1, 0, 0, 0) + other
            )
    for what, tail in (
        ("of br0", attr(9, u32(BR0)) + one),
        ("of none", attr(9, u32(NONE)) + one),
        ("of v0", attr(9, u32(V0)) + one),
        ("of nobody", attr(9, u32(0)) + one),
        ("with a number", one + attr(7, u32(7))),
        ("with a port", one + attr(6, b"\0\7")),
        ("with a host", one + attr(1, bytes(4))),
    ):
        for index, strict in product((0, V1, BR0), (False, True)):
            body = NDMSG.pack(7, 0, 0, index, 0, 0, 0) + tail
            yield Request(f"fdb get {what} dev {index}", NEIGH + GET, ASK, body, strict)
    tails = {"": b"", "br0": attr(9, u32(BR0)), "v0": attr(9, u32(V0)), "none": attr(9, u32(NONE))}
    tails |= {"br0 in a link": attr(10, u32(BR0)), "v1": attr(8, u32(V1)), "short": attr(9, b"\1")}
    for (what, tail), index, odd in product(tails.items(), (0, V1, BR0, NONE), (False, True)):
        yield from dumps(
            f"fdb of {what} {index}", NEIGH, NDMSG.pack(7, odd, 0, index, 0, 0, 0) + tail
        )
        yield from dumps(f"fdb of {what} {index}", NEIGH, ifi.pack(7, odd, index, 0, 0) + tail)
    filled = [
        (V1, 0x40, 0, one), (V1, 0x80, 0, other), (V1, 0x02, 0x10, attr(2, b"\2\0\0\0\2\1")),
        (V1, 0x40, 0x40, attr(2, b"\2\0\0\0\2\2")), (BR0, 0x80, 2, attr(2, b"\2\0\0\0\2\3")),
    ]  # fmt: skip
    wanted = {
        "all": b"",
        "of v1": attr(8, u32(V1)),
        "of br0": attr(8, u32(BR0)),
        "of v0": attr(8, u32(V0)),
        "of br1": attr(8, u32(BR1)),
        "of none": attr(8, u32(NONE)),
        "of a VLAN": attr(5, b"\7\0"),
        "of a wrong VLAN": attr(5, b"\0\0"),
        "static": attr(16, b"\x40\0"),
        "permanent or not": attr(16, b"\x80\0"),
        "sticky": attr(17, b"\x40"),
        "learned": attr(17, b"\x10"),
        "other flags": attr(17, b"\x06"),
        "with an address": one,
        "short": attr(16, b"\1"),
    }
    for (what, tail), index in product(wanted.items(), (BR0, V1, V0, NONE, 0)):
        for bits, state in product((0, 2, 4, 0x42, 0x12, 0x08), (0, 0x40, 0x80)):
            if index in (BR0, V1):
                for at, nud, flag, mac in filled:
                    head = NDMSG.pack(7, 0, 0, at, nud, flag or 4 * (at == V1), 0)
                    yield Request("fdb filled", NEIGH, TAKE, head + mac)
            name = f"fdb flush {what} dev {index} flags {bits:#x} state {state:#x}"
            body = NDMSG.pack(7, 0, 0, index, state, bits, 0) + tail
            yield Request(name, NEIGH + DEL, ASK | BULK, body)
            yield Request(f"{name}: dump", NEIGH + GET, REQUEST | ACK | DUMP, dump)


def groups() -> Iterator[Request]:
    """Multicast groups of a bridge with the port v1."""
    yield from bridges()
    order = {4: 0x0800, 16: 0x86DD, 6: 0, 2: 0x0806}
    addresses = {
        "239": ip("239.1.2.3"), "local": ip("224.0.0.5"), "unicast": ip("10.0.0.9"),
        "any": bytes(4),
        "ff05": ip("ff05::7"), "all": ip("ff02::1"), "of Ethernet": b"\1\0\x5e\x7f\0\1",
        "of a station": b"\2\0\0\0\0\1", "unknown": b"\1\2",
    }  # fmt: skip
    sources = {
        "": b"", "from 10": attr(1, ip("10.0.0.9")), "from fd00": attr(1, ip("fd00::9")),
        "from none": attr(1, b""), "from many": attr(1, bytes(17)), "protocol": attr(4, b"\x07"),
        "mode": attr(3, b"\7"), "unknown": attr(20, b"\1"),
    }  # fmt: skip
    ways = ("get", "new", "new", "get", "replace", "del", "del", "get")
    for how, (what, addr), (tail, more) in product(ways, addresses.items(), sources.items()):
        step, flags = HOW[how]
        at = struct.unpack("=H", struct.pack(">H", order[len(addr)]))[0]
        told = attr(2 | NESTED, more) if more else b""
        for index, port, state, vid in (
            (BR0, V1, 0, 0), (BR0, V1, 1, 0), (BR0, BR0, 0, 0), (BR0, BR0, 1, 0), (BR0, 0, 0, 0),
            (BR0, V0, 0, 0), (BR0, NONE, 0, 0), (V1, V1, 0, 0), (NONE, V1, 0, 0), (0, V1, 0, 0),
            (BR0, V1, 2, 0), (BR0, V1, 0, 4095), (BR0, 0, 0, 4095),
        ):  # fmt: skip
            body = struct.pack("=BxxxI", 7, index)
            body += attr(1, BR_MDB_ENTRY.pack(port, state, 0, vid, addr, at)) + told
            name = f"mdb {how} {what} {tail} of {index} port {port} state {state} vid {vid}"
            yield Request(name, MDB + step, flags, body)
        if not more:
            yield from dumps(f"mdb {what}", MDB, struct.pack("=BxxxI", 7, 0))


# --- interfaces -----------------------------------------------------------------------------------


def links() -> Iterator[Request]:
    """Interfaces asked for and changed, and the groups of bridges, of interfaces that are none."""
    ifi = struct.Struct("=BxHiII")
    names = {
        "none": b"",
        "v0": attr(3, b"v0\0"),
        "missing": attr(3, b"v9\0"),
        "other": attr(53, b"v0\0"),
        "mask": attr(29, u32(9)),
        "no statistics": attr(29, u32(8)),
        "unknown mask": attr(29, u32(1 << 30)),
        "master": attr(10, u32(V0)),
        "kind": attr(18, attr(1, b"veth\0")),
        "other kind": attr(18, attr(1, b"nothere\0")),
    }
    for (what, tail), index, strict in product(names.items(), (0, V0, LO, NONE, -1), (False, True)):
        head = ifi.pack(0, 0, index, 0, 0)
        yield Request(f"link get {index} {what}", LINK + GET, ASK, head + tail, strict)
        if index in (0, V0):
            flags = REQUEST | ACK | DUMP
            yield Request(f"link dump {index} {what}", LINK + GET, flags, head + tail, strict)
    changes = {
        "mtu": attr(4, u32(1400)),
        "small mtu": attr(4, u32(10)),
        "big mtu": attr(4, u32(1 << 20)),
        "queue": attr(13, u32(77)),
        "address": attr(1, b"\2\0\0\0\0\x11"),
        "short address": attr(1, b"\2\0"),
        "group address": attr(1, b"\3\0\0\0\0\x11"),
        "zero address": attr(1, bytes(6)),
        "name there": attr(3, b"v1\0"),
        "wrong name": attr(3, b"a/b\0"),
        "long name": attr(3, b"x" * 20 + b"\0"),
        "no master": attr(10, u32(0)),
        "wrong master": attr(10, u32(V1)),
        "missing master": attr(10, u32(NONE)),
        "namespace": attr(19, u32(1 << 30)),
        "mode": attr(26, attr(10 | NESTED, attr(8, b"\0"))),
        "wrong mode": attr(26, attr(10 | NESTED, attr(8, b"\x09"))),
    }
    for (what, tail), index, kind in product(changes.items(), (V0, NONE, 0), (0, 3)):
        for flag, mask in ((0, 0), (0, 1), (1, 1)):
            head = ifi.pack(0, 0, index, flag, mask)
            name = f"link set {kind} {index} {what} {flag} {mask}"
            yield Request(name, LINK + kind, ASK, head + tail)
        yield Request(f"link get {what}", LINK + GET, ASK, ifi.pack(0, 0, V0, 0, 0))
    for index, how in product((V0, NONE, 0), ("new", "get", "del")):
        step, flags = HOW[how]
        for tail in (b"", attr(1, bytes(28)), attr(1, b"\1"), attr(2, b"")):
            body = struct.pack("=BxxxI", 7, index) + tail
            yield Request(f"mdb {how} {index} {tail.hex()}", MDB + step, flags, body)
        yield from dumps(f"mdb {index}", MDB, struct.pack("=BxxxI", 7, index))


GROUPS = {
    "link": links,
    "netconf": settings,
    "addrlabel": labels,
    "stats": statistics,
    "tc": queueing,
    "addr": addresses,
    "neigh": neighbours,
    "neightbl": neighbour_tables,
    "fdb": forwarding,
    "mdb": groups,
    "route": routes,
    "rule": rules,
    "nexthop": nexthops,
}
