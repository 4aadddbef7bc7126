# cython: language_level=3, embedsignature=True
"""sk_buff, sk_buff_head and buffer pools (include/linux/skbuff.h, net/core/skbuff.c).

The data part (head/data/tail/end, fragments) is the C struct ``skb_core`` of ``_c/skb.h``, its
bodies are in ``_c/skb_body.h``; this file joins it to Python objects and checks every argument. All
offsets called ``*_header`` and ``csum_start`` count from ``skb->head``; every ``offset``/``off``
argument counts from ``skb->data``. Freed means ``s.hbuf == NULL`` and ``s.users == 0``: lengths and
rooms are 0, so no operation finds bytes to touch, and each raises ValueError. Call with the host's
lock held.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_SIMPLE,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastpath.base.bytes cimport ld32be
from fastpath.base.csum cimport csum_add, csum_block_sub, csum_fold, csum_ptr, csum_ptr_ipv6
from fastpath.base.csum cimport csum_tcpudp_nofold
from fastpath.base.seccomp cimport UserBuffer, iovec, move_memory

cdef extern from "skb_body.h":
    ctypedef uint32_t (*skb_csum_fn)(const uint8_t *p, size_t n, uint32_t acc) noexcept nogil
    ctypedef struct pool_t "skb_pool":
        skb_buf *free_list
        skb_buf *bufs
        skb_buf *cur
        uint32_t nfree
        uint32_t count
        uint32_t buf_bytes
        int alive
        uint64_t dma
        uint8_t *bytes
        uint64_t gets
        uint64_t puts
        uint64_t failures
        void (*release)(skb_pool *) noexcept
        void *mem
        void *view
    ctypedef struct core_t "skb_core":
        int64_t len
        uint32_t data
        uint32_t nohdr
        skb_frag *frags
        skb_frag inl[SKB_INLINE_FRAGS]
    uint64_t skb_frag_mallocs
    void skb_core_init(skb_core *s, skb_buf *b, uint32_t headroom)
    void skb_core_release(skb_core *s)
    int skb_core_reserve_frags(skb_core *s, uint32_t need)
    int skb_core_add_frag(skb_core *s, skb_buf *b, uint32_t off, uint32_t n)
    int skb_core_clone(skb_core *d, const skb_core *s)
    void skb_core_pull(skb_core *s, uint32_t n)
    void skb_core_trim(skb_core *s, uint32_t n)
    void skb_core_copy(skb_core *s, uint32_t off, uint8_t *dst, uint32_t n)
    void skb_core_store(skb_core *s, uint32_t off, const uint8_t *src, uint32_t n)
    uint32_t skb_core_csum(skb_core *s, uint32_t off, uint32_t n, uint32_t acc, skb_csum_fn fn)
    int skb_core_share(skb_core *d, skb_core *s, uint32_t off, uint32_t n)
    int skb_core_rehead(skb_core *s, uint32_t headroom, uint32_t ntail)
    void skb_core_pull_tail(skb_core *s, uint32_t n)
    uint64_t skb_core_add_data(skb_core *s, skb_pool *pool, const uint8_t *src, uint64_t n)
    int skb_core_pieces(skb_core *s, uint32_t off, uint32_t *n, iovec *out, int most)

cdef extern from "sparse.h" nogil:
    void *sparse_alloc(size_t nbytes)
    void sparse_free(void *p, size_t nbytes)

cdef extern from "addr128.h":
    int addr128_put(uint8_t *p, object v) except -1

cdef extern from *:
    """
    #if PY_VERSION_HEX >= 0x030D0000
    #define SKB_FINALIZING() Py_IsFinalizing()
    #else
    #define SKB_FINALIZING() _Py_IsFinalizing()
    #endif
    """
    bint SKB_FINALIZING()

CHECKSUM_NONE = 0
CHECKSUM_UNNECESSARY = 1
CHECKSUM_COMPLETE = 2
CHECKSUM_PARTIAL = 3
PACKET_HOST = 0
PACKET_BROADCAST = 1
PACKET_MULTICAST = 2
PACKET_OTHERHOST = 3
PACKET_OUTGOING = 4
PACKET_LOOPBACK = 5
SKB_GSO_TCPV4 = 1 << 0
SKB_GSO_DODGY = 1 << 1
SKB_GSO_TCP_ECN = 1 << 2
SKB_GSO_TCP_FIXEDID = 1 << 3
SKB_GSO_TCPV6 = 1 << 4
SKB_GSO_GRE = 1 << 6
SKB_GSO_GRE_CSUM = 1 << 7
SKB_GSO_IPXIP4 = 1 << 8
SKB_GSO_IPXIP6 = 1 << 9
SKB_GSO_UDP_TUNNEL = 1 << 10
SKB_GSO_UDP_TUNNEL_CSUM = 1 << 11
SKB_GSO_ENCAP = 0xFC0
SKB_GSO_UDP_L4 = 1 << 17
SKB_GSO_TCP_ACCECN = 1 << 19
MAX_SKB_FRAGS = SKB_MAX_FRAGS
HEADER_UNSET = 0xFFFFFFFF

cdef enum:
    MAX_BUF_BYTES = 1 << 24


# -- pools -----------------------------------------------------------------------------------------
cdef void pool_release(skb_pool *pool) noexcept:
    """Give the memory back to its owner: the pool object and every buffer are gone."""
    cdef pool_t *p = <pool_t *>pool
    cdef object mem = <object>p.mem
    cdef uint64_t dma = p.dma
    cdef uint64_t n = <uint64_t>p.buf_bytes * p.count
    PyBuffer_Release(<Py_buffer *>p.view)
    PyMem_Free(p.view)
    sparse_free(p.bufs, p.count * sizeof(skb_buf))
    PyMem_Free(p)
    Py_DECREF(mem)
    mem_free(mem, dma, n)


cdef int mem_free(mem, uint64_t dma, uint64_t n) except -1:
    """mem.free(), except at interpreter exit, where Python code may be half gone."""
    if not SKB_FINALIZING():
        mem.free(dma, n)
    return 0


cdef int pool_check(SkbPool pool) except -1:
    need(pool)
    if pool.p == NULL:
        raise ValueError("SkbPool: not initialised")
    return 0


@cython.final
cdef class SkbPool:
    """`count` buffers of `buf_bytes` carved from host memory; each knows its DMA address.

    ``mem`` needs ``alloc(n, align)``, ``free(addr, n)`` and ``view(addr, n)`` (a writable buffer).
    The memory goes back to ``mem`` when the pool and the last buffer in use are gone.
    """

    def __init__(self, mem not None, Py_ssize_t buf_bytes, Py_ssize_t count, *,
                 Py_ssize_t align=64):
        cdef pool_t *p
        cdef skb_buf *b
        cdef Py_buffer *view
        if self.p != NULL:
            raise ValueError("SkbPool: already initialised")
        if not 64 <= buf_bytes <= MAX_BUF_BYTES:
            raise ValueError(f"SkbPool: buf_bytes={buf_bytes}: must be 64 … {MAX_BUF_BYTES}")
        if not 1 <= count <= 1 << 24:
            raise ValueError(f"SkbPool: count={count}: must be 1 … {1 << 24}")
        if buf_bytes % 16:
            raise ValueError(f"SkbPool: buf_bytes={buf_bytes}: must be a multiple of 16")
        dma = mem.alloc(buf_bytes * count, align)
        p = <pool_t *>PyMem_Malloc(sizeof(pool_t))
        view = <Py_buffer *>PyMem_Malloc(sizeof(Py_buffer))
        b = <skb_buf *>sparse_alloc(count * sizeof(skb_buf))
        try:
            if p == NULL or view == NULL or b == NULL:
                raise MemoryError("SkbPool: no memory for the buffer table")
            PyObject_GetBuffer(mem.view(dma, buf_bytes * count), view, PyBUF_WRITABLE)
            if view.len < buf_bytes * count:
                PyBuffer_Release(view)
                raise ValueError("SkbPool: mem.view() gave fewer bytes than asked for")
        except BaseException:
            PyMem_Free(p)
            PyMem_Free(view)
            sparse_free(b, count * sizeof(skb_buf))
            mem.free(dma, buf_bytes * count)
            raise
        memset(p, 0, sizeof(pool_t))
        Py_INCREF(mem)
        p.mem = <void *>mem
        p.view = view
        p.bufs = b
        p.count = p.nfree = <uint32_t>count
        p.buf_bytes = <uint32_t>buf_bytes
        p.dma = dma
        p.alive = 1
        p.release = pool_release
        p.bytes = <uint8_t *>view.buf
        self.mem = mem
        self.p = <skb_pool *>p

    def __dealloc__(self):
        cdef pool_t *p = <pool_t *>self.p
        cdef skb_buf *cur
        if p == NULL:
            return
        cur = p.cur
        p.cur = NULL
        if cur != NULL:
            skb_buf_drop(cur)
        p.alive = 0
        if p.nfree == p.count:
            pool_release(self.p)

    @property
    def buf_bytes(self):
        pool_check(self)
        return self.p.buf_bytes

    @property
    def count(self):
        pool_check(self)
        return self.p.count

    @property
    def available(self):
        """Buffers ready to be taken."""
        cdef pool_t *p
        pool_check(self)
        p = <pool_t *>self.p
        return p.nfree + (1 if p.cur != NULL and p.cur.refs == 1 else 0)

    @property
    def in_use(self):
        return self.p.count - self.available if self.p != NULL else 0

    @property
    def gets(self):
        pool_check(self)
        return (<pool_t *>self.p).gets

    @property
    def puts(self):
        pool_check(self)
        return (<pool_t *>self.p).puts

    @property
    def failures(self):
        pool_check(self)
        return (<pool_t *>self.p).failures

    @property
    def dma(self):
        """Bus address of the first buffer."""
        pool_check(self)
        return self.p.dma

    def __repr__(self):
        if self.p == NULL:
            return "<SkbPool not initialised>"
        return f"<SkbPool {self.in_use}/{self.count} x {self.buf_bytes} B in use at {self.dma:#x}>"


# -- sk_buff ---------------------------------------------------------------------------------------
@cython.final
@cython.no_gc
@cython.freelist(512)
cdef class sk_buff:
    """One packet: linear head plus fragments; made by alloc_skb/skb_clone/…, never directly."""

    def __dealloc__(self):
        cdef sk_buff shell
        if self.hbuf == NULL:
            return
        if self.destructor is None:
            skb_core_release(skb_c(self))
            return
        # An unfreed packet with accounting attached: a fresh object carries it to its destructor,
        # because this one must not be given to Python any more.
        shell = sk_buff.__new__(sk_buff)
        steal(shell, self)
        shell.users = 1
        skb_free(shell)

    def __len__(self):
        return self.len

    def __bool__(self):
        return True

    def __repr__(self):
        if self.users == 0:
            return "<sk_buff freed>"
        return (f"<sk_buff len={self.len} data_len={self.data_len} frags={self.nr_frags} "
                f"proto={self.protocol:#06x} headroom={self.data} users={self.users}>")

    @property
    def cloned(self):
        return self.hbuf != NULL and self.hbuf.refs > 1

    @property
    def headroom(self):
        return self.data

    @property
    def tailroom(self):
        return self.end - self.tail if self.nr_frags == 0 else 0

    @property
    def data_offset(self):
        """skb->data - skb->head."""
        return self.data

    @property
    def vlan_present(self):
        return self.vlan_proto != 0

    @vlan_present.setter
    def vlan_present(self, bint value):
        if not value:
            self.vlan_proto = 0
            self.vlan_tci = 0
        elif self.vlan_proto == 0:
            self.vlan_proto = 0x8100

    @property
    def list(self):
        return <object>self.list_ if self.list_ != NULL else None

    @property
    def next(self):
        return <object>self.next_ if self.next_ != NULL else None

    @property
    def prev(self):
        return <object>self.prev_ if self.prev_ != NULL else None

    @property
    def data_dma(self):
        """Bus address of skb->data."""
        skb_check(self)
        return self.hbuf.dma + self.data

    def frag(self, Py_ssize_t index):
        """(DMA address, bytes) of fragment `index`."""
        cdef skb_frag *f
        if index < 0 or index >= <Py_ssize_t>self.nr_frags:
            raise IndexError(f"frag {index} of {self.nr_frags}")
        f = &self.frags[index]
        return f.buf.dma + f.off, f.len


cdef int layout_check() except -1:
    """skb_core's members stand in sk_buff as they do in the C struct."""
    cdef sk_buff skb = sk_buff.__new__(sk_buff)
    cdef core_t *c = <core_t *>skb_c(skb)
    if (<void *>&c.len != <void *>&skb.len or <void *>&c.data != <void *>&skb.data
            or <void *>&c.nohdr != <void *>&skb.nohdr or <void *>&c.frags != <void *>&skb.frags
            or <void *>&c.inl != <void *>&skb.inl or sizeof(c.inl) != sizeof(skb.inl)):
        raise SystemError("skb_core in skb.h and the members of sk_buff in skbuff.pxd differ")
    return 0


