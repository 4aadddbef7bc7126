"""net/ipv4/tcp_input.c: segments of a connection: header prediction, checks, the state machine.

The other parts of the kernel's file: tcp_ack (acknowledgments and recovery), tcp_data (queues and
windows), tcp_sack, tcp_options. A function that takes an skb owns it unless it returns non-zero
(then the caller answers with a RST and frees).
"""

from __future__ import annotations

from fastpath.base.skbuff import kfree_skb, sk_buff, skb_pull
from stack.core import drop_reason, tcp_states
from stack.core.drop_reason import kfree_skb_reason
from stack.core.fasync import SOCK_WAKE_IO
from stack.core.inet_ecn import INET_ECN_MASK
from stack.core.security import security_inet_conn_established
from stack.core.sk_mem import sk_rmem_schedule
from stack.core.sock import sk_state_change, sk_wake_async, sock_owned_by_user
from stack.core.sock_flags import SOCK_DEAD, SOCK_KEEPOPEN
from stack.core.tcp_states import RCV_ACK_OF_FIN, RCV_ACK_OF_SYN, RCV_SYN, tcp_next_state
from stack.core.time64 import NSEC_PER_MSEC
from stack.core.uapi import POLL_OUT, RCV_SHUTDOWN, SEND_SHUTDOWN
from stack.inet import tcp_const
from stack.inet.early_demux import inet_sk_rx_dst_set
from stack.inet.inet_connection_sock import (
    ICSK_ACK_SCHED,
    ICSK_TIME_DACK,
    ICSK_TIME_RETRANS,
    inet_csk_in_pingpong_mode,
    inet_csk_reset_keepalive_timer,
    reqsk_fastopen_remove,
    request_sock,
)
from stack.inet.tcp_accecn import tcp_accecn_rcv_syn_again, tcp_ecn_received_counters
from stack.inet.tcp_ack import (
    tcp_ack,
    tcp_may_update_window,
    tcp_non_congestion_loss_retransmit,
    tcp_store_ts_recent,
    tcp_update_rto_time,
)
from stack.inet.tcp_challenge import tcp_oow_rate_limited, tcp_send_challenge_ack
from stack.inet.tcp_close import tcp_shutdown
from stack.inet.tcp_cong import tcp_init_congestion_control, tcp_init_cwnd
from stack.inet.tcp_ctl import tcp_send_ack_reflect_ect, tcp_send_synack
from stack.inet.tcp_data import (
    __tcp_ack_snd_check,
    tcp_ack_snd_check,
    tcp_data_queue,
    tcp_data_ready,
    tcp_data_snd_check,
    tcp_drop_reason,
    tcp_enter_quickack_mode,
    tcp_event_data_recv,
    tcp_fastopen_add_skb,
    tcp_queue_rcv,
    tcp_send_dupack,
    tcp_urg,
)
from stack.inet.tcp_done import tcp_done, tcp_reset, tcp_set_state
from stack.inet.tcp_ecn import tcp_ecn_rcv_syn, tcp_ecn_rcv_synack
from stack.inet.tcp_fastopen import (
    TFO_DATA_NOT_ACKED,
    TFO_SYN_RETRANSMITTED,
    tcp_fastopen_active_disable,
)
from stack.inet.tcp_metrics import tcp_fastopen_cache_set, tcp_init_metrics, tcp_update_metrics
from stack.inet.tcp_minisocks import tcp_check_req
from stack.inet.tcp_options import (
    OPTS_TS,
    tcp_clear_options,
    tcp_parse_fast_options,
    tcp_parse_options,
)
from stack.inet.tcp_output import tcp_rearm_rto, tcp_reset_xmit_timer
from stack.inet.tcp_rcvbuf import tcp_grow_window, tcp_init_buffer_space, tcp_rcv_rtt_measure_ts
from stack.inet.tcp_recovery import tcp_mark_skb_lost
from stack.inet.tcp_rtt import tcp_synack_rtt_meas
from stack.inet.tcp_sock import (
    FLAG_DATA,
    FLAG_NO_CHALLENGE_ACK,
    FLAG_SLOWPATH,
    FLAG_UPDATE_TS_RECENT,
    HALF,
    M32,
    TCP_CA_CWR,
    TCP_ECN_MODE_ACCECN,
    TCP_MAX_QUICKACKS,
    TCPHDR_ACK,
    TCPHDR_FIN,
    TCPHDR_RST,
    TCPHDR_SYN,
    TCP_CA_Disorder,
    TCP_CA_Loss,
    TCP_CA_Open,
    after,
    before,
    between,
    jiffies_s,
    keepalive_time_when,
    s32,
    tcp_fast_path_on,
    tcp_fastopen_cookie,
    tcp_fin_time,
    tcp_max_receive_window,
    tcp_mstamp_refresh,
    tcp_options_received,
    tcp_paws_check,
    tcp_paws_reject,
    tcp_sock,
)
from stack.inet.tcp_timewait import tcp_time_wait
from stack.inet.tcp_undo import tcp_try_undo_recovery
from stack.inet.tcp_window import tcp_initialize_rcv_mss, tcp_mtup_init, tcp_sync_mss

