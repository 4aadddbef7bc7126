"""net/ipv4/tcp.c: the socket's side of TCP: send, receive, poll, shutdown, close, disconnect.

Errors leave as OSError; the socket is locked by each call as in the kernel. Timeouts are ns.
"""

from __future__ import annotations

import errno
from functools import partial
from typing import Any

from fastpath.skbuff import kfree_skb, sk_buff, sk_buff_head, skb_header_release
from stack.core.iov import skb_copy_datagram_iter
from stack.core.sk_mem import (
    proto_mem,
    sk_forced_mem_schedule,
    sk_stream_moderate_sndbuf,
    sk_wmem_schedule,
)
from stack.core.sock import (
    SOCK_DEAD,
    SOCK_DONE,
    SOCK_NOSPACE,
    SOCK_URGINLINE,
    SOCK_USE_WRITE_QUEUE,
    lock_sock,
    os_error,
    release_sock,
    sk_flush_backlog,
    sk_wait_data,
    sk_wait_event,
    sock_rcvlowat,
    sock_rcvtimeo,
    sock_sndtimeo,
)
from stack.core.sockopt import int_bytes, put_cmsg
from stack.core.stream import (
    sk_stream_error,
    sk_stream_is_writeable,
    sk_stream_memory_free,
    sk_stream_wait_connect,
    sk_stream_wait_memory,
    sk_stream_write_space,
)
from stack.core.uapi import (
    MSG_DONTWAIT,
    MSG_EOR,
    MSG_MORE,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    MSG_WAITALL,
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
    SOL_TCP,
)
from stack.inet.inet_connection_sock import (
    ICSK_ACK_PUSHED,
    ICSK_ACK_PUSHED2,
    inet_csk_accept,
    inet_csk_ack_scheduled,
    inet_csk_delack_init,
    inet_csk_get_port,
    inet_csk_in_pingpong_mode,
)
from stack.inet.inet_hashtables import inet_hash, inet_hashinfo, inet_put_port, inet_unhash
from stack.inet.inet_timewait_sock import inet_timewait_death_row
from stack.inet.protocol import net_protocol, proto
from stack.inet.tcp_close import tcp_abort, tcp_close, tcp_disconnect, tcp_shutdown
from stack.inet.tcp_cong import (
    tcp_assign_congestion_control,
    tcp_register_congestion_control,
    tcp_reno,
    tcp_set_default_congestion_control,
)
from stack.inet.tcp_ctl import tcp_send_ack
from stack.inet.tcp_data import tcp_epollin_ready
from stack.inet.tcp_output import (
    __tcp_push_pending_frames,
    tcp_push_one,
    tcp_stream_alloc_skb,
    tcp_wmem_free_skb,
)
from stack.inet.tcp_rcvbuf import tcp_rcv_space_adjust
from stack.inet.tcp_sock import (
    M32,
    MAX_TCP_HEADER,
    MSEC,
    TCP_ATO_MIN,
    TCP_DEFAULT_SCALING_RATIO,
    TCP_DELACK_MAX,
    TCP_INFINITE_SSTHRESH,
    TCP_INIT_CWND,
    TCP_MSS_DEFAULT,
    TCP_NAGLE_CORK,
    TCP_NAGLE_PUSH,
    TCP_RTO_MAX,
    TCP_RTO_MIN,
    TCP_TIMEOUT_INIT,
    TCP_URG_READ,
    TCP_URG_VALID,
    TCPHDR_ACK,
    TCPHDR_FIN,
    TCPHDR_PSH,
    TCPHDR_SYN,
    TCP_CA_Open,
    after,
    before,
    tcp_fast_path_check,
    tcp_options_received,
    tcp_receive_window,
    tcp_sock,
)
from stack.inet.tcp_sockopt import tcp_getsockopt, tcp_setsockopt
from stack.inet.tcp_states import (
    TCP_CLOSE,
    TCP_LISTEN,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    TCPF_CLOSE_WAIT,
    TCPF_ESTABLISHED,
)
from stack.inet.tcp_timer import tcp_init_xmit_timers, tcp_release_cb, tcp_set_keepalive
from stack.inet.tcp_window import (
    __tcp_select_window,
    tcp_bound_to_half_wnd,
    tcp_current_mss,
    tcp_sync_mss,
)
from stack.ipv4.tcp_ipv4 import (
    tcp_v4_connect,
    tcp_v4_destroy_sock,
    tcp_v4_do_rcv,
    tcp_v4_err,
    tcp_v4_init_sock,
    tcp_v4_rcv,
)

