"""Software definable pins (SDM 13.4.1 and 13.4.6): CTRL has SDP0 and SDP1, CTRL_EXT SDP6 and SDP7,
on the 82544 SDP4 too.

A pin is an input after each reset.  The data bit of an input is the level that the board drives,
whatever is written; that of an output is the level that the part drives.  An input of SDP4, SDP6
and SDP7 raises its cause in ICR when it is, or becomes, high with its GPI_EN bit set. It does so at
the change, not for as long as it stays high.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from e1000emu.errors import ArgumentError
from e1000emu.registers.regs import reg

if TYPE_CHECKING:
    from e1000emu.device.interrupts import Interrupts
    from e1000emu.device.regview import Registers

PinCallback = Callable[[int, bool], None]
"""Takes the number of an output and the level that the part drives."""


class Pin(NamedTuple):
    """Where a pin is in the registers."""

    number: int
    register: int
    data: int
    direction: int
    enable: int
    """Its bit of GPI_EN in CTRL_EXT."""
    cause: int
    """Its cause in ICR; 0: it has none."""
    needs: str
    """The feature (`Model.features`) of the parts that have the pin; empty: all have it."""


def _pin(number: int, register: str, enable: str = "", cause: str = "") -> Pin:
    row = reg(register)
    return Pin(
        number,
        row.offset,
        row.mask(f"SDP{number}_DATA"),
        row.mask(f"SDP{number}_IODIR"),
        row.mask(enable) if enable else 0,
        reg("ICR").mask(cause) if cause else 0,
        row.field(f"SDP{number}_DATA").needs,
    )


PINS: dict[int, Pin] = {
    pin.number: pin
    for pin in (
        _pin(0, "CTRL"),
        _pin(1, "CTRL"),
        _pin(4, "CTRL_EXT", "GPI0_EN", "RSV11"),
        _pin(6, "CTRL_EXT", "GPI2_EN", "GPI_SDP6"),
        _pin(7, "CTRL_EXT", "GPI3_EN", "GPI_SDP7"),
    )
}
"""The pins of all parts by number."""

CTRL_EXT = reg("CTRL_EXT").offset


class Pins:
    """The levels of the pins, from both sides."""

    def __init__(
        self,
        regs: Registers,
        interrupts: Interrupts,
        features: frozenset[str],
        on_pin: PinCallback | None,
    ) -> None:
        self._regs = regs
        self._interrupts = interrupts
        self._on_pin = on_pin
        self._pins = {n: pin for n, pin in PINS.items() if not pin.needs or pin.needs in features}
        self.driven = 0
        """Bit n: the board drives SDPn high."""
        self._raising = 0
        """Bit n: SDPn is high and its interrupt enabled."""
        self._out: dict[int, bool] = {}
        """The levels of the outputs that were last reported."""

    def drive(self, number: int, level: bool) -> None:
        """Drive pin `number` from the board; ignored for an output.  Raises: ArgumentError."""
        if number not in self._pins:
            known = ", ".join(map(str, self._pins))
            raise ArgumentError(f"pin {number!r}: the part has SDP {known}")
        self.driven = self.driven & ~(1 << number) | bool(level) << number
        self.update()

    def level(self, number: int) -> bool:
        """Return the level of pin `number`, whichever side drives it.  Raises: KeyError."""
        pin = self._pins[number]
        return bool(self._regs.peek(pin.register) & pin.data)

    def update(self) -> None:
        """React to a change of CTRL, CTRL_EXT or of what the board drives."""
        regs = self._regs
        raising = causes = 0
        enabled = regs.peek(CTRL_EXT)
        for pin in self._pins.values():
            value = regs.peek(pin.register)
            if value & pin.direction:
                level = bool(value & pin.data)
                if self._out.get(pin.number) != level:
                    self._out[pin.number] = level
                    if self._on_pin is not None:
                        self._on_pin(pin.number, level)
                continue
            self._out.pop(pin.number, None)
            if self.driven >> pin.number & 1:
                regs.set_bits(pin.register, pin.data)
                if enabled & pin.enable:
                    raising |= 1 << pin.number
                    causes |= pin.cause if not self._raising >> pin.number & 1 else 0
            else:
                regs.clear_bits(pin.register, pin.data)
        self._raising = raising
        if causes:
            self._interrupts.cause(causes)

    def state(self) -> int:
        """Return what a snapshot needs: what the board drives."""
        return self.driven

    def load(self, driven: int) -> None:
        """Take back what the board drove; the registers are loaded already, so no level changes."""
        self.driven = driven & sum(1 << number for number in self._pins)
        self._raising = 0
        enabled = self._regs.peek(CTRL_EXT)
        for pin in self._pins.values():
            value = self._regs.peek(pin.register)
            if value & pin.direction:
                self._out[pin.number] = bool(value & pin.data)
            elif value & pin.data and enabled & pin.enable:
                self._raising |= 1 << pin.number
