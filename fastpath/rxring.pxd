# cython: language_level=3
"""Receive ring engine: what one queue remembers, as plain memory."""

cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.batch cimport FrameBatch
from fastpath.dma cimport DmaTable
from fastpath.regfile cimport Stats
from fastpath.rxfilter cimport RxFilter

cpdef enum:
    RXSEQ = 0x8
    RXDMT0 = 0x10
    RXO = 0x40
    RXT0 = 0x80
    SRPD = 0x10000
    RX_ABORT = 0x4000000
    RX_DATA_ABORT = 0x8000000

cdef enum:
    RX_MAX_IMAGE = 16384 + 64

cdef struct rx_state:
    uint64_t base
    uint32_t len, head, tail, rctl, rxdctl, rxcsum, rsrpd, vet, vme
    uint32_t fifo_bytes, pad_runts, ipv6_csum
    uint32_t causes
    uint32_t fifo_off           # bytes of the FIFO's first frame that are in host memory already

# What the last descriptor of a frame will say.
cdef struct rx_meta:
    uint32_t len                # bytes stored
    uint16_t csum               # packet checksum, for the first descriptor
    uint16_t special
    uint8_t status
    uint8_t errors
    uint16_t reserved

cdef struct rx_acc:
    uint64_t total, total_bytes, good, good_bytes, bcast, mcast
    uint64_t bucket[6]


@cython.final
cdef class RxEngine:
    cdef rx_state s
    cdef readonly DmaTable dma
    cdef readonly Stats stats
    cdef readonly RxFilter filter
    cdef FrameBatch fifo        # rx_meta, then the bytes to store
    cdef int fifo_head          # first frame of `fifo` that still waits
    cdef uint64_t fifo_fill
    cdef uint8_t *scratch
    cdef public uint64_t frames_dropped_disabled, frames_filtered, frames_bad, frames_missed
    cdef public uint64_t ring_errors, desc_aborts, data_aborts
    cdef bint running           # inside receive() or kick(): a second one does nothing
    # valid inside one run only
    cdef uint8_t *ring
    cdef uint64_t ring_base
    cdef uint32_t n, free, bsize, low
    cdef rx_acc acc
    cdef uint32_t _free_now(self) noexcept nogil
    cdef void _begin(self) noexcept nogil
    cdef void _end(self) noexcept nogil
    cdef int _receive(self, FrameBatch b, int start, bint hold) noexcept nogil
    cdef bint _frame(self, const uint8_t *p, uint32_t n, uint32_t fflags, bint hold) noexcept nogil
    cdef void _image(self, uint8_t *dst, const uint8_t *p, uint32_t n, const uint8_t *fcs,
                     int verdict,
                     rx_meta *m) noexcept nogil
    cdef uint32_t _store(self, const uint8_t *image, const rx_meta *m, uint32_t off) noexcept nogil
    cdef bint _writeback(self, uint64_t q) noexcept nogil
    cdef bint _push(self, const uint8_t *image, const rx_meta *m) noexcept nogil
    cdef int _drain(self) noexcept nogil
    cdef void _compact(self) noexcept nogil
    cdef void _total(self, uint32_t wire) noexcept nogil
    cdef void _good(self, uint32_t wire, int verdict) noexcept nogil
    cdef void _errors(self, uint32_t wire, uint32_t fflags, bint wrong_size) noexcept nogil
