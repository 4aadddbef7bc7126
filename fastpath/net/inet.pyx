# cython: language_level=3, embedsignature=True
"""Whole steps of IP and UDP for the usual packet, of either family.

Each function does in one call what the protocol's Python function would do in ten. For an unusual
packet it does nothing and says so; the Python function, which defines the meaning, then does the
work. The twin is ``_ref/inet.py``.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastpath.base.bytes cimport ld32be, st16be, st32be
from fastpath.base.csum cimport csum_add, csum_fold, csum_ptr, csum_ptr_ipv6, csum_tcpudp_nofold
from fastpath.base.intmap cimport IntMap, intmap_find
from fastpath.net.parse cimport L3, PLAIN, WHOLE, parsed
from fastpath.base.skbuff cimport (
    GSO_UDP_L4, SUM_PARTIAL, SkbPool, need, sk_buff, sk_buff_head, skb_buf, skb_build, skb_check,
    skb_do_add_data, skb_do_pull, skb_do_push, skb_free, skb_pool_take, skb_within,
)

cdef extern from "addr128.h":
    object addr128_get(const uint8_t *p)
    int addr128_put(uint8_t *p, object v) except -1
    object key144_get(const uint8_t *p)

cdef enum:
    INET = 2
    INET6 = 10
    IP_HLEN = 20
    IP6_HLEN = 40
    UDP_HLEN = 8
    P_UDP = 17
    IP_DF = 0x4000
    ETH_IP = 0x0800
    ETH_IPV6 = 0x86DD
    PACKET_HOST = 0
    PACKET_OTHERHOST = 3
    IDENT_SLOTS = 1024
    UDP_MAX_SEGMENTS = 128
    MAX_DRIFT = 64              # an id steps on by less than this for the time that has passed


cdef class IpIdents:
    """The generators of IPv4 identifications (net/ipv4/route.c ip_idents)."""

    def __init__(self, first):
        """`first`: the first id of each of the 1024 generators."""
        cdef int i
        if len(first) != IDENT_SLOTS:
            raise ValueError(f"IpIdents: {len(first)} ids, need {IDENT_SLOTS}")
        memset(self.stamp, 0, sizeof(self.stamp))
        for i in range(IDENT_SLOTS):
            self.id[i] = <uint16_t>(first[i] & 0xFFFF)

    cpdef int64_t reserve(self, int slot, uint32_t segs, int64_t now,
                          randrange) except? -1:
        """Take `segs` ids of generator `slot`; the first of them.

        `now` is a coarse time: when it has moved on by n ticks, up to n - 1 ids (at most 63) are
        skipped, as many as ``randrange(n)`` says.
        """
        return self.take(slot, segs, now, randrange)

    cdef uint16_t take(self, int slot, uint32_t segs, int64_t now, randrange) except? 0xFFFF:
        cdef int64_t passed
        cdef uint16_t value
        slot &= IDENT_SLOTS - 1
        passed = now - self.stamp[slot]
        value = self.id[slot]
        if passed:
            self.stamp[slot] = now
            if passed > 1:
                value += <uint16_t>randrange(min(passed, <int64_t>MAX_DRIFT))
        self.id[slot] = <uint16_t>(value + segs)
        return value


@cython.final
cdef class UdpFlow:
    """The prebuilt headers of the datagrams of one socket to one destination.

    `room` is the largest payload that fits one linear buffer and `mtu`; what fits a buffer of
    `small` goes there while it has one. `family` (2 or 10) is that of the wire; addresses and ports
    are in host order, `tos` and `ttl` also traffic class and hop limit. `flowlabel` is IPv6's;
    `df`, `idents` and `ident_slot`, the generator of identifications, are IPv4's.
    """

    def __cinit__(self, sk, dst, destructor, SkbPool pool not None, uint32_t headroom,
                  saddr, daddr, unsigned int sport, unsigned int dport, *,
                  unsigned int tos, unsigned int ttl, bint df, bint ignore_df,
                  uint32_t mark=0, uint32_t priority=0, int ident_slot=0, IpIdents idents=None,
                  randrange=None, SkbPool small=None, int family=INET, uint32_t flowlabel=0,
                  uint32_t mtu=0xFFFF):
        cdef uint32_t source, target
        if family != INET and family != INET6:
            raise ValueError(f"UdpFlow: family {family} is neither AF_INET nor AF_INET6")
        self.family = family
        self.head_len = IP_HLEN if family == INET else IP6_HLEN
        if (pool.p == NULL or pool.p.buf_bytes < headroom
                or headroom < self.head_len + UDP_HLEN):
            raise ValueError(f"UdpFlow: headroom {headroom} does not fit the headers or the pool")
        self.sk = sk
        self.dst = dst
        self.destructor = destructor
        self.pool = pool
        self.headroom = headroom
        self.room = pool.p.buf_bytes - headroom
        if mtu < self.head_len + UDP_HLEN:
            raise ValueError(f"UdpFlow: an MTU of {mtu} has no room for the headers")
        self.most = mtu - self.head_len - UDP_HLEN
        self.room = min(self.room, self.most)
        self.small_room = -1
        if small is not None and small.p != NULL:
            self.small = small
            self.small_room = <int64_t>small.p.buf_bytes - headroom
        self.sport = <uint16_t>sport
        self.dport = <uint16_t>dport
        self.ignore_df = ignore_df
        self.mark = mark
        self.priority = priority
        self.ident_slot = ident_slot
        self.idents = idents
        self.randrange = randrange
        memset(self.head, 0, sizeof(self.head))
        if family == INET6:
            st32be(self.head, 0x60000000U | (tos & 0xFFU) << 20 | (flowlabel & 0xFFFFFU))
            self.head[6] = P_UDP
            self.head[7] = <uint8_t>ttl
            addr128_put(self.head + 8, saddr)
            addr128_put(self.head + 24, daddr)
            self.pseudo = csum_ptr_ipv6(self.head + 8, self.head + 24, 0, P_UDP, 0)
            return
        source = saddr
        target = daddr
        self.counted = idents is not None and (ignore_df or not df)
        self.head[0] = 0x45
        self.head[1] = <uint8_t>tos
        st16be(self.head + 6, IP_DF if df else 0)
        self.head[8] = <uint8_t>ttl
        self.head[9] = P_UDP
        st32be(self.head + 12, source)
        st32be(self.head + 16, target)
        self.ip_sum = csum_ptr(self.head, IP_HLEN, 0)
        self.pseudo = csum_tcpudp_nofold(source, target, 0, P_UDP, 0)

    @property
    def saddr(self):
        """The source address."""
        return ld32be(self.head + 12) if self.family == INET else addr128_get(self.head + 8)

    @property
    def daddr(self):
        """The destination address."""
        return ld32be(self.head + 16) if self.family == INET else addr128_get(self.head + 24)

    cpdef void aim(self, int64_t dport, int64_t flowlabel=0) except *:
        """Have the flow go to another port of the same address; `flowlabel` is IPv6's.

        Raises: ValueError, for numbers that do not fit.
        """
        if dport < 0 or dport > 0xFFFF or flowlabel < 0 or flowlabel > 0xFFFFF:
            raise ValueError(f"UdpFlow.aim: port {dport}, flow label {flowlabel:#x}")
        self.dport = <uint16_t>dport
        if self.family == INET6:
            st32be(self.head, (ld32be(self.head) & 0xFFF00000U) | <uint32_t>flowlabel)

    cpdef sk_buff datagram(self, buffer, int64_t off, int64_t n):
        """Make an sk_buff of `n` bytes of `buffer` with its UDP header; None without a buffer.

        The checksum is left to the device (CHECKSUM_PARTIAL); sk, dst, destructor, priority and
        mark are set. Raises ValueError when the bytes are not there or more than `room`.
        """
        cdef Py_buffer view
        cdef skb_buf *b
        cdef sk_buff skb
        cdef uint8_t *p
        if off < 0 or n < 0 or n > <Py_ssize_t>self.room:
            raise ValueError(f"UdpFlow.datagram: {n} bytes from {off}, room for {self.room}")
        PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
        if off > view.len or n > view.len - off:
            PyBuffer_Release(&view)
            raise ValueError(f"UdpFlow.datagram: bytes {off} … {off + n} of a shorter buffer")
        b = skb_pool_take(self.small.p) if n <= self.small_room else NULL
        if b == NULL:
            b = skb_pool_take(self.pool.p)
        if b == NULL:
            PyBuffer_Release(&view)
            return None
        skb = skb_build(b, self.headroom)
        p = skb.head + skb.data
        memcpy(p, <const uint8_t *>view.buf + off, n)
        PyBuffer_Release(&view)
        skb.tail += <uint32_t>n
        skb.len = <uint32_t>n
        self.push_udp(skb)
        return skb

    cpdef bint cuts(self, int64_t n, int64_t size) except -1:
        """Whether `n` bytes may go as a super-packet of datagrams of `size` bytes (UDP_SEGMENT):
        more than one, not more than 128 nor 65535 bytes with headers, each within the MTU."""
        return (0 < size <= <int64_t>self.most and size < n <= size * UDP_MAX_SEGMENTS
                and n <= 0xFFFF - UDP_HLEN - <int64_t>self.head_len)

    cpdef sk_buff segments(self, buffer, int64_t off, int64_t n, int64_t size, SkbPool pages):
        """A super-packet of `n` bytes of `buffer`, to be cut into datagrams of `size` bytes, with
        its UDP header; None without packet buffers.

        It is as `datagram` makes them; what does not fit one linear buffer lies in `pages`. Raises
        ValueError when the bytes are not there or `cuts` says no.
        """
        need(pages)
        cdef Py_buffer view
        cdef skb_buf *b = NULL
        cdef sk_buff skb
        cdef const uint8_t *src
        cdef int64_t linear = <int64_t>self.pool.p.buf_bytes - self.headroom
        if off < 0 or pages.p == NULL or not self.cuts(n, size):
            raise ValueError(f"UdpFlow.segments: {n} bytes from {off} in datagrams of {size}")
        PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
        if off > view.len or n > view.len - off:
            PyBuffer_Release(&view)
            raise ValueError(f"UdpFlow.segments: bytes {off} … {off + n} of a shorter buffer")
        src = <const uint8_t *>view.buf + off
        if n <= self.small_room or n > linear and self.small_room >= 0:
            b = skb_pool_take(self.small.p)
        if b == NULL:
            b = skb_pool_take(self.pool.p)
        if b == NULL:
            PyBuffer_Release(&view)
            return None
        skb = skb_build(b, self.headroom)
        if n <= <int64_t>(skb.end - skb.tail):
            memcpy(skb.head + skb.tail, src, n)
            skb.tail += <uint32_t>n
            skb.len += n
        elif skb_do_add_data(skb, pages.p, src, <uint64_t>n) != <uint64_t>n:
            PyBuffer_Release(&view)
            skb_free(skb)
            return None
        PyBuffer_Release(&view)
        self.push_udp(skb)
        skb.gso_size = size
        skb.gso_segs = (n + size - 1) // size
        skb.gso_type = GSO_UDP_L4
        return skb

    cdef void push_udp(self, sk_buff skb) noexcept:
        """The UDP header, in 8 bytes of headroom, and what an sk_buff of this flow carries."""
        cdef uint8_t *p
        skb.data -= UDP_HLEN
        skb.len += UDP_HLEN
        skb.transport_header = skb.data
        p = skb.head + skb.data
        st16be(p, self.sport)
        st16be(p + 2, self.dport)
        st16be(p + 4, <uint16_t>skb.len)
        # the pseudo header's sum, not complemented
        st16be(p + 6, <uint16_t>~csum_fold(csum_add(self.pseudo, skb.len)))
        skb.ip_summed = SUM_PARTIAL
        skb.csum_start = skb.data
        skb.csum_offset = 6
        skb.sk = self.sk
        skb.dst = self.dst
        skb.destructor = self.destructor
        skb.priority = self.priority
        skb.mark = self.mark
        skb.ignore_df = self.ignore_df

    cpdef void push_ip_at(self, sk_buff skb, int64_t now) except *:
        """`push_ip` with identifications of the flow's generator at the coarse time `now`, one for
        each segment; 0 for a flow that is not `counted`.
        """
        cdef unsigned int ident = 0
        if self.counted:
            ident = self.idents.take(
                self.ident_slot, skb.gso_segs if skb.gso_segs else 1, now, self.randrange)
        self.push(skb, ident)

    cpdef void push_ip(self, sk_buff skb, unsigned int ident) except *:
        """Push the IP header, checksum done; sets network_header and protocol.

        `ident` is IPv4's identification; IPv6 has none.
        """
        self.push(skb, ident)

    cdef int push(self, sk_buff skb, unsigned int ident) except -1:
        cdef uint8_t *p
        cdef uint32_t total
        skb_do_push(skb, self.head_len)
        skb.network_header = skb.data
        p = skb.head + skb.data
        memcpy(p, self.head, self.head_len)
        total = skb.len & 0xFFFF
        if self.family == INET6:
            skb.protocol = ETH_IPV6
            st16be(p + 4, <uint16_t>(total - IP6_HLEN))
            return 0
        skb.protocol = ETH_IP
        ident &= 0xFFFF
        st16be(p + 2, <uint16_t>total)
        st16be(p + 4, <uint16_t>ident)
        st16be(p + 10, csum_fold(self.ip_sum + total + ident))
        return 0


cdef inline const uint8_t *_network(sk_buff skb, uint32_t n) noexcept:
    """The network header when `n` bytes of it are linear, else NULL."""
    if skb.network_header < skb.data or skb.users == 0:
        return NULL
    return skb_within(skb, skb.network_header, n, skb.tail)


cpdef (int64_t, int64_t, int64_t, int64_t, int64_t) ip_route_fields(sk_buff skb) except *:
    """Return (daddr, saddr, tos, protocol, plain) of the IPv4 header.

    `plain` is 2 for a whole packet without options whose frame was for this host alone, 1 for
    another whole packet, 0 for a fragment.
    """
    need(skb)
    cdef int plain = 0
    if not parsed(skb) & L3 or skb.inet_family != INET:
        raise IndexError("ip_route_fields: no IPv4 header")
    if skb.parsed & WHOLE:
        plain = 2 if skb.parsed & PLAIN and skb.pkt_type == PACKET_HOST else 1
    return skb.daddr, skb.saddr, skb.l3_dsfield, skb.l4_proto, plain


cpdef int64_t rth_key(uint32_t daddr, uint8_t tos, int ifindex) except? -1:
    """The key of a kept input route: interface, destination, type of service in one int."""
    return <uint64_t>ifindex << 40 | <uint64_t>daddr << 8 | tos


cpdef object rth_find(IntMap routes, IntMap own, uint32_t daddr, uint32_t saddr, uint8_t tos,
                      int ifindex):
    """Return the kept route of a packet from a usual source, None for any other packet.

    `routes` by rth_key. A usual source is no group, broadcast, 0.0.0.0/8 nor loopback address and
    not among the `own` (what fib_validate_source asks of a device without a reverse path filter).
    """
    need(routes)
    need(own)
    cdef uint32_t top = saddr >> 24
    cdef PyObject *rt
    if top == 0 or top >= 224 or top == 127:
        return None
    rt = intmap_find(routes, rth_key(daddr, tos, ifindex))
    if rt == NULL or intmap_find(own, saddr) != NULL:
        return None
    return <object>rt


cpdef int64_t ip_pull_header(sk_buff skb) except? -1:
    """Move data to the transport header; the header's protocol."""
    need(skb)
    if (not parsed(skb) & L3 or skb.inet_family != INET
            or not 0 <= skb.transport_header - skb.data <= skb.len):
        raise IndexError("ip_pull_header: no IPv4 header")
    skb_do_pull(skb, <uint32_t>(skb.transport_header - skb.data))
    return skb.l4_proto


