"""The forwarding information base: tables, routes, and their changes by address and device events.

net/ipv4/fib_frontend.c, fib_semantics.c, fib_trie.c, include/net/ip_fib.h.

Instead of the kernel's LC-trie a table keeps one dict per prefix length, longest first. A lookup
costs one dict probe per length in use, which for a host is three or four.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from fastpath.base.intmap import IntMap
from fastpath.base.skbuff import sk_buff
from fastpath.errors import ArgumentError, whole_number
from stack.core import netdevice, uapi
from stack.core.dev import dev_named
from stack.core.dev_notifier import register_netdevice_notifier
from stack.core.errors import os_error
from stack.core.extack import ExtAckError
from stack.core.fib_rules import (
    FR_ACT_ERROR,
    FR_ACT_TO_TBL,
    LAST_ID,
    LOOPBACK_IFINDEX,
    fib_default_rules,
    fib_rule_next,
    fib_rule_suppress,
    fib_rule_table,
    fib_rules_ops,
)
from stack.core.l3mdev import l3mdev_fib_table, l3mdev_flow_oif, l3mdev_master_ifindex
from stack.core.neigh_gc import neigh_remove_one
from stack.core.neigh_table import neigh_key
from stack.core.netdevice import net_device, netif_carrier_ok
from stack.core.rows import narrow, row, state, wide
from stack.core.rtnetlink import nlflags_of
from stack.core.uapi import (
    AF_INET,
    AF_INET6,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NUD_VALID,
    RTM_DELROUTE,
    RTM_NEWROUTE,
)
from stack.inet.flow import flowi
from stack.inet.metrics import fib_metrics_match, ip_metrics_convert
from stack.inet.multipath import BY_PORTS, fib_multipath_hash, fib_rebalance
from stack.ipv4.addr import ipv4_is_lbcast, ipv4_is_multicast
from stack.ipv4.devinet import (
    IFA_F_NOPREFIXROUTE,
    IFA_F_SECONDARY,
    in_ifaddr,
    inet_ifa_byprefix,
    inet_ifa_match,
    localnet_scope,
    register_inetaddr_notifier,
)
from stack.ipv4.netns import in_dev_conf
from stack.ipv4.rt_cache import rt_cache_flush, rt_flush_exceptions

if TYPE_CHECKING:
    from stack.ipv4.route import rtable
    from stack.net import Net
    from stack.netlink.nexthop import nexthop

RT_TABLE_DEFAULT = 253
RT_TABLE_MAIN = 254
RT_TABLE_LOCAL = 255

RT_RULES = ((0, RT_TABLE_LOCAL), (32766, RT_TABLE_MAIN), (32767, RT_TABLE_DEFAULT))
"""Priority and table of the initial rules (fib_default_rules_init)."""
IPTOS_RT_MASK = 0x1C

INVALID_GW = "Nexthop has invalid gateway"

# the error each route type answers a lookup with (fib_props[] in fib_semantics.c)
FIB_PROPS_ERROR = {
    uapi.RTN_BLACKHOLE: errno.EINVAL,
    uapi.RTN_UNREACHABLE: errno.EHOSTUNREACH,
    uapi.RTN_PROHIBIT: errno.EACCES,
    uapi.RTN_THROW: errno.EAGAIN,
}

MASKS = tuple((0xFFFFFFFF << (32 - n)) & 0xFFFFFFFF for n in range(33))


@state
class fib_nh:
    """struct fib_nh: one next hop.

    `nh_rth_input`: the route shared by packets that are forwarded to it, by their input interface.
    """

    nh_dev: net_device
    nh_gw: int = 0
    nh_weight: int = 1
    nh_flags: int = 0
    nh_oif: int = row(of=lambda nh: nh.nh_dev.ifindex if nh.nh_dev is not None else 0)
    nh_rth_input: dict[int, rtable] = row(make=dict)
    nh_scope: int = row(of=lambda nh: uapi.RT_SCOPE_LINK if nh.nh_gw else uapi.RT_SCOPE_HOST)
    nh_gw6: wide = row(0)
    """An IPv6 gateway in place of `nh_gw`; packets go to its neighbour entry."""


Nexthops: TypeAlias = list[fib_nh]


@state
class fib_info:
    """struct fib_info: next hops and attributes of a route."""

    fib_nh: list[fib_nh] = row()
    fib_type: int = row(0)
    fib_scope: int = row(0)
    fib_protocol: int = row(0)
    fib_prefsrc: int = row(0)
    fib_priority: int = row(0)
    fib_metrics: dict[str, int] = row()
    fib_dead: bool = row(False)
    pfsrc_removed: bool = row(False)
    """Its preferred source was removed; monitors are notified when such a route is removed."""
    fib_flags: int = row(0)
    """RTNH_F_DEAD and RTNH_F_LINKDOWN where all next hops became so at once."""
    fib_nhobj: nexthop | None = row()
    """fi->nh: the object that `fib_nh` comes from."""

    def __init__(
        self,
        nhs: Nexthops,
        *,
        rtype: int,
        scope: int,
        protocol: int = uapi.RTPROT_BOOT,
        prefsrc: int = 0,
        priority: int = 0,
        metrics: dict[str, int] | None = None,
        nhobj: nexthop | None = None,
    ) -> None:
        self.fib_nh = nhs
        self.fib_type = rtype
        self.fib_scope = scope
        self.fib_protocol = protocol
        self.fib_prefsrc = prefsrc
        self.fib_priority = priority
        self.fib_metrics = metrics or {}
        self.fib_dead = False
        self.pfsrc_removed = False
        self.fib_flags = 0
        self.fib_nhobj = nhobj

    def same_as(self, other: fib_info) -> bool:
        """Whether both have the same next hops and attributes (kernel: fib_find_info)."""
        return (
            self.fib_type == other.fib_type
            and self.fib_scope == other.fib_scope
            and self.fib_protocol == other.fib_protocol
            and self.fib_prefsrc == other.fib_prefsrc
            and self.fib_priority == other.fib_priority
            and self.fib_metrics == other.fib_metrics
            and self.fib_nhobj is other.fib_nhobj
            and [(n.nh_dev, n.nh_gw, n.nh_gw6, n.nh_weight) for n in self.fib_nh]
            == [(n.nh_dev, n.nh_gw, n.nh_gw6, n.nh_weight) for n in other.fib_nh]
        )


@state
class fib_alias:
    """struct fib_alias: one route of a prefix; a list of them is sorted by TOS, then priority."""

    fa_dst: int
    fa_plen: int
    fa_tos: int
    fa_type: int
    fa_info: fib_info
    tb_id: int
    serial: int = 0
    """The number of table changes before this route was added. Ours."""


@state
class fib_result:
    """struct fib_result: the route and the next hop that a lookup found."""

    table: fib_table = row()
    nh: fib_nh = row()
    fi: fib_info = row()
    type: int = row(0)
    scope: int = row(0)
    prefix: int = row(0)
    prefixlen: int = row(0)

    def __init__(self, fa: fib_alias, nh: fib_nh, table: fib_table) -> None:
        self.table = table
        self.nh = nh
        self.fi = fa.fa_info
        self.type = fa.fa_type
        self.scope = fa.fa_info.fib_scope
        self.prefix = fa.fa_dst
        self.prefixlen = fa.fa_plen


NO_ALIASES: IntMap[list[fib_alias]] = IntMap()
"""The map of every length without routes. It stays empty."""


@state
class fib_table:
    """struct fib_table: a map for each length; `lens` holds the lengths in use, longest first."""

    tb_id: int
    maps: list[IntMap[list[fib_alias]]] = row(make=lambda: [NO_ALIASES] * 32 + [IntMap()])
    lens: list[int] = row(make=list)

    def aliases(self) -> Iterator[fib_alias]:
        """All routes, longest prefix first, then by address."""
        for plen in self.lens:
            table = self.maps[plen]
            for dst in sorted(table):
                yield from table[dst]

    def insert(self, fa: fib_alias, append: bool = True) -> None:
        """Add an alias before or behind those of its TOS and metric, without a check."""
        if self.maps[fa.fa_plen] is NO_ALIASES:
            self.maps[fa.fa_plen] = IntMap()
        bucket = self.maps[fa.fa_plen].setdefault(fa.fa_dst, [])
        bucket.insert(len(bucket) if append else 0, fa)
        bucket.sort(key=lambda a: (-a.fa_tos, a.fa_info.fib_priority))
        if fa.fa_plen not in self.lens:
            self.lens.append(fa.fa_plen)
            self.lens.sort(reverse=True)

    def replace(self, old: fib_alias, fa: fib_alias) -> None:
        """Replace an alias by another."""
        bucket = self.maps[fa.fa_plen][fa.fa_dst]
        bucket[bucket.index(old)] = fa

    def remove(self, fa: fib_alias) -> None:
        """Take out one alias that is in the table."""
        bucket = self.maps[fa.fa_plen][fa.fa_dst]
        bucket.remove(fa)
        if not bucket:
            del self.maps[fa.fa_plen][fa.fa_dst]
            if not self.maps[fa.fa_plen]:
                self.lens.remove(fa.fa_plen)

    def __len__(self) -> int:
        return sum(len(b) for m in self.maps for b in m.values())


@state
class netns_fib:
    """The tables and rules of one host.

    `rules`: the tables that every lookup tries first, in order: local, main, default, unless a
    program changed the rules (fib_rules_ops.leading).
    """

    tables: dict[int, fib_table] = row()
    rules: list[fib_table] = row()
    ops: fib_rules_ops = row()
    generation: int = row(0)
    nexthops: dict[int, nexthop] = row()
    """net->nexthop: objects by id (netlink/nexthop.py)."""
    last_nexthop_id: int = row(0)
    nexthop_serial: int = row(0)

    def __init__(self, net: Net) -> None:
        self.tables = {tb_id: fib_table(tb_id) for tb_id in (RT_TABLE_LOCAL, RT_TABLE_MAIN)}
        self.rules = list(self.tables.values())
        self.ops = fib_rules_ops(
            AF_INET, 32, IPTOS_RT_MASK, fib_default_rules(*RT_RULES), lambda: fib_rules_changed(net)
        )
        self.generation = 0
        self.nexthops = {}
        self.last_nexthop_id = self.nexthop_serial = 0


def fib_rules_changed(net: Net) -> None:
    """net/ipv4/fib_rules.c fib4_rule_flush_cache: look up by the rules as they are now."""
    fib = net.fib
    fib.rules = [fib.tables[tb_id] for tb_id in fib.ops.leading if tb_id in fib.tables]
    net.ipv4.rth_forwards = False
    fib_flows_changed(net)


def fib_flows_changed(net: Net, policy: int = -1) -> None:
    """Recompute whether routes depend on mark, protocol and ports besides addresses and TOS.

    `policy`: fib_multipath_hash_policy, if it is about to be written.
    """
    ipv4 = net.ipv4
    policy = net.sysctl.fib_multipath_hash_policy if policy < 0 else policy
    by_ports = ipv4.fib_multipath and policy in BY_PORTS
    ipv4.rt_by_flow = bool(net.fib.ops.rest) or by_ports
    rt_cache_flush(net)


def fib_get_table(net: Net, tb_id: int) -> fib_table:
    """include/net/ip_fib.h fib_new_table: the table `tb_id`, made when it is missing.

    Raises:
        ArgumentError: no number of a table.
    """
    fib = net.fib
    table = fib.tables.get(tb_id)
    if table is None:
        whole_number("route", "table", tb_id, 1, LAST_ID)
        table = fib.tables[tb_id] = fib_table(tb_id)
        if tb_id in fib.ops.leading:
            fib_rules_changed(net)
    return table


def fib_info_nh_uses_dev(fi: fib_info, dev: net_device) -> bool:
    """net/ipv4/fib_frontend.c: whether one of the next hops uses `dev`."""
    for nh in fi.fib_nh:
        if nh.nh_dev is dev or l3mdev_master_ifindex(nh.nh_dev) == dev.ifindex:
            return True
    return False


def ip_ignore_linkdown(nh: fib_nh) -> bool:
    """Whether `nh` has no carrier, and routes without one are not used on its device."""
    in_dev = nh.nh_dev.ip_ptr
    if not nh.nh_flags & uapi.RTNH_F_LINKDOWN or in_dev is None:
        return False
    return bool(in_dev_conf(in_dev, "ignore_routes_with_linkdown"))


def fib_nexthop_flags(nh: fib_nh) -> int:
    """net/ipv4/fib_semantics.c fib_nexthop_info: the flags to report of the next hop, RTNH_F_*."""
    return nh.nh_flags | (uapi.RTNH_F_DEAD if ip_ignore_linkdown(nh) else 0)


def fib_nh_usable(nh: fib_nh, oif: int, linkdown: bool = False) -> bool:
    """Whether a lookup may choose `nh`. With `linkdown` its carrier is ignored."""
    flags = nh.nh_flags
    if flags & uapi.RTNH_F_DEAD or (flags and not linkdown and ip_ignore_linkdown(nh)):
        return False
    return not oif or oif == nh.nh_oif


def fib_table_lookup(
    tb: fib_table,
    daddr: int,
    tos: int = 0,
    scope: int = uapi.RT_SCOPE_UNIVERSE,
    oif: int = 0,
    linkdown: bool = False,
) -> fib_result | int:
    """net/ipv4/fib_trie.c: the longest match, or a negative errno (-EAGAIN: nothing here).

    `linkdown`: see fib_nh_usable (FIB_LOOKUP_IGNORE_LINKSTATE).
    """
    for plen in tb.lens:
        bucket = tb.maps[plen].find(daddr & MASKS[plen])
        if bucket is None:
            continue
        for fa in bucket:
            if fa.fa_tos and fa.fa_tos != tos:
                continue
            fi = fa.fa_info
            if fi.fib_dead or fi.fib_scope < scope:
                continue
            err = FIB_PROPS_ERROR.get(fa.fa_type)
            if err is not None:
                return -err
            for nh in fi.fib_nh:
                if fib_nh_usable(nh, oif, linkdown):
                    return fib_result(fa, nh, tb)
    return -errno.EAGAIN


def fib_lookup(
    net: Net,
    daddr: int,
    tos: int = 0,
    scope: int = uapi.RT_SCOPE_UNIVERSE,
    oif: int = 0,
    linkdown: bool = False,
) -> fib_result | int:
    """include/net/ip_fib.h: look up in the tables that apply to every flow.

    A result, or a negative errno. After -ENETUNREACH (none) __fib_lookup continues by the rules.
    """
    for tb in net.fib.rules:
        res = fib_table_lookup(tb, daddr, tos, scope, oif, linkdown)
        if res.__class__ is fib_result or res != -errno.EAGAIN:
            return res
    return -errno.ENETUNREACH


def __fib_lookup(
    net: Net, fl4: flowi, iif: int, l3mdev: int = 0, linkdown: bool = False
) -> fib_result | int:
    """net/ipv4/fib_rules.c: look up by rules with conditions, after fib_lookup found nothing.

    `iif`: the receiving interface, LOOPBACK_IFINDEX for the host's own packets. `l3mdev`:
    as fib_rule_next. A result, or a negative errno (-ENETUNREACH: none).
    """
    ops = net.fib.ops
    oif = l3mdev_flow_oif(net, fl4.flowi_oif)
    at = fib_rule_next(net, ops, 0, fl4, iif, l3mdev)
    while at >= 0:
        rule = ops.rest[at]
        if rule.action != FR_ACT_TO_TBL:
            return -FR_ACT_ERROR.get(rule.action, errno.EINVAL)
        tb = net.fib.tables.get(fib_rule_table(net, rule, fl4, iif, l3mdev))
        if tb is not None:
            tos = fl4.flowi_tos & IPTOS_RT_MASK
            res = fib_table_lookup(tb, narrow(fl4.daddr), tos, fl4.flowi_scope, oif, linkdown)
            if not isinstance(res, fib_result):
                if res != -errno.EAGAIN:
                    return res
            else:
                if not fib_rule_suppress(rule, res.prefixlen, res.nh.nh_dev):
                    return res
        at = fib_rule_next(net, ops, at + 1, fl4, iif, l3mdev)
    return -errno.ENETUNREACH


def fib_good_nh(nh: fib_nh) -> bool:
    """net/ipv4/fib_semantics.c: whether the neighbour is reachable, as far as is known."""
    dev = nh.nh_dev
    n = dev.net.arp_tbl.hash.get(neigh_key(dev, nh.nh_gw)) if nh.nh_gw else None
    if nh.nh_gw6:
        n = dev.net.ipv6.nd_tbl.hash.get(neigh_key(dev, nh.nh_gw6))
    return n is None or not n.nud_state or bool(n.nud_state & NUD_VALID)


def fib_select_path(net: Net, res: fib_result, fl4: flowi, skb: sk_buff | None = None) -> None:
    """net/ipv4/fib_semantics.c: one of several next hops, for a flow or a received packet."""
    fi = res.fi
    if len(fi.fib_nh) < 2 or fl4.flowi_oif:
        return
    found = fib_multipath_hash(net, fl4, skb)
    fib_select_multipath(net, res, found, narrow(fl4.saddr) if skb is None else 0)


def fib_select_multipath(net: Net, res: fib_result, found: int, saddr: int) -> None:
    """net/ipv4/fib_semantics.c: the next hop whose share contains the hash `found`.

    A resilient group selects it by its buckets. With `saddr`, the source of the host's own packet,
    a next hop with this address is preferred. With sysctl fib_multipath_use_neigh, next hops whose
    neighbour does not answer are skipped.
    """
    fi = res.fi
    if fi.fib_nhobj is not None and fi.fib_nhobj.res is not None:
        at = fi.fib_nhobj.bucket_hop(found, net.now())
        if at >= 0:
            res.nh = fi.fib_nh[at]
        return
    use_neigh = net.sysctl.fib_multipath_use_neigh
    weights = [nh.nh_weight if fib_nh_usable(nh, 0) else 0 for nh in fi.fib_nh]
    if not any(weights):
        return
    best = 0
    for nh, bound in zip(fi.fib_nh, fib_rebalance(weights), strict=True):
        if bound < 0 or (use_neigh and not fib_good_nh(nh)):
            continue
        score = int(found <= bound)
        if saddr and inet_select_addr(nh.nh_dev, nh.nh_gw, fi.fib_scope) == saddr:
            score += 2
        if score > best:
            res.nh, best = nh, score
            if score == (3 if saddr else 1):
                return


def fib_result_prefsrc(net: Net, res: fib_result) -> int:
    """net/ipv4/fib_semantics.c: source address a route prefers."""
    if res.fi.fib_prefsrc:
        return res.fi.fib_prefsrc
    return inet_select_addr(res.nh.nh_dev, res.nh.nh_gw, res.fi.fib_scope)


def inet_select_addr(dev: net_device, dst: int, scope: int) -> int:
    """net/ipv4/devinet.c: a local address of `dev` that suits `dst`, else of any device."""
    first = 0
    in_dev = dev.ip_ptr if dev is not None else None
    if in_dev is not None:
        widest = localnet_scope(in_dev)
        for ifa in in_dev.ifa_list:
            if ifa.ifa_flags & IFA_F_SECONDARY or min(ifa.ifa_scope, widest) > scope:
                continue
            if not dst or not (dst ^ ifa.ifa_address) & ifa.ifa_mask:
                return ifa.ifa_local
            first = first or ifa.ifa_local
    if first or dev is None:
        return first
    # A VRF acts as the loopback device of its ports, so its addresses are preferred.
    master = l3mdev_master_ifindex(dev)
    others = list(dev.net.dev_base_head)
    if master:
        others.insert(0, dev.net.dev_by_index[master])
    for other in others:
        in_dev = other.ip_ptr
        if in_dev is None or other is dev or l3mdev_master_ifindex(other) != master:
            continue
        for ifa in in_dev.ifa_list:
            if ifa.ifa_scope != uapi.RT_SCOPE_LINK and ifa.ifa_scope <= scope:
                return ifa.ifa_local
    return 0


def inet_addr_type(net: Net, addr: int) -> int:
    """net/ipv4/fib_frontend.c: RTN_* of an address outside VRFs."""
    return inet_addr_type_table(net, addr, RT_TABLE_LOCAL)


def inet_addr_type_dev_table(net: Net, dev: net_device | None, addr: int) -> int:
    """net/ipv4/fib_frontend.c: RTN_* of an address in the VRF of `dev`, or outside VRFs."""
    return inet_addr_type_table(net, addr, l3mdev_fib_table(dev) or RT_TABLE_LOCAL)


def inet_addr_type_table(net: Net, addr: int, tb_id: int) -> int:
    """net/ipv4/fib_frontend.c: RTN_* of an address by the table `tb_id`."""
    if addr == 0 or ipv4_is_lbcast(addr):
        return uapi.RTN_BROADCAST
    if ipv4_is_multicast(addr):
        return uapi.RTN_MULTICAST
    tb = net.fib.tables.get(tb_id)
    res = fib_table_lookup(tb, addr) if tb is not None else -errno.EAGAIN
    return res.type if isinstance(res, fib_result) else uapi.RTN_UNICAST


def ip_dev_find(net: Net, addr: int) -> net_device | None:
    """net/ipv4/devinet.c: the device that owns the local address, or None."""
    res = fib_table_lookup(net.fib.tables[RT_TABLE_LOCAL], addr)
    if isinstance(res, fib_result) and res.type == uapi.RTN_LOCAL:
        return res.nh.nh_dev
    if not net.fib.ops.l3mdev_rule:
        return None
    for dev in net.dev_base_head:  # addresses of a VRF are not in the local table
        in_dev = dev.ip_ptr
        if in_dev is not None and any(ifa.ifa_local == addr for ifa in in_dev.ifa_list):
            return dev
    return None


# --- changing routes -----------------------------------------------------------------------


def fib_check_nh_gw(net: Net, nh: fib_nh, scope: int, table: int) -> fib_result | int:
    """net/ipv4/fib_semantics.c fib_check_nh_v4_gw: look up the gateway, first in its own table."""
    oif = nh.nh_oif
    tb = net.fib.tables.get(table) if table != RT_TABLE_MAIN else None
    res: fib_result | int = -errno.EAGAIN
    if tb is not None:
        res = fib_table_lookup(tb, nh.nh_gw, 0, scope, oif, True)
    if not isinstance(res, fib_result):
        res = fib_lookup(net, nh.nh_gw, 0, scope, oif, True)
        if not isinstance(res, fib_result) and net.fib.ops.rest:
            fl4 = flowi(AF_INET, nh.nh_gw, 0, oif, flowi_scope=scope)
            res = __fib_lookup(net, fl4, LOOPBACK_IFINDEX, linkdown=True)
    return res


def fib_check_nh(net: Net, nh: fib_nh, scope: int, table: int = RT_TABLE_MAIN) -> None:
    """net/ipv4/fib_semantics.c: check that the next hop is reachable; set a gateway's device.

    Raises: OSError EINVAL, ENETUNREACH, ENETDOWN, ENODEV.
    """
    if nh.nh_gw6:
        onlink = bool(nh.nh_flags & uapi.RTNH_F_ONLINK)
        nh.nh_dev = net.ipv6.gw6_init(net, nh.nh_gw6, nh.nh_dev, onlink, table)
        nh.nh_oif = nh.nh_dev.ifindex
        nh.nh_scope = uapi.RT_SCOPE_LINK
    elif not nh.nh_gw:
        fib_check_nh_nongw(nh)
    elif nh.nh_flags & uapi.RTNH_F_ONLINK:
        if scope >= uapi.RT_SCOPE_LINK:
            raise ExtAckError(errno.EINVAL, "Nexthop has invalid scope")
        if nh.nh_dev is None:
            raise ExtAckError(errno.ENODEV, "Nexthop device required for onlink")
        if not nh.nh_dev.flags & netdevice.IFF_UP:
            raise ExtAckError(errno.ENETDOWN, "Nexthop device is not up")
        if inet_addr_type_dev_table(net, nh.nh_dev, nh.nh_gw) != uapi.RTN_UNICAST:
            raise ExtAckError(errno.EINVAL, INVALID_GW)
        nh.nh_scope = uapi.RT_SCOPE_LINK
    else:
        res = fib_check_nh_gw(net, nh, max(scope + 1, uapi.RT_SCOPE_LINK), table)
        if not isinstance(res, fib_result):
            raise ExtAckError(-res, INVALID_GW)
        if res.type not in (uapi.RTN_UNICAST, uapi.RTN_LOCAL):
            raise ExtAckError(errno.EINVAL, INVALID_GW)
        nh.nh_scope = res.fi.fib_scope
        nh.nh_dev, nh.nh_oif = res.nh.nh_dev, res.nh.nh_oif
        if not nh.nh_dev.flags & netdevice.IFF_UP:
            raise ExtAckError(errno.ENETDOWN)


def fib_check_nh_nongw(nh: fib_nh) -> None:
    """net/ipv4/fib_semantics.c: a next hop without a gateway. Raises: OSError EINVAL ..."""
    if nh.nh_flags & uapi.RTNH_F_ONLINK:
        text = "Invalid flags for nexthop - PERVASIVE and ONLINK can not be set"
        raise ExtAckError(errno.EINVAL, text)
    if nh.nh_dev is None or nh.nh_dev.ip_ptr is None:
        raise os_error(errno.ENODEV, "a route needs a device or a gateway")
    if not nh.nh_dev.flags & netdevice.IFF_UP:
        raise ExtAckError(errno.ENETDOWN, "Device for nexthop is not up")
    nh.nh_scope = uapi.RT_SCOPE_HOST


def fib_check_local(nhs: Sequence[fib_nh]) -> None:
    """net/ipv4/fib_semantics.c fib_create_info: the next hop of a route of the host itself.

    Raises: OSError EINVAL, ENODEV.
    """
    if len(nhs) != 1:
        raise ExtAckError(errno.EINVAL, "Route with host scope can not have multiple nexthops")
    if nhs[0].nh_gw or nhs[0].nh_gw6:
        raise ExtAckError(errno.EINVAL, "Route with host scope can not have a gateway")
    if nhs[0].nh_dev is None:
        raise os_error(errno.ENODEV, "a route needs a device")
    nhs[0].nh_scope = uapi.RT_SCOPE_NOWHERE


def fib_nexthops(nh: nexthop) -> list[fib_nh]:
    """The next hops of an IPv4 route over an object."""
    found = []
    for member, weight in nh.hops():
        dev = member.dev
        assert dev is not None
        v6 = member.family == AF_INET6
        hop = fib_nh(dev, 0 if v6 else int(member.gw), weight, member.flags)
        hop.nh_gw6 = member.gw if v6 else 0
        hop.nh_scope = member.scope
        found.append(hop)
    return found


def fib_type_of(nh: nexthop, rtype: int) -> int:
    """The type of a route over an object: RTN_BLACKHOLE if the object discards packets."""
    return uapi.RTN_BLACKHOLE if nh.is_blackhole() and rtype not in FIB_PROPS_ERROR else rtype


def fib_table_insert(
    net: Net,
    tb: fib_table,
    dst: int,
    plen: int,
    info: fib_info,
    *,
    tos: int = 0,
    flags: int = NLM_F_CREATE | NLM_F_EXCL,
) -> None:
    """net/ipv4/fib_trie.c: add a route.

    If there are others with its TOS and metric, `flags` decide. NLM_F_EXCL refuses it,
    NLM_F_REPLACE replaces the first, NLM_F_APPEND adds it after the last. Otherwise it is added
    before the first. Raises: OSError EEXIST, EINVAL, ENOENT (without NLM_F_CREATE).
    """
    if not 0 <= plen <= 32 or dst & ~MASKS[plen] & 0xFFFFFFFF:
        raise os_error(errno.EINVAL, f"destination has bits outside its /{plen}")
    same = [
        fa
        for fa in tb.maps[plen].find(dst) or ()
        if fa.fa_tos == tos and fa.fa_info.fib_priority == info.fib_priority
    ]
    told = NLM_F_CREATE | NLM_F_EXCL
    replaced = None
    if same:
        match = [fa for fa in same if fa.fa_info.same_as(info)]
        if match and flags & NLM_F_REPLACE and match[0] is same[0] and not flags & NLM_F_EXCL:
            return
        if match or flags & NLM_F_EXCL:
            raise os_error(errno.EEXIST, "such a route is there already")
        told = NLM_F_CREATE | flags & NLM_F_APPEND
        if flags & NLM_F_REPLACE:
            replaced, told = same[0], NLM_F_REPLACE
    if replaced is None and not flags & NLM_F_CREATE:
        raise os_error(errno.ENOENT, "no such route")
    for nh in info.fib_nh:
        if (
            nh.nh_dev is not None
            and (not nh.nh_gw6 or info.fib_nhobj is not None)
            and nh.nh_scope != uapi.RT_SCOPE_NOWHERE
            and not netif_carrier_ok(nh.nh_dev)
        ):
            nh.nh_flags |= uapi.RTNH_F_LINKDOWN
    if info.fib_nh and all(nh.nh_flags & uapi.RTNH_F_LINKDOWN for nh in info.fib_nh):
        info.fib_flags |= uapi.RTNH_F_LINKDOWN
    rtype = info.fib_type if info.fib_nhobj is None else fib_type_of(info.fib_nhobj, info.fib_type)
    fa = fib_alias(dst, plen, tos, rtype, info, tb.tb_id, net.fib.generation)
    if replaced is not None:
        tb.replace(replaced, fa)
    else:
        tb.insert(fa, bool(flags & NLM_F_APPEND))
    if len(info.fib_nh) > 1 and not net.ipv4.fib_multipath:
        net.ipv4.fib_multipath = True
        fib_flows_changed(net)
    fib_changed(net)
    if net.rtnl is not None:
        net.rtnl(RTM_NEWROUTE, fa, told)


def fib_nh_match(
    fi: fib_info,
    dev: net_device | str | None,
    gw: int | None,
    gw6: wide,
    hops: Sequence[tuple[tuple[int, wide] | None, net_device | None]],
) -> bool:
    """net/ipv4/fib_semantics.c: whether a route has these next hops, in their order.

    `dev`, `gw` and `gw6` are of the first, where they are given. `hops`: (gateway of IPv4 and of
    IPv6, device) of each; None: any.
    """
    if dev is None and gw is None and not gw6 and not hops:
        return True
    if not fi.fib_nh or fi.fib_nhobj is not None:
        return False
    if dev is not None or gw is not None or gw6:
        nh = fi.fib_nh[0]
        return (
            (dev is None or nh.nh_dev is dev)
            and (gw is None or nh.nh_gw == gw)
            and (not gw6 or nh.nh_gw6 == gw6)
        )
    return len(hops) >= len(fi.fib_nh) and all(
        (out is None or nh.nh_dev is out) and (via is None or (nh.nh_gw, nh.nh_gw6) == via)
        for nh, (via, out) in zip(fi.fib_nh, hops, strict=False)
    )


def fib_table_delete(
    net: Net,
    tb: fib_table,
    dst: int,
    plen: int,
    *,
    rtype: int = uapi.RTN_UNSPEC,
    dev: net_device | str | None = None,
    gw: int | None = None,
    gw6: wide = 0,
    prefsrc: int = 0,
    tos: int = 0,
    priority: int | None = None,
    scope: int | None = None,
    nhid: int = 0,
    hops: Sequence[tuple[tuple[int, wide] | None, net_device | None]] = (),
    metrics: Mapping[str, Any] = {},
) -> None:
    """net/ipv4/fib_trie.c: remove the first matching route. Raises: OSError ESRCH."""
    for fa in tb.maps[plen].find(dst) or ():
        fi = fa.fa_info
        if (
            (rtype == uapi.RTN_UNSPEC or fa.fa_type == rtype)
            and fa.fa_tos == tos
            and (scope is None or fi.fib_scope == scope)
            and (not prefsrc or fi.fib_prefsrc == prefsrc)
            and (priority is None or fi.fib_priority == priority)
            and (not nhid or (fi.fib_nhobj is not None and fi.fib_nhobj.id == nhid))
            and fib_nh_match(fi, dev, gw, gw6, hops)
            and fib_metrics_match(fi.fib_metrics, metrics)
        ):
            tb.remove(fa)
            fib_changed(net)
            if net.rtnl is not None:
                net.rtnl(RTM_DELROUTE, fa, 0)
            return
    raise os_error(errno.ESRCH, "no such route")


def fib_changed(net: Net) -> None:
    """After a change of a table: drop the cached routes and what was learned from ICMP."""
    net.fib.generation += 1
    rt_flush_exceptions(net)


def fib_table_flush(net: Net, tb: fib_table) -> int:
    """net/ipv4/fib_trie.c: drop dead routes; returns how many."""
    dead = [
        fa
        for fa in tb.aliases()
        if fa.fa_info.fib_dead
        or (fa.fa_info.fib_nh and all(n.nh_flags & uapi.RTNH_F_DEAD for n in fa.fa_info.fib_nh))
    ]
    for fa in dead:
        tb.remove(fa)
        if fa.fa_info.pfsrc_removed and net.rtnl is not None:
            net.rtnl(RTM_DELROUTE, fa, 0)
    return len(dead)


def fib_flush(net: Net) -> int:
    """net/ipv4/fib_frontend.c: fib_table_flush over all tables."""
    return sum(fib_table_flush(net, tb) for tb in net.fib.tables.values())


def parse_prefix(text: str) -> tuple[int, int]:
    """(address, prefix length) of "10.0.0.0/8", "10.1.2.3" (one host) or "default".

    Raises: ArgumentError (a ValueError), also for a network address without a length, which
    `ip route` would take as a single host.
    """
    if text == "default":
        return 0, 0
    addr, slash, plen = text.partition("/")
    value = parse_addr(addr)
    if not slash and not value & 0xFF:
        raise ArgumentError(f"prefix {text!r} has no length; write {text}/24, or /32 for one host")
    if slash and not (plen.isdecimal() and int(plen) <= 32):
        raise ArgumentError(f"prefix length {plen!r} in {text!r} is not between 0 and 32")
    length = int(plen) if slash else 32
    return value, length


def parse_addr(text: str) -> int:
    """Host-order int of a dotted quad. Raises: ArgumentError (a ValueError)."""
    parts = text.split(".") if isinstance(text, str) else []
    if len(parts) != 4 or not all(p.isdecimal() and int(p) < 256 for p in parts):
        raise ArgumentError(f"{text!r} is not an IPv4 address; write for instance 10.0.0.1")
    a, b, c, d = (int(p) for p in parts)
    return a << 24 | b << 16 | c << 8 | d


def format_addr(addr: int) -> str:
    """Dotted quad of a host-order int."""
    return f"{addr >> 24}.{addr >> 16 & 255}.{addr >> 8 & 255}.{addr & 255}"


def fib_valid_prefsrc(net: Net, table: int, prefsrc: int) -> bool:
    """net/ipv4/fib_semantics.c: whether a route may have this source, by the VRFs of both."""
    return uapi.RTN_LOCAL in (
        inet_addr_type_table(net, prefsrc, table),
        inet_addr_type(net, prefsrc),
    )


def ip_route_add(
    net: Net,
    prefix: str,
    *,
    via: str | None = None,
    dev: net_device | str | None = None,
    src: str | None = None,
    metric: int = 0,
    tos: int = 0,
    table: int = RT_TABLE_MAIN,
    rtype: int = uapi.RTN_UNICAST,
    onlink: bool = False,
    scope: int | None = None,
    protocol: int = uapi.RTPROT_BOOT,
    replace: bool = False,
    append: bool = False,
    nlflags: int = 0,
    nexthops: Sequence[tuple[Any, ...]] = (),
    nhobj: nexthop | None = None,
    **metrics: Any,
) -> None:
    """`ip route add`: fib_frontend.c's inet_rtm_newroute. `dev` is a net_device or its name.

    `nexthops`, in place of `via` and `dev`, are (gateway, device, weight) of a multipath route, or
    (gateway, device, weight, RTNH_F_ONLINK or 0). A gateway that is a number is one of IPv6.
    `nhobj` is an object in their place, which netlink/rt_route.py has checked. `nlflags`: those of
    a request (NLM_F_*) in place of `replace` and `append`. `metrics`: see stack/inet/metrics.py.

    Raises: OSError ENOENT, EEXIST, EINVAL, ENETUNREACH, ENODEV, ENETDOWN; ValueError for bad text.
    """
    dst, plen = parse_prefix(prefix)
    device = dev_named(net, dev)
    if scope is None:
        if rtype == uapi.RTN_LOCAL:
            scope = uapi.RT_SCOPE_HOST
        elif via or nexthops or nhobj or rtype in FIB_PROPS_ERROR:
            scope = uapi.RT_SCOPE_UNIVERSE
        else:
            scope = uapi.RT_SCOPE_LINK
    nhs: list[fib_nh] = []
    if nhobj is not None:
        nhs = fib_nexthops(nhobj)
    elif rtype not in FIB_PROPS_ERROR:
        flags = uapi.RTNH_F_ONLINK if onlink else 0
        for hop_gw, hop_dev, weight, *own_flags in nexthops or ((via, device, 1),):
            text = hop_gw if isinstance(hop_gw, str) else ""
            # A gateway may be given without a device (NULL); fib_check_nh finds the device.
            nh = fib_nh(
                dev_named(net, hop_dev),  # type: ignore[arg-type]
                parse_addr(text) if text else 0,
                weight,
                own_flags[0] if own_flags else flags,
            )
            if hop_gw and not isinstance(hop_gw, str):
                nh.nh_gw6 = hop_gw
            nhs.append(nh)
        if scope == uapi.RT_SCOPE_HOST:
            fib_check_local(nhs)
        else:
            for nh in nhs:
                fib_check_nh(net, nh, scope, table)
    prefsrc = parse_addr(src) if src else 0
    checked = nhobj is not None or rtype not in FIB_PROPS_ERROR
    if prefsrc and checked and not fib_valid_prefsrc(net, table, prefsrc):
        raise ExtAckError(errno.EINVAL, "Invalid prefsrc address")
    info = fib_info(
        nhs,
        rtype=rtype,
        scope=scope,
        protocol=protocol,
        prefsrc=prefsrc,
        priority=metric,
        metrics=ip_metrics_convert(net, metrics),
        nhobj=nhobj,
    )
    tb = fib_get_table(net, table)
    if not nlflags:
        nlflags = nlflags_of(replace, append)
    fib_table_insert(net, tb, dst, plen, info, tos=tos, flags=nlflags)


def ip_route_del(
    net: Net,
    prefix: str,
    *,
    via: str | None = None,
    dev: net_device | str | None = None,
    metric: int | None = None,
    tos: int = 0,
    table: int = RT_TABLE_MAIN,
) -> None:
    """`ip route del`. Raises: OSError ESRCH; ValueError for bad text."""
    dst, plen = parse_prefix(prefix)
    fib_table_delete(
        net,
        fib_get_table(net, table),
        dst,
        plen,
        dev=dev_named(net, dev),
        gw=parse_addr(via) if via else None,
        tos=tos,
        priority=metric,
    )


def fib_dump(net: Net, table: int | None = RT_TABLE_MAIN) -> list[dict[str, Any]]:
    """Rows for /proc/net/route: one dict per route, with its first next hop."""
    rows = []
    for tb in net.fib.tables.values():
        if table is not None and tb.tb_id != table:
            continue
        for fa in tb.aliases():
            fi = fa.fa_info
            nh = fi.fib_nh[0] if fi.fib_nh else None
            rows.append(
                {
                    "dst": fa.fa_dst,
                    "plen": fa.fa_plen,
                    "type": fa.fa_type,
                    "scope": fi.fib_scope,
                    "metric": fi.fib_priority,
                    "gw": nh.nh_gw if nh else 0,
                    "gw6": nh.nh_gw6 if nh else 0,
                    "dev": nh.nh_dev.name if nh else "",
                    "metrics": fi.fib_metrics,
                }
            )
    return rows


# --- what addresses and devices do ---------------------------------------------------------


def fib_magic(
    net: Net, add: bool, rtype: int, dst: int, plen: int, ifa: in_ifaddr, metric: int = 0
) -> None:
    """net/ipv4/fib_frontend.c: add or remove one automatic route of an address. Does not raise."""
    dev = ifa.ifa_dev.dev
    usual = RT_TABLE_MAIN if rtype == uapi.RTN_UNICAST else RT_TABLE_LOCAL
    tb = fib_get_table(net, l3mdev_fib_table(dev) or usual)
    scope = uapi.RT_SCOPE_HOST if rtype == uapi.RTN_LOCAL else uapi.RT_SCOPE_LINK
    own = rtype == uapi.RTN_LOCAL and dst == ifa.ifa_local
    if add and not own and not fib_valid_prefsrc(net, tb.tb_id, ifa.ifa_local):
        return  # the address is another one's broadcast address
    with contextlib.suppress(OSError):
        if add:
            nh = fib_nh(dev)
            if rtype == uapi.RTN_LOCAL:
                nh.nh_scope = uapi.RT_SCOPE_NOWHERE
            info = fib_info(
                [nh],
                rtype=rtype,
                scope=scope,
                protocol=uapi.RTPROT_KERNEL,
                prefsrc=ifa.ifa_local,
                priority=metric,
            )
            fib_table_insert(net, tb, dst, plen, info, flags=NLM_F_CREATE | NLM_F_APPEND)
        else:
            fib_table_delete(
                net,
                tb,
                dst,
                plen,
                rtype=rtype,
                dev=dev,
                prefsrc=ifa.ifa_local,
                priority=metric or None,
                scope=scope,
            )


def _ifa_broadcast(ifa: in_ifaddr) -> int:
    """The highest address of a subnet. Since Linux 5.14 the lowest is an ordinary address."""
    return ifa.ifa_address | ~ifa.ifa_mask & 0xFFFFFFFF


def _ifa_subnet(ifa: in_ifaddr) -> int | None:
    """The subnet that a primary address has routes for; None for instance for a /32."""
    prefix = ifa.ifa_address & ifa.ifa_mask
    if ifa.ifa_flags & IFA_F_SECONDARY or not prefix:
        return None
    return None if prefix == ifa.ifa_local and ifa.ifa_prefixlen == 32 else prefix


def _ifa_rtype(ifa: in_ifaddr) -> int:
    loopback = ifa.ifa_dev.dev.flags & netdevice.IFF_LOOPBACK
    return uapi.RTN_LOCAL if loopback else uapi.RTN_UNICAST


def fib_add_ifaddr(ifa: in_ifaddr) -> None:
    """net/ipv4/fib_frontend.c: the local, broadcast and prefix routes of a new address.

    Those of a secondary address have its primary as source. While the interface is down, only the
    local route is added.
    """
    dev, plen = ifa.ifa_dev.dev, ifa.ifa_prefixlen
    net = dev.net
    prim: in_ifaddr | None = ifa
    if ifa.ifa_flags & IFA_F_SECONDARY:
        prim = inet_ifa_byprefix(ifa.ifa_dev, ifa.ifa_address, ifa.ifa_mask)
    if prim is None:
        return
    fib_magic(net, True, uapi.RTN_LOCAL, ifa.ifa_local, 32, prim)
    if not dev.flags & netdevice.IFF_UP:
        return
    if ifa.ifa_broadcast and ifa.ifa_broadcast != 0xFFFFFFFF:
        fib_magic(net, True, uapi.RTN_BROADCAST, ifa.ifa_broadcast, 32, prim)
        arp_invalidate(dev, ifa.ifa_broadcast)
    prefix = _ifa_subnet(ifa)
    if prefix is None:
        return
    if not ifa.ifa_flags & IFA_F_NOPREFIXROUTE:
        fib_magic(net, True, _ifa_rtype(ifa), prefix, plen, prim, ifa.ifa_rt_priority)
    if plen < 31:
        fib_magic(net, True, uapi.RTN_BROADCAST, _ifa_broadcast(ifa), 32, prim)
        arp_invalidate(dev, _ifa_broadcast(ifa))


def arp_invalidate(dev: net_device, ip: int) -> None:
    """net/ipv4/arp.c: forget a neighbour that did not answer; here, what becomes a broadcast."""
    n = dev.net.arp_tbl.hash.get(neigh_key(dev, ip))
    if n is not None and not n.nud_state & uapi.NUD_VALID:
        neigh_remove_one(n)


def fib_del_ifaddr(ifa: in_ifaddr, iprim: in_ifaddr | None = None) -> None:
    """net/ipv4/fib_frontend.c: undo fib_add_ifaddr, except for routes that other addresses need.

    `iprim` is a primary address that is removed while its secondary `ifa` stays (promotion).
    """
    in_dev, dev = ifa.ifa_dev, ifa.ifa_dev.dev
    net = dev.net
    prim: in_ifaddr | None = ifa
    prefix = _ifa_subnet(ifa)
    if ifa.ifa_flags & IFA_F_SECONDARY:
        prim = inet_ifa_byprefix(in_dev, ifa.ifa_address, ifa.ifa_mask)
    elif prefix is not None and not ifa.ifa_flags & IFA_F_NOPREFIXROUTE:
        fib_magic(net, False, _ifa_rtype(ifa), prefix, ifa.ifa_prefixlen, ifa)
    if prim is None:
        return
    local, broadcasts = False, set()
    for other in () if in_dev.dead else in_dev.ifa_list:
        first = other
        if other is ifa or (iprim is not None and _same_subnet(other, iprim)):
            continue
        if other.ifa_flags & IFA_F_SECONDARY:
            found = inet_ifa_byprefix(in_dev, other.ifa_address, other.ifa_mask)
            first = prim if _same_subnet(other, prim) else found or other
        if first.ifa_local != prim.ifa_local:
            continue  # its routes have another source
        local = local or other.ifa_local == ifa.ifa_local
        broadcasts.add(other.ifa_broadcast)
        if first is other and other.ifa_prefixlen < 31:
            # The lowest address is kept, too, although it has no route since Linux 5.14.
            broadcasts |= {_ifa_broadcast(other), other.ifa_address & other.ifa_mask}
    own = [ifa.ifa_broadcast]
    if prefix is not None and ifa.ifa_prefixlen < 31:
        own.append(_ifa_broadcast(ifa))
    for addr in own:
        if addr not in broadcasts:
            fib_magic(net, False, uapi.RTN_BROADCAST, addr, 32, prim)
    if local:
        return
    fib_magic(net, False, uapi.RTN_LOCAL, ifa.ifa_local, 32, prim)
    kind = inet_addr_type_dev_table(net, dev, ifa.ifa_local)
    gone = in_dev.dead or ifa not in in_dev.ifa_list
    if gone and kind != uapi.RTN_LOCAL and fib_sync_down_addr(dev, ifa.ifa_local):
        fib_flush(net)
        fib_changed(net)


def _same_subnet(one: in_ifaddr, other: in_ifaddr) -> bool:
    return one.ifa_mask == other.ifa_mask and inet_ifa_match(one.ifa_address, other)


def fib_modify_prefix_metric(ifa: in_ifaddr, new_metric: int) -> None:
    """net/ipv4/fib_frontend.c: change the metric of the subnet's route."""
    dev, prefix = ifa.ifa_dev.dev, _ifa_subnet(ifa)
    if not dev.flags & netdevice.IFF_UP or prefix is None or ifa.ifa_flags & IFA_F_NOPREFIXROUTE:
        return
    rtype, old = _ifa_rtype(ifa), ifa.ifa_rt_priority
    fib_magic(dev.net, True, rtype, prefix, ifa.ifa_prefixlen, ifa, new_metric)
    fib_magic(dev.net, False, rtype, prefix, ifa.ifa_prefixlen, ifa, old)


