"""fastpath.regfile: access rules and statistics against their twins."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath import regfile
from fastpath._ref import regfile as ref
from fastpath.regfile import RC, RO, RW, SC, STAT_REGISTERS, W1C, WO, RegFile, Stats

u32 = st.integers(0, 0xFFFFFFFF)
SIZE = 8
definition = st.tuples(
    st.integers(0, SIZE - 1), u32, u32, u32, st.integers(0, 5), st.booleans(), st.booleans(), u32
)
access = st.tuples(
    st.sampled_from(["read", "write", "poke", "set", "clear", "reset"]),
    st.integers(0, 4 * SIZE + 8),
    u32,
)


class Seen(list):
    """Records hook calls; answers reads with the complement."""

    def hook(self, index: int, read: bool, write: bool) -> tuple[Any, Any]:
        def on_read(value: int) -> int:
            self.append(("r", index, value))
            return ~value & 0xFFFFFFFF

        def on_write(old: int, new: int) -> None:
            self.append(("w", index, old, new))

        return on_read if read else None, on_write if write else None


@given(st.lists(definition, max_size=8), st.lists(access, max_size=30))
def test_access_rules_equal_reference(definitions, accesses) -> None:
    files: list[Any] = [RegFile(SIZE), ref.RegFile(SIZE)]
    logs = [Seen(), Seen()]
    for file, log in zip(files, logs, strict=True):
        for index, reset, rmask, wmask, kind, read, write, scmask in definitions:
            on_read, on_write = log.hook(index, read, write)
            file.define(
                index, reset, rmask, wmask, kind, on_read, on_write,
                scmask=scmask if kind == RW else 0, reset_level=index & 1,
            )  # fmt: skip
        file.on_unknown = lambda *args, log=log: log.append(("?", *args))
    for what, off, value in accesses:
        results = []
        for file in files:
            match what:
                case "read":
                    results.append(file.read32(off))
                case "write":
                    file.write32(off, value)
                case "reset":
                    results.append(file.reset(value & 1))
                case _ if off < 4 * SIZE:
                    call = {"poke": file.poke, "set": file.set_bits, "clear": file.clear_bits}[what]
                    results.append(call(off, value))
        assert len({repr(r) for r in results}) <= 1
    ours, twin = files
    assert logs[0] == logs[1]
    assert ours.state() == twin.state()
    assert (ours.unknown_reads, ours.unknown_writes) == (twin.unknown_reads, twin.unknown_writes)
    ours.load(twin.state())


def test_each_kind() -> None:
    regs = RegFile(8)
    for i, kind in enumerate((RW, RO, RC, W1C, WO, SC)):
        regs.define(i, reset=0xF0, wmask=0xFF, kind=kind)
    assert [regs.read32(4 * i) for i in range(6)] == [0xF0, 0xF0, 0xF0, 0xF0, 0, 0]
    for i in range(6):
        regs.write32(4 * i, 0x130)
    assert [regs.peek(4 * i) for i in range(6)] == [0x30, 0xF0, 0x30, 0xC0, 0x30, 0]


def test_self_clearing_bits_reach_the_hook_only() -> None:
    seen = []
    regs = RegFile(1)
    regs.define(0, 0x1, wmask=0x4000000F, on_write=lambda o, n: seen.append((o, n)), scmask=1 << 30)
    regs.write32(0, 1 << 30 | 0x32)
    assert seen == [(1, 1 << 30 | 2)]
    assert regs.read32(0) == 2


def test_hook_exception_reaches_the_caller() -> None:
    def fail(old: int, new: int) -> None:
        raise RuntimeError("hook")

    regs = RegFile(1)
    regs.define(0, on_write=fail)
    with pytest.raises(RuntimeError, match="hook"):
        regs.write32(0, 5)


def test_alias_shares_the_register() -> None:
    regs = RegFile(4)
    regs.define(1, 7)
    regs.alias(3, 1)
    regs.write32(12, 9)
    assert regs.read32(4) == 9
    assert regs.defined(3)


def test_undefined_registers_are_tolerated_and_counted() -> None:
    regs = RegFile(2)
    assert regs.read32(4) == 0
    assert regs.read32(1 << 40) == 0
    regs.write32(1 << 63, 1)
    assert (regs.unknown_reads, regs.unknown_writes) == (2, 1)


def test_bad_arguments_are_refused() -> None:
    regs = RegFile(2)
    with pytest.raises(IndexError):
        regs.define(2)
    with pytest.raises(IndexError):
        regs.peek(8)
    with pytest.raises(ValueError, match="kind"):
        regs.define(0, kind=9)
    with pytest.raises(ValueError, match="load"):
        regs.load(b"1234")
    with pytest.raises(ValueError, match="RegFile"):
        RegFile(0)


def test_the_list_has_58_registers() -> None:
    assert len(STAT_REGISTERS) == 58
    assert STAT_REGISTERS == ref.STAT_REGISTERS


@given(
    st.lists(
        st.tuples(st.sampled_from(STAT_REGISTERS), st.integers(0, 1 << 33), st.booleans()),
        max_size=20,
    )
)
def test_stats_equal_reference(steps) -> None:
    ours, twin = Stats(), ref.Stats()
    for name, n, read in steps:
        base = name if name in ours.as_dict() else name[:-1]
        for stats in (ours, twin):
            stats.add(base, n)
        assert ours.peek_register(name) == twin.peek_register(name)
        if read:
            assert ours.read_register(name) == twin.read_register(name)
        assert ours[base] == twin[base]
    assert ours.as_dict() == twin.as_dict()
    assert ours.state() == twin.state()


def test_counters_stick_at_the_top() -> None:
    stats = Stats()
    stats["GPRC"] = (1 << 32) - 1
    stats.add("GPRC")
    assert stats.read_register("GPRC") == 0xFFFFFFFF
    assert stats.read_register("GPRC") == 0
    stats["TOR"] = (1 << 64) - 1
    stats.add("TOR", 5)
    assert stats["TOR"] == (1 << 64) - 1


def test_high_half_clears_the_pair() -> None:
    regs, stats = RegFile(2), Stats()
    regs.define_stat(0, stats, "GORCL")
    regs.define_stat(1, stats, "GORCH")
    stats["GORC"] = 0x1_0000_0002
    assert (regs.read32(0), regs.read32(0)) == (2, 2)
    regs.write32(0, 99)
    assert (regs.read32(4), regs.read32(0), regs.read32(4)) == (1, 0, 0)


def test_stats_state_round_trip() -> None:
    stats = Stats()
    stats.add("MPC", 7)
    other = Stats()
    other.load(stats.state())
    assert other.as_dict() == stats.as_dict()
    assert "MPC=7" in repr(other)
    with pytest.raises(ValueError, match="load"):
        other.load(b"")
    with pytest.raises(KeyError):
        stats.add("NONE")
    assert regfile.RW == RW
