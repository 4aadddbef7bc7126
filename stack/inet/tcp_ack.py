"""net/ipv4/tcp_input.c, the sender side: acknowledgments, round-trip times, loss recovery.

Recovery follows the kernel's states Open, Disorder, CWR, Recovery and Loss. The window is reduced
by proportional rate reduction (RFC 6937). Unneeded reductions are undone (F-RTO RFC 5682,
Eifel RFC 3522, DSACK RFC 3708).
"""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff
from stack.core import drop_reason
from stack.core.tcp_states import TCP_SYN_SENT
from stack.core.time64 import NSEC_PER_MSEC, NSEC_PER_SEC
from stack.core.tstamp import __skb_tstamp_tx
from stack.core.uapi import SCM_TSTAMP_ACK
from stack.inet.inet_connection_sock import (
    ICSK_TIME_PROBE0,
    ICSK_TIME_RETRANS,
    inet_csk_clear_xmit_timer,
)
from stack.inet.tcp_accecn import tcp_accecn_process
from stack.inet.tcp_challenge import tcp_send_challenge_ack
from stack.inet.tcp_cong import (
    tcp_ca_event,
    tcp_current_ssthresh,
    tcp_cwnd_reduction,
    tcp_end_cwnd_reduction,
    tcp_init_cwnd_reduction,
    tcp_set_ca_state,
)
from stack.inet.tcp_ctl import tcp_clamp_probe0_to_user_timeout
from stack.inet.tcp_ecn import tcp_ecn_queue_cwr, tcp_ecn_rcv_ecn_echo
from stack.inet.tcp_output import (
    __tcp_push_pending_frames,
    tcp_probe0_when,
    tcp_rearm_rto,
    tcp_reset_xmit_timer,
    tcp_schedule_loss_probe,
    tcp_slow_start_after_idle_check,
    tcp_trim_head,
    tcp_wmem_free_skb,
)
from stack.inet.tcp_recovery import (
    tcp_check_sack_reordering,
    tcp_highest_sack_seq,
    tcp_mark_skb_lost,
    tcp_newreno_mark_lost,
    tcp_rack_advance,
    tcp_rack_detect_loss,
    tcp_rack_mark_lost,
    tcp_rack_skb_timeout,
    tcp_rack_update_reo_wnd,
    tcp_rate_gen,
    tcp_rate_skb_delivered,
    tcp_skb_seglen,
)
from stack.inet.tcp_retransmit import tcp_xmit_retransmit_queue
from stack.inet.tcp_rtt import tcp_ack_update_rtt
from stack.inet.tcp_sack import tcp_sacktag_state, tcp_sacktag_write_queue
from stack.inet.tcp_sock import (
    CA_EVENT_LOSS,
    FLAG_ACK_MAYBE_DELAYED,
    FLAG_ACKED,
    FLAG_CA_ALERT,
    FLAG_DATA,
    FLAG_DATA_ACKED,
    FLAG_DATA_SACKED,
    FLAG_DSACK_TLP,
    FLAG_DSACKING_ACK,
    FLAG_ECE,
    FLAG_FORWARD_PROGRESS,
    FLAG_LOST_RETRANS,
    FLAG_NO_CHALLENGE_ACK,
    FLAG_NOT_DUP,
    FLAG_ORIG_SACK_ACKED,
    FLAG_RETRANS_DATA_ACKED,
    FLAG_SACK_RENEGING,
    FLAG_SET_XMIT_TIMER,
    FLAG_SLOWPATH,
    FLAG_SND_UNA_ADVANCED,
    FLAG_SYN_ACKED,
    FLAG_TS_PROGRESS,
    FLAG_UPDATE_TS_RECENT,
    FLAG_WIN_UPDATE,
    M32,
    TCP_CA_CWR,
    TCP_CHRONO_BUSY,
    TCP_ECN_MODE_ACCECN,
    TCP_ECN_MODE_RFC3168,
    TCP_NAGLE_OFF,
    TCPCB_LOST,
    TCPCB_RETRANS,
    TCPCB_SACKED_ACKED,
    TCPCB_SACKED_RETRANS,
    TCPHDR_SYN,
    TCP_CA_Disorder,
    TCP_CA_Loss,
    TCP_CA_Open,
    TCP_CA_Recovery,
    after,
    before,
    between,
    tcp_chrono_stop,
    tcp_fast_path_check,
    tcp_fast_path_on,
    tcp_in_cwnd_reduction,
    tcp_packets_in_flight,
    tcp_paws_check,
    tcp_sock,
    tcp_stamp_us_delta,
    tcp_wnd_end,
)
from stack.inet.tcp_undo import (
    tcp_init_undo,
    tcp_try_keep_open,
    tcp_try_to_open,
    tcp_try_undo_dsack,
    tcp_try_undo_loss,
    tcp_try_undo_partial,
    tcp_try_undo_recovery,
)
from stack.inet.tcp_window import tcp_current_mss, tcp_mss_to_mtu, tcp_sync_mss

REXMIT_NONE = 0
REXMIT_LOST = 1
REXMIT_NEW = 2


