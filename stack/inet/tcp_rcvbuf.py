"""net/ipv4/tcp_input.c: receive and send buffer sizes, and the window that they allow."""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff
from stack.core.sk_mem import sk_under_memory_pressure
from stack.core.sock_flags import SOCK_RCVBUF_LOCK, SOCK_SNDBUF_LOCK
from stack.core.time64 import NSEC_PER_MSEC
from stack.inet.inet_connection_sock import ICSK_ACK_PUSHED, ICSK_ACK_PUSHED2
from stack.inet.tcp_const import TCP_MSS_DEFAULT
from stack.inet.tcp_rtt import tcp_rtt_tsopt_us
from stack.inet.tcp_sock import (
    M32,
    TCP_INIT_CWND,
    TCP_MIN_MSS,
    TCP_RMEM_TO_WIN_SCALE,
    TCPHDR_FIN,
    TCPHDR_PSH,
    TCPHDR_URG,
    before,
    tcp_adjust_rcv_ssthresh,
    tcp_full_space,
    tcp_mstamp_refresh,
    tcp_sock,
    tcp_space,
    tcp_space_from_win,
    tcp_win_from_space,
)

# Memory of a segment in its own sk_buff on 64-bit Linux (SKB_DATA_ALIGN aligns to 64 bytes)
SKB_HEADERS = 320 + 320  # MAX_TCP_HEADER, struct skb_shared_info
SIZEOF_SK_BUFF = 256
TCP_REMNANT = TCPHDR_FIN | TCPHDR_URG | TCPHDR_PSH  # the end of a write, perhaps below the MSS


def tcp_sndbuf_expand(sk: tcp_sock) -> None:
    """Grow the send buffer to two congestion windows, within tcp_wmem[2].

    A segment counts as a separate sk_buff in Linux: payload, headers and skb_shared_info
    rounded up to a power of two, plus the sk_buff. On Ethernet the buffer starts with 87040 bytes.
    """
    per_mss = max(sk.rx_opt.mss_clamp, sk.mss_cache) + SKB_HEADERS
    rounded: int = 1
    while rounded < per_mss:
        rounded <<= 1
    nr_segs = max(TCP_INIT_CWND, sk.snd_cwnd, sk.reordering + 1)
    # Two windows, because fast recovery (RFC 5681 3.2) sends new data while a window is out.
    sndmem = 2 * nr_segs * (rounded + SIZEOF_SK_BUFF)
    if sk.sk_sndbuf < sndmem:
        most: int = sk.net.sysctl.tcp_wmem[2]
        sk.sk_sndbuf = min(sndmem, most)


def tcp_set_window_clamp(sk: tcp_sock, val: int) -> None:
    """net/ipv4/tcp.c __tcp_set_window_clamp: bound the window we offer."""
    old = sk.window_clamp
    if old == val:
        return
    sk.window_clamp = val
    if val < old:
        sk.rcv_ssthresh = min(sk.rcv_ssthresh, val)
    else:
        sk.rcv_ssthresh = max(min(sk.rcv_wnd, val), sk.rcv_ssthresh)


def tcp_window_clamp_follow(sk: tcp_sock, rcvbuf: int) -> None:
    """Grow the window limit with the buffer, up to the program's TCP_WINDOW_CLAMP.

    Linux 6.6 and later ignore that bound here, although tcp(7) promises it.
    """
    val = tcp_win_from_space(sk, rcvbuf)
    tcp_set_window_clamp(sk, min(val, sk.user_window_clamp or val))


def tcp_init_buffer_space(sk: tcp_sock) -> None:
    """Size both buffers of a new connection and start measuring its reader's rate."""
    tcp_app_win = sk.net.sysctl.tcp_app_win
    if not sk.sk_flags & SOCK_SNDBUF_LOCK:
        tcp_sndbuf_expand(sk)
    tcp_mstamp_refresh(sk)
    sk.rcvq_space_time = sk.tcp_mstamp
    sk.rcvq_space_seq = sk.copied_seq
    maxwin = tcp_full_space(sk)
    if sk.window_clamp >= maxwin:
        sk.window_clamp = maxwin
        if tcp_app_win and maxwin > 4 * sk.advmss:
            sk.window_clamp = max(maxwin - (maxwin >> tcp_app_win), 4 * sk.advmss)
    if tcp_app_win and sk.window_clamp > 2 * sk.advmss and sk.window_clamp + sk.advmss > maxwin:
        sk.window_clamp = max(2 * sk.advmss, maxwin - sk.advmss)
    sk.rcv_ssthresh = min(sk.rcv_ssthresh, sk.window_clamp)
    sk.snd_cwnd_stamp = sk.tcp_mstamp
    sk.rcvq_space_space = max(min(sk.rcv_ssthresh, sk.rcv_wnd, TCP_INIT_CWND * sk.advmss), 1)


