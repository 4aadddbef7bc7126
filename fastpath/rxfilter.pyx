# cython: language_level=3, embedsignature=True
"""Address and VLAN filters of the receiver: RAL/RAH, MTA and VFTA (SDM 13.5.1-13.5.4).

The registers' words are kept as written; valid addresses are compressed into two lists, so that a
frame is compared with what is valid only (usually one address).
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

cdef enum:
    RAH_AV = 0x80000000U
    STATE_WORDS = 16 + 16 + 128 + 128


cdef class RxFilter:
    """Filters of one receiver. Call with the host's lock held; a change acts from the next frame
    on."""

    def __cinit__(self):
        self.f.n_rar = 16

    cdef void _rebuild(self) noexcept nogil:
        cdef int i
        cdef uint64_t addr
        self.f.n_exact = 0
        self.f.n_source = 0
        for i in range(self.f.n_rar):
            if not self.f.rah[i] & RAH_AV:
                continue
            addr = <uint64_t>(self.f.rah[i] & 0xFFFF) << 32 | self.f.ral[i]
            if self.f.rah[i] >> 16 & 3 == 0:
                self.f.exact[self.f.n_exact] = addr
                self.f.n_exact += 1
            # AS=01: match the source address; 10 and 11 are reserved
            elif self.f.rah[i] >> 16 & 3 == 1:
                self.f.source[self.f.n_source] = addr
                self.f.n_source += 1

    @property
    def n_rar(self):
        """Receive address entries that exist."""
        return self.f.n_rar

    @n_rar.setter
    def n_rar(self, int value):
        if not 1 <= value <= 16:
            raise ValueError(f"RxFilter.n_rar: {value} is not in 1..16")
        self.f.n_rar = value
        self._rebuild()

    def set_ral(self, int i, uint32_t value):
        """Receive Address Low `i`."""
        if not 0 <= i < 16:
            raise IndexError(f"RxFilter: receive address {i} is not in 0..15")
        self.f.ral[i] = value
        self._rebuild()

    def set_rah(self, int i, uint32_t value):
        """Receive Address High `i`: bits 15:0 address, 17:16 AS, 31 AV."""
        if not 0 <= i < 16:
            raise IndexError(f"RxFilter: receive address {i} is not in 0..15")
        self.f.rah[i] = value
        self._rebuild()

    def set_mta(self, int i, uint32_t value):
        """Word `i` of the multicast hash."""
        if not 0 <= i < 128:
            raise IndexError(f"RxFilter: MTA word {i} is not in 0..127")
        self.f.mta[i] = value

    def set_vfta(self, int i, uint32_t value):
        """Word `i` of the VLAN filter table."""
        if not 0 <= i < 128:
            raise IndexError(f"RxFilter: VFTA word {i} is not in 0..127")
        self.f.vfta[i] = value

    def ral(self, int i):
        """Receive Address Low `i`."""
        if not 0 <= i < 16:
            raise IndexError(f"RxFilter: receive address {i} is not in 0..15")
        return self.f.ral[i]

    def rah(self, int i):
        """Receive Address High `i`."""
        if not 0 <= i < 16:
            raise IndexError(f"RxFilter: receive address {i} is not in 0..15")
        return self.f.rah[i]

    def mta(self, int i):
        """Word `i` of the multicast hash."""
        if not 0 <= i < 128:
            raise IndexError(f"RxFilter: MTA word {i} is not in 0..127")
        return self.f.mta[i]

    def vfta(self, int i):
        """Word `i` of the VLAN filter table."""
        if not 0 <= i < 128:
            raise IndexError(f"RxFilter: VFTA word {i} is not in 0..127")
        return self.f.vfta[i]

    def verdict(self, frame, uint32_t rctl, uint32_t vet=0x8100):
        """ACCEPT | PIF | BROADCAST | MULTICAST | VLAN of one frame; under 14 bytes: 0."""
        cdef uint8_t head[24]
        cdef bytes first = bytes(frame[:18])
        if len(first) < 14:
            return 0
        memset(head, 0, sizeof(head))
        memcpy(head, <const char *>first, len(first))
        return rxf_verdict(&self.f, head, rctl, vet)

    def clear_valid(self):
        """Clear every RAH.AV (CTRL.RST)."""
        cdef int i
        for i in range(16):
            self.f.rah[i] &= 0x7FFFFFFFU
        self._rebuild()

    def reset(self):
        """Power-on: everything zero."""
        cdef int n = self.f.n_rar
        memset(&self.f, 0, sizeof(self.f))
        self.f.n_rar = n

    def state(self):
        """RAL, RAH, MTA, VFTA words as bytes in host order."""
        return ((<char *>self.f.ral)[:64] + (<char *>self.f.rah)[:64] + (<char *>self.f.mta)[:512]
                + (<char *>self.f.vfta)[:512])

    def load(self, bytes data not None):
        """Restore what `state` gave. ValueError: wrong size."""
        cdef const char *p = data
        if len(data) != STATE_WORDS * 4:
            raise ValueError(f"RxFilter.load: {len(data)} bytes, need {STATE_WORDS * 4}")
        memcpy(self.f.ral, p, 64)
        memcpy(self.f.rah, p + 64, 64)
        memcpy(self.f.mta, p + 128, 512)
        memcpy(self.f.vfta, p + 640, 512)
        self._rebuild()
