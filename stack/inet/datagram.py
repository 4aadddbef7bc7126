"""Datagram sockets of both families: errors and disconnect (net/ipv4/udp.c, ip_sockglue.c)."""

from __future__ import annotations

from fastpath.base.skbuff import (
    alloc_skb,
    kfree_skb,
    sk_buff,
    skb_clone,
    skb_pull,
    skb_reset_transport_header,
)
from stack.core.errqueue import sock_exterr_skb
from stack.core.sock import (
    lock_sock,
    release_sock,
    sk_dst_reset,
    sk_error_report,
    sock_queue_err_skb,
)
from stack.core.sock_flags import SOCK_BINDADDR_LOCK, SOCK_BINDPORT_LOCK
from stack.core.tcp_states import TCP_CLOSE, TCP_ESTABLISHED
from stack.core.uapi import AF_INET, ICMP_HLEN
from stack.inet.af_ops import af_ops_of, inet_af_ops
from stack.inet.icmp_ext import ip_icmp_error_rfc4884
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


def inet_icmp_error(
    sk: inet_sock, skb: sk_buff, serr: sock_exterr_skb, payload_off: int, at: int, unit: int
) -> None:
    """ip_icmp_error, ipv6_icmp_error: put an ICMP error on the error queue. Borrows skb.

    Data at the embedded IP header, whose payload begins at `payload_off`. `at` and `unit`: see
    ip_icmp_error_rfc4884; 0: the socket does not ask for extensions.
    """
    clone = skb_clone(skb)
    clone.cb = serr
    if payload_off <= clone.len:
        skb_pull(clone, payload_off)
        if at:
            serr.ee_data = ip_icmp_error_rfc4884(clone, ICMP_HLEN, at, unit)
        skb_reset_transport_header(clone)
        if not sock_queue_err_skb(sk, clone):
            return
    kfree_skb(clone)


def inet_local_error(sk: inet_sock, serr: sock_exterr_skb) -> None:
    """ip_local_error, ipv6_local_error: queue an error of this host, without a payload."""
    skb = alloc_skb(sk.net.skb_small, 0, 0)
    if skb is not None:
        skb.cb = serr
        if sock_queue_err_skb(sk, skb):
            kfree_skb(skb)


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
