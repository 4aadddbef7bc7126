"""net/core/gen_estimator.c: rate estimation for a discipline, class or action.

A timer samples the counters every 250 ms << `intvl_log`. The averages move by 2^-`ewma_log` of the
difference each time; they have 8 fractional bits.
"""

from __future__ import annotations

import errno
import struct
from typing import Protocol

from stack.core.extack import ExtAckError
from stack.core.rows import row, state
from stack.core.timer import TIMER_DEFERRABLE, mod_timer, timer_delete, timer_list
from stack.net import Net
from stack.sched.sch_generic import gnet_stats_basic_sync

EST_STEP_NS = 250_000_000
EST_MIN, EST_MAX = -2, 3
EST_SHIFT = 8


class Counted(Protocol):
    """An object whose rate is estimated."""

    bstats: gnet_stats_basic_sync


def est_timer(timer: timer_list) -> None:
    """net/core/gen_estimator.c: sample the counters."""
    est: net_rate_estimator = timer.data
    stats = est.what.bstats
    fine = 10 - est.intvl_log
    brate = (stats.bytes - est.last_bytes << fine) >> est.ewma_log
    rate = (stats.packets - est.last_packets << fine) >> est.ewma_log
    est.avbps += brate - (est.avbps >> est.ewma_log)
    est.avpps += rate - (est.avpps >> est.ewma_log)
    est.last_bytes, est.last_packets = stats.bytes, stats.packets
    est.next_ns += EST_STEP_NS << est.intvl_log
    mod_timer(timer, est.next_ns)


@state
class net_rate_estimator:
    """The averages of the rates of `what`."""

    net: Net
    what: Counted
    ewma_log: int
    intvl_log: int
    avbps: int = row(0)
    avpps: int = row(0)
    """Bytes and packets per second, << 8."""
    last_bytes: int = row(of=lambda est: est.what.bstats.bytes)
    last_packets: int = row(of=lambda est: est.what.bstats.packets)
    next_ns: int = row(of=lambda est: est.net.clock.now_ns() + (EST_STEP_NS << est.intvl_log))
    timer: timer_list = row(
        of=lambda est: timer_list(est.net.machine, est_timer, TIMER_DEFERRABLE, data=est)
    )

    def kill(self) -> None:
        """net/core/gen_estimator.c: gen_kill_estimator."""
        timer_delete(self.timer)

    def read(self) -> tuple[int, int]:
        """net/core/gen_estimator.c gen_estimator_read: bytes/s, packets/s."""
        return self.avbps >> EST_SHIFT, self.avpps >> EST_SHIFT


def gen_new_estimator(
    net: Net, what: Counted, opt: bytes, old: net_rate_estimator | None = None
) -> net_rate_estimator:
    """net/core/gen_estimator.c: begin to estimate. `opt`: a struct gnet_estimator.

    The averages of `old` are kept. Raises: OSError EINVAL.
    """
    if len(opt) < 2:
        raise ExtAckError(errno.EINVAL, "Failed to generate new estimator")
    interval, ewma_log = struct.unpack_from("=bB", opt)
    if not EST_MIN <= interval <= EST_MAX or not 0 < ewma_log < 31:
        raise ExtAckError(errno.EINVAL, "Failed to generate new estimator")
    est = net_rate_estimator(net, what, ewma_log, interval + 2)
    if old is not None:
        old.kill()
        est.avbps, est.avpps = old.avbps, old.avpps
    mod_timer(est.timer, est.next_ns)
    return est
