"""ICMP errors about connections of both families (net/ipv4/tcp_ipv4.c, tcp_ipv6.c).

tcp_v4_err, tcp_v6_err find the socket whose segment the error quotes, then call:

tcp_icmp_concerns       is the segment in flight?
tcp_icmp_mtu            a smaller path MTU
tcp_icmp_handshake      does the error end it?  tcp_icmp_abort ends it
tcp_icmp_error          the connection continues; its owner may get the error
tcp_req_err             about a request, which has no socket yet
"""

from __future__ import annotations

import struct

from stack.core.sock import sk_error_report, sock_owned_by_user
from stack.core.tcp_states import TCP_CLOSE, TCP_LISTEN, TCP_SYN_RECV, TCP_SYN_SENT
from stack.inet.inet_connection_sock import inet_csk_reqsk_queue_drop, request_sock
from stack.inet.tcp_done import tcp_done_with_error
from stack.inet.tcp_sock import TCPF_MTU_REDUCED_DEFERRED, between, tcp_sock
from stack.inet.tcp_timer import tcp_ld_RTO_revert

QUOTED = struct.Struct("!HHI")
"""The part of a segment that every ICMP error quotes: ports and sequence number."""


def tcp_icmp_concerns(sk: tcp_sock, seq: int, pmtu: bool) -> bool:
    """Whether an ICMP error with sequence number `seq` is about a segment in flight.

    `pmtu`: it reports a path MTU, so it is kept while the socket is owned.
    """
    linux = sk.net.mib.linux
    if not pmtu and sock_owned_by_user(sk):
        linux.LockDroppedIcmps += 1
    if sk.sk_state == TCP_CLOSE:
        return False
    una = sk.snd_una if sk.fastopen_rsk is None else sk.fastopen_rsk.snt_isn
    if sk.sk_state != TCP_LISTEN and not between(seq, una, sk.snd_nxt):
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


def tcp_icmp_error(sk: tcp_sock, err: int, recverr: bool, revert: bool, seq: int) -> None:
    """Handle an ICMP error about sk, once its handshake is over, which does not end it.

    RFC 1122 4.2.3.9, RFC 5461. `recverr`: the socket has IP_RECVERR or IPV6_RECVERR. `revert`: no
    route leads to the peer, and the segment that found none began at `seq` (RFC 6069).
    """
    if revert and sk.fastopen_rsk is None:
        tcp_ld_RTO_revert(sk, seq)
    if recverr and not sock_owned_by_user(sk):
        sk.sk_err = err
        sk_error_report(sk)
    else:
        sk.sk_err_soft = err


def tcp_icmp_handshake(sk: tcp_sock) -> bool:
    """Whether an ICMP error ends sk. A Fast Open child that was accepted counts as connected."""
    if sk.sk_state not in (TCP_SYN_SENT, TCP_SYN_RECV):
        return False
    return sk.fastopen_rsk is None or sk.fastopen_rsk.sk is not None


def tcp_icmp_abort(sk: tcp_sock, err: int) -> None:
    """An ICMP error ends the handshake."""
    if sock_owned_by_user(sk):
        sk.sk_err_soft = err
    else:
        tcp_done_with_error(sk, err)


def tcp_req_err(req: request_sock, seq: int, abort: bool) -> None:
    """Handle an ICMP error about our SYN-ACK; with `abort` it ends the request."""
    net = req.net
    if seq != req.snt_isn:
        net.mib.linux.OutOfWindowIcmps += 1
    elif abort:
        inet_csk_reqsk_queue_drop(req.rsk_listener, req)
        net.mib.linux.ListenDrops += 1
