# cython: language_level=3, embedsignature=True
"""Where a compiled device's frames come from and go to: `FrameQueue`, and one between two threads.

A TAP's is `fastpath.nic.tap_gso.TapQueue`. Through a `HandoverQueue` the thread that works the
rings and the one that works any other link hand each other frames. Each appends to a box under a
lock that is held for a memcpy, and wakes the other only when the box was empty. The plain-Python
twin is ``_ref/wire.py``.
"""

from libc.errno cimport EAGAIN, ENOMEM
from libc.stdint cimport uint32_t

from fastpath.base.batch cimport fb_gso_segments
from fastpath.base.threads cimport (
    e1k_close, e1k_event, e1k_event_clear, e1k_get, e1k_lock, e1k_lock_gil, e1k_mutex_destroy,
    e1k_mutex_init, e1k_put, e1k_unlock,
)

import os


cdef void wire_add(FrameBatch b, int start, int stop, uint64_t *frames,
                   uint64_t *nbytes) noexcept nogil:
    cdef uint32_t cut
    cdef int i
    for i in range(start, stop):
        cut = fb_gso_segments(&b.f[i])
        frames[0] += cut
        nbytes[0] += b.f[i].len
        if cut > 1:
            nbytes[0] += <uint64_t>(cut - 1) * (b.f[i].mark >> 16 & 0xFF)


def wire_count(FrameBatch batch not None, int start=0):
    """Frames and bytes, FCS not counted, that `batch` from `start` on is on a wire.

    A super-frame counts as what it is cut into.
    """
    cdef uint64_t nbytes = 0, frames = 0
    wire_add(batch, start if start > 0 else 0, batch.n, &frames, &nbytes)
    return frames, nbytes


cdef class FrameQueue:
    """A place that frames are read from and written to, in batches. Subclasses say which."""

    def __cinit__(self, *args, **kwargs):
        self.fd = -1
        e1k_mutex_init(&self.writing)

    def __dealloc__(self):
        e1k_mutex_destroy(&self.writing)

    def read(self, FrameBatch batch not None, int max_frames):
        """Append what waits until `batch` got `max_frames` or nothing is left: (frames, errno).

        A super-packet that is cut up here becomes as many frames as it has segments, so the last
        one may exceed `max_frames`. errno is 0 when the limit ended the read, EAGAIN when nothing
        is left. Releases the GIL.
        """
        cdef int error = 0, frames
        with nogil:
            frames = self.read_batch(batch, max_frames, &error)
        return frames, error

    def write(self, FrameBatch batch not None, int start=0):
        """Write frames from `start` on; return (next index, dropped, errno).

        Stops at EAGAIN with the index of the frame that did not fit. A frame that is refused is
        dropped and its errno returned (the last one's). Borrows `batch` until return; releases the
        GIL. Any thread may, beside a data path that has the queue.
        """
        cdef int error = 0, dropped = 0, end
        if not 0 <= start <= batch.n:
            raise IndexError(
                f"{type(self).__name__}.write: frame {start} of a batch of {batch.n}")
        with nogil:
            end = self.write_batch(batch, start, &dropped, &error)
        return end, dropped, error

    cdef int read_batch(self, FrameBatch b, int max_frames, int *error) noexcept nogil:
        error[0] = EAGAIN
        return 0

    cdef int write_batch(self, FrameBatch b, int start, int *dropped, int *error) noexcept nogil:
        cdef int end
        e1k_lock(&self.writing)
        end = self.put_batch(b, start, dropped, error)
        e1k_unlock(&self.writing)
        return end

    cdef int put_batch(self, FrameBatch b, int start, int *dropped, int *error) noexcept nogil:
        error[0] = EAGAIN
        dropped[0] = 0
        return start


