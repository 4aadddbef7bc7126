"""Behaviour in rows: what a write calls, bits that two registers share, values that are legal.

Each kind of row is compared with a plain twin that goes through the fields one by one.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e1000emu.device.pci import ConfigSpace, PciFunction
from e1000emu.device.regview import Registers, _react
from e1000emu.insight.unmodelled import Unmodelled
from e1000emu.insight.watched import watched
from e1000emu.registers.fields import Access, Field, Reg, bit, check_fields, field, rsv
from e1000emu.registers.models import model
from e1000emu.registers.pciregs import PCI_TABLE, config_rows
from e1000emu.registers.regs import TABLE, reg
from e1000emu.testing.bench import Bench, make_bench

u32 = st.integers(0, 0xFFFFFFFF)
ROWS = [r for r in TABLE if r.actions]
ALL_ONES = 0xFFFFFFFF
PMCSR, WUC = next(r for r in PCI_TABLE if r.name == "PMCSR"), reg("WUC")


def twin(r: Reg, old: int, value: int) -> list[str]:
    """What writing `value` to a register that holds `old` calls."""
    said = [f for f in r.fields if f.on_change]
    hit = [f for f in said if f.get(value) != (0 if f.access is Access.SC else f.get(old))]
    for f in hit:
        if f.alone:
            return [f.on_change]
    order: list[str] = []
    for f in sorted(said, key=lambda f: -f.lo):
        if f.on_change not in order:
            order.append(f.on_change)
    return [name for name in order if name in {f.on_change for f in hit}]


@given(st.sampled_from(ROWS), u32, u32)
def test_a_write_calls_what_the_changed_fields_name(r: Reg, old: int, value: int) -> None:
    calls: list[str] = []
    found = {name: partial(calls.append, name) for _, name, _ in r.actions}
    old &= r.stored_mask
    _react(r.actions, found, old, value & (r.stored_mask | r.act_mask))
    assert calls == twin(r, old, value)


def test_the_register_file_calls_them(monkeypatch: pytest.MonkeyPatch) -> None:
    nic, calls = make_bench().nic, list[str]()
    for name in {name for r in ROWS for _, name, _ in r.actions}:
        block, _, method = name.rpartition(".")
        owner = getattr(nic, block) if block else nic
        monkeypatch.setattr(owner, method, partial(calls.append, name))
    registers = Registers(nic.model)
    registers.bind(nic, nic.stats)
    registers.file.on_watched = nic.regs.file.on_watched
    for r in ROWS:
        r = r.on(nic.model.features)
        for value in (ALL_ONES, ALL_ONES, 0, 0x5A5A5A5A):
            old = registers[r.name]
            calls.clear()
            registers.write32(r.offset, value)
            assert calls == twin(r, old, value), r.name


def test_what_acts_alone_comes_first_and_then_the_highest_bit() -> None:
    fields = (
        bit("A", 0, on_change="x.low"),
        bit("B", 1, Access.SC, on_change="x.alone", alone=True),
        bit("C", 2, on_change="x.high"),
        bit("D", 3, on_change="x.low"),
        rsv(31, 4),
    )
    r = Reg("R", 0, "", "", fields)
    assert r.actions == ((2, "x.alone", True), (9, "x.low", False), (4, "x.high", False))


# --- same_as ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bench() -> Bench:
    return make_bench()


@given(st.lists(st.tuples(st.sampled_from(("wuc", "byte", "pmcsr", "event")), u32), max_size=12))
def test_wuc_and_pmcsr_share_their_bits(bench: Bench, writes: list[tuple[str, int]]) -> None:
    nic = bench.nic
    nic.pci.config_write(PMCSR.offset, PMCSR.mask("PME_STATUS"), 2)
    nic.mmio_write(WUC.offset, 0)
    enabled = status = apme = apmpme = False
    for where, value in writes:
        if where == "event":
            nic.pci.set_pme_status()
            nic.wakeup.update()
            status = True
        elif where == "pmcsr":
            value &= ~PMCSR.mask("STATE")
            nic.pci.config_write(PMCSR.offset, value & 0xFFFF, 2)
            enabled = bool(value & PMCSR.mask("PME_EN"))
            status = status and not value & PMCSR.mask("PME_STATUS")
        elif where == "byte":
            nic.mmio_write(WUC.offset + 1, value & 0xFF, 1)
        else:
            nic.mmio_write(WUC.offset, value)
            enabled, apme = bool(value & 2), bool(value & 1)
            status, apmpme = status and not value & 4, bool(value & 8)
        config = nic.pci.config_read(PMCSR.offset, 2)
        assert bool(config & PMCSR.mask("PME_EN")) == enabled
        assert bool(config & PMCSR.mask("PME_STATUS")) == status
        wuc = nic.mmio_read(WUC.offset)
        assert wuc == apme | enabled << 1 | status << 2 | apmpme << 3
        assert nic.wakeup.pme == (status and (enabled or (apme and apmpme)))


def test_one_write_of_wuc_is_one_of_pmcsr() -> None:
    """PME# must not rise for a moment when PME_EN is set and PME_STATUS cleared at once."""
    levels: list[bool] = []
    nic = make_bench().nic
    nic.wakeup._on_pme = levels.append
    nic.pci.set_pme_status()
    nic.mmio_write(WUC.offset, WUC.mask("PME_EN", "PME_STATUS"))
    assert levels == []
    assert nic.pci.config_read(PMCSR.offset, 2) & PMCSR.mask("PME_EN")


