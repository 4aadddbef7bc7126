"""The serial EEPROM in plain Python: the twin of ``fastpath.nic.microwire``.

It keeps the bits of the command that is being shifted in, and derives everything from them.
"""

from __future__ import annotations

WRITE_NS = 2_000_000
WRITE_ALL_NS = 6_000_000


def number(bits: list[bool]) -> int:
    """Return the number of `bits`, most significant first."""
    return sum(bit << at for at, bit in enumerate(reversed(bits)))


class Microwire:
    """A 93C46 (64 words) or 93C66 (256 words) serial EEPROM, organised in 16-bit words."""

    def __init__(self, words: list[int]) -> None:
        self.words = list(words)
        self.address_bits = (len(words) - 1).bit_length()
        self.write_enabled = False
        self.writes = 0
        """Words programmed or erased, over the life of the chip."""
        self._cs = self._sk = False
        self._bits: list[bool] = []  # since CS rose, from the start bit on
        self._busy_until_ns = 0
        self._status = False  # DO shows ready or busy until a start bit

    def data_out(self, now_ns: int) -> bool:
        """Return the level of DO: data, or ready/busy after a write; pulled up otherwise."""
        if not self._cs:
            return True
        if not self._bits:
            return not self._status or now_ns >= self._busy_until_ns
        opcode, address, data = self._command()
        if opcode != 0b10 or data is None:
            return True
        if not data:
            return False  # the dummy zero before the first data bit
        words, bit = divmod(len(data) - 1, 16)  # a sequential read continues with the next word
        return bool(self.words[(address + words) % len(self.words)] >> (15 - bit) & 1)

    def set_pins(self, cs: bool, sk: bool, di: bool, now_ns: int) -> None:
        """Set new levels of the three input pins."""
        rising = sk and not self._sk
        self._sk = sk
        if cs != self._cs:
            self._cs = cs
            if not cs:
                self._execute(now_ns)
                self._status = now_ns < self._busy_until_ns
            self._bits = []
        elif cs and rising and (self._bits or (di and now_ns >= self._busy_until_ns)):
            self._bits.append(di)

    def _command(self) -> tuple[int, int, list[bool] | None]:
        """Return opcode, address and data; None in its place until both are complete."""
        end = 3 + self.address_bits
        data = self._bits[end:] if len(self._bits) >= end else None
        return number(self._bits[1:3]), number(self._bits[3:end]), data

    def _execute(self, now_ns: int) -> None:
        """Execute a complete command when CS falls."""
        opcode, address, data = self._command()
        if data is None:
            return
        what = address >> (self.address_bits - 2) if opcode == 0b00 else None
        if what in (0b11, 0b00):  # EWEN, EWDS
            self.write_enabled = what == 0b11
        writes = opcode == 0b01 or what == 0b01  # WRITE, WRAL; ERASE and ERAL take no data
        erases = opcode == 0b11 or what == 0b10
        if not self.write_enabled or not (erases or (writes and len(data) >= 16)):
            return
        at = range(len(self.words)) if opcode == 0b00 else [address]
        for each in at:
            self.words[each] = 0xFFFF if erases else number(data[:16])
        self.writes += len(at)
        self._busy_until_ns = now_ns + (WRITE_ALL_NS if opcode == 0b00 else WRITE_NS)
