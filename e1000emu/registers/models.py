"""The parts as rows of data: ids, EEPROM size, PHY identity.  No subclass per model.

`eeprom_image` builds the manufacturer's image, from the map (eeprommap.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache

from e1000emu.errors import E1000Error
from e1000emu.registers.eeprommap import EEPROM_CHECKSUM, EEPROM_MAP, eeprom_word
from e1000emu.registers.phyregs import phy_reg
from e1000emu.registers.regs import LINK_MODE_TBI, reg

DEFAULT_MAC = b"\x52\x54\x00\x12\x34\x56"
"""The default address of a board: that of QEMU's first NIC."""


@dataclass(frozen=True, slots=True)
class Model:
    """One part of the family."""

    name: str
    device_id: int
    revision: int
    subsystem_id: int
    phy_id: tuple[int, int] = (phy_reg("PHYID1").reset, phy_reg("PHYID2").reset)
    eeprom_words: int = 64
    """64 (93C46) or 256 (93C66)."""
    n_rar: int = 16
    capabilities: tuple[str, ...] = ("PM",)
    """Capabilities of its PCI function, in the order of the list: names of
    `pciregs.CAPABILITIES`."""
    rps: bool = False
    """The RPS descriptor bit reports status (82544 only)."""
    eeprom_granted: bool = True
    """Software asks for the EEPROM's pins with EECD.EE_REQ (the 82544 just uses them)."""
    apm_enable: tuple[int, int] = (eeprom_word("ICW3").offset, 0x0400)
    """Word and bit of the EEPROM that become WUC.APME."""
    lacks: frozenset[str] = frozenset()
    """Registers of the table that this part does not have."""
    features: frozenset[str] = frozenset()
    """Features of the part, named by `Field.needs` in the register table."""
    ait_adds: bool = False
    """AIT is added to TIPG.IPGT (82544 only); elsewhere the longer gap counts."""
    txd_low: bool = True
    """TXDCTL.LWTHRESH raises TXD_LOW (not on the 82544)."""
    fiber: bool = False
    """A board with optics behind the ten-bit interface (tbi.py), and no PHY."""
    signal_high: bool = True
    """The optics of a fibre board drive SDP1 high while there is light (low on the 82544)."""
    reset_overrides: dict[str, int] = field(default_factory=dict)
    """Register name -> power-on value, where it differs from the table."""


TBI_RESET = {
    "CTRL_EXT": reg("CTRL_EXT").field("LINK_MODE").put(LINK_MODE_TBI),
    "STATUS": reg("STATUS").reset | reg("STATUS").mask("TBIMODE"),
}
"""Reset values of registers that a fibre board's strap changes."""

_82545EM = Model(
    name="82545EM",
    device_id=0x100F,
    revision=0x01,
    subsystem_id=0x1001,
    capabilities=("PM", "PCI-X", "MSI"),
)
_82544GC = Model(
    name="82544GC",
    device_id=0x100C,
    revision=0x02,
    subsystem_id=0x1112,
    phy_id=(phy_reg("PHYID1").reset, 0x0C30),
    capabilities=("PM", "PCI-X", "MSI"),
    n_rar=15,
    eeprom_granted=False,
    apm_enable=(eeprom_word("ICW2").offset, 0x0004),
    rps=True,
    ait_adds=True,
    lacks=frozenset({"ITR", "RADV", "TADV", "RSRPD", "LEDCTL", "MANC"}),
    features=frozenset({"SDP4"}),
    txd_low=False,
)

MODELS: dict[str, Model] = {
    m.name: m
    for m in (
        Model(
            name="82540EM",
            device_id=0x100E,
            revision=0x02,
            subsystem_id=0x001E,
        ),
        _82545EM,
        _82544GC,
        replace(
            _82545EM,
            name="82545EM-fiber",
            device_id=0x1011,
            subsystem_id=0x1002,
            fiber=True,
            reset_overrides=TBI_RESET,
        ),
        replace(
            _82544GC,
            name="82544EI-fiber",
            device_id=0x1009,
            subsystem_id=0x1109,
            phy_id=_82545EM.phy_id,
            fiber=True,
            signal_high=False,
            reset_overrides=TBI_RESET,
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
    """Return the value of word 3Fh for words 0 to 3Eh of `words`."""
    return (EEPROM_CHECKSUM - sum(words[: eeprom_word("CHECKSUM").offset])) & 0xFFFF


@cache
def _map_resets(count: int) -> tuple[int, ...]:
    """Return a new board's words according to the map."""
    words = [0xFFFF] * count
    for row in EEPROM_MAP:
        for address in row.offsets:
            words[address] = row.reset
    return tuple(words)


def _fresh_board(part: Model) -> list[int]:
    """Return the words of a new board, without its address and its checksum.

    A copper board has APM wake-up enabled, so that it has a link before any driver runs (CTRL.SLU,
    SDM 13.4.1).
    """
    words = list(_map_resets(part.eeprom_words))
    words[eeprom_word("SUBSYSTEM_ID").offset] = part.subsystem_id
    words[eeprom_word("DEVICE_ID").offset] = part.device_id
    words[eeprom_word("ICW3").offset] &= ~eeprom_word("ICW3").mask("APM_ENABLE")
    if part.fiber:  # the driver takes the link out of reset when it has written TXCW
        words[eeprom_word("ICW1").offset] |= eeprom_word("ICW1").mask("LRST")
    else:
        word, bit = part.apm_enable
        words[word] |= bit
    return words


def mac_of(words: list[int]) -> bytes:
    """Return the address in an EEPROM."""
    return b"".join(words[at].to_bytes(2, "little") for at in eeprom_word("IA").offsets)


def eeprom_image(
    part: Model,
    mac: bytes | None = DEFAULT_MAC,
    flash_code: int | None = None,
    wide_bars: bool = False,
    base: list[int] | None = None,
) -> list[int]:
    """Return an EEPROM's 16-bit words: those of a new board, or `base`, with these changes.

    `mac` is the address (None leaves it); `flash_code` the size of the boot flash, 64 KiB <<
    `flash_code`; with `wide_bars` the image requests 64-bit windows. A checksum that is right
    stays right.

    Raises: E1000Error when `mac` is not six bytes or a group address.
    """
    words = _fresh_board(part) if base is None else list(base)
    icw1, icw2, checksum = (eeprom_word(name) for name in ("ICW1", "ICW2", "CHECKSUM"))
    fits = base is None or words[checksum.offset] == checksum_word(words)
    if mac is not None:
        if len(mac) != 6:
            raise E1000Error(f"mac {mac!r}: {len(mac)} bytes; give six, e.g. bytes.fromhex(...)")
        if mac[0] & 1:
            raise E1000Error(f"mac {mac.hex(':')}: a group address; clear bit 0 of the first byte")
        for i, address in enumerate(eeprom_word("IA").offsets):
            words[address] = mac[2 * i] | mac[2 * i + 1] << 8
    if flash_code is not None:
        words[icw2.offset] &= ~icw2.mask("FLASH_SIZE")
        words[icw2.offset] |= icw2.field("FLASH_SIZE").put(flash_code)
    if wide_bars:
        words[icw1.offset] &= ~icw1.mask("BAR32")
    if fits:
        words[checksum.offset] = checksum_word(words)
    return words


def fresh_word(name: str, part: Model = MODELS["82540EM"]) -> int | None:
    """Return the EEPROM word `name` of every new board; None if each has its own."""
    if name in ("IA", "CHECKSUM"):
        return None
    return eeprom_image(part, bytes(6))[eeprom_word(name).offset]
