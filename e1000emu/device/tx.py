"""Transmit control plane: ring registers, doorbell, link push-back, loopback (SDM 3.3-3.5).

The compiled `TxEngine` does the work, driven by the compiled `TxPort`. Its `pump` runs the engine
until the tail or until the link has no room. It never nests: a doorbell from inside only asks for
another round. After a bounded number of rounds it continues in a later event of the clock, so a
driver that always has more cannot starve other events. A ring can hold more than a wire carries in
a day (65,528 descriptors of 1 MB, cut into segments of one byte). So frames without a new doorbell
are sent in bursts, and the transmitter rests between these, so that time advances.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from e1000emu.device.state import BlockState, Time, moved
from e1000emu.device.txdma import TransmitDma, TransmitDmaState
from e1000emu.errors import ArgumentError
from e1000emu.links import pool
from e1000emu.registers.regs import reg
from fastpath.nic.macpath import (
    BATCH_FRAMES,
    CREDIT_MAX,
    ROUNDS,
    TX_DISABLED,
    TX_NO_LINK,
    TX_NO_MASTER,
    TX_NO_RING,
    TX_XOFF,
    TxPort,
)
from fastpath.nic.txring import RUN_ABORT, RUN_DATA_ABORT, RUN_OFF, TXD_LOW, TXDW, TxEngine

if TYPE_CHECKING:
    from e1000emu.device.bus import Bus
    from e1000emu.device.interrupts import Interrupts
    from e1000emu.device.mac import FaultHooks
    from e1000emu.device.pci import PciFunction
    from e1000emu.device.regview import Registers
    from e1000emu.insight.misuse import Misuse
    from e1000emu.links.caps import LinkCaps
    from e1000emu.ports import Clock, Link, Stage, TimerHandle
    from e1000emu.registers.fields import Field
    from e1000emu.registers.models import Model
    from fastpath.base.dma import DmaTable
    from fastpath.nic.macpath import MacState
    from fastpath.nic.pktbuf import PacketBuffer
    from fastpath.nic.regfile import Stats

__all__ = ["BATCH_FRAMES", "NO_ROOM", "ROUNDS", "Tx", "TxState"]

PBA = reg("PBA").offset
PACKET_BUFFER_KIB, FIFO_HEADER = 64, 16
MIN_FRAME, MAX_FRAME, FCS_BYTES = 60, 16384, 4
"""Bytes of frames, FCS not counted; a frame that the transmit FIFO cannot hold is dropped too."""
TDT, TXDCTL = reg("TDT").offset, reg("TXDCTL").offset
PTHRESH, HTHRESH, WTHRESH = (reg("TXDCTL").field(f"{c}THRESH") for c in "PHW")
GRAN = reg("TXDCTL").mask("GRAN")
"""The same bits in RXDCTL."""
DESCRIPTOR_DWORDS = 4
DESC_BYTES = 4 * DESCRIPTOR_DWORDS
NO_ROOM = (1 << 64) - 1
TCTL = reg("TCTL")
TCTL_EN = TCTL.mask("EN")
TXOFF = reg("STATUS").mask("TXOFF")
STATUS = reg("STATUS").offset
REST_NS, REST_FRAMES = 1_000_000, 1 << 14
"""How long the transmitter rests when its credit is used up, and the frames it may send then:
ten times what a gigabit wire carries."""


def held_back(control: int, pci: PciFunction, at_once: bool) -> int:
    """Return how many descriptors a write-back waits for, by TXDCTL or RXDCTL (SDM 13.4.43).

    With `at_once` each is written back alone, since the guest cannot tell when.
    """
    count = _descriptors(control, pci, WTHRESH)
    return min(count, 1) if at_once else count


def prefetched(control: int, pci: PciFunction) -> tuple[int, int]:
    """Return PTHRESH and HTHRESH of TXDCTL or RXDCTL in descriptors (SDM 13.4.43)."""
    return _descriptors(control, pci, PTHRESH), _descriptors(control, pci, HTHRESH)


def _descriptors(control: int, pci: PciFunction, threshold: Field) -> int:
    """Return what a threshold means: descriptors with GRAN, else cache lines."""
    count = threshold.get(control)
    if not control & GRAN:
        count = min(count * pci.cache_line_dwords // DESCRIPTOR_DWORDS, threshold.get(-1))
    return count


class TxState(BlockState):
    """The engine's fields by name, and conditions that stop it."""

    engine: dict[str, Any]
    paused_until_ns: Time
    unasked: bool = False
    """Descriptors wait for which the doorbell was not rung."""
    bus: TransmitDmaState | None = None

    def move(self, ns: int) -> None:
        """Move the end of a PAUSE, and what is on the bus."""
        self.paused_until_ns = moved(self.paused_until_ns, ns, 0)
        if self.bus is not None:
            self.bus.move(ns)


