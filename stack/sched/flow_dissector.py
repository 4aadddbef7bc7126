"""net/core/flow_dissector.c: the flow of a packet."""

from __future__ import annotations

from zlib import crc32

from fastpath.base.skbuff import sk_buff, skb_copy_bits
from fastpath.net.parse import PARSED_L4, skb_parse


def flow_keys(skb: sk_buff) -> bytes:
    """Addresses, protocol and ports; of what is not IP the EtherType. Borrows skb."""
    at = skb.network_header - skb.data_offset
    if not 0 <= at < skb.len or not skb_parse(skb):
        return skb.protocol.to_bytes(4, "big")
    if skb.inet_family == 2:
        addresses = skb_copy_bits(skb, at + 12, 8)
    else:
        addresses = skb_copy_bits(skb, at + 8, 32)
    ports = skb.sport << 16 | skb.dport if skb.parsed & PARSED_L4 else 0
    return addresses + bytes((skb.l4_proto,)) + ports.to_bytes(4, "big")


def skb_get_hash_perturb(skb: sk_buff, perturb: int) -> int:
    """include/linux/skbuff.h: a 32-bit hash of a packet's flow, with the secret `perturb`."""
    return crc32(flow_keys(skb), perturb)


def reciprocal_scale(value: int, size: int) -> int:
    """include/linux/kernel.h: 32 bits onto 0 ... size - 1."""
    return value * size >> 32


IPV6_EXTENSIONS = frozenset({0, 43, 60})
"""Hop-by-hop options, routing header, destination options."""
IPV6_FRAGMENT = 44


def flow_l4(skb: sk_buff, at: int, protocol: int) -> tuple[int, int | None, int] | None:
    """Protocol, offset and fragment of what an IP packet at `at` carries; None: it is not IP.

    The offset is None when the packet is a later fragment or ends before it. The last number is 0,
    or 1 for a fragment, and 3 for the first one. Borrows skb.
    """
    if protocol == 0x0800 and skb.len >= at + 20:
        head = skb_copy_bits(skb, at, 20)
        pieces = int.from_bytes(head[6:8], "big")
        ihl = (head[0] & 15) * 4
        if head[0] >> 4 != 4 or ihl < 20:
            return None
        fragment = 0 if not pieces & 0x3FFF else 1 if pieces & 0x1FFF else 3
        there = fragment != 1 and skb.len >= at + ihl
        return head[9], at + ihl if there else None, fragment
    if protocol != 0x86DD or skb.len < at + 40:
        return None
    proto, fragment = skb_copy_bits(skb, at + 6, 1)[0], 0
    at += 40
    for _ in range(8):
        if skb.len < at + 8:
            break
        if proto == IPV6_FRAGMENT:
            head = skb_copy_bits(skb, at, 8)
            proto = head[0]
            fragment = 1 if int.from_bytes(head[2:4], "big") & 0xFFF8 else 3
            at += 8
            if fragment == 1:
                return proto, None, fragment
        elif proto in IPV6_EXTENSIONS:
            head = skb_copy_bits(skb, at, 2)
            proto = head[0]
            at += (head[1] + 1) * 8
        else:
            return proto, at, fragment
    return proto, at if skb.len >= at else None, fragment
