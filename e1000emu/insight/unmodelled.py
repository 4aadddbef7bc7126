"""Writes of bits that the device only stores: which, how often, and the reason.

The tables list these bits (`todo` of a field, `e1000emu regs --coverage`). Such a write is
not misuse by the driver. But it may explain wrong behaviour. A bit counts
when it is written 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from e1000emu.registers.coverage import SPACES


class _Bits(NamedTuple):
    name: str
    mask: int
    why: str


@dataclass(frozen=True, slots=True)
class UnmodelledWrite:
    """A field that only stores, and the values written."""

    field: str
    """Space, register and field: "bar0.CTRL.ILOS"."""
    count: int
    last: int
    """The register's last such value."""
    why: str

    def __str__(self) -> str:
        times = "once" if self.count == 1 else f"{self.count} times"
        return f"{self.field} was set {times}, last by {self.last:#x}: {self.why}"


class Unmodelled:
    """Counts by field."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, int]] = {}

    def add(self, space: str, offset: int, value: int) -> None:
        """Record a write of `value` to the register at `offset`."""
        for bits in _gaps().get((space, offset), ()):
            if value & bits.mask:
                count = self._counts.get(bits.name, (0, 0))[0]
                self._counts[bits.name] = (count + 1, value)

    def add_bytes(self, space: str, offset: int, value: int, size: int) -> None:
        """Record a write of `size` bytes, which may cover several registers or begin within one."""
        value &= (1 << 8 * size) - 1
        for at_space, at in _gaps():
            if at_space == space and at < offset + size and offset < at + 4:
                self.add(space, at, value << 8 * offset >> 8 * at)

    def writes(self) -> list[UnmodelledWrite]:
        """Return the writes, by space and offset."""
        return [
            UnmodelledWrite(bits.name, *self._counts[bits.name], bits.why)
            for place in _gaps().values()
            for bits in place
            if bits.name in self._counts
        ]

    def state(self) -> dict[str, tuple[int, int]]:
        """Return the state for a snapshot: count and last value by field."""
        return dict(self._counts)

    def load(self, state: dict[str, tuple[int, int]]) -> None:
        """Load the result of `state`; ignores fields modelled since."""
        known = {bits.name for place in _gaps().values() for bits in place}
        self._counts = {name: row for name, row in state.items() if name in known}


@cache
def _gaps() -> dict[tuple[str, int], tuple[_Bits, ...]]:
    """Return by space and offset the bits that are writable but only stored."""
    found = {}
    for space, rows in SPACES.items():
        for r in rows:
            bits = tuple(
                _Bits(f"{space}.{r.name}.{f.name}", f.mask & r.wmask, f.todo)
                for f in r.fields
                if f.todo and f.mask & r.wmask
            )
            if bits:
                found.update(dict.fromkeys(((space, at) for at in r.offsets), bits))
    return found


def gap_mask(space: str, offset: int) -> int:
    """Return the bits at `offset` that are writable but only stored."""
    return sum(bits.mask for bits in _gaps().get((space, offset), ()))
