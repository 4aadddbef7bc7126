"""RTM_GETROUTE of one destination: `ip route get` (net/ipv4/route.c, net/ipv6/route.c)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from stack.core import uapi
from stack.core.rows import narrow, wide
from stack.inet.flow import flowi
from stack.ipv4.fib import RT_TABLE_MAIN, fib_lookup, fib_result
from stack.ipv4.route import ip_route_output_flow
from stack.ipv6.route import ip6_route_get_saddr, ip6_route_output
from stack.netlink.af_netlink import netlink_reply
from stack.netlink.netlink_sock import NLMSG_HDRLEN, nlmsg
from stack.netlink.nlattr import DEPRECATED_STRICT, LIBERAL, Attrs, NlError
from stack.netlink.rt_attrs import RTA4, RTA6, RTA_CACHE, RTMSG
from stack.netlink.rt_link import header
from stack.netlink.rt_route import (
    fib_dump_info,
    in6_prefix,
    metrics_fill,
    rt6_fill_node,
    rt_table,
)

if TYPE_CHECKING:
    from stack.net import Net

RTM_F_CLONED, RTM_F_LOOKUP_TABLE, RTM_F_FIB_MATCH = 0x200, 0x1000, 0x2000
KNOWN = (
    *("RTA_IIF", "RTA_OIF", "RTA_DST", "RTA_SRC", "RTA_MARK"),
    *("RTA_UID", "RTA_IP_PROTO", "RTA_SPORT", "RTA_DPORT"),
)


def getroute_attrs(nlh: nlmsg, v6: bool) -> tuple[Attrs, int, int]:
    """inet_rtm_valid_getroute_req: the attributes, TOS and flags. Raises: NlError EINVAL."""
    name = "ipv6" if v6 else "ipv4"
    most = 128 if v6 else 32
    table = RTA6 if v6 else RTA4
    values = header(nlh, RTMSG, f"{name}: Invalid header for route get request")
    _, dst, src, tos, tb_id, protocol, scope, kind, flags = values
    at = NLMSG_HDRLEN + RTMSG.size
    if not nlh.sk.strict_chk:
        return table.parse(nlh.whole, at, LIBERAL), tos, flags
    if dst not in (0, most) or src not in (0, most) or tb_id or protocol or scope or kind:
        raise NlError(errno.EINVAL, f"{name}: Invalid values in header for route get request")
    if flags & ~(RTM_F_LOOKUP_TABLE | RTM_F_FIB_MATCH | 0x100):
        raise NlError(errno.EINVAL, f"{name}: Unsupported rtm_flags for route get request")
    tb = table.parse(nlh.whole, at, DEPRECATED_STRICT)
    if ("RTA_SRC" in tb and not src) or ("RTA_DST" in tb and not dst):
        text = f"{name}: rtm_src_len and rtm_dst_len must be {most} for {'IPv6' if v6 else 'IPv4'}"
        raise NlError(errno.EINVAL, text)
    for attr in tb:
        if attr not in KNOWN:
            raise tb.wrong(attr, f"{name}: Unsupported attribute in route get request")
    return tb, tos, flags


def check_asked(net: Net, tb: Attrs, icmp: int) -> None:
    """What cannot be asked. Raises: NlError ENODEV, EOPNOTSUPP."""
    iif = tb.get("RTA_IIF")
    if iif and iif not in net.dev_by_index:
        raise NlError(errno.ENODEV)
    if iif:
        raise tb.wrong("RTA_IIF", "routes of what comes in are not told", errno.EOPNOTSUPP)
    if tb.get("RTA_IP_PROTO", uapi.IPPROTO_UDP) not in (uapi.IPPROTO_TCP, uapi.IPPROTO_UDP, icmp):
        raise tb.wrong("RTA_IP_PROTO", "Unsupported ip proto", errno.EOPNOTSUPP)


def inet_rtm_getroute(nlh: nlmsg) -> None:
    """net/ipv4/route.c: where a packet would go.

    Raises: NlError EOPNOTSUPP, how one that comes in would be routed; OSError of the lookup.
    """
    net = nlh.sk.net
    tb, tos, flags = getroute_attrs(nlh, False)
    check_asked(net, tb, uapi.IPPROTO_ICMP)
    oif, dst = tb.get("RTA_OIF", 0), tb.get("RTA_DST", 0)
    fl4 = flowi(uapi.AF_INET, dst, tb.get("RTA_SRC", 0), oif, tos)
    rt = ip_route_output_flow(net, fl4, None)
    res = fib_lookup(net, narrow(fl4.daddr), tos, 0, oif)
    found = res if isinstance(res, fib_result) and res.fi is not None else None
    if flags & RTM_F_FIB_MATCH:
        if found is None or found.table is None:
            raise NlError(errno.EHOSTUNREACH)
        for fa in found.table.maps[found.prefixlen].find(found.prefix) or ():
            if fa.fa_info is found.fi:
                netlink_reply(nlh, uapi.RTM_NEWROUTE, fib_dump_info(net, fa))
                return
    # The kernel looks local routes up in the main table while there are no rules of a program.
    table = RT_TABLE_MAIN
    told = rt.rt_flags & ~0xFFFF | RTM_F_CLONED
    head = RTMSG.pack(uapi.AF_INET, 32, 0, tos, rt_table(table), 0, 0, rt.rt_type, told)
    metrics = found.fi.fib_metrics if found is not None and found.fi is not None else {}
    attrs: dict[str, Any] = {
        "RTA_TABLE": table,
        "RTA_DST": rt.rt_dst,
        "RTA_SRC": tb.get("RTA_SRC") or None,
        "RTA_OIF": rt.dev.ifindex,
        "RTA_PREFSRC": fl4.saddr if fl4.saddr != tb.get("RTA_SRC", 0) else None,
        "RTA_GATEWAY": rt.rt_gw4 or None,
        "RTA_METRICS": metrics_fill(net, metrics) if metrics else None,
        "RTA_UID": tb.get("RTA_UID", net.uid),
        "RTA_CACHEINFO": RTA_CACHE.pack(0, 0, 0, *(0,) * 5),
    }
    netlink_reply(nlh, uapi.RTM_NEWROUTE, head + RTA4.build(attrs))


def inet6_rtm_getroute(nlh: nlmsg) -> None:
    """net/ipv6/route.c: where a packet would go; an error of the route is told in its cacheinfo."""
    net = nlh.sk.net
    tb, _, flags = getroute_attrs(nlh, True)
    check_asked(net, tb, uapi.IPPROTO_ICMPV6)
    if "RTA_SRC" in tb and len(tb["RTA_SRC"]) < 16:
        raise tb.wrong("RTA_SRC", "Invalid source address")
    dst, src = in6_prefix(tb, 128), int.from_bytes(tb.get("RTA_SRC", b"")[:16], "big")
    rt = ip6_route_output(net, None, flowi(uapi.AF_INET6, dst, src, tb.get("RTA_OIF", 0)))
    f6i = rt.from6
    if f6i is None:
        raise NlError(rt.error or errno.ENETUNREACH)
    if flags & RTM_F_FIB_MATCH:
        netlink_reply(nlh, uapi.RTM_NEWROUTE, rt6_fill_node(net, f6i))
        return
    saddr: wide = 0
    if not rt.error:
        saddr = src or ip6_route_get_saddr(net, rt, dst, 0)
    table = f6i.fib6_table.tb6_id
    head = RTMSG.pack(
        *(uapi.AF_INET6, 128, 128, 0, rt_table(table)),
        *(f6i.fib6_protocol, 0, f6i.fib6_type, 0),
    )
    attrs: dict[str, Any] = {
        "RTA_TABLE": table,
        "RTA_DST": dst,
        "RTA_SRC": src,
        "RTA_PREFSRC": saddr or None,
        "RTA_METRICS": metrics_fill(net, f6i.fib6_metrics) if f6i.fib6_metrics else None,
        "RTA_PRIORITY": f6i.fib6_metric,
        "RTA_GATEWAY": rt.rt6i_gateway or None,
        "RTA_OIF": rt.dev.ifindex,
        "RTA_CACHEINFO": RTA_CACHE.pack(0, 0, 0, rt.error, *(0,) * 4),
        "RTA_PREF": 0,
    }
    netlink_reply(nlh, uapi.RTM_NEWROUTE, head + RTA6.build(attrs))
