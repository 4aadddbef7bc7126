"""net/netfilter/nft_exthdr.c: extension headers of IPv6, options of IPv4 and TCP, chunks of SCTP;
options of TCP can be changed and removed.

    nft_exthdr.eval     by its registers one of
        get                 find the header, and read it
        set                 write into an option of TCP
        strip               tcp_strip_options: overwrite it with no-operations
    find                the header in the packet, by the protocol (NFT_EXTHDR_OP_*)
        ipv6_find_hdr, ipv4_find_option, options of tcp_header, sctp_find_chunk

xt_target.py changes options with skb_replace16 and tcp_strip_options, too. xt_ipv6.py calls
ipv6_find_hdr. There is no state but that of the expression.
"""

from __future__ import annotations

import errno
from collections.abc import Container, Mapping
from sys import byteorder
from typing import Any

from fastpath.base.csum import csum_replace2
from fastpath.base.skbuff import (
    CHECKSUM_PARTIAL,
    pskb_may_pull,
    skb_cow,
    skb_store_bits,
)
from fastpath.net.hdr import iphdr_at, ipv6hdr_at, tcphdr_at
from stack.core.netfilter import NF_DROP, NFPROTO_IPV4, NFPROTO_IPV6
from stack.core.uapi import IP_HLEN, IPPROTO_FRAGMENT, IPPROTO_TCP, IPV6_HLEN, TCP_HLEN
from stack.netfilter.nf_conntrack_tuple import skb_bytes
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
from stack.netfilter.nft_expr_attrs import NFTA_EXTHDR
from stack.netlink.nlattr import Attrs, NlError

NFT_EXTHDR_OP_IPV6, NFT_EXTHDR_OP_TCPOPT, NFT_EXTHDR_OP_IPV4 = 0, 1, 2
NFT_EXTHDR_OP_SCTP, NFT_EXTHDR_OP_DCCP = 3, 4
NFT_EXTHDR_F_PRESENT = 1
IPOPT_END, IPOPT_NOOP = 0, 1
IPOPT_TYPES = (7, 131, 137, 148)
"""IPOPT_RR, IPOPT_LSRR, IPOPT_SSRR, IPOPT_RA."""
TCPOPT_NOP = 1
IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_AH, IPPROTO_DSTOPTS = 0, 43, 51, 60
IPPROTO_SCTP, IPPROTO_MH = 132, 135
EXTENSIONS = (IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_DSTOPTS, IPPROTO_AH, IPPROTO_FRAGMENT)
Found = tuple[int, int]


def skb_replace16(pkt: nft_pktinfo, at: int, value: int) -> bool:
    """Write two bytes `at` after the start of the TCP header, and update its checksum.

    False: there is no room for a copy of the packet.
    """
    skb = pkt.skb
    place = pkt.thoff + at
    old = int.from_bytes(skb_bytes(skb, place, 2), "big")
    if old == value:
        return True
    if not skb_cow(skb, 0) or not pskb_may_pull(skb, pkt.thoff + TCP_HLEN):
        return False
    skb_store_bits(skb, place, value.to_bytes(2, "big"))
    if skb.ip_summed != CHECKSUM_PARTIAL:
        if at & 1:  # it lies across two words of the checksum
            old, value = swab16(old), swab16(value)
        th = tcphdr_at(skb, pkt.thoff)
        th.check = csum_replace2(th.check, old, value)
    return True


def swab16(value: int) -> int:
    """include/uapi/linux/swab.h: swap the two bytes."""
    return value >> 8 | (value & 0xFF) << 8


def options(data: bytes, start: int) -> list[tuple[int, int, int]]:
    """Kind, offset and length of each option of IPv4 or TCP in a header, from `start` on."""
    found = []
    at = start
    while at < len(data) and data[at] != IPOPT_END:
        if data[at] == IPOPT_NOOP:
            found.append((data[at], at, 1))
            at += 1
            continue
        size = data[at + 1] if at + 1 < len(data) else 0
        if size < 2 or at + size > len(data):
            break
        found.append((data[at], at, size))
        at += size
    return found


def ipv6_find_hdr(pkt: nft_pktinfo, target: int) -> Found | None:
    """net/ipv6/exthdrs_core.c: offset and size of an extension header; None: there is none."""
    skb = pkt.skb
    kind, at = ipv6hdr_at(skb, 0).nexthdr, IPV6_HLEN
    while kind in EXTENSIONS or kind == IPPROTO_MH:
        head = skb_bytes(skb, at, 8)
        if len(head) < 8:
            return None
        size = 8 if kind == IPPROTO_FRAGMENT else (head[1] + 1) * 8
        if kind == IPPROTO_AH:
            size = (head[1] + 2) * 4
        if kind == target:
            return at, size
        if kind == IPPROTO_MH or (
            kind == IPPROTO_FRAGMENT and head[2] << 8 & 0xFF00 | head[3] & ~7
        ):
            return None
        kind, at = head[0], at + size
    return (at, skb.len - at) if kind == target else None


