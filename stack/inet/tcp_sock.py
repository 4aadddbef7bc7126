"""include/linux/tcp.h and include/net/tcp.h: `tcp_sock`, constants, the small inline helpers.

Units: everything called `*_us` is microseconds (srtt_us is shifted left by 3 as in the kernel).
`icsk_rto`, `rcv_*_time`, `lsndtime`, `tcp_mstamp` and other times are ns of the host's clock unless
the name says otherwise. Sequence numbers are host ints below 2**32.
"""

from __future__ import annotations

from typing import Final

from fastpath.base.skbuff import sk_buff
from fastpath.net.retransmit_queue import rtx_queue
from stack.core.iov import msghdr
from stack.core.rows import FRESH, i32, row, state, u8, u16, u32
from stack.core.time64 import NSEC_PER_MSEC, NSEC_PER_SEC
from stack.core.timer import timer_list
from stack.inet.inet_connection_sock import fastopen_queue, inet_connection_sock, request_sock
from stack.inet.sack_ranges import sack_ranges
from stack.inet.tcp_const import TCP_MSS_DEFAULT
from stack.inet.tcp_md5 import tcp_md5sig_key
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
TCPHDR_AE = 0x100
TCPHDR_ACE = TCPHDR_ECE | TCPHDR_CWR | TCPHDR_AE

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

# --- result flags of an ACK (tcp_input.c)
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
FLAG_TS_PROGRESS = 0x40000
FLAG_ACKED = FLAG_DATA_ACKED | FLAG_SYN_ACKED
FLAG_NOT_DUP = FLAG_DATA | FLAG_WIN_UPDATE | FLAG_ACKED
FLAG_CA_ALERT = FLAG_DATA_SACKED | FLAG_ECE | FLAG_DSACKING_ACK
FLAG_FORWARD_PROGRESS = FLAG_ACKED | FLAG_DATA_SACKED

# --- congestion events
CA_EVENT_TX_START = 0
CA_EVENT_CWND_RESTART = 1
CA_EVENT_COMPLETE_CWR = 2
CA_EVENT_LOSS = 3

# --- ecn_flags: the negotiated mode (both: our SYN requests Accurate ECN), and its state
TCP_ECN_DISABLED = 0
TCP_ECN_MODE_RFC3168 = 1
TCP_ECN_QUEUE_CWR = 2
TCP_ECN_DEMAND_CWR = 4
TCP_ECN_SEEN = 8
TCP_ECN_MODE_ACCECN = 16
TCP_ECN_MODE_PENDING = TCP_ECN_MODE_RFC3168 | TCP_ECN_MODE_ACCECN
TCP_ECN_MODE_ANY = TCP_ECN_MODE_PENDING
TCP_ACCECN_CEP_ACE_MASK = 7
TCP_ACCECN_CEP_INIT_OFFSET = 5

# --- limits and times
MAX_TCP_HEADER = 256  # headroom of a transmit skb: link, IP with options, TCP with options
TCP_MIN_MSS = 88
MAX_TCP_WINDOW = 32767
MAX_TCP_WSCALE = 14
TCP_INIT_CWND = 10
TCP_NUM_SACKS = 4
TCP_SACK_BLOCKS_EXPECTED = 2
TCP_FASTRETRANS_THRESH = 3
TCP_INFINITE_SSTHRESH = 0x7FFFFFFF
TCP_MAX_QUICKACKS = 16
TCP_URG_VALID = 0x0100
TCP_URG_NOTYET = 0x0200
TCP_URG_READ = 0x0400

TCP_PAWS_MSL_S = 60
TCP_PAWS_WRAP_S = 0x7FFFFFFF // 1_000_000  # a clock of microseconds wraps
TCP_RMEM_TO_WIN_SCALE = 8
TCP_DEFAULT_SCALING_RATIO = 128

# --- what limits a sender (TCP_CHRONO_*)
TCP_CHRONO_UNSPEC = 0
TCP_CHRONO_BUSY = 1
TCP_CHRONO_RWND_LIMITED = 2
TCP_CHRONO_SNDBUF_LIMITED = 3

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
TCP_MD5SIG = 14
TCP_THIN_LINEAR_TIMEOUTS = 16
TCP_USER_TIMEOUT = 18
TCP_FASTOPEN = 23
TCP_TIMESTAMP = 24
TCP_NOTSENT_LOWAT = 25
TCP_CC_INFO = 26
TCP_SAVE_SYN = 27
TCP_SAVED_SYN = 28
TCP_FASTOPEN_CONNECT = 30
TCP_MD5SIG_EXT = 32
TCP_FASTOPEN_KEY = 33
TCP_FASTOPEN_NO_COOKIE = 34
TCP_INQ = 36
TCP_CM_INQ = TCP_INQ
TCP_IS_MPTCP = 43
TCP_RTO_MAX_MS = 44
TCP_RTO_MIN_US = 45
TCP_DELACK_MAX_US = 46

