"""net/8021q/vlan_dev.c: a VLAN's device, which sends with a tag through the real device."""

from __future__ import annotations

import errno

from fastpath.base.skbuff import sk_buff, skb_copy_bits
from stack.core import netdevice
from stack.core.dev import (
    dev_addresses_sync,
    dev_addresses_unsync,
    dev_uc_add,
    dev_uc_del,
    netif_inherit_tso_max,
)
from stack.core.dev_forward import dev_count_tx
from stack.core.dev_queue import dev_queue_xmit
from stack.core.dev_upper import stacked_change_rx_flags, stacked_pass_modes
from stack.core.dev_xmit import netdev_intersect_features
from stack.core.ethtool import (
    ethtool_get_settings,
    ethtool_get_ts_info,
    ethtool_link_ksettings,
    ethtool_ops,
    fixed_drvinfo,
)
from stack.core.if_vlan import vlan_hw_offload_capable
from stack.core.link_watch import netif_carrier_off, netif_carrier_on
from stack.core.netdevice import net_device, net_device_ops, netif_carrier_ok
from stack.core.rows import row, state
from stack.ethernet.eth import ether_setup_software, is_valid_ether_addr

# include/uapi/linux/if_vlan.h
VLAN_FLAG_REORDER_HDR = 0x1
VLAN_FLAG_LOOSE_BINDING = 0x4


@state
class vlan_dev_priv:
    """include/linux/if_vlan.h."""

    real_dev: net_device
    vlan_proto: int
    vlan_id: int
    flags: int = VLAN_FLAG_REORDER_HDR
    egress_priority_map: dict[int, int] | None = row()
    """skb.priority -> the PCP bits, shifted to their place in the tag."""
    real_dev_addr: bytes = row(b"")


def is_vlan_dev(dev: net_device) -> bool:
    """include/linux/if_vlan.h."""
    return bool(dev.priv_flags & netdevice.IFF_802_1Q_VLAN)


def vlan_dev_hard_start_xmit(skb: sk_buff, dev: net_device) -> int:
    """net/8021q/vlan_dev.c: ndo_start_xmit. The real device's result; takes ownership of skb."""
    vlan: vlan_dev_priv = dev.priv
    proto = vlan.vlan_proto
    # Without VLAN_FLAG_REORDER_HDR a packet socket's frame may have its tag already.
    if vlan.flags & VLAN_FLAG_REORDER_HDR or _h_proto(skb) != proto:
        tci = vlan.vlan_id
        egress = vlan.egress_priority_map
        if egress:
            tci |= egress.get(skb.priority, 0)
        skb.vlan_proto = proto
        skb.vlan_tci = tci
    skb.dev = vlan.real_dev
    length = skb.len
    dev_count_tx(dev, length, dev_queue_xmit(skb))
    return 0


def _h_proto(skb: sk_buff) -> int:
    return int.from_bytes(skb_copy_bits(skb, 12, 2), "big") if skb.len >= 14 else 0


def vlan_dev_set_ingress_priority(dev: net_device, skb_prio: int, vlan_prio: int) -> None:
    """net/8021q/vlan_dev.c: `ingress-qos-map VLAN_PRIO:SKB_PRIO`."""
    if dev.vlan_ingress is None:
        dev.vlan_ingress = {}
    dev.vlan_ingress[vlan_prio & 7] = skb_prio


def vlan_dev_set_egress_priority(dev: net_device, skb_prio: int, vlan_prio: int) -> None:
    """net/8021q/vlan_dev.c: `egress-qos-map SKB_PRIO:VLAN_PRIO`."""
    vlan: vlan_dev_priv = dev.priv
    if vlan.egress_priority_map is None:
        vlan.egress_priority_map = {}
    vlan.egress_priority_map[skb_prio] = (vlan_prio & 7) << 13


def vlan_dev_change_mtu(dev: net_device, new_mtu: int) -> int:
    """net/8021q/vlan_dev.c: 0, or -ERANGE above the real device's MTU."""
    vlan: vlan_dev_priv = dev.priv
    return -errno.ERANGE if new_mtu > vlan.real_dev.mtu else 0


def vlan_dev_open(dev: net_device) -> int:
    """net/8021q/vlan_dev.c: 0; -ENETDOWN while the real device is down."""
    vlan: vlan_dev_priv = dev.priv
    real_dev = vlan.real_dev
    if not real_dev.flags & netdevice.IFF_UP and not vlan.flags & VLAN_FLAG_LOOSE_BINDING:
        return -errno.ENETDOWN
    if dev.dev_addr != real_dev.dev_addr:
        err = dev_uc_add(real_dev, dev.dev_addr)
        if err:
            return err
    stacked_pass_modes(real_dev, dev.flags, 1)
    vlan.real_dev_addr = real_dev.dev_addr
    if netif_carrier_ok(real_dev):
        netif_carrier_on(dev)
    return 0


def vlan_dev_stop(dev: net_device) -> int:
    """net/8021q/vlan_dev.c: remove the VLAN's addresses from the real device."""
    vlan: vlan_dev_priv = dev.priv
    real_dev = vlan.real_dev
    dev_addresses_unsync(real_dev, dev)
    stacked_pass_modes(real_dev, dev.flags, -1)
    if dev.dev_addr != real_dev.dev_addr:
        dev_uc_del(real_dev, dev.dev_addr)
    netif_carrier_off(dev)
    return 0


