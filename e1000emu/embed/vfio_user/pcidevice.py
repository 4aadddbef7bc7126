"""Base class of conventional PCI functions: configuration space, BARs, INTA#.

It follows the PCI Local Bus Specification 3.0, 6.1 to 6.2.5, without capabilities. A host finds the
ids, sizes and places the BARs, and switches decoding, bus mastering and the interrupt on.
"""

from __future__ import annotations

from collections.abc import Mapping

from e1000emu.ports import InterruptLine
from fastpath.base.dma import DmaTable
from fastpath.errors import ArgumentError, whole_number

__all__ = ["PciDevice"]

CONFIG_BYTES = 256
COMMAND, STATUS, REVISION, SUBSYSTEM, BAR0, INTERRUPT_PIN = 0x04, 0x06, 0x08, 0x2C, 0x10, 0x3D
COMMAND_MEMORY, COMMAND_MASTER, COMMAND_INTX_OFF = 1 << 1, 1 << 2, 1 << 10
STATUS_INTERRUPT = 1 << 3
LINE_AND_COMMAND = {COMMAND: 0x06, COMMAND + 1: 0x04, 0x0C: 0xFF, 0x3C: 0xFF}
"""Bits of each byte that a host may write: the command register, cache line, interrupt line."""
INTA = 1
SMALLEST_BAR, LARGEST_BAR = 16, 1 << 31


class PciDevice:
    """`bars` is index -> bytes of memory, each a power of two; override `read` and `write`.

    These are called with a BAR's index, an offset and 1 to 4 bytes, while the host enables
    memory decoding. `memory` (`read`, `write`) accesses the guest while the host enables
    bus mastering; `set_interrupt` drives INTA#. Call with the clock's lock held.
    Raises: ArgumentError.
    """

    def __init__(
        self,
        *,
        memory: DmaTable,
        irq: InterruptLine,
        vendor_id: int,
        device_id: int,
        class_code: int,
        bars: Mapping[int, int],
        revision: int = 0,
    ) -> None:
        where = type(self).__name__
        self.memory = memory
        self._irq = irq
        self._wanted = False
        for bar, size in bars.items():
            whole_number(where, "bars", bar, 0, 5)
            whole_number(where, f"bars[{bar}]", size, SMALLEST_BAR, LARGEST_BAR, unit="bytes")
            if size & (size - 1):
                raise ArgumentError(f"{where}: bars[{bar}]={size}; give a power of two")
        self._bars = dict(bars)
        self._reset_config = bytearray(CONFIG_BYTES)
        self._writable = bytearray(CONFIG_BYTES)
        ids = whole_number(where, "vendor_id", vendor_id, 0, 0xFFFF)
        ids |= whole_number(where, "device_id", device_id, 0, 0xFFFF) << 16
        kind = whole_number(where, "class_code", class_code, 0, 0xFF_FFFF) << 8
        kind |= whole_number(where, "revision", revision, 0, 0xFF)
        for at, value in ((0, ids), (SUBSYSTEM, ids), (REVISION, kind)):
            self._reset_config[at : at + 4] = value.to_bytes(4, "little")
        self._reset_config[INTERRUPT_PIN] = INTA
        for at, mask in LINE_AND_COMMAND.items():
            self._writable[at] = mask
        for bar, size in bars.items():  # a host writes all ones and reads the size (6.2.5.1)
            at = BAR0 + 4 * bar
            self._writable[at : at + 4] = (-size & 0xFFFF_FFFF).to_bytes(4, "little")
        self.config = bytearray(self._reset_config)
        self._apply()

    # --- to be overridden -----------------------------------------------------

    def read(self, bar: int, off: int, size: int) -> int:
        """Return `size` bytes at `off` of `bar`, little endian; higher bits are ignored."""
        return 0

    def write(self, bar: int, off: int, value: int, size: int) -> None:
        """Write `size` bytes at `off` of `bar`."""

    def reset(self) -> None:
        """RST#: extend it for additional registers."""
        self.config[:] = self._reset_config
        self._wanted = False
        self._apply()

    # --- to be called ---------------------------------------------------------------------------

    def set_interrupt(self, level: bool) -> None:
        """Drive INTA#, unless the host has disabled it."""
        self._wanted = level
        self._apply()

    # --- deviceserver.Device ---------------------------------------------------------------------

    def config_read(self, off: int, size: int) -> int:
        """Read configuration space."""
        return int.from_bytes(self.config[off : off + size], "little")

    def config_write(self, off: int, value: int, size: int) -> None:
        """Write configuration space; read-only bits keep their value."""
        for at, byte in enumerate(value.to_bytes(size, "little"), off):
            mask = self._writable[at]
            self.config[at] = self.config[at] & ~mask | byte & mask
        self._apply()

    def bar_size(self, bar: int) -> int:
        """Return the bytes of `bar`, 0 for none."""
        return self._bars.get(bar, 0)

    def bar_read(self, bar: int, off: int, size: int) -> int:
        """Read a BAR: all ones while it is not decoded."""
        ones = (1 << 8 * size) - 1
        return self.read(bar, off, size) & ones if self._command & COMMAND_MEMORY else ones

    def bar_write(self, bar: int, off: int, value: int, size: int) -> None:
        """Write a BAR; ignored while it is not decoded."""
        if self._command & COMMAND_MEMORY:
            self.write(bar, off, value, size)

    def rom_read(self, offset: int, size: int) -> bytes:
        """There is no expansion ROM."""
        return bytes(size)

    @property
    def _command(self) -> int:
        return int.from_bytes(self.config[COMMAND : COMMAND + 2], "little")

    def _apply(self) -> None:
        """Let bus mastering, status and interrupt follow the command register."""
        self.memory.enabled = bool(self._command & COMMAND_MASTER)
        self.config[STATUS] = STATUS_INTERRUPT if self._wanted else 0
        self._irq.set_level(self._wanted and not self._command & COMMAND_INTX_OFF)
