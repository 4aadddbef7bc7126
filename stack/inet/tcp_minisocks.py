"""net/ipv4/tcp_minisocks.c: less than a socket: requests before, TIME_WAIT after."""

from __future__ import annotations

from typing import Any

from fastpath.hdr import tcp_hdr
from fastpath.skbuff import sk_buff, sk_buff_head
from stack.core.dst import dst_metric_advmss
from stack.core.sock import SOCK_KEEPOPEN, SOCK_RCVBUF_LOCK, sock_owned_by_user
from stack.core.timer import mod_timer
from stack.inet import tcp_ack
from stack.inet.inet_connection_sock import (
    inet_csk_clone_lock,
    inet_csk_complete_hashdance,
    inet_csk_reqsk_queue_drop,
    inet_csk_reset_keepalive_timer,
    inet_rtx_syn_ack,
    request_sock,
)
from stack.inet.inet_timewait_sock import (
    inet_timewait_sock,
    inet_twsk_alloc,
    inet_twsk_deschedule_put,
    inet_twsk_hashdance,
    inet_twsk_reschedule,
    inet_twsk_schedule,
)
from stack.inet.tcp_done import tcp_done
from stack.inet.tcp_ecn import tcp_ecn_openreq_child
from stack.inet.tcp_options import tcp_parse_options
from stack.inet.tcp_sock import (
    M32,
    TCP_INFINITE_SSTHRESH,
    TCP_INIT_CWND,
    TCP_RTO_MAX,
    TCP_TIMEWAIT_LEN,
    TCPHDR_ACK,
    TCPHDR_FIN,
    TCPHDR_RST,
    TCPHDR_SYN,
    TCP_CA_Open,
    after,
    before,
    jiffies_s,
    keepalive_time_when,
    s32,
    tcp_full_space,
    tcp_options_received,
    tcp_paws_reject,
    tcp_receive_window,
    tcp_sock,
)
from stack.inet.tcp_states import TCP_FIN_WAIT2, TCP_LISTEN, TCP_SYN_RECV, TCP_TIME_WAIT
from stack.inet.tcp_window import tcp_mss_clamp, tcp_select_initial_window

TCP_TW_SUCCESS = 0
TCP_TW_RST = 1
TCP_TW_ACK = 2
TCP_TW_SYN = 3


def tcp_in_window(seq: int, end_seq: int, s_win: int, e_win: int) -> bool:
    """RFC 9293 3.4: some of the segment lies in the window."""
    if seq == s_win:
        return True
    if after(end_seq, s_win) and before(seq, e_win):
        return True
    return seq == e_win and seq == end_seq


# --- TIME_WAIT ----------------------------------------------------------------------------


def tcp_time_wait(sk: tcp_sock, state: int, timeo: int) -> None:
    """Leave a small socket in TIME_WAIT (or orphaned FIN_WAIT2) behind and end the big one."""
    net = sk.net
    tw = inet_twsk_alloc(sk, net.tcp_death_row, state)
    if tw is not None:
        rto = (sk.icsk_rto << 2) - (sk.icsk_rto >> 1)
        tw.tw_rcv_wscale = sk.rx_opt.rcv_wscale
        tw.tw_rcv_nxt = sk.rcv_nxt
        tw.tw_snd_nxt = sk.snd_nxt
        tw.tw_rcv_wnd = tcp_receive_window(sk)
        tw.tw_ts_recent = sk.rx_opt.ts_recent
        tw.tw_ts_recent_stamp = sk.rx_opt.ts_recent_stamp if sk.rx_opt.tstamp_ok else 0
        tw.tw_ts_offset = sk.tsoffset
        tw.last_oow_ack_time = 0
        timeo = max(timeo, rto)
        if state == TCP_TIME_WAIT:
            timeo = TCP_TIMEWAIT_LEN
        inet_twsk_schedule(tw, timeo)
        inet_twsk_hashdance(tw, sk, net.tcp_hashinfo)
    else:
        # Too many already: this one is simply closed.
        net.mib.linux.TCPTimeWaitOverflow += 1
    tcp_done(sk)


