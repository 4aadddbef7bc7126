"""net/ipv4/ip_tunnel.c: tunnel devices and their table, for both families.

    register_tunnel             `ip link add NAME type KIND`: the device, its MTU, its table entry
    tunnel_xmit                 ndo_start_xmit of all kinds
        inner_packet            fields of the inner header
        ip_tunnel_xmit, ip6_tnl_xmit        (ip_tunnel_xmit.py) find the route, push headers
    ip_tunnel_lookup            the tunnel of a received packet: remote, local, key, device
    ip_tunnel_rcv               its packet: checks of GRE, congestion marks, gro_cells_receive
    (ip_tunnel_rcv.py has the handlers of the protocols and of ICMP errors)

A kind is a row of KINDS: outer family, protocol numbers, inner protocols. A packet on the
wire, here of gre:

    | IPv4 20 | GRE 4..16 | the packet that was sent to the device |
     <- saddr, daddr, ttl, tos of ip_tunnel_parm ->

Outer packets stay in the namespace where the device was created (`ip_tunnel.net`), even if it
moves to another. State: `net.gen["ip_tunnel"]`, by kind and addresses. Read KINDS first.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from fastpath.base.skbuff import (
    SKB_GSO_GRE,
    SKB_GSO_GRE_CSUM,
    SKB_GSO_IPXIP4,
    SKB_GSO_IPXIP6,
    pskb_may_pull,
    sk_buff,
    skb_copy_bits,
    skb_reset_mac_header,
    skb_reset_network_header,
)
from fastpath.net.hdr import iphdr_at, ipv6hdr_at
from stack.core import netdevice
from stack.core.dev import free_netdev, unregister_netdevice
from stack.core.dev_forward import skb_scrub_packet
from stack.core.drop_reason import (
    SKB_DROP_REASON_NOT_SPECIFIED,
    SKB_DROP_REASON_PKT_TOO_SMALL,
    kfree_skb_reason,
)
from stack.core.errors import os_error
from stack.core.ethtool import ethtool_drvinfo, ethtool_ops
from stack.core.gro_cells import gro_cell, gro_cells_destroy, gro_cells_init, gro_cells_receive
from stack.core.inet_ecn import INET_ECN_decapsulate
from stack.core.netdevice import ETH_P_IP, ETH_P_IPV6, net_device, net_device_ops, rtnl_link_ops
from stack.core.rows import row, state, wide
from stack.core.rtnetlink import eth_hw_addr_init, rtnl_create_link, rtnl_register_link
from stack.core.uapi import AF_INET, AF_INET6, IP_HLEN, IPPROTO_IPV6, IPV6_HLEN, IPV6_MIN_MTU
from stack.ethernet.eth import eth_type_trans, ether_setup
from stack.inet.flow import flowi
from stack.ipv4.route import IP_MAX_MTU
from stack.net import Net
from stack.tunnel.gre import GRE_CSUM, GRE_KEY, GRE_SEQ, gre_calc_hlen, tnl_ptk_info
from stack.tunnel.ip_tunnel_core import iptunnel_pull_offloads, tunnel_route_dev

IPPROTO_IPIP, IPPROTO_GRE = 4, 47
ENCAP_LIMIT_BYTES = 8
"""A destination option with the tunnel encapsulation limit (RFC 2473 4.1.1)."""
IPTUNNEL_ERR_TIMEO_NS = 30_000_000_000
"""How long senders of further packets get an ICMP error."""

# include/uapi/linux/ip6_tunnel.h
IP6_TNL_F_IGN_ENCAP_LIMIT = 0x1
IP6_TNL_F_USE_ORIG_TCLASS = 0x2
IP6_TNL_F_USE_ORIG_FLOWLABEL = 0x4

TUNNEL_FEATURES = netdevice.NETIF_F_SOFTWARE_DEVICE
"""IPIP_FEATURES, GRE_FEATURES and similar."""


@dataclass(frozen=True, slots=True)
class tunnel_kind:
    """One kind of tunnel."""

    kind: str
    family: int
    type: int
    protos: tuple[int, ...]
    """What may be inside, by protocol number outside: IPPROTO_GRE alone, or one or two others."""
    ether: bool = False

    @property
    def gre(self) -> bool:
        """There is a header of GRE."""
        return self.protos[0] == IPPROTO_GRE


KINDS: dict[str, tunnel_kind] = {
    row.kind: row
    for row in (
        tunnel_kind("ipip", AF_INET, netdevice.ARPHRD_TUNNEL, (IPPROTO_IPIP,)),
        tunnel_kind("sit", AF_INET, netdevice.ARPHRD_SIT, (IPPROTO_IPV6, IPPROTO_IPIP)),
        tunnel_kind("gre", AF_INET, netdevice.ARPHRD_IPGRE, (IPPROTO_GRE,)),
        tunnel_kind("gretap", AF_INET, netdevice.ARPHRD_ETHER, (IPPROTO_GRE,), True),
        tunnel_kind("ip6tnl", AF_INET6, netdevice.ARPHRD_TUNNEL6, (IPPROTO_IPV6, IPPROTO_IPIP)),
        tunnel_kind("ip6gre", AF_INET6, netdevice.ARPHRD_IP6GRE, (IPPROTO_GRE,)),
        tunnel_kind("ip6gretap", AF_INET6, netdevice.ARPHRD_ETHER, (IPPROTO_GRE,), True),
    )
}


@state
class ip_tunnel_parm:
    """struct ip_tunnel_parm_kern, __ip6_tnl_parm: a tunnel's parameters."""

    local: wide = row(0)
    """The source address; 0: chosen by the route."""
    remote: wide = row(0)
    """The remote address; 0: by each packet."""
    link: int = row(0)
    """The outgoing interface; 0: any."""
    ttl: int = row(0)
    """TTL or hop limit; 0: the inner packet's."""
    tos: int = row(0)
    """TOS or traffic class; an odd TOS means the inner packet's."""
    proto: int = row(0)
    """The one protocol that may be inside, IPPROTO_IPIP or IPPROTO_IPV6; 0: either."""
    pmtudisc: bool = row(True)
    """Packets are sent with DF."""
    ignore_df: bool = row(False)
    """Ignore the DF of the inner packet."""
    i_flags: int = row(0)
    """GRE_*: what received packets must have."""
    o_flags: int = row(0)
    i_key: int = row(0)
    o_key: int = row(0)
    encap_limit: int = row(4)
    """Tunnels inside tunnels that may follow (RFC 2473)."""
    flowlabel: int = row(0)
    flags: int = row(0)
    """IP6_TNL_F_*."""
    fwmark: int = row(0)


