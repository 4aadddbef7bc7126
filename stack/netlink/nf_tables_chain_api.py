"""net/netfilter/nf_tables_api.c: chains: their messages, and the hooks of base chains.

    nf_tables_newchain      NFT_MSG_NEWCHAIN
        nf_tables_addchain          a new one; a base chain registers its hook
        nf_tables_updchain          another policy, counters, name
    nf_tables_delchain      NFT_MSG_DELCHAIN, _DESTROYCHAIN: with its rules
    nf_tables_getchain      NFT_MSG_GETCHAIN: one, or all

A chain of type filter or route has a hook of its own. One of type nat is called by nf_nat_inet_fn,
for new connections. State: `nft_table.chains`, `nft_base_chain.unregister`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from functools import partial

from fastpath.base.skbuff import sk_buff
from stack.core.netfilter import (
    NF_ACCEPT,
    NF_DROP,
    NF_INET_FORWARD,
    NF_INET_LOCAL_IN,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
    NF_IP_PRI_CONNTRACK,
    nf_hook_state,
    nf_register_net_hook,
    nf_unregister_net_hook,
)
from stack.core.uapi import NLM_F_EXCL
from stack.net import Net
from stack.netfilter.nf_conntrack import nf_conn
from stack.netfilter.nf_nat_hooks import (
    nf_nat_netns_get,
    nf_nat_netns_put,
    nf_nat_register_fn,
    nf_nat_unregister_fn,
)
from stack.netfilter.nf_tables import (
    NFT_CHAIN_BASE,
    NFT_CHAIN_BINDING,
    NFT_CHAIN_HW_OFFLOAD,
    NFT_TABLE_F_DORMANT,
    nft_base_chain,
    nft_chain,
    nft_ctx,
    nft_stats,
    nft_table,
)
from stack.netfilter.nf_tables_core import nft_do_chain_hook, nft_route_table_hook
from stack.netfilter.nft_attrs import NFTA_CHAIN
from stack.netfilter.nft_ct import nft_families
from stack.netfilter.nft_setelem import nft_table_gc
from stack.netlink.netlink_sock import NLM_F_DUMP, nlmsg
from stack.netlink.nf_tables_rule_api import nft_delrule
from stack.netlink.nf_tables_trans import (
    DELCHAIN,
    DESTROYCHAIN,
    NEWCHAIN,
    NLM_F_NONREC,
    NLM_F_REPLACE,
    bad_attr,
    family_of,
    message_of,
    nft_chain_lookup,
    nft_ctx_init,
    nft_dump,
    nft_notify,
    nft_reply,
    nft_table_lookup,
    nft_tables,
    nft_trans_add,
)
from stack.netlink.nlattr import Attrs, NlError

PRE, IN, FORWARD, OUT, POST = (
    NF_INET_PRE_ROUTING,
    NF_INET_LOCAL_IN,
    NF_INET_FORWARD,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
)
HOOKS = {
    "filter": (PRE, IN, FORWARD, OUT, POST),
    "nat": (PRE, IN, OUT, POST),
    "route": (OUT,),
}
"""struct nft_chain_type: the hook points of each type of base chain."""
NFT_CHAIN_FLAGS = NFT_CHAIN_BASE | NFT_CHAIN_HW_OFFLOAD | NFT_CHAIN_BINDING


# --- hooks ----------------------------------------------------------------------------------------


def nf_tables_register_hook(net: Net, table: nft_table, chain: nft_chain) -> None:
    """net/netfilter/nf_tables_api.c: register a base chain's hook, unless it is dormant."""
    base = chain.base
    if base is None or table.flags & NFT_TABLE_F_DORMANT or base.unregister:
        return
    for pf in nft_families(table.family):
        base.unregister.append(_register(net, chain, base, pf))


def _register(net: Net, chain: nft_chain, base: nft_base_chain, pf: int) -> Callable[[], None]:
    """Register the hook of one family; returns what unregisters it."""
    if base.type == "nat":

        def rule(skb: sk_buff, state: nf_hook_state, ct: nf_conn) -> int:
            return nft_do_chain_hook(chain, skb, state)

        nf_nat_netns_get(net, pf)
        nf_nat_register_fn(net, base.hooknum, rule, pf, base.priority)

        def unregister() -> None:
            nf_nat_unregister_fn(net, base.hooknum, rule, pf)
            nf_nat_netns_put(net, pf)

        return unregister
    hook = partial(nft_route_table_hook if base.type == "route" else nft_do_chain_hook, chain)
    nf_register_net_hook(net, base.hooknum, hook, pf, base.priority)
    return partial(nf_unregister_net_hook, net, base.hooknum, hook, pf)


