"""drivers/net/ifb.c: a device whose qdisc queues packets of other devices.

A filter of another device redirects a packet here (act_mirred). Once dequeued, it returns to the
device and the direction that it came from: it is received or sent there, and skips the filters.
"""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff, skb_pull, skb_reset_mac_header
from stack.core import netdevice
from stack.core.backlog import netif_rx
from stack.core.dev_queue import dev_queue_xmit, netif_start_queue, netif_stop_queue
from stack.core.drop_reason import SKB_DROP_REASON_NOT_SPECIFIED, kfree_skb_reason
from stack.core.ethtool import ethtool_ops, fixed_drvinfo
from stack.core.netdevice import net_device, net_device_ops, rtnl_link_ops
from stack.core.redirect import FROM_INGRESS, TC_SKIP_CLASSIFY, skb_is_redirected
from stack.core.rtnetlink import rtnl_newlink, unregister_and_free
from stack.ethernet.eth import eth_validate_addr, ether_setup_software
from stack.net import Net

TX_Q_LIMIT = 32
IFB_VLAN = netdevice.NETIF_F_HW_VLAN_CTAG_TX | netdevice.NETIF_F_HW_VLAN_STAG_TX
IFB_FEATURES = netdevice.NETIF_F_SOFTWARE_DEVICE | netdevice.NETIF_F_GSO_ENCAP_ALL | IFB_VLAN


def ifb_xmit(skb: sk_buff, dev: net_device) -> int:
    """ndo_start_xmit: return it to its original device. NETDEV_TX_OK. Takes ownership."""
    stats = dev.stats
    stats.rx_packets += 1
    stats.rx_bytes += skb.len
    if not skb_is_redirected(skb) or not skb.skb_iif:
        stats.rx_dropped += 1
        kfree_skb_reason(dev.net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
        return netdevice.NETDEV_TX_OK
    from_ingress = skb.cb is FROM_INGRESS
    skb.cb = TC_SKIP_CLASSIFY
    stats.tx_packets += 1
    stats.tx_bytes += skb.len
    back = dev.net.dev_by_index.get(skb.skb_iif)
    if back is None:
        stats.tx_dropped += 1
        kfree_skb_reason(dev.net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
        return netdevice.NETDEV_TX_OK
    skb.dev = back
    skb.skb_iif = dev.ifindex
    if not from_ingress:
        dev_queue_xmit(skb)
        return netdevice.NETDEV_TX_OK
    # The kernel's tasklet: the packet is received after the qdisc has run.
    skb_reset_mac_header(skb)
    skb_pull(skb, skb.network_header - skb.mac_header)
    netif_rx(skb)
    return netdevice.NETDEV_TX_OK


def ifb_open(dev: net_device) -> int:
    """ndo_open: 0."""
    netif_start_queue(dev)
    return 0


def ifb_close(dev: net_device) -> int:
    """ndo_stop: 0."""
    netif_stop_queue(dev)
    return 0


ifb_netdev_ops = net_device_ops(
    ndo_open=ifb_open,
    ndo_stop=ifb_close,
    ndo_start_xmit=ifb_xmit,
    ndo_validate_addr=eth_validate_addr,
)
ifb_ethtool_ops = ethtool_ops(get_drvinfo=fixed_drvinfo("ifb"))


def ifb_setup(dev: net_device) -> None:
    """Ethernet without ARP, with a queue and of any MTU."""
    ether_setup_software(dev, ifb_netdev_ops, ifb_ethtool_ops, 0)
    dev.tx_queue_len = TX_Q_LIMIT
    dev.flags = dev.flags & ~netdevice.IFF_MULTICAST | netdevice.IFF_NOARP
    dev.max_mtu = 0
    dev.features = IFB_FEATURES
    dev.hw_features = IFB_FEATURES
    dev.vlan_features = IFB_FEATURES & ~IFB_VLAN


def ifb_newlink(net: Net, name: str, mac: bytes | None = None) -> net_device:
    """`ip link add NAME type ifb`.

    Raises:
        OSError: EEXIST, the name is taken. ValueError: it is empty or too long.
    """
    return rtnl_newlink(net, name, ifb_link_ops, ifb_setup, mac)


ifb_link_ops = rtnl_link_ops("ifb", unregister_and_free)
