# cython: language_level=3, embedsignature=True
"""The bus-master's view of memory, and the host RAM behind it.

`DmaTable` is what a device may reach: disjoint regions, each a buffer that Python owns and the
table keeps alive. An access outside every region is a PCI master abort: reads give all ones, writes
vanish, `aborts` counts it. It is never an exception and never touches a byte outside a region (PCI
2.2, 3.3.3.1).
"""

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.mem cimport PyMem_RawFree, PyMem_RawRealloc
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastpath.base.bytes cimport ld32le, ld64le, st32le, st64le, store_release8, store_release_half

import bisect
import os


cdef extern from "sys/mman.h" nogil:
    void *c_mmap "mmap"(void *addr, size_t n, int prot, int flags, int fd, long long offset)
    int c_munmap "munmap"(void *addr, size_t n)
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS, MAP_SHARED, MAP_NORESERVE
    void *MAP_FAILED

cdef enum:
    STATUS_AT = 4               # of bytes 8-15 of a descriptor
    RXD_DD = 1


cdef dma_region *_find(dma_table *t, uint64_t addr, uint64_t *next_base) noexcept nogil:
    """Region holding `addr`, else NULL and the base of the region above it (2^64-1: none)."""
    cdef int lo = 0, hi = t.n, mid
    cdef dma_region *r
    while lo < hi:
        mid = (lo + hi) >> 1
        if t.regions[mid].base <= addr:
            lo = mid + 1
        else:
            hi = mid
    if lo > 0:
        r = &t.regions[lo - 1]
        if addr - r.base < r.len:
            t.last = lo - 1
            return r
    next_base[0] = t.regions[lo].base if lo < t.n else <uint64_t>0xFFFFFFFFFFFFFFFFU
    return NULL


cdef int _pieces(dma_table *t, uint64_t addr, uint8_t *p, size_t n, bint write) noexcept nogil:
    """Copy what lies in more than one region, or in none: callbacks take what lies between them."""
    cdef dma_region *r
    cdef uint8_t *there
    cdef uint64_t room, above = 0
    cdef bint answered
    cdef int rc = 0
    while n:
        r = _find(t, addr, &above)
        if r != NULL:
            there = r.ptr + (addr - r.base)
            room = min(r.len - (addr - r.base), <uint64_t>n)
            answered = r.flags & (DMA_WRITABLE if write else DMA_READABLE)
            if answered:
                memcpy(there if write else p, p if write else there, room)
        else:
            room = min(above - addr, <uint64_t>n) if above > addr else n
            if write:
                answered = t.cb_write != NULL and t.cb_write(t.cb_ctx, addr, p, room) == 0
            else:
                answered = t.cb_read != NULL and t.cb_read(t.cb_ctx, addr, p, room) == 0
        if not answered:
            rc = -1
            if not write:
                memset(p, 0xFF, room)
        addr += room
        p += room
        n -= room
        if addr == 0 and n:         # nothing lies beyond 2^64
            rc = -1
            if not write:
                memset(p, 0xFF, n)
            break
    if rc:
        t.aborts += 1
    return rc


cdef int dma_read(dma_table *t, uint64_t addr, uint8_t *dst, size_t n) noexcept nogil:
    cdef uint8_t *p = dma_resolve(t, addr, n, False)
    if p != NULL:
        memcpy(dst, p, n)
        return 0
    if not t.enabled:
        memset(dst, 0xFF, n)
        t.aborts += 1
        return -1
    return _pieces(t, addr, dst, n, False)


cdef int dma_write(dma_table *t, uint64_t addr, const uint8_t *src, size_t n) noexcept nogil:
    cdef uint8_t *p = dma_resolve(t, addr, n, True)
    if p != NULL:
        memcpy(p, src, n)
        return 0
    if not t.enabled:
        t.aborts += 1
        return -1
    return _pieces(t, addr, <uint8_t *>src, n, True)


cdef int dma_write_status(dma_table *t, uint64_t addr, uint8_t status) noexcept nogil:
    cdef uint8_t *p = dma_resolve(t, addr, 1, True)
    if p != NULL:
        store_release8(p, status)
        return 0
    return dma_write(t, addr, &status, 1)


