"""Receiving IPv6: header checks, routing, local delivery (net/ipv6/ip6_input.c).

    deliver_skb => ipv6_rcv                 one packet
        ip6_rcv_core                        version, length, addresses, hop-by-hop options
        PRE_ROUTING hook
        ip6_rcv_finish
            ip6_rcv_finish_core             early demux (the socket's route), else ip6_route_input
            dst_input => ip6_input, ip6_forward, ip6_mc_input => ip6_mr_input (ip6mr.py)
                ip6_input                   LOCAL_IN hook
                    ip6_input_finish        header by header: raw6_local_deliver, then
                                            inet6_protos[nexthdr].handler
    __netif_receive_skb_list_ptype => ipv6_list_rcv     several: ip6_sublist_rcv,
        ip6_list_rcv_finish, ip6_sublist_rcv_finish     sublists of packets with the same route

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    |Version| Traffic Class |              Flow Label               |
    |         Payload Length        |  Next Header  |   Hop Limit   |
    |            Source Address, 16; Destination Address, 16        |

Merged datagrams (SKB_GSO_UDP_L4) are split where a hook or a raw socket has to see each one. Read
ip6_rcv_core, then ip6_input_finish.
"""

from __future__ import annotations

from fastpath.base import skbuff
from fastpath.base.skbuff import (
    consume_skb,
    sk_buff,
    skb_clone,
    skb_copy_bits,
    skb_orphan,
    skb_share_check,
)
from fastpath.net.hdr import ipv6_hdr
from fastpath.net.hdr6 import ipv6_hdr_validate, ipv6_skip_exthdr
from fastpath.net.inet import ip6_pull_header, ip6_rcv_fields, ip6_to_group
from stack.core import drop_reason, netdevice
from stack.core.dev_receive import gro_split
from stack.core.drop_reason import kfree_skb_reason
from stack.core.dst import dst_input
from stack.core.inet_ecn import INET_ECN_ECT_0, INET_ECN_ECT_1, INET_ECN_MASK, INET_ECN_NOT_ECT
from stack.core.l3mdev import IFF_L3MDEV, IFF_L3MDEV_RCV, inet_sdif, l3mdev_l3_rcv
from stack.core.netdevice import SkbList, net_device, packet_type
from stack.core.netfilter import (
    NF_INET_LOCAL_IN,
    NF_INET_PRE_ROUTING,
    NFPROTO_IPV6,
    nf_hook6,
    nf_hook_each,
)
from stack.core.rows import wide
from stack.core.snmp import ipstats6_mib
from stack.core.sock import sock
from stack.core.uapi import AF_INET6, IPV6_HLEN
from stack.inet.ip_input import (
    ONE_BY_ONE,
    inet_list_rcv,
    inet_list_rcv_finish,
    inet_rcv_one_by_one,
    inet_rcv_ops,
    inet_sublist_rcv_finish,
)
from stack.inet.ipmr_base import mr_table
from stack.inet.xfrm_policy import XFRM_POLICY_IN, xfrm6_policy_check
from stack.ipv6.addr import ipv6_addr_mc_scope
from stack.ipv6.exthdrs import ipv6_parse_hopopts
from stack.ipv6.if_inet6 import inet6_dev, ipv6_chk_mcast_addr
from stack.ipv6.ip6_cb import IP6CB, IP6SKB_ROUTERALERT, NHOFF_FIRST, ip6cb_nhoff
from stack.ipv6.ip6_icmp import (
    ICMPV6_MGM_QUERY,
    ICMPV6_MGM_REDUCTION,
    ICMPV6_MGM_REPORT,
    ICMPV6_MLD2_REPORT,
    ICMPV6_PARAMPROB,
    ICMPV6_UNK_NEXTHDR,
    icmpv6_send,
)
from stack.ipv6.protocol import INET6_PROTO_FINAL, INET6_PROTO_NOPOLICY, NEXTHDR_HOP, NEXTHDR_ICMP
from stack.ipv6.route import ip6_route_input
from stack.ipv6.rt6_info import rt6_info
from stack.net import Net