def tcp_oow_rate_limited_mini(
    mini: inet_timewait_sock | request_sock, skb: sk_buff, mib: str
) -> bool:
    """tcp_oow_rate_limited with the time stamp of something less than a socket."""
    if skb.end_seq != skb.seq and not skb.tcp_flags & TCPHDR_SYN:
        return False
    return tcp_ack.__tcp_oow_rate_limited(mini.net, mini, mib)


def tcp_challenge_limited_mini(mini: inet_timewait_sock | request_sock) -> bool:
    """The limits of tcp_send_challenge_ack, for the same."""
    net = mini.net
    return tcp_ack.__tcp_oow_rate_limited(
        net, mini, "TCPACKSkippedChallenge"
    ) or not tcp_ack.tcp_challenge_ack_allowed(net)


def tcp_timewait_check_oow_rate_limit(tw: inet_timewait_sock, skb: sk_buff, mib: str) -> int:
    """ACK what is outside the window, but not too often."""
    if tcp_oow_rate_limited_mini(tw, skb, mib):
        return TCP_TW_SUCCESS
    return TCP_TW_ACK


def tcp_timewait_state_process(tw: inet_timewait_sock, skb: sk_buff) -> int:
    """A segment for a socket in TIME_WAIT: what to answer (TCP_TW_*).

    TCP_TW_SYN: a new incarnation may begin (RFC 9293 3.6.1, 6191); net.tcp_tw_isn is its ISN.
    """
    net = tw.net
    flags = skb.tcp_flags
    seq, end_seq = skb.seq, skb.end_seq
    rst = bool(flags & TCPHDR_RST)
    tmp_opt = tcp_options_received()
    paws_reject = False
    if tcp_hdr(skb).doff > 5 and tw.tw_ts_recent_stamp:
        tmp_opt.tstamp_ok = True
        tcp_parse_options(net, skb, tmp_opt, True)
        if tmp_opt.saw_tstamp:
            if tmp_opt.rcv_tsecr:
                tmp_opt.rcv_tsecr = (tmp_opt.rcv_tsecr - tw.tw_ts_offset) & M32
            tmp_opt.ts_recent = tw.tw_ts_recent
            tmp_opt.ts_recent_stamp = tw.tw_ts_recent_stamp
            paws_reject = tcp_paws_reject(tmp_opt, rst, jiffies_s(tw))
    if tw.tw_substate == TCP_FIN_WAIT2:
        if paws_reject or not tcp_in_window(
            seq, end_seq, tw.tw_rcv_nxt, (tw.tw_rcv_nxt + tw.tw_rcv_wnd) & M32
        ):
            return tcp_timewait_check_oow_rate_limit(tw, skb, "TCPACKSkippedFinWait2")
        # RFC 5961 3.2, 4.2: only a RST that names the next number ends it; another one in the
        # window, or a SYN, has its sender show by a RST that it knows nothing of the connection.
        # (The kernel believes both here.)
        if (rst and seq != tw.tw_rcv_nxt) or (not rst and flags & TCPHDR_SYN):
            return TCP_TW_SUCCESS if tcp_challenge_limited_mini(tw) else TCP_TW_ACK
        if rst:
            inet_twsk_deschedule_put(tw)
            return TCP_TW_SUCCESS
        if not flags & TCPHDR_ACK or not after(end_seq, tw.tw_rcv_nxt) or end_seq == seq:
            return TCP_TW_SUCCESS
        # Data nobody will read, or data after the FIN.
        if not flags & TCPHDR_FIN or end_seq != (tw.tw_rcv_nxt + 1) & M32:
            return TCP_TW_RST
        tw.tw_substate = TCP_TIME_WAIT
        tw.tw_rcv_nxt = end_seq
        if tmp_opt.saw_tstamp:
            tw.tw_ts_recent_stamp = jiffies_s(tw)
            tw.tw_ts_recent = tmp_opt.rcv_tsval
        inet_twsk_reschedule(tw, TCP_TIMEWAIT_LEN)
        return TCP_TW_ACK
    if not paws_reject and seq == tw.tw_rcv_nxt and (seq == end_seq or rst):
        if rst:
            # RFC 1337: with the sysctl a RST does not end TIME_WAIT.
            if not net.sysctl.tcp_rfc1337:
                inet_twsk_deschedule_put(tw)
                return TCP_TW_SUCCESS
        else:
            inet_twsk_reschedule(tw, TCP_TIMEWAIT_LEN)
        if tmp_opt.saw_tstamp:
            tw.tw_ts_recent = tmp_opt.rcv_tsval
            tw.tw_ts_recent_stamp = jiffies_s(tw)
        return TCP_TW_SUCCESS
    if (
        flags & TCPHDR_SYN
        and not rst
        and not flags & TCPHDR_ACK
        and not paws_reject
        and (
            after(seq, tw.tw_rcv_nxt)
            or (tmp_opt.saw_tstamp and s32(tw.tw_ts_recent - tmp_opt.rcv_tsval) < 0)
        )
    ):
        net.tcp_tw_isn = (tw.tw_snd_nxt + 65535 + 2) & M32 or 1
        return TCP_TW_SYN
    if paws_reject:
        net.mib.linux.PAWSEstab += 1
    if not rst:
        # A retransmitted FIN restarts the wait.
        if paws_reject or flags & TCPHDR_ACK:
            inet_twsk_reschedule(tw, TCP_TIMEWAIT_LEN)
        return tcp_timewait_check_oow_rate_limit(tw, skb, "TCPACKSkippedTimeWait")
    return TCP_TW_SUCCESS