@state
class ip_tunnel:
    """include/net/ip_tunnels.h: the private part of a device."""

    dev: net_device
    kind: tunnel_kind
    parms: ip_tunnel_parm
    net: Net = row(of=lambda t: t.dev.net)
    """The namespace of the outer packets."""
    hlen: int = row(0)
    """Bytes between the outer IP header and the inner packet."""
    o_seqno: int = row(0)
    i_seqno: int = row(0)
    err_count: int = row(0)
    """ICMP errors to report to the senders of the next packets."""
    err_time: int = row(0)
    """When the last one was received, ns."""
    gro_cells: gro_cell | None = row()
    """None for sit."""


@state
class inner_packet:
    """Header fields of a packet to be sent."""

    proto: int
    """ETH_P_IP, ETH_P_IPV6, else another EtherType."""
    at: int
    """The offset of its network header."""
    tos: int = row(0)
    ttl: int = row(0)
    df: bool = row(False)
    daddr: wide = row(0)
    flow_lbl: int = row(0)


# --- the tables ---------------------------------------------------------------------------------


class ip_tunnel_net:
    """struct ip_tunnel_net: the tunnels of a namespace by (kind, remote, local)."""

    __slots__ = ("tunnels",)

    def __init__(self) -> None:
        self.tunnels: dict[tuple[str, wide, wide], list[ip_tunnel]] = {}

    def add(self, t: ip_tunnel) -> None:
        """ip_tunnel_add"""
        p = t.parms
        self.tunnels.setdefault((t.kind.kind, p.remote, p.local), []).append(t)

    def remove(self, t: ip_tunnel) -> None:
        """ip_tunnel_del"""
        key = (t.kind.kind, t.parms.remote, t.parms.local)
        found = self.tunnels.get(key, [])
        if t in found:
            found.remove(t)
            if not found:
                del self.tunnels[key]


