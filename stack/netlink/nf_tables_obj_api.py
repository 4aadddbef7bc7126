"""net/netfilter/nf_tables_api.c: named objects: NFT_MSG_NEWOBJ, _GETOBJ, _GETOBJ_RESET, _DELOBJ."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from stack.core.uapi import NLM_F_EXCL
from stack.net import Net
from stack.netfilter.nf_tables import OBJECTS, nft_ctx, nft_object, nft_table
from stack.netfilter.nft_attrs import NFTA_OBJ
from stack.netfilter.nft_setelem import nft_table_gc
from stack.netlink.netlink_sock import NLM_F_DUMP, nlmsg
from stack.netlink.nf_tables_trans import (
    DELOBJ,
    DESTROYOBJ,
    GETOBJ_RESET,
    NEWOBJ,
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
    nothing,
)
from stack.netlink.nlattr import Attrs, NlError


def nf_tables_fill_obj_info(obj: nft_object, message: int = NEWOBJ, reset: bool = False) -> bytes:
    """net/netfilter/nf_tables_api.c: the attributes of an object."""
    told = {
        "NFTA_OBJ_TABLE": obj.table.name,
        "NFTA_OBJ_NAME": obj.name,
        "NFTA_OBJ_TYPE": obj.type,
        "NFTA_OBJ_HANDLE": obj.handle,
    }
    if message != DELOBJ:
        data = obj.dump(reset)
        told |= {
            "NFTA_OBJ_USE": obj.use,
            "NFTA_OBJ_DATA": data if isinstance(data, bytes) else obj.attrs.build(data),
            "NFTA_OBJ_USERDATA": obj.udata,
        }
    return NFTA_OBJ.build(told)


def nft_obj_notify(ctx: nft_ctx, obj: nft_object, message: int) -> None:
    """net/netfilter/nf_tables_api.c: notify that an object was added, changed or removed."""
    nft_notify(ctx, message, lambda: nf_tables_fill_obj_info(obj, message))


def nft_obj_lookup(table: nft_table, tb: Attrs, attr: str = "NFTA_OBJ_NAME") -> nft_object:
    """net/netfilter/nf_tables_api.c: by type and name or handle. Raises: NlError ENOENT."""
    for (kind, name), obj in table.objects.items():
        by_handle = attr == "NFTA_OBJ_HANDLE"
        if kind == tb["NFTA_OBJ_TYPE"] and (obj.handle if by_handle else name) == tb[attr]:
            return obj
    raise bad_attr(tb, attr, errno.ENOENT)


def nf_tables_newobj(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nf_tables_api.c: NFT_MSG_NEWOBJ: a new one, or new values of one."""
    if any(f"NFTA_OBJ_{name}" not in tb for name in ("TYPE", "NAME", "DATA")):
        raise NlError(errno.EINVAL)
    table = nft_table_lookup(nlh, tb, "NFTA_OBJ_TABLE")
    ctx = nft_ctx_init(nlh, table, nla=tb)
    number, name = tb["NFTA_OBJ_TYPE"], tb["NFTA_OBJ_NAME"]
    old = table.objects.get((number, name))
    if old is not None and nlh.flags & NLM_F_EXCL:
        raise bad_attr(tb, "NFTA_OBJ_NAME", errno.EEXIST)
    if old is not None and nlh.flags & NLM_F_REPLACE:
        raise NlError(errno.EOPNOTSUPP)
    kind = OBJECTS.get(number)
    if kind is None or (kind.families and table.family not in kind.families):
        raise NlError(errno.ENOENT)
    start, end = tb.span("NFTA_OBJ_DATA")
    data = kind.attrs.parse(nlh.whole, start, end=end)
    if old is not None:
        known = old
        undo = known.update(ctx, data) or nothing
        nft_trans_add(ctx, undo, commit=lambda: nft_obj_notify(ctx, known, NEWOBJ))
        return
    obj = kind(ctx, data)
    obj.table, obj.name, obj.handle, obj.use = table, name, table.new_handle(), 0
    obj.udata = tb.get("NFTA_OBJ_USERDATA")
    table.objects[number, name] = obj

    def gone() -> None:
        del table.objects[number, name]
        obj.destroy(ctx)

    nft_trans_add(ctx, gone, commit=lambda: nft_obj_notify(ctx, obj, NEWOBJ))


def nf_tables_getobj(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nf_tables_api.c: NFT_MSG_GETOBJ, _GETOBJ_RESET."""
    family, reset = family_of(nlh), message_of(nlh) == GETOBJ_RESET
    if nlh.flags & NLM_F_DUMP:
        nft_dump(nlh, NEWOBJ, nf_tables_dump_obj(nlh.sk.net, family, tb, reset))
        return
    if "NFTA_OBJ_NAME" not in tb or "NFTA_OBJ_TYPE" not in tb:
        raise NlError(errno.EINVAL)
    table = nft_table_lookup(nlh, tb, "NFTA_OBJ_TABLE", changes=False)
    obj = nft_obj_lookup(table, tb)
    nft_reply(nlh, NEWOBJ, family, nf_tables_fill_obj_info(obj, reset=reset))


def nf_tables_dump_obj(
    net: Net, family: int, tb: Attrs, reset: bool
) -> Iterator[tuple[int, bytes]]:
    """net/netfilter/nf_tables_api.c: each object of a family, of a table, of a type."""
    for table in nft_tables(net, family):
        if tb.get("NFTA_OBJ_TABLE") not in (None, table.name):
            continue
        for obj in list(table.objects.values()):
            if tb.get("NFTA_OBJ_TYPE", 0) in (0, obj.type):
                yield table.family, nf_tables_fill_obj_info(obj, reset=reset)


def nft_delobj(ctx: nft_ctx, obj: nft_object) -> None:
    """net/netfilter/nf_tables_api.c: delete an unused object."""
    table = ctx.table
    held = list(table.objects.items())
    del table.objects[obj.type, obj.name]

    def undo() -> None:
        table.objects.clear()
        table.objects.update(held)

    def commit() -> None:
        nft_obj_notify(ctx, obj, DELOBJ)
        obj.destroy(ctx)

    nft_trans_add(ctx, undo, commit=commit)


def nf_tables_delobj(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nf_tables_api.c: NFT_MSG_DELOBJ, _DESTROYOBJ. Raises: NlError EBUSY, ENOENT."""
    attr = "NFTA_OBJ_HANDLE" if "NFTA_OBJ_HANDLE" in tb else "NFTA_OBJ_NAME"
    if "NFTA_OBJ_TYPE" not in tb or attr not in tb:
        raise NlError(errno.EINVAL)
    table = nft_table_lookup(nlh, tb, "NFTA_OBJ_TABLE")
    try:
        obj = nft_obj_lookup(table, tb, attr)
    except NlError as exc:
        if exc.errno == errno.ENOENT and message_of(nlh) == DESTROYOBJ:
            return
        raise
    nft_table_gc(table)
    if obj.use > 0:
        raise bad_attr(tb, attr, errno.EBUSY)
    nft_delobj(nft_ctx_init(nlh, table, nla=tb), obj)
