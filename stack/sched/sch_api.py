"""net/sched/sch_api.c: the tree of a device's disciplines; the timer of a throttled one.

A device has one discipline at its root. Each class of a `Qdisc_class` has another, and so on.
`qdisc_graft` replaces one. On a device that is down the root waits in `dev.qdisc_sleeping`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator

from stack.core.dev_queue import __netif_schedule
from stack.core.extack import ExtAckError
from stack.core.link_watch import dev_activate
from stack.core.netdevice import net_device, netif_running
from stack.core.rows import row, state
from stack.core.timer import mod_timer, timer_delete, timer_list
from stack.sched.sch_generic import (
    TC_H_ROOT,
    Qdisc,
    Qdisc_class,
    class_dump,
    noop_qdisc,
    noqueue_qdisc,
    qdisc_create_dflt,
    qdisc_purge_queue,
)

TC_H_MAJ_MASK = 0xFFFF0000
TC_H_MIN_MASK = 0x0000FFFF
TC_H_INGRESS = 0xFFFFFFF1
AUTOHANDLE = 0x80000000
"""Handles above it are assigned to disciplines that are given none."""


def qdisc_watchdog_timer(timer: timer_list) -> None:
    """net/sched/sch_api.c: let the throttled discipline send again."""
    __netif_schedule(qdisc_root(timer.data.qdisc.dev))


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


def qdisc_root(dev: net_device) -> Qdisc:
    """The discipline that a device has when it is up."""
    return dev.qdisc_sleeping if dev.qdisc_sleeping is not None else dev.qdisc


def qdisc_all(dev: net_device) -> list[Qdisc]:
    """The disciplines of a device that `tc` lists, in the order of Linux's hash of handles."""

    def below(q: Qdisc) -> Iterator[Qdisc]:
        for leaf in q.leaves() if isinstance(q, Qdisc_class) else ():
            if leaf.hashed:
                yield leaf
            yield from below(leaf)

    ingress = dev.ingress_queue
    last = [ingress] if ingress is not None and ingress.handle else []
    root = qdisc_root(dev)
    if isinstance(root, noop_qdisc):
        return last
    hashed = [*below(root)]
    hashed.sort(key=lambda q: ((q.handle * 0x61C88647 & 0xFFFFFFFF) >> 28, -q.hashed))
    return [root, *hashed, *last]


def qdisc_lookup(dev: net_device, handle: int) -> Qdisc | None:
    """net/sched/sch_api.c: the discipline with a handle; None: there is none."""
    return next((q for q in qdisc_all(dev) if handle and q.handle == handle), None)


def class_of(parent: Qdisc, classid: int) -> object:
    """A discipline's class. Raises: OSError EOPNOTSUPP, ENOENT."""
    if not isinstance(parent, Qdisc_class):
        raise ExtAckError(errno.EOPNOTSUPP, "Parent qdisc is not classful")
    cl = parent.find(classid)
    if cl is None:
        raise ExtAckError(errno.ENOENT, "Specified class not found")
    return cl


def qdisc_leaf(parent: Qdisc, classid: int) -> Qdisc | None:
    """net/sched/sch_api.c: the discipline of a class. Raises: as class_of."""
    cl = class_of(parent, classid)
    return parent.leaf(cl) if isinstance(parent, Qdisc_class) else None


def qdisc_graft(
    dev: net_device,
    new: Qdisc | None,
    parent: Qdisc | None = None,
    classid: int = TC_H_ROOT,
    notify: Callable[[Qdisc | None], None] = lambda old: None,
) -> None:
    """net/sched/sch_api.c: replace a discipline; None: by the default one.

    Without `parent` it is the device's. `notify(old)` is called before the old one is destroyed.
    Raises: OSError EOPNOTSUPP, ENOENT, EINVAL.
    """
    if parent is not None:
        cl = class_of(parent, classid)
        assert isinstance(parent, Qdisc_class)
        if isinstance(new, noqueue_qdisc):
            raise ExtAckError(errno.EINVAL, "Cannot assign noqueue to a class")
        old = parent.graft(cl, new)
    elif classid == TC_H_INGRESS:
        old = dev_graft_ingress(dev, new)
    else:
        old = dev_graft_qdisc(dev, new)
    notify(old)
    if old is not None:
        old.destroy()


def dev_graft_qdisc(dev: net_device, new: Qdisc | None) -> Qdisc:
    """net/sched/sch_generic.c: make `new` the device's discipline. Returns the old one, empty."""
    old = qdisc_root(dev)
    old.reset()
    if isinstance(dev.qdisc, noop_qdisc):
        dev.qdisc_sleeping = new
        if new is None and netif_running(dev):
            dev_activate(dev)
    else:
        dev.qdisc = new if new is not None else qdisc_create_dflt(dev)
    return old


def dev_ingress_queue_create(dev: net_device) -> Qdisc:
    """net/core/dev.c: the discipline of `ingress` and `clsact`; at first a noop."""
    if dev.ingress_queue is None:
        dev.ingress_queue = noop_qdisc(dev)
    return dev.ingress_queue


def dev_graft_ingress(dev: net_device, new: Qdisc | None) -> Qdisc:
    """net/sched/sch_api.c qdisc_graft: replace the ingress discipline of a device."""
    old = dev_ingress_queue_create(dev)
    if netif_running(dev):
        qdisc_root(dev).reset()  # Linux deactivates the whole device
    dev.ingress_queue = new if new is not None else noop_qdisc(dev)
    return old


def qdisc_replace(sch: Qdisc_class, new: Qdisc, old: Qdisc | None, classid: int) -> Qdisc | None:
    """include/net/sch_generic.h: make `new` a leaf of `sch`. Returns the old one, empty."""
    new.up = sch
    if not new.handle:  # qdisc_create gave the others their parent
        new.parent = classid
    if old is not None:
        qdisc_purge_queue(old)
    return old


@state
class Qdisc_one_class(Qdisc_class):
    """A discipline with one class, number 1, which holds the packets: tbf, red, netem."""

    q: Qdisc = row()
    """None until there is one."""

    def find(self, classid: int) -> int:
        return 1

    def walk(self) -> list[int]:
        return [1]

    def leaf(self, cl: int) -> Qdisc:
        return self.q

    def graft(self, cl: int, new: Qdisc | None) -> Qdisc | None:
        new = new if new is not None else noop_qdisc(self.dev)
        old, self.q = self.q, new
        return qdisc_replace(self, new, old if old is not new else None, self.handle | 1)

    def dump_class(self, cl: int) -> class_dump:
        return class_dump(self.handle | 1, self.handle, self.q)
