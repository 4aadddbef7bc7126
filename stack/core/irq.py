"""kernel/irq/manage.c, chip.c: level-triggered, shareable interrupt lines of one machine."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stack.core.rows import row, state
from stack.core.softirq import irq_enter, irq_exit, raise_later

if TYPE_CHECKING:
    from stack.machine import Machine

IRQ_NONE = 0
IRQ_HANDLED = 1
IRQF_SHARED = 0x80
NR_IRQS = 256
# A level line that stays up after this many handler runs in a row is a screaming interrupt.
SPURIOUS_LIMIT = 100_000


@state
class irqaction:
    """One handler on a line: `handler(irq, dev_id) -> IRQ_NONE | IRQ_HANDLED`."""

    handler: Callable[[int, Any], int]
    dev_id: Any
    name: str
    flags: int


@state
class irq_desc:
    """One interrupt line; this is the `InterruptLine` that a device gets.

    `level` is the wire. Handlers run while it is up. Masking (`depth`), a running hard interrupt
    and disabled local interrupts put them off. Exceptions of handlers and softirqs go to
    `raise_later`: in the device they would cut its own work short.
    """

    machine: Machine
    irq: int
    level: bool = row(False)
    depth: int = row(0)  # disable_irq nesting
    actions: tuple[irqaction, ...] = row(())
    count: int = row(0)
    unhandled: int = row(0)

    def set_level(self, level: bool) -> None:
        """The device drives the line. Raised, it runs the handlers at once where allowed.

        Raises nothing.
        """
        self.level = level
        if level:
            machine = self.machine
            if machine.hardirq_count or machine.irqs_disabled_count or self.depth:
                machine.irq_replay = True
            elif self.actions:
                handle_level_irq(machine, self)


def irq_to_desc(machine: Machine, irq: int) -> irq_desc:
    """kernel/irq/irqdesc.c: the line `irq`, created on first use."""
    desc = machine.irq_descs.get(irq)
    if desc is None:
        desc = machine.irq_descs[irq] = irq_desc(machine, irq)
    return desc


def handle_level_irq(machine: Machine, desc: irq_desc) -> None:
    """kernel/irq/chip.c: run the handlers until the level is down or no handler claims it.

    Then softirqs. Raises nothing (`raise_later`).
    """
    irq_enter(machine)
    rounds = 0
    handled = IRQ_HANDLED
    try:
        while handled and desc.level and not desc.depth:
            desc.count += 1
            rounds += 1
            handled = handle_irq_event(desc)
            if rounds == SPURIOUS_LIMIT:
                desc.depth += 1  # "irq: nobody cared (disabled)"
        if not handled:
            # A device without a driver yet shares the line and holds it up; the next edge tries
            # again.
            desc.unhandled += 1
    except BaseException as wrong:
        raise_later(machine, wrong)
    try:
        irq_exit(machine)
    except BaseException as wrong:
        raise_later(machine, wrong)


def handle_irq_event(desc: irq_desc) -> int:
    """kernel/irq/handle.c: call every handler of a line that devices may share."""
    action: irqaction
    ret = IRQ_NONE
    for action in desc.actions:
        ret |= action.handler(desc.irq, action.dev_id)
    return ret


def replay_irqs(machine: Machine) -> None:
    """Run lines that were raised while interrupts could not run."""
    while machine.irq_replay and not machine.hardirq_count and not machine.irqs_disabled_count:
        machine.irq_replay = False
        for desc in machine.irq_descs.values():
            if desc.level and desc.actions and not desc.depth:
                handle_level_irq(machine, desc)


def request_irq(
    machine: Machine,
    irq: int,
    handler: Callable[[int, Any], int],
    dev: object,
    name: str = "",
    flags: int = IRQF_SHARED,
) -> int:
    """kernel/irq/manage.c: add `handler(irq, dev)` to a line. 0, or -EINVAL / -EBUSY."""
    if not 0 <= irq < NR_IRQS:
        return -errno.EINVAL
    desc = irq_to_desc(machine, irq)
    if desc.actions and not (flags & IRQF_SHARED and desc.actions[0].flags & IRQF_SHARED):
        return -errno.EBUSY
    name = name or getattr(dev, "name", "irq")
    desc.actions = (*desc.actions, irqaction(handler, dev, name, flags))
    if desc.level:
        desc.set_level(True)
        replay_irqs(machine)
    return 0


def free_irq(machine: Machine, irq: int, dev: object) -> None:
    """kernel/irq/manage.c: remove `dev`'s handler; unknown ones are ignored."""
    desc = irq_to_desc(machine, irq)
    desc.actions = tuple(action for action in desc.actions if action.dev_id is not dev)


def disable_irq(machine: Machine, irq: int) -> None:
    """kernel/irq/manage.c: mask a line; nests."""
    desc = irq_to_desc(machine, irq)
    desc.depth += 1


def enable_irq(machine: Machine, irq: int) -> None:
    """kernel/irq/manage.c: unmask; a line that is up fires now."""
    desc = irq_to_desc(machine, irq)
    if desc.depth:
        desc.depth -= 1
        if not desc.depth and desc.level:
            desc.set_level(True)
            replay_irqs(machine)


def local_irq_disable(machine: Machine) -> None:
    """include/linux/irqflags.h: no interrupt until the matching enable (nests: save/restore)."""
    machine.irqs_disabled_count += 1


def local_irq_enable(machine: Machine) -> None:
    """include/linux/irqflags.h: interrupts raised meanwhile run now."""
    machine.irqs_disabled_count = count = machine.irqs_disabled_count - 1
    if not count and machine.irq_replay:
        replay_irqs(machine)
