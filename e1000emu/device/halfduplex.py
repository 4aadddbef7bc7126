"""Half duplex: how TCTL and TIPG configure a shared wire, and its statistics (SDM 13.7).

The wire itself, with its collisions and the back-off, is the link's (links/hub.py). A frame counts
as sent when its transmission is over; one that the wire gives up never counts (13.7.30, 13.7.44).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from e1000emu.links.station import Station
from e1000emu.registers.regs import reg

if TYPE_CHECKING:
    from e1000emu.device.regview import Registers
    from fastpath.nic.regfile import Stats
    from fastpath.nic.txring import TxEngine

TCTL, TIPG, STATUS = reg("TCTL"), reg("TIPG"), reg("STATUS")
EN, RTLC, CT = TCTL.mask("EN"), TCTL.mask("RTLC"), TCTL.field("CT")
IPGR1, IPGR2 = TIPG.field("IPGR1"), TIPG.field("IPGR2")
IPGR2_CLOCKS = 6
"""The MAC's own, beside IPGR2 (SDM 13.4.34); at 10 and 100 Mb/s a clock is the time of a byte."""
FD = STATUS.mask("FD")
ONE, SEVERAL = 1, range(2, 16)


class HalfDuplex(Station):
    """A NIC at a shared wire."""

    def __init__(
        self, regs: Registers, stats: Stats, engine: TxEngine, on_over: Callable[[], None] | None
    ) -> None:
        self._stats = stats
        self._engine = engine
        self._peek = regs.peek
        self._on_over = on_over

    @property
    def full_duplex(self) -> bool:  # type: ignore[override]
        """STATUS.FD, which software may force against the state of the wire."""
        return bool(self._peek(STATUS.offset) & FD)

    @property
    def retries(self) -> int:  # type: ignore[override]
        """TCTL.CT."""
        return CT.get(self._peek(TCTL.offset))

    @property
    def retry_late(self) -> bool:  # type: ignore[override]
        """TCTL.RTLC."""
        return bool(self._peek(TCTL.offset) & RTLC)

    @property
    def defer_bytes(self) -> int:  # type: ignore[override]
        """TIPG.IPGR2, and the MAC's own clocks."""
        return IPGR2.get(self._peek(TIPG.offset)) + IPGR2_CLOCKS

    @property
    def sense_bytes(self) -> int:  # type: ignore[override]
        """TIPG.IPGR1."""
        return IPGR1.get(self._peek(TIPG.offset))

    def deferred(self) -> None:
        """Count DC (13.7.11)."""
        self._count("DC")

    def collided(self) -> None:
        """Count COLC (13.7.10)."""
        self._count("COLC")

    def collided_late(self) -> None:
        """Count LATECOL (13.7.9)."""
        self._count("LATECOL")

    def excessive(self) -> None:
        """Count ECOL, whatever CT is (13.7.7)."""
        self._count("ECOL")

    def sent(self, collisions: int, frame: bytes, with_fcs: bool = False) -> None:
        """Count the frame, and in SCC or MCC (13.7.6, 13.7.8)."""
        self._engine.count(frame, with_fcs)
        if collisions == ONE:
            self._count("SCC")
        elif collisions in SEVERAL:
            self._count("MCC")

    def over(self) -> None:
        """The frame leaves the FIFO, if it was in one (`Nic(bus=...)`)."""
        if self._on_over is not None:
            self._on_over()

    def _count(self, name: str) -> None:
        if self._peek(TCTL.offset) & EN:
            self._stats[name] += 1
