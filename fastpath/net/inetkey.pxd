# cython: language_level=3
"""Keys of sockets from packets, for compiled callers (documented in inetkey.pyi)."""

cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.base.skbuff cimport sk_buff
from fastpath.net.sockaddr cimport sockaddr

cdef struct inet_ends:
    uint64_t ports              # family << 32 | source port << 16 | destination port
    uint64_t saddr_hi, saddr, daddr_hi, daddr


@cython.final
cdef class InetEnds:
    cdef readonly uint32_t family
    cdef readonly uint16_t sport, dport
    cdef inet_ends ends
    cpdef bint is_from(self, addr) except -1
    cpdef bint is_to(self, addr) except -1
    cpdef tuple key(self)


cdef int ends_of_key(tuple key, inet_ends *e) except -1
cdef int ends_of_skb(sk_buff skb, inet_ends *e) except -1
cdef tuple key_of_ends(const inet_ends *e)

cpdef tuple inet_key(sk_buff skb)
cpdef tuple inet_err_key(sk_buff skb, uint32_t net, uint32_t l4)
cpdef tuple icmp_echo_key(sk_buff skb)
cpdef InetEnds inet_skb_ends(sk_buff skb)
cpdef InetEnds inet_err_ends(sk_buff skb, uint32_t net, uint32_t l4)
cpdef InetEnds udp_rcv_ends(sk_buff skb)
cpdef bint udp_rcv_usual(sk_buff skb) except -1
cpdef sockaddr inet_name(sk_buff skb, int family, unsigned int port=*)
cpdef sockaddr udp_name(sk_buff skb, int family)
cdef int udp_is_from(sk_buff skb, int family, sockaddr seen) except -1
cpdef sockaddr udp_name_consume(sk_buff skb, int family, sockaddr seen)
cpdef uint64_t siphash(bytes secret, const uint8_t[::1] data) except? 0
cpdef uint32_t inet_siphash(bytes secret, saddr, daddr, uint32_t ports, uint32_t more=*) except? 0
