"""RTM_GETROUTE of one destination: `ip route get` (net/ipv4/route.c, net/ipv6/route.c)."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import Any

from fastpath.base.skbuff import kfree_skb, sk_buff, skb_from_bytes, skb_reset_network_header
from stack.core import uapi
from stack.core.dst import RTAX_LOCK_MTU
from stack.core.fib_rules import LOOPBACK_IFINDEX
from stack.core.inet_ecn import INET_ECN_MASK
from stack.core.netdevice import ETH_P_IP, ETH_P_IPV6, net_device
from stack.core.rows import narrow, replace, wide
from stack.core.time64 import TICK_NS
from stack.inet.flow import flowi
from stack.ipv4.addr import ipv4_is_lbcast, ipv4_is_local_multicast, ipv4_is_multicast
from stack.ipv4.fib import (
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    __fib_lookup,
    fib_alias,
    fib_lookup,
    fib_result,
)
from stack.ipv4.route import ip_route_output_flow, rtable
from stack.ipv4.route_input import ip_route_input_noref
from stack.ipv6.addr import rt6_need_strict
from stack.ipv6.ip6_fib import RTF_CACHE, RTF_PREF_MASK
from stack.ipv6.route import ip6_route_get_saddr, ip6_route_input, ip6_route_output
from stack.ipv6.rt6_info import rt6_info
from stack.net import Net
from stack.netlink.af_netlink import netlink_reply
from stack.netlink.netlink_sock import NLMSG_HDRLEN, nlmsg
from stack.netlink.nlattr import DEPRECATED_STRICT, LIBERAL, Attrs, NlError
from stack.netlink.rt_attrs import RTA4, RTA6, RTA_CACHE, RTMSG
from stack.netlink.rt_link import header, only
from stack.netlink.rt_route import (
    RTM_F_CLONED,
    fib_dump_info,
    in6_prefix,
    metrics_fill,
    rt6_fill_node,
    rt_table,
    via_fill,
)

RTM_F_NOTIFY, RTM_F_LOOKUP_TABLE, RTM_F_FIB_MATCH = 0x100, 0x1000, 0x2000
KNOWN = (
    *("RTA_IIF", "RTA_OIF", "RTA_DST", "RTA_SRC", "RTA_MARK"),
    *("RTA_UID", "RTA_IP_PROTO", "RTA_SPORT", "RTA_DPORT", "RTA_FLOWLABEL"),
)
PROTOCOLS = {
    uapi.AF_INET: (uapi.IPPROTO_TCP, uapi.IPPROTO_UDP, uapi.IPPROTO_ICMP),
    uapi.AF_INET6: (uapi.IPPROTO_TCP, uapi.IPPROTO_UDP, uapi.IPPROTO_ICMPV6),
}


def getroute_attrs(nlh: nlmsg, v6: bool) -> tuple[Attrs, int, int]:
    """inet_rtm_valid_getroute_req: the attributes, TOS and flags. Raises: NlError EINVAL."""
    name = "ipv6" if v6 else "ipv4"
    what = "get route request" if v6 else "route get request"
    most = 128 if v6 else 32
    table = RTA6 if v6 else RTA4
    values = header(nlh, RTMSG, f"{name}: Invalid header for {what}")
    _, dst, src, tos, tb_id, protocol, scope, kind, flags = values
    at = NLMSG_HDRLEN + RTMSG.size
    if not nlh.sk.strict_chk:
        return table.parse(nlh.whole, at, LIBERAL), tos, flags
    if dst not in (0, most) or src not in (0, most) or tb_id or protocol or scope or kind:
        raise NlError(errno.EINVAL, f"{name}: Invalid values in header for {what}")
    known = RTM_F_FIB_MATCH if v6 else RTM_F_NOTIFY | RTM_F_LOOKUP_TABLE | RTM_F_FIB_MATCH
    if flags & ~known:
        raise NlError(
            errno.EINVAL, f"{name}: {'Invalid flags' if v6 else 'Unsupported rtm_flags'} for {what}"
        )
    tb = table.parse(nlh.whole, at, DEPRECATED_STRICT)
    if ("RTA_SRC" in tb and not src) or ("RTA_DST" in tb and not dst):
        text = f"{name}: rtm_src_len and rtm_dst_len must be {most} for {'IPv6' if v6 else 'IPv4'}"
        raise NlError(errno.EINVAL, text)
    only(tb, KNOWN, f"{name}: Unsupported attribute in {what}")
    return tb, tos, flags


def asked_flow(net: Net, tb: Attrs, family: int, tos: int) -> tuple[flowi, net_device | None]:
    """The packet of the request, and its input device, if any.

    Raises: NlError ENODEV, EOPNOTSUPP.
    """
    v6 = family == uapi.AF_INET6
    iif = net.dev_by_index.get(tb.get("RTA_IIF", 0))
    if tb.get("RTA_IIF") and iif is None:
        raise NlError(errno.ENODEV)
    proto = tb.get("RTA_IP_PROTO", uapi.IPPROTO_UDP)
    if proto not in PROTOCOLS[family]:
        raise NlError(errno.EOPNOTSUPP, "Unsupported ip proto")
    dst = in6_prefix(tb, 128) if v6 else tb.get("RTA_DST", 0)
    src = int.from_bytes(tb.get("RTA_SRC", b"")[:16], "big") if v6 else tb.get("RTA_SRC", 0)
    fl = flowi(family, dst, src, tb.get("RTA_OIF", 0), tos, proto)
    fl.fl_sport, fl.fl_dport = tb.get("RTA_SPORT", 0), tb.get("RTA_DPORT", 0)
    fl.flowi_mark = tb.get("RTA_MARK", 0)
    return fl, iif


def received(net: Net, fl: flowi, dev: net_device) -> sk_buff:
    """inet_rtm_getroute_build_skb: a packet of the flow, as `dev` receives it."""
    v6 = fl.family == uapi.AF_INET6
    if v6:
        head = bytes((0x60 | fl.flowi_tos >> 4, fl.flowi_tos << 4 & 0xFF, 0, 0, 0, 8))
        head += bytes((fl.flowi_proto, 64)) + fl.saddr.to_bytes(16, "big")
        head += fl.daddr.to_bytes(16, "big")
    else:
        head = bytes((0x45, fl.flowi_tos, 0, 28, 0, 0, 0, 0, 64, fl.flowi_proto, 0, 0))
        head += fl.saddr.to_bytes(4, "big") + fl.daddr.to_bytes(4, "big")
    ports = fl.fl_sport.to_bytes(2, "big") + fl.fl_dport.to_bytes(2, "big")
    skb = skb_from_bytes(net.skb_small, head + ports + bytes(4))
    if skb is None:
        raise NlError(errno.ENOBUFS)
    skb_reset_network_header(skb)
    skb.protocol = ETH_P_IPV6 if v6 else ETH_P_IP
    skb.dev, skb.mark = dev, fl.flowi_mark
    return skb


def input_route(net: Net, fl4: flowi, dev: net_device) -> rtable:
    """Route a received packet. Raises: OSError EINVAL, the route's error."""
    skb = received(net, fl4, dev)
    try:
        daddr, saddr = narrow(fl4.daddr), narrow(fl4.saddr)
        if ip_route_input_noref(skb, daddr, saddr, fl4.flowi_tos, dev):
            raise NlError(errno.EINVAL)
        rt: rtable = skb.dst
    finally:
        skb.dst = None
        kfree_skb(skb)
    if rt.error:
        raise NlError(rt.error)
    return rt


