"""`Nic`: the blocks of an 8254x wired together behind BAR 0, the I/O BAR and PCI configuration.

Each block is a file that can be read alone; this one has what concerns all of them: CTRL and
STATUS, the resets, loopback, and the widths of accesses.  Call everything with the clock's lock
held.

Its life (`pause`, `resume`, the resets, `halt`) is a table, `fastpath.lifecycle.TABLE`; the
contract of each call is its docstring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from e1000emu import snapshot
from e1000emu.bus import Bus
from e1000emu.bus import bus as find_bus
from e1000emu.eeprom import EepromPort
from e1000emu.eepromfile import words_of
from e1000emu.eeprommap import eeprom_word
from e1000emu.explain import explain
from e1000emu.faults import Faults, Injector
from e1000emu.filters import Filters
from e1000emu.flash import FlashPort, flash_size_code
from e1000emu.flow import FlowControl
from e1000emu.halfduplex import HalfDuplex
from e1000emu.interrupts import Interrupts
from e1000emu.leds import Led, leds
from e1000emu.management import Management
from e1000emu.misuse import Misuse
from e1000emu.models import DEFAULT_MAC, Model, eeprom_image, mac_of, model
from e1000emu.pci import Message, PciFunction, Slot
from e1000emu.phy import AUTONEG_NS, LinkState, Mdic, Phy
from e1000emu.pins import Pins
from e1000emu.ports import Clock, InterruptLine, Link, ManagementController
from e1000emu.record import Ports, Setup
from e1000emu.regs import BAR0_BYTES, LINK_MODE_TBI, at_offset, reg
from e1000emu.regview import LEVEL_POWER_ON, LEVEL_RST, Registers
from e1000emu.rx import Rx
from e1000emu.stats import Stats, load_statistics
from e1000emu.tbi import Tbi
from e1000emu.tx import Tx
from e1000emu.wakeup import PmeCallback, Wakeup
from e1000emu.watch import Watch
from fastpath.dma import DmaTable
from fastpath.errors import (
    check_callable,
    check_clock,
    check_methods,
    check_type,
    whole_number,
)
from fastpath.lifecycle import Call, Lifecycle, RunState
from fastpath.macpath import HeldBack, MacState, RxSink
from fastpath.pktbuf import PacketBuffer

if TYPE_CHECKING:
    from e1000emu.pins import PinCallback
    from e1000emu.record import Recording
    from fastpath.batch import FrameBatch

__all__ = ["Nic"]

CTRL, STATUS, CTRL_EXT = reg("CTRL"), reg("STATUS"), reg("CTRL_EXT")
CTRL_FD, CTRL_SLU, CTRL_ASDE = CTRL.mask("FD"), CTRL.mask("SLU"), CTRL.mask("ASDE")
CTRL_ILOS, CTRL_SPEED = CTRL.mask("ILOS"), CTRL.mask("SPEED")
CTRL_FRCSPD, CTRL_FRCDPLX = CTRL.mask("FRCSPD"), CTRL.mask("FRCDPLX")
CTRL_RST, CTRL_PHY_RST = CTRL.mask("RST"), CTRL.mask("PHY_RST")
CTRL_LRST = CTRL.mask("LRST")
CTRL_SDP0_IODIR, CTRL_SDP1_IODIR = CTRL.mask("SDP0_IODIR"), CTRL.mask("SDP1_IODIR")
CTRL_PINS = CTRL.mask("SDP0_DATA", "SDP1_DATA", "SDP0_IODIR", "SDP1_IODIR")
CTRL_LOADED = CTRL_FD | CTRL_ILOS | CTRL_FRCSPD | CTRL_ASDE
CTRL_LOADED |= CTRL_LRST | CTRL_SDP0_IODIR | CTRL_SDP1_IODIR
TXCW, TXCW_ANE = reg("TXCW"), reg("TXCW").mask("ANE")
RXCW = reg("RXCW")
CTRL_RFCE, CTRL_TFCE = CTRL.mask("RFCE"), CTRL.mask("TFCE")
CTRL_FLOW = CTRL_RFCE | CTRL_TFCE
ICW1, ICW2 = eeprom_word("ICW1"), eeprom_word("ICW2")
ICW2_FLASH_SIZE = ICW2.field("FLASH_SIZE")
ICW1_SWDPIO, ICW1_LRST, ICW2_ANE = ICW1.field("SWDPIO"), ICW1.mask("LRST"), ICW2.mask("ANE")
ICW1_SIGNATURE, ICW2_ASDE = ICW1.field("SIGNATURE"), ICW2.mask("ASDE")
ICW1_BAR32 = ICW1.mask("BAR32")
ICW1_FD, ICW1_ILOS, ICW1_FRCSPD = ICW1.mask("FD"), ICW1.mask("ILOS"), ICW1.mask("FRCSPD")
ICW1_POWER = ICW1.mask("POWER_MANAGEMENT")
ICW1_LOAD_VENDOR, ICW1_LOAD_SUBSYSTEM = ICW1.mask("LOAD_VENDOR"), ICW1.mask("LOAD_SUBSYSTEM")
STATUS_FD, STATUS_LU = STATUS.mask("FD"), STATUS.mask("LU")
STATUS_TBIMODE = STATUS.mask("TBIMODE")
STATUS_SPEED_SHIFT, STATUS_ASDV_SHIFT = 6, 8
EXT_ASDCHK, EXT_EE_RST = CTRL_EXT.mask("ASDCHK"), CTRL_EXT.mask("EE_RST")
EXT_PINS = CTRL_EXT.mask("SDP4_DATA", "SDP6_DATA", "SDP7_DATA", "GPI0_EN", "GPI2_EN", "GPI3_EN")
EXT_PINS |= CTRL_EXT.mask("SDP4_IODIR", "SDP6_IODIR", "SDP7_IODIR")
EXT_SPD_BYPS = CTRL_EXT.mask("SPD_BYPS")
EXT_PHYINT_EN, EXT_PHYINT = CTRL_EXT.mask("PHYINT_EN"), CTRL_EXT.mask("PHYINT")
EXT_LINK_MODE = CTRL_EXT.field("LINK_MODE")
ICR_LSC, ICR_PHYINT = reg("ICR").mask("LSC"), reg("ICR").mask("PHYINT")
ICR_RXCFG, ICR_RXSEQ = reg("ICR").mask("RXCFG"), reg("ICR").mask("RXSEQ")
TIPG, AIT = reg("TIPG"), reg("AIT")
IPGT, AIFS, GAP_CLOCKS = TIPG.field("IPGT"), AIT.field("AIFS"), 4
RCTL = reg("RCTL").offset
LBM_MAC, LBM_TRANSCEIVER = 1, 3
SPEED_CODE = {10: 0, 100: 1, 1000: 2}
CODE_SPEED = {0: 10, 1: 100, 2: 1000, 3: 1000}
SIGNAL_PIN = 1
"""The number of the software definable pin that a fibre board's optics drive."""
MAX_ACCESS_BYTES = 8
"""The most that a bus moves in one clock."""
IOADDR, IODATA = 0, 4
IOADDR_MASK = 0x000FFFFF
IOADDR_FLASH = 0x80000
ACTIVITY_NS = 100_000_000
SOFTWARE_RESET, INTERNAL_RESET, BUS_RESET = range(3)
"""CTRL.RST, D3hot to D0, RST#: each includes those before it."""


