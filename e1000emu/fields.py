"""The words the register table is written in: access kinds, fields, registers.

A register is 32 bits; `Reg.fields` claims each of them exactly once (`regs.check_table`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Access", "Field", "Reg", "RegAt", "bit", "field", "rsv", "whole"]


class Access(Enum):
    """How one field answers to reads and writes."""

    RW = "RW"
    """Reads what was written."""
    RO = "RO"
    """Set by the device; writes change nothing."""
    RC = "RC"
    """Set by the device; a read clears it."""
    RC_W1C = "RC/W1C"
    """Set by the device; a read clears it, and so does writing 1."""
    W1C = "W1C"
    """Set by the device; writing 1 clears it."""
    W1S = "RW1S"
    """Writing 1 sets it; writing 0 changes nothing."""
    WO = "WO"
    """Acts when written; reads 0."""
    SC = "SC"
    """Acts when 1 is written, then clears itself."""
    RSV = "rsv"
    """Reserved: reads its reset value, writes change nothing."""


RW, RSV = Access.RW, Access.RSV

_READABLE = frozenset(Access) - {Access.WO, Access.RSV}
_WRITABLE = frozenset(Access) - {Access.RO, Access.RC, Access.RSV}
_STORED = frozenset({RW})


@dataclass(frozen=True, slots=True)
class Field:
    """Bits `lo` to `hi` of a register; `reset` is the field's own value, not shifted."""

    name: str
    lo: int
    hi: int
    access: Access
    reset: int = 0
    doc: str = ""
    todo: str = ""
    """What is not modelled; empty when the field does what the SDM says."""

    @property
    def mask(self) -> int:
        """Return the field's bits in the register."""
        return ((1 << (self.hi - self.lo + 1)) - 1) << self.lo

    def get(self, value: int) -> int:
        """Return the field's value out of a register's `value`."""
        return (value & self.mask) >> self.lo


@dataclass(frozen=True, slots=True)
class Reg:
    """One register, or an array of `count` of them, `step` bytes apart."""

    name: str
    offset: int
    title: str
    sdm: str
    fields: tuple[Field, ...]
    count: int = 1
    step: int = 4
    on_read: str = ""
    on_write: str = ""
    survives: str = ""
    """Which resets leave the register alone: "rst" = CTRL.RST (all but power-good keep it)."""
    alias_of: str = ""
    group: str = "general"

    def _or(self, accesses: frozenset[Access]) -> int:
        return sum(f.mask for f in self.fields if f.access in accesses)

    @property
    def reset(self) -> int:
        """Return the value after power-on, before the EEPROM is read."""
        return sum(f.reset << f.lo for f in self.fields)

    @property
    def rmask(self) -> int:
        """Return the bits that can read as something else than their reset value of 0."""
        return self._or(_READABLE) | sum(f.mask for f in self.fields if f.access is RSV and f.reset)

    @property
    def wmask(self) -> int:
        """Return the bits on which a write has any effect."""
        return self._or(_WRITABLE)

    @property
    def stored_mask(self) -> int:
        """Return the bits that read back what was written."""
        return self._or(_STORED)

    @property
    def offsets(self) -> range:
        """Return the offset of every element."""
        return range(self.offset, self.offset + self.count * self.step, self.step)

    def field(self, name: str) -> Field:
        """Return the field called `name`.  Raises: KeyError."""
        for f in self.fields:
            if f.name == name:
                return f
        raise KeyError(f"{self.name} has no field {name!r}")

    def mask(self, *names: str) -> int:
        """Return the bits of the named fields together."""
        return sum(self.field(name).mask for name in names)


@dataclass(frozen=True, slots=True)
class RegAt:
    """One element of the table at its offset: the register and the index in its array."""

    reg: Reg
    index: int
    offset: int

    @property
    def name(self) -> str:
        """Return the name as the SDM writes it: ``RAL[3]``, ``CTRL``."""
        return f"{self.reg.name}[{self.index}]" if self.reg.count > 1 else self.reg.name


def bit(
    name: str, n: int, access: Access = RW, reset: int = 0, doc: str = "", todo: str = ""
) -> Field:
    """Name one bit."""
    return Field(name, n, n, access, reset, doc, todo)


def field(
    name: str, hi: int, lo: int, access: Access = RW, reset: int = 0, doc: str = "", todo: str = ""
) -> Field:
    """Name the bits `hi`:`lo`, written in the order of the datasheet."""
    return Field(name, lo, hi, access, reset, doc, todo)


def rsv(hi: int, lo: int | None = None, reset: int = 0) -> Field:
    """Declare the bits `hi`:`lo` reserved."""
    return Field("", hi if lo is None else lo, hi, RSV, reset)


def whole(name: str, doc: str = "", access: Access = RW, reset: int = 0, todo: str = "") -> Field:
    """Name all 32 bits."""
    return Field(name, 0, 31, access, reset, doc, todo)
