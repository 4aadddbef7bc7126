"""Datagrams and SOCK_SEQPACKET between sockets of one host (unix_dgram_*, unix_seqpacket_*).

    sys_sendmsg => unix_dgram_sendmsg       control messages: scm_send
        unix_dgram_send                     room, and a copy of the bytes
            unix_dgram_queue                the receiver: by name, or the connected peer
                sk_filter, unix_may_send    its filter; is it connected to another socket?
                unix_wait_for_peer          its queue is full: sleep, or EAGAIN
                other.sk_receive_queue, sk_data_ready
    sys_recvmsg => unix_dgram_recvmsg       dequeue or peek, copy, scm_recv_unix
    sys_connect => unix_dgram_connect       sets `peer`; unix_dgram_disconnected leaves the old one
    SOCK_SEQPACKET: unix_seqpacket_sendmsg, unix_seqpacket_recvmsg      the same, connected only

State: `peer` (of a connected socket), `sk_receive_queue` (one skb per datagram, whose `sk` is the
sender), `sk_peek_off` (SO_PEEK_OFF). Read unix_dgram_queue first.
"""

from __future__ import annotations

import errno
from typing import Any

from fastpath.base.skbuff import consume_skb, kfree_skb, sk_buff, skb_get
from stack.core import uapi
from stack.core.bsd_socket import socket
from stack.core.datagram import __skb_wait_for_more_packets
from stack.core.drop_reason import SKB_DROP_REASON_UNIX_DISCONNECT, kfree_skb_reason
from stack.core.errors import os_error
from stack.core.iov import msghdr, skb_copy_datagram_iter
from stack.core.pipe import PAGE_SIZE
from stack.core.scm import scm_cookie, scm_destroy, scm_recv_unix, scm_send
from stack.core.security import security_unix_may_send
from stack.core.sock import raise_sock_error, sk_data_ready, sk_error_report, sk_filter
from stack.core.sock_flags import FLAGS_STAMPS, SOCK_DEAD, SOCK_PASSCRED, SOCK_RCVTSTAMP
from stack.core.sockaddr import NO_NAME, SA_FAMILY_LEN, need_sa_len, sockaddr, sockaddr_un
from stack.core.sockopt import sock_recv_timestamp
from stack.core.tcp_states import TCP_CLOSE, TCP_ESTABLISHED
from stack.unix.unix_names import unix_autobind, unix_find_other, unix_validate_addr
from stack.unix.unix_poll import (
    unix_dgram_peer_wake_disconnect_wakeup,
    unix_dgram_peer_wake_me,
    unix_dgram_wake_once,
    unix_wait_for_peer,
    unix_wake_peers,
)
from stack.unix.unix_scm import (
    scm_stat_add,
    unix_check_rights,
    unix_detach_fds,
    unix_maybe_add_creds,
    unix_peek_fds,
    unix_scm_to_skb,
    unix_skb_to_scm,
)
from stack.unix.unix_skb import MAX_FRAGS_BYTES, SKB_MAX_ALLOC, sock_alloc_send_pskb
from stack.unix.unix_sock import unix_may_send, unix_recvq_full, unix_sock


def unix_dgram_disconnected(sk: unix_sock, other: unix_sock) -> None:
    """net/unix/af_unix.c: disconnect `sk` from `other`: drop its unread messages, reset `other`."""
    if not sk.sk_receive_queue.qlen:
        return
    while (skb := sk.sk_receive_queue.dequeue()) is not None:
        kfree_skb_reason(sk.net, skb, SKB_DROP_REASON_UNIX_DISCONNECT)
    unix_wake_peers(sk)
    if not other.sk_flags & SOCK_DEAD and other.peer is sk:
        other.sk_err = errno.ECONNRESET
        sk_error_report(other)


def unix_dgram_connect(sock: socket, uaddr: sockaddr | None, addr_len: int, flags: int) -> int:
    """net/unix/af_unix.c: set the peer, or clear it (AF_UNSPEC).

    Raises: OSError EINVAL, ECONNREFUSED, ENOENT, EPROTOTYPE, EPERM (the peer has another one).
    """
    sk: unix_sock = sock.sk
    other: unix_sock | None = None
    if uaddr is not None:
        need_sa_len(uaddr, SA_FAMILY_LEN)
    if uaddr is not None and uaddr.family != uapi.AF_UNSPEC:
        sunaddr: sockaddr_un = unix_validate_addr(uaddr)
        if sk.sk_flags & SOCK_PASSCRED:
            unix_autobind(sk)
        other = unix_find_other(sk.net, sunaddr, sock.type)
        if not unix_may_send(sk, other):
            raise os_error(errno.EPERM, "the peer is connected with somebody else")
        if sk.net.security is not None:
            unix_ask_security(sk, other)
        sk.sk_state = TCP_ESTABLISHED
        other.sk_state = TCP_ESTABLISHED
    old_peer: unix_sock | None = sk.peer
    sk.peer = other
    if old_peer is not None:
        if other is None:
            sk.sk_state = TCP_CLOSE
        unix_dgram_peer_wake_disconnect_wakeup(sk, old_peer)
        if other is not old_peer:
            unix_dgram_disconnected(sk, old_peer)
            if old_peer.peer is None:
                old_peer.sk_state = TCP_CLOSE
    return 0


