"""`Nic`: a board (`Board`) behind its BARs, and its life cycle.

This is the interface for users: construction, the widths of accesses to BAR 0, pause, resets and
halt, reports and snapshots.  Call everything with the clock's lock held.

The life cycle (`pause`, `resume`, the resets, `halt`) is a table, `fastpath.lifecycle.TABLE`; the
contract of each call is its docstring.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from e1000emu.device.board import BUS_RESET, Board, Ports
from e1000emu.device.bus import Bus
from e1000emu.device.bus import bus as find_bus
from e1000emu.device.eepromfile import words_of
from e1000emu.device.flash import flash_size_code
from e1000emu.device.leds import Led, Leds
from e1000emu.device.pci import Message
from e1000emu.device.phy import AUTONEG_NS
from e1000emu.device.regview import LEVEL_POWER_ON
from e1000emu.device.wakeup import PmeCallback
from e1000emu.insight.explain import explain
from e1000emu.insight.faults import Faults, Injector
from e1000emu.ports import Clock, InterruptLine, Link, ManagementController
from e1000emu.record import snapshot
from e1000emu.record.recorder import Setup
from e1000emu.registers.models import DEFAULT_MAC, Model, eeprom_image, mac_of
from e1000emu.registers.models import model as find_model
from fastpath.base.dma import DmaTable
from fastpath.errors import check_methods, check_type, whole_number
from fastpath.lifecycle import Call, Lifecycle, RunState

if TYPE_CHECKING:
    from e1000emu.device.pins import PinCallback
    from e1000emu.record.recorder import Recording


class Nic(Board):
    """One emulated network interface controller: a board, and its life cycle."""

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
        changes, with which the part wakes a host.  `moderation` decides how interrupts are held
        back: `datasheet`, by its timers alone, or `adaptive`, for a guest; `interrupts.moderation`
        changes it at any time.  `faults` are injected faults.  `record` records all that
        crosses the ports (`record.recorder.Recorder`).  `on_pin(number, level)` is called for
        software definable pins that are outputs (`drive_pin` is for inputs).  `flash` is the
        contents of the board's boot flash, an option ROM; the BARs of the flash exist only with it.
        With `wide_bars` its EEPROM clears ICW1.BAR32, and a host may place memory and flash above 4
        GiB.  A link that carries no FCS carries no padding either, so frames under 60 bytes are
        padded on the way in; without `pad_runts` they are runts, dropped and counted in RUC.  `bus`
        (`e1000emu.device.bus`) is what frames to send cross on their way into the transmit FIFO:
        "pci-64-66" and its like, or a `Bus`; without one this takes no time.  `management` is a
        controller on the board, which gets the frames that MANC's filters take and can send frames
        (`e1000emu.device.management`).  `eeprom` is the contents of the board's EEPROM, words with
        the low byte first (docs/eeprom.md); `mac`, `flash` and `wide_bars` change their words in
        it.  Without `eeprom` and `mac` the address is 52:54:00:12:34:56.
        Raises: E1000Error for a bad `model`, `mac`, `moderation`, `flash`, `bus` or `eeprom`, or a
        `management` that the model has no interface for.
        """
        ports = Ports(memory, irq, link, clock, on_message, on_pme, on_pin, management)
        ports.check()
        if faults is not None:
            check_type("Nic", "faults", faults, Faults, "Faults(...), or None")
        if mac is not None:
            check_type("Nic", "mac", mac, (bytes, bytearray), "six bytes")
        for name, content in (("flash", flash), ("eeprom", eeprom)):
            if content is not None:
                check_type("Nic", name, content, (bytes, bytearray), "its bytes, or None")
        if record is not None:
            check_methods("Nic", "record", record, ("eeprom", "ports"), "a Recorder, or None")
        part = find_model(model)
        its_bus = find_bus(bus, part)
        autoneg_ns = whole_number("Nic", "autoneg_ns", autoneg_ns, 0, unit="ns")
        words = eeprom_image(
            part,
            DEFAULT_MAC if mac is None and eeprom is None else mac,
            None if flash is None else flash_size_code(flash),
            wide_bars,
            None if eeprom is None else words_of(eeprom),
        )
        if record is not None:
            words = record.eeprom(words)
            setup = Setup(
                part.name,
                mac_of(words),
                words,
                autoneg_ns,
                moderation,
                strict,
                faults,
                flash,
                pad_runts,
                None if its_bus is None else asdict(its_bus),
                None if management is None else {"reset_on_force": management.reset_on_force},
            )
            ports = record.ports(ports, setup)
        self._injector = None if faults is None else Injector(faults, ports.clock)
        super().__init__(
            ports,
            model=part,
            eeprom=words,
            strict=strict,
            autoneg_ns=autoneg_ns,
            moderation=moderation,
            faults=self._injector,
            flash=flash,
            pad_runts=pad_runts,
            bus=its_bus,
        )
        self._life = Lifecycle("Nic", self._busy)
        self._leds = Leds(part, self.regs, self.stats, self.link_unit, self.clock)
        self._read32, self._write32 = self.regs.read32, self.regs.write32
        if self._injector is not None:
            self._injector.start(self)
        self.link_unit.plug_in(self)
        if ports.management is not None:
            ports.management.attach(self.management)
        self.power_on_reset()
        if record is not None:
            record.made(self)

    @property
    def faults(self) -> Injector | None:
        """The injector of its hardware faults."""
        return self._injector

    def drive_pin(self, number: int, level: bool) -> None:
        """Drive a software definable pin from the board: 0, 1, 6 or 7, of the 82544 also 4.

        Raises: ArgumentError.
        """
        self.pins.drive(number, level)

    # --- life cycle ------------------------------------------------------------------------------

    @property
    def run_state(self) -> RunState:
        """RUNNING, PAUSING (something is under way still), PAUSED or HALTED."""
        return self._life.state

    def _busy(self) -> bool:
        """An engine runs, frames are between ring and link, or memory accesses are pending."""
        stages = (self.tx.stage, self.rx.stage)
        return (
            self.shared.in_engine or self.tx.busy or any(s is not None and s.busy for s in stages)
        )

    def pause(self, why: str = "") -> None:
        """Stop activity: no engine run, no DMA, no frame in or out, no interrupt edge.

        Call with the clock's lock held, and with the `DataPath` if one works for the device; from a
        callback of the device's too.  `run_state` is PAUSED after return, or PAUSING while
        something is under way. That is an engine that called out, frames that a worker has taken
        from the ring, or memory that answers by messages. It ends as without a pause, and then
        `run_state` is PAUSED.

        Kept: registers, rings, FIFO and unfinished frames; frames of a link that holds, which gets
        `rx_ready` after `resume`; doorbells, flushes and other requests, which are done then.
        The interrupt line keeps its level.  Frames of a link that does not hold wait in the FIFO;
        those that do not fit are lost (MPC, RXO). Registers answer, and PHY, EEPROM, flash and pins
        go on with the time. `why` is for `explain`.  Raises: LifecycleError, it does not run.
        """
        self._life.enter(Call.PAUSE)
        self.paused_because = why
        self.shared.still = True
        self.interrupts.freeze()

    def resume(self) -> None:
        """End a pause: process requests made during it and timers that became due.

        Call as `pause`.  A pause during which nothing happened has no effect.
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
        """Unplug from the link and cancel every event of the clock, permanently.

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
        self.link_unit.halt()
        self.management.halt()
        self.link.detach()

    # --- BAR 0 -----------------------------------------------------------------------------------

    def mmio_read(self, off: int, size: int = 4) -> int:
        """Read BAR 0 regardless of PCI's command register and power state, for experts.

        A program uses `slot.bar_read(0, off, 4)`, which obeys both, as a driver's accesses do.
        The part is specified for aligned 32-bit accesses.  Any other access, of up to 8 bytes,
        reads each register that it touches as a whole, with its side effect: a byte of ICR clears
        all causes.
        """
        if size == 4 and not off & 3:
            return self._read32(off)
        return self.bar0.read(off, size)

    def mmio_write(self, off: int, value: int, size: int = 4) -> None:
        """Write BAR 0 as `mmio_read` reads it; a program uses `slot.bar_write`.

        In a register that is written in part the other bytes are not enabled.  They keep their
        value, and clear, set and start nothing.
        """
        if size == 4 and not off & 3:
            self._write32(off, value & 0xFFFFFFFF)
        else:
            self.bar0.write(off, value, size)

    # --- I/O BAR ---------------------------------------------------------------------------------

    def io_read(self, off: int, size: int = 4) -> int:
        """Read IOADDR or what it selects: a register, or bytes of the flash (SDM 13.2.2).

        For experts, see `mmio_read`; a program uses `slot.bar_read(slot.io_bar, off, 4)`.
        """
        return self.io_bar.read(off, size)

    def io_write(self, off: int, value: int, size: int = 4) -> None:
        """Write IOADDR or what it selects: a register, or bytes of the flash (SDM 13.2.2).

        Writes of fewer than 32 bits are ignored, except to the flash.  For experts, see
        `mmio_read`; a program uses `slot.bar_write`.
        """
        self.io_bar.write(off, value, size)

    @property
    def link_up(self) -> bool:
        """STATUS.LU."""
        return self.link_unit.up

    @property
    def speed(self) -> tuple[int, bool]:
        """Mbit/s and full duplex, as negotiated or forced (STATUS)."""
        return self.link_unit.speed_mbps, self.link_unit.full_duplex

    def leds(self) -> tuple[Led, ...]:
        """Return the four LEDs as they are now (LEDCTL)."""
        return self._leds.show()

    # --- resets ----------------------------------------------------------------------------------

    # Every reset keeps `run_state`: a paused device stays paused.  It clears registers, rings, the
    # FIFO and the unfinished frame; frames that a link holds are asked for again.

    def power_on_reset(self) -> None:
        """LAN_PWR_GOOD: everything, the PHY and the wake-up registers too.

        Call as `halt`.  Raises: LifecycleError, the device is halted.
        """
        self._life.enter(Call.RESET)
        self._bus_reset(LEVEL_POWER_ON)
        self.link_unit.look_at_cable()

    def reset(self) -> None:
        """RST# of the bus: configuration space and MAC; the PHY negotiates anew.

        Call as `pause`; from inside an engine run it happens when the engine returns.
        Raises: LifecycleError, the device is halted.
        """
        self._life.enter(Call.RESET)
        self.request_reset(BUS_RESET)

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
        """Return sentences that say what holds frames or interrupts back; empty if nothing
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
        self.load(state)

    def __repr__(self) -> str:
        up = "up" if self.link_up else "down"
        on = "" if self.bus is None else f" bus {self.bus.name}"
        return f"<Nic {self.model.name} {self.mac.hex(':')}{on} link {up} {self.misuse!r}>"


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
