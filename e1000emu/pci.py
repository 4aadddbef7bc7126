"""The PCI function: configuration space, BARs, power states, and the slot a host drives (SDM 4).

`PciFunction` is the 256 bytes, by the rows of `pciregs`; `Slot` is what the host's PCI layer gets
(`ports.PciSlot`).  BAR 0 is 128 KiB of memory, BAR 1 the flash, BAR 2 the eight I/O bytes IOADDR
and IODATA; the expansion ROM's window, to the flash as well, counts as BAR 6.  When the windows of
memory have 64 bits, each takes two BARs: the flash is BAR 2 then, and I/O is BAR 4.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from e1000emu.eeprommap import eeprom_word
from e1000emu.pciregs import CONFIG_BYTES, PCI_TABLE, WIDE_TYPE, config_rows
from e1000emu.regs import BAR0_BYTES, reg
from fastpath.macpath import BarWindow

if TYPE_CHECKING:
    from e1000emu.models import Model
    from e1000emu.nic import Nic

__all__ = [
    "CONFIG_BYTES",
    "FLASH_BAR",
    "IO_BAR",
    "IO_BAR_BYTES",
    "ROM_BAR",
    "WIDE_FLASH_BAR",
    "WIDE_IO_BAR",
    "Message",
    "PciFunction",
    "Slot",
]

Message = Callable[[int, int], None]
"""Takes a message signalled interrupt: its address, its data."""

IO_BAR = 2
"""Index of the I/O base address register (SDM p74: memory, flash, I/O)."""
IO_BAR_BYTES = 8
FLASH_BAR, ROM_BAR = 1, 6
WIDE_FLASH_BAR, WIDE_IO_BAR = 2, 4
"""The same behind 64-bit windows, which take two BARs each."""

_ROWS = {r.name: r for r in PCI_TABLE}


def _at(name: str) -> int:
    return _ROWS[name].offset


def _bit(name: str, *fields: str) -> int:
    return _ROWS[name].mask(*fields)


COMMAND, STATUS, PMCSR = _at("COMMAND"), _at("STATUS"), _at("PMCSR")
CACHE_LINE = _at("CACHE_LINE")
CAP_POINTER, PM_ID, PM_BYTES = _at("CAP_POINTER"), _at("PM_ID"), 8
BAR0, CARDBUS, BAR_BYTES = _at("BAR0"), _at("CARDBUS"), 4
BAR_TYPE = _ROWS["BAR0"].field("TYPE")
ROM, ROM_ENABLE = _at("ROM"), _bit("ROM", "ENABLE")
SUBSYSTEM_VENDOR, SUBSYSTEM_ID = _at("SUBSYSTEM_VENDOR"), _at("SUBSYSTEM_ID")
MSI_CONTROL, MSI_ADDRESS, MSI_DATA = _at("MSI_CONTROL"), _at("MSI_ADDRESS"), _at("MSI_DATA")
PCIX_COMMAND = _ROWS["PCIX_COMMAND"]
MMRBC, DMMRBC = PCIX_COMMAND.field("MMRBC"), _ROWS["PCIX_STATUS"].field("DMMRBC")
COMMAND_IO, COMMAND_MEMORY = _bit("COMMAND", "IO"), _bit("COMMAND", "MEMORY")
COMMAND_MASTER, COMMAND_INTX_OFF = _bit("COMMAND", "MASTER"), _bit("COMMAND", "INTX_OFF")
STATUS_INTERRUPT = _bit("STATUS", "INTERRUPT")
STATUS_MASTER_ABORT = _bit("STATUS", "MASTER_ABORT")
PMCSR_STATE, PMCSR_PME_EN = _bit("PMCSR", "STATE"), _bit("PMCSR", "PME_EN")
PMCSR_PME_STATUS = _bit("PMCSR", "PME_STATUS")
PM_DATA = _at("PM_DATA")
DATA_SELECT, DATA_SCALE = _ROWS["PMCSR"].field("DATA_SELECT"), _ROWS["PMCSR"].field("DATA_SCALE")
POWER = eeprom_word("POWER")
POWER_FIELDS = {0: "D0", 3: "D3", 4: "D0", 7: "D3"}
"""Which value each DATA_SELECT shows, the same for consumed and dissipated; others have no data."""
MSI_ENABLE = _bit("MSI_CONTROL", "ENABLE")
D0, D3HOT = 0, 3


class ConfigSpace:
    """The 256 bytes of a part: what they are after a reset, what a write stores, what it clears."""

    __slots__ = ("clear", "reset", "write")

    def __init__(
        self,
        device_id: int,
        revision: int,
        capabilities: tuple[str, ...],
        flash_bytes: int,
        wide: bool,
    ) -> None:
        reset, write, clear = (bytearray(CONFIG_BYTES) for _ in range(3))
        own = {"DEVICE_ID": device_id, "REVISION": revision}
        for r in config_rows(capabilities, flash_bytes, wide):
            place = slice(r.offset, r.offset + r.step)
            reset[place] = own.get(r.name, r.reset).to_bytes(r.step, "little")
            write[place] = r.stored_mask.to_bytes(r.step, "little")
            clear[place] = r.w1c_mask.to_bytes(r.step, "little")
        self.reset, self.write, self.clear = bytes(reset), bytes(write), bytes(clear)


_shared_space = cache(ConfigSpace)
"""All NICs of a model share theirs."""


def config_space(part: Model, flash_bytes: int, power_management: bool, wide: bool) -> ConfigSpace:
    """Return the configuration space of `part`."""
    capabilities = tuple(n for n in part.capabilities if power_management or n != "PM")
    return _shared_space(part.device_id, part.revision, capabilities, flash_bytes, wide)


class MessageLine:
    """An interrupt line that sends a message at each rise (PCI 2.2, 6.8): MSI."""

    __slots__ = ("_pci",)

    def __init__(self, pci: PciFunction) -> None:
        self._pci = pci

    def set_level(self, level: bool) -> None:
        """Take the level that INTA# would have."""
        if level:
            self._pci.send_message()


