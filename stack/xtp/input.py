"""A context's input: ordering data, answering requests, detecting losses.

xtp_rcv_packet (stream.py) and the datagrams pass a parsed packet of the context:

    xtp_input
        xtp_diagnosed                       DIAG: an error ends the context
        xtp_rcv_data                        DATA, FIRST:
            xtp_deliver, xtp_early_in_order     in order: to the reader, then the following data
            xtp_keep_early                  beyond a gap: kept
        xtp_skip                            NOERR: missing data will not arrive
        xtp_acknowledged                    a control segment: window, answers, spans
            xtp_rtt_sample, xtp_find_lost -> xtp_mark_lost
        xtp_ended                           END
        xtp_answer                          SREQ, DREQ, FASTNAK: send our state
        xtp_xmit                            (output.py) send within the new window
    xtp_recvmsg -> xtp_peek, xtp_read       the application reads bytes

Nothing here knows sockets or clocks: time is `now`, and packets to send go to the context's output
list, which xtp_push sends. State (xtp_context): `rcv_nxt`, `pieces` (to be read), `early` (beyond a
gap), `sent` and `lost` (segments), `requests` (without answer). Read xtp_input first.
"""

from __future__ import annotations

import errno
from bisect import bisect_left

from stack.xtp import context, packet
from stack.xtp.context import (
    xtp_alloc,
    xtp_context,
    xtp_end,
    xtp_limit_rate,
    xtp_r_done,
    xtp_rtt_sample,
    xtp_segment,
    xtp_spans,
    xtp_w_done,
)
from stack.xtp.output import (
    xtp_arm_wtimer,
    xtp_check_end,
    xtp_keep_asking,
    xtp_send_control,
    xtp_send_end,
    xtp_waits_for_delivery,
    xtp_waits_for_rclose,
    xtp_xmit,
)
from stack.xtp.packet import xtp_packet

_DIAG_ERRNO = {
    packet.XTP_DIAG_REFUSED: errno.ECONNREFUSED,
    packet.XTP_DIAG_PROTOCOL_ERROR: errno.EPROTO,
    packet.XTP_DIAG_TOO_BIG: errno.EMSGSIZE,
}


def xtp_input(ctx: xtp_context, pkt: xtp_packet, now: int) -> None:
    """Process a received packet of this context."""
    ctx.packets_in += 1
    if ctx.state == context.XTP_CLOSED:
        # The end that sent END answers late packets, but never an END or a DIAG.
        if ctx.ctimer_ns and pkt.format != packet.XTP_DIAG and not pkt.options & packet.END:
            ctx.rcv_sync = pkt.sync
            xtp_send_end(ctx)
        return
    if pkt.format == packet.XTP_DIAG:
        xtp_diagnosed(ctx, pkt, now)
        return
    if ctx.state == context.XTP_OPENING:
        ctx.state = context.XTP_ACTIVE
    ctx.ctimer_ns = now + context.XTP_CTIMER_NS
    gap = False
    if pkt.format == packet.XTP_DATA or pkt.format == packet.XTP_FIRST:
        gap = xtp_rcv_data(ctx, pkt)
    else:
        if pkt.options & packet.NOERR and pkt.seq > ctx.rcv_nxt:
            xtp_skip(ctx, pkt.seq)
        if pkt.options & packet.WCLOSE:
            xtp_fin(ctx, pkt.seq)
    if pkt.options & packet.SREQ:
        ctx.rcv_sync = pkt.sync
    if pkt.tspec is not None:
        xtp_limit_rate(ctx, pkt.tspec)
    if pkt.options & packet.RCLOSE:
        ctx.peer_rclose = True
    if pkt.echo >= 0:
        xtp_acknowledged(ctx, pkt, now)
    if ctx.peer_rclose:
        xtp_peer_reads_no_more(ctx)
    if pkt.options & packet.END:
        xtp_ended(ctx, now)
        return
    if not xtp_check_end(ctx, now):
        xtp_answer(ctx, pkt, gap, now)
        xtp_xmit(ctx, now)
        if pkt.echo >= 0:
            xtp_keep_asking(ctx, now)


def xtp_answer(ctx: xtp_context, pkt: xtp_packet, gap: bool, now: int) -> None:
    """Answer the requests of a packet, and with FASTNAK report a new gap."""
    if pkt.options & packet.DREQ:
        ctx.rcv_dreq = pkt.sync
        ctx.rcv_dreq_seq = pkt.seq + len(pkt.data)
    if pkt.options & packet.SREQ:
        xtp_send_control(ctx, now, 0, pkt.sync, pkt.format == packet.XTP_FIRST)
    elif gap and pkt.options & packet.FASTNAK:
        xtp_send_control(ctx, now, 0, ctx.rcv_sync, False)
    xtp_tell_delivery(ctx, now)


def xtp_tell_delivery(ctx: xtp_context, now: int) -> None:
    """Answer a DREQ once the application has read up to its position."""
    if ctx.rcv_dreq >= 0 and ctx.rcv_nxt - ctx.queued >= ctx.rcv_dreq_seq:
        echo = ctx.rcv_dreq
        ctx.rcv_dreq = -1
        xtp_send_control(ctx, now, 0, echo, False)


