"""Forwarding between interfaces, routes that drop (net/ipv6/ip6_output.c, net/ipv6/route.c)."""

from __future__ import annotations

import errno

from fastpath.base import skbuff
from fastpath.base.skbuff import sk_buff, skb_copy_bits, skb_cow, skb_network_offset
from fastpath.net.hdr import ipv6_hdr
from fastpath.net.hdr6 import ipv6_skip_exthdr
from stack.core import drop_reason
from stack.core.drop_reason import kfree_skb_reason
from stack.core.dst import dst_output
from stack.core.netfilter import NF_INET_FORWARD, nf_hook6
from stack.core.rows import wide
from stack.core.sock import sock
from stack.core.time64 import NSEC_PER_SEC
from stack.core.uapi import AF_INET6, IPV6_MIN_MTU
from stack.inet.do_fragment import inet_pkt_too_big
from stack.inet.icmp_limit import inet_getpeer, inet_peer_xrlim_allow
from stack.inet.raw import ra_deliver, ra_wanted
from stack.inet.xfrm_policy import XFRM_POLICY_FWD, xfrm6_policy_check, xfrm_route_forward
from stack.ipv6 import ip6_icmp
from stack.ipv6.addr import ipv6_addr_is_linklocal
from stack.ipv6.if_inet6 import inet6_dev
from stack.ipv6.ip6_cb import IP6CB, IP6SKB_FORWARDED, IP6SKB_ROUTERALERT, ip6cb_srcrt
from stack.ipv6.ip6_icmp import icmpv6_send
from stack.ipv6.ndisc import pndisc_proxied
from stack.ipv6.ndisc_send import ndisc_send_redirect
from stack.ipv6.protocol import NEXTHDR_ICMP
from stack.ipv6.rt6_info import ip6_dst_mtu_maybe_forward, rt6_info
from stack.net import Net


def ip6_call_ra_chain(skb: sk_buff, value: int) -> bool:
    """net/ipv6/ip6_output.c: pass a packet to raw sockets with its value of IPV6_ROUTER_ALERT.

    Takes ownership of skb when True.
    """
    socks = ra_wanted(skb.dev.net.ipv6.ra_chain, value, skb.dev.ifindex)
    if socks:
        ra_deliver(AF_INET6, socks, skb)
    return bool(socks)


def ip6_forward_proxy_check(skb: sk_buff) -> int:
    """net/ipv6/ip6_output.c: decide about a packet to an address that we proxy (proxy_ndp).

    1: deliver it here (neighbour discovery); -1: drop it (link-local); 0: forward it.
    """
    iph = ipv6_hdr(skb)
    offset = skb_network_offset(skb)
    at, nexthdr, _ = ipv6_skip_exthdr(skb, offset + 40, iph.nexthdr)
    if nexthdr == NEXTHDR_ICMP and 0 <= at < skb.len:
        kind = skb_copy_bits(skb, at, 1)[0]
        if ip6_icmp.NDISC_ROUTER_SOLICITATION <= kind <= ip6_icmp.NDISC_REDIRECT:
            return 1
    return -1 if ipv6_addr_is_linklocal(iph.daddr) else 0


def ip6_pkt_too_big(skb: sk_buff, mtu: int) -> bool:
    """net/ipv6/ip6_output.c"""
    return inet_pkt_too_big(skb, mtu)