layout_check()


cdef void steal(sk_buff d, sk_buff o) noexcept:
    """Move everything of `o`, whose object dies, to the fresh `d`."""
    (<core_t *>skb_c(d))[0] = (<core_t *>skb_c(o))[0]
    if o.cap_frags == SKB_INLINE_FRAGS:
        d.frags = d.inl
    o.hbuf = NULL
    fields_copy(d, o)
    d.dev = o.dev
    d.sk = o.sk
    d.dst = o.dst
    d.cb = o.cb
    d.nfct = o.nfct
    d.destructor = o.destructor


cdef inline void fields_copy(sk_buff d, sk_buff o) noexcept:
    memcpy(&d.mac_header, &o.mac_header, <char *>&o.end_of_fields - <char *>&o.mac_header)


cdef int freed_error() except -1:
    raise ValueError("sk_buff was freed")


cdef int none_error() except -1:
    raise TypeError("None is no such argument")


cdef inline int check(sk_buff skb) except -1:
    if skb is None:
        return none_error()
    if skb.users == 0:
        return freed_error()
    return 0


cdef int skb_check(sk_buff skb) except -1:
    return check(skb)


cdef inline sk_buff new_from_buf(skb_buf *b, uint32_t headroom):
    cdef sk_buff skb = sk_buff.__new__(sk_buff)
    skb_core_init(skb_c(skb), b, headroom)
    skb.mac_header = skb.network_header = skb.transport_header = SKB_UNSET
    return skb


cdef sk_buff skb_new(skb_pool *pool, uint32_t headroom):
    cdef skb_buf *b = skb_pool_take(pool)
    if b == NULL:
        return None
    return new_from_buf(b, headroom if headroom <= b.size else b.size)


cdef sk_buff skb_build(skb_buf *b, uint32_t headroom):
    return new_from_buf(b, headroom if headroom <= b.size else b.size)


cdef void run_destructor(sk_buff skb) noexcept:
    """Call the destructor once; report an exception as unraisable, since freeing never fails."""
    d = skb.destructor
    skb.destructor = None
    # At interpreter exit the collector may have emptied the function already: no globals left.
    if not SKB_FINALIZING():
        d(skb)


