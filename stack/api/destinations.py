"""The order in which a namespace tries a name's addresses (RFC 6724).

As in glibc, a datagram socket is connected to each destination, which sends nothing, and its own
address is the source address. Unreachable destinations come last.
"""

from __future__ import annotations

from stack.core.bsd_socket import sys_close, sys_connect, sys_getsockname, sys_socket
from stack.core.rows import wide
from stack.core.sockaddr import sockaddr
from stack.core.uapi import AF_INET, AF_INET6, SOCK_DGRAM
from stack.ipv6.addr import ipv6_addr_set_v4mapped
from stack.ipv6.if_inet6 import IFA_F_DEPRECATED, for_each_ifaddr6
from stack.ipv6.rfc6724 import SourceChoice, destination_sort
from stack.net import Net

__all__ = ["sort_destinations", "source_for"]

PROBE_PORT = 9
"""The discard port. connect(2) of a datagram socket needs a port, but sends nothing."""


def sort_destinations(net: Net, addresses: list[sockaddr]) -> list[sockaddr]:
    """The addresses in the order to try them. Call with the host's lock held."""
    return destination_sort(addresses, _as_v6, lambda address: source_for(net, address))


def source_for(net: Net, to: sockaddr) -> SourceChoice | None:
    """The source address that `net` would use towards `to`; None: unreachable."""
    own: sockaddr | None = None
    try:
        fd = sys_socket(net, to.family, SOCK_DGRAM, 0)
    except OSError:  # this namespace lacks the family
        return None
    try:
        sys_connect(net, fd, sockaddr(to.family, to.addr, PROBE_PORT, 0, to.scope_id))
        own = sys_getsockname(net, fd)
    except OSError:
        return None
    finally:
        sys_close(net, fd)
    if own is None:
        return None
    if own.family == AF_INET:
        return SourceChoice(_as_v6(own), _prefix_of(net, own.addr))
    for ifp in for_each_ifaddr6(net):
        if ifp.addr == own.addr:
            deprecated = bool(ifp.flags & IFA_F_DEPRECATED)
            return SourceChoice(own.addr, ifp.prefix_len, deprecated)
    return SourceChoice(own.addr)


def _as_v6(address: sockaddr) -> wide:
    if address.family == AF_INET6:
        return address.addr
    return ipv6_addr_set_v4mapped(address.addr)


def _prefix_of(net: Net, addr: int) -> int:
    for dev in net.dev_base_head:
        if dev.ip_ptr is not None:
            for ifa in dev.ip_ptr.ifa_list:
                if ifa.ifa_local == addr:
                    return int(ifa.ifa_prefixlen)
    return 24
