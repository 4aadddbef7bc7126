# cython: language_level=3, embedsignature=True
"""The register arrays with their access rule, and the statistics counters that engines write.

The generic file applies width, masks and access kind; a hook sees whole registers and only the
legal bits. A register without a hook is served from C arrays and never enters Python.

The values are the state of the device: engines and blocks read them in place (`v`). Values that are
costly to decode, such as valid addresses, are decoded by their reader when `changes` has changed;
the table says which registers count there (`decoded`).
"""

from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset

from fastpath.nic cimport e1000_hw as hw
from fastpath.base.bytes cimport ld32le
from fastpath.base.threads cimport e1k_now_ns

cdef extern from "sparse.h" nogil:
    void *sparse_alloc(size_t nbytes)
    void sparse_free(void *p, size_t nbytes)

cdef enum:
    PAGE = 4096
    # Ring registers are at multiples of half a page, like frames in a driver's buffers. This offset
    # puts them into other sets of the first-level cache than the frames.
    COLOUR = 26 * 64
    ROOM = 512                  # definitions to begin with

REGISTERS = {
    "CTRL": hw.CTRL, "FCT": hw.FCT, "VET": hw.VET, "ICR": hw.ICR, "ITR": hw.ITR, "ICS": hw.ICS,
    "IMS": hw.IMS, "IMC": hw.IMC, "RCTL": hw.RCTL, "TCTL": hw.TCTL, "FCRTL": hw.FCRTL,
    "FCRTH": hw.FCRTH, "RDFH": hw.RDFH, "RDFT": hw.RDFT, "RDFHS": hw.RDFHS, "RDFTS": hw.RDFTS,
    "RDFPC": hw.RDFPC,
    "RDBAL": hw.RDBAL, "RDBAH": hw.RDBAH, "RDLEN": hw.RDLEN, "RDH": hw.RDH, "RDT": hw.RDT,
    "RDTR": hw.RDTR, "RADV": hw.RADV, "RSRPD": hw.RSRPD, "TDFH": hw.TDFH, "TDFT": hw.TDFT,
    "TDFHS": hw.TDFHS, "TDFTS": hw.TDFTS, "TDFPC": hw.TDFPC, "TDBAL": hw.TDBAL, "TDBAH": hw.TDBAH,
    "TDLEN": hw.TDLEN, "TDH": hw.TDH, "TDT": hw.TDT, "TIDV": hw.TIDV, "TXDCTL": hw.TXDCTL,
    "TADV": hw.TADV, "RXCSUM": hw.RXCSUM, "MTA": hw.MTA, "RAL": hw.RAL, "VFTA": hw.VFTA,
    "PBM": hw.PBM,
}
FIELDS = {
    "CTRL.RFCE": hw.CTRL_RFCE, "CTRL.TFCE": hw.CTRL_TFCE, "CTRL.VME": hw.CTRL_VME,
    "FCRTL.RTL": hw.FCRTL_RTL, "FCRTH.RTH": hw.FCRTH_RTH, "RCTL.EN": hw.RCTL_EN,
    "RCTL.SBP": hw.RCTL_SBP,
    "RCTL.UPE": hw.RCTL_UPE, "RCTL.MPE": hw.RCTL_MPE, "RCTL.LPE": hw.RCTL_LPE,
    "RCTL.BAM": hw.RCTL_BAM, "RCTL.VFE": hw.RCTL_VFE, "RCTL.CFIEN": hw.RCTL_CFIEN,
    "RCTL.CFI": hw.RCTL_CFI, "RCTL.BSEX": hw.RCTL_BSEX, "RCTL.SECRC": hw.RCTL_SECRC,
    "RXCSUM.IPOFL": hw.RXCSUM_IPOFL, "RXCSUM.TUOFL": hw.RXCSUM_TUOFL,
    "RXCSUM.IPV6OFL": hw.RXCSUM_IPV6OFL, "TCTL.EN": hw.TCTL_EN, "TCTL.PSP": hw.TCTL_PSP,
}

