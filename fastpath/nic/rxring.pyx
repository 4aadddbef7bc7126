# cython: language_level=3, embedsignature=True
"""Receive ring engine of the 8254x: filter, errors, checksum status, FIFO, buffer split, write-
back, statistics.

A frame that passes goes through the packet buffer (`fastpath.nic.pktbuf`) and becomes its *image*.
That is the bytes for host memory (tag stripped, FCS appended) and the fields of the last
descriptor. The loop `_straight` makes images that fit one buffer each; others are split over
descriptors. A frame without a descriptor waits in the FIFO. If that is full the frame is missed, or
waits in a link that can hold it.

Sources: SDM 3.2 (reception), 9.2-9.3 (VLAN), 13.4.16 PBA, 13.4.22 RCTL, 13.4.47 RXCSUM, 13.7
(statistics).
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from fastpath.base.batch cimport (
    FB_ALIGN_ERR, FB_BAD_CRC, FB_CARRIER_EXT, FB_HAS_FCS, FB_SYMBOL_ERR, FrameBatch, frame_meta,
)
from fastpath.base.bytes cimport (
    copy_bytes, fold16, ld16be, ld32be, ld32le, ld64le, raw16, st32le, store_release_half, sum16,
    sum_at, sum_good, sum_host, sum_less, sum_raw,
)
from fastpath.base.csum cimport csum_ptr, csum_ptr_copy
from fastpath.nic.desccache cimport (
    dc_at, dc_bytes, dc_fetch, dc_load, dc_trim, dc_turn, dc_wants,
)
from fastpath.base.dma cimport (
    DMA_WRITABLE,
    DmaTable,
    dma_region,
    dma_resolve,
    dma_within,
    dma_write,
    dma_write_half,
)
from fastpath.nic.e1000_hw cimport (
    CTRL, CTRL_VME, MIN_RING, RCTL, RCTL_BSEX, RCTL_EN, RCTL_LPE, RCTL_MPE,
    RCTL_SBP, RCTL_SECRC, RCTL_UPE, RDBAL, RDH, RDLEN, RDT, RSRPD, RXCSUM, RXCSUM_IPOFL,
    RXCSUM_IPV6OFL, RXCSUM_TUOFL, VET, WTHRESH_MAX, ring_span,
)
from fastpath.nic.pktbuf cimport (
    PB_FEW, PB_HEADER, PB_WORDS, PacketBuffer, pb_fifo, pb_pass, pb_words,
)
from fastpath.nic.regfile cimport (
    ST_ALGNERRC, ST_BPRC, ST_CEXTERR, ST_CRCERRS, ST_GORC, ST_GPRC, ST_MPC, ST_MPRC, ST_PRC64,
    ST_RFC, ST_RJC, ST_RLEC, ST_RNBC, ST_ROC, ST_RUC, ST_RXERRC, ST_TOR, ST_TPR, Stats, st_add,
    st_bucket,
)
from fastpath.nic.ring cimport ring_off
from fastpath.nic.rxfilter cimport (
    ACCEPT, BROADCAST, MULTICAST, PIF, VLAN, RxFilter, rxf_quick, rxf_verdict,
)


cdef extern from "crc32.h" nogil:
    void crc32_init()
    uint32_t crc32_update(uint32_t crc, const uint8_t *p, size_t n)
    int crc32_best()
    int crc32_level

cdef enum:
    # receive descriptor status and errors (SDM 3.2.3.1, 3.2.3.2)
    RXD_DD = 0x01
    RXD_EOP = 0x02
    RXD_IXSM = 0x04
    RXD_VP = 0x08
    RXD_TCPCS = 0x20
    RXD_IPCS = 0x40
    RXD_PIF = 0x80
    RXE_CE = 0x01
    RXE_SE = 0x02
    RXE_CXE = 0x10
    RXE_TCPE = 0x20
    RXE_IPE = 0x40
    RXE_RXE = 0x80
    FB_ERRORS = 2 | 4 | 8 | 16
    SHORT = 1522                # bytes on the wire of a frame that is not long (SDM 13.4.22, LPE)
    SMALL = 128                 # frames up to here are summed without a call
    NOGIL_FROM = 8

crc32_init()


def crc32(data, uint32_t crc=0):
    """Ethernet FCS of `data` (IEEE 802.3 3.2.9), as zlib.crc32; little-endian on the wire."""
    cdef const uint8_t[::1] view = data
    if view.shape[0] == 0:
        return crc
    return crc32_update(crc, &view[0], view.shape[0])


def crc32_set_level(int level=-1):
    """Choose the CRC body: 0 slicing by 8, 1 PCLMULQDQ, 2 VPCLMULQDQ, -1 the widest. Returns the
    level in use."""
    global crc32_level
    cdef int best = crc32_best()
    crc32_level = best if level < 0 or level > best else level
    return crc32_level


cdef class RxEngine:
    """One receive queue of the 8254x with MAC filter, FIFO and statistics (SDM 3.2, 13.4.22).

    Its registers are in `filter.regs`: RDBAL to RDT, RCTL, RXCSUM, RSRPD, VET and CTRL.VME are read
    there at the start of each run, RDH is written there at its end. Call with the host's lock held.
    """

    def __cinit__(self, DmaTable dma not None, Stats stats not None, RxFilter filter not None,
                  PacketBuffer buffer=None):
        self._use(dma, stats, filter.regs, RDBAL, buffer)
        self.filter = filter
        self.fifo = &self.buffer.rx
        self.buffer.forget = self._forget
        self.waits = <rx_waiting *>calloc(RX_MAX_WAIT, sizeof(rx_waiting))
        self.scratch = <uint8_t *>calloc(RX_MAX_IMAGE + 64, 1)
        self.linear = <uint8_t *>calloc(RX_MAX_IMAGE + 64, 1)
        if self.waits == NULL or self.scratch == NULL or self.linear == NULL:
            raise MemoryError
        self.pad_runts = True
        self.prefetch(0, 0)
        self.reset()

    def __dealloc__(self):
        free(self.waits)
        free(self.scratch)
        free(self.linear)

    def reset(self):
        """Clear FIFO, causes and counters (CTRL.RST, power-on); the caller resets the registers."""
        self.flush_fifo()
        memset(&self.s, 0, sizeof(self.s))
        self.prefetched = -1
        self.chip.end = self.chip.have = 0
        self.fifo_bytes = 48 << 10              # PBA.RXA at power-on: 48 KB
        self.frames_dropped_disabled = self.frames_filtered = 0
        self.frames_bad = self.frames_missed = 0
        self.ring_errors = self.desc_aborts = self.data_aborts = 0

    def flush_fifo(self):
        """Forget the frames that wait. BufferError while the engine runs."""
        if self.running:
            raise BufferError("RxEngine: the engine is running")
        self._empty()

    def _forget(self):
        """Forget the waiting frames because software moves the FIFO's pointers; False during a
        run."""
        if self.running:
            return False
        self._empty()
        return True

    cdef void _empty(self) noexcept nogil:
        self.fifo.head = self.fifo.saved_head = self.fifo.tail
        self.fifo.fill = self.fifo.count = self.fifo.taken = 0
        self.waits_at = 0
        self.s.fifo_off = 0

    def receive(self, FrameBatch batch not None, int start=0, bint hold=False):
        """Take frames [start, len) of `batch` (borrowed); returns the index after the last one
        consumed.

        Without descriptors frames wait in the FIFO (RNBC). hold=False: they are lost when it is
        full (MPC, RXO). hold=True: stops at the first frame that it has no room for and leaves
        it to the caller. A frame that is larger than the FIFO is lost either way. Releases the GIL
        for 8 or more frames. Called again while it runs it takes nothing; `reset`, `load` and
        `flush_fifo` then raise BufferError.
        """
        cdef int out
        if start < 0:
            raise IndexError(f"RxEngine.receive: start {start} is negative")
        if self.running:            # from another thread, or from inside a message-DMA callback
            return start
        self.running = True
        self.dma.busy += 1
        if batch.n - start >= NOGIL_FROM:
            with nogil:
                out = self._receive(batch, start, hold)
        else:
            out = self._receive(batch, start, hold)
        self.dma.busy -= 1
        self.running = False
        return out

    def kick(self):
        """Drain the FIFO, when RDT moved or the receiver was enabled. Returns frames stored."""
        cdef int out
        if self.running:
            return 0
        self.running = True
        self.dma.busy += 1
        out = self._kick()
        self.dma.busy -= 1
        self.running = False
        return out

    cdef int _kick(self) noexcept nogil:
        """`kick`, for a caller that has marked the engine as running."""
        cdef int out = 0
        if self.v[RCTL >> 2] & RCTL_EN and (self.fifo.count or self._wants()):
            self._decode()
            self._begin()
            out = self._drain()
            self._end()
        return out

    def prefetch(self, uint32_t low, uint32_t host):
        """RXDCTL's PTHRESH and HTHRESH, in descriptors."""
        self.chip.low = max(low, <uint32_t>1)
        self.chip.host = host

    def fetch(self, int end=-1):
        """Fetch, for a fault, what a run would; return the number of descriptors."""
        cdef uint32_t waiting = self._free_now()
        if not (self.chip.have or self.running) and waiting:
            dc_fetch(&self.chip, &self.dma.t, NULL, self._base(), self.v[RDLEN >> 2] >> 4,
                     self.v[RDH >> 2], waiting)
        return self.chip.have

    def turn(self, uint64_t bits):
        """Invert, for a fault, bits of the buffer's address in the first fetched descriptor; False
        when there is none."""
        if self.chip.have:
            dc_turn(&self.chip, 0, bits)
        return self.chip.have != 0

    def wants(self):
        """Whether descriptors are to be fetched now."""
        return self._wants()

    cdef bint _wants(self) noexcept nogil:
        """Whether RXDCTL and the ring ask for a fetch of descriptors."""
        return self.chip.have < self.chip.low and dc_wants(&self.chip, self._free_now())

    cdef void _more(self) noexcept nogil:
        """Fetch descriptors, if `_wants` says so."""
        if self.usable and dc_wants(&self.chip, self.free):
            if dc_fetch(&self.chip, &self.dma.t, self.ring, self.ring_base, self.n, self.head,
                        self.free):
                self.desc_aborts += 1
                _end_ring(self)

    cdef inline bint _here(self) noexcept nogil:
        """Whether there is a descriptor to fill."""
        return self.usable and self.chip.have

    cdef inline void _advance(self, uint32_t count) noexcept nogil:
        """Move head past `count` written descriptors; `count` is 1, or at most `_stretch`."""
        self.head = self.head + count if self.head + count < self.n else 0
        self.free -= count
        self.chip.have -= count
        if self.chip.have < self.chip.low:
            self._more()
        if self.free == self.low:
            self.s.causes |= RXDMT0

    cdef inline uint32_t _stretch(self) noexcept nogil:
        """How many descriptors one `_advance` may pass: up to and with the last of the ring, the
        last before a fetch, or the one that causes RXDMT0, whichever is first."""
        cdef uint32_t out = self.n - self.head
        if self.chip.have <= self.chip.low:
            return 1
        out = min(out, self.chip.have - self.chip.low + 1)
        return min(out, self.free - self.low) if self.free > self.low else out

    def take_causes(self):
        """Return `causes` and clear it."""
        cdef uint32_t out = self.s.causes
        self.s.causes = 0
        return out

    def free_descriptors(self):
        """Descriptors that the device may fill, 0 when the ring is off."""
        return self._free_now()

    def ready(self):
        """Whether a holding link may continue: half of the FIFO is empty, or the receiver drops
        frames anyway."""
        return not self.v[RCTL >> 2] & RCTL_EN or 2 * self.fifo.fill <= self.fifo.size

    def takes(self, uint32_t n):
        """Whether a frame of `n` bytes from a holding link would be taken or dropped now."""
        return self._takes(n)

    cdef bint _takes(self, uint32_t n) noexcept nogil:
        cdef uint32_t words = pb_words((n if n > 60 else 60) + 4)
        return (words > self.fifo.size or self.fifo.fill + words <= self.fifo.size
                or not self.v[RCTL >> 2] & RCTL_EN or self._free_now() > 0)

    cdef uint32_t _tail(self) noexcept nogil:
        return self.v[RDT >> 2] if self.prefetched < 0 else <uint32_t>self.prefetched

    cdef uint32_t _free_now(self) noexcept nogil:
        cdef uint32_t n = self.v[RDLEN >> 2] >> 4, head = self.v[RDH >> 2], tail = self._tail()
        cdef uint64_t base = self._base() ^ self.misdirect
        if not self.dma.t.enabled or ring_off(n, head, tail) or base + <uint64_t>n * 16 < base:
            return 0
        # RDT == RDH means no free descriptor (SDM 3.2.6). No index equals RDT == size, so the rest
        # of the ring is free.
        return ring_span(head, tail, n)

    cdef void _decode(self) noexcept nogil:
        """Decode the registers that apply to each frame, when one of them has changed."""
        cdef uint32_t *v = self.v
        cdef uint32_t size
        self.seen = self.regs.changes
        self.rctl = v[RCTL >> 2]
        self.rxcsum = v[RXCSUM >> 2]
        self.rsrpd = v[RSRPD >> 2]
        self.vet = v[VET >> 2]
        self.vme = v[CTRL >> 2] & CTRL_VME
        self.accept = self.filter.now()
        # BSIZE 00/01/10/11: 2048 1024 512 256; with BSEX times 16, 00 reserved (taken as 2048, SDM
        # 13.4.22)
        size = self.rctl >> 16 & 3
        self.bsize = 2048 >> size
        if self.rctl & RCTL_BSEX and size:
            self.bsize <<= 4
        if self.promiscuous:
            self.rctl |= RCTL_UPE | RCTL_MPE
            self.seen -= 1              # for these runs only

    cdef void _begin(self) noexcept nogil:
        """Find, once per run, the ring's pointer, size, free descriptors and threshold."""
        self.n = self.v[RDLEN >> 2] >> 4
        self.head = self.v[RDH >> 2]
        self.ring_base = self._base() ^ self.misdirect
        self.ring = NULL
        self.free = self.whole = 0
        if self.s.owed and self.hold <= 1:
            self._repay(self.head)      # WTHRESH went while there was no bus mastering
        self.free = self._free_now()
        self.low = self.n >> (1 + (self.rctl >> 8 & 3))
        if self.free:
            if not self.dma.t.ordered:
                self.ring = dma_resolve(&self.dma.t, self.ring_base, <uint64_t>self.n * 16, True)
            if self.ring != NULL and self.fifo.size >= pb_words(SHORT) and self.hold <= 1:
                self.whole = self.bsize
        elif self.n >= MIN_RING and self.ring_base + <uint64_t>self.n * 16 < self.ring_base:
            self.ring_errors += 1
        # Without bus mastering the cache is not used. A tail that moved back shortens it.
        self.usable = self.free != 0
        if self.dma.t.enabled:
            dc_trim(&self.chip, self.free)
        if self.chip.have < self.chip.low:
            self._more()

    cdef void _end(self) noexcept nogil:
        """Write RDH, and forget the run's pointers: regions may change before the next run."""
        self.v[RDH >> 2] = self.head
        self.ring = NULL
        pb_pass(self.fifo, self.passed)
        self.passed = 0
        self.fifo.taken = (self.s.fifo_off + PB_HEADER) >> 3 if self.s.fifo_off else 0

    cdef int _receive(self, FrameBatch b, int start, bint hold) noexcept nogil:
        cdef int i = start, k
        cdef uint64_t *v = self.stats.v
        if self.seen != self.regs.changes or self.promiscuous:
            self._decode()
        if not self.rctl & RCTL_EN:
            if b.n > start:
                self.frames_dropped_disabled += b.n - start
                return b.n
            return start
        memset(&self.acc, 0, sizeof(self.acc))
        self._begin()
        self.record = b.n - start <= PB_FEW or self.buffer.exact
        if self.fifo.count:
            self._drain()
        while i < b.n:
            if self.whole and not self.fifo.count:
                i = self._straight(b, i)
                if i == b.n:
                    break
            if not self._frame(b.arena + b.f[i].off, b.f[i].len, b.f[i].flags, hold):
                break
            i += 1
        self._end()
        st_add(v, ST_TPR, self.acc.total)
        st_add(v, ST_TOR, self.acc.total_bytes)
        if self.acc.good:
            st_add(v, ST_GPRC, self.acc.good)
            st_add(v, ST_GORC, self.acc.good_bytes)
            st_add(v, ST_BPRC, self.acc.bcast)
            st_add(v, ST_MPRC, self.acc.mcast)
            for k in range(6):
                st_add(v, ST_PRC64 + k, self.acc.bucket[k])
        return i

    cdef int _straight(self, FrameBatch b, int start) noexcept nogil:
        """Take frames from `start` on while they are good, of usual size, and fit one buffer each.
        Returns the index of the first other frame, which is untouched."""
        cdef const frame_meta *f = &b.f[start]
        cdef const frame_meta *end = &b.f[b.n]
        cdef dma_region room = self.dma.t.regions[self.dma.t.last]
        cdef const uint8_t *p
        cdef uint8_t *dst
        cdef uint8_t small[80]
        cdef uint64_t addr, q, wires
        cdef uint32_t fcs = 0 if self.rctl & RCTL_SECRC else 4
        cdef uint32_t longest = min(<uint32_t>(SHORT - 4), self.whole - fcs)    # 252 or more
        cdef uint32_t n, k, left
        cdef int verdict
        cdef uint8_t *at
        cdef const uint8_t *given
        while f < end and self._here():
            left = self._stretch()
            wires = k = 0
            given = dc_at(&self.chip, 0)
            at = self.ring + <uint64_t>self.head * 16 + 8
            while k < left and f < end:
                n = f.len
                if f.flags & (FB_HAS_FCS | FB_ERRORS) or n > longest:
                    break
                p = b.arena + f.off
                if n < 60:
                    # a link that carries no FCS carries no padding either
                    if not n or not self.pad_runts:
                        break
                    memset(small, 0, sizeof(small))
                    memcpy(small, p, n)
                    p = small
                    n = 60
                verdict = rxf_quick(self.accept, p, self.rctl, self.vet)
                if not verdict & ACCEPT:
                    break
                addr = ld64le(given)
                if not addr:
                    break
                dst = dma_within(&room, addr, n + fcs, DMA_WRITABLE)
                if dst == NULL:
                    dst = dma_resolve(&self.dma.t, addr, n + fcs, True)
                    if dst == NULL:
                        break
                    room = self.dma.t.regions[self.dma.t.last]
                q = self._image(dst, p, n, NULL, verdict)
                store_release_half(at, q)
                if <uint32_t>(q & 0xFFFF) <= self.rsrpd:
                    self.s.causes |= SRPD
                if self.record:
                    self._record(p, n, NULL, f.flags)
                n += 4
                self.passed += pb_words(n)
                wires += n
                self.acc.bucket[st_bucket(n)] += 1
                if verdict & (BROADCAST | MULTICAST):
                    self._group(verdict)
                f += 1
                k += 1
                given += 16
                at += 16
            if not k:
                break
            self.acc.total += k
            self.acc.total_bytes += wires
            self.acc.good += k
            self.acc.good_bytes += wires
            self.s.causes |= RXT0
            self._advance(k)
            if k < left:
                break
        return b.n - <int>(end - f)

    cdef bint _frame(self, const uint8_t *p, uint32_t n, uint32_t fflags, bint hold) noexcept nogil:
        """Handle a frame that `_straight` cannot. False: nothing was done; the link must hold it.
        """
        cdef rx_state *s = &self.s
        cdef uint64_t *v = self.stats.v
        cdef const uint8_t *fcs = NULL
        cdef uint8_t small[80]
        cdef uint64_t last = 0
        cdef uint32_t wire, got, words
        cdef int verdict
        cdef bint bad, wrong_size = False
        if fflags & FB_HAS_FCS:
            if n < 5:
                n = 0
            else:
                n -= 4
                fcs = p + n
                if not fflags & FB_ERRORS and ld32le(fcs) != crc32_update(0, p, n):
                    fflags |= FB_BAD_CRC
        if n < 60:
            # what follows reads 18 bytes, and a link that carries no FCS carries no padding either
            memset(small, 0, sizeof(small))
            memcpy(small, p, n)
            if fcs != NULL:
                memcpy(small + n, fcs, 4)
                fcs = small + n
            elif self.pad_runts and not fflags & FB_ERRORS and n:
                n = 60
            p = small
        wire = n + 4
        verdict = rxf_verdict(self.accept, p, self.rctl, self.vet)
        bad = fflags & FB_ERRORS
        if not verdict & ACCEPT:
            self.acc.total += 1
            self.acc.total_bytes += wire
            self.frames_filtered += 1
            if fflags & FB_SYMBOL_ERR:
                s.causes |= RXSEQ
                self.symbol_errors += 1
            return True
        if bad or wire < 64 or wire > SHORT:
            wrong_size = wire < 64 or wire > (16384 if self.rctl & RCTL_LPE else SHORT)
            if bad or wrong_size:
                if not self.rctl & RCTL_SBP or n > RX_MAX_IMAGE - 8 or n == 0:
                    self.acc.total += 1
                    self.acc.total_bytes += wire
                    self._errors(wire, fflags, wrong_size)
                    self.frames_bad += 1
                    return True
        # build the image, split it, let the rest wait
        words = pb_words(wire)
        if self.fifo.fill + words > self.fifo.size and hold and words <= self.fifo.size:
            return False
        self.acc.total += 1
        self.acc.total_bytes += wire
        if bad or wrong_size:
            self._errors(wire, fflags, wrong_size)
            self.frames_bad += 1
        if self.fifo.count or not self._here():
            st_add(v, ST_RNBC, 1)
        if self.fifo.fill + words > self.fifo.size:
            # no room to wait, or never enough for so long a frame (SDM 13.7: MPC, RXO)
            st_add(v, ST_MPC, 1)
            s.causes |= RXO
            self.frames_missed += 1
            return True
        got = 0
        if not self.fifo.count and self._here():
            last = self._image(self.scratch, p, n, fcs, verdict) | self._errors_of(fflags)
            got = self._store(self.scratch, last, 0)
            if got >= last & 0xFFFF:
                if self.record:
                    self._record(p, n, fcs, fflags)
                self.passed += words
        if not got or got < last & 0xFFFF:
            self._push(p, n, fcs, fflags, verdict)
            s.fifo_off = got if self.fifo.count == 1 else s.fifo_off
        if not bad and not wrong_size:
            self.acc.good += 1
            self.acc.good_bytes += wire
            self.acc.bucket[st_bucket(wire)] += 1
            if verdict & (BROADCAST | MULTICAST):
                self._group(verdict)
        return True

    cdef uint64_t _errors_of(self, uint32_t fflags) noexcept nogil:
        """The error bits of the last descriptor for errors of the wire (SDM 3.2.3.2)."""
        cdef uint64_t errors = 0
        if fflags & (FB_BAD_CRC | FB_ALIGN_ERR):    # an alignment error shows as CRC error
            errors |= RXE_CE
        if fflags & FB_SYMBOL_ERR:
            errors |= RXE_SE | RXE_RXE
        if fflags & FB_CARRIER_EXT:
            errors |= RXE_CXE
        return errors << 40

    cdef void _record(self, const uint8_t *p, uint32_t n, const uint8_t *fcs,
                      uint32_t fflags) noexcept nogil:
        """Copy the bytes of a frame that did not wait into the FIFO."""
        pb_pass(self.fifo, self.passed)
        self.passed = 0
        self._write(p, n, fcs, fflags)

    cdef void _write(self, const uint8_t *p, uint32_t n, const uint8_t *fcs,
                     uint32_t fflags) noexcept nogil:
        """Put the frame and its FCS into the FIFO's words at the tail."""
        cdef uint8_t made[4]
        if fcs == NULL:
            st32le(made, crc32_update(0, p, n))
            fcs = made
        self.buffer.frame(self.fifo, self.fifo.tail, p, n, fcs, fflags & FB_ERRORS)

    cdef void _group(self, int verdict) noexcept nogil:
        """Count a good frame to a group."""
        if verdict & BROADCAST:
            self.acc.bcast += 1
        else:
            self.acc.mcast += 1

    cdef void _errors(self, uint32_t wire, uint32_t fflags, bint wrong_size) noexcept nogil:
        """Error counters of a frame that passed the address filter (SDM 13.7.1-13.7.4,
        13.7.33-13.7.36)."""
        cdef uint64_t *v = self.stats.v
        cdef bint crc = fflags & (FB_BAD_CRC | FB_ALIGN_ERR)
        if wrong_size:
            st_add(v, ST_RLEC, 1)
            if wire < 64:
                st_add(v, ST_RFC if crc else ST_RUC, 1)
            else:
                st_add(v, ST_RJC if crc else ST_ROC, 1)
        if wire >= 64:
            if fflags & FB_BAD_CRC:
                st_add(v, ST_CRCERRS, 1)
            if fflags & FB_ALIGN_ERR:
                st_add(v, ST_ALGNERRC, 1)
            if fflags & FB_SYMBOL_ERR:
                st_add(v, ST_RXERRC, 1)
        if fflags & FB_SYMBOL_ERR:
            self.s.causes |= RXSEQ
            self.symbol_errors += 1
        if fflags & FB_CARRIER_EXT:
            st_add(v, ST_CEXTERR, 1)

    cdef uint64_t _image(self, uint8_t *dst, const uint8_t *p, uint32_t n, const uint8_t *fcs,
                         int verdict) noexcept nogil:
        """Copy the frame's stored bytes to `dst` while summing them. Returns the second half of its
        last descriptor: length, packet checksum, status, errors, special."""
        cdef const uint8_t *w = p               # image[i] == w[i] from byte 12 on
        cdef uint32_t size = n, l4 = 0, l4len = 0
        cdef uint64_t acc, part, pseudo = 0, ip = 0     # in the order of raw sums
        cdef uint64_t last = 0
        cdef uint32_t status = RXD_DD | RXD_EOP, errors = 0
        if verdict & PIF:
            status |= RXD_PIF
        if verdict & VLAN and self.vme and n >= 18:
            status |= RXD_VP
            last = <uint64_t>ld16be(p + 14) << 48
            w = p + 4
            size -= 4
            memcpy(dst, p, 12)
            acc = sum_raw(p, 12) + raw16(fold16(csum_ptr_copy(dst + 12, w + 12, size - 12, 0)))
        elif size <= SMALL:
            copy_bytes(dst, p, size)
            acc = sum_raw(p, size)
        else:
            acc = raw16(fold16(csum_ptr_copy(dst, p, size, 0)))
        if self.rxcsum & (RXCSUM_IPOFL | RXCSUM_TUOFL):
            if _parse(w, size, self.rxcsum, self.vet, &status, &errors, &l4, &l4len, &pseudo, &ip):
                # Take the bytes before and after the segment out of the whole sum. Sum them in the
                # source: loads from the fresh copy would stall.
                part = sum_raw(p, 12)
                part += ip + sum_raw(w + 12, 2) if ip else sum_raw(w + 12, l4 - 12)
                if l4 + l4len < size:
                    part += raw16(sum_at(fold16(csum_ptr(w + l4 + l4len, size - l4 - l4len, 0)),
                                         l4len))
                status |= RXD_TCPCS
                if not sum_good(sum_less(acc + pseudo, part)):
                    errors |= RXE_TCPE
        if not self.rctl & RCTL_SECRC:
            if fcs != NULL:
                memcpy(dst + size, fcs, 4)
            else:
                st32le(dst + size, crc32_update(0, p, n))
            acc += raw16(sum_at(sum16(dst + size, 4), size))
            size += 4
        # packet checksum: the complement of the sum from PCSS to the end of what is stored
        # (SDM table 3-1's note, 13.4.47)
        if self.rxcsum & 0xFF:
            acc = self._packet_sum(dst, size, acc)
        if not status & (RXD_IPCS | RXD_TCPCS):
            status |= RXD_IXSM
        return (last | size | <uint64_t><uint16_t>~sum_host(acc) << 16 | <uint64_t>status << 32
                | <uint64_t>errors << 40)

    cdef uint64_t _packet_sum(self, const uint8_t *image, uint32_t size,
                              uint64_t acc) noexcept nogil:
        """The raw sum of an image that sums to `acc`, without its first PCSS bytes."""
        cdef uint32_t pcss = self.rxcsum & 0xFF
        if pcss >= size:
            return 0
        acc = fold16(sum_less(acc, sum_raw(image, pcss)))
        if acc == 0xFFFF:                           # or 0, when all bytes are 0: sum again
            acc = raw16(fold16(csum_ptr(image + pcss, size - pcss, 0)))
        elif pcss & 1:
            acc = sum_at(<uint32_t>acc, 1)
        return acc

    cdef uint32_t _store(self, const uint8_t *image, uint64_t last, uint32_t off) noexcept nogil:
        """Write the image from byte `off` on into free descriptors; return the bytes stored in all.
        `last` is the result of `_image`."""
        cdef rx_state *s = &self.s
        cdef uint8_t *dst
        cdef uint64_t addr, q
        cdef uint32_t chunk, left, size = <uint32_t>(last & 0xFFFF)
        while off < size and self._here():
            addr = ld64le(dc_at(&self.chip, 0))
            if addr == 0:
                # no buffer: the descriptor is given back empty and the next one is tried (SDM
                # 3.2.3)
                if not self._writeback(<uint64_t>RXD_DD << 32):
                    return off
                continue
            left = size - off
            chunk = left if left < self.bsize else self.bsize
            dst = dma_resolve(&self.dma.t, addr, chunk, True)
            if dst != NULL:
                copy_bytes(dst, image + off, chunk)
            elif dma_write(&self.dma.t, addr, image + off, chunk):
                self.data_aborts += 1
                s.causes |= RX_DATA_ABORT
            q = chunk
            if off == 0:
                # packet checksum in the first descriptor (SDM 3.2.3)
                q |= last & 0xFFFF0000U
            if chunk == left:
                q |= last >> 32 << 32
            else:
                # status, errors and special are valid in the last one only
                q |= <uint64_t>RXD_DD << 32
            if not self._writeback(q):
                return off
            off += chunk
        if off >= size:
            s.causes |= RXT0
            if size <= self.rsrpd:
                s.causes |= SRPD
        return off

    cdef bint _writeback(self, uint64_t q) noexcept nogil:
        """Write the second half of the descriptor at head and advance. False: master abort, nothing
        advanced."""
        cdef uint64_t at = <uint64_t>self.head * 16 + 8
        if self.hold > 1:
            q &= ~(<uint64_t>RXD_DD << 32)
        if self.ring != NULL:
            store_release_half(self.ring + at, q)
        elif dma_write_half(&self.dma.t, self.ring_base + at, q):
            self.desc_aborts += 1
            _end_ring(self)
            return False
        self._advance(1)
        if self.hold > 1:
            self.s.owed += 1
            if self.s.owed >= self.hold:
                return self._repay(self.head)
        return True

    cdef bint _repay(self, uint32_t head) noexcept nogil:
        """Set DD in the descriptors before `head` that WTHRESH holds, oldest first. False: master
        abort."""
        cdef int done = self._write_back(head, self.s.owed, 0xFF)
        if not done:
            return True
        self.s.owed = 0
        if done < 0:
            _end_ring(self)
        return done > 0

    def repay(self):
        """Set DD in the descriptors that WTHRESH holds: a delay has ended."""
        self._repay(self.v[RDH >> 2])

    def ring_moved(self):
        """Forget fetched descriptors and those that WTHRESH holds: software has moved the ring."""
        self.s.owed = 0
        self.chip.have = 0

    cdef void _push(self, const uint8_t *p, uint32_t n, const uint8_t *fcs, uint32_t fflags,
                    int verdict) noexcept nogil:
        """Put a frame into the FIFO, which has room for it."""
        cdef pb_fifo *f = self.fifo
        cdef rx_waiting *w = &self.waits[(self.waits_at + f.count) % RX_MAX_WAIT]
        cdef uint32_t words = pb_words(n + 4)
        pb_pass(f, self.passed)
        self.passed = 0
        if not f.count:
            f.head = f.saved_head = f.tail
        self._write(p, n, fcs, fflags)
        w.len = n
        w.flags = fflags
        w.verdict = verdict
        f.tail = f.saved_tail = (f.tail + words) % f.size
        f.fill += words
        f.count += 1

    cdef int _drain(self) noexcept nogil:
        """Move waiting frames to host memory in order; how many went completely."""
        cdef pb_fifo *f = self.fifo
        cdef rx_waiting *w
        cdef const uint8_t *p
        cdef uint64_t last
        cdef uint32_t words
        cdef int out = 0
        while f.count and self._here():
            w = &self.waits[self.waits_at]
            p = self.buffer.whole(f, (f.head << 3) + PB_HEADER, w.len + 4)
            if p == NULL:
                self.buffer.get(f, (f.head << 3) + PB_HEADER, self.linear, w.len + 4)
                p = self.linear
            last = (self._image(self.scratch, p, w.len, p + w.len, w.verdict)
                    | self._errors_of(w.flags))
            self.s.fifo_off = self._store(self.scratch, last, self.s.fifo_off)
            if self.s.fifo_off < last & 0xFFFF:
                break
            self.s.fifo_off = 0
            words = pb_words(w.len + 4)
            f.head = f.saved_head = (f.head + words) % f.size
            f.fill -= words
            f.count -= 1
            self.waits_at = (self.waits_at + 1) % RX_MAX_WAIT
            out += 1
        return out

    @property
    def fifo_used(self):
        """Bytes that wait in the FIFO (for FCRTH/FCRTL)."""
        return self.fifo.fill << 3

    @property
    def fifo_frames(self):
        """Frames that wait in the FIFO."""
        return self.fifo.count

    def state(self):
        """State of the queue beside its registers, field by field (`rx_state`). `at` is the FIFO's
        word where the first frame lies, `waiting` has (flags, verdict, bytes with FCS) of each, and
        `chip` the descriptors that were fetched."""
        cdef uint32_t i, n, at = self.fifo.head
        cdef rx_waiting *w
        cdef list waiting = []
        cdef dict state = self.s
        state["at"] = at
        state["waiting"] = waiting
        state["chip"] = dc_bytes(&self.chip)
        for i in range(self.fifo.count):
            w = &self.waits[(self.waits_at + i) % RX_MAX_WAIT]
            n = w.len + 4
            self.buffer.get(self.fifo, (at << 3) + PB_HEADER, self.linear, n)
            waiting.append((w.flags, w.verdict, (<char *>self.linear)[:n]))
            at = (at + pb_words(n)) % self.fifo.size
        return state

    def load(self, dict state not None):
        """Restore what `state` gave; a field that is missing is as now, one too many is ignored.

        The registers are loaded already. Raises: ValueError, OverflowError or TypeError for
        impossible values."""
        cdef rx_state s
        cdef uint32_t fill = 0, head, n, flags
        cdef int verdict
        cdef bytes frame
        cdef const uint8_t *p
        cdef list waiting = []
        cdef dict fields = self.state()
        if self.running:
            raise BufferError("RxEngine: the engine is running")
        fields["waiting"] = ()
        fields["chip"] = b""
        fields.update({name: value for name, value in state.items() if name in fields})
        head = fields.pop("at")
        chip = fields.pop("chip")
        for flags, verdict, frame in fields.pop("waiting"):
            n = <uint32_t>len(frame)
            if n < 5 or n > RX_MAX_IMAGE - 4:
                raise ValueError("RxEngine.load: damaged FIFO")
            fill += pb_words(n)
            waiting.append((flags, verdict, frame))
        s = fields
        if (s.fifo_bytes > PB_WORDS << 3 or fill > s.fifo_bytes >> 3 or len(waiting) > RX_MAX_WAIT
                or (waiting and s.fifo_off > RX_MAX_IMAGE)):
            raise ValueError("RxEngine.load: damaged FIFO")
        dc_load(&self.chip, chip)
        self.fifo_bytes = s.fifo_bytes
        self.s = s
        if s.owed > WTHRESH_MAX:
            self.s.owed = 0
        if self.fifo.size:
            self.fifo.tail = self.fifo.saved_tail = head % self.fifo.size
        self._empty()
        self.s.fifo_off = s.fifo_off if waiting else 0
        for flags, verdict, frame in waiting:
            p = <const uint8_t *><const char *>frame
            n = <uint32_t>len(frame) - 4
            self._push(p, n, p + n, flags, verdict)
        self.head = self.v[RDH >> 2]
        self._end()

    @property
    def causes(self):
        """Causes since the control plane last took them."""
        return self.s.causes

    @causes.setter
    def causes(self, uint32_t value):
        self.s.causes = value

    @property
    def fifo_bytes(self):
        """Size of the receive FIFO: PBA.RXA * 1024."""
        return self.s.fifo_bytes

    @fifo_bytes.setter
    def fifo_bytes(self, uint32_t value):
        # Waiting frames are dropped: a new PBA needs a reset (SDM 13.4.16).
        self.flush_fifo()
        self.s.fifo_bytes = min(value, <uint32_t>(PB_WORDS << 3))
        self.buffer.divide(self.s.fifo_bytes)


