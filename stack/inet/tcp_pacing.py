"""net/ipv4/tcp_output.c: pacing: how long a packet delays the next one.

A connection is paced if its interface has the discipline fq, or if its socket has
SO_MAX_PACING_RATE. The rate is a share of the window per round trip (tcp_pacing_rate). fq holds a
packet until its time (`tx_tstamp_ns`). Without fq the socket holds it, and a timer
sends it (tcp_timer.py, tcp_pace_kick).
"""

from __future__ import annotations

from stack.core.time64 import NSEC_PER_SEC
from stack.core.timer import mod_timer, timer_list
from stack.inet.tcp_sock import tcp_sock

PACING_SHIFT = 10  # sk_pacing_shift: about 1 ms of data in one super-packet
RATE_UNIT = 80_000  # from percent, and eighths of a microsecond, to bytes a second


def tcp_tso_autosize(sk: tcp_sock, mss_now: int, max_segs: int) -> int:
    """Segments to send at once: about a millisecond's worth of the rate, at most `max_segs`.

    A nearby peer gets more, up to the device's limit: there bursts cost little, and small
    packets cost much (sysctl tcp_tso_rtt_log).
    """
    sysctl = sk.net.sysctl
    log: int = sysctl.tcp_tso_rtt_log
    near = sk.min_rtt_us >> min(log, 32)
    if not near and not sk.sk_pacing_status:
        return max_segs
    room = tcp_pacing_rate(sk) >> PACING_SHIFT
    if near < 32:
        room += sk.sk_gso_max_size >> near
    segs = room // mss_now
    least: int = sysctl.tcp_min_tso_segs
    if segs < least:
        segs = least
    return segs if segs < max_segs else max_segs


def tcp_pacing_rate(sk: tcp_sock) -> int:
    """tcp_update_pacing_rate: bytes a second, a multiple of the window per round trip.

    The factor is tcp_pacing_ss_ratio, above half of ssthresh tcp_pacing_ca_ratio; the rate is at
    most SO_MAX_PACING_RATE.
    """
    limit = sk.sk_pacing_rate
    srtt_us = sk.srtt_us
    if not srtt_us:
        return limit
    sysctl = sk.net.sysctl
    percent: int = sysctl.tcp_pacing_ca_ratio
    if sk.snd_cwnd < sk.snd_ssthresh // 2:
        percent = sysctl.tcp_pacing_ss_ratio
    packets = max(sk.snd_cwnd, sk.packets_out)
    rate = sk.mss_cache * packets * percent * RATE_UNIT // srtt_us
    return min(rate, limit)


def tcp_pacing_check(sk: tcp_sock) -> bool:
    """True when pacing forbids sending now; then the timer is armed."""
    if sk.pacing_next_ns <= sk.net.clock.now_ns():
        return False
    if not tcp_pacing_armed(sk):
        timer = sk.pacing_timer
        if timer is None:
            handlers = sk.icsk_handlers
            if handlers is None:
                return True
            timer = sk.pacing_timer = timer_list(sk.net.machine, handlers.pacing, 0, sk)
        mod_timer(timer, sk.pacing_next_ns)
    return True


def tcp_pacing_armed(sk: tcp_sock) -> bool:
    """Whether the pacing timer is pending."""
    return sk.pacing_timer is not None and sk.pacing_timer.pending


def tcp_update_skb_after_send(sk: tcp_sock, sent_bytes: int) -> None:
    """Delay the next packet by the time to send `sent_bytes` of payload at the rate.

    An idle time before them shortens the delay by up to half. The first ten segments delay nothing.
    """
    if sk.data_segs_out < 10:
        return
    now = sk.net.clock.now_ns()
    length_ns = sent_bytes * NSEC_PER_SEC // max(tcp_pacing_rate(sk), 1)
    credit = now - sk.pacing_next_ns
    if credit > 0:
        length_ns -= min(length_ns // 2, credit)
    sk.pacing_next_ns = max(now, sk.pacing_next_ns) + length_ns
