"""net/netfilter/nft_bitwise.c: masks, exclusive or and shifts of registers."""

from __future__ import annotations

import errno
from sys import byteorder
from typing import Any

from stack.netfilter.nf_tables import (
    nft_ctx,
    nft_dump_register,
    nft_expr,
    nft_parse_register_load,
    nft_parse_register_store,
    nft_pktinfo,
    nft_register_expr,
    nft_regs,
    nft_value_init,
)
from stack.netfilter.nft_attrs import NFTA_DATA, nested
from stack.netlink.nlattr import BE32, Attr, Attrs, AttrTable, NlError

NFT_BITWISE_MASK_XOR, NFT_BITWISE_LSHIFT, NFT_BITWISE_RSHIFT = range(3)
NFT_BITWISE_AND, NFT_BITWISE_OR, NFT_BITWISE_XOR = range(3, 6)
BITS = 32
M32 = 0xFFFFFFFF
MOST_LENGTH = 255


class nft_bitwise_expr(nft_expr):
    """Change the bits of LEN bytes from register SREG to DREG. OP is a mask and an exclusive or
    (MASK, XOR), a shift (by DATA), or an operation with DATA or the register SREG2.

    EINVAL: not the attributes of OP; ERANGE: more than 255 bytes; EOPNOTSUPP: no such OP.
    """

    name = "bitwise"
    attrs = AttrTable(
        "NFTA_BITWISE",
        Attr("NFTA_BITWISE_SREG", 1, BE32),
        Attr("NFTA_BITWISE_DREG", 2, BE32),
        Attr("NFTA_BITWISE_LEN", 3, BE32),
        nested("NFTA_BITWISE_MASK", 4, NFTA_DATA),
        nested("NFTA_BITWISE_XOR", 5, NFTA_DATA),
        Attr("NFTA_BITWISE_OP", 6, BE32),
        nested("NFTA_BITWISE_DATA", 7, NFTA_DATA),
        Attr("NFTA_BITWISE_SREG2", 8, BE32),
    )

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        if any(f"NFTA_BITWISE_{name}" not in tb for name in ("SREG", "DREG", "LEN")):
            raise NlError(errno.EINVAL)
        self.len: int = tb["NFTA_BITWISE_LEN"]
        if self.len > MOST_LENGTH:
            raise NlError(errno.ERANGE)
        self.sreg = nft_parse_register_load(ctx, tb["NFTA_BITWISE_SREG"], self.len)
        self.dreg = nft_parse_register_store(ctx, tb["NFTA_BITWISE_DREG"], self.len)
        self.op: int = tb.get("NFTA_BITWISE_OP", NFT_BITWISE_MASK_XOR)
        if self.op > NFT_BITWISE_XOR:
            raise NlError(errno.EOPNOTSUPP)
        self.sreg2 = 0
        self.mask = self.xor = self.data = b""
        has = {name for name in ("MASK", "XOR", "DATA", "SREG2") if f"NFTA_BITWISE_{name}" in tb}
        if self.op == NFT_BITWISE_MASK_XOR:
            if has != {"MASK", "XOR"}:
                raise NlError(errno.EINVAL)
            self.mask = nft_value_init(tb["NFTA_BITWISE_MASK"], self.len)
            self.xor = nft_value_init(tb["NFTA_BITWISE_XOR"], self.len)
        elif self.op in (NFT_BITWISE_LSHIFT, NFT_BITWISE_RSHIFT):
            if has != {"DATA"}:
                raise NlError(errno.EINVAL)
            self.data = nft_value_init(tb["NFTA_BITWISE_DATA"], BITS // 8)
            if int.from_bytes(self.data, byteorder) >= BITS:
                raise NlError(errno.EINVAL)
        elif has == {"DATA"}:
            self.data = nft_value_init(tb["NFTA_BITWISE_DATA"], self.len)
        elif has == {"SREG2"}:
            self.sreg2 = nft_parse_register_load(ctx, tb["NFTA_BITWISE_SREG2"], self.len)
        else:
            raise NlError(errno.EINVAL)

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_bitwise.c nft_bitwise_eval."""
        source = regs.load(self.sreg, self.len)
        op = self.op
        if op == NFT_BITWISE_MASK_XOR:
            regs.store(self.dreg, xored(anded(source, self.mask), self.xor))
            return
        if op in (NFT_BITWISE_LSHIFT, NFT_BITWISE_RSHIFT):
            # Whole words, as the kernel shifts them.
            words = -(-self.len // 4)
            regs.store(self.dreg, self.shifted(regs.load(self.sreg, words * 4), words))
            return
        other = regs.load(self.sreg2, self.len) if self.sreg2 else self.data
        if op == NFT_BITWISE_AND:
            regs.store(self.dreg, anded(source, other))
        elif op == NFT_BITWISE_XOR:
            regs.store(self.dreg, xored(source, other))
        else:
            regs.store(self.dreg, bytes(a | b for a, b in zip(source, other, strict=True)))

    def shifted(self, source: bytes, words: int) -> bytes:
        """net/netfilter/nft_bitwise.c nft_bitwise_eval_lshift, _rshift: the first word is high."""
        shift = int.from_bytes(self.data, byteorder)
        whole = 0
        for at in range(words):
            whole = whole << BITS | int.from_bytes(source[at * 4 : at * 4 + 4], byteorder)
        whole = whole << shift if self.op == NFT_BITWISE_LSHIFT else whole >> shift
        parts = [whole >> BITS * (words - 1 - at) & M32 for at in range(words)]
        return b"".join(part.to_bytes(4, byteorder) for part in parts)

    def dump(self, reset: bool = False) -> dict[str, Any]:
        """net/netfilter/nft_bitwise.c nft_bitwise_dump."""
        told: dict[str, Any] = {
            "NFTA_BITWISE_SREG": nft_dump_register(self.sreg),
            "NFTA_BITWISE_DREG": nft_dump_register(self.dreg),
            "NFTA_BITWISE_LEN": self.len,
            "NFTA_BITWISE_OP": self.op,
        }
        if self.op == NFT_BITWISE_MASK_XOR:
            told["NFTA_BITWISE_MASK"] = {"NFTA_DATA_VALUE": self.mask}
            told["NFTA_BITWISE_XOR"] = {"NFTA_DATA_VALUE": self.xor}
        elif self.sreg2:
            told["NFTA_BITWISE_SREG2"] = nft_dump_register(self.sreg2)
        else:
            told["NFTA_BITWISE_DATA"] = {"NFTA_DATA_VALUE": self.data}
        return told


def anded(one: bytes, other: bytes) -> bytes:
    """Bitwise AND."""
    return bytes(a & b for a, b in zip(one, other, strict=True))


def xored(one: bytes, other: bytes) -> bytes:
    """Bitwise XOR."""
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


nft_register_expr(nft_bitwise_expr)
