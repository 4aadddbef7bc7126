"""The PCI function: configuration space, BARs, power states, and the slot a host drives (SDM 4).

`PciFunction` is the 256 bytes with their masks; `Slot` is what the host's PCI layer gets
(`ports.PciSlot`).  BAR 0 is 128 KiB of memory, BAR 2 the eight I/O bytes IOADDR and IODATA.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from e1000emu.eeprommap import eeprom_word
from e1000emu.regs import BAR0_BYTES, reg
from fastpath.macpath import BarWindow

if TYPE_CHECKING:
    from e1000emu.nic import Nic

__all__ = ["IO_BAR", "IO_BAR_BYTES", "PciFunction", "Slot"]

IO_BAR = 2
"""Index of the I/O base address register (SDM p74: memory, flash, I/O)."""
IO_BAR_BYTES = 8
CONFIG_BYTES = 256

COMMAND, STATUS, REVISION = 0x04, 0x06, 0x08
CACHE_LINE, LATENCY = 0x0C, 0x0D
BAR0, BAR2 = 0x10, 0x18
SUBSYSTEM_VENDOR, SUBSYSTEM_ID = 0x2C, 0x2E
CAP_POINTER, INTERRUPT_LINE, INTERRUPT_PIN, MIN_GRANT = 0x34, 0x3C, 0x3D, 0x3E
PM_CAP, PMC, PMCSR = 0xDC, 0xDE, 0xE0

COMMAND_IO, COMMAND_MEMORY, COMMAND_MASTER = 0x0001, 0x0002, 0x0004
COMMAND_MWI, COMMAND_PARITY, COMMAND_SERR = 0x0010, 0x0040, 0x0100
COMMAND_INTX_OFF = 0x0400
STATUS_INTERRUPT = 0x0008
STATUS_CAPABILITIES, STATUS_66MHZ, STATUS_DEVSEL_MEDIUM = 0x0010, 0x0020, 0x0200
STATUS_MASTER_ABORT = 0x2000
STATUS_W1C = 0xF900
PMC_VALUE = 0xC822
"""Version 2, device specific initialisation, PME# from D3cold and D3hot."""
PMCSR_STATE, PMCSR_PME_EN, PMCSR_PME_STATUS = 0x0003, 0x0100, 0x8000
PMCSR_DATA_SELECT = 0x1E00
D0, D3HOT = 0, 3

CLASS_ETHERNET = 0x020000


def _masks() -> tuple[bytes, bytes]:
    """Return the writable and the write-1-clear bits of every byte."""
    write, clear = bytearray(CONFIG_BYTES), bytearray(CONFIG_BYTES)

    def put(into: bytearray, offset: int, mask: int, size: int) -> None:
        into[offset : offset + size] = mask.to_bytes(size, "little")

    command = (
        COMMAND_IO
        | COMMAND_MEMORY
        | COMMAND_MASTER
        | COMMAND_MWI
        | COMMAND_PARITY
        | COMMAND_SERR
        | COMMAND_INTX_OFF
    )
    put(write, COMMAND, command, 2)
    put(clear, STATUS, STATUS_W1C, 2)
    put(write, CACHE_LINE, 0xFF, 1)
    put(write, LATENCY, 0xFC, 1)
    put(write, BAR0, ~(BAR0_BYTES - 1) & 0xFFFFFFFF, 4)
    put(write, BAR2, ~(IO_BAR_BYTES - 1) & 0xFFFFFFFF, 4)
    put(write, INTERRUPT_LINE, 0xFF, 1)
    put(write, PMCSR, PMCSR_STATE | PMCSR_PME_EN | PMCSR_DATA_SELECT, 2)
    put(clear, PMCSR, PMCSR_PME_STATUS, 2)
    return bytes(write), bytes(clear)


WRITE_MASK, CLEAR_MASK = _masks()