def alias_of(res: fib_result) -> fib_alias | None:
    """The entry of the table that a lookup found."""
    entries = res.table.maps[res.prefixlen].find(res.prefix) or ()
    return next((fa for fa in entries if fa.fa_info is res.fi), None)


def ticks_left(net: Net, expires: int) -> int:
    """net/core/rtnetlink.c rtnl_put_cacheinfo: time until a route's ICMP exception expires.

    0: never, or no exception.
    """
    left: int = expires - net.clock.now_ns()
    return left // TICK_NS if left > 0 else 0


def answered_without_table(tb: Attrs, daddr: int) -> bool:
    """net/ipv4/route.c ip_route_output_key_hash_rcu: destinations without table lookup."""
    group = ipv4_is_multicast(daddr)
    if not tb.get("RTA_OIF"):
        return not daddr or (bool(tb.get("RTA_SRC")) and (group or ipv4_is_lbcast(daddr)))
    return not daddr or ipv4_is_local_multicast(daddr) or ipv4_is_lbcast(daddr)


def inet_rtm_getroute(nlh: nlmsg) -> None:
    """net/ipv4/route.c: where a packet would go. Raises: NlError, OSError of the lookup."""
    net = nlh.sk.net
    tb, tos, flags = getroute_attrs(nlh, False)
    tos &= ~INET_ECN_MASK
    fl4, iif = asked_flow(net, tb, uapi.AF_INET, tos)
    key, asked = replace(fl4), fl4.daddr
    if iif is not None:
        rt = input_route(net, fl4, iif)
    else:
        rt = ip_route_output_flow(net, fl4, None)
    key.daddr = fl4.daddr
    res = fib_lookup(net, narrow(key.daddr), tos, 0, key.flowi_oif)
    if res == -errno.ENETUNREACH:
        res = __fib_lookup(net, key, iif.ifindex if iif is not None else LOOPBACK_IFINDEX)
    found = res if isinstance(res, fib_result) else None
    if iif is None and answered_without_table(tb, narrow(asked)):
        found = None
    table = RT_TABLE_MAIN
    # Without user rules, the kernel looks up local routes in the main table.
    merged = () if net.fib.ops.has_custom_rules else (RT_TABLE_LOCAL,)
    if flags & RTM_F_LOOKUP_TABLE:
        table = found.table.tb_id if found is not None else 0
        table = RT_TABLE_MAIN if table in merged else table
    fa = alias_of(found) if found is not None else None
    if flags & RTM_F_FIB_MATCH:
        if fa is None:
            raise NlError(errno.EHOSTUNREACH)
        netlink_reply(nlh, uapi.RTM_NEWROUTE, fib_dump_info(net, fa, table, rt.rt_type))
        return
    told = rt.rt_flags & ~0xFFFF | RTM_F_CLONED
    src_len = 32 if tb.get("RTA_SRC") else 0
    tos = fa.fa_tos if fa is not None else 0
    head = RTMSG.pack(uapi.AF_INET, 32, src_len, tos, rt_table(table), 0, 0, rt.rt_type, told)
    metrics = dict(found.fi.fib_metrics) if found is not None else {}
    left = ticks_left(net, rt.expires)
    if left and rt.rt_pmtu:
        metrics["mtu"] = rt.rt_pmtu
    if left and rt.rt_mtu_locked:
        metrics["lock"] = metrics.get("lock", 0) | RTAX_LOCK_MTU
    attrs: dict[str, Any] = {
        "RTA_TABLE": table,
        "RTA_DST": asked,
        "RTA_SRC": tb.get("RTA_SRC") or None,
        "RTA_IIF": iif.ifindex if iif is not None else None,
        "RTA_OIF": rt.dev.ifindex,
        "RTA_PREFSRC": fl4.saddr if fl4.saddr != tb.get("RTA_SRC", 0) else None,
        "RTA_GATEWAY": rt.rt_gw4 or None,
        "RTA_VIA": via_fill(rt.rt_gw6),
        "RTA_METRICS": metrics_fill(net, metrics) if metrics else None,
        "RTA_MARK": fl4.flowi_mark or None,
        "RTA_UID": tb.get("RTA_UID", net.uid if iif is None else None),
        "RTA_CACHEINFO": RTA_CACHE.pack(0, 0, left, *(0,) * 5),
    }
    netlink_reply(nlh, uapi.RTM_NEWROUTE, head + RTA4.build(attrs))


