"""net/ipv4/tcp_output.c: segments without user data: SYN, FIN, RST, ACK, probes.

Callers, and what is sent:

    tcp_v4_connect, tcp_v6_connect -> tcp_connect_begin -> tcp_connect
        tcp_connect_init            window, MSS and sequence numbers of a new connection
        tcp_transmit_skb            the SYN, which also stays in `tcp_rtx_queue`
    tcp_v4_send_synack, tcp_v6_send_synack -> tcp_make_synack       SYN-ACK of a listener
    tcp_rcv_synsent_state_process -> tcp_send_synack                simultaneous open
    tcp_close, tcp_shutdown -> tcp_send_fin     on the last unsent sk_buff, else on its own
    abort, unread data -> tcp_send_active_reset
    __tcp_ack_snd_check -> tcp_send_ack, or tcp_send_delayed_ack    which arms the timer
    tcp_probe_timer -> tcp_send_probe0 -> tcp_write_wakeup          the window is closed
    tcp_keepalive_timer -> tcp_write_wakeup -> tcp_xmit_probe_skb

SYN and FIN take a sequence number, so they are queued and retransmitted; RST, ACK and probes are
sent once and freed. If no buffer is left, the ACK and the FIN are tried again by a timer. This file
keeps no state of its own. Read tcp_connect first, then tcp_send_delayed_ack.
"""

from __future__ import annotations

import contextlib
import errno

from fastpath.base.skbuff import CHECKSUM_PARTIAL, alloc_skb, kfree_skb, sk_buff, skb_header_release
from fastpath.net.hdr import tcp_push as tcp_header_push
from stack.core.dst import dst_entry, dst_metric_advmss, dst_mtu
from stack.core.errors import os_error
from stack.core.iov import add_to_skb
from stack.core.rows import wide
from stack.core.secure_seq import secure_tcp_seq, secure_tcp_ts_off
from stack.core.sk_mem import sk_mem_charge
from stack.core.sock import sock_reset_flag
from stack.core.sock_flags import SOCK_DONE, SOCK_RCVBUF_LOCK
from stack.core.tcp_states import TCP_CLOSE
from stack.core.time64 import NSEC_PER_SEC
from stack.core.timer import mod_timer
from stack.inet import tcp_const
from stack.inet.inet_connection_sock import (
    ICSK_ACK_PUSHED,
    ICSK_ACK_SCHED,
    ICSK_ACK_TIMER,
    ICSK_TIME_DACK,
    ICSK_TIME_PROBE0,
    ICSK_TIME_RETRANS,
    inet_csk_make_delack_timer,
    inet_csk_reset_xmit_timer,
    inet_csk_schedule_ack,
    request_sock,
)
from stack.inet.inet_hashtables import inet_reset_saddr
from stack.inet.tcp_accecn import tcp_accecn_reflector_flags
from stack.inet.tcp_cong import tcp_ca_dst_init
from stack.inet.tcp_done import tcp_set_state
from stack.inet.tcp_ecn import tcp_ecn_make_synack, tcp_ecn_send_syn, tcp_ecn_send_synack
from stack.inet.tcp_fastopen import tcp_fastopen_cookie_check, tcp_fastopen_defer_connect
from stack.inet.tcp_md5 import (
    TCPOLEN_MD5SIG_ALIGNED,
    tcp_md5_lookup,
    tcp_md5_lookup_req,
    tcp_md5_option,
)
from stack.inet.tcp_options import MAX_TCP_OPTION_SPACE, TCPOLEN_TSTAMP_ALIGNED, tcp_synack_options
from stack.inet.tcp_output import (
    TCP_FRAG_IN_WRITE_QUEUE,
    __tcp_push_pending_frames,
    __tcp_transmit_skb,
    tcp_event_new_data_sent,
    tcp_fragment,
    tcp_probe0_when,
    tcp_reset_xmit_timer,
    tcp_set_skb_tso_segs,
    tcp_stream_alloc_skb,
    tcp_transmit_skb,
    tcp_write_queue_purge,
)
from stack.inet.tcp_rtt import tcp_rto_min
from stack.inet.tcp_sock import (
    M32,
    MAX_TCP_HEADER,
    TCP_ECN_MODE_ACCECN,
    TCP_NAGLE_OFF,
    TCPHDR_ACK,
    TCPHDR_FIN,
    TCPHDR_PSH,
    TCPHDR_RST,
    TCPHDR_SYN,
    before,
    between,
    tcp_fastopen_request,
    tcp_full_space,
    tcp_mstamp_refresh,
    tcp_sock,
    tcp_wnd_end,
)
from stack.inet.tcp_window import (
    __tcp_mtu_to_mss,
    tcp_current_mss,
    tcp_initialize_rcv_mss,
    tcp_mss_clamp,
    tcp_mtup_init,
    tcp_select_initial_window,
    tcp_sync_mss,
)


