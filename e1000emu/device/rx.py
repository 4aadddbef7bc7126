"""Receive control plane: ring registers, doorbell, filters, FIFO, holding links (SDM 3.2, 13.4.22).

The work is the compiled `RxEngine`'s, driven by the compiled `RxPort` (`receive`, `kick`, RDT).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from e1000emu.device.mac import Verdict
from e1000emu.device.state import BlockState
from e1000emu.device.tx import FCS_BYTES, MIN_FRAME, PACKET_BUFFER_KIB, held_back, prefetched
from e1000emu.links import pool
from e1000emu.registers.regs import reg
from fastpath.base.batch import (
    FB_ALIGN_ERR,
    FB_BAD_CRC,
    FB_CARRIER_EXT,
    FB_HAS_FCS,
    FB_SYMBOL_ERR,
    FrameBatch,
)
from fastpath.nic.macctrl import find_mac_control
from fastpath.nic.macpath import WATCH_MANAGEMENT, RxPort
from fastpath.nic.rxring import RX_ABORT, RX_DATA_ABORT, RXSEQ, RxEngine, crc32

if TYPE_CHECKING:
    from e1000emu.device.filters import Filters
    from e1000emu.device.interrupts import Interrupts
    from e1000emu.device.mac import Controller, ErrorCount, PauseFrames, WakeFilters
    from e1000emu.device.pci import PciFunction
    from e1000emu.device.regview import Registers
    from e1000emu.device.tx import Tx
    from e1000emu.insight.misuse import Misuse
    from e1000emu.ports import Link, Stage
    from fastpath.base.dma import DmaTable
    from fastpath.nic.macpath import MacState
    from fastpath.nic.pktbuf import PacketBuffer
    from fastpath.nic.regfile import Stats

FB_ERRORS = FB_BAD_CRC | FB_ALIGN_ERR | FB_SYMBOL_ERR | FB_CARRIER_EXT
RCTL = reg("RCTL")
RCTL_EN = RCTL.mask("EN")
RCTL_ANY = RCTL.mask("UPE", "MPE", "BAM")
RDT = reg("RDT").offset
RXDCTL = reg("RXDCTL").offset
PBA, FCT = reg("PBA").offset, reg("FCT").offset
MIN_RING = 8
"""Descriptors: RDLEN counts 128 bytes (SDM 13.4.27)."""


class RxState(BlockState):
    """The engine's fields by name, and what is pending for the link."""

    engine: dict[str, Any]
    held: bool = False
    """The link holds frames, and waits for `rx_ready`."""


