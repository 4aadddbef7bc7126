"""include/net/codel.h, codel_impl.h: controlled delay (RFC 8289), for one queue.

A queue whose packets wait longer than `target` for a whole `interval` drops one at dequeue, then
one after `interval`, `interval` / sqrt(2), `interval` / sqrt(3) ... until they wait less.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt

from fastpath.base.skbuff import sk_buff
from stack.core.drop_reason import SKB_DROP_REASON_QDISC_DROP
from stack.core.inet_ecn import INET_ECN_set_ce
from stack.core.rows import row, state
from stack.sched.sch_generic import Options, Qdisc, qdisc_drop, qdisc_pkt_len

CODEL_SHIFT = 10
"""Linux keeps times in units of 1024 ns, which is visible in the output of `tc`."""


def codel_time_to_us(us: int) -> int:
    """A time as Linux reports it."""
    return (us * 1000 >> CODEL_SHIFT << CODEL_SHIFT) // 1000


@state
class codel_params:
    """struct codel_params; times in us."""

    mtu: int
    """Bytes; a shorter queue is never dropped from."""
    ecn: bool = False
    target: int = row(5000)
    interval: int = row(100_000)
    ce_threshold: int | None = row()
    """Packets that waited longer are marked; None: off."""

    def change(self, opt: Options) -> None:
        """`target`, `interval`, `ce_threshold` in us, `ecn`."""
        self.target = opt.get("target", self.target)
        self.interval = opt.get("interval", self.interval)
        self.ce_threshold = opt.get("ce_threshold", self.ce_threshold)
        self.ecn = bool(opt.get("ecn", self.ecn))

    def dump(self) -> Options:
        """The same, as Linux tells them."""
        threshold = self.ce_threshold
        return {
            "target": codel_time_to_us(self.target),
            "interval": codel_time_to_us(self.interval),
            "ecn": int(self.ecn),
            "ce_threshold": codel_time_to_us(threshold) if threshold is not None else None,
        }


@state
class codel_stats:
    """struct codel_stats; `drops` since the last look of the discipline."""

    maxpacket: int = row(0)
    ecn_mark: int = row(0)
    ce_mark: int = row(0)
    drops: int = row(0)
    drop_bytes: int = row(0)


@state
class codel_vars:
    """struct codel_vars: the state of one queue. Times in ns."""

    count: int = row(0)
    lastcount: int = row(0)
    dropping: bool = row(False)
    first_above_time: int = row(0)
    drop_next: int = row(0)
    ldelay: int = row(0)
    """How long the last packet has waited."""


Pop = Callable[[], tuple[sk_buff, int] | None]


def codel_should_drop(
    cv: codel_vars, params: codel_params, since: int, backlog: int, now: int
) -> bool:
    """RFC 8289 5.6: whether packets have waited too long for a whole interval."""
    cv.ldelay = now - since
    if cv.ldelay < params.target * 1000 or backlog <= params.mtu:
        cv.first_above_time = 0
        return False
    if not cv.first_above_time:
        cv.first_above_time = now + params.interval * 1000
        return False
    return now > cv.first_above_time


def codel_control_law(t: int, params: codel_params, count: int) -> int:
    """RFC 8289 5.6: when to drop the next one: t + interval / sqrt(count)."""
    return t + params.interval * 1_000_000 // isqrt(count * 1_000_000)


def codel_dequeue(
    cv: codel_vars,
    params: codel_params,
    stats: codel_stats,
    pop: Pop,
    sch: Qdisc,
    now: int,
) -> sk_buff | None:
    """The next packet of a queue of `sch`. `pop()` takes the first one and when it came, ns."""

    def look() -> tuple[sk_buff | None, bool]:
        found = pop()
        if found is None:
            cv.first_above_time = 0
            return None, False
        skb, since = found
        stats.maxpacket = max(stats.maxpacket, qdisc_pkt_len(skb))
        return skb, codel_should_drop(cv, params, since, sch.qstats.backlog, now)

    def refuse(skb: sk_buff) -> bool:
        """Mark or drop one; whether it is gone."""
        if params.ecn and INET_ECN_set_ce(skb):
            stats.ecn_mark += 1
            return False
        stats.drops += 1
        stats.drop_bytes += qdisc_pkt_len(skb)
        qdisc_drop(skb, sch, SKB_DROP_REASON_QDISC_DROP)
        return True

    skb, late = look()
    if cv.dropping:
        cv.dropping = late
        while skb is not None and cv.dropping and now >= cv.drop_next:
            cv.count += 1
            gone = refuse(skb)
            if gone:
                skb, cv.dropping = look()
            if cv.dropping:
                cv.drop_next = codel_control_law(cv.drop_next, params, cv.count)
            if not gone:
                break
    elif late and skb is not None:
        if refuse(skb):
            skb, _ = look()
        cv.dropping = True
        delta = cv.count - cv.lastcount
        recent = now - cv.drop_next < 16 * params.interval * 1000
        cv.count = delta if delta > 1 and recent else 1
        cv.lastcount = cv.count
        cv.drop_next = codel_control_law(now, params, cv.count)
    threshold = params.ce_threshold
    if skb is not None and threshold is not None and cv.ldelay > threshold * 1000:
        stats.ce_mark += INET_ECN_set_ce(skb)
    return skb