# --- received data -------------------------------------------------------------------------------


def xtp_fin(ctx: xtp_context, seq: int) -> None:
    """Note that the peer's direction ends at `seq`; the first such report counts."""
    if ctx.r_fin < 0 and seq >= ctx.rcv_nxt:
        ctx.r_fin = seq


def xtp_rcv_data(ctx: xtp_context, pkt: xtp_packet) -> bool:
    """Process the data of a DATA or FIRST; True when they show a new gap."""
    seq = pkt.seq
    data = pkt.data
    end = seq + len(data)
    if pkt.options & packet.WCLOSE:
        xtp_fin(ctx, end)
    if ctx.r_fin >= 0 and end > ctx.r_fin:
        return False
    if ctx.r_closed:
        ctx.rcv_nxt = max(ctx.rcv_nxt, end)
        return False
    if end > xtp_alloc(ctx):
        return False
    if pkt.options & packet.NOERR and seq > ctx.rcv_nxt:
        xtp_skip(ctx, seq)
    eom = bool(pkt.options & packet.EOM)
    if seq > ctx.rcv_nxt:
        if not data:
            return False
        before = xtp_spans(ctx, 1 << 20)
        xtp_keep_early(ctx, seq, data, eom, pkt.arrived_ns)
        return len(xtp_spans(ctx, 1 << 20)) > len(before)
    if end > ctx.rcv_nxt:
        xtp_deliver(ctx, data[ctx.rcv_nxt - seq :], eom, pkt.arrived_ns)
        xtp_early_in_order(ctx)
    return False


def xtp_deliver(ctx: xtp_context, data: bytes, eom: bool, arrived_ns: int) -> None:
    """Queue the next bytes of the peer's direction for the reader."""
    ctx.rcv_nxt += len(data)
    ctx.queued += len(data)
    pieces = ctx.pieces
    if pieces and not pieces[-1][1] and len(pieces[-1][0]) + len(data) <= context.XTP_PIECE_BYTES:
        data = pieces.pop()[0] + data
    pieces.append((data, eom, arrived_ns))


def xtp_skip(ctx: xtp_context, seq: int) -> None:
    """With NOERR, skip missing data before `seq`: it is not retransmitted."""
    while ctx.early and ctx.early[0][0] < seq:
        at, data, eom, arrived_ns = ctx.early.pop(0)
        if at + len(data) > ctx.rcv_nxt:
            ctx.rcv_nxt = max(ctx.rcv_nxt, at)
            xtp_deliver(ctx, data[ctx.rcv_nxt - at :], eom, arrived_ns)
    ctx.rcv_nxt = max(ctx.rcv_nxt, seq)


def xtp_keep_early(ctx: xtp_context, seq: int, data: bytes, eom: bool, arrived_ns: int) -> None:
    """Store the parts of data beyond a gap that are not stored yet."""
    early = ctx.early
    if len(early) >= context.XTP_MAX_PIECES:
        return
    end = seq + len(data)
    at = bisect_left(early, (seq, b"", False, 0))
    if at and early[at - 1][0] + len(early[at - 1][1]) > seq:
        at -= 1
    position = seq
    while position < end:
        if at < len(early) and early[at][0] <= position:
            position = max(position, early[at][0] + len(early[at][1]))
            at += 1
            continue
        limit = min(early[at][0], end) if at < len(early) else end
        part = data[position - seq : limit - seq]
        early.insert(at, (position, part, eom and limit == end, arrived_ns))
        position = limit
        at += 1


def xtp_early_in_order(ctx: xtp_context) -> None:
    """A gap was filled: deliver the data after it."""
    early = ctx.early
    taken = 0
    for seq, data, eom, arrived_ns in early:
        if seq > ctx.rcv_nxt:
            break
        taken += 1
        if seq + len(data) > ctx.rcv_nxt:
            xtp_deliver(ctx, data[ctx.rcv_nxt - seq :], eom, arrived_ns)
    if taken:
        del early[:taken]


def xtp_read(ctx: xtp_context, most: int, now: int) -> tuple[bytes, bool]:
    """Read up to `most` bytes for the application; also returns whether a message ends there."""
    taken, eom, _ = xtp_peek(ctx, most)
    left = len(taken)
    while left:
        data, end, arrived_ns = ctx.pieces.popleft()
        if len(data) > left:
            ctx.pieces.appendleft((data[left:], end, arrived_ns))
            break
        left -= len(data)
    ctx.queued -= len(taken)
    if ctx.state == context.XTP_ACTIVE:
        xtp_tell_delivery(ctx, now)
        opened = xtp_alloc(ctx) - ctx.told_alloc
        if opened >= ctx.rcvbuf >> 1 or (opened and ctx.told_alloc <= ctx.rcv_nxt):
            xtp_send_control(ctx, now, 0, ctx.rcv_sync, False)
    return taken, eom


