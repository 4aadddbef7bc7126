/* IPv6 addresses: 16 bytes in a packet, a 128-bit Python int in the stack. */
#ifndef E1000EMU_ADDR128_H
#define E1000EMU_ADDR128_H

#include <Python.h>
#include <stdint.h>

/* The 16 big-endian bytes at p as an int. */
static inline PyObject *addr128_get(const uint8_t *p) { return _PyLong_FromByteArray(p, 16, 0, 0); }

/* The same of 18 bytes: an address and 16 bits behind it. */
static inline PyObject *key144_get(const uint8_t *p) { return _PyLong_FromByteArray(p, 18, 0, 0); }

/* Store the low 128 bits of an int; -1 with an exception when `v` is none. */
static int addr128_put(uint8_t *p, PyObject *v)
{
#if PY_VERSION_HEX >= 0x030D0000
    if (!PyLong_Check(v)) {
        PyErr_Format(PyExc_TypeError, "an IPv6 address is an int, not %.80s", Py_TYPE(v)->tp_name);
        return -1;
    }
    return PyLong_AsNativeBytes(v, p, 16, Py_ASNATIVEBYTES_BIG_ENDIAN) < 0 ? -1 : 0;
#else
    static const uint8_t ones[16] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
    PyObject *mask, *low;
    int r;
    if (!PyLong_Check(v)) {
        PyErr_Format(PyExc_TypeError, "an IPv6 address is an int, not %.80s", Py_TYPE(v)->tp_name);
        return -1;
    }
    if (_PyLong_AsByteArray((PyLongObject *)v, p, 16, 0, 0) == 0)
        return 0;
    if (!PyErr_ExceptionMatches(PyExc_OverflowError))
        return -1;
    PyErr_Clear();
    mask = _PyLong_FromByteArray(ones, 16, 0, 0);
    if (mask == NULL)
        return -1;
    low = PyNumber_And(v, mask);
    Py_DECREF(mask);
    if (low == NULL)
        return -1;
    r = _PyLong_AsByteArray((PyLongObject *)low, p, 16, 0, 0);
    Py_DECREF(low);
    return r;
#endif
}

#endif
