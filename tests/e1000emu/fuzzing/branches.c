/* What gcc's -fsanitize-coverage=trace-pc calls at each branch: a table of counters, as AFL has it.

   scripts/test-asan compiles this and loads it before Python; feedback.py reads it by ctypes. Threads
   count without a lock: a count that is lost now and then makes no difference to a fuzzer. */

#include <stddef.h>
#include <stdint.h>

#define BITS 16
static uint8_t counts[1 << BITS];
static __thread uintptr_t before;

void __sanitizer_cov_trace_pc(void)
{
    uintptr_t here = (uintptr_t)__builtin_return_address(0);
    uint32_t at = (uint32_t)((here ^ before << 1) * 0x9E3779B97F4A7C15ULL >> (64 - BITS));
    if (counts[at] != 255)
        counts[at]++;
    before = here;
}

/* Store at most `room` numbers, one for each branch that ran and how often it did, in powers of two;
   return how many, and forget them. */
size_t e1000emu_branches_take(uint32_t *out, size_t room)
{
    size_t n = 0;
    for (uint32_t at = 0; at < 1 << BITS; at++) {
        if (counts[at] && n < room)
            out[n++] = at << 4 | (uint32_t)(32 - __builtin_clz(counts[at]));
        counts[at] = 0;
    }
    return n;
}
