"""net/netfilter/nf_tables_api.c: expressions in messages: of rules, of sets and of elements."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from typing import Any

from stack.netfilter.nf_tables import (
    EXPRESSIONS,
    NFT_SET_EVAL,
    NFT_SET_INTERVAL,
    NFT_SET_TIMEOUT,
    nft_ctx,
    nft_expr,
    nft_set,
)
from stack.netfilter.nft_attrs import NFTA_EXPR, NFTA_LIST
from stack.netlink.nlattr import NLA_TYPE_MASK, Attrs, NlError, nla_for_each

NLA_LIST_ELEM = 1
NFT_SET_EXPR_MAX = 2


def nft_expr_init(ctx: nft_ctx, at: int, end: int) -> nft_expr:
    """net/netfilter/nf_tables_api.c: the expression (NFTA_EXPR_*) from `at` to `end` of a message.

    Raises: NlError ENOENT: no module has it; and the errors of its `init`.
    """
    tb = NFTA_EXPR.parse(ctx.whole, at, end=end)
    if "NFTA_EXPR_NAME" not in tb:
        raise NlError(errno.EINVAL)
    kind = EXPRESSIONS.get(tb["NFTA_EXPR_NAME"])
    if kind is None or (kind.families and ctx.family not in kind.families):
        raise NlError(errno.ENOENT)
    found = Attrs()
    if "NFTA_EXPR_DATA" in tb:
        start, stop = tb.span("NFTA_EXPR_DATA")
        found = kind.attrs.parse(ctx.whole, start, end=stop)
    return kind(ctx, found)


def nft_expr_dump(expr: nft_expr, reset: bool = False) -> bytes:
    """net/netfilter/nf_tables_api.c nf_tables_fill_expr_info."""
    told = expr.dump(reset)
    data = told if told is None or isinstance(told, bytes) else expr.attrs.build(told)
    return NFTA_EXPR.build({"NFTA_EXPR_NAME": expr.name, "NFTA_EXPR_DATA": data})


def release(ctx: nft_ctx, expressions: Iterable[nft_expr]) -> None:
    """Release the references of expressions that were not added, and destroy them."""
    for expr in expressions:
        expr.deactivate(ctx)
        expr.destroy(ctx)


def nft_list(elements: list[bytes]) -> bytes:
    """A list: NFTA_LIST_ELEM for each."""
    return b"".join(NFTA_LIST.build({"NFTA_LIST_ELEM": one}) for one in elements)


def list_of(
    ctx: nft_ctx, tb: Attrs, name: str, numbered: bool = False
) -> Iterator[tuple[int, int]]:
    """Start (with header) and end of each NFTA_LIST_ELEM of an attribute.

    `numbered`: programs count them by the type. Raises: NlError EINVAL: something else is in it.
    """
    start, stop = tb.span(name)
    for kind, at, end in nla_for_each(ctx.whole, start, stop):
        if kind & NLA_TYPE_MASK != NLA_LIST_ELEM and not numbered:
            raise NlError(errno.EINVAL)
        yield at, end


# --- expressions of elements ----------------------------------------------------------------------


def collects(found: nft_set) -> bool:
    """Whether a set may have expressions with `gc`: not with times, nor of a fixed size."""
    grows = not found.size or found.flags & (NFT_SET_EVAL | NFT_SET_INTERVAL)
    return bool(grows) and not found.flags & NFT_SET_TIMEOUT


def nft_set_elem_expressions(
    ctx: nft_ctx, tb: Attrs, prefix: str, found: nft_set
) -> list[nft_expr]:
    """Those of the attribute `prefix`_EXPR, or of the list `prefix`_EXPRESSIONS; empty: neither.

    If the set has some, these must be of the same kinds.
    Raises: NlError E2BIG: too many; EOPNOTSUPP: other kinds, or one that cannot be in the set.
    """
    if f"{prefix}_EXPR" in tb:
        spans = [tb.span(f"{prefix}_EXPR")]
    elif f"{prefix}_EXPRESSIONS" in tb:
        spans = [(at + 4, end) for at, end in list_of(ctx, tb, f"{prefix}_EXPRESSIONS")]
    else:
        return []
    made: list[nft_expr] = []
    try:
        for at, end in spans:
            if len(made) == NFT_SET_EXPR_MAX:
                raise NlError(errno.E2BIG)
            made.append(nft_expr_init(ctx, at, end))
            if not made[-1].stateful or (made[-1].gc and not collects(found)):
                raise NlError(errno.EOPNOTSUPP)
        like = [expr.name for expr in found.expressions]
        if like and [expr.name for expr in made] != like:
            raise NlError(errno.EOPNOTSUPP)
    except NlError:
        release(ctx, made)
        raise
    return made


def nft_set_elem_expr_dump(
    prefix: str, expressions: list[nft_expr], reset: bool = False
) -> dict[str, Any]:
    """The attribute from which nft_set_elem_expressions reads such expressions."""
    exprs = [nft_expr_dump(expr, reset) for expr in expressions]
    if len(exprs) == 1:
        return {f"{prefix}_EXPR": exprs[0]}
    return {f"{prefix}_EXPRESSIONS": nft_list(exprs) if exprs else None}
