"""Rings and the registers of the transmit and receive units (the middle of e1000_main.c)."""

from __future__ import annotations

from fastpath.base.skbuff import SkbPool
from fastpath.net.gro import GroTable
from fastpath.net.rings_driver import RxRing, TxRing
from stack.core import netdevice
from stack.core.dev_queue import netdev_reset_queue
from stack.drivers.e1000 import defs as d
from stack.drivers.e1000 import e1000 as e
from stack.drivers.e1000.e1000 import e1000_adapter, e1000_write_itr, er32, ew32
from stack.drivers.e1000.rxmode import e1000_restore_vlan, e1000_set_rx_mode
from stack.drivers.e1000.txrx import e1000_alloc_rx_buffers
from stack.drivers.e1000.watchdog import e1000_fold_ring_stats

# -- resources -------------------------------------------------------------------------------------


TXD_CMD = d.E1000_TXD_CMD_EOP | d.E1000_TXD_CMD_IFCS | d.E1000_TXD_CMD_RS


def e1000_setup_all_tx_resources(adapter: e1000_adapter) -> None:
    """e1000_main.c: memory of the transmit ring. Raises: MemoryError: the host's RAM is full."""
    adapter.tx_ring = TxRing(adapter.machine.ram, adapter.tx_ring_count)


