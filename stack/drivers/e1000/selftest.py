"""``ethtool -t``: register, EEPROM, interrupt, loopback and link test (e1000_ethtool.c).

    ethtool_self_test => e1000_diag_test
        e1000_link_test             first, since the others take the link down
        e1000_close                 the driver releases the NIC
        e1000_reg_test              reg_pattern_test, reg_set_and_check: do values read back?
        e1000_eeprom_test           the checksum
        e1000_intr_test             each cause, masked and unmasked, by ICS
        e1000_loopback_test         frames out and back:
            e1000_setup_desc_rings, e1000_setup_loopback_test
            e1000_run_loopback_test, e1000_loopback_cleanup
        e1000_open

After each step e1000_reset. A test returns 0 when it passes, else a number that says where it
failed: the register's offset, 1 for the EEPROM checksum, 1 or 3 to 5 for the interrupts, 1, 2 or 13
for the loopback. State: `adapter.test_icr` collects the causes of the interrupt test. Read
e1000_diag_test first.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable

from fastpath.base.dma import HostMemory
from stack.core.irq import IRQ_HANDLED, free_irq, request_irq
from stack.core.netdevice import net_device, netif_running
from stack.core.pci import flush_udelay, udelay
from stack.core.workqueue import msleep
from stack.drivers.e1000 import defs as d
from stack.drivers.e1000 import e1000 as e
from stack.drivers.e1000.e1000 import E1000_WRITE_FLUSH, E1000HwError, e1000_adapter, er32, ew32
from stack.drivers.e1000.eeprom import e1000_validate_eeprom_checksum
from stack.drivers.e1000.hw import e1000_check_for_link
from stack.drivers.e1000.phy import e1000_phy_reset, e1000_read_phy_reg, e1000_write_phy_reg
from stack.drivers.e1000.updown import e1000_close, e1000_open, e1000_power_up_phy, e1000_reset

TEST_NAMES = (
    "Register test  (offline)",
    "Eeprom test    (offline)",
    "Interrupt test (offline)",
    "Loopback test  (offline)",
    "Link test   (on/offline)",
)
ALL = 0xFFFF_FFFF
PATTERNS = (0x5A5A_5A5A, 0xA5A5_A5A5, 0x0000_0000, ALL)
STATUS_READ_ONLY = 0xFFFF_F833
RCTL_TESTED = 0x06DF_B3FE

# Pattern tests: (register, bits that must read back, bits written).
PATTERN_TESTS_FIRST = (
    (d.E1000_FCAL, ALL, ALL),
    (d.E1000_FCAH, 0xFFFF, ALL),
    (d.E1000_FCT, 0xFFFF, ALL),
    (d.E1000_VET, 0xFFFF, ALL),
    (d.E1000_RDTR, 0xFFFF, ALL),
    (d.E1000_RDBAH, ALL, ALL),
    (d.E1000_RDLEN, 0x000F_FF80, 0x000F_FFFF),
    (d.E1000_RDH, 0xFFFF, 0xFFFF),
    (d.E1000_RDT, 0xFFFF, 0xFFFF),
    (d.E1000_FCRTH, 0xFFF8, 0xFFF8),
    (d.E1000_FCTTV, 0xFFFF, 0xFFFF),
    (d.E1000_TIPG, 0x3FFF_FFFF, 0x3FFF_FFFF),
    (d.E1000_TDBAH, ALL, ALL),
    (d.E1000_TDLEN, 0x000F_FF80, 0x000F_FFFF),
)
SET_AND_CHECK = (
    (d.E1000_RCTL, ALL, 0x0000_0000),
    (d.E1000_RCTL, RCTL_TESTED, 0x003F_FFFB),
    (d.E1000_TCTL, ALL, 0x0000_0000),
    (d.E1000_RCTL, RCTL_TESTED, ALL),
)
PATTERN_TESTS_LAST = (
    (d.E1000_RDBAL, 0xFFFF_FFF0, ALL),
    (d.E1000_TXCW, 0xC000_FFFF, 0x0000_FFFF),
    (d.E1000_TDBAL, 0xFFFF_FFF0, ALL),
    (d.E1000_TIDV, 0xFFFF, 0xFFFF),
)


def reg_pattern_test(adapter: e1000_adapter, reg: int, mask: int, write: int) -> bool:
    """e1000_ethtool.c: every pattern must read back as written, within `mask`."""
    for pattern in PATTERNS:
        ew32(adapter.hw, reg, write & pattern)
        if er32(adapter.hw, reg) != write & pattern & mask:
            return False
    return True


def reg_set_and_check(adapter: e1000_adapter, reg: int, mask: int, write: int) -> bool:
    """e1000_ethtool.c: one value must read back within `mask`."""
    ew32(adapter.hw, reg, write & mask)
    return er32(adapter.hw, reg) & mask == write & mask


def e1000_reg_test(adapter: e1000_adapter) -> int:
    """e1000_ethtool.c: 0, 1 when STATUS could be written, else the offset of the bad register."""
    hw = adapter.hw
    before = er32(hw, d.E1000_STATUS)
    ew32(hw, d.E1000_STATUS, STATUS_READ_ONLY)
    if er32(hw, d.E1000_STATUS) & STATUS_READ_ONLY != before & STATUS_READ_ONLY:
        return 1
    ew32(hw, d.E1000_STATUS, before)
    for reg, mask, write in PATTERN_TESTS_FIRST:
        if not reg_pattern_test(adapter, reg, mask, write):
            return reg
    for reg, mask, write in SET_AND_CHECK:
        if not reg_set_and_check(adapter, reg, mask, write):
            return reg
    for reg, mask, write in PATTERN_TESTS_LAST:
        if not reg_pattern_test(adapter, reg, mask, write):
            return reg
    for index in range(d.E1000_RAR_ENTRIES):
        reg = d.E1000_RA + 8 * index + 4
        if not reg_pattern_test(adapter, reg, 0x8003_FFFF, ALL):
            return reg
    for index in range(d.E1000_NUM_MTA_REGISTERS):
        reg = d.E1000_MTA + 4 * index
        if not reg_pattern_test(adapter, reg, ALL, ALL):
            return reg
    return 0


def e1000_eeprom_test(adapter: e1000_adapter) -> int:
    """e1000_ethtool.c: 0 or 1."""
    try:
        e1000_validate_eeprom_checksum(adapter.hw)
    except E1000HwError:
        return 1
    return 0


def e1000_test_intr(irq: int, netdev: net_device) -> int:
    """e1000_ethtool.c: the handler of the interrupt test: record the causes."""
    adapter: e1000_adapter = netdev.priv
    adapter.test_icr |= er32(adapter.hw, d.E1000_ICR)
    return IRQ_HANDLED


def e1000_intr_test(adapter: e1000_adapter) -> int:
    """e1000_ethtool.c: 0; 1 no interrupt; 3 masked cause seen; 4 cause not seen; 5 another seen."""
    machine, hw, netdev = adapter.machine, adapter.hw, adapter.netdev
    if request_irq(machine, adapter.pdev.irq, e1000_test_intr, netdev, netdev.name):
        return 1
    try:
        ew32(hw, d.E1000_IMC, ALL)
        E1000_WRITE_FLUSH(hw)
        msleep(machine, 10)
        for bit in range(10):
            mask = 1 << bit
            result = _intr_step(adapter, mask)
            if result:
                return result
        return 0
    finally:
        ew32(hw, d.E1000_IMC, ALL)
        E1000_WRITE_FLUSH(hw)
        msleep(machine, 10)
        free_irq(machine, adapter.pdev.irq, netdev)


def _intr_step(adapter: e1000_adapter, mask: int) -> int:
    """One cause of e1000_intr_test."""

    def cause(mask_register: int, which: int) -> int:
        adapter.test_icr = 0
        ew32(adapter.hw, mask_register, which)
        ew32(adapter.hw, d.E1000_ICS, which)
        E1000_WRITE_FLUSH(adapter.hw)
        msleep(adapter.machine, 10)
        return adapter.test_icr

    if cause(d.E1000_IMC, mask) & mask:
        return 3
    if not cause(d.E1000_IMS, mask) & mask:
        return 4
    if cause(d.E1000_IMC, ~mask & 0x7FFF):
        return 5
    return 0


# -- loopback --------------------------------------------------------------------------------------

LB_DESCRIPTORS = 256
LB_FRAME_BYTES = 1024
LB_BUFFER_BYTES = 2048
LB_BURST = 64
LB_RING_BYTES = LB_DESCRIPTORS * 16
LB_BYTES = 2 * LB_RING_BYTES + LB_DESCRIPTORS * (LB_FRAME_BYTES + LB_BUFFER_BYTES)


def e1000_create_lbtest_frame() -> bytes:
    """e1000_ethtool.c: a broadcast frame with two marks in its second half."""
    half = LB_FRAME_BYTES // 2
    frame = bytearray(b"\xff" * half + b"\xaa" * half)
    frame[half + 10] = 0xBE
    frame[half + 12] = 0xAF
    return bytes(frame)


def e1000_check_lbtest_frame(data: bytes) -> bool:
    """e1000_ethtool.c: whether the received frame has the marks."""
    half = LB_FRAME_BYTES // 2
    return data[3] == 0xFF and data[half + 10] == 0xBE and data[half + 12] == 0xAF


class _LoopbackRings:
    """Rings of the loopback test: legacy descriptors over one piece of memory."""

    def __init__(self, ram: HostMemory) -> None:
        self.ram = ram
        self.tx = ram.alloc(LB_BYTES, 4096)
        self.rx = self.tx + LB_RING_BYTES
        self.tx_buffers = self.rx + LB_RING_BYTES
        self.rx_buffers = self.tx_buffers + LB_DESCRIPTORS * LB_FRAME_BYTES
        # RPS without RS: what the kernel's test sets.
        cmd = d.E1000_TXD_CMD_EOP | d.E1000_TXD_CMD_IFCS | d.E1000_TXD_CMD_RPS
        for index in range(LB_DESCRIPTORS):
            address = self.tx_buffers + index * LB_FRAME_BYTES
            ram.write(
                self.tx + 16 * index,
                struct.pack("<QHBBBBH", address, LB_FRAME_BYTES, 0, cmd, 0, 0, 0),
            )
            self.clear_rx(index)

    def clear_rx(self, index: int) -> None:
        """Return receive descriptor `index` to the device, with a cleared buffer."""
        address = self.rx_buffers + index * LB_BUFFER_BYTES
        self.ram.write(address, bytes(LB_FRAME_BYTES))
        self.ram.write(self.rx + 16 * index, struct.pack("<QQ", address, 0))

    def received(self, index: int) -> bool:
        """Whether descriptor `index` has the whole test frame."""
        status = self.ram.read(self.rx + 16 * index + 12, 1)[0]
        if not status & d.E1000_RXD_STAT_DD:
            return False
        return e1000_check_lbtest_frame(
            self.ram.read(self.rx_buffers + index * LB_BUFFER_BYTES, LB_FRAME_BYTES)
        )

    def free(self) -> None:
        """Free the memory."""
        self.ram.free(self.tx, LB_BYTES)


def e1000_setup_desc_rings(adapter: e1000_adapter) -> _LoopbackRings:
    """e1000_ethtool.c: the test's own rings, written to the device and enabled."""
    hw = adapter.hw
    rings = _LoopbackRings(adapter.machine.ram)
    ew32(hw, d.E1000_TDBAL, rings.tx)
    ew32(hw, d.E1000_TDBAH, rings.tx >> 32)
    ew32(hw, d.E1000_TDLEN, LB_RING_BYTES)
    ew32(hw, d.E1000_TDH, 0)
    ew32(hw, d.E1000_TDT, 0)
    ew32(
        hw,
        d.E1000_TCTL,
        d.E1000_TCTL_PSP
        | d.E1000_TCTL_EN
        | d.E1000_COLLISION_THRESHOLD << d.E1000_CT_SHIFT
        | d.E1000_COLLISION_DISTANCE << d.E1000_COLD_SHIFT,
    )
    ew32(hw, d.E1000_RCTL, er32(hw, d.E1000_RCTL) & ~d.E1000_RCTL_EN)
    ew32(hw, d.E1000_RDBAL, rings.rx)
    ew32(hw, d.E1000_RDBAH, rings.rx >> 32)
    ew32(hw, d.E1000_RDLEN, LB_RING_BYTES)
    ew32(hw, d.E1000_RDH, 0)
    ew32(hw, d.E1000_RDT, 0)
    ew32(
        hw,
        d.E1000_RCTL,
        d.E1000_RCTL_EN | d.E1000_RCTL_BAM | hw.mc_filter_type << d.E1000_RCTL_MO_SHIFT,
    )
    return rings


