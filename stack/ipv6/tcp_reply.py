"""net/ipv6/tcp_ipv6.c: segments without a full socket: resets, ACKs of TIME_WAIT and requests."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from fastpath.csum import csum_ipv6_magic, csum_partial
from fastpath.hdr import ipv6_hdr, tcp_hdr_fields
from fastpath.inetkey import inet_key
from fastpath.skbuff import (
    CHECKSUM_NONE,
    alloc_skb,
    sk_buff,
    skb_put_data,
    skb_set_transport_header,
)
from stack.core.uapi import AF_INET6, IPPROTO_TCP
from stack.inet.flow import flowi
from stack.inet.inet_connection_sock import request_sock
from stack.inet.inet_timewait_sock import inet_timewait_sock
from stack.inet.tcp_const import MSEC
from stack.inet.tcp_sock import M32, MAX_TCP_HEADER, TCPHDR_ACK, TCPHDR_RST, tcp_sock
from stack.ipv6.addr import ipv6_addr_is_linklocal, ipv6_addr_is_multicast
from stack.ipv6.ip6_output import ip6_xmit
from stack.ipv6.route import ip6_dst_lookup_flow

if TYPE_CHECKING:
    from stack.net import Net


_TCPHDR = Struct("!HHIIBBHHH")
_TS = Struct("!BBBBII")
TCP_HLEN = 20


def tcp_v6_send_response(
    net: Net,
    skb: sk_buff,
    seq: int,
    ack: int,
    flags: int,
    win: int = 0,
    options: bytes = b"",
    oif: int = 0,
    tclass: int = 0,
    label: int = 0,
    mark: int = 0,
) -> None:
    """Send a segment without data to skb's sender, if there is a route. Borrows skb."""
    _, saddr, sport, daddr, dport = inet_key(skb)
    size = TCP_HLEN + len(options)
    fields = (dport, sport, seq, ack, size << 2, flags, min(win, 65535))
    head = _TCPHDR.pack(*fields, 0, 0) + options
    check = csum_ipv6_magic(daddr, saddr, size, IPPROTO_TCP, csum_partial(head))
    ctl_sk = net.ipv6.tcp_sk
    # A link-local peer is on the segment's input interface.
    fl6 = flowi(
        AF_INET6, saddr, daddr, oif or (skb.skb_iif if ipv6_addr_is_linklocal(saddr) else 0)
    )
    fl6.flowi_proto = IPPROTO_TCP
    fl6.flowi_mark = mark
    fl6.flowlabel = label
    fl6.fl_sport, fl6.fl_dport = dport, sport
    try:
        dst = ip6_dst_lookup_flow(net, ctl_sk, fl6)
    except OSError:
        return
    buff = alloc_skb(net.skb_small, size, MAX_TCP_HEADER)
    if buff is None:
        return
    skb_put_data(buff, _TCPHDR.pack(*fields, check, 0) + options)
    skb_set_transport_header(buff, 0)
    buff.ip_summed = CHECKSUM_NONE
    buff.dst = dst
    ip6_xmit(ctl_sk, buff, fl6, mark, None, tclass & ~3, 0)
    net.mib.tcp.OutSegs += 1
    if flags & TCPHDR_RST:
        net.mib.tcp.OutRsts += 1


def tcp_v6_send_reset(
    sk: tcp_sock | inet_timewait_sock | None, skb: sk_buff, reason: int = 0
) -> None:
    """RST in answer to skb (RFC 9293 3.10.7.1), never to a RST. Borrows skb."""
    _, _, _, ack_seq, _, flags, _, _ = tcp_hdr_fields(skb)
    if flags & TCPHDR_RST:
        return
    if sk is None and not ipv6_unicast_destination(skb):
        return
    if flags & TCPHDR_ACK:
        seq, ack, rflags = ack_seq, 0, TCPHDR_RST
    else:
        seq, ack, rflags = 0, skb.end_seq, TCPHDR_RST | TCPHDR_ACK
    oif, mark = (sk.sk_bound_dev_if, sk.sk_mark) if sk is not None else (0, 0)
    tcp_v6_send_response(
        skb.dev.net, skb, seq, ack, rflags, oif=oif, mark=mark, tclass=skb.ip_dsfield
    )


def tcp_v6_send_ack(
    net: Net,
    skb: sk_buff,
    seq: int,
    ack: int,
    win: int,
    tsval: int,
    tsecr: int,
    oif: int = 0,
    tclass: int = 0,
    label: int = 0,
) -> None:
    """ACK from a TIME_WAIT socket or a request. Borrows skb."""
    options = _TS.pack(1, 1, 8, 10, tsval & M32, tsecr) if tsecr else b""
    tcp_v6_send_response(
        net, skb, seq, ack, TCPHDR_ACK, win, options, oif, tclass=tclass, label=label
    )


def tcp_v6_timewait_ack(tw: inet_timewait_sock, skb: sk_buff) -> None:
    net = tw.net
    tcp_v6_send_ack(
        net,
        skb,
        tw.tw_snd_nxt,
        tw.tw_rcv_nxt,
        tw.tw_rcv_wnd >> tw.tw_rcv_wscale,
        net.now() // MSEC + tw.tw_ts_offset,
        tw.tw_ts_recent if tw.tw_ts_recent_stamp else 0,
        tw.sk_bound_dev_if,
        tw.tw_tos,
        tw.tw_flowlabel,
    )


def tcp_v6_reqsk_send_ack(sk: tcp_sock, skb: sk_buff, req: request_sock) -> None:
    net = sk.net
    tcp_v6_send_ack(
        net,
        skb,
        (req.snt_isn + 1) & M32,
        req.rcv_nxt,
        req.rsk_rcv_wnd >> req.rcv_wscale,
        net.now() // MSEC + req.ts_off,
        req.ts_recent if req.tstamp_ok else 0,
        req.ir_iif,
        skb.ip_dsfield,
    )


def ipv6_unicast_destination(skb: sk_buff) -> bool:
    """include/net/ip6_route.h: whether skb's destination is a unicast address of ours."""
    return skb.pkt_type == 0 and not ipv6_addr_is_multicast(ipv6_hdr(skb).daddr)
