# cython: language_level=3, embedsignature=True
"""The per-batch work of links: the pool of batches, counters, the cable between two ports.

Call everything with the clock's lock held, but for the pool, which any thread may use.
"""

from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc

from fastpath.base.batch cimport FrameBatch
from fastpath.base.eventq cimport call_soon, clock_ns

cdef enum:
    # A batch that grew past this goes back to the allocator instead of holding its arena for ever.
    _KEEP_BYTES = 4 << 20
    # Preamble, start delimiter, FCS and the gap between frames (IEEE 802.3 4.2.3.2).
    _GAP_BYTES = 12
    _WIRE_OVERHEAD_BYTES = 8 + 4 + _GAP_BYTES
    FIRST_FLIGHTS = 8

KEEP_BYTES = _KEEP_BYTES
WIRE_OVERHEAD_BYTES = _WIRE_OVERHEAD_BYTES
GAP_BYTES = _GAP_BYTES


cdef class LinkStats:
    """Counted by the batch: `tx` from the port into the link, `rx` from the link to the port."""

    def __cinit__(self):
        self.drops = {}

    cdef int dropped(self, str reason, uint64_t frames) except -1:
        if frames:
            self.drops[reason] = self.drops.get(reason, 0) + frames
        return 0

    def drop(self, str reason not None, uint64_t frames):
        """Count `frames` lost for `reason`."""
        self.dropped(reason, frames)

    def __repr__(self):
        return (
            f"LinkStats(tx_frames={self.tx_frames}, tx_bytes={self.tx_bytes}, "
            f"rx_frames={self.rx_frames}, rx_bytes={self.rx_bytes}, drops={self.drops})"
        )


cdef class BatchPool:
    """A free list of at most `keep` empty batches. Safe from any thread."""

    def __cinit__(self, int keep=64):
        self._free = []
        self.keep = keep

    cpdef FrameBatch get(self):
        """Return an empty batch. Gives ownership to the caller."""
        cdef FrameBatch batch = self._spare
        if batch is not None:
            self._spare = None
            return batch
        if self._free:
            return <FrameBatch>self._free.pop()
        self.made += 1
        return FrameBatch()

    cpdef put(self, FrameBatch batch):
        """Empty `batch` and keep it for the next `get`. Takes ownership of `batch`."""
        cdef bint large = fb_bytes(batch) > _KEEP_BYTES
        batch.clear()
        self.returned += 1
        if large or self.keep <= 0:
            return
        if self._spare is None:
            self._spare = batch         # mostly one is under way
        elif len(self._free) + 1 < self.keep:
            self._free.append(batch)


# Empty batches carry no state, so all links of a process share one free list.
shared = BatchPool()


cdef class FrameSink:
    """A port that stores frames at once and tells its host by a later event."""

    cpdef int store(self, FrameBatch batch) except -1:
        """Borrow `batch`, take its first frames; how many: `receive` is for the rest.

        Its host is not to be told before `stored`.
        """
        return 0

    cpdef int stored(self) except -1:
        """Tell the host of what `store` has taken."""
        return 0