def tcp_acceptable_seq(sk: tcp_sock) -> int:
    """Sequence number for a segment without data: SND.NXT, or the window's end if that shrank."""
    wnd_end = (sk.snd_una + sk.snd_wnd) & M32
    if not before(wnd_end, sk.snd_nxt) or (
        sk.rx_opt.wscale_ok and ((sk.snd_nxt - wnd_end) & M32) < (1 << sk.rx_opt.rcv_wscale)
    ):
        return sk.snd_nxt
    return wnd_end


def tcp_init_nondata_skb(skb: sk_buff, seq: int, flags: int) -> None:
    """A segment without payload: SYN and FIN take one sequence number."""
    skb.ip_summed = CHECKSUM_PARTIAL
    skb.tcp_flags = flags
    skb.tcp_gso_segs = 1
    skb.tcp_gso_size = 0
    skb.seq = seq
    skb.end_seq = (seq + 1) & M32 if flags & (TCPHDR_SYN | TCPHDR_FIN) else seq


def tcp_queue_skb(sk: tcp_sock, skb: sk_buff) -> None:
    """Append skb to the write queue, sequence numbers set. Takes ownership of skb."""
    sk.write_seq = skb.end_seq
    skb_header_release(skb)
    sk.sk_write_queue.queue_tail(skb)
    truesize = skb.truesize
    sk.sk_wmem_queued += truesize
    sk_mem_charge(sk, truesize)


def tcp_send_fin(sk: tcp_sock) -> None:
    """Queue a FIN: on the last unsent sk_buff if there is one, else as a separate segment."""
    tail = sk.sk_write_queue.peek_tail()
    unsent = tail is not None
    skb = None if unsent else tcp_stream_alloc_skb(sk, True)
    if skb is not None:
        tcp_init_nondata_skb(skb, sk.write_seq, TCPHDR_ACK | TCPHDR_FIN)
        tcp_queue_skb(sk, skb)
    else:
        if tail is None:
            # No buffer is left: the last sent packet carries the FIN when it is retransmitted.
            tail = sk.tcp_rtx_queue.peek_tail()
        if tail is None:
            # Nothing is in flight: tcp_probe_timer tries again.
            tcp_reset_xmit_timer(sk, ICSK_TIME_PROBE0, tcp_const.TCP_RESOURCE_PROBE_INTERVAL)
            return
        tail.tcp_flags |= TCPHDR_FIN
        tail.end_seq = (tail.end_seq + 1) & M32
        sk.write_seq = (sk.write_seq + 1) & M32
        if not unsent:
            sk.snd_nxt = (sk.snd_nxt + 1) & M32
            return
    __tcp_push_pending_frames(sk, tcp_current_mss(sk), TCP_NAGLE_OFF)


