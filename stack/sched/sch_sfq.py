"""net/sched/sch_sfq.c: stochastic fairness: a queue per flow, served in turns of `quantum` bytes.

When the discipline is full, a packet of the longest queue is dropped. With `perturb_period` the
hash changes periodically, so that two flows do not share a queue permanently.
"""

from __future__ import annotations

import errno
from collections import deque

from fastpath.base.skbuff import kfree_skb, sk_buff
from stack.core.drop_reason import SKB_DROP_REASON_QDISC_DROP, SKB_DROP_REASON_QDISC_OVERLIMIT
from stack.core.errors import os_error
from stack.core.extack import ExtAckError
from stack.core.netdevice import NET_XMIT_CN, NET_XMIT_SUCCESS
from stack.core.rows import row, state
from stack.core.time64 import NSEC_PER_SEC
from stack.sched.act_api import TC_ACT_OK, TC_ACT_SHOT, TC_ACT_TAKES, tcf_result
from stack.sched.cls_api import qdisc_classify, qdisc_taken, tcf_block
from stack.sched.flow_dissector import reciprocal_scale, skb_get_hash_perturb
from stack.sched.psched import psched_mtu
from stack.sched.sch_api import TC_H_MAJ_MASK, TC_H_MIN_MASK
from stack.sched.sch_generic import (
    Options,
    Qdisc,
    fields,
    qdisc_bstats_update,
    qdisc_drop,
    qdisc_pkt_len,
    qdisc_tree_reduce_backlog,
)

SFQ_MAX_DEPTH = 127
SFQ_DEFAULT_FLOWS = 128
SFQ_MAX_FLOWS = 0x10000 - SFQ_MAX_DEPTH - 1


def sfq_hash(skb: sk_buff, perturb: int, flows: int) -> int:
    """net/sched/sch_sfq.c: the number of a packet's flow, from 0."""
    return reciprocal_scale(skb_get_hash_perturb(skb, perturb), flows)


def sfq_classify(sch: Qdisc, skb: sk_buff, flows: int, perturb: int) -> tuple[int, int]:
    """net/sched/sch_sfq.c, and sch_fq_codel.c fq_codel_classify: a flow, from 0, and TC_ACT_OK.

    It is given by the packet's priority, or by filters, or without filters by its hash. If no
    filter matches, the packet is dropped: TC_ACT_SHOT. Otherwise it returns the filter's verdict.
    """
    minor = skb.priority & TC_H_MIN_MASK
    if skb.priority & TC_H_MAJ_MASK == sch.handle and 0 < minor <= flows:
        return minor - 1, TC_ACT_OK
    if sch.block is None or sch.block.head is None:
        return sfq_hash(skb, perturb, flows), TC_ACT_OK
    res = tcf_result()
    verdict = qdisc_classify(sch.block, skb, res)
    if verdict in TC_ACT_TAKES:
        return 0, verdict
    flow = res.classid & TC_H_MIN_MASK
    return (flow - 1, TC_ACT_OK) if verdict >= 0 and 0 < flow <= flows else (0, TC_ACT_SHOT)


@state
class sfq_slot:
    """struct sfq_slot: one flow. `allot`: bytes that are left of its turn."""

    hash: int
    queue: deque[sk_buff] = row(make=deque)
    allot: int = row(0)


