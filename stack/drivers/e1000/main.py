"""The e1000 network driver: probe, open, transmit, interrupt, NAPI, watchdog (e1000_main.c).

Reading order: `e1000_probe` finds the hardware and registers the interface; `e1000_open` gives it
rings and starts it; `e1000_xmit_frame` sends; `e1000_intr` -> `e1000_clean` receives and frees;
`e1000_watchdog` looks after the link every two seconds. Ring walking is compiled
(`fastpath.drvring`); everything that decides is here.

The driver touches the hardware by BAR accesses, DMA memory and one interrupt, nothing else.
"""

from __future__ import annotations

import dataclasses
import errno
import logging
from typing import Any

from fastpath.csum import csum_fold, csum_ipv6_nofold, csum_tcpudp_magic
from fastpath.gro import GroTable
from fastpath.gso import skb_gso_segment
from fastpath.hdr import ip_hdr, ipv6_hdr, tcp_hdr, udp_hdr
from fastpath.skbuff import (
    CHECKSUM_PARTIAL,
    SKB_GSO_TCPV6,
    SKB_GSO_UDP_L4,
    kfree_skb,
    sk_buff,
    skb_checksum_start_offset,
    skb_cow_head,
    skb_network_offset,
    skb_transport_offset,
)
from stack.core import pci
from stack.core.dev import (
    free_netdev,
    napi_complete_done,
    napi_disable,
    napi_enable,
    napi_gro_receive,
    napi_schedule,
    netif_carrier_off,
    netif_carrier_on,
    netif_napi_add,
    netif_start_queue,
    netif_stop_queue,
    netif_wake_queue,
    register_netdev,
    unregister_netdev,
)
from stack.core.irq import IRQ_HANDLED, IRQ_NONE, free_irq, request_irq
from stack.core.netdevice import (
    ETH_HLEN,
    ETH_MIN_MTU,
    IFF_ALLMULTI,
    IFF_PROMISC,
    NETDEV_TX_BUSY,
    NETDEV_TX_OK,
    NETIF_F_GRO,
    NETIF_F_GSO_UDP_L4,
    NETIF_F_HIGHDMA,
    NETIF_F_HW_CSUM,
    NETIF_F_HW_VLAN_CTAG_FILTER,
    NETIF_F_HW_VLAN_CTAG_RX,
    NETIF_F_HW_VLAN_CTAG_TX,
    NETIF_F_RXALL,
    NETIF_F_RXCSUM,
    NETIF_F_RXFCS,
    NETIF_F_SG,
    NETIF_F_TSO,
    NETIF_F_TSO6,
    napi_struct,
    net_device,
    net_device_ops,
    netif_carrier_ok,
    netif_running,
)
from stack.core.workqueue import (
    cancel_delayed_work_sync,
    mod_delayed_work,
    msleep,
    schedule_delayed_work,
    schedule_work,
    usleep_range,
    work_struct,
)
from stack.drivers.e1000 import defs as d
from stack.drivers.e1000 import e1000 as e
from stack.drivers.e1000.e1000 import (
    E1000_WRITE_FLUSH,
    E1000HwError,
    RxRing,
    SkbPool,
    TxRing,
    e1000_adapter,
    e1000_hw,
    er32,
    ew32,
)
from stack.drivers.e1000.eeprom import (
    e1000_init_eeprom_params,
    e1000_read_eeprom,
    e1000_read_mac_addr,
    e1000_validate_eeprom_checksum,
)
from stack.drivers.e1000.hw import (
    e1000_check_for_link,
    e1000_get_bus_info,
    e1000_get_speed_and_duplex,
    e1000_hash_mc_addr,
    e1000_init_hw,
    e1000_rar_clear,
    e1000_rar_set,
    e1000_reset_hw,
    e1000_set_mac_type,
    e1000_set_media_type,
    e1000_write_vfta,
)
from stack.drivers.e1000.param import Params, e1000_check_options
from stack.drivers.e1000.phy import e1000_power_up_phy_hw, e1000_read_phy_reg, e1000_write_phy_reg
from stack.ethernet.eth import alloc_etherdev, eth_type_trans, is_valid_ether_addr

log = logging.getLogger("stack.drivers.e1000")

E1000_DOWN = e.E1000_DOWN
IMS_WITHOUT_TX = d.IMS_ENABLE_MASK & ~d.E1000_ICR_TXDW
LINK_CAUSES = d.E1000_ICR_LSC | d.E1000_ICR_RXSEQ
TXD_CMD = d.E1000_TXD_CMD_EOP | d.E1000_TXD_CMD_IFCS | d.E1000_TXD_CMD_RS
RX_BUFFER_WRITE = 32
"""Empty receive descriptors that make a write of RDT worth its cost."""
TX_HANG_NS = 1_000_000_000
TX_WAKE_THRESHOLD = 32
ETH_P_8021Q = 0x8100

# -- module ----------------------------------------------------------------------------------------


def e1000_init_module(net: Any, **params: int) -> pci.pci_driver:
    """e1000_main.c: load the module on host `net`; devices present are probed now, others later.

    `params` are the module's parameters by name (param.py).
    """
    driver = dataclasses.replace(e1000_driver, params=params)
    pci.pci_register_driver(net, driver)
    return driver


def e1000_exit_module(net: Any, driver: pci.pci_driver) -> None:
    """e1000_main.c: unload the module: interfaces disappear."""
    pci.pci_unregister_driver(net, driver)


# -- probe and remove ------------------------------------------------------------------------------


