# cython: language_level=3, embedsignature=True
"""A TAP queue with virtio-net headers: one system call carries up to 64 KiB of TCP both ways.

A GSO packet of the kernel is cut into the frames that a wire would have carried, with complete
checksums (net/ipv4/tcp_offload.c, udp_offload.c). A super-frame of the transmit engine goes to the
kernel as it is. The plain-Python twin is ``_ref/tap_gso.py``.

Sources: virtio 1.2 section 5.1.6 (virtio_net_hdr), Linux drivers/net/tun.c, include/linux/
virtio_net.h, RFC 3168 6.1.2 (CWR).
"""

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from fastpath.base.batch cimport (
    FB_ALIGN_ERR, FB_BAD_CRC, FB_GSO_TCPV4, FB_GSO_TCPV6, FB_GSO_UDP, FB_HAS_FCS,
    FB_SYMBOL_ERR, FrameBatch,
    fb_commit, fb_reserve, frame_meta,
)
from fastpath.base.bytes cimport copy_bytes, fold16, ld16be, ld32be, st16be, st32be, sum16
from fastpath.base.csum cimport csum_ptr, csum_ptr_copy
from fastpath.nic.tap_gro cimport RUN_FRAMES, find_tcp_run, tcp_run
from fastpath.nic.wire cimport wire_add

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t readv(int fd, const iovec *iov, int count)
    ssize_t writev(int fd, const iovec *iov, int count)

cdef enum:
    FB_ANY_ERR = FB_BAD_CRC | FB_ALIGN_ERR | FB_SYMBOL_ERR
    FB_GSO = FB_GSO_TCPV4 | FB_GSO_TCPV6 | FB_GSO_UDP
    MAX_HEADER = 12             # with num_buffers
    P_TCP = 6
    P_UDP = 17
    TCP_FIN_PSH = 0x09
    TCP_CWR = 0x80
    TCP_CHECK = 16              # where the checksum lies in the header
    UDP_CHECK = 6
    D_NONE = 0
    D_EMPTY = 1
    D_LONG = 2
    D_HDR_LEN = 3
    D_CSUM = 4
    D_GSO_TYPE = 5
    D_GSO_SIZE = 6
    D_HEADERS = 7
    D_ROOM = 8

_REASONS = ("", "vnet empty", "vnet too long", "vnet hdr_len", "vnet csum_start", "vnet gso_type",
            "vnet gso_size", "vnet gso headers", "vnet no memory")


cdef int vnet_finish(const virtio_net_hdr *h, uint8_t *p, uint32_t n) noexcept nogil:
    cdef uint32_t start = h.csum_start, at = start + h.csum_offset
    cdef uint16_t check
    if h.hdr_len > n:
        return D_HDR_LEN
    if not h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM:
        return D_NONE
    if start >= n or at + 2 > n:
        return D_CSUM
    # the field holds the sum of the pseudo header already
    check = <uint16_t>~fold16(csum_ptr(p + start, n - start, 0))
    if check == 0 and h.csum_offset == UDP_CHECK:
        check = 0xFFFF              # RFC 768: 0 would mean that there is none
    st16be(p + at, check)
    return D_NONE


