"""net/netfilter/xt_conntrack.c, xt_state.c, xt_connbytes.c, xt_connlimit.c: the state of a
packet's connection."""

from __future__ import annotations

import errno
import struct

from fastpath.net.hdr import iphdr_at, ipv6hdr_at
from stack.core.netfilter import NFPROTO_IPV4
from stack.core.rows import narrow, wide
from stack.core.time64 import NSEC_PER_SEC
from stack.netfilter.nf_conncount import nf_conncount_data
from stack.netfilter.nf_conntrack import (
    IP_CT_DIR_ORIGINAL,
    IP_CT_IS_REPLY,
    IP_CT_UNTRACKED,
    IPS_DST_NAT,
    IPS_SRC_NAT,
    ctinfo2dir,
    nf_conn,
)
from stack.netfilter.nf_conntrack_life import nf_ct_expires
from stack.netfilter.nf_conntrack_tuple import nf_ct_get_tuplepr
from stack.netfilter.nf_tables import nft_pktinfo
from stack.netfilter.nft_ct import (
    COUNTERS,
    IP_CT_DIR_MAX,
    ct_counter,
    nft_ct_netns_get,
    nft_ct_netns_put,
)
from stack.netfilter.x_tables import (
    xt_hotdrop,
    xt_match,
    xt_mtchk_param,
    xt_register_match,
)
from stack.netlink.nlattr import NlError

XT_CONNTRACK_STATE_INVALID = 1
XT_CONNTRACK_STATE_SNAT, XT_CONNTRACK_STATE_DNAT = 1 << 6, 1 << 7
XT_CONNTRACK_STATE_UNTRACKED = 1 << 8
XT_STATE_UNTRACKED = 1 << 6

XT_CONNTRACK_STATE, XT_CONNTRACK_PROTO = 1 << 0, 1 << 1
XT_CONNTRACK_ADDRS = (1 << 2, 1 << 3, 1 << 4, 1 << 5)
"""ORIGSRC, ORIGDST, REPLSRC, REPLDST."""
XT_CONNTRACK_STATUS, XT_CONNTRACK_EXPIRES = 1 << 6, 1 << 7
XT_CONNTRACK_PORTS = (1 << 8, 1 << 9, 1 << 10, 1 << 11)
XT_CONNTRACK_DIRECTION = 1 << 12
PLACES = ((False, 2), (False, 4), (True, 2), (True, 4))
"""For the four addresses: whether it is in the reply's tuple, and its index."""

XT_CONNLIMIT_INVERT, XT_CONNLIMIT_DADDR = 1, 2


def state_bit(ct: nf_conn | None, ctinfo: int, untracked: int) -> int:
    """XT_CONNTRACK_STATE_BIT: the packet's state in its connection."""
    if ct is not None:
        return 1 << ctinfo % IP_CT_IS_REPLY + 1
    return untracked if ctinfo == IP_CT_UNTRACKED else XT_CONNTRACK_STATE_INVALID


class uses_conntrack(xt_match):
    """A match that enables connection tracking for its family."""

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        nft_ct_netns_get(par.net, par.family)

    def destroy(self, par: xt_mtchk_param) -> None:
        """nf_ct_netns_put."""
        nft_ct_netns_put(par.net, par.family)


