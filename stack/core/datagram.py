"""Receiving from datagram sockets (net/core/datagram.c)."""

from __future__ import annotations

import errno
from typing import Any

from fastpath.base.skbuff import sk_buff, sk_buff_head, skb_get
from stack.core import uapi
from stack.core.bsd_socket import socket
from stack.core.errors import os_error
from stack.core.sock import (
    raise_sock_error,
    sk_set_bit,
    sk_sleep,
    sk_wait_event,
    sock,
    sock_writeable,
    wait_event,
)
from stack.core.sock_flags import SOCK_DEAD, SOCK_SELECT_ERR_QUEUE, SOCKWQ_ASYNC_NOSPACE
from stack.core.tcp_states import TCP_CLOSE, TCP_ESTABLISHED, TCP_LISTEN, TCP_SYN_SENT


def connection_based(sk: sock) -> bool:
    """net/core/datagram.c: whether the type needs a connection to receive."""
    return sk.sk_type in (uapi.SOCK_SEQPACKET, uapi.SOCK_STREAM)


def __skb_try_recv_from_queue(
    queue: sk_buff_head, flags: int, off: list[int] | None
) -> sk_buff | None:
    """net/core/datagram.c: the next packet, None when there is none.

    MSG_PEEK leaves it on the queue with one more reference. `off` is SO_PEEK_OFF in a list of one:
    the bytes to skip before the call, the offset in the returned packet after it.
    """
    if not flags & uapi.MSG_PEEK or off is None:
        return queue.dequeue()
    left: int = off[0]
    for skb in queue:
        if left > 0 and left >= skb.len:
            left -= skb.len
            continue
        skb.peeked = 1
        off[0] = max(left, 0)
        return skb_get(skb)
    return None


def __skb_recv_datagram(
    sk: sock, queue: sk_buff_head, flags: int, off: list[int] | None
) -> sk_buff | None:
    """net/core/datagram.c: the next packet, waiting as the socket allows; None after shutdown.

    `off` as in __skb_try_recv_from_queue. Raises: OSError EAGAIN, ENOTCONN, the pending error.
    """
    timeo_ns = 0 if flags & uapi.MSG_DONTWAIT else sk.sk_rcvtimeo_ns
    while True:
        if sk.sk_err:
            raise_sock_error(sk)
        skb: sk_buff | None = __skb_try_recv_from_queue(queue, flags, off)
        if skb is not None:
            return skb
        if timeo_ns <= 0:  # as in Linux, a reader that does not wait gets EAGAIN after shutdown too
            raise os_error(errno.EAGAIN, "no packet is waiting")
        if sk.sk_shutdown & uapi.RCV_SHUTDOWN:
            return None
        if connection_based(sk) and sk.sk_state not in (TCP_ESTABLISHED, TCP_LISTEN):
            raise os_error(errno.ENOTCONN, "socket is not connected")
        timeo_ns = __skb_wait_for_more_packets(sk, queue, timeo_ns)


def __skb_wait_for_more_packets(sk: sock, queue: sk_buff_head, timeo_ns: int) -> int:
    """net/core/datagram.c: sleep until the queue grows, an error, shutdown. Returns the ns left.

    Raises: OSError EBADF when the socket was closed by another thread in the meantime.
    """
    if sk.sk_lock_owned:
        left = sk_wait_event(sk, timeo_ns, skb_came, queue)
    else:
        left = wait_event(sk, timeo_ns, skb_came, queue)
    if sk.sk_flags & SOCK_DEAD:
        raise os_error(errno.EBADF, "socket was closed")
    return left


def skb_came(sk: sock, queue: sk_buff_head) -> bool:
    """The condition of `__skb_wait_for_more_packets`."""
    return bool(
        queue.qlen or sk.sk_err or sk.sk_shutdown & uapi.RCV_SHUTDOWN or sk.sk_flags & SOCK_DEAD
    )


def skb_recv_datagram(sk: sock, flags: int) -> sk_buff | None:
    """net/core/datagram.c: the next packet of sk_receive_queue; None after shutdown.

    Raises: OSError EAGAIN or the pending error.
    """
    return __skb_recv_datagram(
        sk, sk.sk_receive_queue, flags, [0] if flags & uapi.MSG_PEEK else None
    )


def datagram_poll_begin(sk: sock, wait: Any) -> int:
    """The start of a datagram socket's poll: POLL* of errors and shutdown."""
    if wait is not None:
        sk_sleep(sk).add(wait)
    mask = 0
    if sk.sk_err or sk.sk_error_queue.qlen:
        mask |= uapi.POLLERR
        if sk.sk_flags & SOCK_SELECT_ERR_QUEUE:
            mask |= uapi.POLLPRI
    if sk.sk_shutdown & uapi.RCV_SHUTDOWN:
        mask |= uapi.POLLRDHUP | uapi.POLLIN | uapi.POLLRDNORM
    if sk.sk_shutdown & uapi.SHUTDOWN_MASK == uapi.SHUTDOWN_MASK:
        mask |= uapi.POLLHUP
    return mask


def datagram_poll(file: Any, sock: socket, wait: Any) -> int:
    """net/core/datagram.c: POLL* of a datagram socket. `wait`: callback to add to its queue."""
    sk = sock.sk
    mask = datagram_poll_begin(sk, wait)
    if sk.sk_receive_queue.qlen:
        mask |= uapi.POLLIN | uapi.POLLRDNORM
    if connection_based(sk):
        if sk.sk_state == TCP_CLOSE:
            mask |= uapi.POLLHUP
        if sk.sk_state == TCP_SYN_SENT:
            return mask
    if sock_writeable(sk):
        mask |= uapi.POLLOUT | uapi.POLLWRNORM | uapi.POLLWRBAND
    else:
        sk_set_bit(sk, SOCKWQ_ASYNC_NOSPACE)
    return mask
