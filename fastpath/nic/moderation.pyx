# cython: language_level=3, embedsignature=True
"""Interrupt moderation: policies that hold causes back beyond ITR.

`Moderation` is the datasheet's: ITR only (SDM 13.4.18). `AdaptiveModeration` reduces interrupts
that a guest does not need, since each costs it several round trips to us. The interrupt block
(`fastpath/nic/irqblock.pyx`) reports events to the policy and asks it how long a cause must wait
beyond ITR. It makes all calls with its lock held and passes the time. The plain-Python twin is
``_ref/moderation.py``.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastpath.errors import parameters

cdef enum:
    # Causes of frames: TXDW, TXQE, RXDMT0, RXO, RXT0, TXD_LOW, SRPD. All others (link change,
    # receive sequence error...) wait for ITR only.
    FRAME_CAUSES = 0x180D3
    TX_CAUSES = 0x8003          # TXDW, TXQE, TXD_LOW

PARAMETERS = {
    "frames": (
        128, "frames that an interrupt is to bring at a high rate: half of Linux's ring of 256, "
             "at which one comes anyway"),
    "frames_one_way": (
        64, "the same for a guest that sends nothing: its socket's 208 KiB hold 92 of 1,400 bytes"),
    "few_frames": (
        3, "with so many frames an interrupt somebody waits for each: nothing is held back"),
    "thin_ns": (
        12_800_000, "the rate is low when `frames` would take longer: nothing is held back either"),
    "floor_max_ns": (
        2_000_000, "the longest that frames wait beyond ITR: a program sees it as a round trip"),
    "tx_wait_ns": (
        2_000_000, "the longest that sent frames wait: then the guest gets its descriptors back"),
    "tx_silence_ns": (
        150_000, "a guest that sends nothing for so long may wait for its descriptors"),
    "rx_silence_ns": (
        250_000, "so long without a frame is the end of a burst, and the guest's answer is next"),
    "patience_max": (
        16, "silences in a row that are waited out, once waiting has paid"),
    "patience_lost": (
        8, "how many fewer they are after one that brought nothing"),
    "probe_first": (
        16, "interrupts at silences before one is waited out to see"),
    "probe_most": (
        128, "the same at most: the number doubles after each wait in vain"),
    "answer_ns": (
        20_000_000, "a guest that has sent nothing for so long only receives"),
    "pause_sixteenths": (
        3, "of a handler's time, the pause in which the programs of such a guest run: with 4 they "
           "get a fifth more datagrams, but the driver takes fewer frames than on QEMU's e1000"),
    "handler_max_ns": (
        10_000_000, "a handler that runs longer polls all the time, and needs no pause"),
}
"""Parameter of `AdaptiveModeration` -> its value and the reason for it. They were measured with
`make bench-guest` (docs/performance.md)."""

cdef int64_t LONG_AGO = -(<int64_t>1 << 62)


cdef class Moderation:
    """The datasheet's: a cause waits for ITR (SDM 13.4.18) and for nothing else."""

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
        """Forget a delay that has ended."""
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
    """Few frames at each interrupt: the guest wants each at once. Many: let the next bring more.

    Beyond ITR frames wait so long that an interrupt brings about `frames` of them, at most
    `floor_max_ns`; transmitted ones up to four times that while the ring has room. A guest that
    answers nothing gets pauses too, or it would do nothing but receive.
    """

    name = "adaptive"

    def __cinit__(self, **chosen):
        for name, value in parameters("AdaptiveModeration", PARAMETERS, chosen).items():
            setattr(self, name, value)
        self.probe = <int>self.probe_first

    cdef int64_t hold_back(self, uint32_t causes, int64_t last_ns, int64_t now) noexcept nogil:
        cdef int64_t wait = LONG_AGO
        if not causes & ~<uint32_t>TX_CAUSES:
            # Sent frames can wait until the ring is nearly full, or until the guest falls silent:
            # it may need the descriptors back before it sends more.
            if self.floor_ns and self.tx_done < self.tx_enough:
                wait = last_ns + min(4 * self.floor_ns, self.tx_wait_ns)
                if self.patience <= 0:
                    wait = min(wait, self.tx_last + self.tx_silence_ns)
        elif not causes & ~<uint32_t>FRAME_CAUSES:
            if self.rx_done < self.rx_enough:
                wait = last_ns + self.floor_ns
            if self.one_way(now):
                wait = max(wait, self.hold_until)
            elif self.patience <= 0:
                # At the end of a burst interrupt at once: the guest's answer comes next.
                wait = min(wait, self.rx_last + self.rx_silence_ns)
        return wait

    cdef void learn(self, int64_t last_ns, int64_t now) noexcept nogil:
        """Find out whether a silence ends a burst, or is only a gap in it.

        If a guest needs longer for a packet than a silence, or the sender has no processor, frames
        continue after the gap, and an interrupt at each gap is wasted. So at a high rate a silence
        is waited out now and then. If frames came during the wait, later silences are waited out
        too, until frames no longer come.
        """
        cdef int64_t still = now - max(self.rx_last, self.tx_last)
        if self.floor_ns < 2 * self.rx_silence_ns or now >= last_ns + 2 * self.floor_max_ns:
            return      # a wait is no longer than a silence, or there was none
        if self.patience <= 0:
            self.patience += still >= self.tx_silence_ns
        elif 2 * still < self.floor_ns:
            self.patience = min(self.patience + 1, <int>self.patience_max)
            self.probe = <int>self.probe_first
        else:
            self.patience -= <int>self.patience_lost
            if self.patience <= 0:
                self.patience = 1 - self.probe
                self.probe = min(2 * self.probe, <int>self.probe_most)

    cdef void asserted(self, int64_t last_ns, int64_t now) noexcept nogil:
        # The time for so many frames at the present rate.
        cdef int64_t since = now - last_ns, want = self.thin_ns
        self.learn(last_ns, now)
        if self.work > <uint64_t>self.few_frames and 0 < since < <int64_t>1 << 40:
            want = self.frames_one_way if self.one_way(now) else self.frames
            want = want * since // <int64_t>self.work
        if want >= self.thin_ns:
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
        # Nearly the whole ring: the rest lasts until the guest handles the interrupt.
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
        # The time of the last interrupt's handler does not count as silence.
        self.tx_last = now
        if not self.handler_from:
            return False
        if now - self.handler_from < self.handler_max_ns:
            self.hold_until = now + self.pause_sixteenths * (now - self.handler_from) // 16
        self.handler_from = 0
        self.rx_since = 0
        sooner = self.room_due != 0
        self.room_due = 0
        return sooner

    cdef uint32_t room(self, uint32_t burst, int64_t now) noexcept nogil:
        """How many frames the guest may get now, at most `burst`.

        Under a flood a guest would only take frames from the ring, and its programs would never run
        (receive livelock). A guest that sends nothing gets a burst per run of its handler, then a
        pause of a part of the handler's time. The wire keeps or drops the rest at no cost to the
        guest. A guest that answers is not limited, since its peer waits.
        """
        cdef int64_t until = 0
        cdef uint32_t left = burst
        if self.one_way(now):
            if not self.handler_from:
                until = self.hold_until
            elif self.masked:
                until = self.handler_from + self.handler_max_ns
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
        return now - self.tx_seen >= self.answer_ns

    cdef void forget(self) noexcept nogil:
        self.floor_ns = 0
        self.patience = 0
        self.probe = <int>self.probe_first
        self.work = 0
        self.tx_done = self.rx_done = self.rx_since = self.tx_late = 0
        self.handler_from = self.hold_until = self.room_due = 0
        self.tx_last = self.rx_last = self.tx_seen = 0
        self.masked = True


POLICIES = {policy.name: policy for policy in (Moderation, AdaptiveModeration)}
