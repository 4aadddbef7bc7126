# cython: language_level=3, embedsignature=True
"""Transmit ring engine of the 8254x: fetch, contexts, checksum and VLAN insertion, segmentation,
write-back.

The engine walks descriptors from head to tail, puts each frame together directly in the batch's
arena, and writes DD back. It leaves the cutting of a TCP (or, with `gso_udp`, UDP) segmentation
context to a link with `gso_max_bytes`. One super-frame then holds up to 64 KiB of segments, counted
as the frames that they are on the wire. Everything that software chooses (ring, lengths, offsets,
contexts) is checked here; the worst that a hostile ring can do is to have its own frames dropped.
Work per run is bounded by its `tx_budget` and by one ring of descriptors.

Sources: SDM 3.3 (descriptors), 3.4 (ring), 3.5 (segmentation), 13.4.33 TCTL, 13.4.42 TXDCTL, 13.7
(statistics).
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove, memset

from fastpath.base.batch cimport (
    FB_GSO_TCPV4, FB_GSO_TCPV6, FB_GSO_UDP, FB_HAS_FCS, FrameBatch, fb_gso_mark, fb_reserve,
    frame_meta,
)
from fastpath.base.bytes cimport (
    copy_bytes, fold16, ld16be, ld32be, ld64le, raw16, st16be, st32be, store_release8, sum16,
    sum_at, sum_host, sum_less, sum_raw,
)
from fastpath.base.csum cimport csum_ptr, csum_ptr_copy
from fastpath.nic.desccache cimport (
    DC_SIZE, dc_at, dc_bytes, dc_fetch, dc_load, dc_trim, dc_turn, dc_wants, desc_cache,
)
from fastpath.base.dma cimport (
    DMA_READABLE, DmaTable, dma_read, dma_region, dma_resolve, dma_within,
    dma_write_status,
)
from fastpath.nic.e1000_hw cimport (
    CMD_DEXT, CMD_EOP, CMD_IC, CMD_IDE, CMD_IFCS, CMD_RPS, CMD_RS, CMD_TSE, CMD_VLE, CTRL, CTRL_VME,
    ENGINE_REGISTERS, TCTL, TCTL_EN, TCTL_PSP, TDBAL, TDH, TDLEN, TDT, TIDV, TXDCTL,
    VET, WTHRESH_MAX, ring_span,
)
from fastpath.nic.pktbuf cimport PB_FEW, PB_HEADER, PacketBuffer, pb_pass, pb_words
from fastpath.nic.regfile cimport (
    ST_BPTC, ST_GOTC, ST_GPTC, ST_MPTC, ST_PTC64, ST_TOT, ST_TPT, ST_TSCTC, ST_TSCTFC, RegFile,
    Stats, st_add, st_bucket,
)
from fastpath.nic.ring cimport ring_off


cdef enum:
    TUCMD_TCP = 0x01
    TUCMD_IP = 0x02
    POPTS_IXSM = 0x01
    POPTS_TXSM = 0x02
    TCP_FIN = 0x01
    TCP_SYN = 0x02
    TCP_RST = 0x04
    TCP_PSH = 0x08
    TCP_URG = 0x20
    TCP_CWR = 0x80
    PROTO_TCP = 6
    PROTO_UDP = 17
    PH_IDLE = 0
    PH_LEGACY = 1
    PH_DATA = 2
    PH_TSO = 3
    PH_DROP = 4                 # discard until EOP
    SMALL = 128                 # ranges up to here are summed without a call
    GSO_IP_MAX = 65535          # IP bytes of a super-frame: tot_len has 16 bits
    GSO_UDP_SEGMENTS = 64       # most segments of a UDP super-frame, as with a Linux sender
    GSO_RUN_BYTES = 1 << 20     # with so much in the batch, a run begins no further super-frame
    NOGIL_FROM = 8              # descriptors from which releasing the GIL (30 ns) pays


cdef inline uint32_t _reported(uint32_t flags, bint delayed) noexcept nogil:
    """A run's flags after a descriptor was written back. RUN_DELAYED: it had IDE, so the delay
    begins. TXDW: it had not, which ends the delay."""
    return flags | RUN_DELAYED if delayed else flags & ~<uint32_t>RUN_DELAYED | TXDW


cdef class TxEngine:
    """One transmit queue of the 8254x (SDM 3.3-3.5). Call with the host's lock held.

    Its registers are in `regs`: TDBAL to TDT, TCTL, TXDCTL, VET and CTRL.VME are read there at the
    start of each run, TDH is written there at its end.
    """

    def __cinit__(self, DmaTable dma not None, Stats stats not None, RegFile regs not None,
                  PacketBuffer buffer=None):
        regs.need(ENGINE_REGISTERS)
        self._use(dma, stats, regs, TDBAL, buffer)
        self.fifo = &self.buffer.tx
        self.low_cause = TXD_LOW
        self.prefetch(1, 0)
        self.partial = <uint8_t *>malloc(TX_MAX_FRAME + 64)
        if self.partial == NULL:
            raise MemoryError
        self.reset()

    def __dealloc__(self):
        free(self.partial)

    def reset(self):
        """Clear contexts, the unfinished frame and counters (CTRL.RST, power-on); the caller resets
        the registers."""
        if self.running:
            raise BufferError("TxEngine: the engine is running")
        memset(&self.s, 0, sizeof(self.s))
        self.s.max_frame = TX_MAX_FRAME
        self.chip.end = self.chip.have = 0
        self.mixed_drops = self.oversize_drops = self.tso_fails = 0
        self.empty_frames = self.csum_skips = 0
        self.ring_errors = self.desc_aborts = self.data_aborts = 0
        self._begun()

    def run(self, FrameBatch batch not None, int max_frames=256, *, size_t max_bytes=0):
        """Take descriptors until tail or the limit, append frames to `batch` (borrowed), write
        back.

        Never appends more than `max_frames`, and pauses between frames when it has put `max_bytes`
        (0: no limit) into the batch; a TSO frame may pause in the middle (RUN_MORE).
        Releases the GIL when 8 or more descriptors wait. Called again while it runs (from
        another thread, or from a message-DMA callback) it does nothing and returns RUN_OFF;
        `reset`, `load` and `abort_frame` then raise BufferError.
        """
        cdef uint32_t todo = self.v[TDT >> 2] - self.v[TDH >> 2]
        cdef uint32_t out
        cdef tx_budget budget = tx_budget_of(max_frames)
        budget.nbytes = max_bytes
        if self.running:            # from another thread, or from inside a message-DMA callback
            return RUN_OFF
        self.running = True
        self.dma.busy += 1
        if todo >= NOGIL_FROM:
            with nogil:
                out = self._run(batch, &budget)
        else:
            out = self._run(batch, &budget)
        self.dma.busy -= 1
        self.running = False
        return out

    def ring_moved(self):
        """Forget the unfinished frame, fetched descriptors and those that WTHRESH holds: software
        has moved the ring. Contexts stay."""
        if self.running:
            raise BufferError("TxEngine: the engine is running")
        self.s.phase = PH_IDLE
        self.s.have = 0
        self.s.desc_off = self.s.owed = 0
        self.chip.have = 0
        self._begun()

    def prefetch(self, uint32_t low, uint32_t host):
        """TXDCTL's PTHRESH (at least 1) and HTHRESH, in descriptors; with `low` 0 only runs fetch
        descriptors."""
        self.chip.low = low
        self.chip.host = host

    def fetch(self, int end=-1):
        """Fetch, for a fault, what a run would, up to `end`; return the number of descriptors."""
        cdef uint32_t n = self.v[TDLEN >> 2] >> 4, head = self.v[TDH >> 2]
        cdef uint32_t tail = self.v[TDT >> 2] if end < 0 else <uint32_t>end
        if tail == n:
            tail = 0
        if not (self.chip.have or self.running or ring_off(n, head, tail) or head == tail):
            dc_fetch(&self.chip, &self.dma.t, NULL, self._base(), n, head,
                     ring_span(head, tail, n))
        return self.chip.have

    def turn(self, uint64_t bits):
        """Invert, for a fault, bits of the buffer's address in the first fetched descriptor that
        has one; False when there is none."""
        cdef uint32_t k
        cdef uint64_t q
        for k in range(self.chip.have):
            q = ld64le(dc_at(&self.chip, k) + 8)
            if not q >> 24 & CMD_DEXT or q >> 20 & 0xF:     # no context
                dc_turn(&self.chip, k, bits)
                return True
        return False

    def fill(self):
        """Fetch descriptors if TXDCTL says so, while nothing is sent: RUN_ABORT or 0."""
        return self._fill()

    cdef uint32_t _fill(self) noexcept nogil:
        cdef uint32_t *v = self.v
        cdef uint32_t n = v[TDLEN >> 2] >> 4, head = v[TDH >> 2], tail = v[TDT >> 2], waiting
        cdef uint64_t base = self._base() ^ self.misdirect
        if self.running or not v[TCTL >> 2] & TCTL_EN or not self.dma.t.enabled:
            return 0
        if tail == n:
            tail = 0
        if ring_off(n, head, tail) or base + <uint64_t>n * 16 < base:
            return 0
        waiting = ring_span(head, tail, n)
        if self.chip.have < self.chip.low and dc_wants(&self.chip, waiting):
            if dc_fetch(&self.chip, &self.dma.t, dma_resolve(&self.dma.t, base, <uint64_t>n * 16,
                        False), base, n, head, waiting):
                self.desc_aborts += 1
                return RUN_ABORT
        return 0

    def ahead(self):
        """The bus access of the first fetched descriptor, or None when there is none.

        (address, step, left, words, queued, begins, tso). `step`: bytes up to the next point at
        which the engine acts; `left`: of the buffer. `words`: of the FIFO that the frame takes
        then; `queued`: bytes of the frame that are in it. `begins`: the frame begins with these
        bytes. `tso`: they are a segmentation context's.
        """
        cdef tx_state *s = &self.s
        cdef tx_context *c = &s.fctx
        cdef uint64_t addr, q
        cdef uint32_t cmd, n, size, stop, left, mss, tagged, got = s.have, header = s.hdr_have
        cdef bint tso
        if not self.chip.have:
            return None
        tagged = CMD_VLE if self.v[CTRL >> 2] & CTRL_VME else 0
        addr = ld64le(dc_at(&self.chip, 0))
        q = ld64le(dc_at(&self.chip, 0) + 8)
        cmd = <uint32_t>(q >> 24) & 0xFF
        if not cmd & CMD_DEXT:
            n = q & 0xFFFF if s.phase == PH_IDLE or s.phase == PH_LEGACY else 0
            tso = False
        elif (q >> 20) & 0xF == 1:
            n = q & 0xFFFFF if s.phase != PH_LEGACY and s.phase != PH_DROP else 0
            tso = s.phase == PH_TSO or (s.phase == PH_IDLE and cmd & CMD_TSE)
        else:
            return addr, 0, 0, 0, 0, False, False
        if addr == 0:
            n = 0
        if not tso:
            got = 0 if s.phase == PH_IDLE else s.have
            if got + n > s.max_frame:
                n = 0                   # it is dropped as it is
            size = max(got + n + (4 if cmd & tagged else 0), 60U)
            return addr, n, n, pb_words(size), got, got == 0, False
        left = s.pay_left
        if s.phase == PH_IDLE:
            c = &s.ctx[1]
            left = c.paylen
            header = got = 0
        if _tso_cannot(c, <uint32_t>(q >> 40) if s.phase == PH_IDLE else s.popts, s.max_frame):
            return addr, 0, 0, 0, 0, False, True
        n -= min(s.desc_off, n)
        mss = c.mss
        stop = 0 if s.phase == PH_IDLE else s.seg_pay
        tagged &= cmd if s.phase == PH_IDLE else s.dcmd
        size = c.hdrlen + min(mss, stop + left) + (4 if tagged else 0)
        stop = c.hdrlen - header + min(mss - stop, left)
        return (addr + s.desc_off, min(n, stop) if left else 0, n, pb_words(max(size, 60U)), got,
                got == 0, True)

    def pending(self):
        """Descriptors between head and tail, 0 when the ring is off."""
        return max(self._pending(), 0)

    cdef int _pending(self) noexcept nogil:
        """`pending`; -1 when the ring is off: too short, or an index lies beyond it."""
        cdef uint32_t n = self.v[TDLEN >> 2] >> 4, head = self.v[TDH >> 2], tail = self.v[TDT >> 2]
        if ring_off(n, head, tail):
            return -1
        return <int>ring_span(head, 0 if tail == n else tail, n)

    def mid_frame(self):
        """Whether a frame is begun and not yet ended by EOP."""
        return self.s.phase != PH_IDLE

    cdef void _decode(self) noexcept nogil:
        """Decode the registers that apply to each frame, when one of them has changed."""
        self.seen = self.regs.changes
        self.tctl = self.v[TCTL >> 2]
        self.txdctl = self.v[TXDCTL >> 2]
        self.vet = self.v[VET >> 2]
        self.vme = self.v[CTRL >> 2] & CTRL_VME
        self.pad = self.tctl & TCTL_PSP
        self.front = 4 if self.vme else 0

    cdef uint32_t _run(self, FrameBatch b, const tx_budget *budget) noexcept nogil:
        cdef tx_state *s = &self.s
        cdef uint32_t *v = self.v
        cdef uint32_t n = v[TDLEN >> 2] >> 4
        cdef uint32_t head = v[TDH >> 2], descs = budget.descs, before, waiting, low, left, least
        cdef uint32_t rest = 0, sent, back, enough
        cdef uint32_t tail = v[TDT >> 2] if budget.end < 0 else <uint32_t>budget.end
        cdef uint64_t base = self._base() ^ self.misdirect
        cdef uint64_t addr, q
        cdef uint8_t *ring
        cdef uint8_t *d
        cdef uint32_t cmd
        cdef desc_cache *chip = &self.chip
        cdef bint direct = False, direct_back
        # WTHRESH: every descriptor is written back, so many at a time
        cdef uint32_t hold = self.hold
        cdef bint all_back = hold == 1
        cdef uint32_t rs_mask = CMD_RS | (CMD_RPS if self.rps else 0)
        self.flags = 0
        self.cur = NULL
        self.sup_max = self.sup_pay = 0
        self.used_before = b.used
        self.stop_bytes = b.used + budget.nbytes if budget.nbytes else <size_t>-1
        if tail == n:
            tail = 0
        if self.seen != self.regs.changes:
            self._decode()
        if not self.tctl & TCTL_EN or not self.dma.t.enabled or budget.frames <= 0:
            return RUN_OFF
        if ring_off(n, head, tail):
            # TDLEN is below one cache line of descriptors, or an index lies beyond the ring.
            if head != tail:
                self.ring_errors += 1
            return RUN_OFF
        if base + <uint64_t>n * 16 < base:
            self.ring_errors += 1
            self.dma.t.aborts += 1
            return RUN_OFF | RUN_ABORT
        if s.owed and hold <= 1:
            self.flags = self._repay(head)      # WTHRESH went while there was no bus mastering
        before = waiting = ring_span(head, tail, n)
        dc_trim(chip, before)
        if not before:
            return self.flags
        self.record = 0x7FFFFFFF if self.buffer.exact else PB_FEW if before <= PB_FEW else 0
        self.stop_at = (b.n + budget.frames if b.n < 0x7FFFFFFF - budget.frames
                        else 0x7FFFFFFF)
        memset(&self.acc, 0, sizeof(self.acc))
        least = max(chip.low, <uint32_t>1)
        left = chip.have
        d = dc_at(chip, 0)
        ring = dma_resolve(&self.dma.t, base, <uint64_t>n * 16, True)
        while head != tail:
            if descs == 0 or b.n >= self.stop_at or b.used >= self.stop_bytes:
                self.flags |= RUN_MORE
                break
            if not left and ring != NULL and least == 1:
                # A burst, looked at in place: nothing changes it during a run.
                if not rest:
                    rest = min(waiting, <uint32_t>DC_SIZE)
                left = min(rest, n - head)
                rest -= left
                d = ring + <uint64_t>head * 16
                chip.have = 0
                direct = True
            elif left < least:
                chip.have = left
                if dc_wants(chip, waiting) and dc_fetch(chip, &self.dma.t, ring, base, n, head,
                                                        waiting):
                    self.desc_aborts += 1
                    self.flags |= RUN_ABORT
                    break
                d = dc_at(chip, 0)
                left = chip.have
            addr = ld64le(d)
            q = ld64le(d + 8)
            cmd = <uint32_t>(q >> 24) & 0xFF
            sent = 0
            if (cmd & (CMD_DEXT | CMD_EOP | CMD_TSE) == CMD_DEXT | CMD_EOP
                    and s.phase == PH_IDLE):
                # one by one, up to the next point at which this loop has to check again
                direct_back = ring != NULL and hold <= 1
                if direct_back:
                    sent = min(left - least + 1 if left > least else 1, n - head)
                    sent = min(sent, min(descs, <uint32_t>(self.stop_at - b.n)))
                    sent = self._burst(b, d, ring + <uint64_t>head * 16 + 12, sent, all_back)
                else:
                    sent = self._burst(b, d, NULL, 1, False)
                if sent and direct_back:
                    d += sent * 16
                    left -= sent
                    waiting -= sent
                    descs -= sent
                    head = head + sent if head + sent < n else 0
                    continue
            if sent:
                pass
            elif not cmd & CMD_DEXT:
                if not self._legacy(b, addr, q):
                    self.flags |= RUN_MORE
                    break
            elif (q >> 20) & 0xF == 1:
                if not self._data(b, addr, q):
                    self.flags |= RUN_MORE
                    break
            elif (q >> 20) & 0xF == 0:
                _load_context(&s.ctx[1 if cmd & CMD_TSE else 0], addr, q)
            else:
                # DTYP 2..15 are not defined: consumed without effect
                self.mixed_drops += 1
            if all_back or (hold == 0 and cmd & rs_mask):
                if ring != NULL:
                    store_release8(ring + <uint64_t>head * 16 + 12, (d[12] & 0xF0) | 1)
                elif dma_write_status(&self.dma.t, base + <uint64_t>head * 16 + 12,
                                      (d[12] & 0xF0) | 1):
                    self.desc_aborts += 1
                    self.flags |= RUN_ABORT
                    break
                self.flags = _reported(self.flags, cmd & CMD_IDE != 0)
            d += 16
            left -= 1
            waiting -= 1
            head += 1
            if head == n:
                head = 0
            descs -= 1
            if hold > 1 and (s.owed or cmd & rs_mask):
                s.owed += 1
                enough = hold
                if cmd & rs_mask:
                    if not cmd & CMD_IDE:
                        s.owed |= TX_OWED_NOW
                    elif v[TIDV >> 2] & 0xFFFF:
                        self.flags = _reported(self.flags, True)
                    else:
                        s.owed |= TX_OWED_NOW
                        enough = 1          # its delay is over at once
                if s.owed & 0xFFFF >= enough:
                    back = self._repay(head)
                    if back & TXDW:
                        self.flags = _reported(self.flags, False)
                    self.flags |= back
        v[TDH >> 2] = head
        if not direct:
            chip.have = left
        elif left + rest:
            dc_fetch(chip, &self.dma.t, ring, base, n, head, left + rest)
        left = chip.have
        if left < chip.low and dc_wants(chip, waiting) and not self.flags & RUN_ABORT:
            if dc_fetch(chip, &self.dma.t, ring, base, n, head, waiting):
                self.desc_aborts += 1
                self.flags |= RUN_ABORT
        if self.sup_max:
            # Send the whole segments now; the begun one waits for its rest.
            memcpy(self.partial, s.hdr, s.fctx.hdrlen)
            memcpy(self.partial + s.fctx.hdrlen, self.cur + s.fctx.hdrlen + self.sup_pay, s.seg_pay)
            s.seg_sum = fold16(csum_ptr(self.partial + s.fctx.hdrlen, s.seg_pay, 0))
            self._super_close(b, False)
        elif self.cur != NULL and s.phase != PH_IDLE:
            if s.phase == PH_TSO:
                # The header is not written yet: keep stale bytes out of snapshots.
                memcpy(self.cur, s.hdr, s.fctx.hdrlen)
            memcpy(self.partial, self.cur, s.have)
        self.cur = NULL
        self._flush()
        self._begun()
        if head == tail:
            self.flags |= TXQE
            self.flags &= ~<uint32_t>RUN_MORE
        low = (self.txdctl >> 25) * 8
        if before > low and waiting <= low:  # LWTHRESH 0: when none is left
            self.flags |= self.low_cause
        return self.flags

    cdef uint32_t _repay(self, uint32_t head) noexcept nogil:
        """Write back the descriptors before `head` that WTHRESH holds, oldest first; TXDW,
        RUN_DELAYED and RUN_ABORT."""
        cdef uint32_t flags = TXDW if self.s.owed & TX_OWED_NOW else RUN_DELAYED
        cdef int done = self._write_back(head, self.s.owed & 0xFFFF, 0xF0)
        if not done:
            return 0
        self.s.owed = 0
        return flags if done > 0 else flags | RUN_ABORT

    def repay(self):
        """Write back the descriptors that WTHRESH holds: a delay has ended.

        Returns TXDW or RUN_DELAYED; 0 when there were none."""
        return self._repay(self.v[TDH >> 2])

    cdef bint _open(self, FrameBatch b) noexcept nogil:
        """Point `cur` at room for the largest frame, with what an earlier run gathered; False when
        there is none."""
        cdef uint8_t *p
        if self.cur == NULL:
            p = fb_reserve(b, TX_MAX_FRAME + 128)
            if p == NULL:
                return False
            self.cur = p + self.front
            if self.s.have:
                memcpy(self.cur, self.partial, self.s.have)
        return True

    cdef int _fetch(self, uint8_t *dst, uint64_t addr, uint32_t n) noexcept nogil:
        """Copy `n` bytes of host memory; bytes outside it are FF."""
        cdef uint8_t *p = dma_resolve(&self.dma.t, addr, n, False)
        if p != NULL:
            copy_bytes(dst, p, n)
            return 0
        if dma_read(&self.dma.t, addr, dst, n):
            self.data_aborts += 1
            self.flags |= RUN_DATA_ABORT
            return -1
        return 0

    cdef void _emit(self, FrameBatch b, uint32_t n, bint ifcs, bint vle,
                    uint32_t special) noexcept nogil:
        """Make the `n` bytes at `cur` a frame of the batch, with a tag if it is to have one."""
        cdef uint8_t *p = self.cur
        self.cur = NULL
        self.s.have = 0
        if vle and self.vme and n >= 12:
            p -= 4
            memmove(p, p + 4, 12)
            st16be(p + 12, <uint16_t>self.vet)
            st16be(p + 14, <uint16_t>special)
            n += 4
        _append(self, b, p, n, ifcs)

    cdef void _record(self, const uint8_t *p, uint32_t n) noexcept nogil:
        """Leave a frame's bytes in the FIFO."""
        self.record -= 1
        pb_pass(self.fifo, self.passed)
        self.passed = 0
        self.buffer.frame(self.fifo, self.fifo.tail, p, n, NULL, 0)

    def count(self, bytes frame not None, bint with_fcs=False):
        """Count a frame once the wire has taken it, perhaps with its FCS: see `uncounted`."""
        cdef uint64_t *v = self.stats.v
        cdef uint32_t wire = <uint32_t>len(frame) + (0 if with_fcs else 4)
        st_add(v, ST_TOT, wire)
        if wire >= 64:
            st_add(v, ST_TPT, 1)
            st_add(v, ST_GPTC, 1)
            st_add(v, ST_GOTC, wire)
            st_add(v, ST_PTC64 + st_bucket(wire), 1)
            if frame[0] & 1:
                st_add(v, ST_BPTC if frame.startswith(b"\xff" * 6) else ST_MPTC, 1)

    cdef void _flush(self) noexcept nogil:
        """Add the run's sums to the statistics registers."""
        cdef uint64_t *v = self.stats.v
        cdef int i
        st_add(v, ST_TOT, self.acc.total)
        if self.acc.frames:
            st_add(v, ST_TPT, self.acc.frames)
            st_add(v, ST_GPTC, self.acc.frames)
            st_add(v, ST_GOTC, self.acc.bytes)
            st_add(v, ST_MPTC, self.acc.mcast)
            st_add(v, ST_BPTC, self.acc.bcast)
            for i in range(6):
                st_add(v, ST_PTC64 + i, self.acc.bucket[i])

    cdef void _begun(self) noexcept nogil:
        """Move the FIFO's pointers past sent frames, and put an unfinished frame at its tail."""
        cdef uint32_t n = self.s.have if self.s.phase != PH_IDLE else 0
        pb_pass(self.fifo, self.passed)
        self.passed = 0
        self.fifo.begun = (n + PB_HEADER + 7) >> 3 if n else 0
        if n:
            self.buffer.frame(self.fifo, self.fifo.tail, self.partial, n, NULL, 0)

    cdef void _drop(self, bint eop) noexcept nogil:
        """Give up the open frame; what follows up to EOP is discarded."""
        self.cur = NULL
        self.s.have = 0
        self.s.phase = PH_IDLE if eop else PH_DROP

    cdef bint _gather(self, FrameBatch b, uint64_t addr, uint32_t n,
                      uint32_t max_frame) noexcept nogil:
        """Append a descriptor's bytes to the open frame; False: the frame grew over the limit."""
        if self.s.have + n > max_frame:
            self.oversize_drops += 1
            return False
        self._fetch(self.cur + self.s.have, addr, n)
        self.s.have += n
        return True

    cdef void _checksum(self, uint8_t *p, const uint8_t *src, uint32_t n, uint32_t css,
                        uint32_t cse, uint32_t cso, bint udp) noexcept nogil:
        """Insert the check of [css, cse] at cso; cse 0 means to the end.

        `src` holds the same bytes as `p`, if possible not just written (loads that overlap fresh
        stores stall). Ranges outside the frame write nothing.
        """
        cdef uint32_t end = n if cse == 0 or cse >= n else cse + 1
        cdef uint16_t check
        if css >= n or end <= css or cso + 2 > n:
            self.csum_skips += 1
            return
        if end - css <= SMALL:
            check = <uint16_t>~fold16(sum_raw(src + css, end - css))
        else:
            check = <uint16_t>raw16(<uint16_t>~fold16(csum_ptr(src + css, end - css, 0)))
        if udp and check == 0:
            check = 0xFFFF              # RFC 768: 0 would mean that there is none
        memcpy(p + cso, &check, 2)      # in the machine's order, as it was summed

    cdef bint _legacy(self, FrameBatch b, uint64_t addr, uint64_t q) noexcept nogil:
        """One legacy descriptor (SDM 3.3.3). False: no room in the batch, nothing was done."""
        cdef tx_state *s = &self.s
        cdef uint32_t n = <uint32_t>q & 0xFFFF
        cdef uint32_t cmd = <uint32_t>(q >> 24) & 0xFF
        cdef bint eop = cmd & CMD_EOP
        if addr == 0:
            n = 0
        if s.phase == PH_DROP:
            if eop:
                s.phase = PH_IDLE
            return True
        if s.phase == PH_DATA or s.phase == PH_TSO:
            self.mixed_drops += 1
            if s.phase == PH_TSO:
                self._tso_fail(b, eop)
            else:
                self._drop(eop)
            return True
        if not self._open(b):
            return False
        if s.phase == PH_IDLE:
            s.phase = PH_LEGACY
            s.css = <uint32_t>(q >> 40) & 0xFF      # CSS counts in the first descriptor (SDM 3.3.3)
        if n and not self._gather(b, addr, n, s.max_frame):
            self._drop(eop)
            return True
        if eop:
            s.phase = PH_IDLE
            if s.have == 0:
                self.empty_frames += 1
                self.cur = NULL
                return True
            if cmd & CMD_IC:                        # IC, IFCS, VLE count in the descriptor with EOP
                self._checksum(self.cur, self.cur, s.have, s.css, 0, <uint32_t>(q >> 16) & 0xFF,
                               False)
            self._emit(b, s.have, cmd & CMD_IFCS, cmd & CMD_VLE, <uint32_t>(q >> 48))
        return True

    cdef bint _data(self, FrameBatch b, uint64_t addr, uint64_t q) noexcept nogil:
        """One TCP/IP data descriptor (SDM 3.3.7). False: paused for room in the batch."""
        cdef tx_state *s = &self.s
        cdef uint32_t n = <uint32_t>q & 0xFFFFF
        cdef uint32_t cmd = <uint32_t>(q >> 24) & 0xFF
        cdef uint32_t popts = <uint32_t>(q >> 40) & 0xFF
        cdef bint eop = cmd & CMD_EOP
        if addr == 0:
            n = 0
        if s.phase == PH_DROP:
            if eop:
                s.phase = PH_IDLE
            return True
        if s.phase == PH_LEGACY:
            self.mixed_drops += 1
            self._drop(eop)
            return True
        if s.phase == PH_TSO or (s.phase == PH_IDLE and cmd & CMD_TSE):
            if s.phase == PH_IDLE:
                self._tso_begin(cmd, popts, <uint32_t>(q >> 48))
            return self._tso(b, addr, n, eop)
        if not self._open(b):
            return False
        if s.phase == PH_IDLE:
            s.phase = PH_DATA
            # POPTS counts in the first descriptor (SDM 3.3.7)
            s.popts = popts
            s.fctx = s.ctx[0]
        if n and not self._gather(b, addr, n, s.max_frame):
            self._drop(eop)
            return True
        if eop:
            s.phase = PH_IDLE
            if s.have == 0:
                self.empty_frames += 1
                self.cur = NULL
                return True
            if s.popts & POPTS_IXSM:
                self._checksum(self.cur, self.cur, s.have, s.fctx.ipcss, s.fctx.ipcse,
                               s.fctx.ipcso, False)
            if s.popts & POPTS_TXSM:
                self._checksum(self.cur, self.cur, s.have, s.fctx.tucss, s.fctx.tucse,
                               s.fctx.tucso, not s.fctx.tucmd & TUCMD_TCP)
            self._emit(b, s.have, cmd & CMD_IFCS, cmd & CMD_VLE, <uint32_t>(q >> 48))
        return True

    cdef uint32_t _burst(self, FrameBatch b, const uint8_t *d, uint8_t *status, uint32_t most,
                         bint all_back) noexcept nogil:
        """Send at most `most` frames of one data descriptor each from the descriptors at `d`;
        return how many. Stops before the first descriptor of another kind, which is untouched.
        `status` is the first one's status byte in the ring; it is written after each frame that
        asks for it, or with `all_back` after all. NULL: the caller writes it."""
        cdef dma_region room
        cdef const uint8_t *src
        cdef uint8_t *p
        cdef uint64_t addr, q
        cdef uint32_t back = CMD_RS | (CMD_RPS if self.rps else 0)
        cdef uint32_t n, cmd, sent = 0
        if not self.dma.t.n:            # memory answers by messages only
            return 0
        room = self.dma.t.regions[self.dma.t.last]
        self.cur = NULL
        while sent < most and b.used < self.stop_bytes:
            addr = ld64le(d)
            q = ld64le(d + 8)
            n = <uint32_t>q & 0xFFFFF
            cmd = <uint32_t>(q >> 24)
            if (q & (<uint64_t>(CMD_DEXT | CMD_EOP | CMD_TSE) << 24 | 0xF00000)
                    != <uint64_t>(CMD_DEXT | CMD_EOP) << 24 | 1 << 20
                    or not addr or n - 1 >= self.s.max_frame):
                break
            src = dma_within(&room, addr, n, DMA_READABLE)
            if src == NULL:
                src = dma_resolve(&self.dma.t, addr, n, False)
                if src == NULL:
                    break
                room = self.dma.t.regions[self.dma.t.last]
            p = fb_reserve(b, TX_MAX_FRAME + 128)
            if p == NULL:
                break
            p += self.front
            _whole(self, p, src, n, <uint32_t>(q >> 40))
            if cmd & CMD_VLE and self.vme:
                self.cur = p
                self._emit(b, n, cmd & CMD_IFCS, True, <uint32_t>(q >> 48))
            else:
                _append(self, b, p, n, cmd & CMD_IFCS)
            if status != NULL:
                if all_back or cmd & back:
                    store_release8(status, (<uint8_t>(q >> 32) & 0xF0) | 1)
                    self.flags = _reported(self.flags, cmd & CMD_IDE != 0)
                status += 16
            d += 16
            sent += 1
        return sent

    cdef void _tso_begin(self, uint32_t dcmd, uint32_t popts, uint32_t special) noexcept nogil:
        """First data descriptor of a segmentation context: freeze the context, check that its
        offsets make sense."""
        cdef tx_state *s = &self.s
        s.phase = PH_TSO
        self.template = self.gso_shape = 0
        s.fctx = s.ctx[1]
        s.dcmd = dcmd
        s.popts = popts
        s.special = special
        s.have = s.hdr_have = s.seg_pay = s.seg_sum = s.seg_index = s.pay_sent = s.desc_off = 0
        s.pay_left = s.fctx.paylen
        s.tso_bad = _tso_cannot(&s.fctx, popts, s.max_frame)

    cdef void _tso_fail(self, FrameBatch b, bint eop) noexcept nogil:
        """End the segmentation context abnormally; segments already sent stay sent (SDM
        3.3.7.1)."""
        if self.sup_max:
            self._super_close(b, False)
        self.tso_fails += 1
        st_add(self.stats.v, ST_TSCTFC, 1)
        self.s.desc_off = 0
        self._drop(eop)

    cdef bint _tso(self, FrameBatch b, uint64_t addr, uint32_t n, bint eop) noexcept nogil:
        """Bytes of one descriptor of a segmentation context. False: paused at a segment's start,
        call again."""
        cdef tx_state *s = &self.s
        cdef uint32_t hdrlen = s.fctx.hdrlen, mss = s.fctx.mss
        cdef uint32_t take, off = s.desc_off, part
        cdef int opened
        cdef uint8_t *src
        cdef uint8_t *dst
        if s.tso_bad:
            self._tso_fail(b, eop)
            return True
        src = dma_resolve(&self.dma.t, addr, n, False) if n else NULL
        while off < n:
            if s.hdr_have < hdrlen:
                take = hdrlen - s.hdr_have
                if take > n - off:
                    take = n - off
                if src != NULL:
                    memcpy(s.hdr + s.hdr_have, src + off, take)
                else:
                    self._fetch(s.hdr + s.hdr_have, addr + off, take)
                s.hdr_have += take
                off += take
                continue
            if s.pay_left == 0:
                s.tso_bad = 1                       # more data than PAYLEN: the context has ended
                break
            if s.seg_pay == 0:
                if not self.sup_max:
                    if b.n >= self.stop_at or b.used >= self.stop_bytes:
                        s.desc_off = off
                        return False
                    opened = self._super_open(b)
                    if opened < 0 or (opened == 0 and not self._open(b)):
                        s.desc_off = off
                        return False
                s.have = hdrlen
            elif not self._open(b):
                s.desc_off = off
                return False
            take = mss - s.seg_pay
            if take > s.pay_left:
                take = s.pay_left
            if take > n - off:
                take = n - off
            dst = self.cur + s.have + self.sup_pay
            if src != NULL:
                if s.popts & POPTS_TXSM and not self.sup_max:
                    part = csum_ptr_copy(dst, src + off, take, 0)
                else:
                    part = 0
                    memcpy(dst, src + off, take)
            else:
                self._fetch(dst, addr + off, take)
                part = 0 if self.sup_max else csum_ptr(dst, take, 0)
            s.seg_sum = fold16(<uint64_t>s.seg_sum + sum_at(fold16(part), s.seg_pay))
            s.seg_pay += take
            s.have += take
            s.pay_left -= take
            off += take
            if s.seg_pay == mss or s.pay_left == 0:
                self._tso_segment(b, s.pay_left == 0)
        if eop and s.seg_pay and not s.tso_bad and not self._open(b):
            s.desc_off = off                        # the open segment may be from an earlier run
            return False
        s.desc_off = 0
        if s.tso_bad:
            self._tso_fail(b, eop)
            return True
        if eop:
            if s.pay_left:
                # fewer bytes than PAYLEN: the gathered bytes are the last segment, and the context
                # has failed
                if s.seg_pay:
                    self._tso_segment(b, True)
                self._tso_fail(b, True)
            else:
                st_add(self.stats.v, ST_TSCTC, 1)
                s.phase = PH_IDLE
        return True

    cdef void _tso_template(self) noexcept nogil:
        """Sum the header once, without the words that change from segment to segment.

        Only when the context has the shape that drivers use; else each segment is summed as it is.
        """
        cdef tx_state *s = &self.s
        cdef tx_context *c = &s.fctx
        cdef uint32_t end = c.hdrlen if c.ipcse == 0 or c.ipcse >= c.hdrlen else c.ipcse + 1
        cdef uint8_t *l4 = s.hdr + c.tucss
        cdef uint32_t first = 0
        self.template = 2
        if c.ipcss + 6 > c.tucss or (s.popts & POPTS_IXSM and c.ipcso + 2 > c.tucss):
            return                                  # rewriting IP would change the transport's sum
        if s.popts & POPTS_IXSM:
            if not c.tucmd & TUCMD_IP or end < c.ipcss + 6:
                return
            first = sum16(s.hdr + c.ipcss, end - c.ipcss)
            first += 0xFFFF - ld16be(s.hdr + c.ipcss + 2) + 0xFFFF - ld16be(s.hdr + c.ipcss + 4)
        self.ip_base = first
        first = sum16(l4, c.hdrlen - c.tucss)
        if c.tucmd & TUCMD_TCP:
            first += 2 * 0xFFFF - ld16be(l4 + 4) - ld16be(l4 + 6) + 0xFFFF - l4[13]
        else:
            first += 0xFFFF - ld16be(l4 + 4)
        self.l4_base = first
        self.template = 1

    cdef void _tso_segment(self, FrameBatch b, bint last) noexcept nogil:
        """Put the header before the open segment's payload, rewrite it (SDM 3.5.6) and send."""
        cdef tx_state *s = &self.s
        cdef tx_context *c = &s.fctx
        cdef uint8_t *p = self.cur
        cdef uint8_t *ip = p + c.ipcss
        cdef uint8_t *th = p + c.tucss
        cdef uint32_t hdrlen = c.hdrlen, l4 = hdrlen - c.tucss, n = l4 + s.seg_pay, seq = 0
        cdef uint64_t acc
        cdef uint16_t check, length, ident = 0
        cdef uint8_t flags = 0
        if self.sup_max:
            self.sup_pay += s.seg_pay
            s.have = s.seg_pay = s.seg_sum = 0
            if last or s.pay_left == 0 or self.sup_pay + c.mss > self.sup_max:
                self._super_close(b, last)
            return
        if self.template == 0:
            self._tso_template()
        copy_bytes(p, s.hdr, hdrlen)
        if c.tucmd & TUCMD_IP:
            length = <uint16_t>(hdrlen - c.ipcss + s.seg_pay)
            ident = <uint16_t>(ld16be(s.hdr + c.ipcss + 4) + s.seg_index)
            st16be(ip + 2, length)
            st16be(ip + 4, ident)
        else:
            # SDM 3.5.9.1 leaves the 40 bytes in; the 82583V's datasheet, 7.3.6.2, takes them off
            length = <uint16_t>(hdrlen - c.ipcss - 40 + s.seg_pay)
            st16be(ip + 4, length)
        if s.popts & POPTS_IXSM:
            if self.template == 1:
                st16be(p + c.ipcso, <uint16_t>~fold16(<uint64_t>self.ip_base + length + ident))
            else:
                self._checksum(p, p, hdrlen, c.ipcss, c.ipcse if c.ipcse else hdrlen - 1, c.ipcso,
                               False)
        if c.tucmd & TUCMD_TCP:
            seq = ld32be(s.hdr + c.tucss + 4) + s.pay_sent
            flags = s.hdr[c.tucss + 13] if self.template == 1 else th[13]
            if not last:
                flags &= ~(TCP_FIN | TCP_PSH) & 0xFF
            if s.seg_index:
                flags &= ~TCP_CWR & 0xFF            # RFC 3168 6.1.2: on the first new segment only
            st32be(th + 4, seq)
            th[13] = flags
        else:
            st16be(th + 4, <uint16_t>n)
        if s.popts & POPTS_TXSM:
            # software seeded the field with the pseudo header without length (SDM 3.5.5)
            acc = <uint64_t>sum_at(s.seg_sum, l4) + n
            if self.template != 1:
                acc += sum16(th, l4)
            elif c.tucmd & TUCMD_TCP:
                acc += <uint64_t>self.l4_base + (seq >> 16) + (seq & 0xFFFF) + flags
            else:
                acc += <uint64_t>self.l4_base + <uint16_t>n
            check = <uint16_t>~fold16(acc)
            if check == 0 and not c.tucmd & TUCMD_TCP:
                check = 0xFFFF
            st16be(p + c.tucso, check)
        s.pay_sent += s.seg_pay
        s.seg_index += 1
        n = s.have
        s.seg_pay = s.seg_sum = 0
        self._emit(b, n, s.dcmd & CMD_IFCS, s.dcmd & CMD_VLE, s.special)

    cdef bint _gso_fit(self) noexcept nogil:
        """Whether the context's segments are what a link makes of a super-frame, byte for byte.

        Plain TCP or (`gso_udp`) UDP in plain IP, told to the device as every driver does: both
        checks inserted, the one of TCP or UDP seeded with the pseudo header. Anything else is cut
        here.
        """
        cdef tx_state *s = &self.s
        cdef tx_context *c = &s.fctx
        cdef const uint8_t *ip = s.hdr + c.ipcss
        cdef const uint8_t *th = s.hdr + c.tucss
        cdef uint32_t l3len = <uint32_t>c.tucss - c.ipcss, seed, pseudo
        cdef uint8_t proto = PROTO_TCP if c.tucmd & TUCMD_TCP else PROTO_UDP
        if (not s.popts & POPTS_TXSM or not s.dcmd & CMD_IFCS
                or (s.dcmd & CMD_VLE and self.vme) or c.ipcss != 14 or c.tucss < 34):
            return False
        if proto == PROTO_UDP:
            if not self.gso_udp or c.tucso != c.tucss + 6 or c.hdrlen != c.tucss + 8:
                return False
        elif (c.tucso != c.tucss + 16 or (th[12] >> 4) * 4U != <uint32_t>c.hdrlen - c.tucss
                or th[13] & (TCP_SYN | TCP_RST | TCP_URG)):
            return False
        if c.tucmd & TUCMD_IP:
            if (ld16be(s.hdr + 12) != 0x0800 or ip[0] != 0x40 + l3len // 4 or l3len & 3
                    or l3len > 60 or ip[9] != proto or ld16be(ip + 6) & 0x3FFF
                    or ld16be(ip + 10) or not s.popts & POPTS_IXSM or c.ipcso != c.ipcss + 10
                    or c.ipcse + 1 != c.tucss):
                return False
            pseudo = sum16(ip + 12, 8)
        else:
            if (ld16be(s.hdr + 12) != 0x86DD or ip[0] >> 4 != 6 or l3len != 40
                    or ip[6] != proto or s.popts & POPTS_IXSM):
                return False
            pseudo = sum16(ip + 8, 32)
        seed = ld16be(s.hdr + c.tucso)
        return fold16(pseudo + proto) == (seed if seed else 0xFFFF)

    cdef int _super_open(self, FrameBatch b) noexcept nogil:
        """Begin a super-frame: 1. 0: link or context do not allow one; -1: enough for this run."""
        cdef tx_state *s = &self.s
        cdef uint32_t headers = s.fctx.hdrlen - <uint32_t>s.fctx.ipcss, room, mss = s.fctx.mss
        cdef uint8_t *p
        if (self.gso_max_bytes == 0 or self.gso_shape == 2 or s.pay_left <= mss
                or self.buffer.exact):     # each segment must leave its bytes in the FIFO
            return 0
        if self.gso_shape == 0:
            self.gso_shape = 1 if self._gso_fit() else 2
            if self.gso_shape == 2:
                return 0
        room = self.gso_max_bytes if self.gso_max_bytes < GSO_IP_MAX else GSO_IP_MAX
        room = (room - headers) // mss * mss if room > headers else 0
        if not s.fctx.tucmd & TUCMD_TCP and room > GSO_UDP_SEGMENTS * mss:
            room = GSO_UDP_SEGMENTS * mss
        if room < 2 * mss:
            return 0
        if b.used > self.used_before + GSO_RUN_BYTES:
            return -1
        p = fb_reserve(b, self.front + s.fctx.hdrlen + (room if room < s.pay_left else s.pay_left)
                       + 128)
        if p == NULL:
            return 0
        self.cur = p + self.front
        self.sup_max = room
        return 1

    cdef void _super_close(self, FrameBatch b, bint last) noexcept nogil:
        """Put the header before the whole segments gathered, and send them as one frame.

        The open segment stays as it is.
        """
        cdef tx_state *s = &self.s
        cdef tx_context *c = &s.fctx
        cdef uint8_t *p = self.cur
        cdef uint8_t *ip = p + c.ipcss
        cdef uint8_t *th = p + c.tucss
        cdef uint32_t hdrlen = c.hdrlen, total = self.sup_pay, mss = c.mss, size, whole
        cdef uint32_t have = s.have, seg_pay = s.seg_pay, seg_sum = s.seg_sum
        cdef frame_meta *m
        self.sup_max = self.sup_pay = 0
        if total <= mss:                            # one segment, or none: a plain frame
            if total:
                s.have = hdrlen + total
                s.seg_pay = total
                s.seg_sum = fold16(csum_ptr(p + hdrlen, total, 0))
                self._tso_segment(b, last)
                s.have, s.seg_pay, s.seg_sum = have, seg_pay, seg_sum
            self.cur = NULL
            return
        copy_bytes(p, s.hdr, hdrlen)
        size = hdrlen - c.ipcss + total
        if c.tucmd & TUCMD_IP:
            st16be(ip + 2, <uint16_t>size)
            st16be(ip + 4, <uint16_t>(ld16be(ip + 4) + s.seg_index))
            st16be(ip + 10, <uint16_t>~sum16(ip, c.tucss - <uint32_t>c.ipcss))
        else:
            st16be(ip + 4, <uint16_t>(size - 40))
        if c.tucmd & TUCMD_TCP:
            st32be(th + 4, ld32be(th + 4) + s.pay_sent)
            if not last:
                th[13] &= ~(TCP_FIN | TCP_PSH) & 0xFF
            if s.seg_index:
                th[13] &= ~TCP_CWR & 0xFF           # RFC 3168 6.1.2: on the first new segment only
        else:
            st16be(th + 4, <uint16_t>(8 + total))
        st16be(p + c.tucso, <uint16_t>fold16(ld16be(p + c.tucso) + hdrlen - c.tucss + total))
        m = &b.f[b.n]
        m.off = <uint32_t>(p - b.arena)
        m.len = hdrlen + total
        if not c.tucmd & TUCMD_TCP:
            m.flags = FB_GSO_UDP
        else:
            m.flags = FB_GSO_TCPV4 if c.tucmd & TUCMD_IP else FB_GSO_TCPV6
        m.mark = fb_gso_mark(mss, hdrlen, c.tucss)
        m.tstamp_ns = 0
        b.used = (m.off + m.len + 63) & ~<size_t>63
        b.n += 1
        self.cur = NULL
        whole = total // mss
        s.pay_sent += total
        s.seg_index += whole
        self._count_cut(p, hdrlen + mss, whole)
        if total % mss:
            s.seg_index += 1
            self._count_cut(p, hdrlen + total % mss, 1)

    cdef void _count_cut(self, const uint8_t *p, uint32_t n, uint32_t frames) noexcept nogil:
        """Count segments of `n` bytes, padded and with FCS as they are on the wire."""
        if n < 60 and self.pad:
            n = 60
        self.passed += pb_words(n) * frames
        if not self.uncounted:
            _count(self, p, n + 4, frames)

    def state(self):
        """State of the queue beside its registers, field by field (`tx_state`), the bytes of
        the unfinished frame as `partial`, and the descriptors that were fetched as `chip`."""
        cdef uint32_t have = self.s.have if self.s.phase != PH_IDLE else 0
        cdef dict state = self.s
        state["hdr"] = (<char *>self.s.hdr)[:sizeof(self.s.hdr)]
        state["partial"] = (<char *>self.partial)[:have]
        state["chip"] = dc_bytes(&self.chip)
        return state

    def load(self, dict state not None):
        """Restore what `state` gave; a field that is missing is as now, one too many is ignored.

        Raises: ValueError, IndexError, OverflowError or TypeError for impossible values."""
        cdef tx_state s
        cdef bytes partial, chip
        cdef dict fields = self.state()
        if self.running:
            raise BufferError("TxEngine: the engine is running")
        fields["partial"] = fields["chip"] = b""
        fields.update({name: value for name, value in state.items() if name in fields})
        partial = fields.pop("partial")
        chip = fields.pop("chip")
        fields["hdr"] = list(<bytes?>fields["hdr"])
        s = fields
        if s.phase == PH_IDLE or s.phase == PH_DROP:
            s.have = 0
        if s.owed & 0xFFFF > WTHRESH_MAX:
            s.owed = 0
        if s.phase != PH_TSO:
            s.desc_off = 0
        if (s.phase > PH_DROP or s.max_frame > TX_MAX_FRAME or s.have > TX_MAX_FRAME
                or <uint32_t>len(partial) != s.have
                or (s.phase == PH_TSO and not _tso_plausible(&s))):
            raise ValueError("TxEngine.load: inconsistent state")
        dc_load(&self.chip, chip)
        self.s = s
        self.template = self.gso_shape = 0
        memcpy(self.partial, <const char *>partial, s.have)
        self._begun()

    @property
    def max_frame(self):
        """Longest frame that is sent, in bytes without FCS."""
        return self.s.max_frame

    @max_frame.setter
    def max_frame(self, uint32_t value):
        if not 60 <= value <= TX_MAX_FRAME:
            raise ValueError(f"TxEngine.max_frame: {value} is not in 60..{TX_MAX_FRAME}")
        self.s.max_frame = value


