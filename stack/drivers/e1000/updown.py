"""Open and close, up and down, reset (e1000_main.c)."""

from __future__ import annotations

import errno
import logging

from stack.core.dev import dev_close
from stack.core.dev_queue import netif_start_queue, netif_stop_queue, netif_wake_queue
from stack.core.irq import free_irq, request_irq
from stack.core.link_watch import netif_carrier_off
from stack.core.napi import napi_disable, napi_enable
from stack.core.netdevice import ETH_P_8021Q, net_device, netif_running
from stack.core.workqueue import (
    cancel_delayed_work_sync,
    msleep,
    schedule_delayed_work,
    usleep_range,
)
from stack.drivers.e1000 import defs as d
from stack.drivers.e1000 import e1000 as e
from stack.drivers.e1000.config import (
    e1000_clean_all_rx_rings,
    e1000_clean_all_tx_rings,
    e1000_configure,
    e1000_free_all_rx_resources,
    e1000_free_all_tx_resources,
    e1000_setup_all_rx_resources,
    e1000_setup_all_tx_resources,
)
from stack.drivers.e1000.e1000 import E1000_WRITE_FLUSH, E1000HwError, e1000_adapter, er32, ew32
from stack.drivers.e1000.hw import e1000_init_hw, e1000_reset_adaptive, e1000_reset_hw
from stack.drivers.e1000.phy import e1000_power_up_phy_hw, e1000_read_phy_reg, e1000_write_phy_reg
from stack.drivers.e1000.txrx import e1000_intr, e1000_irq_disable, e1000_irq_enable
from stack.drivers.e1000.watchdog import e1000_update_stats

log = logging.getLogger("stack.drivers.e1000")


def e1000_open(netdev: net_device) -> int:
    """e1000_main.c: ndo_open: rings, filters, interrupt, NAPI. 0 or -errno."""
    adapter: e1000_adapter = netdev.priv
    if adapter.flags & e.E1000_TESTING:
        return -errno.EBUSY
    netif_carrier_off(netdev)
    try:
        e1000_setup_all_tx_resources(adapter)
        e1000_setup_all_rx_resources(adapter)
        e1000_power_up_phy(adapter)
        e1000_configure(adapter)
        err = e1000_request_irq(adapter)
    except MemoryError:
        err = -errno.ENOMEM
    except E1000HwError as error:
        log.error("%s: %s", netdev.name, error)
        err = -errno.EIO
    if err:
        e1000_power_down_phy(adapter)
        e1000_free_all_rx_resources(adapter)
        e1000_free_all_tx_resources(adapter)
        e1000_reset(adapter)
        return err
    adapter.flags &= ~e.E1000_DOWN
    napi_enable(adapter.napi)
    e1000_irq_enable(adapter)
    netif_start_queue(netdev)
    # An interrupt makes the watchdog check the link at once.
    schedule_delayed_work(adapter.watchdog_task, e.WATCHDOG_NS)
    ew32(adapter.hw, d.E1000_ICS, d.E1000_ICR_LSC)
    return 0


def e1000_close(netdev: net_device) -> int:
    """e1000_main.c: ndo_stop: undo e1000_open."""
    adapter: e1000_adapter = netdev.priv
    e1000_wait_for_reset(adapter)
    adapter.flags |= e.E1000_DOWN  # the reset work does nothing from now on
    adapter.flags &= ~e.E1000_RESETTING
    e1000_down(adapter)
    e1000_power_down_phy(adapter)
    e1000_free_irq(adapter)
    e1000_free_all_tx_resources(adapter)
    e1000_free_all_rx_resources(adapter)
    return 0


def e1000_wait_for_reset(adapter: e1000_adapter) -> None:
    """Wait until a reset in another context has finished."""
    for _ in range(50):
        if not adapter.flags & e.E1000_RESETTING:
            return
        usleep_range(adapter.machine, 10_000, 20_000)


def e1000_up(adapter: e1000_adapter) -> None:
    """e1000_main.c: start the hardware; the rings must exist."""
    e1000_configure(adapter)
    adapter.flags &= ~e.E1000_DOWN
    napi_enable(adapter.napi)
    e1000_irq_enable(adapter)
    netif_wake_queue(adapter.netdev)
    schedule_delayed_work(adapter.watchdog_task, e.WATCHDOG_NS)
    ew32(adapter.hw, d.E1000_ICS, d.E1000_ICR_LSC)


def e1000_down_and_stop(adapter: e1000_adapter) -> None:
    """e1000_main.c: cancel all work items."""
    adapter.flags |= e.E1000_DOWN
    for work in (adapter.watchdog_task, adapter.refill_task, adapter.reset_task):
        cancel_delayed_work_sync(work)


