"""The EEPROM: a 93C46 or 93C66 behind two doors, EERD and the EECD pins (SDM 5.3, 13.4.3, 13.4.4).

`Microwire` is the chip: pins and the time go in, the data pin comes out.  It does the whole
instruction set (READ, WRITE, ERASE, WRAL, ERAL, EWEN, EWDS) with its write-enable latch and the
ready/busy status after a write.  `EepromPort` is the device's side: request and grant, EERD.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from e1000emu.regs import reg

if TYPE_CHECKING:
    from e1000emu.nic import Nic

__all__ = ["EepromPort", "Microwire"]

WRITE_NS = 2_000_000
"""Self-timed write or erase of one word; data sheets of the 93C46 say 1 to 10 ms."""
WRITE_ALL_NS = 6_000_000
"""Self-timed WRAL or ERAL."""

EECD = reg("EECD")
EECD_SK, EECD_CS, EECD_DI = EECD.mask("SK"), EECD.mask("CS"), EECD.mask("DI")
EECD_DO = EECD.mask("DO")
EECD_REQ, EECD_GNT = EECD.mask("EE_REQ"), EECD.mask("EE_GNT")
EECD_SIZE = EECD.mask("EE_SIZE")
EERD = reg("EERD")
EERD_START, EERD_DONE = EERD.mask("START"), EERD.mask("DONE")


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

    def data_out(self, now_ns: int) -> bool:
        """Return the level of DO: data, or ready/busy after a write; pulled up otherwise."""
        if not self._cs:
            return True
        if self._status:
            return not self.busy(now_ns)
        return self._do

    def pins(self, cs: bool, sk: bool, di: bool, now_ns: int) -> None:
        """Take new levels of the three input pins."""
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

    def load(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        words = state["words"]
        assert isinstance(words, list)
        self.words = list(words)
        self.address_bits = (len(words) - 1).bit_length()
        self.write_enabled = bool(state["write_enabled"])
        self.writes = int(state["writes"])
        self._cs, self._sk, self._do = bool(state["cs"]), bool(state["sk"]), bool(state["do"])
        self._phase = Phase[str(state["phase"])]
        self._shift = int(state["shift"])
        self._bits = int(state["bits"])
        self._address = int(state["address"])
        pending = state["pending"]
        self._pending = tuple(pending) if isinstance(pending, list | tuple) else None
        self._busy_until_ns = int(state["busy_until_ns"])
        self._status = bool(state["status"])


class EepromPort:
    """EECD and EERD: who has the chip, and the two ways to it."""

    def __init__(self, nic: Nic, words: list[int]) -> None:
        self._nic = nic
        self.chip = Microwire(words)
        self._waiting = False
        """EERD.START was written while software held the chip."""

    @property
    def words(self) -> list[int]:
        """The chip's contents; write through it only to prepare a test."""
        return self.chip.words

    def write_eecd(self, old: int, new: int) -> None:
        """Move the pins, when software has been granted the chip (SDM 5.3.2)."""
        regs = self._nic.regs
        if not self._nic.model.eeprom_granted:
            pins = new
        elif new & EECD_REQ:
            regs.set_bits(EECD.offset, EECD_GNT)
            pins = new
        else:
            regs.clear_bits(EECD.offset, EECD_GNT)
            pins = 0
            if self._waiting:
                self._read_word()
            if new & EECD_CS:
                self._nic.misuse.note("eeprom-not-granted", new)
        now = self._nic.clock.now_ns()
        self.chip.pins(bool(pins & EECD_CS), bool(pins & EECD_SK), bool(pins & EECD_DI), now)

    def read_eecd(self, value: int) -> int:
        """Return EECD with the present level of the data pin."""
        if self.chip.data_out(self._nic.clock.now_ns()):
            return value | EECD_DO
        return value & ~EECD_DO

    def write_eerd(self, old: int, new: int) -> None:
        """Read one word (SDM 13.4.4); START is self-clearing and reads 0.

        While software holds the chip the read waits for its release (SDM 5.3.1).
        """
        regs = self._nic.regs
        regs.poke(EERD.offset, new & ~(EERD_START | EERD_DONE) & 0xFFFF)
        self._waiting = False
        if not new & EERD_START:
            return
        if regs.peek(EECD.offset) & EECD_GNT:
            self._nic.misuse.note("eerd-while-granted", new)
            self._waiting = True
        else:
            self._read_word()

    def _read_word(self) -> None:
        self._waiting = False
        regs, words = self._nic.regs, self.chip.words
        address = regs.peek(EERD.offset) >> 8 & 0xFF
        if address >= len(words):
            self._nic.misuse.note("eerd-range", address)
            address %= len(words)
        regs.set_bits(EERD.offset, EERD_DONE | words[address] << 16)

    def reset(self) -> None:
        """Release the pins; the contents and the write-enable latch stay (they are the chip's)."""
        regs = self._nic.regs
        self._waiting = False
        self.chip.pins(False, False, False, self._nic.clock.now_ns())
        if len(self.chip.words) > 64:
            regs.set_bits(EECD.offset, EECD_SIZE)

    def state(self) -> dict[str, Any]:
        """Return what a snapshot needs."""
        return self.chip.state() | {"eerd_waiting": self._waiting}

    def load(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned, now or by an older version."""
        self.chip.load(state)
        self._waiting = bool(state.get("eerd_waiting", False))