# --- tcp_sock.rx_opt sack_ok bits
TCP_SACK_SEEN = 1
TCP_DSACK_SEEN = 4

# --- tsq_flags: work for tcp_release_cb; data waits for tcp_wfree, tcp_tsq_workfn scheduled
TCPF_WRITE_TIMER_DEFERRED = 1
TCPF_DELACK_TIMER_DEFERRED = 2
TCPF_MTU_REDUCED_DEFERRED = 4
TCPF_ACK_DEFERRED = 8
TCPF_TSQ_DEFERRED = 16
TCP_DEFERRED_ALL = 31
TSQF_THROTTLED = 32
TSQF_QUEUED = 64


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
    """The peer's options (linux/tcp.h `struct tcp_options_received`)."""

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
    accecn: u8 = row(0)
    """Offset of the last segment's AccECN option from the header; 0: none."""


@state
class tcp_fastopen_cookie:
    """include/linux/tcp.h: a cookie of TCP Fast Open (RFC 7413)."""

    val: bytes | None = row(None)
    """4 to 16 bytes; b"": the client requests one; None: no option."""
    exp: bool = row(False)
    """In the experimental option (254, magic number 0xF989)."""


@state
class tcp_fastopen_request:
    """struct tcp_fastopen_request: what the SYN will carry."""

    cookie: tcp_fastopen_cookie = row(make=tcp_fastopen_cookie)
    """Filled in when the SYN is sent."""
    data: msghdr | None = row(None)
    """The call whose data the SYN carries, until all is taken."""
    size: int = row(0)
    """Bytes of that call."""
    copied: int = row(0)
    """Bytes that the SYN took."""


NO_SKBS: Final[list[sk_buff]] = []
NO_BLOCKS: Final[list[tuple[int, int]]] = []
NO_RANGES: Final = sack_ranges()
"""Shared by connections without reordering at either end. They are never changed."""


