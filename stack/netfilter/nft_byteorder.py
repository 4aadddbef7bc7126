"""net/netfilter/nft_byteorder.c: convert numbers between host and network byte order."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from sys import byteorder
from typing import Any

from stack.netfilter.nf_tables import (
    nft_ctx,
    nft_dump_register,
    nft_expr,
    nft_parse_register_load,
    nft_parse_register_store,
    nft_pktinfo,
    nft_register_expr,
    nft_regs,
)
from stack.netfilter.nft_expr_attrs import NFTA_BYTEORDER
from stack.netlink.nlattr import Attrs, NlError

NFT_BYTEORDER_NTOH, NFT_BYTEORDER_HTON = 0, 1


class nft_byteorder(nft_expr):
    """Convert the numbers of SIZE bytes that are in the LEN bytes of register SREG, and write them
    into DREG. OP is NFT_BYTEORDER_NTOH or _HTON.

    EINVAL: an attribute is missing, no such OP, a size other than 2, 4 and 8.
    """

    name = "byteorder"
    attrs = NFTA_BYTEORDER

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        if len(tb) < len(NFTA_BYTEORDER.by_name):
            raise NlError(errno.EINVAL)
        self.op: int = tb["NFTA_BYTEORDER_OP"]
        self.size: int = tb["NFTA_BYTEORDER_SIZE"]
        self.len: int = tb["NFTA_BYTEORDER_LEN"]
        if self.op not in (NFT_BYTEORDER_NTOH, NFT_BYTEORDER_HTON) or self.size not in (2, 4, 8):
            raise NlError(errno.EINVAL)
        self.sreg = nft_parse_register_load(ctx, tb["NFTA_BYTEORDER_SREG"], self.len)
        self.dreg = nft_parse_register_store(ctx, tb["NFTA_BYTEORDER_DREG"], self.len)

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_byteorder.c nft_byteorder_eval."""
        data = regs.load(self.sreg, self.len)
        if byteorder == "little":
            size = self.size
            data = b"".join(data[at : at + size][::-1] for at in range(0, self.len, size))
        regs.store(self.dreg, data)

    def dump(self, reset: bool = False) -> Mapping[str, Any]:
        """net/netfilter/nft_byteorder.c nft_byteorder_dump."""
        return {
            "NFTA_BYTEORDER_SREG": nft_dump_register(self.sreg),
            "NFTA_BYTEORDER_DREG": nft_dump_register(self.dreg),
            "NFTA_BYTEORDER_OP": self.op,
            "NFTA_BYTEORDER_LEN": self.len,
            "NFTA_BYTEORDER_SIZE": self.size,
        }


nft_register_expr(nft_byteorder)
