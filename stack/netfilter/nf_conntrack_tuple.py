"""Tuples of packets and of packets quoted in ICMP errors, and their inverse (nf_conntrack_core.c).

All lengths are checked: a truncated or malformed packet has no tuple.
"""

from __future__ import annotations

from fastpath.base.skbuff import pskb_may_pull, sk_buff, skb_copy_bits
from fastpath.net.hdr import icmphdr_at, iphdr_at, ipv6hdr_at, udphdr_at
from fastpath.net.hdr6 import ipv6_skip_exthdr
from fastpath.net.parse import PARSED_L4, PARSED_PLAIN, PARSED_WHOLE, skb_parse
from stack.core.netfilter import NFPROTO_IPV4
from stack.core.rows import wide
from stack.core.uapi import (
    IP_HLEN,
    IPPROTO_FRAGMENT,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPV6_HLEN,
)
from stack.netfilter.nf_conntrack import Tuple

IP_OFFSET = 0x1FFF

# net/netfilter/nf_conntrack_proto_icmp.c invmap[], nf_conntrack_proto_icmpv6.c: type of the reply
ICMP_INVERSE = {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 17: 18, 18: 17}
ICMPV6_INVERSE = {128: 129, 129: 128, 139: 140, 140: 139}


def nf_ct_l4_offset(skb: sk_buff, nhoff: int, pf: int) -> tuple[int, int]:
    """get_l4proto: (offset of the transport header from data, protocol) of the packet at `nhoff`.

    (-1, 0) if there is none: truncated, malformed, or a fragment other than the first.
    """
    if pf == NFPROTO_IPV4:
        if skb.len < nhoff + IP_HLEN or not pskb_may_pull(skb, nhoff + IP_HLEN):
            return -1, 0
        iph = iphdr_at(skb, nhoff)
        off = nhoff + iph.ihl * 4
        if iph.version != 4 or iph.ihl < 5 or iph.frag_off & IP_OFFSET or off > skb.len:
            return -1, 0
        return off, iph.protocol
    if skb.len < nhoff + IPV6_HLEN or not pskb_may_pull(skb, nhoff + IPV6_HLEN):
        return -1, 0
    ip6h = ipv6hdr_at(skb, nhoff)
    if ip6h.version != 6:
        return -1, 0
    at, proto, frag_off = ipv6_skip_exthdr(skb, nhoff + IPV6_HLEN, ip6h.nexthdr)
    if at < 0 or proto == IPPROTO_FRAGMENT or frag_off & ~7 or at > skb.len:
        return -1, 0
    return at, proto


def nf_ct_get_tuple(skb: sk_buff, nhoff: int, off: int, pf: int, proto: int) -> Tuple | None:
    """net/netfilter/nf_conntrack_core.c: the tuple of the packet at `nhoff` with its transport
    header at `off`; None when that is truncated.
    """
    sport = dport = 0
    if proto in (IPPROTO_TCP, IPPROTO_UDP):
        # 8 bytes are enough: ICMP errors may quote no more.
        if skb.len < off + 8 or not pskb_may_pull(skb, off + 8):
            return None
        ports = udphdr_at(skb, off)
        sport, dport = ports.source, ports.dest
    elif proto == (IPPROTO_ICMP if pf == NFPROTO_IPV4 else IPPROTO_ICMPV6):
        if skb.len < off + 8 or not pskb_may_pull(skb, off + 8):
            return None
        icmph = icmphdr_at(skb, off)
        sport, dport = icmph.id, icmph.type << 8 | icmph.code
    if pf == NFPROTO_IPV4:
        iph = iphdr_at(skb, nhoff)
        return pf, proto, iph.saddr, sport, iph.daddr, dport
    ip6h = ipv6hdr_at(skb, nhoff)
    return pf, proto, ip6h.saddr, sport, ip6h.daddr, dport


def nf_ct_plain_tuple(skb: sk_buff, pf: int) -> Tuple | None:
    """The tuple of an ordinary TCP or UDP packet, from the fields that were parsed at reception;
    None for any other. data at the network header.
    """
    skb_parse(skb)
    want = PARSED_WHOLE | PARSED_PLAIN | PARSED_L4
    if skb.parsed & want != want:
        return None
    if pf == NFPROTO_IPV4:
        return pf, skb.l4_proto, skb.saddr, skb.sport, skb.daddr, skb.dport
    ip6h = ipv6hdr_at(skb, 0)
    return pf, skb.l4_proto, ip6h.saddr, skb.sport, ip6h.daddr, skb.dport


def nf_ct_invert_tuple(tup: Tuple) -> Tuple | None:
    """net/netfilter/nf_conntrack_core.c: the tuple of replies; None: it has no reply."""
    pf: int = tup[0]
    proto: int = tup[1]
    saddr: wide = tup[2]
    sport: int = tup[3]
    daddr: wide = tup[4]
    dport: int = tup[5]
    if proto in (IPPROTO_TCP, IPPROTO_UDP):
        return pf, proto, daddr, dport, saddr, sport
    if proto == IPPROTO_ICMP and pf == NFPROTO_IPV4:
        answer = ICMP_INVERSE.get(dport >> 8)
    elif proto == IPPROTO_ICMPV6 and pf != NFPROTO_IPV4:
        answer = ICMPV6_INVERSE.get(dport >> 8)
    else:
        return pf, proto, daddr, dport, saddr, sport
    if answer is None:
        return None
    return pf, proto, daddr, sport, saddr, answer << 8 | dport & 0xFF


def nf_ct_get_tuplepr(skb: sk_buff, nhoff: int, pf: int) -> Tuple | None:
    """net/netfilter/nf_conntrack_core.c: the tuple of the packet quoted at `nhoff`."""
    off, proto = nf_ct_l4_offset(skb, nhoff, pf)
    if off < 0:
        return None
    return nf_ct_get_tuple(skb, nhoff, off, pf, proto)


def skb_bytes(skb: sk_buff, off: int, n: int) -> bytes:
    """skb_header_pointer: `n` bytes from `off`; fewer if the packet ends before."""
    n = min(n, skb.len - off)
    return skb_copy_bits(skb, off, n) if n > 0 else b""
