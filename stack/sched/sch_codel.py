"""net/sched/sch_codel.c: one queue with controlled delay."""

from __future__ import annotations

from collections import deque

from fastpath.base.skbuff import kfree_skb, sk_buff
from stack.core.drop_reason import SKB_DROP_REASON_QDISC_DROP, SKB_DROP_REASON_QDISC_OVERLIMIT
from stack.core.netdevice import NET_XMIT_SUCCESS
from stack.core.rows import row, state
from stack.sched.codel import codel_dequeue, codel_params, codel_stats, codel_vars
from stack.sched.psched import psched_mtu
from stack.sched.sch_generic import (
    Options,
    Qdisc,
    fields,
    qdisc_bstats_update,
    qdisc_drop,
    qdisc_pkt_len,
    qdisc_take,
    qdisc_tree_reduce_backlog,
)

DEFAULT_CODEL_LIMIT = 1000


@state
class codel_qdisc(Qdisc):
    """net/sched/sch_codel.c: a FIFO whose packets do not wait for long."""

    kind = "codel"

    params: codel_params = row(of=lambda sch: codel_params(psched_mtu(sch.dev)))
    stats: codel_stats = row(make=codel_stats)
    vars: codel_vars = row(make=codel_vars)
    drop_overlimit: int = row(0)
    queue: deque[tuple[sk_buff, int]] = row(make=deque)
    """Packets and when they came, ns."""

    def init(self, opt: Options | None) -> None:
        self.limit = DEFAULT_CODEL_LIMIT
        super().init(opt)

    def change(self, opt: Options) -> None:
        """`limit` packets; `target`, `interval`, `ce_threshold` us; `ecn`."""
        self.params.change(opt)
        self.limit = opt.get("limit", self.limit)
        packets, nbytes = self.qlen, self.qstats.backlog
        while self.qlen > self.limit:
            skb = self.dequeue_peeked() if self.gso_skb else qdisc_take(self, self.queue)[0]
            assert skb is not None
            qdisc_drop(skb, self, SKB_DROP_REASON_QDISC_OVERLIMIT)
        qdisc_tree_reduce_backlog(self, packets - self.qlen, nbytes - self.qstats.backlog)

    def dump(self) -> Options:
        return {"limit": self.limit, **self.params.dump()}

    def dump_stats(self) -> Options:
        cv, now = self.vars, self.dev.net.clock.now_ns()
        return {
            **fields(self.stats, "maxpacket", "ecn_mark", "ce_mark"),
            **fields(cv, "count", "lastcount"),
            "ldelay": cv.ldelay // 1000,
            "drop_next": (cv.drop_next - now) // 1000 if cv.dropping else 0,
            "drop_overlimit": self.drop_overlimit,
            "dropping": int(cv.dropping),
        }

    def enqueue(self, skb: sk_buff) -> int:
        """net/sched/sch_codel.c: codel_qdisc_enqueue. Takes ownership of skb."""
        if self.qlen >= self.limit:
            self.drop_overlimit += 1
            return qdisc_drop(skb, self, SKB_DROP_REASON_QDISC_OVERLIMIT)
        self.queue.append((skb, self.dev.net.clock.now_ns()))
        self.qlen += 1
        self.qstats.backlog += qdisc_pkt_len(skb)
        return NET_XMIT_SUCCESS

    def dequeue(self) -> sk_buff | None:
        """net/sched/sch_codel.c: codel_qdisc_dequeue."""
        stats = self.stats
        skb = codel_dequeue(
            self.vars,
            self.params,
            stats,
            lambda: qdisc_take(self, self.queue) if self.queue else None,
            self,
            self.dev.net.clock.now_ns(),
        )
        if stats.drops:
            qdisc_tree_reduce_backlog(self, stats.drops, stats.drop_bytes)
            stats.drops = stats.drop_bytes = 0
        if skb is not None:
            qdisc_bstats_update(self, skb)
        return skb

    def reset(self) -> None:
        super().reset()
        for skb, _ in self.queue:
            kfree_skb(skb, SKB_DROP_REASON_QDISC_DROP)
        self.queue.clear()
        self.vars = codel_vars()
