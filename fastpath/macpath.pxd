# cython: language_level=3, overflowcheck=False
"""The device between a doorbell and an interrupt: what happens per batch, without Python."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastpath.batch cimport FrameBatch
from fastpath.cable cimport BatchPool, CableEnd, FrameSink
from fastpath.regfile cimport RegFile, RegHook, reg
from fastpath.rxring cimport RxEngine
from fastpath.txring cimport TxEngine

cpdef enum:
    REG_ICR = 0
    REG_ICS
    REG_IMS
    REG_IMC
    REG_TDT
    REG_RDT

cdef extern from "beside.h" nogil:
    ctypedef struct e1k_mutex:
        pass
    void e1k_mutex_init(e1k_mutex *m)
    void e1k_mutex_destroy(e1k_mutex *m)
    void e1k_lock(e1k_mutex *m)
    bint e1k_trylock(e1k_mutex *m)
    void e1k_unlock(e1k_mutex *m)
    int64_t e1k_now_ns()
    int e1k_get(const int *p)
    void e1k_put(int *p, int v)
    int e1k_swap(int *p, int v)
    void e1k_fence()
    void e1k_event(int fd)
    void e1k_event_clear(int fd)
    void e1k_close(int *fd)

cdef inline void e1k_lock_gil(e1k_mutex *m) noexcept:
    """Lock with the GIL held; whoever has the mutex may have been preempted: others run then."""
    if not e1k_trylock(m):
        with nogil:
            e1k_lock(m)

cdef class MacState:
    cdef public bint in_engine, reset_pending, memory_on

# What works rings beside the thread that serves registers (`fastpath.datapath`).
cdef class Beside:
    cdef void wake(self) noexcept nogil

# An interrupt line that is an eventfd, masked from each edge until its holder unmasks it.
cdef class EventLine:
    cdef readonly int fd
    cdef public bint masked, automask
    cdef readonly bint level
    cdef public uint64_t fired, unmasks
    cdef void set(self, bint level) noexcept nogil
    cdef void unmask(self) noexcept nogil
    cdef void fire(self) noexcept nogil

cdef class BarWindow:
    cdef RegFile regs
    cdef MacState mac
    cdef bint plain(self, int64_t off) noexcept

cdef class IrqCause(RegHook):
    cdef RegFile regs
    cdef reg *icr
    cdef reg *ims_reg
    cdef uint32_t ims
    cdef public object _line, _clock, _timer
    cdef public bint asserted, disabled
    cdef bint out
    cdef public uint64_t assertions
    cdef public int64_t _interval_ns, _last_ns
    cdef public uint32_t _rdtr, _radv, _tidv, _tadv
    cdef public bint tx_delayed
    cdef int raise_causes(self, uint32_t bits) except -1
    cdef int update(self) except -1
    cdef int drive(self) except -1
    # Beside: the same for several threads, on an EventLine and the monotonic clock.
    cdef readonly bint beside
    cdef e1k_mutex mutex
    cdef EventLine line
    cdef Beside timer           # whoever waits until next_due()
    cdef int64_t throttle_due, rx_due, rx_abs, tx_due, tx_abs   # 0 = idle
    cdef public int64_t floor_max_ns
    cdef readonly int64_t floor_ns
    cdef uint64_t work          # frames since the last assertion
    cdef uint32_t tx_done, tx_enough    # descriptors done since then; so many do not wait
    cdef uint32_t rx_done, rx_enough
    cdef int64_t tx_last, rx_last       # when the last of them was
    cdef int64_t tx_seen        # when the guest last sent anything
    cdef int64_t handler_from   # when it read ICR for an interrupt and has not set IMS since; or 0
    cdef int64_t hold_until     # when one that answers nothing may be interrupted again
    cdef int64_t room_due       # when b_room says something else; 0 = it has room
    cdef uint32_t rx_since      # frames since ICR was read, or IMS set
    cdef void b_raise(self, uint32_t bits, int64_t now) noexcept nogil
    cdef void b_received(self, uint32_t bits, uint64_t frames, uint32_t descs, uint32_t ring,
                         int64_t now) noexcept nogil
    cdef void b_sent(self, uint32_t bits, bint delayed, uint64_t frames, uint32_t descs,
                     uint32_t ring, int64_t now) noexcept nogil
    cdef uint32_t b_read_icr(self, int64_t now) noexcept nogil
    cdef void b_masks(self, uint32_t set, uint32_t clear, int64_t now) noexcept nogil
    cdef void b_itr(self, int64_t interval_ns, int64_t now) noexcept nogil
    cdef void b_unmask(self) noexcept nogil
    cdef void b_tick(self, int64_t now) noexcept nogil
    cdef bint b_one_way(self, int64_t now) noexcept nogil
    cdef int64_t b_floor(self) noexcept nogil
    cdef uint32_t b_room(self, uint32_t burst, int64_t now) noexcept nogil
    cdef int64_t next_due(self) noexcept nogil
    cdef bint one_way(self, int64_t now) noexcept nogil
    cdef void _settle(self, int64_t now) noexcept nogil
    cdef void _assert(self, int64_t now) noexcept nogil
    cdef void _out(self) noexcept nogil

# A second thread that stores what one engine run has cut while the run goes on
# (`fastpath.secondcore`).
cdef class Second:
    cdef bint begin(self, RxPort rx, TxPort tx) noexcept
    cdef void post(self, FrameBatch piece) noexcept
    cdef void settle(self) noexcept
    cdef int done(self, int piece) noexcept

cdef class TxPort(RegHook):
    cdef public object _nic, _link, loop
    cdef readonly TxEngine engine
    cdef MacState mac
    cdef IrqCause irq
    cdef Beside beside
    cdef BatchPool pool
    cdef public bint open, deferred, resting, _pumping, _again
    cdef public int64_t _paused_until_ns, credit
    cdef public uint64_t doorbells, batches
    cdef CableEnd cable         # the link, when it is a cable that nothing overrides
    cdef int send(self) except -1
    cdef readonly Second second
    cdef int rounds(self) except -1
    cdef uint32_t run_beside(self, FrameBatch batch, int room, CableEnd cable,
                             int *sent) except? 0xFFFFFFFF
    cdef bint foreseen(self, FrameBatch batch, RxPort rx, int room) noexcept
    cdef uint32_t run(self, FrameBatch batch, int room) except? 0xFFFFFFFF

cdef class RxPort(RegHook):
    cdef public object _nic, _link
    cdef readonly RxEngine engine
    cdef MacState mac
    cdef IrqCause irq
    cdef Beside beside
    cdef public bint open, deferred, _held, _watch_fifo, _watch_control, _watch_wake, xoff_sent
    cdef public int _control_type
    cdef public uint64_t doorbells, batches
    cdef int run(self, FrameBatch batch, int start, bint hold) except -1
    cdef int after(self, uint32_t causes) except -1

cdef class RxSink(FrameSink):
    cdef RxPort rx
    cdef public bint off
    cdef bint can_store(self, FrameBatch batch) noexcept
