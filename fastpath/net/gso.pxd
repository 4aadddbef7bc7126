# cython: language_level=3
"""Segmentation for compiled callers (documented in gso.pyi)."""

from libc.stdint cimport uint32_t

from fastpath.base.skbuff cimport SkbPool, sk_buff

cpdef list skb_gso_segment(sk_buff skb, SkbPool pool, bint csum_partial=*)
cpdef bint skb_gso_validate_network_len(sk_buff skb, uint32_t mtu) except -1
cpdef list udp_rcv_segment(sk_buff skb, SkbPool pool)
cpdef list gro_unmerge(sk_buff skb, SkbPool pool)
