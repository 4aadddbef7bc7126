"""The generated register reference."""

from __future__ import annotations

import pytest

from e1000emu import regdoc
from e1000emu.regs import TABLE


def test_every_register_stands_in_the_page() -> None:
    page = regdoc.markdown()
    for r in TABLE:
        assert f"| {r.name} |" in page if r.group == "statistics" else f"### {r.name}: " in page


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
