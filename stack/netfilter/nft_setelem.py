"""net/netfilter/nf_tables_api.c: sets in expressions: look-up, binding; what elements use."""

from __future__ import annotations

import errno

from stack.netfilter.nf_tables import (
    NFT_SET_ANONYMOUS,
    NFT_SET_MAP,
    nft_ctx,
    nft_data_hold,
    nft_data_release,
    nft_expr,
    nft_pernet,
    nft_set,
    nft_set_elem,
    nft_table,
    nft_verdict_validate,
)
from stack.netfilter.nf_tables_expr import release
from stack.netlink.nlattr import Attrs, NlError


def elem_hold(elem: nft_set_elem) -> None:
    """nft_setelem_data_activate: an element uses its chain and its object."""
    if not elem.holds:
        elem.holds = True
        nft_data_hold(elem.data)
        if elem.obj is not None:
            elem.obj.use += 1


def elem_release(elem: nft_set_elem) -> None:
    """nft_setelem_data_deactivate: an element no longer uses its chain and object."""
    if elem.holds:
        elem.holds = False
        nft_data_release(elem.data)
        if elem.obj is not None:
            elem.obj.use -= 1


def nft_set_lookup_global(ctx: nft_ctx, tb: Attrs, name: str, number: str) -> nft_set:
    """net/netfilter/nf_tables_api.c: a set by name, or a set of this batch by its id.

    Raises: NlError ENOENT, EINVAL: there is no name.
    """
    if name not in tb:
        raise NlError(errno.EINVAL)
    found = ctx.table.sets.get(tb[name])
    if found is not None:
        return found
    for trans in nft_pernet(ctx.net).trans:
        if trans.set is not None and number in tb and trans.id == tb[number]:
            added: nft_set = trans.set
            if added.table is ctx.table:
                return added
    raise NlError(errno.ENOENT)


def nf_tables_bind_set(ctx: nft_ctx, found: nft_set) -> None:
    """net/netfilter/nf_tables_api.c: an expression uses a set. Raises: NlError EBUSY."""
    if found.bindings and found.flags & NFT_SET_ANONYMOUS:
        raise NlError(errno.EBUSY)
    found.bindings += 1


def nf_tables_activate_set(ctx: nft_ctx, found: nft_set) -> None:
    """net/netfilter/nf_tables_api.c: restore the expression and its anonymous set."""
    if found.flags & NFT_SET_ANONYMOUS:
        ctx.table.sets[found.name] = found
        for elem in found.elems.all():
            elem_hold(elem)
    found.bindings += 1


def nf_tables_deactivate_set(ctx: nft_ctx, found: nft_set) -> None:
    """net/netfilter/nf_tables_api.c: remove the expression and its anonymous set."""
    found.bindings -= 1
    if found.flags & NFT_SET_ANONYMOUS and ctx.table.sets.get(found.name) is found:
        del ctx.table.sets[found.name]
        for elem in found.elems.all():
            elem_release(elem)


class nft_set_expr(nft_expr):
    """The common part of `lookup` and `dynset`: they use a set."""

    set: nft_set

    def activate(self, ctx: nft_ctx) -> None:
        """net/netfilter/nft_lookup.c nft_lookup_activate, nft_dynset.c nft_dynset_activate."""
        nf_tables_activate_set(ctx, self.set)

    def deactivate(self, ctx: nft_ctx) -> None:
        """net/netfilter/nft_lookup.c nft_lookup_deactivate, nft_dynset.c nft_dynset_deactivate."""
        nf_tables_deactivate_set(ctx, self.set)

    def destroy(self, ctx: nft_ctx) -> None:
        """net/netfilter/nf_tables_api.c nf_tables_destroy_set: an anonymous set goes with it."""
        if self.set.flags & NFT_SET_ANONYMOUS:
            release(ctx, self.set.expressions)


def nft_table_gc(table: nft_table) -> None:
    """nft_set_gc of each set: expired elements no longer use chains and objects."""
    for found in table.sets.values():
        found.elems.collect()


def nft_set_catchall_validate(ctx: nft_ctx, found: nft_set) -> None:
    """net/netfilter/nft_lookup.c nft_lookup_validate: validate the chains of a verdict map."""
    if not found.flags & NFT_SET_MAP:
        return
    for elem in found.elems.all():
        if elem.data is not None:
            nft_verdict_validate(ctx, elem.data)
