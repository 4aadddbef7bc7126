"""The e1000 network driver: module, probe, power management, settings (e1000_main.c).

`e1000_probe` finds the hardware and registers the interface; `e1000_open` gives it rings and starts
it. The rest of the kernel's file is in updown.py (open, close, reset), config.py (rings and
registers), rxmode.py (filters, VLAN), txrx.py (the packet path) and watchdog.py (link, counters).

The driver accesses the hardware only through BAR accesses, DMA memory and one interrupt.
"""

from __future__ import annotations

import dataclasses
import errno
import logging

from stack.core import netdevice, pci
from stack.core.dev import free_netdev, netif_set_tso_max_size, register_netdev, unregister_netdev
from stack.core.dynamic_queue_limits import dql
from stack.core.errors import check, os_error
from stack.core.link_watch import netif_carrier_off, netif_device_attach, netif_device_detach
from stack.core.napi import netif_napi_add
from stack.core.netdevice import ETH_FCS_LEN, VLAN_HLEN, net_device, net_device_ops, netif_running
from stack.core.workqueue import schedule_work, work_struct
from stack.drivers.e1000 import defs as d
from stack.drivers.e1000 import e1000 as e
from stack.drivers.e1000.config import e1000_free_all_rx_resources, e1000_set_gro, e1000_setup_rctl
from stack.drivers.e1000.e1000 import E1000HwError, e1000_adapter, e1000_hw, er32, ew32
from stack.drivers.e1000.eeprom import (
    e1000_init_eeprom_params,
    e1000_read_eeprom,
    e1000_read_mac_addr,
    e1000_validate_eeprom_checksum,
)
from stack.drivers.e1000.ethtool import e1000_ethtool_ops
from stack.drivers.e1000.hw import (
    MAC_TYPES,
    e1000_get_bus_info,
    e1000_reset_hw,
    e1000_set_mac_type,
    e1000_set_media_type,
)
from stack.drivers.e1000.param import Params, e1000_check_options
from stack.drivers.e1000.rxmode import (
    e1000_set_mac,
    e1000_set_rx_mode,
    e1000_vlan_filter_on_off,
    e1000_vlan_mode,
    e1000_vlan_rx_add_vid,
    e1000_vlan_rx_kill_vid,
)
from stack.drivers.e1000.txrx import (
    e1000_clean,
    e1000_irq_disable,
    e1000_refill_task,
    e1000_xmit_frame,
)
from stack.drivers.e1000.updown import (
    e1000_close,
    e1000_down,
    e1000_down_and_stop,
    e1000_free_irq,
    e1000_open,
    e1000_power_up_phy,
    e1000_request_irq,
    e1000_reset,
    e1000_reset_task,
    e1000_restart,
    e1000_up,
    e1000_up_with_new_rings,
    e1000_wait_for_reset,
)
from stack.drivers.e1000.watchdog import e1000_get_stats64, e1000_watchdog
from stack.ethernet.eth import alloc_etherdev, eth_validate_addr, is_valid_ether_addr
from stack.machine import Machine

log = logging.getLogger("stack.drivers.e1000")

PCI_VENDOR_ID_REDHAT_QUMRANET = 0x1AF4
"""The subsystem vendor of QEMU's devices (linux/pci_ids.h)."""

# -- module ----------------------------------------------------------------------------------------


def e1000_init_module(machine: Machine, **params: int) -> pci.pci_driver:
    """e1000_main.c: load the module on `machine`; probe present devices now, others later.

    `params` are the module's parameters by name (param.py). Raises: ValueError: an unknown name.
    """
    Params(params)
    driver = dataclasses.replace(e1000_driver, params=params)
    pci.pci_register_driver(machine, driver)
    return driver


def e1000_exit_module(machine: Machine, driver: pci.pci_driver) -> None:
    """e1000_main.c: unload the module: interfaces disappear."""
    pci.pci_unregister_driver(machine, driver)


# -- probe and remove ------------------------------------------------------------------------------


