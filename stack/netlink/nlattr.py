"""include/net/netlink.h, lib/nlattr.c: attributes of netlink messages, as rows of tables.

    IFA = AttrTable(
        "IFA",
        Attr("IFA_ADDRESS", 1, BE32),
        Attr("IFA_LABEL", 3, STRING, 15),
        ...)
    tb = IFA.parse(data, at, strict)    # {"IFA_ADDRESS": 0x0A000001, "IFA_LABEL": "eth0"}
    IFA.build({"IFA_ADDRESS": 0x0A000001, "IFA_LABEL": "eth0"})

A row is an attribute: its name, number, type and the policy of the type. The parser, its
checks, the builder and the texts of errors come from the rows. An attribute on the wire:

    | nla_len 2 | nla_type 2 | payload: nla_len - 4 | padding to 4 |

Errors are `NlError`, an OSError with the extended acknowledgement: the text and the
attribute's offset in the message. Read `AttrTable.parse` first.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from sys import byteorder
from typing import Any

from stack.core.extack import ExtAckError

NLA_HDR = struct.Struct("=HH")
NLA_HDRLEN = NLA_HDR.size
NLA_F_NESTED = 1 << 15
NLA_TYPE_MASK = 0x3FFF

# include/net/netlink.h enum netlink_validation
LIBERAL = 0
TRAILING = 1 << 0
MAXTYPE = 1 << 1
UNSPEC_IS_WRONG = 1 << 2
STRICT_ATTRS = 1 << 3
NESTED_FLAG = 1 << 4
DEPRECATED_STRICT = TRAILING | MAXTYPE
STRICT = TRAILING | MAXTYPE | UNSPEC_IS_WRONG | STRICT_ATTRS | NESTED_FLAG

FAILED = "Attribute failed policy validation"


class NlError(ExtAckError):
    """The error of a request, with its NLMSGERR_ATTR_* attributes.

    `at` is the offset of the wrong attribute in the message. `missing` is the number of one that
    is missing, `nest` the offset of the one that should contain it. -1: none.
    """

    def __init__(
        self, err: int, msg: str = "", at: int = -1, missing: int = -1, nest: int = -1
    ) -> None:
        super().__init__(err, msg)
        self.at = at
        self.missing = missing
        self.nest = nest


def invalid(text: str, err: int = errno.EINVAL) -> NlError:
    """The error to raise."""
    return NlError(err, text)


class Attrs(dict[str, Any]):
    """Attributes of a message by name; `at` has the offset of each in the message."""

    __slots__ = ("at",)

    def __init__(self) -> None:
        super().__init__()
        self.at: dict[str, int] = {}

    def wrong(self, name: str, msg: str, err: int = errno.EINVAL) -> NlError:
        """The error of one attribute."""
        return NlError(err, msg, self.at.get(name, -1))

    def span(self, name: str) -> tuple[int, int]:
        """Start and end of an attribute's payload in the message."""
        at = self.at[name] + NLA_HDRLEN
        return at, at + len(self[name])


# --- types --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AttrType:
    """How an attribute's payload is read and written. `size`: bytes of a number, 0 for others."""

    name: str
    get: Callable[[bytes], Any]
    put: Callable[[Any], bytes]
    size: int = 0


def _number(name: str, fmt: str) -> AttrType:
    code = struct.Struct(fmt)
    return AttrType(name, lambda data: code.unpack_from(data)[0], code.pack, code.size)


def _text(data: bytes) -> str:
    return os.fsdecode(data.partition(b"\0")[0])


def _c_string(text: str) -> bytes:
    return os.fsencode(text) + b"\0"


def _big(data: bytes) -> int:
    return int.from_bytes(data, "big")


