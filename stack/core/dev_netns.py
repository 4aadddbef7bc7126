"""net/core/dev.c: interfaces in namespaces: set-up, moving a device, and the namespace's end."""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING

from stack.core import netdevice
from stack.core.backlog import flush_backlog, process_backlog
from stack.core.dev import (
    dev_alloc_name,
    dev_close,
    dev_new_index,
    dev_valid_name,
    list_netdevice,
    unlist_netdevice,
    unregister_netdev,
)
from stack.core.dev_notifier import call_netdevice_notifiers, for_each_netdev
from stack.core.dev_queue import net_tx_action
from stack.core.link_watch import dev_shutdown, linkwatch_run_queue
from stack.core.napi import net_rx_action
from stack.core.net_namespace import (
    pernet_operations,
    register_pernet_device,
    register_pernet_subsys,
)
from stack.core.netdevice import net_device
from stack.core.softirq import NET_RX_SOFTIRQ, NET_TX_SOFTIRQ, open_softirq
from stack.net import Net

if TYPE_CHECKING:
    from stack.machine import Machine


def dev_change_net_namespace(dev: net_device, net: Net, pat: str | None = None) -> int:
    """net/core/dev.c: `ip link set DEV netns NET [name PAT]`. 0 or -errno.

    The device is closed; its disciplines, and its addresses, routes and neighbours in the old
    namespace are removed. It keeps its name and index unless they are taken; `pat` is a pattern for
    another name ("eth%d"). Counters, MTU, MAC address and offloads are kept.

    -EINVAL: a device that belongs to its namespace (lo), or one that is not registered. -EEXIST:
    the name is taken. -EXDEV: another machine's namespace.
    """
    if net.machine is not dev.machine:
        return -errno.EXDEV
    if dev.features & netdevice.NETIF_F_NETNS_LOCAL or dev.reg_state != netdevice.NETREG_REGISTERED:
        return -errno.EINVAL
    if dev.net is net:
        return 0
    name = dev.name
    if any(other in net.dev_by_name for other in dev.altnames):
        return -errno.EEXIST
    if name in net.dev_by_name:
        if pat is None:
            return -errno.EEXIST
        if not dev_valid_name(pat):
            return -errno.EINVAL
        other = dev_alloc_name(net, pat)
        if other is None:
            return -errno.EEXIST
        name = other
    dev_close(dev)
    dev_shutdown(dev)
    call_netdevice_notifiers(netdevice.NETDEV_UNREGISTER, dev)
    unlist_netdevice(dev)
    flush_backlog(dev)
    dev.uc.clear()
    dev.mc.clear()
    dev.net = net
    dev.name = name
    if dev.ifindex in net.dev_by_index:
        dev.ifindex = dev_new_index(net)
    list_netdevice(dev)
    return call_netdevice_notifiers(netdevice.NETDEV_REGISTER, dev)


def netdev_init(net: Net) -> None:
    """net/core/dev.c: the device tables of a namespace."""
    net.dev_base_head = []
    net.dev_by_name = {}
    net.dev_by_index = {}
    net.dev_ifindex = 0
    net.qdisc_autohandle = 0
    net.qdisc_hashed = 0
    net.tc_actions = {}
    net.ptype_all = []
    net.ptype_base = {}
    net.netdev_chain = []
    machine = net.machine
    if net is machine.init_net:
        sysctl, hot = net.sysctl, machine.net_hotdata
        sysctl.on_write("dev_weight", partial(setattr, machine.softnet_data.backlog, "weight"))
        sysctl.on_write("dev_weight", partial(setattr, hot, "dev_tx_weight"))
        sysctl.on_write("netdev_budget", partial(setattr, hot, "netdev_budget"))
        sysctl.on_write("gro_normal_batch", partial(setattr, hot, "gro_normal_batch"))
        sysctl.on_write("netdev_max_backlog", partial(setattr, hot, "max_backlog"))


def default_device_exit_net(net: Net) -> None:
    """net/core/dev.c: at a namespace's end, move hardware to the first one, delete virtual devices.

    A device whose name is taken there is renamed to dev%d.
    """
    first = net.machine.init_net
    for dev in reversed(for_each_netdev(net)):
        ops = dev.rtnl_link_ops
        if ops is not None:
            if dev.reg_state == netdevice.NETREG_REGISTERED:  # not deleted together with another
                ops.dellink(dev)
            continue
        movable = not dev.virtual and not dev.features & netdevice.NETIF_F_NETNS_LOCAL
        if net is first or not movable or dev_change_net_namespace(dev, first, "dev%d"):
            unregister_netdev(dev)


netdev_net_ops = pernet_operations(init=netdev_init)
default_device_ops = pernet_operations(exit=default_device_exit_net, device=True)


def net_dev_init(machine: Machine) -> None:
    """net/core/dev.c: set up the backlog, the two network softirqs and the pernet operations."""
    machine.softnet_data.backlog.poll = process_backlog
    machine.linkwatch_run_queue = partial(linkwatch_run_queue, machine)
    open_softirq(machine, NET_TX_SOFTIRQ, net_tx_action)
    open_softirq(machine, NET_RX_SOFTIRQ, net_rx_action)
    register_pernet_subsys(machine, netdev_net_ops)
    register_pernet_device(machine, default_device_ops)
