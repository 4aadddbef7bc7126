"""net/ipv4/tcp.c: SOL_TCP options and struct tcp_info."""

from __future__ import annotations

import errno
import struct
from typing import Any

from stack.core.errors import os_error
from stack.core.sock import SOCK_KEEPOPEN, SOCK_MIN_RCVBUF, lock_sock, release_sock, sk_write_space
from stack.core.sockopt import opt_bytes, opt_int, pacing_rate
from stack.core.tcp_states import (
    TCP_CLOSE,
    TCP_CLOSE_WAIT,
    TCP_ESTABLISHED,
    TCP_LISTEN,
    TCPF_CLOSE,
    TCPF_LISTEN,
)
from stack.core.uapi import SOL_TCP
from stack.inet.inet_connection_sock import (
    ICSK_ACK_PUSHED,
    inet_csk_ack_scheduled,
    inet_csk_enter_pingpong_mode,
    inet_csk_exit_pingpong_mode,
    inet_csk_in_pingpong_mode,
    inet_csk_reset_keepalive_timer,
)
from stack.inet.tcp_cong import tcp_set_congestion_control
from stack.inet.tcp_const import MSEC, SEC, TCP_FIN_TIMEOUT_MAX
from stack.inet.tcp_ecn import TCP_ECN_OK, TCP_ECN_SEEN
from stack.inet.tcp_output import __tcp_push_pending_frames
from stack.inet.tcp_rcvbuf import tcp_set_window_clamp
from stack.inet.tcp_recvmsg import tcp_cleanup_rbuf
from stack.inet.tcp_sock import (
    M32,
    MAX_TCP_KEEPCNT,
    MAX_TCP_KEEPIDLE,
    MAX_TCP_KEEPINTVL,
    MAX_TCP_SYNCNT,
    MAX_TCP_WINDOW,
    TCP_CONGESTION,
    TCP_CORK,
    TCP_DEFER_ACCEPT,
    TCP_DELACK_MAX_US,
    TCP_INFINITE_SSTHRESH,
    TCP_INFO,
    TCP_INQ,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_LINGER2,
    TCP_MAXSEG,
    TCP_MIN_MSS,
    TCP_NAGLE_CORK,
    TCP_NAGLE_OFF,
    TCP_NAGLE_PUSH,
    TCP_NODELAY,
    TCP_NOTSENT_LOWAT,
    TCP_QUICKACK,
    TCP_RTO_MAX_MS,
    TCP_RTO_MIN_US,
    TCP_SAVE_SYN,
    TCP_SAVED_SYN,
    TCP_SYNCNT,
    TCP_THIN_LINEAR_TIMEOUTS,
    TCP_TIMESTAMP,
    TCP_USER_TIMEOUT,
    TCP_WINDOW_CLAMP,
    TCPI_OPT_ECN,
    TCPI_OPT_ECN_SEEN,
    TCPI_OPT_SACK,
    TCPI_OPT_TIMESTAMPS,
    TCPI_OPT_WSCALE,
    keepalive_intvl_when,
    keepalive_probes,
    keepalive_time_elapsed,
    keepalive_time_when,
    tcp_mstamp_refresh,
    tcp_receive_window,
    tcp_sock,
    tcp_time_stamp_ts,
)
from stack.inet.tcp_window import tcp_current_mss

TCP_TIMEOUT_INIT = SEC
SHORTEST_US = 1000
"""TCP_TIMEOUT_MIN: a timer runs for two jiffies at least, here those of CONFIG_HZ=1000."""


# --- setting ------------------------------------------------------------------------------


def __tcp_sock_set_cork(sk: tcp_sock, on: bool) -> None:
    if on:
        sk.nonagle |= TCP_NAGLE_CORK
    else:
        sk.nonagle &= ~TCP_NAGLE_CORK
        if sk.nonagle & TCP_NAGLE_OFF:
            sk.nonagle |= TCP_NAGLE_PUSH
        tcp_push_pending(sk)


