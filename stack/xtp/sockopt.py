"""Socket options of XTP: which service, which control of errors, flow and rate.

Level SOL_XTP (the protocol's number, as SOL_TCP). An association copies the options when it begins;
priority, rate and burst can also be changed later.
"""

from __future__ import annotations

import errno
import struct
from typing import Any

from stack.core.errors import os_error
from stack.core.sockopt import opt_int
from stack.core.tcp_states import TCP_CLOSE, TCP_LISTEN
from stack.core.uapi import SOCK_DGRAM
from stack.xtp.context import xtp_backlog, xtp_context
from stack.xtp.packet import (
    XTP_SERVICE_ACKED_DATAGRAM,
    XTP_SERVICE_DATAGRAM,
    XTP_SERVICE_STREAM,
    XTP_SERVICE_TRANSACTION,
)
from stack.xtp.xtp_sock import xtp_sock

SOL_XTP = 36
XTP_SERVICE = 1
"""SOCK_DGRAM: 1 (unacknowledged, the default) or 2; SOCK_STREAM: 3 (transaction) or 4 (default)."""
XTP_NOERR = 2
"""1: do not retransmit."""
XTP_NOFLOW = 3
"""1: send without regard to the receiver's allocation."""
XTP_NOCHECK = 4
"""1: the checksum covers the header alone."""
XTP_FASTNAK = 5
"""1 (the default): ask the peer to report a gap at once."""
XTP_DREQ = 6
"""1: request a report when the peer's application has the data; acknowledged datagrams wait."""
XTP_RATE = 7
"""Bytes per second that we send at most; 0: any."""
XTP_BURST = 8
"""Bytes that may leave at once under XTP_RATE."""
XTP_INRATE = 9
XTP_INBURST = 10
"""XTP_INRATE, XTP_INBURST: the limits that the peer is told."""
XTP_SORT = 11
"""Priority 0...65535 in the header."""
XTP_INFO = 20
"""struct.unpack(XTP_INFO_FORMAT, ...): see `xtp_info`; read only."""
XTP_INFO_FORMAT = "=16Q"

_DGRAM_SERVICES = (XTP_SERVICE_DATAGRAM, XTP_SERVICE_ACKED_DATAGRAM)
_STREAM_SERVICES = (XTP_SERVICE_TRANSACTION, XTP_SERVICE_STREAM)
_U32 = (1 << 32) - 1


def xtp_set(sk: xtp_sock, optname: int, optval: Any) -> None:
    """Set an option of level SOL_XTP. Raises: OSError ENOPROTOOPT, EINVAL, EISCONN."""
    value = opt_int(optval)
    ctx = sk.assoc.ctx if sk.assoc is not None else None
    if optname in (XTP_RATE, XTP_BURST):
        value = _in_range(value, 0, _U32)
        if optname == XTP_RATE:
            sk.rate = value
        else:
            sk.burst = value
        if ctx is not None:
            ctx.rate, ctx.burst = sk.rate, sk.burst
    elif optname == XTP_SORT:
        sk.sort = _in_range(value, 0, 0xFFFF)
        if ctx is not None:
            ctx.sort = sk.sort
    elif optname == XTP_INRATE:
        sk.inrate = _in_range(value, 0, _U32)
    elif optname == XTP_INBURST:
        sk.inburst = _in_range(value, 0, _U32)
    elif sk.sk_state not in (TCP_CLOSE, TCP_LISTEN) and sk.sk_type != SOCK_DGRAM:
        raise os_error(errno.EISCONN, "the association has its options; set them before connect")
    elif optname == XTP_SERVICE:
        if value not in (_DGRAM_SERVICES if sk.sk_type == SOCK_DGRAM else _STREAM_SERVICES):
            raise os_error(errno.EINVAL, f"service {value} is not for this type of socket")
        sk.service = value
    elif optname == XTP_NOERR:
        sk.noerr = bool(value)
    elif optname == XTP_NOFLOW:
        sk.noflow = bool(value)
    elif optname == XTP_NOCHECK:
        sk.nocheck = bool(value)
    elif optname == XTP_FASTNAK:
        sk.fastnak = bool(value)
    elif optname == XTP_DREQ:
        sk.dreq = bool(value)
    else:
        raise os_error(errno.ENOPROTOOPT, f"SOL_XTP has no option {optname} to set")


def _in_range(value: int, low: int, high: int) -> int:
    """`value`, unsigned if it came as a negative 32-bit number. Raises: OSError EINVAL."""
    if value < 0:
        value &= _U32
    if not low <= value <= high:
        raise os_error(errno.EINVAL, f"{value} is not in {low}...{high}")
    return value


def xtp_get(sk: xtp_sock, optname: int) -> Any:
    """Get an option of level SOL_XTP. Raises: OSError ENOPROTOOPT, ENOTCONN."""
    if optname == XTP_SERVICE:
        return sk.service
    if optname == XTP_NOERR:
        return int(sk.noerr)
    if optname == XTP_NOFLOW:
        return int(sk.noflow)
    if optname == XTP_NOCHECK:
        return int(sk.nocheck)
    if optname == XTP_FASTNAK:
        return int(sk.fastnak)
    if optname == XTP_DREQ:
        return int(sk.dreq)
    if optname == XTP_RATE:
        return sk.rate
    if optname == XTP_BURST:
        return sk.burst
    if optname == XTP_INRATE:
        return sk.inrate
    if optname == XTP_INBURST:
        return sk.inburst
    if optname == XTP_SORT:
        return sk.sort
    if optname == XTP_INFO:
        if sk.assoc is None:
            raise os_error(errno.ENOTCONN, "there is no association to tell of")
        return struct.pack(XTP_INFO_FORMAT, *xtp_info(sk.assoc.ctx).values())
    raise os_error(errno.ENOPROTOOPT, f"SOL_XTP has no option {optname}")


def xtp_info(ctx: xtp_context) -> dict[str, int]:
    """The fields of XTP_INFO in order: state, service, microseconds, bytes, packets."""
    return {
        "state": ctx.state,
        "service": ctx.service,
        "rtt_us": ctx.srtt_ns // 1000,
        "rttvar_us": ctx.rttvar_ns // 1000,
        "mss": ctx.mss,
        "acked": ctx.snd_una,
        "backlog": xtp_backlog(ctx),
        "alloc": ctx.snd_alloc,
        "delivered": ctx.delivered,
        "received": ctx.rcv_nxt,
        "unread": ctx.queued,
        "packets_out": ctx.packets_out,
        "packets_in": ctx.packets_in,
        "retransmits": ctx.retransmits,
        "requests": ctx.requests_out,
        "rate": ctx.rate,
    }
