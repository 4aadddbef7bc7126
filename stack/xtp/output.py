"""A context's output: data within window and rate, requests, answers, retransmissions.

    xtp_sendmsg -> xtp_write                append to `unsent`
    xtp_open -> xtp_send_first              the FIRST, which carries the first data
    xtp_xmit                                after input, writing, timers:
        xtp_may_send                        lost segments, then new ones; window, then rate
        xtp_send_segment                    DATA; with SREQ (xtp_request_now) at times
        xtp_ask_delivery                    DREQ: has the peer's application read it?
    xtp_send_control                        our state: CNTL, ECNTL (gaps), TCNTL (answers FIRST)
    xtp_close_write, xtp_close_read         WCLOSE after the data, RCLOSE at once
    xtp_check_end -> xtp_send_end           both directions have ended; xtp_abort ends at once
    xtp_probe                               a timer expired: request again

Every packet goes through xtp_emit to the context's output list, which xtp_push sends. State
(xtp_context): `unsent`, `sent` and `lost` are segments; `snd_una`, `snd_nxt`, `snd_end` and
`snd_alloc` (the window's edge) are sequence numbers. `sync` is the number of the last request,
`credit` the bytes allowed by the rate. `wtimer_ns` waits for an answer, `rtimer_ns` for the
rate. Read xtp_xmit first.
"""

from __future__ import annotations

from collections import deque

from stack.core.time64 import NSEC_PER_SEC
from stack.xtp import packet
from stack.xtp.context import (
    XTP_ACTIVE,
    XTP_OPENING,
    XTP_REQUESTS,
    xtp_alloc,
    xtp_context,
    xtp_emit,
    xtp_end,
    xtp_own_tspec,
    xtp_r_done,
    xtp_request,
    xtp_rto_ns,
    xtp_segment,
    xtp_spans,
    xtp_w_done,
)
from stack.xtp.packet import xtp_cntl_segment, xtp_ecntl_segment, xtp_tcntl_segment

# --- the application's side ------------------------------------------------------------------


def xtp_write(ctx: xtp_context, data: bytes, eom: bool) -> None:
    """Append to our direction; `eom`: a message ends here. `xtp_xmit` sends it."""
    at = 0
    if ctx.unsent and not ctx.unsent[-1].eom and ctx.unsent[-1].seq >= ctx.snd_nxt:
        tail = ctx.unsent[-1]
        room = ctx.mss - len(tail.data)
        if room > 0:
            tail.data += data[:room]
            at = min(room, len(data))
            ctx.snd_end += at
    while at < len(data):
        piece = data[at : at + ctx.mss]
        ctx.unsent.append(xtp_segment(ctx.snd_end, piece))
        ctx.snd_end += len(piece)
        at += len(piece)
    if eom and ctx.unsent:
        ctx.unsent[-1].eom = True


def xtp_close_write(ctx: xtp_context) -> None:
    """No more data will be written."""
    ctx.w_closed = True


def xtp_close_read(ctx: xtp_context, now: int) -> None:
    """The application stops reading: drop queued data and notify the peer."""
    if ctx.r_closed:
        return
    ctx.r_closed = True
    ctx.pieces.clear()
    ctx.early.clear()
    ctx.queued = 0
    if ctx.state == XTP_ACTIVE:
        xtp_send_control(ctx, now, 0, ctx.rcv_sync, False)


def xtp_abort(ctx: xtp_context, err: int, now: int) -> None:
    """End the context at once, and send END."""
    if ctx.state in (XTP_OPENING, XTP_ACTIVE):
        xtp_emit_state(ctx, packet.END)
    xtp_end(ctx, err, now, False)


# --- control packets ---------------------------------------------------------------------------


def xtp_emit_state(ctx: xtp_context, options: int) -> None:
    """A CNTL with these options: the position received, and the window's edge."""
    ctx.told_alloc = xtp_alloc(ctx)
    segment = xtp_cntl_segment(ctx.rcv_nxt, ctx.told_alloc, ctx.rcv_sync)
    xtp_emit(ctx, packet.XTP_CNTL, options, ctx.snd_nxt, ctx.sync, segment, b"")


def xtp_send_control(ctx: xtp_context, now: int, options: int, echo: int, tspec: bool) -> None:
    """Send our state to the peer: an ECNTL if there are gaps, a TCNTL (`tspec`) for a FIRST.

    SREQ in `options` makes it a request too.
    """
    if ctx.w_closed and not ctx.unsent:
        options |= packet.WCLOSE
        ctx.w_told = True
    if options & packet.SREQ:
        xtp_request_now(ctx, now)
    ctx.told_alloc = xtp_alloc(ctx)
    if tspec:
        form = packet.XTP_TCNTL
        segment = xtp_tcntl_segment(ctx.rcv_nxt, ctx.told_alloc, echo, xtp_own_tspec(ctx))
    elif ctx.early and not ctx.r_closed:
        form = packet.XTP_ECNTL
        spans = xtp_spans(ctx, packet.XTP_MAX_SPANS)
        segment = xtp_ecntl_segment(ctx.rcv_nxt, ctx.told_alloc, echo, spans)
    else:
        form = packet.XTP_CNTL
        segment = xtp_cntl_segment(ctx.rcv_nxt, ctx.told_alloc, echo)
    xtp_emit(ctx, form, options, ctx.snd_nxt, ctx.sync, segment, b"")


