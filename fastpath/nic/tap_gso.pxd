# cython: language_level=3
"""A TAP queue with virtio-net headers: super-packets in and out, for compiled callers.

Nothing declared here needs the GIL or touches a Python object. One thread at a time per queue and
direction: reading and writing share nothing but the descriptor.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stddef cimport size_t

from fastpath.base.batch cimport FrameBatch
from fastpath.nic.wire cimport FrameQueue

cpdef enum:
    # flags and gso_type of a virtio_net_hdr (virtio 1.2 section 5.1.6)
    VIRTIO_NET_HDR_F_NEEDS_CSUM = 1
    VIRTIO_NET_HDR_GSO_NONE = 0
    VIRTIO_NET_HDR_GSO_TCPV4 = 1
    VIRTIO_NET_HDR_GSO_TCPV6 = 4
    VIRTIO_NET_HDR_GSO_UDP_L4 = 5
    VIRTIO_NET_HDR_GSO_ECN = 0x80

cdef enum:
    VNET_HDR = 10               # bytes, without num_buffers
    VNET_ROOM = 65536 + 128     # the largest packet: IPv6 length 65535 and its headers
    DROP_REASONS = 9

# The kernel's struct virtio_net_hdr, in the machine's byte order as a TAP has it.
cdef struct virtio_net_hdr:
    uint8_t flags
    uint8_t gso_type
    uint16_t hdr_len
    uint16_t gso_size
    uint16_t csum_start
    uint16_t csum_offset

# Complete the checksum of a frame without GSO, in place: 0, or a drop reason.
cdef int vnet_finish(const virtio_net_hdr *h, uint8_t *p, uint32_t n) noexcept nogil
# Cut the GSO packet [p, p + n) into frames of `b`, shorter ones padded to min_bytes: their number,
# or minus a drop reason (then nothing was added).
cdef int vnet_segment(FrameBatch b, const virtio_net_hdr *h, const uint8_t *p, uint32_t n,
                      uint32_t min_bytes) noexcept nogil


cdef class TapQueue(FrameQueue):
    cdef readonly size_t header_bytes, min_bytes
    cdef uint8_t *scratch       # a GSO packet before it is cut
    cdef bint expect_gso        # the last packet was GSO: read the next into scratch
    cdef bint merge             # TCP segments of a batch go out as one packet
    cdef readonly uint64_t reads, writes        # system calls
    cdef uint64_t drops[DROP_REASONS]
    cdef readonly uint64_t dropped      # the sum of `drops`
    cdef uint64_t told[DROP_REASONS]    # those that take_drops has returned
    # packets of the TAP: super-packets count once
    cdef readonly uint64_t rx_packets, tx_packets
    cdef void _drop(self, int reason) noexcept nogil
