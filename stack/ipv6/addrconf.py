"""net/ipv6/addrconf.c: IPv6 on interfaces: registration, configuration, up and down.

    device events => addrconf_notify
        NETDEV_REGISTER     ipv6_add_dev            `dev.ip6_ptr`: settings, groups, ND parameters
        NETDEV_UP           addrconf_up -> addrconf_link_up
        NETDEV_CHANGE       addrconf_carrier -> addrconf_link_up
            ipv6_mc_up, addrconf_init_auto_addrs
                addrconf_dev_config -> addrconf_addr_gen    the link-local address (addr_gen_mode)
                    addrconf_add_linklocal -> addrconf_dad_start
            addrconf_dad_run                        DAD of addresses that waited for the link
        NETDEV_DOWN, NETDEV_UNREGISTER      addrconf_ifdown
    `ip -6 addr add`, `change`, `del` -> inet6_addr_add, inet6_addr_modify, inet6_addr_del
    written settings -> dev_forward_change, dev_disable_change, addr_gen_mode_change

Once its link-local address is unique, the interface solicits routers (addrconf_dad.py). Their
advertisements add further addresses (addrconf_prefix.py), which age in addrconf_temp.py. State: an
`inet6_dev` per device with `addr_list`, `cnf` (settings) and `if_flags` (IF_READY: the link works).
addrconf_init sets a namespace up. Read addrconf_link_up first.
"""

from __future__ import annotations

import errno
from functools import partial

from stack.core import netdevice, uapi
from stack.core.dev_notifier import register_netdevice_notifier
from stack.core.devconf import add_devconf, devconf, netconf_gone, netconf_notify, remove_devconf
from stack.core.errors import os_error
from stack.core.extack import ExtAckError
from stack.core.l3mdev import netif_is_l3_master
from stack.core.neigh_gc import neigh_ifdown
from stack.core.neigh_table import neigh_parms_release, neigh_rand_reach_time
from stack.core.net_namespace import pernet_operations, register_pernet_subsys
from stack.core.netdevice import net_device, netif_carrier_ok, netif_running
from stack.core.rows import wide
from stack.core.time64 import NSEC_PER_SEC
from stack.core.timer import TIMER_DEFERRABLE, timer_list, timer_shutdown
from stack.core.uapi import AF_INET6, INFINITY_LIFE_TIME, IPV6_MIN_MTU, RTM_NEWADDR
from stack.ipv6 import if_inet6, ip6_fib
from stack.ipv6.addr import (
    IN6ADDR_INTERFACELOCAL_ALLNODES,
    IN6ADDR_INTERFACELOCAL_ALLROUTERS,
    IN6ADDR_LINKLOCAL_ALLNODES,
    IN6ADDR_LINKLOCAL_ALLROUTERS,
    IN6ADDR_LOOPBACK,
    IN6ADDR_SITELOCAL_ALLROUTERS,
    format_addr6,
    ipv6_addr_is_linklocal,
)
from stack.ipv6.addrconf_addr import (
    addrconf_dad_start,
    addrconf_del_dad_work,
    addrconf_f6i_alloc,
    addrconf_get_prefix_route,
    addrconf_join_anycast,
    addrconf_leave_anycast,
    addrconf_leave_solict,
    addrconf_prefix_route,
    cleanup_prefix_route,
    ifa6_config,
    inet6_ifa_notify,
    ipv6_add_addr,
    ipv6_del_addr,
    ipv6_ifa_down,
    ipv6_ifa_up,
    ipv6_unhash_addr,
    notify_inet6addr,
)
from stack.ipv6.addrconf_dad import (
    FE80,
    addrconf_dad_run,
    addrconf_dad_work,
    addrconf_del_rs_timer,
    addrconf_rs_start,
    addrconf_rs_timer,
)
from stack.ipv6.addrconf_temp import addr_chk_exit, addr_chk_init, addrconf_verify, manage_tempaddrs
from stack.ipv6.anycast import ipv6_ac_destroy_dev
from stack.ipv6.devconf import ipv6_devconf
from stack.ipv6.if_inet6 import inet6_dev, inet6_ifaddr
from stack.ipv6.ip6_fib import (
    fib6_add_once,
    fib6_clean_all,
    fib6_clean_expires,
    fib6_del,
    fib6_kernel_route,
    fib6_set_expires,
    rt6_sync_up,
)
from stack.ipv6.mcast import (
    ipv6_dev_mc_dec,
    ipv6_dev_mc_inc,
    ipv6_mc_destroy_dev,
    ipv6_mc_down,
    ipv6_mc_up,
)
from stack.ipv6.mld import mld_init_dev, mld_stop_dev
from stack.ipv6.ndisc import ndisc_cleanup, ndisc_init, ndisc_netdev_event
from stack.ipv6.ndisc_rcv import ndisc_rcv_init
from stack.ipv6.route_learned import rt6_mtu_change, rt6_purge_dflt_routers
from stack.ipv6.stable import (
    IN6_ADDR_GEN_MODE_EUI64,
    IN6_ADDR_GEN_MODE_NONE,
    IN6_ADDR_GEN_MODE_RANDOM,
    ipv6_generate_eui64,
    ipv6_generate_stable_address,
    is_addr_mode_generate_stable,
)
from stack.machine import Machine
from stack.net import Net