def tcp_send_active_reset(sk: tcp_sock) -> None:
    """Send a RST: the application aborts, or data arrived that nobody will read."""
    sk.net.mib.tcp.OutRsts += 1
    skb = alloc_skb(sk.net.skb_small, 0, MAX_TCP_HEADER)
    if skb is None:
        sk.net.mib.linux.TCPAbortFailed += 1
        return
    tcp_init_nondata_skb(skb, tcp_acceptable_seq(sk), TCPHDR_ACK | TCPHDR_RST)
    tcp_mstamp_refresh(sk)
    if tcp_transmit_skb(sk, skb, 0):
        sk.net.mib.linux.TCPAbortFailed += 1


def tcp_send_synack(sk: tcp_sock) -> int:
    """Simultaneous open: turn the SYN in the retransmit queue into a SYN-ACK and send it."""
    skb = sk.tcp_rtx_queue.peek()
    if skb is None or not skb.tcp_flags & TCPHDR_SYN:
        return -errno.EFAULT
    skb.tcp_flags |= TCPHDR_ACK
    tcp_ecn_send_synack(sk, skb)
    return tcp_transmit_skb(sk, skb, 1)


def tcp_make_synack(sk: tcp_sock, dst: dst_entry, req: request_sock) -> sk_buff | None:
    """A SYN-ACK for a request, data at the TCP header; None when no buffer is left."""
    skb = alloc_skb(sk.net.skb_small, 0, MAX_TCP_HEADER)
    if skb is None:
        return None
    skb.dst = dst
    now = sk.net.clock.now_ns()
    mss = tcp_mss_clamp(sk, dst_metric_advmss(dst))
    md5 = tcp_md5_lookup_req(sk, req) if sk.md5sig_info is not None else None
    options = tcp_synack_options(sk, req, mss, now, TCPOLEN_MD5SIG_ALIGNED if md5 else 0)
    if not req.snt_synack:
        req.snt_synack = now
    skb.ip_summed = CHECKSUM_PARTIAL
    flags = TCPHDR_SYN | TCPHDR_ACK | tcp_ecn_make_synack(req)
    sport, dport, window = req.inet_num, req.inet_dport, min(req.rsk_rcv_wnd, 65535)
    if md5 is not None:
        fields = (sport, dport, req.snt_isn, req.rcv_nxt, flags, window, 0)
        ends = req.inet_rcv_saddr, req.inet_daddr
        options = tcp_md5_option(md5, *ends, fields, len(options), b"") + options
    tcp_header_push(skb, sport, dport, req.snt_isn, req.rcv_nxt, flags, window, 0, options)
    skb.tcp_flags = flags
    skb.seq = req.snt_isn
    skb.priority = sk.sk_priority
    skb.mark = req.sk_mark
    sk.net.mib.tcp.OutSegs += 1
    return skb


def tcp_connect_init(sk: tcp_sock) -> None:
    """Initialise a connection before its SYN is sent."""
    sysctl = sk.net.sysctl
    dst = sk.sk_dst_cache
    assert dst is not None  # tcp_v*_connect has just routed
    sk.tcp_header_len = 20 + (TCPOLEN_TSTAMP_ALIGNED if sysctl.tcp_timestamps else 0)
    if sk.md5sig_info is not None and tcp_md5_lookup(sk) is not None:
        sk.tcp_header_len += TCPOLEN_MD5SIG_ALIGNED
    if sk.rx_opt.user_mss:
        sk.rx_opt.mss_clamp = sk.rx_opt.user_mss
    sk.max_window = 0
    tcp_mtup_init(sk)
    tcp_sync_mss(sk, dst_mtu(dst))
    if not sk.window_clamp:
        sk.window_clamp = dst.metrics.get("window", 0)
    sk.advmss = tcp_mss_clamp(sk, dst_metric_advmss(dst))
    tcp_initialize_rcv_mss(sk)
    if sk.sk_flags & SOCK_RCVBUF_LOCK and (
        sk.window_clamp > tcp_full_space(sk) or sk.window_clamp == 0
    ):
        sk.window_clamp = tcp_full_space(sk)
    sk.rcv_wnd, sk.window_clamp, sk.rx_opt.rcv_wscale = tcp_select_initial_window(
        sk,
        tcp_full_space(sk),
        sk.advmss - (sk.tcp_header_len - 20 if sk.rx_opt.ts_recent_stamp else 0),
        sk.window_clamp,
        bool(sysctl.tcp_window_scaling),
        dst.metrics.get("initrwnd", 0),
    )
    sk.rcv_ssthresh = sk.rcv_wnd
    tcp_ca_dst_init(sk, dst)
    sk.sk_err = 0
    sock_reset_flag(sk, SOCK_DONE)
    sk.snd_wnd = 0
    sk.snd_wl1 = 0
    tcp_write_queue_purge(sk)
    sk.snd_una = sk.write_seq
    sk.snd_sml = sk.write_seq
    sk.snd_up = sk.write_seq
    sk.snd_nxt = sk.write_seq
    sk.rcv_nxt = 0
    sk.rcv_wup = 0
    sk.rcv_mwnd_seq = sk.rcv_wnd
    sk.copied_seq = 0
    sk.icsk_rto = tcp_const.TCP_TIMEOUT_INIT
    sk.icsk_retransmits = 0
    tcp_clear_retrans(sk)


