"""net/netfilter/nft_quota.c: `quota`, a number of bytes; in a rule, in sets, or as an object."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

from stack.netfilter.nf_tables import (
    NFT_BREAK,
    nft_ctx,
    nft_expr,
    nft_object,
    nft_pktinfo,
    nft_register_expr,
    nft_register_obj,
    nft_regs,
)
from stack.netfilter.nft_expr_attrs import NFTA_QUOTA
from stack.netlink.nlattr import Attrs, NlError

NFT_QUOTA_F_INV, NFT_QUOTA_F_DEPLETED = 1, 2
NFT_OBJECT_QUOTA = 2
S64_MAX = (1 << 63) - 1


class nft_quota_priv:
    """struct nft_quota."""

    def __init__(self, tb: Attrs) -> None:
        """net/netfilter/nft_quota.c nft_quota_do_init. Raises: NlError EINVAL, EOVERFLOW."""
        if "NFTA_QUOTA_BYTES" not in tb:
            raise NlError(errno.EINVAL)
        self.quota: int = tb["NFTA_QUOTA_BYTES"]
        if self.quota > S64_MAX:
            raise NlError(errno.EOVERFLOW)
        self.consumed: int = tb.get("NFTA_QUOTA_CONSUMED", 0)
        self.flags: int = tb.get("NFTA_QUOTA_FLAGS", 0)
        if self.consumed > self.quota or self.flags & ~NFT_QUOTA_F_INV:
            raise NlError(errno.EINVAL)

    def breaks(self, size: int) -> bool:
        """net/netfilter/nft_quota.c nft_quota_do_eval: whether the rule ends."""
        self.consumed += size
        return (self.consumed > self.quota) != bool(self.flags & NFT_QUOTA_F_INV)

    def dump(self, reset: bool) -> Mapping[str, Any]:
        """net/netfilter/nft_quota.c nft_quota_do_dump."""
        depleted = self.consumed >= self.quota
        told = {
            "NFTA_QUOTA_BYTES": self.quota,
            "NFTA_QUOTA_CONSUMED": min(self.consumed, self.quota),
            "NFTA_QUOTA_FLAGS": self.flags | (NFT_QUOTA_F_DEPLETED if depleted else 0),
        }
        if reset:
            self.consumed = 0
        return told


class nft_quota(nft_expr):
    """The rule ends once more than BYTES have come, of which CONSUMED are the first ones; with
    NFT_QUOTA_F_INV in FLAGS (`quota over`) until then.

    EINVAL: no BYTES, another flag, more CONSUMED than BYTES; EOVERFLOW.
    """

    name = "quota"
    attrs = NFTA_QUOTA
    stateful = True

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        self.priv = nft_quota_priv(tb)

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_quota.c nft_quota_eval."""
        if self.priv.breaks(pkt.skb.len):
            regs.verdict = NFT_BREAK

    def dump(self, reset: bool = False) -> Mapping[str, Any]:
        """net/netfilter/nft_quota.c nft_quota_dump."""
        return self.priv.dump(reset)

    def clone(self) -> nft_expr:
        """net/netfilter/nft_quota.c nft_quota_clone: a copy with the consumed bytes."""
        new = object.__new__(nft_quota)
        new.priv = copy(self.priv)
        return new


class nft_quota_obj(nft_object):
    """A named quota, with the attributes of the expression."""

    type = NFT_OBJECT_QUOTA
    attrs = NFTA_QUOTA

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        self.priv = nft_quota_priv(tb)

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_quota.c nft_quota_obj_eval."""
        if self.priv.breaks(pkt.skb.len):
            regs.verdict = NFT_BREAK

    def dump(self, reset: bool = False) -> Mapping[str, Any]:
        """net/netfilter/nft_quota.c nft_quota_obj_dump."""
        return self.priv.dump(reset)

    def update(self, ctx: nft_ctx, tb: Attrs) -> Callable[[], None] | None:
        """net/netfilter/nft_quota.c nft_quota_obj_update: the consumed bytes stay."""
        priv, new = self.priv, nft_quota_priv(tb)
        quota, flags = priv.quota, priv.flags
        priv.quota, priv.flags = new.quota, new.flags

        def undo() -> None:
            priv.quota, priv.flags = quota, flags

        return undo


nft_register_expr(nft_quota)
nft_register_obj(nft_quota_obj)
