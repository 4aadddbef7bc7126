# cython: language_level=3, embedsignature=True
"""Header views and fast header writers over sk_buffs (linux/ip.h, tcp.h, udp.h, …).

A view holds its sk_buff and the offset of the header from ``head``. Each access checks that the
whole fixed header lies in the linear data, so a view whose sk_buff was freed, trimmed or
reallocated raises IndexError. Integers are in host order, a MAC address is `bytes` of 6, one of
IPv6 an int of 128 bits; a setter keeps the low bits that fit. The members are rows of ``headers``:
each class gets a descriptor of each row (`add_members`), whose getter and setter are those of the
member's size and are given the row.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.long cimport PyLong_AsUnsignedLongLongMask
from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc
from libc.string cimport memcmp, memcpy

from fastpath.base.bytes cimport ld16be, ld32be, st16be, st32be
from fastpath.base.csum cimport (
    csum_fold, csum_ptr, csum_ptr_ipv6, csum_replace2, csum_tcpudp_nofold,
)
from fastpath.net.parse cimport IP_SUM, L3, OPTS_NONE, OPTS_OTHER, OPTS_TS, parsed, parsed_l4
from fastpath.base.skbuff cimport (
    GSO_UDP_L4, SKB_UNSET, SUM_NONE, SUM_PARTIAL, need, sk_buff, skb_c, skb_check, skb_core_headlen,
    skb_do_csum, skb_do_may_pull, skb_do_pull, skb_do_push, skb_do_put, skb_do_trim,
)

from fastpath.net.headers import HEADERS as _HEADERS

cdef extern from *:
    ctypedef object (*getter)(object, void *)
    ctypedef int (*setter)(object, PyObject *, void *) except -1
    ctypedef struct PyGetSetDef:
        const char *name
        getter get
        setter set
        void *closure
    object PyDescr_NewGetSet(PyTypeObject *kind, PyGetSetDef *offered)
    void PyType_Modified(PyTypeObject *kind)
    const char *PyUnicode_AsUTF8(object text) except NULL

cdef extern from "addr128.h":
    object addr128_get(const uint8_t *p)
    int addr128_put(uint8_t *p, object v) except -1

ETH_HLEN = 14
TCP_FLAG_FIN = 0x01
TCP_FLAG_SYN = 0x02
TCP_FLAG_RST = 0x04
TCP_FLAG_PSH = 0x08
TCP_FLAG_ACK = 0x10
TCP_FLAG_URG = 0x20
TCP_FLAG_ECE = 0x40
TCP_FLAG_CWR = 0x80

cdef enum:
    P_TCP = 6
    P_UDP = 17
    ETH_IP = 0x0800
    ETH_8023_MIN = 0x0600


cdef uint8_t *view_error(sk_buff skb, uint32_t off, uint32_t n) except NULL:
    if skb is None or skb.users == 0:
        raise IndexError("header view: the sk_buff was freed")
    if off == SKB_UNSET:
        raise IndexError("header view: this header's offset was never set")
    raise IndexError(f"header view: bytes {off} … {off + n} from head lie outside the linear data "
                     f"(which ends at {skb.tail})")


cdef inline uint8_t *ptr_at(sk_buff skb, uint32_t off, uint32_t n) except NULL:
    if n <= skb.tail and off <= skb.tail - n:
        return skb.head + off
    return view_error(skb, off, n)


cdef uint8_t *hdr_ptr(sk_buff skb, uint32_t off, uint32_t n) except NULL:
    return ptr_at(skb, off, n)


cdef inline uint8_t *put_at(sk_buff skb, uint32_t off, uint32_t n) except NULL:
    """ptr_at for writing: what was parsed is no longer so."""
    cdef uint8_t *p = ptr_at(skb, off, n)
    skb.parsed = 0
    return p


cdef inline int mac_check(bytes value) except -1:
    if PyBytes_GET_SIZE(value) != 6:
        raise ValueError(f"a MAC address has 6 bytes, not {len(value)}")
    return 0


# -- members of views ------------------------------------------------------------------------------
cdef struct member:             # a row of fastpath.net.headers, as the functions below are given it
    PyGetSetDef offered         # to Python: its name and these functions
    uint32_t header             # bytes of the whole header
    uint32_t at
    uint32_t size
    uint32_t shift
    uint32_t mask               # of `size` up to 4


cdef inline uint8_t *member_at(header view, const member *m) except NULL:
    if m.header <= view.skb.tail and view.off <= view.skb.tail - m.header:
        return view.skb.head + view.off + m.at
    return view_error(view.skb, view.off, m.header)


cdef object get8(header view, const member *m):
    return member_at(view, m)[0] >> m.shift & m.mask


cdef object get16(header view, const member *m):
    return ld16be(member_at(view, m)) >> m.shift & m.mask


cdef object get32(header view, const member *m):
    return ld32be(member_at(view, m)) >> m.shift & m.mask


cdef object get_mac(header view, const member *m):
    return PyBytes_FromStringAndSize(<const char *>member_at(view, m), 6)


cdef object get_addr(header view, const member *m):
    return addr128_get(member_at(view, m))


cdef inline uint8_t *write_at(header view, PyObject *value, const member *m) except NULL:
    """member_at for writing: what was parsed is no longer so."""
    cdef uint8_t *p = member_at(view, m)
    view.skb.parsed = 0
    if value is NULL:
        raise NotImplementedError("__del__")
    return p


cdef inline uint32_t bits_of(PyObject *value, const member *m) except? 0xFFFFFFFF:
    """What goes into the word. It is asked before `write_at`, for an __index__ may free the skb."""
    if value is NULL:
        return 0
    return (<uint32_t>PyLong_AsUnsignedLongLongMask(<object>value) & m.mask) << m.shift


cdef int set8(header view, PyObject *value, const member *m) except -1:
    cdef uint32_t bits = bits_of(value, m)
    cdef uint8_t *p = write_at(view, value, m)
    p[0] = <uint8_t>(p[0] & ~(m.mask << m.shift) | bits)
    return 0


cdef int set16(header view, PyObject *value, const member *m) except -1:
    cdef uint32_t bits = bits_of(value, m)
    cdef uint8_t *p = write_at(view, value, m)
    st16be(p, <uint16_t>(ld16be(p) & ~(m.mask << m.shift) | bits))
    return 0


cdef int set32(header view, PyObject *value, const member *m) except -1:
    cdef uint32_t bits = bits_of(value, m)
    cdef uint8_t *p = write_at(view, value, m)
    st32be(p, ld32be(p) & ~(m.mask << m.shift) | bits)
    return 0


cdef int set_mac(header view, PyObject *value, const member *m) except -1:
    cdef uint8_t *p = write_at(view, value, m)
    mac_check(<bytes?>value)
    memcpy(p, PyBytes_AS_STRING(<bytes>value), 6)
    return 0


cdef int set_addr(header view, PyObject *value, const member *m) except -1:
    return addr128_put(write_at(view, value, m), <object>value)


cdef int add_members(tuple views) except -1:
    """Give each class of views a descriptor for each member of its header."""
    cdef PyTypeObject *kind
    cdef member *m
    for view in views:
        kind = <PyTypeObject *>view
        size, members = _HEADERS[view.__name__]
        m = <member *>calloc(len(members), sizeof(member))      # kept for ever, as the class is
        if m is NULL:
            raise MemoryError
        for name, row in members.items():
            m.at, m.size, m.shift, bits = row
            m.header = size
            m.mask = <uint32_t>((<uint64_t>1 << bits) - 1) if bits <= 32 else 0
            m.offered.name = PyUnicode_AsUTF8(name)             # the class's dictionary keeps it
            m.offered.closure = m
            if m.size == 1:
                m.offered.get, m.offered.set = <getter>get8, <setter>set8
            elif m.size == 2:
                m.offered.get, m.offered.set = <getter>get16, <setter>set16
            elif m.size == 4:
                m.offered.get, m.offered.set = <getter>get32, <setter>set32
            elif m.size == 6:
                m.offered.get, m.offered.set = <getter>get_mac, <setter>set_mac
            else:
                m.offered.get, m.offered.set = <getter>get_addr, <setter>set_addr
            (<dict>kind.tp_dict)[name] = PyDescr_NewGetSet(kind, &m.offered)
            m += 1
        PyType_Modified(kind)
    return 0


@cython.no_gc
@cython.freelist(32)
cdef class header:
    """A view of one header in an sk_buff; its members are those that ``headers`` tells of it."""

    def __init__(self, *args, **kwargs):
        raise TypeError("a view is made by a function, such as eth_hdr(skb)")

    def __repr__(self):
        """Every member, or why they cannot be read."""
        names = [n for n in dir(self) if not n.startswith("_")]
        try:
            body = " ".join(f"{n}={getattr(self, n)!r}" for n in names)
        except IndexError as e:
            body = str(e)
        return f"<{type(self).__name__} {body}>"


@cython.final
@cython.no_gc
cdef class ethhdr(header):
    """Ethernet II header."""


@cython.final
@cython.no_gc
cdef class arphdr(header):
    """ARP for Ethernet and IPv4 (RFC 826)."""


@cython.final
@cython.no_gc
cdef class iphdr(header):
    """IPv4 header (RFC 791)."""

    @property
    def options(self):
        """The bytes after the fixed 20, as many as the header's length says."""
        return rest_of(self, 20, (ptr_at(self.skb, self.off, 20)[0] & 0x0F) * 4U)


