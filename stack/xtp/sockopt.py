"""Socket options of XTP: service, and control of errors, flow and rate.

Level SOL_XTP (the protocol's number, as SOL_TCP). An association copies the options when it begins;
priority, rate and burst can also be changed later.
"""

from __future__ import annotations

import errno
import struct
from typing import Any

from stack.core.errors import os_error
from stack.core.sockopt_table import M32, Level, SockOpt, number, opt_int, switch
from stack.core.tcp_states import TCP_CLOSE, TCP_LISTEN
from stack.core.uapi import SOCK_DGRAM
from stack.xtp import packet
from stack.xtp.context import xtp_backlog, xtp_context
from stack.xtp.xtp_sock import xtp_sock

SOL_XTP = 36
XTP_SERVICE = 1
XTP_NOERR = 2
XTP_NOFLOW = 3
XTP_NOCHECK = 4
XTP_FASTNAK = 5
XTP_DREQ = 6
XTP_RATE = 7
XTP_BURST = 8
XTP_INRATE = 9
XTP_INBURST = 10
XTP_SORT = 11
XTP_INFO = 20
XTP_INFO_FORMAT = "=16Q"

SERVICES = {
    True: (packet.XTP_SERVICE_DATAGRAM, packet.XTP_SERVICE_ACKED_DATAGRAM),
    False: (packet.XTP_SERVICE_TRANSACTION, packet.XTP_SERVICE_STREAM),
}
"""The services of SOCK_DGRAM (True) and of SOCK_STREAM."""


def xtp_u32(optval: Any) -> int:
    """The value of an unsigned option; a negative value is converted from 32 bits."""
    value = opt_int(optval)
    return value & M32 if value < 0 else value


def before_connect(sk: xtp_sock) -> None:
    """Raises: OSError EISCONN."""
    if sk.sk_state not in (TCP_CLOSE, TCP_LISTEN) and sk.sk_type != SOCK_DGRAM:
        raise os_error(errno.EISCONN, "the association has its options; set them before connect")


def need_service(sk: xtp_sock, value: int) -> None:
    """XTP_SERVICE: a service of the socket type. Raises: OSError EINVAL."""
    if value not in SERVICES[sk.sk_type == SOCK_DGRAM]:
        raise os_error(errno.EINVAL, f"service {value} is not for this type of socket")


def xtp_rate_changed(sk: xtp_sock) -> None:
    """XTP_RATE, XTP_BURST: apply them to the association."""
    if sk.assoc is not None:
        sk.assoc.ctx.rate, sk.assoc.ctx.burst = sk.rate, sk.burst


def xtp_sort_changed(sk: xtp_sock) -> None:
    """XTP_SORT: apply it to the association."""
    if sk.assoc is not None:
        sk.assoc.ctx.sort = sk.sort


def xtp_get_info(sk: xtp_sock) -> bytes:
    """XTP_INFO. Raises: OSError ENOTCONN."""
    if sk.assoc is None:
        raise os_error(errno.ENOTCONN, "there is no association to tell of")
    return struct.pack(XTP_INFO_FORMAT, *xtp_info(sk.assoc.ctx).values())


U32 = range(1 << 32)
# fmt: off
XTP_LEVEL = Level("SOL_XTP", SOL_XTP, globals(), (
    number("XTP_BURST", "burst", U32, "bytes that may leave at once under XTP_RATE",
        takes=xtp_u32, then=xtp_rate_changed),
    switch("XTP_DREQ", "dreq",
        "request a report when the peer's application has the data; acknowledged datagrams wait",
        may_set=before_connect),
    switch("XTP_FASTNAK", "fastnak", "the default: ask the peer to report a gap at once",
        may_set=before_connect),
    number("XTP_INBURST", "inburst", U32, "the burst that the peer is told", takes=xtp_u32),
    SockOpt("XTP_INFO", "struct.unpack(XTP_INFO_FORMAT, ...): see `xtp_info`", get=xtp_get_info),
    number("XTP_INRATE", "inrate", U32, "the rate that the peer is told", takes=xtp_u32),
    switch("XTP_NOCHECK", "nocheck", "the checksum covers the header alone",
        may_set=before_connect),
    switch("XTP_NOERR", "noerr", "do not retransmit", may_set=before_connect),
    switch("XTP_NOFLOW", "noflow", "send without regard to the receiver's allocation",
        may_set=before_connect),
    number("XTP_RATE", "rate", U32, "bytes per second that we send at most; 0: any",
        takes=xtp_u32, then=xtp_rate_changed),
    number("XTP_SERVICE", "service", None,
        "SOCK_DGRAM: 1 (unacknowledged, the default) or 2; SOCK_STREAM: 3 (transaction) or 4",
        may_set=before_connect, check=need_service),
    number("XTP_SORT", "sort", range(1 << 16), "priority in the header",
        takes=xtp_u32, then=xtp_sort_changed),
))
# fmt: on


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
