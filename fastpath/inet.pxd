# cython: language_level=3
"""Whole steps of IPv4 and UDP for the usual packet."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

from fastpath.skbuff cimport SkbPool, sk_buff

cdef class IpIdents:
    cdef uint16_t id[1024]
    cdef int64_t stamp[1024]
    cdef uint16_t take(self, int slot, uint32_t segs, int64_t now, randrange) except? 0xFFFF

cdef class UdpFlow:
    cdef readonly object sk, dst, destructor
    cdef readonly SkbPool pool, small
    cdef int64_t small_room     # payload that fits a buffer of `small`; negative when none does
    cdef readonly uint32_t room, mark, priority
    cdef readonly int ident_slot
    cdef readonly bint counted  # its datagrams take identifications from the generator
    cdef IpIdents idents
    cdef object randrange
    cdef readonly int family
    cdef uint32_t headroom, ip_sum
    cdef uint32_t pseudo        # sum of the pseudo header without the length
    cdef uint32_t head_len
    cdef uint16_t sport, dport
    cdef bint ignore_df
    cdef uint8_t head[40]
    cdef int push(self, sk_buff skb, unsigned int ident) except -1
