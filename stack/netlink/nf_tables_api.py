"""net/netfilter/nf_tables_api.c: nf_tables as a subsystem of nfnetlink: its messages and batches.

    BATCH                   messages that change something, in nfnetlink's batches
    ASKED                   query messages
    nf_tables_valid_genid   whether a batch was made for this generation
    nf_tables_validate      jumps that are too deep, expressions in chains that do not allow them
    nf_tables_commit        the next generation: notify listeners
    nf_tables_abort         undo all

Read stack/netlink/nf_tables_trans.py first.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

import stack.netfilter.nft_expressions  # noqa: F401 -- registers what rules may have
from stack.net import Net
from stack.netfilter.nf_tables import (
    NFT_TABLE_F_OWNER,
    NFT_TABLE_F_PERSIST,
    nft_chain_validate,
    nft_ctx,
    nft_pernet,
    nft_table,
    nftables_pernet,
)
from stack.netfilter.nft_attrs import (
    NFTA_CHAIN,
    NFTA_FLOWTABLE,
    NFTA_GEN,
    NFTA_OBJ,
    NFTA_RULE,
    NFTA_SET,
    NFTA_SET_ELEM_LIST,
    NFTA_TABLE,
)
from stack.netlink.af_netlink import nlmsg_notify
from stack.netlink.netlink_sock import (
    NETLINK_NETFILTER,
    NLM_F_DUMP,
    NLM_F_ECHO,
    netlink_sock,
    nlmsg,
)
from stack.netlink.nf_tables_chain_api import (
    nf_tables_delchain,
    nf_tables_getchain,
    nf_tables_newchain,
)
from stack.netlink.nf_tables_elem_api import (
    nf_tables_delsetelem,
    nf_tables_getsetelem,
    nf_tables_newsetelem,
)
from stack.netlink.nf_tables_obj_api import nf_tables_delobj, nf_tables_getobj, nf_tables_newobj
from stack.netlink.nf_tables_rule_api import nf_tables_delrule, nf_tables_getrule, nf_tables_newrule
from stack.netlink.nf_tables_set_api import nf_tables_delset, nf_tables_getset, nf_tables_newset
from stack.netlink.nf_tables_table_api import (
    nf_tables_deltable,
    nf_tables_gettable,
    nf_tables_newtable,
    nft_flush_table,
)
from stack.netlink.nf_tables_trans import (
    DELCHAIN,
    DELFLOWTABLE,
    DELOBJ,
    DELRULE,
    DELSET,
    DELSETELEM,
    DELTABLE,
    DESTROYCHAIN,
    DESTROYFLOWTABLE,
    DESTROYOBJ,
    DESTROYRULE,
    DESTROYSET,
    DESTROYSETELEM,
    DESTROYTABLE,
    GETCHAIN,
    GETFLOWTABLE,
    GETGEN,
    GETOBJ,
    GETOBJ_RESET,
    GETRULE,
    GETRULE_RESET,
    GETSET,
    GETSETELEM,
    GETSETELEM_RESET,
    GETTABLE,
    NEWCHAIN,
    NEWFLOWTABLE,
    NEWGEN,
    NEWOBJ,
    NEWRULE,
    NEWSET,
    NEWSETELEM,
    NEWTABLE,
    NFNLGRP_NFTABLES,
    nft_dump,
    nft_head,
    nft_reply,
    nft_table_lookup,
    nft_type,
)
from stack.netlink.nlattr import Attrs, AttrTable, NlError

# --- flow tables: there are none ------------------------------------------------------------------


def nf_tables_newflowtable(nlh: nlmsg, tb: Attrs) -> None:
    """NFT_MSG_NEWFLOWTABLE. Raises: NlError ENOENT: no module offloads flows."""
    if any(f"NFTA_FLOWTABLE_{name}" not in tb for name in ("TABLE", "NAME", "HOOK")):
        raise NlError(errno.EINVAL)
    nft_table_lookup(nlh, tb, "NFTA_FLOWTABLE_TABLE")
    raise NlError(errno.ENOENT)


def nf_tables_getflowtable(nlh: nlmsg, tb: Attrs) -> None:
    """NFT_MSG_GETFLOWTABLE: an empty dump. Raises: NlError ENOENT."""
    if nlh.flags & NLM_F_DUMP:
        nft_dump(nlh, NEWFLOWTABLE, iter(()))
        return
    if "NFTA_FLOWTABLE_NAME" not in tb:
        raise NlError(errno.EINVAL)
    nft_table_lookup(nlh, tb, "NFTA_FLOWTABLE_TABLE", changes=False)
    raise tb.wrong("NFTA_FLOWTABLE_NAME", "", errno.ENOENT)


def nf_tables_delflowtable(nlh: nlmsg, tb: Attrs) -> None:
    """NFT_MSG_DELFLOWTABLE, _DESTROYFLOWTABLE. Raises: NlError ENOENT, EINVAL."""
    attr = "NFTA_FLOWTABLE_HANDLE" if "NFTA_FLOWTABLE_HANDLE" in tb else "NFTA_FLOWTABLE_NAME"
    if attr not in tb:
        raise NlError(errno.EINVAL)
    nft_table_lookup(nlh, tb, "NFTA_FLOWTABLE_TABLE")
    if nlh.type & 0xFF != DESTROYFLOWTABLE:
        raise tb.wrong(attr, "", errno.ENOENT)


# --- generations ----------------------------------------------------------------------------------


def nf_tables_fill_gen_info(pernet: nftables_pernet, sk: netlink_sock) -> bytes:
    """net/netfilter/nf_tables_api.c: the generation, and who caused it."""
    return NFTA_GEN.build(
        {
            "NFTA_GEN_ID": pernet.base_seq,
            "NFTA_GEN_PROC_PID": sk.tgid,
            "NFTA_GEN_PROC_NAME": sk.comm,
        }
    )


def nf_tables_getgen(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nf_tables_api.c: NFT_MSG_GETGEN."""
    pernet = nft_pernet(nlh.sk.net)
    nft_reply(nlh, NEWGEN, 0, nf_tables_fill_gen_info(pernet, nlh.sk))


