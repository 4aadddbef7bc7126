"""Writes of bits that only store are counted, in all spaces, and told by `explain hang`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from e1000emu.cli.explain import command
from e1000emu.insight.unmodelled import Unmodelled
from e1000emu.record.snapshot import save_file
from e1000emu.registers.coverage import SPACES, gaps
from e1000emu.testing.bench import Bench, make_bench
from tests.e1000emu.common import rd, wr

MDIC_WRITE, PHY_1 = 1 << 26, 1 << 21


def told(bench: Bench) -> dict[str, tuple[int, int]]:
    return {w.field: (w.count, w.last) for w in bench.nic.unmodelled.writes()}


def test_a_bar0_bit_counts_when_it_is_written_1() -> None:
    bench = make_bench()
    ctrl = rd(bench.nic, "CTRL")
    wr(bench.nic, "CTRL", ctrl & ~0x80)
    assert "bar0.CTRL.ILOS" not in told(bench)
    wr(bench.nic, "CTRL", ctrl | 0x80)
    wr(bench.nic, "CTRL", ctrl | 0x80)
    assert told(bench)["bar0.CTRL.ILOS"] == (2, ctrl | 0x80)
    assert bench.nic.misuse.total == 0


def test_a_phy_bit_counts() -> None:
    bench = make_bench()
    wr(bench.nic, "MDIC", MDIC_WRITE | PHY_1 | 16 << 16 | 0x0002)
    assert told(bench) == {"phy.PSCR.POLARITY_REVERSAL": (1, 2)}


@pytest.mark.parametrize(("off", "size", "value"), [(4, 2, 0x0140), (5, 1, 0x01), (4, 4, 0x0140)])
def test_a_pci_bit_counts_whatever_the_access(off: int, size: int, value: int) -> None:
    bench = make_bench()
    bench.nic.slot.config_write(off, value, size)
    wanted = {"pci.COMMAND.SERR"} | ({"pci.COMMAND.PARITY"} if size > 1 else set())
    assert set(told(bench)) == wanted


def test_bits_beyond_a_pci_access_are_not_written() -> None:
    bench = make_bench()
    bench.nic.slot.config_write(4, 0x0147, 1)
    assert set(told(bench)) == {"pci.COMMAND.PARITY"}


def test_every_gap_that_can_be_written_is_known() -> None:
    rows = {(space, r.name): r for space, table in SPACES.items() for r in table}
    seen = Unmodelled()
    wanted = set()
    for gap in gaps():
        row = rows[gap.space, gap.register]
        if row.field(gap.name).mask & row.wmask:
            seen.add(gap.space, row.offset, row.field(gap.name).mask)
            wanted.add(f"{gap.space}.{gap.register}.{gap.name}")
    assert {w.field for w in seen.writes()} == wanted
    assert all(w.why for w in seen.writes())


def test_a_state_file_keeps_it_and_explain_tells_it(tmp_path: Path) -> None:
    bench = make_bench()
    wr(bench.nic, "FCRTH", 1 << 31)
    save_file(bench.nic, tmp_path / "state")
    said = CliRunner().invoke(command, ["hang", str(tmp_path / "state")])
    assert said.exit_code == 0
    lines = said.output.splitlines()
    at = lines.index("Bits that were set and only store:")
    assert lines[at + 1] == "    bar0.FCRTH.XFCE was set once, last by 0x80000000: no such pins"
    said = CliRunner().invoke(command, ["hang", str(tmp_path / "state"), "--json"])
    found = json.loads(said.output)
    assert found["unmodelled"][0]["field"] == "bar0.FCRTH.XFCE"


def test_a_field_that_is_modelled_by_now_is_left_out() -> None:
    seen = Unmodelled()
    seen.load({"bar0.CTRL.ILOS": (3, 0x80), "bar0.CTRL.FD": (1, 1)})
    assert [w.field for w in seen.writes()] == ["bar0.CTRL.ILOS"]
