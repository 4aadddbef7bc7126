"""net/sched/sch_fq.c: fair queueing by socket, with pacing.

    enqueue     fq_classify: the packet's connected socket, else its hash, is its flow
                packets of priority TC_PRIO_CONTROL go into `internal`, which is sent first
                packets with a transmit time (SCM_TXTIME, CLOCK_MONOTONIC) are sorted by it
    dequeue     internal; new flows, then old ones; each may send `quantum` bytes in its turn
                a flow whose time is in the future (SO_MAX_PACING_RATE, `flow_max_rate`, its
                first packet's own) waits in `delayed`

TCP sets the transmit time of each packet (SK_PACING_FQ), so its sockets' rate is not applied
again. A time above 2^63 counts as past; Linux would hold the flow for that long.
"""

from __future__ import annotations

import errno
from collections import deque
from heapq import heappop, heappush

from fastpath.base.skbuff import kfree_skb, sk_buff
from stack.core.drop_reason import SKB_DROP_REASON_QDISC_DROP, SKB_DROP_REASON_QDISC_OVERLIMIT
from stack.core.errors import os_error
from stack.core.extack import ExtAckError
from stack.core.inet_ecn import INET_ECN_set_ce
from stack.core.netdevice import NET_XMIT_SUCCESS
from stack.core.rows import row, state
from stack.core.sock import SK_PACING_FQ
from stack.core.tcp_states import TCP_CLOSE
from stack.core.time64 import NSEC_PER_SEC
from stack.core.uapi import IPPROTO_TCP
from stack.sched.flow_dissector import skb_get_hash_perturb
from stack.sched.psched import psched_l2t_ns, psched_mtu
from stack.sched.sch_api import qdisc_watchdog, qdisc_watchdog_schedule_ns
from stack.sched.sch_generic import (
    TC_PRIO_CONTROL,
    Options,
    Qdisc,
    fields,
    qdisc_bstats_update,
    qdisc_drop,
    qdisc_pkt_len,
    qdisc_take,
    qdisc_tree_reduce_backlog,
)

NO_RATE = 0xFFFFFFFF
FLOWS_MAX = 65536
"""The most idle flows that are kept."""


@state
class fq_flow:
    """struct fq_flow."""

    key: int
    queue: deque[tuple[sk_buff, int]] = row(make=deque)
    """Packets sorted by their earliest transmit time, ns."""
    credit: int = row(0)
    """Bytes left of its turn."""
    time_next_packet: int = row(0)
    """The time of its next packet, ns."""
    age: int = row(0)
    """Since when it has had no packets, ns."""