def nf_tables_unregister_hook(chain: nft_chain) -> None:
    """net/netfilter/nf_tables_api.c: unregister a base chain's hook."""
    if chain.base is not None:
        for unregister in chain.base.unregister:
            unregister()
        chain.base.unregister.clear()


# --- dumping --------------------------------------------------------------------------------------


def nf_tables_fill_chain_info(chain: nft_chain, message: int = NEWCHAIN) -> bytes:
    """net/netfilter/nf_tables_api.c: the attributes of a chain."""
    told = {
        "NFTA_CHAIN_TABLE": chain.table.name,
        "NFTA_CHAIN_NAME": chain.name,
        "NFTA_CHAIN_HANDLE": chain.handle,
    }
    if message == DELCHAIN:
        return NFTA_CHAIN.build(told)
    base = chain.base
    if base is not None:
        stats = base.stats
        told |= {
            "NFTA_CHAIN_HOOK": {
                "NFTA_HOOK_HOOKNUM": base.hooknum,
                "NFTA_HOOK_PRIORITY": base.priority,
            },
            "NFTA_CHAIN_POLICY": base.policy,
            "NFTA_CHAIN_TYPE": base.type,
            "NFTA_CHAIN_COUNTERS": None
            if stats is None
            else {"NFTA_COUNTER_PACKETS": stats.packets, "NFTA_COUNTER_BYTES": stats.bytes},
        }
    told |= {
        "NFTA_CHAIN_FLAGS": chain.flags or None,
        "NFTA_CHAIN_USE": chain.use,
        "NFTA_CHAIN_USERDATA": chain.udata,
    }
    return NFTA_CHAIN.build(told)


def nf_tables_chain_notify(ctx: nft_ctx, chain: nft_chain, message: int) -> None:
    """net/netfilter/nf_tables_api.c: notify that a chain was added, changed or removed."""
    nft_notify(ctx, message, lambda: nf_tables_fill_chain_info(chain, message))


