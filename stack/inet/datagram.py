"""Datagram sockets of both families: ICMP errors and disconnect (net/ipv4/udp.c)."""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff
from stack.core.sock import lock_sock, release_sock, sk_dst_reset, sk_error_report
from stack.core.sock_flags import SOCK_BINDADDR_LOCK, SOCK_BINDPORT_LOCK
from stack.core.tcp_states import TCP_CLOSE, TCP_ESTABLISHED
from stack.core.uapi import AF_INET
from stack.inet.af_ops import af_ops_of, inet_af_ops
from stack.inet.inet_sock import inet_sock


def sk_icmp_err(
    sk: inet_sock, skb: sk_buff, af: inet_af_ops, recverr: bool, port: int, offset: int, info: int
) -> None:
    """udp_err, raw_err, ping_err: report an ICMP error about a datagram of the socket. Borrows skb.

    With `recverr` each error goes to the error queue, with the quoted bytes from `offset` on and
    the peer's `port`. Otherwise only hard errors count, and only for a connected socket.
    """
    err, harderr = af.icmp_err(sk, skb, info)
    if not err:
        return
    if recverr:
        af.icmp_error(sk, skb, err, port, info, offset)
    elif not harderr or sk.sk_state != TCP_ESTABLISHED:
        return
    sk.sk_err = err
    sk_error_report(sk)


def __udp_disconnect(sk: inet_sock, flags: int) -> int:
    """net/ipv4/udp.c: forget the peer, and the address and port that connect or autobind chose.

    As on Linux, the bound interface is reset, too, even that of SO_BINDTODEVICE. An IPv6 peer is
    not reset: datagrams of other senders are still not received.
    """
    sk.sk_state = TCP_CLOSE
    if sk.sk_af.family == AF_INET:
        sk.inet_daddr = 0
    sk.inet_dport = 0
    sk.sk_bound_dev_if = 0
    if not sk.sk_flags & SOCK_BINDADDR_LOCK:
        sk.inet_saddr = sk.inet_rcv_saddr = 0
        sk.sk_af = af_ops_of[sk.sk_family]
    if sk.sk_prot.rehash is not None:
        sk.sk_prot.rehash(sk)
    if not sk.sk_flags & SOCK_BINDPORT_LOCK:
        if sk.sk_prot.unhash is not None:
            sk.sk_prot.unhash(sk)
        sk.inet_sport = 0
    sk_dst_reset(sk)
    return 0


def udp_disconnect(sk: inet_sock, flags: int) -> int:
    """net/ipv4/udp.c: __udp_disconnect with the sock owned."""
    lock_sock(sk)
    try:
        return __udp_disconnect(sk, flags)
    finally:
        release_sock(sk)
