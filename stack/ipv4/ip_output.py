"""Sending IPv4: headers, corked datagrams, output to the neighbour, fragmentation.

net/ipv4/ip_output.c, include/net/ip.h.

Packet-path functions return 0, a NET_XMIT_* code or a negative errno; those called by a socket's
sendmsg raise OSError.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from fastpath.base.skbuff import (
    CHECKSUM_NONE,
    alloc_skb,
    consume_skb,
    sk_buff,
    sk_buff_head,
    skb_clone,
    skb_copy_bits,
    skb_cow_head,
    skb_headroom,
    skb_put_data,
    skb_set_transport_header,
)
from fastpath.net.gso import skb_gso_validate_network_len
from fastpath.net.hdr import ip_hdr, ip_push, ip_send_check
from fastpath.net.inetkey import inet_siphash
from stack.core import drop_reason, netdevice, uapi
from stack.core.backlog import dev_loopback_xmit
from stack.core.drop_reason import kfree_skb_reason
from stack.core.dst import dst_output
from stack.core.errors import os_error
from stack.core.l3mdev import l3mdev_l3_out, netif_index_is_l3_master
from stack.core.neighbour import neigh_output
from stack.core.netdevice import IFF_L3MDEV_SLAVE, net_device, net_xmit_errno
from stack.core.netfilter import NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING, nf_hook
from stack.core.rows import narrow, row, state
from stack.core.secure_seq import SECURE_IP_ID
from stack.core.sock import sk_dst_check, sk_setup_caps, sock, sock_wait_for_wmem
from stack.core.sock_flags import SOCK_LOCALROUTE
from stack.core.sockopt import sockcm_cookie
from stack.core.uapi import IP_HLEN, RT_SCOPE_LINK, RT_SCOPE_UNIVERSE, RTN_MULTICAST
from stack.inet.append import (
    Getfrag,
    append_data,
    cork_ops,
    inet_append_data,
    inet_cork_of,
    setup_cork,
)
from stack.inet.do_fragment import inet_do_fragment, inet_fragment_ready, inet_gso_slowpath
from stack.inet.flow import flowi
from stack.inet.inet_sock import inet_cork, inet_sock, ip_options
from stack.ipv4 import route
from stack.ipv4.addr import ipv4_is_multicast
from stack.ipv4.devinet import IPV4_MIN_MTU
from stack.ipv4.icmp_codes import ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED
from stack.ipv4.ip_errqueue import ip_local_error
from stack.ipv4.ip_options import __ip_options_echo, ip_options_build, ip_options_fragment
from stack.ipv4.neigh import ip_neigh_for_gw
from stack.ipv4.route import (
    inet_sk_flowi_flags,
    ip4_dst_hoplimit,
    ip_dst_mtu_maybe_forward,
    ip_route_output_key,
    ip_route_output_ports,
    ipv4_mtu,
    rtable,
)
from stack.net import Net

IPSKB_FORWARDED = 1 << 0
IPSKB_FRAG_COMPLETE = 1 << 3
IPSKB_REROUTED = 1 << 4
IPSKB_FRAG_PMTU = 1 << 6


@state
class ipcm_cookie:
    """struct ipcm_cookie: IP's parameters of one sendmsg (options, control data, interface)."""

    addr: int = row(0)
    opt: ip_options | None = row()
    ttl: int = row(0)
    tos: int = row(-1)
    gso_size: int = row(0)
    protocol: int = row(0)
    oif: int = row(0)
    sockc_mark: int = row(0)
    priority: int = row(0)
    sockc: sockcm_cookie | None = row()
    """Requested time stamps and transmit time; None: neither."""


def ipcm_init_sk(sk: inet_sock) -> ipcm_cookie:
    """include/net/ip.h: the parameters that a socket's messages have without control data."""
    ipc = ipcm_cookie()
    ipc.addr = narrow(sk.inet_saddr)
    ipc.oif = sk.sk_bound_dev_if
    ipc.sockc_mark = sk.sk_mark
    ipc.priority = sk.sk_priority
    ipc.protocol = sk.inet_num
    if sk.sk_tsflags:
        ipc.sockc = sockcm_cookie(sk, 0, 0)
    return ipc


