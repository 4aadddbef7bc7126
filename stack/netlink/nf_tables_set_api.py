"""net/netfilter/nf_tables_api.c: sets and maps. Their elements: nf_tables_elem_api.py.

    nf_tables_newset        NFT_MSG_NEWSET
        nft_set_desc                flags, types and lengths of keys and data
        nf_tables_set_desc_parse    the fields of a concatenation
        nft_set_expressions         expressions copied to each element
    nf_tables_delset        NFT_MSG_DELSET, _DESTROYSET
    nf_tables_getset        NFT_MSG_GETSET: one, or all

State: `nft_table.sets`. An anonymous set is deleted with its rule (nft_setelem.py).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from itertools import count

from stack.core.uapi import NLM_F_CREATE, NLM_F_EXCL
from stack.net import Net
from stack.netfilter.nf_tables import (
    NFT_DATA_VALUE_MAXLEN,
    NFT_DATA_VERDICT,
    NFT_SET_ANONYMOUS,
    NFT_SET_CONCAT,
    NFT_SET_CONSTANT,
    NFT_SET_EVAL,
    NFT_SET_EXPR,
    NFT_SET_INTERVAL,
    NFT_SET_MAP,
    NFT_SET_OBJECT,
    NFT_SET_TIMEOUT,
    nft_ctx,
    nft_expr,
    nft_set,
    nft_set_elem,
    nft_table,
)
from stack.netfilter.nf_tables_expr import (
    list_of,
    nft_list,
    nft_set_elem_expr_dump,
    nft_set_elem_expressions,
    release,
)
from stack.netfilter.nft_attrs import NFTA_SET, NFTA_SET_FIELD
from stack.netfilter.nft_set import nft_select_set_ops
from stack.netfilter.nft_setelem import elem_hold, elem_release
from stack.netlink.netlink_sock import NLM_F_DUMP, nlmsg
from stack.netlink.nf_tables_trans import (
    DELSET,
    DESTROYSET,
    NEWSET,
    NLM_F_NONREC,
    NLM_F_REPLACE,
    bad_attr,
    family_of,
    message_of,
    nft_ctx_init,
    nft_dump,
    nft_notify,
    nft_reply,
    nft_table_lookup,
    nft_tables,
    nft_trans_add,
)
from stack.netlink.nlattr import Attrs, NlError

FLAGS = (
    NFT_SET_ANONYMOUS
    | NFT_SET_CONSTANT
    | NFT_SET_INTERVAL
    | NFT_SET_TIMEOUT
    | NFT_SET_MAP
    | NFT_SET_EVAL
    | NFT_SET_OBJECT
    | NFT_SET_CONCAT
    | NFT_SET_EXPR
)
RESERVED = 0xFFFFFF00
"""NFT_DATA_RESERVED_MASK: data types reserved for the kernel."""
NFT_OBJECT_MAX = 9
NFT_REG32_COUNT = 16
VERDICT_BYTES = 16
MOST_FIELD_BYTES = 255
NFT_SET_POL_MEMORY = 1
NOT_TOGETHER = (
    (NFT_SET_MAP | NFT_SET_OBJECT, NFT_SET_MAP | NFT_SET_OBJECT),
    (NFT_SET_EVAL | NFT_SET_OBJECT, NFT_SET_EVAL | NFT_SET_OBJECT),
    (NFT_SET_ANONYMOUS | NFT_SET_TIMEOUT | NFT_SET_EVAL, NFT_SET_ANONYMOUS | NFT_SET_TIMEOUT),
    (NFT_SET_CONSTANT | NFT_SET_TIMEOUT, NFT_SET_CONSTANT | NFT_SET_TIMEOUT),
)
"""Invalid combinations of set flags: a mask, and the forbidden result."""

# --- dumping --------------------------------------------------------------------------------------


def nf_tables_fill_set(found: nft_set, message: int = NEWSET) -> bytes:
    """net/netfilter/nf_tables_api.c: the attributes of a set."""
    told = {
        "NFTA_SET_TABLE": found.table.name,
        "NFTA_SET_NAME": found.name,
        "NFTA_SET_HANDLE": found.handle,
    }
    if message == DELSET:
        return NFTA_SET.build(told)
    maps = bool(found.flags & NFT_SET_MAP)
    fields = [NFTA_SET_FIELD.build({"NFTA_SET_FIELD_LEN": size}) for size in found.field_len]
    told |= {
        "NFTA_SET_FLAGS": found.flags or None,
        "NFTA_SET_KEY_TYPE": found.ktype,
        "NFTA_SET_KEY_LEN": found.klen,
        "NFTA_SET_DATA_TYPE": found.dtype if maps else None,
        "NFTA_SET_DATA_LEN": found.dlen if maps else None,
        "NFTA_SET_OBJ_TYPE": found.objtype or None,
        "NFTA_SET_TIMEOUT": found.timeout or None,
        "NFTA_SET_GC_INTERVAL": found.gc_int or None,
        "NFTA_SET_POLICY": found.policy or None,
        "NFTA_SET_USERDATA": found.udata,
        "NFTA_SET_DESC": {
            "NFTA_SET_DESC_SIZE": found.size or None,
            "NFTA_SET_DESC_CONCAT": nft_list(fields) if len(fields) > 1 else None,
        },
    }
    told |= nft_set_elem_expr_dump("NFTA_SET", found.expressions)
    return NFTA_SET.build(told)


def nf_tables_set_notify(ctx: nft_ctx, found: nft_set, message: int) -> None:
    """net/netfilter/nf_tables_api.c: notify that a set was added or removed."""
    nft_notify(ctx, message, lambda: nf_tables_fill_set(found, message))


def nf_tables_getset(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nf_tables_api.c: NFT_MSG_GETSET."""
    family, name = family_of(nlh), tb.get("NFTA_SET_TABLE")
    if name is not None:
        nft_table_lookup(nlh, tb, "NFTA_SET_TABLE", changes=False)
    if nlh.flags & NLM_F_DUMP:
        nft_dump(nlh, NEWSET, nf_tables_dump_sets(nlh.sk.net, family, name))
        return
    if not family:
        raise NlError(errno.EAFNOSUPPORT)
    table = nft_table_lookup(nlh, tb, "NFTA_SET_TABLE", changes=False)
    found = nft_set_lookup(table, tb, "NFTA_SET_NAME")
    nft_reply(nlh, NEWSET, family, nf_tables_fill_set(found))


