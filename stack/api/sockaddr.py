"""Addresses of applications, as Python's: ("10.0.0.1", 80), ("fe80::1", 80, 0, 2), "/run/socket".

`parse` converts one to the `sockaddr` of the sys_* calls, `show` converts back.
"""

from __future__ import annotations

import errno
import operator
import os
import socket
from functools import lru_cache
from typing import Any, TypeAlias

from fastpath.errors import ArgumentRangeError, ArgumentTypeError
from stack.core.errors import os_error
from stack.core.rows import narrow, wide
from stack.core.sockaddr import sockaddr, sockaddr_ll, sockaddr_un
from stack.core.uapi import AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, IPV6_FLOWLABEL_MASK
from stack.net import Net

Address: TypeAlias = (
    tuple[str | int, int]
    | tuple[str | int, int, int]
    | tuple[str | int, int, int, int]
    | str
    | bytes
    | bytearray
)
"""(host, port), with IPv6 also (host, port, flowinfo, scope_id); a host is text or an int.

An AF_UNIX address is a path, or the bytes of an abstract name, which begin with NUL.
"""
RetAddress: TypeAlias = Any
"""Address of a peer, None on a stream without one. Any, as in typeshed."""

CACHED = 1024
UNIX_PATH_BYTES = 108


@lru_cache(CACHED)
def inet_aton(text: str) -> int:
    """Dotted quad to host-order int; "" is any address, "<broadcast>" is 255.255.255.255.

    Raises: OSError: not an IPv4 address. For names use `stack.socket.getaddrinfo`.
    """
    if text == "":
        return 0
    if text == "<broadcast>":
        return 0xFFFFFFFF
    if text == "localhost":
        return 0x7F000001
    parts = text.split(".")
    if len(parts) == 4 and all(p.isascii() and p.isdigit() and len(p) <= 3 for p in parts):
        a, b, c, d = map(int, parts)
        if a | b | c | d < 256:
            return a << 24 | b << 16 | c << 8 | d
    raise os_error(errno.EINVAL, f"{text!r} is not a dotted IPv4 address")


@lru_cache(CACHED)
def inet_ntoa(addr: int) -> str:
    """Host-order int to dotted quad."""
    return f"{addr >> 24}.{addr >> 16 & 255}.{addr >> 8 & 255}.{addr & 255}"


@lru_cache(CACHED)
def inet6_aton(text: str) -> wide:
    """Text of an IPv6 address (RFC 4291 2.2) to host-order int; "" is any address.

    Raises: OSError: not an IPv6 address. For names use `stack.socket.getaddrinfo`.
    """
    if text == "":
        return 0
    if text == "localhost":
        return 1
    try:
        return int.from_bytes(socket.inet_pton(socket.AF_INET6, text), "big")
    except (OSError, ValueError):  # ValueError: a NUL in the text
        raise os_error(errno.EINVAL, f"{text!r} is not an IPv6 address") from None


@lru_cache(CACHED)
def inet6_ntoa(addr: wide) -> str:
    """Host-order int to the text of RFC 5952."""
    return socket.inet_ntop(socket.AF_INET6, addr.to_bytes(16, "big"))


def interface_index(net: Net, text: str) -> wide:
    """The index of the interface after the % of an address. Raises: OSError ENODEV."""
    dev = net.dev_by_name.get(text)
    if dev is not None:
        return int(dev.ifindex)
    if text.isascii() and text.isdigit():
        return int(text)
    raise os_error(errno.ENODEV, f"no interface {text!r}")


def parse(net: Net, family: int, address: Address) -> sockaddr:
    """Convert an application's address of `family` to the `sockaddr` that sys_* calls take.

    Raises: ArgumentTypeError: not a tuple of the right length, a port that is not an int.
    ArgumentRangeError: a port, flow or scope out of range. OSError: not an address of that family.
    """
    if family == AF_PACKET:
        return parse_ll(net, address)
    if family == AF_UNIX:
        return parse_un(address)
    if family == AF_NETLINK:
        return parse_nl(address)
    most = 4 if family == AF_INET6 else 2
    if not isinstance(address, tuple | list) or not 2 <= len(address) <= most:
        raise ArgumentTypeError(
            f'address {address!r} is not a (host, port) pair; give one such as ("10.0.0.1", 80)'
            if most == 2
            else f"address {address!r} is not (host, port[, flowinfo[, scope_id]]); give one such "
            'as ("fe80::1", 80, 0, 2)'
        )
    given: list[Any] = [*address, 0, 0]
    host = given[0]
    if not isinstance(host, str | int):
        raise ArgumentTypeError(
            f"address {address!r}: host {host!r} is a {type(host).__name__}; give text"
        )
    port = _number(address, "port", given[1], 65535)
    if family != AF_INET6:
        addr = host if isinstance(host, int) else inet_aton(host)
        return _sockaddr(AF_INET, addr, narrow(port), 0, 0)
    flowinfo = _number(address, "flowinfo", given[2], IPV6_FLOWLABEL_MASK)
    scope_id = _number(address, "scope_id", given[3], 0xFFFFFFFF)
    if isinstance(host, int):
        return _sockaddr(AF_INET6, host, narrow(port), narrow(flowinfo), scope_id)
    text, percent, zone = host.partition("%")
    if percent:
        scope_id = interface_index(net, zone)
    addr6 = inet6_aton(text)
    return _sockaddr(AF_INET6, addr6, narrow(port), narrow(flowinfo), scope_id)


