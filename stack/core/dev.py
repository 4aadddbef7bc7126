"""net/core/dev.c: interfaces: registration, open and close, settings, moves between namespaces.

The kernel's file is in parts here. Sending is in dev_queue.py (through the discipline) and
dev_xmit.py (to the driver), receiving in napi.py, backlog.py and dev_receive.py. link_watch.py has
the carrier, dev_notifier.py the notifiers.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from stack.core import netdevice
from stack.core.backlog import flush_backlog
from stack.core.dev_notifier import call_netdevice_notifiers, netdev_state_change
from stack.core.dev_receive import rx_fast_update
from stack.core.dev_xmit import _CSUM_SG
from stack.core.errors import os_error
from stack.core.link_watch import dev_activate, dev_deactivate, dev_shutdown
from stack.core.napi import netif_napi_del
from stack.core.netdevice import IFNAMSIZ, net_device, netif_device_present
from stack.core.snmp import rtnl_link_stats64
from stack.net import Net
from stack.sched.sch_generic import noop_qdisc


def alloc_netdev_mqs(
    net: Net,
    priv_factory: Callable[..., Any] | None,
    name: str,
    setup: Callable[[net_device], None],
    txqs: int = 1,
    rxqs: int = 1,
) -> net_device:
    """net/core/dev.c: a new, unregistered device; `setup(dev)` fills in its kind.

    `name` may contain %d. `priv_factory(dev)` makes the private part.

    Raises: ValueError: name too long or empty; more than one queue.
    """
    if not name or len(name) >= IFNAMSIZ:
        raise ValueError(f"interface name {name!r}: 1 to {IFNAMSIZ - 1} characters")
    if txqs != 1 or rxqs != 1:
        raise ValueError(f"{name}: {txqs} TX and {rxqs} RX queues asked for; one each is offered")
    dev = net_device(net, name)
    setup(dev)
    if not dev.tx_queue_len:
        dev.priv_flags |= netdevice.IFF_NO_QUEUE
        dev.tx_queue_len = netdevice.DEFAULT_TX_QUEUE_LEN
    dev.qdisc = noop_qdisc(dev)
    if priv_factory is not None:
        dev.priv = priv_factory(dev)
    return dev


def dev_valid_name(name: str) -> bool:
    """net/core/dev.c dev_valid_name, __dev_alloc_name: a name, or a pattern with one %d."""
    if not name or len(os.fsencode(name)) >= IFNAMSIZ or name in (".", ".."):
        return False
    if "%" in name.replace("%d", "", 1):
        return False
    return not any(c in "/:" or c.isspace() for c in name)


def dev_alloc_name(net: Net, name: str) -> str | None:
    """net/core/dev.c: the first free name for a pattern with %d; None when the name is taken."""
    if "%d" not in name:
        return None if name in net.dev_by_name else name
    for number in range(32768):
        candidate = name.replace("%d", str(number), 1)
        if candidate not in net.dev_by_name:
            return candidate
    return None


def dev_new_index(net: Net) -> int:
    """net/core/dev.c: a number that no interface of the namespace has."""
    while True:
        net.dev_ifindex += 1
        if net.dev_ifindex not in net.dev_by_index:
            return net.dev_ifindex


def register_netdevice(dev: net_device) -> int:
    """net/core/dev.c: name, ifindex, features; list it; NETDEV_REGISTER. 0 or -errno."""
    net = dev.net
    if not dev_valid_name(dev.name):
        return -errno.EINVAL
    name = dev_alloc_name(net, dev.name)
    if name is None:
        return -errno.EEXIST
    dev.name = name
    ops = dev.netdev_ops
    if ops.ndo_init is not None:
        err = ops.ndo_init(dev)
        if err:
            return err
    if not dev.ifindex or dev.ifindex in net.dev_by_index:
        dev.ifindex = dev_new_index(net)
    dev.hw_features |= netdevice.NETIF_F_SOFT_FEATURES
    dev.features |= netdevice.NETIF_F_SOFT_FEATURES
    if not dev.flags & netdevice.IFF_LOOPBACK:
        dev.hw_features |= netdevice.NETIF_F_NOCACHE_COPY
    dev.wanted_features = dev.features & dev.hw_features
    if not dev.perm_addr:
        dev.perm_addr = dev.dev_addr
    dev.reg_state = netdevice.NETREG_REGISTERED
    netdev_update_features(dev)
    list_netdevice(dev)
    err = call_netdevice_notifiers(netdevice.NETDEV_REGISTER, dev)
    if err:
        unregister_netdevice(dev)
    return err


def register_netdev(dev: net_device) -> int:
    """net/core/dev.c: register_netdevice (the host's lock is held: no rtnl to take)."""
    return register_netdevice(dev)


def list_netdevice(dev: net_device) -> None:
    """net/core/dev.c: make it visible by name and index."""
    net = dev.net
    net.dev_base_head.append(dev)
    for name in (dev.name, *dev.altnames):
        net.dev_by_name[name] = dev
    net.dev_by_index[dev.ifindex] = dev
    netdev_xmit_simple(dev)
    rx_fast_update(net)


def unlist_netdevice(dev: net_device) -> None:
    """net/core/dev.c: undo list_netdevice."""
    net = dev.net
    if dev in net.dev_base_head:
        net.dev_base_head.remove(dev)
        for name in (dev.name, *dev.altnames):
            net.dev_by_name.pop(name, None)
        net.dev_by_index.pop(dev.ifindex, None)


def unregister_netdevice(dev: net_device) -> None:
    """net/core/dev.c: close, free the disciplines, NETDEV_UNREGISTER, unlist."""
    if dev.reg_state != netdevice.NETREG_REGISTERED:
        return
    dev_close(dev)
    dev.reg_state = netdevice.NETREG_UNREGISTERED
    dev_shutdown(dev)
    call_netdevice_notifiers(netdevice.NETDEV_UNREGISTER, dev)
    if dev in dev.machine.linkwatch_events:
        dev.machine.linkwatch_events.remove(dev)
    if dev.netdev_ops.ndo_uninit is not None:
        dev.netdev_ops.ndo_uninit(dev)
    unlist_netdevice(dev)
    flush_backlog(dev)


def unregister_netdev(dev: net_device) -> None:
    """net/core/dev.c: unregister_netdevice under rtnl."""
    unregister_netdevice(dev)


def free_netdev(dev: net_device) -> None:
    """net/core/dev.c: the last step; NAPI contexts go too."""
    for napi in list(dev.napi_list):
        netif_napi_del(napi)
    dev.priv = None
    dev.reg_state = netdevice.NETREG_RELEASED


def dev_get_by_name(net: Net, name: str) -> net_device | None:
    """net/core/dev.c."""
    return net.dev_by_name.get(name)


def dev_get_by_index(net: Net, ifindex: int) -> net_device | None:
    """net/core/dev.c."""
    return net.dev_by_index.get(ifindex)


def dev_open(dev: net_device) -> int:
    """net/core/dev.c: bring the interface up. 0 or -errno."""
    if dev.flags & netdevice.IFF_UP:
        return 0
    err = __dev_open(dev)
    if not err:
        call_netdevice_notifiers(netdevice.NETDEV_UP, dev)
    return err


def __dev_open(dev: net_device) -> int:
    """net/core/dev.c: ndo_open, flags, receive mode, queue."""
    if dev.reg_state != netdevice.NETREG_REGISTERED or not netif_device_present(dev):
        return -errno.ENODEV
    err = call_netdevice_notifiers(netdevice.NETDEV_PRE_UP, dev)
    if err:
        return err
    ops = dev.netdev_ops
    dev.state |= netdevice.LINK_STATE_START
    if ops.ndo_validate_addr is not None:
        err = ops.ndo_validate_addr(dev)
    if not err and ops.ndo_open is not None:
        err = ops.ndo_open(dev)
    if err:
        dev.state &= ~netdevice.LINK_STATE_START
        return err
    dev.flags |= netdevice.IFF_UP
    dev_set_rx_mode(dev)
    dev_activate(dev)
    return 0


def dev_close(dev: net_device) -> None:
    """net/core/dev.c: take the interface down."""
    if dev.flags & netdevice.IFF_UP:
        __dev_close(dev)
        call_netdevice_notifiers(netdevice.NETDEV_DOWN, dev)


def __dev_close(dev: net_device) -> None:
    """net/core/dev.c."""
    call_netdevice_notifiers(netdevice.NETDEV_GOING_DOWN, dev)
    dev.state &= ~netdevice.LINK_STATE_START
    dev_deactivate(dev)
    if dev.netdev_ops.ndo_stop is not None:
        dev.netdev_ops.ndo_stop(dev)
    dev.flags &= ~netdevice.IFF_UP
    dev.queue_state = 0


_KEPT = (
    netdevice.IFF_DEBUG
    | netdevice.IFF_NOTRAILERS
    | netdevice.IFF_NOARP
    | netdevice.IFF_MULTICAST
    | netdevice.IFF_PORTSEL
    | netdevice.IFF_AUTOMEDIA
    | netdevice.IFF_DYNAMIC
)
"""Flags that are stored as given."""
_CHANGEABLE = _KEPT | netdevice.IFF_ALLMULTI | netdevice.IFF_PROMISC


def dev_change_flags(dev: net_device, flags: int) -> int:
    """net/core/dev.c: `ip link set up/down/promisc/arp ...`. 0 or -errno."""
    old = dev.flags
    changed = dev.gflags ^ flags
    dev.gflags ^= changed & (netdevice.IFF_PROMISC | netdevice.IFF_ALLMULTI)
    if changed & netdevice.IFF_PROMISC:
        dev_set_promiscuity(dev, 1 if flags & netdevice.IFF_PROMISC else -1)
    if changed & netdevice.IFF_ALLMULTI:
        dev_set_allmulti(dev, 1 if flags & netdevice.IFF_ALLMULTI else -1)
    dev.flags = dev.flags & ~_KEPT | flags & _KEPT
    if (old ^ flags) & netdevice.IFF_UP:
        if flags & netdevice.IFF_UP:
            return dev_open(dev)
        dev_close(dev)
    elif (old ^ dev.flags) & _CHANGEABLE:
        netdev_state_change(dev)
    return 0


def dev_validate_mtu(dev: net_device, mtu: int) -> int:
    """net/core/dev.c: 0, or -EINVAL for an MTU that the device cannot have."""
    if not dev.min_mtu <= mtu < 1 << 31 or (dev.max_mtu and mtu > dev.max_mtu):
        return -errno.EINVAL
    return 0


def dev_set_mtu(dev: net_device, mtu: int) -> int:
    """net/core/dev.c: 0, -EINVAL or the driver's error."""
    if mtu == dev.mtu:
        return 0
    err = dev_validate_mtu(dev, mtu)
    if err:
        return err
    if dev.netdev_ops.ndo_change_mtu is not None:
        err = dev.netdev_ops.ndo_change_mtu(dev, mtu)
        if err:
            return err
    dev.mtu = mtu
    call_netdevice_notifiers(netdevice.NETDEV_CHANGEMTU, dev)
    return 0


def netif_set_tso_max_size(dev: net_device, size: int) -> None:
    """net/core/dev.c: the largest packet that the device can take.

    That is also the default limit here; Linux's default is 64 KiB (BIG TCP).
    """
    if dev.gso_max_size == dev.tso_max_size or size < dev.gso_max_size:
        dev.gso_max_size = size
    dev.tso_max_size = size


def netif_set_tso_max_segs(dev: net_device, segs: int) -> None:
    """net/core/dev.c: the most segments of a packet that the device can take."""
    if dev.gso_max_segs == dev.tso_max_segs or segs < dev.gso_max_segs:
        dev.gso_max_segs = segs
    dev.tso_max_segs = segs


def netif_inherit_tso_max(to: net_device, lowers: list[net_device]) -> None:
    """net/core/dev.c: a device on others can take what all of them can."""
    limit = min((lower.tso_max_size for lower in lowers), default=netdevice.GSO_MAX_SIZE)
    netif_set_tso_max_size(to, limit)
    limit = min((lower.tso_max_segs for lower in lowers), default=netdevice.GSO_MAX_SEGS)
    netif_set_tso_max_segs(to, limit)


def netif_set_gro_max_size(dev: net_device, size: int) -> None:
    """net/core/dev.c: the most bytes of a packet that GRO merges from the device's frames."""
    dev.gro_max_size = size
    for napi in dev.napi_list:
        for table in (napi.gro, napi.ring_gro):
            if table is not None:
                table.max_bytes = size


def dev_change_carrier(dev: net_device, new_carrier: bool) -> int:
    """net/core/dev.c: `ip link set DEV carrier on`. 0, -EOPNOTSUPP or the driver's error."""
    if dev.netdev_ops.ndo_change_carrier is None:
        return -errno.EOPNOTSUPP
    return dev.netdev_ops.ndo_change_carrier(dev, new_carrier)


def dev_set_mac_address(dev: net_device, addr: bytes) -> int:
    """net/core/dev.c: 0 or -errno."""
    if dev.netdev_ops.ndo_set_mac_address is None:
        return -errno.EOPNOTSUPP
    if len(addr) != dev.addr_len:
        return -errno.EINVAL
    if addr != dev.dev_addr:
        err = dev.netdev_ops.ndo_set_mac_address(dev, addr)
        if err:
            return err
    dev.addr_assign_type = 3  # NET_ADDR_SET
    call_netdevice_notifiers(netdevice.NETDEV_CHANGEADDR, dev)
    return 0


def dev_change_name(dev: net_device, name: str) -> int:
    """net/core/dev.c: 0, -EEXIST, -EINVAL. Up or down, as since Linux 6.2."""
    net = dev.net
    if name == dev.name:
        return 0
    if not dev_valid_name(name):
        return -errno.EINVAL
    new = dev_alloc_name(net, name)
    if new is None:
        return -errno.EEXIST
    del net.dev_by_name[dev.name]
    dev.name = new
    net.dev_by_name[new] = dev
    call_netdevice_notifiers(netdevice.NETDEV_CHANGENAME, dev)
    return 0


def netdev_name_node_alt_create(dev: net_device, name: str) -> int:
    """net/core/dev.c: another name for an interface. 0; -EEXIST: an interface has it."""
    if name in dev.net.dev_by_name:
        return -errno.EEXIST
    dev.altnames.append(name)
    dev.net.dev_by_name[name] = dev
    return 0


def netdev_name_node_alt_destroy(dev: net_device, name: str) -> int:
    """net/core/dev.c: 0; -ENOENT: no such name; -EINVAL: not an alternative name of `dev`."""
    if name not in dev.net.dev_by_name:
        return -errno.ENOENT
    if name not in dev.altnames:
        return -errno.EINVAL
    dev.altnames.remove(name)
    del dev.net.dev_by_name[name]
    return 0


def dev_set_rx_mode(dev: net_device) -> None:
    """net/core/dev.c: tell the driver about promiscuity and address lists."""
    if not dev.flags & netdevice.IFF_UP or not netif_device_present(dev):
        return
    if dev.netdev_ops.ndo_set_rx_mode is not None:
        dev.netdev_ops.ndo_set_rx_mode(dev)


def dev_set_promiscuity(dev: net_device, inc: int) -> None:
    """net/core/dev.c: count users of promiscuous mode."""
    dev.promiscuity = max(0, dev.promiscuity + inc)
    _set_rx_flag(dev, netdevice.IFF_PROMISC, dev.promiscuity > 0)


def dev_set_allmulti(dev: net_device, inc: int) -> None:
    """net/core/dev.c: count users of all-multicast mode."""
    dev.allmulti = max(0, dev.allmulti + inc)
    _set_rx_flag(dev, netdevice.IFF_ALLMULTI, dev.allmulti > 0)


def _set_rx_flag(dev: net_device, flag: int, on: bool) -> None:
    """Change the receive mode of the device and of its lower device."""
    old = dev.flags
    dev.flags = old | flag if on else old & ~flag
    dev_change_rx_flags(dev, old ^ dev.flags)
    dev_set_rx_mode(dev)


def dev_change_rx_flags(dev: net_device, changed: int) -> None:
    """net/core/dev.c: tell a device that passes promiscuity on to its lower device."""
    change = dev.netdev_ops.ndo_change_rx_flags
    if changed and change is not None:
        change(dev, changed)


def dev_addresses_sync(to: net_device, frm: net_device) -> None:
    """net/core/dev_addr_lists.c dev_uc_sync, dev_mc_sync: add the addresses of `frm` to `to`.

    Removes from `to` the addresses that an earlier call added and that `frm` no longer has.
    """
    was, frm.synced = frm.synced, (set(frm.uc), set(frm.mc))
    dev_addresses_move(to, was, frm.synced)


def dev_addresses_move(
    to: net_device, was: tuple[set[bytes], set[bytes]], now: tuple[set[bytes], set[bytes]]
) -> None:
    """Give `to` the unicast and multicast addresses of `now`, and remove those only in `was`."""
    (was_uc, was_mc), (uc, mc) = was, now
    for addr in uc - was_uc:
        dev_uc_add(to, addr)
    for addr in mc - was_mc:
        dev_mc_add(to, addr)
    for addr in was_uc - uc:
        dev_uc_del(to, addr)
    for addr in was_mc - mc:
        dev_mc_del(to, addr)


def dev_addresses_unsync(to: net_device, frm: net_device) -> None:
    """net/core/dev_addr_lists.c dev_uc_unsync, dev_mc_unsync: remove the synced addresses."""
    was, frm.synced = frm.synced, (set(), set())
    dev_addresses_move(to, was, frm.synced)


def dev_uc_add(dev: net_device, addr: bytes) -> int:
    """net/core/dev_addr_lists.c: receive frames to one more unicast address."""
    if dev.uc.add(bytes(addr)):
        dev_set_rx_mode(dev)
    return 0


def dev_uc_del(dev: net_device, addr: bytes) -> int:
    """net/core/dev_addr_lists.c."""
    if dev.uc.remove(bytes(addr)):
        dev_set_rx_mode(dev)
    return 0


def dev_mc_add(dev: net_device, addr: bytes) -> int:
    """net/core/dev_addr_lists.c: receive frames to a multicast address."""
    if dev.mc.add(bytes(addr)):
        dev_set_rx_mode(dev)
    return 0


def dev_mc_add_global(dev: net_device, addr: bytes) -> int:
    """net/core/dev_addr_lists.c: dev_mc_add for SIOCADDMULTI, which counts one user at most."""
    if addr in dev.mc.global_use:
        return 0
    dev.mc.global_use.add(addr)
    return dev_mc_add(dev, addr)


def dev_mc_del_global(dev: net_device, addr: bytes) -> int:
    """net/core/dev_addr_lists.c: undo `dev_mc_add_global`. 0 or -ENOENT."""
    if addr not in dev.mc.global_use:
        return -errno.ENOENT
    dev.mc.global_use.remove(addr)
    return dev_mc_del(dev, addr)


def dev_mc_del(dev: net_device, addr: bytes) -> int:
    """net/core/dev_addr_lists.c."""
    if dev.mc.remove(bytes(addr)):
        dev_set_rx_mode(dev)
    return 0


def netdev_fix_features(dev: net_device, features: int) -> int:
    """net/core/dev.c: remove features whose prerequisites are off (TSO needs SG and checksums)."""
    if features & netdevice.NETIF_F_TSO and not features & (
        netdevice.NETIF_F_HW_CSUM | netdevice.NETIF_F_IP_CSUM
    ):
        features &= ~(netdevice.NETIF_F_ALL_TSO & ~netdevice.NETIF_F_TSO6)
    if features & netdevice.NETIF_F_TSO6 and not features & (
        netdevice.NETIF_F_HW_CSUM | netdevice.NETIF_F_IPV6_CSUM
    ):
        features &= ~netdevice.NETIF_F_TSO6
    if features & netdevice.NETIF_F_GSO_UDP_L4 and not features & netdevice.NETIF_F_CSUM_MASK:
        features &= ~netdevice.NETIF_F_GSO_UDP_L4
    if (
        features & (netdevice.NETIF_F_ALL_TSO | netdevice.NETIF_F_GSO)
        and not features & netdevice.NETIF_F_SG
    ):
        features &= ~(netdevice.NETIF_F_ALL_TSO | netdevice.NETIF_F_GSO)
    return features


def netdev_increment_features(features: int, one: int, mask: int) -> int:
    """net/core/dev.c: the features of a device over several ports, with port `one` added."""
    if mask & netdevice.NETIF_F_HW_CSUM:
        mask |= netdevice.NETIF_F_CSUM_MASK
    mask |= netdevice.NETIF_F_VLAN_CHALLENGED
    features |= one & (netdevice.NETIF_F_ONE_FOR_ALL | netdevice.NETIF_F_CSUM_MASK) & mask
    features &= one | ~netdevice.NETIF_F_ALL_FOR_ALL
    if features & netdevice.NETIF_F_HW_CSUM:
        features &= ~(netdevice.NETIF_F_CSUM_MASK & ~netdevice.NETIF_F_HW_CSUM)
    return features


def __netdev_update_features(dev: net_device) -> bool:
    """net/core/dev.c: set the wanted features that hardware and rules allow. True when changed."""
    features = dev.features & ~dev.hw_features | dev.wanted_features & dev.hw_features
    if dev.netdev_ops.ndo_fix_features is not None:
        features = dev.netdev_ops.ndo_fix_features(dev, features)
    features = netdev_fix_features(dev, features)
    if features == dev.features:
        return False
    err = 0
    dev.xmit_simple = False  # until the driver has replied
    if dev.netdev_ops.ndo_set_features is not None:
        err = dev.netdev_ops.ndo_set_features(dev, features)
    if not err:
        dev.features = features
    netdev_xmit_simple(dev)
    return err >= 0


def netdev_xmit_simple(dev: net_device) -> None:
    """Compute `xmit_simple`: the device takes every packet without GSO and VLAN tag unchanged."""
    able = dev.features & _CSUM_SG == _CSUM_SG
    dev.xmit_simple = able and dev.netdev_ops.ndo_features_check is None


def netdev_update_features(dev: net_device) -> None:
    """net/core/dev.c: recompute and call the notifiers."""
    if __netdev_update_features(dev):
        netdev_features_change(dev)


def netdev_features_change(dev: net_device) -> None:
    """net/core/dev.c."""
    call_netdevice_notifiers(netdevice.NETDEV_FEAT_CHANGE, dev)


def dev_get_stats(dev: net_device) -> rtnl_link_stats64:
    """net/core/dev.c: the device's counters; the driver may compute them."""
    if dev.netdev_ops.ndo_get_stats64 is not None:
        stats = dev.netdev_ops.ndo_get_stats64(dev)
        if stats is not None:
            return stats
    return dev.stats


def dev_named(net: Net, dev: net_device | str | None) -> net_device | None:
    """The interface of that name; a device or None is returned as given. Raises: OSError ENODEV."""
    if isinstance(dev, str):
        found = net.dev_by_name.get(dev)
        if found is None:
            raise os_error(errno.ENODEV, f"no device {dev!r}")
        return found
    return dev
