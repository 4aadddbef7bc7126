# cython: language_level=3
"""Whole steps of IPv4 and UDP for the usual packet."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

from fastpath.base.intmap cimport IntMap
from fastpath.base.skbuff cimport SkbPool, sk_buff, sk_buff_head

cdef class IpIdents:
    cdef uint16_t id[1024]
    cdef int64_t stamp[1024]
    cdef uint16_t take(self, int slot, uint32_t segs, int64_t now, randrange) except? 0xFFFF
    cpdef int64_t reserve(self, int slot, uint32_t segs, int64_t now, randrange) except? -1

cdef class UdpFlow:
    cdef readonly object sk, dst, destructor
    cdef readonly SkbPool pool, small
    cdef int64_t small_room     # payload that fits a buffer of `small`; negative when none does
    cdef readonly uint32_t room, mark, priority
    cdef uint32_t most          # payload that fits the MTU
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
    cdef void push_udp(self, sk_buff skb) noexcept
    cdef int push(self, sk_buff skb, unsigned int ident) except -1
    cpdef void aim(self, int64_t dport, int64_t flowlabel=*) except *
    cpdef sk_buff datagram(self, buffer, int64_t off, int64_t n)
    cpdef bint cuts(self, int64_t n, int64_t size) except -1
    cpdef sk_buff segments(self, buffer, int64_t off, int64_t n, int64_t size, SkbPool pages)
    cpdef void push_ip_at(self, sk_buff skb, int64_t now) except *
    cpdef void push_ip(self, sk_buff skb, unsigned int ident) except *

# Documented in inet.pyi.
cpdef (int64_t, int64_t, int64_t, int64_t, int64_t) ip_route_fields(sk_buff skb) except *
cpdef int64_t rth_key(uint32_t daddr, uint8_t tos, int ifindex) except? -1
cpdef object rth_find(IntMap routes, IntMap own, uint32_t daddr, uint32_t saddr, uint8_t tos,
                      int ifindex)
cpdef int64_t ip_pull_header(sk_buff skb) except? -1
cpdef bint ip_is_fragment(sk_buff skb) except -1
cpdef tuple ip6_rcv_fields(sk_buff skb)
cpdef bint ip6_to_group(sk_buff skb) except -1
cpdef object ip6_neigh_key(sk_buff skb, uint32_t ifindex)
cpdef int64_t ip6_pull_header(sk_buff skb, uint32_t nhoff=*) except? -1
cpdef int64_t skb_enter_network(sk_buff skb, int ifindex) except? -1
cpdef int64_t skb_queue_owned(sk_buff_head queue, sk_buff skb, sk, destructor, uint32_t pull,
                              int64_t limit) except? -1
