"""net/ipv4/tcp_output.c: the window we offer, and how large our segments are."""

from __future__ import annotations

from stack.core.dst import dst_mtu
from stack.core.sk_mem import sk_under_memory_pressure
from stack.core.time64 import NSEC_PER_SEC
from stack.inet.inet_connection_sock import ICSK_ACK_NOMEM
from stack.inet.tcp_const import TCP_MSS_DEFAULT
from stack.inet.tcp_options import tcp_established_options_size
from stack.inet.tcp_sock import (
    M32,
    MAX_TCP_WINDOW,
    MAX_TCP_WSCALE,
    TCP_ECN_MODE_ACCECN,
    TCP_MIN_MSS,
    after,
    tcp_adjust_rcv_ssthresh,
    tcp_full_space,
    tcp_receive_window,
    tcp_sock,
    tcp_space,
)


def tcp_select_initial_window(
    sk: tcp_sock,
    space: int,
    mss: int,
    window_clamp: int,
    wscale_ok: bool,
    init_rcv_wnd: int,
) -> tuple[int, int, int]:
    """(rcv_wnd, window_clamp, rcv_wscale) to start a connection with `space` bytes of buffer."""
    space = max(space, 0)
    if window_clamp == 0:
        window_clamp = 65535 << MAX_TCP_WSCALE
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
        most: int = sysctl.tcp_rmem[2]
        space = max(space, most, sysctl.rmem_max)
        space = min(space, window_clamp)
        while space > 65535 and rcv_wscale < MAX_TCP_WSCALE:
            space >>= 1
            rcv_wscale += 1
    window_clamp = min(65535 << (rcv_wscale & 15), window_clamp)
    return rcv_wnd, window_clamp, rcv_wscale


def tcp_update_max_rcv_wnd_seq(sk: tcp_sock) -> None:
    """Store the end of the window just advertised, if it is the furthest."""
    end = (sk.rcv_wup + sk.rcv_wnd) & M32
    if after(end, sk.rcv_mwnd_seq):
        sk.rcv_mwnd_seq = end


def tcp_select_window(sk: tcp_sock) -> int:
    """The 16-bit window field of the next segment; stores what it offers."""
    old_win = sk.rcv_wnd
    if sk.icsk_ack_pending & ICSK_ACK_NOMEM:  # the last segment had no room
        sk.pred_flags = 0
        sk.rcv_wnd = 0
        sk.rcv_wup = sk.rcv_nxt
        tcp_update_max_rcv_wnd_seq(sk)
        return 0
    cur_win = tcp_receive_window(sk)
    new_win = __tcp_select_window(sk)
    rcv_wscale = sk.rx_opt.rcv_wscale
    if new_win < cur_win and not (rcv_wscale and sk.net.sysctl.tcp_shrink_window):
        # RFC 9293 3.8.6.2.1: never shrink the offered window (round up to the field's unit).
        if new_win == 0:
            sk.net.mib.linux.TCPWantZeroWindowAdv += 1
        scale = 1 << (rcv_wscale & 15)
        new_win = (cur_win + scale - 1) & ~(scale - 1)
    sk.rcv_wnd = new_win
    sk.rcv_wup = sk.rcv_nxt
    tcp_update_max_rcv_wnd_seq(sk)
    most = 65535
    if not rcv_wscale and sk.net.sysctl.tcp_workaround_signed_windows:
        most = MAX_TCP_WINDOW
    new_win = new_win >> (rcv_wscale & 15)
    if new_win > most:
        new_win = most
    if new_win == 0:
        sk.pred_flags = 0
        if old_win:
            sk.net.mib.linux.TCPToZeroWindowAdv += 1
    elif old_win == 0:
        sk.net.mib.linux.TCPFromZeroWindowAdv += 1
    return new_win