def ip_sendmsg_scope(sk: inet_sock, ipc: ipcm_cookie, flags: int) -> int:
    """include/net/ip.h: RT_SCOPE_LINK for packets that must not go through a router."""
    if (
        sk.sk_flags & SOCK_LOCALROUTE
        or flags & uapi.MSG_DONTROUTE
        or (ipc.opt is not None and ipc.opt.is_strictroute)
    ):
        return RT_SCOPE_LINK
    return RT_SCOPE_UNIVERSE


def ip_datagram_flow(
    sk: inet_sock, ipc: ipcm_cookie, daddr: int, flags: int, protocol: int
) -> flowi:
    """udp_sendmsg, raw_sendmsg, ping_v4_sendmsg: the flow to `daddr`, without ports.

    `ipc` gets the socket's options and interface, and the final destination in `addr`. Raises:
    OSError EINVAL.
    """
    opt = ipc.opt
    if opt is None:
        opt = ipc.opt = sk.inet_opt
    saddr = ipc.addr
    ipc.addr = faddr = daddr
    if opt is not None and opt.srr:
        if not daddr:
            raise os_error(errno.EINVAL, "a source route needs a destination")
        faddr = opt.faddr
    if ipv4_is_multicast(daddr):
        if not ipc.oif or netif_index_is_l3_master(sk.net, ipc.oif):
            ipc.oif = sk.mc_index or ipc.oif
        if not saddr:
            saddr = narrow(sk.mc_addr)
    elif not ipc.oif:
        ipc.oif = sk.uc_index
    tos = sk.tos if ipc.tos == -1 else ipc.tos
    return flowi(
        uapi.AF_INET,
        faddr,
        saddr,
        ipc.oif,
        tos & route.IPTOS_RT_MASK,
        protocol,
        0,
        0,
        inet_sk_flowi_flags(sk),
        ipc.sockc_mark,
        ip_sendmsg_scope(sk, ipc, flags),
    )


# --- identification (include/net/ip.h, net/ipv4/route.c) -----------------------------------


def ip_ident_slot(net: Net, daddr: int, saddr: int, protocol: int) -> int:
    """net/ipv4/route.c: the generator of ids for (destination, source, protocol)."""
    return inet_siphash(net.secret, saddr, daddr, protocol, SECURE_IP_ID) & 1023


def ip_idents_reserve(net: Net, slot: int, segs: int) -> int:
    """net/ipv4/route.c: take `segs` ids; an idle generator first skips a random number of ids."""
    return net.ipv4.ip_idents.reserve(slot, segs, net.clock.now_ns() >> 22, net.random.randrange)


def __ip_select_ident(net: Net, daddr: int, saddr: int, protocol: int, segs: int = 1) -> int:
    """net/ipv4/route.c: an id from the generator of (destination, source, protocol)."""
    return ip_idents_reserve(net, ip_ident_slot(net, daddr, saddr, protocol), segs)


def ip_dont_fragment(sk: inet_sock, rt: rtable) -> bool:
    """include/net/ip.h: whether DF must be set."""
    pmtudisc = sk.pmtudisc
    return pmtudisc == uapi.IP_PMTUDISC_DO or (
        pmtudisc == uapi.IP_PMTUDISC_WANT and not rt.rt_mtu_locked
    )


def ip_sk_accept_pmtu(sk: inet_sock) -> bool:
    """include/net/ip.h: whether ICMP may change the path MTU on behalf of this socket."""
    return sk.pmtudisc not in (uapi.IP_PMTUDISC_INTERFACE, uapi.IP_PMTUDISC_OMIT)


def ip_sk_ignore_df(sk: inet_sock) -> bool:
    """include/net/ip.h: whether packets of this socket may be fragmented here."""
    return sk.pmtudisc < uapi.IP_PMTUDISC_DO or sk.pmtudisc == uapi.IP_PMTUDISC_OMIT


