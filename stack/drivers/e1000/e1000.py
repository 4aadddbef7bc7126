"""The driver's structures (e1000.h, and struct e1000_hw of e1000_hw.h)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from fastpath.drvring import RxRing, TxRing
from fastpath.skbuff import SkbPool
from stack.core.netdevice import napi_struct
from stack.drivers.e1000 import defs as d

if TYPE_CHECKING:
    from collections.abc import Callable

    from stack.core.netdevice import net_device
    from stack.core.pci import pci_dev
    from stack.core.workqueue import work_struct
    from stack.drivers.e1000.param import Params
    from stack.machine import Machine

DRV_NAME = "e1000"
DRV_VERSION = "7.3.21-k8-NAPI"
"""What ``ethtool -i`` shows; the kernel driver's version whose behaviour this follows."""

E1000_DEFAULT_TXD = 1024
E1000_MAX_82544_TXD = 4096
E1000_MIN_TXD = 48
E1000_DEFAULT_RXD = 512
E1000_MAX_82544_RXD = 4096
E1000_MIN_RXD = 48
REQ_TX_DESCRIPTOR_MULTIPLE = 8
REQ_RX_DESCRIPTOR_MULTIPLE = 8

E1000_RXBUFFER_2048 = 2048
E1000_RXBUFFER_4096 = 4096
E1000_RX_POOL_BUFFERS = 8192
"""Receive buffers of a ring's pool: those in the ring plus those that wait in sockets."""

E1000_MAX_DATA_PER_TXD = 1 << 16
"""Bytes per data descriptor. DTALEN has 20 bits; a page of the stack's payload pool is 32 KiB. The
kernel's 4 KiB suit the latency of a real PCI bus."""
E1000_MAX_PAYLEN = (1 << 20) - 1
"""PAYLEN of a TSO context has 20 bits (SDM 3.3.6): 718 segments of 1460 bytes."""
E1000_GSO_MAX_SIZE = 256 * 1024
"""Default super-packet limit: 256 KiB costs a tenth against 512 KiB and leaves the rings small."""
E1000_MAX_INTR = 10
"""Rounds of the interrupt handler without NAPI."""
E1000_RX_FRAMES_PER_POLL = 512
"""Frames taken per NAPI poll. The budget counts merged sk_buffs; a super-packet is 180 frames."""

E1000_PAUSE_TIME = 0xFFFF
WATCHDOG_NS = 2_000_000_000
REFILL_RETRY_NS = 1_000_000

# adapter.flags (enum e1000_state_t)
__E1000_TESTING = 1 << 0
__E1000_RESETTING = 1 << 1
__E1000_DOWN = 1 << 2
__E1000_DISABLED = 1 << 3
E1000_NO_NAPI = 1 << 4
"""Not the kernel's: module parameter NAPI=0, the interrupt handler does the work."""
E1000_NO_TSO6 = 1 << 5
"""Not the kernel's: the part cannot segment IPv6 packets (see e1000_features)."""
E1000_TESTING = __E1000_TESTING
E1000_RESETTING = __E1000_RESETTING
E1000_DOWN = __E1000_DOWN