cdef void release(sk_buff skb) noexcept:
    """The last reference is gone: leave the queue, tell the owner, release buffers and objects."""
    skb.users = 0
    if skb.list_ != NULL:
        list_unlink(<sk_buff_head>skb.list_, skb)
    if skb.destructor is not None:
        run_destructor(skb)
    skb_core_release(skb_c(skb))
    if skb.dev is not None:
        skb.dev = None
    if skb.sk is not None:
        skb.sk = None
    if skb.dst is not None:
        skb.dst = None
    if skb.cb is not None:
        skb.cb = None
    if skb.nfct is not None:
        skb.nfct = None


cdef inline void kfree(sk_buff skb) noexcept:
    if skb.users > 1:
        skb.users -= 1
    elif skb.users == 1:
        release(skb)


cdef void skb_free(sk_buff skb) noexcept:
    kfree(skb)


cpdef sk_buff alloc_skb(SkbPool pool, int64_t size_bytes, int64_t headroom=0):
    """Empty sk_buff with room for `headroom` + `size_bytes`; None when the pool is exhausted.

    Raises ValueError when the two do not fit one buffer of the pool.
    """
    need(pool)
    cdef skb_buf *b
    if pool.p == NULL:
        raise ValueError("SkbPool: not initialised")
    if (size_bytes < 0 or headroom < 0 or headroom > pool.p.buf_bytes
            or size_bytes > <Py_ssize_t>pool.p.buf_bytes - headroom):
        raise ValueError(f"alloc_skb: {headroom} + {size_bytes} bytes do not fit a buffer of "
                         f"{pool.p.buf_bytes}")
    b = skb_pool_take(pool.p)
    if b == NULL:
        return None
    return new_from_buf(b, <uint32_t>headroom)


def skb_from_bytes(SkbPool pool not None, data not None, Py_ssize_t headroom=0):
    """sk_buff holding a copy of `data` (further buffers of `pool` as frags when needed)."""
    cdef Py_buffer view
    cdef sk_buff skb
    cdef skb_buf *b
    cdef const uint8_t *src
    cdef Py_ssize_t n, c, room
    pool_check(pool)
    if headroom < 0 or headroom > pool.p.buf_bytes:
        raise ValueError(f"skb_from_bytes: headroom={headroom}: buffers have {pool.p.buf_bytes} B")
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        skb = skb_new(pool.p, <uint32_t>headroom)
        if skb is None:
            return None
        src = <const uint8_t *>view.buf
        n = view.len
        room = <Py_ssize_t>pool.p.buf_bytes - headroom
        c = n if n < room else room
        memcpy(skb.head + skb.tail, src, c)
        skb.tail += <uint32_t>c
        skb.len = <uint32_t>c
        while c < n:
            b = skb_pool_take(pool.p)
            if b == NULL:
                kfree(skb)
                return None
            room = n - c if n - c < <Py_ssize_t>b.size else <Py_ssize_t>b.size
            memcpy(b.ptr, src + c, room)
            if skb_core_add_frag(skb_c(skb), b, 0, <uint32_t>room) < 0:
                skb_buf_drop(b)
                kfree(skb)
                raise ValueError(f"skb_from_bytes: {n} bytes need more than {SKB_MAX_FRAGS} frags")
            skb.truesize += b.size
            c += room
        return skb
    finally:
        PyBuffer_Release(&view)


cpdef sk_buff skb_get(sk_buff skb):
    """One more reference (users); returns skb."""
    check(skb)
    skb.users += 1
    return skb


cpdef bint skb_shared(sk_buff skb) except -1:
    need(skb)
    return skb.users > 1


cpdef void kfree_skb(sk_buff skb, int64_t reason=0) except *:
    """Drop one reference; at zero release buffers, objects, and leave its queue.

    `reason` is for tracers. None is allowed. ValueError when skb was freed before.
    """
    if skb is not None:
        check(skb)
        kfree(skb)


cpdef void consume_skb(sk_buff skb) except *:
    """kfree_skb for a packet that reached its end successfully."""
    if skb is not None:
        check(skb)
        kfree(skb)


cpdef void kfree_skb_list(list skbs) except *:
    """kfree_skb each member and empty the list."""
    need(skbs)
    cdef sk_buff skb
    for skb in skbs:
        if skb is not None:
            kfree(skb)
    skbs.clear()


cpdef void skb_orphan(sk_buff skb) except *:
    """Call the destructor now and detach from skb.sk."""
    check(skb)
    if skb.destructor is not None:
        run_destructor(skb)
    skb.sk = None


cdef sk_buff clone(sk_buff skb):
    cdef sk_buff n = sk_buff.__new__(sk_buff)
    if skb_core_clone(skb_c(n), skb_c(skb)) < 0:
        raise MemoryError("skb_clone: no memory for the fragment array")
    fields_copy(n, skb)
    n.peeked = False
    n.dev = skb.dev
    n.dst = skb.dst
    n.cb = skb.cb
    n.nfct = skb.nfct
    return n


cdef sk_buff skb_do_carve(sk_buff skb, uint32_t n):
    """The first `n` < len bytes as a packet of its own, None without memory; skb keeps the rest.

    It shares the buffers, so what was pulled off in front of them can be read in both. It has no
    owner, and its truesize is left to the caller.
    """
    cdef sk_buff one = sk_buff.__new__(sk_buff)
    cdef uint32_t h = skb_core_headlen(skb_c(skb))
    cdef uint32_t c = n if n < h else h
    skb.hbuf.refs += 1
    skb_core_init(skb_c(one), skb.hbuf, skb.data)
    one.tail += c
    one.len = c
    if n > c and skb_core_share(skb_c(one), skb_c(skb), h, n - c) < 0:
        kfree(one)
        return None
    fields_copy(one, skb)
    one.dev = skb.dev
    one.dst = skb.dst
    one.cb = skb.cb
    one.nfct = skb.nfct
    skb_core_pull(skb_c(skb), n)
    return one


cpdef sk_buff skb_clone(sk_buff skb):
    """New sk_buff sharing the data; users 1, no sk, no destructor, on no queue."""
    check(skb)
    return clone(skb)


cdef void skb_copy_fields(sk_buff d, sk_buff o) noexcept:
    """Everything but the bytes; headers stay where they are to data."""
    fields_copy(d, o)
    shift_headers(d, <int64_t>d.data - <int64_t>o.data)
    d.dev = o.dev
    d.dst = o.dst
    d.cb = o.cb
    d.nfct = o.nfct


cdef inline uint32_t moved(uint32_t off, int64_t delta) noexcept:
    if off == SKB_UNSET:
        return off
    return <uint32_t>(<int64_t>off + delta) if <int64_t>off + delta >= 0 else SKB_UNSET


cdef void shift_headers(sk_buff skb, int64_t delta) noexcept:
    if delta == 0:
        return
    skb.mac_header = moved(skb.mac_header, delta)
    skb.network_header = moved(skb.network_header, delta)
    skb.transport_header = moved(skb.transport_header, delta)
    skb.parsed_at = moved(skb.parsed_at, delta)
    skb.parsed_l4 = moved(skb.parsed_l4, delta)
    if skb.parsed_at == SKB_UNSET:
        skb.parsed = 0
    if skb.ip_summed == SUM_PARTIAL:
        skb.csum_start = moved(skb.csum_start, delta)


cdef bint rehead(sk_buff skb, uint32_t headroom, uint32_t ntail) noexcept:
    cdef uint32_t old = skb.data
    if skb_core_rehead(skb_c(skb), headroom, ntail) < 0:
        return False
    shift_headers(skb, <int64_t>skb.data - <int64_t>old)
    return True


