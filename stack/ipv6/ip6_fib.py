"""The routes of IPv6: tables, longest prefix match, choice among routes of one prefix.

net/ipv6/ip6_fib.c, net/ipv6/route.c (the scores), include/net/ip6_fib.h. Instead of the kernel's
radix tree a table keeps one dict per prefix length in use, longest first, as stack/ipv4/fib.py.
Source-specific routes (CONFIG_IPV6_SUBTREES) are not supported.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

from fastpath.base.skbuff import sk_buff
from fastpath.errors import whole_number
from stack.core import uapi
from stack.core.errors import os_error
from stack.core.fib_rules import (
    FR_ACT_TO_TBL,
    LAST_ID,
    LOOPBACK_IFINDEX,
    fib_default_rules,
    fib_rule,
    fib_rule_next,
    fib_rule_suppress,
    fib_rule_table,
    fib_rules_ops,
)
from stack.core.l3mdev import l3mdev_fib_table
from stack.core.netdevice import IFF_LOOPBACK, net_device, netif_carrier_ok
from stack.core.rows import row, state, wide
from stack.core.time64 import NSEC_PER_SEC
from stack.core.timer import TIMER_DEFERRABLE, mod_timer, timer_list
from stack.core.uapi import (
    AF_INET6,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NUD_FAILED,
    NUD_VALID,
    RTM_DELROUTE,
    RTM_NEWROUTE,
)
from stack.inet.flow import flowi
from stack.inet.multipath import fib_multipath_hash, fib_select_hop
from stack.ipv6.addr import MASKS6, format_addr6

if TYPE_CHECKING:
    from stack.ipv6.rt6_info import rt6_exception, rt6_info
    from stack.net import Net
    from stack.netlink.nexthop import nexthop

# include/uapi/linux/ipv6_route.h
RTF_DYNAMIC = 0x0010
RTF_DEFAULT = 0x00010000
RTF_ADDRCONF = 0x00040000
RTF_PREFIX_RT = 0x00080000
RTF_ANYCAST = 0x00100000
RTF_NONEXTHOP = 0x00200000
RTF_EXPIRES = 0x00400000
RTF_ROUTEINFO = 0x00800000
RTF_CACHE = 0x01000000
RTF_PREF_MASK = 0x18000000
RTF_LOCAL = 0x80000000

IP6_RT_PRIO_USER = 1024
IP6_RT_PRIO_ADDRCONF = 256

RT6_TABLE_MAIN = 254
RT6_TABLE_LOCAL = 255
RT6_RULES = ((0, RT6_TABLE_LOCAL), (32766, RT6_TABLE_MAIN))
"""Priority and table of the initial rules (fib6_rules_net_init)."""

FIB6_TYPE_ERROR = {
    uapi.RTN_BLACKHOLE: errno.EINVAL,
    uapi.RTN_PROHIBIT: errno.EACCES,
    uapi.RTN_THROW: errno.EAGAIN,
    uapi.RTN_UNREACHABLE: errno.EHOSTUNREACH,
}
"""net/ipv6/route.c fib6_prop: the error of the types that drop packets."""

# include/net/ip6_route.h
RTF_OWN = RTF_LOCAL | RTF_ANYCAST
"""Of routes of the host's addresses, which no carrier is needed for."""
RT6_LOOKUP_F_IFACE = 0x01
RT6_LOOKUP_F_REACHABLE = 0x02
RT6_LOOKUP_F_IGNORE_LINKSTATE = 0x40

_FAIL_HARD = -3
_FAIL_PROBE = -2


@state
class fib6_nh:
    """struct fib6_nh: the next hop of a route. `fib_nh_gw6` 0: on link."""

    fib_nh_dev: net_device
    fib_nh_gw6: wide = 0
    fib_nh_weight: int = 1
    fib_nh_flags: int = row(0)
    last_probe: int = row(0)
    rt6i_pcpu: rt6_info | None = row()
    """The rt6_info shared by packets without exceptions."""
    exceptions: dict[wide, rt6_exception] = row(make=dict)


Fib6Nh: TypeAlias = "fib6_nh"
Fib6Table: TypeAlias = "fib6_table"


