"""The register file of one Nic: the table of `regs` as compiled arrays.

`Registers.file` is the compiled `RegFile`; a register without a side effect is served there and
never enters Python.  `Registers.bind` looks up, once, the methods that the table names.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from e1000emu.insight.watched import watched
from e1000emu.registers import regs as table
from e1000emu.registers.models import Model
from e1000emu.registers.regs import BAR0_BYTES, TABLE, at_offset, decode, reg
from fastpath.nic.regfile import RegFile, Stats

if TYPE_CHECKING:
    from e1000emu.registers.fields import Reg

    Actions = tuple[tuple[int, str, bool], ...]

LEVEL_RST = 0
"""`RegFile.reset` level of CTRL.RST."""
LEVEL_POWER_ON = 1


class Registers:
    """The 32-bit registers of BAR 0, by name and by offset."""

    def __init__(self, part: Model) -> None:
        overrides = tuple(sorted(part.reset_overrides.items()))
        self._layout = _layout(part.lacks, part.features, overrides)
        self.file = RegFile(BAR0_BYTES // 4, self._layout.file)
        self.read32: Callable[[int], int] = self.file.read32
        self.write32: Callable[[int, int], None] = self.file.write32
        self.peek: Callable[[int], int] = self.file.peek
        self.poke: Callable[[int, int], None] = self.file.poke
        self.set_bits: Callable[[int, int], int] = self.file.set_bits
        self.clear_bits: Callable[[int, int], int] = self.file.clear_bits

    def bind(self, owner: Any, stats: Stats) -> None:
        """Look up names of the table: methods of `owner`'s blocks (``"flow.update"``), or compiled
        blocks (``"interrupts"``)."""
        found = {name: attrgetter(name)(owner) for name in self._layout.names}
        hooks = dict(found)
        for r, actions in self._layout.rows:
            write: Callable[[int, int], None] = partial(_react, actions, found)
            if any(f.same_as for f in r.fields):
                hooks[f"read {r.name}"], write = owner.pci.shared_hooks(r, write)
            hooks[f"write {r.name}"] = write
        self.file.bind(hooks, stats)

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


class _Layout(NamedTuple):
    """Data shared by all NICs with the same registers."""

    file: RegFile
    names: frozenset[str]
    """The methods and compiled blocks that the table names."""
    rows: tuple[tuple[Reg, Actions], ...]
    """Registers with fields that have write actions, and their `Reg.actions`."""


@cache
def _layout(
    lacks: frozenset[str], features: frozenset[str], overrides: tuple[tuple[str, int], ...]
) -> _Layout:
    """Return the layout of a part with these features and values at power-on."""
    file, stats = RegFile(BAR0_BYTES // 4), Stats()
    resets, names, rows = dict(overrides), {""}, []
    for r in TABLE:
        if r.name in lacks:
            continue
        r = r.on(features)
        first = r.offset // 4
        if r.group == "statistics":
            file.define_stat(first, stats, r.name)
            continue
        if r.alias_of:
            file.alias(first, reg(r.alias_of).offset // 4)
            continue
        names |= {r.on_read, r.on_write, *(name for _, name, _ in r.actions)}
        on_read, on_write = r.on_read, r.on_write
        shared = any(f.same_as for f in r.fields)
        if shared or r.actions:
            rows.append((r, r.actions))
            on_read, on_write = f"read {r.name}" if shared else on_read, f"write {r.name}"
        together = r.step == 4  # the packet buffer alone has 16,384
        for offset in (r.offset,) if together else r.offsets:
            file.define(
                offset // 4,
                resets.get(r.name, r.reset),
                rmask=r.rmask,
                rw=r.stored_mask,
                w1c=r.w1c_mask,
                w1s=r.w1s_mask,
                rc=r.rc_mask,
                act=r.act_mask,
                on_read=on_read or None,
                on_write=on_write or None,
                hot=r.hot,
                decoded=r.decoded,
                reset_level=LEVEL_POWER_ON if r.survives else LEVEL_RST,
                count=r.count if together else 1,
            )
    file.on_watched = print  # never called: each NIC's own takes its place
    for row in watched(lacks, features):
        file.watch(row.offset // 4, row.told, row.absent, every=row.every)
    return _Layout(file, frozenset(names - {""}), tuple(rows))


@cache
def _offset(key: str | int) -> int:
    offset = table.describe(key)["offset"]
    assert isinstance(offset, int)
    return offset


def _react(actions: Actions, found: dict[str, Any], old: int, new: int) -> None:
    """Call the methods that the changed fields of a register name."""
    changed = old ^ new
    for mask, name, alone in actions:
        if changed & mask:
            found[name]()
            if alone:
                return
