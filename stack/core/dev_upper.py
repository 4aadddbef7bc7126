"""net/core/dev.c: which devices stand on which: VLANs and bridges (upper) on ports (lower)."""

from __future__ import annotations

import errno

from stack.core.dev_notifier import call_netdevice_notifiers
from stack.core.netdevice import NETDEV_CHANGEUPPER, net_device

MAX_NEST_DEV = 8


def netdev_has_upper_dev_all(dev: net_device, upper: net_device) -> bool:
    """net/core/dev.c: `upper` stands on `dev`, on whatever stands on it, and so on."""
    return any(one is upper or netdev_has_upper_dev_all(one, upper) for one in dev.upper)


def _levels(dev: net_device, up: bool) -> int:
    """How many devices stand above (or below) each other from this one on, itself included."""
    others = dev.upper if up else dev.lower
    return 1 + max((_levels(other, up) for other in others), default=0)


def netdev_upper_dev_link(dev: net_device, upper: net_device) -> int:
    """net/core/dev.c: `upper` stands on `dev` from now on.

    0, -EBUSY: that would be a circle; -EEXIST: it does already; -EMLINK: too many upon each other.
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
    """net/core/dev.c: as netdev_upper_dev_link, for the one that takes what `dev` receives.

    -EBUSY: it has such a one.
    """
    if dev.master is not None:
        return -errno.EBUSY
    dev.master = upper
    err = netdev_upper_dev_link(dev, upper)
    if err:
        dev.master = None
    return err


def netdev_upper_dev_unlink(dev: net_device, upper: net_device) -> None:
    """net/core/dev.c: `upper` does not stand on `dev` any longer."""
    if upper not in dev.upper:
        return
    dev.upper.remove(upper)
    upper.lower.remove(dev)
    if dev.master is upper:
        dev.master = None
    call_netdevice_notifiers(NETDEV_CHANGEUPPER, dev)
