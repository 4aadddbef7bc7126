"""IPv4's table of family operations."""

from __future__ import annotations

import errno

from fastpath.base.skbuff import sk_buff
from fastpath.net.hdr import icmp_hdr
from stack.core.uapi import AF_INET, IP_PMTUDISC_DONT, SOCK_RAW
from stack.inet.af_ops import inet_af_ops
from stack.inet.inet_sock import inet_sock
from stack.inet.inet_timewait_sock import inet_timewait_sock
from stack.ipv4 import icmp_codes
from stack.ipv4.addr import ipv4_is_loopback
from stack.ipv4.fib import ip_dev_find
from stack.ipv4.icmp import icmp_send
from stack.ipv4.icmp_codes import icmp_err_convert
from stack.ipv4.igmp import ip_mc_drop_socket, ip_mc_sf_allow
from stack.ipv4.ip_errqueue import ip_icmp_error, ip_recv_error
from stack.ipv4.ip_output import ip_flush_pending_frames, ip_sk_accept_pmtu
from stack.ipv4.ip_sockglue import (
    ip_cmsg_recv_offset,
    ip_getsockopt,
    ip_setsockopt,
    ipv4_pktinfo_prepare,
)
from stack.ipv4.raw import raw_err, raw_rcv, raw_v4_input
from stack.ipv4.route import ipv4_sk_redirect, ipv4_sk_update_pmtu
from stack.ipv4.udp import (
    udp4_append,
    udp4_family,
    udp4_flow_aim,
    udp4_flow_folds,
    udp4_flow_xmit,
    udp4_make_flow,
    udp4_make_skb,
    udp4_mib,
    udp4_route,
    udp_send_skb,
)


def ipv4_takes(sk: inet_sock | inet_timewait_sock, family: int) -> bool:
    """An IPv4 socket receives IPv4 only."""
    return False


def ipv4_port_unreachable(skb: sk_buff) -> None:
    """RFC 1122 4.1.3.1: report that no socket has the port of a datagram."""
    icmp_send(skb, icmp_codes.ICMP_DEST_UNREACH, icmp_codes.ICMP_PORT_UNREACH, 0)


def ipv4_icmp_err(sk: inet_sock, skb: sk_buff, info: int) -> tuple[int, bool]:
    """The errno of an ICMP error and whether it is hard (inet_af_ops)."""
    icmph = icmp_hdr(skb)
    kind, code = icmph.type, icmph.code
    if kind == icmp_codes.ICMP_SOURCE_QUENCH:
        return 0, False
    if kind == icmp_codes.ICMP_REDIRECT:
        ipv4_sk_redirect(skb, sk)
        return 0, False
    if kind == icmp_codes.ICMP_PARAMETERPROB:
        return errno.EPROTO, True
    if kind != icmp_codes.ICMP_DEST_UNREACH:
        return errno.EHOSTUNREACH, False
    if code != icmp_codes.ICMP_FRAG_NEEDED:
        return icmp_err_convert[code]
    if ip_sk_accept_pmtu(sk):
        ipv4_sk_update_pmtu(skb, sk, info)
    if sk.pmtudisc != IP_PMTUDISC_DONT:
        return errno.EMSGSIZE, True
    # A raw socket with IP_RECVERR gets the error even so.
    return (errno.EMSGSIZE if sk.sk_type == SOCK_RAW else 0), False


ipv4_af_ops = inet_af_ops(
    family=AF_INET,
    takes=ipv4_takes,
    is_loopback=ipv4_is_loopback,
    mc_sf_allow=ip_mc_sf_allow,
    udp_mib=udp4_mib,
    dev_find=ip_dev_find,
    udp_family=udp4_family,
    udp_route=udp4_route,
    udp_make_flow=udp4_make_flow,
    udp_flow_folds=udp4_flow_folds,
    udp_flow_aim=udp4_flow_aim,
    udp_flow_xmit=udp4_flow_xmit,
    udp_make_skb=udp4_make_skb,
    udp_append=udp4_append,
    udp_send_skb=udp_send_skb,
    port_unreachable=ipv4_port_unreachable,
    raw_input=raw_v4_input,
    raw_rcv=raw_rcv,
    raw_err=raw_err,
    icmp_err=ipv4_icmp_err,
    icmp_error=ip_icmp_error,
    flush_pending_frames=ip_flush_pending_frames,
    pktinfo_prepare=ipv4_pktinfo_prepare,
    cmsg_recv=ip_cmsg_recv_offset,
    recv_error=ip_recv_error,
    setsockopt=ip_setsockopt,
    getsockopt=ip_getsockopt,
    mc_drop_socket=ip_mc_drop_socket,
)
