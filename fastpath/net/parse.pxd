# cython: language_level=3, overflowcheck=False
"""The headers of a packet, parsed once, for compiled callers (documented in parse.pyi).

What was seen stands in the sk_buff: `parsed` says how far it goes. It holds for the headers at
`parsed_at` and, past the network layer, `parsed_l4`; who moves network_header or transport_header
elsewhere, or writes to headers through a view, leaves it behind.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

from fastpath.base.skbuff cimport sk_buff

cdef enum:
    # sk_buff.parsed
    L3 = 1                      # the network header is whole and its lengths are right
    WHOLE = 2                   # no fragment
    PLAIN = 4                   # no IPv4 options; TCP or UDP right behind IPv6's 40 bytes
    L4 = 8                      # the TCP or UDP header is whole, options too
    IP_SUM = 16                 # the sum of the IPv4 header was found right
    # sk_buff.tcp_opts
    OPTS_NONE = 0
    OPTS_TS = 1                 # NOP NOP timestamps and nothing else
    OPTS_OTHER = 2

# Offsets count from the network header, numbers are in host order.
cdef struct headers:
    uint32_t total              # bytes of the network layer
    uint32_t l4                 # where the transport header is
    uint32_t l4_hlen            # its bytes: 8 for UDP, with options for TCP
    uint32_t seq
    uint32_t ack
    uint32_t tsval
    uint32_t tsecr
    uint16_t sport
    uint16_t dport
    uint16_t window
    uint8_t seen
    uint8_t v6
    uint8_t proto               # of what is at l4
    uint8_t dsfield
    uint8_t flags
    uint8_t opts

# Parse `linear` bytes at a network header of a packet of `length` bytes. False: no IP of `proto`.
cdef bint headers_parse(const uint8_t *p, uint32_t linear, int64_t length, uint32_t proto,
                        bint gso, headers *h) noexcept nogil
# Put what was parsed of the network header `l3` bytes from head into skb.
cdef void headers_store(sk_buff skb, uint32_t l3, const headers *h) noexcept
# What was seen of the headers that skb points to now: parsed if it was not; 0 when it is no IP.
cdef uint8_t parsed_slow(sk_buff skb) noexcept


cdef inline uint8_t parsed(sk_buff skb) noexcept:
    """What was seen at network_header, parsing it when nobody did; 0 when that is no IP."""
    if skb.parsed and skb.network_header == skb.parsed_at:
        return skb.parsed
    return parsed_slow(skb)


cdef inline bint parsed_l4(sk_buff skb) noexcept:
    """Whether ports and TCP's fields in the sk_buff are those of its transport_header."""
    return parsed(skb) & L4 and skb.transport_header == skb.parsed_l4


cpdef bint skb_parse(sk_buff skb) except -1
