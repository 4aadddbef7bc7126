# cython: language_level=3, embedsignature=True
"""What a TAP link does for every batch: read and give to the port, take from it and write.

The base of ``e1000emu.links.tap.Tap``, which adds what happens seldom: ``_count_drops``,
``_left``, ``_given``, ``failed``. A packet that comes alone is a batch of one, so nothing here is
Python but the port. Call everything with the clock's lock held.
"""

from libc.errno cimport EAGAIN
from libc.stdint cimport uint64_t

from fastpath.base.batch cimport FrameBatch
from fastpath.nic.cable cimport BatchPool, LinkStats
from fastpath.nic.cable import shared as _shared_pool
from fastpath.nic.tap_gso cimport TapQueue
from fastpath.nic.wire cimport wire_add


cdef class TapEnd:
    """The descriptor's side of a `Link`: `_readable`, `transmit`, `tx_room`."""

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

    def __cinit__(self, *args, **kwargs):
        self.pool = <BatchPool>_shared_pool
        self._unsent = []

    def tx_room(self):
        """Return how many frames `transmit` takes now."""
        return max(0, self._queue_frames - self._unsent_frames)

    def transmit(self, FrameBatch batch not None):
        """Write the frames. Takes ownership of `batch`."""
        cdef TapQueue queue = self.queue
        cdef LinkStats stats = self.stats
        cdef uint64_t frames = 0, nbytes = 0
        cdef int end = 0, dropped = 0, error = 0
        wire_add(batch, 0, batch.n, &frames, &nbytes)
        stats.tx_frames += frames
        stats.tx_bytes += nbytes
        if not self._unsent and queue.fd >= 0:
            with nogil:
                end = queue.write_batch(batch, 0, &dropped, &error)
            if end == batch.n and not dropped:
                self.pool.put(batch)
                return
        self._left(batch, end, dropped, error)

    def _readable(self):
        """Read one batch and give it to the port."""
        cdef TapQueue queue = self.queue
        cdef FrameBatch batch
        cdef uint64_t nbytes
        cdef int frames, end, error = 0
        if queue.fd < 0 or self.port is None or self._batch is not None:
            return
        batch = self.pool.get()
        nbytes = queue.rx_bytes
        with nogil:
            frames = queue.read_batch(batch, self._batch_frames, &error)
        if error and error != EAGAIN:
            self.failed(error)
        if queue.dropped != self.told:
            self.told = queue.dropped
            self._count_drops()
        if not frames:
            self.pool.put(batch)
            return
        self.stats.rx_frames += <uint64_t>frames
        self.stats.rx_bytes += queue.rx_bytes - nbytes
        if self.port is None:               # unplugged by what `failed` told
            self.stats.dropped("unplugged", frames)
            self.pool.put(batch)
            return
        self._batch = batch
        self._at = 0
        self._held = True
        end = self.port.receive(batch, 0, True)
        if self._batch is not batch:
            return                          # unplugged by what it received
        if end < batch.n or not self._reading:
            self._given(end)
            return
        self._held = False
        self._batch = None
        self.pool.put(batch)
