# cython: language_level=3, overflowcheck=False
"""FrameBatch: one arena of frames plus an array of their offsets, lengths and marks."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stddef cimport size_t

cpdef enum:
    FB_HAS_FCS = 1              # the last 4 bytes are the FCS as software or the wire gave it
    FB_BAD_CRC = 2              # receive error: FCS does not match
    FB_ALIGN_ERR = 4            # receive error: not a whole number of bytes (10/100)
    FB_SYMBOL_ERR = 8           # receive error: invalid symbol
    FB_CARRIER_EXT = 16         # receive error: carrier extension
    # Super-frame: TCP over IPv4 or IPv6, or UDP over either, that its link cuts up; only for a link
    # with gso_max_bytes (UDP: and gso_udp). IP and UDP length and IP checksum are those of the
    # whole. The TCP or UDP checksum field holds the sum of the pseudo header, and `mark` says the
    # rest (fb_gso_mark).
    FB_GSO_TCPV4 = 32
    FB_GSO_TCPV6 = 64
    FB_GSO_UDP = 128

cdef struct frame_meta:
    uint32_t off                # into the arena
    uint32_t len                # bytes, FCS included only with FB_HAS_FCS
    uint32_t flags              # FB_*
    uint32_t mark               # free for links (queue, colour); FB_GSO_*: fb_gso_mark
    uint64_t tstamp_ns          # 0 = none

cdef class FrameBatch:
    cdef uint8_t *arena
    cdef size_t cap, used       # bytes
    cdef frame_meta *f
    cdef int n, maxn            # frames held; frames that `f` has room for
    cdef int limit              # frames never exceeded
    cdef size_t limit_bytes
    cdef bint _grow_arena(self, size_t need) noexcept nogil
    cdef bint _grow_meta(self) noexcept nogil
    cdef bint _renew_meta(self, int maxn, int skip) noexcept nogil
    cdef uint8_t *reserve(self, size_t n) noexcept nogil
    cdef int commit(self, size_t n, uint32_t flags) noexcept nogil
    cdef int append_raw(self, const uint8_t *p, size_t n, uint32_t flags) noexcept nogil
    # Append frame `i` of `other` (which may be self) with its marks; False when full.
    cdef bint append_from(self, FrameBatch other, int i) noexcept nogil
    cpdef clear(self)
    cdef int _index(self, object i) except -1

# The fast halves of reserve and commit, inlined into the engines.
cdef inline uint8_t *fb_reserve(FrameBatch b, size_t n) noexcept nogil:
    if b.used + n > b.cap or b.n >= b.maxn:
        return b.reserve(n)
    return b.arena + b.used

# Without `+=`, whose check for overflow (a directive of stack/) needs the GIL.
cdef inline int fb_commit(FrameBatch b, size_t n, uint32_t flags) noexcept nogil:
    cdef frame_meta *m = &b.f[b.n]
    m.off = <uint32_t>b.used
    m.len = <uint32_t>n
    m.flags = flags
    m.mark = 0
    m.tstamp_ns = 0
    b.used = b.used + ((n + 63) & ~<size_t>63)
    b.n = b.n + 1
    return b.n - 1

# What `mark` holds of a super-frame: bytes of payload per segment, length of all headers, offset of
# the TCP or UDP header.
cdef inline uint32_t fb_gso_mark(uint32_t mss, uint32_t hdrlen, uint32_t l4) noexcept nogil:
    return mss | hdrlen << 16 | l4 << 24

cdef inline uint32_t fb_gso_segments(const frame_meta *m) noexcept nogil:
    """How many frames it makes on the wire: 1 for a plain one."""
    cdef uint32_t mss = m.mark & 0xFFFF, hdrlen = m.mark >> 16 & 0xFF
    cdef uint32_t gso = m.flags & (FB_GSO_TCPV4 | FB_GSO_TCPV6 | FB_GSO_UDP)
    if gso == 0 or mss == 0 or m.len <= hdrlen + mss:
        return 1
    return (m.len - hdrlen + mss - 1) // mss
