"""drivers/net/geneve.c: Ethernet frames in datagrams of UDP with options (RFC 8926).

    geneve_xmit                 send a frame to the device's remote -> udp_tunnel_xmit
    udp_queue_rcv_skb => geneve_udp_encap_recv      find the device by VNI, sender -> udp_tunnel_rx

    | IP | UDP 8 | version 2 bits, length of options 6 | O, C, reserved 6 | protocol 2 |
                 | VNI 3 | reserved 1 | options, by 4 bytes | frame without its FCS |

C: the receiver must understand one of the options. None is supported, so the packet is dropped.
"""

from __future__ import annotations

import errno

from fastpath.base.skbuff import pskb_may_pull, sk_buff, skb_copy_bits
from fastpath.net.hdr import iphdr_at, ipv6hdr_at
from stack.core import netdevice
from stack.core.dev import free_netdev, unregister_netdevice
from stack.core.errors import os_error
from stack.core.ethtool import ethtool_ops, fixed_drvinfo
from stack.core.gro_cells import gro_cell, gro_cells_destroy, gro_cells_init
from stack.core.net_namespace import load_module, pernet_operations
from stack.core.netdevice import (
    ETH_ALEN,
    ETH_HLEN,
    ETH_P_TEB,
    net_device,
    net_device_ops,
    rtnl_link_ops,
)
from stack.core.rows import row, state, wide
from stack.core.rtnetlink import eth_hw_addr_init, rtnl_create_link, rtnl_register_link
from stack.core.uapi import AF_INET6
from stack.ethernet.eth import eth_mac_addr, eth_validate_addr, ether_setup_software
from stack.inet.flow import flowi
from stack.inet.udp_hash import udp_sock
from stack.ipv4.route import IP_MAX_MTU
from stack.net import Net
from stack.tunnel.ip_tunnel_core import tunnel_route_dev
from stack.tunnel.udp_tunnel import (
    HEADROOM,
    PORT_RANGE,
    TUNNEL_HLEN,
    UDP_HLEN,
    UDP_TUNNEL_FEATURES,
    drop_rx,
    drop_tx,
    skb_vlan_inet_prepare,
    udp_tunnel_csum_missing,
    udp_tunnel_net,
    udp_tunnel_net_of,
    udp_tunnel_open,
    udp_tunnel_outer,
    udp_tunnel_parm,
    udp_tunnel_pull,
    udp_tunnel_rx,
    udp_tunnel_sock,
    udp_tunnel_stop,
    udp_tunnel_xmit,
)

GENEVE_UDP_PORT, GENEVE_VER = 6081, 0
GENEVE_F_CRITICAL = 0x40


@state
class geneve_config(udp_tunnel_parm):
    """A device's parameters. As in Linux, without UDP checksums over IPv4."""

    dst_port: int = row(GENEVE_UDP_PORT)
    port_range: bytes = row(PORT_RANGE.pack(1, 0xFFFF))
    udp_csum: bool = row(False)
    vni: int = row(0)


@state
class geneve_dev:
    """struct geneve_dev: the private part of a device."""

    dev: net_device
    cfg: geneve_config
    net: Net = row(of=lambda geneve: geneve.dev.net)
    """The namespace of the datagrams."""
    sock: udp_tunnel_sock | None = row()
    gro_cells: gro_cell | None = row()


def geneve_key(cfg: geneve_config) -> tuple[int, wide]:
    """The key of a device's datagrams: the VNI and their sender."""
    return cfg.vni, cfg.remote


def geneve_xmit(skb: sk_buff, dev: net_device) -> int:
    """ndo_start_xmit. NETDEV_TX_OK. Takes ownership of skb, data at its MAC header."""
    geneve: geneve_dev = dev.priv
    cfg = geneve.cfg
    if geneve.sock is None or not skb_vlan_inet_prepare(skb):
        dev.stats.tx_errors += 1
        return drop_tx(skb, dev)
    head = ETH_P_TEB.to_bytes(4, "big") + (cfg.vni << 8).to_bytes(4, "big")
    return udp_tunnel_xmit(skb, dev, geneve.net, cfg, head, (cfg.remote, cfg.dst_port, 0))


def geneve_udp_encap_err_lookup(gs: udp_tunnel_sock, skb: sk_buff, at: int) -> bool:
    """encap_err_lookup: whether a device has the header's VNI and this remote."""
    head = skb_copy_bits(skb, at, TUNNEL_HLEN)
    if head[0] >> 6 != GENEVE_VER or int.from_bytes(head[2:4], "big") != ETH_P_TEB:
        return False
    daddr = (ipv6hdr_at if gs.key[0] == AF_INET6 else iphdr_at)(skb, 0).daddr
    return (int.from_bytes(head[4:7], "big"), daddr) in gs.devs


def geneve_udp_encap_recv(gs: udp_tunnel_sock, sk: udp_sock, skb: sk_buff) -> int:
    """encap_rcv: a datagram to a port of ours, data at its UDP header. 0. Takes ownership."""
    size = UDP_HLEN + TUNNEL_HLEN
    if udp_tunnel_csum_missing(gs, sk, skb) or not pskb_may_pull(skb, size):
        return drop_rx(sk.net, skb)
    head = skb_copy_bits(skb, UDP_HLEN, TUNNEL_HLEN)
    saddr, tos = udp_tunnel_outer(sk, skb)
    geneve: geneve_dev | None = gs.devs.get((int.from_bytes(head[4:7], "big"), saddr))
    if head[0] >> 6 != GENEVE_VER or geneve is None:
        return drop_rx(sk.net, skb)
    stats = geneve.dev.stats
    options = (head[0] & 0x3F) * 4
    if int.from_bytes(head[2:4], "big") != ETH_P_TEB or not udp_tunnel_pull(skb, size + options):
        stats.rx_dropped += 1
        return drop_rx(sk.net, skb)
    if head[1] & GENEVE_F_CRITICAL:
        stats.rx_frame_errors += 1
        stats.rx_errors += 1
        return drop_rx(sk.net, skb)
    if skb_copy_bits(skb, ETH_ALEN, ETH_ALEN) == geneve.dev.dev_addr:
        stats.rx_errors += 1
        return drop_rx(sk.net, skb)
    return udp_tunnel_rx(skb, geneve.dev, geneve.net, tos)


