"""The packet path: interrupt, NAPI poll, receive, transmit, moderation (e1000_main.c).

`e1000_xmit_frame` sends. `e1000_intr` -> `e1000_clean` -> `e1000_clean_tx_irq` and
`e1000_clean_rx_irq` free sent packets and pass up received ones. The loops over the rings are
compiled (`fastpath.net.rings_driver`).
"""

from __future__ import annotations

import errno
import logging

from fastpath.base.skbuff import (
    CHECKSUM_PARTIAL,
    SKB_GSO_UDP_L4,
    kfree_skb,
    sk_buff,
    skb_checksum_help,
    skb_checksum_start_offset,
    skb_cow_head,
    skb_network_offset,
    skb_transport_offset,
)
from fastpath.net.gso import skb_gso_segment
from fastpath.net.hdr import gso_csum_prep, tcp_hdrlen
from fastpath.net.rings_driver import TxRing, free_in_runs
from fastpath.net.zerocopy import skb_zcopy
from fastpath.nic.mmio import readl, writel
from stack.core import netdevice
from stack.core.backlog import netif_rx
from stack.core.dev_queue import (
    dev_kfree_skb_irq,
    netdev_completed_queue,
    netdev_sent_queue,
    netif_stop_queue,
    netif_wake_queue,
)
from stack.core.irq import IRQ_HANDLED, IRQ_NONE
from stack.core.napi import napi_complete_done, napi_gro_receive, napi_schedule
from stack.core.netdevice import (
    napi_struct,
    net_device,
    netif_carrier_ok,
    netif_queue_stopped,
)
from stack.core.sock import sock_wfree
from stack.core.time64 import NSEC_PER_SEC
from stack.core.tstamp import skb_tx_timestamp
from stack.core.workqueue import mod_delayed_work, schedule_delayed_work
from stack.core.zerocopy import skb_dma_map
from stack.drivers.e1000 import defs as d
from stack.drivers.e1000 import e1000 as e
from stack.drivers.e1000.e1000 import (
    E1000_WRITE_FLUSH,
    e1000_adapter,
    e1000_write_itr,
    er32,
    ew32,
)
from stack.ethernet.eth import eth_type_trans

log = logging.getLogger("stack.drivers.e1000")

E1000_DOWN = e.E1000_DOWN
E1000_NO_NAPI = e.E1000_NO_NAPI
E1000_NO_TSO6 = e.E1000_NO_TSO6
IMS_WITHOUT_TX = d.IMS_ENABLE_MASK & ~d.E1000_ICR_TXDW
LINK_CAUSES = d.E1000_ICR_LSC | d.E1000_ICR_RXSEQ
RX_BUFFER_WRITE = 32
"""RDT is written only for at least this many empty receive descriptors."""
TX_HANG_NS = NSEC_PER_SEC
TX_WAKE_THRESHOLD = 32
MAX_HEADER = 255
"""HDRLEN, TUCSS and TUCSO of a context descriptor have 8 bits (SDM 3.3.6)."""
TCP_CHECK_AT = 16
UDP_CHECK_AT = 6
"""The offset of the checksum in TCP's and UDP's headers, bytes."""

free_in_runs(sock_wfree)

# -- interrupts ------------------------------------------------------------------------------------


def e1000_irq_disable(adapter: e1000_adapter) -> None:
    """e1000_main.c: mask every cause."""
    ew32(adapter.hw, d.E1000_IMC, d.ALL_INTERRUPTS)
    E1000_WRITE_FLUSH(adapter.hw)
    adapter.ims_mask = 0


def e1000_irq_enable(adapter: e1000_adapter) -> None:
    """e1000_main.c: unmask; TXDW only while descriptors wait to be cleaned."""
    mask = IMS_WITHOUT_TX
    if adapter.tx_ring.pending() or adapter.flags & E1000_NO_NAPI:
        mask |= d.E1000_ICR_TXDW
    adapter.ims_mask = mask
    writel(adapter.hw.bar_write, d.E1000_IMS, mask)


def e1000_intr(irq: int, netdev: net_device) -> int:
    """e1000_main.c: the interrupt handler: read (and so clear) the causes, mask, schedule NAPI."""
    adapter: e1000_adapter = netdev.priv
    hw = adapter.hw
    icr = readl(hw.bar_read, d.E1000_ICR)
    if not icr:
        return IRQ_NONE
    if icr & LINK_CAUSES and not adapter.flags & E1000_DOWN:
        hw.get_link_status = True
        mod_delayed_work(adapter.watchdog_task, 0)
    if adapter.flags & (E1000_DOWN | E1000_NO_NAPI):
        return IRQ_HANDLED if adapter.flags & E1000_DOWN else e1000_intr_without_napi(adapter)
    writel(hw.bar_write, d.E1000_IMC, d.ALL_INTERRUPTS)
    adapter.ims_mask = 0
    napi_schedule(adapter.napi)  # a poll scheduled before unmasks at its end
    return IRQ_HANDLED


