"""Netlink requests, right and wrong, and the shape of the answers to them.

`generated()` makes each request that a rule gives. Every kind of message comes with every family.
Its structure is cut at every fourth byte, and has every field set. Every attribute comes with too
few and too many bytes, nested and not, twice, and with bytes behind it. All of it is sent with and
without strict checks.
"""

from __future__ import annotations

import socket as stdlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stack.netlink import rt_attrs
from stack.netlink.nlattr import AttrTable, put_attr

HDR = struct.Struct("=IHHII")
SOL_NETLINK, EXT_ACK, STRICT = 270, 11, 12
REQUEST, ACK, DUMP, REPLACE, EXCL, CREATE = 1, 4, 0x300, 0x100, 0x200, 0x400
NLMSG_ERROR, NLMSG_DONE = 2, 3
CAPPED, NLMSGERR_ATTR_MSG = 0x100, 1
LINK, ADDR, ROUTE, NEIGH, RULE = 16, 20, 24, 28, 32
BODIES: dict[int, tuple[struct.Struct, tuple[int, ...]]] = {
    LINK: (rt_attrs.IFINFOMSG, (0, 0, 0, 0, 0)),
    ADDR: (rt_attrs.IFADDRMSG, (0, 0, 0, 0, 0)),
    ROUTE: (rt_attrs.RTMSG, (0,) * 9),
    NEIGH: (rt_attrs.NDMSG, (0,) * 7),
    RULE: (rt_attrs.RTMSG, (0,) * 9),
}
FAMILIES = (0, 2, 10, 1, 200)
ATTRIBUTES: dict[tuple[int, int], AttrTable] = {
    (LINK, 0): rt_attrs.IFLA,
    (ADDR, 2): rt_attrs.IFA4,
    (ADDR, 10): rt_attrs.IFA6,
    (ROUTE, 2): rt_attrs.RTA4,
    (ROUTE, 10): rt_attrs.RTA6,
    (NEIGH, 2): rt_attrs.NDA,
    (NEIGH, 10): rt_attrs.NDA,
    (RULE, 2): rt_attrs.FRA,
    (RULE, 10): rt_attrs.FRA,
}


@dataclass(frozen=True)
class Request:
    """One message: its type, flags and what is behind the header."""

    name: str
    type: int
    flags: int
    body: bytes
    strict: bool = False

    def message(self, seq: int) -> bytes:
        """The bytes of it."""
        return HDR.pack(HDR.size + len(self.body), self.type, self.flags, seq, 0) + self.body


def attr(kind: int, payload: bytes) -> bytes:
    """One attribute with its padding."""
    out = bytearray()
    put_attr(out, kind, payload)
    return bytes(out)


def asked(group: int) -> Iterator[tuple[str, int, int]]:
    """(name, type, flags) of the messages of a group: NEW, DEL and GET of an object, a dump."""
    yield "new", group, REQUEST | ACK | CREATE | EXCL
    yield "del", group + 1, REQUEST | ACK
    yield "get", group + 2, REQUEST | ACK
    yield "dump", group + 2, REQUEST | ACK | DUMP


def generated() -> Iterator[Request]:
    """All of them."""
    for group, (code, fields) in BODIES.items():
        for name, kind, flags in asked(group):
            if group == RULE and name == "get":
                continue
            for family in FAMILIES:
                what = f"{name} {group} family {family}"
                good = code.pack(family, *fields[1:])
                for strict in (False, True):
                    yield Request(what, kind, flags, good, strict)
                    for size in range(1, len(good), 4):
                        yield Request(f"{what} cut at {size}", kind, flags, good[:size], strict)
                if name in ("get", "dump"):
                    yield from odd_fields(what, kind, flags, code, (family, *fields[1:]))
            for family in (0, 2, 10):
                table = ATTRIBUTES.get((group, family))
                if table is not None:
                    what = f"{name} {group} family {family}"
                    yield from attributes(what, kind, flags, code.pack(family, *fields[1:]), table)
    for kind in (*range(14, 17), 23, 27, 31, 35, 47, 99, 103, 127, 200, 65535):
        for flags in (REQUEST | ACK, REQUEST | ACK | DUMP, ACK):
            yield Request(f"type {kind}", kind, flags, bytes(16))


