# cython: language_level=3, embedsignature=True
"""Generic receive offload (net/core/gro.c, net/ipv4/tcp_offload.c, udp_offload.c).

A frame is merged when it is plain, its checksum is right, and it continues a held packet. Plain is
TCP with ACK and at most PSH, ECE and AE, or UDP, without IP options, fragments or IPv6 extension
headers. A frame continues a packet with the same Ethernet header, addresses, ports, TTL and TOS (or
hop limit, traffic class and flow label), ACK, window and option bytes. Its sequence number is the
next one, and IP ids count up (or are fixed, with DF). So cutting a merged packet by gso_size gives
the frames back (gso_type says which ids). Anything else of a held flow sends the held packet up
first, then follows it; for Linux another flow label is another flow, which may overtake. Datagrams
are merged only when their frame had neither tag nor padding (IP counts padding too) and was for
this host alone. None overtakes another, of whatever flow: a socket may read what several senders
send. An IPv6 payload length above 65535 is stored as 0, as IPv4's total length.
"""

cimport cython
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memmove

from fastpath.base.bytes cimport ld16be, ld32be, st16be
from fastpath.base.csum cimport csum_fold, csum_ptr, csum_ptr_ipv6, csum_tcpudp_nofold
from fastpath.net.parse cimport IP_SUM, L4, PLAIN, headers, headers_parse, headers_store, parsed
from fastpath.base.skbuff cimport (
    GSO_TCPV4, GSO_TCPV6, GSO_TCP_FIXEDID, GSO_UDP_L4, SKB_OVERHEAD, SUM_PARTIAL, SUM_UNNECESSARY,
    PyTypeObject, need, sk_buff, skb_buf, skb_c, skb_check, skb_core_headlen, skb_do_add_frag,
    skb_do_csum, skb_do_share, skb_do_trim, skb_free, skb_visit, visit_fn,
)

GRO_MERGED = 0
GRO_HELD = 2
GRO_NORMAL = 3

cdef enum:
    ETH_IP = 0x0800
    ETH_IPV6 = 0x86DD
    P_TCP = 6
    P_UDP = 17
    F_PSH = 0x08
    F_ACK = 0x10
    F_ECE = 0x40
    UDP_MAX_FRAMES = 128
    MAX_TOTAL = 0x7FFFFFFF
    MAX_FLOWS = 4096


cdef inline bint parse(const uint8_t *p, uint32_t linear, uint32_t length, uint32_t proto,
                       gro_info *g) noexcept:
    """Read the headers at `p` (`linear` bytes there, `length` in all). False: no flow of ours.

    What was seen is in g.h in either case.
    """
    cdef const uint8_t *t
    cdef headers *h = &g.h
    g.plain = 0
    if not headers_parse(p, linear, length, proto, False, h):
        return False
    if not h.seen & PLAIN or not h.seen & L4:
        return False
    g.v6 = h.v6
    g.proto = h.proto
    g.total = h.total
    g.l4 = h.l4
    t = p + h.l4
    if g.v6:
        g.df = 1
        g.ipid = 0
        g.hash = (ld32be(p + 8) ^ ld32be(p + 12) ^ ld32be(p + 16) ^ ld32be(p + 20)) * 0x9E3779B1U \
            ^ ld32be(p + 24) ^ ld32be(p + 28) ^ ld32be(p + 32) ^ ld32be(p + 36)
    else:
        g.df = p[6] >> 6 & 1
        g.ipid = ld16be(p + 4)
        g.hash = ld32be(p + 12) * 0x9E3779B1U ^ ld32be(p + 16)
    g.hash = (g.hash ^ ld32be(t)) * 0x85EBCA6BU
    g.pay = g.l4 + h.l4_hlen
    g.plen = g.total - g.pay
    if g.proto == P_TCP:
        g.seq = h.seq
        g.ack = h.ack
        g.psh = h.flags & F_PSH
        g.wflags = ld32be(t + 12) & 0xFFF7FFFFU
        g.plain = g.plen != 0 and (h.flags & ~(F_PSH | F_ECE)) == F_ACK and t[12] & 0x0E == 0
        return True
    if ld16be(t + 4) != g.total - g.l4:
        return False
    g.seq = g.ack = 0
    g.psh = 0
    g.wflags = ld16be(t + 6) != 0
    g.plain = g.plen != 0
    return True


