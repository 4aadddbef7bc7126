"""RTM_*ROUTE: routes (net/ipv4/fib_frontend.c, fib_semantics.c, route.c, net/ipv6/route.c).

    RTM_NEWROUTE    inet_rtm_newroute => ip_route_add       inet6_rtm_newroute => ip6_route_add
    RTM_DELROUTE    inet_rtm_delroute => fib_table_delete   inet6_rtm_delroute => fib6_del
    RTM_GETROUTE    inet_dump_fib => fib_dump_info          inet6_dump_fib => rt6_fill_node
                    rt_getroute.py: the route of a destination

Tables are dumped in the kernel's order: IPv4 by address, IPv6 prefixes after more specific ones.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from fastpath.errors import ArgumentError
from stack.core import uapi
from stack.core.dst import RTAX_CC_ALGO
from stack.core.netdevice import net_device
from stack.core.rows import wide
from stack.core.time64 import TICK_NS
from stack.core.uapi import (
    AF_INET,
    AF_INET6,
    INFINITY_LIFE_TIME,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    RTM_NEWROUTE,
)
from stack.inet.tcp_cong import tcp_ca_find, tcp_ca_get_name_by_key
from stack.ipv4.fib import (
    FIB_PROPS_ERROR,
    INVALID_GW,
    MASKS,
    RT_TABLE_MAIN,
    fib_alias,
    fib_get_table,
    fib_nexthop_flags,
    fib_nh,
    fib_table_delete,
    format_addr,
    ip_route_add,
    parse_addr,
)
from stack.ipv6.addr import MASKS6, format_addr6, parse_addr6
from stack.ipv6.ip6_fib import (
    RTF_EXPIRES,
    RTF_PREF_MASK,
    fib6_del,
    fib6_get_table,
    fib6_info,
    fib6_nexthop_flags,
    fib6_nh,
    fib6_table,
    rt6_duplicate_nexthop,
)
from stack.ipv6.route_config import PREFERENCES, ip6_ins_rt, ip6_route_info_create
from stack.net import Net
from stack.netlink.af_netlink import nlmsg_part
from stack.netlink.netlink_sock import NLM_F_DUMP_FILTERED, NLMSG_HDRLEN, nlmsg
from stack.netlink.nlattr import (
    DEPRECATED_STRICT,
    NLA_HDRLEN,
    NLA_TYPE_MASK,
    Attrs,
    NlError,
    nla_for_each,
)
from stack.netlink.rt_attrs import RTA4, RTA6, RTA_CACHE, RTAX, RTMSG, RTNEXTHOP
from stack.netlink.rt_link import device_of, header

if TYPE_CHECKING:
    from stack.netlink.nexthop import nexthop

RT_TABLE_COMPAT = 252
RTN_MAX = 11
LWTUNNEL_ENCAP_MAX = 10
LEAST_SCOPE = {
    0: 255,
    uapi.RTN_LOCAL: uapi.RT_SCOPE_HOST,
    3: uapi.RT_SCOPE_LINK,
    4: uapi.RT_SCOPE_LINK,
    10: 255,
    11: 255,
}
"""fib_props[].scope: the widest scope of a type of route."""
RTM_F_CLONED, RTM_F_PREFIX = 0x200, 0x800
RTNH_F_DEAD, RTNH_F_LINKDOWN = 1, 16
RTVIA = struct.Struct("=H")
"""struct rtvia: the family, followed by the address."""
ATTRS_AT = NLMSG_HDRLEN + RTMSG.size
Hop: TypeAlias = tuple[str | wide | None, net_device | None, int, int]
"""Gateway, device and weight of a next hop."""


def rt_table(table: int) -> int:
    """rtm_table of a table's number, which has 8 bits."""
    return table if table < 256 else RT_TABLE_COMPAT


def metrics_fill(net: Net, metrics: dict[str, int]) -> bytes | None:
    """net/core/rtnetlink.c rtnetlink_put_metrics."""
    found: dict[str, Any] = dict(metrics)
    if RTAX_CC_ALGO in metrics:
        found[RTAX_CC_ALGO] = tcp_ca_get_name_by_key(net, metrics[RTAX_CC_ALGO])
    return RTAX.build(found) if found else None


# --- dumping ------------------------------------------------------------------------------------


