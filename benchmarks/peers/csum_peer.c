/* Plain C checksum loops to measure fastpath.base.csum against: what a good C programmer writes, each
 * level by target attribute. Compiled without -march as a shared object and called by rows/peer.py. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

static uint16_t fold(uint64_t s)
{
    while (s >> 16)
        s = (s & 0xffff) + (s >> 16);
    return (uint16_t)s;
}

static uint64_t tail(const uint8_t *p, size_t n)
{
    uint64_t s = 0;
    uint16_t h;
    for (; n >= 2; n -= 2, p += 2) {
        memcpy(&h, p, 2);
        s += h;
    }
    return s + (n ? *p : 0);
}

#define U32_LOOP(NAME, TARGET)                                                                     \
    TARGET __attribute__((noinline)) uint16_t NAME(const uint8_t *p, size_t n)                     \
    {                                                                                              \
        uint64_t s = 0;                                                                            \
        size_t i, words = n / 4;                                                                   \
        for (i = 0; i < words; i++) {                                                              \
            uint32_t w;                                                                            \
            memcpy(&w, p + 4 * i, 4);                                                              \
            s += w;                                                                                \
        }                                                                                          \
        return fold(s + tail(p + 4 * words, n - 4 * words));                                       \
    }
U32_LOOP(loop_sse2, )
U32_LOOP(loop_avx2, __attribute__((target("avx2"))))

/* AVX2 intrinsics, four accumulators: the best AVX2 loop known to us. */
__attribute__((target("avx2"), noinline)) uint16_t intrin_avx2(const uint8_t *p, size_t n)
{
    const __m256i low = _mm256_set1_epi64x(0xffffffff);
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    uint64_t t[4];

    for (; n >= 64; n -= 64, p += 64) {
        __m256i x = _mm256_loadu_si256((const void *)p), y = _mm256_loadu_si256((const void *)(p + 32));
        a = _mm256_add_epi64(a, _mm256_and_si256(x, low));
        b = _mm256_add_epi64(b, _mm256_srli_epi64(x, 32));
        c = _mm256_add_epi64(c, _mm256_and_si256(y, low));
        d = _mm256_add_epi64(d, _mm256_srli_epi64(y, 32));
    }
    a = _mm256_add_epi64(_mm256_add_epi64(a, b), _mm256_add_epi64(c, d));
    _mm256_storeu_si256((void *)t, a);
    return fold((uint64_t)fold(t[0]) + fold(t[1]) + fold(t[2]) + fold(t[3]) + tail(p, n));
}

/* Sum `n` bytes `times` times with the loop of that name and return the last sum; -1: not on this processor. */
int csum_peer(const char *name, const uint8_t *p, size_t n, long times)
{
    static const struct {
        const char *name;
        uint16_t (*fn)(const uint8_t *, size_t);
    } all[] = {{"loop_sse2", loop_sse2}, {"loop_avx2", loop_avx2}, {"intrin_avx2", intrin_avx2}};
    volatile uint16_t sink = 0;

    for (size_t k = 0; k < sizeof(all) / sizeof(all[0]); k++) {
        if (strcmp(name, all[k].name) || (k && !__builtin_cpu_supports("avx2")))
            continue;
        for (long i = 0; i < times; i++)
            sink = all[k].fn(p, n);
        return sink;
    }
    return -1;
}