@cython.final
@cython.no_gc
cdef class ipv6hdr(header):
    """IPv6 header (RFC 8200)."""


@cython.final
@cython.no_gc
cdef class icmphdr(header):
    """ICMP header (RFC 792)."""


@cython.final
@cython.no_gc
cdef class udphdr(header):
    """UDP header (RFC 768)."""


@cython.final
@cython.no_gc
cdef class tcphdr(header):
    """TCP header (RFC 9293 3.1)."""

    @property
    def options(self):
        """The bytes after the fixed 20, as many as the header's length says."""
        return rest_of(self, 20, (ptr_at(self.skb, self.off, 20)[12] >> 4) * 4U)


cdef bytes rest_of(header view, uint32_t fixed, uint32_t length):
    """A header's bytes from `fixed` to `length`; none when it is shorter."""
    if length <= fixed:
        return b""
    return PyBytes_FromStringAndSize(
        <const char *>ptr_at(view.skb, view.off, length) + fixed, length - fixed)


add_members((ethhdr, arphdr, iphdr, ipv6hdr, icmphdr, udphdr, tcphdr))


# -- making views ----------------------------------------------------------------------------------
cdef uint32_t data_at(sk_buff skb, Py_ssize_t off) except? 0xFFFFFFFE:
    skb_check(skb)
    if off < -<Py_ssize_t>skb.data or off > <Py_ssize_t>skb_core_headlen(skb_c(skb)):
        raise IndexError(f"header view: offset {off} lies outside the linear data")
    return <uint32_t>(<Py_ssize_t>skb.data + off)


