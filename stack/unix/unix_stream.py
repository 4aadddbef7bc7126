"""Byte streams between sockets of one host (net/unix/af_unix.c: unix_stream_*)."""

from __future__ import annotations

import errno
from typing import Any

from fastpath.base.skbuff import consume_skb, sk_buff, sk_buff_head
from stack.core import uapi
from stack.core.bsd_socket import socket
from stack.core.errors import os_error
from stack.core.iov import msghdr, skb_copy_datagram_iter
from stack.core.pipe import PAGE_SIZE, copy_splice_read, pipe_inode_info
from stack.core.scm import scm_cookie, scm_destroy, scm_recv_unix, scm_send
from stack.core.sock import raise_sock_error, sk_data_ready, wait_event
from stack.core.sock_flags import SOCK_DEAD, SOCK_PASSCRED
from stack.core.sockaddr import NO_NAME
from stack.core.tcp_states import TCP_ESTABLISHED, TCP_LISTEN
from stack.unix.unix_oob import manage_oob, queue_oob, unix_stream_recv_urg
from stack.unix.unix_scm import (
    unix_detach_fds,
    unix_peek_fds,
    unix_pipe_error,
    unix_skb_scm_eq,
    unix_skb_to_scm,
    unix_stream_prepare,
)
from stack.unix.unix_skb import SKB_MAX_HEAD, sock_alloc_send_pskb
from stack.unix.unix_sock import unix_skb_parms, unix_sock

UNIX_SKB_FRAGS_SZ = 32768
CHUNK_BYTES = SKB_MAX_HEAD + UNIX_SKB_FRAGS_SZ


def unix_stream_sendmsg(sock: socket, msg: msghdr, size: int) -> int:
    """net/unix/af_unix.c: send bytes to the peer's queue; returns how many were queued.

    Raises: OSError EPIPE (there is no SIGPIPE), ENOTCONN, EISCONN, EOPNOTSUPP, EAGAIN, ENOBUFS,
    or an error of `scm_send`. After some bytes were queued it returns their number instead.
    """
    sk: unix_sock = sock.sk
    scm: scm_cookie | None = None
    if msg.msg_control:
        scm = scm_send(sock, msg)
    if scm is None:
        return unix_stream_send(sk, msg, size, None)
    try:
        return unix_stream_send(sk, msg, size, scm)
    finally:
        scm_destroy(scm)


def unix_stream_send(sk: unix_sock, msg: msghdr, size: int, scm: scm_cookie | None) -> int:
    """The part of `unix_stream_sendmsg` between scm_send and scm_destroy."""
    flags = msg.msg_flags
    oob = bool(flags & uapi.MSG_OOB)
    if oob:
        if not size:
            raise os_error(errno.EOPNOTSUPP, "MSG_OOB is for one byte")
        size -= 1
    if msg.msg_name is not None and msg.msg_name.sa_len != NO_NAME:
        if sk.sk_state == TCP_ESTABLISHED:
            raise os_error(errno.EISCONN, "the socket has a peer already")
        raise os_error(errno.EOPNOTSUPP, "a stream has no addresses")
    other: unix_sock | None = sk.peer
    if other is None:
        raise os_error(errno.ENOTCONN, "the socket is not connected")
    if sk.sk_shutdown & uapi.SEND_SHUTDOWN:
        raise unix_pipe_error()
    noblock = bool(flags & uapi.MSG_DONTWAIT)
    sent = 0
    fds_sent = False
    half = (sk.sk_sndbuf >> 1) - 64
    try:
        while sent < size:
            chunk = size - sent
            if chunk > half:
                chunk = half  # two messages fit, so that writer and reader can work at once
            if chunk > CHUNK_BYTES:
                chunk = CHUNK_BYTES
            data_len = chunk - SKB_MAX_HEAD
            if data_len > 0:
                data_len = data_len + PAGE_SIZE - 1 & ~(PAGE_SIZE - 1)
                if data_len > chunk:
                    data_len = chunk
            else:
                data_len = 0
            skb = sock_alloc_send_pskb(sk, msg, chunk - data_len, data_len, noblock)
            unix_stream_queue(sk, other, skb, scm, not fds_sent)
            fds_sent = True
            sent += chunk
        if oob:
            queue_oob(sk, other, msg, scm, not fds_sent)
            sent += 1
    except OSError:
        if not sent:
            raise
    return sent


def unix_stream_queue(
    sk: unix_sock, other: unix_sock, skb: sk_buff, scm: scm_cookie | None, send_fds: bool
) -> None:
    """Queue one message for the peer. Takes ownership of skb. Raises: OSError EPIPE ..."""
    unix_stream_prepare(sk, other, skb, scm, send_fds)
    other.sk_receive_queue.queue_tail(skb)
    sk_data_ready(other)


# --- receiving -----------------------------------------------------------------------------


def unix_stream_recvmsg(sock: socket, msg: msghdr, size: int, flags: int) -> int:
    """net/unix/af_unix.c: the next bytes; 0 at the end.

    A read does not join messages of different writers (credentials), and ends after descriptors.
    Raises: OSError EINVAL when not connected, EAGAIN, the pending error.
    """
    return unix_stream_read_generic(sock, msg, size, flags)