U8 = _number("U8", "=B")
U16 = _number("U16", "=H")
U32 = _number("U32", "=I")
U64 = _number("U64", "=Q")
S32 = _number("S32", "=i")
S64 = _number("S64", "=q")
BE16 = _number("BE16", ">H")
BE32 = _number("BE32", ">I")
BE64 = _number("BE64", ">Q")
"""In network order; an IPv4 address is an int in host order."""
IN6 = AttrType("IN6", lambda data: _big(data[:16]), lambda addr: addr.to_bytes(16, "big"))
"""An IPv6 address, an int."""
FLAG = AttrType("FLAG", lambda data: True, lambda value: b"")
STRING = AttrType("STRING", _text, _c_string)
NUL_STRING = AttrType("NUL_STRING", _text, _c_string)
BINARY = AttrType("BINARY", bytes, bytes)
"""At most `most` bytes."""
UNSPEC = AttrType("UNSPEC", bytes, bytes)
"""At least `most` bytes: a structure."""
NESTED = AttrType("NESTED", bytes, bytes)
REJECT = AttrType("REJECT", bytes, bytes)
"""Rejected in requests."""


@dataclass(frozen=True, slots=True)
class Attr:
    """One attribute. `most`: bytes as its type says (see STRING, BINARY, UNSPEC), 0: any.

    `legal` are the values that a number may have, or how many bytes BINARY may have. `inner` is the
    table of what is nested in it. `flagged`: built with NLA_F_NESTED, which not all programs
    mask out. `told`: there is no policy, since it is for answers; in a request any payload is
    accepted, as bytes. `policed`: its nested attributes are checked as strictly as itself
    (NLA_POLICY_NESTED). `mask` has the bits that a number may have (NLA_POLICY_MASK), 0: all.
    """

    name: str
    number: int
    type: AttrType
    most: int = 0
    legal: range | None = None
    inner: AttrTable | None = None
    flagged: bool = False
    told: bool = False
    policed: bool = False
    mask: int = 0

    def wrong(self, data: bytes, at: int, nested: bool, validate: int) -> NlError | None:
        """lib/nlattr.c validate_nla: the error of a payload, or None."""
        size, kind = len(data), self.type
        if self.told:
            refused = validate & UNSPEC_IS_WRONG
            return NlError(errno.EINVAL, "Unsupported attribute", at) if refused else None
        if kind.size and size != kind.size and validate & STRICT_ATTRS:
            return NlError(errno.EINVAL, "invalid attribute length", at)
        if validate & NESTED_FLAG:
            if kind is NESTED and not nested:
                return NlError(errno.EINVAL, "NLA_F_NESTED is missing", at)
            if nested and kind not in (NESTED, UNSPEC):
                return NlError(errno.EINVAL, "NLA_F_NESTED not expected", at)
        if kind is REJECT:
            return NlError(errno.EINVAL, FAILED, at)
        if kind is NUL_STRING and b"\0" not in data[: self.most + 1 if self.most else size]:
            return NlError(errno.EINVAL, FAILED, at)
        if not self.fits(data):
            return NlError(errno.ERANGE, FAILED, at)
        if self.legal is not None and kind is BINARY:
            if size in self.legal:
                return None
            return NlError(errno.ERANGE, "binary attribute size out of range", at)
        if self.legal is not None and kind.get(data) not in self.legal:
            return NlError(errno.ERANGE, "integer out of range", at)
        if self.mask and kind.get(data) & ~self.mask:
            return NlError(errno.EINVAL, "reserved bit set", at)
        return None

    def fits(self, data: bytes) -> bool:
        """Whether the type allows the payload's length."""
        size, kind, most = len(data), self.type, self.most
        if kind.size:
            return size >= kind.size
        if kind is IN6:
            return size >= 16
        if kind is FLAG:
            return not size
        if kind is STRING or kind is NUL_STRING:
            if not size:
                return False
            return not most or size - (data[-1:] == b"\0") <= most
        if kind is BINARY:
            return not most or size <= most
        if kind is NESTED:
            return not size or size >= NLA_HDRLEN
        return size >= most