cdef inline void _count(TxEngine self, const uint8_t *p, uint32_t wire,
                        uint32_t frames) noexcept nogil:
    """Count `frames` frames of `wire` bytes each, FCS included, with the addresses at `p`."""
    self.acc.total += <uint64_t>wire * frames
    if wire >= 64:          # TPT and GPTC count packets of 64 bytes or more (SDM 13.7, p351)
        self.acc.frames += frames
        self.acc.bytes += <uint64_t>wire * frames
        self.acc.bucket[st_bucket(wire)] += frames
        if p[0] & 1:
            if p[0] & p[1] & p[2] & p[3] & p[4] & p[5] == 0xFF:
                self.acc.bcast += frames
            else:
                self.acc.mcast += frames


cdef inline void _append(TxEngine self, FrameBatch b, uint8_t *p, uint32_t n,
                         bint ifcs) noexcept nogil:
    """Make the `n` bytes at `p`, behind the batch's last frame, its next: padding, FCS mark,
    statistics."""
    cdef frame_meta *m = &b.f[b.n]
    if ifcs and n < 60 and self.pad:
        memset(p + n, 0, 60 - n)
        n = 60
    m.off = <uint32_t>(p - b.arena)
    m.len = n
    m.flags = 0 if ifcs else FB_HAS_FCS
    m.mark = 0
    m.tstamp_ns = 0
    b.used = (m.off + n + 63) & ~<size_t>63
    b.n += 1
    if self.record:
        self._record(p, n)
    self.passed += pb_words(n)
    if not self.uncounted:
        _count(self, p, n + (4 if ifcs else 0), 1)


