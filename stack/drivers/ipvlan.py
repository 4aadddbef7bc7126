"""drivers/net/ipvlan/ipvlan_main.c: creation, settings, addresses and removal of slaves.

    ipvlan_link_new             `ip link add`: the first slave makes the master's port
        ipvlan_port_create
        ipvlan_set_port_mode    of all slaves; also used by `ip link set`
            ipvlan_l3s_register         mode l3s: hooks of the master's namespace
    ipvlan_addr4_event, ipvlan_addr6_event      an address was added or removed: ipvlan_addr_event
    ipvlan_addr_validator_event                 whether a slave may get this address
    ipvlan_device_event         events of the master
    ipvlan_link_delete          the last slave destroys the port (ipvlan_uninit)

State: ipvlan_core.py, as for packets. Addresses are always in `ipvl_dev.addrs`, and in
`ipvl_port.hlhead` while the slave is up. Read ipvlan_link_new first.
"""

from __future__ import annotations

import errno
from functools import partial

from stack.core import netdevice
from stack.core.dev import (
    dev_addresses_unsync,
    dev_change_flags,
    dev_set_allmulti,
    dev_validate_mtu,
    free_netdev,
    unregister_netdevice,
)
from stack.core.dev_notifier import call_netdevice_notifiers, register_netdevice_notifier
from stack.core.dev_receive import netdev_rx_handler_register, netdev_rx_handler_unregister
from stack.core.dev_upper import netdev_upper_dev_unlink, stacked_register
from stack.core.drop_reason import SKB_DROP_REASON_DEV_READY, kfree_skb_reason
from stack.core.errors import check, os_error
from stack.core.ethtool import ethtool_ops, fixed_drvinfo
from stack.core.l3mdev import l3mdev_ops
from stack.core.link_watch import netif_stacked_transfer_operstate
from stack.core.net_namespace import load_module, pernet_operations
from stack.core.netdevice import (
    IFF_IPVLAN_SLAVE,
    IFF_L3MDEV_RX_HANDLER,
    IFF_NOARP,
    NETDEV_DOWN,
    NETDEV_UP,
    net_device,
    net_device_ops,
    netif_carrier_ok,
    rtnl_link_ops,
)
from stack.core.netfilter import (
    NF_INET_LOCAL_IN,
    NF_IP_PRI_LAST,
    NFPROTO_IPV4,
    NFPROTO_IPV6,
    nf_register_net_hook,
    nf_unregister_net_hook,
)
from stack.core.rows import wide
from stack.core.rtnetlink import rtnl_create_link
from stack.core.uapi import AF_INET6
from stack.core.workqueue import cancel_delayed_work, work_struct
from stack.drivers.ipvlan_core import (
    IPV6_KEY,
    IPVLAN_F_PRIVATE,
    IPVLAN_F_VEPA,
    IPVLAN_MODE_L2,
    IPVLAN_MODE_L3,
    IPVLAN_MODE_L3S,
    ipvl_dev,
    ipvl_port,
    ipvlan_handle_frame,
    ipvlan_l3_rcv,
    ipvlan_nf_input,
    ipvlan_process_multicast,
    ipvlan_start_xmit,
)
from stack.drivers.stacked import (
    STACKED_FEATURES,
    stacked_device_event,
    stacked_fix_features,
    stacked_get_link_ksettings,
    stacked_init,
    stacked_set_rx_mode,
    stacked_vlan_rx_add_vid,
    stacked_vlan_rx_kill_vid,
)
from stack.ethernet.eth import ether_setup_software
from stack.inet.addr_validator import register_addr_validator
from stack.ipv4.devinet import in_ifaddr, register_inetaddr_notifier
from stack.ipv6.addrconf_addr import register_inet6addr_notifier
from stack.ipv6.if_inet6 import inet6_ifaddr
from stack.net import Net

IPVLAN_MODE_NAMES = {"l2": IPVLAN_MODE_L2, "l3": IPVLAN_MODE_L3, "l3s": IPVLAN_MODE_L3S}
IPVLAN_FLAG_NAMES = {"bridge": 0, "private": IPVLAN_F_PRIVATE, "vepa": IPVLAN_F_VEPA}
DEV_ID_LAST = 0xFFFD
IPVLAN_FEATURES = STACKED_FEATURES | netdevice.NETIF_F_IP_CSUM | netdevice.NETIF_F_IPV6_CSUM


