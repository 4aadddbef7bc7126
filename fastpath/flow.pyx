# cython: language_level=3, embedsignature=True
"""Flow keys and hashes of packets (net/core/flow_dissector.c, include/linux/jhash.h)."""

from cpython.buffer cimport (
    PyBUF_SIMPLE,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastpath.skbuff cimport sk_buff, skb_c, skb_check, skb_core_headlen, skb_within

cdef extern from "bytes.h" nogil:
    uint16_t ld16be(const void *p)
    uint32_t ld32be(const void *p)

cdef enum:
    ETH_IP = 0x0800
    ETH_IPV6 = 0x86DD
    ETH_8021Q = 0x8100
    ETH_8021AD = 0x88A8
    P_HOPOPTS = 0
    P_TCP = 6
    P_UDP = 17
    P_ROUTING = 43
    P_FRAGMENT = 44
    P_DSTOPTS = 60
    P_SCTP = 132
    MAX_EXT = 8


# What a flow is told by. Offsets count from the network header.
cdef struct flow_keys:
    uint32_t l4
    uint32_t pay
    uint32_t plen
    uint32_t ports              # source << 16 | destination; 0 when there are none
    uint8_t proto
    uint8_t v6
    uint8_t fragment


cdef inline uint32_t rol(uint32_t v, int n) noexcept nogil:
    return v << n | v >> (32 - n)


cdef inline uint32_t jhash3(uint32_t a, uint32_t b, uint32_t c, uint32_t initval) noexcept nogil:
    cdef uint32_t init = initval + 0xDEADBEEFU + (3U << 2)
    a += init
    b += init
    c += init
    c ^= b
    c -= rol(b, 14)
    a ^= c
    a -= rol(c, 11)
    b ^= a
    b -= rol(a, 25)
    c ^= b
    c -= rol(b, 16)
    a ^= c
    a -= rol(c, 4)
    b ^= a
    b -= rol(a, 14)
    c ^= b
    c -= rol(b, 24)
    return c


cdef bint dissect(const uint8_t *p, uint32_t n, uint32_t proto, flow_keys *k) noexcept nogil:
    """Read the headers of the IP packet of `n` bytes at `p`; False when none or malformed."""
    cdef uint32_t total, hlen, doff
    cdef int _ext
    k.ports = 0
    k.fragment = 0
    if proto == ETH_IP:
        if n < 20 or p[0] >> 4 != 4:
            return False
        hlen = (p[0] & 0x0F) * 4U
        total = ld16be(p + 2)
        if hlen < 20 or total < hlen or total > n:
            return False
        k.v6 = 0
        k.proto = p[9]
        k.fragment = (ld16be(p + 6) & 0x3FFF) != 0
    elif proto == ETH_IPV6:
        if n < 40 or p[0] >> 4 != 6:
            return False
        total = 40 + <uint32_t>ld16be(p + 4)
        if total > n:
            return False
        k.v6 = 1
        k.proto = p[6]
        hlen = 40
        for _ext in range(MAX_EXT):
            if k.proto == P_FRAGMENT:
                if total - hlen < 8:
                    return False
                k.fragment = 1
                k.proto = p[hlen]
                hlen += 8
                break
            if k.proto != P_HOPOPTS and k.proto != P_ROUTING and k.proto != P_DSTOPTS:
                break
            if total - hlen < 8 or total - hlen < (p[hlen + 1] + 1U) * 8U:
                return False
            k.proto = p[hlen]
            hlen += (p[hlen + 1] + 1U) * 8U
    else:
        return False
    k.l4 = k.pay = hlen
    k.plen = total - hlen
    if k.fragment:
        return True
    if k.proto == P_TCP:
        if k.plen < 20:
            return False
        doff = (p[hlen + 12] >> 4) * 4U
        if doff < 20 or doff > k.plen:
            return False
    elif k.proto == P_UDP:
        doff = 8
        if k.plen < 8 or ld16be(p + hlen + 4) < 8 or ld16be(p + hlen + 4) > k.plen:
            return False
        k.plen = ld16be(p + hlen + 4)
    elif k.proto == P_SCTP:
        doff = 12
        if k.plen < 12:
            return False
    else:
        return True
    k.ports = ld32be(p + hlen)
    k.pay = hlen + doff
    k.plen -= doff
    return True


cdef inline uint32_t fold6(const uint8_t *p) noexcept nogil:
    return jhash3(ld32be(p), ld32be(p + 4), ld32be(p + 8), ld32be(p + 12))


cdef inline uint32_t hash_keys(const uint8_t *p, flow_keys *k, uint32_t secret) noexcept nogil:
    cdef uint32_t s, d, h
    if k.v6:
        s = fold6(p + 8)
        d = fold6(p + 24)
    else:
        s = ld32be(p + 12)
        d = ld32be(p + 16)
    h = jhash3(s, d, k.ports ^ <uint32_t>k.proto << 8, secret)
    return h if h else 1


cdef inline uint32_t ethertype(const uint8_t *p, uint32_t n, uint32_t *off) noexcept nogil:
    """EtherType behind up to two VLAN tags; `off` is where the network header begins."""
    cdef uint32_t t, o = 14
    if n < 14:
        return 0
    t = ld16be(p + 12)
    while (t == ETH_8021Q or t == ETH_8021AD) and o < 22 and n >= o + 4:
        t = ld16be(p + o + 2)
        o += 4
    off[0] = o
    return t


cpdef int64_t jhash_3words(uint32_t a, uint32_t b, uint32_t c, uint32_t initval) except? -1:
    """Bob Jenkins' lookup3 of three words (include/linux/jhash.h)."""
    return jhash3(a, b, c, initval)


cpdef int64_t inet_ehashfn(uint32_t laddr, uint32_t lport, uint32_t faddr, uint32_t fport,
                           uint32_t secret) except? -1:
    """Hash of a connection (net/ipv4/inet_hashtables.c)."""
    return jhash3(laddr, faddr, (lport & 0xFFFF) << 16 | (fport & 0xFFFF), secret)


cpdef int64_t skb_get_hash(sk_buff skb, uint32_t secret=0) except? -1:
    """32-bit hash of the flow, one per direction, never 0 for IP; kept in skb.hash.

    Works from network_header on the linear part; 0 when that is no IP packet.
    """
    cdef flow_keys k
    cdef const uint8_t *p
    cdef uint32_t have, length, version
    skb_check(skb)
    if skb.hash:
        return skb.hash
    p = skb_within(skb, skb.network_header, 20, skb.tail)
    if p == NULL:
        return 0
    have = <uint32_t>(skb.tail - skb.network_header)
    length = skb.len - skb_core_headlen(skb_c(skb)) + have
    version = p[0] >> 4
    if not linear_keys(p, have, length, ETH_IP if version == 4 else ETH_IPV6, &k):
        return 0
    skb.hash = hash_keys(p, &k, secret)
    skb.l4_hash = k.ports != 0
    return skb.hash


cdef bint linear_keys(const uint8_t *p, uint32_t have, uint32_t length, uint32_t proto,
                      flow_keys *k) noexcept:
    """Keys when only `have` of `length` bytes can be looked at (payload in frags, or merged)."""
    cdef uint32_t l4
    cdef int _ext
    if have == length and dissect(p, have, proto, k):
        return True
    k.v6 = proto == ETH_IPV6
    k.ports = 0
    if k.v6:
        if have < 40 or p[0] >> 4 != 6:
            return False
        l4 = 40
        k.proto = p[6]
        for _ext in range(MAX_EXT):
            if k.proto == P_FRAGMENT:
                if have >= l4 + 8:
                    k.proto = p[l4]
                return True
            if k.proto != P_HOPOPTS and k.proto != P_ROUTING and k.proto != P_DSTOPTS:
                break
            if have < l4 + 8:
                return True
            k.proto = p[l4]
            l4 += (p[l4 + 1] + 1U) * 8U
    else:
        l4 = (p[0] & 0x0F) * 4U
        if l4 < 20 or p[0] >> 4 != 4 or have < l4:
            return False
        k.proto = p[9]
        if ld16be(p + 6) & 0x3FFF:
            return True
    if (k.proto == P_TCP or k.proto == P_UDP) and have >= l4 + 4:
        k.ports = ld32be(p + l4)
    return True


def flow_key(frame not None):
    """(l3_proto, ip_proto, saddr, daddr, sport, dport, l4_off, payload_off, payload_len).

    Of an Ethernet frame (up to two VLAN tags are skipped); ports 0 for fragments and other
    protocols; None when malformed or not IP. Offsets count from the start of the frame.
    """
    cdef Py_buffer view
    cdef flow_keys k
    cdef uint32_t off, proto
    cdef const uint8_t *p
    PyObject_GetBuffer(frame, &view, PyBUF_SIMPLE)
    try:
        p = <const uint8_t *>view.buf
        if view.len > 0x7FFFFFFF:
            return None
        proto = ethertype(p, <uint32_t>view.len, &off)
        if proto == 0 or not dissect(p + off, <uint32_t>view.len - off, proto, &k):
            return None
        p += off
        if k.v6:
            saddr = int.from_bytes((<const char *>p)[8:24], "big")
            daddr = int.from_bytes((<const char *>p)[24:40], "big")
        else:
            saddr = ld32be(p + 12)
            daddr = ld32be(p + 16)
        return (proto, k.proto, saddr, daddr, k.ports >> 16, k.ports & 0xFFFF, off + k.l4,
                off + k.pay, k.plen)
    finally:
        PyBuffer_Release(&view)


def flow_hash_many(arena not None, offsets not None, lengths not None, out not None,
                   uint32_t secret=0):
    """Hash many frames of one arena in one call: uint32 arrays in, uint32 hashes out (0 = not IP).

    Returns the number of IP frames. ValueError when a frame lies outside the arena.
    """
    cdef Py_buffer a, o, n, r
    cdef Py_ssize_t count, i
    cdef uint64_t off, length
    cdef uint32_t word, l3, proto
    cdef uint32_t found = 0
    cdef flow_keys k
    cdef const uint8_t *p
    cdef bint inside = True
    PyObject_GetBuffer(arena, &a, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(offsets, &o, PyBUF_SIMPLE)
        try:
            PyObject_GetBuffer(lengths, &n, PyBUF_SIMPLE)
            try:
                PyObject_GetBuffer(out, &r, PyBUF_WRITABLE)
                try:
                    count = o.len // 4
                    if n.len // 4 != count or r.len // 4 < count:
                        raise ValueError("flow_hash_many: arrays of different length")
                    with nogil:
                        for i in range(count):
                            memcpy(&word, <char *>o.buf + i * 4, 4)
                            off = word
                            memcpy(&word, <char *>n.buf + i * 4, 4)
                            length = word
                            if off + length > <uint64_t>a.len:
                                inside = False
                                break
                            p = <const uint8_t *>a.buf + off
                            word = 0
                            proto = ethertype(p, <uint32_t>length, &l3)
                            if proto and dissect(p + l3, <uint32_t>length - l3, proto, &k):
                                word = hash_keys(p + l3, &k, secret)
                                found += 1
                            memcpy(<char *>r.buf + i * 4, &word, 4)
                    if not inside:
                        raise ValueError(f"flow_hash_many: frame {i} lies outside the arena")
                    return found
                finally:
                    PyBuffer_Release(&r)
            finally:
                PyBuffer_Release(&n)
        finally:
            PyBuffer_Release(&o)
    finally:
        PyBuffer_Release(&a)