def ip_select_ttl(sk: inet_sock, rt: rtable) -> int:
    """include/net/ip.h: the socket's TTL, else the route's."""
    ttl = sk.uc_ttl
    return ttl if ttl >= 0 else ip4_dst_hoplimit(rt)


def ip_sk_mtu(sk: inet_sock, rt: rtable) -> int:
    """The MTU for a socket's datagrams, bytes."""
    return (
        ipv4_mtu(rt) if sk.pmtudisc < uapi.IP_PMTUDISC_PROBE else min(rt.dev.mtu, route.IP_MAX_MTU)
    )


def ip_skb_dst_mtu(sk: sock | None, skb: sk_buff) -> int:
    """include/net/ip.h: the size in bytes above which skb must be fragmented."""
    rt: rtable = skb.dst
    if (rt.rt_pmtu or rt.metrics or rt.rt_mtu_locked) and (
        not isinstance(sk, inet_sock) or sk.pmtudisc < uapi.IP_PMTUDISC_PROBE
    ):
        return ip_dst_mtu_maybe_forward(rt, bool(skb.ip_cb_flags & IPSKB_FORWARDED))
    mtu = rt.dev.mtu
    return mtu if mtu < route.IP_MAX_MTU else route.IP_MAX_MTU


# --- local output --------------------------------------------------------------------------


def __ip_local_out(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """net/ipv4/ip_output.c: count, LOCAL_OUT hook. 1 = go on with dst_output."""
    net.mib.ip.OutRequests += 1
    if skb.dst.dev.priv_flags & IFF_L3MDEV_SLAVE and l3mdev_l3_out(sk, skb, uapi.AF_INET) is None:
        return 0
    skb.protocol = netdevice.ETH_P_IP
    if net.nf_hooks[NF_INET_LOCAL_OUT]:
        return nf_hook(NF_INET_LOCAL_OUT, net, sk, skb, None, skb.dst.dev, dst_output)
    return 1


def ip_local_out(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """net/ipv4/ip_output.c: send a finished packet. Takes ownership of skb."""
    err = __ip_local_out(net, sk, skb)
    if err == 1:
        err = dst_output(net, sk, skb)
    return err


def ip_build_and_send_pkt(
    skb: sk_buff, sk: inet_sock, saddr: int, daddr: int, opt: ip_options | None, tos: int
) -> int:
    """net/ipv4/ip_output.c: add the IP header to a listener's reply (SYN-ACK) and send it.

    skb.dst is set. Takes ownership of skb.
    """
    net = sk.net
    rt: rtable = skb.dst
    final = daddr
    options = b""
    if opt is not None and opt.optlen:
        options, final = ip_options_build(opt, daddr, rt, saddr)
    size = skb.len + IP_HLEN + len(options)
    if size <= IPV4_MIN_MTU or ip_dont_fragment(sk, rt):
        df, ident = route.IP_DF, 0
    else:
        df, ident = 0, net.random.getrandbits(16)
    ip_push(
        skb,
        tos,
        size,
        ident,
        df,
        ip_select_ttl(sk, rt),
        sk.sk_protocol,
        saddr,
        final,
        options,
    )
    skb.priority = sk.sk_priority
    if not skb.mark:
        skb.mark = sk.sk_mark
    return ip_local_out(net, sk, skb)


def ip_queue_xmit(sk: inet_sock, skb: sk_buff, fl: flowi | None) -> int:
    """net/ipv4/ip_output.c: add the IP header to a segment of a connection (TCP) and send it.

    Data at the transport header. `fl`: flow with daddr/saddr, None = the socket's. Takes ownership
    of skb; -EHOSTUNREACH without a route.
    """
    return __ip_queue_xmit(sk, skb, fl, sk.tos)


def __ip_queue_xmit(sk: inet_sock, skb: sk_buff, fl: flowi | None, tos: int) -> int:
    """net/ipv4/ip_output.c: ip_queue_xmit with the given TOS."""
    net = sk.net
    inet_opt = sk.inet_opt
    rt: rtable = skb.dst
    if rt is None:
        rt = sk_dst_check(sk, 0)
        if rt is None:
            daddr = sk.inet_daddr
            if inet_opt is not None and inet_opt.srr:
                daddr = inet_opt.faddr
            fl4 = fl if fl is not None else flowi(uapi.AF_INET)
            try:
                rt = ip_route_output_ports(
                    net,
                    fl4,
                    sk,
                    daddr,
                    sk.inet_saddr,
                    sk.inet_dport,
                    sk.inet_sport,
                    sk.sk_protocol,
                    tos,
                    sk.sk_bound_dev_if,
                )
            except OSError:
                net.mib.ip.OutNoRoutes += 1
                kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_IP_OUTNOROUTES)
                return -errno.EHOSTUNREACH
            sk_setup_caps(sk, rt)
        skb.dst = rt
    saddr = sk.inet_saddr
    daddr = sk.inet_daddr
    options = b""
    if inet_opt is not None:
        if inet_opt.is_strictroute and rt.rt_uses_gateway:
            net.mib.ip.OutNoRoutes += 1
            kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_IP_OUTNOROUTES)
            return -errno.EHOSTUNREACH
        if inet_opt.optlen:
            options, daddr = ip_options_build(inet_opt, narrow(daddr), rt, narrow(saddr))
    df = route.IP_DF if ip_dont_fragment(sk, rt) and not skb.ignore_df else 0
    ident = sk.inet_id
    sk.inet_id = (ident + (skb.gso_segs or 1)) & 0xFFFF
    ip_push(
        skb,
        tos,
        skb.len + IP_HLEN + len(options),
        ident,
        df,
        ip_select_ttl(sk, rt),
        sk.sk_protocol,
        narrow(saddr),
        narrow(daddr),
        options,
    )
    skb.priority = sk.sk_priority
    skb.mark = sk.sk_mark
    return ip_local_out(net, sk, skb)


