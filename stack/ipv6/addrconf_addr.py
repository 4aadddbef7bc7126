"""net/ipv6/addrconf.c: adding and removing addresses, their local routes, groups and notifiers.

Called by addrconf.py, addrconf_prefix.py and addrconf_temp.py. The life of an address:

    ipv6_add_addr                   checks, list and hash; tentative unless it needs no DAD
    addrconf_dad_start -> addrconf_mod_dad_work     addrconf_dad.py runs the detection
        addrconf_join_solict        the group that solicitations for the address go to
        ipv6_ifa_up                 unique: its local route, perhaps the router anycast address
    ipv6_del_addr
        ipv6_unhash_addr, addrconf_del_dad_work
        ipv6_ifa_down               removes routes and groups
        cleanup_prefix_route        removes the on-link route with the prefix's last address
    notify_inet6addr                calls listeners (register_inet6addr_notifier)

State: `inet6_dev.addr_list`, sorted from the widest scope down, and `net.ipv6.addr_hash`, by
address. `inet6_ifaddr.state` and `flags` are the progress of DAD. addrconf_dad.py decides when an
address may be used, addrconf_temp.py when it ages. Read ipv6_add_addr first.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass

from stack.core import uapi
from stack.core.errors import check, os_error
from stack.core.extack import ExtAckError
from stack.core.l3mdev import l3mdev_fib_table
from stack.core.netdevice import (
    IFF_LOOPBACK,
    IFF_NOARP,
    IFF_UP,
    NETDEV_DOWN,
    NETDEV_UP,
    net_device,
)
from stack.core.rows import wide
from stack.core.time64 import NSEC_PER_SEC
from stack.core.timer import mod_timer, timer_delete, timer_list
from stack.core.uapi import AF_INET6, INFINITY_LIFE_TIME, RTM_DELADDR, RTM_NEWADDR
from stack.inet.addr_validator import validate_addr
from stack.ipv6 import if_inet6, ip6_fib
from stack.ipv6.addr import (
    IPV6_ADDR_LOOPBACK,
    IPV6_ADDR_MULTICAST,
    IPV6_ADDR_SCOPE_MASK,
    MASKS6,
    addrconf_addr_solict_mult,
    format_addr6,
    ipv6_addr_scope,
    ipv6_addr_type,
    ipv6_prefix_equal,
)
from stack.ipv6.anycast import ipv6_dev_ac_dec, ipv6_dev_ac_inc
from stack.ipv6.if_inet6 import inet6_dev, inet6_ifaddr, ipv6_get_ifaddr
from stack.ipv6.ip6_fib import (
    fib6_add_once,
    fib6_del,
    fib6_get_table,
    fib6_info,
    fib6_kernel_route,
    fib6_set_expires,
)
from stack.ipv6.mcast import ipv6_dev_mc_dec, ipv6_dev_mc_inc
from stack.net import Net

inet6addr_fn = Callable[[int, inet6_ifaddr], None]


@dataclass(slots=True)
class ifa6_config:
    """struct ifa6_config: an address to add. Lifetimes in s."""

    pfx: wide
    plen: int
    ifa_flags: int = 0
    valid_lft: int = INFINITY_LIFE_TIME
    preferred_lft: int = INFINITY_LIFE_TIME
    peer_pfx: wide = 0
    rt_priority: int = 0


# --- routes --------------------------------------------------------------------------------


def addrconf_f6i_alloc(idev: inet6_dev, addr: wide) -> fib6_info:
    """net/ipv6/route.c: the route that delivers `addr` to this host; not in a table yet."""
    flags = ip6_fib.RTF_NONEXTHOP | ip6_fib.RTF_LOCAL
    local = ip6_fib.RT6_TABLE_LOCAL
    return fib6_kernel_route(idev.dev, local, addr, 128, uapi.RTN_LOCAL, flags)


def addrconf_prefix_route(
    dev: net_device, pfx: wide, plen: int, *, metric: int = 0, expires_ns: int = 0, flags: int = 0
) -> None:
    """net/ipv6/addrconf.c: add the on-link route of a prefix, unless the interface is down.

    `expires_ns`: host ns, 0: never.
    """
    if not dev.flags & IFF_UP:
        return
    main, metric = ip6_fib.RT6_TABLE_MAIN, metric or ip6_fib.IP6_RT_PRIO_ADDRCONF
    dst = pfx & MASKS6[plen]
    if ip6_fib.fib6_is_reject(flags, dev, dst):
        flags = uapi.RTF_REJECT | ip6_fib.RTF_NONEXTHOP
    rt = fib6_kernel_route(dev, main, dst, plen, uapi.RTN_UNICAST, flags, metric)
    if expires_ns and not flags & uapi.RTF_REJECT:
        fib6_set_expires(dev.net, rt, expires_ns)
    fib6_add_once(dev.net, rt)


def addrconf_get_prefix_route(
    dev: net_device, pfx: wide, plen: int, flags: int = 0, noflags: int = 0
) -> fib6_info | None:
    """net/ipv6/addrconf.c: the on-link route of a prefix with all of `flags`, none of `noflags`."""
    table = fib6_get_table(dev.net, l3mdev_fib_table(dev) or ip6_fib.RT6_TABLE_MAIN)
    for rt in table.leaf(pfx & MASKS6[plen], plen):
        if rt.fib6_nh.fib_nh_dev is not dev or rt.fib6_flags & uapi.RTF_GATEWAY:
            continue
        if rt.fib6_flags & flags == flags and not rt.fib6_flags & noflags:
            return rt
    return None


# --- listeners -----------------------------------------------------------------------------


def register_inet6addr_notifier(net: Net, fn: inet6addr_fn) -> None:
    """net/ipv6/addrconf_core.c: call `fn(NETDEV_UP | NETDEV_DOWN, ifp)` on address changes."""
    net.ipv6.inet6addr_chain.append(fn)


def unregister_inet6addr_notifier(net: Net, fn: inet6addr_fn) -> None:
    """net/ipv6/addrconf_core.c"""
    if fn in net.ipv6.inet6addr_chain:
        net.ipv6.inet6addr_chain.remove(fn)


def notify_inet6addr(event: int, ifp: inet6_ifaddr) -> None:
    """net/ipv6/addrconf_core.c inet6addr_notifier_call_chain."""
    for fn in tuple(ifp.idev.net.ipv6.inet6addr_chain):
        fn(event, ifp)


# --- adding --------------------------------------------------------------------------------


def ipv6_add_addr(idev: inet6_dev, cfg: ifa6_config) -> inet6_ifaddr:
    """net/ipv6/addrconf.c: add an address to the interface, tentative unless it needs no DAD.

    Raises: OSError EADDRNOTAVAIL (invalid for this interface), ENODEV, EACCES (disable_ipv6),
    EEXIST, or an error of validate_addr.
    """
    net = idev.net
    kind = ipv6_addr_type(cfg.pfx)
    if kind & IPV6_ADDR_LOOPBACK and not idev.dev.flags & IFF_LOOPBACK:
        text = "ipv6: Cannot assign loopback address on this device"
        raise ExtAckError(errno.EADDRNOTAVAIL, text)
    if not cfg.pfx or kind & IPV6_ADDR_MULTICAST:
        raise os_error(errno.EADDRNOTAVAIL, f"{idev.dev.name}: not an address of this interface")
    if idev.dead:
        raise os_error(errno.ENODEV, f"{idev.dev.name}: the interface is going away")
    if idev.cnf.disable_ipv6:
        raise ExtAckError(errno.EACCES, "ipv6: IPv6 is disabled on this device")
    check(validate_addr(idev.dev, cfg.pfx, AF_INET6), f"{idev.dev.name}: {format_addr6(cfg.pfx)}")
    if ipv6_get_ifaddr(net, cfg.pfx, idev.dev, True) is not None:
        raise os_error(errno.EEXIST, f"{idev.dev.name}: the address is there already")
    flags = (
        cfg.ifa_flags
        if cfg.ifa_flags & if_inet6.IFA_F_NODAD
        else cfg.ifa_flags | if_inet6.IFA_F_TENTATIVE
    )
    ifp = inet6_ifaddr(idev, cfg.pfx, cfg.plen, kind & IPV6_ADDR_SCOPE_MASK, flags)
    ifp.peer_addr = cfg.peer_pfx
    ifp.valid_lft = cfg.valid_lft
    ifp.prefered_lft = cfg.preferred_lft
    ifp.rt_priority = cfg.rt_priority
    ifp.cstamp = ifp.tstamp = net.now()
    ifp.dad_work = timer_list(net.machine, net.ipv6.nd.dad_work, data=ifp)
    ifp.rt = addrconf_f6i_alloc(idev, cfg.pfx)
    net.ipv6.addr_hash.setdefault(cfg.pfx, []).append(ifp)
    ipv6_link_dev_addr(idev, ifp)
    if flags & if_inet6.IFA_F_TEMPORARY:
        idev.nd.tempaddr_list.append(ifp)
    notify_inet6addr(NETDEV_UP, ifp)
    return ifp


def ipv6_link_dev_addr(idev: inet6_dev, ifp: inet6_ifaddr) -> None:
    """net/ipv6/addrconf.c: insert into the list, which is sorted from the widest scope down."""
    scope = ipv6_addr_scope(ifp.addr)
    at = 0
    while at < len(idev.addr_list) and ipv6_addr_scope(idev.addr_list[at].addr) > scope:
        at += 1
    idev.addr_list.insert(at, ifp)


def addrconf_mod_dad_work(ifp: inet6_ifaddr, delay_ns: int) -> None:
    """net/ipv6/addrconf.c: schedule addrconf_dad_work after `delay_ns`."""
    mod_timer(ifp.dad_work, ifp.idev.net.now() + delay_ns)


def addrconf_del_dad_work(ifp: inet6_ifaddr) -> None:
    """net/ipv6/addrconf.c"""
    timer_delete(ifp.dad_work)


def addrconf_dad_start(ifp: inet6_ifaddr) -> None:
    """net/ipv6/addrconf.c: begin duplicate address detection."""
    if ifp.state != if_inet6.INET6_IFADDR_STATE_DEAD:
        ifp.state = if_inet6.INET6_IFADDR_STATE_PREDAD
        addrconf_mod_dad_work(ifp, 0)


# --- groups --------------------------------------------------------------------------------


def addrconf_join_solict(dev: net_device, addr: wide) -> None:
    """net/ipv6/addrconf.c: join the solicited-node group of `addr`."""
    if not dev.flags & (IFF_LOOPBACK | IFF_NOARP):
        ipv6_dev_mc_inc(dev, addrconf_addr_solict_mult(addr))


def addrconf_leave_solict(idev: inet6_dev, addr: wide) -> None:
    """net/ipv6/addrconf.c"""
    if not idev.dev.flags & (IFF_LOOPBACK | IFF_NOARP):
        ipv6_dev_mc_dec(idev.dev, addrconf_addr_solict_mult(addr))


def _anycast(ifp: inet6_ifaddr) -> wide:
    """The subnet's router anycast address; 0: a /127 or longer has none (RFC 6164)."""
    return ifp.addr & MASKS6[ifp.prefix_len] if ifp.prefix_len < 127 else 0


