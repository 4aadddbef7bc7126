# cython: language_level=3
"""The event queue of clocks, for compiled callers of any clock."""

from libc.stdint cimport int64_t


cdef class TimerHandle:
    cdef readonly int64_t when
    cdef int64_t seq
    cdef public object fn


cdef class EventQueue:
    cdef list _ring                     # a power of two of places
    cdef Py_ssize_t _head, _count
    cdef list _heap, _background        # TimerHandle, a heap by (when, seq)
    cdef int64_t _seq
    cdef readonly int64_t events        # taken off so far, to be run
    cdef public object _time            # a function that tells it, in ns; None: CLOCK_MONOTONIC
    cdef bint _asked_now, _asked_soon   # a subclass has its own now_ns, call_soon
    cdef int64_t now(self) except? -1
    cdef int soon(self, object fn) except -1
    cdef int append(self, object fn) except -1
    cdef object popleft(self)
    cdef TimerHandle push(self, object when_ns, object fn, bint background)
    cdef TimerHandle top(self, bint take)


cdef class JumpQueue(EventQueue):
    cdef public int64_t _now
    cdef public int64_t _crowd          # events since time moved with nothing left to do
    cdef public list _tasks
    cdef public object _current         # the task that runs
    cdef public object _waiting         # ident of the thread inside the loop of `wait`
    cdef int64_t later(self) noexcept


cpdef int64_t clock_ns(object clock) except? -1
cpdef call_soon(object clock, object fn)
