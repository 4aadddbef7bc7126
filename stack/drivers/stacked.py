"""Common functions of macvlan and ipvlan, whose lower device is `dev.priv.lowerdev`.

drivers/net/macvlan.c and drivers/net/ipvlan/ipvlan_main.c each have these functions.
"""

from __future__ import annotations

from stack.core import netdevice
from stack.core.dev import (
    dev_addresses_sync,
    netdev_increment_features,
    netdev_update_features,
    netif_inherit_tso_max,
)
from stack.core.ethtool import ethtool_get_settings, ethtool_link_ksettings
from stack.core.if_vlan import vlan_vid_add, vlan_vid_del
from stack.core.link_watch import netif_stacked_transfer_operstate
from stack.core.netdevice import net_device

STACKED_FEATURES = (
    netdevice.NETIF_F_SG
    | netdevice.NETIF_F_HW_CSUM
    | netdevice.NETIF_F_HIGHDMA
    | netdevice.NETIF_F_FRAGLIST
    | netdevice.NETIF_F_GSO
    | netdevice.NETIF_F_ALL_TSO
    | netdevice.NETIF_F_GRO
    | netdevice.NETIF_F_RXCSUM
    | netdevice.NETIF_F_HW_VLAN_CTAG_FILTER
)
"""Features taken from the lower device."""
ALWAYS_ON = (
    netdevice.NETIF_F_SG
    | netdevice.NETIF_F_HW_CSUM
    | netdevice.NETIF_F_GSO_SOFTWARE
    | netdevice.NETIF_F_GSO_ROBUST
    | netdevice.NETIF_F_GSO_ENCAP_ALL
)
"""Features that software emulates."""


def stacked_init(dev: net_device, lower: net_device, own: int) -> None:
    """ndo_init: carrier and features of the lower device: those of `own`, and ALWAYS_ON."""
    carrier = netdevice.LINK_STATE_NOCARRIER
    dev.state = dev.state & ~carrier | lower.state & carrier
    dev.features = lower.features & own | ALWAYS_ON
    dev.vlan_features = lower.vlan_features & own | ALWAYS_ON
    netif_inherit_tso_max(dev, [lower])
    dev.hard_header_len = lower.hard_header_len


def stacked_fix_features(lower: net_device, features: int, own: int) -> int:
    """ndo_fix_features: those of the lower device, and software features."""
    below = lower.features & (features | ~netdevice.NETIF_F_LRO)
    features = netdev_increment_features(below, features, features)
    return (features | ALWAYS_ON) & (ALWAYS_ON | own)


def stacked_set_rx_mode(dev: net_device) -> None:
    """ndo_set_rx_mode: add its addresses to the lower device."""
    dev_addresses_sync(dev.priv.lowerdev, dev)


def stacked_vlan_rx_add_vid(dev: net_device, proto: int, vid: int) -> int:
    """ndo_vlan_rx_add_vid: add it to the lower device's filter. 0 or -errno."""
    return vlan_vid_add(dev.priv.lowerdev, proto, vid)


def stacked_vlan_rx_kill_vid(dev: net_device, proto: int, vid: int) -> int:
    """ndo_vlan_rx_kill_vid: 0."""
    vlan_vid_del(dev.priv.lowerdev, proto, vid)
    return 0


def stacked_get_link_ksettings(dev: net_device) -> ethtool_link_ksettings:
    """`ethtool DEV`: that of the lower device."""
    return ethtool_get_settings(dev.priv.lowerdev)


def stacked_get_iflink(dev: net_device) -> net_device | None:
    """ndo_get_iflink: the lower device."""
    lower: net_device = dev.priv.lowerdev
    return lower


def stacked_device_event(event: int, lower: net_device, devs: list[net_device]) -> None:
    """Pass carrier, features and removal of a lower device to its upper devices."""
    if event in (netdevice.NETDEV_UP, netdevice.NETDEV_DOWN, netdevice.NETDEV_CHANGE):
        for dev in devs:
            netif_stacked_transfer_operstate(lower, dev)
    elif event == netdevice.NETDEV_FEAT_CHANGE:
        for dev in devs:
            netif_inherit_tso_max(dev, [lower])
            netdev_update_features(dev)
    elif (
        event == netdevice.NETDEV_UNREGISTER and lower.reg_state == netdevice.NETREG_UNREGISTERED
    ):  # otherwise it changes its namespace
        for dev in devs:
            assert dev.rtnl_link_ops is not None, "rtnl_create_link made it"
            dev.rtnl_link_ops.dellink(dev)
