# cython: language_level=3, embedsignature=True
"""The device between a doorbell and an interrupt: what happens per batch, without Python.

These are the bases of the blocks in ``e1000emu`` (`Interrupts`, `Tx`, `Rx`, the PCI slot), which
add the control plane. What happens seldom is a method of the subclass, called by its name:
``_throttle``, ``_rare``, ``_explain``, ``_later``, ``_with_control``, ``_asleep``, ``_unusual``.
The plain-Python twin is ``_ref/macpath.py``. Call everything with the clock's lock held.
"""

from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_AsUnsignedLongMask
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from fastpath.batch cimport FrameBatch
from fastpath.cable cimport BatchPool, CableEnd, FrameSink, fb_bytes
from fastpath.eventq cimport clock_ns
from fastpath.cable import shared as _shared_pool
from fastpath.dma cimport dma_resolve
from fastpath.macctrl cimport mac_control
from fastpath.regfile cimport RegFile, RegHook
from fastpath.rxring cimport RX_ABORT, RX_DATA_ABORT, RXT0, RxEngine
from fastpath.txring cimport RUN_MORE, RUN_OFF, TXDW, TxEngine

cdef extern from "bytes.h" nogil:
    uint64_t ld64le(const void *p)

cdef enum:
    _BATCH_FRAMES = 512
    _ROUNDS = 16
    # Frames that a ring may send without a doorbell and without time passing, and what one gives.
    # A full ring of large TCP segmentation contexts has 184,000.
    _CREDIT_MAX = 1 << 18
    _CREDIT_DOORBELL = 1 << 13
    CAUSES = 0x1FFFF
    MIN_RING = 8                # descriptors: RDLEN counts 128 bytes (SDM 13.4.27)
    # Of frames that go straight into the peer's memory, so many bytes at a time: they are to be in
    # the cache still when they are copied.
    DIRECT_BYTES = 64 << 10
    # The same for each piece that a second thread stores.
    PIECE_BYTES = 16 << 10
    PIECES = 8                  # of one run; it makes five
    CMD_EOP = 0x01              # of a data descriptor (SDM 3.3.7.1)
    CMD_DEXT = 0x20
    PH_TSO = 3
    NOGIL_FROM = 8              # descriptors from which releasing the GIL (50 ns) pays
    NOGIL_BYTES = 16 << 10      # and bytes of received frames: 64 small ones are stored in 1 us
    ICR_LSC = 0x4
    # Causes that are frames; any other (link change, receive sequence error...) is news that waits
    # for nothing but the guest's own ITR: TXDW, TXQE, RXDMT0, RXO, RXT0, TXD_LOW, SRPD.
    FRAME_CAUSES = 0x180D3
    DELAY_UNIT_NS = 1024        # of RDTR, RADV, TIDV, TADV
    TX_CAUSES = 0x8003          # TXDW, TXQE, TXD_LOW
    FEW = 3                     # frames an interrupt brings that need no moderation
    MANY = 128                  # frames an interrupt shall bring when they come thick
    THIN_NS = 12_800_000        # and they do not when so many take that long
    FLOOR_MAX_NS = 2_000_000
    TX_WAIT_NS = 2_000_000
    TX_SILENCE_NS = 150_000
    RX_SILENCE_NS = 250_000
    ANSWER_NS = 20_000_000      # a guest that has sent nothing for so long answers nothing
    HANDLER_MAX_NS = 10_000_000     # a handler that has not ended by then polls for good

BATCH_FRAMES = _BATCH_FRAMES
"""Frames of one engine run, at most."""
CREDIT_MAX = _CREDIT_MAX
"""Frames that a ring sends at once, at most; then time has to pass, or software to ring again."""
CREDIT_DOORBELL = _CREDIT_DOORBELL
ROUNDS = _ROUNDS
"""Engine runs of one `pump`, at most; then the clock's other events come first."""


cdef class MacState:
    """What the blocks of one Nic share: an engine at work, a reset that waits for it, decoding."""


cdef class Beside:
    """A thread that works the rings beside the one that serves registers."""

    cdef void wake(self) noexcept nogil:
        """There is work, or a deadline has changed."""
        pass


