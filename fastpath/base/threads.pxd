# cython: language_level=3
"""What threads that share one device need: a lock, a clock, a way to sleep and to be woken."""

from libc.stdint cimport int64_t, uint64_t

cdef extern from "beside.h" nogil:
    ctypedef struct e1k_mutex:
        pass
    void e1k_mutex_init(e1k_mutex *m)
    void e1k_mutex_destroy(e1k_mutex *m)
    void e1k_lock(e1k_mutex *m)
    bint e1k_trylock(e1k_mutex *m)
    void e1k_unlock(e1k_mutex *m)
    int64_t e1k_now_ns()
    int e1k_get(const int *p)
    void e1k_put(int *p, int v)
    int e1k_swap(int *p, int v)
    void e1k_count(uint64_t *p)
    void e1k_fence()
    void e1k_wait_while(int *p, int v)
    void e1k_changed(int *p)
    void e1k_event(int fd)
    void e1k_event_clear(int fd)
    void e1k_close(int *fd)

cdef inline void e1k_lock_gil(e1k_mutex *m) noexcept:
    """Lock with the GIL held; whoever has the mutex may have been preempted: others run then."""
    if not e1k_trylock(m):
        with nogil:
            e1k_lock(m)
