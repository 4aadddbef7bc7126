"""net/ipv4/tcp_ipv4.c: segments without a full socket (stack/inet/tcp_reply.py) over IPv4."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath.csum import csum_tcpudp_magic
from fastpath.inetkey import inet_key
from fastpath.skbuff import sk_buff
from stack.core.uapi import IPPROTO_TCP
from stack.inet.inet_connection_sock import request_sock
from stack.inet.inet_timewait_sock import inet_timewait_sock
from stack.inet.tcp_reply import (
    tcp_bare_segment,
    tcp_reply_reset,
    tcp_reqsk_ack,
    tcp_timewait_ack,
)
from stack.inet.tcp_sock import TCPHDR_RST, tcp_sock
from stack.ipv4.ip_output import ip_send_unicast_reply

if TYPE_CHECKING:
    from stack.net import Net

RTN_LOCAL = 2


def tcp_v4_send_response(
    net: Net,
    skb: sk_buff,
    seq: int,
    ack: int,
    flags: int,
    window: int,
    options: bytes,
    oif: int,
    tos: int,
    label: int,
    mark: int,
) -> None:
    """Send a segment without data to skb's sender, if there is a route. Borrows skb."""
    _, saddr, sport, daddr, dport = inet_key(skb)
    segment = tcp_bare_segment(skb, seq, ack, flags, window, options, csum_tcpudp_magic)
    ip_send_unicast_reply(
        net.tcp_ctl_sk,
        skb,
        None,
        saddr,
        daddr,
        segment,
        IPPROTO_TCP,
        tos,
        oif=oif,
        mark=mark,
        sport=dport,
        dport=sport,
    )
    net.mib.tcp.OutSegs += 1
    if flags & TCPHDR_RST:
        net.mib.tcp.OutRsts += 1


def tcp_v4_send_reset(
    sk: tcp_sock | inet_timewait_sock | None, skb: sk_buff, reason: int = 0
) -> None:
    """Send a RST in answer to skb, unless it came to an address that is not ours alone."""
    dst = skb.dst
    if sk is None and dst is not None and getattr(dst, "rt_type", RTN_LOCAL) != RTN_LOCAL:
        return
    tcp_reply_reset(sk, skb, tcp_v4_send_response)


def tcp_v4_timewait_ack(tw: inet_timewait_sock, skb: sk_buff) -> None:
    """Send the ACK of a socket in TIME_WAIT."""
    tcp_timewait_ack(tw, skb, tcp_v4_send_response)


def tcp_v4_reqsk_send_ack(sk: tcp_sock, skb: sk_buff, req: request_sock) -> None:
    """Send the ACK of a request of listener sk."""
    tcp_reqsk_ack(sk, skb, req, 0, tcp_v4_send_response)
