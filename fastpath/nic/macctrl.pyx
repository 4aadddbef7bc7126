# cython: language_level=3, embedsignature=True
"""Find MAC control frames (IEEE 802.3 31) and magic packets in a batch before the receive engine
sees it."""

from libc.stdint cimport uint8_t
from libc.string cimport memcpy, memset

from fastpath.base.batch cimport FrameBatch


cdef extern from "string.h" nogil:
    void *memmem(const void *haystack, size_t n, const void *needle, size_t m)


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


cdef int magic_packet(FrameBatch batch, int start, const uint8_t *mac) noexcept nogil:
    cdef uint8_t magic[102]
    cdef int i
    memset(magic, 0xFF, 6)
    for i in range(16):
        memcpy(magic + 6 + 6 * i, mac, 6)
    for i in range(start, batch.n):
        if batch.f[i].len >= 114 and memmem(
                batch.arena + batch.f[i].off + 12, batch.f[i].len - 12, magic, 102):
            return i
    return batch.n


def find_magic(FrameBatch batch not None, int start, bytes mac not None):
    """Return the index of the first frame from `start` on with the magic of `mac`, or len.

    That is six times FFh and sixteen times `mac`, behind the addresses (SDM 6.4.3.1.2).

    Borrows `batch` until return.  Raises: ValueError, `mac` is not six bytes.
    """
    cdef int i = start if start > 0 else 0
    cdef const uint8_t *address = mac
    if len(mac) != 6:
        raise ValueError(f"mac {mac!r}: give six bytes")
    if i < batch.n:
        with nogil:
            i = magic_packet(batch, i, address)
    return i
