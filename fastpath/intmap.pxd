# cython: language_level=3
"""A dict whose keys are 64-bit ints, which compiled callers ask without making a Python int."""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t

cdef struct place:
    int64_t key
    PyObject *value             # owned; NULL: nothing is here


@cython.final
cdef class IntMap:
    cdef dict _held             # the same once more: order, and what only Python asks
    cdef place *_places         # open addressing, at most half of them taken
    cdef uint64_t _mask
    cdef int _grow(self) except -1
    cdef int _put(self, int64_t key, object value) except -1
    cdef void _take_out(self, int64_t key) noexcept
    cdef void _drop(self) noexcept
    cpdef object find(self, int64_t key)


cdef inline uint64_t intmap_place(IntMap m, int64_t key) noexcept:
    """Where `key` is, or the free place where it belongs."""
    cdef uint64_t i = (<uint64_t>key * 0x9E3779B97F4A7C15ULL >> 32) & m._mask
    while m._places[i].value != NULL and m._places[i].key != key:
        i = (i + 1) & m._mask
    return i


cdef inline PyObject *intmap_find(IntMap m, int64_t key) noexcept:
    """The value of `key`, borrowed, or NULL."""
    return m._places[intmap_place(m, key)].value
