"""Answers to rejected packets: TCP resets, ICMP (net/ipv4/netfilter/nf_reject_ipv4.c, _ipv6.c)."""

from __future__ import annotations

from fastpath.base.skbuff import alloc_skb, kfree_skb, pskb_may_pull, sk_buff
from fastpath.net.hdr import (
    ip_push,
    iphdr_at,
    ipv6_push,
    ipv6hdr_at,
    tcp_push,
    tcp_v4_send_check,
    tcp_v6_send_check,
    tcphdr_at,
    udphdr_at,
)
from stack.core.netdevice import ETH_P_IP, ETH_P_IPV6
from stack.core.netfilter import (
    NF_INET_LOCAL_OUT,
    NF_INET_PRE_ROUTING,
    NFPROTO_IPV4,
    nf_hook_state,
)
from stack.core.uapi import (
    AF_INET,
    AF_INET6,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_TCP,
    IPPROTO_UDP,
    TCP_HLEN,
)
from stack.inet.flow import FLOWI_FLAG_ANYSRC, flowi
from stack.inet.tcp_sock import TCPHDR_ACK, TCPHDR_FIN, TCPHDR_RST, TCPHDR_SYN
from stack.ipv4.icmp import icmp_send
from stack.ipv4.icmp_codes import ICMP_DEST_UNREACH
from stack.ipv4.ip_output import ip_local_out
from stack.ipv4.route import ip4_dst_hoplimit, ip_route_output_key
from stack.ipv6.ip6_icmp import ICMPV6_DEST_UNREACH, icmpv6_send
from stack.ipv6.ip6_output import ip6_local_out
from stack.ipv6.route import ip6_route_output
from stack.ipv6.rt6_info import ip6_dst_hoplimit
from stack.net import Net
from stack.netfilter.nf_conntrack import IP_CT_RELATED, IP_CT_RELATED_REPLY, ctinfo2dir
from stack.netfilter.nf_conntrack_sum import nf_checksum
from stack.netfilter.nf_conntrack_tuple import nf_ct_l4_offset

TCP_RESET = 0
PORT_UNREACH, HOST_UNREACH, NET_UNREACH, ADMIN_PROHIBITED = 1, 2, 3, 4
REJECT_WITH = {
    "tcp reset": TCP_RESET,
    "port-unreach": PORT_UNREACH,
    "host-unreach": HOST_UNREACH,
    "net-unreach": NET_UNREACH,
    "admin-prohibited": ADMIN_PROHIBITED,
}
ICMP_CODE = {PORT_UNREACH: 3, HOST_UNREACH: 1, NET_UNREACH: 0, ADMIN_PROHIBITED: 13}
ICMPV6_CODE = {PORT_UNREACH: 4, HOST_UNREACH: 3, NET_UNREACH: 0, ADMIN_PROHIBITED: 1}
LL_ROOM = 128
IP_DF = 0x4000
U32 = 0xFFFFFFFF


def nf_reject(skb: sk_buff, hook: nf_hook_state, with_: int) -> None:
    """net/netfilter/nft_reject_inet.c: answer a packet that the caller drops. Borrows skb."""
    if with_ == TCP_RESET:
        nf_send_reset(skb, hook)
    else:
        code = ICMP_CODE if hook.pf == NFPROTO_IPV4 else ICMPV6_CODE
        nf_send_unreach(skb, hook, code[with_])


def nf_reject_fill_skb_dst(skb: sk_buff, hook: nf_hook_state) -> bool:
    """net/ipv4/netfilter/nf_reject_ipv4.c, ipv6's: at PRE_ROUTING the answer has yet to be routed.

    False: there is no route.
    """
    if skb.dst is not None:
        return True
    if hook.pf == NFPROTO_IPV4:
        try:
            skb.dst = ip_route_output_key(hook.net, flowi(AF_INET, iphdr_at(skb, 0).saddr))
        except OSError:
            return False
        return True
    rt = ip6_route_output(hook.net, None, flowi(AF_INET6, ipv6hdr_at(skb, 0).saddr))
    if not rt.error:
        skb.dst = rt
    return not rt.error


def nf_reject_verify_csum(skb: sk_buff, off: int, proto: int) -> bool:
    """include/net/netfilter/nf_reject.h: whether the protocol has a checksum of all its bytes."""
    if proto == IPPROTO_UDP:
        return pskb_may_pull(skb, off + 8) and udphdr_at(skb, off).check != 0
    return proto in (IPPROTO_TCP, IPPROTO_ICMP, IPPROTO_ICMPV6)