def __tcp_sock_set_nodelay(sk: tcp_sock, on: bool) -> None:
    if on:
        sk.nonagle |= TCP_NAGLE_OFF | TCP_NAGLE_PUSH
        tcp_push_pending(sk)
    else:
        sk.nonagle &= ~TCP_NAGLE_OFF


def tcp_push_pending(sk: tcp_sock) -> None:
    """tcp_push_pending_frames, for a socket in any state."""
    sk.msg_more = False
    if sk.sk_write_queue.qlen and not (1 << sk.sk_state) & (TCPF_CLOSE | TCPF_LISTEN):
        __tcp_push_pending_frames(sk, tcp_current_mss(sk), sk.nonagle)


def __tcp_sock_set_quickack(sk: tcp_sock, val: int) -> None:
    if not val:
        inet_csk_enter_pingpong_mode(sk)
        return
    inet_csk_exit_pingpong_mode(sk)
    if sk.sk_state in (TCP_ESTABLISHED, TCP_CLOSE_WAIT) and inet_csk_ack_scheduled(sk):
        sk.icsk_ack_pending |= ICSK_ACK_PUSHED
        tcp_cleanup_rbuf(sk, 1)
        if not val & 1:
            inet_csk_enter_pingpong_mode(sk)


def tcp_sock_set_keepidle_locked(sk: tcp_sock, val: int) -> None:
    if not 1 <= val <= MAX_TCP_KEEPIDLE:
        raise os_error(errno.EINVAL)
    sk.keepalive_time = val * SEC
    if sk.sk_flags & SOCK_KEEPOPEN and not (1 << sk.sk_state) & (TCPF_CLOSE | TCPF_LISTEN):
        elapsed = keepalive_time_elapsed(sk)
        left = sk.keepalive_time - elapsed
        inet_csk_reset_keepalive_timer(sk, max(left, 0))


def secs_to_retrans(seconds: int, timeout: int, rto_max: int) -> int:
    """How many SYN-ACK retransmissions last `seconds`."""
    res = 0
    if seconds > 0:
        period = timeout
        res = 1
        while seconds > period and res < 255:
            res += 1
            timeout = min(timeout << 1, rto_max)
            period += timeout
    return res


def retrans_to_secs(retrans: int, timeout: int, rto_max: int) -> int:
    period = 0
    if retrans > 0:
        period = timeout
        for _ in range(retrans - 1):
            timeout = min(timeout << 1, rto_max)
            period += timeout
    return period


