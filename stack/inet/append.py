"""Collecting the bytes of one datagram, for both families (net/ipv{4,6}/ip{,6}_output.c).

`inet_append_data` starts the datagram with the first piece and discards it after an error. For each
piece a family checks the size against its MTU (`__ip_append_data`, `__ip6_append_data`). Then
`append_data` puts the bytes into an sk_buff. One holds the whole datagram, in its head and then in
pages; the family's fragmentation splits it. Headroom for all headers stays free. They are pushed
when the data is complete, the transport's first; the kernel fills reserved space instead.

These functions are called by a socket's sendmsg and raise OSError.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, NamedTuple

from fastpath.base.skbuff import (
    CHECKSUM_PARTIAL,
    SkbPool,
    alloc_skb,
    kfree_skb,
    sk_buff,
    sk_buff_head,
    skb_tailroom,
)
from stack.core.dst import dst_entry
from stack.core.errors import os_error
from stack.core.iov import add_to_skb, copy_to_skb, msghdr
from stack.core.netdevice import LL_MAX_HEADER, NETIF_F_SG, net_device
from stack.core.sock import skb_set_owner_w, sock_wait_for_wmem
from stack.core.sock_flags import SOCK_ZEROCOPY
from stack.core.sockopt import sockcm_cookie
from stack.core.tstamp import skb_setup_datagram
from stack.core.uapi import (
    IPPROTO_UDP,
    MSG_DONTWAIT,
    MSG_MORE,
    MSG_PROBE,
    MSG_ZEROCOPY,
    SEND_SHUTDOWN,
)
from stack.core.zerocopy import msg_zerocopy_end, msg_zerocopy_start
from stack.inet.flow import flowi
from stack.inet.inet_sock import inet_cork, inet_sock

Getfrag = Callable[[Any, sk_buff, int, "SkbPool"], None]
"""Append n bytes of the user's data to an sk_buff: `getfrag(frm, skb, n, pages)`."""


def ip_generic_getfrag(frm: msghdr, skb: sk_buff, n: int, pages: SkbPool) -> None:
    """net/ipv4/ip_output.c: append `n` bytes of the user's data, as pages once skb is full.

    Raises: OSError ENOBUFS when the host's packet buffers run out, EMSGSIZE when MSG_ZEROCOPY has
    more buffers than a packet has fragments.
    """
    done = (
        copy_to_skb(frm, skb, min(n, skb_tailroom(skb)))
        if not skb.nr_frags and frm.msg_ubuf is None
        else 0
    )
    if done < n:
        done += add_to_skb(frm, skb, pages, n - done)
        if done < n and frm.msg_ubuf is not None:
            raise os_error(errno.EMSGSIZE, "MSG_ZEROCOPY: too many buffers for a packet")
        if done < n:
            raise os_error(errno.ENOBUFS, "no packet buffer left on the host")


def inet_cork_of(sk: inet_sock) -> inet_cork:
    """The socket's cork, created on first use, because connections never need one."""
    if sk.cork is None:
        sk.cork = inet_cork()
    return sk.cork


def setup_cork(
    cork: inet_cork,
    dst: dst_entry,
    fl: flowi,
    fragsize: int,
    gso_size: int,
    mark: int,
    priority: int,
    sockc: sockcm_cookie | None,
) -> None:
    """Start a datagram to `fl` through `dst` in packets of `fragsize` bytes; see inet_cork."""
    cork.base_dst = dst
    cork.fl4 = fl
    cork.fragsize = fragsize
    cork.gso_size = gso_size
    cork.mark = mark
    cork.priority = priority
    cork.sockc = sockc
    cork.length = 0


def append_data(
    sk: inet_sock,
    queue: sk_buff_head | None,
    cork: inet_cork,
    getfrag: Getfrag,
    frm: Any,
    length: int,
    transhdrlen: int,
    flags: int,
    headers: int,
    mtu: int,
    csum: int,
) -> sk_buff:
    """Append `length` bytes to the datagram in `queue`; see __ip_append_data.

    `headers`: bytes of the IP header with its options or extension headers.
    `mtu`: the longest packet that is sent unfragmented.
    `csum`: the features of a device that fills in UDP's checksum behind these headers.

    Raises: OSError ENOBUFS, EAGAIN, EPIPE.
    """
    rt: dst_entry = cork.base_dst
    features = rt.dev.features
    summed = bool(length + headers <= mtu and features & csum and not flags & MSG_MORE)
    begun = queue.peek_tail() if queue is not None else None
    zerocopy = bool(flags & MSG_ZEROCOPY and length and sk.sk_flags & SOCK_ZEROCOPY)
    if zerocopy:
        stays = bool(begun is None and summed and features & NETIF_F_SG)
        uarg = msg_zerocopy_start(sk, begun, frm, length, stays)
    try:
        skb = append_pieces(
            sk, begun, cork, getfrag, frm, length, transhdrlen, flags, headers, summed
        )
    except BaseException:
        if zerocopy:
            msg_zerocopy_end(frm, uarg, False)
        raise
    if zerocopy:
        msg_zerocopy_end(frm, uarg, True, skb)
    if queue is not None and begun is None:
        queue.queue_tail(skb)
    return skb


