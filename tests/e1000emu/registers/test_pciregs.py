"""Configuration space: its rows are what the function answers, and capabilities form a chain."""

from __future__ import annotations

from itertools import permutations

import pytest

from e1000emu.device.nic import Nic
from e1000emu.registers import pciregs
from e1000emu.registers.fields import Reg, rsv
from e1000emu.registers.models import MODELS
from e1000emu.registers.pciregs import CAPABILITIES, CONFIG_BYTES, config_rows
from e1000emu.testing.bench import make_bench

IDS = {"PM": 1, "MSI": 5, "PCI-X": 7}
EFFECTS = ("COMMAND", "PMCSR", "MSI_CONTROL")  # have tests of their own


@pytest.fixture(params=list(MODELS))
def nic(request: pytest.FixtureRequest) -> Nic:
    return make_bench(model=request.param).nic


def test_every_bit_is_claimed_once_and_every_byte_by_one_row() -> None:
    assert list(pciregs.check_pci_table()) == []


def test_check_finds_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = (
        Reg("A", 0, "", "", (rsv(7, 0),), step=2),
        Reg("B", 1, "", "", (rsv(7, 0),), step=1),
        Reg("C", 256, "", "", (rsv(7, 0),), step=1),
    )
    monkeypatch.setattr(pciregs, "PCI_TABLE", bad)
    text = "\n".join(pciregs.check_pci_table())
    for fault in ("A: bits 0xff00", "B: bytes [1]", "C: bytes [256]"):
        assert fault in text


def chain(nic: Nic) -> list[tuple[int, int]]:
    """Return (offset, id) of each capability, as a host finds them."""
    read, found = nic.slot.config_read, []
    at = read(0x34, 1)
    while at:
        found.append((at, read(at, 1)))
        at = read(at + 1, 1)
    return found


def test_a_host_finds_the_capabilities_of_the_model(nic: Nic) -> None:
    want = [(CAPABILITIES[name][0].offset, IDS[name]) for name in nic.model.capabilities]
    assert chain(nic) == want


@pytest.mark.parametrize("names", [p for n in range(4) for p in permutations(CAPABILITIES, n)])
def test_any_list_of_capabilities_is_a_chain(names: tuple[str, ...]) -> None:
    rows = {r.name: r for r in config_rows(names)}
    by_offset = {r.offset: r for r in rows.values()}
    at, seen = rows["CAP_POINTER"].reset, []
    while at:
        seen.append(by_offset[at].reset)
        at = by_offset[at + 1].reset
    assert seen == [IDS[name] for name in names]


def test_writes_store_what_the_rows_say(nic: Nic) -> None:
    slot = nic.slot
    rows = config_rows(nic.model.capabilities)
    for r in rows:
        if r.name in EFFECTS or r.step == 3:
            continue
        before = slot.config_read(r.offset, r.step)
        ones = (1 << 8 * r.step) - 1
        slot.config_write(r.offset, ones, r.step)
        assert slot.config_read(r.offset, r.step) == before & ~r.w1c_mask | r.stored_mask, r.name
        slot.config_write(r.offset, 0, r.step)
        assert slot.config_read(r.offset, r.step) == before & ~r.w1c_mask & ~r.stored_mask, r.name


def test_bytes_without_a_row_read_0(nic: Nic) -> None:
    taken = {r.offset + i for r in config_rows(nic.model.capabilities) for i in range(r.step)}
    for at in set(range(CONFIG_BYTES)) - taken:
        nic.slot.config_write(at, 0xFF, 1)
        assert nic.slot.config_read(at, 1) == 0


def test_power_on_values_are_the_models(nic: Nic) -> None:
    read = nic.slot.config_read
    part = nic.model
    assert read(0, 4) == part.device_id << 16 | 0x8086
    assert read(8, 4) == 0x02000000 | part.revision
    assert read(0x2C, 4) == part.subsystem_id << 16 | 0x8086
