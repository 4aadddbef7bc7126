"""net/ipv4/tcp_ipv4.c, net/ipv6/tcp_ipv6.c: segments sent without a full socket.

Resets, and the ACKs of TIME_WAIT and of requests. The family's `send_response` sends one.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any

from fastpath.base.csum import csum_partial
from fastpath.base.skbuff import sk_buff
from fastpath.net.hdr import tcp_hdr_fields
from fastpath.net.inetkey import inet_key
from stack.core.inet_ecn import INET_ECN_MASK
from stack.core.l3mdev import inet_sdif
from stack.core.rows import state
from stack.core.time64 import NSEC_PER_MSEC
from stack.core.uapi import AF_INET, IPPROTO_TCP, TCP_HLEN
from stack.inet.inet_connection_sock import request_sock
from stack.inet.inet_hashtables import __inet_lookup_listener
from stack.inet.inet_timewait_sock import inet_timewait_sock
from stack.inet.tcp_family import tcp_family_ops
from stack.inet.tcp_md5 import tcp_md5_lookup_skb, tcp_md5_option, tcp_md5_verify, tcp_md5sig_key
from stack.inet.tcp_options import tcp_parse_auth_options
from stack.inet.tcp_sock import M32, TCPHDR_ACK, TCPHDR_RST, tcp_sock
from stack.net import Net

_TCPHDR = Struct("!HHIIBBHHH")
_TS = Struct("!BBBBII")


@state
class tcp_answer:
    """A segment without data that answers another segment."""

    seq: int
    ack: int
    flags: int
    window: int = 0
    """The header's value, not yet limited to 16 bits."""
    options: bytes = b""
    oif: int = 0
    """The output interface, 0: any."""
    tclass: int = 0
    """TOS or traffic class."""
    label: int = 0
    """Flow label (IPv6)."""
    mark: int = 0
    md5: tcp_md5sig_key | None = None
    """The key that signs it."""


def tcp_answer_bytes(
    skb: sk_buff, answer: tcp_answer, magic: Callable[[Any, Any, int, int, int], int]
) -> bytes:
    """The segment for skb's sender; `magic` is the family's checksum of a segment."""
    _, saddr, sport, daddr, dport = inet_key(skb)
    options = answer.options
    window = min(answer.window, 0xFFFF)
    ports = dport, sport, answer.seq, answer.ack
    if answer.md5 is not None:
        fields = (*ports, answer.flags, window, 0)
        options += tcp_md5_option(answer.md5, daddr, saddr, fields, len(options), b"")
    size = TCP_HLEN + len(options)
    head = _TCPHDR.pack(*ports, size << 2, answer.flags, window, 0, 0) + options
    check = magic(daddr, saddr, size, IPPROTO_TCP, csum_partial(head))
    return _TCPHDR.pack(*ports, size << 2, answer.flags, window, check, 0) + options


def tcp_respond(net: Net, skb: sk_buff, answer: tcp_answer, ops: tcp_family_ops) -> None:
    """Answer skb's sender, and count it. Borrows skb."""
    if ops.send_response(net, skb, answer):
        net.mib.tcp.OutSegs += 1
        net.mib.tcp.OutRsts += answer.flags & TCPHDR_RST != 0


def tcp_reply_reset(
    sk: tcp_sock | inet_timewait_sock | None, skb: sk_buff, ops: tcp_family_ops, label: int = 0
) -> None:
    """RST in answer to skb (RFC 9293 3.10.7.1), never to a RST. Borrows skb; sk may be None.

    `label`: its flow label (IPv6). No RST answers a signed segment that none of our
    keys has signed.
    """
    _, _, _, ack_seq, _, flags, _, _ = tcp_hdr_fields(skb)
    if flags & TCPHDR_RST:
        return
    at = tcp_parse_auth_options(skb, skb.l4_hlen)
    if at < 0:
        return
    key = None
    if isinstance(sk, tcp_sock):
        key = tcp_md5_lookup_skb(sk, skb, ops.family)
    elif at:
        key = tcp_md5_of_listener(skb, ops.family)
        if key is None or not tcp_md5_verify(key, skb, at):
            return
    answer = tcp_answer(
        0, skb.end_seq, TCPHDR_RST | TCPHDR_ACK, tclass=skb.ip_dsfield & ~INET_ECN_MASK, md5=key
    )
    answer.label = label
    if flags & TCPHDR_ACK:
        answer.seq, answer.ack, answer.flags = ack_seq, 0, TCPHDR_RST
    if sk is not None:
        answer.oif, answer.mark = sk.sk_bound_dev_if, sk.sk_mark
    tcp_respond(skb.dev.net, skb, answer, ops)


def tcp_md5_of_listener(skb: sk_buff, family: int) -> tcp_md5sig_key | None:
    """tcp_v4_send_reset: the key of the listener on the segment's source port.

    For BGP, that is the active peer of a connection whose state is lost here.
    """
    net = skb.dev.net
    _, saddr, sport, daddr, _ = inet_key(skb)
    key = family, saddr, sport, daddr, sport
    sk = __inet_lookup_listener(net.tcp_hashinfo, None, key, skb.skb_iif, inet_sdif(skb))
    return tcp_md5_lookup_skb(sk, skb, family) if sk is not None else None


def _timestamps(net: Net, offset: int, tsecr: int) -> bytes:
    """The current timestamp option, or nothing if there is nothing to echo."""
    return _TS.pack(1, 1, 8, 10, net.now() // NSEC_PER_MSEC + offset & M32, tsecr) if tsecr else b""


def tcp_timewait_ack(tw: inet_timewait_sock, skb: sk_buff, ops: tcp_family_ops, oow: bool) -> None:
    """ACK of a socket in TIME_WAIT; oow: for a segment outside its window. Borrows skb."""
    options = _timestamps(tw.net, tw.tw_ts_offset, tw.tw_ts_recent if tw.tw_ts_recent_stamp else 0)
    answer = tcp_answer(
        tw.tw_snd_nxt,
        tw.tw_rcv_nxt,
        TCPHDR_ACK,
        tw.tw_rcv_wnd >> tw.tw_rcv_wscale,
        options,
        oif=tw.sk_bound_dev_if,
        md5=tw.tw_md5_key,
        tclass=tw.tw_tos & ~INET_ECN_MASK if oow else tw.tw_tos,
        label=tw.tw_flowlabel,
    )
    tcp_respond(tw.net, skb, answer, ops)


def tcp_reqsk_ack(sk: tcp_sock, skb: sk_buff, req: request_sock) -> None:
    """ACK of a request of listener sk, or of Fast Open child sk. Borrows skb."""
    answer = tcp_answer(
        sk.snd_nxt if req.tfo_listener else req.snt_isn + 1 & M32,
        req.rcv_nxt,
        TCPHDR_ACK,
        req.rsk_rcv_wnd >> req.rcv_wscale,
        _timestamps(sk.net, req.ts_off, req.ts_recent if req.tstamp_ok else 0),
        oif=0 if req.sk_family == AF_INET else req.ir_iif,
        md5=tcp_md5_lookup_skb(sk, skb, req.rsk_ops.family),
        tclass=skb.ip_dsfield & ~INET_ECN_MASK,
    )
    tcp_respond(sk.net, skb, answer, req.rsk_ops)
