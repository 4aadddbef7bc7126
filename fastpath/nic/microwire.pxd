# cython: language_level=3
"""The serial EEPROM at its pins, and the register (EECD) that moves them."""

from libc.stdint cimport int64_t, uint32_t

from fastpath.nic.regfile cimport RegFile, RegHook

cdef class Microwire:
    cdef readonly list words
    cdef readonly uint32_t address_bits
    cdef public bint write_enabled
    cdef public int64_t writes
    cdef bint cs, sk, do, status
    cdef int phase, operation           # P_*, OP_*
    cdef uint32_t shift, bits, address, data, word, pending_address
    cdef int64_t busy_until
    cdef int pins(self, bint cs, bint sk, bint di, object clock) except -1
    cdef int deselect(self, object clock) except -1
    cdef int clock_in(self, bint di, object clock) except -1
    cdef int decode(self) except -1

cdef class EecdPort(RegHook):
    cdef readonly Microwire chip
    cdef RegFile regs
    cdef object clock
    cdef bint arbitrated
    cdef public bint eerd_waiting
