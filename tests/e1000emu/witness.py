"""Witnesses: tests that see a field of a register act, named by `@witness("RCTL.LPE")`.

A name is REGISTER.FIELD, of the PHY with PHY: and of configuration space with PCI: before it; what
stands in braces in it comes from the test's parameters (`@witness("PRC{bucket}.COUNT")`). One case
of a parametrized test has its own by `pytest.param(..., marks=witness("RCTL.UPE"))`.

Every witness runs once more for each of its fields, with a field that does nothing. The device
never gets what software writes there, and software never sees what the device puts there
(`Blinder`). The witness has to fail then (`conftest.py`).
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from e1000emu.device.bars import Bar0, Slot
from e1000emu.device.nic import Nic
from e1000emu.device.pci import PciFunction
from e1000emu.device.phy import Phy
from e1000emu.registers.coverage import SPACES
from e1000emu.registers.fields import Access, Field, Reg
from fastpath.nic.macpath import BarWindow

HERE = Path(__file__).parent
PREFIX = {"bar0": "", "phy": "PHY:", "pci": "PCI:"}
"""Of a name by the space; the EEPROM's fields have their test all together (test_eeprommap.py)."""

WINDOWS = frozenset({"BAR0", "BAR1", "BAR2", "ROM"})
"""A host sizes and places them by what they read, and decodes their addresses itself."""

_ABILITIES = "ERCAP ANEGCAPABLE NOPREAMBLE ESTATEN 100T2_HD 100T2_FD 10HD 10FD 100HD 100FD 100T4"
BMSR_ABILITIES = _ABILITIES.split()
CONSTANT = frozenset(
    (
        *(f"PHY:BMSR.{name}" for name in BMSR_ABILITIES),
        *(f"PHY:ESTATUS.1000{kind}_{duplex}" for kind in "TX" for duplex in ("HD", "FD")),
        *("PHY:PHYID1.OUI_MSB", "PHY:PHYID2.OUI_LSB", "PHY:PHYID2.MODEL", "PHY:PHYID2.REVISION"),
        *("PHY:ANER.NP_ABLE", "PHY:ANLPAR.100T4", "PHY:PSSR.CABLE_LENGTH"),
        *("STATUS.FUNC_ID", "STATUS.TBIMODE", "EECD.EE_PRES"),
        "MANC.ASF_EN",
        *(f"PCI:COMMAND.{name}" for name in ["SPECIAL", "VGA", "STEPPING", "FAST_B2B"]),
        *(f"PCI:STATUS.{name}" for name in ["CAPABILITIES", "66MHZ", "FAST_B2B", "DEVSEL"]),
        *(f"PCI:BAR{n}.{name}" for n in (0, 1) for name in ("SPACE", "TYPE", "PREFETCH", "SIZE")),
        *("PCI:BAR2.SPACE", "PCI:BAR2.SIZE", "PCI:ROM.SIZE", "PCI:LATENCY.LOW", "PCI:CLASS.VALUE"),
        *(f"PCI:{name}.VALUE" for name in ("BAR3", "BAR4", "BAR5", "CARDBUS", "HEADER_TYPE")),
        *(f"PCI:{name}.VALUE" for name in ("BIST", "REVISION", "CAP_POINTER", "INTERRUPT_PIN")),
        *(f"PCI:{name}.VALUE" for name in ("MIN_GRANT", "MAX_LATENCY", "PM_BRIDGE")),
        *(f"PCI:{name}_{what}.VALUE" for name in ("PM", "MSI", "PCIX") for what in ("ID", "NEXT")),
        *(f"PCI:PMC.{name}" for name in ("VERSION", "CLOCK", "DSI", "AUX", "D1", "D2", "PME")),
        *("PCI:MSI_CONTROL.CAPABLE", "PCI:MSI_CONTROL.64BIT"),
        *("PCI:MSI_ADDRESS.DWORD", "PCI:PCIX_STATUS.FUNCTION", "PCI:PCIX_STATUS.64BIT"),
        *(f"PCI:PCIX_STATUS.{name}" for name in ["133MHZ", "BRIDGE", "DMMRBC", "DMOST", "DMCRS"]),
    )
)
"""Read-only fields that say what the part is. To do nothing, for them, is to say the contrary."""


def witness(*names: str) -> pytest.MarkDecorator:
    """Register a test as witness of these fields."""
    return pytest.mark.witness(*names)


class Place(NamedTuple):
    """A field and where it is."""

    name: str
    space: str
    reg: Reg
    field: Field


@functools.cache
def fields_to_witness() -> dict[str, Place]:
    """Return every field that claims to act, by name."""
    return {
        name: Place(name, space, r, f)
        for space, prefix in PREFIX.items()
        for r in SPACES[space]
        for f in r.fields
        if f.name and not f.todo and f.access is not Access.SW
        for name in (f"{prefix}{r.name}.{f.name}",)
    }


def names_of(marks: list[pytest.Mark], params: dict[str, Any]) -> list[str]:
    """Return the fields that a case of a test is a witness of."""
    return [str(name).format(**params) for mark in marks for name in mark.args]


def registered() -> Iterator[tuple[str, str]]:
    """Return (test, field) of every witness in the tests of the device."""
    for path in sorted(HERE.rglob("test_*.py")):
        text = path.read_text()
        if "witness(" not in text or path.name == "test_witnesses.py":
            continue
        where = ".".join(path.relative_to(HERE).with_suffix("").parts)
        module = import_module(f"tests.e1000emu.{where}")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                test = getattr(module, node.name)
                for name in _names_of_test(getattr(test, "pytestmark", [])):
                    yield f"{path.name}::{node.name}", name


