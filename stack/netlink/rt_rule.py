"""net/core/fib_rules.c: RTM_*RULE: rules of policy routing."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

from stack.core.fib_rules import (
    FR_ACT_GOTO,
    FR_ACT_TO_TBL,
    fib_default_rule_pref,
    fib_rule,
    fib_rule_add,
    fib_rule_check,
    fib_rule_del,
    fib_rule_find,
    fib_rules_ops,
)
from stack.core.uapi import AF_INET, AF_INET6, NLM_F_EXCL, RTM_DELRULE, RTM_NEWRULE, RTPROT_KERNEL
from stack.inet.ipmr_base import RTNL_FAMILY_IP6MR, RTNL_FAMILY_IPMR
from stack.ipv4.fib import RT_TABLE_DEFAULT, fib_get_table
from stack.ipv6.ip6_fib import fib6_get_table
from stack.net import Net
from stack.netlink.af_netlink import nlmsg_part
from stack.netlink.netlink_sock import NLMSG_HDRLEN, nlmsg
from stack.netlink.nlattr import NlError
from stack.netlink.rt_attrs import FRA, FRA_RANGE16, FRA_RANGE32, RTMSG
from stack.netlink.rt_link import header
from stack.netlink.rt_route import rt_table

FIELDS = {
    "FRA_GOTO": "target",
    "FRA_PRIORITY": "pref",
    "FRA_IIFNAME": "iifname",
    "FRA_OIFNAME": "oifname",
    "FRA_TUN_ID": "tun_id",
    "FRA_FWMARK": "mark",
    "FRA_FWMASK": "mark_mask",
    "FRA_SUPPRESS_IFGROUP": "suppress_ifgroup",
    "FRA_SUPPRESS_PREFIXLEN": "suppress_prefixlen",
    "FRA_L3MDEV": "l3mdev",
    "FRA_UID_RANGE": "uid_range",
    "FRA_PROTOCOL": "proto",
    "FRA_IP_PROTO": "ip_proto",
    "FRA_SPORT_RANGE": "sport",
    "FRA_DPORT_RANGE": "dport",
}
"""Fields of a rule by attribute; FRA_TABLE, FRA_SRC and FRA_DST have others in the header."""
RANGES = {
    "FRA_UID_RANGE": (FRA_RANGE32, 0xFFFFFFFF),
    "FRA_SPORT_RANGE": (FRA_RANGE16, 0xFFFF - 1),
    "FRA_DPORT_RANGE": (FRA_RANGE16, 0xFFFF - 1),
}
"""The structure of a range, and its highest end."""
MROUTE_RULES = {RTNL_FAMILY_IPMR: 253, RTNL_FAMILY_IP6MR: 254}
"""The table of multicast routes that the only rule of each family names."""
ALSO_0 = ("pref", "suppress_prefixlen", "suppress_ifgroup")
"""Fields that select a rule even if they are 0."""
NONE = 0xFFFFFFFF
"""-1 for a field that suppresses nothing."""
FIB_RULE_PERMANENT, FIB_RULE_UNRESOLVED = 0x01, 0x04
FIB_RULE_IIF_DETACHED, FIB_RULE_OIF_DETACHED = 0x08, 0x10


def fib_nl_dumprule(nlh: nlmsg) -> Iterator[bytes]:
    """net/core/fib_rules.c: RTM_GETRULE of a family or of both."""
    sk = nlh.sk
    if sk.strict_chk:
        text = "Invalid header for fib rule dump request"
        _, *values = header(nlh, RTMSG, text)
        if any(values):
            raise NlError(errno.EINVAL, "Invalid values in header for fib rule dump request")
        if len(nlh.payload) > RTMSG.size:
            raise NlError(errno.EINVAL, "Invalid data after header in fib rule dump request")
    family = nlh.payload[0]
    if family and lookup_rules_ops(sk.net, family) is None and family not in MROUTE_RULES:
        raise NlError(errno.EAFNOSUPPORT)
    for each in (AF_INET, RTNL_FAMILY_IPMR, RTNL_FAMILY_IP6MR, AF_INET6):
        if family not in (0, each):
            continue
        ops = lookup_rules_ops(sk.net, each)
        if ops is not None:
            for rule in tuple(ops.rules):
                yield nlmsg_part(nlh, RTM_NEWRULE, fib_nl_fill_rule(sk.net, ops, rule))
        if each in MROUTE_RULES:
            yield nlmsg_part(nlh, RTM_NEWRULE, mroute_rule(each))


def mroute_rule(family: int) -> bytes:
    """The only rule of a family of multicast routes."""
    table = MROUTE_RULES[family]
    head = RTMSG.pack(family, 0, 0, 0, table, 0, 0, FR_ACT_TO_TBL, 0)
    return head + FRA.build(
        {
            "FRA_TABLE": table,
            "FRA_SUPPRESS_PREFIXLEN": NONE,
            "FRA_PROTOCOL": RTPROT_KERNEL,
            "FRA_PRIORITY": 0x7FFF,
        }
    )


def lookup_rules_ops(net: Net, family: int) -> fib_rules_ops | None:
    """net/core/fib_rules.c: the rules of a family; None: it has none."""
    return {AF_INET: net.fib.ops, AF_INET6: net.ipv6.fib6.ops}.get(family)


def fib_nl_fill_rule(net: Net, ops: fib_rules_ops, rule: fib_rule) -> bytes:
    """net/core/fib_rules.c: struct fib_rule_hdr and the attributes of a rule."""
    flags = rule.flags
    if rule.action == FR_ACT_GOTO and all(each.pref != rule.target for each in ops.rules):
        flags |= FIB_RULE_UNRESOLVED
    if rule.iifname and rule.iifname not in net.dev_by_name:
        flags |= FIB_RULE_IIF_DETACHED
    if rule.oifname and rule.oifname not in net.dev_by_name:
        flags |= FIB_RULE_OIF_DETACHED
    head = RTMSG.pack(
        *(ops.family, rule.dst_len, rule.src_len, rule.tos, rt_table(rule.table)),
        *(0, 0, rule.action, flags),
    )
    size = ops.bits // 8
    group = rule.suppress_ifgroup
    return head + FRA.build(
        {
            "FRA_TABLE": rule.table,
            "FRA_SUPPRESS_PREFIXLEN": rule.suppress_prefixlen & NONE,
            "FRA_PROTOCOL": rule.proto,
            "FRA_IIFNAME": rule.iifname or None,
            "FRA_OIFNAME": rule.oifname or None,
            "FRA_PRIORITY": rule.pref or None,
            "FRA_FWMARK": rule.mark or None,
            "FRA_FWMASK": rule.mark_mask if rule.mark or rule.mark_mask else None,
            "FRA_GOTO": rule.target if rule.target >= 0 else None,
            "FRA_TUN_ID": rule.tun_id or None,
            "FRA_L3MDEV": rule.l3mdev or None,
            "FRA_UID_RANGE": FRA_RANGE32.pack(*rule.uid_range) if rule.uid_range else None,
            "FRA_SPORT_RANGE": FRA_RANGE16.pack(*rule.sport) if rule.sport else None,
            "FRA_DPORT_RANGE": FRA_RANGE16.pack(*rule.dport) if rule.dport else None,
            "FRA_IP_PROTO": rule.ip_proto or None,
            "FRA_SUPPRESS_IFGROUP": group if group >= 0 else None,
            "FRA_DST": rule.dst.to_bytes(size, "big") if rule.dst_len else None,
            "FRA_SRC": rule.src.to_bytes(size, "big") if rule.src_len else None,
        }
    )


def rule_request(nlh: nlmsg) -> tuple[fib_rules_ops, fib_rule, dict[str, Any]]:
    """net/core/fib_rules.c fib_nl2rule: the family's rules, the request's rule, the given fields.

    Raises: NlError EINVAL, EAFNOSUPPORT; EOPNOTSUPP for conditions that rules here do not have.
    """
    values = header(nlh, RTMSG, "Invalid msg length")
    family, dst_len, src_len, tos, table, _, _, action, flags = values
    ops = lookup_rules_ops(nlh.sk.net, family)
    if ops is None:
        raise NlError(errno.EAFNOSUPPORT, "Rule family not supported")
    try:
        tb = FRA.parse(nlh.whole, NLMSG_HDRLEN + RTMSG.size)
    except NlError as exc:
        raise NlError(exc.errno or errno.EINVAL, "Error parsing msg", exc.at) from None
    found: dict[str, Any] = {"action": action, "flags": flags, "tos": tos}
    for name, length, field in (("FRA_SRC", src_len, "src"), ("FRA_DST", dst_len, "dst")):
        if not length:
            continue
        if length > ops.bits or len(tb.get(name, b"")) != ops.bits // 8:
            what = "source" if field == "src" else "dst"
            raise NlError(errno.EINVAL, f"Invalid {what} address")
        found[field] = int.from_bytes(tb[name], "big")
        found[f"{field}_len"] = length
    for name, value in tb.items():
        if name in RANGES:
            found[FIELDS[name]] = RANGES[name][0].unpack_from(value)
        elif name in FIELDS:
            found[FIELDS[name]] = value
        elif name not in ("FRA_TABLE", "FRA_SRC", "FRA_DST"):
            raise tb.wrong(name, "rules here have no such condition", errno.EOPNOTSUPP)
    for name in ("suppress_prefixlen", "suppress_ifgroup"):
        if found.get(name) == NONE:
            found[name] = -1
    if found.get("mark") and "mark_mask" not in found:
        found["mark_mask"] = NONE
    if tb.get("FRA_L3MDEV", 1) != 1:
        raise NlError(errno.EINVAL, "Invalid l3mdev attribute")
    found["table"] = tb.get("FRA_TABLE", table)
    rule = fib_rule(**{"pref": fib_default_rule_pref(ops), **found})
    rule.tos = 0 if nlh.type == RTM_DELRULE else tos
    fib_rule_check(rule, placed=False)
    for name in RANGES:
        if name in tb:
            check_range(name, *found[FIELDS[name]])
    fib_rule_check(rule)
    rule.tos = tos
    return ops, rule, found


def check_range(name: str, first: int, last: int) -> None:
    """net/core/fib_rules.c fib_rule_port_range_valid and its like. Raises: NlError EINVAL."""
    if first > last or last > RANGES[name][1] or (name != "FRA_UID_RANGE" and not first):
        what = "uid" if name == "FRA_UID_RANGE" else FIELDS[name]
        raise NlError(errno.EINVAL, f"Invalid {what} range")


def fib_nl_newrule(nlh: nlmsg) -> None:
    """net/core/fib_rules.c: RTM_NEWRULE. Raises: NlError, OSError EEXIST."""
    net = nlh.sk.net
    ops, rule, _ = rule_request(nlh)
    if rule.action == FR_ACT_TO_TBL and not rule.table and not rule.l3mdev:
        if ops.family == AF_INET6:
            raise NlError(errno.EINVAL, "Invalid table")
        rule.table = next(i for i in range(1, RT_TABLE_DEFAULT) if i not in net.fib.tables)
        fib_get_table(net, rule.table)
    fib_rule_add(net, ops, rule, bool(nlh.flags & NLM_F_EXCL))
    if ops.family == AF_INET6 and rule.action == FR_ACT_TO_TBL and not rule.l3mdev:
        fib6_get_table(net, rule.table)


def fib_nl_delrule(nlh: nlmsg) -> None:
    """net/core/fib_rules.c: RTM_DELRULE: the first that matches the given fields."""
    ops, _, found = rule_request(nlh)
    given = {
        name: value
        for name, value in found.items()
        if name not in ("flags", "target") and (value or name in ALSO_0) and value != -1
    }
    rule = fib_rule_find(ops, given)
    if rule.flags & FIB_RULE_PERMANENT:
        raise NlError(errno.EPERM)
    fib_rule_del(nlh.sk.net, ops, rule)
