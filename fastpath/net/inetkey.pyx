# cython: language_level=3, embedsignature=True
"""The keys by which a packet's socket is looked up, for both families.

A key is ``(family, saddr, sport, daddr, dport)`` from the packet: the family of the wire (2
AF_INET, 10 AF_INET6), addresses and ports as host-order ints (32 or 128 bits, 16 bits). The hash
tables of the stack hold sockets under the key of the packets that they receive. The family comes
from the version in the header at ``network_header``. `InetEnds` is the same for callers that only
compares: no ints are made of the addresses. The twin is ``_ref/inetkey.py``.

The sender of a packet as the application sees it (`udp_name`, `inet_name`) is made here too, and
the hash of two ends that nobody can guess (`inet_siphash`).
"""

cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from fastpath.base.bytes cimport ld16be, ld32be
from fastpath.net.hdr cimport hdr_ptr
from fastpath.net.parse cimport parsed_l4
from fastpath.base.skbuff cimport (
    SUM_PARTIAL, SUM_UNNECESSARY, need, sk_buff, skb_c, skb_check, skb_core_headlen, skb_free,
    skb_within,
)
from fastpath.net.sockaddr cimport sockaddr, sockaddr_make

cdef extern from "siphash.h" nogil:
    uint64_t siphash24(const uint8_t *key, const uint8_t *data, size_t n)

cdef extern from "addr128.h":
    object addr128_get(const uint8_t *p)
    int addr128_put(uint8_t *p, object v) except -1
    int addr128_is(uint64_t hi, uint64_t lo, object v) except -1

cdef enum:
    INET = 2
    INET6 = 10
    IP_HLEN = 20
    IP6_HLEN = 40
    UDP_HLEN = 8
    ICMP_HLEN = 8

AF_INET = INET
AF_INET6 = INET6


cdef int version_error(sk_buff skb, int version) except -1:
    raise ValueError(f"the network header is of IP version {version}: no key")


cdef inline uint64_t ld64(const uint8_t *p) noexcept:
    return <uint64_t>ld32be(p) << 32 | ld32be(p + 4)


cdef inline void st64(uint8_t *p, uint64_t v) noexcept:
    cdef int i
    for i in range(8):
        p[i] = <uint8_t>(v >> (56 - 8 * i))


cdef inline void ends_at(inet_ends *e, const uint8_t *p, uint16_t sport, uint16_t dport) noexcept:
    """What the IP header at `p`, whole and of version 4 or 6, and the ports say."""
    cdef uint64_t family = INET if p[0] >> 4 == 4 else INET6
    e.ports = family << 32 | <uint32_t>sport << 16 | dport
    if family == INET:
        e.saddr_hi = e.daddr_hi = 0
        e.saddr, e.daddr = ld32be(p + 12), ld32be(p + 16)
    else:
        e.saddr_hi, e.saddr = ld64(p + 8), ld64(p + 16)
        e.daddr_hi, e.daddr = ld64(p + 24), ld64(p + 32)


cdef inline int ends_of(sk_buff skb, uint32_t net, uint16_t sport, uint16_t dport,
                        inet_ends *e) except -1:
    """The ends of a packet whose IP header is `net` bytes from head."""
    cdef const uint8_t *p = hdr_ptr(skb, net, IP_HLEN)
    cdef int version = p[0] >> 4
    if version == 6:
        p = hdr_ptr(skb, net, IP6_HLEN)
    elif version != 4:
        version_error(skb, version)
    ends_at(e, p, sport, dport)
    return 0


cdef int ends_of_skb(sk_buff skb, inet_ends *e) except -1:
    """What inet_key says. Raises as it does."""
    cdef const uint8_t *t
    need(skb)
    if parsed_l4(skb):
        if skb.inet_family == INET:
            e.ports = <uint64_t>INET << 32 | <uint32_t>skb.sport << 16 | skb.dport
            e.saddr_hi = e.daddr_hi = 0
            e.saddr, e.daddr = skb.saddr, skb.daddr
        else:
            ends_at(e, hdr_ptr(skb, skb.network_header, IP6_HLEN), skb.sport, skb.dport)
        return 0
    t = hdr_ptr(skb, skb.transport_header, 4)
    return ends_of(skb, skb.network_header, ld16be(t), ld16be(t + 2), e)


