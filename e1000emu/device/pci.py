"""The PCI function: configuration space, BARs and power states (SDM 4).

`PciFunction` is the 256 bytes, by the rows of `pciregs`.  BAR 0 is 128 KiB of memory, BAR 1 the
flash, BAR 2 the eight I/O bytes IOADDR and IODATA; the expansion ROM's window, to the flash as
well, counts as BAR 6.  When the windows of memory have 64 bits, each takes two BARs: the flash is
BAR 2 then, and I/O is BAR 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from e1000emu.device.state import U16, BlockState
from e1000emu.registers.eeprommap import eeprom_word
from e1000emu.registers.pciregs import CONFIG_BYTES, PCI_TABLE, WIDE_TYPE, config_rows, same_fields
from e1000emu.registers.regs import reg

if TYPE_CHECKING:
    from e1000emu.device.interrupts import Interrupts
    from e1000emu.insight.misuse import Misuse
    from e1000emu.insight.unmodelled import Unmodelled
    from e1000emu.registers.fields import Field, Reg
    from e1000emu.registers.models import Model
    from fastpath.base.dma import DmaTable
    from fastpath.nic.macpath import MacState
    from fastpath.nic.regfile import RegFile

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
    "PciState",
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
ACTIONS = {name for r in PCI_TABLE for _, name, _ in r.actions}
"""The methods that changes of fields call."""
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
"""The value of each DATA_SELECT, the same for consumed and dissipated; others have no data."""
MSI_ENABLE = _bit("MSI_CONTROL", "ENABLE")
D0, D3HOT = 0, 3
WUFC = reg("WUFC").offset


class ConfigSpace:
    """The 256 bytes of a part: values after a reset, writable bits, bits that a write clears.

    The other attributes are those of a number of 2048 bits, the first byte lowest.
    """

    __slots__ = ("actions", "clear", "legal", "reset", "write")

    def __init__(
        self,
        device_id: int,
        revision: int,
        capabilities: tuple[str, ...],
        flash_bytes: int,
        wide: bool,
    ) -> None:
        reset = self.write = self.clear = 0
        self.actions: list[tuple[int, str]] = []
        self.legal: list[Field] = []
        own = {"DEVICE_ID": device_id, "REVISION": revision}
        for r in config_rows(capabilities, flash_bytes, wide):
            at = 8 * r.offset
            reset |= own.get(r.name, r.reset) << at
            self.write |= r.stored_mask << at
            self.clear |= r.w1c_mask << at
            self.actions += [(mask << at, name) for mask, name, _ in r.actions]
            self.legal += [replace(f, lo=f.lo + at, hi=f.hi + at) for f in r.fields if f.legal]
        self.reset = reset.to_bytes(CONFIG_BYTES, "little")


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
        """Set the level that INTA# would have."""
        if level:
            self._pci.send_message()


class PciState(BlockState):
    """Configuration space, and the values that determine it."""

    config: Annotated[bytes, msgspec.Meta(min_length=CONFIG_BYTES, max_length=CONFIG_BYTES)]
    power_word: U16 = 0
    """The EEPROM's power word, of which PM_DATA shows two bytes."""


