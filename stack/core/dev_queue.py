"""net/core/dev.c, net/sched/sch_generic.c: sending through the queueing discipline.

Upper layers (neigh_output, packet sockets, bridge) pass a complete frame to dev_queue_xmit:

    dev_queue_xmit
        sch_handle_egress           the filters of clsact, if there are any (dev_tc.py)
        __dev_xmit_noqueue          device without a discipline (lo, vlan): straight to the driver
        __dev_xmit_skb
            sch_direct_xmit         discipline is empty and allows bypassing: straight to the driver
            q.enqueue, qdisc_run
                qdisc_restart       until empty, the driver is busy, or `dev_weight` is used up
                    dequeue_skb     q.dequeue, or what the driver rejected before (`gso_skb`)
                    sch_direct_xmit
                        dev_hard_start_xmit     dev_xmit.py: taps, then the driver
                        dev_requeue_skb         the driver was busy
                __netif_schedule    the rest is sent later
    net_tx_action                   NET_TX_SOFTIRQ: frees sent packets, runs scheduled disciplines

State: `q.running` admits one caller to a discipline, `dev.queue_state` says that the ring is full
(netif_stop_queue, netdev_sent_queue), `softnet_data.output_queue` holds scheduled disciplines.
dev_plug and dev_unplug collect the packets of one sendmmsg. Read __dev_xmit_skb first.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING

from fastpath.base.skbuff import consume_skb, sk_buff, skb_reset_mac_header
from stack.core import netdevice
from stack.core.dev_tc import sch_handle_egress
from stack.core.dev_xmit import dev_hard_start_xmit, skb_list_free, validate_xmit_skb
from stack.core.drop_reason import SKB_DROP_REASON_DEV_READY, kfree_skb_reason
from stack.core.dynamic_queue_limits import (
    DQL_MAX_LIMIT,
    dql_avail,
    dql_completed,
    dql_queued,
    dql_reset,
)
from stack.core.netdevice import (
    QUEUE_STATE_DRV_XOFF,
    QUEUE_STATE_STACK_XOFF,
    net_device,
    netif_carrier_ok,
    netif_queue_stopped,
    netif_running,
)
from stack.core.softirq import (
    NET_TX_SOFTIRQ,
    do_softirq,
    local_bh_disable,
    local_bh_enable,
    raise_softirq_irqoff,
)
from stack.core.tstamp import skb_sched_timestamp
from stack.sched.sch_generic import Qdisc

if TYPE_CHECKING:
    from stack.machine import Machine


MAX_XMIT_RECURSION = 8


def dev_queue_xmit(skb: sk_buff) -> int:
    """net/core/dev.c: send a complete frame through skb.dev. NET_XMIT_* or -errno.

    Takes ownership of skb (data at the MAC header). (__dev_queue_xmit of the kernel.)
    """
    dev: net_device = skb.dev
    machine = dev.machine
    q = dev.qdisc
    if skb.tx_flags:
        skb_sched_timestamp(skb)
    machine.softirq_count += 1  # rcu_read_lock_bh()
    try:
        if dev.tcx_egress is not None:
            rc = sch_handle_egress(skb, dev.tcx_egress)
            if rc >= 0:
                return rc
        rc = __dev_xmit_noqueue(skb, dev) if q.noqueue else __dev_xmit_skb(skb, q, dev)
    finally:
        machine.softirq_count = count = machine.softirq_count - 1
        if not count and machine.softirq_pending and not machine.hardirq_count:
            do_softirq(machine)
    return rc


def dev_direct_xmit(skb: sk_buff) -> int:
    """net/core/dev.c: pass a frame to the driver without queue and taps. NET_XMIT_*, NETDEV_TX_*.

    Takes ownership of skb. It is dropped if the driver is busy.
    """
    dev: net_device = skb.dev
    machine = dev.machine
    if not netif_running(dev) or not netif_carrier_ok(dev):
        dev.stats.tx_dropped += 1
        kfree_skb_reason(dev.net, skb, SKB_DROP_REASON_DEV_READY)
        return netdevice.NET_XMIT_DROP
    skbs = validate_xmit_skb(skb, dev)
    if skbs is None or len(skbs) != 1:
        dev.stats.tx_dropped += 1
        skb_list_free(dev.net, skbs or [], SKB_DROP_REASON_DEV_READY)
        return netdevice.NET_XMIT_DROP
    local_bh_disable(machine)
    rc = netdevice.NETDEV_TX_BUSY
    try:
        if not netif_queue_stopped(dev):
            skb_reset_mac_header(skbs[0])
            rc = dev.netdev_ops.ndo_start_xmit(skbs[0], dev)
        if rc:
            kfree_skb_reason(dev.net, skbs[0], SKB_DROP_REASON_DEV_READY)
    finally:
        local_bh_enable(machine)
    return rc


def __dev_xmit_skb(skb: sk_buff, q: Qdisc, dev: net_device) -> int:
    """net/core/dev.c: queue a packet and run the queue; bypass an empty one if it allows that.

    Takes ownership of skb. NET_XMIT_*.
    """
    if q.plug_priority >= 0 and skb.priority != q.plug_priority:
        dev_unplug(q)  # else it could overtake packets that only the plug holds back
    if q.can_bypass and not q.qlen and not q.running and not dev.queue_state:
        q.running = True
        try:
            skbs = validate_xmit_skb(skb, dev)
            if skbs and sch_direct_xmit(skbs, q, dev) and q.qlen:
                __qdisc_run(q, dev.machine.net_hotdata.dev_tx_weight)
        finally:
            q.running = False
        return netdevice.NET_XMIT_SUCCESS
    rc = q.enqueue(skb)
    qdisc_run(q)
    return rc & netdevice.NET_XMIT_MASK


def dev_plug(dev: net_device, priority: int) -> Qdisc | None:
    """Collect packets in the device's queue until dev_unplug sends them with one doorbell.

    A packet of another priority (such as an ARP request) unplugs the queue first. Returns None and
    does nothing when the queue is in use or its discipline does not allow bypassing (`can_bypass`).
    The caller must not sleep while it is plugged. The kernel has plugs for block devices only.
    """
    q = dev.qdisc
    if not q.can_bypass or q.running or q.qlen or dev.queue_state:
        return None
    q.running = True
    q.plug_priority = priority
    return q


def dev_unplug(q: Qdisc) -> None:
    """Send what was collected since dev_plug."""
    machine = q.dev.machine
    if q.plug_priority < 0:
        return
    q.plug_priority = -1
    q.running = False
    local_bh_disable(machine)
    try:
        if q.qlen and not q.deactivated:
            qdisc_run(q)
    finally:
        local_bh_enable(machine)


def __dev_xmit_noqueue(skb: sk_buff, dev: net_device) -> int:
    """net/core/dev.c: the part of __dev_queue_xmit for lo, vlan and the like."""
    net = dev.net
    sd = dev.machine.softnet_data
    skb_reset_mac_header(skb)
    if dev.flags & netdevice.IFF_UP and sd.xmit_recursion < MAX_XMIT_RECURSION:
        skbs = validate_xmit_skb(skb, dev) or []
        sd.xmit_recursion += 1
        try:
            if skbs:
                skbs = dev_hard_start_xmit(skbs[0], dev, skbs) or []
        finally:
            sd.xmit_recursion -= 1
        if not skbs:
            return 0
        skb_list_free(net, skbs, SKB_DROP_REASON_DEV_READY)  # NETDEV_TX_BUSY, no queue
        return -errno.ENETDOWN
    dev.stats.tx_dropped += 1
    kfree_skb_reason(net, skb, SKB_DROP_REASON_DEV_READY)
    return -errno.ENETDOWN


def qdisc_run(q: Qdisc) -> None:
    """include/net/pkt_sched.h: send packets of the discipline, unless it is running already.

    With __qdisc_run: up to `dev_weight` packets now, the rest by NET_TX_SOFTIRQ.
    """
    if q.running:
        return
    q.running = True
    try:
        sent = qdisc_restart(q)
        if sent and q.qlen:
            __qdisc_run(q, q.dev.machine.net_hotdata.dev_tx_weight - sent)
    finally:
        q.running = False


def __qdisc_run(q: Qdisc, quota: int) -> None:
    """net/sched/sch_generic.c: send up to `quota` packets, the rest by NET_TX_SOFTIRQ."""
    while quota > 0:
        sent = qdisc_restart(q)
        if not sent or not q.qlen:
            return
        quota -= sent
    __netif_schedule(q)


def qdisc_restart(q: Qdisc) -> int:
    """net/sched/sch_generic.c: dequeue packets and send them.

    Packets handled; 0 when there is none to send now, or the driver is busy.
    """
    skbs = dequeue_skb(q)
    if skbs is None:
        return 0
    return sch_direct_xmit(skbs, q, q.dev)


def dequeue_skb(q: Qdisc) -> list[sk_buff] | None:
    """net/sched/sch_generic.c: dequeue, packets that the driver rejected first.

    None while the driver has stopped its queue. When more wait, up to `dev_weight` are taken at
    once (xmit_more).
    """
    dev = q.dev
    if dev.queue_state:
        return None
    if q.gso_skb:
        skbs = list(q.gso_skb)
        q.gso_skb.clear()
        q.qlen -= len(skbs)
        return skbs
    skb = q.dequeue()
    if skb is None:
        return None
    if not q.qlen:
        return validate_xmit_skb(skb, dev)
    return try_bulk_dequeue_skb(q, skb, dev)


def try_bulk_dequeue_skb(q: Qdisc, skb: sk_buff, dev: net_device) -> list[sk_buff] | None:
    """net/sched/sch_generic.c: add packets to `skb` so that the doorbell rings once for all.

    No more than the ring may hold.
    """
    nbytes = DQL_MAX_LIMIT if dev.dql is None else dql_avail(dev.dql)
    nbytes -= skb.len
    skbs = validate_xmit_skb(skb, dev) or []
    room = dev.machine.net_hotdata.dev_tx_weight - 1
    while room and q.qlen and nbytes > 0:
        more = q.dequeue()
        if more is None:
            break
        nbytes -= more.len
        skbs += validate_xmit_skb(more, dev) or ()
        room -= 1
    return skbs


def sch_direct_xmit(skbs: list[sk_buff], q: Qdisc, dev: net_device) -> int:
    """net/sched/sch_generic.c: pass packets to the driver; requeue those it rejects."""
    if not skbs:
        return 1
    left = dev_hard_start_xmit(skbs[0], dev, skbs)
    if left:
        dev_requeue_skb(left, q)
        return 0
    return len(skbs)


def dev_requeue_skb(skbs: list[sk_buff], q: Qdisc) -> None:
    """net/sched/sch_generic.c: keep packets that a busy driver rejected; they are sent first."""
    q.gso_skb.extendleft(reversed(skbs))
    q.qlen += len(skbs)
    q.qstats.requeues += len(skbs)
    if not q.dev.queue_state:
        __netif_schedule(q)


def __netif_schedule(q: Qdisc) -> None:
    """net/core/dev.c: schedule the discipline for NET_TX_SOFTIRQ."""
    if not q.scheduled and not q.deactivated:
        q.scheduled = True
        machine = q.dev.machine
        machine.softnet_data.output_queue.append(q)
        raise_softirq_irqoff(machine, NET_TX_SOFTIRQ)


def netif_start_queue(dev: net_device) -> None:
    """include/linux/netdevice.h: allow transmit."""
    dev.queue_state &= ~QUEUE_STATE_DRV_XOFF


def netif_stop_queue(dev: net_device) -> None:
    """include/linux/netdevice.h: the ring is full: no more packets until netif_wake_queue."""
    dev.queue_state |= QUEUE_STATE_DRV_XOFF
    dev.trans_start = dev.net.clock.now_ns()


def netif_wake_queue(dev: net_device) -> None:
    """include/linux/netdevice.h: the ring has room: allow transmit, schedule waiting packets."""
    if netif_queue_stopped(dev):
        dev.queue_state &= ~QUEUE_STATE_DRV_XOFF
        netif_schedule_queue(dev)


def netif_schedule_queue(dev: net_device) -> None:
    """net/core/dev.c: schedule the device's discipline, unless the device is stopped."""
    q = dev.qdisc
    if not dev.queue_state and q is not None and not q.noqueue:
        __netif_schedule(q)


