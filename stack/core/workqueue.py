"""Deferred work in process context (kernel/workqueue.c) and the driver's sleeps (delay.h).

Work runs as an event of the host's clock: never inside a hard or soft interrupt, so it may sleep.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from stack.core.clock import TimerHandle, call_in_background
from stack.core.rows import row, state
from stack.core.time64 import NSEC_PER_MSEC, NSEC_PER_USEC

if TYPE_CHECKING:
    from stack.machine import Machine

UDELAY_DEBT_NS = 500 * NSEC_PER_USEC
"""`udelay` adds up delays to this before it sleeps: a bit-banged EEPROM asks for thousands."""


@state
class work_struct:
    """One piece of deferred work: `func()`; queued at most once at a time."""

    machine: Machine
    func: Callable[[], None]
    pending: bool = row(False)
    queued: TimerHandle | None = row()
    ticket: int = row(0)  # of the last queueing; a clock event with an older one is stale

    def _run(self, ticket: int) -> None:
        if not self.pending or ticket != self.ticket:
            return  # cancelled, or queued anew since
        self.pending = False
        self.queued = None
        self.func()


def schedule_work(work: work_struct) -> bool:
    """Queue `work` for the next turn of the clock; False when it was queued already."""
    if work.pending:
        return False
    work.pending = True
    work.ticket = ticket = work.ticket + 1
    work.machine.clock.call_soon(lambda: work._run(ticket))
    return True


def schedule_delayed_work(work: work_struct, delay_ns: int) -> bool:
    """Queue `work` in `delay_ns`, at once when that is 0; False when it was queued already.

    The timer is a background one: housekeeping alone does not keep a waiting call alive.
    """
    if not delay_ns:
        return schedule_work(work)
    if work.pending:
        return False
    work.pending = True
    work.ticket = ticket = work.ticket + 1
    clock = work.machine.clock
    work.queued = call_in_background(clock, clock.now_ns() + delay_ns, lambda: work._run(ticket))
    return True


def mod_delayed_work(work: work_struct, delay_ns: int) -> bool:
    """Queue `work` in `delay_ns`, moving it when it is queued; True when it was pending."""
    pending = cancel_delayed_work(work)
    schedule_delayed_work(work, delay_ns)
    return pending


def cancel_delayed_work(work: work_struct) -> bool:
    """Take `work` off the queue; True when it was pending."""
    was_pending = work.pending
    if work.queued is not None:
        work.machine.clock.cancel(work.queued)
        work.queued = None
    work.pending = False
    return was_pending


def cancel_delayed_work_sync(work: work_struct) -> bool:
    """Take `work` off the queue and wait while it runs in another context.

    Work that cancels itself does not wait: it is its own context.
    """
    return cancel_delayed_work(work)


def _never() -> bool:
    return False


def sleep_ns(machine: Machine, duration_ns: int) -> None:
    """Let `duration_ns` pass on the host's clock; other hosts and the device go on meanwhile.

    In a running asyncio loop the clock cannot wait, so the thread sleeps: the delay is kept, but no
    events run meanwhile.
    """
    try:
        machine.clock.wait(_never, duration_ns)
    except RuntimeError as error:
        # The clock raises a class of its own; a plain RuntimeError means that the lock is not held.
        if type(error) is RuntimeError:
            raise
        time.sleep(duration_ns / 1e9)


def msleep(machine: Machine, msecs: int) -> None:
    """Sleep `msecs` (kernel/time/timer.c)."""
    sleep_ns(machine, msecs * NSEC_PER_MSEC)


def usleep_range(machine: Machine, usec_min: int, usec_max: int) -> None:
    """Sleep at least `usec_min` (kernel/time/timer.c); the clock is exact, so no more."""
    sleep_ns(machine, usec_min * NSEC_PER_USEC)
