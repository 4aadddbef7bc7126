"""net/netfilter/nft_queue.c: `queue`: packets go to a listener (stack/core/nf_queue.py)."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from sys import byteorder
from typing import Any

from stack.core.netfilter import NF_QUEUE_NR, NF_VERDICT_FLAG_QUEUE_BYPASS
from stack.netfilter.nf_tables import (
    nft_ctx,
    nft_dump_register,
    nft_expr,
    nft_parse_register_load,
    nft_pktinfo,
    nft_register_expr,
    nft_regs,
)
from stack.netfilter.nft_expr_attrs import NFTA_QUEUE
from stack.netfilter.nft_hash import nfqueue_hash
from stack.netlink.nlattr import Attrs, NlError

NFT_QUEUE_FLAG_BYPASS, NFT_QUEUE_FLAG_CPU_FANOUT, NFT_QUEUE_FLAG_MASK = 1, 2, 3


class nft_queue(nft_expr):
    """To queue `num`, to one of `total` queues from `num` on, or to the one in a register."""

    name = "queue"
    attrs = NFTA_QUEUE

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        by_num, by_reg = "NFTA_QUEUE_NUM" in tb, "NFTA_QUEUE_SREG_QNUM" in tb
        if by_num == by_reg or (by_reg and "NFTA_QUEUE_TOTAL" in tb):
            raise NlError(errno.EINVAL)
        self.num: int = tb.get("NFTA_QUEUE_NUM", 0)
        self.total: int = tb.get("NFTA_QUEUE_TOTAL", 1)
        self.sreg = 0
        if by_num:
            if not self.total:
                raise NlError(errno.EINVAL)
            if self.total - 1 + self.num > 0xFFFF:
                raise NlError(errno.ERANGE)
        else:
            self.sreg = nft_parse_register_load(ctx, tb["NFTA_QUEUE_SREG_QNUM"], 4)
        self.flags: int = tb.get("NFTA_QUEUE_FLAGS", 0)
        fans_out = self.flags & NFT_QUEUE_FLAG_CPU_FANOUT
        if self.flags & ~NFT_QUEUE_FLAG_MASK:
            raise NlError(errno.EINVAL)
        if by_reg and fans_out:
            raise NlError(errno.EOPNOTSUPP)

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_queue.c nft_queue_eval, nft_queue_sreg_eval. Fan-out by CPU: always the
        first one."""
        queue = self.num
        if self.sreg:
            queue = int.from_bytes(regs.load(self.sreg, 4), byteorder)
        elif self.total > 1 and not self.flags & NFT_QUEUE_FLAG_CPU_FANOUT:
            queue += nfqueue_hash(pkt, self.total)
        bypass = NF_VERDICT_FLAG_QUEUE_BYPASS if self.flags & NFT_QUEUE_FLAG_BYPASS else 0
        regs.verdict = NF_QUEUE_NR(queue) | bypass

    def dump(self, reset: bool = False) -> Mapping[str, Any]:
        """net/netfilter/nft_queue.c nft_queue_dump, nft_queue_sreg_dump."""
        if self.sreg:
            sreg = nft_dump_register(self.sreg)
            return {"NFTA_QUEUE_SREG_QNUM": sreg, "NFTA_QUEUE_FLAGS": self.flags}
        return {
            "NFTA_QUEUE_NUM": self.num,
            "NFTA_QUEUE_TOTAL": self.total,
            "NFTA_QUEUE_FLAGS": self.flags,
        }


nft_register_expr(nft_queue)
