"""Next hop objects, which routes refer to by id (net/ipv4/nexthop.c).

    nexthop_add, nexthop_replace, nexthop_remove    a program's changes (netlink/rt_nexthop.py)
        nexthop_apply           update the routes of an object
    nexthop_flush_dev           an interface went down or lost its carrier: remove its objects
    fib_nexthops, fib6_bind     routes of each family that use an object (fib.py, ip6_fib.py)

An object is one next hop or a group of them with weights. A resilient group has a table of buckets,
too (nh_res.py). Routes have next hops of the ordinary kind, so lookups do not use objects. An IPv6
route over a group has a route for each member, which no table has, as its siblings.
State: `net.fib.nexthops`, by id. Read nexthop_apply first.
"""

from __future__ import annotations

from stack.core.netdevice import (
    IFF_UP,
    NETDEV_CHANGE,
    NETDEV_DOWN,
    NETDEV_UNREGISTER,
    net_device,
    netif_carrier_ok,
)
from stack.core.rows import row, state, wide
from stack.core.timer import mod_timer, timer_delete, timer_list
from stack.core.uapi import (
    NLM_F_REPLACE,
    RTM_DELNEXTHOP,
    RTM_NEWNEXTHOP,
    RTM_NEWNEXTHOPBUCKET,
    RTM_NEWROUTE,
)
from stack.ipv4.fib import fib_alias, fib_changed, fib_info, fib_nexthops, fib_type_of
from stack.ipv4.rt_cache import rt_cache_flush
from stack.ipv6.ip6_fib import fib6_bind, fib6_del, fib6_info
from stack.net import Net
from stack.netlink.nh_res import NEVER, nh_res_select, nh_res_table, nh_res_table_upkeep


@state
class nexthop:
    """struct nexthop and nh_info. `members`: (object, weight) of a group, in order; else empty.

    `serial` orders groups: the one created or replaced last has the highest.
    """

    id: int
    family: int = 0
    protocol: int = 0
    flags: int = 0
    scope: int = 0
    dev: net_device | None = None
    gw: wide = 0
    blackhole: bool = False
    members: list[tuple[nexthop, int]] = row(make=list)
    serial: int = row(0)
    res: nh_res_table | None = row()
    """The buckets of a resilient group."""

    def single(self) -> bool:
        """Whether it is not a group."""
        return not self.members

    def hops(self) -> list[tuple[nexthop, int]]:
        """(object, weight) of each next hop."""
        return self.members or [(self, 1)]

    def is_blackhole(self) -> bool:
        """Whether it is a blackhole."""
        return self.hops()[0][0].blackhole

    def has(self, family: int) -> bool:
        """Whether one of its next hops is of the family."""
        return any(nh.family == family for nh, _ in self.hops())

    def bucket_hop(self, found: int, now: int) -> int:
        """The member of a resilient group for a flow with the hash `found`; -1: none."""
        assert self.res is not None
        chosen = nh_res_select(self.res, found, now)
        for at, (member, _) in enumerate(self.members):
            if member is chosen:
                return at
        return -1

    def uses(self, nh: nexthop) -> bool:
        """Whether it is `nh`, or has it as a member."""
        return self is nh or any(member is nh for member, _ in self.members)


# --- routes -------------------------------------------------------------------------------------


def routes4(net: Net, nh: nexthop) -> list[fib_alias]:
    """IPv4 routes that use the object directly."""
    return [
        fa for tb in net.fib.tables.values() for fa in tb.aliases() if fa.fa_info.fib_nhobj is nh
    ]


def routes6(net: Net, nh: nexthop) -> list[fib6_info]:
    """IPv6 routes that use the object directly."""
    return [rt for tb in net.ipv6.fib6.tables.values() for rt in tb.routes() if rt.nh is nh]


def nexthop_apply(net: Net, nh: nexthop, tell: bool = True) -> None:
    """Update the next hops of routes over `nh`, or over a group with it."""
    changed4: list[fib_alias] = []
    changed6: list[fib6_info] = []
    for each in (nh, *_groups(net, nh)):
        routes = routes4(net, each)
        infos: list[fib_info] = []
        for fa in routes:
            if fa.fa_info not in infos:
                infos.append(fa.fa_info)
            fa.fa_type = fib_type_of(each, fa.fa_info.fib_type)
        for fi in infos:
            fi.fib_nh = fib_nexthops(each)
        changed4 += routes
        for rt in routes6(net, each):
            fib6_bind(rt, each)
            changed6.append(rt)
        if len(each.members) > 1:
            net.ipv6.fib6.multipath = True
            net.ipv4.fib_multipath = True
    fib_changed(net)
    net.ipv6.rt_cache_flush()
    if tell and net.rtnl is not None and net.sysctl.nexthop_compat_mode:
        for what in (*changed4, *changed6):
            net.rtnl(RTM_NEWROUTE, what, NLM_F_REPLACE)


# --- resilient groups ---------------------------------------------------------------------------


