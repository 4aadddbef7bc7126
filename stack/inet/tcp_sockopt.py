"""net/ipv4/tcp.c: SOL_TCP options and struct tcp_info.

    tcp_setsockopt -> do_tcp_setsockopt -> option_value, apply_option       a row of TCP_LEVEL
    tcp_getsockopt -> do_tcp_getsockopt -> get_option
    tcp_get_info                            TCP_INFO, and ss: from the fields of tcp_sock

The functions before TCP_LEVEL are the setters and getters that its rows name; an option that is one
member of tcp_sock has none. Setters run with the sock owned. Those that release waiting data
(TCP_NODELAY, TCP_CORK) send before they return. The file keeps no state. Read the rows first.
"""

from __future__ import annotations

import errno
import struct
from functools import partial
from typing import Any

from fastpath.base.skbuff import sk_buff
from fastpath.net.hdr import ip_hdr, ipv6_hdr
from stack.core.errors import os_error
from stack.core.netdevice import ETH_P_IPV6
from stack.core.rows import replace, wide
from stack.core.sock import SOCK_MIN_RCVBUF, lock_sock, release_sock, sk_write_space
from stack.core.sock_flags import SOCK_KEEPOPEN
from stack.core.sockopt import pacing_rate
from stack.core.sockopt_table import (
    ON_OFF,
    TCP,
    Level,
    SockOpt,
    apply_option,
    flag,
    get_option,
    number,
    only,
    opt_bytes,
    opt_struct,
    opt_u32,
    option_value,
    switch,
)
from stack.core.tcp_states import (
    TCP_CLOSE,
    TCP_CLOSE_WAIT,
    TCP_ESTABLISHED,
    TCP_LISTEN,
    TCPF_CLOSE,
    TCPF_LISTEN,
)
from stack.core.time64 import NSEC_PER_MSEC, NSEC_PER_SEC, USEC_PER_SEC
from stack.core.uapi import SOL_TCP
from stack.inet import tcp_sock as names
from stack.inet.inet_connection_sock import (
    ICSK_ACK_PUSHED,
    inet_csk_ack_scheduled,
    inet_csk_enter_pingpong_mode,
    inet_csk_exit_pingpong_mode,
    inet_csk_in_pingpong_mode,
    inet_csk_reset_keepalive_timer,
)
from stack.inet.tcp_cong import tcp_set_congestion_control
from stack.inet.tcp_const import TCP_FIN_TIMEOUT_MAX, TCP_RTO_MAX, TCP_TIMEOUT_INIT
from stack.inet.tcp_fastopen import (
    tcp_fastopen_set_backlog,
    tcp_fastopen_set_connect,
    tcp_fastopen_set_key,
)
from stack.inet.tcp_md5 import MD5SIG, tcp_parse_md5_keys
from stack.inet.tcp_output import __tcp_push_pending_frames
from stack.inet.tcp_pacing import tcp_pacing_rate
from stack.inet.tcp_rcvbuf import tcp_set_window_clamp
from stack.inet.tcp_recvmsg import tcp_cleanup_rbuf
from stack.inet.tcp_sock import (
    M32,
    MAX_TCP_WINDOW,
    TCP_ECN_MODE_ANY,
    TCP_ECN_SEEN,
    TCP_INFINITE_SSTHRESH,
    TCP_MIN_MSS,
    TCP_NAGLE_CORK,
    TCP_NAGLE_OFF,
    TCP_NAGLE_PUSH,
    keepalive_intvl_when,
    keepalive_probes,
    keepalive_time_elapsed,
    keepalive_time_when,
    tcp_chrono_set,
    tcp_mstamp_refresh,
    tcp_receive_window,
    tcp_sock,
    tcp_time_stamp_ts,
)
from stack.inet.tcp_window import tcp_current_mss

