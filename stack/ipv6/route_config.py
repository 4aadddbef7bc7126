"""Configured routes, `ip -6 route` (net/ipv6/route.c inet6_rtm_newroute, ip6_route_info_create)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from fastpath.errors import ArgumentError, whole_number
from stack.core import uapi
from stack.core.dev import dev_named
from stack.core.dst import RTAX_CC_ALGO
from stack.core.errors import os_error
from stack.core.extack import ExtAckError
from stack.core.fib_rules import LAST_ID
from stack.core.netdevice import IFF_LOOPBACK, IFF_UP, net_device
from stack.core.rows import wide
from stack.core.rtnetlink import nlflags_of
from stack.core.uapi import NLM_F_CREATE, NLM_F_REPLACE
from stack.inet.metrics import ip_metrics_convert
from stack.inet.tcp_cong import tcp_ca_get_name_by_key
from stack.ipv6 import ip6_fib
from stack.ipv6.addr import (
    IPV6_ADDR_LINKLOCAL,
    IPV6_ADDR_MAPPED,
    IPV6_ADDR_UNICAST,
    MASKS6,
    ipv6_addr_type,
    parse_addr6,
    parse_prefix6,
)
from stack.ipv6.if_inet6 import inet6_dev, ipv6_chk_addr
from stack.ipv6.ip6_fib import (
    FIB6_TYPE_ERROR,
    fib6_add,
    fib6_bind,
    fib6_del,
    fib6_get_table,
    fib6_info,
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


def _reached_by(
    net: Net, gw: wide, dev: net_device | None, onlink: bool, table: int = ip6_fib.RT6_TABLE_MAIN
) -> net_device:
    """The device that reaches a gateway.

    Raises: OSError EINVAL, ENODEV, EHOSTUNREACH.
    """
    kind = ipv6_addr_type(gw)
    if ipv6_chk_addr(net, gw, dev if kind & IPV6_ADDR_LINKLOCAL else None, False):
        raise ExtAckError(errno.EINVAL, "Gateway can not be a local address")
    if kind == IPV6_ADDR_LINKLOCAL | IPV6_ADDR_UNICAST:
        if dev is None:
            raise ExtAckError(errno.EINVAL, "Egress device not specified")
        return dev
    if not kind & (IPV6_ADDR_UNICAST | IPV6_ADDR_MAPPED):
        raise os_error(errno.EINVAL, "the gateway is not a unicast address")
    if onlink:
        if dev is None:
            raise os_error(errno.ENODEV, "onlink needs a device")
        return dev
    oif = dev.ifindex if dev is not None else 0
    strict = ip6_fib.RT6_LOOKUP_F_IGNORE_LINKSTATE | (ip6_fib.RT6_LOOKUP_F_IFACE if oif else 0)
    tb = net.ipv6.fib6.tables.get(table) if table != ip6_fib.RT6_TABLE_MAIN else None
    own = fib6_table_lookup(net, tb, gw, oif, strict) if tb is not None else None
    for f6i in (own, fib6_lookup(net, gw, oif, strict)):
        if f6i is not None and not f6i.fib6_flags & uapi.RTF_REJECT and not f6i.fib6_nh.fib_nh_gw6:
            return f6i.fib6_nh.fib_nh_dev
    raise os_error(errno.EHOSTUNREACH, "the gateway is not on a link of this host")


def ip6_validate_gw(
    net: Net, gw: wide, dev: net_device | None, onlink: bool, table: int = ip6_fib.RT6_TABLE_MAIN
) -> net_device:
    """net/ipv6/route.c: check that `gw` can be a next hop; returns the device that reaches it.

    Raises: OSError EINVAL, ENODEV, EHOSTUNREACH.
    """
    found = _reached_by(net, gw, dev, onlink, table)
    if found.flags & IFF_LOOPBACK:
        text = "Egress device can not be loopback device for this route"
        raise ExtAckError(errno.EINVAL, text)
    return found


def fib6_nh_init(
    net: Net, gw: wide, dev: net_device | None, onlink: bool, table: int, reject: bool
) -> net_device:
    """net/ipv6/route.c: check a next hop; returns its device. `reject`: of a route to an error.

    Raises: OSError EINVAL, EHOSTUNREACH, ENODEV, ENETDOWN, EACCES (IPv6 is off on the device).
    """
    if onlink:
        if dev is None:
            raise ExtAckError(errno.ENODEV, "Nexthop device required for onlink")
        if not dev.flags & IFF_UP:
            raise ExtAckError(errno.ENETDOWN, "Nexthop device is not up")
    if reject:
        dev = net.loopback_dev
    elif gw:
        dev = ip6_validate_gw(net, gw, dev, onlink, table)
    if dev is None:
        raise os_error(errno.ENODEV, "a route needs a device or a gateway")
    idev: inet6_dev | None = dev.ip6_ptr
    if idev is None:
        raise os_error(errno.ENODEV, f"{dev.name} has no IPv6")
    if idev.cnf.disable_ipv6:
        raise os_error(errno.EACCES, f"IPv6 is disabled on {dev.name}")
    if not dev.flags & IFF_UP:
        raise os_error(errno.ENETDOWN, f"{dev.name} is down")
    return dev


def ip6_route_add(
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
    replace: bool = False,
    append: bool = False,
    nlflags: int = 0,
    tell: bool = True,
    nhobj: nexthop | None = None,
    **metrics: Any,
) -> fib6_info:
    """`ip -6 route add`, or `replace`, or `append`; `nlflags`: of a request (NLM_F_*).

    An appended route over another gateway shares the traffic. `tell`: monitors are notified.
    `nhobj`: an object in place of `via` and `dev`, which netlink/rt_route.py has checked.
    `metrics`: see stack/inet/metrics.py.

    Raises: OSError EEXIST, EINVAL, EHOSTUNREACH, ENODEV, ENETDOWN, EACCES (IPv6 is off on the
    device); ArgumentError for bad text.
    """
    dst, plen = parse_prefix6(prefix)
    whole_number("route", "table", table, 1, LAST_ID)
    if pref not in PREFERENCES:
        raise ArgumentError(f"pref {pref!r}: write one of {', '.join(PREFERENCES)}")
    device = dev_named(net, dev)
    flags = uapi.RTF_UP | rtf_pref(PREFERENCES[pref])
    if rtype == uapi.RTN_LOCAL:
        flags |= ip6_fib.RTF_LOCAL
    gw = parse_addr6(via) if via else 0
    reject = rtype in FIB6_TYPE_ERROR and nhobj is None
    if nhobj is not None:
        device, gw = nhobj.hops()[0][0].dev, 0
    elif reject:
        flags = uapi.RTF_REJECT | ip6_fib.RTF_NONEXTHOP
    elif gw:
        flags |= uapi.RTF_GATEWAY
    device = fib6_nh_init(net, gw, device, onlink, table, reject)
    if reject:
        gw = 0
    prefsrc = parse_addr6(src) if src else 0
    if prefsrc and not ipv6_chk_addr(net, prefsrc, device, False):
        raise ExtAckError(errno.EINVAL, "Invalid source address")
    rt = fib6_info(
        fib6_get_table(net, table),
        dst,
        plen,
        fib6_nh(device, gw, weight),
        rtype=rtype,
        flags=flags,
        metric=metric or ip6_fib.IP6_RT_PRIO_USER,
        protocol=protocol,
        prefsrc=prefsrc,
        metrics=ip_metrics_convert(net, metrics),
    )
    if nhobj is not None:
        fib6_bind(rt, nhobj)
    elif onlink:
        rt.fib6_nh.fib_nh_flags |= uapi.RTNH_F_ONLINK
    if not nlflags:
        nlflags = nlflags_of(replace, append)
    changes = nlflags & NLM_F_REPLACE and not nlflags & NLM_F_CREATE
    if changes and plen and not rt.fib6_table.leaf(dst, plen):
        raise ExtAckError(errno.ENOENT, "Can not replace route - no match found")
    fib6_add(net, rt, nlflags, tell=tell)
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


def fib6_walk(tb: ip6_fib.fib6_table) -> list[fib6_info]:
    """net/ipv6/ip6_fib.c: a table's routes by address, what is in a prefix before it."""
    return sorted(tb.routes(), key=_behind_its_parts)


def _behind_its_parts(rt: fib6_info) -> tuple[wide, int]:
    return rt.fib6_dst | ~MASKS6[rt.fib6_plen] & MASKS6[128], -rt.fib6_plen


def fib6_dump(net: Net, table: int | None = ip6_fib.RT6_TABLE_MAIN) -> list[dict[str, object]]:
    """Rows for `ip -6 route` and /proc/net/ipv6_route: one dict per route. None: all tables."""
    rows: list[dict[str, object]] = []
    for tb in net.ipv6.fib6.tables.values():
        if table is not None and tb.tb6_id != table:
            continue
        for rt in fib6_walk(tb):
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
