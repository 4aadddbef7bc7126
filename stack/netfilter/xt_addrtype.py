"""net/netfilter/xt_addrtype.c, net/ipv4/netfilter/ipt_rpfilter.c, ip6t_rpfilter.c: look up
the addresses of a packet in the routing tables (nft_fib.py)."""

from __future__ import annotations

import errno
import struct

from fastpath.base.skbuff import PACKET_LOOPBACK
from stack.core.netdevice import IFF_LOOPBACK
from stack.core.netfilter import (
    NF_INET_LOCAL_IN,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
    NFPROTO_IPV4,
    NFPROTO_IPV6,
)
from stack.core.rows import narrow, wide
from stack.core.uapi import RTN_LOCAL
from stack.ipv6.addr import (
    IPV6_ADDR_ANY,
    IPV6_ADDR_MULTICAST,
    IPV6_ADDR_UNICAST,
    ipv6_addr_type,
)
from stack.netfilter.nf_tables import nft_pktinfo
from stack.netfilter.nft_fib import (
    fib4_device,
    fib6_device,
    inet_dev_addr_type,
    nft_fib6_addr_type,
    no_sender_yet,
)
from stack.netfilter.x_tables import (
    BOTH,
    xt_match,
    xt_mtchk_param,
    xt_register_match,
)
from stack.netfilter.xt_packet import addresses
from stack.netlink.nlattr import NlError

XT_ADDRTYPE_INVERT_SOURCE, XT_ADDRTYPE_INVERT_DEST = 1, 2
XT_ADDRTYPE_LIMIT_IFACE_IN, XT_ADDRTYPE_LIMIT_IFACE_OUT = 4, 8
XT_ADDRTYPE_UNSPEC, XT_ADDRTYPE_UNICAST, XT_ADDRTYPE_LOCAL = 1 << 0, 1 << 1, 1 << 2
XT_ADDRTYPE_BROADCAST, XT_ADDRTYPE_ANYCAST, XT_ADDRTYPE_MULTICAST = 1 << 3, 1 << 4, 1 << 5
XT_ADDRTYPE_BLACKHOLE, XT_ADDRTYPE_UNREACHABLE, XT_ADDRTYPE_PROHIBIT = 1 << 6, 1 << 7, 1 << 8
XT_RPFILTER_LOOSE, XT_RPFILTER_VALID_MARK, XT_RPFILTER_ACCEPT_LOCAL = 1, 2, 4
XT_RPFILTER_INVERT, XT_RPFILTER_ALL = 8, 15
BEFORE_ROUTING = 1 << NF_INET_PRE_ROUTING | 1 << NF_INET_LOCAL_IN
BEHIND_ROUTING = 1 << NF_INET_POST_ROUTING | 1 << NF_INET_LOCAL_OUT


class xt_addrtype_info_v1(xt_match):
    """struct xt_addrtype_info_v1: `-m addrtype`: whether the source and the destination have one of
    the types (RTN_*) in a mask each; with a flag only the addresses of the interface are ours.

    EINVAL: both interfaces, one that the hook does not have, a type that IPv6 does not have.
    """

    name = "addrtype"
    revision = 1
    size = 8
    source: int
    dest: int
    flags: int

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.source, self.dest, self.flags = struct.unpack_from("=HHI", info)
        iface_in = self.flags & XT_ADDRTYPE_LIMIT_IFACE_IN
        iface_out = self.flags & XT_ADDRTYPE_LIMIT_IFACE_OUT
        both = self.source | self.dest
        if (
            (iface_in and iface_out)
            or (par.hook_mask & BEFORE_ROUTING and iface_out)
            or (par.hook_mask & BEHIND_ROUTING and iface_in)
            or (
                par.family == NFPROTO_IPV6
                and (
                    both & (XT_ADDRTYPE_BLACKHOLE | XT_ADDRTYPE_BROADCAST)
                    or both >= XT_ADDRTYPE_PROHIBIT
                )
            )
        ):
            raise NlError(errno.EINVAL)

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_addrtype.c addrtype_mt_v1."""
        saddr, daddr = addresses(pkt)
        if self.source:
            inverted = bool(self.flags & XT_ADDRTYPE_INVERT_SOURCE)
            if self.is_of(pkt, saddr, self.source) == inverted:
                return False
        inverted = bool(self.flags & XT_ADDRTYPE_INVERT_DEST)
        return not self.dest or self.is_of(pkt, daddr, self.dest) != inverted

    def is_of(self, pkt: nft_pktinfo, addr: wide, mask: int) -> bool:
        """net/netfilter/xt_addrtype.c match_type, match_type6."""
        state = pkt.state
        dev = None
        if self.flags & XT_ADDRTYPE_LIMIT_IFACE_IN:
            dev = state.indev
        elif self.flags & XT_ADDRTYPE_LIMIT_IFACE_OUT:
            dev = state.outdev
        if pkt.pf == NFPROTO_IPV4:
            return bool(mask >> inet_dev_addr_type(state.net, dev, addr) & 1)
        kind = ipv6_addr_type(addr)
        if mask & XT_ADDRTYPE_UNSPEC and kind != IPV6_ADDR_ANY:
            return False
        if mask & XT_ADDRTYPE_UNICAST and not kind & IPV6_ADDR_UNICAST:
            return False
        if mask & XT_ADDRTYPE_MULTICAST and not kind & IPV6_ADDR_MULTICAST:
            return False
        if mask & (XT_ADDRTYPE_LOCAL | XT_ADDRTYPE_ANYCAST | XT_ADDRTYPE_UNREACHABLE):
            return bool(mask >> nft_fib6_addr_type(state.net, dev, addr) & 1)
        return True


class xt_rpfilter_info(xt_match):
    """struct xt_rpfilter_info: `-m rpfilter`: whether a route leads back to the source: through the
    incoming interface, with XT_RPFILTER_LOOSE through any.

    EINVAL: an unknown flag, or another table than mangle and raw.
    """

    name = "rpfilter"
    families = BOTH
    size = 1
    hooks = 1 << NF_INET_PRE_ROUTING

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.flags = info[0]
        if self.flags & ~XT_RPFILTER_ALL or par.table not in ("mangle", "raw"):
            raise NlError(errno.EINVAL)

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/ipv4/netfilter/ipt_rpfilter.c rpfilter_mt, ip6t_rpfilter.c."""
        return self.is_valid(pkt) != bool(self.flags & XT_RPFILTER_INVERT)

    def is_valid(self, pkt: nft_pktinfo) -> bool:
        """Whether a route to the source uses this interface, or any if loose."""
        indev = pkt.state.indev
        if indev is None or indev.flags & IFF_LOOPBACK or pkt.skb.pkt_type == PACKET_LOOPBACK:
            return True
        net = pkt.state.net
        saddr, daddr = addresses(pkt)
        mark = pkt.skb.mark if self.flags & XT_RPFILTER_VALID_MARK else 0
        dev = None if self.flags & XT_RPFILTER_LOOSE else indev
        local = bool(self.flags & XT_RPFILTER_ACCEPT_LOCAL)
        if pkt.pf == NFPROTO_IPV4:
            if no_sender_yet(narrow(saddr), narrow(daddr)):
                return True
            if local and inet_dev_addr_type(net, None, saddr) == RTN_LOCAL:
                return True
            return fib4_device(pkt, narrow(saddr), mark, dev) is not None
        if not saddr or (local and nft_fib6_addr_type(net, None, saddr) == RTN_LOCAL):
            return True
        return fib6_device(pkt, saddr, mark, dev) is not None


xt_register_match(xt_addrtype_info_v1, xt_rpfilter_info)
