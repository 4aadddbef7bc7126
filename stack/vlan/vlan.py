"""net/8021q/vlan.c, vlan_netlink.c: adding, updating and removing VLAN devices."""

from __future__ import annotations

import errno

from stack.core import netdevice
from stack.core.dev import (
    dev_addresses_unsync,
    dev_change_flags,
    dev_close,
    dev_set_mtu,
    dev_uc_add,
    dev_uc_del,
    free_netdev,
    netdev_update_features,
    netif_inherit_tso_max,
    unregister_netdevice,
)
from stack.core.dev_notifier import watches_devices
from stack.core.dev_upper import netdev_upper_dev_unlink, stacked_register
from stack.core.errors import check, os_error
from stack.core.if_vlan import vlan_find_dev, vlan_hw_offload_capable, vlan_vid_add, vlan_vid_del
from stack.core.link_watch import netif_stacked_transfer_operstate
from stack.core.net_namespace import load_module
from stack.core.netdevice import net_device, rtnl_link_ops
from stack.core.rtnetlink import rtnl_create_link
from stack.ethernet.eth import is_valid_ether_addr
from stack.net import Net
from stack.vlan.vlan_dev import (
    VLAN_FLAG_LOOSE_BINDING,
    VLAN_FLAG_REORDER_HDR,
    vlan_dev_priv,
    vlan_setup,
)

VLAN_N_VID = 4096


def vlan_newlink(
    net: Net,
    name: str,
    real_dev: net_device,
    vlan_id: int,
    vlan_proto: int = netdevice.ETH_P_8021Q,
    flags: int = VLAN_FLAG_REORDER_HDR,
    mtu: int = 0,
    mac: bytes | None = None,
) -> net_device:
    """net/8021q/vlan_netlink.c: `ip link add link REAL name NAME type vlan id ID`.

    Raises:
        OSError: ERANGE, no VLAN id of 0 to 4094. EPROTONOSUPPORT, neither 802.1Q nor 802.1ad.
            EEXIST, the real device has it already or the name is taken. EOPNOTSUPP, no Ethernet.
            EINVAL, an MTU above the real device's. EADDRNOTAVAIL, no address of a station.
        ValueError: the name is empty or too long.
    """
    load_module(net.machine, "8021q", vlan_net_ops)
    err = _check(real_dev, vlan_proto, vlan_id, mtu)
    if not err and mac is not None and not is_valid_ether_addr(mac):
        err = -errno.EADDRNOTAVAIL
    if err:
        raise os_error(-err, f"{name}: VLAN {vlan_id} of {real_dev.name}")

    def priv(_dev: net_device) -> vlan_dev_priv:
        return vlan_dev_priv(real_dev, vlan_proto, vlan_id, flags)

    dev = rtnl_create_link(net, name, vlan_link_ops, vlan_setup, priv)
    dev.mtu = mtu or real_dev.mtu
    if mac is not None:
        dev.dev_addr = bytes(mac)
        dev.addr_assign_type = netdevice.NET_ADDR_SET
    check(register_vlan_dev(dev), f"{name}: VLAN {vlan_id} of {real_dev.name}")
    return dev


def _check(real_dev: net_device, proto: int, vlan_id: int, mtu: int) -> int:
    """vlan_validate and vlan_check_real_dev. 0 or -errno."""
    if not 0 <= vlan_id < VLAN_N_VID - 1:
        return -errno.ERANGE
    if proto not in (netdevice.ETH_P_8021Q, netdevice.ETH_P_8021AD):
        return -errno.EPROTONOSUPPORT
    if real_dev.reg_state != netdevice.NETREG_REGISTERED:
        return -errno.ENODEV
    if real_dev.type != netdevice.ARPHRD_ETHER or real_dev.priv_flags & netdevice.IFF_NO_RX_HANDLER:
        return -errno.EOPNOTSUPP
    if vlan_find_dev(real_dev, proto, vlan_id) is not None:
        return -errno.EEXIST
    return -errno.EINVAL if mtu < 0 or mtu > real_dev.mtu else 0


def register_vlan_dev(dev: net_device) -> int:
    """net/8021q/vlan.c: add the id to the filter, register the device. 0 or -errno."""
    vlan: vlan_dev_priv = dev.priv
    real_dev = vlan.real_dev
    err = vlan_vid_add(real_dev, vlan.vlan_proto, vlan.vlan_id)
    if err:
        return err
    err = stacked_register(dev, real_dev)
    if err:
        vlan_vid_del(real_dev, vlan.vlan_proto, vlan.vlan_id)
        return err
    netif_stacked_transfer_operstate(real_dev, dev)
    info = real_dev.vlan_info
    assert info is not None, "vlan_vid_add made it"
    info.vlan_group[vlan.vlan_proto << 16 | vlan.vlan_id] = dev
    return 0


