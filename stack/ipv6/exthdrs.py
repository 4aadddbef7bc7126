"""Received extension headers: options, routing (net/ipv6/exthdrs.c; RFC 8200 4, RFC 5095)."""

from __future__ import annotations

from fastpath.base.skbuff import (
    PACKET_HOST,
    consume_skb,
    pskb_may_pull,
    pskb_trim,
    sk_buff,
    skb_copy_bits,
    skb_network_offset,
    skb_set_transport_header,
    skb_transport_offset,
)
from fastpath.net.hdr import ipv6_hdr
from stack.core.drop_reason import (
    SKB_DROP_REASON_IP_INADDRERRORS,
    SKB_DROP_REASON_IP_INHDR,
    SKB_DROP_REASON_IPV6_BAD_EXTHDR,
    SKB_DROP_REASON_NOT_SPECIFIED,
    SKB_DROP_REASON_PKT_TOO_SMALL,
    SKB_DROP_REASON_UNHANDLED_PROTO,
    kfree_skb_reason,
)
from stack.core.uapi import IPV6_HLEN
from stack.ipv6 import protocol
from stack.ipv6.addr import ipv6_addr_is_multicast
from stack.ipv6.ip6_cb import IP6CB, IP6SKB_HOPBYHOP, IP6SKB_JUMBOGRAM, IP6SKB_ROUTERALERT
from stack.ipv6.ip6_icmp import ICMPV6_HDR_FIELD, ICMPV6_UNK_OPTION, icmpv6_param_prob
from stack.ipv6.protocol import inet6_add_protocol, inet6_protocol
from stack.ipv6.rt6_info import IPV6_MAXPLEN
from stack.ipv6.txoptions import IPV6_SRCRT_TYPE_3, IPV6_SRCRT_TYPE_4
from stack.net import Net

# include/uapi/linux/in6.h
IPV6_TLV_PAD1 = 0
IPV6_TLV_PADN = 1
IPV6_TLV_ROUTERALERT = 5
IPV6_TLV_IOAM = 49
IPV6_TLV_JUMBO = 194
PAD_MAX = 7  # bytes that align a header to 8 (RFC 4942 2.1.9.5)


def _drop(skb: sk_buff, reason: int) -> bool:
    """Free skb, with a drop reason. Returns False."""
    net: Net = skb.dev.net
    kfree_skb_reason(net, skb, reason)
    return False


def ip6_tlvopt_unknown(skb: sk_buff, off: int, kind: int, disallow: bool) -> bool:
    """net/ipv6/exthdrs.c: treat an unknown option by the two high bits of its type.

    `off` counts from the IPv6 header. True: skip it. False: skb was freed.
    """
    action = kind >> 6
    if not disallow:
        if action == 0:
            return True
        if action == 2 or (action == 3 and not ipv6_addr_is_multicast(ipv6_hdr(skb).daddr)):
            icmpv6_param_prob(skb, ICMPV6_UNK_OPTION, off, SKB_DROP_REASON_UNHANDLED_PROTO)
            return False
    return _drop(skb, SKB_DROP_REASON_UNHANDLED_PROTO)


def ip6_parse_tlv(hopbyhop: bool, skb: sk_buff, off: int, length: int, max_count: int) -> bool:
    """net/ipv6/exthdrs.c: process the options of a header `off` bytes behind the IPv6 header.

    At most abs(max_count) options are allowed; if it is negative, unknown ones are not.
    False: skb was freed.
    """
    disallow = max_count < 0
    max_count = abs(max_count)
    base = skb_network_offset(skb)
    nh = skb_copy_bits(skb, base + off, length)
    at, count, padding = 2, 0, 0
    while at < length:
        kind = nh[at]
        if kind == IPV6_TLV_PAD1:
            padding += 1
            if padding > PAD_MAX:
                return _drop(skb, SKB_DROP_REASON_IP_INHDR)
            at += 1
            continue
        if length - at < 2 or nh[at + 1] + 2 > length - at:
            return _drop(skb, SKB_DROP_REASON_IP_INHDR)
        size = nh[at + 1] + 2
        if kind == IPV6_TLV_PADN:
            padding += size
            if padding > PAD_MAX or any(nh[at + 2 : at + size]):
                return _drop(skb, SKB_DROP_REASON_IP_INHDR)
        else:
            padding = 0
            count += 1
            if count > max_count:
                return _drop(skb, SKB_DROP_REASON_IP_INHDR)
            if hopbyhop and kind == IPV6_TLV_ROUTERALERT:
                if not ipv6_hop_ra(skb, nh[at : at + size]):
                    return False
            elif hopbyhop and kind == IPV6_TLV_JUMBO:
                if not ipv6_hop_jumbo(skb, off + at, nh[at : at + size]):
                    return False
            elif hopbyhop and kind == IPV6_TLV_IOAM:
                # As with ioam6_enabled 0: skipped, unless it is unaligned.
                if off + at & 3:
                    return _drop(skb, SKB_DROP_REASON_IP_INHDR)
            elif not ip6_tlvopt_unknown(skb, off + at, kind, disallow):
                return False
        at += size
    return True


def ipv6_hop_ra(skb: sk_buff, option: bytes) -> bool:
    """net/ipv6/exthdrs.c: router alert (RFC 2711). False: skb was freed."""
    if option[1] != 2:
        return _drop(skb, SKB_DROP_REASON_IP_INHDR)
    skb.ip_cb_flags |= IP6SKB_ROUTERALERT
    IP6CB(skb).ra = int.from_bytes(option[2:4], "big")
    return True


