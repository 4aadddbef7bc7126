# cython: language_level=3
"""Driver-side descriptor rings."""

cimport cython
from cpython.buffer cimport Py_buffer
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.net.gro cimport GroTable
from fastpath.net.parse cimport headers
from fastpath.base.skbuff cimport SkbPool, sk_buff, skb_buf, skb_frag

ctypedef skb_frag skb_frag_t

# The packet that begins at a descriptor: its sk_buff, its last descriptor, what clean() counts.
cdef struct tx_slot:
    PyObject *skb
    uint32_t eop
    uint32_t packets
    uint64_t bytes

# One map() on its way.
cdef struct tx_map:
    uint32_t step               # bytes per descriptor
    uint32_t word               # bytes 8 … 11 without the length
    uint32_t upper              # bytes 12 … 15
    int used
    uint8_t *last


cdef class _ring:
    cdef uint8_t *desc_
    cdef Py_buffer view
    cdef object mem
    cdef readonly uint64_t dma
    cdef readonly uint32_t count
    cdef readonly uint32_t next_to_use
    cdef readonly uint32_t next_to_clean
    cdef int setup(self, mem, Py_ssize_t count) except -1
    cdef int export(self, mem, uint64_t addr, Py_ssize_t n) except -1
    cdef void teardown(self) noexcept


@cython.final
cdef class TxRing(_ring):
    cdef tx_slot *slots
    cdef uint32_t packet_start  # where the next packet begins (its context descriptor, if any)
    cdef uint32_t npending
    cdef public int csum_start, csum_offset     # of the checksum context the device has, or -1
    cpdef int64_t unused(self)
    cpdef int64_t pending(self)
    cpdef int64_t desc_needed(self, sk_buff skb, uint32_t max_per_desc=*) except? -1
    cpdef bint put_context(self, unsigned int ipcss, unsigned int ipcso, unsigned int ipcse,
                           unsigned int tucss, unsigned int tucso, unsigned int tucse,
                           unsigned int paylen, unsigned int hdrlen, unsigned int mss,
                           unsigned int cmd) except -1
    cpdef int64_t map(self, sk_buff skb, unsigned int popts=*, unsigned int cmd=*, int vlan=*,
                      uint32_t max_per_desc=*) except? -2
    cpdef (int64_t, int64_t, int64_t) clean(self, int64_t budget=*, list out=*) except *
    cpdef void reset(self)
    cdef uint32_t room(self) noexcept
    cdef uint8_t *take(self) noexcept
    cdef uint32_t needed(self, sk_buff skb, uint32_t step) noexcept
    cdef uint32_t step(self, uint32_t n, uint32_t limit) except 0
    cdef void piece(self, uint64_t addr, uint32_t n, tx_map *m) noexcept
    cdef int do_map(self, sk_buff skb, tx_map *m, uint32_t end_bits) except? -2
    cdef void release(self) noexcept


@cython.final
cdef class RxRing(_ring):
    cdef skb_buf **bufs
    cdef readonly SkbPool pool
    cdef readonly SkbPool small
    cdef readonly uint32_t buf_bytes, headroom, copybreak, small_headroom
    cdef sk_buff chain          # frame over several descriptors, not complete yet
    cdef bint discard           # skip descriptors up to the next EOP
    cdef readonly uint64_t frames, bytes
    cdef readonly uint64_t crc_errors, frame_errors, length_errors, alloc_failed
    cdef readonly uint64_t hw_csum_good, hw_csum_err
    cpdef int64_t refill(self, int64_t max=*)
    cpdef int64_t clean(self, int64_t budget, list out, GroTable gro=*, bint rx_csum=*,
                        bint vlan_strip=*, bint strip_fcs=*, bint accept_errors=*) except -1
    cpdef int64_t poll(self, int64_t budget, list out, GroTable gro, bint rx_csum, bint vlan_strip,
                       bint accept_errors, uint32_t low) except -1
    cpdef int64_t empty(self)
    cpdef bint pending(self)
    cpdef void reset(self)
    cdef void drop_chain(self) noexcept
    cdef skb_buf *copy(self, uint32_t i, skb_buf *b, uint32_t n) noexcept
    cdef sk_buff build(self, skb_buf *b, uint32_t headroom, uint32_t n)
    cdef void finish(self, sk_buff skb, uint8_t status, uint16_t special, bint l4_ok,
                     bint vlan_strip) noexcept
    cdef void know(self, sk_buff skb, uint32_t l3, headers *h) noexcept
    cdef sk_buff more(self, skb_buf *b, uint32_t n, bint last)
    cdef void release(self) noexcept
