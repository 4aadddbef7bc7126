# cython: language_level=3, embedsignature=True
"""The device between a doorbell and an interrupt: what happens per batch, without Python.

These are the bases of the blocks in ``e1000emu`` (`Tx`, `Rx`, the PCI slot), which add the control
plane. Rare cases are methods of the subclass, called by name: ``_rare``, ``_explain``,
``_later``, ``_with_control``, ``_asleep``, ``_managed``, ``_unusual``.

There is one gate each way. `TxPort._step` and `RxPort._receive` (and `drain`, for frames that wait
in the FIFO) run an engine within a budget, and nothing else in a device does. The clock calls them
from `TxPort.send` and `RxPort.receive`, a thread from `DataPath.turn` (fastpath/nic/datapath.pyx).
They need no GIL. `raise_causes` gives the causes of the run to the
interrupt block, and events are the rest: calls of Python here, notices in the thread.

Call everything with the clock's lock held.
"""

from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_AsUnsignedLongMask
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from fastpath.base.batch cimport FrameBatch
from fastpath.nic.cable cimport BatchPool, CableEnd, FrameSink
from fastpath.nic.cable import shared as _shared_pool
from fastpath.nic.e1000_hw cimport (
    CTRL, CTRL_RFCE, CTRL_TFCE, FCRTH, FCRTH_RTH, FCRTL, FCRTL_RTL, FCT, MIN_RING, RAL, RDH, RDLEN,
    RDT, TCTL, TCTL_EN, TDH, TDLEN, TDT, ring_span,
)
from fastpath.nic.irqblock cimport IrqBlock, WriteBack
from fastpath.nic.macctrl cimport mac_control, magic_packet
from fastpath.nic.regfile cimport RegFile, RegHook, reg
from fastpath.nic.rxring cimport RX_ABORT, RX_DATA_ABORT, RXSEQ, RXT0, RxEngine
from fastpath.base.threads cimport e1k_fence, e1k_get, e1k_put
from fastpath.nic.txring cimport (
    RUN_ABORT, RUN_DELAYED, RUN_MORE, RUN_OFF, TX_ALL, TXDW, TxEngine, tx_budget, tx_budget_of,
)

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


