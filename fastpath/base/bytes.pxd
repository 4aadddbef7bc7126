# cython: language_level=3
"""Loads and stores of either byte order, sums of short ranges, small copies: _c/bytes.h."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "bytes.h" nogil:
    uint16_t ld16le(const void *p)
    uint32_t ld32le(const void *p)
    uint64_t ld64le(const void *p)
    uint16_t ld16be(const void *p)
    uint32_t ld32be(const void *p)
    void st16le(void *p, uint16_t v)
    void st32le(void *p, uint32_t v)
    void st64le(void *p, uint64_t v)
    void st16be(void *p, uint16_t v)
    void st32be(void *p, uint32_t v)
    uint32_t fold16(uint64_t acc)
    uint64_t sum_raw(const uint8_t *p, size_t n)
    uint32_t sum16(const uint8_t *p, size_t n)
    uint32_t sum_host(uint64_t raw)
    uint64_t sum_less(uint64_t a, uint64_t b)
    bint sum_good(uint64_t a)
    uint32_t sum_at(uint32_t folded, size_t offset)
    uint32_t raw16(uint16_t v)
    void store_release8(uint8_t *p, uint8_t v)
    void store_release_half(uint8_t *p, uint64_t v)
    void copy_bytes(uint8_t *dst, const uint8_t *src, size_t n)
