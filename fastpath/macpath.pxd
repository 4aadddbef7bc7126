# cython: language_level=3
"""The device between a doorbell and an interrupt: what happens per batch, without Python."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastpath.batch cimport FrameBatch
from fastpath.cable cimport BatchPool
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

cdef class MacState:
    cdef public bint in_engine, reset_pending, memory_on

cdef class BarWindow:
    cdef RegFile regs
    cdef MacState mac

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
    cdef public uint32_t _rdtr
    cdef public bint tx_delayed
    cdef int raise_causes(self, uint32_t bits) except -1
    cdef int update(self) except -1
    cdef int drive(self) except -1

cdef class TxPort(RegHook):
    cdef public object _nic, _link, loop
    cdef readonly TxEngine engine
    cdef MacState mac
    cdef IrqCause irq
    cdef BatchPool pool
    cdef public bint open, deferred, _pumping, _again
    cdef public int64_t _paused_until_ns
    cdef public uint64_t doorbells, batches
    cdef int send(self) except -1
    cdef int rounds(self) except -1
    cdef uint32_t run(self, FrameBatch batch, int room) except? 0xFFFFFFFF

cdef class RxPort(RegHook):
    cdef public object _nic, _link
    cdef readonly RxEngine engine
    cdef MacState mac
    cdef IrqCause irq
    cdef public bint open, deferred, _held, _watch_fifo, _watch_control, xoff_sent
    cdef public int _control_type
    cdef public uint64_t doorbells, batches
    cdef int run(self, FrameBatch batch, int start, bint hold) except -1
    cdef int after(self, uint32_t causes) except -1