# Bits of the header's fourth word that prediction compares: all but PSH.
TCP_HP_BITS = ~(0x08 << 16) & 0xFFFFFFFF

# States in which data can arrive: before the peer's FIN, and after it.
TCPF_RECEIVING = tcp_states.TCPF_ESTABLISHED | tcp_states.TCPF_FIN_WAIT1 | tcp_states.TCPF_FIN_WAIT2
TCPF_AFTER_FIN = tcp_states.TCPF_CLOSE_WAIT | tcp_states.TCPF_CLOSING | tcp_states.TCPF_LAST_ACK


# --- is the segment acceptable? -----------------------------------------------------------


def tcp_disordered_ack(sk: tcp_sock, skb: sk_buff) -> bool:
    """Whether skb is a pure ACK that data overtook; PAWS must not answer it with a dupACK.

    Such an ACK is at most an RTO older, by a peer's clock of at most 1200 Hz.
    """
    ack = skb.ack_seq
    window = skb.th_window << (sk.rx_opt.snd_wscale & 15)
    replay = sk.icsk_rto * 6 // (5 * NSEC_PER_MSEC)
    return (
        bool(skb.tcp_flags & TCPHDR_ACK)
        and skb.seq == sk.rcv_nxt
        and skb.seq == skb.end_seq
        and ack == sk.snd_una
        and not tcp_may_update_window(sk, ack, skb.seq, window)
        and s32(sk.rx_opt.ts_recent - sk.rx_opt.rcv_tsval) <= replay
    )


def tcp_paws_discard(sk: tcp_sock, skb: sk_buff) -> bool:
    """RFC 7323 5.3 R1."""
    return not tcp_paws_check(sk.rx_opt, 1, jiffies_s(sk.net)) and not tcp_disordered_ack(sk, skb)


def tcp_sequence(sk: tcp_sock, skb: sk_buff) -> int:
    """RFC 9293 3.4: 0 if it is in the window (from the last ACK on), else the drop reason.

    A segment that ends beyond the window is accepted only into an empty queue. A FIN may follow:
    some peers send one although the window is closed.
    """
    end_seq = skb.end_seq
    if before(end_seq, sk.rcv_wup):
        return drop_reason.SKB_DROP_REASON_TCP_OLD_SEQUENCE
    limit = (sk.rcv_nxt + tcp_max_receive_window(sk)) & M32
    if after(end_seq, limit):
        fin = skb.tcp_flags & TCPHDR_FIN
        if not after((end_seq - fin) & M32, limit):
            return 0
        if after(skb.seq, limit):
            return drop_reason.SKB_DROP_REASON_TCP_INVALID_SEQUENCE
        if sk.sk_receive_queue.qlen:
            return drop_reason.SKB_DROP_REASON_TCP_INVALID_END_SEQUENCE
    return 0


def tcp_reset_check(sk: tcp_sock, skb: sk_buff) -> bool:
    """Some peers send RST after FIN with the sequence number of the FIN."""
    return skb.seq == (sk.rcv_nxt - 1) & M32 and sk.sk_state in (
        tcp_states.TCP_CLOSE_WAIT,
        tcp_states.TCP_LAST_ACK,
        tcp_states.TCP_CLOSING,
    )