class PciFunction:
    """Configuration space of the function and what it switches."""

    def __init__(
        self,
        *,
        model: Model,
        regs: RegFile,
        shared: MacState,
        memory: DmaTable,
        interrupts: Interrupts,
        misuse: Misuse,
        unmodelled: Unmodelled,
        on_reset: Callable[[], None],
        on_power: Callable[[], None],
        on_master: Callable[[], None],
        on_cache_line: Callable[[], None],
        on_message: Message | None = None,
    ) -> None:
        """Begin as after RST#.

        `on_reset` is called when the function leaves D3hot, `on_power` when PMCSR or what follows
        from it may have changed. `on_master` is called when bus mastering is enabled,
        `on_cache_line` when the host has set the size of a cache line.
        """
        self._model, self._regs, self._shared, self._memory = model, regs, shared, memory
        self._interrupts, self._misuse, self._unmodelled = interrupts, misuse, unmodelled
        self._on_reset, self._on_power = on_reset, on_power
        self._on_master, self._on_cache_line = on_master, on_cache_line
        self.flash_bytes = 0
        """Bytes of the windows to the flash, 0: it has none."""
        self.wide = False
        """The windows of memory and flash have 64 bits."""
        self._power_management = True
        self._power_word = 0
        """POWER as it was loaded from the EEPROM."""
        self._space = config_space(model, 0, True, False)
        self.config = bytearray(self._space.reset)
        self._message = on_message or self._write_message
        self._message_line = MessageLine(self)
        self.io_on = False
        self._aborts_seen = 0
        self.gone = False
        """The device was removed from its slot."""
        self._actions: dict[str, Callable[[], object]] = {}

    def bind(self, owner: Any) -> None:
        """Find the methods of `owner` and its blocks that changes of fields call."""
        self._actions = {name: attrgetter(name)(owner) for name in ACTIONS}

    @property
    def memory_on(self) -> bool:
        """Memory decoding: command bit 1, in D0."""
        return self._shared.memory_on

    # --- for the rest of the device --------------------------------------------------------------

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
        if self._interrupts.asserted:
            status |= STATUS_INTERRUPT
        aborts = self._memory.aborts
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
        self._unmodelled.add_bytes("pci", off, value, size)
        space, at = self._space, 8 * off
        old, value = self.get(off, size) << at, (value & ((1 << 8 * size) - 1)) << at
        new = old & ~space.write & ~(value & space.clear) | value & space.write
        for f in space.legal:
            if (old ^ new) & f.mask and f.get(new) not in f.legal:
                new = new & ~f.mask | old & f.mask
        self.put(off, size, new >> at)
        for mask, name in space.actions:
            if (old ^ new) & mask:
                self._actions[name]()

    def change_power(self) -> None:
        """PMCSR has another state: D3hot to D0 resets the function (SDM 6.3)."""
        pmcsr = self.get(PMCSR, 2)
        if pmcsr & PMCSR_STATE == D3HOT:
            wanted = self._regs.peek(WUFC)
            if wanted and not pmcsr & PMCSR_PME_EN:
                self._misuse.note("wake-no-pme", wanted)
        else:
            self.reset()
            self.put(PMCSR, 2, pmcsr & (PMCSR_PME_EN | PMCSR_PME_STATUS))
            self._on_reset()
            self.show_power()
        self.apply()

    def load_power(self, words: list[int]) -> None:
        """Load the board's power consumption from the EEPROM."""
        self._power_word = words[POWER.offset]
        self.show_power()

    def show_power(self) -> None:
        """Set PM_DATA and DATA_SCALE by DATA_SELECT (SDM 6.3.3.6)."""
        if self._power_management:
            pmcsr = self.get(PMCSR, 2)
            name = POWER_FIELDS.get(DATA_SELECT.get(pmcsr))
            scale = DATA_SCALE.put(DATA_SCALE.reset if name is not None else 0)
            self.put(PMCSR, 2, pmcsr & ~DATA_SCALE.mask | scale)
            self.put(PM_DATA, 1, 0 if name is None else POWER.field(name).get(self._power_word))

    def apply(self) -> None:
        """Update decoding, bus mastering and interrupt line by command and power state."""
        command = self.get(COMMAND, 2)
        awake = self.power_state == D0 and not self.gone
        self._shared.memory_on = awake and bool(command & COMMAND_MEMORY)
        self.io_on = awake and bool(command & COMMAND_IO)
        master = awake and bool(command & COMMAND_MASTER)
        started = master and not self._memory.enabled
        self._memory.enabled = master
        messages = bool(self.get(MSI_CONTROL, 2) & MSI_ENABLE)
        self._interrupts.set_messages(self._message_line if messages else None)
        self._interrupts.set_disabled(
            not awake or (bool(command & COMMAND_INTX_OFF) and not messages)
        )
        self._on_power()
        if started:
            self._on_master()

    # --- reset, EEPROM ---------------------------------------------------------------------------

    def reset(self) -> None:
        """RST#, power-on: command 0, BARs 0, D0; ids as the part's until the EEPROM is read."""
        self.config = bytearray(self._space.reset)
        self._aborts_seen = self._memory.aborts
        self._on_cache_line()

    # --- message signalled interrupts ------------------------------------------------------------

    def send_message(self) -> None:
        """Write the message, as bus master, for a cause while MSI is enabled."""
        if self._memory.enabled:
            address = self.get(MSI_ADDRESS, 4) | self.get(MSI_ADDRESS + 4, 4) << 32
            if not address:
                self._misuse.note("msi-address")
            self._message(address, self.get(MSI_DATA, 2))

    def _write_message(self, address: int, data: int) -> None:
        self._memory.write(address, data.to_bytes(4, "little"))

    def set_flash_window(self, size: int) -> None:
        """Set the size of the flash's BAR and of the expansion ROM's; 0: none.

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
        """Rebuild the space; the `changed` bytes get their reset values."""
        self._space = config_space(self._model, self.flash_bytes, self._power_management, self.wide)
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

    def shared_hooks(
        self, r: Reg, react: Callable[[int, int], None]
    ) -> tuple[Callable[[int], int], Callable[[int, int], None]]:
        """Return what reads, and what writes, a register of BAR 0 some of whose fields are here.

        `react` is called after a write, as if these fields had not been written.
        """
        row, pairs = same_fields(r)
        own, theirs = sum(f.mask for f, _ in pairs), sum(f.mask for _, f in pairs)

        def read(value: int) -> int:
            config = self.get(row.offset, row.step)
            return value & ~own | sum(f.put(other.get(config)) for f, other in pairs)

        def write(old: int, new: int) -> None:
            config = self.get(row.offset, row.step) & ~(row.w1c_mask | theirs)
            config |= sum(other.put(f.get(new)) for f, other in pairs)
            self.config_write(row.offset, config, row.step)
            self._regs.clear_bits(r.offset, own)
            react(old, new & ~own)

        return read, write

    def set_pme_status(self) -> None:
        """Set PME_STATUS to wake the host."""
        if self._power_management:
            self.put(PMCSR, 2, self.get(PMCSR, 2) | PMCSR_PME_STATUS)

    def remove(self) -> None:
        """The device was removed: reads give all ones."""
        self.gone = True
        self.apply()

    def state(self) -> PciState:
        """Return what a snapshot needs, including a master abort that was not read yet."""
        self._refresh_status()
        return PciState(config=bytes(self.config), power_word=self._power_word)

    def load(self, state: PciState) -> None:
        """Take back what `state` returned."""
        self._power_word = state.power_word
        self.set_wide_windows(BAR_TYPE.get(state.config[BAR0]) == WIDE_TYPE)
        self.offer_power_management(bool(state.config[PM_ID]))
        self.config = bytearray(state.config)
        self._aborts_seen = self._memory.aborts
        self.apply()
