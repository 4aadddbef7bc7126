"""net/netfilter/nft_hash.c: `jhash`, of bytes in registers, and `symhash`, of the flow.

jhash is Linux's (include/linux/jhash.h, Bob Jenkins' lookup3): its values are the same. symhash is
a hash with the secret of the namespace, as on Linux.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from sys import byteorder
from typing import Any

from fastpath.net.hdr import iphdr_at, ipv6hdr_at
from fastpath.net.inetkey import inet_siphash
from stack.core.netfilter import NFPROTO_IPV4
from stack.core.rows import wide
from stack.core.secure_seq import SECURE_NAT
from stack.netfilter.nf_conntrack_tuple import skb_bytes
from stack.netfilter.nf_tables import (
    nft_ctx,
    nft_dump_register,
    nft_expr,
    nft_parse_register_load,
    nft_parse_register_store,
    nft_pktinfo,
    nft_register_expr,
    nft_regs,
)
from stack.netfilter.nft_expr_attrs import NFTA_HASH
from stack.netlink.nlattr import Attrs, NlError

NFT_HASH_JENKINS, NFT_HASH_SYM = 0, 1
JHASH_INITVAL = 0xDEADBEEF
U32 = 0xFFFFFFFF
MIXES = ((0, 2, 1, 4), (1, 0, 2, 6), (2, 1, 0, 8), (0, 2, 1, 16), (1, 0, 2, 19), (2, 1, 0, 4))
FINALS = ((2, 1, 14), (0, 2, 11), (1, 0, 25), (2, 1, 16), (0, 2, 4), (1, 0, 14), (2, 1, 24))


def rol32(word: int, shift: int) -> int:
    """include/linux/bitops.h."""
    return (word << shift | word >> 32 - shift) & U32


def jhash(key: bytes, initval: int) -> int:
    """include/linux/jhash.h."""
    state = [(JHASH_INITVAL + len(key) + initval) & U32] * 3
    at = 0
    while len(key) - at > 12:
        for i in range(3):
            word = int.from_bytes(key[at + 4 * i : at + 4 * i + 4], byteorder)
            state[i] = state[i] + word & U32
        for i, j, k, shift in MIXES:  # __jhash_mix
            state[i] = (state[i] - state[j] & U32) ^ rol32(state[j], shift)
            state[j] = state[j] + state[k] & U32
        at += 12
    if at == len(key):
        return state[2]
    last = key[at:].ljust(12, b"\0")
    for i in range(3):
        state[i] = state[i] + int.from_bytes(last[4 * i : 4 * i + 4], "little") & U32
    for i, j, shift in FINALS:  # __jhash_final
        state[i] = (state[i] ^ state[j]) - rol32(state[j], shift) & U32
    return state[2]


def reciprocal_scale(value: int, ep_ro: int) -> int:
    """include/linux/kernel.h: a 32-bit number scaled to 0 ... ep_ro - 1."""
    return value * ep_ro >> 32


def addresses(pkt: nft_pktinfo) -> tuple[wide, wide]:
    """Source and destination of a packet."""
    if pkt.pf == NFPROTO_IPV4:
        iph = iphdr_at(pkt.skb, 0)
        return iph.saddr, iph.daddr
    ip6h = ipv6hdr_at(pkt.skb, 0)
    return ip6h.saddr, ip6h.daddr


def skb_get_hash_symmetric(pkt: nft_pktinfo) -> int:
    """include/linux/skbuff.h: a symmetric 32-bit hash of a flow."""
    saddr, daddr = addresses(pkt)
    ports = skb_bytes(pkt.skb, pkt.thoff, 4) if pkt.tprot in (6, 17) and not pkt.fragoff else b""
    sport, dport = sorted((int.from_bytes(ports[:2], "big"), int.from_bytes(ports[2:], "big")))
    low, high = min(saddr, daddr), max(saddr, daddr)
    return inet_siphash(pkt.state.net.secret, low, high, sport << 16 | dport, SECURE_NAT) & U32


def nfqueue_hash(pkt: nft_pktinfo, total: int) -> int:
    """include/net/netfilter/nf_queue.h: which of `total` queues the packets between two addresses
    go to. Ports do not count, and protocols only for IPv4.
    """
    saddr, daddr = addresses(pkt)
    proto = iphdr_at(pkt.skb, 0).protocol if pkt.pf == NFPROTO_IPV4 else 0
    low, high = min(saddr, daddr), max(saddr, daddr)
    value = inet_siphash(pkt.state.net.secret, low, high, proto, SECURE_NAT) & U32
    return reciprocal_scale(value, total)


class nft_hash(nft_expr):
    """Write a hash of the LEN bytes of register SREG and SEED, or of the flow (TYPE), into DREG: a
    number from OFFSET on, below OFFSET + MODULUS.

    EINVAL: an attribute is missing; ERANGE: LEN or MODULUS is 0; EOVERFLOW; EOPNOTSUPP: TYPE.
    """

    name = "hash"
    attrs = NFTA_HASH

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        self.type: int = tb.get("NFTA_HASH_TYPE", NFT_HASH_JENKINS)
        if self.type not in (NFT_HASH_JENKINS, NFT_HASH_SYM):
            raise NlError(errno.EOPNOTSUPP)
        needed = ["NFTA_HASH_DREG", "NFTA_HASH_MODULUS"]
        if self.type == NFT_HASH_JENKINS:
            needed += ["NFTA_HASH_SREG", "NFTA_HASH_LEN"]
        if any(name not in tb for name in needed):
            raise NlError(errno.EINVAL)
        self.modulus: int = tb["NFTA_HASH_MODULUS"]
        self.offset: int = tb.get("NFTA_HASH_OFFSET", 0)
        self.len: int = tb.get("NFTA_HASH_LEN", 0)
        self.sreg = 0
        if self.type == NFT_HASH_JENKINS:
            if not self.len:
                raise NlError(errno.ERANGE)
            self.sreg = nft_parse_register_load(ctx, tb["NFTA_HASH_SREG"], self.len)
        if self.modulus < 1:
            raise NlError(errno.ERANGE)
        if self.offset + self.modulus - 1 > U32:
            raise NlError(errno.EOVERFLOW)
        self.autogen = "NFTA_HASH_SEED" not in tb
        self.seed: int = ctx.net.random.getrandbits(32) if self.autogen else tb["NFTA_HASH_SEED"]
        self.dreg = nft_parse_register_store(ctx, tb["NFTA_HASH_DREG"], 4)

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_hash.c nft_jhash_eval, nft_symhash_eval."""
        if self.type == NFT_HASH_SYM:
            value = skb_get_hash_symmetric(pkt)
        else:
            value = jhash(regs.load(self.sreg, self.len), self.seed)
        value = reciprocal_scale(value, self.modulus) + self.offset
        regs.store(self.dreg, value.to_bytes(4, byteorder))

    def dump(self, reset: bool = False) -> Mapping[str, Any]:
        """net/netfilter/nft_hash.c nft_jhash_dump, nft_symhash_dump."""
        told: dict[str, Any] = {}
        if self.sreg:
            told["NFTA_HASH_SREG"] = nft_dump_register(self.sreg)
        told["NFTA_HASH_DREG"] = nft_dump_register(self.dreg)
        if self.sreg:
            told["NFTA_HASH_LEN"] = self.len
        told["NFTA_HASH_MODULUS"] = self.modulus
        if self.sreg and not self.autogen:
            told["NFTA_HASH_SEED"] = self.seed
        if self.offset:
            told["NFTA_HASH_OFFSET"] = self.offset
        told["NFTA_HASH_TYPE"] = self.type
        return told


nft_register_expr(nft_hash)
