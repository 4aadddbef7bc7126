"""net/ipv4/tcp_minisocks.c, the end: a connection in TIME_WAIT, and orphans in FIN_WAIT2."""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff
from stack.core import tcp_states
from stack.core.tcp_states import RCV_FIN, tcp_check_transition, tcp_next_state
from stack.core.time64 import NSEC_PER_MSEC
from stack.inet.inet_connection_sock import request_sock
from stack.inet.inet_timewait_sock import (
    inet_timewait_sock,
    inet_twsk_alloc,
    inet_twsk_deschedule_put,
    inet_twsk_hashdance,
    inet_twsk_reschedule,
    inet_twsk_schedule,
    timewait_sock_ops,
)
from stack.inet.tcp_challenge import (
    __tcp_oow_rate_limited,
    tcp_challenge_ack_allowed,
    tcp_oow_rate_limited,
)
from stack.inet.tcp_const import TCP_TIMEWAIT_LEN
from stack.inet.tcp_done import tcp_done
from stack.inet.tcp_md5 import tcp_md5_lookup
from stack.inet.tcp_metrics import tcp_update_metrics
from stack.inet.tcp_options import tcp_parse_options
from stack.inet.tcp_sock import (
    M32,
    TCPHDR_ACK,
    TCPHDR_FIN,
    TCPHDR_RST,
    TCPHDR_SYN,
    after,
    before,
    jiffies_s,
    s32,
    tcp_options_received,
    tcp_paws_reject,
    tcp_receive_window,
    tcp_sock,
)

TCP_TW_SUCCESS = 0
TCP_TW_RST = 1
TCP_TW_ACK = 2
TCP_TW_SYN = 3
TCP_TW_ACK_OOW = 4  # the acknowledged segment is outside the window: never ECN-capable


def tcp_in_window(seq: int, end_seq: int, s_win: int, e_win: int) -> bool:
    """RFC 9293 3.4: some of the segment lies in the window."""
    if seq == s_win:
        return True
    if after(end_seq, s_win) and before(seq, e_win):
        return True
    return seq == e_win and seq == end_seq


def tcp_time_wait(sk: tcp_sock, state: int, timeo: int) -> None:
    """Replace sk by a small socket in TIME_WAIT (or in FIN_WAIT2, for an orphan) and end sk."""
    net = sk.net
    tcp_check_transition(sk.sk_state, state)
    tw = inet_twsk_alloc(sk, state)
    if tw is not None:
        rto = (sk.icsk_rto << 2) - (sk.icsk_rto >> 1)
        tw.tw_rcv_wscale = sk.rx_opt.rcv_wscale
        tw.tw_rcv_nxt = sk.rcv_nxt
        tw.tw_snd_nxt = sk.snd_nxt
        tw.tw_rcv_wnd = tcp_receive_window(sk)
        tw.tw_ts_recent = sk.rx_opt.ts_recent
        tw.tw_ts_recent_stamp = sk.rx_opt.ts_recent_stamp if sk.rx_opt.tstamp_ok else 0
        tw.tw_ts_offset = sk.tsoffset
        if sk.md5sig_info is not None:
            tw.tw_md5_key = tcp_md5_lookup(sk)
        tw.tw_entry_stamp = net.clock.now_ns()
        tw.last_oow_ack_time = 0
        timeo = max(timeo, rto)
        if state == tcp_states.TCP_TIME_WAIT:
            timeo = TCP_TIMEWAIT_LEN
        inet_twsk_schedule(tw, timeo)
        inet_twsk_hashdance(tw, sk)
    else:
        # Too many already: this one is simply closed.
        net.mib.linux.TCPTimeWaitOverflow += 1
    tcp_update_metrics(sk)
    tcp_done(sk)


def tcp_challenge_limited_mini(mini: inet_timewait_sock | request_sock) -> bool:
    """Whether a limit of tcp_send_challenge_ack forbids one for a TIME_WAIT socket or request."""
    limited = __tcp_oow_rate_limited(mini, "TCPACKSkippedChallenge")
    return limited or not tcp_challenge_ack_allowed(mini.net)


def tcp_timewait_check_oow_rate_limit(tw: inet_timewait_sock, skb: sk_buff, mib: str) -> int:
    """ACK an out-of-window segment, rate limited."""
    if tcp_oow_rate_limited(tw, skb, mib):
        return TCP_TW_SUCCESS
    return TCP_TW_ACK_OOW