IPV6_UDP_HLEN = 48
MLD_TYPES = (ICMPV6_MGM_QUERY, ICMPV6_MGM_REPORT, ICMPV6_MGM_REDUCTION, ICMPV6_MLD2_REPORT)
NOT_ROUTED = (1, 2)
"""Scopes of groups whose packets stay on their link (RFC 4291 2.7)."""


def ipv6_rcv(skb: sk_buff, dev: net_device, pt: packet_type, orig_dev: net_device) -> int:
    """net/ipv6/ip6_input.c: a received IPv6 packet, data at its header. Takes ownership of skb."""
    net = dev.net
    if skb.gso_type & skbuff.SKB_GSO_UDP_L4 and ip6_rcv_one_by_one(net):
        ipv6_list_rcv(gro_split(skb), pt, orig_dev)
        return netdevice.NET_RX_SUCCESS
    checked = ip6_rcv_core(skb, net)
    if checked is None:
        return netdevice.NET_RX_DROP
    skb = checked
    if (
        net.ipv6.nf_hooks[NF_INET_PRE_ROUTING]
        and nf_hook6(NF_INET_PRE_ROUTING, net, None, skb, dev, None, ip6_rcv_finish) != 1
    ):
        return netdevice.NET_RX_DROP
    return ip6_rcv_finish(net, None, skb)


def ipv6_list_rcv(skbs: SkbList, pt: packet_type, orig_dev: net_device) -> None:
    """net/ipv6/ip6_input.c: receive packets, see inet_list_rcv. Takes ownership of them."""
    inet_list_rcv(skbs, ip6_rcv_ops)


def ip6_sublist_rcv(skbs: SkbList, dev: net_device, net: Net) -> None:
    """net/ipv6/ip6_input.c: call the PRE_ROUTING hook for each packet, then route the list."""
    hooks = net.ipv6.nf_hooks[NF_INET_PRE_ROUTING]
    if hooks:
        skbs = nf_hook_each(
            hooks, NFPROTO_IPV6, NF_INET_PRE_ROUTING, net, None, skbs, dev, None, ip6_rcv_finish
        )
    ip6_list_rcv_finish(net, None, skbs)


def ip6_list_rcv_finish(net: Net, sk: sock | None, skbs: list[sk_buff]) -> None:
    """net/ipv6/ip6_input.c: route packets, see inet_list_rcv_finish. Takes ownership of them."""
    inet_list_rcv_finish(net, skbs, ip6_rcv_ops)


def ip6_sublist_rcv_finish(net: Net, skbs: SkbList) -> None:
    """net/ipv6/ip6_input.c: pass on packets of one route. Takes ownership of them."""
    inet_sublist_rcv_finish(net, skbs)


def ip6_rcv_one_by_one(net: Net) -> bool:
    """inet_rcv_ops.one_by_one"""
    return inet_rcv_one_by_one(net, AF_INET6, net.ipv6.nf_hooks)


