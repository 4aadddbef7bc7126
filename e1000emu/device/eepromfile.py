"""An EEPROM's contents in a file: raw, or as ``ethtool -e`` prints them.

Raw is what ``ethtool -e eth0 raw on`` writes: 16-bit words, the low byte first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from e1000emu.errors import E1000Error
from e1000emu.registers.eeprommap import EEPROM_CHECKSUM, MAPPED_WORDS, eeprom_word
from e1000emu.registers.models import MODELS, Model

EEPROM_BYTES = (128, 512)
"""Sizes of a 93C46 and a 93C66."""
LINE = re.compile(rb"\s*(?:0x)?([0-9a-fA-F]+):((?:\s+[0-9a-fA-F]{2})+)\s*")
ICW1 = eeprom_word("ICW1")
SIGNATURE = ICW1.field("SIGNATURE")


def words_of(data: bytes) -> list[int]:
    """Return the words of a raw image.  Raises: E1000Error, it has another size than the chips."""
    if len(data) not in EEPROM_BYTES:
        raise E1000Error(
            f"eeprom: {len(data)} bytes; give the 128 of a 93C46 or the 512 of a 93C66, "
            "as `ethtool -e eth0 raw on` writes them"
        )
    return [data[at] | data[at + 1] << 8 for at in range(0, len(data), 2)]


def eeprom_bytes(data: bytes) -> bytes:
    """Return the raw image that a file holds: raw, or the table of ``ethtool -e``.

    Raises: E1000Error, it is neither.
    """
    if len(data) in EEPROM_BYTES:
        return data
    image = bytearray()
    for line in map(LINE.fullmatch, data.splitlines()):
        if line is not None and int(line[1], 16) == len(image):
            image += bytes.fromhex(line[2].decode())
    data = bytes(image) or data
    words_of(data)
    return data


def eeprom_doubts(words: Sequence[int], part: Model) -> Iterator[str]:
    """Yield warnings, one sentence each, about contents that a driver of `part` may reject."""
    total = sum(words[:MAPPED_WORDS]) & 0xFFFF
    if SIGNATURE.get(words[ICW1.offset]) != SIGNATURE.reset:
        yield (
            f"bits 15 and 14 of word {ICW1.offset:02X}h are no signature: the device loads nothing"
        )
    elif words[ICW1.offset] & ICW1.mask("LOAD_VENDOR"):
        device = words[eeprom_word("DEVICE_ID").offset]
        if device != part.device_id:
            whose = next((f" ({m.name})" for m in MODELS.values() if m.device_id == device), "")
            yield (
                f"it is of a device {device:04X}{whose}, which the {part.name} then says to be; "
                "give the --model that fits"
            )
    if total != EEPROM_CHECKSUM:
        yield (
            f"words 0 to 3F sum to {total:04X}, not {EEPROM_CHECKSUM:04X}: the device loads them, "
            "but drivers refuse such a board"
        )