cdef int vnet_segment(FrameBatch b, const virtio_net_hdr *h, const uint8_t *p, uint32_t n,
                      uint32_t min_bytes) noexcept nogil:
    cdef uint32_t kind = h.gso_type & ~<uint32_t>VIRTIO_NET_HDR_GSO_ECN
    cdef uint32_t l3 = 12, l4 = h.csum_start, mss = h.gso_size, pay, done = 0, size, whole, room
    cdef uint32_t ip_base = 0, l4_base, seq = 0
    cdef uint16_t ethertype, ident = 0, length, check
    cdef uint8_t proto = P_UDP if kind == VIRTIO_NET_HDR_GSO_UDP_L4 else P_TCP
    cdef uint8_t flags = 0, now
    cdef bint v6, last
    cdef uint8_t *d
    cdef int frames = 0, was = b.n
    cdef uint64_t acc
    if kind not in (VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_HDR_GSO_UDP_L4):
        return -D_GSO_TYPE
    if proto == P_UDP and h.gso_type & VIRTIO_NET_HDR_GSO_ECN:
        return -D_GSO_TYPE
    if mss == 0:
        return -D_GSO_SIZE
    if h.hdr_len > n:
        return -D_HDR_LEN
    # GSO always comes with a checksum to complete (virtio 1.2 section 5.1.6.2); hdr_len is only a
    # hint, the headers themselves say where they end
    if not h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM or l4 + 20 > n + (12 if proto == P_UDP else 0):
        return -D_CSUM
    if h.csum_offset != (TCP_CHECK if proto == P_TCP else UDP_CHECK):
        return -D_CSUM
    if n < 34:
        return -D_HEADERS
    ethertype = ld16be(p + l3)
    while ethertype in (0x8100, 0x88A8) and l3 < 20:
        l3 += 4
        ethertype = ld16be(p + l3)
    l3 += 2
    v6 = ethertype == 0x86DD
    if v6:
        if (kind == VIRTIO_NET_HDR_GSO_TCPV4 or l4 < l3 + 40 or p[l3] >> 4 != 6
                or (l4 == l3 + 40 and p[l3 + 6] != proto)):
            return -D_HEADERS
    elif (ethertype != 0x0800 or kind == VIRTIO_NET_HDR_GSO_TCPV6 or l4 < l3 + 20
            or p[l3] >> 4 != 4 or l4 != l3 + (p[l3] & 0x0F) * 4U or p[l3 + 9] != proto):
        return -D_HEADERS
    pay = l4 + 8
    if proto == P_TCP:
        pay = l4 + (p[l4 + 12] >> 4) * 4U
        if pay < l4 + 20 or pay > n:
            return -D_HEADERS
    # Sum the headers once, without the words that change from segment to segment. The check field
    # holds the pseudo header with the length of the whole, which is taken out too.
    whole = n - l4
    l4_base = sum16(p + l4, pay - l4) + 0xFFFF - (whole & 0xFFFF) + 0xFFFF - (whole >> 16)
    if proto == P_TCP:
        seq = ld32be(p + l4 + 4)
        flags = p[l4 + 13]
        l4_base += 2 * 0xFFFF - (seq >> 16) - (seq & 0xFFFF) + 0xFFFF - flags
    else:
        l4_base += 0xFFFF - ld16be(p + l4 + 4)
    if not v6:
        ident = ld16be(p + l3 + 4)
        ip_base = sum16(p + l3, l4 - l3) + 3 * 0xFFFF - ident
        ip_base -= ld16be(p + l3 + 2) + <uint32_t>ld16be(p + l3 + 10)
    room = pay + mss if pay + mss > min_bytes else min_bytes
    while True:
        size = n - pay - done
        last = size <= mss
        if not last:
            size = mss
        d = fb_reserve(b, room)
        if d == NULL:
            b.n = was
            b.used = (b.f[was - 1].off + b.f[was - 1].len + 63) & ~<size_t>63 if was else 0
            return -D_ROOM
        copy_bytes(d, p, pay)
        acc = csum_ptr_copy(d + pay, p + pay + done, size, 0)
        length = <uint16_t>(pay - l4 + size)
        acc += l4_base + <uint32_t>length
        if v6:
            st16be(d + l3 + 4, <uint16_t>(length + l4 - l3 - 40))
        else:
            st16be(d + l3 + 2, <uint16_t>(length + l4 - l3))
            st16be(d + l3 + 4, ident)
            check = <uint16_t>~fold16(<uint64_t>ip_base + <uint16_t>(length + l4 - l3) + ident)
            st16be(d + l3 + 10, check)
            ident = <uint16_t>(ident + 1)
        if proto == P_TCP:
            now = flags
            if not last:
                now &= ~TCP_FIN_PSH & 0xFF
            if done:
                now &= ~TCP_CWR & 0xFF      # RFC 3168 6.1.2: on the first new segment only
            d[l4 + 13] = now
            st32be(d + l4 + 4, seq + done)
            acc += ((seq + done) >> 16) + ((seq + done) & 0xFFFF) + now
            st16be(d + l4 + TCP_CHECK, <uint16_t>~fold16(acc))
        else:
            st16be(d + l4 + 4, length)
            check = <uint16_t>~fold16(acc + length)
            st16be(d + l4 + UDP_CHECK, check if check else 0xFFFF)
        done += size
        size += pay
        if size < min_bytes:
            memset(d + size, 0, min_bytes - size)
            size = min_bytes
        fb_commit(b, size, 0)
        frames += 1
        if last:
            return frames


