# cython: language_level=3
"""Hashes of flows for compiled callers (documented in flow.pyi)."""

from libc.stdint cimport int64_t, uint16_t, uint32_t

from fastpath.skbuff cimport sk_buff

cpdef int64_t jhash_3words(uint32_t a, uint32_t b, uint32_t c, uint32_t initval) except? -1
cpdef int64_t inet_ehashfn(uint32_t laddr, uint32_t lport, uint32_t faddr, uint32_t fport,
                           uint32_t secret) except? -1
cpdef int64_t skb_get_hash(sk_buff skb, uint32_t secret=*) except? -1
