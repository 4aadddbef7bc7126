# cython: language_level=3
"""What links do for every batch: the pool it comes from, the counters, the cable between two."""

from libc.stdint cimport int64_t, uint64_t

from fastpath.batch cimport FrameBatch

cdef class LinkStats:
    cdef public uint64_t tx_frames, tx_bytes, rx_frames, rx_bytes
    cdef public dict drops
    cdef int dropped(self, str reason, uint64_t frames) except -1

cdef class BatchPool:
    cdef list _free
    cdef readonly int keep
    cdef readonly uint64_t made, returned
    cpdef FrameBatch get(self)
    cpdef put(self, FrameBatch batch)

# One batch on its way to a port; `batch` holds a reference.
cdef struct flight:
    void *batch
    int start                   # index of the first frame that the port has not taken
    int64_t when                # arrives then; 0 = at once

cdef class CableEnd:
    cdef public object clock, port
    cdef public LinkStats stats
    cdef public CableEnd peer
    cdef public bint _carrier
    cdef readonly int64_t latency_ns, rate_bps, queue_frames
    cdef BatchPool pool
    cdef flight *q              # ring of batches towards this end's port
    cdef int q_size, q_head, q_len
    cdef readonly int64_t _queued
    cdef int64_t busy_ns
    cdef uint64_t flushes       # how often the queue was thrown away
    cdef bint scheduled, delivering, held, starved
    cdef object deliver_later
    cdef int push(self, FrameBatch batch, int64_t when) except -1
    cdef int schedule(self) except -1
    cdef int deliver(self) except -1
    cdef int offer_room(self) except -1
