"""include/linux/skbuff.h: packets that a filter has redirected to another device.

The kernel has bits in the packet. Here the mark is in `skb.cb`, which is unused below IP and
overwritten when IP receives the packet.
"""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff

FROM_EGRESS = "redirected from egress"
FROM_INGRESS = "redirected from ingress"
TC_SKIP_CLASSIFY = "tc_skip_classify"
"""The next filters let the packet pass, and taps do not see it again."""


def skb_set_redirected(skb: sk_buff, from_ingress: bool) -> None:
    """include/linux/skbuff.h: a filter sends the packet, received or sent, to another device."""
    skb.cb = FROM_INGRESS if from_ingress else FROM_EGRESS


def skb_is_redirected(skb: sk_buff) -> bool:
    """include/linux/skbuff.h: a filter sent the packet here."""
    return skb.cb is FROM_INGRESS or skb.cb is FROM_EGRESS


def skb_skip_tc_classify(skb: sk_buff) -> bool:
    """include/net/sch_generic.h: whether filters have seen the packet. Clears the mark."""
    if skb.cb is not TC_SKIP_CLASSIFY:
        return False
    skb.cb = None
    return True
