# cython: language_level=3, embedsignature=True
"""FrameBatch: the currency between engines, links and capture.

One arena of bytes plus an array of offset, length and marks. Handing a batch over moves ownership;
looking at it copies nothing. Frames start at multiples of 64 bytes in the arena; the order of the
array is the order on the wire.

Arena and array are blocks with a reference count: the batch and every view hold one. A batch that
must move, empty or reorder a block with views leaves it to them and takes a new block.
"""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memmove

cdef extern from *:
    """
    #include <stdlib.h>

    static inline void *block_new(size_t n)
    {
        void *head;
        return posix_memalign(&head, 64, n) ? NULL : head;
    }
    static inline void block_ref(void *head)
    {
        __atomic_add_fetch((long *)head, 1, __ATOMIC_RELAXED);
    }
    static inline long block_unref(void *head)
    {
        return __atomic_sub_fetch((long *)head, 1, __ATOMIC_ACQ_REL);
    }
    static inline int block_shared(const void *head)
    {
        return __atomic_load_n((const long *)head, __ATOMIC_ACQUIRE) > 1;
    }
    """
    void *block_new(size_t n) noexcept nogil
    void block_ref(void *head) noexcept nogil
    long block_unref(void *head) noexcept nogil
    bint block_shared(const void *head) noexcept nogil

cdef enum:
    # before a block: how many use it
    HEADER = 64
    # after a block: wide copies may read (never need) this much past a frame
    SLACK = 64


cdef uint8_t *_block_new(size_t cap) noexcept nogil:
    """A block of `cap` bytes with one user, at the start of a cache line; NULL without memory."""
    cdef uint8_t *p = <uint8_t *>block_new(HEADER + cap + SLACK)
    if p == NULL:
        return NULL
    (<long *>p)[0] = 1
    return p + HEADER


cdef void _block_put(void *block) noexcept nogil:
    """One user less; the last one frees it."""
    if block != NULL and block_unref(<uint8_t *>block - HEADER) == 0:
        free(<uint8_t *>block - HEADER)


cdef bint _shared(const void *block) noexcept nogil:
    return block_shared(<const uint8_t *>block - HEADER)


@cython.final
cdef class _View:
    """Exports bytes of a block and keeps it."""

    cdef void *block
    cdef void *p
    cdef Py_ssize_t n
    cdef bint readonly

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, <void *>self.p, self.n, self.readonly, flags)

    def __dealloc__(self):
        _block_put(self.block)


cdef object _view(void *block, void *p, Py_ssize_t n, bint readonly):
    cdef _View v = _View.__new__(_View)
    block_ref(<uint8_t *>block - HEADER)
    v.block = block
    v.p = p
    v.n = n
    v.readonly = readonly
    return memoryview(v)