# --- requests -----------------------------------------------------------------------------


def tcp_openreq_init_rwin(req: request_sock, sk: tcp_sock, dst: Any) -> None:
    """The window that the SYN-ACK offers."""
    window_clamp = sk.window_clamp
    full_space = tcp_full_space(sk)
    mss = tcp_mss_clamp(sk, dst_metric_advmss(dst))
    req.rsk_window_clamp = window_clamp or dst.metrics.get("window", 0)
    if sk.sk_flags & SOCK_RCVBUF_LOCK and (
        req.rsk_window_clamp > full_space or req.rsk_window_clamp == 0
    ):
        req.rsk_window_clamp = full_space
    req.rsk_rcv_wnd, req.rsk_window_clamp, req.rcv_wscale = tcp_select_initial_window(
        sk,
        full_space,
        mss - (12 if req.tstamp_ok else 0),
        req.rsk_window_clamp,
        req.wscale_ok,
        dst.metrics.get("initrwnd", 0),
    )


def tcp_ca_openreq_child(sk: tcp_sock, dst: Any) -> None:
    """The child's congestion control: the listener's, unless the route says otherwise."""
    if sk.icsk_ca_ops is None:
        from stack.inet.tcp_cong import tcp_assign_congestion_control

        tcp_assign_congestion_control(sk)
    sk.icsk_ca_state = TCP_CA_Open
    sk.icsk_ca_priv = None


