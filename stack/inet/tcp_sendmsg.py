"""net/ipv4/tcp.c: the sending calls: from the user's bytes to the write queue.

Called by inet_sendmsg through proto.sendmsg:

    tcp_sendmsg                         takes the socket's lock
        tcp_sendmsg_locked              with MSG_ZEROCOPY: references instead of a copy
            tcp_sendmsg_queue           while bytes are left:
                tcp_xmit_size_goal      how large a segment and an sk_buff may be
                tcp_stream_alloc_skb, tcp_skb_entail        a new tail of the write queue
                tcp_copy_from_user      fill the tail
                tcp_sendmsg_wait        no room: push, then sleep until there is
                __tcp_push_pending_frames, tcp_push_one     half a window waits
            tcp_push                    the call's end: PSH, then send what is allowed

State: `sk_write_queue` holds unsent sk_buffs, `write_seq` is the sequence number behind its last
byte, `sk_wmem_queued` and `sk_forward_alloc` account its memory. tcp_stream_memory_free says when
a writer must wait. tcp_output.py decides what is sent when (tcp_write_xmit). Read
tcp_sendmsg_queue first.
"""

from __future__ import annotations

import errno

from fastpath.base.skbuff import sk_buff, skb_header_release, skb_tailroom
from fastpath.net.zerocopy import skb_zcopy
from stack.core import uapi
from stack.core.errors import os_error
from stack.core.iov import add_to_skb, copy_to_skb, msghdr
from stack.core.netdevice import GSO_LEGACY_MAX_SIZE, NETIF_F_SG
from stack.core.sk_mem import sk_forced_mem_schedule, sk_stream_moderate_sndbuf, sk_wmem_schedule
from stack.core.sock import lock_sock, release_sock, sk_flush_backlog, sk_wait_event, sock_sndtimeo
from stack.core.sock_flags import SOCK_NOSPACE, SOCK_ZEROCOPY
from stack.core.sockopt import sock_cmsg_send
from stack.core.stream import (
    sk_stream_error,
    sk_stream_memory_free,
    sk_stream_wait_connect,
    sk_stream_wait_memory,
)
from stack.core.tcp_states import TCP_SYN_SENT, TCPF_CLOSE_WAIT, TCPF_ESTABLISHED
from stack.core.time64 import NSEC_PER_MSEC
from stack.core.tstamp import sock_tx_flags
from stack.core.zerocopy import msg_zerocopy_end, msg_zerocopy_start
from stack.inet.inet_common import __inet_stream_connect
from stack.inet.tcp_ctl import tcp_connect, tcp_connect_failed
from stack.inet.tcp_fastopen import TFO_CLIENT_ENABLE
from stack.inet.tcp_output import (
    __tcp_push_pending_frames,
    tcp_push_one,
    tcp_slow_start_after_idle_check,
    tcp_stream_alloc_skb,
    tcp_wmem_free_skb,
)
from stack.inet.tcp_sock import (
    M32,
    MAX_TCP_HEADER,
    TCP_CHRONO_BUSY,
    TCP_NAGLE_CORK,
    TCP_NAGLE_PUSH,
    TCPHDR_ACK,
    TCPHDR_FIN,
    TCPHDR_PSH,
    TSQF_THROTTLED,
    after,
    tcp_chrono_set,
    tcp_fastopen_request,
    tcp_packets_in_flight,
    tcp_sock,
)
from stack.inet.tcp_window import tcp_bound_to_half_wnd, tcp_current_mss
from stack.net import Net

TCP_SMALL_QUEUE_BACKLOG = 16  # sk_buffs that a long sendmsg fills before it processes the backlog


