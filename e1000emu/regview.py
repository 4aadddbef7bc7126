"""The register file of one Nic: the table of `regs` as compiled arrays.

`Registers.file` is the compiled `RegFile`; a register without a side effect is served there and
never enters Python.  Hooks are looked up by the names that the table holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from e1000emu import regs as table
from e1000emu.models import Model
from e1000emu.regs import BAR0_BYTES, TABLE, at_offset, decode, reg
from fastpath.regfile import RegFile, Stats

__all__ = ["Registers"]

LEVEL_RST = 0
"""`RegFile.reset` level of CTRL.RST."""
LEVEL_POWER_ON = 1


class Registers:
    """The 32-bit registers of BAR 0, by name and by offset."""

    def __init__(self, part: Model) -> None:
        self.file = RegFile(BAR0_BYTES // 4)
        self._part = part
        self.read32: Callable[[int], int] = self.file.read32
        self.write32: Callable[[int, int], None] = self.file.write32
        self.peek: Callable[[int], int] = self.file.peek
        self.poke: Callable[[int, int], None] = self.file.poke
        self.set_bits: Callable[[int, int], int] = self.file.set_bits
        self.clear_bits: Callable[[int, int], int] = self.file.clear_bits

    def bind(self, owner: Any, stats: Stats) -> None:
        """Define every register; hooks are attributes of `owner` (``"rx.write_rctl"``), or
        compiled blocks (``"interrupts"``)."""
        part, file = self._part, self.file
        for row in _rows(part.lacks, part.features):
            if row.statistic:
                file.define_stat(row.dwords[0], stats, row.name)
            elif row.target is not None:
                file.alias(row.dwords[0], row.target)
            else:
                reset = part.reset_overrides.get(row.name, row.reset)
                on_read, on_write = _hook(owner, row.on_read), _hook(owner, row.on_write)
                for dword in row.dwords:
                    file.define(dword, reset, on_read=on_read, on_write=on_write, **row.definition)

    def __getitem__(self, key: str | int) -> int:
        """Return a register's value by name (``"RAL[3]"``) or offset, without side effects."""
        return self.peek(_offset(key))

    def __setitem__(self, key: str | int, value: int) -> None:
        """Store a value without masks or side effects (tests, debuggers)."""
        self.poke(_offset(key), value)

    def field(self, register: str, name: str) -> int:
        """Return one field's value, without side effects."""
        r = reg(register)
        return r.field(name).get(self.peek(r.offset))

    def nonreset(self) -> dict[str, int]:
        """Return the registers (outside statistics and arrays of RAM) not at their reset value."""
        return {
            r.name: value
            for r in TABLE
            if r.count == 1 and r.group != "statistics" and not r.alias_of
            if (value := self.peek(r.offset)) != r.reset
        }

    def show(self, key: str | int) -> str:
        """Return one register as a line: ``RCTL 0100 = 00008002  EN BAM``."""
        offset = _offset(key)
        found = at_offset(offset)
        assert found is not None
        value = self.peek(offset)
        return f"{found.name} {offset:04X} = {value:08X}  {decode(found.reg, value)}".rstrip()

    def __repr__(self) -> str:
        return "\n".join(self.show(name) for name in self.nonreset()) or "<all at reset>"


class _Row(NamedTuple):
    """What `RegFile` is told of one row of the table."""

    name: str
    dwords: Sequence[int]
    statistic: bool
    target: int | None
    """Of an alias: the dword that it is."""
    reset: int
    on_read: str
    on_write: str
    definition: dict[str, Any]


@cache
def _rows(lacks: frozenset[str], features: frozenset[str]) -> list[_Row]:
    """Return the rows of a part with these features: the same for all NICs of a model."""
    rows = []
    for r in TABLE:
        if r.name in lacks:
            continue
        r = r.on(features)
        together = r.step == 4  # the packet buffer alone has 16,384
        offsets = (r.offset,) if together else r.offsets
        definition = {
            "rmask": r.rmask,
            "rw": r.stored_mask,
            "w1c": r.w1c_mask,
            "w1s": r.w1s_mask,
            "rc": r.rc_mask,
            "act": r.act_mask,
            "hot": r.hot,
            "decoded": r.decoded,
            "reset_level": LEVEL_POWER_ON if r.survives else LEVEL_RST,
            "count": r.count if together else 1,
        }
        target = reg(r.alias_of).offset // 4 if r.alias_of else None
        dwords = [offset // 4 for offset in offsets]
        statistic = r.group == "statistics"
        rows.append(
            _Row(r.name, dwords, statistic, target, r.reset, r.on_read, r.on_write, definition)
        )
    return rows


def _offset(key: str | int) -> int:
    offset = table.describe(key)["offset"]
    assert isinstance(offset, int)
    return offset


def _hook(owner: Any, name: str) -> Any:
    """Return the method of a block, or a compiled block that serves the register itself."""
    if not name:
        return None
    target = owner
    for part in name.split("."):
        target = getattr(target, part)
    return target
