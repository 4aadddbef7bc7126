"""net/netfilter/nft_numgen.c: `numgen`: consecutive numbers, or random ones."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from sys import byteorder
from typing import Any

from stack.netfilter.nf_tables import (
    nft_ctx,
    nft_dump_register,
    nft_expr,
    nft_parse_register_store,
    nft_pktinfo,
    nft_register_expr,
    nft_regs,
)
from stack.netfilter.nft_expr_attrs import NFTA_NG
from stack.netlink.nlattr import Attrs, NlError

NFT_NG_INCREMENTAL, NFT_NG_RANDOM = 0, 1
U32 = 0xFFFFFFFF


class nft_numgen(nft_expr):
    """Write a number from OFFSET on, below OFFSET + MODULUS, into the register DREG: the next one,
    or a random one (TYPE).

    EINVAL: an attribute is missing, no such TYPE; ERANGE: MODULUS is 0; EOVERFLOW.
    """

    name = "numgen"
    attrs = NFTA_NG

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        needed = ("NFTA_NG_DREG", "NFTA_NG_MODULUS", "NFTA_NG_TYPE")
        if any(name not in tb for name in needed):
            raise NlError(errno.EINVAL)
        self.type: int = tb["NFTA_NG_TYPE"]
        if self.type not in (NFT_NG_INCREMENTAL, NFT_NG_RANDOM):
            raise NlError(errno.EINVAL)
        self.offset: int = tb.get("NFTA_NG_OFFSET", 0)
        self.modulus: int = tb["NFTA_NG_MODULUS"]
        if not self.modulus:
            raise NlError(errno.ERANGE)
        if self.offset + self.modulus - 1 > U32:
            raise NlError(errno.EOVERFLOW)
        self.dreg = nft_parse_register_store(ctx, tb["NFTA_NG_DREG"], 4)
        self.counter = self.modulus - 1

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_numgen.c nft_ng_inc_eval, nft_ng_random_eval."""
        if self.type == NFT_NG_INCREMENTAL:
            value = self.counter = (self.counter + 1) % self.modulus
        else:
            value = pkt.state.net.random.randrange(self.modulus)
        regs.store(self.dreg, (value + self.offset).to_bytes(4, byteorder))

    def dump(self, reset: bool = False) -> Mapping[str, Any]:
        """net/netfilter/nft_numgen.c nft_ng_dump."""
        return {
            "NFTA_NG_DREG": nft_dump_register(self.dreg),
            "NFTA_NG_MODULUS": self.modulus,
            "NFTA_NG_TYPE": self.type,
            "NFTA_NG_OFFSET": self.offset,
        }


nft_register_expr(nft_numgen)