@state
class fib6_info:
    """struct fib6_info: one route. `expires`, in ns, is valid with RTF_EXPIRES."""

    fib6_table: fib6_table = row()
    fib6_dst: wide = row(0)
    fib6_plen: int = row(0)
    fib6_nh: fib6_nh = row()
    fib6_type: int = row(0)
    fib6_flags: int = row(0)
    fib6_metric: int = row(0)
    fib6_protocol: int = row(0)
    fib6_prefsrc: wide = row(0)
    fib6_metrics: dict[str, int] = row()
    fib6_siblings: list[fib6_info] = row()
    """Includes the route itself, unless it has none."""
    fib6_destroying: bool = row(False)
    nh: nexthop | None = row()
    """The object that `fib6_nh` comes from."""
    expires: int = row(0)

    def __init__(
        self,
        table: Fib6Table,
        dst: wide,
        plen: int,
        nh: Fib6Nh,
        *,
        rtype: int = uapi.RTN_UNICAST,
        flags: int = uapi.RTF_UP,
        metric: int = IP6_RT_PRIO_USER,
        protocol: int = uapi.RTPROT_BOOT,
        prefsrc: wide = 0,
        metrics: dict[str, int] | None = None,
    ) -> None:
        self.fib6_table = table
        self.fib6_dst = dst
        self.fib6_plen = plen
        self.fib6_nh = nh
        self.fib6_type = rtype
        self.fib6_flags = flags
        if not flags & RTF_OWN and not netif_carrier_ok(nh.fib_nh_dev):
            nh.fib_nh_flags |= uapi.RTNH_F_LINKDOWN
        self.fib6_metric = metric
        self.fib6_protocol = protocol
        self.fib6_prefsrc = prefsrc
        self.fib6_metrics = metrics or {}
        self.fib6_siblings = []
        self.fib6_destroying = False
        self.nh = None
        self.expires = 0

    def __repr__(self) -> str:
        nh = self.fib6_nh
        via = f" via {format_addr6(nh.fib_nh_gw6)}" if nh.fib_nh_gw6 else ""
        return (
            f"<fib6_info {format_addr6(self.fib6_dst)}/{self.fib6_plen}{via} "
            f"dev {nh.fib_nh_dev.name} metric {self.fib6_metric}>"
        )


def fib6_is_reject(flags: int, dev: net_device | None, dst: wide) -> bool:
    """net/ipv6/route.c: a route that leads nowhere; one over the loopback device would loop."""
    if flags & uapi.RTF_REJECT:
        return True
    if dev is None or not dev.flags & IFF_LOOPBACK or dst == 1:
        return False
    return not flags & (uapi.RTF_GATEWAY | RTF_ANYCAST | RTF_LOCAL)


@state
class fib6_table:
    """struct fib6_table. A leaf is the list of routes of one prefix, by metric."""

    tb6_id: int
    leaves: dict[int, dict[wide, list[fib6_info]]] = row(make=dict)
    """By prefix length."""
    levels: list[tuple[wide, dict[wide, list[fib6_info]]]] = row(make=list)
    """(mask, leaves) by length."""

    def routes(self) -> Iterator[fib6_info]:
        """All routes as fib6_walk meets them: by address, what is in a prefix before it."""
        found = [(dst, plen) for plen, level in self.leaves.items() for dst in level]
        for dst, plen in sorted(found, key=_behind_its_parts):
            yield from tuple(self.leaf(dst, plen))

    def leaf(self, dst: wide, plen: int) -> list[fib6_info]:
        """The routes of one prefix."""
        leaves = self.leaves.get(plen)
        found = leaves.get(dst) if leaves is not None else None
        return found if found is not None else []

    def link(self, rt: fib6_info, at: int = -1) -> None:
        """Insert a route as number `at` of its prefix; -1: behind those of the same metric."""
        leaf = self.leaves.setdefault(rt.fib6_plen, {}).setdefault(rt.fib6_dst, [])
        if at < 0:
            at = len(leaf)
            while at and leaf[at - 1].fib6_metric > rt.fib6_metric:
                at -= 1
        leaf.insert(at, rt)
        self._relevel()

    def unlink(self, rt: fib6_info) -> None:
        """Remove a route."""
        level = self.leaves[rt.fib6_plen]
        leaf = level[rt.fib6_dst]
        leaf.remove(rt)
        if not leaf:
            del level[rt.fib6_dst]
            if not level:
                del self.leaves[rt.fib6_plen]
        self._relevel()

    def _relevel(self) -> None:
        if len(self.levels) != len(self.leaves):
            lengths = sorted(self.leaves, reverse=True)
            self.levels = [(MASKS6[plen], self.leaves[plen]) for plen in lengths]

    def __len__(self) -> int:
        return sum(len(leaf) for level in self.leaves.values() for leaf in level.values())


