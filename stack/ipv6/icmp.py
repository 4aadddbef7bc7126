"""ICMPv6: errors and echoes out, messages in (net/ipv6/icmp.c; RFC 4443)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

from fastpath.hdr import ipv6_hdr, ipv6hdr_at
from fastpath.hdr6 import icmp6_csum, icmp6_hdr, icmp6_push, ipv6_skip_exthdr
from fastpath.skbuff import (
    CHECKSUM_UNNECESSARY,
    PACKET_HOST,
    consume_skb,
    pskb_may_pull,
    sk_buff,
    skb_append_frags,
    skb_copy_bits,
    skb_network_offset,
    skb_pull,
    skb_push,
    skb_put_data,
)
from stack.core.drop_reason import (
    SKB_CONSUMED,
    SKB_DROP_REASON_ICMP_CSUM,
    SKB_DROP_REASON_INVALID_PROTO,
    SKB_DROP_REASON_IP_INADDRERRORS,
    SKB_DROP_REASON_IPV6_BAD_EXTHDR,
    SKB_DROP_REASON_PKT_TOO_SMALL,
    SKB_NOT_DROPPED_YET,
    kfree_skb_reason,
)
from stack.core.netdevice import IFF_LOOPBACK
from stack.core.proto import proto
from stack.core.sock import SOCK_USE_WRITE_QUEUE, os_error, sk_alloc, sock_init_data
from stack.core.uapi import AF_INET6, IPPROTO_ICMPV6, MSG_DONTWAIT, SOCK_RAW
from stack.inet.flow import flowi
from stack.inet.icmp_limit import icmp_global_allow, inet_getpeer, inet_peer_xrlim_allow
from stack.inet.inet_sock import inet_sock
from stack.ipv6.addr import ipv6_addr_is_multicast, rt6_need_strict
from stack.ipv6.if_inet6 import ipv6_chk_acast_addr, ipv6_chk_addr
from stack.ipv6.ip6_append import (
    ip6_append_data,
    ip6_flush_pending_frames,
    ip6_push_pending_frames,
    ipcm6_cookie,
)
from stack.ipv6.ip6_fib import RTF_ANYCAST, RTF_GATEWAY, RTF_NONEXTHOP
from stack.ipv6.ip6_icmp import (
    ICMP6_HLEN,
    ICMPV6_DEST_UNREACH,
    ICMPV6_ECHO_REPLY,
    ICMPV6_ECHO_REQUEST,
    ICMPV6_INFOMSG_MASK,
    ICMPV6_MGM_QUERY,
    ICMPV6_MGM_REDUCTION,
    ICMPV6_MGM_REPORT,
    ICMPV6_MLD2_REPORT,
    ICMPV6_PARAMPROB,
    ICMPV6_PKT_TOOBIG,
    ICMPV6_TIME_EXCEED,
    ICMPV6_UNK_OPTION,
    NDISC_NEIGHBOUR_ADVERTISEMENT,
    NDISC_NEIGHBOUR_SOLICITATION,
    NDISC_REDIRECT,
    NDISC_ROUTER_ADVERTISEMENT,
    NDISC_ROUTER_SOLICITATION,
    icmp6_in_count,
    icmp6_out_count,
)
from stack.ipv6.pinfo import IPV6_PMTUDISC_DONT, ipv6_pinfo
from stack.ipv6.protocol import INET6_PROTO_FINAL, INET6_PROTO_NOPOLICY, inet6_protocol
from stack.ipv6.route import ip6_dst_lookup_tail, ip6_route_output
from stack.ipv6.route_learned import ip6_redirect, ip6_update_pmtu
from stack.ipv6.rt6_info import IPV6_MIN_MTU, rt6_info
from stack.ipv6.saddr import ipv6_dev_get_saddr
from stack.ipv6.txoptions import ipv6_ext_hdr

if TYPE_CHECKING:
    from fastpath.skbuff import SkbPool
    from stack.core.netdevice import net_device
    from stack.net import Net

IPV6_HLEN = 40
FLOWLABEL_REFLECT_ICMPV6_ECHO_REPLIES = 4


# --- rate limits ---------------------------------------------------------------------------


def icmpv6_mask_allow(net: Net, kind: int) -> bool:
    """net/ipv6/icmp.c: is this type free of limits?"""
    return kind not in net.ipv6.sysctl.icmpv6_ratemask


def icmpv6_global_allow(net: Net, kind: int) -> bool:
    """net/ipv6/icmp.c: the limit of the namespace, which IPv4 shares."""
    if icmpv6_mask_allow(net, kind) or icmp_global_allow(net):
        return True
    net.mib.icmp.OutRateLimitGlobal += 1
    return False


def icmpv6_xrlim_allow(net: Net, kind: int, fl6: flowi) -> bool:
    """net/ipv6/icmp.c: the limit per destination; a wider route gets more (RFC 4443 2.4 f)."""
    if icmpv6_mask_allow(net, kind):
        return True
    rt = ip6_route_output(net, None, fl6)
    allowed = False
    if rt.error:
        net.mib.ip6.OutNoRoutes += 1
    elif rt.dev.flags & IFF_LOOPBACK:
        return True
    else:
        cost_ns = net.ipv6.sysctl.icmpv6_ratelimit * 1_000_000
        if rt.rt6i_plen < 128:
            cost_ns >>= (128 - rt.rt6i_plen) >> 5
        peer = inet_getpeer(net, net.ipv6.peers, fl6.daddr)
        allowed = inet_peer_xrlim_allow(net, peer, cost_ns)
    if not allowed:
        net.mib.icmp6.OutRateLimitHost += 1
    return allowed


# --- sending -------------------------------------------------------------------------------


class icmpv6_msg:
    """struct icmpv6_msg: header words, and where the data come from: `skb` from `offset`."""

    __slots__ = ("code", "offset", "skb", "type", "un")

    def __init__(self, kind: int, code: int, un: int, skb: sk_buff, offset: int) -> None:
        self.type = kind
        self.code = code
        self.un = un
        self.skb = skb
        self.offset = offset


def icmpv6_getfrag(frm: icmpv6_msg, skb: sk_buff, n: int, pages: SkbPool) -> None:
    """net/ipv6/icmp.c: append the message's data to `skb`: small ones copied, big ones shared.

    Raises: OSError ENOBUFS.
    """
    if n <= skb.tailroom:
        skb_put_data(skb, skb_copy_bits(frm.skb, frm.offset, n))
    elif not skb_append_frags(skb, frm.skb, frm.offset, n):
        raise os_error(errno.ENOBUFS)


def icmpv6_push_pending_frames(sk: inet_sock, fl6: flowi, msg: icmpv6_msg) -> int:
    """net/ipv6/icmp.c: put header and checksum in front of the data and send."""
    skb = sk.sk_write_queue.peek()
    if skb is None:
        return 0
    icmp6_push(skb, msg.type, msg.code, msg.un, fl6.saddr, fl6.daddr)
    icmp6_out_count(sk.net, msg.type)
    return ip6_push_pending_frames(sk, fl6)


def icmpv6_xmit_lock(net: Net) -> inet_sock | None:
    """net/ipv6/icmp.c: the sending socket, None while it is busy (an error about an error)."""
    sk = net.ipv6.icmp_sk
    if sk.sk_lock_owned:
        return None
    sk.sk_lock_owned = True
    return sk


def icmpv6_xmit_unlock(sk: inet_sock) -> None:
    """net/ipv6/icmp.c"""
    sk.sk_lock_owned = False


def icmpv6_transmit(
    sk: inet_sock, msg: icmpv6_msg, length: int, ipc6: ipcm6_cookie, fl6: flowi, rt: rt6_info
) -> None:
    """Send `msg` with `length` bytes of data; a failure is counted."""
    size = length + ICMP6_HLEN
    try:
        ip6_append_data(sk, icmpv6_getfrag, msg, size, ICMP6_HLEN, ipc6, fl6, rt, MSG_DONTWAIT)
    except OSError:
        sk.net.mib.icmp6.OutErrors += 1
        ip6_flush_pending_frames(sk)
        return
    icmpv6_push_pending_frames(sk, fl6, msg)


def icmp6_iif(skb: sk_buff) -> int:
    """net/ipv6/icmp.c: the interface a packet came in by; of our own, that of its address."""
    dev: net_device = skb.dev
    rt = skb.dst
    if dev.flags & IFF_LOOPBACK and isinstance(rt, rt6_info) and rt.rt6i_idev is not None:
        return rt.rt6i_idev.dev.ifindex
    return dev.ifindex


def is_ineligible(skb: sk_buff, offset: int) -> bool:
    """net/ipv6/icmp.c: is the packet at `offset` an ICMPv6 error (RFC 4443 2.4 e.1, e.2)?"""
    at, nexthdr, frag_off = ipv6_skip_exthdr(
        skb, offset + IPV6_HLEN, ipv6hdr_at(skb, offset).nexthdr
    )
    if at < 0 or nexthdr != IPPROTO_ICMPV6:
        return False
    if at >= skb.len:
        return not frag_off
    kind = skb_copy_bits(skb, at, 1)[0]
    return not kind & ICMPV6_INFOMSG_MASK or kind == NDISC_REDIRECT


def opt_unrec(skb: sk_buff, offset: int) -> bool:
    """net/ipv6/icmp.c: does the option's type want a report to groups too (RFC 8200 4.2)?"""
    at = skb_network_offset(skb) + offset
    return skb.len > at and skb_copy_bits(skb, at, 1)[0] >> 6 == 2