_ALL_ROUTERS = (
    IN6ADDR_LINKLOCAL_ALLROUTERS,
    IN6ADDR_INTERFACELOCAL_ALLROUTERS,
    IN6ADDR_SITELOCAL_ALLROUTERS,
)


def addrconf_link_ready(dev: net_device) -> bool:
    """net/ipv6/addrconf.c: whether the interface is up and has a carrier."""
    return netif_running(dev) and netif_carrier_ok(dev)


# --- the IPv6 side of an interface ---------------------------------------------------------


def ipv6_add_dev(dev: net_device) -> inet6_dev:
    """net/ipv6/addrconf.c: give an interface its IPv6 side, with the settings of `default`."""
    net = dev.net
    cnf = ipv6_devconf(dev.name, net.ipv6.devconf_dflt)
    cnf.store("mtu", dev.mtu)
    if dev.flags & netdevice.IFF_LOOPBACK:
        cnf.store("accept_dad", -1)
    idev = inet6_dev(dev, cnf)
    parms = idev.nd_parms
    parms.reachable_time = neigh_rand_reach_time(net, parms.base_reachable_time)
    if addrconf_link_ready(dev):
        idev.if_flags |= if_inet6.IF_READY
    idev.tstamp = net.now()
    idev.nd.rs_timer = timer_list(net.machine, addrconf_rs_timer, TIMER_DEFERRABLE, data=idev)
    mld_init_dev(idev)
    dev.ip6_ptr = idev
    add_devconf(net.ipv6.sysctl.conf, cnf, dev.name)
    cnf.on_change(partial(devconf_changed, idev))
    netconf_notify(net, AF_INET6, cnf, index=dev.ifindex)
    ipv6_dev_mc_inc(dev, IN6ADDR_INTERFACELOCAL_ALLNODES)
    ipv6_dev_mc_inc(dev, IN6ADDR_LINKLOCAL_ALLNODES)
    if cnf.forwarding and dev.flags & netdevice.IFF_MULTICAST:
        ipv6_dev_mc_inc(dev, IN6ADDR_LINKLOCAL_ALLROUTERS)
    return idev