class xt_conntrack_mtinfo3(uses_conntrack):
    """struct xt_conntrack_mtinfo3: `-m conntrack`, and `-m state`, which iptables maps to it:
    compare what is known of the packet's connection with the values that `flags` names. `inv` has
    the flags of those that must differ.
    """

    name = "conntrack"
    revision = 3
    size = 164
    l4proto: int
    ports: tuple[int, ...]
    flags: int
    inv: int
    states: int
    status: int
    expires: tuple[int, int]

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        super().__init__(par, info)
        alen = 4 if par.family == NFPROTO_IPV4 else 16
        self.addrs: list[tuple[wide, wide]] = []
        for at in range(0, 128, 32):
            addr, mask = info[at : at + alen], info[at + 16 : at + 16 + alen]
            self.addrs.append((int.from_bytes(addr, "big"), int.from_bytes(mask, "big")))
        self.expires = struct.unpack_from("=II", info, 128)
        numbers = struct.unpack_from("=9H", info, 136)
        self.l4proto, self.ports = numbers[0], numbers[1:5]
        self.flags, self.inv, self.states, self.status = numbers[5:]
        self.highs = self.high_ports(info)

    def high_ports(self, info: bytes) -> tuple[int, ...]:
        """The ends of the ranges of ports."""
        return struct.unpack_from("=4H", info, 154)

    def fits(self, flag: int, holds: bool) -> bool:
        """Whether a condition holds, or does not hold if it is inverted."""
        return not self.flags & flag or holds != bool(self.inv & flag)

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_conntrack.c conntrack_mt."""
        skb = pkt.skb
        ct: nf_conn | None = skb.nfct
        bits = state_bit(ct, skb.nfctinfo, XT_CONNTRACK_STATE_UNTRACKED)
        if ct is not None:
            bits |= XT_CONNTRACK_STATE_SNAT if ct.status & IPS_SRC_NAT else 0
            bits |= XT_CONNTRACK_STATE_DNAT if ct.status & IPS_DST_NAT else 0
        if not self.fits(XT_CONNTRACK_STATE, bool(self.states & bits)):
            return False
        if ct is None:
            return bool(self.flags & XT_CONNTRACK_STATE)
        if not self.fits(XT_CONNTRACK_DIRECTION, ctinfo2dir(skb.nfctinfo) == IP_CT_DIR_ORIGINAL):
            return False
        return self.match_tuple(ct) and (
            self.fits(XT_CONNTRACK_STATUS, bool(self.status & ct.status))
            and self.fits(
                XT_CONNTRACK_EXPIRES,
                self.expires[0] <= nf_ct_expires(ct) // NSEC_PER_SEC <= self.expires[1],
            )
        )

    def match_tuple(self, ct: nf_conn) -> bool:
        """Addresses, protocol and ports."""
        if not self.fits(XT_CONNTRACK_PROTO, ct.protonum == self.l4proto):
            return False
        for i, (reply, at) in enumerate(PLACES):
            tup = ct.reply.tuple if reply else ct.orig.tuple
            want, mask = self.addrs[i]
            addr: wide = tup[at]
            if not self.fits(XT_CONNTRACK_ADDRS[i], addr & mask == want & mask):
                return False
            port = narrow(tup[at + 1])
            if not self.fits(XT_CONNTRACK_PORTS[i], self.ports[i] <= port <= self.highs[i]):
                return False
        return True


class xt_conntrack_mtinfo2(xt_conntrack_mtinfo3):
    """struct xt_conntrack_mtinfo2: single ports, in network order."""

    revision = 2
    size = 156

    def high_ports(self, info: bytes) -> tuple[int, ...]:
        """The single port of each range."""
        self.ports = struct.unpack_from(">4H", info, 138)
        return self.ports


class xt_state_info(uses_conntrack):
    """struct xt_state_info: `-m state` of old versions: compare only the state."""

    name = "state"
    size = 4

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        super().__init__(par, info)
        self.states: int = struct.unpack_from("=I", info)[0]

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_state.c state_mt."""
        return bool(self.states & state_bit(pkt.skb.nfct, pkt.skb.nfctinfo, XT_STATE_UNTRACKED))


class xt_connbytes_info(uses_conntrack):
    """struct xt_connbytes_info: `-m connbytes`: whether packets, bytes, or bytes per packet of the
    connection are within two numbers, or outside if the first one is larger.

    EINVAL: no such counter or direction.
    """

    name = "connbytes"
    size = 24
    low: int
    high: int
    what: int
    dir: int

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.low, self.high, self.what, self.dir = struct.unpack_from("=QQBB", info)
        if self.what >= len(COUNTERS) or self.dir > IP_CT_DIR_MAX:
            raise NlError(errno.EINVAL)
        super().__init__(par, info)
        par.net.sysctl.nf_conntrack_acct = 1  # nf_ct_set_acct

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_connbytes.c connbytes_mt."""
        ct: nf_conn | None = pkt.skb.nfct
        if ct is None:
            return False
        what = ct_counter(ct, COUNTERS[self.what], self.dir)
        if self.high >= self.low:
            return self.low <= what <= self.high
        return not self.high <= what <= self.low


class xt_connlimit_info(uses_conntrack):
    """struct xt_connlimit_info: `-m connlimit`: whether more than `limit` connections from a
    network are active, or to it (XT_CONNLIMIT_DADDR).
    """

    name = "connlimit"
    revision = 1
    size = 32
    usersize = 24
    limit: int
    flags: int

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        super().__init__(par, info)
        mask = info[: 4 if par.family == NFPROTO_IPV4 else 16]
        self.mask: wide = int.from_bytes(mask, "big")
        self.limit, self.flags = struct.unpack_from("=II", info, 16)
        self.data = nf_conncount_data()

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_connlimit.c connlimit_mt."""
        ct: nf_conn | None = pkt.skb.nfct
        if ct is None and nf_ct_get_tuplepr(pkt.skb, 0, pkt.pf) is None:
            raise xt_hotdrop
        daddr = self.flags & XT_CONNLIMIT_DADDR
        addr: wide
        if pkt.pf == NFPROTO_IPV4:
            iph = iphdr_at(pkt.skb, 0)
            addr = iph.daddr if daddr else iph.saddr
        else:
            ip6h = ipv6hdr_at(pkt.skb, 0)
            addr = ip6h.daddr if daddr else ip6h.saddr
        invert = bool(self.flags & XT_CONNLIMIT_INVERT)
        return (self.data.count(addr & self.mask, ct) > self.limit) != invert


xt_register_match(xt_conntrack_mtinfo3, xt_conntrack_mtinfo2, xt_state_info)
xt_register_match(xt_connbytes_info, xt_connlimit_info)
