"""The parts as rows of data: ids, EEPROM size, PHY identity.  No subclass per model.

`eeprom_image` builds what the manufacturer would have programmed; every word it sets is named.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from e1000emu.errors import E1000Error

__all__ = ["MODELS", "Model", "eeprom_image", "model"]

INTEL = 0x8086
EEPROM_CHECKSUM = 0xBABA
"""All words to 3Fh sum to it (SDM 5.6.35)."""

# Initialisation control word 1 (EEPROM word 0Ah, SDM 5.6.9).
ICW1_SIGNATURE = 0x4000
ICW1_BAR32 = 0x2000
ICW1_FRCSPD = 0x0800
ICW1_FD = 0x0400
ICW1_ILOS = 0x0010
ICW1_POWER_MANAGEMENT = 0x0008
ICW1_LOAD_SUBSYSTEM = 0x0002
ICW1_LOAD_VENDOR = 0x0001
ICW1_SIGNATURE_MASK = 0xC000

# Initialisation control word 2 (EEPROM word 0Fh, SDM 5.6.14).
ICW2_APM_PME = 0x8000
ICW2_ASDE = 0x4000
ICW2_PAUSE = 0x3000
ICW2_PHY_POWER = 0x0040


@dataclass(frozen=True, slots=True)
class Model:
    """One part of the family."""

    name: str
    device_id: int
    revision: int
    subsystem_id: int
    phy_id: tuple[int, int]
    eeprom_words: int = 64
    """64 (93C46) or 256 (93C66)."""
    n_rar: int = 16
    rps: bool = False
    """The RPS descriptor bit reports status (82544 only)."""
    small_packet_detect: bool = True
    reset_overrides: dict[str, int] = field(default_factory=dict)
    """Register name -> power-on value, where it differs from the table."""


MODELS: dict[str, Model] = {
    m.name: m
    for m in (
        Model(
            name="82540EM",
            device_id=0x100E,
            revision=0x02,
            subsystem_id=0x001E,
            phy_id=(0x0141, 0x0C20),
        ),
    )
}
"""The parts this emulator knows."""


def model(name: str | Model) -> Model:
    """Return the row called `name`.  Raises: E1000Error naming those there are."""
    if isinstance(name, Model):
        return name
    try:
        return MODELS[name]
    except KeyError:
        known = ", ".join(MODELS)
        raise E1000Error(f"model {name!r}: not a part we emulate; use one of {known}") from None


def checksum_word(words: list[int]) -> int:
    """Return what word 3Fh must hold for words 0 to 3Eh of `words`."""
    return (EEPROM_CHECKSUM - sum(words[:0x3F])) & 0xFFFF


def eeprom_image(part: Model, mac: bytes) -> list[int]:
    """Return the EEPROM of a fresh board as 16-bit words: `mac`, ids, control words, checksum.

    Raises: E1000Error when `mac` is not six bytes or a group address.
    """
    if len(mac) != 6:
        raise E1000Error(f"mac {mac!r}: {len(mac)} bytes; give six, e.g. bytes.fromhex(...)")
    if mac[0] & 1:
        raise E1000Error(f"mac {mac.hex(':')}: a group address; clear bit 0 of the first byte")
    words = [0xFFFF] * part.eeprom_words
    for i in range(3):
        words[i] = mac[2 * i] | mac[2 * i + 1] << 8
    words[0x03] = 0x0000  # software compatibility: client NIC on a PCI card
    words[0x05] = 0x0001  # image version
    words[0x08], words[0x09] = 0xE100, 0x0EAE  # printed board assembly number
    words[0x0A] = (
        ICW1_SIGNATURE
        | ICW1_BAR32
        | ICW1_FD
        | ICW1_POWER_MANAGEMENT
        | ICW1_LOAD_SUBSYSTEM
        | ICW1_LOAD_VENDOR
    )
    words[0x0B] = part.subsystem_id
    words[0x0C] = INTEL
    words[0x0D] = part.device_id
    words[0x0E] = INTEL
    words[0x0F] = ICW2_PAUSE | ICW2_PHY_POWER
    words[0x24] = 0x0000  # control word 3: wake-up from power-on is off
    words[0x3F] = checksum_word(words)
    return words
