"""Configured routes, `ip -6 route` (net/ipv6/route.c inet6_rtm_newroute, ip6_route_info_create).

    ip6_route_add => ip6_route_info_create => fib6_nh_init => ip6_validate_gw
                  => ip6_ins_rt => fib6_add

netlink/rt_route.py makes all routes of a request with several gateways by ip6_route_info_create
before it inserts the first. An IPv4 route over a gateway of IPv6 has its device from fib6_gw_init,
through `net.ipv6.gw6_init`. No state is kept here: routes are in the tables of ip6_fib.py. Read
ip6_route_info_create first.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, TypeGuard

from fastpath.errors import ArgumentError, whole_number
from stack.core import uapi
from stack.core.dev import dev_named
from stack.core.dst import RTAX_CC_ALGO
from stack.core.errors import os_error
from stack.core.extack import ExtAckError
from stack.core.fib_rules import LAST_ID
from stack.core.l3mdev import l3mdev_fib_table
from stack.core.netdevice import IFF_LOOPBACK, IFF_UP, net_device
from stack.core.rows import wide
from stack.core.rtnetlink import nlflags_of
from stack.core.time64 import NSEC_PER_SEC
from stack.core.uapi import NLM_F_CREATE, NLM_F_REPLACE
from stack.inet.metrics import ip_metrics_convert
from stack.inet.tcp_cong import tcp_ca_get_name_by_key
from stack.ipv6 import ip6_fib
from stack.ipv6.addr import (
    IPV6_ADDR_LINKLOCAL,
    IPV6_ADDR_MAPPED,
    IPV6_ADDR_UNICAST,
    ipv6_addr_type,
    parse_addr6,
    parse_prefix6,
)
from stack.ipv6.if_inet6 import inet6_dev, ipv6_chk_addr, ipv6_chk_addr_and_flags
from stack.ipv6.ip6_fib import (
    FIB6_TYPE_ERROR,
    fib6_add,
    fib6_bind,
    fib6_del,
    fib6_get_table,
    fib6_info,
    fib6_is_reject,
    fib6_lookup,
    fib6_nh,
    fib6_table_lookup,
)
from stack.ipv6.nd_options import (
    ICMPV6_ROUTER_PREF_HIGH,
    ICMPV6_ROUTER_PREF_LOW,
    ICMPV6_ROUTER_PREF_MEDIUM,
)
from stack.ipv6.route_learned import rtf_pref

if TYPE_CHECKING:
    from stack.net import Net
    from stack.netlink.nexthop import nexthop

PREFERENCES = {
    "low": ICMPV6_ROUTER_PREF_LOW,
    "medium": ICMPV6_ROUTER_PREF_MEDIUM,
    "high": ICMPV6_ROUTER_PREF_HIGH,
}


def ip6_route_check_nh_onlink(net: Net, gw: wide, dev: net_device) -> None:
    """net/ipv6/route.c: check a gateway that the user says is on the link of `dev` ("onlink").

    A route to it, other than the default route, must not contradict. Raises: OSError EINVAL.
    """
    tb = net.ipv6.fib6.tables.get(l3mdev_fib_table(dev) or ip6_fib.RT6_TABLE_MAIN)
    strict = ip6_fib.RT6_LOOKUP_F_IGNORE_LINKSTATE
    f6i = fib6_table_lookup(net, tb, gw, dev.ifindex, strict) if tb is not None else None
    if f6i is None or not f6i.fib6_dst or f6i.fib6_flags & uapi.RTF_REJECT:
        return
    if f6i.fib6_flags & (ip6_fib.RTF_LOCAL | ip6_fib.RTF_ANYCAST) or (
        f6i.fib6_nh.fib_nh_dev is not dev
    ):
        text = "Nexthop has invalid gateway or device mismatch"
        raise ExtAckError(errno.EINVAL, text)


def ip6_route_check_nh(net: Net, gw: wide, dev: net_device | None, table: int) -> net_device:
    """net/ipv6/route.c: the device that reaches a gateway by the route's table, or by the rules.

    Raises: OSError EHOSTUNREACH.
    """
    oif, strict = dev.ifindex if dev is not None else 0, ip6_fib.RT6_LOOKUP_F_IFACE
    tb = net.ipv6.fib6.tables.get(table)
    if tb is not None:
        ignore = strict | ip6_fib.RT6_LOOKUP_F_IGNORE_LINKSTATE
        own = fib6_table_lookup(net, tb, gw, oif, ignore)
        if _on_link(own) and (dev is None or own.fib6_nh.fib_nh_dev is dev):
            return own.fib6_nh.fib_nh_dev
    f6i = fib6_lookup(net, gw, oif, strict)
    if not _on_link(f6i) or (dev is not None and f6i.fib6_nh.fib_nh_dev is not dev):
        raise os_error(errno.EHOSTUNREACH, "the gateway is not on a link of this host")
    return f6i.fib6_nh.fib_nh_dev


def _on_link(f6i: fib6_info | None) -> TypeGuard[fib6_info]:
    """Whether a lookup found a usable route without a gateway."""
    return f6i is not None and not f6i.fib6_flags & uapi.RTF_REJECT and not f6i.fib6_nh.fib_nh_gw6


def ip6_validate_gw(
    net: Net, gw: wide, dev: net_device | None, onlink: bool, table: int = ip6_fib.RT6_TABLE_MAIN
) -> net_device:
    """net/ipv6/route.c: check that `gw` can be a next hop; returns the device that reaches it.

    Raises: OSError EINVAL, EHOSTUNREACH.
    """
    kind = ipv6_addr_type(gw)
    asked = dev
    if dev is not None:
        refuse_local(net, gw, kind, dev)
    if kind != IPV6_ADDR_LINKLOCAL | IPV6_ADDR_UNICAST:
        if not kind & (IPV6_ADDR_UNICAST | IPV6_ADDR_MAPPED):
            raise ExtAckError(errno.EINVAL, "Invalid gateway address")
        if onlink and dev is not None:
            ip6_route_check_nh_onlink(net, gw, dev)
        else:
            dev = ip6_route_check_nh(net, gw, dev, table)
    if dev is None:
        raise ExtAckError(errno.EINVAL, "Egress device not specified")
    if dev.flags & IFF_LOOPBACK:
        text = "Egress device can not be loopback device for this route"
        raise ExtAckError(errno.EINVAL, text)
    if asked is None:
        refuse_local(net, gw, kind, dev)
    return dev


def refuse_local(net: Net, gw: wide, kind: int, dev: net_device) -> None:
    """Refuse a gateway that is our own address; a link-local one must be of `dev`.

    Raises: OSError EINVAL.
    """
    if ipv6_chk_addr_and_flags(net, gw, dev, not kind & IPV6_ADDR_LINKLOCAL, False, 0) is not None:
        raise ExtAckError(errno.EINVAL, "Gateway can not be a local address")


def fib6_nh_init(
    net: Net,
    dst: wide,
    gw: wide,
    dev: net_device | None,
    flags: int,
    onlink: bool,
    table: int,
    weight: int = 1,
) -> fib6_nh:
    """net/ipv6/route.c: the next hop of a route to `dst`, which has `flags` (RTF_*).

    Raises: OSError EINVAL, EHOSTUNREACH, ENODEV, ENETDOWN, EACCES (IPv6 is off on the device).
    """
    if dev is not None and dev.ip6_ptr is None:
        raise os_error(errno.ENODEV, f"{dev.name} has no IPv6")
    if onlink:
        if dev is None:
            raise ExtAckError(errno.ENODEV, "Nexthop device required for onlink")
        if not dev.flags & IFF_UP:
            raise ExtAckError(errno.ENETDOWN, "Nexthop device is not up")
    reject = fib6_is_reject(flags, dev, dst)
    if reject:
        dev, gw = net.loopback_dev, 0
    elif flags & uapi.RTF_GATEWAY:
        dev = ip6_validate_gw(net, gw, dev, onlink, table)
    if dev is None:
        raise os_error(errno.ENODEV, "a route needs a device or a gateway")
    idev: inet6_dev | None = dev.ip6_ptr
    if not reject and (idev is None or idev.cnf.disable_ipv6):
        raise ExtAckError(errno.EACCES, "IPv6 is disabled on nexthop device")
    if not reject and not dev.flags & IFF_UP:
        raise ExtAckError(errno.ENETDOWN, "Nexthop device is not up")
    nh = fib6_nh(dev, gw, weight)
    nh.fib_nh_flags = uapi.RTNH_F_ONLINK if onlink else 0
    return nh


def fib6_gw_init(
    net: Net, gw: wide, dev: net_device | None, onlink: bool, table: int
) -> net_device:
    """net/ipv4/fib_semantics.c fib_check_nh_v6_gw: the device to a gateway of an IPv4 route.

    Raises: as fib6_nh_init.
    """
    return fib6_nh_init(net, 0, gw, dev, uapi.RTF_GATEWAY, onlink, table).fib_nh_dev


def ip6_route_add(
    net: Net,
    prefix: str,
    *,
    replace: bool = False,
    append: bool = False,
    nlflags: int = 0,
    **words: Any,
) -> fib6_info:
    """`ip -6 route add`, or `replace`, or `append`; `nlflags`: of a request (NLM_F_*).

    An appended route over another gateway shares the traffic. `words`: those of
    ip6_route_info_create. Raises: OSError EEXIST, and as ip6_route_info_create.
    """
    rt = ip6_route_info_create(net, prefix, **words)
    ip6_ins_rt(net, rt, nlflags or nlflags_of(replace, append))
    return rt


def ip6_ins_rt(net: Net, rt: fib6_info, nlflags: int, *, tell: bool = True) -> None:
    """net/ipv6/route.c __ip6_ins_rt: insert a route, as fib6_add. `tell`: notify monitors.

    Raises: OSError EEXIST, ENOENT. To replace a default route, none has to exist.
    """
    changes = nlflags & NLM_F_REPLACE and not nlflags & NLM_F_CREATE
    if changes and rt.fib6_plen and not rt.fib6_table.leaf(rt.fib6_dst, rt.fib6_plen):
        raise ExtAckError(errno.ENOENT, "Can not replace route - no match found")
    fib6_add(net, rt, nlflags, tell=tell)


def ip6_route_info_create(
    net: Net,
    prefix: str,
    *,
    via: str | None = None,
    dev: net_device | str | None = None,
    src: str | None = None,
    metric: int = 0,
    table: int = ip6_fib.RT6_TABLE_MAIN,
    rtype: int = uapi.RTN_UNICAST,
    onlink: bool = False,
    pref: str = "medium",
    weight: int = 1,
    protocol: int = uapi.RTPROT_BOOT,
    expires: int | None = None,
    nhobj: nexthop | None = None,
    **metrics: Any,
) -> fib6_info:
    """net/ipv6/route.c: a route that is in no table yet.

    `expires`: lifetime in s; None: no end. `nhobj`: an object in place of `via` and `dev`,
    which netlink/rt_route.py has checked. `metrics`: see stack/inet/metrics.py.

    Raises: OSError EINVAL, EHOSTUNREACH, ENODEV, ENETDOWN, EACCES (IPv6 is off on the device);
    ArgumentError for bad text.
    """
    dst, plen = parse_prefix6(prefix)
    whole_number("route", "table", table, 1, LAST_ID)
    if pref not in PREFERENCES:
        raise ArgumentError(f"pref {pref!r}: write one of {', '.join(PREFERENCES)}")
    device = dev_named(net, dev)
    flags = uapi.RTF_UP | rtf_pref(PREFERENCES[pref])
    flags |= uapi.RTF_REJECT if rtype in FIB6_TYPE_ERROR else 0
    flags |= ip6_fib.RTF_LOCAL if rtype == uapi.RTN_LOCAL else 0
    flags |= uapi.RTF_GATEWAY if via else 0
    tb = fib6_get_table(net, table)
    given = ip_metrics_convert(net, metrics)
    if nhobj is not None:
        first = nhobj.hops()[0][0].dev
        assert first is not None
        nh = fib6_nh(first)
    else:
        gw = parse_addr6(via) if via else 0
        nh = fib6_nh_init(net, dst, gw, device, flags, onlink, table, weight)
        if fib6_is_reject(flags, nh.fib_nh_dev, dst):
            flags = uapi.RTF_REJECT | ip6_fib.RTF_NONEXTHOP
    prefsrc = parse_addr6(src) if src else 0
    if prefsrc and not ipv6_chk_addr(net, prefsrc, nh.fib_nh_dev, False):
        raise ExtAckError(errno.EINVAL, "Invalid source address")
    rt = fib6_info(
        tb,
        dst,
        plen,
        nh,
        rtype=rtype,
        flags=flags,
        metric=metric or ip6_fib.IP6_RT_PRIO_USER,
        protocol=protocol,
        prefsrc=prefsrc,
        metrics=given,
    )
    if expires is not None and not flags & uapi.RTF_REJECT:
        rt.fib6_flags |= ip6_fib.RTF_EXPIRES
        rt.expires = net.clock.now_ns() + expires * NSEC_PER_SEC
    if nhobj is not None:
        fib6_bind(rt, nhobj)
    return rt


def ip6_route_del(
    net: Net,
    prefix: str,
    *,
    via: str | None = None,
    dev: net_device | str | None = None,
    metric: int | None = None,
    table: int = ip6_fib.RT6_TABLE_MAIN,
) -> None:
    """`ip -6 route del`. Raises: OSError ESRCH; ArgumentError for bad text."""
    dst, plen = parse_prefix6(prefix)
    whole_number("route", "table", table, 1, LAST_ID)
    device = dev_named(net, dev)
    gw = parse_addr6(via) if via else None
    for rt in tuple(fib6_get_table(net, table).leaf(dst, plen)):
        nh = rt.fib6_nh
        if (
            (device is None or nh.fib_nh_dev is device)
            and (gw is None or nh.fib_nh_gw6 == gw)
            and (metric is None or rt.fib6_metric == metric)
        ):
            fib6_del(net, rt)
            return
    raise os_error(errno.ESRCH, f"no such route: {prefix}")


def fib6_dump(net: Net, table: int | None = ip6_fib.RT6_TABLE_MAIN) -> list[dict[str, object]]:
    """Rows for `ip -6 route` and /proc/net/ipv6_route: one dict per route. None: all tables."""
    rows: list[dict[str, object]] = []
    for tb in net.ipv6.fib6.tables.values():
        if table is not None and tb.tb6_id != table:
            continue
        for rt in tb.routes():
            nh = rt.fib6_nh
            rows.append(
                {
                    "table": tb.tb6_id,
                    "dst": rt.fib6_dst,
                    "plen": rt.fib6_plen,
                    "type": rt.fib6_type,
                    "protocol": rt.fib6_protocol,
                    "prefsrc": rt.fib6_prefsrc,
                    "metric": rt.fib6_metric,
                    "gw": nh.fib_nh_gw6,
                    "dev": nh.fib_nh_dev.name,
                    "mtu": rt.fib6_metrics.get("mtu", 0),
                    "congctl": tcp_ca_get_name_by_key(net, rt.fib6_metrics.get(RTAX_CC_ALGO, 0)),
                    "flags": rt.fib6_flags,
                    "expires": rt.expires,
                }
            )
    return rows
