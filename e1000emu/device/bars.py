"""The BARs, and the slot that a host drives.

`Bar0` cuts accesses into registers.  `IoBar` is the I/O BAR: IOADDR, and IODATA, through which it
reaches registers and flash (SDM 13.2.2).  `Slot` is the interface for the host's PCI layer
(`ports.PciSlot`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from e1000emu.device.pci import D3HOT, IO_BAR_BYTES, ROM_BAR
from e1000emu.registers.regs import BAR0_BYTES, at_offset
from fastpath.nic.macpath import BarWindow

if TYPE_CHECKING:
    from e1000emu.device.flash import FlashPort
    from e1000emu.device.pci import PciFunction
    from e1000emu.device.regview import Registers
    from e1000emu.insight.misuse import Misuse
    from fastpath.base.dma import DmaTable
    from fastpath.nic.macpath import MacState

MAX_ACCESS_BYTES = 8
"""The most that a bus moves in one clock."""
IOADDR, IODATA = 0, 4
ADDRESS_MASK = 0x000FFFFF
FLASH = 0x80000
"""Addresses from here on are those of the flash."""


class Bar0:
    """The registers, for accesses of any size and offset.

    The part is specified for aligned 32-bit accesses.  Any other access, of up to 8 bytes, reads
    each register that it touches as a whole; a write enables the bytes that it has.
    """

    def __init__(self, regs: Registers, misuse: Misuse) -> None:
        self._misuse = misuse
        self._read32, self._write32 = regs.read32, regs.write32
        self._write_part = regs.file.write_part
        regs.file.on_unknown = self._unknown

    def _unknown(self, off: int, is_write: bool, value: int) -> None:
        self._misuse.note("unknown-register", off, value)

    def read(self, off: int, size: int) -> int:
        """Read registers, with their side effects."""
        if size == 4 and not off & 3:
            return self._read32(off)
        self._misuse.note("access-size", *_plain(size, off))
        data = b"".join(
            self._read32(at).to_bytes(4, "little")[skip : skip + count]
            for at, skip, count in _dwords(off, size)
        )
        return int.from_bytes(data, "little")

    def write(self, off: int, value: int, size: int) -> None:
        """Write registers; bytes that are not enabled have no effect."""
        if size == 4 and not off & 3:
            self._write32(off, value & 0xFFFFFFFF)
            return
        found = at_offset(off) if size > 0 else None
        narrow = found is not None and found.reg.group == "filters"
        self._misuse.note("table-size" if narrow else "access-size", *_plain(size, off))
        for at, skip, count in _dwords(off, size):
            part = value >> 8 * (at + skip - off) & (1 << 8 * count) - 1
            self._write_part(at, part << 8 * skip, (1 << 8 * count) - 1 << 8 * skip)


def _dwords(off: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Split an access into registers: offset, bytes left out, bytes; none unless it has 1 to 8."""
    end = off + size if 0 < size <= MAX_ACCESS_BYTES and 0 <= off < BAR0_BYTES else off
    while off < end:
        skip = off & 3
        count = min(4 - skip, end - off)
        yield off - skip, skip, count
        off += count


def _plain(size: int, off: int) -> tuple[int, int]:
    """Return an access's size and offset as numbers that a case of misuse can hold."""
    return max(size, 0), off & 0xFFFFFFFF


