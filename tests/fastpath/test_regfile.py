"""fastpath.nic.regfile: access rules and statistics against their twins."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath._ref import regfile as ref
from fastpath.nic.regfile import STAT_REGISTERS, RegFile, Stats

u32 = st.integers(0, 0xFFFFFFFF)
SIZE = 8
ACCESSES = ("ro", "rw", "w1c", "w1s", "act")
definition = st.tuples(
    st.integers(0, SIZE - 1), u32, u32,
    st.lists(st.sampled_from(ACCESSES), min_size=32, max_size=32),
    u32, st.booleans(), st.booleans(), st.integers(1, 3),
)  # fmt: skip
access = st.tuples(
    st.sampled_from(["read", "write", "part", "poke", "set", "clear", "reset"]),
    st.integers(0, 4 * SIZE + 8),
    u32,
    st.integers(0, 15),
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


watch = st.tuples(st.integers(0, SIZE - 1), u32, u32, st.booleans())


@given(
    st.lists(definition, max_size=8), st.lists(watch, max_size=4), st.lists(access, max_size=30),
    st.booleans(),
)  # fmt: skip
def test_access_rules_equal_reference(definitions, watched, accesses, by_layout) -> None:
    files: list[Any] = [RegFile(SIZE), ref.RegFile(SIZE)]
    logs = [Seen(), Seen()]
    for file, log in zip(files, logs, strict=True):
        hooks = {}
        for n, (index, reset, rmask, bits, rc, read, write, count) in enumerate(definitions):
            on_read, on_write = log.hook(index, read, write)
            if by_layout:
                hooks |= {f"read{n}": on_read, f"write{n}": on_write}
                on_read = f"read{n}" if read else None
                on_write = f"write{n}" if write else None
            masks = {
                name: sum(1 << i for i, b in enumerate(bits) if b == name) for name in ACCESSES
            }
            del masks["ro"]
            file.define(
                index, reset, rmask=rmask, rc=rc, on_read=on_read, on_write=on_write,
                reset_level=index & 1, count=min(count, SIZE - index), **masks,
            )  # fmt: skip
        file.on_watched = print
        for index, told, absent, every in watched:
            file.watch(index, told, absent, every=every)
        if by_layout:
            file = type(file)(SIZE, file)
            file.bind(hooks, Stats())
            files[0 if log is logs[0] else 1] = file
        file.on_unknown = lambda *args, log=log: log.append(("?", *args))
        file.on_watched = lambda *args, log=log: log.append(("!", *args))
    for what, off, value, enabled in accesses:
        mask = sum(0xFF << 8 * i for i in range(4) if enabled >> i & 1)
        results = []
        for file in files:
            match what:
                case "read":
                    results.append(file.read32(off))
                case "write":
                    file.write32(off, value)
                case "part":
                    file.write_part(off, value, mask)
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


def seen(log: list[Any], *args: int) -> None:
    log.append(args)


def test_files_of_one_layout_share_definitions_and_nothing_else() -> None:
    for kind, stats in ((RegFile, Stats), (ref.RegFile, ref.Stats)):
        layout: Any = kind(4)
        layout.define(0, 7, rw=0xFF, on_write="wrote")
        layout.define_stat(1, stats(), "TPR")
        layout.alias(2, 0)
        files: list[Any] = [kind(4, layout), kind(4, layout)]
        counters: list[Any] = [stats(), stats()]
        wrote: list[tuple[int, int, int]] = []
        for i, file in enumerate(files):
            file.bind({"wrote": partial(seen, wrote, i)}, counters[i])
        counters[1].add("TPR", 3)
        files[0].write32(8, 0x12)
        assert wrote == [(0, 7, 0x12)]
        assert [file.peek(0) for file in files] == [0x12, 7]
        assert [file.read32(4) for file in files] == [0, 3]
        files[0].define(3, 5)
        assert [file.defined(3) for file in files] == [True, False]
        with pytest.raises(ValueError, match="layout"):
            layout.define(3)
        with pytest.raises(ValueError, match="layout"):
            layout.alias(3, 0)
        with pytest.raises(ValueError, match="layout"):
            kind(5, layout)


def test_a_hot_register_of_a_layout_needs_a_compiled_hook() -> None:
    layout = RegFile(1)
    layout.define(0, rw=1, on_write="wrote", hot=True)
    with pytest.raises(ValueError, match="hot and has no compiled hook"):
        RegFile(1, layout).bind({"wrote": print}, Stats())


def test_a_watched_write_is_told_before_it_has_its_effect() -> None:
    for file in (RegFile(2), ref.RegFile(2)):
        with pytest.raises(ValueError, match="on_watched"):
            file.watch(0, 1)
        file.define(0, 0x30, rw=0xF, w1c=0xF0)
        seen: list[tuple[int, ...]] = []
        file.on_watched = lambda *args, file=file, seen=seen: seen.append((*args, file.peek(0)))
        file.watch(0, 1 << 31, 0xF0)
        for value in (0x3F, 0x40, 1 << 31):
            file.write32(0, value)
        assert seen == [(0, 0xF, 0x40, 0xF), (0, 0, 1 << 31, 0)]
        file.watch(0, every=True)
        file.write32(0, 0)
        assert len(seen) == 3
        file.define(0)
        file.write32(0, 0xFFFFFFFF)
        assert len(seen) == 3


def test_each_access_in_one_register() -> None:
    seen = []
    regs = RegFile(1)
    regs.define(
        0, reset=0xFFFFF, rmask=0xFFFFFF, rw=0xF, w1c=0xF0, w1s=0xF00000, rc=0xF000,
        act=0xF000000, on_write=lambda old, new: seen.append((old, new)),
    )  # fmt: skip
    assert regs.read32(0) == 0xFFFFF
    assert regs.peek(0) == 0xF0FFF  # only what a read clears is gone, the read-only bits are not
    regs.write32(0, 0x5555555)
    assert regs.peek(0) == 0x5F0FA5
    assert seen == [(0xF0FFF, 0x55F0F55)]  # w1c and act as written, the rest as stored


def test_a_part_is_written_and_the_rest_stays() -> None:
    for file in (RegFile(2), ref.RegFile(2)):
        seen: list[tuple[int, int]] = []
        file.define(
            0, 0xFFFF0000, rw=0x000F000F, w1c=0x00F000F0, w1s=0x0F000F00, act=0xF000F000,
            on_write=lambda old, new, seen=seen: seen.append((old, new)),
        )  # fmt: skip
        file.write_part(0, 0xFFFFFFFF, 0xFF)
        assert (file.peek(0), seen) == (0xFFFF000F, [(0xFFFF0000, 0xFF0F00FF)])
        file.write_part(0, 0xFFFFFFFF, 0xFF00)
        assert (file.peek(0), seen[1]) == (0xFFFF0F0F, (0xFFFF000F, 0xFF0FFF0F))
        file.write_part(0, 0, 0xFF0000)
        assert file.peek(0) == 0xFFF00F0F
        file.define(1, 0, rw=0xFFFF, on_read=lambda value: 0x1234)
        file.write_part(4, 0xAB00, 0xFF00)
        assert file.peek(4) == 0xAB34  # it is another's, who says what it holds


def test_self_clearing_bits_reach_the_hook_only() -> None:
    seen = []
    regs = RegFile(1)
    regs.define(0, 0x1, rw=0xF, act=1 << 30, on_write=lambda o, n: seen.append((o, n)))
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
    regs.define(1, 7, rw=0xF)
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
    for count in (-1, 0, 2, 1 << 30):
        with pytest.raises(ValueError, match=f"{count} dwords from 1 on of 2"):
            regs.define(1, count=count)
    with pytest.raises(IndexError):
        regs.peek(8)
    with pytest.raises(ValueError, match="two of"):
        regs.define(0, rw=3, w1s=2)
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


def test_stats_are_counted_by_name() -> None:
    stats = Stats()
    stats.add("MPC", 7)
    assert stats.as_dict()["MPC"] == 7
    assert stats.state() == bytes(memoryview(stats))
    assert "MPC=7" in repr(stats)
    with pytest.raises(KeyError):
        stats.add("NONE")
