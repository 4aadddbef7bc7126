"""net/netfilter/nft_payload.c: read bytes of a packet into a register, or write them."""

from __future__ import annotations

import errno
from typing import Any

from fastpath.base.csum import csum_add, csum_fold, csum_partial, csum_sub
from fastpath.base.skbuff import (
    CHECKSUM_COMPLETE,
    CHECKSUM_PARTIAL,
    sk_buff,
    skb_checksum,
    skb_copy_bits,
    skb_cow,
    skb_headroom,
    skb_mac_header_was_set,
    skb_mac_offset,
    skb_pull,
    skb_push,
    skb_store_bits,
)
from stack.core.netfilter import NFPROTO_IPV4
from stack.core.uapi import IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP
from stack.netfilter.nf_tables import (
    NFT_BREAK,
    NFT_PKTINFO_L4PROTO,
    nft_ctx,
    nft_dump_register,
    nft_expr,
    nft_parse_register_load,
    nft_parse_register_store,
    nft_pktinfo,
    nft_register_expr,
    nft_regs,
)
from stack.netlink.nlattr import BE32, Attr, Attrs, AttrTable, NlError

NFT_PAYLOAD_LL_HEADER, NFT_PAYLOAD_NETWORK_HEADER, NFT_PAYLOAD_TRANSPORT_HEADER = range(3)
NFT_PAYLOAD_INNER_HEADER = 3
NFT_PAYLOAD_CSUM_NONE, NFT_PAYLOAD_CSUM_INET = 0, 1
NFT_PAYLOAD_L4CSUM_PSEUDOHDR = 1
NO_OFFSET = 1 << 30
"""The offset of a header that a packet does not have."""
CSUM_MANGLED_0 = 0xFFFF
M16, M32 = 0xFFFF, 0xFFFFFFFF
IPPROTO_UDPLITE = 136
MOST_LENGTH = 255
L4_CHECK = {IPPROTO_TCP: 16, IPPROTO_UDP: 6, IPPROTO_UDPLITE: 6, IPPROTO_ICMPV6: 2}
"""The checksum's offset in transport headers whose checksum covers a pseudo header."""


def nft_payload_base(pkt: nft_pktinfo, base: int) -> int:
    """The offset of a header from skb.data; NO_OFFSET: the packet has none."""
    skb = pkt.skb
    if base == NFT_PAYLOAD_LL_HEADER:
        if not skb_mac_header_was_set(skb) or not skb.mac_len:
            return NO_OFFSET
        return skb_mac_offset(skb)
    if base == NFT_PAYLOAD_NETWORK_HEADER:
        return 0
    if not pkt.flags & NFT_PKTINFO_L4PROTO or pkt.fragoff:
        return NO_OFFSET
    if base == NFT_PAYLOAD_TRANSPORT_HEADER:
        return pkt.thoff
    return nft_payload_inner_offset(pkt)


def nft_payload_inner_offset(pkt: nft_pktinfo) -> int:
    """net/netfilter/nft_payload.c: the offset of the data after the transport header."""
    if pkt.tprot == IPPROTO_UDP:
        return pkt.thoff + 8
    if pkt.tprot == IPPROTO_TCP:
        head = packet_bytes(pkt.skb, pkt.thoff + 12, 1)
        return NO_OFFSET if head is None else pkt.thoff + (head[0] >> 4) * 4
    return NO_OFFSET


def packet_bytes(skb: sk_buff, offset: int, length: int) -> bytes | None:
    """skb_copy_bits, also of bytes before skb.data; None: the packet is too short."""
    if offset >= 0:
        return skb_copy_bits(skb, offset, length) if offset + length <= skb.len else None
    before = -offset
    if before > skb_headroom(skb) or length > before + skb.len:
        return None
    skb_push(skb, before)
    data = skb_copy_bits(skb, 0, length)
    skb_pull(skb, before)
    return data


def nft_csum_replace(check: int, fsum: int, tsum: int) -> int:
    """net/netfilter/nft_payload.c: a checksum when the bytes summed to `fsum`, now to `tsum`."""
    return csum_fold(csum_add(csum_sub(~check & M16, fsum), tsum)) or CSUM_MANGLED_0


