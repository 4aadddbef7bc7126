"""net/core/dev.c: the backlog: packets from this machine itself (loopback, veth)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath.base import skbuff
from fastpath.base.skbuff import sk_buff, skb_reset_mac_header
from fastpath.net.zerocopy import skb_orphan_frags
from stack.core import drop_reason, netdevice
from stack.core.dev_receive import __netif_receive_skb
from stack.core.drop_reason import kfree_skb_reason
from stack.core.napi import __napi_schedule
from stack.core.netdevice import napi_struct, net_device, netif_running
from stack.core.netstamp import net_timestamp_check
from stack.core.sock import sock
from stack.core.softirq import local_bh_disable, local_bh_enable
from stack.net import Net

if TYPE_CHECKING:
    from stack.machine import Machine


def netif_rx(skb: sk_buff) -> int:
    """net/core/dev.c: queue a received packet to the backlog; any context. NET_RX_*.

    Takes ownership of skb (data past the MAC header, protocol set).
    """
    machine = skb.dev.machine
    if machine.softirq_count or machine.hardirq_count:
        return enqueue_to_backlog(skb, machine)
    local_bh_disable(machine)
    try:
        ret = enqueue_to_backlog(skb, machine)
    finally:
        local_bh_enable(machine)
    return ret


def dev_loopback_xmit(net: Net, sk: sock | None, skb: sk_buff) -> int:
    """net/core/dev.c: receive a packet of ours. Takes ownership of skb (data at its L3 header)."""
    skb_reset_mac_header(skb)
    skb.pkt_type = skbuff.PACKET_LOOPBACK
    if skb.ip_summed == skbuff.CHECKSUM_NONE:
        skb.ip_summed = skbuff.CHECKSUM_UNNECESSARY
    netif_rx(skb)
    return 0


def enqueue_to_backlog(skb: sk_buff, machine: Machine) -> int:
    """net/core/dev.c: append to input_pkt_queue, schedule the backlog NAPI; drop when full."""
    if machine.net_hotdata.netstamp_needed:
        net_timestamp_check(skb, machine)
    sd = machine.softnet_data
    queue = sd.input_pkt_queue
    if queue.qlen > machine.net_hotdata.max_backlog or not netif_running(skb.dev):
        sd.dropped += 1
        return drop_received(skb.dev, skb, drop_reason.SKB_DROP_REASON_CPU_BACKLOG)
    # The kernel does this in deliver_skb, per handler. Here only the backlog carries packets that
    # were sent on this machine, and only those can have fragments in a sender's memory.
    if skb.data_len and not skb_orphan_frags(skb, machine.skb_pages):
        return drop_received(skb.dev, skb, drop_reason.SKB_DROP_REASON_NOMEM)
    queue.queue_tail(skb)
    backlog = sd.backlog
    if not backlog.state & netdevice.NAPI_STATE_SCHED:
        backlog.state |= netdevice.NAPI_STATE_SCHED
        __napi_schedule(backlog)
    return netdevice.NET_RX_SUCCESS


def drop_received(dev: net_device, skb: sk_buff, reason: int) -> int:
    """Count and free a packet that `dev` does not receive. Takes ownership of skb."""
    dev.stats.rx_dropped += 1
    kfree_skb_reason(dev.net, skb, reason)
    return netdevice.NET_RX_DROP


def flush_backlog(dev: net_device) -> None:
    """net/core/dev.c: free queued packets of a device that is removed."""
    sd = dev.machine.softnet_data
    for queue in (sd.input_pkt_queue, sd.process_queue):
        for skb in queue:
            if skb.dev is dev:
                queue.unlink(skb)
                kfree_skb_reason(dev.net, skb, drop_reason.SKB_DROP_REASON_DEV_READY)


def process_backlog(napi: napi_struct, quota: int) -> int:
    """net/core/dev.c: the poll function of the backlog: packets given to `netif_rx`."""
    sd = napi.sd
    process = sd.process_queue
    work = 0
    while True:
        skb = process.dequeue()
        while skb is not None:
            __netif_receive_skb(skb)
            work += 1
            if work >= quota:
                return work
            skb = process.dequeue()
        if not sd.input_pkt_queue.qlen:
            napi.state &= ~(netdevice.NAPI_STATE_SCHED | netdevice.NAPI_STATE_MISSED)
            return work
        sd.input_pkt_queue, sd.process_queue = process, sd.input_pkt_queue
        process = sd.process_queue
