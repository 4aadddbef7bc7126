"""net/sched/sch_fq_codel.c: a queue per flow, in turns, each with controlled delay (RFC 8290).

enqueue     the flow's hash chooses the queue; an idle one joins `new_flows`
            above `limit` or `memory_limit` fq_codel_drop takes from the longest queue
dequeue     new flows first, then old ones; each may send `quantum` bytes in its turn
            codel_dequeue: packets that waited too long are marked or dropped
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
from stack.sched.cls_api import qdisc_taken, tcf_block
from stack.sched.codel import codel_dequeue, codel_params, codel_stats, codel_vars
from stack.sched.psched import psched_mtu
from stack.sched.sch_generic import (
    Options,
    Qdisc,
    fields,
    qdisc_bstats_update,
    qdisc_drop,
    qdisc_pkt_len,
    qdisc_tree_reduce_backlog,
)
from stack.sched.sch_sfq import sfq_classify

FLOWS_MAX = 65536


@state
class fq_codel_flow:
    """struct fq_codel_flow: one queue. `deficit`: bytes that are left of its turn."""

    queue: deque[tuple[sk_buff, int]] = row(make=deque)
    """Packets and when they came, ns."""
    backlog: int = row(0)
    deficit: int = row(0)
    waits: bool = row(False)
    """It is on one of the two lists."""
    cvars: codel_vars = row(make=codel_vars)


@state
class fq_codel_qdisc(Qdisc):
    """net/sched/sch_fq_codel.c: fair to flows, short queues. RFC 8290."""

    kind = "fq_codel"

    params: codel_params = row(of=lambda sch: codel_params(psched_mtu(sch.dev), True))
    stats: codel_stats = row(make=codel_stats)
    flows_cnt: int = row(1024)
    quantum: int = row(of=lambda sch: psched_mtu(sch.dev))
    memory_limit: int = row(32 << 20)
    """The most bytes of buffers in the queue."""
    drop_batch_size: int = row(64)
    memory_usage: int = row(0)
    perturb: int = row(of=lambda sch: sch.dev.net.random.getrandbits(32))
    flows: dict[int, fq_codel_flow] = row(make=dict)
    """By hash; queues are created on first use."""
    new_flows: deque[fq_codel_flow] = row(make=deque)
    old_flows: deque[fq_codel_flow] = row(make=deque)
    new_flow_count: int = row(0)
    drop_overlimit: int = row(0)
    drop_overmemory: int = row(0)

    def init(self, opt: Options | None) -> None:
        """Raises: OSError EINVAL."""
        self.limit = 10 * 1024
        super().init(opt)
        self.block = tcf_block(self)

    def change(self, opt: Options) -> None:
        """net/sched/sch_fq_codel.c: fq_codel_change.

        `limit` packets, `flows` (at the start only), `quantum` bytes, `memory_limit` bytes,
        `drop_batch_size`; `target`, `interval`, `ce_threshold` us; `ecn`. Raises: OSError EINVAL.
        """
        flows, quantum = opt.get("flows"), max(opt.get("quantum", self.quantum), 256)
        if flows is not None and (self.block is not None or not 0 < flows <= FLOWS_MAX):
            raise os_error(errno.EINVAL)
        if quantum > 1 << 20:
            raise ExtAckError(errno.EINVAL, "Invalid quantum")
        self.flows_cnt, self.quantum = flows or self.flows_cnt, quantum
        self.params.change(opt)
        self.limit = opt.get("limit", self.limit)
        self.drop_batch_size = max(opt.get("drop_batch_size", self.drop_batch_size), 1)
        self.memory_limit = min(opt.get("memory_limit", self.memory_limit), 1 << 31)
        packets, nbytes = self.qlen, self.qstats.backlog
        while self.qlen > self.limit or self.memory_usage > self.memory_limit:
            skb = self.dequeue_peeked() if self.gso_skb else None
            if skb is not None:
                qdisc_drop(skb, self, SKB_DROP_REASON_QDISC_OVERLIMIT)
            else:
                self.fq_codel_drop(1)
        qdisc_tree_reduce_backlog(self, packets - self.qlen, nbytes - self.qstats.backlog)

    def dump(self) -> Options:
        return {
            **self.params.dump(),
            **fields(self, "limit", "quantum", "drop_batch_size", "memory_limit"),
            "flows": self.flows_cnt,
        }

    def dump_stats(self) -> Options:
        return {
            "type": 0,
            **fields(self.stats, "maxpacket", "ecn_mark", "ce_mark"),
            **fields(self, "drop_overlimit", "drop_overmemory", "new_flow_count", "memory_usage"),
            "new_flows_len": len(self.new_flows),
            "old_flows_len": len(self.old_flows),
        }

    def enqueue(self, skb: sk_buff) -> int:
        """net/sched/sch_fq_codel.c: fq_codel_enqueue. Takes ownership of skb."""
        at, verdict = sfq_classify(self, skb, self.flows_cnt, self.perturb)
        if verdict:
            return qdisc_taken(self, skb, verdict)
        flow = self.flows.get(at)
        if flow is None:
            flow = self.flows[at] = fq_codel_flow()
        nbytes = qdisc_pkt_len(skb)
        flow.queue.append((skb, self.dev.net.clock.now_ns()))
        flow.backlog += nbytes
        self.qstats.backlog += nbytes
        self.qlen += 1
        self.memory_usage += skb.truesize
        if not flow.waits:
            flow.waits = True
            flow.deficit = self.quantum
            self.new_flows.append(flow)
            self.new_flow_count += 1
        overmemory = self.memory_usage > self.memory_limit
        if self.qlen <= self.limit and not overmemory:
            return NET_XMIT_SUCCESS
        packets, waited = self.qlen, self.qstats.backlog
        longest = self.fq_codel_drop(self.drop_batch_size)
        packets -= self.qlen
        waited -= self.qstats.backlog
        self.drop_overlimit += packets
        self.drop_overmemory += packets if overmemory else 0
        if longest is flow:  # parents have not counted this packet
            qdisc_tree_reduce_backlog(self, packets - 1, waited - nbytes)
            return NET_XMIT_CN
        qdisc_tree_reduce_backlog(self, packets, waited)
        return NET_XMIT_SUCCESS

    def _pop(self, flow: fq_codel_flow) -> tuple[sk_buff, int]:
        skb, since = flow.queue.popleft()
        nbytes = qdisc_pkt_len(skb)
        flow.backlog -= nbytes
        self.qstats.backlog -= nbytes
        self.qlen -= 1
        self.memory_usage -= skb.truesize
        return skb, since

    def fq_codel_drop(self, most: int) -> fq_codel_flow:
        """net/sched/sch_fq_codel.c: drop half of the longest queue, at most `most` packets."""
        flow = max(self.flows.values(), key=lambda flow: flow.backlog)
        threshold, dropped = flow.backlog // 2, 0
        while flow.queue:
            before = flow.backlog
            skb, _ = self._pop(flow)
            qdisc_drop(skb, self, SKB_DROP_REASON_QDISC_OVERLIMIT)
            most -= 1
            dropped += before - flow.backlog
            flow.cvars.count += 1
            if not most or dropped >= threshold:
                break
        return flow

    def dequeue(self) -> sk_buff | None:
        """net/sched/sch_fq_codel.c: fq_codel_dequeue."""
        now, stats, skb = self.dev.net.clock.now_ns(), self.stats, None
        while skb is None and (self.new_flows or self.old_flows):
            fresh = bool(self.new_flows)
            flows = self.new_flows if fresh else self.old_flows
            flow = flows[0]
            if flow.deficit <= 0:
                flow.deficit += self.quantum
                self.old_flows.append(flows.popleft())
                continue
            skb = self._dequeue_flow(flow, now)
            if skb is not None:
                break
            flows.popleft()
            if fresh and self.old_flows:  # else it could always be a new one
                self.old_flows.append(flow)
            else:
                flow.waits = False
        if skb is not None:
            flow.deficit -= qdisc_pkt_len(skb)
            qdisc_bstats_update(self, skb)
        if stats.drops:
            qdisc_tree_reduce_backlog(self, stats.drops, stats.drop_bytes)
            stats.drops = stats.drop_bytes = 0
        return skb

    def _dequeue_flow(self, flow: fq_codel_flow, now: int) -> sk_buff | None:
        return codel_dequeue(
            flow.cvars,
            self.params,
            self.stats,
            lambda: self._pop(flow) if flow.queue else None,
            self,
            now,
        )

    def reset(self) -> None:
        super().reset()
        for flow in self.flows.values():
            for skb, _ in flow.queue:
                kfree_skb(skb, SKB_DROP_REASON_QDISC_DROP)
        self.flows.clear()
        self.new_flows.clear()
        self.old_flows.clear()
        self.memory_usage = 0
