# cython: language_level=3
"""Find MAC control frames, for compiled callers."""

from fastpath.batch cimport FrameBatch

# Index of the first frame from `start` (0 or more) on with that type, or the batch's length.
cdef int mac_control(FrameBatch batch, int start, int ethertype) noexcept nogil
