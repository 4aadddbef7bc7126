# cython: language_level=3, embedsignature=True
"""The device between a doorbell and an interrupt: what happens per batch, without Python.

These are the bases of the blocks in ``e1000emu`` (`Tx`, `Rx`, the PCI slot), which add the control
plane. Rare cases are methods of the subclass, called by name: ``_rare``, ``_explain``,
``_later``, ``_with_control``, ``_asleep``, ``_managed``, ``_unusual``.

`TxPort.step` and `RxPort.step` (and `drain`, for frames that wait in the FIFO) run an engine within
a budget. `tell` gives the causes of the run to the interrupt block, and events are the rest. These
methods need no GIL, and nothing else in a device runs an engine: the clock calls them from
`TxPort.send` and `RxPort.receive`, a thread from `DataPath.turn` (fastpath/datapath.pyx), and the
events become calls of Python there, notices here.

The plain-Python twin is ``_ref/macpath.py``. Call everything with the clock's lock held.
"""

from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_AsUnsignedLongMask
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from fastpath.batch cimport FrameBatch
from fastpath.cable cimport BatchPool, CableEnd, FrameSink, fb_bytes
from fastpath.cable import shared as _shared_pool
from fastpath.desccache cimport dc_at
from fastpath.dma cimport dma_resolve
from fastpath.e1000_hw cimport (
    CMD_DEXT, CMD_EOP, CTRL, CTRL_RFCE, CTRL_TFCE, FCRTH, FCRTH_RTH, FCRTL, FCRTL_RTL, FCT,
    MIN_RING, RAL, RDH, RDLEN, RDT, TCTL, TCTL_EN, TDH, TDLEN, TDT, ring_span,
)
from fastpath.irqblock cimport IrqBlock, WriteBack
from fastpath.macctrl cimport mac_control, magic_packet
from fastpath.regfile cimport RegFile, RegHook, reg
from fastpath.rxring cimport RX_ABORT, RX_DATA_ABORT, RXSEQ, RXT0, RxEngine
from fastpath.threads cimport e1k_fence, e1k_get, e1k_put
from fastpath.txring cimport RUN_ABORT, RUN_DELAYED, RUN_MORE, RUN_OFF, TXDW, TxEngine

cdef extern from "bytes.h" nogil:
    uint64_t ld64le(const void *p)

cdef enum:
    _BATCH_FRAMES = 512
    _ROUNDS = 16
    # Frames that a ring may send without a doorbell and without time passing, and how many a
    # doorbell adds.
    # A full ring of large TCP segmentation contexts has 184,000.
    _CREDIT_MAX = 1 << 18
    _CREDIT_DOORBELL = 1 << 13
    CAUSES = 0x1FFFF
    # Bytes of frames that are stored in the peer's memory at a time, few enough to be in the
    # cache still when they are copied.
    DIRECT_BYTES = 64 << 10
    # The same for each piece that a second thread stores.
    PIECE_BYTES = 16 << 10
    PIECES = 8                  # most pieces of one run; a usual run makes five
    PH_TSO = 3
    NOGIL_FROM = 8              # descriptors from which releasing the GIL (50 ns) pays
    NOGIL_BYTES = 16 << 10      # and bytes of received frames: 64 small ones are stored in 1 us
    _WATCH_WAKE = 1
    _WATCH_MANAGEMENT = 2
    _WATCH_MAGIC = 4

BATCH_FRAMES = _BATCH_FRAMES
"""Frames of one engine run, at most."""
CREDIT_MAX = _CREDIT_MAX
"""Frames that a ring sends at once, at most; then time has to pass, or software to ring again."""
CREDIT_DOORBELL = _CREDIT_DOORBELL
ROUNDS = _ROUNDS
"""Engine runs of one `pump`, at most; then the clock's other events come first."""
WATCH_WAKE = _WATCH_WAKE
"""In `RxPort.watching`: the wake-up filters see each batch (`_asleep`)."""
WATCH_MANAGEMENT = _WATCH_MANAGEMENT
"""The management filters do (`_managed`)."""
WATCH_MAGIC = _WATCH_MAGIC
"""The wake-up filters see the batches that have a magic packet for us (WUC.APME)."""