cdef class EventLine:
    """An interrupt line (`ports.InterruptLine`) that writes an eventfd at each rise.

    With `automask` it masks itself then: the holder of the eventfd says `unmask` when it wants the
    next, and gets it at once when the level is still high. Without, each rise is a message (MSI).
    """

    def __cinit__(self):
        self.fd = -1
        self.automask = True

    cdef void fire(self) noexcept nogil:
        if self.fd >= 0:
            self.masked = self.automask
            self.fired += 1
            e1k_event(self.fd)

    cdef void set(self, bint level) noexcept nogil:
        self.level = level
        if level and not self.masked:
            self.fire()

    cdef void unmask(self) noexcept nogil:
        self.unmasks += 1
        self.masked = False
        if self.level:
            self.fire()

    def set_level(self, bint level):
        """Take the NIC's level."""
        self.set(level)

    def attach(self, int fd):
        """Write this eventfd from now on (-1: none), unmasked.  Borrows `fd`."""
        self.fd = fd
        self.masked = False
        if self.level:
            self.fire()

    def trigger(self):
        """Write the eventfd whatever the level: its holder tests its own path."""
        self.fire()

    def let(self):
        """Unmask."""
        self.unmask()


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


cdef class IrqCause(RegHook):
    """ICR, IMS and the level of the interrupt line (SDM 13.4.17-13.4.21)."""

    def _bind(self, RegFile regs not None, int icr, int ims):
        """Use the registers at byte offsets `icr` and `ims`."""
        self.regs = regs
        self.icr = regs._at(icr)
        self.ims_reg = regs._at(ims)

    @property
    def causes(self):
        """ICR, without the side effect of reading it."""
        return self.icr.value

    @property
    def masks(self):
        """IMS."""
        return self.ims

    @masks.setter
    def masks(self, uint32_t value):
        self.ims = value

    def __cinit__(self, *args, **kwargs):
        e1k_mutex_init(&self.mutex)
        self.floor_max_ns = FLOOR_MAX_NS

    def __dealloc__(self):
        e1k_mutex_destroy(&self.mutex)

    cdef int raise_causes(self, uint32_t bits) except -1:
        if self.beside:
            self.b_raise(bits, e1k_now_ns())
            return 0
        self.icr.value |= bits
        if self.icr.value & self.ims and not self.asserted:
            self.update()
        return 0

    def cause(self, uint32_t bits):
        """Set causes (ICR bits) and let the line follow."""
        self.raise_causes(bits)

    cdef int update(self) except -1:
        """Let the line be what ICR, IMS, ITR and the PCI function say; nothing else does."""
        cdef bint want = (self.icr.value & self.ims) != 0
        cdef int64_t now, due
        if self.beside:
            e1k_lock(&self.mutex)
            self._settle(e1k_now_ns())
            e1k_unlock(&self.mutex)
            return 0
        if want and not self.asserted:
            if self._interval_ns:
                now = clock_ns(self._clock)
                due = self._last_ns + self._interval_ns
                if now < due:
                    if self._timer is None:
                        self._throttle(due)
                    return 0
                self._last_ns = now
            self.asserted = True
            self.assertions += 1
            self.drive()
        elif self.asserted and not want:
            self.asserted = False
            self.drive()
        return 0

    def _update(self):
        """Let the line follow."""
        self.update()

    cdef int drive(self) except -1:
        cdef bint out = self.asserted and not self.disabled
        if self.beside:
            e1k_lock(&self.mutex)
            self._out()
            e1k_unlock(&self.mutex)
            return 0
        if out != self.out:
            self.out = out
            # Last: the host may run its handler, which comes back here, before this returns.
            self._line.set_level(out)
        return 0

    def _drive(self):
        """Let the line be what `asserted` and `disabled` say."""
        self.drive()

    def received(self, uint32_t bits):
        """Frames were stored: raise `bits`, RXT0 among them after its delay (SDM 3.2.7.1)."""
        if self._rdtr and bits & RXT0:
            bits &= ~<uint32_t>RXT0
            self._delay_rx()
        if bits:
            self.raise_causes(bits)

    def transmitted(self, uint32_t bits):
        """Raise transmit causes at once; TXDW makes a running delay pointless."""
        if bits & TXDW and self.tx_delayed:
            self._stop_tx_delay()
        self.raise_causes(bits)

    cdef uint32_t on_read(self, int which, uint32_t value) except? 0xFFFFFFFF:
        # ICR: return all causes and clear them (SDM 13.4.17)
        if self.beside:
            return self.b_read_icr(e1k_now_ns())
        self.icr.value = 0
        if self.asserted:
            self.update()
        return value

    cdef int on_write(self, int which, uint32_t old, uint32_t new) except -1:
        if self.beside and which == REG_IMS:
            self.b_masks(new, 0, e1k_now_ns())
        elif self.beside and which == REG_IMC:
            self.b_masks(0, new, e1k_now_ns())
        elif which == REG_IMS:
            self.ims = self.ims_reg.value = old | new
            if not self.asserted:
                self.update()
        elif which == REG_IMC:
            self.ims_reg.value &= ~new
            self.ims = self.ims_reg.value
            if self.asserted:
                self.update()
        elif which == REG_ICS:
            # the reserved bits among them (ethtool -t sets 5 and 8)
            self.raise_causes(new)
        else:
            self.update()
        return 0

    # --- for several threads: every b_ takes the mutex; nothing else touches the state then

    def _go_beside(self, EventLine line not None, Beside timer not None):
        """From now on other threads raise causes and read ICR: drive `line`, tell `timer`.

        The delays and the throttling are then held by the device's own deadlines; `timer` calls
        `b_tick` when the next is due.  Nothing may be running.
        """
        self.line = line
        self.timer = timer
        self.beside = True
        self.throttle_due = self.rx_due = self.rx_abs = self.tx_due = self.tx_abs = 0
        self.floor_ns = 0
        self.work = 0
        self.handler_from = self.hold_until = self.tx_seen = self.room_due = 0
        self.update()

    def _deadlines(self):
        """(receive, absolute receive, transmit, absolute transmit) in ns; 0 = idle."""
        return self.rx_due, self.rx_abs, self.tx_due, self.tx_abs

    def _set_deadlines(self, int64_t rx, int64_t rx_abs, int64_t tx, int64_t tx_abs):
        """Take back what `_deadlines` returned, or stop everything with zeros."""
        e1k_lock(&self.mutex)
        self.rx_due, self.rx_abs, self.tx_due, self.tx_abs = rx, rx_abs, tx, tx_abs
        self.throttle_due = self.room_due = 0
        self.handler_from = self.hold_until = 0
        e1k_unlock(&self.mutex)
        if self.timer is not None:
            self.timer.wake()

    def _flush(self, uint32_t bits):
        """FPD: expire the receive (RXT0) or transmit (TXDW) delay now, when it runs."""
        cdef bint was
        e1k_lock(&self.mutex)
        if bits & RXT0:
            was = self.rx_due != 0
            self.rx_due = self.rx_abs = 0
        else:
            was = self.tx_due != 0
            self.tx_due = self.tx_abs = 0
        e1k_unlock(&self.mutex)
        if was:
            self.b_raise(bits, e1k_now_ns())

    # The b_ functions by hand, with a time of the caller's.

    def _received_at(self, uint32_t bits, uint64_t frames, int64_t now, uint32_t ring=1 << 16):
        """Frames of one descriptor were stored in a ring of `ring`."""
        self.b_received(bits, frames, <uint32_t>frames, ring, now)

    def _sent_at(self, uint32_t bits, bint delayed, uint64_t frames, int64_t now,
                 uint32_t ring=0):
        """Frames of one descriptor were sent from a ring of `ring`."""
        self.b_sent(bits, delayed, frames, <uint32_t>frames, ring, now)

    def _read_icr_at(self, int64_t now):
        """Read ICR."""
        return self.b_read_icr(now)

    def _masks_at(self, uint32_t ims, uint32_t imc, int64_t now):
        """Write IMS and IMC."""
        self.b_masks(ims, imc, now)

    def _room_at(self, uint32_t burst, int64_t now):
        """How many frames there is room for, in bursts of `burst`."""
        return self.b_room(burst, now)

    def _tick_at(self, int64_t now):
        """Do what is due."""
        self.b_tick(now)

    def _next_due(self):
        """The earliest deadline in ns, 0 for none."""
        return self.next_due()

    cdef void _out(self) noexcept nogil:
        cdef bint out = self.asserted and not self.disabled
        if out != self.out:
            self.out = out
            self.line.set(out)

    cdef void _assert(self, int64_t now) noexcept nogil:
        # How thick do frames come?  Few at each interrupt: the guest wants each at once.  Many: it
        # pays several round trips for each interrupt, so let the next bring more.
        cdef int64_t since = now - self._last_ns, want
        want = MANY * since // <int64_t>self.work if self.work > FEW and since > 0 else THIN_NS
        if want >= THIN_NS:
            self.floor_ns >>= 2
        else:
            self.floor_ns = min((self.floor_ns + want) // 2, self.floor_max_ns)
        self.work = 0
        self.tx_done = self.rx_done = 0
        self._last_ns = now
        self.throttle_due = 0
        self.asserted = True
        self.assertions += 1
        self._out()

    cdef bint one_way(self, int64_t now) noexcept nogil:
        """Whether the guest sends nothing: it answers nothing of what it receives."""
        return now - self.tx_seen >= ANSWER_NS

    cdef bint b_one_way(self, int64_t now) noexcept nogil:
        """Whether frames come thick and the guest sends nothing."""
        cdef bint out
        e1k_lock(&self.mutex)
        out = self.floor_ns and self.one_way(now)
        e1k_unlock(&self.mutex)
        return out

    cdef int64_t b_floor(self) noexcept nogil:
        """How long interrupts are kept apart just now."""
        cdef int64_t out
        e1k_lock(&self.mutex)
        out = self.floor_ns
        e1k_unlock(&self.mutex)
        return out

    cdef void _settle(self, int64_t now) noexcept nogil:
        cdef uint32_t causes = self.icr.value & self.ims
        cdef int64_t due = self._interval_ns, wait
        if causes and not self.asserted:
            due += self._last_ns
            if not causes & ~<uint32_t>TX_CAUSES:
                # Nobody waits for a frame that is sent, until the ring runs out of room, or the
                # guest falls silent: it may have used up what it may have under way.
                if self.floor_ns and self.tx_done < self.tx_enough:
                    due = max(due, min(self._last_ns + min(4 * self.floor_ns, <int64_t>TX_WAIT_NS),
                                       self.tx_last + TX_SILENCE_NS))
            elif not causes & ~<uint32_t>FRAME_CAUSES:
                wait = self._last_ns + self.floor_ns if self.rx_done < self.rx_enough else 0
                if not self.one_way(now):
                    # A burst that is over need not wait: what follows it is the guest's answer.
                    wait = min(wait, self.rx_last + RX_SILENCE_NS)
                else:
                    wait = max(wait, self.hold_until)
                due = max(due, wait)
            if now < due:
                # A deadline that moves away costs nothing: who waits for it asks again then.
                if not self.throttle_due or due < self.throttle_due:
                    self.throttle_due = due
                    self.timer.wake()
                return
            self._assert(now)
        elif self.asserted and not causes:
            self.asserted = False
            self._out()

    cdef void b_raise(self, uint32_t bits, int64_t now) noexcept nogil:
        e1k_lock(&self.mutex)
        self.icr.value |= bits
        self._settle(now)
        e1k_unlock(&self.mutex)

    cdef void b_received(self, uint32_t bits, uint64_t frames, uint32_t descs, uint32_t ring,
                         int64_t now) noexcept nogil:
        """`frames` were stored in `descs` descriptors of a ring of `ring`."""
        e1k_lock(&self.mutex)
        self.rx_enough = ring >> 1
        self.work += frames
        self.rx_since += frames
        self.rx_done += descs
        self.rx_last = now
        if self._rdtr and bits & RXT0:
            bits &= ~<uint32_t>RXT0
            self.rx_due = now + self._rdtr * <int64_t>DELAY_UNIT_NS
            if self._radv and not self.rx_abs:
                self.rx_abs = now + self._radv * <int64_t>DELAY_UNIT_NS
            self.timer.wake()
        if bits:
            self.icr.value |= bits
            self._settle(now)
        e1k_unlock(&self.mutex)

    cdef void b_sent(self, uint32_t bits, bint delayed, uint64_t frames, uint32_t descs,
                     uint32_t ring, int64_t now) noexcept nogil:
        """`frames` of `descs` descriptors of a ring of `ring` were sent."""
        e1k_lock(&self.mutex)
        # Nearly all: what is left lasts until the interrupt has found its way to the guest.
        self.tx_enough = ring - (ring >> 3)
        self.work += frames
        self.tx_done += descs
        self.tx_last = self.tx_seen = now
        if bits & TXDW:
            self.tx_due = self.tx_abs = 0
        elif delayed:
            if self._tidv:
                self.tx_due = now + self._tidv * <int64_t>DELAY_UNIT_NS
                if self._tadv and not self.tx_abs:
                    self.tx_abs = now + self._tadv * <int64_t>DELAY_UNIT_NS
                self.timer.wake()
            else:
                bits |= TXDW
        if bits:
            self.icr.value |= bits
            self._settle(now)
        e1k_unlock(&self.mutex)

    cdef uint32_t b_read_icr(self, int64_t now) noexcept nogil:
        cdef uint32_t value
        e1k_lock(&self.mutex)
        value = self.icr.value
        self.icr.value = 0
        if self.asserted:
            self.handler_from = now
            self.rx_since = 0
        self._settle(now)
        e1k_unlock(&self.mutex)
        return value

    cdef void b_masks(self, uint32_t set, uint32_t clear, int64_t now) noexcept nogil:
        e1k_lock(&self.mutex)
        self.ims_reg.value = (self.ims | set) & ~clear
        self.ims = self.ims_reg.value
        if set:
            # Until now the guest was busy with the last interrupt, which is no silence.
            self.tx_last = now
            if self.handler_from:
                if now - self.handler_from < HANDLER_MAX_NS:
                    self.hold_until = now + ((now - self.handler_from) >> 1)
                self.handler_from = 0
                self.rx_since = 0
                if self.room_due:
                    self.room_due = 0
                    self.timer.wake()
        self._settle(now)
        e1k_unlock(&self.mutex)

    cdef void b_itr(self, int64_t interval_ns, int64_t now) noexcept nogil:
        e1k_lock(&self.mutex)
        self._interval_ns = interval_ns
        self._settle(now)
        e1k_unlock(&self.mutex)

    cdef void b_unmask(self) noexcept nogil:
        e1k_lock(&self.mutex)
        self.line.unmask()
        e1k_unlock(&self.mutex)

    cdef void b_tick(self, int64_t now) noexcept nogil:
        cdef uint32_t bits = 0
        e1k_lock(&self.mutex)
        if (self.rx_due and now >= self.rx_due) or (self.rx_abs and now >= self.rx_abs):
            self.rx_due = self.rx_abs = 0
            bits |= RXT0
        if (self.tx_due and now >= self.tx_due) or (self.tx_abs and now >= self.tx_abs):
            self.tx_due = self.tx_abs = 0
            bits |= TXDW
        if now >= self.room_due:
            self.room_due = 0
        if bits or (self.throttle_due and now >= self.throttle_due):
            self.icr.value |= bits
            if now >= self.throttle_due:
                self.throttle_due = 0
            self._settle(now)
        e1k_unlock(&self.mutex)

    cdef uint32_t b_room(self, uint32_t burst, int64_t now) noexcept nogil:
        """How many frames the guest is to get now, of bursts of at most `burst`.

        Under a flood it would do nothing but take frames from the ring, and whom they are for
        would never run (receive livelock). A guest that answers nothing gets a burst for each run
        of its handler, and then half as long without; the wire holds the rest, or drops it, which
        costs the guest nothing. One that answers has a peer that waits: it is not held up.
        """
        cdef int64_t due = 0
        cdef uint32_t room = burst
        e1k_lock(&self.mutex)
        if self.one_way(now):
            if self.handler_from:
                if not self.ims:
                    due = self.handler_from + HANDLER_MAX_NS
            else:
                due = self.hold_until
            if now < due:
                room = burst - self.rx_since if self.rx_since < burst else 0
                if not room:
                    self.room_due = due
        e1k_unlock(&self.mutex)
        return room

    cdef int64_t next_due(self) noexcept nogil:
        """The earliest deadline in ns, 0 for none."""
        cdef int64_t out
        e1k_lock(&self.mutex)
        out = _earlier(_earlier(self.throttle_due, self.room_due), self.rx_due)
        out = _earlier(_earlier(out, self.rx_abs), _earlier(self.tx_due, self.tx_abs))
        e1k_unlock(&self.mutex)
        return out


cdef inline int64_t _earlier(int64_t a, int64_t b) noexcept nogil:
    """The earlier of two deadlines; 0 is none."""
    if not a or (b and b < a):
        return b
    return a


cdef class Second:
    """Someone who stores frames while the engine that cuts them goes on."""

    cdef bint begin(self, RxPort rx, TxPort tx) noexcept:
        """Whether `rx` is to be served now; until `settle` nobody else touches it."""
        return False

    cdef void post(self, FrameBatch piece) noexcept:
        """Store the piece, after those before. Borrows it until `settle`."""
        pass

    cdef void settle(self) noexcept:
        """Wait until all is stored, with a hand in it."""
        pass

    cdef int done(self, int piece) noexcept:
        """How many frames of a piece were stored; not all, none of those behind."""
        return 0


cdef class TxPort(RegHook):
    """The transmit side: doorbell, engine runs, hand-over to the link."""

    def _bind(self, nic, TxEngine engine not None, MacState mac not None, IrqCause irq not None):
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
        """Let `second` store what is sent into a cable without delay; None: nobody."""
        self.second = second

    cdef int on_write(self, int which, uint32_t old, uint32_t new) except -1:
        self.doorbells += 1
        self.engine.s.tail = new
        self.credit = min(self.credit + _CREDIT_DOORBELL, <int64_t>_CREDIT_MAX)
        if self.beside is not None and self.loop is None:
            self.beside.wake()
        elif self._pumping:
            self._again = True
        elif self.deferred:
            self._later()
        else:
            self.send()
        return 0

    def pump(self):
        """Send what the ring holds, as far as the link takes it.

        Never nests: a doorbell from inside only asks for another round.
        """
        self.send()

    cdef int send(self) except -1:
        cdef int later
        if self.beside is not None and self.loop is None:
            self.beside.wake()
            return 0
        if self._pumping:
            self._again = True
            return 0
        if not self.open or self._paused_until_ns:
            self._explain()
            return 0
        if self.resting:
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

    cdef uint32_t run(self, FrameBatch batch, int room) except? 0xFFFFFFFF:
        """`TxEngine.run`, without a call through Python."""
        cdef TxEngine engine = self.engine
        cdef uint32_t flags
        if engine.running:          # from inside a message-DMA callback
            return RUN_OFF
        engine.running = self.mac.in_engine = True
        engine.dma.busy += 1
        if engine.s.tail - engine.s.head >= NOGIL_FROM:
            with nogil:
                flags = engine._run(batch, room)
        else:
            flags = engine._run(batch, room)
        engine.dma.busy -= 1
        engine.running = self.mac.in_engine = False
        return flags

    cdef uint32_t run_beside(self, FrameBatch batch, int room, CableEnd cable,
                             int *sent) except? 0xFFFFFFFF:
        """`run` up to DIRECT_BYTES; where it pays, in pieces that another thread stores meanwhile.

        Everything is as after one run and `cable.send`. `sent` is how many frames were sent that
        way, `batch` then gone; -1: none, they are in `batch`.
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
            return flags            # as it would have ended in one run
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
        """Whether no MAC control frame for `rx` can follow what is in `batch` within its run."""
        cdef TxEngine engine = self.engine
        cdef uint32_t n = engine.s.len >> 4, at = engine.s.head
        cdef uint32_t tail = engine.s.tail if engine.s.tail < n else 0
        cdef uint64_t q, have = 0
        cdef uint8_t *ring
        if not rx._watch_control:
            return True
        if engine.s.phase != PH_TSO or engine.s.tso_bad:
            return False
        ring = dma_resolve(&engine.dma.t, engine.s.base & ~<uint64_t>15, <uint64_t>n * 16, False)
        if ring == NULL:
            return False
        while at != tail:
            q = ld64le(ring + <uint64_t>at * 16 + 8)
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
        """Run the engine until the ring or the link ends it: 0. 1 = there is more, and other events
        are to come first."""
        # Deferred: messages that came meanwhile are served after each run.
        cdef int left = (1 if self.deferred else _ROUNDS) * _BATCH_FRAMES, room, sent, n
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
                    if not self.deferred and cable.direct():
                        self.engine.run_bytes = DIRECT_BYTES
                else:
                    room = min(<int64_t>self._link.tx_room(), <int64_t>_BATCH_FRAMES)
                if room <= 0:
                    return 0  # tx_ready goes on
            batch = self.pool.get()
            sent = -1
            if self.engine.run_bytes and self.second is not None:
                flags = self.run_beside(batch, room, cable, &sent)
            else:
                flags = self.run(batch, room)
            n = sent if sent >= 0 else batch.n
            # A run that was cut short for the cache's sake counts as part of a whole one.
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
            if flags & ~<uint32_t>(CAUSES | RUN_MORE):
                self._rare(flags)
            if flags & CAUSES:
                if self.irq.tx_delayed and flags & TXDW:
                    self.irq._stop_tx_delay()
                self.irq.raise_causes(flags & CAUSES)
            if self.mac.reset_pending:
                self._nic.finish_reset()
                return 0
            if not (flags & RUN_MORE or self._again):
                return 0
            if not self.open or self._paused_until_ns:
                return 0
            if self.credit <= 0:
                return 1
        return 1


cdef class RxPort(RegHook):
    """The receive side: frames of a link to the engine, causes to the interrupt."""

    def _bind(self, nic, RxEngine engine not None, MacState mac not None, IrqCause irq not None):
        self._nic = nic
        self.engine = engine
        self.mac = mac
        self.irq = irq

    cdef int on_write(self, int which, uint32_t old, uint32_t new) except -1:
        cdef uint32_t count = self.engine.s.len >> 4
        self.doorbells += 1
        self.engine.s.tail = new
        if new and (new > count or count < MIN_RING):
            self._odd_tail()
        if self.beside is not None:
            self.beside.wake()
        if self._held or self.engine.fifo_head < self.engine.fifo.n:
            self.kick()             # the subclass's, which may put it off
        return 0

    cdef int run(self, FrameBatch batch, int start, bint hold) except -1:
        """`RxEngine.receive`, without a call through Python."""
        cdef RxEngine engine = self.engine
        cdef int end
        if engine.running:          # from inside a message-DMA callback
            return start
        engine.running = self.mac.in_engine = True
        engine.dma.busy += 1
        if batch.used >= NOGIL_BYTES:
            with nogil:
                end = engine._receive(batch, start, hold)
        else:
            end = engine._receive(batch, start, hold)
        engine.dma.busy -= 1
        engine.running = self.mac.in_engine = False
        return end

    def receive(self, FrameBatch batch not None, int start, bint hold):
        """Take frames from the link (LinkPort.receive).  Borrows `batch` until return."""
        cdef int end
        cdef uint32_t causes
        if start < 0:
            raise IndexError(f"receive: start {start} is negative")
        if not self.open:
            return batch.n
        self.batches += 1
        if self._watch_wake and self._asleep(batch, start):
            return batch.n
        if self._watch_control:
            end = mac_control(batch, start, self._control_type)
            if end < batch.n:
                return self._with_control(batch, start, end, hold)
        end = self.run(batch, start, hold)
        if end < batch.n:
            self._held = True
        causes = self.engine.s.causes
        self.engine.s.causes = 0
        self.after(causes)
        return end

    cdef int after(self, uint32_t causes) except -1:
        if causes & (RX_ABORT | RX_DATA_ABORT):
            self._unusual(causes)
        if self._watch_fifo and (
                self.xoff_sent or self.engine.fifo_head < self.engine.fifo.n):
            self._nic.flow.fifo_changed()
        causes &= CAUSES
        if causes:
            if self.irq._rdtr:
                self.irq.received(causes)
            else:
                self.irq.raise_causes(causes)
        if self.mac.reset_pending:
            self._nic.finish_reset()
        return 0

    def _after(self, uint32_t causes):
        """Act on what an engine run left in its causes."""
        self.after(causes)

    def kick(self):
        """Descriptors are free, or the receiver is on: drain the FIFO, let a holding link go on."""
        if self.mac.in_engine:
            return
        if self.engine.fifo_head < self.engine.fifo.n:
            self.mac.in_engine = True
            self.engine.kick()
            self.mac.in_engine = False
            self._after(self.engine.take_causes())
        if self._held and self.engine.ready():
            self._release()
        if self.beside is not None:
            self.beside.wake()


cdef class RxSink(FrameSink):
    """The receive side as a cable uses it: frames into memory at once, the causes later."""

    def __init__(self, RxPort rx not None):
        self.rx = rx

    cdef bint can_store(self, FrameBatch batch) noexcept:
        """Whether the engine is to see the batch now; else `receive` gets it, by an event."""
        cdef RxPort rx = self.rx
        if (self.off or not rx.open or rx.beside is not None or rx.deferred or rx._held
                or rx.mac.in_engine or rx._watch_wake):
            return False
        return not rx._watch_control or mac_control(batch, 0, rx._control_type) >= batch.n

    cpdef int store(self, FrameBatch batch) except -1:
        if not self.can_store(batch):
            return 0
        self.rx.batches += 1
        return self.rx.run(batch, 0, True)

    cpdef int stored(self) except -1:
        cdef uint32_t causes = self.rx.engine.s.causes
        self.rx.engine.s.causes = 0
        return self.rx.after(causes)
