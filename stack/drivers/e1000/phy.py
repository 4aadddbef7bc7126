"""The copper PHY through MDIC (the PHY half of e1000_hw.c; SDM 11, 13.4.8; IEEE 802.3 clause 22).

The 8254x carries a Marvell 88E1000-family PHY at MDIO address 1.
"""

from __future__ import annotations

from stack.core.pci import flush_udelay, udelay
from stack.core.workqueue import msleep
from stack.drivers.e1000 import defs as d
from stack.drivers.e1000.e1000 import E1000_WRITE_FLUSH, E1000HwError, e1000_hw, er32, ew32

PHY_IDS = {
    d.e1000_82544: (d.M88E1000_I_PHY_ID,),
    d.e1000_82540: (d.M88E1011_I_PHY_ID,),
    d.e1000_82545: (d.M88E1011_I_PHY_ID,),
    d.e1000_82545_rev_3: (d.M88E1011_I_PHY_ID,),
}
"""The PHY that each MAC must have (e1000_detect_gig_phy)."""


def _mdic(hw: e1000_hw, command: int, reg: int) -> int:
    """Start an MDIO cycle and wait for READY; return MDIC."""
    if reg > d.MAX_PHY_REG_ADDRESS:
        raise E1000HwError("PARAM", f"PHY register {reg} does not exist")
    ew32(
        hw,
        d.E1000_MDIC,
        command | reg << d.E1000_MDIC_REG_SHIFT | hw.phy_addr << d.E1000_MDIC_PHY_SHIFT,
    )
    for _ in range(d.E1000_GEN_POLL_TIMEOUT):
        mdic = er32(hw, d.E1000_MDIC)
        if mdic & d.E1000_MDIC_READY:
            break
        udelay(hw.machine, 50)
    else:
        raise E1000HwError("PHY", f"MDI access to PHY register {reg} did not complete")
    if mdic & d.E1000_MDIC_ERROR:
        raise E1000HwError("PHY", f"MDI error at PHY register {reg}")
    return mdic


def e1000_read_phy_reg(hw: e1000_hw, reg: int) -> int:
    """e1000_hw.c: read a 16-bit PHY register. Raises: E1000HwError: no answer, or the error bit."""
    return _mdic(hw, d.E1000_MDIC_OP_READ, reg) & d.E1000_MDIC_DATA_MASK


def e1000_write_phy_reg(hw: e1000_hw, reg: int, value: int) -> None:
    """e1000_hw.c: write a 16-bit PHY register.

    Raises: E1000HwError: no answer, or the error bit.
    """
    _mdic(hw, d.E1000_MDIC_OP_WRITE | value & d.E1000_MDIC_DATA_MASK, reg)


def e1000_phy_hw_reset(hw: e1000_hw) -> None:
    """e1000_hw.c: reset the PHY by its pin (CTRL.PHY_RST) and wait for it."""
    ctrl = er32(hw, d.E1000_CTRL)
    ew32(hw, d.E1000_CTRL, ctrl | d.E1000_CTRL_PHY_RST)
    E1000_WRITE_FLUSH(hw)
    msleep(hw.machine, 10)
    ew32(hw, d.E1000_CTRL, ctrl & ~d.E1000_CTRL_PHY_RST)
    E1000_WRITE_FLUSH(hw)
    udelay(hw.machine, 150)
    flush_udelay(hw.machine)


def e1000_phy_reset(hw: e1000_hw) -> None:
    """e1000_hw.c: reset the PHY by BMCR bit 15; settings that wait for a reset take effect."""
    control = e1000_read_phy_reg(hw, d.PHY_CTRL)
    e1000_write_phy_reg(hw, d.PHY_CTRL, control | d.MII_CR_RESET)
    udelay(hw.machine, 1)


def e1000_detect_gig_phy(hw: e1000_hw) -> None:
    """e1000_hw.c: read the PHY's id and check that it belongs to this MAC.

    Raises: E1000HwError: an unexpected PHY.
    """
    if hw.phy_id:
        return
    high = e1000_read_phy_reg(hw, d.PHY_ID1)
    udelay(hw.machine, 20)
    low = e1000_read_phy_reg(hw, d.PHY_ID2)
    phy_id = high << 16 | low
    hw.phy_revision = phy_id & ~d.PHY_REVISION_MASK
    hw.phy_id = phy_id & d.PHY_REVISION_MASK
    if hw.phy_id not in PHY_IDS.get(hw.mac_type, ()):
        wrong, hw.phy_id = hw.phy_id, 0
        raise E1000HwError("PHY", f"invalid PHY id {wrong:#010x} for this MAC")
    hw.phy_type = d.e1000_phy_m88


