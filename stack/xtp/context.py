"""One association of XTP, without sockets and without IP: bytes, packets and times in and out.

A context has two directions, each with a sequence of bytes from 0. The initiator, which opens it,
chooses its key; the responder answers with the same key and RTN. Otherwise both ends are equal.

The sender requests the receiver's state: a packet with SREQ carries a new `sync`. The answer (CNTL,
or ECNTL if there are gaps) echoes it, and reports which earlier data arrived. Data
packets carry requests: one in every eighth of the window, the end of a burst, and retransmissions.
The next request makes up for a lost request or answer; WTIMER requests only when all were lost.
Times are ns. The values below are ours, not the specification's:
"""

from __future__ import annotations

from collections import deque

from stack.core.rows import row, state
from stack.core.time64 import NSEC_PER_MSEC, NSEC_PER_SEC
from stack.xtp import packet
from stack.xtp.packet import xtp_build, xtp_tspec

XTP_WTIMER_INIT_NS = NSEC_PER_SEC
"""Initial wait for an answer, before the round-trip time is known (then RFC 6298)."""
XTP_WTIMER_MIN_NS = 20 * NSEC_PER_MSEC
XTP_WTIMER_MAX_NS = 4 * NSEC_PER_SEC
"""WTIMER doubles up to this value."""
XTP_WTIMER_LINEAR = 3
"""Expiries of WTIMER in a row before it doubles: a request is too small to cause congestion."""
XTP_REQUESTS = 8
"""Maximum number of requests in flight; also the number of requests per window."""
XTP_CTIMER_NS = 60 * NSEC_PER_SEC
"""A context that receives nothing from its peer for this long requests its state."""
XTP_CTIMEOUT_NS = 60 * NSEC_PER_SEC
"""A context ends (ETIMEDOUT) if the peer answers no request for this long."""
XTP_LINGER_NS = 10 * NSEC_PER_SEC
"""How long the sender of END answers late packets of the context."""
XTP_ORPHAN_NS = 60 * NSEC_PER_SEC
"""How long a closed socket's context waits for the peer to end its own direction."""
XTP_INIT_ALLOC = 14_600
"""Bytes that may be sent before the first allocation: ten packets of Ethernet (RFC 6928)."""
XTP_MAX_PIECES = 4096
"""Maximum number of pieces of data beyond a gap."""
XTP_PIECE_COST = 64
"""Bytes that each waiting piece takes from the window, in addition to its data."""
XTP_PIECE_BYTES = 4096
"""Consecutive pieces are joined up to this size, in bytes."""

# States of a context.
XTP_INACTIVE = 0
XTP_OPENING = 1
XTP_ACTIVE = 2
XTP_CLOSED = 3


@state
class xtp_segment:
    """The data of one packet, kept until the peer acknowledges them."""

    seq: int
    data: bytes
    eom: bool = False
    sync: int = row(0)
    """Sync of the first request sent with or after it, whose answer shows whether it arrived."""
    sends: int = row(0)
    lost: bool = row(False)
    """Whether it is in the context's `lost`."""
    arrived: bool = row(False)
    """Whether a span reported it as received; earlier data is missing."""


@state
class xtp_request:
    """A SREQ that has no answer yet."""

    sync: int
    sent_ns: int
    rough: bool = False
    """Sent while the association was opened, so its time may include address resolution."""


