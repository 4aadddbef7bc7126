"""RFC 4884: where the extensions of an ICMP error begin, for both families (net/ipv4/icmp.c).

    ICMP header | quoted datagram, padded | version, checksum | objects: length, class, type, data

The header has the length of the quoted datagram, in words of 4 bytes (ICMP) or 8 (ICMPv6). For
example, routers append MPLS labels (RFC 4950).
"""

from __future__ import annotations

import struct
import sys

from fastpath.base.csum import csum_fold
from fastpath.base.skbuff import sk_buff, skb_checksum, skb_copy_bits, skb_transport_offset

SO_EE_RFC4884_FLAG_INVALID = 1
EE_RFC4884 = struct.Struct("=HBx")
"""struct sock_ee_data_rfc4884, the format of ee_data."""
EXT_HDR = struct.Struct("!BxH")
OBJ_HDR = struct.Struct("!HBB")
VERSION = 2
LEAST = 128
"""The minimum of quoted bytes if extensions follow."""


def ip_icmp_error_rfc4884_validate(skb: sk_buff, off: int) -> bool:
    """net/ipv4/icmp.c: whether a complete extension structure begins at `off` of the data."""
    version, checksum = EXT_HDR.unpack(skb_copy_bits(skb, off, EXT_HDR.size))
    if version >> 4 != VERSION:
        return True
    if checksum and csum_fold(skb_checksum(skb, off, skb.len - off)):
        return False
    off += EXT_HDR.size
    while off < skb.len:
        if off + OBJ_HDR.size > skb.len:
            return False
        olen: int = OBJ_HDR.unpack(skb_copy_bits(skb, off, OBJ_HDR.size))[0]
        if olen < OBJ_HDR.size:
            return False
        off += olen
    return off == skb.len


def ip_icmp_error_rfc4884(skb: sk_buff, thlen: int, at: int, unit: int) -> int:
    """net/ipv4/icmp.c: ee_data of an ICMP error with data at its payload; 0: no extensions.

    `thlen`: bytes of the ICMP header, whose byte `at` is the length of the quoted datagram in units
    of `unit` bytes. ee_data has the offset of the extensions in the payload.
    """
    icmp = skb_transport_offset(skb)
    hlen = -icmp - thlen
    off: int = skb_copy_bits(skb, icmp + at, 1)[0] * unit
    if off < LEAST or off < hlen:
        return 0
    off -= hlen
    if off + EXT_HDR.size > skb.len:
        return 0
    flags = 0 if ip_icmp_error_rfc4884_validate(skb, off) else SO_EE_RFC4884_FLAG_INVALID
    return int.from_bytes(EE_RFC4884.pack(off, flags), sys.byteorder)