def e1000_integrated_phy_loopback(adapter: e1000_adapter) -> None:
    """e1000_ethtool.c: 1000 Mb/s full duplex through the PHY's loopback, the MAC forced alike."""
    hw = adapter.hw
    hw.autoneg = False
    e1000_write_phy_reg(hw, d.M88E1000_PHY_SPEC_CTRL, 0x0808)  # no crossover, CRS on transmit
    e1000_write_phy_reg(hw, d.PHY_CTRL, 0x9140)  # reset, so that the above takes effect
    e1000_write_phy_reg(hw, d.PHY_CTRL, 0x8140)  # no negotiation
    ctrl = er32(hw, d.E1000_CTRL)
    e1000_write_phy_reg(hw, d.PHY_CTRL, 0x4140)  # loopback, 1000, full duplex
    ctrl &= ~d.E1000_CTRL_SPD_SEL
    ctrl |= d.E1000_CTRL_FRCSPD | d.E1000_CTRL_FRCDPX | d.E1000_CTRL_SPD_1000 | d.E1000_CTRL_FD
    ctrl |= d.E1000_CTRL_ILOS
    ew32(hw, d.E1000_CTRL, ctrl)
    e1000_phy_disable_receiver(adapter)
    udelay(adapter.machine, 500)
    flush_udelay(adapter.machine)