def __tcp_grow_window(sk: tcp_sock, length: int, skbtruesize: int) -> int:
    """Bytes by which a packet with much overhead grows the window."""
    truesize = tcp_win_from_space(sk, skbtruesize) >> 1
    window = tcp_win_from_space(sk, sk.net.sysctl.tcp_rmem[2]) >> 1
    while sk.rcv_ssthresh <= window and window:
        if truesize <= length:
            return 2 * sk.icsk_ack_rcv_mss
        truesize >>= 1
        window >>= 1
    return 0


def tcp_grow_window(sk: tcp_sock, length: int, truesize: int) -> None:
    """Open the window, faster if the peer's segments use memory well.

    `length` and `truesize` are a segment's, in bytes.
    """
    room = min(sk.window_clamp, tcp_space(sk)) - sk.rcv_ssthresh
    if room <= 0:
        return
    if sk_under_memory_pressure(sk):
        tcp_adjust_rcv_ssthresh(sk)
        return
    if tcp_win_from_space(sk, truesize) <= length:
        incr = 2 * sk.advmss
    else:
        incr = __tcp_grow_window(sk, length, truesize)
    if incr:
        incr = max(incr, 2 * length)
        sk.rcv_ssthresh += min(room, incr)
        sk.icsk_ack_quick |= 1


def tcp_clamp_window(sk: tcp_sock) -> None:
    """More is queued than the buffer allows: grow the buffer if allowed, else close the window."""
    rmem2 = sk.net.sysctl.tcp_rmem[2]
    sk.icsk_ack_quick = 0
    if (
        sk.sk_rcvbuf < rmem2
        and not sk.sk_flags & SOCK_RCVBUF_LOCK
        and not sk_under_memory_pressure(sk)
    ):
        sk.sk_rcvbuf = min(sk.sk_rmem_alloc, rmem2)
    if sk.sk_rmem_alloc > sk.sk_rcvbuf:
        sk.rcv_ssthresh = min(sk.window_clamp, 2 * sk.advmss)


def tcp_rcv_rtt_update(sk: tcp_sock, sample: int, win_dep: bool) -> None:
    """Update the receiver's round-trip time (stored as us << 3) by `sample`, us.

    `win_dep`: the sample is the time of a whole window.
    """
    old_sample = sk.rcv_rtt_est_rtt_us
    new_sample = sample << 3
    if old_sample and new_sample >= old_sample:
        # A longer one has little weight: a window's is an upper bound, and while data waits for its
        # reader the echo is late.
        if win_dep or sk.rcv_nxt != sk.copied_seq:
            return
        new_sample = old_sample - (old_sample >> 3) + sample
    sk.rcv_rtt_est_rtt_us = max(new_sample, 1)


