"""net/netfilter/nft_counter.c: count packets and bytes, in a rule or as a named object."""

from __future__ import annotations

from stack.netfilter.nf_tables import (
    nft_ctx,
    nft_expr,
    nft_object,
    nft_pktinfo,
    nft_register_expr,
    nft_register_obj,
    nft_regs,
)
from stack.netfilter.nft_attrs import NFTA_COUNTER
from stack.netlink.nlattr import Attrs

NFT_OBJECT_COUNTER = 1
U64 = (1 << 64) - 1


class nft_counter:
    """struct nft_counter: the common part of the expression and the object."""

    def __init__(self, packets: int = 0, size: int = 0) -> None:
        self.packets = packets
        self.bytes = size

    def count(self, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_counter.c nft_counter_do_eval."""
        self.packets += 1
        self.bytes += pkt.skb.len

    def told(self, reset: bool) -> dict[str, int]:
        """net/netfilter/nft_counter.c nft_counter_do_dump: `reset`: restart at 0."""
        told = {
            "NFTA_COUNTER_BYTES": self.bytes & U64,
            "NFTA_COUNTER_PACKETS": self.packets & U64,
        }
        if reset:
            self.packets = self.bytes = 0
        return told


def counter_of(tb: Attrs) -> nft_counter:
    """net/netfilter/nft_counter.c nft_counter_do_init: with the initial values."""
    return nft_counter(tb.get("NFTA_COUNTER_PACKETS", 0), tb.get("NFTA_COUNTER_BYTES", 0))


class nft_counter_expr(nft_expr):
    """Count the packets that reach it, and their bytes. PACKETS and BYTES are the initial
    values.
    """

    name = "counter"
    attrs = NFTA_COUNTER
    stateful = True

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        self.counter = counter_of(tb)

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_counter.c nft_counter_eval."""
        self.counter.count(pkt)

    def dump(self, reset: bool = False) -> dict[str, int]:
        """net/netfilter/nft_counter.c nft_counter_dump."""
        return self.counter.told(reset)

    def clone(self) -> nft_counter_expr:
        """net/netfilter/nft_counter.c nft_counter_clone: a copy with the current values."""
        new = nft_counter_expr.__new__(nft_counter_expr)
        new.counter = nft_counter(self.counter.packets, self.counter.bytes)
        return new


class nft_counter_obj(nft_object):
    """A named counter, with the attributes of nft_counter_expr."""

    type = NFT_OBJECT_COUNTER
    attrs = NFTA_COUNTER

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        self.counter = counter_of(tb)

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_counter.c nft_counter_obj_eval."""
        self.counter.count(pkt)

    def dump(self, reset: bool = False) -> dict[str, int]:
        """net/netfilter/nft_counter.c nft_counter_obj_dump."""
        return self.counter.told(reset)


nft_register_expr(nft_counter_expr)
nft_register_obj(nft_counter_obj)