def tcp_xmit_size_goal(sk: tcp_sock, mss_now: int, flags: int) -> int:
    """Bytes to gather in one sk_buff: whole segments, up to the device's limit for GSO.

    Above 64 KiB the send buffer limits it too, because an sk_buff is filled to this size even if
    that exceeds the buffer. One packet may lie above TCP_NOTSENT_LOWAT. It is no larger than
    Linux's, though devices here take larger ones.
    """
    if flags & uapi.MSG_OOB:
        return mss_now
    most = sk.sk_sndbuf if sk.sk_sndbuf > 65536 else 65536
    if most > sk.sk_gso_max_size:
        most = sk.sk_gso_max_size
    gso_segs = tcp_bound_to_half_wnd(sk, most - 1 - MAX_TCP_HEADER) // mss_now
    if gso_segs > sk.sk_gso_max_segs:
        gso_segs = sk.sk_gso_max_segs
    if gso_segs <= 1:
        return mss_now
    size_goal = gso_segs * (mss_now & 0xFFFF)  # an MSS has 16 bits
    if size_goal > GSO_LEGACY_MAX_SIZE:
        lowat = sk.notsent_lowat or sk.net.sysctl.tcp_notsent_lowat
        most = max(lowat, GSO_LEGACY_MAX_SIZE)
        if most < size_goal:
            size_goal = most - most % mss_now
    return size_goal


def tcp_rate_check_app_limited(sk: tcp_sock) -> None:
    """net/ipv4/tcp_rate.c: note app-limited sending: less than a segment is unsent."""
    if (
        (sk.write_seq - sk.snd_nxt) & M32 < sk.mss_cache
        and not sk.sk_wmem_alloc
        and sk.lost_out <= sk.retrans_out
    ):
        in_flight = tcp_packets_in_flight(sk)
        if in_flight < sk.snd_cwnd:
            sk.app_limited = sk.delivered + in_flight or 1


def tcp_mark_push(sk: tcp_sock, skb: sk_buff) -> None:
    skb.tcp_flags |= TCPHDR_PSH
    sk.pushed_seq = sk.write_seq


def forced_push(sk: tcp_sock) -> bool:
    """Whether half of the peer's largest window was queued since the last PSH."""
    return after(sk.write_seq, (sk.pushed_seq + (sk.max_window >> 1)) & M32)


def tcp_skb_entail(sk: tcp_sock, skb: sk_buff) -> None:
    """Append an empty sk_buff to the write queue."""
    skb.seq = skb.end_seq = sk.write_seq
    skb.tcp_flags = TCPHDR_ACK
    skb_header_release(skb)
    sk.sk_write_queue.queue_tail(skb)
    if not sk.chrono_type:
        tcp_chrono_set(sk, TCP_CHRONO_BUSY)
    truesize = skb.truesize
    sk.sk_wmem_queued += truesize
    sk.sk_forward_alloc -= truesize
    if sk.nonagle & TCP_NAGLE_PUSH:
        sk.nonagle &= ~TCP_NAGLE_PUSH
    if not sk.packets_out:
        tcp_slow_start_after_idle_check(sk)


def tcp_push(sk: tcp_sock, flags: int, mss_now: int, nonagle: int, size_goal: int) -> None:
    """After a call has queued its data, mark it and send what is allowed."""
    skb = sk.sk_write_queue.peek_tail()
    if skb is None:
        return
    if not flags & uapi.MSG_MORE or forced_push(sk):
        tcp_mark_push(sk, skb)
    if flags & uapi.MSG_OOB:  # tcp_mark_urg
        sk.snd_up = sk.write_seq
    if flags & uapi.MSG_MORE:
        nonagle = TCP_NAGLE_CORK
    if sk.sk_wmem_alloc and tcp_should_autocork(sk, skb, size_goal):
        if not sk.tsq_flags & TSQF_THROTTLED:
            sk.net.mib.linux.TCPAutoCorking += 1
            sk.tsq_flags |= TSQF_THROTTLED
        return
    __tcp_push_pending_frames(sk, mss_now, nonagle)


def tcp_should_autocork(sk: tcp_sock, skb: sk_buff, size_goal: int) -> bool:
    """Whether a small packet waits for more bytes while an earlier one is queued in this host.

    tcp_wfree sends it.
    """
    return (
        skb.len < size_goal
        and sk.net.sysctl.tcp_autocorking != 0
        and sk.packets_out != 0
        and sk.sk_wmem_alloc > skb.truesize
        and skb.cb != uapi.MSG_EOR
    )


def tcp_remove_empty_skb(sk: tcp_sock) -> None:
    """Remove the last sk_buff if nothing could be copied into it."""
    skb = sk.sk_write_queue.peek_tail()
    if skb is not None and skb.seq == skb.end_seq:
        sk.sk_write_queue.unlink(skb)
        tcp_wmem_free_skb(sk, skb)


