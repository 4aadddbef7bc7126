"""net/ipv4/tcp_ipv4.c, net/ipv6/tcp_ipv6.c: segments that are sent without a full socket.

Resets, and the ACKs of TIME_WAIT and of requests. `Respond` is the function of the family that
sends one.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING, Any

from fastpath.csum import csum_partial
from fastpath.hdr import tcp_hdr_fields
from fastpath.inetkey import inet_key
from fastpath.skbuff import sk_buff
from stack.core.uapi import IPPROTO_TCP
from stack.inet.inet_connection_sock import request_sock
from stack.inet.inet_timewait_sock import inet_timewait_sock
from stack.inet.tcp_const import MSEC
from stack.inet.tcp_sock import M32, TCPHDR_ACK, TCPHDR_RST, tcp_sock

if TYPE_CHECKING:
    from stack.net import Net

_TCPHDR = Struct("!HHIIBBHHH")
_TS = Struct("!BBBBII")
TCP_HLEN = 20

Respond = Callable[["Net", sk_buff, int, int, int, int, bytes, int, int, int, int], None]
"""(net, skb, seq, ack, flags, window, options, oif, tclass, label, mark): answer skb's sender."""


def tcp_bare_segment(
    skb: sk_buff,
    seq: int,
    ack: int,
    flags: int,
    window: int,
    options: bytes,
    magic: Callable[[Any, Any, int, int, int], int],
) -> bytes:
    """A segment without data for skb's sender; `magic` is the family's checksum of a segment."""
    _, saddr, sport, daddr, dport = inet_key(skb)
    size = TCP_HLEN + len(options)
    fields = (dport, sport, seq, ack, size << 2, flags, min(window, 0xFFFF))
    head = _TCPHDR.pack(*fields, 0, 0) + options
    check = magic(daddr, saddr, size, IPPROTO_TCP, csum_partial(head))
    return _TCPHDR.pack(*fields, check, 0) + options


def tcp_reply_reset(
    sk: tcp_sock | inet_timewait_sock | None, skb: sk_buff, respond: Respond
) -> None:
    """RST in answer to skb (RFC 9293 3.10.7.1), never to a RST. Borrows skb; sk may be None."""
    _, _, _, ack_seq, _, flags, _, _ = tcp_hdr_fields(skb)
    if flags & TCPHDR_RST:
        return
    if flags & TCPHDR_ACK:
        seq, ack, rflags = ack_seq, 0, TCPHDR_RST
    else:
        seq, ack, rflags = 0, skb.end_seq, TCPHDR_RST | TCPHDR_ACK
    oif, mark = (sk.sk_bound_dev_if, sk.sk_mark) if sk is not None else (0, 0)
    respond(skb.dev.net, skb, seq, ack, rflags, 0, b"", oif, skb.ip_dsfield, 0, mark)


def _timestamps(net: Net, offset: int, tsecr: int) -> bytes:
    """The timestamp option of now, or nothing when there is nothing to echo."""
    return _TS.pack(1, 1, 8, 10, net.now() // MSEC + offset & M32, tsecr) if tsecr else b""


def tcp_timewait_ack(tw: inet_timewait_sock, skb: sk_buff, respond: Respond) -> None:
    """ACK of a socket in TIME_WAIT. Borrows skb."""
    options = _timestamps(tw.net, tw.tw_ts_offset, tw.tw_ts_recent if tw.tw_ts_recent_stamp else 0)
    window = tw.tw_rcv_wnd >> tw.tw_rcv_wscale
    respond(
        tw.net,
        skb,
        tw.tw_snd_nxt,
        tw.tw_rcv_nxt,
        TCPHDR_ACK,
        window,
        options,
        tw.sk_bound_dev_if,
        tw.tw_tos,
        tw.tw_flowlabel,
        0,
    )


def tcp_reqsk_ack(
    sk: tcp_sock, skb: sk_buff, req: request_sock, oif: int, respond: Respond
) -> None:
    """ACK of a request of listener sk. Borrows skb."""
    options = _timestamps(sk.net, req.ts_off, req.ts_recent if req.tstamp_ok else 0)
    window = req.rsk_rcv_wnd >> req.rcv_wscale
    respond(
        sk.net,
        skb,
        req.snt_isn + 1 & M32,
        req.rcv_nxt,
        TCPHDR_ACK,
        window,
        options,
        oif,
        skb.ip_dsfield,
        0,
        0,
    )
