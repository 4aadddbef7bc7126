"""net/netfilter/nft_fib.c, ipv4/netfilter/nft_fib_ipv4.c, ipv6/netfilter/nft_fib_ipv6.c: look up an
address of the packet in the routing tables."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from sys import byteorder
from typing import Any

from fastpath.base.skbuff import PACKET_LOOPBACK
from fastpath.net.hdr import iphdr_at, ipv6hdr_at
from stack.core.fib_rules import LOOPBACK_IFINDEX
from stack.core.netdevice import IFF_LOOPBACK, net_device
from stack.core.netfilter import (
    NF_INET_FORWARD,
    NF_INET_LOCAL_IN,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
    NFPROTO_IPV4,
)
from stack.core.rows import narrow, wide
from stack.core.uapi import (
    AF_INET,
    AF_INET6,
    RTF_REJECT,
    RTN_ANYCAST,
    RTN_LOCAL,
    RTN_MULTICAST,
    RTN_UNICAST,
    RTN_UNREACHABLE,
    RTN_UNSPEC,
)
from stack.inet.flow import flowi
from stack.ipv4.addr import (
    ipv4_is_lbcast,
    ipv4_is_local_multicast,
    ipv4_is_zeronet,
)
from stack.ipv4.fib import (
    IPTOS_RT_MASK,
    __fib_lookup,
    fib_info_nh_uses_dev,
    fib_lookup,
    fib_result,
    inet_addr_type_dev_table,
)
from stack.ipv6.addr import (
    IPV6_ADDR_LINKLOCAL,
    IPV6_ADDR_MULTICAST,
    IPV6_ADDR_UNICAST,
    ipv6_addr_type,
)
from stack.ipv6.if_inet6 import ipv6_chk_addr
from stack.ipv6.ip6_fib import RTF_ANYCAST, RTF_LOCAL
from stack.ipv6.route import ip6_route_output
from stack.net import Net
from stack.netfilter.nf_tables import (
    nft_chain_validate_hooks,
    nft_ctx,
    nft_dump_register,
    nft_expr,
    nft_parse_register_store,
    nft_pktinfo,
    nft_register_expr,
    nft_regs,
)
from stack.netfilter.nft_expr_attrs import NFTA_FIB
from stack.netlink.nlattr import Attrs, NlError

NFT_FIB_RESULT_OIF, NFT_FIB_RESULT_OIFNAME, NFT_FIB_RESULT_ADDRTYPE = 1, 2, 3
NFTA_FIB_F_SADDR, NFTA_FIB_F_DADDR, NFTA_FIB_F_MARK = 1, 2, 4
NFTA_FIB_F_IIF, NFTA_FIB_F_OIF, NFTA_FIB_F_PRESENT = 8, 16, 32
IFNAMSIZ = 16
ALL_HOOKS = (
    1 << NF_INET_PRE_ROUTING
    | 1 << NF_INET_LOCAL_IN
    | 1 << NF_INET_FORWARD
    | 1 << NF_INET_LOCAL_OUT
    | 1 << NF_INET_POST_ROUTING
)
HOOKS_IN = 1 << NF_INET_PRE_ROUTING | 1 << NF_INET_LOCAL_IN | 1 << NF_INET_FORWARD
HOOKS_OUT = 1 << NF_INET_LOCAL_OUT | 1 << NF_INET_POST_ROUTING | 1 << NF_INET_FORWARD


def inet_dev_addr_type(net: Net, dev: net_device | None, addr: wide) -> int:
    """net/ipv4/fib_frontend.c: RTN_* of an address; those of interfaces other than `dev` are
    RTN_UNICAST."""
    kind = inet_addr_type_dev_table(net, dev, narrow(addr))
    if dev is None or kind in (RTN_UNICAST, RTN_MULTICAST) or not addr:
        return kind
    if ipv4_is_lbcast(narrow(addr)):
        return kind
    res = fib_lookup(net, narrow(addr))
    same = isinstance(res, fib_result) and res.nh.nh_dev is dev
    return kind if same else RTN_UNICAST


def nft_fib6_addr_type(net: Net, dev: net_device | None, addr: wide) -> int:
    """net/ipv6/netfilter/nft_fib_ipv6.c __nft_fib6_eval_type: RTN_* of an address."""
    if dev is not None and ipv6_chk_addr(net, addr, dev, True):
        return RTN_LOCAL
    oif = dev.ifindex if dev is not None else 0
    rt = ip6_route_output(net, None, flowi(AF_INET6, addr, 0, oif))
    if rt.error or rt.rt6i_flags & RTF_REJECT:
        return RTN_UNREACHABLE
    if rt.rt6i_flags & RTF_ANYCAST:
        return RTN_ANYCAST
    if dev is None and rt.rt6i_flags & RTF_LOCAL:
        return RTN_LOCAL
    kind = ipv6_addr_type(addr)
    if kind & IPV6_ADDR_MULTICAST:
        return RTN_MULTICAST
    return RTN_UNICAST if kind & IPV6_ADDR_UNICAST else RTN_UNSPEC


def no_sender_yet(saddr: int, daddr: int) -> bool:
    """Whether a host without an address asks its link, as DHCP does: no route leads back to it."""
    asks = ipv4_is_lbcast(daddr) or ipv4_is_local_multicast(daddr)
    return ipv4_is_zeronet(saddr) and asks


def fib4_device(
    pkt: nft_pktinfo, addr: int, mark: int, oif: net_device | None
) -> net_device | None:
    """nft_fib4_eval: the output interface for `addr`; with `oif`: that one or None."""
    net = pkt.state.net
    tos = iphdr_at(pkt.skb, 0).tos
    res = fib_lookup(net, addr, tos & IPTOS_RT_MASK)
    if res == -errno.ENETUNREACH:
        fl4 = flowi(AF_INET, addr, 0, 0, tos)
        fl4.flowi_mark = mark
        res = __fib_lookup(net, fl4, LOOPBACK_IFINDEX)
    if not isinstance(res, fib_result) or res.type != RTN_UNICAST:
        return None
    if oif is None or res.nh.nh_dev is oif:
        return res.nh.nh_dev
    return oif if fib_info_nh_uses_dev(res.fi, oif) else None


def fib6_device(
    pkt: nft_pktinfo, addr: wide, mark: int, oif: net_device | None
) -> net_device | None:
    """nft_fib6_eval: like fib4_device."""
    net = pkt.state.net
    strict = oif is not None and bool(ipv6_addr_type(addr) & IPV6_ADDR_LINKLOCAL)
    fl6 = flowi(AF_INET6, addr, 0, oif.ifindex if strict and oif is not None else 0)
    fl6.flowi_mark = mark
    rt = ip6_route_output(net, None, fl6)
    if rt.error or rt.rt6i_flags & (RTF_REJECT | RTF_ANYCAST | RTF_LOCAL):
        return None
    return rt.dev if oif is None or rt.dev is oif else None


class nft_fib(nft_expr):
    """Look up the packet's source or destination (FLAGS) in the routing tables. The register DREG
    gets RESULT: the interface's index or name, or the type of the address (RTN_*).

    EINVAL: an attribute is missing, not one address in FLAGS, no such RESULT.
    """

    name = "fib"
    attrs = NFTA_FIB

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        if len(tb) < len(NFTA_FIB.by_name):
            raise NlError(errno.EINVAL)
        self.flags: int = tb["NFTA_FIB_FLAGS"]
        self.result: int = tb["NFTA_FIB_RESULT"]
        ends = self.flags & (NFTA_FIB_F_SADDR | NFTA_FIB_F_DADDR)
        ifaces = self.flags & (NFTA_FIB_F_IIF | NFTA_FIB_F_OIF)
        if ends not in (NFTA_FIB_F_SADDR, NFTA_FIB_F_DADDR):
            raise NlError(errno.EINVAL)
        if ifaces == NFTA_FIB_F_IIF | NFTA_FIB_F_OIF:
            raise NlError(errno.EINVAL)
        self.len = 4
        if self.result in (NFT_FIB_RESULT_OIF, NFT_FIB_RESULT_OIFNAME):
            if self.flags & NFTA_FIB_F_OIF:
                raise NlError(errno.EINVAL)
            if self.result == NFT_FIB_RESULT_OIFNAME:
                self.len = IFNAMSIZ
        elif self.result != NFT_FIB_RESULT_ADDRTYPE:
            raise NlError(errno.EINVAL)
        self.dreg = nft_parse_register_store(ctx, tb["NFTA_FIB_DREG"], self.len)

    def validate(self, ctx: nft_ctx) -> None:
        """net/netfilter/nft_fib.c nft_fib_validate."""
        hooks = HOOKS_IN
        if self.result == NFT_FIB_RESULT_ADDRTYPE and not self.flags & NFTA_FIB_F_IIF:
            hooks = HOOKS_OUT if self.flags & NFTA_FIB_F_OIF else ALL_HOOKS
        nft_chain_validate_hooks(ctx, hooks)

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_fib_inet.c nft_fib_inet_eval, and those of one family."""
        source = bool(self.flags & NFTA_FIB_F_SADDR)
        addr: wide
        if pkt.pf == NFPROTO_IPV4:
            iph = iphdr_at(pkt.skb, 0)
            addr = iph.saddr if source else iph.daddr
        else:
            ip6h = ipv6hdr_at(pkt.skb, 0)
            addr = ip6h.saddr if source else ip6h.daddr
        dev = None
        if self.flags & NFTA_FIB_F_IIF:
            dev = pkt.state.indev
        elif self.flags & NFTA_FIB_F_OIF:
            dev = pkt.state.outdev
        if self.result == NFT_FIB_RESULT_ADDRTYPE:
            of = inet_dev_addr_type if pkt.pf == NFPROTO_IPV4 else nft_fib6_addr_type
            regs.store(self.dreg, of(pkt.state.net, dev, addr).to_bytes(4, byteorder))
            return
        self.store_result(regs, self.device(pkt, addr, dev))

    def device(self, pkt: nft_pktinfo, addr: wide, dev: net_device | None) -> net_device | None:
        """The output interface for the address; None: there is none."""
        indev = pkt.state.indev
        local = pkt.skb.pkt_type == PACKET_LOOPBACK
        local = local or (indev is not None and bool(indev.flags & IFF_LOOPBACK))
        if pkt.state.hook in (NF_INET_PRE_ROUTING, NF_INET_LOCAL_IN) and local:
            return indev
        mark = pkt.skb.mark if self.flags & NFTA_FIB_F_MARK else 0
        if pkt.pf != NFPROTO_IPV4:
            return fib6_device(pkt, addr, mark, dev)
        iph = iphdr_at(pkt.skb, 0)
        if no_sender_yet(iph.saddr, iph.daddr):
            return pkt.skb.dev
        return fib4_device(pkt, narrow(addr), mark, dev)

    def store_result(self, regs: nft_regs, dev: net_device | None) -> None:
        """net/netfilter/nft_fib.c nft_fib_store_result."""
        if self.flags & NFTA_FIB_F_PRESENT:
            regs.store(self.dreg, (dev is not None).to_bytes(4, byteorder))
        elif self.result == NFT_FIB_RESULT_OIF:
            regs.store(self.dreg, (dev.ifindex if dev is not None else 0).to_bytes(4, byteorder))
        else:
            name = dev.name.encode() if dev is not None else b""
            regs.store(self.dreg, name.ljust(IFNAMSIZ, b"\0"))

    def dump(self, reset: bool = False) -> Mapping[str, Any]:
        """net/netfilter/nft_fib.c nft_fib_dump."""
        return {
            "NFTA_FIB_DREG": nft_dump_register(self.dreg),
            "NFTA_FIB_RESULT": self.result,
            "NFTA_FIB_FLAGS": self.flags,
        }


nft_register_expr(nft_fib)
