# cython: language_level=3, embedsignature=True
"""Payload that stays in the caller's memory (MSG_ZEROCOPY): fragments without a copy.

A `zc_page` is a counted buffer like those of a pool, but its bytes belong to an application. It is
a pool of one buffer, so that holders of fragments, clones and retransmissions included, need not
distinguish it. With the last reference the page is put on a list, and its owner is notified once
that the list is not empty. Nothing else happens there, since it may be deep inside a free. The twin
is ``_ref/zerocopy.py``.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastpath.base.skbuff cimport (
    SkbPool, need, sk_buff, skb_buf, skb_buf_drop, skb_check, skb_do_add_data, skb_do_add_frag,
    skb_frag,
)

cdef extern from "skb.h" nogil:
    # the members that skbuff.pxd does not show
    ctypedef struct zc_pool "skb_pool":
        uint32_t count
        uint32_t buf_bytes
        int alive
        void (*release)(zc_pool *)
        void *mem
    ctypedef struct zc_buf "skb_buf":
        uint8_t *ptr
        uint64_t dma
        zc_pool *pool
        uint32_t refs
        uint32_t size
        uint32_t used

cdef enum:
    WINDOW = 1 << 30            # bytes of a page at most: offsets of fragments have 32 bits

# Pages that somebody holds: while there is none, no fragment needs to be looked at.
cdef Py_ssize_t live = 0


cdef void let_go(zc_pool *p) noexcept:
    """The last reference to a page's buffer was dropped."""
    cdef zc_page page = <zc_page>p.mem
    cdef ubuf_info owner = page.owner
    global live
    live -= 1
    page.held = False
    owner.done.append(page)
    Py_DECREF(page)
    if len(owner.done) == 1:
        owner.kick()


# As in rings_driver.pyx: Cython traverses a Py_buffer member, and a memoryview that was cleared
# while it is exported crashes when it is released.
@cython.final
@cython.no_gc_clear
cdef class zc_page:
    """Consecutive bytes of a caller's buffer, exported until `finish`."""

    cdef zc_pool pool
    cdef zc_buf buf
    cdef Py_buffer view
    cdef ubuf_info owner
    cdef object obj             # the buffer
    cdef Py_ssize_t start       # of these bytes in it
    cdef bint held, exported
    cdef readonly bint mapped
    """`dma` is an address under which a device finds the bytes."""

    def __init__(self, *args, **kwargs):
        raise TypeError("zc_page: made by ubuf_info.add")

    def __dealloc__(self):
        if self.exported:
            PyBuffer_Release(&self.view)

    @property
    def dma(self):
        """Bus address, 0 when no device was shown the bytes."""
        return self.buf.dma if self.mapped else 0

    @property
    def size(self):
        """Number of bytes."""
        return self.buf.size

    @property
    def memory(self):
        """The bytes themselves, as a read-only view."""
        view = memoryview(self.obj).cast("B")
        return view[self.start:self.start + <Py_ssize_t>self.buf.size].toreadonly()

    def finish(self):
        """Give the caller's buffer back; the ubuf_info that the bytes belonged to.

        Raises RuntimeError while a packet holds the bytes, and when that was done already.
        """
        cdef ubuf_info owner = self.owner
        if self.held or owner is None:
            raise RuntimeError("zc_page.finish: the bytes are in use, or given back already")
        self.exported = False
        PyBuffer_Release(&self.view)
        self.obj = None
        self.owner = None
        return owner


cdef zc_page make_page(ubuf_info owner, object obj, Py_ssize_t start):
    cdef zc_page page = zc_page.__new__(zc_page)
    cdef Py_ssize_t n
    global live
    PyObject_GetBuffer(obj, &page.view, PyBUF_SIMPLE)
    page.exported = True
    page.owner = owner
    page.obj = obj
    page.start = start = start if start <= page.view.len else 0
    n = page.view.len - start
    memset(&page.pool, 0, sizeof(page.pool))
    memset(&page.buf, 0, sizeof(page.buf))
    page.pool.count = 1
    page.pool.release = let_go
    page.pool.mem = <void *>page
    page.buf.pool = &page.pool
    page.buf.ptr = <uint8_t *>page.view.buf + start
    page.buf.size = page.buf.used = <uint32_t>(n if n < WINDOW else WINDOW)
    page.pool.buf_bytes = page.buf.size
    page.buf.refs = 1           # the reference of the caller, who adds fragments
    page.held = True
    live += 1
    owner.refs += 1
    Py_INCREF(page)
    return page


