# cython: language_level=3
"""A second thread that stores frames for a receiver while the first still cuts them."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastpath.batch cimport FrameBatch
from fastpath.dma cimport dma_table
from fastpath.macpath cimport RxPort, Second, TxPort
from fastpath.threads cimport e1k_mutex

cdef enum:
    PIECES = 8                  # of one engine run, at most

cdef class SecondCore(Second):
    cdef e1k_mutex work         # held by whoever stores a piece
    cdef RxPort rx              # for which pieces are stored now; None: nobody's turn
    cdef void *pieces[PIECES]   # FrameBatch, borrowed
    cdef int stored[PIECES]
    cdef int head               # pieces posted
    cdef int tail               # pieces stored; written with `work` held
    cdef int own                # of these, by the thread of `run`; the same
    cdef int cpu                # where that was
    cdef bint partial           # a piece was not taken whole: no further one is
    cdef int asleep, stopping, running
    cdef int wake_fd
    cdef int skip, backoff, misses
    cdef public int64_t spin_ns
    cdef public int patience
    cdef readonly uint64_t runs, skipped, alone, waits, wakes, sleeps
    cdef void store_next(self) noexcept nogil
    cdef void wake(self) noexcept nogil
