"""include/linux/tcp.h and include/net/tcp.h: `tcp_sock`, constants, the small inline helpers.

Units: everything called `*_us` is microseconds (srtt_us is shifted left by 3 as in the kernel),
`icsk_rto`, `rcv_*_time`, `lsndtime`, `tcp_mstamp` and other times are ns of the host's clock unless
the name says otherwise. Sequence numbers are host ints below 2**32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastpath.rtxqueue import rtx_queue
from fastpath.skbuff import sk_buff
from stack.core.rows import FRESH, i32, row, state, u8, u16, u32
from stack.inet.inet_connection_sock import inet_connection_sock
from stack.inet.sack_ranges import sack_ranges
from stack.inet.tcp_const import MSEC, SEC, TCP_MSS_DEFAULT

if TYPE_CHECKING:
    from stack.core.timer import timer_list
    from stack.inet.inet_connection_sock import request_sock
    from stack.net import Net

M32 = 0xFFFFFFFF
HALF = 0x80000000


# --- header flags (net/tcp.h TCPHDR_*)
TCPHDR_FIN = 0x01
TCPHDR_SYN = 0x02
TCPHDR_RST = 0x04
TCPHDR_PSH = 0x08
TCPHDR_ACK = 0x10
TCPHDR_URG = 0x20
TCPHDR_ECE = 0x40
TCPHDR_CWR = 0x80

# --- skb.sacked (TCP_SKB_CB)
TCPCB_SACKED_ACKED = 0x01
TCPCB_SACKED_RETRANS = 0x02
TCPCB_LOST = 0x04
TCPCB_TAGBITS = 0x07
TCPCB_REPAIRED = 0x10
TCPCB_EVER_RETRANS = 0x80
TCPCB_RETRANS = TCPCB_SACKED_RETRANS | TCPCB_EVER_RETRANS | TCPCB_REPAIRED

# --- congestion avoidance states
TCP_CA_Open = 0
TCP_CA_Disorder = 1
TCP_CA_CWR = 2
TCP_CA_Recovery = 3
TCP_CA_Loss = 4

# --- what an ACK brought (tcp_input.c)
FLAG_DATA = 0x01
FLAG_WIN_UPDATE = 0x02
FLAG_DATA_ACKED = 0x04
FLAG_RETRANS_DATA_ACKED = 0x08
FLAG_SYN_ACKED = 0x10
FLAG_DATA_SACKED = 0x20
FLAG_ECE = 0x40
FLAG_LOST_RETRANS = 0x80
FLAG_SLOWPATH = 0x100
FLAG_ORIG_SACK_ACKED = 0x200
FLAG_SND_UNA_ADVANCED = 0x400
FLAG_DSACKING_ACK = 0x800
FLAG_SET_XMIT_TIMER = 0x1000
FLAG_SACK_RENEGING = 0x2000
FLAG_UPDATE_TS_RECENT = 0x4000
FLAG_NO_CHALLENGE_ACK = 0x8000
FLAG_ACK_MAYBE_DELAYED = 0x10000
FLAG_DSACK_TLP = 0x20000
FLAG_ACKED = FLAG_DATA_ACKED | FLAG_SYN_ACKED
FLAG_NOT_DUP = FLAG_DATA | FLAG_WIN_UPDATE | FLAG_ACKED
FLAG_CA_ALERT = FLAG_DATA_SACKED | FLAG_ECE | FLAG_DSACKING_ACK
FLAG_FORWARD_PROGRESS = FLAG_ACKED | FLAG_DATA_SACKED

# --- congestion events
CA_EVENT_TX_START = 0
CA_EVENT_CWND_RESTART = 1
CA_EVENT_COMPLETE_CWR = 2
CA_EVENT_LOSS = 3

# --- options
TCPOPT_NOP = 1
TCPOPT_EOL = 0
TCPOPT_MSS = 2
TCPOPT_WINDOW = 3
TCPOPT_SACK_PERM = 4
TCPOPT_SACK = 5
TCPOPT_TIMESTAMP = 8
TCPOLEN_MSS = 4
TCPOLEN_WINDOW = 3
TCPOLEN_SACK_PERM = 2
TCPOLEN_TIMESTAMP = 10
TCPOLEN_TSTAMP_ALIGNED = 12
TCPOLEN_SACK_PERBLOCK = 8
TCP_NUM_SACKS = 4

# --- limits and times
MAX_TCP_HEADER = 256  # headroom of a transmit skb: link, IP with options, TCP with options
MAX_TCP_OPTION_SPACE = 40
TCP_MIN_MSS = 88
MAX_TCP_WINDOW = 32767
MAX_TCP_WSCALE = 14
TCP_INIT_CWND = 10
TCP_INFINITE_SSTHRESH = 0x7FFFFFFF
TCP_MAX_QUICKACKS = 16
TCP_URG_VALID = 0x0100
TCP_URG_NOTYET = 0x0200
TCP_URG_READ = 0x0400

TCP_PAWS_WINDOW = 1
TCP_PAWS_MSL_S = 60
TCP_PAWS_24DAYS_S = 60 * 60 * 24 * 24
MAX_TCP_KEEPIDLE = 32767
MAX_TCP_KEEPINTVL = 32767
MAX_TCP_KEEPCNT = 127
MAX_TCP_SYNCNT = 127
TCP_RMEM_TO_WIN_SCALE = 8
TCP_DEFAULT_SCALING_RATIO = 128

# --- nonagle bits
TCP_NAGLE_OFF = 1
TCP_NAGLE_CORK = 2
TCP_NAGLE_PUSH = 4

# --- socket options (uapi/linux/tcp.h)
TCP_NODELAY = 1
TCP_MAXSEG = 2
TCP_CORK = 3
TCP_KEEPIDLE = 4
TCP_KEEPINTVL = 5
TCP_KEEPCNT = 6
TCP_SYNCNT = 7
TCP_LINGER2 = 8
TCP_DEFER_ACCEPT = 9
TCP_WINDOW_CLAMP = 10
TCP_INFO = 11
TCP_QUICKACK = 12
TCP_CONGESTION = 13
TCP_THIN_LINEAR_TIMEOUTS = 16
TCP_USER_TIMEOUT = 18
TCP_TIMESTAMP = 24
TCP_NOTSENT_LOWAT = 25
TCP_SAVE_SYN = 27
TCP_SAVED_SYN = 28
TCP_INQ = 36
TCP_CM_INQ = TCP_INQ
TCP_RTO_MAX_MS = 44
TCP_RTO_MIN_US = 45
TCP_DELACK_MAX_US = 46

# --- tcp_sock.rx_opt sack_ok bits
TCP_SACK_SEEN = 1
TCP_DSACK_SEEN = 4

# --- tsq_flags: what waits for tcp_release_cb
TCPF_WRITE_TIMER_DEFERRED = 1
TCPF_DELACK_TIMER_DEFERRED = 2
TCPF_MTU_REDUCED_DEFERRED = 4
TCPF_ACK_DEFERRED = 8
TCPF_TSQ_DEFERRED = 16
TCP_DEFERRED_ALL = 31

TCPI_OPT_TIMESTAMPS = 1
TCPI_OPT_SACK = 2
TCPI_OPT_WSCALE = 4
TCPI_OPT_ECN = 8
TCPI_OPT_ECN_SEEN = 16


def before(seq1: int, seq2: int) -> bool:
    """True when seq1 comes before seq2 (RFC 9293 3.4, modulo 2**32)."""
    return ((seq1 - seq2) & M32) >= HALF


def after(seq1: int, seq2: int) -> bool:
    """True when seq1 comes after seq2."""
    return ((seq2 - seq1) & M32) >= HALF


def between(seq1: int, seq2: int, seq3: int) -> bool:
    """True when seq2 <= seq1 <= seq3."""
    return ((seq3 - seq2) & M32) >= ((seq1 - seq2) & M32)


def s32(value: int) -> int:
    """The 32-bit value as a signed int: the distance of two sequence numbers."""
    value &= M32
    return value - 0x100000000 if value >= HALF else value


@state
class tcp_options_received:
    """What the peer's options said (linux/tcp.h `struct tcp_options_received`)."""

    ts_recent_stamp: int = row(0)
    """Seconds of the host's clock; 0 = no timestamp stored."""
    ts_recent: u32 = row(0)
    rcv_tsval: u32 = row(0)
    rcv_tsecr: u32 = row(0)
    saw_tstamp: bool = row(False)
    tstamp_ok: bool = row(False)
    dsack: bool = row(False)
    wscale_ok: bool = row(False)
    sack_ok: u8 = row(0)
    snd_wscale: u8 = row(0)
    rcv_wscale: u8 = row(0)
    num_sacks: u8 = row(0)
    user_mss: u16 = row(0)
    mss_clamp: u16 = row(0)


