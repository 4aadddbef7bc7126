"""net/core/dev.c, notifier.c: notifiers of an interface's events."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial

from stack.core import netdevice
from stack.core.net_namespace import pernet_operations
from stack.core.netdevice import net_device
from stack.net import Net


def for_each_netdev(net: Net) -> tuple[net_device, ...]:
    """include/linux/netdevice.h: the registered devices in order; safe against changes."""
    return tuple(net.dev_base_head)


def register_netdevice_notifier(net: Net, fn: Callable[[int, net_device], int | None]) -> None:
    """net/core/dev.c: call `fn(event, dev)`; first for the devices that exist already."""
    net.netdev_chain.append(fn)
    for dev in for_each_netdev(net):
        fn(netdevice.NETDEV_REGISTER, dev)
        if dev.flags & netdevice.IFF_UP:
            fn(netdevice.NETDEV_UP, dev)


def watches_devices(fn: Callable[[int, net_device], int | None]) -> pernet_operations:
    """The part in each namespace of a module that only watches its devices with `fn`."""
    return pernet_operations(init=partial(register_netdevice_notifier, fn=fn))


def unregister_netdevice_notifier(net: Net, fn: Callable[[int, net_device], int | None]) -> None:
    """net/core/dev.c."""
    if fn in net.netdev_chain:
        net.netdev_chain.remove(fn)


def call_netdevice_notifiers(event: int, dev: net_device) -> int:
    """net/core/dev.c: call all; the first -errno (or NOTIFY_BAD) stops and is returned."""
    for fn in tuple(dev.net.netdev_chain):
        ret = fn(event, dev)
        if ret is not None and (ret < 0 or ret == netdevice.NOTIFY_BAD):
            return ret if ret < 0 else -errno.EINVAL
    return 0


def netdev_state_change(dev: net_device) -> None:
    """net/core/dev.c: send NETDEV_CHANGE to listeners."""
    if dev.flags & netdevice.IFF_UP:
        call_netdevice_notifiers(netdevice.NETDEV_CHANGE, dev)
