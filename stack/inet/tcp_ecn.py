"""include/net/tcp_ecn.h: explicit congestion notification: common parts, and RFC 3168.

sysctl tcp_ecn says what is requested and granted; the peer may lower it in the handshake.

    tcp_ecn     our SYN requests    a SYN is granted
    0           nothing             nothing
    1           RFC 3168            RFC 3168
    2           nothing             RFC 3168
    3           Accurate ECN        what it requests
    4           RFC 3168            what it requests
    5           nothing             what it requests

With RFC 3168 new data is ECT(0). The receiver of a packet marked CE sets ECE in every ACK
(TCP_ECN_DEMAND_CWR) until CWR arrives. The sender treats ECE as a loss, once per round trip, and
reports it by CWR on its next new data (TCP_ECN_QUEUE_CWR). With Accurate ECN (tcp_accecn.py) every
packet is ECT(0), and every segment reports how many were marked.
"""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff
from stack.core.dst import RTAX_FEATURE_ECN, dst_entry, dst_feature
from stack.core.inet_ecn import INET_ECN_ECT_0, INET_ECN_MASK
from stack.inet.inet_connection_sock import ICSK_ACK_NOW, request_sock
from stack.inet.tcp_accecn import (
    TCP_ACCECN_ACE_FAIL,
    TCP_ACCECN_ACE_FAIL_SEND,
    tcp_accecn_ace,
    tcp_accecn_openreq_child,
    tcp_accecn_rcv_synack,
    tcp_accecn_reflector_flags,
    tcp_accecn_set_ace,
    tcp_accecn_syn_requested,
)
from stack.inet.tcp_sock import (
    TCP_ECN_DEMAND_CWR,
    TCP_ECN_DISABLED,
    TCP_ECN_MODE_ACCECN,
    TCP_ECN_MODE_ANY,
    TCP_ECN_MODE_PENDING,
    TCP_ECN_MODE_RFC3168,
    TCP_ECN_QUEUE_CWR,
    TCPHDR_ACE,
    TCPHDR_AE,
    TCPHDR_CWR,
    TCPHDR_ECE,
    TCPHDR_SYN,
    before,
    tcp_sock,
)
from stack.net import Net

TCPHDR_ECN = TCPHDR_ECE | TCPHDR_CWR
TCPHDR_SYN_ECN = TCPHDR_SYN | TCPHDR_ECN

# sysctl tcp_ecn
TCP_ECN_IN_ECN_OUT_ECN = 1
TCP_ECN_IN_ACCECN_OUT_ACCECN = 3
TCP_ECN_IN_ACCECN_OUT_ECN = 4


# --- the handshake ------------------------------------------------------------------------


def tcp_ecn_send_syn(sk: tcp_sock, skb: sk_buff) -> None:
    """Request ECN in a SYN, as sysctl tcp_ecn or the route says."""
    tcp_ecn = sk.net.sysctl.tcp_ecn
    sk.ecn_flags = TCP_ECN_DISABLED
    if tcp_ecn == TCP_ECN_IN_ACCECN_OUT_ACCECN:
        skb.tcp_flags |= TCPHDR_ACE
        sk.ecn_flags = TCP_ECN_MODE_PENDING
    elif tcp_ecn in (TCP_ECN_IN_ECN_OUT_ECN, TCP_ECN_IN_ACCECN_OUT_ECN) or dst_feature(
        sk.sk_dst_cache, RTAX_FEATURE_ECN
    ):
        skb.tcp_flags |= TCPHDR_ECN
        sk.ecn_flags = TCP_ECN_MODE_RFC3168


def tcp_ecn_clear_syn(sk: tcp_sock, skb: sk_buff) -> None:
    """Retransmit a SYN without ECN: the path may drop SYNs that request it (RFC 3168 6.1.1.1).

    One that requests Accurate ECN is first retransmitted unchanged (RFC 9768 3.1.4.1).
    """
    if sk.ecn_flags & TCP_ECN_MODE_ANY == TCP_ECN_MODE_PENDING and sk.icsk_retransmits <= 1:
        return
    if sk.net.sysctl.tcp_ecn_fallback:
        skb.tcp_flags &= ~TCPHDR_ACE


def tcp_ecn_granted(net: Net, dst: dst_entry) -> bool:
    """net/ipv4/syncookies.c cookie_ecn_ok: whether sysctl tcp_ecn or the route grants ECN."""
    return net.sysctl.tcp_ecn != 0 or dst_feature(dst, RTAX_FEATURE_ECN)


def tcp_ecn_create_request(
    req: request_sock, skb: sk_buff, listener: tcp_sock, dst: dst_entry
) -> None:
    """Grant a SYN's request for ECN as sysctl tcp_ecn or the return route says.

    An RFC 3168 SYN that is itself ECT is not granted, unless AE shows a newer kind of ECN.
    """
    flags = skb.tcp_flags
    tcp_ecn = listener.net.sysctl.tcp_ecn
    ect = skb.ip_dsfield & INET_ECN_MASK
    if tcp_ecn >= TCP_ECN_IN_ACCECN_OUT_ACCECN and tcp_accecn_syn_requested(flags):
        req.ecn_ok = req.accecn_ok = True
        req.syn_ect_rcv = ect
    elif flags & TCPHDR_ECN == TCPHDR_ECN:
        req.ecn_ok = bool(not ect or flags & TCPHDR_AE) and tcp_ecn_granted(listener.net, dst)


def tcp_ecn_make_synack(req: request_sock) -> int:
    """The ECN flags of the SYN-ACK for a request.

    From the third on it has none: the path may drop it because of them. Then we send no ECT.
    """
    if req.accecn_ok:
        if req.snt_synack and req.num_timeout:
            req.accecn_fail_mode |= TCP_ACCECN_ACE_FAIL_SEND
            return 0
        return tcp_accecn_reflector_flags(req.syn_ect_rcv)
    return TCPHDR_ECE if req.ecn_ok else 0


