"""getaddrinfo(3) as in glibc, without name resolution, which is in the resolver.

stack/api/netdb.py creates an `AddrInfo` for each call, blocking or asynchronous:

    AddrInfo(host, port, ...)
        _choose_kinds           matching types and protocols; the port by number or service name
        _resolve
            _numeric            a numeric address: no lookup
            hosts table         (hostfile.py)
            rows, or lookup     the answer, or the name to query
    the caller queries the name servers for `lookup` (resolver.py)
    answer(result) -> _finish   sorts the addresses (RFC 6724 6) and builds the rows

It has no socket and no clock, so the same object serves blocking and asynchronous callers. State:
the arguments, `rows` (the answer) or `lookup` (the query). Failures are socket.gaierror with
glibc's EAI_* code. Read _resolve first.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from fastpath.wide import wide
from stack.clients.action import MessageError
from stack.clients.dns_answer import Outcome
from stack.clients.dns_wire import RRType
from stack.clients.dnsname import name_from_text, name_to_text
from stack.clients.resolvconf import NameService
from stack.clients.resolver import Finished
from stack.clients.services import service_port
from stack.core import uapi
from stack.core.sockaddr import sockaddr

# netdb.h
AI_PASSIVE, AI_CANONNAME, AI_NUMERICHOST = 0x1, 0x2, 0x4
AI_V4MAPPED, AI_ALL, AI_ADDRCONFIG, AI_NUMERICSERV = 0x8, 0x10, 0x20, 0x400
KNOWN_FLAGS = (
    AI_PASSIVE | AI_CANONNAME | AI_NUMERICHOST | AI_V4MAPPED | AI_ALL | AI_ADDRCONFIG
    | AI_NUMERICSERV
)  # fmt: skip
EAI_BADFLAGS, EAI_NONAME, EAI_AGAIN, EAI_FAIL, EAI_NODATA = -1, -2, -3, -4, -5
EAI_FAMILY, EAI_SOCKTYPE, EAI_SERVICE, EAI_ADDRFAMILY = -6, -7, -8, -9

GAI_TEXT = {
    EAI_BADFLAGS: "Bad value for ai_flags",
    EAI_NONAME: "Name or service not known",
    EAI_AGAIN: "Temporary failure in name resolution",
    EAI_FAIL: "Non-recoverable failure in name resolution",
    EAI_NODATA: "No address associated with hostname",
    EAI_FAMILY: "ai_family not supported",
    EAI_SOCKTYPE: "ai_socktype not supported",
    EAI_SERVICE: "Servname not supported for ai_socktype",
    EAI_ADDRFAMILY: "Address family for hostname not supported",
}
"""gai_strerror(3)."""

INADDR_LOOPBACK, IN6ADDR_LOOPBACK = 0x7F000001, 1
V4MAPPED = 0xFFFF << 32
LINK_LOCAL, MULTICAST_LINK_LOCAL = 0xFE80 >> 6, 0xFF02

Row: TypeAlias = tuple[int, int, int, str, sockaddr]
"""(family, type, protocol, canonical name, address)"""


def gai_error(code: int) -> socket.gaierror:
    """The exception of an EAI_* code, of the standard library."""
    return socket.gaierror(code, GAI_TEXT[code])


@dataclass(frozen=True, slots=True)
class _Kind:
    """A row of glibc's gaih_inet_typeproto."""

    type: int
    proto: int
    name: str
    any_proto: bool = False
    service: bool = True


KINDS = (
    _Kind(uapi.SOCK_STREAM, uapi.IPPROTO_TCP, "tcp"),
    _Kind(uapi.SOCK_DGRAM, uapi.IPPROTO_UDP, "udp"),
    _Kind(uapi.SOCK_RAW, 0, "raw", any_proto=True, service=False),
)


DIGITS = {8: "01234567", 10: "0123456789", 16: "0123456789abcdefABCDEF"}


def ipv4_number(text: str) -> int | None:
    """Parse an address as inet_aton(3): one to four numbers, decimal, octal or hexadecimal.
    The last one fills the remaining bytes. None: not an address."""
    parts = text.split(".")
    if not 1 <= len(parts) <= 4:
        return None
    numbers = []
    for part in parts:
        digits, base = part, 10
        if part[:2] in ("0x", "0X"):
            digits, base = part[2:], 16
        elif len(part) > 1 and part[0] == "0":
            digits, base = part[1:], 8
        if not digits or len(digits) > 40 or any(c not in DIGITS[base] for c in digits):
            return None
        numbers.append(int(digits, base))
    last = numbers.pop()
    if last >> 8 * (4 - len(numbers)) or any(n > 255 for n in numbers):
        return None
    for index, number in enumerate(numbers):
        last |= number << 24 - 8 * index
    return last