def ip6_rcv_core(skb: sk_buff, net: Net) -> sk_buff | None:
    """net/ipv6/ip6_input.c: check version, length and addresses, process hop-by-hop options.

    RFC 8200 3, RFC 4291 2. Returns the packet, perhaps a clone, trimmed to its length and with
    network and transport header set; None when it was dropped. Takes ownership of skb.
    """
    if skb.pkt_type == skbuff.PACKET_OTHERHOST:  # a promiscuous device receives frames for others
        skb.dev.stats.rx_otherhost_dropped += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_OTHERHOST)
        return None
    dev: net_device = skb.dev
    mib = net.mib.ip6
    segs = skb.gso_segs or 1
    mib.InReceives += segs
    mib.InOctets += skb.len
    if skb.gso_type & skbuff.SKB_GSO_UDP_L4:  # each of the merged datagrams counts
        mib.InOctets += (segs - 1) * IPV6_UDP_HLEN
    idev: inet6_dev | None = dev.ip6_ptr
    if idev is None or idev.cnf.disable_ipv6:
        mib.InDiscards += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_IPV6DISABLED)
        return None
    if skb.users > 1:
        shared = skb_share_check(skb)
        if shared is None:
            mib.InDiscards += 1
            return None
        skb = shared
    skb.cb = None
    skb.ip_cb_flags = 0
    skb.frag_max_size = 0
    bad = ipv6_hdr_validate(
        skb, bool(dev.flags & netdevice.IFF_LOOPBACK) or skb.pkt_type == skbuff.PACKET_LOOPBACK
    )
    if bad:
        version = skb_copy_bits(skb, 0, 1)[0] >> 4 if skb.len else 0
        if skb.len >= IPV6_HLEN and version == 6:
            ip6_ecn_count(mib, skb_copy_bits(skb, 1, 1)[0] >> 4 & INET_ECN_MASK, segs)
        if bad == 3 and (
            skb.pkt_type not in (skbuff.PACKET_BROADCAST, skbuff.PACKET_MULTICAST)
            or ip6_to_group(skb)
            or not idev.cnf.drop_unicast_in_l2_multicast
        ):
            mib.InTruncatedPkts += 1
            kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_PKT_TOO_SMALL)
            return None
        mib.InHdrErrors += 1
        reason = (
            drop_reason.SKB_DROP_REASON_IP_INHDR
            if version == 6
            else drop_reason.SKB_DROP_REASON_UNHANDLED_PROTO
        )
        kfree_skb_reason(net, skb, reason)
        return None
    ip6_ecn_count(mib, skb.l3_dsfield & INET_ECN_MASK, segs)
    if (
        skb.pkt_type in (skbuff.PACKET_BROADCAST, skbuff.PACKET_MULTICAST)
        and not ip6_to_group(skb)
        and idev.cnf.drop_unicast_in_l2_multicast
    ):
        mib.InHdrErrors += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_UNICAST_IN_L2_MULTICAST)
        return None
    if skb.l4_proto == NEXTHDR_HOP and not ipv6_parse_hopopts(skb):
        mib.InHdrErrors += 1
        return None
    if skb.destructor is not None:
        skb_orphan(skb)
    return skb


def ip6_ecn_count(mib: ipstats6_mib, ecn: int, segs: int) -> None:
    """include/net/inet_ecn.h (in ip6_rcv_core): count by codepoint."""
    if ecn == INET_ECN_NOT_ECT:
        mib.InNoECTPkts += segs
    elif ecn == INET_ECN_ECT_1:
        mib.InECT1Pkts += segs
    elif ecn == INET_ECN_ECT_0:
        mib.InECT0Pkts += segs
    else:
        mib.InCEPkts += segs


