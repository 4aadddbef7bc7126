"""Collecting datagrams: the cork of IPv6 (net/ipv6/ip6_output.c).

One sk_buff holds the whole datagram, in its head and then in pages; ip6_fragment cuts it. As for
IPv4 the headers are pushed after the data: the transport's by its protocol, IPv6's by
`ip6_finish_header`. These functions are called by a socket's sendmsg and raise OSError.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastpath.hdr import ipv6_push
from fastpath.skbuff import CHECKSUM_PARTIAL, alloc_skb, kfree_skb, sk_buff, skb_cow_head
from stack.core.errors import os_error
from stack.core.netdevice import NETIF_F_HW_CSUM, NETIF_F_IPV6_CSUM, NETIF_F_SG
from stack.core.rows import row, state
from stack.core.sock import SOCK_ZEROCOPY, sock_wait_for_wmem, sock_wfree
from stack.core.uapi import (
    IPPROTO_ICMPV6,
    IPPROTO_RAW,
    IPPROTO_UDP,
    MSG_DONTWAIT,
    MSG_MORE,
    MSG_PROBE,
    MSG_ZEROCOPY,
    SEND_SHUTDOWN,
)
from stack.core.zerocopy import msg_zerocopy_end, msg_zerocopy_start
from stack.inet.flow import flowi
from stack.inet.inet_sock import inet_cork_of
from stack.ipv4.ip_output import ip_generic_getfrag
from stack.ipv6.ip6_output import (
    IPV6_HLEN,
    LL_MAX_HEADER,
    ip6_autoflowlabel,
    ip6_make_flowlabel,
    ip6_send_skb,
    ip6_sk_dst_hoplimit,
)
from stack.ipv6.pinfo import (
    IPV6_PMTUDISC_DO,
    IPV6_PMTUDISC_OMIT,
    IPV6_PMTUDISC_PROBE,
    inet6_cork,
    ipv6_pinfo,
)
from stack.ipv6.rt6_info import IP6_MAX_MTU, IPV6_MAXPLEN, IPV6_MIN_MTU, ip6_mtu, rt6_info
from stack.ipv6.txoptions import ipv6_push_frag_opts, ipv6_push_nfrag_opts, ipv6_txoptions

if TYPE_CHECKING:
    from fastpath.skbuff import SkbPool
    from stack.inet.inet_sock import inet_cork, inet_sock

FRAG_HLEN = 8

Getfrag = Callable[[Any, sk_buff, int, "SkbPool"], None]
"""Append n bytes of the user's data to an sk_buff: `getfrag(frm, skb, n, pages)`."""


@state
class ipcm6_cookie:
    """struct ipcm6_cookie: IPv6's parameters of one sendmsg. -1: the socket's or the route's."""

    hlimit: int = row(-1)
    tclass: int = row(-1)
    dontfrag: bool = row(False)
    gso_size: int = row(0)
    opt: ipv6_txoptions | None = row()
    mark: int = row(0)
    priority: int = row(0)

    def __init__(self, sk: inet_sock | None = None) -> None:
        self.hlimit = -1
        self.tclass = -1
        self.dontfrag = False
        self.gso_size = 0
        self.opt = None
        self.mark = sk.sk_mark if sk is not None else 0
        self.priority = sk.sk_priority if sk is not None else 0
        np = sk.pinet6 if sk is not None else None
        if np is not None:
            self.tclass = np.tclass
            self.dontfrag = np.dontfrag


def ip6_sk_ignore_df(np: ipv6_pinfo | None) -> bool:
    """include/net/ip6_route.h: may packets of this socket be fragmented here?"""
    return np is None or np.pmtudisc < IPV6_PMTUDISC_DO or np.pmtudisc == IPV6_PMTUDISC_OMIT


def ip6_setup_cork(
    sk: inet_sock,
    cork: inet_cork,
    v6_cork: inet6_cork,
    ipc6: ipcm6_cookie,
    rt: rt6_info,
    fl6: flowi,
) -> None:
    """net/ipv6/ip6_output.c: start a datagram. Raises: OSError EINVAL (MTU below 1280)."""
    np = sk.pinet6
    if np is not None and np.pmtudisc >= IPV6_PMTUDISC_PROBE:
        mtu = min(rt.dev.mtu, IP6_MAX_MTU)
    else:
        mtu = ip6_mtu(rt)
    if np is not None and np.frag_size and np.frag_size < mtu:
        mtu = np.frag_size
    if mtu < IPV6_MIN_MTU:
        raise os_error(errno.EINVAL)
    v6_cork.opt = ipc6.opt
    v6_cork.hop_limit = ipc6.hlimit
    v6_cork.tclass = ipc6.tclass
    v6_cork.dontfrag = ipc6.dontfrag
    cork.fragsize = mtu
    cork.gso_size = ipc6.gso_size
    cork.base_dst = rt
    cork.length = 0
    cork.mark = ipc6.mark
    cork.priority = ipc6.priority
    cork.fl4 = fl6