cdef class CableEnd:
    """One end of a lossless cable with push-back; frames sent into it come out at `peer`'s port.

    A batch costs one call on the clock however many frames it has. Without delay and rate a port's
    `sink` takes frames into its host's memory while they are still in the sender's cache. An event
    brings the interrupt, as it brings the frames to other ports. `links.pair.PairEnd` adds
    plugging.
    """

    def __cinit__(self, *args, **kwargs):
        self.pool = <BatchPool>shared
        self.q_size = FIRST_FLIGHTS
        self.q = <flight *>malloc(self.q_size * sizeof(flight))
        if self.q == NULL:
            raise MemoryError
        self.gap_bytes = _GAP_BYTES
        self.deliver_later = self._deliver

    def __dealloc__(self):
        cdef int i
        if self.q != NULL:
            for i in range(self.q_len):
                Py_DECREF(<object>self.q[(self.q_head + i) % self.q_size].batch)
            free(self.q)

    def _shape(self, int64_t latency_ns, int64_t rate_bps, int64_t queue_frames):
        """Set delay, rate (0 = no limit) and the frames on the way to this end, at most."""
        self.latency_ns = latency_ns
        self.rate_bps = rate_bps
        self.queue_frames = queue_frames

    cdef int push(self, FrameBatch batch, int start, int64_t when) except -1:
        cdef flight *bigger
        cdef int i
        if self.q_len == self.q_size:
            bigger = <flight *>malloc(2 * self.q_size * sizeof(flight))
            if bigger == NULL:
                raise MemoryError
            for i in range(self.q_len):
                bigger[i] = self.q[(self.q_head + i) % self.q_size]
            free(self.q)
            self.q = bigger
            self.q_head = 0
            self.q_size *= 2
        i = (self.q_head + self.q_len) % self.q_size
        Py_INCREF(batch)
        self.q[i].batch = <void *>batch
        self.q[i].start = start
        self.q[i].when = when
        self.q_len += 1
        self._queued += batch.n - start
        return 0

    def _flush(self):
        """Drop the frames on the way to this end; return their number."""
        cdef int64_t lost = self._queued
        cdef FrameBatch batch
        while self.q_len:
            batch = <FrameBatch>self.q[self.q_head].batch
            self.q_head = (self.q_head + 1) % self.q_size
            self.q_len -= 1
            Py_DECREF(batch)
            self.pool.put(batch)
        self._queued = 0
        self.held = False
        self.flushes += 1
        return lost

    def tx_room(self):
        """Return how many frames the cable takes now; 0 promises a `tx_ready` later."""
        return self.room()

    cdef int64_t room(self) noexcept:
        cdef int64_t room = self.peer.queue_frames - self.peer._queued
        if room > 0:
            return room
        self.peer.starved = True
        return 0

    cdef bint direct(self) noexcept:
        """Whether frames sent now are stored in the peer's memory at once."""
        cdef CableEnd peer = self.peer
        return (peer.sink is not None and not peer.q_len and not peer.held
                and not peer.delivering and not self.latency_ns and not self.rate_bps)

    def transmit(self, FrameBatch batch not None):
        """Send the frames, also more than `tx_room`. Takes ownership of `batch`."""
        self.send(batch)

    cdef int send(self, FrameBatch batch) except -1:
        cdef int n = batch.n, done = 0
        cdef int64_t when = 0
        cdef uint64_t nbytes
        cdef CableEnd peer = self.peer
        if not self._carrier or not n:
            self.stats.dropped("no carrier", n)
            self.pool.put(batch)
            return 0
        nbytes = fb_bytes(batch)
        if self.latency_ns or self.rate_bps:
            when = clock_ns(self.clock)
            if self.rate_bps:
                when = max(when, self.busy_ns) + <int64_t>(
                    8 * (nbytes + <uint64_t>n * <uint64_t>(
                        _WIRE_OVERHEAD_BYTES - _GAP_BYTES + self.gap_bytes)) * 1_000_000_000U
                    // <uint64_t>self.rate_bps
                )
                self.busy_ns = when
            when += self.latency_ns
        elif self.direct():
            done = peer.sink.store(batch)
        self.stats.tx_frames += n
        self.stats.tx_bytes += nbytes
        peer.fresh = peer.fresh or done > 0
        if done == n:
            peer.stats.rx_frames += n
            peer.stats.rx_bytes += nbytes
            self.pool.put(batch)
        else:
            peer.push(batch, done, when)
        peer.schedule()
        return 0

    def rx_ready(self):
        """The port has room again."""
        if self.held:
            self.held = False
            self.schedule()

    cdef int schedule(self) except -1:
        cdef int64_t when
        if self.scheduled or self.delivering or self.held or not (self.q_len or self.fresh):
            return 0
        self.scheduled = True
        when = 0 if self.fresh else self.q[self.q_head].when
        if when and when > clock_ns(self.clock):
            self.clock.call_at(when, self.deliver_later)
        else:
            call_soon(self.clock, self.deliver_later)
        return 0

    def _deliver(self):
        """Hand the batches that have arrived to the port until it holds."""
        self.scheduled = False
        self.delivering = True
        try:
            if self.fresh:
                self.fresh = False
                if self.sink is not None:
                    self.sink.stored()
            self.deliver()
        finally:
            self.delivering = False
        self.schedule()
        if self.starved:
            self.offer_room()

    cdef int deliver(self) except -1:
        cdef FrameBatch batch
        cdef int start, end, n
        cdef uint64_t flushes = self.flushes
        while self.q_len and not self.held and self.port is not None:
            batch = <FrameBatch>self.q[self.q_head].batch
            start = self.q[self.q_head].start
            if self.q[self.q_head].when and \
                    self.q[self.q_head].when > clock_ns(self.clock):
                break
            # A port that frees descriptors inside receive() calls rx_ready() before it returns.
            self.held = True
            end = self.port.receive(batch, start, True)
            if flushes != self.flushes:  # unplugged meanwhile
                flushes = self.flushes
                continue
            n = batch.n
            if end >= n:
                self.held = False
                self.q_head = (self.q_head + 1) % self.q_size
                self.q_len -= 1
                Py_DECREF(batch)
                self._queued -= n - start
                self.stats.rx_frames += n
                self.stats.rx_bytes += fb_bytes(batch)
                self.pool.put(batch)
            else:
                self.q[self.q_head].start = end
                self._queued -= end - start
                if end <= start:
                    break  # nothing taken: try again only after the clock's other events
        return 0

    cdef int offer_room(self) except -1:
        if self.starved and self._queued < self.queue_frames:
            self.starved = False
            if self.peer.port is not None:
                self.peer.port.tx_ready()
        return 0

    def _offer_room(self):
        """Tell the peer's port when it waits and there is room."""
        self.offer_room()