cdef class FrameBatch:
    """Frames in wire order. `frames` are copied in; `arena_bytes` and `max_frames` are first sizes,
    both grow.

    Frames are without FCS unless their flags have HAS_FCS. The limits are 2^20 frames and 1 GiB.
    """

    def __cinit__(self, frames=(), *, size_t arena_bytes=16384, int max_frames=32):
        self.limit = 1 << 20
        self.limit_bytes = 1 << 30
        if max_frames < 1 or max_frames > self.limit:
            raise ValueError(f"FrameBatch: max_frames {max_frames} is not in 1..{self.limit}")
        if arena_bytes > self.limit_bytes:
            raise ValueError(f"FrameBatch: arena_bytes {arena_bytes} is above {self.limit_bytes}")
        self.cap = (arena_bytes + 63) & ~<size_t>63
        self.arena = _block_new(self.cap)
        self.f = <frame_meta *>_block_new(max_frames * sizeof(frame_meta))
        if self.arena == NULL or self.f == NULL:
            raise MemoryError
        self.maxn = max_frames

    def __init__(self, frames=(), *, arena_bytes=16384, max_frames=32):
        for frame in frames:
            self.append(frame)

    def __dealloc__(self):
        _block_put(self.arena)
        _block_put(self.f)

    cdef bint _grow_arena(self, size_t need) noexcept nogil:
        cdef size_t cap = self.cap * 2, gone
        cdef uint8_t *p
        cdef int i
        # Frames lie in order. The space that `drop` freed in front is reused before more is asked
        # for. So a queue that never empties stays as large as what it holds.
        gone = self.f[0].off & ~<size_t>63 if self.n else self.used
        if (gone and gone >= self.used // 2 and not _shared(self.arena)
                and not _shared(self.f)):
            memmove(self.arena, self.arena + gone, self.used - gone)
            for i in range(self.n):
                self.f[i].off -= <uint32_t>gone
            self.used -= gone
            need -= gone
            if need <= self.cap:
                return True
        while cap < need:
            cap = cap * 2 + 4096
        if cap > self.limit_bytes:
            cap = self.limit_bytes
        if cap < need:
            return False
        p = _block_new(cap)
        if p == NULL:
            return False
        memcpy(p, self.arena, self.used)
        _block_put(self.arena)
        self.arena = p
        self.cap = cap
        return True

    cdef bint _grow_meta(self) noexcept nogil:
        cdef int maxn = self.maxn * 2
        if self.maxn >= self.limit:
            return False
        if maxn > self.limit:
            maxn = self.limit
        return self._renew_meta(maxn, 0)

    cdef bint _renew_meta(self, int maxn, int skip) noexcept nogil:
        """Move what is known of the frames from `skip` on to a block of their own."""
        cdef frame_meta *f = <frame_meta *>_block_new(maxn * sizeof(frame_meta))
        if f == NULL:
            return False
        memcpy(f, self.f + skip, (self.n - skip) * sizeof(frame_meta))
        _block_put(self.f)
        self.f = f
        self.maxn = maxn
        return True

    cdef uint8_t *reserve(self, size_t n) noexcept nogil:
        """Contiguous room for one frame of up to `n` bytes, or NULL. Invalidated by the next
        reserve."""
        if n > self.limit_bytes - self.used:
            return NULL
        if self.used + n > self.cap and not self._grow_arena(self.used + n):
            return NULL
        if self.n >= self.maxn and not self._grow_meta():
            return NULL
        return self.arena + self.used

    cdef int commit(self, size_t n, uint32_t flags) noexcept nogil:
        """Make the reserved bytes the next frame; returns its index."""
        return fb_commit(self, n, flags)

    cdef int append_raw(self, const uint8_t *p, size_t n, uint32_t flags) noexcept nogil:
        """Copy one frame in; its index, or -1 when full."""
        cdef uint8_t *dst = fb_reserve(self, n)
        if dst == NULL:
            return -1
        memcpy(dst, p, n)
        return fb_commit(self, n, flags)

    cdef bint append_from(self, FrameBatch other, int i) noexcept nogil:
        cdef uint8_t *dst = fb_reserve(self, other.f[i].len)
        cdef frame_meta m
        cdef int at
        if dst == NULL:
            return False
        m = other.f[i]                  # after the reserve: when other is self, frames may move
        memcpy(dst, other.arena + m.off, m.len)
        at = fb_commit(self, m.len, m.flags)
        self.f[at].mark = m.mark
        self.f[at].tstamp_ns = m.tstamp_ns
        return True

    cdef int _index(self, object i) except -1:
        if i < 0:
            i += self.n
        if not 0 <= i < self.n:
            raise IndexError("FrameBatch: frame index out of range")
        return i

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        cdef int k = self._index(i)
        return (<char *>self.arena + self.f[k].off)[:self.f[k].len]

    def __iter__(self):
        cdef int k = 0
        while k < self.n:
            yield (<char *>self.arena + self.f[k].off)[:self.f[k].len]
            k += 1

    def __repr__(self):
        return f"FrameBatch({self.n} frames, {self.nbytes} bytes)"

    def append(self, data, uint32_t flags=0):
        """Copy `data` in as the next frame. MemoryError at the limit."""
        cdef const uint8_t[::1] view
        if len(data) == 0:
            raise ValueError("FrameBatch.append: a frame has at least one byte")
        if isinstance(data, bytes):
            if self.append_raw(<const uint8_t *><const char *>(<bytes>data), len(<bytes>data),
                               flags) < 0:
                raise MemoryError("FrameBatch is full")
            return
        view = data
        if self.append_raw(&view[0], view.shape[0], flags) < 0:
            raise MemoryError("FrameBatch is full")

    def extend(self, FrameBatch other not None, int start=0, stop=None):
        """Copy frames [start, stop) of `other` with their flags, marks and times. `other` may be
        self."""
        cdef int k, end = other.n if stop is None else min(int(stop), other.n)
        if start < 0 or end < 0:
            raise IndexError("FrameBatch.extend: negative index")
        for k in range(start, end):
            if not self.append_from(other, k):
                raise MemoryError("FrameBatch is full")

    cpdef clear(self):
        """Forget every frame; the memory stays for the next ones, unless there are views of it."""
        cdef uint8_t *p
        if _shared(self.arena):
            p = _block_new(self.cap)
            if p == NULL:
                raise MemoryError
            _block_put(self.arena)
            self.arena = p
        self.used = 0
        if _shared(self.f) and not self._renew_meta(self.maxn, self.n):
            raise MemoryError
        self.n = 0

    def drop(self, int count):
        """Drop the first `count` frames, which a receiver has consumed."""
        if count <= 0:
            return
        if count >= self.n:
            self.clear()
            return
        if _shared(self.f):
            if not self._renew_meta(self.maxn, count):
                raise MemoryError
        else:
            memmove(self.f, self.f + count, (self.n - count) * sizeof(frame_meta))
        self.n -= count

    def swap(self, FrameBatch other not None):
        """Exchange contents with `other` without copying a frame. Views stay with the frames."""
        self.arena, other.arena = other.arena, self.arena
        self.cap, other.cap = other.cap, self.cap
        self.used, other.used = other.used, self.used
        self.f, other.f = other.f, self.f
        self.n, other.n = other.n, self.n
        self.maxn, other.maxn = other.maxn, self.maxn

    def frame_len(self, i):
        """Length of frame `i` in bytes."""
        return self.f[self._index(i)].len

    def flags(self, i):
        """FB_* flags of frame `i`."""
        return self.f[self._index(i)].flags

    def set_flags(self, i, uint32_t flags):
        """Replace the flags of frame `i`."""
        self.f[self._index(i)].flags = flags

    def mark(self, i):
        """The link's own mark of frame `i`."""
        return self.f[self._index(i)].mark

    def set_mark(self, i, uint32_t mark):
        """Set the link's own mark of frame `i`."""
        self.f[self._index(i)].mark = mark

    def tstamp_ns(self, i):
        """Time stamp of frame `i`, 0 when none."""
        return self.f[self._index(i)].tstamp_ns

    def set_tstamp_ns(self, i, uint64_t when):
        """Set the time stamp of frame `i`."""
        self.f[self._index(i)].tstamp_ns = when

    @property
    def nbytes(self):
        """Sum of the frames' lengths."""
        cdef uint64_t total = 0
        cdef int k
        for k in range(self.n):
            total += self.f[k].len
        return total

    @property
    def arena_bytes(self):
        """Memory held for frames, whether used or not."""
        return self.cap

    def view(self, i):
        """Writable memoryview of frame `i`. After `clear` or `drop` it keeps what it showed; so it
        does when the batch grows, and then shows no more what is written to the batch's frame."""
        cdef int k = self._index(i)
        return _view(self.arena, self.arena + self.f[k].off, self.f[k].len, False)

    def rows(self):
        """Read-only memoryview of what is known of the frames, 24 bytes each in the machine's
        order: offset in `memory()`, length, FB_* flags, mark (4 bytes each), time in ns (8)."""
        return _view(self.f, self.f, self.n * sizeof(frame_meta), True)

    def memory(self):
        """Read-only memoryview of the memory in which the frames lie, gaps included."""
        return _view(self.arena, self.arena, self.used, True)
