"""drivers/net/veth.c: a pair of devices, perhaps in two namespaces, that send to each other.

Packets go through the backlog unchanged: without segmentation or checksum computation.
"""

from __future__ import annotations

import errno

from fastpath.base.skbuff import pskb_may_pull, sk_buff
from stack.core import ethtool, netdevice
from stack.core.backlog import netif_rx
from stack.core.dev import (
    free_netdev,
    netdev_update_features,
    netif_set_tso_max_size,
    register_netdevice,
    unregister_netdevice,
)
from stack.core.dev_forward import __dev_forward_skb
from stack.core.drop_reason import SKB_DROP_REASON_NOT_SPECIFIED, kfree_skb_reason
from stack.core.errors import os_error
from stack.core.ethtool import ethtool_link_ksettings, ethtool_ops, fixed_drvinfo
from stack.core.link_watch import netif_carrier_off, netif_carrier_on
from stack.core.netdevice import net_device, net_device_ops, netif_carrier_ok, rtnl_link_ops
from stack.core.rows import row, state
from stack.core.rtnetlink import random_ether_addr, rtnl_create_link
from stack.core.tstamp import skb_tx_timestamp
from stack.ethernet.eth import (
    eth_mac_addr,
    eth_no_rx_filter,
    eth_validate_addr,
    ether_setup_software,
)
from stack.net import Net

VETH_VLAN = (
    netdevice.NETIF_F_HW_VLAN_CTAG_TX
    | netdevice.NETIF_F_HW_VLAN_CTAG_RX
    | netdevice.NETIF_F_HW_VLAN_STAG_TX
    | netdevice.NETIF_F_HW_VLAN_STAG_RX
)
VETH_FEATURES = (
    netdevice.NETIF_F_SOFTWARE_DEVICE
    | netdevice.NETIF_F_RXCSUM
    | netdevice.NETIF_F_GSO_ENCAP_ALL
    | netdevice.NETIF_F_SCTP_CRC
    | VETH_VLAN
)


@state
class veth_priv:
    """drivers/net/veth.c: the peer; None while the pair is being deleted."""

    peer: net_device | None = row()


