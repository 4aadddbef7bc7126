# cython: language_level=3
"""Receive ring engine: what one queue remembers, as plain memory."""

cimport cython
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

from fastpath.base.batch cimport FrameBatch
from fastpath.nic.pktbuf cimport pb_fifo
from fastpath.nic.ring cimport DescriptorRing
from fastpath.nic.rxfilter cimport RxFilter, rx_filter

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
    RX_MAX_WAIT = 2048          # how many of the smallest frames the packet buffer holds

# State of a queue beside its registers and the FIFO.
cdef struct rx_state:
    uint32_t fifo_bytes         # PBA's value at the last reset, in bytes
    uint32_t causes             # causes since the control plane last took them
    uint32_t fifo_off           # bytes of the FIFO's first frame that host memory has already
    uint32_t owed               # descriptors behind head whose DD WTHRESH still holds

# A frame that waits in the packet buffer, as the receiver needs it.
cdef struct rx_waiting:
    uint32_t len                # bytes without the FCS that follows
    uint32_t flags              # FB_*
    int32_t verdict             # the address filter's

cdef struct rx_acc:
    uint64_t total, total_bytes, good, good_bytes, bcast, mcast
    uint64_t bucket[6]


@cython.final
cdef class RxEngine(DescriptorRing):
    cdef rx_state s
    cdef readonly RxFilter filter
    cdef pb_fifo *fifo          # its receive FIFO
    cdef rx_waiting *waits      # a ring beside the FIFO, whose own headers software may change
    cdef uint32_t waits_at      # where in it the first of `fifo.count` frames is
    cdef uint8_t *scratch       # room for one image
    cdef uint8_t *linear        # a frame that wraps round the end of the FIFO, in one piece
    cdef public uint64_t frames_dropped_disabled, frames_filtered, frames_bad, frames_missed
    cdef readonly uint64_t symbol_errors    # frames with RX_ER; the PHY's counter, so never reset
    cdef public bint pad_runts  # a frame without FCS is padded; else it is a runt
    cdef public bint promiscuous        # runs take every address: PMCF passes a control frame
    cdef public int prefetched  # descriptors up to here can be read; -1: all up to the tail
    # decoded registers, valid while `regs.changes` equals `seen`
    cdef uint32_t rctl, rxcsum, rsrpd, vet, bsize
    cdef bint vme
    cdef const rx_filter *accept
    # valid inside one run only
    cdef uint8_t *ring
    cdef uint64_t ring_base
    cdef uint32_t n, head, free, low
    cdef bint usable            # descriptors in the cache: bus mastering is on, there is a ring
    cdef uint32_t whole         # bytes of the longest frame that fits one buffer; 0 without `ring`
    cdef uint32_t passed        # words of frames that did not wait, still to be passed to `pb_pass`
    cdef bint record            # frames that did not wait leave their bytes in the FIFO too
    cdef rx_acc acc
    cdef uint32_t _tail(self) noexcept nogil
    cdef uint32_t _free_now(self) noexcept nogil
    cdef bint _wants(self) noexcept nogil
    cdef void _more(self) noexcept nogil
    cdef void _advance(self, uint32_t count) noexcept nogil
    cdef uint32_t _stretch(self) noexcept nogil
    cdef bint _here(self) noexcept nogil
    cdef void _decode(self) noexcept nogil
    cdef void _begin(self) noexcept nogil
    cdef void _end(self) noexcept nogil
    cdef int _receive(self, FrameBatch b, int start, bint hold) noexcept nogil
    cdef int _straight(self, FrameBatch b, int start) noexcept nogil
    cdef bint _frame(self, const uint8_t *p, uint32_t n, uint32_t fflags, bint hold) noexcept nogil
    cdef uint64_t _image(self, uint8_t *dst, const uint8_t *p, uint32_t n, const uint8_t *fcs,
                         int verdict) noexcept nogil
    cdef uint64_t _packet_sum(self, const uint8_t *image, uint32_t size,
                              uint64_t acc) noexcept nogil
    cdef uint32_t _store(self, const uint8_t *image, uint64_t last, uint32_t off) noexcept nogil
    cdef bint _writeback(self, uint64_t q) noexcept nogil
    cdef bint _repay(self, uint32_t head) noexcept nogil
    cdef uint64_t _errors_of(self, uint32_t fflags) noexcept nogil
    cdef void _record(self, const uint8_t *p, uint32_t n, const uint8_t *fcs,
                      uint32_t fflags) noexcept nogil
    cdef void _write(self, const uint8_t *p, uint32_t n, const uint8_t *fcs,
                     uint32_t fflags) noexcept nogil
    cdef void _push(self, const uint8_t *p, uint32_t n, const uint8_t *fcs, uint32_t fflags,
                    int verdict) noexcept nogil
    cdef bint _takes(self, uint32_t n) noexcept nogil
    cdef int _drain(self) noexcept nogil
    cdef int _kick(self) noexcept nogil
    cdef void _empty(self) noexcept nogil
    cdef void _group(self, int verdict) noexcept nogil
    cdef void _errors(self, uint32_t wire, uint32_t fflags, bint wrong_size) noexcept nogil
