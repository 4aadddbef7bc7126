"""net/netfilter/nft_cmp.c: compare a register with a constant."""

from __future__ import annotations

import errno
import operator
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
from stack.netfilter.nft_attrs import NFTA_DATA, nested
from stack.netlink.nlattr import BE32, Attr, Attrs, AttrTable, NlError

OPS = (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge)
"""By NFT_CMP_*; bytes compare as memcmp does."""


class nft_cmp_expr(nft_expr):
    """Compare the register SREG with DATA by OP (NFT_CMP_*); the rule ends if that does not hold.

    EINVAL: an attribute is missing, DATA is no value, no such OP.
    """

    name = "cmp"
    attrs = AttrTable(
        "NFTA_CMP",
        Attr("NFTA_CMP_SREG", 1, BE32),
        Attr("NFTA_CMP_OP", 2, BE32),
        nested("NFTA_CMP_DATA", 3, NFTA_DATA),
    )

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        if any(name not in tb for name in self.attrs.by_name):
            raise NlError(errno.EINVAL)
        self.op: int = tb["NFTA_CMP_OP"]
        if self.op >= len(OPS):
            raise NlError(errno.EINVAL)
        self.value = nft_value_init(tb["NFTA_CMP_DATA"])
        self.sreg = nft_parse_register_load(ctx, tb["NFTA_CMP_SREG"], len(self.value))
        self.holds = OPS[self.op]

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_cmp.c nft_cmp_eval."""
        if not self.holds(regs.load(self.sreg, len(self.value)), self.value):
            regs.verdict = NFT_BREAK

    def dump(self, reset: bool = False) -> dict[str, Any]:
        """net/netfilter/nft_cmp.c nft_cmp_dump."""
        return {
            "NFTA_CMP_SREG": nft_dump_register(self.sreg),
            "NFTA_CMP_OP": self.op,
            "NFTA_CMP_DATA": {"NFTA_DATA_VALUE": self.value},
        }


nft_register_expr(nft_cmp_expr)
