"""net/sched/sch_red.c, include/net/red.h: random early detection.

The longer the queue is on average, the likelier is a packet marked or dropped before it is full.
The average is kept in units of 2^-`Wlog` bytes. While the queue is empty it falls by a table that
`tc` computes (`stab`), because there are no packets to update it.
"""

from __future__ import annotations

import errno

from fastpath.base.skbuff import sk_buff
from stack.core.drop_reason import SKB_DROP_REASON_QDISC_DROP
from stack.core.errors import os_error
from stack.core.extack import ExtAckError
from stack.core.inet_ecn import INET_ECN_set_ce
from stack.core.netdevice import NET_XMIT_CN, NET_XMIT_DROP
from stack.core.rows import row, state
from stack.sched.sch_api import Qdisc_one_class
from stack.sched.sch_fifo import fifo_create_dflt
from stack.sched.sch_generic import (
    Options,
    fields,
    noop_qdisc,
    qdisc_child_enqueue,
    qdisc_child_sent,
    qdisc_drop,
    qdisc_purge_queue,
)

TC_RED_ECN, TC_RED_HARDDROP, TC_RED_ADAPTATIVE, TC_RED_NODROP = 1, 2, 4, 8
TC_RED_SUPPORTED = 15
STAB_SIZE = 256
MARKS = ("prob_drop", "prob_mark", "forced_drop", "forced_mark", "pdrop")


