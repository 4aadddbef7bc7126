# cython: language_level=3
"""The places of a hash map whose values are objects: open addressing, at most half of them taken.

A place is a struct of the map's own, whose first member is the value (owned; NULL: nothing is
here). A map without places has one that is always free, so that a look-up needs no question.
"""

from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from fastpath.base.skbuff cimport visit_fn

ctypedef uint64_t (*home_fn)(object map, const void *place) noexcept

cdef struct places:
    char *at
    size_t size                 # bytes of one
    uint64_t mask               # their number, a power of 2, less 1; 0: the one that is always free
    home_fn home                # the hash of a place's key


cdef inline PyObject **place_value(const places *t, uint64_t i) noexcept:
    return <PyObject **>(t.at + i * t.size)


cdef inline int places_grow(places *t, object map, uint64_t count, uint64_t first) except -1:
    """Have room for one more than `count`, `first` at least."""
    cdef places old = t[0]
    cdef uint64_t i, j, size = old.mask + 1
    if old.mask and 2 * (count + 1) <= size:
        return 0
    size = 2 * size if old.mask else first
    t.at = <char *>PyMem_Calloc(size, t.size)
    if t.at == NULL:
        t.at = old.at
        raise MemoryError()
    t.mask = size - 1
    if not old.mask:
        return 0
    for i in range(old.mask + 1):
        if place_value(&old, i)[0] != NULL:
            j = t.home(map, place_value(&old, i)) & t.mask
            while place_value(t, j)[0] != NULL:
                j = (j + 1) & t.mask
            memcpy(place_value(t, j), place_value(&old, i), t.size)
    PyMem_Free(old.at)
    return 0


cdef inline void places_free(places *t, object map, uint64_t i) noexcept:
    """Free place `i`, whose value is the caller's now; what stands behind it moves up."""
    cdef uint64_t j = i, home
    while True:
        j = (j + 1) & t.mask
        if place_value(t, j)[0] == NULL:
            break
        home = t.home(map, place_value(t, j)) & t.mask
        if ((j - home) & t.mask) >= ((j - i) & t.mask):
            memcpy(place_value(t, i), place_value(t, j), t.size)
            i = j
    place_value(t, i)[0] = NULL


cdef inline void places_drop(places *t, void *nothing) noexcept:
    """Give every value up, with `nothing` left. Code that this runs may use the map."""
    cdef places old = t[0]
    cdef uint64_t i
    t.at = <char *>nothing
    t.mask = 0
    if not old.mask:
        return
    for i in range(old.mask + 1):
        if place_value(&old, i)[0] != NULL:
            Py_DECREF(<object>place_value(&old, i)[0])
    PyMem_Free(old.at)


cdef inline int places_visit(const places *t, visit_fn visit, void *arg) noexcept:
    """The collector's view: what the places refer to."""
    cdef uint64_t i
    cdef int r
    for i in range(t.mask + 1):
        if place_value(t, i)[0] != NULL:
            r = visit(place_value(t, i)[0], arg)
            if r:
                return r
    return 0
