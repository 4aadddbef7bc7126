"""net/netfilter/nft_range.c: whether a register is between two values, compared byte by byte."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

from stack.netfilter.nf_tables import (
    NFT_BREAK,
    nft_ctx,
    nft_dump_register,
    nft_expr,
    nft_parse_register_load,
    nft_pktinfo,
    nft_register_expr,
    nft_regs,
    nft_value_init,
)
from stack.netfilter.nft_expr_attrs import NFTA_RANGE
from stack.netlink.nlattr import Attrs, NlError

NFT_RANGE_EQ, NFT_RANGE_NEQ = 0, 1


class nft_range_expr(nft_expr):
    """The rule ends if the register SREG is not in FROM_DATA to TO_DATA, both included. With OP
    NFT_RANGE_NEQ it ends if it is.

    EINVAL: an attribute is missing, values of two lengths, no such OP.
    """

    name = "range"
    attrs = NFTA_RANGE

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        if len(tb) < len(NFTA_RANGE.by_name):
            raise NlError(errno.EINVAL)
        self.low = nft_value_init(tb["NFTA_RANGE_FROM_DATA"])
        self.high = nft_value_init(tb["NFTA_RANGE_TO_DATA"])
        if len(self.low) != len(self.high):
            raise NlError(errno.EINVAL)
        self.sreg = nft_parse_register_load(ctx, tb["NFTA_RANGE_SREG"], len(self.low))
        self.op: int = tb["NFTA_RANGE_OP"]
        if self.op not in (NFT_RANGE_EQ, NFT_RANGE_NEQ):
            raise NlError(errno.EINVAL)

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_range.c nft_range_eval."""
        inside = self.low <= regs.load(self.sreg, len(self.low)) <= self.high
        if inside == (self.op == NFT_RANGE_NEQ):
            regs.verdict = NFT_BREAK

    def dump(self, reset: bool = False) -> Mapping[str, Any]:
        """net/netfilter/nft_range.c nft_range_dump."""
        return {
            "NFTA_RANGE_SREG": nft_dump_register(self.sreg),
            "NFTA_RANGE_OP": self.op,
            "NFTA_RANGE_FROM_DATA": {"NFTA_DATA_VALUE": self.low},
            "NFTA_RANGE_TO_DATA": {"NFTA_DATA_VALUE": self.high},
        }


nft_register_expr(nft_range_expr)
