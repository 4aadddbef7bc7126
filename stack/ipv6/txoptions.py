"""Extension headers of packets sent: struct ipv6_txoptions (include/net/ipv6.h, exthdrs.c).

A header is kept as its bytes on the wire, with an unset next header field. The order is that of
RFC 8200 4.1: hop-by-hop options, destination options for the hops of a routing header (dst0opt),
routing header, fragment header, destination options for the final destination (dst1opt).
"""

from __future__ import annotations

from dataclasses import dataclass

from fastpath.base.skbuff import sk_buff, skb_push_data
from stack.core.rows import wide
from stack.ipv6 import protocol

IPV6_SRCRT_TYPE_0 = 0
IPV6_SRCRT_TYPE_2 = 2
IPV6_SRCRT_TYPE_3 = 3
IPV6_SRCRT_TYPE_4 = 4


@dataclass(frozen=True, slots=True)
class ipv6_txoptions:
    """struct ipv6_txoptions. Lengths are multiples of 8, as check_opt_hdr ensures."""

    hopopt: bytes = b""
    dst0opt: bytes = b""
    srcrt: bytes = b""
    dst1opt: bytes = b""

    @property
    def opt_nflen(self) -> int:
        """Bytes of the headers that every fragment carries."""
        return len(self.hopopt) + len(self.srcrt) + (len(self.dst0opt) if self.srcrt else 0)

    @property
    def opt_flen(self) -> int:
        """Bytes of the headers that are fragmented with the payload."""
        return len(self.dst1opt)

    @property
    def tot_len(self) -> int:
        """Bytes of all headers."""
        return self.opt_nflen + self.opt_flen


def fl6_update_dst(daddr: wide, opt: ipv6_txoptions | None) -> wide:
    """net/ipv6/exthdrs.c: the first hop of the routing header; 0 without one."""
    if opt is None or len(opt.srcrt) < 24:
        return 0
    if opt.srcrt[2] in (IPV6_SRCRT_TYPE_0, IPV6_SRCRT_TYPE_2):
        return int.from_bytes(opt.srcrt[8:24], "big")
    if opt.srcrt[2] == IPV6_SRCRT_TYPE_4:
        at = 8 + opt.srcrt[3] * 16  # the list is in reverse order
        return int.from_bytes(opt.srcrt[at : at + 16], "big")
    return 0


def push_exthdr(skb: sk_buff, proto: int, kind: int, header: bytes) -> int:
    """net/ipv6/exthdrs.c ipv6_push_exthdr: push a header before `proto`; returns its own `kind`."""
    skb_push_data(skb, bytes((proto,)) + header[1:])
    return kind


def push_rthdr(skb: sk_buff, proto: int, header: bytes, daddr: wide) -> int:
    """net/ipv6/exthdrs.c ipv6_push_rthdr0: push a routing header.

    Its list ends with the final destination `daddr`; the first hop is in the IPv6 header instead.
    """
    hops = header[2] in (IPV6_SRCRT_TYPE_0, IPV6_SRCRT_TYPE_2)
    body = header[24:] + daddr.to_bytes(16, "big") if hops else header[8:]
    if header[2] == IPV6_SRCRT_TYPE_4:  # its first entry is the final destination
        body = daddr.to_bytes(16, "big") + header[24:]
    skb_push_data(skb, bytes((proto,)) + header[1:8] + body)
    return protocol.NEXTHDR_ROUTING


def ipv6_push_frag_opts(skb: sk_buff, opt: ipv6_txoptions, proto: int) -> int:
    """net/ipv6/exthdrs.c: push the headers that are fragmented; returns the first one's type."""
    if opt.dst1opt:
        proto = push_exthdr(skb, proto, protocol.NEXTHDR_DEST, opt.dst1opt)
    return proto


def ipv6_push_nfrag_opts(
    skb: sk_buff, opt: ipv6_txoptions, proto: int, daddr: wide
) -> tuple[int, wide]:
    """net/ipv6/exthdrs.c: push the headers of every fragment: (the first one's type, first hop)."""
    first_hop = daddr
    if opt.srcrt:
        first_hop = fl6_update_dst(daddr, opt) or daddr
        proto = push_rthdr(skb, proto, opt.srcrt, daddr)
        if opt.dst0opt:
            proto = push_exthdr(skb, proto, protocol.NEXTHDR_DEST, opt.dst0opt)
    if opt.hopopt:
        proto = push_exthdr(skb, proto, protocol.NEXTHDR_HOP, opt.hopopt)
    return proto, first_hop


def ipv6_ext_hdr(nexthdr: int) -> bool:
    """net/ipv6/exthdrs_core.c: whether the type is an extension header; 59 (no next header) is."""
    return nexthdr in (
        protocol.NEXTHDR_HOP,
        protocol.NEXTHDR_ROUTING,
        protocol.NEXTHDR_FRAGMENT,
        protocol.NEXTHDR_AUTH,
        protocol.NEXTHDR_NONE,
        protocol.NEXTHDR_DEST,
    )