cdef inline bint headers_equal(const uint8_t *a, const uint8_t *b, gro_info *g) noexcept:
    """The part of two frames' headers that never changes inside a flow (a, b: network headers)."""
    if g.mac and memcmp(a - 14, b - 14, 14) != 0:
        return False
    if memcmp(a + g.l4, b + g.l4, 4) != 0:      # ports
        return False
    if g.v6:
        return memcmp(a + 8, b + 8, 32) == 0
    return memcmp(a + 12, b + 12, 8) == 0


cdef inline bint continues(gro_flow *f, const uint8_t *a, const uint8_t *b, gro_info *g) noexcept:
    """The frame at `b` is the next piece of held `a` and would be given back by segmentation."""
    if g.plen > f.mss or g.wflags != f.wflags or g.ack != f.ack or g.pay != f.pay:
        return False
    if g.v6:
        if memcmp(a, b, 4) != 0 or a[7] != b[7]:
            return False
    else:
        if a[1] != b[1] or a[8] != b[8] or a[6] != b[6]:
            return False
        if f.id_mode != 2 and g.ipid == <uint16_t>(f.ipid + f.count):
            pass
        elif f.id_mode != 1 and g.df and g.ipid == <uint16_t>f.ipid:
            pass
        else:
            return False
    if g.proto == P_TCP:
        if g.seq != f.next_seq:
            return False
        if g.pay > g.l4 + 20 and memcmp(a + g.l4 + 20, b + g.l4 + 20, g.pay - g.l4 - 20) != 0:
            return False
    return True


cdef inline bint l4_sum_ok(const uint8_t *p, gro_info *g, uint32_t body) noexcept:
    """`body`: unfolded sum of the transport header and payload."""
    cdef uint32_t n = g.total - g.l4
    if g.proto == P_UDP and not g.wflags:
        return g.v6 == 0            # UDP without checksum: allowed in IPv4 only
    if g.v6:
        return csum_fold(csum_ptr_ipv6(p + 8, p + 24, n, g.proto, body)) == 0
    return csum_fold(csum_tcpudp_nofold(ld32be(p + 12), ld32be(p + 16), n, g.proto, body)) == 0


cdef inline bint intact(gro_flow *f) noexcept:
    """Whether the held packet is unchanged (Python may have a reference to it)."""
    cdef sk_buff skb = <sk_buff>f.skb
    return skb.hbuf == f.hbuf and skb.len == f.len and skb.tail == f.tail and skb.users == 1


cdef inline void joined(gro_flow *f, const uint8_t *l3, gro_info *g) noexcept:
    """Bookkeeping after the payload of a frame was appended to a held packet."""
    cdef sk_buff skb = <sk_buff>f.skb
    cdef uint8_t *held = skb.head + f.l3
    if not g.v6:
        if f.count == 1:
            f.id_mode = 1 if g.ipid == <uint16_t>(f.ipid + 1) else 2
    if g.psh:
        held[f.l4 + 13] |= F_PSH
    f.count += 1
    f.next_seq += g.plen
    f.len = skb.len


cdef void complete(gro_flow *f) noexcept:
    """Fix up the headers of a packet that stands for several frames (inet_gro_complete)."""
    cdef sk_buff skb = <sk_buff>f.skb
    cdef uint8_t *p
    cdef uint32_t total, n
    cdef uint32_t pseudo
    if not intact(f):
        return
    skb.network_header = f.l3
    skb.transport_header = f.l3 + f.l4
    if f.count == 1:
        return
    skb.parsed = 0              # of the first frame
    p = skb.head + f.l3
    total = skb.len + skb.data - f.l3
    n = total - f.l4
    skb.gso_size = f.mss
    skb.gso_segs = f.count
    if f.v6:
        st16be(p + 4, <uint16_t>(total - 40) if total - 40 <= 0xFFFF else 0)
        pseudo = csum_ptr_ipv6(p + 8, p + 24, n, f.proto, 0)
    else:
        st16be(p + 2, <uint16_t>total if total <= 0xFFFF else 0)
        st16be(p + 10, 0)
        st16be(p + 10, csum_fold(csum_ptr(p, 20, 0)))
        pseudo = csum_tcpudp_nofold(ld32be(p + 12), ld32be(p + 16), n, f.proto, 0)
    if parsed(skb) and not f.v6:
        skb.parsed |= IP_SUM
    p += f.l4
    skb.ip_summed = SUM_PARTIAL
    skb.csum_start = f.l3 + f.l4
    if f.proto == P_TCP:
        skb.gso_type = GSO_TCPV6 if f.v6 else GSO_TCPV4
        if f.id_mode == 2 and not f.v6:
            skb.gso_type |= GSO_TCP_FIXEDID
        skb.csum_offset = 16
        st16be(p + 16, <uint16_t>~csum_fold(pseudo))
    else:
        skb.gso_type = GSO_UDP_L4
        if f.id_mode == 2 and not f.v6:
            skb.gso_type |= GSO_TCP_FIXEDID
        st16be(p + 4, <uint16_t>n)
        skb.csum_offset = 6
        if f.wflags:
            st16be(p + 6, <uint16_t>~csum_fold(pseudo))
        else:
            skb.ip_summed = SUM_UNNECESSARY


