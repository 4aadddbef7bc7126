"""Policy routing: rules that select the table of a lookup, for both families.

net/core/fib_rules.c, include/net/fib_rules.h, include/uapi/linux/fib_rules.h.

    fib_rules_ops           the rules of a family, by priority: `net.fib.ops`, `net.ipv6.fib6.ops`
        fib_rule_add, fib_rule_del      a program changes them; `changed` drops cached routes
        fib_rules_sort                  divides them into `leading` and `rest`
        fib_rule_next                   the next rule of `rest` that a flow matches

`leading` are the tables of the first rules that match every packet, such as the default ones:
local, main, default. A lookup tries these first, without a flow. Only if they have no route, and
there is a `rest`, its rules are compared with the flow (ipv4/fib.py, ipv6/ip6_fib.py). So the
default rules cost nothing for a packet that has a route. Read fib_rule_match first.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING

from stack.core.errors import os_error
from stack.core.extack import ExtAckError
from stack.core.l3mdev import l3mdev_fib_table, l3mdev_flow, netif_is_l3_master
from stack.core.netdevice import net_device
from stack.core.uapi import RTM_DELRULE, RTM_NEWRULE, RTPROT_KERNEL
from stack.net import Net

if TYPE_CHECKING:
    from stack.inet.flow import flowi

# include/uapi/linux/fib_rules.h
FR_ACT_TO_TBL = 1
FR_ACT_GOTO = 2
FR_ACT_NOP = 3
FR_ACT_BLACKHOLE = 6
FR_ACT_UNREACHABLE = 7
FR_ACT_PROHIBIT = 8
FIB_RULE_INVERT = 0x02
FIB_RULE_FIND_SADDR = 0x00010000

LAST_ID = 0xFFFFFFFF
LOOPBACK_IFINDEX = 1
"""The input interface of the host's own flows."""

FR_ACT_ERROR = {
    FR_ACT_BLACKHOLE: errno.EINVAL,
    FR_ACT_UNREACHABLE: errno.ENETUNREACH,
    FR_ACT_PROHIBIT: errno.EACCES,
}
"""net/ipv4/fib_rules.c fib4_rule_action: what a lookup ends with."""


@dataclass(slots=True)
class fib_rule:
    """struct fib_rule with fib4_rule's and fib6_rule's fields. Each condition's default is "any".

    `target`: the priority that FR_ACT_GOTO goes to, else -1. `src`, `dst`: ints. `sport`, `dport`,
    `uid_range`: first and last. `suppress_prefixlen`, `suppress_ifgroup`: -1 suppresses nothing.
    """

    pref: int = 0
    action: int = FR_ACT_TO_TBL
    table: int = 0
    flags: int = 0
    target: int = -1
    src: int = 0
    src_len: int = 0
    dst: int = 0
    dst_len: int = 0
    tos: int = 0
    iifname: str = ""
    oifname: str = ""
    mark: int = 0
    mark_mask: int = 0
    ip_proto: int = 0
    sport: tuple[int, int] | None = None
    dport: tuple[int, int] | None = None
    uid_range: tuple[int, int] | None = None
    tun_id: int = 0
    l3mdev: int = 0
    suppress_prefixlen: int = -1
    suppress_ifgroup: int = -1
    proto: int = 0


@dataclass(slots=True)
class fib_rules_ops:
    """struct fib_rules_ops: the rules of a family; `tos_mask`: which bits of the TOS are compared.

    `leading`: numbers of tables, `rest`: the rules behind them. `changed()`: called after a change.
    """

    family: int
    bits: int
    tos_mask: int
    rules: list[fib_rule]
    changed: Callable[[], None]
    leading: list[int] = field(default_factory=list)
    rest: list[fib_rule] = field(default_factory=list)
    has_custom_rules: bool = False
    """net->ipv4.fib_has_custom_rules: a program has changed them, once."""
    l3mdev_rule: bool = False
    """The namespace's first VRF has added its rule (drivers/vrf.py)."""

    def __post_init__(self) -> None:
        fib_rules_sort(self)