def nf_tables_getchain(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nf_tables_api.c: NFT_MSG_GETCHAIN."""
    family = family_of(nlh)
    if nlh.flags & NLM_F_DUMP:
        nft_dump(nlh, NEWCHAIN, nf_tables_dump_chains(nlh.sk.net, family))
        return
    table = nft_table_lookup(nlh, tb, "NFTA_CHAIN_TABLE", changes=False)
    chain = nft_chain_lookup(table, tb, "NFTA_CHAIN_NAME")
    nft_reply(nlh, NEWCHAIN, family, nf_tables_fill_chain_info(chain))


def nf_tables_dump_chains(net: Net, family: int) -> Iterator[tuple[int, bytes]]:
    """net/netfilter/nf_tables_api.c: each chain of a family."""
    for table in nft_tables(net, family):
        for chain in list(table.chains.values()):
            yield table.family, nf_tables_fill_chain_info(chain)


# --- new chains -----------------------------------------------------------------------------------


def chain_byhandle(table: nft_table, tb: Attrs) -> nft_chain:
    """nft_chain_lookup_byhandle. Raises: NlError ENOENT."""
    for chain in table.chains.values():
        if chain.handle == tb["NFTA_CHAIN_HANDLE"]:
            return chain
    raise bad_attr(tb, "NFTA_CHAIN_HANDLE", errno.ENOENT)


def nf_tables_newchain(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nf_tables_api.c: NFT_MSG_NEWCHAIN: create or change a chain."""
    table = nft_table_lookup(nlh, tb, "NFTA_CHAIN_TABLE")
    chain: nft_chain | None = None
    attr = "NFTA_CHAIN_NAME"
    if "NFTA_CHAIN_HANDLE" in tb:
        chain, attr = chain_byhandle(table, tb), "NFTA_CHAIN_HANDLE"
    elif attr in tb:
        chain = table.chains.get(tb[attr])
    elif "NFTA_CHAIN_ID" not in tb:
        raise NlError(errno.EINVAL)
    policy = tb.get("NFTA_CHAIN_POLICY")
    if policy is not None:
        has_hook = "NFTA_CHAIN_HOOK" in tb if chain is None else chain.base is not None
        if not has_hook:
            raise bad_attr(tb, "NFTA_CHAIN_POLICY", errno.EOPNOTSUPP)
        if policy not in (NF_DROP, NF_ACCEPT):
            raise NlError(errno.EINVAL)
    flags = tb.get("NFTA_CHAIN_FLAGS", 0 if chain is None else chain.flags)
    if flags & ~NFT_CHAIN_FLAGS:
        raise NlError(errno.EOPNOTSUPP)
    ctx = nft_ctx_init(nlh, table, chain, tb)
    if chain is None:
        nf_tables_addchain(ctx, tb, policy, flags)
        return
    if chain.flags & NFT_CHAIN_BINDING:
        raise NlError(errno.EINVAL)
    if nlh.flags & NLM_F_EXCL:
        raise bad_attr(tb, attr, errno.EEXIST)
    if nlh.flags & NLM_F_REPLACE:
        raise NlError(errno.EOPNOTSUPP)
    if flags | chain.flags & NFT_CHAIN_BASE != chain.flags:
        raise NlError(errno.EOPNOTSUPP)
    nf_tables_updchain(ctx, chain, tb, attr)


def nft_chain_parse_hook(ctx: nft_ctx, tb: Attrs, old: nft_base_chain | None) -> nft_base_chain:
    """net/netfilter/nf_tables_api.c: the hook of a base chain. Raises: NlError."""
    hook: Attrs = tb["NFTA_CHAIN_HOOK"]
    if "NFTA_HOOK_DEV" in hook or "NFTA_HOOK_DEVS" in hook:
        raise NlError(errno.EOPNOTSUPP)
    kind: str = tb.get("NFTA_CHAIN_TYPE", "filter" if old is None else old.type)
    if kind not in HOOKS:
        raise bad_attr(tb, "NFTA_CHAIN_TYPE", errno.ENOENT)
    if old is not None:
        for name, value in (
            ("NFTA_HOOK_HOOKNUM", old.hooknum),
            ("NFTA_HOOK_PRIORITY", old.priority),
        ):
            if hook.get(name, value) != value:
                raise NlError(errno.EOPNOTSUPP)
        hooknum, priority = hook.get("NFTA_HOOK_HOOKNUM", 0), hook.get("NFTA_HOOK_PRIORITY", 0)
        return nft_base_chain(kind, hooknum, priority, old.policy)
    if "NFTA_HOOK_HOOKNUM" not in hook or "NFTA_HOOK_PRIORITY" not in hook:
        raise bad_attr(tb, "NFTA_CHAIN_NAME", errno.ENOENT)
    hooknum, priority = hook["NFTA_HOOK_HOOKNUM"], hook["NFTA_HOOK_PRIORITY"]
    if hooknum not in HOOKS[kind]:
        raise NlError(errno.EOPNOTSUPP)
    if kind == "nat" and priority <= NF_IP_PRI_CONNTRACK:
        raise NlError(errno.EOPNOTSUPP)
    return nft_base_chain(kind, hooknum, priority, NF_ACCEPT)


def nft_stats_alloc(tb: Attrs) -> nft_stats | None:
    """net/netfilter/nf_tables_api.c: the counters that a program sends. Raises: NlError EINVAL."""
    if "NFTA_CHAIN_COUNTERS" not in tb:
        return None
    given: Attrs = tb["NFTA_CHAIN_COUNTERS"]
    if "NFTA_COUNTER_BYTES" not in given or "NFTA_COUNTER_PACKETS" not in given:
        raise NlError(errno.EINVAL)
    return nft_stats(given["NFTA_COUNTER_PACKETS"], given["NFTA_COUNTER_BYTES"])


def nf_tables_addchain(ctx: nft_ctx, tb: Attrs, policy: int | None, flags: int) -> None:
    """net/netfilter/nf_tables_api.c: create a chain. Raises: NlError."""
    table = ctx.table
    base: nft_base_chain | None = None
    if "NFTA_CHAIN_HOOK" in tb:
        if table.updated:
            raise NlError(errno.EINVAL)
        if flags & (NFT_CHAIN_BINDING | NFT_CHAIN_HW_OFFLOAD):
            raise NlError(errno.EOPNOTSUPP)
        base = nft_chain_parse_hook(ctx, tb, None)
        base.stats = nft_stats_alloc(tb)
        base.policy = NF_ACCEPT if policy is None else policy
        flags |= NFT_CHAIN_BASE
    else:
        if flags & NFT_CHAIN_BASE:
            raise NlError(errno.EINVAL)
        if flags & NFT_CHAIN_HW_OFFLOAD:
            raise NlError(errno.EOPNOTSUPP)
    handle = table.hgenerator + 1
    name = tb.get("NFTA_CHAIN_NAME")
    if name is None:
        if not flags & NFT_CHAIN_BINDING:
            raise NlError(errno.EINVAL)
        name = f"__chain{handle}"
    chain = nft_chain(table, name, table.new_handle(), flags, base=base)
    chain.udata = tb.get("NFTA_CHAIN_USERDATA")
    table.chains[name] = chain
    ctx.chain = chain
    nf_tables_register_hook(ctx.net, table, chain)

    def undo() -> None:
        nf_tables_unregister_hook(chain)
        if table.chains.get(chain.name) is chain:
            del table.chains[chain.name]

    nft_trans_add(
        ctx,
        undo,
        commit=lambda: nf_tables_chain_notify(ctx, chain, NEWCHAIN),
        chain=chain,
        id=tb.get("NFTA_CHAIN_ID"),
    )


def nf_tables_updchain(ctx: nft_ctx, chain: nft_chain, tb: Attrs, attr: str) -> None:
    """net/netfilter/nf_tables_api.c: other counters, another policy or name. Raises: NlError."""
    base, table = chain.base, ctx.table
    if "NFTA_CHAIN_HOOK" in tb:
        if base is None:
            raise bad_attr(tb, attr, errno.EEXIST)
        told = nft_chain_parse_hook(ctx, tb, base)
        same = told.hooknum == base.hooknum and told.priority == base.priority
        if told.type != base.type or not same:
            raise bad_attr(tb, attr, errno.EEXIST)
    name = chain.name
    if "NFTA_CHAIN_HANDLE" in tb and "NFTA_CHAIN_NAME" in tb:
        name = tb["NFTA_CHAIN_NAME"]
        if name in table.chains:
            raise bad_attr(tb, "NFTA_CHAIN_NAME", errno.EEXIST)
    stats = nft_stats_alloc(tb)
    if stats is not None and base is None:
        raise NlError(errno.EOPNOTSUPP)
    old_name = chain.name
    old_policy = NF_ACCEPT if base is None else base.policy
    old_stats = None if base is None else base.stats

    def set_to(name: str, policy: int, stats: nft_stats | None) -> None:
        if name != chain.name:
            # It keeps its place among the chains.
            held = [(name if one is chain else key, one) for key, one in table.chains.items()]
            chain.name = name
            table.chains.clear()
            table.chains.update(held)
        if base is not None:
            base.policy, base.stats = policy, stats

    set_to(name, tb.get("NFTA_CHAIN_POLICY", old_policy), old_stats if stats is None else stats)
    nft_trans_add(
        ctx,
        lambda: set_to(old_name, old_policy, old_stats),
        commit=lambda: nf_tables_chain_notify(ctx, chain, NEWCHAIN),
        hooks=True,
    )


# --- deleted chains -------------------------------------------------------------------------------


def nft_delchain(ctx: nft_ctx, chain: nft_chain) -> None:
    """net/netfilter/nf_tables_api.c: delete a chain without rules."""
    table = ctx.table
    held = list(table.chains.items())
    del table.chains[chain.name]
    registered = chain.base is not None and bool(chain.base.unregister)

    def undo() -> None:
        table.chains.clear()
        table.chains.update(held)

    def commit() -> None:
        if registered:
            nf_tables_unregister_hook(chain)
        nf_tables_chain_notify(ctx, chain, DELCHAIN)

    nft_trans_add(ctx, undo, commit=commit, hooks=chain.base is not None)


def nf_tables_delchain(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nf_tables_api.c: NFT_MSG_DELCHAIN, _DESTROYCHAIN: with its rules."""
    table = nft_table_lookup(nlh, tb, "NFTA_CHAIN_TABLE")
    attr = "NFTA_CHAIN_NAME"
    try:
        if "NFTA_CHAIN_HANDLE" in tb:
            attr = "NFTA_CHAIN_HANDLE"
            chain = chain_byhandle(table, tb)
        else:
            chain = nft_chain_lookup(table, tb, attr)
    except NlError as exc:
        if exc.errno == errno.ENOENT and message_of(nlh) == DESTROYCHAIN:
            return
        raise
    if chain.flags & NFT_CHAIN_BINDING:
        raise NlError(errno.EOPNOTSUPP)
    nft_table_gc(table)
    if nlh.flags & NLM_F_NONREC and chain.use > 0:
        raise NlError(errno.EBUSY)
    ctx = nft_ctx_init(nlh, table, chain, tb)
    others = chain.use - len(chain.rules)  # its own rules that jump to it count, as on Linux
    for rule in list(chain.rules):
        nft_delrule(ctx, chain, rule)
    if others > 0:
        raise bad_attr(tb, attr, errno.EBUSY)
    nft_delchain(ctx, chain)
