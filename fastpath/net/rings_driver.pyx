# cython: language_level=3, embedsignature=True
"""The driver's side of the 8254x descriptor rings (SDM 3.2, 3.3; drivers/net/ethernet/intel/e1000).

Descriptors are read and written in place, in memory that the device (perhaps in another process)
shares. So nothing found there is trusted: a length is checked against the buffer, a slot without a
buffer is skipped. Fences order descriptor accesses against the caller's tail write. `mem` is the
host's RAM as in SkbPool. The ring never touches registers: the driver writes `dma`, `size_bytes`,
`next_to_use` and the returned tails to the device.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_WRITABLE, PyBuffer_Release, PyObject_CheckBuffer, PyObject_GetBuffer,
)
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastpath.base.bytes cimport ld16be, ld16le, st16le, st32le, st64le
from fastpath.net.gro cimport HELD, MERGED, GroTable, gro_info
from fastpath.net.parse cimport headers, headers_parse, headers_store
from fastpath.base.skbuff cimport (
    GSO_UDP_L4, SUM_UNNECESSARY, PyTypeObject, SkbPool, mem_free, sk_buff, skb_buf, skb_buf_drop,
    skb_build, skb_c, skb_check, skb_core_headlen, skb_do_add_frag, skb_do_trim, skb_free,
    skb_pool_take, skb_visit, skb_within, visit_fn,
)

cdef extern from *:
    """
    #define RING_ACQUIRE() __atomic_thread_fence(__ATOMIC_ACQUIRE)
    #define RING_RELEASE() __atomic_thread_fence(__ATOMIC_RELEASE)
    #define RING_LOAD8(p) __atomic_load_n((const uint8_t *)(p), __ATOMIC_ACQUIRE)
    """
    void RING_ACQUIRE() nogil
    void RING_RELEASE() nogil
    uint8_t RING_LOAD8(const uint8_t *p) nogil

TXD_CMD_EOP = 0x01
TXD_CMD_IFCS = 0x02
TXD_CMD_TSE = 0x04
TXD_CMD_RS = 0x08
TXD_CMD_DEXT = 0x20
TXD_CMD_VLE = 0x40
TXD_CMD_IDE = 0x80
TXD_POPTS_IXSM = 0x01
TXD_POPTS_TXSM = 0x02
TUCMD_TCP = 0x01
TUCMD_IP = 0x02
TUCMD_TSE = 0x04

cdef enum:
    CMD_EOP = 0x01
    CMD_RS = 0x08
    CMD_DEXT = 0x20
    CMD_VLE = 0x40
    MAX_DESC_BYTES = (1 << 20) - 1      # DTALEN and PAYLEN have 20 bits (SDM 3.3.7)
    MAX_COUNT = 65536 - 8
    # receive status and errors (SDM 3.2.3.1, 3.2.3.2)
    ST_DD = 0x01
    ST_EOP = 0x02
    ST_IXSM = 0x04
    ST_VP = 0x08
    ST_TCPCS = 0x20
    ST_IPCS = 0x40
    ERR_CE = 0x01
    ERR_SE = 0x02
    ERR_SEQ = 0x04
    ERR_CXE = 0x10
    ERR_TCPE = 0x20
    ERR_IPE = 0x40
    ERR_RXE = 0x80
    ETH_HEADER = 14
    ETH_IP = 0x0800
    HEADROOM = 128                      # at most, in front of a received frame


cdef object _wfree = None


def free_in_runs(destructor):
    """Call `destructor` once for successive sk_buffs of one owner that a ring frees.

    For a destructor that only returns truesize to the owner (sock_wfree): the last sk_buff of a run
    gets the truesize of all, the others lose their destructor. None: a call for each. Returns the
    previous setting.
    """
    global _wfree
    before = _wfree
    _wfree = destructor
    return before


@cython.no_gc_clear
cdef class _ring:
    """The descriptor memory both rings share."""

    def __init__(self, *args, **kwargs):
        raise TypeError("make a TxRing or an RxRing")

    cdef int setup(self, mem, Py_ssize_t count) except -1:
        if self.desc_ != NULL:
            raise ValueError("ring: already initialised")
        if count < 8 or count > MAX_COUNT or count % 8:
            raise ValueError(f"ring: count={count}: must be a multiple of 8 from 8 to {MAX_COUNT}")
        addr = mem.alloc(count * 16, 128)
        try:
            self.export(mem, addr, count * 16)
        except BaseException:
            mem.free(addr, count * 16)
            raise
        self.mem = mem
        self.dma = addr
        self.count = <uint32_t>count
        memset(self.desc_, 0, <size_t>count * 16)
        return 0

    cdef int export(self, mem, uint64_t addr, Py_ssize_t n) except -1:
        """Hold the ring's bytes in `view`, from `mem` itself when it exports a buffer of all of it.

        Cython traverses a Py_buffer member, so a memoryview that only the ring holds would be
        cleared by the collector while it is exported, and crash when released.
        """
        base = getattr(mem, "base", None)
        if base is None or not PyObject_CheckBuffer(mem):
            PyObject_GetBuffer(mem.view(addr, n), &self.view, PyBUF_WRITABLE)
            addr = 0
        else:
            PyObject_GetBuffer(mem, &self.view, PyBUF_WRITABLE)
            addr -= <uint64_t>base
        if addr > <uint64_t>self.view.len or self.view.len - <Py_ssize_t>addr < n:
            PyBuffer_Release(&self.view)
            raise ValueError("ring: mem gave fewer bytes than asked for")
        self.desc_ = <uint8_t *>self.view.buf + addr
        return 0

    cdef void teardown(self) noexcept:
        cdef object mem = self.mem
        if self.desc_ == NULL:
            return
        self.desc_ = NULL
        PyBuffer_Release(&self.view)
        mem_free(mem, self.dma, self.count * 16)

    @property
    def size_bytes(self):
        return self.count * 16

    def desc(self, Py_ssize_t index):
        """The 16 bytes of a descriptor (diagnosis)."""
        if index < 0 or index >= <Py_ssize_t>self.count:
            raise IndexError(f"descriptor {index} of {self.count}")
        return (<char *>self.desc_ + index * 16)[:16]


@cython.final
@cython.no_gc_clear
cdef class TxRing(_ring):
    """Transmit ring of `count` 16-byte descriptors (a multiple of 8)."""

    def __init__(self, mem not None, Py_ssize_t count):
        self.setup(mem, count)
        self.slots = <tx_slot *>PyMem_Calloc(count, sizeof(tx_slot))
        if self.slots == NULL:
            raise MemoryError("TxRing: no memory for the slots")
        self.csum_start = self.csum_offset = -1

    def __dealloc__(self):
        if self.slots != NULL:
            self.release()
            PyMem_Free(self.slots)
        self.teardown()

    def __repr__(self):
        return (f"<TxRing {self.count} at {self.dma:#x} use={self.next_to_use} "
                f"clean={self.next_to_clean} pending={self.npending}>")

    cdef inline uint32_t room(self) noexcept:
        cdef uint32_t used = self.next_to_use - self.next_to_clean
        if self.next_to_use < self.next_to_clean:
            used += self.count
        return self.count - 1 - used if self.count else 0

    cdef inline uint8_t *take(self) noexcept:
        """The next descriptor; the caller has checked room()."""
        cdef uint8_t *d = self.desc_ + self.next_to_use * 16
        self.next_to_use += 1
        if self.next_to_use == self.count:
            self.next_to_use = 0
        return d

    cpdef int64_t unused(self):
        """Descriptors free now; one stays unused so that head == tail means empty."""
        return self.room()

    cpdef int64_t pending(self):
        """sk_buffs mapped and not yet cleaned."""
        return self.npending

    cdef uint32_t needed(self, sk_buff skb, uint32_t step) noexcept:
        cdef uint32_t i, n = (skb_core_headlen(skb_c(skb)) + step - 1) // step
        for i in range(skb.nr_frags):
            n += (skb.frags[i].len + step - 1) // step
        return n

    cpdef int64_t desc_needed(self, sk_buff skb, uint32_t max_per_desc=4096) except? -1:
        """Data descriptors map() will take for skb (without context descriptor)."""
        skb_check(skb)
        return self.needed(skb, self.step(max_per_desc, MAX_DESC_BYTES))

    cdef uint32_t step(self, uint32_t n, uint32_t limit) except 0:
        if n < 1 or n > limit:
            raise ValueError(f"max_per_desc={n}: must be 1 … {limit}")
        return n

    cpdef bint put_context(self, unsigned int ipcss, unsigned int ipcso, unsigned int ipcse,
                           unsigned int tucss, unsigned int tucso, unsigned int tucse,
                           unsigned int paylen, unsigned int hdrlen, unsigned int mss,
                           unsigned int cmd) except -1:
        """Write a context descriptor (DTYP 0, DEXT added to `cmd` = TUCMD bits); False when full.

        An unchanged context is written again: whether it is needed is the driver's decision.
        SDM 3.3.6. ValueError when a value does not fit its field.
        """
        cdef uint8_t *d
        if (ipcss > 255 or ipcso > 255 or ipcse > 65535 or tucss > 255 or tucso > 255
                or tucse > 65535 or paylen > MAX_DESC_BYTES or hdrlen > 255 or mss > 65535
                or cmd > 255):
            raise ValueError("put_context: a value does not fit its field (SDM 3.3.6)")
        if self.room() < 1:
            return False
        d = self.take()
        d[0] = <uint8_t>ipcss
        d[1] = <uint8_t>ipcso
        st16le(d + 2, <uint16_t>ipcse)
        d[4] = <uint8_t>tucss
        d[5] = <uint8_t>tucso
        st16le(d + 6, <uint16_t>tucse)
        st32le(d + 8, paylen | <uint32_t>(cmd | CMD_DEXT) << 24)
        d[12] = 0
        d[13] = <uint8_t>hdrlen
        st16le(d + 14, <uint16_t>mss)
        return True

    cdef inline void piece(self, uint64_t addr, uint32_t n, tx_map *m) noexcept:
        """Descriptors for `n` contiguous bytes."""
        cdef uint32_t c
        cdef uint8_t *d
        while n:
            c = n if n < m.step else m.step
            d = self.take()
            st64le(d, addr)
            st32le(d + 8, c | m.word)
            st32le(d + 12, m.upper)
            m.last = d
            m.used += 1
            addr += c
            n -= c

    cdef int do_map(self, sk_buff skb, tx_map *m, uint32_t end_bits) except? -2:
        """Describe all of skb; the last descriptor gets `end_bits`. Used descriptors or -1."""
        cdef uint32_t i, h, eop, segs, hdr
        cdef bint udp
        cdef const uint8_t *th
        cdef skb_frag_t *f
        cdef tx_slot *slot
        skb_check(skb)
        if skb.len == 0:
            raise ValueError("TxRing.map: an empty sk_buff")
        if self.needed(skb, m.step) > self.room():
            return -1
        h = skb_core_headlen(skb_c(skb))
        if h:
            self.piece(skb.hbuf.dma + skb.data, h, m)
        for i in range(skb.nr_frags):
            f = <skb_frag_t *>&skb.frags[i]
            self.piece(f.buf.dma + f.off, f.len, m)
        m.last[11] |= <uint8_t>end_bits
        eop = <uint32_t>((m.last - self.desc_) // 16)
        slot = &self.slots[self.packet_start]
        slot.eop = eop
        slot.packets = 1
        slot.bytes = skb.len
        if skb.gso_size:
            # what goes over the wire: the headers once per segment
            hdr = 0
            udp = skb.gso_type & GSO_UDP_L4 != 0
            th = skb_within(skb, skb.transport_header, 8 if udp else 20, skb.tail)
            if th != NULL and skb.transport_header >= skb.data:
                hdr = <uint32_t>(skb.transport_header - skb.data)
                hdr += 8 if udp else (th[12] >> 4) * 4U
            segs = <uint32_t>skb.gso_segs
            if segs == 0 and skb.len > hdr and skb.gso_size > 0:
                segs = <uint32_t>((skb.len - hdr - 1) // skb.gso_size) + 1
            if segs > 1:
                slot.packets = segs
                slot.bytes += <uint64_t>(segs - 1) * hdr
        Py_INCREF(skb)
        slot.skb = <PyObject *>skb
        self.packet_start = self.next_to_use
        self.npending += 1
        RING_RELEASE()
        return m.used

    cpdef int64_t map(self, sk_buff skb, unsigned int popts=0, unsigned int cmd=0x0B, int vlan=-1,
                      uint32_t max_per_desc=4096) except? -2:
        """Write data descriptors for all of skb; takes ownership unless -1 (no room) is returned.

        `cmd` is ORed into every descriptor except that EOP and RS go to the last only; DEXT|DTYP=1
        are added; `vlan` >= 0 adds VLE and the tag. `popts` sits in each descriptor (the first
        counts). Returns descriptors used. SDM 3.3.7.
        """
        cdef tx_map m
        cmd &= 0xFF
        if vlan >= 0:
            cmd |= CMD_VLE
        m.step = self.step(max_per_desc, MAX_DESC_BYTES)
        m.word = <uint32_t>1 << 20 | <uint32_t>((cmd | CMD_DEXT) & ~(CMD_EOP | CMD_RS)) << 24
        m.upper = (popts & 0xFF) << 8 | (<uint32_t>(vlan & 0xFFFF) << 16 if vlan >= 0 else 0)
        m.used = 0
        m.last = NULL
        return self.do_map(skb, &m, cmd & (CMD_EOP | CMD_RS))

    cpdef (int64_t, int64_t, int64_t) clean(self, int64_t budget=0, list out=None) except *:
        """Free the sk_buffs whose last descriptor has DD, at most `budget`; 0 = no limit.

        Returns packets, bytes, and bytes of the sk_buffs. A TSO packet counts as gso_segs packets
        and the bytes that were on the wire, but `len` bytes of an sk_buff. Destructors run
        here, one for a run of sk_buffs (free_in_runs), and may map new packets. With `out`, the
        sk_buffs are appended to it instead of freed, for a caller in a context where nothing may be
        freed (dev_kfree_skb_irq).
        """
        cdef int64_t packets = 0, nbytes = 0, held = 0
        cdef tx_slot *slot
        cdef sk_buff skb
        cdef sk_buff run = None         # the last of a run that is freed when the run ends
        while self.npending:
            slot = &self.slots[self.next_to_clean]
            if slot.skb == NULL or not RING_LOAD8(self.desc_ + slot.eop * 16 + 12) & ST_DD:
                break
            skb = <sk_buff>slot.skb
            Py_DECREF(skb)
            slot.skb = NULL
            packets += slot.packets
            nbytes += slot.bytes
            held += skb.len
            self.next_to_clean = slot.eop + 1 if slot.eop + 1 < self.count else 0
            self.npending -= 1
            if out is not None:
                out.append(skb)
            else:
                if run is not None:
                    if skb.sk is run.sk and skb.destructor is run.destructor and skb.users == 1:
                        skb.truesize += run.truesize
                        run.destructor = None
                    skb_free(run)
                    run = None
                if skb.destructor is not None and skb.destructor is _wfree and skb.users == 1:
                    run = skb
                else:
                    skb_free(skb)
            budget -= 1
            if budget == 0:
                break
        if run is not None:
            skb_free(run)
        return packets, nbytes, held

    cdef void release(self) noexcept:
        """Free every mapped sk_buff."""
        cdef uint32_t i
        cdef sk_buff skb
        self.npending = 0
        for i in range(self.count):
            if self.slots[i].skb != NULL:
                skb = <sk_buff>self.slots[i].skb
                Py_DECREF(skb)
                self.slots[i].skb = NULL
                skb_free(skb)

    cpdef void reset(self):
        """Free every mapped sk_buff, zero the ring, next_to_use = next_to_clean = 0."""
        if self.slots == NULL:
            return
        self.next_to_use = self.next_to_clean = self.packet_start = 0
        self.csum_start = self.csum_offset = -1
        self.release()
        memset(self.desc_, 0, <size_t>self.count * 16)


cdef int tx_traverse(PyObject *self, visit_fn visit, void *arg) noexcept:
    """The collector's view of a TxRing: what its mapped sk_buffs refer to."""
    cdef TxRing ring = <TxRing>self
    cdef uint32_t i
    cdef int r
    if ring.slots == NULL or ring.npending == 0:
        return 0
    for i in range(ring.count):
        r = skb_visit(ring.slots[i].skb, visit, arg)
        if r:
            return r
    return 0


