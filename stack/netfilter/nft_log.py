"""net/netfilter/nft_log.c: `log`, to a group of programs (nf_log.py), or to the kernel's log.

Nothing is written to the latter. Linux too writes nothing for a namespace other than the first one,
unless sysctl net.netfilter.nf_log_all_netns is set.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

from stack.netfilter.nf_log import nf_log_packet, nf_loginfo
from stack.netfilter.nf_tables import (
    nft_ctx,
    nft_expr,
    nft_pktinfo,
    nft_register_expr,
    nft_regs,
)
from stack.netfilter.nft_expr_attrs import NFTA_LOG
from stack.netlink.nlattr import Attrs, NlError

NFT_LOGLEVEL_WARNING, NFT_LOGLEVEL_AUDIT = 4, 8
NF_LOG_MASK = 0x2F


class nft_log(nft_expr):
    """Log the packet with PREFIX: to the listener of GROUP, with SNAPLEN bytes of it and QTHRESHOLD
    packets in a message; or to the kernel's log with LEVEL and FLAGS.

    EINVAL: GROUP together with LEVEL or FLAGS; no such level or flag.
    """

    name = "log"
    attrs = NFTA_LOG

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        grouped = "NFTA_LOG_GROUP" in tb
        if grouped and ("NFTA_LOG_LEVEL" in tb or "NFTA_LOG_FLAGS" in tb):
            raise NlError(errno.EINVAL)
        level: int = tb.get("NFTA_LOG_LEVEL", NFT_LOGLEVEL_WARNING)
        flags: int = tb.get("NFTA_LOG_FLAGS", 0)
        if level > NFT_LOGLEVEL_AUDIT or flags & ~NF_LOG_MASK:
            raise NlError(errno.EINVAL)
        self.told = {
            "NFTA_LOG_PREFIX": tb.get("NFTA_LOG_PREFIX"),
            "NFTA_LOG_GROUP": tb.get("NFTA_LOG_GROUP"),
            "NFTA_LOG_SNAPLEN": tb.get("NFTA_LOG_SNAPLEN") if grouped else None,
            "NFTA_LOG_QTHRESHOLD": tb.get("NFTA_LOG_QTHRESHOLD") or None if grouped else None,
            "NFTA_LOG_LEVEL": None if grouped else level,
            "NFTA_LOG_FLAGS": flags or None,
        }
        self.loginfo = nf_loginfo(
            *(tb.get("NFTA_LOG_GROUP", 0), tb.get("NFTA_LOG_PREFIX", "")),
            *(tb.get("NFTA_LOG_SNAPLEN"), tb.get("NFTA_LOG_QTHRESHOLD", 0)),
        )
        self.grouped = grouped

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_log.c nft_log_eval."""
        if self.grouped:
            nf_log_packet(pkt, self.loginfo)

    def dump(self, reset: bool = False) -> Mapping[str, Any]:
        """net/netfilter/nft_log.c nft_log_dump."""
        return self.told


nft_register_expr(nft_log)
