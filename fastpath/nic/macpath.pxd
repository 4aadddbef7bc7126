# cython: language_level=3, overflowcheck=False
"""The device between a doorbell and an interrupt: what happens per batch, without Python."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastpath.base.batch cimport FrameBatch
from fastpath.nic.cable cimport BatchPool, CableEnd, FrameSink
from fastpath.nic.irqblock cimport IrqBlock, WriteBack, Worker
from fastpath.nic.regfile cimport RegFile, RegHook
from fastpath.nic.rxring cimport RxEngine
from fastpath.nic.txring cimport TxEngine, tx_budget

cdef class MacState:
    cdef public bint in_engine, reset_pending, memory_on, halted
    cdef public bint bottom_half    # rings run after the event that starts them, not within it
    cdef int stopped                # the device is paused or halted: no engine may start

cdef class BarWindow:
    cdef RegFile regs
    cdef MacState mac
    cdef bint plain(self, int64_t off) noexcept

# Flags that `RxPort._receive` returns beside causes, RX_ABORT and RX_DATA_ABORT.
cdef enum:
    RX_FILTER = 0x10000000      # nothing was stored: Python must see the frames (`must_filter`)
    RX_LEVEL = 0x20000000       # the FIFO may have crossed a threshold that sends PAUSE frames

# What keeps the transmitter from sending, in the order in which it is reported.
cpdef enum:
    TX_DISABLED = 0x01          # TCTL.EN is 0
    TX_NO_MASTER = 0x02         # PCI's bus mastering is off
    TX_NO_RING = 0x04           # TDLEN is too short, or an index lies beyond the ring
    TX_NO_LINK = 0x08           # there is no link, and no loopback
    TX_XOFF = 0x10              # a PAUSE frame has come
    TX_STILL = 0x20             # the device is paused or halted
    TX_RESTING = 0x40           # the credit is used up
    TX_NO_WIRE = 0x38           # what also stops frames that are not of the ring

cdef class TxPort(RegHook):
    cdef public object _link, loop
    cdef public object finish_reset     # called when a reset waits for the engine to return
    cdef public object faults   # those of the hardware, which a worker asks too; or None
    cdef public object fetch    # decides when the engine runs, on a bus that takes time; or None
    cdef readonly TxEngine engine
    cdef MacState mac
    cdef IrqBlock irq
    cdef Worker worker          # a thread that works the rings, or None
    cdef BatchPool pool
    cdef int stops              # TX_NO_LINK, TX_XOFF, TX_RESTING: what the port itself knows
    cdef public bint _pumping, _again
    cdef public bint put_off    # `pump` has work that waits until the device is no longer paused
    cdef public int64_t credit
    cdef public uint64_t doorbells, batches
    cdef CableEnd cable         # the link, when it is a cable that nothing overrides
    cdef uint32_t descs         # descriptors done since `raise_causes`
    cdef int stop(self, int why, bint on) except -1
    cdef bint may(self) noexcept nogil
    cdef uint32_t stopped(self) noexcept nogil
    cdef bint bad_tail(self, uint32_t tail) noexcept nogil
    cdef int send(self) except -1
    cdef int fill(self) except -1
    cdef uint32_t _step(self, FrameBatch batch, const tx_budget *budget) noexcept nogil
    cdef uint32_t run(self, FrameBatch batch, const tx_budget *budget) except? 0xFFFFFFFF
    cdef bint wired(self) noexcept
    cdef int _room(self) except? -1
    cdef int _deliver(self, FrameBatch batch) except -1
    cdef void raise_causes(self, uint32_t flags, uint64_t frames, int64_t now) noexcept nogil
    cdef int finish(self, uint32_t flags, uint64_t frames) except -1
    cdef int rounds(self) except -1

cdef class RxPort(RegHook):
    cdef public object _link
    cdef public object finish_reset     # called when a reset waits for the engine to return
    cdef public object fifo_changed     # called when the FIFO has crossed a threshold
    cdef public object entry    # takes the frames that a worker leaves to Python, as `receive`
    cdef readonly RxEngine engine
    cdef MacState mac
    cdef IrqBlock irq
    cdef Worker worker          # a thread that works the rings, or None
    cdef public bint open, _held, xoff_sent
    cdef public int watching    # WATCH_*: the filters in Python that see frames first
    cdef public bint put_off    # `kick` has work that waits until the device is no longer paused
    cdef public uint64_t doorbells, batches
    cdef public object stage    # fetches descriptors by messages before a run, or None
    cdef uint64_t frames        # frames stored since `raise_causes`
    cdef uint32_t descs
    cdef bint bad_tail(self, uint32_t tail) noexcept nogil
    cdef bint frames_wait(self) noexcept nogil
    cdef int find_control(self, FrameBatch batch, int start) noexcept nogil
    cdef bint must_filter(self, FrameBatch batch, int start) noexcept nogil
    cdef bint _pause_due(self) noexcept nogil
    cdef void begin(self) noexcept nogil
    cdef void end(self) noexcept nogil
    cdef int _receive(self, FrameBatch batch, int start, bint hold, int64_t now,
                      uint32_t *events) noexcept nogil
    cdef uint32_t drain(self, int64_t now) noexcept nogil
    cdef void count_stored(self, int frames, uint32_t head) noexcept nogil
    cdef uint32_t collect_causes(self, int64_t now) noexcept nogil
    cdef void raise_causes(self, uint32_t causes, int64_t now) noexcept nogil
    cdef int finish(self, uint32_t events) except -1
    cdef int handle(self, uint32_t events) except -1
    cdef int report(self) except -1
    cdef int accept(self, FrameBatch batch, int start, bint hold, int64_t now,
                    uint32_t *events) except -1
    cdef int receive_paused(self, FrameBatch batch, int start, bint hold) except -1
    cdef int receive_running(self, FrameBatch batch, int start, bint hold) except -1
    cdef int filter(self, FrameBatch batch, int start, bint hold) except -1

cdef class HeldBack(WriteBack):
    cdef TxEngine tx
    cdef RxEngine rx

cdef class RxSink(FrameSink):
    cdef RxPort rx
