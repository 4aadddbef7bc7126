"""drivers/net/dummy.c: a device that counts and frees its packets; used to hold addresses."""

from __future__ import annotations

from fastpath.base.skbuff import consume_skb, sk_buff
from stack.core import netdevice
from stack.core.ethtool import ethtool_op_get_ts_info, ethtool_ops, fixed_drvinfo
from stack.core.link_watch import netif_carrier_off, netif_carrier_on
from stack.core.netdevice import net_device, net_device_ops, rtnl_link_ops
from stack.core.rtnetlink import rtnl_newlink, unregister_and_free
from stack.core.tstamp import skb_tx_timestamp
from stack.ethernet.eth import (
    eth_mac_addr,
    eth_no_rx_filter,
    eth_validate_addr,
    ether_setup_software,
)
from stack.net import Net


def dummy_xmit(skb: sk_buff, dev: net_device) -> int:
    """drivers/net/dummy.c: ndo_start_xmit: count it, free it. Takes ownership of skb."""
    stats = dev.stats
    stats.tx_packets += 1
    stats.tx_bytes += skb.len
    if skb.tx_flags:
        skb_tx_timestamp(skb)
    consume_skb(skb)
    return netdevice.NETDEV_TX_OK


def dummy_change_carrier(dev: net_device, new_carrier: bool) -> int:
    """drivers/net/dummy.c: `ip link set DEV carrier on`: 0."""
    if new_carrier:
        netif_carrier_on(dev)
    else:
        netif_carrier_off(dev)
    return 0


dummy_netdev_ops = net_device_ops(
    ndo_change_carrier=dummy_change_carrier,
    ndo_start_xmit=dummy_xmit,
    ndo_validate_addr=eth_validate_addr,
    ndo_set_rx_mode=eth_no_rx_filter,
    ndo_set_mac_address=eth_mac_addr,
)

dummy_ethtool_ops = ethtool_ops(
    get_drvinfo=fixed_drvinfo("dummy"),
    get_ts_info=ethtool_op_get_ts_info,
)


def dummy_setup(dev: net_device) -> None:
    """drivers/net/dummy.c: Ethernet without ARP and queue, of any MTU."""
    ether_setup_software(dev, dummy_netdev_ops, dummy_ethtool_ops, 0)
    dev.flags = dev.flags & ~netdevice.IFF_MULTICAST | netdevice.IFF_NOARP
    dev.max_mtu = 0
    dev.features = netdevice.NETIF_F_SOFTWARE_DEVICE | netdevice.NETIF_F_GSO_ENCAP_ALL
    dev.hw_features = dev.features


def dummy_newlink(net: Net, name: str, mac: bytes | None = None) -> net_device:
    """drivers/net/dummy.c: `ip link add NAME type dummy`.

    Raises:
        OSError: EEXIST, the name is taken. ValueError: it is empty or too long.
    """
    return rtnl_newlink(net, name, dummy_link_ops, dummy_setup, mac)


dummy_link_ops = rtnl_link_ops("dummy", unregister_and_free)