def _names_of_test(marks: list[pytest.Mark]) -> Iterator[str]:
    own = [mark for mark in marks if mark.name == "witness"]
    axes = [_cases(mark) for mark in marks if mark.name == "parametrize"]
    for combination in product(*axes):
        params = {name: value for case, _ in combination for name, value in case.items()}
        extra = [mark for _, more in combination for mark in more if mark.name == "witness"]
        yield from names_of([*own, *extra], params)


def _cases(mark: pytest.Mark) -> list[tuple[dict[str, Any], list[pytest.Mark]]]:
    """Return the parameters and the marks of each case of one `parametrize`."""
    names, rows = mark.args[0], mark.args[1]
    names = [n.strip() for n in names.split(",")] if isinstance(names, str) else list(names)
    found = []
    for row in rows:
        values, marks = (row, []) if not hasattr(row, "marks") else (row.values, list(row.marks))
        if not hasattr(row, "marks") and len(names) == 1:
            values = (row,)
        plain = [getattr(m, "mark", m) for m in marks]
        found.append((dict(zip(names, values, strict=True)), plain))
    return found


class Blinder:
    """Accesses to the registers, one field of which does nothing."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._kept: dict[tuple[int, int], int] = {}
        """What software wrote to the field, by device and offset."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Come between software and every device, from now on."""
        space, kept = self.place.space, []

        def wrap(owner: type, name: str, make: Callable[[Any], Callable[..., Any]]) -> None:
            real = getattr(owner, name)
            kept.append(real)
            patch.setattr(owner, name, make(real), raising=False)

        if space == "bar0":
            wrap(
                Bar0,
                "read",
                lambda real: lambda b, off, size: self.read(b, off, size, real(b, off, size)),
            )
            wrap(
                Bar0,
                "write",
                lambda real: (
                    lambda b, off, value, size: real(b, off, self.write(b, off, size, value), size)
                ),
            )
            patch.setattr(Nic, "mmio_read", lambda n, off, size=4: n.bar0.read(off, size))
            patch.setattr(
                Nic, "mmio_write", lambda n, off, value, size=4: n.bar0.write(off, value, size)
            )
            self._install_window(patch)
        elif space == "phy":
            wrap(Phy, "read", lambda real: lambda p, n: self.read(p, n, 1, real(p, n)))
            wrap(
                Phy,
                "write",
                lambda real: lambda p, n, value: real(p, n, self.write(p, n, 1, value)),
            )
        else:
            wrap(
                PciFunction,
                "config_read",
                lambda real: lambda f, off, size: self.read(f, off, size, real(f, off, size)),
            )
            wrap(
                PciFunction,
                "config_write",
                lambda real: (
                    lambda f, off, value, size: real(f, off, self.write(f, off, size, value), size)
                ),
            )

    def _install_window(self, patch: pytest.MonkeyPatch) -> None:
        """BAR 0 of a slot: aligned dwords are served by compiled code, beside `Nic`."""

        def bar_read(slot: Slot, bar: int, off: int, size: int) -> int:
            got = BarWindow.bar_read(slot, bar, off, size)
            direct = bar == 0 and size == 4 and not off & 3 and slot._pci.memory_on
            return self.read(slot._bar0, off, size, got) if direct else got

        def bar_write(slot: Slot, bar: int, off: int, value: int, size: int) -> None:
            if bar == 0 and size == 4 and not off & 3:
                value = self.write(slot._bar0, off, size, value)
            BarWindow.bar_write(slot, bar, off, value, size)

        patch.setattr(Slot, "bar_read", bar_read, raising=False)
        patch.setattr(Slot, "bar_write", bar_write, raising=False)

    def _bits(self, off: int, size: int) -> Iterator[tuple[int, int, int]]:
        """Yield (offset of the element, mask, shift) of the field in an access."""
        reg, unit = self.place.reg, 1 if self.place.space == "phy" else 8
        width = 16 if self.place.space == "phy" else 8 * size
        for at in reg.offsets:
            length = {"bar0": 4, "phy": 1, "pci": reg.step}[self.place.space]
            if off < at + length and at < off + size:
                shift = unit * (at - off)
                mask = self.place.field.mask
                yield (
                    at,
                    (mask << shift if shift >= 0 else mask >> -shift) & (1 << width) - 1,
                    shift,
                )

    def write(self, device: object, off: int, size: int, value: int) -> int:
        """Return what the device gets of what software writes."""
        access = self.place.field.access
        if access in (Access.RO, Access.RC):
            return value
        for at, mask, shift in self._bits(off, size):
            self._keep(device, at, value & mask, shift, mask)
            still = self.place.field.put(self.place.field.reset) if access is Access.RW else 0
            value = value & ~mask | (still << shift if shift >= 0 else still >> -shift) & mask
        return value

    def _keep(self, device: object, at: int, value: int, shift: int, mask: int) -> None:
        def moved(bits: int) -> int:
            return bits >> shift if shift >= 0 else bits << -shift

        key = id(device), at
        before = self._kept.get(key, self.place.field.put(self.place.field.reset))
        if self.place.field.access is Access.W1S:
            self._kept[key] = before | moved(value)
        else:
            self._kept[key] = before & ~moved(mask) | moved(value)

    def read(self, device: object, off: int, size: int, got: int) -> int:
        """Return what software gets of what the device says."""
        place, access = self.place, self.place.field.access
        if access in (Access.WO, Access.SC) or (place.reg.name in WINDOWS and access is Access.RW):
            return got
        still = place.field.put(place.field.reset)
        for at, mask, shift in self._bits(off, size):
            if place.name in CONSTANT:
                got ^= mask
                continue
            bits = still
            if access in (Access.RW, Access.W1S):
                bits = self._kept.get((id(device), at), still)
            got = got & ~mask | (bits << shift if shift >= 0 else bits >> -shift) & mask
        return got