class Nic:
    """One emulated network interface controller."""

    receive: Callable[[FrameBatch, int, bool], int]
    """Takes frames from the link (LinkPort); borrows the batch until return."""

    def __init__(
        self,
        *,
        memory: DmaTable,
        irq: InterruptLine,
        link: Link,
        clock: Clock,
        model: str | Model = "82540EM",
        mac: bytes | None = None,
        strict: bool = False,
        autoneg_ns: int = AUTONEG_NS,
        on_message: Message | None = None,
        on_pme: PmeCallback | None = None,
        moderation: str = "datasheet",
        faults: Faults | None = None,
        record: Recording | None = None,
        on_pin: PinCallback | None = None,
        flash: bytes | None = None,
        wide_bars: bool = False,
        pad_runts: bool = True,
        bus: str | Bus | None = None,
        management: ManagementController | None = None,
        eeprom: bytes | None = None,
    ) -> None:
        """Power the part on, plugged into `link`.

        `memory` is what it accesses as bus master; bus mastering is off until the host enables it.
        `strict` raises `MisuseError` at a driver's mistake.  `autoneg_ns` is how long
        autonegotiation takes.  `on_message(address, data)` takes message signalled interrupts;
        without it they are written to `memory`, as on a bus.  `on_pme(level)` is called when PME#
        changes, with which the part wakes a host.  `moderation` is how interrupts are held back:
        `datasheet`, by its timers alone, or `adaptive`, for a guest; `interrupts.moderation`
        changes it at any time.  `faults` are its hardware's faults.  `record` records all that
        crosses the ports (`e1000emu.record.Recorder`).  `on_pin(number, level)` is called for
        software definable pins that are outputs (`drive_pin` is for inputs).  `flash` is the
        contents of the board's boot flash, an option ROM; the BARs of the flash exist only with it.
        With `wide_bars` its EEPROM clears ICW1.BAR32, and a host may place memory and flash above 4
        GiB.  A link that carries no FCS carries no padding either, so frames under 60 bytes are
        padded on the way in; without `pad_runts` they are runts, dropped and counted in RUC.  `bus`
        (`e1000emu.bus`) is what frames to send cross on their way into the transmit FIFO:
        "pci-64-66" and its like, or a `Bus`; without one this takes no time.  `management` is a
        controller on the board, which gets the frames that MANC's filters take and can send frames
        (`e1000emu.management`).  `eeprom` is the contents of the board's EEPROM, words with the low
        byte first (docs/eeprom.md); `mac`, `flash` and `wide_bars` change their words in it.
        Without `eeprom` and `mac` the address is 52:54:00:12:34:56.
        Raises: E1000Error for a bad `model`, `mac`, `moderation`, `flash`, `bus` or `eeprom`, or a
        `management` that the model has no interface for.
        """
        check_clock("Nic", clock)
        check_methods(
            "Nic", "link", link, ("attach", "transmit"), "a link, such as one end of pair()"
        )
        takes = "an interrupt line, such as Host.irq_line(10)"
        check_methods("Nic", "irq", irq, ("set_level",), takes)
        takes = "a DmaTable, such as Host.dma_table()"
        check_methods("Nic", "memory", memory, ("read", "write", "aborts"), takes)
        if faults is not None:
            check_type("Nic", "faults", faults, Faults, "Faults(...), or None")
        if mac is not None:
            check_type("Nic", "mac", mac, (bytes, bytearray), "six bytes")
        for name, content in (("flash", flash), ("eeprom", eeprom)):
            if content is not None:
                check_type("Nic", name, content, (bytes, bytearray), "its bytes, or None")
        callbacks = {"on_message": on_message, "on_pme": on_pme, "on_pin": on_pin}
        for name, callback in callbacks.items():
            if callback is not None:
                check_callable("Nic", name, callback)
        if record is not None:
            check_methods("Nic", "record", record, ("eeprom", "ports"), "a Recorder, or None")
        if management is not None:
            takes = "a ManagementController, or None"
            check_methods("Nic", "management", management, ("attach",), takes)
        self.model = _model(model)
        self.bus = find_bus(bus, self.model)
        autoneg_ns = whole_number("Nic", "autoneg_ns", autoneg_ns, 0, unit="ns")
        words = eeprom_image(
            self.model,
            DEFAULT_MAC if mac is None and eeprom is None else mac,
            None if flash is None else flash_size_code(flash),
            wide_bars,
            None if eeprom is None else words_of(eeprom),
        )
        if record is not None:
            words = record.eeprom(words)
            ports = Ports(memory, irq, link, clock, on_message, on_pme, on_pin, management)
            setup = Setup(
                self.model.name,
                mac_of(words),
                words,
                autoneg_ns,
                moderation,
                strict,
                faults,
                flash,
                pad_runts,
                None if self.bus is None else asdict(self.bus),
                None if management is None else {"reset_on_force": management.reset_on_force},
            )
            ports = record.ports(ports, setup)
            memory, irq, link, clock = ports.memory, ports.irq, ports.link, ports.clock
            on_message, on_pme, on_pin = ports.on_message, ports.on_pme, ports.on_pin
            management = ports.management
        self.memory = memory
        self.link = link
        self.clock = clock
        self.misuse = Misuse(strict=strict, now_ns=clock.now_ns)
        self.shared = MacState()
        """State that the compiled parts of all blocks share."""
        self._life = Lifecycle("Nic", self._busy)
        self.paused_because = ""
        self._pending_reset = SOFTWARE_RESET
        """The reset that waits until the running engine returns."""
        self.resets = 0
        self.io_address = 0
        self._last_activity = (0, 0, 0)
        self.faults = None if faults is None else Injector(self, faults)
        self.soon: Callable[[Callable[[], Any]], Any] = clock.call_soon
        """Runs a ring after this event."""
        if self.faults is not None:
            self.soon = self.faults.soon

        self._link_mode = LINK_MODE_TBI if self.model.fiber else 0
        self.regs = Registers(self.model)
        self.stats = Stats()
        self.interrupts = Interrupts(self, irq, moderation)
        self.eeprom = EepromPort(self, words)
        self.flash = FlashPort(self, flash)
        self.filters = Filters(self)
        self.buffer = PacketBuffer()
        self.tx = Tx(self, self.bus)
        self.rx = Rx(self)
        self.rx.engine.pad_runts = pad_runts
        self.flow = FlowControl(self)
        self.tbi: Tbi | None = None
        """The ten-bit interface of a fibre board, in the place of the PHY."""
        self.phy: Phy | Tbi
        if self.model.fiber:
            self.phy = self.tbi = Tbi(
                clock=clock,
                on_link=self._tbi_link,
                on_light=self._tbi_light,
                on_config=self._tbi_config,
                on_errors=self._tbi_errors,
                on_send=self._tbi_sends,
                autoneg_ns=autoneg_ns,
            )
        else:
            self.phy = Phy(
                clock=clock,
                phy_id=self.model.phy_id,
                on_link=self._phy_link,
                on_interrupt=self._phy_interrupt,
                autoneg_ns=autoneg_ns,
            )
        self.mdic = Mdic(self, None if isinstance(self.phy, Tbi) else self.phy)
        self.pins = Pins(self, on_pin)
        self.pci = PciFunction(self, on_message)
        self.wakeup = Wakeup(self, on_pme)
        self.management = Management(self, management)
        self.regs.bind(self, self.stats)
        self.regs.file.on_unknown = self._unknown
        self.watch = Watch(self)
        self.slot = Slot(self)
        self._read32 = self.regs.read32
        self._write32 = self.regs.write32
        self._write_part = self.regs.file.write_part
        self.receive = self.rx.receive
        self.sink = RxSink(self.rx)
        self.interrupts.hold_descriptors(HeldBack(self.tx, self.rx))
        if self.faults is not None:
            self.receive = self.faults.receive  # frames may get lost before they are seen
            self.faults.start()
        link.attach(self)
        if management is not None:
            management.attach(self.management)
        if hasattr(link, "station"):
            link.station = HalfDuplex(self)
        self.power_on_reset()
        if record is not None:
            record.made(self)

    def drive_pin(self, number: int, level: bool) -> None:
        """Drive a software definable pin from the board: 0, 1, 6 or 7, of the 82544 also 4.

        Raises: ArgumentError.
        """
        self.pins.drive(number, level)

    def defer_doorbells(self) -> None:
        """From now on serve the rings after the event that asks for it, not within it."""
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

    # --- life ------------------------------------------------------------------------------------

    @property
    def run_state(self) -> RunState:
        """RUNNING, PAUSING (something is under way still), PAUSED or HALTED."""
        return self._life.state

    def _busy(self) -> bool:
        """An engine is at work, frames are between ring and link, or memory owes an answer."""
        stages = (self.tx.stage, self.rx.stage)
        return (
            self.shared.in_engine or self.tx.busy or any(s is not None and s.busy for s in stages)
        )

    def pause(self, why: str = "") -> None:
        """Begin nothing new: no engine run, no DMA, no frame in or out, no interrupt edge.

        Call with the clock's lock held, and with the `DataPath` if one works for the device; from a
        callback of the device's too.  PAUSED after return, or PAUSING while something is under way
        (an engine that called out, frames that a worker has taken from the ring, memory that
        answers by messages); that ends as if nobody had paused, and then `run_state` is PAUSED.

        Kept: registers, rings, FIFO and unfinished frames; frames of a link that holds, which gets
        `rx_ready` after `resume`; doorbells, flushes and whatever else asks for work, done then.
        The interrupt line keeps its level.  Frames of a link that does not hold wait in the FIFO;
        those that do not fit are lost (MPC, RXO). Registers answer, and PHY, EEPROM, flash and pins
        go on with the time. `why` is for `explain`.  Raises: LifecycleError, it does not run.
        """
        self._life.enter(Call.PAUSE)
        self.paused_because = why
        self.shared.still = True
        self.interrupts.freeze()

    def resume(self) -> None:
        """End a pause: do what was asked for during it, and what has become due.

        Call as `pause`.  A pause during which nothing happened leaves no trace.
        Raises: LifecycleError, it is not paused.
        """
        self._life.enter(Call.RESUME)
        self.paused_because = ""
        self.shared.still = False
        self.interrupts.thaw()
        self.update_write_back()
        self.flow.go_on()
        self.tx.go_on()
        self.rx.go_on()
        self.management.go_on()

    def halt(self) -> None:
        """Unplug from the link and take every event back from the clock; it does not come back.

        Call as `pause`, but not from a callback of the device's; safe to call twice.  A worker is
        halted and joined first.  After return the device makes no calls and no memory accesses, its
        line is low, and frames in the rings or given back by the link are lost.  Registers and
        counters can be read.
        """
        if self._life.enter(Call.HALT) is RunState.HALTED:
            return
        self.shared.still = self.shared.halted = True
        if self.faults is not None:
            self.faults.stop()
        self.interrupts.halt()
        self.tx.reset()
        self.phy.cable(False, self.phy.cable_speed_mbps, True)
        self.link.detach()

    @property
    def in_engine(self) -> bool:
        """A compiled engine is at work: a reset waits until it returns."""
        return self.shared.in_engine

    @in_engine.setter
    def in_engine(self, value: bool) -> None:
        self.shared.in_engine = value

    @property
    def reset_pending(self) -> bool:
        """CTRL.RST was written while an engine was at work."""
        return self.shared.reset_pending

    # --- BAR 0 -----------------------------------------------------------------------------------

    def mmio_read(self, off: int, size: int = 4) -> int:
        """Read BAR 0.  The part is specified for aligned 32-bit accesses.

        Any other access, of up to 8 bytes, reads each register that it touches as a whole, with its
        side effect: a byte of ICR clears all causes.
        """
        if size == 4 and not off & 3:
            return self._read32(off)
        return self._odd_read(off, size)

    def mmio_write(self, off: int, value: int, size: int = 4) -> None:
        """Write BAR 0.  In a register that is written in part the other bytes are not enabled.

        They keep their value, and clear, set and start nothing.
        """
        if size == 4 and not off & 3:
            self._write32(off, value & 0xFFFFFFFF)
        else:
            self._odd_write(off, value, size)

    def _odd_read(self, off: int, size: int) -> int:
        self.misuse.note("access-size", *_plain(size, off))
        data = b"".join(
            self._read32(at).to_bytes(4, "little")[skip : skip + count]
            for at, skip, count in _dwords(off, size)
        )
        return int.from_bytes(data, "little")

    def _odd_write(self, off: int, value: int, size: int) -> None:
        found = at_offset(off) if size > 0 else None
        narrow = found is not None and found.reg.group == "filters"
        self.misuse.note("table-size" if narrow else "access-size", *_plain(size, off))
        for at, skip, count in _dwords(off, size):
            part = value >> 8 * (at + skip - off) & (1 << 8 * count) - 1
            self._write_part(at, part << 8 * skip, (1 << 8 * count) - 1 << 8 * skip)

    def _unknown(self, off: int, is_write: bool, value: int) -> None:
        self.misuse.note("unknown-register", off, value)

    # --- I/O BAR ---------------------------------------------------------------------------------

    def io_read(self, off: int, size: int = 4) -> int:
        """Read IOADDR or what it selects: a register, or bytes of the flash (SDM 13.2.2)."""
        if self._io_flash(off, size):
            return self.flash.read(self.io_address - IOADDR_FLASH + off - IODATA, size)
        if size != 4 or off not in (IOADDR, IODATA):
            self.misuse.note("io-size", *_plain(size, off))
            if off & ~3 != IOADDR or size > 4 or size <= 0:
                return 0
            return self.io_address >> 8 * (off & 3) & (1 << 8 * size) - 1
        if off == IOADDR:
            return self.io_address
        if self.io_address >= BAR0_BYTES:
            self.misuse.note("io-address", self.io_address)
            return 0
        return self.mmio_read(self.io_address, 4)

    def io_write(self, off: int, value: int, size: int = 4) -> None:
        """Write IOADDR or what it selects: a register, or bytes of the flash (SDM 13.2.2).

        Writes of fewer than 32 bits are ignored, except to the flash.
        """
        if self._io_flash(off, size):
            self.flash.write(self.io_address - IOADDR_FLASH + off - IODATA, value, size)
        elif size != 4 or off not in (IOADDR, IODATA):
            self.misuse.note("io-size", *_plain(size, off))
        elif off == IOADDR:
            self.io_address = value & IOADDR_MASK
        elif self.io_address >= BAR0_BYTES:
            self.misuse.note("io-address", self.io_address)
        else:
            self.mmio_write(self.io_address, value, 4)

    def _io_flash(self, off: int, size: int) -> bool:
        """Return whether an access to the I/O BAR is one to the flash."""
        if self.io_address < IOADDR_FLASH or not self.pci.flash_bytes:
            return False
        return off >= IODATA and size > 0 and off + size <= IODATA + 4

    # --- general registers -----------------------------------------------------------------------

    def write_ctrl(self, old: int, new: int) -> None:
        """CTRL: reset, PHY reset, link forcing, VLAN mode, flow control (SDM 13.4.1)."""
        if new & CTRL_RST:
            self._request_reset()
            return
        changed = old ^ new
        if changed & CTRL_PHY_RST:
            self.phy.hold(bool(new & CTRL_PHY_RST))
        if changed & CTRL_FLOW:
            self.flow.update()
        if changed & CTRL_PINS:
            self.pins.update()
        if self.tbi is not None:
            self.tbi.follow(new, self.regs.peek(TXCW.offset))
        self.update_status()

    def write_ctrl_ext(self, old: int, new: int) -> None:
        """CTRL_EXT: pins, speed detection and bypass, EEPROM reload (SDM 13.4.6)."""
        if new & EXT_ASDCHK:
            code = SPEED_CODE[self.phy.link.speed_mbps] if self.phy.link.up else 0
            self.regs.clear_bits(STATUS.offset, STATUS.mask("ASDV"))
            self.regs.set_bits(STATUS.offset, code << STATUS_ASDV_SHIFT)
        if new & EXT_EE_RST:
            self.load_eeprom()
        if (old ^ new) & EXT_PINS:
            self.pins.update()
        if (old ^ new) & (EXT_SPD_BYPS | EXT_LINK_MODE.mask):
            self.update_status()

    def write_txcw(self, old: int, new: int) -> None:
        """TXCW: what is advertised, and whether hardware negotiates (SDM 13.4.13)."""
        if self.tbi is not None:
            self.tbi.follow(self.regs.peek(CTRL.offset), new)

    def read_rxcw(self, value: int) -> int:
        """RXCW; a read clears its latched bits (SDM 13.4.14)."""
        if self.tbi is None:
            self.regs.clear_bits(RXCW.offset, RXCW.rc_mask)
            return value
        value = self.tbi.read_rxcw()
        self.regs.poke(RXCW.offset, self.tbi.rxcw)
        return value

    def update_write_back(self) -> None:
        """The thresholds of write-back, or the size of a cache line, have changed."""
        self.tx.update_write_back()
        self.rx.update_write_back()

    def write_gap(self, old: int, new: int) -> None:
        """TIPG or AIT has changed."""
        self.update_gap()

    # --- link ------------------------------------------------------------------------------------

    def update_gap(self) -> None:
        """Tell a link that counts time the gap between frames (SDM 13.4.34, 13.4.35).

        A MAC clock is the time of a byte; four are added. On the 82544 AIT is added too; on other
        parts it is a gap of its own, and the longer one counts.
        """
        if hasattr(self.link, "gap_bytes"):
            throttle = AIFS.get(self.regs.peek(AIT.offset)) * self.link_speed_mbps // 1000
            gap = IPGT.get(self.regs.peek(TIPG.offset))
            clocks = gap + throttle if self.model.ait_adds else max(gap, throttle)
            self.link.gap_bytes = clocks + GAP_CLOCKS

    @property
    def link_up(self) -> bool:
        """STATUS.LU."""
        return bool(self.regs.peek(STATUS.offset) & STATUS_LU)

    @property
    def link_speed_mbps(self) -> int:
        """STATUS.SPEED."""
        return CODE_SPEED[self.regs.peek(STATUS.offset) >> STATUS_SPEED_SHIFT & 3]

    def link_changed(self, up: bool, speed_mbps: int, full_duplex: bool) -> None:
        """The cable was plugged, pulled, or the far end changed (LinkPort)."""
        if self.faults is not None and self.faults.cut:
            return
        self._hear_far_end()
        self.phy.cable(up, speed_mbps, full_duplex)

    def _look_at_cable(self) -> None:
        link = self.link
        self._hear_far_end()
        self.phy.cable(link.carrier, link.speed_mbps, getattr(link, "full_duplex", True))

    def _hear_far_end(self) -> None:
        self.phy.hear(getattr(self.link, "far_end", None))
        if self.tbi is not None:
            self.tbi.attach(getattr(self.link, "rx_config", None))

    def rx_config_changed(self) -> None:
        """The board at the far end of the fibre sends something else (LinkPort)."""
        if self.tbi is not None and not (self.faults is not None and self.faults.cut):
            self.tbi.receive(getattr(self.link, "rx_config", None))

    def _tbi_sends(self, config: int) -> None:
        if hasattr(self.link, "tx_config"):
            self.link.tx_config = config

    def tx_ready(self) -> None:
        """The link has room again (LinkPort)."""
        self.tx.pump()
        self.management.pump()

    def _phy_link(self, link: LinkState) -> None:
        self.update_status()

    def _tbi_link(self, link: LinkState) -> None:
        """The link, or what RXCW says, has changed."""
        tbi = self.tbi
        assert tbi is not None
        self.regs.poke(RXCW.offset, tbi.rxcw)
        if tbi.negotiated and not self.link_up:
            # Drivers read the resolution here: they set these bits for a forced link alone.
            flow = (CTRL_RFCE if link.rx_pause else 0) | (CTRL_TFCE if link.tx_pause else 0)
            self.regs.clear_bits(CTRL.offset, CTRL_FLOW)
            self.regs.set_bits(CTRL.offset, flow)
            self.flow.update()
        self.update_status()

    def _tbi_light(self, light: bool) -> None:
        """The optics drive a pin by whether they see light (drivers read it before RXCW)."""
        self.pins.drive(SIGNAL_PIN, light is self.model.signal_high)

    def _tbi_config(self, was_up: bool) -> None:
        """/C/ ordered sets have begun to arrive; among idles and frames they are a sequence
        error."""
        self.interrupts.cause(ICR_RXCFG | (ICR_RXSEQ if was_up else 0))
        if was_up:
            self.stats["SEC"] += 1

    def _tbi_errors(self, frames: int) -> None:
        """Count symbol errors, whatever the destination of their frames (SDM 13.7.3)."""
        self.stats["SYMERRS"] += frames

    def _phy_interrupt(self, level: bool) -> None:
        if level:
            self.regs.set_bits(CTRL_EXT.offset, EXT_PHYINT)
            if self.regs.peek(CTRL_EXT.offset) & EXT_PHYINT_EN:
                self.interrupts.cause(ICR_PHYINT)
        else:
            self.regs.clear_bits(CTRL_EXT.offset, EXT_PHYINT)

    def update_status(self) -> None:
        """Compute STATUS from the PHY and CTRL; a change of LU raises LSC (SDM 13.4.2)."""
        regs, link = self.regs, self.phy.link
        ctrl, old = regs.peek(CTRL.offset), regs.peek(STATUS.offset)
        ext = regs.peek(CTRL_EXT.offset)
        mode = EXT_LINK_MODE.get(ext)
        # The other interface's pins lead nowhere.
        seen = link.up and not self.phy.isolated and mode == self._link_mode
        speed = SPEED_CODE[link.speed_mbps]
        if self.tbi is not None:
            up, full = seen, link.full_duplex
        else:
            up = (seen or self.phy.loopback) and bool(ctrl & CTRL_SLU)
            full = bool(ctrl & CTRL_FD) if ctrl & CTRL_FRCDPLX else link.full_duplex
            if ctrl & CTRL_FRCSPD or ext & EXT_SPD_BYPS:
                speed = (ctrl & CTRL_SPEED) >> 8
        new = old & ~(STATUS_LU | STATUS_FD | STATUS_TBIMODE | 3 << STATUS_SPEED_SHIFT)
        new |= STATUS_TBIMODE if mode else 0
        new |= (STATUS_LU if up else 0) | (STATUS_FD if full else 0) | speed << STATUS_SPEED_SHIFT
        if new != old:
            regs.poke(STATUS.offset, new)
        self.update_gap()
        self.update_loopback()
        if (new ^ old) & STATUS_LU:
            self.interrupts.cause(ICR_LSC)
            self.wakeup.link_changed()
            self.management.link_changed()

    @property
    def speed(self) -> tuple[int, bool]:
        """Mbit/s and full duplex, as negotiated or forced (STATUS)."""
        status = self.regs.peek(STATUS.offset)
        return CODE_SPEED[status >> STATUS_SPEED_SHIFT & 3], bool(status & STATUS_FD)

    @property
    def wire_shared(self) -> bool:
        """Whether the link is a shared wire, which reports what becomes of each frame."""
        return getattr(self.link, "station", None) is not None

    def update_loopback(self) -> None:
        """Decide where frames go: the link, back at the MAC (RCTL.LBM=1), or back at the PHY."""
        lbm = self.regs.peek(RCTL) >> 6 & 3
        loop = lbm == LBM_MAC or self.phy.loopback
        loop = loop or (lbm == LBM_TRANSCEIVER and self.tbi is not None)
        if lbm == LBM_TRANSCEIVER and not loop:
            self.misuse.note("lbm-without-phy", self.regs.peek(RCTL))
        tx, rx = self.tx, self.rx
        tx.loop = rx.loop if loop else None
        shared_wire = not loop and self.wire_shared
        tx.engine.uncounted = shared_wire or tx.dma is not None
        tx.engine.gso_max_bytes = 0 if loop else getattr(self.link, "gso_max_bytes", 0)
        tx.engine.gso_udp = getattr(self.link, "gso_udp", False)
        was, tx.open = tx.open, loop or self.link_up
        is_open = self.link_up and not loop
        if is_open != rx.open:
            rx.set_open(is_open)
        if tx.open and not was:
            tx.pump()
        self.management.pump()

    def active(self) -> bool:
        """Return whether frames moved since the last call or within the last 100 ms (LEDs)."""
        frames = self.stats["TPT"] + self.stats["TPR"]
        seen, when, _ = self._last_activity
        now = self.clock.now_ns()
        if frames != seen:
            self._last_activity = (frames, now, 1)
            return True
        return bool(self._last_activity[2]) and now - when < ACTIVITY_NS

    def leds(self) -> tuple[Led, ...]:
        """Return the four LEDs as they are now (LEDCTL)."""
        return leds(self)

    # --- resets ----------------------------------------------------------------------------------

    # Every reset keeps `run_state`: a paused device stays paused.  It clears registers, rings, the
    # FIFO and the unfinished frame; frames that a link holds are asked for again.

    def power_on_reset(self) -> None:
        """LAN_PWR_GOOD: everything, the PHY and the wake-up registers too.

        Call as `halt`.  Raises: LifecycleError, the device is halted.
        """
        self._life.enter(Call.RESET)
        self._mac_reset(LEVEL_POWER_ON)
        self.pci.reset()
        self.load_eeprom()
        self.pci.apply()
        self.phy.hard_reset()
        self._look_at_cable()

    def reset(self) -> None:
        """RST# of the bus: configuration space and MAC; the PHY negotiates anew.

        Call as `pause`; from inside an engine run it happens when the engine returns.
        Raises: LifecycleError, the device is halted.
        """
        self._life.enter(Call.RESET)
        self._when_idle(BUS_RESET)

    def _bus_reset(self) -> None:
        self._mac_reset(LEVEL_RST)
        self.pci.reset()
        self.load_eeprom()
        self.pci.apply()
        self.phy.hard_reset()

    def internal_reset(self) -> None:
        """D3hot to D0: the MAC as after RST#; the caller has reset configuration space."""
        self._when_idle(INTERNAL_RESET)

    def _internal_reset(self) -> None:
        self._mac_reset(LEVEL_RST)
        self.load_eeprom()

    def _request_reset(self) -> None:
        """CTRL.RST: now, or when the engine that is at work returns (SDM 13.4.1: within 1 us)."""
        self._when_idle(SOFTWARE_RESET)

    def _when_idle(self, which: int) -> None:
        """Do this reset once the running engine has returned; of several only the strongest."""
        self._pending_reset = max(self._pending_reset, which)
        if self.shared.in_engine:
            self.shared.reset_pending = True
        else:
            self.finish_reset()

    def glitch(self) -> None:
        """The MAC resets itself, and no driver has asked for it (faults)."""
        self._request_reset()

    def pull(self) -> None:
        """The device is out of its slot: nothing answers any more, the wire is dead (faults)."""
        self.pci.pull()
        self.phy.cable(False, self.phy.cable_speed_mbps, True)

    def finish_reset(self) -> None:
        """The engine has returned: do the reset that waited for it."""
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
        self.phy.hold(False)
        if self.tbi is not None:
            self.tbi.reset()
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
            set_bits = CTRL_FD if icw1 & ICW1_FD else 0
            set_bits |= CTRL_ILOS if icw1 & ICW1_ILOS else 0
            set_bits |= CTRL_FRCSPD if icw1 & ICW1_FRCSPD else 0
            set_bits |= CTRL_ASDE if icw2 & ICW2_ASDE else 0
            set_bits |= CTRL_LRST if icw1 & ICW1_LRST else 0
            directions = ICW1_SWDPIO.get(icw1)
            set_bits |= CTRL_SDP0_IODIR if directions & 1 else 0
            set_bits |= CTRL_SDP1_IODIR if directions & 2 else 0
            self.regs.clear_bits(CTRL.offset, CTRL_LOADED)
            self.regs.set_bits(CTRL.offset, set_bits)
            self.regs.clear_bits(TXCW.offset, TXCW_ANE)
            self.regs.set_bits(TXCW.offset, TXCW_ANE if icw2 & ICW2_ANE else 0)
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
        if self.tbi is not None:
            self.tbi.follow(self.regs.peek(CTRL.offset), self.regs.peek(TXCW.offset))
        self.update_status()
        # A reset raises no LSC for its own change of LU: the driver has asked for it.
        self.regs.clear_bits(reg("ICR").offset, ICR_LSC)

    # --- reports, snapshot -----------------------------------------------------------------------

    @property
    def mac(self) -> bytes:
        """The address in receive entry 0."""
        return self.filters.mac(0)

    def counters(self) -> dict[str, int]:
        """Return every counter by name, not cleared: statistics, engines, interrupts, misuse."""
        tx, rx = self.tx, self.rx
        out: dict[str, int] = {name.lower(): n for name, n in self.stats.as_dict().items()}
        out |= {f"tx_{name}": getattr(tx.engine, name) for name in TX_ENGINE_COUNTERS}
        out |= {f"rx_{name}": getattr(rx.engine, name) for name in RX_ENGINE_COUNTERS}
        out |= {
            "tx_doorbells": tx.doorbells,
            "tx_batches": tx.batches,
            "rx_doorbells": rx.doorbells,
            "rx_batches": rx.batches,
            "rx_fifo_frames": rx.engine.fifo_frames,
            "rx_fifo_bytes": rx.engine.fifo_used,
            "interrupts": self.interrupts.assertions,
            "dma_aborts": self.memory.aborts,
            "resets": self.resets,
        }
        out |= {f"misuse_{e.name.replace('-', '_')}": e.count for e in self.misuse.events()}
        return out

    def explain(self) -> list[str]:
        """Return sentences that say what holds frames or interrupts back; empty when nothing
        does."""
        return explain(self)

    def state(self) -> bytes:
        """Return a snapshot (versioned); memory, link and clock are not in it.

        Call as `pause`.  Raises: LifecycleError, unless the device is paused, or runs and nothing
        is under way.
        """
        self._life.enter(Call.SAVE)
        return snapshot.save(self)

    def load_state(self, data: bytes) -> None:
        """Take back a snapshot of a Nic of the same model; `run_state` stays as it is.

        Call as `pause`.  Raises: SnapshotError; LifecycleError, as `state`.
        """
        snapshot.load(self, data)

    def restore(self, state: snapshot.NicState) -> None:
        """Put every block into `state`; the link's carrier is what it is now.  See `load_state`."""
        self._life.enter(Call.RESTORE)
        self._mac_reset(LEVEL_POWER_ON)
        self.regs.file.load(state.regs)
        self.eeprom.load(state.eeprom)
        self.flash.load(state.flash)
        self.phy.load(state.phy)
        self.io_address = state.io_address
        self.rx.load(state.rx)
        self.tx.load(state.tx)
        if state.buffer:  # older snapshots have none: what waits is in the engine's state
            self.buffer.load(state.buffer)
        self.flow.xoff_sent = state.xoff_sent
        self.flow.put_off = state.xoff_put_off
        self.flow.update()
        self.interrupts.load(state.interrupts)
        self.pci.power_word = state.power_word
        self.pci.load(state.pci)
        self.tx.take_threshold()
        self.rx.take_threshold()
        self.update_gap()
        self.update_loopback()
        self._look_at_cable()
        load_statistics(self.stats, state.stats)
        self.misuse.load(state.misuse)
        self.pins.load(state.pins)
        if self.tbi is not None:
            self._tbi_light(self.tbi.cable_up)
        self.management.load(state.management)
        self.tx.loaded()
        self.rx.loaded()
        self.management.loaded()
        self.interrupts._flush(int(state.interrupts.get("flushed", 0)))

    def __repr__(self) -> str:
        up = "up" if self.link_up else "down"
        on = "" if self.bus is None else f" bus {self.bus.name}"
        return f"<Nic {self.model.name} {self.mac.hex(':')}{on} link {up} {self.misuse!r}>"


def _dwords(off: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Cut an access into registers: offset, bytes left out, bytes; none unless it has 1 to 8."""
    end = off + size if 0 < size <= MAX_ACCESS_BYTES and 0 <= off < BAR0_BYTES else off
    while off < end:
        skip = off & 3
        count = min(4 - skip, end - off)
        yield off - skip, skip, count
        off += count


def _plain(size: int, off: int) -> tuple[int, int]:
    """Return an access's size and offset as numbers that a case of misuse can hold."""
    return max(size, 0), off & 0xFFFFFFFF


_model = model
TX_ENGINE_COUNTERS = (
    "mixed_drops",
    "oversize_drops",
    "tso_fails",
    "empty_frames",
    "csum_skips",
    "ring_errors",
    "desc_aborts",
    "data_aborts",
)
RX_ENGINE_COUNTERS = (
    "frames_dropped_disabled",
    "frames_filtered",
    "frames_bad",
    "frames_missed",
    "ring_errors",
    "desc_aborts",
    "data_aborts",
)