def _number(address: Any, name: str, value: Any, most: int) -> wide:
    """A number of an address, as an int. Raises: ArgumentTypeError, ArgumentRangeError."""
    try:
        number: wide = operator.index(value)
    except TypeError:
        raise ArgumentTypeError(
            f"address {address!r}: {name} {value!r} is a {type(value).__name__}; give an int"
        ) from None
    if not 0 <= number <= most:
        raise ArgumentRangeError(f"address {address!r}: {name} must be 0-{most}, not {number}")
    return number


def parse_ll(net: Net, address: Any) -> sockaddr_ll:
    """(interface, protocol[, packet type[, hardware type[, address]]]) of AF_PACKET.

    Raises: TypeError, OverflowError, ValueError as Python's own sockets do; OSError ENODEV.
    """
    if not isinstance(address, tuple) or not 2 <= len(address) <= 5:
        raise ArgumentTypeError(
            f"address {address!r} is not (interface, protocol[, pkttype[, hatype[, addr]]]); give "
            'one such as ("eth0", 0x0800)'
        )
    rest: tuple[Any, ...] = (0, 0, b"")
    given: list[Any] = [*address, *rest[len(address) - 2 :]]
    name, proto, pkttype, hatype, addr = given
    if not isinstance(name, str):
        raise ArgumentTypeError(f"address {address!r}: interface {name!r} is no name; give text")
    for number in (proto, pkttype, hatype):
        if not isinstance(number, int):
            raise ArgumentTypeError(f"address {address!r}: {number!r} is no number; give an int")
    dev = net.dev_by_name.get(name)
    if dev is None:
        raise os_error(errno.ENODEV, f"no interface {name!r}")
    if len(memoryview(addr)) > 8:
        raise ValueError("hardware address must be 8 bytes or less")
    if not 0 <= proto <= 0xFFFF:
        raise ArgumentRangeError(f"address {address!r}: protocol must be 0-65535, not {proto}")
    return sockaddr_ll(proto, dev.ifindex, hatype & 0xFFFF, pkttype & 0xFF, bytes(addr))


def show_ll(net: Net, name: sockaddr_ll) -> tuple[str, int, int, int, bytes]:
    """A sockaddr_ll in the application's form, with the interface's current name or ""."""
    dev = net.dev_by_index.get(name.ifindex)
    return (
        dev.name if dev is not None else "",
        name.protocol,
        name.pkttype,
        name.hatype,
        name.lladdr,
    )


def parse_nl(address: Any) -> sockaddr:
    """(port id, groups) of AF_NETLINK; port id 0: the kernel's, for bind any free one.

    Raises: ArgumentTypeError, ArgumentRangeError.
    """
    if not isinstance(address, tuple) or len(address) != 2:
        raise ArgumentTypeError(
            f"address {address!r} is not a (port id, groups) pair; give one such as (0, 0)"
        )
    portid = _number(address, "port id", address[0], 0xFFFFFFFF)
    return sockaddr(AF_NETLINK, portid, 0, _number(address, "groups", address[1], 0xFFFFFFFF))


def parse_un(address: object) -> sockaddr_un:
    """An address of AF_UNIX: a path, b"" (or "") for a name that bind chooses, or an abstract name.

    Raises: TypeError; OSError ENAMETOOLONG.
    """
    if isinstance(address, str):
        address = os.fsencode(address)
    try:
        path = bytes(memoryview(address))  # type: ignore[arg-type]  # TypeError if it is not
    except TypeError:
        raise ArgumentTypeError(
            f"AF_UNIX address must be str or bytes, not {address!r}; give a path"
        ) from None
    # A path needs room for a NUL at its end, an abstract name does not.
    if len(path) >= UNIX_PATH_BYTES + (not path or not path[0]):
        raise os_error(errno.ENAMETOOLONG, "AF_UNIX path too long")
    return sockaddr_un(path)


def _sockaddr(family: int, addr: wide, port: int, flowinfo: int, scope_id: wide) -> sockaddr:
    try:
        return sockaddr(family, addr, port, flowinfo, scope_id)
    except ValueError as exc:
        raise os_error(errno.EINVAL, str(exc)) from None


def show(name: sockaddr) -> Any:
    """A sockaddr in the application's form: two numbers for IPv4, four for IPv6.

    For AF_UNIX a path as text ("" without a name), an abstract name as bytes.
    """
    if isinstance(name, sockaddr_un):
        path = name.path
        return path if path[:1] == b"\0" else os.fsdecode(path)
    if name.family == AF_INET6:
        return inet6_ntoa(name.addr), name.port, name.flowinfo, name.scope_id
    if name.family == AF_NETLINK:
        return name.addr, name.flowinfo
    return inet_ntoa(name.addr), name.port
