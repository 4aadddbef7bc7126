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
    tcp_answer,
    tcp_answer_bytes,
    tcp_reply_reset,
    tcp_reqsk_ack,
    tcp_timewait_ack,
)
from stack.inet.tcp_sock import tcp_sock
from stack.ipv4.ip_output import ip_send_unicast_reply

if TYPE_CHECKING:
    from stack.net import Net

RTN_LOCAL = 2


def tcp_v4_send_response(net: Net, skb: sk_buff, answer: tcp_answer) -> bool:
    """tcp_reply.Respond"""
    _, saddr, sport, daddr, dport = inet_key(skb)
    ip_send_unicast_reply(
        net.tcp_ctl_sk,
        skb,
        None,
        saddr,
        daddr,
        tcp_answer_bytes(skb, answer, csum_tcpudp_magic),
        IPPROTO_TCP,
        answer.tclass,
        oif=answer.oif,
        mark=answer.mark,
        sport=dport,
        dport=sport,
    )
    return True


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