def tunnels_of(net: Net) -> ip_tunnel_net:
    """net_generic(net, ip_tunnel_net_id)"""
    found: ip_tunnel_net = net.gen["ip_tunnel"]
    return found


def ip_tunnel_find(net: Net, kind: str, p: ip_tunnel_parm) -> ip_tunnel | None:
    """net/ipv4/ip_tunnel.c: the tunnel with these addresses, key and device."""
    for t in tunnels_of(net).tunnels.get((kind, p.remote, p.local), ()):
        same_key = (t.parms.i_flags ^ p.i_flags) & GRE_KEY == 0 and t.parms.i_key == p.i_key
        if same_key and t.parms.link == p.link:
            return t
    return None


def key_matches(p: ip_tunnel_parm, flags: int, key: int) -> bool:
    """net/ipv4/ip_tunnel.c ip_tunnel_key_match."""
    if p.i_flags & GRE_KEY:
        return bool(flags & GRE_KEY) and key == p.i_key
    return not flags & GRE_KEY


def ip_tunnel_lookup(
    net: Net, kind: str, link: int, flags: int, key: int, remote: wide, local: wide
) -> ip_tunnel | None:
    """net/ipv4/ip_tunnel.c: the tunnel that is up for a packet from `remote` to `local`.

    A tunnel with both addresses is preferred to one with either, and that to one with none.
    """
    table = tunnels_of(net).tunnels
    if not table:
        return None
    for pair in ((remote, local), (remote, 0), (0, local), (local, 0), (0, 0)):
        if pair == (local, 0) and local >> 28 != 0xE and local >> 120 != 0xFF:
            continue
        other = None
        for t in table.get((kind, *pair), ()):
            p = t.parms
            if not t.dev.flags & netdevice.IFF_UP or not key_matches(p, flags, key):
                continue
            if p.link == link:
                return t
            if not p.link:
                other = t
        if other is not None:
            return other
    return None


# --- sending ------------------------------------------------------------------------------------


def inner_of(skb: sk_buff, ether: bool) -> inner_packet | None:
    """The inner packet to be sent; None: its header is truncated. Borrows skb."""
    at = netdevice.ETH_HLEN if ether else 0
    proto = skb.protocol
    inner = inner_packet(proto, at)
    if proto == ETH_P_IP:
        if not pskb_may_pull(skb, at + IP_HLEN):
            return None
        iph = iphdr_at(skb, at)
        if iph.version != 4:
            return None
        inner.tos, inner.ttl, inner.daddr = iph.tos, iph.ttl, iph.daddr
        inner.df = bool(iph.frag_off & 0x4000)
    elif proto == ETH_P_IPV6:
        if not pskb_may_pull(skb, at + IPV6_HLEN):
            return None
        ip6h = ipv6hdr_at(skb, at)
        if ip6h.version != 6:
            return None
        inner.tos, inner.ttl, inner.daddr = ip6h.priority, ip6h.hop_limit, ip6h.daddr
        inner.flow_lbl = ip6h.flow_lbl
    return inner


def proto_outside(t: ip_tunnel, proto: int) -> int:
    """The protocol number for a packet of EtherType `proto`; 0: this tunnel does not take it."""
    if t.kind.gre:
        return IPPROTO_GRE
    number = {ETH_P_IP: IPPROTO_IPIP, ETH_P_IPV6: IPPROTO_IPV6}.get(proto, 0)
    if number not in t.kind.protos or t.parms.proto not in (0, number):
        return 0
    return number


def gso_type_outside(t: ip_tunnel) -> int:
    """What the tunnel adds to the `gso_type` of a packet that has offloads."""
    if t.kind.gre:
        return SKB_GSO_GRE_CSUM if t.parms.o_flags & GRE_CSUM else SKB_GSO_GRE
    return SKB_GSO_IPXIP4 if t.kind.family == AF_INET else SKB_GSO_IPXIP6


