"""Fragmentation (net/ipv6/ip6_output.c; RFC 8200 4.5, RFC 7739).

Only the sender fragments; a router sends packet too big.
"""

from __future__ import annotations

import errno

from fastpath.base.skbuff import sk_buff, skb_copy_bits
from fastpath.net.hdr import ipv6_hdr
from fastpath.net.hdr6 import frag_hdr_at
from stack.core import drop_reason
from stack.core.drop_reason import kfree_skb_reason
from stack.core.sock import sock
from stack.core.uapi import IPV6_HLEN, IPV6_MIN_MTU
from stack.inet.do_fragment import FinishOutput, inet_do_fragment, inet_fragment_ready
from stack.ipv6.ip6_icmp import ICMPV6_PKT_TOOBIG, icmpv6_send
from stack.ipv6.protocol import NEXTHDR_DEST, NEXTHDR_FRAGMENT, NEXTHDR_HOP, NEXTHDR_ROUTING
from stack.net import Net

FRAG_HLEN = 8


def ipv6_select_ident(net: Net) -> int:
    """net/ipv6/output_core.c: an unpredictable identification, never 0 (RFC 7739 5.3)."""
    return net.random.randrange(1, 1 << 32)


def ip6_find_1stfragopt(skb: sk_buff) -> tuple[int, int]:
    """net/ipv6/output_core.c: (offset of the fragment header, offset of the field that names it).

    The fragment header is behind hop-by-hop options, a routing header and the destination options
    before that (RFC 8200 4.5: per-fragment headers). (-1, 0) when the headers are cut off.
    """
    at, nhoff = IPV6_HLEN, 6
    kind = ipv6_hdr(skb).nexthdr
    found_rhdr = False
    while at <= skb.len:
        if kind == NEXTHDR_ROUTING:
            found_rhdr = True
        elif kind == NEXTHDR_DEST:
            if found_rhdr:
                return at, nhoff
        elif kind != NEXTHDR_HOP:
            return at, nhoff
        if at + 2 > skb.len:
            break
        head = skb_copy_bits(skb, at, 2)
        nhoff = at
        kind = head[0]
        at += (head[1] + 1) * 8
        if at > 0xFFFF:
            break
    return -1, 0


def ip6_fragment(net: Net, sk: sock | None, skb: sk_buff, mtu: int, output: FinishOutput) -> int:
    """net/ipv6/ip6_output.c: fragment our packet, refuse a forwarded one. Takes ownership of skb.

    0 or a negative errno.
    """
    mib = net.mib.ip6
    hlen, nhoff = ip6_find_1stfragopt(skb)
    if hlen < 0:
        mib.FragFails += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_IP_INHDR)
        return -errno.EINVAL
    # RFC 8200 5: a forwarded packet, or one with IPV6_DONTFRAG, must not be fragmented.
    if not skb.ignore_df and skb.len > mtu:
        return _too_big(net, skb, mtu)
    if skb.frag_max_size:
        if skb.frag_max_size > mtu:
            return _too_big(net, skb, mtu)
        # A packet that was reassembled here is sent in fragments of the original size.
        mtu = max(skb.frag_max_size, IPV6_MIN_MTU)
    if skb.len <= mtu:
        return output(net, sk, skb)  # RFC 8021: a whole packet must not become a fragment
    if mtu < hlen + FRAG_HLEN + 8:
        return _too_big(net, skb, mtu)
    if not inet_fragment_ready(net, skb, mib):
        return -errno.EINVAL
    headers = bytearray(skb_copy_bits(skb, 0, hlen))
    nexthdr = headers[nhoff]
    headers[nhoff] = NEXTHDR_FRAGMENT
    headers += bytes((nexthdr, 0, 0, 0)) + ipv6_select_ident(net).to_bytes(4, "big")
    most = mtu - hlen - FRAG_HLEN
    return inet_do_fragment(net, sk, skb, hlen, headers, most, ip6_frag_next, output, mib)


def ip6_frag_next(frag: sk_buff, headers: bytearray, offset: int, length: int, more: bool) -> None:
    """net/ipv6/ip6_output.c: complete the headers of a fragment."""
    hlen = len(headers)
    ipv6_hdr(frag).payload_len = hlen - IPV6_HLEN + length
    frag_hdr_at(frag, hlen - FRAG_HLEN).frag_off = offset | more


def _too_big(net: Net, skb: sk_buff, mtu: int) -> int:
    """Send packet too big and drop the packet. Takes ownership of skb."""
    icmpv6_send(skb, ICMPV6_PKT_TOOBIG, 0, mtu)
    net.mib.ip6.FragFails += 1
    kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_PKT_TOO_BIG)
    return -errno.EMSGSIZE
