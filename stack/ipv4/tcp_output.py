"""net/ipv4/tcp_output.c: from the write queue to IP.

`sk_write_queue` holds sk_buffs not sent yet, `tcp_rtx_queue` those sent and not acknowledged, both
in sequence order. An sk_buff in them is never given away: what goes down is a clone (or, when an
earlier clone is still on its way, a copy of the header part over the same payload).
"""

from __future__ import annotations

import errno
from typing import Any

from fastpath.hdr import tcp_push as tcp_header_push
from fastpath.hdr import tcp_push_ts
from fastpath.skbuff import (
    CHECKSUM_PARTIAL,
    alloc_skb,
    kfree_skb,
    pskb_copy,
    sk_buff,
    skb_clone,
    skb_cloned,
    skb_header_release,
    skb_pull,
    skb_split,
    skb_try_coalesce,
    skb_unclone,
)
from stack.core.dst import dst_metric_advmss, dst_mtu
from stack.core.sock import (
    SOCK_DONE,
    SOCK_RCVBUF_LOCK,
    sk_forced_mem_schedule,
    sk_mem_charge,
    sk_wmem_schedule,
    sock_reset_flag,
)
from stack.core.timer import mod_timer
from stack.ipv4 import tcp_cong
from stack.ipv4.inet_connection_sock import (
    ICSK_TIME_DACK,
    ICSK_TIME_LOSS_PROBE,
    ICSK_TIME_PROBE0,
    ICSK_TIME_RETRANS,
    inet_csk_clear_xmit_timer,
    inet_csk_inc_pingpong_cnt,
    inet_csk_reset_xmit_timer,
    inet_csk_schedule_ack,
)
from stack.ipv4.tcp_options import (
    tcp_established_options,
    tcp_established_options_size,
    tcp_syn_options,
    tcp_synack_options,
)
from stack.ipv4.tcp_sock import (
    HALF,
    M32,
    MAX_TCP_HEADER,
    MAX_TCP_WINDOW,
    SEC,
    TCP_ATO_MIN,
    TCP_CA_CWR,
    TCP_DELACK_MAX,
    TCP_DELACK_MIN,
    TCP_MIN_MSS,
    TCP_MSS_DEFAULT,
    TCP_NAGLE_CORK,
    TCP_NAGLE_OFF,
    TCP_NAGLE_PUSH,
    TCP_RESOURCE_PROBE_INTERVAL,
    TCP_RTO_MAX,
    TCP_TIMEOUT_MIN,
    TCPCB_EVER_RETRANS,
    TCPCB_LOST,
    TCPCB_RETRANS,
    TCPCB_SACKED_ACKED,
    TCPCB_SACKED_RETRANS,
    TCPHDR_ACK,
    TCPHDR_FIN,
    TCPHDR_PSH,
    TCPHDR_RST,
    TCPHDR_SYN,
    TCPHDR_URG,
    TCPOLEN_TSTAMP_ALIGNED,
    TCP_CA_Open,
    TCP_CA_Recovery,
    after,
    before,
    between,
    tcp_full_space,
    tcp_mstamp_refresh,
    tcp_packets_in_flight,
    tcp_receive_window,
    tcp_sock,
    tcp_space,
    tcp_wnd_end,
)
from stack.ipv4.tcp_states import TCP_CLOSE, TCP_LISTEN, TCP_SYN_RECV, TCP_SYN_SENT

TCP_FRAG_IN_WRITE_QUEUE = 0
TCP_FRAG_IN_RTX_QUEUE = 1
NET_XMIT_CN = 2


# --- new data -----------------------------------------------------------------------------


def tcp_event_new_data_sent(sk: tcp_sock, skb: sk_buff) -> None:
    """Move skb from the write queue to the retransmit queue."""
    sk.snd_nxt = skb.end_seq
    sk.sk_write_queue.unlink(skb)
    sk.tcp_rtx_queue.queue_tail(skb)
    prior_packets = sk.packets_out
    sk.packets_out = prior_packets + skb.tcp_gso_segs
    if not prior_packets or sk.icsk_pending == ICSK_TIME_LOSS_PROBE:
        tcp_rearm_rto(sk)
    sk.net.mib.linux.TCPOrigDataSent += skb.tcp_gso_segs


def tcp_rearm_rto(sk: tcp_sock) -> None:
    """net/ipv4/tcp_input.c: RFC 6298 5.2-5.3: off when nothing is out, else RTO from now."""
    if not sk.packets_out:
        inet_csk_clear_xmit_timer(sk, ICSK_TIME_RETRANS)
        return
    rto = sk.icsk_rto
    if sk.icsk_pending in (5, 6):  # the probe's or reorder timer's share of the RTO has passed
        delta = tcp_rto_delta(sk)
        rto = max(delta, 1)
    tcp_reset_xmit_timer(sk, ICSK_TIME_RETRANS, rto)


def tcp_rto_delta(sk: tcp_sock) -> int:
    """ns until the head of the retransmit queue is RTO old; negative when it is already."""
    skb = sk.tcp_rtx_queue.peek()
    if skb is None:
        return sk.icsk_rto
    return skb.tx_tstamp_ns + sk.icsk_rto - sk.tcp_mstamp


def tcp_reset_xmit_timer(sk: tcp_sock, what: int, when: int) -> None:
    """include/net/tcp.h: arm one of the write timers, at most RTO_MAX from now."""
    inet_csk_reset_xmit_timer(sk, what, when, sk.icsk_rto_max)


def tcp_acceptable_seq(sk: tcp_sock) -> int:
    """Sequence number for a segment without data: SND.NXT, or the window's end if that shrank."""
    wnd_end = (sk.snd_una + sk.snd_wnd) & M32
    if not before(wnd_end, sk.snd_nxt) or (
        sk.rx_opt.wscale_ok and ((sk.snd_nxt - wnd_end) & M32) < (1 << sk.rx_opt.rcv_wscale)
    ):
        return sk.snd_nxt
    return wnd_end


def tcp_cwnd_restart(sk: tcp_sock, delta: int) -> None:
    """RFC 2861: after `delta` ns of idleness the window halves once per RTO."""
    restart_cwnd = tcp_cong.tcp_init_cwnd(sk, sk.sk_dst_cache)
    cwnd = sk.snd_cwnd
    tcp_cong.tcp_ca_event(sk, 1)
    sk.snd_ssthresh = tcp_cong.tcp_current_ssthresh(sk)
    restart_cwnd = min(restart_cwnd, cwnd)
    rto = sk.icsk_rto
    delta -= rto
    while delta > 0 and cwnd > restart_cwnd:
        cwnd >>= 1
        delta -= rto
    sk.snd_cwnd = max(cwnd, restart_cwnd)
    sk.snd_cwnd_stamp = sk.tcp_mstamp
    sk.snd_cwnd_used = 0