def nf_send_unreach(skb: sk_buff, hook: nf_hook_state, code: int) -> None:
    """nf_send_unreach, nf_send_unreach6: answer with "destination unreachable". Borrows skb.

    A packet whose checksum is wrong gets no answer.
    """
    pf = hook.pf
    if hook.hook == NF_INET_PRE_ROUTING and not nf_reject_fill_skb_dst(skb, hook):
        return
    off, proto = nf_ct_l4_offset(skb, 0, pf)
    if off >= 0 and nf_reject_verify_csum(skb, off, proto) and nf_checksum(skb, off, proto, pf):
        return
    if pf == NFPROTO_IPV4:
        icmp_send(skb, ICMP_DEST_UNREACH, code, 0)
        return
    if hook.hook == NF_INET_LOCAL_OUT and skb.dev is None:
        skb.dev = hook.net.loopback_dev
    icmpv6_send(skb, ICMPV6_DEST_UNREACH, code, 0)


def nf_send_reset(oldskb: sk_buff, hook: nf_hook_state) -> None:
    """nf_send_reset, nf_send_reset6: send a reset with the segment's destination as source.

    Sends nothing for a reset, a wrong checksum, or another protocol.
    """
    pf = hook.pf
    off, proto = nf_ct_l4_offset(oldskb, 0, pf)
    if off < 0 or proto != IPPROTO_TCP or oldskb.len < off + TCP_HLEN:
        return
    if not pskb_may_pull(oldskb, off + TCP_HLEN):
        return
    oth = tcphdr_at(oldskb, off)
    flags = oth.flags
    if flags & TCPHDR_RST or nf_checksum(oldskb, off, IPPROTO_TCP, pf):
        return
    net: Net = hook.net
    nskb = alloc_skb(net.skb_small, 0, LL_ROOM + 60)
    if nskb is None:
        return
    seq, ack, answer = 0, 0, TCPHDR_RST
    if flags & TCPHDR_ACK:
        seq = oth.ack_seq
    else:
        answer = TCPHDR_RST | TCPHDR_ACK
        size = oldskb.len - off - oth.doff * 4
        ack = (oth.seq + size + bool(flags & TCPHDR_SYN) + (flags & TCPHDR_FIN)) & U32
    tcp_push(nskb, oth.dest, oth.source, seq, ack, answer, 0, 0)
    sent = _reset4(net, nskb, oldskb) if pf == NFPROTO_IPV4 else _reset6(net, nskb, oldskb)
    if not sent:
        kfree_skb(nskb)


def _attach(nskb: sk_buff, oldskb: sk_buff) -> None:
    """net/netfilter/nf_conntrack_core.c nf_conntrack_attach: give the answer the connection of the
    rejected packet, so that NAT translates it as a reply.
    """
    ct = oldskb.nfct
    if ct is not None:
        nskb.nfct = ct
        nskb.nfctinfo = IP_CT_RELATED if ctinfo2dir(oldskb.nfctinfo) else IP_CT_RELATED_REPLY


def _reset4(net: Net, nskb: sk_buff, oldskb: sk_buff) -> bool:
    iph = iphdr_at(oldskb, 0)
    daddr, saddr = iph.saddr, iph.daddr
    fl4 = flowi(AF_INET, daddr, saddr, flowi_proto=IPPROTO_TCP, flowi_flags=FLOWI_FLAG_ANYSRC)
    try:
        rt = ip_route_output_key(net, fl4)
    except OSError:
        return False
    tcp_v4_send_check(nskb, saddr, daddr)
    ip_push(nskb, 0, nskb.len + 20, 0, IP_DF, ip4_dst_hoplimit(rt), IPPROTO_TCP, saddr, daddr)
    nskb.protocol = ETH_P_IP
    nskb.dst = rt
    _attach(nskb, oldskb)
    ip_local_out(net, None, nskb)
    return True


def _reset6(net: Net, nskb: sk_buff, oldskb: sk_buff) -> bool:
    iph = ipv6hdr_at(oldskb, 0)
    daddr, saddr = iph.saddr, iph.daddr
    rt = ip6_route_output(net, None, flowi(AF_INET6, daddr, saddr, flowi_proto=IPPROTO_TCP))
    if rt.error:
        return False
    tcp_v6_send_check(nskb, saddr, daddr)
    ipv6_push(nskb, 0, 0, nskb.len, IPPROTO_TCP, ip6_dst_hoplimit(rt), saddr, daddr)
    nskb.protocol = ETH_P_IPV6
    nskb.dst = rt
    _attach(nskb, oldskb)
    ip6_local_out(net, None, nskb)
    return True