def xtp_request_now(ctx: xtp_context, now: int) -> None:
    """Count a request in the packet that is being built, and start WTIMER."""
    ctx.sync += 1
    if not ctx.requests:
        ctx.asking_ns = now
    ctx.requests.append(xtp_request(ctx.sync, now, ctx.state == XTP_OPENING))
    ctx.since_request = 0
    ctx.requests_out += 1
    xtp_arm_wtimer(ctx, now)


def xtp_ask_delivery(ctx: xtp_context, now: int) -> None:
    """Send a DREQ, which is answered when the peer's application has read all that was sent."""
    if ctx.state != XTP_ACTIVE or ctx.service == packet.XTP_SERVICE_ACKED_DATAGRAM:
        return
    ctx.sync += 1
    ctx.dreq_sync = ctx.sync
    ctx.dreq_seq = ctx.snd_nxt
    xtp_emit_state(ctx, packet.DREQ)
    xtp_arm_wtimer(ctx, now)


def xtp_waits_for_rclose(ctx: xtp_context) -> bool:
    """Whether all data were sent and our direction is closed, without a request in flight."""
    if not ctx.w_closed or ctx.unsent or ctx.peer_rclose or ctx.requests:
        return False
    return ctx.state == XTP_ACTIVE


def xtp_waits_for_delivery(ctx: xtp_context) -> bool:
    """Whether our last DREQ is unanswered."""
    return ctx.dreq_sync > 0 and ctx.delivered < ctx.dreq_seq


def xtp_keep_asking(ctx: xtp_context, now: int) -> None:
    """After an answer: request again if data were sent after its request or a DREQ is pending."""
    if ctx.state != XTP_ACTIVE or ctx.requests:
        return
    if ctx.sent and not ctx.noerr:
        xtp_send_control(ctx, now, packet.SREQ, ctx.rcv_sync, False)
    elif xtp_waits_for_delivery(ctx):
        xtp_arm_wtimer(ctx, now)


def xtp_arm_wtimer(ctx: xtp_context, now: int) -> None:
    """Start WTIMER unless it is running."""
    if not ctx.wtimer_ns:
        ctx.wtimer_ns = now + xtp_rto_ns(ctx)


# --- data --------------------------------------------------------------------------------------


def xtp_open(ctx: xtp_context, now: int) -> None:
    """Send the initiator's FIRST, with the first data if any; its answer makes ctx active."""
    ctx.state = XTP_OPENING
    xtp_send_first(ctx, now)
    xtp_xmit(ctx, now)


def xtp_send_first(ctx: xtp_context, now: int) -> None:
    """Send the FIRST, or repeat it: the peer creates its context from it."""
    options = packet.SREQ
    data = b""
    if ctx.unsent and not ctx.snd_nxt:
        ctx.sent.append(ctx.unsent.popleft())
        ctx.snd_nxt = len(ctx.sent[0].data)
    xtp_request_now(ctx, now)
    if ctx.sent:
        head = ctx.sent[0]
        data = head.data
        head.sends += 1
        head.sync = ctx.sync
        if head.eom:
            options |= packet.EOM
    if ctx.dreq and ctx.service == packet.XTP_SERVICE_ACKED_DATAGRAM:
        options |= packet.DREQ
    if ctx.w_closed and not ctx.unsent and ctx.snd_end == len(data):
        options |= packet.WCLOSE
        ctx.w_told = True
    xtp_emit(ctx, packet.XTP_FIRST, options, 0, ctx.sync, ctx.first, data)