def tcp_slow_start_after_idle_check(sk: tcp_sock) -> None:
    """include/net/tcp.h: before queueing data after a pause."""
    if (
        not sk.net.sysctl.tcp_slow_start_after_idle
        or sk.packets_out
        or getattr(sk.icsk_ca_ops, "cong_control", None) is not None
    ):
        return
    delta = sk.net.now() - sk.lsndtime
    if delta > sk.icsk_rto:
        tcp_cwnd_restart(sk, delta)


def tcp_event_data_sent(sk: tcp_sock) -> None:
    """Note the time; a reply sent soon after data came makes the session interactive."""
    now = sk.tcp_mstamp
    if tcp_packets_in_flight(sk) == 0:
        tcp_cong.tcp_ca_event(sk, 0)
    sk.lsndtime = now
    if now - sk.icsk_ack_lrcvtime < sk.icsk_ack_ato:
        inet_csk_inc_pingpong_cnt(sk)


def tcp_event_ack_sent(sk: tcp_sock, rcv_nxt: int) -> None:
    """An ACK went out with this segment: no delayed ACK is owed any more."""
    if rcv_nxt != sk.rcv_nxt:
        return
    tcp_dec_quickack_mode(sk)
    if sk.icsk_ack_pending or sk.icsk_delack_timer.pending:
        inet_csk_clear_xmit_timer(sk, ICSK_TIME_DACK)


def tcp_dec_quickack_mode(sk: tcp_sock) -> None:
    quick = sk.icsk_ack_quick
    if quick:
        if quick <= 1:
            sk.icsk_ack_quick = 0
            # Leaving quick ACK mode deflates the ATO.
            sk.icsk_ack_ato = TCP_ATO_MIN
        else:
            sk.icsk_ack_quick = quick - 1


# --- windows ------------------------------------------------------------------------------


def tcp_select_initial_window(
    sk: Any,
    space: int,
    mss: int,
    window_clamp: int,
    wscale_ok: bool,
    init_rcv_wnd: int,
) -> tuple[int, int, int]:
    """(rcv_wnd, window_clamp, rcv_wscale) to start a connection with `space` bytes of buffer."""
    space = max(space, 0)
    if window_clamp == 0:
        window_clamp = 65535 << 14
    space = min(window_clamp, space)
    if space > mss:
        space -= space % mss
    sysctl = sk.net.sysctl
    rcv_wnd = space
    if sysctl.tcp_workaround_signed_windows:
        rcv_wnd = min(space, MAX_TCP_WINDOW)
    if init_rcv_wnd:
        rcv_wnd = min(rcv_wnd, init_rcv_wnd * mss)
    rcv_wscale = 0
    if wscale_ok:
        # Room to grow to what auto-tuning or SO_RCVBUF may give later.
        space = max(space, sysctl.tcp_rmem[2], sysctl.rmem_max)
        space = min(space, window_clamp)
        rcv_wscale = min(max(space.bit_length() - 1 - 15, 0), 14)
    window_clamp = min(65535 << rcv_wscale, window_clamp)
    return rcv_wnd, window_clamp, rcv_wscale


def tcp_select_window(sk: tcp_sock) -> int:
    """The 16-bit window field of the next segment; remembers what was offered."""
    old_win = sk.rcv_wnd
    linux = sk.net.mib.linux
    if sk.icsk_ack_pending & 32:  # ICSK_ACK_NOMEM: the last segment did not fit
        sk.pred_flags = 0
        sk.rcv_wnd = 0
        sk.rcv_wup = sk.rcv_nxt
        return 0
    cur_win = tcp_receive_window(sk)
    new_win = __tcp_select_window(sk)
    rcv_wscale = sk.rx_opt.rcv_wscale
    if new_win < cur_win:
        # RFC 9293 3.8.6.2.1: never take back what was offered (round up to what the field can say).
        if new_win == 0:
            linux.TCPWantZeroWindowAdv += 1
        scale = 1 << rcv_wscale
        new_win = (cur_win + scale - 1) & ~(scale - 1)
    sk.rcv_wnd = new_win
    sk.rcv_wup = sk.rcv_nxt
    if not rcv_wscale and sk.net.sysctl.tcp_workaround_signed_windows:
        new_win = min(new_win, MAX_TCP_WINDOW)
    else:
        new_win = min(new_win, 65535 << rcv_wscale)
    new_win >>= rcv_wscale
    if new_win == 0:
        sk.pred_flags = 0
        if old_win:
            linux.TCPToZeroWindowAdv += 1
    elif old_win == 0:
        linux.TCPFromZeroWindowAdv += 1
    return new_win


def __tcp_select_window(sk: tcp_sock) -> int:
    """Window to offer, bytes: RFC 9293 3.8.6.2.2 (no silly windows), never above the buffer."""
    mss = sk.icsk_ack_rcv_mss
    allowed_space = tcp_full_space(sk)
    full_space = min(sk.window_clamp, allowed_space)
    free_space = tcp_space(sk)
    if mss > full_space:
        mss = full_space
        if mss <= 0:
            return 0
    rcv_wscale = sk.rx_opt.rcv_wscale
    if free_space < (full_space >> 1):
        sk.icsk_ack_quick = 0
        # Round down first, so that the comparison below sees what the peer would see.
        free_space = (free_space >> rcv_wscale) << rcv_wscale
        if free_space < (allowed_space >> 4) or free_space < mss:
            return 0
    if free_space > sk.rcv_ssthresh:
        free_space = sk.rcv_ssthresh
    if rcv_wscale:
        scale = 1 << rcv_wscale
        return (free_space + scale - 1) & ~(scale - 1)
    window = sk.rcv_wnd
    if window <= free_space - mss or window > free_space:
        return free_space - free_space % mss
    if mss == full_space and free_space > window + (full_space >> 1):
        return free_space
    return window


# --- MSS ----------------------------------------------------------------------------------


def __tcp_mtu_to_mss(sk: tcp_sock, pmtu: int) -> int:
    mss_now = pmtu - sk.icsk_af_ops.net_header_len - 20
    mss_now = min(mss_now, sk.rx_opt.mss_clamp) - sk.icsk_ext_hdr_len
    return max(mss_now, sk.net.sysctl.tcp_min_snd_mss)


def tcp_mtu_to_mss(sk: tcp_sock, pmtu: int) -> int:
    """Payload bytes per segment at path MTU `pmtu`, without SACK blocks."""
    return __tcp_mtu_to_mss(sk, pmtu) - (sk.tcp_header_len - 20)


def tcp_bound_to_half_wnd(sk: tcp_sock, pktsize: int) -> int:
    """Packets above half the largest window seen would stop-and-wait (RFC 9293 3.8.6.2.1)."""
    cutoff = sk.max_window >> 1 if sk.max_window > TCP_MSS_DEFAULT else sk.max_window
    if cutoff and pktsize > cutoff:
        return max(cutoff, 68 - sk.tcp_header_len)
    return pktsize