def tcp_validate_incoming(sk: tcp_sock, skb: sk_buff, syn_inerr: bool) -> bool:
    """PAWS, sequence, RST and SYN checks (RFC 9293 3.10.7.4, 5961, 7323).

    True: continue. False: skb was handled (freed).
    """
    flags = skb.tcp_flags
    linux = sk.net.mib.linux
    if (
        tcp_parse_fast_options(sk, skb)
        and sk.rx_opt.saw_tstamp
        and tcp_paws_discard(sk, skb)
        and not flags & TCPHDR_RST
    ):
        if flags & TCPHDR_SYN:
            return tcp_syn_challenge(sk, skb, syn_inerr)
        if flags & TCPHDR_ACK and skb.seq == skb.end_seq and before(skb.seq, sk.rcv_nxt):
            # A pure ACK sent before data that already arrived needs no answer.
            linux.PAWSOldAck += 1
            tcp_drop_reason(sk, skb, drop_reason.SKB_DROP_REASON_TCP_RFC7323_PAWS_ACK)
            return False
        linux.PAWSEstab += 1
        if not tcp_oow_rate_limited(sk, skb, "TCPACKSkippedPAWS"):
            tcp_send_dupack(sk, skb)
        tcp_drop_reason(sk, skb, drop_reason.SKB_DROP_REASON_TCP_RFC7323_PAWS)
        return False
    reason = tcp_sequence(sk, skb)
    if reason:
        if not flags & TCPHDR_RST:
            if flags & TCPHDR_SYN:
                return tcp_syn_challenge(sk, skb, syn_inerr)
            if reason != drop_reason.SKB_DROP_REASON_TCP_OLD_SEQUENCE:
                linux.BeyondWindow += 1
            if not tcp_oow_rate_limited(sk, skb, "TCPACKSkippedSeq"):
                tcp_send_dupack(sk, skb)
        elif tcp_reset_check(sk, skb):
            tcp_reset(sk)
        tcp_drop_reason(sk, skb, reason)
        return False
    if flags & TCPHDR_RST:
        expected = sk.rcv_nxt
        if sk.rx_opt.sack_ok and sk.rx_opt.num_sacks:
            # Whoever knows the end of what we SACKed is no blind attacker.
            for _, end in sk.selective_acks:
                if after(end, expected):
                    expected = end
        if skb.seq in (sk.rcv_nxt, expected) or tcp_reset_check(sk, skb):
            tcp_reset(sk)
        else:
            if (
                sk.syn_fastopen
                and not sk.data_segs_in
                and sk.sk_state == tcp_states.TCP_ESTABLISHED
            ):
                tcp_fastopen_active_disable(sk.net)  # a middlebox may have sent it
            tcp_send_challenge_ack(sk)
        tcp_drop_reason(sk, skb, drop_reason.SKB_DROP_REASON_TCP_RESET)
        return False
    if flags & TCPHDR_SYN:
        if sk.ecn_flags & TCP_ECN_MODE_ACCECN:
            tcp_accecn_rcv_syn_again(sk, skb)
        if (
            sk.sk_state == tcp_states.TCP_SYN_RECV
            and sk.sk_socket is not None
            and flags & TCPHDR_ACK
            and (skb.seq + 1) & M32 == skb.end_seq
            and skb.end_seq == sk.rcv_nxt
            and skb.ack_seq == sk.snd_nxt
        ):
            return True  # simultaneous open: the peer's SYN-ACK
        return tcp_syn_challenge(sk, skb, syn_inerr)
    return True


def tcp_syn_challenge(sk: tcp_sock, skb: sk_buff, syn_inerr: bool) -> bool:
    """RFC 5961 4: a SYN on an open connection gets a challenge ACK. Always False."""
    if syn_inerr:
        sk.net.mib.tcp.InErrs += 1
    sk.net.mib.linux.TCPSYNChallenge += 1
    tcp_send_challenge_ack(sk, True)
    tcp_drop_reason(sk, skb, drop_reason.SKB_DROP_REASON_TCP_INVALID_SYN)
    return False


# --- ESTABLISHED --------------------------------------------------------------------------


