"""net/netfilter/nf_conntrack_netlink.c: tracked connections: the messages of `conntrack`.

    ctnetlink_get_conntrack     one, by the tuple of either direction; all that match a filter
        ctnetlink_fill_info     tuples, status, mark, timeout, TCP's state, counters
    ctnetlink_new_conntrack     create one, or change mark, timeout and status of one
    ctnetlink_del_conntrack     delete one; without a tuple all that match mark, status, family
    ctnetlink_stat_ct_cpu       the counters of /proc/net/stat/nf_conntrack
    ctnetlink_conntrack_event   notify the groups of `conntrack -E`

There are no zones, helpers, labels and expected connections. Changes of NAT are refused. State is
`net.ct` (stack/netfilter/nf_conntrack.py). Read ctnetlink_fill_info first.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any

from stack.core.netfilter import NFPROTO_IPV4, NFPROTO_IPV6
from stack.core.time64 import NSEC_PER_SEC
from stack.core.uapi import (
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_TCP,
    IPPROTO_UDP,
    NLM_F_CREATE,
    NLM_F_EXCL,
)
from stack.net import Net
from stack.netfilter.nf_conntrack import (
    IPS_ASSURED,
    IPS_CONFIRMED,
    IPS_DYING,
    IPS_EVENTS,
    IPS_NAT_DONE_MASK,
    IPS_NAT_MASK,
    IPS_SEEN_REPLY,
    Tuple,
    ip_ct_tcp,
    nf_conn,
)
from stack.netfilter.nf_conntrack_ecache import (
    IPCT_ASSURED,
    IPCT_DESTROY,
    IPCT_HELPER,
    IPCT_MARK,
    IPCT_NEW,
    IPCT_PROTOINFO,
    IPCT_RELATED,
    IPCT_REPLY,
    nf_conntrack_eventmask_report,
)
from stack.netfilter.nf_conntrack_id import nf_ct_get_id
from stack.netfilter.nf_conntrack_life import (
    nf_ct_all,
    nf_ct_delete,
    nf_ct_expires,
    nf_ct_is_expired,
)
from stack.netfilter.nf_conntrack_proto_tcp import TCP_CONNTRACK_MAX
from stack.netfilter.nf_conntrack_table import (
    __nf_conntrack_hash_insert,
    nf_conntrack_alloc,
    nf_conntrack_find_get,
)
from stack.netfilter.nf_conntrack_tuple import ICMP_INVERSE, ICMPV6_INVERSE
from stack.netlink.af_netlink import netlink_dump_start, netlink_reply, nlmsg_notify, nlmsg_part
from stack.netlink.ct_attrs import CTA, CTA_STATS, CTA_STATS_GLOBAL, NFGENMSG
from stack.netlink.netlink_sock import (
    NETLINK_NETFILTER,
    NLM_F_DUMP,
    NLM_F_ECHO,
    NLM_F_MULTI,
    netlink_callback,
    nlmsg,
)
from stack.netlink.nlattr import U32, Attrs, NlError

NFNL_SUBSYS_CTNETLINK, NFNL_SUBSYS_CTNETLINK_EXP = 1, 2
CT_NEW, CT_GET, CT_DELETE, CT_GET_CTRZERO, CT_GET_STATS_CPU, CT_GET_STATS = range(6)
CT_GET_DYING, CT_GET_UNCONFIRMED = 6, 7
EXP_GET = 1
PORTS = (IPPROTO_TCP, IPPROTO_UDP, 33, 47, 132, 136)
"""TCP, UDP, DCCP, GRE (with keys in place of ports), SCTP, UDP-Lite."""
ANSWERED = {IPPROTO_ICMP: ICMP_INVERSE, IPPROTO_ICMPV6: ICMPV6_INVERSE}
"""Types of ICMP messages of requests and replies."""
ICMP = {IPPROTO_ICMP: "CTA_PROTO_ICMP", IPPROTO_ICMPV6: "CTA_PROTO_ICMPV6"}
FIXED = IPS_CONFIRMED | IPS_DYING | 1
"""Bits of the status that a program may not change: CONFIRMED, DYING, EXPECTED."""
UNCHANGEABLE = FIXED | IPS_NAT_MASK | IPS_NAT_DONE_MASK
TCP_FLAGS_BYTES = 2
NFNLGRP_CONNTRACK_NEW, NFNLGRP_CONNTRACK_UPDATE, NFNLGRP_CONNTRACK_DESTROY = 1, 2, 3
CHANGED = IPCT_REPLY | IPCT_ASSURED | IPCT_HELPER | IPCT_PROTOINFO | IPCT_MARK
"""Events that a program may cause; reported even if nothing changed."""


def ct_type(message: int) -> int:
    """The netlink type of a message of conntrack."""
    return NFNL_SUBSYS_CTNETLINK << 8 | message


# --- dumping ------------------------------------------------------------------------------------


def fill_tuple(tup: Tuple) -> dict[str, Any]:
    """net/netfilter/nf_conntrack_netlink.c ctnetlink_dump_tuples: one direction."""
    l3num, proto, saddr, sport, daddr, dport = tup
    version = "V4" if l3num == NFPROTO_IPV4 else "V6"
    told: dict[str, Any] = {"CTA_PROTO_NUM": proto}
    if proto in PORTS:
        told |= {"CTA_PROTO_SRC_PORT": sport, "CTA_PROTO_DST_PORT": dport}
    elif proto in ICMP:
        name = ICMP[proto]
        told |= {f"{name}_ID": sport, f"{name}_TYPE": dport >> 8, f"{name}_CODE": dport & 0xFF}
    ip = {f"CTA_IP_{version}_SRC": int(saddr), f"CTA_IP_{version}_DST": int(daddr)}
    return {"CTA_TUPLE_IP": ip, "CTA_TUPLE_PROTO": told}


def fill_tcp(tcp: ip_ct_tcp, destroyed: bool = False) -> dict[str, Any]:
    """net/netfilter/nf_conntrack_proto_tcp.c tcp_to_nlattr; `destroyed`: the state only."""
    told: dict[str, Any] = {"CTA_PROTOINFO_TCP_STATE": tcp.state}
    if not destroyed:
        told |= {
            "CTA_PROTOINFO_TCP_WSCALE_ORIGINAL": tcp.orig.td_scale,
            "CTA_PROTOINFO_TCP_WSCALE_REPLY": tcp.reply.td_scale,
            "CTA_PROTOINFO_TCP_FLAGS_ORIGINAL": bytes((tcp.orig.flags & 0xFF, 0)),
            "CTA_PROTOINFO_TCP_FLAGS_REPLY": bytes((tcp.reply.flags & 0xFF, 0)),
        }
    return {"CTA_PROTOINFO_TCP": told}


def ctnetlink_fill_info(ct: nf_conn, use: int = 1) -> bytes:
    """net/netfilter/nf_conntrack_netlink.c: all attributes of a connection. `use`: references."""
    counted = ct.net.sysctl.nf_conntrack_acct
    head = NFGENMSG.pack(ct.l3num, 0, 0)
    return head + CTA.build(
        {
            "CTA_TUPLE_ORIG": fill_tuple(ct.orig.tuple),
            "CTA_TUPLE_REPLY": fill_tuple(ct.reply.tuple),
            "CTA_STATUS": ct.status & ~IPS_EVENTS,
            "CTA_MARK": ct.mark,
            "CTA_ID": nf_ct_get_id(ct),
            "CTA_USE": use,
            "CTA_TIMEOUT": nf_ct_expires(ct) // NSEC_PER_SEC,
            "CTA_PROTOINFO": None if ct.tcp is None else fill_tcp(ct.tcp),
            "CTA_COUNTERS_ORIG": counters(ct.orig_packets, ct.orig_bytes) if counted else None,
            "CTA_COUNTERS_REPLY": counters(ct.reply_packets, ct.reply_bytes) if counted else None,
        }
    )


def ctnetlink_conntrack_event(ct: nf_conn, events: int, portid: int, report: bool) -> int:
    """net/netfilter/nf_conntrack_netlink.c: send an event. 0, -ENOBUFS: see nlmsg_notify."""
    message, group, flags = CT_NEW, NFNLGRP_CONNTRACK_UPDATE, 0
    ends = bool(events & IPCT_DESTROY)
    if ends:
        message, group = CT_DELETE, NFNLGRP_CONNTRACK_DESTROY
    elif events & (IPCT_NEW | IPCT_RELATED):
        group, flags = NFNLGRP_CONNTRACK_NEW, NLM_F_CREATE | NLM_F_EXCL
    net = ct.net
    if not report and not net.nl_table.protocols[NETLINK_NETFILTER].listeners.get(group):
        return 0
    left = nf_ct_expires(ct) // NSEC_PER_SEC
    counted = ends and net.sysctl.nf_conntrack_acct
    state = ct.tcp is not None and (ends or events & IPCT_PROTOINFO)
    payload = NFGENMSG.pack(ct.l3num, 0, 0) + CTA.build(
        {
            "CTA_TUPLE_ORIG": fill_tuple(ct.orig.tuple),
            "CTA_TUPLE_REPLY": fill_tuple(ct.reply.tuple),
            "CTA_ID": nf_ct_get_id(ct),
            "CTA_STATUS": ct.status & ~IPS_EVENTS,
            "CTA_TIMEOUT": left if left or not ends else None,
            "CTA_COUNTERS_ORIG": counters(ct.orig_packets, ct.orig_bytes) if counted else None,
            "CTA_COUNTERS_REPLY": counters(ct.reply_packets, ct.reply_bytes) if counted else None,
            "CTA_PROTOINFO": fill_tcp(ct.tcp, ends) if ct.tcp is not None and state else None,
            "CTA_MARK": ct.mark if ct.mark or events & IPCT_MARK else None,
        }
    )
    kind = ct_type(message)
    return nlmsg_notify(net, NETLINK_NETFILTER, group, kind, payload, flags, portid, report)


def counters(packets: int, size: int) -> dict[str, int]:
    """The counters of one direction."""
    return {"CTA_COUNTERS_PACKETS": packets, "CTA_COUNTERS_BYTES": size}


# --- reading requests -----------------------------------------------------------------------------


def family_of(nlh: nlmsg) -> int:
    """nfgen_family of a request."""
    return nlh.payload[0]


def need(found: dict[str, Any], *names: str) -> None:
    """Raises: NlError EINVAL: an attribute is missing."""
    if any(name not in found for name in names):
        raise NlError(errno.EINVAL)


def parse_tuple(tb: Attrs, name: str, l3num: int) -> Tuple:
    """net/netfilter/nf_conntrack_netlink.c ctnetlink_parse_tuple. Raises: NlError."""
    if l3num not in (NFPROTO_IPV4, NFPROTO_IPV6):
        raise NlError(errno.EOPNOTSUPP)
    found: Attrs = tb[name]
    need(found, "CTA_TUPLE_IP")
    version = "V4" if l3num == NFPROTO_IPV4 else "V6"
    source, destination = f"CTA_IP_{version}_SRC", f"CTA_IP_{version}_DST"
    need(found["CTA_TUPLE_IP"], source, destination)
    need(found, "CTA_TUPLE_PROTO")
    proto: Attrs = found["CTA_TUPLE_PROTO"]
    need(proto, "CTA_PROTO_NUM")
    number: int = proto["CTA_PROTO_NUM"]
    sport = dport = 0
    if number in PORTS:
        need(proto, "CTA_PROTO_SRC_PORT", "CTA_PROTO_DST_PORT")
        sport, dport = proto["CTA_PROTO_SRC_PORT"], proto["CTA_PROTO_DST_PORT"]
    elif number in ICMP:
        kind = ICMP[number]
        need(proto, f"{kind}_TYPE", f"{kind}_CODE", f"{kind}_ID")
        sport = proto[f"{kind}_ID"]
        dport = proto[f"{kind}_TYPE"] << 8 | proto[f"{kind}_CODE"]
        if proto[f"{kind}_TYPE"] not in ANSWERED[number]:
            raise NlError(errno.EINVAL)
    if found.get("CTA_TUPLE_ZONE"):
        raise NlError(errno.EOPNOTSUPP, "There are no zones")
    ip: Attrs = found["CTA_TUPLE_IP"]
    return l3num, number, ip[source], sport, ip[destination], dport


def tuple_of(nlh: nlmsg, tb: Attrs) -> Tuple | None:
    """The tuple that a request names, of either direction; None: it has none."""
    for name in ("CTA_TUPLE_ORIG", "CTA_TUPLE_REPLY"):
        if name in tb:
            return parse_tuple(tb, name, family_of(nlh))
    return None


def find(nlh: nlmsg, tup: Tuple) -> nf_conn:
    """The connection of a tuple. Raises: NlError ENOENT."""
    found = nf_conntrack_find_get(nlh.sk.net, tup)
    if found is None:
        raise NlError(errno.ENOENT)
    ct: nf_conn = found.ct
    return ct


def caused_by(nlh: nlmsg) -> tuple[int, bool]:
    """The cause of an event, and whether the program requests an echo (nlmsg_report)."""
    return nlh.sk.portid, bool(nlh.flags & NLM_F_ECHO)


# --- filters ------------------------------------------------------------------------------------

Fits = Callable[[nf_conn], bool]
FILTERS = ("CTA_MARK", "CTA_STATUS", "CTA_FILTER")
"""The filter of a dump; a mask without value is ignored."""


def ctnetlink_alloc_filter(nlh: nlmsg, tb: Attrs) -> Fits:
    """net/netfilter/nf_conntrack_netlink.c: the connections that a dump or flush selects.

    Raises: NlError EINVAL: a mask without its value, a filter without its tuple.
    """
    if not family_of(nlh) and not any(name in tb for name in FILTERS):
        return lambda ct: True
    for mask, value in (("CTA_MARK_MASK", "CTA_MARK"), ("CTA_STATUS_MASK", "CTA_STATUS")):
        if mask in tb and value not in tb:
            raise NlError(errno.EINVAL)
    family = family_of(nlh)
    mark, mark_mask = tb.get("CTA_MARK", 0), tb.get("CTA_MARK_MASK", 0xFFFFFFFF)
    status = tb.get("CTA_STATUS", 0)
    status_mask = tb.get("CTA_STATUS_MASK", status)
    if "CTA_STATUS" in tb and not status_mask:
        raise NlError(errno.EINVAL)
    places = tuple_filter(nlh, tb) if "CTA_FILTER" in tb else []

    def fits(ct: nf_conn) -> bool:
        if family and ct.l3num != family:
            return False
        if "CTA_MARK" in tb and ct.mark & mark_mask != mark:
            return False
        if "CTA_STATUS" in tb and ct.status & ~IPS_EVENTS & status_mask != status:
            return False
        return all(
            (ct.reply if reply else ct.orig).tuple[at] & mask == value
            for reply, at, mask, value in places
        )

    return fits


FILTER_PLACES = (
    (0x1, "CTA_IP_{}_SRC", 2, -1),
    (0x2, "CTA_IP_{}_DST", 4, -1),
    (0x8, "CTA_PROTO_NUM", 1, -1),
    (0x10, "CTA_PROTO_SRC_PORT", 3, -1),
    (0x20, "CTA_PROTO_DST_PORT", 5, -1),
    (0x40, "CTA_PROTO_ICMP_TYPE", 5, 0xFF00),
    (0x80, "CTA_PROTO_ICMP_CODE", 5, 0xFF),
    (0x100, "CTA_PROTO_ICMP_ID", 3, -1),
    (0x200, "CTA_PROTO_ICMPV6_TYPE", 5, 0xFF00),
    (0x400, "CTA_PROTO_ICMPV6_CODE", 5, 0xFF),
    (0x800, "CTA_PROTO_ICMPV6_ID", 3, -1),
)
"""CTA_FILTER_F_*, the attribute, the member of a tuple, and which of its bits."""
FILTER_ALL = (1 << 12) - 1


def tuple_filter(nlh: nlmsg, tb: Attrs) -> list[tuple[bool, int, int, int]]:
    """CTA_FILTER: which members of which tuple are compared: (reply, member, bits, value).

    Raises: NlError EINVAL, EOPNOTSUPP.
    """
    family = family_of(nlh)
    if family not in (NFPROTO_IPV4, NFPROTO_IPV6):
        raise NlError(errno.EOPNOTSUPP)
    found = []
    for reply, flags_name, name in (
        (False, "CTA_FILTER_ORIG_FLAGS", "CTA_TUPLE_ORIG"),
        (True, "CTA_FILTER_REPLY_FLAGS", "CTA_TUPLE_REPLY"),
    ):
        raw = tb["CTA_FILTER"].get(flags_name, b"")
        if not raw:
            continue
        flags = U32.get(raw) if len(raw) >= U32.size else FILTER_ALL + 1
        if flags & ~FILTER_ALL:
            raise NlError(errno.EOPNOTSUPP)
        if not flags or name not in tb:
            continue
        found += [(reply, *one) for one in wanted_members(tb[name], flags, family)]
    return found


def wanted_members(given: Attrs, flags: int, family: int) -> list[tuple[int, int, int]]:
    """The members of a tuple selected by flags. Raises: NlError EINVAL: one is not given."""
    version = "V4" if family == NFPROTO_IPV4 else "V6"
    members = {**given.get("CTA_TUPLE_IP", {}), **given.get("CTA_TUPLE_PROTO", {})}
    found = []
    for bit, name, at, mask in FILTER_PLACES:
        if flags & bit:
            name = name.format(version)
            need(members, name)
            found.append((at, mask, members[name] << 8 if mask == 0xFF00 else members[name]))
    return found


def connections(net: Net) -> list[nf_conn]:
    """Each connection that has not timed out."""
    return [ct for ct in nf_ct_all(net.ct) if not nf_ct_is_expired(ct)]


# --- messages -----------------------------------------------------------------------------------


def ctnetlink_get_conntrack(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nf_conntrack_netlink.c: IPCTNL_MSG_CT_GET and _GET_CTRZERO."""
    zero = nlh.type & 0xFF == CT_GET_CTRZERO
    if nlh.flags & NLM_F_DUMP:
        fits = ctnetlink_alloc_filter(nlh, tb)
        netlink_dump_start(nlh, netlink_callback(nlh, dump_table(nlh, fits, zero)))
        return
    tup = tuple_of(nlh, tb)
    if tup is None:
        raise NlError(errno.EINVAL)
    payload = ctnetlink_fill_info(find(nlh, tup), use=2)
    netlink_reply(nlh, ct_type(CT_NEW), payload, NLM_F_MULTI)


