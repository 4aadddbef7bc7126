# cython: language_level=3
"""Keys of sockets from packets, for compiled callers (documented in inetkey.pyi)."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpath.skbuff cimport sk_buff
from fastpath.sockaddr cimport sockaddr

cpdef tuple inet_key(sk_buff skb)
cpdef tuple inet_err_key(sk_buff skb, uint32_t net, uint32_t l4)
cpdef tuple icmp_echo_key(sk_buff skb)
cpdef tuple udp_rcv_key(sk_buff skb)
cpdef int udp_rcv_port(sk_buff skb) except -2
cpdef bint udp_rcv_is_to(sk_buff skb, addr) except -1
cpdef sockaddr inet_name(sk_buff skb, int family, unsigned int port=*)
cpdef sockaddr udp_name(sk_buff skb, int family)
cdef int udp_is_from(sk_buff skb, int family, sockaddr seen) except -1
cpdef sockaddr udp_name_consume(sk_buff skb, int family, sockaddr seen)
cpdef uint64_t siphash(bytes secret, const uint8_t[::1] data) except? 0
cpdef uint32_t inet_siphash(bytes secret, saddr, daddr, uint32_t ports, uint32_t more=*) except? 0
