# cython: language_level=3, embedsignature=True
"""A device served by two threads: one for register accesses, one for rings and the wire.
`BusPump.recv` runs in the first. It reads a client's messages, answers the few kinds that come
thousands of times a second, and returns all others to its caller. A `MessageTable` tells it how
these few look and what answers them. `DataPath.run` is the second. It walks the rings and copies
frames to and from a `FrameQueue` (a TAP, or a queue to another link's thread). It needs no GIL for
that, so no access waits for a frame.

Without a processor for each, the two would only wait for one another. The first then does the work
of both while it is in `recv` (`BusPump.solo`). Messages come first; between them it moves so few
frames at a time that an access waits no longer than a wake-up takes.

The `DataPath` is a context manager and a lock. It guards the engines and all that decides what they
do: ring registers, filters, memory map, link. `run` holds it for one bounded engine run, every
other thread for a register access. Without it the pump only moves a tail (one aligned store, read
once by a run) and reads registers that have no side effect. It also calls the interrupt block,
which has a lock of its own.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove, memset

from fastpath.base.batch cimport FrameBatch
from fastpath.base.bytes cimport ld32le, ld64le, st32le
from fastpath.nic.e1000_hw cimport RDLEN, TDH, TDLEN, TDT, ring_span
from fastpath.nic.irqblock cimport EventLine, IrqBlock, Worker
from fastpath.nic.macpath cimport RX_FILTER, RX_LEVEL, MacState, RxPort, TxPort
from fastpath.nic.regfile cimport RegFile, Stats, reg
from fastpath.nic.rxring cimport RX_ABORT, RX_DATA_ABORT, RXSEQ
from fastpath.base.threads cimport (
    e1k_changed, e1k_close, e1k_count, e1k_event, e1k_event_clear, e1k_fence, e1k_get, e1k_lock,
    e1k_lock_gil, e1k_mutex_destroy, e1k_mutex_init, e1k_now_ns, e1k_put, e1k_swap, e1k_trylock,
    e1k_unlock, e1k_mutex, e1k_wait_while,
)
from fastpath.nic.txring cimport RUN_DELAYED, RUN_MORE, RUN_OFF, tx_budget, tx_budget_of
from fastpath.nic.wire cimport FrameQueue, wire_add

import os

from fastpath.errors import ArgumentError, parameters
from fastpath.lifecycle import Call, Lifecycle

cdef extern from "<sched.h>" nogil:
    int sched_yield()

cdef extern from "beside.h" nogil:
    void e1k_short_slice()

cdef extern from "<poll.h>" nogil:
    int POLLIN, POLLOUT
    struct pollfd:
        int fd
        short events
        short revents

cdef extern from *:
    """
    #define _GNU_SOURCE 1
    #include <poll.h>
    #include <stdint.h>
    #include <string.h>
    #include <sys/socket.h>
    #include <sys/syscall.h>
    #include <time.h>
    #include <unistd.h>

    /* Wait at most ns nanoseconds, for ever when negative. */
    static int e1k_poll(struct pollfd *fds, int n, int64_t ns)
    {
        struct timespec t;
        if (ns >= 0) {
            t.tv_sec = ns / 1000000000;
            t.tv_nsec = ns % 1000000000;
        }
        return syscall(SYS_ppoll, fds, n, ns >= 0 ? &t : NULL, NULL, 0);
    }

    #define E1K_MAX_FDS 32

    /* recvmsg() without waiting; the descriptors that came along go to fds. */
    static ssize_t e1k_recv(int fd, void *p, size_t n, int *fds, int *count, int *truncated)
    {
        union { char b[CMSG_SPACE(sizeof(int) * E1K_MAX_FDS)]; struct cmsghdr align; } control;
        struct iovec iov = {p, n};
        struct msghdr m;
        struct cmsghdr *c;
        ssize_t got;
        memset(&m, 0, sizeof m);
        m.msg_iov = &iov;
        m.msg_iovlen = 1;
        m.msg_control = &control;
        m.msg_controllen = sizeof control;
        *count = 0;
        *truncated = 0;
        got = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (got < 0)
            return got;
        *truncated = (m.msg_flags & MSG_CTRUNC) != 0;
        for (c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
            if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
                int k = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
                if (k > E1K_MAX_FDS - *count)
                    k = E1K_MAX_FDS - *count;
                memcpy(fds + *count, CMSG_DATA(c), sizeof(int) * k);
                *count += k;
            }
        return got;
    }

    static ssize_t e1k_send(int fd, const void *p, size_t n)
    {
        return send(fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    """
    int e1k_poll(pollfd *fds, int n, int64_t ns) nogil
    ssize_t e1k_recv(int fd, void *p, size_t n, int *fds, int *count, int *truncated) nogil
    ssize_t e1k_send(int fd, const void *p, size_t n) nogil
    enum:
        E1K_MAX_FDS

cdef enum:
    CAUSES = 0x1FFFF
    TX_FRAMES = 64              # of one engine run
    TX_SUPER = 4                # the same, when they are super-frames of 64 KiB
    RX_FRAMES = 64
    # The same for a thread that also answers register accesses, for which the guest waits.
    SOLO_TX_FRAMES = 16
    SOLO_TX_SUPER = 1
    SOLO_RX_FRAMES = 16
    LARGE = 8192                # average bytes of a frame from which a batch counts as super-frames
    FULL_RETRY_NS = 200_000     # retry of a full wire that may not signal room
    # `DataPath.asleep`
    AWAKE = 0                   # the thread checks for all work before it sleeps
    ASLEEP = 1
    TAKEN = 2                   # asleep while another thread does its work
    # `DataPath.still`
    RUNS = 0
    PAUSED = 1
    HALTED = 2
    # notices
    _TX_RARE = 1
    _RX_RARE = 2
    _CONTROL = 4
    _LINK = 8
    _FIFO = 16
    NO_TAIL = 1 << 16           # in `drained_to`: none yet


def short_slice():
    """Ask for short time slices, so that this thread runs soon after a wake-up (Linux 6.12)."""
    e1k_short_slice()


NOTICE_TX = _TX_RARE
NOTICE_RX = _RX_RARE
NOTICE_CONTROL = _CONTROL
NOTICE_LINK = _LINK
NOTICE_FIFO = _FIFO


cdef class DataPath(Worker):
    """Transmit and receive between one NIC's rings and a `queue`, in the thread that calls `run`.

    `with path:` stops the engines: hold it around all access to the NIC from another thread. The
    thread notes work that needs Python and makes `notice_fd` readable;
    the holder of the NIC then calls `take_notices`.

    `pause`, `resume` and `halt` are the worker's; the device's are `Nic.pause` and its kin, which a
    worker obeys. A call that `fastpath.lifecycle.TABLE` does not allow in `run_state` raises
    LifecycleError.
    """

    cdef readonly TxPort tx
    cdef readonly RxPort rx
    cdef readonly IrqBlock irq
    cdef readonly FrameQueue queue
    cdef object lifecycle
    cdef MacState mac
    cdef FrameBatch txb, rxb
    cdef int tx_at, rx_at       # how many frames of each batch are done
    cdef e1k_mutex mutex        # the path: held for an engine run, and to change what engines read
    cdef int wake_fd, notice_fd
    cdef e1k_mutex drive        # held by the thread that runs `turn`
    cdef int asleep             # the thread of `run`: AWAKE, ASLEEP or TAKEN
    cdef int wanted             # between `take_over` and `hand_back`: the thread of `run` waits
    cdef int still              # RUNS, PAUSED (the clock has the rings and the wire), HALTED
    cdef bint tx_stuck, rx_paused, noticing
    cdef bint bell              # a doorbell was served, for the serving thread to act on
    cdef int tx_left            # frames of txb that the wire has not taken yet
    cdef int rx_left            # frames of rxb that are not done
    cdef int rx_size            # bytes of the first of them
    cdef int rx_wait            # the next one waits for Python (`receive_control`)
    cdef int fifo_left          # frames in the receive FIFO...
    cdef uint32_t drained_to    # ...after a drain that used up the descriptors before this tail
    cdef int reading            # the thread fills rxb without the lock
    cdef uint32_t rx_burst      # half of the receive ring when it was last used
    cdef uint32_t notices, tx_flags, rx_causes
    cdef int link_errno
    cdef uint64_t refused       # frames that the wire did not take
    cdef int64_t sleeps_until
    cdef int64_t rx_next        # the wire is not read before this time
    cdef readonly uint64_t turns, sleeps, wakes, tx_batches, rx_batches
    cdef int tx_room, tx_frames, tx_super, rx_frames
    cdef bint taped             # a tape records the steps (`attach`)
    cdef object tape
    cdef bint python            # each step of a ring goes through Python: a tape, or faults
    cdef object faults          # faults of the rings (`inject`), or None
    cdef public int64_t tx_due  # the transmit ring is not read before this time; 0: at any time

    def __cinit__(self, TxPort tx not None, RxPort rx not None, IrqBlock irq not None,
                  FrameQueue queue not None):
        self.tx = tx
        self.rx = rx
        self.irq = irq
        self.queue = queue
        self.mac = tx.mac
        self.txb = FrameBatch()
        self.rxb = FrameBatch()
        self.wake_fd = self.notice_fd = -1
        self.lifecycle = Lifecycle("DataPath", lambda: False)
        self.tx_room = self.tx_frames = TX_FRAMES
        self.tx_super = TX_SUPER
        self.rx_frames = RX_FRAMES
        e1k_mutex_init(&self.mutex)
        e1k_mutex_init(&self.drive)
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.notice_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def __dealloc__(self):
        e1k_mutex_destroy(&self.mutex)
        e1k_mutex_destroy(&self.drive)
        if self.tx_room:        # else the arguments were refused, and 0 is another's descriptor
            e1k_close(&self.wake_fd)
            e1k_close(&self.notice_fd)

    def fileno(self):
        """The eventfd that is readable when there are notices."""
        return self.notice_fd

    def attach(self, EventLine line not None, tape=None):
        """Take the rings over, with interrupts on `line`. Call before `run`, with nothing
        running.

        `tape` (`e1000emu.record.recorder`) records: each step and each register access then goes
        through it, with the path held, the GIL, and the time that the tape gives.
        Raises: ArgumentError when the device has a bus that runs by the clock.
        """
        if self.tx.fetch is not None:
            raise ArgumentError(
                "DataPath: the NIC's bus takes time of its clock, and a thread works rings in "
                "none; leave the rings to the clock (threads=False), or give the NIC no bus"
            )
        self.tape = tape
        self.python = self.taped = tape is not None
        self.tx.worker = self.rx.worker = self
        self.irq._go_threaded(line, self)
        faults = self.tx.faults
        if faults is not None:
            faults.work(self)

    def inject(self, faults):
        """Let `faults` (`e1000emu.insight.faults`) decide from now on how each step of a ring
        fails; None: none does. Hold the path."""
        self.faults = faults
        self.python = self.taped or faults is not None

    # --- life ------------------------------------------------------------------------------------

    @property
    def run_state(self):
        """RUNNING, PAUSED or HALTED (`fastpath.lifecycle.RunState`)."""
        return self.lifecycle.state

    def pause(self):
        """Leave the rings and the wire to the clock. Hold the path; any thread with the GIL may.

        After return the thread runs no engine, reads nothing from the wire, and doorbells do not
        wake it. It still serves interrupts and their delays, and still sends the frames that it has
        taken from the ring. Returns (batch, index) of frames that were read and not yet stored, for
        the caller to store, or None. Nothing is lost.
        Raises: LifecycleError when it does not run.
        """
        return self._pause() if self.tape is None else self.tape.call("pause_worker", self._pause)

    def _pause(self):
        self.lifecycle.enter(Call.PAUSE)
        left = None
        e1k_put(&self.still, PAUSED)
        with nogil:
            while e1k_get(&self.reading):
                sched_yield()
        if self.rx_at < self.rxb.n:
            left = self.rxb, self.rx_at
            self.rxb = FrameBatch()
        self.hand_over(None)
        return left

    def resume(self):
        """Take the rings and the wire back. Hold the path; any thread with the GIL may.

        Doorbells of the meantime are served when the path is released. Raises: LifecycleError when
        it is not paused.
        """
        if self.tape is None:
            self._resume()
        else:
            self.tape.call("resume_worker", self._resume)

    def _resume(self):
        self.lifecycle.enter(Call.RESUME)
        self.hand_over(self)
        e1k_put(&self.still, RUNS)

    cdef int hand_over(self, Worker worker) except -1:
        """Give the rings to `worker`, or to the clock (None); forget frames read from the wire."""
        self.tx.worker = self.rx.worker = worker
        self.rx_at = self.rxb.n
        e1k_put(&self.rx_left, 0)
        e1k_put(&self.rx_wait, 0)
        e1k_put(&self.fifo_left, 0)
        return 0

    def halt(self):
        """Let `run` return, soon; join its thread then. Any thread may, without the path; safe to
        call twice.

        No engine run begins any more. Frames read from the wire and not yet stored are lost. Frames
        that wait for the wire are lost too, unless the caller sends them by `step` after `run` has
        returned. The ring, its registers and the interrupt block are as the last run left them.
        """
        self.lifecycle.enter(Call.HALT)
        e1k_put(&self.still, HALTED)
        e1k_event(self.wake_fd)

    cdef bint busy(self) noexcept nogil:
        return e1k_get(&self.tx_left) and e1k_get(&self.still) != HALTED

    # --- for other threads -------------------------------------------------------------------

    def __enter__(self):
        e1k_lock_gil(&self.mutex)
        return self

    def __exit__(self, *exc):
        if not self.noticing:
            self.tx_stuck = False       # the holder may have changed what stopped the ring
        self.noticing = False
        self.note_waiting(NO_TAIL)
        e1k_unlock(&self.mutex)
        self.look_again()

    cdef void wake(self) noexcept nogil:
        e1k_fence()
        if e1k_get(&self.asleep) == ASLEEP:
            self.look_again()

    cdef void look_again(self) noexcept nogil:
        """Wake the thread: its work or its deadlines may have changed."""
        e1k_fence()
        if e1k_get(&self.asleep) and e1k_swap(&self.asleep, AWAKE) == ASLEEP:
            e1k_count(&self.wakes)      # without the lock: the other threads count, too
            e1k_event(self.wake_fd)

    cdef void tx_doorbell(self) noexcept nogil:
        self.tx_stuck = False
        self.bell = True

    cdef void rx_doorbell(self) noexcept nogil:
        if e1k_get(&self.rx_left) or e1k_get(&self.fifo_left):
            self.wake()

    cdef bint drains(self) noexcept nogil:
        return not self.taped           # a replay must do each step in the same thread

    def close(self):
        """Give back the descriptors, after `run` has returned; safe to call twice."""
        e1k_close(&self.wake_fd)
        e1k_close(&self.notice_fd)

    cdef void notice(self, uint32_t what) noexcept nogil:
        # with the lock held
        self.notices |= what
        e1k_event(self.notice_fd)

    def take_notices(self):
        """Return (NOTICE_* bits, transmit RUN_* flags, receive causes, errno of the wire) since
        the last call. Hold the path for this call only: a stuck ring (at an address without
        memory, for example) tries again after any other holder releases the path, but not after
        this."""
        self.noticing = True
        e1k_event_clear(self.notice_fd)
        out = self.notices, self.tx_flags, self.rx_causes, self.link_errno
        self.notices = self.tx_flags = self.rx_causes = 0
        return out

    def receive_control(self):
        """Give the batch with a MAC control frame in it to `Nic.receive`. Hold the path."""
        if not e1k_get(&self.rx_wait):
            return              # `pause` has taken it
        if e1k_get(&self.mac.stopped):
            e1k_put(&self.rx_wait, 0)   # the thread asks again when the device runs
            return
        if self.rx_at < self.rxb.n:
            receive = self.run_receive if self.tape is None else self.tape.receive
            self.rx_at = receive(self.rxb, self.rx_at, True)
            self.publish_rest()
        e1k_put(&self.rx_wait, 0)

    def read_again(self):
        """Read the wire again after an error. Hold the path."""
        e1k_put(&self.link_errno, 0)

    def counters(self):
        """Return the counters by name."""
        return {
            "turns": self.turns, "sleeps": self.sleeps, "wakes": self.wakes,
            "tx_batches": self.tx_batches, "rx_batches": self.rx_batches,
            "refused": self.refused,
        }

    # --- tape and faults -------------------------------------------------------------------------

    def run_tx(self, FrameBatch batch not None, int room, int64_t now):
        """Run the transmit engine once, with faults, at most `room` frames into `batch`: RUN_* and
        causes. Hold the path."""
        if self.faults is not None:
            return self.faults.send(batch, room, now)
        return self.step_sending(batch, room, now)

    def run_rx(self, FrameBatch batch not None, int start, int64_t now):
        """Store frames of `batch` from `start` on, with faults: (index after the last, causes and
        RX_*). Hold the path."""
        if self.faults is not None:
            return self.faults.store(batch, start, now)
        return self.step_storing(batch, start, now)

    def step_sending(self, FrameBatch batch not None, int room, int64_t now):
        """Run the transmit engine once: RUN_* and causes. Hold the path."""
        return self._step_sending(batch, room, now)

    def step_storing(self, FrameBatch batch not None, int start, int64_t now):
        """Store frames of `batch` from `start` on: (index after the last, causes and RX_*). Hold
        the path."""
        cdef uint32_t events
        cdef int end
        if not 0 <= start <= batch.n:
            raise IndexError(f"DataPath.run_rx: frame {start} of a batch of {batch.n}")
        end = self.rx._receive(batch, start, True, now, &events)
        return end, events

    def run_receive(self, FrameBatch batch not None, int start, bint hold):
        """Let Python have the frames (`Nic.receive`): index after the last that is done. Hold the
        path."""
        return self.rx.entry(batch, start, hold)

    def must_filter(self, FrameBatch batch not None):
        """Whether Python must see the frames first, so `run_rx` would store none. Hold the path."""
        return self.rx.must_filter(batch, 0)

    def run_tick(self, int64_t now):
        """Let the interrupt block do what is due. Hold the path."""
        self.irq.tick(now)

    def run_read(self, RegFile regs not None, uint64_t off, int64_t now):
        """Read a register as the message thread does; None: it cannot, and nothing was done.

        Hold the path.
        """
        cdef uint32_t value
        return value if regs.hot_read(off, &value, now) else None

    def run_write(self, RegFile regs not None, uint64_t off, uint32_t value, int64_t now):
        """Write a register as the message thread does; False: it cannot, and nothing was done.

        Hold the path.
        """
        return regs.hot_write(off, value, now)

    # A tape and faults run with the GIL, which a thread takes here while it holds the path. That
    # cannot deadlock: a thread with the GIL releases it to wait for the path (`e1k_lock_gil`).

    cdef uint32_t python_tx(self, int64_t now) noexcept with gil:
        if self.taped:
            return self.tape.send(self.txb, self.tx_room)
        return self.run_tx(self.txb, self.tx_room, now)

    cdef int python_rx(self, int64_t now, uint32_t *events) noexcept with gil:
        events[0] = 0
        if self.taped:
            end, events[0] = self.tape.store(self.rxb, self.rx_at)
        else:
            end, events[0] = self.run_rx(self.rxb, self.rx_at, now)
        return end

    cdef void tape_tick(self) noexcept with gil:
        self.tape.tick()

    cdef bint tape_read(self, RegFile regs, uint64_t off, uint32_t *value) noexcept with gil:
        read = self.tape.read(regs, off)
        if read is None:
            return False
        value[0] = read
        return True

    cdef bint tape_write(self, RegFile regs, uint64_t off, uint32_t value) noexcept with gil:
        return self.tape.write(regs, off, value)

    cdef uint32_t _step_sending(self, FrameBatch batch, int room, int64_t now) noexcept nogil:
        """Run the transmit engine into `batch`, and raise its causes; a super-frame counts as its
        segments."""
        cdef tx_budget budget = tx_budget_of(room)
        cdef uint32_t flags = self.tx._step(batch, &budget)
        cdef uint64_t frames = 0, nbytes = 0
        wire_add(batch, 0, batch.n, &frames, &nbytes)
        self.tx.raise_causes(flags, frames, now)
        return flags

    cdef void tick(self, int64_t now) noexcept nogil:
        e1k_lock(&self.mutex)
        if self.taped:
            self.tape_tick()
        else:
            self.irq.tick(now)
        e1k_unlock(&self.mutex)

    cdef bint read(self, RegFile regs, uint64_t off, uint32_t *value) noexcept nogil:
        """Read a register without Python; False when Python is needed."""
        cdef const reg *r
        cdef bint out
        if not self.taped:
            if regs.hot_read(off, value, 0):
                return True
            # A driver reads all counters at once, 60 of them, and Linux's with interrupts off.
            r = regs.counter(off)
            if r == NULL:
                return False
            e1k_lock(&self.mutex)       # the engines count, and a read clears
            value[0] = (<Stats>r.hook).read_slot(r.slot, r.part, True)
            e1k_unlock(&self.mutex)
            return True
        e1k_lock(&self.mutex)
        out = self.tape_read(regs, off, value)
        e1k_unlock(&self.mutex)
        return out

    cdef bint write(self, RegFile regs, uint64_t off, uint32_t value) noexcept nogil:
        """Write a register without Python; False when Python is needed."""
        cdef bint out
        if not self.taped:
            return regs.hot_write(off, value, 0)
        e1k_lock(&self.mutex)
        out = self.tape_write(regs, off, value)
        e1k_unlock(&self.mutex)
        return out

    # --- the thread --------------------------------------------------------------------------

    def run(self):
        """Work until `halt`. Call from a thread of its own; releases the GIL all the time."""
        cdef int64_t now
        with nogil:
            e1k_lock(&self.drive)
            while e1k_get(&self.still) != HALTED:
                if e1k_get(&self.wanted):
                    e1k_unlock(&self.drive)
                    e1k_wait_while(&self.wanted, 1)
                    e1k_lock(&self.drive)
                    continue
                now = e1k_now_ns()
                self.turns += 1
                if not self.turn(now):
                    self.sleep(NULL, 0)
            e1k_unlock(&self.drive)

    def step(self):
        """One turn in the calling thread, after `run` has returned: whether it did anything."""
        cdef bint did
        with nogil:
            did = self.turn(e1k_now_ns())
        return did

    cdef bint try_take_over(self) noexcept nogil:
        """Let the calling thread do the work, unless the thread of `run` is doing it."""
        if not e1k_trylock(&self.drive):
            return False
        e1k_put(&self.asleep, TAKEN)
        return True

    cdef void give_back(self) noexcept nogil:
        """Return the work to the thread of `run`; wake it if it has work before its deadline."""
        cdef int64_t due, until = self.sleeps_until
        cdef bint more = e1k_swap(&self.asleep, ASLEEP) == AWAKE    # by `look_again`
        # From here on new work wakes the thread.
        due = self.irq.next_due()
        if self.tx_due and (not due or self.tx_due < due):
            due = self.tx_due
        if (self.may_send() or e1k_get(&self.tx_left) or e1k_get(&self.rx_left) or self.may_drain()
                or (due and (not until or due < until))):
            more = True
        e1k_unlock(&self.drive)
        if more:
            self.wake()

    cdef void take_over(self) noexcept nogil:
        """Let the calling thread do the work until `hand_back`; the thread of `run` waits."""
        e1k_put(&self.wanted, 1)
        e1k_lock(&self.drive)
        e1k_put(&self.asleep, AWAKE)
        self.tx_frames = SOLO_TX_FRAMES
        self.tx_super = SOLO_TX_SUPER
        self.rx_frames = SOLO_RX_FRAMES

    cdef void hand_back(self) noexcept nogil:
        """Let the thread of `run` continue."""
        self.tx_frames = TX_FRAMES
        self.tx_super = TX_SUPER
        self.rx_frames = RX_FRAMES
        e1k_put(&self.wanted, 0)
        e1k_changed(&self.wanted)
        e1k_unlock(&self.drive)
        e1k_event(self.wake_fd)         # it may sleep until an outdated deadline

    cdef bint may_send(self) noexcept nogil:
        return (self.tx.engine.v[TDH >> 2] != self.tx.engine.v[TDT >> 2] and self.tx.may()
                and not e1k_get(&self.still) and self.tx.loop is None and not self.tx_stuck
                and not self.tx_due)

    cdef bint turn(self, int64_t now) noexcept nogil:
        cdef int64_t due = self.irq.next_due()
        cdef bint did = False
        if due and now >= due:
            self.tick(now)
            did = True
        if self.send(now):
            did = True
        if self.drain(now):
            did = True
        if self.receive(now):
            did = True
        return did

    cdef bint send(self, int64_t now) noexcept nogil:
        cdef uint32_t flags
        if self.tx_at >= self.txb.n:
            flags = self.take_frames(now)
            if self.tx_at >= self.txb.n:
                return flags & RUN_MORE != 0
        return self.deliver()

    cdef uint32_t take_frames(self, int64_t now) noexcept nogil:
        """Run the engine once into `txb`, which the wire has taken: RUN_*."""
        cdef uint32_t flags, tail
        if self.tx_due and now >= self.tx_due:
            self.tx_due = 0
        if not self.may_send():
            return 0
        self.txb.n = 0
        self.txb.used = 0
        self.tx_at = 0
        e1k_lock(&self.mutex)
        if not self.may_send():
            e1k_unlock(&self.mutex)
            return 0
        tail = self.tx.engine.v[TDT >> 2]
        flags = (self.python_tx(now) if self.python
                 else self._step_sending(self.txb, self.tx_room, now))
        if self.tx_due:
            e1k_unlock(&self.mutex)     # a fault delays sending until then
            return 0
        if flags & RUN_OFF or (not self.txb.n and not flags & RUN_MORE
                               and self.tx.engine.v[TDH >> 2] != self.tx.engine.v[TDT >> 2]):
            # stuck until a register changes, which may have happened meanwhile
            self.tx_stuck = True
            e1k_fence()
            if self.tx.engine.v[TDT >> 2] != tail:
                self.tx_stuck = False
        e1k_put(&self.tx_left, self.txb.n)
        if flags & ~<uint32_t>(CAUSES | RUN_MORE | RUN_DELAYED):
            self.tx_flags |= flags
            self.notice(_TX_RARE)
        e1k_unlock(&self.mutex)
        if self.txb.n:
            self.tx_batches += 1
            self.tx_room = (self.tx_super if self.txb.used > <size_t>self.txb.n * LARGE
                            else self.tx_frames)
        return flags

    cdef bint deliver(self) noexcept nogil:
        """Give `txb` to the wire, as far as that has room: whether it took any."""
        cdef int dropped = 0, error = 0, was = self.tx_at
        self.tx_at = self.queue.write_batch(self.txb, was, &dropped, &error)
        e1k_put(&self.tx_left, self.txb.n - self.tx_at)
        if dropped:
            self.refused += dropped
        return self.tx_at > was

    cdef bint may_store(self) noexcept nogil:
        return (e1k_get(&self.rx_left) and not e1k_get(&self.rx_wait)
                and not e1k_get(&self.mac.stopped)
                and (not self.rx.open
                     or self.rx.engine._takes(e1k_get(&self.rx_size))))

    cdef bint may_drain(self) noexcept nogil:
        return (e1k_get(&self.fifo_left) and not e1k_get(&self.still)
                and not e1k_get(&self.mac.stopped)
                and self.rx.engine._tail() != self.drained_to)

    cdef void note_waiting(self, uint32_t tail) noexcept nogil:
        """With the lock held: write down whether frames wait in the FIFO, for descriptors behind
        `tail`."""
        self.drained_to = tail
        e1k_put(&self.fifo_left, 0 if self.taped or e1k_get(&self.still)
                else self.rx.engine.fifo.count)

    cdef bint drain(self, int64_t now) noexcept nogil:
        """Store what waits in the FIFO, when there are descriptors again."""
        cdef uint32_t tail
        cdef bint did
        if not self.may_drain():
            return False
        e1k_lock(&self.mutex)
        did = self.may_drain()
        if did:
            tail = self.rx.engine._tail()       # before the engine reads it: it may move
            self.report_events(self.rx.drain(now))
            self.note_waiting(tail)
        e1k_unlock(&self.mutex)
        return did

    cdef void report_events(self, uint32_t events) noexcept nogil:
        """With the lock held: notify of events that only Python can handle."""
        if events & (RX_ABORT | RX_DATA_ABORT | RXSEQ):
            self.rx_causes |= events
            self.notice(_RX_RARE)
        if events & RX_LEVEL:
            self.notice(_FIFO)

    cdef void publish_rest(self) noexcept nogil:
        """Publish the rest of `rxb`, for readers without the lock."""
        if self.rx_at < self.rxb.n:
            e1k_put(&self.rx_size, self.rxb.f[self.rx_at].len)
        e1k_put(&self.rx_left, self.rxb.n - self.rx_at)

    cdef bint fetch(self, int64_t now, int *error) noexcept nogil:
        """Read a batch from the wire; whether there is one. `pause` waits until this returns."""
        cdef int64_t gather
        cdef uint32_t room
        if e1k_get(&self.link_errno) or now < self.rx_next:
            return False
        # A burst is half a ring.
        room = self.irq.room(max(self.rx_burst, <uint32_t>RX_FRAMES), now)
        room = min(room, <uint32_t>self.rx_frames)
        self.rx_paused = room == 0
        if not room:
            return False
        self.rxb.n = 0
        self.rxb.used = 0
        self.rx_at = 0
        self.queue.read_batch(self.rxb, room, error)
        self.rx_next = 0
        if <uint32_t>self.rxb.n < room:
            # The wire is empty. If the next interrupt is some way off, let frames come together.
            gather = self.irq.gather(now)
            if gather:
                self.rx_next = now + gather
        if not self.rxb.n:
            return False
        self.publish_rest()
        self.rx_batches += 1
        return True

    cdef bint receive(self, int64_t now) noexcept nogil:
        cdef uint32_t events, tail
        cdef int error = 0, start
        cdef bint there, did
        if e1k_get(&self.rx_wait) or e1k_get(&self.mac.stopped):
            return False
        e1k_put(&self.reading, 1)
        there = not e1k_get(&self.still) and (e1k_get(&self.rx_left) > 0
                                              or self.fetch(now, &error))
        e1k_put(&self.reading, 0)
        if error and error != EAGAIN:
            e1k_lock(&self.mutex)
            e1k_put(&self.link_errno, error)
            self.notice(_LINK)
            e1k_unlock(&self.mutex)
        if not there:
            return False
        e1k_lock(&self.mutex)
        if e1k_get(&self.still) or e1k_get(&self.mac.stopped) or not e1k_get(&self.rx_left):
            e1k_unlock(&self.mutex)     # paused meanwhile
            return False
        start = self.rx_at
        # A frame without room waits here, unless the link is closed or Python has it first.
        if (self.rx.engine._takes(self.rx_size) or not self.rx.open
                or self.rx.must_filter(self.rxb, start)):
            tail = self.rx.engine._tail()
            if self.python:
                self.rx_at = self.python_rx(now, &events)
            else:
                self.rx_at = self.rx._receive(self.rxb, start, True, now, &events)
            if events & RX_FILTER:
                e1k_put(&self.rx_wait, 1)
                self.notice(_CONTROL)
            self.report_events(events)
            self.note_waiting(tail)
            self.rx_burst = self.rx.engine.v[RDLEN >> 2] >> 5
        self.publish_rest()
        did = self.rx_at > start
        e1k_unlock(&self.mutex)
        return did

    cdef void sleep(self, pollfd *more, int n) noexcept nogil:
        """Wait for work or for one of `n` other descriptors; without those another thread may
        `try_take_over`."""
        cdef pollfd fds[4]
        cdef int64_t due, now, wait = -1
        cdef bint blocked, paced
        e1k_put(&self.asleep, ASLEEP)
        e1k_fence()
        # Work that came between the last check and `asleep` has not woken this thread.
        if (e1k_get(&self.still) == HALTED or (self.may_send() and not e1k_get(&self.tx_left))
                or self.may_store() or self.may_drain()):
            e1k_put(&self.asleep, AWAKE)
            return
        blocked = e1k_get(&self.rx_left) > 0
        due = self.irq.next_due()
        now = e1k_now_ns()
        paced = now < self.rx_next
        if paced and (not due or self.rx_next < due):
            due = self.rx_next
        if self.tx_due and (not due or self.tx_due < due):
            due = self.tx_due
        if due:
            wait = due - now
            if wait < 0:
                wait = 0
        if e1k_get(&self.tx_left) and (wait < 0 or wait > FULL_RETRY_NS):
            wait = FULL_RETRY_NS
        fds[0].fd = self.wake_fd
        fds[0].events = POLLIN
        fds[1].fd = self.queue.fd
        fds[1].events = 0
        if not (blocked or e1k_get(&self.link_errno) or e1k_get(&self.still)
                or e1k_get(&self.mac.stopped) or self.rx_paused or paced):
            fds[1].events |= POLLIN
        if e1k_get(&self.tx_left) and self.queue.polls_out:
            fds[1].events |= POLLOUT
        if not fds[1].events:
            fds[1].fd = -1
        fds[0].revents = 0
        self.sleeps += 1
        self.sleeps_until = due
        if n:
            memcpy(fds + 2, more, n * sizeof(pollfd))
            e1k_poll(fds, 2 + n, wait)
            memcpy(more, fds + 2, n * sizeof(pollfd))
        else:
            e1k_unlock(&self.drive)
            e1k_poll(fds, 2, wait)
            e1k_lock(&self.drive)
        e1k_put(&self.asleep, AWAKE)
        if fds[0].revents:
            e1k_event_clear(self.wake_fd)


cdef enum:
    BUFFER = 64 * 1024
    # what a form of a `MessageTable` asks for
    _READ = 0
    _WRITE = 1
    _UNMASK = 2
    LOOKS = 4                   # checks for a message per check for other work
    SOLO_LOOK = 8               # reads of the socket between two turns for frames

cdef enum:
    COLD = 0
    QUIET = -1                  # served, no answer wanted


POLLING = {
    "spin_ns": (
        50_000, "how long a read of the socket is repeated before the thread sleeps: a client that "
                "waits sleeps within microseconds too, and to wake takes tens of them"),
    "one_way_spin_ns": (
        50_000, "the same at most while the guest only receives: nobody waits for its answers, and "
                "the sender, often on this machine, needs a processor of its own"),
    "small_send": (
        2, "so few descriptors this thread sends itself: that costs no more than to wake the other "
           "one"),
    "crowd_ns": (
        60_000, "a yield that takes longer has met a thread that computes: QEMU's threads that "
                "answer for the guest take a third of that"),
    "crowded_ns": (
        5_000_000, "so long the thread then sleeps instead of polling: the kernel's ticks, at "
                   "which others yield, are 1 to 10 ms apart"),
}
"""Parameter of `Polling` -> its value and the reason for it. They were measured with
`make bench-guest` (docs/performance.md)."""
MESSAGE_READ = _READ
MESSAGE_WRITE = _WRITE
MESSAGE_UNMASK = _UNMASK


cdef enum:
    FORM_WORDS = 5
    FORM_BYTES = 8 * FORM_WORDS     # the longest message or answer of a form
    MOST_FORMS = 8

cdef struct message_form:
    int kind
    uint32_t size, answer_size      # bytes of the message and its answer
    uint32_t offset_at, value_at    # bytes from their beginnings
    uint64_t mask[FORM_WORDS]       # a message is of the form if it is `match` under it
    uint64_t match[FORM_WORDS]
    uint64_t echo[FORM_WORDS]       # bits of the message that the answer has too
    uint64_t answer[FORM_WORDS]


@cython.final
cdef class MessageTable:
    """How a protocol's messages look: what is cut from a stream, matched, and answered.

    A message has `header_bytes` at least, with its size as 32 bits at `size_at`. Bits `quiet_bits`
    of the 32 at `quiet_at` say that no answer is wanted. All numbers are little endian.
    Raises: ArgumentError.
    """

    cdef uint32_t header_bytes, size_at, quiet_at, quiet_bits
    cdef uint32_t count
    cdef message_form forms[MOST_FORMS]

    def __init__(self, *, uint32_t header_bytes, uint32_t size_at, uint32_t quiet_at,
                 uint32_t quiet_bits):
        if <uint64_t>max(size_at, quiet_at) + 4 > header_bytes or header_bytes > FORM_BYTES:
            raise ArgumentError(
                f"MessageTable: header_bytes={header_bytes}, size_at={size_at}, "
                f"quiet_at={quiet_at}; give fields inside a header of at most {FORM_BYTES} bytes"
            )
        self.header_bytes = header_bytes
        self.size_at = size_at
        self.quiet_at = quiet_at
        self.quiet_bits = quiet_bits

    def add(self, int kind, *, const uint8_t[::1] match not None, const uint8_t[::1] mask not None,
            const uint8_t[::1] echo not None, const uint8_t[::1] answer not None,
            uint32_t offset_at=0, uint32_t value_at=0):
        """Match messages of len(match) bytes that are `match` where `mask` has ones.

        The answer is `answer`, with the bits of the message where `echo` has ones. `kind` is
        MESSAGE_READ or MESSAGE_WRITE of the register at the 64-bit offset that stands at
        `offset_at`; its 32 bits are in the answer (a read) or message (a write) at `value_at`.
        Or it is MESSAGE_UNMASK of the interrupt. Raises: ArgumentError.
        """
        cdef message_form *form = &self.forms[self.count]
        cdef Py_ssize_t size = match.shape[0], made = answer.shape[0]
        holder = size if kind == _WRITE else made
        if (self.count == MOST_FORMS or not _READ <= kind <= _UNMASK
                or not self.header_bytes <= size <= FORM_BYTES or made > FORM_BYTES
                or mask.shape[0] != size or echo.shape[0] != made or made > size + 4
                or (kind != _UNMASK and (<int64_t>offset_at + 8 > size
                                         or <int64_t>value_at + 4 > holder))):
            raise ArgumentError(
                f"MessageTable: kind={kind}, {size} bytes, answer of {made}; give at most "
                f"{MOST_FORMS} forms, {FORM_BYTES} bytes, masks as long, fields inside them"
            )
        memset(form, 0, sizeof(message_form))
        form.kind = kind
        form.size = <uint32_t>size
        form.answer_size = <uint32_t>made
        form.offset_at = offset_at
        form.value_at = value_at
        memcpy(form.match, &match[0], size)
        memcpy(form.mask, &mask[0], size)
        if made:
            memcpy(form.echo, &echo[0], made)
            memcpy(form.answer, &answer[0], made)
        self.count += 1

    def read(self, bytes message not None, uint32_t value=0):
        """What a `BusPump` makes of a message: (kind, offset, value written, answer), or None.

        The answer is b"" when none is wanted; it says that a read register has `value`.
        """
        cdef uint64_t out[FORM_WORDS]
        cdef bytes padded = message + bytes(FORM_BYTES)
        cdef const uint8_t *m = padded
        cdef const message_form *form
        if len(message) < self.header_bytes:
            return None
        form = self.find(m, <uint32_t>len(message))
        if form == NULL:
            return None
        answer = b""
        if not self.quiet(m):
            self.make_answer(form, m, value, out)
            answer = PyBytes_FromStringAndSize(<char *>out, form.answer_size)
        has_offset = form.kind != _UNMASK
        return (form.kind, ld64le(m + form.offset_at) if has_offset else 0,
                ld32le(m + form.value_at) if form.kind == _WRITE else 0, answer)

    cdef bint quiet(self, const uint8_t *m) noexcept nogil:
        """Whether no answer to the message is wanted."""
        return ld32le(m + self.quiet_at) & self.quiet_bits != 0

    cdef void make_answer(self, const message_form *form, const uint8_t *m, uint32_t value,
                          uint64_t *out) noexcept nogil:
        """Write the answer to a message of this form; a register that is read has `value`."""
        # Without a loop, as in `find`: whole words, whose masks are 0 beyond the message's end.
        out[0] = form.answer[0] | (ld64le(m) & form.echo[0])
        out[1] = form.answer[1] | (ld64le(m + 8) & form.echo[1])
        out[2] = form.answer[2] | (ld64le(m + 16) & form.echo[2])
        out[3] = form.answer[3] | (ld64le(m + 24) & form.echo[3])
        out[4] = form.answer[4] | (ld64le(m + 32) & form.echo[4])
        if form.kind == _READ:
            st32le(<uint8_t *>out + form.value_at, value)

    cdef const message_form *find(self, const uint8_t *m, uint32_t size) noexcept nogil:
        """The form of a message, or NULL."""
        cdef const message_form *form = &self.forms[0]
        cdef const message_form *end = form + self.count
        while form != end:
            if form.size == size and not (
                    (ld64le(m) & form.mask[0] ^ form.match[0])
                    | (ld64le(m + 8) & form.mask[1] ^ form.match[1])
                    | (ld64le(m + 16) & form.mask[2] ^ form.match[2])
                    | (ld64le(m + 24) & form.mask[3] ^ form.match[3])
                    | (ld64le(m + 32) & form.mask[4] ^ form.match[4])):
                return form
            form += 1
        return NULL


cdef class Polling:
    """How a `BusPump` waits for messages: what `POLLING` has, unless chosen otherwise.

    Raises: ArgumentError.
    """

    cdef public int64_t spin_ns, one_way_spin_ns, crowd_ns, crowded_ns
    cdef public uint32_t small_send

    def __cinit__(self, **chosen):
        for name, value in parameters("Polling", POLLING, chosen).items():
            setattr(self, name, value)


cdef class BusPump:
    """Reads a client's socket and serves the frequent messages, without the GIL.

    `table` says which these are: 4-byte reads of BAR 0 registers without side effect, 4-byte reads
    and writes of registers that the register table calls hot, and the interrupt's unmask. `recv`
    returns all others, in order. `polling` says how it waits. Needs a NIC with a `DataPath`.
    """

    cdef MessageTable table
    cdef int fd, stop_fd, stopping
    cdef uint8_t *buf
    cdef size_t have
    cdef RegFile regs
    cdef MacState mac
    cdef TxPort tx
    cdef IrqBlock irq
    cdef DataPath path
    cdef readonly Polling polling
    cdef bint unmask
    cdef public bint solo
    cdef readonly uint64_t messages, reads, writes, posted, receives, sleeps, sends
    cdef bytes unsent
    cdef int64_t crowded_until

    def __cinit__(self, int fd, RegFile regs not None, DataPath path not None,
                  MessageTable table not None, Polling polling=None):
        self.polling = Polling() if polling is None else polling
        self.fd = fd
        self.table = table
        self.regs = regs
        self.path = path
        self.mac = path.mac
        self.tx = path.tx
        self.irq = path.irq
        self.unsent = b""
        self.stop_fd = -1
        self.buf = <uint8_t *>malloc(BUFFER + FORM_BYTES)     # `find` reads so much of each message
        if self.buf == NULL:
            raise MemoryError
        self.stop_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def __dealloc__(self):
        free(self.buf)
        if self.buf != NULL:    # else the arguments were refused, and 0 is another's descriptor
            e1k_close(&self.stop_fd)

    def stop(self):
        """Let `recv` return (b"", [], False, 0) soon, whatever else there is to do."""
        e1k_put(&self.stopping, 1)
        e1k_event(self.stop_fd)

    def close(self):
        """Give back the descriptor, after `recv` has returned; safe to call twice."""
        e1k_close(&self.stop_fd)

    def take_unsent(self):
        """The part of an answer that the socket did not take; send it before any other answer."""
        out, self.unsent = self.unsent, b""
        return out

    def recv(self, bint serve=True):
        """Serve messages until one arrives that the caller must serve.

        Returns (data, descriptors, truncated, errno): bytes from the start of that message on, all
        that was read; the descriptors that came with them, now the caller's. No data and errno 0
        is the end of the stream, or `stop`. With `serve` false the next read is returned as it is:
        the caller has part of a message. Releases the GIL while it waits.
        """
        cdef int fds[E1K_MAX_FDS]
        cdef int count = 0, truncated = 0, error = 0, n
        cdef uint32_t served = 0, looks = 0     # they wrap
        cdef ssize_t got = 0
        cdef size_t at, size
        cdef pollfd p[2]
        cdef int64_t now = 0, since = 0, spin
        cdef uint64_t out[FORM_WORDS]
        cdef uint32_t header = self.table.header_bytes, size_at = self.table.size_at
        cdef bint over = False, answered = False
        with nogil:
            if self.solo:
                self.path.take_over()
            while True:
                if e1k_get(&self.stopping):
                    e1k_put(&self.stopping, 0)
                    e1k_event_clear(self.stop_fd)
                    self.have = 0
                    got = 0
                    break
                got = e1k_recv(self.fd, self.buf + self.have, BUFFER - self.have, fds, &count,
                               &truncated)
                if got < 0:
                    if errno == EINTR:
                        continue
                    if errno != EAGAIN:
                        error = errno
                        break
                    now = e1k_now_ns()
                    # A client that waits goes to sleep within microseconds, and then its processor,
                    # which takes tens of them to wake: check for its message most often.
                    looks += 1
                    if self.solo and looks % LOOKS == 0 and self.path.turn(now):
                        since = 0
                        continue
                    if since == 0:
                        since = now
                    spin = self.polling.spin_ns
                    if self.irq.one_way(now):
                        spin = min(spin, self.polling.one_way_spin_ns)
                    if now - since < spin and now >= self.crowded_until:
                        if looks % LOOKS == 0:
                            self.yield_processor(now)
                        continue
                    p[0].fd = self.fd
                    p[1].fd = self.stop_fd
                    p[0].events = p[1].events = POLLIN
                    p[0].revents = p[1].revents = 0
                    if not self.solo:
                        self.sleeps += 1
                        e1k_poll(p, 2, -1)
                    elif not self.path.turn(now):
                        self.sleeps += 1
                        self.path.sleep(p, 2)
                    continue
                if got == 0:
                    break
                self.receives += 1
                since = 0
                self.have += <size_t>got
                if count or truncated or not serve:
                    break
                at = 0
                while self.have - at >= header:
                    size = ld32le(self.buf + at + size_at)
                    if size < header or size > BUFFER:
                        over = True
                        break
                    if self.have - at < size:
                        break
                    n = self.serve_hot(self.buf + at, <uint32_t>size, out)
                    if n == COLD:
                        over = True
                        break
                    at += size
                    self.messages += 1
                    if n > 0:
                        answered = True
                        got = e1k_send(self.fd, out, n)
                        if got < n:
                            with gil:
                                got = max(got, 0)
                                self.unsent = PyBytes_FromStringAndSize(<char *>out + got, n - got)
                            over = True
                    if self.unmask:
                        # After the answer, for which the guest's processor waits. If the level is
                        # still high, QEMU gets the next interrupt's event.
                        self.unmask = False
                        self.irq.unmask_line()
                    if over:
                        break
                if answered:
                    answered = False
                    now = e1k_now_ns()
                    if self.polling.spin_ns and now >= self.crowded_until:
                        self.yield_processor(now)   # the client may need it
                self.have -= at
                if self.have and at:
                    memmove(self.buf, self.buf + at, self.have)
                if over or self.have >= BUFFER - header:
                    break
                if self.solo:
                    # Only a few frames: the guest may wait for the answer to the next message.
                    served += 1
                    if served % SOLO_LOOK == 0:
                        self.path.turn(e1k_now_ns())
                    elif self.path.bell:
                        self.path.send(e1k_now_ns())
                    self.path.bell = False
                elif self.path.bell:
                    self.serve_doorbells()
            if self.solo:
                self.path.bell = False
                self.path.hand_back()
            elif self.path.bell:
                self.serve_doorbells()
        data = PyBytes_FromStringAndSize(<char *>self.buf, <Py_ssize_t>self.have)
        self.have = 0
        return data, [fds[i] for i in range(count)], bool(truncated), error

    cdef void yield_processor(self, int64_t now) noexcept nogil:
        """Yield the processor to another thread for a moment.

        If that takes long, other threads compute here and yield only at the kernel's ticks. For a
        while this thread then sleeps instead: a thread that is woken by a message runs at once.
        """
        cdef int64_t back
        sched_yield()
        back = e1k_now_ns()
        if back - now > self.polling.crowd_ns:
            self.crowded_until = back + self.polling.crowded_ns

    cdef void serve_doorbells(self) noexcept nogil:
        """After doorbells send a frame or two here, which costs no more than waking the other
        thread. It sends larger numbers, so that the next access does not wait for them."""
        cdef const uint32_t *v = self.tx.engine.v
        cdef uint32_t n = v[TDLEN >> 2] >> 4, head = v[TDH >> 2], tail = v[TDT >> 2]
        self.path.bell = False
        if tail < n and head < n:
            if ring_span(head, tail, n) <= self.polling.small_send and self.path.try_take_over():
                self.sends += 1
                # After a single frame (a ping) the answer may have arrived already.
                if self.irq.apart():
                    self.path.send(e1k_now_ns())
                else:
                    self.path.turn(e1k_now_ns())
                self.path.give_back()
                return
        self.path.wake()

    cdef int serve_hot(self, const uint8_t *m, uint32_t size, uint64_t *out) noexcept nogil:
        """Serve the message: the length of its answer in `out`, QUIET, or COLD."""
        cdef const message_form *form = self.table.find(m, size)
        cdef bint quiet = self.table.quiet(m)
        cdef uint32_t value = 0
        if form == NULL:
            return COLD
        if form.kind == _READ:
            if not (self.mac.memory_on
                    and self.path.read(self.regs, ld64le(m + form.offset_at), &value)):
                return COLD
            self.reads += 1
        elif form.kind == _WRITE:
            if not (self.mac.memory_on
                    and self.path.write(self.regs, ld64le(m + form.offset_at),
                                        ld32le(m + form.value_at))):
                return COLD
            self.writes += 1
            self.posted += quiet
        else:
            self.unmask = True
        if quiet:
            return QUIET
        self.table.make_answer(form, m, value, out)
        return form.answer_size
