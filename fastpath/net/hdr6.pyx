# cython: language_level=3, embedsignature=True
"""Views of IPv6's fragment header, ICMPv6 and redirects; checks of the header, ICMPv6's writer.

A view works as those of ``hdr``: each access checks that the fixed part of the header is linear
data of a live sk_buff. Integers are in host order, addresses are 128-bit ints, and a setter keeps
the low bits that fit. Names are those of linux/ipv6.h, icmpv6.h and net/ndisc.h.
"""

cimport cython
from libc.stdint cimport uint8_t, uint32_t

from fastpath.base.bytes cimport ld16be, ld32be, st16be, st32be
from fastpath.base.csum cimport csum_fold, csum_ptr_ipv6
from fastpath.net.hdr cimport add_members, data_at, header, view_at
from fastpath.net.parse cimport L3, parsed
from fastpath.base.skbuff cimport (
    SUM_COMPLETE, SUM_NONE, need, sk_buff, skb_check, skb_do_copy, skb_do_csum, skb_do_may_pull,
    skb_do_push, skb_do_trim,
)

cdef extern from "addr128.h":
    int addr128_put(uint8_t *p, object v) except -1

cdef enum:
    IP6_HLEN = 40
    P_ICMPV6 = 58
    NEXTHDR_HOP = 0
    NEXTHDR_ROUTING = 43
    NEXTHDR_FRAGMENT = 44
    NEXTHDR_AUTH = 51
    NEXTHDR_NONE = 59
    NEXTHDR_DEST = 60


@cython.final
@cython.no_gc
cdef class frag_hdr(header):
    """Fragment header (RFC 8200 4.5); frag_off holds the two reserved bits and M too."""


@cython.final
@cython.no_gc
cdef class icmp6hdr(header):
    """ICMPv6 header (RFC 4443 2.1) and what its second word means to each type."""


@cython.final
@cython.no_gc
cdef class rd_msg(header):
    """Redirect (RFC 4861 4.5), from the ICMPv6 header on."""


add_members((frag_hdr, icmp6hdr, rd_msg))


# -- making views ----------------------------------------------------------------------------------
cpdef frag_hdr frag_hdr_at(sk_buff skb, int64_t off):
    """View of a header `off` bytes from skb->data."""
    need(skb)
    return <frag_hdr>view_at(frag_hdr.__new__(frag_hdr), skb, data_at(skb, off))


cpdef rd_msg rd_msg_at(sk_buff skb, int64_t off):
    """View of a header `off` bytes from skb->data."""
    need(skb)
    return <rd_msg>view_at(rd_msg.__new__(rd_msg), skb, data_at(skb, off))


cpdef icmp6hdr icmp6_hdr(sk_buff skb):
    """View of the ICMPv6 header at skb.transport_header."""
    need(skb)
    return <icmp6hdr>view_at(icmp6hdr.__new__(icmp6hdr), skb, skb.transport_header)


# -- checks and writers ----------------------------------------------------------------------------
cpdef int64_t ipv6_hdr_validate(sk_buff skb, bint loopback=False) except? -1:
    """ip6_rcv_core's checks with data at the IPv6 header (net/ipv6/ip6_input.c).

    0 fine (trimmed to its length, network_header and transport_header set, the latter behind the
    40 bytes), 1 header error, 3 truncated. `loopback`: it came over a loopback device, where the
    loopback address and groups of the host itself are right. payload_len 0 means skb.len in a GSO
    packet; before hop-by-hop options it says nothing (a jumbogram's length is one of them).
    """
    cdef const uint8_t *p
    cdef uint32_t total
    skb_check(skb)
    skb.network_header = skb.data
    if not parsed(skb) & L3 and not skb_do_may_pull(skb, IP6_HLEN):
        return 1
    p = skb.head + skb.data
    if p[0] >> 4 != 6 or address_error(p, loopback):
        return 1
    total = ld16be(p + 4)
    if total != 0 or p[6] != NEXTHDR_HOP and not skb.gso_size:
        total += IP6_HLEN
        if total > skb.len:
            return 3
        if total < skb.len:
            skb_do_trim(skb, total)
            if skb.ip_summed == SUM_COMPLETE:
                skb.ip_summed = SUM_NONE
    skb.network_header = skb.data
    skb.transport_header = skb.data + IP6_HLEN
    return 0


