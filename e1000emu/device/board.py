"""`Board`: the blocks of an 8254x, wired together, and its resets.

Each block is a file that can be read alone, and gets what it needs.  This file connects them. It
has the callbacks, the resets with the EEPROM's defaults, and the order in which a state is loaded.
Call everything with the clock's lock held.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from e1000emu.device.bars import Bar0, IoBar, Slot
from e1000emu.device.eeprom import EepromPort
from e1000emu.device.filters import Filters
from e1000emu.device.flash import FlashPort
from e1000emu.device.flow import FlowControl
from e1000emu.device.interrupts import Interrupts
from e1000emu.device.linkunit import LinkUnit
from e1000emu.device.management import Management
from e1000emu.device.pci import PciFunction
from e1000emu.device.phy import Mdic
from e1000emu.device.pins import Pins
from e1000emu.device.regview import LEVEL_POWER_ON, LEVEL_RST, Registers
from e1000emu.device.rx import Rx
from e1000emu.device.stats import Stats, load_statistics
from e1000emu.device.tbi import Tbi
from e1000emu.device.tx import Tx
from e1000emu.device.wakeup import Wakeup
from e1000emu.insight.misuse import Misuse
from e1000emu.insight.unmodelled import Unmodelled
from e1000emu.insight.watch import Parts, Watch
from e1000emu.links.caps import link_caps
from e1000emu.record.snapshot import VERSION, NicState
from e1000emu.registers.eeprommap import eeprom_word, loaded_bits
from e1000emu.registers.models import mac_of
from e1000emu.registers.regs import reg
from fastpath.errors import check_callable, check_clock, check_methods
from fastpath.nic.macpath import HeldBack, MacState, RxSink
from fastpath.nic.pktbuf import PacketBuffer

if TYPE_CHECKING:
    from e1000emu.device.bus import Bus
    from e1000emu.device.mac import FaultHooks
    from e1000emu.device.pci import Message
    from e1000emu.device.pins import PinCallback
    from e1000emu.device.wakeup import PmeCallback
    from e1000emu.ports import Clock, InterruptLine, Link, ManagementController
    from e1000emu.registers.models import Model
    from fastpath.base.batch import FrameBatch
    from fastpath.base.dma import DmaTable

__all__ = ["Board", "Ports"]

CTRL, STATUS = reg("CTRL"), reg("STATUS")
CTRL_SLU = CTRL.mask("SLU")
ICW1, ICW2 = eeprom_word("ICW1"), eeprom_word("ICW2")
ICW2_FLASH_SIZE = ICW2.field("FLASH_SIZE")
ICW1_SIGNATURE, ICW1_BAR32 = ICW1.field("SIGNATURE"), ICW1.mask("BAR32")
ICW1_POWER = ICW1.mask("POWER_MANAGEMENT")
ICW1_LOAD_VENDOR, ICW1_LOAD_SUBSYSTEM = ICW1.mask("LOAD_VENDOR"), ICW1.mask("LOAD_SUBSYSTEM")
ICR_LSC = reg("ICR").mask("LSC")
LOADED = {
    reg(name).offset: [(word, bit, reg(name).mask(field)) for word, bit, field in bits]
    for name, bits in loaded_bits().items()
}
"""Register bits from a valid EEPROM: by offset, the word, its bit, the register's bit."""

SOFTWARE_RESET, INTERNAL_RESET, BUS_RESET = range(3)
"""CTRL.RST, D3hot to D0, RST#: each includes those before it."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports that a Nic is given."""

    memory: DmaTable
    irq: InterruptLine
    link: Link
    clock: Clock
    on_message: Message | None
    on_pme: PmeCallback | None
    on_pin: PinCallback | None
    management: ManagementController | None

    def check(self) -> None:
        """Raises: ArgumentTypeError, naming what is missing or of another type."""
        check_clock("Nic", self.clock)
        takes = "a link, such as one end of pair()"
        check_methods("Nic", "link", self.link, ("attach", "transmit"), takes)
        takes = "an interrupt line, such as Host.irq_line(10)"
        check_methods("Nic", "irq", self.irq, ("set_level",), takes)
        takes = "a DmaTable, such as Host.dma_table()"
        check_methods("Nic", "memory", self.memory, ("read", "write", "aborts"), takes)
        for name in ("on_message", "on_pme", "on_pin"):
            callback = getattr(self, name)
            if callback is not None:
                check_callable("Nic", name, callback)
        if self.management is not None:
            takes = "a ManagementController, or None"
            check_methods("Nic", "management", self.management, ("attach",), takes)


