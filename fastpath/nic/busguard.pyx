# cython: language_level=3, embedsignature=True
"""Guards memory shared with another process, so that truncating its file does not end this one.

The handler of SIGBUS is in ``_c/busguard.h``. It is installed with the first guard and stays; it
passes signals about other addresses to the previous handler.
"""

from libc.errno cimport errno
from libc.stdint cimport uint8_t, uint64_t
from libc.stddef cimport size_t

import os

cdef extern from "busguard.h" nogil:
    int BG_SLOTS
    int bg_add(const void *p, size_t n, size_t page)
    uint64_t bg_faults(int slot)
    uint64_t bg_remove(int slot)

SLOTS = BG_SLOTS
"""Guards that can be held at a time, in the whole process."""


cdef class BusGuard:
    """Guards `buffer`, a mapping of a file that another process may truncate.

    An access beyond the file's end reads zeros from private memory, which replaces `page_bytes` at
    a time (the mapping's page size, larger for hugetlbfs). `faults` counts the pages.
    Borrows `buffer`: call `close` before it is unmapped. Raises: OSError without a free slot.
    """

    cdef int slot
    cdef uint64_t last

    def __cinit__(self):
        self.slot = -1
        self.last = 0

    def __init__(self, buffer, size_t page_bytes=4096):
        cdef const uint8_t[::1] view = buffer
        if page_bytes == 0 or page_bytes & (page_bytes - 1):
            raise ValueError(f"BusGuard: page_bytes {page_bytes} is no power of two")
        if self.slot >= 0:
            raise ValueError("BusGuard: guards a buffer already; make another one")
        if view.shape[0] == 0:
            raise ValueError("BusGuard: buffer is empty")
        self.slot = bg_add(&view[0], view.shape[0], page_bytes)
        if self.slot < 0:
            raise OSError(errno, f"BusGuard: {os.strerror(errno)}")

    @property
    def faults(self):
        """Pages found missing so far."""
        return bg_faults(self.slot) if self.slot >= 0 else self.last

    def close(self):
        """Guard no longer; harmless when repeated."""
        if self.slot >= 0:
            self.last = bg_remove(self.slot)
            self.slot = -1

    def __dealloc__(self):
        if self.slot >= 0:
            bg_remove(self.slot)
