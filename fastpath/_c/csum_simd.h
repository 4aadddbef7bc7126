/* The Internet checksum (RFC 1071) at the width of the machine it runs on.
 *
 * A portable wheel is compiled for the oldest CPU of its platform, so the loops carry their own
 * target attributes and csum_init() picks one at import. Sums are taken over words in the machine's
 * byte order (RFC 1071 section 2(B): byte swapping commutes with the sum). Once, at the end, they are
 * turned to host-order values of big-endian words.
 *
 * Included by csum.pyx only: others cimport fastpath.base.csum, so that there is one dispatch pointer.
 */
#ifndef E1000EMU_CSUM_SIMD_H
#define E1000EMU_CSUM_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Bytes summed into 32-bit lanes before they are widened: 32768 vectors of 16 bytes. A multiple of
 * every unrolled step, so that only the last block has a tail. */
#define CSUM_BLOCK ((size_t)512 * 1024)
/* Shorter buffers never reach a vector loop, which needs one full vector of up to 64 bytes. */
#define CSUM_SMALL 64

static const uint8_t csum_tail_mask[128] = {
    /* 64 zero bytes, then 64 bytes of ones: a load of V bytes at 64 - V + left keeps the last
     * `left` bytes of the vector. */
    [64 ... 127] = 0xff,
};

typedef uint64_t (*csum_sum_fn)(uint8_t *dst, const uint8_t *src, size_t n);

struct csum_impl {
    const char *name;
    csum_sum_fn sum;
    csum_sum_fn copy;
};

#define CSUM_NAME csum_sum_portable
#define CSUM_TARGET
#define CSUM_VBYTES 16
#define CSUM_COPY 0
#include "csum_body.h"
#define CSUM_NAME csum_copy_portable
#define CSUM_TARGET
#define CSUM_VBYTES 16
#define CSUM_COPY 1
#include "csum_body.h"

#if defined(__x86_64__) || defined(__i386__)
#define CSUM_X86 1
#include <immintrin.h>

#define CSUM_NAME csum_sum_avx2
#define CSUM_TARGET __attribute__((target("avx2")))
#define CSUM_VBYTES 32
#define CSUM_COPY 0
#include "csum_body.h"
#define CSUM_NAME csum_copy_avx2
#define CSUM_TARGET __attribute__((target("avx2")))
#define CSUM_VBYTES 32
#define CSUM_COPY 1
#include "csum_body.h"

#define CSUM_NAME csum_sum_avx512
#define CSUM_TARGET __attribute__((target("avx512f,prefer-vector-width=512")))
#define CSUM_VBYTES 64
#define CSUM_COPY 0
#include "csum_body.h"
#define CSUM_NAME csum_copy_avx512
#define CSUM_TARGET __attribute__((target("avx512f,prefer-vector-width=512")))
#define CSUM_VBYTES 64
#define CSUM_COPY 1
#include "csum_body.h"

/* VPDPBUSD sums four unsigned bytes times four signed weights into a 32-bit lane: one for the even
 * bytes, one for the odd ones, two instructions for 64 bytes. The even bytes are the low half of a
 * little-endian word. A lane grows by at most 510 for a vector. */
#define CSUM_VNNI __attribute__((target("avx512f,avx512bw,avx512vnni")))

CSUM_VNNI static inline __attribute__((always_inline)) uint64_t
csum_vnni(uint8_t *dst, const uint8_t *src, size_t n, int copy)
{
    const __m512i even = _mm512_set1_epi32(0x00010001), odd = _mm512_set1_epi32(0x01000100);
    uint64_t total = 0;

    while (n) {
        size_t left = n < CSUM_BLOCK ? n : CSUM_BLOCK;
        __m512i e0 = _mm512_setzero_si512(), e1 = e0, e2 = e0, e3 = e0;
        __m512i o0 = e0, o1 = e0, o2 = e0, o3 = e0;
        __m512i a, b, c, d;

        n -= left;
        for (; left >= 256; left -= 256, src += 256) {
            a = _mm512_loadu_si512(src);
            b = _mm512_loadu_si512(src + 64);
            c = _mm512_loadu_si512(src + 128);
            d = _mm512_loadu_si512(src + 192);
            if (copy) {
                _mm512_storeu_si512(dst, a);
                _mm512_storeu_si512(dst + 64, b);
                _mm512_storeu_si512(dst + 128, c);
                _mm512_storeu_si512(dst + 192, d);
                dst += 256;
            }
            e0 = _mm512_dpbusd_epi32(e0, a, even);
            o0 = _mm512_dpbusd_epi32(o0, a, odd);
            e1 = _mm512_dpbusd_epi32(e1, b, even);
            o1 = _mm512_dpbusd_epi32(o1, b, odd);
            e2 = _mm512_dpbusd_epi32(e2, c, even);
            o2 = _mm512_dpbusd_epi32(o2, c, odd);
            e3 = _mm512_dpbusd_epi32(e3, d, even);
            o3 = _mm512_dpbusd_epi32(o3, d, odd);
        }
        for (; left >= 64; left -= 64, src += 64) {
            a = _mm512_loadu_si512(src);
            if (copy) {
                _mm512_storeu_si512(dst, a);
                dst += 64;
            }
            e0 = _mm512_dpbusd_epi32(e0, a, even);
            o0 = _mm512_dpbusd_epi32(o0, a, odd);
        }
        if (left) {
            __mmask64 m = ~(uint64_t)0 >> (64 - left);

            a = _mm512_maskz_loadu_epi8(m, src);
            if (copy) {
                _mm512_mask_storeu_epi8(dst, m, a);
                dst += left;
            }
            src += left;
            e1 = _mm512_dpbusd_epi32(e1, a, even);
            o1 = _mm512_dpbusd_epi32(o1, a, odd);
        }
        e0 = _mm512_add_epi32(_mm512_add_epi32(e0, e1), _mm512_add_epi32(e2, e3));
        o0 = _mm512_add_epi32(_mm512_add_epi32(o0, o1), _mm512_add_epi32(o2, o3));
        /* At most 2^13 vectors of 64 bytes in a block: 16 lanes of 510 * 2^13 stay below 2^27. */
        total += (uint32_t)_mm512_reduce_add_epi32(e0);
        total += (uint64_t)(uint32_t)_mm512_reduce_add_epi32(o0) << 8;
    }
    return total;
}

