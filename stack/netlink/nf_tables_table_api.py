"""net/netfilter/nf_tables_api.c: tables: NFT_MSG_NEWTABLE, _GETTABLE, _DELTABLE, all of them."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from stack.core.netfilter import NFPROTO_IPV4, NFPROTO_IPV6
from stack.core.uapi import NLM_F_EXCL
from stack.net import Net
from stack.netfilter.nf_tables import (
    NFPROTO_INET,
    NFT_CHAIN_BINDING,
    NFT_SET_ANONYMOUS,
    NFT_TABLE_F_DORMANT,
    NFT_TABLE_F_OWNER,
    NFT_TABLE_F_PERSIST,
    nft_ctx,
    nft_pernet,
    nft_table,
)
from stack.netfilter.nft_attrs import NFTA_TABLE
from stack.netlink.netlink_sock import NLM_F_DUMP, nlmsg
from stack.netlink.nf_tables_chain_api import (
    nf_tables_register_hook,
    nf_tables_unregister_hook,
    nft_delchain,
)
from stack.netlink.nf_tables_obj_api import nft_delobj
from stack.netlink.nf_tables_rule_api import flush_chains
from stack.netlink.nf_tables_set_api import nft_delset
from stack.netlink.nf_tables_trans import (
    DELTABLE,
    DESTROYTABLE,
    NEWTABLE,
    NLM_F_NONREC,
    NLM_F_REPLACE,
    bad_attr,
    family_of,
    message_of,
    need_owner,
    nft_ctx_init,
    nft_dump,
    nft_notify,
    nft_reply,
    nft_table_lookup,
    nft_tables,
    nft_trans_add,
)
from stack.netlink.nlattr import Attrs, NlError

FAMILIES = (NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6)
NFT_TABLE_F_MASK = NFT_TABLE_F_DORMANT | NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST

# --- dumping --------------------------------------------------------------------------------------


def nf_tables_fill_table_info(table: nft_table, message: int = NEWTABLE) -> bytes:
    """net/netfilter/nf_tables_api.c: the attributes of a table."""
    told = {
        "NFTA_TABLE_NAME": table.name,
        "NFTA_TABLE_USE": table.use,
        "NFTA_TABLE_HANDLE": table.handle,
    }
    if message != DELTABLE:
        owned = table.flags & NFT_TABLE_F_OWNER
        told |= {
            "NFTA_TABLE_FLAGS": table.flags & NFT_TABLE_F_MASK,
            "NFTA_TABLE_OWNER": table.nlpid if owned else None,
            "NFTA_TABLE_USERDATA": table.udata,
        }
    return NFTA_TABLE.build(told)


def nf_tables_table_notify(ctx: nft_ctx, message: int) -> None:
    """net/netfilter/nf_tables_api.c: notify that a table was added, changed or removed."""
    nft_notify(ctx, message, lambda: nf_tables_fill_table_info(ctx.table, message))


def nf_tables_gettable(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nf_tables_api.c: NFT_MSG_GETTABLE."""
    family = family_of(nlh)
    if nlh.flags & NLM_F_DUMP:
        nft_dump(nlh, NEWTABLE, nf_tables_dump_tables(nlh.sk.net, family))
        return
    table = nft_table_lookup(nlh, tb, "NFTA_TABLE_NAME", changes=False)
    nft_reply(nlh, NEWTABLE, family, nf_tables_fill_table_info(table))


def nf_tables_dump_tables(net: Net, family: int) -> Iterator[tuple[int, bytes]]:
    """net/netfilter/nf_tables_api.c: each table of a family."""
    for table in nft_tables(net, family):
        yield table.family, nf_tables_fill_table_info(table)


# --- new tables -----------------------------------------------------------------------------------


