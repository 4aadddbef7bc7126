"""net/ipv4/udp_tunnel_core.c, net/ipv6/ip6_udp_tunnel.c: frames in datagrams, for vxlan and geneve.

    udp_tunnel_open             a device comes up: the socket of its port, which others may share
    udp_tunnel_xmit             send a frame with its tunnel header: route, UDP, IP, ip_local_out
    the kind's own receiver => udp_tunnel_rx        the inner frame -> gro_cells_receive

A kind's parameters are a udp_tunnel_parm with its own added. State: `net.gen` has a udp_tunnel_net
of each kind, with the sockets by family and port; a socket has the devices that are up.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

from fastpath.base.skbuff import (
    SKB_GSO_UDP_TUNNEL,
    SKB_GSO_UDP_TUNNEL_CSUM,
    pskb_may_pull,
    sk_buff,
    skb_copy_bits,
    skb_cow_head,
    skb_pull,
    skb_push_data,
    skb_reset_mac_header,
    skb_reset_network_header,
)
from fastpath.net.gso import skb_gso_validate_network_len
from fastpath.net.hdr import (
    ip_hdr,
    ip_push,
    iphdr_at,
    ipv6_hdr,
    ipv6_push,
    ipv6hdr_at,
    udp_hdr,
    udp_push,
)
from fastpath.net.inetkey import siphash
from stack.core import netdevice, uapi
from stack.core.bsd_socket import sock_create_kern, sock_release, socket
from stack.core.dev_forward import skb_scrub_packet
from stack.core.dev_xmit import skb_gso_software
from stack.core.drop_reason import SKB_DROP_REASON_NOT_SPECIFIED, kfree_skb_reason
from stack.core.dst import dst_mtu
from stack.core.gro_cells import gro_cells_receive
from stack.core.inet_ecn import INET_ECN_decapsulate, INET_ECN_encapsulate
from stack.core.netdevice import ETH_ALEN, ETH_HLEN, ETH_P_IP, ETH_P_IPV6, net_device
from stack.core.rows import narrow, row, state, wide
from stack.core.sockaddr import sockaddr
from stack.core.uapi import AF_INET, AF_INET6, IPPROTO_UDP
from stack.ethernet.eth import eth_type_trans
from stack.inet.flow import flowi
from stack.inet.udp_encap import udp_encap_err_register, udp_encap_err_unregister
from stack.inet.udp_hash import udp_sock
from stack.ipv4.ip_output import __ip_select_ident, ip_local_out
from stack.ipv4.route import IP_DF, ip4_dst_hoplimit, ip_route_output_key
from stack.ipv6.ip6_output import ip6_local_out
from stack.ipv6.route import ip6_dst_lookup_tail
from stack.ipv6.rt6_info import ip6_dst_hoplimit
from stack.net import Net
from stack.tunnel.ip_tunnel_core import (
    fits_outside,
    iptunnel_handle_offloads,
    iptunnel_pull_offloads,
    iptunnel_xmit_stats,
    udp_set_csum,
)

UDP_TUNNEL_FEATURES = (
    netdevice.NETIF_F_SG
    | netdevice.NETIF_F_FRAGLIST
    | netdevice.NETIF_F_HW_CSUM
    | netdevice.NETIF_F_RXCSUM
    | netdevice.NETIF_F_GSO_SOFTWARE
)
UDP_HLEN, TUNNEL_HLEN = 8, 8
"""Bytes of the header of UDP, and of those of vxlan and geneve."""
HEADROOM = {AF_INET: 20 + UDP_HLEN + TUNNEL_HLEN, AF_INET6: 40 + UDP_HLEN + TUNNEL_HLEN}
PORT_RANGE = struct.Struct(">HH")
DF_UNSET, DF_SET, DF_INHERIT = 0, 1, 2
"""VXLAN_DF_*, GENEVE_DF_*."""
TOS_INHERIT = 1


@state
class udp_tunnel_parm:
    """Parameters of the outer headers (struct ip_tunnel_key and the flags of both drivers)."""

    family: int = row(AF_INET)
    remote: wide = row(0)
    local: wide = row(0)
    dst_port: int = row(0)
    port_range: bytes = row(bytes(4))
    """First and last source port, in network order; zeros: those of the host."""
    ttl: int = row(0)
    tos: int = row(0)
    label: int = row(0)
    udp_csum: bool = row(True)
    """UDP over IPv4 with a checksum."""
    zero_csum6_tx: bool = row(False)
    zero_csum6_rx: bool = row(False)
    ttl_inherit: bool = row(False)
    df: int = row(DF_UNSET)


class udp_tunnel_sock:
    """The socket of a port, with the devices that are up by VNI and, for geneve, the host."""

    __slots__ = ("devs", "key", "sock", "zero_csum6_rx")

    def __init__(self, key: tuple[int, int, bool], sock: socket, zero_csum6_rx: bool) -> None:
        self.key, self.sock, self.zero_csum6_rx = key, sock, zero_csum6_rx
        self.devs: dict[tuple[int, wide], Any] = {}


class udp_tunnel_net:
    """struct vxlan_net, struct geneve_net: the sockets and all devices of a namespace."""

    __slots__ = ("devs", "socks")

    def __init__(self) -> None:
        self.socks: dict[tuple[int, int, bool], udp_tunnel_sock] = {}
        """By family, port, and for vxlan whether datagrams without checksums are taken."""
        self.devs: list[Any] = []


def udp_tunnel_net_of(net: Net, kind: str) -> udp_tunnel_net:
    """net_generic(net, vxlan_net_id), net_generic(net, geneve_net_id)"""
    found: udp_tunnel_net = net.gen[kind]
    return found


def is_group(family: int, addr: wide) -> bool:
    """Whether an address is a multicast address."""
    return addr >> 28 == 0xE if family == AF_INET else addr >> 120 == 0xFF


# --- sockets --------------------------------------------------------------------------------------


def udp_tunnel_sock_add(
    net: Net,
    tn: udp_tunnel_net,
    cfg: udp_tunnel_parm,
    rcv: Callable[[udp_tunnel_sock, udp_sock, sk_buff], int],
    err_lookup: Callable[[udp_tunnel_sock, sk_buff, int], bool],
    apart: bool = False,
) -> udp_tunnel_sock:
    """The socket of a port, made when there is none. `rcv` takes its datagrams, data at UDP.

    `err_lookup` says whether a device has sent a datagram that ICMP quotes (udp_encap.py).
    `apart`: devices that take datagrams without checksums do not share it with others.

    Raises:
        OSError: EADDRINUSE.
    """
    key = cfg.family, cfg.dst_port, apart and cfg.zero_csum6_rx
    ts = tn.socks.get(key)
    if ts is not None:
        return ts
    sock = sock_create_kern(net, cfg.family, uapi.SOCK_DGRAM, IPPROTO_UDP)
    sk = sock.sk
    assert isinstance(sk, udp_sock)
    sk.sk_ipv6only = cfg.family == AF_INET6
    try:
        sock.ops.bind(sock, sockaddr(cfg.family, 0, cfg.dst_port), 28)
    except OSError:
        sock_release(sock)
        raise
    ts = tn.socks[key] = udp_tunnel_sock(key, sock, cfg.zero_csum6_rx)
    sk.encap_rcv = partial(rcv, ts)
    udp_encap_err_register(net, cfg.family, cfg.dst_port, partial(err_lookup, ts))
    return ts


def udp_tunnel_open(
    tunnel: Any,
    tn: udp_tunnel_net,
    key: tuple[int, wide],
    rcv: Callable[[udp_tunnel_sock, udp_sock, sk_buff], int],
    err_lookup: Callable[[udp_tunnel_sock, sk_buff, int], bool],
    apart: bool = False,
) -> int:
    """A device comes up: add it to its socket under `key`. 0 or -errno."""
    try:
        ts = udp_tunnel_sock_add(tunnel.net, tn, tunnel.cfg, rcv, err_lookup, apart)
    except OSError as error:
        return -(error.errno or errno.EADDRINUSE)
    ts.devs[key] = tunnel
    tunnel.sock = ts
    return 0


def udp_tunnel_stop(tunnel: Any, tn: udp_tunnel_net, key: tuple[int, wide]) -> None:
    """A device goes down; the last one of a port closes its socket."""
    ts: udp_tunnel_sock | None = tunnel.sock
    if ts is None:
        return
    tunnel.sock = None
    ts.devs.pop(key, None)
    if not ts.devs:
        tn.socks.pop(ts.key, None)
        udp_encap_err_unregister(ts.sock.sk.net, ts.key[0], ts.key[1])
        sock_release(ts.sock)


# --- sending --------------------------------------------------------------------------------------


def drop_tx(skb: sk_buff, dev: net_device) -> int:
    """Free a frame that cannot be sent. NETDEV_TX_OK. Takes ownership of skb."""
    kfree_skb_reason(dev.net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
    return netdevice.NETDEV_TX_OK


def udp_flow_src_port(net: Net, cfg: udp_tunnel_parm, skb: sk_buff) -> int:
    """include/net/udp.h: the same source port for the frames of a flow (RFC 7348 5)."""
    low: int
    high: int
    low, high = PORT_RANGE.unpack_from(cfg.port_range)
    if low >= high:
        low, high = net.sysctl.ip_local_port_range
    data = skb_copy_bits(skb, 0, min(skb.len, 2 * ETH_ALEN))
    if skb.protocol == ETH_P_IP and skb.len >= 38:
        data += skb_copy_bits(skb, 23, 1) + skb_copy_bits(skb, 26, 12)
    elif skb.protocol == ETH_P_IPV6 and skb.len >= 58:
        data += skb_copy_bits(skb, 20, 1) + skb_copy_bits(skb, 22, 36)
    return low + ((siphash(net.secret, data) & 0xFFFFFFFF) * (high - low) >> 32)


def skb_vlan_inet_prepare(skb: sk_buff) -> bool:
    """include/net/ip_tunnels.h: whether the frame has its whole MAC and IP headers."""
    need = {ETH_P_IP: 20, ETH_P_IPV6: 40}.get(skb.protocol, 0)
    return pskb_may_pull(skb, ETH_HLEN + need)


def inner_ip(skb: sk_buff) -> tuple[int, int, bool]:
    """TOS, TTL and DF of the IP packet in a frame; zeros if there is none. Borrows skb."""
    if skb.protocol == ETH_P_IP and pskb_may_pull(skb, ETH_HLEN + 20):
        iph = iphdr_at(skb, ETH_HLEN)
        return iph.tos, iph.ttl, bool(iph.frag_off & IP_DF)
    if skb.protocol == ETH_P_IPV6 and pskb_may_pull(skb, ETH_HLEN + 40):
        ip6h = ipv6hdr_at(skb, ETH_HLEN)
        return ip6h.priority, ip6h.hop_limit, True
    return 0, 0, False


def exceeds(skb: sk_buff, mtu: int) -> bool:
    """Whether the packet in a frame, or a segment of it, exceeds `mtu`. Borrows skb."""
    if skb.gso_size:
        return not skb_gso_validate_network_len(skb, mtu)
    return skb.len - ETH_HLEN > mtu


def udp_tunnel_xmit(
    skb: sk_buff,
    dev: net_device,
    net: Net,
    cfg: udp_tunnel_parm,
    head: bytes,
    dest: tuple[wide, int, int],
) -> int:
    """Send a frame to one host; data at its MAC header. NETDEV_TX_OK. Takes ownership of skb.

    `net` is the namespace of the datagrams, `head` the tunnel's header, `dest` the host, its port
    and the interface to it, 0: any.
    """
    if skb.gso_size and not fits_outside(skb):
        for one in skb_gso_software(skb, dev) or ():
            udp_tunnel_xmit(one, dev, net, cfg, head, dest)
        return netdevice.NETDEV_TX_OK
    stats = dev.stats
    remote, port, oif = dest
    six = cfg.family == AF_INET6
    tos_in, ttl_in, df_in = inner_ip(skb)
    tos = tos_in if cfg.tos == TOS_INHERIT else cfg.tos
    ttl = ttl_in if cfg.ttl_inherit else cfg.ttl or int(is_group(cfg.family, remote))
    fl = flowi(cfg.family, remote, cfg.local, oif, tos & 0x1C, IPPROTO_UDP)
    fl.flowi_mark = skb.mark
    try:
        dst = ip6_dst_lookup_tail(net, None, fl, 0) if six else ip_route_output_key(net, fl)
    except OSError:
        stats.tx_errors += 1
        stats.tx_carrier_errors += 1
        return drop_tx(skb, dev)
    if dst.dev is dev:
        stats.collisions += 1
        stats.tx_errors += 1
        return drop_tx(skb, dev)
    if skb.dst is not None and skb.dst.ops is not None:  # skb_tunnel_check_pmtu
        mtu = dst_mtu(dst) - HEADROOM[cfg.family] - ETH_HLEN
        update = skb.dst.ops.update_pmtu
        skb.network_header = skb.data_offset + ETH_HLEN
        if update is not None and mtu < dst_mtu(skb.dst) and exceeds(skb, mtu):
            update(skb.dst, None, skb, mtu, False)
    if not skb_cow_head(skb, HEADROOM[cfg.family] + netdevice.LL_MAX_HEADER):
        stats.tx_dropped += 1
        return drop_tx(skb, dev)
    csum = not cfg.zero_csum6_tx if six else cfg.udp_csum
    kind = SKB_GSO_UDP_TUNNEL_CSUM if csum else SKB_GSO_UDP_TUNNEL
    if not iptunnel_handle_offloads(skb, kind):
        stats.tx_dropped += 1
        return drop_tx(skb, dev)
    length = skb.len - ETH_HLEN
    sport = udp_flow_src_port(net, cfg, skb)
    skb_push_data(skb, head)
    udp_push(skb, sport, port, skb.len + UDP_HLEN, 0)
    skb_scrub_packet(skb, dev.net is not net)
    skb.dst = dst
    skb.cb = None
    skb.ip_cb_flags = 0
    tos = INET_ECN_encapsulate(tos, tos_in)
    if csum:
        udp_set_csum(skb, six, fl.saddr, fl.daddr)
    if six:
        hops = ttl or ip6_dst_hoplimit(dst)  # type: ignore[arg-type]
        ipv6_push(skb, tos, cfg.label, skb.len, IPPROTO_UDP, hops, fl.saddr, fl.daddr)
        err = ip6_local_out(net, None, skb)
    else:
        saddr, daddr = narrow(fl.saddr), narrow(fl.daddr)
        df = cfg.df == DF_SET or (cfg.df == DF_INHERIT and df_in)
        ident = __ip_select_ident(net, daddr, saddr, IPPROTO_UDP, skb.gso_segs or 1)
        size, ttl = skb.len + 20, ttl or ip4_dst_hoplimit(dst)
        ip_push(skb, tos, size, ident, IP_DF if df else 0, ttl, IPPROTO_UDP, saddr, daddr)
        err = ip_local_out(net, None, skb)
    return iptunnel_xmit_stats(dev, err, length)


# --- receiving ------------------------------------------------------------------------------------


def drop_rx(net: Net, skb: sk_buff) -> int:
    """Free a datagram that is for no device. 0. Takes ownership of skb."""
    kfree_skb_reason(net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
    return 0


def udp_tunnel_csum_missing(ts: udp_tunnel_sock, sk: udp_sock, skb: sk_buff) -> bool:
    """Whether a datagram of IPv6 lacks the checksum that the socket requires (RFC 6935); counts it.

    Borrows skb, data at its UDP header.
    """
    if sk.sk_family != AF_INET6 or ts.zero_csum6_rx or udp_hdr(skb).check:
        return False
    sk.udp_mib.InCsumErrors += 1
    sk.udp_mib.InErrors += 1
    return True


def udp_tunnel_outer(sk: udp_sock, skb: sk_buff) -> tuple[wide, int]:
    """The host that a datagram is from, and the TOS of its IP header. Borrows skb."""
    if sk.sk_family == AF_INET6:
        ip6h = ipv6_hdr(skb)
        return ip6h.saddr, ip6h.priority
    iph = ip_hdr(skb)
    return iph.saddr, iph.tos


def udp_tunnel_pull(skb: sk_buff, size: int) -> bool:
    """iptunnel_pull_header: from the header of UDP to the frame; False: there is none."""
    if not pskb_may_pull(skb, size + ETH_HLEN):
        return False
    skb_pull(skb, size)
    return True


def udp_tunnel_rx(skb: sk_buff, dev: net_device, net: Net, outer_tos: int) -> int:
    """Receive a frame on the device, unless it is dropped because of ECN. 0.

    `net`: that of the datagrams. Takes ownership of skb, data at the frame's MAC header.
    """
    stats = dev.stats
    iptunnel_pull_offloads(skb)
    skb_scrub_packet(skb, dev.net is not net)
    skb.cb = None
    skb.ip_cb_flags = 0
    skb_reset_mac_header(skb)
    eth_type_trans(skb, dev)
    skb_reset_network_header(skb)
    need = {ETH_P_IP: 20, ETH_P_IPV6: 40}.get(skb.protocol, 0)
    if need and not pskb_may_pull(skb, need):  # pskb_inet_may_pull
        stats.rx_length_errors += 1
        stats.rx_errors += 1
        return drop_rx(net, skb)
    if need and INET_ECN_decapsulate(skb, skb.protocol, 0, outer_tos) > 1:
        stats.rx_frame_errors += 1
        stats.rx_errors += 1
        return drop_rx(net, skb)
    stats.rx_packets += 1
    stats.rx_bytes += skb.len
    gro_cells_receive(dev.priv.gro_cells, skb)
    return 0