def e1000_copper_link_mgp_setup(hw: e1000_hw) -> None:
    """e1000_hw.c: settings of the M88 PHY: crossover, polarity, clock, downshift; then reset it."""
    control = e1000_read_phy_reg(hw, d.M88E1000_PHY_SPEC_CTRL)
    control |= d.M88E1000_PSCR_ASSERT_CRS_ON_TX
    control &= ~d.M88E1000_PSCR_AUTO_X_MODE
    control |= {
        1: d.M88E1000_PSCR_MDI_MANUAL_MODE,
        2: d.M88E1000_PSCR_MDIX_MANUAL_MODE,
    }.get(hw.mdix, d.M88E1000_PSCR_AUTO_X_MODE)
    control &= ~d.M88E1000_PSCR_POLARITY_REVERSAL
    e1000_write_phy_reg(hw, d.M88E1000_PHY_SPEC_CTRL, control)
    if hw.phy_revision < 4:
        control = e1000_read_phy_reg(hw, d.M88E1000_EXT_PHY_SPEC_CTRL)
        control |= d.M88E1000_EPSCR_TX_CLK_25
        control &= ~(d.M88E1000_EPSCR_MASTER_DOWNSHIFT_MASK | d.M88E1000_EPSCR_SLAVE_DOWNSHIFT_MASK)
        control |= d.M88E1000_EPSCR_MASTER_DOWNSHIFT_1X | d.M88E1000_EPSCR_SLAVE_DOWNSHIFT_1X
        e1000_write_phy_reg(hw, d.M88E1000_EXT_PHY_SPEC_CTRL, control)
    e1000_phy_reset(hw)


ADVERTISE_TO_NWAY = (
    (d.ADVERTISE_10_HALF, d.NWAY_AR_10T_HD_CAPS),
    (d.ADVERTISE_10_FULL, d.NWAY_AR_10T_FD_CAPS),
    (d.ADVERTISE_100_HALF, d.NWAY_AR_100TX_HD_CAPS),
    (d.ADVERTISE_100_FULL, d.NWAY_AR_100TX_FD_CAPS),
)

PAUSE_ADVERTISEMENT = {
    d.E1000_FC_NONE: 0,
    # Receiving PAUSE only cannot be advertised (IEEE 802.3 annex 28B): offer both, resolve later.
    d.E1000_FC_RX_PAUSE: d.NWAY_AR_PAUSE | d.NWAY_AR_ASM_DIR,
    d.E1000_FC_TX_PAUSE: d.NWAY_AR_ASM_DIR,
    d.E1000_FC_FULL: d.NWAY_AR_PAUSE | d.NWAY_AR_ASM_DIR,
}


def e1000_phy_setup_autoneg(hw: e1000_hw) -> None:
    """e1000_hw.c: write the advertisement, registers 4 and 9, from hw.autoneg_advertised and fc."""
    advertise = e1000_read_phy_reg(hw, d.PHY_AUTONEG_ADV) & ~0x0DE0
    gigabit = e1000_read_phy_reg(hw, d.PHY_1000T_CTRL) & ~(d.CR_1000T_HD_CAPS | d.CR_1000T_FD_CAPS)
    for wanted, bit in ADVERTISE_TO_NWAY:
        if hw.autoneg_advertised & wanted:
            advertise |= bit
    if hw.autoneg_advertised & d.ADVERTISE_1000_FULL:
        gigabit |= d.CR_1000T_FD_CAPS
    if hw.fc not in PAUSE_ADVERTISEMENT:
        raise E1000HwError("CONFIG", f"flow control {hw.fc} is none of 0..3")
    advertise |= PAUSE_ADVERTISEMENT[hw.fc]
    e1000_write_phy_reg(hw, d.PHY_AUTONEG_ADV, advertise)
    e1000_write_phy_reg(hw, d.PHY_1000T_CTRL, gigabit)


def e1000_copper_link_autoneg(hw: e1000_hw) -> None:
    """e1000_hw.c: advertise, start negotiation."""
    hw.autoneg_advertised &= d.AUTONEG_ADVERTISE_SPEED_DEFAULT
    if not hw.autoneg_advertised:
        hw.autoneg_advertised = d.AUTONEG_ADVERTISE_SPEED_DEFAULT
    e1000_phy_setup_autoneg(hw)
    control = e1000_read_phy_reg(hw, d.PHY_CTRL)
    control |= d.MII_CR_AUTO_NEG_EN | d.MII_CR_RESTART_AUTO_NEG
    e1000_write_phy_reg(hw, d.PHY_CTRL, control)
    hw.get_link_status = True