@state
class tcp_sock(inet_connection_sock):
    """linux/tcp.h `struct tcp_sock`: the state of one connection."""

    # set by the application
    nonagle: u8 = row(0)
    """TCP_NODELAY and TCP_CORK: bits TCP_NAGLE_*."""
    notsent_lowat: int = row(0)
    """TCP_NOTSENT_LOWAT: bytes of unsent data that still allow more; 0: the sysctl."""
    keepalive_time: int = row(0)
    """TCP_KEEPIDLE, ns; 0: the sysctl."""
    keepalive_intvl: int = row(0)
    """TCP_KEEPINTVL, ns; 0: the sysctl."""
    keepalive_probes: u8 = row(0)
    """TCP_KEEPCNT; 0: the sysctl."""
    linger2: int = row(0)
    """TCP_LINGER2: how long an orphan waits in FIN_WAIT2, ns; 0: the sysctl, negative: no wait."""
    defer_accept: i32 = row(0, clone=FRESH)
    """TCP_DEFER_ACCEPT: SYN-ACK timeouts that a bare ACK may wait for data."""
    save_syn: u8 = row(0)
    """TCP_SAVE_SYN: 1: network headers on, 2: with the MAC header."""
    recvmsg_inq: bool = row(False)
    """TCP_INQ: recvmsg() reports the remaining bytes."""
    thin_lto: bool = row(False)
    """TCP_THIN_LINEAR_TIMEOUTS: retransmit few packets without backoff."""
    user_window_clamp: i32 = row(0)
    """TCP_WINDOW_CLAMP, bytes; 0: none."""

    fastopen_connect: bool = row(False)
    """TCP_FASTOPEN_CONNECT: the first write sends the SYN, if there is a cookie."""
    fastopen_no_cookie: bool = row(False)
    """TCP_FASTOPEN_NO_COOKIE: Fast Open without cookies."""
    fastopenq: fastopen_queue | None = row(None, clone=FRESH)
    """TCP_FASTOPEN and TCP_FASTOPEN_KEY of a listener; None: never set."""
    md5sig_info: list[tcp_md5sig_key] | None = row(None, clone=FRESH)
    """TCP_MD5SIG: the keys, the last one first; None: never set."""

    # TCP Fast Open (RFC 7413)
    fastopen_req: tcp_fastopen_request | None = row(None, clone=FRESH)
    """What our SYN will carry, while it is built."""
    fastopen_rsk: request_sock | None = row(None, clone=FRESH)
    """The request of a child with an unfinished handshake."""
    defer_connect: bool = row(False, clone=FRESH)
    """connect() sent nothing yet: the first write sends the SYN."""
    syn_fastopen: bool = row(False, clone=FRESH)
    """Our SYN had the option."""
    syn_fastopen_exp: bool = row(False, clone=FRESH)
    """It was the experimental option."""
    syn_fastopen_ch: bool = row(False, clone=FRESH)
    """Fast Open is being tested on this path."""
    syn_fastopen_child: bool = row(False, clone=FRESH)
    """It was created by a SYN with a cookie or data."""
    syn_data: bool = row(False, clone=FRESH)
    """Our SYN had data."""
    syn_data_acked: bool = row(False, clone=FRESH)
    """The data of the SYN was acknowledged, by the peer or by us."""
    fastopen_client_fail: u8 = row(0, clone=FRESH)
    """Why the SYN's data was not accepted (TFO_* of tcp_fastopen.py); 0: no reason."""

    # negotiated in the handshake
    rx_opt: tcp_options_received = row(make=tcp_options_received, clone=FRESH)
    """The peer's options."""
    mss_cache: i32 = row(TCP_MSS_DEFAULT, ss="mss")
    """Current payload bytes per segment: path MTU without headers and options."""
    advmss: i32 = row(0, ss="advmss")
    """The MSS that we advertised, bytes."""
    tcp_header_len: u16 = row(20, clone=FRESH)
    """Bytes of the header of a segment without SACK blocks."""
    tsoffset: u32 = row(0, clone=FRESH)
    """The connection's offset of timestamps to the clock, ms."""
    ecn_flags: u8 = row(0)
    """Bits TCP_ECN_*."""
    syn_ect_rcv: u8 = row(0, clone=FRESH)
    """The codepoint of the peer's SYN or SYN-ACK, to reflect (AccECN)."""
    prev_ecnfield: u8 = row(0, clone=FRESH)
    """The codepoint of the last segment received."""
    received_ce_pending: u8 = row(0, clone=FRESH)
    """Segments marked CE not reported by an ACK yet, at most 15."""
    accecn_minlen: u8 = row(0, clone=FRESH)
    """Fields that the next AccECN option must have."""
    accecn_opt_demand: u8 = row(0, clone=FRESH)
    """Number of next ACKs that must have the option."""
    est_ecnfield: u8 = row(0, clone=FRESH)
    """The codepoint that the peer counted last; 0: not known."""
    accecn_fail_mode: u8 = row(0, clone=FRESH)
    """Bits TCP_ACCECN_*_FAIL_*: what the path or the peer breaks."""
    saw_accecn_opt: u8 = row(0, clone=FRESH)
    """TCP_ACCECN_OPT_*: which options the peer sent."""
    accecn_opt_sent_w_dsack: bool = row(False, clone=FRESH)
    """The last segment had the option, and a D-SACK block."""
    pkts_acked_ewma: u32 = row(0, clone=FRESH)
    """Packets that an ACK delivers on average, times 64."""
    accecn_opt_tstamp: int = row(0, clone=FRESH)
    """When we last sent the option, ns."""
    saved_syn: bytes | None = row(None, clone=FRESH)
    """The SYN's headers, until TCP_SAVED_SYN reads them."""
    synack_req: request_sock | None = row(None, clone=FRESH)
    """The request that it was created from, until the round trip of its SYN-ACK is measured."""

    # sending: sequence numbers, window
    snd_una: u32 = row(0, clone=FRESH)
    """The oldest sequence number not acknowledged."""
    snd_nxt: u32 = row(0, clone=FRESH)
    """The next to send."""
    snd_sml: u32 = row(0, clone=FRESH)
    """The end of the last small segment sent (Minshall's rule for Nagle)."""
    snd_up: u32 = row(0, clone=FRESH)
    """The urgent pointer: the byte behind urgent data."""
    snd_wl1: u32 = row(0, clone=FRESH)
    """The sequence number of the segment that last set snd_wnd."""
    snd_wnd: u32 = row(0, clone=FRESH, ss="snd_wnd")
    """The window that the peer offers, bytes."""
    max_window: u32 = row(0, clone=FRESH)
    """The largest window it ever offered, bytes."""
    write_seq: u32 = row(0, clone=FRESH)
    """The sequence number after the application's last byte."""
    pushed_seq: u32 = row(0, clone=FRESH)
    """The same for the last byte that must be pushed."""
    tcp_rtx_queue: rtx_queue = row(make=rtx_queue, clone=FRESH)
    """What was sent and is not acknowledged, in order."""
    mtup_enabled: bool = row(False, clone=FRESH)
    """Larger packets are probed (RFC 4821), of mtup_search_low … mtup_search_high bytes."""
    mtup_search_high: int = row(0, clone=FRESH)
    """Bytes of the largest packet that the path may carry."""
    mtup_search_low: int = row(0, clone=FRESH)
    """Bytes of the largest packet known to pass."""
    mtup_probe_size: int = row(0, clone=FRESH)
    """Bytes of the probe in flight; 0: none."""
    mtup_probe_timestamp: int = row(0, clone=FRESH)
    """When the last search began, ns."""
    mtu_probe_seq_start: u32 = row(0, clone=FRESH)
    """The first byte of the probe."""
    mtu_probe_seq_end: u32 = row(0, clone=FRESH)
    """The byte after its last."""
    mtu_info: u32 = row(0, clone=FRESH)
    """The MTU of an ICMP error deferred until the owner's release, bytes."""
    tsq_flags: u8 = row(0, clone=FRESH)
    """Bits TCPF_*_DEFERRED: what tcp_release_cb does; TSQF_*: what tcp_wfree does."""
    lsndtime: int = row(0, clone=FRESH, ss="lastsnd")
    """When data was last sent, ns."""
    tcp_mstamp: int = row(0, clone=FRESH)
    """The clock of the event being processed, ns."""
    tcp_wstamp_ns: int = row(0, clone=FRESH)
    """When the last segment was sent, ns; strictly increasing."""
    neigh_confirmed: int = row(0, clone=FRESH)
    """When it last confirmed its next hop, ns."""
    pacing_next_ns: int = row(0, clone=FRESH)
    """When pacing lets the next segment leave, ns."""
    pacing_timer: timer_list | None = row(None, clone=FRESH)
    """Created when pacing first delays the socket."""

    # receiving
    rcv_nxt: u32 = row(0, clone=FRESH)
    """The sequence number expected next."""
    rcv_wup: u32 = row(0, clone=FRESH)
    """rcv_nxt when the window was last advertised."""
    copied_seq: u32 = row(0, clone=FRESH)
    """The first byte that the application has not read."""
    rcv_wnd: u32 = row(0, clone=FRESH, ss="rcv_wnd")
    """The window last advertised, bytes from rcv_wup on."""
    rcv_mwnd_seq: u32 = row(0, clone=FRESH)
    """The furthest window end ever advertised: a peer may send up to it after a shrink."""
    rcv_ssthresh: u32 = row(0, clone=FRESH, ss="rcv_ssthresh")
    """The current maximum window to advertise, bytes."""
    window_clamp: u32 = row(0)
    """The maximum window to ever advertise, bytes."""
    scaling_ratio: u8 = row(TCP_DEFAULT_SCALING_RATIO)
    """Payload per truesize of received packets, in 256ths."""
    pred_flags: u32 = row(0, clone=FRESH)
    """The header's fourth word that the fast path expects; 0: slow path."""
    out_of_order_queue: list[sk_buff] = row(NO_SKBS, shared=True, clone=FRESH)
    """Segments beyond rcv_nxt, by sequence number."""
    selective_acks: list[tuple[int, int]] = row(NO_BLOCKS, shared=True, clone=FRESH)
    """SACK blocks to send, (first, after the last), newest first."""
    duplicate_sack: tuple[int, int] = row((0, 0), clone=FRESH)
    """The D-SACK block to send."""
    dup_acks_due: i32 = row(0, clone=FRESH)
    """ACKs still due for out-of-order segments."""
    compressed_ack: u8 = row(0, clone=FRESH)
    """Out-of-order segments whose ACKs are held back."""
    dup_ack_counter: u8 = row(0, clone=FRESH)
    """Duplicate ACKs sent at once for compressed_ack_rcv_nxt, at most TCP_FASTRETRANS_THRESH."""
    compressed_ack_rcv_nxt: u32 = row(0, clone=FRESH)
    """rcv_nxt when they were last counted."""
    compressed_ack_timer: timer_list | None = row(None, clone=FRESH)
    """Created when an ACK is first held back."""
    urg_data: u16 = row(0, clone=FRESH)
    """The urgent byte and bits TCP_URG_*."""
    urg_seq: u32 = row(0, clone=FRESH)
    """Its sequence number."""
    rcv_tstamp: int = row(0, clone=FRESH)
    """When a segment with an ACK was last received, ns."""
    rcv_rtt_est_rtt_us: int = row(0, clone=FRESH)
    """The receiver's round-trip time, us times 8."""
    rcv_rtt_est_seq: u32 = row(0, clone=FRESH)
    """Sequence number at which its current sample ends."""
    rcv_rtt_est_time: int = row(0, clone=FRESH)
    """When that sample began, ns."""
    rcv_rtt_last_tsecr: u32 = row(0, clone=FRESH)
    """The echoed timestamp of its last sample."""
    rcvq_space_space: i32 = row(0, clone=FRESH, ss="rcv_space")
    """Bytes that the application reads per round trip."""
    rcvq_space_seq: u32 = row(0, clone=FRESH)
    """copied_seq when its current measurement began."""
    rcvq_space_time: int = row(0, clone=FRESH)
    """When it began, ns."""
    last_oow_ack_time: int = row(0, clone=FRESH)
    """When an ACK for a segment outside the window was last sent, ns."""

    # round trips
    srtt_us: int = row(0, clone=FRESH)
    """Smoothed round-trip time, us times 8."""
    mdev_us: int = row(1_000_000, clone=FRESH)
    """Its mean deviation, us times 4."""
    mdev_max_us: int = row(0, clone=FRESH)
    """The largest mdev_us of this round trip."""
    rttvar_us: int = row(0, clone=FRESH)
    """The variance term of the retransmission timeout, us times 4."""
    rtt_seq: u32 = row(0, clone=FRESH)
    """Where the current round trip ends: rttvar_us may shrink then."""
    min_rtt_us: int = row(M32, clone=FRESH)
    """The smallest round-trip time of the last minutes, us."""
    min_rtt_stamp: int = row(0, clone=FRESH)
    """When it was measured, ns."""

    # packets in flight, and their fate
    packets_out: i32 = row(0, clone=FRESH, ss="unacked")
    """Segments sent and not acknowledged."""
    max_packets_out: i32 = row(0, clone=FRESH)
    """The most of them in this window."""
    retrans_out: i32 = row(0, clone=FRESH)
    """Those retransmitted that may be in flight."""
    sacked_out: i32 = row(0, clone=FRESH, ss="sacked")
    """Those that arrived according to SACK or duplicate ACKs."""
    sacked_bytes: int = row(0, clone=FRESH)
    """Their bytes, with SACK."""
    lost_out: i32 = row(0, clone=FRESH, ss="lost")
    """Those considered lost."""
    high_seq: u32 = row(0, clone=FRESH)
    """snd_nxt when recovery began: an ACK of it ends recovery."""
    highest_sack_end: int = row(0, clone=FRESH)
    """The highest sequence number that a SACK block reached."""
    sacked_ranges: sack_ranges = row(NO_RANGES, shared=True, clone=FRESH)
    """Ranges that the peer has beyond snd_una."""
    reordering: i32 = row(0, ss="reordering")
    """Reordering degree in segments that does not count as loss."""
    reord_seen: int = row(0, clone=FRESH, ss="reord_seen")
    """How often reordering was seen."""
    retrans_stamp: int = row(0, clone=FRESH)
    """Timestamp clock of the first retransmission of this recovery, ns; 0: none."""
    undo_marker: u32 = row(0, clone=FRESH)
    """snd_una when recovery began, for undoing it; 0: cannot be undone."""
    undo_retrans: i32 = row(-1, clone=FRESH)
    """Retransmissions that no D-SACK has shown to be unneeded."""
    frto: bool = row(False, clone=FRESH)
    """F-RTO (RFC 5682) tests whether a timeout was spurious."""
    rto_stamp: int = row(0, clone=FRESH)
    """When the first of the current timeouts was, ns."""
    tlp_high_seq: u32 = row(0, clone=FRESH)
    """snd_nxt when a tail loss probe was sent; 0: none is in flight."""
    tlp_retrans: i32 = row(0, clone=FRESH)
    """The probe was a retransmission."""
    rack_mstamp: int = row(0, clone=FRESH)
    """When RACK's most recently delivered segment was sent, ns."""
    rack_rtt_us: int = row(0, clone=FRESH)
    """That segment's round-trip time, us."""
    rack_end_seq: u32 = row(0, clone=FRESH)
    """Its end."""
    rack_last_delivered: int = row(0, clone=FRESH)
    """`delivered` when rack_reo_wnd_steps last grew."""
    rack_reo_wnd_steps: i32 = row(1, clone=FRESH)
    """RACK's reordering window in quarters of min_rtt_us."""
    rack_reo_wnd_persist: i32 = row(0, clone=FRESH)
    """Recoveries for which that width is kept."""
    rack_advanced: bool = row(False, clone=FRESH)
    """rack_mstamp advanced since the last check."""
    rack_dsack_seen: bool = row(False, clone=FRESH)
    """A D-SACK arrived since the window last grew."""

    # congestion window
    snd_cwnd: u32 = row(TCP_INIT_CWND, clone=FRESH, ss="cwnd")
    """The congestion window, segments."""
    snd_ssthresh: u32 = row(TCP_INFINITE_SSTHRESH, clone=FRESH, ss="ssthresh")
    """Where slow start ends, segments."""
    snd_cwnd_clamp: u32 = row(M32)
    """The maximum congestion window, segments."""
    snd_cwnd_cnt: i32 = row(0, clone=FRESH)
    """Acknowledged segments towards the next step of the window."""
    snd_cwnd_used: i32 = row(0, clone=FRESH)
    """The most segments in flight while app-limited."""
    snd_cwnd_stamp: int = row(0, clone=FRESH)
    """When the window was last used in full, ns."""
    cwnd_usage_seq: u32 = row(0, clone=FRESH)
    """Where the current check of the window's use ends."""
    is_cwnd_limited: bool = row(False, clone=FRESH)
    """The window, not the application, limited the flow in this round trip."""
    prior_cwnd: u32 = row(0, clone=FRESH)
    """snd_cwnd before recovery, to restore."""
    prior_ssthresh: u32 = row(0, clone=FRESH)
    """snd_ssthresh before recovery."""
    prr_delivered: i32 = row(0, clone=FRESH)
    """Segments delivered in this recovery (RFC 6937)."""
    prr_out: i32 = row(0, clone=FRESH)
    """Segments sent in this recovery."""
    app_limited: int = row(M32, clone=FRESH)
    """`delivered` at which the app-limited phase ends; 0: not limited."""
    delivered_mstamp: int = row(0, clone=FRESH)
    """When `delivered` last grew, ns."""
    first_tx_mstamp: int = row(0, clone=FRESH)
    """When the first segment of the rate sample was sent, ns."""

    # delivery rate: the sample of the ACK being processed (the kernel's rate_sample), and the last
    rs_prior_mstamp: int = row(0, clone=FRESH)
    """delivered_mstamp when the newest acknowledged packet was sent, ns; 0: no sample."""
    rs_prior_delivered: u32 = row(0, clone=FRESH)
    """`delivered` at that time."""
    rs_interval_ns: int = row(0, clone=FRESH)
    """How long sending the sample's packets took, ns."""
    rs_last_end_seq: u32 = row(0, clone=FRESH)
    """The end of that packet."""
    rs_is_app_limited: bool = row(False, clone=FRESH)
    """That packet was sent while app-limited."""
    rate_delivered: int = row(0, clone=FRESH)
    """Segments of the last valid sample."""
    rate_interval_us: int = row(0, clone=FRESH)
    """Its time, us."""
    rate_app_limited: bool = row(True, clone=FRESH)
    """It was app-limited."""

    # what limits sending (TCP_CHRONO_*)
    chrono_type: u8 = row(0, clone=FRESH)
    """What limits it now."""
    chrono_start: int = row(0, clone=FRESH)
    """Since when, ns."""
    chrono_busy: int = row(0, clone=FRESH)
    """Time with data to send that neither window nor buffer limited, ns."""
    chrono_rwnd: int = row(0, clone=FRESH)
    """Time that the peer's window limited, ns."""
    chrono_sndbuf: int = row(0, clone=FRESH)
    """Time that the send buffer limited, ns."""

    # counters
    bytes_sent: int = row(0, clone=FRESH, ss="bytes_sent")
    """Bytes of payload sent, with retransmissions."""
    bytes_retrans: int = row(0, clone=FRESH, ss="bytes_retrans")
    """Bytes of payload retransmitted."""
    bytes_acked: int = row(0, clone=FRESH, ss="bytes_acked")
    """Bytes that the peer acknowledged."""
    bytes_received: int = row(0, clone=FRESH, ss="bytes_received")
    """Bytes that we acknowledged."""
    segs_out: int = row(0, clone=FRESH, ss="segs_out")
    """Segments sent."""
    segs_in: int = row(0, clone=FRESH, ss="segs_in")
    """Segments received."""
    data_segs_out: int = row(0, clone=FRESH, ss="data_segs_out")
    """Segments with data sent."""
    data_segs_in: int = row(0, clone=FRESH, ss="data_segs_in")
    """Segments with data received."""
    delivered: int = row(0, clone=FRESH, ss="delivered")
    """Segments delivered, with duplicates."""
    lost: int = row(0, clone=FRESH)
    """Segments ever marked lost."""
    total_retrans: int = row(0, clone=FRESH)
    """Segments retransmitted."""
    total_rto: int = row(0, clone=FRESH)
    """Retransmission timeouts."""
    total_rto_recoveries: int = row(0, clone=FRESH)
    """How often a timeout was the first of a recovery."""
    total_rto_time: int = row(0, clone=FRESH)
    """How long such recoveries took, ns."""
    rto_recovery_start: int = row(0, clone=FRESH)
    """When the current one began, ns; 0: none."""
    delivered_ce: int = row(0, clone=FRESH, ss="delivered_ce")
    """Segments that ACKs with ECE, or the ACE field, reported as marked CE."""
    delivered_e1_bytes: u32 = row(0, clone=FRESH)
    """Bytes that the peer reports received as ECT(1)."""
    delivered_e0_bytes: u32 = row(0, clone=FRESH)
    """As ECT(0)."""
    delivered_ce_bytes: u32 = row(0, clone=FRESH)
    """Marked CE."""
    received_ce: int = row(0, clone=FRESH)
    """Segments received with CE."""
    received_e1_bytes: u32 = row(0, clone=FRESH)
    """Bytes received as ECT(1)."""
    received_e0_bytes: u32 = row(0, clone=FRESH)
    """As ECT(0)."""
    received_ce_bytes: u32 = row(0, clone=FRESH)
    """Marked CE."""
    dsack_dups: int = row(0, clone=FRESH, ss="dsack_dups")
    """Segments that the peer reports as duplicates."""
    rcv_ooopack: int = row(0, clone=FRESH, ss="rcv_ooopack")
    """Segments received out of order."""