def tcp_clear_retrans(sk: tcp_sock) -> None:
    """net/ipv4/tcp_input.c: nothing is retransmitted, lost or SACKed, and nothing timed out."""
    sk.retrans_out = 0
    sk.lost_out = 0
    sk.undo_marker = 0
    sk.undo_retrans = -1
    sk.sacked_out = sk.sacked_bytes = 0
    sk.total_rto = sk.total_rto_recoveries = sk.total_rto_time = sk.rto_recovery_start = 0


def tcp_connect_queue_skb(sk: tcp_sock, skb: sk_buff) -> None:
    """Charge the SYN and count its sequence number."""
    skb_header_release(skb)
    truesize = skb.truesize
    sk.sk_wmem_queued += truesize
    sk_mem_charge(sk, truesize)
    sk.write_seq = skb.end_seq
    sk.packets_out += skb.tcp_gso_segs


def tcp_send_syn_data(sk: tcp_sock, syn: sk_buff, fo: tcp_fastopen_request) -> int:
    """Send the SYN with data if there is a cookie, else a SYN that requests one. 0 or an error.

    The data stays in a separate segment after the SYN, so that the SYN is retransmitted alone.
    """
    sk.rx_opt.mss_clamp = sk.advmss  # unless the peer's MSS is cached
    fo.cookie.val = b""
    err = -errno.ENOBUFS
    syn_data: sk_buff | None = None
    if tcp_fastopen_cookie_check(sk, fo.cookie):
        sk.rx_opt.mss_clamp = tcp_mss_clamp(sk, sk.rx_opt.mss_clamp)
        tcp_sync_mss(sk, sk.icsk_pmtu_cookie)
        syn_data = tcp_syn_data(sk, syn, fo)
    if syn_data is not None:
        tcp_connect_queue_skb(sk, syn_data)
        err = tcp_transmit_skb(sk, syn_data, 1)
        syn.tx_tstamp_ns = syn_data.tx_tstamp_ns
        syn_data.seq = (syn_data.seq + 1) & M32
        syn_data.tcp_flags = TCPHDR_ACK | TCPHDR_PSH
        if not err:
            sk.syn_data = fo.copied > 0
            sk.tcp_rtx_queue.queue_tail(syn_data)
            sk.net.mib.linux.TCPOrigDataSent += 1
        else:
            sk.sk_write_queue.queue_tail(syn_data)
            sk.packets_out -= syn_data.tcp_gso_segs
    if err:
        if fo.cookie.val:
            fo.cookie.val = b""  # request a new one
        err = tcp_transmit_skb(sk, syn, 1)
        if err:
            sk.syn_fastopen = False
    fo.cookie.val = None  # a retransmitted SYN has no option
    return err


