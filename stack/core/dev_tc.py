"""net/core/dev.c: the filters of ingress and clsact, for received and sent packets.

A device without them has `tcx_ingress` and `tcx_egress` None, and these functions are not called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath.base.skbuff import consume_skb, sk_buff, skb_reset_mac_header
from stack.core.drop_reason import (
    SKB_DROP_REASON_TC_EGRESS,
    SKB_DROP_REASON_TC_INGRESS,
    kfree_skb_reason,
)
from stack.core.netdevice import NET_RX_DROP, NET_RX_SUCCESS
from stack.sched.act_api import TC_ACT_CONSUMED, TC_ACT_SHOT, TC_ACT_TAKES, tcf_result
from stack.sched.cls_api import tcf_classify
from stack.sched.sch_generic import qdisc_pkt_len_init

if TYPE_CHECKING:
    from stack.sched.sch_ingress import mini_Qdisc


def sch_handle_ingress(skb: sk_buff, miniq: mini_Qdisc) -> int:
    """net/core/dev.c: filter a received packet. -1: continue; else it is consumed: NET_RX_*.

    Takes ownership of skb unless it returns -1 (data after the MAC header).
    """
    return tc_run(skb, miniq, True, skb.len)


def sch_handle_egress(skb: sk_buff, miniq: mini_Qdisc) -> int:
    """net/core/dev.c: filter a packet to be sent. -1: continue; else it is consumed: NET_XMIT_*.

    Takes ownership of skb unless it returns -1 (data at the MAC header).
    """
    skb_reset_mac_header(skb)
    return tc_run(skb, miniq, False, qdisc_pkt_len_init(skb))


def tc_run(skb: sk_buff, miniq: mini_Qdisc, at_ingress: bool, nbytes: int) -> int:
    """net/core/dev.c: count a packet, classify it and apply the verdict.

    If no filter can match (tcf_bypass), the packet is not counted. NET_RX_* and NET_XMIT_* have the
    same numbers for success and drop.
    """
    q = miniq.q
    block = miniq.block
    if not (q.dev.machine.net_hotdata.tcf_sw_enabled if block is None else block.useswcnt):
        return -1
    q.bstats.bytes += nbytes
    q.bstats.packets += skb.gso_segs if skb.gso_size else 1
    verdict = tcf_classify(skb, miniq.chain, tcf_result(at_ingress, False))
    if verdict not in TC_ACT_TAKES:
        return -1
    if verdict == TC_ACT_SHOT:
        q.qstats.drops += 1
        reason = SKB_DROP_REASON_TC_INGRESS if at_ingress else SKB_DROP_REASON_TC_EGRESS
        kfree_skb_reason(q.dev.net, skb, reason)
        return NET_RX_DROP
    if verdict != TC_ACT_CONSUMED:
        consume_skb(skb)
    return NET_RX_SUCCESS
