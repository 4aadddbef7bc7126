"""The EEPROM and its two interfaces: EERD and the EECD pins (SDM 5.3, 13.4.3, 13.4.4).

The chip and EECD are compiled (`fastpath.nic.microwire`), because a driver reads it bit by bit.
`EepromPort` adds EERD, and the rare bits of EECD.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from e1000emu.device.state import U16, BlockState, Count, Time, moved
from e1000emu.registers.regs import reg
from fastpath.nic.microwire import PHASES, EecdPort

if TYPE_CHECKING:
    from e1000emu.device.regview import Registers
    from e1000emu.insight.misuse import Misuse
    from e1000emu.ports import Clock

EECD = reg("EECD")
EECD_CS, EECD_GNT, EECD_SIZE = EECD.mask("CS"), EECD.mask("EE_GNT"), EECD.mask("EE_SIZE")
EERD = reg("EERD")
EERD_START, EERD_DONE = EERD.mask("START"), EERD.mask("DONE")


class EepromState(BlockState):
    """The chip (`Microwire`), and operations that wait for it."""

    words: list[U16]
    write_enabled: bool
    writes: Count
    cs: bool
    sk: bool
    do: bool
    phase: str
    shift: U16
    bits: int
    address: int
    pending: tuple[Literal["one", "all"], int, U16] | None
    busy_until_ns: Time
    status: bool
    eerd_waiting: bool = False

    def check(self, size: int, address_bits: int) -> None:
        """Raises: ValueError unless it is the state of a chip of `size` words."""
        good = len(self.words) == size and 0 <= self.address < size and self.phase in PHASES
        if self.pending is not None:
            good = good and 0 <= self.pending[1] < size
        elif self.phase == "DATA_IN" and self.cs:
            good = False
        most = {"COMMAND": 1 + address_bits, "ARMED": 16}.get(self.phase, 15)
        if not (good and 0 <= self.bits <= most):
            raise ValueError("eeprom")

    def move(self, ns: int) -> None:
        """Move the end of a write."""
        self.busy_until_ns = moved(self.busy_until_ns, ns, 0)


class EepromPort(EecdPort):
    """EECD and EERD: arbitration, and the two ways to access the chip."""

    def __init__(
        self, regs: Registers, misuse: Misuse, clock: Clock, words: list[int], *, granted: bool
    ) -> None:
        self._regs = regs
        self._misuse = misuse
        self._clock = clock
        self._bind(regs.file, words, clock, granted)

    @property
    def words(self) -> list[int]:
        """The chip's contents; write through it only to prepare a test."""
        return self.chip.words

    def _released(self, eecd: int) -> None:
        """Software has released the chip: a read by EERD may wait for that (SDM 5.3.1, 5.3.2)."""
        if self.eerd_waiting:
            self._read_word()
        if eecd & EECD_CS:
            self._misuse.note("eeprom-not-granted", eecd)

    def write_eerd(self, old: int, new: int) -> None:
        """Read one word (SDM 13.4.4); START is self-clearing and reads 0.

        While software holds the chip the read waits for its release (SDM 5.3.1).
        """
        regs = self._regs
        regs.poke(EERD.offset, new & ~(EERD_START | EERD_DONE) & 0xFFFF)
        self.eerd_waiting = False
        if not new & EERD_START:
            return
        if regs.peek(EECD.offset) & EECD_GNT:
            self._misuse.note("eerd-while-granted", new)
            self.eerd_waiting = True
        else:
            self._read_word()

    def _read_word(self) -> None:
        self.eerd_waiting = False
        regs, words = self._regs, self.chip.words
        address = regs.peek(EERD.offset) >> 8 & 0xFF
        if address >= len(words):
            self._misuse.note("eerd-range", address)
            address %= len(words)
        regs.set_bits(EERD.offset, EERD_DONE | words[address] << 16)

    def reset(self) -> None:
        """Release the pins; the contents and the write-enable latch stay (they are the chip's)."""
        regs = self._regs
        self.eerd_waiting = False
        self.chip.set_pins(False, False, False, self._clock)
        if len(self.chip.words) > 64:
            regs.set_bits(EECD.offset, EECD_SIZE)

    def state(self) -> EepromState:
        """Return what a snapshot needs."""
        return EepromState(**self.chip.state(), eerd_waiting=self.eerd_waiting)

    def load(self, state: EepromState) -> None:
        """Restore a state.  Raises: ValueError."""
        state.check(len(self.words), self.chip.address_bits)
        self.chip.load(msgspec.structs.asdict(state))
        self.eerd_waiting = state.eerd_waiting
