/* Unaligned, endian-explicit loads and stores, and small copies.
 *
 * memcpy of a constant size compiles to one move; the builtin swaps vanish on a host of that order. */
#ifndef E1000EMU_BYTES_H
#define E1000EMU_BYTES_H

#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define E1_LE16(x) __builtin_bswap16(x)
#define E1_LE32(x) __builtin_bswap32(x)
#define E1_LE64(x) __builtin_bswap64(x)
#define E1_BE16(x) (x)
#define E1_BE32(x) (x)
#else
#define E1_LE16(x) (x)
#define E1_LE32(x) (x)
#define E1_LE64(x) (x)
#define E1_BE16(x) __builtin_bswap16(x)
#define E1_BE32(x) __builtin_bswap32(x)
#endif

static inline uint16_t ld16le(const void *p) { uint16_t v; memcpy(&v, p, 2); return E1_LE16(v); }
static inline uint32_t ld32le(const void *p) { uint32_t v; memcpy(&v, p, 4); return E1_LE32(v); }
static inline uint64_t ld64le(const void *p) { uint64_t v; memcpy(&v, p, 8); return E1_LE64(v); }
static inline uint16_t ld16be(const void *p) { uint16_t v; memcpy(&v, p, 2); return E1_BE16(v); }
static inline uint32_t ld32be(const void *p) { uint32_t v; memcpy(&v, p, 4); return E1_BE32(v); }
static inline void st16le(void *p, uint16_t v) { v = E1_LE16(v); memcpy(p, &v, 2); }
static inline void st32le(void *p, uint32_t v) { v = E1_LE32(v); memcpy(p, &v, 4); }
static inline void st64le(void *p, uint64_t v) { v = E1_LE64(v); memcpy(p, &v, 8); }
static inline void st16be(void *p, uint16_t v) { v = E1_BE16(v); memcpy(p, &v, 2); }
static inline void st32be(void *p, uint32_t v) { v = E1_BE32(v); memcpy(p, &v, 4); }

/* Fold an accumulator to 16 bits, not complemented. Adding a rotated copy puts the end-around carry into the upper
 * half; a sum of 0 stays 0, any other becomes 1..FFFF. */
static inline uint32_t fold16(uint64_t acc)
{
    uint32_t x;
    acc += acc >> 32 | acc << 32;
    x = (uint32_t)(acc >> 32);
    x += x >> 16 | x << 16;
    return x >> 16;
}

/* One's complement sum of two words: the carry comes back in. */
static inline uint64_t sum_carry(uint64_t a, uint64_t v)
{
    a += v;
    return a + (a < v);
}

/* Internet checksum of short ranges without a call (headers, small frames). sum_raw adds words in the machine's byte
 * order (RFC 1071 2(B)) to a sum below 2^33 that is 0 only for bytes that all are. Odd tails count as the high half of
 * a word. */
static inline uint64_t sum_raw(const uint8_t *p, size_t n)
{
    uint64_t a = 0, v;
    uint32_t w;
    uint16_t h;
    const uint8_t *end = p + n;
    if (n >= 8) {
        for (; n >= 32; n -= 32, p += 32) {
            memcpy(&v, p, 8);
            a = sum_carry(a, v);
            memcpy(&v, p + 8, 8);
            a = sum_carry(a, v);
            memcpy(&v, p + 16, 8);
            a = sum_carry(a, v);
            memcpy(&v, p + 24, 8);
            a = sum_carry(a, v);
        }
        if (n & 16) {
            memcpy(&v, p, 8);
            a = sum_carry(a, v);
            memcpy(&v, p + 8, 8);
            a = sum_carry(a, v);
            p += 16;
        }
        if (n & 8) {
            memcpy(&v, p, 8);
            a = sum_carry(a, v);
        }
        if (n & 7) {
            /* the last word again, without the bytes that were added already */
            memcpy(&v, end - 8, 8);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
            a = sum_carry(a, v << (64 - (n & 7) * 8));
#else
            a = sum_carry(a, v >> (64 - (n & 7) * 8));
#endif
        }
        return (a & 0xffffffffu) + (a >> 32);
    }
    if (n & 4) {
        memcpy(&w, p, 4);
        a = w;
        p += 4;
    }
    if (n & 2) {
        memcpy(&h, p, 2);
        a += h;
        p += 2;
    }
    if (n & 1) {
        h = 0;
        memcpy(&h, p, 1);
        a += h;
    }
    return a;
}

/* Sum `a` less the sum `b` of a part, both below 2^40: congruent to the difference, never 0. */
static inline uint64_t sum_less(uint64_t a, uint64_t b) { return a + (0xffffull << 40) - b; }

/* Whether the sum of a range with its check is right: `a`, which is not 0, folds to FFFF. */
static inline int sum_good(uint64_t a) { return a % 0xffff == 0; }

/* From a raw sum to a host-order sum of big-endian words. */
static inline uint32_t sum_host(uint64_t raw) { return E1_BE16((uint16_t)fold16(raw)); }

static inline uint32_t sum16(const uint8_t *p, size_t n) { return sum_host(sum_raw(p, n)); }

/* A host-order word in the order of raw sums. */
static inline uint32_t raw16(uint16_t v) { return E1_BE16(v); }

/* The folded sum of a block that begins at byte `offset` of another: odd offsets swap the bytes. */
static inline uint32_t sum_at(uint32_t folded, size_t offset)
{
    return offset & 1 ? ((folded & 0xFF) << 8 | folded >> 8) : folded;
}

/* Store a status byte after everything written before it is visible (the other side may poll). */
static inline void store_release8(uint8_t *p, uint8_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }

/* Store the second half of a receive descriptor, DD (bit 32, so byte 4) in it, after everything written before it is
 * visible. The driver owns the descriptor once DD shows, and nothing may be stored there after that: memcpy may
 * store a byte twice, an aligned word goes in one indivisible store. Elsewhere the byte with DD goes last, by itself. */
static inline void store_release_half(uint8_t *p, uint64_t v)
{
    typedef uint64_t __attribute__((may_alias)) word;
    if (((uintptr_t)p & 7) == 0) {
        __atomic_store_n((word *)p, E1_LE64(v), __ATOMIC_RELEASE);
        return;
    }
    st64le(p, v & ~((uint64_t)1 << 32));
    store_release8(p + 4, (uint8_t)(v >> 32));
}

/* Copy n bytes; lengths of 16..128 (the small frames) by overlapping 16-byte moves, without a call. */
static inline void copy_bytes(uint8_t *dst, const uint8_t *src, size_t n)
{
    typedef struct { uint64_t a, b; } v16;
    v16 a, b, c, d, e, f, g, h;
    if (n - 16 > 112) {
        memcpy(dst, src, n);
        return;
    }
    memcpy(&a, src, 16);
    memcpy(&b, src + n - 16, 16);
    if (n > 32) {
        memcpy(&c, src + 16, 16);
        memcpy(&d, src + n - 32, 16);
        if (n > 64) {
            memcpy(&e, src + 32, 16);
            memcpy(&f, src + n - 48, 16);
            memcpy(&g, src + 48, 16);
            memcpy(&h, src + n - 64, 16);
            memcpy(dst + 32, &e, 16);
            memcpy(dst + n - 48, &f, 16);
            memcpy(dst + 48, &g, 16);
            memcpy(dst + n - 64, &h, 16);
        }
        memcpy(dst + 16, &c, 16);
        memcpy(dst + n - 32, &d, 16);
    }
    memcpy(dst, &a, 16);
    memcpy(dst + n - 16, &b, 16);
}

#endif
