# cython: language_level=3
"""Bytes that are filled in place, and bytes of a buffer, for compiled callers."""

cpdef bytes first_bytes(bytearray data, Py_ssize_t n)
