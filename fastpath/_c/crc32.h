/* Ethernet FCS (IEEE 802.3 3.2.9): CRC-32, reflected, polynomial 04C11DB7.
 *
 * crc32_update(crc, p, n) continues a CRC as zlib's crc32() does. Three bodies: slicing by 8 (any machine), carry-less
 * multiplication over 4 x 16 bytes (PCLMULQDQ) and over 4 x 64 bytes (VPCLMULQDQ with AVX-512), chosen once by
 * crc32_init(). Folding constants are computed, not written down: a fold over D bits multiplies the two halves of
 * the reflected accumulator by x^(D+32) and x^(D-32) mod P (Gopal et al., Intel 2009). */
#ifndef E1000EMU_CRC32_H
#define E1000EMU_CRC32_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "bytes.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define CRC32_X86 1
#include <immintrin.h>
#endif

static uint32_t crc32_table[8][256];
static int crc32_level;                 /* 0 slicing, 1 pclmul, 2 vpclmul */
static int crc32_ready;

static uint32_t crc32_slice8(uint32_t c, const uint8_t *p, size_t n)
{
    uint64_t v;
    while (n >= 8) {
        v = ld64le(p) ^ c;
        c = crc32_table[7][v & 0xFF] ^ crc32_table[6][v >> 8 & 0xFF] ^ crc32_table[5][v >> 16 & 0xFF]
            ^ crc32_table[4][v >> 24 & 0xFF] ^ crc32_table[3][v >> 32 & 0xFF] ^ crc32_table[2][v >> 40 & 0xFF]
            ^ crc32_table[1][v >> 48 & 0xFF] ^ crc32_table[0][v >> 56];
        p += 8;
        n -= 8;
    }
    while (n--)
        c = crc32_table[0][(c ^ *p++) & 0xFF] ^ c >> 8;
    return c;
}

#ifdef CRC32_X86
static uint64_t crc32_k[7];             /* pairs for folds over 128, 512 and 2048 bits; x^64 */

/* bit-reversed x^n mod P, shifted left once: the form that a reflected carry-less product wants */
static uint64_t crc32_xpow(int n)
{
    uint32_t r = 0x80000000u;           /* x^0, reflected */
    while (n--)
        r = (r >> 1) ^ (r & 1 ? 0xEDB88320u : 0);
    return (uint64_t)r << 1;
}

#define CRC32_T1 __attribute__((target("pclmul,sse4.1")))
#define CRC32_T2 __attribute__((target("pclmul,sse4.1,avx512f,avx512vl,avx512dq,avx512bw,vpclmulqdq")))

CRC32_T1 static inline __m128i crc32_fold1(__m128i x, __m128i k, __m128i next)
{
    return _mm_xor_si128(_mm_xor_si128(_mm_clmulepi64_si128(x, k, 0x00), _mm_clmulepi64_si128(x, k, 0x11)), next);
}

static const uint8_t crc32_shuffle[48] = {
    [0 ... 15] = 0x80, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, [32 ... 47] = 0x80,
};

/* 16 accumulated bytes to the CRC register: fold to 64 bits, then Barrett */
CRC32_T1 static inline uint32_t crc32_reduce(__m128i x)
{
    const __m128i mask = _mm_setr_epi32(-1, 0, -1, 0);
    const __m128i k34 = _mm_set_epi64x((long long)crc32_k[1], (long long)crc32_k[0]);
    const __m128i k5 = _mm_set_epi64x(0, (long long)crc32_k[6]);
    const __m128i poly = _mm_set_epi64x(0x1F7011641LL, 0x1DB710641LL);
    __m128i t = _mm_clmulepi64_si128(x, k34, 0x10);
    x = _mm_xor_si128(_mm_srli_si128(x, 8), t);
    t = _mm_srli_si128(x, 4);
    x = _mm_xor_si128(_mm_clmulepi64_si128(_mm_and_si128(x, mask), k5, 0x00), t);
    t = _mm_and_si128(_mm_clmulepi64_si128(_mm_and_si128(x, mask), poly, 0x10), mask);
    x = _mm_xor_si128(x, _mm_clmulepi64_si128(t, poly, 0x00));
    return (uint32_t)_mm_extract_epi32(x, 1);
}

CRC32_T1 static inline uint32_t crc32_tail(__m128i x, const uint8_t *p, size_t n)
{
    const __m128i k128 = _mm_set_epi64x((long long)crc32_k[1], (long long)crc32_k[0]);
    while (n >= 16) {
        x = crc32_fold1(x, k128, _mm_loadu_si128((const __m128i *)p));
        p += 16;
        n -= 16;
    }
    if (n) {
        /* n of 1..15 bytes are left: regard the 16 + n bytes as two blocks that end where the message ends. Zeros in
         * front change nothing; the last 16 bytes of the message are readable, since 16 have been taken. */
        const __m128i front = _mm_loadu_si128((const __m128i *)(crc32_shuffle + n));
        const __m128i back = _mm_loadu_si128((const __m128i *)(crc32_shuffle + 16 + n));
        const __m128i last = _mm_loadu_si128((const __m128i *)(p + n - 16));
        x = crc32_fold1(_mm_shuffle_epi8(x, front), k128, _mm_blendv_epi8(last, _mm_shuffle_epi8(x, back), front));
    }
    return crc32_reduce(x);
}

