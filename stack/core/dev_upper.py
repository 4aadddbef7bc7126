"""net/core/dev.c: upper and lower devices, such as VLANs and bridges above their ports."""

from __future__ import annotations

import errno

from stack.core import netdevice
from stack.core.dev import (
    dev_set_allmulti,
    dev_set_promiscuity,
    netdev_increment_features,
    register_netdevice,
    unregister_netdevice,
)
from stack.core.dev_notifier import call_netdevice_notifiers
from stack.core.netdevice import NETDEV_CHANGEUPPER, net_device

MAX_NEST_DEV = 8


def netdev_has_upper_dev_all(dev: net_device, upper: net_device) -> bool:
    """net/core/dev.c: whether `upper` is above `dev`, directly or indirectly."""
    return any(one is upper or netdev_has_upper_dev_all(one, upper) for one in dev.upper)


def _levels(dev: net_device, up: bool) -> int:
    """The number of levels from this device up (or down), itself included."""
    others = dev.upper if up else dev.lower
    return 1 + max((_levels(other, up) for other in others), default=0)


def netdev_upper_dev_link(dev: net_device, upper: net_device) -> int:
    """net/core/dev.c: make `upper` an upper device of `dev`.

    0; -EBUSY: that would be a loop; -EEXIST: it is one already; -EMLINK: over MAX_NEST_DEV levels.
    """
    if dev is upper or netdev_has_upper_dev_all(upper, dev):
        return -errno.EBUSY
    if _levels(dev, False) + _levels(upper, True) > MAX_NEST_DEV:
        return -errno.EMLINK
    if upper in dev.upper:
        return -errno.EEXIST
    dev.upper.append(upper)
    upper.lower.append(dev)
    call_netdevice_notifiers(NETDEV_CHANGEUPPER, dev)
    return 0


def netdev_master_upper_dev_link(dev: net_device, upper: net_device) -> int:
    """net/core/dev.c: as netdev_upper_dev_link, for the master that receives all packets of `dev`.

    -EBUSY: `dev` has a master.
    """
    if dev.master is not None:
        return -errno.EBUSY
    dev.master = upper
    err = netdev_upper_dev_link(dev, upper)
    if err:
        dev.master = None
    return err


def netdev_upper_dev_unlink(dev: net_device, upper: net_device) -> None:
    """net/core/dev.c: undo `netdev_upper_dev_link`; no error when they are not linked."""
    if upper not in dev.upper:
        return
    dev.upper.remove(upper)
    upper.lower.remove(dev)
    if dev.master is upper:
        dev.master = None
    call_netdevice_notifiers(NETDEV_CHANGEUPPER, dev)


# --- devices on one other: VLANs, macvlan, ipvlan ------------------------------------------------


def stacked_register(dev: net_device, lower: net_device) -> int:
    """Register `dev` above `lower`, or neither. 0 or -errno."""
    err = register_netdevice(dev)
    if not err:
        err = netdev_upper_dev_link(lower, dev)
        if err:
            unregister_netdevice(dev)
    return err


def stacked_pass_modes(lower: net_device, flags: int, inc: int) -> None:
    """Pass IFF_ALLMULTI and IFF_PROMISC of an upper device on to its lower device."""
    if flags & netdevice.IFF_ALLMULTI:
        dev_set_allmulti(lower, inc)
    if flags & netdevice.IFF_PROMISC:
        dev_set_promiscuity(lower, inc)


def stacked_change_rx_flags(dev: net_device, lower: net_device, change: int) -> None:
    """ndo_change_rx_flags: apply the flags in `change` that were set or cleared."""
    stacked_pass_modes(lower, change & dev.flags, 1)
    stacked_pass_modes(lower, change & ~dev.flags, -1)


# --- devices on several: bonds and bridges --------------------------------------------------------


def master_fix_features(dev: net_device, features: int) -> int:
    """br_features_recompute, bond_fix_features: features that any port has, and TSO."""
    if not dev.lower:
        return features
    mask = features
    features &= ~netdevice.NETIF_F_ONE_FOR_ALL
    for port in dev.lower:
        features = netdev_increment_features(features, port.features, mask)
    return netdev_increment_features(features, netdevice.NETIF_F_ALL_TSO, mask)