def ipv4_find_option(pkt: nft_pktinfo, target: int) -> Found | None:
    """net/netfilter/nft_exthdr.c ipv4_find_option."""
    data = skb_bytes(pkt.skb, 0, iphdr_at(pkt.skb, 0).ihl * 4)
    return first(options(data, IP_HLEN), target)


def first(found: list[tuple[int, int, int]], target: int) -> Found | None:
    """Offset and length of the first option of that kind."""
    return next(((at, size) for kind, at, size in found if kind == target), None)


def tcp_header(pkt: nft_pktinfo) -> bytes:
    """net/netfilter/nft_exthdr.c nft_tcp_header_pointer: with its options; empty: there is none."""
    if not pkt.flags & NFT_PKTINFO_L4PROTO or pkt.tprot != IPPROTO_TCP or pkt.fragoff:
        return b""
    head = skb_bytes(pkt.skb, pkt.thoff, TCP_HLEN)
    if len(head) < TCP_HLEN:
        return b""
    size = (head[12] >> 4) * 4
    data = skb_bytes(pkt.skb, pkt.thoff, size)
    return data if TCP_HLEN <= size == len(data) else b""


def tcp_strip_options(pkt: nft_pktinfo, kinds: Container[int]) -> bool:
    """Overwrite TCP options with no-operations. False: the packet cannot be written."""
    data = tcp_header(pkt)
    for kind, at, size in options(data, TCP_HLEN):
        if kind not in kinds or kind == TCPOPT_NOP:
            continue
        data = data[:at] + bytes((TCPOPT_NOP,)) * size + data[at + size :]
        for word in range(at & ~1, at + size, 2):
            if not skb_replace16(pkt, word, int.from_bytes(data[word : word + 2], "big")):
                return False
    return True


def sctp_find_chunk(pkt: nft_pktinfo, target: int) -> Found | None:
    """nft_exthdr_sctp_eval: offset and length of a chunk, from the start of the SCTP header."""
    if not pkt.flags & NFT_PKTINFO_L4PROTO or pkt.tprot != IPPROTO_SCTP or pkt.fragoff:
        return None
    data = skb_bytes(pkt.skb, pkt.thoff, pkt.skb.len)
    at = 12
    while at + 4 <= len(data):
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at] == target:
            return at, size
        if size < 4:
            return None
        at += size + 3 & ~3
    return None