def nh_res_upkeep(net: Net, nh: nexthop, tell: bool) -> None:
    """net/ipv4/nexthop.c nh_res_table_upkeep: move buckets, and rearm the timer for the next.

    `tell`: notify monitors of each.
    """
    table = nh.res
    assert table is not None
    moved, deadline = nh_res_table_upkeep(table, nh.members, net.now())
    if table.upkeep_dw is None:
        table.upkeep_dw = timer_list(net.machine, nh_res_table_upkeep_dw, data=(net, nh))
    if deadline < NEVER:
        mod_timer(table.upkeep_dw, deadline)
    else:
        timer_delete(table.upkeep_dw)
    if moved:
        rt_cache_flush(net)
        net.ipv6.rt_cache_flush()
    for at in moved if tell else ():
        if net.rtnl is not None:
            net.rtnl(RTM_NEWNEXTHOPBUCKET, (nh, at), 0)


def nh_res_table_upkeep_dw(timer: timer_list) -> None:
    """net/ipv4/nexthop.c: the timer of a table that is not balanced."""
    net, nh = timer.data
    nh_res_upkeep(net, nh, True)


# --- changes ------------------------------------------------------------------------------------


def _groups(net: Net, nh: nexthop) -> list[nexthop]:
    """The groups with a member, the newest first."""
    found = [each for each in net.fib.nexthops.values() if each is not nh and each.uses(nh)]
    return sorted(found, key=lambda each: -each.serial)


def nexthop_unused_id(net: Net) -> int:
    """net/ipv4/nexthop.c nh_find_unused_id: the next free number."""
    fib = net.fib
    while True:
        fib.last_nexthop_id = (fib.last_nexthop_id + 1) & 0xFFFFFFFF or 1
        if fib.last_nexthop_id not in fib.nexthops:
            return fib.last_nexthop_id


def _told(net: Net, kind: int, nh: nexthop, tell: bool) -> None:
    if tell and net.rtnl is not None:
        net.rtnl(kind, nh, 0)


def nexthop_add(net: Net, nh: nexthop) -> None:
    """net/ipv4/nexthop.c insert_nexthop: an object with a free id."""
    nh.serial = net.fib.nexthop_serial = net.fib.nexthop_serial + 1
    net.fib.nexthops[nh.id] = nh
    if nh.res is not None:
        nh_res_upkeep(net, nh, False)
    _told(net, RTM_NEWNEXTHOP, nh, True)


def nexthop_replace(net: Net, old: nexthop, new: nexthop) -> None:
    """net/ipv4/nexthop.c replace_nexthop: `old` takes the contents of `new`; routes stay."""
    for name in ("family", "protocol", "flags", "scope", "dev", "gw", "blackhole", "members"):
        setattr(old, name, getattr(new, name))
    if old.res is not None:
        nh_res_upkeep(net, old, False)
    old.serial = net.fib.nexthop_serial = net.fib.nexthop_serial + 1
    _told(net, RTM_NEWNEXTHOP, old, True)
    nexthop_apply(net, old)


def nexthop_remove(net: Net, nh: nexthop, tell: bool = True) -> None:
    """net/ipv4/nexthop.c remove_nexthop: remove the object, its routes and group memberships."""
    if net.fib.nexthops.get(nh.id) is not nh:
        return
    _told(net, RTM_DELNEXTHOP, nh, tell)
    del net.fib.nexthops[nh.id]
    if nh.res is not None and nh.res.upkeep_dw is not None:
        timer_delete(nh.res.upkeep_dw)
    for fa in routes4(net, nh):  # as the kernel's fib_flush, without notification
        net.fib.tables[fa.tb_id].remove(fa)
    for rt in routes6(net, nh):
        fib6_del(net, rt, tell=bool(net.sysctl.nexthop_compat_mode))
    for group in _groups(net, nh):
        rest = [(member, weight) for member, weight in group.members if member is not nh]
        if not rest:
            nexthop_remove(net, group, tell)
            continue
        group.members = rest
        if group.res is not None:
            nh_res_upkeep(net, group, False)
        nexthop_apply(net, group, False)
        _told(net, RTM_NEWNEXTHOP, group, tell)
    fib_changed(net)


def nexthop_flush_dev(net: Net, dev: net_device) -> None:
    """net/ipv4/nexthop.c: remove the objects over an interface."""
    for nh in tuple(net.fib.nexthops.values()):
        if nh.dev is dev:
            nexthop_remove(net, nh, False)


def nh_netdev_event(event: int, dev: net_device) -> None:
    """net/ipv4/nexthop.c: an interface changed."""
    net = dev.net
    if not net.fib.nexthops:
        return
    lost = event == NETDEV_CHANGE and not (dev.flags & IFF_UP and netif_carrier_ok(dev))
    if lost or event in (NETDEV_DOWN, NETDEV_UNREGISTER):
        nexthop_flush_dev(net, dev)


def nexthop_net_init(net: Net) -> None:
    """net/ipv4/nexthop.c: register for interface events, before the tables."""
    net.netdev_chain.insert(0, nh_netdev_event)
