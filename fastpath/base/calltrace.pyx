# cython: language_level=3, embedsignature=True
"""Record which Python functions call which, and when, at little cost.

The recorder replaces the interpreter's frame evaluation (PEP 523) for one thread: it takes a time
stamp before and after each call. Unlike a profile hook (`sys.setprofile`) it does not slow the
bytecode: no event for each call of a built-in, no slow mode of the evaluation loop (CPython 3.11).
The plain-Python twin, ``_ref/calltrace.py``, uses such a hook.
"""

from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc, realloc

cdef extern from *:
    """
    #include "pyframe.h"
    #include <time.h>

    typedef struct {
        PyObject *code;          /* owned */
        int64_t start_ns, end_ns;
        uint32_t depth, skipped; /* calls inside that are not recorded, their callees not counted */
    } e1k_call;

    static inline int64_t e1k_now_ns(void)
    {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return t.tv_sec * 1000000000LL + t.tv_nsec;
    }

    #if E1K_FRAMES
    static PyObject *e1k_arg(e1k_frame *f, int i) { return f->localsplus[i]; }
    static void e1k_hook(_PyFrameEvalFunction f)
    {
        _PyInterpreterState_SetEvalFrameFunc(PyInterpreterState_Get(),
                                             f ? f : _PyEval_EvalFrameDefault);
    }
    static _PyFrameEvalFunction e1k_hooked(void)
    {
        return _PyInterpreterState_GetEvalFrameFunc(PyInterpreterState_Get());
    }
    #else
    typedef struct _PyInterpreterFrame e1k_frame;
    static PyObject *e1k_frame_code(const e1k_frame *f) { (void)f; return NULL; }
    static PyObject *e1k_arg(e1k_frame *f, int i) { (void)f; (void)i; return NULL; }
    static int e1k_frame_makes_generator(const e1k_frame *f) { (void)f; return 0; }
    static void e1k_hook(_PyFrameEvalFunction f) { (void)f; }
    static _PyFrameEvalFunction e1k_hooked(void) { return NULL; }
    #endif
    """
    const bint E1K_FRAMES
    ctypedef struct PyThreadState:
        pass
    ctypedef struct e1k_frame:
        pass
    ctypedef PyObject *(*_PyFrameEvalFunction)(PyThreadState *, e1k_frame *, int)
    ctypedef struct e1k_call:
        PyObject *code
        int64_t start_ns, end_ns
        uint32_t depth, skipped
    int64_t e1k_now_ns() noexcept nogil
    PyObject *e1k_frame_code(const e1k_frame *f) noexcept
    PyObject *e1k_arg(e1k_frame *f, int i) noexcept
    bint e1k_frame_makes_generator(const e1k_frame *f) noexcept
    void e1k_hook(_PyFrameEvalFunction f) noexcept
    _PyFrameEvalFunction e1k_hooked() noexcept
    PyObject *_PyEval_EvalFrameDefault(PyThreadState *, e1k_frame *, int) noexcept
    PyThreadState *PyThreadState_Get() noexcept

cdef enum:
    FIRST_CALLS = 4096
    MAX_DEPTH = 1000
    FIRST_SLOTS = 1024
    # How a function is treated; unknown is also a root that `root` drops.
    _UNKNOWN = 0
    _SKIP = 1
    _RECORD = 2

ctypedef struct known_code:
    PyObject *code
    int how

cdef Recorder _active = None