class cork_ops(NamedTuple):
    """A family's functions for the corked datagram, for `inet_append_data`."""

    setup: Callable[[Any, inet_cork, Any, Any, flowi], None]
    """Start one: `ip_setup_cork(sk, cork, ipc, rt, fl)`."""
    append: Callable[..., sk_buff]
    """`__ip_append_data`."""
    flush: Callable[[Any], None]
    """Discard it: `ip_flush_pending_frames(sk)`."""


def inet_append_data(
    ops: cork_ops,
    sk: inet_sock,
    fl: flowi,
    getfrag: Getfrag,
    frm: Any,
    length: int,
    transhdrlen: int,
    ipc: Any,
    rt: dst_entry | None,
    flags: int,
) -> None:
    """ip_append_data and ip6_append_data: append to the datagram in sk_write_queue.

    `ipc` and `rt` of the first piece apply; it has the transport header. After an error the
    collected data is discarded. Raises: OSError.
    """
    if flags & MSG_PROBE:
        return
    cork = inet_cork_of(sk)
    queue = sk.sk_write_queue
    try:
        if queue.peek_tail() is None:
            assert ipc is not None
            assert rt is not None
            ops.setup(sk, cork, ipc, rt, fl)
        else:
            transhdrlen = 0
        ops.append(sk, fl, queue, cork, getfrag, frm, length, transhdrlen, flags)
    except OSError:
        ops.flush(sk)
        raise


def append_pieces(
    sk: inet_sock,
    skb: sk_buff | None,
    cork: inet_cork,
    getfrag: Getfrag,
    frm: Any,
    length: int,
    transhdrlen: int,
    flags: int,
    headers: int,
    summed: bool,
) -> sk_buff:
    """append_data's copy or reference; `summed`: the device can fill in UDP's checksum."""
    rt: dst_entry = cork.base_dst
    data = length - transhdrlen
    if skb is None:
        refers = getfrag is ip_generic_getfrag and frm.msg_ubuf is not None
        skb = alloc_datagram(sk, rt.dev, 0 if refers else data, headers, transhdrlen, flags)
        if summed and transhdrlen and sk.sk_protocol == IPPROTO_UDP:
            skb.ip_summed = CHECKSUM_PARTIAL
        if cork.sockc is not None:
            skb_setup_datagram(skb, sk, cork.sockc)
    before = skb.truesize
    try:
        getfrag(frm, skb, data, sk.net.skb_pages)
    except OSError:
        if cork.length == 0:
            kfree_skb(skb)
        raise
    if skb.truesize != before and skb.sk is not None:
        skb.sk.sk_wmem_alloc += skb.truesize - before
    cork.length += length
    return skb


def alloc_datagram(
    sk: inet_sock, dev: net_device, data: int, headers: int, transhdrlen: int, flags: int
) -> sk_buff:
    """Allocate an sk_buff for a datagram of `data` bytes or more, charged to sk; may sleep.

    Raises: OSError ENOBUFS, EAGAIN, EPIPE.
    """
    net = sk.net
    headroom = LL_MAX_HEADER + dev.needed_headroom + headers + (transhdrlen or 32)
    pool = net.skb_small
    if headroom > pool.buf_bytes // 2:
        pool = net.skb_pages
    size = pool.buf_bytes - headroom
    if data < size:
        size = data
    elif not dev.features & NETIF_F_SG:
        # For a device that cannot gather, data that fit one big buffer are put in its head.
        pool = net.skb_pages
        size = min(data, pool.buf_bytes - headroom)
    if not transhdrlen:
        if sk.sk_wmem_alloc > 2 * sk.sk_sndbuf:
            raise os_error(errno.ENOBUFS, "send buffer full")
    elif sk.sk_wmem_alloc >= sk.sk_sndbuf or sk.sk_err or sk.sk_shutdown & SEND_SHUTDOWN:
        sock_wait_for_wmem(sk, flags & MSG_DONTWAIT)
    skb: sk_buff | None = None
    if headroom + size <= net.skb_small_head.buf_bytes and not flags & MSG_MORE:
        skb = alloc_skb(net.skb_small_head, size, headroom)
    if skb is None:
        skb = alloc_skb(pool, size, headroom)
    if skb is None:
        raise os_error(errno.ENOBUFS, "no packet buffer left on the host")
    skb_set_owner_w(skb, sk)
    return skb
