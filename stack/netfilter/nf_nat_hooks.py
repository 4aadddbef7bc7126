"""NAT at its hook points: destinations before routing, sources after it.

net/netfilter/nf_nat_core.c nf_nat_inet_fn, nf_nat_proto.c nf_nat_ipv4_*, nf_nat_ipv6_*.
"""

from __future__ import annotations

from typing import Any

from fastpath.base.skbuff import sk_buff
from fastpath.net.hdr import iphdr_at, ipv6hdr_at
from stack.core.netfilter import (
    NF_ACCEPT,
    NF_DROP,
    NF_DROP_ERR,
    NF_INET_LOCAL_IN,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
    NF_IP_PRI_NAT_DST,
    NF_IP_PRI_NAT_SRC,
    NFPROTO_IPV4,
    nf_hook_state,
    nf_register_net_hook,
    nf_unregister_net_hook,
)
from stack.core.uapi import IPPROTO_ICMP, IPPROTO_ICMPV6
from stack.net import Net
from stack.netfilter.nf_conntrack import (
    IP_CT_DIR_ORIGINAL,
    IP_CT_IS_REPLY,
    IP_CT_NEW,
    IP_CT_RELATED,
    IP_CT_RELATED_REPLY,
    IPS_CONFIRMED,
    NatRule,
    ctinfo2dir,
    nf_conn,
    nf_nat_lookup_hook_priv,
)
from stack.netfilter.nf_conntrack_life import nf_ct_kill_acct
from stack.netfilter.nf_conntrack_table import nf_ct_join
from stack.netfilter.nf_conntrack_tuple import nf_ct_l4_offset
from stack.netfilter.nf_nat_core import (
    HOOK2MANIP,
    NF_NAT_MANIP_SRC,
    nf_nat_alloc_null_binding,
    nf_nat_initialized,
)
from stack.netfilter.nf_nat_proto import nf_nat_icmp_reply_translation, nf_nat_packet
from stack.netfilter.reroute import ip_route_me_harder


def nf_nat_inet_fn(skb: sk_buff, state: nf_hook_state, ct: nf_conn) -> int:
    """net/netfilter/nf_nat_core.c: apply rules to a new connection, then translate the packet as
    decided for its connection.
    """
    ctinfo = skb.nfctinfo
    hook = state.hook
    maniptype = HOOK2MANIP(hook)
    if maniptype == NF_NAT_MANIP_SRC and not ct.status & IPS_CONFIRMED:
        ct = nf_ct_join(skb, ct)
    decided = nf_nat_initialized(ct, maniptype)
    new = ctinfo in (IP_CT_NEW, IP_CT_RELATED, IP_CT_RELATED_REPLY)
    if new and not decided:
        for rule in state.net.ct.nat_rules[hook]:
            verdict: int = rule(skb, state, ct)
            if verdict != NF_ACCEPT:
                return verdict
            if nf_nat_initialized(ct, maniptype):
                break
        else:
            nf_nat_alloc_null_binding(ct, hook)
    elif (
        ct.masq_index
        and hook == NF_INET_POST_ROUTING
        and ctinfo < IP_CT_IS_REPLY
        and state.outdev is not None
        and state.outdev.ifindex != ct.masq_index
    ):
        nf_ct_kill_acct(ct, ctinfo, skb)  # the outgoing interface changed: nf_nat_oif_changed
        return NF_DROP
    return NF_ACCEPT if nf_nat_packet(ct, ctinfo, hook, skb, state.pf) else NF_DROP


def nf_nat_fn(skb: sk_buff, state: nf_hook_state) -> int:
    """net/netfilter/nf_nat_proto.c nf_nat_ipv4_fn, nf_nat_ipv6_fn: hook at LOCAL_IN, POST_ROUTING.

    ICMP errors are translated as the connection that they quote.
    """
    ct: nf_conn = skb.nfct
    if ct is None:
        return NF_ACCEPT  # untracked or INVALID: rules decide
    if skb.nfctinfo == IP_CT_RELATED or skb.nfctinfo == IP_CT_RELATED_REPLY:
        off, proto = nf_ct_l4_offset(skb, 0, state.pf)
        if off >= 0 and proto == (IPPROTO_ICMP if state.pf == NFPROTO_IPV4 else IPPROTO_ICMPV6):
            fine = nf_nat_icmp_reply_translation(skb, ct, skb.nfctinfo, state.hook, state.pf, off)
            return NF_ACCEPT if fine else NF_DROP
    return nf_nat_inet_fn(skb, state, ct)