@cython.final
cdef class GroTable:
    """Held packets of up to `max_flows` flows. One per NAPI context."""

    def __cinit__(self, max_bytes=524288, *, int max_flows=32, bint tcp=True, bint udp=True):
        if not 1 <= max_flows <= MAX_FLOWS:
            raise ValueError(f"GroTable: max_flows={max_flows}: must be 1 … {MAX_FLOWS}")
        self.flows = <gro_flow *>PyMem_Calloc(max_flows, sizeof(gro_flow))
        if self.flows == NULL:
            raise MemoryError("GroTable: no memory for the flow table")
        self.cap = max_flows
        self.max_bytes = max_bytes
        self.tcp = tcp
        self.udp = udp

    def __dealloc__(self):
        self.reset()
        PyMem_Free(self.flows)

    @property
    def held(self):
        """Packets held now."""
        return self.n

    def __repr__(self):
        return f"<GroTable held={self.n} merged={self.merged} max_bytes={self.max_bytes}>"

    cdef int take_out(self, int i, list out) except -1:
        """Complete flow `i` and append it to `out`."""
        cdef sk_buff skb = <sk_buff>self.flows[i].skb
        complete(&self.flows[i])
        self.n -= 1
        if self.flows[i].proto == P_UDP:
            self.nudp -= 1
        if i < self.n:
            memmove(&self.flows[i], &self.flows[i + 1], sizeof(gro_flow) * (self.n - i))
        self.flushed += 1
        Py_DECREF(skb)
        if skb.users:
            out.append(skb)
        return 0

    cdef int flush_udp(self, list out) except -1:
        """Take out held datagrams: one comes that does not continue them, or perhaps a fragment."""
        cdef int i = 0
        while i < self.n:
            if self.flows[i].proto == P_UDP:
                self.take_out(i, out)
            else:
                i += 1
        return 0

    cdef inline int find(self, const uint8_t *l3, gro_info *g) noexcept:
        cdef int i
        cdef gro_flow *f
        for i in range(self.n):
            f = &self.flows[i]
            if f.hash == g.hash and f.proto == g.proto and f.v6 == g.v6 \
                    and f.vlan == g.vlan and f.mac == g.mac:
                if not intact(f):
                    continue
                if headers_equal((<sk_buff>f.skb).head + f.l3, l3, g):
                    return i
        return -1

    cdef inline bint wanted(self, gro_info *g) noexcept:
        return self.tcp if g.proto == P_TCP else self.udp

    cdef inline bint fits(self, gro_flow *f, gro_info *g) noexcept:
        cdef sk_buff skb = <sk_buff>f.skb
        cdef uint32_t l3len = skb.len + skb.data - f.l3
        if g.proto == P_UDP and (f.count >= UDP_MAX_FRAMES or l3len + g.plen > 0xFFFF):
            return False
        return g.plen <= MAX_TOTAL - skb.len and l3len + g.plen <= self.max_bytes

    cdef inline bint runs_on(self, gro_flow *f, const uint8_t *b, uint32_t linear, uint32_t vlan,
                             bint ip_ok, gro_info *g) noexcept:
        """The frame at `b`, its transport checksum right, is as long as those before it in `f` and
        has the headers that the next one has. It compares, without parsing. Fills in what `joined`
        asks for. False says nothing.
        """
        cdef const uint8_t *a
        cdef const uint8_t *t
        cdef uint32_t id
        if linear != f.pay + f.mss or vlan != f.vlan or not f.mac or not intact(f):
            return False
        a = (<sk_buff>f.skb).head + f.l3
        t = b + f.l4
        g.v6 = f.v6
        g.plen = f.mss
        g.psh = 0
        if f.v6:
            # Ethernet, then all of IPv6
            if memcmp(a - 14, b - 14, 54) != 0:
                return False
        else:
            id = ld16be(b + 4)
            if (not ip_ok or memcmp(a - 14, b - 14, 18) != 0 or memcmp(a + 6, b + 6, 4) != 0
                    or memcmp(a + 12, b + 12, 8) != 0):
                return False
            if not (f.id_mode != 2 and id == <uint16_t>(f.ipid + f.count)
                    or f.id_mode != 1 and b[6] & 0x40 and id == <uint16_t>f.ipid):
                return False
            g.ipid = <uint16_t>id
        if memcmp(a + f.l4, t, 4) != 0:
            return False
        if f.proto == P_UDP:
            if not self.udp or ld16be(t + 4) != f.mss + 8 or (ld16be(t + 6) != 0) != f.wflags:
                return False
        elif (not self.tcp or ld32be(t + 4) != f.next_seq or ld32be(t + 8) != f.ack
                or ld32be(t + 12) != f.wflags
                or f.pay > f.l4 + 20 and memcmp(a + f.l4 + 20, t + 20, f.pay - f.l4 - 20) != 0):
            return False
        g.proto = f.proto
        return self.fits(f, g)

    cdef int frame(self, skb_buf *b, uint32_t off, uint32_t linear, uint32_t proto, uint32_t vlan,
                   bint ip_ok, bint *l4_ok, gro_info *g, list out) except -1:
        cdef const uint8_t *l3 = b.ptr + off
        cdef gro_flow *f
        cdef sk_buff skb
        cdef int i
        if l4_ok[0] and self.last < self.n:
            f = &self.flows[self.last]
            skb = <sk_buff>f.skb
            if (self.runs_on(f, l3, linear, vlan, ip_ok, g)
                    and skb_do_add_frag(skb, b, off + f.pay, f.mss) == 0):
                skb.truesize += b.size
                joined(f, l3, g)
                self.merged += 1
                return MERGED
        if not parse(l3, linear, linear, proto, g):
            if self.nudp:
                self.flush_udp(out)
            return NORMAL
        if not self.wanted(g):
            return NORMAL
        g.vlan = vlan
        g.mac = 1
        if g.proto == P_UDP and (vlan or (l3 - 14)[0] & 1 or g.total != linear):
            g.plain = 0
        i = self.find(l3, g)
        if not g.v6:
            if not ip_ok and csum_fold(csum_ptr(l3, 20, 0)) != 0:
                self.bad_csum += 1
                return NORMAL
            g.h.seen |= IP_SUM
        if g.plain and not l4_ok[0]:
            if not l4_sum_ok(l3, g, csum_ptr(l3 + g.l4, g.total - g.l4, 0)):
                self.bad_csum += 1
                return NORMAL
            l4_ok[0] = True
        if i >= 0:
            f = &self.flows[i]
            skb = <sk_buff>f.skb
            if g.plain and continues(f, skb.head + f.l3, l3, g) and self.fits(f, g) \
                    and skb_do_add_frag(skb, b, off + g.pay, g.plen) == 0:
                skb.truesize += b.size
                joined(f, l3, g)
                self.merged += 1
                self.last = i
                if g.psh or g.plen < f.mss:
                    self.take_out(i, out)
                return MERGED
            if g.proto != P_UDP:
                self.take_out(i, out)
        if g.proto == P_UDP and self.nudp:
            self.flush_udp(out)
        if not g.plain or g.psh:
            return NORMAL
        return HELD

    cdef int hold(self, sk_buff skb, uint32_t l3, gro_info *g, list out) except -1:
        """Keep `skb` (one reference taken) whose network header is `l3` bytes from head."""
        cdef gro_flow *f
        if skb.len > g.total + (l3 - skb.data):     # Ethernet padding
            skb_do_trim(skb, g.total + (l3 - skb.data))
        if self.n == self.cap:
            self.take_out(0, out)
        f = &self.flows[self.n]
        self.last = self.n
        self.n += 1
        Py_INCREF(skb)
        f.skb = <PyObject *>skb
        f.hbuf = skb.hbuf
        f.l3 = l3
        f.tail = skb.tail
        f.len = skb.len
        f.next_seq = g.seq + g.plen
        f.mss = g.plen
        f.count = 1
        f.hash = g.hash
        f.ipid = g.ipid
        f.id_mode = 0
        f.l4 = g.l4
        f.pay = g.pay
        f.ack = g.ack
        f.wflags = g.wflags
        f.vlan = g.vlan
        f.v6 = g.v6
        f.proto = g.proto
        f.mac = g.mac
        if g.proto == P_UDP:
            self.nudp += 1
        return 0

    cdef int take(self, sk_buff skb, uint32_t skip, uint32_t proto, list out) except -1:
        """receive() of a sk_buff whose network header is `skip` bytes after data."""
        cdef gro_info g
        cdef gro_flow *f
        cdef sk_buff held
        cdef const uint8_t *l3
        cdef uint32_t l3off
        cdef int i
        l3off = skb.data + skip
        l3 = skb.head + l3off
        if (skb_core_headlen(skb_c(skb)) < skip
                or not parse(l3, skb_core_headlen(skb_c(skb)) - skip, skb.len - skip, proto, &g)):
            if self.nudp:
                self.flush_udp(out)
            out.append(skb)
            return NORMAL
        if not self.wanted(&g):
            out.append(skb)
            return NORMAL
        if skb.gso_size or skb.users > 1 or skb.hbuf.refs > 1 or skb.list_ != NULL:
            g.plain = 0
        g.mac = l3off >= 14 and skb.mac_header == l3off - 14
        g.vlan = skb.vlan_proto << 16 | (skb.vlan_tci & 0xFFFFU)
        if g.proto == P_UDP and (
                g.vlan or g.mac and (l3 - 14)[0] & 1 or g.total != skb.len - skip):
            g.plain = 0
        i = self.find(l3, &g)
        if i >= 0 and (<sk_buff>self.flows[i].skb).dev is not skb.dev:
            i = -1
            g.plain = 0
        if not g.v6:
            if csum_fold(csum_ptr(l3, 20, 0)) != 0:
                self.bad_csum += 1
                out.append(skb)
                return NORMAL
            g.h.seen |= IP_SUM
        if skb.gso_size == 0:
            headers_store(skb, l3off, &g.h)
        if g.plain and skb.ip_summed != SUM_UNNECESSARY and skb.ip_summed != SUM_PARTIAL:
            if not l4_sum_ok(l3, &g, skb_do_csum(skb, skip + g.l4, g.total - g.l4, 0)):
                self.bad_csum += 1
                out.append(skb)
                return NORMAL
            skb.ip_summed = SUM_UNNECESSARY
        if i >= 0:
            f = &self.flows[i]
            held = <sk_buff>f.skb
            if (held is not skb and g.plain
                    and continues(f, held.head + f.l3, l3, &g) and self.fits(f, &g)
                    and skb_do_share(held, skb, skip + g.pay, g.plen) == 0):
                held.truesize += skb.truesize - SKB_OVERHEAD \
                    if skb.truesize > SKB_OVERHEAD else 0
                joined(f, l3, &g)
                self.merged += 1
                if g.psh or g.plen < f.mss:
                    self.take_out(i, out)
                skb_free(skb)
                return MERGED
            if g.proto != P_UDP:
                self.take_out(i, out)
        if g.proto == P_UDP and self.nudp:
            self.flush_udp(out)
        if not g.plain or g.psh:
            out.append(skb)
            return NORMAL
        self.hold(skb, l3off, &g, out)
        return HELD

    cpdef int64_t receive(self, sk_buff skb, list out) except -1:
        """Takes ownership of skb (data at the network header, mac_header and protocol set).

        Appends to `out`, in order per flow, what is to go up now. Returns GRO_MERGED/HELD/NORMAL.
        """
        need(out)
        skb_check(skb)
        return self.take(skb, 0, skb.protocol, out)

    cpdef int64_t flush(self, list out) except -1:
        """Append everything held to `out`, oldest first; packets appended."""
        cdef int n = self.n
        need(out)
        while self.n:
            self.take_out(0, out)
        return n

    cpdef void reset(self):
        """Free everything held."""
        cdef sk_buff skb
        self.nudp = 0
        while self.n:
            self.n -= 1
            skb = <sk_buff>self.flows[self.n].skb
            Py_DECREF(skb)
            skb_free(skb)


cdef int gro_traverse(PyObject *self, visit_fn visit, void *arg) noexcept:
    """The collector's view: what the held packets refer to."""
    cdef GroTable table = <GroTable>self
    cdef int i, r
    for i in range(table.n):
        r = skb_visit(table.flows[i].skb, visit, arg)
        if r:
            return r
    return 0


cdef int gro_clear(PyObject *self) noexcept:
    (<GroTable>self).reset()
    return 0


(<PyTypeObject *>GroTable).tp_traverse = gro_traverse
(<PyTypeObject *>GroTable).tp_clear = gro_clear