# --- the master's port ----------------------------------------------------------------------------


def ipvlan_port_get(dev: net_device) -> ipvl_port | None:
    """The port of a master; None if it has no slaves."""
    if dev.rx_handler is not ipvlan_handle_frame:
        return None
    port: ipvl_port = dev.rx_handler_data
    return port


def ipvlan_port_create(dev: net_device) -> ipvl_port:
    """Register the rx_handler of `dev`. Raises: OSError EINVAL: not Ethernet; EBUSY: in use."""
    err = -errno.EINVAL
    port = ipvl_port(dev)
    if dev.type == netdevice.ARPHRD_ETHER and not dev.flags & netdevice.IFF_LOOPBACK:
        port.wq = work_struct(dev.machine, partial(ipvlan_process_multicast, port))
        port.l3mdev_ops = l3mdev_ops(0, ipvlan_l3_rcv, lambda _dev, _sk, skb, _family: skb)
        err = netdev_rx_handler_register(dev, ipvlan_handle_frame, port)
    if err:
        raise os_error(-err, f"ipvlan on {dev.name}")
    return port


def ipvlan_port_destroy(port: ipvl_port) -> None:
    """Called when the last slave is removed."""
    dev = port.dev
    if port.mode == IPVLAN_MODE_L3S:
        ipvlan_l3s_unregister(port)
    netdev_rx_handler_unregister(dev)
    cancel_delayed_work(port.wq)
    for skb, _ in port.backlog:
        kfree_skb_reason(dev.net, skb, SKB_DROP_REASON_DEV_READY)
    port.backlog.clear()


def ipvlan_register_nf_hook(port: ipvl_port) -> None:
    """Register the last hook of LOCAL_IN for both families."""
    port.net = port.dev.net
    for pf in (NFPROTO_IPV4, NFPROTO_IPV6):
        nf_register_net_hook(port.net, NF_INET_LOCAL_IN, ipvlan_nf_input, pf, NF_IP_PRI_LAST)


def ipvlan_unregister_nf_hook(port: ipvl_port) -> None:
    """Unregister it."""
    for pf in (NFPROTO_IPV4, NFPROTO_IPV6):
        nf_unregister_net_hook(port.net, NF_INET_LOCAL_IN, ipvlan_nf_input, pf)


def ipvlan_l3s_register(port: ipvl_port) -> None:
    """Enter mode l3s."""
    ipvlan_register_nf_hook(port)
    port.dev.priv_flags |= IFF_L3MDEV_RX_HANDLER


def ipvlan_l3s_unregister(port: ipvl_port) -> None:
    """Leave mode l3s."""
    port.dev.priv_flags &= ~IFF_L3MDEV_RX_HANDLER
    ipvlan_unregister_nf_hook(port)


def ipvlan_set_port_mode(port: ipvl_port, mode: int) -> None:
    """Set the mode of all slaves: in l3 and l3s they have no ARP."""
    if port.mode == mode:
        return
    for ipvlan in port.ipvlans:
        flags = ipvlan.dev.flags
        flags = flags & ~IFF_NOARP if mode == IPVLAN_MODE_L2 else flags | IFF_NOARP
        dev_change_flags(ipvlan.dev, flags)
    if mode == IPVLAN_MODE_L3S:
        ipvlan_l3s_register(port)
    elif port.mode == IPVLAN_MODE_L3S:
        ipvlan_l3s_unregister(port)
    port.mode = mode


# --- a slave --------------------------------------------------------------------------------------


def ipvlan_init(dev: net_device) -> int:
    """ndo_init: carrier and features of the master. 0."""
    ipvlan: ipvl_dev = dev.priv
    stacked_init(dev, ipvlan.lowerdev, IPVLAN_FEATURES)
    ipvlan.port.count += 1
    return 0


def ipvlan_uninit(dev: net_device) -> None:
    """ndo_uninit: the last slave destroys the port."""
    port: ipvl_port = dev.priv.port
    port.count -= 1
    if not port.count:
        ipvlan_port_destroy(port)


