"""net/netfilter/nf_tables_api.c: elements of sets and maps.

    nf_tables_newsetelem    NFT_MSG_NEWSETELEM
        nft_add_set_elem            parse one element
            insert                  if none conflicts; else only its timeout may change
    nf_tables_delsetelem    NFT_MSG_DELSETELEM, _DESTROYSETELEM: those named, or all
    nf_tables_getsetelem    NFT_MSG_GETSETELEM, _GETSETELEM_RESET: those named, or all

An interval of one field is two elements: where it begins, and with NFT_SET_ELEM_INTERVAL_END where
it ends. Elements are in `nft_set.elems` (stack/netfilter/nft_set.py).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from stack.core.time64 import NSEC_PER_MSEC
from stack.core.uapi import NLM_F_EXCL
from stack.netfilter.nf_tables import (
    NFT_DATA_VALUE_MAXLEN,
    NFT_DATA_VERDICT,
    NFT_SET_ANONYMOUS,
    NFT_SET_CONCAT,
    NFT_SET_CONSTANT,
    NFT_SET_ELEM_CATCHALL,
    NFT_SET_ELEM_INTERVAL_END,
    NFT_SET_INTERVAL,
    NFT_SET_MAP,
    NFT_SET_OBJECT,
    NFT_SET_TIMEOUT,
    nft_ctx,
    nft_data,
    nft_data_dump,
    nft_data_init,
    nft_data_release,
    nft_expr,
    nft_set,
    nft_set_elem,
    nft_value_init,
)
from stack.netfilter.nf_tables_expr import (
    list_of,
    nft_list,
    nft_set_elem_expr_dump,
    nft_set_elem_expressions,
    release,
)
from stack.netfilter.nft_attrs import NFTA_SET_ELEM, NFTA_SET_ELEM_LIST
from stack.netfilter.nft_setelem import elem_hold, elem_release, nft_set_lookup_global
from stack.netlink.netlink_sock import NLM_F_DUMP, nlmsg
from stack.netlink.nf_tables_trans import (
    DELSETELEM,
    DESTROYSETELEM,
    GETSETELEM_RESET,
    NEWSETELEM,
    at_attr,
    family_of,
    message_of,
    nft_ctx_init,
    nft_dump,
    nft_notify,
    nft_reply,
    nft_table_lookup,
    nft_trans_add,
    nothing,
)
from stack.netlink.nlattr import Attrs, NlError

PART_BYTES = 2048
"""Maximum bytes of elements in one message of a dump."""
NOT_AT_END = (
    "DATA",
    "OBJREF",
    "TIMEOUT",
    "EXPIRATION",
    "USERDATA",
    "EXPR",
    "KEY_END",
    "EXPRESSIONS",
)
"""Attributes that an interval end element cannot have."""

# --- dumping --------------------------------------------------------------------------------------


def nf_tables_fill_setelem(ctx: nft_ctx, found: nft_set, elem: nft_set_elem, reset: bool) -> bytes:
    """net/netfilter/nf_tables_api.c: the attributes of an element."""
    timed = bool(elem.timeout)
    own = elem.timeout != found.timeout * NSEC_PER_MSEC
    catchall = elem.flags & NFT_SET_ELEM_CATCHALL
    told = {
        "NFTA_SET_ELEM_KEY": None if catchall else {"NFTA_DATA_VALUE": elem.key},
        "NFTA_SET_ELEM_KEY_END": {"NFTA_DATA_VALUE": elem.key_end} if elem.key_end else None,
        "NFTA_SET_ELEM_DATA": None if elem.data is None else nft_data_dump(elem.data),
        **nft_set_elem_expr_dump("NFTA_SET_ELEM", elem.expressions, reset),
        "NFTA_SET_ELEM_OBJREF": None if elem.obj is None else elem.obj.name,
        "NFTA_SET_ELEM_FLAGS": elem.flags or None,
    }
    if found.flags & NFT_SET_TIMEOUT and not elem.flags & NFT_SET_ELEM_INTERVAL_END:
        left = max(elem.expires - ctx.net.clock.now_ns(), 0)
        told |= {
            "NFTA_SET_ELEM_TIMEOUT": elem.timeout // NSEC_PER_MSEC if own else None,
            "NFTA_SET_ELEM_EXPIRATION": left // NSEC_PER_MSEC if timed else None,
        }
    told["NFTA_SET_ELEM_USERDATA"] = elem.udata
    return NFTA_SET_ELEM.build(told)


def elements_info(found: nft_set, elements: list[bytes]) -> bytes:
    """The attributes of a message about elements of a set."""
    return NFTA_SET_ELEM_LIST.build(
        {
            "NFTA_SET_ELEM_LIST_TABLE": found.table.name,
            "NFTA_SET_ELEM_LIST_SET": found.name,
            "NFTA_SET_ELEM_LIST_ELEMENTS": nft_list(elements),
        }
    )


def nf_tables_setelem_notify(
    ctx: nft_ctx, found: nft_set, elem: nft_set_elem, message: int
) -> None:
    """net/netfilter/nf_tables_api.c: notify that an element was added or removed."""

    def fill() -> bytes:
        return elements_info(found, [nf_tables_fill_setelem(ctx, found, elem, False)])

    nft_notify(ctx, message, fill)


def set_of(nlh: nlmsg, tb: Attrs, changes: bool) -> tuple[nft_ctx, nft_set]:
    """The set that a request names. Raises: NlError."""
    table = nft_table_lookup(nlh, tb, "NFTA_SET_ELEM_LIST_TABLE", changes)
    ctx = nft_ctx_init(nlh, table, nla=tb)
    name = "NFTA_SET_ELEM_LIST_SET"
    try:
        return ctx, nft_set_lookup_global(ctx, tb, name, "NFTA_SET_ELEM_LIST_SET_ID")
    except NlError as exc:
        raise at_attr(tb, name, exc) from None


def nf_tables_getsetelem(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nf_tables_api.c: NFT_MSG_GETSETELEM, _GETSETELEM_RESET: all, or those named."""
    dumps = bool(nlh.flags & NLM_F_DUMP)
    if not dumps and "NFTA_SET_ELEM_LIST_ELEMENTS" not in tb:
        raise NlError(errno.EINVAL)
    ctx, found = set_of(nlh, tb, changes=False)
    reset, family = message_of(nlh) == GETSETELEM_RESET, family_of(nlh)
    if dumps:
        nft_dump(nlh, NEWSETELEM, nf_tables_dump_set(ctx, found, reset))
        return
    for at, end in list_of(ctx, tb, "NFTA_SET_ELEM_LIST_ELEMENTS", numbered=True):
        try:
            asked = parse_key(ctx, found, at + 4, end)
            elem = element_of(found, asked)
        except NlError as exc:
            raise NlError(exc.errno or errno.EINVAL, at=at) from None
        info = nf_tables_fill_setelem(ctx, found, elem, reset)
        nft_reply(nlh, NEWSETELEM, family, elements_info(found, [info]))


