# cython: language_level=3
"""Connections by their two ends (documented in inethash.pyi)."""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from fastpath.inetkey cimport InetEnds, inet_ends
from fastpath.skbuff cimport sk_buff

cdef struct ends_place:
    inet_ends ends
    uint64_t seq                # who came first
    PyObject *value             # owned; NULL: nothing is here


@cython.final
cdef class InetHash:
    cdef ends_place *_places    # open addressing, at most half of them taken
    cdef uint64_t _mask, _count, _seq
    cdef uint64_t _secret[10]
    cdef object _collected      # an object member: Cython registers the class with the collector
    cdef uint64_t _home(self, const inet_ends *e) noexcept
    cdef uint64_t _place(self, const inet_ends *e) noexcept
    cdef int _grow(self) except -1
    cdef void _drop(self) noexcept
    cdef list _sorted(self)
    cpdef object get(self, tuple key)
    cpdef object find(self, InetEnds ends)
    cpdef object find_skb(self, sk_buff skb)