class nft_exthdr(nft_expr):
    """Read LEN bytes at OFFSET of the header, option or chunk TYPE (of which protocol: OP) into the
    register DREG; with NFT_EXTHDR_F_PRESENT in FLAGS whether there is one. Or write SREG into a TCP
    option. With neither register the option is overwritten with no-operations.

    EINVAL: an attribute is missing, or not allowed; ERANGE: OFFSET is over 255; EOPNOTSUPP.
    """

    name = "exthdr"
    attrs = NFTA_EXTHDR

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        self.op: int = tb.get("NFTA_EXTHDR_OP", NFT_EXTHDR_OP_IPV6)
        sets, gets = "NFTA_EXTHDR_SREG" in tb, "NFTA_EXTHDR_DREG" in tb
        if sets and gets:
            raise NlError(errno.EOPNOTSUPP)
        known = (NFT_EXTHDR_OP_IPV6, NFT_EXTHDR_OP_IPV4, NFT_EXTHDR_OP_SCTP)
        if self.op != NFT_EXTHDR_OP_TCPOPT and not (gets and self.op in known):
            raise NlError(errno.EOPNOTSUPP)
        if self.op == NFT_EXTHDR_OP_IPV4 and ctx.family == NFPROTO_IPV6:
            raise NlError(errno.EOPNOTSUPP)
        needed = ["NFTA_EXTHDR_TYPE"]
        if sets or gets:
            needed += ["NFTA_EXTHDR_OFFSET", "NFTA_EXTHDR_LEN"]
        if any(name not in tb for name in needed):
            raise NlError(errno.EINVAL)
        self.type: int = tb["NFTA_EXTHDR_TYPE"]
        self.offset: int = tb.get("NFTA_EXTHDR_OFFSET", 0)
        self.len: int = tb.get("NFTA_EXTHDR_LEN", 0)
        self.flags: int = tb.get("NFTA_EXTHDR_FLAGS", 0)
        self.strips = not sets and not gets
        self.sreg = self.dreg = 0
        if gets:
            self.init_get(ctx, tb)
        elif sets:
            self.init_set(ctx, tb)
        elif self.offset or self.len or self.flags:
            raise NlError(errno.EINVAL)

    def init_get(self, ctx: nft_ctx, tb: Attrs) -> None:
        """net/netfilter/nft_exthdr.c nft_exthdr_init, nft_exthdr_ipv4_init."""
        if self.offset > 0xFF:
            raise NlError(errno.ERANGE)
        if self.flags & ~NFT_EXTHDR_F_PRESENT:
            raise NlError(errno.EINVAL)
        if self.op == NFT_EXTHDR_OP_IPV4 and self.type not in IPOPT_TYPES:
            raise NlError(errno.EOPNOTSUPP)
        self.dreg = nft_parse_register_store(ctx, tb["NFTA_EXTHDR_DREG"], self.len)

    def init_set(self, ctx: nft_ctx, tb: Attrs) -> None:
        """net/netfilter/nft_exthdr.c nft_exthdr_tcp_set_init."""
        if "NFTA_EXTHDR_FLAGS" in tb:
            raise NlError(errno.EINVAL)
        if self.offset < 2 or self.len not in (2, 4):
            raise NlError(errno.EOPNOTSUPP)
        self.sreg = nft_parse_register_load(ctx, tb["NFTA_EXTHDR_SREG"], self.len)

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_exthdr.c nft_exthdr_*_eval."""
        if self.strips:
            self.strip(regs, pkt)
        elif self.sreg:
            self.set(regs, pkt)
        else:
            self.get(regs, pkt)

    def find(self, pkt: nft_pktinfo) -> tuple[int, Found | None]:
        """The offset of the header or option, relative to `offset` in the packet."""
        if self.op == NFT_EXTHDR_OP_TCPOPT:
            return pkt.thoff, first(options(tcp_header(pkt), TCP_HLEN), self.type)
        if self.op == NFT_EXTHDR_OP_SCTP:
            return pkt.thoff, sctp_find_chunk(pkt, self.type)
        if self.op == NFT_EXTHDR_OP_IPV4:
            v4 = pkt.pf == NFPROTO_IPV4
            return 0, ipv4_find_option(pkt, self.type) if v4 else None
        return 0, ipv6_find_hdr(pkt, self.type) if pkt.pf == NFPROTO_IPV6 else None

    def get(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """Read it, or whether it is present."""
        base, found = self.find(pkt)
        if self.flags & NFT_EXTHDR_F_PRESENT:
            size = 1 if self.op in (NFT_EXTHDR_OP_TCPOPT, NFT_EXTHDR_OP_SCTP) else 4
            regs.store(self.dreg, (found is not None).to_bytes(size, byteorder))
            return
        bounded = self.op == NFT_EXTHDR_OP_TCPOPT
        if found is None or (bounded and self.offset + self.len > found[1]):
            regs.verdict = NFT_BREAK
            return
        data = skb_bytes(pkt.skb, base + found[0] + self.offset, self.len)
        if len(data) < self.len:
            regs.verdict = NFT_BREAK
        else:
            regs.store(self.dreg, data)

    def set(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_exthdr.c nft_exthdr_tcp_set_eval; MSS is never raised."""
        header = tcp_header(pkt)
        found = first(options(header, TCP_HLEN), self.type)
        if not header or (found is not None and found[1] < self.offset + self.len):
            regs.verdict = NFT_BREAK
            return
        if found is None:
            return
        at = found[0] + self.offset
        new = regs.load(self.sreg, self.len)
        if self.type == 2 and self.len == 2:  # TCPOPT_MSS
            old = skb_bytes(pkt.skb, pkt.thoff + at, 2)
            if old <= new:
                return
        for part in range(0, self.len, 2):
            value = int.from_bytes(new[part : part + 2], "big")
            if not skb_replace16(pkt, at + part, value):
                regs.verdict = NFT_BREAK
                return

    def strip(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_exthdr.c nft_exthdr_tcp_strip_eval."""
        if not tcp_header(pkt):
            regs.verdict = NFT_BREAK
        elif not tcp_strip_options(pkt, {self.type}):
            regs.verdict = NF_DROP

    def dump(self, reset: bool = False) -> Mapping[str, Any]:
        """net/netfilter/nft_exthdr.c nft_exthdr_dump, _dump_set, _dump_strip."""
        return {
            "NFTA_EXTHDR_DREG": nft_dump_register(self.dreg) if self.dreg else None,
            "NFTA_EXTHDR_SREG": nft_dump_register(self.sreg) if self.sreg else None,
            "NFTA_EXTHDR_TYPE": self.type,
            "NFTA_EXTHDR_OFFSET": self.offset,
            "NFTA_EXTHDR_LEN": self.len,
            "NFTA_EXTHDR_FLAGS": self.flags,
            "NFTA_EXTHDR_OP": self.op,
        }


nft_register_expr(nft_exthdr)
