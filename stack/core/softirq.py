"""kernel/softirq.c: bottom halves of one machine.

Hard interrupts nest in nothing but process or softirq context; softirqs run on the way out of an
interrupt or at `local_bh_enable`, never inside each other. What stays raised after ten rounds is
left to ksoftirqd, which is an event on the machine's clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stack.core.rows import row, state

if TYPE_CHECKING:
    from stack.machine import Machine

HI_SOFTIRQ = 0
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
# How long ksoftirqd waits for its turn after a full run: others get the CPU, and virtual time moves
# on even when a softirq raises itself for ever.
KSOFTIRQD_LATENCY_NS = 1000


@state
class softirq_action:
    """struct softirq_action: what a softirq does, and how often it was done."""

    action: Callable[[Machine], None]
    count: int = row(0)


def open_softirq(machine: Machine, nr: int, action: Callable[[Machine], None]) -> None:
    """kernel/softirq.c: `action(machine)` is what softirq `nr` does."""
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
    """kernel/softirq.c: mark softirq `nr`; runs on the way out of the current context.

    In process context nothing would look at the mark, so ksoftirqd is woken, as in the kernel.
    """
    machine.softirq_pending |= 1 << (nr & 15)
    if not machine.softirq_count and not machine.hardirq_count:
        wakeup_softirqd(machine)


raise_softirq = raise_softirq_irqoff


def wakeup_softirqd(machine: Machine) -> None:
    """kernel/softirq.c: have ksoftirqd run the pending softirqs soon."""
    if not machine.ksoftirqd_queued and not machine.closed:
        machine.ksoftirqd_queued = True
        machine.clock.call_soon(machine.run_ksoftirqd)


def run_ksoftirqd(machine: Machine) -> None:
    """kernel/softirq.c: the thread's turn."""
    machine.ksoftirqd_queued = False
    if machine.softirq_pending and not machine.softirq_count and not machine.hardirq_count:
        __do_softirq(machine)


def do_softirq(machine: Machine) -> None:
    """kernel/softirq.c: run what is pending unless already in an interrupt."""
    if not machine.softirq_count and not machine.hardirq_count and machine.softirq_pending:
        __do_softirq(machine)


def __do_softirq(machine: Machine) -> None:
    """kernel/softirq.c: run raised softirqs, lowest number first, at most ten rounds.

    At its end the caller gets what `raise_later` was told.
    """
    machine.softirq_count += 1
    try:
        handle_softirqs(machine)
    finally:
        machine.softirq_count -= 1
    if machine.raised:
        wrong = machine.raised.pop(0)
        if machine.raised:  # each for itself
            machine.softirq_pending |= _NET_RX
            wakeup_softirqd(machine)
        raise wrong


def handle_softirqs(machine: Machine) -> None:
    """kernel/softirq.c: the rounds; what is raised after the last is ksoftirqd's."""
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
        # Somebody's own function within a packet: a hook, a callback, the handler of a signal. What
        # else is raised, and what it left, is ksoftirqd's.
        machine.softirq_pending |= pending | _NET_RX
        wakeup_softirqd(machine)
        raise
    if not machine.ksoftirqd_queued and not machine.closed:
        machine.ksoftirqd_queued = True
        clock = machine.clock
        clock.call_at(clock.now_ns() + KSOFTIRQD_LATENCY_NS, machine.run_ksoftirqd)


def raise_later(machine: Machine, wrong: BaseException) -> None:
    """A program's function (hook, tap, callback, handler of a signal) raised within a packet.

    Who ran the softirqs gets it when they are done. For places that an exception must not leave:
    the packets of a list behind this one go on, and a device that raises its interrupt line is amid
    work of its own. Outside of softirqs that is ksoftirqd, an event of the clock's: who runs the
    clock gets it.
    """
    machine.raised.append(wrong)
    raise_softirq_irqoff(machine, NET_RX_SOFTIRQ)


def irq_enter(machine: Machine) -> None:
    """kernel/softirq.c: entering a hard interrupt."""
    machine.hardirq_count += 1


def irq_exit(machine: Machine) -> None:
    """kernel/softirq.c: leaving a hard interrupt: waiting interrupts, then softirqs, if any.

    Softirqs do not run when one was interrupted, or bottom halves are off.
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


def _no_action(machine: Machine) -> None:
    return None