def addrconf_add_dev(dev: net_device) -> inet6_dev:
    """net/ipv6/addrconf.c: the IPv6 side, made when missing, with its route to groups.

    Raises: OSError EINVAL (MTU below 1280), EACCES (disable_ipv6).
    """
    idev: inet6_dev | None = dev.ip6_ptr
    if idev is None:
        if dev.mtu < IPV6_MIN_MTU:
            raise os_error(errno.EINVAL, f"{dev.name}: MTU {dev.mtu} is too small for IPv6")
        idev = ipv6_add_dev(dev)
    if idev.cnf.disable_ipv6:
        raise os_error(errno.EACCES, f"{dev.name}: IPv6 is disabled (disable_ipv6)")
    if not dev.flags & netdevice.IFF_LOOPBACK and not netif_is_l3_master(dev):
        addrconf_add_mroute(dev)
    return idev


def addrconf_add_mroute(dev: net_device) -> None:
    """net/ipv6/addrconf.c: add the interface's route for groups, ff00::/8, once it is up."""
    if not dev.flags & netdevice.IFF_UP:
        return
    local, metric = ip6_fib.RT6_TABLE_LOCAL, ip6_fib.IP6_RT_PRIO_ADDRCONF
    rt = fib6_kernel_route(dev, local, 0xFF << 120, 8, uapi.RTN_MULTICAST, metric=metric)
    fib6_add_once(dev.net, rt)


def addrconf_init_auto_addrs(dev: net_device) -> None:
    """net/ipv6/addrconf.c: add ::1 to a loopback device, to others a link-local address."""
    if dev.flags & netdevice.IFF_LOOPBACK:
        init_loopback(dev)
    elif dev.type in (netdevice.ARPHRD_ETHER, netdevice.ARPHRD_NONE):
        addrconf_dev_config(dev)


def init_loopback(dev: net_device) -> None:
    """net/ipv6/addrconf.c"""
    try:
        idev = addrconf_add_dev(dev)
        flags = uapi.IFA_F_PERMANENT | if_inet6.IFA_F_NODAD
        ifp = ipv6_add_addr(idev, ifa6_config(IN6ADDR_LOOPBACK, 128, flags))
    except OSError:
        return
    ifp.flags &= ~if_inet6.IFA_F_NODAD
    ifp.state = if_inet6.INET6_IFADDR_STATE_POSTDAD
    ipv6_ifa_up(ifp)


def addrconf_dev_config(dev: net_device) -> None:
    """net/ipv6/addrconf.c: give a device its groups and a link-local address.

    A device without a hardware address, such as a TUN, gets a random one.
    """
    try:
        idev = addrconf_add_dev(dev)
    except OSError:
        return
    if dev.type == netdevice.ARPHRD_NONE and idev.cnf.addr_gen_mode == IN6_ADDR_GEN_MODE_EUI64:
        idev.cnf.addr_gen_mode = IN6_ADDR_GEN_MODE_RANDOM
    addrconf_addr_gen(idev)


def addrconf_addr_gen(idev: inet6_dev) -> None:
    """net/ipv6/addrconf.c: make the link-local address by addr_gen_mode (RFC 4862 5.3)."""
    if netif_is_l3_master(idev.dev):
        return
    if idev.cnf.addr_gen_mode == IN6_ADDR_GEN_MODE_NONE:
        return
    if is_addr_mode_generate_stable(idev):
        addr = ipv6_generate_stable_address(idev, FE80, 0)
        if addr is not None:
            addrconf_add_linklocal(idev, addr, if_inet6.IFA_F_STABLE_PRIVACY)
            return
    iid = ipv6_generate_eui64(idev.dev)
    if iid is not None:
        addrconf_add_linklocal(idev, FE80 | iid, 0)


def addrconf_add_linklocal(idev: inet6_dev, addr: wide, flags: int) -> None:
    """net/ipv6/addrconf.c"""
    flags |= uapi.IFA_F_PERMANENT
    all_ = idev.net.ipv6.devconf_all
    if (all_.optimistic_dad or idev.cnf.optimistic_dad) and not all_.forwarding:
        flags |= if_inet6.IFA_F_OPTIMISTIC
    try:
        ifp = ipv6_add_addr(idev, ifa6_config(addr, 64, flags))
    except OSError:
        return  # the address exists already, or IPv6 is disabled
    addrconf_prefix_route(idev.dev, ifp.addr, ifp.prefix_len)
    addrconf_dad_start(ifp)