class Rx(RxPort):
    """Owns the receive queue's registers and drives its engine.

    From the compiled base: `open` (frames from the link reach the MAC: link up and no loopback),
    `receive` (LinkPort.receive), `kick`, and the tail RDT.
    """

    def __init__(
        self,
        *,
        memory: DmaTable,
        regs: Registers,
        stats: Stats,
        filters: Filters,
        buffer: PacketBuffer,
        shared: MacState,
        interrupts: Interrupts,
        misuse: Misuse,
        link: Link,
        pci: PciFunction,
        tx: Tx,
        schedule: Callable[[Callable[[], Any]], Any],
        finish_reset: Callable[[], None],
    ) -> None:
        """`schedule` and `finish_reset` are as those of `Tx`.  `connect` is next."""
        engine = RxEngine(memory, stats, filters.engine, buffer)
        self._bind(engine, shared, interrupts, finish_reset)
        self._memory, self._regs, self._filters, self._shared = memory, regs, filters, shared
        self._misuse, self._link = misuse, link
        self._pci, self._tx, self._schedule = pci, tx, schedule
        self._scheduled = False
        self._prefetched = (0, 0)
        self._symbol_errors = 0
        """How many of the engine's symbol errors the PHY has been told of."""
        self.stage: Stage | None = None

    def connect(
        self,
        *,
        flow: PauseFrames,
        phy: ErrorCount,
        wakeup: WakeFilters,
        management: Controller,
        entry: Callable[[FrameBatch, int, bool], int],
    ) -> None:
        """Take the blocks that are made later; `entry` is `receive`, or what stands before it."""
        self._flow, self._phy, self._wakeup, self._management = flow, phy, wakeup, management
        self.fifo_changed, self.entry = flow.fifo_changed, entry

    # --- registers -------------------------------------------------------------------------------

    def update_enable(self) -> None:
        """The receiver was turned on or off."""
        rctl = self._regs.peek(RCTL.offset)
        if not rctl & RCTL_EN:
            self._release()
            return
        if not rctl & RCTL_ANY and not self._filters.any_address():
            self._misuse.note("rx-no-address", rctl)
        self.kick()

    def _odd_tail(self) -> None:
        """RDT is no index of the ring, or the ring is too short."""
        engine, tail = self.engine, self._regs.peek(RDT)
        if tail == engine.len >> 4 and tail >= MIN_RING:
            self._misuse.note("rx-tail-size", tail, engine.head)
        else:
            self._misuse.note("rx-ring", tail, engine.len, engine.head)

    def write_ring(self, old: int, new: int) -> None:
        """Take a base, length or head, also while the receiver is on.

        Writing the same value restarts the ring too, as its descriptors may have changed.
        """
        self.engine.ring_moved()
        if self.stage is not None:
            self.stage.forget()
        self.kick()

    def update_write_back(self) -> None:
        """React to a change of RXDCTL or of the cache line size."""
        if self._shared.still:
            return  # `Nic.resume` asks again
        if held_back(self._regs.peek(RXDCTL), self._pci, self._tx.at_once) != self.engine.hold:
            self.engine.repay()  # held write-backs would no longer be counted
        before = self._prefetched
        self.take_threshold()
        if self._prefetched != before:
            self.kick()

    def take_threshold(self) -> None:
        """Tell the engine how many descriptors a write-back waits for, and when to fetch."""
        control = self._regs.peek(RXDCTL)
        self.engine.hold = held_back(control, self._pci, self._tx.at_once)
        self._prefetched = prefetched(control, self._pci)
        self.engine.prefetch(*self._prefetched)

    def divide_buffer(self) -> None:
        """Set TXA to what RXA leaves; the FIFO sizes change at the next reset (SDM 13.4.16)."""
        receive = min(self._regs.peek(PBA) & 0xFFFF, PACKET_BUFFER_KIB)
        self._regs.poke(PBA, receive | (PACKET_BUFFER_KIB - receive) << 16)

    def watch(self, who: int, on: bool) -> None:
        """Pass batches to the filters `who`, WATCH_*, or no longer."""
        self.watching = self.watching & ~who | (who if on else 0)

    # --- the work --------------------------------------------------------------------------------

    def kick(self) -> None:
        """Drain the FIFO, let a holding link continue; in a bottom half, after this event."""
        if self._shared.bottom_half:
            self._later()
        else:
            super().kick()

    def kick_now(self) -> None:
        """Perform `kick` now."""
        super().kick()

    # --- calls of a stage ------------------------------------------------------------------------

    def use_stage(self, stage: Stage | None) -> None:
        """Put `stage` before the engine, or nothing; with a stage the engine uses only descriptors
        that it has `fetched`."""
        self._memory.ordered = stage is not None
        self.stage = stage
        self.engine.prefetched = -1 if stage is None else self.engine.head
        self.kick()

    def fetched(self, tail: int) -> None:
        """Let the engine use descriptors up to `tail`."""
        self.engine.prefetched = tail

    def good(self, batch: FrameBatch, i: int) -> bytes:
        """Return frame `i` as it is between preamble and FCS; empty if it is damaged."""
        frame, flags = batch[i], batch.flags(i)
        if flags & FB_ERRORS:
            return b""
        if flags & FB_HAS_FCS:
            frame, fcs = frame[:-FCS_BYTES], frame[-FCS_BYTES:]
            return frame if int.from_bytes(fcs, "little") == crc32(frame) else b""
        return frame.ljust(MIN_FRAME, b"\0") if frame and self.engine.pad_runts else frame

    def _with_control(self, batch: FrameBatch, start: int, first: int, hold: bool) -> int:
        """Receive a batch with a MAC control frame at `first` frame by frame; this is rare."""
        total = len(batch)
        part = pool.get()
        while True:
            part.extend(batch, start, first)
            start += self._store(part, hold)
            if start < first:
                self._held = True
                break
            if first >= total:
                break
            part.clear()
            verdict = Verdict.FILTER
            if self.open and (frame := self.good(batch, first)):
                verdict = self._flow.control_frame(frame)
            if verdict is not Verdict.DROP:
                part.append(batch[first], batch.flags(first))
                engine = self.engine
                engine.promiscuous = verdict is Verdict.PASS
                # Take it now: if held back, the link would offer it again and we would obey it
                # twice.
                self._store(part, False)
                engine.promiscuous = False
                part.clear()
            start = first + 1
            first = find_mac_control(batch, start, self._regs.peek(FCT) & 0xFFFF)
        pool.put(part)
        self._report()
        return start

    def _asleep(self, batch: FrameBatch, start: int) -> bool:
        """Pass the frames to the wake-up filters; return whether they end there (D3hot)."""
        self._wakeup.frames(batch, start)
        return bool(self._pci.power_state)

    def _managed(self, batch: FrameBatch, start: int, hold: bool) -> int:
        """Remove the management controller's frames from a batch and pass on the others."""
        asleep = bool(self.watching & ~WATCH_MANAGEMENT) and self._asleep(batch, start)
        management, total = self._management, len(batch)
        while start < total:
            first, frame = management.find(batch, start)
            if start < first and not asleep:
                part = pool.get()
                part.extend(batch, start, first)
                start += self._pass_on(part, 0, hold)
                pool.put(part)
                if start < first:
                    return start  # held back; the link offers it and those behind it again
            if frame:
                management.take(frame)
            start = first + 1
        return total

    def loop(self, batch: FrameBatch) -> None:
        """Take a batch of our own transmitter.  Takes ownership of `batch`."""
        self._store(batch, False)
        pool.put(batch)
        self._report()

    def _later(self) -> None:
        """Serve new descriptors after this event."""
        if not self._scheduled:
            self._scheduled = True
            self._schedule(self._bottom_half)

    def _bottom_half(self) -> None:
        self._scheduled = False
        if self.stage is None:
            self.kick_now()
        else:
            self.stage.run()

    def _unusual(self, causes: int) -> None:
        """The engine accessed an address without memory, or got frames with a symbol error."""
        engine = self.engine
        if causes & RXSEQ:
            told, self._symbol_errors = self._symbol_errors, engine.symbol_errors
            self._phy.count_errors(self._symbol_errors - told)
        if causes & RX_ABORT:
            self._misuse.note("rx-abort", engine.base, engine.head)
        if causes & RX_DATA_ABORT:
            self._misuse.note("rx-data-abort", engine.head)

    def _release(self) -> None:
        if self._held:
            self._held = False
            self._link.rx_ready()

    def set_open(self, is_open: bool) -> None:
        """The link or the loopback mode has changed."""
        self.open = is_open
        if not is_open:
            self._release()

    # --- reset, snapshot -------------------------------------------------------------------------

    def reset(self) -> None:
        """CTRL.RST: clear the ring and the FIFO; a new FIFO size takes effect."""
        self.engine.reset()
        self.engine.fifo_bytes = (self._regs.peek(PBA) & 0xFFFF) * 1024
        if self.stage is not None:
            self.stage.forget()
        self._release()

    def state(self) -> RxState:
        """Return what a snapshot needs."""
        return RxState(engine=self.engine.state(), held=self._held)

    def load(self, state: RxState) -> None:
        """Take back what `state` returned; the registers are loaded already."""
        self.reset()
        self.engine.load(state.engine)
        self._held = self._held or state.held
        if self.stage is not None:
            self.stage.forget()

    def loaded(self) -> None:
        """Resume after the whole state is loaded.

        A state has nothing in flight, so it asks for no descriptor that it could not have had
        before. But the link may have to be told of room, and a stage begins anew.
        """
        if self._held or self._shared.bottom_half:
            self.kick()