# --- inline helpers -----------------------------------------------------------------------


def tcp_mstamp_refresh(tp: tcp_sock) -> None:
    """net/ipv4/tcp_output.c: read the host's clock once per event."""
    tp.tcp_mstamp = tp.net.clock.now_ns()


def tcp_stamp_us_delta(t1: int, t0: int) -> int:
    """include/net/tcp.h: us from t0 to t1 (ns both), rounded, never negative."""
    delta = t1 - t0 + 500
    return delta // 1000 if delta > 0 else 0


def tcp_time_stamp_ts(tp: tcp_sock) -> int:
    """The current TSval: ms of the cached clock plus the connection's offset (RFC 7323 5.4)."""
    return (tp.tcp_mstamp // NSEC_PER_MSEC + tp.tsoffset) & M32


def tcp_packets_in_flight(tp: tcp_sock) -> int:
    """RFC 6675 "pipe", in segments."""
    return tp.packets_out - (tp.sacked_out + tp.lost_out) + tp.retrans_out


def tcp_stream_is_thin(tp: tcp_sock) -> bool:
    """include/net/tcp.h: few packets in flight, and not because the connection just began."""
    return tp.packets_out < 4 and tp.snd_ssthresh < TCP_INFINITE_SSTHRESH


def tcp_wnd_end(tp: tcp_sock) -> int:
    """First sequence number the peer does not allow."""
    return (tp.snd_una + tp.snd_wnd) & M32


def tcp_chrono_set(sk: tcp_sock, new: int) -> None:
    """net/ipv4/tcp_output.c: start counting `new` as the limit of sending."""
    now: int = sk.net.clock.now_ns()
    old = sk.chrono_type
    spent = now - sk.chrono_start
    if old == TCP_CHRONO_BUSY:
        sk.chrono_busy += spent
    elif old == TCP_CHRONO_RWND_LIMITED:
        sk.chrono_rwnd += spent
    elif old == TCP_CHRONO_SNDBUF_LIMITED:
        sk.chrono_sndbuf += spent
    sk.chrono_start = now
    sk.chrono_type = new


def tcp_chrono_start(sk: tcp_sock, kind: int) -> None:
    """net/ipv4/tcp_output.c: `kind` limits sending, unless something with precedence does."""
    if kind > sk.chrono_type:
        tcp_chrono_set(sk, kind)


def tcp_chrono_stop(sk: tcp_sock, kind: int) -> None:
    """net/ipv4/tcp_output.c: `kind` limits sending no longer."""
    if not sk.tcp_rtx_queue.qlen and not sk.sk_write_queue.qlen:
        tcp_chrono_set(sk, TCP_CHRONO_UNSPEC)
    elif kind == sk.chrono_type:
        tcp_chrono_set(sk, TCP_CHRONO_BUSY)


def tcp_receive_window(tp: tcp_sock) -> int:
    """The free part of the window last offered, bytes."""
    win = (tp.rcv_wup + tp.rcv_wnd - tp.rcv_nxt) & M32
    return 0 if win >= HALF else win


def tcp_max_receive_window(tp: tcp_sock) -> int:
    """The free part of the furthest window ever offered, bytes."""
    win = (tp.rcv_mwnd_seq - tp.rcv_nxt) & M32
    return 0 if win >= HALF else win


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


def tcp_adjust_rcv_ssthresh(sk: tcp_sock) -> None:
    """Memory is short: offer no more than four segments."""
    sk.rcv_ssthresh = min(sk.rcv_ssthresh, 4 * sk.advmss)


def tcp_fast_path_on(tp: tcp_sock) -> None:
    """Set the word that header prediction compares: length, ACK, ACE, the peer's raw window."""
    ace = 0
    if tp.ecn_flags & TCP_ECN_MODE_ACCECN:
        ace = tp.delivered_ce + TCP_ACCECN_CEP_INIT_OFFSET & TCP_ACCECN_CEP_ACE_MASK
    tp.pred_flags = (
        (tp.tcp_header_len << 26)
        | ace << 22
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
    return tp.keepalive_intvl or tp.net.sysctl.tcp_keepalive_intvl * NSEC_PER_SEC


def keepalive_time_when(tp: tcp_sock) -> int:
    return tp.keepalive_time or tp.net.sysctl.tcp_keepalive_time * NSEC_PER_SEC


def keepalive_probes(tp: tcp_sock) -> int:
    return tp.keepalive_probes or tp.net.sysctl.tcp_keepalive_probes


def keepalive_time_elapsed(tp: tcp_sock) -> int:
    """ns since the last segment arrived."""
    now: int = tp.net.clock.now_ns()
    return min(now - tp.icsk_ack_lrcvtime, now - tp.rcv_tstamp)


def tcp_fin_time(sk: tcp_sock) -> int:
    """How long an orphan waits in FIN_WAIT2, ns."""
    fin_timeout = sk.linger2 or sk.net.sysctl.tcp_fin_timeout * NSEC_PER_SEC
    rto = sk.icsk_rto
    return max(fin_timeout, (rto << 2) - (rto >> 1))


def tcp_in_cwnd_reduction(sk: tcp_sock) -> bool:
    """CWR or Recovery: proportional rate reduction sets the window."""
    return sk.icsk_ca_state in (TCP_CA_CWR, TCP_CA_Recovery)


def tcp_paws_check(rx_opt: tcp_options_received, paws_win: int, now_s: int) -> bool:
    """True when the timestamp is acceptable (RFC 7323 5.3)."""
    if s32(rx_opt.ts_recent - rx_opt.rcv_tsval) <= paws_win:
        return True
    if now_s >= rx_opt.ts_recent_stamp + TCP_PAWS_WRAP_S:
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
    return now // NSEC_PER_SEC + 1
