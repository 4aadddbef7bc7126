"""net/netfilter/nft_objref.c: a rule uses a named object, or the one that a map has for a key."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

from stack.netfilter.nf_tables import (
    NFT_BREAK,
    NFT_SET_OBJECT,
    nft_ctx,
    nft_dump_register,
    nft_expr,
    nft_object,
    nft_parse_register_load,
    nft_pktinfo,
    nft_register_expr,
    nft_regs,
    nft_set,
    nft_set_elem,
)
from stack.netfilter.nft_expr_attrs import NFTA_OBJREF
from stack.netfilter.nft_setelem import (
    nf_tables_activate_set,
    nf_tables_bind_set,
    nf_tables_deactivate_set,
    nft_set_lookup_global,
)
from stack.netlink.nlattr import Attrs, NlError


class nft_objref(nft_expr):
    """Evaluate a named object: IMM_NAME of IMM_TYPE, or the one that the map SET_NAME or SET_ID has
    for the key in register SET_SREG. The rule ends if the map has none.

    ENOENT: no such object or set; EINVAL: the set has no objects; EOPNOTSUPP: neither is named.
    """

    name = "objref"
    attrs = NFTA_OBJREF

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        self.obj: nft_object | None = None
        self.set: nft_set | None = None
        self.sreg = 0
        named_set = "NFTA_OBJREF_SET_NAME" in tb or "NFTA_OBJREF_SET_ID" in tb
        if "NFTA_OBJREF_SET_SREG" in tb and named_set:
            found = nft_set_lookup_global(ctx, tb, "NFTA_OBJREF_SET_NAME", "NFTA_OBJREF_SET_ID")
            if not found.flags & NFT_SET_OBJECT:
                raise NlError(errno.EINVAL)
            self.sreg = nft_parse_register_load(ctx, tb["NFTA_OBJREF_SET_SREG"], found.klen)
            nf_tables_bind_set(ctx, found)
            self.set = found
        elif "NFTA_OBJREF_IMM_NAME" in tb and "NFTA_OBJREF_IMM_TYPE" in tb:
            key = tb["NFTA_OBJREF_IMM_TYPE"], tb["NFTA_OBJREF_IMM_NAME"]
            self.obj = ctx.table.objects.get(key)
            if self.obj is None:
                raise NlError(errno.ENOENT)
            self.obj.use += 1
        else:
            raise NlError(errno.EOPNOTSUPP)

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_objref.c nft_objref_eval, nft_objref_map_eval."""
        obj = self.obj
        if self.set is not None:
            key = regs.load(self.sreg, self.set.klen)
            elem: nft_set_elem | None = self.set.elems.lookup(key)
            obj = None if elem is None else elem.obj
        if obj is None:
            regs.verdict = NFT_BREAK
        else:
            obj.eval(regs, pkt)

    def dump(self, reset: bool = False) -> Mapping[str, Any]:
        """net/netfilter/nft_objref.c nft_objref_dump, nft_objref_map_dump."""
        if self.set is not None:
            return {
                "NFTA_OBJREF_SET_SREG": nft_dump_register(self.sreg),
                "NFTA_OBJREF_SET_NAME": self.set.name,
            }
        assert self.obj is not None
        return {"NFTA_OBJREF_IMM_NAME": self.obj.name, "NFTA_OBJREF_IMM_TYPE": self.obj.type}

    def activate(self, ctx: nft_ctx) -> None:
        """net/netfilter/nft_objref.c nft_objref_activate, nft_objref_map_activate."""
        if self.set is not None:
            nf_tables_activate_set(ctx, self.set)
        elif self.obj is not None:
            self.obj.use += 1

    def deactivate(self, ctx: nft_ctx) -> None:
        """net/netfilter/nft_objref.c nft_objref_deactivate, nft_objref_map_deactivate."""
        if self.set is not None:
            nf_tables_deactivate_set(ctx, self.set)
        elif self.obj is not None:
            self.obj.use -= 1


nft_register_expr(nft_objref)