def fib_default_rules(*rules: tuple[int, int]) -> list[fib_rule]:
    """The initial rules, from (priority, table)."""
    return [fib_rule(pref, table=table, proto=RTPROT_KERNEL) for pref, table in rules]


def fib_rules_sort(ops: fib_rules_ops) -> None:
    """Divide the rules into `leading` and `rest`."""
    plain = list(takewhile(is_plain, ops.rules))
    ops.leading = [rule.table for rule in plain]
    ops.rest = ops.rules[len(plain) :]


def is_plain(rule: fib_rule) -> bool:
    """Whether it is an unconditional lookup in its table."""
    return rule == fib_rule(rule.pref, table=rule.table, proto=rule.proto)


# --- lookup -------------------------------------------------------------------------------------


def fib_rule_dev_match(net: Net, name: str, ifindex: int, l3mdev: int) -> bool:
    """fib_rule_iif_match, fib_rule_oif_match: the named device; a VRF matches its ports."""
    dev = net.dev_by_name.get(name)
    if dev is None:
        return False
    return dev.ifindex == (l3mdev if netif_is_l3_master(dev) else ifindex)


def fib_rule_match(
    net: Net, ops: fib_rules_ops, rule: fib_rule, fl: flowi, iif: int, l3mdev: int = 0
) -> bool:
    """net/core/fib_rules.c, fib4_rule_match, fib6_rule_match: whether the rule matches a flow.

    `iif`: index of the receiving interface, LOOPBACK_IFINDEX for the host's own flows. `l3mdev`: of
    the flow's VRF, or 0.
    """
    return _conditions_hold(net, ops, rule, fl, iif, l3mdev) != bool(rule.flags & FIB_RULE_INVERT)


def _conditions_hold(
    net: Net, ops: fib_rules_ops, rule: fib_rule, fl: flowi, iif: int, l3mdev: int
) -> bool:
    if rule.iifname and not fib_rule_dev_match(net, rule.iifname, iif, l3mdev):
        return False
    if rule.oifname and not fib_rule_dev_match(net, rule.oifname, fl.flowi_oif, l3mdev):
        return False
    if (rule.mark ^ fl.flowi_mark) & rule.mark_mask or rule.tun_id:
        return False  # tunnel ids are not supported
    if rule.l3mdev and not l3mdev:
        return False
    if rule.uid_range is not None and not rule.uid_range[0] <= net.uid <= rule.uid_range[1]:
        return False
    if rule.dst_len and (fl.daddr ^ rule.dst) >> (ops.bits - rule.dst_len):
        return False
    if rule.src_len:
        # A flow without a source yet matches no IPv6 network; for IPv4 its source is 0.0.0.0.
        if ops.bits == 128 and not fl.saddr:
            if not rule.flags & FIB_RULE_FIND_SADDR:
                return False
        elif (fl.saddr ^ rule.src) >> (ops.bits - rule.src_len):
            return False
    if rule.tos and rule.tos != fl.flowi_tos & ops.tos_mask:
        return False
    if rule.ip_proto and rule.ip_proto != fl.flowi_proto:
        return False
    if rule.sport is not None and not rule.sport[0] <= fl.fl_sport <= rule.sport[1]:
        return False
    return rule.dport is None or rule.dport[0] <= fl.fl_dport <= rule.dport[1]