cpdef ethhdr eth_hdr(sk_buff skb):
    """View of the header at skb.mac_header."""
    need(skb)
    return <ethhdr>view_at(ethhdr.__new__(ethhdr), skb, skb.mac_header)


cpdef arphdr arp_hdr(sk_buff skb):
    """View of the header at skb.network_header."""
    need(skb)
    return <arphdr>view_at(arphdr.__new__(arphdr), skb, skb.network_header)


cpdef iphdr ip_hdr(sk_buff skb):
    """View of the header at skb.network_header."""
    need(skb)
    return <iphdr>view_at(iphdr.__new__(iphdr), skb, skb.network_header)


cpdef ipv6hdr ipv6_hdr(sk_buff skb):
    """View of the header at skb.network_header."""
    need(skb)
    return <ipv6hdr>view_at(ipv6hdr.__new__(ipv6hdr), skb, skb.network_header)


cpdef icmphdr icmp_hdr(sk_buff skb):
    """View of the header at skb.transport_header."""
    need(skb)
    return <icmphdr>view_at(icmphdr.__new__(icmphdr), skb, skb.transport_header)


cpdef udphdr udp_hdr(sk_buff skb):
    """View of the header at skb.transport_header."""
    need(skb)
    return <udphdr>view_at(udphdr.__new__(udphdr), skb, skb.transport_header)


cpdef tcphdr tcp_hdr(sk_buff skb):
    """View of the header at skb.transport_header."""
    need(skb)
    return <tcphdr>view_at(tcphdr.__new__(tcphdr), skb, skb.transport_header)


cpdef iphdr iphdr_at(sk_buff skb, int64_t off):
    """View of a header `off` bytes from skb->data."""
    need(skb)
    return <iphdr>view_at(iphdr.__new__(iphdr), skb, data_at(skb, off))


cpdef ipv6hdr ipv6hdr_at(sk_buff skb, int64_t off):
    """View of a header `off` bytes from skb->data."""
    need(skb)
    return <ipv6hdr>view_at(ipv6hdr.__new__(ipv6hdr), skb, data_at(skb, off))