class PciFunction:
    """Configuration space of the function and what it switches."""

    def __init__(self, nic: Nic) -> None:
        self._nic = nic
        self.config = bytearray(CONFIG_BYTES)
        self.io_on = False
        self.held = False
        """Bus mastering waits, whatever the command register says: nobody has mapped memory yet."""
        self._aborts_seen = 0

    @property
    def memory_on(self) -> bool:
        """Memory decoding: command bit 1, in D0."""
        return self._nic.shared.memory_on

    # --- what the rest of the device asks --------------------------------------------------------

    def get(self, offset: int, size: int) -> int:
        """Return `size` bytes of the stored space, without what is computed on a read."""
        return int.from_bytes(self.config[offset : offset + size], "little")

    def put(self, offset: int, size: int, value: int) -> None:
        """Store `size` bytes, without masks or effects."""
        self.config[offset : offset + size] = value.to_bytes(size, "little")

    @property
    def power_state(self) -> int:
        """0 = D0, 3 = D3hot."""
        return self.get(PMCSR, 2) & PMCSR_STATE

    # --- configuration cycles --------------------------------------------------------------------

    def config_read(self, off: int, size: int) -> int:
        """Read 1, 2 or 4 bytes; outside the 256 bytes all ones, as an empty slot."""
        if off < 0 or size not in (1, 2, 4) or off + size > CONFIG_BYTES:
            return (1 << 8 * max(size, 1)) - 1
        if off < STATUS + 2 and off + size > STATUS:
            self._refresh_status()
        return self.get(off, size)

    def _refresh_status(self) -> None:
        status = self.get(STATUS, 2) & ~STATUS_INTERRUPT
        if self._nic.interrupts.asserted:
            status |= STATUS_INTERRUPT
        aborts = self._nic.memory.aborts
        if aborts != self._aborts_seen:
            self._aborts_seen = aborts
            status |= STATUS_MASTER_ABORT
        self.put(STATUS, 2, status)

    def config_write(self, off: int, value: int, size: int) -> None:
        """Write 1, 2 or 4 bytes through the masks; act on command and power state."""
        if off < 0 or size not in (1, 2, 4) or off + size > CONFIG_BYTES:
            return
        if off < STATUS + 2 and off + size > STATUS:
            self._refresh_status()
        state = self.power_state
        for i, byte in enumerate((value & ((1 << 8 * size) - 1)).to_bytes(size, "little"), off):
            mask = WRITE_MASK[i]
            kept = self.config[i] & ~mask & ~(byte & CLEAR_MASK[i])
            self.config[i] = kept | byte & mask
        if off < STATUS and off + size > COMMAND:
            self.apply()
        if off < PMCSR + 2 and off + size > PMCSR:
            self._power(state)

    def _power(self, old: int) -> None:
        """PMCSR was written.  D1 and D2 do not exist; D3hot to D0 resets the function (SDM 6.3)."""
        new = self.power_state
        if new not in (D0, D3HOT):
            self.put(PMCSR, 2, self.get(PMCSR, 2) & ~PMCSR_STATE | old)
            new = old
        if old == D3HOT and new == D0:
            pme = self.get(PMCSR, 2) & (PMCSR_PME_EN | PMCSR_PME_STATUS)
            self.reset()
            self.put(PMCSR, 2, pme)
            self._nic.internal_reset()
        self.apply()

    def apply(self) -> None:
        """Let decoding, bus mastering and the interrupt line follow command and power state."""
        command, nic = self.get(COMMAND, 2), self._nic
        awake = self.power_state == D0
        self._nic.shared.memory_on = awake and bool(command & COMMAND_MEMORY)
        self.io_on = awake and bool(command & COMMAND_IO)
        master = awake and bool(command & COMMAND_MASTER) and not self.held
        started = master and not nic.memory.enabled
        nic.memory.enabled = master
        nic.interrupts.set_disabled(bool(command & COMMAND_INTX_OFF) or not awake)
        if started:
            nic.tx.pump()
            nic.rx.kick()

    # --- reset, EEPROM ---------------------------------------------------------------------------

    def reset(self) -> None:
        """RST#, power-on: command 0, BARs 0, D0; ids as the part's until the EEPROM is read."""
        part = self._nic.model
        self.config = bytearray(CONFIG_BYTES)
        self.put(0x00, 2, 0x8086)
        self.put(0x02, 2, part.device_id)
        self.put(STATUS, 2, STATUS_CAPABILITIES | STATUS_66MHZ | STATUS_DEVSEL_MEDIUM)
        self.put(REVISION, 4, CLASS_ETHERNET << 8 | part.revision)
        self.put(BAR2, 4, 1)
        self.put(SUBSYSTEM_VENDOR, 2, 0x8086)
        self.put(SUBSYSTEM_ID, 2, 0)
        self.put(CAP_POINTER, 1, PM_CAP)
        self.put(INTERRUPT_PIN, 1, 1)
        self.put(MIN_GRANT, 1, 0xFF)
        self.put(PM_CAP, 2, 0x0001)
        self.put(PMC, 2, PMC_VALUE)
        self._aborts_seen = self._nic.memory.aborts

    def load_ids(self, words: list[int], *, vendor: bool, subsystem: bool) -> None:
        """Take the ids that the EEPROM's control word 1 says to load (SDM 5.6.9)."""
        if vendor:
            self.put(0x00, 2, words[eeprom_word("VENDOR_ID").offset])
            self.put(0x02, 2, words[eeprom_word("DEVICE_ID").offset])
        if subsystem:
            self.put(SUBSYSTEM_VENDOR, 2, words[eeprom_word("SUBSYSTEM_VENDOR").offset])
            self.put(SUBSYSTEM_ID, 2, words[eeprom_word("SUBSYSTEM_ID").offset])

    # --- the wake-up register's view of PMCSR ----------------------------------------------------

    def wuc_bits(self) -> int:
        """Return PME_EN and PME_STATUS at the places where WUC has them."""
        pmcsr = self.get(PMCSR, 2)
        return (WUC_PME_EN if pmcsr & PMCSR_PME_EN else 0) | (
            WUC_PME_STATUS if pmcsr & PMCSR_PME_STATUS else 0
        )

    def set_wuc_bits(self, value: int) -> None:
        """Take the two bits as WUC was written (PME_STATUS is write-1-clear)."""
        pmcsr = self.get(PMCSR, 2) & ~PMCSR_PME_EN
        if value & WUC_PME_EN:
            pmcsr |= PMCSR_PME_EN
        if value & WUC_PME_STATUS:
            pmcsr &= ~PMCSR_PME_STATUS
        self.put(PMCSR, 2, pmcsr)

    def hold(self, held: bool) -> None:
        """Hold bus mastering back, or let the command register decide again."""
        self.held = held
        self.apply()

    def state(self) -> bytes:
        """Return what a snapshot needs."""
        return bytes(self.config)

    def load(self, state: bytes) -> None:
        """Take back what `state` returned."""
        self.config = bytearray(state)
        self._aborts_seen = self._nic.memory.aborts
        self.apply()