class AddrInfo:
    """The arguments of one getaddrinfo.

    Args:
        names: hosts table and configuration of the namespace.
        ifindex: the index of an interface by its name or number; raises OSError.
        configured: whether the namespace has an address of a family except on loopback.
        sort: RFC 6724 6: destinations in the order in which to try them.

    Raises: socket.gaierror. TypeError: a host or port that is not text, number or None.
    """

    def __init__(
        self,
        host: str | bytes | None,
        port: str | bytes | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002 -- as in the standard library
        proto: int = 0,
        flags: int = 0,
        *,
        names: NameService,
        ifindex: Callable[[str], wide],
        configured: Callable[[int], bool],
        sort: Callable[[list[sockaddr]], list[sockaddr]],
    ) -> None:
        self._names, self._ifindex, self._sort = names, ifindex, sort
        self._flags = flags
        host = _text("host", host)
        if host == "*":  # means none in glibc
            host = None
        if host is None and port is None:
            raise gai_error(EAI_NONAME)
        if flags & ~KNOWN_FLAGS or (flags & AI_CANONNAME and host is None):
            raise gai_error(EAI_BADFLAGS)
        if flags & AI_ADDRCONFIG:
            have = [f for f in (uapi.AF_INET, uapi.AF_INET6) if configured(f)]
            if family == uapi.AF_UNSPEC and len(have) == 1:
                family = have[0]
            elif family != uapi.AF_UNSPEC and have and family not in have:
                raise gai_error(EAI_NONAME)
        if family not in (uapi.AF_UNSPEC, uapi.AF_INET, uapi.AF_INET6):
            raise gai_error(EAI_FAMILY)
        if flags & AI_NUMERICSERV and _number(port) is None:
            raise gai_error(EAI_NONAME)
        self._family = family
        self._kinds = self._choose_kinds(port, type, proto)
        self._host = host
        self.rows: list[Row] | None = None
        """The answer, if no query is needed."""
        self.lookup: tuple[str, tuple[int, ...]] | None = None
        """Otherwise the name and the types of records to look up."""
        self._resolve()

    # --- services -------------------------------------------------------------------------------

    def _choose_kinds(
        self, port: str | bytes | int | None, type_: int, proto: int
    ) -> list[tuple[int, int, int]]:
        """(type, protocol, port) of each row, as glibc's gaih_inet."""
        matching = [
            kind
            for kind in KINDS
            if (not type_ or kind.type == type_)
            and (not proto or kind.any_proto or kind.proto == proto)
        ]
        if type_ or proto:
            if not matching:
                raise gai_error(EAI_SOCKTYPE if type_ else EAI_SERVICE)
            matching = matching[:1]
        number = _port_number(port)
        if number is None:
            text = _text("port", port if not isinstance(port, int) else str(port)) or ""
            text.encode()  # raises, as in the standard library, for half a surrogate pair
            known = [
                (kind.type, kind.proto, found)
                for kind in matching
                if kind.service and (found := service_port(text, kind.name)) is not None
            ]
            if not known:
                raise gai_error(EAI_SERVICE)
            return known
        if port not in (None, "", b"") and (type_ or proto) and not matching[0].service:
            raise gai_error(EAI_SERVICE)
        return [(kind.type, proto if kind.any_proto else kind.proto, number) for kind in matching]

    # --- hosts ----------------------------------------------------------------------------------

    def _resolve(self) -> None:
        """Answer without a server, if possible."""
        host, family = self._host, self._family
        if host is None:
            passive = self._flags & AI_PASSIVE
            found = [
                sockaddr(uapi.AF_INET6, 0 if passive else IN6ADDR_LOOPBACK, 0),
                sockaddr(uapi.AF_INET, 0 if passive else INADDR_LOOPBACK, 0),
            ]
            self._finish([a for a in found if family in (uapi.AF_UNSPEC, a.family)], "")
            return
        number = self._numeric(host)
        if number is not None:
            self._finish([number], host)
            return
        if self._flags & AI_NUMERICHOST:
            raise gai_error(EAI_NONAME)
        try:
            name_from_text(host)
        except MessageError:
            raise gai_error(EAI_NONAME) from None
        lines = self._names.hosts.addresses(host)
        found = self._wanted(sockaddr(f, address, 0) for f, address, _ in lines)
        if found:
            self._finish(found, lines[0][2])
            return
        types = {uapi.AF_INET: (RRType.A,), uapi.AF_INET6: (RRType.AAAA,)}.get(
            family, (RRType.A, RRType.AAAA)
        )
        if family == uapi.AF_INET6 and self._flags & AI_V4MAPPED:
            types = (RRType.A, RRType.AAAA)
        if not self._names.current.servers:
            text = f"{GAI_TEXT[EAI_AGAIN]}: {host!r} is not in the hosts table, and no name server"
            raise socket.gaierror(EAI_AGAIN, f"{text} is known (names.conf of the host)")
        self.lookup = host, types

    def _numeric(self, host: str) -> sockaddr | None:
        """The address when `host` is one; None for a name.  Raises: gaierror: wrong family."""
        family = self._family
        v4 = ipv4_number(host)
        if v4 is not None:
            if family == uapi.AF_INET6:
                if not self._flags & AI_V4MAPPED:
                    raise gai_error(EAI_ADDRFAMILY)
                return sockaddr(uapi.AF_INET6, V4MAPPED | v4, 0)
            return sockaddr(uapi.AF_INET, v4, 0)
        text, percent, zone = host.partition("%")
        try:
            address = int.from_bytes(socket.inet_pton(socket.AF_INET6, text), "big")
        except (OSError, ValueError):
            return None
        if family == uapi.AF_INET:
            if address >> 32 != V4MAPPED >> 32:
                raise gai_error(EAI_ADDRFAMILY)
            return sockaddr(uapi.AF_INET, address & 0xFFFFFFFF, 0)
        scope_id: wide = 0
        if percent:
            # glibc's __inet6_scopeid_pton: a name only if it denotes a link
            local = address >> 118 == LINK_LOCAL or address >> 112 & 0xFF0F == MULTICAST_LINK_LOCAL
            try:
                scope_id = self._ifindex(zone) if local or zone.isdecimal() else -1
            except OSError:
                scope_id = -1
            if not 0 <= scope_id <= 0xFFFFFFFF:
                raise gai_error(EAI_NONAME)
        return sockaddr(uapi.AF_INET6, address, 0, 0, scope_id)

    def _wanted(self, found: Iterable[sockaddr]) -> list[sockaddr]:
        """The addresses of the requested family, with AI_V4MAPPED mapped IPv4 ones."""
        every = list(dict.fromkeys(found))
        if self._family == uapi.AF_UNSPEC:
            return every
        same = [a for a in every if a.family == self._family]
        flags = self._flags
        if self._family == uapi.AF_INET6 and flags & AI_V4MAPPED and (flags & AI_ALL or not same):
            same += [
                sockaddr(uapi.AF_INET6, V4MAPPED | a.addr, 0)
                for a in every
                if a.family == uapi.AF_INET
            ]
        return same

    def answer(self, result: Finished) -> list[Row]:
        """The rows of a lookup's result.  Raises: gaierror: there is no address."""
        if result.outcome is not Outcome.FOUND:
            raise gai_error(result.outcome.value)
        families = {RRType.A: uapi.AF_INET, RRType.AAAA: uapi.AF_INET6}
        found = self._wanted(
            sockaddr(families[RRType(record.type)], record.data, 0)
            for record in result.records
            if isinstance(record.data, int)
        )
        if not found:
            raise gai_error(EAI_NODATA)
        return self._finish(found, name_to_text(result.canonical))

    def _finish(self, addresses: list[sockaddr], canonical: str) -> list[Row]:
        if len(addresses) > 1:
            addresses = self._sort(addresses)
        first = canonical if self._flags & AI_CANONNAME else ""
        rows: list[Row] = []
        for a in addresses:
            for type_, proto, port in self._kinds:
                name = sockaddr(a.family, a.addr, port, 0, a.scope_id)
                rows.append((a.family, type_, proto, "" if rows else first, name))
        self.rows = rows
        return rows


def _text(what: str, value: str | bytes | None) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if value is not None and not isinstance(value, str):
        raise TypeError(f"getaddrinfo: {what} {value!r} must be text, bytes or None")
    return value


def _number(port: str | bytes | int | None) -> int | None:
    """Parse a port's number as strtoul(3), without a limit; None for a name."""
    if port is None:
        return 0
    if isinstance(port, str | bytes):
        text = _text("port", port) or ""
        digits = text.lstrip(" \t\n\v\f\r")
        sign = -1 if digits.startswith("-") else 1
        digits = digits[1:] if digits[:1] in ("+", "-") else digits
        if not (digits.isascii() and digits.isdigit()):
            return None if text else 0
        return sign * int(digits[:10])
    if not isinstance(port, int):
        raise TypeError(f"getaddrinfo: port {port!r} must be a number, text or None")
    return port


def _port_number(port: str | bytes | int | None) -> int | None:
    """The number of a port; None for a name.  Raises: gaierror: no port has that number."""
    number = _number(port)
    if number is not None and not 0 <= number <= 0xFFFF:
        raise gai_error(EAI_SERVICE)
    return number