def __tcp_select_window(sk: tcp_sock) -> int:
    """Window to offer, bytes: RFC 9293 3.8.6.2.2 (no silly windows), never above the buffer."""
    mss = sk.icsk_ack_rcv_mss
    allowed_space = tcp_full_space(sk)
    full_space = sk.window_clamp
    if full_space > allowed_space:
        full_space = allowed_space
    free_space = tcp_space(sk)
    if mss > full_space:
        mss = full_space
        if mss <= 0:
            return 0
    rcv_wscale = sk.rx_opt.rcv_wscale
    if rcv_wscale and sk.net.sysctl.tcp_shrink_window:
        return tcp_shrinking_window(sk, mss, free_space, full_space, allowed_space)
    if free_space < (full_space >> 1):
        sk.icsk_ack_quick = 0
        if sk_under_memory_pressure(sk):
            tcp_adjust_rcv_ssthresh(sk)
        # Round down first, so that the comparison below sees what the peer would see.
        free_space = free_space & ~((1 << (rcv_wscale & 15)) - 1)
        if free_space < (allowed_space >> 4) or free_space < mss:
            return 0
    if free_space > sk.rcv_ssthresh:
        free_space = sk.rcv_ssthresh
    if rcv_wscale:
        scale = 1 << (rcv_wscale & 15)
        return (free_space + scale - 1) & ~(scale - 1)
    window = sk.rcv_wnd
    if window <= free_space - mss or window > free_space:
        return free_space - free_space % mss
    if mss == full_space and free_space > window + (full_space >> 1):
        return free_space
    return window


def tcp_shrinking_window(
    sk: tcp_sock, mss: int, free_space: int, full_space: int, allowed_space: int
) -> int:
    """The rest of __tcp_select_window under net.ipv4.tcp_shrink_window: free space, rounded down.

    So the window ends where memory does (RFC 7323 2.4 describes the sender's side).
    """
    scale = 1 << (sk.rx_opt.rcv_wscale & 15)
    free_space = free_space & ~(scale - 1)
    if free_space < (full_space >> 1):
        sk.icsk_ack_quick = 0
        if sk_under_memory_pressure(sk):
            tcp_adjust_rcv_ssthresh(sk)
        if free_space < (allowed_space >> 4) or free_space < mss or free_space < scale:
            return 0
    if free_space > sk.rcv_ssthresh:  # no hard limit, so this is rounded up
        return (sk.rcv_ssthresh + scale - 1) & ~(scale - 1)
    return free_space


def __tcp_mtu_to_mss(sk: tcp_sock, pmtu: int) -> int:
    mss_now = pmtu - sk.icsk_af_ops.net_header_len - 20
    if mss_now > sk.rx_opt.mss_clamp:
        mss_now = sk.rx_opt.mss_clamp
    mss_now -= sk.icsk_ext_hdr_len
    least: int = sk.net.sysctl.tcp_min_snd_mss
    return mss_now if mss_now > least else least


def tcp_mtu_to_mss(sk: tcp_sock, pmtu: int) -> int:
    """Payload bytes per segment at path MTU `pmtu`, without SACK blocks."""
    return __tcp_mtu_to_mss(sk, pmtu) - (sk.tcp_header_len - 20)


def tcp_mss_to_mtu(sk: tcp_sock, mss: int) -> int:
    """Bytes of a packet with `mss` bytes of payload, without SACK blocks."""
    return mss + sk.tcp_header_len + sk.icsk_ext_hdr_len + sk.icsk_af_ops.net_header_len


def tcp_mtup_init(sk: tcp_sock) -> None:
    """Where the search for the path MTU begins (RFC 4821 7.2), for a connection that starts."""
    sysctl = sk.net.sysctl
    sk.mtup_enabled = sysctl.tcp_mtu_probing > 1
    sk.mtup_search_high = sk.rx_opt.mss_clamp + 20 + sk.icsk_af_ops.net_header_len
    sk.mtup_search_low = tcp_mss_to_mtu(sk, sysctl.tcp_base_mss)
    sk.mtup_probe_size = 0
    if sk.mtup_enabled:
        sk.mtup_probe_timestamp = sk.net.clock.now_ns()