def ipv6_anycast_destination(rt: rt6_info, daddr: int) -> bool:
    """include/net/ip6_route.h: an anycast address, also that of a subnet's routers."""
    return bool(rt.rt6i_flags & RTF_ANYCAST) or (
        rt.rt6i_plen < 127
        and not rt.rt6i_flags & (RTF_GATEWAY | RTF_NONEXTHOP)
        and rt.rt6i_dst == daddr
    )


def icmp6_send(skb: sk_buff, type: int, code: int, info: int) -> None:  # noqa: A002
    """net/ipv6/icmp.c: report an error about `skb` to its sender (RFC 4443 2.4). Borrows skb.

    Nothing is sent about ICMPv6 errors, to a group or to nobody, above the limits; about packets
    to groups only what RFC 4443 2.4 (e.3) names.
    """
    offset = skb_network_offset(skb)
    if offset < 0:  # from behind the headers
        skb_push(skb, -offset)
    try:
        _icmp6_send(skb, type, code, info)
    finally:
        if offset < 0:
            skb_pull(skb, -offset)


def _icmp6_send(skb: sk_buff, type: int, code: int, info: int) -> None:  # noqa: A002
    """icmp6_send with data at the IPv6 header or before."""
    dev: net_device = skb.dev
    net = dev.net
    offset = skb_network_offset(skb)
    if skb.len - offset < IPV6_HLEN:
        return
    iph = ipv6_hdr(skb)
    daddr, source = iph.daddr, iph.saddr
    saddr = 0
    if ipv6_chk_addr(net, daddr, dev, False) or (
        net.ipv6.sysctl.icmpv6_error_anycast_as_unicast and ipv6_chk_acast_addr(net, dev, daddr)
    ):
        saddr = daddr
    if ipv6_addr_is_multicast(daddr) or skb.pkt_type != PACKET_HOST:
        if type != ICMPV6_PKT_TOOBIG and not (
            type == ICMPV6_PARAMPROB and code == ICMPV6_UNK_OPTION and opt_unrec(skb, info)
        ):
            return
        saddr = 0
    if not source or ipv6_addr_is_multicast(source):
        return
    if is_ineligible(skb, offset):
        return
    if not dev.flags & IFF_LOOPBACK and not icmpv6_global_allow(net, type):
        return
    sk = icmpv6_xmit_lock(net)
    if sk is None:
        return
    try:
        oif = icmp6_iif(skb) if rt6_need_strict(source) else 0
        if not saddr:
            saddr = ipv6_dev_get_saddr(net, dev, source, 0)
        fl6 = flowi(
            AF_INET6,
            source,
            saddr,
            oif,
            flowi_proto=IPPROTO_ICMPV6,
            fl_sport=type,
            fl_dport=code,
        )
        if not icmpv6_xrlim_allow(net, type, fl6):
            return
        rt = icmpv6_route_lookup(net, sk, fl6)
        if rt is None:
            return
        msg = icmpv6_msg(type, code, info, skb, offset)
        length = min(skb.len - offset, IPV6_MIN_MTU - IPV6_HLEN - ICMP6_HLEN)
        icmpv6_transmit(sk, msg, length, ipcm6_cookie(sk), fl6, rt)
    finally:
        icmpv6_xmit_unlock(sk)