def tcp_sendmsg(sk: tcp_sock, msg: msghdr, size: int) -> int:
    """proto.sendmsg: queue the user's bytes; the number queued.

    Raises: OSError EPIPE, EAGAIN, the pending error ...
    """
    lock_sock(sk)
    try:
        return tcp_sendmsg_locked(sk, msg, size)
    finally:
        release_sock(sk)


def tcp_cmsg_send(sk: tcp_sock, msg: msghdr) -> int:
    """tcp_sendmsg_locked's part for control messages: the call's SOF_TIMESTAMPING_*.

    Raises: OSError EINVAL for any error.
    """
    try:
        return sock_cmsg_send(sk, msg.msg_control or []).tsflags
    except OSError as exc:
        raise os_error(errno.EINVAL, str(exc)) from None


def tcp_tx_timestamp(sk: tcp_sock, tsflags: int) -> None:
    """Request the call's time stamps on the packet with its last byte."""
    skb = sk.sk_write_queue.peek_tail()
    if skb is not None and tsflags & uapi.SOF_TIMESTAMPING_TX_RECORD_MASK:
        skb.tx_flags |= sock_tx_flags(tsflags)
        if tsflags & uapi.SOF_TIMESTAMPING_TX_ACK:
            skb.txstamp_ack = 1
        skb.tskey = (skb.seq + skb.len - 1) & M32


def tcp_wmem_schedule(sk: tcp_sock, copy: int) -> int:
    """Reserve memory for `copy` bytes; returns how many fit. It always serves a near-empty queue.

    Otherwise a socket with nothing in flight would wait for an ACK that cannot come.
    """
    if sk_wmem_schedule(sk, copy):
        return copy
    left = sk.net.sysctl.tcp_wmem[0] - sk.sk_wmem_queued
    if left > 0:
        sk_forced_mem_schedule(sk, min(left, copy))
    return min(copy, max(sk.sk_forward_alloc, 0))


def tcp_copy_from_user(sk: tcp_sock, skb: sk_buff, msg: msghdr, n: int) -> int:
    """Append up to n bytes to skb, in its head if they fit, else in pages; bytes appended.

    Raises: OSError EFAULT.
    """
    if n > sk.sk_forward_alloc:
        n = tcp_wmem_schedule(sk, n)
    old = skb.truesize
    if not skb.data_len and n <= skb_tailroom(skb) and msg.msg_ubuf is None:
        done = copy_to_skb(msg, skb, n)
        skb.truesize = old + done
    else:
        done = add_to_skb(msg, skb, sk.net.skb_pages, n)
    delta = skb.truesize - old
    sk.sk_wmem_queued += delta
    sk.sk_forward_alloc -= delta
    return done


def tcp_sendmsg_locked(sk: tcp_sock, msg: msghdr, size: int) -> int:
    """Queue the user's bytes: a copy of them, or with MSG_ZEROCOPY references to them."""
    if not msg.msg_flags & uapi.MSG_ZEROCOPY or not sk.sk_flags & SOCK_ZEROCOPY or not size:
        return tcp_sendmsg_queue(sk, msg, size)
    dst = sk.sk_dst_cache
    stays = dst is None or bool(dst.dev.features & NETIF_F_SG)
    uarg = msg_zerocopy_start(sk, sk.sk_write_queue.peek_tail(), msg, size, stays)
    try:
        copied = tcp_sendmsg_queue(sk, msg, size)
    except BaseException:
        msg_zerocopy_end(msg, uarg, False)
        raise
    msg_zerocopy_end(msg, uarg, True)
    return copied


def tcp_skb_of_others(msg: msghdr, skb: sk_buff, full: sk_buff | None) -> bool:
    """Whether zero-copy bytes must begin another sk_buff, because skb cannot take more of them.

    It is full of fragments (the kernel's EMSGSIZE of skb_zerocopy_iter_stream), or its payload
    belongs to a call with another notification (EEXIST).
    """
    uarg = skb_zcopy(skb)
    return skb is full or (uarg is not None and uarg is not msg.msg_ubuf)


