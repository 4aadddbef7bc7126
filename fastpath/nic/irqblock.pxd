# cython: language_level=3, overflowcheck=False
"""Causes, masks, delays and the level of the interrupt line, fed with the time."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastpath.nic.moderation cimport Moderation
from fastpath.nic.regfile cimport RegFile, RegHook
from fastpath.base.threads cimport e1k_mutex

# A thread that works the rings (`fastpath.nic.datapath`).
cdef class Worker:
    cdef void wake(self) noexcept nogil
    cdef void tx_doorbell(self) noexcept nogil
    cdef void rx_doorbell(self) noexcept nogil
    cdef bint drains(self) noexcept nogil
    cdef bint busy(self) noexcept nogil

# Descriptors that are held back until a delay ends (WTHRESH): RXT0 and TXDW flush them.
cdef class WriteBack:
    cdef void write_back(self, uint32_t bits) noexcept nogil

# An interrupt line that is an eventfd, masked from each edge until its holder unmasks it.
cdef class EventLine:
    cdef readonly int fd
    cdef public bint masked, automask
    cdef readonly bint level
    cdef public uint64_t fired, unmasks
    cdef readonly uint64_t edges    # how often the level has changed
    cdef void set(self, bint level) noexcept nogil
    cdef void unmask(self) noexcept nogil
    cdef void fire(self) noexcept nogil

cdef enum:
    FATES = 1024                # how many of the latest failed rises are kept

# Decides by its number whether a rise of the line is lost or seen late.
cdef class LineFaults:
    cdef uint64_t seed_lost, seed_late      # how far each stream has come
    cdef uint64_t lost, late                # probabilities, in 2^-53
    cdef int64_t late_ns
    cdef uint64_t hits, taken               # rises that failed; of them, reported by `_failed`
    cdef uint64_t lates                     # late ones among those not reported
    cdef int64_t at[FATES]
    cdef bint kind[FATES]                   # 1 late, 0 lost
    cdef int64_t rise(self, int64_t now) noexcept nogil

cdef class IrqBlock(RegHook):
    cdef RegFile regs
    cdef uint32_t *icr
    cdef uint32_t *ims
    cdef uint32_t *itr
    cdef uint32_t *rdtr
    cdef uint32_t *radv
    cdef uint32_t *tidv
    cdef uint32_t *tadv
    cdef readonly bint asserted
    cdef readonly bint disabled
    cdef public uint64_t assertions
    cdef readonly bint out      # the level that the line was given last
    cdef readonly uint64_t reads            # reads of ICR that returned causes
    cdef readonly uint32_t last_read        # the causes that the latest of them returned
    cdef readonly int64_t last_read_ns      # the time of that read
    cdef bint frozen            # paused: no delay ends, nothing is written back, the line stays
    cdef readonly uint32_t flushed  # RXT0, TXDW: flushes that wait until the pause ends
    cdef int64_t last_ns        # when the line last rose
    cdef int64_t throttle_due, rx_due, rx_abs, tx_due, tx_abs   # 0 = idle
    cdef readonly Moderation policy
    cdef WriteBack owed
    cdef LineFaults faults      # faults of the line, or None
    cdef bint wanted, hidden    # with faults: the level of the device; whether it is hidden
    cdef int64_t late_due       # when a late rise is seen, 0 = none
    # On a clock: the line and the timer are Python's.
    cdef public object _line, _clock, _timer
    cdef int64_t armed          # when `_timer` fires
    cdef bint sooner            # there is a deadline before `armed`
    # Threaded: several threads call, on the monotonic clock.
    cdef readonly bint threaded
    cdef e1k_mutex mutex
    cdef EventLine line
    cdef Worker worker         # sleeps until next_due()
    cdef void lock(self) noexcept nogil
    cdef void unlock(self) noexcept nogil
    cdef void settle(self, int64_t now) noexcept nogil
    cdef void level(self, int64_t now) noexcept nogil
    cdef bint seen(self, bint wanted, int64_t now) noexcept nogil
    cdef void repay(self, uint32_t bits) noexcept nogil
    cdef void wake(self) noexcept nogil
    cdef int64_t earliest(self) noexcept nogil
    cdef int64_t ends(self) noexcept nogil
    # Each takes the lock.
    cdef uint32_t peek(self, uint32_t *r) noexcept nogil
    cdef void set_causes(self, uint32_t bits, int64_t now) noexcept nogil
    cdef void received(self, uint32_t bits, uint64_t frames, uint32_t descs, uint32_t ring,
                       int64_t now) noexcept nogil
    cdef void sent(self, uint32_t bits, bint delayed, uint64_t frames, uint32_t descs,
                   uint32_t ring, int64_t now) noexcept nogil
    cdef void flush(self, uint32_t bits, int64_t now) noexcept nogil
    cdef void tick(self, int64_t now) noexcept nogil
    cdef int64_t next_due(self) noexcept nogil
    cdef uint32_t room(self, uint32_t burst, int64_t now) noexcept nogil
    cdef int64_t apart(self) noexcept nogil
    cdef int64_t gather(self, int64_t now) noexcept nogil
    cdef bint one_way(self, int64_t now) noexcept nogil
    cdef void unmask_line(self) noexcept nogil
    # With the GIL, after one of those.
    cdef int64_t now(self) except? -1
    cdef int follow(self) except -1
    cdef int raise_causes(self, uint32_t bits) except -1