TCP_SMALL_QUEUE_BACKLOG = 16  # buffers filled before a long sendmsg lets the backlog in


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


# --- sending ------------------------------------------------------------------------------


def tcp_xmit_size_goal(sk: tcp_sock, mss_now: int, large_allowed: bool) -> int:
    """Bytes to gather in one sk_buff: whole segments up to what the device cuts up.

    More than the 64 KiB of the kernel's devices only as far as the send buffer reaches: one sk_buff
    is filled to its end whatever the buffer's limit.
    """
    if not large_allowed:
        return mss_now
    most = min(sk.sk_gso_max_size, max(sk.sk_sndbuf, 65536)) - 1 - MAX_TCP_HEADER
    new_size_goal = tcp_bound_to_half_wnd(sk, most)
    gso_segs = max(min(new_size_goal // mss_now, sk.sk_gso_max_segs), 1)
    return gso_segs * mss_now


def tcp_send_mss(sk: tcp_sock, flags: int) -> tuple[int, int]:
    """(MSS, size goal)."""
    mss_now = tcp_current_mss(sk)
    return mss_now, tcp_xmit_size_goal(sk, mss_now, not flags & MSG_OOB)


def tcp_mark_push(sk: tcp_sock, skb: sk_buff) -> None:
    skb.tcp_flags |= TCPHDR_PSH
    sk.pushed_seq = sk.write_seq


def forced_push(sk: tcp_sock) -> bool:
    """Half of the peer's window was queued since the last PSH."""
    return after(sk.write_seq, (sk.pushed_seq + (sk.max_window >> 1)) & M32)


def tcp_skb_entail(sk: tcp_sock, skb: sk_buff) -> None:
    """An empty sk_buff at the end of the write queue."""
    skb.seq = skb.end_seq = sk.write_seq
    skb.tcp_flags = TCPHDR_ACK
    skb_header_release(skb)
    sk.sk_write_queue.queue_tail(skb)
    truesize = skb.truesize
    sk.sk_wmem_queued += truesize
    sk.sk_forward_alloc -= truesize
    if sk.nonagle & TCP_NAGLE_PUSH:
        sk.nonagle &= ~TCP_NAGLE_PUSH
    if not sk.packets_out:
        from stack.inet.tcp_output import tcp_slow_start_after_idle_check

        tcp_slow_start_after_idle_check(sk)


def tcp_push(sk: tcp_sock, flags: int, mss_now: int, nonagle: int, size_goal: int) -> None:
    """The call has queued its data: mark and send what may go."""
    skb = sk.sk_write_queue.peek_tail()
    if skb is None:
        return
    more = flags & MSG_MORE
    if not more or forced_push(sk):
        tcp_mark_push(sk, skb)
    if flags & MSG_OOB:  # tcp_mark_urg
        sk.snd_up = sk.write_seq
    if more:
        nonagle = TCP_NAGLE_CORK
    sk.msg_more = bool(more)
    __tcp_push_pending_frames(sk, mss_now, nonagle)


def tcp_remove_empty_skb(sk: tcp_sock) -> None:
    """Nothing could be copied into the last sk_buff: take it away again."""
    skb = sk.sk_write_queue.peek_tail()
    if skb is not None and skb.seq == skb.end_seq:
        sk.sk_write_queue.unlink(skb)
        tcp_wmem_free_skb(sk, skb)


def tcp_sendmsg(sk: tcp_sock, msg: Any, size: int) -> int:
    """proto.sendmsg: queue the user's bytes; the number queued.

    Raises: OSError EPIPE, EAGAIN, the pending error ...
    """
    lock_sock(sk)
    try:
        return tcp_sendmsg_locked(sk, msg, size)
    finally:
        release_sock(sk)


def tcp_wmem_schedule(sk: tcp_sock, copy: int) -> int:
    """How many of `copy` bytes there is memory for; a socket with little queued always gets some.

    Without that a socket that has nothing in flight would wait for an ACK that cannot come.
    """
    if sk_wmem_schedule(sk, copy):
        return copy
    left = sk.net.sysctl.tcp_wmem[0] - sk.sk_wmem_queued
    if left > 0:
        sk_forced_mem_schedule(sk, min(left, copy))
    return min(copy, max(sk.sk_forward_alloc, 0))


def tcp_copy_from_user(sk: tcp_sock, skb: sk_buff, msg: Any, n: int) -> int:
    """Append up to n bytes to skb: small first pieces to its head, others to pages; bytes done."""
    if not skb.data_len and n <= skb.tailroom:
        return msg.copy_to_skb(skb, n)
    n = tcp_wmem_schedule(sk, n)
    old = skb.truesize
    done = msg.add_to_skb(skb, sk.net.skb_pages, n)
    delta = skb.truesize - old
    sk.sk_wmem_queued += delta
    sk.sk_forward_alloc -= delta
    return done


def tcp_sendmsg_locked(sk: tcp_sock, msg: Any, size: int) -> int:
    """Fill the tail of the write queue, or new sk_buffs, up to the size goal each."""
    flags = msg.msg_flags
    timeo = sock_sndtimeo(sk, flags & MSG_DONTWAIT)
    if not (1 << sk.sk_state) & (TCPF_ESTABLISHED | TCPF_CLOSE_WAIT):
        try:
            timeo = sk_stream_wait_connect(sk, timeo)
        except OSError as exc:
            raise sk_stream_error(sk, flags, exc.errno or errno.EPIPE) from None
    sk.sk_flags &= ~SOCK_NOSPACE
    copied = 0
    filled = 0
    mss_now, size_goal = tcp_send_mss(sk, flags)
    if sk.sk_err or sk.sk_shutdown & SEND_SHUTDOWN:
        raise sk_stream_error(sk, flags, errno.EPIPE)
    write_queue = sk.sk_write_queue
    while msg.count:
        skb = write_queue.peek_tail()
        copy = size_goal - skb.len if skb is not None else 0
        if copy <= 0 or (skb is not None and (skb.tcp_flags & TCPHDR_FIN or skb.cb == MSG_EOR)):
            if filled >= TCP_SMALL_QUEUE_BACKLOG and sk.sk_backlog:
                filled = 0
                if sk_flush_backlog(sk):
                    if sk.sk_err or sk.sk_shutdown & SEND_SHUTDOWN:
                        break
                    mss_now, size_goal = tcp_send_mss(sk, flags)
                    continue
            first = not write_queue.qlen and not sk.tcp_rtx_queue.qlen
            skb = tcp_stream_alloc_skb(sk, first) if sk_stream_memory_free(sk) else None
            if skb is None:
                copied_now = tcp_sendmsg_wait(sk, msg, flags, timeo, copied, mss_now, size_goal)
                if copied_now is None:
                    return copied
                timeo = copied_now
                mss_now, size_goal = tcp_send_mss(sk, flags)
                continue
            filled += 1
            tcp_skb_entail(sk, skb)
            copy = size_goal
        done = tcp_copy_from_user(sk, skb, msg, min(copy, msg.count))
        if not done:
            tcp_remove_empty_skb(sk)
            copied_now = tcp_sendmsg_wait(sk, msg, flags, timeo, copied, mss_now, size_goal)
            if copied_now is None:
                return copied
            timeo = copied_now
            mss_now, size_goal = tcp_send_mss(sk, flags)
            continue
        if not copied:
            skb.tcp_flags &= ~TCPHDR_PSH
        sk.write_seq = (sk.write_seq + done) & M32
        skb.end_seq = (skb.end_seq + done) & M32
        skb.tcp_gso_segs = 0
        copied += done
        if not msg.count:
            if flags & MSG_EOR:
                skb.cb = MSG_EOR
            break
        if skb.len < size_goal or flags & MSG_OOB:
            continue
        if forced_push(sk):
            tcp_mark_push(sk, skb)
            __tcp_push_pending_frames(sk, mss_now, TCP_NAGLE_PUSH)
        elif skb is write_queue.peek():
            tcp_push_one(sk, mss_now)
    if copied:
        tcp_push(sk, flags, mss_now, sk.nonagle, size_goal)
    elif size and (sk.sk_err or sk.sk_shutdown & SEND_SHUTDOWN):
        raise sk_stream_error(sk, flags, errno.EPIPE)
    return copied


def tcp_sendmsg_wait(
    sk: tcp_sock, msg: Any, flags: int, timeo: int, copied: int, mss_now: int, size_goal: int
) -> int | None:
    """No room: push what there is and sleep. Time left, or None: return what was copied.

    Raises: OSError when nothing was copied yet.
    """
    sk.sk_flags |= SOCK_NOSPACE
    if copied:
        tcp_push(sk, flags & ~MSG_MORE, mss_now, TCP_NAGLE_PUSH, size_goal)
    net = sk.net
    try:
        if sk_stream_memory_free(sk):
            # The socket may have more, the host has no buffer, or TCP no memory: be content with
            # less from now on, and try again in a while.
            sk_stream_moderate_sndbuf(sk)
            if timeo <= 0:
                raise BlockingIOError(errno.EAGAIN, "no packet buffer left on the host")
            pause = min(timeo, 20 * MSEC)
            dry = tcp_no_buffers(net)
            sk_wait_event(
                sk,
                pause,
                lambda: (
                    bool(sk.sk_err or sk.sk_shutdown & SEND_SHUTDOWN)
                    or (dry and not tcp_no_buffers(net))
                ),
            )
            if sk.sk_err or sk.sk_shutdown & SEND_SHUTDOWN:
                raise os_error(errno.EPIPE)
            return timeo
        return sk_stream_wait_memory(sk, timeo)
    except OSError as exc:
        tcp_remove_empty_skb(sk)
        if copied:
            return None
        if exc.errno == errno.EPIPE:
            raise sk_stream_error(sk, flags, errno.EPIPE) from None
        raise


def tcp_no_buffers(net: Any) -> bool:
    """The host's buffer pools are all but empty."""
    return net.skb_pages.available <= 8 or net.skb_small.available <= 8


def tcp_stream_memory_free(sk: tcp_sock, wake: int = 0) -> bool:
    """TCP_NOTSENT_LOWAT: a writer waits while that much is queued and not sent."""
    notsent = (sk.write_seq - sk.snd_nxt) & M32
    lowat = sk.notsent_lowat or sk.net.sysctl.tcp_notsent_lowat
    return (notsent << wake) < lowat


# --- receiving ----------------------------------------------------------------------------


def tcp_recv_urg(sk: tcp_sock, msg: Any, length: int, flags: int) -> int:
    """MSG_OOB: the urgent byte."""
    if sk.sk_flags & SOCK_URGINLINE or not sk.urg_data or sk.urg_data == TCP_URG_READ:
        raise os_error(errno.EINVAL)
    if sk.sk_state == TCP_CLOSE and not sk.sk_flags & SOCK_DONE:
        raise os_error(errno.ENOTCONN)
    if sk.urg_data & TCP_URG_VALID:
        char = sk.urg_data & 0xFF
        if not flags & MSG_PEEK:
            sk.urg_data = TCP_URG_READ
        msg.msg_flags |= MSG_OOB
        if length > 0:
            if not flags & MSG_TRUNC:
                msg.put(bytes((char,)))
            return 1
        msg.msg_flags |= MSG_TRUNC
        return 0
    if sk.sk_state == TCP_CLOSE or sk.sk_shutdown & RCV_SHUTDOWN:
        return 0
    raise BlockingIOError(errno.EAGAIN, "the urgent byte has not come yet")


def tcp_cleanup_rbuf(sk: tcp_sock, copied: int) -> None:
    """The application has read: is an ACK or a window update due?"""
    if sk.sk_state == TCP_LISTEN:
        return
    time_to_ack = False
    if inet_csk_ack_scheduled(sk) and (
        ((sk.rcv_nxt - sk.rcv_wup) & M32) > sk.icsk_ack_rcv_mss
        or (
            copied > 0
            and (
                sk.icsk_ack_pending & ICSK_ACK_PUSHED2
                or (sk.icsk_ack_pending & ICSK_ACK_PUSHED and not inet_csk_in_pingpong_mode(sk))
            )
            and not sk.sk_rmem_alloc
        )
    ):
        time_to_ack = True
    if copied > 0 and not time_to_ack and not sk.sk_shutdown & RCV_SHUTDOWN:
        rcv_window_now = tcp_receive_window(sk)
        if 2 * rcv_window_now <= sk.window_clamp:
            new_window = __tcp_select_window(sk)
            # Worth telling when the window at least doubles.
            if new_window and new_window >= 2 * rcv_window_now:
                time_to_ack = True
    if time_to_ack:
        tcp_send_ack(sk)


def tcp_eat_recv_skb(sk: tcp_sock, skb: sk_buff) -> None:
    """skb is read to its end."""
    sk.sk_receive_queue.unlink(skb)
    kfree_skb(skb)


def tcp_recvmsg(sk: tcp_sock, msg: Any, length: int, flags: int = 0, *_: Any) -> int:
    """proto.recvmsg: bytes read; 0 at the end of the stream.

    Raises: OSError EAGAIN, ENOTCONN, EINVAL, the pending error.
    """
    lock_sock(sk)
    try:
        copied = tcp_recvmsg_locked(sk, msg, length, flags)
        if sk.recvmsg_inq and copied >= 0:
            put_cmsg(msg, SOL_TCP, 36, int_bytes(tcp_inq_hint(sk)))
        return copied
    finally:
        release_sock(sk)


def tcp_inq_hint(sk: tcp_sock) -> int:
    """Bytes left to read (at least 1 when the stream ended)."""
    inq = tcp_inq(sk)
    if not inq and sk.sk_flags & SOCK_DONE:
        inq = 1
    return inq


def tcp_recvmsg_locked(sk: tcp_sock, msg: Any, length: int, flags: int) -> int:
    """Copy from the receive queue; wait until `target` bytes came, or the end, or the time."""
    if sk.sk_state == TCP_LISTEN:
        raise os_error(errno.ENOTCONN)
    if flags & MSG_OOB:
        return tcp_recv_urg(sk, msg, length, flags)
    timeo = sock_rcvtimeo(sk, flags & MSG_DONTWAIT)
    peek = flags & MSG_PEEK
    target = sock_rcvlowat(sk, flags & MSG_WAITALL, length)
    seq = sk.copied_seq
    peek_off = 0
    if peek and sk.sk_peek_off >= 0:
        peek_off = sk.sk_peek_off
        seq = (seq + peek_off) & M32
    queue = sk.sk_receive_queue
    copied = 0
    while length > 0:
        if sk.urg_data and sk.urg_seq == seq and copied:
            break
        skb = queue.peek()
        offset = 0
        while skb is not None:
            offset = (seq - skb.seq) & M32
            if skb.tcp_flags & TCPHDR_SYN:
                offset -= 1
            if offset < skb.len or skb.tcp_flags & TCPHDR_FIN:
                break
            skb = queue.next(skb)
        if skb is None:
            # Nothing (more) there.
            if copied >= target and not sk.sk_backlog:
                break
            if copied:
                if (
                    timeo <= 0
                    or sk.sk_err
                    or sk.sk_state == TCP_CLOSE
                    or sk.sk_shutdown & RCV_SHUTDOWN
                ):
                    break
            else:
                if sk.sk_flags & SOCK_DONE:
                    break
                if sk.sk_err:
                    err, sk.sk_err = sk.sk_err, 0
                    raise os_error(err)
                if sk.sk_shutdown & RCV_SHUTDOWN:
                    break
                if sk.sk_state == TCP_CLOSE:
                    raise os_error(errno.ENOTCONN)
                if timeo <= 0 and not sk.sk_backlog:
                    raise BlockingIOError(errno.EAGAIN, "nothing to read")
            if sk.sk_backlog:
                # Do not sleep: work off what came meanwhile.
                release_sock(sk)
                lock_sock(sk)
            else:
                tcp_cleanup_rbuf(sk, copied)
                timeo = sk_wait_data(sk, timeo, queue.peek_tail())
            continue
        if offset < skb.len:
            used = min(skb.len - offset, length)
            if sk.urg_data:
                urg_offset = (sk.urg_seq - seq) & M32
                if urg_offset < used:
                    if urg_offset:
                        used = urg_offset
                    elif not sk.sk_flags & SOCK_URGINLINE:
                        # Step over the urgent byte: it is not part of the stream.
                        seq = (seq + 1) & M32
                        if not peek:
                            sk.copied_seq = seq
                        offset += 1
                        used -= 1
            if used > 0:
                if not flags & MSG_TRUNC and skb_copy_datagram_iter(skb, offset, msg, used) != used:
                    if not copied:
                        raise os_error(errno.EFAULT)
                    break
                seq = (seq + used) & M32
                copied += used
                length -= used
                if not peek:
                    sk.copied_seq = seq
                    tcp_rcv_space_adjust(sk)
            if sk.urg_data and after(sk.copied_seq, sk.urg_seq):
                sk.urg_data = 0
                tcp_fast_path_check(sk)
            if used + offset < skb.len:
                continue
        if skb.tcp_flags & TCPHDR_FIN:
            seq = (seq + 1) & M32
            if not peek:
                sk.copied_seq = seq
                tcp_eat_recv_skb(sk, skb)
            break
        if not peek:
            tcp_eat_recv_skb(sk, skb)
    if not peek:
        tcp_cleanup_rbuf(sk, copied)
        if copied and sk.sk_peek_off > 0:
            sk.sk_peek_off = max(sk.sk_peek_off - copied, 0)
    elif sk.sk_peek_off >= 0:
        sk.sk_peek_off += copied
    return copied


def tcp_inq(sk: tcp_sock) -> int:
    """include/net/tcp.h: bytes that can be read now."""
    if sk.sk_state in (TCP_SYN_SENT, TCP_SYN_RECV):
        return 0
    if (
        sk.sk_flags & SOCK_URGINLINE
        or not sk.urg_data
        or before(sk.urg_seq, sk.copied_seq)
        or not before(sk.urg_seq, sk.rcv_nxt)
    ):
        answ = (sk.rcv_nxt - sk.copied_seq) & M32
        # The FIN took a sequence number.
        if answ and sk.sk_flags & SOCK_DONE:
            answ -= 1
        return answ
    return (sk.urg_seq - sk.copied_seq) & M32


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
    from stack.inet.tcp_data import tcp_data_ready
    from stack.inet.tcp_rcvbuf import tcp_set_window_clamp
    from stack.inet.tcp_sock import tcp_space_from_win, tcp_win_from_space

    if not sk.sk_flags & SOCK_DEAD and sk.sk_state not in (TCP_CLOSE, TCP_LISTEN):
        tcp_data_ready(sk)
    space = tcp_space_from_win(sk, val)
    if space > sk.sk_rcvbuf:
        sk.sk_rcvbuf = space
        tcp_set_window_clamp(sk, tcp_win_from_space(sk, space))
    return 0


# --- tables -------------------------------------------------------------------------------


tcp_prot = proto(
    name="TCP",
    close=tcp_close,
    connect=tcp_v4_connect,
    disconnect=tcp_disconnect,
    accept=inet_csk_accept,
    ioctl=tcp_ioctl,
    init=tcp_v4_init_sock,
    destroy=tcp_v4_destroy_sock,
    shutdown=tcp_shutdown,
    setsockopt=tcp_setsockopt,
    getsockopt=tcp_getsockopt,
    keepalive=tcp_set_keepalive,
    sendmsg=tcp_sendmsg,
    recvmsg=tcp_recvmsg,
    backlog_rcv=tcp_v4_do_rcv,
    release_cb=tcp_release_cb,
    hash=inet_hash,
    unhash=inet_unhash,
    get_port=inet_csk_get_port,
    put_port=inet_put_port,
    stream_memory_free=tcp_stream_memory_free,
    diag_destroy=tcp_abort,
    compat_setsockopt=tcp_setsockopt,
    compat_getsockopt=tcp_getsockopt,
    no_autobind=True,
    max_header=MAX_TCP_HEADER,
    sock_class=tcp_sock,
    h={"hashinfo": lambda net: net.tcp_hashinfo},
    enter_memory_pressure=tcp_enter_memory_pressure,
    leave_memory_pressure=tcp_leave_memory_pressure,
    sysctl_rmem="tcp_rmem",
    sysctl_wmem="tcp_wmem",
)

tcp_protocol = net_protocol(
    handler=tcp_v4_rcv,
    err_handler=tcp_v4_err,
    no_policy=True,
    icmp_strict_tag_validation=True,
)


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
    from types import SimpleNamespace

    net.tcp_ctl_sk = SimpleNamespace(net=net)