def e1000_probe(pdev: pci.pci_dev, ent: pci.pci_device_id) -> None:
    """e1000_main.c: bring one device up to an interface that can be opened.

    Raises:
        OSError: EIO when the hardware does not answer as it should; EBUSY, ENOMEM.
    """
    net = pdev.net
    bars = pci.pci_select_bars(pdev, pci.IORESOURCE_MEM | pci.IORESOURCE_IO)
    pci.pci_enable_device(pdev)
    pci.pci_request_selected_regions(pdev, bars, e.DRV_NAME)
    pci.pci_set_master(pdev)
    netdev = alloc_etherdev(net, e1000_adapter)
    adapter: e1000_adapter = netdev.priv
    pci.pci_set_drvdata(pdev, netdev)
    adapter.pdev = pdev
    adapter.bars = bars
    adapter.params = Params(dict(pdev.driver.params or {}) if pdev.driver else {})
    hw = adapter.hw = e1000_hw(net, pdev)
    hw.back = adapter
    for bar in range(1, pci.PCI_STD_NUM_BARS):
        if pci.pci_resource_len(pdev, bar) and (
            pci.pci_resource_flags(pdev, bar) & pci.IORESOURCE_IO
        ):
            hw.io_bar = bar
            break
    try:
        e1000_probe_hw(adapter)
        err = register_netdev(netdev)
        if err:
            raise OSError(-err, f"{pdev.name}: the interface could not be registered")
    except E1000HwError as error:
        e1000_probe_undo(pdev, netdev)
        raise OSError(errno.EIO, f"e1000 {pdev.name}: {error}") from error
    except OSError:
        e1000_probe_undo(pdev, netdev)
        raise
    e1000_vlan_filter_on_off(adapter, False)
    netif_carrier_off(netdev)
    for message in adapter.params.messages:
        log.warning("%s: %s", netdev.name, message)
    log.info(
        "e1000 %s %s: (%s:33MHz:%d-bit) %s",
        pdev.name,
        netdev.name,
        hw.bus_type,
        hw.bus_width_bits,
        hw.mac_addr.hex(":"),
    )


def e1000_probe_hw(adapter: e1000_adapter) -> None:
    """The part of e1000_probe between alloc_etherdev and register_netdev.

    Raises:
        E1000HwError: EEPROM, PHY or MAC do not answer as they should.
    """
    netdev, hw = adapter.netdev, adapter.hw
    e1000_init_hw_struct(adapter, hw)
    netdev.netdev_ops = e1000_netdev_ops
    e1000_set_ethtool_ops(netdev)
    netdev.watchdog_timeo = 5_000_000_000
    adapter.napi = napi_struct()
    netif_napi_add(netdev, adapter.napi, e1000_clean)
    e1000_sw_init(adapter)
    netdev.hw_features = (
        NETIF_F_SG
        | NETIF_F_HW_CSUM
        | NETIF_F_HW_VLAN_CTAG_RX
        | NETIF_F_TSO
        | NETIF_F_TSO6
        | NETIF_F_GSO_UDP_L4
    )
    netdev.features = netdev.hw_features | NETIF_F_HW_VLAN_CTAG_TX | NETIF_F_HW_VLAN_CTAG_FILTER
    netdev.hw_features |= NETIF_F_RXCSUM | NETIF_F_RXALL | NETIF_F_RXFCS
    netdev.features |= NETIF_F_HIGHDMA | NETIF_F_RXCSUM
    netdev.vlan_features |= NETIF_F_TSO | NETIF_F_TSO6 | NETIF_F_HW_CSUM | NETIF_F_SG
    netdev.gso_max_size = e.E1000_GSO_MAX_SIZE
    netdev.min_mtu = ETH_MIN_MTU
    netdev.max_mtu = d.MAX_JUMBO_FRAME_SIZE - (d.ENET_HEADER_SIZE + d.ETH_FCS_LEN)
    e1000_init_eeprom_params(hw)
    # Put the hardware into a known state: a boot loader may have left it running.
    e1000_reset_hw(hw)
    e1000_validate_eeprom_checksum(hw)
    netdev.dev_addr = e1000_read_mac_addr(hw)
    netdev.perm_addr = netdev.dev_addr
    if not is_valid_ether_addr(netdev.dev_addr):
        raise E1000HwError("EEPROM", f"invalid MAC address {netdev.dev_addr.hex(':')}")
    adapter.watchdog_task = work_struct(adapter.net, lambda: e1000_watchdog(adapter))
    adapter.reset_task = work_struct(adapter.net, lambda: e1000_reset_task(adapter))
    adapter.refill_task = work_struct(adapter.net, lambda: e1000_refill_task(adapter))
    e1000_check_options(adapter)
    if not adapter.rx_csum:
        netdev.features &= ~NETIF_F_RXCSUM
    e1000_init_wol(adapter)
    e1000_reset(adapter)


def e1000_init_wol(adapter: e1000_adapter) -> None:
    """Wake on magic packet when the EEPROM enables it (82544: word 0Fh; later: word 24h)."""
    if adapter.hw.mac_type == d.e1000_82544:
        word = e1000_read_eeprom(adapter.hw, d.EEPROM_INIT_CONTROL2_REG)[0]
        enabled = word & d.E1000_EEPROM_82544_APM
    else:
        word = e1000_read_eeprom(adapter.hw, d.EEPROM_INIT_CONTROL3_PORT_A)[0]
        enabled = word & d.E1000_EEPROM_APME
    if enabled:
        adapter.eeprom_wol |= d.E1000_WUFC_MAG
    adapter.wol = adapter.eeprom_wol


def e1000_probe_undo(pdev: pci.pci_dev, netdev: net_device) -> None:
    """Give back what a failed probe took."""
    free_netdev(netdev)
    pci.pci_set_drvdata(pdev, None)
    pci.pci_release_selected_regions(pdev, 0x3F)
    pci.pci_disable_device(pdev)


def e1000_remove(pdev: pci.pci_dev) -> None:
    """e1000_main.c: the device goes away, or the module does."""
    netdev = pci.pci_get_drvdata(pdev)
    adapter: e1000_adapter = netdev.priv
    e1000_down_and_stop(adapter)
    unregister_netdev(netdev)
    e1000_phy_hw_reset_quiet(adapter)
    pci.pci_release_selected_regions(pdev, adapter.bars)
    free_netdev(netdev)
    pci.pci_set_drvdata(pdev, None)
    pci.pci_disable_device(pdev)


def e1000_phy_hw_reset_quiet(adapter: e1000_adapter) -> None:
    """Reset the MAC on the way out; hardware that no longer answers is no reason to stop."""
    try:
        e1000_reset_hw(adapter.hw)
    except E1000HwError as error:
        log.warning("e1000 remove: %s", error)


def e1000_shutdown(pdev: pci.pci_dev) -> None:
    """e1000_main.c: the machine goes down: stop, arm wake-up, sleep."""
    netdev = pci.pci_get_drvdata(pdev)
    adapter: e1000_adapter = netdev.priv
    if netif_running(netdev):
        e1000_down(adapter)
        e1000_free_irq(adapter)
    if adapter.wol:
        e1000_setup_wakeup(adapter)
    else:
        ew32(adapter.hw, d.E1000_WUC, 0)
        ew32(adapter.hw, d.E1000_WUFC, 0)
    pci.pci_enable_wake(pdev, pci.PCI_D3hot, bool(adapter.wol))
    pci.pci_disable_device(pdev)
    pci.pci_set_power_state(pdev, pci.PCI_D3hot)


