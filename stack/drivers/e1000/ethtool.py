"""ethtool_ops of the e1000 (e1000_ethtool.c); the self-test is in selftest.py.

stack/core/ethtool.py calls the driver through `e1000_ethtool_ops`, defined at the end:

    link        e1000_get_link_ksettings, e1000_set_link_ksettings, e1000_nway_reset
    pause       e1000_get_pauseparam, e1000_set_pauseparam
    rings       e1000_get_ringparam, e1000_set_ringparam        down, new rings, up
    moderation  e1000_get_coalesce, e1000_set_coalesce          the register ITR
    dumps       e1000_get_regs, e1000_get_eeprom, e1000_set_eeprom
    wake, LED   e1000_get_wol, e1000_set_wol, e1000_set_phys_id
    counters    e1000_get_strings, e1000_get_ethtool_stats

A setter checks, writes `e1000_adapter` or `e1000_hw`, and lets the change take effect by
e1000_restart. Setters return 0 or -errno. The file keeps no state; `e1000_gstrings_stats` is the
table of counters. Read e1000_set_ringparam first.
"""

from __future__ import annotations

import errno
from typing import Any

from stack.core import ethtool as core
from stack.core.errors import os_error
from stack.core.netdevice import net_device, netif_carrier_ok, netif_running
from stack.drivers.e1000 import defs as d
from stack.drivers.e1000 import e1000 as e
from stack.drivers.e1000.config import e1000_free_all_rx_resources, e1000_free_all_tx_resources
from stack.drivers.e1000.e1000 import (
    E1000HwError,
    e1000_adapter,
    e1000_hw,
    e1000_write_itr,
    er32,
)
from stack.drivers.e1000.eeprom import (
    e1000_read_eeprom,
    e1000_update_eeprom_checksum,
    e1000_write_eeprom,
)
from stack.drivers.e1000.hw import (
    e1000_cleanup_led,
    e1000_force_mac_fc,
    e1000_led_off,
    e1000_led_on,
    e1000_setup_led,
)
from stack.drivers.e1000.phy import e1000_phy_crossed, e1000_read_phy_reg
from stack.drivers.e1000.selftest import TEST_NAMES, e1000_diag_test
from stack.drivers.e1000.updown import (
    e1000_down,
    e1000_reinit_locked,
    e1000_restart,
    e1000_up_with_new_rings,
    e1000_wait_for_reset,
)
from stack.drivers.e1000.watchdog import e1000_fold_ring_stats, e1000_update_stats