def ip_output(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """net/ipv4/ip_output.c: POST_ROUTING hook, then finish. Takes ownership of skb."""
    rt: rtable = skb.dst
    dev = rt.dev
    indev: net_device | None = skb.dev
    skb.dev = dev
    if net.nf_hooks[NF_INET_POST_ROUTING] and not skb.ip_cb_flags & IPSKB_REROUTED:
        ret = nf_hook(NF_INET_POST_ROUTING, net, sk, skb, indev, dev, ip_finish_output)
        if ret != 1:
            return ret
    return ip_finish_output(net, sk, skb)


def ip_mc_output(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """net/ipv4/ip_output.c: output to a group or broadcast; loop a copy back if we receive it.

    Takes ownership of skb.
    """
    rt: rtable = skb.dst
    dev = rt.dev
    skb.dev = dev
    skb.protocol = netdevice.ETH_P_IP
    ttl = ip_hdr(skb).ttl
    if rt.rt_flags & route.RTCF_MULTICAST:
        local = rt.rt_flags & route.RTCF_LOCAL != 0
        # Without local members, this function was reached because of multicast routing.
        loops = local or not skb.ip_cb_flags & IPSKB_FORWARDED
        if (not isinstance(sk, inet_sock) or sk.mc_loop) and loops:
            ip_mc_loopback(net, skb_clone(skb), rt)
        # Multicast with TTL 0 must not leave the host; only the copy is delivered.
        if ttl == 0:
            consume_skb(skb)
            return 0
    if rt.rt_flags & route.RTCF_BROADCAST:
        ip_mc_loopback(net, skb_clone(skb), rt)
    if net.nf_hooks[NF_INET_POST_ROUTING] and not skb.ip_cb_flags & IPSKB_REROUTED:
        ret = nf_hook(NF_INET_POST_ROUTING, net, sk, skb, None, dev, ip_finish_output)
        if ret != 1:
            return ret
    return ip_finish_output(net, sk, skb)


def ip_mc_loopback(net: Net, newskb: sk_buff, rt: rtable) -> None:
    """net/ipv4/ip_output.c (ip_mc_finish_output): receive the copy of a packet that we sent.

    Takes ownership of newskb.
    """
    newskb.dst = rt
    newskb.dev = rt.dev
    if (
        net.nf_hooks[NF_INET_POST_ROUTING]
        and nf_hook(NF_INET_POST_ROUTING, net, None, newskb, None, rt.dev, dev_loopback_xmit) != 1
    ):
        return
    dev_loopback_xmit(net, None, newskb)


def ip_finish_output(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """net/ipv4/ip_output.c: send a packet that fits the MTU; fragment a larger one."""
    rt: rtable = skb.dst
    if rt.rt_pmtu or rt.metrics or rt.rt_mtu_locked:
        mtu = ip_skb_dst_mtu(sk, skb)
    else:
        mtu = rt.dev.mtu
    if skb.gso_size:
        return ip_finish_output_gso(net, sk, skb, mtu)
    if skb.len > mtu or skb.frag_max_size:
        return ip_fragment(net, sk, skb, mtu, ip_finish_output2)
    return ip_finish_output2(net, sk, skb)


def ip_finish_output_gso(net: Net, sk: sock | None, skb: sk_buff, mtu: int) -> int:
    """net/ipv4/ip_output.c: send a super-packet whole if its segments fit the MTU."""
    if skb_gso_validate_network_len(skb, mtu):
        return ip_finish_output2(net, sk, skb)
    # The path MTU shrank since gso_size was set, or we forward: segment, then fragment.
    return inet_gso_slowpath(net, sk, skb, mtu, ip_fragment, ip_finish_output2)


def ip_finish_output2(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """net/ipv4/ip_output.c: find the neighbour and send to it. Takes ownership of skb."""
    rt: rtable = skb.dst
    dev: net_device = rt.dev
    flags = rt.rt_flags
    size = skb.len
    ipext = net.mib.ipext
    ipext.OutOctets += size
    net.mib.ip.OutTransmits += 1
    if flags & (route.RTCF_MULTICAST | route.RTCF_BROADCAST):
        if flags & route.RTCF_MULTICAST:
            ipext.OutMcastPkts += 1
            ipext.OutMcastOctets += size
        else:
            ipext.OutBcastPkts += 1
            ipext.OutBcastOctets += size
    if skb_headroom(skb) < dev.hard_header_len and not skb_cow_head(
        skb, dev.hard_header_len + dev.needed_headroom
    ):
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOMEM)
        return -errno.ENOMEM
    neigh = rt.neigh
    if neigh is None or neigh.dead:
        neigh = ip_neigh_for_gw(rt, skb)
    if neigh is None:
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NEIGH_CREATEFAIL)
        return -errno.ENOBUFS
    # The cached header of an IPv6 neighbour is for IPv6.
    return neigh_output(neigh, skb, bool(rt.rt_gw6))


# --- fragmentation -------------------------------------------------------------------------


def ip_fragment(
    net: Net,
    sk: sock | None,
    skb: sk_buff,
    mtu: int,
    output: Callable[[Net, sock | None, sk_buff], int],
) -> int:
    """net/ipv4/ip_output.c: fragment, or send ICMP fragmentation needed when DF forbids it.

    Takes ownership of skb.
    """
    iph = ip_hdr(skb)
    if not iph.frag_off & route.IP_DF:
        return ip_do_fragment(net, sk, skb, output)
    if not skb.ignore_df or (skb.frag_max_size and skb.frag_max_size > mtu):
        net.mib.ip.FragFails += 1
        net.ipv4.steps.icmp_send(skb, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, mtu)
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_PKT_TOO_BIG)
        return -errno.EMSGSIZE
    return ip_do_fragment(net, sk, skb, output)


def ip_do_fragment(
    net: Net, sk: sock | None, skb: sk_buff, output: Callable[[Net, sock | None, sk_buff], int]
) -> int:
    """net/ipv4/ip_output.c: cut a packet into fragments that fit the route's MTU (RFC 791 3.2).

    Takes ownership of skb.
    """
    if not inet_fragment_ready(net, skb, net.mib.ip):
        return -errno.EINVAL
    mtu = ip_skb_dst_mtu(sk, skb)
    if skb.frag_max_size and skb.frag_max_size < mtu:
        mtu = skb.frag_max_size
    hlen = ip_hdr(skb).ihl * 4
    if mtu < hlen + 8:
        net.mib.ip.FragFails += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_PKT_TOO_BIG)
        return -errno.EMSGSIZE
    headers = bytearray(skb_copy_bits(skb, 0, hlen))
    return inet_do_fragment(
        net, sk, skb, hlen, headers, mtu - hlen, ip_frag_next, output, net.mib.ip
    )


