"""net/sched/sch_ingress.c: filters for a device's received and sent packets: ingress, clsact.

They queue nothing. While a block has filters in chain 0, the device has it as `tcx_ingress` or
`tcx_egress`; stack/core/dev_tc.py calls it.
"""

from __future__ import annotations

import errno

from fastpath.base.skbuff import sk_buff
from stack.core.dev_receive import rx_fast_update
from stack.core.errors import os_error
from stack.core.rows import row, state
from stack.sched.cls_api import tcf_block, tcf_chain
from stack.sched.sch_api import TC_H_INGRESS, TC_H_MIN_MASK
from stack.sched.sch_generic import Options, Qdisc, Qdisc_class, class_dump

TC_H_MIN_INGRESS = 0xFFF2
TC_H_MIN_EGRESS = 0xFFF3


@state
class mini_Qdisc:
    """include/net/sch_generic.h: where packets come to filters; `q` counts them."""

    q: Qdisc
    chain: tcf_chain
    block: tcf_block | None = None
    """Its `useswcnt` tells whether a filter can match; None (sent packets): the machine's flag."""


@state
class ingress_qdisc(Qdisc_class):
    """net/sched/sch_ingress.c: filters for received packets."""

    kind = "ingress"

    def init(self, opt: Options | None) -> None:
        """Raises: OSError EOPNOTSUPP: its parent is not `ingress`."""
        if self.parent != TC_H_INGRESS:
            raise os_error(errno.EOPNOTSUPP)
        self.block = tcf_block(self, self.ingress_head_change)

    def ingress_head_change(self, chain: tcf_chain | None) -> None:
        """net/sched/sch_generic.c mini_qdisc_pair_swap: the first filter comes or the last goes."""
        miniq = mini_Qdisc(self, chain, self.block) if chain is not None else None
        self.dev.tcx_ingress = miniq
        rx_fast_update(self.dev.net)

    def dump(self) -> Options:
        return {}

    def enqueue(self, skb: sk_buff) -> int:
        raise TypeError("an ingress discipline queues nothing")

    def dequeue(self) -> sk_buff | None:
        return None

    # every class number is one, and none is listed

    def find(self, classid: int) -> int | None:
        return (classid & TC_H_MIN_MASK) + 1

    def walk(self) -> tuple[int, ...]:
        return ()

    def leaf(self, cl: int) -> Qdisc | None:
        return None

    def graft(self, cl: int, new: Qdisc | None) -> Qdisc | None:
        raise os_error(errno.EOPNOTSUPP)

    def dump_class(self, cl: int) -> class_dump:
        return class_dump(self.handle, self.handle, None)

    def block_of(self, cl: int | None) -> tcf_block | None:
        return self.block


@state
class clsact_qdisc(ingress_qdisc):
    """net/sched/sch_ingress.c: filters for received and for sent packets."""

    kind = "clsact"

    egress: tcf_block | None = row()

    def init(self, opt: Options | None) -> None:
        ingress_qdisc.init(self, opt)
        self.egress = tcf_block(self, self.egress_head_change)

    def egress_head_change(self, chain: tcf_chain | None) -> None:
        """The same on the way out."""
        self.dev.tcx_egress = mini_Qdisc(self, chain) if chain is not None else None

    def find(self, classid: int) -> int | None:
        minor = classid & TC_H_MIN_MASK
        return minor if minor in (TC_H_MIN_INGRESS, TC_H_MIN_EGRESS) else None

    def block_of(self, cl: int | None) -> tcf_block | None:
        return {TC_H_MIN_INGRESS: self.block, TC_H_MIN_EGRESS: self.egress}.get(cl or 0)

    def blocks(self) -> list[tcf_block]:
        return [block for block in (self.block, self.egress) if block is not None]
