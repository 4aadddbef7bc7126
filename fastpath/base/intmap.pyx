# cython: language_level=3, embedsignature=True
"""A dict whose keys are 64-bit ints: addresses, ports, descriptors, numbers of protocols.

`find` takes and compares C integers, whereas a dict needs an int object for each look-up. The hash
is not keyed, so keys must not be chosen by remote hosts.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint64_t

from types import GenericAlias

from fastpath.base.places cimport places_drop, places_free, places_grow, places_visit
from fastpath.base.skbuff cimport PyTypeObject, visit_fn

cdef enum:
    FIRST_PLACES = 8

cdef place nothing              # the place of every map without one, always free
nothing.key = 0
nothing.value = NULL


cdef uint64_t home_of(object map, const void *at) noexcept:
    return intmap_hash((<const place *>at).key)


cdef class IntMap:
    """A dict with int keys of 64 bits, in the order in which they came. `items` to begin with.

    Raises OverflowError for a longer key, TypeError for what is no int.
    """

    def __cinit__(self):
        self._places.at = <char *>&nothing      # first: the collector may look at once
        self._places.size = sizeof(place)
        self._places.home = home_of
        self._held = {}

    def __init__(self, items=()):
        for key, value in dict(items).items():
            self[key] = value

    def __dealloc__(self):
        places_drop(&self._places, &nothing)

    __class_getitem__ = classmethod(GenericAlias)

    cdef int _put(self, int64_t key, object value) except -1:
        cdef place *at
        cdef object old = self.find(key)        # kept: its destructor may use the map
        places_grow(&self._places, self, len(self._held), FIRST_PLACES)
        self._held[key] = value
        at = <place *>self._places.at + intmap_place(self, key)
        Py_INCREF(value)
        if at.value != NULL:
            Py_DECREF(old)
        at.key = key
        at.value = <PyObject *>value
        return 0

    cpdef object find(self, int64_t key):
        """The value of `key`, or None."""
        cdef PyObject *value = intmap_find(self, key)
        return None if value == NULL else <object>value

    def __getitem__(self, key):
        return self._held[key]

    def __setitem__(self, int64_t key, value):
        self._put(key, value)

    def __delitem__(self, key):
        self.pop(key)

    def __contains__(self, key):
        return key in self._held

    def __iter__(self):
        return iter(self._held)

    def __len__(self):
        return len(self._held)

    def __eq__(self, other):
        return self._held == ((<IntMap>other)._held if type(other) is IntMap else other)

    __hash__ = None

    def __repr__(self):
        return f"IntMap({self._held!r})"

    def __reduce__(self):
        return IntMap, (self._held.copy(),)

    def get(self, key, default=None):
        """The value of `key`, or `default`."""
        return self._held.get(key, default)

    def setdefault(self, int64_t key, default=None):
        """The value of `key`, which is `default` from now on when there was none."""
        if key not in self._held:
            self._put(key, default)
        return self._held[key]

    def pop(self, key, *default):
        """Take `key` out: its value, or `default`. Raises KeyError without one."""
        if key not in self._held:
            return self._held.pop(key, *default)
        cdef int64_t number = key
        value = self._held.pop(number)
        Py_DECREF(value)            # the place's
        places_free(&self._places, self, intmap_place(self, number))
        return value

    def clear(self):
        """Take everything out."""
        _held = self._held          # ends when the map is empty
        self._held = {}
        places_drop(&self._places, &nothing)

    def keys(self):
        """As dict.keys()."""
        return self._held.keys()

    def values(self):
        """As dict.values()."""
        return self._held.values()

    def items(self):
        """As dict.items()."""
        return self._held.items()


cdef int map_traverse(PyObject *self, visit_fn visit, void *arg) noexcept:
    """The collector's view: the dict, and the values once more."""
    cdef IntMap m = <IntMap>self
    cdef int r = visit(<PyObject *>m._held, arg)
    return r or places_visit(&m._places, visit, arg)


cdef int map_clear(PyObject *self) noexcept:
    places_drop(&(<IntMap>self)._places, &nothing)      # the collector empties the dict
    return 0


(<PyTypeObject *>IntMap).tp_traverse = map_traverse
(<PyTypeObject *>IntMap).tp_clear = map_clear