# --- duplicate ACKs without SACK ----------------------------------------------------------


def tcp_limit_reno_sacked(sk: tcp_sock) -> bool:
    """Bound sacked_out by packets_out; True if it was too high, a sign of reordering."""
    holes = min(max(sk.lost_out, 1), sk.packets_out)
    if sk.sacked_out + holes > sk.packets_out:
        sk.sacked_out = sk.packets_out - holes
        return True
    return False


def tcp_check_reno_reordering(sk: tcp_sock, addend: int) -> None:
    if not tcp_limit_reno_sacked(sk):
        return
    sk.reordering = min(sk.packets_out + addend, sk.net.sysctl.tcp_max_reordering)
    sk.reord_seen += 1
    sk.net.mib.linux.TCPRenoReorder += 1


def tcp_add_reno_sack(sk: tcp_sock, num_dupack: int) -> None:
    """Duplicate ACKs: as many more segments have left the network."""
    if num_dupack:
        prior_sacked = sk.sacked_out
        sk.sacked_out += num_dupack
        tcp_check_reno_reordering(sk, 0)
        sk.delivered += max(sk.sacked_out - prior_sacked, 0)


def tcp_remove_reno_sacks(sk: tcp_sock, acked: int) -> None:
    """SND.UNA advanced over `acked` segments: one filled the hole, the others were counted."""
    if acked > 0:
        sk.delivered += max(acked - sk.sacked_out, 1)
        if acked - 1 >= sk.sacked_out:
            sk.sacked_out = 0
        else:
            sk.sacked_out -= acked - 1
    tcp_check_reno_reordering(sk, acked)


# --- the states ---------------------------------------------------------------------------


def tcp_enter_recovery(sk: tcp_sock, ece_ack: bool) -> None:
    """Fast recovery begins."""
    linux = sk.net.mib.linux
    if sk.rx_opt.sack_ok:
        linux.TCPSackRecovery += 1
    else:
        linux.TCPRenoRecovery += 1
    sk.prior_ssthresh = 0
    tcp_init_undo(sk)
    if not tcp_in_cwnd_reduction(sk):
        if not ece_ack:
            sk.prior_ssthresh = tcp_current_ssthresh(sk)
        tcp_init_cwnd_reduction(sk)
    tcp_set_ca_state(sk, TCP_CA_Recovery)


def tcp_timeout_mark_lost(sk: tcp_sock) -> None:
    """After an RTO mark all packets lost, but not those too recent for RACK, which needs SACK."""
    head = sk.tcp_rtx_queue.peek()
    is_reneg = head is not None and bool(head.sacked & TCPCB_SACKED_ACKED)
    if is_reneg:
        sk.net.mib.linux.TCPSACKReneging += 1
        sk.sacked_out = sk.sacked_bytes = 0
        sk.sacked_ranges.clear()
    elif not sk.rx_opt.sack_ok:
        sk.sacked_out = 0
    for skb in sk.tcp_rtx_queue:
        if is_reneg:
            skb.sacked &= ~TCPCB_SACKED_ACKED
        elif skb is not head and tcp_rack_skb_timeout(sk, skb, 0) > 0:
            continue
        tcp_mark_skb_lost(sk, skb)


def tcp_enter_loss(sk: tcp_sock) -> None:
    """The RTO expired: set the window to one segment and start slow start (RFC 5681 3.1)."""
    new_recovery = sk.icsk_ca_state < TCP_CA_Recovery
    tcp_timeout_mark_lost(sk)
    if (
        sk.icsk_ca_state <= TCP_CA_Disorder
        or not after(sk.high_seq, sk.snd_una)
        or (sk.icsk_ca_state == TCP_CA_Loss and not sk.icsk_retransmits)
    ):
        sk.prior_ssthresh = tcp_current_ssthresh(sk)
        sk.prior_cwnd = sk.snd_cwnd
        sk.snd_ssthresh = sk.icsk_ca_ops.ssthresh(sk)
        tcp_ca_event(sk, CA_EVENT_LOSS)
        tcp_init_undo(sk)
    sk.snd_cwnd = tcp_packets_in_flight(sk) + 1
    sk.snd_cwnd_cnt = 0
    sk.snd_cwnd_stamp = sk.net.clock.now_ns()
    reordering = sk.net.sysctl.tcp_reordering
    if sk.icsk_ca_state <= TCP_CA_Disorder and sk.sacked_out >= reordering:
        sk.reordering = min(sk.reordering, reordering)
    tcp_set_ca_state(sk, TCP_CA_Loss)
    sk.high_seq = sk.snd_nxt
    sk.tlp_high_seq = 0
    tcp_ecn_queue_cwr(sk)
    # F-RTO (RFC 5682 3.1 step 1): not within another recovery, unless an RTO began it, and not when
    # a probe of the path MTU may be what was lost.
    sk.frto = bool(
        sk.net.sysctl.tcp_frto and (new_recovery or sk.icsk_retransmits) and not sk.mtup_probe_size
    )