cdef class Classes:
    """Which functions are recorded: `wanted(code)` is asked once for each code object.

    Recorders that share it need not ask again while they take times.
    """

    cdef object _wanted
    # By address, because the hash of a code object covers all that is in it and is made anew each
    # time.
    cdef known_code *_known
    cdef uint32_t _slots, _used
    cdef list _keep

    def __cinit__(self, wanted not None):
        self._wanted = wanted
        self._keep = []
        self._slots = FIRST_SLOTS
        self._known = <known_code *>calloc(FIRST_SLOTS, sizeof(known_code))
        if self._known == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self._known)

    cdef known_code *_slot(self, PyObject *code) noexcept:
        """Where `code` is, or belongs."""
        cdef uint64_t at = (<uint64_t><uintptr_t>code >> 4) * 0x9E3779B97F4A7C15U
        at = (at >> 32) & (self._slots - 1)
        while self._known[at].code != NULL and self._known[at].code != code:
            at = (at + 1) & (self._slots - 1)
        return &self._known[at]

    cdef int how(self, PyObject *code) except -1:
        cdef known_code *slot = self._slot(code)
        cdef known_code *old
        cdef uint32_t i
        if slot.code != NULL:
            return slot.how
        how = _RECORD if self._wanted(<object>code) else _SKIP
        if 2 * self._used >= self._slots:
            old = self._known
            self._known = <known_code *>calloc(2 * self._slots, sizeof(known_code))
            if self._known == NULL:
                self._known = old
                raise MemoryError
            self._slots *= 2
            for i in range(self._slots // 2):
                if old[i].code != NULL:
                    self._slot(old[i].code)[0] = old[i]
            free(old)
        slot = self._slot(code)
        slot.code = code
        slot.how = how
        self._used += 1
        self._keep.append(<object>code)
        return how


cdef class Recorder:
    """Context manager that records the calls of this thread into `calls()`.

    `root(code, arguments)`, a dict by name, is asked for each outermost call that `classes` wants,
    and keeps or drops it with all calls below; None keeps all. With `roots_only` nothing below an
    outermost call is recorded, and it runs at full speed: its time is what sums of recorded times
    are compared with.
    """

    cdef Classes _classes
    cdef object _root
    cdef bint _roots_only
    cdef e1k_call *_call
    cdef uint32_t _n, _cap, _depth, _muted
    cdef uint32_t _open[MAX_DEPTH]
    cdef PyThreadState *_thread
    cdef object _error

    def __cinit__(self, Classes classes not None, root=None, bint roots_only=False):
        self._classes = classes
        self._root = root
        self._roots_only = roots_only
        self._cap = FIRST_CALLS
        self._call = <e1k_call *>malloc(FIRST_CALLS * sizeof(e1k_call))
        if self._call == NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self._n):
            Py_XDECREF(self._call[i].code)
        free(self._call)

    def __enter__(self):
        """Begin. Raises RuntimeError where there is no way to, or another one evaluates frames."""
        global _active
        if not E1K_FRAMES:
            raise RuntimeError("calltrace: needs CPython 3.11 to 3.13")
        if _active is not None:
            raise RuntimeError("calltrace: a recorder is active already; end it first")
        if e1k_hooked() != _PyEval_EvalFrameDefault and e1k_hooked() != NULL:
            raise RuntimeError("calltrace: a debugger or compiler evaluates the frames already")
        self._thread = PyThreadState_Get()
        _active = self
        e1k_hook(_evaluate)
        return self

    def __exit__(self, *exc):
        """End, and raise what `wanted` or `root` raised meanwhile."""
        global _active
        e1k_hook(NULL)
        _active = None
        if self._error is not None and exc[0] is None:
            error, self._error = self._error, None
            raise error

    def calls(self):
        """Return (code, depth, start_ns, end_ns, skipped) for each call, in the order of starts.

        `skipped` counts the calls made right from there, or from skipped ones below, that were not
        wanted: their time is the caller's. Times are CLOCK_MONOTONIC's; end_ns is 0 for a call that
        still runs.
        """
        cdef uint32_t i
        return [
            (<object>self._call[i].code, self._call[i].depth, self._call[i].start_ns,
             self._call[i].end_ns, self._call[i].skipped)
            for i in range(self._n)
        ]

    cdef bint _keeps(self, PyObject *code, e1k_frame *frame) except -1:
        cdef int i
        cdef PyObject *value
        cdef dict arguments = {}
        cdef object function = <object>code
        for i in range(function.co_argcount + function.co_kwonlyargcount):
            value = e1k_arg(frame, i)
            if value != NULL:
                arguments[function.co_varnames[i]] = <object>value
        return self._root(function, arguments)

    cdef int _grow(self) except -1:
        cdef e1k_call *bigger
        if self._n == self._cap:
            bigger = <e1k_call *>realloc(self._call, 2 * self._cap * sizeof(e1k_call))
            if bigger == NULL:
                raise MemoryError
            self._call = bigger
            self._cap *= 2
        return 0

    cdef int _begins(self, e1k_frame *frame) except -1:
        """Decide on a call that begins: `_SKIP`, or `_RECORD` after its record is made."""
        cdef PyObject *code = e1k_frame_code(frame)
        if self._classes.how(code) == _SKIP:
            if self._depth:
                self._call[self._open[self._depth - 1]].skipped += 1
            return _SKIP
        if self._depth == MAX_DEPTH:
            return _SKIP
        if self._depth == 0 and self._root is not None and not self._keeps(code, frame):
            return _UNKNOWN
        self._grow()
        Py_INCREF(<object>code)
        self._call[self._n].code = code
        self._call[self._n].depth = self._depth
        self._call[self._n].skipped = 0
        self._call[self._n].end_ns = 0
        self._open[self._depth] = self._n
        self._n += 1
        self._depth += 1
        return _RECORD


cdef PyObject *_evaluate(PyThreadState *thread, e1k_frame *frame, int throwing) noexcept:
    cdef Recorder recorder = _active
    cdef PyObject *result
    cdef uint32_t number
    cdef int how = _SKIP
    if (recorder is None or thread != recorder._thread or recorder._muted or throwing
            or e1k_frame_makes_generator(frame)):
        return _PyEval_EvalFrameDefault(thread, frame, throwing)
    recorder._muted = 1  # what `wanted` and `root` call is not recorded
    try:
        how = recorder._begins(frame)
    except BaseException as error:
        recorder._error = error
    recorder._muted = how == _UNKNOWN
    if how != _RECORD:
        result = _PyEval_EvalFrameDefault(thread, frame, throwing)
        if how == _UNKNOWN:
            recorder._muted = 0
        return result
    number = recorder._n - 1
    if recorder._roots_only:
        e1k_hook(NULL)
        recorder._call[number].start_ns = e1k_now_ns()
        result = _PyEval_EvalFrameDefault(thread, frame, throwing)
        recorder._call[number].end_ns = e1k_now_ns()
        if _active is recorder:
            e1k_hook(_evaluate)
    else:
        recorder._call[number].start_ns = e1k_now_ns()
        result = _PyEval_EvalFrameDefault(thread, frame, throwing)
        recorder._call[number].end_ns = e1k_now_ns()
    recorder._depth -= 1
    return result


def available():
    """Tell whether this Python's calls can be recorded."""
    return bool(E1K_FRAMES)
