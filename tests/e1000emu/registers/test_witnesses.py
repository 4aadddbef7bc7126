"""Who says that a field acts has a test that sees it, and fails when the field does nothing."""

from __future__ import annotations

import pytest

from e1000emu.registers.fields import Access
from e1000emu.testing.bench import make_bench
from tests.e1000emu.common import rd, wr
from tests.e1000emu.witness import (
    CONSTANT,
    WINDOWS,
    Blinder,
    fields_to_witness,
    names_of,
    registered,
    witness,
)


def test_witnesses_name_fields_that_claim_to_act() -> None:
    wrong = {(test, name) for test, name in registered() if name not in fields_to_witness()}
    assert wrong == set()


def test_every_field_has_a_witness() -> None:
    assert sorted(fields_to_witness().keys() - {name for _, name in registered()}) == []


def test_what_says_what_the_part_is_can_only_be_read() -> None:
    fields = fields_to_witness()
    assert fields.keys() >= CONSTANT
    assert {fields[name].field.access for name in CONSTANT} == {Access.RO}
    assert {f.reg.name for f in fields.values()} >= WINDOWS


def test_names_come_from_the_parameters_of_a_case() -> None:
    marks = [witness("A.{x}", "B.C").mark, witness("{y}.D").mark]
    assert names_of(marks, {"x": 1, "y": "Z"}) == ["A.1", "B.C", "Z.D"]


def blind(patch: pytest.MonkeyPatch, name: str) -> None:
    Blinder(fields_to_witness()[name]).install(patch)


def test_a_field_that_does_nothing_stores_what_software_writes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blind(monkeypatch, "RCTL.BSIZE")
    nic = make_bench().nic
    wr(nic, "RCTL", 3 << 16 | 2)
    assert rd(nic, "RCTL") == 3 << 16 | 2
    assert nic.regs["RCTL"] == 2
    nic.slot.bar_write(0, 0x100, 2 << 16 | 4, 4)
    assert nic.slot.bar_read(0, 0x100, 4) == 2 << 16 | 4
    nic.mmio_write(0x102, 1, 1)
    assert (nic.mmio_read(0x102, 1), nic.regs["RCTL"]) == (1, 4)
    other = make_bench().nic
    assert rd(other, "RCTL") == 0


@pytest.mark.parametrize(
    ("name", "register", "seen"),
    [("STATUS.LU", "STATUS", 0x81), ("STATUS.TBIMODE", "STATUS", 0xA3), ("IMS.LSC", "IMS", 5)],
)
def test_a_field_of_the_devices_shows_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch, name: str, register: str, seen: int
) -> None:
    blind(monkeypatch, name)
    bench = make_bench()
    bench.guest.up()
    bench.clock.run_for(5_000_000_000)
    wr(bench.nic, "IMS", 4)
    wr(bench.nic, "IMS", 1)
    assert rd(bench.nic, register) == seen
    assert bench.line.level == (name != "IMS.LSC")