def nf_tables_valid_genid(net: Net, genid: int) -> bool:
    """net/netfilter/nf_tables_api.c: whether a batch was made for this generation; 0: any."""
    return genid in (0, nft_pernet(net).base_seq)


# --- the end of a batch ---------------------------------------------------------------------------


def nft_table_validate(net: Net, table: nft_table) -> None:
    """net/netfilter/nf_tables_api.c: validate the rules that base chains reach. Raises: NlError."""
    for chain in table.chains.values():
        if chain.base is not None:
            nft_chain_validate(nft_ctx(net, table.family, table, chain), chain)


def nf_tables_validate(net: Net) -> None:
    """net/netfilter/nf_tables_api.c: validate the tables that a batch changed. Raises: NlError."""
    pernet = nft_pernet(net)
    changed = {id(trans.table) for trans in pernet.trans}
    for table in pernet.tables.values():
        if id(table) in changed:
            nft_table_validate(net, table)


def nf_tables_commit(net: Net, nlh: nlmsg) -> None:
    """net/netfilter/nf_tables_api.c: commit the batch. `nlh`: its first message."""
    pernet = nft_pernet(net)
    if not pernet.trans:
        return
    pernet.base_seq = pernet.base_seq % 0xFFFFFFFF + 1
    commit_steps(net)
    nf_tables_gen_notify(net, nlh)


def commit_steps(net: Net) -> None:
    """Commit each step of the batch."""
    pernet = nft_pernet(net)
    steps, pernet.trans = pernet.trans, []
    for trans in steps:
        trans.commit()


def nf_tables_gen_notify(net: Net, nlh: nlmsg) -> None:
    """net/netfilter/nf_tables_api.c: notify the number of the new generation."""
    pernet, sk = nft_pernet(net), nlh.sk
    payload = nft_head(pernet, 0) + nf_tables_fill_gen_info(pernet, sk)
    report = bool(nlh.flags & NLM_F_ECHO)
    nlmsg_notify(
        *(net, NETLINK_NETFILTER, NFNLGRP_NFTABLES, nft_type(NEWGEN), payload, 0),
        *(sk.portid, report, nlh.seq),
    )


