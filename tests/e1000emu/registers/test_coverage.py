"""`e1000emu regs --coverage`: what is modelled is counted, what is not has its reason."""

from __future__ import annotations

import json

from click.testing import CliRunner

from e1000emu.cli.regs import command
from e1000emu.registers.coverage import SPACES, gaps, shares


def test_every_named_bit_is_counted_once() -> None:
    for share in shares():
        named = sum(f.hi - f.lo + 1 for r in SPACES[share.space] for f in r.fields if f.name)
        missing = sum(gap.hi - gap.lo + 1 for gap in gaps() if gap.space == share.space)
        assert (share.named, share.modelled) == (named, named - missing)
        assert 0 < share.modelled < share.named


def test_a_gap_is_a_field_with_its_reason() -> None:
    found = {(gap.space, gap.register, gap.name): gap for gap in gaps()}
    assert len(found) == len(gaps())
    for (space, register, name), gap in found.items():
        (row,) = [r for r in SPACES[space] if r.name == register]
        (f,) = [f for f in row.fields if f.name == name]
        assert gap.why == f.todo
        assert len(gap.why) >= 8


def test_command() -> None:
    told = json.loads(CliRunner().invoke(command, ["--coverage", "--json"]).output)
    assert [row["space"] for row in told["spaces"]] == list(SPACES)
    assert len(told["gaps"]) == len(gaps())
    text = CliRunner().invoke(command, ["--coverage"]).output
    for gap in gaps():
        assert gap.register in text
    assert CliRunner().invoke(command, ["--coverage", "RCTL"]).exit_code