def tcp_syn_data(sk: tcp_sock, syn: sk_buff, fo: tcp_fastopen_request) -> sk_buff | None:
    """A copy of the SYN with the call's data, as much as fits; None when no buffer is left."""
    syn_data = tcp_stream_alloc_skb(sk)
    if syn_data is None:
        return None
    # Room for all options is kept free: a middlebox may add some.
    space = min(__tcp_mtu_to_mss(sk, sk.icsk_pmtu_cookie) - MAX_TCP_OPTION_SPACE, fo.size)
    msg = fo.data
    if msg is not None and space > 0:
        with contextlib.suppress(OSError):  # EFAULT: tcp_sendmsg reports it later
            fo.copied = add_to_skb(msg, syn_data, sk.net.skb_pages, space)
        if not fo.copied:
            kfree_skb(syn_data)
            return None
    if fo.copied == fo.size:
        fo.data = None  # inet_wait_for_connect has nothing more to send
    syn_data.ip_summed = CHECKSUM_PARTIAL
    syn_data.tcp_flags = syn.tcp_flags
    syn_data.seq = syn.seq
    syn_data.end_seq = (syn.end_seq + fo.copied) & M32
    syn_data.tcp_gso_segs = 1
    return syn_data


def tcp_connect(sk: tcp_sock) -> int:
    """Build a SYN and send it. 0 or -errno."""
    if sk.icsk_af_ops.rebuild_header(sk):
        return -errno.EHOSTUNREACH
    tcp_connect_init(sk)
    buff = tcp_stream_alloc_skb(sk, True)
    if buff is None:
        return -errno.ENOBUFS
    tcp_init_nondata_skb(buff, sk.write_seq, TCPHDR_SYN)
    tcp_ecn_send_syn(sk, buff)
    tcp_mstamp_refresh(sk)
    sk.retrans_stamp = sk.rto_stamp = sk.tcp_mstamp or 1
    tcp_connect_queue_skb(sk, buff)
    sk.tcp_rtx_queue.queue_tail(buff)
    if sk.fastopen_req is None:
        err = tcp_transmit_skb(sk, buff, 1)
    else:
        err = tcp_send_syn_data(sk, buff, sk.fastopen_req)
    if err == -errno.ECONNREFUSED:
        return err
    unsent = sk.sk_write_queue.peek()
    sk.snd_nxt = sk.pushed_seq = sk.write_seq if unsent is None else unsent.seq
    sk.net.mib.tcp.ActiveOpens += 1
    tcp_reset_xmit_timer(sk, ICSK_TIME_RETRANS, sk.icsk_rto)
    return 0


def tcp_connect_forget(sk: tcp_sock, daddr: wide) -> None:
    """connect: the timestamps of the previous peer do not apply to another one."""
    if sk.rx_opt.ts_recent_stamp and sk.inet_daddr != daddr:
        sk.rx_opt.ts_recent = 0
        sk.rx_opt.ts_recent_stamp = 0
        sk.write_seq = 0


def tcp_connect_begin(sk: tcp_sock) -> int:
    """connect: choose the first sequence number and send the SYN. Returns 0. Raises: OSError."""
    net, saddr, daddr = sk.net, sk.inet_saddr, sk.inet_daddr
    if not sk.write_seq:
        sk.write_seq = secure_tcp_seq(net, saddr, daddr, sk.inet_sport, sk.inet_dport)
    sk.tsoffset = secure_tcp_ts_off(net, saddr, daddr)
    if sk.fastopen_connect and tcp_fastopen_defer_connect(sk):
        return 0
    err = tcp_connect(sk)
    if err:
        tcp_connect_failed(sk)
        raise os_error(err)
    return 0