def nf_tables_dump_set(ctx: nft_ctx, found: nft_set, reset: bool) -> Iterator[tuple[int, bytes]]:
    """net/netfilter/nf_tables_api.c: all elements, many in a message."""
    part: list[bytes] = []
    size = 0
    for elem in found.elems.all():
        info = nf_tables_fill_setelem(ctx, found, elem, reset)
        if part and size + len(info) > PART_BYTES:
            yield ctx.family, elements_info(found, part)
            part, size = [], 0
        part.append(info)
        size += len(info) + 4
    yield ctx.family, elements_info(found, part)


# --- reading requests -----------------------------------------------------------------------------


def element_of(found: nft_set, asked: nft_set_elem) -> nft_set_elem:
    """nft_setelem_get: the named element. Raises: NlError ENOENT."""
    elem: nft_set_elem | None
    if asked.flags & NFT_SET_ELEM_CATCHALL:
        elem = found.elems.catchall
    else:
        elem = found.elems.get(asked)
    if elem is None or found.elems.expired(elem):
        raise NlError(errno.ENOENT)
    return elem


def nft_setelem_parse_flags(found: nft_set, tb: Attrs) -> int:
    """net/netfilter/nf_tables_api.c. Raises: NlError EOPNOTSUPP, EINVAL."""
    flags: int = tb.get("NFTA_SET_ELEM_FLAGS", 0)
    if flags & ~(NFT_SET_ELEM_INTERVAL_END | NFT_SET_ELEM_CATCHALL):
        raise NlError(errno.EOPNOTSUPP)
    if flags & NFT_SET_ELEM_INTERVAL_END and (
        flags & NFT_SET_ELEM_CATCHALL or not found.flags & NFT_SET_INTERVAL
    ):
        raise NlError(errno.EINVAL)
    return flags