def tcp_create_openreq_child(sk: tcp_sock, req: request_sock, skb: sk_buff) -> tcp_sock:
    """A full socket in SYN_RECV from a listener and a request that was acknowledged."""
    newsk: tcp_sock = inet_csk_clone_lock(sk, req)
    now = sk.net.now()
    newsk.tcp_rtx_queue = sk_buff_head()
    newsk.out_of_order_queue = []
    newsk.selective_acks = []
    newsk.duplicate_sack = (0, 0)
    newsk.recv_sack_cache = ()
    newsk.cork = type(sk.cork)()
    newsk.rx_opt = sk.rx_opt.copy()
    newsk.pred_flags = 0
    seq = (req.rcv_isn + 1) & M32
    newsk.rcv_nxt = newsk.copied_seq = newsk.rcv_wup = seq
    newsk.segs_in = 1
    seq = (req.snt_isn + 1) & M32
    newsk.snd_sml = newsk.snd_una = newsk.snd_nxt = newsk.snd_up = seq
    newsk.write_seq = newsk.pushed_seq = seq
    newsk.snd_wl1 = req.rcv_isn
    newsk.srtt_us = 0
    newsk.mdev_us = newsk.rttvar_us = 1_000_000
    newsk.mdev_max_us = 0
    newsk.rtt_seq = 0
    newsk.min_rtt_us = M32
    newsk.min_rtt_stamp = now
    newsk.icsk_rto = 1_000_000_000
    newsk.icsk_ack_lrcvtime = now
    newsk.icsk_ack_quick = 0
    newsk.packets_out = 0
    newsk.retrans_out = 0
    newsk.sacked_out = 0
    newsk.lost_out = 0
    newsk.snd_ssthresh = TCP_INFINITE_SSTHRESH
    newsk.snd_cwnd = TCP_INIT_CWND
    newsk.snd_cwnd_cnt = 0
    newsk.lsndtime = now
    newsk.total_retrans = req.num_retrans
    newsk.tsq_flags = 0
    newsk.urg_data = 0
    newsk.high_seq = seq
    newsk.highest_sack_end = seq
    newsk.rcv_tstamp = now
    from stack.inet.tcp_timer import tcp_init_xmit_timers

    tcp_init_xmit_timers(newsk)
    if sk.sk_flags & SOCK_KEEPOPEN:
        inet_csk_reset_keepalive_timer(newsk, keepalive_time_when(newsk))
    tcp_ecn_openreq_child(newsk, req)
    rx_opt = newsk.rx_opt
    rx_opt.tstamp_ok = req.tstamp_ok
    rx_opt.sack_ok = 1 if req.sack_ok else 0
    rx_opt.dsack = False
    rx_opt.num_sacks = 0
    rx_opt.saw_tstamp = False
    newsk.window_clamp = req.rsk_window_clamp
    newsk.rcv_ssthresh = req.rsk_rcv_wnd
    newsk.rcv_wnd = req.rsk_rcv_wnd
    rx_opt.wscale_ok = req.wscale_ok
    if rx_opt.wscale_ok:
        rx_opt.snd_wscale = req.snd_wscale
        rx_opt.rcv_wscale = req.rcv_wscale
    else:
        rx_opt.snd_wscale = rx_opt.rcv_wscale = 0
        newsk.window_clamp = min(newsk.window_clamp, 65535)
    newsk.snd_wnd = tcp_hdr(skb).window << rx_opt.snd_wscale
    newsk.max_window = newsk.snd_wnd
    if rx_opt.tstamp_ok:
        newsk.tsoffset = req.ts_off
        rx_opt.ts_recent = req.ts_recent
        rx_opt.ts_recent_stamp = jiffies_s(sk)
        newsk.tcp_header_len = 32
    else:
        newsk.tsoffset = 0
        rx_opt.ts_recent_stamp = 0
        newsk.tcp_header_len = 20
    if req.num_timeout:
        newsk.total_rto = req.num_timeout
        newsk.undo_marker = 0
        if rx_opt.tstamp_ok:
            newsk.undo_marker = newsk.snd_una or 1
        newsk.retrans_stamp = req.snt_synack
    newsk.last_oow_ack_time = 0
    rx_opt.mss_clamp = req.mss
    newsk.saved_syn = req.saved_syn
    newsk.bytes_received = newsk.bytes_acked = newsk.bytes_sent = newsk.bytes_retrans = 0
    newsk.segs_out = newsk.data_segs_in = newsk.data_segs_out = 0
    newsk.delivered = 0
    newsk.lost = 0
    sk.net.mib.tcp.PassiveOpens += 1
    return newsk


