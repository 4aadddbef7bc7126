"""Sending ICMPv6: errors and echo replies, and their rate limits (net/ipv6/icmp.c; RFC 4443).

    code that drops a packet -> icmpv6_send => icmp6_send
        is_ineligible                       no error about an error (RFC 4443 2.4 e)
        icmpv6_global_allow, icmpv6_xrlim_allow     rate limits: namespace, then destination
        icmpv6_route_lookup
        icmpv6_transmit                     quotes as much as fits 1280 bytes
            ip6_append_data, icmpv6_push_pending_frames
    icmpv6_rcv -> icmpv6_echo_reply         the same steps for an answer

      0                   1                   2                   3
      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
     |     Type      |     Code      |           Checksum            |
     |   `un`: Identifier, Sequence Number; or unused, MTU, pointer  |
     |   Data; an error quotes the packet that caused it             |

State: `net.ipv6.icmp_sk` sends all messages. While it is owned, no other message is sent, so that
an error about an ICMPv6 message causes none (icmp_xmit_lock). Read icmp6_send first.
"""

from __future__ import annotations

from fastpath.base.skbuff import (
    PACKET_HOST,
    sk_buff,
    skb_copy_bits,
    skb_network_offset,
    skb_pull,
    skb_push,
)
from fastpath.net.hdr import ipv6_hdr, ipv6hdr_at
from fastpath.net.hdr6 import icmp6_hdr, icmp6_push, ipv6_skip_exthdr
from stack.core import drop_reason
from stack.core.l3mdev import l3mdev_master_ifindex, netif_is_l3_master
from stack.core.netdevice import IFF_LOOPBACK, net_device
from stack.core.rows import wide
from stack.core.time64 import NSEC_PER_MSEC
from stack.core.uapi import (
    AF_INET6,
    IPPROTO_ICMPV6,
    IPV6_HLEN,
    IPV6_MIN_MTU,
    MSG_DONTWAIT,
    RTF_GATEWAY,
)
from stack.inet.flow import flowi
from stack.inet.icmp_limit import (
    icmp_bxm,
    icmp_global_allow,
    icmp_global_consume,
    icmp_glue_bits,
    icmp_xmit_lock,
    icmp_xmit_unlock,
    inet_getpeer,
    inet_peer_xrlim_allow,
)
from stack.inet.icmp_probe import icmp_build_probe
from stack.inet.inet_sock import inet_sock
from stack.inet.multipath import fib_multipath_hash
from stack.inet.xfrm_policy import xfrm_lookup
from stack.ipv6.addr import ipv6_addr_is_linklocal, ipv6_addr_is_multicast
from stack.ipv6.if_inet6 import ipv6_chk_acast_addr, ipv6_chk_addr
from stack.ipv6.ip6_append import (
    ip6_append_data,
    ip6_finish_skb,
    ip6_push_pending_frames,
    ipcm6_cookie,
    ipcm6_init_sk,
)
from stack.ipv6.ip6_fib import RTF_ANYCAST, RTF_NONEXTHOP
from stack.ipv6.ip6_icmp import (
    ICMP6_HLEN,
    ICMPV6_ECHO_REPLY,
    ICMPV6_EXT_ECHO_REPLY,
    ICMPV6_EXT_ECHO_REQUEST,
    ICMPV6_INFOMSG_MASK,
    ICMPV6_PARAMPROB,
    ICMPV6_PKT_TOOBIG,
    ICMPV6_UNK_OPTION,
    icmp6_out_count,
)
from stack.ipv6.ip6_output import ip6_reply_mark
from stack.ipv6.route import ip6_dst_lookup_tail, ip6_route_output
from stack.ipv6.rt6_info import rt6_info
from stack.ipv6.saddr import ipv6_dev_get_saddr
from stack.net import Net

FLOWLABEL_REFLECT_ICMPV6_ECHO_REPLIES = 4


# --- rate limits ---------------------------------------------------------------------------


def icmpv6_mask_allow(net: Net, kind: int) -> bool:
    """net/ipv6/icmp.c: whether this type is not rate limited."""
    return kind not in net.ipv6.sysctl.icmpv6_ratemask


