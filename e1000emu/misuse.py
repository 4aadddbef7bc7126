"""What the driver did wrong, by name: a count, the last case with its values, and the remedy.

The device never raises for a guest's mistake; it does what the datasheet says and notes it here
("Detected Tx Unit Hang" should explain itself).  A Nic made with ``strict=True`` raises
`MisuseError` at the access instead, for people who write drivers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from e1000emu.errors import E1000Error

__all__ = ["REMEDIES", "Misuse", "MisuseError", "MisuseEvent"]

REMEDIES: dict[str, str] = {
    "bus-master-off": "set bit 2 of the PCI command register before the rings are started",
    "decode-off": "set the memory or I/O enable bit of the PCI command register first",
    "eeprom-not-granted": "set EECD.EE_REQ and wait for EE_GNT before moving the pins",
    "eerd-while-granted": "clear EECD.EE_REQ before using EERD",
    "eerd-range": "the EEPROM has fewer words; the address wrapped",
    "io-size": "access IOADDR and IODATA with 32 bits at offsets 0 and 4",
    "io-address": "IOADDR selects registers from 0 to 1FFFF",
    "lbm-without-phy": "LBM=3 needs the PHY's own loopback (BMCR bit 14) on a copper part",
    "access-size": "access registers with 32 bits at addresses divisible by 4",
    "phy-address": "the internal PHY answers at address 1",
    "phy-in-reset": "clear CTRL.PHY_RST and wait before using MDIC",
    "phy-op": "MDIC.OP is 1 (write) or 2 (read)",
    "power-state": "the function is in D3hot: write D0 to PMCSR first",
    "rx-abort": "the receive ring lies outside the memory the device may reach: check RDBAL/RDBAH",
    "rx-data-abort": "a receive buffer lies outside the memory the device may write",
    "rx-no-address": "no RAH has AV set and no promiscuous or broadcast bit: nothing will arrive",
    "rx-ring": "RDLEN must be at least 128 and a multiple of 128, RDH and RDT inside the ring",
    "tx-abort": "the transmit ring lies outside the memory the device may reach: check TDBAL/TDBAH",
    "tx-data-abort": "a transmit buffer lies outside the memory the device may read; FF was sent",
    "tx-disabled": "set TCTL.EN; the descriptors wait until then",
    "tx-dropped": "a descriptor chain was wrong (no EOP, too long, or legacy and data mixed)",
    "tx-link-down": "no link: set CTRL.SLU and wait for STATUS.LU; the descriptors wait until then",
    "tx-ring": "TDLEN must be at least 128 and a multiple of 128, TDH and TDT inside the ring",
    "tx-tso": "a TSE context does not fit its data: header length, MSS or PAYLEN is wrong",
    "unknown-register": "no such register on this part; reads gave 0, writes were ignored",
}
"""Every event that can occur, with what to do about it."""


class MisuseError(E1000Error):
    """A driver's mistake, raised at once because the Nic is strict."""


@dataclass(frozen=True, slots=True)
class MisuseEvent:
    """One kind of mistake as it stands: how often, the last case, the remedy."""

    name: str
    count: int
    last: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name} x{self.count}: {self.last}; {self.remedy}"


class Misuse:
    """Counts what the driver did wrong."""

    __slots__ = ("_count", "_last", "_sources", "strict")

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self._count: dict[str, int] = {}
        self._last: dict[str, str] = {}
        self._sources: dict[str, tuple[Callable[[], int], str]] = {}

    def derive(self, name: str, count: Callable[[], int], last: str) -> None:
        """Take the count of `name` from a compiled engine's own counter, when it is asked for."""
        self._sources[name] = (count, last)

    def note(self, name: str, last: str, n: int = 1) -> None:
        """Count `n` cases of `name` (a key of REMEDIES); `last` says register, value, descriptor.

        Raises: MisuseError when strict.
        """
        self._count[name] = self._count.get(name, 0) + n
        self._last[name] = last
        if self.strict:
            raise MisuseError(f"{last}: {REMEDIES[name]}")

    def count(self, name: str) -> int:
        """Return how often `name` has happened."""
        if name in self._sources:
            return self._sources[name][0]()
        return self._count.get(name, 0)

    @property
    def total(self) -> int:
        """Return the number of mistakes of all kinds."""
        return sum(e.count for e in self.events())

    def events(self) -> list[MisuseEvent]:
        """Return what has happened, the commonest first."""
        rows = [
            MisuseEvent(name, n, self._last[name], REMEDIES[name])
            for name, n in self._count.items()
        ]
        rows += [
            MisuseEvent(name, n, last, REMEDIES[name])
            for name, (count, last) in self._sources.items()
            if (n := count())
        ]
        return sorted(rows, key=lambda e: (-e.count, e.name))

    def clear(self) -> None:
        """Forget everything that was noted here; the engines' counters end with a reset."""
        self._count.clear()
        self._last.clear()

    def __repr__(self) -> str:
        events = self.events()
        return f"<Misuse {sum(e.count for e in events)} in {len(events)} kinds>"
