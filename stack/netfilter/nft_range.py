"""net/netfilter/nft_range.c: whether a register is between two values, compared byte by byte."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

from stack.netfilter.nf_tables import (
    NFT_BREAK,
    nft_attr_data,
    nft_ctx,
    nft_data_dump,
    nft_data_release,
    nft_dump_register,
    nft_expr,
    nft_parse_register_load,
    nft_pktinfo,
    nft_register_expr,
    nft_regs,
)
from stack.netfilter.nft_expr_attrs import NFTA_RANGE
from stack.netlink.nlattr import Attrs, NlError

NFT_RANGE_EQ, NFT_RANGE_NEQ = 0, 1


class nft_range_expr(nft_expr):
    """Continues between `data_from` and `data_to`, inclusive; NFT_RANGE_NEQ: outside."""

    name = "range"
    attrs = NFTA_RANGE

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        if len(tb) < len(NFTA_RANGE.by_name):
            raise NlError(errno.EINVAL)
        self.data_from = nft_attr_data(ctx, tb, "NFTA_RANGE_FROM_DATA")
        self.data_to = nft_attr_data(ctx, tb, "NFTA_RANGE_TO_DATA")
        low, high = self.data_from.value, self.data_to.value
        if low is None or high is None or len(low) != len(high):
            nft_data_release(self.data_from)
            nft_data_release(self.data_to)
            raise NlError(errno.EINVAL)
        self.low, self.high = low, high
        self.sreg = nft_parse_register_load(ctx, tb["NFTA_RANGE_SREG"], len(low))
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
            "NFTA_RANGE_FROM_DATA": nft_data_dump(self.data_from),
            "NFTA_RANGE_TO_DATA": nft_data_dump(self.data_to),
        }


nft_register_expr(nft_range_expr)
