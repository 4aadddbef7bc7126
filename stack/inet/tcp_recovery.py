"""net/ipv4/tcp_recovery.c: which packets are lost: RACK (RFC 8985) with SACK, NewReno without.

The functions that mark packets lost (tcp_input.c) are here too; they change `lost_out` and
`retrans_out`. Times are ns; those named `_us` are us.
"""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff
from stack.inet.inet_connection_sock import ICSK_TIME_REO_TIMEOUT, inet_csk_reset_xmit_timer
from stack.inet.tcp_const import TCP_TIMEOUT_MIN
from stack.inet.tcp_output import TCP_FRAG_IN_RTX_QUEUE, tcp_fragment
from stack.inet.tcp_sock import (
    M32,
    TCPCB_EVER_RETRANS,
    TCPCB_LOST,
    TCPCB_RETRANS,
    TCPCB_SACKED_ACKED,
    TCPCB_SACKED_RETRANS,
    TCP_CA_Recovery,
    after,
    before,
    tcp_sock,
    tcp_stamp_us_delta,
)

TCP_RACK_RECOVERY_THRESH = 16

# sysctl tcp_recovery
TCP_RACK_STATIC_REO_WND = 2
TCP_RACK_NO_DUPTHRESH = 4


def tcp_mark_skb_lost(sk: tcp_sock, skb: sk_buff) -> None:
    """net/ipv4/tcp_input.c: mark skb lost and move it to the retransmit queue's lost list.

    If it was marked and retransmitted before, its retransmission is lost too.
    """
    sacked = skb.sacked
    if sacked & TCPCB_SACKED_ACKED:
        return
    pcount = skb.tcp_gso_segs
    if sacked & TCPCB_LOST:
        if sacked & TCPCB_SACKED_RETRANS:
            skb.sacked = sacked & ~TCPCB_SACKED_RETRANS
            sk.retrans_out -= pcount
            sk.net.mib.linux.TCPLostRetransmit += pcount
            sk.lost += pcount
    else:
        sk.lost_out += pcount
        skb.sacked = sacked | TCPCB_LOST
        sk.lost += pcount
    sk.tcp_rtx_queue.lose(skb)


def tcp_skb_sent_after(t1: int, t2: int, seq1: int, seq2: int) -> bool:
    """include/net/tcp.h: whether 1 was sent after 2; for equal times, by the higher end."""
    return t1 > t2 or (t1 == t2 and after(seq1, seq2))


def tcp_rack_reo_wnd(sk: tcp_sock) -> int:
    """How much reordering to allow for, ns."""
    if not sk.reord_seen:
        if sk.icsk_ca_state >= TCP_CA_Recovery:
            return 0
        no_dupthresh = sk.net.sysctl.tcp_recovery & TCP_RACK_NO_DUPTHRESH
        if sk.sacked_out >= sk.reordering and not no_dupthresh:
            return 0
    return min((sk.min_rtt_us >> 2) * sk.rack_reo_wnd_steps, sk.srtt_us >> 3) * 1000


def tcp_rack_skb_timeout(sk: tcp_sock, skb: sk_buff, reo_wnd: int) -> int:
    """ns until skb counts as lost; <= 0 now.

    Its age is rounded as rack_rtt_us is, or packets of the same burst would seem younger.
    """
    age_us = tcp_stamp_us_delta(sk.tcp_mstamp, skb.tx_tstamp_ns)
    return (sk.rack_rtt_us - age_us) * 1000 + reo_wnd


def tcp_rack_detect_loss(sk: tcp_sock) -> int:
    """Mark packets lost that were sent long enough before one that arrived (RFC 8985 6.2).

    Returns the ns until the next packet can be marked, 0 when there is none.
    Only the sent list is walked, oldest first. The cursor passes a packet once per transmission, so
    the work of an ACK does not grow with the packets in flight.
    """
    queue = sk.tcp_rtx_queue
    mstamp = sk.rack_mstamp
    end_seq = sk.rack_end_seq
    while (skb := queue.sent_ahead) is not None and tcp_skb_sent_after(
        mstamp, skb.tx_tstamp_ns, end_seq, skb.end_seq
    ):
        queue.sent_pass()
    reo_wnd = tcp_rack_reo_wnd(sk)
    while (newest := queue.sent_passed) is not None:
        skb = queue.sent_first
        assert skb is not None
        if tcp_rack_skb_timeout(sk, skb, reo_wnd) > 0:
            return tcp_rack_skb_timeout(sk, newest, reo_wnd)
        tcp_mark_skb_lost(sk, skb)
    return 0


def tcp_rack_mark_lost(sk: tcp_sock) -> bool:
    """After an ACK: detect losses; True when the reorder timer was armed."""
    if not sk.rack_advanced:
        return False
    sk.rack_advanced = False
    timeout = tcp_rack_detect_loss(sk)
    if timeout:
        inet_csk_reset_xmit_timer(sk, ICSK_TIME_REO_TIMEOUT, timeout + TCP_TIMEOUT_MIN, sk.icsk_rto)
    return timeout > 0