def fib_dump_info(net: Net, fa: fib_alias, table: int = -1, rtype: int = 0) -> bytes:
    """net/ipv4/fib_semantics.c: struct rtmsg and attributes of an IPv4 route.

    `table`: the number to report; -1: its own. `rtype`: the type to report, if it is
    not its own.
    """
    table = fa.tb_id if table < 0 else table
    fi = fa.fa_info
    hops = fi.fib_nh
    flags = fib_nexthop_flags(hops[0]) if len(hops) == 1 else fi.fib_flags
    head = RTMSG.pack(
        *(AF_INET, fa.fa_plen, 0, fa.fa_tos, rt_table(table)),
        *(fi.fib_protocol, fi.fib_scope, rtype or fa.fa_type, flags),
    )
    attrs: dict[str, Any] = {
        "RTA_TABLE": table,
        "RTA_DST": fa.fa_dst if fa.fa_plen else None,
        "RTA_PRIORITY": fi.fib_priority or None,
        "RTA_METRICS": metrics_fill(net, fi.fib_metrics) if fi.fib_metrics else None,
        "RTA_PREFSRC": fi.fib_prefsrc or None,
    }
    if fi.fib_nhobj is not None:
        attrs["RTA_NH_ID"] = fi.fib_nhobj.id
    if fi.fib_nhobj is not None and not net.sysctl.nexthop_compat_mode:
        pass
    elif len(hops) == 1:
        attrs["RTA_GATEWAY"] = hops[0].nh_gw or None
        attrs["RTA_VIA"] = via_fill(hops[0].nh_gw6)
        attrs["RTA_OIF"] = hops[0].nh_oif or None
    elif hops:
        attrs["RTA_MULTIPATH"] = b"".join(map(nexthop_fill, hops))
    return head + RTA4.build(attrs)


def via_fill(gw: wide) -> bytes | None:
    """struct rtvia: the IPv6 gateway of an IPv4 route, if it has one."""
    return RTVIA.pack(AF_INET6) + gw.to_bytes(16, "big") if gw else None


def nexthop_fill(nh: fib_nh) -> bytes:
    """net/ipv4/fib_semantics.c fib_add_nexthop: struct rtnexthop of one next hop."""
    attrs = RTA4.build({"RTA_GATEWAY": nh.nh_gw or None, "RTA_VIA": via_fill(nh.nh_gw6)})
    size, flags = RTNEXTHOP.size + len(attrs), fib_nexthop_flags(nh)
    return RTNEXTHOP.pack(size, flags, nh.nh_weight - 1, nh.nh_oif) + attrs


def nexthop6_fill(nh: fib6_nh) -> bytes:
    """net/ipv6/route.c fib_add_nexthop: struct rtnexthop of one next hop of a group."""
    attrs = RTA6.build({"RTA_GATEWAY": nh.fib_nh_gw6 or None})
    size, oif = RTNEXTHOP.size + len(attrs), nh.fib_nh_dev.ifindex
    return RTNEXTHOP.pack(size, fib6_nexthop_flags(nh), nh.fib_nh_weight - 1, oif) + attrs


def rt6_fill_node(net: Net, rt: fib6_info, iif: int = 0) -> bytes:
    """net/ipv6/route.c: struct rtmsg and attributes of an IPv6 route, with its siblings.

    The next hop of `rt` comes first. `iif`: the requested packet's input interface.
    """
    nh, table = rt.fib6_nh, rt.fib6_table.tb6_id
    group = rt.fib6_siblings
    if group and rt.nh is None:
        at = group.index(rt)
        group = group[at:] + group[:at]
    head = RTMSG.pack(
        *(AF_INET6, rt.fib6_plen, 0, 0, rt_table(table)),
        *(rt.fib6_protocol, 0, rt.fib6_type),
        0 if group and rt.nh is None else fib6_nexthop_flags(nh),
    )
    hops: dict[str, Any] = {}
    if rt.nh is not None:
        hops["RTA_NH_ID"] = rt.nh.id
    if rt.nh is not None and not net.sysctl.nexthop_compat_mode:
        pass
    elif group:
        hops["RTA_MULTIPATH"] = b"".join(nexthop6_fill(each.fib6_nh) for each in group)
    else:
        hops["RTA_GATEWAY"] = nh.fib_nh_gw6 or None
        hops["RTA_OIF"] = nh.fib_nh_dev.ifindex
    left = 0
    if rt.fib6_flags & RTF_EXPIRES:
        left = max(rt.expires - net.clock.now_ns(), -(1 << 31) * TICK_NS) // TICK_NS
    return head + RTA6.build(
        {
            "RTA_TABLE": table,
            "RTA_DST": rt.fib6_dst if rt.fib6_plen else None,
            "RTA_IIF": iif or None,
            "RTA_PREFSRC": rt.fib6_prefsrc or None,
            "RTA_METRICS": metrics_fill(net, rt.fib6_metrics) if rt.fib6_metrics else None,
            "RTA_PRIORITY": rt.fib6_metric,
            **hops,
            "RTA_CACHEINFO": RTA_CACHE.pack(0, 0, min(left, 0x7FFFFFFF), *(0,) * 5),
            "RTA_PREF": (rt.fib6_flags & RTF_PREF_MASK) >> 27,
        }
    )