def _behind_its_parts(prefix: tuple[wide, int]) -> tuple[wide, int]:
    dst, plen = prefix
    return dst | ~MASKS6[plen] & MASKS6[128], -plen


@state
class netns_fib6:
    """The tables and rules of one namespace, and the timer of routes that expire.

    `rules`: the tables that every lookup tries first, in order: local, main, unless a program
    changed the rules (fib_rules_ops.leading). It is never empty.
    """

    tables: dict[int, fib6_table] = row()
    rules: list[fib6_table] = row()
    ops: fib_rules_ops = row()
    gc_timer: timer_list = row()
    multipath: bool = row(False)
    """Whether there is, or was, a route with several next hops."""

    def __init__(self, net: Net) -> None:
        self.tables = {tb_id: fib6_table(tb_id) for _, tb_id in RT6_RULES}
        self.rules = list(self.tables.values())
        self.ops = fib_rules_ops(
            AF_INET6, 128, 0xFC, fib_default_rules(*RT6_RULES), lambda: fib6_rules_changed(net)
        )
        self.gc_timer = timer_list(net.machine, fib6_gc_timer_cb, TIMER_DEFERRABLE, data=net)
        self.multipath = False


def fib6_rules_changed(net: Net) -> None:
    """Recompute `rules` from the current rules."""
    fib6 = net.ipv6.fib6
    leading = [fib6.tables[tb_id] for tb_id in fib6.ops.leading if tb_id in fib6.tables]
    fib6.rules = leading or [fib6_table(0)]
    net.ipv6.rt_cache_flush()


def fib6_get_table(net: Net, tb_id: int) -> fib6_table:
    """net/ipv6/ip6_fib.c fib6_new_table: the table `tb_id`, made when it is missing.

    Raises:
        ArgumentError: no number of a table.
    """
    fib6 = net.ipv6.fib6
    table = fib6.tables.get(tb_id)
    if table is None:
        whole_number("route", "table", tb_id, 1, LAST_ID)
        table = fib6.tables[tb_id] = fib6_table(tb_id)
        if tb_id in fib6.ops.leading:
            fib6_rules_changed(net)
    return table


# --- look-up -------------------------------------------------------------------------------


def fib6_check_expired(f6i: fib6_info, now_ns: int) -> bool:
    """include/net/ip6_fib.h: whether a route with a lifetime has expired."""
    return bool(f6i.fib6_flags & RTF_EXPIRES) and now_ns > f6i.expires


def rt6_check_neigh(net: Net, nh: fib6_nh) -> bool:
    """net/ipv6/route.c: whether the router may be used; an unprobed one may (RFC 4191 3.5)."""
    neigh = net.ipv6.nd_tbl.hash.get(nh.fib_nh_gw6 << 16 | nh.fib_nh_dev.ifindex)
    return neigh is None or bool(neigh.nud_state & NUD_VALID) or not neigh.nud_state & NUD_FAILED


def ip6_ignore_linkdown(nh: fib6_nh) -> bool:
    """include/net/addrconf.h: whether `nh` has no carrier and its device ignores such routes."""
    idev = nh.fib_nh_dev.ip6_ptr
    if not nh.fib_nh_flags & uapi.RTNH_F_LINKDOWN or idev is None:
        return False
    return bool(idev.cnf.ignore_routes_with_linkdown)


def fib6_nexthop_flags(nh: fib6_nh) -> int:
    """net/ipv4/fib_semantics.c fib_nexthop_info: the flags to report of the next hop, RTNH_F_*."""
    return nh.fib_nh_flags | (uapi.RTNH_F_DEAD if ip6_ignore_linkdown(nh) else 0)


def rt6_score_route(net: Net, f6i: fib6_info, oif: int, strict: int) -> int:
    """net/ipv6/route.c: score a route by its interface and its preference (RFC 4191)."""
    nh = f6i.fib6_nh
    m = 2 if not oif or nh.fib_nh_dev.ifindex == oif else 0
    if not m and strict & RT6_LOOKUP_F_IFACE:
        return _FAIL_HARD
    # The preferences low (3), medium (0) and high (1), in two's complement, become 1, 2 and 3.
    m |= ((f6i.fib6_flags & RTF_PREF_MASK) >> 27 ^ 2) << 2
    if (
        strict & RT6_LOOKUP_F_REACHABLE
        and nh.fib_nh_gw6
        and not f6i.fib6_flags & RTF_NONEXTHOP
        and not rt6_check_neigh(net, nh)
    ):
        return _FAIL_PROBE
    return m


