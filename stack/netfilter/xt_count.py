"""Matches that count or select: net/netfilter/xt_limit.c, xt_statistic.c, xt_quota.c, xt_time.c;
and xt_comment.c, xt_cpu.c, which always match, and xt_string.c, which searches the data."""

from __future__ import annotations

import errno
import struct
from datetime import UTC, datetime

from stack.core.time64 import NSEC_PER_SEC
from stack.netfilter.nf_conntrack_tuple import skb_bytes
from stack.netfilter.nf_tables import nft_pktinfo
from stack.netfilter.x_tables import xt_match, xt_mtchk_param, xt_register_match
from stack.netlink.nlattr import NlError

XT_LIMIT_SCALE = 10000
XT_STATISTIC_MODE_RANDOM, XT_STATISTIC_MODE_NTH, XT_STATISTIC_INVERT = 0, 1, 1
XT_QUOTA_INVERT = 1
XT_STRING_FLAG_INVERT, XT_STRING_FLAG_IGNORECASE = 1, 2
XT_TIME_CONTIGUOUS, XT_TIME_ALL_FLAGS = 2, 3
SECONDS_PER_DAY = 86400
ALGORITHMS = (b"bm", b"kmp", b"fsm")


class xt_comment_info(xt_match):
    """struct xt_comment_info: `-m comment`: it matches all packets."""

    name = "comment"
    size = 256

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_comment.c comment_mt."""
        return True


class xt_cpu_info(xt_match):
    """struct xt_cpu_info: `-m cpu`. There is one CPU, number 0. EINVAL: `invert` is neither 0 nor
    1.
    """

    name = "cpu"
    size = 8
    cpu: int

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.cpu, invert = struct.unpack_from("=II", info)
        if invert & ~1:
            raise NlError(errno.EINVAL)
        self.invert = bool(invert)

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_cpu.c cpu_mt."""
        return (self.cpu == 0) != self.invert


class xt_rateinfo(xt_match):
    """struct xt_rateinfo: `-m limit` of old versions: `avg` is the time per packet in 1 / 10000 s,
    `burst` the packets that may come at once. ERANGE: no burst, or the product is too large.
    """

    name = "limit"
    size = 40
    usersize = 8

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        avg, burst = struct.unpack_from("=II", info)
        if not burst or avg * burst > 0xFFFFFFFF:
            raise NlError(errno.ERANGE)
        self.net = par.net
        self.cost = avg * NSEC_PER_SEC // XT_LIMIT_SCALE
        self.credit_cap = self.credit = self.cost * burst
        self.prev = par.net.clock.now_ns()

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_limit.c limit_mt."""
        now: int = self.net.clock.now_ns()
        self.credit = min(self.credit + now - self.prev, self.credit_cap)
        self.prev = now
        fits: bool = self.credit >= self.cost
        if fits:
            self.credit -= self.cost
        return fits


class xt_statistic_info(xt_match):
    """struct xt_statistic_info: `-m statistic`: match at random (from the machine's seed), or one
    packet of every `every` + 1. EINVAL: no such mode or flag.
    """

    name = "statistic"
    size = 24
    usersize = 16
    mode: int
    every: int
    """Random mode: probability in 2 ** 31ths; else every n-th packet."""
    count: int

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.mode, flags, self.every, self.count = struct.unpack_from("=HHI4xI", info)
        if self.mode > XT_STATISTIC_MODE_NTH or flags & ~XT_STATISTIC_INVERT:
            raise NlError(errno.EINVAL)
        self.invert = bool(flags)

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_statistic.c statistic_mt."""
        if self.mode == XT_STATISTIC_MODE_RANDOM:
            return (pkt.state.net.random.getrandbits(31) < self.every) != self.invert
        self.count = 0 if self.count == self.every else self.count + 1
        return (self.count == 0) != self.invert


class xt_quota_info(xt_match):
    """struct xt_quota_info: `-m quota`: match until that many bytes have come. EINVAL: another
    flag.
    """

    name = "quota"
    size = 24
    usersize = 16

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        flags, self.quota = struct.unpack_from("=I4xQ", info)
        if flags & ~XT_QUOTA_INVERT:
            raise NlError(errno.EINVAL)
        self.invert = bool(flags)

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_quota.c quota_mt."""
        if self.quota >= pkt.skb.len:
            self.quota -= pkt.skb.len
            return not self.invert
        self.quota = 0
        return self.invert


class xt_string_info(xt_match):
    """struct xt_string_info: `-m string`: whether the packet has the bytes between two offsets.

    EINVAL: the offsets, the pattern's length or the flags are wrong; ENOENT: no such algorithm.
    """

    name = "string"
    revision = 1
    size = 160
    usersize = 152

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.low, self.high, algo, pattern, size, self.flags = struct.unpack_from(
            "=HH16s128sBB", info
        )
        if (
            self.low > self.high
            or b"\0" not in algo
            or size > len(pattern)
            or self.flags & ~(XT_STRING_FLAG_INVERT | XT_STRING_FLAG_IGNORECASE)
        ):
            raise NlError(errno.EINVAL)
        if algo.partition(b"\0")[0] not in ALGORITHMS:
            raise NlError(errno.ENOENT)
        self.pattern: bytes = pattern[:size]
        if self.flags & XT_STRING_FLAG_IGNORECASE:
            self.pattern = self.pattern.upper()

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_string.c string_mt."""
        data = skb_bytes(pkt.skb, self.low, self.high - self.low)
        if self.flags & XT_STRING_FLAG_IGNORECASE:
            data = data.upper()
        return (self.pattern in data) != bool(self.flags & XT_STRING_FLAG_INVERT)


class xt_time_info(xt_match):
    """struct xt_time_info: `-m time`: whether the host's clock is within dates, a time of the day,
    days of the week and of the month. There are no time zones: UTC.

    EDOM: no time of a day; EINVAL: an unknown flag, or a contiguous period within one day.
    """

    name = "time"
    size = 24
    date_start: int
    date_stop: int
    day_start: int
    day_stop: int
    monthdays: int
    weekdays: int

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.date_start, self.date_stop, self.day_start, self.day_stop, *rest = struct.unpack_from(
            "=5I2B", info
        )
        self.monthdays, self.weekdays, self.flags = rest
        if max(self.day_start, self.day_stop) >= SECONDS_PER_DAY:
            raise NlError(errno.EDOM)
        if self.flags & ~XT_TIME_ALL_FLAGS:
            raise NlError(errno.EINVAL)
        contiguous = self.flags & XT_TIME_CONTIGUOUS
        if contiguous and self.day_start < self.day_stop:
            raise NlError(errno.EINVAL)

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_time.c time_mt."""
        stamp: int = pkt.state.net.machine.realtime_ns() // NSEC_PER_SEC
        if not self.date_start <= stamp <= self.date_stop:
            return False
        at = stamp % SECONDS_PER_DAY
        if self.day_start < self.day_stop:
            if not self.day_start <= at <= self.day_stop:
                return False
        elif self.day_stop < at < self.day_start:
            return False
        elif self.flags & XT_TIME_CONTIGUOUS and at <= self.day_stop:
            stamp -= SECONDS_PER_DAY  # the period began yesterday
        date = datetime.fromtimestamp(stamp, UTC)
        return bool(self.weekdays >> date.isoweekday() & 1 and self.monthdays >> date.day & 1)


xt_register_match(
    xt_time_info,
    xt_comment_info,
    xt_cpu_info,
    xt_rateinfo,
    xt_statistic_info,
    xt_quota_info,
    xt_string_info,
)
