# cython: language_level=3, embedsignature=True
"""Segments of one TCP connection that follow each other in a batch, merged for the kernel.

Links between NIC and TAP (a capture, an impairment, a switch) and a guest that segments by itself
give a TAP single frames. Each would cost a system call, and every second one an acknowledgement; a
super-packet of forty frames costs one of each. The rules are those of
net/ipv4/tcp_offload.c tcp_gro_receive and net/ipv4/af_inet.c inet_gro_receive, and every checksum
is verified first, since the kernel believes what comes with a virtio_net_hdr. The plain-Python twin
is ``_ref/tap_gro.py``.
"""

from libc.stdint cimport uint16_t, uint64_t
from libc.string cimport memcmp, memcpy

from fastpath.base.batch cimport (
    FB_ALIGN_ERR, FB_BAD_CRC, FB_CARRIER_EXT, FB_GSO_TCPV4, FB_GSO_TCPV6, FB_GSO_UDP, FB_HAS_FCS,
    FB_SYMBOL_ERR, frame_meta,
)
from fastpath.base.bytes cimport fold16, ld16be, ld32be, st16be, sum16
from fastpath.base.csum cimport csum_ptr

cdef enum:
    L3 = 14
    UNFIT = (FB_BAD_CRC | FB_ALIGN_ERR | FB_SYMBOL_ERR | FB_CARRIER_EXT | FB_GSO_TCPV4
             | FB_GSO_TCPV6 | FB_GSO_UDP)
    TCP_FIN_PSH = 0x09
    TCP_ACK = 0x10
    TCP_ECE = 0x40
    MAX_IP_BYTES = 65535


# One TCP segment as a frame of a batch has it.
cdef struct segment:
    const uint8_t *p
    uint32_t l4, pay, size      # offsets of TCP and of the payload, bytes of payload
    uint32_t seq
    uint8_t flags
    bint v6


cdef bint _parse(const uint8_t *p, uint32_t n, segment *s) noexcept nogil:
    """Whether [p, p + n) is a segment that may be merged, but for its checksum."""
    cdef uint32_t l4
    cdef uint16_t ethertype
    if n < L3 + 20 + 20:
        return False
    ethertype = ld16be(p + 12)
    if ethertype == 0x0800:
        # no options, no fragment, no padding behind the packet
        if p[L3] != 0x45 or p[L3 + 9] != 6 or ld16be(p + L3 + 6) & 0x3FFF:
            return False
        if L3 + <uint32_t>ld16be(p + L3 + 2) != n:
            return False
        l4 = L3 + 20
    elif ethertype == 0x86DD:
        l4 = L3 + 40
        if n < l4 + 20 or p[L3] >> 4 != 6 or p[L3 + 6] != 6:
            return False
        if l4 + <uint32_t>ld16be(p + L3 + 4) != n:
            return False
    else:
        return False
    s.pay = l4 + (p[l4 + 12] >> 4) * 4U
    if s.pay < l4 + 20 or s.pay >= n:
        return False
    s.p = p
    s.l4 = l4
    s.size = n - s.pay
    s.seq = ld32be(p + l4 + 4)
    s.flags = p[l4 + 13]
    s.v6 = ethertype == 0x86DD
    return s.flags & ~<uint32_t>(TCP_FIN_PSH | TCP_ECE) == TCP_ACK


cdef uint32_t _pseudo(const segment *s, uint32_t length) noexcept nogil:
    if s.v6:
        return sum16(s.p + L3 + 8, 32) + 6 + length
    return sum16(s.p + L3 + 12, 8) + 6 + length


cdef bint _sound(const segment *s) noexcept nogil:
    """Whether the checksums are right."""
    cdef uint32_t n = s.pay - s.l4 + s.size
    if not s.v6 and sum16(s.p + L3, 20) != 0xFFFF:
        return False
    return fold16(<uint64_t>csum_ptr(s.p + s.l4, n, 0) + _pseudo(s, n)) == 0xFFFF


