/* Large tables of zeros of which mostly the beginning is used. Their pages cost nothing until they are written.
 *
 * calloc() clears what it takes from its heap, and so has thousands of devices commit tables that they never use. */
#ifndef E1000EMU_SPARSE_H
#define E1000EMU_SPARSE_H

#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define SPARSE_HEAP 1 /* the sanitizer finds accesses beyond the end */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SPARSE_HEAP 1
#endif
#endif

/* NULL: no memory. */
static inline void *sparse_alloc(size_t bytes)
{
#ifdef SPARSE_HEAP
    return calloc(bytes, 1);
#else
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
#ifdef MADV_NOHUGEPAGE
    madvise(p, bytes, MADV_NOHUGEPAGE); /* a huge page commits 2 MiB at once */
#endif
    return p;
#endif
}

static inline void sparse_free(void *p, size_t bytes)
{
    if (!p)
        return;
#ifdef SPARSE_HEAP
    (void)bytes;
    free(p);
#else
    munmap(p, bytes);
#endif
}
#endif