def nf_tables_dump_sets(net: Net, family: int, name: str | None) -> Iterator[tuple[int, bytes]]:
    """net/netfilter/nf_tables_api.c: each set of a family, or of a table."""
    for table in nft_tables(net, family):
        if name in (None, table.name):
            for found in list(table.sets.values()):
                yield table.family, nf_tables_fill_set(found)


# --- new sets -------------------------------------------------------------------------------------


def nft_set_lookup(table: nft_table, tb: Attrs, name: str) -> nft_set:
    """net/netfilter/nf_tables_api.c: the set that an attribute names. Raises: NlError."""
    if name not in tb:
        raise NlError(errno.EINVAL)
    found = table.sets.get(tb[name])
    if found is None:
        raise bad_attr(tb, name, errno.ENOENT)
    return found


def nf_tables_set_alloc_name(table: nft_table, name: str) -> str:
    """net/netfilter/nf_tables_api.c: "__set%d" becomes a name that no set of the table has."""
    if "%" not in name:
        return name
    if name.count("%") != 1 or "%d" not in name:
        raise NlError(errno.EINVAL)
    return next(one for n in count() if (one := name.replace("%d", str(n))) not in table.sets)


def nf_tables_newset(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nf_tables_api.c: NFT_MSG_NEWSET."""
    if any(f"NFTA_SET_{name}" not in tb for name in ("TABLE", "NAME", "KEY_LEN", "ID")):
        raise NlError(errno.EINVAL)
    desc = nft_set_desc(tb)
    table = nft_table_lookup(nlh, tb, "NFTA_SET_TABLE")
    desc.table = table
    ctx = nft_ctx_init(nlh, table, nla=tb)
    desc.field_len = nf_tables_set_desc_parse(ctx, tb, desc.klen)
    old = table.sets.get(tb["NFTA_SET_NAME"])
    if old is None and not nlh.flags & NLM_F_CREATE:
        raise NlError(errno.ENOENT)
    if old is not None:
        if nlh.flags & NLM_F_EXCL:
            raise bad_attr(tb, "NFTA_SET_NAME", errno.EEXIST)
        if nlh.flags & NLM_F_REPLACE or old.flags & NFT_SET_ANONYMOUS:
            raise NlError(errno.EOPNOTSUPP)
    desc.expressions = nft_set_expressions(ctx, tb, desc)
    if old is not None:
        same = nft_set_is_same(old, desc)
        release(ctx, desc.expressions)
        if not same:
            raise bad_attr(tb, "NFTA_SET_NAME", errno.EEXIST)
        updset(ctx, old, desc)
        return
    desc.name = nf_tables_set_alloc_name(table, tb["NFTA_SET_NAME"])
    desc.handle = table.new_handle()
    desc.udata = tb.get("NFTA_SET_USERDATA")
    desc.elems = nft_select_set_ops(desc, ctx.net.clock.now_ns)
    table.sets[desc.name] = desc

    def undo() -> None:
        if table.sets.get(desc.name) is desc:
            del table.sets[desc.name]
        release(ctx, desc.expressions)

    nft_trans_add(
        ctx,
        undo,
        commit=lambda: nf_tables_set_notify(ctx, desc, NEWSET),
        set=desc,
        id=tb["NFTA_SET_ID"],
    )


def updset(ctx: nft_ctx, old: nft_set, desc: nft_set) -> None:
    """nf_tables_newset for an existing set: change timeouts and size."""
    values = old.timeout, old.gc_int, old.size

    def undo() -> None:
        old.timeout, old.gc_int, old.size = values

    old.timeout = desc.timeout or old.timeout
    old.gc_int = desc.gc_int or old.gc_int
    old.size = desc.size or old.size
    nft_trans_add(ctx, undo, commit=lambda: nf_tables_set_notify(ctx, old, NEWSET))


def nft_set_is_same(old: nft_set, desc: nft_set) -> bool:
    """net/netfilter/nf_tables_api.c: whether a set matches a request."""
    return (
        old.ktype == desc.ktype
        and old.dtype == desc.dtype
        and old.flags == desc.flags
        and old.klen == desc.klen
        and old.dlen == desc.dlen
        and old.policy == desc.policy
        and old.objtype == desc.objtype
        and old.field_len == desc.field_len
        and [one.name for one in old.expressions] == [one.name for one in desc.expressions]
    )


def nft_set_desc(tb: Attrs) -> nft_set:
    """struct nft_set_desc: a set's description in a request. Raises: NlError EINVAL, EOPNOTSUPP."""
    desc = nft_set(None, "")  # type: ignore[arg-type]  # the caller looks the table up
    desc.ktype = tb.get("NFTA_SET_KEY_TYPE", 0)
    desc.klen = tb["NFTA_SET_KEY_LEN"]
    if desc.ktype & RESERVED == RESERVED or not 0 < desc.klen <= NFT_DATA_VALUE_MAXLEN:
        raise NlError(errno.EINVAL)
    desc.flags = flags = tb.get("NFTA_SET_FLAGS", 0)
    if flags & ~FLAGS or any(flags & which == left for which, left in NOT_TOGETHER):
        raise NlError(errno.EOPNOTSUPP)
    nft_set_data_desc(desc, tb)
    objtype = tb.get("NFTA_SET_OBJ_TYPE")
    if (objtype is not None) != bool(flags & NFT_SET_OBJECT):
        raise NlError(errno.EINVAL)
    if objtype is not None:
        if not 0 < objtype <= NFT_OBJECT_MAX:
            raise NlError(errno.EOPNOTSUPP)
        desc.objtype = objtype
    times = "NFTA_SET_TIMEOUT" in tb or "NFTA_SET_GC_INTERVAL" in tb
    if times and not flags & NFT_SET_TIMEOUT:
        raise NlError(errno.EINVAL)
    desc.timeout = tb.get("NFTA_SET_TIMEOUT", 0)
    desc.gc_int = tb.get("NFTA_SET_GC_INTERVAL", 0)
    desc.policy = tb.get("NFTA_SET_POLICY", 0)
    if desc.policy > NFT_SET_POL_MEMORY:
        raise NlError(errno.EOPNOTSUPP)
    given: Attrs = tb.get("NFTA_SET_DESC", Attrs())
    desc.size = given.get("NFTA_SET_DESC_SIZE", 0)
    return desc


def nft_set_data_desc(desc: nft_set, tb: Attrs) -> None:
    """The data type of a map. Raises: NlError EINVAL."""
    dtype = tb.get("NFTA_SET_DATA_TYPE")
    if (dtype is not None) != bool(desc.flags & NFT_SET_MAP):
        raise NlError(errno.EINVAL)
    if dtype is None:
        return
    desc.dtype = dtype
    if dtype == NFT_DATA_VERDICT:
        desc.dlen = VERDICT_BYTES
        return
    desc.dlen = tb.get("NFTA_SET_DATA_LEN", 0)
    if dtype & RESERVED == RESERVED or not 0 < desc.dlen <= NFT_DATA_VALUE_MAXLEN:
        raise NlError(errno.EINVAL)


def nf_tables_set_desc_parse(ctx: nft_ctx, tb: Attrs, klen: int) -> tuple[int, ...]:
    """net/netfilter/nf_tables_api.c: the sizes of a concatenation's fields. Raises: NlError."""
    given: Attrs = tb.get("NFTA_SET_DESC", Attrs())
    sizes: list[int] = []
    if "NFTA_SET_DESC_CONCAT" in given:
        for at, end in list_of(ctx, given, "NFTA_SET_DESC_CONCAT"):
            one = NFTA_SET_FIELD.parse(ctx.whole, at + 4, end=end)
            size = one.get("NFTA_SET_FIELD_LEN", 0)
            if not size:
                raise NlError(errno.EINVAL)
            if size > MOST_FIELD_BYTES or len(sizes) == NFT_REG32_COUNT:
                raise NlError(errno.E2BIG)
            sizes.append(size)
    if sizes and klen != sum(-(-size // 4) * 4 for size in sizes):
        raise NlError(errno.EINVAL)
    if tb.get("NFTA_SET_FLAGS", 0) & NFT_SET_CONCAT and len(sizes) <= 1:
        raise NlError(errno.EINVAL)
    return tuple(sizes)


def nft_set_expressions(ctx: nft_ctx, tb: Attrs, desc: nft_set) -> list[nft_expr]:
    """net/netfilter/nf_tables_api.c nft_set_expr_alloc: expressions copied to each element."""
    one = "NFTA_SET_EXPR" in tb or "NFTA_SET_EXPRESSIONS" not in tb
    if not one and not tb.get("NFTA_SET_FLAGS", 0) & NFT_SET_EXPR:
        raise NlError(errno.EINVAL)
    return nft_set_elem_expressions(ctx, tb, "NFTA_SET", desc)


# --- deleted sets ---------------------------------------------------------------------------------


def nft_delset(ctx: nft_ctx, found: nft_set) -> None:
    """net/netfilter/nf_tables_api.c: delete a set with its elements."""
    table = ctx.table
    held = list(table.sets.items())
    elems: list[nft_set_elem] = found.elems.all()
    del table.sets[found.name]
    for elem in elems:
        elem_release(elem)

    def undo() -> None:
        table.sets.clear()
        table.sets.update(held)
        for elem in elems:
            elem_hold(elem)

    def commit() -> None:
        nf_tables_set_notify(ctx, found, DELSET)
        release(ctx, found.expressions)

    nft_trans_add(ctx, undo, commit=commit)


def nf_tables_delset(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nf_tables_api.c: NFT_MSG_DELSET, _DESTROYSET. Raises: NlError EBUSY, ENOENT."""
    if not family_of(nlh):
        raise NlError(errno.EAFNOSUPPORT)
    table = nft_table_lookup(nlh, tb, "NFTA_SET_TABLE")
    attr = "NFTA_SET_HANDLE" if "NFTA_SET_HANDLE" in tb else "NFTA_SET_NAME"
    try:
        found = set_to_delete(table, tb, attr)
    except NlError as exc:
        if exc.errno == errno.ENOENT and message_of(nlh) == DESTROYSET:
            return
        raise
    if found.bindings or (nlh.flags & NLM_F_NONREC and len(found.elems)):
        raise bad_attr(tb, attr, errno.EBUSY)
    nft_delset(nft_ctx_init(nlh, table, nla=tb), found)


def set_to_delete(table: nft_table, tb: Attrs, attr: str) -> nft_set:
    """The set by its name, or by its handle. Raises: NlError ENOENT."""
    if attr == "NFTA_SET_NAME":
        return nft_set_lookup(table, tb, attr)
    for found in table.sets.values():
        if found.handle == tb[attr]:
            return found
    raise bad_attr(tb, attr, errno.ENOENT)