CSUM_VNNI static uint64_t csum_sum_vnni(uint8_t *dst, const uint8_t *src, size_t n)
{
    (void)dst;
    return csum_vnni(NULL, src, n, 0);
}

CSUM_VNNI static uint64_t csum_copy_vnni(uint8_t *dst, const uint8_t *src, size_t n)
{
    return csum_vnni(dst, src, n, 1);
}
#endif

/* From the plainest to the widest. */
static const struct csum_impl csum_impls[] = {
    {"portable", csum_sum_portable, csum_copy_portable},
#ifdef CSUM_X86
    {"avx2", csum_sum_avx2, csum_copy_avx2},
    {"avx512", csum_sum_avx512, csum_copy_avx512},
    {"avx512vnni", csum_sum_vnni, csum_copy_vnni},
#endif
};
enum { CSUM_NIMPL = sizeof(csum_impls) / sizeof(csum_impls[0]) };

/* One pointer to one constant row: a change of level is one atomic store, so a thread that is
 * summing finishes with the pair of functions it began with. */
static const struct csum_impl *csum_now = &csum_impls[0];

static int csum_supported(int i)
{
#ifdef CSUM_X86
    __builtin_cpu_init();
    switch (i) {
    case 1:
        return __builtin_cpu_supports("avx2") != 0;
    case 2:
        return __builtin_cpu_supports("avx512f") != 0;
    case 3:
        return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni");
    }
#endif
    return i == 0;
}

static const char *csum_level_name(int i)
{
    return i >= 0 && i < CSUM_NIMPL ? csum_impls[i].name : NULL;
}

static int csum_level_get(void)
{
    return (int)(__atomic_load_n(&csum_now, __ATOMIC_ACQUIRE) - csum_impls);
}

static int csum_level_set(int i)
{
    if (i < 0 || i >= CSUM_NIMPL || !csum_supported(i))
        return -1;
    __atomic_store_n(&csum_now, &csum_impls[i], __ATOMIC_RELEASE);
    return 0;
}

/* Pick the widest level worth having. Plain AVX-512 without VNNI (Skylake-X) lowers the core's
 * frequency for all other code too, so it is used on request only. */
static void csum_init(void)
{
    if (csum_level_set(3) && csum_level_set(1))
        csum_level_set(0);
}

/* Sum of the machine-order words of a short even buffer, up to CSUM_SMALL bytes. */
static inline uint64_t csum_sum_small(uint8_t *dst, const uint8_t *src, size_t n, int copy)
{
    uint64_t sum = 0, v;
    uint32_t w;
    uint16_t h;

    if (copy)
        memcpy(dst, src, n);
    for (; n >= 8; n -= 8, src += 8) {
        memcpy(&v, src, 8);
        sum += (v & 0xffffffffU) + (v >> 32);
    }
    if (n & 4) {
        memcpy(&w, src, 4);
        sum += w;
        src += 4;
    }
    if (n & 2) {
        memcpy(&h, src, 2);
        sum += h;
    }
    return sum;
}

static inline uint32_t csum_add32(uint32_t a, uint32_t b)
{
    a += b;
    return a + (a < b);
}

static inline uint32_t csum_fold16(uint64_t sum)
{
    sum = (sum & 0xffffffffU) + (sum >> 32);
    sum = (sum & 0xffffffffU) + (sum >> 32);
    sum = (sum & 0xffffU) + (sum >> 16);
    sum = (sum & 0xffffU) + (sum >> 16);
    return (uint32_t)((sum & 0xffffU) + (sum >> 16));
}

/* Add the machine-order word sum of an even run and the odd last byte, if any, to acc. */
static inline uint32_t csum_finish(uint64_t sum, int odd, uint8_t last, uint32_t acc)
{
    uint32_t s;

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    s = csum_fold16(sum + (odd ? last : 0));
    s = (s >> 8 | s << 8) & 0xffffU;
#else
    s = csum_fold16(sum + (odd ? (uint32_t)last << 8 : 0));
#endif
    return csum_add32(acc, s);
}

static inline uint32_t csum_do_partial(const uint8_t *p, size_t n, uint32_t acc)
{
    size_t even = n & ~(size_t)1;
    uint64_t sum;

    if (n < CSUM_SMALL + 2)
        sum = csum_sum_small(NULL, p, even, 0);
    else
        sum = __atomic_load_n(&csum_now, __ATOMIC_ACQUIRE)->sum(NULL, p, even);
    return csum_finish(sum, n & 1, n & 1 ? p[even] : 0, acc);
}

static inline uint32_t csum_do_copy(uint8_t *dst, const uint8_t *src, size_t n, uint32_t acc)
{
    size_t even = n & ~(size_t)1;
    uint8_t last = 0;
    uint64_t sum;

    if (n < CSUM_SMALL + 2)
        sum = csum_sum_small(dst, src, even, 1);
    else
        sum = __atomic_load_n(&csum_now, __ATOMIC_ACQUIRE)->copy(dst, src, even);
    if (n & 1)
        dst[even] = last = src[even];
    return csum_finish(sum, n & 1, last, acc);
}

#endif