cpdef icmphdr icmphdr_at(sk_buff skb, int64_t off):
    """View of a header `off` bytes from skb->data."""
    need(skb)
    return <icmphdr>view_at(icmphdr.__new__(icmphdr), skb, data_at(skb, off))


cpdef udphdr udphdr_at(sk_buff skb, int64_t off):
    """View of a header `off` bytes from skb->data."""
    need(skb)
    return <udphdr>view_at(udphdr.__new__(udphdr), skb, data_at(skb, off))


cpdef tcphdr tcphdr_at(sk_buff skb, int64_t off):
    """View of a header `off` bytes from skb->data."""
    need(skb)
    return <tcphdr>view_at(tcphdr.__new__(tcphdr), skb, data_at(skb, off))


# -- writers ---------------------------------------------------------------------------------------
cpdef void eth_header_push(sk_buff skb, bytes daddr, bytes saddr, unsigned int proto) except *:
    """Push the 14-byte Ethernet header; sets mac_header."""
    need(skb)
    need(daddr)
    need(saddr)
    cdef uint8_t *p
    mac_check(daddr)
    mac_check(saddr)
    skb_do_push(skb, 14)
    skb.mac_header = skb.data
    p = skb.head + skb.data
    memcpy(p, PyBytes_AS_STRING(daddr), 6)
    memcpy(p + 6, PyBytes_AS_STRING(saddr), 6)
    st16be(p + 12, <uint16_t>proto)


cpdef void arp_put(sk_buff skb, unsigned int op, bytes sha, uint32_t sip, bytes tha,
                   uint32_t tip) except *:
    """Append a 28-byte ARP packet at the tail; sets network_header."""
    need(skb)
    need(sha)
    need(tha)
    cdef uint8_t *p
    mac_check(sha)
    mac_check(tha)
    skb_do_put(skb, 28)
    skb.network_header = skb.tail - 28
    p = skb.head + skb.network_header
    st16be(p, 1)
    st16be(p + 2, ETH_IP)
    p[4] = 6
    p[5] = 4
    st16be(p + 6, <uint16_t>op)
    memcpy(p + 8, PyBytes_AS_STRING(sha), 6)
    st32be(p + 14, sip)
    memcpy(p + 18, PyBytes_AS_STRING(tha), 6)
    st32be(p + 24, tip)


cdef int options_error(str what, Py_ssize_t n) except -1:
    raise ValueError(f"{what}: options of {n} bytes: must be a multiple of 4, at most 40")


cpdef void ip_push(sk_buff skb, unsigned int tos, unsigned int tot_len, unsigned int id,
                   unsigned int frag_off, unsigned int ttl, unsigned int protocol, uint32_t saddr,
                   uint32_t daddr, bytes options=b"") except *:
    """Push an IPv4 header with its checksum. `options` length must be a multiple of 4, at most 40.

    `tot_len` above 65535 is stored as 0 (super-packet: skb.len is the truth).
    """
    need(skb)
    need(options)
    cdef Py_ssize_t n = PyBytes_GET_SIZE(options)
    cdef uint32_t hlen
    cdef uint8_t *p
    if n & 3 or n > 40:
        options_error("ip_push", n)
    hlen = 20 + <uint32_t>n
    skb_do_push(skb, hlen)
    skb.network_header = skb.data
    p = skb.head + skb.data
    p[0] = <uint8_t>(0x40 | hlen >> 2)
    p[1] = <uint8_t>tos
    st16be(p + 2, <uint16_t>tot_len if tot_len <= 0xFFFF else 0)
    st16be(p + 4, <uint16_t>id)
    st16be(p + 6, <uint16_t>frag_off)
    p[8] = <uint8_t>ttl
    p[9] = <uint8_t>protocol
    st16be(p + 10, 0)
    st32be(p + 12, saddr)
    st32be(p + 16, daddr)
    if n:
        memcpy(p + 20, PyBytes_AS_STRING(options), n)
    st16be(p + 10, csum_fold(csum_ptr(p, hlen, 0)))