cdef class HandoverQueue(FrameQueue):
    """Two boxes of at most `max_frames` between the thread of a `DataPath` and that of a link.

    The data path reads and writes; the link's side calls `give` and `take`, when `ready_fd` is
    readable or it has something. Frames keep their flags, marks and times.
    """

    def __cinit__(self, int max_frames=1024):
        self.ready_fd = -1
        e1k_mutex_init(&self.mutex)
        if max_frames < 1:
            raise ValueError(f"HandoverQueue: max_frames {max_frames} is below 1")
        self.max_frames = max_frames
        self.inbox = FrameBatch()
        self.outbox = FrameBatch()
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.ready_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def __dealloc__(self):
        if self.max_frames:     # else the arguments were refused, and `ready_fd` is not ours
            self.close()
        e1k_mutex_destroy(&self.mutex)

    def close(self):
        """Give back the descriptors, when the data path has stopped; safe to call twice."""
        e1k_close(&self.fd)
        e1k_close(&self.ready_fd)

    cdef void _signal(self) noexcept nogil:
        if not self.signalled:
            e1k_put(&self.signalled, 1)
            e1k_event(self.fd)

    # --- the link's side ---------------------------------------------------------------------

    @property
    def waiting(self):
        """Frames that wait to be taken."""
        return e1k_get(&self.out_waits)

    @property
    def room(self):
        """False from a `give` that left frames until there is room again."""
        return not e1k_get(&self.short_of_room)

    def clear(self):
        """Make `ready_fd` unreadable, before looking at `waiting` and `room`."""
        e1k_event_clear(self.ready_fd)

    def give(self, FrameBatch batch not None, int start=0):
        """Hand over frames from `start` on; return the index of the first that had no room.

        When frames are left, `ready_fd` becomes readable as soon as half of the box is free.
        Borrows `batch` until return.
        """
        cdef int i = start
        if not 0 <= start <= batch.n:
            raise IndexError(f"HandoverQueue.give: frame {start} of a batch of {batch.n}")
        e1k_lock_gil(&self.mutex)
        if self.in_at:
            self.inbox.drop(self.in_at)
            self.in_at = 0
        while i < batch.n and self.inbox.n < self.max_frames and self.inbox.append_from(batch, i):
            i += 1
        e1k_put(&self.in_waits, self.inbox.n)
        if self.inbox.n:
            self._signal()
        if i < batch.n:
            e1k_put(&self.short_of_room, 1)
        e1k_unlock(&self.mutex)
        return i

    def take(self, FrameBatch spare not None, int max_frames):
        """Return a batch of at most `max_frames` of the frames that wait, oldest first.

        `spare` is empty and given away; what comes back is the caller's. When frames are left,
        the caller comes back by himself.
        """
        cdef FrameBatch out = spare
        if spare.n:
            raise ValueError(f"HandoverQueue.take: the spare batch holds {spare.n} frames")
        e1k_lock_gil(&self.mutex)
        try:
            if self.outbox.n <= max_frames:
                out = self.outbox
                self.outbox = spare
            elif max_frames > 0:
                out.extend(self.outbox, 0, max_frames)
                self.outbox.drop(max_frames)
            e1k_put(&self.out_waits, self.outbox.n)
            if self.full and self.outbox.n <= self.max_frames >> 1:
                self.full = False
                self._signal()
        finally:
            e1k_unlock(&self.mutex)
        return out

    # --- the data path's side ----------------------------------------------------------------

    cdef int read_batch(self, FrameBatch b, int max_frames, int *error) noexcept nogil:
        cdef int first = b.n, end
        error[0] = EAGAIN
        if not e1k_get(&self.in_waits) and not e1k_get(&self.signalled):
            return 0
        e1k_lock(&self.mutex)
        end = self.inbox.n
        if end - self.in_at > max_frames:
            end = self.in_at + max_frames
        while self.in_at < end:
            if not b.append_from(self.inbox, self.in_at):
                break
            self.in_at += 1
        e1k_put(&self.in_waits, self.inbox.n - self.in_at)
        if self.in_at < self.inbox.n:
            error[0] = 0
        else:
            self.in_at = 0
            self.inbox.n = 0
            self.inbox.used = 0
            if self.signalled:
                e1k_put(&self.signalled, 0)
                e1k_event_clear(self.fd)
        if self.short_of_room and self.in_waits <= self.max_frames >> 1:
            e1k_put(&self.short_of_room, 0)
            e1k_event(self.ready_fd)
        e1k_unlock(&self.mutex)
        wire_add(b, first, b.n, &self.rx_frames, &self.rx_bytes)
        return b.n - first

    cdef int put_batch(self, FrameBatch b, int start, int *dropped, int *error) noexcept nogil:
        cdef int i = start
        cdef bint wake
        dropped[0] = error[0] = 0
        e1k_lock(&self.mutex)
        wake = self.outbox.n == 0
        while i < b.n:
            if self.outbox.n >= self.max_frames:
                self.full = True
                error[0] = EAGAIN
                break
            if not self.outbox.append_from(b, i):
                dropped[0] += 1
                error[0] = ENOMEM
            i += 1
        e1k_put(&self.out_waits, self.outbox.n)
        if wake and self.outbox.n:
            e1k_event(self.ready_fd)
        e1k_unlock(&self.mutex)
        wire_add(b, start, i, &self.tx_frames, &self.tx_bytes)
        return i
