"""kernel/time/timer.c: timers of one machine. They run in TIMER_SOFTIRQ, in order of expiry.

Each machine keeps two heaps, ordinary and deferrable (housekeeping that must not keep a simulation
alive), and one event on the clock for the earliest entry. A timer knows its place in the heap, so
it has one entry at most. Re-arming a pending timer to a later time only changes a number: the entry
found too early is put back when it surfaces. Disarming one leaves its entry behind for the next
time; shutting it down takes the entry out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stack.core.clock import TimerHandle, call_in_background
from stack.core.rows import i32, row, state, u32
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


@state
class timer_base:
    """The heap of one machine's timers of one kind, and its event on the clock."""

    machine: Machine
    background: bool = False
    """Housekeeping, which alone does not keep a simulation going."""
    heap: list[timer_list] = row(make=list)
    """A binary heap in order of (`queued_at`, `seq`); `heap_at` of a timer is its place in it."""
    seq: int = row(0)
    active: int = row(0)
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
        for timer in self.heap:
            timer.pending = False
            timer.heap_at = -1
        self.heap.clear()
        self.active = 0


def timer_base_arm(base: timer_base, when_ns: int) -> None:
    """Move the clock's event forward to `when_ns`."""
    if base.event is not None:
        base.event.cancel()
    base.event_ns = when_ns
    clock = base.machine.clock
    if base.background:
        base.event = call_in_background(clock, when_ns, base.interrupt)
    else:
        base.event = clock.call_at(when_ns, base.interrupt)


def timer_base_disarm(base: timer_base) -> None:
    """No timer is pending: cancel the clock's event."""
    if base.event is not None:
        base.event.cancel()
        base.event = None


@state
class timer_list:
    """One timer: `function(timer)` is called once at or after `expires` (the clock's ns).

    `mod_timer` arms it, `timer_delete` disarms it. `data` is the owner's (container_of).
    """

    machine: Machine
    function: Callable[[timer_list], Any] | None = None
    flags: u32 = 0
    data: Any = None
    expires: int = row(0)
    pending: bool = row(False)
    heap_at: i32 = row(-1)
    """The index of its entry in the heap, -1: it has none."""
    queued_at: int = row(0)
    """The entry's sort key: an expiry, and in `seq` the number of the call that queued it."""
    seq: int = row(0)


def get_timer_base(timer: timer_list) -> timer_base:
    """kernel/time/timer.c: the heap of the machine that its flags choose."""
    machine = timer.machine
    return machine.timers_deferrable if timer.flags & TIMER_DEFERRABLE else machine.timers


def timer_before(one: timer_list, other: timer_list) -> bool:
    """The order of the heap."""
    if one.queued_at == other.queued_at:
        return one.seq < other.seq
    return one.queued_at < other.queued_at


def timer_sift_up(heap: list[timer_list], timer: timer_list, at: int) -> None:
    """Put `timer` at `at` or, past those that come after it, nearer to the root."""
    while at:
        parent = (at - 1) >> 1
        above: timer_list = heap[parent]
        if not timer_before(timer, above):
            break
        heap[at] = above
        above.heap_at = at
        at = parent
    heap[at] = timer
    timer.heap_at = at


def timer_sift_down(heap: list[timer_list], timer: timer_list, at: int) -> None:
    """Put `timer` at `at` or, past those that come before it, farther from the root."""
    size = len(heap)
    child = 2 * at + 1
    while child < size:
        below: timer_list = heap[child]
        if child + 1 < size:
            right: timer_list = heap[child + 1]
            if timer_before(right, below):
                child += 1
                below = right
        if not timer_before(below, timer):
            break
        heap[at] = below
        below.heap_at = at
        at = child
        child = 2 * at + 1
    heap[at] = timer
    timer.heap_at = at


def enqueue_timer(base: timer_base, timer: timer_list) -> None:
    """kernel/time/timer.c: queue an entry for `timer.expires`, or move its later one forward."""
    heap = base.heap
    base.seq += 1
    timer.seq = base.seq
    timer.queued_at = timer.expires
    at = timer.heap_at
    if at < 0:
        at = len(heap)
        heap.append(timer)
    timer_sift_up(heap, timer, at)


def detach_timer(base: timer_base, timer: timer_list) -> None:
    """kernel/time/timer.c: take the entry of `timer` out."""
    heap = base.heap
    at = timer.heap_at
    timer.heap_at = -1
    last: timer_list = heap.pop()
    if last is timer:
        return
    timer_sift_down(heap, last, at)
    if last.heap_at == at:
        timer_sift_up(heap, last, at)


def mod_timer(timer: timer_list, expires_ns: int) -> int:
    """kernel/time/timer.c: (re)arm for `expires_ns`. 1 when it was pending, else 0.

    A timer without function is not armed: it was shut down.
    """
    if timer.function is None:
        return 0
    base = get_timer_base(timer)
    was = timer.pending
    timer.expires = expires_ns
    if not was:
        timer.pending = True
        base.active += 1
    # An entry for an earlier time comes up first, and is put back then.
    if timer.heap_at < 0 or timer.queued_at > expires_ns:
        enqueue_timer(base, timer)
    first: timer_list = base.heap[0]
    if base.event is None or first.queued_at < base.event_ns:
        timer_base_arm(base, first.queued_at)
    return was


def add_timer(timer: timer_list) -> None:
    """kernel/time/timer.c: arm for `timer.expires`."""
    mod_timer(timer, timer.expires)


def timer_delete(timer: timer_list) -> int:
    """kernel/time/timer.c: disarm. 1 when it was pending, else 0."""
    if not timer.pending:
        return 0
    timer.pending = False
    base = get_timer_base(timer)
    base.active -= 1
    if not base.active:
        timer_base_disarm(base)
    return 1


def timer_shutdown(timer: timer_list) -> int:
    """kernel/time/timer.c: disarm for good, as its owner goes. 1 when it was pending, else 0.

    The owner can be freed: neither the timer nor its entry refers to it any longer.
    """
    was = timer_delete(timer)
    if timer.function is not None:
        timer.function = None
        timer.data = None
        if timer.heap_at >= 0:
            detach_timer(get_timer_base(timer), timer)
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
        timer: timer_list = heap[0]
        if not timer.pending:
            detach_timer(base, timer)
            continue
        when = timer.queued_at
        if when > now_ns:
            break
        detach_timer(base, timer)
        if timer.expires > when:  # re-armed to a later time meanwhile
            enqueue_timer(base, timer)
            continue
        timer.pending = False
        base.active -= 1
        assert timer.function is not None, "mod_timer arms none without"
        timer.function(timer)
    if not base.active:
        timer_base_disarm(base)
    elif heap:
        first: timer_list = heap[0]
        if base.event is None or first.queued_at < base.event_ns:
            timer_base_arm(base, first.queued_at)


def timers_init(machine: Machine) -> None:
    """kernel/time/timer.c init_timers: make the machine's two bases and open the softirq."""
    machine.timers = timer_base(machine)
    machine.timers_deferrable = timer_base(machine, background=True)
    open_softirq(machine, TIMER_SOFTIRQ, run_timer_softirq)
