"""The PHY's register table is what the PHY does, and what drivers know of it."""

from __future__ import annotations

import re

import pytest

from e1000emu.device.phy import Phy
from e1000emu.registers import phyregs
from e1000emu.registers.fields import Access, Reg, bit, rsv
from e1000emu.registers.phyregs import PHY_TABLE, phy_reg
from e1000emu.testing.bench import make_bench
from stack.drivers.e1000 import defs

WRITE_RESTARTS = ("BMCR", "PAGE", "PAGE_DATA")  # have tests of their own


@pytest.fixture
def phy() -> Phy:
    return make_bench().nic.phy


def test_every_bit_is_claimed_once() -> None:
    assert list(phyregs.check_phy_table()) == []


def test_check_finds_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = (Reg("A", 1, "", "", (bit("X", 0), bit("X", 0))), Reg("B", 1, "", "", (rsv(16, 0),)))
    monkeypatch.setattr(phyregs, "PHY_TABLE", bad)
    text = "\n".join(phyregs.check_phy_table())
    for fault in ("numbers", "A.X: bits claimed twice", "A: bits 0xfffe", "B.: bits 16:0", "twice"):
        assert fault in text


@pytest.mark.parametrize("row", PHY_TABLE, ids=lambda row: row.name)
def test_reads_its_reset_value_without_a_cable(phy: Phy, row: Reg) -> None:
    phy.cable(False, 1000, True)
    phy.hard_reset()
    assert phy.read(row.offset) == row.reset


@pytest.mark.parametrize("row", PHY_TABLE, ids=lambda row: row.name)
@pytest.mark.parametrize("value", [0, 0xFFFF, 0x5A5A])
def test_writable_bits_store_and_no_other(phy: Phy, row: Reg, value: int) -> None:
    if row.name in WRITE_RESTARTS:
        return
    phy.cable(False, 1000, True)
    phy.hard_reset()
    phy.write(row.offset, value)
    mask = row.stored_mask
    assert phy.read(row.offset) == value & mask | row.reset & ~mask


def test_numbers_without_a_row_read_nothing(phy: Phy) -> None:
    for n in set(range(32)) - {r.offset for r in PHY_TABLE}:
        phy.write(n, 0xFFFF)
        assert phy.read(n) == 0


def test_registers_that_a_read_clears(phy: Phy) -> None:
    cleared = [r for r in PHY_TABLE if all(f.access in (Access.RC, Access.RSV) for f in r.fields)]
    assert {r.name for r in cleared} == {"PISR", "RXERR"}
    for r in cleared:
        phy.regs[r.offset] = set_ = r.rc_mask & 0x00FF
        assert (phy.read(r.offset), phy.read(r.offset)) == (set_, 0)


def test_the_driver_knows_the_same_bits() -> None:
    """stack/drivers/e1000/defs.py has the kernel's numbers, written down independently."""
    for name, row in (("PSCR", "PSCR"), ("PSSR", "PSSR"), ("EPSCR", "EPSCR")):
        for key, value in vars(defs).items():
            found = re.fullmatch(rf"M88E1000_{name}_(\w+)", key)
            if found is None or found[1] not in {f.name for f in phy_reg(row).fields}:
                continue
            assert phy_reg(row).mask(found[1]) == value, key
    assert phy_reg("PSSR").mask("SPEED") == defs.M88E1000_PSSR_SPEED
    assert phy_reg("PSCR").field("MDI_MODE").put(3) == defs.M88E1000_PSCR_AUTO_X_MODE
    assert phy_reg("EPSCR").field("TX_CLK").put(7) == defs.M88E1000_EPSCR_TX_CLK_25
    for constant, row in (
        ("PHY_CTRL", "BMCR"),
        ("PHY_STATUS", "BMSR"),
        ("PHY_ID1", "PHYID1"),
        ("PHY_AUTONEG_ADV", "ANAR"),
        ("PHY_LP_ABILITY", "ANLPAR"),
        ("PHY_AUTONEG_EXP", "ANER"),
        ("PHY_1000T_CTRL", "GTCR"),
        ("PHY_1000T_STATUS", "GTSR"),
        ("PHY_EXT_STATUS", "ESTATUS"),
        ("M88E1000_PHY_SPEC_CTRL", "PSCR"),
        ("M88E1000_PHY_SPEC_STATUS", "PSSR"),
        ("M88E1000_INT_ENABLE", "PIER"),
        ("M88E1000_INT_STATUS", "PISR"),
        ("M88E1000_EXT_PHY_SPEC_CTRL", "EPSCR"),
        ("M88E1000_RX_ERR_CNTR", "RXERR"),
        ("M88E1000_PHY_PAGE_SELECT", "PAGE"),
        ("M88E1000_PHY_GEN_CONTROL", "PAGE_DATA"),
    ):
        assert phy_reg(row).offset == getattr(defs, constant)
    identity = phy_reg("PHYID1").reset << 16 | phy_reg("PHYID2").reset
    assert identity == defs.M88E1011_I_PHY_ID