def unix_ask_security(sk: unix_sock, other: unix_sock) -> None:
    """Call security_unix_may_send for two socks. Raises: OSError with a module's errno."""
    if sk.sk_socket is None or other.sk_socket is None:
        return  # closed
    err = security_unix_may_send(sk.sk_socket, other.sk_socket)
    if err:
        raise os_error(err)


def unix_dgram_sendmsg(sock: socket, msg: msghdr, size: int) -> int:
    """net/unix/af_unix.c: send one datagram.

    Raises: OSError EMSGSIZE, ENOTCONN, EPERM, ECONNREFUSED, EPIPE, EAGAIN (the peer's queue is
    full), EOPNOTSUPP, what finding the peer raises, and what `scm_send` does.
    """
    sk: unix_sock = sock.sk
    if not msg.msg_control:
        return unix_dgram_send(sk, msg, size, None)
    scm = scm_send(sock, msg)
    try:
        return unix_dgram_send(sk, msg, size, scm)
    finally:
        scm_destroy(scm)


def unix_dgram_send(sk: unix_sock, msg: msghdr, size: int, scm: scm_cookie | None) -> int:
    """The part of `unix_dgram_sendmsg` between scm_send and scm_destroy."""
    flags = msg.msg_flags
    if flags & uapi.MSG_OOB:
        raise os_error(errno.EOPNOTSUPP, "datagrams have nothing out of band")
    sunaddr: sockaddr_un | None = None
    if msg.msg_name is not None and msg.msg_name.sa_len != NO_NAME:
        sunaddr = unix_validate_addr(msg.msg_name)
    if sk.sk_flags & SOCK_PASSCRED:
        unix_autobind(sk)
    if size > sk.sk_sndbuf - 32:
        raise os_error(errno.EMSGSIZE, f"a datagram of {size} bytes does not fit the send buffer")
    data_len = 0
    if size > SKB_MAX_ALLOC:
        data_len = size - SKB_MAX_ALLOC
        if data_len > MAX_FRAGS_BYTES:
            data_len = MAX_FRAGS_BYTES
        data_len = data_len + PAGE_SIZE - 1 & ~(PAGE_SIZE - 1)
    noblock = bool(flags & uapi.MSG_DONTWAIT)
    skb = sock_alloc_send_pskb(sk, msg, size - data_len, data_len, noblock)
    try:
        if scm is not None:
            unix_scm_to_skb(scm, skb, True, sk.net)
        queued = unix_dgram_queue(sk, skb, sunaddr, 0 if noblock else sk.sk_sndtimeo_ns, scm)
    except BaseException:
        kfree_skb(skb)
        raise
    if not queued:
        kfree_skb(skb)
    return size


def unix_dgram_queue(
    sk: unix_sock,
    skb: sk_buff,
    sunaddr: sockaddr_un | None,
    timeo_ns: int,
    scm: scm_cookie | None,
) -> bool:
    """Find the receiver and give it the datagram; False when its filter drops it.

    Takes ownership of skb when it returns True. Raises: OSError as unix_dgram_sendmsg.
    """
    while True:
        other: unix_sock | None = sk.peer
        if sunaddr is not None:
            other = unix_find_other(sk.net, sunaddr, sk.sk_type)
        if other is None:
            raise os_error(errno.ENOTCONN, "the socket has no peer")
        if sk_filter(other, skb) < 0:
            return False
        if not unix_may_send(sk, other):
            raise os_error(errno.EPERM, "the receiver is connected with somebody else")
        if sk.net.security is not None:
            unix_ask_security(sk, other)
        if other.sk_flags & SOCK_DEAD:
            raise unix_dgram_dead(sk, other)
        if other.sk_shutdown & uapi.RCV_SHUTDOWN:
            raise os_error(errno.EPIPE, "the receiver does not read any more")
        if scm is not None:
            unix_check_rights(other, skb)
        if other is sk or other.peer is sk or not unix_recvq_full(other):
            break
        if timeo_ns > 0:
            timeo_ns = unix_wait_for_peer(other, timeo_ns)
            continue
        if sk.peer is not other:
            unix_dgram_wake_once(sk, other)
            raise os_error(errno.EAGAIN, "the receiver's queue is full")
        if unix_dgram_peer_wake_me(sk, other):
            raise os_error(errno.EAGAIN, "the receiver's queue is full")
    if (sk.sk_flags | other.sk_flags) & SOCK_PASSCRED or other.sk_socket is None:
        unix_maybe_add_creds(skb, sk, other)
    if other.sk_flags & SOCK_RCVTSTAMP:
        skb.tstamp_ns = sk.net.clock.now_ns()
    if scm is not None:
        scm_stat_add(other, skb)
    other.sk_receive_queue.queue_tail(skb)
    sk_data_ready(other)
    return True


