"""The error queue of a socket (include/uapi/linux/errqueue.h, linux/errqueue.h)."""

from __future__ import annotations

import errno
import struct

from fastpath.base.skbuff import sk_buff, skb_copy_bits
from stack.core.errors import os_error
from stack.core.iov import msghdr, skb_read_datagram
from stack.core.rows import state
from stack.core.sock import sk_error_report, sock
from stack.core.sockaddr import sockaddr
from stack.core.sockopt import put_cmsg, sock_recv_timestamp
from stack.core.uapi import (
    MSG_ERRQUEUE,
    SCM_TIMESTAMPING_OPT_STATS,
    SO_EE_ORIGIN_ICMP,
    SO_EE_ORIGIN_ICMP6,
    SO_EE_ORIGIN_TIMESTAMPING,
    SOL_SOCKET,
)

EXTENDED_ERR = struct.Struct("=IBBBBII")


@state
class sock_exterr_skb:
    """struct sock_exterr_skb (skb.cb on the error queue): the extended error and where it is from.

    `name` is the destination of the failed packet, `offender` the sender of the ICMP error or None.
    A MSG_ZEROCOPY notification has neither.
    """

    ee_errno: int
    ee_origin: int
    ee_type: int
    ee_code: int
    ee_info: int
    name: sockaddr | None
    offender: sockaddr | None = None
    ee_data: int = 0
    opt_stats: bool = False
    """Its payload is for SCM_TIMESTAMPING_OPT_STATS."""
    opt: object = None
    """The IPv4 options of the ICMP error (struct ip_options), None when it has none."""

    def pack(self) -> bytes:
        """struct sock_extended_err."""
        info = self.ee_info & 0xFFFFFFFF
        return EXTENDED_ERR.pack(
            self.ee_errno, self.ee_origin, self.ee_type, self.ee_code, 0, info, self.ee_data
        )


def sock_recv_errqueue(sk: sock, msg: msghdr, length: int) -> tuple[int, sk_buff]:
    """net/core/sock.c: read the oldest error's payload: (bytes copied, its sk_buff).

    The caller makes its control message, frees the sk_buff and calls `sock_next_error`.
    Raises: BlockingIOError when the queue is empty, OSError EFAULT.
    """
    skb = sk.sk_error_queue.dequeue()
    if skb is None:
        raise os_error(errno.EAGAIN, "the error queue is empty")
    copied = skb_read_datagram(skb, msg, length)
    serr = skb.cb
    if (
        sock_recv_timestamp(msg, sk, skb, True)
        and isinstance(serr, sock_exterr_skb)
        and serr.opt_stats
    ):
        put_cmsg(msg, SOL_SOCKET, SCM_TIMESTAMPING_OPT_STATS, skb_copy_bits(skb, 0, skb.len))
    msg.msg_flags |= MSG_ERRQUEUE
    return copied, skb


def is_icmp_err(serr: object) -> bool:
    """net/core/skbuff.c (is_icmp_err_skb): whether an ICMP message caused the error."""
    return isinstance(serr, sock_exterr_skb) and serr.ee_origin in (
        SO_EE_ORIGIN_ICMP,
        SO_EE_ORIGIN_ICMP6,
    )


def is_stamp(serr: sock_exterr_skb) -> bool:
    """The time stamp of a sent packet, not an error."""
    return serr.ee_origin == SO_EE_ORIGIN_TIMESTAMPING


def sock_next_error(sk: sock, read: object = None) -> None:
    """net/core/skbuff.c (sock_dequeue_err_skb): the queue's next error becomes the pending one.

    `read` is the entry taken off. Only ICMP errors become pending errors. Time stamps and notices
    about MSG_ZEROCOPY do not change `sk_err`.
    """
    head = sk.sk_error_queue.peek()
    serr = head.cb if head is not None else None
    if isinstance(serr, sock_exterr_skb) and is_icmp_err(serr):
        sk.sk_err = serr.ee_errno
    elif is_icmp_err(read):
        sk.sk_err = 0
    if head is not None:
        sk_error_report(sk)