cdef int ends_of_err(sk_buff skb, uint32_t net, uint32_t l4, inet_ends *e) except -1:
    """What inet_err_key says. Raises as it does."""
    cdef inet_ends sent
    cdef const uint8_t *t
    skb_check(skb)
    if net > skb.len or l4 > skb.len:
        raise IndexError(f"inet_err_key: offsets {net} and {l4} of {skb.len} bytes")
    t = hdr_ptr(skb, skb.data + l4, 4)
    ends_of(skb, skb.data + net, ld16be(t + 2), ld16be(t), &sent)
    e.ports = sent.ports
    e.saddr_hi, e.saddr = sent.daddr_hi, sent.daddr
    e.daddr_hi, e.daddr = sent.saddr_hi, sent.saddr
    return 0


cdef int ends_of_key(tuple key, inet_ends *e) except -1:
    """The ends that a key says. Raises TypeError, ValueError, OverflowError when it is none."""
    cdef uint8_t addr[16]
    cdef uint32_t family
    cdef uint16_t sport, dport
    if len(key) != 5:
        raise ValueError(f"{key!r}: a key has five members")
    family, sport, dport = key[0], key[2], key[4]
    e.ports = <uint64_t>family << 32 | <uint32_t>sport << 16 | dport
    e.saddr_hi = e.daddr_hi = 0
    if family == INET:
        e.saddr = <uint32_t>key[1]
        e.daddr = <uint32_t>key[3]
        return 0
    addr128_put(addr, key[1])
    e.saddr_hi, e.saddr = ld64(addr), ld64(addr + 8)
    addr128_put(addr, key[3])
    e.daddr_hi, e.daddr = ld64(addr), ld64(addr + 8)
    return 0


cdef object address(uint32_t family, uint64_t hi, uint64_t lo):
    cdef uint8_t addr[16]
    if family == INET:
        return lo
    st64(addr, hi)
    st64(addr + 8, lo)
    return addr128_get(addr)


cdef tuple key_of_ends(const inet_ends *e):
    cdef uint32_t family = <uint32_t>(e.ports >> 32)
    return (family, address(family, e.saddr_hi, e.saddr), <uint16_t>(e.ports >> 16),
            address(family, e.daddr_hi, e.daddr), <uint16_t>e.ports)


@cython.freelist(4)
cdef class InetEnds:
    """The ends of a packet, to be compared with a socket's. Made by the functions below."""

    cpdef bint is_from(self, addr) except -1:
        """Whether `addr` is the source address."""
        return addr128_is(self.ends.saddr_hi, self.ends.saddr, addr)

    cpdef bint is_to(self, addr) except -1:
        """Whether `addr` is the destination address."""
        return addr128_is(self.ends.daddr_hi, self.ends.daddr, addr)

    cpdef tuple key(self):
        """What inet_key says."""
        return key_of_ends(&self.ends)


cdef inline InetEnds made(const inet_ends *e):
    cdef InetEnds ends = InetEnds.__new__(InetEnds)
    ends.family = <uint32_t>(e.ports >> 32)
    ends.sport, ends.dport = <uint16_t>(e.ports >> 16), <uint16_t>e.ports
    ends.ends = e[0]
    return ends


cpdef tuple inet_key(sk_buff skb):
    """The key from network_header and transport_header; the ports are the first four bytes there.

    Raises IndexError when a header is not linear, ValueError when it is not of version 4 or 6.
    """
    cdef inet_ends e
    ends_of_skb(skb, &e)
    return key_of_ends(&e)


cpdef InetEnds inet_skb_ends(sk_buff skb):
    """The ends that inet_key says. Raises as it does."""
    cdef inet_ends e
    ends_of_skb(skb, &e)
    return made(&e)