def tcp_connect_failed(sk: tcp_sock) -> None:
    """Undo a connect that could not start (the end of tcp_v4_connect and tcp_v6_connect)."""
    tcp_write_queue_purge(sk)
    tcp_set_state(sk, TCP_CLOSE)
    inet_reset_saddr(sk)
    sk.inet_dport = 0


def tcp_delack_max(sk: tcp_sock) -> int:
    """The longest delay of an ACK, ns: a tick less than the shortest RTO, so that none expires."""
    tick = tcp_const.TCP_TICK
    return min(sk.icsk_delack_max, max(tcp_rto_min(sk), 2 * tick) - tick)


def tcp_send_delayed_ack(sk: tcp_sock) -> None:
    """Arm the delayed ACK timer, usually 40 to 200 ms, or ACK now if it is nearly due.

    The timeout is at least a tick. In Linux an accepted connection without data has a timeout of 0
    (icsk_ack_ato), which expires at the next tick; usually the application has answered by then.
    """
    ato = sk.icsk_ack_ato
    if ato > tcp_const.TCP_DELACK_MIN:
        max_ato = NSEC_PER_SEC // 2
        if (
            sk.icsk_ack_pingpong >= sk.net.sysctl.tcp_pingpong_thresh
            or sk.icsk_ack_pending & ICSK_ACK_PUSHED
        ):
            max_ato = tcp_const.TCP_DELACK_MAX
        # Not much longer than a round trip, so that the peer's RTO does not fire.
        if sk.srtt_us:
            rtt = (sk.srtt_us >> 3) * 1000
            if rtt < tcp_const.TCP_DELACK_MIN:
                rtt = tcp_const.TCP_DELACK_MIN
            if rtt < max_ato:
                max_ato = rtt
        if ato > max_ato:
            ato = max_ato
    longest = tcp_delack_max(sk)
    if ato > longest:
        ato = longest
    if ato < tcp_const.TCP_TICK:
        ato = tcp_const.TCP_TICK
    now = sk.net.clock.now_ns()
    timeout = now + ato
    if sk.icsk_ack_pending & ICSK_ACK_TIMER:
        # The ACK is nearly due (one with a timeout of 0 was due already): send it now.
        if not sk.icsk_ack_ato or sk.icsk_ack_timeout <= now + (ato >> 2):
            tcp_send_ack(sk)
            return
        if timeout > sk.icsk_ack_timeout:
            timeout = sk.icsk_ack_timeout
    sk.icsk_ack_pending |= ICSK_ACK_SCHED | ICSK_ACK_TIMER
    sk.icsk_ack_timeout = timeout
    if sk.icsk_delack_timer is None:
        inet_csk_make_delack_timer(sk)
    mod_timer(sk.icsk_delack_timer, timeout)


def __tcp_send_ack(sk: tcp_sock, rcv_nxt: int, flags: int) -> None:
    """A pure ACK with extra `flags`. Without a buffer, the delayed ACK timer retries."""
    if sk.sk_state == TCP_CLOSE:
        return
    buff = alloc_skb(sk.net.skb_small, 0, MAX_TCP_HEADER)
    if buff is None:
        delay = tcp_const.TCP_DELACK_MAX << sk.icsk_ack_retry
        if delay < sk.icsk_rto_max:
            sk.icsk_ack_retry += 1
        inet_csk_schedule_ack(sk)
        sk.icsk_ack_ato = tcp_const.TCP_ATO_MIN
        inet_csk_reset_xmit_timer(sk, ICSK_TIME_DACK, delay, sk.icsk_rto_max)
        return
    tcp_init_nondata_skb(buff, tcp_acceptable_seq(sk), TCPHDR_ACK | flags)
    tcp_mstamp_refresh(sk)
    __tcp_transmit_skb(sk, buff, 0, rcv_nxt)


def tcp_send_ack(sk: tcp_sock) -> None:
    """Send an ACK now."""
    __tcp_send_ack(sk, sk.rcv_nxt, 0)