cdef sk_buff private_head(sk_buff skb, SkbPool pool):
    """New sk_buff with its own copy of the linear part (headers before data too), no frags yet."""
    cdef skb_pool *p = skb.hbuf.pool
    cdef sk_buff n
    if pool is not None:
        pool_check(pool)
        p = pool.p
    if skb.tail > p.buf_bytes:
        raise ValueError(f"skb_copy: {skb.tail} bytes do not fit a buffer of {p.buf_bytes}")
    n = skb_new(p, skb.data)
    if n is None:
        return None
    memcpy(n.head, skb.head, skb.tail)
    n.tail = skb.tail
    n.len = skb_core_headlen(skb_c(skb))
    skb_copy_fields(n, skb)
    n.peeked = False
    return n


cpdef sk_buff skb_copy(sk_buff skb, SkbPool pool=None):
    """Private copy of header and payload, frags too, from its pools or `pool`; None if empty."""
    cdef sk_buff n
    cdef skb_buf *b
    cdef uint32_t off, c
    check(skb)
    n = private_head(skb, pool)
    if n is None:
        return None
    off = n.len
    while off < skb.len:
        b = skb_pool_take(pool.p if pool is not None else skb.frags[0].buf.pool)
        if b == NULL:
            kfree(n)
            return None
        c = skb.len - off
        if c > b.size:
            c = b.size
        skb_core_copy(skb_c(skb), off, b.ptr, c)
        if skb_core_add_frag(skb_c(n), b, 0, c) < 0:
            skb_buf_drop(b)
            kfree(n)
            return None
        n.truesize += b.size
        off += c
    return n


cpdef sk_buff pskb_copy(sk_buff skb, SkbPool pool=None):
    """Private linear part, shared frags."""
    cdef sk_buff n
    check(skb)
    n = private_head(skb, pool)
    if n is not None and skb.data_len:
        if skb_core_share(skb_c(n), skb_c(skb), skb_core_headlen(skb_c(skb)), skb.data_len) < 0:
            kfree(n)
            return None
        n.truesize += skb.data_len
    return n


cpdef sk_buff skb_share_check(sk_buff skb):
    """Takes ownership of skb; a clone when others hold it too."""
    cdef sk_buff n
    check(skb)
    if skb.users == 1:
        return skb
    n = clone(skb)
    kfree(skb)
    return n


cpdef sk_buff skb_unshare(sk_buff skb):
    """Takes ownership of skb; a copy when its data is shared; None on exhaustion (skb freed)."""
    check(skb)
    if skb.hbuf.refs == 1:
        return skb
    n = skb_copy(skb)
    kfree(skb)
    return n


cdef inline bint header_cloned(sk_buff skb) noexcept:
    return skb.hbuf.refs - skb.hbuf.nohdr > (0 if skb.nohdr else 1)


cpdef bint skb_unclone(sk_buff skb) except -1:
    """Make the linear part private; False on exhaustion."""
    check(skb)
    return skb.hbuf.refs == 1 or rehead(skb, skb.data, 0)


cpdef bint skb_cow_head(sk_buff skb, int64_t headroom) except -1:
    """Private writable header with at least `headroom` bytes before data; False on exhaustion."""
    check(skb)
    if headroom < 0:
        raise ValueError("skb_cow_head: negative headroom")
    if not header_cloned(skb) and headroom <= <Py_ssize_t>skb.data:
        return True
    if headroom > MAX_BUF_BYTES:
        return False
    return rehead(skb, max(<uint32_t>headroom, skb.data), 0)


cpdef bint skb_cow(sk_buff skb, int64_t headroom) except -1:
    """As skb_cow_head, also when only the payload is shared."""
    check(skb)
    if headroom < 0:
        raise ValueError("skb_cow: negative headroom")
    if skb.hbuf.refs == 1 and headroom <= <Py_ssize_t>skb.data:
        return True
    if headroom > MAX_BUF_BYTES:
        return False
    return rehead(skb, max(<uint32_t>headroom, skb.data), 0)


cpdef void skb_header_release(sk_buff skb) except *:
    """Promise that this sk_buff's header part is not looked at: its clones may write headers."""
    check(skb)
    if not skb.nohdr:
        skb.nohdr = 1
        skb.hbuf.nohdr += 1


cpdef bint skb_header_cloned(sk_buff skb) except -1:
    check(skb)
    return header_cloned(skb)


cpdef bint skb_cloned(sk_buff skb) except -1:
    need(skb)
    return skb.hbuf != NULL and skb.hbuf.refs > 1


# -- pointers --------------------------------------------------------------------------------------
cdef int room_error(str what, Py_ssize_t n, Py_ssize_t limit) except -1:
    raise ValueError(f"{what}: {n} bytes, only {limit} possible")


cdef inline int do_push(sk_buff skb, Py_ssize_t n) except -1:
    check(skb)
    if <size_t>n > skb.data:
        return room_error("skb_push", n, skb.data)
    skb.data -= <uint32_t>n
    skb.len += <uint32_t>n
    skb.parsed = 0              # a header will be written there
    return 0


cdef inline int do_put(sk_buff skb, Py_ssize_t n) except -1:
    check(skb)
    if skb.nr_frags or <size_t>n > skb.end - skb.tail:
        return room_error("skb_put", n, 0 if skb.nr_frags else skb.end - skb.tail)
    skb.tail += <uint32_t>n
    skb.len += <uint32_t>n
    return 0


cdef inline int do_pull(sk_buff skb, Py_ssize_t n) except -1:
    check(skb)
    if <size_t>n > skb.len:
        return room_error("skb_pull", n, skb.len)
    if <uint32_t>n <= skb.tail - skb.data:
        skb.data += <uint32_t>n
        skb.len -= <uint32_t>n
    else:
        skb_core_pull(skb_c(skb), <uint32_t>n)
    return 0


cdef int skb_do_push(sk_buff skb, uint32_t n) except -1:
    return do_push(skb, n)


cdef int skb_do_put(sk_buff skb, uint32_t n) except -1:
    return do_put(skb, n)


cdef int skb_do_pull(sk_buff skb, uint32_t n) except -1:
    return do_pull(skb, n)


cdef void skb_do_trim(sk_buff skb, uint32_t n) noexcept:
    skb_core_trim(skb_c(skb), n)


cdef int skb_do_add_frag(sk_buff skb, skb_buf *b, uint32_t off, uint32_t n) noexcept:
    return skb_core_add_frag(skb_c(skb), b, off, n)


cdef int skb_do_share(sk_buff dst, sk_buff src, uint32_t off, uint32_t n) noexcept:
    return skb_core_share(skb_c(dst), skb_c(src), off, n)


cdef void skb_do_copy(sk_buff skb, uint32_t off, uint8_t *dst, uint32_t n) noexcept:
    skb_core_copy(skb_c(skb), off, dst, n)


cdef uint64_t skb_do_add_data(sk_buff skb, skb_pool *pages, const uint8_t *src,
                              uint64_t n) noexcept:
    return skb_core_add_data(skb_c(skb), pages, src, n)


cdef uint32_t skb_do_csum(sk_buff skb, uint32_t off, uint32_t n, uint32_t acc) noexcept:
    return skb_core_csum(skb_c(skb), off, n, acc, csum_ptr)


cpdef void skb_reserve(sk_buff skb, int64_t n) except *:
    """Move data and tail of an empty sk_buff by `n` (negative: back)."""
    check(skb)
    if skb.len:
        raise ValueError("skb_reserve: the sk_buff holds data already")
    if n < -<Py_ssize_t>skb.data or n > <Py_ssize_t>(skb.end - skb.tail):
        room_error("skb_reserve", n, skb.end - skb.tail)
    skb.data = skb.tail = <uint32_t>(<Py_ssize_t>skb.data + n)