cpdef tuple inet_err_key(sk_buff skb, uint32_t net, uint32_t l4):
    """The key of the socket that sent the packet an ICMP error carries.

    `net` and `l4` are the offsets of its headers from data. Source and destination change places,
    for the tables hold sockets under the key of what they receive. Raises as inet_key.
    """
    cdef inet_ends e
    ends_of_err(skb, net, l4, &e)
    return key_of_ends(&e)


cpdef InetEnds inet_err_ends(sk_buff skb, uint32_t net, uint32_t l4):
    """The ends that inet_err_key says. Raises as it does."""
    cdef inet_ends e
    ends_of_err(skb, net, l4, &e)
    return made(&e)


cpdef tuple icmp_echo_key(sk_buff skb):
    """The key of an ICMP or ICMPv6 echo message: its identifier is the destination port.

    The source port is 0: a ping socket has no port at the other side. Raises as inet_key.
    """
    need(skb)
    cdef const uint8_t *t = hdr_ptr(skb, skb.transport_header, ICMP_HLEN)
    cdef inet_ends e
    ends_of(skb, skb.network_header, 0, ld16be(t + 4), &e)
    return key_of_ends(&e)


cdef const uint8_t *usual(sk_buff skb) except? NULL:
    """The IP header of a usual datagram (udp_rcv_usual), NULL of any other."""
    cdef const uint8_t *ip
    cdef const uint8_t *p
    cdef uint32_t back
    skb_check(skb)
    if (skb.ip_summed != SUM_UNNECESSARY and skb.ip_summed != SUM_PARTIAL
            or skb_core_headlen(skb_c(skb)) < UDP_HLEN
            or not 0 <= skb.network_header <= skb.data):
        return NULL
    back = <uint32_t>(skb.data - skb.network_header)
    if back < IP_HLEN:
        return NULL
    ip = skb.head + skb.network_header
    p = skb.head + skb.data
    if ld16be(p + 4) != skb.len:
        return NULL
    if ip[0] >> 4 != 4 and (ip[0] >> 4 != 6 or back < IP6_HLEN or ld16be(p + 6) == 0
                            or ip[24] == 0xFF):
        return NULL
    return ip


cpdef bint udp_rcv_usual(sk_buff skb) except -1:
    """Whether a datagram is a usual one.

    Usual: data at the UDP header, its length all there is, the checksum verified; over IPv6 also
    that there is a checksum and that it is not for a group. Merged ones are usual too.
    """
    return usual(skb) != NULL


cpdef InetEnds udp_rcv_ends(sk_buff skb):
    """The ends of a usual datagram (udp_rcv_usual), None for any other."""
    cdef inet_ends e
    cdef const uint8_t *ip = usual(skb)
    cdef const uint8_t *p
    if ip == NULL:
        return None
    p = skb.head + skb.data
    ends_at(&e, ip, ld16be(p), ld16be(p + 2))
    return made(&e)


cdef sockaddr sender(sk_buff skb, int family, uint16_t port):
    """The sender as a socket of `family` tells it; headers may lie before data."""
    cdef const uint8_t *p
    cdef uint8_t mapped[16]
    cdef uint32_t scope = 0
    p = skb_within(skb, skb.network_header, IP_HLEN, skb.end)
    if p == NULL:
        raise IndexError("sender of a packet: no network header")
    if p[0] >> 4 == 4:
        if family == INET:
            return sockaddr_make(INET, ld32be(p + 12), port, 0, 0)
        memset(mapped, 0, 10)
        memset(mapped + 10, 0xFF, 2)
        memcpy(mapped + 12, p + 12, 4)
        return sockaddr_make(INET6, addr128_get(mapped), port, 0, 0)
    if p[0] >> 4 != 6 or family != INET6:
        raise ValueError(f"sender of a packet: IP version {p[0] >> 4}, a socket of {family}")
    if skb.end - skb.network_header < IP6_HLEN:
        raise IndexError("sender of a packet: no network header")
    if p[8] == 0xFE and (p[9] & 0xC0) == 0x80:      # fe80::/10: an address of its link only
        scope = <uint32_t>skb.skb_iif
    return sockaddr_make(INET6, addr128_get(p + 8), port, 0, scope)


