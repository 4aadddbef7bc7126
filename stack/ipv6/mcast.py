"""net/ipv6/mcast.c: the groups of interfaces and of sockets, with source filters.

mld.py reports them to routers.
"""

from __future__ import annotations

import errno
from collections.abc import Collection

from stack.core.dev import dev_mc_add, dev_mc_del
from stack.core.errors import os_error
from stack.core.netdevice import IFF_LOOPBACK, net_device
from stack.core.rows import wide
from stack.core.sock import sock_kfree_s, sock_kmalloc
from stack.inet.inet_sock import inet_sock
from stack.inet.mc_filter import (
    ANY_SOURCE,
    MCAST_EXCLUDE,
    MCAST_INCLUDE,
    NOBODY,
    ip_mc_socklist,
    mc_state,
)
from stack.ipv6.addr import (
    IPV6_ADDR_SCOPE_LINKLOCAL,
    ipv6_addr_is_multicast,
    ipv6_addr_mc_scope,
    ipv6_eth_mc_map,
)
from stack.ipv6.if_inet6 import ifmcaddr6, inet6_dev
from stack.ipv6.mld import mld_changed, mld_group_init, mld_group_stop
from stack.ipv6.pinfo import ipv6_pinfo, np_of
from stack.ipv6.route import rt6_lookup_dev
from stack.net import Net

IPV6_MC_SOCKLIST_BYTES = 64  # sizeof(struct ipv6_mc_socklist) on a 64-bit machine


# --- interfaces ----------------------------------------------------------------------------


def _idev(dev: net_device) -> inet6_dev:
    """The interface's IPv6 side. Raises: OSError ENODEV."""
    idev: inet6_dev | None = dev.ip6_ptr
    if idev is None or idev.dead:
        raise os_error(errno.ENODEV, f"{dev.name}: no IPv6 on this interface")
    return idev


def ip6_mc_change(idev: inet6_dev, addr: wide, old: mc_state | None, new: mc_state | None) -> None:
    """Change a listener's filter of a group (ip6_mc_add_src, ip6_mc_del_src).

    `old` None: the listener joins. `new` None: it leaves.
    """
    mc = idev.mc_list.get(addr)
    if mc is None:
        if new is None:
            return
        mc = ifmcaddr6(idev, addr)
        mld_group_init(mc)
        idev.mc_list[addr] = mc
        igmp6_group_added(mc)
    before = mc.change(old, new)
    if not mc.filter.users:
        del idev.mc_list[addr]
        igmp6_group_dropped(mc)
    mld_changed(mc, before, mc.filter.state())


def ipv6_dev_mc_inc(dev: net_device, addr: wide) -> None:
    """net/ipv6/mcast.c: the stack itself joins a group. Raises: OSError ENODEV."""
    ip6_mc_change(_idev(dev), addr, None, ANY_SOURCE)


def ipv6_dev_mc_dec(dev: net_device, addr: wide) -> None:
    """net/ipv6/mcast.c: the stack itself leaves a group."""
    idev: inet6_dev | None = dev.ip6_ptr
    if idev is not None and addr in idev.mc_list:
        ip6_mc_change(idev, addr, ANY_SOURCE, None)


def igmp6_group_added(mc: ifmcaddr6) -> None:
    """net/ipv6/mcast.c: add the group to the NIC's filter, unless it stays in the host."""
    dev = mc.idev.dev
    if not mc.loaded and ipv6_addr_mc_scope(mc.mca_addr) >= IPV6_ADDR_SCOPE_LINKLOCAL:
        mc.loaded = True
        if dev.addr_len and not dev.flags & IFF_LOOPBACK:
            dev_mc_add(dev, ipv6_eth_mc_map(mc.mca_addr))


def igmp6_group_dropped(mc: ifmcaddr6) -> None:
    """net/ipv6/mcast.c: remove the group from the NIC's filter."""
    dev = mc.idev.dev
    mld_group_stop(mc)
    if mc.loaded:
        mc.loaded = False
        if dev.addr_len and not dev.flags & IFF_LOOPBACK:
            dev_mc_del(dev, ipv6_eth_mc_map(mc.mca_addr))


def ipv6_mc_up(idev: inet6_dev) -> None:
    """net/ipv6/mcast.c: the interface is up: add its groups to the NIC's filter, report them."""
    for mc in tuple(idev.mc_list.values()):
        igmp6_group_added(mc)
        mld_changed(mc, NOBODY, mc.filter.state())


def ipv6_mc_down(idev: inet6_dev) -> None:
    """net/ipv6/mcast.c: the interface goes down: stop all timers, empty the NIC's filter."""
    for mc in idev.mc_list.values():
        igmp6_group_dropped(mc)


def ipv6_mc_destroy_dev(idev: inet6_dev) -> None:
    """net/ipv6/mcast.c: the interface is removed."""
    ipv6_mc_down(idev)
    idev.mc_list.clear()


# --- sockets -------------------------------------------------------------------------------


def _find_dev(net: Net, ifindex: int, group: wide) -> net_device:
    """net/ipv6/mcast.c ip6_mc_find_dev: the interface of an index; 0: that of the group's route.

    Raises: OSError ENODEV.
    """
    if ifindex:
        dev = net.dev_by_index.get(ifindex)
    else:
        dev = rt6_lookup_dev(net, group)
    if dev is None:
        raise os_error(errno.ENODEV, f"no interface {ifindex or 'for this group'}")
    return dev


def _membership(pinfo: ipv6_pinfo, ifindex: int, group: wide) -> ip_mc_socklist | None:
    for ml in pinfo.ipv6_mc_list:
        if ml.multiaddr == group and (not ifindex or ml.ifindex == ifindex):
            return ml
    return None


