"""net/sched/sch_tbf.c: the token bucket filter: a rate, a burst, and a child discipline."""

from __future__ import annotations

import errno

from fastpath.base.skbuff import sk_buff
from fastpath.net.gso import skb_gso_validate_network_len
from stack.core.dev_xmit import skb_gso_software
from stack.core.drop_reason import SKB_DROP_REASON_QDISC_OVERLIMIT
from stack.core.errors import os_error
from stack.core.netdevice import NET_XMIT_DROP, NET_XMIT_SUCCESS
from stack.core.rows import row, state
from stack.sched.psched import PSCHED_SHIFT, psched_ratecfg, psched_ticks, rate_from, rate_told
from stack.sched.sch_api import Qdisc_one_class, qdisc_watchdog, qdisc_watchdog_schedule_ns
from stack.sched.sch_fifo import fifo_create_dflt, fifo_set_limit
from stack.sched.sch_generic import (
    Options,
    noop_qdisc,
    qdisc_child_enqueue,
    qdisc_child_sent,
    qdisc_drop,
    qdisc_pkt_len,
    qdisc_tree_reduce_backlog,
)

NO_LIMIT = 0xFFFFFFFF


@state
class tbf_qdisc(Qdisc_one_class):
    """net/sched/sch_tbf.c: token bucket of `rate`; its one class holds the packets.

    With a peak rate there is a second bucket, of `mtu` ns.
    """

    kind = "tbf"

    rate: psched_ratecfg = row()
    peak: psched_ratecfg | None = row()
    max_size: int = row(0)
    """Bytes of the largest packet that ever passes."""
    buffer: int = row(0)
    """The size of the bucket, ns at the rate."""
    mtu: int = row(0)
    tokens: int = row(0)
    ptokens: int = row(0)
    t_c: int = row(0)
    """When the tokens were last counted, ns."""

    def init(self, opt: Options | None) -> None:
        """Raises: OSError EINVAL."""
        if opt is None:
            raise os_error(errno.EINVAL)
        self.watchdog = qdisc_watchdog(self)
        self.q = noop_qdisc(self.dev)
        self.t_c = self.dev.net.clock.now_ns()
        self.change(opt)

    def change(self, opt: Options) -> None:
        """net/sched/sch_tbf.c: tbf_change.

        `rate` in bytes/s, `burst` in bytes (or `buffer` in ticks), `limit` in bytes.
        `peakrate` goes with `pburst` (or `mtu` in ticks). Raises: OSError EINVAL.
        """
        if "rate" not in opt or "limit" not in opt:
            raise os_error(errno.EINVAL)
        rate = rate_from(opt, "rate", "rate64")
        if not rate.bytes_ps:
            raise os_error(errno.EINVAL, "the rate is 0")
        peak = rate_from(opt, "peakrate", "prate64")
        if opt.get("burst") is not None:
            max_size = opt["burst"]
            buffer = rate.l2t_ns(max_size)
        else:
            buffer = min((opt.get("buffer") or 0) << PSCHED_SHIFT, NO_LIMIT)
            max_size = min(rate.t2l(buffer), NO_LIMIT)
        mtu = min((opt.get("mtu") or 0) << PSCHED_SHIFT, NO_LIMIT)
        if peak.bytes_ps:
            if peak.bytes_ps <= rate.bytes_ps:
                raise os_error(errno.EINVAL, "the peak rate is not higher than the rate")
            if opt.get("pburst") is not None:
                mtu = peak.l2t_ns(opt["pburst"])
                max_size = min(max_size, opt["pburst"])
            else:
                max_size = min(max_size, peak.t2l(mtu))
        if not max_size:
            raise os_error(errno.EINVAL, "no packet fits into the burst")
        if not isinstance(self.q, noop_qdisc):
            fifo_set_limit(self.q, opt["limit"])
        elif opt["limit"]:
            self.q = fifo_create_dflt(self, opt["limit"])
        self.limit, self.rate, self.peak = opt["limit"], rate, peak if peak.bytes_ps else None
        self.buffer, self.mtu, self.max_size = buffer, mtu, max_size
        self.tokens, self.ptokens = buffer, mtu

    def enqueue(self, skb: sk_buff) -> int:
        """net/sched/sch_tbf.c: tbf_enqueue. Takes ownership of skb.

        A super-packet larger than the bucket is segmented; another packet is dropped.
        """
        if qdisc_pkt_len(skb) > self.max_size:
            most = max(self.max_size - self.dev.hard_header_len, 0)
            if skb.gso_size and skb_gso_validate_network_len(skb, most):
                return self._segment(skb)
            return qdisc_drop(skb, self, SKB_DROP_REASON_QDISC_OVERLIMIT)
        return qdisc_child_enqueue(self, self.q, skb)

    def _segment(self, skb: sk_buff) -> int:
        """net/sched/sch_tbf.c: tbf_segment. Takes ownership of skb."""
        nbytes, waited = qdisc_pkt_len(skb), self.qstats.backlog
        segs = skb_gso_software(skb, self.dev)
        if segs is None:
            self.qstats.drops += 1
            return NET_XMIT_DROP
        sent = sum(not qdisc_child_enqueue(self, self.q, seg) for seg in segs)
        if sent:  # those above count one packet of so many bytes for the call
            qdisc_tree_reduce_backlog(self, 1 - sent, nbytes - (self.qstats.backlog - waited))
        return NET_XMIT_SUCCESS if sent else NET_XMIT_DROP

    def dequeue(self) -> sk_buff | None:
        """net/sched/sch_tbf.c: tbf_dequeue: a packet if tokens suffice, else arm the watchdog."""
        skb = self.q.peek()
        if skb is None:
            return None
        now = self.dev.net.clock.now_ns()
        nbytes = qdisc_pkt_len(skb)
        passed = min(now - self.t_c, self.buffer)
        ptokens = 0
        if self.peak is not None:
            ptokens = min(passed + self.ptokens, self.mtu) - self.peak.l2t_ns(nbytes)
        tokens = min(passed + self.tokens, self.buffer) - self.rate.l2t_ns(nbytes)
        if tokens >= 0 and ptokens >= 0:
            skb = self.q.dequeue_peeked()
            if skb is None:
                return None
            self.t_c, self.tokens, self.ptokens = now, tokens, ptokens
            return qdisc_child_sent(self, skb)
        assert self.watchdog is not None
        qdisc_watchdog_schedule_ns(self.watchdog, now - min(tokens, ptokens))
        self.qstats.overlimits += 1
        return None

    def reset(self) -> None:
        super().reset()
        self.t_c = self.dev.net.clock.now_ns()
        self.tokens, self.ptokens = self.buffer, self.mtu

    def dump(self) -> Options:
        peak = self.peak if self.peak is not None else psched_ratecfg(linklayer=0)
        return {
            "limit": self.limit,
            **rate_told(self.rate, "rate", "rate64"),
            **rate_told(peak, "peakrate", "prate64"),
            "mtu": psched_ticks(self.mtu),
            "buffer": psched_ticks(self.buffer),
        }