# --- legal --------------------------------------------------------------------------------------


def config_twin(space: list[Reg], config: bytes, off: int, value: int, size: int) -> bytes:
    """The 256 bytes after a write, by the rows."""
    out = bytearray(config)
    for r in space:
        for f in r.fields:
            old = int.from_bytes(config[r.offset : r.offset + r.step], "little")
            enabled = written = 0
            for i in range(r.step):
                if off <= r.offset + i < off + size:
                    enabled |= 0xFF << 8 * i
                    written |= (value >> 8 * (r.offset + i - off) & 0xFF) << 8 * i
            now = old
            if f.access in (Access.RW, Access.SW):
                now = old & ~(f.mask & enabled) | written & f.mask & enabled
                if f.legal and f.get(now) not in f.legal:
                    now = old
            elif f.access is Access.W1C:
                now = old & ~(written & f.mask)
            at = slice(r.offset, r.offset + r.step)
            kept = int.from_bytes(out[at], "little") & ~f.mask | now & f.mask
            out[at] = kept.to_bytes(r.step, "little")
    return bytes(out)


def config_calls(space: list[Reg], before: bytes, after: bytes) -> set[str]:
    """What fields that differ call."""
    found = set()
    for r in space:
        at = slice(r.offset, r.offset + r.step)
        old, new = (int.from_bytes(c[at], "little") for c in (before, after))
        found |= {f.on_change for f in r.fields if f.on_change and f.get(old) != f.get(new)}
    return found


@given(st.binary(min_size=256, max_size=256), st.integers(0, 255), u32, st.sampled_from((1, 2, 4)))
def test_configuration_writes_follow_the_rows(
    config: bytes, off: int, value: int, size: int
) -> None:
    names = ("PM", "PCI-X", "MSI")
    space = list(config_rows(names))
    calls: list[str] = []
    pci = object.__new__(PciFunction)
    pci.gone, pci.config = False, bytearray(config)
    pci._space = ConfigSpace(0x100E, 0, names, 0, False)
    pci._actions = {name: partial(calls.append, name) for r in space for _, name, _ in r.actions}
    pci._aborts_seen = 0
    pci._unmodelled = Unmodelled()
    pci._interrupts = SimpleNamespace(asserted=False)  # type: ignore[assignment]
    pci._memory = SimpleNamespace(aborts=0)  # type: ignore[assignment]
    if off + size > 4 and off < 8:
        pci._refresh_status()
    before = bytes(pci.config)
    pci.config_write(off, value, size)
    expected = before if off + size > 256 else config_twin(space, before, off, value, size)
    assert bytes(pci.config) == expected
    assert set(calls) == config_calls(space, before, expected)
    assert len(calls) == len(set(calls))


LIMITED: list[tuple[Reg, Field]] = [(r, f) for r in TABLE for f in r.fields if f.breaks]
RULES = {f.breaks for _, f in LIMITED}


@given(st.sampled_from(sorted({r.name for r, _ in LIMITED})), u32)
def test_a_value_that_is_not_legal_breaks_its_rule(bench: Bench, name: str, value: int) -> None:
    r = reg(name)
    broken = {f.breaks for f in r.fields if f.breaks and f.get(value) not in f.legal}
    nic = bench.nic
    if name == "RCTL":
        value &= ~r.mask("BSEX")  # which has a rule of code
    before = {rule: nic.misuse.count(rule) for rule in RULES}
    nic.mmio_write(r.offset, value)
    assert {rule: nic.misuse.count(rule) - before[rule] for rule in RULES} == {
        rule: int(rule in broken) for rule in RULES
    }


def test_limits_are_watched() -> None:
    part = model("82540EM")
    rows = {row.offset: row for row in watched(part.lacks, part.features)}
    for r, f in LIMITED:
        assert f in rows[r.offset].limits
        assert rows[r.offset].every
    assert {r.name for r, _ in LIMITED} == {"PBA", "RCTL", "TIPG"}


@given(st.lists(u32, min_size=1, max_size=6))
def test_txa_is_what_rxa_leaves(bench: Bench, values: list[int]) -> None:
    nic = bench.nic
    for value in values:
        nic.mmio_write(reg("PBA").offset, value)
        receive = min(value & 0xFFFF, 64)
        assert nic.mmio_read(reg("PBA").offset) == receive | (64 - receive) << 16


def test_a_field_with_legal_values_has_a_legal_reset() -> None:
    r = Reg("R", 0, "", "", (field("F", 31, 0, reset=3, legal=(0, 1)),))
    assert "does not fit" in "".join(check_fields(r.name, r.fields, 32))
