# cython: language_level=3
"""sk_buff for compiled callers. Every function here needs the GIL (it guards counts and pools)."""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "skb.h" nogil:
    enum:
        SKB_INLINE_FRAGS
        SKB_MAX_FRAGS
        SKB_OVERHEAD
    const uint32_t SKB_UNSET
    ctypedef struct skb_pool:
        uint32_t nfree
        uint32_t count
        uint32_t buf_bytes
        uint64_t dma
    ctypedef struct skb_buf:
        uint8_t *ptr
        uint64_t dma
        skb_pool *pool
        uint32_t refs
        uint32_t nohdr
        uint32_t size
        uint32_t used
    ctypedef struct skb_frag:
        skb_buf *buf
        uint32_t off
        uint32_t len
    ctypedef struct skb_core:
        pass
    uint32_t skb_core_headlen(const skb_core *s)
    skb_buf *skb_pool_take(skb_pool *p)
    void skb_buf_drop(skb_buf *b)

ctypedef int (*visit_fn)(PyObject *, void *)

# What an indexed queue knows of a member; `leave` is called when it is taken out, by whom ever.
ctypedef void (*skb_leave_fn)(PyObject *skb) noexcept
ctypedef struct skb_index:
    skb_leave_fn leave

# How the cycle collector sees a class that holds sk_buffs by raw pointers.
cdef extern from *:
    ctypedef struct PyTypeObject:
        int (*tp_traverse)(PyObject *, visit_fn, void *)
        int (*tp_clear)(PyObject *)

cdef enum:
    SUM_NONE = 0
    SUM_UNNECESSARY = 1
    SUM_COMPLETE = 2
    SUM_PARTIAL = 3
    GSO_TCPV4 = 1 << 0
    GSO_DODGY = 1 << 1
    GSO_TCP_ECN = 1 << 2
    GSO_TCP_FIXEDID = 1 << 3
    GSO_TCPV6 = 1 << 4
    GSO_UDP_L4 = 1 << 17


@cython.final
cdef class SkbPool:
    cdef skb_pool *p            # outlives this object while buffers are in use
    cdef readonly object mem


# What Python calculates with is int64_t: a difference may be negative, and a sum does not wrap.
# Nothing that goes to memory relies on a range of these: it is checked, or taken as 32 bits, there.
@cython.final
cdef class sk_buff:
    # links: raw, the queue owns one reference to each member
    cdef PyObject *next_
    cdef PyObject *prev_
    cdef PyObject *list_
    cdef skb_index *index
    cdef public object dev, sk, dst, cb, destructor
    # skb_core, member by member (layout_check in skbuff.pyx)
    cdef uint8_t *head
    cdef skb_buf *hbuf
    cdef readonly int64_t len, data_len
    cdef public int64_t truesize
    cdef uint32_t data, tail, end
    cdef readonly uint32_t users    # reference count; 0 = freed
    cdef readonly uint32_t nr_frags
    cdef uint32_t cap_frags
    cdef uint32_t cur_frag, cur_base
    cdef readonly bint nohdr        # see skb_header_release
    cdef skb_frag *frags
    cdef skb_frag inl[4]            # SKB_INLINE_FRAGS
    # plain fields, copied as one block by clone and copy: first …
    cdef public int64_t mac_header, network_header, transport_header    # from head, or SKB_UNSET
    cdef public int64_t csum_start, csum_offset
    cdef public int64_t gso_size, gso_segs
    cdef public int64_t seq, end_seq, ack_seq
    cdef public int64_t tcp_gso_size, tcp_gso_segs
    cdef public int64_t frag_max_size
    cdef public int64_t tstamp_ns
    cdef public int64_t tx_tstamp_ns
    cdef public int64_t tx_delivered, tx_in_flight, tx_lost
    cdef public int64_t tx_delivered_mstamp_ns, tx_first_tx_mstamp_ns
    cdef public uint32_t mac_len
    cdef public uint32_t protocol
    cdef public uint32_t csum
    cdef public uint32_t gso_type
    cdef public uint32_t priority, mark, hash, queue_mapping, napi_id
    cdef public uint32_t vlan_tci, vlan_proto
    cdef public uint32_t ip_cb_flags
    cdef public uint32_t tcp_flags, sacked, ip_dsfield
    cdef public int skb_iif
    cdef public bint csum_valid, csum_complete_sw, ignore_df, l4_hash, peeked, ooo_okay
    cdef public bint dst_pending_confirm
    cdef public bint tx_is_app_limited
    cdef public uint8_t pkt_type, ip_summed, csum_level
    cdef uint8_t end_of_fields      # … last


cdef inline skb_core *skb_c(sk_buff skb) noexcept:
    """The data part, for the C functions."""
    return <skb_core *>&skb.head


cdef inline uint8_t *skb_within(sk_buff skb, int64_t off, int64_t n, int64_t end) noexcept:
    """The bytes `off` … `off + n` from head; NULL unless they lie before `end` (tail or end)."""
    return skb.head + off if 0 <= off <= end - n else NULL


cdef class sk_buff_head:
    cdef PyObject *first
    cdef PyObject *last
    cdef readonly Py_ssize_t qlen
    cdef bint indexed           # a subclass keeps an index: only its own calls put members in
    cdef object collected       # an object member: Cython registers the class with the collector


cdef sk_buff skb_new(skb_pool *pool, uint32_t headroom)     # None when the pool is empty
cdef sk_buff skb_build(skb_buf *b, uint32_t headroom)       # around a buffer, taking its reference
cdef void skb_free(sk_buff skb) noexcept                    # kfree_skb
cdef int skb_check(sk_buff skb) except -1                   # ValueError when freed
cdef int skb_do_push(sk_buff skb, uint32_t n) except -1
cdef int skb_do_pull(sk_buff skb, uint32_t n) except -1
cdef int skb_do_put(sk_buff skb, uint32_t n) except -1
cdef bint skb_do_may_pull(sk_buff skb, uint32_t n) noexcept
cdef void skb_do_trim(sk_buff skb, uint32_t n) noexcept
cdef void skb_copy_fields(sk_buff dst, sk_buff src) noexcept  # headers stay where they are to data
cdef int skb_do_add_frag(sk_buff skb, skb_buf *b, uint32_t off, uint32_t len) noexcept
cdef int skb_do_share(sk_buff dst, sk_buff src, uint32_t off, uint32_t n) noexcept
cdef void skb_do_copy(sk_buff skb, uint32_t off, uint8_t *dst, uint32_t n) noexcept
cdef uint32_t skb_do_csum(sk_buff skb, uint32_t off, uint32_t n, uint32_t acc) noexcept
cdef int mem_free(object mem, uint64_t dma, uint64_t n) except -1
# tp_traverse of a holder: visit what a member refers to, when the holder is its only owner
cdef int skb_visit(PyObject *skb, visit_fn visit, void *arg) noexcept
cdef void list_unlink(sk_buff_head q, sk_buff skb) noexcept
cdef int list_link(sk_buff_head q, PyObject *prev, PyObject *nxt, sk_buff skb) except -1
cdef void list_purge(sk_buff_head q) noexcept