cdef tuple _BASE = (
    "CRCERRS", "ALGNERRC", "SYMERRS", "RXERRC", "MPC", "SCC", "ECOL", "MCC", "LATECOL", "COLC",
    "DC", "TNCRS", "SEC", "CEXTERR", "RLEC", "XONRXC", "XONTXC", "XOFFRXC", "XOFFTXC", "FCRUC",
    "PRC64", "PRC127", "PRC255", "PRC511", "PRC1023", "PRC1522", "GPRC", "BPRC", "MPRC",
    "GPTC", "GORC", "GOTC", "RNBC", "RUC", "RFC", "ROC", "RJC", "MGTPRC", "MGTPDC", "MGTPTC",
    "TOR", "TOT", "TPR", "TPT", "PTC64", "PTC127", "PTC255", "PTC511", "PTC1023", "PTC1522",
    "MPTC", "BPTC", "TSCTC", "TSCTFC",
)
cdef frozenset _WIDE = frozenset(("GORC", "GOTC", "TOR", "TOT"))
cdef dict _SLOT = {name: i for i, name in enumerate(_BASE)}
assert len(_BASE) == ST_COUNT


cdef dict _registers():
    """Register name -> (slot, part)."""
    out = {}
    for name, slot in _SLOT.items():
        if name in _WIDE:
            out[name + "L"] = (slot, 1)
            out[name + "H"] = (slot, 2)
        else:
            out[name] = (slot, 0)
    return out


cdef dict _REGISTER = _registers()
STAT_REGISTERS = tuple(_REGISTER)


cdef class Stats:
    """Counters that the engines write: 64-bit inside, read as 32 bits that stick at FFFFFFFF (SDM
    13.7)."""

    cdef uint32_t read_slot(self, int slot, int part, bint clear) noexcept nogil:
        cdef uint64_t v = self.v[slot]
        if part == 1:
            # the pair is cleared by reading its high half (SDM 13.7, p337)
            return <uint32_t>v
        if clear:
            self.v[slot] = 0
        if part == 2:
            return <uint32_t>(v >> 32)
        return 0xFFFFFFFFU if v > 0xFFFFFFFFU else <uint32_t>v

    def __getitem__(self, str name):
        return self.v[<int>_SLOT[name]]

    def __setitem__(self, str name, uint64_t value):
        self.v[<int>_SLOT[name]] = value

    def __iter__(self):
        return iter(_BASE)

    def __len__(self):
        return ST_COUNT

    def __repr__(self):
        return f"Stats({', '.join(f'{k}={v}' for k, v in self.as_dict().items() if v)})"

    def add(self, str name, uint64_t n=1):
        """Count `n` events of the control plane (XONRXC, XOFFTXC, COLC, LATECOL, …); sticks at the
        top."""
        st_add(self.v, <int>_SLOT[name], n)

    def read_register(self, str name):
        """What a 32-bit read of that register gives, with its side effect (clears; a high half
        clears both)."""
        slot, part = _REGISTER[name]
        return self.read_slot(slot, part, True)

    def peek_register(self, str name):
        """What a 32-bit read of that register would give."""
        slot, part = _REGISTER[name]
        return self.read_slot(slot, part, False)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        # the counters themselves, in the order of the iteration, 8 bytes each; they count on
        PyBuffer_FillInfo(buffer, self, self.v, ST_COUNT * 8, 1, flags)

    def as_dict(self):
        """Base name -> value of every counter."""
        return {name: self.v[i] for i, name in enumerate(_BASE)}

    def reset(self):
        """Zero every counter."""
        memset(self.v, 0, sizeof(self.v))

    def state(self):
        """All counters as bytes."""
        return (<char *>self.v)[:ST_COUNT * 8]


