"""Misuse events: named, counted, explained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from e1000emu import misuse
from e1000emu.misuse import REMEDIES, Misuse, MisuseError
from tests.e1000emu.common import running, wr


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
    assert set(REMEDIES) - used == {"power-state", "decode-off", "tx-dropped", "tx-tso"}


def test_engine_counters_show_as_events() -> None:
    m = Misuse()
    n = 0
    m.derive("tx-tso", lambda: n, "TSCTFC")
    assert m.events() == []
    n = 5
    assert m.count("tx-tso") == m.total == 5
    assert m.events()[0].remedy == REMEDIES["tx-tso"]


def test_short_ring_and_bad_tso_are_explained() -> None:
    bench = running()
    nic = bench.nic
    wr(nic, "RDLEN", 0)
    wr(nic, "RDT", 5)
    assert nic.misuse.count("rx-ring") == 1
    bench.guest.post_context(tucmd=0x24, paylen=100, hdrlen=0, mss=0)
    bench.guest.post_data(bytes(100), dcmd=0x2D)
    wr(nic, "TDT", bench.guest.tx.next_to_use)
    assert nic.counters()["misuse_tx_tso"] == 1
