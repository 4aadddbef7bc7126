"""net/ipv4/tcp.c: the socket's side of TCP: send, receive, poll, shutdown, close, disconnect.

Errors leave as OSError; the socket is locked by each call as in the kernel. Timeouts are ns.
"""

from __future__ import annotations

import errno
from functools import partial
from types import SimpleNamespace
from typing import Any

from fastpath.skbuff import sk_buff_head
from stack.core.sk_mem import proto_mem
from stack.core.sock import (
    SOCK_DEAD,
    SOCK_NOSPACE,
    SOCK_URGINLINE,
    SOCK_USE_WRITE_QUEUE,
    lock_sock,
    os_error,
    release_sock,
    sock_rcvlowat,
)
from stack.core.stream import sk_stream_is_writeable, sk_stream_write_space
from stack.core.tcp_states import TCP_CLOSE, TCP_LISTEN, TCP_SYN_RECV, TCP_SYN_SENT
from stack.core.uapi import (
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
    POLLPRI,
    POLLRDHUP,
    POLLRDNORM,
    POLLWRNORM,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    SIOCATMARK,
    SIOCINQ,
    SIOCOUTQ,
)
from stack.inet.inet_connection_sock import inet_csk_delack_init
from stack.inet.inet_hashtables import inet_hashinfo
from stack.inet.inet_timewait_sock import inet_timewait_death_row
from stack.inet.tcp_cong import (
    tcp_assign_congestion_control,
    tcp_register_congestion_control,
    tcp_reno,
    tcp_set_default_congestion_control,
)
from stack.inet.tcp_data import tcp_data_ready, tcp_epollin_ready
from stack.inet.tcp_rcvbuf import tcp_set_window_clamp
from stack.inet.tcp_recvmsg import tcp_inq
from stack.inet.tcp_sock import (
    M32,
    MSEC,
    TCP_ATO_MIN,
    TCP_DEFAULT_SCALING_RATIO,
    TCP_DELACK_MAX,
    TCP_INFINITE_SSTHRESH,
    TCP_INIT_CWND,
    TCP_MSS_DEFAULT,
    TCP_RTO_MAX,
    TCP_RTO_MIN,
    TCP_TIMEOUT_INIT,
    TCP_URG_VALID,
    TCP_CA_Open,
    tcp_options_received,
    tcp_sock,
    tcp_space_from_win,
    tcp_win_from_space,
)
from stack.inet.tcp_timer import tcp_init_xmit_timers
from stack.inet.tcp_window import tcp_sync_mss

# --- memory -------------------------------------------------------------------------------


def tcp_enter_memory_pressure(sk: tcp_sock) -> None:
    """All sockets together are above tcp_mem[1]: buffers stop growing, windows shrink."""
    mem = sk.sk_mem
    if not mem.memory_pressure:
        mem.memory_pressure = sk.net.now() or 1
        sk.net.mib.linux.TCPMemoryPressures += 1


def tcp_leave_memory_pressure(sk: tcp_sock) -> None:
    """Below tcp_mem[0] again; the ms that it took are counted."""
    mem = sk.sk_mem
    if mem.memory_pressure:
        sk.net.mib.linux.TCPMemoryPressuresChrono += (sk.net.now() - mem.memory_pressure) // MSEC
        mem.memory_pressure = 0


# --- birth --------------------------------------------------------------------------------