def ip_frag_next(frag: sk_buff, headers: bytearray, offset: int, length: int, more: bool) -> None:
    """net/ipv4/ip_output.c: complete the header of a fragment; only the first has all options."""
    hlen = len(headers)
    iph = ip_hdr(frag)
    # A fragment that is fragmented again keeps its offset and MF.
    kept = iph.frag_off & (route.IP_OFFSET | route.IP_MF | route.IP_DF)
    iph.frag_off = kept + (offset >> 3) | (route.IP_MF if more else 0)
    iph.tot_len = hlen + length
    ip_send_check(iph)
    if not offset and hlen > IP_HLEN:
        headers[IP_HLEN:] = ip_options_fragment(bytes(headers[IP_HLEN:]))


# --- corking a datagram; its data is appended in stack/inet/append.py ------------------------


def ip_setup_cork(sk: inet_sock, cork: inet_cork, ipc: ipcm_cookie, rt: rtable, fl4: flowi) -> None:
    """net/ipv4/ip_output.c: start a datagram. Raises: OSError ENETUNREACH (MTU below 68)."""
    mtu = ip_sk_mtu(sk, rt)
    if mtu < 68:
        raise os_error(errno.ENETUNREACH, "path MTU is below 68")
    setup_cork(cork, rt, fl4, mtu, ipc.gso_size, ipc.sockc_mark, ipc.priority, ipc.sockc)
    cork.opt = ipc.opt
    cork.addr = ipc.addr
    cork.ttl = ipc.ttl
    cork.tos = ipc.tos


