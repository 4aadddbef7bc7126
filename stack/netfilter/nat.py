"""NAT rules, with the keywords of nft:

    nat.masquerade(host, oif="eth1")
    nat.snat(host, "192.0.2.7", oif="eth1", saddr="10.0.0.0/24")
    nat.dnat(host, "10.0.0.5:80", iif="eth1", proto="tcp", dport=8080)

Rules are evaluated once per connection. The first matching rule of a kind decides, in the order in
which they were added. Other keywords are in stack/netfilter/match.py. Call these with the host's
lock held where other threads run the host.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from fastpath.base.skbuff import sk_buff
from stack.core import netfilter
from stack.core.netfilter import nf_hook_state
from stack.core.rows import row, state
from stack.net import Net
from stack.netfilter import nf_nat_core
from stack.netfilter.match import (
    FAMILIES,
    nft_match,
    nft_match_packet,
    parse_match,
    parse_ports,
    rule_text,
)
from stack.netfilter.nf_conntrack import nf_conn
from stack.netfilter.nf_conntrack_core import nf_ct_netns_get, nf_ct_netns_put
from stack.netfilter.nf_nat_core import nf_nat_range2, nf_nat_setup_info
from stack.netfilter.nf_nat_hooks import nf_nat_netns_get, nf_nat_netns_put
from stack.netfilter.nf_nat_masquerade import (
    nf_nat_masquerade,
    nf_nat_masquerade_inet_register_notifiers,
    nf_nat_masquerade_inet_unregister_notifiers,
)

__all__ = ["delete", "dnat", "masquerade", "nat_rule", "rules", "snat"]


@state
class nat_rule:
    """One rule: its match, and the range for connections that match; `packets` counts them."""

    match: nft_match
    range: nf_nat_range2
    maniptype: int
    masq: bool
    families: list[int]
    hooks: list[int]
    text: str
    packets: int = row(0)

    def __repr__(self) -> str:
        return f"<nat {self.text}>"

    def __call__(self, skb: sk_buff, hook: nf_hook_state, ct: nf_conn) -> int:
        return nat_rule_eval(self, skb, hook, ct)


def nat_rule_eval(rule: nat_rule, skb: sk_buff, hook: nf_hook_state, ct: nf_conn) -> int:
    """net/netfilter/nft_nat.c, nft_masq.c: apply a rule if the packet matches; a verdict."""
    if hook.pf not in rule.families or not nft_match_packet(rule.match, skb, hook):
        return netfilter.NF_ACCEPT
    rule.packets += 1
    if rule.masq:
        return nf_nat_masquerade(skb, hook, ct, rule.range)
    return nf_nat_setup_info(ct, rule.range, rule.maniptype)


def parse_to(to: str) -> tuple[int, nf_nat_range2]:
    """(family, range) of "192.0.2.7", "192.0.2.7-192.0.2.9:1024-2047", "[2001:db8::7]:80".

    Raises:
        ValueError: it is none of these.
    """
    text = str(to).strip()
    ports = ""
    if text.startswith("["):
        addrs, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise ValueError(f"{to!r}: an IPv6 address with a port is written [address]:port")
        ports = rest[1:]
    elif text.count(":") == 1:
        addrs, _, ports = text.partition(":")
    else:
        addrs = text
    first, dash, last = addrs.partition("-")
    low = ipaddress.ip_address(first.strip())
    high = ipaddress.ip_address(last.strip()) if dash else low
    if low.version != high.version or int(high) < int(low):
        raise ValueError(f"{to!r}: no range of addresses")
    rng = nf_nat_range2(nf_nat_core.NF_NAT_RANGE_MAP_IPS, int(low), int(high))
    if ports:
        rng.flags |= nf_nat_core.NF_NAT_RANGE_PROTO_SPECIFIED
        rng.min_proto, rng.max_proto = parse_ports(ports)
    return FAMILIES[low.version], rng


def _add(net: Net, rule: nat_rule) -> nat_rule:
    for hook in rule.hooks:
        net.ct.nat_rules[hook] = [*net.ct.nat_rules[hook], rule]
    for pf in rule.families:
        nf_nat_netns_get(net, pf)
        nf_ct_netns_get(net, pf)
    if rule.masq:
        nf_nat_masquerade_inet_register_notifiers(net)
    return rule


def _add_to(
    net: Net, maniptype: int, to: str, random: bool, persistent: bool, words: dict[str, Any]
) -> nat_rule:
    """Add `snat to` or `dnat to`. Raises: ValueError."""
    pf, rng = parse_to(to)
    match = parse_match(words, pf)
    if random:
        rng.flags |= nf_nat_core.NF_NAT_RANGE_PROTO_RANDOM_FULLY
    if persistent:
        rng.flags |= nf_nat_core.NF_NAT_RANGE_PERSISTENT
    kind, hooks = "snat", [netfilter.NF_INET_POST_ROUTING, netfilter.NF_INET_LOCAL_IN]
    if maniptype == nf_nat_core.NF_NAT_MANIP_DST:
        kind, hooks = "dnat", [netfilter.NF_INET_PRE_ROUTING, netfilter.NF_INET_LOCAL_OUT]
    text = rule_text(words, f"{kind} to {to}")
    return _add(net, nat_rule(match, rng, maniptype, False, [pf], hooks, text))


def masquerade(
    net: Net, *, ports: Any = None, random: bool = False, ip: str | None = None, **words: Any
) -> nat_rule:
    """`masquerade`: matching connections get the address of their outgoing interface as source.

    `ports`: the source ports to choose from ("1024-2047"); without it the port is kept if free.
    `random`: choose ports at random (fully-random). `ip`: "ip" (the default, unless addresses in
    the rule are IPv6), "ip6" or "inet" for both.

    Raises:
        ValueError: unknown keywords or invalid values.
    """
    both = ip == "inet"
    match = parse_match(words | ({} if both else {"ip": ip}))
    families: list[int] = [match.pf or netfilter.NFPROTO_IPV4]
    if both and not match.pf:
        families.append(netfilter.NFPROTO_IPV6)
    rng = nf_nat_range2()
    if ports is not None:
        rng.flags |= nf_nat_core.NF_NAT_RANGE_PROTO_SPECIFIED
        rng.min_proto, rng.max_proto = parse_ports(ports)
    if random:
        rng.flags |= nf_nat_core.NF_NAT_RANGE_PROTO_RANDOM_FULLY
    hooks = [netfilter.NF_INET_POST_ROUTING]
    text = rule_text(words, "masquerade")
    return _add(
        net, nat_rule(match, rng, nf_nat_core.NF_NAT_MANIP_SRC, True, families, hooks, text)
    )


def snat(
    net: Net, to: str, *, random: bool = False, persistent: bool = False, **words: Any
) -> nat_rule:
    """`snat to`: matching connections get their source from `to`, "address[-address][:ports]".

    `persistent`: a client gets the same one of several addresses for every server.

    Raises:
        ValueError: see masquerade.
    """
    return _add_to(net, nf_nat_core.NF_NAT_MANIP_SRC, to, random, persistent, words)


def dnat(
    net: Net, to: str, *, random: bool = False, persistent: bool = False, **words: Any
) -> nat_rule:
    """`dnat to`: matching connections go to `to`, "address[-address][:ports]". A rule without `iif`
    also applies to connections of this host.

    Raises:
        ValueError: see masquerade.
    """
    return _add_to(net, nf_nat_core.NF_NAT_MANIP_DST, to, random, persistent, words)


def rules(net: Net) -> list[nat_rule]:
    """All rules of a namespace but those of nft: destinations first, then sources."""
    hooks = (netfilter.NF_INET_PRE_ROUTING, netfilter.NF_INET_POST_ROUTING)
    return [one for hook in hooks for one in net.ct.nat_rules[hook] if isinstance(one, nat_rule)]


def delete(net: Net, rule: nat_rule) -> None:
    """Remove a rule. Its connections keep their translation while their family has another rule.
    With the last rule tracking ends, unless the firewall or a caller needs it.

    Raises:
        ValueError: it is not a rule of this namespace.
    """
    if rule not in rules(net):
        raise ValueError(f"{rule!r} is no rule of {net.name}")
    for hook in rule.hooks:
        net.ct.nat_rules[hook] = [one for one in net.ct.nat_rules[hook] if one is not rule]
    for pf in rule.families:
        nf_nat_netns_put(net, pf)
        nf_ct_netns_put(net, pf)
    if rule.masq:
        nf_nat_masquerade_inet_unregister_notifiers(net)