class E1000HwError(Exception):
    """The hardware did not do what the manual promises: -E1000_ERR_EEPROM, _PHY, _CONFIG, ...

    `kind` is the kernel's name without its prefix. Never leaves the driver: probe and open turn it
    into ``OSError``, the watchdog counts it.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{message} (E1000_ERR_{kind})")
        self.kind = kind


class e1000_eeprom_info:
    """What `e1000_init_eeprom_params` found out (e1000_hw.h)."""

    __slots__ = ("address_bits", "opcode_bits", "word_size")

    def __init__(self) -> None:
        self.word_size = 64
        self.opcode_bits = 3
        self.address_bits = 6


class e1000_phy_info:
    """Result of `e1000_phy_get_info` (e1000_hw.h)."""

    __slots__ = ("cable_length", "cable_polarity", "local_rx", "mdix_mode", "remote_rx")

    def __init__(self) -> None:
        self.cable_length = 0xFF
        self.cable_polarity = 0
        self.mdix_mode = 0
        self.local_rx = False
        self.remote_rx = False


class e1000_hw:
    """The hardware layer's state (struct e1000_hw): everything below net_device."""

    __slots__ = (
        "autoneg",
        "autoneg_advertised",
        "autoneg_failed",
        "back",
        "bar_read",
        "bar_write",
        "bus_type",
        "bus_width_bits",
        "current_ifs_val",
        "device_id",
        "disable_polarity_correction",
        "eeprom",
        "fc",
        "fc_high_water",
        "fc_low_water",
        "fc_pause_time",
        "fc_send_xon",
        "forced_speed_duplex",
        "get_link_status",
        "in_ifs_mode",
        "io_bar",
        "ledctl_default",
        "ledctl_mode1",
        "ledctl_mode2",
        "mac_addr",
        "mac_type",
        "machine",
        "max_frame_size",
        "mc_filter_type",
        "mdix",
        "media_type",
        "original_fc",
        "perm_mac_addr",
        "phy_addr",
        "phy_id",
        "phy_revision",
        "phy_type",
        "revision_id",
        "subsystem_id",
        "subsystem_vendor_id",
        "vendor_id",
        "wait_autoneg_complete",
    )

    def __init__(self, machine: Machine, pdev: pci_dev) -> None:
        """Take the ids and the accessors of `pdev`; the rest is e1000_sw_init's."""
        self.machine = machine
        self.back: e1000_adapter | None = None
        self.bar_read: Callable[[int, int, int], int] = pdev.bar_read
        self.bar_write: Callable[[int, int, int, int], None] = pdev.bar_write
        self.io_bar = -1
        self.vendor_id = pdev.vendor
        self.device_id = pdev.device
        self.subsystem_vendor_id = pdev.subsystem_vendor
        self.subsystem_id = pdev.subsystem_device
        self.revision_id = pdev.revision
        self.mac_type = d.e1000_undefined
        self.media_type = d.e1000_media_type_copper
        self.phy_type = d.e1000_phy_undefined
        self.phy_addr = 1
        self.phy_id = 0
        self.phy_revision = 0
        self.bus_type = "PCI"
        self.bus_width_bits = 32
        self.eeprom = e1000_eeprom_info()
        self.mac_addr = bytes(6)
        self.perm_mac_addr = bytes(6)
        self.autoneg = True
        self.autoneg_advertised = d.AUTONEG_ADVERTISE_SPEED_DEFAULT
        self.autoneg_failed = False
        self.wait_autoneg_complete = False
        self.forced_speed_duplex = 0
        self.get_link_status = False
        self.mdix = 0
        self.disable_polarity_correction = False
        self.fc = d.E1000_FC_DEFAULT
        self.original_fc = d.E1000_FC_DEFAULT
        self.fc_high_water = 0
        self.fc_low_water = 0
        self.fc_pause_time = d.E1000_FC_PAUSE_TIME
        self.fc_send_xon = True
        self.mc_filter_type = 0
        self.max_frame_size = 1518
        self.ledctl_default = 0
        self.ledctl_mode1 = 0
        self.ledctl_mode2 = 0
        self.current_ifs_val = 0
        self.in_ifs_mode = False


def er32(hw: e1000_hw, reg: int) -> int:
    """e1000_osdep.h: read a register."""
    return hw.bar_read(0, reg, 4)


def ew32(hw: e1000_hw, reg: int, value: int) -> None:
    """e1000_osdep.h: write a register; the low 32 bits of `value` count."""
    hw.bar_write(0, reg, value & 0xFFFF_FFFF, 4)


def E1000_WRITE_FLUSH(hw: e1000_hw) -> None:
    """e1000_osdep.h: a read pushes posted writes to the device."""
    hw.bar_read(0, d.E1000_STATUS, 4)


@dataclass(slots=True)
class e1000_hw_stats:
    """Totals of the hardware counters since probe (e1000_hw.h).

    gorcl, gotcl, torl and totl hold the 64-bit pairs.
    """

    crcerrs: int = 0
    algnerrc: int = 0
    symerrs: int = 0
    rxerrc: int = 0
    mpc: int = 0
    scc: int = 0
    ecol: int = 0
    mcc: int = 0
    latecol: int = 0
    colc: int = 0
    dc: int = 0
    tncrs: int = 0
    sec: int = 0
    cexterr: int = 0
    rlec: int = 0
    xonrxc: int = 0
    xontxc: int = 0
    xoffrxc: int = 0
    xofftxc: int = 0
    fcruc: int = 0
    prc64: int = 0
    prc127: int = 0
    prc255: int = 0
    prc511: int = 0
    prc1023: int = 0
    prc1522: int = 0
    gprc: int = 0
    bprc: int = 0
    mprc: int = 0
    gptc: int = 0
    gorcl: int = 0
    gotcl: int = 0
    rnbc: int = 0
    ruc: int = 0
    rfc: int = 0
    roc: int = 0
    rjc: int = 0
    mgtprc: int = 0
    mgtpdc: int = 0
    mgtptc: int = 0
    torl: int = 0
    totl: int = 0
    tpr: int = 0
    tpt: int = 0
    ptc64: int = 0
    ptc127: int = 0
    ptc255: int = 0
    ptc511: int = 0
    ptc1023: int = 0
    ptc1522: int = 0
    mptc: int = 0
    bptc: int = 0
    tsctc: int = 0
    tsctfc: int = 0

    # Sums that the driver makes of others for ethtool and /proc/net/dev.
    rlerrc: int = 0
    txerrc: int = 0


