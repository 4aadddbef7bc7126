# cython: language_level=3, embedsignature=True
"""A bounded log of what a driver did wrong. It has a count and the latest case per rule, and a ring
of the latest cases of all rules, each with its time and up to four values.

Its memory is fixed and has no objects: compiled parts log without the GIL, and a driver that is
wrong a million times a second uses no more memory. The rule defines the meaning of the values.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

cdef enum:
    MAX_RULES = 1024
    MAX_CASES = 1 << 20


cdef struct misuse_case:
    int64_t when_ns
    uint64_t v[4]
    uint32_t rule


cdef class MisuseLog:
    """Cases of `rules` kinds of mistakes, the latest `capacity` of them kept."""

    cdef uint32_t rules, capacity
    cdef uint64_t noted
    cdef uint64_t *counts
    cdef misuse_case *latest
    cdef misuse_case *ring

    def __cinit__(self, int rules, int capacity=256):
        if not 0 < rules <= MAX_RULES:
            raise ValueError(f"MisuseLog: {rules} rules is not in 1..{MAX_RULES}")
        if not 0 < capacity <= MAX_CASES:
            raise ValueError(f"MisuseLog: capacity {capacity} is not in 1..{MAX_CASES}")
        self.rules = rules
        self.capacity = capacity
        self.counts = <uint64_t *>calloc(rules, sizeof(uint64_t))
        self.latest = <misuse_case *>calloc(rules, sizeof(misuse_case))
        self.ring = <misuse_case *>calloc(capacity, sizeof(misuse_case))
        if self.counts == NULL or self.latest == NULL or self.ring == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.counts)
        free(self.latest)
        free(self.ring)

    cdef void add(self, uint32_t rule, uint64_t n, int64_t when_ns, uint64_t a, uint64_t b,
                  uint64_t c, uint64_t d) noexcept nogil:
        """Note `n` cases of `rule`, which is one of ours."""
        cdef misuse_case *case = &self.latest[rule]
        self.counts[rule] += n
        if self.counts[rule] < n:
            self.counts[rule] = 0xFFFFFFFFFFFFFFFFU
        case.when_ns = when_ns
        case.rule = rule
        case.v[0] = a
        case.v[1] = b
        case.v[2] = c
        case.v[3] = d
        self.ring[self.noted % self.capacity] = case[0]
        self.noted += 1

    cdef uint32_t _rule(self, object rule) except? 0xFFFFFFFF:
        if not 0 <= rule < self.rules:
            raise IndexError(f"MisuseLog: rule {rule} is not in 0..{self.rules - 1}")
        return rule

    def note(self, rule, when_ns, uint64_t n=1, uint64_t a=0, uint64_t b=0, uint64_t c=0,
             uint64_t d=0):
        """Note `n` cases of `rule` at `when_ns`; the values are those of the last of them."""
        self.add(self._rule(rule), n, when_ns, a, b, c, d)

    def count(self, rule):
        """How many cases of `rule` there were; sticks at 2^64 - 1."""
        return self.counts[self._rule(rule)]

    def last(self, rule):
        """The latest case of `rule` as (time in ns, rule, a, b, c, d), or None."""
        cdef uint32_t i = self._rule(rule)
        return _case(&self.latest[i]) if self.counts[i] else None

    def cases(self):
        """The latest cases of all rules, the oldest first."""
        cdef uint64_t i, first = self.noted - self.capacity if self.noted > self.capacity else 0
        return [_case(&self.ring[i % self.capacity]) for i in range(first, self.noted)]

    def clear(self):
        """Forget everything."""
        self.noted = 0
        memset(self.counts, 0, self.rules * sizeof(uint64_t))
        memset(self.latest, 0, self.rules * sizeof(misuse_case))

    def __len__(self):
        """How many cases `cases` gives."""
        return min(self.noted, self.capacity)


cdef tuple _case(misuse_case *case):
    return case.when_ns, case.rule, case.v[0], case.v[1], case.v[2], case.v[3]