def segment(bytes packet not None, FrameBatch batch not None, int min_bytes=60):
    """Cut `packet`, a 10-byte virtio_net_hdr and a frame, as a read of a TAP does.

    Appends the frames and returns "", or the reason for which the packet is dropped.
    """
    cdef virtio_net_hdr h
    cdef const uint8_t *p = packet
    cdef uint32_t n
    cdef uint8_t *d
    cdef int got
    if not VNET_HDR < len(packet) <= VNET_HDR + VNET_ROOM or not 0 <= min_bytes <= 1514:
        raise ValueError(f"segment: {len(packet)} bytes, padded to {min_bytes}")
    n = <uint32_t>len(packet) - VNET_HDR
    memcpy(&h, p, VNET_HDR)
    if h.gso_type != VIRTIO_NET_HDR_GSO_NONE:
        got = vnet_segment(batch, &h, p + VNET_HDR, n, min_bytes)
        return _REASONS[-got if got < 0 else 0]
    d = fb_reserve(batch, max(<int>n, min_bytes))
    if d == NULL:
        raise MemoryError("segment: the batch is full")
    memcpy(d, p + VNET_HDR, n)
    got = vnet_finish(&h, d, n)
    if got == 0:
        _pad_commit(batch, d, n, min_bytes)
    return _REASONS[got]


cdef inline size_t _length(const frame_meta *m) noexcept nogil:
    """Bytes without an FCS."""
    if m.flags & FB_HAS_FCS:
        return m.len - 4 if m.len > 4 else 0
    return m.len


cdef inline void _pad_commit(FrameBatch b, uint8_t *p, size_t n, size_t min_bytes) noexcept nogil:
    if n < min_bytes:
        memset(p + n, 0, min_bytes - n)
        n = min_bytes
    fb_commit(b, n, 0)