@state
class sfq_qdisc(Qdisc):
    """net/sched/sch_sfq.c; RED within a flow is not supported."""

    kind = "sfq"

    quantum: int = row(of=lambda sch: psched_mtu(sch.dev))
    perturb_period: int = row(0)
    """Seconds; 0: the hash stays."""
    perturb_at: int = row(0)
    divisor: int = row(1024)
    """Values of the hash."""
    maxflows: int = row(SFQ_DEFAULT_FLOWS)
    maxdepth: int = row(SFQ_MAX_DEPTH)
    """Packets of one flow."""
    headdrop: bool = row(False)
    """A full queue loses its oldest packet."""
    perturbation: int = row(of=lambda sch: sch.dev.net.random.getrandbits(32))
    slots: dict[int, sfq_slot] = row(make=dict)
    """By hash, those with packets."""
    turns: deque[sfq_slot] = row(make=deque)

    def init(self, opt: Options | None) -> None:
        """net/sched/sch_sfq.c: sfq_init and sfq_change. 0 means the default, except for a period.

        `quantum` bytes, `perturb_period` s, `limit` packets, `divisor`, `flows`, `depth`,
        `headdrop`. Nothing can be changed later. Raises: OSError EINVAL.
        """
        self.limit = limit = SFQ_MAX_DEPTH
        self.block = tcf_block(self)
        if opt is None:
            return
        quantum, divisor = opt.get("quantum") or self.quantum, opt.get("divisor") or self.divisor
        period = opt.get("perturb_period", 0)
        if divisor & (divisor - 1) or divisor > 65536:
            raise os_error(errno.EINVAL)
        if quantum >= 1 << 31:
            raise ExtAckError(errno.EINVAL, "sch_sfq: invalid quantum")
        if period < 0 or period >= 1 << 31:
            raise ExtAckError(errno.EINVAL, "sch_sfq: invalid perturb period")
        if opt.get("qth_max"):
            raise ExtAckError(errno.EOPNOTSUPP, "RED within a flow is not served")
        maxflows = min(opt.get("flows") or self.maxflows, SFQ_MAX_FLOWS)
        maxdepth = min(opt.get("depth") or self.maxdepth, SFQ_MAX_DEPTH)
        if opt.get("divisor"):
            maxflows = min(maxflows, divisor)
        if opt.get("limit"):
            limit = min(opt["limit"], maxdepth * maxflows)
            maxflows = min(maxflows, limit)
        if limit == 1:
            raise ExtAckError(errno.EINVAL, "sch_sfq: invalid limit")
        self.quantum, self.divisor, self.limit = quantum, divisor, limit
        self.maxflows, self.maxdepth = maxflows, maxdepth
        self.headdrop = bool(opt.get("headdrop"))
        self.perturb_period = period
        self.perturb_at = self.dev.net.clock.now_ns() + period * NSEC_PER_SEC

    def dump(self) -> Options:
        return {
            **fields(self, "quantum", "perturb_period", "limit", "divisor"),
            "flows": self.maxflows,
            "depth": self.maxdepth,
            "headdrop": int(self.headdrop),
        }

    def _slot(self, at: int) -> sfq_slot | None:
        """A flow by its number; None: there are too many."""
        slot = self.slots.get(at)
        if slot is None:
            if len(self.slots) >= self.maxflows:
                return None
            slot = self.slots[at] = sfq_slot(at)
            slot.allot = self.quantum
            self.turns.append(slot)
        return slot

    def enqueue(self, skb: sk_buff) -> int:
        """net/sched/sch_sfq.c: sfq_enqueue. Takes ownership of skb."""
        now = self.dev.net.clock.now_ns()
        if self.perturb_period and now >= self.perturb_at:
            self.perturb_at = now + self.perturb_period * NSEC_PER_SEC
            self.perturbation = self.dev.net.random.getrandbits(32)
            if self.block is None or self.block.head is None:
                self.sfq_rehash()
        at, verdict = sfq_classify(self, skb, self.divisor, self.perturbation)
        if verdict:
            return qdisc_taken(self, skb, verdict)
        slot = self._slot(at)
        if slot is None:
            return qdisc_drop(skb, self, SKB_DROP_REASON_QDISC_OVERLIMIT)
        nbytes = qdisc_pkt_len(skb)
        if len(slot.queue) >= self.maxdepth:
            if not self.headdrop:
                return qdisc_drop(skb, self, SKB_DROP_REASON_QDISC_OVERLIMIT)
            lost = self._drop_from(slot)
            self._append(slot, skb, nbytes)
            qdisc_tree_reduce_backlog(self, 0, lost - nbytes)
            return NET_XMIT_CN
        self._append(slot, skb, nbytes)
        if self.qlen <= self.limit:
            return NET_XMIT_SUCCESS
        longest, lost = self.sfq_drop()
        if longest is slot:  # those above have not counted this packet
            qdisc_tree_reduce_backlog(self, 0, lost - nbytes)
            return NET_XMIT_CN
        qdisc_tree_reduce_backlog(self, 1, lost)
        return NET_XMIT_SUCCESS

    def _append(self, slot: sfq_slot, skb: sk_buff, nbytes: int) -> None:
        slot.queue.append(skb)
        self.qlen += 1
        self.qstats.backlog += nbytes

    def _drop_from(self, slot: sfq_slot) -> int:
        """Drop one packet of a flow: bytes."""
        skb = slot.queue.popleft() if self.headdrop else slot.queue.pop()
        nbytes = qdisc_pkt_len(skb)
        self.qlen -= 1
        self.qstats.backlog -= nbytes
        qdisc_drop(skb, self, SKB_DROP_REASON_QDISC_OVERLIMIT)
        return nbytes

    def sfq_drop(self) -> tuple[sfq_slot, int]:
        """net/sched/sch_sfq.c: drop a packet of the longest queue; the flow, and bytes."""
        slot = max(self.turns, key=lambda slot: len(slot.queue))
        nbytes = self._drop_from(slot)
        if not slot.queue:
            self._end(slot)
        return slot, nbytes

    def _end(self, slot: sfq_slot) -> None:
        """Remove a flow without packets."""
        del self.slots[slot.hash]
        self.turns.remove(slot)

    def sfq_rehash(self) -> None:
        """net/sched/sch_sfq.c: rehash queued packets; a flow keeps its order."""
        waiting = [slot.queue for slot in self.turns]
        self.slots.clear()
        self.turns.clear()
        for queue in waiting:
            for skb in queue:
                slot = self._slot(sfq_hash(skb, self.perturbation, self.divisor))
                if slot is not None and len(slot.queue) < self.maxdepth:
                    slot.queue.append(skb)
                    continue
                nbytes = qdisc_pkt_len(skb)
                self.qlen -= 1
                self.qstats.backlog -= nbytes
                qdisc_drop(skb, self, SKB_DROP_REASON_QDISC_OVERLIMIT)
                qdisc_tree_reduce_backlog(self, 1, nbytes)

    def dequeue(self) -> sk_buff | None:
        """net/sched/sch_sfq.c: sfq_dequeue."""
        if not self.turns:
            return None
        slot = self.turns[0]
        while slot.allot <= 0:
            slot.allot += self.quantum
            self.turns.rotate(-1)
            slot = self.turns[0]
        skb = slot.queue.popleft()
        nbytes = qdisc_pkt_len(skb)
        self.qlen -= 1
        self.qstats.backlog -= nbytes
        qdisc_bstats_update(self, skb)
        slot.allot -= nbytes
        if not slot.queue:
            self._end(slot)
        return skb

    def reset(self) -> None:
        super().reset()
        for slot in self.turns:
            for skb in slot.queue:
                kfree_skb(skb, SKB_DROP_REASON_QDISC_DROP)
        self.slots.clear()
        self.turns.clear()