def nf_tables_newtable(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nf_tables_api.c: NFT_MSG_NEWTABLE: create a table, or change its flags."""
    if family_of(nlh) not in FAMILIES:
        raise NlError(errno.EOPNOTSUPP)
    pernet, attr = nft_pernet(nlh.sk.net), "NFTA_TABLE_NAME"
    try:
        table = nft_table_lookup(nlh, tb, attr)
    except NlError as exc:
        if exc.errno != errno.ENOENT:
            raise NlError(exc.errno or errno.EINVAL) from None
    else:
        if nlh.flags & NLM_F_EXCL:
            raise bad_attr(tb, attr, errno.EEXIST)
        if nlh.flags & NLM_F_REPLACE:
            raise NlError(errno.EOPNOTSUPP)
        nf_tables_updtable(nft_ctx_init(nlh, table, nla=tb), tb)
        return
    flags = tb.get("NFTA_TABLE_FLAGS", 0)
    if flags & ~NFT_TABLE_F_MASK:
        raise NlError(errno.EOPNOTSUPP)
    pernet.table_handle += 1
    table = nft_table(family_of(nlh), tb[attr], flags, pernet.table_handle)
    table.udata = tb.get("NFTA_TABLE_USERDATA")
    if flags & NFT_TABLE_F_OWNER:
        table.nlpid = nlh.sk.portid
    key = table.family, table.name
    pernet.tables[key] = table
    ctx = nft_ctx_init(nlh, table, nla=tb)
    nft_trans_add(
        ctx,
        lambda: pernet.tables.__delitem__(key),
        commit=lambda: nf_tables_table_notify(ctx, NEWTABLE),
    )


def nft_table_pending_update(ctx: nft_ctx) -> bool:
    """net/netfilter/nf_tables_api.c: whether this batch forbids a change of flags."""
    steps = nft_pernet(ctx.net).trans
    return ctx.table.updated or any(one.hooks and one.table is ctx.table for one in steps)


def nf_tables_updtable(ctx: nft_ctx, tb: Attrs) -> None:
    """net/netfilter/nf_tables_api.c: change flags: dormant, active, owner."""
    table = ctx.table
    flags = tb.get("NFTA_TABLE_FLAGS", table.flags)
    if flags & ~NFT_TABLE_F_MASK:
        raise NlError(errno.EOPNOTSUPP)
    if flags == table.flags:
        return
    changed = flags ^ table.flags
    if table.flags & NFT_TABLE_F_OWNER and changed & NFT_TABLE_F_OWNER:
        raise NlError(errno.EOPNOTSUPP)
    if changed & NFT_TABLE_F_PERSIST:
        raise NlError(errno.EOPNOTSUPP)
    if changed & NFT_TABLE_F_OWNER and not table.flags & NFT_TABLE_F_PERSIST:
        raise NlError(errno.EOPNOTSUPP)
    if nft_table_pending_update(ctx):
        raise NlError(errno.EINVAL)
    old, old_owner = table.flags, table.nlpid

    def set_to(flags: int, owner: int) -> None:
        table.flags, table.nlpid = flags, owner
        for chain in table.chains.values():
            if flags & NFT_TABLE_F_DORMANT:
                nf_tables_unregister_hook(chain)
            else:
                nf_tables_register_hook(ctx.net, table, chain)

    def undo() -> None:
        table.updated = False
        set_to(old, old_owner)

    def commit() -> None:
        table.updated = False
        nf_tables_table_notify(ctx, NEWTABLE)

    table.updated = True
    set_to(flags, ctx.portid if changed & NFT_TABLE_F_OWNER else old_owner)
    nft_trans_add(ctx, undo, commit=commit)


# --- deleted tables -------------------------------------------------------------------------------


def nft_flush_table(ctx: nft_ctx) -> None:
    """net/netfilter/nf_tables_api.c: delete a table with its contents."""
    table = ctx.table
    flush_chains(ctx, table)
    for found in list(table.sets.values()):
        if not found.flags & NFT_SET_ANONYMOUS or not found.bindings:
            nft_delset(ctx, found)
    for obj in list(table.objects.values()):
        nft_delobj(ctx, obj)
    for chain in list(table.chains.values()):
        if not chain.flags & NFT_CHAIN_BINDING:
            nft_delchain(ctx, chain)
    nft_deltable(ctx)


def nft_deltable(ctx: nft_ctx) -> None:
    """net/netfilter/nf_tables_api.c: delete an empty table."""
    pernet = nft_pernet(ctx.net)
    held = list(pernet.tables.items())
    del pernet.tables[ctx.table.family, ctx.table.name]

    def undo() -> None:
        pernet.tables.clear()
        pernet.tables.update(held)

    nft_trans_add(ctx, undo, commit=lambda: nf_tables_table_notify(ctx, DELTABLE))


def nf_tables_deltable(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nf_tables_api.c: NFT_MSG_DELTABLE, _DESTROYTABLE: one, a family's, or all."""
    family, net, portid = family_of(nlh), nlh.sk.net, nlh.sk.portid
    if not family or ("NFTA_TABLE_NAME" not in tb and "NFTA_TABLE_HANDLE" not in tb):
        for table in nft_tables(net, family):
            others = table.flags & NFT_TABLE_F_OWNER and table.nlpid != portid
            if not others and tb.get("NFTA_TABLE_NAME") in (None, table.name):
                nft_flush_table(nft_ctx_init(nlh, table, nla=tb))
        return
    attr = "NFTA_TABLE_HANDLE" if "NFTA_TABLE_HANDLE" in tb else "NFTA_TABLE_NAME"
    try:
        found = table_to_delete(nlh, tb, attr)
    except NlError as exc:
        if exc.errno == errno.ENOENT and message_of(nlh) == DESTROYTABLE:
            return
        raise
    if nlh.flags & NLM_F_NONREC and found.use > 0:
        raise NlError(errno.EBUSY)
    nft_flush_table(nft_ctx_init(nlh, found, nla=tb))


def table_to_delete(nlh: nlmsg, tb: Attrs, attr: str) -> nft_table:
    """The table by its name, or by its handle. Raises: NlError ENOENT, EPERM."""
    if attr == "NFTA_TABLE_NAME":
        return nft_table_lookup(nlh, tb, attr)
    for table in nft_tables(nlh.sk.net, family_of(nlh)):
        if table.handle == tb[attr]:
            need_owner(nlh, table, tb, attr, changes=True)
            return table
    raise bad_attr(tb, attr, errno.ENOENT)
