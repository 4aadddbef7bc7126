"""Link, hardware counters, lost interrupts, every two seconds (e1000_watchdog of e1000_main.c)."""

from __future__ import annotations

import logging
from typing import Any

from fastpath.nic.mmio import readl
from stack.core.link_watch import netif_carrier_off, netif_carrier_on
from stack.core.netdevice import net_device, netif_carrier_ok
from stack.core.workqueue import schedule_delayed_work, schedule_work
from stack.drivers.e1000 import defs as d
from stack.drivers.e1000 import e1000 as e
from stack.drivers.e1000.e1000 import (
    E1000HwError,
    e1000_adapter,
    e1000_write_itr,
    er32,
    ew32,
)
from stack.drivers.e1000.hw import (
    STATISTICS,
    STATISTICS_64,
    e1000_check_for_link,
    e1000_get_speed_and_duplex,
    e1000_update_adaptive,
)
from stack.drivers.e1000.txrx import e1000_intr

log = logging.getLogger("stack.drivers.e1000")


def e1000_has_link(adapter: e1000_adapter) -> bool:
    """e1000_main.c: whether there is a link. Copper reads the PHY only after a link change."""
    if adapter.hw.media_type == d.e1000_media_type_fiber:
        e1000_check_for_link(adapter.hw)
        return bool(er32(adapter.hw, d.E1000_STATUS) & d.E1000_STATUS_LU)
    if adapter.hw.get_link_status:
        try:
            e1000_check_for_link(adapter.hw)
        except E1000HwError as error:
            adapter.hw_errors += 1
            log.error("%s: %s", adapter.netdev.name, error)
        return not adapter.hw.get_link_status
    return True


def e1000_watchdog(adapter: e1000_adapter) -> None:
    """e1000_main.c: link, statistics, lost interrupts; every two seconds and at link changes."""
    netdev, hw = adapter.netdev, adapter.hw
    if adapter.flags & e.E1000_DOWN:
        return
    link = e1000_has_link(adapter)
    if adapter.flags & e.E1000_DOWN:
        return  # brought down while reading the PHY
    if link and not netif_carrier_ok(netdev):
        e1000_link_is_up(adapter)
    elif not link and netif_carrier_ok(netdev):
        adapter.link_speed = 0
        adapter.link_duplex = 0
        log.info("e1000: %s NIC Link is Down", netdev.name)
        netif_carrier_off(netdev)
    collisions, packets = adapter.stats.colc, adapter.stats.tpt
    e1000_update_stats(adapter)
    e1000_update_adaptive(hw, adapter.stats.colc - collisions, adapter.stats.tpt - packets)
    ring = adapter.tx_ring
    if not netif_carrier_ok(netdev) and ring.pending():
        # The link was lost with packets in the ring, which only a reset removes.
        adapter.tx_timeout_count += 1
        schedule_work(adapter.reset_task)
        return
    if adapter.itr_setting == 4 and hw.mac_type >= d.e1000_82540:
        e1000_simple_itr(adapter)
    adapter.detect_tx_hung = True
    if adapter.ims_mask and not adapter.flags & e.E1000_NO_NAPI:
        # A pending cause means a lost interrupt. In Linux the ring then fills until ndo_tx_timeout;
        # ours is cleaned by senders, so nothing else would detect it.
        e1000_intr(adapter.pdev.irq, netdev)
    # Poll without an interrupt: one may have been lost, or the receive ring may be empty.
    ew32(hw, d.E1000_ICS, d.E1000_ICR_RXDMT0)
    schedule_delayed_work(adapter.watchdog_task, e.WATCHDOG_NS)


def e1000_simple_itr(adapter: e1000_adapter) -> None:
    """Mode rx-usecs 4 of e1000_main.c e1000_watchdog: 2000 to 8000 interrupts per second.

    Symmetric traffic gets the lower rate, one-sided traffic the higher.
    """
    stats = adapter.stats
    sent, received = stats.gotcl - adapter.gotcl_old, stats.gorcl - adapter.gorcl_old
    adapter.gotcl_old, adapter.gorcl_old = stats.gotcl, stats.gorcl
    total = (sent + received) // 10_000
    difference = (max(sent, received) - min(sent, received)) // 10_000
    rate = difference * 6000 // total + 2000 if total > 0 else 8000
    e1000_write_itr(adapter.hw, rate)