cpdef bint ip_is_fragment(sk_buff skb) except -1:
    """Whether the IPv4 header says that this is a part of a packet (include/net/ip.h)."""
    need(skb)
    if not parsed(skb) & L3 or skb.inet_family != INET:
        raise IndexError("ip_is_fragment: no IPv4 header")
    return not skb.parsed & WHOLE


cdef inline bint _loopback6(const uint8_t *a) noexcept:
    return not (ld32be(a) | ld32be(a + 4) | ld32be(a + 8)) and ld32be(a + 12) == 1


cpdef tuple ip6_rcv_fields(sk_buff skb):
    """Return (daddr, nexthdr, strict) of the IPv6 header: what early demux and the route ask for.

    `strict`: the address means nothing without its interface (rt6_need_strict), for it is a group,
    link-local or the loopback address.
    """
    need(skb)
    cdef const uint8_t *p = _network(skb, IP6_HLEN)
    cdef bint strict
    if p == NULL or not parsed(skb) & L3:
        raise IndexError("ip6_rcv_fields: no IPv6 header")
    strict = (p[24] == 0xFF or p[24] == 0xFE and (p[25] & 0xC0) == 0x80 or _loopback6(p + 24))
    return addr128_get(p + 24), skb.l4_proto, strict


cpdef bint ip6_to_group(sk_buff skb) except -1:
    """Whether the destination in the IPv6 header is a multicast address. data may be behind it."""
    need(skb)
    cdef const uint8_t *p = skb_within(skb, skb.network_header, IP6_HLEN, skb.tail)
    if p == NULL:
        raise IndexError("ip6_to_group: no IPv6 header")
    return p[24] == 0xFF