def ip6_forward(skb: sk_buff) -> int:
    """net/ipv6/ip6_output.c: check hop limit, scopes and size, send a redirect, call FORWARD hooks.

    Takes ownership of skb. 0, or a negative errno.
    """
    net: Net = skb.dev.net
    rt: rt6_info = skb.dst
    mib = net.mib.ip6
    idev: inet6_dev | None = skb.dev.ip6_ptr
    forced = idev is not None and idev.cnf.force_forwarding
    if not (forced or net.ipv6.devconf_all.forwarding):
        return _refused(net, skb)
    if skb.pkt_type != skbuff.PACKET_HOST or skb.sk is not None:
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)
        return -errno.EINVAL
    if not xfrm6_policy_check(None, XFRM_POLICY_FWD, skb):
        return _blocked(net, skb)
    if skb.ip_summed == skbuff.CHECKSUM_COMPLETE:
        skb.ip_summed = skbuff.CHECKSUM_NONE
    # RFC 2711: a router must examine packets with a router alert.
    if skb.ip_cb_flags & IP6SKB_ROUTERALERT and ip6_call_ra_chain(skb, IP6CB(skb).ra):
        return 0
    iph = ipv6_hdr(skb)
    if iph.hop_limit <= 1:
        icmpv6_send(skb, ip6_icmp.ICMPV6_TIME_EXCEED, ip6_icmp.ICMPV6_EXC_HOPLIMIT, 0)
        mib.InHdrErrors += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_IP_INHDR)
        return -errno.ETIMEDOUT
    if pndisc_proxied(skb.dev, iph.daddr):
        verdict = ip6_forward_proxy_check(skb)
        if verdict > 0:
            return net.ipv6.steps.input(skb)
        if verdict < 0:
            mib.InDiscards += 1
            kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)
            return -errno.EINVAL
    if not xfrm_route_forward(net, skb, AF_INET6, rt.dev.ifindex):
        return _blocked(net, skb)
    if rt.dev is skb.dev and not ip6cb_srcrt(skb):
        # The rate is limited by destination here, and by source in ndisc_send_redirect.
        peer = inet_getpeer(net, net.ipv6.peers, iph.daddr)
        if inet_peer_xrlim_allow(net, peer, NSEC_PER_SEC):
            ndisc_send_redirect(skb, rt.rt6i_gateway or iph.daddr)
    elif not ip6_forward_source(skb, iph.saddr):
        return _refused(net, skb)
    mib.OutForwDatagrams += 1
    mtu = max(ip6_dst_mtu_maybe_forward(rt, True), IPV6_MIN_MTU)
    if ip6_pkt_too_big(skb, mtu):
        icmpv6_send(skb, ip6_icmp.ICMPV6_PKT_TOOBIG, 0, mtu)
        mib.InTooBigErrors += 1
        mib.FragFails += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_PKT_TOO_BIG)
        return -errno.EMSGSIZE
    if not skb_cow(skb, rt.dev.hard_header_len + rt.dev.needed_headroom + 16):
        mib.OutDiscards += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOMEM)
        return -errno.ENOMEM
    iph = ipv6_hdr(skb)
    iph.hop_limit -= 1
    skb.ip_cb_flags |= IP6SKB_FORWARDED
    if net.ipv6.nf_hooks[NF_INET_FORWARD]:
        ret = nf_hook6(NF_INET_FORWARD, net, None, skb, skb.dev, rt.dev, ip6_forward_finish)
        if ret != 1:
            return ret
    return ip6_forward_finish(net, None, skb)


def _blocked(net: Net, skb: sk_buff) -> int:
    """Drop a packet that a policy blocks. Takes ownership of skb."""
    net.mib.ip6.InDiscards += 1
    kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_XFRM_POLICY)
    return -errno.EINVAL


def ip6_forward_source(skb: sk_buff, saddr: wide) -> bool:
    """net/ipv6/ip6_output.c (in ip6_forward): whether a packet of this source may leave its
    link.

    ::, ::1 and groups may not (RFC 4291 2.5). Neither may a link-local source, which causes an
    ICMPv6 error (RFC 4443 3.1).
    """
    if not saddr or saddr == 1 or saddr >> 120 == 0xFF:
        return False
    if ipv6_addr_is_linklocal(saddr):
        icmpv6_send(skb, ip6_icmp.ICMPV6_DEST_UNREACH, ip6_icmp.ICMPV6_NOT_NEIGHBOUR, 0)
        return False
    return True


def _refused(net: Net, skb: sk_buff) -> int:
    """Drop a packet that is not for us and must not be forwarded. Takes ownership of skb."""
    net.mib.ip6.InAddrErrors += 1
    kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_IP_INADDRERRORS)
    return -errno.EINVAL


def ip6_forward_finish(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """net/ipv6/ip6_output.c: send. Takes ownership of skb."""
    skb.tstamp_ns = 0
    return dst_output(net, sk, skb)


# --- routes that drop packets --------------------------------------------------------------


def ip6_pkt_drop(skb: sk_buff, code: int, out: bool) -> int:
    """net/ipv6/route.c: count skb, send an ICMPv6 error, free it. Takes ownership of skb."""
    net: Net = skb.dst.net
    mib = net.mib.ip6
    if out:
        mib.OutNoRoutes += 1
    elif not ipv6_hdr(skb).daddr:
        mib.InAddrErrors += 1
    else:
        mib.InNoRoutes += 1
    icmpv6_send(skb, ip6_icmp.ICMPV6_DEST_UNREACH, code, 0)
    reason = (
        drop_reason.SKB_DROP_REASON_IP_OUTNOROUTES
        if out
        else drop_reason.SKB_DROP_REASON_IP_INNOROUTES
    )
    kfree_skb_reason(net, skb, reason)
    return 0


def ip6_pkt_discard(skb: sk_buff) -> int:
    """net/ipv6/route.c: input without a route. Takes ownership of skb."""
    return ip6_pkt_drop(skb, ip6_icmp.ICMPV6_NOROUTE, False)


def ip6_pkt_discard_out(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """net/ipv6/route.c: output without a route. Takes ownership of skb."""
    skb.dev = skb.dst.dev
    return ip6_pkt_drop(skb, ip6_icmp.ICMPV6_NOROUTE, True)


def ip6_pkt_prohibit(skb: sk_buff) -> int:
    """net/ipv6/route.c: input of a prohibited route. Takes ownership of skb."""
    return ip6_pkt_drop(skb, ip6_icmp.ICMPV6_ADM_PROHIBITED, False)


def ip6_pkt_prohibit_out(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """net/ipv6/route.c: output of a prohibited route. Takes ownership of skb."""
    skb.dev = skb.dst.dev
    return ip6_pkt_drop(skb, ip6_icmp.ICMPV6_ADM_PROHIBITED, True)
