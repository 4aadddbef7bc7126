"""A byte out of band in a stream (net/unix/af_unix.c, CONFIG_AF_UNIX_OOB).

The byte is a separate message, to which `oob_skb` points. After it was read out of band, its
message stays in the queue, with length 0, until an ordinary read passes it: it is the mark of
SIOCATMARK.
"""

from __future__ import annotations

import errno

from fastpath.base.skbuff import consume_skb, sk_buff, sk_buff_head
from stack.core.drop_reason import SKB_DROP_REASON_UNIX_SKIP_OOB, kfree_skb_reason
from stack.core.errors import os_error
from stack.core.iov import msghdr, skb_copy_datagram_iter
from stack.core.scm import scm_cookie
from stack.core.sock import sk_data_ready, sk_send_sigurg
from stack.core.sock_flags import SOCK_URGINLINE
from stack.core.uapi import MSG_DONTWAIT, MSG_OOB, MSG_PEEK
from stack.unix.unix_scm import unix_stream_prepare
from stack.unix.unix_skb import sock_alloc_send_pskb
from stack.unix.unix_sock import unix_skb_len, unix_sock


def queue_oob(
    sk: unix_sock, other: unix_sock, msg: msghdr, scm: scm_cookie | None, send_fds: bool
) -> None:
    """net/unix/af_unix.c: send one byte out of band. Raises: OSError as unix_stream_sendmsg."""
    skb = sock_alloc_send_pskb(sk, msg, 1, 0, bool(msg.msg_flags & MSG_DONTWAIT))
    unix_stream_prepare(sk, other, skb, scm, send_fds)
    other.oob_skb = skb
    other.sk_receive_queue.queue_tail(skb)
    sk_send_sigurg(other)
    sk_data_ready(other)


def unix_stream_recv_urg(sk: unix_sock, msg: msghdr, flags: int) -> int:
    """net/unix/af_unix.c: read the byte. Raises: OSError EINVAL when there is none."""
    oob: sk_buff | None = sk.oob_skb
    if sk.sk_flags & SOCK_URGINLINE or oob is None:
        raise os_error(errno.EINVAL, "nothing is out of band")
    if not flags & MSG_PEEK:
        sk.oob_skb = None
        before = sk.sk_receive_queue.prev(oob)
        if before is not None and not unix_skb_len(before):
            sk.sk_receive_queue.unlink(before)
            consume_skb(before)
    skb_copy_datagram_iter(oob, 0, msg, 1)
    if not flags & MSG_PEEK:
        oob.seq += 1
    msg.msg_flags |= MSG_OOB
    return 1


def manage_oob(skb: sk_buff, sk: unix_sock, flags: int, copied: int) -> sk_buff | None:
    """net/unix/af_unix.c: the message that an ordinary read continues with; None: the read ends.

    A read that has data ends at the mark. A read that begins at it skips the byte, which is lost
    unless SO_OOBINLINE makes it ordinary data.
    """
    queue: sk_buff_head = sk.sk_receive_queue
    found: sk_buff | None = skb
    if not unix_skb_len(skb):
        if copied and (sk.oob_skb is None or skb is sk.oob_skb):
            found = None
        elif flags & MSG_PEEK:
            found = queue.next(skb)
        else:
            found = queue.next(skb)
            queue.unlink(skb)
            consume_skb(skb)
    if found is None or found is not sk.oob_skb:
        return found
    if copied:
        return None
    if not flags & MSG_PEEK:
        sk.oob_skb = None
        if not sk.sk_flags & SOCK_URGINLINE:
            queue.unlink(found)
            kfree_skb_reason(sk.net, found, SKB_DROP_REASON_UNIX_SKIP_OOB)
            return queue.peek()
    elif not sk.sk_flags & SOCK_URGINLINE:
        return queue.next(found)
    return found
