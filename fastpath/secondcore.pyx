# cython: language_level=3, embedsignature=True
"""The second core: frames are stored in the receiver's memory while the sender's engine cuts more.

Behind a doorbell with much to send `TxPort.run_beside` cuts an engine run into pieces. The thread
of `SecondCore.run` takes one after the other, in order, and runs the receiver's engine on it
(filter, checksums, buffers, write-back), without the GIL. The doorbell returns when all pieces are
stored, and its thread stores pieces too before it waits. So no piece is ever visible half done, the
results equal those of one thread bit for bit, and a second thread without a processor delays
nothing.

If the second thread repeatedly stores nothing, or runs on the first thread's processor, it is not
used for a number of runs, which doubles each time.

The plain-Python twin, ``_ref/secondcore.py``, stores the pieces in turn;
tests/e1000emu/test_devicethread.py holds this against one thread.
"""

from libc.stdint cimport int64_t

from fastpath.batch cimport FrameBatch
from fastpath.dma cimport dma_table
from fastpath.macpath cimport RxPort, Second, TxPort
from fastpath.threads cimport (
    e1k_close, e1k_event, e1k_event_clear, e1k_fence, e1k_get, e1k_lock,
    e1k_mutex_destroy, e1k_mutex_init, e1k_now_ns, e1k_put, e1k_swap, e1k_trylock, e1k_unlock,
)

import os

cdef extern from "<poll.h>" nogil:
    int POLLIN
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *fds, unsigned long n, int timeout_ms)

cdef extern from "beside.h" nogil:
    void e1k_pause()

cdef extern from *:
    """
    #define _GNU_SOURCE 1
    #include <sched.h>
    """
    int sched_yield() nogil
    int sched_getcpu() nogil

cdef enum:
    SPIN_NS = 100_000           # a receiver's turn between two bursts of its sender takes less
    PAUSES = 32                 # between two looks at the clock
    YIELD_AFTER = 2_000         # looks for the end of a piece, which takes a microsecond or two
    MISSES = 8                  # runs in a row in which the thread did nothing
    BACKOFF = 16                # runs it is left alone then, at first
    BACKOFF_MAX = 4096


cdef bint _apart(const dma_table *a, const dma_table *b) noexcept nogil:
    """Whether no byte is in both: what one device writes the other does not read."""
    cdef int i, k
    for i in range(a.n):
        for k in range(b.n):
            if (a.regions[i].ptr < b.regions[k].ptr + b.regions[k].len
                    and b.regions[k].ptr < a.regions[i].ptr + a.regions[i].len):
                return False
    return True