cdef int tx_clear(PyObject *self) noexcept:
    (<TxRing>self).reset()
    return 0


(<PyTypeObject *>TxRing).tp_traverse = tx_traverse
(<PyTypeObject *>TxRing).tp_clear = tx_clear


@cython.final
@cython.no_gc_clear
cdef class RxRing(_ring):
    """Receive ring with one pool buffer per descriptor.

    When the pool's buffers are larger than `buf_bytes`, up to 128 bytes of it become headroom.
    A frame of at most `copybreak` bytes in one descriptor is copied into a buffer of `small`, and
    its descriptor keeps its own. So short frames neither hold large buffers nor count as such
    (e1000_main.c e1000_copybreak). When `small` is empty the frame goes up as others do.
    """

    def __init__(self, mem not None, Py_ssize_t count, SkbPool pool not None, Py_ssize_t buf_bytes,
                 SkbPool small=None, Py_ssize_t copybreak=0):
        if buf_bytes < 64 or buf_bytes > 16384:
            raise ValueError(f"RxRing: buf_bytes={buf_bytes}: must be 64 … 16384")
        if pool.p == NULL or <Py_ssize_t>pool.p.buf_bytes < buf_bytes:
            raise ValueError(f"RxRing: buffers of {pool!r} are smaller than {buf_bytes} bytes")
        if copybreak < 0 or copybreak > buf_bytes:
            raise ValueError(f"RxRing: copybreak={copybreak}: must be 0 … {buf_bytes}")
        if copybreak and (small is None or small.p == NULL
                          or <Py_ssize_t>small.p.buf_bytes < copybreak):
            raise ValueError(f"RxRing: no pool with buffers of copybreak={copybreak} bytes")
        self.setup(mem, count)
        self.bufs = <skb_buf **>PyMem_Calloc(count, sizeof(skb_buf *))
        if self.bufs == NULL:
            raise MemoryError("RxRing: no memory for the slots")
        self.pool = pool
        self.buf_bytes = <uint32_t>buf_bytes
        self.headroom = pool.p.buf_bytes - <uint32_t>buf_bytes
        if self.headroom > HEADROOM:
            self.headroom = HEADROOM
        if copybreak:
            self.small = small
            self.copybreak = <uint32_t>copybreak
            self.small_headroom = small.p.buf_bytes - <uint32_t>copybreak
            if self.small_headroom > HEADROOM:
                self.small_headroom = HEADROOM

    def __dealloc__(self):
        if self.bufs != NULL:
            self.release()
            PyMem_Free(self.bufs)
        self.teardown()

    def __repr__(self):
        return (f"<RxRing {self.count} x {self.buf_bytes} B at {self.dma:#x} "
                f"use={self.next_to_use} clean={self.next_to_clean} frames={self.frames}>")

    cpdef int64_t refill(self, int64_t max=1 << 30):
        """Fill empty descriptors (one slot stays unused); the new RDT, -1 when none was."""
        cdef int64_t done = 0
        cdef uint32_t i = self.next_to_use, nxt
        cdef skb_buf *b
        cdef uint8_t *d
        if self.bufs == NULL:
            return -1
        while done < max:
            nxt = i + 1 if i + 1 < self.count else 0
            if nxt == self.next_to_clean:
                break
            b = self.bufs[i]            # the buffer of a frame that was copied
            if b == NULL:
                b = skb_pool_take(self.pool.p)
            if b == NULL:
                self.alloc_failed += 1
                break
            d = self.desc_ + i * 16
            st64le(d, b.dma + self.headroom)
            st64le(d + 8, 0)
            self.bufs[i] = b
            i = nxt
            done += 1
        if done == 0:
            return -1
        self.next_to_use = i
        RING_RELEASE()
        return i

    cdef void drop_chain(self) noexcept:
        if self.chain is not None:
            skb_free(self.chain)
            self.chain = None

    cdef sk_buff build(self, skb_buf *b, uint32_t headroom, uint32_t n):
        cdef sk_buff skb = skb_build(b, headroom)
        skb.tail += n
        skb.len = n
        skb.mac_header = skb.data
        return skb

    cdef inline void finish(self, sk_buff skb, uint8_t status, uint16_t special, bint l4_ok,
                            bint vlan_strip) noexcept:
        """What the last descriptor says about the whole frame."""
        if l4_ok:
            skb.ip_summed = SUM_UNNECESSARY
        if vlan_strip and status & ST_VP:
            skb.vlan_proto = 0x8100
            skb.vlan_tci = special
        self.frames += 1

    cdef inline void know(self, sk_buff skb, uint32_t l3, headers *h) noexcept:
        """What was parsed of the headers, and where they are."""
        skb.network_header = l3
        skb.transport_header = l3 + h.l4
        headers_store(skb, l3, h)

    cdef sk_buff more(self, skb_buf *b, uint32_t n, bint last):
        """Next descriptor of a frame over several: the whole sk_buff when `last`, else None."""
        cdef sk_buff skb = self.chain
        if skb is None:
            self.chain = self.build(b, self.headroom, n)
            return None
        if n == 0 or n > 0x7FFFFFFFU - skb.len:
            skb_buf_drop(b)
            n = 0
        elif skb_do_add_frag(skb, b, self.headroom, n) < 0:
            skb_buf_drop(b)
            self.length_errors += 1
            self.drop_chain()
            self.discard = not last
            return None
        else:
            skb.truesize += b.size
        if not last:
            return None
        self.chain = None
        return skb

    cdef inline skb_buf *copy(self, uint32_t i, skb_buf *b, uint32_t n) noexcept:
        """The first `n` bytes of a frame in a small buffer, descriptor `i` keeping b; or NULL."""
        cdef skb_buf *c = skb_pool_take(self.small.p)
        if c != NULL:
            memcpy(c.ptr + self.small_headroom, b.ptr + self.headroom, n)
            self.bufs[i] = b
        return c

    cpdef int64_t clean(self, int64_t budget, list out, GroTable gro=None, bint rx_csum=True,
                        bint vlan_strip=True, bint strip_fcs=True,
                        bint accept_errors=False) except -1:
        """Take up to `budget` received frames off the ring; frames taken.

        Appends sk_buffs to `out`: data at the Ethernet header, mac_header set, len without FCS when
        strip_fcs (the length in the descriptor includes it), ip_summed from the status bits, vlan_*
        set. With `gro`, plain in-order TCP/UDP frames are merged; what the table still holds comes
        out of ``gro.flush(out)`` (call it before napi_complete). Merged sk_buffs look the same:
        data at the Ethernet header of the first frame.
        """
        cdef Py_ssize_t done = 0
        cdef uint32_t n, fcs = 4 if strip_fcs else 0
        cdef uint32_t ntc, room
        cdef uint16_t special
        cdef uint8_t status, errors
        cdef uint8_t *d
        cdef skb_buf *b
        cdef skb_buf *c
        cdef sk_buff skb
        cdef bint l4_ok, ip_ok
        cdef int verdict
        cdef gro_info g
        if out is None:
            raise TypeError("RxRing.clean: out is None")
        if self.bufs == NULL:
            return 0
        while done < budget:
            ntc = self.next_to_clean
            if ntc == self.next_to_use:
                break
            d = self.desc_ + ntc * 16
            status = RING_LOAD8(d + 12)
            if not status & ST_DD:
                break
            errors = d[13]
            n = ld16le(d + 8)
            special = ld16le(d + 14)
            b = self.bufs[ntc]
            self.bufs[ntc] = NULL
            d[12] = 0
            self.next_to_clean = ntc + 1 if ntc + 1 < self.count else 0
            if status & ST_EOP:
                done += 1
            if b == NULL:
                continue
            if n > self.buf_bytes:      # a device may not write more than RCTL.BSIZE says
                skb_buf_drop(b)
                self.length_errors += 1
                self.drop_chain()
                self.discard = not status & ST_EOP
                continue
            if self.discard:
                skb_buf_drop(b)
                self.discard = not status & ST_EOP
                continue
            if not status & ST_EOP:
                self.more(b, n, False)
                continue
            if errors & (ERR_CE | ERR_SE | ERR_SEQ | ERR_CXE | ERR_RXE):
                if errors & ERR_CE:
                    self.crc_errors += 1
                else:
                    self.frame_errors += 1
                if not accept_errors:
                    skb_buf_drop(b)
                    self.drop_chain()
                    continue
            l4_ok = ip_ok = False
            if rx_csum and not status & ST_IXSM:
                ip_ok = status & ST_IPCS and not errors & ERR_IPE
                if status & ST_TCPCS:
                    if errors & ERR_TCPE:
                        self.hw_csum_err += 1
                    else:
                        self.hw_csum_good += 1
                        l4_ok = True
            if self.chain is not None:
                skb = self.more(b, n, True)
                if skb is None:
                    continue
                if skb.len < ETH_HEADER + fcs:
                    self.length_errors += 1
                    skb_free(skb)
                    continue
                if fcs:
                    skb_do_trim(skb, skb.len - fcs)
                self.bytes += skb.len
                self.finish(skb, status, special, l4_ok, vlan_strip)
                if gro is None or errors or skb_core_headlen(skb_c(skb)) < ETH_HEADER:
                    out.append(skb)
                else:
                    gro.take(skb, ETH_HEADER, ld16be(skb.head + skb.data + 12), out)
                continue
            if n < ETH_HEADER + fcs:
                skb_buf_drop(b)
                self.length_errors += 1
                continue
            room = self.headroom
            if n <= self.copybreak:
                c = self.copy(ntc, b, n)
                if c != NULL:
                    b = c
                    room = self.small_headroom
            n -= fcs
            self.bytes += n
            if gro is None or errors:
                skb = self.build(b, room, n)
                self.finish(skb, status, special, l4_ok, vlan_strip)
                if headers_parse(b.ptr + room + ETH_HEADER, n - ETH_HEADER, n - ETH_HEADER,
                                 ld16be(b.ptr + room + 12), False, &g.h):
                    self.know(skb, room + ETH_HEADER, &g.h)
                out.append(skb)
                continue
            verdict = gro.frame(
                b, room + ETH_HEADER, n - ETH_HEADER, ld16be(b.ptr + room + 12),
                0x81000000U | special if vlan_strip and status & ST_VP else 0,
                ip_ok, &l4_ok, &g, out)
            if verdict == MERGED:
                self.frames += 1
                continue
            skb = self.build(b, room, n)
            self.finish(skb, status, special, l4_ok, vlan_strip)
            if g.h.seen:
                self.know(skb, room + ETH_HEADER, &g.h)
            if verdict == HELD:
                gro.hold(skb, room + ETH_HEADER, &g, out)
            else:
                out.append(skb)
        return done

    cpdef int64_t poll(self, int64_t budget, list out, GroTable gro, bint rx_csum, bint vlan_strip,
                       bint accept_errors, uint32_t low) except -1:
        """`clean` as a NAPI poll wants it: 1 when more than `budget` frames may wait (else what
        `gro` held has come out), plus 2 when at least `low` descriptors are empty.
        """
        cdef int state = 0
        if self.clean(budget, out, gro, rx_csum, vlan_strip, False, accept_errors) >= budget:
            state = 1
        elif gro is not None and gro.n:
            gro.flush(out)
        if self.empty() >= low:
            state |= 2
        return state

    cpdef int64_t empty(self):
        """Descriptors without a buffer that `refill` would fill."""
        cdef uint32_t used = self.next_to_use - self.next_to_clean
        if self.next_to_use < self.next_to_clean:
            used += self.count
        return self.count - 1 - used if self.count else 0

    cpdef bint pending(self):
        """True when the next descriptor has DD set."""
        return (self.bufs != NULL and self.next_to_clean != self.next_to_use
                and RING_LOAD8(self.desc_ + self.next_to_clean * 16 + 12) & ST_DD != 0)

    cdef void release(self) noexcept:
        cdef uint32_t i
        self.drop_chain()
        self.discard = False
        for i in range(self.count):
            if self.bufs[i] != NULL:
                skb_buf_drop(self.bufs[i])
                self.bufs[i] = NULL

    cpdef void reset(self):
        """Return every buffer to its pool, zero the ring."""
        if self.bufs == NULL:
            return
        self.release()
        self.next_to_use = self.next_to_clean = 0
        memset(self.desc_, 0, <size_t>self.count * 16)
