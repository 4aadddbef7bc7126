# cython: language_level=3
"""TCP's retransmit queue for compiled callers (documented in retransmit_queue.pyi)."""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from fastpath.base.skbuff cimport sk_buff, sk_buff_head, skb_leave_fn

cdef struct rtx_list:
    rtx_node *first
    rtx_node *last
    rtx_node *cursor
    Py_ssize_t qlen

cdef struct rtx_node:
    skb_leave_fn leave      # first: this is the sk_buff's skb_index
    PyObject *skb           # the queue holds it
    PyObject *queue
    rtx_node *left
    rtx_node *right
    rtx_node *up
    rtx_node *prev          # in `home`
    rtx_node *next
    rtx_list *home
    uint32_t prio


@cython.final
cdef class rtx_queue(sk_buff_head):
    cdef rtx_node *root
    cdef rtx_node *spare
    cdef rtx_list sent_
    cdef rtx_list lost_
    cdef uint32_t seed
    cdef rtx_node *member(self, sk_buff skb) except NULL
    cdef rtx_node *enter(self, rtx_node *prev, sk_buff skb) except NULL
    cpdef sk_buff find(self, uint32_t seq)
    cpdef bint coalesce(self, sk_buff to, sk_buff skb) except -1
    cpdef void sent(self, sk_buff skb) except *
    cpdef void lose(self, sk_buff skb) except *
    cpdef void settle(self, sk_buff skb) except *
    cpdef void unlose(self) except *
    cpdef void sent_pass(self)