CRC32_T1 static uint32_t crc32_pclmul(uint32_t c, const uint8_t *p, size_t n)
{
    const __m128i k128 = _mm_set_epi64x((long long)crc32_k[1], (long long)crc32_k[0]);
    const __m128i k512 = _mm_set_epi64x((long long)crc32_k[3], (long long)crc32_k[2]);
    __m128i a, b, d, e;
    if (n < 16)
        return crc32_slice8(c, p, n);
    a = _mm_xor_si128(_mm_loadu_si128((const __m128i *)p), _mm_cvtsi32_si128((int)c));
    p += 16;
    n -= 16;
    if (n >= 112) {
        b = _mm_loadu_si128((const __m128i *)p);
        d = _mm_loadu_si128((const __m128i *)(p + 16));
        e = _mm_loadu_si128((const __m128i *)(p + 32));
        p += 48;
        n -= 48;
        while (n >= 64) {
            a = crc32_fold1(a, k512, _mm_loadu_si128((const __m128i *)p));
            b = crc32_fold1(b, k512, _mm_loadu_si128((const __m128i *)(p + 16)));
            d = crc32_fold1(d, k512, _mm_loadu_si128((const __m128i *)(p + 32)));
            e = crc32_fold1(e, k512, _mm_loadu_si128((const __m128i *)(p + 48)));
            p += 64;
            n -= 64;
        }
        a = crc32_fold1(a, k128, b);
        a = crc32_fold1(a, k128, d);
        a = crc32_fold1(a, k128, e);
    }
    return crc32_tail(a, p, n);
}

CRC32_T2 static inline __m512i crc32_fold4(__m512i x, __m512i k, __m512i next)
{
    return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(x, k, 0x00), _mm512_clmulepi64_epi128(x, k, 0x11),
                                     next, 0x96);
}

CRC32_T2 static uint32_t crc32_vpclmul(uint32_t c, const uint8_t *p, size_t n)
{
    const __m128i k128 = _mm_set_epi64x((long long)crc32_k[1], (long long)crc32_k[0]);
    const __m512i k512 = _mm512_broadcast_i64x2(_mm_set_epi64x((long long)crc32_k[3], (long long)crc32_k[2]));
    const __m512i k2048 = _mm512_broadcast_i64x2(_mm_set_epi64x((long long)crc32_k[5], (long long)crc32_k[4]));
    __m512i a, b, d, e;
    __m128i x;
    if (n < 128)
        return crc32_pclmul(c, p, n);
    a = _mm512_xor_si512(_mm512_loadu_si512(p), _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)c)));
    p += 64;
    n -= 64;
    if (n >= 448) {
        b = _mm512_loadu_si512(p);
        d = _mm512_loadu_si512(p + 64);
        e = _mm512_loadu_si512(p + 128);
        p += 192;
        n -= 192;
        while (n >= 256) {
            a = crc32_fold4(a, k2048, _mm512_loadu_si512(p));
            b = crc32_fold4(b, k2048, _mm512_loadu_si512(p + 64));
            d = crc32_fold4(d, k2048, _mm512_loadu_si512(p + 128));
            e = crc32_fold4(e, k2048, _mm512_loadu_si512(p + 192));
            p += 256;
            n -= 256;
        }
        a = crc32_fold4(a, k512, b);
        a = crc32_fold4(a, k512, d);
        a = crc32_fold4(a, k512, e);
    }
    while (n >= 64) {
        a = crc32_fold4(a, k512, _mm512_loadu_si512(p));
        p += 64;
        n -= 64;
    }
    x = _mm512_extracti32x4_epi32(a, 0);
    x = crc32_fold1(x, k128, _mm512_extracti32x4_epi32(a, 1));
    x = crc32_fold1(x, k128, _mm512_extracti32x4_epi32(a, 2));
    x = crc32_fold1(x, k128, _mm512_extracti32x4_epi32(a, 3));
    return crc32_tail(x, p, n);
}
#endif

static inline uint32_t crc32_update(uint32_t crc, const uint8_t *p, size_t n)
{
    crc = ~crc;
#ifdef CRC32_X86
    if (crc32_level == 2)
        return ~crc32_vpclmul(crc, p, n);
    if (crc32_level == 1)
        return ~crc32_pclmul(crc, p, n);
#endif
    return ~crc32_slice8(crc, p, n);
}

/* Widest body that this machine runs. */
static int crc32_best(void)
{
#ifdef CRC32_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
        return 2;
    if (__builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1"))
        return 1;
#endif
    return 0;
}

static void crc32_init(void)
{
    int i, k;
    uint32_t c;
    if (crc32_ready)
        return;
    for (i = 0; i < 256; i++) {
        c = (uint32_t)i;
        for (k = 0; k < 8; k++)
            c = (c >> 1) ^ (c & 1 ? 0xEDB88320u : 0);
        crc32_table[0][i] = c;
    }
    for (i = 0; i < 256; i++)
        for (k = 1; k < 8; k++)
            crc32_table[k][i] = crc32_table[0][crc32_table[k - 1][i] & 0xFF] ^ crc32_table[k - 1][i] >> 8;
#ifdef CRC32_X86
    for (i = 0; i < 3; i++) {           /* folds over 128, 512, 2048 bits */
        crc32_k[2 * i] = crc32_xpow((128 << 2 * i) + 32);
        crc32_k[2 * i + 1] = crc32_xpow((128 << 2 * i) - 32);
    }
    crc32_k[6] = crc32_xpow(64);
#endif
    crc32_level = crc32_best();
    crc32_ready = 1;
}

#endif
