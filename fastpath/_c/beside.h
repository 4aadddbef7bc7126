/* What two threads that share one device need: a lock, a clock, a way to sleep and to be woken. */
#ifndef E1000EMU_BESIDE_H
#define E1000EMU_BESIDE_H

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

typedef pthread_mutex_t e1k_mutex;

/* Recursive: a register hook may call the bus access functions, which take it again. */
static inline void e1k_mutex_init(e1k_mutex *m)
{
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(m, &attr);
    pthread_mutexattr_destroy(&attr);
}

static inline void e1k_mutex_destroy(e1k_mutex *m) { pthread_mutex_destroy(m); }
static inline void e1k_lock(e1k_mutex *m) { pthread_mutex_lock(m); }
static inline int e1k_trylock(e1k_mutex *m) { return pthread_mutex_trylock(m) == 0; }
static inline void e1k_unlock(e1k_mutex *m) { pthread_mutex_unlock(m); }

/* CLOCK_MONOTONIC, as Python's time.monotonic_ns(). */
static inline int64_t e1k_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline int e1k_get(const int *p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
static inline void e1k_put(int *p, int v) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }
static inline int e1k_swap(int *p, int v) { return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST); }
/* Add 1 to a counter that several threads move. */
static inline void e1k_count(uint64_t *p) { __atomic_fetch_add(p, 1, __ATOMIC_RELAXED); }
static inline void e1k_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

/* Sleep while *p is v; a thread that changes it calls e1k_changed(). */
static inline void e1k_wait_while(int *p, int v)
{
    while (e1k_get(p) == v)
        syscall(SYS_futex, p, FUTEX_WAIT_PRIVATE, v, NULL, NULL, 0);
}

static inline void e1k_changed(int *p)
{
    syscall(SYS_futex, p, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* A pause in a loop that polls memory which another processor writes. */
static inline void e1k_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* Ask for a time slice of 0.1 ms instead of about 3: the scheduler then runs the thread sooner after
 * a wake-up (EEVDF, Linux 6.12 and newer; older kernels ignore it). */
static inline void e1k_short_slice(void)
{
#ifdef SYS_sched_setattr
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attr = {48, 0, 0, 0, 0, 100000, 0, 0};
    long r = syscall(SYS_sched_getattr, 0, &attr, 48, 0);
    if (r != 0 || attr.policy != 0)
        return;                     /* the thread has another policy already: leave it */
    attr.size = 48;
    attr.flags = 0;
    attr.runtime = 100000;
    r = syscall(SYS_sched_setattr, 0, &attr, 0);
    (void)r;
#endif
}

/* Add 1 to an eventfd. A full counter is no error: its reader wakes all the same. */
static inline void e1k_event(int fd)
{
    uint64_t one = 1;
    ssize_t n = write(fd, &one, sizeof one);
    (void)n;
}

static inline void e1k_event_clear(int fd)
{
    uint64_t value;
    ssize_t n = read(fd, &value, sizeof value);
    (void)n;
}

/* Close a descriptor, if it is open. */
static inline void e1k_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

#endif
