"""The MAC: reset, initialisation, link, filters, flow control, LEDs (e1000_hw.c; SDM 14).

    e1000_probe -> e1000_set_mac_type, e1000_set_media_type, e1000_get_bus_info
    e1000_reset -> e1000_reset_hw -> e1000_init_hw
        e1000_id_led_init, e1000_init_rx_addrs, e1000_clear_vfta
        e1000_setup_link            flow control from the EEPROM, then by medium:
            e1000_setup_copper_link         PHY (phy.py), e1000_copper_link_postconfig
            e1000_setup_fiber_serdes_link
        e1000_clear_hw_cntrs
    watchdog -> e1000_check_for_link -> e1000_config_fc_after_link_up
             -> e1000_get_speed_and_duplex, e1000_update_adaptive
    e1000_set_rx_mode, VLANs -> e1000_rar_set, e1000_hash_mc_addr, e1000_write_vfta
    ethtool -p -> e1000_setup_led, e1000_led_on, e1000_led_off, e1000_cleanup_led

State is `e1000_hw` (e1000.py): MAC type, medium, `fc` (flow control), `get_link_status` (the link
may have changed; read the PHY). Functions raise E1000HwError. The EEPROM and PHY halves of the
kernel's file are eeprom.py and phy.py beside this one. Read e1000_init_hw first.
"""

from __future__ import annotations

from stack.core.pci import flush_udelay, udelay
from stack.core.workqueue import msleep
from stack.drivers.e1000 import defs as d
from stack.drivers.e1000.e1000 import E1000_WRITE_FLUSH, E1000HwError, e1000_hw, er32, ew32
from stack.drivers.e1000.eeprom import e1000_read_eeprom
from stack.drivers.e1000.phy import (
    e1000_config_collision_dist,
    e1000_copper_link_autoneg,
    e1000_copper_link_mgp_setup,
    e1000_detect_gig_phy,
    e1000_phy_force_speed_duplex,
    e1000_phy_hw_reset,
    e1000_phy_link_up,
    e1000_read_phy_reg,
)

MAC_TYPES = {
    d.E1000_DEV_ID_82540EM: d.e1000_82540,
    d.E1000_DEV_ID_82540EM_LOM: d.e1000_82540,
    d.E1000_DEV_ID_82540EP: d.e1000_82540,
    d.E1000_DEV_ID_82540EP_LOM: d.e1000_82540,
    d.E1000_DEV_ID_82540EP_LP: d.e1000_82540,
    d.E1000_DEV_ID_82544EI_COPPER: d.e1000_82544,
    d.E1000_DEV_ID_82544EI_FIBER: d.e1000_82544,
    d.E1000_DEV_ID_82544GC_COPPER: d.e1000_82544,
    d.E1000_DEV_ID_82544GC_LOM: d.e1000_82544,
    d.E1000_DEV_ID_82545EM_COPPER: d.e1000_82545,
    d.E1000_DEV_ID_82545EM_FIBER: d.e1000_82545,
    d.E1000_DEV_ID_82545GM_COPPER: d.e1000_82545_rev_3,
}
"""Supported devices (e1000_pci_tbl), each with its MAC type."""

RESET_THROUGH_IO = (d.e1000_82544, d.e1000_82540, d.e1000_82545)
"""Parts that may hang the bus when CTRL.RST is written through memory; the I/O BAR is safe."""


def e1000_set_mac_type(hw: e1000_hw) -> None:
    """e1000_hw.c: set the MAC type from the device id.

    Raises: E1000HwError: the device id is not supported.
    """
    mac_type = MAC_TYPES.get(hw.device_id)
    if mac_type is None:
        raise E1000HwError("MAC_TYPE", f"unknown MAC type: device id {hw.device_id:#06x}")
    hw.mac_type = mac_type