def tcp_sendmsg_fastopen(sk: tcp_sock, msg: msghdr, size: int) -> int:
    """Connect with the call's first bytes in the SYN; returns their number.

    MSG_FASTOPEN, or the first write after a deferred connect.
    Raises: OSError EOPNOTSUPP, EALREADY, or connect's.
    """
    uaddr = msg.msg_name
    if not sk.net.sysctl.tcp_fastopen & TFO_CLIENT_ENABLE or (
        uaddr is not None and uaddr.family == uapi.AF_UNSPEC
    ):
        raise os_error(errno.EOPNOTSUPP, "MSG_FASTOPEN: sysctl tcp_fastopen has not bit 1")
    if sk.fastopen_req is not None:
        raise os_error(errno.EALREADY, "another Fast Open is in progress")
    sock = sk.sk_socket
    assert sock is not None, "an application calls"
    fo = tcp_fastopen_request()
    fo.data = msg
    fo.size = size
    sk.fastopen_req = fo
    try:
        if sk.defer_connect:
            err = tcp_connect(sk)
            if err:
                tcp_connect_failed(sk)
                raise os_error(err)
        nonblock = uapi.O_NONBLOCK if msg.msg_flags & uapi.MSG_DONTWAIT else 0
        __inet_stream_connect(sock, uaddr, 0, nonblock, True)
    except BlockingIOError as exc:
        if exc.errno != errno.EINPROGRESS or not fo.copied:
            raise
    finally:
        if sk.fastopen_req is fo:
            sk.fastopen_req = None
            sk.defer_connect = False
    return fo.copied


def tcp_sendmsg_connect(sk: tcp_sock, msg: msghdr, size: int) -> int:
    """tcp_sendmsg_queue with the first bytes in the SYN; a non-blocking call sends only these."""
    in_syn = tcp_sendmsg_fastopen(sk, msg, size)
    if in_syn and (not msg.count or sk.sk_state == TCP_SYN_SENT):
        return in_syn
    msg.msg_flags &= ~uapi.MSG_FASTOPEN
    try:
        return in_syn + tcp_sendmsg_queue(sk, msg, size)
    except OSError:
        if in_syn:
            return in_syn
        raise


def tcp_sendmsg_queue(sk: tcp_sock, msg: msghdr, size: int) -> int:
    """Fill the tail of the write queue, or new sk_buffs, up to the size goal each."""
    flags = msg.msg_flags
    if flags & uapi.MSG_FASTOPEN or sk.defer_connect:
        return tcp_sendmsg_connect(sk, msg, size)
    timeo: int = sock_sndtimeo(sk, flags & uapi.MSG_DONTWAIT)
    tcp_rate_check_app_limited(sk)
    if (
        not (1 << (sk.sk_state & 15)) & (TCPF_ESTABLISHED | TCPF_CLOSE_WAIT)
        and sk.fastopen_rsk is None
    ):
        try:
            timeo = sk_stream_wait_connect(sk, timeo)
        except OSError as exc:
            raise sk_stream_error(sk, flags, exc.errno or errno.EPIPE) from None
    tsflags = tcp_cmsg_send(sk, msg) if msg.msg_control else sk.sk_tsflags
    sk.sk_flags &= ~SOCK_NOSPACE
    copied = 0
    filled = 0
    mss_now = tcp_current_mss(sk)
    size_goal = tcp_xmit_size_goal(sk, mss_now, flags)
    if sk.sk_err or sk.sk_shutdown & uapi.SEND_SHUTDOWN:
        raise sk_stream_error(sk, flags, errno.EPIPE)
    write_queue = sk.sk_write_queue
    skb: sk_buff | None
    full: sk_buff | None = None
    while msg.count:
        skb = write_queue.peek_tail()
        copy = size_goal - skb.len if skb is not None else 0
        if skb is not None and msg.msg_ubuf is not None and tcp_skb_of_others(msg, skb, full):
            tcp_mark_push(sk, skb)
            copy = 0
        if copy <= 0 or (
            skb is not None and (skb.tcp_flags & TCPHDR_FIN or skb.cb == uapi.MSG_EOR)
        ):
            if filled >= TCP_SMALL_QUEUE_BACKLOG and sk.sk_backlog.qlen:
                filled = 0
                if sk_flush_backlog(sk):
                    if sk.sk_err or sk.sk_shutdown & uapi.SEND_SHUTDOWN:
                        break
                    mss_now = tcp_current_mss(sk)
                    size_goal = tcp_xmit_size_goal(sk, mss_now, flags)
                    continue
            first = not write_queue.qlen and not sk.tcp_rtx_queue.qlen
            skb = tcp_stream_alloc_skb(sk, first) if sk_stream_memory_free(sk) else None
            if skb is not None:
                filled += 1
                tcp_skb_entail(sk, skb)
                copy = size_goal
        if copy > msg.count:
            copy = msg.count
        try:
            done = tcp_copy_from_user(sk, skb, msg, copy) if skb is not None else 0
        except OSError:
            tcp_remove_empty_skb(sk)
            if not copied:
                raise
            break
        if skb is None or not done:
            if skb is not None and msg.msg_ubuf is not None and skb.len and skb is not full:
                full = skb  # of fragments
                continue
            tcp_remove_empty_skb(sk)
            left = tcp_sendmsg_wait(sk, msg, flags, timeo, copied, mss_now, size_goal)
            if left is None:
                break
            timeo = left
            mss_now = tcp_current_mss(sk)
            size_goal = tcp_xmit_size_goal(sk, mss_now, flags)
            continue
        if not copied:
            skb.tcp_flags &= ~TCPHDR_PSH
        sk.write_seq = (sk.write_seq + done) & M32
        skb.end_seq = (skb.end_seq + done) & M32
        skb.tcp_gso_segs = 0
        copied += done
        if not msg.count:
            if flags & uapi.MSG_EOR:
                skb.cb = uapi.MSG_EOR
            break
        if skb.len < size_goal or flags & uapi.MSG_OOB:
            continue
        if forced_push(sk):
            tcp_mark_push(sk, skb)
            __tcp_push_pending_frames(sk, mss_now, TCP_NAGLE_PUSH)
        elif skb is write_queue.peek():
            tcp_push_one(sk, mss_now)
    if copied:
        if tsflags:
            tcp_tx_timestamp(sk, tsflags)
        tcp_push(sk, flags, mss_now, sk.nonagle, size_goal)
    elif size and (sk.sk_err or sk.sk_shutdown & uapi.SEND_SHUTDOWN):
        raise sk_stream_error(sk, flags, errno.EPIPE)
    return copied


