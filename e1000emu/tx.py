"""Transmit control plane: ring registers, doorbell, link push-back, loopback (SDM 3.3-3.5).

The work is the compiled `TxEngine`'s, driven by the compiled `TxPort`: its `pump` runs the engine
until the tail or until the link has no room; it never nests (a doorbell from inside only asks for
another round). After a bounded number of rounds it continues in a later event of the clock, so a
driver that always has more cannot starve other events. A ring can hold more than a wire carries in
a day (65,528 descriptors of 1 MB, cut into segments of one byte). So frames without a new doorbell
are sent in bursts, and the transmitter rests between these, so that time advances.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from e1000emu.errors import ArgumentError
from e1000emu.links import pool
from e1000emu.regs import reg
from e1000emu.txdma import TransmitDma
from fastpath.macpath import BATCH_FRAMES, CREDIT_MAX, ROUNDS, TxPort
from fastpath.txring import (
    RUN_ABORT,
    RUN_DATA_ABORT,
    RUN_OFF,
    TXD_LOW,
    TXDW,
    TxEngine,
)

if TYPE_CHECKING:
    from e1000emu.bus import Bus
    from e1000emu.fields import Field
    from e1000emu.nic import Nic
    from e1000emu.ports import Stage, TimerHandle

__all__ = ["BATCH_FRAMES", "NO_ROOM", "ROUNDS", "Tx"]

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
MIN_RING = 8
NO_ROOM = (1 << 64) - 1
TCTL = reg("TCTL")
TCTL_EN, TCTL_SWXOFF = TCTL.mask("EN"), TCTL.mask("SWXOFF")
TXOFF = reg("STATUS").mask("TXOFF")
STATUS = reg("STATUS").offset
REST_NS, REST_FRAMES = 1_000_000, 1 << 14
"""How long the transmitter rests when its credit is used up, and the frames it may send then:
ten times what a gigabit wire carries."""


def held_back(nic: Nic, control: int) -> int:
    """Return how many descriptors a write-back waits for, by TXDCTL or RXDCTL (SDM 13.4.43).

    With threads, or memory that answers by messages, each is written back at once, since the guest
    cannot tell when.
    """
    count = _descriptors(nic, control, WTHRESH)
    at_once = nic.interrupts.threaded or nic.tx.stage is not None
    return min(count, 1) if at_once else count


def prefetched(nic: Nic, control: int) -> tuple[int, int]:
    """Return PTHRESH and HTHRESH of TXDCTL or RXDCTL in descriptors (SDM 13.4.43)."""
    return _descriptors(nic, control, PTHRESH), _descriptors(nic, control, HTHRESH)


def _descriptors(nic: Nic, control: int, threshold: Field) -> int:
    """Return what a threshold means: descriptors with GRAN, else cache lines."""
    count = threshold.get(control)
    if not control & GRAN:
        count = min(count * nic.pci.cache_line_dwords // DESCRIPTOR_DWORDS, threshold.get(-1))
    return count


class Tx(TxPort):
    """Owns the transmit queue's registers and drives its engine.

    From the compiled base: `open` (the MAC may send: link up, or loopback), `loop` (where frames go
    instead of the link, in MAC or PHY loopback), `pump`, and the doorbell TDT.
    """

    def __init__(self, nic: Nic, bus: Bus | None = None) -> None:
        engine = TxEngine(nic.memory, nic.stats, nic.regs.file, nic.buffer)
        self._bind(nic, engine, nic.shared, nic.interrupts)
        self._regs = nic.regs
        self._use(nic.link)
        self.dma: TransmitDma | None = None if bus is None else TransmitDma(nic, self, bus)
        """Decides when the engine runs, on a bus that takes time."""
        self.fetch = self.dma
        engine.rps = nic.model.rps
        engine.low_cause = TXD_LOW if nic.model.txd_low else 0
        self._scheduled = False
        self._pause_timer: TimerHandle | None = None
        self._rest_timer: TimerHandle | None = None
        self._unasked = False
        """A state is being loaded that holds descriptors for which the doorbell was not rung."""
        self.stage: Stage | None = None
        """Fetches what a run will read, when memory is reached by messages."""
        nic.misuse.derive("tx-tso", lambda: engine.tso_fails)
        nic.misuse.derive("tx-dropped", lambda: engine.mixed_drops + engine.oversize_drops)

    # --- registers -------------------------------------------------------------------------------

    def write_tdh(self, old: int, new: int) -> None:
        """Take a head written by software, which may do so only after a reset (SDM 13.4.39)."""
        self.write_ring(old, new)
        if self.stage is not None:
            self.stage.forget()

    def write_ring(self, old: int, new: int) -> None:
        """Take a new base or length, whenever it is written."""
        self.engine.ring_moved()
        if self.dma is not None:
            self.dma.forget()

    def write_tctl(self, old: int, new: int) -> None:
        """Turn the transmitter on or off; SWXOFF sends one XOFF (SDM 13.4.33).

        A partly fetched frame waits in the FIFO until the transmitter is on again.
        """
        if new & TCTL_SWXOFF:
            self._nic.flow.send_xoff()
        if new & ~old & TCTL_EN:
            self.pump()

    def write_txdctl(self, old: int, new: int) -> None:
        """Take the thresholds of fetching and of write-back."""
        self.update_write_back()

    def update_write_back(self) -> None:
        """React to a change of TXDCTL or of the cache line size."""
        if self._nic.shared.still:
            return  # `Nic.resume` asks again
        changed = held_back(self._nic, self._regs.peek(TXDCTL)) != self.engine.hold
        if changed and self.engine.repay() & TXDW:  # held write-backs would not be counted any more
            self._nic.interrupts.cause(TXDW)
        self.take_threshold()
        self.fill()

    def take_threshold(self) -> None:
        """Tell the engine how many descriptors a write-back waits for, and when to fetch.

        With threads, or messages, it fetches when it sends.
        """
        nic, control = self._nic, self._regs.peek(TXDCTL)
        self.engine.hold = held_back(nic, control)
        low, host = prefetched(nic, control)
        runs_only = nic.interrupts.threaded or self.stage is not None
        self.engine.prefetch(0 if runs_only else max(low, 1), host)

    def fill(self) -> None:
        """Fetch descriptors if some wait and nothing is being sent."""
        if not self.busy and self.engine.fill():
            self._rare(RUN_ABORT)

    def _odd_tail(self) -> None:
        """TDT is the ring's size, which is no index."""
        self._nic.misuse.note("tx-tail-size", self.engine.tail, self.engine.head)

    # --- the work --------------------------------------------------------------------------------

    def pump(self) -> None:
        """Send what the ring holds, as far as the link takes it; in a bottom half, soon."""
        if self._unasked:
            return
        if self._nic.shared.bottom_half:
            self._later()
        else:
            super().pump()

    def pump_now(self) -> None:
        """Send now, with what is in memory or fetched already."""
        faults = self._nic.faults
        if faults is None or self.stage is None:
            super().pump()
        else:
            faults.staged(super().pump)

    # --- what a stage does -----------------------------------------------------------------------

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
        """Return the tail up to which the ring can be run; -1 where it is off, wrong or empty.

        Whether the bus lets the engine reach memory is the stage's to ask.
        """
        engine, tail = self.engine, self._regs.peek(TDT)
        count = engine.len // DESC_BYTES
        tail = 0 if tail == count else tail
        on = self.open and not self.paused and self._regs.peek(TCTL.offset) & TCTL_EN
        if not on or count < MIN_RING or max(engine.head, tail) >= count or engine.head == tail:
            return -1
        return tail

    def run_to(self, end: int) -> int:
        """Send what memory has been read for, up to descriptor `end`; `settle` is to follow.

        Returns RUN_* flags and causes, and from bit 32 on the number of frames.  NO_ROOM: the link
        takes none, and will call when it does.
        """
        nic, loop = self._nic, self.loop
        room = BATCH_FRAMES if loop is not None else min(nic.link.tx_room(), BATCH_FRAMES)
        if room <= 0:
            return NO_ROOM
        batch = pool.get()
        flags: int
        if nic.faults is None:
            flags = self._run(batch, room, end)
        else:
            flags = nic.faults.staged(lambda: self._run(batch, room, end), end)
        frames = len(batch)
        if not frames:
            pool.put(batch)
        else:
            self.batches += 1
            if loop is not None:
                loop(batch)
            else:
                nic.link.transmit(batch)
        return frames << 32 | flags

    def send_frame(self, frame: bytes, *, flow_control: bool = False) -> None:
        """Send a frame that is not of the ring, the link having room for it.

        A flow control frame counts as a packet sent, but not as a good one (SDM 13.7.30, 13.7.44).
        """
        if self._nic.wire_shared:
            pass  # the wire reports when it has sent it
        elif flow_control:
            self._nic.stats.add("TPT")
            self._nic.stats.add("TOT", len(frame) + FCS_BYTES)
        else:
            self.engine.count(frame)
        batch = pool.get()
        batch.append(frame)
        self._nic.link.transmit(batch)

    def _rare(self, flags: int) -> None:
        """Deal with what went wrong."""
        engine = self.engine
        if flags & RUN_OFF:
            self._explain()
        if flags & RUN_ABORT:
            self._nic.misuse.note("tx-abort", engine.base, engine.head)
        if flags & RUN_DATA_ABORT:
            self._nic.misuse.note("tx-data-abort", engine.head)

    def _explain(self) -> None:
        """Say why descriptors wait: the answer to "Tx Unit Hang"."""
        engine, note = self.engine, self._nic.misuse.note
        if engine.head == engine.tail:
            return
        where = engine.head, engine.tail, engine.len
        if not self._regs.peek(TCTL.offset) & TCTL_EN:
            note("tx-disabled", *where)
        elif not self._nic.memory.enabled:
            note("bus-master-off", *where)
        elif engine.len < 128 or max(engine.head, engine.tail - 1) >= engine.len // 16:
            note("tx-ring", *where)
        elif not self.open:
            note("tx-link-down", *where)
            self._defer()
        elif self.paused:
            self._defer()

    def _defer(self) -> None:
        """A PAUSE or the lack of a link holds frames back: count DC (SDM 13.7.11)."""
        self._nic.stats["DC"] += 1

    def _later(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._nic.soon(self._bottom_half)

    def _bottom_half(self) -> None:
        self._scheduled = False
        if self.stage is None:
            self.pump_now()
        else:
            self.stage.run()

    def _rest(self) -> None:
        """The credit is used up (fastpath/macpath.pyx): let time pass, then go on."""
        self.resting = True
        clock = self._nic.clock
        self._rest_timer = clock.call_at(clock.now_ns() + REST_NS, self._rested)

    def _rested(self) -> None:
        self._rest_timer = None
        self.resting = False
        self.credit = max(self.credit, 0) + REST_FRAMES
        self.pump()

    # --- flow control ----------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """A received PAUSE holds the transmitter."""
        return self._paused_until_ns > 0

    def pause(self, until_ns: int) -> None:
        """Stop sending until then (0 = go on): a PAUSE frame came and CTRL.RFCE is set."""
        if self._pause_timer is not None:
            self._pause_timer.cancel()
            self._pause_timer = None
        self._paused_until_ns = until_ns
        if until_ns:
            self._regs.set_bits(STATUS, TXOFF)
            self._pause_timer = self._nic.clock.call_at(until_ns, self._unpause)
        else:
            self._regs.clear_bits(STATUS, TXOFF)
            self.pump()
            self._nic.management.pump()

    def _unpause(self) -> None:
        self._pause_timer = None
        self.pause(0)

    # --- reset, snapshot -------------------------------------------------------------------------

    def reset(self) -> None:
        """CTRL.RST: the ring, the contexts and the unfinished frame go."""
        self.engine.reset()
        if self.dma is not None:
            self.dma.reset()
        share = (PACKET_BUFFER_KIB - (self._regs.peek(PBA) & 0xFFFF)) * 1024
        self.engine.max_frame = max(MIN_FRAME, min(MAX_FRAME, share - FIFO_HEADER))
        self._paused_until_ns = 0
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

    def state(self) -> dict[str, Any]:
        """Return what a snapshot needs."""
        return {
            "engine": self.engine.state(),
            "paused_until_ns": self._paused_until_ns,
            "unasked": self._waits_for_doorbell(),
            "bus": None if self.dma is None else self.dma.state(),
        }

    def _waits_for_doorbell(self) -> bool:
        """The loaded registers put descriptors between head and tail, without a doorbell."""
        able = self.open and not self.paused and not self.resting and not self.put_off
        able = able and not self._nic.shared.bottom_half
        able = able and (self.dma is None or self.dma.idle)
        able = able and bool(self._regs.peek(TCTL.offset) & TCTL_EN) and self._nic.memory.enabled
        if not able or not self.engine.pending():
            return False
        return self.loop is not None or self._nic.link.tx_room() > 0

    def load(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        self.reset()
        self.engine.load(state["engine"])
        self._unasked = bool(state.get("unasked", False))
        if self.dma is not None and state.get("bus") is not None:
            self.dma.load(state["bus"])
        until = int(state["paused_until_ns"])
        if until:
            self.pause(until)
        elif self.open and self.engine.pending():
            self._later()
