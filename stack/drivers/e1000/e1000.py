"""The driver's structures (e1000.h, and struct e1000_hw of e1000_hw.h).

Data only; all files of the driver use it. How they are linked:

    net_device.priv     e1000_adapter       the interface: rings, NAPI, tasks, settings
        .hw             e1000_hw            the chip: MAC and PHY type, EEPROM, link, flow control
            .eeprom     e1000_eeprom_info
        .tx_ring, .rx_ring, .rx_pool        while the interface is up (net/rings_driver.pyx)
        .stats          e1000_hw_stats      totals; the registers clear when they are read

er32 and ew32 read and write a register through the PCI BAR. A function of the hardware layer raises
E1000HwError, which probe and open turn into OSError. `adapter.flags` holds E1000_DOWN etc.
Read e1000_adapter first; then main.py, which uses it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastpath.base.skbuff import SkbPool
from fastpath.net.rings_driver import RxRing, TxRing
from fastpath.nic.mmio import readl, writel
from stack.core.netdevice import napi_struct, net_device
from stack.core.pci import pci_dev
from stack.core.rows import row, state
from stack.core.time64 import NSEC_PER_MSEC
from stack.core.workqueue import work_struct
from stack.drivers.e1000 import defs as d
from stack.machine import Machine

if TYPE_CHECKING:
    from stack.drivers.e1000.param import Params

DRV_NAME = "e1000"
DRV_VERSION = "7.3.21-k8-NAPI"
"""Version in ``ethtool -i``: that of the kernel driver on which this one is modelled."""

E1000_DEFAULT_TXD = 1024
E1000_MAX_82544_TXD = 4096
E1000_MIN_TXD = 48
E1000_DEFAULT_RXD = 1024
E1000_MAX_82544_RXD = 4096
E1000_MIN_RXD = 48
REQ_TX_DESCRIPTOR_MULTIPLE = 8
REQ_RX_DESCRIPTOR_MULTIPLE = 8

E1000_RXBUFFER_2048 = 2048
E1000_RXBUFFER_4096 = 4096
E1000_RX_POOL_BUFFERS = 8192
"""Receive buffers of a ring's pool: those in the ring plus those queued in sockets."""

E1000_MAX_DATA_PER_TXD = 1 << 16
"""Bytes per data descriptor. DTALEN has 20 bits; a page of the stack's payload pool is 32 KiB. The
kernel's 4 KiB suit the latency of a real PCI bus."""
E1000_MAX_PAYLEN = (1 << 20) - 1
"""PAYLEN of a TSO context has 20 bits (SDM 3.3.6): 718 segments of 1460 bytes."""
E1000_GSO_MAX_SIZE = 520 * 1024
"""Default GSO limit: half a MiB in whole segments, and headers. With larger packets cache misses
cost more than fewer packets save."""
E1000_MAX_INTR = 10
"""Rounds of the interrupt handler without NAPI."""
E1000_RX_FRAMES_PER_POLL = 512
"""Frames per NAPI poll. The budget counts merged sk_buffs, which may be 367 frames each."""

E1000_PAUSE_TIME = 0xFFFF
WATCHDOG_NS = 2_000_000_000
REFILL_RETRY_NS = NSEC_PER_MSEC

# adapter.flags (enum e1000_state_t, with __ before its names)
E1000_TESTING = 1 << 0
E1000_RESETTING = 1 << 1
E1000_DOWN = 1 << 2
E1000_NO_NAPI = 1 << 4
"""Ours: module parameter NAPI=0, the interrupt handler does the work."""
E1000_NO_TSO6 = 1 << 5
"""Ours: the part cannot segment IPv6 packets (see e1000_features)."""


class E1000HwError(Exception):
    """The hardware did not behave as documented: -E1000_ERR_EEPROM, _PHY, _CONFIG, ...

    `kind` is the kernel's name without its prefix. Never leaves the driver: probe and open turn it
    into ``OSError``, the watchdog counts it.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{message} (E1000_ERR_{kind})")
        self.kind = kind


@state
class e1000_eeprom_info:
    """The EEPROM's size and timing, set by `e1000_init_eeprom_params` (e1000_hw.h)."""

    word_size: int = row(64)
    opcode_bits: int = row(3)
    address_bits: int = row(6)


