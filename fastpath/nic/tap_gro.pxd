# cython: language_level=3
"""Which frames of a batch a TAP may be given as one super-packet."""

from libc.stdint cimport uint8_t, uint32_t

from fastpath.base.batch cimport FrameBatch

cdef enum:
    RUN_FRAMES = 64             # one system call takes so many pieces
    RUN_HEADERS = 114           # Ethernet, IPv6, the longest TCP header

cdef struct tcp_run:
    int frames                  # in order, of one connection; at least 1
    uint32_t l4, headers        # where TCP begins and where the payload does
    uint32_t mss                # bytes of payload in each, in the last at most
    bint v6
    uint8_t header[RUN_HEADERS]     # of the whole, with the pseudo header's sum for a checksum

# Look at frames from `start` on; `run` says how many are one super-packet, and its headers.
cdef void find_tcp_run(FrameBatch b, int start, tcp_run *run) noexcept nogil
