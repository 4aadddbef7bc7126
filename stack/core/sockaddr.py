"""The address that socket calls take and give (include/linux/socket.h, uapi/linux/in6.h).

Every layer below the applications passes addresses as this one value, whatever the family.
"""

from __future__ import annotations

import errno
import struct
from sys import byteorder

from fastpath.net.sockaddr import sockaddr, sockaddr_from, sockaddr_ll, sockaddr_un
from stack.core.errors import os_error
from stack.core.uapi import AF_INET6, AF_NETLINK

__all__ = [
    "in_addr_of",
    "need_sa_len",
    "sockaddr",
    "sockaddr_bytes",
    "sockaddr_from",
    "sockaddr_ll",
    "sockaddr_un",
]

NO_NAME = 1
"""sa_len of an address of zero bytes, which some sending calls treat as no address."""
SA_FAMILY_LEN = 2
SOCKADDR_IN_LEN = 16
SIN6_LEN_RFC2133 = 24
SOCKADDR_IN6_LEN = 28
SOCKADDR_LL_LEN = 20


def sockaddr_bytes(name: sockaddr) -> bytes:
    """The struct sockaddr of an address, of the length that getsockname(2) returns."""
    head = struct.pack("=H", name.family)
    if isinstance(name, sockaddr_un):
        return head + name.path + (b"\0" if name.path[:1] not in (b"", b"\0") else b"")
    if isinstance(name, sockaddr_ll):
        rest = struct.pack("=IHBB", name.ifindex, name.hatype, name.pkttype, len(name.lladdr))
        return head + struct.pack(">H", name.protocol) + rest + name.lladdr
    if name.family == AF_NETLINK:
        return head + struct.pack("=2xII", name.addr, name.flowinfo)
    head += struct.pack(">H", name.port)
    if name.family == AF_INET6:
        flow, scope = struct.pack(">I", name.flowinfo), struct.pack("=I", name.scope_id)
        return head + flow + name.addr.to_bytes(16, "big") + scope
    return head + name.addr.to_bytes(4, "big") + bytes(8)


def in_addr_of(name: sockaddr) -> int:
    """The 32 bits at the offset of sin_addr in a struct sockaddr of any family.

    bind of a raw IPv4 socket reads them without a look at the family.
    """
    if isinstance(name, sockaddr_un):
        return int.from_bytes(name.path[2:6].ljust(4, b"\0"), "big")
    if isinstance(name, sockaddr_ll):
        return int.from_bytes(name.ifindex.to_bytes(4, byteorder), "big")
    return name.flowinfo if name.family == AF_INET6 else name.addr


def need_sa_len(name: sockaddr, least: int) -> None:
    """Check that an address given as bytes has at least `least`. Raises: OSError EINVAL."""
    if 0 < name.sa_len < least:
        raise os_error(errno.EINVAL, f"an address of {name.sa_len} bytes; it has {least}")
