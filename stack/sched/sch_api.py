"""net/sched/sch_api.c: replacing a discipline, and the timer of one that holds packets back."""

from __future__ import annotations

from stack.core.dev_queue import netif_schedule
from stack.core.netdevice import net_device
from stack.core.rows import row, state
from stack.core.timer import mod_timer, timer_delete, timer_list
from stack.sched.sch_generic import Qdisc


def qdisc_watchdog_timer(timer: timer_list) -> None:
    """net/sched/sch_api.c: let the throttled discipline send again."""
    netif_schedule(timer.data.qdisc)


@state
class qdisc_watchdog:
    """net/sched/sch_api.c: the timer of a throttled discipline; expiry schedules the device."""

    qdisc: Qdisc
    timer: timer_list = row(
        of=lambda wd: timer_list(wd.qdisc.dev.machine, qdisc_watchdog_timer, data=wd)
    )

    def cancel(self) -> None:
        """net/sched/sch_api.c: qdisc_watchdog_cancel."""
        timer_delete(self.timer)


def qdisc_watchdog_schedule_ns(wd: qdisc_watchdog, expires_ns: int) -> None:
    """net/sched/sch_api.c: schedule the device at `expires_ns`."""
    mod_timer(wd.timer, expires_ns)


def qdisc_graft(dev: net_device, qdisc: Qdisc) -> None:
    """net/sched/sch_api.c: make `qdisc` the device's discipline; free packets of the old one."""
    old = dev.qdisc
    dev.qdisc = qdisc
    if old is not None:
        old.deactivated = True
        old.reset()
