# cython: language_level=3, embedsignature=True
"""When a cause that waits may interrupt: the policies beside ITR.

`Moderation` is the datasheet's: ITR and nothing else (SDM 13.4.18). `AdaptiveModeration` spares a
guest interrupts that it has no use for, each of which costs it several round trips to us. The
interrupt block (`fastpath/irqblock.pyx`) tells a policy what happens and asks it how long a cause
is to wait beyond ITR; it calls everything with its lock held, and with its time. The plain-Python
twin is ``_ref/moderation.py``.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef enum:
    # Causes that are frames; any other (link change, receive sequence error...) is news that waits
    # for nothing but the guest's own ITR: TXDW, TXQE, RXDMT0, RXO, RXT0, TXD_LOW, SRPD.
    FRAME_CAUSES = 0x180D3
    TX_CAUSES = 0x8003          # TXDW, TXQE, TXD_LOW
    FEW = 3                     # frames an interrupt brings that need no moderation
    MANY = 128                  # frames an interrupt shall bring when they come thick
    MANY_ONE_WAY = 64           # ...a guest that answers nothing: its socket's 208 KiB hold 92
    THIN_NS = 12_800_000        # and they do not when so many take that long
    FLOOR_MAX_NS = 2_000_000
    TX_WAIT_NS = 2_000_000
    TX_SILENCE_NS = 150_000
    RX_SILENCE_NS = 250_000
    PATIENCE_MAX = 16
    PATIENCE_LOST = 8           # of it by a wait in which nothing happened
    PROBE_FIRST = 16            # interrupts at silences before one is waited out again...
    PROBE_MOST = 128            # ...and when that was in vain again and again
    ANSWER_NS = 20_000_000      # a guest that has sent nothing for so long answers nothing
    PAUSE_SIXTEENTHS = 3        # of a handler, without frames for a guest that answers nothing
    HANDLER_MAX_NS = 10_000_000     # a handler that has not ended by then polls for good

cdef int64_t LONG_AGO = -(<int64_t>1 << 62)


cdef class Moderation:
    """The datasheet's: a cause waits for ITR and for nothing else."""

    name = "datasheet"

    cdef int64_t hold_back(self, uint32_t causes, int64_t last_ns, int64_t now) noexcept nogil:
        """When `causes` may interrupt, ITR aside; the line rose last at `last_ns`."""
        return LONG_AGO

    cdef void asserted(self, int64_t last_ns, int64_t now) noexcept nogil:
        """The line rises; before that it did at `last_ns`."""
        pass

    cdef void received(self, uint64_t frames, uint32_t descs, uint32_t ring,
                       int64_t now) noexcept nogil:
        """`frames` were stored in `descs` descriptors of a ring of `ring`."""
        pass

    cdef void sent(self, uint64_t frames, uint32_t descs, uint32_t ring,
                   int64_t now) noexcept nogil:
        """`frames` of `descs` descriptors of a ring of `ring` were sent."""
        pass

    cdef void handler(self, int64_t now) noexcept nogil:
        """ICR was read while the line was high: a handler begins."""
        pass

    cdef bint masks(self, bint unmasked, bint any_left, int64_t now) noexcept nogil:
        """IMS (`unmasked`) or IMC was written: whether `due` has become an earlier time."""
        return False

    cdef uint32_t room(self, uint32_t burst, int64_t now) noexcept nogil:
        """How many frames the guest is to get now, of bursts of at most `burst`."""
        return burst

    cdef int64_t due(self) noexcept nogil:
        """When `room` says something else, 0 for never."""
        return 0

    cdef void tick(self, int64_t now) noexcept nogil:
        """What was due is over."""
        pass

    cdef int64_t apart(self) noexcept nogil:
        """How long interrupts are kept apart just now."""
        return 0

    cdef bint one_way(self, int64_t now) noexcept nogil:
        """Whether the guest sends nothing: it answers nothing of what it receives."""
        return False

    cdef void forget(self) noexcept nogil:
        """The device was reset: what was learned is of another driver."""
        pass

    def __repr__(self):
        return f"<moderation {self.name}>"