def icmpv6_global_allow(net: Net, kind: int) -> bool:
    """net/ipv6/icmp.c: the limit of the namespace, which IPv4 shares."""
    return icmpv6_mask_allow(net, kind) or icmp_global_allow(net)


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
        cost_ns = net.ipv6.sysctl.icmpv6_ratelimit * NSEC_PER_MSEC
        if rt.rt6i_plen < 128:
            cost_ns >>= (128 - rt.rt6i_plen) >> 5
        peer = inet_getpeer(net, net.ipv6.peers, fl6.daddr)
        allowed = inet_peer_xrlim_allow(net, peer, cost_ns)
    if allowed:
        icmp_global_consume(net)
    else:
        net.mib.icmp6.OutRateLimitHost += 1
    return allowed


# --- sending -------------------------------------------------------------------------------


def icmpv6_push_pending_frames(sk: inet_sock, fl6: flowi, msg: icmp_bxm) -> int:
    """net/ipv6/icmp.c: add the ICMPv6 header and checksum, and send."""
    skb = sk.sk_write_queue.peek()
    if skb is None:
        return 0
    icmp6_push(skb, msg.type, msg.code, msg.un, fl6.saddr, fl6.daddr)
    icmp6_out_count(sk.net, msg.type)
    return ip6_push_pending_frames(sk, ip6_finish_skb(sk, fl6))


def icmpv6_transmit(
    sk: inet_sock, msg: icmp_bxm, length: int, ipc6: ipcm6_cookie, fl6: flowi, rt: rt6_info
) -> None:
    """Send `msg` with `length` bytes of data; a failure is counted."""
    size = length + ICMP6_HLEN
    ipc6.mark = fl6.flowi_mark
    try:
        ip6_append_data(sk, icmp_glue_bits, msg, size, ICMP6_HLEN, ipc6, fl6, rt, MSG_DONTWAIT)
    except OSError:
        sk.net.mib.icmp6.OutErrors += 1
        return
    icmpv6_push_pending_frames(sk, fl6, msg)


def icmp6_iif(skb: sk_buff) -> int:
    """net/ipv6/icmp.c: the index of a packet's input interface; on lo or a VRF, its address's."""
    dev: net_device = skb.dev
    rt = skb.dst
    if (
        (dev.flags & IFF_LOOPBACK or netif_is_l3_master(dev))
        and isinstance(rt, rt6_info)
        and rt.rt6i_idev is not None
    ):
        return rt.rt6i_idev.dev.ifindex
    return dev.ifindex


def is_ineligible(skb: sk_buff, offset: int) -> bool:
    """net/ipv6/icmp.c: whether the packet at `offset` is an ICMPv6 error (RFC 4443 2.4 e.1).

    Linux does not count a redirect (e.2) as one.
    """
    at, nexthdr, frag_off = ipv6_skip_exthdr(
        skb, offset + IPV6_HLEN, ipv6hdr_at(skb, offset).nexthdr
    )
    if at < 0 or nexthdr != IPPROTO_ICMPV6:
        return False
    if at >= skb.len:
        return not frag_off
    kind = skb_copy_bits(skb, at, 1)[0]
    return not kind & ICMPV6_INFOMSG_MASK


def opt_unrec(skb: sk_buff, offset: int) -> bool:
    """net/ipv6/icmp.c: whether an unknown option is reported also for groups (RFC 8200 4.2)."""
    at = skb_network_offset(skb) + offset
    return skb.len > at and skb_copy_bits(skb, at, 1)[0] >> 6 == 2


def ipv6_anycast_destination(rt: rt6_info, daddr: wide) -> bool:
    """include/net/ip6_route.h: whether `daddr` is anycast, also as a subnet-router address."""
    return bool(rt.rt6i_flags & RTF_ANYCAST) or (
        rt.rt6i_plen < 127
        and not rt.rt6i_flags & (RTF_GATEWAY | RTF_NONEXTHOP)
        and rt.rt6i_dst == daddr
    )