def _check_size(
    sk: inet_sock,
    fl6: flowi,
    cork: inet_cork,
    v6_cork: inet6_cork,
    total: int,
    headersize: int,
) -> None:
    """Check that `total` bytes fit behind the headers' `headersize`. Raises: OSError EMSGSIZE."""
    sockets = sk.net.ipv6.sockets
    mtu = IP6_MAX_MTU if cork.gso_size else cork.fragsize
    if total > mtu - headersize and v6_cork.dontfrag and sk.sk_protocol in _DONTFRAG_PROTOCOLS:
        sockets.local_rxpmtu(sk, fl6, mtu - headersize + IPV6_HLEN)
    else:
        most = IPV6_HLEN + IPV6_MAXPLEN if ip6_sk_ignore_df(sk.pinet6) else mtu
        if total <= most - headersize:
            return
    sockets.local_error(sk, errno.EMSGSIZE, fl6, max(mtu - headersize + IPV6_HLEN, 0))
    raise os_error(errno.EMSGSIZE)


_DONTFRAG_PROTOCOLS = (IPPROTO_UDP, IPPROTO_ICMPV6, IPPROTO_RAW)


def __ip6_append_data(
    sk: inet_sock,
    fl6: flowi,
    skb: sk_buff | None,
    cork: inet_cork,
    v6_cork: inet6_cork,
    getfrag: Getfrag,
    frm: Any,
    length: int,
    transhdrlen: int,
    flags: int,
) -> sk_buff:
    """net/ipv6/ip6_output.c: append `length` bytes to the corked datagram `skb`.

    In the first call `length` includes the transport header of `transhdrlen` bytes, for which
    headroom stays free. Raises: OSError EMSGSIZE, ENOBUFS, EAGAIN, EPIPE.
    """
    rt: rt6_info = cork.base_dst
    net = sk.net
    optlen = v6_cork.opt.tot_len if v6_cork.opt is not None else 0
    headersize = IPV6_HLEN + optlen
    _check_size(sk, fl6, cork, v6_cork, cork.length + length, headersize)
    data = length - transhdrlen
    if flags & MSG_ZEROCOPY and length and sk.sk_flags & SOCK_ZEROCOPY:
        stays = (
            skb is None
            and rt.dev.features & NETIF_F_SG
            and rt.dev.features & (NETIF_F_HW_CSUM | NETIF_F_IPV6_CSUM)
            and length + headersize <= (IP6_MAX_MTU if cork.gso_size else cork.fragsize)
            and not optlen
            and not flags & MSG_MORE
        )
        uarg = msg_zerocopy_start(sk, skb, frm, length, bool(stays))
        plain = flags & ~MSG_ZEROCOPY
        try:
            skb = __ip6_append_data(
                sk, fl6, skb, cork, v6_cork, getfrag, frm, length, transhdrlen, plain
            )
        except BaseException:
            msg_zerocopy_end(frm, uarg, False)
            raise
        msg_zerocopy_end(frm, uarg, True, skb)
        return skb
    if skb is None:
        dev = rt.dev
        headroom = LL_MAX_HEADER + dev.needed_headroom + headersize + (transhdrlen or 32)
        pool = net.skb_small
        if headroom > pool.buf_bytes // 2:
            pool = net.skb_pages
        size = pool.buf_bytes - headroom
        if getfrag is ip_generic_getfrag and frm.msg_ubuf is not None:
            size = 0  # the headers alone
        elif data < size:
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
        if headroom + size <= net.skb_small_head.buf_bytes and not flags & MSG_MORE:
            skb = alloc_skb(net.skb_small_head, size, headroom)
        if skb is None:
            skb = alloc_skb(pool, size, headroom)
        if skb is None:
            raise os_error(errno.ENOBUFS, "no packet buffer left on the host")
        skb.sk = sk
        skb.destructor = sock_wfree
        sk.sk_wmem_alloc += skb.truesize
        if (
            length + headersize <= (IP6_MAX_MTU if cork.gso_size else cork.fragsize)
            and dev.features & (NETIF_F_HW_CSUM | NETIF_F_IPV6_CSUM)
            and not optlen
            and sk.sk_protocol == IPPROTO_UDP
            and not flags & MSG_MORE
        ):
            skb.ip_summed = CHECKSUM_PARTIAL
    before = skb.truesize
    try:
        getfrag(frm, skb, data, net.skb_pages)
    except OSError:
        if cork.length == 0:
            kfree_skb(skb)
        raise
    if skb.truesize != before and skb.sk is not None:
        skb.sk.sk_wmem_alloc += skb.truesize - before
    cork.length += length
    return skb


def ip6_append_data(
    sk: inet_sock,
    getfrag: Getfrag,
    frm: Any,
    length: int,
    transhdrlen: int,
    ipc6: ipcm6_cookie,
    fl6: flowi,
    rt: rt6_info,
    flags: int,
) -> int:
    """net/ipv6/ip6_output.c: append to the datagram in sk_write_queue. Raises: OSError."""
    if flags & MSG_PROBE:
        return 0
    np = sk.pinet6
    assert np is not None
    queue = sk.sk_write_queue
    skb = queue.peek_tail()
    cork, v6_cork = inet_cork_of(sk), np.cork
    if skb is None:
        ip6_setup_cork(sk, cork, v6_cork, ipc6, rt, fl6)
        skb = __ip6_append_data(
            sk, fl6, None, cork, v6_cork, getfrag, frm, length, transhdrlen, flags
        )
        queue.queue_tail(skb)
    else:
        assert cork.fl4 is not None
        __ip6_append_data(sk, cork.fl4, skb, cork, v6_cork, getfrag, frm, length, 0, flags)
    return 0