def rt6_select(net: Net, leaf: list[fib6_info], oif: int, strict: int) -> fib6_info | None:
    """net/ipv6/route.c (rt6_select, find_rr_leaf): the best of one prefix's routes, or None.

    Routes with a higher metric are used only if none with a lower metric is usable.
    """
    best = None
    top = -1
    metric = leaf[0].fib6_metric
    now = net.clock.now_ns()
    probe = strict & RT6_LOOKUP_F_REACHABLE
    for f6i in leaf:
        if f6i.fib6_metric != metric and best is not None:
            break
        nh = f6i.fib6_nh
        if nh.fib_nh_flags & uapi.RTNH_F_DEAD or fib6_check_expired(f6i, now):
            continue
        if ip6_ignore_linkdown(nh) and not strict & RT6_LOOKUP_F_IGNORE_LINKSTATE:
            continue
        m = rt6_score_route(net, f6i, oif, strict)
        if m == _FAIL_HARD:
            continue
        if probe and nh.fib_nh_gw6:
            net.ipv6.nd.rt6_probe(nh)
        if m > top:
            best, top = f6i, m
    return best


def fib6_table_lookup(
    net: Net, tb: fib6_table, daddr: wide, oif: int, strict: int
) -> fib6_info | None:
    """net/ipv6/route.c: the route to `daddr`, from the longest prefix back to shorter ones.

    If no route has a reachable router, the search is repeated without that condition.
    """
    while True:
        for mask, leaves in tb.levels:
            leaf = leaves.get(daddr & mask)
            if leaf is None:
                continue
            first = leaf[0]
            nh = first.fib6_nh
            if (
                len(leaf) == 1
                and not nh.fib_nh_gw6
                and not oif
                and not first.fib6_flags & RTF_EXPIRES
                and not nh.fib_nh_flags
            ):
                return first
            f6i = rt6_select(net, leaf, oif, strict)
            if f6i is not None:
                return f6i
        if not strict & RT6_LOOKUP_F_REACHABLE:
            return None
        strict &= ~RT6_LOOKUP_F_REACHABLE


def fib6_lookup(
    net: Net, daddr: wide, oif: int = 0, strict: int = 0, iif: int = LOOPBACK_IFINDEX
) -> fib6_info | None:
    """net/ipv6/fib6_rules.c fib6_lookup: walk the rules; a `throw` route ends its table."""
    for rule, tb in fib6_rule_tables(net, flowi(AF_INET6, daddr, 0, oif), iif):
        if tb is None:
            return None
        f6i = fib6_table_lookup(net, tb, daddr, oif, strict)
        if (
            f6i is not None
            and f6i.fib6_type != uapi.RTN_THROW
            and not (rule is not None and fib6_rule_suppress(rule, f6i))
        ):
            return f6i
    return None


def fib6_rule_suppress(rule: fib_rule, f6i: fib6_info) -> bool:
    """net/ipv6/fib6_rules.c: whether the rule suppresses a route with so short a prefix.

    Routes with an error are never suppressed.
    """
    return f6i.fib6_type not in FIB6_TYPE_ERROR and fib_rule_suppress(
        rule, f6i.fib6_plen, f6i.fib6_nh.fib_nh_dev
    )


def fib6_rule_tables(
    net: Net, fl6: flowi, iif: int
) -> Iterator[tuple[fib_rule | None, fib6_table | None]]:
    """The tables to look up for a flow, in order, with their rules (None: unconditional).

    (rule, None): the rule ends the lookup. `iif`: see fib_rule_match.
    """
    fib6 = net.ipv6.fib6
    for tb in fib6.rules:
        yield None, tb
    at = fib_rule_next(net, fib6.ops, 0, fl6, iif)
    while at >= 0:
        rule = fib6.ops.rest[at]
        if rule.action != FR_ACT_TO_TBL:
            yield rule, None
            return
        table = fib_rule_table(net, rule, fl6, iif)
        if table in fib6.tables:
            yield rule, fib6.tables[table]
        at = fib_rule_next(net, fib6.ops, at + 1, fl6, iif)