def tcp_check_req(sk: tcp_sock, skb: sk_buff, req: request_sock) -> Any:
    """A segment for a request (RFC 9293 3.10.7.4 in SYN-RECEIVED).

    Returns the new child; or `sk`, the listener, to let it answer (with a RST); or None: dropped.
    """
    net = sk.net
    flags = skb.tcp_flags
    seq, end_seq = skb.seq, skb.end_seq
    flg = flags & (TCPHDR_RST | TCPHDR_SYN | TCPHDR_ACK)
    linux = net.mib.linux
    tmp_opt = tcp_options_received()
    paws_reject = False
    if tcp_hdr(skb).doff > 5:
        tcp_parse_options(net, skb, tmp_opt, False)
        if tmp_opt.saw_tstamp:
            tmp_opt.ts_recent = req.ts_recent
            if tmp_opt.rcv_tsecr:
                tmp_opt.rcv_tsecr = (tmp_opt.rcv_tsecr - req.ts_off) & M32
            tmp_opt.ts_recent_stamp = jiffies_s(sk) - (req.timeout << req.num_timeout) // 10**9
            paws_reject = tcp_paws_reject(tmp_opt, bool(flags & TCPHDR_RST), jiffies_s(sk))
    if seq == req.rcv_isn and flg == TCPHDR_SYN and not paws_reject:
        # The SYN again: our SYN-ACK was lost.
        limited = tcp_oow_rate_limited_mini(req, skb, "TCPACKSkippedSynRecv")
        if not limited and not inet_rtx_syn_ack(sk, req):
            mod_timer(req.rsk_timer, net.now() + min(req.timeout << req.num_timeout, TCP_RTO_MAX))
        return None
    if flags & TCPHDR_ACK and skb.ack_seq != (req.snt_isn + 1) & M32:
        return sk
    window = min(req.rsk_rcv_wnd, 65535)
    if paws_reject or not tcp_in_window(seq, end_seq, req.rcv_nxt, (req.rcv_nxt + window) & M32):
        if not flg & TCPHDR_RST and not tcp_oow_rate_limited_mini(req, skb, "TCPACKSkippedSynRecv"):
            sk.icsk_af_ops.reqsk_send_ack(sk, skb, req)
        if paws_reject:
            linux.PAWSEstab += 1
        return None
    if tmp_opt.saw_tstamp and not after(seq, req.rcv_nxt):
        req.ts_recent = tmp_opt.rcv_tsval
    if seq == req.rcv_isn:
        flg &= ~TCPHDR_SYN  # the SYN in front of the window is cut off
    if flg & TCPHDR_RST and seq != req.rcv_nxt:
        # RFC 5961 3.2 (the kernel believes any RST in the window here).
        if not tcp_challenge_limited_mini(req):
            sk.icsk_af_ops.reqsk_send_ack(sk, skb, req)
        return None
    if flg & (TCPHDR_RST | TCPHDR_SYN):
        net.mib.tcp.AttemptFails += 1
        return tcp_embryonic_reset(sk, skb, req, flg)
    if not flg & TCPHDR_ACK:
        return None
    if (
        req.num_timeout < sk.icsk_accept_queue.rskq_defer_accept
        and end_seq == (req.rcv_isn + 1) & M32
    ):
        # TCP_DEFER_ACCEPT: the bare ACK does not count, data must follow.
        req.acked = True
        linux.TCPDeferAcceptDrop += 1
        return None
    child = sk.icsk_af_ops.syn_recv_sock(sk, skb, req, None, req)
    if child is None:
        if net.sysctl.tcp_abort_on_overflow:
            return tcp_embryonic_reset(sk, skb, req, flg)
        req.acked = True
        return None
    own_req = net.tcp_hashinfo.ehash.get(
        (req.inet_daddr, req.inet_dport, req.inet_rcv_saddr, req.inet_num)
    )
    return inet_csk_complete_hashdance(sk, child, req, own_req is child)


def tcp_embryonic_reset(sk: tcp_sock, skb: sk_buff, req: request_sock, flg: int) -> None:
    """The request ends with a RST, ours or the peer's."""
    if not flg & TCPHDR_RST:
        sk.icsk_af_ops.send_reset(sk, skb)
    inet_csk_reqsk_queue_drop(sk, req)
    sk.net.mib.linux.EmbryonicRsts += 1


def tcp_child_process(parent: tcp_sock, child: tcp_sock, skb: sk_buff) -> int:
    """Feed a new child its first segment; wake the listener. Non-zero: answer with a RST.

    Takes ownership of skb unless it returns non-zero.
    """
    child.segs_in += max(1, skb.gso_segs) - 1
    ret = 0
    if not sock_owned_by_user(child):
        from stack.inet import tcp_input

        state = child.sk_state
        ret = tcp_input.tcp_rcv_state_process(child, skb)
        if state == TCP_SYN_RECV and child.sk_state != state and parent.sk_state == TCP_LISTEN:
            parent.sk_data_ready()
    else:
        child.sk_backlog.append(skb)
        child.sk_backlog_len += skb.truesize
    return ret