cpdef void ipv6_push(sk_buff skb, unsigned int tclass, unsigned int flow_lbl,
                     unsigned int payload_len, unsigned int nexthdr, unsigned int hop_limit, saddr,
                     daddr) except *:
    """Push an IPv6 header; `payload_len` above 65535 is stored as 0; addresses are 128-bit ints."""
    need(skb)
    cdef uint8_t *p
    skb_do_push(skb, 40)
    skb.network_header = skb.data
    p = skb.head + skb.data
    st32be(p, 0x60000000U | (tclass & 0xFFU) << 20 | (flow_lbl & 0xFFFFFU))
    st16be(p + 4, <uint16_t>payload_len if payload_len <= 0xFFFF else 0)
    p[6] = <uint8_t>nexthdr
    p[7] = <uint8_t>hop_limit
    addr128_put(p + 8, saddr)
    addr128_put(p + 24, daddr)


cpdef void udp_push(sk_buff skb, unsigned int sport, unsigned int dport, unsigned int length,
                    unsigned int check) except *:
    """Push the 8-byte header; sets transport_header. `length` above 65535 is stored as 0."""
    need(skb)
    cdef uint8_t *p
    skb_do_push(skb, 8)
    skb.transport_header = skb.data
    p = skb.head + skb.data
    st16be(p, <uint16_t>sport)
    st16be(p + 2, <uint16_t>dport)
    st16be(p + 4, <uint16_t>length if length <= 0xFFFF else 0)
    st16be(p + 6, <uint16_t>check)


cdef inline uint8_t *push_tcp(sk_buff skb, uint32_t optlen, uint32_t sport, uint32_t dport,
                              uint32_t seq, uint32_t ack, uint32_t flags, uint32_t window,
                              uint32_t urg_ptr) except NULL:
    cdef uint8_t *p
    skb_do_push(skb, 20 + optlen)
    skb.transport_header = skb.data
    p = skb.head + skb.data
    st16be(p, <uint16_t>sport)
    st16be(p + 2, <uint16_t>dport)
    st32be(p + 4, seq)
    st32be(p + 8, ack)
    p[12] = <uint8_t>((20 + optlen) << 2 | (flags >> 8 & 1))
    p[13] = <uint8_t>flags
    st16be(p + 14, <uint16_t>window)
    st16be(p + 16, 0)
    st16be(p + 18, <uint16_t>urg_ptr)
    return p + 20


cpdef void tcp_push(sk_buff skb, unsigned int sport, unsigned int dport, uint32_t seq, uint32_t ack,
                    unsigned int flags, unsigned int window, unsigned int urg_ptr,
                    bytes options_bytes=b"") except *:
    """Push 20 + len(options_bytes) bytes, check 0; sets transport_header. Options in 4s.

    `flags` has nine bits: the highest is AE (RFC 9768).
    """
    need(skb)
    need(options_bytes)
    cdef Py_ssize_t n = PyBytes_GET_SIZE(options_bytes)
    cdef uint8_t *p
    if n & 3 or n > 40:
        options_error("tcp_push", n)
    p = push_tcp(skb, <uint32_t>n, sport, dport, seq, ack, flags, window, urg_ptr)
    if n:
        memcpy(p, PyBytes_AS_STRING(options_bytes), n)


cpdef void tcp_push_ts(sk_buff skb, unsigned int sport, unsigned int dport, uint32_t seq,
                       uint32_t ack, unsigned int flags, unsigned int window, unsigned int urg_ptr,
                       uint32_t tsval, uint32_t tsecr) except *:
    """tcp_push with the aligned NOP NOP timestamps option (the common established segment)."""
    need(skb)
    cdef uint8_t *p = push_tcp(skb, 12, sport, dport, seq, ack, flags, window, urg_ptr)
    st32be(p, 0x0101080AU)
    st32be(p + 4, tsval)
    st32be(p + 8, tsecr)


cpdef void icmp_push(sk_buff skb, unsigned int type, unsigned int code, uint32_t un) except *:
    """Push the 8-byte header and set its checksum over the whole packet; sets transport_header."""
    need(skb)
    cdef uint8_t *p
    skb_do_push(skb, 8)
    skb.transport_header = skb.data
    p = skb.head + skb.data
    p[0] = <uint8_t>type
    p[1] = <uint8_t>code
    st16be(p + 2, 0)
    st32be(p + 4, un)
    st16be(p + 2, csum_fold(skb_do_csum(skb, 0, skb.len, 0)))


# -- checksums -------------------------------------------------------------------------------------