def unregister_vlan_dev(dev: net_device) -> None:
    """net/8021q/vlan.c: unregister the device; an id's last user removes it from the filter."""
    vlan: vlan_dev_priv = dev.priv
    real_dev = vlan.real_dev
    if dev.reg_state != netdevice.NETREG_REGISTERED:
        return
    dev_close(dev)
    netdev_upper_dev_unlink(real_dev, dev)
    if real_dev.vlan_info is not None:
        real_dev.vlan_info.vlan_group.pop(vlan.vlan_proto << 16 | vlan.vlan_id, None)
    unregister_netdevice(dev)
    dev_addresses_unsync(real_dev, dev)
    vlan_vid_del(real_dev, vlan.vlan_proto, vlan.vlan_id)
    free_netdev(dev)


vlan_link_ops = rtnl_link_ops("vlan", unregister_vlan_dev)


def vlan_sync_address(real_dev: net_device, dev: net_device) -> None:
    """net/8021q/vlan.c: the address of the real device changed."""
    vlan: vlan_dev_priv = dev.priv
    if real_dev.dev_addr == vlan.real_dev_addr:
        return
    was, now = dev.dev_addr != vlan.real_dev_addr, dev.dev_addr != real_dev.dev_addr
    if was and not now:
        dev_uc_del(real_dev, dev.dev_addr)
    elif now and not was:
        dev_uc_add(real_dev, dev.dev_addr)
    vlan.real_dev_addr = real_dev.dev_addr


def vlan_transfer_features(real_dev: net_device, dev: net_device) -> None:
    """net/8021q/vlan.c: the real device's offloads have changed."""
    vlan: vlan_dev_priv = dev.priv
    netif_inherit_tso_max(dev, [real_dev])
    dev.hard_header_len = real_dev.hard_header_len
    if not vlan_hw_offload_capable(real_dev.features, vlan.vlan_proto):
        dev.hard_header_len += netdevice.VLAN_HLEN
    netdev_update_features(dev)


def vlan_device_event(event: int, dev: net_device) -> None:
    """net/8021q/vlan.c: pass events of a real device on to its VLANs."""
    if dev.features & netdevice.NETIF_F_HW_VLAN_CTAG_FILTER:
        if event == netdevice.NETDEV_UP:  # for frames with a priority tag only
            vlan_vid_add(dev, netdevice.ETH_P_8021Q, 0)
        elif event == netdevice.NETDEV_DOWN:
            vlan_vid_del(dev, netdevice.ETH_P_8021Q, 0)
    info = dev.vlan_info
    if info is None:
        return
    vlans: list[net_device] = list(info.vlan_group.values())
    if event == netdevice.NETDEV_CHANGE:
        for vlan in vlans:
            netif_stacked_transfer_operstate(dev, vlan)
    elif event == netdevice.NETDEV_CHANGEADDR:
        for vlan in vlans:
            if vlan.flags & netdevice.IFF_UP:
                vlan_sync_address(dev, vlan)
    elif event == netdevice.NETDEV_CHANGEMTU:
        for vlan in vlans:
            if vlan.mtu > dev.mtu:
                dev_set_mtu(vlan, dev.mtu)
    elif event == netdevice.NETDEV_FEAT_CHANGE:
        for vlan in vlans:
            vlan_transfer_features(dev, vlan)
    elif event == netdevice.NETDEV_DOWN:
        for vlan in vlans:
            if vlan.flags & netdevice.IFF_UP and not vlan.priv.flags & VLAN_FLAG_LOOSE_BINDING:
                dev_close(vlan)
            netif_stacked_transfer_operstate(dev, vlan)
    elif event == netdevice.NETDEV_UP:
        for vlan in vlans:
            if not vlan.flags & netdevice.IFF_UP and not vlan.priv.flags & VLAN_FLAG_LOOSE_BINDING:
                dev_change_flags(vlan, vlan.flags | netdevice.IFF_UP)
            netif_stacked_transfer_operstate(dev, vlan)
    elif (
        event == netdevice.NETDEV_UNREGISTER and dev.reg_state == netdevice.NETREG_UNREGISTERED
    ):  # else it moves to another namespace
        for vlan in vlans:
            unregister_vlan_dev(vlan)


vlan_net_ops = watches_devices(vlan_device_event)
