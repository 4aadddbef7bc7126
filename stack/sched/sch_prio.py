"""net/sched/sch_prio.c: bands of strict priority, each with a discipline of its own."""

from __future__ import annotations

import errno

from fastpath.base.skbuff import sk_buff
from stack.core.errors import os_error
from stack.core.rows import row, state
from stack.sched.act_api import TC_ACT_TAKES, tcf_result
from stack.sched.cls_api import qdisc_classify, qdisc_taken, tcf_block
from stack.sched.sch_api import TC_H_MAJ_MASK, TC_H_MIN_MASK, qdisc_replace
from stack.sched.sch_fifo import pfifo_qdisc
from stack.sched.sch_generic import (
    PRIO2BAND,
    Options,
    Qdisc,
    Qdisc_class,
    class_dump,
    qdisc_child_enqueue,
    qdisc_child_sent,
    qdisc_default_leaf,
    qdisc_hash_add,
    qdisc_purge_queue,
)

TCQ_PRIO_BANDS = 16
TCQ_MIN_PRIO_BANDS = 2
TC_PRIO_MAX = 15


@state
class prio_qdisc(Qdisc_class):
    """net/sched/sch_prio.c: a packet's priority gives its band, of class band + 1."""

    kind = "prio"

    prio2band: tuple[int, ...] = row(PRIO2BAND)
    queues: list[Qdisc] = row(make=list)

    def init(self, opt: Options | None) -> None:
        """Raises: OSError EINVAL."""
        if opt is None:
            raise os_error(errno.EINVAL)
        self.block = tcf_block(self)
        self.change(opt)

    def change(self, opt: Options) -> None:
        """net/sched/sch_prio.c: prio_tune: `bands`, and `priomap`: 16 bytes, a band each.

        Raises: OSError EINVAL.
        """
        bands, priomap = opt.get("bands", 3), tuple(opt.get("priomap", PRIO2BAND))
        if not TCQ_MIN_PRIO_BANDS <= bands <= TCQ_PRIO_BANDS or len(priomap) != TC_PRIO_MAX + 1:
            raise os_error(errno.EINVAL)
        if any(band >= bands for band in priomap):
            raise os_error(errno.EINVAL)
        for q in self.queues[bands:]:
            qdisc_purge_queue(q)
            q.destroy()
        del self.queues[bands:]
        for band in range(len(self.queues) + 1, bands + 1):
            self.queues.append(self.default_leaf(band))
        self.prio2band = priomap

    def default_leaf(self, band: int) -> Qdisc:
        """The default discipline of a band."""
        leaf = qdisc_default_leaf(self, pfifo_qdisc(self.dev), self.handle | band)
        qdisc_hash_add(leaf, True)
        return leaf

    def dump(self) -> Options:
        return {"bands": len(self.queues), "priomap": bytes(self.prio2band)}

    def enqueue(self, skb: sk_buff) -> int:
        """net/sched/sch_prio.c: prio_enqueue, prio_classify. Takes ownership of skb.

        The class is the priority if that is one of this discipline's, else given by a filter.
        """
        classid = skb.priority
        if classid & TC_H_MAJ_MASK != self.handle:
            res = tcf_result()
            verdict = qdisc_classify(self.block, skb, res)
            if verdict in TC_ACT_TAKES:
                return qdisc_taken(self, skb, verdict)
            if verdict < 0:
                at = 0 if classid & TC_H_MAJ_MASK else classid & TC_PRIO_MAX
                return qdisc_child_enqueue(self, self.queues[self.prio2band[at]], skb)
            classid = res.classid
        band = (classid & TC_H_MIN_MASK) - 1
        q = self.queues[band if 0 <= band < len(self.queues) else self.prio2band[0]]
        return qdisc_child_enqueue(self, q, skb)

    def peek(self) -> sk_buff | None:
        for q in self.queues:
            skb = q.peek()
            if skb is not None:
                return skb
        return None

    def dequeue(self) -> sk_buff | None:
        """net/sched/sch_prio.c: prio_dequeue: from the first band that has a packet."""
        for q in self.queues:
            if q.qlen:
                skb = q.dequeue_peeked()
                if skb is not None:
                    return qdisc_child_sent(self, skb)
        return None

    # a class per band, numbered from 1

    def find(self, classid: int) -> int | None:
        band = classid & TC_H_MIN_MASK
        return band if 1 <= band <= len(self.queues) else None

    def walk(self) -> range:
        return range(1, len(self.queues) + 1)

    def leaf(self, cl: int) -> Qdisc:
        return self.queues[cl - 1]

    def graft(self, cl: int, new: Qdisc | None) -> Qdisc | None:
        new = new if new is not None else self.default_leaf(cl)
        old, self.queues[cl - 1] = self.queues[cl - 1], new
        return qdisc_replace(self, new, old, self.handle | cl)

    def dump_class(self, cl: int) -> class_dump:
        q = self.queues[cl - 1]
        q.update_stats()
        number = self.handle | cl
        return class_dump(number, self.handle, q, None, q.bstats, q.qstats, q.qlen)
