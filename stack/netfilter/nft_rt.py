"""net/netfilter/nft_rt.c: `rt`: attributes of the packet's route."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from sys import byteorder
from typing import Any

from fastpath.net.hdr import iphdr_at, ipv6hdr_at
from stack.core.dst import dst_mtu
from stack.core.netfilter import (
    NF_INET_FORWARD,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NFPROTO_IPV4,
    NFPROTO_IPV6,
)
from stack.core.rows import wide
from stack.core.uapi import AF_INET6, IP_HLEN, IPV6_HLEN, TCP_HLEN
from stack.inet.flow import flowi
from stack.inet.tcp_const import TCP_MSS_DEFAULT
from stack.ipv4.route import ip_route_output, rtable
from stack.ipv6.route import ip6_route_output
from stack.ipv6.rt6_info import rt6_info
from stack.netfilter.nf_tables import (
    NFT_BREAK,
    nft_chain_validate_hooks,
    nft_ctx,
    nft_dump_register,
    nft_expr,
    nft_parse_register_store,
    nft_pktinfo,
    nft_register_expr,
    nft_regs,
)
from stack.netfilter.nft_expr_attrs import NFTA_RT
from stack.netlink.nlattr import Attrs, NlError

NFT_RT_CLASSID, NFT_RT_NEXTHOP4, NFT_RT_NEXTHOP6, NFT_RT_TCPMSS, NFT_RT_XFRM = range(5)
SIZES = {NFT_RT_NEXTHOP4: 4, NFT_RT_NEXTHOP6: 16, NFT_RT_TCPMSS: 2, NFT_RT_XFRM: 1}
MSS_HOOKS = 1 << NF_INET_FORWARD | 1 << NF_INET_LOCAL_OUT | 1 << NF_INET_POST_ROUTING


def tcpmss_mtu(pkt: nft_pktinfo) -> int:
    """The smaller MTU: of the packet's route, and of the one back to its sender, if there is one.

    It is part of get_tcpmss of net/netfilter/nft_rt.c, and of xt_TCPMSS.c.
    """
    skb, net = pkt.skb, pkt.state.net
    mtu: int = dst_mtu(skb.dst)
    if pkt.pf == NFPROTO_IPV4:
        try:
            return min(mtu, dst_mtu(ip_route_output(net, iphdr_at(skb, 0).saddr)))
        except OSError:
            return mtu
    back = ip6_route_output(net, None, flowi(AF_INET6, ipv6hdr_at(skb, 0).saddr))
    return mtu if back.error else min(mtu, dst_mtu(back))


def tcp_headers(pf: int) -> int:
    """The bytes of the headers of IP and TCP."""
    return (IP_HLEN if pf == NFPROTO_IPV4 else IPV6_HLEN) + TCP_HLEN


class nft_rt(nft_expr):
    """Read KEY of the packet's route into the register DREG: the next hop of either family, the MSS
    for TCP, whether IPsec is applied. A packet without a route ends the rule. Routes have no
    realms.

    EINVAL: an attribute is missing; EOPNOTSUPP: no such KEY.
    """

    name = "rt"
    attrs = NFTA_RT

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        if "NFTA_RT_KEY" not in tb or "NFTA_RT_DREG" not in tb:
            raise NlError(errno.EINVAL)
        self.key: int = tb["NFTA_RT_KEY"]
        if self.key not in SIZES:
            raise NlError(errno.EOPNOTSUPP)
        self.len = SIZES[self.key]
        self.dreg = nft_parse_register_store(ctx, tb["NFTA_RT_DREG"], self.len)

    def validate(self, ctx: nft_ctx) -> None:
        """net/netfilter/nft_rt.c nft_rt_validate."""
        if self.key == NFT_RT_TCPMSS:
            nft_chain_validate_hooks(ctx, MSS_HOOKS)

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_rt.c nft_rt_get_eval."""
        data = b"" if pkt.skb.dst is None else self.get(pkt)
        if data:
            regs.store(self.dreg, data)
        else:
            regs.verdict = NFT_BREAK

    def get(self, pkt: nft_pktinfo) -> bytes:
        """The key's value; empty: a packet of the other family."""
        skb = pkt.skb
        v4 = pkt.pf == NFPROTO_IPV4
        if self.key == NFT_RT_XFRM:
            return b"\0"
        if self.key == NFT_RT_TCPMSS:
            mtu, headers = tcpmss_mtu(pkt), tcp_headers(pkt.pf)
            mss = mtu - headers if headers < mtu <= 0xFFFF else TCP_MSS_DEFAULT
            return mss.to_bytes(2, byteorder)
        if self.key == NFT_RT_NEXTHOP4:
            rt: rtable = skb.dst
            return (rt.rt_gw4 or iphdr_at(skb, 0).daddr).to_bytes(4, "big") if v4 else b""
        if pkt.pf != NFPROTO_IPV6:
            return b""
        rt6: rt6_info = skb.dst
        hop: wide = rt6.rt6i_gateway or ipv6hdr_at(skb, 0).daddr
        return hop.to_bytes(16, "big")

    def dump(self, reset: bool = False) -> Mapping[str, Any]:
        """net/netfilter/nft_rt.c nft_rt_get_dump."""
        return {"NFTA_RT_KEY": self.key, "NFTA_RT_DREG": nft_dump_register(self.dreg)}


nft_register_expr(nft_rt)
