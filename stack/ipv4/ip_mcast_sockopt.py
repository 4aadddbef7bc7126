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
from stack.core.sockopt_table import opt_bytes, opt_struct, structure
from stack.inet import mc_filter
from stack.inet.inet_sock import inet_sock
from stack.inet.mc_filter import MCAST_EXCLUDE, MCAST_INCLUDE
from stack.ipv4 import igmp
from stack.ipv4.ipmr_sockopt import exactly

IP_MSFILTER_SIZE = 16
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
        igmp.need_group(group)
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
    """The address of a struct sockaddr_in at the start of `data`. Raises: OSError EADDRNOTAVAIL."""
    if struct.unpack_from("=H", data)[0] != uapi.AF_INET:
        raise os_error(errno.EADDRNOTAVAIL, "not an address of IPv4")
    return int.from_bytes(data[4:8], "big")


def set_source(sk: inet_sock, add: bool, mode: int, group: int, source: int, ifindex: int) -> None:
    """Change one source of a group; the socket joins the group if needed. Raises: OSError."""
    if add and mode == MCAST_INCLUDE:
        try:
            igmp.ip_mc_join_group(sk, group, ifindex, mode)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise
    igmp.ip_mc_source(sk, add, mode, group, source, ifindex)


def ip_membership(act: Act, leave: bool, sk: inet_sock, optval: Any) -> None:
    """IP_ADD_MEMBERSHIP, IP_DROP_MEMBERSHIP: struct ip_mreq or ip_mreqn. Raises: OSError."""
    if sk.sk_type == uapi.SOCK_STREAM:
        raise os_error(errno.EPROTO, "streams join no groups")
    act(sk, *ip_mreq(sk, optval, leave))


def ip_source(add: bool, mode: int, sk: inet_sock, optval: Any) -> None:
    """One source of a group, struct ip_mreq_source; `mode` as in ip_mc_source. Raises: OSError."""
    data = exactly(optval, 12)
    group, ifindex = ip_mreq(sk, data[:8])
    set_source(sk, add, mode, group, int.from_bytes(data[8:12], "big"), ifindex)


def ip_mcast_join_leave(act: Act, sk: inet_sock, optval: Any) -> None:
    """net/ipv4/ip_sockglue.c: MCAST_JOIN_GROUP, MCAST_LEAVE_GROUP. Raises: OSError."""
    data = opt_struct(optval, mc_filter.GROUP_REQ)
    if struct.unpack_from("=H", data, 8)[0] != uapi.AF_INET:
        raise os_error(errno.EINVAL, "not an address of IPv4")
    group = int.from_bytes(data[12:16], "big")
    act(sk, group, igmp.ifindex_of(sk, group, mc_filter.group_index(data)))


def ip_mcast_source(add: bool, mode: int, sk: inet_sock, optval: Any) -> None:
    """net/ipv4/ip_sockglue.c do_mcast_group_source, as ip_source. Raises: OSError."""
    data = exactly(optval, mc_filter.GROUP_SOURCE_REQ)
    group, source = sockaddr4(data[8:]), sockaddr4(data[8 + mc_filter.STORAGE :])
    ifindex = igmp.ifindex_of(sk, group, mc_filter.group_index(data))
    set_source(sk, add, mode, group, source, ifindex)


def ip_set_msfilter(sk: inet_sock, optval: Any) -> None:
    """net/ipv4/ip_sockglue.c: IP_MSFILTER, struct ip_msfilter. Raises: OSError EINVAL, ENOBUFS."""
    data = opt_struct(optval, IP_MSFILTER_SIZE)
    mode, count = struct.unpack_from("=II", data, 8)
    mc_filter.need_sources(count, max_msf(sk), "igmp_max_msf")
    opt_struct(data, IP_MSFILTER_SIZE + 4 * count)
    group, addr = (int.from_bytes(data[i : i + 4], "big") for i in (0, 4))
    at = range(IP_MSFILTER_SIZE, IP_MSFILTER_SIZE + 4 * count, 4)
    sources = [int.from_bytes(data[i : i + 4], "big") for i in at]
    igmp.ip_mc_msfilter(sk, group, 0, addr, mode, sources)


def ip_set_mcast_msfilter(sk: inet_sock, optval: Any) -> None:
    """net/ipv4/ip_sockglue.c: MCAST_MSFILTER, struct group_filter. Raises: OSError."""
    limit = max_msf(sk)
    index, group, mode, sources = mc_filter.group_filter(optval, sockaddr4, limit, "igmp_max_msf")
    igmp.ip_mc_msfilter(sk, group, index, 0, mode, sources)


def max_msf(sk: inet_sock) -> int:
    """How many sources a filter may have (sysctl igmp_max_msf)."""
    return min(sk.net.sysctl.igmp_max_msf, 0x1FFFFFFB)


# fmt: off
GROUP_OPTIONS = (
    structure("IP_ADD_MEMBERSHIP", "join a group", ip_membership, igmp.ip_mc_join_group, False),
    structure("IP_ADD_SOURCE_MEMBERSHIP", "join one source of a group",
        ip_source, True, MCAST_INCLUDE),
    structure("IP_BLOCK_SOURCE", "block one source of a group",
        ip_source, True, MCAST_EXCLUDE),
    structure("IP_DROP_MEMBERSHIP", "leave a group", ip_membership, igmp.ip_mc_leave_group, True),
    structure("IP_DROP_SOURCE_MEMBERSHIP", "leave one source of a group",
        ip_source, False, MCAST_INCLUDE),
    structure("IP_MSFILTER", "set the source filter of a group", ip_set_msfilter),
    structure("IP_UNBLOCK_SOURCE", "unblock a source of a group", ip_source, False, MCAST_EXCLUDE),
    *mc_filter.mcast_options(" (IPv4)", ip_mcast_join_leave, igmp.ip_mc_join_group,
        igmp.ip_mc_leave_group, ip_mcast_source, ip_set_mcast_msfilter),
)
# fmt: on
