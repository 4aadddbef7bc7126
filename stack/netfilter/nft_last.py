"""net/netfilter/nft_last.c: `last`: when a packet last matched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stack.core.time64 import NSEC_PER_MSEC
from stack.net import Net
from stack.netfilter.nf_tables import (
    nft_ctx,
    nft_expr,
    nft_pktinfo,
    nft_register_expr,
    nft_regs,
)
from stack.netfilter.nft_expr_attrs import NFTA_LAST
from stack.netlink.nlattr import Attrs


class nft_last(nft_expr):
    """Remember when a packet was here: SET, and then MSECS ago."""

    name = "last"
    attrs = NFTA_LAST
    stateful = True

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        self.net: Net = ctx.net
        self.last: int | None = None
        """A time of the clock, ns; None: there was no packet yet."""
        if tb.get("NFTA_LAST_SET") and "NFTA_LAST_MSECS" in tb:
            self.last = self.net.clock.now_ns() - tb["NFTA_LAST_MSECS"] * NSEC_PER_MSEC

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_last.c nft_last_eval."""
        self.last = self.net.clock.now_ns()

    def dump(self, reset: bool = False) -> Mapping[str, Any]:
        """net/netfilter/nft_last.c nft_last_dump."""
        ago = 0
        if self.last is not None:
            ago = (self.net.clock.now_ns() - self.last) // NSEC_PER_MSEC
        return {"NFTA_LAST_SET": int(self.last is not None), "NFTA_LAST_MSECS": ago}

    def clone(self) -> nft_expr:
        """net/netfilter/nft_last.c nft_last_clone."""
        new = object.__new__(nft_last)
        new.net, new.last = self.net, self.last
        return new


nft_register_expr(nft_last)
