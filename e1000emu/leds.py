"""The four LEDs by LEDCTL (SDM 13.4.15): what lights each, whether it blinks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from e1000emu.regs import reg

if TYPE_CHECKING:
    from e1000emu.nic import Nic

__all__ = ["MODES", "Led", "leds"]

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
LEDCTL = reg("LEDCTL").offset
BLINK_SLOW_NS, BLINK_FAST_NS = 200_000_000, 83_000_000


@dataclass(frozen=True, slots=True)
class Led:
    """One LED: `lit` is its logical state, `high` the level of its pin."""

    mode: str
    lit: bool
    blinking: bool
    period_ns: int
    high: bool


def leds(nic: Nic) -> tuple[Led, ...]:
    """Return LED 0 to 3 of `nic` as they are now; none of a part without LEDCTL."""
    if "LEDCTL" in nic.model.lacks:
        return ()
    value = nic.regs.peek(LEDCTL)
    up, speed = nic.link_up, nic.link_speed_mbps
    full = bool(nic.regs.field("STATUS", "FD"))
    busy = nic.active()
    sources = (
        up and speed in (10, 1000),
        up and speed in (100, 1000),
        up,
        busy,
        up,
        up and speed == 10,
        up and speed == 100,
        up and speed == 1000,
        False,
        up and full,
        False,
        False,
        False,
        nic.tx.paused,
        True,
        False,
    )
    now = nic.clock.now_ns()
    out = []
    for n in range(4):
        bits = value >> 8 * n & 0xFF
        source = sources[bits & 15]
        blinks = source and (bool(bits & 0x80) or (bits & 15 == 4 and busy))
        period = BLINK_FAST_NS if bits & 0x20 else BLINK_SLOW_NS
        lit = source and (not blinks or now // period % 2 == 0)
        out.append(Led(MODES[bits & 15], lit, blinks, period, lit != bool(bits & 0x40)))
    return tuple(out)