cpdef void skb_put(sk_buff skb, int64_t n) except *:
    """Grow the linear data by `n` (contents undefined); ValueError beyond the tailroom."""
    need(skb)
    do_put(skb, n)


cpdef void skb_put_data(sk_buff skb, data) except *:
    """Append a copy of `data` to the linear part; ValueError beyond the tailroom."""
    need(skb)
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        do_put(skb, view.len)
        memcpy(skb.head + skb.tail - view.len, view.buf, view.len)
    finally:
        PyBuffer_Release(&view)


cpdef void skb_push(sk_buff skb, int64_t n) except *:
    """Grow at the front by `n`; ValueError beyond the headroom."""
    need(skb)
    do_push(skb, n)


cpdef void skb_push_data(sk_buff skb, data) except *:
    """Push and fill in one call."""
    need(skb)
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        do_push(skb, view.len)
        memcpy(skb.head + skb.data, view.buf, view.len)
    finally:
        PyBuffer_Release(&view)


cpdef void skb_pull(sk_buff skb, int64_t n) except *:
    """Drop `n` bytes at the front, frags too; ValueError when n > len."""
    need(skb)
    do_pull(skb, n)


cpdef void skb_trim(sk_buff skb, int64_t n) except *:
    """Cut to `n` bytes (frags too); longer is left alone."""
    check(skb)
    if n < 0:
        raise ValueError("skb_trim: negative length")
    if n < <Py_ssize_t>skb.len:
        skb_core_trim(skb_c(skb), <uint32_t>n)


cpdef void pskb_trim(sk_buff skb, int64_t n) except *:
    """skb_trim under the name used for packets with frags."""
    check(skb)
    if n < 0:
        raise ValueError("pskb_trim: negative length")
    if n < <Py_ssize_t>skb.len:
        skb_core_trim(skb_c(skb), <uint32_t>n)


cpdef void pskb_trim_rcsum(sk_buff skb, int64_t n) except *:
    """skb_trim that keeps a CHECKSUM_COMPLETE sum right."""
    cdef uint32_t gone
    check(skb)
    if n < 0:
        raise ValueError("pskb_trim_rcsum: negative length")
    if n >= <Py_ssize_t>skb.len:
        return
    if skb.ip_summed == SUM_COMPLETE:
        gone = skb_core_csum(skb_c(skb), <uint32_t>n, skb.len - <uint32_t>n, 0, csum_ptr)
        skb.csum = csum_block_sub(skb.csum, gone, <size_t>n)
    skb_core_trim(skb_c(skb), <uint32_t>n)


cdef bint may_pull(sk_buff skb, uint32_t n) noexcept:
    cdef uint32_t h = skb_core_headlen(skb_c(skb))
    if n <= h:
        return True
    if n > skb.len:
        return False
    n -= h
    # bytes after the tail may belong to a clone, or to our own frags: then the head is copied first
    if skb.hbuf.refs > 1 or n > skb.end - skb.tail:
        if not rehead(skb, skb.data, n) and not rehead(skb, 0, n):
            return False
    skb_core_pull_tail(skb_c(skb), n)
    return True


cdef bint skb_do_may_pull(sk_buff skb, uint32_t n) noexcept:
    return may_pull(skb, n)


cpdef bint pskb_may_pull(sk_buff skb, int64_t n) except -1:
    """True when `n` bytes are (or could be made) linear."""
    need(skb)
    if n < 0 or n > <Py_ssize_t>skb.len:
        return False
    return may_pull(skb, <uint32_t>n)


cpdef int64_t skb_headroom(sk_buff skb) except? -1:
    need(skb)
    return skb.data


cpdef int64_t skb_tailroom(sk_buff skb) except? -1:
    need(skb)
    return skb.end - skb.tail if skb.nr_frags == 0 else 0


cpdef int64_t skb_headlen(sk_buff skb) except? -1:
    need(skb)
    return skb_core_headlen(skb_c(skb))


cpdef void skb_gso_reset(sk_buff skb) except *:
    need(skb)
    skb.gso_size = 0
    skb.gso_segs = 0
    skb.gso_type = 0


cpdef bint skb_linearize(sk_buff skb) except -1:
    """False when the packet does not fit one buffer (or none is left)."""
    check(skb)
    return may_pull(skb, skb.len)


# -- header offsets --------------------------------------------------------------------------------
cdef inline uint32_t header_at(sk_buff skb, Py_ssize_t off) except? 0xFFFFFFFE:
    check(skb)
    if off < -<Py_ssize_t>skb.data or off > <Py_ssize_t>(skb.end - skb.data):
        raise ValueError(f"header offset {off} lies outside the buffer")
    return <uint32_t>(<Py_ssize_t>skb.data + off)


cpdef void skb_reset_mac_header(sk_buff skb) except *:
    need(skb)
    skb.mac_header = skb.data


cpdef void skb_reset_network_header(sk_buff skb) except *:
    need(skb)
    skb.network_header = skb.data


cpdef void skb_reset_transport_header(sk_buff skb) except *:
    need(skb)
    skb.transport_header = skb.data


cpdef void skb_reset_mac_len(sk_buff skb) except *:
    need(skb)
    skb.mac_len = skb.network_header - skb.mac_header


cpdef void skb_set_network_header(sk_buff skb, int64_t offset) except *:
    need(skb)
    skb.network_header = header_at(skb, offset)


cpdef void skb_set_transport_header(sk_buff skb, int64_t offset) except *:
    need(skb)
    skb.transport_header = header_at(skb, offset)


cpdef int64_t skb_mac_offset(sk_buff skb) except? -1:
    need(skb)
    return <Py_ssize_t>skb.mac_header - <Py_ssize_t>skb.data


cpdef int64_t skb_network_offset(sk_buff skb) except? -1:
    need(skb)
    return <Py_ssize_t>skb.network_header - <Py_ssize_t>skb.data


cpdef int64_t skb_transport_offset(sk_buff skb) except? -1:
    need(skb)
    return <Py_ssize_t>skb.transport_header - <Py_ssize_t>skb.data


cpdef int64_t skb_checksum_start_offset(sk_buff skb) except? -1:
    need(skb)
    return <Py_ssize_t>skb.csum_start - <Py_ssize_t>skb.data


cpdef int64_t skb_network_header_len(sk_buff skb) except? -1:
    need(skb)
    return <Py_ssize_t>skb.transport_header - <Py_ssize_t>skb.network_header


cpdef bint skb_mac_header_was_set(sk_buff skb) except -1:
    need(skb)
    return skb.mac_header != SKB_UNSET


# -- bytes -----------------------------------------------------------------------------------------
cdef int range_error(str what, Py_ssize_t off, Py_ssize_t n, sk_buff skb) except -1:
    raise ValueError(f"{what}: bytes {off} … {off + n} of {skb.len}")


cdef inline int check_range(sk_buff skb, Py_ssize_t off, Py_ssize_t n, str what) except -1:
    check(skb)
    if off < 0 or n < 0 or off > <Py_ssize_t>skb.len or n > <Py_ssize_t>skb.len - off:
        return range_error(what, off, n, skb)
    return 0


