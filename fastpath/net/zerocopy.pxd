# cython: language_level=3
"""Payload that stays in the caller's memory, for compiled callers (documented in zerocopy.pyi)."""

from fastpath.base.skbuff cimport SkbPool, sk_buff

cpdef object skb_zcopy(sk_buff skb)
cpdef bint skb_copy_ubufs(sk_buff skb, SkbPool pages) except -1
cpdef bint skb_orphan_frags(sk_buff skb, SkbPool pages) except -1
cpdef bint skb_zcopy_map(sk_buff skb, mapper) except -1
