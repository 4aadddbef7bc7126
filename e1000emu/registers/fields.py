"""The building blocks of the register tables: access kinds, fields, registers.

The same classes describe the registers of BAR 0 (32 bits: regs.py), those of the PHY and the words
of the EEPROM (16 bits: phyregs.py, eeprommap.py) and descriptors (128 bits: descriptors.py). The
fields claim each bit exactly once (`check_fields`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypedDict, Unpack


class Access(Enum):
    """How one field answers to reads and writes."""

    RW = "RW"
    """Reads back the written value."""
    SW = "SW"
    """Reads back the written value; only software uses it, not the device."""
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
_STORED = frozenset({RW, Access.SW})
_CLEARED_BY_1 = frozenset({Access.W1C, Access.RC_W1C})
_SET_BY_1 = frozenset({Access.W1S})
_CLEARED_BY_READ = frozenset({Access.RC, Access.RC_W1C})
_ACTING = frozenset({Access.WO, Access.SC})


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
    """What is not modelled; empty if the field works as in the SDM."""
    needs: str = ""
    """The feature (`Model.features`) without which the bits are reserved; empty: all have them."""
    loads: tuple[str, ...] = ()
    """The bits of registers ("CTRL.FD") into which a reset loads the bits of an EEPROM field, the
    lowest first."""
    on_change: str = ""
    """The method of a block ("flow.update") that is called when a write changes the field, or sets
    it if it acts.  It takes no arguments: it finds the new value in the register."""
    alone: bool = False
    """If it acts, no other field of the same write does."""
    same_as: str = ""
    """The field of PCI configuration ("PMCSR.PME_EN") that holds its value: it is another way to
    it."""
    legal: Collection[int] = ()
    """The legal values; empty: all.  A write of another one leaves it unchanged, or
    is stored if it `breaks` a rule."""
    breaks: str = ""
    """The rule of misuse (insight/misuserules.py) that a value out of `legal` breaks."""

    @property
    def mask(self) -> int:
        """Return the field's bits in the register."""
        return ((1 << (self.hi - self.lo + 1)) - 1) << self.lo

    def get(self, value: int) -> int:
        """Return the field's value out of a register's `value`."""
        return (value & self.mask) >> self.lo

    @property
    def notes(self) -> list[str]:
        """Return in words its meaning, legal values, and the method that a change calls."""
        legal = ", ".join(map(str, self.legal))
        if isinstance(self.legal, range):
            legal = f"{self.legal[0]} to {self.legal[-1]}"
        same, call = self.same_as, self.on_change
        notes = (
            legal and f"legal: {legal}",
            same and f"the same bit as {same}",
            call and f"→ {call}",
        )
        return [note for note in (self.doc, *notes) if note]

    def describe(self) -> dict[str, object]:
        """Return all attributes of the field as plain data."""
        return {
            "name": self.name or "reserved",
            "hi": self.hi,
            "lo": self.lo,
            "access": self.access.value,
            "reset": self.reset,
            "doc": self.doc,
            "todo": self.todo,
            "needs": self.needs,
            "loads": list(self.loads),
            "on_change": self.on_change,
            "same_as": self.same_as,
            "notes": self.notes,
        }

    def put(self, value: int) -> int:
        """Return the field's `value` at its place in a register."""
        return value << self.lo & self.mask