cpdef void ip_send_check(iphdr iph) except *:
    """Compute and store the header checksum."""
    need(iph)
    cdef uint8_t *p = ptr_at(iph.skb, iph.off, 20)
    cdef uint32_t n = (p[0] & 0x0F) * 4U
    if n < 20:
        raise ValueError(f"ip_send_check: ihl {n >> 2} is below 5")
    p = ptr_at(iph.skb, iph.off, n)
    st16be(p + 10, 0)
    st16be(p + 10, csum_fold(csum_ptr(p, n, 0)))


cpdef int64_t ip_decrease_ttl(iphdr iph) except? -1:
    """Decrement TTL with incremental checksum; returns the new TTL."""
    need(iph)
    cdef uint8_t *p = ptr_at(iph.skb, iph.off, 20)
    cdef uint16_t old = ld16be(p + 8)
    p[8] = <uint8_t>(p[8] - 1)
    st16be(p + 10, csum_replace2(ld16be(p + 10), old, ld16be(p + 8)))
    return p[8]


cdef int send_check(sk_buff skb, uint32_t pseudo, uint32_t place, bint udp) except -1:
    """Store the check of the L4 header at data, or prepare it for the NIC."""
    cdef uint8_t *p
    cdef uint16_t v
    skb_check(skb)
    if skb_core_headlen(skb_c(skb)) < place + 2:
        raise ValueError("send_check: the transport header is not linear")
    p = skb.head + skb.data
    if skb.ip_summed == SUM_PARTIAL:
        st16be(p + place, <uint16_t>~csum_fold(pseudo))
        skb.csum_start = skb.data
        skb.csum_offset = place
        return 0
    st16be(p + place, 0)
    v = csum_fold(skb_do_csum(skb, 0, skb.len, pseudo))
    if udp and v == 0:
        v = 0xFFFF
    st16be(p + place, v)
    return 0


cdef uint32_t pseudo6(sk_buff skb, saddr, daddr, uint8_t proto) except? 0xFFFFFFFF:
    cdef uint8_t a[16]
    cdef uint8_t b[16]
    addr128_put(a, saddr)
    addr128_put(b, daddr)
    return csum_ptr_ipv6(a, b, skb.len, proto, 0)


cpdef void tcp_v4_send_check(sk_buff skb, uint32_t saddr, uint32_t daddr) except *:
    """data at the TCP header. ip_summed PARTIAL: pseudo sum, csum_start/offset; else in full."""
    need(skb)
    send_check(skb, csum_tcpudp_nofold(saddr, daddr, skb.len, P_TCP, 0), 16, False)


cpdef void tcp_v6_send_check(sk_buff skb, saddr, daddr) except *:
    """tcp_v4_send_check for IPv6; addresses are 128-bit ints."""
    need(skb)
    send_check(skb, pseudo6(skb, saddr, daddr, P_TCP), 16, False)


cpdef void udp4_send_check(sk_buff skb, uint32_t saddr, uint32_t daddr) except *:
    """As tcp_v4_send_check for UDP; a sum of 0 is sent as 0xFFFF."""
    need(skb)
    send_check(skb, csum_tcpudp_nofold(saddr, daddr, skb.len, P_UDP, 0), 6, True)


cpdef void udp6_send_check(sk_buff skb, saddr, daddr) except *:
    """udp4_send_check for IPv6; addresses are 128-bit ints."""
    need(skb)
    send_check(skb, pseudo6(skb, saddr, daddr, P_UDP), 6, True)


cpdef int64_t tcp_hdrlen(sk_buff skb) except? -1:
    """include/linux/tcp.h: bytes of the TCP header at transport_header. Raises IndexError."""
    need(skb)
    return (ptr_at(skb, skb.transport_header, 20)[12] >> 4) * 4


cpdef void gso_csum_prep(sk_buff skb) except *:
    """include/net/ip6_checksum.h tcp_v6_gso_csum_prep, for both families, TCP and UDP.

    Prepares a super-packet's headers for a device that segments it: length (and IPv4 check) 0 in
    the network header, in the transport header the sum of the pseudo header without length. Raises
    IndexError when a header is not linear.
    """
    cdef uint8_t *ip
    cdef uint8_t *th
    cdef uint8_t proto = P_TCP
    cdef uint32_t place = 16, acc
    need(skb)
    if skb.gso_type & GSO_UDP_L4:
        proto = P_UDP
        place = 6
    th = put_at(skb, skb.transport_header, place + 2)
    ip = put_at(skb, skb.network_header, 20)
    if ip[0] >> 4 == 4:
        st16be(ip + 2, 0)
        st16be(ip + 10, 0)
        acc = csum_tcpudp_nofold(ld32be(ip + 12), ld32be(ip + 16), 0, proto, 0)
    else:
        ip = put_at(skb, skb.network_header, 40)
        st16be(ip + 4, 0)
        acc = csum_ptr_ipv6(ip + 8, ip + 24, 0, proto, 0)
    st16be(th + place, <uint16_t>~csum_fold(acc))


