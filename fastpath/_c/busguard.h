/* Shared memory that another process truncates: accesses beyond the new end read zeros.
 *
 * A file mapped by two processes can be truncated by either; the other's next access beyond the new
 * end is a SIGBUS (mmap(2)). This handler knows the mappings that other processes gave us. It maps
 * zeroed private memory in place of the missing pages, counts them, and lets the access go on. Other
 * SIGBUS signals go to the previous handler. It takes no lock and allocates nothing, so it is
 * async-signal-safe. */
#ifndef E1K_BUSGUARD_H
#define E1K_BUSGUARD_H

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif

#define BG_SLOTS 4096

struct bg_slot {
    uintptr_t start;            /* 0: free; written last, read first */
    uintptr_t end;
    uintptr_t page;             /* bytes replaced at a time: the mapping's page size */
    uint64_t faults;
};

static struct bg_slot bg_slots[BG_SLOTS];
static int bg_used;             /* slots at and above were never taken */
static struct sigaction bg_before;
static int bg_passing;

/* Call the previous handler; a nested call means that it has called us. */
static void bg_pass(int sig, siginfo_t *info, void *context) {
    struct sigaction plain;
    if (!__atomic_exchange_n(&bg_passing, 1, __ATOMIC_ACQ_REL)) {
        if (bg_before.sa_flags & SA_SIGINFO) {
            bg_before.sa_sigaction(sig, info, context);
            __atomic_store_n(&bg_passing, 0, __ATOMIC_RELEASE);
            return;
        }
        if (bg_before.sa_handler != SIG_DFL && bg_before.sa_handler != SIG_IGN) {
            bg_before.sa_handler(sig);
            __atomic_store_n(&bg_passing, 0, __ATOMIC_RELEASE);
            return;
        }
    }
    memset(&plain, 0, sizeof plain);
    plain.sa_handler = SIG_DFL;
    sigaction(sig, &plain, NULL);
    raise(sig);                 /* not every SIGBUS repeats when the handler returns */
}

static void bg_handler(int sig, siginfo_t *info, void *context) {
    uintptr_t at = (uintptr_t)info->si_addr, from, to;
    int saved = errno, used = __atomic_load_n(&bg_used, __ATOMIC_ACQUIRE);
    struct bg_slot *s;
    if (info->si_code == BUS_ADRERR) {  /* no memory error, and not from kill(2) */
        for (s = bg_slots; s < bg_slots + used; s++) {
            uintptr_t start = __atomic_load_n(&s->start, __ATOMIC_ACQUIRE);
            if (!start || at < start || at >= s->end)
                continue;
            from = at - (at - start) % s->page;
            to = s->end - from > s->page ? from + s->page : s->end;
            if (mmap((void *)from, to - from, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
                break;
            __atomic_fetch_add(&s->faults, 1, __ATOMIC_RELAXED);
            errno = saved;
            return;
        }
    }
    bg_pass(sig, info, context);
    errno = saved;
}

/* Install our handler, again if another one (faulthandler's, for example) was installed since.
 * Returns -1 with errno. */
static int bg_install(void) {
    struct sigaction now, ours;
    if (sigaction(SIGBUS, NULL, &now))
        return -1;
    if (now.sa_flags & SA_SIGINFO && now.sa_sigaction == bg_handler)
        return 0;
    memset(&ours, 0, sizeof ours);
    ours.sa_sigaction = bg_handler;
    /* NODEFER: the previous handler may fault or raise */
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    bg_before = now;
    return sigaction(SIGBUS, &ours, NULL);
}

/* Guard [p, p + n); returns its slot, or -1 with errno. Call with the GIL held. */
static int bg_add(const void *p, size_t n, size_t page) {
    int i;
    if (bg_install())
        return -1;
    for (i = 0; i < bg_used && bg_slots[i].start; i++)
        ;
    if (i == BG_SLOTS) {
        errno = ENOSPC;
        return -1;
    }
    bg_slots[i].end = (uintptr_t)p + n;
    bg_slots[i].page = page;
    bg_slots[i].faults = 0;
    __atomic_store_n(&bg_slots[i].start, (uintptr_t)p, __ATOMIC_RELEASE);
    if (i == bg_used)
        __atomic_store_n(&bg_used, i + 1, __ATOMIC_RELEASE);
    return i;
}

static uint64_t bg_faults(int slot) {
    return __atomic_load_n(&bg_slots[slot].faults, __ATOMIC_RELAXED);
}

static uint64_t bg_remove(int slot) {
    __atomic_store_n(&bg_slots[slot].start, 0, __ATOMIC_RELEASE);
    return bg_faults(slot);
}

#endif