class dump_filter:
    """struct fib_dump_filter: the filter of a strict dump; 0: any."""

    def __init__(self, nlh: nlmsg, net: Net) -> None:
        """net/ipv4/fib_frontend.c ip_valid_fib_dump_req. Raises: NlError."""
        self.table = self.protocol = self.type = self.oif = 0
        self.name = "ipv6" if nlh.payload[0] == AF_INET6 else "ipv4"
        self.answer = 0
        """Flags of the answer."""
        if not nlh.sk.strict_chk:
            return
        values = header(nlh, RTMSG, "Invalid header for FIB dump request")
        _, dst, src, tos, table, protocol, scope, kind, flags = values
        if dst or src or tos or scope:
            raise NlError(errno.EINVAL, "Invalid values in header for FIB dump request")
        if flags & ~(RTM_F_CLONED | RTM_F_PREFIX):
            raise NlError(errno.EINVAL, "Invalid flags for FIB dump request")
        self.table, self.protocol, self.type = table, protocol, kind
        tb = RTA4.parse(nlh.whole, ATTRS_AT, DEPRECATED_STRICT)
        for name in tb:
            if name == "RTA_TABLE":
                self.table = tb[name]
            elif name == "RTA_OIF":
                self.oif = tb[name]
                if self.oif not in net.dev_by_index:
                    raise NlError(errno.ENODEV)
            else:
                raise NlError(errno.EINVAL, "Unsupported attribute in dump request")
        known = {AF_INET: set(net.fib.tables), AF_INET6: set(net.ipv6.fib6.tables)}
        if self.table and self.table not in known.get(nlh.payload[0], {self.table}):
            raise NlError(errno.ENOENT, f"{self.name}: FIB table does not exist")
        # Without RTM_F_CLONED exceptions are omitted, so that every dump is filtered.
        asked = self.table or self.protocol or self.type or self.oif
        if asked or not flags & RTM_F_CLONED:
            self.answer = NLM_F_DUMP_FILTERED

    def tables(self, tables: dict[int, Any]) -> list[Any]:
        """The tables in the order of the kernel's 256 hash lists: newest first."""
        newest = [tb_id for tb_id in reversed(tables) if self.table in (0, tb_id)]
        return [tables[tb_id] for tb_id in sorted(newest, key=lambda tb_id: tb_id & 255)]


def inet_dump_fib(nlh: nlmsg) -> Iterator[bytes]:
    """net/ipv4/fib_frontend.c: RTM_GETROUTE of AF_INET."""
    sk = nlh.sk
    want = dump_filter(nlh, sk.net)
    for tb in want.tables(sk.net.fib.tables):
        for fa in sorted(tb.aliases(), key=lambda fa: (fa.fa_dst, -fa.fa_plen)):
            fi = fa.fa_info
            if want.protocol not in (0, fi.fib_protocol) or want.type not in (0, fa.fa_type):
                continue
            if want.oif and not any(nh.nh_oif == want.oif for nh in fi.fib_nh):
                continue
            if fi.fib_dead:
                continue
            yield nlmsg_part(nlh, RTM_NEWROUTE, fib_dump_info(sk.net, fa), want.answer)