cdef int dma_write_half(dma_table *t, uint64_t addr, uint64_t half) noexcept nogil:
    cdef bint ordered = t.ordered and t.enabled and t.cb_write != NULL
    cdef uint8_t *p = NULL if ordered else dma_resolve(t, addr, 8, True)
    cdef uint8_t local[8]
    cdef uint8_t status = <uint8_t>(half >> 8 * STATUS_AT)
    if p != NULL:
        store_release_half(p, half)
        return 0
    # In pieces, or by messages, which the receiver may copy in any order.
    st64le(local, half & ~(<uint64_t>RXD_DD << 8 * STATUS_AT))
    if ordered:
        if (t.cb_write(t.cb_ctx, addr, local, 8)
                or t.cb_write(t.cb_ctx, addr + STATUS_AT, &status, 1)):
            t.aborts += 1
            return -1
        return 0
    if dma_write(t, addr, local, 8):
        return -1
    return dma_write_status(t, addr + STATUS_AT, status)


cdef int dma_report(dma_table *t, uint64_t base, uint32_t n, uint32_t head, uint32_t count,
                    uint8_t keep) noexcept nogil:
    cdef uint32_t at = head + n - count if head < count else head - count
    cdef uint64_t addr
    cdef uint8_t status
    while count:
        addr = base + <uint64_t>at * 16 + 8 + STATUS_AT
        if dma_read(t, addr, &status, 1) or dma_write_status(t, addr, status & keep | RXD_DD):
            return -1
        at = at + 1 if at + 1 < n else 0
        count -= 1
    return 0


cdef int _cb_read(void *ctx, uint64_t addr, uint8_t *dst, size_t n) noexcept with gil:
    cdef bytes data
    try:
        data = bytes((<DmaTable>ctx)._py_read(addr, n))
        if len(data) != n:
            return -1
        memcpy(dst, <const char *>data, n)
        return 0
    except Exception:
        # an error of the other side is a master abort, never an exception in the data path
        return -1


cdef int _cb_write(void *ctx, uint64_t addr, const uint8_t *src, size_t n) noexcept with gil:
    try:
        return -1 if (<DmaTable>ctx)._py_write(addr, (<const char *>src)[:n]) else 0
    except Exception:
        return -1


