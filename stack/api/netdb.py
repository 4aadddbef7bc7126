"""getaddrinfo and its relatives for a network namespace: hosts table, resolver, interfaces.

The calls block on the host's clock; `lookup` is the non-blocking form for stack.aio.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any, TypeAlias

from stack.api.destinations import sort_destinations
from stack.api.sockaddr import Address, inet_ntoa, interface_index, parse, show
from stack.clients.addrinfo import AI_CANONNAME, EAI_NONAME, V4MAPPED, AddrInfo, gai_error
from stack.clients.dns_wire import RRType
from stack.clients.dnsname import Name, name_to_text, reverse_name
from stack.clients.resolver import Finished, Lookup
from stack.clients.run_dns import LookupRunner
from stack.clients.services import service_name
from stack.core.sockaddr import sockaddr
from stack.core.uapi import AF_INET, AF_INET6, AF_UNIX, SOCK_STREAM
from stack.net import Net, check_net

__all__ = [
    "NI_DGRAM",
    "NI_NAMEREQD",
    "NI_NOFQDN",
    "NI_NUMERICHOST",
    "NI_NUMERICSERV",
    "AddressInfo",
    "address_info",
    "getaddrinfo",
    "gethostbyaddr",
    "gethostbyname",
    "gethostbyname_ex",
    "getnameinfo",
    "lookup",
    "names_of",
    "resolve",
    "reverse_question",
    "rows_of",
]

NI_NUMERICHOST, NI_NUMERICSERV, NI_NOFQDN, NI_NAMEREQD, NI_DGRAM = 1, 2, 4, 8, 16
HOST_NOT_FOUND = 1

AddressInfo: TypeAlias = tuple[int, int, int, str, tuple[Any, ...]]
"""(family, type, protocol, canonical name, address), as `socket.getaddrinfo` returns them."""


# --- names to addresses ---------------------------------------------------------------------------


def address_info(
    net: Net,
    host: str | bytes | None,
    port: str | bytes | int | None,
    family: int = 0,
    type: int = 0,  # noqa: A002 -- as in the standard library
    proto: int = 0,
    flags: int = 0,
) -> AddrInfo:
    """Check the arguments of getaddrinfo; `rows` is set if no query is needed."""
    return AddrInfo(
        host,
        port,
        family,
        type,
        proto,
        flags,
        names=net.names,
        ifindex=lambda text: interface_index(net, text),
        configured=lambda wanted: has_address(net, wanted),
        sort=lambda addresses: (net.names.sort or sort_destinations)(net, addresses),
    )


def has_address(net: Net, family: int) -> bool:
    """Whether an interface except loopback has an address of `family` (glibc's __check_pf)."""
    for dev in net.dev_base_head:
        if dev is net.loopback_dev:
            continue
        if family == AF_INET:
            found = dev.ip_ptr is not None and bool(dev.ip_ptr.ifa_list)
        else:
            found = dev.ip6_ptr is not None and bool(dev.ip6_ptr.addr_list)
        if found:
            return True
    return False


def rows_of(rows: list[tuple[int, int, int, str, sockaddr]]) -> list[AddressInfo]:
    """Rows with addresses as tuples, for applications."""
    return [(family, type_, proto, name, show(addr)) for family, type_, proto, name, addr in rows]


def getaddrinfo(
    net: Net,
    host: str | bytes | None,
    port: str | bytes | int | None,
    family: int = 0,
    type: int = 0,  # noqa: A002
    proto: int = 0,
    flags: int = 0,
) -> list[AddressInfo]:
    """`socket.getaddrinfo` of a namespace: its hosts table, then the servers in its resolv.conf.

    Raises: socket.gaierror, with glibc's codes.
    """
    check_net("getaddrinfo", net)
    with net.lock:
        asked = address_info(net, host, port, family, type, proto, flags)
        if asked.lookup is None:
            return rows_of(asked.rows or [])
        return rows_of(asked.answer(_wait(net, *asked.lookup)))


def resolve(net: Net, family: int, type: int, address: Address) -> sockaddr:  # noqa: A002
    """Parse an address whose host may be a name; a name gives its first address.

    Raises: TypeError, OverflowError, OSError, as `parse`; socket.gaierror for a name.
    """
    if family == AF_UNIX or isinstance(address, str | bytes | bytearray):
        return parse(net, family, address)
    try:
        return parse(net, family, address)
    except OSError as error:
        host = address[0]
        if error.errno != errno.EINVAL or not isinstance(host, str):
            raise
    rows = getaddrinfo(net, host, None, family, type)
    return parse(net, family, (str(rows[0][4][0]), *address[1:]))


def lookup(
    net: Net, name: str | Name, types: tuple[int, ...], done: Callable[[Finished], object]
) -> LookupRunner:
    """Query the namespace's servers, then call `done(result)` with the lock held.

    Call with the host's lock held.
    """
    core = Lookup(name, types, conf=net.names.current, random=net.random)
    runner = LookupRunner(net, core, done)
    runner.start()
    return runner


def _wait(net: Net, name: str | Name, types: tuple[int, ...]) -> Finished:
    """`lookup` that waits for the result."""
    runner = lookup(net, name, types, lambda result: net.clock.wake())
    try:
        net.clock.wait(lambda: runner.result is not None)
    finally:
        runner.cancel()
    assert runner.result is not None
    return runner.result


def gethostbyname(net: Net, name: str) -> str:
    """`socket.gethostbyname`: the first IPv4 address, as text.  Raises: socket.gaierror."""
    host = {"": "0.0.0.0", "<broadcast>": "255.255.255.255"}.get(name, name)
    rows = getaddrinfo(net, host, None, AF_INET, SOCK_STREAM)
    return str(rows[0][4][0])


def gethostbyname_ex(net: Net, name: str) -> tuple[str, list[str], list[str]]:
    """`socket.gethostbyname_ex`: canonical name, aliases, IPv4 addresses.

    Raises: socket.gaierror.
    """
    check_net("gethostbyname_ex", net)
    with net.lock:
        asked = address_info(net, name, None, AF_INET, SOCK_STREAM, 0, AI_CANONNAME)
        aliases: list[str] = []
        if asked.lookup is None:
            rows = asked.rows or []
            known = net.names.hosts.names(AF_INET, rows[0][4].addr)
            if rows[0][3] in known:
                aliases = [alias for alias in known if alias != rows[0][3]]
        else:
            result = _wait(net, *asked.lookup)
            rows = asked.answer(result)
            aliases = [name_to_text(alias) for alias in result.aliases]
    return rows[0][3], aliases, [inet_ntoa(row[4].addr) for row in rows]


# --- addresses to names ---------------------------------------------------------------------------


def _known(net: Net, addr: sockaddr) -> tuple[tuple[str, ...], Name | None]:
    """An address's names from the hosts table, or else the name to query."""
    family, address = addr.family, addr.addr
    if family == AF_INET6 and address >> 32 == V4MAPPED >> 32:
        family, address = AF_INET, address & 0xFFFFFFFF
    known = net.names.hosts.names(family, address)
    if known or not net.names.current.servers:
        return known, None
    return (), reverse_name(address, 32 if family == AF_INET else 128)


def _pointers(result: Finished) -> tuple[str, ...]:
    return tuple([name_to_text(r.data) for r in result.records if isinstance(r.data, tuple)])


def _numeric_address(net: Net, address: Address) -> sockaddr:
    """Parse the address. Raises: socket.gaierror: invalid. OSError: IPv4 with flow information."""
    if not isinstance(address, tuple):
        raise TypeError("getnameinfo() argument 1 must be a tuple")
    family = AF_INET6 if address and ":" in str(address[0]) else AF_INET
    if family == AF_INET and 2 < len(address) <= 4:
        raise OSError("IPv4 sockaddr must be 2 tuple")
    try:
        return parse(net, family, address)
    except OSError:
        raise gai_error(EAI_NONAME) from None


def reverse_question(net: Net, address: Address, flags: int) -> tuple[Name, tuple[int, ...]] | None:
    """The query of getnameinfo, or None.  Raises: socket.gaierror."""
    question = None
    addr = _numeric_address(net, address)
    if not flags & NI_NUMERICHOST:
        _, question = _known(net, addr)
    return None if question is None else (question, (RRType.PTR,))


def names_of(net: Net, address: Address, flags: int, result: Finished | None) -> tuple[str, str]:
    """The result of getnameinfo, with the servers' answer if there was a query.

    Raises: socket.gaierror: NI_NAMEREQD without a name.
    """
    addr = _numeric_address(net, address)
    names: tuple[str, ...] = ()
    if not flags & NI_NUMERICHOST:
        names = _known(net, addr)[0] if result is None else _pointers(result)
    host = next(iter(names), "")
    if flags & NI_NOFQDN:
        host = _local_part(net, host)
    if not host:
        if flags & NI_NAMEREQD:
            raise gai_error(EAI_NONAME)
        host = str(show(addr)[0])
        if addr.scope_id:
            dev = net.dev_by_index.get(addr.scope_id)
            host += f"%{addr.scope_id if dev is None else dev.name}"
    port = str(addr.port)
    if not flags & NI_NUMERICSERV:
        port = service_name(addr.port, "udp" if flags & NI_DGRAM else "tcp") or port
    return host, port


def getnameinfo(net: Net, address: Address, flags: int) -> tuple[str, str]:
    """`socket.getnameinfo`: the host and service names of a numeric address.

    Raises: socket.gaierror: NI_NAMEREQD without a name, or a host that is not an address.
    """
    check_net("getnameinfo", net)
    with net.lock:
        question = reverse_question(net, address, flags)
        return names_of(net, address, flags, None if question is None else _wait(net, *question))


def _local_part(net: Net, host: str) -> str:
    """The first label of a host in a local domain (NI_NOFQDN), any other name unchanged."""
    for domain in net.names.current.search:
        suffix = "." + name_to_text(domain)
        if host.lower().endswith(suffix.lower()):
            return host[: -len(suffix)]
    return host


def gethostbyaddr(net: Net, ip: str) -> tuple[str, list[str], list[str]]:
    """`socket.gethostbyaddr`: name, aliases, addresses.  Raises: socket.gaierror, socket.herror."""
    rows = getaddrinfo(net, ip, None, 0, SOCK_STREAM)
    family, _, _, _, address = rows[0]
    with net.lock:
        names, question = _known(net, parse(net, family, address))
        if question is not None:
            names = _pointers(_wait(net, question, (RRType.PTR,)))
    if not names:
        raise socket.herror(HOST_NOT_FOUND, "Unknown host")
    return names[0], list(names[1:]), [str(address[0])]
