"""Windows of 64 bits (EEPROM ICW1.BAR32 clear, or a PCI-X bus): where the BARs are, how they size
themselves, what answers behind them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e1000emu.clock import VirtualClock
from e1000emu.device.flash import FLASH_SIZES
from e1000emu.device.nic import Nic
from e1000emu.device.pci import FLASH_BAR, IO_BAR, ROM_BAR, WIDE_FLASH_BAR, WIDE_IO_BAR
from e1000emu.memory import host_memory
from e1000emu.record.recorder import Recorder
from e1000emu.record.replay import replay
from e1000emu.registers.eeprommap import EEPROM_CHECKSUM, eeprom_word
from e1000emu.registers.models import MODELS
from e1000emu.registers.pciregs import HEADER, WIDE_BARS, check_pci_table
from e1000emu.testing.bench import enable_bus_master
from e1000emu.testing.recorders import RecordingLine, RecordingLink
from tests.e1000emu.common import off, rd

BAR0, BARS_END, ROM = 0x10, 0x28, 0x30
ALL_ONES = 0xFFFF_FFFF
MMIO_BYTES, IO_BYTES = 0x20000, 8
IMAGE = bytes(range(200))
ICW1 = eeprom_word("ICW1")
BAR32 = ICW1.mask("BAR32")
NARROW_SIZES = [MMIO_BYTES, FLASH_SIZES[0], IO_BYTES, 0, 0, 0]
WIDE_SIZES = [MMIO_BYTES, 0, FLASH_SIZES[0], 0, IO_BYTES, 0]


def plugged(**options: Any) -> Nic:
    """Return a NIC with decoding on."""
    _, dma = host_memory(1 << 20)
    nic = Nic(
        memory=dma, irq=RecordingLine(), link=RecordingLink(), clock=VirtualClock(), **options
    )
    enable_bus_master(nic)
    return nic


def sizes(nic: Nic) -> list[int]:
    return [nic.slot.bar_size(bar) for bar in range(6)]


# --- who has them -------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_boards_are_shipped_with_windows_of_32_bits(model: str) -> None:
    nic = plugged(model=model, flash=IMAGE)
    assert nic.eeprom.words[ICW1.offset] & BAR32
    assert sizes(nic) == NARROW_SIZES
    assert nic.slot.io_bar == IO_BAR
    assert nic.slot.config_read(BAR0, 1) & 0xF == 0


@pytest.mark.parametrize("model", MODELS)
def test_a_board_can_be_made_with_wide_ones(model: str) -> None:
    nic = plugged(model=model, flash=IMAGE, wide_bars=True)
    assert not nic.eeprom.words[ICW1.offset] & BAR32
    assert sum(nic.eeprom.words[:64]) & 0xFFFF == EEPROM_CHECKSUM
    assert sizes(nic) == WIDE_SIZES
    assert nic.slot.io_bar == WIDE_IO_BAR


@pytest.mark.parametrize("model", MODELS)
def test_the_bit_counts_at_a_reset_of_the_bus(model: str) -> None:
    nic = plugged(model=model, flash=IMAGE)
    nic.eeprom.words[ICW1.offset] &= ~BAR32
    assert sizes(nic) == NARROW_SIZES
    nic.mmio_write(off("CTRL"), 1 << 26)  # CTRL.RST leaves PCI configuration alone
    assert sizes(nic) == NARROW_SIZES
    assert nic.slot.config_read(BAR0, 4) == 0xFEBC_0000
    nic.reset()
    assert sizes(nic) == WIDE_SIZES
    assert [nic.slot.config_read(BAR0 + 4 * bar, 4) for bar in range(6)] == [4, 0, 4, 0, 1, 0]
    nic.eeprom.words[ICW1.offset] |= BAR32
    nic.reset()
    assert sizes(nic) == NARROW_SIZES
    assert [nic.slot.config_read(BAR0 + 4 * bar, 4) for bar in range(6)] == [0, 0, 1, 0, 0, 0]


def test_an_image_that_is_not_valid_asks_for_nothing() -> None:
    nic = plugged(flash=IMAGE)
    nic.eeprom.words[ICW1.offset] = 0  # no signature
    nic.reset()
    assert sizes(nic) == NARROW_SIZES


@pytest.mark.parametrize(
    ("bus", "wide"), [("pci", False), ("pci-64-66", False), ("pci-x-66", True), ("pci-x-133", True)]
)
@pytest.mark.parametrize("model", ["82545EM", "82544GC"])
def test_on_a_pci_x_bus_they_are_wide_whatever_the_bit_says(
    model: str, bus: str, wide: bool
) -> None:
    nic = plugged(model=model, flash=IMAGE, bus=bus)
    assert nic.eeprom.words[ICW1.offset] & BAR32
    assert sizes(nic) == (WIDE_SIZES if wide else NARROW_SIZES)


def test_the_rows_are_in_the_places_of_those_they_stand_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places = {r.name: (r.offset, r.step) for r in HEADER}
    assert {r.name: (r.offset, r.step) for r in WIDE_BARS}.items() <= places.items()
    monkeypatch.setattr("e1000emu.registers.pciregs.PCI_TABLE", WIDE_BARS)
    assert list(check_pci_table()) == []


# --- sizing -------------------------------------------------------------------------------------


@dataclass
class Window:
    """A base address register as PCI 2.3 (6.2.5.1) has it: an address of a power of two bytes."""

    at: int
    bits: int
    size: int
    kind: int
    """Bits 3 to 0 of memory, 1 and 0 of I/O."""
    address: int = 0

    @property
    def width(self) -> int:
        return self.bits // 8

    def read(self) -> int:
        return self.address | self.kind

    def write(self, value: int) -> None:
        self.address = value & -self.size & (1 << self.bits) - 1


class Model:
    """What a host sees of the BARs, and nothing else of the device."""

    def __init__(self, wide: bool, flash_bytes: int) -> None:
        bits, kind = (64, 4) if wide else (32, 0)
        flash, io = (WIDE_FLASH_BAR, WIDE_IO_BAR) if wide else (FLASH_BAR, IO_BAR)
        self.windows = [
            Window(BAR0, bits, MMIO_BYTES, kind),
            Window(BAR0 + 4 * io, 32, IO_BYTES, 1),
        ]
        if flash_bytes:
            self.windows.append(Window(BAR0 + 4 * flash, bits, flash_bytes, kind))

    def read(self, at: int, size: int) -> int:
        image = bytearray(BARS_END)
        for w in self.windows:
            image[w.at : w.at + w.width] = w.read().to_bytes(w.width, "little")
        return int.from_bytes(image[at : at + size], "little")

    def write(self, at: int, value: int, size: int) -> None:
        for w in self.windows:
            raw = bytearray(w.read().to_bytes(w.width, "little"))
            for i, byte in enumerate(value.to_bytes(size, "little"), at - w.at):
                if 0 <= i < w.width:
                    raw[i] = byte
            w.write(int.from_bytes(raw, "little"))


ACCESSES = st.sampled_from([(at, size) for size in (1, 2, 4) for at in range(BAR0, BARS_END, size)])
VALUES = st.one_of(st.just(ALL_ONES), st.integers(0, ALL_ONES))


@given(
    wide=st.booleans(),
    flash=st.sampled_from([0, *FLASH_SIZES]),
    writes=st.lists(st.tuples(ACCESSES, VALUES), max_size=20),
)
def test_bars_are_what_a_host_expects(
    wide: bool, flash: int, writes: list[tuple[tuple[int, int], int]]
) -> None:
    nic = plugged(wide_bars=wide, flash=bytes(flash) or None, model="82545EM")
    nic.reset()
    model = Model(wide, flash)
    for (at, size), value in writes:
        value &= (1 << 8 * size) - 1
        nic.slot.config_write(at, value, size)
        model.write(at, value, size)
        for dword in range(BAR0, BARS_END, 4):
            assert nic.slot.config_read(dword, 4) == model.read(dword, 4)
        assert nic.slot.config_read(at, size) == model.read(at, size)


@pytest.mark.parametrize("code", range(4))
def test_a_host_sizes_both_halves(code: int) -> None:
    nic = plugged(wide_bars=True, flash=bytes(FLASH_SIZES[code]))
    slot = nic.slot
    for bar, want in ((0, MMIO_BYTES), (WIDE_FLASH_BAR, FLASH_SIZES[code])):
        at = BAR0 + 4 * bar
        slot.config_write(at, ALL_ONES, 4)
        slot.config_write(at + 4, ALL_ONES, 4)
        mask = slot.config_read(at, 4) | slot.config_read(at + 4, 4) << 32
        assert mask & 0xF == 4  # memory, anywhere in 64 bits, reads have side effects
        assert (~(mask & ~0xF) & (1 << 64) - 1) + 1 == want
        slot.config_write(at, 0x8000_0000, 4)
        slot.config_write(at + 4, 0xC0, 4)
        assert slot.config_read(at, 4) | slot.config_read(at + 4, 4) << 32 == 0xC0_8000_0004
    slot.config_write(ROM, ALL_ONES, 4)
    assert slot.config_read(ROM, 4) == -FLASH_SIZES[code] & ALL_ONES | 1  # 32 bits, as ever


def test_without_a_flash_its_pair_reads_0() -> None:
    nic = plugged(wide_bars=True)
    for at in (0x18, 0x1C, 0x24, ROM):
        nic.slot.config_write(at, ALL_ONES, 4)
        assert nic.slot.config_read(at, 4) == 0
    assert sizes(nic) == [MMIO_BYTES, 0, 0, 0, IO_BYTES, 0]


def test_another_size_of_the_flash_moves_no_other_window() -> None:
    nic = plugged(wide_bars=True, flash=IMAGE)
    slot = nic.slot
    for at in range(BAR0, BARS_END, 4):
        slot.config_write(at, 0x5AA0_0000, 4)
    nic.pci.set_flash_window(FLASH_SIZES[2])
    assert [slot.config_read(at, 4) for at in range(BAR0, BARS_END, 4)] == [
        0x5AA0_0004,
        0x5AA0_0000,
        4,
        0,
        0x5AA0_0001,
        0,
    ]


# --- what answers -------------------------------------------------------------------------------


def test_each_window_answers_at_its_own_index() -> None:
    nic = plugged(wide_bars=True, flash=IMAGE)
    slot = nic.slot
    slot.config_write(ROM, 1, 4)
    assert slot.bar_read(0, off("VET"), 4) == rd(nic, "VET")
    assert slot.bar_read(WIDE_FLASH_BAR, 4, 4) == slot.bar_read(ROM_BAR, 4, 4) == 0x07060504
    slot.bar_write(WIDE_IO_BAR, 0, off("VET"), 4)
    assert slot.bar_read(WIDE_IO_BAR, 4, 4) == rd(nic, "VET")
    assert nic.misuse.total == 0
    for bar in (1, 3, 5):
        slot.bar_write(bar, 0, 0, 4)
        assert slot.bar_read(bar, 0, 4) == ALL_ONES
    assert nic.misuse.count("decode-off") == 6
    slot.config_write(4, 6, 2)  # COMMAND without IO
    assert slot.bar_read(WIDE_IO_BAR, 4, 4) == ALL_ONES


def test_d3_and_back_keeps_the_layout() -> None:
    nic = plugged(wide_bars=True, flash=IMAGE)
    nic.slot.config_write(0x14, 0xC0, 4)
    nic.slot.config_write(0xE0, 3, 2)
    nic.slot.config_write(0xE0, 0, 2)
    assert sizes(nic) == WIDE_SIZES
    assert nic.slot.config_read(BAR0, 4) == 4
    assert nic.slot.config_read(0x14, 4) == 0


# --- snapshots, recordings ----------------------------------------------------------------------


@pytest.mark.parametrize("wide", [True, False])
def test_a_snapshot_brings_its_layout(wide: bool) -> None:
    nic = plugged(wide_bars=wide, flash=IMAGE)
    nic.slot.config_write(0x14, 0xFEA0_0000, 4)
    other = plugged(wide_bars=not wide, flash=bytes(len(IMAGE)))
    other.load_state(nic.state())
    assert sizes(other) == sizes(nic) == (WIDE_SIZES if wide else NARROW_SIZES)
    assert [other.slot.config_read(at, 4) for at in range(0, 256, 4)] == [
        nic.slot.config_read(at, 4) for at in range(0, 256, 4)
    ]
    assert other.slot.bar_read(other.pci.flash_bar, 4, 4) == 0x07060504
    other.reset()
    assert sizes(other) == sizes(nic)  # its EEPROM came along


def test_a_recording_has_the_layout(tmp_path: Path) -> None:
    path = tmp_path / "a.rec"
    with Recorder(path) as recorder:
        nic = plugged(wide_bars=True, flash=IMAGE, record=recorder)
        slot = nic.slot
        assert slot.io_bar == WIDE_IO_BAR
        slot.bar_write(WIDE_IO_BAR, 0, off("VET"), 4)
        assert slot.bar_read(WIDE_IO_BAR, 4, 4) == 0x8100
        assert slot.bar_read(WIDE_FLASH_BAR, 4, 4) == 0x07060504
        assert slot.config_read(BAR0, 4) == 0xFEBC_0004
        nic.halt()
    assert replay(path).divergence is None