class PciFunction:
    """Configuration space of the function and what it switches."""

    def __init__(self, nic: Nic, on_message: Message | None = None) -> None:
        self._nic = nic
        self.flash_bytes = 0
        """Bytes of the windows to the flash, 0: it has none."""
        self.wide = False
        """The windows of memory and flash have 64 bits."""
        self._power_management = True
        self.power_word = 0
        """POWER as it was loaded from the EEPROM."""
        self._space = config_space(nic.model, 0, True, False)
        self.config = bytearray(self._space.reset)
        self._message = on_message or self._write_message
        self._message_line = MessageLine(self)
        self.io_on = False
        self._aborts_seen = 0
        self.gone = False
        """The device was pulled out of its slot."""

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
        if self.gone or off < 0 or size not in (1, 2, 4) or off + size > CONFIG_BYTES:
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
        if self.gone or off < 0 or size not in (1, 2, 4) or off + size > CONFIG_BYTES:
            return
        if off < STATUS + 2 and off + size > STATUS:
            self._refresh_status()
        state = self.power_state
        for i, byte in enumerate((value & ((1 << 8 * size) - 1)).to_bytes(size, "little"), off):
            mask = self._space.write[i]
            kept = self.config[i] & ~mask & ~(byte & self._space.clear[i])
            self.config[i] = kept | byte & mask
        if (off < STATUS and off + size > COMMAND) or off + size > MSI_CONTROL:
            self.apply()
        if off <= CACHE_LINE < off + size:
            self._nic.update_write_back()
        if off < PMCSR + 2 and off + size > PMCSR:
            self._power(state)

    def _power(self, old: int) -> None:
        """PMCSR was written.  D1 and D2 do not exist; D3hot to D0 resets the function (SDM 6.3)."""
        new = self.power_state
        if new not in (D0, D3HOT):
            self.put(PMCSR, 2, self.get(PMCSR, 2) & ~PMCSR_STATE | old)
            new = old
        if new == D3HOT and old == D0:
            wanted = self._nic.regs["WUFC"]
            if wanted and not self.get(PMCSR, 2) & PMCSR_PME_EN:
                self._nic.misuse.note("wake-no-pme", wanted)
        if old == D3HOT and new == D0:
            pme = self.get(PMCSR, 2) & (PMCSR_PME_EN | PMCSR_PME_STATUS)
            self.reset()
            self.put(PMCSR, 2, pme)
            self._nic.internal_reset()
        self._show_power()
        self.apply()

    def load_power(self, words: list[int]) -> None:
        """Take what the board consumes from the EEPROM."""
        self.power_word = words[POWER.offset]
        self._show_power()

    def _show_power(self) -> None:
        """Let PM_DATA and DATA_SCALE be what DATA_SELECT asks for (SDM 6.3.3.6)."""
        if self._power_management:
            pmcsr = self.get(PMCSR, 2)
            name = POWER_FIELDS.get(DATA_SELECT.get(pmcsr))
            scale = DATA_SCALE.put(DATA_SCALE.reset if name is not None else 0)
            self.put(PMCSR, 2, pmcsr & ~DATA_SCALE.mask | scale)
            self.put(PM_DATA, 1, 0 if name is None else POWER.field(name).get(self.power_word))

    def apply(self) -> None:
        """Let decoding, bus mastering and the interrupt line follow command and power state."""
        command, nic = self.get(COMMAND, 2), self._nic
        awake = self.power_state == D0 and not self.gone
        self._nic.shared.memory_on = awake and bool(command & COMMAND_MEMORY)
        self.io_on = awake and bool(command & COMMAND_IO)
        master = awake and bool(command & COMMAND_MASTER)
        started = master and not nic.memory.enabled
        nic.memory.enabled = master
        messages = bool(self.get(MSI_CONTROL, 2) & MSI_ENABLE)
        nic.interrupts.set_messages(self._message_line if messages else None)
        nic.interrupts.set_disabled(
            not awake or (bool(command & COMMAND_INTX_OFF) and not messages)
        )
        nic.wakeup.update()
        if started:
            nic.tx.pump()
            nic.rx.kick()

    # --- reset, EEPROM ---------------------------------------------------------------------------

    def reset(self) -> None:
        """RST#, power-on: command 0, BARs 0, D0; ids as the part's until the EEPROM is read."""
        self.config = bytearray(self._space.reset)
        self._aborts_seen = self._nic.memory.aborts
        self._nic.update_write_back()

    # --- message signalled interrupts ------------------------------------------------------------

    def send_message(self) -> None:
        """A cause has come and MSI is enabled: write the message, as bus master."""
        if self._nic.memory.enabled:
            address = self.get(MSI_ADDRESS, 4) | self.get(MSI_ADDRESS + 4, 4) << 32
            if not address:
                self._nic.misuse.note("msi-address")
            self._message(address, self.get(MSI_DATA, 2))

    def _write_message(self, address: int, data: int) -> None:
        self._nic.memory.write(address, data.to_bytes(4, "little"))

    def set_flash_window(self, size: int) -> None:
        """Give the flash's BAR and that of the expansion ROM so many bytes; 0: there is none.

        SDM 4.1.
        """
        if size == self.flash_bytes:
            return
        self.flash_bytes = size
        first = BAR0 + BAR_BYTES * self.flash_bar
        self._reshape(*range(first, BAR0 + BAR_BYTES * self.io_bar), *range(ROM, ROM + BAR_BYTES))

    @property
    def flash_bar(self) -> int:
        """Index of the flash's base address register."""
        return WIDE_FLASH_BAR if self.wide else FLASH_BAR

    @property
    def io_bar(self) -> int:
        """Index of the I/O base address register."""
        return WIDE_IO_BAR if self.wide else IO_BAR

    def set_wide_windows(self, on: bool) -> None:
        """Use 64-bit or 32-bit addresses for memory and flash (SDM 4.1, 5.6.9).

        The windows have no address then, until the host places them.
        """
        if on == self.wide:
            return
        self.wide = on
        self._reshape(*range(BAR0, CARDBUS))

    def offer_power_management(self, on: bool) -> None:
        """Add or remove the PM capability (SDM 5.6.9); other capabilities stay."""
        if on == self._power_management:
            return
        self._power_management = on
        self._reshape(CAP_POINTER, *range(PM_ID, PM_ID + PM_BYTES))

    def _reshape(self, *changed: int) -> None:
        """Make the space anew; the `changed` bytes become what they are after a reset."""
        self._space = config_space(
            self._nic.model, self.flash_bytes, self._power_management, self.wide
        )
        for at in changed:
            self.config[at] = self._space.reset[at]

    @property
    def cache_line_dwords(self) -> int:
        """The cache line size that the host has set; 0: none."""
        return self.config[CACHE_LINE]

    @property
    def longest_read(self) -> int:
        """The bytes of a read on PCI-X: MMRBC of a part that has the capability."""
        return 512 << min(MMRBC.get(self.get(PCIX_COMMAND.offset, 2)), DMMRBC.reset)

    @property
    def rom_on(self) -> bool:
        """The expansion ROM's window answers."""
        return self.memory_on and bool(self.get(ROM, 4) & ROM_ENABLE)

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
        if not self._power_management:
            return
        pmcsr = self.get(PMCSR, 2) & ~PMCSR_PME_EN
        if value & WUC_PME_EN:
            pmcsr |= PMCSR_PME_EN
        if value & WUC_PME_STATUS:
            pmcsr &= ~PMCSR_PME_STATUS
        self.put(PMCSR, 2, pmcsr)

    def set_pme_status(self) -> None:
        """Set PME_STATUS: something wakes the host."""
        if self._power_management:
            self.put(PMCSR, 2, self.get(PMCSR, 2) | PMCSR_PME_STATUS)

    def pull(self) -> None:
        """The device has left the slot: reads give ones."""
        self.gone = True
        self.apply()

    def state(self) -> bytes:
        """Return what a snapshot needs; a master abort that nobody has read yet is in it."""
        self._refresh_status()
        return bytes(self.config)

    def load(self, state: bytes) -> None:
        """Take back what `state` returned."""
        self.set_wide_windows(BAR_TYPE.get(state[BAR0]) == WIDE_TYPE)
        self.offer_power_management(bool(state[PM_ID]))
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

    @property
    def io_bar(self) -> int:
        """Index of the I/O base address register, which the EEPROM decides at a reset."""
        return self._pci.io_bar

    def _slow_read(self, bar: int, off: int, size: int) -> int:
        if bar == 0 and self._pci.memory_on:
            return self._nic.mmio_read(off, size)
        if bar == self._pci.io_bar and self._pci.io_on:
            return self._nic.io_read(off, size)
        if self._reaches_flash(bar, off, size):
            return self._nic.flash.read(off, size)
        self._refuse(bar, off)
        return (1 << 8 * size) - 1

    def _slow_write(self, bar: int, off: int, value: int, size: int) -> None:
        if bar == 0 and self._pci.memory_on:
            self._nic.mmio_write(off, value, size)
        elif bar == self._pci.io_bar and self._pci.io_on:
            self._nic.io_write(off, value, size)
        elif self._reaches_flash(bar, off, size):
            self._nic.flash.write(off, value, size)
        else:
            self._refuse(bar, off)

    def _reaches_flash(self, bar: int, off: int, size: int) -> bool:
        on = {self._pci.flash_bar: self._pci.memory_on, ROM_BAR: self._pci.rom_on}.get(bar, False)
        return on and 0 <= off <= self._pci.flash_bytes - size and size > 0

    def _refuse(self, bar: int, off: int) -> None:
        if self._pci.gone:
            return
        name = "power-state" if self._pci.power_state == D3HOT else "decode-off"
        self._nic.misuse.note(name, bar & 0xFF, off & 0xFFFFFFFF)

    def bar_size(self, bar: int) -> int:
        """Return the size of `bar` in bytes; 0 when there is none, or it is an upper half."""
        pci = self._pci
        flash = pci.flash_bytes
        sizes = {0: BAR0_BYTES, pci.io_bar: IO_BAR_BYTES, pci.flash_bar: flash, ROM_BAR: flash}
        return sizes.get(bar, 0)
