# cython: language_level=3, embedsignature=True, binding=True
"""The Internet checksum: partial, fold, pseudo header, incremental update, copy in the same pass.

The loops are in ``_c/csum_simd.h``; the plain-Python twin is ``_ref/csum.py``. Names and meaning
are those of Linux's ``checksum.h``, but values are in host order.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "csum_simd.h" nogil:
    uint32_t csum_do_partial(const uint8_t *p, size_t n, uint32_t acc)
    uint32_t csum_do_copy(uint8_t *dst, const uint8_t *src, size_t n, uint32_t acc)
    uint32_t csum_add32(uint32_t a, uint32_t b)
    uint32_t csum_fold16(uint64_t sum)
    int CSUM_NIMPL
    int csum_supported(int i)
    const char *csum_level_name(int i)
    int csum_level_get()
    int csum_level_set(int i)
    void csum_init()

cdef extern from "addr128.h":
    int addr128_put(uint8_t *p, object v) except -1

# Below this many bytes, letting go of the GIL costs more than the sum.
cdef enum:
    NOGIL_BYTES = 32768

csum_init()


cdef uint32_t csum_ptr(const uint8_t *p, size_t n, uint32_t acc) noexcept nogil:
    return csum_do_partial(p, n, acc)


cdef uint32_t csum_ptr_copy(uint8_t *dst, const uint8_t *src, size_t n,
                            uint32_t acc) noexcept nogil:
    return csum_do_copy(dst, src, n, acc)


cpdef uint16_t csum_fold(uint32_t acc) noexcept nogil:
    """Fold `acc` to 16 bits and complement it: the value that goes into a header."""
    return <uint16_t>(~csum_fold16(acc))


cpdef uint32_t csum_add(uint32_t a, uint32_t b) noexcept nogil:
    """Add two accumulators with end-around carry."""
    return csum_add32(a, b)


cpdef uint32_t csum_sub(uint32_t a, uint32_t b) noexcept nogil:
    """Take accumulator `b` out of `a`."""
    return csum_add32(a, ~b)


cpdef uint32_t csum_block_add(uint32_t a, uint32_t b, size_t offset) noexcept nogil:
    """Join the sum `b` of a block that began `offset` bytes after where `a` began."""
    if offset & 1:
        b = b >> 8 | b << 24
    return csum_add32(a, b)


cpdef uint32_t csum_block_sub(uint32_t a, uint32_t b, size_t offset) noexcept nogil:
    """Take the sum `b` of a block at `offset` out of `a`."""
    return csum_block_add(a, ~b, offset)


cpdef uint32_t csum_tcpudp_nofold(uint32_t saddr, uint32_t daddr, uint32_t length, uint8_t proto,
                                  uint32_t acc) noexcept nogil:
    """Sum the IPv4 pseudo header into `acc`; addresses in host order (RFC 9293 3.1)."""
    cdef uint64_t s = <uint64_t>saddr + daddr + length + proto + acc
    s = (s & 0xFFFFFFFFU) + (s >> 32)
    return <uint32_t>((s & 0xFFFFFFFFU) + (s >> 32))


cpdef uint16_t csum_tcpudp_magic(uint32_t saddr, uint32_t daddr, uint32_t length, uint8_t proto,
                                 uint32_t acc) noexcept nogil:
    """Fold `acc` and the IPv4 pseudo header into the value of a check field."""
    return csum_fold(csum_tcpudp_nofold(saddr, daddr, length, proto, acc))


cdef uint32_t csum_ptr_ipv6(const uint8_t *saddr16, const uint8_t *daddr16, uint32_t length,
                            uint8_t proto, uint32_t acc) noexcept nogil:
    acc = csum_do_partial(saddr16, 16, acc)
    acc = csum_do_partial(daddr16, 16, acc)
    return csum_add32(csum_add32(acc, length), proto)


cpdef uint16_t csum_replace2(uint16_t check, uint16_t old, uint16_t new) noexcept nogil:
    """Update `check` for a 16-bit word that changed (RFC 1624 equation 3)."""
    # HC' = ~(~HC + ~m + m')
    return <uint16_t>(~csum_fold16(<uint64_t>(<uint16_t>~check) + <uint16_t>~old + new))


cpdef uint16_t csum_replace4(uint16_t check, uint32_t old, uint32_t new) noexcept nogil:
    """Update `check` for a 32-bit word that changed (RFC 1624 equation 3)."""
    return <uint16_t>(~csum_fold16(<uint64_t>(<uint16_t>~check) + <uint32_t>~old + new))


cpdef int64_t csum_partial(data, uint32_t acc=0) except? -1:
    """Sum the big-endian 16-bit words of `data` into `acc` (RFC 1071).

    `data` is any contiguous buffer; an odd last byte counts as the high half of a word. Returns a
    host-order 32-bit sum, not complemented. Borrows `data` until return.
    """
    cdef Py_buffer view
    cdef const uint8_t *p
    cdef size_t n
    if PyBytes_CheckExact(data):
        p = <const uint8_t *>PyBytes_AS_STRING(data)
        n = <size_t>PyBytes_GET_SIZE(data)
        if n < NOGIL_BYTES:
            return csum_do_partial(p, n, acc)
        with nogil:
            acc = csum_do_partial(p, n, acc)
        return acc
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    p = <const uint8_t *>view.buf
    n = <size_t>view.len
    if n < NOGIL_BYTES:
        acc = csum_do_partial(p, n, acc)
    else:
        with nogil:
            acc = csum_do_partial(p, n, acc)
    PyBuffer_Release(&view)
    return acc


cpdef int64_t csum_and_copy(dst, src, uint32_t acc=0) except? -1:
    """Copy `src` to the start of `dst` and sum it into `acc` in the same pass.

    Buffers of bytes that are the same or do not overlap. Raises ValueError when `dst` is shorter
    than `src`, BufferError or TypeError when it cannot be written. Borrows both until return.
    """
    cdef Py_buffer s, d
    PyObject_GetBuffer(src, &s, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(dst, &d, PyBUF_WRITABLE)
        try:
            if d.len < s.len:
                raise ValueError(f"dst holds {d.len} bytes, src has {s.len}: pass a larger dst")
            if (d.buf != s.buf and <const uint8_t *>d.buf < <const uint8_t *>s.buf + s.len
                    and <const uint8_t *>s.buf < <const uint8_t *>d.buf + s.len):
                raise ValueError("dst and src overlap: copy through a buffer of its own")
            with nogil:
                acc = csum_do_copy(<uint8_t *>d.buf, <const uint8_t *>s.buf, <size_t>s.len, acc)
        finally:
            PyBuffer_Release(&d)
    finally:
        PyBuffer_Release(&s)
    return acc


cpdef int64_t csum_ipv6_nofold(saddr, daddr, uint32_t length, uint8_t proto,
                               uint32_t acc=0) except? -1:
    """Sum the IPv6 pseudo header into `acc`; addresses are 128-bit ints (RFC 8200 8.1)."""
    cdef uint8_t a[32]
    addr128_put(a, saddr)
    addr128_put(a + 16, daddr)
    return csum_ptr_ipv6(a, a + 16, length, proto, acc)


cpdef int64_t csum_ipv6_magic(saddr, daddr, uint32_t length, uint8_t proto,
                              uint32_t acc=0) except? -1:
    """Fold `acc` and the IPv6 pseudo header into the value of a check field."""
    return csum_fold(<uint32_t>csum_ipv6_nofold(saddr, daddr, length, proto, acc))


cpdef int64_t ip_compute_csum(data) except? -1:
    """Return the check of `data`: 0 when `data` holds its own right check (RFC 1071)."""
    return csum_fold(<uint32_t>csum_partial(data))


def levels():
    """Return the names of the vector units this machine can sum with, plainest first."""
    return tuple(
        csum_level_name(i).decode() for i in range(CSUM_NIMPL) if csum_supported(i)
    )


def level():
    """Return the name of the vector unit in use."""
    return csum_level_name(csum_level_get()).decode()


def set_level(str name not None):
    """Sum with the vector unit `name` from now on, in every thread of the process.

    Raises ValueError when `name` is none of levels().
    """
    cdef int i
    for i in range(CSUM_NIMPL):
        if csum_level_name(i).decode() == name and csum_level_set(i) == 0:
            return
    raise ValueError(f"no vector unit {name!r} here: choose one of {', '.join(levels())}")


def repeat(bytes data not None, long times, bytearray dst=None):
    """Sum `data` `times` times without the GIL, for measuring; with `dst`, copy to it each time.

    Returns the last accumulator. Each round adds to the sum of the one before, so that no round can
    be left out. Raises ValueError when `dst` is shorter than `data`.
    """
    cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(data)
    cdef size_t n = <size_t>PyBytes_GET_SIZE(data)
    cdef uint8_t *to = NULL
    cdef uint32_t acc = 0
    cdef long _i
    if dst is not None:
        if <size_t>len(dst) < n:
            raise ValueError(f"dst holds {len(dst)} bytes, data has {n}: pass a larger dst")
        to = <uint8_t *>PyByteArray_AS_STRING(dst)
    with nogil:
        for _i in range(times):
            acc = csum_do_copy(to, p, n, acc) if to != NULL else csum_do_partial(p, n, acc)
    return acc