cpdef bytes skb_copy_bits(sk_buff skb, int64_t off, int64_t n):
    """Bytes off … off + n; ValueError beyond the end. Negative `off` reaches pulled headers."""
    cdef bytes out
    cdef uint8_t *dst
    cdef Py_ssize_t c = 0
    check(skb)
    if (n < 0 or off < -<Py_ssize_t>skb.data or off > <Py_ssize_t>skb.len
            or n > <Py_ssize_t>skb.len - off):
        range_error("skb_copy_bits", off, n, skb)
    out = PyBytes_FromStringAndSize(NULL, n)
    dst = <uint8_t *>PyBytes_AS_STRING(out)
    if off < 0:
        c = -off if -off < n else n
        memcpy(dst, skb.head + skb.data + off, c)
        off += c
    if n > c:
        skb_core_copy(skb_c(skb), <uint32_t>off, dst + c, <uint32_t>(n - c))
    return out


cpdef void skb_store_bits(sk_buff skb, int64_t off, data) except *:
    """Overwrite bytes from `off`; ValueError beyond the end. Clones see the change."""
    need(skb)
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        check_range(skb, off, view.len, "skb_store_bits")
        skb.parsed = 0
        skb_core_store(skb_c(skb), <uint32_t>off, <const uint8_t *>view.buf, <uint32_t>view.len)
    finally:
        PyBuffer_Release(&view)


cpdef bytes skb_to_bytes(sk_buff skb):
    """All bytes from data on."""
    cdef bytes out
    check(skb)
    out = PyBytes_FromStringAndSize(NULL, skb.len)
    skb_core_copy(skb_c(skb), 0, <uint8_t *>PyBytes_AS_STRING(out), skb.len)
    return out


cdef enum:
    PIECES = 64     # that are copied at a time


cdef int copy_user(sk_buff skb, int64_t offset, UserBuffer user, int64_t user_off, int64_t n,
                   bint write) except -1:
    """Copy n bytes of skb (inside it) to or from a program's memory. 0, or an errno."""
    cdef iovec pieces[PIECES]
    cdef uint32_t c
    cdef int parts, error
    while n:
        c = <uint32_t>n
        parts = skb_core_pieces(skb_c(skb), <uint32_t>offset, &c, pieces, PIECES)
        error = move_memory(write, user.tid, user.addr + <uint64_t>user_off, pieces, parts, c)
        if error:
            return error
        offset += c
        user_off += c
        n -= c
    return 0


cdef int user_error(int error, UserBuffer user, int64_t off) except -1:
    if error:
        raise OSError(error, f"memory of {user.tid} at {user.addr + <uint64_t>off:#x}")
    return 0


cdef int64_t add_user(sk_buff skb, SkbPool pages_pool, UserBuffer user, int64_t off,
                      int64_t n) except -1:
    """Append bytes of a program's memory: in frags, or without a pool in the linear part."""
    cdef uint32_t old = skb.len, truesize = skb.truesize
    cdef int error
    if off > user.size or n > user.size - off:
        raise ValueError(f"bytes {off} … {off + n} of {user.size} of a program's")
    if pages_pool is None:
        skb.tail += <uint32_t>n
        skb.len += <uint32_t>n
    else:
        n = skb_core_add_data(skb_c(skb), pages_pool.p, NULL, <uint64_t>n)
    error = copy_user(skb, old, user, off, n, False)
    if error:
        skb_core_trim(skb_c(skb), old)
        skb.truesize = truesize
    user_error(error, user, off)
    return n


cdef Py_ssize_t copy_out(sk_buff skb, Py_ssize_t offset, buffer, Py_ssize_t buf_off,
                         Py_ssize_t n) except -1:
    cdef Py_buffer view
    check(skb)
    if offset < 0 or buf_off < 0 or n < 0:
        raise ValueError("skb_copy_datagram_iter: offset, buf_off and n must not be negative")
    if offset >= <Py_ssize_t>skb.len:
        return 0
    if n > <Py_ssize_t>skb.len - offset:
        n = <Py_ssize_t>skb.len - offset
    if type(buffer) is UserBuffer:
        n = max(min(n, (<UserBuffer>buffer).size - buf_off), 0)
        user_error(copy_user(skb, offset, buffer, buf_off, n, True), buffer, buf_off)
        return n
    PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
    if buf_off >= view.len:
        n = 0
    elif n > view.len - buf_off:
        n = view.len - buf_off
    skb_core_copy(skb_c(skb), <uint32_t>offset, <uint8_t *>view.buf + buf_off, <uint32_t>n)
    PyBuffer_Release(&view)
    return n


cpdef int64_t skb_copy_datagram_iter(sk_buff skb, int64_t offset, buffer, int64_t buf_off,
                                     int64_t n) except? -1:
    """Copy `n` bytes from `offset` to `buffer[buf_off:]`; linear over all calls (read cursor).

    Returns the bytes copied: fewer when skb or buffer end. ValueError on negative arguments,
    OSError where a UserBuffer has no memory.
    """
    need(skb)
    return copy_out(skb, offset, buffer, buf_off, n)


cpdef int64_t skb_add_data(sk_buff skb, SkbPool pages_pool, buffer, int64_t off,
                           int64_t n) except? -1:
    """Append up to `n` bytes of buffer[off:] as frags: fills the last frag's page, then new pages.

    Returns the bytes copied; fewer when the pool or the frag array (MAX_SKB_FRAGS) is full.
    OSError where a UserBuffer has no memory; then nothing is appended.
    """
    need(pages_pool)
    cdef Py_buffer view
    cdef uint64_t done
    check(skb)
    pool_check(pages_pool)
    if off < 0 or n < 0:
        raise ValueError("skb_add_data: off and n must not be negative")
    if type(buffer) is UserBuffer:
        return add_user(skb, pages_pool, buffer, off, n)
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    if off > view.len or n > view.len - off:
        PyBuffer_Release(&view)
        raise ValueError(f"skb_add_data: bytes {off} … {off + n} of a shorter buffer")
    done = skb_core_add_data(skb_c(skb), pages_pool.p, <const uint8_t *>view.buf + off, <uint64_t>n)
    PyBuffer_Release(&view)
    return done


cpdef int64_t skb_append_linear(sk_buff skb, buffer, int64_t off, int64_t n) except? -1:
    """Append up to `n` bytes to the linear tail (only when there are no frags); bytes copied.

    OSError where a UserBuffer has no memory; then nothing is appended.
    """
    cdef Py_buffer view
    check(skb)
    if off < 0 or n < 0:
        raise ValueError("skb_append_linear: off and n must not be negative")
    if skb.nr_frags:
        return 0
    if n > <Py_ssize_t>(skb.end - skb.tail):
        n = skb.end - skb.tail
    if type(buffer) is UserBuffer:
        return add_user(skb, None, buffer, off, n)
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    if off > view.len or n > view.len - off:
        PyBuffer_Release(&view)
        raise ValueError(f"skb_append_linear: bytes {off} … {off + n} of a shorter buffer")
    memcpy(skb.head + skb.tail, <const uint8_t *>view.buf + off, n)
    PyBuffer_Release(&view)
    skb.tail += <uint32_t>n
    skb.len += <uint32_t>n
    return n


cdef int frags_error(str what) except -1:
    raise ValueError(f"{what}: more than {SKB_MAX_FRAGS} frags")


cpdef void skb_split(sk_buff skb, sk_buff skb1, int64_t n) except *:
    """Move all bytes past `n` to the (empty) skb1. Lengths only; gso fields are the caller's."""
    need(skb1)
    check(skb)
    check(skb1)
    if skb is skb1 or skb1.len:
        raise ValueError("skb_split: skb1 must be another, empty sk_buff")
    check_range(skb, n, 0, "skb_split")
    if skb_core_share(skb_c(skb1), skb_c(skb), <uint32_t>n, skb.len - <uint32_t>n) < 0:
        frags_error("skb_split")
    skb_core_trim(skb_c(skb), <uint32_t>n)


