# cython: language_level=3
"""Header views for compiled callers."""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t

from fastpath.base.skbuff cimport sk_buff


@cython.no_gc
cdef class header:
    cdef sk_buff skb
    cdef uint32_t off           # from skb->head


@cython.final
cdef class ethhdr(header):
    pass


@cython.final
cdef class arphdr(header):
    pass


@cython.final
cdef class iphdr(header):
    pass


@cython.final
cdef class ipv6hdr(header):
    pass


@cython.final
cdef class icmphdr(header):
    pass


@cython.final
cdef class udphdr(header):
    pass


@cython.final
cdef class tcphdr(header):
    pass


# NULL with IndexError set unless n bytes at `off` (from head) are linear data of a live sk_buff
cdef uint8_t *hdr_ptr(sk_buff skb, uint32_t off, uint32_t n) except NULL
# gives each of these classes of views the members that fastpath.net.headers tells of it
cdef int add_members(tuple views) except -1
# the offset from head of what lies `off` bytes from data; IndexError outside the linear data
cdef uint32_t data_at(sk_buff skb, Py_ssize_t off) except? 0xFFFFFFFE


cdef inline header view_at(header v, sk_buff skb, uint32_t off):
    """`v`, set to what stands at `off` from head."""
    v.skb = skb
    v.off = off
    return v


# Documented in hdr.pyi.
cpdef ethhdr eth_hdr(sk_buff skb)
cpdef arphdr arp_hdr(sk_buff skb)
cpdef iphdr ip_hdr(sk_buff skb)
cpdef ipv6hdr ipv6_hdr(sk_buff skb)
cpdef icmphdr icmp_hdr(sk_buff skb)
cpdef udphdr udp_hdr(sk_buff skb)
cpdef tcphdr tcp_hdr(sk_buff skb)
cpdef iphdr iphdr_at(sk_buff skb, int64_t off)
cpdef ipv6hdr ipv6hdr_at(sk_buff skb, int64_t off)
cpdef icmphdr icmphdr_at(sk_buff skb, int64_t off)
cpdef udphdr udphdr_at(sk_buff skb, int64_t off)
cpdef tcphdr tcphdr_at(sk_buff skb, int64_t off)
cpdef void eth_header_push(sk_buff skb, bytes daddr, bytes saddr, unsigned int proto) except *
cpdef void arp_put(sk_buff skb, unsigned int op, bytes sha, uint32_t sip, bytes tha,
                   uint32_t tip) except *
cpdef void ip_push(sk_buff skb, unsigned int tos, unsigned int tot_len, unsigned int id,
                   unsigned int frag_off, unsigned int ttl, unsigned int protocol, uint32_t saddr,
                   uint32_t daddr, bytes options=*) except *
cpdef void ipv6_push(sk_buff skb, unsigned int tclass, unsigned int flow_lbl,
                     unsigned int payload_len, unsigned int nexthdr, unsigned int hop_limit, saddr,
                     daddr) except *
cpdef void udp_push(sk_buff skb, unsigned int sport, unsigned int dport, unsigned int length,
                    unsigned int check) except *
cpdef void tcp_push(sk_buff skb, unsigned int sport, unsigned int dport, uint32_t seq, uint32_t ack,
                    unsigned int flags, unsigned int window, unsigned int urg_ptr,
                    bytes options_bytes=*) except *
cpdef void tcp_push_ts(sk_buff skb, unsigned int sport, unsigned int dport, uint32_t seq,
                       uint32_t ack, unsigned int flags, unsigned int window, unsigned int urg_ptr,
                       uint32_t tsval, uint32_t tsecr) except *
cpdef void icmp_push(sk_buff skb, unsigned int type, unsigned int code, uint32_t un) except *
cpdef void ip_send_check(iphdr iph) except *
cpdef int64_t ip_decrease_ttl(iphdr iph) except? -1
cpdef void tcp_v4_send_check(sk_buff skb, uint32_t saddr, uint32_t daddr) except *
cpdef void tcp_v6_send_check(sk_buff skb, saddr, daddr) except *
cpdef void udp4_send_check(sk_buff skb, uint32_t saddr, uint32_t daddr) except *
cpdef void udp6_send_check(sk_buff skb, saddr, daddr) except *
cpdef int64_t tcp_hdrlen(sk_buff skb) except? -1
cpdef void gso_csum_prep(sk_buff skb) except *
cpdef int64_t icmp_csum(sk_buff skb, int64_t off=*) except? -1
cpdef int64_t eth_type_trans_fast(sk_buff skb, bytes dev_addr) except? -1
cpdef int64_t ip_hdr_validate(sk_buff skb) except? -1
cpdef int64_t tcp_hdr_validate(sk_buff skb) except? -1
cpdef void tcp_fill_cb(sk_buff skb) except *
cpdef tuple tcp_parse_ts(sk_buff skb)
cpdef (int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t) tcp_hdr_fields(
    sk_buff skb) except *
