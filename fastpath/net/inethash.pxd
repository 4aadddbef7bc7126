# cython: language_level=3
"""Connections by their two ends (documented in inethash.pyi)."""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from fastpath.net.inetkey cimport InetEnds, inet_ends
from fastpath.base.places cimport places
from fastpath.base.skbuff cimport sk_buff

cdef struct ends_place:
    PyObject *value             # owned; NULL: nothing is here
    uint64_t seq                # who came first
    inet_ends ends


@cython.final
cdef class InetHash:
    cdef places _places         # of type `ends_place`
    cdef uint64_t _count, _seq
    cdef uint64_t _secret[10]
    cdef object _collected      # an object member: Cython registers the class with the collector
    cdef uint64_t _hash(self, const inet_ends *e) noexcept
    cdef ends_place *_place(self, const inet_ends *e) noexcept
    cdef void _drop(self) noexcept
    cdef list _sorted(self)
    cpdef object get(self, tuple key)
    cpdef object find(self, InetEnds ends)
    cpdef object find_skb(self, sk_buff skb)
