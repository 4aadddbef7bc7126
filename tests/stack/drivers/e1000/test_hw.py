"""The hardware layer alone: EEPROM bit-banging, PHY, link, LEDs, addresses."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e1000emu.clock import VirtualClock
from stack.core.pci import PCI_DEVICE_ID, PCI_VENDOR_ID, pci_dev
from stack.drivers.e1000 import defs as d
from stack.drivers.e1000.e1000 import E1000HwError, e1000_hw
from stack.drivers.e1000.eeprom import (
    e1000_init_eeprom_params,
    e1000_read_eeprom,
    e1000_update_eeprom_checksum,
    e1000_validate_eeprom_checksum,
    e1000_write_eeprom,
)
from stack.drivers.e1000.hw import (
    MTA_SHIFTS,
    e1000_cleanup_led,
    e1000_config_fc_after_link_up,
    e1000_hash_mc_addr,
    e1000_led_off,
    e1000_led_on,
    e1000_rar_set,
    e1000_reset_hw,
    e1000_set_mac_type,
    e1000_setup_led,
    e1000_setup_link,
    e1000_update_adaptive,
    e1000_write_vfta,
)
from stack.drivers.e1000.phy import (
    e1000_copper_link_mgp_setup,
    e1000_detect_gig_phy,
    e1000_phy_crossed,
    e1000_phy_hw_reset,
    e1000_read_phy_reg,
    e1000_write_phy_reg,
)
from stack.host import Host
from tests.stack.drivers.e1000.machine import Machine, bring_up, recorded


@pytest.fixture
def machine() -> Machine:
    return recorded(up=False)


@pytest.fixture
def hw(machine: Machine) -> e1000_hw:
    return machine.adapter.hw


def test_eeprom_reads_what_the_part_holds(machine: Machine) -> None:
    assert e1000_read_eeprom(machine.adapter.hw, 0, 64) == list(machine.nic.eeprom.words[:64])


@pytest.mark.parametrize(("offset", "words"), [(-1, 1), (0, 0), (64, 1), (0, 65), (63, 2)])
def test_eeprom_out_of_range_is_refused(offset: int, words: int) -> None:
    with pytest.raises(E1000HwError, match="are not in an EEPROM of 64"):
        e1000_read_eeprom(recorded(up=False).adapter.hw, offset, words)


def test_eeprom_words_can_be_written_and_the_checksum_mended(hw: e1000_hw) -> None:
    e1000_write_eeprom(hw, 0x10, [0x1234, 0xABCD])
    assert e1000_read_eeprom(hw, 0x10, 2) == [0x1234, 0xABCD]
    with pytest.raises(E1000HwError, match="checksum"):
        e1000_validate_eeprom_checksum(hw)
    e1000_update_eeprom_checksum(hw)
    e1000_validate_eeprom_checksum(hw)


def test_eeprom_without_grant_gives_up(hw: e1000_hw) -> None:
    real = hw.bar_read
    hw.bar_read = lambda bar, off, size: (
        real(bar, off, size) & ~d.E1000_EECD_GNT if off == d.E1000_EECD else real(bar, off, size)
    )
    with pytest.raises(E1000HwError, match="grant"):
        e1000_read_eeprom(hw, 0)


def test_eeprom_that_never_finishes_a_write_gives_up(hw: e1000_hw) -> None:
    real = hw.bar_read
    hw.bar_read = lambda bar, off, size: (
        real(bar, off, size) & ~d.E1000_EECD_DO if off == d.E1000_EECD else real(bar, off, size)
    )
    with pytest.raises(E1000HwError, match="did not complete"):
        e1000_write_eeprom(hw, 3, [1])


def test_phy_registers_read_and_write(hw: e1000_hw) -> None:
    e1000_write_phy_reg(hw, d.PHY_AUTONEG_ADV, 0x0DE1)
    assert e1000_read_phy_reg(hw, d.PHY_AUTONEG_ADV) == 0x0DE1
    with pytest.raises(E1000HwError, match="does not exist"):
        e1000_read_phy_reg(hw, 32)


def test_absent_phy_is_an_error_not_a_hang(hw: e1000_hw) -> None:
    hw.phy_addr = 2
    with pytest.raises(E1000HwError):
        e1000_read_phy_reg(hw, d.PHY_ID1)


def test_mdio_that_never_gets_ready_is_an_error(hw: e1000_hw) -> None:
    real = hw.bar_read
    hw.bar_read = lambda bar, off, size: 0 if off == d.E1000_MDIC else real(bar, off, size)
    with pytest.raises(E1000HwError, match="did not complete"):
        e1000_read_phy_reg(hw, d.PHY_ID1)


def test_foreign_phy_is_refused(hw: e1000_hw) -> None:
    hw.phy_id = 0
    hw.mac_type = d.e1000_82544
    with pytest.raises(E1000HwError, match="invalid PHY id"):
        e1000_detect_gig_phy(hw)


def test_phy_info_needs_a_link(machine: Machine) -> None:
    bring_up(machine)
    e1000_phy_crossed(machine.adapter.hw)
    machine.link.set_carrier(False)
    with pytest.raises(E1000HwError, match="link is up"):
        e1000_phy_crossed(machine.adapter.hw)


PAUSE, ASM = d.NWAY_AR_PAUSE, d.NWAY_AR_ASM_DIR


@pytest.mark.parametrize(
    ("ours", "theirs", "wanted", "expected"),
    [
        (0, 0, d.E1000_FC_NONE, d.E1000_FC_NONE),
        (PAUSE, PAUSE, d.E1000_FC_FULL, d.E1000_FC_FULL),
        (PAUSE | ASM, PAUSE | ASM, d.E1000_FC_FULL, d.E1000_FC_FULL),
        (PAUSE | ASM, PAUSE, d.E1000_FC_RX_PAUSE, d.E1000_FC_RX_PAUSE),
        (ASM, PAUSE | ASM, d.E1000_FC_TX_PAUSE, d.E1000_FC_TX_PAUSE),
        (PAUSE | ASM, ASM, d.E1000_FC_FULL, d.E1000_FC_RX_PAUSE),
        (ASM, 0, d.E1000_FC_TX_PAUSE, d.E1000_FC_NONE),
        (PAUSE | ASM, 0, d.E1000_FC_FULL, d.E1000_FC_RX_PAUSE),
    ],
)
def test_pause_resolution(ours: int, theirs: int, wanted: int, expected: int) -> None:
    hw = recorded().adapter.hw
    hw.original_fc = wanted
    registers = {d.PHY_AUTONEG_ADV: ours, d.PHY_LP_ABILITY: theirs, d.PHY_STATUS: 0x24}
    real_read, real_write = hw.bar_read, hw.bar_write
    state = {"reg": 0}

    def bar_write(bar: int, off: int, value: int, size: int) -> None:
        if off == d.E1000_MDIC:
            state["reg"] = value >> 16 & 0x1F
        else:
            real_write(bar, off, value, size)

    def bar_read(bar: int, off: int, size: int) -> int:
        if off == d.E1000_MDIC:
            return d.E1000_MDIC_READY | registers[state["reg"]]
        return real_read(bar, off, size)

    hw.bar_read, hw.bar_write = bar_read, bar_write
    e1000_config_fc_after_link_up(hw)
    assert hw.fc == expected
    ctrl = real_read(0, d.E1000_CTRL, 4)
    assert bool(ctrl & d.E1000_CTRL_RFCE) == bool(expected & d.E1000_FC_RX_PAUSE)
    assert bool(ctrl & d.E1000_CTRL_TFCE) == bool(expected & d.E1000_FC_TX_PAUSE)


@cache
def a_device() -> e1000_hw:
    return recorded(up=False).adapter.hw


@given(st.binary(min_size=6, max_size=6), st.integers(0, 3))
def test_multicast_hash_is_twelve_bits_of_the_last_two_bytes(addr: bytes, mo: int) -> None:
    hw = a_device()
    hw.mc_filter_type = mo
    value = e1000_hash_mc_addr(hw, addr)
    assert value == int.from_bytes(addr[4:], "little") >> MTA_SHIFTS[mo] & 0xFFF


def test_receive_address_is_written_little_endian_with_av(machine: Machine) -> None:
    e1000_rar_set(machine.adapter.hw, bytes([1, 2, 3, 4, 5, 6]), 9)
    assert machine.reg(d.E1000_RA + 72) == 0x04030201
    assert machine.reg(d.E1000_RA + 76) == 0x80000605


def test_adaptive_spacing_grows_with_collisions_and_goes_when_it_is_quiet(
    machine: Machine, hw: e1000_hw
) -> None:
    values = []
    for _ in range(7):
        e1000_update_adaptive(hw, 1000, 2000)
        values.append(machine.reg(d.E1000_AIT))
    assert values == [40, 50, 60, 70, 80, 80, 80]
    e1000_update_adaptive(hw, 0, 2000)
    assert machine.reg(d.E1000_AIT) == 80
    e1000_update_adaptive(hw, 0, 10)
    assert machine.reg(d.E1000_AIT) == 0
    e1000_update_adaptive(hw, 500, 900)
    assert machine.reg(d.E1000_AIT) == 0


def test_unknown_device_id() -> None:
    ids = {PCI_VENDOR_ID: 0x8086, PCI_DEVICE_ID: 0x9999}
    slot = SimpleNamespace(
        bar_read=None, bar_write=None, config_read=lambda off, size: ids.get(off, 0)
    )
    pdev = pci_dev(Host("h", clock=VirtualClock()).machine, slot, 0, 0)
    with pytest.raises(E1000HwError, match="0x9999"):
        e1000_set_mac_type(e1000_hw(None, pdev))  # type: ignore[arg-type]


def test_reset_without_an_io_bar_goes_through_memory(machine: Machine) -> None:
    machine.adapter.hw.io_bar = -1
    resets = machine.nic.resets
    e1000_reset_hw(machine.adapter.hw)
    assert machine.nic.resets == resets + 1


# -- what an older part does otherwise (the register file of the 82540 stands in) ------------------


def test_82544_blinks_by_a_software_pin(machine: Machine, hw: e1000_hw) -> None:
    hw.mac_type = d.e1000_82544
    e1000_setup_led(hw)
    e1000_led_on(hw)
    assert machine.reg(d.E1000_CTRL) & d.E1000_CTRL_SWDPIN0
    e1000_led_off(hw)
    assert not machine.reg(d.E1000_CTRL) & d.E1000_CTRL_SWDPIN0
    assert machine.reg(d.E1000_CTRL) & d.E1000_CTRL_SWDPIO0
    e1000_cleanup_led(hw)


def test_82544_vlan_table_writes_the_even_neighbour_again(machine: Machine, hw: e1000_hw) -> None:
    hw.mac_type = d.e1000_82544
    e1000_write_vfta(hw, 4, 0x1111)
    writes: list[int] = []
    real = hw.bar_write

    def spy(bar: int, off: int, value: int, size: int) -> None:
        writes.append(off)
        real(bar, off, value, size)

    hw.bar_write = spy
    e1000_write_vfta(hw, 5, 0x2222)
    assert writes == [d.E1000_VFTA + 20, d.E1000_VFTA + 16]
    assert machine.reg(d.E1000_VFTA + 16) == 0x1111
    assert machine.reg(d.E1000_VFTA + 20) == 0x2222


def test_82544_reset_reads_the_eeprom_again_by_ee_rst(hw: e1000_hw) -> None:
    hw.mac_type = d.e1000_82544
    seen: list[int] = []
    real = hw.bar_write

    def spy(bar: int, off: int, value: int, size: int) -> None:
        if bar == 0 and off == d.E1000_CTRL_EXT:
            seen.append(value)
        real(bar, off, value, size)

    hw.bar_write = spy
    e1000_reset_hw(hw)
    assert any(value & d.E1000_CTRL_EXT_EE_RST for value in seen)


def test_82545_rev_3_resets_through_the_shadow_of_ctrl(machine: Machine, hw: e1000_hw) -> None:
    hw.mac_type = d.e1000_82545_rev_3
    resets = machine.nic.resets
    e1000_reset_hw(hw)
    assert machine.nic.resets == resets + 1


def test_large_eeprom_is_told_by_eecd(hw: e1000_hw) -> None:
    real = hw.bar_read
    hw.bar_read = lambda bar, off, size: (
        real(bar, off, size) | (d.E1000_EECD_SIZE if off == d.E1000_EECD else 0)
    )
    e1000_init_eeprom_params(hw)
    assert (hw.eeprom.word_size, hw.eeprom.address_bits) == (256, 8)


@pytest.mark.parametrize(
    ("word", "fc"), [(0x0000, d.E1000_FC_NONE), (0x2000, d.E1000_FC_TX_PAUSE), (0x1000, 3)]
)
def test_flow_control_default_comes_from_the_eeprom(word: int, fc: int, machine: Machine) -> None:
    words = machine.nic.eeprom.words
    words[0x0F] = words[0x0F] & ~0x3000 | word
    hw = machine.adapter.hw
    hw.fc = d.E1000_FC_DEFAULT
    e1000_setup_link(hw)
    assert hw.original_fc == fc


@pytest.mark.parametrize("mdix", [0, 1, 2])
def test_crossover_setting_reaches_the_phy(mdix: int, hw: e1000_hw) -> None:
    hw.mdix = mdix
    e1000_copper_link_mgp_setup(hw)
    control = e1000_read_phy_reg(hw, d.M88E1000_PHY_SPEC_CTRL)
    assert control & d.M88E1000_PSCR_AUTO_X_MODE == {0: 0x60, 1: 0x00, 2: 0x20}[mdix]
    assert not control & d.M88E1000_PSCR_POLARITY_REVERSAL


def test_phy_reset_by_its_pin(hw: e1000_hw) -> None:
    e1000_write_phy_reg(hw, d.PHY_AUTONEG_ADV, 0x0001)
    e1000_phy_hw_reset(hw)
    assert e1000_read_phy_reg(hw, d.PHY_AUTONEG_ADV) != 0x0001
