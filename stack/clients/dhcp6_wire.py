"""DHCPv6 messages between client and server, and their options (RFC 8415 8, 21; RFC 3646).

Options may occur more than once and contain options, so they are a tuple of (code, value) in
the order of the wire. `IaNa` and `IaAddr` are parsed from values when needed. Addresses are
host-order 128-bit ints, times seconds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from stack.clients.action import MessageError

CLIENT_PORT, SERVER_PORT = 546, 547
ALL_DHCP_RELAY_AGENTS_AND_SERVERS = 0xFF02_0000_0000_0000_0000_0000_0001_0002
INFINITY = 0xFFFFFFFF

MIN_DUID_BYTES, MAX_DUID_BYTES = 3, 130
HTYPE_ETHERNET = 1
DUID_EPOCH_S = 946_684_800
"""2000-01-01 UTC, where the time of a DUID-LLT begins (RFC 8415 11.2)."""

Options: TypeAlias = tuple[tuple[int, bytes], ...]


class MessageType(IntEnum):
    """RFC 8415 7.3, without the messages of relay agents."""

    SOLICIT = 1
    ADVERTISE = 2
    REQUEST = 3
    CONFIRM = 4
    RENEW = 5
    REBIND = 6
    REPLY = 7
    RELEASE = 8
    DECLINE = 9
    RECONFIGURE = 10
    INFORMATION_REQUEST = 11


RELAY_TYPES = (12, 13)


class Option(IntEnum):
    """The options that our client sends or reads."""

    CLIENTID = 1
    SERVERID = 2
    IA_NA = 3
    IAADDR = 5
    ORO = 6
    PREFERENCE = 7
    ELAPSED_TIME = 8
    STATUS_CODE = 13
    RAPID_COMMIT = 14
    DNS_SERVERS = 23
    DOMAIN_LIST = 24
    INFORMATION_REFRESH_TIME = 32
    SOL_MAX_RT = 82
    INF_MAX_RT = 83


class Status(IntEnum):
    """RFC 8415 21.13."""

    SUCCESS = 0
    UNSPEC_FAIL = 1
    NO_ADDRS_AVAIL = 2
    NO_BINDING = 3
    NOT_ON_LINK = 4
    USE_MULTICAST = 5


def parse_options(data: bytes) -> Options:
    """The options in `data`.  Raises: MessageError."""
    options = []
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            raise MessageError(f"{len(data) - at} bytes at {at} are no option")
        code, size = struct.unpack_from("!HH", data, at)
        end = at + 4 + size
        if end > len(data):
            raise MessageError(f"option {code} ends {end - len(data)} bytes too late")
        options.append((code, data[at + 4 : end]))
        at = end
    return tuple(options)


def emit_options(options: Options) -> bytes:
    """The inverse of `parse_options`."""
    return b"".join(struct.pack("!HH", code, len(value)) + value for code, value in options)


def find(options: Options, code: int) -> bytes | None:
    """The value of the first option `code`; None if there is none."""
    return next((value for this, value in options if this == code), None)


@dataclass(frozen=True, slots=True)
class Dhcp6Message:
    """One message between client and server (RFC 8415 8)."""

    type: int
    xid: int
    options: Options = ()

    @classmethod
    def parse(cls, data: bytes) -> Dhcp6Message:
        """Read a message; options of options are read later.  Raises: MessageError."""
        if len(data) < 4:
            raise MessageError(f"{len(data)} bytes are no DHCPv6 message; 4 is the least")
        if data[0] in RELAY_TYPES:
            raise MessageError(f"type {data[0]} is a relay agent's message")
        return cls(data[0], int.from_bytes(data[1:4], "big"), parse_options(data[4:]))

    def emit(self) -> bytes:
        """The message as bytes."""
        return bytes((self.type,)) + self.xid.to_bytes(3, "big") + emit_options(self.options)

    def number(self, code: int, size: int) -> int | None:
        """The value of an option that holds one number of `size` bytes; None otherwise."""
        value = find(self.options, code)
        return int.from_bytes(value, "big") if value is not None and len(value) == size else None


@dataclass(frozen=True, slots=True)
class IaAddr:
    """An IA Address option (21.6)."""

    address: int
    preferred_s: int = 0
    valid_s: int = 0
    options: Options = ()

    @classmethod
    def parse(cls, value: bytes) -> IaAddr:
        """Read the value of the option.  Raises: MessageError."""
        if len(value) < 24:
            raise MessageError(f"an IA Address of {len(value)} bytes; 24 is the least")
        preferred, valid = struct.unpack_from("!II", value, 16)
        address = int.from_bytes(value[:16], "big")
        return cls(address, preferred, valid, parse_options(value[24:]))

    def emit(self) -> bytes:
        """The value of the option."""
        times = struct.pack("!II", self.preferred_s, self.valid_s)
        return self.address.to_bytes(16, "big") + times + emit_options(self.options)


@dataclass(frozen=True, slots=True)
class IaNa:
    """An Identity Association for Non-temporary Addresses (21.4)."""

    iaid: int
    t1_s: int = 0
    t2_s: int = 0
    options: Options = ()

    @classmethod
    def parse(cls, value: bytes) -> IaNa:
        """Read the value of the option.  Raises: MessageError."""
        if len(value) < 12:
            raise MessageError(f"an IA_NA of {len(value)} bytes; 12 is the least")
        iaid, t1, t2 = struct.unpack_from("!III", value)
        return cls(iaid, t1, t2, parse_options(value[12:]))

    def emit(self) -> bytes:
        """The value of the option."""
        return struct.pack("!III", self.iaid, self.t1_s, self.t2_s) + emit_options(self.options)

    def addresses(self) -> Iterator[IaAddr]:
        """Its addresses.  Raises: MessageError."""
        for code, value in self.options:
            if code == Option.IAADDR:
                yield IaAddr.parse(value)


def status_of(options: Options) -> tuple[int, str]:
    """The status and its text; without the option it is SUCCESS (21.13)."""
    value = find(options, Option.STATUS_CODE)
    if value is None:
        return Status.SUCCESS, ""
    if len(value) < 2:
        return Status.UNSPEC_FAIL, ""
    return int.from_bytes(value[:2], "big"), value[2:].decode("utf-8", "replace")


def addresses_of(value: bytes | None) -> tuple[int, ...]:
    """The addresses of an option like DNS_SERVERS; empty if its length is invalid."""
    if not value or len(value) % 16:
        return ()
    return tuple(int.from_bytes(value[at : at + 16], "big") for at in range(0, len(value), 16))


# --- DUIDs (11) -----------------------------------------------------------------------------------


def duid_llt(mac: bytes, unix_s: int) -> bytes:
    """DUID-LLT: link-layer address and creation time (11.2)."""
    time = (unix_s - DUID_EPOCH_S) & 0xFFFFFFFF
    return struct.pack("!HHI", 1, HTYPE_ETHERNET, time) + mac


def duid_en(enterprise: int, identifier: bytes) -> bytes:
    """DUID-EN: a vendor's number and identifier (11.3)."""
    return struct.pack("!HI", 2, enterprise) + identifier


def duid_ll(mac: bytes) -> bytes:
    """DUID-LL: link-layer address of a permanently attached device (11.4)."""
    return struct.pack("!HH", 3, HTYPE_ETHERNET) + mac


def duid_uuid(uuid: bytes) -> bytes:
    """DUID-UUID (RFC 6355)."""
    return struct.pack("!H", 4) + uuid
