"""The boot flash: a parallel chip of 64 to 512 KiB (SDM 7, 4.1, 13.2.2, 13.4.3).

`FlashChip` is the chip, one of Atmel's AT49 family, which the SDM names for these parts. Bytes are
read directly; unlocking writes precede a program or erase command (table of commands in its data
sheet).  `FlashPort` is the device's side: three windows to the chip (BAR 1, the expansion ROM
BAR and IOADDR from 80000h on), and EECD.FWE lets writes through.

FLA belongs to the 82541 and the 82547, whose flash is serial; on these parts it is reserved.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from e1000emu.device.state import U8, BlockState, Time, moved
from e1000emu.errors import ArgumentError
from e1000emu.registers.regs import reg

if TYPE_CHECKING:
    from e1000emu.device.regview import Registers
    from e1000emu.insight.misuse import Misuse
    from e1000emu.ports import Clock

FLASH_SIZES = tuple(64 << 10 << code for code in range(4))
"""Bytes by the code in the EEPROM's word 0Fh."""
PROGRAM_NS = 30_000
"""Self-timed programming of one byte, typical in the family's data sheets."""
ERASE_NS = 10_000_000_000
"""Self-timed erase of the whole chip, at most."""
BOOT_BLOCK_BYTES = 8 << 10
MANUFACTURER = 0x1F
DEVICES = {64 << 10: 0x03, 128 << 10: 0x17, 256 << 10: 0x0B, 512 << 10: 0x13}
"""The second byte of the product id by the size: AT49BV512, 49F010, 49F020, 49F040."""
COMMAND_MASK = 0x7FFF
"""Address lines that the commands look at."""
UNLOCK = ((0x5555, 0xAA), (0x2AAA, 0x55))
COMMAND_AT = 0x5555
DATA_POLL, TOGGLE = 0x80, 0x40

EECD = reg("EECD")
FWE, FWE_ON = EECD.field("FWE"), 2


def flash_size_code(contents: bytes | None) -> int:
    """Return the code in the EEPROM for the smallest chip that holds `contents`; 0 without any.

    Raises: ArgumentError for what no chip holds.
    """
    if contents is None:
        return 0
    for code, size in enumerate(FLASH_SIZES):
        if 0 < len(contents) <= size:
            return code
    raise ArgumentError(
        f"flash: {len(contents)} bytes; give from 1 to {FLASH_SIZES[-1]}, the image of a boot ROM"
    )


class Phase(Enum):
    """How the chip interprets the next write."""

    READ = "the first unlocking write"
    UNLOCKED_ONE = "the second unlocking write"
    UNLOCKED = "a command"
    PROGRAM = "address and data to program"


class FlashState(BlockState):
    """The chip, and the window to it."""

    data: bytes
    locked: bool
    phase: str
    armed: bool
    identify: bool
    busy_until_ns: Time
    polled: U8
    toggle: bool
    window: int

    def move(self, ns: int) -> None:
        """Move the end of an operation."""
        self.busy_until_ns = moved(self.busy_until_ns, ns, 0)


