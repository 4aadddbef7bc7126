"""Witnesses: tests that see a field of a register act, named by `@witness("RCTL.LPE")`.

A name is REGISTER.FIELD, of the PHY with PHY: and of configuration space with PCI: before it. While
such a test runs, each access to registers is noted; it fails when none of them had the field other
than all zeros, or than its reset value.  A parametrized test needs one of its fields a time.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from e1000emu.coverage import SPACES
from e1000emu.fields import Access, Field, Reg
from e1000emu.nic import Nic
from e1000emu.pci import PciFunction, Slot
from e1000emu.phy import Phy
from e1000emu.regs import at_offset
from fastpath.macpath import BarWindow

__all__ = ["Touched", "fields_to_witness", "registered", "watched", "witness"]

HERE = Path(__file__).parent
PREFIX = {"bar0": "", "phy": "PHY:", "pci": "PCI:"}
"""Of a name by the space; the EEPROM's fields have their test all together (test_eeprommap.py)."""


def witness(*names: str) -> Callable[[Any], Any]:
    """Register a test as witness of these fields."""
    return pytest.mark.witness(*names)


class Place(NamedTuple):
    """A field and where it is."""

    space: str
    reg: Reg
    field: Field


def fields_to_witness() -> dict[str, Place]:
    """Return every field that claims to act, by name."""
    return {
        f"{prefix}{r.name}.{f.name}": Place(space, r, f)
        for space, prefix in PREFIX.items()
        for r in SPACES[space]
        for f in r.fields
        if f.name and not f.todo and f.access is not Access.SW
    }


def registered() -> Iterator[tuple[str, str]]:
    """Return (test, field) of every decorator in the tests of the device."""
    for path in sorted(HERE.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                for mark in node.decorator_list:
                    if isinstance(mark, ast.Call) and getattr(mark.func, "id", "") == "witness":
                        for arg in mark.args:
                            assert isinstance(arg, ast.Constant), f"{node.name}: name it"
                            yield f"{path.name}::{node.name}", str(arg.value)


class Touched:
    """The values that went by, by space and register."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], list[int]] = {}

    def bar0(self, offset: int, value: int) -> None:
        """Note an access to BAR 0."""
        found = at_offset(offset)
        if found is not None:
            self.values.setdefault(("bar0", found.reg.name), []).append(value)

    def phy(self, number: int, value: int) -> None:
        """Note an access to the PHY."""
        for r in SPACES["phy"]:
            if r.offset == number:
                self.values.setdefault(("phy", r.name), []).append(value)

    def pci(self, offset: int, value: int, size: int) -> None:
        """Note an access to configuration space."""
        for r in SPACES["pci"]:
            if offset <= r.offset < offset + size:
                own = value >> 8 * (r.offset - offset)
                self.values.setdefault(("pci", r.name), []).append(own)

    def saw(self, place: Place) -> bool:
        """Return whether the field was seen set, or off its reset value."""
        values = self.values.get((place.space, place.reg.name), [])
        return any(place.field.get(v) or place.field.reset for v in values)


def watched(monkeypatch: pytest.MonkeyPatch) -> Touched:
    """Note every access from now on."""
    touched = Touched()

    def wrap(owner: type, name: str, note: Callable[..., None]) -> None:
        real = getattr(owner, name)

        def call(self: Any, *args: Any) -> Any:
            result = real(self, *args)
            note(result, *args)
            return result

        monkeypatch.setattr(owner, name, call)

    wrap(Nic, "mmio_read", lambda got, off, size=4: touched.bar0(off, got))
    wrap(Nic, "mmio_write", lambda _, off, value, size=4: touched.bar0(off, value))
    wrap(Phy, "read", lambda got, n: touched.phy(n, got))
    wrap(Phy, "write", lambda _, n, value: touched.phy(n, value))
    wrap(PciFunction, "config_read", lambda got, off, size: touched.pci(off, got, size))
    wrap(PciFunction, "config_write", lambda _, off, value, size: touched.pci(off, value, size))

    def bar_read(self: Slot, bar: int, off: int, size: int) -> int:
        got = BarWindow.bar_read(self, bar, off, size)
        if bar == 0:
            touched.bar0(off, got)
        return got

    def bar_write(self: Slot, bar: int, off: int, value: int, size: int) -> None:
        BarWindow.bar_write(self, bar, off, value, size)
        if bar == 0:
            touched.bar0(off, value)

    monkeypatch.setattr(Slot, "bar_read", bar_read, raising=False)
    monkeypatch.setattr(Slot, "bar_write", bar_write, raising=False)
    return touched
