"""net/netfilter/nft_reject.c, nft_reject_inet.c: drop a packet and answer its sender."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

from stack.core.netfilter import (
    NF_DROP,
    NF_INET_FORWARD,
    NF_INET_LOCAL_IN,
    NF_INET_LOCAL_OUT,
    NF_INET_PRE_ROUTING,
    NFPROTO_IPV4,
)
from stack.netfilter.nf_reject import nf_send_reset, nf_send_unreach
from stack.netfilter.nf_tables import (
    NFPROTO_INET,
    nft_chain_validate_hooks,
    nft_ctx,
    nft_expr,
    nft_pktinfo,
    nft_register_expr,
    nft_regs,
)
from stack.netfilter.nft_expr_attrs import NFTA_REJECT
from stack.netlink.nlattr import Attrs, NlError

NFT_REJECT_ICMP_UNREACH, NFT_REJECT_TCP_RST, NFT_REJECT_ICMPX_UNREACH = 0, 1, 2
ICMPX_CODES = ((0, 0), (3, 4), (1, 3), (13, 1))
"""nft_reject_icmp_code, nft_reject_icmpv6_code: codes of both families, by NFT_REJECT_ICMPX_*."""
REJECT_HOOKS = (
    1 << NF_INET_LOCAL_IN | 1 << NF_INET_FORWARD | 1 << NF_INET_LOCAL_OUT | 1 << NF_INET_PRE_ROUTING
)


class nft_reject(nft_expr):
    """Drop the packet and answer it: with ICMP_CODE, with a reset of TCP, or with a code of both
    families (TYPE, NFT_REJECT_*). The last is for tables of the family inet.

    EINVAL: no TYPE, no such one, no code for it.
    """

    name = "reject"
    attrs = NFTA_REJECT

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        if "NFTA_REJECT_TYPE" not in tb:
            raise NlError(errno.EINVAL)
        self.inet = ctx.family == NFPROTO_INET
        self.type: int = tb["NFTA_REJECT_TYPE"]
        self.icmp_code: int | None = None
        if self.type in (NFT_REJECT_ICMP_UNREACH, NFT_REJECT_ICMPX_UNREACH):
            if "NFTA_REJECT_ICMP_CODE" not in tb:
                raise NlError(errno.EINVAL)
            self.icmp_code = tb["NFTA_REJECT_ICMP_CODE"]
            if self.type == NFT_REJECT_ICMPX_UNREACH and self.icmp_code >= len(ICMPX_CODES):
                raise NlError(errno.EINVAL)
        elif self.type != NFT_REJECT_TCP_RST:
            raise NlError(errno.EINVAL)

    def validate(self, ctx: nft_ctx) -> None:
        """net/netfilter/nft_reject.c nft_reject_validate."""
        nft_chain_validate_hooks(ctx, REJECT_HOOKS)

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_reject_inet.c nft_reject_inet_eval, and those of one family."""
        code = self.icmp_code
        if code is None:
            nf_send_reset(pkt.skb, pkt.state)
        elif self.type == NFT_REJECT_ICMP_UNREACH:
            nf_send_unreach(pkt.skb, pkt.state, code)
        elif self.inet:
            nf_send_unreach(pkt.skb, pkt.state, ICMPX_CODES[code][pkt.pf != NFPROTO_IPV4])
        regs.verdict = NF_DROP

    def dump(self, reset: bool = False) -> Mapping[str, Any]:
        """net/netfilter/nft_reject.c nft_reject_dump."""
        return {"NFTA_REJECT_TYPE": self.type, "NFTA_REJECT_ICMP_CODE": self.icmp_code}


nft_register_expr(nft_reject)
