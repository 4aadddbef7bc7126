"""Misuse events: named, counted, explained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from e1000emu.device.nic import Nic
from e1000emu.insight import misuse
from e1000emu.insight.misuse import REMEDIES, Misuse, MisuseError
from e1000emu.registers.regs import TABLE
from e1000emu.testing.bench import Bench
from tests.e1000emu.common import wr


def test_events_count_and_keep_the_last_case() -> None:
    m = Misuse(now_ns=lambda: 77)
    m.note("tx-ring", 1, 2, 0x10)
    m.note("tx-ring", 3, 4, 0x20, n=2)
    m.note("phy-op", 0xC000000, 3)
    first, second = m.events()
    assert (first.name, first.count, first.last) == ("tx-ring", 3, "TDH=3 TDT=4 TDLEN=0x20")
    assert first.remedy == REMEDIES["tx-ring"]
    assert (first.section, first.register, first.descriptor) == ("13.4.40", "TDT", 3)
    assert first.when_ns == 77
    assert str(second).startswith("phy-op x1: MDIC=0xc000000, OP 3;")
    assert str(second).endswith("(SDM 13.4.7)")
    assert [case.last for case in m.cases()][:2] == [
        "TDH=1 TDT=2 TDLEN=0x10",
        "TDH=3 TDT=4 TDLEN=0x20",
    ]
    assert m.total == 4
    assert m.count("rx-ring") == 0
    m.clear()
    assert m.events() == []
    assert repr(m) == "<Misuse 0 in 0 kinds>"


def test_strict_raises_after_counting() -> None:
    m = Misuse(strict=True)
    with pytest.raises(MisuseError, match="OP 3: MDIC"):
        m.note("phy-op", 0xC000000, 3)
    assert m.total == 1


def test_every_noted_name_has_a_remedy() -> None:
    used = set()
    for file in Path(misuse.__file__).parents[1].rglob("*.py"):
        used |= set(re.findall(r'(?:note|derive)\(\s*"([a-z0-9-]+)"', file.read_text()))
    used |= {f.breaks for r in TABLE for f in r.fields if f.breaks}
    assert used <= set(REMEDIES)
    by_other_words = {
        "power-state", "decode-off", "ring-length", "ring-align", "tx-ring-moved", "rx-ring-moved",
        "tx-owned", "rx-owned", "tx-dd-left", "rx-dd-left", "tx-tail-overrun", "rx-tail-overrun",
        "tx-before-dd", "rx-before-dd",
    }  # fmt: skip
    assert set(REMEDIES) - used == by_other_words


def test_a_storm_of_one_rule_leaves_the_last_case_of_the_others() -> None:
    m = Misuse()
    m.note("phy-op", 0, 3)
    for i in range(1000):
        m.note("eerd-range", i)
    assert len(m.cases()) == 256
    assert [(e.name, e.count, e.last) for e in m.events()] == [
        ("eerd-range", 1000, "EERD word 0x3e7"),
        ("phy-op", 1, "MDIC=0x0, OP 3"),
    ]


def test_what_was_noted_comes_back_from_a_snapshot() -> None:
    m, copy = Misuse(now_ns=lambda: 9), Misuse()
    m.note("tx-ring", 1, 2, 3, n=5)
    m.note("rar0-group", 0xFFFFFFFF, 1 << 31)
    copy.load(m.state())
    assert copy.events() == m.events()
    copy.load({"a-rule-that-is-no-more": [1, 0, 0, 0, 0, 0]})
    assert copy.events() == []


def test_engine_counters_show_as_events() -> None:
    m = Misuse()
    n = 0
    m.derive("tx-tso", lambda: n)
    assert m.events() == []
    n = 5
    assert m.count("tx-tso") == m.total == 5
    assert m.events()[0].remedy == REMEDIES["tx-tso"]


def test_short_ring_and_bad_tso_are_explained(bench: Bench, nic: Nic) -> None:
    wr(nic, "RDLEN", 0)
    wr(nic, "RDT", 5)
    assert nic.misuse.count("rx-ring") == 1
    bench.guest.post_context(tucmd=0x24, paylen=100, hdrlen=0, mss=0)
    bench.guest.post_data(bytes(100), dcmd=0x2D)
    wr(nic, "TDT", bench.guest.tx.next_to_use)
    assert nic.counters()["misuse_tx_tso"] == 1