def vlan_dev_set_mac_address(dev: net_device, addr: bytes) -> int:
    """net/8021q/vlan_dev.c: set an address of its own; 0 or -EADDRNOTAVAIL."""
    vlan: vlan_dev_priv = dev.priv
    real_dev = vlan.real_dev
    if not is_valid_ether_addr(addr):
        return -errno.EADDRNOTAVAIL
    if dev.flags & netdevice.IFF_UP:
        if addr != real_dev.dev_addr:
            err = dev_uc_add(real_dev, addr)
            if err:
                return err
        if dev.dev_addr != real_dev.dev_addr:
            dev_uc_del(real_dev, dev.dev_addr)
    dev.dev_addr = bytes(addr)
    return 0


def vlan_dev_change_rx_flags(dev: net_device, change: int) -> None:
    """net/8021q/vlan_dev.c: make the real device promiscuous when its VLAN is."""
    vlan: vlan_dev_priv = dev.priv
    if dev.flags & netdevice.IFF_UP:
        stacked_change_rx_flags(dev, vlan.real_dev, change)


def vlan_dev_set_rx_mode(dev: net_device) -> None:
    """net/8021q/vlan_dev.c: add the VLAN's addresses to the real device."""
    vlan: vlan_dev_priv = dev.priv
    dev_addresses_sync(vlan.real_dev, dev)


def vlan_dev_fix_features(dev: net_device, features: int) -> int:
    """net/8021q/vlan_dev.c: the real device's features for tagged packets, and software ones."""
    vlan: vlan_dev_priv = dev.priv
    real_dev = vlan.real_dev
    old = features
    lower = netdev_intersect_features(
        real_dev.vlan_features | netdevice.NETIF_F_RXCSUM, real_dev.features
    )
    if lower & (netdevice.NETIF_F_IP_CSUM | netdevice.NETIF_F_IPV6_CSUM):
        lower |= netdevice.NETIF_F_HW_CSUM
    features = netdev_intersect_features(features, lower)
    return features | old & (netdevice.NETIF_F_SOFT_FEATURES | netdevice.NETIF_F_GSO_SOFTWARE)


def vlan_dev_init(dev: net_device) -> int:
    """net/8021q/vlan_dev.c: copy address, flags and features of the real device. 0."""
    vlan: vlan_dev_priv = dev.priv
    real_dev = vlan.real_dev
    dev.state |= netdevice.LINK_STATE_NOCARRIER
    dev.flags = real_dev.flags & ~(
        netdevice.IFF_UP
        | netdevice.IFF_PROMISC
        | netdevice.IFF_ALLMULTI
        | netdevice.IFF_MASTER
        | netdevice.IFF_SLAVE
    )
    more = netdevice.NETIF_F_GSO_ENCAP_ALL | netdevice.NETIF_F_SCTP_CRC
    dev.hw_features = netdevice.NETIF_F_SOFTWARE_DEVICE | more
    dev.features |= dev.hw_features
    netif_inherit_tso_max(dev, [real_dev])
    dev.vlan_features = real_dev.vlan_features
    if not any(dev.dev_addr):
        dev.dev_addr = real_dev.dev_addr
        dev.addr_assign_type = netdevice.NET_ADDR_STOLEN
    dev.broadcast = real_dev.broadcast
    dev.needed_headroom = real_dev.needed_headroom
    dev.hard_header_len = real_dev.hard_header_len
    if not vlan_hw_offload_capable(real_dev.features, vlan.vlan_proto):
        dev.hard_header_len += netdevice.VLAN_HLEN
    return 0


def vlan_ethtool_get_ts_info(dev: net_device) -> int:
    """net/8021q/vlan_dev.c: `ethtool -T`: the real device's."""
    vlan: vlan_dev_priv = dev.priv
    return ethtool_get_ts_info(vlan.real_dev)


def vlan_ethtool_get_link_ksettings(dev: net_device) -> ethtool_link_ksettings:
    """net/8021q/vlan_dev.c: `ethtool DEV`: the real device's."""
    vlan: vlan_dev_priv = dev.priv
    return ethtool_get_settings(vlan.real_dev)


vlan_ethtool_ops = ethtool_ops(
    get_drvinfo=fixed_drvinfo("802.1Q VLAN Support", "1.8", fw_version="N/A"),
    get_ts_info=vlan_ethtool_get_ts_info,
    get_link=netif_carrier_ok,
    get_link_ksettings=vlan_ethtool_get_link_ksettings,
)

vlan_netdev_ops = net_device_ops(
    ndo_change_mtu=vlan_dev_change_mtu,
    ndo_init=vlan_dev_init,
    ndo_open=vlan_dev_open,
    ndo_stop=vlan_dev_stop,
    ndo_start_xmit=vlan_dev_hard_start_xmit,
    ndo_set_rx_mode=vlan_dev_set_rx_mode,
    ndo_set_mac_address=vlan_dev_set_mac_address,
    ndo_change_rx_flags=vlan_dev_change_rx_flags,
    ndo_fix_features=vlan_dev_fix_features,
)


def vlan_setup(dev: net_device) -> None:
    """net/8021q/vlan_dev.c: Ethernet without a queue."""
    ether_setup_software(dev, vlan_netdev_ops, vlan_ethtool_ops, 0)
    dev.priv_flags |= netdevice.IFF_802_1Q_VLAN