def __ip_append_data(
    sk: inet_sock,
    fl4: flowi,
    queue: sk_buff_head | None,
    cork: inet_cork,
    getfrag: Getfrag,
    frm: Any,
    length: int,
    transhdrlen: int,
    flags: int,
) -> sk_buff:
    """net/ipv4/ip_output.c: append `length` bytes to the datagram in `queue`, None: make one.

    In the first call `length` includes the transport header of `transhdrlen` bytes, for which
    headroom stays free. Raises: OSError EMSGSIZE, ENOBUFS, EAGAIN, EPIPE.
    """
    optlen = cork.opt.optlen if cork.opt is not None else 0
    headers = IP_HLEN + optlen
    mtu = route.IP_MAX_MTU if cork.gso_size else cork.fragsize
    total = cork.length + length
    if total > mtu - headers and (total > route.IP_MAX_MTU - headers or not ip_sk_ignore_df(sk)):
        ip_local_error(sk, errno.EMSGSIZE, narrow(fl4.daddr), sk.inet_dport, mtu - optlen)
        raise os_error(errno.EMSGSIZE)
    csum = 0 if optlen else netdevice.NETIF_F_HW_CSUM | netdevice.NETIF_F_IP_CSUM
    return append_data(
        sk, queue, cork, getfrag, frm, length, transhdrlen, flags, headers, mtu, csum
    )


