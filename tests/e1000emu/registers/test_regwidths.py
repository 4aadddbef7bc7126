"""Every register at every width and offset of an access, against a model made of the table's rows.

The model goes bit by bit, and byte by byte of the access; the device goes by whole registers and
masks. Registers that a block keeps or moves are held against the 32-bit write that says the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from e1000emu.device.nic import Nic
from e1000emu.registers.fields import Access, Reg
from e1000emu.registers.pciregs import CONFIG_BYTES, config_rows
from e1000emu.registers.regs import STATISTICS, TABLE, at_offset, reg
from e1000emu.testing.bench import Bench, make_bench
from tests.e1000emu.common import off, rd, wr
from tests.e1000emu.registers.test_regs import MOVED

ONES = 0xFFFFFFFF
ACCESSES = [(size, skip) for size in range(1, 9) for skip in range(4)]
STORED, BY_1 = {Access.RW, Access.SW}, {Access.W1C, Access.RC_W1C}
CAUSES = {"ICS": ("ICR", True), "IMC": ("IMS", False)}
"""What the write-only registers of the interrupt block do to which other one."""
SPECIAL = MOVED | {"MANC", "RXCW"}
SIMPLE = [r for r in TABLE if r.name not in SPECIAL and r.group != "statistics"]


def new_bench() -> Bench:
    return make_bench(ram_bytes=1 << 20)


@pytest.fixture(scope="module")
def bench() -> Bench:
    return new_bench()


def bit_written(access: Access, old: int, new: int) -> int:
    """What a written bit of a register is afterwards."""
    if access in STORED:
        return new
    if access in BY_1:
        return old & ~new & 1
    return old | new if access is Access.W1S else old


def model_write(values: dict[str, int], part: frozenset[str], at: int, data: bytes) -> None:
    """Write `data` to byte `at`, in a device that has nothing but the table's rows."""
    for i, byte in enumerate(data):
        found = at_offset(at + i)
        if found is None:
            continue
        row, name = found.reg.on(part), found.name
        for n in range(8):
            bit = 8 * (at + i & 3) + n
            new = byte >> n & 1
            (field,) = (f for f in row.fields if f.mask >> bit & 1)
            target, sets = CAUSES.get(name, (name, False))
            if field.access is Access.WO and target != name:
                values[target] = values[target] & ~(new << bit) | new * sets << bit
            elif name in values:
                got = bit_written(field.access, values[name] >> bit & 1, new)
                values[name] = values[name] & ~(1 << bit) | got << bit


def around(row: Reg) -> list[tuple[str, int]]:
    """The elements of `row` that are looked at, and their offsets."""
    chosen = {row.offsets[0], row.offsets[-1]}
    return [(found.name, at) for at in sorted(chosen) if (found := at_offset(at)) is not None]


@pytest.mark.parametrize("row", SIMPLE, ids=lambda r: r.name)
def test_a_write_changes_the_bytes_that_it_enables(bench: Bench, row: Reg) -> None:
    nic, part = bench.nic, bench.nic.model.features
    rng = random.Random(row.name)
    for name, at in around(row):
        for size, skip in ACCESSES:
            near = {
                found.name: found.offset
                for o in range(at, at + 12, 4)
                if (found := at_offset(o)) is not None
                and found.reg.name not in SPECIAL
                and found.reg.group != "statistics"
            } | {n: off(n) for n in ("ICR", "IMS")}
            before = {n: rng.getrandbits(32) & reg(n.split("[")[0]).rmask for n in near}
            for n, o in near.items():
                nic.regs.file.poke(o, before[n])
                if n == "WUC" or n.startswith(("PBM", "TDF", "RDF")):
                    before[n] = nic.mmio_read(o)  # kept elsewhere
            data = rng.randbytes(size)
            nic.mmio_write(at + skip, int.from_bytes(data, "little"), size)
            want = dict(before)
            model_write(want, part, at + skip, data)
            for n, o in near.items():
                kept = n == "WUC" or n.startswith("PBM")
                got = nic.mmio_read(o) if kept else nic.regs.peek(o)
                assert got == want[n], f"{data.hex()} at {name}+{skip}: {n} was {before[n]:#x}"
    nic.reset()