def fib_sync_down_addr(dev: net_device, local: int) -> int:
    """net/ipv4/fib_semantics.c: mark routes dead whose preferred source was removed; how many.

    It affects routes of the main table, or of the VRF's (fib_info.fib_tb_id).
    """
    n = 0
    for fa in fib_get_table(dev.net, l3mdev_fib_table(dev) or RT_TABLE_MAIN).aliases():
        if fa.fa_info.fib_prefsrc == local:
            fa.fa_info.fib_dead = fa.fa_info.pfsrc_removed = True
            n += 1
    return n


def fib_sync_down_dev(dev: net_device, flags: int, *, force: bool) -> int:
    """net/ipv4/fib_semantics.c: set RTNH_F_DEAD or RTNH_F_LINKDOWN of next hops over `dev`.

    Those of local addresses only with `force`: they are reachable while the interface is down.
    Returns how many next hops it marked.
    """
    n = 0
    for fi in _routes_over(dev):
        dead = 0
        for nh in fi.fib_nh:
            if nh.nh_flags & uapi.RTNH_F_DEAD:
                dead += 1
            elif nh.nh_dev is dev and (force or nh.nh_scope != uapi.RT_SCOPE_NOWHERE):
                nh.nh_flags |= flags
                dead += 1
                n += 1
        if dead == len(fi.fib_nh):
            fi.fib_flags |= flags
    return n