def tcp_rcv_rtt_measure(sk: tcp_sock) -> None:
    """Measure the round-trip time without timestamps: the time that one window takes.

    Linux counts at least 1 us; here 0 is possible, on a virtual wire without latency.
    """
    if sk.rcv_rtt_est_time:
        if before(sk.rcv_nxt, sk.rcv_rtt_est_seq):
            return
        tcp_rcv_rtt_update(sk, (sk.tcp_mstamp - sk.rcv_rtt_est_time) // 1000, True)
    sk.rcv_rtt_est_seq = (sk.rcv_nxt + sk.rcv_wnd) & M32
    sk.rcv_rtt_est_time = sk.tcp_mstamp or 1


def tcp_rcv_rtt_measure_ts(sk: tcp_sock, skb: sk_buff) -> None:
    """Measure the round-trip time by echoed timestamps.

    As in Linux 6.16 and later, the echo of a timestamp of the same millisecond is ignored:
    `tcp_rcv_rtt_measure` is more precise.
    """
    rx_opt = sk.rx_opt
    tsecr = rx_opt.rcv_tsecr
    if not rx_opt.saw_tstamp or tsecr == sk.rcv_rtt_last_tsecr:
        return
    sk.rcv_rtt_last_tsecr = tsecr
    if (sk.tcp_mstamp // NSEC_PER_MSEC) & M32 == tsecr:
        return
    if ((skb.end_seq - skb.seq) & M32) >= sk.icsk_ack_rcv_mss:
        delta = tcp_rtt_tsopt_us(sk)
        if delta >= 0:
            tcp_rcv_rtt_update(sk, delta, False)


def tcp_rcvbuf_grow(sk: tcp_sock, newval: int) -> None:
    """Size the buffer for `newval` bytes a round trip, within tcp_rmem, as Linux 6.17 and later.

    Twice that, since it is known a round trip late, plus data behind a hole. In slow start the
    peer doubles its rate, so it grows by twice the increase.
    """
    oldval = sk.rcvq_space_space
    sk.rcvq_space_space = newval
    sysctl = sk.net.sysctl
    if not sysctl.tcp_moderate_rcvbuf or sk.sk_flags & SOCK_RCVBUF_LOCK:
        return
    cap: int = sysctl.tcp_rmem[2]
    rcvwin = newval << 1
    rcvwin += (rcvwin * (newval - oldval) // oldval) << 1
    queue = sk.out_of_order_queue
    if queue:
        rcvwin += (queue[-1].end_seq - sk.rcv_nxt) & M32
    rcvbuf = min(tcp_space_from_win(sk, min(rcvwin, cap)), cap)
    if rcvbuf > sk.sk_rcvbuf:
        sk.sk_rcvbuf = rcvbuf
        tcp_window_clamp_follow(sk, rcvbuf)


def tcp_rcv_space_adjust(sk: tcp_sock) -> None:
    """Size the buffer by the bytes that the application reads per round trip."""
    rtt_us = sk.rcv_rtt_est_rtt_us
    if not rtt_us:
        return
    if (sk.tcp_mstamp - sk.rcvq_space_time) // 1000 < rtt_us >> 3:
        return
    copied_seq = sk.copied_seq
    copied = ((copied_seq - sk.rcvq_space_seq) & M32) - ((sk.rcv_nxt - copied_seq) & M32)
    if copied > sk.rcvq_space_space:
        tcp_rcvbuf_grow(sk, copied)
    sk.rcvq_space_seq = copied_seq
    sk.rcvq_space_time = sk.tcp_mstamp


def tcp_measure_rcv_mss(sk: tcp_sock, skb: sk_buff) -> None:
    """Learn the peer's segment size (what "every second segment" means), and memory efficiency."""
    lss = sk.icsk_ack_last_seg_size
    sk.icsk_ack_last_seg_size = 0
    length = skb.gso_size or skb.len
    rcv_mss = sk.icsk_ack_rcv_mss
    if length >= rcv_mss:
        if length != rcv_mss:
            ratio = min((skb.len << TCP_RMEM_TO_WIN_SCALE) // (skb.truesize or 1), 255) or 1
            if ratio != sk.scaling_ratio:
                sk.scaling_ratio = ratio
                tcp_window_clamp_follow(sk, sk.sk_rcvbuf)
                if sk.window_clamp < sk.rcvq_space_space:
                    sk.rcvq_space_space = max(sk.window_clamp, 1)
        sk.icsk_ack_rcv_mss = min(length, sk.advmss)
        if skb.tcp_flags & TCPHDR_PSH:
            # The end of a write, for whose ACK the sender may wait: tcp_cleanup_rbuf sends it.
            sk.icsk_ack_pending |= ICSK_ACK_PUSHED
        return
    # A smaller size counts if two segments in a row have it. SACK blocks take part of a segment,
    # so they count, and so do options that not every segment has.
    length += skb.l4_hlen
    remnant = skb.tcp_flags & TCP_REMNANT != 0
    if length >= TCP_MSS_DEFAULT + 20 or (length >= TCP_MIN_MSS + 20 and not remnant):
        length -= sk.tcp_header_len
        sk.icsk_ack_last_seg_size = length
        if length == lss:
            sk.icsk_ack_rcv_mss = length
            return
    if sk.icsk_ack_pending & ICSK_ACK_PUSHED:
        sk.icsk_ack_pending |= ICSK_ACK_PUSHED2
    sk.icsk_ack_pending |= ICSK_ACK_PUSHED
