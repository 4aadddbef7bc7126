"""Reassembly of fragments before connection tracking.

net/ipv4/netfilter/nf_defrag_ipv4.c, net/ipv6/netfilter/nf_defrag_ipv6_hooks.c and
nf_conntrack_reasm.c. Forwarded packets are fragmented again, to the size of the largest fragment
received.
"""

from __future__ import annotations

from fastpath.base.skbuff import (
    pskb_may_pull,
    sk_buff,
    skb_copy_bits,
    skb_orphan,
    skb_set_transport_header,
)
from fastpath.net.hdr import ipv6_hdr
from fastpath.net.hdr6 import frag_hdr_at
from fastpath.net.inet import ip_is_fragment
from stack.core.drop_reason import SKB_DROP_REASON_NOMEM, kfree_skb_reason
from stack.core.netfilter import NF_ACCEPT, NF_INET_LOCAL_OUT, NF_STOLEN, nf_hook_state
from stack.core.nf_queue import nf_hook_continue
from stack.core.uapi import IPV6_HLEN
from stack.ipv4.ip_fragment import IP_DEFRAG_CONNTRACK_IN, IP_DEFRAG_CONNTRACK_OUT, ip_defrag
from stack.ipv6.ip6_cb import IP6CB
from stack.ipv6.protocol import NEXTHDR_DEST, NEXTHDR_FRAGMENT, NEXTHDR_HOP, NEXTHDR_ROUTING
from stack.ipv6.reassembly import (
    IP6_DEFRAG_CONNTRACK_IN,
    IP6_DEFRAG_CONNTRACK_OUT,
    fq_find,
    ip6_frag_queue,
)
from stack.netfilter.nf_conntrack import IP_CT_UNTRACKED

FRAG_HLEN = 8
IP6_OFFSET_MF = 0xFFF9


def ipv4_conntrack_defrag(skb: sk_buff, state: nf_hook_state) -> int:
    """net/ipv4/netfilter/nf_defrag_ipv4.c: hook at PRE_ROUTING and LOCAL_OUT."""
    if skb.nfct is not None or skb.nfctinfo == IP_CT_UNTRACKED or not ip_is_fragment(skb):
        return NF_ACCEPT
    out = state.hook == NF_INET_LOCAL_OUT
    if out:
        skb_orphan(skb)
    user = IP_DEFRAG_CONNTRACK_OUT if out else IP_DEFRAG_CONNTRACK_IN
    whole = ip_defrag(state.net, skb, user)
    if whole is None:
        return NF_STOLEN
    whole.ignore_df = 1
    if whole is skb:
        return NF_ACCEPT
    nf_hook_continue(whole, state)
    return NF_STOLEN


def ipv6_defrag(skb: sk_buff, state: nf_hook_state) -> int:
    """net/ipv6/netfilter/nf_defrag_ipv6_hooks.c: hook at PRE_ROUTING and LOCAL_OUT."""
    if skb.nfct is not None or skb.nfctinfo == IP_CT_UNTRACKED:
        return NF_ACCEPT
    at, nhoff = find_prev_fhdr(skb)
    if at < 0:
        return NF_ACCEPT
    if not pskb_may_pull(skb, at + FRAG_HLEN):
        return NF_ACCEPT
    return nf_ct_frag6_gather(skb, state, at, nhoff)


def find_prev_fhdr(skb: sk_buff) -> tuple[int, int]:
    """net/ipv6/netfilter/nf_conntrack_reasm.c: (offset of the fragment header, offset of the field
    that names it), from data; (-1, 0) for a packet without one.
    """
    at, nhoff = IPV6_HLEN, 6
    iph = ipv6_hdr(skb)
    kind = iph.nexthdr
    if not iph.payload_len:
        return -1, 0  # a jumbogram
    while kind != NEXTHDR_FRAGMENT:
        if kind not in (NEXTHDR_HOP, NEXTHDR_ROUTING, NEXTHDR_DEST) or at + 2 > skb.len:
            return -1, 0
        head = skb_copy_bits(skb, at, 2)
        nhoff = at
        kind = head[0]
        at += (head[1] + 1) * 8
    return at, nhoff


def nf_ct_frag6_gather(skb: sk_buff, state: nf_hook_state, at: int, nhoff: int) -> int:
    """net/ipv6/netfilter/nf_conntrack_reasm.c: queue a fragment; the hook's verdict."""
    net = state.net
    fhdr = frag_hdr_at(skb, at)
    frag_off = fhdr.frag_off
    if not frag_off & IP6_OFFSET_MF:
        return NF_ACCEPT  # an atomic fragment
    out = state.hook == NF_INET_LOCAL_OUT
    if out:
        skb_orphan(skb)
        if skb.dev is None:
            skb.dev = state.outdev
    mib = net.mib.ip6
    mib.ReasmReqds += 1
    user = IP6_DEFRAG_CONNTRACK_OUT if out else IP6_DEFRAG_CONNTRACK_IN
    fq = fq_find(net, fhdr.identification, skb, user)
    if fq is None:
        mib.ReasmFails += 1
        kfree_skb_reason(net, skb, SKB_DROP_REASON_NOMEM)
        return NF_STOLEN
    skb_set_transport_header(skb, at)
    IP6CB(skb).nhoff = nhoff
    whole = ip6_frag_queue(fq, skb, frag_off)
    if whole is None:
        return NF_STOLEN
    whole.ignore_df = 1
    # Hop-by-hop options were processed; input continues after them.
    start, named = IPV6_HLEN, 6
    if ipv6_hdr(whole).nexthdr == NEXTHDR_HOP:
        start, named = IPV6_HLEN + (skb_copy_bits(whole, IPV6_HLEN + 1, 1)[0] + 1) * 8, IPV6_HLEN
    skb_set_transport_header(whole, start)
    IP6CB(whole).nhoff = named
    if whole is skb:
        return NF_ACCEPT
    nf_hook_continue(whole, state)
    return NF_STOLEN