def tcp_sync_mss(sk: tcp_sock, pmtu: int) -> int:
    """Adapt the MSS to the path MTU; keeps the path MTU as cookie."""
    mss_now = tcp_mtu_to_mss(sk, pmtu)
    mss_now = tcp_bound_to_half_wnd(sk, mss_now)
    sk.icsk_pmtu_cookie = pmtu
    sk.mss_cache = mss_now
    return mss_now


def tcp_current_mss(sk: tcp_sock) -> int:
    """MSS of a segment sent now: the path MTU as of now, minus the options it will carry."""
    mss_now = sk.mss_cache
    dst = sk.sk_dst_cache
    if dst is not None:
        mtu = dst_mtu(dst)
        if mtu != sk.icsk_pmtu_cookie:
            mss_now = tcp_sync_mss(sk, mtu)
    if sk.rx_opt.num_sacks or sk.rx_opt.dsack:
        header_len = tcp_established_options_size(sk) + 20
        if header_len != sk.tcp_header_len:
            mss_now -= header_len - sk.tcp_header_len
    return mss_now


# --- sending ------------------------------------------------------------------------------


def tcp_stream_alloc_skb(sk: tcp_sock, force: bool = False) -> sk_buff | None:
    """net/ipv4/tcp.c: an empty sk_buff with header room; None when pool or budget is exhausted."""
    pool = sk.net.skb_small
    skb = alloc_skb(pool, pool.buf_bytes - MAX_TCP_HEADER, MAX_TCP_HEADER)
    if skb is None:
        return None
    if force:
        sk_forced_mem_schedule(sk, skb.truesize)
    elif not sk_wmem_schedule(sk, skb.truesize):
        kfree_skb(skb)
        return None
    skb.ip_summed = CHECKSUM_PARTIAL
    skb.tcp_gso_segs = 0
    skb.tcp_gso_size = 0
    return skb


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


def tcp_set_skb_tso_segs(skb: sk_buff, mss_now: int) -> int:
    """Number of segments skb becomes at this MSS; remembers both."""
    length = skb.len
    if length <= mss_now:
        skb.tcp_gso_size = 0
        skb.tcp_gso_segs = 1
        return 1
    tso_segs = (length + mss_now - 1) // mss_now
    skb.tcp_gso_size = mss_now
    skb.tcp_gso_segs = tso_segs
    return tso_segs


def tcp_transmit_skb(sk: tcp_sock, skb: sk_buff, clone_it: int) -> int:
    """Send skb (a clone when clone_it); 0, or an error with nothing sent."""
    return __tcp_transmit_skb(sk, skb, clone_it, sk.rcv_nxt)