def _routes_over(dev: net_device) -> Iterator[fib_info]:
    for tb in dev.net.fib.tables.values():
        for fa in tb.aliases():
            if any(nh.nh_dev is dev for nh in fa.fa_info.fib_nh):
                yield fa.fa_info


def fib_sync_up(dev: net_device, flags: int) -> None:
    """net/ipv4/fib_semantics.c: next hops over `dev` lose RTNH_F_DEAD or RTNH_F_LINKDOWN.

    The latter with the former, if there is a carrier.
    """
    if flags & uapi.RTNH_F_DEAD and netif_carrier_ok(dev):
        flags |= uapi.RTNH_F_LINKDOWN
    for fi in _routes_over(dev):
        for nh in fi.fib_nh:
            if nh.nh_dev is dev:
                nh.nh_flags &= ~flags
        fi.fib_flags &= ~flags


def fib_disable_ip(dev: net_device, *, force: bool = True) -> None:
    """net/ipv4/fib_frontend.c: the device went down; its routes go, local ones with `force`."""
    if fib_sync_down_dev(dev, uapi.RTNH_F_DEAD | uapi.RTNH_F_LINKDOWN, force=force):
        fib_flush(dev.net)
    fib_changed(dev.net)


def fib_inetaddr_event(event: int, ifa: in_ifaddr) -> None:
    """net/ipv4/fib_frontend.c: NETDEV_UP = address added, NETDEV_DOWN = address removed."""
    if event == netdevice.NETDEV_UP:
        fib_add_ifaddr(ifa)
    elif event == netdevice.NETDEV_DOWN:
        fib_del_ifaddr(ifa)
        if not ifa.ifa_dev.ifa_list:
            fib_disable_ip(ifa.ifa_dev.dev)
    fib_changed(ifa.ifa_dev.dev.net)


