"""net/netfilter/nft_masq.c: `masquerade`: connections get an address of the outgoing interface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stack.core.netfilter import NF_ACCEPT, NF_INET_POST_ROUTING
from stack.netfilter.nf_nat_masquerade import (
    nf_nat_masquerade,
    nf_nat_masquerade_inet_register_notifiers,
    nf_nat_masquerade_inet_unregister_notifiers,
)
from stack.netfilter.nf_tables import nft_ctx, nft_pktinfo, nft_register_expr, nft_regs
from stack.netfilter.nft_ct import nft_ct_netns_get, nft_ct_netns_put
from stack.netfilter.nft_expr_attrs import NFTA_MASQ
from stack.netfilter.nft_nat import nft_nat_ports
from stack.netlink.nlattr import Attrs


class nft_masq(nft_nat_ports):
    """Give a new connection an address of the outgoing interface as source, with a port from the
    registers REG_PROTO_MIN to _MAX if they are given, and FLAGS (NF_NAT_RANGE_*).
    """

    name = "masq"
    attrs = NFTA_MASQ
    hooks = 1 << NF_INET_POST_ROUTING

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        self.load_ports(ctx, tb)
        nft_ct_netns_get(ctx.net, ctx.family)
        nf_nat_masquerade_inet_register_notifiers(ctx.net)

    def destroy(self, ctx: nft_ctx) -> None:
        """net/netfilter/nft_masq.c nft_masq_ipv4_destroy, and the other families'."""
        nft_ct_netns_put(ctx.net, ctx.family)
        nf_nat_masquerade_inet_unregister_notifiers(ctx.net)

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_masq.c nft_masq_eval."""
        ct = pkt.skb.nfct
        regs.verdict = (
            NF_ACCEPT
            if ct is None
            else nf_nat_masquerade(pkt.skb, pkt.state, ct, self.range_of(regs))
        )

    def dump(self, reset: bool = False) -> Mapping[str, Any]:
        """net/netfilter/nft_masq.c nft_masq_dump."""
        told = self.dump_ports()
        return {"NFTA_MASQ_FLAGS": told.pop("NFTA_MASQ_FLAGS"), **told}


nft_register_expr(nft_masq)
