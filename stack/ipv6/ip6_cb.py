"""struct inet6_skb_parm: offsets of a received packet's headers (include/linux/ipv6.h).

`skb.cb` holds one only for a packet that has extension headers. Flags of both directions are
`skb.ip_cb_flags`, the size of the largest fragment is `skb.frag_max_size`.
"""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff
from stack.core.rows import row, state

IP6SKB_FORWARDED = 2
IP6SKB_REROUTED = 4
IP6SKB_ROUTERALERT = 8
IP6SKB_FRAGMENTED = 16
IP6SKB_HOPBYHOP = 32
IP6SKB_JUMBOGRAM = 128

NHOFF_FIRST = 6
"""Offset of the next header field in the IPv6 header."""


@state
class inet6_skb_parm:
    """struct inet6_skb_parm. Offsets count from the IPv6 header, 0: no such header.

    nhoff: the next header field that names the header at the transport header. srcrt: the routing
    header. ra: the value of a router alert.
    """

    nhoff: int = row(NHOFF_FIRST)
    srcrt: int = row(0)
    ra: int = row(0)


def IP6CB(skb: sk_buff) -> inet6_skb_parm:
    """include/linux/ipv6.h: the packet's inet6_skb_parm, made when it has none."""
    parm = skb.cb
    if parm.__class__ is not inet6_skb_parm:
        parm = skb.cb = inet6_skb_parm()
    return parm


def ip6cb_nhoff(skb: sk_buff) -> int:
    """IP6CB(skb)->nhoff, without making an inet6_skb_parm."""
    parm = skb.cb
    return parm.nhoff if parm.__class__ is inet6_skb_parm else NHOFF_FIRST


def ip6cb_srcrt(skb: sk_buff) -> int:
    """IP6CB(skb)->srcrt, without making an inet6_skb_parm."""
    parm = skb.cb
    return parm.srcrt if parm.__class__ is inet6_skb_parm else 0
