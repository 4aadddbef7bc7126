"""net/core/dev.c (NAPI): polling instead of an interrupt per packet; the receive softirq."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastpath.base.skbuff import kfree_skb, sk_buff
from fastpath.net.gro import GroTable
from stack.core import netdevice
from stack.core.dev_receive import netif_receive_skb, netif_receive_skb_list_internal
from stack.core.netdevice import napi_struct, net_device
from stack.core.softirq import NET_RX_SOFTIRQ, raise_later, raise_softirq_irqoff

if TYPE_CHECKING:
    from stack.machine import Machine

_NET_RX = 1 << NET_RX_SOFTIRQ
_BUSY = netdevice.NAPI_STATE_SCHED | netdevice.NAPI_STATE_DISABLE


def netif_napi_add(
    dev: net_device, napi: napi_struct, poll: Any, weight: int = netdevice.NAPI_POLL_WEIGHT
) -> None:
    """net/core/dev.c: tie a NAPI context to its device; disabled until `napi_enable`."""
    machine = dev.machine
    napi.dev = dev
    napi.machine = machine
    napi.sd = machine.softnet_data
    napi.poll = poll
    napi.weight = weight
    napi.state = netdevice.NAPI_STATE_SCHED | netdevice.NAPI_STATE_DISABLE
    dev.napi_list.append(napi)


def netif_napi_del(napi: napi_struct) -> None:
    """net/core/dev.c: undo `netif_napi_add`; what GRO holds is freed."""
    if napi.gro is not None:
        napi.gro.reset()
    skbs, napi.rx_list, napi.rx_count = napi.rx_list, [], 0
    for skb in skbs:
        kfree_skb(skb)
    if napi in napi.dev.napi_list:
        napi.dev.napi_list.remove(napi)


def napi_enable(napi: napi_struct) -> None:
    """net/core/dev.c: allow scheduling."""
    napi.state &= ~(_BUSY | netdevice.NAPI_STATE_MISSED)


def napi_disable(napi: napi_struct) -> None:
    """net/core/dev.c: stop polling at once; `napi_schedule` has no effect until `napi_enable`."""
    napi.state |= _BUSY
    napi.state &= ~netdevice.NAPI_STATE_MISSED
    sd = napi.sd
    if napi in sd.poll_list:
        sd.poll_list.remove(napi)
    napi_gro_flush(napi)


def napi_schedule_prep(napi: napi_struct) -> bool:
    """net/core/dev.c: claim a context. False when it is claimed or off; then polling goes on."""
    state = napi.state
    if state & _BUSY:
        if not state & netdevice.NAPI_STATE_DISABLE:
            napi.state = state | netdevice.NAPI_STATE_MISSED
        return False
    napi.state = state | netdevice.NAPI_STATE_SCHED
    return True


def __napi_schedule(napi: napi_struct) -> None:
    """net/core/dev.c: queue a claimed context and raise NET_RX_SOFTIRQ. Any context."""
    sd = napi.sd
    sd.poll_list.append(napi)
    if not sd.in_net_rx_action:
        raise_softirq_irqoff(sd.machine, NET_RX_SOFTIRQ)


def napi_schedule(napi: napi_struct) -> bool:
    """include/linux/netdevice.h: have `poll` called soon. True when this call did it."""
    if not napi_schedule_prep(napi):
        return False
    __napi_schedule(napi)
    return True


def napi_complete_done(napi: napi_struct, work_done: int = 0) -> bool:
    """net/core/dev.c: polling is over: flush GRO, give the context back.

    False when it was scheduled again meanwhile: it stays on the list, keep interrupts off.
    """
    if napi.gro is not None and napi.gro.held:
        napi.gro.flush(napi.rx_list)
    if napi.rx_list:
        gro_normal_list(napi)
    state = napi.state
    if state & netdevice.NAPI_STATE_MISSED:
        napi.state = state & ~netdevice.NAPI_STATE_MISSED | netdevice.NAPI_STATE_SCHED
        __napi_schedule(napi)
        return False
    napi.state = state & ~netdevice.NAPI_STATE_SCHED
    return True


def napi_complete(napi: napi_struct) -> bool:
    """include/linux/netdevice.h."""
    return napi_complete_done(napi, 0)


def napi_poll(napi: napi_struct, repoll: list[napi_struct]) -> int:
    """net/core/dev.c: poll one context once; work done. With its budget spent it joins `repoll`."""
    if napi.state & _BUSY != netdevice.NAPI_STATE_SCHED:
        return 0
    weight = napi.weight
    work = napi.poll(napi, weight)
    if work >= weight:
        if napi.rx_list:
            gro_normal_list(napi)
        if not napi.state & netdevice.NAPI_STATE_DISABLE:
            # GRO keeps its packets: the next poll comes soon and can merge into them.
            repoll.append(napi)
    return work


def net_rx_action(machine: Machine) -> None:
    """net/core/dev.c: NET_RX_SOFTIRQ: poll what is scheduled, within `netdev_budget` packets."""
    napi: napi_struct
    sd = machine.softnet_data
    todo, sd.poll_list = sd.poll_list, []
    index = 0
    repoll: list[napi_struct] = []
    budget = machine.net_hotdata.netdev_budget
    sd.in_net_rx_action = True
    try:
        while True:
            if index == len(todo):
                # Contexts scheduled while polling are served in this run, as in the kernel.
                if not sd.poll_list:
                    break
                todo, sd.poll_list, index = sd.poll_list, [], 0
            napi = todo[index]
            index += 1
            try:
                work = napi_poll(napi, repoll)
            except BaseException:
                poll_again(machine, napi)
                raise
            sd.processed += work
            budget -= work
            if budget <= 0:
                sd.time_squeeze += 1
                break
    finally:
        sd.in_net_rx_action = False
        if index < len(todo) or repoll:
            sd.poll_list = todo[index:] + sd.poll_list + repoll
    if sd.poll_list:
        machine.softirq_pending |= _NET_RX


def poll_again(machine: Machine, napi: napi_struct) -> None:
    """After an exception in a poll function: poll the context again, for the packets it left.

    The stack's own functions raise nothing there, but hooks, callbacks and signal handlers of the
    program may.
    """
    sd = machine.softnet_data
    if napi.state & _BUSY == netdevice.NAPI_STATE_SCHED and napi not in sd.poll_list:
        sd.poll_list.append(napi)
    machine.softirq_pending |= _NET_RX


def napi_gro_receive(napi: napi_struct, skb: sk_buff) -> int:
    """net/core/gro.c: merge or pass up. Takes ownership of skb (data past the MAC header).

    Drivers whose ring merges already (fastpath.net.rings_driver) have no table here. Packets that
    leave GRO are passed up as a list when there are `gro_normal_batch` of them or when polling
    ends.
    """
    gro = napi.gro
    if gro is None:
        gro_normal_one(napi, skb, skb.gso_segs or 1)
        return netdevice.NET_RX_SUCCESS
    out: list[sk_buff] = []
    gro.receive(skb, out)
    for skb in out:
        gro_normal_one(napi, skb, skb.gso_segs or 1)
    return netdevice.NET_RX_SUCCESS


def gro_normal_one(napi: napi_struct, skb: sk_buff, segs: int) -> None:
    """include/net/gro.h: list a packet of `segs` frames that left GRO. Takes ownership of skb.

    The list is passed up when it holds net.core.gro_normal_batch frames.
    """
    napi.rx_list.append(skb)
    napi.rx_count += segs
    if napi.rx_count >= napi.machine.net_hotdata.gro_normal_batch:
        gro_normal_list(napi)


def gro_normal_list(napi: napi_struct) -> None:
    """include/net/gro.h: pass up the listed packets. Raises nothing: the poll goes on."""
    skbs = napi.rx_list
    napi.rx_list = []
    napi.rx_count = 0
    if len(skbs) == 1:
        try:
            netif_receive_skb(skbs[0])  # the same, without grouping
        except BaseException as wrong:
            raise_later(napi.machine, wrong)
    elif skbs:
        netif_receive_skb_list_internal(skbs)


def napi_gro_flush(napi: napi_struct) -> None:
    """net/core/gro.c: pass up everything held."""
    if napi.gro is not None:
        napi.gro.flush(napi.rx_list)
    gro_normal_list(napi)


def napi_gro_enable(napi: napi_struct) -> None:
    """Give the context its own GRO table (drivers without compiled merging)."""
    napi.gro = GroTable(napi.dev.gro_max_size)
