"""Receiving IPv4: header checks, routing, local delivery (net/ipv4/ip_input.c).

    packet_type -> ip_rcv, ip_list_rcv
      ip_rcv_core                   version, lengths, checksum; counters
      PRE_ROUTING hook
      ip_rcv_finish
        ip_rcv_finish_core          early demux or ip_route_input, options; the route is in skb.dst
        dst_input                   ip_forward, ip_error, or
          ip_local_deliver          reassembly, LOCAL_IN hook
            ip_local_deliver_finish raw sockets, then the protocol's handler

Lists of packets take the same steps (stack/inet/ip_input.py). The file keeps no state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath.base import skbuff
from fastpath.base.skbuff import (
    consume_skb,
    sk_buff,
    skb_copy_bits,
    skb_orphan,
    skb_share_check,
)
from fastpath.net.hdr import ip_hdr, ip_hdr_validate
from fastpath.net.inet import ip_is_fragment, ip_pull_header, ip_route_fields
from stack.core import drop_reason
from stack.core.dev_receive import gro_split
from stack.core.drop_reason import kfree_skb_reason
from stack.core.dst import dst_input
from stack.core.inet_ecn import (
    INET_ECN_ECT_0,
    INET_ECN_ECT_1,
    INET_ECN_MASK,
    INET_ECN_NOT_ECT,
)
from stack.core.l3mdev import IFF_L3MDEV_RCV, l3mdev_l3_rcv
from stack.core.netdevice import NET_RX_DROP, NET_RX_SUCCESS, SkbList, net_device, packet_type
from stack.core.netfilter import (
    NF_INET_LOCAL_IN,
    NF_INET_PRE_ROUTING,
    NFPROTO_IPV4,
    nf_hook,
    nf_hook_each,
)
from stack.core.snmp import ipext_mib
from stack.core.uapi import AF_INET, RTN_BROADCAST, RTN_LOCAL, RTN_MULTICAST
from stack.inet.ip_input import (
    ONE_BY_ONE,
    inet_list_rcv,
    inet_list_rcv_finish,
    inet_rcv_one_by_one,
    inet_rcv_ops,
    inet_sublist_rcv_finish,
)
from stack.inet.raw import ra_deliver, ra_wanted, raw_local_deliver
from stack.inet.xfrm_policy import XFRM_POLICY_IN, xfrm4_policy_check
from stack.ipv4.icmp import icmp_send
from stack.ipv4.icmp_codes import ICMP_DEST_UNREACH, ICMP_PROT_UNREACH
from stack.ipv4.ip_fragment import IP_DEFRAG_LOCAL_DELIVER, ip_defrag
from stack.ipv4.ip_options_rcv import ip_rcv_options
from stack.ipv4.netns import in_dev_conf
from stack.ipv4.route import IP_MF, IP_OFFSET, rtable
from stack.ipv4.route_input import ip_route_input

if TYPE_CHECKING:
    from stack.core.sock import sock
    from stack.inet.protocol import net_protocol
    from stack.net import Net

IP_HLEN, IP_UDP_HLEN = 20, 28


def ip_rcv(skb: sk_buff, dev: net_device, pt: packet_type, orig_dev: net_device) -> int:
    """net/ipv4/ip_input.c: a received IPv4 packet, data at its header. Takes ownership of skb."""
    net = dev.net
    if skb.gso_type & skbuff.SKB_GSO_UDP_L4 and ip_rcv_one_by_one(net):
        ip_list_rcv(gro_split(skb), pt, orig_dev)
        return NET_RX_SUCCESS
    checked = ip_rcv_core(skb, net)
    if checked is None:
        return NET_RX_DROP
    skb = checked
    if (
        net.nf_hooks[NF_INET_PRE_ROUTING]
        and nf_hook(NF_INET_PRE_ROUTING, net, None, skb, dev, None, ip_rcv_finish) != 1
    ):
        return NET_RX_DROP
    return ip_rcv_finish(net, None, skb)


def ip_list_rcv(skbs: SkbList, pt: packet_type, orig_dev: net_device) -> None:
    """net/ipv4/ip_input.c: receive packets, see inet_list_rcv. Takes ownership of them."""
    inet_list_rcv(skbs, ip_rcv_ops)


def ip_sublist_rcv(skbs: SkbList, dev: net_device, net: Net) -> None:
    """net/ipv4/ip_input.c: call the PRE_ROUTING hook for each packet, then route the list."""
    hooks = net.nf_hooks[NF_INET_PRE_ROUTING]
    if hooks:
        skbs = nf_hook_each(
            hooks, NFPROTO_IPV4, NF_INET_PRE_ROUTING, net, None, skbs, dev, None, ip_rcv_finish
        )
    ip_list_rcv_finish(net, None, skbs)


def ip_list_rcv_finish(net: Net, sk: sock | None, skbs: list[sk_buff]) -> None:
    """net/ipv4/ip_input.c: route packets, see inet_list_rcv_finish. Takes ownership of them."""
    inet_list_rcv_finish(net, skbs, ip_rcv_ops)


def ip_sublist_rcv_finish(net: Net, skbs: SkbList) -> None:
    """net/ipv4/ip_input.c: pass on packets of one route. Takes ownership of them."""
    inet_sublist_rcv_finish(net, skbs)


def ip_rcv_one_by_one(net: Net) -> bool:
    """inet_rcv_ops.one_by_one"""
    return inet_rcv_one_by_one(net, AF_INET, net.nf_hooks)


def ip_rcv_core(skb: sk_buff, net: Net) -> sk_buff | None:
    """net/ipv4/ip_input.c: check version, header length, checksum, total length (RFC 1122 3.2.1).

    Returns the packet, perhaps a clone, trimmed to its total length and with network and transport
    header set; None when it was dropped. Takes ownership of skb.
    """
    # A promiscuous device receives frames for others.
    if skb.pkt_type == skbuff.PACKET_OTHERHOST:
        skb.dev.stats.rx_otherhost_dropped += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_OTHERHOST)
        return None
    mib = net.mib
    segs = skb.gso_segs or 1
    mib.ip.InReceives += segs
    mib.ipext.InOctets += skb.len
    if skb.gso_type & skbuff.SKB_GSO_UDP_L4:  # each of the merged datagrams counts
        mib.ipext.InOctets += (segs - 1) * IP_UDP_HLEN
    if skb.users > 1:
        shared = skb_share_check(skb)
        if shared is None:
            mib.ip.InDiscards += 1
            return None
        skb = shared
    bad = ip_hdr_validate(skb)
    if bad:
        ip_ecn_count_bad(mib.ipext, skb, segs)
        if bad == 2:
            mib.ipext.InCsumErrors += 1
            reason = drop_reason.SKB_DROP_REASON_IP_CSUM
        elif bad == 3:
            mib.ipext.InTruncatedPkts += 1
            kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_PKT_TOO_SMALL)
            return None
        else:
            reason = drop_reason.SKB_DROP_REASON_IP_INHDR
        mib.ip.InHdrErrors += 1
        kfree_skb_reason(net, skb, reason)
        return None
    ip_ecn_count(mib.ipext, skb.l3_dsfield & INET_ECN_MASK, segs)
    skb.cb = None
    skb.ip_cb_flags = 0
    skb.frag_max_size = 0
    if skb.destructor is not None:
        skb_orphan(skb)
    return skb


def ip_ecn_count(mib: ipext_mib, ecn: int, segs: int) -> None:
    """include/net/inet_ecn.h (in ip_rcv_core): count by codepoint."""
    if ecn == INET_ECN_NOT_ECT:
        mib.InNoECTPkts += segs
    elif ecn == INET_ECN_ECT_1:
        mib.InECT1Pkts += segs
    elif ecn == INET_ECN_ECT_0:
        mib.InECT0Pkts += segs
    else:
        mib.InCEPkts += segs


def ip_ecn_count_bad(mib: ipext_mib, skb: sk_buff, segs: int) -> None:
    """Count a packet with valid version and header length, even if it is dropped later."""
    if skb.len >= IP_HLEN:
        first, tos = skb_copy_bits(skb, 0, 2)
        if first >> 4 == 4 and first & 15 >= 5:
            ip_ecn_count(mib, tos & INET_ECN_MASK, segs)


def ip_rcv_finish(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """net/ipv4/ip_input.c: find the route, apply options, pass on. Takes ownership of skb."""
    verdict = ip_rcv_finish_core(net, skb)
    if verdict == NET_RX_SUCCESS:
        return dst_input(skb)
    if verdict == ONE_BY_ONE:
        ip_list_rcv_finish(net, sk, gro_split(skb))
        return NET_RX_SUCCESS
    return NET_RX_DROP


def ip_rcv_finish_core(net: Net, skb: sk_buff) -> int:
    """net/ipv4/ip_input.c: find the route, apply options.

    NET_RX_SUCCESS: the route is in skb.dst. NET_RX_DROP: skb was dropped and freed. ONE_BY_ONE: the
    caller must split the merged datagrams, which are not for this host.
    """
    daddr, saddr, tos, protocol, plain = ip_route_fields(skb)
    dev: net_device = skb.dev
    if dev.priv_flags & IFF_L3MDEV_RCV and l3mdev_l3_rcv(skb, AF_INET) is None:
        return NET_RX_DROP
    rt: rtable = skb.dst
    if rt is not None:
        if rt.rt_iif:
            skb.skb_iif = rt.rt_iif  # inet_iif: it was sent over lo; use the device of its address
    elif plain == 2 and skb.sk is None:
        early_demux = net.ipv4.early_demux.find(protocol)
        if early_demux is not None:
            early_demux(skb)
            rt = skb.dst
    if rt is None:
        reason = ip_route_input(skb, daddr, saddr, tos, dev)
        if reason:
            if reason == drop_reason.SKB_DROP_REASON_IP_RPFILTER:
                net.mib.linux.IPReversePathFilter += 1
            kfree_skb_reason(net, skb, reason)
            return NET_RX_DROP
        rt = skb.dst
    rtype = rt.rt_type
    if plain == 2 and rtype == RTN_LOCAL:
        return NET_RX_SUCCESS
    if rtype != RTN_LOCAL and skb.gso_type & skbuff.SKB_GSO_UDP_L4:
        return ONE_BY_ONE
    if ip_hdr(skb).ihl > 5:
        if ip_rcv_options(skb, dev):
            kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_IP_INHDR)
            return NET_RX_DROP
        rt = skb.dst
        rtype = rt.rt_type
    if rtype == RTN_MULTICAST:
        net.mib.ipext.InMcastPkts += 1
        net.mib.ipext.InMcastOctets += skb.len
    elif rtype == RTN_BROADCAST:
        net.mib.ipext.InBcastPkts += 1
        net.mib.ipext.InBcastOctets += skb.len
    elif skb.pkt_type in (skbuff.PACKET_BROADCAST, skbuff.PACKET_MULTICAST):
        in_dev = dev.ip_ptr
        if in_dev is not None and in_dev_conf(in_dev, "drop_unicast_in_l2_multicast"):
            kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_UNICAST_IN_L2_MULTICAST)
            return NET_RX_DROP
    return NET_RX_SUCCESS


ip_rcv_ops = inet_rcv_ops(
    one_by_one=ip_rcv_one_by_one,
    rcv_core=ip_rcv_core,
    sublist_rcv=ip_sublist_rcv,
    rcv_finish_core=ip_rcv_finish_core,
    sublist_rcv_finish=ip_sublist_rcv_finish,
)


def ip_local_deliver(skb: sk_buff) -> int:
    """net/ipv4/ip_input.c: a packet for this host: reassemble, LOCAL_IN hook, finish.

    Takes ownership of skb.
    """
    dev: net_device = skb.dev
    net = dev.net
    if ip_is_fragment(skb):
        whole = ip_defrag(net, skb, IP_DEFRAG_LOCAL_DELIVER)
        if whole is None:
            return NET_RX_SUCCESS
        skb = whole
    if (
        net.nf_hooks[NF_INET_LOCAL_IN]
        and nf_hook(NF_INET_LOCAL_IN, net, None, skb, skb.dev, None, ip_local_deliver_finish) != 1
    ):
        return NET_RX_DROP
    return ip_local_deliver_finish(net, None, skb)


def ip_local_deliver_finish(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """net/ipv4/ip_input.c (with ip_protocol_deliver_rcu): deliver to raw sockets and the protocol.

    Each raw socket gets a clone first. Without a raw socket and a handler the sender gets an ICMP
    protocol unreachable. Takes ownership of skb.
    """
    protocol = ip_pull_header(skb)
    ipprot: net_protocol | None
    while True:
        raw = raw_local_deliver(skb, AF_INET, protocol)
        ipprot = net.inet_protos[protocol]
        if ipprot is None:
            if raw:
                net.mib.ip.InDelivers += 1
                consume_skb(skb)
                return NET_RX_SUCCESS
            if xfrm4_policy_check(None, XFRM_POLICY_IN, skb):
                net.mib.ip.InUnknownProtos += 1
                icmp_send(skb, ICMP_DEST_UNREACH, ICMP_PROT_UNREACH, 0)
            kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_IP_NOPROTO)
            return NET_RX_SUCCESS
        if not ipprot.no_policy and not xfrm4_policy_check(None, XFRM_POLICY_IN, skb):
            kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_XFRM_POLICY)
            return NET_RX_SUCCESS
        net.mib.ip.InDelivers += skb.gso_segs if skb.gso_type & skbuff.SKB_GSO_UDP_L4 else 1
        handler = ipprot.handler
        ret = handler(skb)
        if ret is None or ret >= 0:
            return NET_RX_SUCCESS
        protocol = -ret  # the handler unwrapped another protocol


def ip_call_ra_chain(skb: sk_buff) -> bool:
    """net/ipv4/ip_input.c: give a router-alert packet to sockets with IP_ROUTER_ALERT.

    Takes ownership of skb when it returns True.
    """
    net, protocol = skb.dev.net, ip_hdr(skb).protocol
    socks = ra_wanted(net.ra_chain, protocol, skb.dev.ifindex)
    if not socks:
        return False
    if ip_hdr(skb).frag_off & (IP_MF | IP_OFFSET):
        whole = ip_defrag(net, skb, IP_DEFRAG_LOCAL_DELIVER)
        if whole is None:
            return True
        skb = whole
    ra_deliver(AF_INET, socks, skb)
    return True
