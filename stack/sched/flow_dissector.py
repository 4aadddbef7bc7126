"""net/core/flow_dissector.c: to which flow a packet belongs."""

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
    """include/linux/skbuff.h: 32 bits of a packet's flow, which `perturb` makes hard to guess."""
    return crc32(flow_keys(skb), perturb)


def reciprocal_scale(value: int, size: int) -> int:
    """include/linux/kernel.h: 32 bits onto 0 ... size - 1."""
    return value * size >> 32