def e1000_probe(pdev: pci.pci_dev, ent: pci.pci_device_id) -> None:
    """e1000_main.c: initialise one device and register its interface.

    Raises: OSError: EIO, the hardware does not respond correctly; EBUSY, ENOMEM.
    """
    machine = pdev.machine
    bars = pci.pci_select_bars(pdev, pci.IORESOURCE_MEM | pci.IORESOURCE_IO)
    pci.pci_enable_device(pdev)
    pci.pci_request_selected_regions(pdev, bars, e.DRV_NAME)
    pci.pci_set_master(pdev)
    netdev = alloc_etherdev(machine.init_net, e1000_adapter)
    netdev.dql = dql()
    adapter: e1000_adapter = netdev.priv
    pci.pci_set_drvdata(pdev, netdev)
    adapter.pdev = pdev
    adapter.bars = bars
    adapter.params = Params(dict(pdev.driver.params or {}) if pdev.driver else {})
    hw = adapter.hw = e1000_hw(machine, pdev)
    for bar in range(1, pci.PCI_STD_NUM_BARS):
        if pci.pci_resource_len(pdev, bar) and (
            pci.pci_resource_flags(pdev, bar) & pci.IORESOURCE_IO
        ):
            hw.io_bar = bar
            break
    try:
        e1000_probe_hw(adapter)
        check(register_netdev(netdev), f"{pdev.name}: the interface could not be registered")
    except E1000HwError as error:
        e1000_probe_undo(pdev, netdev)
        raise os_error(errno.EIO, f"e1000 {pdev.name}: {error}") from error
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


def e1000_features(adapter: e1000_adapter) -> None:
    """Set the device's features (e1000_probe) and those that the user may change.

    Linux's e1000 offers NETIF_F_HW_CSUM (any checksum, IPv6's included) and NETIF_F_TSO. Ours also
    has the device segment IPv6 and UDP, as SDM 3.5 describes. SDM 3.5.9.1 gives the IPv6 payload
    length of segments as MSS + HDRLEN - IPCSS, which is 40 bytes too large; the 82583V's datasheet
    (7.3.6.2) subtracts them. QEMU's e1000 follows the SDM, so IPv6 is segmented in software there.
    """
    netdev = adapter.netdev
    tso = netdevice.NETIF_F_TSO | netdevice.NETIF_F_TSO6
    if adapter.hw.subsystem_vendor_id == PCI_VENDOR_ID_REDHAT_QUMRANET:
        tso = netdevice.NETIF_F_TSO
        adapter.flags |= e.E1000_NO_TSO6
    netdev.hw_features = (
        netdevice.NETIF_F_SG
        | netdevice.NETIF_F_HW_CSUM
        | netdevice.NETIF_F_HW_VLAN_CTAG_RX
        | netdevice.NETIF_F_GSO_UDP_L4
        | tso
    )
    netdev.features = (
        netdev.hw_features
        | netdevice.NETIF_F_HW_VLAN_CTAG_TX
        | netdevice.NETIF_F_HW_VLAN_CTAG_FILTER
    )
    netdev.hw_features |= (
        netdevice.NETIF_F_RXCSUM | netdevice.NETIF_F_RXALL | netdevice.NETIF_F_RXFCS
    )
    netdev.features |= netdevice.NETIF_F_HIGHDMA | netdevice.NETIF_F_RXCSUM
    netdev.vlan_features |= netdevice.NETIF_F_HW_CSUM | netdevice.NETIF_F_SG | tso


def e1000_probe_hw(adapter: e1000_adapter) -> None:
    """The part of e1000_probe between alloc_etherdev and register_netdev.

    Raises: E1000HwError: EEPROM, PHY or MAC do not answer as they should.
    """
    netdev, hw = adapter.netdev, adapter.hw
    e1000_init_hw_struct(adapter, hw)
    netdev.netdev_ops = e1000_netdev_ops
    netdev.ethtool_ops = e1000_ethtool_ops
    netdev.watchdog_timeo = 5_000_000_000
    netif_napi_add(netdev, adapter.napi, e1000_clean)
    e1000_sw_init(adapter)
    e1000_features(adapter)
    netif_set_tso_max_size(netdev, e.E1000_GSO_MAX_SIZE)
    netdev.min_mtu = d.MINIMUM_ETHERNET_FRAME_SIZE - (d.ENET_HEADER_SIZE + ETH_FCS_LEN)
    netdev.max_mtu = d.MAX_JUMBO_FRAME_SIZE - (d.ENET_HEADER_SIZE + ETH_FCS_LEN)
    e1000_init_eeprom_params(hw)
    # Put the hardware into a known state: a boot loader may have left it running.
    e1000_reset_hw(hw)
    try:
        e1000_validate_eeprom_checksum(hw)
        netdev.dev_addr = e1000_read_mac_addr(hw)
    except E1000HwError as error:
        # Without an address it cannot be opened, but ethtool and setting an address work.
        log.error("%s: %s", adapter.pdev.name, error)
        netdev.dev_addr = hw.mac_addr = bytes(6)
    netdev.perm_addr = netdev.dev_addr
    if not is_valid_ether_addr(netdev.dev_addr):
        log.error("%s: Invalid MAC Address %s", adapter.pdev.name, netdev.dev_addr.hex(":"))
    adapter.watchdog_task = work_struct(adapter.machine, lambda: e1000_watchdog(adapter))
    adapter.reset_task = work_struct(adapter.machine, lambda: e1000_reset_task(adapter))
    adapter.refill_task = work_struct(adapter.machine, lambda: e1000_refill_task(adapter))
    e1000_check_options(adapter)
    if not adapter.rx_csum:
        netdev.features &= ~netdevice.NETIF_F_RXCSUM
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
    """Release the resources of a failed probe."""
    free_netdev(netdev)
    pci.pci_set_drvdata(pdev, None)
    pci.pci_release_selected_regions(pdev, 0x3F)
    pci.pci_disable_device(pdev)


