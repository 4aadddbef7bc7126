"""kernel/time/timer.c: timers of one machine. They run in TIMER_SOFTIRQ, in order of expiry.

Each machine keeps two heaps, ordinary and deferrable (housekeeping that must not keep a simulation
alive), and one event on the clock for the earliest entry. Re-arming a pending timer to a later time
only changes a number: the heap entry found too early is pushed back when it surfaces. Disarming one
leaves its entry behind for the next time. Entries that nothing can come of (the timer was shut down
or armed for an earlier time) are thrown out when they are most of the heap.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any

from stack.core.clock import TimerHandle, call_in_background
from stack.core.rows import row, state
from stack.core.softirq import (
    TIMER_SOFTIRQ,
    irq_enter,
    irq_exit,
    open_softirq,
    raise_softirq_irqoff,
)

if TYPE_CHECKING:
    from stack.machine import Machine

TIMER_DEFERRABLE = 0x00080000

NSEC_PER_MSEC = 1_000_000

FEW_DEAD = 64  # entries that nothing can come of for which a heap is not looked through


@state
class timer_base:
    """The heap of one machine's timers of one kind, and its event on the clock."""

    machine: Machine
    background: bool = False
    """Housekeeping, which alone does not keep a simulation going."""
    heap: list[tuple[int, int, timer_list]] = row(make=list)
    seq: int = row(0)
    active: int = row(0)
    dead: int = row(0)
    """Entries of the heap that nothing can come of."""
    event: TimerHandle | None = row()
    event_ns: int = row(0)

    def interrupt(self) -> None:
        """The clock's event: the timer interrupt raises TIMER_SOFTIRQ, run on the way out."""
        self.event = None
        machine = self.machine
        if machine.closed:
            return
        irq_enter(machine)
        raise_softirq_irqoff(machine, TIMER_SOFTIRQ)
        irq_exit(machine)

    def close(self) -> None:
        """Drop every timer."""
        timer_base_disarm(self)
        for _, _, timer in self.heap:
            timer.pending = False
            timer.queued_at = -1
        self.heap.clear()
        self.active = self.dead = 0


def timer_base_count_dead(base: timer_base) -> None:
    """One entry of the heap more is dead; throw them out when they are most of it."""
    base.dead += 1
    if base.dead > FEW_DEAD and base.dead << 1 > len(base.heap):
        base.heap[:] = [
            entry
            for entry in base.heap
            if entry[2].seq == entry[1] and entry[2].function is not None
        ]
        heapify(base.heap)
        base.dead = 0


def timer_base_arm(base: timer_base, when_ns: int) -> None:
    """Have the clock call back at `when_ns` instead of later."""
    if base.event is not None:
        base.event.cancel()
    base.event_ns = when_ns
    clock = base.machine.clock
    if base.background:
        base.event = call_in_background(clock, when_ns, base.interrupt)
    else:
        base.event = clock.call_at(when_ns, base.interrupt)


def timer_base_disarm(base: timer_base) -> None:
    """No timer is pending: give the clock's event back."""
    if base.event is not None:
        base.event.cancel()
        base.event = None


@state
class timer_list:
    """One timer: `function(timer)` is called once at or after `expires` (the clock's ns).

    `mod_timer` arms it, `timer_delete` disarms it. `data` is the owner's (container_of).
    """

    base: timer_base = row()
    function: Callable[[timer_list], Any] | None = row()
    flags: int = row(0)
    data: Any = row()
    expires: int = row(0)
    pending: bool = row(False)
    queued_at: int = row(-1)
    """Expiry of its live heap entry, -1: no entry."""
    seq: int = row(0)

    if TYPE_CHECKING:

        def init_state(self) -> None:
            """Give every field its start value (generated from the rows)."""

    def __init__(
        self,
        machine: Machine,
        function: Callable[[timer_list], Any] | None = None,
        flags: int = 0,
        data: Any = None,
    ) -> None:
        self.init_state()
        self.base = machine.timers_deferrable if flags & TIMER_DEFERRABLE else machine.timers
        self.function = function
        self.flags = flags
        self.data = data