def tcp_process_loss(sk: tcp_sock, flag: int, num_dupack: int) -> int:
    """An ACK in Loss; returns REXMIT_*."""
    recovered = not before(sk.snd_una, sk.high_seq)
    # The ACK of a Fast Open child's SYN-ACK advances nothing: SND.UNA is behind the SYN already.
    answered = flag & FLAG_SND_UNA_ADVANCED or sk.fastopen_rsk is not None
    if answered and tcp_try_undo_loss(sk, False):
        return REXMIT_NONE
    if sk.frto:
        # Step 3b: something never retransmitted was delivered, so the RTO was spurious.
        if flag & FLAG_ORIG_SACK_ACKED and tcp_try_undo_loss(sk, True):
            return REXMIT_NONE
        if after(sk.snd_nxt, sk.high_seq):
            if flag & FLAG_DATA_SACKED or num_dupack:
                sk.frto = False
        elif flag & FLAG_SND_UNA_ADVANCED and not recovered:
            sk.high_seq = sk.snd_nxt
            # Step 2b: send new data and wait for its ACK.
            if sk.sk_write_queue.qlen and after(tcp_wnd_end(sk), sk.snd_nxt):
                return REXMIT_NEW
            sk.frto = False
    if recovered:
        tcp_try_undo_recovery(sk)
        return REXMIT_NONE
    if not sk.rx_opt.sack_ok:
        if after(sk.snd_nxt, sk.high_seq) and num_dupack:
            tcp_add_reno_sack(sk, num_dupack)
        elif flag & FLAG_SND_UNA_ADVANCED:
            sk.sacked_out = 0
    return REXMIT_LOST


def tcp_check_sack_reneging(sk: tcp_sock, flag: int) -> bool:
    """If the peer reneged (the new head is SACKed, yet not acknowledged), retransmit soon."""
    if not flag & FLAG_SACK_RENEGING or not flag & FLAG_SND_UNA_ADVANCED:
        return False
    delay = max((sk.srtt_us >> 4) * 1000, 10 * NSEC_PER_MSEC)
    tcp_reset_xmit_timer(sk, ICSK_TIME_RETRANS, delay)
    return True


def tcp_identify_packet_loss(sk: tcp_sock, flag: int) -> int:
    """Mark lost packets; returns `flag` with the bits that follow from them."""
    if not sk.tcp_rtx_queue.qlen:
        return flag
    if not sk.rx_opt.sack_ok:
        tcp_newreno_mark_lost(sk, flag & FLAG_SND_UNA_ADVANCED)
    else:
        prior_retrans = sk.retrans_out
        if tcp_rack_mark_lost(sk):
            flag &= ~FLAG_SET_XMIT_TIMER
        if prior_retrans > sk.retrans_out:
            flag |= FLAG_LOST_RETRANS
    return flag


def tcp_update_rto_time(sk: tcp_sock) -> None:
    """The recovery that a timeout began is over: count its time."""
    if sk.rto_recovery_start:
        sk.total_rto_time += sk.tcp_mstamp - sk.rto_recovery_start
        sk.rto_recovery_start = 0


def tcp_fastretrans_alert(
    sk: tcp_sock, prior_snd_una: int, num_dupack: int, ack_flag: int
) -> tuple[int, int]:
    """A dubious ACK: walk the state machine. Returns (flags, REXMIT_*)."""
    flag = ack_flag
    if not sk.packets_out and sk.sacked_out:
        sk.sacked_out = 0
    if flag & FLAG_ECE:
        sk.prior_ssthresh = 0  # certain congestion: nothing to undo
    if tcp_check_sack_reneging(sk, flag):
        return ack_flag & ~FLAG_SET_XMIT_TIMER, REXMIT_NONE
    state = sk.icsk_ca_state
    if state == TCP_CA_Open:
        sk.retrans_stamp = 0
    elif not before(sk.snd_una, sk.high_seq):
        if state == TCP_CA_CWR:
            # CWR lasts until something above high_seq is acknowledged.
            if sk.snd_una != sk.high_seq:
                tcp_end_cwnd_reduction(sk)
                tcp_set_ca_state(sk, TCP_CA_Open)
        elif state == TCP_CA_Recovery:
            if not sk.rx_opt.sack_ok:
                sk.sacked_out = 0
            if tcp_try_undo_recovery(sk):
                return ack_flag, REXMIT_NONE
            tcp_end_cwnd_reduction(sk)
    state = sk.icsk_ca_state
    if state == TCP_CA_Recovery:
        if not flag & FLAG_SND_UNA_ADVANCED:
            if not sk.rx_opt.sack_ok:
                tcp_add_reno_sack(sk, num_dupack)
        elif tcp_try_undo_partial(sk, prior_snd_una):
            return ack_flag, REXMIT_NONE
        if tcp_try_undo_dsack(sk):
            tcp_try_to_open(sk, flag)
        ack_flag = tcp_identify_packet_loss(sk, ack_flag)
        if sk.icsk_ca_state != TCP_CA_Recovery:
            if not sk.lost_out:
                return ack_flag, REXMIT_NONE
            tcp_enter_recovery(sk, bool(flag & FLAG_ECE))
        return ack_flag, REXMIT_LOST
    rexmit = REXMIT_NONE
    if state == TCP_CA_Loss:
        rexmit = tcp_process_loss(sk, flag, num_dupack)
        if sk.icsk_ca_state != TCP_CA_Loss:
            tcp_update_rto_time(sk)
        ack_flag = tcp_identify_packet_loss(sk, ack_flag)
        if not (sk.icsk_ca_state == TCP_CA_Open or ack_flag & FLAG_LOST_RETRANS):
            return ack_flag, rexmit
        # Open again by undo, or a retransmission was lost: continue as in Open.
    if not sk.rx_opt.sack_ok:
        if flag & FLAG_SND_UNA_ADVANCED:
            sk.sacked_out = 0
        tcp_add_reno_sack(sk, num_dupack)
    if sk.icsk_ca_state <= TCP_CA_Disorder:
        tcp_try_undo_dsack(sk)
    ack_flag = tcp_identify_packet_loss(sk, ack_flag)
    if not sk.lost_out:
        tcp_try_to_open(sk, flag)
        return ack_flag, rexmit
    if (
        sk.mtup_probe_size
        and sk.icsk_ca_state < TCP_CA_CWR
        and sk.snd_una == sk.mtu_probe_seq_start
    ):
        tcp_mtup_probe_failed(sk)
        sk.snd_cwnd += 1  # tcp_mtu_probe had subtracted one
        tcp_simple_retransmit(sk)
        return ack_flag, rexmit
    tcp_enter_recovery(sk, bool(flag & FLAG_ECE))
    return ack_flag, REXMIT_LOST