def tcp_set_window_clamp_opt(sk: tcp_sock, val: int) -> None:
    """TCP_WINDOW_CLAMP."""
    if not val:
        if sk.sk_state != TCP_CLOSE:
            raise os_error(errno.EINVAL)
        sk.window_clamp = sk.user_window_clamp = 0
        return
    sk.user_window_clamp = max(val, SOCK_MIN_RCVBUF // 2)
    tcp_set_window_clamp(sk, sk.user_window_clamp)


def do_tcp_setsockopt(sk: tcp_sock, level: int, optname: int, optval: Any) -> None:
    """Raises: OSError EINVAL, ENOENT, ENOPROTOOPT."""
    if optname == TCP_CONGESTION:
        if not optval:
            raise os_error(errno.EINVAL)
        name = (
            optval
            if isinstance(optval, str)
            else opt_bytes(optval).split(b"\0")[0].decode("ascii", "replace")
        )
        lock_sock(sk)
        try:
            tcp_set_congestion_control(sk, name)
        finally:
            release_sock(sk)
        return
    val = opt_int(optval)
    lock_sock(sk)
    try:
        _set_int_option(sk, optname, val)
    finally:
        release_sock(sk)


def _set_int_option(sk: tcp_sock, optname: int, val: int) -> None:
    match optname:
        case x if x == TCP_NODELAY:
            __tcp_sock_set_nodelay(sk, bool(val))
        case x if x == TCP_CORK:
            __tcp_sock_set_cork(sk, bool(val))
        case x if x == TCP_MAXSEG:
            if val and not TCP_MIN_MSS <= val <= MAX_TCP_WINDOW:
                raise os_error(errno.EINVAL)
            sk.rx_opt.user_mss = val
        case x if x == TCP_KEEPIDLE:
            tcp_sock_set_keepidle_locked(sk, val)
        case x if x == TCP_KEEPINTVL:
            if not 1 <= val <= MAX_TCP_KEEPINTVL:
                raise os_error(errno.EINVAL)
            sk.keepalive_intvl = val * SEC
        case x if x == TCP_KEEPCNT:
            if not 1 <= val <= MAX_TCP_KEEPCNT:
                raise os_error(errno.EINVAL)
            sk.keepalive_probes = val
        case x if x == TCP_SYNCNT:
            if not 1 <= val <= MAX_TCP_SYNCNT:
                raise os_error(errno.EINVAL)
            sk.icsk_syn_retries = val
        case x if x == TCP_LINGER2:
            if val < 0:
                sk.linger2 = -1
            elif val * SEC > TCP_FIN_TIMEOUT_MAX:
                sk.linger2 = TCP_FIN_TIMEOUT_MAX
            else:
                sk.linger2 = val * SEC
        case x if x == TCP_DEFER_ACCEPT:
            sk.defer_accept = secs_to_retrans(val * SEC, TCP_TIMEOUT_INIT, sk.icsk_rto_max)
            if sk.icsk_accept_queue is not None:
                sk.icsk_accept_queue.rskq_defer_accept = sk.defer_accept
        case x if x == TCP_WINDOW_CLAMP:
            tcp_set_window_clamp_opt(sk, val)
        case x if x == TCP_QUICKACK:
            __tcp_sock_set_quickack(sk, val)
        case x if x == TCP_USER_TIMEOUT:
            if val < 0:
                raise os_error(errno.EINVAL)
            sk.icsk_user_timeout = val * MSEC
        case x if x == TCP_NOTSENT_LOWAT:
            sk.notsent_lowat = val & M32
            sk_write_space(sk)
        case x if x == TCP_INQ:
            if val not in (0, 1):
                raise os_error(errno.EINVAL)
            sk.recvmsg_inq = bool(val)
        case x if x == TCP_SAVE_SYN:
            if val not in (0, 1, 2):
                raise os_error(errno.EINVAL)
            sk.save_syn = val
        case x if x == TCP_TIMESTAMP:
            raise os_error(errno.EPERM)  # only a socket under repair may
        case x if x == TCP_THIN_LINEAR_TIMEOUTS:
            if val not in (0, 1):
                raise os_error(errno.EINVAL)
            sk.thin_lto = bool(val)
        case x if x == TCP_RTO_MAX_MS:
            if not 1000 <= val <= 120000:
                raise os_error(errno.EINVAL)
            sk.icsk_rto_max = val * MSEC
        case x if x == TCP_RTO_MIN_US:
            if not SHORTEST_US < val <= 200_000:
                raise os_error(errno.EINVAL)
            sk.icsk_rto_min = val * 1000
        case x if x == TCP_DELACK_MAX_US:
            if not SHORTEST_US < val <= 200_000:
                raise os_error(errno.EINVAL)
            sk.icsk_delack_max = val * 1000
        case _:
            raise os_error(errno.ENOPROTOOPT)


def tcp_setsockopt(sk: tcp_sock, level: int, optname: int, optval: Any, optlen: int = 0) -> None:
    """proto.setsockopt: SOL_TCP here, everything else is the family's. Raises: OSError."""
    if level != SOL_TCP:
        sk.icsk_af_ops.setsockopt(sk, level, optname, optval)
        return
    do_tcp_setsockopt(sk, level, optname, optval)


# --- reading ------------------------------------------------------------------------------

# uapi/linux/tcp.h struct tcp_info, up to tcpi_total_rto_time.
_TCP_INFO = struct.Struct("=8B 24I 4Q 6I 4Q 2I 2Q 6I 2H I")


def tcp_get_info(sk: tcp_sock) -> bytes:
    """struct tcp_info in the host's byte order (248 bytes)."""
    now = sk.net.now()
    rx_opt = sk.rx_opt
    listen = sk.sk_state == TCP_LISTEN
    options = 0
    if rx_opt.tstamp_ok:
        options |= TCPI_OPT_TIMESTAMPS
    if rx_opt.sack_ok:
        options |= TCPI_OPT_SACK
    if rx_opt.wscale_ok:
        options |= TCPI_OPT_WSCALE
    if sk.ecn_flags & TCP_ECN_OK:
        options |= TCPI_OPT_ECN
    if sk.ecn_flags & TCP_ECN_SEEN:
        options |= TCPI_OPT_ECN_SEEN
    ssthresh = sk.snd_ssthresh
    rcv_rtt = sk.rcv_rtt_est_rtt_us >> 3
    unsent = (sk.write_seq - sk.snd_nxt) & M32
    return _TCP_INFO.pack(
        sk.sk_state,
        sk.icsk_ca_state,
        min(sk.icsk_retransmits, 255),
        min(sk.icsk_probes_out, 255),
        min(sk.icsk_backoff, 255),
        options,
        (rx_opt.snd_wscale & 15) | (rx_opt.rcv_wscale & 15) << 4,
        1 if sk.app_limited else 0,
        sk.icsk_rto // 1000 & M32,
        (sk.icsk_ack_ato // 1000) & M32,
        sk.mss_cache,
        sk.icsk_ack_rcv_mss,
        sk.sk_ack_backlog if listen else sk.packets_out,
        sk.sk_max_ack_backlog if listen else sk.sacked_out,
        sk.lost_out,
        sk.retrans_out,
        0,
        (now - sk.lsndtime) // MSEC & M32,
        0,
        (now - sk.icsk_ack_lrcvtime) // MSEC & M32,
        (now - sk.rcv_tstamp) // MSEC & M32,
        sk.icsk_pmtu_cookie,
        sk.rcv_ssthresh & M32,
        sk.srtt_us >> 3,
        sk.mdev_us >> 2,
        min(ssthresh, TCP_INFINITE_SSTHRESH),
        sk.snd_cwnd,
        sk.advmss & M32,
        sk.reordering,
        rcv_rtt,
        sk.rcvq_space_space & M32,
        sk.total_retrans,
        pacing_rate(sk),
        pacing_rate(sk),
        sk.bytes_acked,
        sk.bytes_received,
        sk.segs_out & M32,
        sk.segs_in & M32,
        unsent,
        sk.min_rtt_us & M32,
        sk.data_segs_in & M32,
        sk.data_segs_out & M32,
        0,
        0,
        0,
        0,
        sk.delivered & M32,
        0,
        sk.bytes_sent,
        sk.bytes_retrans,
        sk.dsack_dups & M32,
        sk.reord_seen & M32,
        sk.rcv_ooopack & M32,
        sk.snd_wnd & M32,
        tcp_receive_window(sk) & M32,
        0,
        sk.total_rto & 0xFFFF,
        0,
        0,
    )


def tcp_info_dict(sk: tcp_sock) -> dict[str, Any]:
    """struct tcp_info as names and numbers, for `ss`-like printing and tests.

    `congestion` names the algorithm, and `congestion_info` is its own state (CUBIC's phase, W_max,
    K ...; empty for those that have none).
    """
    ca = sk.icsk_ca_ops
    return {
        "congestion": ca.name,
        "congestion_info": {} if ca.get_info is None else ca.get_info(sk),
        "state": sk.sk_state,
        "ca_state": sk.icsk_ca_state,
        "retransmits": sk.icsk_retransmits,
        "backoff": sk.icsk_backoff,
        "rto_us": sk.icsk_rto // 1000,
        "snd_mss": sk.mss_cache,
        "rcv_mss": sk.icsk_ack_rcv_mss,
        "unacked": sk.packets_out,
        "sacked": sk.sacked_out,
        "lost": sk.lost_out,
        "retrans": sk.retrans_out,
        "rtt_us": sk.srtt_us >> 3,
        "rttvar_us": sk.mdev_us >> 2,
        "min_rtt_us": sk.min_rtt_us,
        "snd_ssthresh": sk.snd_ssthresh,
        "snd_cwnd": sk.snd_cwnd,
        "reordering": sk.reordering,
        "total_retrans": sk.total_retrans,
        "bytes_acked": sk.bytes_acked,
        "bytes_received": sk.bytes_received,
        "bytes_sent": sk.bytes_sent,
        "bytes_retrans": sk.bytes_retrans,
        "segs_in": sk.segs_in,
        "segs_out": sk.segs_out,
        "delivered": sk.delivered,
        "snd_wnd": sk.snd_wnd,
        "rcv_wnd": sk.rcv_wnd,
        "rcv_space": sk.rcvq_space_space,
        "notsent_bytes": (sk.write_seq - sk.snd_nxt) & M32,
    }


def do_tcp_getsockopt(sk: tcp_sock, level: int, optname: int) -> Any:
    """An int, or bytes for struct values. Raises: OSError ENOPROTOOPT."""
    sysctl = sk.net.sysctl
    match optname:
        case x if x == TCP_MAXSEG:
            val = sk.mss_cache
            if sk.rx_opt.user_mss and (1 << sk.sk_state) & (TCPF_CLOSE | TCPF_LISTEN):
                val = sk.rx_opt.user_mss
            return val
        case x if x == TCP_NODELAY:
            return int(bool(sk.nonagle & TCP_NAGLE_OFF))
        case x if x == TCP_CORK:
            return int(bool(sk.nonagle & TCP_NAGLE_CORK))
        case x if x == TCP_KEEPIDLE:
            return keepalive_time_when(sk) // SEC
        case x if x == TCP_KEEPINTVL:
            return keepalive_intvl_when(sk) // SEC
        case x if x == TCP_KEEPCNT:
            return keepalive_probes(sk)
        case x if x == TCP_SYNCNT:
            return sk.icsk_syn_retries or sysctl.tcp_syn_retries
        case x if x == TCP_LINGER2:
            return (sk.linger2 or sysctl.tcp_fin_timeout * SEC) // SEC if sk.linger2 >= 0 else -1
        case x if x == TCP_DEFER_ACCEPT:
            return retrans_to_secs(sk.defer_accept, TCP_TIMEOUT_INIT, sk.icsk_rto_max) // SEC
        case x if x == TCP_WINDOW_CLAMP:
            return sk.window_clamp
        case x if x == TCP_INFO:
            tcp_mstamp_refresh(sk)
            return tcp_get_info(sk)
        case x if x == TCP_QUICKACK:
            return int(not inet_csk_in_pingpong_mode(sk))
        case x if x == TCP_CONGESTION:
            return sk.icsk_ca_ops.name.encode().ljust(16, b"\0")
        case x if x == TCP_USER_TIMEOUT:
            return sk.icsk_user_timeout // MSEC
        case x if x == TCP_NOTSENT_LOWAT:
            return sk.notsent_lowat
        case x if x == TCP_INQ:
            return int(sk.recvmsg_inq)
        case x if x == TCP_SAVE_SYN:
            return sk.save_syn
        case x if x == TCP_SAVED_SYN:
            saved, sk.saved_syn = sk.saved_syn, None
            return saved or b""
        case x if x == TCP_TIMESTAMP:
            tcp_mstamp_refresh(sk)
            return tcp_time_stamp_ts(sk)
        case x if x == TCP_THIN_LINEAR_TIMEOUTS:
            return int(sk.thin_lto)
        case x if x == TCP_RTO_MAX_MS:
            return sk.icsk_rto_max // MSEC
        case x if x == TCP_RTO_MIN_US:
            return sk.icsk_rto_min // 1000
        case x if x == TCP_DELACK_MAX_US:
            return sk.icsk_delack_max // 1000
        case _:
            raise os_error(errno.ENOPROTOOPT)


def tcp_getsockopt(sk: tcp_sock, level: int, optname: int, *_: Any) -> Any:
    """proto.getsockopt."""
    if level != SOL_TCP:
        return sk.icsk_af_ops.getsockopt(sk, level, optname)
    return do_tcp_getsockopt(sk, level, optname)