@pytest.mark.parametrize(
    "row", [r for r in TABLE if r.name in SPECIAL and not r.alias_of], ids=lambda r: r.name
)
def test_a_write_in_part_is_the_whole_one_that_leaves_the_rest(row: Reg) -> None:
    """Hooks see one write of 32 bits: other bytes as they are stored, 0 where a 1 would act."""
    rng = random.Random(row.name)
    row = row.on(new_bench().nic.model.features)
    for size in (1, 2, 3):
        for skip in range(5 - size):
            first, second = (new_bench().nic for _ in range(2))
            start = rng.getrandbits(32) & ~row.act_mask
            for nic in (first, second):
                nic.mmio_write(row.offset, start)
            mask = ((1 << 8 * size) - 1) << 8 * skip
            value = rng.getrandbits(32) & mask
            first.mmio_write(row.offset + skip, value >> 8 * skip, size)
            stored = second.mmio_read(row.offset) & row.stored_mask & ~mask
            second.mmio_write(row.offset, value | stored)
            for nic in (first, second):
                nic.misuse.clear()
            assert first.state() == second.state(), f"{value:#x}, {size} bytes at +{skip}"


@pytest.mark.parametrize("name", ["ICR", "RXCW", *STATISTICS[:3]])
@pytest.mark.parametrize(("size", "skip"), ACCESSES)
def test_a_read_in_part_gives_its_bytes_and_clears_the_whole(
    bench: Bench, name: str, size: int, skip: int
) -> None:
    nic, row = bench.nic, reg(name)
    value = 0x8A9B_CCDD & row.rmask
    if name in STATISTICS:
        for counter in STATISTICS[:4]:
            nic.stats[counter] = value if counter == name else 0
    else:
        nic.regs[name] = value
    beside = sum(
        nic.regs.peek(row.offset + 4 * k) << 32 * k
        for k in (1, 2)
        if (found := at_offset(row.offset + 4 * k)) is not None
        and found.reg.name != "ICS"
        and found.reg.group != "statistics"
    )
    want = (value | beside) >> 8 * skip & (1 << 8 * size) - 1
    assert nic.mmio_read(row.offset + skip, size) == want
    assert nic.mmio_read(row.offset) == value & ~row.rc_mask


def test_eight_bytes_are_both_halves_of_a_counter(bench: Bench) -> None:
    bench.nic.stats["GORC"] = 0x1_2345_6789
    assert bench.nic.mmio_read(off("GORCL"), 8) == 0x1_2345_6789
    assert bench.nic.mmio_read(off("GORCL"), 8) == 0


def test_what_is_no_access_does_nothing(nic: Nic) -> None:
    nic.regs["VET"] = 0x1234
    for size in (-1, 0, 9, 1 << 40):
        assert nic.mmio_read(off("VET"), size) == 0
        nic.mmio_write(off("VET"), ONES, size)
    assert nic.mmio_read(-3, 2) == nic.mmio_read(1 << 70 | 1, 2) == 0
    nic.mmio_write(-1, ONES, 8)
    assert nic.regs["VET"] == 0x1234


# --- the ways that lead to a register -----------------------------------------------------------


def by_nic(b: Bench, at: int, value: int, size: int) -> None:
    b.nic.mmio_write(at, value, size)


def by_slot(b: Bench, at: int, value: int, size: int) -> None:
    b.nic.slot.bar_write(0, at, value, size)


