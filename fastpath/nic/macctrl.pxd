# cython: language_level=3
"""Find MAC control frames and magic packets, for compiled callers."""

from libc.stdint cimport uint8_t

from fastpath.base.batch cimport FrameBatch

# Index of the first frame from `start` (0 or more) on with that type, or the batch's length.
cdef int mac_control(FrameBatch batch, int start, int ethertype) noexcept nogil

# The same for the magic packet of the six bytes at `mac`.
cdef int magic_packet(FrameBatch batch, int start, const uint8_t *mac) noexcept nogil