def tcp_timewait_state_process(tw: inet_timewait_sock, skb: sk_buff) -> int:
    """A segment for a socket in TIME_WAIT: how to answer (TCP_TW_*).

    TCP_TW_SYN: a new incarnation may begin (RFC 9293 3.6.1, 6191); net.tcp_tw_isn is its ISN.
    """
    net = tw.net
    flags = skb.tcp_flags
    seq, end_seq = skb.seq, skb.end_seq
    rst = bool(flags & TCPHDR_RST)
    tmp_opt: tcp_options_received = tcp_options_received()
    paws_reject = False
    if skb.l4_hlen > 20 and tw.tw_ts_recent_stamp:
        tmp_opt.tstamp_ok = True
        tcp_parse_options(net, skb, tmp_opt, True)
        if tmp_opt.saw_tstamp:
            if tmp_opt.rcv_tsecr:
                tmp_opt.rcv_tsecr = (tmp_opt.rcv_tsecr - tw.tw_ts_offset) & M32
            tmp_opt.ts_recent = tw.tw_ts_recent
            tmp_opt.ts_recent_stamp = tw.tw_ts_recent_stamp
            paws_reject = tcp_paws_reject(tmp_opt, rst, jiffies_s(net))
    if tw.tw_substate == tcp_states.TCP_FIN_WAIT2:
        if paws_reject or not tcp_in_window(
            seq, end_seq, tw.tw_rcv_nxt, (tw.tw_rcv_nxt + tw.tw_rcv_wnd) & M32
        ):
            return tcp_timewait_check_oow_rate_limit(tw, skb, "TCPACKSkippedFinWait2")
        # RFC 5961 3.2, 4.2: only a RST with exactly the next sequence number ends the connection.
        # Other RSTs in the window, and SYNs, get a challenge ACK; the kernel accepts both here.
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
        tw.tw_substate = tcp_next_state(tcp_states.TCP_FIN_WAIT2, RCV_FIN)
        tw.tw_rcv_nxt = end_seq
        tw.tw_entry_stamp = net.clock.now_ns()
        if tmp_opt.saw_tstamp:
            tw.tw_ts_recent_stamp = jiffies_s(net)
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
            tw.tw_ts_recent_stamp = jiffies_s(net)
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
        net.mib.linux.PAWSTimewait += 1
    if not rst:
        # A retransmitted FIN restarts the wait.
        if paws_reject or flags & TCPHDR_ACK:
            inet_twsk_reschedule(tw, TCP_TIMEWAIT_LEN)
        return tcp_timewait_check_oow_rate_limit(tw, skb, "TCPACKSkippedTimeWait")
    return TCP_TW_SUCCESS


def tcp_twsk_unique(sk: tcp_sock, sktw: inet_timewait_sock, bound: bool) -> bool:
    """timewait_sock_ops.twsk_unique: whether sk may reuse this 4-tuple (RFC 6191, RFC 7323).

    That needs timestamps. An automatic port also needs sysctl tcp_tw_reuse (2: on loopback only)
    and tcp_tw_reuse_delay since TIME_WAIT began; a `bound` port does not.
    """
    net = sk.net
    reuse = net.sysctl.tcp_tw_reuse
    loopback = sktw.sk_af.is_loopback
    if reuse == 2 and not loopback(sktw.inet_daddr) and not loopback(sktw.inet_rcv_saddr):
        reuse = 0
    if sktw.tw_substate != tcp_states.TCP_TIME_WAIT:
        reuse = 0
    rested = net.clock.now_ns() - sktw.tw_entry_stamp
    if not bound and (not reuse or rested <= net.sysctl.tcp_tw_reuse_delay * NSEC_PER_MSEC):
        return False
    if not sktw.tw_ts_recent_stamp:
        return False
    sk.write_seq = (sktw.tw_snd_nxt + 65535 + 2) & M32 or 1
    sk.rx_opt.ts_recent = sktw.tw_ts_recent
    sk.rx_opt.ts_recent_stamp = sktw.tw_ts_recent_stamp
    return True


tcp_timewait_sock_ops = timewait_sock_ops(twsk_unique=tcp_twsk_unique)
