"""Group options of IPPROTO_IP: IPv4's structures, and those for either family (RFC 3678).

net/ipv4/ip_sockglue.c. Addresses in structures are in network order, ints in the machine's.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import Any

from stack.core import uapi
from stack.core.errors import os_error
from stack.core.sockopt_table import opt_bytes, structure
from stack.inet.inet_sock import inet_sock
from stack.ipv4 import igmp
from stack.ipv4.addr import ipv4_is_multicast

STORAGE = 128  # sizeof(struct sockaddr_storage)
GROUP_REQ = 8 + STORAGE
GROUP_SOURCE_REQ = 8 + 2 * STORAGE
GROUP_FILTER = 8 + STORAGE + 8
IP_MSFILTER_SIZE = 16
NUMBERS = struct.Struct("=II")
Act = Callable[["inet_sock", int, int], object]


def ip_mreq(sk: inet_sock, optval: Any, leave: bool = False) -> tuple[int, int]:
    """(group, ifindex) of a struct ip_mreq or ip_mreqn. Raises: OSError EINVAL, ENODEV.

    With `leave` the group is not checked: leaving one that is not joined fails later.
    """
    data = opt_bytes(optval)
    if len(data) < 8:
        raise os_error(errno.EINVAL, "struct ip_mreq has 8 bytes")
    group = int.from_bytes(data[:4], "big")
    addr = int.from_bytes(data[4:8], "big")
    if not leave:
        need_group(group)
    ifindex = struct.unpack("=i", data[8:12])[0] if len(data) >= 12 else 0
    if not ifindex:
        dev = igmp.ip_mc_find_dev(sk.net, group, addr)
        if dev is None:
            if leave and addr:
                raise os_error(errno.EADDRNOTAVAIL, "not a member of this group")
            raise os_error(errno.ENODEV, "no interface for this group")
        ifindex = dev.ifindex
    return group, ifindex


def sockaddr4(data: bytes) -> int:
    """The address of a struct sockaddr_in at the start of `data`. Raises: OSError EINVAL."""
    if struct.unpack_from("=H", data)[0] != uapi.AF_INET:
        raise os_error(errno.EINVAL, "not an address of IPv4")
    return int.from_bytes(data[4:8], "big")


def need(data: bytes, size: int) -> None:
    """Check that a structure is complete. Raises: OSError EINVAL."""
    if len(data) < size:
        raise os_error(errno.EINVAL, f"the option takes a structure of {size} bytes")


def ifindex_of(sk: inet_sock, group: int, ifindex: int, addr: int = 0) -> int:
    """The interface of a membership: the one named, else by address or route. Raises: ENODEV."""
    if ifindex:
        return ifindex
    dev = igmp.ip_mc_find_dev(sk.net, group, addr)
    if dev is None:
        raise os_error(errno.ENODEV, "no interface for this group")
    return dev.ifindex


def need_group(group: int) -> None:
    """Raises: OSError EINVAL."""
    if not ipv4_is_multicast(group):
        raise os_error(errno.EINVAL, "not a multicast group")


def ip_membership(act: Act, leave: bool, sk: inet_sock, optval: Any) -> None:
    """IP_ADD_MEMBERSHIP, IP_DROP_MEMBERSHIP: struct ip_mreq or ip_mreqn. Raises: OSError."""
    if sk.sk_type == uapi.SOCK_STREAM:
        raise os_error(errno.EPROTO, "streams join no groups")
    act(sk, *ip_mreq(sk, optval, leave))


def ip_source(kind: int, sk: inet_sock, optval: Any) -> None:
    """One source of a group, struct ip_mreq_source; `kind` is the option. Raises: OSError."""
    data = opt_bytes(optval)
    if len(data) != 12:
        raise os_error(errno.EINVAL, "struct ip_mreq_source has 12 bytes")
    group, ifindex = ip_mreq(sk, data[:8])
    igmp.ip_mc_source(sk, kind, group, int.from_bytes(data[8:12], "big"), ifindex)


def ip_mcast_join_leave(act: Act, sk: inet_sock, optval: Any) -> None:
    """net/ipv4/ip_sockglue.c: MCAST_JOIN_GROUP, MCAST_LEAVE_GROUP. Raises: OSError."""
    data = opt_bytes(optval)
    need(data, GROUP_REQ)
    group = sockaddr4(data[8:])
    act(sk, group, ifindex_of(sk, group, struct.unpack_from("=i", data)[0]))


def ip_mcast_source(kind: int, sk: inet_sock, optval: Any) -> None:
    """net/ipv4/ip_sockglue.c do_mcast_group_source; `kind` as in ip_source. Raises: OSError."""
    data = opt_bytes(optval)
    if len(data) != GROUP_SOURCE_REQ:
        raise os_error(errno.EINVAL, f"the option takes a structure of {GROUP_SOURCE_REQ} bytes")
    index = struct.unpack_from("=i", data)[0]
    for part in (data[8:], data[8 + STORAGE :]):
        if struct.unpack_from("=H", part)[0] != uapi.AF_INET:
            raise os_error(errno.EADDRNOTAVAIL, "not an address of IPv4")
    group, source = sockaddr4(data[8:]), sockaddr4(data[8 + STORAGE :])
    igmp.ip_mc_source(sk, kind, group, source, ifindex_of(sk, group, index))


def ip_set_msfilter(sk: inet_sock, optval: Any) -> None:
    """net/ipv4/ip_sockglue.c: IP_MSFILTER, struct ip_msfilter. Raises: OSError EINVAL, ENOBUFS."""
    data = opt_bytes(optval)
    need(data, IP_MSFILTER_SIZE)
    mode, count = NUMBERS.unpack_from(data, 8)
    check_count(sk, count)
    need(data, IP_MSFILTER_SIZE + 4 * count)
    group, addr = (int.from_bytes(data[i : i + 4], "big") for i in (0, 4))
    at = range(IP_MSFILTER_SIZE, IP_MSFILTER_SIZE + 4 * count, 4)
    sources = [int.from_bytes(data[i : i + 4], "big") for i in at]
    need_group(group)
    igmp.ip_mc_msfilter(sk, group, ifindex_of(sk, group, 0, addr), mode, sources)


def ip_set_mcast_msfilter(sk: inet_sock, optval: Any) -> None:
    """net/ipv4/ip_sockglue.c: MCAST_MSFILTER, struct group_filter. Raises: OSError."""
    data = opt_bytes(optval)
    need(data, GROUP_FILTER)
    mode, count = NUMBERS.unpack_from(data, 8 + STORAGE)
    check_count(sk, count)
    need(data, GROUP_FILTER + STORAGE * count)
    group = sockaddr4(data[8:])
    sources = [sockaddr4(data[GROUP_FILTER + STORAGE * i :]) for i in range(count)]
    index = ifindex_of(sk, group, struct.unpack_from("=i", data)[0])
    igmp.ip_mc_msfilter(sk, group, index, mode, sources)


def check_count(sk: inet_sock, count: int) -> None:
    """Check a filter's number of sources (sysctl igmp_max_msf). Raises: OSError ENOBUFS."""
    if count >= 0x1FFFFFFC or count > sk.net.sysctl.igmp_max_msf:
        raise os_error(errno.ENOBUFS, "igmp_max_msf reached")


