"""net/netfilter/nf_tables_core.c: run the rules of a base chain for a packet.

nft_do_chain_hook       the hook of a base chain (net/netfilter/nft_chain_filter.c)
nft_route_table_hook    of type route: reroute a packet if its routing key changed
    nft_set_pktinfo         where the transport header is
    nft_do_chain            rules, jumps and returns, the policy
        nft_trace_packet        trace messages (nf_tables_trace.py)
"""

from __future__ import annotations

from fastpath.base.skbuff import pskb_may_pull, sk_buff, skb_copy_bits
from fastpath.net.hdr import iphdr_at, ipv6hdr_at
from fastpath.net.hdr6 import ipv6_skip_exthdr
from stack.core.netfilter import (
    NF_DROP,
    NF_DROP_ERR,
    NF_QUEUE,
    NF_STOLEN,
    NF_VERDICT_MASK,
    NFPROTO_IPV4,
    nf_hook_state,
)
from stack.core.rows import wide
from stack.core.uapi import IPPROTO_FRAGMENT, IPV6_HLEN
from stack.netfilter.nf_conntrack_tuple import IP_OFFSET
from stack.netfilter.nf_tables import (
    NFT_BREAK,
    NFT_CONTINUE,
    NFT_GOTO,
    NFT_JUMP,
    NFT_JUMP_STACK_SIZE,
    NFT_PKTINFO_L4PROTO,
    NFT_RETURN,
    nft_chain,
    nft_pktinfo,
    nft_regs,
    nft_rule,
)
from stack.netfilter.nf_tables_trace import (
    NFT_TRACETYPE_POLICY,
    NFT_TRACETYPE_RULE,
    nft_trace_init,
    nft_trace_packet,
)
from stack.netfilter.reroute import ip_route_me_harder

IP6_OFFSET = 0xFFF8
MOST_THOFF = 0xFFFF


def nft_set_pktinfo(pkt: nft_pktinfo) -> None:
    """nft_set_pktinfo_ipv4, nft_set_pktinfo_ipv6: the transport protocol and its offset."""
    skb = pkt.skb
    if pkt.pf == NFPROTO_IPV4:
        iph = iphdr_at(skb, 0)
        pkt.flags = NFT_PKTINFO_L4PROTO
        pkt.tprot = iph.protocol
        pkt.thoff = iph.ihl * 4
        pkt.fragoff = iph.frag_off & IP_OFFSET
        return
    at, proto, frag_off = ipv6_skip_exthdr(skb, IPV6_HLEN, ipv6hdr_at(skb, 0).nexthdr)
    if not 0 <= at <= MOST_THOFF:
        return
    if frag_off & IP6_OFFSET and proto == IPPROTO_FRAGMENT:
        if not pskb_may_pull(skb, at + 1):
            return
        proto = skb_copy_bits(skb, at, 1)[0]
    pkt.flags = NFT_PKTINFO_L4PROTO
    pkt.tprot, pkt.thoff, pkt.fragoff = proto, at, (frag_off & IP6_OFFSET) >> 3


def nft_do_chain(pkt: nft_pktinfo, basechain: nft_chain) -> int:
    """net/netfilter/nf_tables_core.c: a verdict of the rules, else the policy's."""
    regs = nft_regs()
    info = nft_trace_init(pkt, basechain)
    jumps: list[tuple[nft_chain, list[nft_rule], int]] = []
    chain, rules, at = basechain, basechain.rules, 0
    while True:
        decided: nft_rule | None = None
        regs.verdict = NFT_CONTINUE
        while at < len(rules):
            rule = rules[at]
            at += 1
            regs.verdict = NFT_CONTINUE
            for expr in rule.expressions:
                expr.eval(regs, pkt)
                if regs.verdict != NFT_CONTINUE:
                    break
            if regs.verdict not in (NFT_CONTINUE, NFT_BREAK):
                decided = rule
                break
            if info is not None and regs.verdict == NFT_CONTINUE:
                nft_trace_packet(pkt, regs, info, chain, rule, NFT_TRACETYPE_RULE)
            regs.verdict = NFT_CONTINUE
        if info is not None:
            nft_trace_packet(pkt, regs, info, chain, decided, NFT_TRACETYPE_RULE)
        verdict = regs.verdict
        if verdict >= 0:
            return verdict
        if verdict in (NFT_JUMP, NFT_GOTO):
            assert regs.chain is not None
            if verdict == NFT_JUMP:
                if len(jumps) == NFT_JUMP_STACK_SIZE:
                    return NF_DROP
                jumps.append((chain, rules, at))
            chain, rules, at = regs.chain, regs.chain.rules, 0
            continue
        # NFT_RETURN, or the end of the rules
        assert verdict in (NFT_RETURN, NFT_CONTINUE)
        if not jumps:
            break
        chain, rules, at = jumps.pop()
    base = basechain.base
    assert base is not None
    if info is not None:
        nft_trace_packet(pkt, regs, info, basechain, None, NFT_TRACETYPE_POLICY)
    if base.stats is not None:
        base.stats.packets += 1
        base.stats.bytes += pkt.skb.len
    return base.policy


def nft_do_chain_hook(chain: nft_chain, skb: sk_buff, state: nf_hook_state) -> int:
    """net/netfilter/nft_chain_filter.c nft_do_chain_inet: the hook of a base chain."""
    pkt = nft_pktinfo(skb, state)
    nft_set_pktinfo(pkt)
    return nft_do_chain(pkt, chain)


def _routed_by(skb: sk_buff, pf: int) -> tuple[wide, wide, int, int]:
    """The parts of a packet that affect its route."""
    if pf == NFPROTO_IPV4:
        iph = iphdr_at(skb, 0)
        return iph.saddr, iph.daddr, skb.mark, iph.tos
    ip6h = ipv6hdr_at(skb, 0)
    return ip6h.saddr, ip6h.daddr, skb.mark, int.from_bytes(skb_copy_bits(skb, 0, 4), "big")


def nft_route_table_hook(chain: nft_chain, skb: sk_buff, state: nf_hook_state) -> int:
    """net/netfilter/nft_chain_route.c nf_route_table_hook4, _hook6."""
    before = _routed_by(skb, state.pf)
    verdict = nft_do_chain_hook(chain, skb, state)
    if verdict & NF_VERDICT_MASK in (NF_DROP, NF_STOLEN, NF_QUEUE):
        return verdict
    if _routed_by(skb, state.pf) != before:
        err = ip_route_me_harder(state.net, state.sk, skb, state.pf)
        if err:
            return NF_DROP_ERR(err)
    return verdict