# --- the device -----------------------------------------------------------------------------------


def geneve_open(dev: net_device) -> int:
    """ndo_open: the socket. 0 or -errno."""
    geneve: geneve_dev = dev.priv
    gn, key = udp_tunnel_net_of(geneve.net, "geneve"), geneve_key(geneve.cfg)
    calls = geneve_udp_encap_recv, geneve_udp_encap_err_lookup
    return udp_tunnel_open(geneve, gn, key, *calls)


def geneve_stop(dev: net_device) -> int:
    """ndo_stop: 0."""
    geneve: geneve_dev = dev.priv
    udp_tunnel_stop(geneve, udp_tunnel_net_of(geneve.net, "geneve"), geneve_key(geneve.cfg))
    return 0


def geneve_set_mtu(dev: net_device, mtu: int) -> None:
    """geneve_change_mtu: the nearest possible MTU."""
    dev.mtu = max(min(mtu, dev.max_mtu), dev.min_mtu)


def geneve_link_config(geneve: geneve_dev, cfg: geneve_config, mtu: int) -> None:
    """The requested MTU, or the one that fits the outgoing device."""
    dev = geneve.dev
    if mtu:
        geneve_set_mtu(dev, mtu)
        return
    below = tunnel_route_dev(geneve.net, flowi(cfg.family, cfg.remote))
    room = below.mtu - HEADROOM[cfg.family] - ETH_HLEN if below is not None else 0
    if room > 0:
        geneve_set_mtu(dev, room)


geneve_netdev_ops = net_device_ops(
    ndo_open=geneve_open,
    ndo_stop=geneve_stop,
    ndo_start_xmit=geneve_xmit,
    ndo_set_mac_address=eth_mac_addr,
    ndo_validate_addr=eth_validate_addr,
)
geneve_ethtool_ops = ethtool_ops(get_drvinfo=fixed_drvinfo("geneve", "0.6"))


def geneve_setup(dev: net_device) -> None:
    """Ethernet without a queue."""
    ether_setup_software(dev, geneve_netdev_ops, geneve_ethtool_ops)
    dev.features = UDP_TUNNEL_FEATURES
    dev.hw_features = UDP_TUNNEL_FEATURES


def geneve_newlink(
    net: Net, name: str, cfg: geneve_config, mac: bytes | None = None, mtu: int = 0
) -> net_device:
    """`ip link add NAME type geneve id VNI remote HOST`. `mtu` 0: what fits on the way.

    Raises:
        OSError: EBUSY: another device has host, port and VNI. EEXIST, EADDRNOTAVAIL.
        ValueError: the name is empty or too long.
    """
    load_module(net.machine, "geneve", geneve_net_ops)
    gn = udp_tunnel_net_of(net, "geneve")
    mine = cfg.family, cfg.dst_port, geneve_key(cfg)
    for other in gn.devs:
        if (other.cfg.family, other.cfg.dst_port, geneve_key(other.cfg)) == mine:
            raise os_error(errno.EBUSY, f"geneve {name}: {other.dev.name} is the same")
    dev = rtnl_create_link(net, name, geneve_link_ops, geneve_setup)
    geneve = geneve_dev(dev, cfg)
    dev.priv = geneve
    eth_hw_addr_init(dev, mac)
    dev.max_mtu = IP_MAX_MTU - HEADROOM[cfg.family] - ETH_HLEN
    dev.needed_headroom = HEADROOM[cfg.family] + ETH_HLEN + netdevice.LL_MAX_HEADER
    rtnl_register_link(dev)
    geneve.gro_cells = gro_cells_init(dev)
    gn.devs.append(geneve)
    geneve_link_config(geneve, cfg, mtu)
    return dev


def geneve_changelink(dev: net_device, cfg: geneve_config, mtu: int) -> None:
    """`ip link set DEV type geneve ...`: `cfg` has the VNI, port and family of before."""
    geneve: geneve_dev = dev.priv
    if cfg.remote != geneve.cfg.remote:
        geneve_link_config(geneve, cfg, mtu)
        if geneve.sock is not None:
            geneve.sock.devs.pop(geneve_key(geneve.cfg), None)
            geneve.sock.devs[geneve_key(cfg)] = geneve
    geneve.cfg = cfg


def geneve_dellink(dev: net_device) -> None:
    """`ip link del`."""
    geneve: geneve_dev = dev.priv
    devs = udp_tunnel_net_of(geneve.net, "geneve").devs
    if geneve in devs:
        devs.remove(geneve)
    unregister_netdevice(dev)
    gro_cells_destroy(geneve.gro_cells)
    free_netdev(dev)


geneve_link_ops = rtnl_link_ops("geneve", geneve_dellink)


def geneve_init_net(net: Net) -> None:
    """No devices yet."""
    net.gen["geneve"] = udp_tunnel_net()


geneve_net_ops = pernet_operations(init=geneve_init_net)