ADD, DROP = uapi.IP_ADD_SOURCE_MEMBERSHIP, uapi.IP_DROP_SOURCE_MEMBERSHIP
BLOCK, UNBLOCK = uapi.IP_BLOCK_SOURCE, uapi.IP_UNBLOCK_SOURCE
# fmt: off
GROUP_OPTIONS = (
    structure("IP_ADD_MEMBERSHIP", "join a group", ip_membership, igmp.ip_mc_join_group, False),
    structure("IP_ADD_SOURCE_MEMBERSHIP", "join one source of a group", ip_source, ADD),
    structure("IP_BLOCK_SOURCE", "no more of one source of a group", ip_source, BLOCK),
    structure("IP_DROP_MEMBERSHIP", "leave a group", ip_membership, igmp.ip_mc_leave_group, True),
    structure("IP_DROP_SOURCE_MEMBERSHIP", "leave one source of a group", ip_source, DROP),
    structure("IP_MSFILTER", "all senders of a group at once", ip_set_msfilter),
    structure("IP_UNBLOCK_SOURCE", "a blocked source again", ip_source, UNBLOCK),
    structure("MCAST_BLOCK_SOURCE (IPv4)", "no datagrams of a group from this sender",
        ip_mcast_source, BLOCK),
    structure("MCAST_JOIN_GROUP (IPv4)", "join a group of either family",
        ip_mcast_join_leave, igmp.ip_mc_join_group),
    structure("MCAST_JOIN_SOURCE_GROUP (IPv4)", "datagrams of a group from this sender only",
        ip_mcast_source, ADD),
    structure("MCAST_LEAVE_GROUP (IPv4)", "leave a group of either family",
        ip_mcast_join_leave, igmp.ip_mc_leave_group),
    structure("MCAST_LEAVE_SOURCE_GROUP (IPv4)", "take a sender off that list",
        ip_mcast_source, DROP),
    structure("MCAST_MSFILTER (IPv4)", "all senders of a group at once", ip_set_mcast_msfilter),
    structure("MCAST_UNBLOCK_SOURCE (IPv4)", "datagrams of a group from this sender again",
        ip_mcast_source, UNBLOCK),
)
# fmt: on
