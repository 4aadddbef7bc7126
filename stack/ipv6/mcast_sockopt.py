"""Group options of AF_INET6 sockets: join, leave, filters (net/ipv6/ipv6_sockglue.c, mcast.c).

The structures are those of Linux on a 64-bit machine: `struct ipv6_mreq` (group, interface index),
`group_req` and `group_source_req` (index, padding, sockaddr_storage), `group_filter`.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from stack.core.errors import os_error
from stack.core.rows import wide
from stack.core.uapi import (
    AF_INET6,
    IPV6_JOIN_ANYCAST,
    IPV6_JOIN_GROUP,
    IPV6_LEAVE_ANYCAST,
    IPV6_LEAVE_GROUP,
    MCAST_BLOCK_SOURCE,
    MCAST_JOIN_GROUP,
    MCAST_JOIN_SOURCE_GROUP,
    MCAST_LEAVE_GROUP,
    MCAST_LEAVE_SOURCE_GROUP,
    MCAST_MSFILTER,
    MCAST_UNBLOCK_SOURCE,
    SOCK_STREAM,
)
from stack.inet.mc_filter import MCAST_EXCLUDE, MCAST_INCLUDE
from stack.ipv6.anycast import ipv6_sock_ac_close, ipv6_sock_ac_drop, ipv6_sock_ac_join
from stack.ipv6.mcast import (
    inet6_mc_check,
    ip6_mc_msfilter,
    ip6_mc_source,
    ipv6_sock_mc_close,
    ipv6_sock_mc_drop,
    ipv6_sock_mc_join,
)

if TYPE_CHECKING:
    from stack.inet.inet_sock import inet_sock
    from stack.net import Net

STORAGE = 128  # sizeof(struct sockaddr_storage)
GROUP_REQ = 8 + STORAGE
GROUP_SOURCE_REQ = 8 + 2 * STORAGE
GROUP_FILTER = 8 + STORAGE + 8

_SOURCE_OPTIONS = {
    MCAST_JOIN_SOURCE_GROUP: (True, MCAST_INCLUDE),
    MCAST_LEAVE_SOURCE_GROUP: (False, MCAST_INCLUDE),
    MCAST_BLOCK_SOURCE: (True, MCAST_EXCLUDE),
    MCAST_UNBLOCK_SOURCE: (False, MCAST_EXCLUDE),
}


def _bytes(value: object, size: int) -> bytes:
    """The option's structure. Raises: OSError EINVAL when it is too short."""
    raw = bytes(value) if isinstance(value, bytes | bytearray | memoryview) else b""
    if len(raw) < size:
        raise os_error(errno.EINVAL, f"the option takes a structure of {size} bytes")
    return raw


def _sockaddr6(raw: bytes) -> wide:
    """The address of a sockaddr_in6. Raises: OSError EADDRNOTAVAIL for another family."""
    if struct.unpack_from("=H", raw)[0] != AF_INET6:
        raise os_error(errno.EADDRNOTAVAIL, "not an address of IPv6")
    return int.from_bytes(raw[8:24], "big")


def ipv6_group_setsockopt(sk: inet_sock, np: object, optname: int, value: object) -> bool:
    """Set a group option; False for any other. Raises: OSError as on Linux."""
    if optname in (
        IPV6_JOIN_GROUP,
        IPV6_LEAVE_GROUP,
        IPV6_JOIN_ANYCAST,
        IPV6_LEAVE_ANYCAST,
    ):
        raw = _bytes(value, 20)
        addr = int.from_bytes(raw[:16], "big")
        ifindex: int = struct.unpack_from("=i", raw, 16)[0]
        groups = optname in (IPV6_JOIN_GROUP, IPV6_LEAVE_GROUP)
        if groups and sk.sk_type == SOCK_STREAM:
            raise os_error(errno.EPROTO, "streams join no groups")
        if optname == IPV6_JOIN_GROUP:
            ipv6_sock_mc_join(sk, ifindex, addr)
        elif optname == IPV6_LEAVE_GROUP:
            ipv6_sock_mc_drop(sk, ifindex, addr)
        elif optname == IPV6_JOIN_ANYCAST:
            ipv6_sock_ac_join(sk, ifindex, addr)
        else:
            ipv6_sock_ac_drop(sk, ifindex, addr)
        return True
    if optname in (MCAST_JOIN_GROUP, MCAST_LEAVE_GROUP):
        raw = _bytes(value, GROUP_REQ)
        ifindex, group = struct.unpack_from("=i", raw)[0], _sockaddr6(raw[8:])
        (ipv6_sock_mc_join if optname == MCAST_JOIN_GROUP else ipv6_sock_mc_drop)(
            sk, ifindex, group
        )
        return True
    if optname in _SOURCE_OPTIONS:
        raw = _bytes(value, GROUP_SOURCE_REQ)
        add, mode = _SOURCE_OPTIONS[optname]
        group, source = _sockaddr6(raw[8:]), _sockaddr6(raw[8 + STORAGE :])
        ip6_mc_source(sk, add, mode, struct.unpack_from("=i", raw)[0], group, source)
        return True
    if optname == MCAST_MSFILTER:
        raw = _bytes(value, GROUP_FILTER)
        mode, count = struct.unpack_from("=II", raw, 8 + STORAGE)
        if count > sk.net.ipv6.sysctl.mld_max_msf:
            raise os_error(errno.ENOBUFS, "mld_max_msf reached")
        raw = _bytes(raw, GROUP_FILTER + count * STORAGE)
        sources = [_sockaddr6(raw[GROUP_FILTER + i * STORAGE :]) for i in range(count)]
        ip6_mc_msfilter(sk, struct.unpack_from("=i", raw)[0], _sockaddr6(raw[8:]), mode, sources)
        return True
    return False


def ipv6_group_close(sk: inet_sock) -> None:
    """A socket is closed: it leaves groups and anycast addresses."""
    ipv6_sock_mc_close(sk)
    ipv6_sock_ac_close(sk)


def ipv6_group_check(sk: inet_sock, group: wide, source: wide) -> bool:
    """inet6_mc_check, for the sockets' slot."""
    return inet6_mc_check(sk, group, source)


def ipv6_groups_init(net: Net) -> None:
    """Fill the slots by which sockets reach their groups."""
    groups = net.ipv6.groups
    groups.check = ipv6_group_check
    groups.close = ipv6_group_close
    groups.setsockopt = ipv6_group_setsockopt