class AttrTable:
    """The attributes of a kind of message, by number and by name.

    `strict_from`: attributes from this number on are always validated as STRICT.
    """

    __slots__ = ("by_name", "by_number", "last", "name", "strict_from")

    def __init__(self, name: str, *rows: Attr, last: int = 0, strict_from: int = 1 << 16) -> None:
        self.name = name
        self.by_number = {row.number: row for row in rows}
        self.by_name = {row.name: row for row in self.by_number.values()}
        self.last = last or max(self.by_number, default=0)
        """The highest known number (maxtype); those up to it without a row are accepted."""
        self.strict_from = strict_from

    def parse(self, data: bytes, at: int = 0, validate: int = LIBERAL, end: int = -1) -> Attrs:
        """lib/nlattr.c __nla_validate_parse: the attributes from `at` to `end` of a message.

        The last of repeated attributes counts. One without a row, and so without a policy, is
        stored under the table's name and its number. Raises: NlError EINVAL, ERANGE.
        """
        found = Attrs()
        end = len(data) if end < 0 else end
        while end - at >= NLA_HDRLEN:
            size, kind = NLA_HDR.unpack_from(data, at)
            if not NLA_HDRLEN <= size <= end - at:
                break
            self._take(found, data, at, size, kind, validate)
            at += size + 3 & ~3
        if at < end and validate & TRAILING:
            raise NlError(errno.EINVAL, "bytes leftover after parsing attributes")
        return found

    def _take(
        self, found: Attrs, data: bytes, at: int, size: int, kind: int, validate: int
    ) -> None:
        number = kind & NLA_TYPE_MASK
        row = self.by_number.get(number)
        if not 0 < number <= self.last:
            if validate & MAXTYPE:
                raise NlError(errno.EINVAL, "Unknown attribute type", at)
            return
        if number >= self.strict_from:
            validate = STRICT
        payload = bytes(data[at + NLA_HDRLEN : at + size])
        if row is None:  # no row: no policy
            if validate & UNSPEC_IS_WRONG:
                raise NlError(errno.EINVAL, "Unsupported attribute", at)
            name = f"{self.name} {number}"
            found[name] = payload
            found.at[name] = at
            return
        wrong = row.wrong(payload, at, bool(kind & NLA_F_NESTED), validate)
        if wrong is not None:
            raise wrong
        if row.told:
            value: Any = payload
        elif row.inner is not None:  # as nla_parse_nested_deprecated
            strict = validate if row.policed else LIBERAL
            value = row.inner.parse(data, at + NLA_HDRLEN, strict, at + size)
        else:
            value = row.type.get(payload)
        found[row.name] = value
        found.at[row.name] = at

    def build(self, values: Mapping[str, Any]) -> bytes:
        """The attributes as bytes, in the order given; None: the attribute is left out."""
        out = bytearray()
        for name, value in values.items():
            if value is not None:
                self.put(out, name, value)
        return bytes(out)

    def put(self, out: bytearray, name: str, value: Any) -> None:
        """Append one attribute. A nested one takes a mapping, or its bytes."""
        row = self.by_name[name]
        if row.inner is not None and not isinstance(value, bytes):
            payload = row.inner.build(value)
        else:
            payload = row.type.put(value)
        put_attr(out, row.number | (NLA_F_NESTED if row.flagged else 0), payload)


def put_attr(out: bytearray, kind: int, payload: bytes) -> None:
    """nla_put: one attribute of number (and flags) `kind`, with its padding."""
    size = NLA_HDRLEN + len(payload)
    out += size.to_bytes(2, byteorder) + kind.to_bytes(2, byteorder) + payload
    out += bytes(-size & 3)


def nest(kind: int, payload: bytes) -> bytes:
    """One attribute."""
    out = bytearray()
    put_attr(out, kind, payload)
    return bytes(out)


def nla_for_each(data: bytes, at: int = 0, end: int = -1) -> Iterator[tuple[int, int, int]]:
    """include/net/netlink.h nla_for_each_attr: type with flags, start and end of each attribute."""
    end = len(data) if end < 0 else end
    while end - at >= NLA_HDRLEN:
        size, kind = NLA_HDR.unpack_from(data, at)
        if not NLA_HDRLEN <= size <= end - at:
            break
        yield kind, at, at + size
        at += size + 3 & ~3