def fib6_select_path(net: Net, f6i: fib6_info, fl6: flowi, skb: sk_buff | None) -> fib6_info:
    """net/ipv6/route.c: one of several equal routes, by weight and a hash of the flow or packet."""
    siblings = f6i.fib6_siblings
    if f6i.nh is not None and f6i.nh.res is not None:
        at = f6i.nh.bucket_hop(fib_multipath_hash(net, fl6, skb), net.now())
        return siblings[at] if at >= 0 else f6i
    weights = [
        0 if fib6_nexthop_flags(s.fib6_nh) & uapi.RTNH_F_DEAD else s.fib6_nh.fib_nh_weight
        for s in siblings
    ]
    at = fib_select_hop(weights, fib_multipath_hash(net, fl6, skb))
    return siblings[at] if at >= 0 else f6i


# --- changing routes -----------------------------------------------------------------------


def rt6_qualify_for_ecmp(f6i: fib6_info) -> bool:
    """include/net/ip6_route.h: whether a route may share traffic: configured, with a gateway."""
    return (
        f6i.nh is None
        and bool(f6i.fib6_nh.fib_nh_gw6)
        and not f6i.fib6_flags & (RTF_ADDRCONF | RTF_DYNAMIC)
    )


def rt6_duplicate_nexthop(a: fib6_info, b: fib6_info) -> bool:
    """include/net/ip6_route.h: whether two routes have one next hop."""
    if a.nh is not None or b.nh is not None:
        return a.nh is b.nh
    return (
        a.fib6_nh.fib_nh_dev is b.fib6_nh.fib_nh_dev
        and a.fib6_nh.fib_nh_gw6 == b.fib6_nh.fib_nh_gw6
    )


def fib6_add(net: Net, rt: fib6_info, flags: int = NLM_F_CREATE, *, tell: bool = True) -> None:
    """net/ipv6/ip6_fib.c: add a route.

    Adding an existing route updates its expiry and raises EEXIST. Equal routes over different
    gateways share the traffic; NLM_F_REPLACE replaces all of them. Otherwise it replaces the first
    route of the same kind, or the first of all if there is none. `tell`: notify monitors.

    Raises: OSError EEXIST; ENOENT, with NLM_F_REPLACE and without NLM_F_CREATE.
    """
    tb = rt.fib6_table
    same = [r for r in tb.leaf(rt.fib6_dst, rt.fib6_plen) if r.fib6_metric == rt.fib6_metric]
    told = NLM_F_CREATE | flags & NLM_F_APPEND | (0 if same else NLM_F_EXCL)
    at = -1
    if same and flags & NLM_F_EXCL:
        raise os_error(errno.EEXIST, "such a route is there already")
    if flags & NLM_F_REPLACE and not flags & NLM_F_CREATE and not same:
        raise os_error(errno.ENOENT, "no such route")
    if flags & NLM_F_REPLACE:
        shares = rt6_qualify_for_ecmp(rt)
        alike = [old for old in same if rt6_qualify_for_ecmp(old) == shares]
        for first in (alike or same)[:1]:
            told, at = NLM_F_REPLACE, tb.leaf(rt.fib6_dst, rt.fib6_plen).index(first)
            for old in tuple(first.fib6_siblings if first.nh is None else ()) or (first,):
                fib6_del(net, old, tell=False)
    else:
        for old in same:
            if rt6_duplicate_nexthop(old, rt):
                if not rt.fib6_flags & RTF_EXPIRES:
                    old.fib6_flags &= ~RTF_EXPIRES
                elif old.fib6_flags & RTF_EXPIRES:
                    old.expires = rt.expires
                raise os_error(errno.EEXIST, "such a route is there already")
    tb.link(rt, at)
    _find_siblings(net, tb, rt)
    if rt.fib6_flags & RTF_EXPIRES:
        fib6_start_gc(net)
    net.ipv6.rt_cache_flush()
    if tell and net.rtnl is not None:
        net.rtnl(RTM_NEWROUTE, rt, told)


def fib6_add_once(net: Net, rt: fib6_info) -> None:
    """fib6_add, unless such a route exists already."""
    try:
        fib6_add(net, rt)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise


