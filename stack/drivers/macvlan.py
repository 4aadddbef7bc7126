"""drivers/net/macvlan.c: creation, settings, events and removal of macvlan devices."""

from __future__ import annotations

import errno

from stack.core import netdevice
from stack.core.dev import dev_set_mtu, dev_validate_mtu, free_netdev, unregister_netdevice
from stack.core.dev_notifier import watches_devices
from stack.core.dev_upper import netdev_upper_dev_unlink, stacked_register
from stack.core.errors import check, os_error
from stack.core.link_watch import linkwatch_fire_event, netif_stacked_transfer_operstate
from stack.core.net_namespace import load_module
from stack.core.netdevice import net_device, rtnl_link_ops
from stack.core.rtnetlink import eth_hw_addr_init, rtnl_create_link
from stack.drivers.macvlan_dev import (
    MACVLAN_DEFAULT_BC_QUEUE_LEN,
    MACVLAN_MODE_PASSTHRU,
    MACVLAN_MODE_SOURCE,
    MACVLAN_MODE_VEPA,
    macvlan_dev,
    macvlan_netdev_ops,
    macvlan_port,
    macvlan_port_create,
    macvlan_port_destroy,
    macvlan_port_get,
    macvlan_setup,
    macvlan_sync_address,
)
from stack.drivers.stacked import stacked_device_event
from stack.net import Net


def macvlan_common_newlink(
    net: Net,
    name: str,
    lowerdev: net_device,
    mode: int = MACVLAN_MODE_VEPA,
    flags: int = 0,
    *,
    mtu: int | None = None,
    mac: bytes | None = None,
    sources: list[bytes] | None = None,
    bc_queue_len: int = MACVLAN_DEFAULT_BC_QUEUE_LEN,
    bc_cutoff: int | None = None,
) -> net_device:
    """`ip link add link LOWER name NAME type macvlan mode MODE`.

    `mtu` None: that of the lower device. `sources` are the senders of mode source. If
    `lowerdev` is a macvlan device, its lower device is used.

    Raises:
        OSError: EEXIST, the name is taken. EINVAL: the lower device is not Ethernet, the MTU is
            not of 68 to its own, mode passthru beside others, senders in another mode. EBUSY: a
            bridge uses the lower device.
        ValueError: the name is empty or too long.
    """
    load_module(net.machine, "macvlan", macvlan_net_ops)
    what = f"macvlan {name} on {lowerdev.name}"
    if is_macvlan(lowerdev):
        lowerdev = lowerdev.priv.lowerdev
    if mtu is not None and mtu > lowerdev.mtu:
        raise os_error(errno.EINVAL, f"{what}: mtu {mtu}")
    port = macvlan_port_get(lowerdev)
    if port is None:
        check(macvlan_port_create(lowerdev), what)
        port = macvlan_port_get(lowerdev)
        assert port is not None, "macvlan_port_create made it"
    vlan: macvlan_dev | None = None
    try:
        if port.passthru or (mode == MACVLAN_MODE_PASSTHRU and port.count):
            raise os_error(errno.EINVAL, f"{what}: mode passthru is for one device alone")
        if sources is not None and mode != MACVLAN_MODE_SOURCE:
            raise os_error(errno.EINVAL, f"{what}: senders are for mode source")
        dev = rtnl_create_link(net, name, macvlan_link_ops, macvlan_setup)
        vlan = macvlan_dev(dev, lowerdev, port)
        vlan.mode, vlan.flags = mode, flags
        vlan.bc_queue_len_req = bc_queue_len
        dev.priv = vlan
        if mtu is not None:
            check(dev_validate_mtu(dev, mtu), f"{what}: mtu {mtu}")
        dev.mtu = lowerdev.mtu if mtu is None else mtu
        dev.max_mtu = lowerdev.max_mtu
        eth_hw_addr_init(dev, mac)
        if mode == MACVLAN_MODE_PASSTHRU:
            port.passthru = True
            dev.dev_addr = lowerdev.dev_addr
            dev.addr_assign_type = lowerdev.addr_assign_type
        for addr in sources or ():
            macvlan_hash_add_source(vlan, addr)
        if bc_cutoff is not None:
            port.bc_cutoff = bc_cutoff
        check(stacked_register(dev, lowerdev), what)
    except (OSError, ValueError):
        if vlan is not None:
            macvlan_flush_sources(vlan)
        if not port.count:
            macvlan_port_destroy(port)
        raise
    port.vlans.append(vlan)
    update_port_bc_queue_len(port)
    netif_stacked_transfer_operstate(lowerdev, dev)
    linkwatch_fire_event(dev)
    return dev


def is_macvlan(dev: net_device) -> bool:
    """include/linux/if_macvlan.h netif_is_macvlan: whether it is a macvlan."""
    return dev.netdev_ops is macvlan_netdev_ops


def macvlan_dellink(dev: net_device) -> None:
    """`ip link del`; the last device releases the lower one."""
    if dev.reg_state != netdevice.NETREG_REGISTERED:
        return
    vlan: macvlan_dev = dev.priv
    macvlan_flush_sources(vlan)
    vlan.port.vlans.remove(vlan)
    update_port_bc_queue_len(vlan.port)
    unregister_netdevice(dev)
    netdev_upper_dev_unlink(vlan.lowerdev, dev)
    free_netdev(dev)


macvlan_link_ops = rtnl_link_ops("macvlan", macvlan_dellink)


def update_port_bc_queue_len(port: macvlan_port) -> None:
    """Set the queue limit to the largest that a device requests."""
    port.bc_queue_len_used = max((vlan.bc_queue_len_req for vlan in port.vlans), default=0)


# --- senders of mode source -----------------------------------------------------------------------


def macvlan_hash_add_source(vlan: macvlan_dev, addr: bytes) -> None:
    """Add a sender, unless it is present."""
    if addr not in vlan.sources:
        vlan.sources.insert(0, addr)
        vlan.port.vlan_source_hash.setdefault(addr, []).insert(0, vlan)


def macvlan_hash_del_source(vlan: macvlan_dev, addr: bytes) -> None:
    """Remove a sender, if it is present."""
    if addr in vlan.sources:
        vlan.sources.remove(addr)
        users = vlan.port.vlan_source_hash[addr]
        users.remove(vlan)
        if not users:
            del vlan.port.vlan_source_hash[addr]


def macvlan_flush_sources(vlan: macvlan_dev) -> None:
    """Remove all senders."""
    for addr in tuple(vlan.sources):
        macvlan_hash_del_source(vlan, addr)


# --- the lower device -----------------------------------------------------------------------------


def macvlan_device_event(event: int, dev: net_device) -> int | None:
    """Pass events of a lower device to its macvlans."""
    port = macvlan_port_get(dev)
    if port is None:
        return None
    vlans = tuple(port.vlans)
    stacked_device_event(event, dev, [vlan.dev for vlan in vlans])
    if event == netdevice.NETDEV_CHANGEMTU:
        for vlan in vlans:
            if vlan.dev.mtu > dev.mtu:
                dev_set_mtu(vlan.dev, dev.mtu)
    elif (
        event == netdevice.NETDEV_CHANGEADDR
        and port.passthru
        and vlans
        and macvlan_sync_address(vlans[0].dev, dev.dev_addr)
    ):
        return netdevice.NOTIFY_BAD
    return None


macvlan_net_ops = watches_devices(macvlan_device_event)
