# cython: language_level=3, embedsignature=True
"""The headers of a packet, parsed once: by the driver's receive kernel, or at the first use.

The sk_buff keeps the results: `parsed` (PARSED_… bits), inet_family, l4_proto, l3_len, l3_dsfield,
saddr and daddr (of IPv4), sport, dport, l4_hlen. Of TCP it keeps th_seq, th_ack, th_flags,
th_window, tcp_opts, tsval, tsecr. It holds while network_header and transport_header stay where
they were, until a header is pushed or written through a view.

The twin is ``_ref/parse.py``. Malformed packets are not dropped here: `parsed` lacks the bit, and
the function that counts and drops them (ip_rcv_core, tcp_v4_rcv ...) checks the header itself.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t

from fastpath.base.bytes cimport ld16be, ld32be
from fastpath.base.skbuff cimport sk_buff, skb_check

PARSED_L3 = L3
PARSED_WHOLE = WHOLE
PARSED_PLAIN = PLAIN
PARSED_L4 = L4
PARSED_IP_SUM = IP_SUM

cdef enum:
    ETH_IP = 0x0800
    ETH_IPV6 = 0x86DD
    INET = 2
    INET6 = 10
    IP_HLEN = 20
    IP6_HLEN = 40
    P_TCP = 6
    P_UDP = 17
    NOP_NOP_TS = 0x0101080A


cdef bint headers_parse(const uint8_t *p, uint32_t linear, int64_t length, uint32_t proto,
                        bint gso, headers *h) noexcept nogil:
    cdef uint32_t hlen, frag = 0
    h.seen = 0
    if proto == ETH_IP:
        if linear < IP_HLEN or p[0] >> 4 != 4:
            return False
        hlen = (p[0] & 0x0F) * 4U
        h.total = ld16be(p + 2)
        if h.total == 0 and gso:        # a super-packet above 64 KiB
            h.total = <uint32_t>length
        if hlen < IP_HLEN or hlen > linear or h.total < hlen or h.total > length:
            return False
        h.v6 = 0
        h.proto = p[9]
        h.dsfield = p[1]
        frag = ld16be(p + 6) & 0x3FFF
        h.seen = L3 if frag else L3 | WHOLE
        if hlen == IP_HLEN and not frag:
            h.seen |= PLAIN
    elif proto == ETH_IPV6:
        if linear < IP6_HLEN or p[0] >> 4 != 6:
            return False
        hlen = IP6_HLEN
        h.total = ld16be(p + 4)
        if h.total == 0 and gso:
            h.total = <uint32_t>length
        else:
            h.total += IP6_HLEN
        if h.total > length:
            return False
        h.v6 = 1
        h.proto = p[6]
        h.dsfield = <uint8_t>(ld16be(p) >> 4)
        # Whether it is a fragment its extension headers say; they are read one by one later.
        h.seen = L3
        if h.proto == P_TCP or h.proto == P_UDP:
            h.seen = L3 | WHOLE | PLAIN
    else:
        return False
    h.l4 = hlen
    if h.seen & WHOLE:
        transport(p, linear, h)
    return True


cdef inline void transport(const uint8_t *p, uint32_t linear, headers *h) noexcept nogil:
    """The TCP or UDP header at h.l4; h.seen gets L4 when it is whole."""
    cdef const uint8_t *t = p + h.l4
    cdef uint32_t n = h.total - h.l4
    if linear > h.total:
        linear = h.total
    linear -= h.l4
    if h.proto == P_TCP:
        if linear < 20:
            return
        h.l4_hlen = (t[12] >> 4) * 4U
        if h.l4_hlen < 20 or h.l4_hlen > linear:
            return
        h.seq = ld32be(t + 4)
        h.ack = ld32be(t + 8)
        h.flags = t[13]
        h.window = ld16be(t + 14)
        h.opts = OPTS_NONE
        if h.l4_hlen > 20:
            h.opts = OPTS_OTHER
            if h.l4_hlen == 32 and ld32be(t + 20) == NOP_NOP_TS:
                h.opts = OPTS_TS
                h.tsval = ld32be(t + 24)
                h.tsecr = ld32be(t + 28)
    elif h.proto == P_UDP:
        if linear < 8 or ld16be(t + 4) > n or ld16be(t + 4) and ld16be(t + 4) < 8:
            return
        h.l4_hlen = 8
    else:
        return
    h.sport = ld16be(t)
    h.dport = ld16be(t + 2)
    h.seen |= L4


cdef void headers_store(sk_buff skb, uint32_t l3, const headers *h) noexcept:
    cdef const uint8_t *p = skb.head + l3
    skb.parsed = h.seen
    skb.parsed_at = l3
    skb.parsed_l4 = l3 + h.l4
    skb.l3_len = h.total
    skb.l4_proto = h.proto
    if h.v6:
        skb.inet_family = INET6
    else:
        skb.inet_family = INET
        skb.saddr = ld32be(p + 12)
        skb.daddr = ld32be(p + 16)
    skb.l3_dsfield = h.dsfield
    if not h.seen & L4:
        return
    skb.sport = h.sport
    skb.dport = h.dport
    skb.l4_hlen = <uint8_t>h.l4_hlen
    if h.proto == P_TCP:
        skb.th_seq = h.seq
        skb.th_ack = h.ack
        skb.th_flags = h.flags
        skb.th_window = h.window
        skb.tcp_opts = h.opts
        if h.opts == OPTS_TS:
            skb.tsval = h.tsval
            skb.tsecr = h.tsecr


cdef uint8_t parsed_slow(sk_buff skb) noexcept:
    cdef headers h
    cdef int64_t net = skb.network_header
    cdef uint32_t before
    cdef const uint8_t *p
    skb.parsed = 0
    if skb.users == 0 or net < 0 or net >= skb.tail:
        return 0
    p = skb.head + net
    before = <uint32_t>(skb.tail - net)
    # `length` counts from the network header, which may lie before or behind data
    if headers_parse(p, before, skb.len + skb.data - net,
                     ETH_IP if p[0] >> 4 == 4 else ETH_IPV6, skb.gso_size != 0, &h):
        headers_store(skb, <uint32_t>net, &h)
    return skb.parsed


cpdef bint skb_parse(sk_buff skb) except -1:
    """Parse the headers at network_header unless that was done; whether they are IP.

    Afterwards l3_len, inet_family, l4_proto, and with PARSED_L4 in `parsed` also ports and TCP's
    fields, are those of the packet. transport_header is the caller's. ValueError when skb was
    freed.
    """
    skb_check(skb)
    return parsed(skb) != 0