def e1000_set_media_type(hw: e1000_hw) -> None:
    """e1000_hw.c: copper, or fibre when STATUS says that the link is behind a ten-bit interface."""
    fiber = er32(hw, d.E1000_STATUS) & d.E1000_STATUS_TBIMODE
    hw.media_type = d.e1000_media_type_fiber if fiber else d.e1000_media_type_copper


def e1000_get_bus_info(hw: e1000_hw) -> None:
    """e1000_hw.c: bus type and width from STATUS."""
    status = er32(hw, d.E1000_STATUS)
    hw.bus_type = "PCI-X" if status & d.E1000_STATUS_PCIX_MODE else "PCI"
    hw.bus_width_bits = 64 if status & d.E1000_STATUS_BUS64 else 32


def e1000_io_write(hw: e1000_hw, port: int, value: int) -> None:
    """e1000_main.c: outl to the I/O BAR."""
    hw.bar_write(hw.io_bar, port, value & 0xFFFF_FFFF, 4)


def e1000_write_reg_io(hw: e1000_hw, offset: int, value: int) -> None:
    """e1000_hw.c: write a register through IOADDR and IODATA (SDM 13.1.3)."""
    e1000_io_write(hw, 0, offset)
    e1000_io_write(hw, 4, value)


def e1000_reset_hw(hw: e1000_hw) -> None:
    """e1000_hw.c: stop everything and reset the MAC; PCI configuration and PHY stay."""
    ew32(hw, d.E1000_IMC, d.ALL_INTERRUPTS)
    ew32(hw, d.E1000_RCTL, 0)
    ew32(hw, d.E1000_TCTL, d.E1000_TCTL_PSP)
    E1000_WRITE_FLUSH(hw)
    msleep(hw.machine, 10)  # wait for bus transactions to finish
    ctrl = er32(hw, d.E1000_CTRL)
    if hw.mac_type in RESET_THROUGH_IO and hw.io_bar >= 0:
        e1000_write_reg_io(hw, d.E1000_CTRL, ctrl | d.E1000_CTRL_RST)
    elif hw.mac_type == d.e1000_82545_rev_3:
        ew32(hw, d.E1000_CTRL_DUP, ctrl | d.E1000_CTRL_RST)
    else:
        ew32(hw, d.E1000_CTRL, ctrl | d.E1000_CTRL_RST)
    if hw.mac_type == d.e1000_82544:
        udelay(hw.machine, 10)
        flush_udelay(hw.machine)
        ew32(hw, d.E1000_CTRL_EXT, er32(hw, d.E1000_CTRL_EXT) | d.E1000_CTRL_EXT_EE_RST)
        E1000_WRITE_FLUSH(hw)
        msleep(hw.machine, 2)
    else:
        msleep(hw.machine, 5)  # the EEPROM is reloaded (e1000_get_auto_rd_done)
    if hw.mac_type >= d.e1000_82540:
        # Otherwise the manageability block answers ARP requests.
        ew32(hw, d.E1000_MANC, er32(hw, d.E1000_MANC) & ~d.E1000_MANC_ARP_EN)
    ew32(hw, d.E1000_IMC, d.ALL_INTERRUPTS)
    er32(hw, d.E1000_ICR)


def e1000_init_hw(hw: e1000_hw) -> None:
    """e1000_hw.c: after a reset: filters cleared, link set up, counters cleared.

    Raises: E1000HwError: EEPROM or PHY do not answer.
    """
    e1000_id_led_init(hw)
    e1000_set_media_type(hw)
    e1000_clear_vfta(hw)
    e1000_init_rx_addrs(hw)
    for index in range(d.E1000_NUM_MTA_REGISTERS):
        ew32(hw, d.E1000_MTA + 4 * index, 0)
    E1000_WRITE_FLUSH(hw)
    e1000_setup_link(hw)
    if hw.mac_type > d.e1000_82544:
        txdctl = er32(hw, d.E1000_TXDCTL)
        ew32(hw, d.E1000_TXDCTL, txdctl & ~0x003F_0000 | d.E1000_TXDCTL_FULL_TX_DESC_WB)
    e1000_clear_hw_cntrs(hw)


