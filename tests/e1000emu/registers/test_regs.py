"""The register table: every bit claimed once, and the device obeys each row."""

from __future__ import annotations

from operator import attrgetter

import pytest

from e1000emu.device.nic import Nic
from e1000emu.registers import regs
from e1000emu.registers.pciregs import PCI_TABLE
from e1000emu.registers.regs import BAR0_BYTES, STATISTICS, TABLE, Access, Reg, reg
from e1000emu.testing.bench import Bench, make_bench
from fastpath._ref import e1000_hw as ref_hw
from fastpath.nic.regfile import FIELDS, REGISTERS, STAT_REGISTERS, RegHook

ONES = 0xFFFFFFFF
# Registers in which the device itself moves bits that the row calls stored: each has its own test.
MOVED = {"CTRL", "CTRL_DUP", "CTRL_EXT", "MDIC", "PBA", "EECD", "EERD", "TDT", "RDT", "WUC"} | {
    f"{way}DF{which}" for way in "RT" for which in ("H", "T", "HS", "TS", "PC")
}


@pytest.fixture(scope="module")
def bench() -> Bench:
    return make_bench()


def test_every_bit_is_claimed_exactly_once() -> None:
    assert list(regs.check_table()) == []


def test_check_table_finds_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = (
        Reg("A", 0, "", "", (regs.bit("X", 0), regs.field("Y", 31, 0, reset=0))),
        Reg("B", 0, "", "", (regs.rsv(30, 0),)),
        Reg("C", 8, "", "", (regs.field("Z", 31, 0), regs.bit("Z", 32))),
        Reg("D", 0x20001, "", "", (regs.bit("W", 0, reset=2), regs.rsv(31, 1))),
        Reg("E", 12, "", "", (regs.bit("V", 0, on_change="a.b"), regs.rsv(31, 1)), on_write="c"),
        Reg("F", 16, "", "", (regs.bit("V", 0, Access.W1C, on_change="a.b"), regs.rsv(31, 1))),
        Reg("G", 20, "", "", (regs.field("V", 31, 0, legal=(0, 1)),)),
    )
    monkeypatch.setattr(regs, "TABLE", bad)
    text = "\n".join(regs.check_table())
    for word in (
        *("claimed twice", "not claimed", "offset 0x0 is A's", "occurs twice", "fit"),
        *("E: both", "F: on_change of a bit that 1 clears", "G: legal without a rule"),
    ):
        assert word in text


def test_statistics_are_the_compiled_counters() -> None:
    assert set(STATISTICS) == set(STAT_REGISTERS)
    assert len(STATISTICS) == 58


def test_table_covers_the_list_of_the_manual() -> None:
    """Table 13-2 of the SDM, as far as it concerns the 82540EM."""
    names = """CTRL STATUS EECD EERD CTRL_EXT FLA MDIC FCAL FCAH FCT VET FCTTV TXCW RXCW LEDCTL PBA
        ICR ITR ICS IMS IMC RCTL FCRTL FCRTH RDBAL RDBAH RDLEN RDH RDT RDTR RXDCTL RADV RSRPD TCTL
        TIPG AIT TXDMAC TDBAL TDBAH TDLEN TDH TDT TIDV TXDCTL TADV TSPMT RXCSUM MTA RAL RAH VFTA
        WUC WUFC WUS MANC IPAV IP4AT IP6AT WUPL WUPM FFLT FFMT FFVT RDFH RDFT RDFHS RDFTS RDFPC
        TDFH TDFT TDFHS TDFTS TDFPC PBM"""
    assert set(names.split()) <= {r.name for r in TABLE}


def test_a_field_that_a_part_lacks_is_reserved_there() -> None:
    row = regs.reg("CTRL_EXT")
    own = {f.name for f in row.fields if f.needs}
    assert own == {"GPI0_EN", "SDP4_DATA", "SDP4_IODIR"}
    other = row.on(frozenset())
    assert list(regs.check_fields(row.name, other.fields, 32)) == []
    assert row.wmask & ~other.wmask == row.mask(*own)
    assert row.on(frozenset({"SDP4"})) == row


