# cython: language_level=3
"""What a TAP link does for every batch."""

from libc.stdint cimport uint64_t

from fastpath.base.batch cimport FrameBatch
from fastpath.nic.cable cimport BatchPool, LinkStats
from fastpath.nic.tap_gso cimport TapQueue


cdef class TapEnd:
    cdef public object clock, port
    cdef public LinkStats stats
    cdef public bint _carrier
    cdef public TapQueue queue
    cdef public FrameBatch _batch       # what the port has not taken
    cdef public int _at                 # its first frame that was not
    cdef public bint _held, _reading
    cdef public int _batch_frames, _queue_frames
    cdef public list _unsent            # [batch, index] that the kernel had no room for
    cdef public int _unsent_frames
    cdef BatchPool pool
    cdef uint64_t told                  # drops of the queue that were counted
