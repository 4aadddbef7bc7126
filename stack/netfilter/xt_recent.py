"""net/netfilter/xt_recent.c: `-m recent`: recently seen addresses, in named lists.

A list exists as long as a rule uses it. There are no files /proc/net/xt_recent/NAME.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass, field

from fastpath.net.hdr import iphdr_at, ipv6hdr_at
from stack.core.netfilter import NFPROTO_IPV4
from stack.core.rows import wide
from stack.core.time64 import NSEC_PER_SEC
from stack.net import Net
from stack.netfilter.nf_tables import nft_pktinfo
from stack.netfilter.x_tables import BOTH, xt_match, xt_mtchk_param, xt_register_match
from stack.netlink.nlattr import NlError

XT_RECENT_CHECK, XT_RECENT_SET, XT_RECENT_UPDATE, XT_RECENT_REMOVE = 1, 2, 4, 8
XT_RECENT_TTL, XT_RECENT_REAP, XT_RECENT_VALID = 16, 32, 63
XT_RECENT_MODIFIERS = XT_RECENT_TTL | XT_RECENT_REAP
XT_RECENT_DEST = 1
XT_RECENT_MAX_NSTAMPS = 65535
IP_LIST_TOT = 100
"""Maximum addresses of a list; the least recently seen is evicted."""
IP_PKT_LIST_TOT = 256
"""Time stamps kept per address, unless a rule counts more."""


@dataclass(slots=True, eq=False)
class recent_entry:
    """struct recent_entry: an address; `stamps` are times, ns, the newest last."""

    ttl: int
    stamps: list[int] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class recent_table:
    """struct recent_table: a list, by family and address."""

    refcnt: int = 0
    nstamps: int = IP_PKT_LIST_TOT
    entries: dict[tuple[int, wide], recent_entry] = field(default_factory=dict)


def recent_tables(net: Net) -> dict[str, recent_table]:
    """The lists of a namespace by name."""
    found: dict[str, recent_table] = net.gen.setdefault("xt_recent", {})
    return found


class xt_recent_mtinfo_v1(xt_match):
    """struct xt_recent_mtinfo_v1: `-m recent`: put the masked source or destination on a list,
    remove it, or ask how often it came in the last seconds.

    EINVAL: not one of these, what it does not take, too many hits, a wrong name of the list.
    """

    name = "recent"
    revision = 1
    families = BOTH
    size = 228
    seconds: int
    hits: int
    what: int

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.seconds, self.hits, self.what, invert, raw, self.side = struct.unpack_from(
            "=IIBB200sB", info
        )
        self.invert = bool(invert)
        name, nul, _ = raw.partition(b"\0")
        one = self.what & ~XT_RECENT_MODIFIERS
        plain = one in (XT_RECENT_SET, XT_RECENT_REMOVE)
        if (
            self.what & ~XT_RECENT_VALID
            or one not in (XT_RECENT_CHECK, XT_RECENT_SET, XT_RECENT_UPDATE, XT_RECENT_REMOVE)
            or (plain and (self.seconds or self.hits or self.what & XT_RECENT_MODIFIERS))
            or (self.what & XT_RECENT_REAP and not self.seconds)
            or self.hits >= XT_RECENT_MAX_NSTAMPS
            or not nul
            or name in (b"", b".", b"..")
            or b"/" in name
        ):
            raise NlError(errno.EINVAL)
        self.alen = 4 if par.family == NFPROTO_IPV4 else 16
        mask = info[212 : 212 + self.alen] if self.revision else b"\xff" * self.alen
        self.mask: wide = int.from_bytes(mask, "big")
        self.list = name.decode(errors="surrogateescape")
        self.held = recent_tables(par.net).setdefault(self.list, recent_table())
        self.held.refcnt += 1
        self.held.nstamps = max(self.held.nstamps, self.hits)

    def destroy(self, par: xt_mtchk_param) -> None:
        """net/netfilter/xt_recent.c recent_mt_destroy."""
        self.held.refcnt -= 1
        if not self.held.refcnt:
            del recent_tables(par.net)[self.list]

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_recent.c recent_mt."""
        net, entries = pkt.state.net, self.held.entries
        now: int = net.clock.now_ns()
        dest = self.side == XT_RECENT_DEST
        addr: wide
        if pkt.pf == NFPROTO_IPV4:
            iph = iphdr_at(pkt.skb, 0)
            addr, ttl = iph.daddr if dest else iph.saddr, iph.ttl
        else:
            ip6h = ipv6hdr_at(pkt.skb, 0)
            addr, ttl = ip6h.daddr if dest else ip6h.saddr, ip6h.hop_limit
        if pkt.state.outdev is not None and pkt.state.sk is None:
            ttl = ttl + 1 & 0xFF  # as it was before the packet was forwarded
        key = pkt.pf, addr & self.mask
        e = entries.get(key)
        if e is not None and self.what & XT_RECENT_TTL and e.ttl not in (ttl, 0):
            e = None
        if e is None:
            if not self.what & XT_RECENT_SET:
                return self.invert
            if len(entries) >= IP_LIST_TOT:
                del entries[next(iter(entries))]
            entries[key] = recent_entry(ttl, [now])
            return not self.invert
        found = True
        if self.what & XT_RECENT_REMOVE:
            del entries[key]
        elif not self.what & XT_RECENT_SET:
            found = self.seen(e, now)
            if self.what & XT_RECENT_REAP:
                self.reap(now)
        ret = found != self.invert
        if self.what & XT_RECENT_SET or (self.what & XT_RECENT_UPDATE and ret):
            e.stamps = [*e.stamps, now][-self.held.nstamps :]
            e.ttl = ttl
            entries.pop(key, None)
            entries[key] = e
        return ret

    def seen(self, e: recent_entry, now: int) -> bool:
        """Whether an address had enough hits in the last seconds."""
        since = now - self.seconds * NSEC_PER_SEC if self.seconds else 0
        return sum(stamp >= since for stamp in e.stamps) >= max(self.hits, 1)

    def reap(self, now: int) -> None:
        """net/netfilter/xt_recent.c recent_entry_reap: remove the oldest entry if it expired."""
        entries = self.held.entries
        oldest = next(iter(entries), None)
        if oldest is not None and entries[oldest].stamps[-1] < now - self.seconds * NSEC_PER_SEC:
            del entries[oldest]


class xt_recent_mtinfo(xt_recent_mtinfo_v1):
    """struct xt_recent_mtinfo: without a mask."""

    revision = 0
    size = 212


xt_register_match(xt_recent_mtinfo_v1, xt_recent_mtinfo)