def tcp_sendmsg_wait(
    sk: tcp_sock, msg: msghdr, flags: int, timeo: int, copied: int, mss_now: int, size_goal: int
) -> int | None:
    """No room: push what is queued and sleep. Returns the ns left.

    None: waiting failed, and the caller returns what it has copied. Raises: OSError if that is
    nothing.
    """
    sk.sk_flags |= SOCK_NOSPACE
    if copied:
        tcp_push(sk, flags & ~uapi.MSG_MORE, mss_now, TCP_NAGLE_PUSH, size_goal)
    net = sk.net
    try:
        if sk_stream_memory_free(sk):
            # The socket is below its own limit, so the host is out of buffers or TCP out of memory.
            # Lower the limit and try again in a while.
            sk_stream_moderate_sndbuf(sk)
            if timeo <= 0:
                raise os_error(errno.EAGAIN, "no packet buffer left on the host")
            sk_wait_event(sk, min(timeo, 20 * NSEC_PER_MSEC), tcp_buffers_came, tcp_no_buffers(net))
            if sk.sk_err or sk.sk_shutdown & uapi.SEND_SHUTDOWN:
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


def tcp_buffers_came(sk: tcp_sock, dry: bool) -> bool:
    """Whether to stop waiting: the host, if it was `dry`, has buffers again, or sending failed."""
    return bool(sk.sk_err or sk.sk_shutdown & uapi.SEND_SHUTDOWN) or (
        dry and not tcp_no_buffers(sk.net)
    )


def tcp_no_buffers(net: Net) -> bool:
    """Whether one of the host's buffer pools is nearly empty."""
    return net.skb_pages.available <= 8 or net.skb_small.available <= 8


def tcp_stream_memory_free(sk: tcp_sock, wake: int) -> bool:
    """Whether less than TCP_NOTSENT_LOWAT is queued unsent; otherwise writers wait."""
    notsent = (sk.write_seq - sk.snd_nxt) & M32
    lowat = sk.notsent_lowat or sk.net.sysctl.tcp_notsent_lowat
    return (notsent << (wake & 1)) < lowat
