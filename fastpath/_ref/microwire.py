"""The serial EEPROM in plain Python: the twin of ``fastpath.nic.microwire``."""

from __future__ import annotations

from enum import Enum
from typing import Any, Protocol

WRITE_NS = 2_000_000
WRITE_ALL_NS = 6_000_000


class Clock(Protocol):
    def now_ns(self) -> int: ...


class Phase(Enum):
    """What the next clock edge means to the chip."""

    START = "waiting for a start bit"
    COMMAND = "shifting opcode and address in"
    DATA_IN = "shifting data in"
    DATA_OUT = "shifting data out"
    ARMED = "a write begins when CS falls"
    DONE = "ignores clocks until CS falls"


class Microwire:
    """A 93C46 (64 words) or 93C66 (256 words) serial EEPROM, organised in 16-bit words."""

    def __init__(self, words: list[int]) -> None:
        self.words = list(words)
        self.address_bits = (len(words) - 1).bit_length()
        self.write_enabled = False
        self.writes = 0
        """Words programmed or erased, over the life of the chip."""
        self._cs = self._sk = False
        self._do = True
        self._phase = Phase.START
        self._shift = self._bits = 0
        self._address = 0
        self._pending: tuple[str, int, int] | None = None
        self._busy_until_ns = 0
        self._status = False

    def busy(self, now_ns: int) -> bool:
        """Return whether a self-timed write is under way."""
        return now_ns < self._busy_until_ns

    def data_out(self, clock: Clock) -> bool:
        """Return the level of DO: data, or ready/busy after a write; pulled up otherwise."""
        if not self._cs:
            return True
        if self._status:
            return not self.busy(clock.now_ns())
        return self._do

    def set_pins(self, cs: bool, sk: bool, di: bool, clock: Clock) -> None:
        """Take new levels of the three input pins."""
        now_ns = clock.now_ns()
        rising = sk and not self._sk
        self._sk = sk
        if cs != self._cs:
            self._cs = cs
            if cs:
                self._phase = Phase.START
                self._do = True
                self._shift = self._bits = 0
            else:
                self._deselect(now_ns)
            return
        if cs and rising:
            self._clock(di, now_ns)

    def _deselect(self, now_ns: int) -> None:
        """CS falls: an armed write begins, everything else is forgotten."""
        self._status = False
        self._do = True
        if self._phase is Phase.ARMED and self._pending is not None:
            self._program(*self._pending, now_ns)
        self._pending = None
        if self.busy(now_ns):
            self._status = True

    def _program(self, operation: str, address: int, data: int, now_ns: int) -> None:
        if not self.write_enabled:
            return
        if operation == "one":
            self.words[address] = data
            self.writes += 1
            self._busy_until_ns = now_ns + WRITE_NS
        else:
            self.words[:] = [data] * len(self.words)
            self.writes += len(self.words)
            self._busy_until_ns = now_ns + WRITE_ALL_NS

    def _clock(self, di: bool, now_ns: int) -> None:
        match self._phase:
            case Phase.START:
                # Only a start bit ends the status display; while busy nothing is accepted.
                if di and not self.busy(now_ns):
                    self._status = False
                    self._phase = Phase.COMMAND
                    self._shift = self._bits = 0
            case Phase.COMMAND:
                self._shift = self._shift << 1 | di
                self._bits += 1
                if self._bits == 2 + self.address_bits:
                    self._decode()
            case Phase.DATA_IN:
                self._shift = self._shift << 1 | di
                self._bits += 1
                if self._bits == 16:
                    assert self._pending is not None
                    self._pending = (*self._pending[:2], self._shift)
                    self._phase = Phase.ARMED
            case Phase.DATA_OUT:
                self._do = bool(self.words[self._address] >> (15 - self._bits) & 1)
                self._bits += 1
                if self._bits == 16:  # sequential read goes on with the next word
                    self._bits = 0
                    self._address = (self._address + 1) % len(self.words)
            case Phase.ARMED | Phase.DONE:
                pass

    def _decode(self) -> None:
        opcode = self._shift >> self.address_bits
        address = self._shift & ((1 << self.address_bits) - 1)
        self._shift = self._bits = 0
        self._phase = Phase.DONE
        match opcode:
            case 0b10:
                self._address = address
                self._do = False  # the dummy zero before the first data bit
                self._phase = Phase.DATA_OUT
            case 0b01:
                self._pending = ("one", address, 0)
                self._phase = Phase.DATA_IN
            case 0b11:
                self._pending = ("one", address, 0xFFFF)
                self._phase = Phase.ARMED
            case _:
                match address >> (self.address_bits - 2):
                    case 0b11:
                        self.write_enabled = True
                    case 0b00:
                        self.write_enabled = False
                    case 0b10:
                        self._pending = ("all", 0, 0xFFFF)
                        self._phase = Phase.ARMED
                    case _:
                        self._pending = ("all", 0, 0)
                        self._phase = Phase.DATA_IN

    def state(self) -> dict[str, Any]:
        """Return everything that a snapshot needs, as plain data."""
        return {
            "words": list(self.words),
            "write_enabled": self.write_enabled,
            "writes": self.writes,
            "cs": self._cs,
            "sk": self._sk,
            "do": self._do,
            "phase": self._phase.name,
            "shift": self._shift,
            "bits": self._bits,
            "address": self._address,
            "pending": list(self._pending) if self._pending else None,
            "busy_until_ns": self._busy_until_ns,
            "status": self._status,
        }