class IoBar:
    """Eight bytes of I/O space.  Any size and offset may come from a host."""

    def __init__(self, bar0: Bar0, flash: FlashPort, pci: PciFunction, misuse: Misuse) -> None:
        self._bar0, self._flash, self._pci, self._misuse = bar0, flash, pci, misuse
        self.address = 0
        """IOADDR."""

    def read(self, off: int, size: int) -> int:
        """Read IOADDR or what it selects: a register, or bytes of the flash."""
        if self._is_flash(off, size):
            return self._flash.read(self.address - FLASH + off - IODATA, size)
        if size != 4 or off not in (IOADDR, IODATA):
            self._misuse.note("io-size", *_plain(size, off))
            if off & ~3 != IOADDR or size > 4 or size <= 0:
                return 0
            return self.address >> 8 * (off & 3) & (1 << 8 * size) - 1
        if off == IOADDR:
            return self.address
        if self.address >= BAR0_BYTES:
            self._misuse.note("io-address", self.address)
            return 0
        return self._bar0.read(self.address, 4)

    def write(self, off: int, value: int, size: int) -> None:
        """Write IOADDR or what it selects; of fewer than 32 bits, only the flash."""
        if self._is_flash(off, size):
            self._flash.write(self.address - FLASH + off - IODATA, value, size)
        elif size != 4 or off not in (IOADDR, IODATA):
            self._misuse.note("io-size", *_plain(size, off))
        elif off == IOADDR:
            self.address = value & ADDRESS_MASK
        elif self.address >= BAR0_BYTES:
            self._misuse.note("io-address", self.address)
        else:
            self._bar0.write(self.address, value, 4)

    def _is_flash(self, off: int, size: int) -> bool:
        if self.address < FLASH or not self._pci.flash_bytes:
            return False
        return off >= IODATA and size > 0 and off + size <= IODATA + 4


class Slot(BarWindow):
    """What a host's PCI layer drives (`ports.PciSlot`); decoding obeys the command register.

    Aligned 32-bit accesses to BAR 0 are the compiled base's (`bar_read`, `bar_write`).
    """

    __slots__ = (
        *("_bar0", "_flash", "_io", "_misuse", "_pci"),
        *("config_read", "config_write", "dma_table"),
    )

    def __init__(
        self,
        *,
        regs: Registers,
        shared: MacState,
        memory: DmaTable,
        pci: PciFunction,
        flash: FlashPort,
        bar0: Bar0,
        io: IoBar,
        misuse: Misuse,
    ) -> None:
        self._bind(regs.file, shared)
        self._pci, self._flash, self._misuse = pci, flash, misuse
        self._bar0, self._io = bar0, io
        self.config_read = pci.config_read
        self.config_write = pci.config_write
        self.dma_table: object = memory
        """What the device reaches by DMA: a driver in this process may map more memory there."""

    @property
    def io_bar(self) -> int:
        """Index of the I/O base address register, which the EEPROM decides at a reset."""
        return self._pci.io_bar

    def _slow_read(self, bar: int, off: int, size: int) -> int:
        if bar == 0 and self._pci.memory_on:
            return self._bar0.read(off, size)
        if bar == self._pci.io_bar and self._pci.io_on:
            return self._io.read(off, size)
        if self._reaches_flash(bar, off, size):
            return self._flash.read(off, size)
        self._refuse(bar, off)
        return (1 << 8 * size) - 1

    def _slow_write(self, bar: int, off: int, value: int, size: int) -> None:
        if bar == 0 and self._pci.memory_on:
            self._bar0.write(off, value, size)
        elif bar == self._pci.io_bar and self._pci.io_on:
            self._io.write(off, value, size)
        elif self._reaches_flash(bar, off, size):
            self._flash.write(off, value, size)
        else:
            self._refuse(bar, off)

    def _reaches_flash(self, bar: int, off: int, size: int) -> bool:
        on = {self._pci.flash_bar: self._pci.memory_on, ROM_BAR: self._pci.rom_on}.get(bar, False)
        return on and 0 <= off <= self._pci.flash_bytes - size and size > 0

    def _refuse(self, bar: int, off: int) -> None:
        if self._pci.gone:
            return
        name = "power-state" if self._pci.power_state == D3HOT else "decode-off"
        self._misuse.note(name, bar & 0xFF, off & 0xFFFFFFFF)

    def bar_size(self, bar: int) -> int:
        """Return the size of `bar` in bytes; 0 when there is none, or it is an upper half."""
        pci = self._pci
        flash = pci.flash_bytes
        sizes = {0: BAR0_BYTES, pci.io_bar: IO_BAR_BYTES, pci.flash_bar: flash, ROM_BAR: flash}
        return sizes.get(bar, 0)
