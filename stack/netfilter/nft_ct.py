"""net/netfilter/nft_ct.c: what is known of a packet's connection, the connection's mark, `notrack`.

There are no zones, labels, helpers or security marks: they read as for a connection without
them, and cannot be set.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from sys import byteorder
from typing import Any

from stack.core.netfilter import NFPROTO_IPV4, NFPROTO_IPV6
from stack.core.time64 import NSEC_PER_MSEC
from stack.net import Net
from stack.netfilter.match import ct_state_of
from stack.netfilter.nf_conntrack import (
    IP_CT_DIR_ORIGINAL,
    IP_CT_DIR_REPLY,
    IP_CT_UNTRACKED,
    IPS_EVENTS,
    Tuple,
    ctinfo2dir,
    nf_conn,
)
from stack.netfilter.nf_conntrack_core import nf_ct_netns_get, nf_ct_netns_put
from stack.netfilter.nf_conntrack_ecache import IPCT_MARK, nf_conntrack_event_cache
from stack.netfilter.nf_conntrack_id import nf_ct_get_id
from stack.netfilter.nf_conntrack_life import nf_ct_expires
from stack.netfilter.nf_tables import (
    NFPROTO_INET,
    NFT_BREAK,
    nft_ctx,
    nft_dump_register,
    nft_expr,
    nft_parse_register_load,
    nft_parse_register_store,
    nft_pktinfo,
    nft_register_expr,
    nft_regs,
)
from stack.netfilter.nft_expr_attrs import NFTA_CT, NFTA_NOTRACK
from stack.netlink.nlattr import Attrs, NlError

(
    NFT_CT_STATE,
    NFT_CT_DIRECTION,
    NFT_CT_STATUS,
    NFT_CT_MARK,
    NFT_CT_SECMARK,
    NFT_CT_EXPIRATION,
    NFT_CT_HELPER,
    NFT_CT_L3PROTOCOL,
    NFT_CT_SRC,
    NFT_CT_DST,
    NFT_CT_PROTOCOL,
    NFT_CT_PROTO_SRC,
    NFT_CT_PROTO_DST,
    NFT_CT_LABELS,
    NFT_CT_PKTS,
    NFT_CT_BYTES,
    NFT_CT_AVGPKT,
    NFT_CT_ZONE,
    NFT_CT_EVENTMASK,
    NFT_CT_SRC_IP,
    NFT_CT_DST_IP,
    NFT_CT_SRC_IP6,
    NFT_CT_DST_IP6,
    NFT_CT_ID,
) = range(24)
IP_CT_DIR_MAX = 2
COUNTERS = (NFT_CT_PKTS, NFT_CT_BYTES, NFT_CT_AVGPKT)
"""In the order of enum xt_connbytes_what."""
NO_DIRECTION = {
    NFT_CT_DIRECTION: 1,
    NFT_CT_STATE: 4,
    NFT_CT_STATUS: 4,
    NFT_CT_MARK: 4,
    NFT_CT_EXPIRATION: 4,
    NFT_CT_LABELS: 16,
    NFT_CT_HELPER: 16,
    NFT_CT_ID: 4,
}
"""Keys of the connection as a whole, and their bytes."""
ANY_DIRECTION = {
    NFT_CT_L3PROTOCOL: 1,
    NFT_CT_PROTOCOL: 1,
    NFT_CT_PKTS: 8,
    NFT_CT_BYTES: 8,
    NFT_CT_AVGPKT: 8,
    NFT_CT_ZONE: 2,
}
ONE_DIRECTION = {
    NFT_CT_SRC: 16,
    NFT_CT_DST: 16,
    NFT_CT_PROTO_SRC: 2,
    NFT_CT_PROTO_DST: 2,
    NFT_CT_SRC_IP: 4,
    NFT_CT_DST_IP: 4,
    NFT_CT_SRC_IP6: 16,
    NFT_CT_DST_IP6: 16,
}
ADDRESSES = {
    NFT_CT_SRC: (0, 2),
    NFT_CT_DST: (0, 4),
    NFT_CT_SRC_IP: (NFPROTO_IPV4, 2),
    NFT_CT_DST_IP: (NFPROTO_IPV4, 4),
    NFT_CT_SRC_IP6: (NFPROTO_IPV6, 2),
    NFT_CT_DST_IP6: (NFPROTO_IPV6, 4),
}
"""The family, 0 for any, and the index of the address in a tuple."""


def nft_families(family: int) -> tuple[int, ...]:
    """The families of packets that a table of `family` sees."""
    return (NFPROTO_IPV4, NFPROTO_IPV6) if family == NFPROTO_INET else (family,)


def nft_ct_netns_get(net: Net, family: int) -> None:
    """net/netfilter/nf_conntrack_proto.c nf_ct_netns_get, also for NFPROTO_INET."""
    for pf in nft_families(family):
        nf_ct_netns_get(net, pf)


def nft_ct_netns_put(net: Net, family: int) -> None:
    """net/netfilter/nf_conntrack_proto.c nf_ct_netns_put, also for NFPROTO_INET."""
    for pf in nft_families(family):
        nf_ct_netns_put(net, pf)


def ct_key_len(ctx: nft_ctx, key: int, tb: Attrs) -> int:
    """How many bytes a key has (in nft_ct_get_init). Raises: NlError EINVAL, EOPNOTSUPP."""
    if key in NO_DIRECTION:
        if "NFTA_CT_DIRECTION" in tb:
            raise NlError(errno.EINVAL)
        return NO_DIRECTION[key]
    if key in ANY_DIRECTION:
        return ANY_DIRECTION[key]
    if key not in ONE_DIRECTION:
        raise NlError(errno.EOPNOTSUPP)
    if "NFTA_CT_DIRECTION" not in tb:
        raise NlError(errno.EINVAL)
    if key in (NFT_CT_SRC, NFT_CT_DST) and ctx.family == NFPROTO_IPV4:
        return 4
    return ONE_DIRECTION[key]


def ct_counter(ct: nf_conn, key: int, direction: int) -> int:
    """Packets, bytes, or bytes per packet (COUNTERS), of a direction; IP_CT_DIR_MAX: of both."""
    packets = size = 0
    if direction != IP_CT_DIR_REPLY:
        packets, size = ct.orig_packets, ct.orig_bytes
    if direction != IP_CT_DIR_ORIGINAL:
        packets, size = packets + ct.reply_packets, size + ct.reply_bytes
    if key == NFT_CT_AVGPKT:
        return size // packets if packets else 0
    return packets if key == NFT_CT_PKTS else size


class nft_ct(nft_expr):
    """Read KEY (NFT_CT_*) of the packet's connection into the register DREG, of DIRECTION if the
    key has one; or set the mark from SREG. A packet without a value ends the rule.

    EINVAL: not one register, a wrong direction; EOPNOTSUPP: no such key, or it cannot be set.
    """

    name = "ct"
    attrs = NFTA_CT

    def __init__(self, ctx: nft_ctx, tb: Attrs) -> None:
        if "NFTA_CT_KEY" not in tb:
            raise NlError(errno.EINVAL)
        self.key: int = tb["NFTA_CT_KEY"]
        self.dir: int = tb.get("NFTA_CT_DIRECTION", IP_CT_DIR_MAX)
        self.sets = "NFTA_CT_SREG" in tb
        if self.sets == ("NFTA_CT_DREG" in tb):
            raise NlError(errno.EINVAL)
        if self.sets:
            if self.key != NFT_CT_MARK:
                raise NlError(errno.EOPNOTSUPP)
            self.len = 4
            if "NFTA_CT_DIRECTION" in tb:
                raise NlError(errno.EINVAL)
            self.reg = nft_parse_register_load(ctx, tb["NFTA_CT_SREG"], self.len)
        else:
            self.len = ct_key_len(ctx, self.key, tb)
            if "NFTA_CT_DIRECTION" in tb and self.dir not in (IP_CT_DIR_ORIGINAL, IP_CT_DIR_REPLY):
                raise NlError(errno.EINVAL)
            self.reg = nft_parse_register_store(ctx, tb["NFTA_CT_DREG"], self.len)
        nft_ct_netns_get(ctx.net, ctx.family)
        if not self.sets and self.key in COUNTERS:
            ctx.net.sysctl.nf_conntrack_acct = 1  # nf_ct_set_acct

    def destroy(self, ctx: nft_ctx) -> None:
        """net/netfilter/nft_ct.c nft_ct_get_destroy, nft_ct_set_destroy."""
        nft_ct_netns_put(ctx.net, ctx.family)

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_ct.c nft_ct_get_eval, nft_ct_set_eval."""
        skb = pkt.skb
        if self.sets:
            self.set_mark(regs, skb.nfct)
            return
        if self.key == NFT_CT_STATE:
            regs.store(self.reg, ct_state_of(skb).to_bytes(4, byteorder))
            return
        ct: nf_conn | None = skb.nfct
        found = None if ct is None else self.get(ct, skb.nfctinfo)
        if found is None:
            regs.verdict = NFT_BREAK
        elif isinstance(found, bytes):
            regs.store(self.reg, found)
        else:
            regs.store(self.reg, found.to_bytes(self.len, byteorder))

    def get(self, ct: nf_conn, ctinfo: int) -> bytes | int | None:
        """The key's value: bytes in network order, or a number; None: no value."""
        key = self.key
        if key in ADDRESSES:
            pf, at = ADDRESSES[key]
            if pf and ct.l3num != pf:
                return None
            return self.tuple_of(ct)[at].to_bytes(4 if ct.l3num == NFPROTO_IPV4 else 16, "big")
        if key in COUNTERS:
            return ct_counter(ct, self.key, self.dir)
        match key:
            case 1:  # NFT_CT_DIRECTION
                return ctinfo2dir(ctinfo)
            case 2:  # NFT_CT_STATUS
                return ct.status & ~IPS_EVENTS
            case 3:  # NFT_CT_MARK
                return ct.mark
            case 5:  # NFT_CT_EXPIRATION
                return nf_ct_expires(ct) // NSEC_PER_MSEC & 0xFFFFFFFF
            case 7:  # NFT_CT_L3PROTOCOL
                return ct.l3num
            case 10:  # NFT_CT_PROTOCOL
                return ct.protonum
            case 11:  # NFT_CT_PROTO_SRC
                return self.tuple_of(ct)[3].to_bytes(2, "big")
            case 12:  # NFT_CT_PROTO_DST
                return self.tuple_of(ct)[5].to_bytes(2, "big")
            case 23:  # NFT_CT_ID
                return nf_ct_get_id(ct)
            case 13 | 17:  # NFT_CT_LABELS, NFT_CT_ZONE: always zero
                return 0
        return None  # NFT_CT_HELPER: there are no helpers

    def tuple_of(self, ct: nf_conn) -> Tuple:
        """The tuple of the direction that the expression names."""
        return ct.reply.tuple if self.dir == IP_CT_DIR_REPLY else ct.orig.tuple

    def set_mark(self, regs: nft_regs, ct: nf_conn | None) -> None:
        """NFT_CT_MARK of nft_ct_set_eval."""
        mark = int.from_bytes(regs.load(self.reg, 4), byteorder)
        if ct is not None and ct.mark != mark:
            ct.mark = mark
            nf_conntrack_event_cache(IPCT_MARK, ct)

    def dump(self, reset: bool = False) -> Mapping[str, Any]:
        """net/netfilter/nft_ct.c nft_ct_get_dump, nft_ct_set_dump."""
        told = self.key in ONE_DIRECTION or (
            self.key in ANY_DIRECTION
            and self.key not in (NFT_CT_L3PROTOCOL, NFT_CT_PROTOCOL)
            and self.dir < IP_CT_DIR_MAX
        )
        return {
            ("NFTA_CT_SREG" if self.sets else "NFTA_CT_DREG"): nft_dump_register(self.reg),
            "NFTA_CT_KEY": self.key,
            "NFTA_CT_DIRECTION": self.dir if told else None,
        }


class nft_notrack(nft_expr):
    """Do not track the packet, unless it is tracked already. It has no attributes."""

    name = "notrack"
    attrs = NFTA_NOTRACK

    def eval(self, regs: nft_regs, pkt: nft_pktinfo) -> None:
        """net/netfilter/nft_ct.c nft_notrack_eval."""
        if pkt.skb.nfct is None:
            pkt.skb.nfctinfo = IP_CT_UNTRACKED

    def dump(self, reset: bool = False) -> None:
        """It has no attributes."""


nft_register_expr(nft_ct)
nft_register_expr(nft_notrack)