def e1000_remove(pdev: pci.pci_dev) -> None:
    """e1000_main.c: the device is removed, or the module unloaded."""
    netdev = pci.pci_get_drvdata(pdev)
    adapter: e1000_adapter = netdev.priv
    e1000_down_and_stop(adapter)
    unregister_netdev(netdev)
    e1000_reset_hw(adapter.hw)
    pci.pci_release_selected_regions(pdev, adapter.bars)
    free_netdev(netdev)
    pci.pci_set_drvdata(pdev, None)
    pci.pci_disable_device(pdev)


def e1000_suspend(pdev: pci.pci_dev) -> None:
    """e1000_main.c: sleep in D3hot; the interface stays, detached."""
    pci.pci_save_state(pdev)
    e1000_shutdown(pdev)


def e1000_shutdown(pdev: pci.pci_dev) -> None:
    """e1000_main.c: the machine powers off: stop, arm wake-up, enter D3hot."""
    netdev = pci.pci_get_drvdata(pdev)
    adapter: e1000_adapter = netdev.priv
    netif_device_detach(netdev)
    if netif_running(netdev):
        e1000_wait_for_reset(adapter)
        e1000_down(adapter)
        e1000_free_irq(adapter)
    wufc = adapter.wol
    if er32(adapter.hw, d.E1000_STATUS) & d.E1000_STATUS_LU:
        wufc &= ~d.E1000_WUFC_LNKC
    if wufc:
        e1000_setup_wakeup(adapter, wufc)
    else:
        ew32(adapter.hw, d.E1000_WUC, 0)
        ew32(adapter.hw, d.E1000_WUFC, 0)
    pci.pci_disable_device(pdev)
    pci.pci_enable_wake(pdev, pci.PCI_D3hot, bool(wufc))
    pci.pci_set_power_state(pdev, pci.PCI_D3hot)


def e1000_resume(pdev: pci.pci_dev) -> None:
    """e1000_main.c: resume; restart the interface if it was running.

    Raises: OSError: the interrupt cannot be requested.
    """
    netdev = pci.pci_get_drvdata(pdev)
    adapter: e1000_adapter = netdev.priv
    pci.pci_set_power_state(pdev, pci.PCI_D0)
    pci.pci_restore_state(pdev)
    pci.pci_enable_device(pdev)
    pci.pci_set_master(pdev)
    pci.pci_enable_wake(pdev, pci.PCI_D3hot, False)
    if netif_running(netdev):
        check(e1000_request_irq(adapter), f"{netdev.name}: no interrupt {pdev.irq} after waking up")
    try:
        e1000_power_up_phy(adapter)
    except E1000HwError as error:
        adapter.hw_errors += 1
        log.error("%s: %s", netdev.name, error)
    e1000_reset(adapter)
    ew32(adapter.hw, d.E1000_WUS, d.ALL_INTERRUPTS)
    if netif_running(netdev):
        e1000_up(adapter)
    netif_device_attach(netdev)


def e1000_setup_wakeup(adapter: e1000_adapter, wufc: int) -> None:
    """The wake-up half of e1000_main.c __e1000_shutdown (SDM 6.3)."""
    hw = adapter.hw
    e1000_setup_rctl(adapter)
    e1000_set_rx_mode(adapter.netdev)
    rctl = er32(hw, d.E1000_RCTL)
    if wufc & d.E1000_WUFC_MC:
        rctl |= d.E1000_RCTL_MPE
    ew32(hw, d.E1000_RCTL, rctl | d.E1000_RCTL_EN)
    ew32(hw, d.E1000_WUC, d.E1000_WUC_PME_EN)
    ew32(hw, d.E1000_WUFC, wufc)


def e1000_init_hw_struct(adapter: e1000_adapter, hw: e1000_hw) -> None:
    """e1000_main.c: set what the device id, STATUS and the MTU say.

    Raises: E1000HwError: an unknown device id.
    """
    hw.max_frame_size = adapter.netdev.mtu + d.ENET_HEADER_SIZE + ETH_FCS_LEN
    e1000_set_mac_type(hw)
    e1000_set_media_type(hw)
    e1000_get_bus_info(hw)


