"""net/ipv4/ip_tunnel.c ip_tunnel_xmit, net/ipv6/ip6_tunnel.c ip6_tnl_xmit: encapsulation.

    tunnel_xmit                         ndo_start_xmit of every kind
        ip_tunnel_xmit                  IPv4 outside
            tnl_nexthop                 the remote, if it depends on the packet
            tnl_update_pmtu             too big for the path: ICMP to the sender
            -> ip_local_out
        ip6_tnl_xmit                    IPv6 outside
            ip6_encap_limit             tunnels inside tunnels (RFC 2473 4.1.1)
            -> ip6_local_out

A packet has data at its own header. A super-packet gets one set of headers, and its checksum
remains partial (ip_tunnel_core.py); the device below segments it. Packets that cannot be sent are
dropped and counted. A tunnel whose route leads into itself counts a collision; longer loops end at
the limit of all devices (xmit_recursion).
"""

from __future__ import annotations

from fastpath.base.skbuff import (
    sk_buff,
    skb_copy_bits,
    skb_cow_head,
    skb_push_data,
    skb_reset_network_header,
)
from fastpath.net.hdr import ip_push, ipv6_push
from stack.core.dev_forward import skb_scrub_packet
from stack.core.dev_xmit import skb_gso_software
from stack.core.dst import dst_entry, dst_link_failure, dst_mtu
from stack.core.inet_ecn import INET_ECN_encapsulate
from stack.core.netdevice import ETH_HLEN, ETH_P_IP, ETH_P_IPV6, ETH_P_TEB, NETDEV_TX_OK, net_device
from stack.core.rows import narrow, wide
from stack.core.uapi import AF_INET, AF_INET6, IP_HLEN, IPV6_HLEN, IPV6_MIN_MTU
from stack.inet.flow import flowi
from stack.ipv4 import icmp_codes
from stack.ipv4.icmp import icmp_send
from stack.ipv4.ip_output import __ip_select_ident, ip_local_out
from stack.ipv4.route import IP_DF, ip4_dst_hoplimit, ip_route_output_key, rtable
from stack.ipv6.if_inet6 import ipv6_chk_addr
from stack.ipv6.ip6_icmp import ICMPV6_HDR_FIELD, ICMPV6_PARAMPROB, ICMPV6_PKT_TOOBIG, icmpv6_send
from stack.ipv6.ip6_output import ip6_local_out
from stack.ipv6.protocol import NEXTHDR_DEST
from stack.ipv6.route import ip6_dst_lookup_tail
from stack.ipv6.rt6_info import ip6_dst_hoplimit, rt6_info
from stack.tunnel.gre import GRE_SEQ, gre_build_header
from stack.tunnel.ip_tunnel import (
    ENCAP_LIMIT_BYTES,
    IP6_TNL_F_IGN_ENCAP_LIMIT,
    IP6_TNL_F_USE_ORIG_FLOWLABEL,
    IP6_TNL_F_USE_ORIG_TCLASS,
    IPTUNNEL_ERR_TIMEO_NS,
    drop_tx,
    gso_type_outside,
    inner_of,
    inner_packet,
    ip_tunnel,
    proto_outside,
)
from stack.tunnel.ip_tunnel_core import fits_outside, iptunnel_handle_offloads, iptunnel_xmit_stats

IPV6_TLV_TNL_ENCAP_LIMIT = 4
IPV4_MIN_MTU_OUTSIDE = 576
PREFIX_6TO4 = 0x2002
NO_LIMIT = -1
NEVER = -2


def tunnel_xmit(skb: sk_buff, dev: net_device) -> int:
    """ipip_tunnel_xmit, ipgre_xmit, gre_tap_xmit, sit_tunnel_xmit, ip6_tnl_start_xmit.

    NETDEV_TX_OK. Takes ownership of skb.
    """
    t: ip_tunnel = dev.priv
    if skb.gso_size and not fits_outside(skb):
        for one in skb_gso_software(skb, dev) or ():
            tunnel_xmit(one, dev)
        return NETDEV_TX_OK
    inner = inner_of(skb, t.kind.ether)
    proto = proto_outside(t, skb.protocol) if inner is not None else 0
    if inner is None or not proto:
        return drop_tx(skb, dev)
    if t.kind.family == AF_INET:
        return ip_tunnel_xmit(skb, t, inner, proto)
    return ip6_tnl_xmit(skb, t, inner, proto)


def push_gre(skb: sk_buff, t: ip_tunnel) -> None:
    """ipgre_xmit, gre_tap_xmit: the header of GRE."""
    p = t.parms
    seq = t.o_seqno
    if p.o_flags & GRE_SEQ:
        t.o_seqno = seq + 1 & 0xFFFFFFFF
    gre_build_header(skb, p.o_flags, ETH_P_TEB if t.kind.ether else skb.protocol, p.o_key, seq)