cdef class TxPort(RegHook):
    """The transmit side: doorbell, engine runs, hand-over to the link.

    The driver of the engine calls `step` with a budget, `deliver` with the frames, and then
    `settle` with the flags. It is the clock (`rounds`), a stage before memory that answers by
    messages, or a bus that takes time. A worker (`DataPath`) calls `step` too, and has a wire of
    its own.

    The subclass has `_rare(flags)`, `_explain()`, `_later()` and `_rest()`, which sets `resting`
    and, some time later, clears it, gives credit and pumps.
    """

    def __cinit__(self):
        self.stops = TX_NO_LINK

    def _bind(self, TxEngine engine not None, MacState mac not None, IrqBlock irq not None,
              finish_reset):
        self.finish_reset = finish_reset
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

    # --- what stops it ---------------------------------------------------------------------------

    cdef int stop(self, int why, bint on) except -1:
        e1k_put(&self.stops, self.stops | why if on else self.stops & ~why)
        return 0

    @property
    def open(self):
        """The MAC may send: there is a link, or loopback."""
        return not self.stops & TX_NO_LINK

    @open.setter
    def open(self, bint on):
        self.stop(TX_NO_LINK, not on)

    @property
    def paused(self):
        """A received PAUSE holds the transmitter."""
        return self.stops & TX_XOFF != 0

    @paused.setter
    def paused(self, bint on):
        self.stop(TX_XOFF, on)

    @property
    def resting(self):
        """The credit is used up: nothing is sent until time has passed."""
        return self.stops & TX_RESTING != 0

    @resting.setter
    def resting(self, bint on):
        self.stop(TX_RESTING, on)

    cdef bint may(self) noexcept nogil:
        """Whether frames may be sent to the wire or the loopback."""
        return not (e1k_get(&self.stops) & TX_NO_WIRE or e1k_get(&self.mac.stopped))

    cdef uint32_t stopped(self) noexcept nogil:
        """TX_* bits of all that keeps the ring's frames from being sent, apart from room."""
        cdef uint32_t out = <uint32_t>e1k_get(&self.stops)
        if not self.engine.v[TCTL >> 2] & TCTL_EN:
            out |= TX_DISABLED
        if not self.engine.dma.t.enabled:
            out |= TX_NO_MASTER
        if self.engine._pending() < 0:
            out |= TX_NO_RING
        if e1k_get(&self.mac.stopped):
            out |= TX_STILL
        return out

    @property
    def stopped_by(self):
        """TX_* bits of all that keeps the ring's frames from being sent, apart from room; the
        lowest one is the reason to report."""
        return self.stopped()

    # --- doorbell --------------------------------------------------------------------------------

    cdef bint hot_write(self, reg *r, uint32_t value, int64_t now) noexcept nogil:
        # `on_write` explains why a doorbell sends nothing.
        if (self.worker is None or self.loop is not None or self.bad_tail(value)
                or self.stopped()):
            return False
        self.engine.v[TDT >> 2] = value
        e1k_fence()
        self.doorbells += 1
        self.worker.tx_doorbell()
        return True

    cdef int on_write(self, reg *r, uint32_t old, uint32_t new) except -1:
        self.doorbells += 1
        self.credit = min(self.credit + _CREDIT_DOORBELL, <int64_t>_CREDIT_MAX)
        if self.bad_tail(new):
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

    cdef bint bad_tail(self, uint32_t tail) noexcept nogil:
        """Whether the tail is the ring's size, which is no index: the engine uses 0."""
        return tail >= MIN_RING and tail == self.engine.v[TDLEN >> 2] >> 4

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
        if not self.may():
            self._explain()
        if self.fetch is not None:
            self.fetch.go()
            return 0
        if self.stops:
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

    # --- the gate --------------------------------------------------------------------------------

    cdef uint32_t _step(self, FrameBatch batch, const tx_budget *budget) noexcept nogil:
        """Run the engine once, with frames of the ring to `batch`: RUN_* and causes.

        The caller gives the frames to the wire, and then the flags to `raise_causes` or `finish`.
        """
        cdef uint32_t flags, head = self.engine.v[TDH >> 2]
        if self.engine.running:     # from inside a message-DMA callback
            return RUN_OFF
        self.engine.running = self.mac.in_engine = True
        self.engine.dma.busy += 1
        flags = self.engine._run(batch, budget)
        self.engine.dma.busy -= 1
        self.engine.running = self.mac.in_engine = False
        if budget.end >= 0:
            self.engine.chip.have = 0       # messages fetch it again
        self.descs += ring_span(head, self.engine.v[TDH >> 2], self.engine.v[TDLEN >> 2] >> 4)
        return flags

    cdef uint32_t run(self, FrameBatch batch, const tx_budget *budget) except? 0xFFFFFFFF:
        """`_step`, without the GIL when that pays."""
        cdef uint32_t flags
        if self.engine.v[TDT >> 2] - self.engine.v[TDH >> 2] >= NOGIL_FROM:
            with nogil:
                flags = self._step(batch, budget)
        else:
            flags = self._step(batch, budget)
        return flags

    def step(self, FrameBatch batch not None, int frames, *, int end=-1, uint32_t descs=TX_ALL):
        """Run the engine once: at most `frames` go to `batch`, of at most `descs` descriptors
        before `end` (-1: the tail). RUN_* and causes.

        `deliver` is to follow with the frames, then `settle` with the flags."""
        cdef tx_budget budget = tx_budget_of(frames)
        budget.end = end
        budget.descs = descs
        return self.run(batch, &budget)

    cdef inline bint wired(self) noexcept:
        """Whether frames go to `cable`."""
        return self.cable is not None and self.cable is self._link and self.loop is None

    cdef int _room(self) except? -1:
        if self.wired():
            return <int>min(self.cable.room(), <int64_t>_BATCH_FRAMES)
        if self.loop is not None:
            return _BATCH_FRAMES
        return <int>min(<int64_t>self._link.tx_room(), <int64_t>_BATCH_FRAMES)

    def room(self):
        """Frames that link or loopback take now, at most BATCH_FRAMES; the link that takes none
        calls when it does."""
        return self._room()

    cdef int _deliver(self, FrameBatch batch) except -1:
        if not batch.n:
            self.pool.put(batch)
            return 0
        self.batches += 1
        self.credit -= batch.n
        if self.wired():
            self.cable.send(batch)
        elif self.loop is not None:
            self.loop(batch)
        else:
            self._link.transmit(batch)
        return 0

    def deliver(self, FrameBatch batch not None):
        """Give frames to the link, or to the loopback.  Takes ownership of `batch`."""
        self._deliver(batch)

    cdef void raise_causes(self, uint32_t flags, uint64_t frames, int64_t now) noexcept nogil:
        """Frames were sent: give the causes of `flags` to the interrupt block."""
        if flags & (CAUSES | RUN_DELAYED):
            self.irq.sent(flags & CAUSES, flags & RUN_DELAYED != 0, frames, self.descs,
                          self.engine.v[TDLEN >> 2] >> 4, now)
            self.descs = 0

    cdef int finish(self, uint32_t flags, uint64_t frames) except -1:
        """`raise_causes`, and the actions that need Python; 1: a reset has ended the run."""
        if flags & ~<uint32_t>(CAUSES | RUN_MORE | RUN_DELAYED):
            self._rare(flags)
        if flags & (CAUSES | RUN_DELAYED):
            self.raise_causes(flags, frames, self.irq.now())
            self.irq.follow()
        if self.mac.reset_pending:
            self.finish_reset()
            return 1
        return 0

    def settle(self, uint32_t flags, uint64_t frames):
        """Raise the causes of `flags`: what the run wrote is in memory."""
        self.finish(flags, frames)

    cdef int rounds(self) except -1:
        """Run the engine until the ring or the link ends it: 0. 1 = more frames wait, but other
        events come first."""
        # In a bottom half messages that came meanwhile are served after each run.
        cdef bint soft = self.mac.bottom_half
        cdef int left = (1 if soft else _ROUNDS) * _BATCH_FRAMES, n
        cdef uint32_t flags
        cdef FrameBatch batch
        cdef tx_budget budget = tx_budget_of(0)
        while left > 0:
            self._again = False
            budget.frames = self._room()
            if budget.frames <= 0:
                self.fill()
                return 0            # tx_ready goes on
            budget.nbytes = 0
            if not soft and self.wired() and self.cable.direct():
                budget.nbytes = DIRECT_BYTES
            batch = self.pool.get()
            flags = self.run(batch, &budget)
            n = batch.n
            # A run that DIRECT_BYTES cut short counts as part of a whole one.
            left -= n if flags & RUN_MORE and budget.nbytes else _BATCH_FRAMES
            self._deliver(batch)
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
    """The receive side: frames of a link to the engine, causes to the interrupt.

    Frames come in by `receive` (a link, a worker), by `RxSink` (a cable that stores them at once)
    and by `_store` (the loopback, and what the filters in Python leave). All of these end in
    `_receive`, which runs the engine.

    The subclass has `_with_control(batch, start, first, hold)`, `_unusual(causes)`, `_odd_tail()`,
    `_release()`, `_later()`.
    """

    def _bind(self, RxEngine engine not None, MacState mac not None, IrqBlock irq not None,
              finish_reset):
        self.finish_reset = finish_reset
        self.engine = engine
        self.mac = mac
        self.irq = irq

    # --- doorbell --------------------------------------------------------------------------------

    cdef bint hot_write(self, reg *r, uint32_t value, int64_t now) noexcept nogil:
        if (self.worker is None or self.bad_tail(value) or self._held
                or (self.frames_wait() and not self.worker.drains())):
            return False
        self.engine.v[RDT >> 2] = value
        self.doorbells += 1
        e1k_fence()             # it looks at the tail after it has said that it waits
        self.worker.rx_doorbell()
        return True

    cdef int on_write(self, reg *r, uint32_t old, uint32_t new) except -1:
        self.doorbells += 1
        if self.bad_tail(new):
            self._odd_tail()
        if self.stage is not None:
            self._later()           # `stage` fetches the descriptors before the engine may use them
            return 0
        if self.worker is not None:
            self.worker.wake()
        if self.frames_wait() or self.engine._wants():
            self.kick()             # the subclass's, which may defer it
        return 0

    cdef bint bad_tail(self, uint32_t tail) noexcept nogil:
        """The tail is no index of the ring, or the ring is too short for any."""
        cdef uint32_t count = self.engine.v[RDLEN >> 2] >> 4
        return tail and (tail >= count or count < MIN_RING)

    cdef bint frames_wait(self) noexcept nogil:
        """Whether frames wait for descriptors, in the FIFO or with a link that holds them."""
        return self._held or self.engine.fifo.count

    # --- filters in Python, flow control ---------------------------------------------------------

    cdef int find_control(self, FrameBatch batch, int start) noexcept nogil:
        """The first MAC control frame (FCT) from `start` on; `batch.n` when there is none or
        CTRL.RFCE is 0."""
        if not self.engine.v[CTRL >> 2] & CTRL_RFCE:
            return batch.n
        return mac_control(batch, start, self.engine.v[FCT >> 2] & 0xFFFF)

    cdef bint must_filter(self, FrameBatch batch, int start) noexcept nogil:
        """Whether Python must see the frames first: wake-up or management filters are on, or there
        is a magic packet or a MAC control frame for this device."""
        if self.watching & ~_WATCH_MAGIC or self.find_control(batch, start) < batch.n:
            return True
        return self.watching and (
            magic_packet(batch, start, <const uint8_t *>&self.engine.v[RAL >> 2]) < batch.n)

    cdef bint _pause_due(self) noexcept nogil:
        cdef uint32_t *v = self.engine.v
        cdef uint32_t used = self.engine.fifo.fill << 3, high = v[FCRTH >> 2] & FCRTH_RTH
        if not v[CTRL >> 2] & CTRL_TFCE or not high:
            return False
        return used <= v[FCRTL >> 2] & FCRTL_RTL if self.xoff_sent else used > high

    @property
    def pause_due(self):
        """The FIFO has crossed the threshold at which the next PAUSE frame is sent: FCRTH, or FCRTL
        when the last one was an XOFF (CTRL.TFCE, SDM 13.4.23)."""
        return self._pause_due()

    # --- the gate --------------------------------------------------------------------------------

    cdef void begin(self) noexcept nogil:
        """Mark the engine as running, until `end`."""
        self.engine.running = self.mac.in_engine = True
        self.engine.dma.busy += 1

    cdef void end(self) noexcept nogil:
        self.engine.dma.busy -= 1
        self.engine.running = self.mac.in_engine = False

    cdef int _receive(self, FrameBatch batch, int start, bint hold, int64_t now,
                      uint32_t *events) noexcept nogil:
        """Take frames of `batch` from `start` on: the index after the last one that is done.

        This is all that needs no Python. `events` tells `finish`, which has the GIL, what remains:
        RX_FILTER, or the result of `collect_causes`. With NULL the frames are only stored, since
        nothing filters them any more; `report` is to follow.
        """
        cdef int end
        cdef uint32_t head
        if events != NULL:
            events[0] = 0
            if not self.open:
                return batch.n          # the port is closed: the frames are lost
            if self.must_filter(batch, start):
                events[0] = RX_FILTER
                return start
            self.batches += 1
        if self.engine.running:         # from inside a message-DMA callback
            return start
        head = self.engine.v[RDH >> 2]
        self.begin()
        end = self.engine._receive(batch, start, hold)
        self.count_stored(end - start, head)
        self.end()
        if events != NULL:
            events[0] = self.collect_causes(now)
        return end

    cdef uint32_t drain(self, int64_t now) noexcept nogil:
        """Fetch descriptors, and store frames of the FIFO while there are any; RX_* as
        `_receive`."""
        cdef uint32_t head = self.engine.v[RDH >> 2]
        cdef int waiting = self.engine.fifo.count
        if self.mac.in_engine or not (waiting or self.engine._wants()):
            return 0
        self.begin()
        self.engine._kick()
        self.end()
        self.count_stored(waiting - <int>self.engine.fifo.count, head)
        return self.collect_causes(now)

    cdef void count_stored(self, int frames, uint32_t head) noexcept nogil:
        """An engine run that began at `head` has stored `frames`."""
        self.frames += frames
        self.descs += ring_span(head, self.engine.v[RDH >> 2], self.engine.v[RDLEN >> 2] >> 4)

    cdef uint32_t collect_causes(self, int64_t now) noexcept nogil:
        """Take the causes of engine runs; raise them, unless writes to memory are still pending.

        Returns causes, RX_ABORT, RX_DATA_ABORT and RX_LEVEL."""
        cdef uint32_t out = self.engine.s.causes
        self.engine.s.causes = 0
        if self.stage is None:
            self.raise_causes(out, now)
        return out | RX_LEVEL if self._pause_due() else out

    cdef void raise_causes(self, uint32_t causes, int64_t now) noexcept nogil:
        """Frames were stored: give `causes` to the interrupt block."""
        if causes & CAUSES:
            self.irq.received(causes & CAUSES, self.frames, self.descs,
                              self.engine.v[RDLEN >> 2] >> 4, now)
            self.frames = 0
            self.descs = 0

    cdef int finish(self, uint32_t events) except -1:
        """Do what remains of a run, after its writes have reached memory."""
        if self.stage is not None:
            self.stage.after(events & ~<uint32_t>RX_LEVEL)
            return 0
        return self.handle(events)

    cdef int handle(self, uint32_t events) except -1:
        """Do what needs Python; the causes are raised already."""
        if events & (RX_ABORT | RX_DATA_ABORT | RXSEQ):
            self._unusual(events)
        if events & RX_LEVEL:
            self.fifo_changed()
        if events & CAUSES:
            self.irq.follow()
        if self.mac.reset_pending:
            self.finish_reset()
        return 0

    cdef int report(self) except -1:
        return self.finish(self.collect_causes(self.irq.now()))

    def settle(self, uint32_t causes):
        """Raise `causes`: what the run wrote is in memory."""
        self.raise_causes(causes, self.irq.now())
        self.handle(causes | RX_LEVEL if self._pause_due() else causes)

    # --- frames of the link ----------------------------------------------------------------------

    cdef int accept(self, FrameBatch batch, int start, bint hold, int64_t now,
                    uint32_t *events) except -1:
        """`_receive`, without the GIL when that pays."""
        cdef int end
        if batch.used >= NOGIL_BYTES:
            with nogil:
                end = self._receive(batch, start, hold, now, events)
        else:
            end = self._receive(batch, start, hold, now, events)
        return end

    def receive(self, FrameBatch batch not None, int start, bint hold):
        """Take frames from the link (LinkPort.receive).  Borrows `batch` until return."""
        if start < 0:
            raise IndexError(f"receive: start {start} is negative")
        if e1k_get(&self.mac.stopped):
            return self.receive_paused(batch, start, hold)
        return self.receive_running(batch, start, hold)

    cdef int receive_paused(self, FrameBatch batch, int start, bint hold) except -1:
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
            return self.receive_running(batch, start, False)
        finally:
            self.engine.dma.t.enabled = master

    cdef int receive_running(self, FrameBatch batch, int start, bint hold) except -1:
        cdef int end
        cdef uint32_t events
        if not self.open:
            return batch.n
        end = self.accept(batch, start, hold, self.irq.now(), &events)
        if events & RX_FILTER:
            return self.filter(batch, start, hold)
        if end < batch.n:
            self._held = True
        self.finish(events)
        return end

    cdef int filter(self, FrameBatch batch, int start, bint hold) except -1:
        """Take frames that Python must see first (`must_filter`)."""
        self.batches += 1
        if self.watching & _WATCH_MANAGEMENT:
            return self._managed(batch, start, hold)
        if self.watching and self._asleep(batch, start):
            return batch.n
        return self._pass_on(batch, start, hold)

    def _pass_on(self, FrameBatch batch not None, int start, bint hold):
        """Take frames that no filter keeps, but for MAC control frames; return the index after the
        last one taken."""
        cdef int end = self.find_control(batch, start)
        if end < batch.n:
            return self._with_control(batch, start, end, hold)
        end = self.accept(batch, start, hold, 0, NULL)
        if end < batch.n:
            self._held = True
        self.report()
        return end

    def _store(self, FrameBatch batch not None, bint hold):
        """Store all of `batch`, whatever filters there are; return how many frames were taken.
        Call `_report` next."""
        return self.accept(batch, 0, hold, 0, NULL)

    def _report(self):
        """Report the causes that engine runs have collected."""
        self.report()

    def go_on(self):
        """The device runs again: do what was asked for meanwhile."""
        if self.put_off:
            self.put_off = False
            self.kick()

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

    cpdef int store(self, FrameBatch batch) except -1:
        cdef RxPort rx = self.rx
        if (not rx.open or rx.worker is not None or rx.stage is not None or rx.mac.bottom_half
                or rx._held or rx.mac.in_engine or e1k_get(&rx.mac.stopped)
                or rx.must_filter(batch, 0)):
            return 0                # an event gives it to `receive`
        rx.batches += 1
        return rx.accept(batch, 0, True, 0, NULL)

    cpdef int stored(self) except -1:
        return self.rx.report()
