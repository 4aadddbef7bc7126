"""net/ipv4/tcp.c: the receiving calls: from the receive queue to the user."""

from __future__ import annotations

import errno

from fastpath.base.skbuff import kfree_skb, sk_buff
from stack.core import uapi
from stack.core.bsd_socket import socket
from stack.core.errors import os_error
from stack.core.iov import msghdr, skb_copy_datagram_iter
from stack.core.pipe import copy_splice_read, pipe_inode_info
from stack.core.sock import lock_sock, release_sock, sk_wait_data, sock_rcvlowat, sock_rcvtimeo
from stack.core.sock_flags import FLAGS_STAMPS, SOCK_DONE, SOCK_URGINLINE
from stack.core.sockopt import put_cmsg, sock_put_stamps
from stack.core.sockopt_table import int_bytes
from stack.core.tcp_states import TCP_CLOSE, TCP_LISTEN, TCP_SYN_RECV, TCP_SYN_SENT
from stack.inet.af_ops import af_ops_of
from stack.inet.inet_connection_sock import (
    ICSK_ACK_PUSHED,
    ICSK_ACK_PUSHED2,
    ICSK_ACK_SCHED,
    inet_csk_in_pingpong_mode,
)
from stack.inet.tcp_ctl import tcp_send_ack
from stack.inet.tcp_rcvbuf import tcp_rcv_space_adjust
from stack.inet.tcp_sock import (
    M32,
    TCP_CM_INQ,
    TCP_URG_READ,
    TCP_URG_VALID,
    TCPHDR_FIN,
    TCPHDR_SYN,
    after,
    before,
    tcp_fast_path_check,
    tcp_receive_window,
    tcp_sock,
)
from stack.inet.tcp_window import __tcp_select_window


def tcp_recv_urg(sk: tcp_sock, msg: msghdr, length: int, flags: int) -> int:
    """MSG_OOB: the urgent byte."""
    if sk.sk_flags & SOCK_URGINLINE or not sk.urg_data or sk.urg_data == TCP_URG_READ:
        raise os_error(errno.EINVAL)
    if sk.sk_state == TCP_CLOSE and not sk.sk_flags & SOCK_DONE:
        raise os_error(errno.ENOTCONN)
    if sk.urg_data & TCP_URG_VALID:
        char = sk.urg_data & 0xFF
        if not flags & uapi.MSG_PEEK:
            sk.urg_data = TCP_URG_READ
        msg.msg_flags |= uapi.MSG_OOB
        if length > 0:
            if not flags & uapi.MSG_TRUNC:
                msg.put(bytes((char,)))
            return 1
        msg.msg_flags |= uapi.MSG_TRUNC
        return 0
    if sk.sk_state == TCP_CLOSE or sk.sk_shutdown & uapi.RCV_SHUTDOWN:
        return 0
    raise os_error(errno.EAGAIN, "the urgent byte has not come yet")


def tcp_cleanup_rbuf(sk: tcp_sock, copied: int) -> None:
    """After a read, send an ACK if one is due or the window at least doubles."""
    if sk.sk_state == TCP_LISTEN:
        return
    pending = sk.icsk_ack_pending
    time_to_ack = pending & ICSK_ACK_SCHED != 0 and (
        ((sk.rcv_nxt - sk.rcv_wup) & M32) > sk.icsk_ack_rcv_mss
        or (
            copied > 0
            and (
                pending & ICSK_ACK_PUSHED2 != 0
                or (pending & ICSK_ACK_PUSHED != 0 and not inet_csk_in_pingpong_mode(sk))
            )
            and not sk.sk_rmem_alloc
        )
    )
    if copied > 0 and not time_to_ack and not sk.sk_shutdown & uapi.RCV_SHUTDOWN:
        rcv_window_now = tcp_receive_window(sk)
        if 2 * rcv_window_now <= sk.window_clamp:
            new_window = __tcp_select_window(sk)
            if new_window and new_window >= 2 * rcv_window_now:
                time_to_ack = True
    if time_to_ack:
        tcp_send_ack(sk)


def tcp_eat_recv_skb(sk: tcp_sock, skb: sk_buff) -> None:
    """Free skb, which was read to its end."""
    sk.sk_receive_queue.unlink(skb)
    kfree_skb(skb)


def tcp_recvmsg(sk: tcp_sock, msg: msghdr, length: int, flags: int) -> int:
    """proto.recvmsg: bytes read; 0 at the end of the stream.

    Raises: OSError EAGAIN, ENOTCONN, EINVAL, the pending error.
    """
    if flags & uapi.MSG_ERRQUEUE:
        return af_ops_of[sk.sk_family].recv_error(sk, msg, length)
    lock_sock(sk)
    try:
        stamped = sk.sk_flags & FLAGS_STAMPS
        if stamped:
            sk.sk_stamp_ns = -1
        copied = tcp_recvmsg_locked(sk, msg, length, flags)
        if stamped and sk.sk_stamp_ns >= 0:
            sock_put_stamps(msg, sk, sk.sk_stamp_ns, False)
        if sk.recvmsg_inq and copied >= 0:
            put_cmsg(msg, uapi.SOL_TCP, TCP_CM_INQ, int_bytes(tcp_inq_hint(sk)))
        return copied
    finally:
        release_sock(sk)


