"""The hardware layer alone: EEPROM bit-banging, PHY, link, LEDs, addresses."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.drivers.e1000 import defs as d
from stack.drivers.e1000.e1000 import E1000HwError, e1000_hw
from stack.drivers.e1000.eeprom import (
    e1000_read_eeprom,
    e1000_update_eeprom_checksum,
    e1000_validate_eeprom_checksum,
    e1000_write_eeprom,
)
from stack.drivers.e1000.hw import (
    MTA_SHIFTS,
    e1000_config_fc_after_link_up,
    e1000_hash_mc_addr,
    e1000_rar_set,
    e1000_reset_hw,
    e1000_set_mac_type,
    e1000_update_adaptive,
)
from stack.drivers.e1000.phy import (
    e1000_detect_gig_phy,
    e1000_phy_get_info,
    e1000_read_phy_reg,
    e1000_wait_autoneg,
    e1000_write_phy_reg,
)
from tests.stack.drivers.e1000.machine import SECOND, recorded


def test_eeprom_reads_what_the_part_holds() -> None:
    machine = recorded(up=False)
    assert e1000_read_eeprom(machine.adapter.hw, 0, 64) == list(machine.nic.eeprom.words[:64])


@pytest.mark.parametrize(("offset", "words"), [(-1, 1), (0, 0), (64, 1), (0, 65), (63, 2)])
def test_eeprom_out_of_range_is_refused(offset: int, words: int) -> None:
    with pytest.raises(E1000HwError, match="are not in an EEPROM of 64"):
        e1000_read_eeprom(recorded(up=False).adapter.hw, offset, words)


def test_eeprom_words_can_be_written_and_the_checksum_mended() -> None:
    machine = recorded(up=False)
    hw = machine.adapter.hw
    e1000_write_eeprom(hw, 0x10, [0x1234, 0xABCD])
    assert e1000_read_eeprom(hw, 0x10, 2) == [0x1234, 0xABCD]
    with pytest.raises(E1000HwError, match="checksum"):
        e1000_validate_eeprom_checksum(hw)
    e1000_update_eeprom_checksum(hw)
    e1000_validate_eeprom_checksum(hw)


def test_eeprom_without_grant_gives_up() -> None:
    hw = recorded(up=False).adapter.hw
    real = hw.bar_read
    hw.bar_read = lambda bar, off, size: (
        real(bar, off, size) & ~d.E1000_EECD_GNT if off == d.E1000_EECD else real(bar, off, size)
    )
    with pytest.raises(E1000HwError, match="grant"):
        e1000_read_eeprom(hw, 0)


def test_eeprom_that_never_finishes_a_write_gives_up() -> None:
    hw = recorded(up=False).adapter.hw
    real = hw.bar_read
    hw.bar_read = lambda bar, off, size: (
        real(bar, off, size) & ~d.E1000_EECD_DO if off == d.E1000_EECD else real(bar, off, size)
    )
    with pytest.raises(E1000HwError, match="did not complete"):
        e1000_write_eeprom(hw, 3, [1])


def test_phy_registers_read_and_write() -> None:
    hw = recorded(up=False).adapter.hw
    e1000_write_phy_reg(hw, d.PHY_AUTONEG_ADV, 0x0DE1)
    assert e1000_read_phy_reg(hw, d.PHY_AUTONEG_ADV) == 0x0DE1
    with pytest.raises(E1000HwError, match="does not exist"):
        e1000_read_phy_reg(hw, 32)


def test_absent_phy_is_an_error_not_a_hang() -> None:
    hw = recorded(up=False).adapter.hw
    hw.phy_addr = 2
    with pytest.raises(E1000HwError):
        e1000_read_phy_reg(hw, d.PHY_ID1)


def test_mdio_that_never_gets_ready_is_an_error() -> None:
    hw = recorded(up=False).adapter.hw
    real = hw.bar_read
    hw.bar_read = lambda bar, off, size: 0 if off == d.E1000_MDIC else real(bar, off, size)
    with pytest.raises(E1000HwError, match="did not complete"):
        e1000_read_phy_reg(hw, d.PHY_ID1)


def test_foreign_phy_is_refused() -> None:
    hw = recorded(up=False).adapter.hw
    hw.phy_id = 0
    hw.mac_type = d.e1000_82544
    with pytest.raises(E1000HwError, match="invalid PHY id"):
        e1000_detect_gig_phy(hw)


def test_waiting_for_autonegotiation() -> None:
    machine = recorded(up=False)
    start = machine.clock.now_ns()
    e1000_wait_autoneg(machine.adapter.hw)
    assert 0 < machine.clock.now_ns() - start <= 4.5 * SECOND


def test_phy_info_needs_a_link() -> None:
    machine = recorded()
    info = e1000_phy_get_info(machine.adapter.hw)
    assert (info.local_rx, info.remote_rx) == (True, True)
    machine.link.set_carrier(False)
    with pytest.raises(E1000HwError, match="link is up"):
        e1000_phy_get_info(machine.adapter.hw)


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


@given(st.binary(min_size=6, max_size=6), st.integers(0, 3))
def test_multicast_hash_is_twelve_bits_of_the_last_two_bytes(addr: bytes, mo: int) -> None:
    hw = SimpleNamespace(mc_filter_type=mo)
    value = e1000_hash_mc_addr(hw, addr)  # type: ignore[arg-type]
    assert value == int.from_bytes(addr[4:], "little") >> MTA_SHIFTS[mo] & 0xFFF


def test_receive_address_is_written_little_endian_with_av() -> None:
    machine = recorded(up=False)
    e1000_rar_set(machine.adapter.hw, bytes([1, 2, 3, 4, 5, 6]), 9)
    assert machine.reg(d.E1000_RA + 72) == 0x04030201
    assert machine.reg(d.E1000_RA + 76) == 0x80000605


def test_adaptive_spacing_grows_with_collisions_and_goes_when_it_is_quiet() -> None:
    machine = recorded(up=False)
    hw = machine.adapter.hw
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
    pdev = SimpleNamespace(
        bar_read=None,
        bar_write=None,
        vendor=0x8086,
        device=0x9999,
        subsystem_vendor=0,
        subsystem_device=0,
        revision=0,
    )
    with pytest.raises(E1000HwError, match="0x9999"):
        e1000_set_mac_type(e1000_hw(None, pdev))  # type: ignore[arg-type]


def test_reset_without_an_io_bar_goes_through_memory() -> None:
    machine = recorded(up=False)
    machine.adapter.hw.io_bar = -1
    resets = machine.nic.resets
    e1000_reset_hw(machine.adapter.hw)
    assert machine.nic.resets == resets + 1