def ip6_rcv_finish(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """net/ipv6/ip6_input.c: early demux, find the route, pass on. Takes ownership of skb."""
    verdict = ip6_rcv_finish_core(net, skb)
    if verdict == netdevice.NET_RX_SUCCESS:
        return dst_input(skb)
    if verdict == netdevice.NET_RX_DROP:
        return verdict
    ip6_list_rcv_finish(net, sk, gro_split(skb))
    return netdevice.NET_RX_SUCCESS


def ip6_rcv_finish_core(net: Net, skb: sk_buff) -> int:
    """net/ipv6/ip6_input.c: early demux, then the route in skb.dst. Borrows skb.

    Returns NET_RX_SUCCESS; ONE_BY_ONE for merged datagrams that are not for this host; or
    NET_RX_DROP if a VRF's hook took the packet.
    """
    if skb.dst is not None:
        rt: rt6_info = skb.dst
        if rt.rt6i_idev is not None:
            skb.skb_iif = rt.rt6i_idev.dev.ifindex  # it was sent over lo
    if skb.dev.priv_flags & IFF_L3MDEV_RCV and l3mdev_l3_rcv(skb, AF_INET6) is None:
        return netdevice.NET_RX_DROP
    if skb.dst is None:
        daddr, nexthdr, strict = ip6_rcv_fields(skb)
        early_demux = net.ipv6.early_demux.find(nexthdr)
        if early_demux is not None and skb.sk is None:
            early_demux(skb)
        if skb.dst is None:
            ip6_route_input(skb, daddr, strict)
    if skb.gso_type & skbuff.SKB_GSO_UDP_L4 and skb.dst.input is not ip6_input:
        return ONE_BY_ONE
    return netdevice.NET_RX_SUCCESS


ip6_rcv_ops = inet_rcv_ops(
    one_by_one=ip6_rcv_one_by_one,
    rcv_core=ip6_rcv_core,
    sublist_rcv=ip6_sublist_rcv,
    rcv_finish_core=ip6_rcv_finish_core,
    sublist_rcv_finish=ip6_sublist_rcv_finish,
)


def ip6_input(skb: sk_buff) -> int:
    """net/ipv6/ip6_input.c: a packet for this host: LOCAL_IN hook, finish.

    Takes ownership of skb.
    """
    net: Net = skb.dev.net
    if (
        net.ipv6.nf_hooks[NF_INET_LOCAL_IN]
        and nf_hook6(NF_INET_LOCAL_IN, net, None, skb, skb.dev, None, ip6_input_finish) != 1
    ):
        return netdevice.NET_RX_DROP
    return ip6_input_finish(net, None, skb)


def ip6_input_finish(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """net/ipv6/ip6_input.c (with ip6_protocol_deliver_rcu): walk the headers and deliver.

    At each header raw sockets get a clone; then the header's handler gets the packet. An unknown
    header causes an ICMPv6 parameter problem. Takes ownership of skb.
    """
    protos = net.ipv6.inet6_protos
    raw6_local_deliver = net.ipv6.sockets.raw6_local_deliver
    have_final = False
    nhoff = NHOFF_FIRST if skb.cb is None else ip6cb_nhoff(skb)
    nexthdr = ip6_pull_header(skb, nhoff)
    while True:
        raw = raw6_local_deliver(skb, nexthdr)
        ipprot = protos[nexthdr]
        if ipprot is None:
            if raw:
                net.mib.ip6.InDelivers += 1
                consume_skb(skb)
                return netdevice.NET_RX_SUCCESS
            if not xfrm6_policy_check(None, XFRM_POLICY_IN, skb):
                return _discard(net, skb, drop_reason.SKB_DROP_REASON_XFRM_POLICY)
            net.mib.ip6.InUnknownProtos += 1
            icmpv6_send(skb, ICMPV6_PARAMPROB, ICMPV6_UNK_NEXTHDR, nhoff)
            kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_IP_NOPROTO)
            return netdevice.NET_RX_SUCCESS
        final = ipprot.flags & INET6_PROTO_FINAL
        if have_final:
            if not final:  # an extension header inside a tunnel's payload
                return _discard(net, skb, drop_reason.SKB_DROP_REASON_IP_INHDR)
        elif final:
            have_final = True
            if ip6_to_group(skb) and not ip6_mc_for_us(skb, ipv6_hdr(skb).daddr, nexthdr):
                return _discard(net, skb, drop_reason.SKB_DROP_REASON_IP_INADDRERRORS)
        if not ipprot.flags & INET6_PROTO_NOPOLICY and not xfrm6_policy_check(
            None, XFRM_POLICY_IN, skb
        ):
            return _discard(net, skb, drop_reason.SKB_DROP_REASON_XFRM_POLICY)
        handler = ipprot.handler
        delivered = skb.gso_segs if skb.gso_type & skbuff.SKB_GSO_UDP_L4 else 1
        ret = handler(skb)
        if not ret:
            net.mib.ip6.InDelivers += delivered
            return netdevice.NET_RX_SUCCESS
        if ret < 0:
            return netdevice.NET_RX_SUCCESS
        if final:
            nexthdr = ret  # the handler unwrapped another protocol
        else:
            # An extension header's handler sets transport_header and nhoff for the next one.
            nhoff = ip6cb_nhoff(skb)
            nexthdr = ip6_pull_header(skb, nhoff)


def _discard(net: Net, skb: sk_buff, reason: int) -> int:
    net.mib.ip6.InDiscards += 1
    kfree_skb_reason(net, skb, reason)
    return netdevice.NET_RX_SUCCESS


def ip6_mc_for_us(skb: sk_buff, daddr: wide, nexthdr: int) -> bool:
    """net/ipv6/ip6_input.c (in ip6_protocol_deliver_rcu): whether to receive a packet to a group.

    The interface must listen to the group and sender. MLD messages always pass.
    """
    dev: net_device = skb.dev
    rt: rt6_info = skb.dst
    if dev.priv_flags & IFF_L3MDEV:
        dev = ip6_rcv_dev(skb)
    if dev.flags & netdevice.IFF_LOOPBACK and rt is not None and rt.rt6i_idev is not None:
        dev = rt.rt6i_idev.dev
    if ipv6_chk_mcast_addr(dev, daddr, ipv6_hdr(skb).saddr):
        return True
    return nexthdr == NEXTHDR_ICMP and skb.len > 0 and skb_copy_bits(skb, 0, 1)[0] in MLD_TYPES


def ip6_rcv_dev(skb: sk_buff) -> net_device:
    """The device whose groups apply: skb.dev, or in a VRF the port that received the packet."""
    dev: net_device = skb.dev
    sdif = inet_sdif(skb)
    return dev.net.dev_by_index.get(sdif, dev) if sdif else dev


def ip6_is_mld(skb: sk_buff) -> bool:
    """In ip6_mc_input: whether a packet with a router alert is a message of MLD. Borrows skb."""
    if IP6CB(skb).ra:
        return False
    at, nexthdr, _ = ipv6_skip_exthdr(skb, IPV6_HLEN, ipv6_hdr(skb).nexthdr)
    if nexthdr != NEXTHDR_ICMP or not 0 <= at < skb.len:
        return False
    return skb_copy_bits(skb, at, 1)[0] in MLD_TYPES


def ip6_mc_route(mrt: mr_table, skb: sk_buff, deliver: bool) -> int:
    """In ip6_mc_input with a multicast routing daemon. Takes ownership of skb."""
    alert = skb.ip_cb_flags & IP6SKB_ROUTERALERT != 0 and IP6CB(skb).ra == 0
    if alert:  # the value of MLD: the packet is for routers and must not be forwarded
        deliver = deliver or ip6_is_mld(skb)
    elif ipv6_addr_mc_scope(ipv6_hdr(skb).daddr) not in NOT_ROUTED:
        if not deliver:
            return mrt.ops.input(skb)
        clone = skb_clone(skb)
        clone.dst = skb.dst
        clone.dev = skb.dev
        mrt.ops.input(clone)
    if deliver:
        return ip6_input(skb)
    kfree_skb_reason(mrt.net, skb, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)
    return 0


def ip6_mc_input(skb: sk_buff) -> int:
    """net/ipv6/ip6_input.c: deliver a packet to a group, route it, or drop it.

    Takes ownership of skb.
    """
    net: Net = skb.dev.net
    mib = net.mib.ip6
    mib.InMcastPkts += 1
    mib.InMcastOctets += skb.len
    deliver = ipv6_chk_mcast_addr(ip6_rcv_dev(skb), ipv6_hdr(skb).daddr)
    mrt: mr_table | None = net.ipv6.mrt
    if mrt is not None and mrt.mroute_sk is not None:
        return ip6_mc_route(mrt, skb, deliver)
    if deliver:
        return ip6_input(skb)
    kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)
    return 0
