"""include/net/tcp_ecn.h: explicit congestion notification (RFC 3168), both ends.

A connection whose handshake agreed (TCP_ECN_OK) sends new data as ECT(0). The receiver of a packet
marked CE sets ECE in every ACK (TCP_ECN_DEMAND_CWR) until CWR arrives. The sender treats ECE as a
loss, once per round trip, and says so by CWR on its next new data (TCP_ECN_QUEUE_CWR).
"""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff
from stack.inet.inet_connection_sock import ICSK_ACK_NOW, request_sock
from stack.inet.tcp_sock import TCPHDR_CWR, TCPHDR_ECE, TCPHDR_SYN, before, tcp_sock

# No other bit is set without TCP_ECN_OK, so `if sk.ecn_flags` tests for it.
TCP_ECN_OK = 1
TCP_ECN_QUEUE_CWR = 2
TCP_ECN_DEMAND_CWR = 4
TCP_ECN_SEEN = 8

# include/net/inet_ecn.h
INET_ECN_NOT_ECT = 0
INET_ECN_ECT_0 = 2
INET_ECN_CE = 3
INET_ECN_MASK = 3

TCPHDR_ECN = TCPHDR_ECE | TCPHDR_CWR


# --- the handshake ------------------------------------------------------------------------


def tcp_ecn_send_syn(sk: tcp_sock, skb: sk_buff) -> None:
    """Ask for ECN in a SYN (sysctl tcp_ecn 1)."""
    sk.ecn_flags = 0
    if sk.net.sysctl.tcp_ecn == 1:
        skb.tcp_flags |= TCPHDR_ECN
        sk.ecn_flags = TCP_ECN_OK


def tcp_ecn_clear_syn(sk: tcp_sock, skb: sk_buff) -> None:
    """Retransmit a SYN without ECN: the path may drop SYNs that ask for it (RFC 3168 6.1.1.1)."""
    if sk.net.sysctl.tcp_ecn_fallback:
        skb.tcp_flags &= ~TCPHDR_ECN


def tcp_ecn_create_request(req: request_sock, skb: sk_buff, listener: tcp_sock) -> None:
    """Grant a SYN's request for ECN (sysctl tcp_ecn 1 or 2), unless the SYN itself is ECT."""
    if skb.tcp_flags & TCPHDR_ECN == TCPHDR_ECN:
        ect = skb.ip_dsfield & INET_ECN_MASK
        req.ecn_ok = not ect and bool(listener.net.sysctl.tcp_ecn)


def tcp_ecn_send_synack(sk: tcp_sock, skb: sk_buff) -> None:
    """Simultaneous open: the SYN-ACK has ECE alone, if the peer asked too."""
    skb.tcp_flags &= ~TCPHDR_CWR
    if not sk.ecn_flags & TCP_ECN_OK:
        skb.tcp_flags &= ~TCPHDR_ECE


def tcp_ecn_rcv_synack(sk: tcp_sock, flags: int) -> None:
    """ECN is off unless the SYN-ACK grants it by ECE without CWR."""
    if flags & TCPHDR_ECN != TCPHDR_ECE:
        sk.ecn_flags = 0


def tcp_ecn_rcv_syn(sk: tcp_sock, flags: int) -> None:
    """Simultaneous open: ECN is off unless the peer's SYN asks for it too."""
    if flags & TCPHDR_ECN != TCPHDR_ECN:
        sk.ecn_flags = 0


def tcp_ecn_openreq_child(sk: tcp_sock, req: request_sock) -> None:
    """The accepted socket has what the request agreed."""
    sk.ecn_flags = TCP_ECN_OK if req.ecn_ok else 0


# --- the receiver (tcp_data.py has the other half, tcp_ecn_check_ce) ----------------------


def tcp_ecn_accept_cwr(sk: tcp_sock, skb: sk_buff) -> None:
    """The sender has reduced its window, perhaps to one packet: stop ECE, and ACK at once."""
    if skb.tcp_flags & TCPHDR_CWR:
        sk.ecn_flags &= ~TCP_ECN_DEMAND_CWR
        if skb.seq != skb.end_seq:
            sk.icsk_ack_pending |= ICSK_ACK_NOW


# --- the sender ---------------------------------------------------------------------------


def tcp_ecn_rcv_ecn_echo(sk: tcp_sock, flags: int) -> bool:
    """Whether an ACK reports that a packet of ours was marked."""
    return bool(sk.ecn_flags & TCP_ECN_OK and flags & (TCPHDR_ECE | TCPHDR_SYN) == TCPHDR_ECE)


def tcp_ecn_queue_cwr(sk: tcp_sock) -> None:
    """The window was reduced: set CWR on the next new data."""
    if sk.ecn_flags & TCP_ECN_OK:
        sk.ecn_flags |= TCP_ECN_QUEUE_CWR


def tcp_ecn_withdraw_cwr(sk: tcp_sock) -> None:
    """The reduction was undone: do not set CWR."""
    sk.ecn_flags &= ~TCP_ECN_QUEUE_CWR


def tcp_ecn_send(sk: tcp_sock, payload: int, seq: int) -> int:
    """ECE and CWR of a segment that is not a SYN; marks new data, and only that, as ECT.

    For sockets with TCP_ECN_OK. RFC 3168 6.1.4, 6.1.5: pure ACKs and retransmissions are not ECT.
    """
    flags = 0
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