@pytest.mark.parametrize("way", [by_nic, by_slot])
def test_causes_of_other_bytes_stay(way: Callable[[Bench, int, int, int], None]) -> None:
    b = new_bench()
    wr(b.nic, "ICS", 0x204)
    way(b, off("ICR") + 1, 0x02, 1)
    assert rd(b.nic, "ICR") == 0x4
    wr(b.nic, "IMS", 0x204)
    way(b, off("IMC") + 1, 0x02, 1)
    assert rd(b.nic, "IMS") == 0x4
    way(b, off("ICS"), 0x80, 2)
    assert rd(b.nic, "ICR") == 0x80
    b.nic.regs["WUS"] = 0x0F_0003
    way(b, off("WUS") + 2, 0x05, 2)
    assert rd(b.nic, "WUS") == 0x0A_0003


def test_wuc_keeps_what_pmcsr_keeps() -> None:
    b = new_bench()
    wr(b.nic, "WUC", 2)
    b.nic.mmio_write(off("WUC") + 1, 0, 1)
    assert rd(b.nic, "WUC") & 2
    b.nic.pci.set_pme_status()
    b.nic.mmio_write(off("WUC") + 1, 0xFF, 1)
    assert rd(b.nic, "WUC") & 4
    b.nic.mmio_write(off("WUC"), 4, 1)
    assert not rd(b.nic, "WUC") & 6


def test_iodata_takes_32_bits_alone() -> None:
    """SDM 13.2.2; where IOADDR is not aligned, IODATA is those bytes."""
    b = new_bench()
    wr(b.nic, "ICS", 0x204)
    io = b.nic.slot.io_bar
    b.nic.slot.bar_write(io, 0, off("ICR"), 4)
    b.nic.slot.bar_write(io, 5, 0x02, 1)
    assert b.nic.regs["ICR"] == 0x204
    b.nic.slot.bar_write(io, 0, off("ICR") + 1, 4)
    b.nic.slot.bar_write(io, 4, 0x02, 4)
    assert b.nic.regs["ICR"] == 0x4


def test_strict_refuses_before_anything_changes() -> None:
    b = new_bench()
    wr(b.nic, "ICS", 0x204)
    b.nic.misuse.strict = True
    with pytest.raises(Exception, match="32 bits"):
        b.nic.mmio_write(off("ICR") + 1, 2, 1)
    assert b.nic.regs["ICR"] == 0x204


# --- configuration space ------------------------------------------------------------------------

COMPUTED = {"STATUS", "PMCSR", "PM_DATA"}
"""Bits there follow from others; their stored and write-1-clear bits are looked at alone."""


@pytest.mark.parametrize("model", ["82540EM", "82545EM", "82544GC"])
def test_configuration_space_at_every_width(model: str) -> None:
    nic = make_bench(model=model, ram_bytes=1 << 20).nic
    rows = list(config_rows(nic.model.capabilities, 0, False))
    rng = random.Random(model)
    for row in rows:
        for size in (1, 2, 4):
            for at in range(row.offset - 3, row.offset + row.step):
                if at < 0 or at + size > CONFIG_BYTES:
                    continue
                nic.power_on_reset()
                for other in rows:
                    if other.w1c_mask:
                        now = nic.pci.get(other.offset, other.step)
                        nic.pci.put(other.offset, other.step, now | other.w1c_mask)
                before = nic.pci.get(row.offset, row.step)
                data = rng.randbytes(size)
                nic.slot.config_write(at, int.from_bytes(data, "little"), size)
                got = nic.pci.get(row.offset, row.step)
                for field in row.fields:
                    for bit in range(field.lo, field.hi + 1):
                        where = row.offset + bit // 8
                        old = before >> bit & 1
                        want = old
                        if at <= where < at + size:
                            new = data[where - at] >> bit % 8 & 1
                            want = bit_written(field.access, old, new)
                        computed = row.name in COMPUTED and field.access is Access.RO
                        state = row.name == "PMCSR" and field.name == "STATE"
                        if not computed and not state:
                            assert got >> bit & 1 == want, (row.name, field.name, at, data.hex())