def inet6_dump_fib(nlh: nlmsg) -> Iterator[bytes]:
    """net/ipv6/ip6_fib.c: RTM_GETROUTE of AF_INET6."""
    sk = nlh.sk
    want = dump_filter(nlh, sk.net)
    for tb in want.tables(sk.net.ipv6.fib6.tables):
        last: fib6_info | None = None  # of the siblings that were dumped together
        for rt in tb.routes():
            if last is not None:
                last = None if rt is last else last
                continue
            beside = rt.fib6_siblings or [rt]
            if rt.nh is None and rt is not beside[-1]:
                last = beside[-1]
            if want.protocol not in (0, rt.fib6_protocol) or want.type not in (0, rt.fib6_type):
                continue
            if want.oif and all(r.fib6_nh.fib_nh_dev.ifindex != want.oif for r in beside):
                continue
            yield nlmsg_part(nlh, RTM_NEWROUTE, rt6_fill_node(sk.net, rt), want.answer)


# --- requests -----------------------------------------------------------------------------------


class route_request:
    """struct fib_config, struct fib6_config: a request's route configuration."""

    def __init__(self, nlh: nlmsg, family: int) -> None:
        """Raises: NlError."""
        self.v6 = family == AF_INET6
        if not self.v6 and len(nlh.payload) < RTMSG.size:
            raise NlError(errno.EINVAL)
        values = header(nlh, RTMSG)
        table = RTA6 if self.v6 else RTA4
        _, self.plen, src, self.tos, tb_id, self.protocol, self.scope, self.type, flags = values
        tb = self.tb = table.parse(nlh.whole, ATTRS_AT)
        self.flags = flags
        most = 128 if self.v6 else 32
        if not self.v6 and self.tos & 3:
            raise NlError(errno.EINVAL, "Invalid dsfield (tos): ECN bits must be 0")
        if self.v6 and self.tos:
            text = "Invalid dsfield (tos): option not available for IPv6"
            raise NlError(errno.EINVAL, text)
        if self.type > RTN_MAX and (not self.v6 or nlh.type == RTM_NEWROUTE):
            raise NlError(errno.EINVAL, "Invalid route type")
        if self.plen > most:
            raise NlError(errno.EINVAL, "" if self.v6 else "Invalid prefix length")
        if self.v6 and src:
            raise NlError(errno.EINVAL, "Invalid source address length")
        self.table = tb.get("RTA_TABLE", tb_id) or RT_TABLE_MAIN
        self.dst = in6_prefix(tb, self.plen) if self.v6 else tb.get("RTA_DST", 0)
        mask = MASKS6[self.plen] if self.v6 else MASKS[self.plen]
        if self.v6:
            self.dst &= mask
        elif self.dst & ~mask & 0xFFFFFFFF:
            raise NlError(errno.EINVAL, "Invalid prefix for given prefix length")
        if "RTA_FLOWLABEL" in tb:
            raise tb.wrong("RTA_FLOWLABEL", "Flow label cannot be specified for this operation")
        if "RTA_ENCAP_TYPE" in tb:
            if 0 < tb["RTA_ENCAP_TYPE"] <= LWTUNNEL_ENCAP_MAX:
                raise NlError(errno.EOPNOTSUPP, "lwt encapsulation type not supported")
            raise NlError(errno.EINVAL, "Unknown lwt encapsulation type")
        if tb.get("RTA_NH_ID") and set(tb) & {"RTA_OIF", "RTA_GATEWAY", "RTA_MULTIPATH", "RTA_VIA"}:
            text = "Nexthop specification and nexthop id are mutually exclusive"
            raise NlError(errno.EINVAL, text)
        if self.v6 and "RTA_VIA" in tb:
            raise NlError(errno.EINVAL, "IPv6 does not support RTA_VIA attribute")
        if "RTA_VIA" in tb and "RTA_GATEWAY" in tb:
            text = "Nexthop configuration can not contain both GATEWAY and VIA"
            raise NlError(errno.EINVAL, text)
        self.gateway()  # an invalid one is refused, even if it is unused

    @property
    def prefix(self) -> str:
        """The destination as ip_route_add takes it."""
        text = format_addr6(self.dst) if self.v6 else format_addr(self.dst)
        return f"{text}/{self.plen}"

    def text(self, name: str, tb: Attrs | None = None) -> str | None:
        """An address of the request as text, None without it."""
        addr = (self.tb if tb is None else tb).get(name)
        if not addr:
            return None
        return format_addr6(addr) if self.v6 else format_addr(addr)

    def gateway(self, tb: Attrs | None = None) -> str | wide | None:
        """net/ipv4/fib_frontend.c fib_gw_from_via: RTA_GATEWAY, or RTA_VIA of either family.

        An IPv6 one of an IPv4 route is a number. Raises: NlError EINVAL.
        """
        tb = self.tb if tb is None else tb
        if self.v6:
            return format_addr6(tb["RTA_GATEWAY"]) if "RTA_GATEWAY" in tb else None
        if "RTA_VIA" not in tb:
            return self.text("RTA_GATEWAY", tb)
        data: bytes = tb["RTA_VIA"]
        if len(data) < RTVIA.size:
            raise NlError(errno.EINVAL, "Invalid attribute length for RTA_VIA")
        (family,) = RTVIA.unpack_from(data)
        sizes = {AF_INET: ("IPv4", 4), AF_INET6: ("IPv6", 16)}
        if family not in sizes:
            raise NlError(errno.EINVAL, "Unsupported address family in RTA_VIA")
        name, size = sizes[family]
        if len(data) - RTVIA.size != size:
            raise NlError(errno.EINVAL, f"Invalid {name} address in RTA_VIA")
        addr: wide = int.from_bytes(data[RTVIA.size :], "big")
        return addr if family == AF_INET6 else format_addr(int(addr))

    def metrics(self, nlh: nlmsg) -> dict[str, Any]:
        """Those of RTA_METRICS, as arguments of ip_route_add. Raises: NlError."""
        if "RTA_METRICS" not in self.tb:
            return {}
        return dict(metrics_given(nlh, self.tb))

    def nexthops(self, net: Net) -> list[Hop]:
        """RTA_MULTIPATH: (gateway, device, weight, RTNH_F_ONLINK or 0) of each.

        Raises: NlError EINVAL, ENODEV.
        """
        data = self.tb.get("RTA_MULTIPATH", b"")
        table = RTA6 if self.v6 else RTA4
        found: list[Hop] = []
        at = 0
        while len(data) - at >= RTNEXTHOP.size:
            size, flags, weight, index = RTNEXTHOP.unpack_from(data, at)
            if not RTNEXTHOP.size <= size <= len(data) - at:
                break
            tb = table.parse(data[at : at + size], RTNEXTHOP.size)
            dev = net.dev_by_index.get(index) if index else None
            if index and dev is None:
                if not self.v6 and "RTA_GATEWAY" in tb:
                    raise NlError(errno.ENETUNREACH, INVALID_GW)
                raise NlError(errno.ENODEV)
            if "RTA_VIA" in tb and (self.v6 or "RTA_GATEWAY" in tb):
                text = "Nexthop configuration can not contain both GATEWAY and VIA"
                raise NlError(errno.EINVAL, text)
            found.append((self.gateway(tb), dev, weight + 1, flags & uapi.RTNH_F_ONLINK))
            at += size + 3 & ~3
        if data and (not found or (at < len(data) and not self.v6)):
            text = "Invalid nexthop configuration - no valid nexthops"
            if at < len(data) and not self.v6:
                text = "Invalid nexthop configuration - extra data after nexthops"
            raise NlError(errno.EINVAL, text)
        return found


