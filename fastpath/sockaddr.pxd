# cython: language_level=3
"""The address value of socket calls, for compiled callers."""

cimport cython


@cython.final
cdef class sockaddr:
    cdef readonly object addr
    cdef readonly unsigned int flowinfo
    cdef readonly unsigned int scope_id
    cdef readonly unsigned short family
    cdef readonly unsigned short port

cdef sockaddr sockaddr_make(unsigned short family, object addr, unsigned short port,
                            unsigned int flowinfo, unsigned int scope_id)