def icmpv6_route_lookup(net: Net, sk: inet_sock, fl6: flowi) -> rt6_info | None:
    """net/ipv6/icmp.c: the way to who shall hear of an error; None to an anycast address."""
    try:
        rt = ip6_dst_lookup_tail(net, sk, fl6, 0)
    except OSError:
        return None
    if not net.ipv6.sysctl.icmpv6_error_anycast_as_unicast and ipv6_anycast_destination(
        rt, fl6.daddr
    ):
        return None
    return rt


def icmpv6_echo_reply(skb: sk_buff) -> int:
    """net/ipv6/icmp.c: answer an echo request with its own data (RFC 4443 4.2). Borrows skb.

    Data behind the ICMPv6 header. A drop reason, 0 when fine.
    """
    dev: net_device = skb.dev
    net = dev.net
    sysctl = net.ipv6.sysctl
    iph = ipv6_hdr(skb)
    daddr, source = iph.daddr, iph.saddr
    if not source:
        return SKB_DROP_REASON_IP_INADDRERRORS
    multicast = ipv6_addr_is_multicast(daddr)
    if multicast and sysctl.icmpv6_echo_ignore_multicast:
        return SKB_DROP_REASON_INVALID_PROTO
    anycast = not multicast and ipv6_chk_acast_addr(net, dev, daddr)
    if anycast and sysctl.icmpv6_echo_ignore_anycast:
        return SKB_DROP_REASON_INVALID_PROTO
    saddr = daddr
    if multicast or (anycast and not sysctl.anycast_src_echo_reply):
        saddr = 0
    fl6 = flowi(
        AF_INET6,
        source,
        saddr,
        icmp6_iif(skb),
        flowi_proto=IPPROTO_ICMPV6,
        fl_sport=ICMPV6_ECHO_REPLY,
    )
    if sysctl.flowlabel_reflect & FLOWLABEL_REFLECT_ICMPV6_ECHO_REPLIES:
        fl6.flowlabel = iph.flow_lbl
    sk = icmpv6_xmit_lock(net)
    if sk is None:
        return SKB_NOT_DROPPED_YET
    try:
        try:
            rt = ip6_dst_lookup_tail(net, sk, fl6, 0)
        except OSError:
            return SKB_NOT_DROPPED_YET
        if not dev.flags & IFF_LOOPBACK and not icmpv6_global_allow(net, ICMPV6_ECHO_REPLY):
            return SKB_NOT_DROPPED_YET
        if not icmpv6_xrlim_allow(net, ICMPV6_ECHO_REPLY, fl6):
            return SKB_NOT_DROPPED_YET
        request = icmp6_hdr(skb)
        un = request.icmp6_identifier << 16 | request.icmp6_sequence
        msg = icmpv6_msg(ICMPV6_ECHO_REPLY, request.icmp6_code, un, skb, 0)
        ipc6 = ipcm6_cookie(sk)
        ipc6.tclass = iph.priority
        icmpv6_transmit(sk, msg, skb.len, ipc6, fl6, rt)
    finally:
        icmpv6_xmit_unlock(sk)
    return SKB_NOT_DROPPED_YET