def e1000_setup_wakeup(adapter: e1000_adapter) -> None:
    """The wake-up half of e1000_main.c __e1000_shutdown (SDM 6.3)."""
    hw = adapter.hw
    e1000_setup_rctl(adapter)
    e1000_set_rx_mode(adapter.netdev)
    rctl = er32(hw, d.E1000_RCTL)
    if adapter.wol & d.E1000_WUFC_MC:
        rctl |= d.E1000_RCTL_MPE
    ew32(hw, d.E1000_RCTL, rctl | d.E1000_RCTL_EN)
    ew32(hw, d.E1000_WUC, d.E1000_WUC_PME_EN)
    ew32(hw, d.E1000_WUFC, adapter.wol)


def e1000_init_hw_struct(adapter: e1000_adapter, hw: e1000_hw) -> None:
    """e1000_main.c: what is known before the first register access.

    Raises:
        E1000HwError: an unknown device id.
    """
    hw.max_frame_size = adapter.netdev.mtu + d.ENET_HEADER_SIZE + d.ETH_FCS_LEN
    e1000_set_mac_type(hw)
    e1000_set_media_type(hw)
    e1000_get_bus_info(hw)
    hw.wait_autoneg_complete = False
    hw.mdix = 0
    hw.disable_polarity_correction = False


def e1000_sw_init(adapter: e1000_adapter) -> None:
    """e1000_main.c: defaults of the adapter; the device is not open."""
    adapter.rx_buffer_len = e.E1000_RXBUFFER_2048
    adapter.ims_mask = 0
    adapter.flags |= E1000_DOWN
    e1000_irq_disable(adapter)


def e1000_set_ethtool_ops(netdev: net_device) -> None:
    """e1000_ethtool.c: hang the ethtool functions onto the device."""
    from stack.drivers.e1000.ethtool import e1000_ethtool_ops

    netdev.ethtool_ops = e1000_ethtool_ops


# -- open and close --------------------------------------------------------------------------------


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
    adapter.flags &= ~E1000_DOWN
    napi_enable(adapter.napi)
    e1000_irq_enable(adapter)
    netif_start_queue(netdev)
    # An interrupt for the watchdog to look at the link.
    ew32(adapter.hw, d.E1000_ICS, d.E1000_ICR_LSC)
    return 0


def e1000_close(netdev: net_device) -> int:
    """e1000_main.c: ndo_stop: undo e1000_open."""
    adapter: e1000_adapter = netdev.priv
    e1000_wait_for_reset(adapter)
    if not adapter.flags & E1000_DOWN:
        e1000_down(adapter)
    e1000_power_down_phy(adapter)
    e1000_free_irq(adapter)
    e1000_free_all_tx_resources(adapter)
    e1000_free_all_rx_resources(adapter)
    return 0


def e1000_wait_for_reset(adapter: e1000_adapter) -> None:
    """Wait until a reset in another context is over."""
    for _ in range(50):
        if not adapter.flags & e.E1000_RESETTING:
            return
        usleep_range(adapter.net, 10_000, 20_000)


def e1000_up(adapter: e1000_adapter) -> None:
    """e1000_main.c: start hardware whose rings exist."""
    e1000_configure(adapter)
    adapter.flags &= ~E1000_DOWN
    napi_enable(adapter.napi)
    e1000_irq_enable(adapter)
    netif_wake_queue(adapter.netdev)
    ew32(adapter.hw, d.E1000_ICS, d.E1000_ICR_LSC)


def e1000_down_and_stop(adapter: e1000_adapter) -> None:
    """e1000_main.c: no more work items."""
    adapter.flags |= E1000_DOWN
    for work in (adapter.watchdog_task, adapter.refill_task, adapter.reset_task):
        if work is not None:
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
    adapter.flags |= E1000_DOWN
    msleep(adapter.net, 10)
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
    """e1000_main.c: down and up again, once at a time."""
    e1000_wait_for_reset(adapter)
    adapter.flags |= e.E1000_RESETTING
    try:
        if not adapter.flags & E1000_DOWN:
            e1000_down(adapter)
            e1000_up(adapter)
    finally:
        adapter.flags &= ~e.E1000_RESETTING


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
    adapter.csum_context = None


def e1000_power_up_phy(adapter: e1000_adapter) -> None:
    """e1000_main.c: wake the PHY."""
    e1000_power_up_phy_hw(adapter.hw)


def e1000_power_down_phy(adapter: e1000_adapter) -> None:
    """e1000_main.c: put the PHY to sleep unless it must hear wake-up frames."""
    hw = adapter.hw
    if adapter.wol:
        return
    try:
        control = e1000_read_phy_reg(hw, d.PHY_CTRL)
        e1000_write_phy_reg(hw, d.PHY_CTRL, control | d.MII_CR_POWER_DOWN)
        msleep(adapter.net, 1)
    except E1000HwError as error:
        adapter.hw_errors += 1
        log.warning("%s: PHY power down: %s", adapter.netdev.name, error)


# -- resources -------------------------------------------------------------------------------------


def e1000_setup_all_tx_resources(adapter: e1000_adapter) -> None:
    """e1000_main.c: memory of the transmit ring.

    Raises:
        MemoryError: the host's RAM is full.
    """
    e1000_setup_tx_resources(adapter)


def e1000_setup_tx_resources(adapter: e1000_adapter) -> None:
    """e1000_main.c."""
    adapter.tx_ring = TxRing(adapter.net.ram, adapter.tx_ring_count)


def e1000_setup_all_rx_resources(adapter: e1000_adapter) -> None:
    """e1000_main.c: memory of the receive ring and of its buffers.

    Raises:
        MemoryError: the host's RAM is full.
    """
    e1000_setup_rx_resources(adapter)


