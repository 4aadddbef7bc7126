# cython: language_level=3, embedsignature=True
"""Sample where threads spend their CPU time: Python functions and compiled ones on one path.

One profile at a time for the process, since the signal is the process's. How it works, and what it
may and may not do, is told in ``_c/sampler.h``. The plain-Python twin of the tree is
``_ref/sampler.py``.
"""

import os

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "sampler.h" nogil:
    ctypedef struct e1k_node:
        uint64_t key
        int64_t self_ns
        uint32_t parent, samples, kind
    ctypedef struct e1k_tree:
        e1k_node *node
        uint32_t n, cap
    int e1k_tree_init(e1k_tree *t, uint32_t cap)
    void e1k_tree_free(e1k_tree *t)
    uint32_t e1k_tree_child(e1k_tree *t, uint32_t parent, uint32_t kind, uint64_t key)

cdef extern from *:
    """
    #if E1K_SAMPLER
    #define E1K_CODE(i) (&e1k_sampler.code[i])
    #define E1K_SUM(field) (e1k_sampler.field)
    static void e1k_tick(void) { raise(SIGPROF); }
    #else
    /* Nothing of this is called where `available()` is false. */
    typedef struct { int line; char name[1], file[1]; } e1k_code;
    static e1k_code e1k_no_code;
    static e1k_tree e1k_no_tree;
    #define E1K_CODE(i) (&e1k_no_code)
    #define E1K_SUM(field) 0
    static int e1k_start(int64_t interval_ns) { (void)interval_ns; return 0; }
    static int e1k_arm(void) { return 0; }
    static void e1k_pause(void) {}
    static void e1k_resume(void) {}
    static void e1k_stop(void) {}
    static void e1k_free(void) {}
    static int64_t e1k_interrupt_ns(void) { return 0; }
    static void e1k_tick(void) {}
    #endif
    static e1k_tree *e1k_the_tree(void)
    {
    #if E1K_SAMPLER
        return &e1k_sampler.tree;
    #else
        return &e1k_no_tree;
    #endif
    }
    """
    const bint E1K_SAMPLER
    ctypedef struct e1k_code:
        int line
        char name[1]
        char file[1]
    e1k_code *E1K_CODE(uint32_t i) nogil
    uint32_t E1K_CODES "E1K_SUM(n_codes)"
    int64_t E1K_SAMPLED "E1K_SUM(sampled_ns)"
    int64_t E1K_OVERHEAD "E1K_SUM(overhead_ns)"
    int64_t E1K_LOST "E1K_SUM(lost_ns)"
    uint64_t E1K_SAMPLES "E1K_SUM(samples)"
    int e1k_start(int64_t interval_ns)
    int e1k_arm()
    void e1k_pause() noexcept nogil
    void e1k_resume() noexcept nogil
    void e1k_stop() noexcept nogil
    void e1k_free()
    int64_t e1k_interrupt_ns() nogil
    void e1k_tick()
    e1k_tree *e1k_the_tree()

cdef enum:
    _PYTHON = 1
    _NATIVE = 2

PYTHON = _PYTHON
NATIVE = _NATIVE

cdef bint _running = False
cdef int64_t _interrupt_ns = 0


cdef list _rows(e1k_tree *tree):
    cdef uint32_t i
    return [
        (tree.node[i].parent, tree.node[i].kind, tree.node[i].key,
         tree.node[i].self_ns, tree.node[i].samples)
        for i in range(tree.n)
    ]


cdef class Tree:
    """Paths of functions with the time at their ends; the form in which samples are kept."""

    cdef e1k_tree t

    def __cinit__(self, uint32_t capacity=1 << 12):
        if capacity < 2 or capacity & (capacity - 1):
            raise ValueError(f"Tree: capacity {capacity} is not a power of two above 1")
        if not e1k_tree_init(&self.t, capacity):
            raise MemoryError

    def __dealloc__(self):
        e1k_tree_free(&self.t)

    def add(self, list path not None, int64_t ns):
        """Add `ns` to the end of `path`, a list of (kind, key) from the outermost on.

        When the tree is full, the time counts for the last function that has its node.
        """
        cdef uint32_t node = 0, child
        for kind, key in path:
            child = e1k_tree_child(&self.t, node, kind, key)
            if not child:
                break
            node = child
        self.t.node[node].self_ns += ns
        self.t.node[node].samples += 1

    def rows(self):
        """Return (parent, kind, key, self_ns, samples) for each node; the first is the root."""
        return _rows(&self.t)


def available():
    """Tell whether this platform and Python can be sampled."""
    return bool(E1K_SAMPLER)


def start(int64_t interval_ns=1_000_000):
    """Begin a profile, and sample the calling thread every `interval_ns` of its running time.

    Other threads join by `arm`. Raises: ValueError for an interval below 50 us; RuntimeError when a
    profile is running, or the platform has no sampler; OSError when the system refuses.
    """
    global _running, _interrupt_ns
    cdef int error
    if not E1K_SAMPLER:
        raise RuntimeError("sampler: needs Linux and CPython 3.11 to 3.13")
    if _running:
        raise RuntimeError("sampler: a profile is running already; stop it first")
    if interval_ns < 50_000:
        raise ValueError(f"sampler: interval of {interval_ns} ns; give 50000 or more")
    error = e1k_start(interval_ns)
    if error:
        raise OSError(error, f"sampler: {os.strerror(error)}")
    _running = True
    error = e1k_arm()
    if error:
        stop()
        raise OSError(error, f"sampler: {os.strerror(error)}")
    with nogil:
        _interrupt_ns = e1k_interrupt_ns()


def running():
    """Tell whether a profile is running."""
    return _running


def arm():
    """Sample the calling thread too, until it ends; nothing happens when no profile runs."""
    cdef int error
    if _running:
        error = e1k_arm()
        if error:
            raise OSError(error, f"sampler: {os.strerror(error)}")


def pause():
    """Leave out what the calling thread does from now on, until `resume`."""
    e1k_pause()


def resume():
    """Sample the calling thread again after `pause`."""
    e1k_resume()


def tick():
    """Take one sample of the calling thread now, as the timer would. For tests."""
    if _running:
        e1k_tick()


def stop():
    """End the profile and return what it found.

    Returns (nodes, codes, totals).
    nodes: as `Tree.rows` gives them.
    codes: a list of (qualified name, file, first line). The key of a Python node is an index into
    it, 0 unused; the key of a native node is its function's address.
    totals: a dict of samples, sampled_ns, overhead_ns, lost_ns and interrupt_ns. The nodes add up
    to sampled_ns of CPU time. The handler took overhead_ns, and lost_ns went to threads that were
    put aside with the tree in hand; both are in no node. Each interrupt costs interrupt_ns beside
    the handler, as measured by `start`; the nodes share that evenly.
    Raises RuntimeError when no profile is running.
    """
    global _running
    cdef uint32_t i
    if not _running:
        raise RuntimeError("sampler: no profile is running")
    _running = False
    with nogil:
        e1k_stop()
    nodes = _rows(e1k_the_tree())
    codes = [("", "", 0)]
    for i in range(1, E1K_CODES):
        codes.append((
            (<bytes>E1K_CODE(i).name).decode("ascii", "replace"),
            (<bytes>E1K_CODE(i).file).decode("ascii", "replace"),
            E1K_CODE(i).line,
        ))
    totals = {
        "samples": E1K_SAMPLES,
        "sampled_ns": E1K_SAMPLED,
        "overhead_ns": E1K_OVERHEAD,
        "lost_ns": E1K_LOST,
        "interrupt_ns": _interrupt_ns,
    }
    e1k_free()
    return nodes, codes, totals
