"""include/net/route.h: the neighbour that an IPv4 packet goes to next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath.base.skbuff import sk_buff
from fastpath.net.hdr import ip_hdr
from stack.core.neigh_table import neighbour
from stack.core.neighbour import neigh_create
from stack.core.netdevice import IFF_LOOPBACK, IFF_POINTOPOINT, net_device
from stack.core.rows import wide

if TYPE_CHECKING:
    from stack.ipv4.route import rtable

_ONE_FOR_ALL = IFF_LOOPBACK | IFF_POINTOPOINT


def ip_neigh_gw4(dev: net_device, daddr: int) -> neighbour | None:
    """include/net/route.h: the entry for an IPv4 next hop, made when missing."""
    if dev.flags & _ONE_FOR_ALL:  # one entry is used for all addresses
        daddr = 0
    tbl = dev.net.arp_tbl
    n = tbl.hash.get(daddr << 16 | dev.ifindex)
    if n is None:
        n = neigh_create(tbl, daddr, dev)
    return n


def ip_neigh_gw6(dev: net_device, addr: wide) -> neighbour | None:
    """include/net/route.h: the entry for an IPv6 next hop, made when missing."""
    tbl = dev.net.ipv6.nd_tbl
    if dev.flags & IFF_LOOPBACK:  # one entry is used for all addresses
        addr = 0
    n = tbl.hash.get(addr << 16 | dev.ifindex)
    return n if n is not None else neigh_create(tbl, addr, dev)


def ip_neigh_for_gw(rt: rtable, skb: sk_buff) -> neighbour | None:
    """include/net/route.h: the next neighbour of a routed packet; None when the table is full.

    A route to one neighbour caches it: an output route has one destination, and a gateway is one
    neighbour. An input route without a gateway serves many hosts.
    """
    n = rt.neigh
    if n is not None and not n.dead:
        return n
    gateway = rt.rt_gw4
    if rt.rt_gw6:
        rt.neigh = ip_neigh_gw6(rt.dev, rt.rt_gw6)
        return rt.neigh
    n = ip_neigh_gw4(rt.dev, gateway or ip_hdr(skb).daddr)
    if gateway or not rt.rt_is_input:
        rt.neigh = n
    return n
