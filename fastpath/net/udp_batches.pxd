# cython: language_level=3
"""The rows of one sendmmsg(2) or recvmmsg(2)."""

cimport cython
from libc.stdint cimport int64_t, uint8_t

from fastpath.net.inet cimport UdpFlow
from fastpath.base.skbuff cimport SkbPool, sk_buff, sk_buff_head
from fastpath.net.sockaddr cimport sockaddr


@cython.final
cdef class mmsg_send:
    cdef list rows
    cdef object resolve, owner
    cdef public int64_t went    # rows that were sent before an error ended a step
    cdef object last            # the address that `name` was made of
    cdef sockaddr name
    cdef object resolved(self, object address)
    cpdef tuple row(self, int64_t i)
    cpdef bint alike(self, int64_t i) except -1
    cpdef sk_buff fold(self, UdpFlow flow, int64_t start, int64_t room, int64_t most, SkbPool pages)


@cython.final
cdef class mmsg_recv:
    cdef readonly Py_ssize_t count
    cdef readonly int64_t released
    cdef list buffers           # a buffer for each datagram, or None
    cdef object flat            # one buffer with rows of `size` bytes, or None: make bytes
    cdef Py_ssize_t size
    cdef list rows              # rows of `got`; `pairs` more follow, each of them `pair`
    cdef Py_ssize_t n, pairs
    cdef object show, owner
    cdef sockaddr seen          # the sender whose address is `shown`
    cdef object shown           # the address of the sender in `who`
    cdef object pair            # the last row of `got`
    cdef Py_ssize_t pair_n
    cdef uint8_t who[24]
    cdef int who_len
    cdef int sender(self, sk_buff skb, int family) except -1
    cdef int settle(self) except -1
    cdef int keep(self, object row) except -1
    cdef int begin_pairs(self, Py_ssize_t n) except -1
    cpdef object room(self)
    cpdef void put(self, int64_t n, name, room) except *
    cpdef int64_t take(self, sk_buff_head queue, int family, int64_t most) except -1

# Documented in udp_batches.pyi.
cpdef int64_t udp_charge_split(sk_buff skb) except? -1
cpdef bint udp_carve(sk_buff_head queue) except -1
cpdef bint udp_carve_all(sk_buff_head queue) except -1
