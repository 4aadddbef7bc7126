"""net/netfilter/nf_tables_api.c: common parts of its messages: look-ups, transactions, events.

    nft_ctx_init        the context of a request
    nft_trans_add       its changes: how to undo and commit them
    nft_notify          notify `nft monitor`, and the requester with NLM_F_ECHO

A request changes the tables at once: no packet is processed while the host's lock is held. When a
later one of its batch fails, all are undone in reverse order.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from stack.core.uapi import NLM_F_CREATE, NLM_F_EXCL
from stack.net import Net
from stack.netfilter.nf_tables import (
    NFT_TABLE_F_OWNER,
    nft_chain,
    nft_ctx,
    nft_pernet,
    nft_rule,
    nft_set,
    nft_table,
    nftables_pernet,
)
from stack.netlink.af_netlink import netlink_dump_start, netlink_reply, nlmsg_notify, nlmsg_part
from stack.netlink.ct_attrs import NFGENMSG
from stack.netlink.netlink_sock import (
    NETLINK_NETFILTER,
    NLM_F_ECHO,
    netlink_callback,
    nlmsg,
)
from stack.netlink.nlattr import Attrs, NlError

NFNL_SUBSYS_NFTABLES = 10
NFNLGRP_NFTABLES, NFNLGRP_NFTRACE = 7, 9

# enum nf_tables_msg_types
NEWTABLE, GETTABLE, DELTABLE, NEWCHAIN, GETCHAIN, DELCHAIN, NEWRULE, GETRULE, DELRULE = range(9)
NEWSET, GETSET, DELSET, NEWSETELEM, GETSETELEM, DELSETELEM, NEWGEN, GETGEN, TRACE = range(9, 18)
NEWOBJ, GETOBJ, DELOBJ, GETOBJ_RESET = range(18, 22)
NEWFLOWTABLE, GETFLOWTABLE, DELFLOWTABLE, GETRULE_RESET = range(22, 26)
DESTROYTABLE, DESTROYCHAIN, DESTROYRULE, DESTROYSET, DESTROYSETELEM, DESTROYOBJ = range(26, 32)
DESTROYFLOWTABLE, GETSETELEM_RESET = 32, 33

NLM_F_REPLACE = 0x100
NLM_F_NONREC = 0x100
NLM_F_APPEND = 0x800

NFT_RULE_MAXEXPRS = 128


def nothing() -> None:
    """There is nothing to undo, or nothing more to do."""


@dataclass(slots=True, eq=False)
class nft_trans:
    """struct nft_trans: one step of a batch.

    `undo` reverts it. `commit` is called when the batch is complete, and notifies listeners.
    """

    table: nft_table
    undo: Callable[[], None]
    commit: Callable[[], None] = nothing
    chain: nft_chain | None = None
    """A chain, rule or set that it added, which later messages refer to by `id`."""
    rule: nft_rule | None = None
    set: nft_set | None = None
    id: int | None = None
    hooks: bool = False
    """It concerns the hooks of a base chain: flags of the table may not change any more."""


def nft_type(message: int) -> int:
    """The netlink type of a message."""
    return NFNL_SUBSYS_NFTABLES << 8 | message


def message_of(nlh: nlmsg) -> int:
    """The message of nf_tables (NEWTABLE ...) that a request is."""
    return nlh.type & 0xFF


def family_of(nlh: nlmsg) -> int:
    """nfgen_family of a request."""
    return nlh.payload[0]


def nft_head(pernet: nftables_pernet, family: int) -> bytes:
    """struct nfgenmsg of an answer: it has the lower half of the generation."""
    return NFGENMSG.pack(family, 0, pernet.base_seq & 0xFFFF)


def bad_attr(tb: Attrs, name: str, err: int) -> NlError:
    """An error that points to an attribute, without a text (NL_SET_BAD_ATTR)."""
    return tb.wrong(name, "", err)


def at_attr(tb: Attrs, name: str, exc: NlError) -> NlError:
    """The same error, pointing to an attribute."""
    return bad_attr(tb, name, exc.errno or errno.EINVAL)


def nft_ctx_init(
    nlh: nlmsg, table: nft_table, chain: nft_chain | None = None, nla: Attrs | None = None
) -> nft_ctx:
    """net/netfilter/nf_tables_api.c: the context of a request."""
    sk = nlh.sk
    return nft_ctx(
        *(sk.net, table.family, table, chain, nla, nlh.whole, sk.portid, nlh.seq, nlh.flags),
        report=bool(nlh.flags & NLM_F_ECHO),
    )


def nft_trans_add(ctx: nft_ctx, undo: Callable[[], None], **rest: Any) -> nft_trans:
    """net/netfilter/nf_tables_api.c nft_trans_commit_list_add_tail."""
    trans = nft_trans(ctx.table, undo, **rest)
    nft_pernet(ctx.net).trans.append(trans)
    return trans


def nft_notify(ctx: nft_ctx, message: int, fill: Callable[[], bytes], flags: int = 0) -> None:
    """Notify the group, if it has listeners, and an echo's requester. `fill` returns attributes."""
    net = ctx.net
    if ctx.quiet:
        return
    if not ctx.report and not net.nl_table.protocols[NETLINK_NETFILTER].listeners.get(
        NFNLGRP_NFTABLES
    ):
        return
    payload = nft_head(nft_pernet(net), ctx.family) + fill()
    flags |= ctx.flags & (NLM_F_CREATE | NLM_F_EXCL)
    kind = nft_type(message)
    nlmsg_notify(
        net,
        NETLINK_NETFILTER,
        NFNLGRP_NFTABLES,
        kind,
        payload,
        flags,
        ctx.portid,
        ctx.report,
        ctx.seq,
    )