def e1000_intr_without_napi(adapter: e1000_adapter) -> int:
    """e1000_main.c without CONFIG_E1000_NAPI: all the work in the hard interrupt.

    Packets may not be freed or passed up here: sent ones go to dev_kfree_skb_irq, received ones to
    netif_rx, and the softirqs NET_TX and NET_RX do the rest.
    """
    for _ in range(e.E1000_MAX_INTR):
        done: list[sk_buff] = []
        cleaned = e1000_clean_tx_irq(adapter, done)
        for skb in done:
            dev_kfree_skb_irq(skb)
        if not e1000_clean_rx_irq(adapter, adapter.fp_weight + 1) and cleaned and not done:
            break
    return IRQ_HANDLED


def e1000_clean(napi: napi_struct, budget: int) -> int:
    """e1000_main.c: the NAPI poll: free sent packets, pass up received ones.

    The budget counts sk_buffs that GRO has already merged, so the frames are limited as well.
    """
    adapter: e1000_adapter = napi.dev.priv
    e1000_clean_tx_irq(adapter)
    work_done = e1000_clean_rx_irq(adapter, budget)
    if work_done >= budget:
        return budget
    if napi_complete_done(napi, work_done) and not adapter.flags & E1000_DOWN:
        if adapter.itr_setting & 3:
            e1000_set_itr(adapter)
        e1000_irq_enable(adapter)
    return work_done