def tcp_rcv_established(sk: tcp_sock, skb: sk_buff) -> None:
    """A segment in ESTABLISHED, data at the TCP header. Takes ownership of skb.

    The fast path serves what header prediction expects: in sequence, window as before, nothing
    special (Van Jacobson). Everything else takes the steps of RFC 9293 3.10.7.4.
    """
    tcp_mstamp_refresh(sk)
    rx_opt = sk.rx_opt
    rx_opt.saw_tstamp = False
    seq: int = skb.seq
    ack_seq: int = skb.ack_seq
    flags: int = skb.tcp_flags
    hlen: int = skb.l4_hlen
    length = skb.len
    if (
        ((hlen << 26 | flags << 16 | skb.th_window) & TCP_HP_BITS) == sk.pred_flags
        and seq == sk.rcv_nxt
        and not after(ack_seq, sk.snd_nxt)
    ):
        fast = length <= hlen or not after(skb.end_seq, (seq + tcp_max_receive_window(sk)) & M32)
        if hlen == 32:
            if skb.tcp_opts != OPTS_TS or ((skb.tsval - rx_opt.ts_recent) & M32) >= HALF:
                fast = False  # other options, or PAWS must check
            else:
                rx_opt.saw_tstamp = True
                rx_opt.rcv_tsval = skb.tsval
                rx_opt.rcv_tsecr = (skb.tsecr - sk.tsoffset) & M32 if skb.tsecr else 0
        if fast:
            if length <= hlen:
                if length < hlen:
                    sk.net.mib.tcp.InErrs += 1
                    tcp_drop_reason(sk, skb, drop_reason.SKB_DROP_REASON_PKT_TOO_SMALL)
                    return
                # A pure ACK: we are the sender.
                if hlen == 32 and sk.rcv_nxt == sk.rcv_wup:
                    tcp_store_ts_recent(sk)
                if (skb.ip_dsfield | sk.prev_ecnfield) & INET_ECN_MASK:
                    tcp_ecn_received_counters(sk, skb, 0)
                reason = tcp_ack(sk, skb, 0)
                if reason < 0:
                    tcp_drop_reason(sk, skb, -reason)
                else:
                    kfree_skb(skb)
                sk.rcv_rtt_last_tsecr = rx_opt.rcv_tsecr  # data with this echo is no answer to us
                tcp_data_snd_check(sk)
                return
            # The kernel takes this path only with memory reserved. Here only a connection's first
            # data needs that, and data that finds some unsent, which the other path may send. Other
            # data, whose sk_buffs may be large, reserves its memory now.
            if sk.sk_rmem_alloc <= sk.sk_rcvbuf and (
                skb.truesize <= sk.sk_forward_alloc
                or (
                    sk.bytes_received
                    and not sk.sk_write_queue.qlen
                    and sk_rmem_schedule(sk, skb, skb.truesize)
                )
            ):
                acked = ack_seq != sk.snd_una
                if acked:
                    # The ACK first: a segment with an unacceptable ACK is dropped (RFC 5961 5.2),
                    # and tcp_queue_rcv may free the sk_buff.
                    reason = tcp_ack(sk, skb, FLAG_DATA)
                    if reason < 0:
                        tcp_drop_reason(sk, skb, -reason)
                        return
                sk.net.mib.linux.TCPHPHits += 1
                if hlen == 32 and sk.rcv_nxt == sk.rcv_wup:
                    tcp_store_ts_recent(sk)
                tcp_rcv_rtt_measure_ts(sk, skb)
                if (skb.ip_dsfield | sk.prev_ecnfield) & INET_ECN_MASK:
                    tcp_ecn_received_counters(sk, skb, length - hlen)
                skb_pull(skb, hlen)
                tcp_event_data_recv(sk, skb)
                truesize: int = skb.truesize
                tcp_queue_rcv(sk, skb)
                if length - hlen >= 128:
                    tcp_grow_window(sk, length - hlen, truesize)
                if acked:
                    tcp_data_snd_check(sk)
                    if sk.icsk_ack_pending & ICSK_ACK_SCHED:
                        __tcp_ack_snd_check(sk, False)
                else:
                    sk.snd_wl1 = seq
                    __tcp_ack_snd_check(sk, False)
                tcp_data_ready(sk)
                return
            rx_opt.accecn = 0  # header prediction excludes this option
            tcp_rcv_established_step5(sk, skb)
            return
    # Slow path.
    if length < hlen:
        sk.net.mib.tcp.InErrs += 1
        tcp_drop_reason(sk, skb, drop_reason.SKB_DROP_REASON_PKT_TOO_SMALL)
        return
    if not flags & (TCPHDR_ACK | TCPHDR_RST | TCPHDR_SYN):
        tcp_drop_reason(sk, skb, drop_reason.SKB_DROP_REASON_TCP_FLAGS)
        return
    if not tcp_validate_incoming(sk, skb, True):
        return
    tcp_rcv_established_step5(sk, skb)


def tcp_rcv_established_step5(sk: tcp_sock, skb: sk_buff) -> None:
    """From "fifth, check the ACK field" on. Takes ownership of skb."""
    if (skb.ip_dsfield | sk.prev_ecnfield) & INET_ECN_MASK:
        tcp_ecn_received_counters(sk, skb, skb.len - skb.l4_hlen)
    reason = tcp_ack(sk, skb, FLAG_SLOWPATH | FLAG_UPDATE_TS_RECENT)
    if reason < 0:
        tcp_drop_reason(sk, skb, -reason)
        return
    tcp_rcv_rtt_measure_ts(sk, skb)
    tcp_urg(sk, skb)
    tcp_data_queue(sk, skb)
    tcp_data_snd_check(sk)
    tcp_ack_snd_check(sk)


# --- the handshake, our side --------------------------------------------------------------


def tcp_init_transfer(sk: tcp_sock) -> None:
    """The connection is open: congestion window, congestion control, buffers."""
    tcp_mtup_init(sk)
    tcp_init_metrics(sk)
    if sk.total_retrans > 1 and sk.undo_marker:
        sk.snd_cwnd = 1
    else:
        sk.snd_cwnd = tcp_init_cwnd(sk, sk.sk_dst_cache)
    sk.snd_cwnd_stamp = sk.net.clock.now_ns()
    tcp_init_congestion_control(sk)
    tcp_init_buffer_space(sk)


