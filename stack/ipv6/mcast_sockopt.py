"""Group options of AF_INET6 sockets: join, leave, filters (net/ipv6/ipv6_sockglue.c, mcast.c).

`struct ipv6_mreq` is a group and an interface's index; the other structures are in
stack/inet/mc_filter.py.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable

from stack.core.errors import os_error
from stack.core.rows import wide
from stack.core.sockopt_table import opt_struct, structure
from stack.core.uapi import AF_INET6, SOCK_STREAM
from stack.inet import mc_filter
from stack.inet.inet_sock import inet_sock
from stack.ipv6.anycast import ipv6_sock_ac_drop, ipv6_sock_ac_join
from stack.ipv6.mcast import ip6_mc_msfilter, ip6_mc_source, ipv6_sock_mc_drop, ipv6_sock_mc_join

Join = Callable[["inet_sock", int, wide], object]


def _sockaddr6(raw: bytes) -> wide:
    """The address of a sockaddr_in6. Raises: OSError EADDRNOTAVAIL for another family."""
    if struct.unpack_from("=H", raw)[0] != AF_INET6:
        raise os_error(errno.EADDRNOTAVAIL, "not an address of IPv6")
    return _sin6_addr(raw)


def _sin6_addr(raw: bytes) -> wide:
    """The address of a sockaddr_in6, without a check of its family."""
    return int.from_bytes(raw[8:24], "big")


def _mreq(raw: bytes) -> tuple[int, wide]:
    """Interface and address of a struct ipv6_mreq."""
    return struct.unpack_from("=i", raw, 16)[0], int.from_bytes(raw[:16], "big")


def ipv6_membership(act: Join, sk: inet_sock, value: object) -> None:
    """IPV6_JOIN_GROUP, IPV6_LEAVE_GROUP. Raises: OSError."""
    raw = opt_struct(value, 20)
    if sk.sk_type == SOCK_STREAM:
        raise os_error(errno.EPROTO, "streams join no groups")
    act(sk, *_mreq(raw))


def ipv6_anycast(act: Join, sk: inet_sock, value: object) -> None:
    """IPV6_JOIN_ANYCAST, IPV6_LEAVE_ANYCAST. Raises: OSError."""
    act(sk, *_mreq(opt_struct(value, 20)))


def ipv6_mcast_join_leave(act: Join, sk: inet_sock, value: object) -> None:
    """net/ipv6/ipv6_sockglue.c: MCAST_JOIN_GROUP, MCAST_LEAVE_GROUP. Raises: OSError."""
    raw = opt_struct(value, mc_filter.GROUP_REQ)
    act(sk, mc_filter.group_index(raw), _sockaddr6(raw[8:]))


def do_ipv6_mcast_group_source(add: bool, mode: int, sk: inet_sock, value: object) -> None:
    """net/ipv6/ipv6_sockglue.c: one source of a group. Raises: OSError."""
    raw = opt_struct(value, mc_filter.GROUP_SOURCE_REQ)
    group, source = _sockaddr6(raw[8:]), _sockaddr6(raw[8 + mc_filter.STORAGE :])
    ifindex = mc_filter.group_index(raw)
    if add and mode == mc_filter.MCAST_INCLUDE:
        try:
            ipv6_sock_mc_join(sk, ifindex, group, mode)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise
    ip6_mc_source(sk, add, mode, ifindex, group, source)


def ipv6_set_mcast_msfilter(sk: inet_sock, value: object) -> None:
    """net/ipv6/ipv6_sockglue.c: MCAST_MSFILTER, struct group_filter. Raises: OSError."""
    limit = sk.net.ipv6.sysctl.mld_max_msf
    ip6_mc_msfilter(sk, *mc_filter.group_filter(value, _sin6_addr, limit, "mld_max_msf"))


# fmt: off
GROUP_OPTIONS = (
    structure("IPV6_JOIN_ANYCAST", "join an anycast address", ipv6_anycast, ipv6_sock_ac_join),
    structure("IPV6_JOIN_GROUP", "join a group", ipv6_membership, ipv6_sock_mc_join),
    structure("IPV6_LEAVE_ANYCAST", "leave an anycast address",
        ipv6_anycast, ipv6_sock_ac_drop),
    structure("IPV6_LEAVE_GROUP", "leave a group", ipv6_membership, ipv6_sock_mc_drop),
    *mc_filter.mcast_options("", ipv6_mcast_join_leave, ipv6_sock_mc_join, ipv6_sock_mc_drop,
        do_ipv6_mcast_group_source, ipv6_set_mcast_msfilter),
)
# fmt: on
