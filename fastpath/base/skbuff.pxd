# cython: language_level=3, overflowcheck=False
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

# An indexed queue's entry for a member. Every removal of the member calls `leave`.
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
    GSO_TCP_FIXEDID = 1 << 3
    GSO_TCPV6 = 1 << 4
    GSO_UDP_L4 = 1 << 17


@cython.final
cdef class SkbPool:
    cdef skb_pool *p            # outlives this object while buffers are in use
    cdef readonly object mem


# Fields for Python's arithmetic are int64_t: differences may be negative, and sums do not wrap.
# Code that writes memory checks their range, or uses their low 32 bits.
@cython.final
cdef class sk_buff:
    # links: raw, the queue owns one reference to each member
    cdef PyObject *next_
    cdef PyObject *prev_
    cdef PyObject *list_
    cdef skb_index *index
    cdef public object dev, sk, dst, cb, destructor
    cdef public object nfct         # the connection that it belongs to (net/netfilter), None
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
    cdef public uint32_t priority, mark, hash, queue_mapping
    cdef public uint32_t nf_trace   # 0, or the number of a packet that rules trace
    cdef public uint32_t vlan_tci, vlan_proto
    cdef public uint32_t ip_cb_flags
    cdef public uint32_t tcp_flags, sacked, ip_dsfield
    cdef public uint32_t tskey      # what SO_TIMESTAMPING calls the packet, or its last byte
    cdef public int skb_iif
    cdef public bint csum_valid, csum_complete_sw, ignore_df, l4_hash, peeked, ooo_okay
    cdef public bint dst_pending_confirm
    cdef public bint tx_is_app_limited
    cdef public uint8_t pkt_type, ip_summed, csum_level
    cdef public uint8_t nfctinfo    # IP_CT_...: its role in that connection
    cdef public uint8_t tx_flags    # SKBTX_...: the time stamps that its sender wants
    cdef public bint txstamp_ack    # one for the acknowledgement, too (TCP_SKB_CB)
    # Parsed fields of the headers at parsed_at and parsed_l4 (parse.pxd).
    cdef uint32_t parsed_at, parsed_l4
    cdef readonly int64_t saddr, daddr              # of IPv4
    cdef readonly int64_t th_seq, th_ack, tsval, tsecr
    cdef readonly uint32_t l3_len                   # bytes of the network layer
    cdef readonly uint16_t sport, dport, th_window
    cdef readonly uint8_t inet_family, l4_proto, l3_dsfield, l4_hlen, th_flags
    cdef readonly uint8_t tcp_opts                  # 0 none, 1 timestamps alone, 2 others
    cdef readonly uint8_t parsed                    # PARSED_… bits; 0: nothing
    cdef uint8_t end_of_fields      # … last


cdef inline skb_core *skb_c(sk_buff skb) noexcept:
    """The data part, for the C functions."""
    return <skb_core *>&skb.head


cdef int none_error() except -1                             # TypeError


cdef inline int need(object o) except -1:
    """TypeError for None: a C function takes it for an argument of any class."""
    return none_error() if o is None else 0


cdef inline uint8_t *skb_within(sk_buff skb, int64_t off, int64_t n, int64_t end) noexcept:
    """The bytes `off` … `off + n` from head; NULL unless they lie before `end` (tail or end)."""
    return skb.head + off if 0 <= off <= end - n else NULL


cdef class sk_buff_head:
    cdef PyObject *first
    cdef PyObject *last
    cdef readonly Py_ssize_t qlen
    cdef bint indexed           # a subclass keeps an index: only its own calls put members in
    cdef object collected       # an object member: Cython registers the class with the collector
    cpdef sk_buff peek(self)
    cpdef sk_buff peek_tail(self)
    cpdef void queue_tail(self, sk_buff skb) except *
    cpdef void queue_head(self, sk_buff skb) except *
    cpdef sk_buff dequeue(self)
    cpdef sk_buff dequeue_tail(self)
    cpdef void unlink(self, sk_buff skb) except *
    cpdef void insert_after(self, sk_buff prev, sk_buff skb) except *
    cpdef void insert_before(self, sk_buff next, sk_buff skb) except *
    cpdef void purge(self)
    cpdef void splice_tail_init(self, sk_buff_head frm) except *
    cpdef sk_buff next(self, sk_buff skb)
    cpdef sk_buff prev(self, sk_buff skb)
    cpdef int64_t nbytes(self)


cdef sk_buff skb_new(skb_pool *pool, uint32_t headroom)     # None when the pool is empty
cdef sk_buff skb_build(skb_buf *b, uint32_t headroom)       # around a buffer, taking its reference
cdef sk_buff skb_do_carve(sk_buff skb, uint32_t n)          # its first bytes as a packet of its own
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
cdef uint64_t skb_do_add_data(sk_buff skb, skb_pool *pages, const uint8_t *src,
                              uint64_t n) noexcept  # bytes that fitted
cdef uint32_t skb_do_csum(sk_buff skb, uint32_t off, uint32_t n, uint32_t acc) noexcept
cdef int mem_free(object mem, uint64_t dma, uint64_t n) except -1
# tp_traverse of a holder: visit what a member refers to, when the holder is its only owner
cdef int skb_visit(PyObject *skb, visit_fn visit, void *arg) noexcept
cdef void list_unlink(sk_buff_head q, sk_buff skb) noexcept
cdef int list_link(sk_buff_head q, PyObject *prev, PyObject *nxt, sk_buff skb) except -1
cdef void list_purge(sk_buff_head q) noexcept