def nf_nat_pre_routing(skb: sk_buff, state: nf_hook_state) -> int:
    """net/netfilter/nf_nat_proto.c nf_nat_ipv4_pre_routing: a new destination needs a new route."""
    if skb.nfct is None:
        return NF_ACCEPT
    daddr = iphdr_at(skb, 0).daddr if state.pf == NFPROTO_IPV4 else ipv6hdr_at(skb, 0).daddr
    verdict = nf_nat_fn(skb, state)
    if verdict == NF_ACCEPT and skb.dst is not None:
        now = iphdr_at(skb, 0).daddr if state.pf == NFPROTO_IPV4 else ipv6hdr_at(skb, 0).daddr
        if now != daddr:
            skb.dst = None
    return verdict


def nf_nat_local_fn(skb: sk_buff, state: nf_hook_state) -> int:
    """net/netfilter/nf_nat_proto.c nf_nat_ipv4_local_fn: packets of this host; reroute them
    if their destination changed.
    """
    verdict = nf_nat_fn(skb, state)
    ct: nf_conn = skb.nfct
    if verdict != NF_ACCEPT or ct is None:
        return verdict
    if ctinfo2dir(skb.nfctinfo) == IP_CT_DIR_ORIGINAL:
        moved = ct.orig.tuple[4] != ct.reply.tuple[2]
    else:
        moved = ct.reply.tuple[4] != ct.orig.tuple[2]
    if moved:
        err = ip_route_me_harder(state.net, state.sk, skb, state.pf)
        if err:
            return NF_DROP_ERR(err)
    return verdict


NAT_HOOKS: tuple[tuple[int, Any, int], ...] = (
    (NF_INET_PRE_ROUTING, nf_nat_pre_routing, NF_IP_PRI_NAT_DST),
    (NF_INET_POST_ROUTING, nf_nat_fn, NF_IP_PRI_NAT_SRC),
    (NF_INET_LOCAL_OUT, nf_nat_local_fn, NF_IP_PRI_NAT_DST),
    (NF_INET_LOCAL_IN, nf_nat_fn, NF_IP_PRI_NAT_SRC),
)


def nf_nat_netns_get(net: Net, pf: int) -> None:
    """nf_nat_register_fn: translate the connections of a family.

    Chains see no packets before somebody wants them tracked, such as a target of NAT.
    """
    users = net.ct.nat_users
    users[pf] = users.get(pf, 0) + 1
    if users[pf] > 1:
        return
    for hook, fn, priority in NAT_HOOKS:
        nf_register_net_hook(net, hook, fn, pf, priority)


def nf_nat_netns_put(net: Net, pf: int) -> None:
    """nf_nat_unregister_fn: remove a user; translation ends with the last one."""
    users = net.ct.nat_users
    if not users.get(pf):
        return
    users[pf] -= 1
    if users[pf]:
        return
    for hook, fn, _ in NAT_HOOKS:
        nf_unregister_net_hook(net, hook, fn, pf)


def nf_nat_register_fn(net: Net, hook: int, rule: NatRule, pf: int, priority: int) -> None:
    """net/netfilter/nf_nat_core.c: register `rule` for new connections of a family at a hook point.

    By priority, the newest first among equals; rules of stack/netfilter/nat.py have the priority
    that iptables gives to NAT.
    """

    def of_family(skb: sk_buff, state: nf_hook_state, ct: nf_conn) -> int:
        return rule(skb, state, ct) if state.pf == pf else NF_ACCEPT

    held = net.ct.nat_chains[hook]
    at = 0
    while at < len(held) and held[at].priority < priority:
        at += 1
    held.insert(at, nf_nat_lookup_hook_priv(rule, pf, priority, of_family))
    _order_nat_rules(net, hook)


def nf_nat_unregister_fn(net: Net, hook: int, rule: NatRule, pf: int) -> None:
    """net/netfilter/nf_nat_core.c: unregister `rule`."""
    held = net.ct.nat_chains[hook]
    gone = [one for one in held if one.rule is rule and one.pf == pf]
    net.ct.nat_chains[hook] = [one for one in held if one not in gone]
    calls = [one.call for one in gone]
    net.ct.nat_rules[hook] = [one for one in net.ct.nat_rules[hook] if one not in calls]


def _order_nat_rules(net: Net, hook: int) -> None:
    """Put the calls of chains before and after those of nat.py, by their priorities."""
    held = net.ct.nat_chains[hook]
    calls = [one.call for one in held]
    ours = [one for one in net.ct.nat_rules[hook] if one not in calls]
    middle = NF_IP_PRI_NAT_SRC if HOOK2MANIP(hook) == NF_NAT_MANIP_SRC else NF_IP_PRI_NAT_DST
    before = [one.call for one in held if one.priority <= middle]
    net.ct.nat_rules[hook] = [*before, *ours, *calls[len(before) :]]
