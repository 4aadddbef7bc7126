# cython: language_level=3, overflowcheck=False
"""The device between a doorbell and an interrupt: what happens per batch, without Python."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastpath.batch cimport FrameBatch
from fastpath.cable cimport BatchPool, CableEnd, FrameSink
from fastpath.irqblock cimport IrqBlock, WriteBack, Worker
from fastpath.regfile cimport RegFile, RegHook
from fastpath.rxring cimport RxEngine
from fastpath.txring cimport TxEngine

cdef class MacState:
    cdef public bint in_engine, reset_pending, memory_on, halted
    cdef public bint bottom_half    # rings run after the event that starts them, not within it
    cdef int stopped                # the device is paused or halted: no engine may start

cdef class BarWindow:
    cdef RegFile regs
    cdef MacState mac
    cdef bint plain(self, int64_t off) noexcept

# Flags that `RxPort.step` returns beside causes, RX_ABORT and RX_DATA_ABORT.
cdef enum:
    RX_LOOK = 0x10000000        # nothing was stored: Python must see the frames first (`special`)
    RX_LEVEL = 0x20000000       # the FIFO may have crossed a threshold that sends PAUSE frames

# A second thread that stores the frames of an engine run while the run continues
# (`fastpath.secondcore`).
cdef class Second:
    cdef bint begin(self, RxPort rx, TxPort tx) noexcept
    cdef void post(self, FrameBatch piece) noexcept
    cdef void settle(self) noexcept
    cdef int done(self, int piece) noexcept

cdef class TxPort(RegHook):
    cdef public object _nic, _link, loop
    cdef public object fetch    # decides when the engine runs, on a bus that takes time; or None
    cdef readonly TxEngine engine
    cdef MacState mac
    cdef IrqBlock irq
    cdef Worker worker          # a thread that works the rings, or None
    cdef BatchPool pool
    cdef public bint open, resting, _pumping, _again
    cdef public bint put_off    # `pump` has work that waits until the device is no longer paused
    cdef public int64_t _paused_until_ns, credit
    cdef public uint64_t doorbells, batches
    cdef CableEnd cable         # the link, when it is a cable that nothing overrides
    cdef bint odd(self, uint32_t tail) noexcept nogil
    cdef bint may(self) noexcept nogil
    cdef int send(self) except -1
    cdef int fill(self) except -1
    cdef readonly Second second
    cdef int rounds(self) except -1
    cdef uint32_t run_beside(self, FrameBatch batch, int room, CableEnd cable,
                             int *sent) except? 0xFFFFFFFF
    cdef bint foreseen(self, FrameBatch batch, RxPort rx, int room) noexcept
    cdef uint32_t descs         # descriptors done since `tell`
    cdef uint32_t step(self, FrameBatch batch, int room) noexcept nogil
    cdef void tell(self, uint32_t flags, uint64_t frames, int64_t now) noexcept nogil
    cdef int finish(self, uint32_t flags, uint64_t frames) except -1
    cdef uint32_t run(self, FrameBatch batch, int room) except? 0xFFFFFFFF

cdef class RxPort(RegHook):
    cdef public object _nic, _link
    cdef readonly RxEngine engine
    cdef MacState mac
    cdef IrqBlock irq
    cdef Worker worker          # a thread that works the rings, or None
    cdef public bint open, _held, xoff_sent
    cdef public int watching    # WATCH_*: the filters in Python that see frames first
    cdef public bint put_off    # `kick` has work that waits until the device is no longer paused
    cdef public uint64_t doorbells, batches
    cdef public object stage    # fetches descriptors by messages before a run, or None
    cdef uint64_t frames        # frames stored since `tell`
    cdef uint32_t descs
    cdef bint odd(self, uint32_t tail) noexcept nogil
    cdef bint waits(self) noexcept nogil
    cdef int control(self, FrameBatch batch, int start) noexcept nogil
    cdef bint special(self, FrameBatch batch, int start) noexcept nogil
    cdef bint crosses(self) noexcept nogil
    cdef void enter(self) noexcept nogil
    cdef void leave(self) noexcept nogil
    cdef int store(self, FrameBatch batch, int start, bint hold) noexcept nogil
    cdef int step(self, FrameBatch batch, int start, bint hold, int64_t now,
                  uint32_t *events) noexcept nogil
    cdef uint32_t drain(self, int64_t now) noexcept nogil
    cdef uint32_t events(self, int64_t now) noexcept nogil
    cdef void took(self, int frames, uint32_t head) noexcept nogil
    cdef void tell(self, uint32_t causes, int64_t now) noexcept nogil
    cdef int finish(self, uint32_t events) except -1
    cdef int stalled(self, FrameBatch batch, int start, bint hold) except -1
    cdef int take(self, FrameBatch batch, int start, bint hold) except -1
    cdef int run(self, FrameBatch batch, int start, bint hold) except -1
    cdef int act(self, uint32_t events) except -1
    cdef int look(self, FrameBatch batch, int start, bint hold) except -1
    cdef int others(self, FrameBatch batch, int start, bint hold) except -1
    cdef int after(self) except -1

cdef class HeldBack(WriteBack):
    cdef TxEngine tx
    cdef RxEngine rx

cdef class RxSink(FrameSink):
    cdef RxPort rx
    cdef bint can_store(self, FrameBatch batch) noexcept
