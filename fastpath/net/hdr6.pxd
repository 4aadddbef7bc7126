# cython: language_level=3
"""Views of IPv6's fragment header and ICMPv6 messages for compiled callers."""

cimport cython
from libc.stdint cimport int64_t, uint32_t

from fastpath.net.hdr cimport header
from fastpath.base.skbuff cimport sk_buff


@cython.final
cdef class frag_hdr(header):
    pass


@cython.final
cdef class icmp6hdr(header):
    pass


@cython.final
cdef class rd_msg(header):
    pass


# Documented in hdr6.pyi.
cpdef frag_hdr frag_hdr_at(sk_buff skb, int64_t off)
cpdef rd_msg rd_msg_at(sk_buff skb, int64_t off)
cpdef icmp6hdr icmp6_hdr(sk_buff skb)
cpdef int64_t ipv6_hdr_validate(sk_buff skb, bint loopback=*) except? -1
cpdef (int64_t, int64_t, int64_t) ipv6_skip_exthdr(sk_buff skb, int64_t start, int nexthdr) except *
cpdef void icmp6_push(sk_buff skb, unsigned int type, unsigned int code, uint32_t un, saddr,
                      daddr) except *
cpdef int64_t icmp6_csum(sk_buff skb, saddr, daddr) except? -1
