# cython: language_level=3, embedsignature=True
"""The events of a clock: calls for now, in order, and calls for later, by time.

The clocks of ``e1000emu.clock`` are made of it. Compiled callers ask whatever clock they were given
through `clock_ns` and `call_soon`, which go straight to the queue where it is one of these. The
plain-Python twin is ``_ref/eventq.py``.

Call everything with the clock's lock held, but for `EventQueue.call_soon`, which any thread may.
"""

cimport cython
from cpython.list cimport PyList_Append, PyList_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t

from fastpath.errors import check_callable, whole_number

cdef extern from "Python.h":
    ctypedef struct PyListObject:
        PyObject **ob_item
    long long PyLong_AsLongLongAndOverflow(object v, int *overflow) except? -1

cdef extern from "beside.h":
    int64_t e1k_now_ns() noexcept nogil

cdef enum:
    FIRST_PLACES = 64
    # Events that a JumpQueue runs at one instant. Each one beyond takes time, as on every machine:
    # a microsecond, and twice as much after each further so many, up to a millisecond.
    _INSTANT_EVENTS = 1 << 16
    _EVENT_NS = 1000
    _EVENT_MAX_NS = 1000000

INSTANT_EVENTS = _INSTANT_EVENTS
EVENT_NS = _EVENT_NS
EVENT_MAX_NS = _EVENT_MAX_NS


cdef int64_t clip(object ns) except? -1:
    """An int as 64 bits; larger ones are cut to never or long ago."""
    cdef int overflow = 0
    cdef long long value = PyLong_AsLongLongAndOverflow(ns, &overflow)
    if overflow:
        return INT64_MAX if overflow > 0 else INT64_MIN
    return value


def nothing():
    """The work of a clock that the collector has cleared."""


cdef class TimerHandle:
    """One scheduled call. `cancel()` is O(1): the entry stays in the heap and is skipped.

    `when` is the time in ns, `fn` what is called, None once it was or will not be.
    """

    def __init__(self, when_ns, fn):
        if type(when_ns) is not int:    # also of a numpy.int64
            when_ns = whole_number("call_at", "when_ns", when_ns, unit="ns")
        self.when = clip(when_ns)
        self.fn = fn

    def cancel(self):
        """Make sure the call does not happen. Cancelling twice, or too late, is harmless."""
        self.fn = None

    @property
    def cancelled(self):
        return self.fn is None


cdef inline bint before(PyObject *a, PyObject *b) noexcept:
    cdef TimerHandle x = <TimerHandle>a, y = <TimerHandle>b
    return x.when < y.when or x.when == y.when and x.seq < y.seq


cdef int heap_push(list heap, TimerHandle handle) except -1:
    cdef Py_ssize_t at, up
    cdef PyObject **item
    PyList_Append(heap, handle)
    item = (<PyListObject *><PyObject *>heap).ob_item
    at = PyList_GET_SIZE(heap) - 1
    while at:
        up = (at - 1) >> 1
        if not before(item[at], item[up]):
            break
        item[at], item[up] = item[up], item[at]
        at = up
    return 0


cdef TimerHandle heap_pop(list heap):
    """The first of a heap that is not empty."""
    cdef Py_ssize_t n = PyList_GET_SIZE(heap) - 1, at = 0, down
    cdef PyObject **item = (<PyListObject *><PyObject *>heap).ob_item
    item[0], item[n] = item[n], item[0]
    while True:
        down = 2 * at + 1
        if down >= n:
            break
        if down + 1 < n and before(item[down + 1], item[down]):
            down += 1
        if not before(item[down], item[at]):
            break
        item[at], item[down] = item[down], item[at]
        at = down
    return <TimerHandle>heap.pop()