def addrconf_join_anycast(ifp: inet6_ifaddr) -> None:
    """net/ipv6/addrconf.c: join the subnet-router anycast address (RFC 4291 2.6)."""
    addr = _anycast(ifp)
    if addr:
        ipv6_dev_ac_inc(ifp.idev, addr)


def addrconf_leave_anycast(ifp: inet6_ifaddr) -> None:
    """net/ipv6/addrconf.c"""
    addr = _anycast(ifp)
    if addr:
        ipv6_dev_ac_dec(ifp.idev, addr)


# --- use and end ---------------------------------------------------------------------------


def ifa_route_up(ifp: inet6_ifaddr) -> None:
    """Insert the local route of an address, unless it exists (ip6_ins_rt)."""
    rt = ifp.rt
    if rt is None or rt in rt.fib6_table.leaf(rt.fib6_dst, rt.fib6_plen):
        return
    rt.fib6_destroying = False
    fib6_add_once(ifp.idev.net, rt)  # another interface may have the same address


def ifa_route_down(ifp: inet6_ifaddr) -> None:
    """Remove the local route of an address (ip6_del_rt)."""
    rt = ifp.rt
    if rt is not None and rt in rt.fib6_table.leaf(rt.fib6_dst, rt.fib6_plen):
        fib6_del(ifp.idev.net, rt)


