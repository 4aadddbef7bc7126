"""The EEPROM's map covers the chip, and a field without a gap has an effect on the device."""

from __future__ import annotations

import pytest

from e1000emu.eeprommap import EEPROM_CHECKSUM, EEPROM_MAP, check_eeprom_map, eeprom_word
from e1000emu.models import MODELS, eeprom_image, fresh_word
from e1000emu.testing.fixtures import make_bench

MAC = bytes.fromhex("525400123456")


def test_every_word_and_bit_is_claimed_once() -> None:
    assert list(check_eeprom_map()) == []


def test_a_fresh_board_has_what_the_map_says() -> None:
    image = eeprom_image(MODELS["82540EM"], MAC)
    assert sum(image) & 0xFFFF == EEPROM_CHECKSUM
    for r in EEPROM_MAP:
        for address in r.offsets:
            assert fresh_word(r.name) in (None, image[address])


def after_reset(name: str, field: str) -> tuple[bytes, bytes, int, int]:
    """Return (MAC address, PCI configuration, CTRL, WUC); the field of the EEPROM is inverted."""
    nic = make_bench().nic
    for ids in ("DEVICE_ID", "SUBSYSTEM_ID"):  # not those that the function has by itself
        nic.eeprom.words[eeprom_word(ids).offset] = 0x1234
    row = eeprom_word(name)
    nic.eeprom.words[row.offset] ^= row.mask(field)
    nic.power_on_reset()
    config = b"".join(nic.slot.config_read(at, 4).to_bytes(4, "little") for at in range(0, 64, 4))
    return nic.mac, config, nic.mmio_read(0), nic.mmio_read(0x5800)


@pytest.mark.parametrize(
    ("name", "field"),
    [(r.name, f.name) for r in EEPROM_MAP for f in r.fields],
)
def test_a_field_acts_unless_the_map_says_that_it_does_not(name: str, field: str) -> None:
    nothing = after_reset("VERSION", "VERSION")
    todo = eeprom_word(name).field(field).todo
    assert (after_reset(name, field) == nothing) is bool(todo)
