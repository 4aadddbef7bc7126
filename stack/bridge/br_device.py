"""net/bridge/br_device.c: the bridge's own device, through which the host sends and receives."""

from __future__ import annotations

import errno

from fastpath.base.skbuff import sk_buff, skb_pull, skb_reset_mac_header
from fastpath.net.hdr import eth_hdr
from stack.bridge import br_private
from stack.bridge.br_fdb import br_fdb_cleanup, br_fdb_find_rcu
from stack.bridge.br_forward import br_flood, br_forward, br_multicast_flood
from stack.bridge.br_multicast import (
    br_multicast_init,
    br_multicast_join_snoopers,
    br_multicast_leave_snoopers,
    br_multicast_open,
    br_multicast_stop,
)
from stack.bridge.br_multicast_msg import MROUTERS_ONLY
from stack.bridge.br_multicast_rcv import (
    br_mdb_entry_skb_get,
    br_multicast_querier_exists,
    br_multicast_rcv,
)
from stack.bridge.br_private import net_bridge, net_bridge_fdb_entry, net_bridge_mdb_entry
from stack.bridge.br_stp_if import (
    br_stp_change_bridge_id,
    br_stp_disable_bridge,
    br_stp_enable_bridge,
)
from stack.bridge.br_stp_timer import br_stp_timer_init
from stack.core import netdevice
from stack.core.dev import netdev_update_features, netif_set_tso_max_size
from stack.core.dev_upper import master_fix_features
from stack.core.drop_reason import SKB_DROP_REASON_NOT_SPECIFIED, kfree_skb_reason
from stack.core.ethtool import ethtool_ops, fixed_drvinfo
from stack.core.netdevice import net_device, net_device_ops, netif_carrier_ok
from stack.core.workqueue import work_struct
from stack.ethernet.eth import ETH_BROADCAST, ether_setup_software, is_valid_ether_addr

COMMON_FEATURES = (
    netdevice.NETIF_F_SG
    | netdevice.NETIF_F_FRAGLIST
    | netdevice.NETIF_F_HIGHDMA
    | netdevice.NETIF_F_GSO_MASK
    | netdevice.NETIF_F_HW_CSUM
)


def br_dev_xmit(skb: sk_buff, dev: net_device) -> int:
    """net/bridge/br_device.c: ndo_start_xmit: the host sends a frame. Takes ownership of skb."""
    br: net_bridge = dev.priv
    dst: net_bridge_fdb_entry | None
    stats = dev.stats
    stats.tx_packets += 1
    stats.tx_bytes += skb.len
    if skb.len < netdevice.ETH_HLEN:
        stats.tx_dropped += 1
        kfree_skb_reason(dev.net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
        return netdevice.NETDEV_TX_OK
    skb_reset_mac_header(skb)
    dest = eth_hdr(skb).h_dest
    skb_pull(skb, netdevice.ETH_HLEN)
    if dest == ETH_BROADCAST:
        br_flood(br, skb, br_private.BR_PKT_BROADCAST, False, True)
        return netdevice.NETDEV_TX_OK
    if dest[0] & 1:
        br_dev_xmit_multicast(br, skb, dest)
        return netdevice.NETDEV_TX_OK
    dst = br_fdb_find_rcu(br, dest)
    if dst is None:
        br_flood(br, skb, br_private.BR_PKT_UNICAST, False, True)
    else:
        br_forward(dst.dst, skb, False, True)
    return netdevice.NETDEV_TX_OK


def br_dev_xmit_multicast(br: net_bridge, skb: sk_buff, dest: bytes) -> None:
    """net/bridge/br_device.c br_dev_xmit: the host sends to a group. Takes ownership of skb."""
    mdst: net_bridge_mdb_entry | None
    igmp = br_multicast_rcv(br, None, skb)
    if igmp < 0:
        kfree_skb_reason(br.dev.net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
        return
    mdst = br_mdb_entry_skb_get(br, skb, dest, igmp)
    hit = mdst is not None or igmp & MROUTERS_ONLY != 0
    if hit and br_multicast_querier_exists(br.multicast_ctx, skb.protocol, mdst):
        br_multicast_flood(br, mdst, skb, False, True)
    else:
        br_flood(br, skb, br_private.BR_PKT_MULTICAST, False, True)


def br_dev_open(dev: net_device) -> int:
    """net/bridge/br_device.c: 0."""
    netdev_update_features(dev)
    br: net_bridge = dev.priv
    br_stp_enable_bridge(br)
    br_multicast_open(br)
    if br.multicast_ctx.enabled:
        br_multicast_join_snoopers(br)
    return 0


def br_dev_stop(dev: net_device) -> int:
    """net/bridge/br_device.c: 0."""
    br: net_bridge = dev.priv
    br_stp_disable_bridge(br)
    br_multicast_stop(br)
    br_multicast_leave_snoopers(br)
    return 0


def br_dev_set_multicast_list(dev: net_device) -> None:
    """net/bridge/br_device.c: ndo_set_rx_mode: nothing to do, as all multicasts are received."""


def br_change_mtu(dev: net_device, new_mtu: int) -> int:
    """net/bridge/br_device.c: set the MTU; it no longer follows the ports' smallest. 0."""
    br: net_bridge = dev.priv
    br.mtu_set_by_user = True
    return 0


def br_set_mac_address(dev: net_device, addr: bytes) -> int:
    """net/bridge/br_device.c: set the address; it no longer follows the ports' lowest.

    0 or -EADDRNOTAVAIL.
    """
    br: net_bridge = dev.priv
    if not is_valid_ether_addr(addr):
        return -errno.EADDRNOTAVAIL
    if dev.reg_state != netdevice.NETREG_REGISTERED:
        return -errno.EBUSY
    if dev.dev_addr != addr:
        br_stp_change_bridge_id(br, bytes(addr))
    return 0


br_ethtool_ops = ethtool_ops(
    get_drvinfo=fixed_drvinfo("bridge", "2.3", fw_version="N/A", bus_info="N/A"),
    get_link=netif_carrier_ok,
)

br_netdev_ops = net_device_ops(
    ndo_open=br_dev_open,
    ndo_stop=br_dev_stop,
    ndo_start_xmit=br_dev_xmit,
    ndo_set_mac_address=br_set_mac_address,
    ndo_set_rx_mode=br_dev_set_multicast_list,
    ndo_change_mtu=br_change_mtu,
    ndo_fix_features=master_fix_features,
)


def br_priv(dev: net_device) -> net_bridge:
    """The private part of a bridge's device."""
    br = net_bridge(dev)
    br.gc_work = work_struct(dev.machine, lambda: br_fdb_cleanup(br))
    br_stp_timer_init(br)
    br_multicast_init(br)
    return br


def br_dev_setup(dev: net_device) -> None:
    """net/bridge/br_device.c: Ethernet without a queue; it stays in its namespace."""
    ether_setup_software(dev, br_netdev_ops, br_ethtool_ops)
    dev.priv_flags |= netdevice.IFF_EBRIDGE
    tags = netdevice.NETIF_F_HW_VLAN_CTAG_TX | netdevice.NETIF_F_HW_VLAN_STAG_TX
    dev.features = COMMON_FEATURES | netdevice.NETIF_F_NETNS_LOCAL | tags
    dev.hw_features = COMMON_FEATURES | tags
    dev.vlan_features = COMMON_FEATURES
    netif_set_tso_max_size(dev, netdevice.GSO_MAX_SIZE)