def veth_xmit(skb: sk_buff, dev: net_device) -> int:
    """drivers/net/veth.c: ndo_start_xmit. NETDEV_TX_OK or NET_XMIT_DROP; takes ownership of skb."""
    priv: veth_priv = dev.priv
    rcv: net_device | None = priv.peer
    if rcv is None or not pskb_may_pull(skb, netdevice.ETH_HLEN):
        kfree_skb_reason(dev.net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
        dev.stats.tx_dropped += 1
        return netdevice.NETDEV_TX_OK
    if skb.tx_flags:
        skb_tx_timestamp(skb)
    length = skb.len
    if veth_forward_skb(rcv, skb) != netdevice.NET_RX_SUCCESS:
        dev.stats.tx_dropped += 1
        return netdevice.NETDEV_TX_OK
    stats = dev.stats
    stats.tx_packets += 1
    stats.tx_bytes += length
    stats = rcv.stats
    stats.rx_packets += 1
    stats.rx_bytes += length
    return netdevice.NETDEV_TX_OK


def veth_forward_skb(dev: net_device, skb: sk_buff) -> int:
    """drivers/net/veth.c: receive the peer's packet on `dev`. NET_RX_*. Takes ownership of skb."""
    return __dev_forward_skb(dev, skb) or netif_rx(skb)


def veth_open(dev: net_device) -> int:
    """drivers/net/veth.c: carrier on when both ends are up. 0; -ENOTCONN without a peer."""
    priv: veth_priv = dev.priv
    peer = priv.peer
    if peer is None:
        return -errno.ENOTCONN
    if peer.flags & netdevice.IFF_UP:
        netif_carrier_on(dev)
        netif_carrier_on(peer)
    return 0


def veth_close(dev: net_device) -> int:
    """drivers/net/veth.c: carrier off on both ends."""
    priv: veth_priv = dev.priv
    netif_carrier_off(dev)
    if priv.peer is not None:
        netif_carrier_off(priv.peer)
    return 0


veth_netdev_ops = net_device_ops(
    ndo_open=veth_open,
    ndo_stop=veth_close,
    ndo_start_xmit=veth_xmit,
    ndo_set_rx_mode=eth_no_rx_filter,
    ndo_set_mac_address=eth_mac_addr,
    ndo_validate_addr=eth_validate_addr,
)


def veth_get_link_ksettings(dev: net_device) -> ethtool_link_ksettings:
    """drivers/net/veth.c: `ethtool DEV`: a nominal 10 Gbit/s."""
    return ethtool_link_ksettings(speed=10000, duplex=ethtool.DUPLEX_FULL, autoneg=False)


def veth_get_strings(dev: net_device, stringset: int) -> list[str]:
    """drivers/net/veth.c: the names for `ethtool -S`."""
    return ["peer_ifindex"] if stringset == ethtool.ETH_SS_STATS else []


def veth_get_sset_count(dev: net_device, stringset: int) -> int:
    """drivers/net/veth.c: the number of counters."""
    return len(veth_get_strings(dev, stringset))


def veth_get_ethtool_stats(dev: net_device) -> list[int]:
    """drivers/net/veth.c: the peer's index in its namespace, 0 without one."""
    priv: veth_priv = dev.priv
    return [priv.peer.ifindex if priv.peer is not None else 0]


veth_ethtool_ops = ethtool_ops(
    get_drvinfo=fixed_drvinfo("veth", "1.0"),
    get_ts_info=ethtool.ethtool_op_get_ts_info,
    get_link=netif_carrier_ok,
    get_link_ksettings=veth_get_link_ksettings,
    get_strings=veth_get_strings,
    get_sset_count=veth_get_sset_count,
    get_ethtool_stats=veth_get_ethtool_stats,
)


def veth_setup(dev: net_device) -> None:
    """drivers/net/veth.c: Ethernet without a queue and with every offload."""
    ether_setup_software(dev, veth_netdev_ops, veth_ethtool_ops)
    dev.features = VETH_FEATURES
    dev.hw_features = VETH_FEATURES
    dev.vlan_features = VETH_FEATURES & ~VETH_VLAN
    netif_set_tso_max_size(dev, netdevice.GSO_MAX_SIZE)


def veth_newlink(
    net: Net,
    name: str,
    peer_net: Net,
    peer_name: str,
    mac: bytes | None = None,
    peer_mac: bytes | None = None,
) -> net_device:
    """drivers/net/veth.c: `ip link add NAME type veth peer name PEER netns NET`; the first end.

    Raises:
        OSError: EEXIST, a name is taken; EXDEV, the namespaces belong to different machines.
        ValueError: a name is empty or too long.
    """
    if net.machine is not peer_net.machine:
        raise os_error(errno.EXDEV, f"veth {name}: {net.name} and {peer_net.name}: two machines")
    peer = rtnl_create_link(
        peer_net, peer_name, veth_link_ops, veth_setup, lambda _dev: veth_priv()
    )
    dev = rtnl_create_link(net, name, veth_link_ops, veth_setup, lambda _dev: veth_priv())
    for end, given in ((peer, peer_mac), (dev, mac)):
        end.dev_addr = random_ether_addr(net) if given is None else bytes(given)
        end.addr_assign_type = (
            netdevice.NET_ADDR_RANDOM if given is None else netdevice.NET_ADDR_SET
        )
        err = eth_validate_addr(end) or register_netdevice(end)
        if err:
            veth_dellink(peer)
            raise os_error(-err, f"veth {end.name} in {end.net.name}")
        end.wanted_features &= ~netdevice.NETIF_F_GRO  # veth_disable_gro
        netdev_update_features(end)
        netif_carrier_off(end)
    dev.priv.peer = peer
    peer.priv.peer = dev
    return dev


def veth_dellink(dev: net_device) -> None:
    """drivers/net/veth.c: delete both ends; packets sent meanwhile are dropped."""
    priv: veth_priv = dev.priv
    peer = priv.peer
    priv.peer = None
    if peer is not None:
        other: veth_priv = peer.priv
        other.peer = None
    for end in (dev, peer):
        if end is not None:
            unregister_netdevice(end)
            free_netdev(end)


veth_link_ops = rtnl_link_ops("veth", veth_dellink)
