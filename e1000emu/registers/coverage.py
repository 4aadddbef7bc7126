"""The share of named bits that is modelled, and the gaps (`e1000emu regs --coverage`).

The named bits of the device's own tables are counted, those of an array once; reserved bits are
not.  A gap is a field with `todo`: it only stores written values, and `todo` says why.
"""

from __future__ import annotations

from dataclasses import dataclass

from e1000emu.registers.eeprommap import EEPROM_MAP
from e1000emu.registers.fields import Reg
from e1000emu.registers.pciregs import PCI_TABLE
from e1000emu.registers.phyregs import PHY_TABLE
from e1000emu.registers.regs import TABLE

SPACES: dict[str, tuple[Reg, ...]] = {
    "bar0": tuple(r for r in TABLE if not r.alias_of),
    "phy": tuple(PHY_TABLE),
    "pci": tuple(PCI_TABLE),
    "eeprom": tuple(EEPROM_MAP),
}


@dataclass(frozen=True, slots=True)
class Gap:
    """A field that is named and not modelled."""

    space: str
    register: str
    name: str
    hi: int
    lo: int
    why: str


@dataclass(frozen=True, slots=True)
class Share:
    """How much of a space is modelled, in bits."""

    space: str
    named: int
    modelled: int

    @property
    def percent(self) -> float:
        """Modelled of named, 0 to 100."""
        return 100 * self.modelled / self.named if self.named else 100.0


def gaps() -> list[Gap]:
    """Return every declared gap, by space and offset."""
    return [
        Gap(space, r.name, f.name, f.hi, f.lo, f.todo)
        for space, rows in SPACES.items()
        for r in rows
        for f in sorted(r.fields, key=lambda f: f.lo)
        if f.name and f.todo
    ]


def shares() -> list[Share]:
    """Return the share of each space."""
    out = []
    for space, rows in SPACES.items():
        fields = [f for r in rows for f in r.fields if f.name]
        named = sum(f.mask.bit_count() for f in fields)
        open_ = sum(f.mask.bit_count() for f in fields if f.todo)
        out.append(Share(space, named, named - open_))
    return out
