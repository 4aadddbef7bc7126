"""net/netfilter/nft_nat.c: `snat to`, `dnat to`: the address and port that a new connection gets.

Chains of type nat see only the first packet of a connection; nf_nat_setup_info decides.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

from fastpath.net.hdr import iphdr_at, ipv6hdr_at
from stack.core.netfilter import (
    NF_ACCEPT,
    NF_INET_LOCAL_IN,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
    NFPROTO_IPV4,
    NFPROTO_IPV6,
)
from stack.core.rows import wide
from stack.netfilter.nf_nat_core import (
    HOOK2MANIP,
    NF_NAT_MANIP_DST,
    NF_NAT_MANIP_SRC,
    NF_NAT_RANGE_MAP_IPS,
    NF_NAT_RANGE_NETMAP,
    NF_NAT_RANGE_PROTO_SPECIFIED,
    nf_nat_range2,
    nf_nat_setup_info,
)
from stack.netfilter.nf_tables import (
    NFPROTO_INET,
    nft_chain_validate_dependency,
    nft_chain_validate_hooks,
    nft_ctx,
    nft_dump_register,
    nft_expr,
    nft_parse_register_load,
    nft_pktinfo,
    nft_register_expr,
    nft_regs,
)
from stack.netfilter.nft_ct import nft_ct_netns_get, nft_ct_netns_put
from stack.netfilter.nft_expr_attrs import NFTA_NAT
from stack.netlink.nlattr import Attrs, NlError

NFT_NAT_SNAT, NFT_NAT_DNAT = 0, 1
SRC_HOOKS = 1 << NF_INET_POST_ROUTING | 1 << NF_INET_LOCAL_IN
DST_HOOKS = 1 << NF_INET_PRE_ROUTING | 1 << NF_INET_LOCAL_OUT
PORT_LEN = 2


def load_range(ctx: nft_ctx, tb: Attrs, name: str, length: int) -> tuple[int, int]:
    """The registers NAME_MIN and NAME_MAX, where MAX defaults to MIN; (0, 0): none."""
    if f"{name}_MIN" not in tb:
        return 0, 0
    low = nft_parse_register_load(ctx, tb[f"{name}_MIN"], length)
    if f"{name}_MAX" not in tb:
        return low, low
    return low, nft_parse_register_load(ctx, tb[f"{name}_MAX"], length)


def nf_nat_netmap(pkt: nft_pktinfo, low: wide, high: wide) -> wide:
    """The packet's address with the network of a range: what the range's ends differ in stays
    (nft_nat_setup_netmap)."""
    maniptype = HOOK2MANIP(pkt.state.hook)
    if pkt.pf == NFPROTO_IPV4:
        iph = iphdr_at(pkt.skb, 0)
        addr: wide = iph.saddr if maniptype == NF_NAT_MANIP_SRC else iph.daddr
    else:
        ip6h = ipv6hdr_at(pkt.skb, 0)
        addr = ip6h.saddr if maniptype == NF_NAT_MANIP_SRC else ip6h.daddr
    host = low ^ high
    return addr & host | low & ~host


class nft_nat_ports(nft_expr):
    """The common part of the three NAT expressions: flags, and registers with ports."""

    hooks: int

    def load_ports(self, ctx: nft_ctx, tb: Attrs) -> None:
        """Read flags and registers; start tracking connections of the family."""
        name = self.attrs.name
        self.flags: int = tb.get(f"{name}_FLAGS", 0)
        self.proto = load_range(ctx, tb, f"{name}_REG_PROTO", PORT_LEN)
        if self.proto[0]:
            self.flags |= NF_NAT_RANGE_PROTO_SPECIFIED

    def range_of(self, regs: nft_regs) -> nf_nat_range2:
        """The range's flags and ports (nft_nat_setup_proto)."""
        rng = nf_nat_range2(self.flags)
        if self.proto[0]:
            rng.min_proto = int.from_bytes(regs.load(self.proto[0], PORT_LEN), "big")
            rng.max_proto = int.from_bytes(regs.load(self.proto[1], PORT_LEN), "big")
        return rng

    def validate(self, ctx: nft_ctx) -> None:
        """It must be in a chain of type nat, at hook points of its kind. Raises: NlError."""
        nft_chain_validate_dependency(ctx, "nat")
        nft_chain_validate_hooks(ctx, self.hooks)

    def dump_ports(self) -> dict[str, Any]:
        """The attributes of load_ports; flags only if there are any."""
        name = self.attrs.name
        low, high = (nft_dump_register(one) if one else None for one in self.proto)
        return {
            f"{name}_REG_PROTO_MIN": low,
            f"{name}_REG_PROTO_MAX": high,
            f"{name}_FLAGS": self.flags or None,
        }