cdef class SecondCore(Second):
    """Stores pieces of engine runs in the thread that calls `run`.

    Any number of NICs may share one, also on several clocks: who comes while it is busy does
    without.
    """

    def __cinit__(self):
        self.wake_fd = -1
        self.spin_ns = SPIN_NS
        self.patience = MISSES
        self.backoff = BACKOFF
        e1k_mutex_init(&self.work)
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def __dealloc__(self):
        e1k_mutex_destroy(&self.work)
        e1k_close(&self.wake_fd)

    # --- the sender's thread, with the clock's lock and the GIL held

    cdef bint begin(self, RxPort rx, TxPort tx) noexcept:
        if self.rx is not None or not e1k_get(&self.running):
            return False
        if self.skip:
            self.skip -= 1
            self.skipped += 1
            return False
        # What would have to call Python is left to the thread that may, and memory that both NICs
        # reach to a single one.
        if (rx.engine.running or rx.engine.dma.t.cb_read != NULL
                or rx.engine.dma.t.cb_write != NULL or tx.engine.dma.t.cb_read != NULL
                or tx.engine.dma.t.cb_write != NULL
                or not _apart(&tx.engine.dma.t, &rx.engine.dma.t)):
            return False
        rx.enter()
        e1k_lock(&self.work)
        self.rx = rx
        self.partial = False
        self.own = 0
        e1k_put(&self.tail, 0)
        e1k_put(&self.head, 0)
        e1k_unlock(&self.work)
        self.runs += 1
        return True

    cdef void post(self, FrameBatch piece) noexcept:
        self.pieces[self.head] = <void *>piece
        e1k_put(&self.head, self.head + 1)
        if self.head == 1:          # the rest of a run is over before anyone else would be awake
            self.wake()

    cdef void wake(self) noexcept nogil:
        e1k_fence()
        if e1k_get(&self.asleep) and e1k_swap(&self.asleep, 0):
            self.wakes += 1
            e1k_event(self.wake_fd)

    cdef void settle(self) noexcept:
        cdef int looks = 0
        cdef bint own
        cdef RxPort rx = self.rx
        with nogil:
            while e1k_get(&self.tail) != self.head:
                if looks > YIELD_AFTER:
                    sched_yield()
                    e1k_lock(&self.work)
                elif not e1k_trylock(&self.work):
                    looks += 1
                    e1k_pause()
                    continue
                if self.tail != self.head:
                    self.store_next()
                e1k_unlock(&self.work)
            e1k_lock(&self.work)
            own = self.own and self.cpu != sched_getcpu()
            e1k_unlock(&self.work)
        self.waits += looks > 0
        rx.leave()
        self.rx = None
        if own:
            self.misses = 0
            self.backoff = max(self.backoff >> 1, <int>BACKOFF)
        else:
            self.alone += 1
            self.misses += 1
            if self.misses >= self.patience:
                self.misses = 0
                self.skip = self.backoff
                self.backoff = min(2 * self.backoff, <int>BACKOFF_MAX)

    cdef int done(self, int piece) noexcept:
        return self.stored[piece]

    # --- whoever holds `work`

    cdef void store_next(self) noexcept nogil:
        cdef int k = self.tail
        self.stored[k] = 0
        if not self.partial:
            self.stored[k] = self.rx.store(<FrameBatch>self.pieces[k], 0, True)
            self.partial = self.stored[k] < (<FrameBatch>self.pieces[k]).n
        e1k_put(&self.tail, k + 1)

    # --- the thread

    def run(self):
        """Work until `stop`. Call from a thread of its own; releases the GIL all the time."""
        cdef int64_t until = 0
        cdef int _i
        cdef pollfd p
        e1k_put(&self.running, 1)
        with nogil:
            while not e1k_get(&self.stopping):
                if e1k_get(&self.head) != e1k_get(&self.tail):
                    e1k_lock(&self.work)
                    if e1k_get(&self.head) != self.tail:
                        self.store_next()
                        self.own += 1
                        self.cpu = sched_getcpu()
                    e1k_unlock(&self.work)
                    until = e1k_now_ns() + self.spin_ns
                    continue
                if e1k_now_ns() < until:
                    for _i in range(PAUSES):
                        if e1k_get(&self.head) != e1k_get(&self.tail):
                            break
                        e1k_pause()
                    continue
                e1k_put(&self.asleep, 1)
                e1k_fence()
                if e1k_get(&self.head) == e1k_get(&self.tail) and not e1k_get(&self.stopping):
                    self.sleeps += 1
                    p.fd = self.wake_fd
                    p.events = POLLIN
                    p.revents = 0
                    poll(&p, 1, -1)
                    until = e1k_now_ns() + self.spin_ns
                e1k_put(&self.asleep, 0)
                e1k_event_clear(self.wake_fd)
        e1k_put(&self.running, 0)

    def stop(self):
        """Let `run` return; a doorbell that is at work finishes alone."""
        e1k_put(&self.stopping, 1)
        e1k_event(self.wake_fd)

    def counters(self):
        """What happened so far: engine runs shared, not shared, in which the thread was no help,
        that waited for it; and how often it was woken and slept."""
        return {
            "runs": self.runs, "skipped": self.skipped, "alone": self.alone, "waits": self.waits,
            "wakes": self.wakes, "sleeps": self.sleeps,
        }
