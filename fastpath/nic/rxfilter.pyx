# cython: language_level=3, embedsignature=True
"""Address and VLAN filters of the receiver: RAL/RAH, MTA and VFTA (SDM 13.5.1-13.5.4).

The tables are read in place in the register file. Valid addresses are copied into two lists, which
are made again when a register changes, so that a frame is compared with valid addresses only
(usually one).
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastpath.nic.e1000_hw cimport ENGINE_REGISTERS, MTA, RAL, VFTA
from fastpath.nic.regfile cimport RegFile

cdef enum:
    RAH_AV = 0x80000000U
    ENTRIES = 16


cdef class RxFilter:
    """Address and VLAN filters (SDM 13.4.22 RCTL, 13.5.1-13.5.4) by RAL/RAH 0..15, MTA and VFTA as
    they stand in `regs`; a change acts from the next engine run on. Host's lock held."""

    def __cinit__(self, RegFile regs not None):
        regs.need(ENGINE_REGISTERS)
        self.regs = regs
        self.n = ENTRIES
        self.f.mta = regs.v + (MTA >> 2)
        self.f.vfta = regs.v + (VFTA >> 2)
        self._decode()

    cdef void _decode(self) noexcept nogil:
        cdef const uint32_t *entry = self.regs.v + (RAL >> 2)
        cdef uint64_t addr
        cdef int _i
        self.seen = self.regs.changes
        self.f.n_exact = 0
        self.f.n_source = 0
        for _i in range(self.n):
            if entry[1] & RAH_AV:
                addr = <uint64_t>(entry[1] & 0xFFFF) << 32 | entry[0]
                # AS=01: match the source address; 10 and 11 are reserved
                if entry[1] >> 16 & 3 == 0:
                    self.f.exact[self.f.n_exact] = addr
                    self.f.n_exact += 1
                elif entry[1] >> 16 & 3 == 1:
                    self.f.source[self.f.n_source] = addr
                    self.f.n_source += 1
            entry += 2

    @property
    def n_rar(self):
        """Receive address entries that exist."""
        return self.n

    @n_rar.setter
    def n_rar(self, int value):
        if not 1 <= value <= ENTRIES:
            raise ValueError(f"RxFilter.n_rar: {value} is not in 1..{ENTRIES}")
        self.n = value
        self._decode()

    def verdict(self, frame, uint32_t rctl, uint32_t vet=0x8100):
        """ACCEPT | PIF | BROADCAST | MULTICAST | VLAN of one frame; under 14 bytes: 0."""
        cdef uint8_t head[24]
        cdef bytes first = bytes(frame[:18])
        if len(first) < 14:
            return 0
        memset(head, 0, sizeof(head))
        memcpy(head, <const char *>first, len(first))
        return rxf_verdict(self.now(), head, rctl, vet)