cdef class MacState:
    """State that the blocks of one Nic share: a running engine, a reset that waits for it, memory
    decoding, and whether an engine may start."""

    @property
    def still(self):
        """The device is paused or halted: no engine runs, no frame comes in or goes out."""
        return e1k_get(&self.stopped) != 0

    @still.setter
    def still(self, bint on):
        e1k_put(&self.stopped, on)


cdef class BarWindow:
    """Aligned 32-bit accesses to BAR 0; the rest is the subclass's `_slow_read`, `_slow_write`."""

    def _bind(self, RegFile regs not None, MacState mac not None):
        """Serve `regs` while `mac.memory_on`."""
        self.regs = regs
        self.mac = mac

    cdef inline bint plain(self, int64_t off) noexcept:
        return self.mac.memory_on and not off & 3 and off >= 0

    def bar_read(self, int bar, off, int size):
        """Read from a BAR; all ones when it does not decode."""
        cdef int over = 0
        cdef int64_t at = PyLong_AsLongLongAndOverflow(off, &over)
        if bar == 0 and size == 4 and not over and self.plain(at):
            return self.regs.read32(<uint64_t>at)
        return self._slow_read(bar, off, size)

    def bar_write(self, int bar, off, value, int size):
        """Write to a BAR; vanishes when it does not decode."""
        cdef int over = 0
        cdef int64_t at = PyLong_AsLongLongAndOverflow(off, &over)
        if bar == 0 and size == 4 and not over and self.plain(at):
            self.regs.write32(<uint64_t>at, <uint32_t>PyLong_AsUnsignedLongMask(value))
        else:
            self._slow_write(bar, off, value, size)


cdef class Second:
    """A second thread that stores frames while the engine continues to make them."""

    cdef bint begin(self, RxPort rx, TxPort tx) noexcept:
        """Whether the thread takes `rx` now; until `settle` no other thread touches it."""
        return False

    cdef void post(self, FrameBatch piece) noexcept:
        """Store the piece after the earlier ones. Borrows it until `settle`."""
        pass

    cdef void settle(self) noexcept:
        """Store the remaining pieces together with the thread; return when all are stored."""
        pass

    cdef int done(self, int piece) noexcept:
        """How many frames of a piece were stored. After a piece that was not stored whole, no
        later one is."""
        return 0


