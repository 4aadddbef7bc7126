"""The error queue of a socket (include/uapi/linux/errqueue.h, linux/errqueue.h)."""

from __future__ import annotations

import errno
import struct

from fastpath.base.skbuff import sk_buff
from stack.core.errors import os_error
from stack.core.iov import msghdr, skb_read_datagram
from stack.core.rows import state
from stack.core.sock import sk_error_report, sock
from stack.core.sockaddr import sockaddr
from stack.core.sockopt import sock_recv_cmsgs
from stack.core.uapi import MSG_ERRQUEUE, SO_EE_ORIGIN_ZEROCOPY

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
    sock_recv_cmsgs(msg, sk, skb)
    msg.msg_flags |= MSG_ERRQUEUE
    return copied, skb


def sock_next_error(sk: sock, read: object = None) -> None:
    """net/core/skbuff.c (sock_dequeue_err_skb): the queue's next error becomes the pending one.

    `read` is the error that was taken off. A MSG_ZEROCOPY notification is never the pending error,
    so taking one does not clear `sk_err`.
    """
    head = sk.sk_error_queue.peek()
    serr = head.cb if head is not None else None
    if isinstance(read, sock_exterr_skb) and read.ee_origin == SO_EE_ORIGIN_ZEROCOPY:
        if head is not None:
            if isinstance(serr, sock_exterr_skb) and serr.ee_errno:
                sk.sk_err = serr.ee_errno
            sk_error_report(sk)
        return
    sk.sk_err = serr.ee_errno if isinstance(serr, sock_exterr_skb) else 0
    if sk.sk_err:
        sk_error_report(sk)
