"""DNS messages (RFC 1035 4), AAAA records (RFC 3596) and EDNS0 (RFC 6891)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from stack.clients.action import MessageError
from stack.clients.dnsname import Name, emit_name, parse_name

DNS_PORT = 53
CLASS_IN = 1
FLAG_QR, FLAG_AA, FLAG_TC, FLAG_RD, FLAG_RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
OPCODE = 0x7800
HEADER = struct.Struct("!6H")
MAX_MESSAGE_BYTES = 0xFFFF


class RRType(IntEnum):
    """Types of records that this package reads or queries."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    MX = 15
    TXT = 16
    AAAA = 28
    SRV = 33
    OPT = 41
    ANY = 255


class RCode(IntEnum):
    """Response codes; those above 15 need EDNS0."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16


NAMES = frozenset({RRType.NS, RRType.CNAME, RRType.PTR})
ADDRESS_BYTES = {RRType.A: 4, RRType.AAAA: 16}

Data: TypeAlias = int | Name | bytes
"""A record's data: a host-order address (A, AAAA), a name (NS, CNAME, PTR), else the bytes of the
message, in which names may be compressed."""


@dataclass(frozen=True, slots=True)
class Question:
    """The question of a query."""

    name: Name
    type: int
    class_: int = CLASS_IN


@dataclass(frozen=True, slots=True)
class Record:
    """One resource record."""

    name: Name
    type: int
    class_: int
    ttl: int
    data: Data


def opt_record(udp_bytes: int) -> Record:
    """The OPT record of a requestor that accepts datagrams of this size (RFC 6891 6.1.2)."""
    return Record((), RRType.OPT, udp_bytes, 0, b"")


@dataclass(frozen=True, slots=True)
class DnsMessage:
    """A query or a response."""

    id: int
    flags: int = 0
    questions: tuple[Question, ...] = ()
    answers: tuple[Record, ...] = ()
    authorities: tuple[Record, ...] = ()
    additionals: tuple[Record, ...] = ()

    @property
    def opt(self) -> Record | None:
        """The OPT record, if there is one."""
        return next((r for r in self.additionals if r.type == RRType.OPT), None)

    @property
    def rcode(self) -> int:
        """The response code with the upper bits of EDNS0 (RFC 6891 6.1.3)."""
        opt = self.opt
        return self.flags & 0xF | (0 if opt is None else opt.ttl >> 24 << 4)

    @classmethod
    def parse(cls, data: bytes) -> DnsMessage:
        """Read a message; trailing bytes are ignored.  Raises: MessageError."""
        id_, flags, questions, counts, at = parse_head(data)
        sections: list[tuple[Record, ...]] = []
        for count in counts:
            records = []
            for _ in range(count):
                record, at = _parse_record(data, at)
                records.append(record)
            sections.append(tuple(records))
        return cls(id_, flags, questions, *sections)

    def emit(self) -> bytes:
        """The message as bytes, names compressed.  Raises: MessageError: it would be too long."""
        sections = (self.answers, self.authorities, self.additionals)
        counts = map(len, sections)
        out = bytearray(HEADER.pack(self.id, self.flags, len(self.questions), *counts))
        seen: dict[Name, int] = {}
        for question in self.questions:
            emit_name(question.name, out, seen)
            out += struct.pack("!HH", question.type, question.class_)
        for section in sections:
            for record in section:
                _emit_record(record, out, seen)
        if len(out) > MAX_MESSAGE_BYTES:
            raise MessageError(f"a message of {len(out)} bytes; {MAX_MESSAGE_BYTES} are possible")
        return bytes(out)


def parse_head(data: bytes) -> tuple[int, int, tuple[Question, ...], tuple[int, int, int], int]:
    """Id, flags, questions, the counts of the other sections, and where those begin.

    A truncated message is not read further (RFC 2181 9).
    Raises: MessageError.
    """
    if len(data) < HEADER.size:
        raise MessageError(f"{len(data)} bytes are no DNS message; {HEADER.size} is the least")
    id_, flags, qdcount, *counts = HEADER.unpack_from(data)
    at = HEADER.size
    questions = []
    for _ in range(qdcount):
        name, at = parse_name(data, at)
        if at + 4 > len(data):
            raise MessageError(f"the question that ends at {at + 4} ends beyond {len(data)}")
        questions.append(Question(name, *struct.unpack_from("!HH", data, at)))
        at += 4
    return id_, flags, tuple(questions), (counts[0], counts[1], counts[2]), at


def _parse_record(data: bytes, at: int) -> tuple[Record, int]:
    start = at
    name, at = parse_name(data, at)
    if at + 10 > len(data):
        raise MessageError(f"the record at {start} ends beyond {len(data)}")
    type_, class_, ttl, size = struct.unpack_from("!HHIH", data, at)
    at += 10
    end = at + size
    if end > len(data):
        raise MessageError(f"the record at {start} ends {end - len(data)} bytes too late")
    value: Data = data[at:end]
    if class_ == CLASS_IN:
        if type_ in ADDRESS_BYTES:
            if size != ADDRESS_BYTES[RRType(type_)]:
                raise MessageError(f"the address at {at} has {size} bytes")
            value = int.from_bytes(data[at:end], "big")
        elif type_ in NAMES:
            value, after = parse_name(data, at, end)
            if after != end:
                raise MessageError(f"the name at {at} ends at {after}, its record at {end}")
    if type_ != RRType.OPT and ttl >> 31:
        ttl = 0  # RFC 2181 8
    return Record(name, type_, class_, ttl, value), end


def _emit_record(record: Record, out: bytearray, seen: dict[Name, int]) -> None:
    emit_name(record.name, out, seen)
    out += struct.pack("!HHIH", record.type, record.class_, record.ttl, 0)
    start = len(out)
    if isinstance(record.data, tuple):
        emit_name(record.data, out, seen)
    elif isinstance(record.data, int):
        out += record.data.to_bytes(ADDRESS_BYTES[RRType(record.type)], "big")
    else:
        out += record.data
    size = len(out) - start
    if size > 0xFFFF:
        raise MessageError(f"a record of {size} bytes; 65535 are possible")
    out[start - 2 : start] = size.to_bytes(2, "big")