def metrics_given(nlh: nlmsg, tb: Attrs) -> Attrs:
    """net/ipv4/metrics.c ip_metrics_convert: the metrics of a request. Raises: NlError EINVAL."""
    net, data, given = nlh.sk.net, nlh.whole, Attrs()
    for kind, at, end in nla_for_each(data, *tb.span("RTA_METRICS")):
        row = RTAX.by_number.get(kind & NLA_TYPE_MASK)
        if kind & NLA_TYPE_MASK > RTAX.last:
            raise NlError(errno.EINVAL, "Invalid metric type")
        payload = bytes(data[at + NLA_HDRLEN : end])
        if row is not None and row.name == RTAX_CC_ALGO:
            if tcp_ca_find(net, row.type.get(payload)) is None:
                raise NlError(errno.EINVAL, "Unknown tcp congestion algorithm")
        elif kind & NLA_TYPE_MASK and len(payload) != 4:
            raise NlError(errno.EINVAL, "Invalid attribute in metrics", at)
        if row is not None:
            given[row.name] = row.type.get(payload)
    return given


def known_object(net: Net, want: route_request) -> int:
    """The id of RTA_NH_ID, which must exist; 0: none. Raises: NlError EINVAL."""
    nhid: int = want.tb.get("RTA_NH_ID", 0)
    if nhid and nhid not in net.fib.nexthops:
        raise NlError(errno.EINVAL, "Nexthop id does not exist")
    return nhid


