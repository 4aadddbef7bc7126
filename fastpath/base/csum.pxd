"""The Internet checksum for compiled callers (RFC 1071, RFC 1624).

Accumulators are host-order 32-bit sums of big-endian 16-bit words; checks are host-order 16 bits.
No function here fails, allocates or needs the GIL; any thread may call any of them.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

# Sum n bytes at p into acc; an odd last byte counts as the high half of a word.
cdef uint32_t csum_ptr(const uint8_t *p, size_t n, uint32_t acc) noexcept nogil
# The same, copying src to dst on the way. The buffers are equal or do not overlap.
cdef uint32_t csum_ptr_copy(uint8_t *dst, const uint8_t *src, size_t n, uint32_t acc) noexcept nogil
# Fold to 16 bits and complement: the value that goes into a header.
cpdef uint16_t csum_fold(uint32_t acc) noexcept nogil
cpdef uint32_t csum_add(uint32_t a, uint32_t b) noexcept nogil
cpdef uint32_t csum_sub(uint32_t a, uint32_t b) noexcept nogil
# Join the sum b of a block that began `offset` bytes after where a began.
cpdef uint32_t csum_block_add(uint32_t a, uint32_t b, size_t offset) noexcept nogil
cpdef uint32_t csum_block_sub(uint32_t a, uint32_t b, size_t offset) noexcept nogil

# Pseudo headers (RFC 9293 3.1, RFC 8200 8.1).
cpdef uint32_t csum_tcpudp_nofold(uint32_t saddr, uint32_t daddr, uint32_t length, uint8_t proto,
                                  uint32_t acc) noexcept nogil
cpdef uint16_t csum_tcpudp_magic(uint32_t saddr, uint32_t daddr, uint32_t length, uint8_t proto,
                                 uint32_t acc) noexcept nogil
cdef uint32_t csum_ptr_ipv6(const uint8_t *saddr16, const uint8_t *daddr16, uint32_t length,
                            uint8_t proto, uint32_t acc) noexcept nogil

# Update a check in place of summing again (RFC 1624 equation 3).
cpdef uint16_t csum_replace2(uint16_t check, uint16_t old, uint16_t new) noexcept nogil
cpdef uint16_t csum_replace4(uint16_t check, uint32_t old, uint32_t new) noexcept nogil

# The same over any buffer, and with addresses that are 128-bit ints (documented in csum.pyi).
cpdef int64_t csum_partial(data, uint32_t acc=*) except? -1
cpdef int64_t csum_and_copy(dst, src, uint32_t acc=*) except? -1
cpdef int64_t csum_ipv6_nofold(saddr, daddr, uint32_t length, uint8_t proto,
                               uint32_t acc=*) except? -1
cpdef int64_t csum_ipv6_magic(saddr, daddr, uint32_t length, uint8_t proto,
                              uint32_t acc=*) except? -1
cpdef int64_t ip_compute_csum(data) except? -1
