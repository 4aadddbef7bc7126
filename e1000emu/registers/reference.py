"""Look-ups for authors of drivers, by name: registers, PHY, EEPROM, descriptors.

`RCTL`, `0x100`, `RAL[3]` are registers. `phy`, `eeprom` and `pci` are all of theirs; `phy.17`,
`phy.PSSR`, `eeprom.0x0A`, `pci.COMMAND` are one. `rxdesc`, `txdesc.data` are a descriptor, `txdesc`
all three for transmission.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from e1000emu.registers.descriptors import DESCRIPTOR_BYTES, LAYOUTS, Layout
from e1000emu.registers.eeprommap import EEPROM_MAP
from e1000emu.registers.fields import Reg
from e1000emu.registers.models import fresh_word
from e1000emu.registers.pciregs import PCI_TABLE
from e1000emu.registers.phyregs import PHY_TABLE
from e1000emu.registers.regs import TABLE, describe

SPACES: dict[str, tuple[Reg, ...]] = {
    "phy": PHY_TABLE,
    "eeprom": EEPROM_MAP,
    "pci": PCI_TABLE,
}

Row = dict[str, Any]


def titles() -> dict[str, str]:
    """Return the title of every name that `look_up` takes, in the spelling of the manual."""
    small = {f"{space}.{r.name}": r.title for space, table in SPACES.items() for r in table}
    return {
        **{r.name: r.title for r in TABLE},
        "phy": "The PHY's registers",
        "eeprom": "The EEPROM's words",
        "pci": "PCI configuration space",
        "txdesc": "Transmit Descriptors",
        **small,
        **{layout.name: layout.title for layout in LAYOUTS.values()},
    }


def look_up(key: str = "") -> Row | list[Row]:
    """Return the rows of `key` as plain data: one row, or a list for a whole space ("": BAR 0).

    A row has the keys of `regs.describe` and "space" and "bits" beside them. "reset" of a word of
    the EEPROM is what a fresh 82540EM board has there, None when each board has its own.
    Raises: KeyError, whose text lists the choices.
    """
    space, dot, name = key.strip().lower().partition(".")
    if not key:
        return [_bar0(describe(r.name)) for r in TABLE]
    if space in SPACES:
        rows = SPACES[space]
        return _one(space, rows, name) if dot else [_small(space, r, r.offset) for r in rows]
    if space in ("rxdesc", "txdesc"):
        return _descriptors(key.strip().lower())
    return _bar0(describe(key))


def _bar0(row: Row) -> Row:
    return {"space": "bar0", "bits": 32, **row}


def _small(space: str, r: Reg, offset: int) -> Row:
    name = f"{r.name}[{offset - r.offset}]" if r.count > 1 and offset != r.offset else r.name
    bits = 8 * r.step if space == "pci" else 16
    row = {"space": space, "bits": bits, **r.describe(name, offset)}
    return {**row, "reset": fresh_word(r.name)} if space == "eeprom" else row


def _one(space: str, rows: Iterable[Reg], name: str) -> Row:
    """Return the row with a name or number of one of the small spaces."""
    try:
        number = int(name, 0)
    except ValueError:
        number = -1
    for r in rows:
        if number in r.offsets:
            return _small(space, r, number)
        if r.name.lower() == name:
            return _small(space, r, r.offset)
    what = {
        "phy": "PHY register",
        "eeprom": "mapped EEPROM word",
        "pci": "PCI configuration register",
    }[space]
    raise KeyError(f"there is no {what} {name!r}; `e1000emu regs {space}` lists them")


def _descriptors(key: str) -> Row | list[Row]:
    found = [
        layout for name, layout in LAYOUTS.items() if name == key or name.startswith(key + ".")
    ]
    if not found:
        raise KeyError(f"there is no descriptor {key!r}; there are {', '.join(LAYOUTS)}")
    rows = [_descriptor(layout) for layout in found]
    return rows if len(rows) > 1 else rows[0]


def _descriptor(layout: Layout) -> Row:
    reg = Reg(layout.name, 0, layout.title, layout.sdm, layout.fields, group="descriptors")
    return {"space": "descriptor", "bits": DESCRIPTOR_BYTES * 8, **reg.describe()}