def tcp_rack_reo_timeout(sk: tcp_sock) -> None:
    """net/ipv4/tcp_recovery.c: the reordering window expired: mark missing packets lost."""
    prior_inflight = tcp_packets_in_flight(sk)
    lost = sk.lost
    tcp_rack_detect_loss(sk)
    if prior_inflight != tcp_packets_in_flight(sk):
        if sk.icsk_ca_state != TCP_CA_Recovery:
            tcp_enter_recovery(sk, False)
            if sk.icsk_ca_ops.cong_control is None:
                tcp_cwnd_reduction(sk, 1, sk.lost - lost, 0)
        tcp_xmit_retransmit_queue(sk)
    if sk.icsk_pending != ICSK_TIME_RETRANS:
        tcp_rearm_rto(sk)


def tcp_process_tlp_ack(sk: tcp_sock, ack: int, flag: int) -> None:
    """RFC 8985 7.4: determine whether the probe repaired a loss or was a duplicate."""
    if before(ack, sk.tlp_high_seq):
        return
    if not sk.tlp_retrans or flag & FLAG_DSACK_TLP:
        sk.tlp_high_seq = 0
    elif after(ack, sk.tlp_high_seq):
        # The probe repaired a loss that nothing else detected: reduce the window for it.
        tcp_init_cwnd_reduction(sk)
        tcp_set_ca_state(sk, TCP_CA_CWR)
        tcp_end_cwnd_reduction(sk)
        tcp_try_keep_open(sk)
        sk.net.mib.linux.TCPLossProbeRecovery += 1
    elif not flag & (FLAG_SND_UNA_ADVANCED | FLAG_NOT_DUP | FLAG_DATA_SACKED):
        sk.tlp_high_seq = 0


def tcp_mtup_probe_failed(sk: tcp_sock) -> None:
    """Only the probe was lost: the path MTU is smaller (RFC 4821 7.6.2)."""
    sk.mtup_search_high = sk.mtup_probe_size - 1
    sk.mtup_probe_size = 0
    sk.net.mib.linux.TCPMTUPFail += 1


