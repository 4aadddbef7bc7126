"""net/ipv4/tcp_input.c: the round-trip time and the retransmission timeout from it (RFC 6298)."""

from __future__ import annotations

from stack.core.dst import RTAX_LOCK_RTO_MIN, dst_metric_locked, dst_metric_rtt
from stack.core.time64 import NSEC_PER_MSEC, NSEC_PER_SEC
from stack.inet.inet_connection_sock import request_sock
from stack.inet.tcp_sock import (
    FLAG_ACK_MAYBE_DELAYED,
    FLAG_ACKED,
    FLAG_SYN_ACKED,
    M32,
    after,
    tcp_sock,
)


def tcp_rto_min(sk: tcp_sock) -> int:
    """net/ipv4/tcp_output.c: the route's shortest RTO, else the socket's, in ns."""
    dst = sk.sk_dst_cache
    if dst is None or not dst.metrics or not dst_metric_locked(dst, RTAX_LOCK_RTO_MIN):
        return sk.icsk_rto_min
    return dst_metric_rtt(dst, "rto_min")


def tcp_rtt_estimator(sk: tcp_sock, mrtt_us: int) -> None:
    """Smooth the round-trip time and its deviation, which rises fast and falls slowly."""
    m = mrtt_us
    srtt = sk.srtt_us
    rto_min_us = tcp_rto_min(sk) // 1000
    if srtt:
        m -= srtt >> 3
        srtt += m
        if m < 0:
            m = -m
            m -= sk.mdev_us >> 2
            # A falling RTT must not raise the RTO.
            if m > 0:
                m >>= 3
        else:
            m -= sk.mdev_us >> 2
        sk.mdev_us += m
        if sk.mdev_us > sk.mdev_max_us:
            sk.mdev_max_us = sk.mdev_us
            if sk.mdev_max_us > sk.rttvar_us:
                sk.rttvar_us = sk.mdev_max_us
        if after(sk.snd_una, sk.rtt_seq):
            if sk.mdev_max_us < sk.rttvar_us:
                sk.rttvar_us -= (sk.rttvar_us - sk.mdev_max_us) >> 2
            sk.rtt_seq = sk.snd_nxt
            sk.mdev_max_us = rto_min_us
    else:
        srtt = m << 3
        sk.mdev_us = m << 1
        sk.rttvar_us = max(sk.mdev_us, rto_min_us)
        sk.mdev_max_us = sk.rttvar_us
        sk.rtt_seq = sk.snd_nxt
    sk.srtt_us = srtt if srtt > 1 else 1


def tcp_set_rto(sk: tcp_sock) -> None:
    """RTO = SRTT + rttvar, at most RTO_MAX."""
    rto = ((sk.srtt_us >> 3) + sk.rttvar_us) * 1000
    if rto > sk.icsk_rto_max:
        rto = sk.icsk_rto_max
    sk.icsk_rto = rto


def tcp_update_rtt_min(sk: tcp_sock, rtt_us: int, flag: int) -> None:
    """Smallest RTT of the last tcp_min_rtt_wlen seconds (restarted when it is that old)."""
    rtt_us = rtt_us or 1
    now = sk.tcp_mstamp
    if rtt_us > sk.min_rtt_us and (
        flag & FLAG_ACK_MAYBE_DELAYED
        or now - sk.min_rtt_stamp <= sk.net.sysctl.tcp_min_rtt_wlen * NSEC_PER_SEC
    ):
        return
    sk.min_rtt_us = rtt_us
    sk.min_rtt_stamp = now


def tcp_rtt_tsopt_us(sk: tcp_sock) -> int:
    """RTT by the echoed timestamp, us; -1 when implausible."""
    delta = (sk.tcp_mstamp // NSEC_PER_MSEC - sk.rx_opt.rcv_tsecr) & M32
    if delta < 0x7FFFFFFF // 1000:
        return (delta or 1) * 1000
    return -1


def tcp_ack_update_rtt(
    sk: tcp_sock, flag: int, seq_rtt_us: int, sack_rtt_us: int, ca_rtt_us: int
) -> bool:
    """Take one sample; Karn's rule: from packets never retransmitted, or from timestamps."""
    if seq_rtt_us < 0:
        seq_rtt_us = sack_rtt_us
    rx_opt = sk.rx_opt
    if seq_rtt_us < 0 and rx_opt.saw_tstamp and rx_opt.rcv_tsecr and flag & FLAG_ACKED:
        seq_rtt_us = ca_rtt_us = tcp_rtt_tsopt_us(sk)
    if seq_rtt_us < 0:
        return False
    tcp_update_rtt_min(sk, ca_rtt_us, flag)
    tcp_rtt_estimator(sk, seq_rtt_us)
    tcp_set_rto(sk)
    sk.icsk_backoff = 0
    return True


def tcp_synack_rtt_meas(sk: tcp_sock, req: request_sock | None) -> None:
    """RTT of SYN-ACK and ACK, if the SYN-ACK was sent once."""
    rtt_us = -1
    if req is not None and not req.num_retrans and req.snt_synack:
        rtt_us = (sk.tcp_mstamp - req.snt_synack) // 1000
    tcp_ack_update_rtt(sk, FLAG_SYN_ACKED, rtt_us, -1, rtt_us)
