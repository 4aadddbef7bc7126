# cython: language_level=3, overflowcheck=False
"""Address and VLAN filters of the receiver as one C struct."""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpath.base.bytes cimport ld16be, ld64le
from fastpath.nic.e1000_hw cimport (
    RCTL_BAM, RCTL_CFI, RCTL_CFIEN, RCTL_MPE, RCTL_UPE, RCTL_VFE,
)
from fastpath.nic.regfile cimport RegFile

cpdef enum:
    ACCEPT = 1
    PIF = 2                     # passed by an inexact filter only: software must look
    BROADCAST = 4
    MULTICAST = 8
    VLAN = 16                   # EtherType is VET

# What is made of the registers for each frame.
cdef struct rx_filter:
    uint64_t exact[16]          # valid destination addresses, first byte in the low bits
    uint64_t source[16]
    int n_exact
    int n_source
    const uint32_t *mta         # the registers themselves
    const uint32_t *vfta

cdef inline int rxf_verdict(const rx_filter *f, const uint8_t *p, uint32_t rctl,
                            uint32_t vet) noexcept nogil:
    """Judge the first 18 bytes of a frame (SDM 13.4.22, 13.5.1, 13.5.3, 13.5.4, 9.3). 18 bytes must
    be readable."""
    cdef uint64_t da = ld64le(p) & 0xFFFFFFFFFFFFU
    cdef uint64_t sa
    cdef uint32_t h, tci
    cdef int i, out = 0
    for i in range(f.n_exact):
        if f.exact[i] == da:
            out = ACCEPT
            break
    if da & 1:
        if da == 0xFFFFFFFFFFFFU:
            if rctl & RCTL_BAM:
                out = ACCEPT
            out |= BROADCAST
        else:
            out |= MULTICAST
        if not out & ACCEPT:
            if rctl & RCTL_MPE:
                out |= ACCEPT | PIF
            else:
                # RCTL.MO picks bits 47:36, 46:35, 45:34 or 43:32 of the address
                i = (rctl >> 12) & 3
                h = (<uint32_t>(da >> 32) >> (4 - i - (1 if i == 3 else 0))) & 0xFFF
                if f.mta[h >> 5] >> (h & 31) & 1:
                    out |= ACCEPT | PIF
    elif not out and rctl & RCTL_UPE:
        out = ACCEPT | PIF
    if not out & ACCEPT:
        if f.n_source == 0:
            return out
        sa = ld64le(p + 6) & 0xFFFFFFFFFFFFU
        for i in range(f.n_source):
            if f.source[i] == sa:
                out |= ACCEPT
                break
        if not out & ACCEPT:
            return out
    if ld16be(p + 12) == vet:
        out |= VLAN
        tci = ld16be(p + 14)
        if rctl & RCTL_VFE and not f.vfta[(tci >> 5) & 0x7F] >> (tci & 31) & 1:
            return out & ~ACCEPT
        if rctl & RCTL_CFIEN and (tci >> 12 & 1) != (1 if rctl & RCTL_CFI else 0):
            return out & ~ACCEPT
    return out


# The same, with a short way for what most frames are: untagged, to the first station address.
cdef inline int rxf_quick(const rx_filter *f, const uint8_t *p, uint32_t rctl,
                          uint32_t vet) noexcept nogil:
    if (f.n_exact and (ld64le(p) ^ f.exact[0]) << 16 == 0 and not p[0] & 1
            and ld16be(p + 12) != vet):
        return ACCEPT
    return rxf_verdict(f, p, rctl, vet)


@cython.final
cdef class RxFilter:
    cdef rx_filter f
    cdef readonly RegFile regs
    cdef uint32_t seen          # `regs.changes` when `f` was made
    cdef int n
    cdef void _decode(self) noexcept nogil
    cdef inline rx_filter *now(self) noexcept nogil:
        """The filter by the registers as they are."""
        if self.seen != self.regs.changes:
            self._decode()
        return &self.f