cdef void _whole(TxEngine self, uint8_t *p, const uint8_t *src, uint32_t n,
                 uint32_t popts) noexcept nogil:
    """Copy a frame to `p` and insert its checks, in one pass where the ranges allow."""
    cdef tx_context *c = &self.s.ctx[0]
    cdef uint32_t css = c.tucss
    cdef uint64_t acc = 0
    cdef bint udp = not c.tucmd & TUCMD_TCP, fused
    if popts & POPTS_TXSM and popts & POPTS_IXSM and c.ipcso + 2 > css:
        # the IP check lands in what the second sum covers: one after the other
        memcpy(p, src, n)
        self._checksum(p, p, n, c.ipcss, c.ipcse, c.ipcso, False)
        self._checksum(p, p, n, css, c.tucse, c.tucso, udp)
        return
    fused = popts & POPTS_TXSM and n > SMALL and css < n and c.tucse == 0 and c.tucso + 2 <= n
    if fused:
        # Sum the whole frame while copying, since it most likely lies in whole cache lines; then
        # take off the bytes before the range.
        acc = raw16(fold16(csum_ptr_copy(p, src, n, 0)))
        acc = sum_at(sum_host(sum_less(acc, sum_raw(src, css))), css)
        if acc == 0xFFFF:                       # or 0, when all bytes are 0: sum again
            acc = fold16(csum_ptr(src + css, n - css, 0))
    else:
        copy_bytes(p, src, n)
    if popts & POPTS_IXSM:
        self._checksum(p, src, n, c.ipcss, c.ipcse, c.ipcso, False)
    if fused:
        st16be(p + c.tucso, 0xFFFF if udp and acc == 0xFFFF else <uint16_t>~acc)
    elif popts & POPTS_TXSM:
        self._checksum(p, src, n, css, c.tucse, c.tucso, udp)