def inet6_ifa_notify(event: int, ifp: inet6_ifaddr) -> None:
    """net/ipv6/addrconf.c: notify listeners such as `ip monitor` of the change."""
    rtnl = ifp.idev.net.rtnl
    if rtnl is not None:
        rtnl(event, ifp, 0)


def ipv6_ifa_up(ifp: inet6_ifaddr) -> None:
    """net/ipv6/addrconf.c __ipv6_ifa_notify(RTM_NEWADDR): add the address's routes."""
    inet6_ifa_notify(RTM_NEWADDR, ifp)
    ifa_route_up(ifp)
    if ifp.idev.cnf.forwarding:
        addrconf_join_anycast(ifp)
    if ifp.peer_addr:
        addrconf_prefix_route(ifp.idev.dev, ifp.peer_addr, 128, metric=ifp.rt_priority)


def ipv6_ifa_down(ifp: inet6_ifaddr) -> None:
    """net/ipv6/addrconf.c __ipv6_ifa_notify(RTM_DELADDR): remove the address's routes, groups."""
    inet6_ifa_notify(RTM_DELADDR, ifp)
    if ifp.idev.cnf.forwarding:
        addrconf_leave_anycast(ifp)
    addrconf_leave_solict(ifp.idev, ifp.addr)
    if ifp.peer_addr:
        rt = addrconf_get_prefix_route(ifp.idev.dev, ifp.peer_addr, 128)
        if rt is not None:
            fib6_del(ifp.idev.net, rt)
    ifa_route_down(ifp)
    ifp.idev.net.ipv6.rt_cache_flush()