def tnl_enter(skb: sk_buff, t: ip_tunnel, dst: dst_entry) -> bool:
    """Make skb the tunnel's packet to `dst`, with a header of GRE. False: it cannot be. Borrows."""
    dev = t.dev
    if not skb_cow_head(skb, dev.needed_headroom + dst.dev.hard_header_len):
        dev.stats.tx_dropped += 1
        return False
    if not iptunnel_handle_offloads(skb, gso_type_outside(t)):
        return False
    if t.kind.gre:
        push_gre(skb, t)
    skb_scrub_packet(skb, dev.net is not t.net)
    skb.dst = dst
    skb.cb = None
    skb.ip_cb_flags = 0
    return True


def tell_errors(t: ip_tunnel, skb: sk_buff) -> None:
    """ip_tunnel_xmit: report ICMP errors about earlier packets to the sender of this one."""
    if t.err_count > 0:
        if t.net.clock.now_ns() - t.err_time < IPTUNNEL_ERR_TIMEO_NS:
            t.err_count -= 1
            dst_link_failure(skb)
        else:
            t.err_count = 0


# --- IPv4 outside ---------------------------------------------------------------------------------


def tnl_nexthop(skb: sk_buff, t: ip_tunnel, inner: inner_packet) -> int:
    """The remote of a tunnel without one, by the packet's route or address; 0: unknown."""
    dst = skb.dst
    if t.kind.kind == "sit":  # 6to4, and addresses with an IPv4 address at their end
        for addr in (inner.daddr, dst.rt6i_gateway if isinstance(dst, rt6_info) else 0):
            if addr >> 112 == PREFIX_6TO4:
                return narrow(addr >> 80 & 0xFFFFFFFF)
            if addr and not addr >> 32:
                return narrow(addr)
        return 0
    if isinstance(dst, rtable):
        return dst.rt_gw4 or narrow(inner.daddr) if inner.proto == ETH_P_IP else 0
    return 0


def ip_tunnel_xmit(skb: sk_buff, t: ip_tunnel, inner: inner_packet, proto: int) -> int:
    """net/ipv4/ip_tunnel.c. NETDEV_TX_OK. Takes ownership of skb."""
    dev, p, net = t.dev, t.parms, t.net
    dst = p.remote or tnl_nexthop(skb, t, inner)
    if not dst:
        if skb.dst is not None:
            dst_link_failure(skb)
        dev.stats.tx_fifo_errors += 1
        return drop_tx(skb, dev)
    tos = p.tos
    if tos & 1:
        tos = inner.tos if inner.proto in (ETH_P_IP, ETH_P_IPV6) else 0
    fl4 = flowi(AF_INET, dst, p.local, p.link, tos & 0x1C, proto)
    fl4.flowi_mark = p.fwmark or skb.mark
    try:
        rt = ip_route_output_key(net, fl4)
    except OSError:
        return no_route(skb, t)
    if rt.dev is dev:
        dev.stats.collisions += 1
        return drop_tx(skb, dev)
    df = p.pmtudisc or (inner.proto == ETH_P_IP and inner.df and not p.ignore_df)
    mtu = (
        dst_mtu(rt) - IP_HLEN - t.hlen - (ETH_HLEN if t.kind.ether else 0)
        if df
        else (dst_mtu(skb.dst) if skb.dst is not None else dev.mtu)
    )
    if not tnl_update_pmtu(skb, t, inner, mtu, IPV6_MIN_MTU):
        return drop_tx(skb, dev)
    tell_errors(t, skb)
    ttl = p.ttl or inner.ttl or ip4_dst_hoplimit(rt)
    length = skb.len
    if not tnl_enter(skb, t, rt):
        return drop_tx(skb, dev)
    tos = INET_ECN_encapsulate(tos, inner.tos)
    # frag_off 0: IP fragments what is too large for the path.
    saddr, daddr = narrow(fl4.saddr), narrow(fl4.daddr)
    ident = __ip_select_ident(net, daddr, saddr, proto, skb.gso_segs or 1)
    size = skb.len + IP_HLEN
    ip_push(skb, tos, size, ident, IP_DF if df else 0, ttl, proto, saddr, daddr)
    return iptunnel_xmit_stats(dev, ip_local_out(net, None, skb), length)


def tnl_update_pmtu(skb: sk_buff, t: ip_tunnel, inner: inner_packet, mtu: int, least6: int) -> bool:
    """net/ipv4/ip_tunnel.c: tell the route and the sender of a smaller MTU. Borrows skb.

    False: the packet does not fit and must not be fragmented.
    """
    dst = skb.dst
    size = skb.len - inner.at
    if dst is not None and dst.ops is not None and mtu < dst_mtu(dst):
        update = dst.ops.update_pmtu
        if update is not None and (inner.proto == ETH_P_IP or mtu >= least6):
            skb.network_header = skb.data_offset + inner.at
            update(dst, None, skb, mtu, False)
    if size <= mtu or skb.gso_size:  # TCP uses the route's MTU; IP fragments the packets
        return True
    if inner.proto == ETH_P_IP and inner.df and not t.parms.ignore_df:
        if not inner.at:
            skb_reset_network_header(skb)
            icmp_send(skb, icmp_codes.ICMP_DEST_UNREACH, icmp_codes.ICMP_FRAG_NEEDED, mtu)
        return False
    if inner.proto == ETH_P_IPV6 and mtu >= least6:
        if not inner.at:
            skb_reset_network_header(skb)
            icmpv6_send(skb, ICMPV6_PKT_TOOBIG, 0, mtu)
        return False
    return True