def e1000_phy_link_up(hw: e1000_hw) -> bool:
    """Whether the PHY has a link now: BMSR's link bit latches low (IEEE 802.3 22.2.4.2.13)."""
    e1000_read_phy_reg(hw, d.PHY_STATUS)
    return bool(e1000_read_phy_reg(hw, d.PHY_STATUS) & d.MII_SR_LINK_STATUS)


def e1000_phy_force_speed_duplex(hw: e1000_hw) -> None:
    """e1000_hw.c: 10 or 100 Mb/s without negotiation, in MAC and PHY (gigabit must negotiate)."""
    hw.fc = d.E1000_FC_NONE  # pause cannot be agreed on without negotiation
    ctrl = er32(hw, d.E1000_CTRL)
    ctrl |= d.E1000_CTRL_FRCSPD | d.E1000_CTRL_FRCDPX
    ctrl &= ~(d.E1000_CTRL_SPD_SEL | d.E1000_CTRL_ASDE | d.E1000_CTRL_FD)
    control = e1000_read_phy_reg(hw, d.PHY_CTRL) & ~(
        d.MII_CR_AUTO_NEG_EN | d.MII_CR_SPEED_1000 | d.MII_CR_SPEED_100 | d.MII_CR_FULL_DUPLEX
    )
    if hw.forced_speed_duplex & 1:  # e1000_10_full, e1000_100_full
        ctrl |= d.E1000_CTRL_FD
        control |= d.MII_CR_FULL_DUPLEX
    if hw.forced_speed_duplex & d.E1000_100_HALF:
        ctrl |= d.E1000_CTRL_SPD_100
        control |= d.MII_CR_SPEED_100
    e1000_config_collision_dist(hw)
    ew32(hw, d.E1000_CTRL, ctrl)
    # Crossover detection needs negotiation.
    spec = e1000_read_phy_reg(hw, d.M88E1000_PHY_SPEC_CTRL) & ~d.M88E1000_PSCR_AUTO_X_MODE
    e1000_write_phy_reg(hw, d.M88E1000_PHY_SPEC_CTRL, spec)
    e1000_write_phy_reg(hw, d.PHY_CTRL, control | d.MII_CR_RESET)
    udelay(hw.machine, 1)
    # The reset cleared the clock for forced speeds and CRS: set them again.
    extended = e1000_read_phy_reg(hw, d.M88E1000_EXT_PHY_SPEC_CTRL) | d.M88E1000_EPSCR_TX_CLK_25
    e1000_write_phy_reg(hw, d.M88E1000_EXT_PHY_SPEC_CTRL, extended)
    spec = e1000_read_phy_reg(hw, d.M88E1000_PHY_SPEC_CTRL) | d.M88E1000_PSCR_ASSERT_CRS_ON_TX
    e1000_write_phy_reg(hw, d.M88E1000_PHY_SPEC_CTRL, spec)
    hw.get_link_status = True


def e1000_config_collision_dist(hw: e1000_hw) -> None:
    """e1000_hw.c: set TCTL's collision distance for the link's duplex."""
    tctl = er32(hw, d.E1000_TCTL) & ~d.E1000_TCTL_COLD
    tctl |= d.E1000_COLLISION_DISTANCE << d.E1000_COLD_SHIFT
    ew32(hw, d.E1000_TCTL, tctl)
    E1000_WRITE_FLUSH(hw)


def e1000_phy_crossed(hw: e1000_hw) -> bool:
    """e1000_hw.c e1000_phy_get_info: whether the PHY has crossed the pairs.

    Raises: E1000HwError: there is no link.
    """
    if not e1000_phy_link_up(hw):
        raise E1000HwError("CONFIG", "PHY info is only valid while the link is up")
    return bool(e1000_read_phy_reg(hw, d.M88E1000_PHY_SPEC_STATUS) & d.M88E1000_PSSR_MDIX)


def e1000_power_up_phy_hw(hw: e1000_hw) -> None:
    """Clear BMCR's power-down bit (the PHY half of e1000_main.c e1000_power_up_phy)."""
    control = e1000_read_phy_reg(hw, d.PHY_CTRL)
    e1000_write_phy_reg(hw, d.PHY_CTRL, control & ~d.MII_CR_POWER_DOWN)
