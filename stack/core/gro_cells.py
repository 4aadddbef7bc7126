"""net/core/gro_cells.c: GRO for packets that a tunnel has decapsulated.

A tunnel's packets wait in a cell until the softirq polls it, after the poll of the receiving NIC.
So packets of a stream are merged in the cell's GRO table, as the NIC's packets are in its own.
"""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff, sk_buff_head, skb_cloned
from stack.core import netdevice
from stack.core.backlog import drop_received, netif_rx
from stack.core.drop_reason import SKB_DROP_REASON_CPU_BACKLOG, SKB_DROP_REASON_DEV_READY
from stack.core.napi import (
    napi_complete_done,
    napi_disable,
    napi_enable,
    napi_gro_enable,
    napi_gro_receive,
    napi_schedule,
    netif_napi_add,
    netif_napi_del,
)
from stack.core.netdevice import napi_struct, net_device
from stack.core.rows import row, state


@state
class gro_cell:
    """A device's packets that wait for GRO, and the context that polls them."""

    dev: net_device
    napi: napi_struct = row(make=napi_struct)
    napi_skbs: sk_buff_head = row(make=sk_buff_head)

    def poll(self, napi: napi_struct, budget: int) -> int:
        """gro_cell_poll: merge waiting packets. Returns how many."""
        work = 0
        while work < budget:
            skb = self.napi_skbs.dequeue()
            if skb is None:
                napi_complete_done(napi, work)
                break
            napi_gro_receive(napi, skb)
            work += 1
        return work


def gro_cells_init(dev: net_device) -> gro_cell:
    """A cell for a device (Linux has one for each processor)."""
    cell = gro_cell(dev)
    netif_napi_add(dev, cell.napi, cell.poll)
    napi_gro_enable(cell.napi)
    napi_enable(cell.napi)
    return cell


def gro_cells_destroy(cell: gro_cell | None) -> None:
    """The device is removed: drop waiting packets."""
    if cell is not None:
        napi_disable(cell.napi)
        cell.napi_skbs.purge()
        netif_napi_del(cell.napi)


def gro_cells_receive(cell: gro_cell | None, skb: sk_buff) -> int:
    """net/core/gro_cells.c: receive a packet, by GRO unless it is off. NET_RX_*. Takes ownership.

    Data at its network header, `mac_header` and `protocol` set.
    """
    dev: net_device = skb.dev
    machine = dev.machine
    if not dev.flags & netdevice.IFF_UP:
        return drop_received(dev, skb, SKB_DROP_REASON_DEV_READY)
    elided = not dev.features & netdevice.NETIF_F_GRO or not machine.softirq_count
    if cell is None or elided or skb_cloned(skb):
        return netif_rx(skb)
    if cell.napi_skbs.qlen > machine.net_hotdata.max_backlog:
        return drop_received(dev, skb, SKB_DROP_REASON_CPU_BACKLOG)
    cell.napi_skbs.queue_tail(skb)
    if cell.napi_skbs.qlen == 1:
        napi_schedule(cell.napi)
    return netdevice.NET_RX_SUCCESS