@state
class e1000_hw:
    """The hardware layer's state (struct e1000_hw): all state below net_device."""

    machine: Machine
    pdev: pci_dev
    bar_read: Callable[[int, int, int], int] = row(of=lambda hw: hw.pdev.bar_read)
    bar_write: Callable[[int, int, int, int], None] = row(of=lambda hw: hw.pdev.bar_write)
    io_bar: int = row(-1)
    vendor_id: int = row(of=lambda hw: hw.pdev.vendor)
    device_id: int = row(of=lambda hw: hw.pdev.device)
    subsystem_vendor_id: int = row(of=lambda hw: hw.pdev.subsystem_vendor)
    subsystem_id: int = row(of=lambda hw: hw.pdev.subsystem_device)
    revision_id: int = row(of=lambda hw: hw.pdev.revision)
    mac_type: int = row(d.e1000_undefined)
    media_type: int = row(d.e1000_media_type_copper)
    phy_type: int = row(d.e1000_phy_undefined)
    phy_addr: int = row(1)
    phy_id: int = row(0)
    phy_revision: int = row(0)
    bus_type: str = row("PCI")
    bus_width_bits: int = row(32)
    eeprom: e1000_eeprom_info = row(make=e1000_eeprom_info)
    mac_addr: bytes = row(b"\0" * 6)
    perm_mac_addr: bytes = row(b"\0" * 6)
    autoneg: bool = row(True)
    autoneg_advertised: int = row(d.AUTONEG_ADVERTISE_SPEED_DEFAULT)
    autoneg_failed: bool = row(False)
    txcw: int = row(0)
    forced_speed_duplex: int = row(0)
    get_link_status: bool = row(False)
    mdix: int = row(0)
    """ETH_TP_MDI or ETH_TP_MDI_X; 0: detect it."""
    fc: int = row(d.E1000_FC_DEFAULT)
    original_fc: int = row(d.E1000_FC_DEFAULT)
    fc_high_water: int = row(0)
    fc_low_water: int = row(0)
    fc_pause_time: int = row(d.E1000_FC_PAUSE_TIME)
    fc_send_xon: bool = row(True)
    mc_filter_type: int = row(0)
    max_frame_size: int = row(1518)
    ledctl_default: int = row(0)
    ledctl_mode1: int = row(0)
    ledctl_mode2: int = row(0)
    current_ifs_val: int = row(0)
    in_ifs_mode: bool = row(False)


def er32(hw: e1000_hw, reg: int) -> int:
    """e1000_osdep.h: read a register."""
    return readl(hw.bar_read, reg)


def ew32(hw: e1000_hw, reg: int, value: int) -> None:
    """e1000_osdep.h: write a register; the low 32 bits of `value` count."""
    writel(hw.bar_write, reg, value & 0xFFFF_FFFF)


