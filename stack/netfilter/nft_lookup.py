"""net/netfilter/nft_lookup.c: look up a register in a set, and read a map's data."""

from __future__ import annotations

import errno
from typing import Any

from stack.netfilter.nf_tables import (
    NFT_BREAK,
    NFT_DATA_VALUE,
    NFT_DATA_VERDICT,
    NFT_SET_MAP,
    nft_ctx,
    nft_dump_register,
    nft_parse_register_load,
    nft_parse_register_store,
    nft_pktinfo,
    nft_register_expr,
    nft_regs,
    nft_set_elem,
)
from stack.netfilter.nft_attrs import named
from stack.netfilter.nft_setelem import (
    nf_tables_bind_set,
    nft_set_catchall_validate,
    nft_set_expr,
    nft_set_lookup_global,
)
from stack.netlink.nlattr import BE32, Attr, Attrs, AttrTable, NlError

NFT_LOOKUP_F_INV = 1


def nft_set_elem_update_expr(elem: nft_set_elem, regs: nft_regs, pkt: nft_pktinfo) -> None:
    """include/net/netfilter/nf_tables.h: evaluate the expressions of a matching element."""
    for expr in elem.expressions:
        expr.eval(regs, pkt)
        if regs.verdict == NFT_BREAK:
            return


class nft_lookup_expr(nft_set_expr):
    """Look up the register SREG in the set SET (by name) or SET_ID; the rule ends without an
    element, with NFT_LOOKUP_F_INV in FLAGS with one. DREG gets the data of a map's element.

    EINVAL: an attribute is missing, DREG for no map, or none for a map; ENOENT: no such set.
    """

    name = "lookup"
    attrs = AttrTable(
        "NFTA_LOOKUP",
        named("NFTA_LOOKUP_SET", 1),
        Attr("NFTA_LOOKUP_SREG", 2, BE32),
        Attr("NFTA_LOOKUP_DREG", 3, BE32),
        Attr("NFTA_LOOKUP_SET_ID", 4, BE32),
        Attr("NFTA_LOOKUP_FLAGS", 5, BE32),
    )

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        if "NFTA_LOOKUP_SET" not in tb or "NFTA_LOOKUP_SREG" not in tb:
            raise NlError(errno.EINVAL)
        self.set = nft_set_lookup_global(ctx, tb, "NFTA_LOOKUP_SET", "NFTA_LOOKUP_SET_ID")
        self.sreg = nft_parse_register_load(ctx, tb["NFTA_LOOKUP_SREG"], self.set.klen)
        self.flags: int = tb.get("NFTA_LOOKUP_FLAGS", 0)
        if self.flags & ~NFT_LOOKUP_F_INV:
            raise NlError(errno.EINVAL)
        self.dreg: int | None = None
        if "NFTA_LOOKUP_DREG" in tb:
            if self.flags or not self.set.flags & NFT_SET_MAP:
                raise NlError(errno.EINVAL)
            verdict = self.set.dtype == NFT_DATA_VERDICT
            kind = NFT_DATA_VERDICT if verdict else NFT_DATA_VALUE
            dreg: int = tb["NFTA_LOOKUP_DREG"]
            self.dreg = nft_parse_register_store(ctx, dreg, self.set.dlen, kind)
        elif self.set.flags & NFT_SET_MAP:
            raise NlError(errno.EINVAL)
        nf_tables_bind_set(ctx, self.set)

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_lookup.c nft_lookup_eval."""
        elem: nft_set_elem | None = self.set.elems.lookup(regs.load(self.sreg, self.set.klen))
        if (elem is None) != bool(self.flags):
            regs.verdict = NFT_BREAK
            return
        if elem is None:
            return
        if self.dreg is not None and elem.data is not None:
            value = elem.data.value
            if value is None:
                regs.verdict, regs.chain = elem.data.code, elem.data.chain
            else:
                regs.store(self.dreg, value)
        nft_set_elem_update_expr(elem, regs, pkt)

    def dump(self, reset: bool = False) -> dict[str, Any]:
        """net/netfilter/nft_lookup.c nft_lookup_dump."""
        return {
            "NFTA_LOOKUP_SET": self.set.name,
            "NFTA_LOOKUP_SREG": nft_dump_register(self.sreg),
            "NFTA_LOOKUP_DREG": None if self.dreg is None else nft_dump_register(self.dreg),
            "NFTA_LOOKUP_FLAGS": self.flags,
        }

    def validate(self, ctx: nft_ctx) -> None:
        """net/netfilter/nft_lookup.c nft_lookup_validate."""
        nft_set_catchall_validate(ctx, self.set)


nft_register_expr(nft_lookup_expr)