def unix_stream_splice_read(sock: socket, pos: int | None, pipe: pipe_inode_info, size: int) -> int:
    """net/unix/af_unix.c: proto_ops.splice_read. Raises: OSError, ENOTCONN of a listener."""
    assert sock.file is not None
    if sock.sk.sk_state == TCP_LISTEN:
        raise os_error(errno.ENOTCONN, "a listener has no data")
    return copy_splice_read(sock.file, pos, pipe, size)


def unix_stream_read_generic(sock: socket, msg: msghdr, size: int, flags: int) -> int:
    """net/unix/af_unix.c"""
    sk: unix_sock = sock.sk
    if sk.sk_state != TCP_ESTABLISHED:
        raise os_error(errno.EINVAL, "the socket is not connected")
    if flags & uapi.MSG_OOB:
        return unix_stream_recv_urg(sk, msg, flags)
    timeo_ns = 0 if flags & uapi.MSG_DONTWAIT else sk.sk_rcvtimeo_ns
    lowat = sk.sk_rcvlowat
    target = (size if flags & uapi.MSG_WAITALL or size < lowat else lowat) or 1
    peek = bool(flags & uapi.MSG_PEEK)
    passcred = bool(sk.sk_flags & SOCK_PASSCRED)
    queue: sk_buff_head = sk.sk_receive_queue
    scm: scm_cookie | None = None
    check_creds = False
    copied = 0
    skip = sk.sk_peek_off if peek and sk.sk_peek_off > 0 else 0
    skb: sk_buff | None = queue.peek()
    last: sk_buff | None = skb
    last_len = 0 if skb is None else skb.len
    while True:
        if skb is not None and (skb is sk.oob_skb or skb.seq == skb.len):
            skb = manage_oob(skb, sk, flags, copied)
            if skb is None and copied:
                break
        while skb is not None and skip >= skb.len - skb.seq:
            skip -= skb.len - skb.seq
            last = skb
            last_len = skb.len
            skb = queue.next(skb)
        if skb is None:
            if copied >= target:
                break
            try:
                raise_sock_error(sk)
                if sk.sk_shutdown & uapi.RCV_SHUTDOWN:
                    break
                if timeo_ns <= 0:
                    raise os_error(errno.EAGAIN, "nothing to read")
                timeo_ns = unix_stream_data_wait(sk, timeo_ns, last, last_len)
            except OSError:
                if copied:
                    break
                raise
            if peek:
                skip = max(sk.sk_peek_off, 0 if sk.sk_peek_off >= 0 else copied)
            skb = last = queue.peek()
            last_len = 0 if skb is None else skb.len
            continue
        if check_creds:
            assert scm is not None
            if not unix_skb_scm_eq(skb, scm):
                break
        else:
            sender: unix_sock = skb.sk  # type: ignore[assignment]  # who sent it
            msg.msg_name = sender.addr
            if passcred:
                scm = scm_cookie()
                unix_skb_to_scm(skb, scm)
                check_creds = True
        chunk = skb.len - skb.seq - skip
        if chunk > size:
            chunk = size
        skb_copy_datagram_iter(skb, skb.seq + skip, msg, chunk)
        copied += chunk
        size -= chunk
        fds = skb.cb is not None and unix_has_fds(skb)
        off = sk.sk_peek_off
        if not peek:
            skb.seq += chunk
            if off >= 0:
                sk.sk_peek_off = off - chunk if off > chunk else 0
            if fds:
                if scm is None:
                    scm = scm_cookie()
                unix_detach_fds(sk.net, scm, skb)
            if skb.seq < skb.len:
                break
            queue.unlink(skb)
            consume_skb(skb)
            if fds or not size:
                break
            skb = last = queue.peek()
            last_len = 0 if skb is None else skb.len
            continue
        if off >= 0:
            sk.sk_peek_off = off + chunk
        if fds:
            if scm is None:
                scm = scm_cookie()
            unix_peek_fds(scm, skb)
            break
        skip = 0
        last = skb
        last_len = skb.len
        skb = queue.next(skb)
        if skb is None:
            break
    if passcred or scm is not None:
        scm_recv_unix(sk, msg, scm, passcred)
    return copied


def unix_has_fds(skb: sk_buff) -> bool:
    """Whether the message has descriptors."""
    parms: unix_skb_parms = skb.cb
    return parms.fp is not None


def unix_stream_data_wait(sk: unix_sock, timeo_ns: int, last: sk_buff | None, last_len: int) -> int:
    """net/unix/af_unix.c: sleep until the queue's end is no longer `last`; the ns left.

    Raises: OSError EBADF when the socket was closed by another thread in the meantime.
    """
    left = wait_event(sk, timeo_ns, unix_stream_data_came, (last, last_len))
    if sk.sk_flags & SOCK_DEAD:
        raise os_error(errno.EBADF, "socket was closed")
    return left


def unix_stream_data_came(sk: Any, seen: Any) -> bool:
    """Whether `unix_stream_data_wait` may return."""
    last, last_len = seen
    tail = sk.sk_receive_queue.peek_tail()
    return bool(
        tail is not last
        or (tail is not None and tail.len != last_len)
        or sk.sk_err
        or sk.sk_shutdown & uapi.RCV_SHUTDOWN
        or sk.sk_flags & SOCK_DEAD
    )
