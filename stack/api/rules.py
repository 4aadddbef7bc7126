"""`ip rule` as calls of a host: a rule of policy routing from the keywords of `rule_add`."""

from __future__ import annotations

from typing import Any

from fastpath.errors import ArgumentError, check_type, known_words, whole_number
from stack.core import fib_rules, uapi
from stack.core.fib_rules import LAST_ID, fib_rule, fib_rules_ops
from stack.ipv4.fib import MASKS, parse_prefix
from stack.ipv6.addr import MASKS6, parse_prefix6
from stack.net import Net

ACTIONS = {
    "nop": fib_rules.FR_ACT_NOP,
    "blackhole": fib_rules.FR_ACT_BLACKHOLE,
    "unreachable": fib_rules.FR_ACT_UNREACHABLE,
    "prohibit": fib_rules.FR_ACT_PROHIBIT,
}
NUMBERS = {
    "priority": ("pref", LAST_ID),
    "mark": ("mark", LAST_ID),
    "mask": ("mark_mask", LAST_ID),
    "tos": ("tos", 0xFC),
    "ipproto": ("ip_proto", 255),
    "suppress_prefixlength": ("suppress_prefixlen", 128),
    "goto": ("target", LAST_ID),
}
"""The field of a rule, and its highest value."""
NAMES = {"iif": "iifname", "oif": "oifname"}
RANGES = {
    "sport": ("sport", 0xFFFF),
    "dport": ("dport", 0xFFFF),
    "uidrange": ("uid_range", LAST_ID),
}
WORDS = ("table", "action", "src", "dst", "invert", "family", *NUMBERS, *NAMES, *RANGES)
MEANT = {
    **dict.fromkeys(("pref", "prio", "metric"), "priority"),
    "from_": "src",
    "to": "dst",
    "lookup": "table",
    "fwmark": "mark",
    "dev": "iif",
}
"""Names in `ip rule` of arguments of `rule_add`."""


def rule_words(where: str, net: Net, words: dict[str, Any]) -> tuple[fib_rules_ops, dict[str, Any]]:
    """The family's rules, and the fields of a rule given by `words`. Raises: ArgumentError."""
    known_words(where, words, WORDS, MEANT)
    found: dict[str, Any] = {}
    prefixes = [words.get("src") or "", words.get("dst") or ""]
    for text in prefixes:
        check_type(where, "src, dst", text, str, "text such as 10.0.0.0/8")
    family = words.get("family", 6 if any(":" in text for text in prefixes) else 4)
    if family not in (4, 6):
        raise ArgumentError(f"{where}: family={family!r}: write 4 or 6")
    ops = net.ipv6.fib6.ops if family == 6 else net.fib.ops
    for word, text in zip(("src", "dst"), prefixes, strict=True):
        if text:
            addr, plen = parse_prefix6(text) if family == 6 else parse_prefix(text)
            found[word] = addr & (MASKS6[plen] if family == 6 else MASKS[plen])
            found[f"{word}_len"] = plen
    for word, (field, most) in NUMBERS.items():
        if word in words:
            found[field] = whole_number(where, word, words[word], 0, most)
    for word, (field, most) in RANGES.items():
        if word in words:
            given = words[word]
            ends = given if isinstance(given, tuple) and len(given) == 2 else (given, given)
            first = whole_number(where, word, ends[0], 0, most)
            found[field] = first, whole_number(where, word, ends[1], first, most)
    for word, field in NAMES.items():
        if word in words:
            check_type(where, word, words[word], str, "an interface's name")
            found[field] = words[word]
    if found.get("mark") and "mark_mask" not in found:
        found["mark_mask"] = LAST_ID
    if words.get("invert"):
        found["flags"] = fib_rules.FIB_RULE_INVERT
    action = words.get("action")
    if action is not None and action not in ACTIONS:
        raise ArgumentError(f"{where}: action={action!r}: there are: {', '.join(ACTIONS)}")
    if (action, words.get("table"), found.get("target")).count(None) != 2:
        raise ArgumentError(f"{where}: give one of table, goto and action")
    if action is not None:
        found["action"] = ACTIONS[action]
    elif "target" in found:
        found["action"] = fib_rules.FR_ACT_GOTO
    else:
        found["action"] = fib_rules.FR_ACT_TO_TBL
        found["table"] = whole_number(where, "table", words["table"], 1, LAST_ID)
    return ops, found


def ip_rule_add(net: Net, words: dict[str, Any]) -> None:
    """`ip rule add`. Raises: ArgumentError, OSError EEXIST, EINVAL."""
    ops, found = rule_words("rule_add", net, words)
    found.setdefault("pref", fib_rules.fib_default_rule_pref(ops))
    fib_rules.fib_rule_add(net, ops, fib_rule(proto=uapi.RTPROT_BOOT, **found))


def ip_rule_del(net: Net, words: dict[str, Any]) -> None:
    """`ip rule del`: the first rule with these fields. Raises: ArgumentError, OSError ENOENT."""
    ops, found = rule_words("rule_del", net, words)
    fib_rules.fib_rule_del(net, ops, fib_rules.fib_rule_find(ops, found))