# The kernel's functions, documented in skbuff.pyi.
cpdef sk_buff alloc_skb(SkbPool pool, int64_t size_bytes, int64_t headroom=*)
cpdef sk_buff skb_get(sk_buff skb)
cpdef bint skb_shared(sk_buff skb) except -1
cpdef void kfree_skb(sk_buff skb, int64_t reason=*) except *
cpdef void consume_skb(sk_buff skb) except *
cpdef void kfree_skb_list(list skbs) except *
cpdef void skb_orphan(sk_buff skb) except *
cpdef sk_buff skb_clone(sk_buff skb)
cpdef sk_buff skb_copy(sk_buff skb, SkbPool pool=*)
cpdef sk_buff pskb_copy(sk_buff skb, SkbPool pool=*)
cpdef sk_buff skb_share_check(sk_buff skb)
cpdef sk_buff skb_unshare(sk_buff skb)
cpdef bint skb_unclone(sk_buff skb) except -1
cpdef bint skb_cow_head(sk_buff skb, int64_t headroom) except -1
cpdef bint skb_cow(sk_buff skb, int64_t headroom) except -1
cpdef void skb_header_release(sk_buff skb) except *
cpdef bint skb_header_cloned(sk_buff skb) except -1
cpdef bint skb_cloned(sk_buff skb) except -1
cpdef void skb_reserve(sk_buff skb, int64_t n) except *
cpdef void skb_put(sk_buff skb, int64_t n) except *
cpdef void skb_put_data(sk_buff skb, data) except *
cpdef void skb_push(sk_buff skb, int64_t n) except *
cpdef void skb_push_data(sk_buff skb, data) except *
cpdef void skb_pull(sk_buff skb, int64_t n) except *
cpdef void skb_trim(sk_buff skb, int64_t n) except *
cpdef void pskb_trim(sk_buff skb, int64_t n) except *
cpdef void pskb_trim_rcsum(sk_buff skb, int64_t n) except *
cpdef bint pskb_may_pull(sk_buff skb, int64_t n) except -1
cpdef int64_t skb_headroom(sk_buff skb) except? -1
cpdef int64_t skb_tailroom(sk_buff skb) except? -1
cpdef int64_t skb_headlen(sk_buff skb) except? -1
cpdef void skb_gso_reset(sk_buff skb) except *
cpdef bint skb_linearize(sk_buff skb) except -1
cpdef void skb_reset_mac_header(sk_buff skb) except *
cpdef void skb_reset_network_header(sk_buff skb) except *
cpdef void skb_reset_transport_header(sk_buff skb) except *
cpdef void skb_reset_mac_len(sk_buff skb) except *
cpdef void skb_set_network_header(sk_buff skb, int64_t offset) except *
cpdef void skb_set_transport_header(sk_buff skb, int64_t offset) except *
cpdef int64_t skb_mac_offset(sk_buff skb) except? -1
cpdef int64_t skb_network_offset(sk_buff skb) except? -1
cpdef int64_t skb_transport_offset(sk_buff skb) except? -1
cpdef int64_t skb_checksum_start_offset(sk_buff skb) except? -1
cpdef int64_t skb_network_header_len(sk_buff skb) except? -1
cpdef bint skb_mac_header_was_set(sk_buff skb) except -1
cpdef bytes skb_copy_bits(sk_buff skb, int64_t off, int64_t n)
cpdef void skb_store_bits(sk_buff skb, int64_t off, data) except *
cpdef bytes skb_to_bytes(sk_buff skb)
cpdef int64_t skb_copy_datagram_iter(sk_buff skb, int64_t offset, buffer, int64_t buf_off,
                                     int64_t n) except? -1
cpdef int64_t skb_add_data(sk_buff skb, SkbPool pages_pool, buffer, int64_t off,
                           int64_t n) except? -1
cpdef int64_t skb_append_linear(sk_buff skb, buffer, int64_t off, int64_t n) except? -1
cpdef void skb_split(sk_buff skb, sk_buff skb1, int64_t n) except *
cpdef int64_t skb_shift(sk_buff tgt, sk_buff skb, int64_t shiftlen) except? -1
cpdef bint skb_try_coalesce(sk_buff to, sk_buff frm) except -1
cpdef bint skb_append_frags(sk_buff to, sk_buff frm, int64_t off, int64_t n) except -1
cpdef int64_t skb_checksum(sk_buff skb, int64_t off, int64_t n, uint32_t acc=*) except? -1
cpdef bint skb_checksum_help(sk_buff skb) except -1
cpdef bint skb_csum_unnecessary(sk_buff skb) except -1
cpdef int64_t skb_checksum_init(sk_buff skb, uint8_t proto, uint32_t saddr,
                                uint32_t daddr) except? -1
cpdef int64_t skb_checksum_init_v6(sk_buff skb, uint8_t proto, saddr, daddr) except? -1
cpdef int64_t inet_checksum_init(sk_buff skb, uint8_t proto) except? -1
cpdef int64_t skb_checksum_complete(sk_buff skb) except? -1