cdef class RegHook:
    """A compiled block that serves registers; its subclasses are in `fastpath.nic.irqblock` and
    `fastpath.nic.macpath`."""

    cdef uint32_t on_read(self, reg *r, uint32_t value) except? 0xFFFFFFFF:
        """The register is read and holds `value`; return what the read gives."""
        return value

    cdef int on_write(self, reg *r, uint32_t old, uint32_t new) except -1:
        """The register was written, as a Python hook is told."""
        return 0

    cdef bint hot_read(self, reg *r, uint32_t *value, int64_t now) noexcept nogil:
        """Do all that a read does, without the GIL; False when it takes `on_read` this time."""
        return False

    cdef bint hot_write(self, reg *r, uint32_t value, int64_t now) noexcept nogil:
        """Do all that writing the legal bits of `value` does, storing them included; False, and
        nothing done, when it takes `on_write` this time."""
        return False


cdef class RegFile:
    """`n_dwords` dword registers with masks and late hooks; one without a hook never enters Python.

    Undefined registers read 0, ignore writes and are counted; `on_unknown(offset, is_write,
    value)` sees each. Offsets are bytes and rounded down to a dword; beyond the file they count
    as undefined. Call with the host's lock held.
    """

    def __cinit__(self, int n_dwords, RegFile layout=None):
        if n_dwords <= 0 or n_dwords > 1 << 20:
            raise ValueError(f"RegFile: {n_dwords} dwords is not in 1..2^20")
        if layout is not None and layout.n != <uint32_t>n_dwords:
            raise ValueError(f"RegFile: {n_dwords} dwords, {layout.n} in the layout")
        self.n = n_dwords
        self.block = <char *>sparse_alloc(n_dwords * sizeof(uint32_t) + 2 * PAGE)
        self.room = ROOM if layout is None else layout.defined_
        self.r = <reg *>calloc(self.room, sizeof(reg))
        if layout is None:
            self.at = <uint16_t *>calloc(n_dwords, sizeof(uint16_t))
        else:
            self.at = layout.at
            self.borrowed = layout.lent = True
            self._layout = layout
        if self.at == NULL or self.r == NULL or self.block == NULL:
            raise MemoryError
        self.v = <uint32_t *>(self.block + (-<uintptr_t>self.block & (PAGE - 1)) + COLOUR)
        self.defined_ = 1               # the one of what is not defined: all 0
        self._hooks = [None]
        if layout is not None:
            memcpy(self.r, layout.r, layout.defined_ * sizeof(reg))
            self.defined_ = layout.defined_
            self._hooks = layout._hooks[:]
            self.changes = layout.changes
            self.reset(0xFF)

    def __dealloc__(self):
        free(self.r)
        if not self.borrowed:
            free(self.at)
        sparse_free(self.block, self.n * sizeof(uint32_t) + 2 * PAGE)

    def __len__(self):
        return self.n

    cdef reg *_at(self, object off) except NULL:
        index = off >> 2
        if not 0 <= index < self.n:
            raise IndexError(f"RegFile: offset {off:#x} is beyond {self.n * 4:#x}")
        return &self.r[self.at[<uint32_t>index]]

    cdef uint32_t *value(self, object off) except NULL:
        """Where the value of the register at byte `off` stands, as long as the file lives."""
        return &self.v[reg_index(self._at(off), <uint32_t>(off >> 2))]

    cdef int need(self, uint32_t nbytes) except -1:
        """Raise ValueError unless there are so many bytes of registers."""
        if self.n * 4 < nbytes:
            raise ValueError(f"RegFile of {self.n * 4:#x} bytes: {nbytes:#x} are needed")
        return 0

    cdef uint32_t _index(self, object index) except? 0xFFFFFFFF:
        if not 0 <= index < self.n:
            raise IndexError(f"RegFile: index {index} is beyond {self.n}")
        return index

    cdef int _change(self) except -1:
        """Have an `at` of its own, to be changed."""
        cdef uint16_t *at
        if self.lent:
            raise ValueError("RegFile: it is the layout of others, so nothing more can be defined")
        if self.borrowed:
            at = <uint16_t *>malloc(self.n * sizeof(uint16_t))
            if at == NULL:
                raise MemoryError
            memcpy(at, self.at, self.n * sizeof(uint16_t))
            self.at = at
            self.borrowed = False
            self._layout = None
        return 0

    cdef uint32_t _new(self, uint32_t index) except 0:
        """Make one more definition, of dword `index` alone; return its number."""
        cdef reg *grown
        self._change()
        if self.defined_ == self.room:
            if self.room > 0x8000:
                raise ValueError("RegFile: more than 65,535 definitions")
            grown = <reg *>realloc(self.r, 2 * self.room * sizeof(reg))
            if grown == NULL:
                raise MemoryError
            self.r = grown
            self.room *= 2
        cdef uint32_t d = self.defined_
        self.r[d] = self.r[self.at[index]]      # of its array, or of what is not defined
        self.r[d].count = 1
        self.r[d].which = index * 4
        self._hooks.append(self._hooks[self.at[index]])
        self.defined_ += 1
        self.at[index] = d
        return d

    cdef uint32_t _own(self, uint32_t index) except 0:
        """Return the number of the definition of dword `index` alone."""
        cdef uint32_t d = self.at[index]
        return d if self.r[d].which == index * 4 and self.r[d].count == 1 else self._new(index)

    def define(self, index, uint32_t reset=0, *, uint32_t rmask=0xFFFFFFFF, uint32_t rw=0,
               uint32_t w1c=0, uint32_t w1s=0, uint32_t rc=0, uint32_t act=0,
               on_read=None, on_write=None, bint hot=False, bint decoded=False,
               int reset_level=0, int count=1):
        """Define `count` dwords from `index` on by what reads and writes do to each of their bits.

        Reading gives ``value & rmask`` and clears the bits of `rc`; where there is a read hook,
        ``on_read(value)`` does that and returns what the read gives (then masked). Writing stores
        the bits of `rw`, clears those of `w1c` and sets those of `w1s` that are written 1; other
        bits stay. The write hook runs after the store as ``on_write(old, new)``, with `new` as
        stored. The bits of `w1c` and of `act` (write-only and self-clearing ones, never stored) are
        as they were written. A hook may be a compiled block; with `hot` that serves the register
        without the GIL too (`fastpath.nic.datapath`). In a layout it is a name. `decoded`: somebody
        keeps the value in another form and makes it anew after a change (`fastpath.nic.rxfilter`).
        `reset_level`: `reset(level)` restores registers whose reset_level <= level. Raises:
        ValueError, a bit is in two of `rw`, `w1c`, `w1s`, `act`; the hooks are of two kinds; `hot`
        without a compiled one; not all of `count` are in the file.
        """
        cdef uint32_t first = self._index(index), i, d, old
        cdef reg *one
        self._change()
        if not 1 <= count <= self.n - first:
            raise ValueError(f"RegFile.define: {count} dwords from {index} on of {self.n}")
        hook = on_read if on_read is not None else on_write
        direct = isinstance(hook, RegHook)
        if direct and (on_write is not None and on_write is not hook):
            raise ValueError(f"RegFile.define: dword {index} has hooks of two kinds")
        if hot and (not (direct or isinstance(hook, str)) or count > 1):
            raise ValueError(f"RegFile.define: dword {index} is hot and has no compiled hook alone")
        if (rw & w1c) | (rw & w1s) | (rw & act) | (w1c & w1s) | (w1c & act) | (w1s & act):
            raise ValueError(f"RegFile.define: dword {index} has a bit in two of rw, w1c, w1s, act")
        if count == 1:
            d = self._own(first)
        else:
            old = self.at[first]
            d = self._new(first)
            self.at[first] = old
        one = &self.r[d]
        one.kind = K_MASKS
        one.reset = reset
        one.rmask = rmask
        one.rw = rw
        one.w1c = w1c
        one.w1s = w1s
        one.rc = rc
        one.act = act
        one.wmask = rw | w1c | w1s | act
        one.told = one.absent = 0
        one.reset_level = reset_level
        one.hooks = ((HOOK_READ if on_read is not None else 0)
                     | (HOOK_WRITE if on_write is not None else 0)
                     | (HOOK_DIRECT if direct else 0) | (HOOK_HOT if hot else 0)
                     | (HOOK_DECODED if decoded else 0))
        one.hook = <void *>hook         # borrowed of the list
        one.count = count
        one.which = first * 4
        self._hooks[d] = (on_read, on_write, None)
        for i in range(first, first + <uint32_t>count):
            if self.v[i] != reset:      # memory that was never written stays unmapped
                self.v[i] = reset
            old = self.at[i]
            if self.r[old].count == 1 and self.r[old].which == i * 4 and old != d:
                self.r[old] = one[0]    # in its place, as an alias may share it
                self.r[old].count = 1
                self.r[old].which = i * 4
                self._hooks[old] = self._hooks[d]
            else:
                self.at[i] = d
        self.changes += 1

    def watch(self, index, uint32_t told=0, uint32_t absent=0, *, bint every=False):
        """Call `on_watched` before a write to dword `index` takes effect. It is called if 1 is
        written to a bit of `told`, or to a bit of `absent` that is 0, or (`every`) in any case.

        Replaces what was watched of the dword; defining it again watches nothing. Raises
        ValueError while `on_watched` is None.
        """
        cdef uint32_t i = self._index(index)
        cdef reg *r
        if self.on_watched is None:
            raise ValueError("RegFile.watch: set on_watched first")
        r = &self.r[self._own(i)]
        r.told = told
        r.absent = absent
        r.hooks = (r.hooks & ~<int>HOOK_WATCH) | (HOOK_WATCH if every else 0)

    def define_stat(self, index, Stats stats not None, str name):
        """Serve dword `index` from counter register `name`: read clears, writes are ignored."""
        cdef uint32_t d = self._own(self._index(index))
        cdef reg *r = &self.r[d]
        slot, part = _REGISTER[name]
        r.kind = K_STAT
        r.slot = slot
        r.part = part
        r.hooks = 0
        r.told = r.absent = 0
        r.hook = <void *>stats          # borrowed of the list
        self._hooks[d] = (None, None, stats)

    def alias(self, index, target):
        """Serve dword `index` as dword `target` (some registers are mirrored at old offsets)."""
        cdef uint32_t i = self._index(index), other = self._index(target)
        self._change()
        # A definition of its own, so that what it is defined as later holds for the alias too.
        self.at[i] = self.at[other] if self.r[self.at[other]].count == 1 else self._new(other)

    def bind(self, dict hooks not None, Stats stats not None):
        """Put hooks in the place of their names, and `stats` in that of the layout's counters.

        Raises: ValueError as `define`.
        """
        cdef uint32_t d
        cdef reg *r
        for d in range(1, self.defined_):
            r = &self.r[d]
            if r.kind == K_STAT:
                r.hook = <void *>stats
                self._hooks[d] = (None, None, stats)
            elif r.hooks & (HOOK_READ | HOOK_WRITE):
                on_read, on_write, _ = <tuple>self._hooks[d]
                on_read, on_write = hooks.get(on_read, on_read), hooks.get(on_write, on_write)
                hook = on_read if on_read is not None else on_write
                direct = isinstance(hook, RegHook)
                if direct and on_write is not None and on_write is not hook:
                    raise ValueError(f"RegFile.bind: {r.which:#x} has hooks of two kinds")
                if r.hooks & HOOK_HOT and not direct:
                    raise ValueError(f"RegFile.bind: {r.which:#x} is hot and has no compiled hook")
                r.hooks = (r.hooks & ~<int>HOOK_DIRECT) | (HOOK_DIRECT if direct else 0)
                r.hook = <void *>hook
                self._hooks[d] = (on_read, on_write, None)

    def defined(self, index):
        """Whether dword `index` has been defined."""
        return self.r[self.at[self._index(index)]].kind != K_UNDEFINED

    cpdef uint32_t read32(self, uint64_t off) except? 0xFFFFFFFF:
        """Read the register at byte offset `off`, with its side effects."""
        cdef uint32_t i, v
        cdef reg *r
        if off >= <uint64_t>self.n * 4:
            return self._unknown_read(off)
        r = &self.r[self.at[off >> 2]]
        if r.kind == K_STAT:
            return (<Stats>r.hook).read_slot(r.slot, r.part, True)
        if r.kind == K_UNDEFINED:
            return self._unknown_read(off)
        i = reg_index(r, <uint32_t>(off >> 2))
        v = self.v[i]
        if r.hooks & HOOK_READ:         # it does what a read does
            v = self._call_read(r, i, v)
        else:
            self.v[i] = v & ~r.rc
        return v & r.rmask

    cdef uint32_t _call_read(self, reg *r, uint32_t i, uint32_t v) except? 0xFFFFFFFF:
        """Have the read hook of the register at index `i`, which holds `v`, say what it gives."""
        cdef reg one
        if not r.hooks & HOOK_DIRECT:
            return (<tuple>self._hooks[self.at[i]])[0](v)
        if r.count == 1:
            return (<RegHook>r.hook).on_read(r, v)
        one = r[0]
        one.which = i * 4
        return (<RegHook>r.hook).on_read(&one, v)

    cdef uint32_t _unknown_read(self, uint64_t off) except? 0xFFFFFFFF:
        self.unknown_reads += 1
        if self.on_unknown is not None:
            self.on_unknown(off, False, 0)
        return 0

    cpdef int write32(self, uint64_t off, uint32_t value) except -1:
        """Write the register at byte offset `off`, with its side effects."""
        cdef uint32_t i, old, new
        cdef reg *r
        cdef reg one
        if off >= <uint64_t>self.n * 4:
            return self._unknown_write(off, value)
        r = &self.r[self.at[off >> 2]]
        i = reg_index(r, <uint32_t>(off >> 2))
        if reg_watched(r, self.v[i], value):
            self.on_watched(i * 4, self.v[i], value)
        if r.kind == K_STAT:
            return 0
        if r.kind == K_UNDEFINED:
            return self._unknown_write(off, value)
        old = self.v[i]
        new = (old & ~(r.rw | value & r.w1c)) | value & (r.rw | r.w1s)
        if r.rw or not r.hooks & HOOK_DIRECT:
            self.v[i] = new     # causes a thread may set meanwhile: their block stores by its lock
        if r.hooks & HOOK_DECODED:
            self.changes += 1
        if r.hooks & HOOK_WRITE:
            new = new & ~r.w1c | value & (r.w1c | r.act)
            if not r.hooks & HOOK_DIRECT:
                (<tuple>self._hooks[self.at[i]])[1](old, new)
            elif r.count == 1:
                (<RegHook>r.hook).on_write(r, old, new)
            else:
                one = r[0]
                one.which = i * 4
                (<RegHook>r.hook).on_write(&one, old, new)
        return 0

    def write_part(self, uint64_t off, uint32_t value, uint32_t mask):
        """Write those bytes of the register that `mask` covers (a bus's byte enables).

        It is the write of 32 bits whose other bytes change nothing: they are what the register
        stores, and 0 where writing 1 clears, sets or acts.
        """
        cdef uint32_t i, stored
        cdef reg *r
        if off < <uint64_t>self.n * 4:
            r = &self.r[self.at[off >> 2]]
            i = reg_index(r, <uint32_t>(off >> 2))
            stored = self.v[i]
            if r.hooks & HOOK_READ and r.rw & ~mask and not r.rc:
                # it keeps some of the bits elsewhere, and reading has no effect
                stored = self._call_read(r, i, stored)
            value = value & mask | stored & r.rw & ~mask
        else:
            value &= mask
        self.write32(off, value)

    cdef bint hot_read(self, uint64_t off, uint32_t *value, int64_t now) noexcept nogil:
        """Read without the GIL, when the register has no side effect or a hot one. `now` 0: take
        the time."""
        cdef reg *r
        if off & 3 or off >= <uint64_t>self.n * 4:
            return False
        r = &self.r[self.at[off >> 2]]
        if r.kind != K_MASKS:
            return False
        if r.hooks & HOOK_READ:
            if (not r.hooks & HOOK_HOT
                    or not (<RegHook>r.hook).hot_read(r, value, now or e1k_now_ns())):
                return False
        elif r.rc:
            return False
        else:
            value[0] = self.v[reg_index(r, <uint32_t>(off >> 2))]
        value[0] &= r.rmask
        return True

    cdef const reg *counter(self, uint64_t off) noexcept nogil:
        """The register at byte offset `off` when it is one that the engines count in, else NULL."""
        cdef const reg *r
        if off & 3 or off >= <uint64_t>self.n * 4:
            return NULL
        r = &self.r[self.at[off >> 2]]
        return r if r.kind == K_STAT else NULL

    cdef bint hot_write(self, uint64_t off, uint32_t value, int64_t now) noexcept nogil:
        """Write without the GIL, when the register is hot and nobody is to be told. `now` as
        `hot_read`. The thread may change what the register holds meanwhile: who is told looks
        again."""
        cdef reg *r
        if off & 3 or off >= <uint64_t>self.n * 4:
            return False
        r = &self.r[self.at[off >> 2]]
        if reg_watched(r, self.v[reg_index(r, <uint32_t>(off >> 2))], value):
            return False
        return (r.hooks & HOOK_HOT and r.hooks & HOOK_WRITE
                and (<RegHook>r.hook).hot_write(r, value & r.wmask, now or e1k_now_ns()))

    cdef int _unknown_write(self, uint64_t off, uint32_t value) except -1:
        self.unknown_writes += 1
        if self.on_unknown is not None:
            self.on_unknown(off, True, value)
        return 0

    def peek(self, off):
        """Stored value without masks or side effects."""
        return self.value(off)[0]

    def poke(self, off, uint32_t value):
        """Store without masks or side effects."""
        self.value(off)[0] = value
        self.changes += 1

    def set_bits(self, off, uint32_t mask):
        """Raw OR; returns the new value."""
        cdef uint32_t *v = self.value(off)
        v[0] |= mask
        self.changes += 1
        return v[0]

    def clear_bits(self, off, uint32_t mask):
        """Raw AND NOT; returns the new value."""
        cdef uint32_t *v = self.value(off)
        v[0] &= ~mask
        self.changes += 1
        return v[0]

    cpdef reset(self, int level=0):
        """Restore reset values of registers whose reset_level is at most `level`; runs no hook."""
        cdef uint32_t d, i
        cdef reg *r
        for d in range(1, self.defined_):
            r = &self.r[d]
            if r.kind == K_MASKS and r.reset_level <= level:
                for i in range(r.which >> 2, (r.which >> 2) + r.count):
                    # Memory that was never written stays unmapped.
                    if self.at[i] == d and self.v[i] != r.reset:
                        self.v[i] = r.reset
        self.changes += 1

    def state(self):
        """Values of all dwords, little-endian, as bytes."""
        out = bytearray(self.n * 4)
        cdef unsigned char[::1] view = out
        cdef uint32_t i, v
        for i in range(self.n):
            v = self.v[i]
            view[i * 4] = v & 0xFF
            view[i * 4 + 1] = (v >> 8) & 0xFF
            view[i * 4 + 2] = (v >> 16) & 0xFF
            view[i * 4 + 3] = v >> 24
        return bytes(out)

    def load(self, bytes data not None):
        """Restore what `state` gave, without hooks. ValueError: wrong size."""
        cdef const unsigned char *p = data
        cdef uint32_t i
        if len(data) != self.n * 4:
            raise ValueError(f"RegFile.load: {len(data)} bytes, need {self.n * 4}")
        for i in range(self.n):
            self.v[i] = ld32le(p + i * 4)
        self.changes += 1