# --- events --------------------------------------------------------------------------------


def addrconf_notify(event: int, dev: net_device) -> None:
    """net/ipv6/addrconf.c: update IPv6 on a device event."""
    net = dev.net
    idev: inet6_dev | None = dev.ip6_ptr
    loopback = bool(dev.flags & netdevice.IFF_LOOPBACK)
    if event == netdevice.NETDEV_REGISTER:
        if idev is None and dev.mtu >= IPV6_MIN_MTU:
            ipv6_add_dev(dev)
    elif event == netdevice.NETDEV_CHANGEMTU:
        if dev.mtu < IPV6_MIN_MTU:
            addrconf_ifdown(dev, not loopback)
        elif idev is not None:
            rt6_mtu_change(dev, dev.mtu)
        else:
            ipv6_add_dev(dev)
            if dev.flags & netdevice.IFF_UP:
                addrconf_up(dev)
    elif event in (netdevice.NETDEV_UP, netdevice.NETDEV_CHANGE):
        if dev.flags & netdevice.IFF_SLAVE:
            return  # the bond has the addresses
        if event == netdevice.NETDEV_UP:
            addrconf_up(dev)
        elif dev.flags & netdevice.IFF_UP:
            addrconf_carrier(dev)
    elif event == netdevice.NETDEV_DOWN:
        addrconf_ifdown(dev, False)
    elif event == netdevice.NETDEV_UNREGISTER:
        addrconf_ifdown(dev, True)
    elif event == netdevice.NETDEV_CHANGENAME and idev is not None:
        netconf_gone(net, AF_INET6, dev.ifindex)
        remove_devconf(net.ipv6.sysctl.conf, idev.cnf)
        add_devconf(net.ipv6.sysctl.conf, idev.cnf, dev.name)
        netconf_notify(net, AF_INET6, idev.cnf, index=dev.ifindex)


def addrconf_up(dev: net_device) -> None:
    """net/ipv6/addrconf.c (NETDEV_UP): restore kept addresses; bring the link up if it is ready."""
    idev: inet6_dev | None = dev.ip6_ptr
    if idev is None or idev.cnf.disable_ipv6:
        return
    if dev.mtu < IPV6_MIN_MTU:
        addrconf_ifdown(dev, not dev.flags & netdevice.IFF_LOOPBACK)
        return
    addrconf_permanent_addr(idev)
    if addrconf_link_ready(dev) or dev.flags & netdevice.IFF_LOOPBACK:
        addrconf_link_up(idev)


def addrconf_carrier(dev: net_device) -> None:
    """net/ipv6/addrconf.c (NETDEV_CHANGE): bring the link up if it has a carrier."""
    idev: inet6_dev | None = dev.ip6_ptr
    if idev is None or idev.cnf.disable_ipv6:
        return
    if not addrconf_link_ready(dev):
        rt6_sync_up(dev, uapi.RTNH_F_LINKDOWN, False)
        return
    if idev.if_flags & if_inet6.IF_READY:
        # The cable may be plugged in elsewhere: report our groups again.
        ipv6_mc_up(idev)
        rt6_sync_up(dev, uapi.RTNH_F_LINKDOWN, True)
        return
    addrconf_link_up(idev)


def addrconf_link_up(idev: inet6_dev) -> None:
    """net/ipv6/addrconf.c: the link is ready: report groups, add addresses, run DAD."""
    dev = idev.dev
    idev.if_flags |= if_inet6.IF_READY
    ipv6_mc_up(idev)
    addrconf_init_auto_addrs(dev)
    addrconf_dad_run(idev)
    rt6_sync_up(dev, uapi.RTNH_F_DEAD | uapi.RTNH_F_LINKDOWN, True)
    if idev.cnf.mtu != dev.mtu:
        rt6_mtu_change(dev, dev.mtu)
    idev.tstamp = idev.net.now()


