# cython: language_level=3
"""A bounded log of what a driver did wrong, for compiled callers."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef struct misuse_case:
    int64_t when_ns
    uint64_t v[4]
    uint32_t rule

cdef class MisuseLog:
    cdef uint32_t rules, capacity
    cdef uint64_t noted
    cdef uint64_t *counts
    cdef misuse_case *latest
    cdef misuse_case *ring
    cdef void add(self, uint32_t rule, uint64_t n, int64_t when_ns, uint64_t a, uint64_t b,
                  uint64_t c, uint64_t d) noexcept nogil
    cdef uint32_t _rule(self, object rule) except? 0xFFFFFFFF
