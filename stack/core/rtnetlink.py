"""net/core/rtnetlink.c: creating and deleting software devices: `ip link add`, `ip link del`."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from stack.core.dev import alloc_netdev_mqs, free_netdev, register_netdevice, unregister_netdevice
from stack.core.errors import os_error
from stack.core.netdevice import (
    NET_ADDR_RANDOM,
    NET_ADDR_SET,
    NETREG_REGISTERED,
    net_device,
    rtnl_link_ops,
)
from stack.core.uapi import NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from stack.ethernet.eth import is_valid_ether_addr
from stack.net import Net


def rtnl_create_link(
    net: Net,
    name: str,
    ops: rtnl_link_ops,
    setup: Callable[[net_device], None],
    priv: Callable[..., Any] | None = None,
) -> net_device:
    """net/core/rtnetlink.c: create a software device, not registered yet.

    Raises: ValueError: the name is empty or too long.
    """
    dev = alloc_netdev_mqs(net, priv, name, setup)
    dev.virtual = True
    dev.rtnl_link_ops = ops
    return dev


def rtnl_register_link(dev: net_device) -> None:
    """Complete a newlink. Raises: OSError EEXIST: the name is taken; an error of ndo_init."""
    err = register_netdevice(dev)
    if err:
        assert dev.rtnl_link_ops is not None, "rtnl_create_link made it"
        raise os_error(-err, f"{dev.rtnl_link_ops.kind} {dev.name}")


def rtnl_newlink(
    net: Net,
    name: str,
    ops: rtnl_link_ops,
    setup: Callable[[net_device], None],
    mac: bytes | None,
    priv: Callable[..., Any] | None = None,
) -> net_device:
    """`ip link add` of an Ethernet device: made, with an address, registered.

    Raises:
        OSError: EEXIST, the name is taken. EADDRNOTAVAIL, no address of a station.
        ValueError: the name is empty or too long.
    """
    dev = rtnl_create_link(net, name, ops, setup, priv)
    eth_hw_addr_init(dev, mac)
    rtnl_register_link(dev)
    return dev


def rtnl_delete_link(dev: net_device) -> int:
    """net/core/rtnetlink.c: `ip link del`. 0; -EOPNOTSUPP: it is no software device."""
    ops = dev.rtnl_link_ops
    if ops is None:
        return -errno.EOPNOTSUPP
    if dev.reg_state == NETREG_REGISTERED:
        ops.dellink(dev)
    return 0


def unregister_and_free(dev: net_device) -> None:
    """What ends with its registration (dev->needs_free_netdev)."""
    if dev.reg_state == NETREG_REGISTERED:
        unregister_netdevice(dev)
        free_netdev(dev)


def random_ether_addr(net: Net) -> bytes:
    """include/linux/etherdevice.h eth_random_addr: a local address, by the machine's seed."""
    first = net.random.getrandbits(8) & 0xFE | 0x02
    return bytes((first, *(net.random.getrandbits(8) for _ in range(5))))


def eth_hw_addr_init(dev: net_device, mac: bytes | None) -> None:
    """A new device's address: `mac`, or a random one (eth_hw_addr_set, eth_hw_addr_random).

    Raises:
        OSError: EADDRNOTAVAIL: a group's address, or zeros.
    """
    if mac is not None and not is_valid_ether_addr(mac):
        raise os_error(errno.EADDRNOTAVAIL, f"{dev.name}: {bytes(mac).hex(':')}")
    dev.dev_addr = random_ether_addr(dev.net) if mac is None else bytes(mac)
    dev.addr_assign_type = NET_ADDR_RANDOM if mac is None else NET_ADDR_SET


def nlflags_of(replace: bool, append: bool) -> int:
    """NLM_F_* of `ip route add`, `ip route replace` or `ip route append`."""
    return NLM_F_CREATE | (NLM_F_REPLACE if replace else NLM_F_APPEND if append else NLM_F_EXCL)