def test_every_hook_exists(bench: Bench) -> None:
    for r in (*TABLE, *PCI_TABLE):
        for hook in filter(None, (r.on_read, r.on_write, *(name for _, name, _ in r.actions))):
            target = attrgetter(hook)(bench.nic)
            assert callable(target) or isinstance(target, RegHook), (r.name, hook)


LOADED = {"CTRL": 0x40, "CTRL_DUP": 0x40, "WUC": 1}
"""What the EEPROM of a new board adds: SLU and APME."""


@pytest.mark.parametrize("r", TABLE, ids=lambda r: r.name)
def test_reads_reset_value_after_power_on(r: Reg) -> None:
    nic = _fresh().nic
    if r.name in ("ICR", "RAL", "RAH"):  # the EEPROM's address stands in entry 0
        offsets = r.offsets[1:]
    else:
        offsets = r.offsets[:64]
    for offset in offsets:
        got = nic.mmio_read(offset)
        want = r.reset & r.rmask
        if r.name == "STATUS":
            want |= nic.regs["STATUS"] & 1
        want |= LOADED.get(r.name, 0)
        assert got == want, f"{r.name} at {offset:#x}: {got:#x}, not {want:#x}"


_shared: list[Bench] = []


def _fresh() -> Bench:
    """Return a bench just powered on; one is enough, since nothing is written."""
    if not _shared:
        _shared.append(make_bench())
    return _shared[0]


@pytest.mark.parametrize(
    "r", [r for r in TABLE if r.name not in MOVED and r.group != "statistics"], ids=lambda r: r.name
)
@pytest.mark.parametrize("value", [0, ONES, 0x5A5A5A5A, 0xA5A5A5A5])
def test_write_changes_stored_bits_only(r: Reg, value: int, nic: Nic) -> None:
    r = r.on(nic.model.features)
    for offset in (r.offsets[0], r.offsets[-1]):
        before = nic.regs.peek(offset)
        nic.mmio_write(offset, value)
        fixed = r.rmask & ~r.wmask
        got = nic.mmio_read(offset)
        stored = r.stored_mask
        assert got & stored == value & stored, f"{r.name}: stored bits"
        assert got & fixed == before & fixed or r.on_read, f"{r.name}: read-only bits"
        assert got & ~r.rmask == 0, f"{r.name}: reserved bits read 0"
    for offset in (r.offsets[0], r.offsets[-1]):
        nic.mmio_write(offset, r.reset)
    nic.mmio_write(regs.reg("IMC").offset, ONES)
    nic.mmio_read(regs.reg("ICR").offset)


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_read_clears_and_write_is_ignored(name: str, nic: Nic) -> None:
    offset = regs.reg(name).offset
    base = (
        name.removesuffix("L").removesuffix("H")
        if name[:3] in ("GOR", "GOT", "TOR", "TOT")
        else name
    )
    nic.stats[base] = 0x1_0000_0005 if base != name else 7
    nic.mmio_write(offset, 99)
    want = 7 if base == name else 5 if name.endswith("L") else 1
    assert nic.mmio_read(offset) == want
    # The low half of a pair does not clear; the high half clears both (SDM p337).
    assert nic.mmio_read(offset) == (5 if base != name and name.endswith("L") else 0)
    nic.stats.reset()


def test_statistics_stick_at_all_ones(bench: Bench) -> None:
    bench.nic.stats["MPC"] = ONES + 5
    assert bench.nic.mmio_read(regs.reg("MPC").offset) == ONES
    assert bench.nic.mmio_read(regs.reg("MPC").offset) == 0