def parse_key(ctx: nft_ctx, found: nft_set, at: int, end: int) -> nft_set_elem:
    """The element that a request to get or delete names. Raises: NlError EINVAL."""
    return element_key(found, NFTA_SET_ELEM.parse(ctx.whole, at, end=end))


def element_key(found: nft_set, tb: Attrs) -> nft_set_elem:
    """Flags and keys of an element. Raises: NlError EINVAL, EOPNOTSUPP, EOVERFLOW."""
    flags = nft_setelem_parse_flags(found, tb)
    if "NFTA_SET_ELEM_KEY" not in tb and not flags & NFT_SET_ELEM_CATCHALL:
        raise NlError(errno.EINVAL)
    ranges = NFT_SET_CONCAT | NFT_SET_INTERVAL
    has_end = "NFTA_SET_ELEM_KEY_END" in tb
    if found.flags & ranges == ranges:
        if flags & NFT_SET_ELEM_INTERVAL_END or (has_end and flags & NFT_SET_ELEM_CATCHALL):
            raise NlError(errno.EINVAL)
    elif has_end:
        raise NlError(errno.EINVAL)
    elem = nft_set_elem(b"", flags=flags)
    for name, field in (("NFTA_SET_ELEM_KEY", "key"), ("NFTA_SET_ELEM_KEY_END", "key_end")):
        if name in tb:
            setattr(elem, field, nft_value_init(tb[name], found.klen, NFT_DATA_VALUE_MAXLEN))
    return elem


def check_element(found: nft_set, tb: Attrs, flags: int) -> None:
    """Check that an element has the data that its set requires. Raises: NlError EINVAL."""
    if "NFTA_SET_ELEM_KEY" in tb and flags & NFT_SET_ELEM_CATCHALL:
        raise NlError(errno.EINVAL)
    ends = flags & NFT_SET_ELEM_INTERVAL_END
    for flag, name in ((NFT_SET_MAP, "DATA"), (NFT_SET_OBJECT, "OBJREF")):
        given = f"NFTA_SET_ELEM_{name}" in tb
        if (given and not found.flags & flag) or (found.flags & flag and not given and not ends):
            raise NlError(errno.EINVAL)
    if ends and any(f"NFTA_SET_ELEM_{name}" in tb for name in NOT_AT_END):
        raise NlError(errno.EINVAL)
    timed = "NFTA_SET_ELEM_TIMEOUT" in tb or "NFTA_SET_ELEM_EXPIRATION" in tb
    if timed and not found.flags & NFT_SET_TIMEOUT:
        raise NlError(errno.EINVAL)


def set_times(ctx: nft_ctx, found: nft_set, elem: nft_set_elem, tb: Attrs) -> None:
    """The timeout of an element. Raises: NlError EOPNOTSUPP, ERANGE."""
    if not found.flags & NFT_SET_TIMEOUT or elem.flags & NFT_SET_ELEM_INTERVAL_END:
        return
    timeout = tb.get("NFTA_SET_ELEM_TIMEOUT", found.timeout)
    left = tb.get("NFTA_SET_ELEM_EXPIRATION", timeout)
    if "NFTA_SET_ELEM_EXPIRATION" in tb and not timeout:
        raise NlError(errno.EOPNOTSUPP)
    if left > timeout:
        raise NlError(errno.ERANGE)
    elem.timeout = timeout * NSEC_PER_MSEC
    elem.expires = ctx.net.clock.now_ns() + left * NSEC_PER_MSEC


