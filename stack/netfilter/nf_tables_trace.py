"""net/netfilter/nf_tables_trace.c: report which rules a packet matches (`nft monitor trace`).

A rule marks a packet (`meta nftrace set 1`). From then on each rule that matches it, each return
from a chain and each policy sends a message to the group NFNLGRP_NFTRACE, in every table.
The first message of a base chain has the packet's headers.

    nft_trace_init          a base chain begins; None while nobody listens
    nft_trace_packet        a rule matched, a chain ended, or the policy decided
        nft_trace_notify    the message
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

from fastpath.base.skbuff import sk_buff, skb_copy_bits, skb_mac_header_was_set, skb_mac_offset
from stack.netfilter.match import CT_INVALID, ct_state_of
from stack.netfilter.nf_conntrack import IPS_EVENTS, ctinfo2dir, nf_conn
from stack.netfilter.nf_conntrack_id import nf_ct_get_id
from stack.netfilter.nf_tables import (
    NFT_GOTO,
    NFT_JUMP,
    NFT_PKTINFO_L4PROTO,
    nft_chain,
    nft_pernet,
    nft_pktinfo,
    nft_regs,
    nft_rule,
)
from stack.netfilter.nft_attrs import NFTA_TRACE
from stack.netfilter.nft_payload import packet_bytes

NFT_TRACETYPE_POLICY, NFT_TRACETYPE_RULE = 1, 3
"""Linux 6.18 also reports a return and the end of a chain as NFT_TRACETYPE_RULE."""
NFT_TRACETYPE_LL_HSIZE, NFT_TRACETYPE_NETWORK_HSIZE, NFT_TRACETYPE_TRANSPORT_HSIZE = 20, 40, 20


def nf_set_trace(pkt: nft_pktinfo, traced: bool) -> None:
    """Set skb->nf_trace. A packet that is already traced keeps its number."""
    skb = pkt.skb
    if not traced:
        skb.nf_trace = 0
    elif not skb.nf_trace:
        pernet = nft_pernet(pkt.state.net)
        pernet.traced = pernet.traced % 0xFFFFFFFF + 1
        skb.nf_trace = pernet.traced


def get_trace_id(skb: sk_buff) -> int:
    """net/netfilter/nf_tables_trace.c: a packet's identifier, which changes on reception."""
    return crc32(skb.nf_trace.to_bytes(4, "big") + skb.skb_iif.to_bytes(4, "big"))


class nft_traceinfo:
    """struct nft_traceinfo: the trace of a packet in a base chain."""

    __slots__ = ("basechain", "packet_dumped")

    def __init__(self, basechain: nft_chain) -> None:
        self.basechain = basechain
        self.packet_dumped = False


def nft_trace_init(pkt: nft_pktinfo, basechain: nft_chain) -> nft_traceinfo | None:
    """net/netfilter/nf_tables_trace.c: a base chain begins; None: nobody listens."""
    if nft_pernet(pkt.state.net).trace_send is None:
        return None
    return nft_traceinfo(basechain)


def nft_trace_packet(
    pkt: nft_pktinfo,
    regs: nft_regs,
    info: nft_traceinfo,
    chain: nft_chain,
    rule: nft_rule | None,
    kind: int,
) -> None:
    """net/netfilter/nf_tables_core.c: report a rule; None: a chain's end, or the policy."""
    if pkt.skb.nf_trace:
        nft_trace_notify(pkt, regs, info, chain, rule, kind)