def test_self_clearing_bits_read_zero(nic: Nic) -> None:
    for r in TABLE:
        mask = sum(f.mask for f in r.fields if f.access is Access.SC)
        if mask:
            nic.mmio_write(r.offset, nic.regs.peek(r.offset) | mask)
            assert nic.mmio_read(r.offset) & mask == 0, r.name


def test_ctrl_has_a_shadow(nic: Nic) -> None:
    nic.mmio_write(4, nic.mmio_read(0) | 1 << 6)
    assert nic.mmio_read(0) & 1 << 6
    assert nic.mmio_read(4) == nic.mmio_read(0)


def test_pba_gives_the_rest_to_transmit(nic: Nic) -> None:
    nic.mmio_write(0x1000, 40)
    assert nic.mmio_read(0x1000) == 24 << 16 | 40
    nic.mmio_write(0x1000, 0xFFFF)
    assert nic.mmio_read(0x1000) == 64


def test_describe_by_name_index_and_offset() -> None:
    assert regs.describe("rctl")["offset"] == 0x100
    assert regs.describe(0x100)["name"] == "RCTL"
    assert regs.describe("0x102")["name"] == "RCTL"
    assert regs.describe("RAL[3]")["offset"] == 0x5418
    fields = regs.describe("ICR")["fields"]
    assert isinstance(fields, list)
    assert fields[2]["name"] == "LSC"
    for bad in ("NOSUCH", "RAL[16]", "RAL[-1]", "RAL[x]", "RAL[3]x", 0x44, -4, BAR0_BYTES):
        with pytest.raises(KeyError):
            regs.describe(bad)


def test_decode_names_the_bits() -> None:
    assert regs.decode(regs.reg("RCTL"), 0x80C2) == "EN LBM=0x3 BAM"
    assert regs.decode(regs.reg("RCTL"), 1) == "rsv0"


def test_mask_of_several_fields() -> None:
    assert regs.reg("CTRL").mask("RFCE", "TFCE") == 0x18000000
    with pytest.raises(KeyError):
        regs.reg("CTRL").mask("NOPE")


def test_repr_shows_what_differs_from_reset(bench: Bench) -> None:
    nic = make_bench().nic
    nic.mmio_write(0x100, 0x8002)
    assert "RCTL 0100 = 00008002  EN BAM" in repr(nic.regs)
    assert nic.regs["RCTL"] == 0x8002
    assert nic.regs.field("RCTL", "BAM") == 1


def test_a_read_of_rxcw_clears_its_events_and_nothing_else(bench: Bench) -> None:
    """Read-clear and read-only fields in one register (SDM 13.4.14)."""
    nic, rxcw = bench.nic, regs.reg("RXCW")
    nic.regs["RXCW"] = value = rxcw.rmask
    assert nic.mmio_read(rxcw.offset) == value
    assert nic.mmio_read(rxcw.offset) == value & ~rxcw.mask("RXINVALID", "RXCHANGE")
    nic.regs["RXCW"] = 0


def test_counters_cite_their_section() -> None:
    """SDM 13.7 has a section for each counter, and one for both halves of a pair."""
    sections = {name: int(regs.reg(name).sdm.rpartition(".")[2]) for name in STATISTICS}
    known = {
        "CRCERRS": 1,
        "GPTC": 30,
        "GORCL": 31,
        "GORCH": 31,
        "RNBC": 33,
        "TOTH": 42,
        "TSCTFC": 54,
    }
    assert {name: sections[name] for name in known} == known
    assert set(sections.values()) == set(range(1, 55))


def test_compiled_blocks_look_where_the_table_says() -> None:
    assert {name: reg(name).offset for name in REGISTERS} == REGISTERS
    assert {name: reg(name).offset for name in ref_hw.REGISTERS} == ref_hw.REGISTERS
    for name, mask in FIELDS.items():
        register, field = name.split(".")
        assert reg(register).mask(field) == mask, name
    assert (reg("RAL").step, reg("RAH").step, reg("RAH").offset) == (8, 8, reg("RAL").offset + 4)