# --- receiving -----------------------------------------------------------------------------


def icmpv6_rcv(skb: sk_buff) -> int:
    """net/ipv6/icmp.c: an ICMPv6 message, data at its header. Takes ownership of skb."""
    net = skb.dev.net
    mib = net.mib.icmp6
    mib.InMsgs += 1
    iph = ipv6_hdr(skb)
    if not pskb_may_pull(skb, ICMP6_HLEN):
        mib.InErrors += 1
        kfree_skb_reason(net, skb, SKB_DROP_REASON_PKT_TOO_SMALL)
        return 0
    if skb.ip_summed != CHECKSUM_UNNECESSARY and icmp6_csum(skb, iph.saddr, iph.daddr):
        mib.InCsumErrors += 1
        mib.InErrors += 1
        kfree_skb_reason(net, skb, SKB_DROP_REASON_ICMP_CSUM)
        return 0
    kind = icmp6_hdr(skb).icmp6_type
    icmp6_in_count(net, kind)
    handler = ICMPV6_HANDLERS.get(kind)
    if handler is not None:
        reason = handler(skb)
    elif kind & ICMPV6_INFOMSG_MASK:
        reason = SKB_NOT_DROPPED_YET  # RFC 4443 2.4 (b): silently discarded
    else:
        reason = icmpv6_error(skb)  # RFC 4443 2.4 (a): passed to the upper layer
    if reason and reason != SKB_CONSUMED:
        mib.InErrors += 1
        kfree_skb_reason(net, skb, reason)
    else:
        consume_skb(skb)
    return 0