def unix_dgram_dead(sk: unix_sock, other: unix_sock) -> OSError:
    """The error for a closed receiver; if it was the sender's peer, disconnect."""
    if sk.sk_type == uapi.SOCK_SEQPACKET:
        return os_error(errno.EPIPE, "the peer is closed")
    if sk.peer is not other:
        return os_error(errno.ECONNRESET, "the receiver was closed")
    sk.peer = None
    unix_dgram_peer_wake_disconnect_wakeup(sk, other)
    sk.sk_state = TCP_CLOSE
    unix_dgram_disconnected(sk, other)
    return os_error(errno.ECONNREFUSED, "the peer was closed")


def unix_dgram_recvmsg(sock: socket, msg: msghdr, size: int, flags: int) -> int:
    """net/unix/af_unix.c: the next datagram.

    Raises: OSError EAGAIN, the pending error, EOPNOTSUPP for MSG_OOB.
    """
    sk: unix_sock = sock.sk
    if flags & uapi.MSG_OOB:
        raise os_error(errno.EOPNOTSUPP, "datagrams have nothing out of band")
    timeo_ns = 0 if flags & uapi.MSG_DONTWAIT else sk.sk_rcvtimeo_ns
    peek = bool(flags & uapi.MSG_PEEK)
    skip = 0
    while True:
        if sk.sk_err:
            raise_sock_error(sk)
        skb: sk_buff | None
        if peek:
            skb, skip = unix_peek_datagram(sk)
        else:
            skb = sk.sk_receive_queue.dequeue()
        if skb is not None:
            break
        if sk.sk_shutdown & uapi.RCV_SHUTDOWN and (
            timeo_ns > 0 or sk.sk_type == uapi.SOCK_SEQPACKET
        ):
            return 0
        if timeo_ns <= 0:
            raise os_error(errno.EAGAIN, "no datagram waits")
        timeo_ns = __skb_wait_for_more_packets(sk, sk.sk_receive_queue, timeo_ns)
    if sk.peer_sleepers or sk.peer_wait.waiters:
        unix_wake_peers(sk)
    sender: unix_sock = skb.sk  # type: ignore[assignment]  # who sent it
    msg.msg_name = sender.addr
    left = skb.len - skip
    if size > left:
        size = left
    elif size < left:
        msg.msg_flags |= uapi.MSG_TRUNC
    skb_copy_datagram_iter(skb, skip, msg, size)
    if sk.sk_flags & FLAGS_STAMPS:
        sock_recv_timestamp(msg, sk, skb, False)
    off = sk.sk_peek_off
    if off >= 0:
        if peek:
            sk.sk_peek_off = off + size
        else:
            sk.sk_peek_off = off - skb.len if off > skb.len else 0
    passcred = bool(sk.sk_flags & SOCK_PASSCRED)
    if passcred or skb.cb is not None:
        scm = scm_cookie()
        unix_skb_to_scm(skb, scm)
        if peek:
            unix_peek_fds(scm, skb)
        else:
            unix_detach_fds(sk.net, scm, skb)
        scm_recv_unix(sk, msg, scm, passcred)
    consume_skb(skb)
    return left if flags & uapi.MSG_TRUNC else size


def unix_peek_datagram(sk: unix_sock) -> Any:
    """net/core/datagram.c (__skb_try_recv_from_queue with MSG_PEEK): (skb, offset in it).

    skb has one more reference; None when there is nothing at SO_PEEK_OFF.
    """
    off = sk.sk_peek_off
    at_off = off >= 0
    if not at_off:
        off = 0
    for skb in sk.sk_receive_queue:
        if at_off and off >= skb.len and (off or skb.peeked):
            off -= skb.len
            continue
        if not skb.len:
            skb.peeked = 1
        return skb_get(skb), off
    return None, 0


# --- SOCK_SEQPACKET ------------------------------------------------------------------------


def unix_seqpacket_sendmsg(sock: socket, msg: msghdr, size: int) -> int:
    """net/unix/af_unix.c: a message to the peer. Raises: OSError ENOTCONN, the pending error."""
    sk: unix_sock = sock.sk
    raise_sock_error(sk)
    if sk.sk_state != TCP_ESTABLISHED:
        raise os_error(errno.ENOTCONN, "the socket is not connected")
    msg.msg_name = None
    return unix_dgram_sendmsg(sock, msg, size)


def unix_seqpacket_recvmsg(sock: socket, msg: msghdr, size: int, flags: int) -> int:
    """net/unix/af_unix.c: the peer's next message. Raises: OSError ENOTCONN."""
    sk: unix_sock = sock.sk
    if sk.sk_state != TCP_ESTABLISHED:
        raise os_error(errno.ENOTCONN, "the socket is not connected")
    return unix_dgram_recvmsg(sock, msg, size, flags)
