"""Messages as sk_buffs (net/core/sock.c: sock_alloc_send_pskb).

They are in the host's packet memory. A message is charged to the send buffer as much as on Linux,
whose allocator rounds up differently.
"""

from __future__ import annotations

import errno

from fastpath.base.skbuff import alloc_skb, kfree_skb, sk_buff, skb_append_linear
from stack.core.errors import os_error
from stack.core.iov import add_to_skb, copy_to_skb, msghdr
from stack.core.pipe import PAGE_SIZE
from stack.core.sock import skb_set_owner_w, sock_wait_for_wmem
from stack.core.uapi import SEND_SHUTDOWN
from stack.unix.unix_sock import unix_sock

SHARED_INFO_BYTES = 320  # SKB_DATA_ALIGN(sizeof(struct skb_shared_info))
SKB_BYTES = 256  # SKB_DATA_ALIGN(sizeof(struct sk_buff))
KMALLOC_BYTES = 512  # the smallest that holds a header with its shared info
SKB_MAX_HEAD = PAGE_SIZE - SHARED_INFO_BYTES
SKB_MAX_ALLOC = 4 * PAGE_SIZE - SHARED_INFO_BYTES
MAX_FRAGS_BYTES = 17 * PAGE_SIZE  # MAX_SKB_FRAGS of a Linux as it is configured

SMALL_BYTES = 640  # of net.skb_small_head
LINEAR_BYTES = 2048  # of net.skb_small
PAGE_BYTES = 32768  # of net.skb_pages
IN_SMALL_BYTES = 8192
"""Bytes at most that are put into small buffers."""


def unix_truesize(header_len: int, data_len: int) -> int:
    """skb->truesize of Linux: a kmalloc for the header, whole pages for the rest."""
    need = (header_len + 63 & ~63) + SHARED_INFO_BYTES
    head = KMALLOC_BYTES
    while head < need:
        head += head
    return head + SKB_BYTES + (data_len + PAGE_SIZE - 1 & ~(PAGE_SIZE - 1))


def sock_alloc_send_pskb(
    sk: unix_sock, msg: msghdr, header_len: int, data_len: int, noblock: bool
) -> sk_buff:
    """net/core/sock.c: the next bytes of `msg`, charged to sk; waits for send memory.

    Raises: OSError EPIPE, EAGAIN, ENOBUFS or the pending error.
    """
    if sk.sk_wmem_alloc >= sk.sk_sndbuf or sk.sk_err or sk.sk_shutdown & SEND_SHUTDOWN:
        sock_wait_for_wmem(sk, noblock)
    size = header_len + data_len
    net = sk.net
    linear = size if size < LINEAR_BYTES else LINEAR_BYTES
    skb: sk_buff | None = None
    if size <= SMALL_BYTES:
        skb = alloc_skb(net.skb_small_head, size)
    if skb is None:
        skb = alloc_skb(net.skb_small, linear)
    if skb is None:
        raise no_memory(sk)
    if msg.more is None:
        done = skb_append_linear(skb, msg.buf, msg.off, linear)
        msg.off += done
        msg.count -= done
    else:
        done = copy_to_skb(msg, skb, linear)
    if done < size:
        unix_add_rest(sk, skb, msg, size - done)
    skb.truesize = unix_truesize(header_len, data_len)
    skb_set_owner_w(skb, sk)
    return skb


def unix_add_rest(sk: unix_sock, skb: sk_buff, msg: msghdr, rest: int) -> None:
    """Append `rest` bytes as fragments: in pages, or in small buffers if they are few.

    Raises: OSError ENOBUFS; the sk_buff is freed then.
    """
    net = sk.net
    if rest > IN_SMALL_BYTES:
        pages = rest & ~(PAGE_BYTES - 1)
        if rest - pages > IN_SMALL_BYTES:
            pages = rest
        if add_to_skb(msg, skb, net.skb_pages, pages) < pages:
            kfree_skb(skb)
            raise no_memory(sk)
        rest -= pages
    if rest and add_to_skb(msg, skb, net.skb_small, rest) < rest:
        kfree_skb(skb)
        raise no_memory(sk)


def no_memory(sk: unix_sock) -> OSError:
    """The error to raise when the host's packet memory is used up."""
    return os_error(errno.ENOBUFS, f"no packet buffer left on host {sk.net.name}")
