"""The EEPROM's map: every word, its bits, and its value on a new 82540EM board, once.

The image of a new card (`models.eeprom_image`) and what the device loads after a reset
(`Nic.load_eeprom`, `PciFunction.load_ids`) are made of these rows.  `loads` names the bits of
registers that a field's bits go to. Section numbers are of the SDM's chapter 5.6. Fields with the
access SW are for drivers and tools; the device does not use them.
"""

from __future__ import annotations

from collections.abc import Iterator

from e1000emu.registers.fields import Access, Field, Reg, bit, check_fields, field, whole

RW, SW = Access.RW, Access.SW

INTEL = 0x8086
EEPROM_CHECKSUM = 0xBABA
"""All words to 3Fh sum to it (SDM 5.6.35)."""
MAPPED_WORDS = 64
"""The words that the map describes and the checksum covers."""


def _word(
    address: int, name: str, title: str, *fields: Field, count: int = 1, sdm: str = "5.6"
) -> Reg:
    return Reg(name, address, title, sdm, fields, count=count, step=1, group="eeprom")


def _loaded(name: str, n: int, reset: int, into: str) -> Field:
    """Name a bit that a reset loads into a bit of a register."""
    return Field(name, n, n, RW, reset, f"into {into}", loads=(into,))


def _blank(name: str, doc: str = "") -> Field:
    return whole(name, doc, SW, 0xFFFF, bits=16)


# fmt: off
EEPROM_MAP: tuple[Reg, ...] = (
    _word(0x00, "IA", "Ethernet Individual Address",
        field("EVEN", 7, 0, RW, 0, "the byte of the address that comes first on the wire"),
        field("ODD", 15, 8, RW, 0, "the next one; loaded into RAL[0] and RAH[0]"), count=3),
    _word(0x03, "COMPAT", "Software Compatibility",
        whole("FLAGS", "0 = a client's card", SW, 0, bits=16)),
    _word(0x04, "ID_LED", "Identification by LEDs", _blank("SETTINGS")),
    _word(0x05, "VERSION", "Image Version", whole("VERSION", "", SW, 1, bits=16)),
    _word(0x06, "OEM", "Manufacturer", _blank("DATA"), count=2),
    _word(0x08, "PBA_HIGH", "Printed Board Assembly, first digits",
        whole("DIGITS", "digits in BCD", SW, 0xE100, bits=16)),
    _word(0x09, "PBA_LOW", "Printed Board Assembly, last digits",
        whole("DIGITS", "digits in BCD", SW, 0x0EAE, bits=16)),
    _word(0x0A, "ICW1", "Initialization Control Word 1",
        bit("LOAD_VENDOR", 0, RW, 1, "load words 0Dh and 0Eh into PCI configuration"),
        bit("LOAD_SUBSYSTEM", 1, RW, 1, "load words 0Bh and 0Ch into PCI configuration"),
        bit("RSV2", 2, SW, 0),
        bit("POWER_MANAGEMENT", 3, RW, 1, "offer PCI power management"),
        _loaded("ILOS", 4, 0, "CTRL.ILOS"),
        Field("SWDPIO", 5, 8, RW, 0, "bits 0 and 1 into CTRL.SDP0_IODIR and SDP1_IODIR",
            loads=("CTRL.SDP0_IODIR", "CTRL.SDP1_IODIR")),
        _loaded("LRST", 9, 0, "CTRL.LRST"),
        _loaded("FD", 10, 1, "CTRL.FD"),
        _loaded("FRCSPD", 11, 0, "CTRL.FRCSPD"),
        bit("RSV12", 12, SW, 0),
        bit("BAR32", 13, RW, 1,
            "0: the windows of memory and flash have 64 bits, as always on a PCI-X bus"),
        field("SIGNATURE", 15, 14, RW, 1, "1 = the image is valid; else nothing is loaded"),
        sdm="5.6.9"),
    _word(0x0B, "SUBSYSTEM_ID", "PCI Subsystem Id",
        whole("ID", "the model's; into PCI configuration at 2Eh", RW, bits=16)),
    _word(0x0C, "SUBSYSTEM_VENDOR", "PCI Subsystem Vendor Id",
        whole("ID", "into PCI configuration at 2Ch", RW, INTEL, bits=16)),
    _word(0x0D, "DEVICE_ID", "PCI Device Id",
        whole("ID", "the model's; into PCI configuration at 02h", RW, bits=16)),
    _word(0x0E, "VENDOR_ID", "PCI Vendor Id",
        whole("ID", "into PCI configuration at 00h", RW, INTEL, bits=16)),
    _word(0x0F, "ICW2", "Initialization Control Word 2",
        field("RSV5_0", 5, 0, SW, 0),
        bit("PHY_POWER", 6, RW, 1, "power management of the PHY", todo="analogue"),
        bit("RSV7", 7, SW, 0),
        field("FLASH_SIZE", 10, 8, RW, 0, "64 KiB << n: of the windows to the boot flash, if any"),
        _loaded("ANE", 11, 0, "TXCW.ANE"),
        field("PAUSE", 13, 12, SW, 3, "what flow control a driver offers unless told otherwise"),
        _loaded("ASDE", 14, 0, "CTRL.ASDE"),
        _loaded("APM_PME", 15, 0, "WUC.APMPME"),
        sdm="5.6.14"),
    _word(0x10, "R10", "Words 10h to 21h", _blank("DATA"), count=0x12),
    _word(0x22, "POWER", "Power Consumption",
        field("D3", 7, 0, RW, 4, "of D3, in 0.1 W; PM_DATA shows it when PMCSR asks for it"),
        field("D0", 15, 8, RW, 15, "of D0")),
    _word(0x23, "R23", "Word 23h", _blank("DATA")),
    _word(0x24, "ICW3", "Initialization Control Word 3",
        field("RSV9_0", 9, 0, SW, 0),
        bit("APM_ENABLE", 10, RW, 1,
            "into WUC.APME, and sets CTRL.SLU; on the 82544 bit 2 of word 0Fh does that"),
        field("RSV15_11", 15, 11, SW, 0)),
    _word(0x25, "R25", "Words 25h to 2Fh", _blank("DATA"), count=0x0B),
    _word(0x30, "BOOT", "Boot Agent", _blank("SETTINGS", "of the boot ROM"), count=0x0F),
    _word(0x3F, "CHECKSUM", "Checksum",
        whole("SUM", f"makes words 0 to 3Fh sum to {EEPROM_CHECKSUM:04X}", SW, 0, bits=16),
        sdm="5.6.35"),
)
"""Every word of a 93C46; a 93C66 has 192 more, all ones."""
# fmt: on

_BY_NAME = {r.name: r for r in EEPROM_MAP}


def eeprom_word(name: str) -> Reg:
    """Return the row called `name`.  Raises: KeyError."""
    return _BY_NAME[name]


def loaded_bits() -> dict[str, list[tuple[int, int, str]]]:
    """Return the bits that a reset loads, by register: word, bit of the word, field of one bit."""
    found: dict[str, list[tuple[int, int, str]]] = {}
    for r in EEPROM_MAP:
        for f in r.fields:
            for n, target in enumerate(f.loads, f.lo):
                register, _, name = target.partition(".")
                found.setdefault(register, []).append((r.offset, 1 << n, name))
    return found


def check_eeprom_map() -> Iterator[str]:
    """Yield the errors of the map."""
    words = [address for r in EEPROM_MAP for address in r.offsets]
    if words != list(range(MAPPED_WORDS)):
        yield f"words {words}"
    for r in EEPROM_MAP:
        yield from check_fields(r.name, r.fields, 16)