# -- link ------------------------------------------------------------------------------------------


def e1000_setup_link(hw: e1000_hw) -> None:
    """e1000_hw.c: flow control from EEPROM word 0Fh, the PHY, and the pause registers."""
    if hw.fc == d.E1000_FC_DEFAULT:
        word = e1000_read_eeprom(hw, d.EEPROM_INIT_CONTROL2_REG)[0]
        pause = word & d.EEPROM_WORD0F_PAUSE_MASK
        if pause == 0:
            hw.fc = d.E1000_FC_NONE
        elif pause == d.EEPROM_WORD0F_ASM_DIR:
            hw.fc = d.E1000_FC_TX_PAUSE
        else:
            hw.fc = d.E1000_FC_FULL
    hw.original_fc = hw.fc
    if hw.media_type == d.e1000_media_type_copper:
        e1000_setup_copper_link(hw)
    else:
        e1000_setup_fiber_serdes_link(hw)
    ew32(hw, d.E1000_FCT, d.FLOW_CONTROL_TYPE)
    ew32(hw, d.E1000_FCAH, d.FLOW_CONTROL_ADDRESS_HIGH)
    ew32(hw, d.E1000_FCAL, d.FLOW_CONTROL_ADDRESS_LOW)
    ew32(hw, d.E1000_FCTTV, hw.fc_pause_time)
    if not hw.fc & d.E1000_FC_TX_PAUSE:
        ew32(hw, d.E1000_FCRTL, 0)
        ew32(hw, d.E1000_FCRTH, 0)
    else:
        xon = d.E1000_FCRTL_XONE if hw.fc_send_xon else 0
        ew32(hw, d.E1000_FCRTL, hw.fc_low_water | xon)
        ew32(hw, d.E1000_FCRTH, hw.fc_high_water)


FIBER_ADVERTISEMENT = {
    d.E1000_FC_NONE: 0,
    # Receiving PAUSE only cannot be advertised (IEEE 802.3 table 37-2): offer both.
    d.E1000_FC_RX_PAUSE: d.E1000_TXCW_PAUSE_MASK,
    d.E1000_FC_TX_PAUSE: d.E1000_TXCW_ASM_DIR,
    d.E1000_FC_FULL: d.E1000_TXCW_PAUSE_MASK,
}