cdef class TapQueue(FrameQueue):
    """Reads and writes the TAP `fd`, with a virtio_net_hdr of `header_bytes` (0: none) per packet.

    Frames shorter than `min_bytes` are padded with zeros, as an adapter does before it sends (IEEE
    802.3 4.2.8); a kernel gives them to a TAP unpadded. `fd` is borrowed; set it to -1 before it is
    closed.

    `write` drops a frame marked with a receive error, which never gets past the adapter, and a
    super-frame when there is no header to describe it. An FCS is not written. With a header, TCP
    segments that follow each other become one packet (fastpath/nic/tap_gro.pyx), unless `merge` is
    False.

    Counters: `reads` and `writes` are system calls, also those that found nothing or no room.
    `rx_packets` and `tx_packets` count packets, a super-packet once. `rx_frames`, `rx_bytes`,
    `tx_frames` and `tx_bytes` count them as frames of a wire.
    """

    def __cinit__(self, int fd, size_t header_bytes=0, size_t min_bytes=60, bint merge=True):
        if header_bytes and not VNET_HDR <= header_bytes <= MAX_HEADER:
            raise ValueError(f"TapQueue: header_bytes {header_bytes} is not 0, 10, 11 or 12")
        if min_bytes > 1514:
            raise ValueError(f"TapQueue: min_bytes {min_bytes} is above 1514")
        self.fd = fd
        self.polls_out = True
        self.header_bytes = header_bytes
        self.min_bytes = min_bytes
        self.merge = merge and header_bytes
        self.scratch = <uint8_t *>malloc(VNET_ROOM + 64)
        if self.scratch == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.scratch)

    def take_drops(self):
        """Return {reason: packets} that `read` dropped since the last call."""
        cdef dict out = {}
        cdef uint64_t n
        cdef int i
        for i in range(1, DROP_REASONS):
            n = self.drops[i]       # another thread may read and count meanwhile
            if n != self.told[i]:
                out[_REASONS[i]] = n - self.told[i]
                self.told[i] = n
        return out

    cdef void _drop(self, int reason) noexcept nogil:
        self.drops[reason] += 1
        self.dropped += 1

    cdef int read_batch(self, FrameBatch b, int max_frames, int *error) noexcept nogil:
        cdef uint8_t header[MAX_HEADER]
        cdef virtio_net_hdr h
        cdef iovec iov[2]
        cdef uint8_t *p
        cdef uint8_t *at
        cdef ssize_t got
        cdef uint32_t n
        cdef int more, skip = 1 if self.header_bytes == 0 else 0, first = b.n
        error[0] = 0
        memset(&h, 0, sizeof(h))
        iov[0].iov_base = header
        iov[0].iov_len = self.header_bytes
        while b.n - first < max_frames:
            p = b.reserve(VNET_ROOM)
            if p == NULL:
                break
            at = self.scratch if self.expect_gso else p
            iov[1].iov_base = at
            iov[1].iov_len = VNET_ROOM
            got = readv(self.fd, &iov[skip], 2 - skip)
            self.reads += 1
            if got < 0:
                if errno == EINTR:
                    continue
                error[0] = errno
                break
            if got == 0:                    # a socket's far end is gone
                break
            if <size_t>got <= self.header_bytes:
                self._drop(D_EMPTY)
                continue
            n = <uint32_t>(<size_t>got - self.header_bytes)
            if n == VNET_ROOM:              # it may have been longer
                self._drop(D_LONG)
                continue
            if not skip:
                memcpy(&h, header, VNET_HDR)
            if h.gso_type != VIRTIO_NET_HDR_GSO_NONE:
                if at == p:
                    memcpy(self.scratch, p, n)
                    self.expect_gso = True
                more = vnet_segment(b, &h, self.scratch, n, <uint32_t>self.min_bytes)
                if more < 0:
                    self._drop(-more)
                else:
                    self.rx_packets += 1
                continue
            self.expect_gso = False
            if at != p:
                memcpy(p, at, n)
            more = vnet_finish(&h, p, n)
            if more:
                self._drop(more)
                continue
            _pad_commit(b, p, n, self.min_bytes)
            self.rx_packets += 1
        wire_add(b, first, b.n, &self.rx_frames, &self.rx_bytes)
        return b.n - first

    cdef int put_batch(self, FrameBatch b, int start, int *dropped, int *error) noexcept nogil:
        cdef uint8_t header[MAX_HEADER]
        cdef virtio_net_hdr h
        cdef iovec iov[RUN_FRAMES + 2]
        cdef frame_meta *m
        cdef tcp_run run
        cdef uint32_t l4
        cdef int i = start, k, pieces, skip = 1 if self.header_bytes == 0 else 0
        dropped[0] = error[0] = 0
        iov[0].iov_base = header
        iov[0].iov_len = self.header_bytes
        memset(header, 0, MAX_HEADER)
        memset(&h, 0, sizeof(h))
        run.frames = 1
        while i < b.n:
            m = &b.f[i]
            iov[1].iov_base = b.arena + m.off
            iov[1].iov_len = _length(m)
            pieces = 2
            if m.flags & FB_ANY_ERR or (m.flags & FB_GSO and skip):
                dropped[0] += 1
                i += 1
                continue
            if self.merge:
                find_tcp_run(b, i, &run)
            if m.flags & FB_GSO:
                l4 = m.mark >> 24
                h.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM
                h.csum_offset = TCP_CHECK
                if m.flags & FB_GSO_UDP:
                    h.gso_type = VIRTIO_NET_HDR_GSO_UDP_L4
                    h.csum_offset = UDP_CHECK
                else:
                    h.gso_type = (VIRTIO_NET_HDR_GSO_TCPV4 if m.flags & FB_GSO_TCPV4
                                  else VIRTIO_NET_HDR_GSO_TCPV6)
                    if l4 + 13 < m.len and b.arena[m.off + l4 + 13] & TCP_CWR:
                        h.gso_type |= VIRTIO_NET_HDR_GSO_ECN
                h.hdr_len = m.mark >> 16 & 0xFF
                h.gso_size = m.mark & 0xFFFF
                h.csum_start = <uint16_t>l4
                memcpy(header, &h, VNET_HDR)
            elif run.frames > 1:
                h.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM
                h.gso_type = VIRTIO_NET_HDR_GSO_TCPV6 if run.v6 else VIRTIO_NET_HDR_GSO_TCPV4
                h.hdr_len = <uint16_t>run.headers
                h.gso_size = <uint16_t>run.mss
                h.csum_start = <uint16_t>run.l4
                h.csum_offset = TCP_CHECK
                memcpy(header, &h, VNET_HDR)
                iov[1].iov_base = run.header
                iov[1].iov_len = run.headers
                for k in range(run.frames):
                    m = &b.f[i + k]
                    iov[2 + k].iov_base = b.arena + m.off + run.headers
                    iov[2 + k].iov_len = _length(m) - run.headers
                pieces = 2 + run.frames
            self.writes += 1
            if writev(self.fd, &iov[skip], pieces - skip) < 0:
                if errno == EINTR:
                    continue
                error[0] = errno
                if errno == EAGAIN:
                    break
                dropped[0] += run.frames
            else:
                self.tx_packets += 1
            if m.flags & FB_GSO or run.frames > 1:
                memset(header, 0, VNET_HDR)
            i += run.frames
        wire_add(b, start, i, &self.tx_frames, &self.tx_bytes)
        return i
