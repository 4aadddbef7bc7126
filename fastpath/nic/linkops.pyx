# cython: language_level=3, embedsignature=True
"""What links do with whole batches: pcapng blocks, a datagram per frame, runs of equal addresses.

Tests have scapy read the blocks.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastpath.base.batch cimport (
    FB_ALIGN_ERR, FB_BAD_CRC, FB_HAS_FCS, FB_SYMBOL_ERR, FrameBatch, frame_meta,
)

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int fd, void *p, size_t n)
    ssize_t write(int fd, const void *p, size_t n)

cdef extern from *:
    """
    #define E1K_LITTLE (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
    """
    const bint _LITTLE "E1K_LITTLE"

cdef enum:
    # A datagram longer than the largest frame there is (MTU 65521, Ethernet, VLAN tag) is cut off.
    MAX_FRAME = 65539
    FB_ANY_ERR = FB_BAD_CRC | FB_ALIGN_ERR | FB_SYMBOL_ERR


cdef inline uint8_t *_put32(uint8_t *p, uint32_t v) noexcept nogil:
    memcpy(p, &v, 4)
    return p + 4


cdef inline uint32_t _epb_flags(const frame_meta *m, uint32_t direction) noexcept nogil:
    # pcapng section 4.3.1: direction in bits 0-1, FCS length in 5-8, errors in 24, 28 and 31.
    cdef uint32_t flags = direction & 3
    if m.flags & FB_HAS_FCS:
        flags |= 4 << 5
    if m.flags & FB_BAD_CRC:
        flags |= 0x01000000U
    if m.flags & FB_ALIGN_ERR:
        flags |= 0x10000000U
    if m.flags & FB_SYMBOL_ERR:
        flags |= 0x80000000U
    return flags


def epb_encode(FrameBatch batch not None, int start, int stop, uint32_t interface, uint64_t now_ns,
               uint64_t epoch_ns, uint32_t direction, uint32_t snap_bytes):
    """Return frames [start, stop) as pcapng Enhanced Packet Blocks (section 4.3), joined.

    A frame without a time stamp of its own gets `now_ns`; `epoch_ns` is added to either and the
    interface has to say nanoseconds. `direction` is 0 unknown, 1 inbound, 2 outbound. Blocks are in
    the machine's byte order, as the section header has to be. Borrows `batch` until return.
    Raises IndexError when the range is not inside the batch.
    """
    cdef size_t total = 0
    cdef uint32_t kept, size, pad
    cdef uint64_t when
    cdef frame_meta *m
    cdef uint8_t *p
    cdef int i
    if not 0 <= start <= stop <= batch.n:
        raise IndexError(f"epb_encode: frames {start}..{stop} of a batch of {batch.n}")
    for i in range(start, stop):
        kept = min(batch.f[i].len, snap_bytes)
        total += 44 + ((kept + 3) & ~3U)
    out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>total)
    p = <uint8_t *>PyBytes_AS_STRING(out)
    with nogil:
        for i in range(start, stop):
            m = &batch.f[i]
            kept = min(m.len, snap_bytes)
            pad = -kept & 3
            size = 44 + kept + pad
            when = (m.tstamp_ns if m.tstamp_ns else now_ns) + epoch_ns
            p = _put32(p, 6)
            p = _put32(p, size)
            p = _put32(p, interface)
            p = _put32(p, <uint32_t>(when >> 32))
            p = _put32(p, <uint32_t>(when & 0xFFFFFFFFU))
            p = _put32(p, kept)
            p = _put32(p, m.len)
            memcpy(p, batch.arena + m.off, kept)
            memset(p + kept, 0, pad)
            p += kept + pad
            p = _put32(p, 2 | 4 << 16 if _LITTLE else 2 << 16 | 4)
            p = _put32(p, _epb_flags(m, direction))
            p = _put32(p, 0)
            p = _put32(p, size)
    return out


def dgram_read(int fd, FrameBatch batch not None, int max_frames, size_t min_bytes=60):
    """Append what waits on the datagram descriptor `fd`, at most `max_frames`: (frames, errno).

    Frames shorter than `min_bytes` are padded with zeros, as an adapter does before it sends (IEEE
    802.3 4.2.8). errno is 0 when the limit or an empty datagram ended the read, EAGAIN when nothing
    is left. Call from one thread at a time for one batch.
    """
    cdef uint8_t *p
    cdef ssize_t got
    cdef size_t n
    cdef int frames = 0, error = 0
    if min_bytes > 1514:
        raise ValueError(f"dgram_read: min_bytes {min_bytes} is above 1514")
    with nogil:
        while frames < max_frames:
            p = batch.reserve(MAX_FRAME)
            if p == NULL:
                break
            got = read(fd, p, MAX_FRAME)
            if got < 0:
                if errno == EINTR:
                    continue
                error = errno
                break
            if got == 0:
                break
            n = <size_t>got
            if n < min_bytes:
                memset(p + n, 0, min_bytes - n)
                n = min_bytes
            batch.commit(n, 0)
            frames += 1
    return frames, error


def dgram_write(int fd, FrameBatch batch not None, int start):
    """Write frames from `start` on, a datagram each; return (next index, dropped, errno).

    Stops at EAGAIN with the index of the frame that did not fit. A frame that the kernel refuses is
    dropped and its errno returned (the last one's). A frame marked with a receive error never gets
    past the adapter and is dropped too. An FCS is not written. Borrows `batch` until return.
    """
    cdef frame_meta *m
    cdef size_t n
    cdef int i = start, dropped = 0, error = 0
    if not 0 <= start <= batch.n:
        raise IndexError(f"dgram_write: frame {start} of a batch of {batch.n}")
    with nogil:
        while i < batch.n:
            m = &batch.f[i]
            n = m.len
            if m.flags & FB_HAS_FCS:
                n = m.len - 4 if m.len > 4 else 0
            if m.flags & FB_ANY_ERR:
                dropped += 1
            elif write(fd, batch.arena + m.off, n) < 0:
                if errno == EINTR:
                    continue
                error = errno
                if error == EAGAIN:
                    break
                dropped += 1
            i += 1
    return i, dropped, error


cdef inline int64_t _mac(const uint8_t *p) noexcept nogil:
    return (<int64_t>p[0] << 40 | <int64_t>p[1] << 32 | <int64_t>p[2] << 24
            | <int64_t>p[3] << 16 | <int64_t>p[4] << 8 | p[5])


def address_runs(FrameBatch batch not None, int start=0):
    """Group neighbours with the same addresses: a list of (start, stop, destination, source).

    Addresses are 48-bit ints, both -1 for frames that a switch does not forward: shorter than an
    Ethernet header, or marked with a receive error. Borrows `batch` until return.
    """
    cdef list out = []
    cdef int64_t dst, src, was_dst = -2, was_src = -2
    cdef int i, since = start
    cdef const uint8_t *p
    if not 0 <= start <= batch.n:
        raise IndexError(f"address_runs: frame {start} of a batch of {batch.n}")
    for i in range(start, batch.n):
        dst = src = -1
        if batch.f[i].len >= 14 and not batch.f[i].flags & FB_ANY_ERR:
            p = batch.arena + batch.f[i].off
            dst = _mac(p)
            src = _mac(p + 6)
        if dst != was_dst or src != was_src:
            if i > since:
                out.append((since, i, was_dst, was_src))
            since = i
            was_dst = dst
            was_src = src
    if batch.n > since:
        out.append((since, batch.n, was_dst, was_src))
    return out