# limits of options, and tcpi_options of struct tcp_info
MAX_TCP_KEEPIDLE = 32767
MAX_TCP_KEEPINTVL = 32767
MAX_TCP_KEEPCNT = 127
MAX_TCP_SYNCNT = 127
TCPI_OPT_TIMESTAMPS = 1
TCPI_OPT_SACK = 2
TCPI_OPT_WSCALE = 4
TCPI_OPT_ECN = 8
TCPI_OPT_ECN_SEEN = 16
TCPI_OPT_SYN_DATA = 32
TCPI_OPT_TFO_CHILD = 128

SHORTEST_US = 1000
"""TCP_TIMEOUT_MIN: a timer runs for two jiffies at least, here those of CONFIG_HZ=1000."""


# --- setting ------------------------------------------------------------------------------


def __tcp_sock_set_cork(sk: tcp_sock, on: int) -> None:
    """net/ipv4/tcp.c"""
    if on:
        sk.nonagle |= TCP_NAGLE_CORK
    else:
        sk.nonagle &= ~TCP_NAGLE_CORK
        if sk.nonagle & TCP_NAGLE_OFF:
            sk.nonagle |= TCP_NAGLE_PUSH
        tcp_push_pending(sk)


def __tcp_sock_set_nodelay(sk: tcp_sock, on: int) -> None:
    """net/ipv4/tcp.c"""
    if on:
        sk.nonagle |= TCP_NAGLE_OFF | TCP_NAGLE_PUSH
        tcp_push_pending(sk)
    else:
        sk.nonagle &= ~TCP_NAGLE_OFF


def tcp_push_pending(sk: tcp_sock) -> None:
    """tcp_push_pending_frames, for a socket in any state."""
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
    """net/ipv4/tcp.c: reschedule a pending probe by the new time."""
    sk.keepalive_time = val * NSEC_PER_SEC
    if sk.sk_flags & SOCK_KEEPOPEN and not (1 << sk.sk_state) & (TCPF_CLOSE | TCPF_LISTEN):
        elapsed = keepalive_time_elapsed(sk)
        left = sk.keepalive_time - elapsed
        inet_csk_reset_keepalive_timer(sk, max(left, 0))


def secs_to_retrans(ns: int) -> int:
    """How many SYN-ACK retransmissions last `ns`, at most 255."""
    res = 0
    while ns > retrans_to_secs(res) and res < 255:
        res += 1
    return res


def retrans_to_secs(retrans: int) -> int:
    """How long so many SYN-ACK retransmissions last, ns."""
    return sum(min(TCP_TIMEOUT_INIT << min(i, 10), TCP_RTO_MAX) for i in range(retrans))