cdef bint address_error(const uint8_t *p, bint loopback) noexcept:
    cdef const uint8_t *s = p + 8
    cdef const uint8_t *d = p + 24
    if s[0] == 0xFF:                    # a group cannot send (RFC 4291 2.7)
        return True
    # scope 0 is reserved (RFC 4291 2.7), scope 1 does not leave the host
    if d[0] == 0xFF and ((d[1] & 0x0F) == 0 or (d[1] & 0x0F) == 1 and not loopback):
        return True
    return not loopback and (is_loopback(s) or is_loopback(d))


cdef bint is_loopback(const uint8_t *a) noexcept:
    return not (ld32be(a) | ld32be(a + 4) | ld32be(a + 8)) and ld32be(a + 12) == 1


cpdef (int64_t, int64_t, int64_t) ipv6_skip_exthdr(sk_buff skb, int64_t start,
                                                   int nexthdr) except *:
    """Step over the extension headers from `start` (bytes from data): (offset, nexthdr, frag_off).

    `nexthdr` says what stands at `start`. The offset is that of the first header that is no
    extension; in a piece of a packet other than the first one, that of its fragment header, with
    nexthdr 44. It is -1 when the packet ends before or says that nothing follows (59). frag_off is
    the fragment header's word, 0 without one. Bytes beyond the linear data are looked at too
    (net/ipv6/exthdrs_core.c).
    """
    cdef uint8_t h[4]
    cdef uint32_t at, frag_off = 0
    skb_check(skb)
    if start < 0 or start > <Py_ssize_t>skb.len:
        return -1, nexthdr, 0
    at = <uint32_t>start
    while (nexthdr == NEXTHDR_HOP or nexthdr == NEXTHDR_ROUTING or nexthdr == NEXTHDR_FRAGMENT
            or nexthdr == NEXTHDR_AUTH or nexthdr == NEXTHDR_NONE or nexthdr == NEXTHDR_DEST):
        if nexthdr == NEXTHDR_NONE or at > skb.len or skb.len - at < 4:
            return -1, nexthdr, frag_off
        skb_do_copy(skb, at, h, 4)
        if nexthdr == NEXTHDR_FRAGMENT:
            frag_off = ld16be(h + 2)
            if frag_off & 0xFFF8:
                break
            at += 8
        elif nexthdr == NEXTHDR_AUTH:
            at += (h[1] + 2U) * 4U
        else:
            at += (h[1] + 1U) * 8U
        nexthdr = h[0]
    return at, nexthdr, frag_off


cdef uint32_t pseudo(sk_buff skb, saddr, daddr) except? 0xFFFFFFFF:
    cdef uint8_t a[32]
    addr128_put(a, saddr)
    addr128_put(a + 16, daddr)
    return csum_ptr_ipv6(a, a + 16, skb.len, P_ICMPV6, 0)


cpdef void icmp6_push(sk_buff skb, unsigned int type, unsigned int code, uint32_t un, saddr,
                      daddr) except *:
    """Push the 8-byte ICMPv6 header and set its checksum over pseudo header and whole packet.

    `un` is the word after the checksum; sets transport_header.
    """
    need(skb)
    cdef uint8_t *p
    skb_do_push(skb, 8)
    skb.transport_header = skb.data
    p = skb.head + skb.data
    p[0] = <uint8_t>type
    p[1] = <uint8_t>code
    st16be(p + 2, 0)
    st32be(p + 4, un)
    st16be(p + 2, csum_fold(skb_do_csum(skb, 0, skb.len, pseudo(skb, saddr, daddr))))


cpdef int64_t icmp6_csum(sk_buff skb, saddr, daddr) except? -1:
    """Folded checksum of the ICMPv6 message at data: 0 when a received one is right.

    With its checksum field zero, the value that belongs there.
    """
    skb_check(skb)
    return csum_fold(skb_do_csum(skb, 0, skb.len, pseudo(skb, saddr, daddr)))