@state
class xtp_context:
    """An association. `first`: addresses and traffic specifier of the initiator's FIRST."""

    key: int
    initiator: bool
    first: bytes = b""
    service: int = packet.XTP_SERVICE_STREAM
    state: int = row(XTP_INACTIVE)
    err: int = row(0)
    """errno, if the association ended without both ends closing it."""

    # options of the application
    noerr: bool = row(False)
    noflow: bool = row(False)
    nocheck: bool = row(False)
    fastnak: bool = row(True)
    dreq: bool = row(False)
    sort: int = row(0)
    mss: int = row(536)
    rcvbuf: int = row(65536)

    # sending
    out: list[bytes] = row(make=list)
    """Packets to send, in order; removed by the context's user."""
    unsent: deque[xtp_segment] = row(make=deque)
    sent: deque[xtp_segment] = row(make=deque)
    lost: deque[xtp_segment] = row(make=deque)
    """The segments of `sent` that are to be retransmitted."""
    snd_una: int = row(0)
    snd_nxt: int = row(0)
    snd_end: int = row(0)
    snd_alloc: int = row(XTP_INIT_ALLOC)
    w_closed: bool = row(False)
    w_told: bool = row(False)
    """Whether a packet with WCLOSE was sent."""
    peer_rclose: bool = row(False)
    delivered: int = row(0)
    """The position up to which the peer's application has read, from the last answer to a DREQ."""
    dreq_sync: int = row(0)
    dreq_seq: int = row(0)
    """The sync of the last DREQ, and its requested position."""

    # requests
    sync: int = row(0)
    requests: deque[xtp_request] = row(make=deque)
    since_request: int = row(0)
    srtt_ns: int = row(0)
    rttvar_ns: int = row(0)
    rtt_rough: bool = row(False)
    """All samples so far are inaccurate; the first other sample restarts the estimate."""
    backoff: int = row(0)
    wtimer_ns: int = row(0)
    """Deadlines; 0: not running."""
    asking_ns: int = row(0)
    """Send time of the oldest unanswered request."""
    ctimer_ns: int = row(0)
    rtimer_ns: int = row(0)
    orphan_ns: int = row(0)

    # rate, bytes per second and bytes; 0: no limit
    rate: int = row(0)
    burst: int = row(0)
    credit: int = row(0)
    refill_ns: int = row(0)
    inrate: int = row(0)
    inburst: int = row(0)
    """inrate, inburst: the limits that we advertise to the peer."""

    # receiving
    rcv_nxt: int = row(0)
    pieces: deque[tuple[bytes, bool, int]] = row(make=deque)
    """For the reader: bytes, whether a message ends with them, arrival time of the last."""
    queued: int = row(0)
    early: list[tuple[int, bytes, bool, int]] = row(make=list)
    """Beyond a gap: (seq, bytes, end of message, time of arrival), ascending, apart."""
    told_alloc: int = row(0)
    """The window's edge as the peer knows it."""
    rcv_sync: int = row(0)
    """The last sync received, echoed if no request is answered."""
    rcv_dreq: int = row(-1)
    """The sync of a DREQ that waits for the reader (-1: none), and the position to be read."""
    rcv_dreq_seq: int = row(0)
    r_fin: int = row(-1)
    """The position where the peer's direction ends; -1: not known yet."""
    r_closed: bool = row(False)
    """Whether the application has closed the peer's direction."""

    # counters for XTP_INFO
    packets_out: int = row(0)
    packets_in: int = row(0)
    retransmits: int = row(0)
    requests_out: int = row(0)


# --- questions -------------------------------------------------------------------------------


def xtp_w_done(ctx: xtp_context) -> bool:
    """Whether our direction has ended: the peer acknowledged all of it and sent RCLOSE."""
    return ctx.w_closed and ctx.w_told and ctx.peer_rclose and ctx.snd_una == ctx.snd_end


def xtp_r_done(ctx: xtp_context) -> bool:
    """Whether the peer's direction has ended, and we received all or stopped reading."""
    return ctx.r_fin >= 0 and (ctx.r_closed or ctx.rcv_nxt == ctx.r_fin)


def xtp_alloc(ctx: xtp_context) -> int:
    """The window's edge: the position up to which the peer may send. It never moves back."""
    taken = ctx.queued + XTP_PIECE_COST * len(ctx.pieces)
    return max(ctx.rcv_nxt + max(ctx.rcvbuf - taken, 0), ctx.told_alloc)


def xtp_backlog(ctx: xtp_context) -> int:
    """Bytes written that the peer has not acknowledged."""
    return ctx.snd_end - ctx.snd_una


