"""net/ipv6/tcp_ipv6.c: segments without a full socket (stack/inet/tcp_reply.py) over IPv6."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath.csum import csum_ipv6_magic
from fastpath.hdr import ipv6_hdr
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
from stack.inet.tcp_reply import (
    tcp_answer,
    tcp_answer_bytes,
    tcp_reply_reset,
    tcp_reqsk_ack,
    tcp_timewait_ack,
)
from stack.inet.tcp_sock import MAX_TCP_HEADER, tcp_sock
from stack.ipv6.addr import ipv6_addr_is_linklocal, ipv6_addr_is_multicast
from stack.ipv6.ip6_output import ip6_xmit
from stack.ipv6.route import ip6_dst_lookup_flow

if TYPE_CHECKING:
    from stack.net import Net


def tcp_v6_send_response(net: Net, skb: sk_buff, answer: tcp_answer) -> bool:
    """tcp_reply.Respond"""
    _, saddr, sport, daddr, dport = inet_key(skb)
    ctl_sk = net.ipv6.tcp_sk
    # A link-local peer is on the segment's input interface.
    oif = answer.oif or (skb.skb_iif if ipv6_addr_is_linklocal(saddr) else 0)
    fl6 = flowi(AF_INET6, saddr, daddr, oif)
    fl6.flowi_proto = IPPROTO_TCP
    fl6.flowi_mark = answer.mark
    fl6.flowlabel = answer.label
    fl6.fl_sport, fl6.fl_dport = dport, sport
    try:
        dst = ip6_dst_lookup_flow(net, ctl_sk, fl6)
    except OSError:
        return False
    segment = tcp_answer_bytes(skb, answer, csum_ipv6_magic)
    buff = alloc_skb(net.skb_small, len(segment), MAX_TCP_HEADER)
    if buff is None:
        return False
    skb_put_data(buff, segment)
    skb_set_transport_header(buff, 0)
    buff.ip_summed = CHECKSUM_NONE
    buff.dst = dst
    ip6_xmit(ctl_sk, buff, fl6, answer.mark, None, answer.tclass & ~3, 0)
    return True


def tcp_v6_send_reset(
    sk: tcp_sock | inet_timewait_sock | None, skb: sk_buff, reason: int = 0
) -> None:
    """Send a RST in answer to skb, unless it came to an address that is not ours alone."""
    if sk is not None or ipv6_unicast_destination(skb):
        tcp_reply_reset(sk, skb, tcp_v6_send_response)


def tcp_v6_timewait_ack(tw: inet_timewait_sock, skb: sk_buff) -> None:
    """Send the ACK of a socket in TIME_WAIT."""
    tcp_timewait_ack(tw, skb, tcp_v6_send_response)


def tcp_v6_reqsk_send_ack(sk: tcp_sock, skb: sk_buff, req: request_sock) -> None:
    """Send the ACK of a request of listener sk."""
    tcp_reqsk_ack(sk, skb, req, req.ir_iif, tcp_v6_send_response)


def ipv6_unicast_destination(skb: sk_buff) -> bool:
    """include/net/ip6_route.h: whether skb's destination is a unicast address of ours."""
    return skb.pkt_type == 0 and not ipv6_addr_is_multicast(ipv6_hdr(skb).daddr)
