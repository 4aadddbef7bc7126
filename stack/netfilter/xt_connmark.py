"""net/netfilter/xt_connmark.c, xt_CT.c: the mark of a connection, and untracked packets.

There are no zones, helpers, templates: CT supports only `--notrack`.
"""

from __future__ import annotations

import errno
import struct

from stack.netfilter.nf_conntrack import IP_CT_UNTRACKED, nf_conn
from stack.netfilter.nf_conntrack_ecache import IPCT_MARK, nf_conntrack_event_cache
from stack.netfilter.nf_tables import nft_pktinfo
from stack.netfilter.nft_ct import nft_ct_netns_get, nft_ct_netns_put
from stack.netfilter.x_tables import (
    XT_CONTINUE,
    xt_mtchk_param,
    xt_register_match,
    xt_register_target,
    xt_target,
)
from stack.netfilter.xt_conntrack import uses_conntrack
from stack.netlink.nlattr import NlError

XT_CONNMARK_SET, XT_CONNMARK_SAVE, XT_CONNMARK_RESTORE = 0, 1, 2
XT_CT_NOTRACK, XT_CT_NOTRACK_ALIAS, XT_CT_MASK = 1, 2, 0x1F
U32 = 0xFFFFFFFF


class xt_connmark_mtinfo1(uses_conntrack):
    """struct xt_connmark_mtinfo1: `-m connmark`: compare masked bits of the connection's mark."""

    name = "connmark"
    revision = 1
    size = 12
    mark: int
    mask: int

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        super().__init__(par, info)
        self.mark, self.mask, invert = struct.unpack_from("=IIB", info)
        self.invert = bool(invert)

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_connmark.c connmark_mt."""
        ct: nf_conn | None = pkt.skb.nfct
        return ct is not None and (ct.mark & self.mask == self.mark) != self.invert


class xt_connmark_tginfo2(xt_target):
    """struct xt_connmark_tginfo2: CONNMARK: set the connection's mark, save the packet's mark in
    it, or restore that from it. Masks choose the bits; the new mark is shifted.
    """

    name = "CONNMARK"
    revision = 2
    size = 16

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.ctmark, self.ctmask, self.nfmask = struct.unpack_from("=III", info)
        self.shift, self.mode = self.shift_of(info), info[12 if self.revision == 1 else 14]
        nft_ct_netns_get(par.net, par.family)

    def shift_of(self, info: bytes) -> int:
        """How many bits the mark is shifted left, or if negative right."""
        return -info[13] if info[12] else info[13]

    def destroy(self, par: xt_mtchk_param) -> None:
        """nf_ct_netns_put."""
        nft_ct_netns_put(par.net, par.family)

    def moved(self, mark: int) -> int:
        """The mark, shifted by `shift`."""
        return mark >> -self.shift if self.shift < 0 else mark << self.shift & U32

    def target(self, pkt: nft_pktinfo) -> int:
        """net/netfilter/xt_connmark.c connmark_tg_shift."""
        skb = pkt.skb
        ct: nf_conn | None = skb.nfct
        if ct is None:
            return XT_CONTINUE
        if self.mode == XT_CONNMARK_RESTORE:
            mark = self.moved(ct.mark & self.ctmask)
            skb.mark = skb.mark & ~self.nfmask & U32 ^ mark
            return XT_CONTINUE
        new = ct.mark
        if self.mode == XT_CONNMARK_SET:
            new = self.moved(ct.mark & ~self.ctmask & U32 ^ self.ctmark)
        elif self.mode == XT_CONNMARK_SAVE:
            new = ct.mark & ~self.ctmask & U32 ^ self.moved(skb.mark & self.nfmask)
        if new != ct.mark:
            ct.mark = new
            nf_conntrack_event_cache(IPCT_MARK, ct)
        return XT_CONTINUE


class xt_connmark_tginfo1(xt_connmark_tginfo2):
    """struct xt_connmark_tginfo1: without a shift."""

    revision = 1

    def shift_of(self, info: bytes) -> int:
        """Marks are not shifted."""
        return 0


class xt_notrack(xt_target):
    """NOTRACK: do not track the packet, unless it is tracked already."""

    name = "NOTRACK"
    size = 0
    table = "raw"

    def target(self, pkt: nft_pktinfo) -> int:
        """net/netfilter/xt_CT.c xt_ct_target, notrack_tg."""
        if pkt.skb.nfct is None:
            pkt.skb.nfctinfo = IP_CT_UNTRACKED
        return XT_CONTINUE


class xt_ct_target_info(xt_notrack):
    """struct xt_ct_target_info: CT. With XT_CT_NOTRACK it is NOTRACK, else it does nothing.

    EINVAL: an unknown flag; ENOENT: a helper; EOPNOTSUPP: a zone, events, a timeout policy.
    """

    name = "CT"
    size = 40
    usersize = 32

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.flags, zone, events, exp_events = struct.unpack_from("=HHII", info)
        if self.flags & ~XT_CT_MASK:
            raise NlError(errno.EINVAL)
        if self.flags & XT_CT_NOTRACK:
            return
        if info[12] and not zone:
            raise NlError(errno.ENOENT, "No such helper")
        if zone or self.flags & ~XT_CT_NOTRACK_ALIAS or events or exp_events or any(info[28:60]):
            raise NlError(errno.EOPNOTSUPP)

    def target(self, pkt: nft_pktinfo) -> int:
        """net/netfilter/xt_CT.c xt_ct_target_v0, _v1."""
        return super().target(pkt) if self.flags & XT_CT_NOTRACK else XT_CONTINUE


class xt_ct_target_info_v1(xt_ct_target_info):
    """struct xt_ct_target_info_v1: CT; the structure also names a timeout policy."""

    revision = 1
    size = 72
    usersize = 64


class xt_ct_target_info_v2(xt_ct_target_info_v1):
    """CT, revision 2: iptables prints it as NOTRACK if the flags have XT_CT_NOTRACK_ALIAS."""

    revision = 2


xt_register_match(xt_connmark_mtinfo1)
xt_register_target(xt_connmark_tginfo2, xt_connmark_tginfo1, xt_notrack)
xt_register_target(xt_ct_target_info, xt_ct_target_info_v1, xt_ct_target_info_v2)