def ipv6_sock_mc_join(
    sk: inet_sock, ifindex: int, addr: wide, mode: int = MCAST_EXCLUDE
) -> ip_mc_socklist:
    """net/ipv6/mcast.c: IPV6_ADD_MEMBERSHIP.

    Raises: OSError EINVAL (no group), ENODEV, EADDRINUSE (a member already), ENOBUFS.
    """
    pinfo = np_of(sk)
    if not ipv6_addr_is_multicast(addr):
        raise os_error(errno.EINVAL, "not a multicast group")
    if _membership(pinfo, ifindex, addr) is not None:
        raise os_error(errno.EADDRINUSE, "already a member")
    idev = _idev(_find_dev(sk.net, ifindex, addr))
    sock_kmalloc(sk, IPV6_MC_SOCKLIST_BYTES)
    ml = ip_mc_socklist(addr, idev.dev.ifindex, mode)
    pinfo.ipv6_mc_list.append(ml)
    ip6_mc_change(idev, addr, None, ml.state())
    return ml


def ipv6_sock_mc_drop(sk: inet_sock, ifindex: int, addr: wide) -> None:
    """net/ipv6/mcast.c: IPV6_DROP_MEMBERSHIP. Raises: OSError EINVAL, EADDRNOTAVAIL."""
    pinfo = np_of(sk)
    if not ipv6_addr_is_multicast(addr):
        raise os_error(errno.EINVAL, "not a multicast group")
    ml = _membership(pinfo, ifindex, addr)
    if ml is None:
        raise os_error(errno.EADDRNOTAVAIL, "not a member of this group")
    pinfo.ipv6_mc_list.remove(ml)
    _leave(sk, ml)


def _leave(sk: inet_sock, ml: ip_mc_socklist) -> None:
    sock_kfree_s(sk, IPV6_MC_SOCKLIST_BYTES)
    _changed(sk.net, ml, ml.state(), None)


def _changed(net: Net, ml: ip_mc_socklist, old: mc_state | None, new: mc_state | None) -> None:
    """Apply a membership's change to its interface, if that still exists."""
    dev = net.dev_by_index.get(ml.ifindex)
    idev: inet6_dev | None = dev.ip6_ptr if dev is not None else None
    if idev is not None and ml.multiaddr in idev.mc_list:
        ip6_mc_change(idev, ml.multiaddr, old, new)


def ipv6_sock_mc_close(sk: inet_sock) -> None:
    """net/ipv6/mcast.c: a socket closes: leave all its groups."""
    held = np_of(sk).ipv6_mc_list
    while held:
        _leave(sk, held.pop())


def ip6_mc_source(
    sk: inet_sock, add: bool, omode: int, ifindex: int, group: wide, source: wide
) -> None:
    """net/ipv6/mcast.c: MCAST_JOIN_SOURCE_GROUP and the like.

    `omode` MCAST_INCLUDE: (join, leave) a source; MCAST_EXCLUDE: (block, unblock) one. Raises:
    OSError EINVAL (no group, another mode), ENODEV, EADDRNOTAVAIL, ENOBUFS.
    """
    pinfo = np_of(sk)
    if not ipv6_addr_is_multicast(group):
        raise os_error(errno.EINVAL, "not a multicast group")
    _idev(_find_dev(sk.net, ifindex, group))
    ml = _membership(pinfo, ifindex, group)
    if ml is None:
        raise os_error(errno.EINVAL, "not a member of this group")
    before = ml.state()
    ml.set_mode(omode)
    _changed(sk.net, ml, before, ml.state())
    if not add and ml.sflist == [source] and omode == MCAST_INCLUDE:
        ipv6_sock_mc_drop(sk, ifindex, group)  # the filter accepts no source
        return
    before = ml.state()
    ml.edit(add, source, sk.net.ipv6.sysctl.mld_max_msf, "mld_max_msf")
    _changed(sk.net, ml, before, ml.state())


def ip6_mc_msfilter(
    sk: inet_sock, ifindex: int, group: wide, mode: int, sources: Collection[wide]
) -> None:
    """net/ipv6/mcast.c: MCAST_MSFILTER: replace a membership's source filter.

    Raises: OSError EINVAL, ENODEV, EADDRNOTAVAIL.
    """
    pinfo = np_of(sk)
    if not ipv6_addr_is_multicast(group) or mode not in (MCAST_INCLUDE, MCAST_EXCLUDE):
        raise os_error(errno.EINVAL, "not a multicast group, or no filter mode")
    _idev(_find_dev(sk.net, ifindex, group))
    if mode == MCAST_INCLUDE and not sources:
        ipv6_sock_mc_drop(sk, ifindex, group)  # nothing is left to receive
        return
    ml = _membership(pinfo, ifindex, group) if ifindex else None
    if ml is None:
        raise os_error(errno.EINVAL, "not a member of this group on this interface")
    before = ml.state()
    ml.replace(mode, sources)
    _changed(sk.net, ml, before, ml.state())


def inet6_mc_check(sk: inet_sock, mc_addr: wide, src_addr: wide) -> bool:
    """net/ipv6/mcast.c: whether the socket receives datagrams of this group from this source."""
    pinfo = sk.pinet6
    if pinfo is None:
        return False
    for ml in pinfo.ipv6_mc_list:
        if ml.multiaddr == mc_addr:
            return (src_addr in ml.sflist) == (ml.sfmode == MCAST_INCLUDE)
    return pinfo.mc_all
