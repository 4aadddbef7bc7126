"""The boot flash: the chip's commands, the device's three windows to it, snapshots, recordings."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from e1000emu.device.flash import BOOT_BLOCK_BYTES, ERASE_NS, FLASH_SIZES, PROGRAM_NS, FlashChip
from e1000emu.device.nic import Nic
from e1000emu.device.pci import FLASH_BAR, ROM_BAR
from e1000emu.errors import ArgumentError, SnapshotError
from e1000emu.record import snapshot
from e1000emu.record.recorder import Recorder
from e1000emu.record.replay import replay
from e1000emu.registers.models import MODELS
from e1000emu.testing.bench import Bench, enable_bus_master, make_bench
from e1000emu.testing.recorders import RecordingLine, RecordingLink
from tests.e1000emu.common import rd, wr
from tests.e1000emu.witness import witness

IMAGE = bytes(range(256)) * 300  # 75 KiB: a chip of 128
KIB = 1 << 10
BAR1, ROM = 0x14, 0x30
FWE_ON, FWE_OFF = 0x20, 0x10
FWE_MASK = 0x30


def plugged(flash: bytes | None = IMAGE, bench: Bench | None = None, **options: object) -> Nic:
    bench = bench or make_bench()
    nic = Nic(
        memory=bench.dma,
        irq=RecordingLine(),
        link=RecordingLink(),
        clock=bench.clock,
        flash=flash,
        **options,  # type: ignore[arg-type]
    )
    enable_bus_master(nic)
    return nic


def writable(nic: Nic) -> Nic:
    wr(nic, "EECD", rd(nic, "EECD") & ~FWE_MASK | FWE_ON)
    return nic


def command(chip: FlashChip, value: int, now_ns: int = 0) -> None:
    for at, byte in ((0x5555, 0xAA), (0x2AAA, 0x55), (0x5555, value)):
        chip.write(at, byte, now_ns)


def erase(chip: FlashChip, now_ns: int = 0) -> None:
    command(chip, 0x80, now_ns)
    command(chip, 0x10, now_ns)


# --- the chip -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 64 * KIB, 64 * KIB + 1, 512 * KIB])
def test_a_chip_is_the_smallest_that_holds_it(size: int) -> None:
    chip = FlashChip(b"\0" * size)
    assert len(chip.data) in FLASH_SIZES
    assert len(chip.data) // 2 < size or len(chip.data) == FLASH_SIZES[0]
    assert chip.data.count(0) == size
    assert set(chip.data[size:]) <= {0xFF}


@pytest.mark.parametrize("size", [0, 512 * KIB + 1])
def test_what_no_chip_holds_is_refused(size: int) -> None:
    with pytest.raises(ArgumentError, match="give from 1 to 524288"):
        plugged(b"\0" * size)


def test_programming_clears_bits_and_shows_that_it_works() -> None:
    chip = FlashChip(b"\xf3")
    command(chip, 0xA0)
    chip.write(0, 0x81, 0)
    # bit 7 is that of the byte inverted, bit 6 toggles
    assert [chip.read(0, 1) & 0xC0 for _ in range(3)] == [0x40, 0x00, 0x40]
    command(chip, 0xA0, 1)  # nobody listens
    chip.write(0, 0, 1)
    assert chip.read(0, PROGRAM_NS) == 0x81
    chip.write(0, 0, PROGRAM_NS)
    assert chip.read(0, PROGRAM_NS) == 0x81


def test_an_erase_sets_all_bits() -> None:
    chip = FlashChip(IMAGE)
    erase(chip)
    assert chip.read(3, ERASE_NS - 1) & 0x80 == 0
    assert chip.read(3, ERASE_NS) == 0xFF
    assert set(chip.data) == {0xFF}


def test_a_command_that_is_broken_off_does_nothing() -> None:
    chip = FlashChip(IMAGE)
    was = bytes(chip.data)
    command(chip, 0x10)  # no first half
    command(chip, 0x80)
    chip.write(0x1234, 0, 0)
    command(chip, 0x10)
    chip.write(0x5555, 0xAA, 0)
    chip.write(0x2AAB, 0x55, 0)
    chip.write(0x5555, 0xA0, 0)
    chip.write(0, 0, 0)
    chip.write(0x5555, 0xAA, 0)
    chip.write(0x2AAA, 0x55, 0)
    chip.write(0x5554, 0xA0, 0)
    chip.write(0, 0, 0)
    assert bytes(chip.data) == was
    assert not chip.busy(0)


@pytest.mark.parametrize(("kib", "device"), [(64, 0x03), (128, 0x17), (256, 0x0B), (512, 0x13)])
def test_product_id(kib: int, device: int) -> None:
    chip = FlashChip(b"\x55" * (kib * KIB))
    command(chip, 0x90)
    assert [chip.read(at, 0) for at in range(3)] == [0x1F, device, 0]
    chip.write(0, 0xF0, 0)
    assert chip.read(0, 0) == 0x55
    command(chip, 0x90)
    command(chip, 0xF0)
    assert chip.read(0, 0) == 0x55


def test_a_locked_boot_block_stays() -> None:
    chip = FlashChip(IMAGE)
    command(chip, 0x80)
    command(chip, 0x40)
    now = ERASE_NS
    erase(chip, now)
    now += ERASE_NS
    assert bytes(chip.data[:BOOT_BLOCK_BYTES]) == IMAGE[:BOOT_BLOCK_BYTES]
    assert set(chip.data[BOOT_BLOCK_BYTES:]) == {0xFF}
    command(chip, 0xA0, now)
    chip.write(1, 0, now)
    now += PROGRAM_NS
    assert chip.read(1, now) == 1
    command(chip, 0x90, now)
    assert chip.read(2, now) == 1


# --- the windows --------------------------------------------------------------------------------


@witness("PCI:BAR1.ADDRESS", "PCI:ROM.ADDRESS", "PCI:ROM.SIZE", "PCI:BAR1.SIZE")
@witness("PCI:BAR1.SPACE", "PCI:BAR1.TYPE", "PCI:BAR1.PREFETCH")
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("code", range(4))
def test_the_bars_have_the_size_that_the_eeprom_tells(model: str, code: int) -> None:
    nic = plugged(bytes(FLASH_SIZES[code]), model=model)
    slot, mask = nic.slot, -FLASH_SIZES[code] & 0xFFFFFFFF
    assert nic.eeprom.words[0x0F] >> 8 & 7 == code
    for at, extra in ((BAR1, 0), (ROM, 1)):
        slot.config_write(at, 0xFFFFFFFF, 4)
        assert slot.config_read(at, 4) == mask | extra
    assert [slot.bar_size(bar) for bar in (FLASH_BAR, ROM_BAR)] == [FLASH_SIZES[code]] * 2
    # another size is taken at the next reset
    nic.eeprom.words[0x0F] ^= 0x0100
    assert slot.bar_size(FLASH_BAR) == FLASH_SIZES[code]
    slot.config_write(BAR1, 0xFFFFFFFF, 4)
    nic.reset()
    assert slot.bar_size(FLASH_BAR) == FLASH_SIZES[code ^ 1]
    assert slot.config_read(BAR1, 4) == 0


def test_without_a_flash_there_is_no_window() -> None:
    nic = plugged(None)
    slot = nic.slot
    for at in (BAR1, ROM):
        slot.config_write(at, 0xFFFFFFFF, 4)
        assert slot.config_read(at, 4) == 0
    assert slot.bar_read(FLASH_BAR, 0, 4) == slot.bar_read(ROM_BAR, 0, 4) == 0xFFFFFFFF
    slot.bar_write(2, 0, 0x80000, 4)
    assert slot.bar_read(2, 4, 4) == 0
    assert nic.misuse.count("io-address") == 1


def test_memory_windows_read_the_image_in_any_width() -> None:
    slot = plugged().slot
    for bar in (FLASH_BAR, ROM_BAR):
        slot.config_write(ROM, 1, 4)
        assert slot.bar_read(bar, 0x10, 1) == 0x10
        assert slot.bar_read(bar, 0x11, 2) == 0x1211
        assert slot.bar_read(bar, 0x20, 4) == 0x23222120
        assert slot.bar_read(bar, len(IMAGE), 4) == 0xFFFFFFFF
        # behind the window nobody answers
        assert slot.bar_read(bar, 128 * KIB, 4) == 0xFFFFFFFF
        assert slot.bar_read(bar, -4, 4) == 0xFFFFFFFF


@witness("PCI:ROM.ENABLE", "PCI:COMMAND.MEMORY")
def test_windows_answer_when_they_are_enabled() -> None:
    nic = plugged()
    slot = nic.slot
    assert slot.bar_read(ROM_BAR, 4, 4) == 0xFFFFFFFF  # ROM.ENABLE is clear
    slot.config_write(ROM, 1, 4)
    assert slot.bar_read(ROM_BAR, 4, 4) == 0x07060504
    slot.config_write(4, 5, 2)  # COMMAND without MEMORY
    assert slot.bar_read(ROM_BAR, 4, 4) == slot.bar_read(FLASH_BAR, 4, 4) == 0xFFFFFFFF
    assert nic.misuse.count("decode-off") == 3


def test_a_window_larger_than_the_chip_wraps() -> None:
    nic = plugged(bytes(range(256)) * 256)
    nic.eeprom.words[0x0F] |= 3 << 8
    nic.reset()
    enable_bus_master(nic)
    assert nic.slot.bar_size(FLASH_BAR) == 512 * KIB
    assert nic.slot.bar_read(FLASH_BAR, 448 * KIB + 5, 1) == 5


def test_io_window() -> None:
    """SDM 13.2.2: IOADDR from 80000h to FFFFFh is the flash."""
    nic = writable(plugged())
    slot = nic.slot
    slot.bar_write(2, 0, 0x80020, 4)
    assert slot.bar_read(2, 4, 4) == 0x23222120
    assert slot.bar_read(2, 5, 1) == 0x21
    for at, byte in ((0x5555, 0xAA), (0x2AAA, 0x55), (0x5555, 0xA0), (0x21, 0x01)):
        slot.bar_write(2, 0, 0x80000 + at, 4)
        slot.bar_write(2, 4, byte, 1)
    nic.clock.run_for(PROGRAM_NS)  # type: ignore[attr-defined]
    assert slot.bar_read(FLASH_BAR, 0x20, 4) == 0x23220120


@witness("EECD.FWE")
@pytest.mark.parametrize("fwe", [0, FWE_OFF, FWE_MASK])
def test_writes_go_through_with_fwe_only(fwe: int) -> None:
    nic = plugged()
    wr(nic, "EECD", rd(nic, "EECD") & ~FWE_MASK | fwe)
    erase_by_bar(nic)
    assert nic.slot.bar_read(FLASH_BAR, 5, 1) == 5
    assert nic.misuse.count("flash-write") == 6
    wr(nic, "EECD", rd(nic, "EECD") & ~FWE_MASK | FWE_ON)
    erase_by_bar(nic)
    assert nic.slot.bar_read(FLASH_BAR, 5, 1) & 0x80 == 0
    nic.clock.run_for(ERASE_NS)  # type: ignore[attr-defined]
    assert nic.slot.bar_read(FLASH_BAR, 5, 1) == 0xFF


def erase_by_bar(nic: Nic) -> None:
    for value in (0x80, 0x10):
        for at, byte in ((0x5555, 0xAA), (0x2AAA, 0x55), (0x5555, value)):
            nic.slot.bar_write(FLASH_BAR, at, byte, 1)


# --- snapshots, recordings ----------------------------------------------------------------------


def test_a_snapshot_in_the_middle_of_an_erase_goes_on() -> None:
    bench = make_bench()
    nic = writable(plugged(bench=bench))
    nic.slot.config_write(BAR1, 0xFEA00000, 4)
    erase_by_bar(nic)
    bench.clock.run_for(ERASE_NS - 100)
    state = nic.state()
    other = plugged(b"\0" * len(IMAGE), bench=bench)
    other.load_state(state)
    assert other.slot.config_read(BAR1, 4) == 0xFEA00000
    assert other.slot.bar_read(FLASH_BAR, 5, 1) & 0x80 == 0
    bench.clock.run_for(100)
    assert other.slot.bar_read(FLASH_BAR, 5, 1) == 0xFF
    later = plugged(b"\0" * len(IMAGE), bench=make_bench())
    snapshot.load(later, state, rebase=True)
    assert later.slot.bar_read(FLASH_BAR, 5, 1) & 0x80 == 0


def test_a_state_from_before_there_was_a_flash_loads() -> None:
    state = msgspec.msgpack.decode(plugged(None).state())
    del state["flash"]
    nic = plugged()
    nic.load_state(msgspec.msgpack.encode(state))
    assert nic.slot.bar_read(FLASH_BAR, 5, 1) == 5


@pytest.mark.parametrize("kib", [None, 64, 512])
def test_a_state_of_another_chip_is_refused(kib: int | None) -> None:
    state = plugged().state()
    with pytest.raises(SnapshotError, match="flash"):
        plugged(None if kib is None else bytes(kib * KIB)).load_state(state)


def test_a_recording_has_the_flash(tmp_path: Path) -> None:
    path = tmp_path / "a.rec"
    with Recorder(path) as recorder:
        nic = writable(plugged(record=recorder))
        erase_by_bar(nic)
        assert nic.slot.bar_read(FLASH_BAR, 5, 1) & 0x80 == 0
        nic.halt()
    assert replay(path).divergence is None
