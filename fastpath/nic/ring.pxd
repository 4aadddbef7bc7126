# cython: language_level=3
"""A ring of descriptors in host memory: what the transmit and the receive engine have alike."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpath.base.dma cimport DmaTable
from fastpath.nic.desccache cimport desc_cache
from fastpath.nic.e1000_hw cimport MIN_RING
from fastpath.nic.pktbuf cimport PacketBuffer
from fastpath.nic.regfile cimport RegFile, Stats

# A ring of `n` descriptors that the hardware does not use: it is too short, or an index lies beyond
# it. The tail may be `n`, which is no index but has a meaning.
cdef inline bint ring_off(uint32_t n, uint32_t head, uint32_t tail) noexcept nogil:
    return n < MIN_RING or head >= n or tail > n

cdef class DescriptorRing:
    cdef readonly RegFile regs
    cdef uint32_t *v            # its values
    cdef uint32_t *at           # those of the ring itself: TDBAL to TDT, or RDBAL to RDT
    cdef readonly DmaTable dma
    cdef readonly Stats stats
    cdef readonly PacketBuffer buffer
    cdef public uint64_t ring_errors, desc_aborts, data_aborts
    cdef public uint64_t misdirect      # bits of the ring's address that a fault inverts
    cdef public uint32_t hold   # descriptors that a write-back waits for (WTHRESH)
    cdef bint running           # inside a run: a second one does nothing
    cdef uint32_t seen          # what a run has decoded is valid while `regs.changes` equals it
    cdef desc_cache chip        # fetched descriptors (`prefetch`, `cached`)
    cdef int _use(self, DmaTable dma, Stats stats, RegFile regs, uint32_t first,
                  PacketBuffer buffer) except -1
    cdef uint64_t _base(self) noexcept nogil
    cdef int _write_back(self, uint32_t head, uint32_t owed, uint8_t keep) noexcept nogil
