"""The transmit DMA on a bus that takes time: when the engine has a descriptor's bytes, and when a
frame that is in the transmit FIFO goes out (SDM 3.5.2.1, 13.4.42, 13.4.45).

The data path is the same as without a bus: the engine runs, the link takes frames.  This file
decides when.  The engine runs for a descriptor (or, in a segmentation context, for a segment) when
its last byte has crossed the bus. The frame that it makes then waits in the FIFO, and leaves it
when the link has it on the wire.

A transfer begins when the FIFO has room for all of a descriptor's bytes.  In a segmentation context
it needs room for a burst: the bytes that the descriptor has left, or those that fit with TSPBP
bytes beside them, but at least TSMT.  With TXDMAC.DPP no bytes of a frame come before the frame
ahead has left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import msgspec

from e1000emu.device.bus import PS, Bus
from e1000emu.device.state import U32, BlockState, Count, Due, moved
from e1000emu.links import pool
from e1000emu.registers.regs import reg
from fastpath.base.batch import FB_HAS_FCS
from fastpath.nic.macpath import TX_DISABLED, TX_NO_LINK, TX_NO_MASTER, TX_NO_RING, TX_NO_WIRE
from fastpath.nic.txring import RUN_ABORT, RUN_OFF

if TYPE_CHECKING:
    from e1000emu.device.mac import FaultHooks
    from e1000emu.device.pci import PciFunction
    from e1000emu.device.regview import Registers
    from e1000emu.links.caps import LinkCaps
    from e1000emu.ports import Clock, TimerHandle
    from fastpath.nic.macpath import MacState, TxPort
    from fastpath.nic.pktbuf import PacketBuffer

TXDMAC, TSPMT = reg("TXDMAC"), reg("TSPMT")
DPP = TXDMAC.mask("DPP")
TSMT, TSPBP = TSPMT.field("TSMT"), TSPMT.field("TSPBP")
WORD, HEADER, DESCRIPTOR = 8, 16, 16
"""Bytes of a word of the FIFO, of what stands before a frame in it, of a descriptor."""
UNLIMITED = 1 << 32
PicoTime = Annotated[int, msgspec.Meta(ge=0, title="ps")]
"""ps on the device's clock; 0: none."""
NO_FETCH = TX_DISABLED | TX_NO_MASTER | TX_NO_RING | TX_NO_LINK
"""Conditions that stop fetching over the bus; a PAUSE does not."""
ON_THE_WIRE = -1
"""In place of a time: the wire reports when a frame is over (`links.station.Station.over`)."""


def words_of(count: int) -> int:
    """Return the words that a frame of `count` bytes takes in the FIFO."""
    return (count + HEADER + 15) // 16 * 2


class TransmitDmaState(BlockState):
    """The transfer in flight, and the frames in the FIFO; the members are those of TransmitDma."""

    frames: list[tuple[U32, Annotated[bytes, msgspec.Meta(min_length=1)]]]
    """FB_* flags and bytes."""
    leaves_ns: Due | None
    free_ps: PicoTime
    until_ps: PicoTime
    step: Count
    come: Count
    burst: Count
    data_ps: PicoTime
    at: Count
    left: Count
    aborted: bool

    def move(self, ns: int) -> None:
        """Move the end of the frame on the wire, and the transfer's times."""
        if self.leaves_ns is not None:
            self.leaves_ns = moved(self.leaves_ns, ns, 0)
        self.free_ps = _moved_ps(self.free_ps, ns)
        self.until_ps = _moved_ps(self.until_ps, ns)
        self.data_ps = _moved_ps(self.data_ps, ns)


def _moved_ps(ps: int, ns: int) -> int:
    return max(0, ps + ns * PS) if ps else 0