def xtp_xmit(ctx: xtp_context, now: int) -> None:
    """Send within window and rate: lost segments, then new ones.

    The last packet carries a request, and so does one in each eighth of the window. Retransmissions
    carry one because only a request's answer can tell them from first transmissions.
    """
    if ctx.state not in (XTP_OPENING, XTP_ACTIVE):
        return
    batch = xtp_may_send(ctx, now)
    part = max((ctx.snd_alloc - ctx.snd_una) // XTP_REQUESTS, ctx.mss)
    left = len(batch)
    for segment in batch:
        left -= 1
        ctx.since_request += len(segment.data)
        last = not left and ctx.w_closed and not ctx.unsent
        ask = last or ctx.since_request >= part
        if not left or segment.sends:
            ask |= len(ctx.requests) < XTP_REQUESTS
        xtp_send_segment(ctx, segment, now, ask)
    if xtp_waits_for_rclose(ctx):
        if not ctx.w_told:
            xtp_send_control(ctx, now, packet.SREQ, ctx.rcv_sync, False)
        else:
            xtp_arm_wtimer(ctx, now)
    elif ctx.unsent and not ctx.rtimer_ns:
        xtp_arm_wtimer(ctx, now)  # the window is closed: WTIMER probes until it opens
    if ctx.dreq and not ctx.unsent and ctx.snd_nxt > ctx.dreq_seq:
        xtp_ask_delivery(ctx, now)


def xtp_may_send(ctx: xtp_context, now: int) -> list[xtp_segment]:
    """Return the segments allowed by window and rate, and move new ones to `sent`."""
    batch: list[xtp_segment] = []
    if ctx.rate:
        xtp_refill(ctx, now)
    while ctx.lost or ctx.unsent:
        again = bool(ctx.lost)
        segment: xtp_segment = ctx.lost[0] if again else ctx.unsent[0]
        if not again and len(segment.data) > ctx.mss:
            xtp_cut(ctx.unsent, segment, ctx.mss)  # the path's MTU shrank
        size = len(segment.data)
        if not again and not ctx.noflow and segment.seq + size > ctx.snd_alloc:
            room = ctx.snd_alloc - segment.seq
            if room <= 0 or ctx.sent or batch:
                break
            xtp_cut(ctx.unsent, segment, room)  # a window smaller than a packet
            size = room
        if ctx.rate:
            need = min(size, max(ctx.burst, ctx.mss))
            if ctx.credit < need:
                # RTIMER: until the next packet fits
                ctx.rtimer_ns = now + (need - ctx.credit) * NSEC_PER_SEC // ctx.rate + 1
                break
            ctx.credit -= size
        if again:
            ctx.lost.popleft()
            segment.lost = False
            ctx.retransmits += 1
        else:
            ctx.unsent.popleft()
            ctx.snd_nxt = segment.seq + size
            if ctx.noerr:
                ctx.snd_una = ctx.snd_nxt  # no retransmissions, so nothing is kept
            else:
                ctx.sent.append(segment)
        batch.append(segment)
    return batch


def xtp_cut(queue: deque[xtp_segment], segment: xtp_segment, size: int) -> None:
    """Split the head of `queue` after `size` bytes."""
    rest = xtp_segment(segment.seq + size, segment.data[size:], segment.eom)
    segment.data = segment.data[:size]
    segment.eom = False
    queue.popleft()
    queue.appendleft(rest)
    queue.appendleft(segment)


def xtp_send_segment(ctx: xtp_context, segment: xtp_segment, now: int, ask: bool) -> None:
    """One DATA packet."""
    options = packet.EOM if segment.eom else 0
    end = segment.seq + len(segment.data)
    if ctx.w_closed and end == ctx.snd_end:
        options |= packet.WCLOSE
        ctx.w_told = True
    if ask:
        options |= packet.SREQ
        xtp_request_now(ctx, now)
    segment.sync = ctx.sync if ask else ctx.sync + 1
    segment.sends += 1
    xtp_emit(ctx, packet.XTP_DATA, options, segment.seq, ctx.sync, b"", segment.data)


# --- rate ----------------------------------------------------------------------------------------


def xtp_refill(ctx: xtp_context, now: int) -> None:
    """Grow the credit with time, up to a burst (at least a packet)."""
    limit = max(ctx.burst, ctx.mss)
    if not ctx.refill_ns:
        ctx.credit = limit
    else:
        ctx.credit = min(ctx.credit + (now - ctx.refill_ns) * ctx.rate // NSEC_PER_SEC, limit)
    ctx.refill_ns = now


# --- the end -------------------------------------------------------------------------------------


def xtp_check_end(ctx: xtp_context, now: int) -> bool:
    """If both directions have ended, send END and linger, to repeat it; True if so."""
    if ctx.state != XTP_ACTIVE or not (xtp_w_done(ctx) and xtp_r_done(ctx)):
        return False
    xtp_send_end(ctx)
    xtp_end(ctx, 0, now, True)
    return True


def xtp_send_end(ctx: xtp_context) -> None:
    """Send END."""
    xtp_emit_state(ctx, packet.END | (packet.WCLOSE if ctx.w_closed else 0))


def xtp_probe(ctx: xtp_context, now: int) -> None:
    """Request the peer's state by a packet without data, or by repeating the FIRST."""
    if ctx.state == XTP_OPENING:
        xtp_send_first(ctx, now)
    else:
        xtp_send_control(ctx, now, packet.SREQ, ctx.rcv_sync, False)
        if xtp_waits_for_delivery(ctx):
            xtp_ask_delivery(ctx, now)