def nf_tables_abort(net: Net) -> None:
    """net/netfilter/nf_tables_api.c: undo the batch, the last step first."""
    pernet = nft_pernet(net)
    while pernet.trans:
        pernet.trans.pop().undo()


def nft_rcv_nl_event(net: Net, portid: int) -> None:
    """net/netfilter/nf_tables_api.c: a socket was closed: delete the tables that it owned.

    With NFT_TABLE_F_PERSIST they stay, without an owner.
    """
    for table in list(nft_pernet(net).tables.values()):
        if not table.flags & NFT_TABLE_F_OWNER or table.nlpid != portid:
            continue
        if table.flags & NFT_TABLE_F_PERSIST:
            table.flags &= ~NFT_TABLE_F_OWNER
        else:
            nft_flush_table(nft_ctx(net, table.family, table, quiet=True))
    commit_steps(net)


Call = Callable[[nlmsg, Attrs], None]
ASKED: dict[int, tuple[Call, AttrTable]] = {
    GETTABLE: (nf_tables_gettable, NFTA_TABLE),
    GETCHAIN: (nf_tables_getchain, NFTA_CHAIN),
    GETRULE: (nf_tables_getrule, NFTA_RULE),
    GETRULE_RESET: (nf_tables_getrule, NFTA_RULE),
    GETSET: (nf_tables_getset, NFTA_SET),
    GETSETELEM: (nf_tables_getsetelem, NFTA_SET_ELEM_LIST),
    GETSETELEM_RESET: (nf_tables_getsetelem, NFTA_SET_ELEM_LIST),
    GETGEN: (nf_tables_getgen, AttrTable("NFTA_GEN")),
    GETOBJ: (nf_tables_getobj, NFTA_OBJ),
    GETOBJ_RESET: (nf_tables_getobj, NFTA_OBJ),
    GETFLOWTABLE: (nf_tables_getflowtable, NFTA_FLOWTABLE),
}
"""The handlers of query messages, and their attributes."""
BATCH: dict[int, tuple[Call, AttrTable]] = {
    NEWTABLE: (nf_tables_newtable, NFTA_TABLE),
    DELTABLE: (nf_tables_deltable, NFTA_TABLE),
    DESTROYTABLE: (nf_tables_deltable, NFTA_TABLE),
    NEWCHAIN: (nf_tables_newchain, NFTA_CHAIN),
    DELCHAIN: (nf_tables_delchain, NFTA_CHAIN),
    DESTROYCHAIN: (nf_tables_delchain, NFTA_CHAIN),
    NEWRULE: (nf_tables_newrule, NFTA_RULE),
    DELRULE: (nf_tables_delrule, NFTA_RULE),
    DESTROYRULE: (nf_tables_delrule, NFTA_RULE),
    NEWSET: (nf_tables_newset, NFTA_SET),
    DELSET: (nf_tables_delset, NFTA_SET),
    DESTROYSET: (nf_tables_delset, NFTA_SET),
    NEWSETELEM: (nf_tables_newsetelem, NFTA_SET_ELEM_LIST),
    DELSETELEM: (nf_tables_delsetelem, NFTA_SET_ELEM_LIST),
    DESTROYSETELEM: (nf_tables_delsetelem, NFTA_SET_ELEM_LIST),
    NEWOBJ: (nf_tables_newobj, NFTA_OBJ),
    DELOBJ: (nf_tables_delobj, NFTA_OBJ),
    DESTROYOBJ: (nf_tables_delobj, NFTA_OBJ),
    NEWFLOWTABLE: (nf_tables_newflowtable, NFTA_FLOWTABLE),
    DELFLOWTABLE: (nf_tables_delflowtable, NFTA_FLOWTABLE),
    DESTROYFLOWTABLE: (nf_tables_delflowtable, NFTA_FLOWTABLE),
}
"""The handlers of batch messages, and their attributes."""


def nf_tables_net_init(net: Net) -> None:
    """net/netfilter/nf_tables_api.c nf_tables_init_net: no tables."""
    net.gen["nf_tables"] = nftables_pernet(net)