def e1000_setup_loopback_test(adapter: e1000_adapter) -> None:
    """e1000_ethtool.c: frames come back at the PHY, on fibre at the transceiver.

    Linux also uses the PHY on a fibre 82545EM; none answers there, so its test fails with 13.
    """
    hw = adapter.hw
    if hw.media_type == d.e1000_media_type_fiber:
        ew32(hw, d.E1000_RCTL, er32(hw, d.E1000_RCTL) | d.E1000_RCTL_LBM_TCVR)
    else:
        e1000_integrated_phy_loopback(adapter)


def e1000_phy_disable_receiver(adapter: e1000_adapter) -> None:
    """e1000_ethtool.c: turn off the PHY's receiver during the test through its hidden pages.

    Ignores the errors of a PHY without these pages (QEMU's): the test frames give the result.
    """
    for page, value in ((0x1F, 0x8FFC), (0x1A, 0x8FF0)):
        with contextlib.suppress(E1000HwError):
            e1000_write_phy_reg(adapter.hw, d.M88E1000_PHY_PAGE_SELECT, page)
            e1000_write_phy_reg(adapter.hw, d.M88E1000_PHY_GEN_CONTROL, value)


def e1000_loopback_cleanup(adapter: e1000_adapter) -> None:
    """e1000_ethtool.c: loopback off, PHY reset, negotiation on."""
    hw = adapter.hw
    ew32(hw, d.E1000_RCTL, er32(hw, d.E1000_RCTL) & ~d.E1000_RCTL_LBM_MASK)
    hw.autoneg = True
    if hw.media_type == d.e1000_media_type_fiber:
        return
    control = e1000_read_phy_reg(hw, d.PHY_CTRL)
    if control & d.MII_CR_LOOPBACK:
        e1000_write_phy_reg(hw, d.PHY_CTRL, control & ~d.MII_CR_LOOPBACK)
        e1000_phy_reset(hw)