def fib_netdev_event(event: int, dev: net_device) -> None:
    """net/ipv4/fib_frontend.c: update routes when a device's state changes."""
    in_dev = dev.ip_ptr
    if event == netdevice.NETDEV_UNREGISTER:
        for tb in dev.net.fib.tables.values():
            for fa in tb.aliases():  # also those with other next hops
                if fa.fa_info.fib_nhobj is None and any(
                    nh.nh_dev is dev for nh in fa.fa_info.fib_nh
                ):
                    fa.fa_info.fib_dead = True
        fib_disable_ip(dev)
    elif in_dev is None:
        return
    elif event == netdevice.NETDEV_UP:
        for ifa in in_dev.ifa_list:
            fib_add_ifaddr(ifa)
        fib_sync_up(dev, uapi.RTNH_F_DEAD)
        fib_changed(dev.net)
    elif event == netdevice.NETDEV_DOWN:
        fib_disable_ip(dev, force=False)
    elif event == netdevice.NETDEV_CHANGE:
        if netif_carrier_ok(dev):
            fib_sync_up(dev, uapi.RTNH_F_LINKDOWN)
        else:
            fib_sync_down_dev(dev, uapi.RTNH_F_LINKDOWN, force=False)
        fib_changed(dev.net)
    elif event in (netdevice.NETDEV_CHANGEMTU, netdevice.NETDEV_CHANGEADDR):
        fib_changed(dev.net)


def ip_fib_init(net: Net) -> None:
    """net/ipv4/fib_frontend.c: track addresses and devices, including existing ones."""
    register_inetaddr_notifier(net, fib_inetaddr_event)
    register_netdevice_notifier(net, fib_netdev_event)
