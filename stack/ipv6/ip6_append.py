"""Collecting datagrams: the cork of IPv6 (net/ipv6/ip6_output.c).

The data is copied in stack/inet/append.py. These functions are called by a socket's sendmsg and
raise OSError.
"""

from __future__ import annotations

import errno
from typing import Any

from fastpath.base.skbuff import kfree_skb, sk_buff, sk_buff_head, skb_cow_head
from fastpath.net.hdr import ipv6_push
from stack.core import uapi
from stack.core.errors import os_error
from stack.core.netdevice import LL_MAX_HEADER, NETIF_F_HW_CSUM, NETIF_F_IPV6_CSUM
from stack.core.rows import row, state
from stack.core.sock import sock_wait_for_wmem
from stack.core.sockopt import sockcm_cookie
from stack.core.uapi import IPV6_HLEN, IPV6_MIN_MTU
from stack.inet.append import (
    Getfrag,
    append_data,
    cork_ops,
    inet_append_data,
    inet_cork_of,
    setup_cork,
)
from stack.inet.flow import flowi
from stack.inet.inet_sock import inet_cork, inet_sock
from stack.ipv6.ip6_output import (
    ip6_autoflowlabel,
    ip6_make_flowlabel,
    ip6_send_skb,
    ip6_sk_dst_hoplimit,
)
from stack.ipv6.pinfo import (
    IPV6_PMTUDISC_DO,
    IPV6_PMTUDISC_OMIT,
    IPV6_PMTUDISC_PROBE,
    ipv6_pinfo,
    np_of,
)
from stack.ipv6.rt6_info import IP6_MAX_MTU, IPV6_MAXPLEN, ip6_mtu, rt6_info
from stack.ipv6.txoptions import ipv6_push_frag_opts, ipv6_push_nfrag_opts, ipv6_txoptions


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
    sockc: sockcm_cookie | None = row()
    """Requested time stamps and transmit time; None: neither."""


def ipcm6_init_sk(sk: inet_sock) -> ipcm6_cookie:
    """include/net/ipv6.h: the parameters that a socket's messages have without control data."""
    np = np_of(sk)
    ipc6 = ipcm6_cookie()
    ipc6.tclass = np.tclass
    ipc6.dontfrag = np.dontfrag
    ipc6.mark = sk.sk_mark
    ipc6.priority = sk.sk_priority
    if sk.sk_tsflags:
        ipc6.sockc = sockcm_cookie(sk, 0, 0)
    return ipc6


def ip6_sk_ignore_df(np: ipv6_pinfo | None) -> bool:
    """include/net/ip6_route.h: whether packets of this socket may be fragmented here."""
    return np is None or np.pmtudisc < IPV6_PMTUDISC_DO or np.pmtudisc == IPV6_PMTUDISC_OMIT


def ip6_setup_cork(
    sk: inet_sock, cork: inet_cork, ipc6: ipcm6_cookie, rt: rt6_info, fl6: flowi
) -> None:
    """net/ipv6/ip6_output.c: start a datagram. Raises: OSError EINVAL (MTU below 1280)."""
    np = np_of(sk)
    if np.pmtudisc >= IPV6_PMTUDISC_PROBE:
        mtu = min(rt.dev.mtu, IP6_MAX_MTU)
    else:
        mtu = ip6_mtu(rt)
    if np.frag_size and np.frag_size < mtu:
        mtu = np.frag_size
    if mtu < IPV6_MIN_MTU:
        raise os_error(errno.EINVAL)
    setup_cork(cork, rt, fl6, mtu, ipc6.gso_size, ipc6.mark, ipc6.priority, ipc6.sockc)
    v6_cork = np.cork
    v6_cork.opt = ipc6.opt
    v6_cork.hop_limit = ipc6.hlimit
    v6_cork.tclass = ipc6.tclass
    v6_cork.dontfrag = ipc6.dontfrag


def _check_size(
    sk: inet_sock, fl6: flowi, total: int, mtu: int, dontfrag: bool, headers: int
) -> None:
    """Check that `total` bytes fit behind the headers. Raises: OSError EMSGSIZE."""
    sockets = sk.net.ipv6.sockets
    if total > mtu - headers and dontfrag and sk.sk_protocol in _DONTFRAG_PROTOCOLS:
        sockets.local_rxpmtu(sk, fl6, mtu - headers + IPV6_HLEN)
    else:
        most = IPV6_HLEN + IPV6_MAXPLEN if ip6_sk_ignore_df(sk.pinet6) else mtu
        if total <= most - headers:
            return
    sockets.local_error(sk, errno.EMSGSIZE, fl6, max(mtu - headers + IPV6_HLEN, 0))
    raise os_error(errno.EMSGSIZE)


_DONTFRAG_PROTOCOLS = (uapi.IPPROTO_UDP, uapi.IPPROTO_ICMPV6, uapi.IPPROTO_RAW)


