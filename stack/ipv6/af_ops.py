"""IPv6's table of family operations."""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff
from fastpath.net.hdr6 import icmp6_hdr
from stack.core.rows import wide
from stack.core.uapi import AF_INET, AF_INET6, SOCK_RAW
from stack.inet.af_ops import inet_af_ops
from stack.inet.inet_sock import inet_sock
from stack.inet.inet_timewait_sock import inet_timewait_sock
from stack.ipv6 import ip6_icmp
from stack.ipv6.addr import ipv6_addr_loopback
from stack.ipv6.anycast import ipv6_sock_ac_close
from stack.ipv6.datagram import ipv6_icmp_error, ipv6_recv_error
from stack.ipv6.if_inet6 import ipv6_dev_find
from stack.ipv6.ip6_append import ip6_flush_pending_frames
from stack.ipv6.ip6_cmsg import ip6_datagram_recv_ctl, ipv6_pktinfo_prepare
from stack.ipv6.ip6_flowlabel import fl6_free_socklist
from stack.ipv6.ip6_icmp import icmpv6_err_convert, icmpv6_send
from stack.ipv6.ipv6_sockglue import ipv6_getsockopt, ipv6_setsockopt
from stack.ipv6.mcast import inet6_mc_check, ipv6_sock_mc_close
from stack.ipv6.pinfo import IPV6_PMTUDISC_DO, IPV6_PMTUDISC_DONT, IPV6_PMTUDISC_INTERFACE, np_of
from stack.ipv6.raw import raw_v6_input, rawv6_err, rawv6_rcv
from stack.ipv6.route_learned import ip6_sk_redirect, ip6_sk_update_pmtu
from stack.ipv6.udp import (
    udp6_append,
    udp6_family,
    udp6_flow_aim,
    udp6_flow_folds,
    udp6_flow_xmit,
    udp6_make_flow,
    udp6_make_skb,
    udp6_mib,
    udp6_route,
    udp_v6_send_skb,
)


def ipv6_takes(sk: inet_sock | inet_timewait_sock, family: int) -> bool:
    """Whether an IPv6 socket receives IPv4 too: bound to no address, not v6only (RFC 3493 3.7)."""
    return family == AF_INET and not sk.sk_ipv6only and not sk.inet_rcv_saddr


def ipv6_port_unreachable(skb: sk_buff) -> None:
    """RFC 4443 3.1: no socket has the port of a datagram."""
    icmpv6_send(skb, ip6_icmp.ICMPV6_DEST_UNREACH, ip6_icmp.ICMPV6_PORT_UNREACH, 0)


def ipv6_icmp_err(sk: inet_sock, skb: sk_buff, info: int) -> tuple[int, bool]:
    """The errno of an ICMPv6 error and whether it is hard (inet_af_ops)."""
    icmp6h = icmp6_hdr(skb)
    kind = icmp6h.icmp6_type
    if kind == ip6_icmp.NDISC_REDIRECT:
        ip6_sk_redirect(skb, sk)
        return 0, False
    err, harderr = icmpv6_err_convert(kind, icmp6h.icmp6_code)
    if kind == ip6_icmp.ICMPV6_PKT_TOOBIG:
        pmtudisc = np_of(sk).pmtudisc
        raw = sk.sk_type == SOCK_RAW
        if raw or pmtudisc < IPV6_PMTUDISC_INTERFACE:
            ip6_sk_update_pmtu(skb, sk, info)
        harderr = pmtudisc == IPV6_PMTUDISC_DO if raw else pmtudisc != IPV6_PMTUDISC_DONT
    return err, harderr


def ipv6_mc_sf_allow(sk: inet_sock, group: wide, saddr: wide, ifindex: int) -> bool:
    """Whether the socket may receive a datagram to a group."""
    return inet6_mc_check(sk, group, saddr)


def ipv6_sock_drop_groups(sk: inet_sock) -> None:
    """net/ipv6/af_inet6.c inet6_release: leave groups, anycast addresses and flow labels."""
    np = sk.pinet6
    if np is None:
        return
    if np.ipv6_mc_list or np.ipv6_ac_list:
        ipv6_sock_mc_close(sk)
        ipv6_sock_ac_close(sk)
    if np.ipv6_fl_list:
        fl6_free_socklist(sk)


ipv6_af_ops = inet_af_ops(
    family=AF_INET6,
    takes=ipv6_takes,
    is_loopback=ipv6_addr_loopback,
    mc_sf_allow=ipv6_mc_sf_allow,
    udp_mib=udp6_mib,
    dev_find=ipv6_dev_find,
    udp_family=udp6_family,
    udp_route=udp6_route,
    udp_make_flow=udp6_make_flow,
    udp_flow_folds=udp6_flow_folds,
    udp_flow_aim=udp6_flow_aim,
    udp_flow_xmit=udp6_flow_xmit,
    udp_make_skb=udp6_make_skb,
    udp_append=udp6_append,
    udp_send_skb=udp_v6_send_skb,
    port_unreachable=ipv6_port_unreachable,
    raw_input=raw_v6_input,
    raw_rcv=rawv6_rcv,
    raw_err=rawv6_err,
    icmp_err=ipv6_icmp_err,
    icmp_error=ipv6_icmp_error,
    flush_pending_frames=ip6_flush_pending_frames,
    pktinfo_prepare=ipv6_pktinfo_prepare,
    cmsg_recv=ip6_datagram_recv_ctl,
    recv_error=ipv6_recv_error,
    setsockopt=ipv6_setsockopt,
    getsockopt=ipv6_getsockopt,
    mc_drop_socket=ipv6_sock_drop_groups,
)
