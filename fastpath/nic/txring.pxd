# cython: language_level=3
"""Transmit ring engine: what one queue remembers, as plain memory."""

cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.base.batch cimport FrameBatch
from fastpath.nic.pktbuf cimport pb_fifo
from fastpath.nic.ring cimport DescriptorRing

cpdef enum:
    TXDW = 0x1
    TXQE = 0x2
    TXD_LOW = 0x8000
    RUN_DELAYED = 0x1000000
    RUN_MORE = 0x2000000
    RUN_ABORT = 0x4000000
    RUN_DATA_ABORT = 0x8000000
    RUN_OFF = 0x10000000

cdef enum:
    TX_ALL = 1 << 16            # more descriptors than any ring has between head and tail
    TX_MAX_FRAME = 16384        # bytes without FCS
    TX_OWED_NOW = 0x10000

cdef struct tx_context:
    uint8_t ipcss, ipcso, tucss, tucso
    uint16_t ipcse, tucse
    uint32_t paylen
    uint16_t mss
    uint8_t hdrlen
    uint8_t tucmd

# State of a queue beside its registers.
cdef struct tx_state:
    uint32_t max_frame          # bytes without FCS, from the FIFO's size at the last reset (PBA)
    tx_context ctx[2]           # [0] normal, [1] TCP segmentation
    # the frame between its first descriptor and EOP
    uint32_t phase              # PH_*
    # bytes gathered (PH_LEGACY, PH_DATA); bytes of the open segment (PH_TSO)
    uint32_t have
    uint32_t css                # legacy: CSS of the first descriptor
    uint32_t popts              # POPTS of the first descriptor
    uint32_t dcmd               # TSO: DCMD of the first descriptor (IFCS, VLE)
    uint32_t special            # TSO: VLAN tag of the first descriptor
    tx_context fctx             # context as it was at the first descriptor
    uint32_t desc_off           # TSO: bytes of the descriptor at head that are already taken
    uint32_t hdr_have           # TSO: header bytes gathered
    uint32_t seg_pay            # TSO: payload bytes in the open segment
    uint32_t seg_sum            # TSO: their sum
    uint32_t seg_index
    uint32_t pay_sent           # TSO: payload bytes in finished segments
    uint32_t pay_left           # TSO: payload bytes of PAYLEN still to come
    uint32_t tso_bad            # TSO: terminated abnormally
    uint8_t hdr[256]
    # done descriptors before head that WTHRESH holds; TX_OWED_NOW: one of them interrupts
    # without delay
    uint32_t owed

# What one run of the engine may use.
cdef struct tx_budget:
    int frames                  # at most so many go to the batch
    uint32_t descs              # at most so many descriptors are used
    int end                     # descriptors up to here can be read; -1: all up to the tail
    size_t nbytes               # the run pauses when it has put so many into the batch; 0: no limit

# A budget of `frames`, with no other limit.
cdef inline tx_budget tx_budget_of(int frames) noexcept nogil:
    cdef tx_budget budget
    budget.frames = frames
    budget.descs = TX_ALL
    budget.end = -1
    budget.nbytes = 0
    return budget

cdef struct tx_acc:
    uint64_t frames, bytes, total, mcast, bcast
    uint64_t bucket[6]


@cython.final
cdef class TxEngine(DescriptorRing):
    cdef tx_state s
    cdef uint8_t *partial       # bytes of the unfinished frame between runs
    cdef pb_fifo *fifo          # its transmit FIFO
    cdef public uint64_t mixed_drops, oversize_drops, tso_fails, empty_frames, csum_skips
    cdef public uint32_t low_cause
    cdef public bint rps        # 82544: RPS reports status as RS does
    cdef public bint uncounted  # `count` counts frames, once the wire has taken them
    # derived from hdr and fctx: header sums of the running segmentation context
    cdef int template           # 0 not yet, 1 in ip_base and l4_base, 2 sum each segment
    cdef uint32_t ip_base, l4_base
    # decoded registers, valid while `regs.changes` equals `seen`
    cdef uint32_t tctl, txdctl, vet
    cdef bint vme, pad          # CTRL.VME, TCTL.PSP
    cdef uint32_t front         # bytes kept free before a frame for a VLAN tag
    # valid inside one run only
    cdef uint8_t *cur           # where the open frame is being put together (in the batch's arena)
    cdef uint32_t flags
    cdef int stop_at            # frames in the batch at which the run pauses
    cdef tx_acc acc
    cdef uint32_t passed        # words of sent frames, still to be passed to `pb_pass`
    cdef int record             # how many more frames leave their bytes in the FIFO
    cdef int _pending(self) noexcept nogil
    cdef void _decode(self) noexcept nogil
    cdef uint32_t _run(self, FrameBatch b, const tx_budget *budget) noexcept nogil
    cdef uint32_t _fill(self) noexcept nogil
    cdef uint32_t _repay(self, uint32_t head) noexcept nogil
    cdef bint _open(self, FrameBatch b) noexcept nogil
    cdef void _emit(self, FrameBatch b, uint32_t n, bint ifcs, bint vle,
                    uint32_t special) noexcept nogil
    cdef void _record(self, const uint8_t *p, uint32_t n) noexcept nogil
    cdef int _fetch(self, uint8_t *dst, uint64_t addr, uint32_t n) noexcept nogil
    cdef bint _legacy(self, FrameBatch b, uint64_t addr, uint64_t q) noexcept nogil
    cdef bint _data(self, FrameBatch b, uint64_t addr, uint64_t q) noexcept nogil
    cdef bint _gather(self, FrameBatch b, uint64_t addr, uint32_t n,
                      uint32_t max_frame) noexcept nogil
    cdef uint32_t _burst(self, FrameBatch b, const uint8_t *d, uint8_t *status, uint32_t most,
                         bint all_back) noexcept nogil
    cdef void _checksum(self, uint8_t *p, const uint8_t *src, uint32_t n, uint32_t css,
                        uint32_t cse, uint32_t cso, bint udp) noexcept nogil
    cdef void _drop(self, bint eop) noexcept nogil
    cdef void _tso_begin(self, uint32_t dcmd, uint32_t popts, uint32_t special) noexcept nogil
    cdef bint _tso(self, FrameBatch b, uint64_t addr, uint32_t n, bint eop) noexcept nogil
    cdef void _tso_segment(self, FrameBatch b, bint last) noexcept nogil
    cdef void _tso_template(self) noexcept nogil
    cdef void _tso_fail(self, FrameBatch b, bint eop) noexcept nogil
    cdef void _flush(self) noexcept nogil
    cdef void _begun(self) noexcept nogil
    # Super-frames: a segmentation context as one frame, which the link segments.
    cdef public uint32_t gso_max_bytes  # IP bytes of the longest one the link takes; 0 = none
    cdef public bint gso_udp    # the link takes UDP too
    cdef size_t stop_bytes      # bytes in the batch at which this run pauses
    cdef int gso_shape          # running context: 0 not examined yet, 1 fit, 2 unfit
    cdef uint32_t sup_max       # most payload bytes of the open super-frame; 0 = none is open
    cdef uint32_t sup_pay       # payload bytes in its whole segments
    cdef size_t used_before     # bytes in the batch before this run
    cdef void _count_cut(self, const uint8_t *p, uint32_t n, uint32_t frames) noexcept nogil
    cdef bint _gso_fit(self) noexcept nogil
    cdef int _super_open(self, FrameBatch b) noexcept nogil
    cdef void _super_close(self, FrameBatch b, bint last) noexcept nogil