cpdef int64_t icmp_csum(sk_buff skb, int64_t off=0) except? -1:
    """Folded checksum of data[off:] (0 when a received message is right)."""
    skb_check(skb)
    if off < 0 or off > <Py_ssize_t>skb.len:
        raise ValueError(f"icmp_csum: offset {off} of {skb.len} bytes")
    return csum_fold(skb_do_csum(skb, <uint32_t>off, skb.len - <uint32_t>off, 0))


# -- fused receive helpers -------------------------------------------------------------------------
cpdef int64_t eth_type_trans_fast(sk_buff skb, bytes dev_addr) except? -1:
    """mac_header = data, pull 14, set pkt_type and skb.protocol; returns the protocol.

    Host order; 802.3 length fields give ETH_P_802_2 (4), raw Novell frames ETH_P_802_3 (1). Frames
    under 14 bytes return 0 and stay as they are.
    """
    need(dev_addr)
    cdef uint8_t *p
    cdef uint32_t proto
    skb_check(skb)
    if not skb_do_may_pull(skb, 14):
        return 0
    skb.mac_header = skb.data
    p = skb.head + skb.data
    skb_do_pull(skb, 14)
    if PyBytes_GET_SIZE(dev_addr) == 6 and memcmp(p, PyBytes_AS_STRING(dev_addr), 6) == 0:
        skb.pkt_type = 0
    elif p[0] & 1:
        skb.pkt_type = 1 if memcmp(p, b"\xff\xff\xff\xff\xff\xff", 6) == 0 else 2
    else:
        skb.pkt_type = 3
    proto = ld16be(p + 12)
    if proto < ETH_8023_MIN:
        proto = 4
        if skb_do_may_pull(skb, 2):
            p = skb.head + skb.data
            if p[0] == 0xFF and p[1] == 0xFF:
                proto = 1
    skb.protocol = proto
    return proto


cpdef int64_t ip_hdr_validate(sk_buff skb) except? -1:
    """ip_rcv_core's checks with data at the IP header.

    0 fine (packet trimmed to tot_len, network_header and transport_header set), 1 header error,
    2 bad checksum, 3 truncated (tot_len > skb.len). tot_len 0 in a GSO packet means skb.len.
    """
    cdef uint8_t *p
    cdef uint32_t hlen, total
    skb_check(skb)
    skb.network_header = skb.data
    if parsed(skb) & L3 and skb.inet_family == 2 and skb.l3_len <= skb.len:
        hlen = skb.parsed_l4 - skb.data
        total = skb.l3_len
        if not skb.parsed & IP_SUM:
            if csum_fold(csum_ptr(skb.head + skb.data, hlen, 0)) != 0:
                return 2
            skb.parsed |= IP_SUM
    else:                       # something is wrong with it, or it is not linear: what, in order
        if not skb_do_may_pull(skb, 20):
            return 1
        p = skb.head + skb.data
        hlen = (p[0] & 0x0F) * 4U
        if p[0] >> 4 != 4 or hlen < 20 or not skb_do_may_pull(skb, hlen):
            return 1
        p = skb.head + skb.data
        if csum_fold(csum_ptr(p, hlen, 0)) != 0:
            return 2
        total = ld16be(p + 2)
        if total == 0 and skb.gso_size:
            total = skb.len
        if skb.len < total:
            return 3
        if total < hlen:
            return 1
    if skb.len > total:
        skb_do_trim(skb, total)
        if skb.ip_summed == 2:
            skb.ip_summed = SUM_NONE
    skb.network_header = skb.data
    skb.transport_header = skb.data + hlen
    return 0


cdef inline bint tcp_parsed(sk_buff skb) noexcept:
    """Whether the sk_buff's TCP fields are those of transport_header, and still linear."""
    return (parsed_l4(skb) and skb.l4_proto == P_TCP
            and skb.transport_header + skb.l4_hlen <= skb.tail)


