"""kernel/softirq.c: bottom halves of one machine.

Hard interrupts interrupt process and softirq context, but not each other. Softirqs run at the end
of an interrupt or in `local_bh_enable`, never inside each other. Those that are still raised after
ten rounds are left to ksoftirqd, which is an event on the machine's clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stack.core.rows import row, state

if TYPE_CHECKING:
    from stack.machine import Machine

TIMER_SOFTIRQ = 1
NET_TX_SOFTIRQ = 2
NET_RX_SOFTIRQ = 3
TASKLET_SOFTIRQ = 6
NR_SOFTIRQS = 10

SOFTIRQ_NAMES = (
    "HI",
    "TIMER",
    "NET_TX",
    "NET_RX",
    "BLOCK",
    "IRQ_POLL",
    "TASKLET",
    "SCHED",
    "HRTIMER",
    "RCU",
)

MAX_SOFTIRQ_RESTART = 10
_NET_RX = 1 << NET_RX_SOFTIRQ
# The pause of ksoftirqd after ten rounds: others get the CPU, and virtual time advances even when a
# softirq raises itself for ever.
KSOFTIRQD_LATENCY_NS = 1000


@state
class softirq_action:
    """struct softirq_action: the function of a softirq, and how often it ran."""

    action: Callable[[Machine], None]
    count: int = row(0)


@state
class tasklet_struct:
    """struct tasklet_struct: a function that a softirq calls once after `tasklet_schedule`."""

    func: Callable[[], None]
    scheduled: bool = row(False)


def open_softirq(machine: Machine, nr: int, action: Callable[[Machine], None]) -> None:
    """kernel/softirq.c: register `action(machine)` as the handler of softirq `nr`."""
    machine.softirq_vec[nr].action = action


def local_bh_disable(machine: Machine) -> None:
    """include/linux/bottom_half.h: no softirq runs until the matching `local_bh_enable`."""
    machine.softirq_count += 1


def local_bh_enable(machine: Machine) -> None:
    """include/linux/bottom_half.h: run what was raised meanwhile, once the count is back at 0."""
    machine.softirq_count = count = machine.softirq_count - 1
    if not count and machine.softirq_pending and not machine.hardirq_count:
        do_softirq(machine)


def in_softirq(machine: Machine) -> bool:
    """include/linux/preempt.h: in a softirq, or bottom halves are disabled."""
    return bool(machine.softirq_count)


def raise_softirq_irqoff(machine: Machine, nr: int) -> None:
    """kernel/softirq.c: mark softirq `nr` to run at the end of the current context.

    In process context nothing would test the mark, so ksoftirqd is woken, as in the kernel.
    """
    machine.softirq_pending |= 1 << (nr & 15)
    if not machine.softirq_count and not machine.hardirq_count:
        wakeup_softirqd(machine)


raise_softirq = raise_softirq_irqoff


def tasklet_schedule(machine: Machine, t: tasklet_struct) -> None:
    """include/linux/interrupt.h: schedule `t` to run once, soon."""
    if not t.scheduled:
        t.scheduled = True
        machine.tasklet_vec.append(t)
        raise_softirq_irqoff(machine, TASKLET_SOFTIRQ)


def tasklet_action(machine: Machine) -> None:
    """kernel/softirq.c: run what is scheduled."""
    vec = machine.tasklet_vec
    for _ in range(len(vec)):
        t = vec.pop(0)
        t.scheduled = False
        t.func()


def wakeup_softirqd(machine: Machine) -> None:
    """kernel/softirq.c: wake ksoftirqd to run the pending softirqs."""
    if not machine.ksoftirqd_queued and not machine.closed:
        machine.ksoftirqd_queued = True
        machine.clock.call_soon(machine.run_ksoftirqd)


def run_ksoftirqd(machine: Machine) -> None:
    """kernel/softirq.c: the function of ksoftirqd."""
    machine.ksoftirqd_queued = False
    if machine.softirq_pending and not machine.softirq_count and not machine.hardirq_count:
        __do_softirq(machine)


def do_softirq(machine: Machine) -> None:
    """kernel/softirq.c: run what is pending unless already in an interrupt."""
    if not machine.softirq_count and not machine.hardirq_count and machine.softirq_pending:
        __do_softirq(machine)


def __do_softirq(machine: Machine) -> None:
    """kernel/softirq.c: run raised softirqs, lowest number first, at most ten rounds.

    Raises the first exception that `raise_later` kept.
    """
    machine.softirq_count += 1
    try:
        handle_softirqs(machine)
    finally:
        machine.softirq_count -= 1
    if machine.raised:
        wrong = machine.raised.pop(0)
        if machine.raised:  # ksoftirqd raises the next one
            machine.softirq_pending |= _NET_RX
            wakeup_softirqd(machine)
        raise wrong


def handle_softirqs(machine: Machine) -> None:
    """kernel/softirq.c: the rounds; softirqs raised after the last are left to ksoftirqd."""
    h: softirq_action
    pending = 0
    try:
        for _ in range(MAX_SOFTIRQ_RESTART):
            left = pending = machine.softirq_pending
            machine.softirq_pending = 0
            nr = 0
            while left:
                if left & 1:
                    h = machine.softirq_vec[nr]
                    h.count += 1
                    h.action(machine)
                left >>= 1
                nr += 1
            if not machine.softirq_pending:
                return
    except BaseException:
        # A program's function (hook, callback, signal handler) raised within a packet. ksoftirqd
        # runs the pending softirqs and polls for the packets that were left.
        machine.softirq_pending |= pending | _NET_RX
        wakeup_softirqd(machine)
        raise
    if not machine.ksoftirqd_queued and not machine.closed:
        machine.ksoftirqd_queued = True
        clock = machine.clock
        clock.call_at(clock.now_ns() + KSOFTIRQD_LATENCY_NS, machine.run_ksoftirqd)


def raise_later(machine: Machine, wrong: BaseException) -> None:
    """Keep an exception of a program's function (hook, tap, callback, signal handler).

    Raised at once, it would lose the next packets of a list, or stop a device that raises its
    interrupt line in the middle of its work. `__do_softirq` raises it instead: into its caller, or
    from ksoftirqd into the thread that runs the clock.
    """
    machine.raised.append(wrong)
    raise_softirq_irqoff(machine, NET_RX_SOFTIRQ)


def irq_enter(machine: Machine) -> None:
    """kernel/softirq.c: entering a hard interrupt."""
    machine.hardirq_count += 1


def irq_exit(machine: Machine) -> None:
    """kernel/softirq.c: leave a hard interrupt: run waiting interrupts, then pending softirqs.

    Softirqs do not run when the interrupt came in a softirq or with bottom halves disabled.
    """
    machine.hardirq_count = count = machine.hardirq_count - 1
    if not count:
        if machine.irq_replay:
            machine.replay_irqs()
        if machine.softirq_pending and not machine.softirq_count:
            __do_softirq(machine)


def softirq_init(machine: Machine) -> None:
    """kernel/softirq.c: every vector does nothing yet."""
    machine.softirq_vec = [softirq_action(_no_action) for _ in range(NR_SOFTIRQS)]
    machine.tasklet_vec = []
    open_softirq(machine, TASKLET_SOFTIRQ, tasklet_action)


def _no_action(machine: Machine) -> None:
    return None
