/* IPv6 addresses: 16 bytes in a packet, a 128-bit Python int in the stack. */
#ifndef E1000EMU_ADDR128_H
#define E1000EMU_ADDR128_H

#include <Python.h>
#include <stdint.h>

#include "bytes.h"

/* The 16 big-endian bytes at p as an int. */
static inline PyObject *addr128_get(const uint8_t *p) { return _PyLong_FromByteArray(p, 16, 0, 0); }

/* 18 bytes as an int: an address and the 16 bits that follow it. */
static inline PyObject *key144_get(const uint8_t *p) { return _PyLong_FromByteArray(p, 18, 0, 0); }

/* Store the low 128 bits of an int; -1 with an exception when `v` is no int. */
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

/* Whether the int `v` is the 128 bits hi, lo: 1 or 0; -1 with an exception when it is no int. */
static int addr128_is(uint64_t hi, uint64_t lo, PyObject *v)
{
    uint8_t p[16];
    int over = 0;
    long long value;
    if (hi == 0) { /* an IPv4 address, or a short one */
        value = PyLong_AsLongLongAndOverflow(v, &over);
        if (value == -1 && !over && PyErr_Occurred())
            return -1;
        if (!over)
            return value >= 0 && (uint64_t)value == lo;
    }
    if (!PyLong_Check(v)) {
        PyErr_Format(PyExc_TypeError, "an IPv6 address is an int, not %.80s", Py_TYPE(v)->tp_name);
        return -1;
    }
    if (_PyLong_Sign(v) < 0)
        return 0;
#if PY_VERSION_HEX >= 0x030D0000
    if (PyLong_AsNativeBytes(v, p, 16, Py_ASNATIVEBYTES_BIG_ENDIAN | Py_ASNATIVEBYTES_UNSIGNED_BUFFER) > 16)
        return 0;
#else
    if (_PyLong_AsByteArray((PyLongObject *)v, p, 16, 0, 0) < 0) {
        PyErr_Clear(); /* it is longer */
        return 0;
    }
#endif
    return ld32be(p) == hi >> 32 && ld32be(p + 4) == (uint32_t)hi && ld32be(p + 8) == lo >> 32
        && ld32be(p + 12) == (uint32_t)lo;
}

#endif
