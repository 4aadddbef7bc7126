"""Misuse events: named, counted, explained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from e1000emu import misuse
from e1000emu.misuse import REMEDIES, Misuse, MisuseError


def test_events_count_and_keep_the_last_case() -> None:
    m = Misuse()
    m.note("tx-ring", "TDLEN=0x10")
    m.note("tx-ring", "TDLEN=0x20", 2)
    m.note("phy-op", "OP 3")
    first, second = m.events()
    assert (first.name, first.count, first.last) == ("tx-ring", 3, "TDLEN=0x20")
    assert first.remedy == REMEDIES["tx-ring"]
    assert str(second).startswith("phy-op x1: OP 3;")
    assert m.total == 4
    assert m.count("rx-ring") == 0
    m.clear()
    assert m.events() == []
    assert repr(m) == "<Misuse 0 in 0 kinds>"


def test_strict_raises_after_counting() -> None:
    m = Misuse(strict=True)
    with pytest.raises(MisuseError, match="OP 3: MDIC"):
        m.note("phy-op", "OP 3")
    assert m.total == 1


def test_every_noted_name_has_a_remedy() -> None:
    used = set()
    for file in Path(misuse.__file__).parent.glob("*.py"):
        used |= set(re.findall(r'note\(\s*"([a-z-]+)"', file.read_text()))
    assert used <= set(REMEDIES)
    assert set(REMEDIES) - used <= {"power-state", "decode-off", "tx-dropped", "tx-tso", "rx-ring"}
