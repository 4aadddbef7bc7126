# cython: language_level=3
"""A program's memory, for compiled callers."""

from libc.stdint cimport int64_t, uint64_t

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef class UserBuffer:
    cdef readonly int tid
    cdef readonly uint64_t addr
    cdef readonly int64_t size

# Copy `n` bytes between a program's memory at `addr` and as many in `parts` pieces. 0, or an errno.
cdef int move_memory(bint write, int tid, uint64_t addr, const iovec *here, int parts,
                     int64_t n) noexcept nogil