# The collector may clear an abandoned clock and then run objects that call it. Its lists are
# emptied, which breaks every cycle, but stay lists; a ring without places accepts no call.
@cython.no_gc_clear
cdef class EventQueue:
    """What the clocks share: a FIFO of calls for now, and calls for later in (time, order) order.

    By itself it tells monotonic time (CLOCK_MONOTONIC), or what `_time()` of a subclass gives.
    """

    threaded = False    # several threads may call in, holding the clock's lock

    def __cinit__(self, *args, **kwargs):
        self._ring = [None] * FIRST_PLACES
        self._heap = []
        self._background = []
        cls = type(self)
        self._asked_now = cls.now_ns not in (EventQueue.now_ns, JumpQueue.now_ns)
        self._asked_soon = cls.call_soon is not EventQueue.call_soon

    # --- time ---

    cdef int64_t now(self) except? -1:
        if self._asked_now:
            return self.now_ns()
        return e1k_now_ns() if self._time is None else self._time()

    def now_ns(self):
        """CLOCK_MONOTONIC in ns."""
        return e1k_now_ns() if self._time is None else self._time()

    # --- now ---

    cdef int soon(self, object fn) except -1:
        if self._asked_soon:
            self.call_soon(fn)
            return 0
        return self.append(fn)

    cdef int append(self, object fn) except -1:
        cdef Py_ssize_t size = PyList_GET_SIZE(self._ring), i
        cdef list bigger
        if not size:
            return 0
        while self._count == size:
            bigger = [None] * (2 * size)    # this may start the collector, which may call here
            if size == PyList_GET_SIZE(self._ring) == self._count:
                for i in range(size):
                    bigger[i] = self._ring[(self._head + i) & (size - 1)]
                self._ring = bigger
                self._head = 0
            size = PyList_GET_SIZE(self._ring)
        self._ring[(self._head + self._count) & (size - 1)] = fn
        self._count += 1
        return 0

    cdef object popleft(self):
        """The next call for now; there is one."""
        cdef Py_ssize_t at = self._head
        if not PyList_GET_SIZE(self._ring):
            self._count = 0
            return nothing
        fn = self._ring[at]
        self._ring[at] = None
        self._head = (at + 1) & (PyList_GET_SIZE(self._ring) - 1)
        self._count -= 1
        self.events += 1
        return fn

    def call_soon(self, fn):
        """Call `fn()` after the current event, at the same time, in FIFO order.

        Raises:
            ArgumentError: nothing to call.
        """
        if not callable(fn):
            check_callable("call_soon", "fn", fn)
        self.append(fn)

    @property
    def waiting_now(self):
        """How many calls for now wait."""
        return self._count

    # --- later ---

    cdef TimerHandle push(self, object when_ns, object fn, bint background):
        cdef TimerHandle handle = TimerHandle.__new__(TimerHandle)
        if type(when_ns) is not int:
            when_ns = whole_number("call_at", "when_ns", when_ns, unit="ns")
        handle.when = clip(when_ns)
        handle.fn = fn
        self._seq += 1
        handle.seq = self._seq
        heap_push(self._background if background else self._heap, handle)
        return handle

    def call_at(self, when_ns, fn, *, bint background=False):
        """Call `fn()` at `when_ns` (a time past means: as soon as possible, after `call_soon`s).

        `background` marks housekeeping that alone must not keep a waiting call alive.

        Raises:
            ArgumentError: not a whole number, nothing to call.
        """
        if not callable(fn):
            check_callable("call_at", "fn", fn)
        return self.push(when_ns, fn, background)

    def cancel(self, TimerHandle handle not None):
        """Cancel a `call_at`."""
        handle.fn = None

    cdef TimerHandle top(self, bint take):
        """The earliest call that is not cancelled, or None; `take` it off its heap."""
        cdef list heap = self._heap, back = self._background
        while PyList_GET_SIZE(heap) and (<TimerHandle>heap[0]).fn is None:
            heap_pop(heap)
        while PyList_GET_SIZE(back) and (<TimerHandle>back[0]).fn is None:
            heap_pop(back)
        if PyList_GET_SIZE(back) and not (
            PyList_GET_SIZE(heap)
            and before(<PyObject *>heap[0], <PyObject *>back[0])
        ):
            heap = back
        elif not PyList_GET_SIZE(heap):
            return None
        if take:
            self.events += 1
            return heap_pop(heap)
        return <TimerHandle>heap[0]

    def next_ns(self):
        """Time (ns) of the earliest scheduled call, None without one (`call_soon` aside)."""
        cdef TimerHandle top = self.top(False)
        return None if top is None else top.when

    def only_background(self):
        """Whether nothing but housekeeping is scheduled, or nothing at all (`call_soon` aside)."""
        self.top(False)
        return not self._heap

    def pending(self):
        """The scheduled calls, in no order; none of background."""
        return [handle for handle in self._heap if (<TimerHandle>handle).fn is not None]

    def run_expired(self, now_ns):
        """Run what is due at `now_ns`: FIFO first, then timers by time. Returns events run."""
        cdef TimerHandle handle
        cdef int64_t now = clip(now_ns)
        cdef Py_ssize_t ran = 0, _i
        while True:
            # Only the calls present now: one that re-queues itself must not starve the poll.
            for _i in range(self._count):
                if not self._count:     # one of them waited, and a turn within it ran the rest
                    break
                self.popleft()()
                ran += 1
            handle = self.top(False)
            if handle is None or handle.when > now:
                return ran
            self.top(True)
            fn = handle.fn
            handle.fn = None
            fn()
            ran += 1

    def clear(self):
        """Forget every call."""
        self._ring = [None] * FIRST_PLACES
        self._head = self._count = 0
        self._heap = []
        self._background = []


