"""include/net/pkt_sched.h, sch_generic.h: transmission times at a rate."""

from __future__ import annotations

from stack.core.netdevice import net_device
from stack.core.rows import row, state
from stack.core.time64 import NSEC_PER_SEC
from stack.sched.sch_generic import Options

PSCHED_SHIFT = 6
"""A tick of packet schedulers, the unit of times in some structures, is 64 ns."""
TC_LINKLAYER_ATM = 2
RATE_MAX = (1 << 63) - 1


def psched_ticks(time_ns: int) -> int:
    """include/net/pkt_sched.h PSCHED_NS2TICKS, in the 32 bits of a structure."""
    return time_ns >> PSCHED_SHIFT & 0xFFFFFFFF


def psched_mtu(dev: net_device) -> int:
    """include/net/pkt_sched.h: bytes of the largest frame."""
    return dev.mtu + dev.hard_header_len


def psched_l2t_ns(rate: int, nbytes: int) -> int:
    """include/net/sch_generic.h: the time that `nbytes` take at `rate` bytes/s, ns."""
    return nbytes * NSEC_PER_SEC // rate


def psched_ratecfg_precompute(rate: int) -> tuple[int, int]:
    """net/sched/sch_generic.c: the inverse of a rate in bytes/s, in 32 bits; and how to shift."""
    if not rate:
        return 1, 0
    factor, shift = NSEC_PER_SEC, 0
    while not (factor // rate >> 31 & 1 or factor >> 63):
        factor <<= 1
        shift += 1
    return factor // rate & 0xFFFFFFFF, shift


@state
class psched_ratecfg:
    """include/net/sch_generic.h: a rate, and the link's overhead per packet."""

    bytes_ps: int = 0
    """Bytes per second."""
    overhead: int = 0
    mpu: int = 0
    """Bytes of the smallest frame."""
    linklayer: int = 1
    scale: tuple[int, int] = row(of=lambda rate: psched_ratecfg_precompute(rate.bytes_ps))
    """ns per byte as Linux computes with them: `mult` >> `shift`."""

    def l2t_ns(self, nbytes: int) -> int:
        """psched_l2t_ns: the time that a packet takes. With ATM in cells of 48 bytes in 53."""
        nbytes = max(nbytes + self.overhead, self.mpu)
        if self.linklayer == TC_LINKLAYER_ATM:
            nbytes = -(-nbytes // 48) * 53
        mult, shift = self.scale
        return nbytes * mult >> shift

    def t2l(self, time_ns: int) -> int:
        """net/sched/sch_tbf.c psched_ns_t2l: bytes that may be sent in a time."""
        nbytes = self.bytes_ps * time_ns // NSEC_PER_SEC
        if self.linklayer == TC_LINKLAYER_ATM:
            nbytes = nbytes // 53 * 48
        return max(nbytes - self.overhead, 0)


RATESPEC = ("overhead", "mpu", "linklayer")


def rate_from(opt: Options, name: str, wide_name: str) -> psched_ratecfg:
    """A rate of `opt`, with the members of its struct tc_ratespec as `name`_overhead ..."""
    rest = [opt.get(f"{name}_{part}") or 0 for part in RATESPEC]
    most = max(opt.get(wide_name) or 0, opt.get(name) or 0)
    return psched_ratecfg(min(most, RATE_MAX), *rest)


def rate_told(rate: psched_ratecfg, name: str, wide_name: str) -> dict[str, int | None]:
    """The reverse conversion."""
    big = rate.bytes_ps > 0xFFFFFFFF
    return {
        name: 0xFFFFFFFF if big else rate.bytes_ps,
        **{f"{name}_{part}": getattr(rate, part) for part in RATESPEC},
        wide_name: rate.bytes_ps if big else None,
    }