def nft_trace_notify(
    pkt: nft_pktinfo,
    regs: nft_regs,
    info: nft_traceinfo,
    chain: nft_chain,
    rule: nft_rule | None,
    kind: int,
) -> None:
    """net/netfilter/nf_tables_trace.c: send a message to the listeners."""
    send = nft_pernet(pkt.state.net).trace_send
    if send is None:
        return
    told: dict[str, Any] = {
        "NFTA_TRACE_NFPROTO": pkt.pf,
        "NFTA_TRACE_TYPE": kind,
        "NFTA_TRACE_ID": get_trace_id(pkt.skb),
        "NFTA_TRACE_CHAIN": chain.name,
        "NFTA_TRACE_TABLE": chain.table.name,
        "NFTA_TRACE_RULE_HANDLE": None if rule is None else rule.handle,
    }
    if kind == NFT_TRACETYPE_POLICY:
        assert info.basechain.base is not None
        told["NFTA_TRACE_POLICY"] = info.basechain.base.policy
    else:
        told["NFTA_TRACE_VERDICT"] = nft_verdict_dump(regs)
    told["NFTA_TRACE_MARK"] = pkt.skb.mark or None
    if not info.packet_dumped:
        told |= nf_trace_fill_dev_info(pkt) | nf_trace_fill_pkt_info(pkt)
        told |= nf_trace_fill_ct_info(pkt.skb)
        info.packet_dumped = True
    send(info.basechain.table.family, NFTA_TRACE.build(told))


def nft_verdict_dump(regs: nft_regs) -> dict[str, Any]:
    """net/netfilter/nf_tables_api.c: the verdict in the registers."""
    told: dict[str, Any] = {"NFTA_VERDICT_CODE": regs.verdict}
    if regs.verdict in (NFT_JUMP, NFT_GOTO):
        assert regs.chain is not None
        told["NFTA_VERDICT_CHAIN"] = regs.chain.name
    return told


def nf_trace_fill_dev_info(pkt: nft_pktinfo) -> dict[str, Any]:
    """net/netfilter/nf_tables_trace.c: the interfaces."""
    told: dict[str, Any] = {}
    indev, outdev = pkt.state.indev, pkt.state.outdev
    if indev is not None:
        told |= {"NFTA_TRACE_IIF": indev.ifindex, "NFTA_TRACE_IIFTYPE": indev.type}
    if outdev is not None:
        told |= {"NFTA_TRACE_OIF": outdev.ifindex, "NFTA_TRACE_OIFTYPE": outdev.type}
    return told


def nf_trace_fill_pkt_info(pkt: nft_pktinfo) -> dict[str, Any]:
    """net/netfilter/nf_tables_trace.c: the first bytes of the headers, if there are any."""
    skb = pkt.skb
    transport = bool(pkt.flags & NFT_PKTINFO_L4PROTO)
    length = min(pkt.thoff if transport else skb.len, skb.len, NFT_TRACETYPE_NETWORK_HSIZE)
    told = {"NFTA_TRACE_NETWORK_HEADER": skb_copy_bits(skb, 0, length)}
    if transport:
        length = min(skb.len - pkt.thoff, NFT_TRACETYPE_TRANSPORT_HSIZE)
        if length > 0:
            told["NFTA_TRACE_TRANSPORT_HEADER"] = skb_copy_bits(skb, pkt.thoff, length)
    if skb_mac_header_was_set(skb):
        offset = skb_mac_offset(skb)
        header = packet_bytes(skb, offset, min(-offset, NFT_TRACETYPE_LL_HSIZE))
        if header:
            told["NFTA_TRACE_LL_HEADER"] = header
    return told


def nf_trace_fill_ct_info(skb: sk_buff) -> dict[str, Any]:
    """net/netfilter/nf_tables_trace.c: the connection, if it is tracked or will never be."""
    state = ct_state_of(skb)
    if state == CT_INVALID:
        return {}
    told: dict[str, Any] = {"NFTA_TRACE_CT_STATE": state}
    ct: nf_conn | None = skb.nfct
    if ct is not None:
        status = ct.status & ~IPS_EVENTS
        told |= {
            "NFTA_TRACE_CT_DIRECTION": ctinfo2dir(skb.nfctinfo),
            "NFTA_TRACE_CT_ID": nf_ct_get_id(ct),
            "NFTA_TRACE_CT_STATUS": status or None,
        }
    return told
