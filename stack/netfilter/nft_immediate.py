"""net/netfilter/nft_immediate.c: a constant, or a verdict."""

from __future__ import annotations

import errno
from typing import Any

from stack.netfilter.nf_tables import (
    NFT_CHAIN_BINDING,
    NFT_REG_VERDICT,
    nft_chain,
    nft_ctx,
    nft_data_dump,
    nft_data_hold,
    nft_data_init,
    nft_data_release,
    nft_dump_register,
    nft_expr,
    nft_parse_register_store,
    nft_pktinfo,
    nft_register_expr,
    nft_regs,
    nft_verdict_validate,
)
from stack.netfilter.nft_attrs import NFTA_DATA, nested
from stack.netlink.nlattr import BE32, Attr, Attrs, AttrTable, NlError

NFT_DATA_VERDICT_BYTES = 16
"""struct nft_verdict."""


class nft_immediate_expr(nft_expr):
    """Write DATA into the register DREG: bytes, or a verdict, which ends the rule.

    EINVAL: one is missing, or they do not fit; EBUSY: DATA's chain belongs to another rule.
    """

    name = "immediate"
    attrs = AttrTable(
        "NFTA_IMMEDIATE",
        Attr("NFTA_IMMEDIATE_DREG", 1, BE32),
        nested("NFTA_IMMEDIATE_DATA", 2, NFTA_DATA),
    )

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        if "NFTA_IMMEDIATE_DREG" not in tb or "NFTA_IMMEDIATE_DATA" not in tb:
            raise NlError(errno.EINVAL)
        self.data = nft_data_init(ctx, tb["NFTA_IMMEDIATE_DATA"])
        value = self.data.value
        length = NFT_DATA_VERDICT_BYTES if value is None else len(value)
        try:
            dreg: int = tb["NFTA_IMMEDIATE_DREG"]
            self.dreg = nft_parse_register_store(ctx, dreg, length, self.data.type)
            self._bind()
        except NlError:
            nft_data_release(self.data)
            raise

    def _bind(self) -> None:
        """net/netfilter/nf_tables_api.c nf_tables_bind_chain. Raises: NlError EBUSY."""
        chain = self._own_chain()
        if chain is not None:
            if chain.bound:
                raise NlError(errno.EBUSY)
            chain.bound = True

    def _own_chain(self) -> nft_chain | None:
        """The anonymous chain that belongs to this rule, if any."""
        chain = self.data.chain
        return chain if chain is not None and chain.flags & NFT_CHAIN_BINDING else None

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_immediate.c nft_immediate_eval."""
        value = self.data.value
        if value is None:
            regs.verdict, regs.chain = self.data.code, self.data.chain
        else:
            regs.store(self.dreg, value)

    def dump(self, reset: bool = False) -> dict[str, Any]:
        """net/netfilter/nft_immediate.c nft_immediate_dump."""
        return {
            "NFTA_IMMEDIATE_DREG": nft_dump_register(self.dreg),
            "NFTA_IMMEDIATE_DATA": nft_data_dump(self.data),
        }

    def validate(self, ctx: nft_ctx) -> None:
        """net/netfilter/nft_immediate.c nft_immediate_validate."""
        if self.dreg == NFT_REG_VERDICT:
            nft_verdict_validate(ctx, self.data)

    def activate(self, ctx: nft_ctx) -> None:
        """net/netfilter/nft_immediate.c nft_immediate_activate: with the rules of its own chain."""
        nft_data_hold(self.data)
        chain = self._own_chain()
        if chain is not None:
            ctx.table.chains[chain.name] = chain
            for rule in chain.rules:
                for expr in rule.expressions:
                    expr.activate(ctx)

    def deactivate(self, ctx: nft_ctx) -> None:
        """net/netfilter/nft_immediate.c nft_immediate_deactivate: delete its own chain too."""
        nft_data_release(self.data)
        chain = self._own_chain()
        if chain is not None:
            del ctx.table.chains[chain.name]
            for rule in chain.rules:
                for expr in rule.expressions:
                    expr.deactivate(ctx)

    def destroy(self, ctx: nft_ctx) -> None:
        """net/netfilter/nft_immediate.c nft_immediate_destroy."""
        chain = self._own_chain()
        for rule in chain.rules if chain is not None else ():
            for expr in rule.expressions:
                expr.destroy(ctx)


nft_register_expr(nft_immediate_expr)
