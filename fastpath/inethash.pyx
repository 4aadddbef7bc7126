# cython: language_level=3, embedsignature=True
"""Connections by their two ends: a dict whose keys are those of ``fastpath.inetkey``.

`find` and `find_skb` look up the connection of a packet without making its key, five ints. Remote
hosts choose addresses and ports, so the hash is keyed: products of 32-bit words and secret random
numbers (Carter and Wegman's multilinear family). The twin is ``_ref/inethash.py``.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

import os

from fastpath.inetkey cimport InetEnds, ends_of_key, ends_of_skb, inet_ends, key_of_ends
from fastpath.skbuff cimport PyTypeObject, sk_buff, visit_fn

cdef enum:
    INET = 2
    FIRST_PLACES = 16

cdef ends_place nothing         # the place of every map without one, always free
nothing.value = NULL


cdef inline bint same(const inet_ends *a, const inet_ends *b) noexcept:
    return (a.ports == b.ports and a.saddr == b.saddr and a.daddr == b.daddr
            and a.saddr_hi == b.saddr_hi and a.daddr_hi == b.daddr_hi)


def first_come(row):
    return row[0]


cdef class InetHash:
    """A dict by inet_key (family, saddr, sport, daddr, dport), in the order of coming.

    A key that is none raises TypeError, ValueError or OverflowError.
    """

    def __cinit__(self):
        cdef bytes secret
        self._places = &nothing     # first: the collector may look at once
        secret = os.urandom(sizeof(self._secret))
        memcpy(self._secret, PyBytes_AS_STRING(secret), sizeof(self._secret))

    def __dealloc__(self):
        self._drop()

    cdef void _drop(self) noexcept:
        """Give everything up. What that runs may use the map."""
        cdef ends_place *places = self._places
        cdef uint64_t i, mask = self._mask
        self._places = &nothing
        self._mask = self._count = 0
        if places == &nothing:
            return
        for i in range(mask + 1):
            if places[i].value != NULL:
                Py_DECREF(<object>places[i].value)
        PyMem_Free(places)

    cdef uint64_t _home(self, const inet_ends *e) noexcept:
        """The first place for the ends."""
        cdef const uint64_t *s = self._secret
        cdef uint64_t h = s[0] + s[1] * <uint32_t>e.ports + s[2] * <uint32_t>e.saddr \
            + s[3] * <uint32_t>e.daddr
        if e.ports >> 32 != INET:
            h += s[4] * (e.saddr >> 32) + s[5] * (e.daddr >> 32) \
                + s[6] * <uint32_t>e.saddr_hi + s[7] * (e.saddr_hi >> 32) \
                + s[8] * <uint32_t>e.daddr_hi + s[9] * (e.daddr_hi >> 32)
        return (h >> 32) & self._mask

    cdef uint64_t _place(self, const inet_ends *e) noexcept:
        """The place of the ends, or the free place for them."""
        cdef uint64_t i = self._home(e)
        while self._places[i].value != NULL and not same(&self._places[i].ends, e):
            i = (i + 1) & self._mask
        return i

    cdef int _grow(self) except -1:
        """Have room for one more."""
        cdef ends_place *old = self._places
        cdef ends_place *places
        cdef uint64_t i, mask = self._mask, size = mask + 1
        if old == &nothing:
            size = FIRST_PLACES
        elif 2 * (self._count + 1) <= size:
            return 0
        else:
            size *= 2
        places = <ends_place *>PyMem_Calloc(size, sizeof(ends_place))
        if places == NULL:
            raise MemoryError()
        self._places = places
        self._mask = size - 1
        if old == &nothing:
            return 0
        for i in range(mask + 1):
            if old[i].value != NULL:
                places[self._place(&old[i].ends)] = old[i]
        PyMem_Free(old)
        return 0

    cpdef object find_skb(self, sk_buff skb):
        """The value of inet_key(skb), or None. Raises as inet_key."""
        cdef inet_ends e
        cdef PyObject *value
        ends_of_skb(skb, &e)
        value = self._places[self._place(&e)].value
        return None if value == NULL else <object>value

    cpdef object find(self, InetEnds ends):
        """The value of ends.key(), or None."""
        cdef PyObject *value
        if ends is None:
            raise TypeError("ends are not None")
        value = self._places[self._place(&ends.ends)].value
        return None if value == NULL else <object>value

    cpdef object get(self, tuple key):
        """The value of `key`, or None; of None, too."""
        cdef inet_ends e
        cdef PyObject *value
        if key is None:
            return None
        ends_of_key(key, &e)
        value = self._places[self._place(&e)].value
        return None if value == NULL else <object>value

    def __getitem__(self, tuple key not None):
        value = self.get(key)
        if value is None and key not in self:
            raise KeyError(key)
        return value

    def __setitem__(self, tuple key not None, value):
        cdef inet_ends e
        cdef ends_place *place
        cdef object old = None      # kept: its destructor may use the map
        ends_of_key(key, &e)
        self._grow()
        place = &self._places[self._place(&e)]
        Py_INCREF(value)
        if place.value != NULL:
            old = <object>place.value
            Py_DECREF(old)
        else:
            self._count += 1
            self._seq += 1
            place.ends = e
            place.seq = self._seq
        place.value = <PyObject *>value

    def __delitem__(self, tuple key not None):
        cdef inet_ends e
        cdef ends_place *places = self._places
        cdef uint64_t i, j, home, mask = self._mask
        cdef object old
        ends_of_key(key, &e)
        i = j = self._place(&e)
        if places[i].value == NULL:
            raise KeyError(key)
        old = <object>places[i].value
        Py_DECREF(old)
        self._count -= 1
        while True:                 # what stands behind it moves up
            j = (j + 1) & mask
            if places[j].value == NULL:
                break
            home = self._home(&places[j].ends)
            if ((j - home) & mask) >= ((j - i) & mask):
                places[i] = places[j]
                i = j
        places[i].value = NULL

    def __contains__(self, tuple key not None):
        cdef inet_ends e
        ends_of_key(key, &e)
        return self._places[self._place(&e)].value != NULL

    def __len__(self):
        return self._count

    cdef list _sorted(self):
        """(number, key, value) of all, in the order of coming."""
        cdef uint64_t i = 0
        cdef ends_place place
        cdef list rows = []
        while i <= self._mask:      # making a row may have the collector run, which may change it
            place = self._places[i]
            if place.value != NULL:
                value = <object>place.value
                rows.append((place.seq, key_of_ends(&place.ends), value))
            i += 1
        rows.sort(key=first_come)
        return rows

    def __iter__(self):
        return iter([row[1] for row in self._sorted()])

    def keys(self):
        """All keys, as a list."""
        return [row[1] for row in self._sorted()]

    def values(self):
        """All values, as a list."""
        return [row[2] for row in self._sorted()]

    def items(self):
        """All (key, value), as a list."""
        return [(row[1], row[2]) for row in self._sorted()]

    def clear(self):
        """Take everything out."""
        self._drop()


cdef int hash_traverse(PyObject *self, visit_fn visit, void *arg) noexcept:
    """The collector's view: what the places refer to."""
    cdef InetHash h = <InetHash>self
    cdef uint64_t i
    cdef int r
    for i in range(h._mask + 1):
        if h._places[i].value != NULL:
            r = visit(h._places[i].value, arg)
            if r:
                return r
    return 0


cdef int hash_clear(PyObject *self) noexcept:
    (<InetHash>self)._drop()
    return 0


(<PyTypeObject *>InetHash).tp_traverse = hash_traverse
(<PyTypeObject *>InetHash).tp_clear = hash_clear