def addrconf_permanent_addr(idev: inet6_dev) -> None:
    """net/ipv6/addrconf.c: add routes and run DAD for addresses kept or added while down."""
    for ifp in tuple(idev.addr_list):
        kept = ifp.flags & uapi.IFA_F_PERMANENT and ifp.rt is None
        if kept:
            ifp.rt = addrconf_f6i_alloc(idev, ifp.addr)
        if ifp.flags & uapi.IFA_F_PERMANENT and not ifp.flags & if_inet6.IFA_F_NOPREFIXROUTE:
            addrconf_prefix_route(idev.dev, ifp.addr, ifp.prefix_len, metric=ifp.rt_priority)
        if kept or (
            ifp.flags & if_inet6.IFA_F_TENTATIVE and ifp.state != if_inet6.INET6_IFADDR_STATE_DEAD
        ):
            addrconf_dad_start(ifp)


def addrconf_ifdown(dev: net_device, unregister: bool) -> None:
    """net/ipv6/addrconf.c: remove routes, addresses and groups of an interface that goes down.

    `unregister`: the interface itself is removed.
    """
    net = dev.net
    idev: inet6_dev | None = dev.ip6_ptr
    fib6_clean_all(net, dev, down=not unregister)
    neigh_ifdown(net.ipv6.nd_tbl, dev)
    if idev is None:
        return
    keep_addr = 0
    if not unregister and not idev.cnf.disable_ipv6:
        keep_addr = net.ipv6.devconf_all.keep_addr_on_down or idev.cnf.keep_addr_on_down
    addrconf_del_rs_timer(idev)
    if not unregister:
        idev.if_flags &= ~(if_inet6.IF_RS_SENT | if_inet6.IF_RA_RCVD | if_inet6.IF_READY)
    mld_stop_dev(idev)
    for ifp in tuple(idev.addr_list):
        _addr_ifdown(ifp, keep_addr > 0)
    if unregister:
        ipv6_ac_destroy_dev(idev)
        ipv6_mc_destroy_dev(idev)
    else:
        ipv6_mc_down(idev)
    idev.tstamp = net.now()
    idev.nd.dns_servers.clear()
    idev.nd.dns_search.clear()
    if unregister:
        neigh_parms_release(net.ipv6.nd_tbl, idev.nd_parms)
        idev.dead = True
        timer_shutdown(idev.nd.rs_timer)
        dev.ip6_ptr = None
        remove_devconf(net.ipv6.sysctl.conf, idev.cnf)
        netconf_gone(net, AF_INET6, dev.ifindex)


def _addr_ifdown(ifp: inet6_ifaddr, keep_addr: bool) -> None:
    """Remove an address of an interface that goes down, or keep it (`keep_addr`) as tentative."""
    idev = ifp.idev
    addrconf_del_dad_work(ifp)
    keep = (
        keep_addr
        and ifp.flags & uapi.IFA_F_PERMANENT
        and not ipv6_addr_is_linklocal(ifp.addr)
        and ifp.addr != IN6ADDR_LOOPBACK
    )
    was_dead = ifp.state == if_inet6.INET6_IFADDR_STATE_DEAD
    if keep:
        ipv6_ifa_down(ifp)
        ifp.state = if_inet6.INET6_IFADDR_STATE_PREDAD
        ifp.flags |= if_inet6.IFA_F_TENTATIVE
        ifp.flags &= ~if_inet6.IFA_F_DADFAILED
        ifp.rt = None
        return
    ifp.state = if_inet6.INET6_IFADDR_STATE_DEAD
    ipv6_unhash_addr(ifp)
    if was_dead:
        addrconf_leave_solict(idev, ifp.addr)
        return
    ipv6_ifa_down(ifp)
    notify_inet6addr(netdevice.NETDEV_DOWN, ifp)


