"""net/sched/sch_fifo.c: one queue with a limit in packets."""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff, sk_buff_head
from stack.core.drop_reason import SKB_DROP_REASON_QDISC_OVERLIMIT, kfree_skb_reason
from stack.core.netdevice import NET_XMIT_DROP, NET_XMIT_SUCCESS, net_device
from stack.core.rows import row, state
from stack.sched.sch_generic import Qdisc


@state
class pfifo_qdisc(Qdisc):
    """net/sched/sch_fifo.c: one FIFO with a packet limit."""

    kind = "pfifo"

    can_bypass: bool = row(True)
    q: sk_buff_head = row()

    def __init__(self, dev: net_device, limit: int | None = None) -> None:
        super().__init__(dev)
        self.q = sk_buff_head()
        if limit is not None:
            self.limit = limit

    def enqueue(self, skb: sk_buff) -> int:
        """net/sched/sch_fifo.c: pfifo_enqueue. Takes ownership of skb."""
        if self.q.qlen >= self.limit:
            self.qstats.drops += 1
            kfree_skb_reason(self.dev.net, skb, SKB_DROP_REASON_QDISC_OVERLIMIT)
            return NET_XMIT_DROP
        self.q.queue_tail(skb)
        self.qlen += 1
        return NET_XMIT_SUCCESS

    def dequeue(self) -> sk_buff | None:
        """net/sched/sch_generic.c: qdisc_dequeue_head."""
        skb = self.q.dequeue()
        if skb is not None:
            self.qlen -= 1
        return skb

    def reset(self) -> None:
        super().reset()
        self.q.purge()
        self.qlen = 0