def __tcp_transmit_skb(sk: tcp_sock, skb: sk_buff, clone_it: int, rcv_nxt: int) -> int:
    """Build the TCP header on a clone of skb and hand it to IP.

    Takes ownership of skb unless clone_it. Returns 0 or an error (negative errno, NET_XMIT_*).
    """
    oskb = None
    if clone_it:
        oskb = skb
        clone = pskb_copy(skb) if skb_cloned(skb) else skb_clone(skb)
        if clone is None:
            return -errno.ENOBUFS
        skb = clone
    flags = skb.tcp_flags
    pcount = skb.tcp_gso_segs
    payload = skb.len
    seq = skb.seq
    rx_opt = sk.rx_opt

    urg_ptr = 0
    if sk.snd_up != sk.snd_una and before(seq, sk.snd_up):  # urgent mode
        distance = (sk.snd_up - seq) & M32
        if distance < 0x10000:
            urg_ptr = distance
            flags |= TCPHDR_URG
        elif after((seq + 0xFFFF) & M32, sk.snd_nxt):
            urg_ptr = 0xFFFF
            flags |= TCPHDR_URG

    if flags & TCPHDR_SYN:
        # RFC 7323 2.2: the window of a SYN is never scaled.
        window = min(sk.rcv_wnd, 65535)
        options = tcp_syn_options(sk)
        tcp_header_push(
            skb, sk.inet_sport, sk.inet_dport, seq, rcv_nxt, flags, window, urg_ptr, options
        )
    elif rx_opt.tstamp_ok and not rx_opt.num_sacks and not rx_opt.dsack:
        window = tcp_select_window(sk)
        tsval = (sk.tcp_mstamp // 1_000_000 + sk.tsoffset) & M32
        tcp_push_ts(
            skb,
            sk.inet_sport,
            sk.inet_dport,
            seq,
            rcv_nxt,
            flags,
            window,
            urg_ptr,
            tsval,
            rx_opt.ts_recent,
        )
    else:
        window = tcp_select_window(sk)
        options = tcp_established_options(sk)[1]
        tcp_header_push(
            skb, sk.inet_sport, sk.inet_dport, seq, rcv_nxt, flags, window, urg_ptr, options
        )
    sk.icsk_af_ops.send_check(sk, skb)

    if flags & TCPHDR_ACK:
        tcp_event_ack_sent(sk, rcv_nxt)
    if payload:
        tcp_event_data_sent(sk)
        sk.data_segs_out += pcount
        sk.bytes_sent += payload
    tcp_mib = sk.net.mib.tcp
    if after(skb.end_seq, sk.snd_nxt) or seq == skb.end_seq:
        tcp_mib.OutSegs += pcount
    sk.segs_out += pcount
    if pcount > 1:
        skb.gso_segs = pcount
        skb.gso_size = skb.tcp_gso_size
        skb.gso_type = sk.sk_gso_type
    else:
        skb.gso_segs = 0
        skb.gso_size = 0
        skb.gso_type = 0
    # Strictly increasing, so that RACK can tell the order of what went out at one instant.
    sk.tcp_wstamp_ns = wstamp = max(sk.tcp_mstamp, sk.tcp_wstamp_ns + 1)
    end_seq = skb.end_seq
    err = sk.icsk_af_ops.queue_xmit(sk, skb, sk.cork.fl4)
    if err > 0:
        tcp_cong.tcp_enter_cwr(sk)
        if err == NET_XMIT_CN:
            err = 0
    if not err and oskb is not None and oskb.end_seq == end_seq:
        oskb.tx_tstamp_ns = wstamp
        tcp_rate_skb_sent(sk, oskb)
    return err


def tcp_rate_skb_sent(sk: tcp_sock, skb: sk_buff) -> None:
    """net/ipv4/tcp_rate.c: what a delivery-rate sample of this packet needs later."""
    if not sk.packets_out:
        sk.first_tx_mstamp = skb.tx_tstamp_ns
        sk.delivered_mstamp = skb.tx_tstamp_ns
    skb.tx_first_tx_mstamp_ns = sk.first_tx_mstamp
    skb.tx_delivered_mstamp_ns = sk.delivered_mstamp
    skb.tx_delivered = sk.delivered & M32
    skb.tx_is_app_limited = 1 if sk.app_limited else 0


def tcp_adjust_pcount(sk: tcp_sock, skb: sk_buff, decr: int) -> None:
    """skb in the retransmit queue now stands for `decr` segments fewer."""
    sk.packets_out -= decr
    sacked = skb.sacked
    if sacked & TCPCB_SACKED_ACKED:
        sk.sacked_out -= decr
    if sacked & TCPCB_SACKED_RETRANS:
        sk.retrans_out -= decr
    if sacked & TCPCB_LOST:
        sk.lost_out -= decr
    # Reno counts its duplicate ACKs in sacked_out: an estimate that must not outlive the data.
    if not sk.rx_opt.sack_ok and decr > 0:
        sk.sacked_out -= min(sk.sacked_out, decr)


def _split(sk: tcp_sock, skb: sk_buff, length: int) -> sk_buff | None:
    """Move everything past `length` payload bytes to a new sk_buff, charged to the socket."""
    buff = tcp_stream_alloc_skb(sk, True)
    if buff is None:
        return None
    own = buff.truesize
    skb_split(skb, buff, length)
    # The payload's share of truesize goes where the payload went.
    moved = min(buff.len, skb.truesize - 1)
    skb.truesize -= moved
    buff.truesize = own + moved
    sk.sk_wmem_queued += own
    sk.sk_forward_alloc -= own
    seq = (skb.seq + length) & M32
    buff.seq = seq
    buff.end_seq = skb.end_seq
    skb.end_seq = seq
    flags = skb.tcp_flags
    skb.tcp_flags = flags & ~(TCPHDR_FIN | TCPHDR_PSH)
    buff.tcp_flags = flags
    buff.sacked = skb.sacked
    return buff


def tcp_fragment(sk: tcp_sock, tcp_queue: int, skb: sk_buff, length: int, mss_now: int) -> int:
    """Cut skb in two at `length` bytes, both staying in their queue. 0 or -ENOMEM."""
    if sk.sk_wmem_queued >> 1 > sk.sk_sndbuf + 2 * 65536 * 8 and tcp_queue:
        sk.net.mib.linux.TCPWqueueTooBig += 1
        return -errno.ENOMEM
    old_factor = skb.tcp_gso_segs
    buff = _split(sk, skb, length)
    if buff is None:
        return -errno.ENOMEM
    buff.tx_tstamp_ns = skb.tx_tstamp_ns
    buff.tx_first_tx_mstamp_ns = skb.tx_first_tx_mstamp_ns
    buff.tx_delivered_mstamp_ns = skb.tx_delivered_mstamp_ns
    buff.tx_delivered = skb.tx_delivered
    diff = old_factor - tcp_set_skb_tso_segs(skb, mss_now) - tcp_set_skb_tso_segs(buff, mss_now)
    skb_header_release(buff)
    if tcp_queue:
        # Already sent: the counters go by segments.
        if diff:
            tcp_adjust_pcount(sk, skb, diff)
        sk.tcp_rtx_queue.insert_after(skb, buff)
    else:
        sk.sk_write_queue.insert_after(skb, buff)
    return 0


def tso_fragment(sk: tcp_sock, skb: sk_buff, length: int, mss_now: int) -> int:
    """Cut an sk_buff of the write queue so that its first part can go now. 0 or -ENOMEM."""
    buff = _split(sk, skb, length)
    if buff is None:
        return -errno.ENOMEM
    tcp_set_skb_tso_segs(skb, mss_now)
    tcp_set_skb_tso_segs(buff, mss_now)
    skb_header_release(buff)
    sk.sk_write_queue.insert_after(skb, buff)
    return 0


def tcp_trim_head(sk: tcp_sock, skb: sk_buff, length: int) -> int:
    """Drop the acknowledged first `length` bytes of skb in the retransmit queue. 0 or -ENOMEM."""
    if skb_cloned(skb) and not skb_unclone(skb):
        return -errno.ENOMEM
    skb_pull(skb, length)
    delta = min(length, skb.truesize - 1)
    skb.truesize -= delta
    sk.sk_wmem_queued -= delta
    sk.sk_forward_alloc += delta
    skb.seq = (skb.seq + length) & M32
    if skb.tcp_gso_segs > 1:
        tcp_set_skb_tso_segs(skb, skb.tcp_gso_size)
    return 0


def tcp_cwnd_test(sk: tcp_sock, skb: sk_buff) -> int:
    """How many segments the congestion window allows now."""
    if skb.tcp_flags & TCPHDR_FIN and skb.tcp_gso_segs == 1:
        return 1
    in_flight = sk.packets_out - (sk.sacked_out + sk.lost_out) + sk.retrans_out
    cwnd = sk.snd_cwnd
    if in_flight >= cwnd:
        return 0
    # At most half of the window in one piece, so that ACKs keep the clock running.
    return min(max(cwnd >> 1, 1), cwnd - in_flight)


def tcp_init_tso_segs(skb: sk_buff, mss_now: int) -> int:
    """Segments of skb; recomputed when the MSS is another than when it was queued."""
    tso_segs = skb.tcp_gso_segs
    if not tso_segs or (tso_segs > 1 and skb.tcp_gso_size != mss_now):
        return tcp_set_skb_tso_segs(skb, mss_now)
    return tso_segs


def tcp_minshall_check(sk: tcp_sock) -> bool:
    """A small segment is out (Minshall's variant of Nagle)."""
    return after(sk.snd_sml, sk.snd_una) and not after(sk.snd_sml, sk.snd_nxt)


def tcp_minshall_update(sk: tcp_sock, mss_now: int, skb: sk_buff) -> None:
    """Remember the end of the last small segment sent."""
    if skb.len < skb.tcp_gso_segs * mss_now:
        sk.snd_sml = skb.end_seq


def tcp_nagle_check(partial: bool, sk: tcp_sock, nonagle: int) -> bool:
    """True when a partial segment has to wait."""
    return partial and bool(
        nonagle & TCP_NAGLE_CORK or (not nonagle and sk.packets_out and tcp_minshall_check(sk))
    )


def tcp_nagle_test(sk: tcp_sock, skb: sk_buff, cur_mss: int, nonagle: int) -> bool:
    """True when skb may go as far as Nagle and cork are concerned (RFC 9293 3.7.4)."""
    if nonagle & TCP_NAGLE_PUSH:
        return True
    if sk.snd_up != sk.snd_una or skb.tcp_flags & TCPHDR_FIN:
        return True
    return not tcp_nagle_check(skb.len < cur_mss, sk, nonagle)


def tcp_snd_wnd_test(sk: tcp_sock, skb: sk_buff, cur_mss: int) -> bool:
    """True when the first segment of skb fits the peer's window."""
    end_seq = skb.end_seq
    if skb.len > cur_mss:
        end_seq = (skb.seq + cur_mss) & M32
    return ((sk.snd_una + sk.snd_wnd - end_seq) & M32) < HALF


def tcp_mss_split_point(
    sk: tcp_sock, skb: sk_buff, mss_now: int, max_segs: int, nonagle: int
) -> int:
    """How many bytes of skb may go in this transmission."""
    window = (sk.snd_una + sk.snd_wnd - skb.seq) & M32
    max_len = mss_now * max_segs
    if max_len <= window and sk.sk_write_queue.peek_tail() is not skb:
        return max_len
    needed = min(skb.len, window)
    if max_len <= needed:
        return max_len
    partial = needed % mss_now
    # A remainder below the MSS stays when Nagle says so, or when the window cuts it off.
    if tcp_nagle_check(partial != 0, sk, nonagle):
        return needed - partial
    return needed


def tcp_tso_segs(sk: tcp_sock, mss_now: int) -> int:
    """Segments one sk_buff may hold: what the device takes."""
    return max(min(sk.sk_gso_max_segs, (sk.sk_gso_max_size - 1 - MAX_TCP_HEADER) // mss_now), 1)


def tcp_tso_should_defer(sk: tcp_sock, skb: sk_buff, max_segs: int) -> bool:
    """True when it pays to wait for the next ACK (or write) and send a larger piece then.

    A corked tail (TCP_CORK, MSG_MORE) that is not full waits as long as something is in flight: its
    ACK comes back here. Without this each ACK would flush half-filled super-packets.
    """
    if sk.icsk_ca_state >= TCP_CA_Recovery or skb.tcp_flags & TCPHDR_FIN:
        return False
    is_tail = sk.sk_write_queue.peek_tail() is skb
    mss = sk.mss_cache
    in_flight = sk.packets_out - (sk.sacked_out + sk.lost_out) + sk.retrans_out
    if (
        is_tail
        and in_flight
        and (sk.nonagle & TCP_NAGLE_CORK or sk.msg_more)
        and not sk.nonagle & TCP_NAGLE_PUSH
        and skb.len < max_segs * mss
    ):
        return True
    send_win = (sk.snd_una + sk.snd_wnd - skb.seq) & M32
    cong_win = (sk.snd_cwnd - in_flight) * mss
    limit = min(send_win, cong_win)
    if limit >= max_segs * mss:
        return False
    if not is_tail and limit >= skb.len:
        return False
    win_divisor = sk.net.sysctl.tcp_tso_win_divisor
    if win_divisor:
        chunk = min(sk.snd_wnd, sk.snd_cwnd * mss) // win_divisor
        if limit >= chunk:
            return False
    elif limit > 3 * mss:
        return False
    # Will an ACK come soon? Not when the oldest packet is out for less than half a round trip.
    head = sk.tcp_rtx_queue.peek()
    if head is None:
        return False
    delta_us = max(sk.tcp_mstamp - head.tx_tstamp_ns, 0) // 1000
    if delta_us < (sk.srtt_us >> 4):
        return False
    if cong_win < send_win:
        if cong_win <= skb.len:
            sk.is_cwnd_limited = True
            return True
    elif send_win <= skb.len:
        return True
    # Nothing more will be added to this one: do not wait.
    return not (not is_tail or skb.tcp_flags & TCPHDR_FIN)


def tcp_write_xmit(sk: tcp_sock, mss_now: int, nonagle: int, push_one: int) -> bool:
    """Send from the write queue what windows, Nagle and TSO allow.

    push_one 1: one packet; 2: one packet whatever cwnd says (loss probe). True when nothing is in
    flight though data waits: the caller has to arm the zero-window probe.
    """
    tcp_mstamp_refresh(sk)
    sent_pkts = 0
    is_cwnd_limited = False
    max_segs = tcp_tso_segs(sk, mss_now)
    write_queue = sk.sk_write_queue
    while (skb := write_queue.peek()) is not None:
        tso_segs = tcp_init_tso_segs(skb, mss_now)
        cwnd_quota = tcp_cwnd_test(sk, skb)
        if not cwnd_quota:
            if push_one != 2:
                is_cwnd_limited = True
                break
            cwnd_quota = 1
        if not tcp_snd_wnd_test(sk, skb, mss_now):
            break
        if tso_segs == 1:
            is_last = write_queue.peek_tail() is skb
            if not tcp_nagle_test(sk, skb, mss_now, nonagle if is_last else TCP_NAGLE_PUSH):
                break
        elif not push_one and tcp_tso_should_defer(sk, skb, max_segs):
            break
        limit = mss_now
        if tso_segs > 1 and sk.snd_up == sk.snd_una:
            limit = tcp_mss_split_point(sk, skb, mss_now, min(cwnd_quota, max_segs), nonagle)
        if skb.len > limit and (not limit or tso_fragment(sk, skb, limit, mss_now)):
            break
        if skb.end_seq == skb.seq:
            break
        if tcp_transmit_skb(sk, skb, 1):
            break
        tcp_event_new_data_sent(sk, skb)
        tcp_minshall_update(sk, mss_now, skb)
        sent_pkts += skb.tcp_gso_segs
        if push_one:
            break
    is_cwnd_limited = is_cwnd_limited or tcp_packets_in_flight(sk) >= sk.snd_cwnd
    if sent_pkts or is_cwnd_limited:
        tcp_cong.tcp_cwnd_validate(sk, is_cwnd_limited)
    if sent_pkts:
        if sk.icsk_ca_state in (TCP_CA_CWR, TCP_CA_Recovery):
            sk.prr_out += sent_pkts
        if push_one != 2:
            tcp_schedule_loss_probe(sk, False)
        return False
    return not sk.packets_out and sk.write_seq != sk.snd_nxt


def __tcp_push_pending_frames(sk: tcp_sock, cur_mss: int, nonagle: int) -> None:
    """Send what may go; when nothing could and nothing is in flight, start probing."""
    if sk.sk_state == TCP_CLOSE:
        return
    if tcp_write_xmit(sk, cur_mss, nonagle, 0):
        tcp_check_probe_timer(sk)


def tcp_push_pending_frames(sk: tcp_sock) -> None:
    """include/net/tcp.h: the same when anything waits at all (called for each ACK)."""
    if sk.sk_write_queue.qlen:
        __tcp_push_pending_frames(sk, tcp_current_mss(sk), sk.nonagle)


def tcp_push_one(sk: tcp_sock, mss_now: int) -> None:
    """Send the first sk_buff of the write queue (it just became full)."""
    tcp_write_xmit(sk, mss_now, TCP_NAGLE_PUSH, 1)


def tcp_probe0_base(sk: tcp_sock) -> int:
    return max(sk.icsk_rto, sk.icsk_rto_min)


def tcp_probe0_when(sk: tcp_sock, max_when: int) -> int:
    """Time to the next window probe: exponential, bounded."""
    backoff = min(sk.icsk_backoff, 20)
    return min(tcp_probe0_base(sk) << backoff, max_when)


def tcp_check_probe_timer(sk: tcp_sock) -> None:
    """include/net/tcp.h: arm the probe timer unless some timer runs already."""
    if not sk.packets_out and not sk.icsk_pending:
        tcp_reset_xmit_timer(sk, ICSK_TIME_PROBE0, tcp_probe0_base(sk))


# --- tail loss probe (RFC 8985 7) ---------------------------------------------------------


def tcp_schedule_loss_probe(sk: tcp_sock, advancing_rto: bool) -> bool:
    """Arm a probe after two round trips instead of waiting for the RTO."""
    if not sk.packets_out or sk.sk_state in (TCP_SYN_SENT, TCP_SYN_RECV, TCP_LISTEN):
        return False
    early_retrans = sk.net.sysctl.tcp_early_retrans
    if early_retrans not in (3, 4) or not sk.rx_opt.sack_ok:
        return False
    if sk.icsk_ca_state not in (TCP_CA_Open, TCP_CA_CWR):
        return False
    if sk.srtt_us:
        timeout = (sk.srtt_us >> 2) * 1000
        timeout += sk.icsk_rto_min if sk.packets_out == 1 else TCP_TIMEOUT_MIN
    else:
        timeout = SEC
    rto_delta = sk.icsk_rto if advancing_rto else tcp_rto_delta(sk)
    if rto_delta > 0:
        timeout = min(timeout, rto_delta)
    tcp_reset_xmit_timer(sk, ICSK_TIME_LOSS_PROBE, timeout)
    return True


def tcp_send_loss_probe(sk: tcp_sock) -> None:
    """The probe: new data if there is some, else the last segment again."""
    mss = tcp_current_mss(sk)
    sent = False
    if not sk.tlp_high_seq:
        sk.tlp_retrans = 0
        skb = sk.sk_write_queue.peek()
        if skb is not None and tcp_snd_wnd_test(sk, skb, mss):
            pcount = sk.packets_out
            tcp_write_xmit(sk, mss, TCP_NAGLE_OFF, 2)
            sent = sk.packets_out > pcount
        else:
            skb = sk.tcp_rtx_queue.peek_tail()
            if skb is None:
                sk.icsk_pending = 0
                return
            pcount = skb.tcp_gso_segs
            ok = True
            if pcount > 1 and skb.len > (pcount - 1) * mss:
                ok = not tcp_fragment(sk, TCP_FRAG_IN_RTX_QUEUE, skb, (pcount - 1) * mss, mss)
                skb = sk.tcp_rtx_queue.peek_tail()
            if ok and not __tcp_retransmit_skb(sk, skb, 1):
                sk.tlp_retrans = 1
                sent = True
        if sent:
            sk.tlp_high_seq = sk.snd_nxt
            sk.net.mib.linux.TCPLossProbes += 1
            sk.icsk_pending = 0
    tcp_rearm_rto(sk)


# --- retransmission -----------------------------------------------------------------------


def tcp_retrans_try_collapse(sk: tcp_sock, to: sk_buff, space: int) -> None:
    """Merge following small packets into the one about to be retransmitted."""
    if not sk.net.sysctl.tcp_retrans_collapse or to.tcp_flags & (TCPHDR_SYN | TCPHDR_FIN):
        return
    if to.tcp_gso_segs > 1 or skb_cloned(to) or to is sk.sk_write_queue.peek():
        return
    queue = sk.tcp_rtx_queue
    while True:
        skb = queue.next(to)
        if (
            skb is None
            or skb.tcp_gso_segs > 1
            or skb.tcp_flags & (TCPHDR_SYN | TCPHDR_FIN)
            or skb.sacked & TCPCB_SACKED_ACKED
            or skb_cloned(skb)
            or to.len + skb.len > space
            or after(skb.end_seq, tcp_wnd_end(sk))
            or not tcp_collapse_retrans(sk, to, skb)
        ):
            return


def tcp_collapse_retrans(sk: tcp_sock, skb: sk_buff, next_skb: sk_buff) -> bool:
    """Move the whole payload of next_skb behind that of skb; next_skb is freed."""
    if not skb.data_len or not next_skb.data_len or skb.len - skb.data_len:
        return False
    end_seq, flags, sacked = next_skb.end_seq, next_skb.tcp_flags, next_skb.sacked
    segs = next_skb.tcp_gso_segs
    total = skb.truesize + next_skb.truesize
    # The queue order must survive a refusal, so take it out only for the attempt.
    queue = sk.tcp_rtx_queue
    queue.unlink(next_skb)
    if not skb_try_coalesce(skb, next_skb):
        queue.insert_after(skb, next_skb)
        return False
    delta = skb.truesize - total
    sk.sk_wmem_queued += delta
    sk.sk_forward_alloc -= delta
    skb.end_seq = end_seq
    skb.tcp_flags |= flags
    skb.sacked |= sacked & TCPCB_EVER_RETRANS
    sk.packets_out -= segs
    if sacked & TCPCB_LOST:
        sk.lost_out -= segs
    if sacked & TCPCB_SACKED_RETRANS:
        sk.retrans_out -= segs
    if not sk.rx_opt.sack_ok and sk.sacked_out:
        sk.sacked_out -= min(sk.sacked_out, segs)
    return True


def __tcp_retransmit_skb(sk: tcp_sock, skb: sk_buff, segs: int) -> int:
    """Send up to `segs` segments of skb (of the retransmit queue) again. 0 or an error."""
    if before(skb.seq, sk.snd_una):
        if skb.tcp_flags & TCPHDR_SYN:
            skb.tcp_flags &= ~TCPHDR_SYN
            skb.seq = (skb.seq + 1) & M32
        if before(skb.seq, sk.snd_una):
            if before(skb.end_seq, sk.snd_una):
                return -errno.EINVAL
            if tcp_trim_head(sk, skb, (sk.snd_una - skb.seq) & M32):
                return -errno.ENOMEM
    if sk.icsk_af_ops.rebuild_header(sk):
        return -errno.EHOSTUNREACH
    cur_mss = tcp_current_mss(sk)
    avail_wnd = (sk.snd_una + sk.snd_wnd - skb.seq) & M32
    if avail_wnd >= HALF or not avail_wnd:
        # The window shrank below what was sent: only the head may go, as a probe.
        if skb.seq != sk.snd_una:
            return -errno.EAGAIN
        avail_wnd = cur_mss
    length = cur_mss * segs
    if length > avail_wnd:
        length = avail_wnd - avail_wnd % cur_mss or avail_wnd
    if skb.len > length:
        if tcp_fragment(sk, TCP_FRAG_IN_RTX_QUEUE, skb, length, cur_mss):
            return -errno.ENOMEM
    else:
        diff = skb.tcp_gso_segs
        diff -= tcp_set_skb_tso_segs(skb, cur_mss)
        if diff:
            tcp_adjust_pcount(sk, skb, diff)
        avail_wnd = min(avail_wnd, cur_mss)
        if skb.len < avail_wnd:
            tcp_retrans_try_collapse(sk, skb, avail_wnd)
    segs = skb.tcp_gso_segs
    mib = sk.net.mib
    mib.tcp.RetransSegs += segs
    if skb.tcp_flags & TCPHDR_SYN:
        mib.linux.TCPSynRetrans += 1
    sk.total_retrans += segs
    sk.bytes_retrans += skb.len
    err = tcp_transmit_skb(sk, skb, 1)
    if err:
        mib.linux.TCPRetransFail += segs
    else:
        skb.sacked |= TCPCB_EVER_RETRANS
    return err


def tcp_retransmit_skb(sk: tcp_sock, skb: sk_buff, segs: int) -> int:
    """Retransmit and keep the books: retrans_out, undo counters, time of the first one."""
    err = __tcp_retransmit_skb(sk, skb, segs)
    if err:
        return err
    pcount = skb.tcp_gso_segs
    if not skb.sacked & TCPCB_SACKED_RETRANS:
        sk.retrans_out += pcount
    skb.sacked |= TCPCB_RETRANS & ~0x10
    if not sk.retrans_stamp:
        sk.retrans_stamp = skb.tx_tstamp_ns or 1
    if sk.undo_retrans < 0:
        sk.undo_retrans = 0
    sk.undo_retrans += pcount
    return 0


def tcp_xmit_retransmit_queue(sk: tcp_sock) -> None:
    """Retransmit what is marked lost, as far as the congestion window goes."""
    if not sk.packets_out or sk.lost_out <= sk.retrans_out:
        return
    linux = sk.net.mib.linux
    max_segs = tcp_tso_segs(sk, tcp_current_mss(sk))
    rearm_timer = False
    for skb in sk.tcp_rtx_queue:
        segs = sk.snd_cwnd - tcp_packets_in_flight(sk)
        if segs <= 0:
            break
        sacked = skb.sacked
        if not sacked & TCPCB_LOST:
            if sk.lost_out <= sk.retrans_out:
                break
            continue
        if sacked & (TCPCB_SACKED_ACKED | TCPCB_SACKED_RETRANS):
            continue
        if sk.icsk_ca_state != 4:
            linux.TCPFastRetrans += 1
        else:
            linux.TCPSlowStartRetrans += 1
        if tcp_retransmit_skb(sk, skb, min(segs, max_segs)):
            break
        if sk.icsk_ca_state in (TCP_CA_CWR, TCP_CA_Recovery):
            sk.prr_out += skb.tcp_gso_segs
        if skb is sk.tcp_rtx_queue.peek() and sk.icsk_pending != 6:
            rearm_timer = True
    if rearm_timer:
        tcp_reset_xmit_timer(sk, ICSK_TIME_RETRANS, sk.icsk_rto)


# --- segments without data ----------------------------------------------------------------


def tcp_send_fin(sk: tcp_sock) -> None:
    """Queue a FIN: on the last unsent sk_buff when there is one, else as a segment of its own."""
    tail = sk.sk_write_queue.peek_tail()
    if tail is not None:
        tail.tcp_flags |= TCPHDR_FIN
        tail.end_seq = (tail.end_seq + 1) & M32
        sk.write_seq = (sk.write_seq + 1) & M32
    else:
        skb = tcp_stream_alloc_skb(sk, True)
        if skb is None:
            # No buffer left at all: let the last sent packet carry it when it is retransmitted.
            tail = sk.tcp_rtx_queue.peek_tail()
            if tail is not None:
                tail.tcp_flags |= TCPHDR_FIN
                tail.end_seq = (tail.end_seq + 1) & M32
                sk.write_seq = (sk.write_seq + 1) & M32
                sk.snd_nxt = (sk.snd_nxt + 1) & M32
            return
        tcp_init_nondata_skb(skb, sk.write_seq, TCPHDR_ACK | TCPHDR_FIN)
        tcp_queue_skb(sk, skb)
    __tcp_push_pending_frames(sk, tcp_current_mss(sk), TCP_NAGLE_OFF)


def tcp_send_active_reset(sk: tcp_sock, reason: int = 0) -> None:
    """Send a RST: the application aborts, or data came that nobody will read."""
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
    return tcp_transmit_skb(sk, skb, 1)


def tcp_make_synack(sk: tcp_sock, dst: Any, req: Any, synack_type: int = 0) -> sk_buff | None:
    """A SYN-ACK for a request, data at the TCP header; None when no buffer is left."""
    skb = alloc_skb(sk.net.skb_small, 0, MAX_TCP_HEADER)
    if skb is None:
        return None
    skb.dst = dst
    now = sk.net.now()
    mss = tcp_mss_clamp(sk, dst_metric_advmss(dst))
    options = tcp_synack_options(sk, req, mss, now)
    if not req.snt_synack:
        req.snt_synack = now
    skb.ip_summed = CHECKSUM_PARTIAL
    flags = TCPHDR_SYN | TCPHDR_ACK
    tcp_header_push(
        skb,
        req.inet_num,
        req.inet_dport,
        req.snt_isn,
        req.rcv_nxt,
        flags,
        min(req.rsk_rcv_wnd, 65535),
        0,
        options,
    )
    skb.tcp_flags = flags
    skb.seq = req.snt_isn
    skb.priority = sk.sk_priority
    skb.mark = req.sk_mark
    sk.net.mib.tcp.OutSegs += 1
    return skb


def tcp_mss_clamp(sk: tcp_sock, mss: int) -> int:
    """include/net/tcp.h: TCP_MAXSEG bounds what we advertise."""
    user_mss = sk.rx_opt.user_mss
    return user_mss if user_mss and user_mss < mss else mss


def tcp_connect_init(sk: tcp_sock) -> None:
    """Everything a connection needs before its SYN goes out."""
    sysctl = sk.net.sysctl
    dst = sk.sk_dst_cache
    sk.tcp_header_len = 20 + (TCPOLEN_TSTAMP_ALIGNED if sysctl.tcp_timestamps else 0)
    if sk.rx_opt.user_mss:
        sk.rx_opt.mss_clamp = sk.rx_opt.user_mss
    sk.max_window = 0
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
    sk.copied_seq = 0
    sk.icsk_rto = tcp_timeout_init(sk)
    sk.icsk_retransmits = 0
    tcp_clear_retrans(sk)


def tcp_initialize_rcv_mss(sk: tcp_sock) -> None:
    """net/ipv4/tcp_input.c: a first guess of the segments the peer sends."""
    hint = min(sk.advmss, sk.mss_cache)
    hint = min(hint, sk.rcv_wnd // 2)
    hint = min(hint, TCP_MSS_DEFAULT)
    sk.icsk_ack_rcv_mss = max(hint, TCP_MIN_MSS)


def tcp_timeout_init(sk: Any) -> int:
    """include/net/tcp.h: RFC 6298 2.1."""
    return SEC


def tcp_clear_retrans(sk: tcp_sock) -> None:
    """net/ipv4/tcp_input.c: nothing is retransmitted, lost or SACKed."""
    sk.retrans_out = 0
    sk.lost_out = 0
    sk.undo_marker = 0
    sk.undo_retrans = -1
    sk.sacked_out = 0
    sk.total_rto = 0


def tcp_write_queue_purge(sk: tcp_sock) -> None:
    """net/ipv4/tcp.c: free both queues; nothing is in flight afterwards."""
    for queue in (sk.sk_write_queue, sk.tcp_rtx_queue):
        while (skb := queue.dequeue()) is not None:
            tcp_wmem_free_skb(sk, skb)
    sk.packets_out = 0
    sk.retrans_out = 0
    sk.lost_out = 0
    sk.sacked_out = 0
    sk.icsk_backoff = 0


def tcp_wmem_free_skb(sk: tcp_sock, skb: sk_buff) -> None:
    """include/net/tcp.h: uncharge and free one sk_buff of the send queues. Takes ownership."""
    truesize = skb.truesize
    sk.sk_wmem_queued -= truesize
    sk.sk_forward_alloc += truesize
    kfree_skb(skb)


def tcp_connect_queue_skb(sk: tcp_sock, skb: sk_buff) -> None:
    """Charge the SYN and count its sequence number."""
    skb_header_release(skb)
    truesize = skb.truesize
    sk.sk_wmem_queued += truesize
    sk_mem_charge(sk, truesize)
    sk.write_seq = skb.end_seq
    sk.packets_out += skb.tcp_gso_segs


def tcp_connect(sk: tcp_sock) -> int:
    """Build a SYN and send it. 0 or -errno."""
    if sk.icsk_af_ops.rebuild_header(sk):
        return -errno.EHOSTUNREACH
    tcp_connect_init(sk)
    buff = tcp_stream_alloc_skb(sk, True)
    if buff is None:
        return -errno.ENOBUFS
    tcp_init_nondata_skb(buff, sk.write_seq, TCPHDR_SYN)
    tcp_mstamp_refresh(sk)
    sk.retrans_stamp = sk.rto_stamp = sk.tcp_mstamp or 1
    tcp_connect_queue_skb(sk, buff)
    sk.tcp_rtx_queue.queue_tail(buff)
    err = tcp_transmit_skb(sk, buff, 1)
    if err == -errno.ECONNREFUSED:
        return err
    sk.snd_nxt = sk.write_seq
    sk.pushed_seq = sk.write_seq
    sk.net.mib.tcp.ActiveOpens += 1
    tcp_reset_xmit_timer(sk, ICSK_TIME_RETRANS, sk.icsk_rto)
    return 0


def tcp_delack_max(sk: tcp_sock) -> int:
    return min(sk.icsk_delack_max, TCP_DELACK_MAX)


def tcp_send_delayed_ack(sk: tcp_sock) -> None:
    """Owe the peer an ACK: at the latest after the delayed ACK timeout (40 to 200 ms)."""
    ato = sk.icsk_ack_ato
    if ato > TCP_DELACK_MIN:
        max_ato = SEC // 2
        if sk.icsk_ack_pingpong >= sk.net.sysctl.tcp_pingpong_thresh or sk.icsk_ack_pending & 4:
            max_ato = TCP_DELACK_MAX
        # Not much longer than a round trip, so that the peer's RTO does not fire.
        if sk.srtt_us:
            rtt = max((sk.srtt_us >> 3) * 1000, TCP_DELACK_MIN)
            max_ato = min(max_ato, rtt)
        ato = min(ato, max_ato)
    ato = min(ato, tcp_delack_max(sk))
    now = sk.net.now()
    timeout = now + ato
    if sk.icsk_ack_pending & 2:  # ICSK_ACK_TIMER
        # An ACK is already blocked or nearly due: send it now.
        if sk.icsk_ack_timeout <= now + (ato >> 2):
            tcp_send_ack(sk)
            return
        timeout = min(timeout, sk.icsk_ack_timeout)
    sk.icsk_ack_pending |= 1 | 2
    sk.icsk_ack_timeout = timeout
    mod_timer(sk.icsk_delack_timer, timeout)


def __tcp_send_ack(sk: tcp_sock, rcv_nxt: int) -> None:
    """A pure ACK. Without a buffer for it, try again on the delayed ACK timer."""
    if sk.sk_state == TCP_CLOSE:
        return
    buff = alloc_skb(sk.net.skb_small, 0, MAX_TCP_HEADER)
    if buff is None:
        delay = TCP_DELACK_MAX << sk.icsk_ack_retry
        if delay < TCP_RTO_MAX:
            sk.icsk_ack_retry += 1
        inet_csk_schedule_ack(sk)
        sk.icsk_ack_ato = TCP_ATO_MIN
        inet_csk_reset_xmit_timer(sk, ICSK_TIME_DACK, delay, TCP_RTO_MAX)
        return
    tcp_init_nondata_skb(buff, tcp_acceptable_seq(sk), TCPHDR_ACK)
    tcp_mstamp_refresh(sk)
    __tcp_transmit_skb(sk, buff, 0, rcv_nxt)


def tcp_send_ack(sk: tcp_sock) -> None:
    """Send an ACK now."""
    __tcp_send_ack(sk, sk.rcv_nxt)


def tcp_xmit_probe_skb(sk: tcp_sock, urgent: int, mib: str) -> int:
    """A segment the peer must answer: one sequence number before SND.UNA."""
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
        timeout = TCP_RESOURCE_PROBE_INTERVAL
    tcp_reset_xmit_timer(sk, ICSK_TIME_PROBE0, tcp_clamp_probe0_to_user_timeout(sk, timeout))


def tcp_clamp_probe0_to_user_timeout(sk: tcp_sock, when: int) -> int:
    """net/ipv4/tcp_timer.c: do not sleep past TCP_USER_TIMEOUT."""
    user_timeout = sk.icsk_user_timeout
    if not user_timeout or not sk.icsk_probes_tstamp:
        return when
    remaining = user_timeout - (sk.net.now() - sk.icsk_probes_tstamp)
    return min(max(remaining, TCP_TIMEOUT_MIN), when)


__all__ = [name for name in dir() if name.startswith(("tcp_", "__tcp_", "tso_", "TCP_FRAG"))]