def e1000_setup_rx_resources(adapter: e1000_adapter) -> None:
    """e1000_main.c: the pool holds the ring's buffers and as many as sockets may sit on.

    At most a quarter of the RAM, but never less than the ring and half as much again.
    """
    net, size, count = adapter.net, adapter.rx_buffer_len, adapter.rx_ring_count
    buffers = min(e.E1000_RX_POOL_BUFFERS, net.ram.size_bytes // 4 // size)
    adapter.rx_pool = SkbPool(net.ram, size, max(buffers, count + count // 2))
    adapter.rx_ring = RxRing(net.ram, count, adapter.rx_pool, size)
    adapter.rx_frames_seen = adapter.rx_bytes_seen = 0
    adapter.rx_csum_good_seen = adapter.rx_csum_err_seen = 0
    adapter.total_rx_packets = adapter.total_rx_bytes = 0
    adapter.alloc_rx_buff_failed = 0
    adapter.gro = None
    e1000_set_gro(adapter, adapter.netdev.features)


def e1000_set_gro(adapter: e1000_adapter, features: int) -> None:
    """Merge received segments in the ring's compiled clean, as NETIF_F_GRO says."""
    if not features & NETIF_F_GRO:
        if adapter.gro is not None:
            adapter.gro.reset()
        adapter.gro = None
    elif adapter.gro is None:
        adapter.gro = GroTable(adapter.netdev.gro_max_size)


def e1000_free_all_tx_resources(adapter: e1000_adapter) -> None:
    """e1000_main.c."""
    if adapter.tx_ring is not None:
        adapter.tx_ring.reset()
        adapter.tx_ring = None


def e1000_free_all_rx_resources(adapter: e1000_adapter) -> None:
    """e1000_main.c: buffers that sockets still hold keep the pool alive until they go."""
    if adapter.gro is not None:
        adapter.gro.reset()
        adapter.gro = None
    if adapter.rx_ring is not None:
        e1000_fold_ring_stats(adapter)
        adapter.rx_ring.reset()
        adapter.rx_ring = None
    adapter.rx_pool = None


def e1000_clean_all_tx_rings(adapter: e1000_adapter) -> None:
    """e1000_main.c: free what was queued and not sent."""
    if adapter.tx_ring is not None:
        adapter.tx_ring.reset()
    adapter.csum_context = None


def e1000_clean_all_rx_rings(adapter: e1000_adapter) -> None:
    """e1000_main.c: take every buffer back."""
    if adapter.gro is not None:
        adapter.gro.reset()
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
        d.DEFAULT_82543_TIPG_IPGT_COPPER
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
    adapter.csum_context = None
    ew32(hw, d.E1000_TCTL, tctl | d.E1000_TCTL_EN)


RX_BUFFER_SIZE_BITS = {
    2048: d.E1000_RCTL_SZ_2048,
    4096: d.E1000_RCTL_SZ_4096 | d.E1000_RCTL_BSEX,
    8192: d.E1000_RCTL_SZ_8192 | d.E1000_RCTL_BSEX,
    16384: d.E1000_RCTL_SZ_16384 | d.E1000_RCTL_BSEX,
}


def e1000_setup_rctl(adapter: e1000_adapter) -> None:
    """e1000_main.c: RCTL without EN: filters' shift, buffer size, long packets, bad packets.

    Unlike the kernel's, this driver sets SECRC: it always cut the FCS off anyway, and a device
    told so never computes it. ``rx-fcs on`` clears the bit.
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
    if netdev.features & NETIF_F_RXFCS:
        rctl &= ~d.E1000_RCTL_SECRC
    if netdev.features & NETIF_F_RXALL:
        # Keep bad frames and pause frames; let no filter but the address judge.
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
        ew32(hw, d.E1000_ITR, 10**9 // (adapter.itr * 256) if adapter.itr_setting else 0)
    ew32(hw, d.E1000_RDLEN, ring.size_bytes)
    ew32(hw, d.E1000_RDBAH, ring.dma >> 32)
    ew32(hw, d.E1000_RDBAL, ring.dma)
    ew32(hw, d.E1000_RDT, 0)
    ew32(hw, d.E1000_RDH, 0)
    rxcsum = er32(hw, d.E1000_RXCSUM) & ~(d.E1000_RXCSUM_TUOFL | d.E1000_RXCSUM_IPOFL)
    if adapter.rx_csum:
        rxcsum |= d.E1000_RXCSUM_TUOFL | d.E1000_RXCSUM_IPOFL
    ew32(hw, d.E1000_RXCSUM, rxcsum)
    ew32(hw, d.E1000_RCTL, rctl | d.E1000_RCTL_EN)


def e1000_alloc_rx_buffers(adapter: e1000_adapter) -> None:
    """e1000_main.c: give every empty descriptor a buffer and move RDT.

    When the pool is dry, a work item tries again: no interrupt comes from an empty ring.
    """
    ring = adapter.rx_ring
    tail = ring.refill()
    if tail >= 0:
        adapter.hw.bar_write(0, d.E1000_RDT, tail, 4)
    if ring.alloc_failed != adapter.alloc_rx_buff_failed:
        adapter.alloc_rx_buff_failed = ring.alloc_failed
        schedule_delayed_work(adapter.refill_task, e.REFILL_RETRY_NS)


def e1000_refill_task(adapter: e1000_adapter) -> None:
    """Refill after the pool was dry."""
    if not adapter.flags & E1000_DOWN and adapter.rx_ring is not None:
        e1000_alloc_rx_buffers(adapter)


# -- filters ---------------------------------------------------------------------------------------


def e1000_set_rx_mode(netdev: net_device) -> None:
    """e1000_main.c: ndo_set_rx_mode: promiscuity, unicast and multicast lists into RCTL, RA, MTA.

    Entry 0 is our own address; 14 more are exact, unicast first; what is left is hashed.
    """
    adapter: e1000_adapter = netdev.priv
    hw = adapter.hw
    rctl = er32(hw, d.E1000_RCTL)
    exact = d.E1000_RAR_ENTRIES - 1
    use_uc = True
    if netdev.flags & IFF_PROMISC:
        rctl |= d.E1000_RCTL_UPE | d.E1000_RCTL_MPE
    else:
        rctl &= ~(d.E1000_RCTL_UPE | d.E1000_RCTL_MPE)
        if netdev.flags & IFF_ALLMULTI:
            rctl |= d.E1000_RCTL_MPE
    if e1000_vlan_used(adapter) and not netdev.flags & IFF_PROMISC:
        rctl |= d.E1000_RCTL_VFE
    elif netdev.flags & IFF_PROMISC:
        rctl &= ~d.E1000_RCTL_VFE
    if len(netdev.uc) > exact:
        rctl |= d.E1000_RCTL_UPE
        use_uc = False
    ew32(hw, d.E1000_RCTL, rctl)
    index = 1
    if use_uc:
        for addr in netdev.uc:
            e1000_rar_set(hw, addr, index)
            index += 1
    table = [0] * d.E1000_NUM_MTA_REGISTERS
    for addr in netdev.mc:
        if index <= exact:
            e1000_rar_set(hw, addr, index)
            index += 1
        else:
            bit = e1000_hash_mc_addr(hw, addr)
            table[bit >> 5] |= 1 << (bit & 31)
    for empty in range(index, d.E1000_RAR_ENTRIES):
        e1000_rar_clear(hw, empty)
    # Backwards, as some chips combine neighbouring writes.
    for reg in range(d.E1000_NUM_MTA_REGISTERS - 1, -1, -1):
        ew32(hw, d.E1000_MTA + 4 * reg, table[reg])
    E1000_WRITE_FLUSH(hw)


def e1000_set_mac(netdev: net_device, addr: bytes) -> int:
    """e1000_main.c: ndo_set_mac_address. 0 or -EADDRNOTAVAIL."""
    adapter: e1000_adapter = netdev.priv
    if not is_valid_ether_addr(addr):
        return -errno.EADDRNOTAVAIL
    netdev.dev_addr = adapter.hw.mac_addr = bytes(addr)
    e1000_rar_set(adapter.hw, netdev.dev_addr, 0)
    return 0


def e1000_vlan_used(adapter: e1000_adapter) -> bool:
    """e1000_main.c: some VLAN is registered."""
    return bool(adapter.active_vlans)


def e1000_vlan_mode(netdev: net_device, features: int) -> None:
    """e1000_main.c: CTRL.VME: strip and insert tags in hardware, or leave them in the frame."""
    adapter: e1000_adapter = netdev.priv
    ctrl = er32(adapter.hw, d.E1000_CTRL) & ~d.E1000_CTRL_VME
    if features & NETIF_F_HW_VLAN_CTAG_RX:
        ctrl |= d.E1000_CTRL_VME
    ew32(adapter.hw, d.E1000_CTRL, ctrl)


def e1000_vlan_filter_on_off(adapter: e1000_adapter, filter_on: bool) -> None:
    """e1000_main.c: RCTL.VFE: frames of VLANs that are not in VFTA are dropped."""
    hw = adapter.hw
    e1000_vlan_mode(adapter.netdev, adapter.netdev.features)
    rctl = er32(hw, d.E1000_RCTL) & ~d.E1000_RCTL_CFIEN
    if filter_on and not adapter.netdev.flags & IFF_PROMISC:
        rctl |= d.E1000_RCTL_VFE
    else:
        rctl &= ~d.E1000_RCTL_VFE
    ew32(hw, d.E1000_RCTL, rctl)


def e1000_vlan_rx_add_vid(netdev: net_device, proto: int, vid: int) -> int:
    """e1000_main.c: let frames of VLAN `vid` pass. 0 or -EINVAL."""
    adapter: e1000_adapter = netdev.priv
    if not 0 <= vid < 4096:
        return -errno.EINVAL
    if not e1000_vlan_used(adapter):
        e1000_vlan_filter_on_off(adapter, True)
    index = vid >> 5 & 0x7F
    word = er32(adapter.hw, d.E1000_VFTA + 4 * index) | 1 << (vid & 0x1F)
    e1000_write_vfta(adapter.hw, index, word)
    adapter.active_vlans.add(vid)
    return 0


def e1000_vlan_rx_kill_vid(netdev: net_device, proto: int, vid: int) -> int:
    """e1000_main.c: stop frames of VLAN `vid`."""
    adapter: e1000_adapter = netdev.priv
    index = vid >> 5 & 0x7F
    word = er32(adapter.hw, d.E1000_VFTA + 4 * index) & ~(1 << (vid & 0x1F))
    e1000_write_vfta(adapter.hw, index, word)
    adapter.active_vlans.discard(vid)
    if not e1000_vlan_used(adapter):
        e1000_vlan_filter_on_off(adapter, False)
    return 0


def e1000_restore_vlan(adapter: e1000_adapter) -> None:
    """e1000_main.c: a reset emptied VFTA."""
    if not e1000_vlan_used(adapter):
        e1000_vlan_mode(adapter.netdev, adapter.netdev.features)
        return
    e1000_vlan_filter_on_off(adapter, True)
    for vid in sorted(adapter.active_vlans):
        e1000_vlan_rx_add_vid(adapter.netdev, ETH_P_8021Q, vid)


def e1000_fix_features(netdev: net_device, features: int) -> int:
    """e1000_main.c: stripping and inserting are one bit (CTRL.VME): both or none."""
    if features & NETIF_F_HW_VLAN_CTAG_RX:
        return features | NETIF_F_HW_VLAN_CTAG_TX
    return features & ~NETIF_F_HW_VLAN_CTAG_TX


def e1000_set_features(netdev: net_device, features: int) -> int:
    """e1000_main.c: ndo_set_features: 0, or 1 when netdev.features is set here already."""
    adapter: e1000_adapter = netdev.priv
    changed = features ^ netdev.features
    if changed & NETIF_F_HW_VLAN_CTAG_RX:
        e1000_vlan_mode(netdev, features)
    if changed & NETIF_F_GRO and adapter.rx_ring is not None:
        e1000_set_gro(adapter, features)
    if not changed & (NETIF_F_RXCSUM | NETIF_F_RXALL | NETIF_F_RXFCS):
        return 0
    netdev.features = features
    adapter.rx_csum = bool(features & NETIF_F_RXCSUM)
    if netif_running(netdev):
        e1000_reinit_locked(adapter)
    else:
        e1000_reset(adapter)
    return 1


def e1000_change_mtu(netdev: net_device, new_mtu: int) -> int:
    """e1000_main.c: ndo_change_mtu: 2 KiB buffers while frames fit, else chains of 4 KiB."""
    adapter: e1000_adapter = netdev.priv
    max_frame = new_mtu + d.ENET_HEADER_SIZE + d.ETH_FCS_LEN
    if not d.MINIMUM_ETHERNET_FRAME_SIZE <= max_frame <= d.MAX_JUMBO_FRAME_SIZE:
        return -errno.EINVAL
    e1000_wait_for_reset(adapter)
    adapter.flags |= e.E1000_RESETTING
    try:
        running = netif_running(netdev)
        if running:
            e1000_down(adapter)
        adapter.hw.max_frame_size = max_frame
        small = max_frame + d.VLAN_HLEN <= e.E1000_RXBUFFER_2048
        length = e.E1000_RXBUFFER_2048 if small else e.E1000_RXBUFFER_4096
        netdev.mtu = new_mtu
        if length != adapter.rx_buffer_len:
            adapter.rx_buffer_len = length
            if running:
                e1000_free_all_rx_resources(adapter)
                e1000_setup_all_rx_resources(adapter)
        if running:
            e1000_up(adapter)
        else:
            e1000_reset(adapter)
    finally:
        adapter.flags &= ~e.E1000_RESETTING
    return 0


# -- interrupts ------------------------------------------------------------------------------------


def e1000_request_irq(adapter: e1000_adapter) -> int:
    """e1000_main.c: 0 or -errno."""
    netdev = adapter.netdev
    return request_irq(adapter.net, adapter.pdev.irq, e1000_intr, netdev, netdev.name)


def e1000_free_irq(adapter: e1000_adapter) -> None:
    """e1000_main.c."""
    free_irq(adapter.net, adapter.pdev.irq, adapter.netdev)


def e1000_irq_disable(adapter: e1000_adapter) -> None:
    """e1000_main.c: mask every cause."""
    ew32(adapter.hw, d.E1000_IMC, d.ALL_INTERRUPTS)
    E1000_WRITE_FLUSH(adapter.hw)
    adapter.ims_mask = 0


def e1000_irq_enable(adapter: e1000_adapter) -> None:
    """e1000_main.c: unmask; TXDW only while descriptors wait to be cleaned."""
    mask = IMS_WITHOUT_TX
    if adapter.tx_ring.pending():
        mask |= d.E1000_ICR_TXDW
    adapter.ims_mask = mask
    adapter.hw.bar_write(0, d.E1000_IMS, mask, 4)


def e1000_intr(irq: int, netdev: net_device) -> int:
    """e1000_main.c: the interrupt handler: read (and so clear) the causes, mask, poll later."""
    adapter: e1000_adapter = netdev.priv
    hw = adapter.hw
    icr = hw.bar_read(0, d.E1000_ICR, 4)
    if not icr:
        return IRQ_NONE
    if adapter.flags & E1000_DOWN:
        return IRQ_HANDLED
    if icr & LINK_CAUSES:
        hw.get_link_status = True
        mod_delayed_work(adapter.watchdog_task, 0)
    hw.bar_write(0, d.E1000_IMC, d.ALL_INTERRUPTS, 4)
    adapter.ims_mask = 0
    napi_schedule(adapter.napi)  # when it is scheduled already, its end unmasks
    return IRQ_HANDLED


def e1000_clean(napi: napi_struct, budget: int) -> int:
    """e1000_main.c: the NAPI poll: free what was sent, pass up what came.

    The budget counts sk_buffs, which GRO has merged by then: a frame count is bounded as well.
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


def e1000_clean_tx_irq(adapter: e1000_adapter) -> bool:
    """e1000_main.c: free sent sk_buffs, wake the queue, look for a hang. True when all is clean."""
    ring = adapter.tx_ring
    packets, nbytes = ring.clean()
    netdev = adapter.netdev
    if packets:
        stats = netdev.stats
        stats.tx_packets += packets
        stats.tx_bytes += nbytes
        adapter.total_tx_packets += packets
        adapter.total_tx_bytes += nbytes
        if (
            netdev.queue_stopped
            and ring.unused() >= min(ring.count // 2, 8 * TX_WAKE_THRESHOLD)
            and netif_carrier_ok(netdev)
            and not adapter.flags & E1000_DOWN
        ):
            netif_wake_queue(netdev)
            adapter.restart_queue += 1
    if adapter.detect_tx_hung:
        adapter.detect_tx_hung = False
        e1000_detect_tx_hang(adapter, packets)
    return not ring.pending()


def e1000_detect_tx_hang(adapter: e1000_adapter, packets: int) -> None:
    """The hang check of e1000_main.c e1000_clean_tx_irq: a descriptor waits a second or more.

    Stops the queue, so that the stack's watchdog calls ndo_tx_timeout.
    """
    ring, net = adapter.tx_ring, adapter.net
    now = net.clock.now_ns()
    if packets or not ring.pending():
        adapter.tx_clean_tick = now
        return
    if not adapter.tx_clean_tick:
        adapter.tx_clean_tick = now
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
        netif_stop_queue(adapter.netdev)


def e1000_clean_rx_irq(adapter: e1000_adapter, budget: int) -> int:
    """e1000_main.c: take received frames off the ring, give descriptors back, pass up.

    Returns the work done in sk_buffs, `budget` when more may wait.
    """
    ring, gro = adapter.rx_ring, adapter.gro
    skbs: list[sk_buff] = []
    weight = adapter.fp_weight
    features = adapter.netdev.features
    frames = ring.clean(
        weight,
        skbs,
        gro,
        adapter.rx_csum,
        bool(features & NETIF_F_HW_VLAN_CTAG_RX),
        False,  # SECRC: the device strips the FCS
        bool(features & NETIF_F_RXALL),
    )
    more = frames >= weight
    if gro is not None and not more and gro.held:
        gro.flush(skbs)
    if (ring.next_to_clean - ring.next_to_use - 1) % ring.count >= RX_BUFFER_WRITE:
        e1000_alloc_rx_buffers(adapter)
    for skb in skbs:
        e1000_receive_skb(adapter, skb)
    if more:
        return budget
    return min(len(skbs), budget - 1)


def e1000_receive_skb(adapter: e1000_adapter, skb: sk_buff) -> None:
    """e1000_main.c: pass one packet up. Takes ownership of skb (data at the MAC header)."""
    eth_type_trans(skb, adapter.netdev)
    napi_gro_receive(adapter.napi, skb)


# -- interrupt moderation --------------------------------------------------------------------------

LOWEST_LATENCY, LOW_LATENCY, BULK_LATENCY = 0, 1, 2
ITR_OF_LATENCY = {LOWEST_LATENCY: 70_000, LOW_LATENCY: 20_000, BULK_LATENCY: 4_000}


def e1000_update_itr(setting: int, packets: int, nbytes: int) -> int:
    """e1000_main.c: the latency class of traffic like `packets` and `nbytes` since last time."""
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
            if size > 8000 or packets < 10 or size > 1200:
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
        if adapter.itr_setting == 3:  # conservative: never the lowest latency
            adapter.tx_itr = max(adapter.tx_itr, LOW_LATENCY)
            adapter.rx_itr = max(adapter.rx_itr, LOW_LATENCY)
        rate = ITR_OF_LATENCY[max(adapter.tx_itr, adapter.rx_itr)]
    if rate != adapter.itr:
        # Towards fewer interrupts at once, towards more in steps.
        if rate > adapter.itr:
            rate = min(adapter.itr + (rate >> 2), rate)
        adapter.itr = rate
        ew32(hw, d.E1000_ITR, 10**9 // (rate * 256))


# -- transmit --------------------------------------------------------------------------------------


def e1000_xmit_frame(skb: sk_buff, netdev: net_device) -> int:
    """e1000_main.c: ndo_start_xmit: descriptors for one packet, and the doorbell.

    Takes ownership of skb unless NETDEV_TX_BUSY is returned. Short frames are padded by the device
    (TCTL.PSP), so the stack's clones are left as they are.
    """
    adapter: e1000_adapter = netdev.priv
    ring = adapter.tx_ring
    # A context descriptor, and one that stays empty.
    needed = ring.desc_needed(skb, e.E1000_MAX_DATA_PER_TXD) + 2
    if ring.unused() < needed:
        if needed >= ring.count:
            return e1000_xmit_in_pieces(skb, adapter)
        if e1000_maybe_stop_tx(netdev, ring, needed):
            return NETDEV_TX_BUSY
    popts = 0
    cmd = adapter.txd_cmd
    if skb.gso_size:
        popts = e1000_tso(adapter, ring, skb)
        if popts < 0:
            netdev.stats.tx_dropped += 1
            kfree_skb(skb)
            return NETDEV_TX_OK
        cmd |= d.E1000_TXD_CMD_TSE
    elif skb.ip_summed == CHECKSUM_PARTIAL:
        popts = e1000_tx_csum(adapter, ring, skb)
    e1000_tx_map(ring, skb, popts, cmd)
    e1000_tx_queue(adapter, ring, netdev)
    return NETDEV_TX_OK


def e1000_maybe_stop_tx(netdev: net_device, ring: Any, needed: int) -> int:
    """e1000_main.c: 0 when `needed` descriptors are free (cleaning if need be), else -EBUSY.

    On -EBUSY the queue is stopped and a transmit interrupt will wake it.
    """
    adapter: e1000_adapter = netdev.priv
    e1000_clean_tx_irq(adapter)
    if ring.unused() >= needed:
        return 0
    netif_stop_queue(netdev)
    e1000_unmask_tx(adapter, ring)
    return -errno.EBUSY


def e1000_tso(adapter: e1000_adapter, ring: Any, skb: sk_buff) -> int:
    """e1000_main.c: the TCP segmentation context (SDM 3.5); packet options, or -errno.

    The device wants lengths and IP checksum zero and the pseudo-header sum without length.
    """
    if not skb_cow_head(skb, 0):
        return -errno.ENOMEM
    ipcss = skb_network_offset(skb)
    tucss = skb_transport_offset(skb)
    if skb.gso_type & SKB_GSO_UDP_L4:
        th: Any = udp_hdr(skb)
        hdr_len, proto, check_at, tucmd = tucss + 8, 17, 6, 0
    else:
        th = tcp_hdr(skb)
        hdr_len, proto, check_at, tucmd = tucss + 4 * th.doff, 6, 16, d.E1000_TXD_CMD_TCP
    if skb.gso_type & SKB_GSO_TCPV6 or skb.protocol == 0x86DD:
        ip6 = ipv6_hdr(skb)
        ip6.payload_len = 0
        th.check = csum_fold(csum_ipv6_pseudo(ip6, proto)) ^ 0xFFFF
        ipcso = ipcse = 0
        popts = d.E1000_TXD_POPTS_TXSM
    else:
        iph = ip_hdr(skb)
        iph.tot_len = 0
        iph.check = 0
        th.check = csum_tcpudp_magic(iph.saddr, iph.daddr, 0, proto, 0) ^ 0xFFFF
        ipcso, ipcse = ipcss + 10, tucss - 1
        tucmd |= d.E1000_TXD_CMD_IP
        popts = d.E1000_TXD_POPTS_IXSM | d.E1000_TXD_POPTS_TXSM
    ring.put_context(
        ipcss,
        ipcso,
        ipcse,
        tucss,
        tucss + check_at,
        0,
        skb.len - hdr_len,
        hdr_len,
        skb.gso_size,
        tucmd | d.E1000_TXD_CMD_TSE | d.E1000_TXD_CMD_DEXT,
    )
    return popts


def csum_ipv6_pseudo(ip6: Any, proto: int) -> int:
    """Sum of the IPv6 pseudo header without length, not folded."""
    saddr, daddr = ip6.saddr.to_bytes(16, "big"), ip6.daddr.to_bytes(16, "big")
    return csum_ipv6_nofold(saddr, daddr, 0, proto, 0)


def e1000_tx_csum(adapter: e1000_adapter, ring: Any, skb: sk_buff) -> int:
    """e1000_main.c: the checksum context (SDM 3.3.6): sum from csum_start, store at csum_offset.

    The device keeps its context, so one that has not changed is not written again.
    """
    start = skb_checksum_start_offset(skb)
    context = (start, skb.csum_offset)
    if context != adapter.csum_context:
        at = start + skb.csum_offset
        ring.put_context(0, 0, 0, start, at, 0, 0, 0, 0, d.E1000_TXD_CMD_DEXT)
        adapter.csum_context = context
    return d.E1000_TXD_POPTS_TXSM


def e1000_tx_map(ring: Any, skb: sk_buff, popts: int, cmd: int) -> int:
    """e1000_main.c: data descriptors for the head and every fragment; how many.

    Takes ownership of skb until the descriptors are done. Room was made by e1000_xmit_frame.
    """
    vlan = skb.vlan_tci if skb.vlan_proto else -1
    return ring.map(skb, popts, cmd, vlan, e.E1000_MAX_DATA_PER_TXD)


def e1000_tx_queue(adapter: e1000_adapter, ring: Any, netdev: net_device) -> None:
    """e1000_main.c: hand the descriptors over: write TDT, unless more packets follow at once.

    An emulated device is often done when the write returns, so what is done is freed here and
    no interrupt is asked for; only when descriptors stay behind is TXDW unmasked.
    """
    if netdev.xmit_more and ring.unused() > ring.count >> 1:
        return
    adapter.hw.bar_write(0, d.E1000_TDT, ring.next_to_use, 4)
    packets, nbytes = ring.clean()
    stats = netdev.stats
    stats.tx_packets += packets
    stats.tx_bytes += nbytes
    if ring.pending():
        adapter.total_tx_packets += packets
        adapter.total_tx_bytes += nbytes
        e1000_unmask_tx(adapter, ring)


def e1000_unmask_tx(adapter: e1000_adapter, ring: Any) -> None:
    """Ask for a transmit interrupt, unless it is on or a poll will decide at its end."""
    mask = adapter.ims_mask
    if mask and not mask & d.E1000_ICR_TXDW:
        adapter.ims_mask = mask | d.E1000_ICR_TXDW
        adapter.hw.bar_write(0, d.E1000_IMS, d.E1000_ICR_TXDW, 4)


def e1000_xmit_in_pieces(skb: sk_buff, adapter: e1000_adapter) -> int:
    """Send a packet of more fragments than the ring has descriptors: cut it in software first.

    Happens to merged packets that are forwarded into a small ring. Segments for which the ring has
    no room are dropped, as a router's queue would. Takes ownership of skb.
    """
    netdev = adapter.netdev
    segments: list[sk_buff] = []
    if skb.gso_size:
        try:
            segments = skb_gso_segment(skb, adapter.net.skb_small, csum_partial=True)
        except (ValueError, MemoryError):
            segments = []
    kfree_skb(skb)
    if not segments:
        netdev.stats.tx_dropped += 1
    for segment in segments:
        if e1000_xmit_frame(segment, netdev) != NETDEV_TX_OK:
            netdev.stats.tx_dropped += 1
            kfree_skb(segment)
    return NETDEV_TX_OK


def e1000_tx_timeout(netdev: net_device) -> None:
    """e1000_main.c: ndo_tx_timeout: reset outside of the softirq we are in."""
    adapter: e1000_adapter = netdev.priv
    adapter.tx_timeout_count += 1
    schedule_work(adapter.reset_task)


# -- watchdog and statistics -----------------------------------------------------------------------


def e1000_has_link(adapter: e1000_adapter) -> bool:
    """e1000_main.c: look at the PHY when something happened, else remember."""
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
    if adapter.flags & E1000_DOWN:
        return
    link = e1000_has_link(adapter)
    if adapter.flags & E1000_DOWN:
        return  # brought down while the PHY was asked
    if link and not netif_carrier_ok(netdev):
        e1000_link_is_up(adapter)
    elif not link and netif_carrier_ok(netdev):
        adapter.link_speed = 0
        adapter.link_duplex = 0
        log.info("e1000: %s NIC Link is Down", netdev.name)
        netif_carrier_off(netdev)
    e1000_update_stats(adapter)
    ring = adapter.tx_ring
    if not netif_carrier_ok(netdev) and ring.pending():
        # The link went with packets in the ring: only a reset gets them out.
        adapter.tx_timeout_count += 1
        schedule_work(adapter.reset_task)
        return
    if adapter.itr_setting == 4 and hw.mac_type >= d.e1000_82540:
        e1000_set_itr(adapter)
    adapter.detect_tx_hung = True
    # A poll that no packet asked for: interrupts may have been lost, the receive ring may be dry.
    ew32(hw, d.E1000_ICS, d.E1000_ICR_RXDMT0)
    schedule_delayed_work(adapter.watchdog_task, e.WATCHDOG_NS)


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


STAT_REGISTERS = tuple(
    (name, getattr(d, f"E1000_{name.upper()}"))
    for name in e.HW_STATS
    if name not in ("gorcl", "gotcl", "torl", "totl")
)
STAT_PAIRS = (
    ("gorcl", d.E1000_GORCL, d.E1000_GORCH),
    ("gotcl", d.E1000_GOTCL, d.E1000_GOTCH),
    ("torl", d.E1000_TORL, d.E1000_TORH),
    ("totl", d.E1000_TOTL, d.E1000_TOTH),
)


def e1000_update_stats(adapter: e1000_adapter) -> None:
    """e1000_main.c: add the hardware's counters (which reading clears) to the totals."""
    stats = adapter.stats
    bar_read = adapter.hw.bar_read
    for name, reg in STAT_REGISTERS:
        value = bar_read(0, reg, 4)
        if value:
            setattr(stats, name, getattr(stats, name) + value)
    for name, low, high in STAT_PAIRS:
        # Low first: reading the high half clears both (SDM 13.7).
        value = bar_read(0, low, 4) | bar_read(0, high, 4) << 32
        if value:
            setattr(stats, name, getattr(stats, name) + value)
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
    """Add what the receive ring counted to the net_device's totals, and start it anew."""
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
    """ndo_get_stats64: the ring counts packets in compiled code; fetch before showing."""
    e1000_fold_ring_stats(netdev.priv)
    return netdev.stats


e1000_netdev_ops = net_device_ops(
    ndo_open=e1000_open,
    ndo_stop=e1000_close,
    ndo_start_xmit=e1000_xmit_frame,
    ndo_set_rx_mode=e1000_set_rx_mode,
    ndo_set_mac_address=e1000_set_mac,
    ndo_tx_timeout=e1000_tx_timeout,
    ndo_change_mtu=e1000_change_mtu,
    ndo_vlan_rx_add_vid=e1000_vlan_rx_add_vid,
    ndo_vlan_rx_kill_vid=e1000_vlan_rx_kill_vid,
    ndo_fix_features=e1000_fix_features,
    ndo_set_features=e1000_set_features,
    ndo_get_stats64=e1000_get_stats64,
)

e1000_pci_tbl = tuple(
    pci.pci_device_id(d.PCI_VENDOR_ID_INTEL, device)
    for device in (
        d.E1000_DEV_ID_82540EM,
        d.E1000_DEV_ID_82540EM_LOM,
        d.E1000_DEV_ID_82540EP,
        d.E1000_DEV_ID_82540EP_LOM,
        d.E1000_DEV_ID_82540EP_LP,
        d.E1000_DEV_ID_82544EI_COPPER,
        d.E1000_DEV_ID_82544GC_COPPER,
        d.E1000_DEV_ID_82544GC_LOM,
        d.E1000_DEV_ID_82545EM_COPPER,
        d.E1000_DEV_ID_82545GM_COPPER,
    )
)

e1000_driver = pci.pci_driver(
    name=e.DRV_NAME,
    id_table=e1000_pci_tbl,
    probe=e1000_probe,
    remove=e1000_remove,
    shutdown=e1000_shutdown,
)
"""The module as loaded by default; `e1000_init_module` registers a copy with its parameters."""

assert ETH_HLEN == d.ENET_HEADER_SIZE