cdef class TxPort(RegHook):
    """The transmit side: doorbell, engine runs, hand-over to the link."""

    def _bind(self, nic, TxEngine engine not None, MacState mac not None, IrqBlock irq not None):
        self._nic = nic
        self.engine = engine
        self.mac = mac
        self.irq = irq
        self.pool = <BatchPool>_shared_pool
        self.credit = _CREDIT_MAX

    def _use(self, link):
        """Send to `link` from now on."""
        self._link = link
        self.cable = None
        if isinstance(link, CableEnd) and type(link).transmit is CableEnd.transmit \
                and type(link).tx_room is CableEnd.tx_room:
            self.cable = link

    def _share(self, Second second):
        """Let `second` store frames that are sent into a cable without delay; None: no thread."""
        self.second = second

    cdef bint hot_write(self, reg *r, uint32_t value, int64_t now) noexcept nogil:
        # `on_write` explains why a doorbell sends nothing.
        if (self.worker is None or self.loop is not None or not self.may() or self.odd(value)
                or not self.engine.v[TCTL >> 2] & TCTL_EN or not self.engine.dma.t.enabled):
            return False
        self.engine.v[TDT >> 2] = value
        e1k_fence()
        self.doorbells += 1
        self.worker.rung()
        return True

    cdef int on_write(self, reg *r, uint32_t old, uint32_t new) except -1:
        self.doorbells += 1
        self.credit = min(self.credit + _CREDIT_DOORBELL, <int64_t>_CREDIT_MAX)
        if self.odd(new):
            self._odd_tail()
        if self.worker is not None and self.loop is None:
            self.worker.wake()
        elif self._pumping:
            self._again = True
        elif self.mac.bottom_half:
            self._later()
        else:
            self.send()
        return 0

    cdef bint odd(self, uint32_t tail) noexcept nogil:
        """Whether the tail is the ring's size, which is no index: the engine uses 0."""
        return tail >= MIN_RING and tail == self.engine.v[TDLEN >> 2] >> 4

    cdef bint may(self) noexcept nogil:
        """Whether frames may be sent to the wire or the loopback: it is connected, no PAUSE stops
        them, and the device runs."""
        return self.open and not self._paused_until_ns and not e1k_get(&self.mac.stopped)

    @property
    def busy(self):
        """Whether frames of the ring are on their way from the engine to the link, or with the
        worker."""
        return self._pumping or self.engine.running or (
            self.worker is not None and self.worker.busy())

    def go_on(self):
        """The device runs again: do what was asked for meanwhile."""
        if self.put_off:
            self.put_off = False
            self.pump()

    def pump(self):
        """Send what the ring holds, as far as the link takes it.

        Never nests: a doorbell from inside only asks for another round.
        """
        self.send()

    cdef int send(self) except -1:
        cdef int later
        if e1k_get(&self.mac.stopped):
            self.put_off = True
            return 0
        if self.worker is not None and self.loop is None:
            self.worker.wake()
            return 0
        if self._pumping:
            self._again = True
            return 0
        if self.fetch is not None:
            if not self.may():
                self._explain()
            self.fetch.go()
            return 0
        if not self.may():
            self._explain()
            self.fill()
            return 0
        if self.resting:
            self.fill()
            return 0
        self._pumping = True
        try:
            later = self.rounds()
        finally:
            self._pumping = False
        if later and self.credit <= 0:
            self._rest()
        elif later:
            self._later()
        return 0

    cdef int fill(self) except -1:
        """The wire has no room: fetch descriptors as far as TXDCTL says."""
        if self.engine.chip.have < self.engine.chip.low and self.engine._fill():
            self._rare(RUN_ABORT)
        return 0

    cdef uint32_t step(self, FrameBatch batch, int room) noexcept nogil:
        """Run the engine once: at most `room` frames of the ring go to `batch`; RUN_* and causes.

        The caller gives the frames to the wire and the flags to `tell`."""
        cdef uint32_t flags, head = self.engine.v[TDH >> 2]
        if self.engine.running:     # from inside a message-DMA callback
            return RUN_OFF
        self.engine.running = self.mac.in_engine = True
        self.engine.dma.busy += 1
        flags = self.engine._run(batch, room)
        self.engine.dma.busy -= 1
        self.engine.running = self.mac.in_engine = False
        self.descs += ring_span(head, self.engine.v[TDH >> 2], self.engine.v[TDLEN >> 2] >> 4)
        return flags

    cdef void tell(self, uint32_t flags, uint64_t frames, int64_t now) noexcept nogil:
        """Frames were sent: give the causes of `flags` to the interrupt block."""
        if flags & (CAUSES | RUN_DELAYED):
            self.irq.sent(flags & CAUSES, flags & RUN_DELAYED != 0, frames, self.descs,
                          self.engine.v[TDLEN >> 2] >> 4, now)
            self.descs = 0

    cdef int finish(self, uint32_t flags, uint64_t frames) except -1:
        """`tell`, and the actions that need Python; 1: a reset has ended the run."""
        if flags & ~<uint32_t>(CAUSES | RUN_MORE | RUN_DELAYED):
            self._rare(flags)
        if flags & (CAUSES | RUN_DELAYED):
            self.tell(flags, frames, self.irq.now())
            self.irq.follow()
        if self.mac.reset_pending:
            self._nic.finish_reset()
            return 1
        return 0

    cdef uint32_t run(self, FrameBatch batch, int room) except? 0xFFFFFFFF:
        """`step`, without the GIL when that pays."""
        cdef uint32_t flags
        if self.engine.v[TDT >> 2] - self.engine.v[TDH >> 2] >= NOGIL_FROM:
            with nogil:
                flags = self.step(batch, room)
        else:
            flags = self.step(batch, room)
        return flags

    def _run(self, FrameBatch batch not None, int room, int end):
        """Run the engine once, up to descriptor `end`; `settle` is to follow with the flags and the
        frames."""
        self.engine.prefetched = end
        try:
            return self.run(batch, room)
        finally:
            self.engine.prefetched = -1
            self.engine.chip.have = 0   # messages fetch it again

    def run_one(self, FrameBatch batch not None):
        """Run the engine for one descriptor and one frame at most; `settle` is to follow with the
        flags and the frames."""
        self.engine.most = 1
        self.engine.run_bytes = 0
        try:
            return self.run(batch, 1)
        finally:
            self.engine.most = 1 << 16

    def settle(self, uint32_t flags, uint64_t frames):
        """Raise the causes of `flags`: what the run wrote is in memory."""
        self.finish(flags, frames)

    cdef uint32_t run_beside(self, FrameBatch batch, int room, CableEnd cable,
                             int *sent) except? 0xFFFFFFFF:
        """`run` up to DIRECT_BYTES, if worthwhile in pieces that another thread stores meanwhile.

        The result is that of one run and `cable.send`. `sent` is how many frames were sent in
        pieces, and `batch` is then given away; -1: none were, the frames are in `batch`.
        """
        cdef TxEngine engine = self.engine
        cdef RxPort rx
        cdef FrameBatch piece = batch
        cdef uint32_t flags, more
        cdef size_t used = 0, limit = PIECE_BYTES
        cdef uint64_t nbytes = 0
        cdef int total = 0, done = 0, k
        cdef list pieces
        sent[0] = -1
        engine.run_bytes = PIECE_BYTES
        flags = self.run(batch, room)
        engine.run_bytes = DIRECT_BYTES
        if not flags & RUN_MORE or batch.used < PIECE_BYTES or batch.n >= room:
            return flags            # one run would have ended here too
        rx = (<RxSink>cable.peer.sink).rx if type(cable.peer.sink) is RxSink else None
        if (rx is None or not cable._carrier or not (<RxSink>cable.peer.sink).can_store(batch)
                or not self.foreseen(batch, rx, room) or not self.second.begin(rx, self)):
            engine.run_bytes = DIRECT_BYTES - batch.used
            flags = flags & ~<uint32_t>RUN_MORE | self.run(batch, room - batch.n)
            engine.run_bytes = DIRECT_BYTES
            return flags
        pieces = [batch]
        while True:
            self.second.post(piece)
            total += piece.n
            used += piece.used
            nbytes += fb_bytes(piece)
            if (not flags & RUN_MORE or piece.used < limit or total >= room
                    or used >= DIRECT_BYTES or len(pieces) == PIECES):
                break
            piece = self.pool.get()
            engine.run_bytes = limit = min(<size_t>PIECE_BYTES, DIRECT_BYTES - used)
            more = self.run(piece, room - total)
            flags = flags & ~<uint32_t>RUN_MORE | more
            pieces.append(piece)
        engine.run_bytes = DIRECT_BYTES
        self.second.settle()
        rx.batches += 1
        sent[0] = total
        for k in range(len(pieces)):
            done += self.second.done(k)
        if done < total:
            for piece in pieces[1:]:
                batch.extend(piece)
            cable.sent(batch, done, total, nbytes, 0)
            del pieces[0]
        else:
            cable.sent(None, done, total, nbytes, 0)
        for piece in pieces:
            self.pool.put(piece)
        return flags

    cdef bint foreseen(self, FrameBatch batch, RxPort rx, int room) noexcept:
        """Whether the rest of the run that began `batch` can have no MAC control frame for `rx`."""
        cdef TxEngine engine = self.engine
        cdef uint32_t n = engine.v[TDLEN >> 2] >> 4, at = engine.v[TDH >> 2]
        cdef uint32_t tail = engine.v[TDT >> 2], k = 0
        cdef uint64_t q, have = 0
        cdef uint8_t *ring
        if not rx.engine.v[CTRL >> 2] & CTRL_RFCE:
            return True
        if tail >= n:
            tail = 0
        if engine.s.phase != PH_TSO or engine.s.tso_bad:
            return False
        ring = dma_resolve(&engine.dma.t, engine._base(), <uint64_t>n * 16, False)
        if ring == NULL:
            return False
        while at != tail:
            q = ld64le((ring + <uint64_t>at * 16 if k >= engine.chip.have else
                        dc_at(&engine.chip, k)) + 8)
            k += 1
            if not q >> 24 & CMD_DEXT or (q >> 20 & 0xF) != 1:
                return False
            have += q & 0xFFFFF
            at = at + 1 if at + 1 < n else 0
            if have >= DIRECT_BYTES + <uint64_t>engine.s.desc_off \
                    and engine.s.pay_left >= DIRECT_BYTES:
                return True         # it fills the run
            if q >> 24 & CMD_EOP:
                return at == tail   # it ends the ring
        return False

    cdef int rounds(self) except -1:
        """Run the engine until the ring or the link ends it: 0. 1 = more frames wait, but other
        events come first."""
        # In a bottom half messages that came meanwhile are served after each run.
        cdef bint soft = self.mac.bottom_half
        cdef int left = (1 if soft else _ROUNDS) * _BATCH_FRAMES, room, sent, n
        cdef uint32_t flags
        cdef FrameBatch batch
        cdef CableEnd cable = self.cable if self.cable is self._link else None
        cdef object loop
        while left > 0:
            self._again = False
            loop = self.loop
            room = _BATCH_FRAMES
            self.engine.run_bytes = 0
            if loop is None:
                if cable is not None:
                    room = min(cable.room(), <int64_t>_BATCH_FRAMES)
                    if not soft and cable.direct():
                        self.engine.run_bytes = DIRECT_BYTES
                else:
                    room = min(<int64_t>self._link.tx_room(), <int64_t>_BATCH_FRAMES)
                if room <= 0:
                    self.fill()
                    return 0  # tx_ready goes on
            batch = self.pool.get()
            sent = -1
            if self.engine.run_bytes and self.second is not None:
                flags = self.run_beside(batch, room, cable, &sent)
            else:
                flags = self.run(batch, room)
            n = sent if sent >= 0 else batch.n
            # A run that DIRECT_BYTES cut short counts as part of a whole one.
            left -= n if flags & RUN_MORE and self.engine.run_bytes else _BATCH_FRAMES
            if sent >= 0:
                self.batches += 1
                self.credit -= sent
            elif batch.n:
                self.batches += 1
                self.credit -= batch.n
                if loop is None and cable is not None:
                    cable.send(batch)
                elif loop is None:
                    self._link.transmit(batch)
                else:
                    loop(batch)
            else:
                self.pool.put(batch)
            if self.finish(flags, n):
                return 0
            if not (flags & RUN_MORE or self._again):
                return 0
            if not self.may():
                self.put_off = e1k_get(&self.mac.stopped) != 0
                return 0
            if self.credit <= 0:
                return 1
        return 1


