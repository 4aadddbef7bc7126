"""Matches about extension headers of IPv6: net/ipv6/netfilter/ip6t_rt.c, ip6t_frag.c,
ip6t_ipv6header.c."""

from __future__ import annotations

import errno
import struct

from fastpath.net.hdr import ipv6hdr_at
from stack.core.netfilter import NFPROTO_IPV6
from stack.core.uapi import IPPROTO_FRAGMENT, IPV6_HLEN
from stack.netfilter.nf_conntrack_tuple import skb_bytes
from stack.netfilter.nf_tables import nft_pktinfo
from stack.netfilter.nft_exthdr import (
    IPPROTO_AH,
    IPPROTO_DSTOPTS,
    IPPROTO_HOPOPTS,
    IPPROTO_ROUTING,
    ipv6_find_hdr,
)
from stack.netfilter.x_tables import xt_match, xt_mtchk_param, xt_register_match
from stack.netlink.nlattr import NlError

IP6T_RT_TYP, IP6T_RT_SGS, IP6T_RT_LEN = 1, 2, 4
IP6T_FRAG_IDS, IP6T_FRAG_LEN, IP6T_FRAG_RES = 1, 2, 4
IP6T_FRAG_FST, IP6T_FRAG_MF, IP6T_FRAG_NMF = 8, 16, 32
IP6_OFFSET, IP6_MF, IP6_RESERVED = 0xFFF8, 1, 6
NEXTHDR_ESP, NEXTHDR_NONE = 50, 59
MASKS = {
    IPPROTO_HOPOPTS: 0x80,
    IPPROTO_DSTOPTS: 0x40,
    IPPROTO_ROUTING: 0x20,
    IPPROTO_FRAGMENT: 0x10,
    IPPROTO_AH: 0x08,
    NEXTHDR_ESP: 0x04,
    NEXTHDR_NONE: 0x02,
}
MASK_PROTO = 0x01
"""Bits of ip6t_ipv6header_info: the headers that a packet has."""


class ip6t_rt(xt_match):
    """struct ip6t_rt: `-m rt`: compare type, length and segments left of a routing header.

    EOPNOTSUPP: a list of addresses; EINVAL: an unknown flag in `inv`.
    """

    name = "rt"
    families = (NFPROTO_IPV6,)
    size = 280

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.type, *self.segs, self.len, self.flags, self.inv = struct.unpack_from("=4IBB", info)
        known = IP6T_RT_TYP | IP6T_RT_SGS | IP6T_RT_LEN
        if self.inv & ~known:
            raise NlError(errno.EINVAL)
        if self.flags & ~known:
            raise NlError(errno.EOPNOTSUPP)

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/ipv6/netfilter/ip6t_rt.c rt_mt6."""
        found = ipv6_find_hdr(pkt, IPPROTO_ROUTING)
        if found is None:
            return False
        head = skb_bytes(pkt.skb, found[0], 4)
        low, high = self.segs
        for flag, holds in (
            (IP6T_RT_TYP, head[2] == self.type),
            (IP6T_RT_SGS, low <= head[3] <= high),
            (IP6T_RT_LEN, found[1] == self.len),
        ):
            if self.flags & flag and holds == bool(self.inv & flag):
                return False
        return True


class ip6t_frag(xt_match):
    """struct ip6t_frag: `-m frag`: compare the number and the flags of a fragment. EINVAL: an
    unknown flag in `inv`.
    """

    name = "frag"
    families = (NFPROTO_IPV6,)
    size = 16

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.low, self.high, _, self.flags, self.inv = struct.unpack_from("=3IBB", info)
        if self.inv & ~(IP6T_FRAG_IDS | IP6T_FRAG_LEN):
            raise NlError(errno.EINVAL)

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/ipv6/netfilter/ip6t_frag.c frag_mt6."""
        found = ipv6_find_hdr(pkt, IPPROTO_FRAGMENT)
        if found is None:
            return False
        _, reserved, offset, number = struct.unpack(">BBHI", skb_bytes(pkt.skb, found[0], 8))
        if (self.low <= number <= self.high) == bool(self.inv & IP6T_FRAG_IDS):
            return False
        refused = (
            (IP6T_FRAG_RES, reserved or offset & IP6_RESERVED),
            (IP6T_FRAG_FST, offset & IP6_OFFSET),
            (IP6T_FRAG_MF, not offset & IP6_MF),
            (IP6T_FRAG_NMF, offset & IP6_MF),
        )
        return not any(self.flags & flag and wrong for flag, wrong in refused)


class ip6t_ipv6header_info(xt_match):
    """struct ip6t_ipv6header_info: `-m ipv6header`: whether the packet has just these headers; with
    `soft` it may have others too. EINVAL: some of them are inverted, but not all, without `soft`.
    """

    name = "ipv6header"
    families = (NFPROTO_IPV6,)
    size = 3

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.matches, self.inv, self.soft = info[:3]
        if not self.soft and self.inv not in (0, 0xFF):
            raise NlError(errno.EINVAL)

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/ipv6/netfilter/ip6t_ipv6header.c ipv6header_mt6."""
        has = headers_of(pkt)
        if self.soft:
            return not (has ^ self.matches ^ self.inv) & self.matches
        return (has == self.matches) != bool(self.inv)


def headers_of(pkt: nft_pktinfo) -> int:
    """The bits of the headers that a packet has."""
    has, kind, at = 0, ipv6hdr_at(pkt.skb, 0).nexthdr, IPV6_HLEN
    while kind in MASKS:
        has |= MASKS[kind]
        head = skb_bytes(pkt.skb, at, 2)
        if kind in (NEXTHDR_ESP, NEXTHDR_NONE) or len(head) < 2:
            return has
        size = 8 if kind == IPPROTO_FRAGMENT else (head[1] + 1) * 8
        if kind == IPPROTO_AH:
            size = (head[1] + 2) * 4
        kind, at = head[0], at + size
    return has | MASK_PROTO


xt_register_match(ip6t_rt, ip6t_frag, ip6t_ipv6header_info)