def tcp_init_sock(sk: tcp_sock) -> None:
    """A socket in CLOSE with everything at its start value (also what accept()ed ones inherit)."""
    net = sk.net
    sysctl = net.sysctl
    sk.out_of_order_queue = []
    sk.tcp_rtx_queue = sk_buff_head()
    sk.rx_opt = tcp_options_received()
    sk.ecn_flags = 0
    sk.thin_lto = False
    sk.user_window_clamp = 0
    sk.pacing_next_ns = 0
    sk.selective_acks = []
    sk.duplicate_sack = (0, 0)
    sk.recv_sack_cache = ()
    sk.tsq_flags = 0
    tcp_init_xmit_timers(sk)
    sk.icsk_rto = TCP_TIMEOUT_INIT
    sk.icsk_rto_min = TCP_RTO_MIN
    sk.icsk_rto_max = TCP_RTO_MAX
    sk.icsk_delack_max = TCP_DELACK_MAX
    sk.icsk_retransmits = sk.icsk_backoff = sk.icsk_probes_out = sk.icsk_probes_tstamp = 0
    sk.icsk_syn_retries = 0
    sk.icsk_user_timeout = 0
    sk.icsk_ext_hdr_len = 0
    sk.icsk_pmtu_cookie = 0
    sk.icsk_sync_mss = tcp_sync_mss
    sk.icsk_ca_setsockopt = False
    sk.icsk_ca_state = TCP_CA_Open
    inet_csk_delack_init(sk)
    for name in [
        "app_limited",
        "bytes_acked",
        "bytes_received",
        "bytes_retrans",
        "bytes_sent",
        "copied_seq",
        "cwnd_usage_seq",
        "data_segs_in",
        "data_segs_out",
        "defer_accept",
        "delivered",
        "delivered_mstamp",
        "dsack_dups",
        "dup_acks_due",
        "first_tx_mstamp",
        "high_seq",
        "highest_sack_end",
        "keepalive_intvl",
        "keepalive_probes",
        "keepalive_time",
        "last_oow_ack_time",
        "linger2",
        "lost",
        "lost_out",
        "lsndtime",
        "max_packets_out",
        "max_window",
        "mdev_max_us",
        "min_rtt_stamp",
        "mtu_info",
        "nonagle",
        "packets_out",
        "pred_flags",
        "prior_cwnd",
        "prior_ssthresh",
        "prr_delivered",
        "prr_out",
        "pushed_seq",
        "rack_end_seq",
        "rack_last_delivered",
        "rack_mstamp",
        "rack_reo_wnd_persist",
        "rack_rtt_us",
        "rcv_nxt",
        "rcv_ooopack",
        "rcv_rtt_est_rtt_us",
        "rcv_rtt_est_seq",
        "rcv_rtt_est_time",
        "rcv_rtt_last_tsecr",
        "rcv_ssthresh",
        "rcv_tstamp",
        "rcv_wnd",
        "rcv_wup",
        "rcvq_space_seq",
        "rcvq_space_time",
        "reord_seen",
        "retrans_out",
        "retrans_stamp",
        "rttvar_us",
        "rto_stamp",
        "rtt_seq",
        "sacked_out",
        "save_syn",
        "segs_in",
        "segs_out",
        "snd_cwnd_cnt",
        "snd_cwnd_stamp",
        "snd_cwnd_used",
        "snd_nxt",
        "snd_sml",
        "snd_una",
        "snd_up",
        "snd_wl1",
        "snd_wnd",
        "srtt_us",
        "tcp_mstamp",
        "tcp_wstamp_ns",
        "tlp_high_seq",
        "tlp_retrans",
        "total_retrans",
        "total_rto",
        "tsoffset",
        "undo_marker",
        "undo_retrans",
        "urg_data",
        "urg_seq",
        "window_clamp",
        "write_seq",
        "advmss",
    ]:
        setattr(sk, name, 0)
    sk.is_cwnd_limited = sk.msg_more = sk.frto = sk.recvmsg_inq = False
    sk.rack_advanced = sk.rack_dsack_seen = False
    sk.rack_reo_wnd_steps = 1
    sk.saved_syn = None
    sk.synack_req = None
    sk.mdev_us = 1_000_000
    sk.min_rtt_us = M32
    sk.icsk_ack_ato = TCP_ATO_MIN
    sk.icsk_ack_rcv_mss = TCP_MSS_DEFAULT
    sk.rcvq_space_space = 1
    sk.snd_cwnd = TCP_INIT_CWND
    sk.snd_ssthresh = TCP_INFINITE_SSTHRESH
    sk.snd_cwnd_clamp = M32
    sk.mss_cache = TCP_MSS_DEFAULT
    sk.advmss = TCP_MSS_DEFAULT
    sk.tcp_header_len = 20
    sk.max_gso_segs = 0
    sk.notsent_lowat = 0
    sk.reordering = sysctl.tcp_reordering
    sk.scaling_ratio = TCP_DEFAULT_SCALING_RATIO
    sk.undo_retrans = -1
    tcp_assign_congestion_control(sk)
    sk.write_space = sk_stream_write_space
    sk.sk_flags |= SOCK_USE_WRITE_QUEUE
    sk.sk_sndbuf = sysctl.tcp_wmem[1]
    sk.sk_rcvbuf = sysctl.tcp_rmem[1]


# --- ioctl, poll ---------------------------------------------------------------------------


