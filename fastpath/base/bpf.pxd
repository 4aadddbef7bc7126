# cython: language_level=3
"""Classic BPF for compiled callers: a checked program, run over an sk_buff."""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.base.skbuff cimport sk_buff


cdef struct bpf_insn:
    uint16_t code       # of struct sock_filter; ancillary loads have a number of their own
    uint8_t jt, jf
    uint32_t k


@cython.final
cdef class bpf_prog:
    cdef bpf_insn *insns
    cdef uint64_t state             # of the random numbers that a program may load
    cdef bint wants_dev             # it asks which interface a packet came by
    cdef readonly bytes filter
    cdef readonly Py_ssize_t len
    cdef readonly int64_t size_bytes


cpdef int64_t bpf_prog_run(bpf_prog prog, sk_buff skb, int64_t off=*) except -1