def e1000_link_is_up(adapter: e1000_adapter) -> None:
    """The link-up half of e1000_main.c e1000_watchdog."""
    netdev, hw = adapter.netdev, adapter.hw
    adapter.link_speed, adapter.link_duplex = e1000_get_speed_and_duplex(hw)
    ctrl = er32(hw, d.E1000_CTRL)
    flow = {
        0: "None",
        d.E1000_CTRL_RFCE: "RX",
        d.E1000_CTRL_TFCE: "TX",
        d.E1000_CTRL_RFCE | d.E1000_CTRL_TFCE: "RX/TX",
    }[ctrl & (d.E1000_CTRL_RFCE | d.E1000_CTRL_TFCE)]
    log.info(
        "e1000: %s NIC Link is Up %d Mbps %s, Flow Control: %s",
        netdev.name,
        adapter.link_speed,
        "Full Duplex" if adapter.link_duplex == d.FULL_DUPLEX else "Half Duplex",
        flow,
    )
    ew32(hw, d.E1000_TCTL, er32(hw, d.E1000_TCTL) | d.E1000_TCTL_EN)
    adapter.tx_clean_tick = 0
    netif_carrier_on(netdev)


def e1000_update_stats(adapter: e1000_adapter) -> None:
    """e1000_main.c: add the hardware's counters (which reading clears) to the totals."""
    stats = adapter.stats
    bar_read = adapter.hw.bar_read
    for name, reg in STATISTICS:
        value = readl(bar_read, reg)
        if value:
            setattr(stats, name, getattr(stats, name) + value)
    for name, low, high in STATISTICS_64:
        value = readl(bar_read, low) | readl(bar_read, high) << 32
        if value:
            # a removed device reads as all ones each time; the totals wrap, at 63 bits
            setattr(stats, name, (getattr(stats, name) + value) & ((1 << 63) - 1))
    stats.txerrc = stats.ecol + stats.latecol
    stats.rlerrc = stats.ruc + stats.roc
    e1000_fill_netdev_stats(adapter)


def e1000_fill_netdev_stats(adapter: e1000_adapter) -> None:
    """The net_device half of e1000_main.c e1000_update_stats."""
    hw_stats, out = adapter.stats, adapter.netdev.stats
    out.multicast = hw_stats.mprc
    out.collisions = hw_stats.colc
    out.rx_errors = (
        hw_stats.rxerrc
        + hw_stats.crcerrs
        + hw_stats.algnerrc
        + hw_stats.ruc
        + hw_stats.roc
        + hw_stats.cexterr
    )
    out.rx_length_errors = hw_stats.rlerrc
    out.rx_crc_errors = hw_stats.crcerrs
    out.rx_frame_errors = hw_stats.algnerrc
    out.rx_missed_errors = hw_stats.mpc
    out.tx_errors = hw_stats.txerrc
    out.tx_aborted_errors = hw_stats.ecol
    out.tx_window_errors = hw_stats.latecol
    out.tx_carrier_errors = hw_stats.tncrs


def e1000_fold_ring_stats(adapter: e1000_adapter) -> None:
    """Add what the receive ring has counted since the last call to the net_device's totals."""
    ring, stats = adapter.rx_ring, adapter.netdev.stats
    if ring is None:
        return
    stats.rx_packets += ring.frames - adapter.rx_frames_seen
    stats.rx_bytes += ring.bytes - adapter.rx_bytes_seen
    adapter.rx_frames_seen, adapter.rx_bytes_seen = ring.frames, ring.bytes
    adapter.hw_csum_good += ring.hw_csum_good - adapter.rx_csum_good_seen
    adapter.hw_csum_err += ring.hw_csum_err - adapter.rx_csum_err_seen
    adapter.rx_csum_good_seen, adapter.rx_csum_err_seen = ring.hw_csum_good, ring.hw_csum_err


def e1000_get_stats64(netdev: net_device) -> Any:
    """ndo_get_stats64: add the counters of the compiled rings, then return the totals."""
    e1000_fold_ring_stats(netdev.priv)
    return netdev.stats