def __ip6_make_skb(sk: inet_sock, skb: sk_buff, cork: inet_cork) -> sk_buff:
    """net/ipv6/ip6_output.c: set a datagram's metadata; `ip6_finish_header` pushes its headers."""
    skb.ignore_df = ip6_sk_ignore_df(sk.pinet6)
    skb.priority = cork.priority or sk.sk_priority
    skb.mark = cork.mark
    skb.dst = cork.base_dst
    return skb


def ip6_make_skb(
    sk: inet_sock,
    getfrag: Getfrag,
    frm: Any,
    length: int,
    transhdrlen: int,
    ipc6: ipcm6_cookie,
    rt: rt6_info,
    fl6: flowi,
    flags: int,
    cork: inet_cork,
    v6_cork: inet6_cork,
) -> sk_buff | None:
    """net/ipv6/ip6_output.c: make a datagram without the socket's cork. Raises: OSError.

    It has no transport and no IPv6 header yet. None with MSG_PROBE.
    """
    if flags & MSG_PROBE:
        return None
    # Sleep before changing the cork: another thread may send on this socket meanwhile.
    if sk.sk_wmem_alloc >= sk.sk_sndbuf:
        sock_wait_for_wmem(sk, flags & MSG_DONTWAIT)
    ip6_setup_cork(sk, cork, v6_cork, ipc6, rt, fl6)
    skb = __ip6_append_data(sk, fl6, None, cork, v6_cork, getfrag, frm, length, transhdrlen, flags)
    return __ip6_make_skb(sk, skb, cork)


def ip6_finish_header(
    sk: inet_sock, fl6: flowi, skb: sk_buff, cork: inet_cork, v6_cork: inet6_cork
) -> None:
    """The second half of __ip6_make_skb: push extension headers and the IPv6 header.

    Data at the transport header. Raises: OSError ENOBUFS.
    """
    net = sk.net
    rt: rt6_info = cork.base_dst
    proto = fl6.flowi_proto
    daddr = fl6.daddr
    opt = v6_cork.opt
    if opt is not None:
        if not skb_cow_head(skb, LL_MAX_HEADER + IPV6_HLEN + opt.tot_len):
            kfree_skb(skb)
            raise os_error(errno.ENOBUFS)
        proto = ipv6_push_frag_opts(skb, opt, proto)
        proto, daddr = ipv6_push_nfrag_opts(skb, opt, proto, daddr)
    hlimit = v6_cork.hop_limit
    if hlimit < 0:
        hlimit = ip6_sk_dst_hoplimit(sk.pinet6, daddr, rt)
    label = ip6_make_flowlabel(net, skb.hash, fl6.flowlabel, ip6_autoflowlabel(net, sk.pinet6), fl6)
    ipv6_push(skb, max(v6_cork.tclass, 0), label, skb.len, proto, hlimit, fl6.saddr, daddr)
    net.mib.ip6.OutRequests += 1


def ip6_push_pending_frames(
    sk: inet_sock,
    fl6: flowi,
    skb: sk_buff | None = None,
    cork: inet_cork | None = None,
    v6_cork: inet6_cork | None = None,
) -> int:
    """net/ipv6/ip6_output.c: add the headers to a datagram and send it. 0 or -errno.

    `skb`: a datagram of ip6_make_skb or ip6_finish_skb with its transport header, and the corks it
    was made with. None: the one in sk_write_queue, whose transport header is part of its data.
    """
    np = sk.pinet6
    assert np is not None
    corked = skb is None
    if skb is None:
        skb = ip6_finish_skb(sk)
        if skb is None:
            return 0
    try:
        ip6_finish_header(sk, fl6, skb, cork or inet_cork_of(sk), v6_cork or np.cork)
    finally:
        if corked:
            ip6_cork_release(sk)
    return ip6_send_skb(skb)


def ip6_finish_skb(sk: inet_sock) -> sk_buff | None:
    """include/net/ipv6.h: take the corked datagram out of sk_write_queue; None when empty."""
    skb = sk.sk_write_queue.dequeue()
    return None if skb is None else __ip6_make_skb(sk, skb, inet_cork_of(sk))


def ip6_cork_release(sk: inet_sock) -> None:
    """net/ipv6/ip6_output.c: forget the corked datagram's options and route."""
    np = sk.pinet6
    assert np is not None
    np.cork.opt = None
    if sk.cork is not None:
        sk.cork.base_dst = None
        sk.cork.fl4 = None


def ip6_flush_pending_frames(sk: inet_sock) -> None:
    """net/ipv6/ip6_output.c: discard the corked datagram."""
    sk.sk_write_queue.purge()
    ip6_cork_release(sk)
