# cython: language_level=3
"""Descriptors on the chip: when they are fetched from host memory, for both rings.

The rule (SDM 3.2.4, 3.4.1, 13.4.43, 13.4.46): an empty cache takes what host memory has, at once.
One that holds fewer descriptors than PTHRESH takes more, if host memory has HTHRESH of them. What
is in the cache is not read again, whatever software does to it in memory.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove

from fastpath.base.bytes cimport ld64le, st64le
from fastpath.base.dma cimport dma_read, dma_table

cdef enum:
    DC_SIZE = 64                # descriptors of one ring that the chip holds
    DC_BYTES = 16               # of each

cdef struct desc_cache:
    uint32_t end, have          # `have` of them, before place `end` of `d`
    uint32_t low                # fewer than so many: look for more; 0: not between runs
    uint32_t host               # which takes place if host memory has so many (HTHRESH)
    uint8_t d[1024]

# Whether host memory, with `waiting` descriptors of the ring (those in the cache among them), is to
# be asked now.
cdef inline bint dc_wants(const desc_cache *c, uint32_t waiting) noexcept nogil:
    if c.have:
        return c.have < c.low and waiting > c.have and waiting - c.have >= c.host
    return waiting != 0

# Number `k` of them.
cdef inline uint8_t *dc_at(desc_cache *c, uint32_t k) noexcept nogil:
    return c.d + (c.end - c.have + k) * DC_BYTES

# Fetch what fits of the `waiting` descriptors from `head` on of a ring of `n` at `base` (at `ring`,
# when that is memory). A burst ends where no memory answers; -1: it does not even begin.
cdef inline int dc_fetch(desc_cache *c, dma_table *t, const uint8_t *ring, uint64_t base,
                         uint32_t n, uint32_t head, uint32_t waiting) noexcept nogil:
    cdef uint32_t at = head + c.have, todo = waiting - c.have, part
    cdef uint8_t *d
    if c.have:
        memmove(c.d, dc_at(c, 0), c.have * DC_BYTES)
    c.end = c.have
    if todo > DC_SIZE - c.have:
        todo = DC_SIZE - c.have
    if at >= n:
        at -= n
    while todo:
        d = c.d + c.end * DC_BYTES
        part = 1
        if ring != NULL:
            part = todo if todo <= n - at else n - at
            memcpy(d, ring + <uint64_t>at * DC_BYTES, part * DC_BYTES)
        elif dma_read(t, base + <uint64_t>at * DC_BYTES, d, DC_BYTES):
            return 0 if c.have else -1
        c.end += part
        c.have += part
        at = at + part if at + part < n else 0
        todo -= part
    return 0

# The tail moved back: drop the descriptors behind it.
cdef inline void dc_trim(desc_cache *c, uint32_t waiting) noexcept nogil:
    if c.have > waiting:
        c.end -= c.have - waiting
        c.have = waiting

# A fault turns bits of the buffer's address over in descriptor `k`.
cdef inline void dc_turn(desc_cache *c, uint32_t k, uint64_t bits) noexcept nogil:
    cdef uint8_t *d = dc_at(c, k)
    st64le(d, ld64le(d) ^ bits)

# For snapshots: what was fetched, the oldest first.
cdef inline bytes dc_bytes(desc_cache *c):
    return (<char *>dc_at(c, 0))[:c.have * DC_BYTES]

cdef inline int dc_load(desc_cache *c, bytes data) except -1:
    if len(data) % DC_BYTES or len(data) > DC_SIZE * DC_BYTES:
        raise ValueError("damaged descriptor cache")
    c.end = c.have = <uint32_t>(len(data) // DC_BYTES)
    memcpy(c.d, <const char *>data, len(data))
    return 0
