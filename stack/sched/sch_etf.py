"""net/sched/sch_etf.c: earliest time first: each packet is sent `delta` before its SCM_TXTIME.

Times are of CLOCK_TAI, which equals CLOCK_REALTIME here. A packet whose time has passed is dropped
and reported on its socket's error queue, if the socket has SOF_TXTIME_REPORT_ERRORS.
"""

from __future__ import annotations

import errno

from fastpath.base.skbuff import kfree_skb, sk_buff, skb_clone
from stack.core import uapi
from stack.core.drop_reason import SKB_DROP_REASON_QDISC_DROP
from stack.core.errqueue import sock_exterr_skb
from stack.core.extack import ExtAckError
from stack.core.netdevice import NET_XMIT_SUCCESS
from stack.core.rows import row, state
from stack.core.sock import sock, sock_queue_err_skb
from stack.core.sock_flags import SOCK_TXTIME
from stack.sched.sch_api import qdisc_watchdog, qdisc_watchdog_schedule_ns
from stack.sched.sch_generic import Options, Qdisc, qdisc_bstats_update, qdisc_drop, qdisc_pkt_len

TC_ETF_DEADLINE_MODE_ON = 1 << 0
TC_ETF_OFFLOAD_ON = 1 << 1
TC_ETF_SKIP_SOCK_CHECK = 1 << 2
ENOTSUPP = 524
"""include/linux/errno.h: an internal errno, which Linux nevertheless returns to programs."""


@state
class etf_qdisc(Qdisc):
    """net/sched/sch_etf.c. `delta`: ns."""

    kind = "etf"

    delta: int = row(0)
    flags: int = row(0)
    """Bits TC_ETF_*."""
    last: int = row(0)
    """The time of the packet that left last, ns of CLOCK_TAI."""
    queue: list[sk_buff] = row(make=list)
    """Packets by their time."""

    def init(self, opt: Options | None) -> None:
        """`delta`, `clockid`, `flags`. Raises: OSError EINVAL, EOPNOTSUPP, ENOTSUPP."""
        if opt is None:
            raise ExtAckError(errno.EINVAL, "Missing ETF qdisc options which are mandatory")
        if opt.get("clockid") is None:
            raise ExtAckError(errno.EINVAL, "Missing mandatory ETF parameters")
        if opt["clockid"] < 0:
            raise ExtAckError(ENOTSUPP, "Dynamic clockids are not supported")
        if opt["clockid"] != uapi.CLOCK_TAI:
            raise ExtAckError(errno.EINVAL, "Invalid clockid. CLOCK_TAI must be used")
        self.delta, self.flags = opt.get("delta") or 0, opt.get("flags") or 0
        if self.delta < 0:
            raise ExtAckError(errno.EINVAL, "Delta must be positive")
        if self.flags & TC_ETF_OFFLOAD_ON:
            text = "Specified device does not support ETF offload"
            raise ExtAckError(errno.EOPNOTSUPP, text)
        self.watchdog = qdisc_watchdog(self)

    def dump(self) -> Options:
        shown = TC_ETF_DEADLINE_MODE_ON | TC_ETF_OFFLOAD_ON | TC_ETF_SKIP_SOCK_CHECK
        return {"delta": self.delta, "clockid": uapi.CLOCK_TAI, "flags": self.flags & shown}

    def is_packet_valid(self, skb: sk_buff) -> bool:
        """net/sched/sch_etf.c: a time that has not passed, of a socket with the same clock."""
        if not self.flags & TC_ETF_SKIP_SOCK_CHECK:
            sk: sock | None = skb.sk
            deadline_mode = bool(self.flags & TC_ETF_DEADLINE_MODE_ON)
            if (
                sk is None
                or not sk.sk_flags & SOCK_TXTIME
                or sk.sk_clockid != uapi.CLOCK_TAI
                or sk.sk_txtime_deadline_mode != deadline_mode
            ):
                return False
        return skb.tx_tstamp_ns >= max(self.dev.machine.realtime_ns(), self.last)

    def enqueue(self, skb: sk_buff) -> int:
        """net/sched/sch_etf.c: etf_enqueue_timesortedlist. Takes ownership of skb."""
        if not self.is_packet_valid(skb):
            report_sock_error(skb, errno.EINVAL, uapi.SO_EE_CODE_TXTIME_INVALID_PARAM)
            return qdisc_drop(skb, self, SKB_DROP_REASON_QDISC_DROP)
        at = len(self.queue)
        while at and self.queue[at - 1].tx_tstamp_ns > skb.tx_tstamp_ns:
            at -= 1
        self.queue.insert(at, skb)
        self.qlen += 1
        self.qstats.backlog += qdisc_pkt_len(skb)
        self.reset_watchdog()
        return NET_XMIT_SUCCESS

    def reset_watchdog(self) -> None:
        """net/sched/sch_etf.c: set the timer for the first packet's time."""
        assert self.watchdog is not None
        if not self.queue:
            self.watchdog.cancel()
            return
        ahead = self.queue[0].tx_tstamp_ns - self.delta - self.dev.machine.realtime_ns()
        qdisc_watchdog_schedule_ns(self.watchdog, self.dev.machine.now() + max(ahead, 0))

    def take(self) -> sk_buff:
        """Remove and return the first packet."""
        skb = self.queue.pop(0)
        self.qlen -= 1
        self.qstats.backlog -= qdisc_pkt_len(skb)
        return skb

    def dequeue(self) -> sk_buff | None:
        """net/sched/sch_etf.c: etf_dequeue_timesortedlist."""
        if not self.queue:
            return None
        now = self.dev.machine.realtime_ns()
        skb: sk_buff | None = None
        if self.queue[0].tx_tstamp_ns < now:
            while self.queue and self.queue[0].tx_tstamp_ns <= now:
                late = self.take()
                report_sock_error(late, errno.ECANCELED, uapi.SO_EE_CODE_TXTIME_MISSED)
                qdisc_drop(late, self, SKB_DROP_REASON_QDISC_DROP)
                self.qstats.overlimits += 1
        # From that instant on: Linux, whose clock moves between two looks, waits for a later one.
        elif self.flags & TC_ETF_DEADLINE_MODE_ON or self.queue[0].tx_tstamp_ns - self.delta <= now:
            skb = self.take()
            self.last = skb.tx_tstamp_ns
            if self.flags & TC_ETF_DEADLINE_MODE_ON:
                skb.tx_tstamp_ns = now
            qdisc_bstats_update(self, skb)
        self.reset_watchdog()
        return skb

    def reset(self) -> None:
        super().reset()
        for skb in self.queue:
            kfree_skb(skb, SKB_DROP_REASON_QDISC_DROP)
        self.queue.clear()
        self.last = 0


def report_sock_error(skb: sk_buff, err: int, code: int) -> None:
    """net/sched/sch_etf.c: tell the sender that its packet (borrowed) does not leave.

    The extended error has the packet's time in `ee_data` and `ee_info`.
    """
    sk: sock | None = skb.sk
    if sk is None or not sk.sk_txtime_report_errors or sk.sk_freed:
        return
    clone = skb_clone(skb)
    when = skb.tx_tstamp_ns
    clone.cb = sock_exterr_skb(
        err,
        uapi.SO_EE_ORIGIN_TXTIME,
        0,
        code,
        when & 0xFFFFFFFF,
        None,
        None,
        when >> 32 & 0xFFFFFFFF,
    )
    clone.dev = None
    clone.dst = None
    if sock_queue_err_skb(sk, clone):
        kfree_skb(clone)
