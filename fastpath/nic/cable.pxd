# cython: language_level=3
"""What links do for every batch: the pool it comes from, the counters, the cable between two."""

from libc.stdint cimport int64_t, uint64_t

from fastpath.base.batch cimport FrameBatch

cdef inline uint64_t fb_bytes(FrameBatch batch) noexcept nogil:
    """Bytes of all frames."""
    cdef uint64_t total = 0
    cdef int k
    for k in range(batch.n):
        total += batch.f[k].len
    return total


cdef class LinkStats:
    cdef public uint64_t tx_frames, tx_bytes, rx_frames, rx_bytes
    cdef public dict drops
    cdef int dropped(self, str reason, uint64_t frames) except -1

cdef class BatchPool:
    cdef list _free
    cdef FrameBatch _spare
    cdef readonly int keep
    cdef readonly uint64_t made, returned
    cpdef FrameBatch get(self)
    cpdef put(self, FrameBatch batch)

# A port offers this beside `receive` when it can take frames in two steps: into memory now, and the
# interrupt to its host by a later event.
cdef class FrameSink:
    cpdef int store(self, FrameBatch batch) except -1
    cpdef int stored(self) except -1

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
    cdef public int64_t gap_bytes   # between frames sent into this end, where there is a rate
    cdef BatchPool pool
    cdef flight *q              # ring of batches towards this end's port
    cdef int q_size, q_head, q_len
    cdef readonly int64_t _queued
    cdef readonly int64_t busy_ns   # what was sent into this end is on the wire then
    cdef uint64_t flushes       # how often the queue was thrown away
    cdef bint scheduled, delivering, held, starved
    cdef public FrameSink sink  # of the port; None: it takes frames by `receive` only
    cdef bint fresh             # the sink has frames that its host has not been told of
    cdef object deliver_later
    cdef int send(self, FrameBatch batch) except -1
    cdef int64_t room(self) noexcept
    cdef bint direct(self) noexcept
    cdef int push(self, FrameBatch batch, int start, int64_t when) except -1
    cdef int schedule(self) except -1
    cdef int deliver(self) except -1
    cdef int offer_room(self) except -1