NO_SKBS: Final[list[sk_buff]] = []
NO_BLOCKS: Final[list[tuple[int, int]]] = []
NO_RANGES: Final = sack_ranges()
"""Shared by connections without reordering at either end. They are never changed."""


@state
class tcp_sock(inet_connection_sock):
    """linux/tcp.h `struct tcp_sock`: the state of one connection."""

    # what the application set
    nonagle: u8 = row(0)
    notsent_lowat: int = row(0)
    keepalive_time: int = row(0)
    keepalive_intvl: int = row(0)
    keepalive_probes: u8 = row(0)
    linger2: int = row(0)
    defer_accept: i32 = row(0)
    save_syn: u8 = row(0)
    recvmsg_inq: bool = row(False)
    thin_lto: bool = row(False)
    user_window_clamp: i32 = row(0)

    # what was agreed in the handshake
    rx_opt: tcp_options_received = row(make=tcp_options_received, clone=FRESH)
    mss_cache: i32 = row(TCP_MSS_DEFAULT, ss="mss")
    advmss: i32 = row(TCP_MSS_DEFAULT, ss="advmss")
    tcp_header_len: u16 = row(20)
    tsoffset: u32 = row(0)
    ecn_flags: u8 = row(0)
    saved_syn: bytes | None = row(None, clone=FRESH)
    synack_req: request_sock | None = row(None, clone=FRESH)

    # sending: sequence numbers, window
    snd_una: u32 = row(0, clone=FRESH)
    snd_nxt: u32 = row(0, clone=FRESH)
    snd_sml: u32 = row(0, clone=FRESH)
    snd_up: u32 = row(0, clone=FRESH)
    snd_wl1: u32 = row(0, clone=FRESH)
    snd_wnd: u32 = row(0, clone=FRESH, ss="snd_wnd")
    max_window: u32 = row(0, clone=FRESH)
    write_seq: u32 = row(0, clone=FRESH)
    pushed_seq: u32 = row(0, clone=FRESH)
    tcp_rtx_queue: rtx_queue = row(make=rtx_queue, clone=FRESH)
    msg_more: bool = row(False, clone=FRESH)
    mtu_info: u32 = row(0, clone=FRESH)
    tsq_flags: u8 = row(0, clone=FRESH)
    lsndtime: int = row(0, clone=FRESH, ss="lastsnd")
    tcp_mstamp: int = row(0, clone=FRESH)
    tcp_wstamp_ns: int = row(0, clone=FRESH)
    pacing_next_ns: int = row(0, clone=FRESH)
    pacing_timer: timer_list | None = row(None, clone=FRESH)
    """Made when pacing first makes the socket wait."""

    # receiving
    rcv_nxt: u32 = row(0, clone=FRESH)
    rcv_wup: u32 = row(0, clone=FRESH)
    copied_seq: u32 = row(0, clone=FRESH)
    rcv_wnd: u32 = row(0, clone=FRESH, ss="rcv_wnd")
    rcv_ssthresh: u32 = row(0, clone=FRESH, ss="rcv_ssthresh")
    window_clamp: u32 = row(0)
    scaling_ratio: u8 = row(TCP_DEFAULT_SCALING_RATIO)
    pred_flags: u32 = row(0, clone=FRESH)
    out_of_order_queue: list[sk_buff] = row(NO_SKBS, shared=True, clone=FRESH)
    selective_acks: list[tuple[int, int]] = row(NO_BLOCKS, shared=True, clone=FRESH)
    duplicate_sack: tuple[int, int] = row((0, 0), clone=FRESH)
    dup_acks_due: i32 = row(0, clone=FRESH)
    urg_data: u16 = row(0, clone=FRESH)
    urg_seq: u32 = row(0, clone=FRESH)
    rcv_tstamp: int = row(0, clone=FRESH)
    rcv_rtt_est_rtt_us: int = row(0, clone=FRESH)
    rcv_rtt_est_seq: u32 = row(0, clone=FRESH)
    rcv_rtt_est_time: int = row(0, clone=FRESH)
    rcv_rtt_last_tsecr: u32 = row(0, clone=FRESH)
    rcvq_space_space: i32 = row(1, clone=FRESH, ss="rcv_space")
    rcvq_space_seq: u32 = row(0, clone=FRESH)
    rcvq_space_time: int = row(0, clone=FRESH)
    last_oow_ack_time: int = row(0, clone=FRESH)

    # round trips
    srtt_us: int = row(0, clone=FRESH)
    mdev_us: int = row(1_000_000, clone=FRESH)
    mdev_max_us: int = row(0, clone=FRESH)
    rttvar_us: int = row(0, clone=FRESH)
    rtt_seq: u32 = row(0, clone=FRESH)
    min_rtt_us: int = row(M32, clone=FRESH)
    min_rtt_stamp: int = row(0, clone=FRESH)

    # what is out, and what became of it
    packets_out: i32 = row(0, clone=FRESH, ss="unacked")
    max_packets_out: i32 = row(0, clone=FRESH)
    retrans_out: i32 = row(0, clone=FRESH)
    sacked_out: i32 = row(0, clone=FRESH, ss="sacked")
    lost_out: i32 = row(0, clone=FRESH, ss="lost")
    high_seq: u32 = row(0, clone=FRESH)
    highest_sack_end: int = row(0, clone=FRESH)
    sacked_ranges: sack_ranges = row(NO_RANGES, shared=True, clone=FRESH)
    reordering: i32 = row(0, ss="reordering")
    reord_seen: int = row(0, clone=FRESH, ss="reord_seen")
    retrans_stamp: int = row(0, clone=FRESH)
    undo_marker: u32 = row(0, clone=FRESH)
    undo_retrans: i32 = row(-1, clone=FRESH)
    frto: bool = row(False, clone=FRESH)
    rto_stamp: int = row(0, clone=FRESH)
    tlp_high_seq: u32 = row(0, clone=FRESH)
    tlp_retrans: i32 = row(0, clone=FRESH)
    rack_mstamp: int = row(0, clone=FRESH)
    rack_rtt_us: int = row(0, clone=FRESH)
    rack_end_seq: u32 = row(0, clone=FRESH)
    rack_last_delivered: int = row(0, clone=FRESH)
    rack_reo_wnd_steps: i32 = row(1, clone=FRESH)
    rack_reo_wnd_persist: i32 = row(0, clone=FRESH)
    rack_advanced: bool = row(False, clone=FRESH)
    rack_dsack_seen: bool = row(False, clone=FRESH)

    # congestion window
    snd_cwnd: u32 = row(TCP_INIT_CWND, clone=FRESH, ss="cwnd")
    snd_ssthresh: u32 = row(TCP_INFINITE_SSTHRESH, clone=FRESH, ss="ssthresh")
    snd_cwnd_clamp: u32 = row(M32)
    snd_cwnd_cnt: i32 = row(0, clone=FRESH)
    snd_cwnd_used: i32 = row(0, clone=FRESH)
    snd_cwnd_stamp: int = row(0, clone=FRESH)
    cwnd_usage_seq: u32 = row(0, clone=FRESH)
    is_cwnd_limited: bool = row(False, clone=FRESH)
    prior_cwnd: u32 = row(0, clone=FRESH)
    prior_ssthresh: u32 = row(0, clone=FRESH)
    prr_delivered: i32 = row(0, clone=FRESH)
    prr_out: i32 = row(0, clone=FRESH)
    app_limited: int = row(0, clone=FRESH)
    delivered_mstamp: int = row(0, clone=FRESH)
    first_tx_mstamp: int = row(0, clone=FRESH)

    # counters
    bytes_sent: int = row(0, clone=FRESH, ss="bytes_sent")
    bytes_retrans: int = row(0, clone=FRESH, ss="bytes_retrans")
    bytes_acked: int = row(0, clone=FRESH, ss="bytes_acked")
    bytes_received: int = row(0, clone=FRESH, ss="bytes_received")
    segs_out: int = row(0, clone=FRESH, ss="segs_out")
    segs_in: int = row(0, clone=FRESH, ss="segs_in")
    data_segs_out: int = row(0, clone=FRESH, ss="data_segs_out")
    data_segs_in: int = row(0, clone=FRESH, ss="data_segs_in")
    delivered: int = row(0, clone=FRESH, ss="delivered")
    lost: int = row(0, clone=FRESH)
    total_retrans: int = row(0, clone=FRESH)
    total_rto: int = row(0, clone=FRESH)
    dsack_dups: int = row(0, clone=FRESH, ss="dsack_dups")
    rcv_ooopack: int = row(0, clone=FRESH, ss="rcv_ooopack")