def ip_append_data(
    sk: inet_sock,
    fl4: flowi,
    getfrag: Getfrag,
    frm: Any,
    length: int,
    transhdrlen: int,
    ipc: ipcm_cookie | None,
    rt: rtable | None,
    flags: int,
) -> None:
    """net/ipv4/ip_output.c: append to the datagram in sk_write_queue. Raises: OSError.

    `ipc` and `rt` of the first piece apply. After an error the collected data is discarded.
    """
    inet_append_data(_CORK, sk, fl4, getfrag, frm, length, transhdrlen, ipc, rt, flags)


def ip_make_skb(
    sk: inet_sock,
    fl4: flowi,
    getfrag: Getfrag,
    frm: Any,
    length: int,
    transhdrlen: int,
    ipc: ipcm_cookie,
    rt: rtable,
    cork: inet_cork,
    flags: int,
) -> sk_buff | None:
    """net/ipv4/ip_output.c: make a datagram outside sk_write_queue. Raises: OSError.

    It has no headers yet: the transport pushes its own, then calls `__ip_make_skb`. None with
    MSG_PROBE.
    """
    if flags & uapi.MSG_PROBE:
        return None
    # Sleep before changing the cork: another thread may send on this socket meanwhile.
    if sk.sk_wmem_alloc >= sk.sk_sndbuf:
        sock_wait_for_wmem(sk, flags & uapi.MSG_DONTWAIT)
    ip_setup_cork(sk, cork, ipc, rt, fl4)
    return __ip_append_data(sk, fl4, None, cork, getfrag, frm, length, transhdrlen, flags)


def __ip_make_skb(sk: inet_sock, fl4: flowi, skb: sk_buff, cork: inet_cork) -> sk_buff:
    """net/ipv4/ip_output.c: finish a datagram: its metadata, and the IP header.

    Data at the transport header.
    """
    rt: rtable = cork.base_dst
    skb.ignore_df = ip_sk_ignore_df(sk)
    skb.priority = cork.priority or sk.sk_priority
    skb.mark = cork.mark
    skb.dst = rt
    opt = cork.opt
    options = b""
    daddr = fl4.daddr
    saddr = fl4.saddr
    tot_len = skb.len + IP_HLEN
    if opt is not None and opt.optlen:
        options, via = ip_options_build(opt, narrow(cork.addr or daddr), rt, narrow(saddr))
        if opt.srr:
            daddr = via
        tot_len += len(options)
    pmtudisc = sk.pmtudisc
    if pmtudisc == uapi.IP_PMTUDISC_WANT:
        mtu = ipv4_mtu(rt) if rt.rt_pmtu or rt.metrics else rt.dev.mtu
        df = route.IP_DF if tot_len <= mtu and not rt.rt_mtu_locked else 0
    else:
        df = route.IP_DF if pmtudisc in (uapi.IP_PMTUDISC_DO, uapi.IP_PMTUDISC_PROBE) else 0
    ttl = cork.ttl
    if not ttl:
        ttl = sk.mc_ttl if rt.rt_type == RTN_MULTICAST else sk.uc_ttl
        if ttl < 0:
            ttl = ip4_dst_hoplimit(rt) if rt.metrics else rt.net.sysctl.ip_default_ttl
    protocol = fl4.flowi_proto or sk.sk_protocol
    if sk.inet_daddr:
        ident = sk.inet_id
        sk.inet_id = (ident + (skb.gso_segs or 1)) & 0xFFFF
    elif df and not skb.ignore_df:
        ident = 0
    else:
        net = rt.net
        slot = fl4.ident
        if slot < 0:
            slot = ip_ident_slot(net, narrow(daddr), narrow(saddr), protocol)
            fl4.ident = slot
        ident = ip_idents_reserve(net, slot, skb.gso_segs or 1)
    tos = cork.tos
    ip_push(
        skb,
        tos if tos != -1 else sk.tos,
        tot_len,
        ident,
        df,
        ttl,
        protocol,
        narrow(saddr),
        narrow(daddr),
        options,
    )
    return skb


def ip_finish_skb(sk: inet_sock, fl4: flowi) -> sk_buff | None:
    """include/net/ip.h: the finished datagram of sk_write_queue, None when there is none.

    The transport header is part of its data (raw, ICMP).
    """
    skb = sk.sk_write_queue.dequeue()
    if skb is None:
        return None
    cork = inet_cork_of(sk)
    __ip_make_skb(sk, fl4, skb, cork)
    ip_cork_release(cork)
    return skb