cdef class AdaptiveModeration(Moderation):
    """Few frames at each interrupt: the guest wants each at once. Many: let the next bring more."""

    name = "adaptive"

    def __cinit__(self):
        self.floor_max_ns = FLOOR_MAX_NS
        self.probe = PROBE_FIRST

    cdef int64_t hold_back(self, uint32_t causes, int64_t last_ns, int64_t now) noexcept nogil:
        cdef int64_t wait = LONG_AGO
        if not causes & ~<uint32_t>TX_CAUSES:
            # Nobody waits for a frame that is sent, until the ring runs out of room, or the
            # guest falls silent: it may have used up what it may have under way.
            if self.floor_ns and self.tx_done < self.tx_enough:
                wait = last_ns + min(4 * self.floor_ns, <int64_t>TX_WAIT_NS)
                if self.patience <= 0:
                    wait = min(wait, self.tx_last + TX_SILENCE_NS)
        elif not causes & ~<uint32_t>FRAME_CAUSES:
            if self.rx_done < self.rx_enough:
                wait = last_ns + self.floor_ns
            if self.one_way(now):
                wait = max(wait, self.hold_until)
            elif self.patience <= 0:
                # A burst that is over need not wait: what follows it is the guest's answer.
                wait = min(wait, self.rx_last + RX_SILENCE_NS)
        return wait

    cdef void learn(self, int64_t last_ns, int64_t now) noexcept nogil:
        """Whether a silence is one side's wait for the other, or only a gap.

        Where a packet takes a guest longer than a silence, or the sender has no processor just
        then, frames go on by themselves, and an interrupt at each gap is one too many. So while
        frames come thick, a silence is waited out now and then: when something happened before the
        wait was over, so are those that follow, until waits in which nothing did.
        """
        cdef int64_t still = now - max(self.rx_last, self.tx_last)
        if self.floor_ns < 2 * RX_SILENCE_NS or now >= last_ns + 2 * FLOOR_MAX_NS:
            return      # a wait is no longer than a silence, or there was none
        if self.patience <= 0:
            self.patience += still >= TX_SILENCE_NS
        elif 2 * still < self.floor_ns:
            self.patience = min(self.patience + 1, <int>PATIENCE_MAX)
            self.probe = PROBE_FIRST
        else:
            self.patience -= PATIENCE_LOST
            if self.patience <= 0:
                self.patience = 1 - self.probe
                self.probe = min(2 * self.probe, <int>PROBE_MOST)

    cdef void asserted(self, int64_t last_ns, int64_t now) noexcept nogil:
        # How thick do frames come?
        cdef int64_t since = now - last_ns, want = THIN_NS
        self.learn(last_ns, now)
        if self.work > FEW and 0 < since < <int64_t>1 << 40:
            want = (MANY_ONE_WAY if self.one_way(now) else MANY) * since // <int64_t>self.work
        if want >= THIN_NS:
            self.floor_ns >>= 2
        else:
            self.floor_ns = min((self.floor_ns + want) // 2, self.floor_max_ns)
        self.work = 0
        self.tx_done = self.rx_done = 0

    cdef void received(self, uint64_t frames, uint32_t descs, uint32_t ring,
                       int64_t now) noexcept nogil:
        self.rx_enough = ring >> 1
        self.work += frames
        self.rx_since += <uint32_t>frames
        self.rx_done += descs
        self.rx_last = now

    cdef void sent(self, uint64_t frames, uint32_t descs, uint32_t ring,
                   int64_t now) noexcept nogil:
        # Nearly all: what is left lasts until the interrupt has found its way to the guest.
        self.tx_enough = ring - min(max(self.tx_late + (self.tx_late >> 2), ring >> 3), ring >> 1)
        self.work += frames
        self.tx_done += descs
        self.tx_last = self.tx_seen = now

    cdef void handler(self, int64_t now) noexcept nogil:
        self.handler_from = now
        self.rx_since = 0
        self.tx_late = self.tx_done

    cdef bint masks(self, bint unmasked, bint any_left, int64_t now) noexcept nogil:
        cdef bint sooner
        self.masked = not any_left
        if not unmasked:
            return False
        # Until now the guest was busy with the last interrupt, which is no silence.
        self.tx_last = now
        if not self.handler_from:
            return False
        if now - self.handler_from < HANDLER_MAX_NS:
            self.hold_until = now + PAUSE_SIXTEENTHS * (now - self.handler_from) // 16
        self.handler_from = 0
        self.rx_since = 0
        sooner = self.room_due != 0
        self.room_due = 0
        return sooner

    cdef uint32_t room(self, uint32_t burst, int64_t now) noexcept nogil:
        """How many frames the guest is to get now, of bursts of at most `burst`.

        Under a flood it would do nothing but take frames from the ring, and whom they are for
        would never run (receive livelock). A guest that answers nothing gets a burst for each run
        of its handler, and then 3/16 as long without; the wire holds the rest, or drops it,
        which costs the guest nothing. One that answers has a peer that waits: it is not held up.
        """
        cdef int64_t until = 0
        cdef uint32_t left = burst
        if self.one_way(now):
            if not self.handler_from:
                until = self.hold_until
            elif self.masked:
                until = self.handler_from + HANDLER_MAX_NS
            if now < until:
                left = burst - self.rx_since if self.rx_since < burst else 0
                if not left:
                    self.room_due = until
        return left

    cdef int64_t due(self) noexcept nogil:
        return self.room_due

    cdef void tick(self, int64_t now) noexcept nogil:
        if now >= self.room_due:
            self.room_due = 0

    cdef int64_t apart(self) noexcept nogil:
        return self.floor_ns

    cdef bint one_way(self, int64_t now) noexcept nogil:
        return now - self.tx_seen >= ANSWER_NS

    cdef void forget(self) noexcept nogil:
        self.floor_ns = 0
        self.patience = 0
        self.probe = PROBE_FIRST
        self.work = 0
        self.tx_done = self.rx_done = self.rx_since = self.tx_late = 0
        self.handler_from = self.hold_until = self.room_due = 0
        self.tx_last = self.rx_last = self.tx_seen = 0
        self.masked = True


POLICIES = {policy.name: policy for policy in (Moderation, AdaptiveModeration)}