def tcp_send_ack_reflect_ect(sk: tcp_sock) -> None:
    """Send an ACK that answers a SYN: with Accurate ECN it reports the received codepoint."""
    flags = 0
    if sk.ecn_flags & TCP_ECN_MODE_ACCECN:
        flags = tcp_accecn_reflector_flags(sk.syn_ect_rcv)
    __tcp_send_ack(sk, sk.rcv_nxt, flags)


def tcp_xmit_probe_skb(sk: tcp_sock, urgent: int, mib: str) -> int:
    """A segment that the peer must answer: its sequence number is SND.UNA - 1."""
    skb = alloc_skb(sk.net.skb_small, 0, MAX_TCP_HEADER)
    if skb is None:
        return -1
    tcp_init_nondata_skb(skb, (sk.snd_una - (0 if urgent else 1)) & M32, TCPHDR_ACK)
    linux = sk.net.mib.linux
    setattr(linux, mib, getattr(linux, mib) + 1)
    return tcp_transmit_skb(sk, skb, 0)


def tcp_write_wakeup(sk: tcp_sock, mib: str) -> int:
    """Probe: a piece of unsent data when the window has room for it, else an empty segment."""
    if sk.sk_state == TCP_CLOSE:
        return -1
    skb = sk.sk_write_queue.peek()
    if skb is not None and before(skb.seq, tcp_wnd_end(sk)):
        mss = tcp_current_mss(sk)
        seg_size = (tcp_wnd_end(sk) - skb.seq) & M32
        if before(sk.pushed_seq, skb.end_seq):
            sk.pushed_seq = skb.end_seq
        # Cut to the window, and to one segment.
        if seg_size < ((skb.end_seq - skb.seq) & M32) or skb.len > mss:
            seg_size = min(seg_size, mss)
            skb.tcp_flags |= TCPHDR_PSH
            if tcp_fragment(sk, TCP_FRAG_IN_WRITE_QUEUE, skb, seg_size, mss):
                return -1
        elif not skb.tcp_gso_segs:
            tcp_set_skb_tso_segs(skb, mss)
        skb.tcp_flags |= TCPHDR_PSH
        err = tcp_transmit_skb(sk, skb, 1)
        if not err:
            tcp_event_new_data_sent(sk, skb)
        return err
    if between(sk.snd_up, (sk.snd_una + 1) & M32, (sk.snd_una + 0xFFFF) & M32):
        tcp_xmit_probe_skb(sk, 1, mib)
    return tcp_xmit_probe_skb(sk, 0, mib)


def tcp_send_probe0(sk: tcp_sock) -> None:
    """A window probe is due (RFC 9293 3.8.6.1)."""
    err = tcp_write_wakeup(sk, "TCPWinProbe")
    if sk.packets_out or sk.write_seq == sk.snd_nxt:
        sk.icsk_probes_out = 0
        sk.icsk_backoff = 0
        sk.icsk_probes_tstamp = 0
        return
    sk.icsk_probes_out += 1
    if err <= 0:
        if sk.icsk_backoff < sk.net.sysctl.tcp_retries2:
            sk.icsk_backoff += 1
        timeout = tcp_probe0_when(sk, sk.icsk_rto_max)
    else:
        timeout = tcp_const.TCP_RESOURCE_PROBE_INTERVAL
    tcp_reset_xmit_timer(sk, ICSK_TIME_PROBE0, tcp_clamp_probe0_to_user_timeout(sk, timeout))


def tcp_clamp_probe0_to_user_timeout(sk: tcp_sock, when: int) -> int:
    """net/ipv4/tcp_timer.c: do not sleep past TCP_USER_TIMEOUT."""
    user_timeout = sk.icsk_user_timeout
    if not user_timeout or not sk.icsk_probes_tstamp:
        return when
    remaining: int = user_timeout - (sk.net.clock.now_ns() - sk.icsk_probes_tstamp)
    return min(max(remaining, tcp_const.TCP_TIMEOUT_MIN), when)