def odd_fields(
    what: str, kind: int, flags: int, code: struct.Struct, fields: tuple[int, ...]
) -> Iterator[Request]:
    """Each field of the structure set to 1, 77 and 129."""
    for number in range(1, len(fields)):
        for value in (1, 77, 129):
            body = code.pack(*fields[:number], value, *fields[number + 1 :])
            for strict in (False, True):
                yield Request(f"{what} field {number} = {value}", kind, flags, body, strict)


def attributes(
    what: str, kind: int, flags: int, head: bytes, table: AttrTable
) -> Iterator[Request]:
    """Each attribute of a table with payloads of several lengths, and lists that are broken."""
    for row in table.by_number.values():
        for size in (0, 1, 3, 4, 8, 16, 40):
            body = head + attr(row.number, b"\x01" * size)
            name = f"{what} {row.name} of {size}"
            yield Request(name, kind, flags, body, True)
            if size in (0, 3, 16):
                yield Request(name, kind, flags, body)
        nested = head + attr(row.number | 1 << 15, bytes(8))
        yield Request(f"{what} {row.name} nested", kind, flags, nested, True)
    first = next(iter(table.by_number))
    good = attr(first, bytes(16))
    broken = {
        "unknown": attr(200, bytes(4)),
        "number 0": attr(0, bytes(4)),
        "one byte behind": good + b"\1",
        "length 3": struct.pack("=HH", 3, first),
        "length 0": struct.pack("=HH", 0, first),
        "too long": struct.pack("=HH", 99, first) + bytes(4),
        "twice": good + good,
    }
    for name, data in broken.items():
        for strict in (False, True):
            yield Request(f"{what} {name}", kind, flags, head + data, strict)


# --- answers ------------------------------------------------------------------------------------


def shape(data: bytes) -> list[tuple[Any, ...]]:
    """Of each message its type, with the errno of errors and ends."""
    found, at = [], 0
    while at + HDR.size <= len(data):
        size, kind, _, _, _ = HDR.unpack_from(data, at)
        if kind in (NLMSG_ERROR, NLMSG_DONE):
            (err,) = struct.unpack_from("=i", data, at + HDR.size)
            found.append((kind, -err))
        else:
            found.append((kind,))
        at += size + 3 & ~3
    return found


def refusal(data: bytes) -> tuple[int, str]:
    """The errno and the message of one answer that is an acknowledgement."""
    _, kind, flags, _, _ = HDR.unpack_from(data)
    assert kind == NLMSG_ERROR
    err, quoted = struct.unpack_from("=iI", data, HDR.size)
    at = HDR.size + 4 + (HDR.size if flags & CAPPED or not err else quoted + 3 & ~3)
    while at + 4 <= len(data):
        size, number = struct.unpack_from("=HH", data, at)
        if number == NLMSGERR_ATTR_MSG:
            return -err, data[at + 4 : at + size - 1].decode()
        at += size + 3 & ~3
    return -err, ""


class Asker:
    """A socket of NETLINK_ROUTE or another protocol, of the kernel or of a host."""

    def __init__(self, sock: Any) -> None:
        self.sock = sock
        self.seq = 0
        self.strict: bool | None = None
        sock.setsockopt(SOL_NETLINK, EXT_ACK, 1)
        sock.bind((0, 0))

    def ask(self, request: Request) -> list[tuple[Any, ...]]:
        """The shape of the answer."""
        if request.strict != self.strict:
            self.strict = request.strict
            self.sock.setsockopt(SOL_NETLINK, STRICT, int(request.strict))
        self.seq += 1
        return self.exchange(request.message(self.seq))

    def refused(self, request: Request) -> tuple[int, str]:
        """The errno of the answer, 0: none, and its message."""
        self.seq += 1
        self.sock.sendto(request.message(self.seq), (0, 0))
        return refusal(self.sock.recv(1 << 16))

    def exchange(self, message: bytes) -> list[tuple[Any, ...]]:
        """Send bytes, and read until nothing comes any more."""
        self.sock.sendto(message, (0, 0))
        found: list[tuple[Any, ...]] = []
        while True:
            try:
                data = self.sock.recv(1 << 16, stdlib.MSG_DONTWAIT)
            except BlockingIOError:
                return found
            found += shape(data)