# (name shown, its place: hardware totals, net_device.stats or the adapter; member)
e1000_gstrings_stats: tuple[tuple[str, str, str], ...] = (
    ("rx_packets", "stats", "gprc"),
    ("tx_packets", "stats", "gptc"),
    ("rx_bytes", "stats", "gorcl"),
    ("tx_bytes", "stats", "gotcl"),
    ("rx_broadcast", "stats", "bprc"),
    ("tx_broadcast", "stats", "bptc"),
    ("rx_multicast", "stats", "mprc"),
    ("tx_multicast", "stats", "mptc"),
    ("rx_errors", "stats", "rxerrc"),
    ("tx_errors", "stats", "txerrc"),
    ("tx_dropped", "netdev", "tx_dropped"),
    ("multicast", "stats", "mprc"),
    ("collisions", "stats", "colc"),
    ("rx_length_errors", "stats", "rlerrc"),
    ("rx_over_errors", "netdev", "rx_over_errors"),
    ("rx_crc_errors", "stats", "crcerrs"),
    ("rx_frame_errors", "netdev", "rx_frame_errors"),
    ("rx_no_buffer_count", "stats", "rnbc"),
    ("rx_missed_errors", "stats", "mpc"),
    ("tx_aborted_errors", "stats", "ecol"),
    ("tx_carrier_errors", "stats", "tncrs"),
    ("tx_fifo_errors", "netdev", "tx_fifo_errors"),
    ("tx_heartbeat_errors", "netdev", "tx_heartbeat_errors"),
    ("tx_window_errors", "stats", "latecol"),
    ("tx_abort_late_coll", "stats", "latecol"),
    ("tx_deferred_ok", "stats", "dc"),
    ("tx_single_coll_ok", "stats", "scc"),
    ("tx_multi_coll_ok", "stats", "mcc"),
    ("tx_timeout_count", "adapter", "tx_timeout_count"),
    ("tx_restart_queue", "adapter", "restart_queue"),
    ("rx_long_length_errors", "stats", "roc"),
    ("rx_short_length_errors", "stats", "ruc"),
    ("rx_align_errors", "stats", "algnerrc"),
    ("tx_tcp_seg_good", "stats", "tsctc"),
    ("tx_tcp_seg_failed", "stats", "tsctfc"),
    ("rx_flow_control_xon", "stats", "xonrxc"),
    ("rx_flow_control_xoff", "stats", "xoffrxc"),
    ("tx_flow_control_xon", "stats", "xontxc"),
    ("tx_flow_control_xoff", "stats", "xofftxc"),
    ("rx_long_byte_count", "stats", "gorcl"),
    ("rx_csum_offload_good", "adapter", "hw_csum_good"),
    ("rx_csum_offload_errors", "adapter", "hw_csum_err"),
    ("alloc_rx_buff_failed", "adapter", "alloc_rx_buff_failed"),
    ("tx_smbus", "stats", "mgtptc"),
    ("rx_smbus", "stats", "mgtprc"),
    ("dropped_smbus", "stats", "mgtpdc"),
)

LINK_MODES = (
    (d.ADVERTISE_10_HALF, "10baseT/Half"),
    (d.ADVERTISE_10_FULL, "10baseT/Full"),
    (d.ADVERTISE_100_HALF, "100baseT/Half"),
    (d.ADVERTISE_100_FULL, "100baseT/Full"),
    (d.ADVERTISE_1000_FULL, "1000baseT/Full"),
)

E1000_MIN_ITR_USECS = 10
E1000_MAX_ITR_USECS = 10_000
E1000_REGS_LEN = 32


def _adapter(netdev: net_device) -> e1000_adapter:
    adapter: e1000_adapter = netdev.priv
    return adapter


# -- link ------------------------------------------------------------------------------------------


def e1000_get_link_ksettings(netdev: net_device) -> core.ethtool_link_ksettings:
    """e1000_ethtool.c."""
    adapter = _adapter(netdev)
    hw = adapter.hw
    fiber = hw.media_type == d.e1000_media_type_fiber
    out = core.ethtool_link_ksettings()
    if fiber:  # one mode, which is advertised
        out.port = core.PORT_FIBRE
        out.supported, out.advertising = ["1000baseT/Full"], ["1000baseT/Full"]
    else:
        out.autoneg, out.phy_address = hw.autoneg, hw.phy_addr
        out.supported = [name for _, name in LINK_MODES]
        if hw.autoneg:
            out.advertising = [name for bit, name in LINK_MODES if hw.autoneg_advertised & bit]
        out.eth_tp_mdix_ctrl = hw.mdix or core.ETH_TP_MDI_AUTO
    if not netif_running(netdev) or not netif_carrier_ok(netdev):
        return out
    out.speed = adapter.link_speed
    full = adapter.link_duplex == d.FULL_DUPLEX
    out.duplex = core.DUPLEX_FULL if full else core.DUPLEX_HALF
    if not fiber:
        try:
            out.eth_tp_mdix = core.ETH_TP_MDI_X if e1000_phy_crossed(hw) else core.ETH_TP_MDI
        except E1000HwError:
            out.eth_tp_mdix = core.ETH_TP_MDI_INVALID
    return out