def tcp_mtup_probe_success(sk: tcp_sock) -> None:
    """The probe arrived: the MSS grows, and the window keeps its bytes (RFC 4821 7.6.1)."""
    sk.prior_ssthresh = tcp_current_ssthresh(sk)
    window = sk.snd_cwnd * tcp_mss_to_mtu(sk, sk.mss_cache)
    sk.snd_cwnd = max(window // sk.mtup_probe_size, 1)
    sk.snd_cwnd_cnt = 0
    sk.snd_cwnd_stamp = sk.tcp_mstamp
    sk.snd_ssthresh = tcp_current_ssthresh(sk)
    sk.mtup_search_low = sk.mtup_probe_size
    sk.mtup_probe_size = 0
    tcp_sync_mss(sk, sk.icsk_pmtu_cookie)
    sk.net.mib.linux.TCPMTUPSuccess += 1


def tcp_simple_retransmit(sk: tcp_sock) -> None:
    """The path MTU shrank: mark packets above it lost; the window is not reduced."""
    # Both parts of a SYN with data are marked, whatever their size.
    mss = -1 if sk.syn_data and sk.sk_state == TCP_SYN_SENT else tcp_current_mss(sk)
    for skb in sk.tcp_rtx_queue:
        if tcp_skb_seglen(skb) > mss:
            tcp_mark_skb_lost(sk, skb)
    if not sk.lost_out:
        return
    if not sk.rx_opt.sack_ok:
        tcp_limit_reno_sacked(sk)
    tcp_non_congestion_loss_retransmit(sk)


def tcp_non_congestion_loss_retransmit(sk: tcp_sock) -> None:
    """Retransmit what was lost for another reason than congestion: the window stays."""
    if sk.icsk_ca_state != TCP_CA_Loss:
        sk.high_seq = sk.snd_nxt
        sk.snd_ssthresh = tcp_current_ssthresh(sk)
        sk.prior_ssthresh = 0
        sk.undo_marker = 0
        tcp_set_ca_state(sk, TCP_CA_Loss)
    tcp_xmit_retransmit_queue(sk)


# --- the ACK itself -----------------------------------------------------------------------


def tcp_tso_acked(sk: tcp_sock, skb: sk_buff) -> int:
    """Cut the acknowledged part off a super-packet; returns the number of its segments."""
    packets_acked = skb.tcp_gso_segs
    if tcp_trim_head(sk, skb, (sk.snd_una - skb.seq) & M32):
        return 0
    return packets_acked - skb.tcp_gso_segs


def tcp_ack_tstamp(sk: tcp_sock, skb: sk_buff, ack_skb: sk_buff, prior_snd_una: int) -> None:
    """SCM_TSTAMP_ACK, if the byte to time-stamp was just acknowledged."""
    if not before(skb.tskey, prior_snd_una) and before(skb.tskey, sk.snd_una):
        __skb_tstamp_tx(skb, ack_skb, sk, SCM_TSTAMP_ACK)


def tcp_clean_rtx_queue(
    sk: tcp_sock,
    skb_ack: sk_buff,
    prior_fack: int,
    prior_snd_una: int,
    sack: tcp_sacktag_state | None,
) -> int:
    """Free acknowledged packets and take RTT samples of them; returns FLAG_* bits."""
    queue = sk.tcp_rtx_queue
    snd_una = sk.snd_una
    now = sk.tcp_mstamp
    is_sack = sk.rx_opt.sack_ok
    prior_sacked = sk.sacked_out
    reord = sk.snd_nxt
    high_seq = sk.high_seq
    first_ackt = last_ackt = 0
    stamped = False
    fully_acked = True
    pkts_acked = 0
    flag = 0
    while (skb := queue.peek()) is not None:
        end_seq = skb.end_seq
        start = skb.seq
        sacked = skb.sacked
        acked_pcount = skb.tcp_gso_segs
        if after(end_seq, snd_una):
            if acked_pcount == 1 or not after(snd_una, start):
                break
            acked_pcount = tcp_tso_acked(sk, skb)
            if not acked_pcount:
                break
            fully_acked = False
        if sacked & TCPCB_RETRANS:
            if sacked & TCPCB_SACKED_RETRANS:
                sk.retrans_out -= acked_pcount
            flag |= FLAG_RETRANS_DATA_ACKED
        elif not sacked & TCPCB_SACKED_ACKED:
            last_ackt = skb.tx_tstamp_ns
            if not stamped:
                first_ackt = last_ackt
                stamped = True
            if before(start, reord):
                reord = start
            if not after(end_seq, high_seq):
                flag |= FLAG_ORIG_SACK_ACKED
        if sacked & TCPCB_SACKED_ACKED:
            sk.sacked_out -= acked_pcount
            sk.sacked_bytes -= ((end_seq if fully_acked else snd_una) - start) & M32
        elif is_sack:
            sk.delivered += acked_pcount
            if not sacked & TCPCB_RETRANS or not tcp_skb_spurious_retrans(sk, skb):
                tcp_rack_advance(sk, sacked, end_seq, skb.tx_tstamp_ns)
        if sacked & TCPCB_LOST:
            sk.lost_out -= acked_pcount
        sk.packets_out -= acked_pcount
        pkts_acked += acked_pcount
        tcp_rate_skb_delivered(sk, skb)
        if skb.tcp_flags & TCPHDR_SYN:
            flag |= FLAG_SYN_ACKED
            sk.retrans_stamp = 0
        else:
            flag |= FLAG_DATA_ACKED
        if not fully_acked:
            break
        if skb.txstamp_ack:
            tcp_ack_tstamp(sk, skb, skb_ack, prior_snd_una)
        queue.unlink(skb)
        tcp_wmem_free_skb(sk, skb)
    if skb is None and sk.chrono_type:
        tcp_chrono_stop(sk, TCP_CHRONO_BUSY)
    if between(sk.snd_up, prior_snd_una, snd_una):
        sk.snd_up = snd_una
    if skb is not None and skb.txstamp_ack:
        tcp_ack_tstamp(sk, skb, skb_ack, prior_snd_una)
    if skb is not None and skb.sacked & TCPCB_SACKED_ACKED:
        flag |= FLAG_SACK_RENEGING
    seq_rtt_us = ca_rtt_us = sack_rtt_us = -1
    if stamped and not flag & FLAG_RETRANS_DATA_ACKED:
        seq_rtt_us = tcp_stamp_us_delta(now, first_ackt)
        ca_rtt_us = tcp_stamp_us_delta(now, last_ackt)
        if (
            pkts_acked == 1
            and fully_acked
            and not prior_sacked
            and ((snd_una - prior_snd_una) & M32) < sk.mss_cache
        ):
            flag |= FLAG_ACK_MAYBE_DELAYED
    if sack is not None and sack.first_sackt:
        sack_rtt_us = tcp_stamp_us_delta(now, sack.first_sackt)
        ca_rtt_us = tcp_stamp_us_delta(now, sack.last_sackt)
    rtt_update = tcp_ack_update_rtt(sk, flag, seq_rtt_us, sack_rtt_us, ca_rtt_us)
    if flag & FLAG_ACKED:
        flag |= FLAG_SET_XMIT_TIMER
        if sk.mtup_probe_size and not after(sk.mtu_probe_seq_end, snd_una):
            tcp_mtup_probe_success(sk)
        if not is_sack:
            tcp_remove_reno_sacks(sk, pkts_acked)
            # Without SACK an ACK of originals and retransmissions does not prove that the
            # originals arrived.
            if flag & FLAG_RETRANS_DATA_ACKED:
                flag &= ~FLAG_ORIG_SACK_ACKED
        elif before(reord, prior_fack):
            tcp_check_sack_reordering(sk, reord, 0)
    elif (
        skb is not None
        and rtt_update
        and sack_rtt_us >= 0
        and sack_rtt_us > (now - skb.tx_tstamp_ns) // 1000
    ):
        flag |= FLAG_SET_XMIT_TIMER
    ca_ops = sk.icsk_ca_ops
    if ca_ops.pkts_acked is not None:
        ca_ops.pkts_acked(sk, pkts_acked, ca_rtt_us)
    return flag


def tcp_skb_spurious_retrans(sk: tcp_sock, skb: sk_buff) -> bool:
    """A retransmitted packet whose ACK echoes an earlier timestamp: the original arrived."""
    rx_opt = sk.rx_opt
    return bool(
        skb.sacked & TCPCB_RETRANS
        and rx_opt.saw_tstamp
        and rx_opt.rcv_tsecr
        and before(rx_opt.rcv_tsecr, (skb.tx_tstamp_ns // NSEC_PER_MSEC) & M32)
    )


def tcp_ack_probe(sk: tcp_sock) -> None:
    """Nothing is in flight: stop probing if the window opened, else continue."""
    head = sk.sk_write_queue.peek()
    if head is None:
        return
    if not after(head.end_seq, tcp_wnd_end(sk)):
        sk.icsk_backoff = 0
        sk.icsk_probes_tstamp = 0
        inet_csk_clear_xmit_timer(sk, ICSK_TIME_PROBE0)
    else:
        when = tcp_clamp_probe0_to_user_timeout(sk, tcp_probe0_when(sk, sk.icsk_rto_max))
        tcp_reset_xmit_timer(sk, ICSK_TIME_PROBE0, when)


def tcp_ack_is_dubious(sk: tcp_sock, flag: int) -> bool:
    return not flag & FLAG_NOT_DUP or bool(flag & FLAG_CA_ALERT) or sk.icsk_ca_state != TCP_CA_Open


def tcp_may_raise_cwnd(sk: tcp_sock, flag: int) -> bool:
    """Whether this ACK may grow the window: a cumulative one, or any with much reordering."""
    if flag & FLAG_DATA_ACKED:
        return True
    return flag & FLAG_FORWARD_PROGRESS != 0 and sk.reordering > sk.net.sysctl.tcp_reordering


def tcp_cong_avoid(sk: tcp_sock, ack: int, acked: int) -> None:
    cong_avoid = sk.icsk_ca_ops.cong_avoid
    assert cong_avoid is not None  # an algorithm without cong_control has it
    cong_avoid(sk, ack, acked)
    sk.snd_cwnd_stamp = sk.tcp_mstamp


def tcp_cong_control(sk: tcp_sock, ack: int, acked_sacked: int, lost: int, flag: int) -> None:
    """Update the congestion window for an ACK."""
    ca_ops = sk.icsk_ca_ops
    if ca_ops.cong_control is not None:
        ca_ops.cong_control(sk, ack, flag, (acked_sacked, lost))
        return
    if tcp_in_cwnd_reduction(sk):
        tcp_cwnd_reduction(sk, acked_sacked, lost, flag)
    elif tcp_may_raise_cwnd(sk, flag):
        tcp_cong_avoid(sk, ack, acked_sacked)


def tcp_xmit_recovery(sk: tcp_sock, rexmit: int) -> None:
    """Retransmit, or (F-RTO) send new data first."""
    if rexmit == REXMIT_NONE or sk.sk_state == TCP_SYN_SENT:
        return
    if rexmit == REXMIT_NEW:
        __tcp_push_pending_frames(sk, tcp_current_mss(sk), TCP_NAGLE_OFF)
        if after(sk.snd_nxt, sk.high_seq):
            return
        sk.frto = False
    tcp_xmit_retransmit_queue(sk)


def tcp_set_xmit_timer(sk: tcp_sock) -> None:
    """Loss probe if it applies, else the RTO."""
    if not tcp_schedule_loss_probe(sk, True):
        tcp_rearm_rto(sk)


def tcp_may_update_window(sk: tcp_sock, ack: int, ack_seq: int, nwin: int) -> bool:
    """RFC 9293 3.10.7.4: SND.WL1/WL2; an ACK at the same place may only open the window."""
    return (
        after(ack, sk.snd_una)
        or after(ack_seq, sk.snd_wl1)
        or (ack_seq == sk.snd_wl1 and (nwin > sk.snd_wnd or not nwin))
    )


def tcp_ack_update_window(sk: tcp_sock, skb: sk_buff, ack: int, ack_seq: int) -> int:
    """Update SND.WND from the ACK; FLAG_WIN_UPDATE when the ACK is recent enough for that."""
    flag = 0
    nwin: int = skb.th_window
    if not skb.tcp_flags & TCPHDR_SYN:
        nwin <<= sk.rx_opt.snd_wscale & 15
    if tcp_may_update_window(sk, ack, ack_seq, nwin):
        flag |= FLAG_WIN_UPDATE
        sk.snd_wl1 = ack_seq
        if sk.snd_wnd != nwin:
            sk.snd_wnd = nwin
            sk.pred_flags = 0
            tcp_fast_path_check(sk)
            if sk.sk_write_queue.qlen:
                tcp_slow_start_after_idle_check(sk)
            if nwin > sk.max_window:
                sk.max_window = nwin
                tcp_sync_mss(sk, sk.icsk_pmtu_cookie)
    tcp_snd_una_update(sk, ack)
    return flag


def tcp_snd_una_update(sk: tcp_sock, ack: int) -> None:
    sk.bytes_acked += (ack - sk.snd_una) & M32
    sk.snd_una = ack


def tcp_store_ts_recent(sk: tcp_sock) -> None:
    sk.rx_opt.ts_recent = sk.rx_opt.rcv_tsval
    sk.rx_opt.ts_recent_stamp = sk.tcp_mstamp // NSEC_PER_SEC + 1  # jiffies_s() as of this segment


def tcp_replace_ts_recent(sk: tcp_sock, seq: int) -> int:
    """RFC 7323 4.3: TS.Recent follows segments that reach back to the last ACK sent.

    Returns FLAG_TS_PROGRESS when the timestamp is newer, for Accurate ECN.
    """
    rx_opt = sk.rx_opt
    if (
        rx_opt.saw_tstamp
        and not after(seq, sk.rcv_wup)
        and tcp_paws_check(rx_opt, 0, sk.tcp_mstamp // NSEC_PER_SEC + 1)
    ):
        accecn = sk.ecn_flags & TCP_ECN_MODE_ACCECN != 0
        newer = accecn and after(rx_opt.rcv_tsval, rx_opt.ts_recent)
        tcp_store_ts_recent(sk)
        if newer:
            return FLAG_TS_PROGRESS
    return 0


def tcp_ack(sk: tcp_sock, skb: sk_buff, flag: int) -> int:
    """An ACK came (RFC 9293 3.10.7.4 "fifth, check the ACK field").

    1: fine; 0: old; negative: -SKB_DROP_REASON_*, the segment must be dropped.
    """
    prior_snd_una = sk.snd_una
    ack_seq = skb.seq
    ack = skb.ack_seq
    rexmit = REXMIT_NONE
    delivered = sk.delivered
    lost = sk.lost
    sack_state: tcp_sacktag_state | None = None
    accecn = sk.ecn_flags & TCP_ECN_MODE_ACCECN != 0
    ecn_count = 0
    bytes_delivered: int = sk.bytes_acked + sk.sacked_bytes if accecn else 0
    if before(ack, prior_snd_una):
        max_window = min(sk.max_window, sk.bytes_acked)
        if before(ack, (prior_snd_una - max_window) & M32):
            if not flag & FLAG_NO_CHALLENGE_ACK:
                tcp_send_challenge_ack(sk)
            return -drop_reason.SKB_DROP_REASON_TCP_TOO_OLD_ACK
        # Old, but its SACK blocks may be new.
        if sk.rx_opt.sack_ok and skb.l4_hlen > (32 if sk.rx_opt.tstamp_ok else 20):
            sack_state = tcp_sacktag_state()
            flag |= tcp_sacktag_write_queue(sk, skb, prior_snd_una, sack_state)
            if flag & (FLAG_DATA_SACKED | FLAG_DSACKING_ACK):
                flag, rexmit = tcp_fastretrans_alert(sk, prior_snd_una, 0, flag)
                tcp_newly_delivered(sk, delivered, 0, flag)
                sk.rs_prior_mstamp = 0  # no sample of the delivery rate
                tcp_xmit_recovery(sk, rexmit)
        return 0
    if after(ack, sk.snd_nxt):
        if not flag & FLAG_NO_CHALLENGE_ACK:
            tcp_send_challenge_ack(sk)
        return -drop_reason.SKB_DROP_REASON_TCP_ACK_UNSENT_DATA
    if ack != prior_snd_una:
        flag |= FLAG_SND_UNA_ADVANCED
        sk.icsk_retransmits = 0
    prior_fack = tcp_highest_sack_seq(sk) if sk.rx_opt.sack_ok else prior_snd_una
    prior_packets = sk.packets_out
    if flag & FLAG_UPDATE_TS_RECENT:
        flag |= tcp_replace_ts_recent(sk, skb.seq)
    if flag & (FLAG_SLOWPATH | FLAG_SND_UNA_ADVANCED) == FLAG_SND_UNA_ADVANCED:
        # Header prediction: the window did not change, the ACK advances.
        sk.snd_wl1 = ack_seq
        tcp_snd_una_update(sk, ack)
        flag |= FLAG_WIN_UPDATE
        sk.net.mib.linux.TCPHPAcks += 1
    else:
        if ack_seq != skb.end_seq:
            flag |= FLAG_DATA
        else:
            sk.net.mib.linux.TCPPureAcks += 1
        flag |= tcp_ack_update_window(sk, skb, ack, ack_seq)
        if sk.ecn_flags and tcp_ecn_rcv_ecn_echo(sk, skb.tcp_flags):
            flag |= FLAG_ECE
        if sk.rx_opt.sack_ok and skb.l4_hlen > (32 if sk.rx_opt.tstamp_ok else 20):
            sack_state = tcp_sacktag_state()
            flag |= tcp_sacktag_write_queue(sk, skb, prior_snd_una, sack_state)
    sk.sk_err_soft = 0
    sk.icsk_probes_out = 0
    sk.rcv_tstamp = sk.tcp_mstamp
    if not prior_packets:
        if accecn:
            flag, ecn_count = tcp_ack_accecn(sk, skb, delivered, bytes_delivered, flag)
        if flag & FLAG_DSACKING_ACK:
            flag, rexmit = tcp_fastretrans_alert(sk, prior_snd_una, 0, flag)
            tcp_newly_delivered(sk, delivered, ecn_count, flag)
        # The window may have opened: stop or continue probing.
        tcp_ack_probe(sk)
        if sk.tlp_high_seq:
            tcp_process_tlp_ack(sk, ack, flag)
        return 1
    flag |= tcp_clean_rtx_queue(sk, skb, prior_fack, prior_snd_una, sack_state)
    tcp_rack_update_reo_wnd(sk)
    if accecn:
        flag, ecn_count = tcp_ack_accecn(sk, skb, delivered, bytes_delivered, flag)
    if sk.tlp_high_seq:
        tcp_process_tlp_ack(sk, ack, flag)
    if tcp_ack_is_dubious(sk, flag):
        num_dupack = 0
        if not flag & (FLAG_SND_UNA_ADVANCED | FLAG_NOT_DUP | FLAG_DSACKING_ACK):
            num_dupack = max(1, skb.gso_segs)
        flag, rexmit = tcp_fastretrans_alert(sk, prior_snd_una, num_dupack, flag)
    if flag & FLAG_SET_XMIT_TIMER:
        tcp_set_xmit_timer(sk)
    if flag & FLAG_FORWARD_PROGRESS or not flag & FLAG_NOT_DUP:
        sk.sk_dst_pending_confirm = True
    newly = tcp_newly_delivered(sk, delivered, ecn_count, flag)
    if newly:
        tcp_rate_gen(sk)
    tcp_cong_control(sk, ack, newly, sk.lost - lost, flag)
    if rexmit:
        tcp_xmit_recovery(sk, rexmit)
    return 1


def tcp_ack_accecn(
    sk: tcp_sock, skb: sk_buff, delivered: int, bytes_delivered: int, flag: int
) -> tuple[int, int]:
    """Process the peer's ECN feedback; returns (flags, packets marked). Arguments: prior counts."""
    ecn_count = tcp_accecn_process(
        sk,
        skb,
        sk.delivered - delivered,
        sk.bytes_acked + sk.sacked_bytes - bytes_delivered,
        flag,
    )
    if ecn_count:
        flag |= FLAG_ECE
        if sk.pred_flags:
            tcp_fast_path_on(sk)
    return flag, ecn_count


def tcp_newly_delivered(sk: tcp_sock, prior_delivered: int, ecn_count: int, flag: int) -> int:
    """Count and return the packets that an ACK reports as delivered.

    `ecn_count`: the packets marked CE that Accurate ECN has counted.
    """
    newly = sk.delivered - prior_delivered
    if ecn_count:
        sk.net.mib.linux.TCPDeliveredCE += ecn_count
    if newly:
        linux = sk.net.mib.linux
        linux.TCPDelivered += newly
        if flag & FLAG_ECE and sk.ecn_flags & TCP_ECN_MODE_RFC3168:
            linux.TCPDeliveredCE += newly
            sk.delivered_ce += newly
    return newly
