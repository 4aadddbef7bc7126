"""net/netfilter/nft_connlimit.c: `ct count`, the number of active connections that matched."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

from stack.core.netfilter import NF_DROP
from stack.netfilter.nf_conncount import nf_conncount_list
from stack.netfilter.nf_conntrack import nf_conn
from stack.netfilter.nf_conntrack_tuple import nf_ct_get_tuplepr
from stack.netfilter.nf_tables import (
    NFT_BREAK,
    nft_ctx,
    nft_expr,
    nft_pktinfo,
    nft_register_expr,
    nft_regs,
)
from stack.netfilter.nft_ct import nft_ct_netns_get, nft_ct_netns_put
from stack.netfilter.nft_expr_attrs import NFTA_CONNLIMIT
from stack.netlink.nlattr import Attrs, NlError

NFT_CONNLIMIT_F_INV = 1


class nft_connlimit(nft_expr):
    """The rule ends if more than COUNT connections that met it are active; with NFT_CONNLIMIT_F_INV
    in FLAGS if not more are.

    EINVAL: no COUNT; EOPNOTSUPP: another flag.
    """

    name = "connlimit"
    attrs = NFTA_CONNLIMIT
    stateful = gc = True

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        if "NFTA_CONNLIMIT_COUNT" not in tb:
            raise NlError(errno.EINVAL)
        self.limit: int = tb["NFTA_CONNLIMIT_COUNT"]
        flags: int = tb.get("NFTA_CONNLIMIT_FLAGS", 0)
        if flags & ~NFT_CONNLIMIT_F_INV:
            raise NlError(errno.EOPNOTSUPP)
        self.invert = bool(flags)
        self.list = nf_conncount_list()
        nft_ct_netns_get(ctx.net, ctx.family)

    def destroy(self, ctx: nft_ctx) -> None:
        """net/netfilter/nft_connlimit.c nft_connlimit_destroy."""
        nft_ct_netns_put(ctx.net, ctx.family)

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_connlimit.c nft_connlimit_do_eval."""
        ct: nf_conn | None = pkt.skb.nfct
        if ct is None and nf_ct_get_tuplepr(pkt.skb, 0, pkt.pf) is None:
            regs.verdict = NF_DROP
        elif (self.list.add(ct) > self.limit) != self.invert:
            regs.verdict = NFT_BREAK

    def dump(self, reset: bool = False) -> Mapping[str, Any]:
        """net/netfilter/nft_connlimit.c nft_connlimit_do_dump."""
        return {
            "NFTA_CONNLIMIT_COUNT": self.limit,
            "NFTA_CONNLIMIT_FLAGS": int(self.invert),
        }

    def clone(self) -> nft_expr:
        """net/netfilter/nft_connlimit.c nft_connlimit_clone."""
        new = object.__new__(nft_connlimit)
        new.limit, new.invert, new.list = self.limit, self.invert, nf_conncount_list()
        return new


nft_register_expr(nft_connlimit)
