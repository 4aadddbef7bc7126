"""net/netfilter/nft_limit.c: `limit`, a token bucket; in a rule, in sets, or as an object.

A token is a nanosecond. A packet costs its time at the rate, times its bytes for
NFT_LIMIT_PKT_BYTES.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from copy import copy
from typing import Any

from stack.core.time64 import NSEC_PER_SEC
from stack.net import Net
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
from stack.netfilter.nft_expr_attrs import NFTA_LIMIT
from stack.netlink.nlattr import Attrs, NlError

NFT_LIMIT_PKTS, NFT_LIMIT_PKT_BYTES = 0, 1
NFT_LIMIT_F_INV = 1
NFT_LIMIT_PKT_BURST_DEFAULT = 5
NFT_OBJECT_LIMIT = 4
U64_MAX = (1 << 64) - 1


class nft_limit_priv:
    """struct nft_limit_priv, nft_limit_priv_pkts: a limit's parameters and bucket."""

    def __init__(self, net: Net, tb: Attrs) -> None:
        """net/netfilter/nft_limit.c nft_limit_init. Raises: NlError EINVAL, EOVERFLOW,
        EOPNOTSUPP."""
        self.net = net
        self.type: int = tb.get("NFTA_LIMIT_TYPE", NFT_LIMIT_PKTS)
        if self.type not in (NFT_LIMIT_PKTS, NFT_LIMIT_PKT_BYTES):
            raise NlError(errno.EOPNOTSUPP)
        if "NFTA_LIMIT_RATE" not in tb or "NFTA_LIMIT_UNIT" not in tb:
            raise NlError(errno.EINVAL)
        self.rate: int = tb["NFTA_LIMIT_RATE"]
        if not self.rate:
            raise NlError(errno.EINVAL)
        self.unit: int = tb["NFTA_LIMIT_UNIT"]
        self.nsecs = self.unit * NSEC_PER_SEC
        self.burst: int = tb.get("NFTA_LIMIT_BURST", 0)
        if self.type == NFT_LIMIT_PKTS and not self.burst:
            self.burst = NFT_LIMIT_PKT_BURST_DEFAULT
        if self.nsecs > U64_MAX or self.rate + self.burst > U64_MAX:
            raise NlError(errno.EOVERFLOW)
        if self.type == NFT_LIMIT_PKTS:
            self.tokens_max = self.nsecs // self.rate * self.burst
        else:
            self.tokens_max = self.nsecs * (self.rate + self.burst) // self.rate
        if self.tokens_max > U64_MAX:
            raise NlError(errno.EOVERFLOW)
        self.invert = bool(tb.get("NFTA_LIMIT_FLAGS", 0) & NFT_LIMIT_F_INV)
        self.tokens = self.tokens_max
        self.last = net.clock.now_ns()

    def breaks(self, size: int) -> bool:
        """net/netfilter/nft_limit.c nft_limit_eval: whether the rule ends for a packet of `size`
        bytes."""
        cost = self.nsecs * (size if self.type == NFT_LIMIT_PKT_BYTES else 1) // self.rate
        now: int = self.net.clock.now_ns()
        tokens = min(self.tokens + now - self.last, self.tokens_max)
        self.last = now
        fits: bool = tokens >= cost
        self.tokens = tokens - cost if fits else tokens
        return fits == self.invert

    def dump(self) -> Mapping[str, Any]:
        """net/netfilter/nft_limit.c nft_limit_dump."""
        return {
            "NFTA_LIMIT_RATE": self.rate,
            "NFTA_LIMIT_UNIT": self.unit,
            "NFTA_LIMIT_BURST": self.burst,
            "NFTA_LIMIT_TYPE": self.type,
            "NFTA_LIMIT_FLAGS": NFT_LIMIT_F_INV if self.invert else 0,
        }


class nft_limit(nft_expr):
    """The rule ends for what exceeds RATE packets or bytes (TYPE) in UNIT seconds, after BURST of
    them; with NFT_LIMIT_F_INV in FLAGS (`limit rate over`) for what does not.

    EINVAL: no RATE or UNIT; EOPNOTSUPP: no such TYPE; EOVERFLOW.
    """

    name = "limit"
    attrs = NFTA_LIMIT
    stateful = True

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        self.priv = nft_limit_priv(ctx.net, tb)

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_limit.c nft_limit_pkts_eval, nft_limit_bytes_eval."""
        if self.priv.breaks(pkt.skb.len):
            regs.verdict = NFT_BREAK

    def dump(self, reset: bool = False) -> Mapping[str, Any]:
        """net/netfilter/nft_limit.c nft_limit_dump."""
        return self.priv.dump()

    def clone(self) -> nft_expr:
        """net/netfilter/nft_limit.c nft_limit_clone: a full bucket."""
        new = object.__new__(nft_limit)
        new.priv = copy(self.priv)
        new.priv.tokens, new.priv.last = self.priv.tokens_max, self.priv.net.clock.now_ns()
        return new


class nft_limit_obj(nft_object):
    """A named limit, with the attributes of the expression."""

    type = NFT_OBJECT_LIMIT
    attrs = NFTA_LIMIT

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        self.priv = nft_limit_priv(ctx.net, tb)

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_limit.c nft_limit_obj_pkts_eval, nft_limit_obj_bytes_eval."""
        if self.priv.breaks(pkt.skb.len):
            regs.verdict = NFT_BREAK

    def dump(self, reset: bool = False) -> Mapping[str, Any]:
        """net/netfilter/nft_limit.c nft_limit_obj_pkts_dump, nft_limit_obj_bytes_dump."""
        return self.priv.dump()


nft_register_expr(nft_limit)
nft_register_obj(nft_limit_obj)