def inet6_rtm_getroute(nlh: nlmsg) -> None:
    """net/ipv6/route.c: where a packet would go. Raises: NlError, also that of the route."""
    net = nlh.sk.net
    tb, tos, flags = getroute_attrs(nlh, True)
    if any(len(tb.get(name, bytes(16))) < 16 for name in ("RTA_SRC", "RTA_DST")):
        raise NlError(errno.EINVAL)
    if tb.get("RTA_FLOWLABEL", 0) >> 20:
        raise tb.wrong("RTA_FLOWLABEL", "Invalid flow label")
    fl6, iif = asked_flow(net, tb, uapi.AF_INET6, tos)
    dst, src = fl6.daddr, fl6.saddr
    if iif is not None:
        skb = received(net, fl6, iif)
        ip6_route_input(skb, dst, rt6_need_strict(dst))
        rt: rt6_info = skb.dst
        skb.dst = None
        kfree_skb(skb)
    else:
        rt = ip6_route_output(net, None, fl6)
    f6i = rt.from6
    if f6i is None or rt.error:
        raise NlError(rt.error or errno.ENETUNREACH)
    if iif is not None and dst >> 120 == 0xFF and net.ipv6.mrt is None:
        raise NlError(errno.EMSGSIZE)  # ip6mr_get_route has no entry
    if flags & RTM_F_FIB_MATCH:
        whole = next((rt for rt in f6i.fib6_table.routes() if f6i in rt.fib6_siblings), f6i)
        shown = f6i if f6i.nh is None else whole  # a group's route has one for each member
        netlink_reply(nlh, uapi.RTM_NEWROUTE, rt6_fill_node(net, shown, tb.get("RTA_IIF", 0)))
        return
    saddr: wide = 0
    if iif is None:
        with suppress(OSError):  # a group's answer has no source then
            saddr = ip6_route_get_saddr(net, rt, dst, 0)
    table = f6i.fib6_table.tb6_id
    head = RTMSG.pack(
        *(uapi.AF_INET6, 128, 128, 0, rt_table(table)),
        *(f6i.fib6_protocol, 0, f6i.fib6_type),
        RTM_F_CLONED if rt.rt6i_flags & RTF_CACHE else 0,
    )
    attrs: dict[str, Any] = {
        "RTA_TABLE": table,
        "RTA_DST": dst,
        "RTA_SRC": src,
        "RTA_IIF": iif.ifindex if iif is not None else None,
        "RTA_PREFSRC": saddr or None,
        "RTA_METRICS": metrics_fill(net, rt.metrics) if rt.metrics else None,
        "RTA_PRIORITY": f6i.fib6_metric,
        "RTA_GATEWAY": rt.rt6i_gateway or None,
        "RTA_OIF": rt.dev.ifindex,
        "RTA_CACHEINFO": RTA_CACHE.pack(0, 0, ticks_left(net, rt.expires), *(0,) * 5),
        "RTA_PREF": (f6i.fib6_flags & RTF_PREF_MASK) >> 27,
    }
    netlink_reply(nlh, uapi.RTM_NEWROUTE, head + RTA6.build(attrs))
