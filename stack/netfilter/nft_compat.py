"""net/netfilter/nft_compat.c: iptables' matches and targets (x_tables.py) as expressions."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

from stack.core.netfilter import NF_DROP, NFPROTO_IPV4, NFPROTO_IPV6
from stack.netfilter.nf_tables import (
    NFPROTO_INET,
    NFT_BREAK,
    nft_ctx,
    nft_expr,
    nft_pktinfo,
    nft_register_expr,
    nft_regs,
)
from stack.netfilter.nft_expr_attrs import NFTA_MATCH, NFTA_RULE_COMPAT, NFTA_TARGET
from stack.netfilter.x_tables import (
    MATCHES,
    TARGETS,
    xt_check,
    xt_extension,
    xt_find,
    xt_hotdrop,
    xt_mtchk_param,
)
from stack.netlink.nlattr import Attrs, NlError

NFT_RULE_COMPAT_F_INV = 2
XT_STANDARD = ("", "ERROR", "standard")


def nft_parse_compat(ctx: nft_ctx) -> tuple[int, bool]:
    """net/netfilter/nft_compat.c: the protocol of the rule, and whether it is about all others.

    Raises: NlError EINVAL.
    """
    raw = None if ctx.nla is None else ctx.nla.get("NFTA_RULE_COMPAT")
    if raw is None:
        return 0, False
    tb = NFTA_RULE_COMPAT.parse(raw)
    if len(tb) < len(NFTA_RULE_COMPAT.by_name):
        raise NlError(errno.EINVAL)
    flags: int = tb["NFTA_RULE_COMPAT_FLAGS"]
    proto: int = tb["NFTA_RULE_COMPAT_PROTO"]
    if flags & ~NFT_RULE_COMPAT_F_INV or proto > 0xFFFF:
        raise NlError(errno.EINVAL)
    return proto, bool(flags & NFT_RULE_COMPAT_F_INV)


def check_param(ctx: nft_ctx) -> xt_mtchk_param:
    """nft_match_set_mtchk_param, nft_target_set_tgchk_param. Raises: NlError EINVAL."""
    proto, inv = nft_parse_compat(ctx)
    base = None if ctx.chain is None else ctx.chain.base
    hook_mask = 0 if base is None else 1 << base.hooknum
    return xt_mtchk_param(ctx.net, ctx.family, ctx.table.name, hook_mask, proto, inv)


class nft_compat(nft_expr):
    """The common part of `match` and `target`: an extension by NAME and REV, and its structure
    INFO.

    ENOENT: there is none; EINVAL: INFO has the wrong size; others are the extension's.
    """

    xt: xt_extension

    def take(self, ctx: nft_ctx, tb: Attrs, known: dict[Any, type[Any]]) -> None:
        """Find the extension and parse its structure. Raises: NlError."""
        prefix = self.attrs.name
        if len(tb) < len(self.attrs.by_name):
            raise NlError(errno.EINVAL)
        info: bytes = tb[f"{prefix}_INFO"]
        name: str = tb[f"{prefix}_NAME"]
        cls = xt_find(known, name, ctx.family, tb[f"{prefix}_REV"])
        if cls.size > len(info):
            raise NlError(errno.EINVAL)
        self.par = check_param(ctx)
        xt_check(cls, self.par, len(info) + 7 & ~7)
        self.xt = cls(self.par, info)
        told = info[: cls.usersize or cls.size]
        self.info = told + bytes((cls.size + 7 & ~7) - len(told))

    def destroy(self, ctx: nft_ctx) -> None:
        """net/netfilter/nft_compat.c nft_match_destroy, nft_target_destroy."""
        self.xt.destroy(self.par)

    def validate(self, ctx: nft_ctx) -> None:
        """net/netfilter/nft_compat.c nft_match_validate, nft_target_validate. Raises: NlError
        EINVAL, EOPNOTSUPP."""
        if ctx.family not in (NFPROTO_IPV4, NFPROTO_IPV6, NFPROTO_INET):
            raise NlError(errno.EOPNOTSUPP)
        base = None if ctx.chain is None else ctx.chain.base
        if base is None:
            return
        hooks = self.xt.hooks
        if hooks and not hooks >> base.hooknum & 1:
            raise NlError(errno.EINVAL)
        if self.xt.table == "nat" and base.type != "nat":
            raise NlError(errno.EINVAL)

    def dump(self, reset: bool = False) -> Mapping[str, Any]:
        """net/netfilter/nft_compat.c nft_match_dump, nft_target_dump."""
        prefix = self.attrs.name
        return {
            f"{prefix}_NAME": self.xt.name,
            f"{prefix}_REV": self.xt.revision,
            f"{prefix}_INFO": self.info,
        }


class nft_match(nft_compat):
    """A match of iptables: the rule ends if it does not match the packet."""

    name = "match"
    attrs = NFTA_MATCH

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        self.take(ctx, tb, MATCHES)

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_compat.c nft_match_eval."""
        try:
            if not self.xt.match(pkt):  # type: ignore[attr-defined]
                regs.verdict = NFT_BREAK
        except xt_hotdrop:
            regs.verdict = NF_DROP


class nft_target(nft_compat):
    """A target of iptables: its verdict is that of the rule; XT_CONTINUE: the rule continues.

    EINVAL: the verdicts themselves, such as `standard`, are no extensions.
    """

    name = "target"
    attrs = NFTA_TARGET

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        if tb.get("NFTA_TARGET_NAME") in XT_STANDARD:
            raise NlError(errno.EINVAL)
        self.take(ctx, tb, TARGETS)

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_compat.c nft_target_eval_xt."""
        try:
            regs.verdict = self.xt.target(pkt)  # type: ignore[attr-defined]
        except xt_hotdrop:
            regs.verdict = NF_DROP


nft_register_expr(nft_match)
nft_register_expr(nft_target)