# --- settings that have an effect when written ---------------------------------------------


def devconf_changed(idev: inet6_dev, conf: devconf, name: str, old: int) -> None:
    """A setting of an interface was written; `old` is its previous value."""
    change = CHANGES.get(name)
    if change is not None:
        change(idev, old)
    devconf_told(idev.net, conf, name, old)


def devconf_told(net: Net, conf: devconf, name: str, old: int) -> None:
    """A setting was written; notify listeners."""
    value = getattr(conf, name)
    if (value != old) if name == "proxy_ndp" else (name in TOLD and bool(value) != bool(old)):
        netconf_notify(net, AF_INET6, conf, name)


def devconf_all_changed(net: Net, conf: devconf, name: str, old: int) -> None:
    """A setting of `all` was written."""
    net.ipv6.sysctl.to_all(conf, name, old)
    devconf_told(net, conf, name, old)


def dev_forward_change(idev: inet6_dev, old: int) -> None:
    """net/ipv6/addrconf.c: the setting `forwarding` was written; `old` is its previous value."""
    forwarding = idev.cnf.forwarding
    if bool(forwarding) == bool(old):
        return
    dev = idev.dev
    if dev.flags & netdevice.IFF_MULTICAST:
        for group in _ALL_ROUTERS:
            (ipv6_dev_mc_inc if forwarding else ipv6_dev_mc_dec)(dev, group)
    for ifp in tuple(idev.addr_list):
        if not ifp.flags & if_inet6.IFA_F_TENTATIVE:
            (addrconf_join_anycast if forwarding else addrconf_leave_anycast)(ifp)
    if forwarding:
        rt6_purge_dflt_routers(idev.net)
    elif (
        idev.if_flags & if_inet6.IF_READY
        and idev.cnf.accept_ra
        and not dev.flags & netdevice.IFF_LOOPBACK
    ):
        addrconf_rs_start(idev)


def dev_disable_change(idev: inet6_dev, old: int) -> None:
    """net/ipv6/addrconf.c: disable_ipv6 was written; act as if the interface went down or up."""
    disable = idev.cnf.disable_ipv6
    if bool(disable) == bool(old) or idev.dead:
        return
    if disable:
        addrconf_ifdown(idev.dev, False)
    elif idev.dev.flags & netdevice.IFF_UP:
        addrconf_up(idev.dev)


def addr_gen_mode_change(idev: inet6_dev, old: int) -> None:
    """net/ipv6/addrconf.c addrconf_sysctl_addr_gen_mode: add the address of the new mode."""
    if idev.cnf.addr_gen_mode != old:
        addrconf_init_auto_addrs(idev.dev)


IFA_F_MODIFIED = (
    if_inet6.IFA_F_DEPRECATED
    | uapi.IFA_F_PERMANENT
    | if_inet6.IFA_F_NODAD
    | if_inet6.IFA_F_HOMEADDRESS
    | if_inet6.IFA_F_MANAGETEMPADDR
    | if_inet6.IFA_F_NOPREFIXROUTE
)
"""Flags of an address that `ip -6 addr change` replaces."""
TOLD = ("forwarding", "ignore_routes_with_linkdown")
"""Settings that NETLINK_ROUTE reports when switched on or off; proxy_ndp on each change."""
CHANGES = {
    "forwarding": dev_forward_change,
    "disable_ipv6": dev_disable_change,
    "addr_gen_mode": addr_gen_mode_change,
}

# --- the administrator ---------------------------------------------------------------------


MNGTMPADDR = 'address with "mngtmpaddr" flag must have a prefix length of 64'


