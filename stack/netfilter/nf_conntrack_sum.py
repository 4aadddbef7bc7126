"""Checksums of tracked packets (net/netfilter/utils.c nf_checksum)."""

from __future__ import annotations

from fastpath.base.csum import csum_fold, csum_ipv6_magic, csum_tcpudp_magic
from fastpath.base.skbuff import CHECKSUM_PARTIAL, CHECKSUM_UNNECESSARY, sk_buff, skb_checksum
from fastpath.net.hdr import iphdr_at, ipv6hdr_at
from stack.core.netfilter import NF_INET_PRE_ROUTING, NFPROTO_IPV4, nf_hook_state
from stack.core.uapi import IPPROTO_ICMP, IPPROTO_ICMPV6


def nf_checksum(skb: sk_buff, dataoff: int, proto: int, pf: int) -> bool:
    """net/netfilter/utils.c: whether the checksum from `dataoff` on is wrong. data at the network
    header.

    A checksum that the NIC verified, or will compute, counts as right.
    """
    summed = skb.ip_summed
    if summed in (CHECKSUM_UNNECESSARY, CHECKSUM_PARTIAL):
        return False
    n = skb.len - dataoff
    acc = skb_checksum(skb, dataoff, n)
    if pf != NFPROTO_IPV4:
        ip6h = ipv6hdr_at(skb, 0)
        bad = csum_ipv6_magic(ip6h.saddr, ip6h.daddr, n, proto, acc) != 0
    elif proto == IPPROTO_ICMP:
        bad = csum_fold(acc) != 0
    else:
        iph = iphdr_at(skb, 0)
        bad = csum_tcpudp_magic(iph.saddr, iph.daddr, n, proto, acc) != 0
    if not bad and proto != IPPROTO_ICMP and proto != IPPROTO_ICMPV6:
        skb.ip_summed = CHECKSUM_UNNECESSARY
    return bad


def nf_ct_sum_wrong(skb: sk_buff, dataoff: int, proto: int, state: nf_hook_state) -> bool:
    """Whether a received packet has a wrong checksum (sysctl nf_conntrack_checksum)."""
    return (
        state.hook == NF_INET_PRE_ROUTING
        and state.net.sysctl.nf_conntrack_checksum != 0
        and nf_checksum(skb, dataoff, proto, state.pf)
    )
