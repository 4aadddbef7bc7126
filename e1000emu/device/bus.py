"""Timing of the bus between device and host memory: `Nic(bus="pci-64-66")`.

Without one, DMA takes no time.  A transaction takes a few clocks before its data, then one for
each aligned word that the data touches.  Times are whole picoseconds, so they are exact, and the
same in every run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from e1000emu.errors import ArgumentError
from e1000emu.quantities import duration_ns
from e1000emu.registers.regs import reg
from fastpath.errors import check_type, whole_number

if TYPE_CHECKING:
    from e1000emu.registers.models import Model

__all__ = ["BUSES", "Bus", "bus"]

PS = 1000
"""Picoseconds in a nanosecond."""
PCI_CLOCKS, PCI_X_CLOCKS = 3, 4
"""Around a read's data: address, turnaround and an idle clock (PCI 2.3, 3.3.1); PCI-X has an
attribute phase more (PCI-X 1.0a, 2.6)."""
STATUS = reg("STATUS")
PCIXSPD = STATUS.field("PCIXSPD")
PCI_X_SPEEDS = ((15_000, 0), (10_000, 1), (0, 2))
"""Clocks of at least so many picoseconds, and STATUS.PCIXSPD for them (SDM 13.4.2)."""
PCI66_PS = 20_000
"""A shorter clock is a 66 MHz bus's."""


@dataclass(frozen=True, slots=True)
class Bus:
    """How long reads of host memory take.  Raises: ArgumentError for a number out of range."""

    name: str = "custom"
    width_bytes: int = 4
    """Bytes of a word; a clock moves one word."""
    clock_ps: int = 30_000
    overhead_clocks: int = PCI_CLOCKS
    """Clocks of each transaction in which no data moves."""
    latency_ns: int = 0
    """The memory's latency before the first word of each transaction."""
    pci_x: bool = False
    """Transactions are limited by MMRBC of the PCI-X capability, if the part has one."""

    def __post_init__(self) -> None:
        """Check the fields."""
        check_type("Bus", "name", self.name, str, "text")
        for field, low, high in (
            ("width_bytes", 1, 64),
            ("clock_ps", 1, 10**9),
            ("overhead_clocks", 0, 1 << 16),
            ("latency_ns", 0, 10**9),
        ):
            whole_number("Bus", field, getattr(self, field), low, high)
        if self.width_bytes & self.width_bytes - 1:
            raise ArgumentError(f"Bus: width_bytes={self.width_bytes}; words are 1, 2, 4, 8 ...")

    @property
    def bytes_per_s(self) -> int:
        """The highest data rate, bytes per second."""
        return self.width_bytes * 10**12 // self.clock_ps

    @property
    def status(self) -> int:
        """The bits of STATUS that describe it: PCI66, BUS64, PCIX_MODE, PCIXSPD (SDM 13.4.2)."""
        bits = STATUS.mask("BUS64") if self.width_bytes >= 8 else 0
        if self.pci_x:
            speed = next(code for ps, code in PCI_X_SPEEDS if self.clock_ps >= ps)
            return bits | STATUS.mask("PCIX_MODE") | PCIXSPD.put(speed)
        return bits | (STATUS.mask("PCI66") if self.clock_ps < PCI66_PS else 0)

    def edge(self, ps: int) -> int:
        """Return the first clock edge from `ps` on."""
        return -(-ps // self.clock_ps) * self.clock_ps

    def lead(self) -> int:
        """Return the picoseconds of a transaction before its first word has come."""
        return self.overhead_clocks * self.clock_ps + self.latency_ns * PS

    def words(self, addr: int, count: int) -> int:
        """Return the picoseconds of the words that `count` bytes from `addr` on touch."""
        offset = addr % self.width_bytes
        return -(-(offset + count) // self.width_bytes) * self.clock_ps


def _row(name: str, width_bytes: int, clock_ps: int) -> Bus:
    pci_x = name.startswith("pci-x")
    return Bus(name, width_bytes, clock_ps, PCI_X_CLOCKS if pci_x else PCI_CLOCKS, 0, pci_x)


BUSES: dict[str, Bus] = {
    row.name: row
    for row in (
        _row("pci", 4, 30_000),
        _row("pci-66", 4, 15_000),
        _row("pci-64", 8, 30_000),
        _row("pci-64-66", 8, 15_000),
        _row("pci-x-66", 8, 15_000),
        _row("pci-x-100", 8, 10_000),
        _row("pci-x-133", 8, 7_500),
    )
}
"""The buses that the family supports: 32 bits wide unless the name has 64 or X."""


def bus(spec: str | Bus | None, part: Model) -> Bus | None:
    """Return the bus that `spec` names, as `pci-66` or `pci-66,latency=200ns`.

    Raises: ArgumentError for an unknown name, and for a bus that `part` does not support.
    """
    if spec is None:
        return None
    if isinstance(spec, Bus):
        found = spec
    elif isinstance(spec, str):
        name, comma, option = spec.partition(",")
        key, _, value = option.partition("=")
        try:
            found = BUSES[name]
            if comma and key != "latency":
                raise ValueError(f"{key!r} is no option")
            if comma:
                found = replace(found, name=spec, latency_ns=duration_ns(value))
        except (KeyError, ValueError) as error:
            why = "" if isinstance(error, KeyError) else f"{error}: "
            raise ArgumentError(
                f"bus {spec!r}: {why}give one of {', '.join(BUSES)}; ',latency=200ns' after it "
                "adds that to each transaction"
            ) from None
    else:
        raise ArgumentError(f"bus {spec!r}: give a name ({', '.join(BUSES)}) or a Bus")
    wide = found.pci_x or found.width_bytes > Bus().width_bytes
    if wide and "PCI-X" not in part.capabilities:
        raise ArgumentError(
            f"bus {found.name!r}: the {part.name} is for PCI with 32 bits; use 'pci' or 'pci-66'"
        )
    return found
