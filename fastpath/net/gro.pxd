# cython: language_level=3
"""The GRO table for compiled callers (the RX ring merges straight from descriptors)."""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.net.parse cimport headers
from fastpath.base.skbuff cimport sk_buff, skb_buf

cdef enum:
    MERGED = 0
    HELD = 2
    NORMAL = 3

# What one look at the headers says. Offsets count from the network header.
cdef struct gro_info:
    uint32_t l4
    uint32_t pay                # payload offset
    uint32_t plen               # payload bytes
    uint32_t total              # network-layer length
    uint32_t hash               # of addresses and ports
    uint32_t seq
    uint32_t ack
    uint32_t wflags             # doff, flags without PSH, window
    uint32_t vlan               # vlan_proto << 16 | vlan_tci
    uint16_t ipid
    uint8_t v6
    uint8_t proto
    uint8_t psh
    uint8_t df
    uint8_t plain               # may be merged or held
    uint8_t mac                 # the 14 bytes before the network header are the Ethernet header
    headers h                   # what was parsed, also when it is no flow

cdef struct gro_flow:
    PyObject *skb               # owned
    skb_buf *hbuf               # to notice a change by another holder
    uint32_t l3                 # network header, from head
    uint32_t tail
    uint32_t len
    uint32_t next_seq
    uint32_t mss
    uint32_t count
    uint32_t hash
    uint32_t ipid               # of the first frame
    uint32_t id_mode            # 0 one frame yet, 1 counts up, 2 fixed
    uint32_t l4
    uint32_t pay
    uint32_t ack
    uint32_t wflags
    uint32_t vlan
    uint8_t v6
    uint8_t proto
    uint8_t mac                 # 14 header bytes in front of l3 take part in the comparison


@cython.final
cdef class GroTable:
    cdef gro_flow *flows
    cdef int n, cap
    cdef int nudp               # of n: datagrams
    cdef int last               # where the last frame went, perhaps
    cdef public uint32_t max_bytes
    cdef public bint tcp, udp
    cdef readonly uint64_t merged, flushed, bad_csum
    cdef object collected       # makes Cython register the class with the collector
    cdef int take_out(self, int i, list out) except -1
    cdef int flush_udp(self, list out) except -1
    cdef int find(self, const uint8_t *l3, gro_info *g) noexcept
    cdef bint wanted(self, gro_info *g) noexcept
    cdef bint runs_on(self, gro_flow *f, const uint8_t *b, uint32_t linear, uint32_t vlan,
                      bint ip_ok, gro_info *g) noexcept
    cdef bint fits(self, gro_flow *f, gro_info *g) noexcept
    cpdef int64_t receive(self, sk_buff skb, list out) except -1
    cpdef int64_t flush(self, list out) except -1
    cpdef void reset(self)
    cdef int take(self, sk_buff skb, uint32_t skip, uint32_t proto, list out) except -1
    # Judge a frame that lies in buffer `b`: its network header is at b.ptr + off, `linear` bytes
    # follow. MERGED: the reference of `b` was taken over. HELD: build a sk_buff, call hold().
    # NORMAL: build a sk_buff and hand it up. `out` has got the sk_buffs that must go up before it.
    cdef int frame(self, skb_buf *b, uint32_t off, uint32_t linear, uint32_t proto, uint32_t vlan,
                   bint ip_ok, bint *l4_ok, gro_info *g, list out) except -1
    cdef int hold(self, sk_buff skb, uint32_t l3, gro_info *g, list out) except -1