def element_data(ctx: nft_ctx, found: nft_set, tb: Attrs) -> nft_data:
    """net/netfilter/nf_tables_api.c nft_setelem_parse_data. Raises: NlError EINVAL."""
    data = nft_data_init(ctx, tb["NFTA_SET_ELEM_DATA"], NFT_DATA_VALUE_MAXLEN)
    verdicts = found.dtype == NFT_DATA_VERDICT
    if verdicts != (data.value is None) or (data.value and len(data.value) != found.dlen):
        nft_data_release(data)
        raise NlError(errno.EINVAL)
    return data


def element_expressions(
    ctx: nft_ctx, found: nft_set, tb: Attrs, elem: nft_set_elem
) -> list[nft_expr]:
    """An element's expressions: copies of its own, or of the set's. Raises: NlError EOPNOTSUPP."""
    made = nft_set_elem_expressions(ctx, tb, "NFTA_SET_ELEM", found)
    ends = elem.flags & NFT_SET_ELEM_INTERVAL_END
    copies = [expr.clone() for expr in (made or ([] if ends else found.expressions))]
    release(ctx, made)
    return copies


# --- new elements ---------------------------------------------------------------------------------


def nf_tables_newsetelem(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nf_tables_api.c: NFT_MSG_NEWSETELEM."""
    if "NFTA_SET_ELEM_LIST_ELEMENTS" not in tb:
        raise NlError(errno.EINVAL)
    ctx, found = set_of(nlh, tb, changes=True)
    if found.bindings and found.flags & (NFT_SET_CONSTANT | NFT_SET_ANONYMOUS):
        raise NlError(errno.EBUSY)
    for at, end in list_of(ctx, tb, "NFTA_SET_ELEM_LIST_ELEMENTS", numbered=True):
        try:
            nft_add_set_elem(ctx, found, at + 4, end)
        except NlError as exc:
            raise NlError(exc.errno or errno.EINVAL, at=at) from None


def nft_add_set_elem(ctx: nft_ctx, found: nft_set, at: int, end: int) -> None:
    """net/netfilter/nf_tables_api.c: one new element. Raises: NlError EEXIST, ENFILE, EINVAL."""
    tb = NFTA_SET_ELEM.parse(ctx.whole, at, end=end)
    elem = element_key(found, tb)
    check_element(found, tb, elem.flags)
    set_times(ctx, found, elem, tb)
    elem.udata = tb.get("NFTA_SET_ELEM_USERDATA") or None
    elem.expressions = element_expressions(ctx, found, tb, elem)
    if "NFTA_SET_ELEM_OBJREF" in tb:
        elem.obj = ctx.table.objects.get((found.objtype, tb["NFTA_SET_ELEM_OBJREF"]))
        if elem.obj is None:
            raise NlError(errno.ENOENT)
        elem.obj.use += 1
    if "NFTA_SET_ELEM_DATA" in tb:
        elem.data = element_data(ctx, found, tb)
    try:
        insert(ctx, found, elem)
    except NlError:
        elem_release(elem)
        raise


def insert(ctx: nft_ctx, found: nft_set, elem: nft_set_elem) -> None:
    """nft_setelem_insert: insert the element, if none conflicts. Raises: NlError."""
    elems = found.elems
    elems.collect()
    catchall = bool(elem.flags & NFT_SET_ELEM_CATCHALL)
    try:
        old: nft_set_elem | None = elems.catchall if catchall else elems.same(elem)
    except NlError as exc:
        raise NlError(errno.EEXIST if exc.errno == errno.ENOTEMPTY else errno.EINVAL) from None
    if old is not None:
        if ctx.flags & NLM_F_EXCL or old.data != elem.data or old.obj is not elem.obj:
            raise NlError(errno.EEXIST)
        elem_release(elem)
        update(ctx, found, old, elem)
        return
    if catchall:
        elems.catchall = elem
    else:
        room = found.size * (2 if type_of_interval(found) else 1)
        if found.size and len(elems) >= room:
            raise NlError(errno.ENFILE)
        elems.put(elem)

    def undo() -> None:
        if elem.holds:  # else it expired, and was collected
            elem_release(elem)
            take_out(found, elem)

    nft_trans_add(ctx, undo, commit=lambda: nf_tables_setelem_notify(ctx, found, elem, NEWSETELEM))


def type_of_interval(found: nft_set) -> bool:
    """Whether two elements form one interval (nft_rbtree_ksize)."""
    return bool(found.flags & NFT_SET_INTERVAL and not found.flags & NFT_SET_CONCAT)


def update(ctx: nft_ctx, found: nft_set, old: nft_set_elem, new: nft_set_elem) -> None:
    """Update an existing element's timeout, if the request has one."""
    if not old.timeout and not new.timeout:
        return
    times = old.timeout, old.expires

    def undo() -> None:
        old.timeout, old.expires = times

    old.timeout, old.expires = new.timeout, new.expires
    nft_trans_add(ctx, undo, commit=lambda: nf_tables_setelem_notify(ctx, found, old, NEWSETELEM))


def take_out(found: nft_set, elem: nft_set_elem) -> None:
    """Remove an existing element."""
    if elem.flags & NFT_SET_ELEM_CATCHALL:
        found.elems.catchall = None
    else:
        found.elems.remove(elem)


# --- deleted elements -----------------------------------------------------------------------------


def nf_tables_delsetelem(nlh: nlmsg, tb: Attrs) -> None:
    """net/netfilter/nf_tables_api.c: NFT_MSG_DELSETELEM, _DESTROYSETELEM: those named, or all."""
    ctx, found = set_of(nlh, tb, changes=True)
    if found.bindings and found.flags & (NFT_SET_CONSTANT | NFT_SET_ANONYMOUS):
        raise NlError(errno.EBUSY)
    if "NFTA_SET_ELEM_LIST_ELEMENTS" not in tb:
        for elem in found.elems.all():
            delete(ctx, found, elem)
        return
    for at, end in list_of(ctx, tb, "NFTA_SET_ELEM_LIST_ELEMENTS", numbered=True):
        try:
            nft_del_setelem(ctx, found, at + 4, end)
        except NlError as exc:
            if exc.errno == errno.ENOENT and message_of(nlh) == DESTROYSETELEM:
                continue
            raise NlError(exc.errno or errno.EINVAL, at=at) from None


def nft_del_setelem(ctx: nft_ctx, found: nft_set, at: int, end: int) -> None:
    """net/netfilter/nf_tables_api.c: delete one. Raises: NlError ENOENT, EINVAL."""
    asked = parse_key(ctx, found, at, end)
    catchall = asked.flags & NFT_SET_ELEM_CATCHALL
    try:
        elem: nft_set_elem | None = (
            found.elems.catchall if catchall else found.elems.deactivate(asked)
        )
    except NlError:
        elem = None
    if elem is None or found.elems.expired(elem):
        raise NlError(errno.ENOENT)
    delete(ctx, found, elem)


def delete(ctx: nft_ctx, found: nft_set, elem: nft_set_elem) -> None:
    """nft_setelem_deactivate and _remove."""
    catchall = bool(elem.flags & NFT_SET_ELEM_CATCHALL)
    put_back = nothing if catchall else found.elems.undo_remove(elem)
    take_out(found, elem)
    elem_release(elem)

    def undo() -> None:
        elem_hold(elem)
        if catchall:
            found.elems.catchall = elem
        put_back()

    nft_trans_add(ctx, undo, commit=lambda: nf_tables_setelem_notify(ctx, found, elem, DELSETELEM))