def e1000_set_link_ksettings(netdev: net_device, link: core.ethtool_link_ksettings) -> int:
    """e1000_ethtool.c: 0; -EINVAL; -EOPNOTSUPP, a crossing of fibre."""
    adapter = _adapter(netdev)
    hw = adapter.hw
    crossing = link.eth_tp_mdix_ctrl
    if crossing in (core.ETH_TP_MDI, core.ETH_TP_MDI_X):
        if hw.media_type == d.e1000_media_type_fiber:
            return -errno.EOPNOTSUPP
        if not link.autoneg:
            return -errno.EINVAL
    if hw.media_type == d.e1000_media_type_fiber:
        # Fibre has only 1000 Mb/s full duplex, negotiated.
        if not link.autoneg and (link.speed, link.duplex) != (d.SPEED_1000, core.DUPLEX_FULL):
            return -errno.EINVAL
        hw.autoneg, hw.autoneg_advertised = True, d.ADVERTISE_1000_FULL
    elif link.autoneg:
        wanted = sum(bit for bit, name in LINK_MODES if name in link.advertising)
        hw.autoneg = True
        hw.autoneg_advertised = wanted or d.AUTONEG_ADVERTISE_SPEED_DEFAULT
    else:
        err = e1000_set_spd_dplx(adapter, link.speed, link.duplex)
        if err:
            return err
    if crossing != core.ETH_TP_MDI_INVALID:
        hw.mdix = 0 if crossing == core.ETH_TP_MDI_AUTO else crossing
    e1000_restart(adapter)
    return 0


def e1000_set_spd_dplx(adapter: e1000_adapter, speed: int, duplex: int) -> int:
    """e1000_main.c: force a speed; gigabit is negotiated, as the only advertised speed."""
    hw = adapter.hw
    if speed == d.SPEED_1000 and duplex == core.DUPLEX_FULL:
        hw.autoneg = True
        hw.autoneg_advertised = d.ADVERTISE_1000_FULL
        return 0
    if speed not in (d.SPEED_10, d.SPEED_100):
        return -errno.EINVAL
    if duplex not in (core.DUPLEX_HALF, core.DUPLEX_FULL):
        return -errno.EINVAL
    hw.autoneg = False
    hw.forced_speed_duplex = (2 if speed == d.SPEED_100 else 0) | duplex
    return 0


def e1000_nway_reset(netdev: net_device) -> int:
    """e1000_ethtool.c: negotiate again, unless the interface is down. 0."""
    if netif_running(netdev):
        e1000_reinit_locked(_adapter(netdev))
    return 0


def e1000_get_pauseparam(netdev: net_device) -> core.ethtool_pauseparam:
    """e1000_ethtool.c."""
    adapter = _adapter(netdev)
    fc = adapter.hw.fc
    return core.ethtool_pauseparam(
        adapter.fc_autoneg, bool(fc & d.E1000_FC_RX_PAUSE), bool(fc & d.E1000_FC_TX_PAUSE)
    )


def e1000_set_pauseparam(netdev: net_device, pause: core.ethtool_pauseparam) -> int:
    """e1000_ethtool.c."""
    adapter = _adapter(netdev)
    hw = adapter.hw
    adapter.fc_autoneg = pause.autoneg
    fc = d.E1000_FC_RX_PAUSE if pause.rx_pause else 0
    fc |= d.E1000_FC_TX_PAUSE if pause.tx_pause else 0
    hw.fc = hw.original_fc = fc
    if adapter.fc_autoneg:
        e1000_restart(adapter)
    else:
        e1000_force_mac_fc(hw)
    return 0


# -- driver, rings, moderation ---------------------------------------------------------------------


def e1000_get_msglevel(netdev: net_device) -> int:
    """e1000_ethtool.c."""
    return _adapter(netdev).msg_enable


def e1000_set_msglevel(netdev: net_device, data: int) -> None:
    """e1000_ethtool.c."""
    _adapter(netdev).msg_enable = data