def tcp_set_window_clamp_opt(sk: tcp_sock, val: int) -> None:
    """TCP_WINDOW_CLAMP. Raises: OSError EINVAL for 0 once the socket has a window."""
    if not val:
        if sk.sk_state != TCP_CLOSE:
            raise os_error(errno.EINVAL, "TCP_WINDOW_CLAMP: 0 is for a closed socket")
        sk.window_clamp = sk.user_window_clamp = 0
        return
    sk.user_window_clamp = max(val, SOCK_MIN_RCVBUF // 2)
    tcp_set_window_clamp(sk, sk.user_window_clamp)


def tcp_set_linger2(sk: tcp_sock, val: int) -> None:
    """TCP_LINGER2, seconds; negative: none."""
    sk.linger2 = -1 if val < 0 else min(val * NSEC_PER_SEC, TCP_FIN_TIMEOUT_MAX)


def tcp_set_defer_accept(sk: tcp_sock, val: int) -> None:
    """TCP_DEFER_ACCEPT, seconds, kept as a number of retransmissions."""
    sk.defer_accept = secs_to_retrans(val * NSEC_PER_SEC)


def congestion_name(optval: Any) -> str:
    """The name of an algorithm, up to its 0. Raises: OSError EINVAL."""
    if not optval:
        raise os_error(errno.EINVAL, "TCP_CONGESTION: a name")
    if isinstance(optval, str):
        return optval
    return opt_bytes(optval).split(b"\0")[0].decode("ascii", "replace")


# --- reading ------------------------------------------------------------------------------

# uapi/linux/tcp.h struct tcp_info of Linux 6.18, up to tcpi_accecn_opt_seen.
_TCP_INFO = struct.Struct("=8B 24I 4Q 6I 4Q 2I 2Q 6I 2H I 7I 2H")
_TCP_INFO_FIELDS = 68


def tcpi_pacing_rate(sk: tcp_sock) -> wide:
    """The rate that Linux would pace the socket at, ~0UL if unlimited."""
    rate = tcp_pacing_rate(sk)
    return pacing_rate(sk) if rate == sk.sk_pacing_rate else rate


def tcp_compute_delivery_rate(sk: tcp_sock) -> int:
    """net/ipv4/tcp.c: bytes a second of the last sample; 0: there is none."""
    if not sk.rate_delivered or not sk.rate_interval_us:
        return 0
    return sk.rate_delivered * sk.mss_cache * USEC_PER_SEC // sk.rate_interval_us


def tcp_get_info_chrono_stats(sk: tcp_sock) -> tuple[int, int, int]:
    """net/ipv4/tcp.c: us with data to send, and the shares limited by window and buffer."""
    tcp_chrono_set(sk, sk.chrono_type)  # up to now
    busy = sk.chrono_busy + sk.chrono_rwnd + sk.chrono_sndbuf
    return busy // 1000, sk.chrono_rwnd // 1000, sk.chrono_sndbuf // 1000


def tcp_get_info_listen(sk: tcp_sock) -> bytes:
    """struct tcp_info of a listener: its accept queue, and the values that children inherit."""
    info: list[wide] = [0] * _TCP_INFO_FIELDS
    info[0] = sk.sk_state
    info[12], info[13] = sk.sk_ack_backlog, sk.sk_max_ack_backlog
    info[26], info[28] = sk.snd_cwnd, sk.reordering
    info[32], info[33] = tcpi_pacing_rate(sk), pacing_rate(sk)
    return _TCP_INFO.pack(*info)


def tcp_get_info(sk: tcp_sock) -> bytes:
    """struct tcp_info in the host's byte order (280 bytes)."""
    if sk.sk_state == TCP_LISTEN:
        return tcp_get_info_listen(sk)
    tcp_mstamp_refresh(sk)
    now = sk.net.now()
    busy_us, rwnd_us, sndbuf_us = tcp_get_info_chrono_stats(sk)
    rto_time = sk.total_rto_time
    if sk.rto_recovery_start:
        rto_time += now - sk.rto_recovery_start
    rx_opt = sk.rx_opt
    shifts = rx_opt.snd_wscale & 15 | (rx_opt.rcv_wscale & 15) << 4 if rx_opt.wscale_ok else 0
    options = (
        TCPI_OPT_TIMESTAMPS * bool(rx_opt.tstamp_ok)
        | TCPI_OPT_SACK * bool(rx_opt.sack_ok)
        | TCPI_OPT_WSCALE * bool(rx_opt.wscale_ok)
        | TCPI_OPT_ECN * bool(sk.ecn_flags & TCP_ECN_MODE_ANY)
        | TCPI_OPT_ECN_SEEN * bool(sk.ecn_flags & TCP_ECN_SEEN)
        | TCPI_OPT_SYN_DATA * sk.syn_data_acked
        | TCPI_OPT_TFO_CHILD * sk.syn_fastopen_child
    )
    return _TCP_INFO.pack(
        sk.sk_state,
        sk.icsk_ca_state,
        min(sk.icsk_retransmits, 255),
        min(sk.icsk_probes_out, 255),
        min(sk.icsk_backoff, 255),
        options,
        shifts,
        sk.rate_app_limited | sk.fastopen_client_fail << 1,
        sk.icsk_rto // 1000 & M32,
        (sk.icsk_ack_ato // 1000) & M32,
        sk.mss_cache,
        sk.icsk_ack_rcv_mss,
        sk.packets_out,
        sk.sacked_out,
        sk.lost_out,
        sk.retrans_out,
        0,
        (now - sk.lsndtime) // NSEC_PER_MSEC & M32,
        0,
        (now - sk.icsk_ack_lrcvtime) // NSEC_PER_MSEC & M32,
        (now - sk.rcv_tstamp) // NSEC_PER_MSEC & M32,
        sk.icsk_pmtu_cookie,
        sk.rcv_ssthresh & M32,
        sk.srtt_us >> 3,
        sk.mdev_us >> 2,
        min(sk.snd_ssthresh, TCP_INFINITE_SSTHRESH),
        sk.snd_cwnd,
        sk.advmss & M32,
        sk.reordering,
        sk.rcv_rtt_est_rtt_us >> 3,
        sk.rcvq_space_space & M32,
        sk.total_retrans,
        tcpi_pacing_rate(sk),
        pacing_rate(sk),
        sk.bytes_acked,
        sk.bytes_received,
        sk.segs_out & M32,
        sk.segs_in & M32,
        (sk.write_seq - sk.snd_nxt) & M32,
        sk.min_rtt_us & M32,
        sk.data_segs_in & M32,
        sk.data_segs_out & M32,
        tcp_compute_delivery_rate(sk),
        busy_us,
        rwnd_us,
        sndbuf_us,
        sk.delivered & M32,
        sk.delivered_ce & M32,
        sk.bytes_sent,
        sk.bytes_retrans,
        sk.dsack_dups & M32,
        sk.reord_seen & M32,
        sk.rcv_ooopack & M32,
        sk.snd_wnd & M32,
        tcp_receive_window(sk) & M32,
        0,  # tcpi_rehash: a flow's hash never changes
        sk.total_rto & 0xFFFF,
        sk.total_rto_recoveries & 0xFFFF,
        rto_time // NSEC_PER_MSEC & M32,
        sk.received_ce & M32,
        sk.delivered_e1_bytes,
        sk.delivered_e0_bytes,
        sk.delivered_ce_bytes,
        sk.received_e1_bytes,
        sk.received_e0_bytes,
        sk.received_ce_bytes,
        sk.accecn_fail_mode,
        sk.saw_accecn_opt,
    )


def tcp_get_timestamping_opt_stats(sk: tcp_sock, orig: sk_buff, ack: sk_buff | None) -> bytes:
    """net/ipv4/tcp.c: SCM_TIMESTAMPING_OPT_STATS, netlink attributes TCP_NLA_* of 6.18.

    `orig`: the packet with the time stamp; `ack`: the segment that acknowledged it.
    """
    busy_us, rwnd_us, sndbuf_us = tcp_get_info_chrono_stats(sk)
    edt = orig.tx_tstamp_ns or sk.tcp_wstamp_ns
    rows: list[tuple[int, str, wide]] = [
        (1, "Q", busy_us),
        (2, "Q", rwnd_us),
        (3, "Q", sndbuf_us),
        (4, "Q", sk.data_segs_out),
        (5, "Q", sk.total_retrans),
        (6, "Q", tcpi_pacing_rate(sk)),
        (7, "Q", tcp_compute_delivery_rate(sk)),
        (8, "I", sk.snd_cwnd),
        (9, "I", sk.reordering),
        (10, "I", sk.min_rtt_us & M32),
        (11, "B", min(sk.icsk_retransmits, 255)),
        (12, "B", int(sk.rate_app_limited)),
        (15, "I", min(sk.snd_ssthresh, TCP_INFINITE_SSTHRESH)),
        (16, "I", sk.delivered & M32),
        (17, "I", sk.delivered_ce & M32),
        (13, "I", (sk.write_seq - sk.snd_una) & M32),
        (14, "B", sk.icsk_ca_state),
        (18, "Q", sk.bytes_sent),
        (19, "Q", sk.bytes_retrans),
        (20, "I", sk.dsack_dups & M32),
        (21, "I", sk.reord_seen & M32),
        (22, "I", sk.srtt_us >> 3),
        (23, "H", 0),  # a flow's hash never changes
        (24, "I", (sk.write_seq - sk.snd_nxt) & M32),
        (25, "Q", edt),
    ]
    if ack is not None:
        v6 = ack.protocol == ETH_P_IPV6
        rows.append((26, "B", ipv6_hdr(ack).hop_limit if v6 else ip_hdr(ack).ttl))
    rows.append((27, "I", 0))
    return b"".join(tcp_nla(number, struct.pack("=" + kind, val)) for number, kind, val in rows)


def tcp_nla(number: int, data: bytes) -> bytes:
    """A netlink attribute, padded to 4 bytes."""
    return struct.pack("=HH", 4 + len(data), number) + data + bytes(-len(data) % 4)


_TCP_INFO_NAMES = (
    "state ca_state retransmits probes backoff options wscale flags "
    "rto ato snd_mss rcv_mss unacked sacked lost retrans fackets last_data_sent last_ack_sent "
    "last_data_recv last_ack_recv pmtu rcv_ssthresh rtt rttvar snd_ssthresh snd_cwnd advmss "
    "reordering rcv_rtt rcv_space total_retrans pacing_rate max_pacing_rate bytes_acked "
    "bytes_received segs_out segs_in notsent_bytes min_rtt data_segs_in data_segs_out "
    "delivery_rate busy_time rwnd_limited sndbuf_limited delivered delivered_ce bytes_sent "
    "bytes_retrans dsack_dups reord_seen rcv_ooopack snd_wnd rcv_wnd rehash total_rto "
    "total_rto_recoveries total_rto_time received_ce delivered_e1_bytes delivered_e0_bytes "
    "delivered_ce_bytes received_e1_bytes received_e0_bytes received_ce_bytes accecn_fail_mode "
    "accecn_opt_seen"
)


def tcp_info_dict(sk: tcp_sock) -> dict[str, Any]:
    """struct tcp_info as names (without `tcpi_`) and numbers, times in us, those of last_* in ms.

    `congestion` names the algorithm, and `congestion_info` is its own state (CUBIC's phase, W_max,
    K ...; empty for those that have none).
    """
    ca = sk.icsk_ca_ops
    return {
        "congestion": ca.name,
        "congestion_info": {} if ca.get_info is None else ca.get_info(sk),
        **dict(zip(_TCP_INFO_NAMES.split(), _TCP_INFO.unpack(tcp_get_info(sk)), strict=True)),
    }


# --- the table ----------------------------------------------------------------------------


def tcp_get_mss(sk: tcp_sock) -> int:
    """TCP_MAXSEG: the requested value before a connection exists, then the current MSS."""
    if sk.rx_opt.user_mss and (1 << sk.sk_state) & (TCPF_CLOSE | TCPF_LISTEN):
        return sk.rx_opt.user_mss
    return sk.mss_cache


def tcp_get_linger2(sk: tcp_sock) -> int:
    """TCP_LINGER2"""
    return (
        (sk.linger2 or sk.net.sysctl.tcp_fin_timeout * NSEC_PER_SEC) // NSEC_PER_SEC
        if sk.linger2 >= 0
        else -1
    )


def tcp_fastopen_get_backlog(sk: tcp_sock) -> int:
    """TCP_FASTOPEN"""
    return sk.fastopenq.max_qlen if sk.fastopenq is not None else 0


def tcp_get_saved_syn(sk: tcp_sock) -> bytes:
    """TCP_SAVED_SYN, which can be read once."""
    saved, sk.saved_syn = sk.saved_syn, None
    return saved or b""


def tcp_get_timestamp(sk: tcp_sock) -> int:
    """TCP_TIMESTAMP"""
    tcp_mstamp_refresh(sk)
    return tcp_time_stamp_ts(sk)


# fmt: off
TCP_LEVEL = Level("IPPROTO_TCP", SOL_TCP, vars(names), [replace(row, sockets=TCP) for row in (
    SockOpt("TCP_CC_INFO", "union tcp_cc_info: empty for CUBIC and Reno", "4.1",
        get=lambda sk: b""),
    SockOpt("TCP_CONGESTION", "congestion control, by name", "2.6.13",
        takes=congestion_name, set=tcp_set_congestion_control,
        get=lambda sk: sk.icsk_ca_ops.name.encode().ljust(16, b"\0")),
    flag("TCP_CORK", TCP_NAGLE_CORK, "full segments only, until it is off", "nonagle",
        set=__tcp_sock_set_cork),
    SockOpt("TCP_DEFER_ACCEPT", "seconds to wait for data before accept() returns the connection",
        set=tcp_set_defer_accept, unit=NSEC_PER_SEC,
        get=lambda sk: retrans_to_secs(sk.defer_accept)),
    number("TCP_DELACK_MAX_US", "icsk_delack_max", range(SHORTEST_US + 1, 200_001),
        "longest delay of an ACK, us", since="6.15", unit=1000),
    SockOpt("TCP_FASTOPEN", "most Fast Open connections that wait for the end of their handshake",
        "3.7", set=tcp_fastopen_set_backlog, get=tcp_fastopen_get_backlog),
    SockOpt("TCP_FASTOPEN_CONNECT", "the first write sends the SYN, with its data", "4.11",
        legal=ON_OFF, set=tcp_fastopen_set_connect, get=lambda sk: sk.fastopen_connect),
    SockOpt("TCP_FASTOPEN_KEY", "key of the cookies, or a new one and an old one", "4.15",
        takes=opt_bytes, set=tcp_fastopen_set_key,
        get=lambda sk: b"".join(sk.fastopenq.ctx) if sk.fastopenq is not None else b""),
    switch("TCP_FASTOPEN_NO_COOKIE", "fastopen_no_cookie", "SYNs with data need no cookie",
        since="4.15", legal=ON_OFF,
        may_set=only("sk_state", (TCP_CLOSE, TCP_LISTEN), errno.EINVAL,
            "TCP_FASTOPEN_NO_COOKIE: before there is a connection")),
    SockOpt("TCP_INFO", "struct tcp_info", get=tcp_get_info),
    switch("TCP_INQ", "recvmsg_inq", "bytes still waiting, as a control message", since="4.18",
        legal=ON_OFF),
    SockOpt("TCP_IS_MPTCP", "0: the connection is not multipath TCP", "5.16", get=lambda sk: 0),
    number("TCP_KEEPCNT", "keepalive_probes", range(1, MAX_TCP_KEEPCNT + 1),
        "keepalive probes without an answer", get=keepalive_probes),
    SockOpt("TCP_KEEPIDLE", "seconds of silence before the first keepalive probe",
        legal=range(1, MAX_TCP_KEEPIDLE + 1), set=tcp_sock_set_keepidle_locked,
        get=keepalive_time_when, unit=NSEC_PER_SEC),
    number("TCP_KEEPINTVL", "keepalive_intvl", range(1, MAX_TCP_KEEPINTVL + 1),
        "seconds between keepalive probes", get=keepalive_intvl_when, unit=NSEC_PER_SEC),
    SockOpt("TCP_LINGER2", "seconds in FIN_WAIT_2 after close()",
        set=tcp_set_linger2, get=tcp_get_linger2),
    number("TCP_MAXSEG", "rx_opt.user_mss",
        frozenset((0, *range(TCP_MIN_MSS, MAX_TCP_WINDOW + 1))),
        "largest segment, bytes", get=tcp_get_mss),
    SockOpt("TCP_MD5SIG", "a key that signs segments to and from a host (RFC 2385), or none again",
        "2.6.20", takes=partial(opt_struct, size=MD5SIG.size),
        set=partial(tcp_parse_md5_keys, False)),
    SockOpt("TCP_MD5SIG_EXT", "the same for a prefix, and in a VRF", "4.13",
        takes=partial(opt_struct, size=MD5SIG.size), set=partial(tcp_parse_md5_keys, True)),
    flag("TCP_NODELAY", TCP_NAGLE_OFF, "no Nagle delay of small segments", "nonagle",
        set=__tcp_sock_set_nodelay),
    number("TCP_NOTSENT_LOWAT", "notsent_lowat", None,
        "unsent bytes below which the socket is writable", since="3.12",
        takes=opt_u32, then=sk_write_space),
    SockOpt("TCP_QUICKACK", "ACK at once, or delayed as in a dialogue",
        set=__tcp_sock_set_quickack, get=lambda sk: not inet_csk_in_pingpong_mode(sk)),
    number("TCP_RTO_MAX_MS", "icsk_rto_max", range(1000, 120_001),
        "longest retransmission timeout, ms", since="6.15", unit=NSEC_PER_MSEC),
    number("TCP_RTO_MIN_US", "icsk_rto_min", range(SHORTEST_US + 1, 200_001),
        "shortest retransmission timeout, us", since="6.15", unit=1000),
    SockOpt("TCP_SAVED_SYN", "the headers of the SYN, once", "4.2", get=tcp_get_saved_syn),
    number("TCP_SAVE_SYN", "save_syn", range(3), "a listener keeps them for its children",
        since="4.2"),
    number("TCP_SYNCNT", "icsk_syn_retries", range(1, MAX_TCP_SYNCNT + 1), "SYN retransmissions",
        get=lambda sk: sk.icsk_syn_retries or sk.net.sysctl.tcp_syn_retries),
    switch("TCP_THIN_LINEAR_TIMEOUTS", "thin_lto", "no backoff while few packets are out",
        since="2.6.34", legal=ON_OFF),
    SockOpt("TCP_TIMESTAMP", "the current timestamp", "3.9",
        get=tcp_get_timestamp, no_set=errno.EPERM),  # only allowed under repair
    number("TCP_USER_TIMEOUT", "icsk_user_timeout", range(1 << 31),
        "ms that sent data may stay unacknowledged", since="2.6.37", unit=NSEC_PER_MSEC),
    number("TCP_WINDOW_CLAMP", "window_clamp", None, "largest window that is offered",
        set=tcp_set_window_clamp_opt),
)])
# fmt: on


def do_tcp_setsockopt(sk: tcp_sock, level: int, optname: int, optval: Any) -> None:
    """net/ipv4/tcp.c: SOL_TCP. Raises: OSError EINVAL, ENOENT, ENOPROTOOPT, EPERM."""
    opt, val = option_value(TCP_LEVEL, optname, optval)
    lock_sock(sk)
    try:
        apply_option(opt, sk, val)
    finally:
        release_sock(sk)


def tcp_setsockopt(sk: tcp_sock, level: int, optname: int, optval: Any) -> None:
    """proto.setsockopt: SOL_TCP here, everything else is the family's. Raises: OSError."""
    if level != SOL_TCP:
        sk.icsk_af_ops.setsockopt(sk, level, optname, optval)
        return
    do_tcp_setsockopt(sk, level, optname, optval)


def do_tcp_getsockopt(sk: tcp_sock, level: int, optname: int) -> Any:
    """net/ipv4/tcp.c: an int, or bytes for struct values. Raises: OSError ENOPROTOOPT."""
    return get_option(TCP_LEVEL, sk, optname)


def tcp_getsockopt(sk: tcp_sock, level: int, optname: int, optlen: int) -> Any:
    """proto.getsockopt."""
    if level != SOL_TCP:
        return sk.icsk_af_ops.getsockopt(sk, level, optname, optlen)
    return do_tcp_getsockopt(sk, level, optname)
