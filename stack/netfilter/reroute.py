"""Rerouting local packets after hooks changed them (net/ipv4/netfilter.c, ipv6's)."""

from __future__ import annotations

import errno

from fastpath.base.skbuff import sk_buff, skb_cow_head, skb_headroom
from fastpath.net.hdr import ip_hdr, ipv6_hdr
from stack.core.netfilter import NFPROTO_IPV4, NFPROTO_IPV6
from stack.core.rows import wide
from stack.core.sock import sock
from stack.core.uapi import AF_INET, AF_INET6, RTN_LOCAL
from stack.inet.flow import FLOWI_FLAG_ANYSRC, flowi
from stack.ipv4.fib import inet_addr_type
from stack.ipv4.route import ip_route_output_key
from stack.ipv6.route import ip6_route_output
from stack.net import Net


def ip_route_me_harder(net: Net, sk: sock | None, skb: sk_buff, pf: int) -> int:
    """net/ipv4/netfilter.c, net/ipv6/netfilter.c ip6_route_me_harder: route a packet of LOCAL_OUT
    again by its header; 0, or a negative errno, and the caller drops it.
    """
    return _reroute4(net, sk, skb) if pf == NFPROTO_IPV4 else _reroute6(net, sk, skb)


def _reroute4(net: Net, sk: sock | None, skb: sk_buff) -> int:
    iph = ip_hdr(skb)
    saddr, flags = iph.saddr, 0
    if inet_addr_type(net, saddr) != RTN_LOCAL:
        flags = FLOWI_FLAG_ANYSRC
    oif = sk.sk_bound_dev_if if sk is not None else 0
    fl4 = flowi(AF_INET, iph.daddr, saddr, oif, iph.tos & 0x1C, iph.protocol)
    fl4.flowi_flags = flags
    fl4.flowi_mark = skb.mark
    try:
        rt = ip_route_output_key(net, fl4)
    except OSError as exc:
        return -(exc.errno or errno.EHOSTUNREACH)
    skb.dst = rt
    dev = rt.dev
    if skb_headroom(skb) < dev.hard_header_len and not skb_cow_head(
        skb, dev.hard_header_len + dev.needed_headroom
    ):
        return -errno.ENOMEM
    return 0


def _reroute6(net: Net, sk: sock | None, skb: sk_buff) -> int:
    iph = ipv6_hdr(skb)
    oif = sk.sk_bound_dev_if if sk is not None else 0
    fl6 = flowi(AF_INET6, iph.daddr, iph.saddr, oif)
    fl6.flowi_mark = skb.mark
    rt = ip6_route_output(net, sk, fl6)  # type: ignore[arg-type]
    if rt.error:
        net.mib.ip6.OutNoRoutes += 1
        return -abs(rt.error)
    skb.dst = rt
    return 0


def _key4(skb: sk_buff) -> tuple[int, int, int, int]:
    """net/ipv4/netfilter.c struct ip_rt_info: the routing key of an IPv4 packet."""
    iph = ip_hdr(skb)
    return iph.saddr, iph.daddr, iph.tos, skb.mark


def _key6(skb: sk_buff) -> tuple[wide, wide, int]:
    """net/ipv6/netfilter.c struct ip6_rt_info."""
    iph = ipv6_hdr(skb)
    return iph.saddr, iph.daddr, skb.mark


def reroute_init(net: Net) -> None:
    """Register rerouting of packets that a queue's listener changed at LOCAL_OUT (nf_reroute)."""
    net.nf_queue.reroute[NFPROTO_IPV4] = _key4, _reroute4
    net.nf_queue.reroute[NFPROTO_IPV6] = _key6, _reroute6
