"""The generated register reference."""

from __future__ import annotations

import pytest

from e1000emu.registers import regdoc
from e1000emu.registers.descriptors import LAYOUTS
from e1000emu.registers.eeprommap import EEPROM_MAP
from e1000emu.registers.phyregs import PHY_TABLE
from e1000emu.registers.regs import TABLE


def test_every_register_stands_in_the_page() -> None:
    page = regdoc.markdown()
    for r in TABLE:
        assert f"| {r.name} |" in page if r.group == "statistics" else f"### {r.name}: " in page


def test_phy_eeprom_and_descriptors_stand_in_the_page() -> None:
    page = regdoc.markdown()
    for r in PHY_TABLE:
        assert f"### {r.name}: {r.title}\n\nnumber {r.offset}, reset `{r.reset:04X}`" in page
    words = page.partition("## EEPROM")[2]
    for r in EEPROM_MAP:
        assert f"| {r.name} |" in words
    for layout in LAYOUTS.values():
        assert f"### {layout.title}" in page


def test_every_group_has_a_heading() -> None:
    assert {r.group for r in TABLE} == {group for group, _ in regdoc.GROUPS}


def test_tables_are_well_formed() -> None:
    width = 0
    for line in regdoc.markdown().splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        cells = line.replace("\\|", "").count("|")
        assert width in (0, cells), line
        width = cells


def test_main_prints_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    regdoc.main()
    assert capsys.readouterr().out == regdoc.markdown()