def asked_object(net: Net, want: route_request) -> nexthop | None:
    """The object of RTA_NH_ID, if a route may use it. Raises: NlError EINVAL.

    fib_check_nexthop, fib6_check_nexthop.
    """
    nhid = known_object(net, want)
    if not nhid:
        return None
    nh = net.fib.nexthops[nhid]
    if want.v6:
        if nh.has(AF_INET):
            raise NlError(errno.EINVAL, "IPv6 routes can not use an IPv4 nexthop")
        return nh
    first = nh.hops()[0][0]
    if want.scope == uapi.RT_SCOPE_HOST and not nh.single():
        raise NlError(errno.EINVAL, "Route with host scope can not have multiple nexthops")
    if want.scope == uapi.RT_SCOPE_HOST and first.gw:
        raise NlError(errno.EINVAL, "Route with host scope can not have a gateway")
    if first.flags & uapi.RTNH_F_ONLINK and want.scope >= uapi.RT_SCOPE_LINK:
        raise NlError(errno.EINVAL, "Scope mismatch with nexthop")
    return nh


def in6_prefix(tb: Attrs, plen: int) -> int:
    """RTA_DST of IPv6, which has only the bytes of the prefix. Raises: NlError."""
    data = tb.get("RTA_DST", b"")
    size = (plen + 7) // 8
    if "RTA_DST" in tb and len(data) < size:
        raise tb.wrong("RTA_DST", "Invalid destination address")
    return int.from_bytes(data[:size].ljust(16, b"\0"), "big")


def out_device(net: Net, tb: Attrs) -> net_device | None:
    """The device of RTA_OIF. Raises: NlError ENODEV."""
    index = tb.get("RTA_OIF", 0)
    return device_of(net, index) if index else None


def inet_rtm_newroute(nlh: nlmsg) -> None:
    """net/ipv4/fib_frontend.c: RTM_NEWROUTE of AF_INET."""
    net = nlh.sk.net
    want = route_request(nlh, AF_INET)
    fib_get_table(net, want.table)
    known_type(want)
    if want.tb.get("RTA_FLOW"):
        raise want.tb.wrong("RTA_FLOW", "there are no realms", errno.EOPNOTSUPP)
    dev = out_device(net, want.tb)
    hops, via = want.nexthops(net), want.gateway()
    if via is not None and not isinstance(via, str):
        hops, via = [(via, dev, 1, want.flags & uapi.RTNH_F_ONLINK)], None
    refuses = want.type in FIB_PROPS_ERROR
    if (refuses or want.type in (10, 11)) and (hops or dev or via):
        text = "Gateway, device and multipath can not be specified for this route type"
        raise NlError(errno.EINVAL, text)
    if want.type not in (uapi.RTN_UNICAST, uapi.RTN_LOCAL, *range(3, 6), *FIB_PROPS_ERROR):
        raise NlError(errno.EINVAL, "Invalid route type")
    if not refuses and want.scope >= uapi.RT_SCOPE_NOWHERE:
        raise NlError(errno.EINVAL, "Invalid scope")
    try:
        ip_route_add(
            net,
            want.prefix,
            via=via,
            dev=dev,
            src=want.text("RTA_PREFSRC"),
            metric=want.tb.get("RTA_PRIORITY", 0),
            tos=want.tos,
            table=want.table,
            rtype=want.type,
            onlink=bool(want.flags & uapi.RTNH_F_ONLINK),
            scope=want.scope,
            protocol=want.protocol,
            nlflags=nlh.flags,
            nexthops=hops,
            nhobj=asked_object(net, want),
            **want.metrics(nlh),
        )
    except ArgumentError as exc:
        raise NlError(errno.EINVAL, str(exc)) from None