def drop_tx(skb: sk_buff, dev: net_device) -> int:
    """Count and free a packet that cannot be sent. NETDEV_TX_OK. Takes ownership of skb."""
    dev.stats.tx_errors += 1
    kfree_skb_reason(dev.net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
    return netdevice.NETDEV_TX_OK


# --- receiving ------------------------------------------------------------------------------------


def ip_tunnel_rcv(t: ip_tunnel, skb: sk_buff, tpi: tnl_ptk_info, outer_tos: int) -> None:
    """net/ipv4/ip_tunnel.c: receive the inner packet; data after all tunnel headers.

    Takes ownership of skb.
    """
    dev, p = t.dev, t.parms
    stats = dev.stats
    wrong = False
    if (tpi.flags ^ p.i_flags) & GRE_CSUM:
        stats.rx_crc_errors += 1
        wrong = True
    elif p.i_flags & GRE_SEQ:
        # Any number is the first one: the sender may have counted for long.
        old = t.i_seqno != 0 and (tpi.seq - t.i_seqno) & 0x80000000 != 0
        if not tpi.flags & GRE_SEQ or old:
            stats.rx_fifo_errors += 1
            wrong = True
        else:
            t.i_seqno = tpi.seq + 1 & 0xFFFFFFFF
    if wrong:
        stats.rx_errors += 1
        kfree_skb_reason(dev.net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
        return
    length = skb.len
    if not enter(t, skb, tpi.proto, outer_tos):
        return
    stats.rx_packets += 1
    stats.rx_bytes += length
    gro_cells_receive(t.gro_cells, skb)


def enter(t: ip_tunnel, skb: sk_buff, proto: int, outer_tos: int) -> bool:
    """Make skb a packet that the device received. False: dropped. Takes ownership of skb then."""
    dev = t.dev
    stats = dev.stats
    at = netdevice.ETH_HLEN if t.kind.ether else 0
    if not pskb_may_pull(skb, at):
        stats.rx_length_errors += 1
        stats.rx_errors += 1
        kfree_skb_reason(dev.net, skb, SKB_DROP_REASON_PKT_TOO_SMALL)
        return False
    inner = int.from_bytes(skb_copy_bits(skb, 12, 2), "big") if t.kind.ether else proto
    size = {ETH_P_IP: IP_HLEN, ETH_P_IPV6: IPV6_HLEN}.get(inner, 0)
    readable = size > 0 and pskb_may_pull(skb, at + size)
    if readable and INET_ECN_decapsulate(skb, inner, at, outer_tos) > 1:
        stats.rx_frame_errors += 1
        stats.rx_errors += 1
        kfree_skb_reason(dev.net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
        return False
    iptunnel_pull_offloads(skb)
    skb_scrub_packet(skb, dev.net is not t.net)
    skb.cb = None
    skb.ip_cb_flags = 0
    skb.dev = dev
    skb_reset_mac_header(skb)
    if t.kind.ether:
        eth_type_trans(skb, dev)
    else:
        skb.protocol = proto
    skb_reset_network_header(skb)
    return True


# --- the device -----------------------------------------------------------------------------------


def tunnel_overhead(t: ip_tunnel) -> int:
    """Bytes that a packet grows by."""
    size = (IP_HLEN if t.kind.family == AF_INET else IPV6_HLEN) + t.hlen
    if t.kind.family == AF_INET6 and not t.parms.flags & IP6_TNL_F_IGN_ENCAP_LIMIT:
        size += ENCAP_LIMIT_BYTES
    return size


def below(t: ip_tunnel) -> net_device | None:
    """The outgoing device of the tunnel's packets; None: not known yet."""
    net, p = t.net, t.parms
    if p.remote:
        tos = p.tos & 0x1C if t.kind.family == AF_INET else 0
        dev = tunnel_route_dev(net, flowi(t.kind.family, p.remote, p.local, p.link, tos))
        if dev is not None and dev is not t.dev and not dev.flags & netdevice.IFF_LOOPBACK:
            return dev
    return net.dev_by_index.get(p.link)


def ip_tunnel_bind_dev(t: ip_tunnel) -> int:
    """net/ipv4/ip_tunnel.c: the MTU that fits the device below; sets the headroom."""
    p, dev = t.parms, t.dev
    t.hlen = gre_calc_hlen(p.o_flags) if t.kind.gre else 0
    tdev = below(t)
    mtu, hlen = netdevice.ETH_DATA_LEN, netdevice.LL_MAX_HEADER
    if tdev is not None:
        hlen = tdev.hard_header_len + tdev.needed_headroom
        mtu = min(tdev.mtu, IP_MAX_MTU)
    grown = tunnel_overhead(t)
    dev.needed_headroom = grown + hlen
    mtu -= grown + (netdevice.ETH_HLEN if t.kind.ether else 0)
    sixer = t.kind.family == AF_INET6 or t.kind.kind == "sit"
    return max(mtu, IPV6_MIN_MTU if sixer and not t.kind.ether else netdevice.ETH_MIN_MTU)


def addr_bytes(t: ip_tunnel, addr: wide) -> bytes:
    """The address as the device's link-layer address."""
    return addr.to_bytes(4 if t.kind.family == AF_INET else 16, "big")


def ip_tunnel_update(t: ip_tunnel, p: ip_tunnel_parm, set_mtu: bool) -> None:
    """net/ipv4/ip_tunnel.c: change the device's parameters and its table entry."""
    tunnels = tunnels_of(t.net)
    tunnels.remove(t)
    t.parms = p
    tunnels.add(t)
    dev = t.dev
    if not t.kind.ether:
        dev.dev_addr, dev.broadcast = addr_bytes(t, p.local), addr_bytes(t, p.remote)
        dev.flags &= ~netdevice.IFF_POINTOPOINT
        if p.remote:
            dev.flags |= netdevice.IFF_POINTOPOINT
    tunnel_set_features(t)
    mtu = ip_tunnel_bind_dev(t)
    if set_mtu:
        dev.mtu = mtu


def tunnel_set_features(t: ip_tunnel) -> None:
    """__gre_tunnel_init, ipgre_link_update: super-packets are segmented before GRE numbers them."""
    dev, software = t.dev, netdevice.NETIF_F_GSO_SOFTWARE
    if t.parms.o_flags & GRE_SEQ:
        dev.features &= ~software
        dev.hw_features &= ~software
    elif not dev.hw_features & software:
        dev.features |= software
        dev.hw_features |= software


def tunnel_setup(dev: net_device) -> None:
    """ip_tunnel_setup and similar: the common part of all kinds."""
    dev.min_mtu = netdevice.ETH_MIN_MTU
    dev.max_mtu = IP_MAX_MTU
    dev.tx_queue_len = 0
    dev.flags = netdevice.IFF_NOARP
    dev.features = TUNNEL_FEATURES
    dev.hw_features = TUNNEL_FEATURES
    dev.ethtool_ops = tunnel_ethtool_ops


def tunnel_get_drvinfo(dev: net_device) -> ethtool_drvinfo:
    """`ethtool -i`."""
    t: ip_tunnel = dev.priv
    return ethtool_drvinfo(driver=t.kind.kind, version="")


tunnel_ethtool_ops = ethtool_ops(get_drvinfo=tunnel_get_drvinfo)


def register_tunnel(
    net: Net,
    name: str,
    kind: tunnel_kind,
    ops: rtnl_link_ops,
    netdev_ops: net_device_ops,
    p: ip_tunnel_parm,
    mac: bytes | None = None,
) -> net_device:
    """net/ipv4/ip_tunnel.c ip_tunnel_newlink. Raises: OSError EEXIST, EADDRNOTAVAIL; ValueError."""
    if ip_tunnel_find(net, kind.kind, p) is not None:
        raise os_error(errno.EEXIST, f"{name}: a tunnel with these addresses and this key")
    dev = rtnl_create_link(net, name, ops, tunnel_setup)
    t = ip_tunnel(dev, kind, p)
    dev.priv = t
    dev.type = kind.type
    if kind.ether:
        ether_setup(dev)
        dev.max_mtu = IP_MAX_MTU
        eth_hw_addr_init(dev, mac)
    else:
        dev.addr_len = 4 if kind.family == AF_INET else 16
    dev.netdev_ops = netdev_ops
    tunnel_set_features(t)
    rtnl_register_link(dev)
    if kind.kind != "sit":
        t.gro_cells = gro_cells_init(dev)
    ip_tunnel_update(t, p, True)
    return dev


def ip_tunnel_dellink(dev: net_device) -> None:
    """net/ipv4/ip_tunnel.c: `ip link del`."""
    t: ip_tunnel = dev.priv
    tunnels_of(t.net).remove(t)
    unregister_netdevice(dev)
    gro_cells_destroy(t.gro_cells)
    free_netdev(dev)


def ip_tunnel_init_net(net: Net) -> None:
    """net/ipv4/ip_tunnel.c: no tunnels yet."""
    net.gen["ip_tunnel"] = ip_tunnel_net()
