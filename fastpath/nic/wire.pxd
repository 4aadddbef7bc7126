# cython: language_level=3
"""Where a compiled device's frames come from and go to."""

from libc.stdint cimport uint64_t

from fastpath.base.batch cimport FrameBatch
from fastpath.base.threads cimport e1k_mutex


# What a `DataPath` reads and writes. One thread at a time reads; any number write, one after the
# other: frames that are not of the ring (PAUSE, a management controller's) come from another thread
# than the data path's. No GIL needed.
cdef class FrameQueue:
    cdef public int fd          # readable while frames wait, with polls_out writable while there is
    cdef bint polls_out         # room; -1: closed
    # as on a wire: a super-frame counts for what it is cut into
    cdef readonly uint64_t rx_frames, rx_bytes, tx_frames, tx_bytes
    # Append what waits, until max_frames (the last super-packet may exceed it) or an errno.
    cdef int read_batch(self, FrameBatch b, int max_frames, int *error) noexcept nogil
    cdef e1k_mutex writing      # held while frames are written
    # Write frames from `start` on; the index of the first one not written (EAGAIN), or b.n.
    cdef int write_batch(self, FrameBatch b, int start, int *dropped, int *error) noexcept nogil
    # The same with `writing` held: what a subclass is about.
    cdef int put_batch(self, FrameBatch b, int start, int *dropped, int *error) noexcept nogil


cdef class HandoverQueue(FrameQueue):
    cdef readonly int ready_fd  # for the other side: readable when there are frames to take or room
    cdef readonly int max_frames
    cdef FrameBatch inbox, outbox
    cdef int in_at, in_waits    # frames of the inbox that are read, and that are not
    cdef int out_waits
    cdef int signalled          # fd is readable
    cdef int short_of_room      # `give` left frames: ready_fd says when there is room
    cdef bint full              # `write_batch` left frames: fd says when there is room
    cdef e1k_mutex mutex
    cdef void _signal(self) noexcept nogil

# Add frames [start, stop) to the counters.
cdef void wire_add(FrameBatch b, int start, int stop, uint64_t *frames,
                   uint64_t *nbytes) noexcept nogil