cdef void _end_ring(RxEngine self) noexcept nogil:
    """A master abort: the ring is not used any more in this run."""
    self.s.causes |= RX_ABORT
    self.usable = False
    self.whole = 0


cdef bint _parse(const uint8_t *w, uint32_t n, uint32_t rxcsum, uint32_t vet, uint32_t *status,
                 uint32_t *errors, uint32_t *l4, uint32_t *l4len, uint64_t *pseudo,
                 uint64_t *ip) noexcept nogil:
    """Find what RXCSUM asks to verify in the frame `w`, whose bytes 12 and on are read. SDM 3.2.9.

    Sets IPCS/IPE itself; True: a TCP or UDP segment of `l4len` bytes begins at `l4`, sum it with
    `pseudo`. Ethernet II and SNAP, through one tag; fragments, unknown and damaged headers are left
    to software. `ip`: the sum of all between Ethernet and `l4` where it was needed anyway, or 0.
    """
    cdef uint64_t acc = 0
    cdef uint32_t l3 = 14, et = ld16be(w + 12), ihl, tot, proto, _i
    if et == vet and n >= 18:
        et = ld16be(w + 16)
        l3 = 18
    if et <= 1500 and n >= l3 + 8 and ld32be(w + l3) == 0xAAAA0300U and ld16be(w + l3 + 4) == 0:
        et = ld16be(w + l3 + 6)
        l3 += 8
    if et == 0x0800:
        if n < l3 + 20 or w[l3] >> 4 != 4:
            return False
        ihl = (w[l3] & 15) * 4
        tot = ld16be(w + l3 + 2)
        if ihl < 20 or tot < ihl or l3 + tot > n:
            return False
        if rxcsum & RXCSUM_IPOFL:
            status[0] |= RXD_IPCS
            acc = sum_raw(w + l3, 20) if ihl == 20 else sum_raw(w + l3, ihl)
            if not sum_good(acc):
                errors[0] |= RXE_IPE
        if not rxcsum & RXCSUM_TUOFL or ld16be(w + l3 + 6) & 0x3FFF:
            return False
        proto = w[l3 + 9]
        l4[0] = l3 + ihl
        l4len[0] = tot - ihl
        if not _l4_ok(w + l4[0], proto, l4len[0]):
            return False
        if l3 == 14:
            ip[0] = acc
        pseudo[0] = sum_raw(w + l3 + 12, 8) + raw16(<uint16_t>l4len[0]) + raw16(<uint16_t>proto)
        return True
    if et != 0x86DD or not rxcsum & RXCSUM_IPV6OFL or not rxcsum & RXCSUM_TUOFL:
        return False
    if n < l3 + 40 or w[l3] >> 4 != 6:
        return False
    tot = ld16be(w + l3 + 4)
    if l3 + 40 + tot > n:
        return False
    proto = w[l3 + 6]
    ihl = 0                                 # bytes of extension headers passed
    for _i in range(4):
        # hop-by-hop and destination options; routing changes the pseudo header
        if proto != 0 and proto != 60:
            break
        if tot < ihl + 8:
            return False
        proto = w[l3 + 40 + ihl]
        ihl += (<uint32_t>w[l3 + 41 + ihl] + 1) * 8
        if ihl > tot:
            return False
    l4[0] = l3 + 40 + ihl
    l4len[0] = tot - ihl
    if not _l4_ok(w + l4[0], proto, l4len[0]):
        return False
    acc = sum_raw(w + l3 + 8, 32)
    if l3 == 14 and ihl == 0:
        ip[0] = acc + sum_raw(w + l3, 8)
    pseudo[0] = acc + raw16(<uint16_t>l4len[0]) + raw16(<uint16_t>proto)
    return True


cdef inline bint _l4_ok(const uint8_t *p, uint32_t proto, uint32_t n) noexcept nogil:
    """TCP with a whole header, or UDP with a checksum and its length equal to the payload's."""
    if proto == 6:
        return n >= 20
    return proto == 17 and n >= 8 and ld16be(p + 4) == n and ld16be(p + 6) != 0
