/* Plain C checksum loops to measure fastpath.csum against: what a good C programmer writes, each
 * level by target attribute, compiled without -march by bench_csum.py. Nothing here is shipped. */
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

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

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        uint16_t (*fn)(const uint8_t *, size_t);
    } all[] = {{"loop_sse2", loop_sse2}, {"loop_avx2", loop_avx2}, {"intrin_avx2", intrin_avx2}};
    size_t n = argc > 1 ? strtoul(argv[1], NULL, 0) : 1500;
    double seconds = argc > 2 ? atof(argv[2]) : 0.2;
    uint8_t *p = malloc(n + 64);
    volatile uint16_t sink = 0;

    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(i * 31 + 7);
    for (size_t k = 0; k < sizeof(all) / sizeof(all[0]); k++) {
        double best = 1e9, end;
        long reps = 1 + (long)(2e6 / (n + 64));

        if (k && !__builtin_cpu_supports("avx2"))
            continue;
        end = now() + seconds;
        do {
            double t = now();
            for (long i = 0; i < reps; i++)
                sink ^= all[k].fn(p, n);
            t = (now() - t) / reps;
            best = t < best ? t : best;
        } while (now() < end);
        printf("%s %.4f %04x\n", all[k].name, best * 1e9, all[k].fn(p, n));
    }
    free(p);
    return 0;
}