def netdev_sent_queue(dev: net_device, nbytes: int) -> None:
    """include/linux/netdevice.h: `nbytes` were put into the ring; stop at the limit."""
    queue = dev.dql
    assert queue is not None  # created by the driver
    dql_queued(queue, nbytes)
    if dql_avail(queue) < 0 and not dev.queue_state & QUEUE_STATE_STACK_XOFF:
        dev.queue_state |= QUEUE_STATE_STACK_XOFF
        dev.trans_start = dev.net.clock.now_ns()


def netdev_completed_queue(dev: net_device, nbytes: int) -> None:
    """include/linux/netdevice.h: packets of `nbytes` together were sent; more may follow now."""
    if not nbytes:
        return
    queue = dev.dql
    assert queue is not None
    dql_completed(queue, nbytes, dev.net.clock)
    if dev.queue_state & QUEUE_STATE_STACK_XOFF and dql_avail(queue) >= 0:
        dev.queue_state &= ~QUEUE_STATE_STACK_XOFF
        netif_schedule_queue(dev)


def netdev_reset_queue(dev: net_device) -> None:
    """include/linux/netdevice.h: the ring was emptied without sending."""
    assert dev.dql is not None
    dev.queue_state &= ~QUEUE_STATE_STACK_XOFF
    dql_reset(dev.dql)


def dev_kfree_skb_irq(skb: sk_buff) -> None:
    """net/core/dev.c: free a sent packet in a hard interrupt: deferred to NET_TX_SOFTIRQ.

    Takes ownership of skb.
    """
    machine = skb.dev.machine
    machine.softnet_data.completion_queue.queue_tail(skb)
    raise_softirq_irqoff(machine, NET_TX_SOFTIRQ)


def net_tx_action(machine: Machine) -> None:
    """net/core/dev.c: NET_TX_SOFTIRQ: free what interrupts sent, run the scheduled disciplines."""
    sd = machine.softnet_data
    completion = sd.completion_queue
    while completion.qlen:
        consume_skb(completion.dequeue())
    if sd.output_queue:
        queue, sd.output_queue = sd.output_queue, deque()
        for q in queue:
            q.scheduled = False
            if not q.deactivated:
                qdisc_run(q)