def e1000_get_drvinfo(netdev: net_device) -> core.ethtool_drvinfo:
    """e1000_ethtool.c."""
    adapter = _adapter(netdev)
    return core.ethtool_drvinfo(e.DRV_NAME, e.DRV_VERSION, bus_info=adapter.pdev.name)


def e1000_get_ringparam(netdev: net_device) -> core.ethtool_ringparam:
    """e1000_ethtool.c."""
    adapter = _adapter(netdev)
    return core.ethtool_ringparam(
        e.E1000_MAX_82544_RXD,
        e.E1000_MAX_82544_TXD,
        adapter.rx_ring_count,
        adapter.tx_ring_count,
    )


def _ring_count(asked: int, low: int, high: int) -> int:
    return -(-max(low, min(asked, high)) // 8) * 8


def e1000_set_ringparam(netdev: net_device, ring: core.ethtool_ringparam) -> int:
    """e1000_ethtool.c: resize the rings. 0, or -ENOMEM: the interface is then closed."""
    adapter = _adapter(netdev)
    rx_count = _ring_count(ring.rx_pending, e.E1000_MIN_RXD, e.E1000_MAX_82544_RXD)
    tx_count = _ring_count(ring.tx_pending, e.E1000_MIN_TXD, e.E1000_MAX_82544_TXD)
    e1000_wait_for_reset(adapter)
    adapter.flags |= e.E1000_RESETTING
    try:
        running = netif_running(netdev)
        if running:
            e1000_down(adapter)
            e1000_free_all_tx_resources(adapter)
            e1000_free_all_rx_resources(adapter)
        adapter.rx_ring_count, adapter.tx_ring_count = rx_count, tx_count
        return e1000_up_with_new_rings(adapter) if running else 0
    finally:
        adapter.flags &= ~e.E1000_RESETTING


def e1000_get_coalesce(netdev: net_device) -> core.ethtool_coalesce:
    """e1000_ethtool.c: 0, 1, 3, 4 are modes of InterruptThrottleRate, else microseconds."""
    adapter = _adapter(netdev)
    if adapter.itr_setting <= 4:
        return core.ethtool_coalesce(adapter.itr_setting)
    return core.ethtool_coalesce(1_000_000 // adapter.itr_setting)


def e1000_set_coalesce(netdev: net_device, coalesce: core.ethtool_coalesce) -> int:
    """e1000_ethtool.c: 0, -EINVAL, or -EOPNOTSUPP on a part without ITR."""
    adapter = _adapter(netdev)
    hw = adapter.hw
    usecs = coalesce.rx_coalesce_usecs
    if hw.mac_type < d.e1000_82540:
        return -errno.EOPNOTSUPP
    if usecs not in (0, 1, 3, 4) and not E1000_MIN_ITR_USECS <= usecs <= E1000_MAX_ITR_USECS:
        return -errno.EINVAL
    if usecs <= 4:
        adapter.itr, adapter.itr_setting = 20_000, usecs
    else:
        adapter.itr = 1_000_000 // usecs
        adapter.itr_setting = adapter.itr & ~3
    e1000_write_itr(hw, adapter.itr if adapter.itr_setting else 0)
    return 0


# -- registers, EEPROM, wake-up, LEDs --------------------------------------------------------------


def e1000_get_regs_len(netdev: net_device) -> int:
    """e1000_ethtool.c: bytes."""
    return E1000_REGS_LEN * 4


def _phy_words(hw: e1000_hw, words: list[int]) -> None:
    words[13] = words[18] = e1000_read_phy_reg(hw, d.M88E1000_PHY_SPEC_STATUS)
    words[17] = words[20] = e1000_read_phy_reg(hw, d.M88E1000_PHY_SPEC_CTRL)
    words[23] = words[18]
    words[24] = words[25] = e1000_read_phy_reg(hw, d.PHY_1000T_STATUS)


def e1000_get_regs(netdev: net_device) -> core.ethtool_regs:
    """e1000_ethtool.c: 32 words in the order that ``ethtool -d`` expects."""
    hw = _adapter(netdev).hw
    words = [0] * E1000_REGS_LEN
    order = (
        *(d.E1000_CTRL, d.E1000_STATUS, d.E1000_RCTL, d.E1000_RDLEN, d.E1000_RDH, d.E1000_RDT),
        *(d.E1000_RDTR, d.E1000_TCTL, d.E1000_TDLEN, d.E1000_TDH, d.E1000_TDT, d.E1000_TIDV),
    )
    for index, reg in enumerate(order):
        words[index] = er32(hw, reg)
    words[12] = hw.phy_type
    try:
        if hw.media_type == d.e1000_media_type_copper:
            _phy_words(hw, words)
    except E1000HwError:
        pass  # the PHY is powered down: its words stay 0
    if hw.mac_type >= d.e1000_82540:
        words[26] = er32(hw, d.E1000_MANC)
    version = 1 << 24 | hw.revision_id << 16 | hw.device_id
    return core.ethtool_regs(version, words)


def e1000_get_eeprom_len(netdev: net_device) -> int:
    """e1000_ethtool.c: bytes."""
    return _adapter(netdev).hw.eeprom.word_size * 2


def e1000_get_eeprom(netdev: net_device, offset: int, length: int) -> bytes:
    """e1000_ethtool.c: any bytes; words are read whole.

    Raises: OSError: EIO, the EEPROM does not answer.
    """
    first, last = offset >> 1, (offset + length - 1) >> 1
    try:
        words = e1000_read_eeprom(_adapter(netdev).hw, first, last - first + 1)
    except E1000HwError as error:
        raise os_error(errno.EIO, str(error)) from error
    data = b"".join(word.to_bytes(2, "little") for word in words)
    return data[offset & 1 : (offset & 1) + length]


def e1000_set_eeprom(netdev: net_device, magic: int, offset: int, data: bytes) -> int:
    """e1000_ethtool.c: write bytes; update the checksum if it covers them. 0 or -errno."""
    hw = _adapter(netdev).hw
    if magic != (hw.vendor_id | hw.device_id << 16):
        return -errno.EFAULT
    first, last = offset >> 1, (offset + len(data) - 1) >> 1
    try:
        words = e1000_read_eeprom(hw, first, last - first + 1)
        raw = bytearray(b"".join(word.to_bytes(2, "little") for word in words))
        raw[offset & 1 : (offset & 1) + len(data)] = data
        e1000_write_eeprom(
            hw, first, [int.from_bytes(raw[i : i + 2], "little") for i in range(0, len(raw), 2)]
        )
        if first <= d.EEPROM_CHECKSUM_REG:
            e1000_update_eeprom_checksum(hw)
    except E1000HwError:
        return -errno.EIO
    return 0


WOL_BITS = (
    (core.WAKE_UCAST, d.E1000_WUFC_EX),
    (core.WAKE_MCAST, d.E1000_WUFC_MC),
    (core.WAKE_BCAST, d.E1000_WUFC_BC),
    (core.WAKE_MAGIC, d.E1000_WUFC_MAG),
)
WOL_UNSUPPORTED = (
    d.E1000_DEV_ID_82544EI_FIBER,
    d.E1000_DEV_ID_82545EM_COPPER,
    d.E1000_DEV_ID_82545EM_FIBER,
)


def e1000_get_wol(netdev: net_device) -> core.ethtool_wolinfo:
    """e1000_ethtool.c."""
    adapter = _adapter(netdev)
    if adapter.hw.device_id in WOL_UNSUPPORTED:
        return core.ethtool_wolinfo()
    return core.ethtool_wolinfo(
        sum(bit for bit, _ in WOL_BITS),
        sum(bit for bit, filter_bit in WOL_BITS if adapter.wol & filter_bit),
    )


def e1000_set_wol(netdev: net_device, wol: core.ethtool_wolinfo) -> int:
    """e1000_ethtool.c: 0 or -EOPNOTSUPP."""
    adapter = _adapter(netdev)
    known = sum(bit for bit, _ in WOL_BITS)
    if wol.wolopts & ~known:
        return -errno.EOPNOTSUPP
    if adapter.hw.device_id in WOL_UNSUPPORTED:
        return -errno.EOPNOTSUPP if wol.wolopts else 0
    adapter.wol = sum(filter_bit for bit, filter_bit in WOL_BITS if wol.wolopts & bit)
    return 0


def e1000_set_phys_id(netdev: net_device, state: int) -> int:
    """e1000_ethtool.c: identification LED on, off, active, inactive.

    Returns the blinks per second for ETHTOOL_ID_ACTIVE, else 0.
    """
    adapter = _adapter(netdev)
    if state == core.ETHTOOL_ID_ACTIVE:
        e1000_setup_led(adapter.hw)
        return 2
    if state == core.ETHTOOL_ID_ON:
        e1000_led_on(adapter.hw)
    elif state == core.ETHTOOL_ID_OFF:
        e1000_led_off(adapter.hw)
    else:
        e1000_led_off(adapter.hw)
        e1000_cleanup_led(adapter.hw)
    return 0


# -- statistics ------------------------------------------------------------------------------------


def e1000_get_sset_count(netdev: net_device, sset: int) -> int:
    """e1000_ethtool.c: number of strings, or -EOPNOTSUPP."""
    counts = {core.ETH_SS_TEST: len(TEST_NAMES), core.ETH_SS_STATS: len(e1000_gstrings_stats)}
    return counts.get(sset, -errno.EOPNOTSUPP)


def e1000_get_strings(netdev: net_device, sset: int) -> list[str]:
    """e1000_ethtool.c."""
    if sset == core.ETH_SS_TEST:
        return list(TEST_NAMES)
    return [name for name, _, _ in e1000_gstrings_stats]


def e1000_get_ethtool_stats(netdev: net_device) -> list[int]:
    """e1000_ethtool.c: the values in the order of the strings; the hardware is read first."""
    adapter = _adapter(netdev)
    if not adapter.flags & e.E1000_DOWN:
        e1000_update_stats(adapter)
    e1000_fold_ring_stats(adapter)
    sources: dict[str, Any] = {
        "stats": adapter.stats,
        "netdev": netdev.stats,
        "adapter": adapter,
    }
    return [int(getattr(sources[where], name)) for _, where, name in e1000_gstrings_stats]


e1000_ethtool_ops = core.ethtool_ops(
    get_drvinfo=e1000_get_drvinfo,
    get_ts_info=core.ethtool_op_get_ts_info,
    get_regs_len=e1000_get_regs_len,
    get_regs=e1000_get_regs,
    get_wol=e1000_get_wol,
    set_wol=e1000_set_wol,
    get_msglevel=e1000_get_msglevel,
    set_msglevel=e1000_set_msglevel,
    nway_reset=e1000_nway_reset,
    get_link=netif_carrier_ok,
    get_eeprom_len=e1000_get_eeprom_len,
    get_eeprom=e1000_get_eeprom,
    set_eeprom=e1000_set_eeprom,
    get_ringparam=e1000_get_ringparam,
    set_ringparam=e1000_set_ringparam,
    get_pauseparam=e1000_get_pauseparam,
    set_pauseparam=e1000_set_pauseparam,
    self_test=e1000_diag_test,
    get_strings=e1000_get_strings,
    set_phys_id=e1000_set_phys_id,
    get_ethtool_stats=e1000_get_ethtool_stats,
    get_sset_count=e1000_get_sset_count,
    get_coalesce=e1000_get_coalesce,
    set_coalesce=e1000_set_coalesce,
    get_link_ksettings=e1000_get_link_ksettings,
    set_link_ksettings=e1000_set_link_ksettings,
)
