"""Group options of AF_INET6 sockets: join, leave, filters (net/ipv6/ipv6_sockglue.c, mcast.c).

The structures are those of Linux on a 64-bit machine: `struct ipv6_mreq` (group, interface index),
`group_req` and `group_source_req` (index, padding, sockaddr_storage), `group_filter`.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from stack.core.errors import os_error
from stack.core.rows import wide
from stack.core.sockopt_table import structure
from stack.core.uapi import AF_INET6, SOCK_STREAM
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
Join = Callable[["inet_sock", int, wide], object]


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


def _mreq(raw: bytes) -> tuple[int, wide]:
    """Interface and address of a struct ipv6_mreq."""
    return struct.unpack_from("=i", raw, 16)[0], int.from_bytes(raw[:16], "big")


def ipv6_membership(act: Join, sk: inet_sock, value: object) -> None:
    """IPV6_JOIN_GROUP, IPV6_LEAVE_GROUP. Raises: OSError."""
    raw = _bytes(value, 20)
    if sk.sk_type == SOCK_STREAM:
        raise os_error(errno.EPROTO, "streams join no groups")
    act(sk, *_mreq(raw))


def ipv6_anycast(act: Join, sk: inet_sock, value: object) -> None:
    """IPV6_JOIN_ANYCAST, IPV6_LEAVE_ANYCAST. Raises: OSError."""
    act(sk, *_mreq(_bytes(value, 20)))


def ipv6_mcast_join_leave(act: Join, sk: inet_sock, value: object) -> None:
    """net/ipv6/ipv6_sockglue.c: MCAST_JOIN_GROUP, MCAST_LEAVE_GROUP. Raises: OSError."""
    raw = _bytes(value, GROUP_REQ)
    act(sk, struct.unpack_from("=i", raw)[0], _sockaddr6(raw[8:]))


def do_ipv6_mcast_group_source(add: bool, mode: int, sk: inet_sock, value: object) -> None:
    """net/ipv6/ipv6_sockglue.c: one source of a group. Raises: OSError."""
    raw = _bytes(value, GROUP_SOURCE_REQ)
    group, source = _sockaddr6(raw[8:]), _sockaddr6(raw[8 + STORAGE :])
    ip6_mc_source(sk, add, mode, struct.unpack_from("=i", raw)[0], group, source)


def ipv6_set_mcast_msfilter(sk: inet_sock, value: object) -> None:
    """net/ipv6/ipv6_sockglue.c: MCAST_MSFILTER, struct group_filter. Raises: OSError."""
    raw = _bytes(value, GROUP_FILTER)
    mode, count = struct.unpack_from("=II", raw, 8 + STORAGE)
    if count > sk.net.ipv6.sysctl.mld_max_msf:
        raise os_error(errno.ENOBUFS, "mld_max_msf reached")
    raw = _bytes(raw, GROUP_FILTER + count * STORAGE)
    sources = [_sockaddr6(raw[GROUP_FILTER + i * STORAGE :]) for i in range(count)]
    ip6_mc_msfilter(sk, struct.unpack_from("=i", raw)[0], _sockaddr6(raw[8:]), mode, sources)


# fmt: off
GROUP_OPTIONS = (
    structure("IPV6_JOIN_ANYCAST", "have an anycast address", ipv6_anycast, ipv6_sock_ac_join),
    structure("IPV6_JOIN_GROUP", "join a group", ipv6_membership, ipv6_sock_mc_join),
    structure("IPV6_LEAVE_ANYCAST", "give an anycast address up",
        ipv6_anycast, ipv6_sock_ac_drop),
    structure("IPV6_LEAVE_GROUP", "leave a group", ipv6_membership, ipv6_sock_mc_drop),
    structure("MCAST_BLOCK_SOURCE", "no datagrams of a group from this sender",
        do_ipv6_mcast_group_source, True, MCAST_EXCLUDE),
    structure("MCAST_JOIN_GROUP", "join a group of either family",
        ipv6_mcast_join_leave, ipv6_sock_mc_join),
    structure("MCAST_JOIN_SOURCE_GROUP", "datagrams of a group from this sender only",
        do_ipv6_mcast_group_source, True, MCAST_INCLUDE),
    structure("MCAST_LEAVE_GROUP", "leave a group of either family",
        ipv6_mcast_join_leave, ipv6_sock_mc_drop),
    structure("MCAST_LEAVE_SOURCE_GROUP", "take a sender off that list",
        do_ipv6_mcast_group_source, False, MCAST_INCLUDE),
    structure("MCAST_MSFILTER", "all senders of a group at once", ipv6_set_mcast_msfilter),
    structure("MCAST_UNBLOCK_SOURCE", "datagrams of a group from this sender again",
        do_ipv6_mcast_group_source, False, MCAST_EXCLUDE),
)
# fmt: on


def ipv6_group_close(sk: inet_sock) -> None:
    """A socket is closed: it leaves groups and anycast addresses."""
    ipv6_sock_mc_close(sk)
    ipv6_sock_ac_close(sk)


def ipv6_groups_init(net: Net) -> None:
    """Fill the slots by which sockets reach their groups."""
    groups = net.ipv6.groups
    groups.check = inet6_mc_check
    groups.close = ipv6_group_close
