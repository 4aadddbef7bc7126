"""Multicast options of AF_INET6 sockets for packets sent (net/ipv6/ipv6_sockglue.c)."""

from __future__ import annotations

import errno
from typing import Any

from stack.core import uapi
from stack.core.errors import os_error
from stack.core.sockopt import opt_int
from stack.inet.inet_sock import inet_sock
from stack.ipv6.pinfo import ipv6_pinfo


def ipv6_mcast_setsockopt(sk: inet_sock, np: ipv6_pinfo, optname: int, optval: Any) -> bool:
    """Set one of these options; False for any other. Raises: OSError."""
    match optname:
        case uapi.IPV6_MULTICAST_IF:
            if sk.sk_type == uapi.SOCK_STREAM:
                raise os_error(errno.ENOPROTOOPT, "streams do not multicast")
            ifindex = opt_int(optval)
            if ifindex and ifindex not in sk.net.dev_by_index:
                raise os_error(errno.ENODEV, f"no device with index {ifindex}")
            if ifindex and sk.sk_bound_dev_if and ifindex != sk.sk_bound_dev_if:
                raise os_error(errno.EINVAL, "the socket is bound to another interface")
            np.mcast_oif = ifindex
        case uapi.IPV6_MULTICAST_HOPS:
            if sk.sk_type == uapi.SOCK_STREAM:
                raise os_error(errno.ENOPROTOOPT, "streams do not multicast")
            hops = opt_int(optval)
            if not -1 <= hops <= 255:
                raise os_error(errno.EINVAL, f"hop limit {hops} is not between -1 and 255")
            np.mcast_hops = 1 if hops == -1 else hops
        case uapi.IPV6_MULTICAST_LOOP:
            np.mc_loop = bool(_zero_or_one(optval))
        case uapi.IPV6_MULTICAST_ALL:
            np.mc_all = bool(opt_int(optval))
        case _:
            return sk.net.ipv6.groups.setsockopt(sk, np, optname, optval)
    return True


def _zero_or_one(optval: Any) -> int:
    value = opt_int(optval)
    if value not in (0, 1):
        raise os_error(errno.EINVAL, f"{value} is neither 0 nor 1")
    return value


def ipv6_mcast_getsockopt(sk: inet_sock, np: ipv6_pinfo, optname: int) -> int | None:
    """The value of one of these options; None for any other."""
    match optname:
        case uapi.IPV6_MULTICAST_IF:
            return np.mcast_oif
        case uapi.IPV6_MULTICAST_HOPS:
            return np.mcast_hops
        case uapi.IPV6_MULTICAST_LOOP:
            return int(np.mc_loop)
        case uapi.IPV6_MULTICAST_ALL:
            return int(np.mc_all)
    return None