def fib_rule_next(
    net: Net, ops: fib_rules_ops, at: int, fl: flowi, iif: int, l3mdev: int = 0
) -> int:
    """net/core/fib_rules.c fib_rules_lookup: index in `rest` of the rule that applies; or -1.

    The search begins at `at` and follows `goto`, which goes forward only. `l3mdev`: the flow's VRF,
    if it is not that of its interface.
    """
    rest = ops.rest
    if rest and not l3mdev:
        l3mdev = l3mdev_flow(net, fl, iif)
    while at < len(rest):
        rule = rest[at]
        at += 1
        if rule.action == FR_ACT_NOP or not fib_rule_match(net, ops, rule, fl, iif, l3mdev):
            continue
        if rule.action != FR_ACT_GOTO:
            return at - 1
        for there in range(at, len(rest)):
            if rest[there].pref == rule.target:
                at = there
                break
    return -1


def fib_rule_table(net: Net, rule: fib_rule, fl: flowi, iif: int, l3mdev: int = 0) -> int:
    """fib_rule_get_table: the table of a matching rule; for `l3mdev` the VRF's."""
    if not rule.l3mdev:
        return rule.table
    return l3mdev_fib_table(net.dev_by_index.get(l3mdev or l3mdev_flow(net, fl, iif)))


def fib_rule_suppress(rule: fib_rule, prefixlen: int, dev: net_device | None) -> bool:
    """fib4_rule_suppress, fib6_rule_suppress: whether the rule suppresses a route with so short a
    prefix or a device of that group."""
    if prefixlen <= rule.suppress_prefixlen:
        return True
    return dev is not None and dev.group == rule.suppress_ifgroup


# --- changes ------------------------------------------------------------------------------------


def fib_default_rule_pref(ops: fib_rules_ops) -> int:
    """net/core/fib_rules.c: the default priority of a new rule: before the second one."""
    if len(ops.rules) > 1 and ops.rules[1].pref:
        return ops.rules[1].pref - 1
    return 0


def fib_rule_check(rule: fib_rule, placed: bool = True) -> None:
    """net/core/fib_rules.c fib_nl2rule: what no rule may be; `placed`: its priority counts.

    Raises: OSError EINVAL.
    """
    goto = rule.action == FR_ACT_GOTO
    for wrong, text in (
        (rule.target >= 0 and not goto, "Unexpected goto"),
        (goto and rule.target < 0, "Missing goto target for action goto"),
        (placed and goto and rule.target <= rule.pref, "Backward goto not supported"),
        (rule.l3mdev and rule.table, "l3mdev and table are mutually exclusive"),
        (rule.tos & 3, "Invalid dsfield (tos): ECN bits must be 0"),
    ):
        if wrong:
            raise ExtAckError(errno.EINVAL, text)


def fib_rule_add(net: Net, ops: fib_rules_ops, rule: fib_rule, excl: bool = True) -> None:
    """net/core/fib_rules.c fib_newrule: add after those of its priority. `excl`: only if new.

    Raises: OSError EEXIST; EINVAL.
    """
    fib_rule_check(rule)
    if excl and rule in ops.rules:
        raise os_error(errno.EEXIST, "such a rule is there already")
    at = len(ops.rules)
    while at and ops.rules[at - 1].pref > rule.pref:
        at -= 1
    ops.rules.insert(at, rule)
    _changed(net, ops, RTM_NEWRULE, rule)


def fib_rule_del(net: Net, ops: fib_rules_ops, rule: fib_rule) -> None:
    """net/core/fib_rules.c: remove an existing rule."""
    ops.rules = [each for each in ops.rules if each is not rule]
    _changed(net, ops, RTM_DELRULE, rule)


def _changed(net: Net, ops: fib_rules_ops, kind: int, rule: fib_rule) -> None:
    ops.has_custom_rules = True
    fib_rules_sort(ops)
    ops.changed()
    if net.rtnl is not None:
        net.rtnl(kind, (ops, rule), 0)


def fib_rule_find(ops: fib_rules_ops, given: dict[str, object]) -> fib_rule:
    """net/core/fib_rules.c rule_find: the first with the fields `given`. Raises: OSError ENOENT."""
    for rule in ops.rules:
        if all(getattr(rule, name) == value for name, value in given.items()):
            return rule
    raise os_error(errno.ENOENT, "no such rule")