cpdef int64_t skb_shift(sk_buff tgt, sk_buff skb, int64_t shiftlen) except? -1:
    """Move `shiftlen` bytes from the front of skb to the end of tgt; bytes moved or 0."""
    need(skb)
    cdef uint32_t n
    check(tgt)
    check_range(skb, 0, shiftlen, "skb_shift")
    if tgt is skb:
        raise ValueError("skb_shift: tgt and skb are the same")
    n = <uint32_t>shiftlen
    if skb_core_share(skb_c(tgt), skb_c(skb), 0, n) < 0:
        return 0
    skb_core_pull(skb_c(skb), n)
    tgt.truesize += n
    skb.truesize -= n if n < skb.truesize else skb.truesize
    return shiftlen


cpdef bint skb_try_coalesce(sk_buff to, sk_buff frm) except -1:
    """Append all of `frm`'s data to `to` by moving its buffers (no copy); then free `frm`.

    truesize of `to` grows by what moved. False (nothing changed) when the frags do not fit.
    """
    need(frm)
    cdef uint32_t left
    check(to)
    check(frm)
    if to is frm:
        raise ValueError("skb_try_coalesce: to and frm are the same")
    if frm.len > 0x7FFFFFFFU - to.len:
        return False
    if skb_core_share(skb_c(to), skb_c(frm), 0, frm.len) < 0:
        return False
    # the rest: the object, and the head buffer when it holds no payload
    left = SKB_OVERHEAD + (frm.hbuf.size if skb_core_headlen(skb_c(frm)) == 0 else 0)
    to.truesize += frm.truesize - left if frm.truesize > left else 0
    kfree(frm)
    return True


cpdef bint skb_append_frags(sk_buff to, sk_buff frm, int64_t off, int64_t n) except -1:
    """Append bytes off … off + n of `frm` to `to` by reference; `frm` stays as it is."""
    need(frm)
    check(to)
    check_range(frm, off, n, "skb_append_frags")
    if to is frm:
        raise ValueError("skb_append_frags: to and frm are the same")
    if n > <Py_ssize_t>(0x7FFFFFFFU - to.len):
        return False
    if skb_core_share(skb_c(to), skb_c(frm), <uint32_t>off, <uint32_t>n) < 0:
        return False
    to.truesize += <uint32_t>n
    return True


# -- checksums -------------------------------------------------------------------------------------
cpdef int64_t skb_checksum(sk_buff skb, int64_t off, int64_t n, uint32_t acc=0) except? -1:
    """Unfolded sum (csum_ptr) of bytes off … off + n over head and frags."""
    need(skb)
    check_range(skb, off, n, "skb_checksum")
    return skb_core_csum(skb_c(skb), <uint32_t>off, <uint32_t>n, acc, csum_ptr)


cpdef bint skb_checksum_help(sk_buff skb) except -1:
    """Resolve CHECKSUM_PARTIAL in software; ip_summed becomes NONE. False when malformed."""
    cdef uint64_t start, place
    cdef uint32_t off
    cdef uint16_t v
    check(skb)
    if skb.ip_summed != SUM_PARTIAL:
        return True
    start = <uint32_t>skb.csum_start
    place = start + <uint32_t>skb.csum_offset
    if start < skb.data or place + 2 > skb.tail:
        return False
    off = <uint32_t>start - skb.data
    if skb.hbuf.refs > 1 and header_cloned(skb) and not rehead(skb, skb.data, 0):
        return False
    v = csum_fold(skb_core_csum(skb_c(skb), off, skb.len - off, 0, csum_ptr))
    if v == 0:
        v = 0xFFFF
    skb.head[place] = <uint8_t>(v >> 8)
    skb.head[place + 1] = <uint8_t>v
    skb.ip_summed = SUM_NONE
    return True


cdef inline bint csum_unnecessary(sk_buff skb) noexcept:
    return skb.ip_summed == SUM_UNNECESSARY or skb.csum_valid or skb.ip_summed == SUM_PARTIAL


cpdef bint skb_csum_unnecessary(sk_buff skb) except -1:
    need(skb)
    return csum_unnecessary(skb)


cdef int checksum_complete(sk_buff skb) noexcept:
    if csum_unnecessary(skb):
        return 0
    if csum_fold(skb_core_csum(skb_c(skb), 0, skb.len, skb.csum, csum_ptr)) != 0:
        return 1
    skb.csum_valid = True
    skb.csum_complete_sw = True
    return 0


cdef int checksum_init(sk_buff skb, uint32_t pseudo) noexcept:
    skb.csum_valid = False
    if skb.ip_summed == SUM_COMPLETE and csum_fold(csum_add(skb.csum, pseudo)) == 0:
        skb.csum_valid = True
        return 0
    skb.csum = pseudo
    if skb.ip_summed == SUM_COMPLETE or skb.len <= 76:
        return checksum_complete(skb)
    return 0


cpdef int64_t skb_checksum_init(sk_buff skb, uint8_t proto, uint32_t saddr,
                                uint32_t daddr) except? -1:
    """IPv4 tcp_v4_checksum_init: 0 = fine or to be completed later, 1 = bad. data at the L4 header.

    Leaves the pseudo-header sum in skb.csum when skb_checksum_complete has to finish the work.
    """
    check(skb)
    if csum_unnecessary(skb):
        return 0
    return checksum_init(skb, csum_tcpudp_nofold(saddr, daddr, skb.len, proto, 0))


cpdef int64_t skb_checksum_init_v6(sk_buff skb, uint8_t proto, saddr, daddr) except? -1:
    """skb_checksum_init with the IPv6 pseudo header; addresses are 128-bit ints."""
    cdef uint8_t s[16]
    cdef uint8_t d[16]
    check(skb)
    if csum_unnecessary(skb):
        return 0
    addr128_put(s, saddr)
    addr128_put(d, daddr)
    return checksum_init(skb, csum_ptr_ipv6(s, d, skb.len, proto, 0))


cpdef int64_t inet_checksum_init(sk_buff skb, uint8_t proto) except? -1:
    """skb_checksum_init with the addresses of the IPv4 or IPv6 header at network_header.

    Raises IndexError when that header is not there, ValueError when it is of neither version.
    """
    cdef const uint8_t *p
    check(skb)
    if csum_unnecessary(skb):
        return 0
    p = skb_within(skb, skb.network_header, 20, skb.tail)
    if p == NULL:
        raise IndexError("inet_checksum_init: no network header")
    if p[0] >> 4 == 4:
        return checksum_init(
            skb, csum_tcpudp_nofold(ld32be(p + 12), ld32be(p + 16), skb.len, proto, 0))
    if p[0] >> 4 != 6:
        raise ValueError(f"inet_checksum_init: IP version {p[0] >> 4}")
    if skb.tail - skb.network_header < 40:
        raise IndexError("inet_checksum_init: no network header")
    return checksum_init(skb, csum_ptr_ipv6(p + 8, p + 24, skb.len, proto, 0))


cpdef int64_t skb_checksum_complete(sk_buff skb) except? -1:
    """0 when the packet's checksum is right (with skb.csum as start value), else 1."""
    check(skb)
    return checksum_complete(skb)


# -- cycle collection ------------------------------------------------------------------------------
# The collector does not track sk_buffs, which would cost time for every packet. It tracks the
# objects that keep them for long: a queue visits its members' references, so that an abandoned host
# with queued packets is found.
cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject *o)


cdef inline int visit_one(object o, visit_fn visit, void *arg) noexcept:
    return visit(<PyObject *>o, arg) if o is not None else 0