@dataclass(frozen=True, slots=True)
class Reg:
    """One register, or an array of `count` of them, `step` apart.

    `offset` is in bytes of BAR 0; for the PHY the register's number, for the EEPROM the word's.
    """

    name: str
    offset: int
    title: str
    sdm: str
    fields: tuple[Field, ...]
    count: int = 1
    step: int = 4
    on_read: str = ""
    on_write: str = ""
    """What handles accesses as a whole, where the rows of fields cannot say it: a method of a block
    ("mdic.write_mdic") or a compiled block ("tx")."""
    hot: bool = False
    """The block serves it without Python too, in the thread that reads a guest's messages."""
    decoded: bool = False
    """An engine keeps a decoded form of it, renewed at the first run after a change."""
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
        """Return the bits that can read as 1."""
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
    def w1c_mask(self) -> int:
        """Return the bits that writing 1 clears."""
        return self._or(_CLEARED_BY_1)

    @property
    def w1s_mask(self) -> int:
        """Return the bits that writing 1 sets."""
        return self._or(_SET_BY_1)

    @property
    def rc_mask(self) -> int:
        """Return the bits that a read clears."""
        return self._or(_CLEARED_BY_READ)

    @property
    def act_mask(self) -> int:
        """Return the bits that act when they are written and are never stored."""
        return self._or(_ACTING)

    @property
    def actions(self) -> tuple[tuple[int, str, bool], ...]:
        """Return what changes of its fields call, in this order: their bits, the method, whether
        it acts alone.  What acts alone comes first, then the method of the highest bit."""
        masks: dict[tuple[str, bool], int] = {}
        for f in sorted(self.fields, key=lambda f: (not f.alone, -f.hi)):
            if f.on_change:
                masks[f.on_change, f.alone] = masks.get((f.on_change, f.alone), 0) | f.mask
        return tuple((mask, *row) for row, mask in masks.items())

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

    def on(self, features: frozenset[str]) -> Reg:
        """Return the row for a part with these features."""
        if all(not f.needs or f.needs in features for f in self.fields):
            return self
        fields = (f if not f.needs or f.needs in features else rsv(f.hi, f.lo) for f in self.fields)
        return replace(self, fields=tuple(fields))

    def describe(self, name: str = "", offset: int | None = None) -> dict[str, object]:
        """Return all attributes of the row as plain data, of the element `name` at `offset`."""
        return {
            "name": name or self.name,
            "offset": self.offset if offset is None else offset,
            "title": self.title,
            "group": self.group,
            "sdm": self.sdm,
            "reset": self.reset,
            "readable": self.rmask,
            "writable": self.wmask,
            "count": self.count,
            "step": self.step,
            "survives_ctrl_rst": self.survives == "rst",
            "alias_of": self.alias_of,
            "fields": [f.describe() for f in sorted(self.fields, key=lambda f: f.lo)],
        }


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


class _More(TypedDict, total=False):
    """Optional attributes of a field: see `Field`."""

    needs: str
    on_change: str
    alone: bool
    same_as: str
    legal: Collection[int]
    breaks: str


def bit(
    name: str,
    n: int,
    access: Access = RW,
    reset: int = 0,
    doc: str = "",
    todo: str = "",
    **more: Unpack[_More],
) -> Field:
    """Name one bit."""
    return Field(name, n, n, access, reset, doc, todo, **more)


def field(
    name: str,
    hi: int,
    lo: int,
    access: Access = RW,
    reset: int = 0,
    doc: str = "",
    todo: str = "",
    **more: Unpack[_More],
) -> Field:
    """Name the bits `hi`:`lo`, written in the order of the datasheet."""
    return Field(name, lo, hi, access, reset, doc, todo, **more)


def rsv(hi: int, lo: int | None = None, reset: int = 0) -> Field:
    """Declare the bits `hi`:`lo` reserved."""
    return Field("", hi if lo is None else lo, hi, RSV, reset)


def whole(
    name: str, doc: str = "", access: Access = RW, reset: int = 0, todo: str = "", *, bits: int = 32
) -> Field:
    """Name all bits of a register."""
    return Field(name, 0, bits - 1, access, reset, doc, todo)


def tell(on_change: str, *fields: Field) -> tuple[Field, ...]:
    """Return `fields`, a change of each of which calls the same method."""
    return tuple(replace(f, on_change=on_change) if f.name else f for f in fields)


def check_fields(name: str, fields: tuple[Field, ...], bits: int) -> Iterator[str]:
    """Yield the errors of a register's fields.

    Every one of so many `bits` is claimed once, values fit, names are unique.
    """
    claimed = 0
    for f in fields:
        if not 0 <= f.lo <= f.hi < bits:
            yield f"{name}.{f.name}: bits {f.hi}:{f.lo}"
            continue
        if claimed & f.mask:
            yield f"{name}.{f.name or 'reserved'}: bits claimed twice"
        claimed |= f.mask
        if f.reset >> (f.hi - f.lo + 1) or (f.legal and f.reset not in f.legal):
            yield f"{name}.{f.name}: reset {f.reset:#x} does not fit"
    if claimed != (1 << bits) - 1:
        yield f"{name}: bits {claimed ^ (1 << bits) - 1:#0{bits // 4 + 2}x} are not claimed"
    names = [f.name for f in fields if f.name]
    if len(names) != len(set(names)):
        yield f"{name}: a field name occurs twice"
