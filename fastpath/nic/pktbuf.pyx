# cython: language_level=3, embedsignature=True
"""The packet buffer of the 8254x: 64 KiB, shared by PBA between a receive and a transmit FIFO.

Each FIFO is a ring of 8-byte words in its share. A frame takes a header of 16 bytes and its bytes,
rounded up to 16, as Linux's driver assumes (``e1000_82547_fifo_workaround``). No manual describes
the header; here it has the length and FB_* flags, 32 bits each. Received frames are followed by
their FCS; frames to send get theirs when they leave.

A frame that finds a descriptor, or room on the wire, does not wait: the engines only move the
pointers. The bytes of the first `PB_FEW` such frames of a run are also copied here, and those of
all once software has accessed the window PBM (`exact`). Frames that wait are stored here only.

RDFH to TDFPC and PBM (SDM 13.8) are served from here. The FIFO continues with pointers that
software moves; frames that wait in a receive FIFO are then dropped.

The plain-Python twin is ``_ref/pktbuf.py``. Call everything with the clock's lock held.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, memset

from fastpath.base.bytes cimport ld32le, st32le
from fastpath.nic.e1000_hw cimport (
    PBM, RDFH, RDFHS, RDFPC, RDFT, RDFTS, TDFH, TDFPC, TDFT,
)
from fastpath.nic.regfile cimport RegHook, reg

cdef extern from "sparse.h" nogil:
    void *sparse_alloc(size_t nbytes)
    void sparse_free(void *p, size_t nbytes)

cdef enum:
    STATE_VERSION = 1
    DEFAULT_RX = 48 << 10       # PBA.RXA at power-on


cdef class PacketBuffer(RegHook):
    """The memory, and where each FIFO's frames lie in it."""

    def __cinit__(self):
        self.mem = <uint8_t *>sparse_alloc(PB_BYTES)
        if self.mem == NULL:
            raise MemoryError
        self.divide(DEFAULT_RX)

    def __dealloc__(self):
        sparse_free(self.mem, PB_BYTES)

    def divide(self, uint32_t rx_bytes):
        """Give the receive FIFO `rx_bytes` and the transmit FIFO the rest, and empty both."""
        memset(&self.rx, 0, sizeof(pb_fifo))
        memset(&self.tx, 0, sizeof(pb_fifo))
        self.rx.size = min(rx_bytes >> 3, <uint32_t>PB_WORDS)
        self.tx.base = self.rx.size
        self.tx.size = PB_WORDS - self.rx.size

    cdef void put(self, pb_fifo *f, uint32_t at, const uint8_t *p, uint32_t n) noexcept nogil:
        """Copy `n` bytes to a share from byte `at` on, wrapping at its end; at most its size."""
        cdef uint32_t size = f.size << 3, part
        if not size:
            return
        if n > size:
            n = size
        at %= size
        part = min(n, size - at)
        memcpy(self.mem + (f.base << 3) + at, p, part)
        if part < n:
            memcpy(self.mem + (f.base << 3), p + part, n - part)

    cdef void frame(self, pb_fifo *f, uint32_t at, const uint8_t *p, uint32_t n,
                    const uint8_t *fcs, uint32_t flags) noexcept nogil:
        """Write a frame of `n` bytes, with an FCS or without, at word `at`; a frame longer than the
        share is cut to fit."""
        cdef uint8_t head[PB_HEADER]
        cdef uint32_t size = f.size << 3
        memset(head, 0, PB_HEADER)
        st32le(head, n + (4 if fcs != NULL else 0))
        st32le(head + 4, flags)
        self.put(f, at << 3, head, PB_HEADER)
        if n + PB_HEADER > size:
            n = size - PB_HEADER if size > PB_HEADER else 0
            fcs = NULL
        self.put(f, (at << 3) + PB_HEADER, p, n)
        if fcs != NULL:
            self.put(f, (at << 3) + PB_HEADER + n, fcs, 4)

    cdef void get(self, const pb_fifo *f, uint32_t at, uint8_t *p, uint32_t n) noexcept nogil:
        """Copy `n` bytes of a share from byte `at` on, wrapping at its end; zeros beyond its size.
        """
        cdef uint32_t size = f.size << 3, part
        if n > size:
            memset(p + size, 0, n - size)
            n = size
        if not size:
            return
        at %= size
        part = min(n, size - at)
        memcpy(p, self.mem + (f.base << 3) + at, part)
        if part < n:
            memcpy(p + part, self.mem + (f.base << 3), n - part)

    cdef const uint8_t *whole(self, const pb_fifo *f, uint32_t at, uint32_t n) noexcept nogil:
        """The address of byte `at` of a share; NULL unless `n` bytes from there are in one piece.
        """
        cdef uint32_t size = f.size << 3
        if not size:
            return NULL
        at %= size
        return self.mem + (f.base << 3) + at if n <= size - at else NULL

    # --- registers -------------------------------------------------------------------------------

    cdef uint32_t *pointer(self, uint32_t which) noexcept:
        cdef pb_fifo *f = &self.rx if which < TDFH else &self.tx
        which = which & 0xFF
        if which == RDFH & 0xFF:
            return &f.head
        if which == RDFT & 0xFF:
            return &f.tail
        if which == RDFHS & 0xFF:
            return &f.saved_head
        if which == RDFTS & 0xFF:
            return &f.saved_tail
        return &f.count

    cdef uint32_t on_read(self, reg *r, uint32_t value) except? 0xFFFFFFFF:
        cdef uint32_t which = r.which
        cdef pb_fifo *f = &self.rx if which < TDFH else &self.tx
        if which >= PBM:
            self.exact = True
            return ld32le(self.mem + (which - PBM & PB_BYTES - 4))
        value = self.pointer(which)[0]
        if which == RDFH or which == TDFH:
            value += f.taken
        elif which == RDFT or which == TDFT:
            value += f.begun
        else:
            return value
        return value % f.size if f.size else 0

    cdef int on_write(self, reg *r, uint32_t old, uint32_t new) except -1:
        cdef uint32_t which = r.which
        cdef pb_fifo *f = &self.rx if which < TDFH else &self.tx
        if which >= PBM:
            self.exact = True
            st32le(self.mem + (which - PBM & PB_BYTES - 4), new)
        elif which != RDFPC and which != TDFPC:     # the hardware counts
            if f is &self.rx and f.count and which <= RDFT and self.forget is not None:
                self.forget()
            f.taken = f.begun = 0
            self.pointer(which)[0] = new % f.size if f.size else 0
        return 0

    # --- frames to send that wait for the wire ---------------------------------------------------

    @property
    def tx_words(self):
        """Words of the transmit FIFO."""
        return self.tx.size

    def tx_wait(self, uint32_t frames, uint32_t words, bint move=True):
        """Set how many frames, of how many words, wait between head and tail. Without `move` the
        head is not changed, since software may have written it."""
        cdef pb_fifo *f = &self.tx
        f.count = frames
        f.fill = words
        if f.size and move:
            f.head = (f.tail + f.size - words % f.size) % f.size
            f.saved_head = f.head

    # --- for tests, snapshots --------------------------------------------------------------------

    def pointers(self, bint tx=False):
        """Return the register values (head, tail, saved head, saved tail, frames that wait)."""
        cdef pb_fifo *f = &self.tx if tx else &self.rx
        if not f.size:
            return 0, 0, 0, 0, f.count
        return ((f.head + f.taken) % f.size, (f.tail + f.begun) % f.size, f.saved_head,
                f.saved_tail, f.count)

    def memory(self):
        """Return the 64 KiB as bytes, without setting `exact`."""
        return (<char *>self.mem)[:PB_BYTES]

    def state(self):
        """Memory and pointers as bytes (versioned); waiting frames are in the engines' states."""
        out = [STATE_VERSION, self.exact]
        out += [self.rx.head, self.rx.tail, self.rx.saved_head, self.rx.saved_tail]
        out += [self.tx.head, self.tx.tail, self.tx.saved_head, self.tx.saved_tail]
        return b"".join([n.to_bytes(4, "little") for n in out]) + self.memory()

    def load(self, bytes data not None):
        """Restore what `state` gave, the shares being as they were. ValueError: another version or
        size."""
        cdef const uint8_t *p = <const uint8_t *><const char *>data
        if len(data) != 40 + PB_BYTES or ld32le(p) != STATE_VERSION:
            raise ValueError("PacketBuffer.load: not a packet buffer of this version")
        self.exact = ld32le(p + 4) != 0
        _pointers(&self.rx, p + 8)
        _pointers(&self.tx, p + 24)
        memcpy(self.mem, p + 40, PB_BYTES)


cdef void _pointers(pb_fifo *f, const uint8_t *p) noexcept:
    if f.size:
        f.head = ld32le(p) % f.size
        f.tail = ld32le(p + 4) % f.size
        f.saved_head = ld32le(p + 8) % f.size
        f.saved_tail = ld32le(p + 12) % f.size
