# cython: language_level=3, embedsignature=True
"""A dict whose keys are 64-bit ints: addresses, ports, descriptors, numbers of protocols.

`find` takes and compares C integers, whereas a dict needs an int object for each look-up. The hash
is not keyed, so keys must not be chosen by remote hosts. The twin is ``_ref/intmap.py``.
"""

from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint64_t

from types import GenericAlias

from fastpath.skbuff cimport PyTypeObject, visit_fn

cdef enum:
    FIRST_PLACES = 8

cdef place nothing              # the place of every map without one, always free
nothing.key = 0
nothing.value = NULL


cdef class IntMap:
    """A dict with int keys of 64 bits, in the order in which they came. `items` to begin with.

    Raises OverflowError for a longer key, TypeError for what is no int.
    """

    def __cinit__(self):
        self._places = &nothing     # first: the collector may look at once
        self._held = {}

    def __init__(self, items=()):
        for key, value in dict(items).items():
            self[key] = value

    def __dealloc__(self):
        self._drop()

    __class_getitem__ = classmethod(GenericAlias)

    cdef void _drop(self) noexcept:
        """Give everything in the places up. What that runs may use the map."""
        cdef place *places = self._places
        cdef uint64_t i, mask = self._mask
        self._places = &nothing
        self._mask = 0
        if places == &nothing:
            return
        for i in range(mask + 1):
            if places[i].value != NULL:
                Py_DECREF(<object>places[i].value)
        PyMem_Free(places)

    cdef int _grow(self) except -1:
        """Have room for one more."""
        cdef place *old = self._places
        cdef place *places
        cdef uint64_t i, mask = self._mask, size = mask + 1
        if old == &nothing:
            size = FIRST_PLACES
        elif 2 * (<uint64_t>len(self._held) + 1) <= size:
            return 0
        else:
            size *= 2
        places = <place *>PyMem_Calloc(size, sizeof(place))
        if places == NULL:
            raise MemoryError()
        self._places = places
        self._mask = size - 1
        if old == &nothing:
            return 0
        for i in range(mask + 1):
            if old[i].value != NULL:
                places[intmap_place(self, old[i].key)] = old[i]
        PyMem_Free(old)
        return 0

    cdef int _put(self, int64_t key, object value) except -1:
        cdef uint64_t i
        cdef object old = self.find(key)        # kept: its destructor may use the map
        self._grow()
        self._held[key] = value
        i = intmap_place(self, key)
        Py_INCREF(value)
        if self._places[i].value != NULL:
            Py_DECREF(old)
        self._places[i].key = key
        self._places[i].value = <PyObject *>value
        return 0

    cdef void _take_out(self, int64_t key) noexcept:
        """Free the place of `key`, which is there; what stands behind it moves up."""
        cdef place *places = self._places
        cdef uint64_t mask = self._mask, i = intmap_place(self, key), j = i, home
        Py_DECREF(<object>places[i].value)      # the caller holds one more
        while True:
            j = (j + 1) & mask
            if places[j].value == NULL:
                break
            home = (<uint64_t>places[j].key * 0x9E3779B97F4A7C15ULL >> 32) & mask
            if ((j - home) & mask) >= ((j - i) & mask):
                places[i] = places[j]
                i = j
        places[i].value = NULL

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
        cdef int64_t place = key
        value = self._held.pop(place)
        self._take_out(place)
        return value

    def clear(self):
        """Take everything out."""
        _held = self._held          # ends when the map is empty
        self._held = {}
        self._drop()

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
    cdef uint64_t i
    cdef int r = visit(<PyObject *>m._held, arg)
    if r:
        return r
    for i in range(m._mask + 1):
        if m._places[i].value != NULL:
            r = visit(m._places[i].value, arg)
            if r:
                return r
    return 0


cdef int map_clear(PyObject *self) noexcept:
    (<IntMap>self)._drop()      # the collector empties the dict
    return 0


(<PyTypeObject *>IntMap).tp_traverse = map_traverse
(<PyTypeObject *>IntMap).tp_clear = map_clear