class Board:
    """All blocks, and what they share."""

    receive: Callable[[FrameBatch, int, bool], int]
    """Takes frames from the link (LinkPort); borrows the batch until return."""

    def __init__(
        self,
        ports: Ports,
        *,
        model: Model,
        eeprom: list[int],
        strict: bool,
        autoneg_ns: int,
        moderation: str,
        faults: FaultHooks | None,
        flash: bytes | None,
        pad_runts: bool,
        bus: Bus | None,
    ) -> None:
        """Make the blocks; nothing is powered on yet, and the link is not plugged in."""
        self.model, self.bus = model, bus
        self.memory = memory = ports.memory
        self.link = link = ports.link
        self.caps = link_caps("Nic", link)
        """What the link can do."""
        self.clock = clock = ports.clock
        self.misuse = Misuse(strict=strict, now_ns=clock.now_ns)
        self.unmodelled = Unmodelled()
        self.shared = MacState()
        """State that the compiled parts of all blocks share."""
        self.paused_because = ""
        """Why the device is paused, if given."""
        self._pending_reset = SOFTWARE_RESET
        """The reset that waits until the running engine returns."""
        self.resets = 0
        self._faults = faults
        schedule = clock.call_soon if faults is None else faults.schedule
        self.regs = regs = Registers(model)
        self.stats = Stats()
        self.interrupts = Interrupts(regs.file, clock, ports.irq, moderation)
        granted = model.eeprom_granted
        self.eeprom = EepromPort(regs, self.misuse, clock, eeprom, granted=granted)
        self.flash = FlashPort(regs, self.misuse, clock, flash)
        self.filters = Filters(regs, model.n_rar)
        self.buffer = PacketBuffer()
        self.pci = PciFunction(
            model=model,
            regs=regs.file,
            shared=self.shared,
            memory=memory,
            interrupts=self.interrupts,
            misuse=self.misuse,
            unmodelled=self.unmodelled,
            on_reset=lambda: self.request_reset(INTERNAL_RESET),
            on_power=self._power_changed,
            on_master=self._master_enabled,
            on_cache_line=self.update_write_back,
            on_message=ports.on_message,
        )
        self.tx = Tx(
            model=model,
            memory=memory,
            regs=regs,
            stats=self.stats,
            buffer=self.buffer,
            shared=self.shared,
            interrupts=self.interrupts,
            misuse=self.misuse,
            clock=clock,
            link=link,
            caps=self.caps,
            pci=self.pci,
            schedule=schedule,
            finish_reset=self.finish_reset,
            on_unpause=self._path_changed,
            faults=faults,
            bus=bus,
        )
        self.rx = Rx(
            memory=memory,
            regs=regs,
            stats=self.stats,
            filters=self.filters,
            buffer=self.buffer,
            shared=self.shared,
            interrupts=self.interrupts,
            misuse=self.misuse,
            link=link,
            pci=self.pci,
            tx=self.tx,
            schedule=schedule,
            finish_reset=self.finish_reset,
        )
        self.rx.engine.pad_runts = pad_runts
        self.pins = Pins(regs, self.interrupts, model.features, ports.on_pin)
        self.link_unit = LinkUnit(
            link=link,
            caps=self.caps,
            clock=clock,
            model=model,
            regs=regs,
            stats=self.stats,
            interrupts=self.interrupts,
            misuse=self.misuse,
            pins=self.pins,
            tx=self.tx,
            rx=self.rx,
            on_flow=self._flow_changed,
            on_path=self._path_changed,
            on_link=self._link_changed,
            autoneg_ns=autoneg_ns,
        )
        self.flow = FlowControl(
            regs=regs,
            stats=self.stats,
            filters=self.filters,
            shared=self.shared,
            clock=clock,
            tx=self.tx,
            rx=self.rx,
            link_unit=self.link_unit,
        )
        self.phy, self.tbi = self.link_unit.phy, self.link_unit.tbi
        self.mdic = Mdic(
            regs,
            self.misuse,
            self.unmodelled,
            self.interrupts,
            None if faults is None else faults.mdio,
            None if isinstance(self.phy, Tbi) else self.phy,
        )
        self.bar0 = Bar0(regs, self.misuse)
        self.io_bar = IoBar(self.bar0, self.flash, self.pci, self.misuse)
        self.slot = Slot(
            regs=regs,
            shared=self.shared,
            memory=memory,
            pci=self.pci,
            flash=self.flash,
            bar0=self.bar0,
            io=self.io_bar,
            misuse=self.misuse,
        )
        self.management = Management(
            ports.management,
            model=model,
            regs=regs,
            stats=self.stats,
            shared=self.shared,
            clock=clock,
            link=link,
            interrupts=self.interrupts,
            filters=self.filters,
            tx=self.tx,
            rx=self.rx,
            link_unit=self.link_unit,
            pci=self.pci,
            on_reset=self.request_reset,
        )
        self.wakeup = Wakeup(
            model=model,
            regs=regs,
            filters=self.filters,
            rx=self.rx,
            pci=self.pci,
            management=self.management,
            on_pme=ports.on_pme,
        )
        regs.bind(self, self.stats)
        self.pci.bind(self)
        self.watch = Watch(
            Parts(
                model,
                regs,
                self.misuse,
                self.unmodelled,
                self.interrupts,
                clock,
                memory,
                self.buffer,
                self.tx,
                self.rx,
                self.pci,
            )
        )
        self.receive = self.rx.receive if faults is None else faults.receive
        self.rx.connect(
            flow=self.flow,
            phy=self.phy,
            wakeup=self.wakeup,
            management=self.management,
            entry=self.receive,
        )
        self.sink = RxSink(self.rx)
        self.interrupts.hold_descriptors(HeldBack(self.tx, self.rx))

    @property
    def faults(self) -> FaultHooks | None:
        """The faults of the hardware."""
        return self._faults

    # --- what concerns several blocks ------------------------------------------------------------

    def _flow_changed(self) -> None:
        """Handle a change of CTRL.RFCE or TFCE."""
        self.flow.update()

    def _path_changed(self) -> None:
        """The path of frames may have changed, or they may continue."""
        self.management.pump()

    def _power_changed(self) -> None:
        """The power state or PME may have changed."""
        self.wakeup.update()

    def _master_enabled(self) -> None:
        """Bus mastering has been enabled."""
        self.tx.pump()
        self.rx.kick()

    def update_write_back(self) -> None:
        """The thresholds of write-back, or the size of a cache line, have changed."""
        self.tx.update_write_back()
        self.rx.update_write_back()

    def link_changed(self, up: bool, speed_mbps: int, full_duplex: bool) -> None:
        """The cable was plugged, pulled, or the far end changed (LinkPort)."""
        self.link_unit.link_changed(up, speed_mbps, full_duplex)

    def tx_ready(self) -> None:
        """The link has room again (LinkPort)."""
        self.tx.pump()
        self.management.pump()

    def _link_changed(self) -> None:
        """STATUS.LU has changed."""
        self.wakeup.link_changed()
        self.management.link_changed()

    # --- resets ----------------------------------------------------------------------------------

    def _bus_reset(self, level: int = LEVEL_RST) -> None:
        """RST#, or power-on."""
        self._mac_reset(level)
        self.io_bar.address = 0  # CTRL.RST, which comes through it, leaves it (SDM 13.2.2.1)
        self.pci.reset()
        self.load_eeprom()
        self.pci.apply()
        self.phy.hard_reset()

    def _internal_reset(self) -> None:
        """D3hot to D0: the MAC as after RST#; configuration space was reset already."""
        self._mac_reset(LEVEL_RST)
        self.load_eeprom()

    def request_reset(self, which: int = SOFTWARE_RESET) -> None:
        """Reset now, or when the engine that is at work returns (SDM 13.4.1: within 1 us).

        Of several requests only the strongest counts.
        """
        self._pending_reset = max(self._pending_reset, which)
        if self.shared.in_engine:
            self.shared.reset_pending = True
        else:
            self.finish_reset()

    def surprise_removal(self) -> None:
        """Remove the device from its slot: it does not answer, the link is down (faults)."""
        self.pci.remove()
        self.link_unit.disconnect()

    def finish_reset(self) -> None:
        """Perform the reset that waited for the engine to return."""
        which, self._pending_reset = self._pending_reset, SOFTWARE_RESET
        (self._software_reset, self._internal_reset, self._bus_reset)[which]()

    def _software_reset(self) -> None:
        """CTRL.RST: MAC, DMA and link units; PCI configuration and the PHY stay."""
        self._mac_reset(LEVEL_RST)
        self.load_eeprom(ids=False)

    def _mac_reset(self, level: int) -> None:
        self.resets += 1
        self.shared.reset_pending = False
        tx, rx, regs = self.tx, self.rx, self.regs
        tx.open = False
        rx.set_open(False)
        managed = self.management.before_reset()
        regs.file.reset(level)
        self.management.reset(managed, level == LEVEL_POWER_ON)
        if self.bus is not None:
            regs.set_bits(STATUS.offset, self.bus.status)
        self.interrupts.reset()
        self.stats.reset()
        self.eeprom.reset()
        self.filters.reset()
        tx.reset()
        rx.reset()
        self.update_write_back()
        self.flow.reset()
        self.link_unit.reset()
        self.pins.update()

    def load_eeprom(self, *, ids: bool = True) -> None:
        """Read address 0, CTRL defaults and PCI ids (SDM 5.6); a blank EEPROM changes none."""
        words = self.eeprom.words
        icw1, icw2 = words[ICW1.offset], words[ICW2.offset]
        valid = ICW1_SIGNATURE.get(icw1) == ICW1_SIGNATURE.reset
        if ids:
            # On a PCI-X bus they have 64 bits whatever the EEPROM says (SDM 4.1).
            pci_x = self.bus is not None and self.bus.pci_x
            self.pci.set_wide_windows(pci_x or (valid and not icw1 & ICW1_BAR32))
            self.pci.set_flash_window(self.flash.window(ICW2_FLASH_SIZE.get(icw2) if valid else 0))
            self.pci.offer_power_management(not valid or bool(icw1 & ICW1_POWER))
        if valid:
            self.filters.set_mac(mac_of(words))
            for offset, bits in LOADED.items():
                self.regs.clear_bits(offset, sum(mask for _, _, mask in bits))
                self.regs.set_bits(offset, sum(m for word, bit, m in bits if words[word] & bit))
            self.pins.update()
            self.wakeup.load_eeprom(words)
            if ids:
                self.pci.load_power(words)
                self.pci.load_ids(
                    words,
                    vendor=bool(icw1 & ICW1_LOAD_VENDOR),
                    subsystem=bool(icw1 & ICW1_LOAD_SUBSYSTEM),
                )
        if self.management.attached:
            self.regs.set_bits(CTRL.offset, CTRL_SLU)  # a link without a driver, as with APM
        self.link_unit.follow()
        # A reset raises no LSC for its own change of LU: the driver has asked for it.
        self.regs.clear_bits(reg("ICR").offset, ICR_LSC)

    # --- reports, snapshot -----------------------------------------------------------------------

    def defer_doorbells(self) -> None:
        """From now on serve the rings after the event that requests it, not within it."""
        self.shared.bottom_half = True

    def noticed(self, tx_flags: int, rx_causes: int, fifo: bool) -> None:
        """Handle the RUN_* and RX_* flags of a worker's steps, and a changed FIFO level.

        Call with the clock's lock and the `DataPath`.
        """
        if tx_flags:
            self.tx._rare(tx_flags)
        if rx_causes:
            self.rx._unusual(rx_causes)
        if fifo:
            self.flow.fifo_changed()

    def save(self) -> NicState:
        """Return the state of every block."""
        return NicState(
            version=VERSION,
            model=self.model.name,
            now_ns=self.clock.now_ns(),
            regs=self.regs.file.state(),
            stats=self.stats.as_dict(),
            tx=self.tx.state(),
            rx=self.rx.state(),
            flow=self.flow.state(),
            buffer=self.buffer.state(),
            interrupts=self.interrupts.state(),
            eeprom=self.eeprom.state(),
            flash=self.flash.state(self.pci.flash_bytes),
            phy=self.link_unit.state(),
            pci=self.pci.state(),
            io_address=self.io_bar.address,
            pins=self.pins.state(),
            management=self.management.state(),
            misuse=self.misuse.state(),
            unmodelled=self.unmodelled.state(),
        )

    def load(self, state: NicState) -> None:
        """Put every block into `state`; the link's carrier is what it is now.

        Raises: ValueError or similar with some blocks loaded; then call `power_on_reset`.
        """
        self._mac_reset(LEVEL_POWER_ON)
        self.regs.file.load(state.regs)
        self.eeprom.load(state.eeprom)
        window = self.flash.load(state.flash)
        if window is not None:
            self.pci.set_flash_window(window)
        self.link_unit.load(state.phy)
        self.io_bar.address = state.io_address
        self.rx.load(state.rx)
        self.tx.load(state.tx)
        self.buffer.load(state.buffer)
        self.flow.load(state.flow)
        self.interrupts.load(state.interrupts)
        self.pci.load(state.pci)
        self.tx.take_threshold()
        self.rx.take_threshold()
        self.link_unit.loaded()
        load_statistics(self.stats, state.stats)
        self.misuse.load(state.misuse)
        self.unmodelled.load(state.unmodelled)
        self.pins.load(state.pins)
        self.link_unit.show_light()
        self.management.load(state.management)
        self.tx.loaded()
        self.rx.loaded()
        self.management.loaded()
        self.interrupts.loaded(state.interrupts)