cdef void _load_context(tx_context *c, uint64_t a, uint64_t q) noexcept nogil:
    """TCP/IP context descriptor (SDM 3.3.6)."""
    c.ipcss = a & 0xFF
    c.ipcso = a >> 8 & 0xFF
    c.ipcse = a >> 16 & 0xFFFF
    c.tucss = a >> 32 & 0xFF
    c.tucso = a >> 40 & 0xFF
    c.tucse = a >> 48 & 0xFFFF
    c.paylen = q & 0xFFFFF
    c.tucmd = q >> 24 & 0xFF
    c.hdrlen = q >> 40 & 0xFF
    c.mss = q >> 48 & 0xFFFF


cdef bint _tso_cannot(const tx_context *c, uint32_t popts, uint32_t max_frame) noexcept nogil:
    """Whether a context cannot be segmented: its header is shorter than the fields to rewrite,
    there is no payload, or a segment exceeds the frame limit."""
    cdef uint32_t need_ip = c.ipcss + (20 if c.tucmd & TUCMD_IP else 40)
    cdef uint32_t need_l4 = c.tucss + (20 if c.tucmd & TUCMD_TCP else 8)
    return (c.mss == 0 or c.paylen == 0 or c.hdrlen < need_ip or c.hdrlen < need_l4
            or <uint32_t>c.hdrlen + c.mss > max_frame
            or (popts & POPTS_IXSM and c.ipcso + 2 > c.hdrlen)
            or (popts & POPTS_TXSM and c.tucso + 2 > c.hdrlen))


cdef bint _tso_plausible(const tx_state *s) noexcept nogil:
    """Whether a loaded state has what `_tso` relies on between calls."""
    cdef const tx_context *c = &s.fctx
    return s.tso_bad or (
        s.hdr_have <= c.hdrlen and s.desc_off <= 0xFFFFF
        and not _tso_cannot(c, s.popts, s.max_frame) and s.seg_pay < c.mss
        and s.have == (c.hdrlen + s.seg_pay if s.seg_pay else 0))