def icmpv6_echo_request(skb: sk_buff) -> int:
    """net/ipv6/icmp.c (in icmpv6_rcv): unless sysctl icmp.echo_ignore_all says no."""
    if skb.dev.net.ipv6.sysctl.icmpv6_echo_ignore_all:
        return SKB_NOT_DROPPED_YET
    skb_pull(skb, ICMP6_HLEN)
    return icmpv6_echo_reply(skb)


def icmpv6_echo_answer(skb: sk_buff) -> int:
    """net/ipv6/icmp.c (ping_rcv): give an echo reply to its ping socket."""
    rcv = skb.dev.net.ipv6.sockets.ping_rcv
    skb_pull(skb, ICMP6_HLEN)
    if rcv is not None:
        rcv(skb)
    return SKB_NOT_DROPPED_YET


def icmpv6_error(skb: sk_buff) -> int:
    """net/ipv6/icmp.c (in icmpv6_rcv): an error about a packet of ours."""
    icmp6h = icmp6_hdr(skb)
    kind, code, info = icmp6h.icmp6_type, icmp6h.icmp6_code, icmp6h.icmp6_mtu
    skb_pull(skb, ICMP6_HLEN)
    return icmpv6_notify(skb, kind, code, info)


def icmpv6_notify(skb: sk_buff, kind: int, code: int, info: int) -> int:
    """net/ipv6/icmp.c: tell transport and raw sockets of an error. Borrows skb.

    Data at the embedded IPv6 header. A drop reason; 0 when fine.
    """
    net: Net = skb.dev.net
    if not pskb_may_pull(skb, IPV6_HLEN):
        return SKB_DROP_REASON_PKT_TOO_SMALL
    nexthdr = ipv6hdr_at(skb, 0).nexthdr
    inner = IPV6_HLEN
    if ipv6_ext_hdr(nexthdr):
        inner, nexthdr, _ = ipv6_skip_exthdr(skb, IPV6_HLEN, nexthdr)
        if inner < 0:
            return SKB_DROP_REASON_IPV6_BAD_EXTHDR
    # 8 bytes hold the ports, which say whose packet it was.
    if not pskb_may_pull(skb, inner + 8):
        return SKB_DROP_REASON_PKT_TOO_SMALL
    ipprot = net.ipv6.inet6_protos[nexthdr]
    if ipprot is not None and ipprot.err_handler is not None:
        ipprot.err_handler(skb, None, kind, code, inner, info)
    raw6_icmp_error = net.ipv6.sockets.raw6_icmp_error
    if raw6_icmp_error is not None:
        raw6_icmp_error(skb, nexthdr, kind, code, inner, info)
    return SKB_NOT_DROPPED_YET