@cython.final
cdef class ubuf_info:
    """struct ubuf_info_msgzc: the sends `id` … `id` + `len` - 1 of a socket, `bytelen` bytes.

    `refs` counts each sending call and each page that is still in use. Pages without holders are
    appended to the list `done`; `kick` is called when it was empty before, and must only arrange
    for their `finish`, soon.
    """

    cdef readonly object sk, done, kick
    cdef public object skb
    """The notification to be."""
    cdef public int64_t id, len, bytelen, refs
    cdef public bint zerocopy
    """No byte had to be copied after all."""
    cdef zc_page page           # that add() appends from

    def __init__(self, sk, list done not None, kick, int64_t first, int64_t bytelen):
        self.sk = sk
        self.done = done
        self.kick = kick
        self.id = first
        self.len = 1
        self.bytelen = bytelen
        self.refs = 1
        self.zerocopy = True

    def __repr__(self):
        return f"<ubuf_info {self.id}…{self.id + self.len - 1} refs={self.refs}>"

    cpdef int64_t add(self, sk_buff skb, buffer, int64_t off, int64_t n) except -1:
        """Append `n` bytes of `buffer` from `off` to `skb` as a fragment; how many found room.

        truesize grows by them. Raises ValueError when the bytes are not there. Call `end_add` when
        the sending call is over.
        """
        cdef zc_page page = self.page
        cdef int64_t at
        skb_check(skb)
        if off < 0 or n < 0:
            raise ValueError(f"ubuf_info.add: {n} bytes from {off}")
        if page is None or page.obj is not buffer or off < page.start \
                or off - page.start >= <int64_t>page.buf.size:
            self.end_add()
            page = make_page(self, buffer, off)
            self.page = page
        at = off - page.start
        if n > <int64_t>page.buf.size - at:
            if page.view.len - off < n:
                raise ValueError(f"ubuf_info.add: bytes {off} … {off + n} of a shorter buffer")
            n = <int64_t>page.buf.size - at
        if n > 0x7FFFFFFF - skb.len or n == 0:
            return 0
        page.buf.refs += 1
        if skb_do_add_frag(skb, <skb_buf *>&page.buf, <uint32_t>at, <uint32_t>n) < 0:
            page.buf.refs -= 1
            return 0
        skb.truesize += n
        return n

    cpdef void end_add(self) except *:
        """No more fragments come from the buffer of the last `add`."""
        cdef zc_page page = self.page
        self.page = None
        if page is not None:
            skb_buf_drop(<skb_buf *>&page.buf)


cdef inline zc_page page_of(skb_frag *f):
    cdef zc_pool *p = <zc_pool *>f.buf.pool
    return <zc_page>p.mem if p.release == let_go else None


cpdef object skb_zcopy(sk_buff skb):
    """Return the ubuf_info of the first fragment in a caller's memory, None without one."""
    cdef uint32_t i
    cdef zc_page page
    need(skb)
    if live == 0:
        return None
    for i in range(skb.nr_frags):
        page = page_of(&skb.frags[i])
        if page is not None:
            return page.owner
    return None


cpdef bint skb_copy_ubufs(sk_buff skb, SkbPool pages) except -1:
    """Copy what lies in callers' memory to `pages` (net/core/skbuff.c); their ubuf_infos say so.

    False without buffers for it: then the packet is of no use any more, and must be freed.
    truesize stays, because owners were charged with it.
    """
    cdef uint32_t i, n
    cdef int64_t truesize, c
    cdef skb_frag *old
    cdef zc_page page
    cdef bint ok = True
    skb_check(skb)
    need(pages)
    n = skb.nr_frags
    if n == 0 or live == 0:
        return True
    if pages.p == NULL:
        return False
    old = <skb_frag *>PyMem_Malloc(n * sizeof(skb_frag))
    if old == NULL:
        raise MemoryError("skb_copy_ubufs: no memory for the fragment array")
    memcpy(old, skb.frags, n * sizeof(skb_frag))
    truesize = skb.truesize
    skb.len -= skb.data_len
    skb.data_len = 0
    skb.nr_frags = skb.cur_frag = skb.cur_base = 0
    for i in range(n):
        page = page_of(&old[i])
        c = old[i].len
        if not ok:
            skb_buf_drop(old[i].buf)
        elif page is None:
            if skb_do_add_frag(skb, old[i].buf, old[i].off, old[i].len) < 0:
                skb_buf_drop(old[i].buf)
                ok = False
        else:
            page.owner.zerocopy = False
            if skb_do_add_data(skb, pages.p, old[i].buf.ptr + old[i].off, <uint64_t>c) \
                    != <uint64_t>c:
                ok = False
            skb_buf_drop(old[i].buf)
    PyMem_Free(old)
    skb.truesize = truesize
    return ok


cpdef bint skb_orphan_frags(sk_buff skb, SkbPool pages) except -1:
    """`skb_copy_ubufs` when something of `skb` is in a caller's memory (linux/skbuff.h)."""
    need(skb)
    if live == 0 or skb.nr_frags == 0 or skb_zcopy(skb) is None:
        return True
    return skb_copy_ubufs(skb, pages)


cpdef bint skb_zcopy_map(sk_buff skb, mapper) except -1:
    """Map all fragments in callers' memory for a device; False when one has no bus address.

    `mapper(memory)` returns the address under which a device finds a read-only buffer, 0 for none.
    """
    cdef uint32_t i
    cdef zc_page page
    cdef uint64_t address
    need(skb)
    if live == 0:
        return True
    for i in range(skb.nr_frags):
        page = page_of(&skb.frags[i])
        if page is None or page.mapped:
            continue
        address = mapper(page.memory)
        if address == 0:
            return False
        page.buf.dma = address
        page.mapped = True
    return True