@state
class red_qdisc(Qdisc_one_class):
    """net/sched/sch_red.c: one queue, in a child discipline; adaptive RED is not supported."""

    kind = "red"

    flags: int = row(0)
    qth_min: int = row(0)
    """Bytes on average below which nothing is dropped."""
    qth_max: int = row(0)
    """Above it everything is."""
    Wlog: int = row(0)
    Plog: int = row(0)
    Scell_log: int = row(0)
    max_P: int = row(0)
    """The probability at `qth_max`, of 2^32."""
    stab: bytes = row(b"")
    qavg: int = row(0)
    qcount: int = row(-1)
    """Packets since the last mark; -1: the average is low."""
    qR: int = row(0)
    idle_since: int = row(0)
    """When the queue became empty, ns; 0: it is not."""
    marks: dict[str, int] = row(make=lambda: dict.fromkeys(MARKS, 0))

    def init(self, opt: Options | None) -> None:
        """Raises: OSError EINVAL."""
        if opt is None:
            raise os_error(errno.EINVAL)
        self.q = noop_qdisc(self.dev)
        self.change(opt)

    def change(self, opt: Options) -> None:
        """net/sched/sch_red.c: red_change.

        `limit`, `qth_min`, `qth_max` bytes, `Wlog`, `Plog`, `Scell_log`, `max_P`, `stab` of 256
        bytes, `flags`. Raises: OSError EINVAL.
        """
        low, high = opt.get("qth_min", 0), opt.get("qth_max", 0)
        wlog, plog, cell = opt.get("Wlog", 9), opt.get("Plog", 10), opt.get("Scell_log", 10)
        stab = opt.get("stab", bytes(STAB_SIZE))
        if "limit" not in opt or len(stab) < STAB_SIZE:
            raise os_error(errno.EINVAL)
        if wlog + max(low, high).bit_length() > 32 or high < low:
            raise os_error(errno.EINVAL)
        if max(cell, *stab[:STAB_SIZE]) >= 32:
            raise os_error(errno.EINVAL)
        selector = opt.get("flags_selector", 0)
        flags = opt.get("flags", 0) & ~selector | opt.get("flags_value", 0) & selector
        if flags & ~TC_RED_SUPPORTED:
            raise os_error(errno.EINVAL)
        if flags & TC_RED_NODROP and not flags & TC_RED_ECN:
            raise ExtAckError(errno.EINVAL, "nodrop mode is only meaningful with ECN")
        if flags & TC_RED_ADAPTATIVE:
            raise ExtAckError(errno.EOPNOTSUPP, "adaptive RED is not served")
        if opt["limit"]:
            old, self.q = self.q, fifo_create_dflt(self, opt["limit"])
            qdisc_purge_queue(old)
            old.destroy()
        self.limit, self.flags = opt["limit"], flags
        self.qth_min, self.qth_max = low, high
        self.Wlog, self.Plog, self.Scell_log, self.stab = wlog, plog, cell, stab
        self.max_P = opt.get("max_P") or (high - low << max(32 - plog, 0)) & 0xFFFFFFFF
        self.qavg, self.qcount = 0, -1
        if not self.q.qlen:
            self.idle_since = self.dev.net.clock.now_ns()

    def dump(self) -> Options:
        return {
            **fields(self, "limit", "qth_min", "qth_max", "max_P", "flags"),
            **fields(self, "Wlog", "Plog", "Scell_log"),
            "flags_value": self.flags,
            "flags_selector": TC_RED_SUPPORTED,
        }

    def dump_stats(self) -> Options:
        marks = self.marks
        return {
            "early": marks["prob_drop"] + marks["forced_drop"],
            "pdrop": marks["pdrop"],
            "marked": marks["prob_mark"] + marks["forced_mark"],
        }

    def red_calc_qavg(self) -> int:
        """include/net/red.h: the average, with this packet's view of the queue."""
        if not self.idle_since:
            return self.qavg + self.q.qstats.backlog - (self.qavg >> self.Wlog)
        idle = (self.dev.net.clock.now_ns() - self.idle_since) // 1000
        shift: int = self.stab[min(idle >> self.Scell_log, STAB_SIZE - 1)]
        if shift:
            return self.qavg >> shift
        less = self.qavg * idle >> self.Scell_log
        return self.qavg - less if less < self.qavg // 2 else self.qavg >> 1

    def red_action(self, qavg: int) -> str:
        """include/net/red.h: "", or "prob" (by chance) or "forced" (too long)."""
        if qavg < self.qth_min << self.Wlog:
            self.qcount = -1
            return ""
        if qavg >= self.qth_max << self.Wlog:
            self.qcount = -1
            return "forced"
        self.qcount += 1
        if self.qcount > 0:
            over = (qavg >> self.Wlog) - self.qth_min
            if over * self.qcount < self.qR:
                return ""
            self.qcount = 0
            self.qR = self.red_random()
            return "prob"
        self.qR = self.red_random()
        return ""

    def red_random(self) -> int:
        """A number between 0 and (`qth_max` - `qth_min`) / `max_P`."""
        most = (self.qth_max - self.qth_min << 32) // max(self.max_P, 1)
        return self.dev.net.random.randrange(min(most, 1 << 62) + 1)

    def enqueue(self, skb: sk_buff) -> int:
        """net/sched/sch_red.c: red_enqueue. Takes ownership of skb."""
        self.qavg = self.red_calc_qavg()
        self.idle_since = 0
        how = self.red_action(self.qavg)
        if how:
            self.qstats.overlimits += 1
            hard = how == "forced" and self.flags & TC_RED_HARDDROP
            if not hard and self.flags & TC_RED_ECN and INET_ECN_set_ce(skb):
                self.marks[f"{how}_mark"] += 1
            elif hard or not self.flags & TC_RED_NODROP:
                self.marks[f"{how}_drop"] += 1
                qdisc_drop(skb, self, SKB_DROP_REASON_QDISC_DROP)
                return NET_XMIT_CN
        ret = qdisc_child_enqueue(self, self.q, skb)
        if ret == NET_XMIT_DROP:
            self.marks["pdrop"] += 1
        return ret

    def dequeue(self) -> sk_buff | None:
        """net/sched/sch_red.c: red_dequeue."""
        skb = self.q.dequeue_peeked()
        if skb is not None:
            return qdisc_child_sent(self, skb)
        if not self.idle_since:
            self.idle_since = self.dev.net.clock.now_ns()
        return None

    def peek(self) -> sk_buff | None:
        return self.q.peek()

    def reset(self) -> None:
        super().reset()
        self.qavg, self.qcount, self.idle_since = 0, -1, 0
