"""net/sched/act_vlan.c: push, pop or modify a tag of 802.1Q or 802.1ad.

The outermost tag is metadata (skb.vlan_proto, skb.vlan_tci), inner ones are in the packet.
"""

from __future__ import annotations

import errno

from fastpath.base.skbuff import (
    sk_buff,
    skb_copy_bits,
    skb_cow_head,
    skb_pull,
    skb_push,
    skb_push_data,
    skb_reset_mac_header,
    skb_reset_mac_len,
    skb_reset_network_header,
)
from stack.core.errors import os_error
from stack.core.extack import ExtAckError
from stack.core.if_vlan import (
    __vlan_hwaccel_clear_tag,
    __vlan_hwaccel_put_tag,
    eth_type_vlan,
    skb_vlan_tagged,
    vlan_insert_tag_set_proto,
)
from stack.core.netdevice import (
    ETH_HLEN,
    ETH_P_802_2,
    ETH_P_802_3_MIN,
    ETH_P_8021Q,
    VLAN_HLEN,
    VLAN_PRIO_SHIFT,
    VLAN_VID_MASK,
)
from stack.core.rows import row, state
from stack.sched.act_api import TC_ACT_SHOT, tc_action, tcf_action_check_ctrlact, tcf_result
from stack.sched.cls_api import tcf_block
from stack.sched.sch_generic import Options, fields

TCA_VLAN_ACT_POP, TCA_VLAN_ACT_PUSH, TCA_VLAN_ACT_MODIFY = 1, 2, 3
TCI_REST = 0xFFFF & ~VLAN_VID_MASK


@state
class tcf_vlan(tc_action):
    """`v_action` with the tag `push_proto`, `push_vid`, `push_prio` (None: as it was, or 0)."""

    kind = "vlan"

    v_action: int = row(0)
    push_vid: int = row(0)
    push_proto: int = row(ETH_P_8021Q)
    push_prio: int | None = row()

    def init(self, opt: Options, block: tcf_block | None) -> None:
        """Raises: OSError EINVAL, ERANGE, EPROTONOSUPPORT; EOPNOTSUPP for Ethernet headers."""
        v_action, proto = opt.get("v_action", 0), opt.get("push_proto") or ETH_P_8021Q
        if v_action in (4, 5):
            raise ExtAckError(errno.EOPNOTSUPP, "Ethernet headers are neither pushed nor popped")
        if not TCA_VLAN_ACT_POP <= v_action <= TCA_VLAN_ACT_MODIFY:
            raise os_error(errno.EINVAL)
        if v_action != TCA_VLAN_ACT_POP:
            if opt.get("push_vid") is None:
                raise os_error(errno.EINVAL)
            if opt["push_vid"] >= VLAN_VID_MASK:
                raise os_error(errno.ERANGE)
            if not eth_type_vlan(proto):
                raise os_error(errno.EPROTONOSUPPORT)
        self.set_ctrlact(opt["action"], tcf_action_check_ctrlact(opt["action"], block))
        self.v_action, self.push_proto = v_action, proto
        self.push_vid = opt.get("push_vid") or 0
        self.push_prio = opt.get("push_prio")

    def act(self, skb: sk_buff, res: tcf_result) -> int:
        """net/sched/act_vlan.c: tcf_vlan_act."""
        self.used(skb, res)
        mac_len = res.mac_len(skb)
        if mac_len:
            skb_push(skb, mac_len)
        done = self.change_tag(skb)
        if mac_len:
            skb_pull(skb, ETH_HLEN)
            skb_reset_network_header(skb)
            skb_reset_mac_len(skb)
        if not done:
            self.qstats.drops += 1
            return TC_ACT_SHOT
        return self.action

    def change_tag(self, skb: sk_buff) -> bool:
        """Pop, push or modify; data at the MAC header. False: no memory."""
        tag = self.push_vid | (self.push_prio or 0) << VLAN_PRIO_SHIFT & 0xFFFF
        if self.v_action == TCA_VLAN_ACT_POP:
            return skb_vlan_pop(skb)
        if self.v_action == TCA_VLAN_ACT_PUSH:
            return skb_vlan_push(skb, self.push_proto, tag)
        keep = TCI_REST if self.push_prio is None else VLAN_VID_MASK + 1
        return skb_vlan_modify(skb, self.push_proto, tag, keep)

    def parms(self) -> Options:
        tag = ("push_vid", "push_proto", "push_prio") if self.v_action != TCA_VLAN_ACT_POP else ()
        return fields(self, "v_action", *tag)


def skb_vlan_push(skb: sk_buff, proto: int, tci: int) -> bool:
    """net/core/skbuff.c: a tag around those there are. data at the MAC header. False: no memory."""
    if skb.vlan_proto:
        outer = skb.vlan_proto
        if not vlan_insert_tag_set_proto(skb, outer, skb.vlan_tci):
            return False
    __vlan_hwaccel_put_tag(skb, proto, tci)
    return True


def skb_vlan_modify(skb: sk_buff, proto: int, tci: int, keep: int) -> bool:
    """net/sched/act_vlan.c tcf_vlan_act: another tag for the outermost, but the bits of `keep`.

    data at the MAC header. False: no memory.
    """
    if not skb_vlan_tagged(skb):
        return True
    old: int | None = skb.vlan_tci
    if skb.vlan_proto:
        __vlan_hwaccel_clear_tag(skb)
    else:
        old = __skb_vlan_pop(skb)
    if old is None:
        return False
    __vlan_hwaccel_put_tag(skb, proto, tci | old & keep)
    return True


def skb_vlan_pop(skb: sk_buff) -> bool:
    """net/core/skbuff.c: without the outermost tag. data at the MAC header. False: no memory."""
    if skb.vlan_proto:
        __vlan_hwaccel_clear_tag(skb)
    elif not eth_type_vlan(skb.protocol):
        return True
    elif __skb_vlan_pop(skb) is None:
        return False
    if not eth_type_vlan(skb.protocol):
        return True
    proto = skb.protocol
    tci = __skb_vlan_pop(skb)
    if tci is None:
        return False
    __vlan_hwaccel_put_tag(skb, proto, tci)
    return True


def __skb_vlan_pop(skb: sk_buff) -> int | None:
    """net/core/skbuff.c: take a tag out of the bytes; None: it is cut off, or no memory."""
    if skb.len < ETH_HLEN + VLAN_HLEN + 2 or not skb_cow_head(skb, 0):
        return None
    head = skb_copy_bits(skb, 0, ETH_HLEN + VLAN_HLEN)
    skb_pull(skb, ETH_HLEN + VLAN_HLEN)
    skb_push_data(skb, head[:12] + head[16:])
    skb_reset_mac_header(skb)
    inner = int.from_bytes(head[16:], "big")
    skb.protocol = inner if inner >= ETH_P_802_3_MIN else ETH_P_802_2
    network = skb.network_header - skb.data_offset
    if 0 <= network < ETH_HLEN:
        skb_pull(skb, ETH_HLEN)
        skb_reset_network_header(skb)
        skb_push(skb, ETH_HLEN)
    return int.from_bytes(head[14:16], "big")
