# cython: language_level=3, embedsignature=True
"""A driver's registers: readl and writel (linux/io.h) over whatever stands for BAR 0.

A device is reached by two functions, `bar_read(bar, off, size)` and `bar_write(bar, off, value,
size)`. Those of our own NIC are reached without a call through Python.
"""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastpath.nic.macpath cimport BarWindow

cdef extern from "Python.h":
    ctypedef struct PyMethodDef:
        pass
    ctypedef struct PyMethodDescrObject:
        PyMethodDef *d_method
    ctypedef struct PyCFunctionObject:
        PyMethodDef *m_ml
        PyObject *m_self
    bint PyCFunction_CheckExact(object o)


cdef PyMethodDef *_read_def = (<PyMethodDescrObject *>BarWindow.__dict__["bar_read"]).d_method
cdef PyMethodDef *_write_def = (<PyMethodDescrObject *>BarWindow.__dict__["bar_write"]).d_method


cdef inline BarWindow window_of(object fn, const PyMethodDef *of):
    """The window whose own method `fn` is, None for any other function."""
    if PyCFunction_CheckExact(fn) and (<PyCFunctionObject *>fn).m_ml == of:
        return <BarWindow>(<PyCFunctionObject *>fn).m_self
    return None


cpdef int64_t readl(object bar_read, int64_t off) except? -1:
    """Read a register by any device's `bar_read`: `bar_read(0, off, 4)`.

    That of a `BarWindow` is reached without a call through Python.
    """
    cdef BarWindow window = window_of(bar_read, _read_def)
    if window is not None and window.plain(off):
        return window.regs.read32(<uint64_t>off)
    return bar_read(0, off, 4)


cpdef void writel(object bar_write, int64_t off, int64_t value) except *:
    """Write a register by any device's `bar_write`: `bar_write(0, off, value, 4)`."""
    cdef BarWindow window = window_of(bar_write, _write_def)
    if window is not None and window.plain(off):
        window.regs.write32(<uint64_t>off, <uint32_t>value)
    else:
        bar_write(0, off, value, 4)