def fib6_kernel_route(
    dev: net_device, table: int, dst: wide, plen: int, rtype: int, flags: int = 0, metric: int = 0
) -> fib6_info:
    """A kernel route over `dev`, not in a table yet; on a port of a VRF for the VRF's table."""
    return fib6_info(
        fib6_get_table(dev.net, l3mdev_fib_table(dev) or table),
        dst,
        plen,
        fib6_nh(dev),
        rtype=rtype,
        flags=flags if flags & uapi.RTF_REJECT else uapi.RTF_UP | flags,
        metric=metric,
        protocol=uapi.RTPROT_KERNEL,
    )


def fib6_del(net: Net, rt: fib6_info, *, tell: bool = True) -> None:
    """net/ipv6/ip6_fib.c: remove a route that is in its table; `tell`: notify monitors."""
    if rt.fib6_destroying:
        return
    rt.fib6_destroying = True
    rt.fib6_table.unlink(rt)
    _find_siblings(net, rt.fib6_table, rt)
    fib6_drop_exceptions(net, rt)
    if rt.nh is None:
        rt.fib6_siblings = []
    fib6_clean_expires(rt)
    net.ipv6.rt_cache_flush()
    if tell and net.rtnl is not None:
        net.rtnl(RTM_DELROUTE, rt, 0)
    if rt.nh is not None:  # a group, which the notification shows
        fib6_drop_siblings(rt)


def fib6_drop_exceptions(net: Net, rt: fib6_info) -> None:
    """net/ipv6/route.c rt6_flush_exceptions: forget what was learned about its destinations."""
    net.ipv6.rt6_exceptions -= len(rt.fib6_nh.exceptions)
    rt.fib6_nh.exceptions.clear()


def fib6_drop_siblings(rt: fib6_info) -> None:
    """Forget the routes made for the members of a route's nexthop group (netlink/nexthop.py)."""
    net = rt.fib6_nh.fib_nh_dev.net
    for each in rt.fib6_siblings:
        fib6_drop_exceptions(net, each)
    rt.fib6_siblings = []


def fib6_bind(f6i: fib6_info, nh: nexthop) -> None:
    """Set an IPv6 route's next hops from its nexthop object."""
    fib6_drop_siblings(f6i)
    hops = []
    for member, weight in nh.hops():
        assert member.dev is not None
        hops.append(fib6_nh(member.dev, member.gw, weight))
    f6i.nh = nh
    f6i.fib6_nh = hops[0]
    flags = f6i.fib6_flags & ~(uapi.RTF_GATEWAY | uapi.RTF_REJECT)
    if nh.is_blackhole():
        f6i.fib6_type, flags = uapi.RTN_BLACKHOLE, flags | uapi.RTF_REJECT
    elif f6i.fib6_type == uapi.RTN_BLACKHOLE:
        f6i.fib6_type = uapi.RTN_UNICAST
    f6i.fib6_flags = flags | (uapi.RTF_GATEWAY if hops[0].fib_nh_gw6 else 0)
    if fib6_is_reject(f6i.fib6_flags, f6i.fib6_nh.fib_nh_dev, f6i.fib6_dst):
        f6i.fib6_flags = uapi.RTF_REJECT | RTF_NONEXTHOP
    if nh.members:
        f6i.fib6_siblings = [_member_route(f6i, hop) for hop in hops]


def _member_route(f6i: fib6_info, hop: fib6_nh) -> fib6_info:
    """A route like `f6i` over one member of its group."""
    rt = fib6_info(
        f6i.fib6_table,
        f6i.fib6_dst,
        f6i.fib6_plen,
        hop,
        rtype=f6i.fib6_type,
        flags=f6i.fib6_flags,
        metric=f6i.fib6_metric,
        protocol=f6i.fib6_protocol,
        prefsrc=f6i.fib6_prefsrc,
        metrics=f6i.fib6_metrics,
    )
    rt.nh = f6i.nh
    return rt


def _find_siblings(net: Net, tb: fib6_table, rt: fib6_info) -> None:
    """Update fib6_siblings of the equal routes of rt's prefix and metric."""
    leaf = tb.leaf(rt.fib6_dst, rt.fib6_plen)
    equal = [r for r in leaf if r.fib6_metric == rt.fib6_metric and rt6_qualify_for_ecmp(r)]
    for each in equal:
        each.fib6_siblings = equal if len(equal) > 1 else []
    if len(equal) > 1:
        net.ipv6.fib6.multipath = True


