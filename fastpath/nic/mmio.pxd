# cython: language_level=3
"""A driver's registers, for compiled callers (documented in mmio.pyi)."""

from libc.stdint cimport int64_t

cpdef int64_t readl(object bar_read, int64_t off) except? -1
cpdef void writel(object bar_write, int64_t off, int64_t value) except *
