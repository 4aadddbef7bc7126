"""net/ipv4/gre_demux.c: the header of GRE (RFC 2784, with the key and number of RFC 2890).

|C| |K|S| reserved | version 3 |  protocol, an EtherType  |
| checksum, if C               |  reserved                |
| key, if K                                               |
| sequence number, if S                                   |
"""

from __future__ import annotations

import struct

from fastpath.base.csum import csum_fold
from fastpath.base.skbuff import (
    CHECKSUM_PARTIAL,
    pskb_may_pull,
    sk_buff,
    skb_checksum,
    skb_copy_bits,
    skb_push_data,
    skb_store_bits,
)
from stack.core.netdevice import ETH_P_IP
from stack.core.rows import row, state
from stack.tunnel.ip_tunnel_core import lco_csum

GRE_CSUM, GRE_ROUTING, GRE_KEY, GRE_SEQ, GRE_VERSION = 0x8000, 0x4000, 0x2000, 0x1000, 0x0007
ETH_P_WCCP = 0x883E
HEAD = struct.Struct(">HH")
WORD = struct.Struct(">I")


@state
class tnl_ptk_info:
    """include/net/ip_tunnels.h: the fields of the header."""

    flags: int = row(0)
    proto: int = row(0)
    key: int = row(0)
    seq: int = row(0)
    hdr_len: int = row(0)


def gre_calc_hlen(flags: int) -> int:
    """include/net/gre.h: bytes of a header with these flags."""
    return 4 + 4 * (bool(flags & GRE_CSUM) + bool(flags & GRE_KEY) + bool(flags & GRE_SEQ))


def gre_parse_header(skb: sk_buff, at: int, verify: bool) -> tnl_ptk_info | None:
    """net/ipv4/gre_demux.c: the header at `at`; None: malformed, or the checksum is wrong.

    Borrows skb. `verify`: check the checksum; a quoted packet is truncated, so its is not checked.
    """
    if not pskb_may_pull(skb, at + 4):
        return None
    tpi = tnl_ptk_info()
    tpi.flags, tpi.proto = HEAD.unpack(skb_copy_bits(skb, at, 4))
    if tpi.flags & (GRE_VERSION | GRE_ROUTING):
        return None
    tpi.hdr_len = gre_calc_hlen(tpi.flags)
    if not pskb_may_pull(skb, at + tpi.hdr_len):
        return None
    off = at + 4
    if tpi.flags & GRE_CSUM:
        whole = skb.ip_summed != CHECKSUM_PARTIAL  # else the inner checksum is not computed yet
        if verify and whole and csum_fold(skb_checksum(skb, at, skb.len - at)):
            return None
        off += 4
    if tpi.flags & GRE_KEY:
        (tpi.key,) = WORD.unpack(skb_copy_bits(skb, off, 4))
        off += 4
    if tpi.flags & GRE_SEQ:
        (tpi.seq,) = WORD.unpack(skb_copy_bits(skb, off, 4))
    if not tpi.flags and tpi.proto == ETH_P_WCCP:
        # A web cache's redirect: IPv4, of version 2 with four bytes before it.
        tpi.proto = ETH_P_IP
        if skb.len > at + 4 and skb_copy_bits(skb, at + 4, 1)[0] & 0xF0 != 0x40:
            tpi.hdr_len += 4
            if not pskb_may_pull(skb, at + tpi.hdr_len):
                return None
    return tpi


def gre_build_header(skb: sk_buff, flags: int, proto: int, key: int, seq: int) -> None:
    """include/net/gre.h: push the header; there is room for it. Borrows skb.

    The checksum of a super-packet is left to segmentation: each segment gets its own.
    """
    data = HEAD.pack(flags & (GRE_CSUM | GRE_KEY | GRE_SEQ), proto)
    if flags & GRE_CSUM:
        data += bytes(4)
    if flags & GRE_KEY:
        data += WORD.pack(key)
    if flags & GRE_SEQ:
        data += WORD.pack(seq)
    skb_push_data(skb, data)
    if flags & GRE_CSUM and not skb.gso_size:
        partial = skb.ip_summed == CHECKSUM_PARTIAL
        total = lco_csum(skb) if partial else skb_checksum(skb, 0, skb.len)
        skb_store_bits(skb, 4, csum_fold(total).to_bytes(2, "big"))