def ipvlan_open(dev: net_device) -> int:
    """ndo_open: add its addresses to the lookup table. 0."""
    ipvlan: ipvl_dev = dev.priv
    if ipvlan.port.mode == IPVLAN_MODE_L2:
        dev.flags &= ~IFF_NOARP
    else:
        dev.flags |= IFF_NOARP
    for key in ipvlan.addrs:
        ipvlan.port.hlhead[key] = ipvlan
    return 0


def ipvlan_stop(dev: net_device) -> int:
    """ndo_stop. 0."""
    ipvlan: ipvl_dev = dev.priv
    dev_addresses_unsync(ipvlan.lowerdev, dev)
    for key in ipvlan.addrs:
        ipvlan.port.hlhead.pop(key, None)
    return 0


def ipvlan_fix_features(dev: net_device, features: int) -> int:
    """ndo_fix_features"""
    ipvlan: ipvl_dev = dev.priv
    return stacked_fix_features(ipvlan.lowerdev, features, IPVLAN_FEATURES)


def ipvlan_change_rx_flags(dev: net_device, change: int) -> None:
    """ndo_change_rx_flags: the master receives all groups if a slave does."""
    ipvlan: ipvl_dev = dev.priv
    if change & netdevice.IFF_ALLMULTI:
        dev_set_allmulti(ipvlan.lowerdev, 1 if dev.flags & netdevice.IFF_ALLMULTI else -1)


ipvlan_ethtool_ops = ethtool_ops(
    get_drvinfo=fixed_drvinfo("ipvlan", "0.1"),
    get_link=netif_carrier_ok,
    get_link_ksettings=stacked_get_link_ksettings,
)
ipvlan_netdev_ops = net_device_ops(
    ndo_init=ipvlan_init,
    ndo_uninit=ipvlan_uninit,
    ndo_open=ipvlan_open,
    ndo_stop=ipvlan_stop,
    ndo_start_xmit=ipvlan_start_xmit,
    ndo_fix_features=ipvlan_fix_features,
    ndo_change_rx_flags=ipvlan_change_rx_flags,
    ndo_set_rx_mode=stacked_set_rx_mode,
    ndo_vlan_rx_add_vid=stacked_vlan_rx_add_vid,
    ndo_vlan_rx_kill_vid=stacked_vlan_rx_kill_vid,
)


def ipvlan_link_setup(dev: net_device) -> None:
    """Ethernet without a queue; its MAC address is fixed to the master's."""
    ether_setup_software(dev, ipvlan_netdev_ops, ipvlan_ethtool_ops)


def ipvlan_dev_id(port: ipvl_port) -> int:
    """The next free dev_id of a slave. Raises: OSError ENOSPC."""
    used = {ipvlan.dev_id for ipvlan in port.ipvlans}
    first: int = port.dev_id_start
    free = (n for n in (*range(first, DEV_ID_LAST + 1), *range(1, first)) if n not in used)
    number = next(free, 0)
    if not number:
        raise os_error(errno.ENOSPC, f"ipvlan on {port.dev.name}")
    port.dev_id_start = number + 1
    return number


def ipvlan_link_new(
    net: Net,
    name: str,
    lowerdev: net_device,
    mode: int = IPVLAN_MODE_L3,
    flags: int | None = None,
    mtu: int | None = None,
) -> net_device:
    """`ip link add link LOWER name NAME type ipvlan mode MODE`.

    Mode and flags apply to all slaves (flags None: unchanged). `mtu` None: that of the
    master. If `lowerdev` is a slave, its master is used.

    Raises:
        OSError: EEXIST, the name is taken. EINVAL: the master is not Ethernet, or an MTU not of 68
            to 65535. EBUSY: a bridge or macvlan uses the master. ENOSPC: there are 65533 slaves.
        ValueError: the name is empty or too long.
    """
    load_module(net.machine, "ipvlan", ipvlan_net_ops)
    if lowerdev.priv_flags & IFF_IPVLAN_SLAVE:
        lowerdev = lowerdev.priv.lowerdev
    dev = rtnl_create_link(net, name, ipvlan_link_ops, ipvlan_link_setup)
    if mtu is not None:
        check(dev_validate_mtu(dev, mtu), f"ipvlan {name}: mtu {mtu}")
    port = ipvlan_port_get(lowerdev) or ipvlan_port_create(lowerdev)
    ipvlan = ipvl_dev(dev, lowerdev, port)
    dev.priv = ipvlan
    dev.priv_flags |= IFF_IPVLAN_SLAVE
    dev.mtu = lowerdev.mtu if mtu is None else mtu
    dev.dev_addr = lowerdev.dev_addr
    try:
        ipvlan.dev_id = ipvlan_dev_id(port)
        check(stacked_register(dev, lowerdev), f"ipvlan {name} on {lowerdev.name}")
    except OSError:
        if not port.count and ipvlan_port_get(lowerdev) is port:
            ipvlan_port_destroy(port)
        raise
    if flags is not None:
        port.flags = flags
    ipvlan_set_port_mode(port, mode)
    port.ipvlans.append(ipvlan)
    netif_stacked_transfer_operstate(lowerdev, dev)
    return dev


