"""The timers of a context: WTIMER, CTIMER and CTIMEOUT, RTIMER."""

from __future__ import annotations

import errno

from stack.xtp import context
from stack.xtp.context import xtp_context, xtp_end, xtp_rto_ns
from stack.xtp.output import xtp_abort, xtp_probe, xtp_xmit


def xtp_timeout(ctx: xtp_context, now: int) -> None:
    """Handle timers expired at `now`, ns; `xtp_deadline` returns the time of the next call."""
    if ctx.state == context.XTP_CLOSED:
        if ctx.ctimer_ns and now >= ctx.ctimer_ns:
            ctx.ctimer_ns = 0  # the linger time has ended
        return
    if ctx.orphan_ns and now >= ctx.orphan_ns:
        xtp_abort(ctx, errno.ETIMEDOUT, now)
        return
    if ctx.rtimer_ns and now >= ctx.rtimer_ns:
        ctx.rtimer_ns = 0
        xtp_xmit(ctx, now)
    if ctx.wtimer_ns and now >= ctx.wtimer_ns:
        if ctx.requests and now - ctx.asking_ns >= context.XTP_CTIMEOUT_NS:
            xtp_end(ctx, errno.ETIMEDOUT, now, False)
            return
        ctx.backoff += 1
        ctx.wtimer_ns = 0
        xtp_probe(ctx, now)
        ctx.wtimer_ns = now + xtp_rto_ns(ctx)
    if ctx.ctimer_ns and now >= ctx.ctimer_ns:
        ctx.ctimer_ns = now + context.XTP_CTIMER_NS
        if not ctx.requests:
            xtp_probe(ctx, now)