def dump_table(nlh: nlmsg, fits: Fits, zero: bool) -> Iterator[bytes]:
    """net/netfilter/nf_conntrack_netlink.c ctnetlink_dump_table; `zero`: reset the
    counters."""
    for ct in connections(nlh.sk.net):
        if ct.status & IPS_DYING or not fits(ct):
            continue
        yield nlmsg_part(nlh, ct_type(CT_NEW), ctnetlink_fill_info(ct))
        if zero:
            ct.orig_packets = ct.orig_bytes = ct.reply_packets = ct.reply_bytes = 0


def ctnetlink_del_conntrack(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nf_conntrack_netlink.c: IPCTNL_MSG_CT_DELETE."""
    tup = tuple_of(nlh, tb)
    if tup is None:
        fits = ctnetlink_alloc_filter(nlh, tb)
        for ct in connections(nlh.sk.net):
            if fits(ct):
                nf_ct_delete(ct, *caused_by(nlh))
        return
    ct = find(nlh, tup)
    if "CTA_ID" in tb and tb["CTA_ID"] != nf_ct_get_id(ct):
        raise NlError(errno.ENOENT)
    nf_ct_delete(ct, *caused_by(nlh))


def ctnetlink_new_conntrack(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nf_conntrack_netlink.c: IPCTNL_MSG_CT_NEW: make or change a connection."""
    tup = tuple_of(nlh, tb)
    found = None if tup is None else nf_conntrack_find_get(nlh.sk.net, tup)
    if found is not None:
        if nlh.flags & NLM_F_EXCL:
            raise NlError(errno.EEXIST)
        change(found.ct, tb)
        nf_conntrack_eventmask_report(CHANGED, found.ct, *caused_by(nlh))
        return
    if not nlh.flags & NLM_F_CREATE:
        raise NlError(errno.ENOENT)
    need(tb, "CTA_TUPLE_ORIG", "CTA_TUPLE_REPLY")
    family = family_of(nlh)
    ct = create(
        nlh.sk.net,
        tb,
        parse_tuple(tb, "CTA_TUPLE_ORIG", family),
        parse_tuple(tb, "CTA_TUPLE_REPLY", family),
    )
    nf_conntrack_eventmask_report(CHANGED | IPCT_NEW, ct, *caused_by(nlh))


def change(ct: nf_conn, tb: Attrs) -> None:
    """net/netfilter/nf_conntrack_netlink.c ctnetlink_change_conntrack. Raises: NlError EBUSY."""
    status = tb.get("CTA_STATUS", ct.status)
    differs = status ^ ct.status
    kept = IPS_SEEN_REPLY | IPS_ASSURED
    if differs & FIXED or differs & kept & ~status:
        raise NlError(errno.EBUSY)
    if "CTA_TIMEOUT" in tb:
        ct.timeout = ct.net.clock.now_ns() + tb["CTA_TIMEOUT"] * NSEC_PER_SEC
    set_status(ct, status)
    set_tcp_state(ct, tb)
    if "CTA_MARK" in tb:
        mask = tb.get("CTA_MARK_MASK", 0xFFFFFFFF)
        ct.mark = ct.mark & ~mask & 0xFFFFFFFF ^ tb["CTA_MARK"]


def set_status(ct: nf_conn, status: int) -> None:
    """net/netfilter/nf_conntrack_netlink.c __nf_ct_change_status: what programs may set."""
    ct.status |= status & ~UNCHANGEABLE & 0x7FFF
    if status & IPS_ASSURED:
        ct.net.ct.unassured.pop(ct, None)


def set_tcp_state(ct: nf_conn, tb: Attrs) -> None:
    """net/netfilter/nf_conntrack_proto_tcp.c nlattr_to_tcp. Raises: NlError EINVAL."""
    told = tb.get("CTA_PROTOINFO", Attrs()).get("CTA_PROTOINFO_TCP")
    if told is None or ct.tcp is None:
        return
    if told.get("CTA_PROTOINFO_TCP_STATE", 0) >= TCP_CONNTRACK_MAX:
        raise NlError(errno.EINVAL)
    ct.tcp.state = told.get("CTA_PROTOINFO_TCP_STATE", ct.tcp.state)
    for side, name in ((ct.tcp.orig, "ORIGINAL"), (ct.tcp.reply, "REPLY")):
        raw = told.get(f"CTA_PROTOINFO_TCP_FLAGS_{name}", b"")
        if len(raw) >= TCP_FLAGS_BYTES:
            side.flags = side.flags & ~raw[1] | raw[0] & raw[1]
        side.td_scale = told.get(f"CTA_PROTOINFO_TCP_WSCALE_{name}", side.td_scale)


def create(net: Net, tb: Attrs, orig: Tuple, reply: Tuple) -> nf_conn:
    """net/netfilter/nf_conntrack_netlink.c ctnetlink_create_conntrack. Raises: NlError EINVAL,
    EEXIST, ENOMEM: the table is full.
    """
    need(tb, "CTA_TIMEOUT")
    if tb.get("CTA_STATUS", IPS_CONFIRMED) & FIXED != IPS_CONFIRMED:
        raise NlError(errno.EBUSY)
    ct = nf_conntrack_alloc(net, orig, reply)
    if ct is None:
        raise NlError(errno.ENOMEM)
    if orig[1] == IPPROTO_TCP:
        ct.tcp = ip_ct_tcp()
    set_tcp_state(ct, tb)
    if any(nf_conntrack_find_get(net, tup) is not None for tup in (orig, reply)):
        raise NlError(errno.EEXIST)
    ct.mark = tb.get("CTA_MARK", 0)
    ct.timeout = net.clock.now_ns() + tb["CTA_TIMEOUT"] * NSEC_PER_SEC
    set_status(ct, tb.get("CTA_STATUS", 0))
    __nf_conntrack_hash_insert(ct)
    return ct


# --- statistics ---------------------------------------------------------------------------------


def ctnetlink_stat_ct_cpu(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nf_conntrack_netlink.c: IPCTNL_MSG_CT_GET_STATS_CPU: counters of the one
    CPU."""
    if not nlh.flags & NLM_F_DUMP:
        return
    stat = nlh.sk.net.ct.stat
    told = {}
    for name in CTA_STATS.by_name:
        counter = name.removeprefix("CTA_STATS_").lower()
        told[name] = getattr(stat, counter, 0) & 0xFFFFFFFF  # chains are never too long here
    payload = NFGENMSG.pack(0, 0, 0) + CTA_STATS.build(told)
    message = nlmsg_part(nlh, ct_type(CT_GET_STATS_CPU), payload)
    netlink_dump_start(nlh, netlink_callback(nlh, iter((message,))))


def ctnetlink_stat_ct(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nf_conntrack_netlink.c: IPCTNL_MSG_CT_GET_STATS: how many, and the limit."""
    net = nlh.sk.net
    payload = NFGENMSG.pack(0, 0, 0) + CTA_STATS_GLOBAL.build(
        {
            "CTA_STATS_GLOBAL_ENTRIES": net.ct.count,
            "CTA_STATS_GLOBAL_MAX_ENTRIES": net.sysctl.nf_conntrack_max,
        }
    )
    netlink_reply(nlh, ct_type(CT_GET_STATS), payload, NLM_F_MULTI)


def ctnetlink_get_ct_dying(nlh: nlmsg, tb: Attrs) -> None:
    """IPCTNL_MSG_CT_GET_DYING, _UNCONFIRMED: as on Linux since 5.19 a dump is empty.

    Raises: NlError EOPNOTSUPP: it is not a dump.
    """
    if not nlh.flags & NLM_F_DUMP:
        raise NlError(errno.EOPNOTSUPP)
    netlink_dump_start(nlh, netlink_callback(nlh, iter(())))


def ctnetlink_get_expect(nlh: nlmsg, tb: Attrs) -> None:
    """IPCTNL_MSG_EXP_GET: there are no expected connections. Raises: NlError EINVAL, ENOENT."""
    if nlh.flags & NLM_F_DUMP:
        netlink_dump_start(nlh, netlink_callback(nlh, iter(())))
        return
    need(tb, "CTA_EXPECT_TUPLE")
    parse_tuple(tb, "CTA_EXPECT_TUPLE", family_of(nlh))
    raise NlError(errno.ENOENT)