class TransmitDma:
    """Fetches for one transmit queue.  Call with the clock's lock held."""

    def __init__(
        self,
        bus: Bus,
        *,
        tx: TxPort,
        fill: Callable[[], None],
        regs: Registers,
        shared: MacState,
        buffer: PacketBuffer,
        caps: LinkCaps,
        clock: Clock,
        pci: PciFunction,
        faults: FaultHooks | None,
    ) -> None:
        """`fill` fetches descriptors if some wait."""
        self.bus = bus
        self._shared, self._buffer, self._caps = shared, buffer, caps
        self._clock, self._pci, self._faults = clock, pci, faults
        self._tx = tx
        self._fill = fill
        self._engine = tx.engine
        self._peek = regs.peek
        self._timers: dict[str, tuple[int, TimerHandle]] = {}
        self._going = self._again = False
        self.resets = 0
        self._waiting: deque[tuple[int, bytes]] = deque()
        """Frames in the FIFO: FB_* flags and bytes; the first may be on the wire."""
        self.reset()

    # --- state -----------------------------------------------------------------------------------

    def reset(self) -> None:
        """Empty the FIFO, and forget transfers in flight."""
        self.resets += 1
        self._waiting.clear()
        self._words = 0
        self._leaves_ns: int | None = None
        """When the first frame leaves, ns, or ON_THE_WIRE; None: the wire does not have it
        yet."""
        self._free_ps = 0
        """When the bus became, or becomes, free, ps."""
        self.forget()
        self.show()
        self.stop()

    def forget(self) -> None:
        """Drop a partly fetched frame, because the ring has changed."""
        self._until_ps = 0
        """When the transfer in flight ends, ps; 0: there is none."""
        self._step = 0
        """Bytes of the transfer in flight."""
        self._come = 0
        """Bytes that the engine has not had yet."""
        self._burst = 0
        """Bytes of a burst that are still to be asked for."""
        self._data_ps = 0
        """When the first word of the transaction came, ps."""
        self._at = 0
        """Its address within a word, plus the bytes since."""
        self._left = 0
        """Bytes that the transaction may still have; 0: there is no transaction."""
        self._aborted = False
        """A ring access has failed: nothing is fetched before the next doorbell or other
        request."""
        self._cancel("fetch")

    def stop(self) -> None:
        """Take every event back."""
        for name in list(self._timers):
            self._cancel(name)

    def show(self, *, move: bool = True) -> None:
        """Update TDFH, TDFT, TDFPC and PBM; sent frames leave their bytes in PBM."""
        self._buffer.exact = True
        self._buffer.tx_wait(len(self._waiting), self._words, move)

    @property
    def idle(self) -> bool:
        """Nothing is in flight, and nothing waits for room or for the wire."""
        return not (self._waiting or self._until_ps or self._come or self._burst)

    @property
    def waiting(self) -> int:
        """Frames in the FIFO."""
        return len(self._waiting)

    def state(self) -> TransmitDmaState:
        """Return what a snapshot needs."""
        return TransmitDmaState.of(self, frames=list(self._waiting))

    def load(self, state: TransmitDmaState) -> None:
        """Take back what `state` returned."""
        self.reset()
        self._waiting.extend(state.frames)
        self._words = sum(words_of(len(data)) for _, data in state.frames)
        state.put_into(self, "frames")
        if state.leaves_ns not in (None, ON_THE_WIRE) and self._waiting:
            self._arm("wire", state.leaves_ns)
        if self._until_ps:
            self._arm("fetch", -(-self._until_ps // PS))

    # --- events ----------------------------------------------------------------------------------

    def go(self) -> None:
        """Begin what can begin, after a doorbell or another request."""
        if self._tx.open and not self._able() and not self._going:
            batch = pool.get()  # the engine says why it does nothing
            flags = self._tx.step(batch, 1, descs=1)
            pool.put(batch)
            self._tx.settle(flags, 0)
        self._aborted = False
        self._go()

    def over(self) -> None:
        """The wire says that a frame is over, sent or given up."""
        if self._leaves_ns == ON_THE_WIRE:
            self._leaves_ns = self._clock.now_ns()
            self._go()

    def _go(self) -> None:
        """Do what can be done now; a nested call repeats it afterwards."""
        if self._going:
            self._again = True
            return
        self._going = True
        try:
            while True:
                self._again = False
                if self._shared.still:
                    self._tx.put_off = True
                    return
                sent = self._send()
                if not (self._fetch() or sent or self._again):
                    return
        finally:
            self._going = False

    def _arm(self, name: str, when_ns: int) -> None:
        """Continue at that time."""
        found = self._timers.get(name)
        if found is not None:
            if found[0] == when_ns:
                return
            found[1].cancel()

        def due() -> None:
            del self._timers[name]
            self._go()

        self._timers[name] = when_ns, self._clock.call_at(when_ns, due)

    def _cancel(self, name: str) -> None:
        found = self._timers.pop(name, None)
        if found is not None:
            found[1].cancel()

    # --- the wire --------------------------------------------------------------------------------

    def _send(self) -> bool:
        """Let the frame that was sent leave the FIFO, and give the wire the next one; return
        whether either has happened."""
        tx, clock, caps = self._tx, self._clock, self._caps
        if not self._waiting:
            return False
        if self._leaves_ns == ON_THE_WIRE:
            return False
        if self._leaves_ns is not None:
            if self._leaves_ns > clock.now_ns():
                self._arm("wire", self._leaves_ns)
                return False
            self._leave()
            return True
        if tx.stopped_by & (TX_DISABLED | TX_NO_WIRE) or tx.room() <= 0:
            return False  # the link says when it has room
        resets, batch = self.resets, pool.get()
        flags, data = self._waiting[0]
        batch.append(data, flags)
        if tx.loop is not None:
            self._leaves_ns = clock.now_ns()
            tx.deliver(batch)
            return True
        self._leaves_ns = ON_THE_WIRE
        tx.deliver(batch)
        if resets == self.resets and caps.shared is None:
            now, timed = clock.now_ns(), caps.timed
            self._leaves_ns = now if timed is None else max(now, timed.busy_ns)
        return True

    def _leave(self) -> None:
        """The first frame has left."""
        self._leaves_ns = None
        self._cancel("wire")
        flags, data = self._waiting.popleft()
        self._words -= words_of(len(data))
        self.show()
        if self._tx.loop is not None or self._caps.shared is None:
            self._engine.count(data, bool(flags & FB_HAS_FCS))

    # --- the bus ---------------------------------------------------------------------------------

    def _able(self) -> bool:
        """The ring has descriptors that may be fetched."""
        return not self._tx.stopped_by & NO_FETCH and self._engine.pending() > 0

    def _fetch(self) -> bool:
        """Advance the transfers; return whether the engine has run or a transfer has ended."""
        now_ps = self._clock.now_ns() * PS
        if self._until_ps:
            if self._until_ps > now_ps:
                self._arm("fetch", -(-self._until_ps // PS))
                return False
            self._until_ps = 0
            self._come += self._step
            self._step = 0
        if self._aborted or not self._able():
            return False
        engine = self._engine
        cached, aborts = engine.cached(), engine.desc_aborts
        self._fill()
        if engine.cached() > cached:
            self._descriptors(now_ps, engine.cached() - cached)
            return True
        ahead = engine.ahead()
        if ahead is None:
            self._come = self._burst = 0
            self._aborted = engine.desc_aborts != aborts
            return False
        addr, stop, rest, words, has, begins, tso = ahead
        free = self._buffer.tx_words - self._words
        if self._come >= stop:
            if tso and stop and self._waiting and words > free:
                return False  # TSPBP was too small for the headers
            return self._run(now_ps)
        if not self._burst:
            lone = bool(self._peek(TXDMAC.offset) & DPP)
            if lone and begins and not self._come and self._waiting:
                return False
            if tso:
                self._burst = self._burst_of(free * WORD, has, rest, stop if lone else UNLIMITED)
            elif words <= free or not self._waiting:
                self._burst = stop
            if not self._burst:
                return False
            self._left = 0
        self._step = min(stop - self._come, self._burst)
        self._burst -= self._step
        self._until_ps = self._transfer(now_ps, addr + self._come, self._step)
        return True

    def _burst_of(self, room: int, has: int, rest: int, limit: int) -> int:
        """Return the bytes of a segmentation context's next burst; 0: it has to wait."""
        control = self._peek(TSPMT.offset)
        if has or self._come:
            room -= has + self._come + HEADER
        left = min(rest, limit) - self._come
        count = min(left, room - TSPBP.get(control))
        if count >= min(left, TSMT.get(control)) or not self._waiting:
            return max(count, 0)
        return 0

    def _run(self, now_ps: int) -> bool:
        """Run the engine on the bytes that have come; return whether it has made progress."""
        tx, engine, resets = self._tx, self._engine, self.resets
        self._come = 0
        batch = pool.get()
        cached, head = engine.cached(), engine.head
        faults = self._faults
        flags: int
        if faults is None:
            flags = tx.step(batch, 1, descs=1)
        else:
            flags = faults.fetched(lambda: tx.step(batch, 1, descs=1))
        frames = len(batch)
        if frames:
            data = bytes(batch[0])
            self._waiting.append((batch.flags(0), data))
            self._words += words_of(len(data))
        pool.put(batch)
        self.show()
        moved = engine.head != head
        fetched = engine.cached() - cached + moved
        if fetched > 0:
            self._descriptors(now_ps, fetched)
        self._aborted = bool(flags & RUN_ABORT)
        if moved or self._aborted:
            self._burst = 0
        tx.settle(flags, frames)
        if resets != self.resets:
            return False
        return bool(moved or frames or fetched > 0) and not flags & (RUN_ABORT | RUN_OFF)

    def _descriptors(self, now_ps: int, count: int) -> None:
        """So many descriptors cross the bus now."""
        self._left = 0
        self._until_ps = self._transfer(now_ps, 0, count * DESCRIPTOR)
        self._left = 0

    def _transfer(self, ps: int, addr: int, count: int) -> int:
        """Return when `count` bytes from `addr` on have come, asked for at `ps`.

        They continue the present transaction (`_left`) or begin one, and take as many as they need.
        """
        bus = self.bus
        if 0 <= ps - self._free_ps < PS:
            ps = self._free_ps  # events are on whole nanoseconds
        else:
            self._left = 0
        while count:
            if not self._left:
                self._data_ps = bus.edge(ps) + bus.lead()
                self._at = addr % bus.width_bytes
                self._left = self._longest()
            part = min(count, self._left)
            self._left -= part
            self._at += part
            addr += part
            count -= part
            ps = self._data_ps + bus.words(0, self._at)
        self._free_ps = ps
        return ps

    def _longest(self) -> int:
        """Return how many bytes a transaction may have."""
        return self._pci.longest_read if self.bus.pci_x else UNLIMITED