def tcp_mtu_probing(sk: tcp_sock) -> None:
    """net/ipv4/tcp_timer.c: timeouts in a row may be a black hole (RFC 4821 7.7): smaller packets.

    The first time the search begins at tcp_base_mss. Then its lower end is halved each time.
    """
    sysctl = sk.net.sysctl
    if not sysctl.tcp_mtu_probing:
        return
    if not sk.mtup_enabled:
        sk.mtup_enabled = True
        sk.mtup_probe_timestamp = sk.net.clock.now_ns()
    else:
        base: int = sysctl.tcp_base_mss
        mss = min(tcp_mtu_to_mss(sk, sk.mtup_search_low) >> 1, base)
        mss = max(mss, sysctl.tcp_mtu_probe_floor, sysctl.tcp_min_snd_mss)
        sk.mtup_search_low = tcp_mss_to_mtu(sk, mss)
    tcp_sync_mss(sk, sk.icsk_pmtu_cookie)


def tcp_mtu_check_reprobe(sk: tcp_sock) -> None:
    """After tcp_probe_interval the path may carry more: search from the current size."""
    now: int = sk.net.clock.now_ns()
    if now - sk.mtup_probe_timestamp >= sk.net.sysctl.tcp_probe_interval * NSEC_PER_SEC:
        mss = tcp_current_mss(sk)
        sk.mtup_probe_size = 0
        sk.mtup_search_high = sk.rx_opt.mss_clamp + 20 + sk.icsk_af_ops.net_header_len
        sk.mtup_search_low = tcp_mss_to_mtu(sk, mss)
        sk.mtup_probe_timestamp = now


def tcp_bound_to_half_wnd(sk: tcp_sock, pktsize: int) -> int:
    """Bound `pktsize` by half the peer's largest window, so that two packets can be in flight."""
    cutoff = sk.max_window >> 1 if sk.max_window > TCP_MSS_DEFAULT else sk.max_window
    if cutoff and pktsize > cutoff:
        return max(cutoff, 68 - sk.tcp_header_len)
    return pktsize


def tcp_sync_mss(sk: tcp_sock, pmtu: int) -> int:
    """Adapt the MSS to the path MTU `pmtu`, bytes, which icsk_pmtu_cookie keeps."""
    if sk.mtup_search_high > pmtu:
        sk.mtup_search_high = pmtu
    mss_now = tcp_mtu_to_mss(sk, pmtu)
    mss_now = tcp_bound_to_half_wnd(sk, mss_now)
    sk.icsk_pmtu_cookie = pmtu
    if sk.mtup_enabled:
        mss_now = min(mss_now, tcp_mtu_to_mss(sk, sk.mtup_search_low))
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
    if (
        sk.rx_opt.num_sacks
        or sk.rx_opt.dsack
        or sk.ecn_flags & TCP_ECN_MODE_ACCECN
        or sk.md5sig_info is not None
    ):
        header_len = tcp_established_options_size(sk) + 20
        if header_len != sk.tcp_header_len:
            mss_now -= header_len - sk.tcp_header_len
    return mss_now


def tcp_mss_clamp(sk: tcp_sock, mss: int) -> int:
    """include/net/tcp.h: TCP_MAXSEG bounds what we advertise."""
    user_mss = sk.rx_opt.user_mss
    return user_mss if user_mss and user_mss < mss else mss


def tcp_initialize_rcv_mss(sk: tcp_sock) -> None:
    """net/ipv4/tcp_input.c: a first guess of the segments the peer sends."""
    hint = min(sk.advmss, sk.mss_cache, sk.rcv_wnd // 2, TCP_MSS_DEFAULT)
    sk.icsk_ack_rcv_mss = max(hint, TCP_MIN_MSS)