cdef class DmaTable:
    """Sorted, disjoint regions that a bus-mastering device may read and write. Call with the host's
    lock held."""

    def __cinit__(self):
        self.t.enabled = 1
        self._views = []

    def __dealloc__(self):
        PyMem_RawFree(self.t.regions)

    cdef uint8_t *resolve(self, uint64_t addr, uint64_t n, bint write) noexcept nogil:
        return dma_resolve(&self.t, addr, n, write)

    def add(self, base, buffer, *, bint readable=True, bint writable=True):
        """Map `buffer` at bus address `base`; keeps the buffer exported until `remove`.

        Raises ValueError when it overlaps a region, is empty or passes 2^64; BufferError while an
        engine runs.
        """
        cdef dma_region *grown
        cdef uint8_t *ptr
        cdef const uint8_t[::1] ro
        cdef uint8_t[::1] rw
        cdef int i
        if self.busy:
            raise BufferError("DmaTable.add: an engine is running on this table")
        view = memoryview(buffer)
        if writable and view.readonly:
            raise ValueError("DmaTable.add: buffer is read-only; pass writable=False")
        size = view.nbytes
        if size == 0:
            raise ValueError("DmaTable.add: buffer is empty")
        if not 0 <= base <= (1 << 64) - size:
            raise ValueError(f"DmaTable.add: base {base:#x} + {size:#x} bytes passes 2^64")
        for i in range(self.t.n):
            other = self.t.regions[i].base
            if base < other + self.t.regions[i].len and other < base + size:
                raise ValueError(f"DmaTable.add: {base:#x} + {size:#x} bytes overlaps "
                                 f"the region at {other:#x}")
        flat = view.cast("B") if view.format != "B" or view.ndim != 1 else view
        if view.readonly:
            ro = flat
            ptr = <uint8_t *>&ro[0]
        else:
            rw = flat
            ptr = &rw[0]
        if self.t.n == self.t.cap:
            grown = <dma_region *>PyMem_RawRealloc(self.t.regions,
                                                   (self.t.cap * 2 + 4) * sizeof(dma_region))
            if grown == NULL:
                raise MemoryError
            self.t.regions = grown
            self.t.cap = self.t.cap * 2 + 4
        i = self.t.n
        while i > 0 and self.t.regions[i - 1].base > base:
            self.t.regions[i] = self.t.regions[i - 1]
            i -= 1
        self.t.regions[i].base = base
        self.t.regions[i].len = size
        self.t.regions[i].ptr = ptr
        self.t.regions[i].flags = (DMA_READABLE if readable else 0) | (DMA_WRITABLE if writable
                                                                       else 0)
        self._views.insert(i, flat)
        self.t.n += 1
        self.t.last = i

    def remove(self, base, size_bytes):
        """Unmap the region that was added at exactly (base, size_bytes). KeyError: there is
        none."""
        cdef int i, k
        if self.busy:
            raise BufferError("DmaTable.remove: an engine is running on this table")
        for i in range(self.t.n):
            if self.t.regions[i].base == base and self.t.regions[i].len == size_bytes:
                for k in range(i, self.t.n - 1):
                    self.t.regions[k] = self.t.regions[k + 1]
                self.t.n -= 1
                self.t.last = 0
                del self._views[i]
                return
        raise KeyError(f"DmaTable.remove: no region at {base:#x} of {size_bytes:#x} bytes")

    def set_message_dma(self, read=None, write=None):
        """Serve addresses outside every region by `read(addr, n) -> bytes` and `write(addr, data)
        -> error or None`."""
        self._py_read, self._py_write = read, write
        self.t.cb_ctx = <void *>self
        self.t.cb_read = NULL
        self.t.cb_write = NULL
        if read is not None:
            self.t.cb_read = _cb_read
        if write is not None:
            self.t.cb_write = _cb_write

    @property
    def aborts(self):
        """Master aborts so far."""
        return self.t.aborts

    @aborts.setter
    def aborts(self, uint64_t value):
        self.t.aborts = value

    @property
    def enabled(self):
        """Bus master bit of the PCI command register: False makes every access abort."""
        return bool(self.t.enabled)

    @enabled.setter
    def enabled(self, bint value):
        self.t.enabled = value

    def view(self, uint64_t addr, uint64_t n):
        """Read-only memoryview of `n` bytes at bus address `addr`; it keeps the region's buffer.

        ValueError when no region holds all of them.
        """
        cdef int i
        for i in range(self.t.n):
            if addr - self.t.regions[i].base < self.t.regions[i].len:
                at = addr - self.t.regions[i].base
                if n <= self.t.regions[i].len - at:
                    return self._views[i][at:at + n].toreadonly()
        raise ValueError(f"DmaTable.view: no region holds {n} bytes at {addr:#x}")

    @property
    def ordered(self):
        """Bytes 8-15 of receive descriptors are given to the `write` of `set_message_dma`, also
        where a region holds them: it makes them visible after the data that went there before."""
        return bool(self.t.ordered)

    @ordered.setter
    def ordered(self, bint value):
        self.t.ordered = value

    def regions(self):
        """List of (base, size_bytes, readable, writable), sorted by base."""
        return [(self.t.regions[i].base, self.t.regions[i].len,
                 bool(self.t.regions[i].flags & DMA_READABLE),
                 bool(self.t.regions[i].flags & DMA_WRITABLE)) for i in range(self.t.n)]

    def read(self, uint64_t addr, Py_ssize_t n):
        """Return `n` bytes at bus address `addr`; bytes outside every region are 0xFF and count one
        abort."""
        if n < 0:
            raise ValueError("DmaTable.read: negative length")
        out = bytearray(n)
        dma_read(&self.t, addr, <uint8_t *><char *>out, n)
        return bytes(out)

    def write(self, uint64_t addr, data):
        """Write `data` at bus address `addr`; what falls outside every region vanishes and counts
        one abort."""
        cdef const uint8_t[::1] view = data
        if view.shape[0]:
            dma_write(&self.t, addr, &view[0], view.shape[0])


