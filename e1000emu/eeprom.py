"""The EEPROM behind its two doors: EERD and the EECD pins (SDM 5.3, 13.4.3, 13.4.4).

The chip and EECD are compiled (`fastpath.microwire`), since a driver reads it bit by bit;
`EepromPort` adds EERD, and what is rare of EECD.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from e1000emu.regs import reg
from fastpath.microwire import EecdPort

if TYPE_CHECKING:
    from e1000emu.nic import Nic

__all__ = ["EepromPort"]

EECD = reg("EECD")
EECD_CS, EECD_GNT, EECD_SIZE = EECD.mask("CS"), EECD.mask("EE_GNT"), EECD.mask("EE_SIZE")
EERD = reg("EERD")
EERD_START, EERD_DONE = EERD.mask("START"), EERD.mask("DONE")


class EepromPort(EecdPort):
    """EECD and EERD: who has the chip, and the two ways to it."""

    def __init__(self, nic: Nic, words: list[int]) -> None:
        self._nic = nic
        self._bind(nic.regs.file, words, nic.clock, nic.model.eeprom_granted)

    @property
    def words(self) -> list[int]:
        """The chip's contents; write through it only to prepare a test."""
        return self.chip.words

    def _released(self, eecd: int) -> None:
        """Software has let go of the chip: EERD's read may wait for that (SDM 5.3.1, 5.3.2)."""
        if self.eerd_waiting:
            self._read_word()
        if eecd & EECD_CS:
            self._nic.misuse.note("eeprom-not-granted", eecd)

    def write_eerd(self, old: int, new: int) -> None:
        """Read one word (SDM 13.4.4); START is self-clearing and reads 0.

        While software holds the chip the read waits for its release (SDM 5.3.1).
        """
        regs = self._nic.regs
        regs.poke(EERD.offset, new & ~(EERD_START | EERD_DONE) & 0xFFFF)
        self.eerd_waiting = False
        if not new & EERD_START:
            return
        if regs.peek(EECD.offset) & EECD_GNT:
            self._nic.misuse.note("eerd-while-granted", new)
            self.eerd_waiting = True
        else:
            self._read_word()

    def _read_word(self) -> None:
        self.eerd_waiting = False
        regs, words = self._nic.regs, self.chip.words
        address = regs.peek(EERD.offset) >> 8 & 0xFF
        if address >= len(words):
            self._nic.misuse.note("eerd-range", address)
            address %= len(words)
        regs.set_bits(EERD.offset, EERD_DONE | words[address] << 16)

    def reset(self) -> None:
        """Release the pins; the contents and the write-enable latch stay (they are the chip's)."""
        regs = self._nic.regs
        self.eerd_waiting = False
        self.chip.set_pins(False, False, False, self._nic.clock)
        if len(self.chip.words) > 64:
            regs.set_bits(EECD.offset, EECD_SIZE)

    def state(self) -> dict[str, Any]:
        """Return what a snapshot needs."""
        return self.chip.state() | {"eerd_waiting": self.eerd_waiting}

    def load(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned, now or by an older version."""
        self.chip.load(state)
        self.eerd_waiting = bool(state.get("eerd_waiting", False))
