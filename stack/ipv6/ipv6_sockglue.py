"""net/ipv6/ipv6_sockglue.c: the options of level SOL_IPV6 that streams need.

What stands here acts on sk.pinet6, where TCP reads it for each packet.
"""

from __future__ import annotations

import errno
from typing import Any

from stack.core.sock import lock_sock, os_error, release_sock
from stack.core.sockopt import opt_int
from stack.core.uapi import SOCK_RAW, SOL_IP
from stack.inet.inet_sock import inet_sock
from stack.ipv4.ip_sockglue import ip_getsockopt, ip_setsockopt
from stack.ipv6.pinfo import IPV6_PMTUDISC_OMIT, ipv6_pinfo

# include/uapi/linux/in6.h
SOL_IPV6 = 41
IPV6_UNICAST_HOPS = 16
IPV6_MTU_DISCOVER = 23
IPV6_RECVERR = 25
IPV6_V6ONLY = 26
IPV6_FLOWINFO_SEND = 33
IPV6_TCLASS = 67
IPV6_MINHOPCOUNT = 73


def _within(value: int, low: int, high: int) -> int:
    """`value`. Raises: OSError EINVAL when it is not low..high."""
    if not low <= value <= high:
        raise os_error(errno.EINVAL)
    return value


def _pinfo(sk: inet_sock) -> ipv6_pinfo:
    """Raises: OSError ENOPROTOOPT for a socket of another family."""
    if sk.pinet6 is None:
        raise os_error(errno.ENOPROTOOPT)
    return sk.pinet6


def do_ipv6_setsockopt(sk: inet_sock, optname: int, val: int) -> None:
    """Raises: OSError EINVAL, ENOPROTOOPT."""
    np = _pinfo(sk)
    match optname:
        case x if x == IPV6_V6ONLY:
            if sk.inet_num:
                raise os_error(errno.EINVAL)
            sk.sk_ipv6only = bool(val)
        case x if x == IPV6_UNICAST_HOPS:
            np.hop_limit = _within(val, -1, 255)
        case x if x == IPV6_TCLASS:
            np.tclass = max(_within(val, -1, 255), 0)
        case x if x == IPV6_RECVERR:
            np.recverr = bool(val)
        case x if x == IPV6_MTU_DISCOVER:
            np.pmtudisc = _within(val, 0, IPV6_PMTUDISC_OMIT)
        case x if x == IPV6_FLOWINFO_SEND:
            np.sndflow = bool(val)
        case x if x == IPV6_MINHOPCOUNT:
            np.min_hopcount = _within(val, 0, 255)
        case _:
            raise os_error(errno.ENOPROTOOPT)


def ipv6_setsockopt(sk: inet_sock, level: int, optname: int, optval: Any) -> None:
    """The options of level SOL_IPV6; those of SOL_IP serve v4-mapped peers. Raises: OSError."""
    if level == SOL_IP and sk.sk_type != SOCK_RAW:
        ip_setsockopt(sk, level, optname, optval)
        return
    if level != SOL_IPV6:
        raise os_error(errno.ENOPROTOOPT)
    lock_sock(sk)
    try:
        do_ipv6_setsockopt(sk, optname, opt_int(optval))
    finally:
        release_sock(sk)


def ipv6_getsockopt(sk: inet_sock, level: int, optname: int) -> Any:
    """An int. Raises: OSError ENOPROTOOPT."""
    if level == SOL_IP and sk.sk_type != SOCK_RAW:
        return ip_getsockopt(sk, level, optname)
    if level != SOL_IPV6:
        raise os_error(errno.ENOPROTOOPT)
    np = _pinfo(sk)
    values = {
        IPV6_V6ONLY: int(sk.sk_ipv6only),
        IPV6_UNICAST_HOPS: np.hop_limit if np.hop_limit >= 0 else 64,
        IPV6_TCLASS: np.tclass,
        IPV6_RECVERR: int(np.recverr),
        IPV6_MTU_DISCOVER: np.pmtudisc,
        IPV6_FLOWINFO_SEND: int(np.sndflow),
        IPV6_MINHOPCOUNT: np.min_hopcount,
    }
    if optname not in values:
        raise os_error(errno.ENOPROTOOPT)
    return values[optname]
