"""Readiness, and waiting for room at a peer (net/unix/af_unix.c)."""

from __future__ import annotations

from typing import Any

from stack.core import uapi
from stack.core.bsd_socket import socket
from stack.core.datagram import datagram_poll_begin
from stack.core.fasync import SOCK_WAKE_SPACE
from stack.core.sock import KEY_OUT, sk_set_bit, sk_sleep, sk_wake_async, wait_until
from stack.core.sock_flags import SOCK_DEAD, SOCK_FASYNC, SOCKWQ_ASYNC_NOSPACE
from stack.core.tcp_states import TCP_CLOSE
from stack.core.uapi import POLL_OUT
from stack.core.wait import wake_up_poll
from stack.unix.unix_sock import (
    unix_peer_wake,
    unix_recvq_full,
    unix_sock,
    unix_writable,
)


def unix_write_space(sk: unix_sock) -> None:
    """net/unix/af_unix.c: sk_write_space."""
    if unix_writable(sk):
        wake_up_poll(sk.sk_wq, KEY_OUT)
        if sk.sk_flags & SOCK_FASYNC:
            sk_wake_async(sk, SOCK_WAKE_SPACE, POLL_OUT)


def unix_wait_for_peer(other: unix_sock, timeo_ns: int) -> int:
    """net/unix/af_unix.c: sleep until `other` has room in its queue or is closed; the ns left."""
    other.peer_sleepers += 1
    try:
        return wait_until(other, timeo_ns, unix_peer_has_room, None)
    finally:
        other.peer_sleepers -= 1


def unix_peer_has_room(other: Any, seen: Any) -> bool:
    """Whether `unix_wait_for_peer` may return."""
    return bool(
        other.sk_flags & SOCK_DEAD
        or other.sk_shutdown & uapi.RCV_SHUTDOWN
        or not unix_recvq_full(other)
    )


def unix_wake_peers(sk: unix_sock) -> None:
    """wake_up(&unix_sk(sk)->peer_wait): wake senders, for which the receive queue has room."""
    if sk.peer_sleepers or sk.peer_wait.waiters:
        wake_up_poll(sk.peer_wait, KEY_OUT)


def unix_dgram_peer_wake_connect(sk: unix_sock, other: unix_sock) -> bool:
    """net/unix/af_unix.c: have `sk` woken when `other` has room; False if it already waits."""
    if sk.peer_wake is not None:
        return False
    wake = sk.peer_wake = unix_peer_wake(sk, other)
    other.peer_wait.add(wake.relay)
    return True


def unix_dgram_peer_wake_disconnect(sk: unix_sock, other: unix_sock) -> bool:
    """net/unix/af_unix.c: stop waiting of `sk` for room at `other`; False if it did not wait."""
    wake: unix_peer_wake | None = sk.peer_wake
    if wake is None or wake.other is not other:
        return False
    sk.peer_wake = None
    other.peer_wait.remove(wake.relay)
    return True


def unix_dgram_peer_wake_disconnect_wakeup(sk: unix_sock, other: unix_sock) -> None:
    """net/unix/af_unix.c: unix_dgram_peer_wake_disconnect, and wake those that wait on `sk`."""
    if unix_dgram_peer_wake_disconnect(sk, other):
        wake_up_poll(sk.sk_wq, KEY_OUT)


def unix_dgram_peer_wake_me(sk: unix_sock, other: unix_sock) -> bool:
    """net/unix/af_unix.c: whether `other`'s queue is full; then `sk` is woken when it has room."""
    connected = unix_dgram_peer_wake_connect(sk, other)
    if unix_recvq_full(other) and not other.sk_flags & SOCK_DEAD:
        return True
    if connected:
        unix_dgram_peer_wake_disconnect(sk, other)
    return False


def unix_dgram_wake_once(sk: unix_sock, other: unix_sock) -> None:
    """Wake `sk`, which sends to `other` by address, when `other` has room. asyncio needs this."""
    for fn in other.peer_wait.waiters:
        wake = getattr(fn, "__self__", None)
        if wake is not None and wake.sk is sk:
            return
    other.peer_wait.add(unix_peer_wake(sk, other).relay)


def unix_poll(file: Any, sock: socket, wait: Any) -> int:
    """net/unix/af_unix.c: POLL* of a stream."""
    sk: unix_sock = sock.sk
    if wait is not None:
        sk_sleep(sk).add(wait)
    mask = 0
    shutdown = sk.sk_shutdown
    if sk.sk_err:
        mask |= uapi.POLLERR
    if shutdown == uapi.SHUTDOWN_MASK:
        mask |= uapi.POLLHUP
    if shutdown & uapi.RCV_SHUTDOWN:
        mask |= uapi.POLLRDHUP | uapi.POLLIN | uapi.POLLRDNORM
    if sk.sk_receive_queue.qlen:
        mask |= uapi.POLLIN | uapi.POLLRDNORM
    if sk.oob_skb is not None:
        mask |= uapi.POLLPRI
    if sk.sk_state == TCP_CLOSE and sk.sk_type in (uapi.SOCK_STREAM, uapi.SOCK_SEQPACKET):
        mask |= uapi.POLLHUP
    if unix_writable(sk):
        mask |= uapi.POLLOUT | uapi.POLLWRNORM | uapi.POLLWRBAND
    return mask


def unix_dgram_poll(file: Any, sock: socket, wait: Any) -> int:
    """net/unix/af_unix.c: POLL* of datagrams and SOCK_SEQPACKET.

    It is not writable while a peer that is not connected back has a full queue.
    """
    sk: unix_sock = sock.sk
    mask = datagram_poll_begin(sk, wait)
    if sk.sk_receive_queue.qlen:
        mask |= uapi.POLLIN | uapi.POLLRDNORM
    if sk.sk_type == uapi.SOCK_SEQPACKET and sk.sk_state == TCP_CLOSE:
        mask |= uapi.POLLHUP
    if unix_writable(sk):
        other: unix_sock | None = sk.peer
        if (
            other is None
            or other.peer is sk
            or not unix_recvq_full(other)
            or not unix_dgram_peer_wake_me(sk, other)
        ):
            return mask | uapi.POLLOUT | uapi.POLLWRNORM | uapi.POLLWRBAND
    sk_set_bit(sk, SOCKWQ_ASYNC_NOSPACE)
    return mask
