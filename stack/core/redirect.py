"""include/linux/skbuff.h: packets that a filter has sent to another device, and that come back.

The kernel has bits in the packet. Here the mark is in `skb.cb`, which nobody below IP uses: a
packet that IP receives loses it there.
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
    """include/net/sch_generic.h: filters have seen the packet. Takes the mark away."""
    if skb.cb is not TC_SKIP_CLASSIFY:
        return False
    skb.cb = None
    return True