def e1000_down(adapter: e1000_adapter) -> None:
    """e1000_main.c: stop traffic, reset, empty the rings; the rings stay."""
    netdev, hw = adapter.netdev, adapter.hw
    rctl = er32(hw, d.E1000_RCTL)
    ew32(hw, d.E1000_RCTL, rctl & ~d.E1000_RCTL_EN)
    netif_stop_queue(netdev)
    netif_carrier_off(netdev)
    tctl = er32(hw, d.E1000_TCTL)
    ew32(hw, d.E1000_TCTL, tctl & ~d.E1000_TCTL_EN)
    E1000_WRITE_FLUSH(hw)
    adapter.flags |= e.E1000_DOWN
    msleep(adapter.machine, 10)
    e1000_irq_disable(adapter)
    napi_disable(adapter.napi)
    e1000_down_and_stop(adapter)
    e1000_update_stats(adapter)
    adapter.link_speed = 0
    adapter.link_duplex = 0
    e1000_reset(adapter)
    e1000_clean_all_tx_rings(adapter)
    e1000_clean_all_rx_rings(adapter)


def e1000_reinit_locked(adapter: e1000_adapter) -> None:
    """e1000_main.c: down and up again; waits for a reset in progress."""
    e1000_wait_for_reset(adapter)
    adapter.flags |= e.E1000_RESETTING
    try:
        if not adapter.flags & e.E1000_DOWN:
            e1000_down(adapter)
            e1000_up(adapter)
    finally:
        adapter.flags &= ~e.E1000_RESETTING


def e1000_restart(adapter: e1000_adapter) -> None:
    """Apply new settings: down and up, or a reset."""
    if netif_running(adapter.netdev):
        e1000_reinit_locked(adapter)
    else:
        e1000_reset(adapter)


def e1000_reset_task(adapter: e1000_adapter) -> None:
    """e1000_main.c: the work that ndo_tx_timeout schedules."""
    log.error("%s: Reset adapter", adapter.netdev.name)
    e1000_reinit_locked(adapter)


def e1000_reset(adapter: e1000_adapter) -> None:
    """e1000_main.c: packet buffer split, flow control marks, reset and initialise the hardware."""
    hw = adapter.hw
    pba = 48  # KiB for receiving, of 64
    if hw.max_frame_size > 8192:
        pba -= 8  # the transmit side must hold a whole frame
    ew32(hw, d.E1000_PBA, pba)
    high = min((pba << 10) * 9 // 10, (pba << 10) - hw.max_frame_size)
    hw.fc_high_water = high & 0xFFF8
    hw.fc_low_water = hw.fc_high_water - 8
    hw.fc_pause_time = e.E1000_PAUSE_TIME
    hw.fc_send_xon = True
    hw.fc = hw.original_fc
    e1000_reset_hw(hw)
    ew32(hw, d.E1000_WUC, 0)
    try:
        e1000_init_hw(hw)
    except E1000HwError as error:
        adapter.hw_errors += 1
        log.error("Hardware Error: %s", error)
    ew32(hw, d.E1000_VET, ETH_P_8021Q)
    e1000_reset_adaptive(hw)
    if adapter.tx_ring is not None:
        adapter.tx_ring.csum_start = -1  # the device has lost its context


def e1000_power_up_phy(adapter: e1000_adapter) -> None:
    """e1000_main.c: power up the PHY, if there is one."""
    if adapter.hw.media_type == d.e1000_media_type_copper:
        e1000_power_up_phy_hw(adapter.hw)


def e1000_power_down_phy(adapter: e1000_adapter) -> None:
    """e1000_main.c: power down the PHY unless it must receive wake-up frames."""
    hw = adapter.hw
    if adapter.wol or hw.media_type != d.e1000_media_type_copper:
        return
    try:
        control = e1000_read_phy_reg(hw, d.PHY_CTRL)
        e1000_write_phy_reg(hw, d.PHY_CTRL, control | d.MII_CR_POWER_DOWN)
        msleep(adapter.machine, 1)
    except E1000HwError as error:
        adapter.hw_errors += 1
        log.warning("%s: PHY power down: %s", adapter.netdev.name, error)


def e1000_up_with_new_rings(adapter: e1000_adapter) -> int:
    """Start again after e1000_down, with new rings for those that were freed.

    Returns 0, or -ENOMEM: the interface is then closed, as it has no rings.
    """
    try:
        if adapter.tx_ring is None:
            e1000_setup_all_tx_resources(adapter)
        if adapter.rx_ring is None:
            e1000_setup_all_rx_resources(adapter)
    except MemoryError:
        log.error("%s: no memory for its rings: closed", adapter.netdev.name)
        adapter.flags &= ~e.E1000_RESETTING
        dev_close(adapter.netdev)
        return -errno.ENOMEM
    e1000_up(adapter)
    return 0


def e1000_request_irq(adapter: e1000_adapter) -> int:
    """e1000_main.c: 0 or -errno."""
    netdev = adapter.netdev
    return request_irq(adapter.machine, adapter.pdev.irq, e1000_intr, netdev, netdev.name)


def e1000_free_irq(adapter: e1000_adapter) -> None:
    """e1000_main.c."""
    free_irq(adapter.machine, adapter.pdev.irq, adapter.netdev)
