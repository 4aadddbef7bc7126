"""net/core/gen_stats.c: statistics of disciplines, classes and actions in messages."""

from __future__ import annotations

from typing import Any

from stack.netlink.tc_attrs import BASIC, QUEUE, RATE_EST, RATE_EST64, STATS2, TC_STATS
from stack.sched.gen_estimator import net_rate_estimator
from stack.sched.sch_generic import gnet_stats_basic_sync, gnet_stats_queue

U32_MAX = 0xFFFFFFFF


def rate_attrs(est: net_rate_estimator | None) -> dict[str, bytes | None]:
    """net/core/gen_stats.c gnet_stats_copy_rate_est; empty without an estimator."""
    if est is None:
        return {}
    bps, pps = est.read()
    return {
        "TCA_STATS_RATE_EST": RATE_EST.pack(min(bps, U32_MAX), pps & U32_MAX),
        "TCA_STATS_RATE_EST64": RATE_EST64.pack(bps, pps) if bps > U32_MAX else None,
    }


def stats2(
    bstats: gnet_stats_basic_sync,
    qstats: gnet_stats_queue,
    qlen: int = 0,
    *,
    app: bytes = b"",
    est: net_rate_estimator | None = None,
    hardware: bool = False,
) -> bytes:
    """net/core/gen_stats.c: what TCA_STATS2 or TCA_ACT_STATS holds."""
    packets, drops = bstats.packets & U32_MAX, qstats.drops & U32_MAX
    backlog, overlimits = qstats.backlog & U32_MAX, qstats.overlimits & U32_MAX
    return STATS2.build(
        {
            "TCA_STATS_BASIC": BASIC.pack(bstats.bytes, packets),
            "TCA_STATS_PKT64": bstats.packets if bstats.packets > U32_MAX else None,
            "TCA_STATS_BASIC_HW": bytes(BASIC.size) if hardware else None,
            **rate_attrs(est),
            "TCA_STATS_QUEUE": QUEUE.pack(
                qlen, backlog, drops, qstats.requeues & U32_MAX, overlimits
            ),
            "TCA_STATS_APP": app or None,
        }
    )


def tc_stats(
    bstats: gnet_stats_basic_sync,
    qstats: gnet_stats_queue,
    qlen: int,
    app: bytes,
    est: net_rate_estimator | None = None,
) -> dict[str, Any]:
    """TCA_STATS2, and TCA_STATS and TCA_XSTATS for old programs."""
    packets, drops = bstats.packets & U32_MAX, qstats.drops & U32_MAX
    backlog, overlimits = qstats.backlog & U32_MAX, qstats.overlimits & U32_MAX
    bps, pps = est.read() if est is not None else (0, 0)
    bps, pps = min(bps, U32_MAX), pps & U32_MAX
    return {
        "TCA_STATS2": stats2(bstats, qstats, qlen, app=app, est=est),
        "TCA_STATS": TC_STATS.pack(
            bstats.bytes, packets, drops, overlimits, bps, pps, qlen, backlog
        ),
        "TCA_XSTATS": app or None,
    }