def e1000_write_itr(hw: e1000_hw, rate: int) -> None:
    """Set ITR (units of 256 ns) to `rate` interrupts per second; 0: one for each cause."""
    ew32(hw, d.E1000_ITR, 10**9 // (rate * 256) if rate else 0)


def E1000_WRITE_FLUSH(hw: e1000_hw) -> None:
    """e1000_osdep.h: a read pushes posted writes to the device."""
    readl(hw.bar_read, d.E1000_STATUS)


@state
class e1000_hw_stats:
    """Totals of the hardware counters since probe (e1000_hw.h).

    gorcl, gotcl, torl and totl hold the 64-bit pairs.
    """

    crcerrs: int = row(0)
    algnerrc: int = row(0)
    symerrs: int = row(0)
    rxerrc: int = row(0)
    mpc: int = row(0)
    scc: int = row(0)
    ecol: int = row(0)
    mcc: int = row(0)
    latecol: int = row(0)
    colc: int = row(0)
    dc: int = row(0)
    tncrs: int = row(0)
    sec: int = row(0)
    cexterr: int = row(0)
    rlec: int = row(0)
    xonrxc: int = row(0)
    xontxc: int = row(0)
    xoffrxc: int = row(0)
    xofftxc: int = row(0)
    fcruc: int = row(0)
    prc64: int = row(0)
    prc127: int = row(0)
    prc255: int = row(0)
    prc511: int = row(0)
    prc1023: int = row(0)
    prc1522: int = row(0)
    gprc: int = row(0)
    bprc: int = row(0)
    mprc: int = row(0)
    gptc: int = row(0)
    gorcl: int = row(0)
    gotcl: int = row(0)
    rnbc: int = row(0)
    ruc: int = row(0)
    rfc: int = row(0)
    roc: int = row(0)
    rjc: int = row(0)
    mgtprc: int = row(0)
    mgtpdc: int = row(0)
    mgtptc: int = row(0)
    torl: int = row(0)
    totl: int = row(0)
    tpr: int = row(0)
    tpt: int = row(0)
    ptc64: int = row(0)
    ptc127: int = row(0)
    ptc255: int = row(0)
    ptc511: int = row(0)
    ptc1023: int = row(0)
    ptc1522: int = row(0)
    mptc: int = row(0)
    bptc: int = row(0)
    tsctc: int = row(0)
    tsctfc: int = row(0)

    # Sums of other counters, for ethtool and /proc/net/dev.
    rlerrc: int = row(0)
    txerrc: int = row(0)


@state
class e1000_adapter:
    """The driver's private part of a net_device (struct e1000_adapter)."""

    netdev: net_device
    machine: Machine = row(of=lambda adapter: adapter.netdev.machine)
    pdev: pci_dev = row()
    hw: e1000_hw = row()
    params: Params = row()
    bars: int = row(0)
    flags: int = row(0)
    msg_enable: int = row(7)
    tx_ring: TxRing = row()
    """Rings and pool exist while the interface is up; otherwise they are None."""
    rx_ring: RxRing = row()
    rx_pool: SkbPool = row()
    copybreak: int = row(0)
    tx_ring_count: int = row(E1000_DEFAULT_TXD)
    rx_ring_count: int = row(E1000_DEFAULT_RXD)
    rx_buffer_len: int = row(E1000_RXBUFFER_2048)
    napi: napi_struct = row(make=napi_struct)
    watchdog_task: work_struct = row()
    reset_task: work_struct = row()
    refill_task: work_struct = row()
    txd_cmd: int = row(0)
    ims_mask: int = row(0)
    tx_int_delay: int = row(0)
    tx_abs_int_delay: int = row(0)
    rx_int_delay: int = row(0)
    rx_abs_int_delay: int = row(0)
    itr: int = row(0)
    itr_setting: int = row(0)
    tx_itr: int = row(0)
    rx_itr: int = row(0)
    total_tx_bytes: int = row(0)
    total_tx_packets: int = row(0)
    total_rx_bytes: int = row(0)
    total_rx_packets: int = row(0)
    rx_csum: bool = row(True)
    rx_vlan_strip: bool = row(True)
    rx_all: bool = row(False)
    rx_frames_seen: int = row(0)
    rx_bytes_seen: int = row(0)
    rx_csum_good_seen: int = row(0)
    rx_csum_err_seen: int = row(0)
    hw_csum_err: int = row(0)
    hw_csum_good: int = row(0)
    alloc_rx_buff_failed: int = row(0)
    hw_errors: int = row(0)
    restart_queue: int = row(0)
    detect_tx_hung: bool = row(False)
    tx_clean_mark: int = row(0)
    tx_clean_tick: int = row(0)
    tx_hang_count: int = row(0)
    tx_timeout_count: int = row(0)
    link_speed: int = row(0)
    link_duplex: int = row(0)
    active_vlans: set[int] = row(make=set)
    stats: e1000_hw_stats = row(make=e1000_hw_stats)
    gorcl_old: int = row(0)
    gotcl_old: int = row(0)
    wol: int = row(0)
    eeprom_wol: int = row(0)
    fc_autoneg: bool = row(True)
    test_icr: int = row(0)
    fp_weight: int = row(E1000_RX_FRAMES_PER_POLL)
