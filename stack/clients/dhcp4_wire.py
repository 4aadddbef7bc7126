"""DHCPv4 messages (RFC 2131 2), their options (RFC 2132) and the values that a client reads.

`Dhcp4Message.parse` checks lengths first, then reads the fields; split options (RFC 3396)
are joined, and those in `file` and `sname` (option 52) follow the ordinary ones. An option's
format is checked by the code that reads it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

from stack.clients.action import MessageError

SERVER_PORT, CLIENT_PORT = 67, 68
BOOTREQUEST, BOOTREPLY = 1, 2
HTYPE_ETHER = 1
BROADCAST_FLAG = 0x8000
MAGIC_COOKIE = b"\x63\x82\x53\x63"
FIXED = struct.Struct("!BBBBIHHIIII16s64s128s4s")
"""op htype hlen hops, xid, secs, flags, ciaddr yiaddr siaddr giaddr, chaddr, sname, file, cookie"""
MIN_BYTES = 300
"""BOOTP relay agents drop shorter messages (RFC 1542 2.1)."""
MAX_OPTION_BYTES = 255
OVERLOAD_BYTES = 3

Route: TypeAlias = tuple[int, int, int]
"""(network, prefix length, gateway) in host order; gateway 0: on the link itself."""


class MessageType(IntEnum):
    """Option 53 (RFC 2132 9.6)."""

    DISCOVER = 1
    OFFER = 2
    REQUEST = 3
    DECLINE = 4
    ACK = 5
    NAK = 6
    RELEASE = 7
    INFORM = 8


class Option(IntEnum):
    """The options that our client or server sends or reads."""

    PAD = 0
    SUBNET_MASK = 1
    ROUTER = 3
    DNS_SERVERS = 6
    HOST_NAME = 12
    DOMAIN_NAME = 15
    INTERFACE_MTU = 26
    BROADCAST_ADDRESS = 28
    STATIC_ROUTE = 33
    NTP_SERVERS = 42
    REQUESTED_ADDRESS = 50
    LEASE_TIME = 51
    OVERLOAD = 52
    MESSAGE_TYPE = 53
    SERVER_ID = 54
    PARAMETER_LIST = 55
    MESSAGE = 56
    MAX_MESSAGE_SIZE = 57
    RENEWAL_TIME = 58
    REBINDING_TIME = 59
    CLIENT_ID = 61
    RELAY_AGENT = 82
    DOMAIN_SEARCH = 119
    CLASSLESS_ROUTES = 121
    END = 255


@dataclass(frozen=True, slots=True)
class Dhcp4Message:
    """One message; addresses are host-order ints, `options` map a code to its whole value."""

    op: int
    xid: int
    chaddr: bytes
    htype: int = HTYPE_ETHER
    hops: int = 0
    secs: int = 0
    flags: int = 0
    ciaddr: int = 0
    yiaddr: int = 0
    siaddr: int = 0
    giaddr: int = 0
    sname: bytes = b""
    file: bytes = b""
    options: Mapping[int, bytes] = field(default_factory=dict)

    @property
    def type(self) -> int:
        """Option 53, or 0 for BOOTP."""
        value = self.options.get(Option.MESSAGE_TYPE, b"")
        return value[0] if len(value) == 1 else 0

    def address(self, code: int) -> int:
        """The value of an option that holds one address; 0 if it is missing or has another
        length."""
        value = self.options.get(code, b"")
        return int.from_bytes(value, "big") if len(value) == 4 else 0

    def number(self, code: int, size: int) -> int | None:
        """The value of an option that holds one number of `size` bytes; None otherwise."""
        value = self.options.get(code, b"")
        return int.from_bytes(value, "big") if len(value) == size else None

    def text(self, code: int) -> str:
        """The value of an option that holds text, without the NULs that some servers append."""
        return self.options.get(code, b"").rstrip(b"\0").decode("utf-8", "replace")

    @classmethod
    def parse(cls, data: bytes) -> Dhcp4Message:
        """Read a message.  Raises: MessageError."""
        if len(data) < FIXED.size:
            raise MessageError(f"{len(data)} bytes are no DHCP message; {FIXED.size} is the least")
        (op, htype, hlen, hops, xid, secs, flags, ciaddr, yiaddr, siaddr, giaddr,
         chaddr, sname, file, cookie) = FIXED.unpack_from(data)  # fmt: skip
        if op not in (BOOTREQUEST, BOOTREPLY):
            raise MessageError(f"op {op} is neither a request nor a reply")
        if hlen > len(chaddr):
            raise MessageError(f"hlen {hlen} is more than the {len(chaddr)} bytes of chaddr")
        if cookie != MAGIC_COOKIE:
            raise MessageError(f"magic cookie {cookie.hex()}, not 63825363")
        options: dict[int, bytes] = {}
        _read_options(data[FIXED.size :], options, "options")
        overload = options.get(Option.OVERLOAD, b"\0")
        if len(overload) != 1 or overload[0] > 3:
            raise MessageError(f"option 52 (overload) is {overload.hex()}, not 1 to 3")
        # RFC 2131 4.1: the options field first, then file, then sname
        if overload[0] & 1:
            _read_options(file, options, "file")
            file = b""
        if overload[0] & 2:
            _read_options(sname, options, "sname")
            sname = b""
        return cls(
            op, xid, chaddr[:hlen], htype, hops, secs, flags, ciaddr, yiaddr, siaddr, giaddr,
            sname.partition(b"\0")[0], file.partition(b"\0")[0], options,
        )  # fmt: skip

    def emit(self, max_bytes: int | None = None) -> bytes:
        """The message as bytes, at least 300 of them; a long option is split (RFC 3396).

        With `max_bytes` options that do not fit go to `file` and `sname` if these
        are empty (option 52), and the rest is omitted. The relay agent's option stays the
        last one.
        """
        every = {code: _encode(code, value) for code, value in self.options.items()}
        areas = [bytearray(), bytearray(self.file), bytearray(self.sname)]
        whole = FIXED.size + sum(map(len, every.values())) + 1
        if max_bytes is None or whole <= max_bytes:
            areas[0] += b"".join(every.values())
        else:
            last = every.pop(Option.RELAY_AGENT, b"")
            room = max_bytes - FIXED.size - 1 - OVERLOAD_BYTES - len(last)
            rooms = (room, 0 if self.file else 128 - 1, 0 if self.sname else 64 - 1)
            for option in every.values():
                fits = (n for n in range(3) if len(areas[n]) + len(option) <= rooms[n])
                where = next(fits, None)
                if where is not None:
                    areas[where] += option
            overload = sum(n for n in (1, 2) if rooms[n] and areas[n])
            for n in (1, 2):
                if overload & n:
                    areas[n].append(Option.END)
            if overload:
                areas[0] += _encode(Option.OVERLOAD, bytes((overload,)))
            areas[0] += last
        out = bytearray(
            FIXED.pack(
                self.op,
                self.htype,
                len(self.chaddr),
                self.hops,
                self.xid,
                self.secs,
                self.flags,
                self.ciaddr,
                self.yiaddr,
                self.siaddr,
                self.giaddr,
                self.chaddr,
                bytes(areas[2]),
                bytes(areas[1]),
                MAGIC_COOKIE,
            )
        )
        out += areas[0]
        out.append(Option.END)
        return bytes(out.ljust(MIN_BYTES, b"\0"))


def _encode(code: int, value: bytes) -> bytes:
    """An option as bytes, in pieces of 255."""
    pieces = (
        value[at : at + MAX_OPTION_BYTES] for at in range(0, max(len(value), 1), MAX_OPTION_BYTES)
    )
    return b"".join(bytes((code, len(piece))) + piece for piece in pieces)


def _read_options(data: bytes, options: dict[int, bytes], where: str) -> None:
    """Add the options in `data` to `options`; values of a repeated code are joined (RFC 3396 7)."""
    at = 0
    while at < len(data):
        code = data[at]
        at += 1
        if code == Option.PAD:
            continue
        if code == Option.END:
            return
        if at >= len(data):
            raise MessageError(f"option {code} at the end of {where} has no length")
        end = at + 1 + data[at]
        if end > len(data):
            raise MessageError(f"option {code} ends {end - len(data)} bytes beyond {where}")
        options[code] = options.get(code, b"") + data[at + 1 : end]
        at = end


def address_list(value: bytes) -> tuple[int, ...]:
    """The addresses of an option like ROUTER; empty if its length is invalid."""
    if len(value) % 4:
        return ()
    return tuple(int.from_bytes(value[at : at + 4], "big") for at in range(0, len(value), 4))


def classless_routes(value: bytes) -> tuple[Route, ...]:
    """Option 121 (RFC 3442): for each route a prefix length, its significant octets, a router.

    Bits of the network beyond its prefix are cleared, as the RFC requires.
    Raises: MessageError.
    """
    routes = []
    at = 0
    while at < len(value):
        prefixlen = value[at]
        if prefixlen > 32:
            raise MessageError(f"a classless route with a prefix of {prefixlen} bits")
        octets = (prefixlen + 7) // 8
        end = at + 1 + octets + 4
        if end > len(value):
            raise MessageError("a classless route ends beyond its option")
        network = int.from_bytes(value[at + 1 : at + 1 + octets].ljust(4, b"\0"), "big")
        network &= 0xFFFFFFFF << (32 - prefixlen) & 0xFFFFFFFF
        routes.append((network, prefixlen, int.from_bytes(value[end - 4 : end], "big")))
        at = end
    return tuple(routes)
