/* SipHash-2-4 (Aumasson and Bernstein, 2012): a short hash, unpredictable without its key. */
#ifndef E1000EMU_SIPHASH_H
#define E1000EMU_SIPHASH_H

#include <stdint.h>
#include <string.h>

#define SIP_ROTATE(x, n) ((x) << (n) | (x) >> (64 - (n)))
#define SIP_ROUND(v)                                                                               \
    do {                                                                                           \
        v[0] += v[1];                                                                              \
        v[2] += v[3];                                                                              \
        v[1] = SIP_ROTATE(v[1], 13) ^ v[0];                                                        \
        v[3] = SIP_ROTATE(v[3], 16) ^ v[2];                                                        \
        v[0] = SIP_ROTATE(v[0], 32) + v[3];                                                        \
        v[2] += v[1];                                                                              \
        v[3] = SIP_ROTATE(v[3], 21) ^ v[0];                                                        \
        v[1] = SIP_ROTATE(v[1], 17) ^ v[2];                                                        \
        v[2] = SIP_ROTATE(v[2], 32);                                                               \
    } while (0)

/* The little-endian number in n bytes, 8 at most. */
static inline uint64_t sip_word(const uint8_t *p, size_t n)
{
    uint64_t word = 0;
    while (n--)
        word = word << 8 | p[n];
    return word;
}

static uint64_t siphash24(const uint8_t key[16], const uint8_t *data, size_t n)
{
    uint64_t k0 = sip_word(key, 8), k1 = sip_word(key + 8, 8), word;
    uint64_t v[4] = {k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261,
                     k1 ^ 0x7465646279746573};
    size_t left = n;
    int i;
    for (;; data += 8, left -= 8) {
        word = left >= 8 ? sip_word(data, 8) : sip_word(data, left) | (uint64_t)(n & 255) << 56;
        v[3] ^= word;
        SIP_ROUND(v);
        SIP_ROUND(v);
        v[0] ^= word;
        if (left < 8)
            break;
    }
    v[2] ^= 255;
    for (i = 0; i < 4; i++)
        SIP_ROUND(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#endif
