"""net/sched/sch_tbf.c: the token bucket filter."""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff, sk_buff_head
from stack.core.drop_reason import SKB_DROP_REASON_QDISC_OVERLIMIT, kfree_skb_reason
from stack.core.netdevice import NET_XMIT_DROP, NET_XMIT_SUCCESS, net_device
from stack.core.rows import narrow, row, state, wide
from stack.sched.sch_api import qdisc_watchdog, qdisc_watchdog_schedule_ns
from stack.sched.sch_generic import Qdisc


@state
class tbf_qdisc(Qdisc):
    """net/sched/sch_tbf.c: token bucket of `rate_bps`, `burst_bytes`; `limit` packets wait."""

    kind = "tbf"

    rate_bps: int = row(0)
    burst_ns: int = row(0)
    tokens_ns: int = row(0)
    t_c: int = row(0)
    q: sk_buff_head = row()

    def __init__(
        self, dev: net_device, *, rate_bps: int, burst_bytes: wide, limit: int | None = None
    ) -> None:
        if rate_bps <= 0 or burst_bytes <= 0:
            raise ValueError(f"tbf: rate {rate_bps} and burst {burst_bytes} must be above 0")
        super().__init__(dev)
        self.q = sk_buff_head()
        self.rate_bps = rate_bps
        self.burst_ns = narrow(burst_bytes * 8 * 1_000_000_000 // rate_bps)
        self.tokens_ns = self.burst_ns
        self.t_c = dev.net.clock.now_ns()
        if limit is not None:
            self.limit = limit
        self.watchdog = qdisc_watchdog(self)

    def enqueue(self, skb: sk_buff) -> int:
        """net/sched/sch_tbf.c: tbf_enqueue. Takes ownership of skb.

        Drops a packet that is larger than the bucket.
        """
        if self.q.qlen >= self.limit or self._cost_ns(skb.len) > self.burst_ns:
            self.qstats.drops += 1
            kfree_skb_reason(self.dev.net, skb, SKB_DROP_REASON_QDISC_OVERLIMIT)
            return NET_XMIT_DROP
        self.q.queue_tail(skb)
        self.qlen += 1
        return NET_XMIT_SUCCESS

    def dequeue(self) -> sk_buff | None:
        """net/sched/sch_tbf.c: tbf_dequeue: a packet if tokens suffice, else arm the watchdog."""
        skb = self.q.peek()
        if skb is None:
            return None
        now = self.dev.net.clock.now_ns()
        tokens = min(self.tokens_ns + now - self.t_c, self.burst_ns)
        tokens -= self._cost_ns(skb.len)
        if tokens >= 0:
            self.t_c = now
            self.tokens_ns = tokens
            self.qlen -= 1
            return self.q.dequeue()
        assert self.watchdog is not None
        qdisc_watchdog_schedule_ns(self.watchdog, now - tokens)
        self.qstats.overlimits += 1
        return None

    def _cost_ns(self, length_bytes: int) -> int:
        return -(-length_bytes * 8 * 1_000_000_000 // self.rate_bps)

    def reset(self) -> None:
        super().reset()
        self.q.purge()
        self.qlen = 0
        self.tokens_ns = self.burst_ns
