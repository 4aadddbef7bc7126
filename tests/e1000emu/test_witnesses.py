"""Who says that a field acts has a test that sees it; the fields without one are on a list.

`unwitnessed.txt` has them by name.  A field that gets its witness, a gap, or goes has to leave it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e1000emu.common import rd, running, wr
from tests.e1000emu.witness import fields_to_witness, registered, watched

OPEN = Path(__file__).parent / "unwitnessed.txt"


def test_witnesses_name_fields_that_claim_to_act() -> None:
    wrong = {(test, name) for test, name in registered() if name not in fields_to_witness()}
    assert wrong == set()


def test_every_field_has_a_witness_or_is_on_the_list() -> None:
    listed = OPEN.read_text().split()
    assert listed == sorted(set(listed))
    seen = {name for _, name in registered()}
    assert set(listed) == fields_to_witness().keys() - seen


def test_touching_is_told_from_not_touching(monkeypatch: pytest.MonkeyPatch) -> None:
    touched = watched(monkeypatch)
    bench = running()
    fields = fields_to_witness()
    assert not touched.saw(fields["CTRL_EXT.SPD_BYPS"])
    wr(bench.nic, "CTRL_EXT", 1 << 12)
    assert not touched.saw(fields["CTRL_EXT.SPD_BYPS"])
    wr(bench.nic, "CTRL_EXT", 1 << 15)
    assert touched.saw(fields["CTRL_EXT.SPD_BYPS"])
    assert rd(bench.nic, "STATUS") & 2
    assert touched.saw(fields["STATUS.LU"])
    bench.nic.slot.config_write(0x0C, 8, 1)
    assert touched.saw(fields["PCI:CACHE_LINE.VALUE"])
    assert not touched.saw(fields["PHY:GTSR.MS_MASTER"])