cdef class HostMemory:
    """The host's RAM: a lazily committed mapping with a first-fit allocator of physical addresses.

    `poison` fills fresh allocations with that byte, so that use before initialisation shows. With
    `base` 0 the first 4096 bytes are never handed out: a descriptor with a null address means "no
    buffer". `fd` maps a file or memfd shared instead (QEMU guest RAM), from `fd_offset`.
    """

    def __cinit__(self, size_bytes=64 << 20, *, base=0, int fd=-1, long long fd_offset=0,
                  poison=None):
        cdef void *p
        if size_bytes <= 0 or size_bytes % 4096:
            raise ValueError(f"HostMemory: {size_bytes} bytes is not a positive multiple of 4096")
        if not 0 <= base <= (1 << 64) - size_bytes:
            raise ValueError(f"HostMemory: base {base:#x} + {size_bytes:#x} bytes passes 2^64")
        if fd >= 0:
            if os.fstat(fd).st_size < fd_offset + size_bytes:
                raise ValueError(f"HostMemory: the file ends before {fd_offset + size_bytes:#x}")
            p = c_mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, fd_offset)
        else:
            p = c_mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS
                       | MAP_NORESERVE, -1, 0)
        if p == MAP_FAILED:
            raise MemoryError(f"HostMemory: cannot map {size_bytes} bytes")
        self.ptr = <uint8_t *>p
        self.base = base
        self.size = size_bytes
        self.poison = -1 if poison is None else int(poison) & 0xFF
        low = 4096 if base == 0 else 0
        self._free = [[base + low, size_bytes - low]] if size_bytes > low else []

    def __dealloc__(self):
        if self.ptr != NULL:
            c_munmap(self.ptr, self.size)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.ptr, self.size, 0, flags)

    cdef uint8_t *at(self, uint64_t addr, uint64_t n) noexcept nogil:
        cdef uint64_t off = addr - self.base
        if off > self.size or n > self.size - off:
            return NULL
        return self.ptr + off

    cdef uint8_t *_checked(self, object addr, object n) except NULL:
        cdef uint8_t *p
        if addr < 0 or n < 0 or addr >= 1 << 64 or n > self.size:
            raise IndexError(f"HostMemory: {addr:#x} + {n} bytes is outside RAM")
        p = self.at(addr, n)
        if p == NULL:
            raise IndexError(f"HostMemory: {addr:#x} + {n} bytes is outside RAM")
        return p

    @property
    def size_bytes(self):
        """Size of the mapping."""
        return self.size

    @property
    def buffer(self):
        """Writable memoryview of all RAM."""
        return memoryview(self)

    @property
    def allocated_bytes(self):
        """Bytes handed out by `alloc` and not yet freed."""
        return self.allocated_bytes_

    def view(self, addr, n):
        """Writable memoryview of `n` bytes at physical address `addr`."""
        self._checked(addr, n)
        off = addr - self.base
        return memoryview(self)[off:off + n]

    def read(self, addr, n):
        """`n` bytes at `addr`. IndexError outside RAM."""
        cdef uint8_t *p = self._checked(addr, n)
        return (<char *>p)[:n]

    def write(self, addr, data):
        """Store `data` at `addr`. IndexError outside RAM."""
        cdef const uint8_t[::1] view = data
        cdef uint8_t *p = self._checked(addr, view.shape[0])
        if view.shape[0]:
            memcpy(p, &view[0], view.shape[0])

    def read32(self, addr):
        """Little-endian dword at `addr`."""
        return ld32le(self._checked(addr, 4))

    def write32(self, addr, value):
        """Store a little-endian dword."""
        st32le(self._checked(addr, 4), value & 0xFFFFFFFF)

    def read64(self, addr):
        """Little-endian qword at `addr`."""
        return ld64le(self._checked(addr, 8))

    def write64(self, addr, value):
        """Store a little-endian qword."""
        st64le(self._checked(addr, 8), value & 0xFFFFFFFFFFFFFFFF)

    def alloc(self, n, align=64):
        """Take `n` bytes aligned to `align` (a power of two); returns the physical address.

        Raises MemoryError when no hole is large enough.
        """
        if n <= 0:
            raise ValueError("HostMemory.alloc: size must be positive")
        if align <= 0 or align & (align - 1):
            raise ValueError(f"HostMemory.alloc: align {align} is not a power of two")
        n = (n + 63) & ~63
        for i, (start, size) in enumerate(self._free):
            addr = (start + align - 1) & ~(align - 1)
            pad = addr - start
            if size < pad + n:
                continue
            tail = size - pad - n
            pieces = []
            if pad:
                pieces.append([start, pad])
            if tail:
                pieces.append([addr + n, tail])
            self._free[i:i + 1] = pieces
            self.allocated_bytes_ += n
            if self.poison >= 0:
                memset(self.ptr + <uint64_t>(addr - self.base), self.poison, n)
            return addr
        raise MemoryError(f"HostMemory.alloc: no room for {n} bytes of {self.size_bytes}; "
                          "give the host more RAM")

    def free(self, addr, n):
        """Give back what `alloc(n)` returned as `addr`. ValueError when any of it is free already
        or outside."""
        n = (n + 63) & ~63
        if n <= 0 or addr < (self.base or 4096) or addr + n > self.base + self.size_bytes:
            raise ValueError(f"HostMemory.free: {addr:#x} + {n} bytes is outside RAM")
        free = self._free
        i = bisect.bisect_left(free, [addr, 0])
        if (i < len(free) and addr + n > free[i][0]) or (i > 0 and free[i - 1][0]
                                                         + free[i - 1][1] > addr):
            raise ValueError(f"HostMemory.free: {addr:#x} + {n} bytes is free already")
        self.allocated_bytes_ -= n
        if i < len(free) and addr + n == free[i][0]:
            free[i][0] = addr
            free[i][1] += n
        else:
            free.insert(i, [addr, n])
        if i > 0 and free[i - 1][0] + free[i - 1][1] == free[i][0]:
            free[i - 1][1] += free[i][1]
            del free[i]
