"""The board: how its blocks are joined, and its resets."""

from __future__ import annotations

import pytest

from e1000emu.device.board import BUS_RESET, INTERNAL_RESET
from e1000emu.testing.bench import Bench, make_bench
from tests.e1000emu.common import rd, running, wr

BLOCKS = (
    *("bar0", "eeprom", "filters", "flash", "interrupts", "io_bar", "link_unit", "management"),
    *("mdic", "pci", "phy", "pins", "slot", "wakeup", "watch", "flow", "rx", "tx"),
)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_does_not_hold_the_board(name: str) -> None:
    nic = make_bench(model="82545EM").nic
    block = getattr(nic, name)
    names = {*getattr(block, "__dict__", ()), *getattr(type(block), "__slots__", ())}
    assert [n for n in names if getattr(block, n, None) is nic] == []


def test_of_several_resets_the_strongest_is_done_once() -> None:
    nic = running().nic
    resets = nic.resets
    nic.slot.config_write(0x3C, 7, 1)
    nic.shared.in_engine = True
    nic.request_reset()
    nic.request_reset(BUS_RESET)
    nic.request_reset(INTERNAL_RESET)
    assert nic.resets == resets
    nic.shared.in_engine = False
    nic.finish_reset()
    assert nic.resets == resets + 1
    assert nic.slot.config_read(0x3C, 1) == 0


def test_a_removed_device_answers_nothing_and_its_cable_is_out() -> None:
    nic = running().nic
    nic.surprise_removal()
    assert nic.slot.config_read(0, 4) == nic.slot.bar_read(0, 0, 4) == 0xFFFFFFFF
    nic.link_changed(True, 1000, True)
    nic.power_on_reset()
    assert not nic.phy.cable_up


def test_a_write_of_ctrl_reaches_flow_control_pins_and_link_unit(bench: Bench) -> None:
    nic, ctrl = bench.nic, rd(bench.nic, "CTRL")
    wr(nic, "CTRL", ctrl | 1 << 31)  # PHY_RST
    assert nic.phy.held_in_reset
    wr(nic, "CTRL", ctrl | 1 << 22 | 1 << 18)  # SDP0 is an output, high
    assert nic.pins.level(0)
    assert not nic.phy.held_in_reset
