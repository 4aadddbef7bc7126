# cython: language_level=3
"""Views of IPv6 extension headers and ICMPv6 messages for compiled callers."""

cimport cython
from libc.stdint cimport uint32_t

from fastpath.skbuff cimport sk_buff


@cython.final
cdef class ipv6_opt_hdr:
    cdef sk_buff skb
    cdef uint32_t off           # from skb->head


@cython.final
cdef class ipv6_rt_hdr:
    cdef sk_buff skb
    cdef uint32_t off           # from skb->head


@cython.final
cdef class frag_hdr:
    cdef sk_buff skb
    cdef uint32_t off           # from skb->head


@cython.final
cdef class icmp6hdr:
    cdef sk_buff skb
    cdef uint32_t off           # from skb->head


@cython.final
cdef class rd_msg:
    cdef sk_buff skb
    cdef uint32_t off           # from skb->head