cpdef int64_t tcp_hdr_validate(sk_buff skb) except? -1:
    """data at the TCP header: doff in bytes (>= 20, linear), or 0 when malformed."""
    cdef uint32_t n
    skb_check(skb)
    if tcp_parsed(skb) and skb.transport_header == skb.data:
        return skb.l4_hlen
    if not skb_do_may_pull(skb, 20):
        return 0
    n = (skb.head[skb.data + 12] >> 4) * 4U
    if n < 20 or not skb_do_may_pull(skb, n):
        return 0
    return n


cdef int fill_cb(sk_buff skb) except -1:
    cdef uint8_t *p
    cdef uint32_t n
    skb_check(skb)
    skb.sacked = 0
    if tcp_parsed(skb) and skb.transport_header == skb.data:
        skb.seq = skb.th_seq
        skb.end_seq = (skb.th_seq + (skb.th_flags & 1) + (skb.th_flags >> 1 & 1)
                       + skb.len - skb.l4_hlen) & 0xFFFFFFFFU
        skb.ack_seq = skb.th_ack
        skb.tcp_flags = skb.th_flags | (skb.head[skb.data + 12] & 1U) << 8
        skb.ip_dsfield = skb.l3_dsfield
        return 0
    p = ptr_at(skb, skb.data, 20)
    n = (p[12] >> 4) * 4U
    if n < 20 or n > skb.len:
        raise ValueError("TCP header: malformed; call tcp_hdr_validate first")
    p = ptr_at(skb, skb.data, n)
    skb.sport = ld16be(p)
    skb.dport = ld16be(p + 2)
    skb.seq = skb.th_seq = ld32be(p + 4)
    skb.end_seq = (skb.seq + (p[13] & 1) + (p[13] >> 1 & 1) + skb.len - n) & 0xFFFFFFFFU
    skb.ack_seq = skb.th_ack = ld32be(p + 8)
    skb.th_flags = p[13]
    skb.tcp_flags = p[13] | (p[12] & 1U) << 8
    skb.th_window = ld16be(p + 14)
    skb.l4_hlen = <uint8_t>n
    skb.tcp_opts = OPTS_NONE if n == 20 else OPTS_OTHER
    if n == 32 and ld32be(p + 20) == 0x0101080AU:
        skb.tcp_opts = OPTS_TS
        skb.tsval = ld32be(p + 24)
        skb.tsecr = ld32be(p + 28)
    p = ptr_at(skb, skb.network_header, 20)
    skb.ip_dsfield = p[1] if p[0] >> 4 != 6 else ld16be(p) >> 4 & 0xFF
    return 0


cpdef void tcp_fill_cb(sk_buff skb) except *:
    """include/net/tcp.h: tcp_v4_fill_cb, tcp_v6_fill_cb; data at the TCP header.

    Fills seq, end_seq, ack_seq, tcp_flags (nine bits, up to AE), ip_dsfield and sacked = 0.
    ip_dsfield is the TOS of an IPv4 header, the traffic class of an IPv6 one. Afterwards sport,
    dport, l4_hlen, th_flags, th_window, tcp_opts, tsval and tsecr are set too: TCP need not read
    the header again.
    """
    need(skb)
    fill_cb(skb)


cpdef tuple tcp_parse_ts(sk_buff skb):
    """(tsval, tsecr) when the options are exactly the aligned timestamps form, else None."""
    need(skb)
    cdef uint8_t *p
    if tcp_parsed(skb):
        return (skb.tsval, skb.tsecr) if skb.tcp_opts == OPTS_TS else None
    p = ptr_at(skb, skb.transport_header, 20)
    if p[12] >> 4 != 8:
        return None
    p = ptr_at(skb, skb.transport_header, 32)
    if ld32be(p + 20) != 0x0101080AU:
        return None
    return ld32be(p + 24), ld32be(p + 28)


cpdef (int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t) tcp_hdr_fields(
        sk_buff skb) except *:
    """(source, dest, seq, ack_seq, doff, flags, window, urg_ptr) at transport_header, one call."""
    need(skb)
    cdef uint8_t *p = ptr_at(skb, skb.transport_header, 20)
    if tcp_parsed(skb):
        return (skb.sport, skb.dport, skb.th_seq, skb.th_ack, skb.l4_hlen >> 2, skb.th_flags,
                skb.th_window, ld16be(p + 18))
    return (ld16be(p), ld16be(p + 2), ld32be(p + 4), ld32be(p + 8), p[12] >> 4, p[13],
            ld16be(p + 14), ld16be(p + 18))