class nft_payload_expr(nft_expr):
    """Read LEN bytes at OFFSET of the header BASE (NFT_PAYLOAD_*) into the register DREG, or write
    SREG there and correct the checksums that CSUM_TYPE, _OFFSET and _FLAGS name. The rule ends for
    a packet without these bytes.

    EINVAL: an attribute is missing, not one register; ERANGE: a number is too large; EOPNOTSUPP.
    """

    name = "payload"
    attrs = AttrTable(
        "NFTA_PAYLOAD",
        Attr("NFTA_PAYLOAD_DREG", 1, BE32),
        Attr("NFTA_PAYLOAD_BASE", 2, BE32),
        Attr("NFTA_PAYLOAD_OFFSET", 3, BE32),
        Attr("NFTA_PAYLOAD_LEN", 4, BE32),
        Attr("NFTA_PAYLOAD_SREG", 5, BE32),
        Attr("NFTA_PAYLOAD_CSUM_TYPE", 6, BE32),
        Attr("NFTA_PAYLOAD_CSUM_OFFSET", 7, BE32),
        Attr("NFTA_PAYLOAD_CSUM_FLAGS", 8, BE32),
    )

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        if any(f"NFTA_PAYLOAD_{name}" not in tb for name in ("BASE", "OFFSET", "LEN")):
            raise NlError(errno.EINVAL)
        self.base: int = tb["NFTA_PAYLOAD_BASE"]
        self.offset: int = tb["NFTA_PAYLOAD_OFFSET"]
        self.len: int = tb["NFTA_PAYLOAD_LEN"]
        if self.base > NFT_PAYLOAD_INNER_HEADER:
            raise NlError(errno.EOPNOTSUPP)
        self.writes = "NFTA_PAYLOAD_SREG" in tb
        if self.writes == ("NFTA_PAYLOAD_DREG" in tb):
            raise NlError(errno.EINVAL)
        if self.len > MOST_LENGTH or self.offset > M16:
            raise NlError(errno.ERANGE)
        self.csum_type: int = tb.get("NFTA_PAYLOAD_CSUM_TYPE", NFT_PAYLOAD_CSUM_NONE)
        self.csum_offset: int = tb.get("NFTA_PAYLOAD_CSUM_OFFSET", 0)
        self.csum_flags: int = tb.get("NFTA_PAYLOAD_CSUM_FLAGS", 0)
        if not self.writes:
            self.reg = nft_parse_register_store(ctx, tb["NFTA_PAYLOAD_DREG"], self.len)
            return
        if self.csum_offset > MOST_LENGTH:
            raise NlError(errno.ERANGE)
        if self.csum_flags & ~NFT_PAYLOAD_L4CSUM_PSEUDOHDR:
            raise NlError(errno.EINVAL)
        if self.csum_type not in (NFT_PAYLOAD_CSUM_NONE, NFT_PAYLOAD_CSUM_INET):
            raise NlError(errno.EOPNOTSUPP)
        self.reg = nft_parse_register_load(ctx, tb["NFTA_PAYLOAD_SREG"], self.len)

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_payload.c nft_payload_eval, nft_payload_set_eval."""
        base = nft_payload_base(pkt, self.base)
        if base == NO_OFFSET:
            regs.verdict = NFT_BREAK
        elif self.writes:
            if not self._write(pkt, base, regs.load(self.reg, self.len)):
                regs.verdict = NFT_BREAK
        else:
            data = packet_bytes(pkt.skb, base + self.offset, self.len)
            if data is None:
                regs.verdict = NFT_BREAK
            else:
                regs.store(self.reg, data)

    def _write(self, pkt: nft_pktinfo, base: int, data: bytes) -> bool:
        """Write into the packet and correct the checksums over it; False: it is too short."""
        skb = pkt.skb
        at = base + self.offset
        before = -min(at, 0)
        if at + self.len > skb.len or before > skb_headroom(skb) or not skb_cow(skb, before):
            return False
        unfinished = skb.ip_summed == CHECKSUM_PARTIAL
        transport = self.base >= NFT_PAYLOAD_TRANSPORT_HEADER
        covered = self.csum_type == NFT_PAYLOAD_CSUM_INET or self.csum_flags
        if covered and at >= 0 and not (transport and unfinished):
            fsum = skb_checksum(skb, at, self.len, 0)
            tsum = csum_partial(data)
            if self.csum_type == NFT_PAYLOAD_CSUM_INET and not replace_check(
                skb, base + self.csum_offset, fsum, tsum
            ):
                return False
            if self.csum_flags and not nft_payload_l4csum_update(pkt, fsum, tsum):
                return False
        if before:
            skb_push(skb, before)
        skb_store_bits(skb, at + before, data)
        if before:
            skb_pull(skb, before)
        return True

    def dump(self, reset: bool = False) -> dict[str, Any]:
        """net/netfilter/nft_payload.c nft_payload_dump, nft_payload_set_dump."""
        told = {
            f"NFTA_PAYLOAD_{'SREG' if self.writes else 'DREG'}": nft_dump_register(self.reg),
            "NFTA_PAYLOAD_BASE": self.base,
            "NFTA_PAYLOAD_OFFSET": self.offset,
            "NFTA_PAYLOAD_LEN": self.len,
        }
        if self.writes:
            told |= {
                "NFTA_PAYLOAD_CSUM_TYPE": self.csum_type,
                "NFTA_PAYLOAD_CSUM_OFFSET": self.csum_offset,
                "NFTA_PAYLOAD_CSUM_FLAGS": self.csum_flags,
            }
        return told


def replace_check(skb: sk_buff, at: int, fsum: int, tsum: int) -> bool:
    """net/netfilter/nft_payload.c nft_payload_csum_inet; False: the packet is too short."""
    if at < 0 or at + 2 > skb.len:
        return False
    check = int.from_bytes(skb_copy_bits(skb, at, 2), "big")
    skb_store_bits(skb, at, nft_csum_replace(check, fsum, tsum).to_bytes(2, "big"))
    return True


def nft_payload_l4csum_update(pkt: nft_pktinfo, fsum: int, tsum: int) -> bool:
    """net/netfilter/nft_payload.c: an address changed, which the transport's checksum covers."""
    skb = pkt.skb
    offset = L4_CHECK.get(pkt.tprot) if pkt.flags & NFT_PKTINFO_L4PROTO else None
    if offset is None or pkt.fragoff or (pkt.pf == NFPROTO_IPV4 and pkt.tprot == IPPROTO_ICMPV6):
        return True
    at = pkt.thoff + offset
    if at + 2 > skb.len:
        return False
    check = int.from_bytes(skb_copy_bits(skb, at, 2), "big")
    if not check and pkt.tprot in (IPPROTO_UDP, IPPROTO_UDPLITE):
        return True
    if skb.ip_summed == CHECKSUM_PARTIAL:
        # The field has only the sum of the pseudo header, not complemented.
        check = ~csum_fold(csum_add(csum_sub(check, fsum), tsum)) & M16
    else:
        check = nft_csum_replace(check, fsum, tsum)
        if skb.ip_summed == CHECKSUM_COMPLETE:
            skb.csum = ~csum_add(csum_sub(~skb.csum & M32, fsum), tsum) & M32
    skb_store_bits(skb, at, check.to_bytes(2, "big"))
    return True


nft_register_expr(nft_payload_expr)
