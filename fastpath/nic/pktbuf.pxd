# cython: language_level=3
"""The packet buffer: 64 KiB that the receive and the transmit FIFO share."""

from libc.stdint cimport uint8_t, uint32_t

from fastpath.nic.regfile cimport RegHook

cdef enum:
    PB_BYTES = 64 << 10
    PB_WORDS = 8192             # words of 8 bytes, which the pointers count
    PB_HEADER = 16              # bytes before each frame
    PB_FEW = 8                  # frames of a run that always leave their bytes in the FIFO

# One FIFO: offsets into its share, in words.
cdef struct pb_fifo:
    uint32_t base, size         # its share of the memory
    uint32_t head, tail
    uint32_t fill               # words of frames that wait
    uint32_t count              # frames that wait
    uint32_t taken              # words of the first one that host memory has already
    uint32_t begun              # words behind the tail of a frame that is not whole yet
    uint32_t saved_head, saved_tail

# Words that a frame of `n` bytes takes: header and bytes, to whole 16 bytes.
cdef inline uint32_t pb_words(uint32_t n) noexcept nogil:
    return ((n + PB_HEADER + 15) >> 4) << 1

# `words` of frames went through without waiting.
cdef inline void pb_pass(pb_fifo *f, uint32_t words) noexcept nogil:
    if words and f.size:
        f.tail = (f.tail + words) % f.size
        f.head = f.saved_head = f.saved_tail = f.tail

cdef class PacketBuffer(RegHook):
    cdef uint8_t *mem
    cdef pb_fifo rx, tx
    cdef public bint exact      # software has accessed PBM: every frame leaves its bytes
    cdef object forget          # called before software moves the receive FIFO's pointers
    cdef void put(self, pb_fifo *f, uint32_t at, const uint8_t *p, uint32_t n) noexcept nogil
    cdef void frame(self, pb_fifo *f, uint32_t at, const uint8_t *p, uint32_t n,
                    const uint8_t *fcs, uint32_t flags) noexcept nogil
    cdef void get(self, const pb_fifo *f, uint32_t at, uint8_t *p, uint32_t n) noexcept nogil
    cdef const uint8_t *whole(self, const pb_fifo *f, uint32_t at, uint32_t n) noexcept nogil
    cdef uint32_t *pointer(self, uint32_t which) noexcept