def tcp_rate_skb_delivered(sk: tcp_sock, skb: sk_buff) -> None:
    """net/ipv4/tcp_rate.c: skb was delivered; the ACK's sample is from the last packet sent."""
    if not skb.tx_delivered_mstamp_ns:
        return
    sent = skb.tx_tstamp_ns
    if not sk.rs_prior_mstamp or tcp_skb_sent_after(
        sent, sk.first_tx_mstamp, skb.end_seq, sk.rs_last_end_seq
    ):
        sk.rs_prior_mstamp = skb.tx_delivered_mstamp_ns
        sk.rs_prior_delivered = skb.tx_delivered
        sk.rs_interval_ns = sent - skb.tx_first_tx_mstamp_ns
        sk.rs_last_end_seq = skb.end_seq
        sk.rs_is_app_limited = skb.tx_is_app_limited != 0
        sk.first_tx_mstamp = sent
    skb.tx_delivered_mstamp_ns = 0


def tcp_rate_gen(sk: tcp_sock) -> None:
    """net/ipv4/tcp_rate.c: compute the delivery rate from the sample of an ACK, if it has one."""
    sk.delivered_mstamp = sk.tcp_mstamp
    if sk.app_limited and after(sk.delivered & M32, sk.app_limited & M32):
        sk.app_limited = 0
    if not sk.rs_prior_mstamp:
        return
    prior, sk.rs_prior_mstamp = sk.rs_prior_mstamp, 0
    delivered = (sk.delivered - sk.rs_prior_delivered) & M32
    interval_us = max(sk.rs_interval_ns, sk.tcp_mstamp - prior) // 1000
    if interval_us < sk.min_rtt_us:
        return  # compressed: no path delivers so fast
    if (
        not sk.rs_is_app_limited
        or delivered * sk.rate_interval_us >= sk.rate_delivered * interval_us
    ):
        sk.rate_delivered = delivered
        sk.rate_interval_us = interval_us
        sk.rate_app_limited = sk.rs_is_app_limited


def tcp_rack_advance(sk: tcp_sock, sacked: int, end_seq: int, xmit_time: int) -> None:
    """A packet sent at xmit_time was delivered."""
    rtt_us = tcp_stamp_us_delta(sk.tcp_mstamp, xmit_time)
    if rtt_us < sk.min_rtt_us and sacked & TCPCB_RETRANS:
        # An ACK this early is for the original, so it does not show the order of sending.
        return
    sk.rack_advanced = True
    sk.rack_rtt_us = rtt_us
    if tcp_skb_sent_after(xmit_time, sk.rack_mstamp, end_seq, sk.rack_end_seq):
        sk.rack_mstamp = xmit_time
        sk.rack_end_seq = end_seq


def tcp_rack_update_reo_wnd(sk: tcp_sock) -> None:
    """DSACKs widen the reordering window, once a round trip; 16 recoveries without one reset it.

    A round trip is over when a packet is delivered that was sent after the last widening.
    """
    if sk.rack_dsack_seen:
        if not sk.rs_prior_mstamp or sk.net.sysctl.tcp_recovery & TCP_RACK_STATIC_REO_WND:
            return
        sk.rack_dsack_seen = False
        if not before(sk.rs_prior_delivered, sk.rack_last_delivered & M32):
            sk.rack_reo_wnd_steps = min(255, sk.rack_reo_wnd_steps + 1)
            sk.rack_last_delivered = sk.delivered
            sk.rack_reo_wnd_persist = TCP_RACK_RECOVERY_THRESH
            return
    if not sk.rack_reo_wnd_persist:
        sk.rack_reo_wnd_steps = 1


def tcp_newreno_mark_lost(sk: tcp_sock, snd_una_advanced: int) -> None:
    """Without SACK: the head after 3 duplicate ACKs, and after each partial ACK (RFC 6582)."""
    state = sk.icsk_ca_state
    if (state < TCP_CA_Recovery and sk.sacked_out >= sk.reordering) or (
        state == TCP_CA_Recovery and snd_una_advanced
    ):
        skb = sk.tcp_rtx_queue.peek()
        if skb is None or skb.sacked & TCPCB_LOST:
            return
        mss = skb.tcp_gso_size
        if skb.tcp_gso_segs > 1 and skb.len > mss:
            tcp_fragment(sk, TCP_FRAG_IN_RTX_QUEUE, skb, mss, mss)
        tcp_mark_skb_lost(sk, skb)


def tcp_skb_seglen(skb: sk_buff) -> int:
    """include/net/tcp.h: bytes of the first segment of skb."""
    return skb.len if skb.tcp_gso_segs == 1 else skb.tcp_gso_size


def tcp_any_retrans_done(sk: tcp_sock) -> bool:
    """net/ipv4/tcp_input.c: something outstanding was retransmitted."""
    if sk.retrans_out:
        return True
    skb = sk.tcp_rtx_queue.peek()
    return skb is not None and bool(skb.sacked & TCPCB_EVER_RETRANS)


def tcp_highest_sack_seq(sk: tcp_sock) -> int:
    """include/net/tcp.h: end of the highest SACKed data; SND.UNA when nothing is SACKed."""
    return sk.highest_sack_end if sk.sacked_out else sk.snd_una


def tcp_check_sack_reordering(sk: tcp_sock, low_seq: int, ts: int) -> None:
    """net/ipv4/tcp_input.c: data below the highest SACK arrived late: learn the distance."""
    fack = tcp_highest_sack_seq(sk)
    if not before(low_seq, fack):
        return
    metric = (fack - low_seq) & M32
    mss = sk.mss_cache
    if mss and metric > sk.reordering * mss:
        sk.reordering = min((metric + mss - 1) // mss, sk.net.sysctl.tcp_max_reordering)
    sk.reord_seen += 1
    linux = sk.net.mib.linux
    if ts:
        linux.TCPTSReorder += 1
    else:
        linux.TCPSACKReorder += 1
