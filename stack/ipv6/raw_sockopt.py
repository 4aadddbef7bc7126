"""Options of raw AF_INET6 sockets (net/ipv6/raw.c): checksum, header, ICMPv6 types."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from stack.core import uapi
from stack.core.errors import os_error
from stack.core.rows import replace
from stack.core.sockopt_table import (
    RAW,
    Level,
    SockOpt,
    get_option,
    number,
    only,
    opt_bytes,
    opt_int,
    set_option,
    switch,
)
from stack.core.uapi import IPPROTO_ICMPV6, SOL_ICMPV6, SOL_IPV6, SOL_RAW
from stack.ipv6.ipv6_sockglue import ipv6_getsockopt, ipv6_setsockopt

if TYPE_CHECKING:
    from stack.ipv6.raw import raw6_sock

FILTER_BYTES = 32
"""struct icmp6_filter: a bit for each type, set = not wanted; least type first."""


only_icmpv6 = only("inet_num", (IPPROTO_ICMPV6,), errno.EOPNOTSUPP, "ICMPV6_FILTER: only ICMPv6")


def not_icmpv6(sk: raw6_sock) -> None:
    """Raises: OSError EINVAL."""
    if sk.inet_num == IPPROTO_ICMPV6:
        raise os_error(errno.EINVAL, "the checksum of ICMPv6 is the kernel's (RFC 3542 3.1)")


def rawv6_seticmpfilter(sk: raw6_sock, data: bytes) -> None:
    """net/ipv6/raw.c: a short value keeps the rest."""
    data = data[:FILTER_BYTES]
    sk.filter = int.from_bytes(data + rawv6_geticmpfilter(sk)[len(data) :], "little")


def rawv6_geticmpfilter(sk: raw6_sock) -> bytes:
    """net/ipv6/raw.c"""
    return sk.filter.to_bytes(FILTER_BYTES, "little")


def rawv6_set_checksum(sk: raw6_sock, val: int) -> None:
    """IPV6_CHECKSUM: the offset of the checksum, -1 for none. Raises: OSError EINVAL."""
    if val > 0 and val & 1:
        raise os_error(errno.EINVAL, f"IPV6_CHECKSUM {val} is odd")
    sk.offset = max(val, -1)


# fmt: off
ICMPV6_LEVEL = Level("IPPROTO_ICMPV6", SOL_ICMPV6, vars(uapi), (
    SockOpt("ICMPV6_FILTER", "ICMPv6 types that are not received", sockets=RAW,
        takes=opt_bytes, set=rawv6_seticmpfilter, get=rawv6_geticmpfilter),
), length_first=False)
RAWV6_LEVEL = Level("IPPROTO_IPV6", SOL_IPV6, vars(uapi), (
    number("IPV6_CHECKSUM", "offset", None, "offset of the checksum that the stack fills in",
        sockets=RAW, may_set=not_icmpv6, set=rawv6_set_checksum),
    switch("IPV6_HDRINCL", "hdrincl", "the program supplies the IPv6 header", since="4.5",
        sockets=RAW),
))
# fmt: on
RAW_LEVEL6 = Level("SOL_RAW", SOL_RAW, vars(uapi), [replace(r, may_set=None) for r in RAWV6_LEVEL])
"""Linux takes these at SOL_RAW as well."""
RAW_LEVELS = {SOL_IPV6: RAWV6_LEVEL, SOL_RAW: RAW_LEVEL6}


def rawv6_setsockopt(sk: raw6_sock, level: int, optname: int, optval: Any) -> None:
    """net/ipv6/raw.c: IPV6_CHECKSUM, IPV6_HDRINCL, ICMPV6_FILTER; the rest is IPv6's.

    Raises: OSError.
    """
    if level == SOL_ICMPV6:
        only_icmpv6(sk)
        set_option(ICMPV6_LEVEL, sk, optname, optval)
    elif level in RAW_LEVELS and optname in RAW_LEVELS[level].rows:
        set_option(RAW_LEVELS[level], sk, optname, optval)
    else:
        if level == SOL_RAW:
            opt_int(optval)  # as on Linux, the length is checked first
        ipv6_setsockopt(sk, level, optname, optval)


def rawv6_getsockopt(sk: raw6_sock, level: int, optname: int, optlen: int) -> Any:
    """net/ipv6/raw.c. Raises: OSError."""
    if level == SOL_ICMPV6:
        only_icmpv6(sk)
        return get_option(ICMPV6_LEVEL, sk, optname)
    if level in RAW_LEVELS and optname in RAW_LEVELS[level].rows:
        return get_option(RAW_LEVELS[level], sk, optname)
    return ipv6_getsockopt(sk, level, optname, optlen)