def ip_send_skb(net: Net, skb: sk_buff) -> int:
    """net/ipv4/ip_output.c: send, and turn congestion into 0 or -ENOBUFS."""
    err = ip_local_out(net, skb.sk, skb)
    if err:
        if err > 0:
            err = net_xmit_errno(err)
        if err:
            net.mib.ip.OutDiscards += 1
    return err


def ip_push_pending_frames(sk: inet_sock, skb: sk_buff | None) -> int:
    """net/ipv4/ip_output.c: send a datagram that has all its headers. 0 or a negative errno.

    None: nothing was collected (`ip_finish_skb`). Takes ownership of skb.
    """
    return 0 if skb is None else ip_send_skb(sk.net, skb)


def ip_cork_release(cork: inet_cork) -> None:
    """net/ipv4/ip_output.c: forget the corked datagram's options and route."""
    cork.opt = None
    cork.base_dst = None
    cork.fl4 = None


def ip_flush_pending_frames(sk: inet_sock) -> None:
    """net/ipv4/ip_output.c: discard the corked datagram."""
    sk.sk_write_queue.purge()
    if sk.cork is not None:
        ip_cork_release(sk.cork)


_CORK = cork_ops(ip_setup_cork, __ip_append_data, ip_flush_pending_frames)


def ip4_reply_mark(net: Net, mark: int) -> int:
    """include/net/ip.h IP4_REPLY_MARK: the mark of a reply without a socket."""
    return mark if net.sysctl.fwmark_reflect else 0


def ip_send_unicast_reply(
    sk: inet_sock,
    skb: sk_buff,
    sopt: ip_options | None,
    daddr: int,
    saddr: int,
    payload: bytes,
    protocol: int,
    tos: int = 0,
    ttl: int = 0,
    oif: int = 0,
    flags: int = 0,
    mark: int = 0,
    sport: int = 0,
    dport: int = 0,
) -> int:
    """net/ipv4/ip_output.c: answer `skb` (borrowed) with `payload`, a complete transport segment.

    `sk`: the namespace's control socket, which sends TCP's resets and ACKs, so that no user's
    socket is charged. `sopt`: received options to be answered, or None. 0 or a negative errno.
    """
    net = sk.net
    if not oif and netif_index_is_l3_master(net, skb.skb_iif):
        oif = skb.skb_iif
    fl4 = flowi(uapi.AF_INET, daddr, saddr, oif, tos & 0x1C, protocol, dport, sport, flags, mark)
    options = b""
    final = daddr
    reply: ip_options | None = None
    if sopt is not None and sopt.optlen:
        reply = __ip_options_echo(net, skb, sopt)
        if reply is None:
            return -errno.EINVAL
        if reply.optlen and reply.srr:
            fl4.daddr = reply.faddr
    try:
        rt = ip_route_output_key(net, fl4)
    except OSError as exc:
        return -(exc.errno or errno.EHOSTUNREACH)
    if reply is not None and reply.optlen:
        options, final = ip_options_build(reply, daddr, rt, saddr)
    nskb = alloc_skb(net.skb_small, len(payload), netdevice.LL_MAX_HEADER + 80)
    if nskb is None:
        return -errno.ENOMEM
    skb_put_data(nskb, payload)
    skb_set_transport_header(nskb, 0)
    nskb.ip_summed = CHECKSUM_NONE
    nskb.dst = rt
    nskb.mark = mark
    # The kernel's control socket has pmtudisc DO and no peer: DF is set and the id is 0.
    ip_push(
        nskb,
        tos,
        len(payload) + IP_HLEN + len(options),
        0,
        route.IP_DF,
        ttl or ip4_dst_hoplimit(rt),
        protocol,
        saddr,
        final,
        options,
    )
    return ip_send_skb(net, nskb)