def e1000_setup_all_rx_resources(adapter: e1000_adapter) -> None:
    """e1000_main.c: memory of the receive ring, and a pool for its buffers.

    The pool also has the buffers that sockets hold. It takes at most a quarter of the RAM, and less
    when no such contiguous piece is free, but at least one and a half times the ring.
    Raises: MemoryError: the host's RAM is full.
    """
    machine, size, count = adapter.machine, adapter.rx_buffer_len, adapter.rx_ring_count
    least = count + count // 2
    buffers = max(least, min(e.E1000_RX_POOL_BUFFERS, machine.ram.size_bytes // 4 // size))
    while adapter.rx_pool is None:
        try:
            adapter.rx_pool = SkbPool(machine.ram, size, buffers)
        except MemoryError:
            if buffers == least:
                raise
            buffers = max(least, buffers // 2)
    adapter.rx_ring = RxRing(
        machine.ram, count, adapter.rx_pool, size, machine.skb_small_head, adapter.copybreak
    )
    adapter.rx_frames_seen = adapter.rx_bytes_seen = 0
    adapter.rx_csum_good_seen = adapter.rx_csum_err_seen = 0
    adapter.total_rx_packets = adapter.total_rx_bytes = 0
    adapter.alloc_rx_buff_failed = 0
    adapter.napi.ring_gro = None
    e1000_set_gro(adapter, adapter.netdev.features)


def e1000_set_gro(adapter: e1000_adapter, features: int) -> None:
    """Merge received segments in the ring's compiled clean, as NETIF_F_GRO says."""
    if not features & netdevice.NETIF_F_GRO or adapter.flags & e.E1000_NO_NAPI:
        if adapter.napi.ring_gro is not None:
            adapter.napi.ring_gro.reset()
        adapter.napi.ring_gro = None
    elif adapter.napi.ring_gro is None:
        adapter.napi.ring_gro = GroTable(adapter.netdev.gro_max_size)


def e1000_free_all_tx_resources(adapter: e1000_adapter) -> None:
    """e1000_main.c."""
    if adapter.tx_ring is not None:
        e1000_clean_all_tx_rings(adapter)
        adapter.tx_ring = None  # type: ignore[assignment]


def e1000_free_all_rx_resources(adapter: e1000_adapter) -> None:
    """e1000_main.c: buffers that sockets still hold keep the pool alive until they go."""
    e1000_set_gro(adapter, 0)
    if adapter.rx_ring is not None:
        e1000_fold_ring_stats(adapter)
        adapter.rx_ring.reset()
        adapter.rx_ring = None  # type: ignore[assignment]
    adapter.rx_pool = None  # type: ignore[assignment]


def e1000_clean_all_tx_rings(adapter: e1000_adapter) -> None:
    """e1000_main.c: free what was queued and not sent."""
    if adapter.tx_ring is not None:
        adapter.tx_ring.reset()
        netdev_reset_queue(adapter.netdev)


def e1000_clean_all_rx_rings(adapter: e1000_adapter) -> None:
    """e1000_main.c: take every buffer back."""
    if adapter.napi.ring_gro is not None:
        adapter.napi.ring_gro.reset()
    if adapter.rx_ring is not None:
        adapter.rx_ring.reset()


# -- configuration ---------------------------------------------------------------------------------


def e1000_configure(adapter: e1000_adapter) -> None:
    """e1000_main.c: write everything that a reset cleared, fill the receive ring."""
    e1000_set_rx_mode(adapter.netdev)
    e1000_restore_vlan(adapter)
    e1000_configure_tx(adapter)
    e1000_setup_rctl(adapter)
    e1000_configure_rx(adapter)
    e1000_alloc_rx_buffers(adapter)


def e1000_configure_tx(adapter: e1000_adapter) -> None:
    """e1000_main.c: the transmit unit (SDM 14.5)."""
    hw, ring = adapter.hw, adapter.tx_ring
    ew32(hw, d.E1000_TDLEN, ring.size_bytes)
    ew32(hw, d.E1000_TDBAH, ring.dma >> 32)
    ew32(hw, d.E1000_TDBAL, ring.dma)
    ew32(hw, d.E1000_TDT, 0)
    ew32(hw, d.E1000_TDH, 0)
    tipg = (
        (
            d.DEFAULT_82543_TIPG_IPGT_FIBER
            if hw.media_type == d.e1000_media_type_fiber
            else d.DEFAULT_82543_TIPG_IPGT_COPPER
        )
        | d.DEFAULT_82543_TIPG_IPGR1 << d.E1000_TIPG_IPGR1_SHIFT
        | d.DEFAULT_82543_TIPG_IPGR2 << d.E1000_TIPG_IPGR2_SHIFT
    )
    ew32(hw, d.E1000_TIPG, tipg)
    ew32(hw, d.E1000_TIDV, adapter.tx_int_delay or 1)  # 0 is not allowed (SDM 13.4.44)
    if hw.mac_type >= d.e1000_82540:
        ew32(hw, d.E1000_TADV, adapter.tx_abs_int_delay)
    tctl = er32(hw, d.E1000_TCTL) & ~d.E1000_TCTL_CT
    tctl |= d.E1000_TCTL_PSP | d.E1000_TCTL_RTLC
    tctl |= d.E1000_COLLISION_THRESHOLD << d.E1000_CT_SHIFT
    adapter.txd_cmd = TXD_CMD
    if adapter.tx_int_delay:
        adapter.txd_cmd |= d.E1000_TXD_CMD_IDE
    ring.csum_start = -1
    ew32(hw, d.E1000_TCTL, tctl | d.E1000_TCTL_EN)


RX_BUFFER_SIZE_BITS = {
    2048: d.E1000_RCTL_SZ_2048,
    4096: d.E1000_RCTL_SZ_4096 | d.E1000_RCTL_BSEX,
    8192: d.E1000_RCTL_SZ_8192 | d.E1000_RCTL_BSEX,
    16384: d.E1000_RCTL_SZ_16384 | d.E1000_RCTL_BSEX,
}


def e1000_setup_rctl(adapter: e1000_adapter) -> None:
    """e1000_main.c: RCTL without EN: filters' shift, buffer size, long packets, bad packets.

    Unlike the kernel's driver, ours sets SECRC: it would cut off the FCS, and with the bit set the
    device need not compute it. ``rx-fcs on`` clears the bit.
    """
    hw, netdev = adapter.hw, adapter.netdev
    rctl = er32(hw, d.E1000_RCTL)
    rctl &= ~(3 << d.E1000_RCTL_MO_SHIFT | d.E1000_RCTL_SBP | d.E1000_RCTL_LPE)
    rctl &= ~(d.E1000_RCTL_SZ_MASK | d.E1000_RCTL_BSEX | d.E1000_RCTL_LBM_MASK)
    rctl |= d.E1000_RCTL_BAM | d.E1000_RCTL_RDMTS_HALF | d.E1000_RCTL_SECRC
    rctl |= hw.mc_filter_type << d.E1000_RCTL_MO_SHIFT
    if netdev.mtu > 1500:
        rctl |= d.E1000_RCTL_LPE
    rctl |= RX_BUFFER_SIZE_BITS[adapter.rx_buffer_len]
    if netdev.features & netdevice.NETIF_F_RXFCS:
        rctl &= ~d.E1000_RCTL_SECRC
    adapter.rx_all = bool(netdev.features & netdevice.NETIF_F_RXALL)
    if adapter.rx_all:
        # Keep bad frames and pause frames; filter by address only.
        rctl |= d.E1000_RCTL_SBP | d.E1000_RCTL_BAM | d.E1000_RCTL_PMCF
        rctl &= ~(d.E1000_RCTL_VFE | d.E1000_RCTL_DPF | d.E1000_RCTL_CFIEN)
    ew32(hw, d.E1000_RCTL, rctl)


def e1000_configure_rx(adapter: e1000_adapter) -> None:
    """e1000_main.c: the receive unit (SDM 14.4); enabled at the end."""
    hw, ring = adapter.hw, adapter.rx_ring
    rctl = er32(hw, d.E1000_RCTL)
    ew32(hw, d.E1000_RCTL, rctl & ~d.E1000_RCTL_EN)
    ew32(hw, d.E1000_RDTR, adapter.rx_int_delay)
    if hw.mac_type >= d.e1000_82540:
        ew32(hw, d.E1000_RADV, adapter.rx_abs_int_delay)
        e1000_write_itr(hw, adapter.itr if adapter.itr_setting else 0)
    ew32(hw, d.E1000_RDLEN, ring.size_bytes)
    ew32(hw, d.E1000_RDBAH, ring.dma >> 32)
    ew32(hw, d.E1000_RDBAL, ring.dma)
    ew32(hw, d.E1000_RDT, 0)
    ew32(hw, d.E1000_RDH, 0)
    # Linux sets TUOFL only and verifies IPv6 checksums in software. A part without IPV6OFL leaves
    # TCPCS clear in the descriptor; then so do we.
    offloads = d.E1000_RXCSUM_TUOFL | d.E1000_RXCSUM_IPOFL | d.E1000_RXCSUM_IPV6OFL
    rxcsum = er32(hw, d.E1000_RXCSUM) & ~offloads
    if adapter.rx_csum:
        rxcsum |= offloads
    ew32(hw, d.E1000_RXCSUM, rxcsum)
    ew32(hw, d.E1000_RCTL, rctl | d.E1000_RCTL_EN)