HW_STATS = tuple(f.name for f in fields(e1000_hw_stats) if f.name not in ("rlerrc", "txerrc"))
"""Those that a register of the NIC counts."""


class e1000_adapter:
    """The driver's private part of a net_device (struct e1000_adapter)."""

    __slots__ = (
        "active_vlans",
        "alloc_rx_buff_failed",
        "bars",
        "bd_number",
        "copybreak",
        "detect_tx_hung",
        "eeprom_wol",
        "fc_autoneg",
        "flags",
        "fp_weight",
        "gorcl_old",
        "gotcl_old",
        "hw",
        "hw_csum_err",
        "hw_csum_good",
        "hw_errors",
        "ims_mask",
        "itr",
        "itr_setting",
        "led_on",
        "link_duplex",
        "link_speed",
        "machine",
        "max_data_per_txd",
        "msg_enable",
        "napi",
        "need_ioport",
        "netdev",
        "params",
        "pdev",
        "refill_task",
        "reset_task",
        "restart_queue",
        "rx_abs_int_delay",
        "rx_all",
        "rx_buffer_len",
        "rx_bytes_seen",
        "rx_csum",
        "rx_csum_err_seen",
        "rx_csum_good_seen",
        "rx_frames_seen",
        "rx_int_delay",
        "rx_itr",
        "rx_pool",
        "rx_ring",
        "rx_ring_count",
        "rx_vlan_strip",
        "smartspeed",
        "stats",
        "test_icr",
        "total_rx_bytes",
        "total_rx_packets",
        "total_tx_bytes",
        "total_tx_packets",
        "tx_abs_int_delay",
        "tx_clean_mark",
        "tx_clean_tick",
        "tx_cmd",
        "tx_hang_count",
        "tx_int_delay",
        "tx_itr",
        "tx_ring",
        "tx_ring_count",
        "tx_timeout_count",
        "txd_cmd",
        "watchdog_task",
        "wol",
    )

    def __init__(self, netdev: net_device) -> None:
        """Zero everything; `e1000_probe` and `e1000_sw_init` fill it in."""
        self.netdev = netdev
        self.machine = netdev.machine
        self.pdev: pci_dev
        self.hw: e1000_hw
        self.params: Params
        self.bars = 0
        self.need_ioport = False
        self.bd_number = 0
        self.flags = 0
        self.msg_enable = 7
        self.tx_ring: Any = None  # rings and pool exist while the interface is up
        self.rx_ring: Any = None
        self.rx_pool: Any = None
        self.copybreak = 0
        self.tx_ring_count = E1000_DEFAULT_TXD
        self.rx_ring_count = E1000_DEFAULT_RXD
        self.rx_buffer_len = E1000_RXBUFFER_2048
        self.max_data_per_txd = E1000_MAX_DATA_PER_TXD
        self.napi = napi_struct()
        self.watchdog_task: work_struct
        self.reset_task: work_struct
        self.refill_task: work_struct
        self.txd_cmd = 0
        self.tx_cmd = 0
        self.ims_mask = 0
        self.tx_int_delay = 0
        self.tx_abs_int_delay = 0
        self.rx_int_delay = 0
        self.rx_abs_int_delay = 0
        self.itr = 0
        self.itr_setting = 0
        self.tx_itr = 0
        self.rx_itr = 0
        self.total_tx_bytes = 0
        self.total_tx_packets = 0
        self.total_rx_bytes = 0
        self.total_rx_packets = 0
        self.rx_csum = True
        self.rx_vlan_strip = True
        self.rx_all = False
        self.rx_frames_seen = 0
        self.rx_bytes_seen = 0
        self.rx_csum_good_seen = 0
        self.rx_csum_err_seen = 0
        self.hw_csum_err = 0
        self.hw_csum_good = 0
        self.alloc_rx_buff_failed = 0
        self.hw_errors = 0
        self.restart_queue = 0
        self.detect_tx_hung = False
        self.tx_clean_mark = 0
        self.tx_clean_tick = 0
        self.tx_hang_count = 0
        self.tx_timeout_count = 0
        self.link_speed = 0
        self.link_duplex = 0
        self.active_vlans: set[int] = set()
        self.stats = e1000_hw_stats()
        self.gorcl_old = 0
        self.gotcl_old = 0
        self.wol = 0
        self.eeprom_wol = 0
        self.fc_autoneg = True
        self.smartspeed = 0
        self.test_icr = 0
        self.led_on = False
        self.fp_weight = E1000_RX_FRAMES_PER_POLL


__all__ = [
    "DRV_NAME",
    "DRV_VERSION",
    "E1000_WRITE_FLUSH",
    "E1000HwError",
    "RxRing",
    "SkbPool",
    "TxRing",
    "e1000_adapter",
    "e1000_eeprom_info",
    "e1000_hw",
    "e1000_hw_stats",
    "e1000_phy_info",
    "er32",
    "ew32",
]
