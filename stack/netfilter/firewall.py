"""Packet filter rules, with the keywords of nft and iptables:

    firewall.policy(host, "forward", "drop")
    firewall.accept(host, "forward", state="established,related")
    firewall.accept(host, "forward", iif="eth0", proto="tcp", dport=443)
    firewall.reject(host, "forward", iif="eth0", with_="tcp reset", proto="tcp")

Chains are "prerouting", "input", "forward", "output" and "postrouting". The first rule that matches
decides, in the order of addition; if none does, the chain's policy decides. The keywords
of a rule are in stack/netfilter/match.py; a rule with "state" turns connection tracking on. Call
these with the host's lock held where other threads run the host.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from fastpath.base.skbuff import sk_buff
from stack.core import netfilter
from stack.core.netfilter import (
    NF_DROP_ERR,
    NF_QUEUE_NR,
    Hook,
    nf_hook_state,
    nf_register_net_hook,
    nf_unregister_net_hook,
)
from stack.core.rows import row, state
from stack.net import Net
from stack.netfilter.match import nft_match, nft_match_packet, parse_match, rule_text
from stack.netfilter.nf_conntrack import IP_CT_UNTRACKED
from stack.netfilter.nf_conntrack_core import nf_ct_netns_get, nf_ct_netns_put
from stack.netfilter.nf_reject import REJECT_WITH, nf_reject

__all__ = ["accept", "delete", "drop", "notrack", "policy", "queue", "reject", "rules"]

CHAINS = {
    "prerouting": netfilter.NF_INET_PRE_ROUTING,
    "input": netfilter.NF_INET_LOCAL_IN,
    "forward": netfilter.NF_INET_FORWARD,
    "output": netfilter.NF_INET_LOCAL_OUT,
    "postrouting": netfilter.NF_INET_POST_ROUTING,
}
FAMILIES = (netfilter.NFPROTO_IPV4, netfilter.NFPROTO_IPV6)
UNTRACK = 0x100
REJECT = 0x101
"""Actions of a rule besides the verdicts NF_*."""


@state
class nft_rule:
    """One rule. `packets` and `bytes` count its matches."""

    match: nft_match
    verdict: int
    reject_with: int
    chain: str
    text: str
    raw: bool
    packets: int = row(0)
    bytes: int = row(0)

    def __repr__(self) -> str:
        return f"<{self.chain}: {self.text}>"


@state
class nft_chain:
    """The rules of one hook point, both families, and its hooks."""

    name: str
    hooknum: int
    raw: bool
    """The chain runs before connection tracking, as `notrack` needs."""
    rules: list[nft_rule] = row(make=list)
    policy: int = row(netfilter.NF_ACCEPT)
    packets: int = row(0)
    """Packets to which the policy was applied."""
    hook: Hook | None = row()


def nft_do_chain(chain: nft_chain, skb: sk_buff, hook: nf_hook_state) -> int:
    """net/netfilter/nf_tables_core.c: the hook of a chain: a verdict."""
    rule: nft_rule
    for rule in chain.rules:
        if not nft_match_packet(rule.match, skb, hook):
            continue
        rule.packets += 1
        rule.bytes += skb.len
        if rule.verdict == UNTRACK:
            if skb.nfct is None:  # over loopback it is tracked since it was sent
                skb.nfctinfo = IP_CT_UNTRACKED
            continue
        if rule.verdict == REJECT:
            nf_reject(skb, hook, rule.reject_with)
            return netfilter.NF_DROP
        return rule.verdict
    chain.packets += 1
    return chain.policy


def _chain(net: Net, name: str, raw: bool = False) -> nft_chain:
    """The chain of that name; a new one is registered as a hook. Raises: ValueError."""
    if name not in CHAINS:
        raise ValueError(f"chain {name!r}: they are {', '.join(CHAINS)}")
    held = net.ct.chains
    found: nft_chain | None = held.get((name, raw))
    if found is None:
        found = held[name, raw] = nft_chain(name, CHAINS[name], raw)
        found.hook = partial(nft_do_chain, found)
        priority = netfilter.NF_IP_PRI_RAW if raw else netfilter.NF_IP_PRI_FILTER
        for pf in FAMILIES:
            nf_register_net_hook(net, found.hooknum, found.hook, pf, priority)
    return found


def _unhook_if_idle(net: Net, chain: nft_chain) -> None:
    """Unregister a chain without rules that accepts everything, to save its cost."""
    if chain.rules or chain.policy != netfilter.NF_ACCEPT or chain.hook is None:
        return
    for pf in FAMILIES:
        nf_unregister_net_hook(net, chain.hooknum, chain.hook, pf)
    del net.ct.chains[chain.name, chain.raw]


def _add(
    net: Net, name: str, kind: str, verdict: int, words: dict[str, Any], with_: int = 0
) -> nft_rule:
    match = parse_match(words)
    raw = verdict == UNTRACK
    chain = _chain(net, name, raw)
    rule = nft_rule(match, verdict, with_, name, rule_text(words, kind), raw)
    chain.rules.append(rule)
    if match.states:
        for pf in FAMILIES:
            nf_ct_netns_get(net, pf)
    return rule


def accept(net: Net, chain: str, **words: Any) -> nft_rule:
    """`accept`: accept matching packets. Raises: ValueError."""
    return _add(net, chain, "accept", netfilter.NF_ACCEPT, words)


def drop(net: Net, chain: str, *, error: int = 0, **words: Any) -> nft_rule:
    """`drop`: drop matching packets. A sender on this host gets EPERM, or `error`.

    Raises:
        ValueError: unknown keywords or invalid values.
    """
    return _add(net, chain, "drop", NF_DROP_ERR(-abs(error)) if error else netfilter.NF_DROP, words)


def reject(net: Net, chain: str, *, with_: str = "port-unreach", **words: Any) -> nft_rule:
    """`reject with`: drop matching packets and answer their sender: "tcp reset", or ICMP's
    "port-unreach", "host-unreach", "net-unreach", "admin-prohibited".

    Raises:
        ValueError: no such answer, or a chain whose packets have no route for the answer.
    """
    if with_ not in REJECT_WITH:
        raise ValueError(f"reject with {with_!r}: they are {', '.join(REJECT_WITH)}")
    if chain not in ("input", "forward", "output"):
        raise ValueError("reject: in chains input, forward and output")
    kind = f"reject with {with_}"
    return _add(net, chain, kind, REJECT, words, REJECT_WITH[with_])


def queue(net: Net, chain: str, number: int = 0, *, bypass: bool = False, **words: Any) -> nft_rule:
    """`queue num`: hand matching packets to the queue's listener (stack/core/nf_queue.py).

    `bypass`: without a listener they are accepted.
    """
    verdict = NF_QUEUE_NR(number) | (netfilter.NF_VERDICT_FLAG_QUEUE_BYPASS if bypass else 0)
    assert verdict & netfilter.NF_VERDICT_MASK == netfilter.NF_QUEUE
    return _add(net, chain, f"queue num {number}", verdict, words)


def notrack(net: Net, chain: str, **words: Any) -> nft_rule:
    """`notrack`: do not track matching packets, unless they are tracked already; their state is
    "untracked". Raises: ValueError.
    """
    if chain not in ("prerouting", "output"):
        raise ValueError("notrack: in chains prerouting and output")
    return _add(net, chain, "notrack", UNTRACK, words)


def policy(net: Net, chain: str, verdict: str) -> None:
    """`policy accept`, `policy drop`: set the verdict for packets that no rule matches.

    Raises:
        ValueError: no such chain or policy.
    """
    if verdict not in ("accept", "drop"):
        raise ValueError(f"policy {verdict!r}: it is 'accept' or 'drop'")
    held = _chain(net, chain)
    held.policy = netfilter.NF_ACCEPT if verdict == "accept" else netfilter.NF_DROP
    _unhook_if_idle(net, held)


def rules(net: Net, chain: str | None = None) -> list[nft_rule]:
    """The rules of a namespace, or of one chain, in order."""
    held: list[nft_chain] = list(net.ct.chains.values())
    return [rule for one in held if chain in (None, one.name) for rule in one.rules]


def delete(net: Net, rule: nft_rule) -> None:
    """Remove a rule. Raises: ValueError: it is not in this namespace."""
    chain: nft_chain | None = net.ct.chains.get((rule.chain, rule.raw))
    if chain is None or rule not in chain.rules:
        raise ValueError(f"{rule!r} is no rule of {net.name}")
    chain.rules = [one for one in chain.rules if one is not rule]
    if rule.match.states:
        for pf in FAMILIES:
            nf_ct_netns_put(net, pf)
    _unhook_if_idle(net, chain)


def flush(net: Net) -> None:
    """Remove all rules, and set every policy to accept."""
    for chain in list(net.ct.chains.values()):
        for rule in list(chain.rules):
            delete(net, rule)
        chain.policy = netfilter.NF_ACCEPT
        if (chain.name, chain.raw) in net.ct.chains:
            _unhook_if_idle(net, chain)
