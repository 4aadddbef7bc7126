"""net/ipv4/tcp_ipv4.c: what the receive functions of both families share."""

from __future__ import annotations

from fastpath.skbuff import sk_buff, skb_copy_bits
from stack.core.sock import sk_add_backlog, sk_error_report, sk_filter_trim_cap, sock_owned_by_user
from stack.core.tcp_states import TCP_CLOSE, TCP_LISTEN, TCP_SYN_RECV, TCP_SYN_SENT
from stack.inet.inet_connection_sock import inet_csk_reqsk_queue_drop, request_sock
from stack.inet.tcp_done import tcp_done_with_error
from stack.inet.tcp_sock import TCPF_MTU_REDUCED_DEFERRED, between, tcp_sock


def tcp_icmp_concerns(sk: tcp_sock, seq: int, pmtu: bool) -> bool:
    """Whether an ICMP error that quotes sequence number `seq` is about a segment in flight.

    `pmtu`: it reports a path MTU, and is not dropped while the socket is owned.
    """
    linux = sk.net.mib.linux
    if not pmtu and sock_owned_by_user(sk):
        linux.LockDroppedIcmps += 1
    if sk.sk_state == TCP_CLOSE:
        return False
    if sk.sk_state != TCP_LISTEN and not between(seq, sk.snd_una, sk.snd_nxt):
        linux.OutOfWindowIcmps += 1
        return False
    return True


def tcp_icmp_mtu(sk: tcp_sock, mtu: int) -> None:
    """Reduce the path MTU to `mtu` bytes: now, or when the owner releases the socket."""
    if sk.sk_state == TCP_LISTEN:
        return
    sk.mtu_info = mtu
    if sock_owned_by_user(sk):
        sk.tsq_flags |= TCPF_MTU_REDUCED_DEFERRED
    else:
        sk.icsk_af_ops.mtu_reduced(sk)


def tcp_icmp_error(sk: tcp_sock, err: int, recverr: bool) -> None:
    """Handle an ICMP error about sk, which ends the connection only during the handshake.

    RFC 1122 4.2.3.9, RFC 5461. `recverr`: the socket has IP_RECVERR or IPV6_RECVERR.
    """
    owned = sock_owned_by_user(sk)
    if sk.sk_state in (TCP_SYN_SENT, TCP_SYN_RECV) and not owned:
        tcp_done_with_error(sk, err)
    elif recverr and not owned and sk.sk_state not in (TCP_SYN_SENT, TCP_SYN_RECV):
        sk.sk_err = err
        sk_error_report(sk)
    else:
        sk.sk_err_soft = err


def tcp_req_err(req: request_sock, seq: int, abort: bool) -> None:
    """Handle an ICMP error about our SYN-ACK; with `abort` it ends the request."""
    net = req.net
    if seq != req.snt_isn:
        net.mib.linux.OutOfWindowIcmps += 1
    elif abort:
        inet_csk_reqsk_queue_drop(req.rsk_listener, req)
        net.mib.linux.ListenDrops += 1


def tcp_filter(sk: tcp_sock, skb: sk_buff) -> bool:
    """net/ipv4/tcp_ipv4.c: True when the socket's filter refuses the segment, data at its header.

    Call it before tcp_v4_fill_cb: bytes that the filter cuts off must not count as received.
    """
    if sk.sk_filter is None and sk.net.security is None:
        return False
    hlen = skb_copy_bits(skb, 12, 1)[0] >> 4 << 2
    return sk_filter_trim_cap(sk, skb, hlen) != 0


def tcp_add_backlog(sk: tcp_sock, skb: sk_buff) -> bool:
    """The socket is owned: keep skb for release_sock. True: no room (skb not taken)."""
    limit = sk.sk_rcvbuf + (sk.sk_sndbuf >> 1) + 65536
    if sk_add_backlog(sk, skb, limit):
        sk.net.mib.linux.TCPBacklogDrop += 1
        return True
    return False
