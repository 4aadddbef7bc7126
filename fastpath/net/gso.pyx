# cython: language_level=3, embedsignature=True
"""Software segmentation of GSO super-packets (net/core/gso.c, tcp_offload.c, udp_offload.c).

    skb_gso_segment => read_layout      where the headers are, those of a tunnel by find_inner
                    => cut              a sk_buff for each segment, with a copy of the headers
                        fix_headers     what is another number in each of them
                            fix_tunnel  and in front of it (gre_offload.c, skb_udp_tunnel_segment)
    udp_rcv_segment, gro_unmerge        the reverse of GRO, for datagrams
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memcpy

from fastpath.base.bytes cimport ld16be, ld32be, st16be, st32be
from fastpath.base.csum cimport (
    csum_add, csum_fold, csum_ptr, csum_ptr_ipv6, csum_sub, csum_tcpudp_nofold,
)
from fastpath.base.skbuff cimport (
    GSO_TCPV4, GSO_TCPV6, GSO_TCP_FIXEDID, GSO_UDP_L4, SKB_OVERHEAD, SKB_UNSET, SUM_NONE,
    SUM_PARTIAL, SUM_UNNECESSARY, SkbPool, need, sk_buff, skb_build, skb_c, skb_check,
    skb_core_headlen, skb_copy_fields, skb_do_copy, skb_do_csum, skb_do_may_pull, skb_do_share,
    skb_do_trim, skb_frag, skb_free, skb_new,
)

cdef enum:
    P_TCP = 6
    P_UDP = 17
    F_FIN_PSH = 0x09
    F_CWR = 0x80
    GSO_GRE_CSUM = 1 << 7
    GSO_UDP_TUNNEL_CSUM = 1 << 11
    GSO_ENCAP = 0xFC0           # SKB_GSO_ENCAP
    GSO_TCP_ACCECN = 1 << 19    # CWR is a bit of the ACE field (RFC 9768): all segments keep it
    P_IPIP = 4
    P_IPV6 = 41
    P_GRE = 47
    NEXTHDR_HOP = 0
    NEXTHDR_ROUTING = 43
    NEXTHDR_DEST = 60
    ETH_TEB = 0x6558
    ETH_8021Q = 0x8100
    ETH_8021AD = 0x88A8
    SHARE_BYTES = 1024          # datagrams from here on are split by reference


# Where the headers of a super-packet lie; offsets from data. Without a tunnel `outer` is `net`.
cdef struct layout:
    uint32_t outer      # the IP header of the wire
    uint32_t enc        # the tunnel's UDP or GRE header, or what follows the outer IP header
    uint32_t net        # the IP header in front of l4
    uint32_t l4
    uint32_t pay
    uint8_t v6
    uint8_t proto
    uint8_t outer6
    uint8_t enc_proto   # 0: no tunnel


cdef int malformed(str why) except -1:
    raise ValueError(f"skb_gso_segment: {why}")


cdef bint find_inner(const uint8_t *p, layout *w) noexcept:
    """Walk the headers of a tunnel from `outer` to `net`. False: they are not what we know."""
    cdef uint32_t at = w.outer, size, kind = 0, flags
    cdef uint8_t proto
    if at + 20 > w.l4:
        return False
    w.outer6 = p[at] >> 4 == 6
    if w.outer6:
        proto = p[at + 6]
        at += 40
        while proto == NEXTHDR_HOP or proto == NEXTHDR_ROUTING or proto == NEXTHDR_DEST:
            if at + 8 > w.l4:
                return False
            proto = p[at]
            at += (p[at + 1] + 1) * 8U
    else:
        proto = p[at + 9]
        at += (p[at] & 0x0F) * 4U
    w.enc = at
    w.enc_proto = proto
    if proto == P_UDP:
        if at + 16 > w.l4:
            return False
        # Geneve (RFC 8926) says that a frame follows where VXLAN (RFC 7348) has zeros.
        size = (p[at + 8] & 0x3F) * 4U if ld16be(p + at + 10) == ETH_TEB else 0
        at += 16 + size
        kind = ETH_TEB
    elif proto == P_GRE:
        if at + 4 > w.l4:
            return False
        flags = ld16be(p + at)
        kind = ld16be(p + at + 2)
        at += 4 * (1 + (flags >> 15) + (flags >> 13 & 1) + (flags >> 12 & 1))
    elif proto != P_IPIP and proto != P_IPV6:
        return False
    if kind == ETH_TEB:
        at += 14
        if at > w.l4:
            return False
        kind = ld16be(p + at - 2)
        while kind == ETH_8021Q or kind == ETH_8021AD:
            at += 4
            if at > w.l4:
                return False
            kind = ld16be(p + at - 2)
    w.net = at
    return at + 20 <= w.l4


cdef int read_layout(sk_buff skb, layout *w) except -1:
    """Check the headers of a GSO packet with data at (or before) its network header."""
    cdef uint32_t l4 = 20
    cdef int64_t start = skb.transport_header
    cdef uint8_t *p
    skb_check(skb)
    if not 0 < skb.gso_size <= 0xFFFF:
        malformed(f"gso_size is {skb.gso_size}")
    if skb.gso_type & GSO_ENCAP:
        if skb.ip_summed != SUM_PARTIAL:
            malformed("a packet in a tunnel has its checksum already")
        start = skb.csum_start
    if (skb.network_header == SKB_UNSET or skb.network_header < skb.data
            or start < skb.network_header or start - skb.data > skb.len):
        malformed("network or transport header lies outside the packet")
    w.outer = w.net = skb.network_header - skb.data
    w.l4 = start - skb.data
    w.enc_proto = 0
    if skb.gso_type & GSO_UDP_L4:
        w.proto = P_UDP
        l4 = 8
    elif skb.gso_type & (GSO_TCPV4 | GSO_TCPV6):
        w.proto = P_TCP
    else:
        malformed(f"gso_type {skb.gso_type:#x} is unknown")
    if not skb_do_may_pull(skb, w.l4 + l4):
        malformed("the transport header is cut off")
    p = skb.head + skb.data
    if w.proto == P_TCP:
        l4 = (p[w.l4 + 12] >> 4) * 4U
        if l4 < 20 or not skb_do_may_pull(skb, w.l4 + l4):
            malformed("the TCP header length is wrong")
        p = skb.head + skb.data
    w.pay = w.l4 + l4
    if skb.gso_type & GSO_ENCAP and not find_inner(p, w):
        malformed("the tunnel's headers are unknown")
    if w.l4 - w.net < 20:
        malformed("the network header is cut off")
    w.v6 = p[w.net] >> 4 == 6
    if w.v6:
        if w.l4 - w.net < 40:
            malformed("the IPv6 header is cut off")
    elif p[w.net] >> 4 != 4 or (p[w.net] & 0x0F) * 4U != w.l4 - w.net:
        malformed("the IPv4 header length is wrong")
    return 0


cdef uint32_t pseudo(const uint8_t *net, bint v6, uint8_t proto, uint32_t n) noexcept:
    if v6:
        return csum_ptr_ipv6(net + 8, net + 24, n, proto, 0)
    return csum_tcpudp_nofold(ld32be(net + 12), ld32be(net + 16), n, proto, 0)


cdef void fix_ip(uint8_t *net, bint v6, uint32_t n, uint32_t i) noexcept:
    """The length `n` of the IP packet at `net`; its id is `i` further, its checksum made anew."""
    if v6:
        st16be(net + 4, <uint16_t>(n - 40))
        return
    st16be(net + 2, <uint16_t>n)
    st16be(net + 4, <uint16_t>(ld16be(net + 4) + i))
    st16be(net + 10, 0)
    st16be(net + 10, csum_fold(csum_ptr(net, (net[0] & 0x0F) * 4U, 0)))


cdef void fix_tunnel(sk_buff seg, sk_buff skb, layout *w, uint32_t i, uint32_t acc) noexcept:
    """Lengths, id and checksums in front of the packet inside, `acc` its pseudo header's sum.

    With its checksum, the bytes from `l4` on add up to the complement of `acc`. So the sum
    outside needs the headers alone (local checksum offload).
    """
    cdef uint8_t *net = seg.head + seg.data + w.outer
    cdef uint8_t *t = seg.head + seg.data + w.enc
    cdef uint32_t n = seg.len - w.enc
    cdef uint16_t v
    fix_ip(net, w.outer6, seg.len - w.outer, i)
    if w.enc_proto == P_UDP:
        st16be(t + 4, <uint16_t>n)
        st16be(t + 6, 0)
        if skb.gso_type & GSO_UDP_TUNNEL_CSUM:
            acc = csum_ptr(t, w.l4 - w.enc, csum_fold(acc))
            v = csum_fold(csum_add(acc, pseudo(net, w.outer6, P_UDP, n)))
            st16be(t + 6, v if v else 0xFFFF)
    elif w.enc_proto == P_GRE and skb.gso_type & GSO_GRE_CSUM:
        st16be(t + 4, 0)
        st16be(t + 4, csum_fold(csum_ptr(t, w.l4 - w.enc, csum_fold(acc))))


cdef void fix_headers(sk_buff seg, sk_buff skb, layout *w, uint32_t i, uint32_t last,
                      uint32_t done, bint with_sum) noexcept:
    """Lengths, ids, sequence number and flags of segment `i`; its checksum when `with_sum`."""
    cdef uint8_t *net = seg.head + seg.data + w.net
    cdef uint8_t *t = seg.head + seg.data + w.l4
    cdef uint32_t n = seg.len - w.l4
    cdef uint32_t place, acc
    cdef uint16_t v
    fix_ip(net, w.v6, seg.len - w.net, 0 if skb.gso_type & GSO_TCP_FIXEDID else i)
    if w.proto == P_TCP:
        place = 16
        st32be(t + 4, ld32be(t + 4) + done)
        if i != last:
            t[13] &= ~F_FIN_PSH
        if i != 0 and not skb.gso_type & GSO_TCP_ACCECN:
            t[13] &= ~F_CWR
    else:
        place = 6
        st16be(t + 4, <uint16_t>n)
        # a datagram sent without checksum stays without
        if not w.v6 and skb.ip_summed != SUM_PARTIAL and ld16be(t + 6) == 0:
            seg.ip_summed = SUM_UNNECESSARY if skb.ip_summed == SUM_UNNECESSARY else SUM_NONE
            return
    if w.v6 and w.l4 - w.net > 40 and skb.ip_summed == SUM_PARTIAL:
        # behind a routing header the sum is over the final destination (RFC 8200 8.1), which the
        # header at `net` need not show: only the length in it changes
        acc = csum_add(csum_sub(ld16be(t + place), skb.len - w.l4), n)
    else:
        acc = pseudo(net, w.v6, w.proto, n)
    if w.enc_proto:
        fix_tunnel(seg, skb, w, i, acc)
    if not with_sum:
        st16be(t + place, <uint16_t>~csum_fold(acc))
        seg.ip_summed = SUM_PARTIAL
        seg.csum_start = seg.data + w.l4
        seg.csum_offset = place
        seg.gso_type = skb.gso_type & GSO_ENCAP
        return
    st16be(t + place, 0)
    v = csum_fold(skb_do_csum(seg, w.l4, n, acc))
    if v == 0 and w.proto == P_UDP:
        v = 0xFFFF
    st16be(t + place, v)
    seg.ip_summed = SUM_NONE


cdef void drop_all(list segs) noexcept:
    cdef sk_buff seg
    for seg in segs:
        skb_free(seg)


cdef void gso_tstamp(list segs, sk_buff skb, layout *w, uint32_t mss) noexcept:
    """tcp_gso_tstamp: only the segment with byte `tskey` asks for a time stamp; of UDP the first.

    `segs` are copies of `skb`, and so all ask.
    """
    cdef uint32_t seq = 0
    cdef bint found = False
    cdef sk_buff seg
    if w.proto == P_TCP:
        seq = ld32be(skb.head + skb.data + w.l4 + 4)
    for seg in segs:
        if found or w.proto == P_TCP and <int32_t>(skb.tskey - (seq + mss)) >= 0:
            seg.tx_flags = 0
        else:
            found = True
        seq += mss


cdef list cut(sk_buff skb, SkbPool pool, layout *w, bint with_sum, uint32_t share_from):
    """One sk_buff per gso_size bytes; payload from `share_from` bytes on goes by reference."""
    cdef uint32_t total, mss, n, i, last, done = 0, room
    cdef list segs = []
    cdef sk_buff seg
    total = skb.len - w.pay
    mss = <uint32_t>skb.gso_size
    if mss + w.pay - w.outer > 0xFFFF:
        malformed(f"a segment of gso_size {mss} exceeds 65535 bytes")
    if pool.p == NULL or w.pay + skb.data > pool.p.buf_bytes:
        malformed("the headers do not fit a buffer of the pool")
    room = pool.p.buf_bytes - skb.data - w.pay
    last = (total - 1) // mss if total else 0
    for i in range(last + 1):
        n = total - done if total - done < mss else mss
        seg = skb_new(pool.p, skb.data)
        if seg is None:
            drop_all(segs)
            raise MemoryError("skb_gso_segment: the pool is exhausted")
        segs.append(seg)
        # headers, and what was pulled in front of them
        memcpy(seg.head, skb.head, skb.data + w.pay)
        seg.tail += w.pay
        seg.len += w.pay
        if n > room or n >= share_from:
            if n and skb_do_share(seg, skb, w.pay + done, n) < 0:
                drop_all(segs)
                raise MemoryError("skb_gso_segment: no memory for the fragment array")
            seg.truesize += n
        else:
            skb_do_copy(skb, w.pay + done, seg.head + seg.tail, n)
            seg.tail += n
            seg.len += n
        skb_copy_fields(seg, skb)
        seg.parsed = 0          # that was of the whole
        seg.sk = skb.sk
        seg.gso_size = seg.gso_segs = seg.gso_type = 0
        fix_headers(seg, skb, w, i, last, done, with_sum)
        done += n
    if skb.tx_flags:
        gso_tstamp(segs, skb, w, mss)
    return segs


cpdef list skb_gso_segment(sk_buff skb, SkbPool pool, bint csum_partial=False):
    """Cut `skb` (data at the MAC header, network/transport header set, gso_size > 0) into frames.

    Borrows skb: the caller still frees it. Lengths, IP ids, checksums, sequence numbers and flags
    (PSH, FIN, and CWR without SKB_GSO_TCP_ACCECN) are per segment; `csum_partial` leaves
    CHECKSUM_PARTIAL for a NIC. Segments keep protocol, dev, dst, priority, mark, vlan_*,
    queue_mapping, and skb.sk without destructor (accounting stays with the super-packet). One of
    them keeps tx_flags: the one with TCP's byte `tskey`, of UDP the first. IPv4 and IPv6, TCP and
    UDP_L4.

    In a tunnel (SKB_GSO_ENCAP) network_header is the one outside, csum_start the transport header
    inside. Each segment gets the headers of the tunnel too: VXLAN, Geneve, GRE, IP in IP.

    Raises ValueError for a malformed packet; MemoryError when `pool` runs dry (nothing leaks).
    """
    need(skb)
    need(pool)
    cdef layout w
    read_layout(skb, &w)
    return cut(skb, pool, &w, not csum_partial, SKB_UNSET)


cpdef bint skb_gso_validate_network_len(sk_buff skb, uint32_t mtu) except -1:
    """True when every segment fits `mtu`. The data begins at or before the network header."""
    cdef layout w
    need(skb)
    read_layout(skb, &w)
    return w.pay - w.outer + skb.gso_size <= mtu


cdef bint is_frame(skb_frag *f, const uint8_t *net, layout *w) noexcept:
    """The bytes in front of a fragment are the headers that its datagram was received with."""
    cdef uint32_t hlen = w.pay - w.net
    cdef const uint8_t *p
    if f.buf.refs != 1 or f.off < hlen:
        return False
    p = f.buf.ptr + f.off - hlen
    if w.v6:
        if p[0] >> 4 != 6 or memcmp(p + 8, net + 8, 32) or ld16be(p + 4) != f.len + 8:
            return False
    elif p[0] != net[0] or memcmp(p + 12, net + 12, 8) or ld16be(p + 2) != hlen + f.len:
        return False
    p += w.l4 - w.net
    return memcmp(p, net + w.l4 - w.net, 4) == 0 and ld16be(p + 4) == f.len + 8


cdef list frames(sk_buff skb, layout *w):
    """The received frames that a merged sk_buff is made of, in their own buffers; skb is the first.

    data at the network header. None, and nothing done, when it was made in another way.
    """
    cdef const uint8_t *net = skb.head + skb.network_header
    cdef uint32_t mss = <uint32_t>skb.gso_size
    cdef uint32_t i, hlen = w.pay - w.net, count = skb.nr_frags
    cdef skb_frag *f
    cdef sk_buff one
    cdef list out
    if (w.net or skb.users != 1 or skb.list_ != NULL or skb.destructor is not None
            or skb.hbuf.refs != 1 or skb_core_headlen(skb_c(skb)) != w.pay + mss):
        return None
    for i in range(count):
        f = &skb.frags[i]
        if f.len > mss or f.len != mss and i != count - 1 or not is_frame(f, net, w):
            return None
    out = [skb]
    for i in range(count):
        f = &skb.frags[i]
        f.buf.refs += 1
        one = skb_build(f.buf, f.off - hlen)
        one.tail += hlen + f.len
        one.len = hlen + f.len
        skb_copy_fields(one, skb)
        one.network_header = one.data
        one.transport_header = one.data + w.l4
        one.mac_header = SKB_UNSET
        if skb.mac_header != SKB_UNSET and one.data >= 14:
            one.mac_header = one.data - 14
        one.gso_size = one.gso_segs = one.gso_type = 0
        out.append(one)
    skb_do_trim(skb, w.pay + mss)
    skb.truesize = skb.hbuf.size + SKB_OVERHEAD
    fix_headers(skb, skb, w, 0, count, 0, True)
    skb.gso_size = skb.gso_segs = skb.gso_type = 0
    return out


cdef list unmerge(sk_buff skb, SkbPool pool, bint at_udp):
    """udp_rcv_segment and gro_unmerge; takes ownership of skb."""
    cdef layout w
    cdef list segs
    cdef sk_buff seg
    cdef uint32_t back = 0
    cdef bint kept = False
    try:
        skb_check(skb)
        if not 0 <= skb.network_header <= skb.data:
            malformed("network header lies outside the packet")
        if not skb.gso_type & GSO_UDP_L4 or skb.gso_type & GSO_ENCAP:
            malformed(f"gso_type {skb.gso_type:#x} is not UDP")
        back = skb.data - skb.network_header
        skb.data -= back
        skb.len += back
        read_layout(skb, &w)
        segs = frames(skb, &w)
        if segs is not None:
            kept = True
        else:
            segs = cut(skb, pool, &w, True, SHARE_BYTES)
        for seg in segs:
            if at_udp:
                seg.data += w.l4
                seg.len -= w.l4
            seg.ip_summed = SUM_UNNECESSARY
            seg.csum_valid = True
            seg.sk = None
        return segs
    finally:
        if not kept:
            if skb.users > 1:       # somebody else looks at it: as it came
                skb.data += back
                skb.len -= back
            skb_free(skb)


cpdef list udp_rcv_segment(sk_buff skb, SkbPool pool):
    """Split a UDP GRO sk_buff (data at the UDP header) into datagrams, larger ones by reference.

    Takes ownership of skb (freed, also on error). Each datagram has data at its own UDP header, the
    headers in front of it as they were on the wire, and counts as verified.

    Raises ValueError for a malformed packet; MemoryError when `pool` runs dry (nothing leaks).
    """
    need(skb)
    need(pool)
    return unmerge(skb, pool, True)


cpdef list gro_unmerge(sk_buff skb, SkbPool pool):
    """`udp_rcv_segment` for data at (or behind) the network header: the packets as they came.

    data of each is at its network header. Taps, hooks, raw sockets and forwarding need single
    packets.
    """
    need(skb)
    need(pool)
    return unmerge(skb, pool, False)
