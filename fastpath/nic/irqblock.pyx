# cython: language_level=3, embedsignature=True
"""Interrupt causes, masks, delays and throttling (SDM 3.2.7, 3.4.3, 13.4.17-13.4.21).

`IrqBlock` is a state machine without a clock. Callers report events with the time `now`, `next_due`
returns the time of the next `tick`, and one function, `settle`, decides the level of the line. Its
state is the registers ICR, IMS, ITR, RDTR, RADV, TIDV and TADV in the register file. ITR sets the
least time between two assertions, RDTR/RADV delay RXT0, and TIDV/TADV delay TXDW. Moderation beyond
the datasheet is a policy (`fastpath/nic/moderation.pyx`).

Only the source of the time differs:

* on a clock the caller has the GIL and the clock's lock. After each call `follow` gives the line
  (`ports.InterruptLine`) its level and asks the clock for the next deadline. Timers are lazy: a
  deadline that moves away costs nothing, and the pending clock event looks at it when it fires.
* with threads (`_go_threaded`) callers have no GIL and the monotonic time. A mutex guards the
  state, and the line is an eventfd. A `Worker` that sleeps until `next_due` is woken when that has
  become earlier.

The plain-Python twin is ``_ref/irqblock.py``.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastpath.nic.e1000_hw cimport ICR, ICS, IMC, IMS, ITR, RADV, RDTR, TADV, TIDV
from fastpath.base.eventq cimport clock_ns
from fastpath.nic.moderation cimport Moderation
from fastpath.nic.regfile cimport RegFile, RegHook, reg
from fastpath.base.threads cimport (
    e1k_event, e1k_lock, e1k_mutex_destroy, e1k_mutex_init, e1k_unlock,
)

cdef enum:
    TXDW = 0x01
    RXT0 = 0x80
    FIELD = 0xFFFF              # of ITR and the delays
    ITR_UNIT_NS = 256
    DELAY_UNIT_NS = 1024
    GATHER_NS = 200_000         # the longest that frames are gathered on the wire
    EARLY_NS = 50_000           # gathered frames are stored so long before a held-back interrupt
    LOST = -1                   # the rise is never seen
cdef uint32_t FPD = 0x80000000

cdef double SCALE = 1 << 53     # of probabilities, which are kept as integers
NEVER_NS = -(1 << 40)
"""Time of the last assertion when there was none."""
REGISTERS = {
    "ICR": ICR, "ITR": ITR, "ICS": ICS, "IMS": IMS, "IMC": IMC,
    "RDTR": RDTR, "RADV": RADV, "TIDV": TIDV, "TADV": TADV,
}
"""Byte offsets of the registers that the block reads, by name."""


cdef class Worker:
    """A thread that works the rings beside the one that serves registers."""

    cdef void wake(self) noexcept nogil:
        """There is work, or a deadline has become earlier."""
        pass

    cdef void tx_doorbell(self) noexcept nogil:
        """The transmit ring has work; the thread that served the doorbell decides who does it."""
        pass

    cdef void rx_doorbell(self) noexcept nogil:
        """The receive ring has free descriptors."""
        pass

    cdef bint drains(self) noexcept nogil:
        """Whether the thread itself stores frames of the receive FIFO, after `rx_doorbell`."""
        return False

    cdef bint busy(self) noexcept nogil:
        """Whether frames that were taken from the ring are not on the wire yet."""
        return False


cdef class WriteBack:
    """Descriptors that wait for a delay to end (WTHRESH)."""

    cdef void write_back(self, uint32_t bits) noexcept nogil:
        """The delay of RXT0, or of TXDW, has ended: write back what waits."""
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
        self.edges += level != self.level
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
        """Write the eventfd at any level, for a holder that tests its own path."""
        self.fire()

    def let(self):
        """Unmask."""
        self.unmask()


cdef inline uint64_t _mixed(uint64_t *state) noexcept nogil:
    """The next number of a stream (splitmix64): the n-th is a function of seed and n alone."""
    cdef uint64_t z
    state[0] += 0x9E3779B97F4A7C15ULL
    z = (state[0] ^ state[0] >> 30) * 0xBF58476D1CE4E5B9ULL
    z = (z ^ z >> 27) * 0x94D049BB133111EBULL
    return z ^ z >> 31


cdef class LineFaults:
    """Faults of an interrupt line: rises are lost, or seen late.

    The fate of the n-th rise depends on its number and the seeds only.
    """

    def __cinit__(self, uint64_t seed_lost=0, uint64_t seed_late=0, double lost=0.0,
                  double late=0.0, int64_t late_ns=1):
        self.seed_lost, self.seed_late = seed_lost, seed_late
        self.lost, self.late = <uint64_t>(lost * SCALE), <uint64_t>(late * SCALE)
        self.late_ns = max(late_ns, 1)

    cdef int64_t rise(self, int64_t now) noexcept nogil:
        """The time in ns at which this rise of the line is seen; 0: at once, LOST: never."""
        # Both streams go on at each rise, so neither kind changes what the other does.
        cdef bint lost = _mixed(&self.seed_lost) >> 11 < self.lost
        cdef bint late = _mixed(&self.seed_late) >> 11 < self.late
        cdef int64_t wait = 1 + <int64_t>(_mixed(&self.seed_late) % <uint64_t>self.late_ns)
        if lost or late:
            self.at[self.hits % FATES] = now
            self.kind[self.hits % FATES] = not lost
            self.lates += not lost
            self.hits += 1
        return LOST if lost else now + wait if late else 0


cdef inline int64_t _earlier(int64_t a, int64_t b) noexcept nogil:
    """The earlier of two deadlines; 0 is none."""
    if not a or (b and b < a):
        return b
    return a


cdef class IrqBlock(RegHook):
    """Causes, masks, delays, throttling and the level of the interrupt line, fed with the time.

    SDM 3.2.7, 3.4.3, 13.4.17-13.4.21. It serves ICR, ICS, IMS, IMC, ITR and the flush bits of RDTR
    and TIDV, and its registers are its state. On a clock or for several threads (`_go_threaded`)
    it is the same machine; all times are in ns.
    """

    def __cinit__(self, *args, **kwargs):
        e1k_mutex_init(&self.mutex)
        self.last_ns = NEVER_NS
        self.policy = Moderation()

    def __dealloc__(self):
        e1k_mutex_destroy(&self.mutex)

    def _bind(self, RegFile regs not None, clock, line):
        """Read `regs`, take the time of `clock`, drive `line`."""
        self.regs = regs
        self.icr = regs.value(ICR)
        self.ims = regs.value(IMS)
        self.itr = regs.value(ITR)
        self.rdtr = regs.value(RDTR)
        self.radv = regs.value(RADV)
        self.tidv = regs.value(TIDV)
        self.tadv = regs.value(TADV)
        self._clock = clock
        self._line = line

    def hold_descriptors(self, WriteBack owed):
        """Let `owed` write descriptors back when a delay ends."""
        self.owed = owed

    def _go_threaded(self, EventLine line not None, Worker worker not None):
        """From now on several threads call: drive `line`, wake `worker`. Nothing may be running."""
        self.line = line
        self.worker = worker
        self.owed = None            # threads write back at once
        self.threaded = True
        self.settle(self.now())
        self.level(self.now())

    def _fail(self, LineFaults faults not None):
        """Let `faults` say from now on which rises the line shows, and when."""
        self.lock()
        if self.faults is None:
            self.wanted = self.out
        self.faults = faults
        self.unlock()

    def _failed(self):
        """Rises that failed since the last call: time in ns and kind of the latest FATES,
        how many were lost, how many late."""
        cdef int64_t at[FATES]
        cdef bint kind[FATES]
        cdef uint64_t n, k, first, lost, late
        cdef LineFaults faults = self.faults
        if faults is None:
            return [], 0, 0
        self.lock()
        n = faults.hits
        first = max(faults.taken, n - min(n, <uint64_t>FATES))
        for k in range(first, n):
            at[k % FATES] = faults.at[k % FATES]
            kind[k % FATES] = faults.kind[k % FATES]
        late, faults.lates = faults.lates, 0
        lost = n - faults.taken - late
        faults.taken = n
        self.unlock()
        return [(at[k % FATES], "irq_late" if kind[k % FATES] else "irq_lost")
                for k in range(first, n)], lost, late

    @property
    def causes(self):
        """ICR, without the side effect of reading it."""
        return self.peek(self.icr)

    @property
    def masks(self):
        """IMS: the causes that interrupt."""
        return self.peek(self.ims)

    cdef uint32_t peek(self, uint32_t *r) noexcept nogil:
        """A register that other threads write."""
        cdef uint32_t value
        self.lock()
        value = r[0]
        self.unlock()
        return value

    def _set_policy(self, Moderation policy not None):
        """Use another moderation, also for causes that wait already."""
        cdef int64_t now = self.now()
        self.lock()
        self.policy = policy
        policy.masks(False, self.ims[0] != 0, now)
        self.settle(now)
        self.unlock()
        self.follow()

    # --- the machine: called with the lock -------------------------------------------------------

    cdef void lock(self) noexcept nogil:
        if self.threaded:
            e1k_lock(&self.mutex)

    cdef void unlock(self) noexcept nogil:
        if self.threaded:
            e1k_unlock(&self.mutex)

    cdef void wake(self) noexcept nogil:
        """A deadline has become earlier."""
        if self.threaded:
            self.worker.wake()
        else:
            self.sooner = True

    cdef void level(self, int64_t now) noexcept nogil:
        """Set the line by `asserted` and `disabled`; on a clock `follow` does."""
        cdef bint out = self.asserted and not self.disabled
        if not self.threaded or self.frozen:
            return
        if self.faults is not None:
            out = self.seen(out, now)
        if out != self.out:
            self.out = out
            self.line.set(out)

    cdef bint seen(self, bint wanted, int64_t now) noexcept nogil:
        """The level that the line shows: faults may hide a rise."""
        cdef int64_t at
        if wanted != self.wanted:
            self.wanted = wanted
            self.late_due = at = self.faults.rise(now) if wanted else 0
            self.hidden = at != 0
            if at == LOST:
                self.late_due = 0
            elif at:
                self.wake()
        elif self.late_due and now >= self.late_due:
            self.late_due = 0
            self.hidden = False
        return wanted and not self.hidden

    cdef void repay(self, uint32_t bits) noexcept nogil:
        """The delays of `bits` have ended: write back what waited for that."""
        if bits & (RXT0 | TXDW) and self.owed is not None:
            if self.frozen:
                self.flushed |= bits & (RXT0 | TXDW)
            else:
                self.owed.write_back(bits)

    cdef void settle(self, int64_t now) noexcept nogil:
        """Assert or deassert by ICR, IMS, ITR and the policy. No other function does."""
        cdef uint32_t causes = self.icr[0] & self.ims[0]
        cdef int64_t due, wait
        if causes and not self.asserted:
            due = self.last_ns + (self.itr[0] & FIELD) * <int64_t>ITR_UNIT_NS
            wait = self.policy.hold_back(causes, self.last_ns, now)
            if wait > due:
                due = wait
            if now < due:
                if not self.throttle_due or due < self.throttle_due:
                    self.throttle_due = due
                    self.wake()
                return
            self.policy.asserted(self.last_ns, now)
            self.last_ns = now
            self.throttle_due = 0
            self.asserted = True
            self.assertions += 1
            self.level(now)
        elif self.asserted and not causes:
            self.asserted = False
            self.level(now)

    cdef int64_t earliest(self) noexcept nogil:
        return _earlier(self.ends(), self.policy.due())

    cdef int64_t ends(self) noexcept nogil:
        """The earliest time at which a delay or throttling ends, or a late rise is seen."""
        cdef int64_t out = _earlier(_earlier(self.late_due, self.throttle_due), self.rx_due)
        return _earlier(_earlier(out, self.rx_abs), _earlier(self.tx_due, self.tx_abs))

    # --- events, with their time -----------------------------------------------------------------

    cdef void set_causes(self, uint32_t bits, int64_t now) noexcept nogil:
        """Set causes in ICR."""
        self.lock()
        self.icr[0] |= bits
        self.settle(now)
        self.unlock()

    cdef void received(self, uint32_t bits, uint64_t frames, uint32_t descs, uint32_t ring,
                       int64_t now) noexcept nogil:
        """`frames` were stored in `descs` descriptors of a ring of `ring`; RXT0 of `bits` waits
        for RDTR (SDM 3.2.7.1)."""
        cdef int64_t delay, absolute
        self.lock()
        self.policy.received(frames, descs, ring, now)
        delay = (self.rdtr[0] & FIELD) * <int64_t>DELAY_UNIT_NS
        if delay and bits & RXT0:
            bits &= ~<uint32_t>RXT0
            self.rx_due = now + delay
            absolute = (self.radv[0] & FIELD) * <int64_t>DELAY_UNIT_NS
            if absolute and not self.rx_abs:
                self.rx_abs = now + absolute
            self.wake()
        self.repay(bits & RXT0)
        self.icr[0] |= bits
        self.settle(now)
        self.unlock()

    cdef void sent(self, uint32_t bits, bint delayed, uint64_t frames, uint32_t descs,
                   uint32_t ring, int64_t now) noexcept nogil:
        """`frames` of `descs` descriptors of a ring of `ring` were sent. `delayed`: the last that
        reported had IDE, so TXDW waits for TIDV (SDM 3.4.3.1); in `bits` it is of those before."""
        cdef int64_t delay, absolute
        self.lock()
        self.policy.sent(frames, descs, ring, now)
        if bits & TXDW:
            self.tx_due = self.tx_abs = 0
        if delayed:
            delay = (self.tidv[0] & FIELD) * <int64_t>DELAY_UNIT_NS
            if delay:
                self.tx_due = now + delay
                absolute = (self.tadv[0] & FIELD) * <int64_t>DELAY_UNIT_NS
                if absolute and not self.tx_abs:
                    self.tx_abs = now + absolute
                self.wake()
            else:
                self.tx_due = self.tx_abs = 0
                self.repay(TXDW)
                bits |= TXDW
        self.icr[0] |= bits
        self.settle(now)
        self.unlock()

    cdef void flush(self, uint32_t bits, int64_t now) noexcept nogil:
        """FPD: the receive (RXT0) or transmit (TXDW) delay ends now, when it runs."""
        self.lock()
        self.repay(bits)
        if bits & RXT0:
            if not self.rx_due:
                bits = 0
            self.rx_due = self.rx_abs = 0
        else:
            if not self.tx_due:
                bits = 0
            self.tx_due = self.tx_abs = 0
        self.icr[0] |= bits
        self.settle(now)
        self.unlock()

    cdef void tick(self, int64_t now) noexcept nogil:
        """Do what is due."""
        cdef uint32_t bits = 0
        self.lock()
        if self.frozen:
            self.unlock()
            return
        if (self.rx_due and now >= self.rx_due) or (self.rx_abs and now >= self.rx_abs):
            self.rx_due = self.rx_abs = 0
            bits |= RXT0
        if (self.tx_due and now >= self.tx_due) or (self.tx_abs and now >= self.tx_abs):
            self.tx_due = self.tx_abs = 0
            bits |= TXDW
        self.repay(bits)
        self.policy.tick(now)
        if now >= self.throttle_due:
            self.throttle_due = 0
        self.icr[0] |= bits
        self.settle(now)
        if self.late_due and now >= self.late_due:
            self.level(now)
        self.unlock()

    cdef int64_t next_due(self) noexcept nogil:
        """The earliest deadline in ns, 0 for none."""
        cdef int64_t out
        self.lock()
        out = 0 if self.frozen else self.earliest()
        self.unlock()
        return out

    cdef bint hot_read(self, reg *r, uint32_t *value, int64_t now) noexcept nogil:
        """ICR: return all causes and clear them (SDM 13.4.17)."""
        self.lock()
        value[0] = self.icr[0]
        self.icr[0] = 0
        if value[0]:
            self.reads += 1
            self.last_read = value[0]
            self.last_read_ns = now
        if self.asserted:
            self.policy.handler(now)
        self.settle(now)
        self.unlock()
        return True

    cdef bint hot_write(self, reg *r, uint32_t value, int64_t now) noexcept nogil:
        if r.which == ICS:
            # the reserved bits among them (ethtool -t sets 5 and 8)
            self.set_causes(value, now)
        elif r.which == RDTR or r.which == TIDV:
            (self.rdtr if r.which == RDTR else self.tidv)[0] = value & r.rw
            if value & FPD:
                self.flush(RXT0 if r.which == RDTR else TXDW, now)
        else:
            self.lock()
            if r.which == ICR:
                self.icr[0] &= ~value
            elif r.which == IMS:
                self.ims[0] |= value
                if self.policy.masks(True, self.ims[0] != 0, now):
                    self.wake()
            elif r.which == IMC:
                self.ims[0] &= ~value
                self.policy.masks(False, self.ims[0] != 0, now)
            else:
                self.itr[0] = value     # which counts from the last assertion
            self.settle(now)
            self.unlock()
        return True

    cdef uint32_t room(self, uint32_t burst, int64_t now) noexcept nogil:
        """How many frames to give the guest now, when bursts have at most `burst`."""
        cdef uint32_t out
        self.lock()
        out = self.policy.room(burst, now)
        self.unlock()
        return out

    cdef int64_t apart(self) noexcept nogil:
        """The current least time between interrupts by the policy, in ns."""
        cdef int64_t out
        self.lock()
        out = self.policy.apart()
        self.unlock()
        return out

    cdef int64_t gather(self, int64_t now) noexcept nogil:
        """How long frames may be gathered on the wire, in ns: the guest is not interrupted
        earlier."""
        cdef int64_t out, held
        self.lock()
        out = min(self.policy.apart() >> 2, <int64_t>GATHER_NS)
        held = self.throttle_due - EARLY_NS - now
        if out and held > out and self.policy.one_way(now):
            out = held          # ...and the policy does not use their arrival times
        self.unlock()
        return out

    cdef bint one_way(self, int64_t now) noexcept nogil:
        """Whether many frames arrive and the guest sends none."""
        cdef bint out
        self.lock()
        out = self.policy.apart() != 0 and self.policy.one_way(now)
        self.unlock()
        return out

    cdef void unmask_line(self) noexcept nogil:
        """The eventfd's holder unmasks the line."""
        self.lock()
        self.line.unmask()
        self.unlock()

    # --- with the GIL ----------------------------------------------------------------------------

    cdef int64_t now(self) except? -1:
        return clock_ns(self._clock)

    cdef int follow(self) except -1:
        """On a clock: ask for the next deadline, and give the line its level."""
        cdef int64_t due
        cdef bint out
        if self.threaded or self.frozen:
            return 0
        out = self.asserted and not self.disabled
        if self.faults is not None:
            out = self.seen(out, self.now())
        if self.sooner:
            self.sooner = False
            due = self.earliest()
            if due and (self._timer is None or due < self.armed):
                if self._timer is not None:
                    self._timer.cancel()
                self.armed = due
                self._timer = self._clock.call_at(due, self._tick)
        if out != self.out:
            self.out = out
            # Last: the host's handler may run and call this again before it returns.
            self._line.set_level(out)
        return 0

    def _tick(self):
        """The timer has fired; its deadline may have moved since."""
        self._timer = None
        self.sooner = True
        self.tick(self.now())
        self.follow()

    cdef uint32_t on_read(self, reg *r, uint32_t value) except? 0xFFFFFFFF:
        self.hot_read(r, &value, self.now())
        self.follow()
        return value

    cdef int on_write(self, reg *r, uint32_t old, uint32_t new) except -1:
        self.hot_write(r, new, self.now())
        return self.follow()

    cdef int raise_causes(self, uint32_t bits) except -1:
        self.set_causes(bits, self.now())
        return self.follow()

    def cause(self, uint32_t bits):
        """Set causes (ICR bits) and let the line follow."""
        self.raise_causes(bits)

    def _set_disabled(self, bint disabled):
        """The line stays low while `disabled`."""
        cdef int64_t now = self.now()
        self.lock()
        self.disabled = disabled
        self.level(now)
        self.unlock()
        self.follow()

    def freeze(self):
        """The device is paused: the line keeps its level, and delays do not end before `thaw`.

        Registers answer and causes are noted meanwhile. On a clock call with its lock held, with
        threads from any; safe to call twice."""
        self.lock()
        self.frozen = True
        self.unlock()

    def thaw(self):
        """Undo `freeze`: do what has become due meanwhile, and update the line."""
        cdef int64_t now = self.now(), due
        self.lock()
        self.frozen = False
        self.repay(self.flushed)
        self.flushed = 0
        due = self.ends()
        self.unlock()
        if due and now >= due:
            self.tick(now)
        self.lock()
        self.level(now)
        self.wake()
        self.unlock()
        self.follow()

    def _stop(self):
        """Forget timers and assertions; the caller resets the registers."""
        cdef int64_t now = self.now()
        self.lock()
        self.flushed = 0
        self.throttle_due = self.rx_due = self.rx_abs = self.tx_due = self.tx_abs = 0
        self.last_ns = NEVER_NS
        self.asserted = self.sooner = False
        self.policy.forget()
        self.policy.masks(False, self.ims[0] != 0, 0)
        self.level(now)
        self.unlock()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.follow()

    def _again(self):
        """`_line` was replaced by one whose level is low: give it the level."""
        self.out = False
        self.follow()

    def _flush(self, uint32_t bits):
        """Write back the descriptors of a flush that was put off."""
        self.lock()
        self.repay(bits)
        self.unlock()

    def _times(self):
        """(last assertion, receive, absolute receive, transmit, absolute transmit) in ns;
        0 = idle."""
        return self.last_ns, self.rx_due, self.rx_abs, self.tx_due, self.tx_abs

    def _go_on(self, bint asserted, int64_t last_ns, int64_t rx, int64_t rx_abs, int64_t tx,
               int64_t tx_abs):
        """Take back what `_times` returned; after `_stop`, with the registers loaded."""
        cdef int64_t now = self.now()
        self.lock()
        self.last_ns, self.asserted = last_ns, asserted
        self.rx_due, self.rx_abs, self.tx_due, self.tx_abs = rx, rx_abs, tx, tx_abs
        self.policy.masks(False, self.ims[0] != 0, now)
        self.wake()
        self.settle(now)
        self.level(now)
        self.unlock()
        self.follow()

    # For tests: the events by hand, at a time that the caller gives.

    def _received_at(self, uint32_t bits, uint64_t frames, int64_t now, uint32_t ring=1 << 16):
        """Frames of one descriptor each were stored in a ring of `ring`."""
        self.received(bits, frames, <uint32_t>frames, ring, now)
        self.follow()

    def _sent_at(self, uint32_t bits, bint delayed, uint64_t frames, int64_t now,
                 uint32_t ring=0):
        """Frames of one descriptor each were sent from a ring of `ring`."""
        self.sent(bits, delayed, frames, <uint32_t>frames, ring, now)
        self.follow()

    def _read_at(self, uint32_t off, int64_t now):
        """Read the register at `off` (ICR)."""
        cdef uint32_t value = 0
        self.hot_read(self.regs._at(off), &value, now)
        self.follow()
        return value

    def _write_at(self, uint32_t off, uint32_t value, int64_t now):
        """Write the register at `off`."""
        self.hot_write(self.regs._at(off), value, now)
        self.follow()

    def _tick_at(self, int64_t now):
        """Do what is due."""
        self.tick(now)
        self.follow()

    def _room_at(self, uint32_t burst, int64_t now):
        """How many frames there is room for, in bursts of `burst`."""
        return self.room(burst, now)

    def _gather_at(self, int64_t now):
        """How long frames may be gathered on the wire, in ns."""
        return self.gather(now)

    def _next_due(self):
        """The earliest deadline in ns, 0 for none."""
        return self.next_due()