cdef bint _follows(const segment *a, const segment *s, uint32_t k, uint32_t done) noexcept nogil:
    """Whether `s` is the k-th after `a`, with which `done` bytes came so far."""
    cdef uint32_t l4 = a.l4
    if s.l4 != l4 or s.pay != a.pay or s.size > a.size or s.seq != ((a.seq + done) & 0xFFFFFFFFU):
        return False
    if (s.flags ^ a.flags) & ~<uint32_t>TCP_FIN_PSH:
        return False
    if memcmp(s.p, a.p, L3 + 2):            # addresses, EtherType, version, TOS
        return False
    if s.v6:
        if memcmp(s.p + L3 + 2, a.p + L3 + 2, 2) or memcmp(s.p + L3 + 6, a.p + L3 + 6, 34):
            return False
    elif (memcmp(s.p + L3 + 6, a.p + L3 + 6, 4) or memcmp(s.p + L3 + 12, a.p + L3 + 12, 8)
            or ld16be(s.p + L3 + 4) != <uint16_t>(ld16be(a.p + L3 + 4) + k)):
        return False
    # ports; acknowledgement; length of the header; window; urgent pointer and options
    if memcmp(s.p + l4, a.p + l4, 4) or memcmp(s.p + l4 + 8, a.p + l4 + 8, 5):
        return False
    return (memcmp(s.p + l4 + 14, a.p + l4 + 14, 2) == 0
            and memcmp(s.p + l4 + 18, a.p + l4 + 18, a.pay - l4 - 18) == 0)


cdef bint _segment(FrameBatch b, int i, segment *s) noexcept nogil:
    cdef frame_meta *m = &b.f[i]
    cdef uint32_t n = m.len
    if m.flags & UNFIT:
        return False
    if m.flags & FB_HAS_FCS:
        n = n - 4 if n > 4 else 0
    return _parse(b.arena + m.off, n, s)


cdef void find_tcp_run(FrameBatch b, int start, tcp_run *run) noexcept nogil:
    cdef segment first, last
    cdef uint32_t done, length
    cdef uint8_t flags
    cdef uint8_t *h = run.header
    cdef int i = start + 1
    run.frames = 1
    if i >= b.n or b.f[start].flags & UNFIT or b.f[i].flags & UNFIT:
        return
    if not _segment(b, start, &first) or first.flags & TCP_FIN_PSH:
        return
    done = first.size
    flags = first.flags
    while i < b.n and i - start < RUN_FRAMES:
        if not _segment(b, i, &last) or not _follows(&first, &last, <uint32_t>(i - start), done):
            break
        if first.pay - L3 + done + last.size > MAX_IP_BYTES:
            break
        if i == start + 1 and not _sound(&first):
            return
        if not _sound(&last):
            break
        done += last.size
        flags = last.flags
        i += 1
        if last.size < first.size or flags & TCP_FIN_PSH:
            break
    run.frames = i - start
    if run.frames == 1:
        return
    run.l4, run.headers, run.mss, run.v6 = first.l4, first.pay, first.size, first.v6
    memcpy(h, first.p, first.pay)
    length = first.pay - first.l4 + done
    if first.v6:
        st16be(h + L3 + 4, <uint16_t>length)
    else:
        st16be(h + L3 + 2, <uint16_t>(length + 20))
        st16be(h + L3 + 10, 0)
        st16be(h + L3 + 10, <uint16_t>~fold16(sum16(h + L3, 20)))
    h[first.l4 + 13] = flags
    st16be(h + first.l4 + 16, <uint16_t>fold16(_pseudo(&first, length)))


def merged(FrameBatch batch not None, int start=0):
    """What `TapQueue.write` makes of the frame `start` and those behind it.

    Returns (frames, offset of TCP, bytes of payload per segment, the super-packet without its
    virtio_net_hdr); (1, 0, 0, b"") for a frame that goes alone.
    """
    cdef tcp_run run
    cdef int i
    cdef bytes out
    if not 0 <= start < batch.n:
        raise IndexError(f"merged: frame {start} of a batch of {batch.n}")
    find_tcp_run(batch, start, &run)
    if run.frames == 1:
        return 1, 0, 0, b""
    out = (<char *>run.header)[:run.headers]
    parts = [out]
    for i in range(start, start + run.frames):
        frame = batch[i]
        if batch.f[i].flags & FB_HAS_FCS:
            frame = frame[:len(frame) - 4]
        parts.append(frame[run.headers:])
    return run.frames, run.l4, run.mss, b"".join(parts)
