# cython: language_level=3
"""Header views for compiled callers."""

cimport cython
from libc.stdint cimport uint8_t, uint32_t

from fastpath.skbuff cimport sk_buff


@cython.final
cdef class ethhdr:
    cdef sk_buff skb
    cdef uint32_t off           # from skb->head


@cython.final
cdef class vlan_ethhdr:
    cdef sk_buff skb
    cdef uint32_t off           # from skb->head


@cython.final
cdef class arphdr:
    cdef sk_buff skb
    cdef uint32_t off           # from skb->head


@cython.final
cdef class iphdr:
    cdef sk_buff skb
    cdef uint32_t off           # from skb->head


@cython.final
cdef class ipv6hdr:
    cdef sk_buff skb
    cdef uint32_t off           # from skb->head


@cython.final
cdef class icmphdr:
    cdef sk_buff skb
    cdef uint32_t off           # from skb->head


@cython.final
cdef class igmphdr:
    cdef sk_buff skb
    cdef uint32_t off           # from skb->head


@cython.final
cdef class udphdr:
    cdef sk_buff skb
    cdef uint32_t off           # from skb->head


@cython.final
cdef class tcphdr:
    cdef sk_buff skb
    cdef uint32_t off           # from skb->head


# NULL with IndexError set unless n bytes at `off` (from head) are linear data of a live sk_buff
cdef uint8_t *hdr_ptr(sk_buff skb, uint32_t off, uint32_t n) except NULL
# the offset from head of what lies `off` bytes from data; IndexError outside the linear data
cdef uint32_t hdr_data_at(sk_buff skb, Py_ssize_t off) except? 0xFFFFFFFE
# the low 32 bits of an int; TypeError when it is none
cdef uint32_t hdr_mask32(object value) except? 0xFFFFFFFF
# repr of a view: every member, or why they cannot be read
cdef str hdr_describe(view)
