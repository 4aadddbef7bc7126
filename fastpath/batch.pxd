# cython: language_level=3
"""FrameBatch: one arena of frames plus an array of their offsets, lengths and marks."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stddef cimport size_t

cpdef enum:
    FB_HAS_FCS = 1              # the last 4 bytes are the FCS as software or the wire gave it
    FB_BAD_CRC = 2              # receive error: FCS does not match
    FB_ALIGN_ERR = 4            # receive error: not a whole number of bytes (10/100)
    FB_SYMBOL_ERR = 8           # receive error: invalid symbol
    FB_CARRIER_EXT = 16         # receive error: carrier extension

cdef struct frame_meta:
    uint32_t off                # into the arena
    uint32_t len                # bytes, FCS included only with FB_HAS_FCS
    uint32_t flags              # FB_*
    uint32_t mark               # free for links (queue, colour)
    uint64_t tstamp_ns          # 0 = none

cdef class FrameBatch:
    cdef uint8_t *arena
    cdef size_t cap, used       # bytes
    cdef frame_meta *f
    cdef int n, maxn            # frames held; frames that `f` has room for
    cdef int limit              # frames never exceeded
    cdef size_t limit_bytes
    cdef int exports            # memoryviews alive: the arena must not move
    cdef bint _grow_arena(self, size_t need) noexcept nogil
    cdef bint _grow_meta(self) noexcept nogil
    cdef uint8_t *reserve(self, size_t n) noexcept nogil
    cdef int commit(self, size_t n, uint32_t flags) noexcept nogil
    cdef int append_raw(self, const uint8_t *p, size_t n, uint32_t flags) noexcept nogil
    cdef int _index(self, object i) except -1

# The fast halves of reserve and commit, inlined into the engines.
cdef inline uint8_t *fb_reserve(FrameBatch b, size_t n) noexcept nogil:
    if b.used + n > b.cap or b.n >= b.maxn:
        return b.reserve(n)
    return b.arena + b.used

cdef inline int fb_commit(FrameBatch b, size_t n, uint32_t flags) noexcept nogil:
    cdef frame_meta *m = &b.f[b.n]
    m.off = <uint32_t>b.used
    m.len = <uint32_t>n
    m.flags = flags
    m.mark = 0
    m.tstamp_ns = 0
    b.used += (n + 63) & ~<size_t>63
    b.n += 1
    return b.n - 1