def known_type(want: route_request) -> None:
    """The first checks of fib_create_info. Raises: NlError EINVAL."""
    if LEAST_SCOPE.get(want.type, 0) > want.scope:
        raise NlError(errno.EINVAL, "Invalid scope")
    if want.flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN):
        raise NlError(errno.EINVAL, "Invalid rtm_flags - can not contain DEAD or LINKDOWN")


def inet_rtm_delroute(nlh: nlmsg) -> None:
    """net/ipv4/fib_frontend.c: RTM_DELROUTE of AF_INET: the first matching route."""
    net = nlh.sk.net
    want = route_request(nlh, AF_INET)
    nhid = known_object(net, want)
    if want.table not in net.fib.tables:
        raise NlError(errno.ESRCH, "FIB table does not exist")
    tb = fib_get_table(net, want.table)
    oif = want.tb.get("RTA_OIF", 0)
    if not tb.maps[want.plen].find(want.dst) or (oif and oif not in net.dev_by_index):
        raise NlError(errno.ESRCH)
    hops = want.nexthops(net)
    via, dev = want.gateway(), out_device(net, want.tb)
    v4 = isinstance(via, str)
    try:
        metrics = want.metrics(nlh)
    except NlError:
        raise NlError(errno.ESRCH) from None  # no route has one
    fib_table_delete(
        net,
        tb,
        want.dst,
        want.plen,
        rtype=want.type,
        dev=dev,
        gw=parse_addr(via) if isinstance(via, str) else None,
        gw6=0 if v4 or via is None else via,  # type: ignore[arg-type]
        prefsrc=want.tb.get("RTA_PREFSRC", 0),
        tos=want.tos,
        priority=want.tb.get("RTA_PRIORITY") or None,
        scope=None if want.scope == uapi.RT_SCOPE_NOWHERE else want.scope,
        nhid=nhid,
        hops=[(gateway_pair(hop_via), hop_dev) for hop_via, hop_dev, *_ in hops],
        metrics=metrics,
    )


def gateway_pair(via: str | wide | None) -> tuple[int, wide] | None:
    """A next hop's IPv4 and IPv6 gateway as in fib_nh; None: none."""
    if isinstance(via, str):
        return parse_addr(via), 0
    return None if via is None else (0, via)


def inet6_rtm_newroute(nlh: nlmsg) -> None:
    """net/ipv6/route.c: RTM_NEWROUTE of AF_INET6; next hops of RTA_MULTIPATH are routes each."""
    net = nlh.sk.net
    want = route_request(nlh, AF_INET6)
    pref = {number & 3: name for name, number in PREFERENCES.items()}
    lifetime = want.tb.get("RTA_EXPIRES", INFINITY_LIFE_TIME)
    options: dict[str, Any] = {
        "src": want.text("RTA_PREFSRC"),
        "metric": want.tb.get("RTA_PRIORITY", 0),
        "table": want.table,
        "rtype": want.type or uapi.RTN_UNICAST,
        "pref": pref.get(want.tb.get("RTA_PREF", 0), "medium"),
        "protocol": want.protocol or uapi.RTPROT_BOOT,
        "nhobj": asked_object(net, want),
        "expires": lifetime if lifetime != INFINITY_LIFE_TIME else None,
        **want.metrics(nlh),
    }
    fib6_get_table(net, want.table)
    hops = want.nexthops(net) or [(want.gateway(), out_device(net, want.tb), 1, 0)]
    if want.flags & RTM_F_CLONED:
        raise NlError(errno.EINVAL, "Userspace can not set RTF_CACHE")
    several = "RTA_MULTIPATH" in want.tb
    if several and any(via is None for via, *_ in hops):
        text = "Device only routes can not be added for IPv6 using the multipath API."
        raise NlError(errno.EINVAL, text)
    routes: list[fib6_info] = []
    for via, dev, weight, onlink in hops:
        options |= {"via": via, "dev": dev, "weight": weight}
        options["onlink"] = bool((want.flags | onlink) & uapi.RTNH_F_ONLINK)
        try:
            rt = ip6_route_info_create(net, want.prefix, **options)
        except ArgumentError as exc:
            raise NlError(errno.EINVAL, str(exc)) from None
        if any(rt6_duplicate_nexthop(rt, other) for other in routes):
            raise NlError(errno.EEXIST)
        routes.append(rt)
    if several:
        ip6_route_multipath_add(net, routes, nlh.flags)
    else:
        ip6_ins_rt(net, routes[0], nlh.flags)