def icmpv6_err(skb: sk_buff, opt: object, kind: int, code: int, offset: int, info: int) -> int:
    """net/ipv6/icmp.c: err_handler of ICMPv6 itself: an error about a message of ours."""
    net: Net = skb.dev.net
    if kind == ICMPV6_PKT_TOOBIG:
        ip6_update_pmtu(skb, net, info, skb.dev.ifindex)
    elif kind == NDISC_REDIRECT:
        ip6_redirect(skb, net, skb.dev.ifindex)
    ping_err = net.ipv6.sockets.ping_err
    if (
        not kind & ICMPV6_INFOMSG_MASK
        and ping_err is not None
        and skb_copy_bits(skb, offset, 1)[0] == ICMPV6_ECHO_REQUEST
    ):
        ping_err(skb, offset, info)
    return 0


def icmpv6_ndisc(skb: sk_buff) -> int:
    """Give a message of RFC 4861 to neighbour discovery."""
    rcv = skb.dev.net.ipv6.nd.ndisc_rcv
    return rcv(skb) if rcv is not None else SKB_NOT_DROPPED_YET


def icmpv6_mld(skb: sk_buff) -> int:
    """Give a message of multicast listener discovery to its module."""
    rcv = skb.dev.net.ipv6.nd.mld_rcv
    return rcv(skb) if rcv is not None else SKB_NOT_DROPPED_YET


# What each type does; of the others errors are passed on and information is discarded.
ICMPV6_HANDLERS: dict[int, Callable[[sk_buff], int]] = {
    ICMPV6_DEST_UNREACH: icmpv6_error,
    ICMPV6_PKT_TOOBIG: icmpv6_error,
    ICMPV6_TIME_EXCEED: icmpv6_error,
    ICMPV6_PARAMPROB: icmpv6_error,
    ICMPV6_ECHO_REQUEST: icmpv6_echo_request,
    ICMPV6_ECHO_REPLY: icmpv6_echo_answer,
    ICMPV6_MGM_QUERY: icmpv6_mld,
    ICMPV6_MGM_REPORT: icmpv6_mld,
    ICMPV6_MGM_REDUCTION: icmpv6_mld,
    ICMPV6_MLD2_REPORT: icmpv6_mld,
    NDISC_ROUTER_SOLICITATION: icmpv6_ndisc,
    NDISC_ROUTER_ADVERTISEMENT: icmpv6_ndisc,
    NDISC_NEIGHBOUR_SOLICITATION: icmpv6_ndisc,
    NDISC_NEIGHBOUR_ADVERTISEMENT: icmpv6_ndisc,
    NDISC_REDIRECT: icmpv6_ndisc,
}

icmpv6_protocol = inet6_protocol(
    handler=icmpv6_rcv, err_handler=icmpv6_err, flags=INET6_PROTO_NOPOLICY | INET6_PROTO_FINAL
)
icmpv6_ctl_prot = proto(name="ICMPv6", sock_class=inet_sock)


def icmpv6_sk_init(net: Net) -> None:
    """net/ipv6/icmp.c: the socket that sends, room for two 64 KiB echo replies at once."""
    sk = sk_alloc(net, AF_INET6, 0, icmpv6_ctl_prot, True)
    sock_init_data(None, sk)
    sk.sk_type = SOCK_RAW
    sk.sk_protocol = IPPROTO_ICMPV6
    sk.inet_num = IPPROTO_ICMPV6
    sk.pinet6 = ipv6_pinfo(pmtudisc=IPV6_PMTUDISC_DONT)
    sk.sk_sndbuf = 2 * 65536 * 2
    sk.sk_flags |= SOCK_USE_WRITE_QUEUE
    net.ipv6.icmp_sk = sk
    net.ipv6.icmp_sender = icmp6_send


def icmpv6_sk_exit(net: Net) -> None:
    """Free what a message under construction holds."""
    ip6_flush_pending_frames(net.ipv6.icmp_sk)
