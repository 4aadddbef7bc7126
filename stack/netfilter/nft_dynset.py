"""net/netfilter/nft_dynset.c: rules that add elements to sets, and delete them."""

from __future__ import annotations

import errno
from typing import Any

from stack.core.time64 import NSEC_PER_MSEC
from stack.netfilter.nf_tables import (
    NFT_BREAK,
    NFT_DATA_VERDICT,
    NFT_SET_CONSTANT,
    NFT_SET_EVAL,
    NFT_SET_MAP,
    NFT_SET_OBJECT,
    NFT_SET_TIMEOUT,
    nft_ctx,
    nft_data,
    nft_dump_register,
    nft_parse_register_load,
    nft_pktinfo,
    nft_register_expr,
    nft_regs,
    nft_set_elem,
)
from stack.netfilter.nf_tables_expr import (
    nft_set_elem_expr_dump,
    nft_set_elem_expressions,
    release,
)
from stack.netfilter.nft_attrs import named, nested
from stack.netfilter.nft_lookup import nft_set_elem_update_expr
from stack.netfilter.nft_setelem import (
    elem_release,
    nf_tables_bind_set,
    nft_set_expr,
    nft_set_lookup_global,
)
from stack.netlink.nlattr import BE32, BE64, Attr, Attrs, AttrTable, NlError

NFT_DYNSET_OP_ADD, NFT_DYNSET_OP_UPDATE, NFT_DYNSET_OP_DELETE = range(3)
NFT_DYNSET_F_INV, NFT_DYNSET_F_EXPR = 1, 2
MOST_ELEMENTS = 0xFFFF
"""Of a set to which a rule adds, if the set has no size."""


