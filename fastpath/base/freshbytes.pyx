# cython: language_level=3, embedsignature=True
"""A bytes object that is filled in place: what recv(2) returns without a second copy."""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF

cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject **p, Py_ssize_t n) except -1


@cython.final
cdef class FreshBytes:
    """Room for `size` bytes, not zeroed; a writable buffer until `take` makes a bytes of it."""

    cdef PyObject *data         # owned, nobody else has seen it; NULL when it is taken
    cdef readonly Py_ssize_t size
    cdef Py_ssize_t views

    def __init__(self, Py_ssize_t size):
        cdef object data
        if size < 0:
            raise ValueError(f"FreshBytes: size={size}: must not be negative")
        if self.data != NULL:
            raise ValueError("FreshBytes: already initialised")
        data = PyBytes_FromStringAndSize(NULL, size)
        Py_INCREF(data)
        self.data = <PyObject *>data
        self.size = size

    def __dealloc__(self):
        Py_XDECREF(self.data)

    def __len__(self):
        return self.size

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if self.data == NULL:
            raise BufferError("FreshBytes: its bytes are taken")
        PyBuffer_FillInfo(buffer, self, PyBytes_AS_STRING(<object>self.data), self.size, 0, flags)
        self.views += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        self.views -= 1

    def take(self, Py_ssize_t n):
        """The first `n` bytes (at most `size`), as a bytes object; once.

        Raises BufferError while somebody has a view, and the second time.
        """
        cdef PyObject *data = self.data
        cdef object out
        if data == NULL or self.views:
            raise BufferError("FreshBytes: in use, or taken already")
        if n < 0:
            raise ValueError(f"FreshBytes.take: n={n}: must not be negative")
        self.data = NULL
        if n < self.size:
            self.size = 0
            _PyBytes_Resize(&data, n)
        self.size = 0
        out = <object>data
        Py_XDECREF(data)
        return out


cpdef bytes first_bytes(bytearray data, Py_ssize_t n):
    """The first `n` bytes of `data`, as many as there are: a copy in one step.

    Raises TypeError without a bytearray, ValueError when `n` is negative.
    """
    if data is None:
        raise TypeError("first_bytes: data=None: a bytearray is wanted")
    if n < 0:
        raise ValueError(f"first_bytes: n={n}: must not be negative")
    return PyBytes_FromStringAndSize(PyByteArray_AS_STRING(data),
                                     min(n, PyByteArray_GET_SIZE(data)))
