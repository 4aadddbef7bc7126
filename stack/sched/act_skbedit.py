"""net/sched/act_skbedit.c: edit a packet's metadata: priority, mark, type."""

from __future__ import annotations

import errno

from fastpath.base.skbuff import sk_buff, skb_copy_bits, skb_network_offset
from stack.core.errors import os_error
from stack.core.extack import ExtAckError
from stack.core.netdevice import ETH_P_IP, ETH_P_IPV6
from stack.core.rows import row, state
from stack.sched.act_api import TC_ACT_SHOT, tc_action, tcf_action_check_ctrlact, tcf_result
from stack.sched.cls_api import tcf_block
from stack.sched.sch_generic import Options, fields

SKBEDIT_F_INHERITDSFIELD = 0x20
PACKET_OTHERHOST = 3
SETS = ("priority", "mark", "ptype", "queue_mapping")


@state
class tcf_skbedit(tc_action):
    """Values to set; None: unchanged. There is one queue, so its number has no effect."""

    kind = "skbedit"

    priority: int | None = row()
    mark: int | None = row()
    mask: int = row(0xFFFFFFFF)
    """The bits of the mark that are set."""
    ptype: int | None = row()
    queue_mapping: int | None = row()
    inherit: bool = row(False)
    """The priority is that of the packet's DS field."""

    def init(self, opt: Options, block: tcf_block | None) -> None:
        """`priority`, `mark`, `mask`, `ptype`, `queue_mapping`, `flags`. Raises: OSError EINVAL."""
        inherit = bool((opt.get("skbedit_flags") or 0) & SKBEDIT_F_INHERITDSFIELD)
        ptype = opt.get("ptype")
        if ptype is not None and ptype > PACKET_OTHERHOST:
            raise os_error(errno.EINVAL)
        if not inherit and all(opt.get(name) is None for name in (*SETS, "mask")):
            raise os_error(errno.EINVAL)
        if opt.get("queue_mapping"):
            raise ExtAckError(errno.EINVAL, "a device has one queue")
        self.set_ctrlact(opt["action"], tcf_action_check_ctrlact(opt["action"], block))
        self.priority, self.mark, self.ptype = opt.get("priority"), opt.get("mark"), ptype
        self.queue_mapping, self.inherit = opt.get("queue_mapping"), inherit
        mask = opt.get("mask")
        self.mask = 0xFFFFFFFF if mask is None else mask

    def act(self, skb: sk_buff, res: tcf_result) -> int:
        """net/sched/act_skbedit.c: tcf_skbedit_act."""
        self.used(skb, res)
        if self.priority is not None:
            skb.priority = self.priority
        if self.inherit:
            at = skb_network_offset(skb)
            size = {ETH_P_IP: 20, ETH_P_IPV6: 40}.get(skb.protocol, 0)
            if skb.len < at + size:
                self.qstats.drops += 1
                return TC_ACT_SHOT
            if size:
                head = int.from_bytes(skb_copy_bits(skb, at, 2), "big")
                skb.priority = head >> (2 if size == 20 else 6) & 0x3F
        if self.mark is not None:
            skb.mark = skb.mark & ~self.mask & 0xFFFFFFFF | self.mark & self.mask
        if self.ptype is not None:
            skb.pkt_type = self.ptype
        return self.action

    def parms(self) -> Options:
        return {
            **fields(self, *SETS),
            "mask": self.mask if self.mask != 0xFFFFFFFF else None,
            "skbedit_flags": SKBEDIT_F_INHERITDSFIELD if self.inherit else None,
        }