class FlashChip:
    """An 8-bit flash of the AT49 family with `contents`; the rest is erased."""

    def __init__(self, contents: bytes) -> None:
        size = FLASH_SIZES[flash_size_code(contents)]
        self.data = bytearray(contents.ljust(size, b"\xff"))
        self.locked = False
        """The boot block is locked permanently."""
        self._phase = Phase.READ
        self._armed = False
        """The first half of an erase or lockout command was received."""
        self._identify = False
        self._busy_until_ns = 0
        self._polled = 0xFF
        """The byte being programmed: its bit 7 reads inverted."""
        self._toggle = False

    def busy(self, now_ns: int) -> bool:
        """Return whether the chip programs or erases."""
        return now_ns < self._busy_until_ns

    def read(self, address: int, now_ns: int) -> int:
        """Return a byte: data, product id, or status while busy; addresses wrap."""
        if self.busy(now_ns):
            self._toggle = not self._toggle
            return ~self._polled & DATA_POLL | (TOGGLE if self._toggle else 0)
        if not self._identify:
            return self.data[address % len(self.data)]
        ids = (MANUFACTURER, DEVICES[len(self.data)], int(self.locked), 0)
        return ids[address & 3]

    def write(self, address: int, value: int, now_ns: int) -> None:
        """Process a write cycle of one byte: a step of a command, or nothing."""
        if self.busy(now_ns):
            return
        phase, self._phase = self._phase, Phase.READ
        at = address & COMMAND_MASK
        if phase is Phase.PROGRAM:
            self._program(address % len(self.data), value, now_ns)
        elif phase is Phase.UNLOCKED:
            if at == COMMAND_AT:
                self._command(value, now_ns)
        elif (at, value) == UNLOCK[phase is Phase.UNLOCKED_ONE]:
            self._phase = Phase.UNLOCKED if phase is Phase.UNLOCKED_ONE else Phase.UNLOCKED_ONE
        else:
            self._armed = False
            if value == 0xF0:
                self._identify = False

    def _command(self, value: int, now_ns: int) -> None:
        armed, self._armed = self._armed, False
        match value, armed:
            case 0xA0, False:
                self._phase = Phase.PROGRAM
            case 0x80, False:
                self._armed = True
            case 0x90, False:
                self._identify = True
            case 0xF0, _:
                self._identify = False
            case 0x10, True:
                start = BOOT_BLOCK_BYTES if self.locked else 0
                self.data[start:] = b"\xff" * (len(self.data) - start)
                self._work(0xFF, now_ns + ERASE_NS)
            case 0x40, True:
                self.locked = True
                self._work(0xFF, now_ns + PROGRAM_NS)
            case _:
                pass

    def _program(self, address: int, value: int, now_ns: int) -> None:
        """Clear bits: only an erase sets them again."""
        if not (self.locked and address < BOOT_BLOCK_BYTES):
            self.data[address] &= value
        self._work(value, now_ns + PROGRAM_NS)

    def _work(self, polled: int, until_ns: int) -> None:
        self._polled = polled
        self._busy_until_ns = until_ns

    def state(self, window: int) -> FlashState:
        """Return what a snapshot needs; the flash's BAR has `window` bytes."""
        data, phase = bytes(self.data), self._phase.name
        return FlashState.of(self, data=data, locked=self.locked, phase=phase, window=window)

    def load(self, state: FlashState) -> None:
        """Take back what `state` returned.  Raises: ValueError for a chip of another size."""
        if len(state.data) != len(self.data) or state.phase not in Phase.__members__:
            raise ValueError("flash")
        state.put_into(self, "data", "locked", "phase", "window")
        self.data[:] = state.data
        self.locked = state.locked
        self._phase = Phase[state.phase]


class FlashPort:
    """The windows to the chip; they exist only with a chip."""

    def __init__(
        self, regs: Registers, misuse: Misuse, clock: Clock, contents: bytes | None
    ) -> None:
        self._regs = regs
        self._misuse = misuse
        self._clock = clock
        self.chip = None if contents is None else FlashChip(contents)

    def window(self, code: int) -> int:
        """Return the bytes of a window by the EEPROM's code (SDM 4.1); 0 without a chip."""
        return 0 if self.chip is None else FLASH_SIZES[code & 3]

    def read(self, offset: int, size: int) -> int:
        """Read `size` bytes, one cycle each, as the device assembles them (SDM 7.1)."""
        assert self.chip is not None
        now = self._clock.now_ns()
        return int.from_bytes([self.chip.read(offset + i, now) for i in range(size)], "little")

    def write(self, offset: int, value: int, size: int) -> None:
        """Write `size` bytes, one cycle each, when EECD.FWE lets them through (SDM 13.4.3)."""
        assert self.chip is not None
        fwe = FWE.get(self._regs.peek(EECD.offset))
        if fwe != FWE_ON:
            self._misuse.note("flash-write", offset, fwe)
            return
        now = self._clock.now_ns()
        for i in range(size):
            self.chip.write(offset + i, value >> 8 * i & 0xFF, now)

    def contents(self, offset: int, size: int) -> bytes:
        """Return stored bytes of the chip, also while it is busy; zeros without one."""
        if self.chip is None:
            return bytes(size)
        data = self.chip.data
        return bytes(data[at % len(data)] for at in range(offset, offset + size))

    def state(self, window: int) -> FlashState | None:
        """Return what a snapshot needs, `window` bytes of BAR too; nothing without a chip."""
        return None if self.chip is None else self.chip.state(window)

    def load(self, state: FlashState | None) -> int | None:
        """Take back what `state` returned, and return the window's bytes.

        A state without a flash leaves the chip as it is: None.
        Raises: ValueError when the state's chip is not like this one.
        """
        if state is None:
            return None
        if self.chip is None or state.window not in FLASH_SIZES:
            raise ValueError("flash")
        self.chip.load(state)
        return state.window
