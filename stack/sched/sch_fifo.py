"""net/sched/sch_fifo.c: one queue with a limit in packets (pfifo) or in bytes (bfifo)."""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff, sk_buff_head
from stack.core.drop_reason import SKB_DROP_REASON_QDISC_OVERLIMIT
from stack.core.netdevice import NET_XMIT_CN
from stack.core.rows import row, state
from stack.sched.psched import psched_mtu
from stack.sched.sch_api import Qdisc_one_class
from stack.sched.sch_generic import (
    Options,
    Qdisc,
    qdisc_default_leaf,
    qdisc_dequeue_head,
    qdisc_drop,
    qdisc_enqueue_tail,
    qdisc_hash_add,
    qdisc_pkt_len,
    qdisc_tree_reduce_backlog,
)


@state
class pfifo_qdisc(Qdisc):
    """net/sched/sch_fifo.c: one FIFO with a packet limit."""

    kind = "pfifo"

    q: sk_buff_head = row(make=sk_buff_head)

    def init(self, opt: Options | None) -> None:
        if opt is None:
            self.limit = self.dev.tx_queue_len
        else:
            self.change(opt)

    def change(self, opt: Options) -> None:
        """`limit`: packets."""
        self.limit = opt["limit"]

    def dump(self) -> Options:
        return {"limit": self.limit}

    def enqueue(self, skb: sk_buff) -> int:
        """net/sched/sch_fifo.c: pfifo_enqueue. Takes ownership of skb."""
        if self.q.qlen >= self.limit:
            return qdisc_drop(skb, self, SKB_DROP_REASON_QDISC_OVERLIMIT)
        return qdisc_enqueue_tail(skb, self, self.q)

    def dequeue(self) -> sk_buff | None:
        """net/sched/sch_generic.c: qdisc_dequeue_head."""
        return qdisc_dequeue_head(self, self.q)

    def peek(self) -> sk_buff | None:
        return self.gso_skb[0] if self.gso_skb else self.q.peek()

    def reset(self) -> None:
        super().reset()
        self.q.purge()


@state
class bfifo_qdisc(pfifo_qdisc):
    """net/sched/sch_fifo.c: one FIFO with a limit in bytes."""

    kind = "bfifo"

    def init(self, opt: Options | None) -> None:
        super().init(opt)
        if opt is None:
            self.limit *= psched_mtu(self.dev)

    def enqueue(self, skb: sk_buff) -> int:
        """net/sched/sch_fifo.c: bfifo_enqueue. Takes ownership of skb."""
        if self.qstats.backlog + qdisc_pkt_len(skb) > self.limit:
            return qdisc_drop(skb, self, SKB_DROP_REASON_QDISC_OVERLIMIT)
        return qdisc_enqueue_tail(skb, self, self.q)


@state
class pfifo_head_drop_qdisc(pfifo_qdisc):
    """net/sched/sch_fifo.c: when the queue is full, its oldest packet is dropped."""

    kind = "pfifo_head_drop"

    def enqueue(self, skb: sk_buff) -> int:
        """net/sched/sch_fifo.c: pfifo_tail_enqueue. Takes ownership of skb."""
        if not self.limit:
            return qdisc_drop(skb, self, SKB_DROP_REASON_QDISC_OVERLIMIT)
        if self.q.qlen < self.limit:
            return qdisc_enqueue_tail(skb, self, self.q)
        first = self.q.dequeue()
        assert first is not None
        old, new = qdisc_pkt_len(first), qdisc_pkt_len(skb)
        self.qlen -= 1
        self.qstats.backlog -= old
        qdisc_drop(first, self, SKB_DROP_REASON_QDISC_OVERLIMIT)
        qdisc_enqueue_tail(skb, self, self.q)
        qdisc_tree_reduce_backlog(self, 0, old - new)
        return NET_XMIT_CN


def fifo_set_limit(q: Qdisc, limit: int) -> None:
    """net/sched/sch_fifo.c: another limit if it is a FIFO: packets, or bytes of a bfifo."""
    if isinstance(q, pfifo_qdisc):
        q.limit = limit


def fifo_create_dflt(sch: Qdisc_one_class, limit: int) -> Qdisc:
    """net/sched/sch_fifo.c: a bfifo to be the leaf of a discipline."""
    leaf = qdisc_default_leaf(sch, bfifo_qdisc(sch.dev), sch.handle | 1)
    leaf.limit = limit
    qdisc_hash_add(leaf, True)
    return leaf