def ip6_route_multipath_add(net: Net, routes: list[fib6_info], nlflags: int) -> None:
    """net/ipv6/route.c: insert routes that differ only in their gateways, and notify once.

    Raises: OSError of the first failure; then none of them is inserted.
    """
    flags = nlflags
    added: list[fib6_info] = []
    try:
        for rt in routes:
            ip6_ins_rt(net, rt, flags, tell=False)
            added.append(rt)
            flags = flags & ~(NLM_F_REPLACE | NLM_F_EXCL) | NLM_F_CREATE
    except OSError:
        ip6_route_mpath_notify(net, added, nlflags)
        for rt in added:
            fib6_del(net, rt)
        raise
    ip6_route_mpath_notify(net, added, nlflags)


def ip6_route_mpath_notify(net: Net, added: list[fib6_info], nlflags: int) -> None:
    """net/ipv6/route.c: notify one request's routes; appended ones with their siblings."""
    if not added or net.rtnl is None:
        return
    told = NLM_F_REPLACE if nlflags & NLM_F_REPLACE else NLM_F_CREATE
    rt = added[0]
    if nlflags & NLM_F_APPEND and added[-1].fib6_siblings:
        beside = added[-1].fib6_siblings
        rt = beside[(beside.index(added[-1]) + 1) % len(beside)]
    net.rtnl(RTM_NEWROUTE, rt, told | nlflags & NLM_F_APPEND)


def inet6_rtm_delroute(nlh: nlmsg) -> None:
    """net/ipv6/route.c: RTM_DELROUTE of AF_INET6."""
    net = nlh.sk.net
    want = route_request(nlh, AF_INET6)
    nhid = known_object(net, want)
    tb = net.ipv6.fib6.tables.get(want.table)
    if tb is None:
        raise NlError(errno.ESRCH, "FIB table does not exist")
    try:
        hops = want.nexthops(net)
    except NlError as exc:
        raise NlError(errno.ESRCH) if exc.errno == errno.ENODEV else exc from None
    oif, gw = want.tb.get("RTA_OIF", 0), want.tb.get("RTA_GATEWAY", 0)
    if not hops:
        delete_route6(net, tb, want, nhid, gw, oif)
        return
    failed = 0
    for via, dev, *_ in hops:
        hop_gw = parse_addr6(via) if isinstance(via, str) else via or gw
        try:
            delete_route6(net, tb, want, nhid, hop_gw, dev.ifindex if dev is not None else oif)
        except NlError as exc:
            failed = exc.errno or errno.ESRCH
    if failed:
        raise NlError(failed)


def delete_route6(
    net: Net, tb: fib6_table, want: route_request, nhid: int, gw: wide, oif: int
) -> None:
    """net/ipv6/route.c: delete matching routes, via `gw` and `oif` if they are not 0.

    Raises: NlError ESRCH, ENOENT.
    """
    metric = want.tb.get("RTA_PRIORITY", 0)
    for rt in tuple(tb.leaf(want.dst, want.plen)):
        nh = rt.fib6_nh
        if (
            (not oif or nh.fib_nh_dev.ifindex == oif)
            and (not gw or nh.fib_nh_gw6 == gw)
            and (not metric or rt.fib6_metric == metric)
            and (not nhid or (rt.nh is not None and rt.nh.id == nhid))
            and (not want.protocol or rt.fib6_protocol == want.protocol)
        ):
            if gw or rt.nh is not None or not rt.fib6_siblings:
                fib6_del(net, rt)
                return
            if net.rtnl is not None:
                net.rtnl(uapi.RTM_DELROUTE, rt, 0)
            for each in tuple(rt.fib6_siblings):
                fib6_del(net, each, tell=False)
            return
    # The kernel's tables have an entry for ::/0, of the last metric, that cannot be deleted.
    nobody = not (want.plen or gw or nhid or want.protocol or tb.leaf(0, 0))
    nobody &= metric in (0, 0xFFFFFFFF) and oif in (0, net.loopback_dev.ifindex)
    raise NlError(errno.ENOENT if nobody else errno.ESRCH)