cdef class RxPort(RegHook):
    """The receive side: frames of a link to the engine, causes to the interrupt."""

    def _bind(self, nic, RxEngine engine not None, MacState mac not None, IrqBlock irq not None):
        self._nic = nic
        self.engine = engine
        self.mac = mac
        self.irq = irq

    cdef bint hot_write(self, reg *r, uint32_t value, int64_t now) noexcept nogil:
        if (self.worker is None or self.odd(value) or self._held
                or (self.waits() and not self.worker.drains())):
            return False
        self.engine.v[RDT >> 2] = value
        self.doorbells += 1
        e1k_fence()             # it looks at the tail after it has said that it waits
        self.worker.refilled()
        return True

    cdef int on_write(self, reg *r, uint32_t old, uint32_t new) except -1:
        self.doorbells += 1
        if self.odd(new):
            self._odd_tail()
        if self.stage is not None:
            self._later()           # `stage` fetches the descriptors before the engine may use them
            return 0
        if self.worker is not None:
            self.worker.wake()
        if self.waits() or self.engine._wants():
            self.kick()             # the subclass's, which may defer it
        return 0

    cdef bint odd(self, uint32_t tail) noexcept nogil:
        """The tail is no index of the ring, or the ring is too short for any."""
        cdef uint32_t count = self.engine.v[RDLEN >> 2] >> 4
        return tail and (tail >= count or count < MIN_RING)

    cdef bint waits(self) noexcept nogil:
        """Whether frames wait for descriptors, in the FIFO or with a link that holds them."""
        return self._held or self.engine.fifo.count

    cdef int control(self, FrameBatch batch, int start) noexcept nogil:
        """The first MAC control frame (FCT) from `start` on; `batch.n` when there is none or
        CTRL.RFCE is 0."""
        if not self.engine.v[CTRL >> 2] & CTRL_RFCE:
            return batch.n
        return mac_control(batch, start, self.engine.v[FCT >> 2] & 0xFFFF)

    cdef bint special(self, FrameBatch batch, int start) noexcept nogil:
        """Whether Python must see the frames first: wake-up or management filters are on, or there
        is a magic packet or a MAC control frame for this device."""
        if self.watching & ~_WATCH_MAGIC or self.control(batch, start) < batch.n:
            return True
        return self.watching and (
            magic_packet(batch, start, <const uint8_t *>&self.engine.v[RAL >> 2]) < batch.n)

    cdef bint crosses(self) noexcept nogil:
        """The FIFO has crossed a threshold that sends PAUSE frames (CTRL.TFCE, SDM 13.4.23)."""
        cdef uint32_t *v = self.engine.v
        cdef uint32_t used = self.engine.fifo.fill << 3, high = v[FCRTH >> 2] & FCRTH_RTH
        if not v[CTRL >> 2] & CTRL_TFCE or not high:
            return False
        return used <= v[FCRTL >> 2] & FCRTL_RTL if self.xoff_sent else used > high

    cdef void enter(self) noexcept nogil:
        """Mark the engine as running, until `leave`."""
        self.engine.running = self.mac.in_engine = True
        self.engine.dma.busy += 1

    cdef void leave(self) noexcept nogil:
        self.engine.dma.busy -= 1
        self.engine.running = self.mac.in_engine = False

    cdef int store(self, FrameBatch batch, int start, bint hold) noexcept nogil:
        """Store frames of `batch` from `start` on, within `enter`; the index after the last.

        The caller gives the engine's causes to `tell`."""
        cdef uint32_t head = self.engine.v[RDH >> 2]
        cdef int end = self.engine._receive(batch, start, hold)
        self.took(end - start, head)
        return end

    cdef int step(self, FrameBatch batch, int start, bint hold, int64_t now,
                  uint32_t *events) noexcept nogil:
        """Take frames of `batch` from `start` on: the index after the last one that is done.

        The clock and a worker both call this; it does all that needs no Python. `events` tells
        `finish`, which has the GIL, what remains: RX_LOOK, or the result of the method `events`.
        """
        cdef int end
        events[0] = 0
        if not self.open:
            return batch.n              # the port is closed: the frames are lost
        if self.special(batch, start):
            events[0] = RX_LOOK
            return start
        self.batches += 1
        if self.engine.running:         # from inside a message-DMA callback
            return start
        self.enter()
        end = self.store(batch, start, hold)
        self.leave()
        events[0] = self.events(now)
        return end

    cdef uint32_t drain(self, int64_t now) noexcept nogil:
        """Fetch descriptors, and store frames of the FIFO while there are any; RX_* as `step`."""
        cdef uint32_t head = self.engine.v[RDH >> 2]
        cdef int waiting = self.engine.fifo.count
        if self.mac.in_engine or not (waiting or self.engine._wants()):
            return 0
        self.enter()
        self.engine._kick()
        self.leave()
        self.took(waiting - <int>self.engine.fifo.count, head)
        return self.events(now)

    cdef uint32_t events(self, int64_t now) noexcept nogil:
        """Take the causes of engine runs; `tell` them, unless writes to memory are still pending.

        Returns causes, RX_ABORT, RX_DATA_ABORT and RX_LEVEL."""
        cdef uint32_t out = self.engine.s.causes
        self.engine.s.causes = 0
        if self.stage is None:
            self.tell(out, now)
        return out | RX_LEVEL if self.crosses() else out

    cdef void took(self, int frames, uint32_t head) noexcept nogil:
        """An engine run that began at `head` has stored `frames`."""
        self.frames += frames
        self.descs += ring_span(head, self.engine.v[RDH >> 2], self.engine.v[RDLEN >> 2] >> 4)

    cdef void tell(self, uint32_t causes, int64_t now) noexcept nogil:
        """Frames were stored: give `causes` to the interrupt block."""
        if causes & CAUSES:
            self.irq.received(causes & CAUSES, self.frames, self.descs,
                              self.engine.v[RDLEN >> 2] >> 4, now)
            self.frames = 0
            self.descs = 0

    cdef int finish(self, uint32_t events) except -1:
        """Do what remains of a step, after its writes have reached memory."""
        if self.stage is not None:
            self.stage.after(events & ~<uint32_t>RX_LEVEL)
            return 0
        return self.act(events)

    cdef int act(self, uint32_t events) except -1:
        """The part that needs Python; causes were reported already."""
        if events & (RX_ABORT | RX_DATA_ABORT | RXSEQ):
            self._unusual(events)
        if events & RX_LEVEL:
            self._nic.flow.fifo_changed()
        if events & CAUSES:
            self.irq.follow()
        if self.mac.reset_pending:
            self._nic.finish_reset()
        return 0

    cdef int after(self) except -1:
        """Report engine runs (`store`) whose causes were not reported yet."""
        return self.finish(self.events(self.irq.now()))

    def settle(self, uint32_t causes):
        """Raise `causes`: what the run wrote is in memory."""
        self.tell(causes, self.irq.now())
        self.act(causes | RX_LEVEL if self.crosses() else causes)

    cdef int run(self, FrameBatch batch, int start, bint hold) except -1:
        """`store` without the GIL when that pays; `after` is to follow."""
        cdef int end
        if self.engine.running:
            return start
        self.enter()
        if batch.used >= NOGIL_BYTES:
            with nogil:
                end = self.store(batch, start, hold)
        else:
            end = self.store(batch, start, hold)
        self.leave()
        return end

    def receive(self, FrameBatch batch not None, int start, bint hold):
        """Take frames from the link (LinkPort.receive).  Borrows `batch` until return."""
        if start < 0:
            raise IndexError(f"receive: start {start} is negative")
        if e1k_get(&self.mac.stopped):
            return self.stalled(batch, start, hold)
        return self.take(batch, start, hold)

    cdef int stalled(self, FrameBatch batch, int start, bint hold) except -1:
        """Frames arrive while the device is paused: they stay with the link, or wait in the FIFO
        while it has room."""
        cdef bint master = self.engine.dma.t.enabled
        if start >= batch.n or self.mac.halted:
            return batch.n
        self.put_off = True
        if hold:
            self._held = True
            return start
        self.engine.dma.t.enabled = False       # so no descriptor is free
        try:
            return self.take(batch, start, False)
        finally:
            self.engine.dma.t.enabled = master

    cdef int take(self, FrameBatch batch, int start, bint hold) except -1:
        """`receive`, when the device runs."""
        cdef int end
        cdef uint32_t events
        cdef int64_t now
        if not self.open:
            return batch.n
        now = self.irq.now()
        if batch.used >= NOGIL_BYTES:
            with nogil:
                end = self.step(batch, start, hold, now, &events)
        else:
            end = self.step(batch, start, hold, now, &events)
        if events & RX_LOOK:
            return self.look(batch, start, hold)
        if end < batch.n:
            self._held = True
        self.finish(events)
        return end

    cdef int look(self, FrameBatch batch, int start, bint hold) except -1:
        """Frames that Python sees first: wake-up or management filters are on, or there is a MAC
        control frame."""
        self.batches += 1
        if self.watching & _WATCH_MANAGEMENT:
            return self._managed(batch, start, hold)
        if self.watching and self._asleep(batch, start):
            return batch.n
        return self.others(batch, start, hold)

    def _others(self, FrameBatch batch not None, int start, bint hold):
        """Take frames that no filter in Python keeps; return the index after the last one taken."""
        return self.others(batch, start, hold)

    cdef int others(self, FrameBatch batch, int start, bint hold) except -1:
        cdef int end = self.control(batch, start)
        if end < batch.n:
            return self._with_control(batch, start, end, hold)
        end = self.run(batch, start, hold)
        if end < batch.n:
            self._held = True
        self.after()
        return end

    def go_on(self):
        """The device runs again: do what was asked for meanwhile."""
        if self.put_off:
            self.put_off = False
            self.kick()

    def _run(self, FrameBatch batch not None, bint hold):
        """Run the engine on all of `batch`; return how many frames it took. Call `_after` next."""
        return self.run(batch, 0, hold)

    def _after(self):
        """Report the causes that engine runs have collected."""
        self.after()

    def kick(self):
        """Drain the FIFO and let a holding link continue: descriptors are free, or the receiver is
        on."""
        if self.mac.in_engine:
            return
        if e1k_get(&self.mac.stopped):
            self.put_off = True
            return
        if self.engine.fifo.count > 0 or self.engine._wants():
            self.finish(self.drain(self.irq.now()))
        if self._held and self.engine.ready():
            self._release()
        if self.worker is not None:
            self.worker.wake()


