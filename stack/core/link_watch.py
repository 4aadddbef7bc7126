"""net/core/link_watch.c, net/sched/sch_generic.c: carrier, activation, watchdog."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack.core import netdevice
from stack.core.dev_notifier import netdev_state_change
from stack.core.dev_queue import netif_stop_queue, netif_wake_queue
from stack.core.netdevice import net_device, netif_carrier_ok, netif_device_present, netif_running
from stack.core.timer import TIMER_DEFERRABLE, mod_timer, timer_delete, timer_list
from stack.sched.sch_generic import noop_qdisc, qdisc_create_dflt

if TYPE_CHECKING:
    from stack.machine import Machine


def netif_carrier_on(dev: net_device) -> None:
    """net/sched/sch_generic.c: the driver saw the link come up."""
    if dev.state & netdevice.LINK_STATE_NOCARRIER:
        dev.state &= ~netdevice.LINK_STATE_NOCARRIER
        if dev.reg_state == netdevice.NETREG_REGISTERED:
            dev.carrier_up_count += 1
            linkwatch_fire_event(dev)
            if netif_running(dev):
                __netdev_watchdog_up(dev)


def netif_carrier_off(dev: net_device) -> None:
    """net/sched/sch_generic.c: the driver saw the link go down."""
    if not dev.state & netdevice.LINK_STATE_NOCARRIER:
        dev.state |= netdevice.LINK_STATE_NOCARRIER
        if dev.reg_state == netdevice.NETREG_REGISTERED:
            dev.carrier_down_count += 1
            linkwatch_fire_event(dev)


def netif_stacked_transfer_operstate(rootdev: net_device, dev: net_device) -> None:
    """net/core/dev.c: the carrier of a device is that of the one below it."""
    if netif_carrier_ok(rootdev):
        netif_carrier_on(dev)
    else:
        netif_carrier_off(dev)


def linkwatch_fire_event(dev: net_device) -> None:
    """net/core/link_watch.c: (de)activate the queue and tell the notifiers, as soon as possible."""
    machine = dev.machine
    if dev not in machine.linkwatch_events:
        machine.linkwatch_events.append(dev)
        if len(machine.linkwatch_events) == 1:
            machine.clock.call_soon(machine.linkwatch_run_queue)


def linkwatch_run_queue(machine: Machine) -> None:
    """net/core/link_watch.c: the work of linkwatch_fire_event, in process context."""
    if machine.closed:
        return
    events, machine.linkwatch_events = machine.linkwatch_events, []
    for dev in events:
        if dev.reg_state != netdevice.NETREG_REGISTERED:
            continue
        if dev.flags & netdevice.IFF_UP:
            if netif_carrier_ok(dev):
                dev_activate(dev)
            else:
                dev_deactivate(dev)
        netdev_state_change(dev)
    machine.clock.wake()


def linkwatch_pending(dev: net_device) -> bool:
    """Whether the link is down, or its carrier has not been processed yet."""
    return not netif_carrier_ok(dev) or dev in dev.machine.linkwatch_events


def netif_device_detach(dev: net_device) -> None:
    """net/core/dev.c: the hardware is not available (suspend)."""
    if dev.state & netdevice.LINK_STATE_PRESENT:
        dev.state &= ~netdevice.LINK_STATE_PRESENT
        if netif_running(dev):
            netif_stop_queue(dev)


def netif_device_attach(dev: net_device) -> None:
    """net/core/dev.c: undo netif_device_detach."""
    if not dev.state & netdevice.LINK_STATE_PRESENT:
        dev.state |= netdevice.LINK_STATE_PRESENT
        if netif_running(dev):
            netif_wake_queue(dev)
            __netdev_watchdog_up(dev)


def dev_activate(dev: net_device) -> None:
    """net/sched/sch_generic.c: attach the default discipline; wait for the carrier first."""
    if not netif_carrier_ok(dev):
        if isinstance(dev.qdisc, noop_qdisc) and dev.qdisc_sleeping is None:
            dev.qdisc_sleeping = qdisc_create_dflt(dev)  # notified already, used later
            dev.qdisc_sleeping.deactivated = True
        return
    if isinstance(dev.qdisc, noop_qdisc):
        saved, dev.qdisc_sleeping = dev.qdisc_sleeping, None
        dev.qdisc = saved if saved is not None else qdisc_create_dflt(dev)
        dev.qdisc.deactivated = False
    __netdev_watchdog_up(dev)


def dev_deactivate(dev: net_device) -> None:
    """net/sched/sch_generic.c: no discipline: packets are dropped; what was queued is freed."""
    old = dev.qdisc
    if not isinstance(old, noop_qdisc):
        old.deactivated = True
        old.reset()
        dev.qdisc_sleeping = old
        dev.qdisc = noop_qdisc(dev)
    if dev.watchdog_timer is not None:
        timer_delete(dev.watchdog_timer)


def dev_shutdown(dev: net_device) -> None:
    """net/sched/sch_generic.c: destroy the disciplines of a closed device, with their filters."""
    root, ingress = dev.qdisc_sleeping, dev.ingress_queue
    dev.qdisc_sleeping = dev.ingress_queue = None
    if root is not None:
        root.destroy()
    if ingress is not None:
        ingress.destroy()


def __netdev_watchdog_up(dev: net_device) -> None:
    """net/sched/sch_generic.c: watch for a queue that stays stopped."""
    if dev.netdev_ops.ndo_tx_timeout is None:
        return
    if dev.watchdog_timeo <= 0:
        dev.watchdog_timeo = 5_000_000_000
    if dev.watchdog_timer is None:
        dev.watchdog_timer = timer_list(dev.machine, dev_watchdog, TIMER_DEFERRABLE, data=dev)
    if not dev.watchdog_timer.pending:
        mod_timer(dev.watchdog_timer, dev.net.clock.now_ns() + dev.watchdog_timeo)


def dev_watchdog(timer: timer_list) -> None:
    """net/sched/sch_generic.c: call ndo_tx_timeout when the queue was stopped for too long."""
    dev = timer.data
    if not (netif_running(dev) and netif_device_present(dev) and netif_carrier_ok(dev)):
        return
    now = dev.net.clock.now_ns()
    if dev.queue_state and now - dev.trans_start >= dev.watchdog_timeo:
        dev.trans_timeout += 1
        dev.netdev_ops.ndo_tx_timeout(dev)
        dev.trans_start = now
    mod_timer(timer, now + dev.watchdog_timeo)
