"""include/net/inet_ecn.h: congestion marks of a packet in a tunnel (RFC 6040, RFC 3168 9.1)."""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff, skb_copy_bits, skb_cow, skb_store_bits
from fastpath.net.hdr import iphdr_at
from stack.core.netdevice import ETH_P_IP, ETH_P_IPV6

INET_ECN_NOT_ECT, INET_ECN_ECT_1, INET_ECN_ECT_0, INET_ECN_CE = 0, 1, 2, 3
INET_ECN_MASK = 3


def INET_ECN_encapsulate(outer: int, inner: int) -> int:
    """The outer header's TOS: its DSCP with the mark of `inner`; ECT(0) for a marked packet."""
    outer &= ~INET_ECN_MASK
    mark = inner & INET_ECN_MASK
    return outer | (mark if mark != INET_ECN_CE else INET_ECN_ECT_0)


def INET_ECN_decapsulate(skb: sk_buff, proto: int, at: int, outer: int, inner: int) -> int:
    """Combine the marks of both headers into the inner one, `proto` at `at`. Borrows skb.

    0; 1: the inner packet is not capable and the outer said it is; 2: such a packet was marked, so
    it has to be dropped (RFC 6040 4.2).
    """
    outer &= INET_ECN_MASK
    inner &= INET_ECN_MASK
    if inner == INET_ECN_NOT_ECT:
        return 2 if outer == INET_ECN_CE else int(outer != INET_ECN_NOT_ECT)
    if outer == INET_ECN_CE and inner != INET_ECN_CE:
        set_mark(skb, proto, at, INET_ECN_CE)
    elif outer == INET_ECN_ECT_1 and inner == INET_ECN_ECT_0:
        set_mark(skb, proto, at, INET_ECN_ECT_1)
    return 0


def set_mark(skb: sk_buff, proto: int, at: int, mark: int) -> None:
    """Write the two bits into the IPv4 or IPv6 header at `at`, which others may not share."""
    if not skb_cow(skb, 0):
        return
    if proto == ETH_P_IP:
        iph = iphdr_at(skb, at)
        iph.tos = iph.tos & ~INET_ECN_MASK | mark
        iph.check = 0
        iph.check = header_sum(skb_copy_bits(skb, at, iph.ihl * 4))
    elif proto == ETH_P_IPV6:
        second = skb_copy_bits(skb, at + 1, 1)[0]
        skb_store_bits(skb, at + 1, bytes((second & 0xCF | mark << 4,)))


def header_sum(data: bytes) -> int:
    """net/ipv4 ip_fast_csum: the Internet checksum of a header."""
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