# --- inline helpers -----------------------------------------------------------------------


def tcp_mstamp_refresh(tp: tcp_sock) -> None:
    """net/ipv4/tcp_output.c: read the host's clock once per event."""
    tp.tcp_mstamp = tp.net.clock.now_ns()


def tcp_stamp_us_delta(t1: int, t0: int) -> int:
    """include/net/tcp.h: us from t0 to t1 (ns both), rounded, never negative."""
    delta = t1 - t0 + 500
    return delta // 1000 if delta > 0 else 0


def tcp_time_stamp_ts(tp: tcp_sock) -> int:
    """TSval of now: ms of the cached clock plus the connection's offset (RFC 7323 5.4)."""
    return (tp.tcp_mstamp // MSEC + tp.tsoffset) & M32


def tcp_packets_in_flight(tp: tcp_sock) -> int:
    """RFC 6675 "pipe", in segments."""
    return tp.packets_out - (tp.sacked_out + tp.lost_out) + tp.retrans_out


def tcp_stream_is_thin(tp: tcp_sock) -> bool:
    """include/net/tcp.h: few packets out, and not because the connection just began."""
    return tp.packets_out < 4 and tp.snd_ssthresh < TCP_INFINITE_SSTHRESH


def tcp_wnd_end(tp: tcp_sock) -> int:
    """First sequence number the peer does not allow."""
    return (tp.snd_una + tp.snd_wnd) & M32


def tcp_receive_window(tp: tcp_sock) -> int:
    """How much of the window last offered is still free, bytes."""
    win = (tp.rcv_wup + tp.rcv_wnd - tp.rcv_nxt) & M32
    return 0 if win >= HALF else win


def tcp_rtx_and_write_queues_empty(sk: tcp_sock) -> bool:
    return sk.tcp_rtx_queue.qlen == 0 and sk.write_seq == sk.snd_nxt


def tcp_win_from_space(sk: tcp_sock, space: int) -> int:
    """Bytes of payload that `space` bytes of buffers can be expected to hold."""
    return space * (sk.scaling_ratio & 0xFF) >> TCP_RMEM_TO_WIN_SCALE


def tcp_space_from_win(sk: tcp_sock, win: int) -> int:
    """Inverse of tcp_win_from_space."""
    return (win << TCP_RMEM_TO_WIN_SCALE) // sk.scaling_ratio


def tcp_space(sk: tcp_sock) -> int:
    """Free receive space as payload bytes; may be negative."""
    return tcp_win_from_space(sk, sk.sk_rcvbuf - sk.sk_backlog_len - sk.sk_rmem_alloc)


def tcp_full_space(sk: tcp_sock) -> int:
    return tcp_win_from_space(sk, sk.sk_rcvbuf)


def tcp_fast_path_on(tp: tcp_sock) -> None:
    """Set the word that header prediction compares: length, ACK, and the peer's raw window."""
    tp.pred_flags = (
        (tp.tcp_header_len << 26)
        | (TCPHDR_ACK << 16)
        | ((tp.snd_wnd >> (tp.rx_opt.snd_wscale & 15)) & 0xFFFF)
    )


def tcp_fast_path_check(sk: tcp_sock) -> None:
    """Turn header prediction on when nothing is out of order, urgent or over the buffer."""
    if (
        not sk.out_of_order_queue
        and sk.rcv_wnd
        and sk.sk_rmem_alloc < sk.sk_rcvbuf
        and not sk.urg_data
    ):
        tcp_fast_path_on(sk)


def keepalive_intvl_when(tp: tcp_sock) -> int:
    return tp.keepalive_intvl or tp.net.sysctl.tcp_keepalive_intvl * SEC


def keepalive_time_when(tp: tcp_sock) -> int:
    return tp.keepalive_time or tp.net.sysctl.tcp_keepalive_time * SEC


def keepalive_probes(tp: tcp_sock) -> int:
    return tp.keepalive_probes or tp.net.sysctl.tcp_keepalive_probes


def keepalive_time_elapsed(tp: tcp_sock) -> int:
    """ns since the last segment came in."""
    now: int = tp.net.clock.now_ns()
    return min(now - tp.icsk_ack_lrcvtime, now - tp.rcv_tstamp)


def tcp_fin_time(sk: tcp_sock) -> int:
    """How long an orphan waits in FIN_WAIT2, ns."""
    fin_timeout = sk.linger2 or sk.net.sysctl.tcp_fin_timeout * SEC
    rto = sk.icsk_rto
    return max(fin_timeout, (rto << 2) - (rto >> 1))


def tcp_in_cwnd_reduction(sk: tcp_sock) -> bool:
    """CWR or Recovery: proportional rate reduction sets the window."""
    return sk.icsk_ca_state in (TCP_CA_CWR, TCP_CA_Recovery)


def tcp_paws_check(rx_opt: tcp_options_received, paws_win: int, now_s: int) -> bool:
    """True when the timestamp is acceptable (RFC 7323 5.3)."""
    if s32(rx_opt.ts_recent - rx_opt.rcv_tsval) <= paws_win:
        return True
    if now_s >= rx_opt.ts_recent_stamp + TCP_PAWS_24DAYS_S:
        return True
    # Some peers send TSval 0 in their SYN.
    return rx_opt.ts_recent == 0


def tcp_paws_reject(rx_opt: tcp_options_received, rst: bool, now_s: int) -> bool:
    """True when PAWS rejects the segment as an old duplicate; it spares a RST after one MSL."""
    if tcp_paws_check(rx_opt, 0, now_s):
        return False
    return not (rst and now_s >= rx_opt.ts_recent_stamp + TCP_PAWS_MSL_S)


def jiffies_s(net: Net) -> int:
    """The host's clock in whole seconds (ktime_get_seconds), never 0 so that 0 can mean unset."""
    now: int = net.clock.now_ns()
    return now // SEC + 1