def __ip6_append_data(
    sk: inet_sock,
    fl6: flowi,
    queue: sk_buff_head | None,
    cork: inet_cork,
    getfrag: Getfrag,
    frm: Any,
    length: int,
    transhdrlen: int,
    flags: int,
) -> sk_buff:
    """net/ipv6/ip6_output.c: append `length` bytes to the datagram in `queue`, None: make one.

    In the first call `length` includes the transport header of `transhdrlen` bytes, for which
    headroom stays free. Raises: OSError EMSGSIZE, ENOBUFS, EAGAIN, EPIPE.
    """
    v6_cork = np_of(sk).cork
    optlen = v6_cork.opt.tot_len if v6_cork.opt is not None else 0
    headers = IPV6_HLEN + optlen
    mtu = IP6_MAX_MTU if cork.gso_size else cork.fragsize
    _check_size(sk, fl6, cork.length + length, mtu, v6_cork.dontfrag, headers)
    csum = 0 if optlen else NETIF_F_HW_CSUM | NETIF_F_IPV6_CSUM
    return append_data(
        sk, queue, cork, getfrag, frm, length, transhdrlen, flags, headers, mtu, csum
    )


def ip6_append_data(
    sk: inet_sock,
    getfrag: Getfrag,
    frm: Any,
    length: int,
    transhdrlen: int,
    ipc6: ipcm6_cookie | None,
    fl6: flowi,
    rt: rt6_info | None,
    flags: int,
) -> None:
    """net/ipv6/ip6_output.c: append to the datagram in sk_write_queue. Raises: OSError.

    `ipc6` and `rt` of the first piece apply. After an error the collected data is discarded.
    """
    inet_append_data(_CORK, sk, fl6, getfrag, frm, length, transhdrlen, ipc6, rt, flags)


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
) -> sk_buff | None:
    """net/ipv6/ip6_output.c: make a datagram outside sk_write_queue. Raises: OSError.

    It has no headers yet: the transport pushes its own, then calls `__ip6_make_skb`. None with
    MSG_PROBE.
    """
    if flags & uapi.MSG_PROBE:
        return None
    # Sleep before changing the cork: another thread may send on this socket meanwhile.
    if sk.sk_wmem_alloc >= sk.sk_sndbuf:
        sock_wait_for_wmem(sk, flags & uapi.MSG_DONTWAIT)
    ip6_setup_cork(sk, cork, ipc6, rt, fl6)
    return __ip6_append_data(sk, fl6, None, cork, getfrag, frm, length, transhdrlen, flags)


def __ip6_make_skb(sk: inet_sock, fl6: flowi, skb: sk_buff, cork: inet_cork) -> sk_buff:
    """net/ipv6/ip6_output.c: finish a datagram: metadata, extension headers, the IPv6 header.

    Data at the transport header. Raises: OSError ENOBUFS.
    """
    net = sk.net
    rt: rt6_info = cork.base_dst
    np = np_of(sk)
    v6_cork = np.cork
    skb.ignore_df = ip6_sk_ignore_df(np)
    skb.priority = cork.priority or sk.sk_priority
    skb.mark = cork.mark
    skb.dst = rt
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
        hlimit = ip6_sk_dst_hoplimit(np, daddr, rt)
    label = ip6_make_flowlabel(net, skb.hash, fl6.flowlabel, ip6_autoflowlabel(net, np), fl6)
    ipv6_push(skb, max(v6_cork.tclass, 0), label, skb.len, proto, hlimit, fl6.saddr, daddr)
    net.mib.ip6.OutRequests += 1
    return skb


def ip6_finish_skb(sk: inet_sock, fl6: flowi) -> sk_buff | None:
    """include/net/ipv6.h: the finished datagram of sk_write_queue, None when there is none.

    The transport header is part of its data (raw, ICMPv6). Raises: OSError ENOBUFS.
    """
    skb = sk.sk_write_queue.dequeue()
    if skb is None:
        return None
    try:
        return __ip6_make_skb(sk, fl6, skb, inet_cork_of(sk))
    finally:
        ip6_cork_release(sk)


def ip6_push_pending_frames(sk: inet_sock, skb: sk_buff | None) -> int:
    """net/ipv6/ip6_output.c: send a datagram that has all its headers. 0 or a negative errno.

    None: nothing was collected (`ip6_finish_skb`). Takes ownership of skb.
    """
    return 0 if skb is None else ip6_send_skb(skb)


def ip6_cork_release(sk: inet_sock) -> None:
    """net/ipv6/ip6_output.c: forget the corked datagram's options and route."""
    np_of(sk).cork.opt = None
    if sk.cork is not None:
        sk.cork.base_dst = None
        sk.cork.fl4 = None


def ip6_flush_pending_frames(sk: inet_sock) -> None:
    """net/ipv6/ip6_output.c: discard the corked datagram."""
    sk.sk_write_queue.purge()
    ip6_cork_release(sk)


_CORK = cork_ops(ip6_setup_cork, __ip6_append_data, ip6_flush_pending_frames)
