"""Forwarding between interfaces (net/ipv4/ip_forward.c; RFC 1812)."""

from __future__ import annotations

from fastpath.base.skbuff import CHECKSUM_COMPLETE, CHECKSUM_NONE, PACKET_HOST, sk_buff, skb_cow
from fastpath.net.hdr import ip_decrease_ttl, ip_hdr
from stack.core import drop_reason
from stack.core.drop_reason import kfree_skb_reason
from stack.core.dst import dst_output
from stack.core.netdevice import NET_RX_DROP
from stack.core.netfilter import NF_INET_FORWARD, nf_hook
from stack.core.sock import sock
from stack.core.uapi import AF_INET
from stack.inet.do_fragment import inet_pkt_too_big
from stack.inet.xfrm_policy import XFRM_POLICY_FWD, xfrm4_policy_check, xfrm_route_forward
from stack.ipv4 import icmp_codes, route
from stack.ipv4.icmp import icmp_send
from stack.ipv4.ip_input import ip_call_ra_chain
from stack.ipv4.ip_options import received_options
from stack.ipv4.ip_options_rcv import ip_forward_options
from stack.ipv4.ip_output import IPSKB_FORWARDED
from stack.ipv4.route import ip_dst_mtu_maybe_forward, ip_rt_send_redirect, rt_tos2priority, rtable
from stack.net import Net


def ip_exceeds_mtu(skb: sk_buff, mtu: int) -> bool:
    """net/ipv4/ip_forward.c: whether skb exceeds the next link's MTU and must not be fragmented."""
    if skb.len <= mtu or not ip_hdr(skb).frag_off & route.IP_DF:
        return False
    return inet_pkt_too_big(skb, mtu)


def ip_forward(skb: sk_buff) -> int:
    """net/ipv4/ip_forward.c: check TTL, options and MTU, send a redirect, call the FORWARD hook.

    Takes ownership of skb.
    """
    net = skb.dev.net
    if skb.pkt_type != PACKET_HOST or skb.sk is not None:
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)
        return NET_RX_DROP
    if not xfrm4_policy_check(None, XFRM_POLICY_FWD, skb):
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_XFRM_POLICY)
        return NET_RX_DROP
    opt = received_options(skb)
    if opt is not None and opt.router_alert and ip_call_ra_chain(skb):
        return 0
    if skb.ip_summed == CHECKSUM_COMPLETE:
        skb.ip_summed = CHECKSUM_NONE
    if ip_hdr(skb).ttl <= 1:
        net.mib.ip.InHdrErrors += 1
        icmp_send(skb, icmp_codes.ICMP_TIME_EXCEEDED, icmp_codes.ICMP_EXC_TTL, 0)
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_IP_INHDR)
        return NET_RX_DROP
    rt: rtable = skb.dst
    if not xfrm_route_forward(net, skb, AF_INET, rt.dev.ifindex):
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_XFRM_POLICY)
        return NET_RX_DROP
    if opt is not None and opt.is_strictroute and rt.rt_uses_gateway:
        net.mib.ip.InAddrErrors += 1
        icmp_send(skb, icmp_codes.ICMP_DEST_UNREACH, icmp_codes.ICMP_SR_FAILED, 0)
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_IP_OUTNOROUTES)
        return NET_RX_DROP
    skb.ip_cb_flags |= IPSKB_FORWARDED
    mtu = ip_dst_mtu_maybe_forward(rt, True)
    if ip_exceeds_mtu(skb, mtu):
        net.mib.ip.FragFails += 1
        icmp_send(skb, icmp_codes.ICMP_DEST_UNREACH, icmp_codes.ICMP_FRAG_NEEDED, mtu)
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_PKT_TOO_BIG)
        return NET_RX_DROP
    if not skb_cow(skb, rt.dev.hard_header_len + rt.dev.needed_headroom + 16):
        net.mib.ip.InDiscards += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOMEM)
        return NET_RX_DROP
    iph = ip_hdr(skb)
    ip_decrease_ttl(iph)
    if rt.rt_flags & route.RTCF_DOREDIRECT and (opt is None or not opt.srr):
        ip_rt_send_redirect(skb)
    if net.sysctl.ip_forward_update_priority:
        skb.priority = rt_tos2priority(iph.tos)
    if net.nf_hooks[NF_INET_FORWARD]:
        ret = nf_hook(NF_INET_FORWARD, net, None, skb, skb.dev, rt.dev, ip_forward_finish)
        if ret != 1:
            return ret
    return ip_forward_finish(net, None, skb)


def ip_forward_finish(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """net/ipv4/ip_forward.c: count, finish the options, send. Takes ownership of skb."""
    net.mib.ip.ForwDatagrams += 1
    opt = received_options(skb)
    if opt is not None and opt.optlen:
        ip_forward_options(skb, opt)
    skb.tstamp_ns = 0
    return dst_output(net, sk, skb)