def xtp_peek(ctx: xtp_context, most: int) -> tuple[bytes, bool, int]:
    """The result of `xtp_read`, without consuming the bytes, and their arrival time."""
    parts: list[bytes] = []
    size = 0
    arrived_ns = 0
    for data, end, when in ctx.pieces:
        if size >= most:
            break
        part = data[: most - size]
        parts.append(part)
        size += len(part)
        arrived_ns = when
        if end and len(part) == len(data):
            return b"".join(parts), True, arrived_ns
    return b"".join(parts), False, arrived_ns


# --- received answers ----------------------------------------------------------------------------


def xtp_acknowledged(ctx: xtp_context, pkt: xtp_packet, now: int) -> None:
    """Process a control segment: received, acceptable and missing data of the peer."""
    if pkt.rseq > ctx.snd_nxt:
        return  # acknowledges unsent bytes
    echo = xtp_echo(ctx, pkt.echo)
    progress = pkt.rseq > ctx.snd_una or pkt.alloc > ctx.snd_alloc
    if pkt.rseq > ctx.snd_una:
        ctx.snd_una = pkt.rseq
    while ctx.sent and ctx.sent[0].seq + len(ctx.sent[0].data) <= ctx.snd_una:
        gone = ctx.sent.popleft()
        if gone.lost:
            ctx.lost.remove(gone)
    if pkt.alloc > ctx.snd_alloc:
        ctx.snd_alloc = pkt.alloc
    if echo and echo == ctx.dreq_sync:
        ctx.delivered = ctx.dreq_seq
    answered = False
    while ctx.requests and ctx.requests[0].sync <= echo:
        request = ctx.requests.popleft()
        if request.sync == echo:
            xtp_rtt_sample(ctx, request, now)
        answered = True
        ctx.asking_ns = now
    waits = ctx.unsent or xtp_waits_for_delivery(ctx) or xtp_waits_for_rclose(ctx)
    if progress or (answered and (ctx.sent or not waits)):
        ctx.backoff = 0  # unless the peer's reader is idle: requests then become rarer
    if answered or progress:
        ctx.wtimer_ns = 0
        if ctx.requests:
            xtp_arm_wtimer(ctx, now)
    if ctx.noerr:
        return
    if answered or pkt.spans:
        xtp_find_lost(ctx, pkt, echo)


def xtp_echo(ctx: xtp_context, low: int) -> int:
    """Our sync whose low 32 bits are `low`; 0: none."""
    back = (ctx.sync - low) & 0xFFFFFFFF
    return max(ctx.sync - back, 0)


def xtp_find_lost(ctx: xtp_context, pkt: xtp_packet, echo: int) -> None:
    """Mark segments lost that the peer should have received by now.

    The answer to a request covers all that was sent before the request, unless it has as many spans
    as fit. An unrequested ECNTL (FASTNAK) covers what was sent before the last bytes that it
    reports. It does not cover retransmissions, since their send time is unknown.
    """
    spans = pkt.spans
    high = spans[-1][1] if spans else pkt.rseq
    complete = len(spans) < packet.XTP_MAX_SPANS
    at = 0
    for segment in ctx.sent:
        if segment.arrived:
            continue
        seq = segment.seq
        end = seq + len(segment.data)
        while at < len(spans) and spans[at][1] <= seq:
            at += 1
        if at < len(spans) and spans[at][0] <= seq and end <= spans[at][1]:
            segment.arrived = True
            if segment.lost:
                segment.lost = False
                ctx.lost.remove(segment)
        elif segment.lost:
            continue
        elif end <= high:
            if segment.sync <= echo or segment.sends == 1:
                xtp_mark_lost(ctx, segment)
        elif complete and segment.sync <= echo:
            xtp_mark_lost(ctx, segment)


def xtp_mark_lost(ctx: xtp_context, segment: xtp_segment) -> None:
    """Mark a segment lost; it is retransmitted before new data."""
    segment.lost = True
    ctx.lost.append(segment)


def xtp_peer_reads_no_more(ctx: xtp_context) -> None:
    """RCLOSE: if all our data are acknowledged, our direction is over; else drop the rest."""
    if ctx.w_closed and ctx.snd_una == ctx.snd_end:
        return
    ctx.unsent.clear()
    ctx.sent.clear()
    ctx.lost.clear()
    ctx.snd_una = ctx.snd_end = ctx.snd_nxt
    ctx.w_closed = True


def xtp_ended(ctx: xtp_context, now: int) -> None:
    """END: the peer has ended the context; ECONNRESET unless both directions had ended."""
    over = ctx.w_closed and ctx.w_told and ctx.snd_una == ctx.snd_end and xtp_r_done(ctx)
    xtp_end(ctx, 0 if over else errno.ECONNRESET, now, False)


def xtp_diagnosed(ctx: xtp_context, pkt: xtp_packet, now: int) -> None:
    """DIAG: the peer reports an error, which ends the context."""
    if pkt.code == packet.XTP_DIAG_INVALID and ctx.state == context.XTP_OPENING:
        return  # data overtook the FIRST, which will arrive or be repeated
    err = _DIAG_ERRNO.get(pkt.code, errno.ECONNRESET)
    if pkt.code == packet.XTP_DIAG_INVALID and xtp_w_done(ctx) and xtp_r_done(ctx):
        err = 0
    xtp_end(ctx, err, now, False)