class nft_dynset_expr(nft_set_expr):
    """Add, update or delete (OP) the element with the key in register SREG_KEY in the set SET_NAME
    or SET_ID. A new one has SREG_DATA, TIMEOUT, and copies of EXPR or EXPRESSIONS. The rule ends if
    the set is full; with NFT_DYNSET_F_INV if it is not.

    EINVAL: an attribute is missing; ENOENT: no such set; EBUSY: it is constant; EOPNOTSUPP: it does
    not allow OP, TIMEOUT or an expression.
    """

    name = "dynset"
    attrs = AttrTable(
        "NFTA_DYNSET",
        named("NFTA_DYNSET_SET_NAME", 1),
        Attr("NFTA_DYNSET_SET_ID", 2, BE32),
        Attr("NFTA_DYNSET_OP", 3, BE32),
        Attr("NFTA_DYNSET_SREG_KEY", 4, BE32),
        Attr("NFTA_DYNSET_SREG_DATA", 5, BE32),
        Attr("NFTA_DYNSET_TIMEOUT", 6, BE64),
        nested("NFTA_DYNSET_EXPR", 7),
        Attr("NFTA_DYNSET_FLAGS", 9, BE32),
        nested("NFTA_DYNSET_EXPRESSIONS", 10),
    )

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        if any(f"NFTA_DYNSET_{name}" not in tb for name in ("SET_NAME", "OP", "SREG_KEY")):
            raise NlError(errno.EINVAL)
        self.flags: int = tb.get("NFTA_DYNSET_FLAGS", 0)
        if self.flags & ~(NFT_DYNSET_F_INV | NFT_DYNSET_F_EXPR):
            raise NlError(errno.EOPNOTSUPP)
        self.set = nft_set_lookup_global(ctx, tb, "NFTA_DYNSET_SET_NAME", "NFTA_DYNSET_SET_ID")
        if self.set.flags & NFT_SET_OBJECT or not self.set.flags & NFT_SET_EVAL:
            raise NlError(errno.EOPNOTSUPP)
        if self.set.flags & NFT_SET_CONSTANT:
            raise NlError(errno.EBUSY)
        self.op: int = tb["NFTA_DYNSET_OP"]
        if self.op > NFT_DYNSET_OP_DELETE:
            raise NlError(errno.EOPNOTSUPP)
        times = self.set.flags & NFT_SET_TIMEOUT
        if self.op == NFT_DYNSET_OP_UPDATE and not times:
            raise NlError(errno.EOPNOTSUPP)
        self.timeout: int = tb.get("NFTA_DYNSET_TIMEOUT", 0)
        if self.timeout and not times:
            raise NlError(errno.EOPNOTSUPP)
        self.sreg_key = nft_parse_register_load(ctx, tb["NFTA_DYNSET_SREG_KEY"], self.set.klen)
        self.sreg_data = self._data_register(ctx, tb)
        several = "NFTA_DYNSET_EXPRESSIONS" in tb and "NFTA_DYNSET_EXPR" not in tb
        if several and not self.flags & NFT_DYNSET_F_EXPR:
            raise NlError(errno.EINVAL)
        self.own = nft_set_elem_expressions(ctx, tb, "NFTA_DYNSET", self.set)
        """Its own expressions; without any, elements get the set's."""
        try:
            nf_tables_bind_set(ctx, self.set)
        except NlError:
            release(ctx, self.own)
            raise
        self.set.size = self.set.size or MOST_ELEMENTS

    def _data_register(self, ctx: nft_ctx, tb: Attrs) -> int | None:
        maps = bool(self.set.flags & NFT_SET_MAP)
        if "NFTA_DYNSET_SREG_DATA" not in tb:
            if maps and self.op != NFT_DYNSET_OP_DELETE:
                raise NlError(errno.EINVAL)
            return None
        if not maps:
            raise NlError(errno.EOPNOTSUPP)
        if self.set.dtype == NFT_DATA_VERDICT:
            raise NlError(errno.EOPNOTSUPP)
        return nft_parse_register_load(ctx, tb["NFTA_DYNSET_SREG_DATA"], self.set.dlen)

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_dynset.c nft_dynset_eval."""
        key = regs.load(self.sreg_key, self.set.klen)
        elems = self.set.elems
        elem: nft_set_elem | None = elems.same(nft_set_elem(key))
        if elem is not None and (self.op == NFT_DYNSET_OP_DELETE or elems.expired(elem)):
            elem_release(elem)
            elems.remove(elem)
            elem = None
        if self.op == NFT_DYNSET_OP_DELETE:
            return
        timeout = (self.timeout or self.set.timeout) * NSEC_PER_MSEC
        if elem is None:
            elem = self._new(regs, key, timeout)
            if elem is None:
                if not self.flags & NFT_DYNSET_F_INV:
                    regs.verdict = NFT_BREAK
                return
        elif self.op == NFT_DYNSET_OP_UPDATE and elem.timeout:
            elem.expires = elems.now() + timeout
        nft_set_elem_update_expr(elem, regs, pkt)
        if self.flags & NFT_DYNSET_F_INV:
            regs.verdict = NFT_BREAK

    def _new(self, regs: nft_regs, key: bytes, timeout: int) -> nft_set_elem | None:
        """net/netfilter/nft_dynset.c nft_dynset_new; None: the set is full."""
        elems = self.set.elems
        if self.set.size and len(elems) >= self.set.size:
            elems.collect()
            if len(elems) >= self.set.size:
                return None
        elem = nft_set_elem(key, timeout=timeout, expires=elems.now() + timeout)
        if self.sreg_data is not None:
            elem.data = nft_data(regs.load(self.sreg_data, self.set.dlen))
        elem.expressions = [expr.clone() for expr in self.own or self.set.expressions]
        elems.put(elem)
        return elem

    def dump(self, reset: bool = False) -> dict[str, Any]:
        """net/netfilter/nft_dynset.c nft_dynset_dump."""
        told = [] if self.set.expressions else self.own
        data_reg = self.sreg_data
        return {
            "NFTA_DYNSET_SREG_KEY": nft_dump_register(self.sreg_key),
            "NFTA_DYNSET_SREG_DATA": None if data_reg is None else nft_dump_register(data_reg),
            "NFTA_DYNSET_OP": self.op,
            "NFTA_DYNSET_SET_NAME": self.set.name,
            "NFTA_DYNSET_TIMEOUT": self.timeout,
            **nft_set_elem_expr_dump("NFTA_DYNSET", told, reset),
            "NFTA_DYNSET_FLAGS": self.flags & NFT_DYNSET_F_INV,
        }

    def destroy(self, ctx: nft_ctx) -> None:
        """net/netfilter/nft_dynset.c nft_dynset_destroy."""
        release(ctx, self.own)
        super().destroy(ctx)


nft_register_expr(nft_dynset_expr)
