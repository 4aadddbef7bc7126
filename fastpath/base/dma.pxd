# cython: language_level=3, overflowcheck=False
"""The bus-master's view of memory, and the host RAM behind it."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stddef cimport size_t

cdef enum:
    DMA_READABLE = 1
    DMA_WRITABLE = 2

cdef struct dma_region:
    uint64_t base
    uint64_t len
    uint8_t *ptr
    uint32_t flags              # 1 device may read, 2 device may write

# Message DMA (vfio-user without shared memory, qtest): asked when no region holds an address; 0 or
# -1.
ctypedef int (*dma_read_fn)(void *ctx, uint64_t addr, uint8_t *dst, size_t n) noexcept nogil
ctypedef int (*dma_write_fn)(void *ctx, uint64_t addr, const uint8_t *src, size_t n) noexcept nogil

cdef struct dma_table:
    dma_region *regions         # sorted by base, disjoint
    int n
    int cap
    int last                    # index of the region that answered last
    int enabled                 # PCI command register, bus master bit
    int ordered                 # bytes 8-15 of receive descriptors go the way of messages
    uint64_t aborts             # master aborts so far
    dma_read_fn cb_read
    dma_write_fn cb_write
    void *cb_ctx

# NULL unless [addr, addr+n) lies wholly inside one region that allows the direction.
cdef inline uint8_t *dma_resolve(dma_table *t, uint64_t addr, uint64_t n,
                                 bint write) noexcept nogil:
    cdef dma_region *r
    cdef uint32_t need = DMA_WRITABLE if write else DMA_READABLE
    cdef uint64_t off
    cdef int lo, hi, mid
    if t.n == 0 or not t.enabled:
        return NULL
    r = &t.regions[t.last]
    off = addr - r.base
    if off < r.len and n <= r.len - off:
        return r.ptr + off if r.flags & need else NULL
    lo = 0
    hi = t.n
    while lo < hi:
        mid = (lo + hi) >> 1
        if t.regions[mid].base <= addr:
            lo = mid + 1
        else:
            hi = mid
    if lo == 0:
        return NULL
    r = &t.regions[lo - 1]
    off = addr - r.base
    if off >= r.len or n > r.len - off or not r.flags & need:
        return NULL
    t.last = lo - 1
    return r.ptr + off

# Where [addr, addr+n) lies in `r`, NULL when it does not or the direction is not allowed: for loops
# that keep the region at hand.
cdef inline uint8_t *dma_within(const dma_region *r, uint64_t addr, uint64_t n,
                                uint32_t need) noexcept nogil:
    cdef uint64_t off = addr - r.base
    return r.ptr + off if off < r.len and n <= r.len - off and r.flags & need else NULL

# Gather/scatter over adjacent regions; unmapped bytes read 0xFF, written bytes vanish, aborts += 1,
# -1.
cdef int dma_read(dma_table *t, uint64_t addr, uint8_t *dst, size_t n) noexcept nogil
cdef int dma_write(dma_table *t, uint64_t addr, const uint8_t *src, size_t n) noexcept nogil

# What a driver polls for: DD becomes visible after everything else, and is stored once. `addr` is
# the status byte's, or that of bytes 8-15 of a receive descriptor (`half`). 0 or -1, as dma_write.
cdef int dma_write_status(dma_table *t, uint64_t addr, uint8_t status) noexcept nogil
cdef int dma_write_half(dma_table *t, uint64_t addr, uint64_t half) noexcept nogil
# Set DD in the `count` descriptors behind `head` of a ring of `n` (count <= n, head < n), the
# oldest first; of what else their status says the bits `keep` stay.
cdef int dma_report(dma_table *t, uint64_t base, uint32_t n, uint32_t head, uint32_t count,
                    uint8_t keep) noexcept nogil

cdef class DmaTable:
    cdef dma_table t
    cdef int busy               # engines inside a nogil section: regions must not move
    cdef list _views            # memoryviews that keep the buffers, same order as t.regions
    cdef object _py_read, _py_write
    cdef uint8_t *resolve(self, uint64_t addr, uint64_t n, bint write) noexcept nogil

cdef class HostMemory:
    cdef uint8_t *ptr
    cdef readonly uint64_t base
    cdef uint64_t size
    cdef int poison             # byte that fills fresh allocations, or -1
    cdef list _free             # [start, size] sorted by start, never adjacent
    cdef uint64_t allocated_bytes_
    cdef uint8_t *at(self, uint64_t addr, uint64_t n) noexcept nogil
    cdef uint8_t *_checked(self, object addr, object n) except NULL
