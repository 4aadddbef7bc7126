"""The four LEDs, controlled by LEDCTL (SDM 13.4.15)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from e1000emu.registers.regs import reg

if TYPE_CHECKING:
    from e1000emu.device.linkunit import LinkUnit
    from e1000emu.device.regview import Registers
    from e1000emu.ports import Clock
    from e1000emu.registers.models import Model
    from fastpath.nic.regfile import Stats

MODES = (
    "link 10/1000",
    "link 100/1000",
    "link up",
    "activity",
    "link/activity",
    "link 10",
    "link 100",
    "link 1000",
    "PCI-X mode",
    "full duplex",
    "collision",
    "bus speed",
    "bus size",
    "paused",
    "on",
    "off",
)
LEDCTL, STATUS = reg("LEDCTL").offset, reg("STATUS")
TXOFF, PCIX_MODE, BUS64 = (STATUS.mask(name) for name in ("TXOFF", "PCIX_MODE", "BUS64"))
PCI66, PCIXSPD, PCIX133 = STATUS.mask("PCI66"), STATUS.field("PCIXSPD"), 2
ACTIVITY, COLLISION = ("TPT", "TPR"), ("COLC", "LATECOL")
"""The statistics whose changes light these LEDs."""
ACTIVITY_NS = 100_000_000
"""How long an LED shows that a frame has moved, or that frames have collided."""
BLINK_SLOW_NS, BLINK_FAST_NS = 200_000_000, 83_000_000


@dataclass(frozen=True, slots=True)
class Led:
    """One LED: `lit` is its logical state, `high` the level of its pin."""

    mode: str
    lit: bool
    blinking: bool
    period_ns: int
    high: bool


class Leds:
    """LEDCTL, and whether frames move."""

    def __init__(
        self, part: Model, regs: Registers, stats: Stats, link_unit: LinkUnit, clock: Clock
    ) -> None:
        self._there = "LEDCTL" not in part.lacks
        self._peek = regs.peek
        self._stats = stats
        self._link_unit = link_unit
        self._clock = clock
        names: tuple[tuple[str, ...], ...] = ACTIVITY, COLLISION
        self._seen = dict.fromkeys(names, (0, -ACTIVITY_NS))
        """The count at the last look, and when it had last changed."""

    def _active(self, names: tuple[str, str], now_ns: int) -> bool:
        """Return whether the statistics have counted since the last call, or within 100 ms."""
        count = sum(self._stats[name] for name in names)
        seen, when_ns = self._seen[names]
        if count not in (0, seen):  # 0: a driver has read, and so cleared, them
            when_ns = now_ns
        self._seen[names] = count, when_ns
        return now_ns - when_ns < ACTIVITY_NS

    def show(self) -> tuple[Led, ...]:
        """Return LED 0 to 3 as they are now; none of a part without LEDCTL."""
        if not self._there:
            return ()
        value, now = self._peek(LEDCTL), self._clock.now_ns()
        up, speed = self._link_unit.up, self._link_unit.speed_mbps
        busy = self._active(ACTIVITY, now) and up
        status = self._peek(STATUS.offset)
        fast_pci_x = bool(status & PCIX_MODE) and PCIXSPD.get(status) == PCIX133
        sources = (
            up and speed in (10, 1000),
            up and speed in (100, 1000),
            up,
            busy,
            up,
            up and speed == 10,
            up and speed == 100,
            up and speed == 1000,
            bool(status & PCIX_MODE),
            up and self._link_unit.full_duplex,
            self._active(COLLISION, now),
            bool(status & PCI66) or fast_pci_x,
            bool(status & BUS64),
            bool(status & TXOFF),
            True,
            False,
        )
        out = []
        for n in range(4):
            bits = value >> 8 * n & 0xFF
            source = sources[bits & 15]
            blinks = source and (bool(bits & 0x80) or (bits & 15 == 4 and busy))
            period = BLINK_FAST_NS if bits & 0x20 else BLINK_SLOW_NS
            lit = source and (not blinks or now // period % 2 == 0)
            out.append(Led(MODES[bits & 15], lit, blinks, period, lit != bool(bits & 0x40)))
        return tuple(out)