def e1000_run_loopback_test(adapter: e1000_adapter, rings: _LoopbackRings) -> int:
    """e1000_ethtool.c: bursts of 64 until both rings have wrapped twice. 0, or 13.

    Stricter than the kernel: every descriptor must be done, and buffers are cleared between rounds,
    so that each frame must arrive in its own round.
    """
    hw, ram = adapter.hw, adapter.machine.ram
    frame = e1000_create_lbtest_frame()
    ew32(hw, d.E1000_RDT, LB_DESCRIPTORS - 1)
    k = at = 0
    for _ in range(2 * (LB_DESCRIPTORS // LB_BURST) + 2):
        for _ in range(LB_BURST):
            ram.write(rings.tx_buffers + k * LB_FRAME_BYTES, frame)
            k = (k + 1) % LB_DESCRIPTORS
        ew32(hw, d.E1000_TDT, k)
        E1000_WRITE_FLUSH(hw)
        msleep(adapter.machine, 200)
        for _ in range(LB_BURST):
            if not rings.received(at):
                return 13
            rings.clear_rx(at)
            at = (at + 1) % LB_DESCRIPTORS
        ew32(hw, d.E1000_RDT, (at - 1) % LB_DESCRIPTORS)
    return 0


def e1000_loopback_test(adapter: e1000_adapter) -> int:
    """e1000_ethtool.c: frames out and back through the PHY. 0, 1 no memory, 2 PHY, 13 frames."""
    try:
        rings = e1000_setup_desc_rings(adapter)
    except MemoryError:
        return 1
    try:
        e1000_power_up_phy(adapter)
        e1000_setup_loopback_test(adapter)
        result = e1000_run_loopback_test(adapter, rings)
        e1000_loopback_cleanup(adapter)
    except E1000HwError:
        result = 2
    finally:
        ew32(adapter.hw, d.E1000_RCTL, 0)
        ew32(adapter.hw, d.E1000_TCTL, d.E1000_TCTL_PSP)
        rings.free()
    return result


def e1000_link_test(adapter: e1000_adapter) -> int:
    """e1000_ethtool.c: 0 with a link, else 1."""
    hw = adapter.hw
    try:
        e1000_check_for_link(hw)
        if hw.autoneg:
            msleep(adapter.machine, 4000)
    except E1000HwError:
        return 1
    return 0 if er32(hw, d.E1000_STATUS) & d.E1000_STATUS_LU else 1


def e1000_diag_test(netdev: net_device, flags: int) -> tuple[bool, list[int]]:
    """e1000_ethtool.c: (failed, results of the five tests). Bit 0 of `flags`: offline."""
    adapter: e1000_adapter = netdev.priv
    hw = adapter.hw
    running = netif_running(netdev)
    adapter.flags |= e.E1000_TESTING
    results = [0] * len(TEST_NAMES)
    if flags & 1:
        saved = hw.autoneg_advertised, hw.forced_speed_duplex, hw.autoneg
        # First the link test, since the others take the link down.
        results[4] = e1000_link_test(adapter)
        if running:
            e1000_close(netdev)
        else:
            e1000_reset(adapter)
        steps: tuple[tuple[int, Callable[[e1000_adapter], int]], ...] = (
            (0, e1000_reg_test),
            (1, e1000_eeprom_test),
            (2, e1000_intr_test),
        )
        for index, test in steps:
            results[index] = test(adapter)
            e1000_reset(adapter)
        results[3] = e1000_loopback_test(adapter)
        hw.autoneg_advertised, hw.forced_speed_duplex, hw.autoneg = saved
        e1000_reset(adapter)
        adapter.flags &= ~e.E1000_TESTING
        if running:
            e1000_open(netdev)
    else:
        results[4] = e1000_link_test(adapter)
        adapter.flags &= ~e.E1000_TESTING
    msleep(adapter.machine, 4000)
    return any(results), results