class nft_nat(nft_nat_ports):
    """Give a new connection another source (TYPE NFT_NAT_SNAT) or destination: an address of FAMILY
    from the registers REG_ADDR_MIN to _MAX, a port from REG_PROTO_MIN to _MAX; FLAGS as
    NF_NAT_RANGE_*.

    EINVAL: an attribute is missing; EOPNOTSUPP: no such TYPE, or the family of another table;
    EAFNOSUPPORT, EPROTO: no such family, with or without an address.
    """

    name = "nat"
    attrs = NFTA_NAT

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        if "NFTA_NAT_TYPE" not in tb or not (
            "NFTA_NAT_REG_ADDR_MIN" in tb or "NFTA_NAT_REG_PROTO_MIN" in tb
        ):
            raise NlError(errno.EINVAL)
        self.type: int = tb["NFTA_NAT_TYPE"]
        if self.type not in (NFT_NAT_SNAT, NFT_NAT_DNAT):
            raise NlError(errno.EOPNOTSUPP)
        self.hooks = SRC_HOOKS if self.type == NFT_NAT_SNAT else DST_HOOKS
        if "NFTA_NAT_FAMILY" not in tb:
            raise NlError(errno.EINVAL)
        self.family: int = tb["NFTA_NAT_FAMILY"]
        if ctx.family not in (NFPROTO_INET, self.family):
            raise NlError(errno.EOPNOTSUPP)
        known = self.family in (NFPROTO_IPV4, NFPROTO_IPV6)
        if not known and "NFTA_NAT_REG_ADDR_MIN" in tb:
            raise NlError(errno.EAFNOSUPPORT)
        if not known and self.family != NFPROTO_INET:
            raise NlError(errno.EPROTO)  # nf_ct_netns_get
        self.alen = 4 if self.family == NFPROTO_IPV4 else 16
        self.addr = load_range(ctx, tb, "NFTA_NAT_REG_ADDR", self.alen)
        self.load_ports(ctx, tb)
        if self.addr[0]:
            self.flags |= NF_NAT_RANGE_MAP_IPS
        nft_ct_netns_get(ctx.net, self.family)

    def destroy(self, ctx: nft_ctx) -> None:
        """net/netfilter/nft_nat.c nft_nat_destroy."""
        nft_ct_netns_put(ctx.net, self.family)

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_nat.c nft_nat_eval, nft_nat_inet_eval."""
        if self.family not in (pkt.pf, NFPROTO_INET):
            return
        rng = self.range_of(regs)
        if self.addr[0]:
            rng.min_addr = int.from_bytes(regs.load(self.addr[0], self.alen), "big")
            rng.max_addr = int.from_bytes(regs.load(self.addr[1], self.alen), "big")
            if self.flags & NF_NAT_RANGE_NETMAP:
                rng.min_addr = nf_nat_netmap(pkt, rng.min_addr, rng.max_addr)
                rng.max_addr = rng.min_addr
        maniptype = NF_NAT_MANIP_SRC if self.type == NFT_NAT_SNAT else NF_NAT_MANIP_DST
        ct = pkt.skb.nfct
        regs.verdict = NF_ACCEPT if ct is None else nf_nat_setup_info(ct, rng, maniptype)

    def dump(self, reset: bool = False) -> Mapping[str, Any]:
        """net/netfilter/nft_nat.c nft_nat_dump."""
        low, high = (nft_dump_register(one) if one else None for one in self.addr)
        return {
            "NFTA_NAT_TYPE": self.type,
            "NFTA_NAT_FAMILY": self.family,
            "NFTA_NAT_REG_ADDR_MIN": low,
            "NFTA_NAT_REG_ADDR_MAX": high,
            **self.dump_ports(),
        }


nft_register_expr(nft_nat)
