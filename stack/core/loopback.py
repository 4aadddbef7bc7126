"""drivers/net/loopback.c: `lo`: sent packets are received through the backlog."""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff, skb_orphan
from stack.core import netdevice
from stack.core.backlog import netif_rx
from stack.core.dev import alloc_netdev_mqs, netif_set_tso_max_size, register_netdev
from stack.core.drop_reason import SKB_DROP_REASON_NOT_SPECIFIED, kfree_skb_reason
from stack.core.errors import os_error
from stack.core.ethtool import ethtool_op_get_ts_info, ethtool_ops
from stack.core.net_namespace import pernet_operations
from stack.core.netdevice import net_device, net_device_ops, netif_carrier_ok
from stack.core.tstamp import skb_tx_timestamp
from stack.ethernet.eth import eth_header_ops, eth_mac_addr, eth_type_trans
from stack.net import Net


def loopback_xmit(skb: sk_buff, dev: net_device) -> int:
    """drivers/net/loopback.c: turn a sent packet into a received one. Takes ownership of skb.

    The route stays with the packet, as in the kernel: it already says where it goes.
    """
    if skb.tx_flags:
        skb_tx_timestamp(skb)
    skb_orphan(skb)
    length = skb.len
    if length < netdevice.ETH_HLEN:
        kfree_skb_reason(dev.net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
        return netdevice.NETDEV_TX_OK
    eth_type_trans(skb, dev)
    stats = dev.stats
    if netif_rx(skb) == netdevice.NET_RX_SUCCESS:
        stats.tx_packets += 1
        stats.tx_bytes += length
        stats.rx_packets += 1
        stats.rx_bytes += length
    return netdevice.NETDEV_TX_OK


loopback_ethtool_ops = ethtool_ops(get_link=netif_carrier_ok, get_ts_info=ethtool_op_get_ts_info)


def loopback_setup(dev: net_device) -> None:
    """drivers/net/loopback.c: MTU 64 KiB, no queue, every offload (nothing leaves memory)."""
    dev.mtu = 65536
    dev.min_mtu = 0
    dev.max_mtu = 0
    dev.hard_header_len = netdevice.ETH_HLEN
    dev.addr_len = netdevice.ETH_ALEN
    dev.dev_addr = bytes(netdevice.ETH_ALEN)
    dev.broadcast = bytes(netdevice.ETH_ALEN)
    dev.type = netdevice.ARPHRD_LOOPBACK
    dev.flags = netdevice.IFF_LOOPBACK
    dev.tx_queue_len = 0
    dev.header_ops = eth_header_ops
    dev.hw_features = netdevice.NETIF_F_GSO_SOFTWARE
    dev.features = (
        netdevice.NETIF_F_SG
        | netdevice.NETIF_F_FRAGLIST
        | netdevice.NETIF_F_GSO
        | netdevice.NETIF_F_GSO_SOFTWARE
        | netdevice.NETIF_F_HW_CSUM
        | netdevice.NETIF_F_SCTP_CRC
        | netdevice.NETIF_F_RXCSUM
        | netdevice.NETIF_F_HIGHDMA
        | netdevice.NETIF_F_LOOPBACK
        | netdevice.NETIF_F_VLAN_CHALLENGED
        | netdevice.NETIF_F_NETNS_LOCAL
    )
    dev.ethtool_ops = loopback_ethtool_ops
    netif_set_tso_max_size(dev, netdevice.GSO_MAX_SIZE)
    dev.netdev_ops = net_device_ops(ndo_start_xmit=loopback_xmit, ndo_set_mac_address=eth_mac_addr)


def loopback_net_init(net: Net) -> None:
    """drivers/net/loopback.c: register `lo`; it is always the first device (ifindex 1)."""
    dev = alloc_netdev_mqs(net, None, "lo", loopback_setup)
    err = register_netdev(dev)
    if err:
        raise os_error(-err, "cannot register lo")
    net.loopback_dev = dev


loopback_net_ops = pernet_operations(init=loopback_net_init)