def tcp_ecn_send_synack(sk: tcp_sock, skb: sk_buff) -> None:
    """Simultaneous open: the SYN-ACK grants what the peer's SYN requested, if ours did too."""
    skb.tcp_flags &= ~TCPHDR_CWR
    if not sk.ecn_flags & TCP_ECN_MODE_ANY:
        skb.tcp_flags &= ~TCPHDR_ECE
    if sk.ecn_flags & TCP_ECN_MODE_ACCECN:
        skb.tcp_flags = skb.tcp_flags & ~TCPHDR_ACE | tcp_accecn_reflector_flags(sk.syn_ect_rcv)


def tcp_ecn_rcv_synack(sk: tcp_sock, skb: sk_buff) -> None:
    """Read what ECN the peer's SYN-ACK grants (RFC 9768 table 2)."""
    ace = tcp_accecn_ace(skb.tcp_flags)
    if ace in (0b000, 0b111):
        sk.ecn_flags = TCP_ECN_DISABLED
    elif ace == 0b001:
        sk.ecn_flags = TCP_ECN_MODE_RFC3168
    elif ace != 0b101 or sk.ecn_flags == TCP_ECN_MODE_PENDING:  # 0b101 is for later kinds of ECN
        tcp_accecn_rcv_synack(sk, skb)


def tcp_ecn_rcv_syn(sk: tcp_sock, skb: sk_buff) -> None:
    """Simultaneous open: use the ECN that both SYNs request."""
    flags = skb.tcp_flags
    if sk.ecn_flags & TCP_ECN_MODE_ANY == TCP_ECN_MODE_PENDING:
        if tcp_accecn_syn_requested(flags):
            sk.syn_ect_rcv = sk.prev_ecnfield = skb.ip_dsfield & INET_ECN_MASK
            sk.ecn_flags = TCP_ECN_MODE_ACCECN
        else:
            sk.ecn_flags = TCP_ECN_MODE_RFC3168
    rfc3168 = sk.ecn_flags & TCP_ECN_MODE_ANY == TCP_ECN_MODE_RFC3168
    if rfc3168 and flags & TCPHDR_ECN != TCPHDR_ECN:
        sk.ecn_flags &= ~TCP_ECN_MODE_ANY


def tcp_ecn_openreq_child(sk: tcp_sock, req: request_sock, skb: sk_buff) -> None:
    """Give the accepted socket the request's ECN mode. Data at the TCP header."""
    if req.accecn_ok:
        tcp_accecn_openreq_child(sk, req, skb)
    else:
        sk.ecn_flags = TCP_ECN_MODE_RFC3168 if req.ecn_ok else TCP_ECN_DISABLED


# --- the receiver (tcp_data.py has the other half, tcp_data_ecn_check) --------------------


def tcp_ecn_accept_cwr(sk: tcp_sock, skb: sk_buff) -> None:
    """The sender has reduced its window, perhaps to one packet: stop ECE, and ACK at once."""
    if sk.ecn_flags & TCP_ECN_MODE_RFC3168 and skb.tcp_flags & TCPHDR_CWR:
        sk.ecn_flags &= ~TCP_ECN_DEMAND_CWR
        if skb.seq != skb.end_seq:
            sk.icsk_ack_pending |= ICSK_ACK_NOW


# --- the sender ---------------------------------------------------------------------------


def tcp_ecn_rcv_ecn_echo(sk: tcp_sock, flags: int) -> bool:
    """Whether an ACK reports by ECE that a packet of ours was marked (RFC 3168)."""
    return bool(
        sk.ecn_flags & TCP_ECN_MODE_RFC3168 and flags & (TCPHDR_ECE | TCPHDR_SYN) == TCPHDR_ECE
    )


def tcp_ecn_queue_cwr(sk: tcp_sock) -> None:
    """The window was reduced: with RFC 3168 set CWR on the next new data."""
    if sk.ecn_flags & TCP_ECN_MODE_ANY == TCP_ECN_MODE_RFC3168:
        sk.ecn_flags |= TCP_ECN_QUEUE_CWR


def tcp_ecn_withdraw_cwr(sk: tcp_sock) -> None:
    """The reduction was undone: do not set CWR."""
    sk.ecn_flags &= ~TCP_ECN_QUEUE_CWR


def tcp_ecn_send(sk: tcp_sock, skb: sk_buff, payload: int, seq: int) -> int:
    """The ECN flags of a segment that is not a SYN; sets ECT in `tos`.

    RFC 3168 6.1.4, 6.1.5: pure ACKs and retransmissions are not. With Accurate ECN all are. The
    last ACK of the handshake has its ACE field already.
    """
    if sk.ecn_flags & TCP_ECN_MODE_ACCECN:
        if not sk.accecn_fail_mode & TCP_ACCECN_ACE_FAIL:
            sk.tos |= INET_ECN_ECT_0
        return 0 if skb.tcp_flags & TCPHDR_ACE else tcp_accecn_set_ace(sk)
    flags = 0
    if sk.ecn_flags & TCP_ECN_MODE_RFC3168:
        if payload and not before(seq, sk.snd_nxt):
            sk.tos |= INET_ECN_ECT_0
            if sk.ecn_flags & TCP_ECN_QUEUE_CWR:
                sk.ecn_flags &= ~TCP_ECN_QUEUE_CWR
                flags = TCPHDR_CWR
        else:
            sk.tos &= ~INET_ECN_MASK
        if sk.ecn_flags & TCP_ECN_DEMAND_CWR:
            flags |= TCPHDR_ECE
    return flags
