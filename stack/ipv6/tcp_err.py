"""net/ipv6/tcp_ipv6.c: ICMPv6 errors about our segments."""

from __future__ import annotations

import errno

from fastpath.base.skbuff import pskb_may_pull, sk_buff, skb_copy_bits
from fastpath.net.hdr import ipv6hdr_at
from fastpath.net.inetkey import inet_err_key
from stack.core.dst import dst_mtu
from stack.core.l3mdev import inet_sdif
from stack.core.sock import sk_dst_check, sock_owned_by_user
from stack.core.tcp_states import TCP_NEW_SYN_RECV, TCP_TIME_WAIT, TCPF_CLOSE, TCPF_LISTEN
from stack.core.uapi import IPV6_MIN_MTU
from stack.inet.inet_connection_sock import inet_csk_update_pmtu
from stack.inet.inet_hashtables import __inet_lookup_established
from stack.inet.tcp_ack import tcp_simple_retransmit
from stack.inet.tcp_icmp import (
    QUOTED,
    tcp_icmp_abort,
    tcp_icmp_concerns,
    tcp_icmp_error,
    tcp_icmp_handshake,
    tcp_icmp_mtu,
    tcp_req_err,
)
from stack.inet.tcp_sock import tcp_sock
from stack.inet.tcp_window import tcp_sync_mss
from stack.ipv6.datagram import ipv6_icmp_error
from stack.ipv6.ip6_icmp import (
    ICMPV6_DEST_UNREACH,
    ICMPV6_NOROUTE,
    ICMPV6_PKT_TOOBIG,
    NDISC_REDIRECT,
    icmpv6_err_convert,
)
from stack.ipv6.pinfo import IPV6_PMTUDISC_INTERFACE
from stack.ipv6.route_learned import ip6_sk_redirect


def tcp_v6_mtu_reduced(sk: tcp_sock) -> None:
    """Apply a smaller path MTU that a router reported (sk.mtu_info; RFC 8201)."""
    if (1 << sk.sk_state) & (TCPF_LISTEN | TCPF_CLOSE):
        return
    dst = inet_csk_update_pmtu(sk, sk.mtu_info)
    if dst is not None and sk.icsk_pmtu_cookie > dst_mtu(dst):
        tcp_sync_mss(sk, dst_mtu(dst))
        tcp_simple_retransmit(sk)


def tcp_v6_err(skb: sk_buff, opt: object, kind: int, code: int, offset: int, info: int) -> int:
    """An ICMPv6 error (or redirect) quotes one of our segments. Borrows skb.

    Data at the quoted IPv6 header, `offset` that of its TCP header.
    """
    net = skb.dev.net
    if not pskb_may_pull(skb, offset + QUOTED.size):
        return 0
    _, port, seq = QUOTED.unpack(skb_copy_bits(skb, offset, QUOTED.size))
    key = inet_err_key(skb, 0, offset)
    sk = __inet_lookup_established(net.tcp_hashinfo, None, key, skb.skb_iif, inet_sdif(skb))
    if sk is None:
        net.mib.icmp6.InErrors += 1
        return -errno.ENOENT
    if sk.sk_state == TCP_TIME_WAIT:
        return 0
    err, fatal = icmpv6_err_convert(kind, code)
    if sk.sk_state == TCP_NEW_SYN_RECV:
        tcp_req_err(sk, seq, fatal)
        return 0
    np = sk.pinet6
    if ipv6hdr_at(skb, 0).hop_limit < sk.min_hopcount:
        net.mib.linux.TCPMinTTLDrop += 1
        return 0
    if not tcp_icmp_concerns(sk, seq, kind == ICMPV6_PKT_TOOBIG):
        return 0
    if kind == NDISC_REDIRECT:
        if not sock_owned_by_user(sk):
            ip6_sk_redirect(skb, sk)
            sk_dst_check(sk, 0)
        return 0
    if kind == ICMPV6_PKT_TOOBIG:
        # A router that reports less than IPv6's minimum is wrong, or none.
        if info >= IPV6_MIN_MTU and (np is None or np.pmtudisc < IPV6_PMTUDISC_INTERFACE):
            tcp_icmp_mtu(sk, info)
        return 0
    recverr = np is not None and np.recverr
    if tcp_icmp_handshake(sk):
        if recverr:
            ipv6_icmp_error(sk, skb, err, port, info, offset)
        tcp_icmp_abort(sk, err)
    else:
        no_route = kind == ICMPV6_DEST_UNREACH and code == ICMPV6_NOROUTE
        tcp_icmp_error(sk, err, recverr, no_route, seq)
    return 0
