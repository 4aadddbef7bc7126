# cython: language_level=3, overflowcheck=False
"""The register arrays with their access rule, and the statistics counters that engines write."""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    K_UNDEFINED = 0
    K_MASKS = 1                 # a value, and what reads and writes do to its bits
    K_STAT = 2                  # served from Stats
    HOOK_READ = 1
    HOOK_WRITE = 2
    HOOK_DIRECT = 4             # a RegHook serves reads and writes
    HOOK_HOT = 8                # without the GIL too
    HOOK_WATCH = 16             # every write is told to on_watched
    HOOK_DECODED = 32           # a write counts in `changes`

# Statistics slots in the order of the SDM's list (13.7); GORC, GOTC, TOR and TOT are 64-bit pairs.
cdef enum:
    ST_CRCERRS = 0
    ST_ALGNERRC
    ST_SYMERRS
    ST_RXERRC
    ST_MPC
    ST_SCC
    ST_ECOL
    ST_MCC
    ST_LATECOL
    ST_COLC
    ST_DC
    ST_TNCRS
    ST_SEC
    ST_CEXTERR
    ST_RLEC
    ST_XONRXC
    ST_XONTXC
    ST_XOFFRXC
    ST_XOFFTXC
    ST_FCRUC
    ST_PRC64
    ST_PRC127
    ST_PRC255
    ST_PRC511
    ST_PRC1023
    ST_PRC1522
    ST_GPRC
    ST_BPRC
    ST_MPRC
    ST_GPTC
    ST_GORC
    ST_GOTC
    ST_RNBC
    ST_RUC
    ST_RFC
    ST_ROC
    ST_RJC
    ST_MGTPRC
    ST_MGTPDC
    ST_MGTPTC
    ST_TOR
    ST_TOT
    ST_TPR
    ST_TPT
    ST_PTC64
    ST_PTC127
    ST_PTC255
    ST_PTC511
    ST_PTC1023
    ST_PTC1522
    ST_MPTC
    ST_BPTC
    ST_TSCTC
    ST_TSCTFC
    ST_COUNT

cdef inline void st_add(uint64_t *v, int slot, uint64_t n) noexcept nogil:
    v[slot] += n
    if v[slot] < n:
        v[slot] = 0xFFFFFFFFFFFFFFFFU

# Size bucket 0..5 of a length with FCS: <=64, 65-127, 128-255, 256-511, 512-1023, above.
cdef extern from *:
    """
    static inline int st_bucket(unsigned int len)
    {
        if (len <= 64)
            return 0;
        if (len > 1023)
            return 5;
        return 26 - __builtin_clz(len);     /* 65..127 -> 1, 128..255 -> 2, ... */
    }
    """
    int st_bucket(unsigned int length) noexcept nogil


@cython.final
cdef class Stats:
    cdef uint64_t v[64]         # ST_COUNT used
    cdef uint32_t read_slot(self, int slot, int part, bint clear) noexcept nogil

# How one register answers, or each of an array of them; its value stands in `RegFile.v`.
cdef struct reg:
    uint32_t reset
    uint32_t rmask              # can be read
    uint32_t rw                 # store what is written
    uint32_t w1c                # cleared by writing 1
    uint32_t w1s                # set by writing 1
    uint32_t rc                 # cleared by reading
    uint32_t act                # told to the hook when written, never stored
    uint32_t wmask              # a write has an effect: rw | w1c | w1s | act
    uint32_t told               # a write of 1 to one of them is told to on_watched
    uint32_t absent             # so is a write of 1 to one of them that is 0
    uint32_t count              # dwords that it defines
    uint8_t kind
    uint8_t hooks
    uint8_t reset_level
    uint8_t part                # K_STAT: 0 32-bit, 1 low half, 2 high half
    uint32_t slot               # K_STAT
    uint32_t which              # byte offset of the register, of an array the first
    void *hook                  # HOOK_DIRECT: the RegHook; K_STAT: the Stats

# The write of `value` to what holds `old` is one that `RegFile.watch` asks to be told of.
cdef inline bint reg_watched(const reg *r, uint32_t old, uint32_t value) noexcept nogil:
    return r.hooks & HOOK_WATCH or value & r.told or value & r.absent & ~old

# The index of the value of dword `index`, whose definition is `r`: an alias has another's.
cdef inline uint32_t reg_index(const reg *r, uint32_t index) noexcept nogil:
    return r.which >> 2 if r.count == 1 else index

# What a compiled block derives from to be called without Python in between.
cdef class RegHook:
    cdef uint32_t on_read(self, reg *r, uint32_t value) except? 0xFFFFFFFF
    cdef int on_write(self, reg *r, uint32_t old, uint32_t new) except -1
    cdef bint hot_read(self, reg *r, uint32_t *value, int64_t now) noexcept nogil
    cdef bint hot_write(self, reg *r, uint32_t value, int64_t now) noexcept nogil

cdef class RegFile:
    cdef reg *r                 # the definitions; the first is that of what is not defined
    cdef uint16_t *at           # for each dword: which of them
    cdef char *block
    cdef uint32_t *v            # the values, dword by dword: the state of the device
    cdef uint32_t n, defined_, room
    cdef uint32_t changes       # of what somebody keeps in a decoded form
    cdef list _hooks            # for each definition: (read hook, write hook, counters)
    cdef RegFile _layout        # whose `at` this file borrows
    cdef bint borrowed
    cdef bint lent              # other files borrow `at`
    cdef public object on_unknown, on_watched
    cdef public uint64_t unknown_reads, unknown_writes
    cdef uint32_t _index(self, object index) except? 0xFFFFFFFF
    cdef reg *_at(self, object off) except NULL
    cdef int _change(self) except -1
    cdef uint32_t _new(self, uint32_t index) except 0
    cdef uint32_t _own(self, uint32_t index) except 0
    cdef uint32_t *value(self, object off) except NULL
    cdef int need(self, uint32_t nbytes) except -1
    cpdef reset(self, int level=*)
    cpdef uint32_t read32(self, uint64_t off) except? 0xFFFFFFFF
    cpdef int write32(self, uint64_t off, uint32_t value) except -1
    cdef bint hot_read(self, uint64_t off, uint32_t *value, int64_t now) noexcept nogil
    cdef const reg *counter(self, uint64_t off) noexcept nogil
    cdef bint hot_write(self, uint64_t off, uint32_t value, int64_t now) noexcept nogil
    cdef uint32_t _call_read(self, reg *r, uint32_t i, uint32_t v) except? 0xFFFFFFFF
    cdef uint32_t _unknown_read(self, uint64_t off) except? 0xFFFFFFFF
    cdef int _unknown_write(self, uint64_t off, uint32_t value) except -1
