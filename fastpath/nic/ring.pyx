# cython: language_level=3, embedsignature=True
"""A ring of descriptors in host memory: what the transmit and the receive engine have alike.

Base address, length, head and tail of a ring are five registers, which stand alike from TDBAL and
from RDBAL on (SDM 13.4.25 to 29, 13.4.36 to 40). Descriptors are fetched into a cache on the chip
(`fastpath.nic.desccache`) and written back at once or, with WTHRESH, several at a time.

The engines derive from `DescriptorRing`; their twins have these few properties themselves.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpath.base.dma cimport DmaTable, dma_report
from fastpath.nic.e1000_hw cimport MIN_RING, TDBAH, TDBAL, TDH, TDLEN, TDT
from fastpath.nic.pktbuf cimport PacketBuffer
from fastpath.nic.regfile cimport RegFile, Stats

cdef enum:
    BASE_HIGH = (TDBAH - TDBAL) >> 2
    LENGTH = (TDLEN - TDBAL) >> 2
    HEAD = (TDH - TDBAL) >> 2
    TAIL = (TDT - TDBAL) >> 2


cdef class DescriptorRing:
    """One queue's ring, which both engines have; its registers are in the register file."""

    cdef int _use(self, DmaTable dma, Stats stats, RegFile regs, uint32_t first,
                  PacketBuffer buffer) except -1:
        """Take what the queue works with; `first` is the offset of its register for the base."""
        self.dma = dma
        self.stats = stats
        self.regs = regs
        self.v = regs.v
        self.at = regs.v + (first >> 2)
        self.buffer = PacketBuffer() if buffer is None else buffer
        self.seen = regs.changes - 1
        return 0

    cdef uint64_t _base(self) noexcept nogil:
        return <uint64_t>self.at[BASE_HIGH] << 32 | self.at[0] & ~<uint32_t>15

    cdef int _write_back(self, uint32_t head, uint32_t owed, uint8_t keep) noexcept nogil:
        """Set DD in the `owed` descriptors before `head`, the oldest first, whose other bits of the
        status byte are kept where `keep` has ones: 1. 0: that is not possible now; -1: a master
        abort."""
        cdef uint32_t n = self.at[LENGTH] >> 4
        if not owed or n < MIN_RING or head >= n or not self.dma.t.enabled:
            return 0
        # WTHRESH may exceed the ring, which has been used more than once then.
        if dma_report(&self.dma.t, self._base() ^ self.misdirect, n, head, min(owed, n), keep):
            self.desc_aborts += 1
            return -1
        return 1

    def drop(self):
        """Forget, for a fault, the fetched descriptors: the next run fetches them again."""
        self.chip.have = 0

    def cached(self):
        """Descriptors that were fetched and are not used yet."""
        return self.chip.have

    @property
    def base(self):
        """TDBAH:TDBAL or RDBAH:RDBAL, bits 3:0 being 0: where the ring begins."""
        return self._base()

    @property
    def len(self):
        """TDLEN or RDLEN, bytes."""
        return self.at[LENGTH]

    @property
    def head(self):
        """TDH or RDH."""
        return self.at[HEAD]

    @property
    def tail(self):
        """TDT or RDT."""
        return self.at[TAIL]
