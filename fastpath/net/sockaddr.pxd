# cython: language_level=3
"""The address value of socket calls, for compiled callers."""

cimport cython


cdef class sockaddr:
    cdef readonly object addr
    cdef readonly unsigned int flowinfo
    cdef readonly unsigned int scope_id
    cdef readonly unsigned short family
    cdef readonly unsigned short port
    cdef readonly unsigned short sa_len


@cython.final
cdef class sockaddr_ll(sockaddr):
    cdef readonly unsigned int ifindex
    cdef readonly unsigned short protocol
    cdef readonly unsigned short hatype
    cdef readonly unsigned char pkttype
    cdef readonly bytes lladdr


cpdef sockaddr_ll sockaddr_ll_make(long long protocol, long long ifindex, long long hatype,
                                   long long pkttype, bytes lladdr)


cpdef sockaddr sockaddr_from(data)


@cython.final
cdef class sockaddr_un(sockaddr):
    cdef readonly bytes path


cdef sockaddr sockaddr_make(unsigned short family, object addr, unsigned short port,
                            unsigned int flowinfo, unsigned int scope_id)