def e1000_clean_tx_irq(adapter: e1000_adapter, out: list[sk_buff] | None = None) -> bool:
    """e1000_main.c: free sent sk_buffs, wake the queue, check for a hang. True if all are freed.

    With `out`, sent packets are appended to it instead of freed.
    """
    ring = adapter.tx_ring
    netdev = adapter.netdev
    if not ring.pending() and not netif_queue_stopped(netdev):
        adapter.detect_tx_hung = False
        return True
    packets, nbytes, held = ring.clean(0, out)
    stats = netdev.stats
    stats.tx_packets += packets
    stats.tx_bytes += nbytes
    adapter.total_tx_packets += packets
    adapter.total_tx_bytes += nbytes
    netdev_completed_queue(netdev, held)
    if (
        netif_queue_stopped(netdev)
        and (packets or not ring.pending())  # otherwise a hang stopped it
        and ring.unused() >= min(ring.count // 2, 8 * TX_WAKE_THRESHOLD)
        and netif_carrier_ok(netdev)
        and not adapter.flags & E1000_DOWN
    ):
        netif_wake_queue(netdev)
        adapter.restart_queue += 1
    if adapter.detect_tx_hung:
        adapter.detect_tx_hung = False
        e1000_detect_tx_hang(adapter)
    return not ring.pending()


def e1000_detect_tx_hang(adapter: e1000_adapter) -> None:
    """The hang check of e1000_main.c e1000_clean_tx_irq: a descriptor pends for a second or more.

    Stops the queue, so that the stack's watchdog calls ndo_tx_timeout.
    """
    ring, machine = adapter.tx_ring, adapter.machine
    now = machine.clock.now_ns()
    done = adapter.netdev.stats.tx_packets
    if done != adapter.tx_clean_mark or not ring.pending() or not adapter.tx_clean_tick:
        adapter.tx_clean_mark = done
        adapter.tx_clean_tick = now
        return
    waited = now - adapter.tx_clean_tick
    if waited >= TX_HANG_NS and not er32(adapter.hw, d.E1000_STATUS) & d.E1000_STATUS_TXOFF:
        adapter.tx_hang_count += 1
        log.error(
            "%s: Detected Tx Unit Hang: TDH <%x> TDT <%x> next_to_use <%x> next_to_clean <%x>",
            adapter.netdev.name,
            er32(adapter.hw, d.E1000_TDH),
            er32(adapter.hw, d.E1000_TDT),
            ring.next_to_use,
            ring.next_to_clean,
        )
        if not netif_queue_stopped(adapter.netdev):  # the stack counts its five seconds from here
            netif_stop_queue(adapter.netdev)


# -- receive ---------------------------------------------------------------------------------------


def e1000_alloc_rx_buffers(adapter: e1000_adapter) -> None:
    """e1000_main.c: give every empty descriptor a buffer and move RDT.

    If the pool is empty, a work item retries: an empty ring raises no interrupt.
    """
    ring = adapter.rx_ring
    tail = ring.refill()
    if tail >= 0:
        writel(adapter.hw.bar_write, d.E1000_RDT, tail)
    if ring.alloc_failed != adapter.alloc_rx_buff_failed:
        adapter.alloc_rx_buff_failed = ring.alloc_failed
        schedule_delayed_work(adapter.refill_task, e.REFILL_RETRY_NS)


def e1000_refill_task(adapter: e1000_adapter) -> None:
    """Refill after the pool was empty."""
    if not adapter.flags & E1000_DOWN and adapter.rx_ring is not None:
        e1000_alloc_rx_buffers(adapter)


def e1000_clean_rx_irq(adapter: e1000_adapter, budget: int) -> int:
    """e1000_main.c: remove received frames from the ring, return descriptors, pass up.

    Returns the work done in sk_buffs, `budget` if more may be pending.
    """
    skbs: list[sk_buff] = []
    # The device strips the FCS (SECRC).
    state = adapter.rx_ring.poll(
        adapter.fp_weight,
        skbs,
        adapter.napi.ring_gro,
        adapter.rx_csum,
        adapter.rx_vlan_strip,
        adapter.rx_all,
        RX_BUFFER_WRITE,
    )
    if state & 2:
        e1000_alloc_rx_buffers(adapter)
    for skb in skbs:
        e1000_receive_skb(adapter, skb)
    if state & 1:
        return budget
    work = len(skbs)
    return work if work < budget else budget - 1


def e1000_receive_skb(adapter: e1000_adapter, skb: sk_buff) -> None:
    """e1000_main.c: pass one packet up. Takes ownership of skb (data at the MAC header)."""
    eth_type_trans(skb, adapter.netdev)
    if adapter.flags & E1000_NO_NAPI:
        netif_rx(skb)
    else:
        napi_gro_receive(adapter.napi, skb)


# -- interrupt moderation --------------------------------------------------------------------------

LOWEST_LATENCY, LOW_LATENCY, BULK_LATENCY = 0, 1, 2
ITR_OF_LATENCY = {LOWEST_LATENCY: 70_000, LOW_LATENCY: 20_000, BULK_LATENCY: 4_000}


def e1000_update_itr(setting: int, packets: int, nbytes: int) -> int:
    """e1000_main.c: the latency class of traffic for `packets` and `nbytes` since the last call."""
    if not packets:
        return setting
    size = nbytes // packets
    if setting == LOWEST_LATENCY:
        if size > 8000:
            return BULK_LATENCY
        if packets < 5 and nbytes > 512:
            return LOW_LATENCY
    elif setting == LOW_LATENCY:
        if nbytes > 10_000:
            if packets < 10 or size > 1200:
                return BULK_LATENCY
            if packets > 35:
                return LOWEST_LATENCY
        elif size > 2000:
            return BULK_LATENCY
        elif packets <= 2 and nbytes < 512:
            return LOWEST_LATENCY
    elif nbytes > 25_000:
        if packets > 35:
            return LOW_LATENCY
    elif nbytes < 6000:
        return LOW_LATENCY
    return setting


def e1000_set_itr(adapter: e1000_adapter) -> None:
    """e1000_main.c: dynamic throttling: adjust ITR to the traffic of the last interrupt."""
    hw = adapter.hw
    if hw.mac_type < d.e1000_82540:
        return
    if adapter.link_speed != d.SPEED_1000:
        rate = 4000
    else:
        ring = adapter.rx_ring
        rx_packets, rx_bytes = ring.frames, ring.bytes
        adapter.tx_itr = e1000_update_itr(
            adapter.tx_itr, adapter.total_tx_packets, adapter.total_tx_bytes
        )
        adapter.rx_itr = e1000_update_itr(
            adapter.rx_itr,
            rx_packets - adapter.total_rx_packets,
            rx_bytes - adapter.total_rx_bytes,
        )
        adapter.total_tx_packets = adapter.total_tx_bytes = 0
        adapter.total_rx_packets, adapter.total_rx_bytes = rx_packets, rx_bytes
        if adapter.itr_setting == 3:  # mode 3 never uses the lowest latency
            adapter.tx_itr = max(adapter.tx_itr, LOW_LATENCY)
            adapter.rx_itr = max(adapter.rx_itr, LOW_LATENCY)
        rate = ITR_OF_LATENCY[max(adapter.tx_itr, adapter.rx_itr)]
    if rate != adapter.itr:
        # The rate falls at once and rises in steps.
        if rate > adapter.itr:
            rate = min(adapter.itr + (rate >> 2), rate)
        adapter.itr = rate
        e1000_write_itr(hw, rate)


# -- transmit --------------------------------------------------------------------------------------


def e1000_xmit_frame(skb: sk_buff, netdev: net_device) -> int:
    """e1000_main.c: ndo_start_xmit: descriptors for one packet, and the doorbell.

    Takes ownership of skb unless NETDEV_TX_BUSY is returned. The device pads short frames
    (TCTL.PSP), so clones need no copy.
    """
    adapter: e1000_adapter = netdev.priv
    ring = adapter.tx_ring
    if skb.data_len or ring.unused() < TX_WAKE_THRESHOLD:
        # A context descriptor, and the one kept empty.
        needed = ring.desc_needed(skb, e.E1000_MAX_DATA_PER_TXD) + 2
        if ring.unused() < needed:
            if needed >= ring.count:
                return e1000_xmit_in_pieces(adapter, skb)
            if e1000_maybe_stop_tx(netdev, ring, needed):
                return netdevice.NETDEV_TX_BUSY
    if (
        skb.data_len
        and skb_zcopy(skb) is not None
        and not skb_dma_map(adapter.machine, skb, adapter.pdev.slot)
    ):
        netdev.stats.tx_dropped += 1
        kfree_skb(skb)
        return netdevice.NETDEV_TX_OK
    popts = 0
    cmd = adapter.txd_cmd
    if skb.gso_size:
        popts = e1000_tso(adapter, ring, skb)
        if popts < 0:
            return e1000_xmit_in_pieces(adapter, skb)
        cmd |= d.E1000_TXD_CMD_TSE
    elif skb.ip_summed == CHECKSUM_PARTIAL:
        popts = e1000_tx_csum(adapter, ring, skb)
    if popts < 0 or e1000_tx_map(ring, skb, popts, cmd) < 0:
        ring.csum_start = -1
        netdev.stats.tx_dropped += 1
        kfree_skb(skb)
    else:
        netdev_sent_queue(netdev, skb.len)
        if skb.tx_flags:
            skb_tx_timestamp(skb)
    e1000_tx_queue(adapter, ring, netdev)
    return netdevice.NETDEV_TX_OK


def e1000_tx_queue(adapter: e1000_adapter, ring: TxRing, netdev: net_device) -> None:
    """e1000_main.c: ring the doorbell, unless more packets follow (xmit_more) and have room."""
    if netdev.xmit_more and not netdev.queue_state and ring.unused() > ring.count >> 1:
        return
    writel(adapter.hw.bar_write, d.E1000_TDT, ring.next_to_use)
    if adapter.flags & E1000_NO_NAPI:
        return
    # An emulated device has often sent everything when the write returns. Done descriptors are
    # freed here, and TXDW is unmasked only when others remain.
    packets, nbytes, held = ring.clean()
    stats = netdev.stats
    stats.tx_packets += packets
    stats.tx_bytes += nbytes
    netdev_completed_queue(netdev, held)
    if ring.pending():
        adapter.total_tx_packets += packets
        adapter.total_tx_bytes += nbytes
        e1000_unmask_tx(adapter, ring)


def e1000_maybe_stop_tx(netdev: net_device, ring: TxRing, needed: int) -> int:
    """e1000_main.c: 0 when `needed` descriptors are free (cleaning if need be), else -EBUSY.

    On -EBUSY the queue is stopped until a transmit interrupt.
    """
    adapter: e1000_adapter = netdev.priv
    # Packets that wait for the doorbell because of xmit_more must be sent first.
    writel(adapter.hw.bar_write, d.E1000_TDT, ring.next_to_use)
    e1000_clean_tx_irq(adapter)
    if ring.unused() >= needed:
        return 0
    netif_stop_queue(netdev)
    e1000_unmask_tx(adapter, ring)
    return -errno.EBUSY


def e1000_tso(adapter: e1000_adapter, ring: TxRing, skb: sk_buff) -> int:
    """e1000_main.c: the TCP segmentation context (SDM 3.5); packet options, or -errno.

    The device needs the lengths and the IP checksum to be 0, and the pseudo-header sum without
    length. Packets beyond the context's fields are refused (headers over 255 bytes, 1 MiB of
    payload), and IPv6 for parts that cannot segment it.
    """
    v6 = skb.protocol == netdevice.ETH_P_IPV6
    if v6 and adapter.flags & E1000_NO_TSO6:
        return -errno.EOPNOTSUPP
    if not skb_cow_head(skb, 0):
        return -errno.ENOMEM
    ipcss = skb_network_offset(skb)
    tucss = skb_transport_offset(skb)
    hdr_len = tucss + 8
    tucso = tucss + UDP_CHECK_AT
    tucmd = d.E1000_TXD_CMD_TSE | d.E1000_TXD_CMD_DEXT
    udp = skb.gso_type & SKB_GSO_UDP_L4 != 0
    if not udp:
        hdr_len = tucss + tcp_hdrlen(skb)
        tucso = tucss + TCP_CHECK_AT
        tucmd |= d.E1000_TXD_CMD_TCP
    paylen = skb.len - hdr_len
    if hdr_len > MAX_HEADER or paylen > e.E1000_MAX_PAYLEN:
        return -errno.EMSGSIZE
    gso_csum_prep(skb)
    popts = d.E1000_TXD_POPTS_TXSM
    ipcso = ipcse = 0
    if not v6:
        ipcso = ipcss + 10
        ipcse = tucss - 1
        tucmd |= d.E1000_TXD_CMD_IP
        popts |= d.E1000_TXD_POPTS_IXSM
    ring.put_context(
        ipcss,
        ipcso,
        ipcse,
        tucss,
        tucso,
        0,
        paylen,
        hdr_len,
        skb.gso_size,
        tucmd,
    )
    return popts


def e1000_tx_csum(adapter: e1000_adapter, ring: TxRing, skb: sk_buff) -> int:
    """e1000_main.c: the checksum context (SDM 3.3.6): sum from csum_start, store at csum_offset.

    Returns the packet options, or -EINVAL for an invalid packet. The device keeps its context, so
    an unchanged one is not written again.
    """
    start = skb_checksum_start_offset(skb)
    offset = skb.csum_offset
    if start != ring.csum_start or offset != ring.csum_offset:
        at = start + offset
        if not 0 <= start <= at <= MAX_HEADER:  # beyond the context's 8-bit fields
            return 0 if skb_checksum_help(skb) else -errno.EINVAL
        # Without TUCMD.TCP the device assumes UDP, where a checksum of 0 is sent as 0xFFFF.
        # Only TCP has its checksum at offset 16, so the offset identifies the protocol.
        tcp = d.E1000_TXD_CMD_TCP if offset == TCP_CHECK_AT else 0
        ring.put_context(0, 0, 0, start, at, 0, 0, 0, 0, tcp | d.E1000_TXD_CMD_DEXT)
        ring.csum_start, ring.csum_offset = start, offset
    return d.E1000_TXD_POPTS_TXSM


def e1000_tx_map(ring: TxRing, skb: sk_buff, popts: int, cmd: int) -> int:
    """e1000_main.c: write data descriptors for the head and every fragment; returns how many.

    Takes ownership of skb until the descriptors are done. e1000_xmit_frame checked for room.
    """
    vlan = skb.vlan_tci if skb.vlan_proto else -1
    return ring.map(skb, popts, cmd, vlan, e.E1000_MAX_DATA_PER_TXD)


def e1000_unmask_tx(adapter: e1000_adapter, ring: TxRing) -> None:
    """Unmask the transmit interrupt, unless it is unmasked or a poll will do so at its end."""
    mask = adapter.ims_mask
    if mask and not mask & d.E1000_ICR_TXDW:
        adapter.ims_mask = mask | d.E1000_ICR_TXDW
        writel(adapter.hw.bar_write, d.E1000_IMS, d.E1000_ICR_TXDW)


def e1000_xmit_in_pieces(adapter: e1000_adapter, skb: sk_buff) -> int:
    """Segment in software a packet with more fragments than the ring or more bytes than PAYLEN.

    It is needed when merged packets are forwarded to a small ring. Segments that do not fit into
    the ring are dropped, as by a router's queue. Takes ownership of skb.
    """
    netdev = adapter.netdev
    segments: list[sk_buff] = []
    if skb.gso_size:
        try:
            segments = skb_gso_segment(skb, adapter.machine.skb_small, csum_partial=True)
        except (ValueError, MemoryError):
            segments = []
    kfree_skb(skb)
    if not segments:
        netdev.stats.tx_dropped += 1
    for segment in segments:
        if e1000_xmit_frame(segment, netdev) != netdevice.NETDEV_TX_OK:
            netdev.stats.tx_dropped += 1
            kfree_skb(segment)
    e1000_tx_queue(adapter, adapter.tx_ring, netdev)  # packets that wait because of xmit_more
    return netdevice.NETDEV_TX_OK