def fib6_tables(net: Net) -> list[fib6_table]:
    """The tables as the kernel's 256 lists of them have these: the newest of a list first."""
    newest = list(net.ipv6.fib6.tables.values())[::-1]
    return sorted(newest, key=lambda tb: tb.tb6_id & 255)


def fib6_clean_all(net: Net, dev: net_device | None, *, down: bool = False) -> None:
    """net/ipv6/route.c rt6_disable_ip: remove the routes over a device (None: all routes).

    With `down` one stays while other gateways share its traffic.
    """
    for tb in fib6_tables(net):
        for rt in [rt for rt in tb.routes() if dev is None or fib6_ifdown(rt, dev, down)]:
            fib6_del(net, rt)


def fib6_ifdown(rt: fib6_info, dev: net_device, down: bool) -> bool:
    """net/ipv6/route.c: whether a route is removed, now that `dev` is down, or gone.

    While another of several gateways is alive, the one over `dev` is only dead. All are removed
    when the last one dies.
    """
    nh, siblings = rt.fib6_nh, rt.fib6_siblings
    if not down or not siblings or rt.nh is not None:
        return nh.fib_nh_dev is dev
    if all(each.fib6_nh.fib_nh_dev is not dev for each in siblings):
        return False
    if all(
        each.fib6_nh.fib_nh_dev is dev or each.fib6_nh.fib_nh_flags & uapi.RTNH_F_DEAD
        for each in siblings
    ):
        return True
    if nh.fib_nh_dev is dev:
        nh.fib_nh_flags |= uapi.RTNH_F_DEAD | uapi.RTNH_F_LINKDOWN
    return False


def rt6_sync_up(dev: net_device, flag: int, up: bool) -> None:
    """net/ipv6/route.c rt6_sync_up, rt6_sync_down_dev: clear or set `flag` of dev's next hops."""
    net = dev.net
    for tb in net.ipv6.fib6.tables.values():
        for rt in tb.routes():
            own = rt.fib6_flags & RTF_OWN
            if rt.fib6_nh.fib_nh_dev is dev and not own and not dev.flags & IFF_LOOPBACK:
                flags = rt.fib6_nh.fib_nh_flags
                rt.fib6_nh.fib_nh_flags = flags & ~flag if up else flags | flag
    net.ipv6.rt_cache_flush()


def fib6_set_expires(net: Net, rt: fib6_info, expires_ns: int) -> None:
    """include/net/ip6_fib.h: make the route expire at `expires_ns`."""
    rt.expires = expires_ns
    rt.fib6_flags |= RTF_EXPIRES
    fib6_start_gc(net)


def fib6_clean_expires(rt: fib6_info) -> None:
    """include/net/ip6_fib.h: make the route never expire."""
    rt.fib6_flags &= ~RTF_EXPIRES
    rt.expires = 0


# --- expiry --------------------------------------------------------------------------------


def fib6_start_gc(net: Net) -> None:
    """net/ipv6/ip6_fib.c: start the timer that removes expired routes after gc_interval."""
    timer = net.ipv6.fib6.gc_timer
    if not timer.pending:
        mod_timer(timer, net.clock.now_ns() + net.ipv6.sysctl.ip6_rt_gc_interval * NSEC_PER_SEC)


def fib6_gc_timer_cb(timer: timer_list) -> None:
    """net/ipv6/ip6_fib.c"""
    fib6_run_gc(timer.data)


def fib6_run_gc(net: Net, *, flush: bool = False) -> None:
    """net/ipv6/ip6_fib.c: remove expired routes and exceptions; again later if any are left.

    `flush`: also exceptions without expiry, which redirects make.
    """
    now = net.clock.now_ns()
    more = False
    for tb in fib6_tables(net):
        for rt in tuple(tb.routes()):
            if rt.fib6_flags & RTF_EXPIRES:
                if now > rt.expires:
                    fib6_del(net, rt)
                    continue
                more = True
            exceptions = rt.fib6_nh.exceptions
            for daddr, ex in tuple(exceptions.items()):
                if now >= ex.rt6i.expires if ex.rt6i.expires else flush:
                    ex.rt6i.kill()
                    del exceptions[daddr]
                    net.ipv6.rt6_exceptions -= 1
            more = more or bool(exceptions)
    if more:
        fib6_start_gc(net)
