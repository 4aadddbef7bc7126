"""Group options of IPPROTO_IP: IPv4's structures, and those for either family (RFC 3678).

net/ipv4/ip_sockglue.c. Addresses in structures are in network order, ints in the machine's.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Any

from stack.core import uapi
from stack.core.errors import os_error
from stack.core.sockopt import opt_bytes
from stack.inet.mc_filter import MCAST_EXCLUDE, MCAST_INCLUDE
from stack.ipv4 import igmp

if TYPE_CHECKING:
    from stack.inet.inet_sock import inet_sock

STORAGE = 128  # sizeof(struct sockaddr_storage)
GROUP_REQ = 8 + STORAGE
GROUP_SOURCE_REQ = 8 + 2 * STORAGE
GROUP_FILTER = 8 + STORAGE + 8
IP_MSFILTER_SIZE = 16
NUMBERS = struct.Struct("=II")

SOURCE_OPTIONS = {
    uapi.MCAST_JOIN_SOURCE_GROUP: uapi.IP_ADD_SOURCE_MEMBERSHIP,
    uapi.MCAST_LEAVE_SOURCE_GROUP: uapi.IP_DROP_SOURCE_MEMBERSHIP,
    uapi.MCAST_BLOCK_SOURCE: uapi.IP_BLOCK_SOURCE,
    uapi.MCAST_UNBLOCK_SOURCE: uapi.IP_UNBLOCK_SOURCE,
}


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
    if group >> 28 != 0xE:
        raise os_error(errno.EINVAL, "not a multicast group")


def ip_mcast_join_leave(sk: inet_sock, optname: int, data: bytes) -> None:
    """net/ipv4/ip_sockglue.c: MCAST_JOIN_GROUP, MCAST_LEAVE_GROUP. Raises: OSError."""
    need(data, GROUP_REQ)
    group = sockaddr4(data[8:])
    ifindex = ifindex_of(sk, group, struct.unpack_from("=i", data)[0])
    if optname == uapi.MCAST_JOIN_GROUP:
        igmp.ip_mc_join_group(sk, group, ifindex)
    else:
        igmp.ip_mc_leave_group(sk, group, ifindex)


def ip_mcast_source(sk: inet_sock, optname: int, data: bytes) -> None:
    """net/ipv4/ip_sockglue.c do_mcast_group_source: one source of a group. Raises: OSError."""
    if len(data) != GROUP_SOURCE_REQ:
        raise os_error(errno.EINVAL, f"the option takes a structure of {GROUP_SOURCE_REQ} bytes")
    index = struct.unpack_from("=i", data)[0]
    for part in (data[8:], data[8 + STORAGE :]):
        if struct.unpack_from("=H", part)[0] != uapi.AF_INET:
            raise os_error(errno.EADDRNOTAVAIL, "not an address of IPv4")
    group, source = sockaddr4(data[8:]), sockaddr4(data[8 + STORAGE :])
    number = SOURCE_OPTIONS[optname]
    igmp.ip_mc_source(sk, number, group, source, ifindex_of(sk, group, index))


def ip_set_msfilter(sk: inet_sock, data: bytes) -> None:
    """net/ipv4/ip_sockglue.c: IP_MSFILTER, struct ip_msfilter. Raises: OSError EINVAL, ENOBUFS."""
    need(data, IP_MSFILTER_SIZE)
    mode, count = NUMBERS.unpack_from(data, 8)
    check_count(sk, count)
    need(data, IP_MSFILTER_SIZE + 4 * count)
    group, addr = (int.from_bytes(data[i : i + 4], "big") for i in (0, 4))
    at = range(IP_MSFILTER_SIZE, IP_MSFILTER_SIZE + 4 * count, 4)
    sources = [int.from_bytes(data[i : i + 4], "big") for i in at]
    need_group(group)
    igmp.ip_mc_msfilter(sk, group, ifindex_of(sk, group, 0, addr), mode, sources)


def ip_set_mcast_msfilter(sk: inet_sock, data: bytes) -> None:
    """net/ipv4/ip_sockglue.c: MCAST_MSFILTER, struct group_filter. Raises: OSError."""
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


__all__ = [
    "MCAST_EXCLUDE",
    "MCAST_INCLUDE",
    "ip_mcast_join_leave",
    "ip_mcast_source",
    "ip_mreq",
    "ip_set_mcast_msfilter",
    "ip_set_msfilter",
]