cdef int skb_visit(PyObject *p, visit_fn visit, void *arg) noexcept:
    cdef int r
    if p == NULL or Py_REFCNT(p) != 1:
        return 0
    r = visit_one((<sk_buff>p).dev, visit, arg)
    if r == 0:
        r = visit_one((<sk_buff>p).sk, visit, arg)
    if r == 0:
        r = visit_one((<sk_buff>p).dst, visit, arg)
    if r == 0:
        r = visit_one((<sk_buff>p).cb, visit, arg)
    if r == 0:
        r = visit_one((<sk_buff>p).nfct, visit, arg)
    if r == 0:
        r = visit_one((<sk_buff>p).destructor, visit, arg)
    return r


cdef int head_traverse(PyObject *self, visit_fn visit, void *arg) noexcept:
    cdef PyObject *p = (<sk_buff_head>self).first
    cdef int r = 0
    while p != NULL and r == 0:
        r = skb_visit(p, visit, arg)
        p = (<sk_buff>p).next_
    return r


cdef int head_clear(PyObject *self) noexcept:
    list_purge(<sk_buff_head>self)
    return 0


# -- queues ----------------------------------------------------------------------------------------
cdef void list_unlink(sk_buff_head q, sk_buff skb) noexcept:
    """Take a member out and drop the queue's reference (the caller holds one)."""
    if skb.index != NULL:
        skb.index.leave(<PyObject *>skb)
    if skb.prev_ != NULL:
        (<sk_buff>skb.prev_).next_ = skb.next_
    else:
        q.first = skb.next_
    if skb.next_ != NULL:
        (<sk_buff>skb.next_).prev_ = skb.prev_
    else:
        q.last = skb.prev_
    skb.next_ = skb.prev_ = skb.list_ = NULL
    q.qlen -= 1
    Py_DECREF(skb)


cdef int link_error(sk_buff skb) except -1:
    check(skb)
    raise ValueError("sk_buff is on a queue already")


cdef int index_error() except -1:
    raise TypeError("this queue keeps an index: use its own methods")


cdef int list_link(sk_buff_head q, PyObject *prev, PyObject *nxt, sk_buff skb) except -1:
    if q.indexed:
        return index_error()
    if skb is None or skb.users == 0 or skb.list_ != NULL:
        return link_error(skb)
    Py_INCREF(skb)
    skb.list_ = <PyObject *>q
    skb.prev_ = prev
    skb.next_ = nxt
    if prev != NULL:
        (<sk_buff>prev).next_ = <PyObject *>skb
    else:
        q.first = <PyObject *>skb
    if nxt != NULL:
        (<sk_buff>nxt).prev_ = <PyObject *>skb
    else:
        q.last = <PyObject *>skb
    q.qlen += 1
    return 0


cdef inline int check_member(sk_buff_head q, sk_buff skb) except -1:
    need(skb)
    if skb.list_ != <PyObject *>q:
        raise ValueError("sk_buff is not on this queue")
    return 0


cdef void list_purge(sk_buff_head q) noexcept:
    cdef sk_buff skb
    while q.first != NULL:
        skb = <sk_buff>q.first
        list_unlink(q, skb)
        kfree(skb)


cdef inline sk_buff list_dequeue(sk_buff_head q):
    cdef sk_buff skb
    if q.first == NULL:
        return None
    skb = <sk_buff>q.first
    list_unlink(q, skb)
    return skb


cdef inline sk_buff list_dequeue_tail(sk_buff_head q):
    cdef sk_buff skb
    if q.last == NULL:
        return None
    skb = <sk_buff>q.last
    list_unlink(q, skb)
    return skb


cdef int list_splice_tail(sk_buff_head frm, sk_buff_head to) except -1:
    cdef PyObject *p = frm.first
    if frm.indexed or to.indexed:
        return index_error()
    if p == NULL or frm is to:
        return 0
    while p != NULL:
        (<sk_buff>p).list_ = <PyObject *>to
        p = (<sk_buff>p).next_
    (<sk_buff>frm.first).prev_ = to.last
    if to.last != NULL:
        (<sk_buff>to.last).next_ = frm.first
    else:
        to.first = frm.first
    to.last = frm.last
    to.qlen += frm.qlen
    frm.first = frm.last = NULL
    frm.qlen = 0
    return 0


@cython.final
cdef class queue_iterator:
    """Walks a queue; the current member may be unlinked or freed meanwhile."""

    cdef sk_buff_head q
    cdef sk_buff ahead
    cdef bint back

    def __iter__(self):
        return self

    def __next__(self):
        cdef sk_buff skb = self.ahead
        cdef PyObject *p
        if skb is None or skb.list_ != <PyObject *>self.q:
            self.ahead = None
            raise StopIteration
        p = skb.prev_ if self.back else skb.next_
        self.ahead = <sk_buff>p if p != NULL else None
        return skb


cdef object walk(sk_buff_head q, bint back):
    cdef queue_iterator it = queue_iterator.__new__(queue_iterator)
    cdef PyObject *p = q.last if back else q.first
    it.q = q
    it.back = back
    it.ahead = <sk_buff>p if p != NULL else None
    return it


cdef class sk_buff_head:
    """Doubly linked intrusive list of sk_buffs; holds a Python reference to each member."""

    def __dealloc__(self):
        list_purge(self)

    def __len__(self):
        return self.qlen

    def __bool__(self):
        return self.qlen != 0

    def __iter__(self):
        return walk(self, False)

    def __reversed__(self):
        return walk(self, True)

    def __repr__(self):
        return f"<sk_buff_head qlen={self.qlen}>"

    cpdef sk_buff peek(self):
        return <sk_buff>self.first if self.first != NULL else None

    cpdef sk_buff peek_tail(self):
        return <sk_buff>self.last if self.last != NULL else None

    cpdef void queue_tail(self, sk_buff skb) except *:
        """Takes ownership of skb. ValueError when it is on a queue already, or freed."""
        list_link(self, self.last, NULL, skb)

    cpdef void queue_head(self, sk_buff skb) except *:
        """Takes ownership of skb."""
        list_link(self, NULL, self.first, skb)

    cpdef sk_buff dequeue(self):
        return list_dequeue(self)

    cpdef sk_buff dequeue_tail(self):
        return list_dequeue_tail(self)

    cpdef void unlink(self, sk_buff skb) except *:
        """ValueError when skb is not on this queue."""
        check_member(self, skb)
        list_unlink(self, skb)

    cpdef void insert_after(self, sk_buff prev, sk_buff skb) except *:
        check_member(self, prev)
        list_link(self, <PyObject *>prev, prev.next_, skb)

    cpdef void insert_before(self, sk_buff next, sk_buff skb) except *:
        check_member(self, next)
        list_link(self, next.prev_, <PyObject *>next, skb)

    cpdef void purge(self):
        """kfree_skb every member."""
        list_purge(self)

    cpdef void splice_tail_init(self, sk_buff_head frm) except *:
        """Move all of `frm` to the end of this queue."""
        need(frm)
        list_splice_tail(frm, self)

    cpdef sk_buff next(self, sk_buff skb):
        check_member(self, skb)
        return <sk_buff>skb.next_ if skb.next_ != NULL else None

    cpdef sk_buff prev(self, sk_buff skb):
        check_member(self, skb)
        return <sk_buff>skb.prev_ if skb.prev_ != NULL else None

    cpdef int64_t nbytes(self):
        """Sum of len over the members."""
        cdef PyObject *p = self.first
        cdef uint64_t n = 0
        while p != NULL:
            n += (<sk_buff>p).len
            p = (<sk_buff>p).next_
        return n


(<PyTypeObject *>sk_buff_head).tp_traverse = head_traverse
(<PyTypeObject *>sk_buff_head).tp_clear = head_clear


def frag_array_mallocs():
    """Fragment arrays ever taken from malloc: constant in the steady state (for tests)."""
    return skb_frag_mallocs