cpdef sockaddr inet_name(sk_buff skb, int family, unsigned int port=0):
    """The sender of a packet as a `sockaddr`, for a socket of `family` (2 or 10).

    To an AF_INET6 socket an IPv4 sender is the v4-mapped address. The scope of a link-local address
    is the interface it came in by (skb_iif). Raises IndexError without a network header, ValueError
    when that is neither of IPv4 nor, for an AF_INET6 socket, of IPv6.
    """
    skb_check(skb)
    return sender(skb, family, <uint16_t>port)


cpdef sockaddr udp_name(sk_buff skb, int family):
    """`inet_name` with the source port of a datagram whose headers are still before its data."""
    need(skb)
    cdef const uint8_t *t = skb_within(skb, skb.transport_header, UDP_HLEN, skb.end)
    skb_check(skb)
    if t == NULL:
        raise IndexError("udp_name: no UDP header")
    return sender(skb, family, ld16be(t))


cdef int udp_is_from(sk_buff skb, int family, sockaddr seen) except -1:
    """Whether `seen` is what `udp_name` would give, where that is plain to see."""
    cdef const uint8_t *p = skb_within(skb, skb.network_header, IP_HLEN, skb.end)
    cdef const uint8_t *t = skb_within(skb, skb.transport_header, UDP_HLEN, skb.end)
    cdef uint8_t addr[16]
    cdef uint32_t scope = 0
    if (p == NULL or t == NULL or seen.family != family or seen.port != ld16be(t)
            or seen.flowinfo or p[0] >> 4 != (4 if family == INET else 6)):
        return False
    if family == INET:
        return not seen.scope_id and <uint32_t>seen.addr == ld32be(p + 12)
    if skb.end - skb.network_header < IP6_HLEN:
        return False
    if p[8] == 0xFE and (p[9] & 0xC0) == 0x80:
        scope = <uint32_t>skb.skb_iif
    addr128_put(addr, seen.addr)
    return seen.scope_id == scope and memcmp(addr, p + 8, 16) == 0


cpdef sockaddr udp_name_consume(sk_buff skb, int family, sockaddr seen):
    """`udp_name`, then give the reader's reference back (consume_skb).

    `seen` is such a name, or None: that object comes back when the sender is the same.
    """
    need(skb)
    if seen is None or not udp_is_from(skb, family, seen):
        seen = udp_name(skb, family)
    skb_free(skb)
    return seen


cdef int secret_error(bytes secret) except -1:
    raise ValueError(f"a secret of SipHash has 16 bytes, not {len(secret)}")


cpdef uint64_t siphash(bytes secret, const uint8_t[::1] data) except? 0:
    """SipHash-2-4 of `data`, 64 bits, under a secret of 16 bytes.  Raises: ValueError, its size."""
    if len(secret) != 16:
        secret_error(secret)
    return siphash24(secret, &data[0] if data.shape[0] else NULL, data.shape[0])


cpdef uint32_t inet_siphash(bytes secret, saddr, daddr, uint32_t ports, uint32_t more=0) except? 0:
    """The low 32 bits of SipHash-2-4 of two ends, as include/linux/siphash.h is used for them.

    Hashed are 40 bytes, big-endian: two addresses of 128 bits, a low one being IPv4's, the ports
    and `more`, 32 bits each.  Raises as siphash.
    """
    cdef uint8_t data[40]
    cdef int i
    if len(secret) != 16:
        secret_error(secret)
    addr128_put(data, saddr)
    addr128_put(data + 16, daddr)
    for i in range(4):
        data[32 + i] = <uint8_t>(ports >> (24 - 8 * i))
        data[36 + i] = <uint8_t>(more >> (24 - 8 * i))
    return <uint32_t>siphash24(secret, data, 40)