def icmp6_send(skb: sk_buff, type: int, code: int, info: int) -> None:  # noqa: A002
    """net/ipv6/icmp.c: report an error about `skb` to its sender (RFC 4443 2.4). Borrows skb.

    ICMPv6 errors, and packets from a group or from ::, cause no error. Packets to groups cause only
    those of RFC 4443 2.4 (e.3). Rate limits apply.
    """
    offset = skb_network_offset(skb)
    if offset < 0:  # data is behind the IPv6 header
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
    saddr: wide = 0
    acast_dev = dev if ipv6_addr_is_linklocal(daddr) else None
    if ipv6_chk_addr(net, daddr, dev, False) or ipv6_chk_acast_addr(net, acast_dev, daddr):
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
    sk = icmp_xmit_lock(net.ipv6.icmp_sk)
    if sk is None:
        return
    try:
        if ipv6_addr_is_linklocal(source):  # __ipv6_addr_needs_scope_id: ::1 does not
            oif = icmp6_iif(skb)
        else:
            oif = l3mdev_master_ifindex(skb.dst.dev if skb.dst is not None else dev)
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
            flowi_mark=ip6_reply_mark(net, skb.mark),
        )
        if net.ipv6.fib6.multipath:  # by the route of the packet in question
            fl6.mp_hash = fib_multipath_hash(net, fl6, skb)
        if not icmpv6_xrlim_allow(net, type, fl6):
            return
        rt = icmpv6_route_lookup(net, sk, fl6)
        if rt is None:
            return
        msg = icmp_bxm(type, code, info, skb, offset)
        length = min(skb.len - offset, IPV6_MIN_MTU - IPV6_HLEN - ICMP6_HLEN)
        icmpv6_transmit(sk, msg, length, ipcm6_init_sk(sk), fl6, rt)
    finally:
        icmp_xmit_unlock(sk)


def icmpv6_route_lookup(net: Net, sk: inet_sock, fl6: flowi) -> rt6_info | None:
    """net/ipv6/icmp.c: the route to an error's receiver; None when there is none, or to anycast."""
    try:
        rt: rt6_info = xfrm_lookup(net, fl6, ip6_dst_lookup_tail(net, sk, fl6, 0))
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
        return drop_reason.SKB_DROP_REASON_IP_INADDRERRORS
    multicast = ipv6_addr_is_multicast(daddr)
    if multicast and sysctl.icmpv6_echo_ignore_multicast:
        return drop_reason.SKB_DROP_REASON_INVALID_PROTO
    anycast = not multicast and ipv6_chk_acast_addr(net, dev, daddr)
    if anycast and sysctl.icmpv6_echo_ignore_anycast:
        return drop_reason.SKB_DROP_REASON_INVALID_PROTO
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
        flowi_mark=ip6_reply_mark(net, skb.mark),
    )
    if sysctl.flowlabel_reflect & FLOWLABEL_REFLECT_ICMPV6_ECHO_REPLIES:
        fl6.flowlabel = iph.flow_lbl
    sk = icmp_xmit_lock(net.ipv6.icmp_sk)
    if sk is None:
        return drop_reason.SKB_NOT_DROPPED_YET
    try:
        try:
            rt: rt6_info = xfrm_lookup(net, fl6, ip6_dst_lookup_tail(net, sk, fl6, 0))
        except OSError:
            return drop_reason.SKB_NOT_DROPPED_YET
        if not dev.flags & IFF_LOOPBACK and not icmpv6_global_allow(net, ICMPV6_ECHO_REPLY):
            return drop_reason.SKB_NOT_DROPPED_YET
        if not icmpv6_xrlim_allow(net, ICMPV6_ECHO_REPLY, fl6):
            return drop_reason.SKB_NOT_DROPPED_YET
        request = icmp6_hdr(skb)
        un = request.icmp6_identifier << 16 | request.icmp6_sequence
        msg = icmp_bxm(ICMPV6_ECHO_REPLY, request.icmp6_code, un, skb, 0)
        if request.icmp6_type == ICMPV6_EXT_ECHO_REQUEST:
            told = icmp_build_probe(net, skb, un)
            if told is None:
                return drop_reason.SKB_NOT_DROPPED_YET
            msg.type = ICMPV6_EXT_ECHO_REPLY
            msg.code, msg.un = told
        ipc6 = ipcm6_init_sk(sk)
        ipc6.tclass = iph.priority
        icmpv6_transmit(sk, msg, skb.len, ipc6, fl6, rt)
    finally:
        icmp_xmit_unlock(sk)
    return drop_reason.SKB_NOT_DROPPED_YET
