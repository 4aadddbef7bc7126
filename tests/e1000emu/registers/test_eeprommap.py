"""The EEPROM's map covers the chip, and a field without a gap has an effect on the device."""

from __future__ import annotations

import pytest

from e1000emu.device.nic import Nic
from e1000emu.device.pci import FLASH_BAR
from e1000emu.registers.eeprommap import (
    EEPROM_CHECKSUM,
    EEPROM_MAP,
    check_eeprom_map,
    eeprom_word,
    loaded_bits,
)
from e1000emu.registers.fields import Access
from e1000emu.registers.models import MODELS, eeprom_image, fresh_word
from e1000emu.registers.regs import reg
from e1000emu.testing.bench import make_bench
from e1000emu.testing.recorders import RecordingLine, RecordingLink

MAC = bytes.fromhex("525400123456")


def test_every_word_and_bit_is_claimed_once() -> None:
    assert list(check_eeprom_map()) == []


def test_a_fresh_board_has_what_the_map_says() -> None:
    image = eeprom_image(MODELS["82540EM"], MAC)
    assert sum(image) & 0xFFFF == EEPROM_CHECKSUM
    for r in EEPROM_MAP:
        for address in r.offsets:
            assert fresh_word(r.name) in (None, image[address])


def after_reset(name: str, field: str) -> tuple[object, ...]:
    """Return (MAC address, PCI configuration, CTRL, WUC, TXCW, bytes of the flash's window).

    The field of the EEPROM is inverted.
    """
    bench = make_bench()
    nic = Nic(
        memory=bench.dma, irq=RecordingLine(), link=RecordingLink(), clock=bench.clock, flash=b"x"
    )
    for ids in ("DEVICE_ID", "SUBSYSTEM_ID"):  # not those that the function has by itself
        nic.eeprom.words[eeprom_word(ids).offset] = 0x1234
    row = eeprom_word(name)
    nic.eeprom.words[row.offset] ^= row.mask(field)
    nic.power_on_reset()
    config = b"".join(nic.slot.config_read(at, 4).to_bytes(4, "little") for at in range(0, 256, 4))
    nic.slot.config_write(0xE0, 3 << 9, 2)
    config += nic.slot.config_read(0xE0, 4).to_bytes(4, "little")  # and what D3 consumes
    registers = [nic.regs[name] for name in ("CTRL", "WUC", "TXCW")]
    return nic.mac, config, *registers, nic.slot.bar_size(FLASH_BAR)


@pytest.mark.parametrize(
    ("name", "field"),
    [(r.name, f.name) for r in EEPROM_MAP for f in r.fields],
)
def test_a_field_acts_unless_the_map_says_that_it_does_not(name: str, field: str) -> None:
    nothing = after_reset("VERSION", "VERSION")
    row = eeprom_word(name).field(field)
    idle = bool(row.todo) or row.access is Access.SW
    assert (after_reset(name, field) == nothing) is idle


@pytest.mark.parametrize(
    ("bits", "directions"), [(0, 0), (1 << 5, 1 << 22), (1 << 6, 1 << 23), (3 << 7, 0)]
)
def test_swdpio_makes_outputs_of_the_pins(bits: int, directions: int) -> None:
    nic = make_bench().nic
    nic.eeprom.words[eeprom_word("ICW1").offset] |= bits
    nic.mmio_write(0, 1 << 26)
    assert nic.mmio_read(0) & 3 << 22 == directions


@pytest.mark.parametrize("model", MODELS)
def test_power_management_can_be_left_out(model: str) -> None:
    nic = make_bench(model=model).nic
    slot, icw1 = nic.slot, eeprom_word("ICW1")
    nic.eeprom.words[icw1.offset] &= ~icw1.mask("POWER_MANAGEMENT")
    nic.reset()
    ids, at = [], slot.config_read(0x34, 1)
    while at:
        ids.append(slot.config_read(at, 1))
        at = slot.config_read(at + 1, 1)
    assert ids == ([] if model == "82540EM" else [7, 5])
    slot.config_write(0xE0, 0x0103, 2)
    nic.mmio_write(0x5800, 2)
    assert slot.config_read(0xDC, 4) == slot.config_read(0xE0, 4) == 0
    state = nic.state()
    nic.eeprom.words[icw1.offset] |= icw1.mask("POWER_MANAGEMENT")
    nic.power_on_reset()
    assert slot.config_read(0xDC, 1) == 1
    nic.load_state(state)
    assert slot.config_read(0x34, 1) != 0xDC


def test_each_bit_that_is_loaded_is_one_of_a_register() -> None:
    for register, bits in loaded_bits().items():
        for word, mask, name in bits:
            assert mask.bit_count() == reg(register).mask(name).bit_count() == 1, (word, name)
