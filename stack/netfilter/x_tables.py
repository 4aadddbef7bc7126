"""net/netfilter/x_tables.c: matches and targets of iptables (extensions), by name, family
and revision.

    xt_match, xt_target         base classes of the modules xt_*.py
        __init__                `checkentry`: read the structure that iptables sends
        match, target           evaluate a packet
    xt_register_match, _target  register them

Rules use them by the expressions `match` and `target`: stack/netfilter/nft_compat.py. An extension
has the size of its structure (`size`), and of the part that programs can read
(`usersize`); the rest is internal and reads as zeros.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from stack.core.netfilter import NFPROTO_IPV4, NFPROTO_IPV6
from stack.net import Net
from stack.netfilter.nf_tables import NFT_CONTINUE, nft_pktinfo
from stack.netlink.nlattr import NlError

NFPROTO_UNSPEC = 0
XT_CONTINUE = NFT_CONTINUE
BOTH = (NFPROTO_IPV4, NFPROTO_IPV6)
ANY = (NFPROTO_UNSPEC,)


@dataclass(slots=True)
class xt_mtchk_param:
    """struct xt_mtchk_param, xt_tgchk_param: the context of an extension."""

    net: Net
    family: int
    table: str
    hook_mask: int
    """The hook point of a base chain, a bit; 0 for other chains."""
    proto: int
    """The protocol of the rule, 0: any."""
    inv_proto: bool
    """The rule matches all other protocols."""


class xt_hotdrop(Exception):
    """A match found a malformed packet, which is dropped."""


class xt_extension:
    """The base class of matches and targets: struct xt_match, xt_target."""

    name: ClassVar[str]
    revision: ClassVar[int] = 0
    families: ClassVar[tuple[int, ...]] = ANY
    size: ClassVar[int]
    usersize: ClassVar[int] = 0
    """0: all of `size`."""
    table: ClassVar[str] = ""
    """The table in which it is allowed; "": any."""
    hooks: ClassVar[int] = 0
    """The hook points at which it is allowed, bits; 0: all."""
    proto: ClassVar[int] = 0
    """The protocol of the rules in which it is allowed; 0: any."""

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        """`checkentry`. Raises: NlError: the structure is invalid."""

    def destroy(self, par: xt_mtchk_param) -> None:
        """The rule was deleted."""


class xt_match(xt_extension):
    """struct xt_match."""

    def match(self, pkt: nft_pktinfo) -> bool:
        """Whether the packet matches. Raises: xt_hotdrop."""
        raise NotImplementedError


class xt_target(xt_extension):
    """struct xt_target."""

    def target(self, pkt: nft_pktinfo) -> int:
        """Process the packet: a verdict; XT_CONTINUE: continue with the next rule."""
        raise NotImplementedError


Key = tuple[str, int, int]
MATCHES: dict[Key, type[xt_match]] = {}
TARGETS: dict[Key, type[xt_target]] = {}
"""By name, family and revision."""
Ext = TypeVar("Ext", bound=xt_extension)


def xt_register_match(*classes: type[xt_match]) -> None:
    """net/netfilter/x_tables.c xt_register_matches."""
    for cls in classes:
        for family in cls.families:
            MATCHES[cls.name, family, cls.revision] = cls


def xt_register_target(*classes: type[xt_target]) -> None:
    """net/netfilter/x_tables.c xt_register_targets."""
    for cls in classes:
        for family in cls.families:
            TARGETS[cls.name, family, cls.revision] = cls


def xt_find(known: dict[Key, type[Ext]], name: str, family: int, revision: int) -> type[Ext]:
    """net/netfilter/x_tables.c xt_find_match, xt_find_target. Raises: NlError ENOENT."""
    for one in (family, NFPROTO_UNSPEC):
        found = known.get((name, one, revision))
        if found is not None:
            return found
    raise NlError(errno.ENOENT)


def xt_find_revision(known: dict[Key, type[Ext]], name: str, family: int, revision: int) -> int:
    """net/netfilter/x_tables.c: the best revision of an extension.

    Raises: NlError ENOENT: it has none; EPROTONOSUPPORT: not this one.
    """
    has = [rev for one, pf, rev in known if one == name and pf in (family, NFPROTO_UNSPEC)]
    if not has:
        raise NlError(errno.ENOENT)
    if revision not in has:
        raise NlError(errno.EPROTONOSUPPORT)
    return max(has)


def xt_check(cls: type[xt_extension], par: xt_mtchk_param, size: int) -> None:
    """net/netfilter/x_tables.c xt_check_match, xt_check_target: check table, hooks and protocol.

    Raises: NlError EINVAL.
    """
    if (
        cls.size + 7 & ~7 != size
        or (cls.table and cls.table != par.table)
        or (cls.hooks and par.hook_mask & ~cls.hooks)
        or (cls.proto and (par.proto != cls.proto or par.inv_proto))
    ):
        raise NlError(errno.EINVAL)
