# cython: language_level=3, embedsignature=True
"""Find MAC control frames (IEEE 802.3 31) in a batch before the receive engine sees it."""

from libc.stdint cimport uint8_t

from fastpath.batch cimport FrameBatch


cdef int mac_control(FrameBatch batch, int start, int ethertype) noexcept nogil:
    cdef uint8_t hi = ethertype >> 8 & 0xFF, lo = ethertype & 0xFF
    cdef const uint8_t *p
    cdef int i
    for i in range(start, batch.n):
        if batch.f[i].len >= 14:
            p = batch.arena + batch.f[i].off + 12
            if p[0] == hi and p[1] == lo:
                return i
    return batch.n


def find_mac_control(FrameBatch batch not None, int start, int ethertype):
    """Return the index of the first frame from `start` on with type `ethertype` (host int), or len.

    Frames shorter than 14 bytes have no type. Borrows `batch` until return.
    """
    cdef int i = start if start > 0 else 0
    if i < batch.n:
        with nogil:
            i = mac_control(batch, i, ethertype)
    return i