def inet6_addr_add(
    dev: net_device,
    addr: wide,
    plen: int,
    *,
    flags: int = 0,
    valid_lft: int = INFINITY_LIFE_TIME,
    preferred_lft: int = INFINITY_LIFE_TIME,
    peer: wide = 0,
    metric: int = 0,
) -> inet6_ifaddr:
    """net/ipv6/addrconf.c: `ip -6 addr add`. Lifetimes in s; `flags` IFA_F_NODAD and the like.

    Raises: OSError EINVAL (prefix length, lifetimes, MTU below 1280), EEXIST, EADDRNOTAVAIL,
    EACCES (disable_ipv6).
    """
    if not 0 <= plen <= 128:
        raise os_error(errno.EINVAL, f"prefix length {plen} is not 0 to 128")
    if not valid_lft or preferred_lft > valid_lft:
        raise os_error(errno.EINVAL, f"lifetimes: preferred {preferred_lft} s, valid {valid_lft} s")
    if flags & if_inet6.IFA_F_MANAGETEMPADDR and plen != 64:
        raise ExtAckError(errno.EINVAL, f"ipv6: {MNGTMPADDR}")
    net = dev.net
    idev = addrconf_add_dev(dev)
    if valid_lft == INFINITY_LIFE_TIME:
        flags |= uapi.IFA_F_PERMANENT
    if not preferred_lft:
        flags |= if_inet6.IFA_F_DEPRECATED
    cfg = ifa6_config(addr, plen, flags, valid_lft, preferred_lft, peer, metric)
    ifp = ipv6_add_addr(idev, cfg)
    if not flags & if_inet6.IFA_F_NOPREFIXROUTE:
        ends = 0 if valid_lft == INFINITY_LIFE_TIME else net.now() + valid_lft * NSEC_PER_SEC
        addrconf_prefix_route(dev, addr, plen, metric=metric, expires_ns=ends)
    if not flags & (if_inet6.IFA_F_OPTIMISTIC | if_inet6.IFA_F_NODAD):
        inet6_ifa_notify(RTM_NEWADDR, ifp)
    addrconf_dad_start(ifp)
    if flags & if_inet6.IFA_F_MANAGETEMPADDR:
        manage_tempaddrs(idev, ifp, valid_lft, preferred_lft, True, net.now())
    addrconf_verify(net)
    return ifp


def inet6_addr_modify(
    ifp: inet6_ifaddr, flags: int, valid_lft: int, preferred_lft: int, peer: wide, metric: int
) -> None:
    """net/ipv6/addrconf.c: `ip -6 addr change`. `peer`, `metric` 0: unchanged.

    Raises: OSError EINVAL: temporary addresses are made of a prefix of 64 bits.
    """
    net, dev = ifp.idev.net, ifp.idev.dev
    temporary, now = if_inet6.IFA_F_MANAGETEMPADDR, net.now()
    if flags & temporary and (ifp.flags & if_inet6.IFA_F_TEMPORARY or ifp.prefix_len != 64):
        raise os_error(errno.EINVAL, "temporary addresses need a prefix of 64 bits")
    if not ifp.flags & if_inet6.IFA_F_TENTATIVE or ifp.flags & if_inet6.IFA_F_DADFAILED:
        flags &= ~if_inet6.IFA_F_OPTIMISTIC
    ends = 0
    if valid_lft == INFINITY_LIFE_TIME:
        flags |= uapi.IFA_F_PERMANENT
    else:
        ends = now + valid_lft * NSEC_PER_SEC
    if not preferred_lft:
        flags |= if_inet6.IFA_F_DEPRECATED
    if peer and peer != ifp.peer_addr:
        rt = addrconf_get_prefix_route(dev, ifp.peer_addr, ifp.prefix_len)
        if ifp.peer_addr and rt is not None:
            fib6_del(net, rt)
        ifp.peer_addr = peer
    managed = ifp.flags & temporary
    had = ifp.flags & uapi.IFA_F_PERMANENT and not ifp.flags & if_inet6.IFA_F_NOPREFIXROUTE
    ifp.flags = ifp.flags & ~IFA_F_MODIFIED | flags
    ifp.valid_lft, ifp.prefered_lft, ifp.tstamp = valid_lft, preferred_lft, now
    ifp.rt_priority = metric or ifp.rt_priority
    if not ifp.flags & if_inet6.IFA_F_TENTATIVE:
        inet6_ifa_notify(RTM_NEWADDR, ifp)
    if not flags & if_inet6.IFA_F_NOPREFIXROUTE:
        modify_prefix_route(ifp, ifp.addr, ends)
        if ifp.peer_addr:
            modify_prefix_route(ifp, ifp.peer_addr, ends)
    elif had:
        cleanup_prefix_route(ifp)
    if managed and not flags & temporary:
        manage_tempaddrs(ifp.idev, ifp, 0, 0, False, now)
    elif flags & temporary:
        manage_tempaddrs(ifp.idev, ifp, valid_lft, preferred_lft, not managed, now)
    addrconf_verify(net)