cdef class HeldBack(WriteBack):
    """The descriptors of both rings that WTHRESH holds (SDM 13.4.43, 13.4.46)."""

    def __init__(self, TxPort tx not None, RxPort rx not None):
        self.tx = tx.engine
        self.rx = rx.engine

    cdef void write_back(self, uint32_t bits) noexcept nogil:
        if bits & TXDW and self.tx.s.owed and not self.tx.running:
            self.tx.dma.busy += 1
            self.tx._repay(self.tx.v[TDH >> 2])
            self.tx.dma.busy -= 1
        if bits & RXT0 and self.rx.s.owed and not self.rx.running:
            self.rx.dma.busy += 1
            self.rx._repay(self.rx.v[RDH >> 2])
            self.rx.dma.busy -= 1


cdef class RxSink(FrameSink):
    """The receive side as a cable uses it: frames into memory at once, the causes later."""

    def __init__(self, RxPort rx not None):
        self.rx = rx

    cdef bint can_store(self, FrameBatch batch) noexcept:
        """Whether the engine may store the batch now; otherwise an event gives it to `receive`."""
        cdef RxPort rx = self.rx
        if (not rx.open or rx.worker is not None or rx.stage is not None or rx.mac.bottom_half
                or rx._held or rx.mac.in_engine or e1k_get(&rx.mac.stopped)):
            return False
        return not rx.special(batch, 0)

    cpdef int store(self, FrameBatch batch) except -1:
        if not self.can_store(batch):
            return 0
        self.rx.batches += 1
        return self.rx.run(batch, 0, True)

    cpdef int stored(self) except -1:
        return self.rx.after()