def ipv6_hop_jumbo(skb: sk_buff, off: int, option: bytes) -> bool:
    """net/ipv6/exthdrs.c: jumbo payload (RFC 2675 3). False: skb was freed."""
    if option[1] != 4 or off & 3 != 2:
        return _drop(skb, SKB_DROP_REASON_IP_INHDR)
    size = int.from_bytes(option[2:6], "big")
    if size <= IPV6_MAXPLEN:
        icmpv6_param_prob(skb, ICMPV6_HDR_FIELD, off + 2, SKB_DROP_REASON_IP_INHDR)
        return False
    if ipv6_hdr(skb).payload_len:
        icmpv6_param_prob(skb, ICMPV6_HDR_FIELD, off, SKB_DROP_REASON_IP_INHDR)
        return False
    if size > skb.len - skb_network_offset(skb) - IPV6_HLEN:
        return _drop(skb, SKB_DROP_REASON_PKT_TOO_SMALL)
    pskb_trim(skb, size + IPV6_HLEN + skb_network_offset(skb))
    skb.ip_cb_flags |= IP6SKB_JUMBOGRAM
    return True


def ext_header(skb: sk_buff) -> tuple[int, int]:
    """(offset from data, length in bytes) of the extension header at the transport header.

    The length is 0 when the header is cut off.
    """
    at = skb_transport_offset(skb)
    if not pskb_may_pull(skb, at + 8):
        return at, 0
    length = (skb_copy_bits(skb, at + 1, 1)[0] + 1) << 3
    return at, length if pskb_may_pull(skb, at + length) else 0


def ipv6_parse_hopopts(skb: sk_buff) -> bool:
    """net/ipv6/exthdrs.c: the hop-by-hop options of a packet at its IPv6 header.

    True: the transport header is behind them. False: skb is gone.
    """
    net: Net = skb.dev.net
    sysctl = net.ipv6.sysctl
    at, length = ext_header(skb)
    if not length or length > sysctl.max_hbh_length:
        return _drop(skb, SKB_DROP_REASON_IPV6_BAD_EXTHDR)
    skb.ip_cb_flags |= IP6SKB_HOPBYHOP
    if not ip6_parse_tlv(True, skb, IPV6_HLEN, length, sysctl.max_hbh_opts_number):
        return False
    skb_set_transport_header(skb, at + length)
    IP6CB(skb).nhoff = IPV6_HLEN
    return True


def ipv6_destopt_rcv(skb: sk_buff) -> int:
    """net/ipv6/exthdrs.c: handler of destination options. 1: go on; else skb is gone."""
    net: Net = skb.dev.net
    sysctl = net.ipv6.sysctl
    at, length = ext_header(skb)
    if not length or length > sysctl.max_dst_opts_length:
        if not length:
            net.mib.ip6.InHdrErrors += 1
        kfree_skb_reason(net, skb, SKB_DROP_REASON_IPV6_BAD_EXTHDR)
        return -1
    off = at - skb_network_offset(skb)
    if not ip6_parse_tlv(False, skb, off, length, sysctl.max_dst_opts_number):
        net.mib.ip6.InHdrErrors += 1
        return -1
    parm = IP6CB(skb)
    parm.nhoff = off
    skb_set_transport_header(skb, at + length)
    return 1


def ipv6_rthdr_rcv(skb: sk_buff) -> int:
    """net/ipv6/exthdrs.c: handler of routing headers. 1: go on; else skb was freed.

    No type is followed: type 0 is forbidden (RFC 5095 3), the others are not supported. A header
    without segments left is skipped, any other is rejected (RFC 8200 4.4). RPL's and segment
    routing's are dropped silently, as with rpl_seg_enabled and seg6_enabled 0.
    """
    net: Net = skb.dev.net
    mib = net.mib.ip6
    at, length = ext_header(skb)
    if not length:
        mib.InHdrErrors += 1
        kfree_skb_reason(net, skb, SKB_DROP_REASON_IPV6_BAD_EXTHDR)
        return -1
    if ipv6_addr_is_multicast(ipv6_hdr(skb).daddr) or skb.pkt_type != PACKET_HOST:
        mib.InAddrErrors += 1
        kfree_skb_reason(net, skb, SKB_DROP_REASON_IP_INADDRERRORS)
        return -1
    off = at - skb_network_offset(skb)
    kind, segments_left = skb_copy_bits(skb, at + 2, 2)
    if kind in (IPV6_SRCRT_TYPE_3, IPV6_SRCRT_TYPE_4):
        kfree_skb_reason(net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
        return -1
    if segments_left:
        mib.InHdrErrors += 1
        icmpv6_param_prob(skb, ICMPV6_HDR_FIELD, off + 2, SKB_DROP_REASON_IPV6_BAD_EXTHDR)
        return -1
    parm = IP6CB(skb)
    parm.srcrt = parm.nhoff = off
    skb_set_transport_header(skb, at + length)
    return 1


def ipv6_nodata_rcv(skb: sk_buff) -> int:
    """net/ipv6/exthdrs.c nodata_protocol: no next header: nothing follows (RFC 8200 4.7)."""
    consume_skb(skb)
    return 0


rthdr_protocol = inet6_protocol(handler=ipv6_rthdr_rcv, flags=protocol.INET6_PROTO_NOPOLICY)
destopt_protocol = inet6_protocol(handler=ipv6_destopt_rcv, flags=protocol.INET6_PROTO_NOPOLICY)
nodata_protocol = inet6_protocol(handler=ipv6_nodata_rcv, flags=protocol.INET6_PROTO_NOPOLICY)


def ipv6_exthdrs_init(net: Net) -> None:
    """net/ipv6/exthdrs.c: register the handlers."""
    inet6_add_protocol(net, rthdr_protocol, protocol.NEXTHDR_ROUTING)
    inet6_add_protocol(net, destopt_protocol, protocol.NEXTHDR_DEST)
    inet6_add_protocol(net, nodata_protocol, protocol.NEXTHDR_NONE)
