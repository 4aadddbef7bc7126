# cython: language_level=3
"""Rings and frames in a thread of their own; register accesses by messages in another."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from fastpath.base.batch cimport FrameBatch
from fastpath.nic.irqblock cimport IrqBlock, Worker
from fastpath.nic.macpath cimport MacState, RxPort, TxPort
from fastpath.nic.regfile cimport RegFile
from fastpath.base.threads cimport e1k_mutex
from fastpath.nic.wire cimport FrameQueue

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents

cdef class DataPath(Worker):
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
    cdef int hand_over(self, Worker worker) except -1
    cdef bint may_send(self) noexcept nogil
    cdef bint turn(self, int64_t now) noexcept nogil
    cdef bint send(self, int64_t now) noexcept nogil
    cdef uint32_t take_frames(self, int64_t now) noexcept nogil
    cdef bint deliver(self) noexcept nogil
    cdef bint may_store(self) noexcept nogil
    cdef bint may_drain(self) noexcept nogil
    cdef void note_waiting(self, uint32_t tail) noexcept nogil
    cdef bint drain(self, int64_t now) noexcept nogil
    cdef void report_events(self, uint32_t events) noexcept nogil
    cdef void publish_rest(self) noexcept nogil
    cdef bint fetch(self, int64_t now, int *error) noexcept nogil
    cdef bint receive(self, int64_t now) noexcept nogil
    cdef void sleep(self, pollfd *more, int n) noexcept nogil
    cdef void take_over(self) noexcept nogil
    cdef void hand_back(self) noexcept nogil
    cdef bint try_take_over(self) noexcept nogil
    cdef void give_back(self) noexcept nogil
    cdef void look_again(self) noexcept nogil
    cdef void notice(self, uint32_t what) noexcept nogil
    cdef uint32_t _step_sending(self, FrameBatch batch, int room, int64_t now) noexcept nogil
    cdef void tick(self, int64_t now) noexcept nogil
    cdef bint read(self, RegFile regs, uint64_t off, uint32_t *value) noexcept nogil
    cdef bint write(self, RegFile regs, uint64_t off, uint32_t value) noexcept nogil
    cdef uint32_t python_tx(self, int64_t now) noexcept with gil
    cdef int python_rx(self, int64_t now, uint32_t *events) noexcept with gil
    cdef void tape_tick(self) noexcept with gil
    cdef bint tape_read(self, RegFile regs, uint64_t off, uint32_t *value) noexcept with gil
    cdef bint tape_write(self, RegFile regs, uint64_t off, uint32_t value) noexcept with gil

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

cdef class MessageTable:
    cdef uint32_t header_bytes, size_at, quiet_at, quiet_bits
    cdef uint32_t count
    cdef message_form forms[MOST_FORMS]
    cdef const message_form *find(self, const uint8_t *m, uint32_t size) noexcept nogil
    cdef bint quiet(self, const uint8_t *m) noexcept nogil
    cdef void make_answer(self, const message_form *form, const uint8_t *m, uint32_t value,
                          uint64_t *out) noexcept nogil

cdef class Polling:             # `POLLING` has the reasons
    cdef public int64_t spin_ns, one_way_spin_ns, crowd_ns, crowded_ns
    cdef public uint32_t small_send

cdef class BusPump:
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
    cdef void yield_processor(self, int64_t now) noexcept nogil
    cdef void serve_doorbells(self) noexcept nogil
    cdef int serve_hot(self, const uint8_t *m, uint32_t size, uint64_t *out) noexcept nogil
