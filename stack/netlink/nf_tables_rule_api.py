"""net/netfilter/nf_tables_api.c: rules: NFT_MSG_NEWRULE, _GETRULE, _GETRULE_RESET, _DELRULE."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from stack.core.uapi import NLM_F_CREATE, NLM_F_EXCL
from stack.net import Net
from stack.netfilter.nf_tables import (
    NFT_SET_ANONYMOUS,
    nft_chain,
    nft_chain_lookup_byid,
    nft_ctx,
    nft_expr,
    nft_pernet,
    nft_rule,
    nft_table,
)
from stack.netfilter.nf_tables_expr import (
    list_of,
    nft_expr_dump,
    nft_expr_init,
    nft_list,
    release,
)
from stack.netfilter.nft_attrs import NFTA_RULE
from stack.netfilter.nft_lookup import nft_lookup_expr
from stack.netlink.netlink_sock import NLM_F_DUMP, nlmsg
from stack.netlink.nf_tables_set_api import nf_tables_set_notify
from stack.netlink.nf_tables_trans import (
    DELRULE,
    DELSET,
    DESTROYRULE,
    GETRULE_RESET,
    NEWRULE,
    NFT_RULE_MAXEXPRS,
    NLM_F_APPEND,
    NLM_F_REPLACE,
    at_attr,
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

# --- dumping --------------------------------------------------------------------------------------


def nf_tables_fill_rule_info(
    chain: nft_chain, rule: nft_rule, handle: int, reset: bool = False
) -> bytes:
    """net/netfilter/nf_tables_api.c: the attributes of a rule. `handle`: the previous rule's."""
    return NFTA_RULE.build(
        {
            "NFTA_RULE_TABLE": chain.table.name,
            "NFTA_RULE_CHAIN": chain.name,
            "NFTA_RULE_HANDLE": rule.handle,
            "NFTA_RULE_POSITION": handle or None,
            "NFTA_RULE_EXPRESSIONS": nft_list(
                [nft_expr_dump(expr, reset) for expr in rule.expressions]
            ),
            "NFTA_RULE_USERDATA": rule.udata,
        }
    )


def handle_before(chain: nft_chain, rule: nft_rule) -> int:
    """The handle of the rule before a new one; 0: it is the first or last, or removed again."""
    if rule not in chain.rules[1:-1]:
        return 0
    return chain.rules[chain.rules.index(rule) - 1].handle


def nf_tables_rule_notify(ctx: nft_ctx, chain: nft_chain, rule: nft_rule, message: int) -> None:
    """net/netfilter/nf_tables_api.c: notify that a rule was added or removed."""

    def fill() -> bytes:
        handle = handle_before(chain, rule) if message == NEWRULE else 0
        return nf_tables_fill_rule_info(chain, rule, handle)

    appended = ctx.flags & (NLM_F_APPEND | NLM_F_REPLACE)
    nft_notify(ctx, message, fill, NLM_F_APPEND if appended else 0)