cpdef object ip6_neigh_key(sk_buff skb, uint32_t ifindex):
    """Return the destination's key in a neighbour table: the address << 16 | `ifindex`.

    0 for a group, and for an interface number that has more than 16 bits.
    """
    need(skb)
    cdef const uint8_t *p = _network(skb, IP6_HLEN)
    cdef uint8_t key[18]
    if p == NULL:
        raise IndexError("ip6_neigh_key: no IPv6 header")
    if p[24] == 0xFF or ifindex > 0xFFFF:
        return 0
    memcpy(key, p + 24, 16)
    st16be(key + 16, <uint16_t>ifindex)
    return key144_get(key)


cpdef int64_t ip6_pull_header(sk_buff skb, uint32_t nhoff=6) except? -1:
    """Move data to the transport header; the next header's number, `nhoff` bytes into the packet.

    data may be behind the IPv6 header already. Raises IndexError when there is none, or `nhoff` is
    not before the transport header or not linear.
    """
    need(skb)
    cdef const uint8_t *p = skb_within(skb, skb.network_header, IP6_HLEN, skb.tail)
    if (p == NULL or nhoff >= skb.tail - skb.network_header
            or not 0 <= skb.transport_header - skb.data <= skb.len
            or nhoff >= skb.transport_header - skb.network_header):
        raise IndexError("ip6_pull_header: no IPv6 header")
    skb_do_pull(skb, <uint32_t>(skb.transport_header - skb.data))
    return p[nhoff]


cpdef int64_t skb_enter_network(sk_buff skb, int ifindex) except? -1:
    """Start the network layer at data, on interface `ifindex`: the protocol.

    -1, and nothing done, for a packet with a VLAN tag beside it.
    """
    skb_check(skb)
    if skb.vlan_proto:
        return -1
    skb.network_header = skb.data
    skb.skb_iif = ifindex
    return skb.protocol


cpdef int64_t skb_queue_owned(sk_buff_head queue, sk_buff skb, sk, destructor, uint32_t pull,
                              int64_t limit) except? -1:
    """Step over `pull` bytes, make `sk` the owner with `destructor`, append to `queue`: truesize.

    0, and nothing done, when skb has an owner already or its truesize is above `limit`.
    """
    need(queue)
    skb_check(skb)
    if skb.destructor is not None or skb.truesize > limit:
        return 0
    skb_do_pull(skb, pull)
    queue.queue_tail(skb)
    skb.sk = sk
    skb.destructor = destructor
    return skb.truesize
