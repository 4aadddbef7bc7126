# cython: language_level=3
"""A dict whose keys are 64-bit ints, which compiled callers ask without making a Python int."""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t

from fastpath.base.places cimport places

cdef struct place:
    PyObject *value             # owned; NULL: nothing is here
    int64_t key


@cython.final
cdef class IntMap:
    cdef dict _held             # the same once more: order, and what only Python asks
    cdef places _places         # of type `place`
    cdef int _put(self, int64_t key, object value) except -1
    cpdef object find(self, int64_t key)


cdef inline uint64_t intmap_hash(int64_t key) noexcept:
    return <uint64_t>key * 0x9E3779B97F4A7C15ULL >> 32


cdef inline uint64_t intmap_place(IntMap m, int64_t key) noexcept:
    """Where `key` is, or the free place where it belongs."""
    cdef const place *at = <const place *>m._places.at
    cdef uint64_t i = intmap_hash(key) & m._places.mask
    while at[i].value != NULL and at[i].key != key:
        i = (i + 1) & m._places.mask
    return i


cdef inline PyObject *intmap_find(IntMap m, int64_t key) noexcept:
    """The value of `key`, borrowed, or NULL."""
    return (<const place *>m._places.at)[intmap_place(m, key)].value