def tcp_finish_connect(sk: tcp_sock, skb: sk_buff) -> None:
    """The active open succeeded."""
    tcp_set_state(sk, tcp_states.TCP_ESTABLISHED)
    inet_sk_rx_dst_set(sk, skb)
    security_inet_conn_established(sk, skb)
    now = sk.net.clock.now_ns()
    sk.icsk_ack_lrcvtime = now
    tcp_init_transfer(sk)
    sk.lsndtime = now
    if sk.sk_flags & SOCK_KEEPOPEN:
        inet_csk_reset_keepalive_timer(sk, keepalive_time_when(sk))
    if not sk.rx_opt.snd_wscale:
        tcp_fast_path_on(sk)
    else:
        sk.pred_flags = 0


def tcp_try_undo_spurious_syn(sk: tcp_sock) -> None:
    """The SYN was retransmitted, but the timestamps show that the first one was answered."""
    syn_stamp = sk.retrans_stamp
    rx_opt = sk.rx_opt
    if (
        sk.undo_marker
        and syn_stamp
        and rx_opt.saw_tstamp
        and syn_stamp // NSEC_PER_MSEC & M32 == rx_opt.rcv_tsecr
    ):
        sk.undo_marker = 0


def tcp_rcv_synsent_state_process(sk: tcp_sock, skb: sk_buff) -> int:
    """RFC 9293 3.10.7.3. 0: handled, skb freed; -1: continue with skb.

    Else the drop reason: the caller answers with a RST and frees skb.
    """
    flags = skb.tcp_flags
    rx_opt = sk.rx_opt
    saved_clamp = rx_opt.mss_clamp
    foc = tcp_fastopen_cookie() if sk.syn_fastopen else None
    tcp_parse_options(sk.net, skb, rx_opt, False, foc)
    if rx_opt.saw_tstamp and rx_opt.rcv_tsecr:
        rx_opt.rcv_tsecr = (rx_opt.rcv_tsecr - sk.tsoffset) & M32
    if flags & TCPHDR_ACK:
        ack = skb.ack_seq
        if not after(ack, sk.snd_una) or after(ack, sk.snd_nxt):
            # An old incarnation of the peer: a RST ends it; then our SYN is retransmitted.
            if sk.icsk_retransmits == 0:
                tcp_reset_xmit_timer(sk, ICSK_TIME_RETRANS, tcp_const.TCP_TIMEOUT_MIN)
            reason = drop_reason.SKB_DROP_REASON_TCP_INVALID_ACK_SEQUENCE
            return _reset_and_undo(sk, saved_clamp, reason)
        if (
            rx_opt.saw_tstamp
            and rx_opt.rcv_tsecr
            and not between(
                rx_opt.rcv_tsecr,
                (sk.retrans_stamp // NSEC_PER_MSEC) & M32,
                (sk.net.clock.now_ns() // NSEC_PER_MSEC) & M32,
            )
        ):
            sk.net.mib.linux.PAWSActive += 1
            return _reset_and_undo(sk, saved_clamp, drop_reason.SKB_DROP_REASON_TCP_RFC7323_TSECR)
        if flags & TCPHDR_RST:
            tcp_reset(sk)
            kfree_skb_reason(sk.net, skb, drop_reason.SKB_DROP_REASON_TCP_RESET)
            return 0
        if not flags & TCPHDR_SYN:
            return _discard_and_undo(sk, skb, saved_clamp)
        if sk.ecn_flags:
            tcp_ecn_rcv_synack(sk, skb)
        sk.snd_wl1 = skb.seq
        tcp_try_undo_spurious_syn(sk)
        tcp_ack(sk, skb, FLAG_SLOWPATH)
        # The SYN is acceptable.
        sk.rcv_nxt = sk.rcv_wup = (skb.seq + 1) & M32
        sk.rcv_mwnd_seq = (sk.rcv_wup + sk.rcv_wnd) & M32
        sk.snd_wnd = skb.th_window  # RFC 7323 2.2: never scaled in a SYN
        if not rx_opt.wscale_ok:
            rx_opt.snd_wscale = rx_opt.rcv_wscale = 0
            sk.window_clamp = min(sk.window_clamp, 65535)
        _negotiate_timestamps(sk)
        if rx_opt.tstamp_ok:
            sk.advmss -= 12
        tcp_mtup_init(sk)
        tcp_sync_mss(sk, sk.icsk_pmtu_cookie)
        tcp_initialize_rcv_mss(sk)
        sk.copied_seq = sk.rcv_nxt
        tcp_finish_connect(sk, skb)
        refused = (foc is not None or sk.syn_data) and tcp_rcv_fastopen_synack(sk, skb, foc)
        if not sk.sk_flags & SOCK_DEAD:
            sk_state_change(sk)
            sk_wake_async(sk, SOCK_WAKE_IO, POLL_OUT)
        if refused:
            return -1  # the retransmitted data carries the ACK
        if sk.sk_write_pending or sk.defer_accept or inet_csk_in_pingpong_mode(sk):
            # Data will follow soon and carry the ACK.
            sk.icsk_ack_pending |= ICSK_ACK_SCHED
            tcp_enter_quickack_mode(sk, TCP_MAX_QUICKACKS)
            tcp_reset_xmit_timer(sk, ICSK_TIME_DACK, tcp_const.TCP_DELACK_MAX)
            kfree_skb(skb)
            return 0
        tcp_send_ack_reflect_ect(sk)
        return -1
    if flags & TCPHDR_RST:
        return _discard_and_undo(sk, skb, saved_clamp)
    if (
        rx_opt.ts_recent_stamp
        and rx_opt.saw_tstamp
        and tcp_paws_reject(rx_opt, False, jiffies_s(sk.net))
    ):
        sk.net.mib.linux.PAWSActive += 1
        return _discard_and_undo(sk, skb, saved_clamp)
    if flags & TCPHDR_SYN:
        # Both ends open at once (RFC 9293 3.5 figure 7).
        tcp_set_state(sk, tcp_next_state(tcp_states.TCP_SYN_SENT, RCV_SYN))
        _negotiate_timestamps(sk)
        sk.rcv_nxt = sk.copied_seq = sk.rcv_wup = (skb.seq + 1) & M32
        sk.rcv_mwnd_seq = (sk.rcv_wup + sk.rcv_wnd) & M32
        sk.snd_wnd = sk.max_window = skb.th_window
        sk.snd_wl1 = skb.seq
        tcp_ecn_rcv_syn(sk, skb)
        tcp_mstamp_refresh(sk)
        tcp_mtup_init(sk)
        tcp_sync_mss(sk, sk.icsk_pmtu_cookie)
        tcp_initialize_rcv_mss(sk)
        tcp_send_synack(sk)
        kfree_skb(skb)
        return 0
    return _discard_and_undo(sk, skb, saved_clamp)


def tcp_rcv_fastopen_synack(
    sk: tcp_sock, synack: sk_buff, cookie: tcp_fastopen_cookie | None
) -> bool:
    """The answer to a SYN with a Fast Open option or data; True: its data was not taken."""
    data = sk.tcp_rtx_queue.peek() if sk.syn_data else None
    mss = sk.rx_opt.mss_clamp
    if mss == sk.rx_opt.user_mss:
        opt = tcp_options_received()
        tcp_parse_options(sk.net, synack, opt, False)
        mss = opt.mss_clamp
    offered = cookie is not None and cookie.val is not None
    syn_drop = False
    try_exp = 0
    if cookie is not None:
        if sk.total_retrans:
            # Only a SYN without data was answered: the one with data, or its answer, was lost.
            syn_drop = data is not None and not offered
        elif not offered and not sk.syn_data:
            # No answer to our request: next time use the other option.
            try_exp = 2 if sk.syn_fastopen_exp else 1
    tcp_fastopen_cache_set(sk, mss, cookie, syn_drop, try_exp)
    linux = sk.net.mib.linux
    if data is not None:
        sk.fastopen_client_fail = TFO_SYN_RETRANSMITTED if sk.total_retrans else TFO_DATA_NOT_ACKED
        while data is not None:
            tcp_mark_skb_lost(sk, data)
            data = sk.tcp_rtx_queue.next(data)
        tcp_non_congestion_loss_retransmit(sk)
        linux.TCPFastOpenActiveFail += 1
        return True
    sk.syn_data_acked = sk.syn_data
    if sk.syn_data_acked:
        linux.TCPFastOpenActive += 1
        if sk.delivered > 1:  # tcp_ack counted SYN and data
            sk.delivered -= 1
    tcp_fastopen_add_skb(sk, synack)
    return False


def _negotiate_timestamps(sk: tcp_sock) -> None:
    if sk.rx_opt.saw_tstamp:
        sk.rx_opt.tstamp_ok = True
        sk.tcp_header_len = 32
        tcp_store_ts_recent(sk)
    else:
        sk.rx_opt.tstamp_ok = False
        sk.tcp_header_len = 20


def _discard_and_undo(sk: tcp_sock, skb: sk_buff, saved_clamp: int) -> int:
    reason = _reset_and_undo(sk, saved_clamp, drop_reason.SKB_DROP_REASON_TCP_FLAGS)
    tcp_drop_reason(sk, skb, reason)
    return 0


def _reset_and_undo(sk: tcp_sock, saved_clamp: int, reason: int) -> int:
    tcp_clear_options(sk.rx_opt)
    sk.rx_opt.mss_clamp = saved_clamp
    return reason


# --- every state but ESTABLISHED and TIME_WAIT --------------------------------------------


def tcp_rcv_state_process(sk: tcp_sock, skb: sk_buff) -> int:
    """RFC 9293 3.10.7. Data at the TCP header.

    0: skb was handled. Non-zero: the caller answers with a RST and frees skb.
    """
    state = sk.sk_state
    flags = skb.tcp_flags
    if state == tcp_states.TCP_CLOSE:
        tcp_drop_reason(sk, skb, drop_reason.SKB_DROP_REASON_TCP_CLOSE)
        return 0
    if state == tcp_states.TCP_LISTEN:
        if flags & TCPHDR_ACK:
            return drop_reason.SKB_DROP_REASON_TCP_FLAGS
        if flags & TCPHDR_RST:
            tcp_drop_reason(sk, skb, drop_reason.SKB_DROP_REASON_TCP_RESET)
            return 0
        if flags & TCPHDR_SYN:
            if flags & TCPHDR_FIN:
                tcp_drop_reason(sk, skb, drop_reason.SKB_DROP_REASON_TCP_FLAGS)
                return 0
            sk.icsk_af_ops.conn_request(sk, skb)
            kfree_skb(skb)
            return 0
        tcp_drop_reason(sk, skb, drop_reason.SKB_DROP_REASON_TCP_FLAGS)
        return 0
    if state == tcp_states.TCP_SYN_SENT:
        sk.rx_opt.saw_tstamp = False
        tcp_mstamp_refresh(sk)
        queued = tcp_rcv_synsent_state_process(sk, skb)
        if queued >= 0:
            return queued
        tcp_urg(sk, skb)
        kfree_skb(skb)
        tcp_data_snd_check(sk)
        return 0
    tcp_mstamp_refresh(sk)
    sk.rx_opt.saw_tstamp = False
    req = sk.fastopen_rsk
    if req is not None and tcp_check_req(sk, skb, req, True) is None:
        return 0
    if not flags & (TCPHDR_ACK | TCPHDR_RST | TCPHDR_SYN):
        tcp_drop_reason(sk, skb, drop_reason.SKB_DROP_REASON_TCP_FLAGS)
        return 0
    if not tcp_validate_incoming(sk, skb, False):
        return 0
    reason = tcp_ack(sk, skb, FLAG_SLOWPATH | FLAG_UPDATE_TS_RECENT | FLAG_NO_CHALLENGE_ACK)
    if reason <= 0:
        if state == tcp_states.TCP_SYN_RECV:
            return -reason or drop_reason.SKB_DROP_REASON_TCP_OLD_ACK
        # An old ACK is normal while closing; one for unsent data is not.
        if reason < 0:
            tcp_send_challenge_ack(sk)
            tcp_drop_reason(sk, skb, -reason)
            return 0
    if state == tcp_states.TCP_SYN_RECV:
        tcp_rcv_synrecv_acked(sk, skb)
    elif state == tcp_states.TCP_FIN_WAIT1:
        if req is not None:
            tcp_rcv_synrecv_state_fastopen(sk, req)
        done = tcp_rcv_fin_wait1(sk, skb)
        if done is not None:
            return done
    elif state == tcp_states.TCP_CLOSING:
        if sk.snd_una == sk.write_seq:
            tcp_time_wait(sk, tcp_next_state(state, RCV_ACK_OF_FIN), 0)
            kfree_skb(skb)
            return 0
    elif state == tcp_states.TCP_LAST_ACK and sk.snd_una == sk.write_seq:
        tcp_update_metrics(sk)
        tcp_done(sk)
        kfree_skb(skb)
        return 0
    tcp_urg(sk, skb)
    bit = 1 << sk.sk_state
    # After the peer's FIN only old data is looked at.
    queued = bit & TCPF_RECEIVING != 0 or (
        bit & TCPF_AFTER_FIN != 0 and before(skb.seq, sk.rcv_nxt)
    )
    if queued:
        # RFC 9293 3.10.7.4: data after our reader has closed gets a RST (RFC 2525 2.17).
        if (
            bit != tcp_states.TCPF_ESTABLISHED
            and sk.sk_shutdown & RCV_SHUTDOWN
            and skb.end_seq != skb.seq
            and after((skb.end_seq - (flags & TCPHDR_FIN)) & M32, sk.rcv_nxt)
        ):
            sk.net.mib.linux.TCPAbortOnData += 1
            tcp_reset(sk)
            return drop_reason.SKB_DROP_REASON_TCP_ABORT_ON_DATA
        tcp_data_queue(sk, skb)
    if sk.sk_state != tcp_states.TCP_CLOSE:
        tcp_data_snd_check(sk)
        tcp_ack_snd_check(sk)
    if not queued:
        kfree_skb(skb)
    return 0


def tcp_rcv_synrecv_acked(sk: tcp_sock, skb: sk_buff) -> None:
    """Our SYN (of a passive or simultaneous open) is acknowledged: ESTABLISHED."""
    sk.delivered += 1
    if not sk.srtt_us:
        tcp_synack_rtt_meas(sk, sk.synack_req)
    sk.synack_req = None
    if sk.rx_opt.tstamp_ok:
        sk.advmss -= 12  # before tcp_init_transfer, which includes tcp_init_buffer_space
    if sk.fastopen_rsk is not None:
        tcp_rcv_synrecv_state_fastopen(sk, sk.fastopen_rsk)
    else:
        tcp_try_undo_spurious_syn(sk)
        sk.retrans_stamp = 0
        tcp_init_transfer(sk)
        sk.copied_seq = sk.rcv_nxt
    tcp_set_state(sk, tcp_next_state(tcp_states.TCP_SYN_RECV, RCV_ACK_OF_SYN))
    sk_state_change(sk)
    sk_wake_async(sk, SOCK_WAKE_IO, POLL_OUT)
    sk.snd_una = skb.ack_seq
    window = skb.th_window
    sk.snd_wnd = window if skb.tcp_flags & TCPHDR_SYN else window << sk.rx_opt.snd_wscale
    sk.snd_wl1 = skb.seq
    sk.lsndtime = sk.net.clock.now_ns()
    tcp_initialize_rcv_mss(sk)
    tcp_fast_path_on(sk)
    if sk.sk_shutdown & SEND_SHUTDOWN:
        tcp_shutdown(sk, SEND_SHUTDOWN)


def tcp_rcv_synrecv_state_fastopen(sk: tcp_sock, req: request_sock) -> None:
    """The handshake of a Fast Open child is over."""
    if sk.icsk_ca_state == TCP_CA_Loss and not sk.packets_out:
        tcp_try_undo_recovery(sk)
    tcp_update_rto_time(sk)
    sk.icsk_retransmits = 0
    if sk.icsk_ca_state in (TCP_CA_Open, TCP_CA_Disorder, TCP_CA_CWR):
        sk.retrans_stamp = 0
    reqsk_fastopen_remove(sk, req, False)
    tcp_rearm_rto(sk)  # the timer now serves data sent meanwhile


def tcp_rcv_fin_wait1(sk: tcp_sock, skb: sk_buff) -> int | None:
    """Leave FIN_WAIT1 if our FIN is acknowledged.

    None: continue with skb; else the result of tcp_rcv_state_process.
    """
    if sk.snd_una != sk.write_seq:
        return None
    tcp_set_state(sk, tcp_next_state(tcp_states.TCP_FIN_WAIT1, RCV_ACK_OF_FIN))
    sk.sk_shutdown |= SEND_SHUTDOWN
    sk.sk_dst_pending_confirm = True
    if not sk.sk_flags & SOCK_DEAD:
        sk_state_change(sk)
        return None
    fin = skb.tcp_flags & TCPHDR_FIN
    unread = skb.end_seq != skb.seq and after((skb.end_seq - fin) & M32, sk.rcv_nxt)
    if sk.linger2 < 0 or unread:
        # TCP_LINGER2 below 0 forbids waiting, or data arrived that nobody will read.
        if sk.linger2 >= 0 and fin and sk.syn_fastopen:
            tcp_fastopen_active_disable(sk.net)  # a middlebox may have dropped what was before it
        tcp_done(sk)
        sk.net.mib.linux.TCPAbortOnData += 1
        return drop_reason.SKB_DROP_REASON_TCP_ABORT_ON_DATA
    tmo = tcp_fin_time(sk)
    if tmo > tcp_const.TCP_TIMEWAIT_LEN:
        inet_csk_reset_keepalive_timer(sk, tmo - tcp_const.TCP_TIMEWAIT_LEN)
    elif fin or sock_owned_by_user(sk):
        # This segment has the FIN, or the backlog may: stay in FIN_WAIT2 until the timer expires.
        inet_csk_reset_keepalive_timer(sk, tmo)
    else:
        tcp_time_wait(sk, tcp_states.TCP_FIN_WAIT2, tmo)
        kfree_skb(skb)
        return 0
    return None