def ipvlan_link_delete(dev: net_device) -> None:
    """`ip link del`."""
    if dev.reg_state != netdevice.NETREG_REGISTERED:
        return
    ipvlan: ipvl_dev = dev.priv
    unregister_netdevice(dev)
    ipvlan.port.ipvlans.remove(ipvlan)
    netdev_upper_dev_unlink(ipvlan.lowerdev, dev)
    free_netdev(dev)


ipvlan_link_ops = rtnl_link_ops("ipvlan", ipvlan_link_delete)


# --- addresses ------------------------------------------------------------------------------------


def ipvlan_addr_validator_event(dev: net_device, addr: wide, family: int) -> int:
    """Allow each address on one slave only. 0; -EADDRINUSE."""
    if not dev.priv_flags & IFF_IPVLAN_SLAVE:
        return 0
    key = addr | IPV6_KEY if family == AF_INET6 else addr
    ipvlans: list[ipvl_dev] = dev.priv.port.ipvlans
    return -errno.EADDRINUSE if any(key in ipvlan.addrs for ipvlan in ipvlans) else 0


def ipvlan_addr_event(event: int, dev: net_device, key: wide) -> None:
    """An address was added or removed."""
    if not dev.priv_flags & IFF_IPVLAN_SLAVE:
        return
    ipvlan: ipvl_dev = dev.priv
    if event == NETDEV_UP and key not in ipvlan.addrs:
        ipvlan.addrs.append(key)
        if netdevice.netif_running(dev):
            ipvlan.port.hlhead[key] = ipvlan
    elif event == NETDEV_DOWN and key in ipvlan.addrs:
        ipvlan.addrs.remove(key)
        ipvlan.port.hlhead.pop(key, None)


def ipvlan_addr4_event(event: int, ifa: in_ifaddr) -> None:
    """inetaddr_chain"""
    ipvlan_addr_event(event, ifa.ifa_dev.dev, ifa.ifa_local)


def ipvlan_addr6_event(event: int, ifp: inet6_ifaddr) -> None:
    """inet6addr_chain"""
    ipvlan_addr_event(event, ifp.idev.dev, ifp.addr | IPV6_KEY)


# --- the master's events --------------------------------------------------------------------------


def ipvlan_device_event(event: int, dev: net_device) -> int | None:
    """Pass events of a master to its slaves."""
    port = ipvlan_port_get(dev)
    if port is None:
        return None
    devs = [ipvlan.dev for ipvlan in port.ipvlans]
    stacked_device_event(event, dev, devs)
    if event == netdevice.NETDEV_REGISTER and port.net is not dev.net:
        if port.mode == IPVLAN_MODE_L3S:
            ipvlan_unregister_nf_hook(port)
            ipvlan_register_nf_hook(port)
        port.net = dev.net
    elif event == netdevice.NETDEV_CHANGEMTU:
        for slave in devs:
            slave.mtu = dev.mtu
    elif event == netdevice.NETDEV_CHANGEADDR:
        for slave in devs:
            slave.dev_addr = dev.dev_addr
            call_netdevice_notifiers(netdevice.NETDEV_CHANGEADDR, slave)
    return None


def ipvlan_init_net(net: Net) -> None:
    """Register the notifiers for devices and addresses."""
    register_netdevice_notifier(net, ipvlan_device_event)
    register_inetaddr_notifier(net, ipvlan_addr4_event)
    register_inet6addr_notifier(net, ipvlan_addr6_event)
    register_addr_validator(net, ipvlan_addr_validator_event)


ipvlan_net_ops = pernet_operations(init=ipvlan_init_net)
