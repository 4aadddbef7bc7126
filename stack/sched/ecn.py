"""include/net/inet_ecn.h: marking packets instead of dropping them."""

from __future__ import annotations

from fastpath.base.skbuff import (
    sk_buff,
    skb_copy_bits,
    skb_cow_head,
    skb_header_cloned,
    skb_store_bits,
)
from stack.core.if_vlan import vlan_get_protocol
from stack.core.netdevice import ETH_P_IP, ETH_P_IPV6

INET_ECN_MASK = INET_ECN_CE = 3


def INET_ECN_set_ce(skb: sk_buff) -> bool:
    """include/net/inet_ecn.h: mark a packet (data at the MAC header); False: it does not take it.

    Borrows skb. The checksum of an IPv4 header goes along.
    """
    at = skb.network_header - skb.data_offset
    proto = vlan_get_protocol(skb)
    if proto not in (ETH_P_IP, ETH_P_IPV6) or not 0 <= at <= skb.len - 20:
        return False
    head = skb_copy_bits(skb, at, 12)
    shift = 0 if proto == ETH_P_IP else 4  # IPv6: version 4 bits, traffic class 8, flow label
    field = int.from_bytes(head[:2], "big")
    ecn = field >> shift & INET_ECN_MASK
    if not ecn:
        return False
    if ecn == INET_ECN_CE:
        return True
    if skb_header_cloned(skb) and not skb_cow_head(skb, 0):
        return False
    skb_store_bits(skb, at, (field | INET_ECN_CE << shift).to_bytes(2, "big"))
    if proto == ETH_P_IP:
        # RFC 1624: what the word grew by is taken from the sum
        total = int.from_bytes(head[10:12], "big") + ecn - INET_ECN_CE
        total = (total & 0xFFFF) - (total < 0)
        skb_store_bits(skb, at + 10, total.to_bytes(2, "big"))
    return True