def timer_setup(timer: timer_list, fn: Callable[[timer_list], Any], flags: int = 0) -> None:
    """include/linux/timer.h: set what the timer calls."""
    timer.function = fn
    timer.flags |= flags


init_timer = timer_setup  # Linux up to 4.14


def mod_timer(timer: timer_list, expires_ns: int) -> int:
    """kernel/time/timer.c: (re)arm for `expires_ns`. 1 when it was pending, else 0.

    A timer without function is not armed: it was shut down.
    """
    if timer.function is None:
        return 0
    base = timer.base
    was = timer.pending
    timer.expires = expires_ns
    if not was:
        timer.pending = True
        base.active += 1
    if 0 <= timer.queued_at <= expires_ns:  # its entry comes up first, and is put back then
        if base.event is None:
            timer_base_arm(base, base.heap[0][0])
        return was
    base.seq = seq = base.seq + 1
    timer.seq = seq
    if timer.queued_at >= 0:
        timer_base_count_dead(base)
    timer.queued_at = expires_ns
    heappush(base.heap, (expires_ns, seq, timer))
    if base.event is None or expires_ns < base.event_ns:
        timer_base_arm(base, base.heap[0][0])
    return was


def add_timer(timer: timer_list) -> None:
    """kernel/time/timer.c: arm for `timer.expires`."""
    mod_timer(timer, timer.expires)


def timer_delete(timer: timer_list) -> int:
    """kernel/time/timer.c: disarm. 1 when it was pending, else 0."""
    if not timer.pending:
        return 0
    timer.pending = False
    base = timer.base
    base.active -= 1
    if not base.active:
        timer_base_disarm(base)
    return 1


def timer_shutdown(timer: timer_list) -> int:
    """kernel/time/timer.c: disarm for good, as its owner goes. 1 when it was pending, else 0.

    What the owner is made of goes with it: neither the timer nor its entry holds it any longer.
    """
    was = timer_delete(timer)
    if timer.function is not None:
        timer.function = None
        timer.data = None
        if timer.queued_at >= 0:
            timer.queued_at = -1
            timer_base_count_dead(timer.base)
    return was


def timer_pending(timer: timer_list) -> bool:
    """include/linux/timer.h: armed and not yet run."""
    return timer.pending


def run_timer_softirq(machine: Machine) -> None:
    """kernel/time/timer.c: action of TIMER_SOFTIRQ."""
    now = machine.clock.now_ns()
    __run_timers(machine.timers, now)
    __run_timers(machine.timers_deferrable, now)


def __run_timers(base: timer_base, now_ns: int) -> None:
    """kernel/time/timer.c: run what expired; then arm the clock for the next one."""
    heap = base.heap
    while heap:
        when, seq, timer = heap[0]
        if timer.seq != seq or timer.function is None:
            heappop(heap)  # armed for an earlier time, for which another entry stands; or shut down
            base.dead -= 1
            continue
        if not timer.pending:
            heappop(heap)
            timer.queued_at = -1
            continue
        if when > now_ns:
            break
        heappop(heap)
        if timer.expires > when:  # re-armed to a later time meanwhile
            base.seq = seq = base.seq + 1
            timer.seq = seq
            timer.queued_at = timer.expires
            heappush(heap, (timer.expires, seq, timer))
            continue
        timer.queued_at = -1
        timer.pending = False
        base.active -= 1
        timer.function(timer)
    if not base.active:
        timer_base_disarm(base)
    elif heap and (base.event is None or heap[0][0] < base.event_ns):
        timer_base_arm(base, heap[0][0])


def timers_init(machine: Machine) -> None:
    """kernel/time/timer.c init_timers: make the machine's two bases and open the softirq."""
    machine.timers = timer_base(machine)
    machine.timers_deferrable = timer_base(machine, background=True)
    open_softirq(machine, TIMER_SOFTIRQ, run_timer_softirq)
