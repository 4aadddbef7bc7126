# cython: language_level=3, overflowcheck=False
"""When a cause that waits may interrupt: the policies beside ITR."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef class Moderation:
    cdef int64_t hold_back(self, uint32_t causes, int64_t last_ns, int64_t now) noexcept nogil
    cdef void asserted(self, int64_t last_ns, int64_t now) noexcept nogil
    cdef void received(self, uint64_t frames, uint32_t descs, uint32_t ring,
                       int64_t now) noexcept nogil
    cdef void sent(self, uint64_t frames, uint32_t descs, uint32_t ring,
                   int64_t now) noexcept nogil
    cdef void handler(self, int64_t now) noexcept nogil
    cdef bint masks(self, bint unmasked, bint any_left, int64_t now) noexcept nogil
    cdef uint32_t room(self, uint32_t burst, int64_t now) noexcept nogil
    cdef int64_t due(self) noexcept nogil
    cdef void tick(self, int64_t now) noexcept nogil
    cdef int64_t apart(self) noexcept nogil
    cdef bint one_way(self, int64_t now) noexcept nogil
    cdef void forget(self) noexcept nogil

cdef class AdaptiveModeration(Moderation):
    # parameters (`PARAMETERS` has the reasons)
    cdef public int64_t frames, frames_one_way, few_frames, thin_ns, floor_max_ns
    cdef public int64_t tx_wait_ns, tx_silence_ns, rx_silence_ns
    cdef public int64_t patience_max, patience_lost, probe_first, probe_most
    cdef public int64_t answer_ns, pause_sixteenths, handler_max_ns
    cdef readonly int64_t floor_ns
    cdef int patience           # above 0: silences are waited out; else counts up to the next try
    cdef int probe              # so many silences from one try to the next
    cdef uint64_t work          # frames since the last assertion
    cdef uint32_t tx_done, tx_enough    # descriptors done since then; so many do not wait
    cdef uint32_t rx_done, rx_enough
    cdef uint32_t tx_late       # descriptors done from an assertion to its handler
    cdef int64_t tx_last, rx_last       # when the last of them was
    cdef int64_t tx_seen        # when the guest last sent anything
    cdef int64_t handler_from   # when it read ICR for an interrupt and has not set IMS since; or 0
    cdef int64_t hold_until     # when one that answers nothing may be interrupted again
    cdef int64_t room_due       # when `room` says something else; 0 = it has room
    cdef uint32_t rx_since      # frames since ICR was read, or IMS set
    cdef bint masked            # IMS is 0
    cdef void learn(self, int64_t last_ns, int64_t now) noexcept nogil
