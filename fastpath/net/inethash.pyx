# cython: language_level=3, embedsignature=True
"""Connections by their two ends: a dict whose keys are those of ``fastpath.net.inetkey``.

`find` and `find_skb` look up the connection of a packet without making its key, five ints. Remote
hosts choose addresses and ports, so the hash is keyed: products of 32-bit words and secret random
numbers (Carter and Wegman's multilinear family). The twin is ``_ref/inethash.py``.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

import os

from fastpath.net.inetkey cimport InetEnds, ends_of_key, ends_of_skb, inet_ends, key_of_ends
from fastpath.base.places cimport places_drop, places_free, places_grow, places_visit
from fastpath.base.skbuff cimport PyTypeObject, sk_buff, visit_fn

cdef enum:
    INET = 2
    FIRST_PLACES = 16

cdef ends_place nothing         # the place of every map without one, always free
nothing.value = NULL


cdef inline bint same(const inet_ends *a, const inet_ends *b) noexcept:
    return (a.ports == b.ports and a.saddr == b.saddr and a.daddr == b.daddr
            and a.saddr_hi == b.saddr_hi and a.daddr_hi == b.daddr_hi)


cdef uint64_t home_of(object map, const void *at) noexcept:
    return (<InetHash>map)._hash(&(<const ends_place *>at).ends)


cdef class InetHash:
    """A dict by inet_key (family, saddr, sport, daddr, dport), in the order of coming.

    A key that is none raises TypeError, ValueError or OverflowError.
    """

    def __cinit__(self):
        cdef bytes secret
        self._places.at = <char *>&nothing      # first: the collector may look at once
        self._places.size = sizeof(ends_place)
        self._places.home = home_of
        secret = os.urandom(sizeof(self._secret))
        memcpy(self._secret, PyBytes_AS_STRING(secret), sizeof(self._secret))

    def __dealloc__(self):
        self._drop()

    cdef void _drop(self) noexcept:
        """Give everything up. Code that this runs may use the map."""
        self._count = 0
        places_drop(&self._places, &nothing)

    cdef uint64_t _hash(self, const inet_ends *e) noexcept:
        cdef const uint64_t *s = self._secret
        cdef uint64_t h = s[0] + s[1] * <uint32_t>e.ports + s[2] * <uint32_t>e.saddr \
            + s[3] * <uint32_t>e.daddr
        if e.ports >> 32 != INET:
            h += s[4] * (e.saddr >> 32) + s[5] * (e.daddr >> 32) \
                + s[6] * <uint32_t>e.saddr_hi + s[7] * (e.saddr_hi >> 32) \
                + s[8] * <uint32_t>e.daddr_hi + s[9] * (e.daddr_hi >> 32)
        return h >> 32

    cdef ends_place *_place(self, const inet_ends *e) noexcept:
        """The place of the ends, or the free place for them."""
        cdef ends_place *at = <ends_place *>self._places.at
        cdef uint64_t mask = self._places.mask, i = self._hash(e) & mask
        while at[i].value != NULL and not same(&at[i].ends, e):
            i = (i + 1) & mask
        return at + i

    cpdef object find_skb(self, sk_buff skb):
        """The value of inet_key(skb), or None. Raises as inet_key."""
        cdef inet_ends e
        cdef PyObject *value
        ends_of_skb(skb, &e)
        value = self._place(&e).value
        return None if value == NULL else <object>value

    cpdef object find(self, InetEnds ends):
        """The value of ends.key(), or None."""
        cdef PyObject *value
        if ends is None:
            raise TypeError("ends are not None")
        value = self._place(&ends.ends).value
        return None if value == NULL else <object>value

    cpdef object get(self, tuple key):
        """The value of `key`, or None; of None, too."""
        cdef inet_ends e
        cdef PyObject *value
        if key is None:
            return None
        ends_of_key(key, &e)
        value = self._place(&e).value
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
        places_grow(&self._places, self, self._count, FIRST_PLACES)
        place = self._place(&e)
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
        cdef ends_place *place
        cdef object old
        ends_of_key(key, &e)
        place = self._place(&e)
        if place.value == NULL:
            raise KeyError(key)
        old = <object>place.value
        Py_DECREF(old)
        self._count -= 1
        places_free(&self._places, self, place - <ends_place *>self._places.at)

    def __contains__(self, tuple key not None):
        cdef inet_ends e
        ends_of_key(key, &e)
        return self._place(&e).value != NULL

    def __len__(self):
        return self._count

    cdef list _sorted(self):
        """(number, key, value) of all, in the order of coming."""
        cdef uint64_t i = 0
        cdef ends_place place
        cdef list rows = []
        while i <= self._places.mask:   # the collector, which a new row may run, may change it
            place = (<ends_place *>self._places.at)[i]
            if place.value != NULL:
                value = <object>place.value
                rows.append((place.seq, key_of_ends(&place.ends), value))
            i += 1
        rows.sort()                     # by number: each is another
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
    return places_visit(&(<InetHash>self)._places, visit, arg)


cdef int hash_clear(PyObject *self) noexcept:
    (<InetHash>self)._drop()
    return 0


(<PyTypeObject *>InetHash).tp_traverse = hash_traverse
(<PyTypeObject *>InetHash).tp_clear = hash_clear