def e1000_sw_init(adapter: e1000_adapter) -> None:
    """e1000_main.c: defaults of the adapter; the device is not open."""
    adapter.rx_buffer_len = e.E1000_RXBUFFER_2048
    adapter.ims_mask = 0
    adapter.flags |= e.E1000_DOWN
    e1000_irq_disable(adapter)


def e1000_fix_features(netdev: net_device, features: int) -> int:
    """e1000_main.c: keep VLAN tag stripping and insertion equal, as CTRL.VME controls both."""
    if features & netdevice.NETIF_F_HW_VLAN_CTAG_RX:
        return features | netdevice.NETIF_F_HW_VLAN_CTAG_TX
    return features & ~netdevice.NETIF_F_HW_VLAN_CTAG_TX


def e1000_set_features(netdev: net_device, features: int) -> int:
    """e1000_main.c: ndo_set_features: 0, or 1 when netdev.features is set here already."""
    adapter: e1000_adapter = netdev.priv
    changed = features ^ netdev.features
    if changed & netdevice.NETIF_F_HW_VLAN_CTAG_RX:
        e1000_vlan_mode(netdev, features)
    if changed & netdevice.NETIF_F_GRO and adapter.rx_ring is not None:
        e1000_set_gro(adapter, features)
    if not changed & (netdevice.NETIF_F_RXCSUM | netdevice.NETIF_F_RXALL | netdevice.NETIF_F_RXFCS):
        return 0
    netdev.features = features
    adapter.rx_csum = bool(features & netdevice.NETIF_F_RXCSUM)
    e1000_restart(adapter)
    return 1


def e1000_change_mtu(netdev: net_device, new_mtu: int) -> int:
    """e1000_main.c: ndo_change_mtu: 2 KiB buffers while frames fit, else chains of 4 KiB."""
    adapter: e1000_adapter = netdev.priv
    max_frame = new_mtu + d.ENET_HEADER_SIZE + ETH_FCS_LEN
    if not d.MINIMUM_ETHERNET_FRAME_SIZE <= max_frame <= d.MAX_JUMBO_FRAME_SIZE:
        return -errno.EINVAL
    e1000_wait_for_reset(adapter)
    adapter.flags |= e.E1000_RESETTING
    try:
        running = netif_running(netdev)
        if running:
            e1000_down(adapter)
        adapter.hw.max_frame_size = max_frame
        small = max_frame + VLAN_HLEN <= e.E1000_RXBUFFER_2048
        length = e.E1000_RXBUFFER_2048 if small else e.E1000_RXBUFFER_4096
        netdev.mtu = new_mtu
        if length != adapter.rx_buffer_len:
            adapter.rx_buffer_len = length
            if running:
                e1000_free_all_rx_resources(adapter)
        if running:
            return e1000_up_with_new_rings(adapter)
        e1000_reset(adapter)
    finally:
        adapter.flags &= ~e.E1000_RESETTING
    return 0


def e1000_tx_timeout(netdev: net_device) -> None:
    """e1000_main.c: ndo_tx_timeout: schedule a reset, which cannot run in this softirq."""
    adapter: e1000_adapter = netdev.priv
    adapter.tx_timeout_count += 1
    schedule_work(adapter.reset_task)


e1000_netdev_ops = net_device_ops(
    ndo_open=e1000_open,
    ndo_stop=e1000_close,
    ndo_start_xmit=e1000_xmit_frame,
    ndo_set_rx_mode=e1000_set_rx_mode,
    ndo_set_mac_address=e1000_set_mac,
    ndo_validate_addr=eth_validate_addr,
    ndo_tx_timeout=e1000_tx_timeout,
    ndo_change_mtu=e1000_change_mtu,
    ndo_vlan_rx_add_vid=e1000_vlan_rx_add_vid,
    ndo_vlan_rx_kill_vid=e1000_vlan_rx_kill_vid,
    ndo_fix_features=e1000_fix_features,
    ndo_set_features=e1000_set_features,
    ndo_get_stats64=e1000_get_stats64,
)

e1000_pci_tbl = tuple(pci.pci_device_id(d.PCI_VENDOR_ID_INTEL, device) for device in MAC_TYPES)

e1000_driver = pci.pci_driver(
    name=e.DRV_NAME,
    id_table=e1000_pci_tbl,
    probe=e1000_probe,
    remove=e1000_remove,
    shutdown=e1000_shutdown,
    suspend=e1000_suspend,
    resume=e1000_resume,
)
"""The module as loaded by default; `e1000_init_module` registers a copy with its parameters."""

assert netdevice.ETH_HLEN == d.ENET_HEADER_SIZE