def tcp_splice_read(sock: socket, pos: int | None, pipe: pipe_inode_info, size: int) -> int:
    """net/ipv4/tcp.c: proto_ops.splice_read, which never passes the urgent byte.

    Raises: OSError, ENOTCONN of a listener.
    """
    assert sock.file is not None
    sk: tcp_sock = sock.sk
    if sk.sk_state == TCP_LISTEN:
        raise os_error(errno.ENOTCONN, "a listener has no data")
    if sk.urg_data and sk.urg_seq == sk.copied_seq and sk.sk_receive_queue.qlen:
        if sock.file.f_flags & uapi.O_NONBLOCK:
            raise os_error(errno.EAGAIN, "splice: the next byte is urgent")
        return 0
    return copy_splice_read(sock.file, pos, pipe, size)


def tcp_inq_hint(sk: tcp_sock) -> int:
    """Bytes left to read. The stream's end counts as one, also after it was read."""
    inq = (sk.rcv_nxt - sk.copied_seq) & M32
    if not inq and sk.sk_flags & SOCK_DONE:
        inq = 1
    return inq


def tcp_recvmsg_locked(sk: tcp_sock, msg: msghdr, length: int, flags: int) -> int:
    """Copy from the receive queue; wait for `target` bytes, the stream's end or the timeout."""
    if sk.sk_state == TCP_LISTEN:
        raise os_error(errno.ENOTCONN)
    if flags & uapi.MSG_OOB:
        return tcp_recv_urg(sk, msg, length, flags)
    timeo = sock_rcvtimeo(sk, flags & uapi.MSG_DONTWAIT)
    peek = flags & uapi.MSG_PEEK
    target = sock_rcvlowat(sk, flags & uapi.MSG_WAITALL, length)
    seq = sk.copied_seq
    peek_off = 0
    if peek and sk.sk_peek_off >= 0:
        peek_off = sk.sk_peek_off
        seq = (seq + peek_off) & M32
    queue = sk.sk_receive_queue
    copied = 0
    begun = False
    while length > 0 or not begun:  # a read of 0 bytes also waits, and reports errors
        begun = True
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
            # No (more) data.
            if copied >= target and not sk.sk_backlog.qlen:
                break
            if copied:
                if (
                    timeo <= 0
                    or sk.sk_err
                    or sk.sk_state == TCP_CLOSE
                    or sk.sk_shutdown & uapi.RCV_SHUTDOWN
                ):
                    break
            else:
                if sk.sk_flags & SOCK_DONE:
                    break
                if sk.sk_err:
                    err, sk.sk_err = sk.sk_err, 0
                    raise os_error(err)
                if sk.sk_shutdown & uapi.RCV_SHUTDOWN:
                    break
                if sk.sk_state == TCP_CLOSE:
                    raise os_error(errno.ENOTCONN)
                if timeo <= 0 and not sk.sk_backlog.qlen:
                    raise os_error(errno.EAGAIN, "nothing to read")
            if sk.sk_backlog.qlen:
                # Segments arrived while the socket was owned: process them instead of sleeping.
                release_sock(sk)
                lock_sock(sk)
            else:
                tcp_cleanup_rbuf(sk, copied)
                timeo = sk_wait_data(sk, timeo, queue.peek_tail())
            continue
        if offset < skb.len:
            used = skb.len - offset
            if used > length:
                used = length
            if sk.urg_data:
                urg_offset = (sk.urg_seq - seq) & M32
                if urg_offset < used:
                    if urg_offset:
                        used = urg_offset
                    elif not sk.sk_flags & SOCK_URGINLINE:
                        # Skip the urgent byte: it is not part of the stream.
                        seq = (seq + 1) & M32
                        if not peek:
                            sk.copied_seq = seq
                        offset += 1
                        used -= 1
            if used > 0:
                if not flags & uapi.MSG_TRUNC:
                    try:
                        done = skb_copy_datagram_iter(skb, offset, msg, used)
                    except OSError:
                        done = 0
                    if done != used:
                        if not copied:
                            raise os_error(errno.EFAULT)
                        break
                # The last packet read from gives the time.
                if sk.sk_flags & FLAGS_STAMPS and skb.tstamp_ns:
                    sk.sk_stamp_ns = sk.net.machine.realtime_ns(skb.tstamp_ns)
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
