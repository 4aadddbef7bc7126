# cython: language_level=3, embedsignature=True
"""FrameBatch: the currency between engines, links and capture.

One arena of bytes plus arrays of offset, length and marks. Handing a batch over moves ownership;
looking at it copies nothing. Frames start at multiples of 64 bytes in the arena; the order of the
arrays is the order on the wire.
"""

from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove

cdef enum:
    # before the arena: link to the arena that it replaced while views were alive
    HEADER = 64
    # after the arena: wide copies may read (never need) this much past a frame
    SLACK = 64


cdef class _View:
    """Exports one frame's bytes; the batch parks instead of freeing its arena while one is
    alive."""

    cdef FrameBatch owner
    cdef uint8_t *p
    cdef Py_ssize_t n

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.p, self.n, 0, flags)

    def __dealloc__(self):
        self.owner.exports -= 1


cdef uint8_t *_arena_new(size_t cap) noexcept nogil:
    cdef uint8_t *p = <uint8_t *>malloc(HEADER + cap + SLACK)
    if p == NULL:
        return NULL
    (<uint8_t **>p)[0] = NULL
    return p + HEADER


cdef void _arena_free(uint8_t *arena) noexcept nogil:
    cdef uint8_t *older
    while arena != NULL:
        older = (<uint8_t **>(arena - HEADER))[0]
        free(arena - HEADER)
        arena = older


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
        self.arena = _arena_new(self.cap)
        self.f = <frame_meta *>malloc(max_frames * sizeof(frame_meta))
        if self.arena == NULL or self.f == NULL:
            raise MemoryError
        self.maxn = max_frames

    def __init__(self, frames=(), *, arena_bytes=16384, max_frames=32):
        for frame in frames:
            self.append(frame)

    def __dealloc__(self):
        _arena_free(self.arena)
        free(self.f)

    cdef bint _grow_arena(self, size_t need) noexcept nogil:
        cdef size_t cap = self.cap * 2, gone
        cdef uint8_t *p
        cdef int i
        # Frames lie in order: what `drop` left behind in front is taken back before more is asked
        # for, so that a queue that never empties stays as large as what it holds.
        gone = self.f[0].off & ~<size_t>63 if self.n else self.used
        if gone and gone >= self.used // 2 and self.exports == 0:
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
        p = _arena_new(cap)
        if p == NULL:
            return False
        memcpy(p, self.arena, self.used)
        if self.exports:
            (<uint8_t **>(p - HEADER))[0] = self.arena
        else:
            _arena_free(self.arena)
        self.arena = p
        self.cap = cap
        return True

    cdef bint _grow_meta(self) noexcept nogil:
        cdef int maxn = self.maxn * 2
        cdef frame_meta *f
        if self.maxn >= self.limit:
            return False
        if maxn > self.limit:
            maxn = self.limit
        f = <frame_meta *>realloc(self.f, maxn * sizeof(frame_meta))
        if f == NULL:
            return False
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

    def clear(self):
        """Forget every frame; the memory stays for the next ones. Views of old frames must be gone
        by then."""
        self.n = 0
        self.used = 0
        if self.exports == 0 and (<uint8_t **>(self.arena - HEADER))[0] != NULL:
            _arena_free((<uint8_t **>(self.arena - HEADER))[0])
            (<uint8_t **>(self.arena - HEADER))[0] = NULL

    def drop(self, int count):
        """Forget the first `count` frames (what a receiver has consumed)."""
        if count <= 0:
            return
        if count >= self.n:
            self.clear()
            return
        memmove(self.f, self.f + count, (self.n - count) * sizeof(frame_meta))
        self.n -= count

    def swap(self, FrameBatch other not None):
        """Exchange contents with `other` without copying a frame."""
        if self.exports or other.exports:
            raise BufferError("FrameBatch.swap: views of a frame are alive")
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
        """Writable memoryview of frame `i`; valid until `clear`, `drop` or `swap`."""
        cdef int k = self._index(i)
        cdef _View v = _View.__new__(_View)
        v.owner = self
        v.p = self.arena + self.f[k].off
        v.n = self.f[k].len
        self.exports += 1
        return memoryview(v)
