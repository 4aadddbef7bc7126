# cython: language_level=3
"""Receive ring engine: what one queue remembers, as plain memory."""

cimport cython
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.batch cimport FrameBatch
from fastpath.dma cimport DmaTable
from fastpath.pktbuf cimport PacketBuffer, pb_fifo
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
    RX_MAX_WAIT = 2048          # frames of the smallest size that the packet buffer holds

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

# What the receiver knows of a frame that waits in the packet buffer.
cdef struct rx_waiting:
    uint32_t len                # bytes, the FCS behind them not counted
    uint32_t flags              # FB_*
    int32_t verdict             # the address filter's

cdef struct rx_acc:
    uint64_t total, total_bytes, good, good_bytes, bcast, mcast
    uint64_t bucket[6]


@cython.final
cdef class RxEngine:
    cdef rx_state s
    cdef readonly DmaTable dma
    cdef readonly Stats stats
    cdef readonly RxFilter filter
    cdef readonly PacketBuffer buffer
    cdef pb_fifo *fifo          # its receive FIFO
    cdef rx_waiting *waits      # a ring beside the FIFO: what is in its words is not believed
    cdef uint32_t waits_at      # the first of `fifo.count` in it
    cdef uint8_t *scratch       # an image
    cdef uint8_t *linear        # a frame that lies round the end of the FIFO
    cdef public uint64_t frames_dropped_disabled, frames_filtered, frames_bad, frames_missed
    cdef public uint64_t ring_errors, desc_aborts, data_aborts
    cdef bint running           # inside receive() or kick(): a second one does nothing
    # valid inside one run only
    cdef uint8_t *ring
    cdef uint64_t ring_base
    cdef uint32_t n, free, bsize, low
    cdef uint32_t whole         # bytes of a frame that goes into one buffer by way of `ring`
    cdef uint32_t passed        # words of frames that did not wait, not yet told the FIFO
    cdef bint record            # they leave their bytes in it
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
    cdef void _errors_of(self, uint32_t fflags, rx_meta *m) noexcept nogil
    cdef void _record(self, const uint8_t *p, uint32_t n, const uint8_t *fcs,
                      uint32_t fflags) noexcept nogil
    cdef void _write(self, const uint8_t *p, uint32_t n, const uint8_t *fcs,
                     uint32_t fflags) noexcept nogil
    cdef void _push(self, const uint8_t *p, uint32_t n, const uint8_t *fcs, uint32_t fflags,
                    int verdict) noexcept nogil
    cdef bint _takes(self, uint32_t n) noexcept nogil
    cdef int _drain(self) noexcept nogil
    cdef void _empty(self) noexcept nogil
    cdef void _total(self, uint32_t wire) noexcept nogil
    cdef void _good(self, uint32_t wire, int verdict) noexcept nogil
    cdef void _errors(self, uint32_t wire, uint32_t fflags, bint wrong_size) noexcept nogil