def nft_trace_send(net: Net, family: int, attrs: bytes) -> None:
    """The end of nft_trace_notify: notify the group of `nft monitor trace`."""
    payload = NFGENMSG.pack(family, 0, 0) + attrs
    nlmsg_notify(net, NETLINK_NETFILTER, NFNLGRP_NFTRACE, nft_type(TRACE), payload)


# --- answers --------------------------------------------------------------------------------------


def nft_reply(nlh: nlmsg, message: int, family: int, attrs: bytes, flags: int = 0) -> None:
    """Answer the requester with one message."""
    head = nft_head(nft_pernet(nlh.sk.net), family)
    netlink_reply(nlh, nft_type(message), head + attrs, flags)


def nft_dump(nlh: nlmsg, message: int, parts: Iterator[tuple[int, bytes]], flags: int = 0) -> None:
    """Begin a dump; each part is a family and attributes. A new generation sets NLM_F_DUMP_INTR."""
    pernet = nft_pernet(nlh.sk.net)
    kind = nft_type(message)
    messages = (
        nlmsg_part(nlh, kind, nft_head(pernet, family) + attrs, flags) for family, attrs in parts
    )
    netlink_dump_start(nlh, netlink_callback(nlh, messages, seq=lambda: pernet.base_seq))


# --- look-ups -------------------------------------------------------------------------------------


def nft_tables(net: Net, family: int) -> list[nft_table]:
    """The tables of a family; 0: all."""
    held = nft_pernet(net).tables.values()
    return [table for table in held if family in (0, table.family)]


def nft_table_lookup(nlh: nlmsg, tb: Attrs, name: str, changes: bool = True) -> nft_table:
    """net/netfilter/nf_tables_api.c: the table that an attribute names.

    `changes`: the request changes it, which only its owner may do.
    Raises: NlError EINVAL: there is no name; ENOENT; EPERM.
    """
    if name not in tb:
        raise NlError(errno.EINVAL)
    table = nft_pernet(nlh.sk.net).tables.get((family_of(nlh), tb[name]))
    if table is None:
        raise bad_attr(tb, name, errno.ENOENT)
    need_owner(nlh, table, tb, name, changes)
    return table


def need_owner(nlh: nlmsg, table: nft_table, tb: Attrs, name: str, changes: bool) -> None:
    """Raises: NlError EPERM: the table is another program's."""
    owned = table.flags & NFT_TABLE_F_OWNER and table.nlpid != nlh.sk.portid
    if changes and owned and table.nlpid:
        raise bad_attr(tb, name, errno.EPERM)


def nft_chain_lookup(table: nft_table, tb: Attrs, name: str) -> nft_chain:
    """net/netfilter/nf_tables_api.c: the chain that an attribute names. Raises: NlError."""
    if name not in tb:
        raise NlError(errno.EINVAL)
    chain = table.chains.get(tb[name])
    if chain is None:
        raise bad_attr(tb, name, errno.ENOENT)
    return chain
