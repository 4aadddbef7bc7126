"""net/ipv4/tcp_ipv4.c: ICMP errors about our segments."""

from __future__ import annotations

import errno

from fastpath.base.skbuff import pskb_may_pull, sk_buff, skb_copy_bits
from fastpath.net.hdr import icmp_hdr as icmp_header
from fastpath.net.hdr import iphdr_at
from fastpath.net.inetkey import inet_err_key
from stack.core.dst import dst_mtu
from stack.core.l3mdev import inet_sdif
from stack.core.sock import sock_owned_by_user
from stack.core.tcp_states import TCP_NEW_SYN_RECV, TCP_TIME_WAIT, TCPF_CLOSE, TCPF_LISTEN
from stack.core.uapi import IP_PMTUDISC_DONT
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
from stack.ipv4 import icmp_codes
from stack.ipv4.icmp_codes import icmp_err_convert
from stack.ipv4.ip_errqueue import ip_icmp_error
from stack.ipv4.ip_output import ip_dont_fragment, ip_sk_accept_pmtu
from stack.ipv4.route import ipv4_sk_redirect, rtable


def tcp_v4_mtu_reduced(sk: tcp_sock) -> None:
    """Apply a smaller path MTU that a router reported (sk.mtu_info; RFC 1191)."""
    if (1 << sk.sk_state) & (TCPF_LISTEN | TCPF_CLOSE):
        return
    mtu = sk.mtu_info
    dst = inet_csk_update_pmtu(sk, mtu)
    if dst is None:
        return
    assert isinstance(dst, rtable)
    if mtu < dst_mtu(dst) and ip_dont_fragment(sk, dst):
        sk.sk_err_soft = errno.EMSGSIZE
    mtu = dst_mtu(dst)
    if sk.pmtudisc != IP_PMTUDISC_DONT and ip_sk_accept_pmtu(sk) and sk.icsk_pmtu_cookie > mtu:
        tcp_sync_mss(sk, mtu)
        tcp_simple_retransmit(sk)


def tcp_v4_err(skb: sk_buff, info: int) -> int:
    """An ICMP error quotes one of our segments; data at the quoted IP header. Borrows skb.

    Hard errors end a connection only while it is being set up (RFC 1122 4.2.3.9, RFC 5461).
    """
    dst = skb.dst
    net = dst.net if dst is not None and dst.net is not None else skb.dev.net
    iph = iphdr_at(skb, 0)
    off = iph.ihl * 4
    if not pskb_may_pull(skb, off + QUOTED.size):
        return 0
    _, port, seq = QUOTED.unpack(skb_copy_bits(skb, off, QUOTED.size))
    icmph = icmp_header(skb)
    kind, code = icmph.type, icmph.code
    unreachable = kind == icmp_codes.ICMP_DEST_UNREACH
    no_route = unreachable and code in (icmp_codes.ICMP_NET_UNREACH, icmp_codes.ICMP_HOST_UNREACH)
    key = inet_err_key(skb, 0, off)
    sk = __inet_lookup_established(net.tcp_hashinfo, None, key, skb.skb_iif, inet_sdif(skb))
    if sk is None:
        net.mib.icmp.InErrors += 1
        return -errno.ENOENT
    if sk.sk_state == TCP_TIME_WAIT:
        return 0
    if sk.sk_state == TCP_NEW_SYN_RECV:
        dead = kind in (icmp_codes.ICMP_PARAMETERPROB, icmp_codes.ICMP_TIME_EXCEEDED)
        tcp_req_err(sk, seq, dead or no_route)
        return 0
    if iph.ttl < sk.min_ttl:
        net.mib.linux.TCPMinTTLDrop += 1
        return 0
    if not tcp_icmp_concerns(sk, seq, unreachable and code == icmp_codes.ICMP_FRAG_NEEDED):
        return 0
    if kind == icmp_codes.ICMP_REDIRECT:
        if not sock_owned_by_user(sk):
            ipv4_sk_redirect(skb, sk)
        return 0
    if kind == icmp_codes.ICMP_PARAMETERPROB:
        err = errno.EPROTO
    elif unreachable:
        if code > icmp_codes.NR_ICMP_UNREACH:
            return 0
        if code == icmp_codes.ICMP_FRAG_NEEDED:
            tcp_icmp_mtu(sk, info)
            return 0
        err = icmp_err_convert[code].errno
    elif kind == icmp_codes.ICMP_TIME_EXCEEDED:
        err = errno.EHOSTUNREACH
    else:
        return 0
    if tcp_icmp_handshake(sk):
        ip_icmp_error(sk, skb, err, port, info, off)  # whatever IP_RECVERR says
        tcp_icmp_abort(sk, err)
    else:
        tcp_icmp_error(sk, err, sk.recverr, no_route, seq)
    return 0