def tcp_ioctl(sk: tcp_sock, cmd: int, arg: Any = None) -> int:
    """proto.ioctl: SIOCINQ, SIOCATMARK, SIOCOUTQ, SIOCOUTQNSD. Raises: OSError."""
    if cmd == SIOCINQ:
        if sk.sk_state == TCP_LISTEN:
            raise os_error(errno.EINVAL)
        lock_sock(sk)
        try:
            return tcp_inq(sk)
        finally:
            release_sock(sk)
    if cmd == SIOCATMARK:
        return int(bool(sk.urg_data) and sk.urg_seq == sk.copied_seq)
    if cmd in (SIOCOUTQ, 0x894B):  # SIOCOUTQNSD
        if sk.sk_state == TCP_LISTEN:
            raise os_error(errno.EINVAL)
        if sk.sk_state in (TCP_SYN_SENT, TCP_SYN_RECV):
            return 0
        start = sk.snd_una if cmd == SIOCOUTQ else sk.snd_nxt
        return (sk.write_seq - start) & M32
    raise os_error(errno.ENOTTY)


def tcp_poll(file: Any, sock: Any, wait: Any = None) -> int:
    """proto_ops.poll: POLL* of a TCP socket. `wait`: callback to add to its queue."""
    sk: tcp_sock = sock.sk
    if wait is not None:
        sk.sk_wq.add(wait)
    state = sk.sk_state
    if state == TCP_LISTEN:
        return POLLIN | POLLRDNORM if sk.icsk_accept_queue.rskq_accept_head else 0
    mask = 0
    shutdown = sk.sk_shutdown
    if shutdown == SHUTDOWN_MASK or state == TCP_CLOSE:
        mask |= POLLHUP
    if shutdown & RCV_SHUTDOWN:
        mask |= POLLIN | POLLRDNORM | POLLRDHUP
    if state not in (TCP_SYN_SENT, TCP_SYN_RECV):
        target = sock_rcvlowat(sk, 0, 1 << 31)
        if sk.urg_data and sk.urg_seq == sk.copied_seq and not sk.sk_flags & SOCK_URGINLINE:
            target += 1
        if tcp_epollin_ready(sk, target):
            mask |= POLLIN | POLLRDNORM
        if not shutdown & SEND_SHUTDOWN:
            if sk_stream_is_writeable(sk):
                mask |= POLLOUT | POLLWRNORM
            else:
                sk.sk_flags |= SOCK_NOSPACE
        else:
            mask |= POLLOUT | POLLWRNORM
        if sk.urg_data & TCP_URG_VALID:
            mask |= POLLPRI
    if sk.sk_err or sk.sk_error_queue.qlen:
        mask |= POLLERR
    return mask


def tcp_set_rcvlowat(sk: tcp_sock, val: int) -> int:
    """proto_ops.set_rcvlowat: the buffer must be able to hold what the reader wants at once."""
    cap = sk.net.sysctl.tcp_rmem[2] >> 1
    val = min(val, cap)
    sk.sk_rcvlowat = val or 1
    if not sk.sk_flags & SOCK_DEAD and sk.sk_state not in (TCP_CLOSE, TCP_LISTEN):
        tcp_data_ready(sk)
    space = tcp_space_from_win(sk, val)
    if space > sk.sk_rcvbuf:
        sk.sk_rcvbuf = space
        tcp_set_window_clamp(sk, tcp_win_from_space(sk, space))
    return 0


def tcp_init_mem(net: Any) -> None:
    """net/ipv4/tcp.c: how much memory all sockets together may take: parts of the host's RAM.

    `tcp_mem` is in pages of 4 KiB as in Linux. A driver's receive buffers are a quarter of the RAM:
    sockets that nobody reads must not hold them all, or the host goes deaf.
    """
    mem = net.prot_mem["TCP"] = proto_mem()

    def written(pages: tuple[int, int, int]) -> None:
        mem.sysctl_mem = [n << 12 for n in pages]

    net.sysctl.on_write("tcp_mem", written)


def tcp_init(net: Any) -> None:
    """net/ipv4/tcp.c: TCP's tables and sysctls of one host."""
    tcp_init_mem(net)
    net.tcp_hashinfo = inet_hashinfo()
    net.tcp_death_row = inet_timewait_death_row(net.tcp_hashinfo)
    net.sysctl.on_write("tcp_max_tw_buckets", net.tcp_death_row.set_max_tw_buckets)
    net.tcp_secret = net.random.randbytes(16)
    net.tcp_challenge = (0, 0)
    net.tcp_tw_isn = 0
    net.tcp_cong_list = {}
    tcp_register_congestion_control(net, tcp_reno)
    net.sysctl.on_write("tcp_congestion_control", partial(tcp_set_default_congestion_control, net))
    net.tcp_ctl_sk = SimpleNamespace(net=net)