def nf_tables_getrule(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nf_tables_api.c: NFT_MSG_GETRULE, _GETRULE_RESET."""
    family, reset = family_of(nlh), message_of(nlh) == GETRULE_RESET
    if nlh.flags & NLM_F_DUMP:
        rules = nf_tables_dump_rules(nlh.sk.net, family, tb, reset)
        nft_dump(nlh, NEWRULE, rules, NLM_F_APPEND)
        return
    table = nft_table_lookup(nlh, tb, "NFTA_RULE_TABLE", changes=False)
    chain = nft_chain_lookup(table, tb, "NFTA_RULE_CHAIN")
    rule = rule_lookup(chain, tb, "NFTA_RULE_HANDLE")
    nft_reply(nlh, NEWRULE, family, nf_tables_fill_rule_info(chain, rule, 0, reset))


def nf_tables_dump_rules(
    net: Net, family: int, tb: Attrs, reset: bool
) -> Iterator[tuple[int, bytes]]:
    """net/netfilter/nf_tables_api.c: each rule of a family, of a table or of a chain."""
    for table in nft_tables(net, family):
        if tb.get("NFTA_RULE_TABLE") not in (None, table.name):
            continue
        for chain in list(table.chains.values()):
            if tb.get("NFTA_RULE_CHAIN") not in (None, chain.name):
                continue
            before = 0
            for rule in list(chain.rules):
                yield table.family, nf_tables_fill_rule_info(chain, rule, before, reset)
                before = rule.handle


# --- look-ups -------------------------------------------------------------------------------------


def rule_lookup(chain: nft_chain, tb: Attrs, name: str) -> nft_rule:
    """nft_rule_lookup: the rule whose handle an attribute has. Raises: NlError EINVAL, ENOENT."""
    if name not in tb:
        raise NlError(errno.EINVAL)
    for rule in chain.rules:
        if rule.handle == tb[name]:
            return rule
    raise bad_attr(tb, name, errno.ENOENT)


def nft_rule_lookup_byid(ctx: nft_ctx, tb: Attrs, name: str) -> nft_rule:
    """net/netfilter/nf_tables_api.c: a rule that this batch added. Raises: NlError ENOENT."""
    for trans in nft_pernet(ctx.net).trans:
        if trans.rule is not None and trans.chain is ctx.chain and trans.id == tb[name]:
            found: nft_rule = trans.rule
            return found
    raise bad_attr(tb, name, errno.ENOENT)


# --- new rules ------------------------------------------------------------------------------------


def nft_rule_expressions(ctx: nft_ctx, tb: Attrs) -> list[nft_expr]:
    """The expressions of a new rule. Raises: NlError, which points to the invalid one."""
    made: list[nft_expr] = []
    if "NFTA_RULE_EXPRESSIONS" not in tb:
        return made
    try:
        for at, end in list_of(ctx, tb, "NFTA_RULE_EXPRESSIONS"):
            if len(made) == NFT_RULE_MAXEXPRS:
                raise NlError(errno.EINVAL)
            try:
                made.append(nft_expr_init(ctx, at + 4, end))
            except NlError as exc:
                raise NlError(exc.errno or errno.EINVAL, at=at) from None
    except NlError:
        release(ctx, made)
        raise
    return made


def nf_tables_newrule(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nf_tables_api.c: NFT_MSG_NEWRULE: append, insert or replace."""
    table = nft_table_lookup(nlh, tb, "NFTA_RULE_TABLE")
    ctx = nft_ctx_init(nlh, table, nla=tb)
    chain = rule_chain(ctx, tb)
    ctx.chain = chain
    if chain.bound:
        raise NlError(errno.EOPNOTSUPP)
    old, replaces = place_of(ctx, tb, nlh.flags)
    handle = old.handle if replaces and old is not None else table.new_handle()
    expressions = nft_rule_expressions(ctx, tb)
    rule = nft_rule(handle, expressions, tb.get("NFTA_RULE_USERDATA"))
    if replaces:
        assert old is not None
        at = chain.rules.index(old)
        nft_delrule(ctx, chain, old)
    elif old is not None:
        at = chain.rules.index(old) + bool(nlh.flags & NLM_F_APPEND)
    else:
        at = len(chain.rules) if nlh.flags & NLM_F_APPEND else 0
    chain.rules.insert(at, rule)
    chain.use += 1

    def undo() -> None:
        chain.rules.remove(rule)
        chain.use -= 1
        release(ctx, expressions)

    nft_trans_add(
        ctx,
        undo,
        commit=lambda: nf_tables_rule_notify(ctx, chain, rule, NEWRULE),
        rule=rule,
        chain=chain,
        id=tb.get("NFTA_RULE_ID"),
    )


def rule_chain(ctx: nft_ctx, tb: Attrs) -> nft_chain:
    """The chain of a new rule. Raises: NlError EINVAL, ENOENT."""
    if "NFTA_RULE_CHAIN" in tb or "NFTA_RULE_CHAIN_ID" not in tb:
        return nft_chain_lookup(ctx.table, tb, "NFTA_RULE_CHAIN")
    try:
        return nft_chain_lookup_byid(ctx, tb["NFTA_RULE_CHAIN_ID"])
    except NlError as exc:
        raise at_attr(tb, "NFTA_RULE_CHAIN_ID", exc) from None


def place_of(ctx: nft_ctx, tb: Attrs, flags: int) -> tuple[nft_rule | None, bool]:
    """The rule that a new one replaces or is placed next to. Raises: NlError."""
    chain = ctx.chain
    assert chain is not None
    if "NFTA_RULE_HANDLE" in tb:
        old = rule_lookup(chain, tb, "NFTA_RULE_HANDLE")
        if flags & NLM_F_EXCL:
            raise bad_attr(tb, "NFTA_RULE_HANDLE", errno.EEXIST)
        if not flags & NLM_F_REPLACE:
            raise NlError(errno.EOPNOTSUPP)
        return old, True
    if not flags & NLM_F_CREATE or flags & NLM_F_REPLACE:
        raise NlError(errno.EINVAL)
    if "NFTA_RULE_POSITION" in tb:
        return rule_lookup(chain, tb, "NFTA_RULE_POSITION"), False
    if "NFTA_RULE_POSITION_ID" in tb:
        return nft_rule_lookup_byid(ctx, tb, "NFTA_RULE_POSITION_ID"), False
    return None, False


# --- deleted rules --------------------------------------------------------------------------------


def nft_delrule(ctx: nft_ctx, chain: nft_chain, rule: nft_rule) -> None:
    """net/netfilter/nf_tables_api.c: delete a rule and release its references."""
    at = chain.rules.index(rule)
    del chain.rules[at]
    chain.use -= 1
    for expr in rule.expressions:
        expr.deactivate(ctx)

    def undo() -> None:
        chain.rules.insert(at, rule)
        chain.use += 1
        for expr in rule.expressions:
            expr.activate(ctx)

    def commit() -> None:
        nf_tables_rule_notify(ctx, chain, rule, DELRULE)
        for expr in rule.expressions:
            if isinstance(expr, nft_lookup_expr) and expr.set.flags & NFT_SET_ANONYMOUS:
                nf_tables_set_notify(ctx, expr.set, DELSET)
            expr.destroy(ctx)

    nft_trans_add(ctx, undo, commit=commit)


def nft_delrule_by_chain(ctx: nft_ctx, chain: nft_chain) -> None:
    """net/netfilter/nf_tables_api.c: delete all rules of a chain."""
    for rule in list(chain.rules):
        nft_delrule(ctx, chain, rule)


def flush_chains(ctx: nft_ctx, table: nft_table) -> None:
    """Delete all rules of a table; chains bound to a rule are deleted with it."""
    for chain in list(table.chains.values()):
        if not chain.bound:
            nft_delrule_by_chain(ctx, chain)


def nf_tables_delrule(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nf_tables_api.c: NFT_MSG_DELRULE, _DESTROYRULE: one, a chain's or a table's."""
    table = nft_table_lookup(nlh, tb, "NFTA_RULE_TABLE")
    ctx = nft_ctx_init(nlh, table, nla=tb)
    if "NFTA_RULE_CHAIN" not in tb:
        flush_chains(ctx, table)
        return
    try:
        chain = ctx.chain = nft_chain_lookup(table, tb, "NFTA_RULE_CHAIN")
        if chain.bound:
            raise NlError(errno.EOPNOTSUPP)
        if "NFTA_RULE_HANDLE" in tb:
            nft_delrule(ctx, chain, rule_lookup(chain, tb, "NFTA_RULE_HANDLE"))
        elif "NFTA_RULE_ID" in tb:
            nft_delrule(ctx, chain, nft_rule_lookup_byid(ctx, tb, "NFTA_RULE_ID"))
        else:
            nft_delrule_by_chain(ctx, chain)
    except NlError as exc:
        if exc.errno != errno.ENOENT or message_of(nlh) != DESTROYRULE:
            raise