def ipv6_unhash_addr(ifp: inet6_ifaddr) -> None:
    """Remove an address from the lists and the hash table."""
    net = ifp.idev.net
    same = net.ipv6.addr_hash.get(ifp.addr, [])
    if ifp in same:
        same.remove(ifp)
        if not same:
            del net.ipv6.addr_hash[ifp.addr]
    if ifp in ifp.idev.addr_list:
        ifp.idev.addr_list.remove(ifp)
    if ifp in ifp.idev.nd.tempaddr_list:
        ifp.idev.nd.tempaddr_list.remove(ifp)


def ipv6_del_addr(ifp: inet6_ifaddr) -> None:
    """net/ipv6/addrconf.c: remove an address, and with a prefix's last one the prefix route."""
    if ifp.state == if_inet6.INET6_IFADDR_STATE_DEAD:
        return
    ifp.state = if_inet6.INET6_IFADDR_STATE_DEAD
    idev = ifp.idev
    ipv6_unhash_addr(ifp)
    for other in idev.nd.tempaddr_list:
        if other.ifpub is ifp:
            other.ifpub = None
    addrconf_del_dad_work(ifp)
    ipv6_ifa_down(ifp)
    notify_inet6addr(NETDEV_DOWN, ifp)
    if ifp.flags & uapi.IFA_F_PERMANENT and not ifp.flags & if_inet6.IFA_F_NOPREFIXROUTE:
        cleanup_prefix_route(ifp)
    rt6_remove_prefsrc(idev.net, ifp.addr)


def cleanup_prefix_route(ifp: inet6_ifaddr) -> None:
    """net/ipv6/addrconf.c: remove the on-link route with the last address of its prefix.

    If the remaining addresses of the prefix all have a lifetime, the route expires with the last.
    """
    idev = ifp.idev
    expires = 0
    for other in idev.addr_list:
        if (
            other is ifp
            or other.prefix_len != ifp.prefix_len
            or not ipv6_prefix_equal(other.addr, ifp.addr, ifp.prefix_len)
        ):
            continue
        if other.flags & (uapi.IFA_F_PERMANENT | if_inet6.IFA_F_NOPREFIXROUTE) or (
            other.valid_lft == INFINITY_LIFE_TIME
        ):
            return
        expires = max(expires, other.tstamp + other.valid_lft * NSEC_PER_SEC)
    rt = addrconf_get_prefix_route(idev.dev, ifp.addr, ifp.prefix_len)
    if rt is None:
        return
    if not expires:
        fib6_del(idev.net, rt)
    elif not rt.fib6_flags & ip6_fib.RTF_EXPIRES:
        fib6_set_expires(idev.net, rt, expires)


def rt6_remove_prefsrc(net: Net, addr: wide) -> None:
    """net/ipv6/route.c: drop a removed address as the preferred source of routes."""
    if addr in net.ipv6.addr_hash:
        return
    for table in net.ipv6.fib6.tables.values():
        for rt in table.routes():
            if rt.fib6_prefsrc == addr:
                rt.fib6_prefsrc = 0