def e1000_setup_fiber_serdes_link(hw: e1000_hw) -> None:
    """e1000_hw.c: take the link unit out of reset, negotiate; wait for the link if there is light.

    Raises: E1000HwError: hw.fc is invalid.
    """
    # The optics drive pin 1: high with light, on the 82544 low.
    signal = d.E1000_CTRL_SWDPIN1 if hw.mac_type > d.e1000_82544 else 0
    ctrl = er32(hw, d.E1000_CTRL) & ~d.E1000_CTRL_LRST
    e1000_config_collision_dist(hw)
    if hw.fc not in FIBER_ADVERTISEMENT:
        raise E1000HwError("CONFIG", f"flow control {hw.fc} is none of 0..3")
    hw.txcw = d.E1000_TXCW_ANE | d.E1000_TXCW_FD | FIBER_ADVERTISEMENT[hw.fc]
    ew32(hw, d.E1000_TXCW, hw.txcw)
    ew32(hw, d.E1000_CTRL, ctrl)
    E1000_WRITE_FLUSH(hw)
    msleep(hw.machine, 1)
    if er32(hw, d.E1000_CTRL) & d.E1000_CTRL_SWDPIN1 != signal:
        return
    for _ in range(d.LINK_UP_TIMEOUT // 10):
        msleep(hw.machine, 10)
        if er32(hw, d.E1000_STATUS) & d.E1000_STATUS_LU:
            break
    else:
        # The far end may not negotiate: the link is then forced.
        hw.autoneg_failed = True
        e1000_check_for_link(hw)
    hw.autoneg_failed = False


def e1000_copper_link_preconfig(hw: e1000_hw) -> None:
    """e1000_hw.c: let the MAC follow the PHY, and identify the PHY."""
    ctrl = er32(hw, d.E1000_CTRL) | d.E1000_CTRL_SLU
    if hw.mac_type == d.e1000_82544:
        ctrl |= d.E1000_CTRL_FRCSPD | d.E1000_CTRL_FRCDPX
        ew32(hw, d.E1000_CTRL, ctrl)
        e1000_phy_hw_reset(hw)
        ctrl = er32(hw, d.E1000_CTRL) | d.E1000_CTRL_SLU
    ctrl &= ~(d.E1000_CTRL_FRCSPD | d.E1000_CTRL_FRCDPX)
    ew32(hw, d.E1000_CTRL, ctrl)
    e1000_detect_gig_phy(hw)


def e1000_setup_copper_link(hw: e1000_hw) -> None:
    """e1000_hw.c: set up the PHY. The watchdog detects the link later."""
    e1000_copper_link_preconfig(hw)
    e1000_copper_link_mgp_setup(hw)
    if hw.autoneg:
        e1000_copper_link_autoneg(hw)
    else:
        e1000_phy_force_speed_duplex(hw)
    for _ in range(10):
        if e1000_phy_link_up(hw):
            e1000_copper_link_postconfig(hw)
            return
        udelay(hw.machine, 10)


def e1000_copper_link_postconfig(hw: e1000_hw) -> None:
    """e1000_hw.c: the link is up already: set the MAC for it."""
    e1000_config_collision_dist(hw)
    e1000_config_fc_after_link_up(hw)


def e1000_get_speed_and_duplex(hw: e1000_hw) -> tuple[int, int]:
    """e1000_hw.c: (Mb/s, HALF_DUPLEX or FULL_DUPLEX) from STATUS."""
    status = er32(hw, d.E1000_STATUS)
    if status & d.E1000_STATUS_SPEED_1000:
        speed = d.SPEED_1000
    elif status & d.E1000_STATUS_SPEED_100:
        speed = d.SPEED_100
    else:
        speed = d.SPEED_10
    return speed, d.FULL_DUPLEX if status & d.E1000_STATUS_FD else d.HALF_DUPLEX


def e1000_force_mac_fc(hw: e1000_hw) -> None:
    """e1000_hw.c: CTRL.RFCE and TFCE as hw.fc says."""
    ctrl = er32(hw, d.E1000_CTRL) & ~(d.E1000_CTRL_TFCE | d.E1000_CTRL_RFCE)
    if hw.fc & d.E1000_FC_RX_PAUSE:
        ctrl |= d.E1000_CTRL_RFCE
    if hw.fc & d.E1000_FC_TX_PAUSE:
        ctrl |= d.E1000_CTRL_TFCE
    ew32(hw, d.E1000_CTRL, ctrl)


def e1000_config_fc_after_link_up(hw: e1000_hw) -> None:
    """e1000_hw.c: resolve pause from both sides' advertisements (IEEE 802.3 table 28B-3).

    On fibre the hardware sets CTRL from the resolution, unless the link had to be forced.
    """
    if hw.media_type == d.e1000_media_type_fiber:
        if hw.autoneg_failed:
            e1000_force_mac_fc(hw)
        return
    if not hw.autoneg:
        e1000_force_mac_fc(hw)
        return
    e1000_read_phy_reg(hw, d.PHY_STATUS)
    if not e1000_read_phy_reg(hw, d.PHY_STATUS) & d.MII_SR_AUTONEG_COMPLETE:
        return
    ours = e1000_read_phy_reg(hw, d.PHY_AUTONEG_ADV)
    theirs = e1000_read_phy_reg(hw, d.PHY_LP_ABILITY)
    our_pause, our_asm = bool(ours & d.NWAY_AR_PAUSE), bool(ours & d.NWAY_AR_ASM_DIR)
    their_pause, their_asm = bool(theirs & d.NWAY_LPAR_PAUSE), bool(theirs & d.NWAY_LPAR_ASM_DIR)
    if our_pause and their_pause:
        # Both sides symmetric: full, unless hw.fc only allows receiving pause frames.
        hw.fc = d.E1000_FC_FULL if hw.original_fc == d.E1000_FC_FULL else d.E1000_FC_RX_PAUSE
    elif not our_pause and our_asm and their_pause and their_asm:
        hw.fc = d.E1000_FC_TX_PAUSE
    elif our_pause and our_asm and not their_pause and their_asm:
        hw.fc = d.E1000_FC_RX_PAUSE
    elif hw.original_fc in (d.E1000_FC_NONE, d.E1000_FC_TX_PAUSE):
        hw.fc = d.E1000_FC_NONE
    else:
        hw.fc = d.E1000_FC_RX_PAUSE
    if e1000_get_speed_and_duplex(hw)[1] == d.HALF_DUPLEX:
        hw.fc = d.E1000_FC_NONE  # pause frames exist in full duplex only
    e1000_force_mac_fc(hw)


def e1000_check_for_serdes_link_generic(hw: e1000_hw) -> None:
    """e1000_hw.c: force the link if the far end does not negotiate, until it does."""
    ctrl = er32(hw, d.E1000_CTRL)
    status = er32(hw, d.E1000_STATUS)
    rxcw = er32(hw, d.E1000_RXCW)
    if not status & d.E1000_STATUS_LU and not rxcw & d.E1000_RXCW_C:
        if not hw.autoneg_failed:
            hw.autoneg_failed = True  # the far end may answer until the next call
            return
        ew32(hw, d.E1000_TXCW, hw.txcw & ~d.E1000_TXCW_ANE)
        ctrl = er32(hw, d.E1000_CTRL) | d.E1000_CTRL_SLU | d.E1000_CTRL_FD
        ew32(hw, d.E1000_CTRL, ctrl)
        e1000_config_fc_after_link_up(hw)
    elif ctrl & d.E1000_CTRL_SLU and rxcw & d.E1000_RXCW_C:
        ew32(hw, d.E1000_TXCW, hw.txcw)
        ew32(hw, d.E1000_CTRL, ctrl & ~d.E1000_CTRL_SLU)


def e1000_check_for_link(hw: e1000_hw) -> None:
    """e1000_hw.c: after a link change, read the PHY and set the MAC; clears get_link_status.

    Raises: E1000HwError: the PHY does not answer.
    """
    if hw.media_type == d.e1000_media_type_fiber:
        if er32(hw, d.E1000_STATUS) & d.E1000_STATUS_LU:
            hw.get_link_status = False
        e1000_check_for_serdes_link_generic(hw)
        return
    if not hw.get_link_status:
        return
    if not e1000_phy_link_up(hw):
        return
    hw.get_link_status = False
    if not hw.autoneg:
        return
    e1000_config_collision_dist(hw)
    e1000_config_fc_after_link_up(hw)


# -- filters ---------------------------------------------------------------------------------------


def e1000_rar_set(hw: e1000_hw, addr: bytes, index: int) -> None:
    """e1000_hw.c: put `addr` into receive address entry `index`, valid (SDM 13.5.2)."""
    low = int.from_bytes(addr[:4], "little")
    high = int.from_bytes(addr[4:6], "little") | d.E1000_RAH_AV
    ew32(hw, d.E1000_RA + 8 * index, low)
    E1000_WRITE_FLUSH(hw)
    ew32(hw, d.E1000_RA + 8 * index + 4, high)
    E1000_WRITE_FLUSH(hw)


def e1000_rar_clear(hw: e1000_hw, index: int) -> None:
    """Empty receive address entry `index`."""
    ew32(hw, d.E1000_RA + 8 * index, 0)
    E1000_WRITE_FLUSH(hw)
    ew32(hw, d.E1000_RA + 8 * index + 4, 0)
    E1000_WRITE_FLUSH(hw)


def e1000_init_rx_addrs(hw: e1000_hw) -> None:
    """e1000_hw.c: our address in entry 0, the others empty."""
    e1000_rar_set(hw, hw.mac_addr, 0)
    for index in range(1, d.E1000_RAR_ENTRIES):
        e1000_rar_clear(hw, index)


MTA_SHIFTS = (4, 3, 2, 0)
"""How far the 16 bits of address bytes 4 and 5 are shifted, by RCTL.MO (SDM 13.5.1)."""


def e1000_hash_mc_addr(hw: e1000_hw, addr: bytes) -> int:
    """e1000_hw.c: the 12-bit multicast table index of `addr`."""
    return (addr[4] | addr[5] << 8) >> MTA_SHIFTS[hw.mc_filter_type] & 0xFFF


def e1000_clear_vfta(hw: e1000_hw) -> None:
    """e1000_hw.c: clear the VLAN filter."""
    for index in range(d.E1000_VLAN_FILTER_TBL_SIZE):
        e1000_write_vfta(hw, index, 0)


def e1000_write_vfta(hw: e1000_hw, index: int, value: int) -> None:
    """e1000_hw.c: write VLAN filter word `index`.

    82544: a write to an even entry may destroy the odd one before it, so that is written again.
    """
    if hw.mac_type == d.e1000_82544 and index & 1:
        before = er32(hw, d.E1000_VFTA + 4 * (index - 1))
        ew32(hw, d.E1000_VFTA + 4 * index, value)
        E1000_WRITE_FLUSH(hw)
        ew32(hw, d.E1000_VFTA + 4 * (index - 1), before)
    else:
        ew32(hw, d.E1000_VFTA + 4 * index, value)
    E1000_WRITE_FLUSH(hw)


# -- LEDs ------------------------------------------------------------------------------------------

LEDCTL_MODE_LED_ON = 0xE
LEDCTL_MODE_LED_OFF = 0xF


def e1000_id_led_init(hw: e1000_hw) -> None:
    """e1000_hw.c: from EEPROM word 4, LEDCTL values for "on" and "off" when identifying."""
    if hw.mac_type < d.e1000_82540:
        return
    ledctl = er32(hw, d.E1000_LEDCTL)
    hw.ledctl_default = hw.ledctl_mode1 = hw.ledctl_mode2 = ledctl
    settings = e1000_read_eeprom(hw, d.EEPROM_ID_LED_SETTINGS)[0]
    if settings in (d.ID_LED_RESERVED_0000, d.ID_LED_RESERVED_FFFF):
        settings = d.ID_LED_DEFAULT
    for led in range(4):
        mode = settings >> 4 * led & 0xF
        shift = 8 * led
        # Rows 4..9 of the EEPROM map: low half mode 1, high half mode 2; DEF, ON or OFF each.
        if mode in (4, 5, 6):
            hw.ledctl_mode1 = _led_mode(hw.ledctl_mode1, shift, LEDCTL_MODE_LED_ON)
        elif mode in (7, 8, 9):
            hw.ledctl_mode1 = _led_mode(hw.ledctl_mode1, shift, LEDCTL_MODE_LED_OFF)
        if mode in (2, 5, 8):
            hw.ledctl_mode2 = _led_mode(hw.ledctl_mode2, shift, LEDCTL_MODE_LED_ON)
        elif mode in (3, 6, 9):
            hw.ledctl_mode2 = _led_mode(hw.ledctl_mode2, shift, LEDCTL_MODE_LED_OFF)


def _led_mode(ledctl: int, shift: int, mode: int) -> int:
    return ledctl & ~(0xFF << shift) | mode << shift


def e1000_setup_led(hw: e1000_hw) -> None:
    """e1000_hw.c: set up the LEDs for identification."""
    if hw.mac_type >= d.e1000_82540:
        hw.ledctl_default = er32(hw, d.E1000_LEDCTL)
        ew32(hw, d.E1000_LEDCTL, hw.ledctl_mode1)


def e1000_cleanup_led(hw: e1000_hw) -> None:
    """e1000_hw.c: restore the LEDs."""
    if hw.mac_type >= d.e1000_82540:
        ew32(hw, d.E1000_LEDCTL, hw.ledctl_default)


def e1000_led_on(hw: e1000_hw) -> None:
    """e1000_hw.c: light the identification LED (82544: software pin 0, driven high)."""
    if hw.mac_type < d.e1000_82540:
        ctrl = er32(hw, d.E1000_CTRL) | d.E1000_CTRL_SWDPIN0 | d.E1000_CTRL_SWDPIO0
        ew32(hw, d.E1000_CTRL, ctrl)
    else:
        ew32(hw, d.E1000_LEDCTL, hw.ledctl_mode2)


def e1000_led_off(hw: e1000_hw) -> None:
    """e1000_hw.c: switch off the identification LED (82544: software pin 0, driven low)."""
    if hw.mac_type < d.e1000_82540:
        ctrl = er32(hw, d.E1000_CTRL) & ~d.E1000_CTRL_SWDPIN0 | d.E1000_CTRL_SWDPIO0
        ew32(hw, d.E1000_CTRL, ctrl)
    else:
        ew32(hw, d.E1000_LEDCTL, hw.ledctl_mode1)


# -- counters --------------------------------------------------------------------------------------

STATISTICS_64 = tuple(
    (low, d.STATISTICS[low], d.STATISTICS[high])
    for low, high in (("gorcl", "gorch"), ("gotcl", "gotch"), ("torl", "torh"), ("totl", "toth"))
)
"""(member, low register, high register); reading the high half clears both (SDM 13.7)."""
STATISTICS = tuple(
    (name, reg)
    for name, reg in d.STATISTICS.items()
    if not any(reg in (low, high) for _, low, high in STATISTICS_64)
)
"""(member of e1000_hw_stats, register) of the 32-bit counters."""


def e1000_clear_hw_cntrs(hw: e1000_hw) -> None:
    """e1000_hw.c: read every statistics register; reading clears."""
    bar_read = hw.bar_read
    for _, reg in STATISTICS:
        bar_read(0, reg, 4)
    for _, low, high in STATISTICS_64:
        bar_read(0, low, 4)
        bar_read(0, high, 4)


# -- adaptive inter-frame spacing (half duplex) ---------------------------------------------------

IFS_MAX = 80
IFS_MIN = 40
IFS_STEP = 10
IFS_RATIO = 4
MIN_NUM_XMITS = 1000


def e1000_reset_adaptive(hw: e1000_hw) -> None:
    """e1000_hw.c: no extra spacing."""
    hw.current_ifs_val = 0
    hw.in_ifs_mode = False
    ew32(hw, d.E1000_AIT, 0)


def e1000_update_adaptive(hw: e1000_hw, collisions: int, packets: int) -> None:
    """e1000_hw.c: add spacing if over a quarter of `packets` since the last call collided."""
    if collisions * IFS_RATIO > packets:
        if packets > MIN_NUM_XMITS:
            hw.in_ifs_mode = True
            if hw.current_ifs_val < IFS_MAX:
                hw.current_ifs_val = (
                    hw.current_ifs_val + IFS_STEP if hw.current_ifs_val else IFS_MIN
                )
                ew32(hw, d.E1000_AIT, hw.current_ifs_val)
    elif hw.in_ifs_mode and packets <= MIN_NUM_XMITS:
        e1000_reset_adaptive(hw)