def modify_prefix_route(ifp: inet6_ifaddr, pfx: wide, expires_ns: int) -> None:
    """net/ipv6/addrconf.c: set the on-link route's metric and lifetime, or add the route."""
    net, dev = ifp.idev.net, ifp.idev.dev
    rt = addrconf_get_prefix_route(dev, pfx, ifp.prefix_len, 0, ip6_fib.RTF_DEFAULT)
    metric = ifp.rt_priority or ip6_fib.IP6_RT_PRIO_ADDRCONF
    if rt is not None and rt.fib6_metric == metric:
        if expires_ns:
            fib6_set_expires(net, rt, expires_ns)
        else:
            fib6_clean_expires(rt)
        return
    if rt is not None:
        fib6_del(net, rt)
    addrconf_prefix_route(dev, pfx, ifp.prefix_len, metric=metric, expires_ns=expires_ns)


def inet6_addr_del(dev: net_device, addr: wide, plen: int) -> None:
    """net/ipv6/addrconf.c: `ip -6 addr del`. Raises: OSError EADDRNOTAVAIL."""
    idev: inet6_dev | None = dev.ip6_ptr
    for ifp in tuple(idev.addr_list) if idev is not None else ():
        if ifp.addr == addr and ifp.prefix_len == plen:
            if ifp.flags & if_inet6.IFA_F_MANAGETEMPADDR:
                manage_tempaddrs(ifp.idev, ifp, 0, 0, False, dev.net.now())
            ipv6_del_addr(ifp)
            addrconf_verify(dev.net)
            return
    raise os_error(errno.EADDRNOTAVAIL, f"{dev.name}: it does not have {format_addr6(addr)}/{plen}")


# --- a namespace ---------------------------------------------------------------------------


def addrconf_init(net: Net) -> None:
    """net/ipv6/addrconf.c, ndisc_init and igmp6_init: set up addresses and discovery.

    Call it after ipv6_net_init; it sets function pointers made there.
    """
    ndisc_init(net)
    ndisc_rcv_init(net)
    net.ipv6.devconf_all.on_change(partial(devconf_all_changed, net))
    net.ipv6.devconf_dflt.on_change(partial(devconf_told, net))
    net.ipv6.nd.dad_work = addrconf_dad_work
    addr_chk_init(net)
    register_netdevice_notifier(net, addrconf_notify)
    register_netdevice_notifier(net, ndisc_netdev_event)


def addrconf_pre_exit(net: Net) -> None:
    """Remove the addresses while the interfaces still work."""
    for dev in net.dev_base_head:
        addrconf_ifdown(dev, True)


def addrconf_cleanup(net: Net) -> None:
    """net/ipv6/addrconf.c: the namespace ends."""
    addr_chk_exit(net)
    ndisc_cleanup(net)


addrconf_net_ops = pernet_operations(
    init=addrconf_init, exit=addrconf_cleanup, pre_exit=addrconf_pre_exit
)


def addrconf_register(machine: Machine) -> None:
    """net/ipv6/af_inet6.c inet6_init: addresses and discovery in every namespace of a machine."""
    register_pernet_subsys(machine, addrconf_net_ops)