class Tx(TxPort):
    """Owns the transmit queue's registers and drives its engine.

    The compiled base has `open` (the MAC may send: link up, or loopback), `pump`, and the doorbell
    TDT. In MAC or PHY loopback frames go to `loop` instead of the link.
    """

    def __init__(
        self,
        *,
        model: Model,
        memory: DmaTable,
        regs: Registers,
        stats: Stats,
        buffer: PacketBuffer,
        shared: MacState,
        interrupts: Interrupts,
        misuse: Misuse,
        clock: Clock,
        link: Link,
        caps: LinkCaps,
        pci: PciFunction,
        schedule: Callable[[Callable[[], Any]], Any],
        finish_reset: Callable[[], None],
        on_unpause: Callable[[], None],
        faults: FaultHooks | None,
        bus: Bus | None = None,
    ) -> None:
        """`schedule` runs a ring after this event, `finish_reset` does the reset that waits for the
        engine, `on_unpause` is called when a PAUSE is over."""
        engine = TxEngine(memory, stats, regs.file, buffer)
        self._bind(engine, shared, interrupts, finish_reset)
        self._regs, self._stats, self._shared, self._interrupts = regs, stats, shared, interrupts
        self._misuse, self._clock, self._caps, self._pci = misuse, clock, caps, pci
        self._schedule, self._on_unpause = schedule, on_unpause
        self.faults = faults
        self._use(link)
        self.dma: TransmitDma | None = None
        """Decides when the engine runs, on a bus that takes time."""
        if bus is not None:
            self.dma = TransmitDma(
                bus,
                tx=self,
                fill=self.fill,
                regs=regs,
                shared=shared,
                buffer=buffer,
                caps=caps,
                clock=clock,
                pci=pci,
                faults=faults,
            )
        self.fetch = self.dma
        engine.rps = model.rps
        engine.low_cause = TXD_LOW if model.txd_low else 0
        self._scheduled = False
        self._paused_until_ns = 0
        self._pause_timer: TimerHandle | None = None
        self._rest_timer: TimerHandle | None = None
        self._unasked = False
        """A state is being loaded that holds descriptors for which the doorbell was not rung."""
        self.stage: Stage | None = None
        """Fetches what a run will read, when memory is reached by messages."""
        misuse.derive("tx-tso", lambda: engine.tso_fails)
        misuse.derive("tx-dropped", lambda: engine.mixed_drops + engine.oversize_drops)

    # --- registers -------------------------------------------------------------------------------

    def write_ring(self, old: int, new: int) -> None:
        """Take a base, length or head, whenever it is written.

        Writing the same value restarts the ring too, as its descriptors may have changed.
        """
        self.engine.ring_moved()
        if self.dma is not None:
            self.dma.forget()
        if self.stage is not None:
            self.stage.forget()

    def update_enable(self) -> None:
        """The transmitter was turned on or off; off, a partly fetched frame waits in the FIFO."""
        if self._regs.peek(TCTL.offset) & TCTL_EN:
            self.pump()

    @property
    def at_once(self) -> bool:
        """Descriptors are written back at once: with threads, or memory that answers by
        messages."""
        return self._interrupts.threaded or self.stage is not None

    def update_write_back(self) -> None:
        """React to a change of TXDCTL or of the cache line size."""
        if self._shared.still:
            return  # `Nic.resume` asks again
        changed = held_back(self._regs.peek(TXDCTL), self._pci, self.at_once) != self.engine.hold
        if changed and self.engine.repay() & TXDW:  # held write-backs would no longer be counted
            self._interrupts.cause(TXDW)
        self.take_threshold()
        self.fill()

    def take_threshold(self) -> None:
        """Tell the engine how many descriptors a write-back waits for, and when to fetch.

        With threads, or messages, it fetches when it sends.
        """
        control = self._regs.peek(TXDCTL)
        self.engine.hold = held_back(control, self._pci, self.at_once)
        low, host = prefetched(control, self._pci)
        self.engine.prefetch(0 if self.at_once else max(low, 1), host)

    def fill(self) -> None:
        """Fetch descriptors if some wait and nothing is being sent."""
        if not self.busy and self.engine.fill():
            self._rare(RUN_ABORT)

    def _odd_tail(self) -> None:
        """TDT is the ring's size, which is not an index."""
        self._misuse.note("tx-tail-size", self.engine.tail, self.engine.head)

    # --- the work --------------------------------------------------------------------------------

    def pump(self) -> None:
        """Send the ring's frames while the link takes them; in a bottom half, after this event."""
        if self._unasked:
            return
        if self._shared.bottom_half:
            self._later()
        else:
            super().pump()

    def pump_now(self) -> None:
        """Send now, with what is in memory or fetched already."""
        faults = self.faults
        if faults is None or self.stage is None:
            super().pump()
        else:
            faults.staged(super().pump)

    # --- calls of a stage ------------------------------------------------------------------------

    def use_stage(self, stage: Stage | None) -> None:
        """Put `stage` before the engine, or nothing.  Raises: ArgumentError, with a bus."""
        if stage is not None and self.dma is not None:
            raise ArgumentError(
                f"bus {self.dma.bus.name!r}: this memory answers by messages, which have their own "
                "time; share it, or give the NIC no bus"
            )
        self.stage = stage
        self.take_threshold()

    def runnable_end(self) -> int:
        """Return the tail up to which the ring can be run; -1 when it is empty, or anything stops
        it."""
        if self.stopped_by or not self.engine.pending():
            return -1
        tail = self.engine.tail
        return 0 if tail == self.engine.len // DESC_BYTES else tail

    def run_to(self, end: int) -> int:
        """Send what memory has been read for, up to descriptor `end`; `settle` is to follow.

        Returns RUN_* flags and causes, and from bit 32 on the number of frames.  NO_ROOM: the link
        takes none, and will call when it does.
        """
        room, faults = self.room(), self.faults
        if room <= 0:
            return NO_ROOM
        batch = pool.get()
        flags: int
        if faults is None:
            flags = self.step(batch, room, end=end)
        else:
            flags = faults.staged(lambda: self.step(batch, room, end=end), end)
        frames = len(batch)
        self.deliver(batch)
        return frames << 32 | flags

    def send_frame(self, frame: bytes, *, flow_control: bool = False) -> None:
        """Send a frame that is not of the ring, the link having room for it.

        A flow control frame counts as a packet sent, but not as a good one (SDM 13.7.30, 13.7.44).
        """
        if self._caps.shared is not None:
            pass  # the wire reports when it has sent it
        elif flow_control:
            self._stats.add("TPT")
            self._stats.add("TOT", len(frame) + FCS_BYTES)
        else:
            self.engine.count(frame)
        batch = pool.get()
        batch.append(frame)
        self.deliver(batch)

    def _rare(self, flags: int) -> None:
        """Handle errors of a run."""
        engine = self.engine
        if flags & RUN_OFF:
            self._explain()
        if flags & RUN_ABORT:
            self._misuse.note("tx-abort", engine.base, engine.head)
        if flags & RUN_DATA_ABORT:
            self._misuse.note("tx-data-abort", engine.head)

    def _explain(self) -> None:
        """Note why descriptors wait, the cause of a "Tx Unit Hang", and count deferred frames."""
        engine, note, why = self.engine, self._misuse.note, self.stopped_by
        if engine.head == engine.tail:
            return
        where = engine.head, engine.tail, engine.len
        if why & TX_DISABLED:
            note("tx-disabled", *where)
        elif why & TX_NO_MASTER:
            note("bus-master-off", *where)
        elif why & TX_NO_RING:
            note("tx-ring", *where)
        elif why & (TX_NO_LINK | TX_XOFF):
            if why & TX_NO_LINK:
                note("tx-link-down", *where)
            self._stats["DC"] += 1  # these defer frames (SDM 13.7.11)

    def _later(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._schedule(self._bottom_half)

    def _bottom_half(self) -> None:
        self._scheduled = False
        if self.stage is None:
            self.pump_now()
        else:
            self.stage.run()

    def _rest(self) -> None:
        """The credit is used up (fastpath/nic/macpath.pyx): let time pass, then continue."""
        self.resting = True
        clock = self._clock
        self._rest_timer = clock.call_at(clock.now_ns() + REST_NS, self._rested)

    def _rested(self) -> None:
        self._rest_timer = None
        self.resting = False
        self.credit = max(self.credit, 0) + REST_FRAMES
        self.pump()

    # --- flow control ----------------------------------------------------------------------------

    def pause(self, until_ns: int) -> None:
        """Stop sending until then (0 = go on): a PAUSE frame came and CTRL.RFCE is set."""
        if self._pause_timer is not None:
            self._pause_timer.cancel()
            self._pause_timer = None
        self._paused_until_ns = until_ns
        self.paused = until_ns > 0
        if until_ns:
            self._regs.set_bits(STATUS, TXOFF)
            self._pause_timer = self._clock.call_at(until_ns, self._unpause)
        else:
            self._regs.clear_bits(STATUS, TXOFF)
            self.pump()
            self._on_unpause()

    def _unpause(self) -> None:
        self._pause_timer = None
        self.pause(0)

    # --- reset, snapshot -------------------------------------------------------------------------

    def reset(self) -> None:
        """CTRL.RST: discard the ring, the contexts and the unfinished frame."""
        self.engine.reset()
        if self.dma is not None:
            self.dma.reset()
        share = (PACKET_BUFFER_KIB - (self._regs.peek(PBA) & 0xFFFF)) * 1024
        self.engine.max_frame = max(MIN_FRAME, min(MAX_FRAME, share - FIFO_HEADER))
        self._paused_until_ns = 0
        self.paused = False
        if self._pause_timer is not None:
            self._pause_timer.cancel()
            self._pause_timer = None
        if self._rest_timer is not None:
            self._rest_timer.cancel()
            self._rest_timer = None
        self.resting = self._unasked = self.put_off = False
        self.credit = CREDIT_MAX
        self._again = False

    def loaded(self) -> None:
        """Resume after the whole device is loaded: changes from now on are reported."""
        self._unasked = False
        if self.dma is not None:
            self.dma.show(move=False)

    def state(self) -> TxState:
        """Return what a snapshot needs."""
        return TxState(
            engine=self.engine.state(),
            paused_until_ns=self._paused_until_ns,
            unasked=self._waits_for_doorbell(),
            bus=None if self.dma is None else self.dma.state(),
        )

    def _waits_for_doorbell(self) -> bool:
        """The loaded registers put descriptors between head and tail, without a doorbell."""
        able = not self.stopped_by and not self.put_off and not self._shared.bottom_half
        able = able and (self.dma is None or self.dma.idle)
        return able and self.engine.pending() > 0 and self.room() > 0

    def load(self, state: TxState) -> None:
        """Take back what `state` returned."""
        self.reset()
        self.engine.load(state.engine)
        self._unasked = state.unasked
        if self.dma is not None and state.bus is not None:
            self.dma.load(state.bus)
        if state.paused_until_ns:
            self.pause(state.paused_until_ns)
        elif self.open and self.engine.pending():
            self._later()
