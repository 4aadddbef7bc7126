"""include/net/inet_ecn.h: congestion marks of a packet, and of one in a tunnel (RFC 3168, 6040)."""

from __future__ import annotations

from fastpath.base.csum import csum_replace2
from fastpath.base.skbuff import (
    sk_buff,
    skb_copy_bits,
    skb_cow_head,
    skb_header_cloned,
    skb_store_bits,
)
from fastpath.net.hdr import iphdr_at, ipv6hdr_at
from stack.core.if_vlan import vlan_get_protocol
from stack.core.netdevice import ETH_P_IP, ETH_P_IPV6

INET_ECN_NOT_ECT = 0
INET_ECN_ECT_1 = 1
INET_ECN_ECT_0 = 2
INET_ECN_CE = 3
INET_ECN_MASK = 3


def INET_ECN_set_ce(skb: sk_buff) -> bool:
    """Mark a packet (data at the MAC header); False: it is not ECN-capable. Borrows skb."""
    at = skb.network_header - skb.data_offset
    proto = vlan_get_protocol(skb)
    if proto not in (ETH_P_IP, ETH_P_IPV6) or not 0 <= at <= skb.len - 20:
        return False
    second = skb_copy_bits(skb, at + 1, 1)[0]
    ecn = (second if proto == ETH_P_IP else second >> 4) & INET_ECN_MASK
    if ecn == INET_ECN_NOT_ECT:
        return False
    return ecn == INET_ECN_CE or set_mark(skb, proto, at, INET_ECN_CE)


def set_mark(skb: sk_buff, proto: int, at: int, mark: int) -> bool:
    """Write the two bits into the IPv4 or IPv6 header at `at`; False: there is no memory.

    The checksum of an IPv4 header is updated (RFC 1624).
    """
    if skb_header_cloned(skb) and not skb_cow_head(skb, 0):
        return False
    shift = 0 if proto == ETH_P_IP else 4  # IPv6: version 4 bits, traffic class 8, flow label
    head = skb_copy_bits(skb, at, 12)
    old = int.from_bytes(head[:2], "big")
    new = old & ~(INET_ECN_MASK << shift) | mark << shift
    skb_store_bits(skb, at, new.to_bytes(2, "big"))
    if proto == ETH_P_IP:
        check = csum_replace2(int.from_bytes(head[10:], "big"), old, new)
        skb_store_bits(skb, at + 10, check.to_bytes(2, "big"))
    return True


def INET_ECN_encapsulate(outer: int, inner: int) -> int:
    """The outer header's TOS: its DSCP with the mark of `inner`; ECT(0) for a marked packet."""
    outer &= ~INET_ECN_MASK
    mark = inner & INET_ECN_MASK
    return outer | (mark if mark != INET_ECN_CE else INET_ECN_ECT_0)


def INET_ECN_decapsulate(skb: sk_buff, proto: int, at: int, outer: int) -> int:
    """Combine the marks of both headers into the inner one, `proto` at `at`. Borrows skb.

    0; 1: the inner packet is not ECN-capable but the outer one is; 2: such a packet was marked, so
    it has to be dropped (RFC 6040 4.2).
    """
    outer &= INET_ECN_MASK
    tos = iphdr_at(skb, at).tos if proto == ETH_P_IP else ipv6hdr_at(skb, at).priority
    inner = tos & INET_ECN_MASK
    if inner == INET_ECN_NOT_ECT:
        return 2 if outer == INET_ECN_CE else int(outer != INET_ECN_NOT_ECT)
    if outer == INET_ECN_CE and inner != INET_ECN_CE:
        set_mark(skb, proto, at, INET_ECN_CE)
    elif outer == INET_ECN_ECT_1 and inner == INET_ECN_ECT_0:
        set_mark(skb, proto, at, INET_ECN_ECT_1)
    return 0