def xtp_spans(ctx: xtp_context, most: int) -> list[tuple[int, int]]:
    """Up to `most` ranges [left, right) that arrived beyond the first gap."""
    spans: list[tuple[int, int]] = []
    for seq, data, _, _ in ctx.early:
        end = seq + len(data)
        if spans and spans[-1][1] == seq:
            spans[-1] = (spans[-1][0], end)
        elif len(spans) == most:
            break
        else:
            spans.append((seq, end))
    return spans


def xtp_deadline(ctx: xtp_context) -> int:
    """The time at which `xtp_timeout` must be called, ns; 0: never."""
    deadline = 0
    for when in (ctx.wtimer_ns, ctx.ctimer_ns, ctx.rtimer_ns, ctx.orphan_ns):
        if when and (not deadline or when < deadline):
            deadline = when
    return deadline


def xtp_rto_ns(ctx: xtp_context) -> int:
    """WTIMER's interval, ns (RFC 6298). An answer identifies its request, so Karn's rule holds."""
    if ctx.srtt_ns:
        rto = max(ctx.srtt_ns + 4 * ctx.rttvar_ns, XTP_WTIMER_MIN_NS)
    else:
        rto = XTP_WTIMER_INIT_NS
    doublings = min(max(ctx.backoff - XTP_WTIMER_LINEAR, 0), 8)
    return min(rto << doublings, XTP_WTIMER_MAX_NS)


def xtp_rtt_sample(ctx: xtp_context, request: xtp_request, now: int) -> None:
    """RFC 6298, with the time that `request` took to be answered."""
    rtt_ns = max(now - request.sent_ns, 1)
    if not ctx.srtt_ns or ctx.rtt_rough:
        ctx.srtt_ns = rtt_ns
        ctx.rttvar_ns = rtt_ns >> 1
        ctx.rtt_rough = request.rough
        return
    error = rtt_ns - ctx.srtt_ns
    ctx.rttvar_ns += (max(error, -error) - ctx.rttvar_ns) >> 2
    ctx.srtt_ns += error >> 3


def xtp_own_tspec(ctx: xtp_context) -> xtp_tspec:
    """The traffic specifier of our receive and send limits."""
    return xtp_tspec(ctx.service, 0, ctx.inrate, ctx.inburst, ctx.rate, ctx.burst)


def xtp_limit_rate(ctx: xtp_context, tspec: xtp_tspec | None) -> None:
    """Limit rate and burst to what the peer accepts."""
    if tspec is None:
        return
    if tspec.inrate and (not ctx.rate or tspec.inrate < ctx.rate):
        ctx.rate = tspec.inrate
    if tspec.inburst and (not ctx.burst or tspec.inburst < ctx.burst):
        ctx.burst = tspec.inburst


# --- one packet out, and the end ---------------------------------------------------------------


def xtp_emit(
    ctx: xtp_context, form: int, options: int, seq: int, sync: int, segment: bytes, data: bytes
) -> None:
    """Append a packet to `out`, with the options that all packets of this context have."""
    options |= (
        (packet.NOERR if ctx.noerr else 0)
        | (packet.NOFLOW if ctx.noflow else 0)
        | (packet.NOCHECK if ctx.nocheck else 0)
        | (packet.FASTNAK if ctx.fastnak else 0)
        | (packet.SORT if ctx.sort else 0)
    )
    if ctx.r_closed or xtp_r_done(ctx):
        options |= packet.RCLOSE
    key = ctx.key if ctx.initiator else ctx.key | packet.XTP_RTN
    ctx.out.append(xtp_build(key, options, form, seq, sync, ctx.sort, segment, data))
    ctx.packets_out += 1


def xtp_end(ctx: xtp_context, err: int, now: int, linger: bool) -> None:
    """End the context; with `linger` it answers late packets for XTP_LINGER_NS."""
    ctx.state = XTP_CLOSED
    if err and not ctx.err:
        ctx.err = err
    ctx.unsent.clear()
    ctx.sent.clear()
    ctx.lost.clear()
    ctx.requests.clear()
    ctx.early.clear()
    ctx.wtimer_ns = ctx.rtimer_ns = ctx.orphan_ns = 0
    ctx.ctimer_ns = now + XTP_LINGER_NS if linger else 0