# --- IPv6 outside ---------------------------------------------------------------------------------


def ip6_encap_limit(skb: sk_buff, t: ip_tunnel, inner: inner_packet) -> int:
    """net/ipv6/ip6_tunnel.c ip6_tnl_parse_tlv_enc_lim: the limit to send; NO_LIMIT, NEVER.

    A packet from a tunnel has the number of further ones. If it is 0, its sender gets an error.
    """
    limit = NO_LIMIT
    if not t.parms.flags & IP6_TNL_F_IGN_ENCAP_LIMIT:
        limit = t.parms.encap_limit
    if inner.proto != ETH_P_IPV6 or skb_copy_bits(skb, inner.at + 6, 1)[0] != NEXTHDR_DEST:
        return limit
    at = inner.at + IPV6_HLEN
    if skb.len < at + 8:
        return limit
    size = (skb_copy_bits(skb, at + 1, 1)[0] + 1) * 8
    if skb.len < at + size:
        return limit
    options = skb_copy_bits(skb, at, size)
    off = 2
    while off + 1 < size:
        if not options[off]:  # Pad1
            off += 1
        elif options[off] == IPV6_TLV_TNL_ENCAP_LIMIT and options[off + 1] == 1 and off + 2 < size:
            if options[off + 2]:
                return options[off + 2] - 1
            if not inner.at:
                icmpv6_send(skb, ICMPV6_PARAMPROB, ICMPV6_HDR_FIELD, at + off + 2)
            return NEVER
        else:
            off += options[off + 1] + 2
    return limit


def ip6_tnl_xmit(skb: sk_buff, t: ip_tunnel, inner: inner_packet, proto: int) -> int:
    """net/ipv6/ip6_tunnel.c. NETDEV_TX_OK. Takes ownership of skb."""
    dev, p, net = t.dev, t.parms, t.net
    limit = ip6_encap_limit(skb, t, inner)
    if limit == NEVER or not p.remote:
        return drop_tx(skb, dev)
    tclass, label = p.tos, p.flowlabel
    if p.flags & IP6_TNL_F_USE_ORIG_TCLASS:
        tclass = inner.tos
    if p.flags & IP6_TNL_F_USE_ORIG_FLOWLABEL:
        label = inner.flow_lbl
    fl6 = flowi(AF_INET6, p.remote, p.local, p.link, tclass, proto)
    fl6.flowlabel = label
    fl6.flowi_mark = p.fwmark
    if p.local and not ipv6_chk_addr(net, p.local, None, False):
        return no_route(skb, t)
    try:
        rt = ip6_dst_lookup_tail(net, None, fl6, 0)
    except OSError:
        return no_route(skb, t)
    if rt.dev is dev:
        dev.stats.collisions += 1
        return drop_tx(skb, dev)
    options = ENCAP_LIMIT_BYTES if limit >= 0 else 0
    mtu = dst_mtu(rt) - IPV6_HLEN - t.hlen - options - (ETH_HLEN if t.kind.ether else 0)
    mtu = max(mtu, IPV6_MIN_MTU if inner.proto == ETH_P_IPV6 else IPV4_MIN_MTU_OUTSIDE)
    if not tnl_update_pmtu(skb, t, inner, mtu, IPV6_MIN_MTU):
        return drop_tx(skb, dev)
    tell_errors(t, skb)
    hop_limit = p.ttl or inner.ttl or ip6_dst_hoplimit(rt)
    length = skb.len
    if not tnl_enter(skb, t, rt):
        return drop_tx(skb, dev)
    if limit >= 0:
        skb_push_data(skb, bytes((proto, 0, IPV6_TLV_TNL_ENCAP_LIMIT, 1, limit, 1, 1, 0)))
        proto = NEXTHDR_DEST
    tclass = INET_ECN_encapsulate(tclass, inner.tos)
    saddr: wide = fl6.saddr
    ipv6_push(skb, tclass, label, skb.len, proto, hop_limit, saddr, fl6.daddr)
    return iptunnel_xmit_stats(dev, ip6_local_out(net, None, skb), length)


def no_route(skb: sk_buff, t: ip_tunnel) -> int:
    """The remote is unreachable: notify the sender. NETDEV_TX_OK. Takes ownership of skb."""
    t.dev.stats.tx_carrier_errors += 1
    if skb.dst is not None:
        dst_link_failure(skb)
    return drop_tx(skb, t.dev)
