"""net/netfilter/xt_hashlimit.c: `-m hashlimit`: a limit for each source, destination, port.

A named table exists as long as a rule uses it. Credit is time, ns: a packet costs its time at the
rate; for byte rates each 16 bytes do. There are no files /proc/net/ipt_hashlimit/NAME.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass, field

from fastpath.net.hdr import iphdr_at, ipv6hdr_at
from stack.core.netfilter import NFPROTO_IPV4
from stack.core.rows import wide
from stack.core.time64 import NSEC_PER_MSEC, NSEC_PER_SEC
from stack.core.uapi import IPPROTO_TCP, IPPROTO_UDP
from stack.net import Net
from stack.netfilter.nf_conntrack_tuple import skb_bytes
from stack.netfilter.nf_tables import nft_pktinfo
from stack.netfilter.x_tables import BOTH, xt_match, xt_mtchk_param, xt_register_match
from stack.netlink.nlattr import NlError

XT_HASHLIMIT_HASH_DIP, XT_HASHLIMIT_HASH_DPT, XT_HASHLIMIT_HASH_SIP = 1, 2, 4
XT_HASHLIMIT_HASH_SPT, XT_HASHLIMIT_INVERT, XT_HASHLIMIT_BYTES = 8, 16, 32
XT_HASHLIMIT_RATE_MATCH, XT_HASHLIMIT_ALL = 64, 127
XT_HASHLIMIT_BYTE_SHIFT = 4
HASHED_PORTS = (IPPROTO_TCP, IPPROTO_UDP, 33, 132, 136)
Key = tuple[int, wide, wide, int, int]


@dataclass(slots=True, eq=False)
class dsthash_ent:
    """struct dsthash_ent: the credit of one source or destination. Times in ns."""

    credit: int
    prev: int
    expires: int
    bursts: int
    """For bytes: how often its full credit may be restored early."""


@dataclass(slots=True, eq=False)
class xt_hashlimit_htable:
    """struct xt_hashlimit_htable: a named table."""

    use: int = 0
    entries: dict[Key, dsthash_ent] = field(default_factory=dict)


def hashlimit_tables(net: Net) -> dict[tuple[int, bytes], xt_hashlimit_htable]:
    """The tables of a namespace by family and name."""
    found: dict[tuple[int, bytes], xt_hashlimit_htable] = net.gen.setdefault("xt_hashlimit", {})
    return found


class xt_hashlimit_mtinfo3(xt_match):
    """struct xt_hashlimit_mtinfo3: `-m hashlimit`: a limit for each group of packets with the same
    addresses and ports (`mode`); it matches packets within the limit, or above it if inverted.

    EINVAL: no expiry, wrong prefix lengths or name; ERANGE: no rate or burst; EOPNOTSUPP: a rate
    that is measured (XT_HASHLIMIT_RATE_MATCH).
    """

    name = "hashlimit"
    revision = 3
    families = BOTH
    size = 312
    usersize = 304
    scale = 1000000
    mode: int
    avg: int
    burst: int
    most: int

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        name = info[: 16 if self.revision == 1 else 255].partition(b"\0")[0]
        gc = self.read(info)
        if self.mode & XT_HASHLIMIT_RATE_MATCH:
            raise NlError(errno.EOPNOTSUPP)
        bits = 32 if par.family == NFPROTO_IPV4 else 128
        if (
            not gc
            or not self.expire
            or self.srcmask > bits
            or self.dstmask > bits
            or self.mode & ~XT_HASHLIMIT_ALL
            or name in (b"", b".", b"..")
            or b"/" in name
        ):
            raise NlError(errno.EINVAL)
        by_bytes = bool(self.mode & XT_HASHLIMIT_BYTES)
        if not self.avg or (not by_bytes and not self.burst):
            raise NlError(errno.ERANGE)
        if by_bytes:
            self.cost = self.avg * NSEC_PER_SEC >> 32
            self.cap = NSEC_PER_SEC
        else:
            self.cost = self.avg * NSEC_PER_SEC // self.scale
            self.cap = self.cost * self.burst
        self.shifts = bits - self.srcmask, bits - self.dstmask
        self.key = par.family, name
        self.held = hashlimit_tables(par.net).setdefault(self.key, xt_hashlimit_htable())
        self.held.use += 1

    def read(self, info: bytes) -> int:
        """Read the configuration; returns the interval of the collector."""
        self.avg, self.burst, self.mode, _, self.most, gc, self.expire, *rest = struct.unpack_from(
            "=QQ6I2B", info, 256
        )
        self.srcmask, self.dstmask = rest[-2:]
        return int(gc)

    def destroy(self, par: xt_mtchk_param) -> None:
        """net/netfilter/xt_hashlimit.c hashlimit_mt_destroy."""
        self.held.use -= 1
        if not self.held.use:
            del hashlimit_tables(par.net)[self.key]

    def key_of(self, pkt: nft_pktinfo) -> Key:
        """net/netfilter/xt_hashlimit.c hashlimit_init_dst: the key of the packet's limit."""
        skb, mode = pkt.skb, self.mode
        saddr: wide
        daddr: wide
        if pkt.pf == NFPROTO_IPV4:
            iph = iphdr_at(skb, 0)
            saddr, daddr = iph.saddr, iph.daddr
        else:
            ip6h = ipv6hdr_at(skb, 0)
            saddr, daddr = ip6h.saddr, ip6h.daddr
        sport = dport = 0
        if mode & (XT_HASHLIMIT_HASH_SPT | XT_HASHLIMIT_HASH_DPT):
            ported = pkt.tprot in HASHED_PORTS and not pkt.fragoff
            ports = skb_bytes(skb, pkt.thoff, 4) if ported else b""
            sport, dport = int.from_bytes(ports[:2], "big"), int.from_bytes(ports[2:], "big")
        return (
            pkt.pf,
            saddr >> self.shifts[0] if mode & XT_HASHLIMIT_HASH_SIP else 0,
            daddr >> self.shifts[1] if mode & XT_HASHLIMIT_HASH_DIP else 0,
            sport if mode & XT_HASHLIMIT_HASH_SPT else 0,
            dport if mode & XT_HASHLIMIT_HASH_DPT else 0,
        )

    def entry(self, key: Key, now: int) -> dsthash_ent | None:
        """The entry of a key, with its new credit; None: the table is full."""
        entries = self.held.entries
        found = entries.get(key)
        if found is not None and found.expires > now:
            found.credit += now - found.prev
            if found.credit >= self.cap:
                found.credit, found.bursts = self.cap, self.burst
        else:
            for old in [one for one, ent in entries.items() if ent.expires <= now]:
                del entries[old]
            if self.most and len(entries) >= self.most:
                return None
            found = entries[key] = dsthash_ent(self.cap, now, 0, self.burst)
        found.prev = now
        found.expires = now + self.expire * NSEC_PER_MSEC
        return found

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_hashlimit.c hashlimit_mt_common."""
        inverted = bool(self.mode & XT_HASHLIMIT_INVERT)
        now: int = pkt.state.net.clock.now_ns()
        found = self.entry(self.key_of(pkt), now)
        if found is None:
            return inverted
        cost = self.cost
        if self.mode & XT_HASHLIMIT_BYTES:
            cost *= (pkt.skb.len >> XT_HASHLIMIT_BYTE_SHIFT) + 1
            if found.credit < cost and found.bursts:
                found.bursts -= 1
                found.credit = self.cap
        if found.credit < cost:
            return inverted
        found.credit -= cost
        return not inverted


class xt_hashlimit_mtinfo2(xt_hashlimit_mtinfo3):
    """struct xt_hashlimit_mtinfo2: without an interval of measurement."""

    revision = 2
    size = 304
    usersize = 296

    def read(self, info: bytes) -> int:
        """Read the configuration; returns the interval of the collector."""
        self.avg, self.burst, self.mode, _, self.most, gc, self.expire, *rest = struct.unpack_from(
            "=QQ5I2B", info, 256
        )
        self.srcmask, self.dstmask = rest
        return int(gc)


class xt_hashlimit_mtinfo1(xt_hashlimit_mtinfo3):
    """struct xt_hashlimit_mtinfo1: with rates in 32 bits, in 1 / 10000 s."""

    revision = 1
    size = 56
    usersize = 48
    scale = 10000

    def read(self, info: bytes) -> int:
        """Read the configuration; returns the interval of the collector."""
        self.mode, self.avg, self.burst, _, self.most, gc, self.expire, *rest = struct.unpack_from(
            "=7I2B", info, 16
        )
        self.srcmask, self.dstmask = rest
        return int(gc)


xt_register_match(xt_hashlimit_mtinfo3, xt_hashlimit_mtinfo2, xt_hashlimit_mtinfo1)