@state
class fq_qdisc(Qdisc):
    """net/sched/sch_fq.c. `buckets_log`, `orphan_mask`: kept, without effect."""

    kind = "fq"

    p: dict[str, int] = row(make=dict)
    """The parameters as they came, by name."""
    flows: dict[int, fq_flow] = row(make=dict)
    internal: deque[tuple[sk_buff, int]] = row(make=deque)
    new_flows: deque[fq_flow] = row(make=deque)
    old_flows: deque[fq_flow] = row(make=deque)
    delayed: list[tuple[int, int, fq_flow]] = row(make=list)
    """A heap by the time at which a flow may continue."""
    seq: int = row(0)
    perturb: int = row(of=lambda sch: sch.dev.net.random.getrandbits(32))
    highprio_packets: int = row(0)
    throttled: int = row(0)
    flows_plimit: int = row(0)
    ce_mark: int = row(0)
    horizon_drops: int = row(0)
    horizon_caps: int = row(0)

    def init(self, opt: Options | None) -> None:
        """Raises: OSError EINVAL."""
        mtu = psched_mtu(self.dev)
        self.watchdog = qdisc_watchdog(self)
        self.p = {
            "plimit": 10_000,
            "flow_plimit": 100,
            "quantum": 2 * mtu,
            "initial_quantum": 10 * mtu,
            "rate_enable": 1,
            "flow_max_rate": NO_RATE,
            "buckets_log": 10,
            "orphan_mask": 1023,
            "low_rate_threshold": 550_000 // 8,
            "ce_threshold": NO_RATE,
            "flow_refill_delay": 40_000,
            "horizon": 10_000_000,
            "horizon_drop": 1,
        }
        super().init(opt)

    def change(self, opt: Options) -> None:
        """net/sched/sch_fq.c: fq_change; the names are those of `p`. Raises: OSError EINVAL."""
        fresh = {name: opt[name] for name in self.p if opt.get(name) is not None}
        if not 0 < fresh.get("quantum", 1) <= 1 << 20:
            raise ExtAckError(errno.EINVAL, "sch_fq: invalid quantum")
        if fresh.get("rate_enable", 0) not in (0, 1) or not 1 <= fresh.get("buckets_log", 1) <= 18:
            raise os_error(errno.EINVAL)
        self.p.update(fresh)
        self.limit = self.p["plimit"]
        packets, nbytes = self.qlen, self.qstats.backlog
        while self.qlen > self.limit:
            skb = self.dequeue_now()
            assert skb is not None
            qdisc_drop(skb, self, SKB_DROP_REASON_QDISC_OVERLIMIT)
        qdisc_tree_reduce_backlog(self, packets - self.qlen, nbytes - self.qstats.backlog)

    def dump(self) -> Options:
        return dict(self.p)

    def dump_stats(self) -> Options:
        idle = sum(not flow.queue for flow in self.flows.values())
        until = self.delayed[0][0] - self.dev.net.clock.now_ns() if self.delayed else 0
        return {
            **fields(self, "highprio_packets", "throttled", "flows_plimit"),
            **fields(self, "ce_mark", "horizon_drops", "horizon_caps"),
            "time_next_delayed_flow": until,
            "flows": len(self.flows),
            "inactive_flows": idle,
            "throttled_flows": len(self.delayed),
        }

    def fq_classify(self, skb: sk_buff) -> fq_flow:
        """net/sched/sch_fq.c: a packet's flow; idle ones are removed when there are many."""
        sk = skb.sk
        if sk is None or sk.sk_state == TCP_CLOSE:  # an unconnected socket may have many flows
            key = -1 - skb_get_hash_perturb(skb, self.perturb)
        else:
            key = id(sk)
            if self.p["rate_enable"]:
                sk.sk_pacing_status = SK_PACING_FQ
        flow = self.flows.get(key)
        if flow is None:
            if len(self.flows) >= FLOWS_MAX:
                self.flows = {k: f for k, f in self.flows.items() if f.queue}
            flow = self.flows[key] = fq_flow(key)
            flow.credit = self.p["initial_quantum"]
        return flow

    def time_to_send(self, skb: sk_buff, now: int) -> int:
        """A packet's transmit time, ns: the sender's, within `horizon`; -1: drop it."""
        when = skb.tx_tstamp_ns
        if when <= now or skb.sk is None:  # without a socket it was forwarded, and its time is over
            return now
        last = now + self.p["horizon"] * 1000
        if when <= last:
            return when
        if self.p["horizon_drop"]:
            self.horizon_drops += 1
            return -1
        self.horizon_caps += 1
        skb.tx_tstamp_ns = last
        return last

    def enqueue(self, skb: sk_buff) -> int:
        """net/sched/sch_fq.c: fq_enqueue. Takes ownership of skb."""
        if self.qlen >= self.p["plimit"]:
            return qdisc_drop(skb, self, SKB_DROP_REASON_QDISC_OVERLIMIT)
        now = self.dev.net.clock.now_ns()
        when = self.time_to_send(skb, now)
        if when < 0:
            return qdisc_drop(skb, self, SKB_DROP_REASON_QDISC_DROP)
        if skb.priority & 15 == TC_PRIO_CONTROL:
            queue = self.internal
            self.highprio_packets += 1
        else:
            flow = self.fq_classify(skb)
            queue = flow.queue
            if len(queue) >= self.p["flow_plimit"]:
                self.flows_plimit += 1
                return qdisc_drop(skb, self, SKB_DROP_REASON_QDISC_OVERLIMIT)
            if not queue:
                if now > flow.age + self.p["flow_refill_delay"] * 1000:
                    flow.credit = max(flow.credit, self.p["quantum"])
                self.new_flows.append(flow)
        at = len(queue)
        while at and queue[at - 1][1] > when:
            at -= 1
        queue.insert(at, (skb, when))
        self.qlen += 1
        self.qstats.backlog += qdisc_pkt_len(skb)
        return NET_XMIT_SUCCESS

    def dequeue_now(self) -> sk_buff | None:
        """A packet of any flow, regardless of its time."""
        if self.gso_skb:
            return self.dequeue_peeked()
        if self.internal:
            return qdisc_take(self, self.internal)[0]
        flow = next((flow for flow in self.flows.values() if flow.queue), None)
        return qdisc_take(self, flow.queue)[0] if flow is not None else None

    def dequeue(self) -> sk_buff | None:
        """net/sched/sch_fq.c: fq_dequeue."""
        now = self.dev.net.clock.now_ns()
        if self.internal:
            skb, _ = qdisc_take(self, self.internal)
            qdisc_bstats_update(self, skb)
            return skb
        while self.delayed and self.delayed[0][0] <= now:
            self.old_flows.append(heappop(self.delayed)[2])
        while self.new_flows or self.old_flows:
            flows = self.new_flows or self.old_flows
            flow = flows[0]
            if not flow.queue:  # it has nothing to send any more
                flows.popleft()
                flow.age = now
                continue
            if flow.credit <= 0:
                flow.credit += self.p["quantum"]
                self.old_flows.append(flows.popleft())
                continue
            time_next_packet = max(flow.queue[0][1], flow.time_next_packet)
            if time_next_packet > now:
                flows.popleft()
                flow.time_next_packet = time_next_packet
                self.throttled += 1
                self.seq += 1
                heappush(self.delayed, (time_next_packet, self.seq, flow))
                continue
            return self.send(flow, flows, now)
        if self.delayed:
            assert self.watchdog is not None
            qdisc_watchdog_schedule_ns(self.watchdog, self.delayed[0][0])
        return None

    def send(self, flow: fq_flow, flows: deque[fq_flow], now: int) -> sk_buff:
        """Take a flow's packet, and set when its next one may go."""
        skb, since = qdisc_take(self, flow.queue)
        if not flow.queue:
            flows.popleft()
            flow.age = now
        nbytes = qdisc_pkt_len(skb)
        flow.credit -= nbytes
        if now - since > self.p["ce_threshold"] * 1000:
            self.ce_mark += INET_ECN_set_ce(skb)
        qdisc_bstats_update(self, skb)
        if self.p["rate_enable"]:
            rate = self.p["flow_max_rate"]
            sk = skb.sk
            if sk is not None and sk.sk_protocol != IPPROTO_TCP:
                rate = min(rate, sk.sk_pacing_rate)
            if 0 < rate < NO_RATE:
                flow.time_next_packet = now + min(psched_l2t_ns(rate, nbytes), NSEC_PER_SEC)
        return skb

    def reset(self) -> None:
        super().reset()
        for queue in (self.internal, *(flow.queue for flow in self.flows.values())):
            for skb, _ in queue:
                kfree_skb(skb, SKB_DROP_REASON_QDISC_DROP)
        self.internal.clear()
        for held in (self.flows, self.new_flows, self.old_flows, self.delayed):
            held.clear()
