"""net/ipv4/tcp_ipv4.c: segments without a full socket: resets, ACKs of TIME_WAIT and requests."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from fastpath.csum import csum_partial, csum_tcpudp_magic
from fastpath.hdr import ip_hdr, tcp_hdr_fields
from fastpath.skbuff import sk_buff
from stack.core.uapi import IPPROTO_TCP
from stack.inet.inet_connection_sock import request_sock
from stack.inet.inet_timewait_sock import inet_timewait_sock
from stack.inet.tcp_const import MSEC
from stack.inet.tcp_sock import M32, TCPHDR_ACK, TCPHDR_RST, tcp_sock
from stack.ipv4.ip_output import ip_send_unicast_reply

if TYPE_CHECKING:
    from stack.net import Net


_TCPHDR = Struct("!HHIIBBHHH")
_TS = Struct("!BBBBII")
RTN_LOCAL = 2


def _bare_segment(
    sport: int,
    dport: int,
    seq: int,
    ack: int,
    flags: int,
    window: int,
    options: bytes,
    saddr: int,
    daddr: int,
) -> bytes:
    """A TCP header with its checksum and no payload."""
    size = 20 + len(options)
    fields = (sport, dport, seq, ack, size << 2, flags, window)
    data = _TCPHDR.pack(*fields, 0, 0) + options
    check = csum_tcpudp_magic(saddr, daddr, size, IPPROTO_TCP, csum_partial(data))
    return _TCPHDR.pack(*fields, check, 0) + options


def tcp_v4_send_reset(
    sk: tcp_sock | inet_timewait_sock | None, skb: sk_buff, reason: int = 0
) -> None:
    """RST in answer to skb (RFC 9293 3.10.7.1), never to a RST. Borrows skb; sk may be None."""
    source, dest, _, ack_seq, _, flags, _, _ = tcp_hdr_fields(skb)
    if flags & TCPHDR_RST:
        return
    dst = skb.dst
    if sk is None and dst is not None and getattr(dst, "rt_type", RTN_LOCAL) != RTN_LOCAL:
        return
    if flags & TCPHDR_ACK:
        seq, ack, rflags = ack_seq, 0, TCPHDR_RST
    else:
        seq, rflags = 0, TCPHDR_RST | TCPHDR_ACK
        ack = skb.end_seq
    net = dst.net if dst is not None and dst.net is not None else skb.dev.net
    iph = ip_hdr(skb)
    payload = _bare_segment(dest, source, seq, ack, rflags, 0, b"", iph.daddr, iph.saddr)
    ip_send_unicast_reply(
        net.tcp_ctl_sk,
        skb,
        None,
        iph.saddr,
        iph.daddr,
        payload,
        IPPROTO_TCP,
        iph.tos,
        0,
        sk.sk_bound_dev_if if sk is not None else 0,
        0,
        sk.sk_mark if sk is not None else 0,
        dest,
        source,
    )
    net.mib.tcp.OutSegs += 1
    net.mib.tcp.OutRsts += 1


def tcp_v4_send_ack(
    net: Net,
    skb: sk_buff,
    seq: int,
    ack: int,
    win: int,
    tsval: int,
    tsecr: int,
    oif: int = 0,
    tos: int = 0,
) -> None:
    """ACK from a TIME_WAIT socket or a request. Borrows skb."""
    source, dest, _, _, _, _, _, _ = tcp_hdr_fields(skb)
    iph = ip_hdr(skb)
    options = _TS.pack(1, 1, 8, 10, tsval & M32, tsecr) if tsecr else b""
    payload = _bare_segment(
        dest, source, seq, ack, TCPHDR_ACK, min(win, 65535), options, iph.daddr, iph.saddr
    )
    ip_send_unicast_reply(
        net.tcp_ctl_sk,
        skb,
        None,
        iph.saddr,
        iph.daddr,
        payload,
        IPPROTO_TCP,
        tos,
        0,
        oif,
        0,
        0,
        dest,
        source,
    )
    net.mib.tcp.OutSegs += 1


def tcp_v4_timewait_ack(tw: inet_timewait_sock, skb: sk_buff) -> None:
    net = tw.net
    tcp_v4_send_ack(
        net,
        skb,
        tw.tw_snd_nxt,
        tw.tw_rcv_nxt,
        tw.tw_rcv_wnd >> tw.tw_rcv_wscale,
        (net.now() // MSEC + tw.tw_ts_offset) & M32,
        tw.tw_ts_recent if tw.tw_ts_recent_stamp else 0,
        tw.sk_bound_dev_if,
        tw.tw_tos,
    )


def tcp_v4_reqsk_send_ack(sk: tcp_sock, skb: sk_buff, req: request_sock) -> None:
    net = sk.net
    tcp_v4_send_ack(
        net,
        skb,
        (req.snt_isn + 1) & M32,
        req.rcv_nxt,
        req.rsk_rcv_wnd >> req.rcv_wscale,
        (net.now() // MSEC + req.ts_off) & M32,
        req.ts_recent if req.tstamp_ok else 0,
        0,
        ip_hdr(skb).tos,
    )
