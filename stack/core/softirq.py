"""kernel/softirq.c: bottom halves of one host.

Hard interrupts nest in nothing but process or softirq context; softirqs run on the way out of an
interrupt or at `local_bh_enable`, never inside each other. What stays raised after ten rounds is
left to ksoftirqd, which is an event on the host's clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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

# The raised softirqs of a mask in the order they run; 1024 short tuples make the loop a look-up.
_ORDER = tuple(
    tuple(nr for nr in range(NR_SOFTIRQS) if mask & 1 << nr) for mask in range(1 << NR_SOFTIRQS)
)


def open_softirq(net: Any, nr: int, action: Callable[[Any], None]) -> None:
    """kernel/softirq.c: `action(net)` is what softirq `nr` does."""
    net.softirq_vec[nr] = action


def local_bh_disable(net: Any) -> None:
    """include/linux/bottom_half.h: no softirq runs until the matching `local_bh_enable`."""
    net.softirq_count += 1


def local_bh_enable(net: Any) -> None:
    """include/linux/bottom_half.h: run what was raised meanwhile, once the count is back at 0."""
    net.softirq_count = count = net.softirq_count - 1
    if not count and net.softirq_pending and not net.hardirq_count:
        do_softirq(net)


def in_interrupt(net: Any) -> bool:
    """include/linux/preempt.h: in a hard interrupt or softirq, or bottom halves are disabled."""
    return bool(net.hardirq_count or net.softirq_count)


def in_hardirq(net: Any) -> bool:
    """include/linux/preempt.h: in a hard interrupt handler."""
    return bool(net.hardirq_count)


def in_softirq(net: Any) -> bool:
    """include/linux/preempt.h: in a softirq, or bottom halves are disabled."""
    return bool(net.softirq_count)


def raise_softirq_irqoff(net: Any, nr: int) -> None:
    """kernel/softirq.c: mark softirq `nr`; runs on the way out of the current context.

    In process context nothing would look at the mark, so ksoftirqd is woken, as in the kernel.
    """
    net.softirq_pending |= 1 << nr
    if not net.softirq_count and not net.hardirq_count:
        wakeup_softirqd(net)


raise_softirq = raise_softirq_irqoff


def __raise_softirq_irqoff(net: Any, nr: int) -> None:
    """kernel/softirq.c: mark only; for callers that run softirqs themselves."""
    net.softirq_pending |= 1 << nr


def wakeup_softirqd(net: Any) -> None:
    """kernel/softirq.c: have ksoftirqd run the pending softirqs soon."""
    if not net.ksoftirqd_queued and not net.closed:
        net.ksoftirqd_queued = True
        net.clock.call_soon(net.run_ksoftirqd)


def run_ksoftirqd(net: Any) -> None:
    """kernel/softirq.c: the thread's turn."""
    net.ksoftirqd_queued = False
    if net.softirq_pending and not net.softirq_count and not net.hardirq_count:
        __do_softirq(net)


def do_softirq(net: Any) -> None:
    """kernel/softirq.c: run what is pending unless already in an interrupt."""
    if not net.softirq_count and not net.hardirq_count and net.softirq_pending:
        __do_softirq(net)


def __do_softirq(net: Any) -> None:
    """kernel/softirq.c: run raised softirqs, lowest number first, at most ten rounds."""
    net.softirq_count += 1
    try:
        if net.softirq_pending == _NET_RX:  # the usual case
            net.softirq_pending = 0
            net.softirq_stats[NET_RX_SOFTIRQ] += 1
            net.softirq_vec[NET_RX_SOFTIRQ](net)
            if not net.softirq_pending:
                return
        handle_softirqs(net)
    finally:
        net.softirq_count -= 1


def handle_softirqs(net: Any) -> None:
    """kernel/softirq.c: the rounds; what is raised after the last is ksoftirqd's."""
    vec = net.softirq_vec
    stats = net.softirq_stats
    for _ in range(MAX_SOFTIRQ_RESTART - 1):
        pending = net.softirq_pending
        net.softirq_pending = 0
        for nr in _ORDER[pending]:
            stats[nr] += 1
            vec[nr](net)
        if not net.softirq_pending:
            return
    if not net.ksoftirqd_queued and not net.closed:
        net.ksoftirqd_queued = True
        clock = net.clock
        clock.call_at(clock.now_ns() + KSOFTIRQD_LATENCY_NS, net.run_ksoftirqd)


def irq_enter(net: Any) -> None:
    """kernel/softirq.c: entering a hard interrupt."""
    net.hardirq_count += 1


def irq_exit(net: Any) -> None:
    """kernel/softirq.c: leaving a hard interrupt: waiting interrupts, then softirqs, if any.

    Softirqs do not run when one was interrupted, or bottom halves are off.
    """
    net.hardirq_count = count = net.hardirq_count - 1
    if not count:
        if net.irq_replay:
            net.replay_irqs()
        if net.softirq_pending and not net.softirq_count:
            __do_softirq(net)


def softirq_init(net: Any) -> None:
    """kernel/softirq.c: nothing raised, every vector does nothing yet."""
    net.softirq_vec = [_no_action] * NR_SOFTIRQS
    net.softirq_stats = [0] * NR_SOFTIRQS
    net.softirq_pending = 0
    net.softirq_count = 0
    net.hardirq_count = 0
    net.ksoftirqd_queued = False


def _no_action(net: Any) -> None:
    return None