WUC_PME_EN, WUC_PME_STATUS = reg("WUC").mask("PME_EN"), reg("WUC").mask("PME_STATUS")


class Slot(BarWindow):
    """What a host's PCI layer drives (`ports.PciSlot`); decoding obeys the command register.

    Aligned 32-bit accesses to BAR 0 are the compiled base's (`bar_read`, `bar_write`).
    """

    __slots__ = ("_nic", "_pci", "config_read", "config_write")

    def __init__(self, nic: Nic) -> None:
        self._bind(nic.regs.file, nic.shared)
        self._nic = nic
        self._pci = nic.pci
        self.config_read = nic.pci.config_read
        self.config_write = nic.pci.config_write

    @property
    def dma_table(self) -> object:
        """What the device reaches by DMA: a driver in this process may map more memory there."""
        return self._nic.memory

    def _slow_read(self, bar: int, off: int, size: int) -> int:
        if bar == 0 and self._pci.memory_on:
            return self._nic.mmio_read(off, size)
        if bar == IO_BAR and self._pci.io_on:
            return self._nic.io_read(off, size)
        self._refuse(bar, off)
        return (1 << 8 * size) - 1

    def _slow_write(self, bar: int, off: int, value: int, size: int) -> None:
        if bar == 0 and self._pci.memory_on:
            self._nic.mmio_write(off, value, size)
        elif bar == IO_BAR and self._pci.io_on:
            self._nic.io_write(off, value, size)
        else:
            self._refuse(bar, off)

    def _refuse(self, bar: int, off: int) -> None:
        name = "power-state" if self._pci.power_state == D3HOT else "decode-off"
        self._nic.misuse.note(name, f"BAR {bar} offset {off:#x}")

    def bar_size(self, bar: int) -> int:
        """Return the size of `bar` in bytes, 0 when there is none."""
        return {0: BAR0_BYTES, IO_BAR: IO_BAR_BYTES}.get(bar, 0)
