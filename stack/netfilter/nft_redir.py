"""net/netfilter/nft_redir.c: `redirect`: redirect the connection to this host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stack.core.netfilter import NF_ACCEPT
from stack.netfilter.nf_nat_redirect import nf_nat_redirect
from stack.netfilter.nf_tables import nft_ctx, nft_pktinfo, nft_register_expr, nft_regs
from stack.netfilter.nft_ct import nft_ct_netns_get, nft_ct_netns_put
from stack.netfilter.nft_expr_attrs import NFTA_REDIR
from stack.netfilter.nft_nat import DST_HOOKS, nft_nat_ports
from stack.netlink.nlattr import Attrs


class nft_redir(nft_nat_ports):
    """Redirect a new connection to this host: to its loopback address if it sends it, else to an
    address of the incoming interface. Ports and FLAGS are those of nft_masq.
    """

    name = "redir"
    attrs = NFTA_REDIR
    hooks = DST_HOOKS

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        self.load_ports(ctx, tb)
        nft_ct_netns_get(ctx.net, ctx.family)

    def destroy(self, ctx: nft_ctx) -> None:
        """net/netfilter/nft_redir.c nft_redir_ipv4_destroy, and the other families'."""
        nft_ct_netns_put(ctx.net, ctx.family)

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_redir.c nft_redir_eval."""
        ct = pkt.skb.nfct
        regs.verdict = (
            NF_ACCEPT
            if ct is None
            else nf_nat_redirect(pkt.skb, pkt.state, ct, self.range_of(regs))
        )

    def dump(self, reset: bool = False) -> Mapping[str, Any]:
        """net/netfilter/nft_redir.c nft_redir_dump."""
        return self.dump_ports()


nft_register_expr(nft_redir)