@cython.no_gc_clear
cdef class JumpQueue(EventQueue):
    """An event queue whose time jumps from event to event.

    Events take no time, so two ports that answer each other without delay would never let time
    advance. After `INSTANT_EVENTS` at one instant events do take time, until none is due.

    A subclass has cooperative tasks: `_tasks`, and the one that runs, `_current`; `_in_task()`,
    `_task_wait(task, cond, timeout_ns)`. `_check_thread()` refuses a second thread, and
    `_run_on(cond, deadline)` runs what `wait` has not run itself.
    """

    def __init__(self, int64_t start_ns=0):
        self._now = start_ns
        self._tasks = []

    cdef int64_t now(self) except? -1:
        return self.now_ns() if self._asked_now else self._now

    def now_ns(self):
        """Virtual time in ns."""
        return self._now

    cdef int64_t later(self) noexcept:
        """The time when an event ends that is one too many for this instant."""
        cdef int64_t step = self._crowd // _INSTANT_EVENTS - 1
        step = min(_EVENT_NS << min(max(step, 0), 10), _EVENT_MAX_NS)
        return self._now + step if self._now < INT64_MAX - step else INT64_MAX

    def after_event(self):
        """The time (ns) when an event ends that is one too many for this instant."""
        return self.later()

    def run_now(self):
        """Run one of the calls for now. False without one, and when events take time already."""
        if not self._count or self._crowd >= _INSTANT_EVENTS:
            return False
        self._crowd += 1
        self.popleft()()
        return True

    def take(self, limit_ns):
        """Take the next event off, and move time to it; None when there is none up to `limit_ns`.

        Calls for now are left where they are when time itself has to move beyond the limit.
        """
        cdef TimerHandle top
        cdef int64_t now = self._now
        cdef int64_t limit = INT64_MAX if limit_ns is None else clip(limit_ns)
        cdef bint limited = limit_ns is not None
        self._crowd += 1
        if self._crowd > _INSTANT_EVENTS:
            now = self.later()
        elif self._count:
            return self.popleft()
        top = self.top(False)
        if self._count:
            if limited and now > limit:
                return None
            # Calls that are due by then take turns with a queue that may never end.
            if top is None or top.when > now or self._crowd & 1:
                self._now = now
                return self.popleft()
        elif top is None or (limited and max(top.when, now) > limit):
            return None
        elif top.when > now:
            self._crowd = 0
        if top.when > self._now:
            self._now = top.when
        elif not self._count:
            self._now = now
        self.top(True)
        fn = top.fn
        top.fn = None
        return fn

    def wait(self, cond, timeout_ns=None):
        """Run events until `cond()` holds; False when `timeout_ns` passes first.

        Raises:
            SimulationDeadlock: no timeout, and nothing is left that could make it true.
        """
        cdef int64_t left
        if self._current is not None and self._in_task():
            return self._task_wait(self._current, cond, timeout_ns)
        if self._waiting is not None:
            self._check_thread()
        if cond():
            return True
        deadline = None
        if timeout_ns is not None:
            deadline = self._now + timeout_ns
            if timeout_ns <= 0:
                self._crowd = 0     # it may not move time: it has events of its own
        if not self._tasks:
            left = _INSTANT_EVENTS - self._crowd
            while self._count and left > 0:     # most waits end here: their event is under way
                left -= 1
                self.popleft()()
                if cond():
                    self._crowd = _INSTANT_EVENTS - left
                    return True
            self._crowd = _INSTANT_EVENTS - left
        return self._run_on(cond, deadline)


cpdef int64_t clock_ns(object clock) except? -1:
    """The time in ns of any clock: `clock.now_ns()`."""
    if isinstance(clock, EventQueue):
        return (<EventQueue>clock).now()
    return clock.now_ns()


cpdef call_soon(object clock, object fn):
    """Have any clock call `fn()` after the current event: `clock.call_soon(fn)`."""
    if isinstance(clock, EventQueue):
        (<EventQueue>clock).soon(fn)
    else:
        clock.call_soon(fn)
