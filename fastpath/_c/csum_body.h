/* One vectorised sum loop, included once for each vector width by csum_simd.h.
 *
 * The includer defines CSUM_NAME (function), CSUM_TARGET (attribute or nothing), CSUM_VBYTES
 * (16, 32 or 64) and CSUM_COPY (0 or 1).
 *
 * Three instructions for a vector: with x a lane of 32 bits, `s += x` and `h += x >> 16` keep the
 * sum of both halves. For the sum of the low halves is s - (h << 16) modulo 2^32, and it is smaller than
 * 2^32 as long as a lane takes fewer than 65536 values. CSUM_BLOCK sees to that.
 *
 * n is even and at least CSUM_VBYTES. Returns the sum of the 16-bit words in the machine's own byte
 * order, not folded. The copying form writes every byte of dst[0..n) and nothing else.
 */
CSUM_TARGET static uint64_t CSUM_NAME(uint8_t *dst, const uint8_t *src, size_t n)
{
    typedef uint32_t vec __attribute__((vector_size(CSUM_VBYTES)));
    enum { LANES = CSUM_VBYTES / 4 };
    uint64_t total = 0;

#define CSUM_LOAD(x, i)                                                                            \
    do {                                                                                           \
        memcpy(&(x), src + (i) * CSUM_VBYTES, CSUM_VBYTES);                                        \
        if (CSUM_COPY)                                                                             \
            memcpy(dst + (i) * CSUM_VBYTES, &(x), CSUM_VBYTES);                                    \
    } while (0)

    while (n) {
        size_t left = n < CSUM_BLOCK ? n : CSUM_BLOCK;
        vec s0 = {0}, s1 = {0}, h0 = {0}, h1 = {0}, s2 = {0}, s3 = {0}, h2 = {0}, h3 = {0};
        vec a, b, c, d;

        n -= left;
        for (; left >= 4 * CSUM_VBYTES; left -= 4 * CSUM_VBYTES) {
            CSUM_LOAD(a, 0);
            CSUM_LOAD(b, 1);
            CSUM_LOAD(c, 2);
            CSUM_LOAD(d, 3);
            s0 += a;
            h0 += a >> 16;
            s1 += b;
            h1 += b >> 16;
            s2 += c;
            h2 += c >> 16;
            s3 += d;
            h3 += d >> 16;
            src += 4 * CSUM_VBYTES;
            if (CSUM_COPY)
                dst += 4 * CSUM_VBYTES;
        }
        for (; left >= CSUM_VBYTES; left -= CSUM_VBYTES) {
            CSUM_LOAD(a, 0);
            s0 += a;
            h0 += a >> 16;
            src += CSUM_VBYTES;
            if (CSUM_COPY)
                dst += CSUM_VBYTES;
        }
        if (left) {
            /* Only in the last block, so n >= CSUM_VBYTES bytes lie before the end: load the last
             * full vector again and blank what was summed already. */
            memcpy(&a, src + left - CSUM_VBYTES, CSUM_VBYTES);
            if (CSUM_COPY) {
                memcpy(dst + left - CSUM_VBYTES, &a, CSUM_VBYTES);
                dst += left;
            }
            memcpy(&b, csum_tail_mask + 64 - CSUM_VBYTES + left, CSUM_VBYTES);
            a &= b;
            s1 += a;
            h1 += a >> 16;
            src += left;
        }
        s0 += s1;
        s2 += s3;
        h0 += h1;
        h2 += h3;
        s0 += s2;
        h0 += h2;
        s0 -= h0 << 16; /* now the sum of the low halves */
        {
            uint32_t lo[LANES], hi[LANES];
            uint64_t sum = 0;

            memcpy(lo, &s0, sizeof(lo));
            memcpy(hi, &h0, sizeof(hi));
            for (int i = 0; i < LANES; i++)
                sum += (uint64_t)lo[i] + hi[i];
            total += sum;
        }
    }
    return total;
#undef CSUM_LOAD
}

#undef CSUM_NAME
#undef CSUM_TARGET
#undef CSUM_VBYTES
#undef CSUM_COPY
