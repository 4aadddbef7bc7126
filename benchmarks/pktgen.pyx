# cython: language_level=3, embedsignature=True
"""Driver-side generator and sink: descriptors prepared and reaped in bulk, for measuring the ring
engines.

`pump` moves bursts from a `TxGen`'s ring through a `TxEngine`, a `FrameBatch` and an `RxEngine`
into an `RxSink`'s ring, all in C. The engines do exactly what they do behind a doorbell.
"""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from fastpath.base.batch cimport FrameBatch
from fastpath.base.bytes cimport ld64le, st64le
from fastpath.base.dma cimport HostMemory
from fastpath.nic.e1000_hw cimport (
    CMD_DEXT, CMD_EOP, CMD_IFCS, CMD_RS, RDBAL, RDT, TDBAH, TDBAL, TDH, TDLEN, TDT,
)
from fastpath.nic.rxring cimport RxEngine
from fastpath.nic.txring cimport TxEngine, tx_budget, tx_budget_of

cdef enum:
    POPTS_BOTH = 0x03


cdef class Ring:
    """A ring of `count` empty descriptors and its buffers."""
    cdef HostMemory mem
    cdef readonly uint64_t dma      # bus address of the ring
    cdef uint64_t bufs_addr
    cdef uint8_t *ring
    cdef readonly uint32_t count    # descriptors
    cdef uint32_t buf_bytes
    cdef uint32_t clean             # the next descriptor to reap
    cdef readonly uint32_t tail     # what TDT or RDT wants

    def __cinit__(self, HostMemory mem not None, count=256, buf_bytes=2048):
        if not 8 <= count <= 4096 or count % 8:
            raise ValueError(f"ring of {count} descriptors: need a multiple of 8 in 8..4096")
        if not 64 <= buf_bytes <= 16384:
            raise ValueError(f"buffers of {buf_bytes} bytes: need 64..16384")
        self.mem = mem
        self.count = count
        self.buf_bytes = buf_bytes
        self.dma = mem.alloc(count * 16, 4096)
        self.bufs_addr = mem.alloc(count * buf_bytes, 4096)
        self.ring = mem.at(self.dma, count * 16)
        memset(self.ring, 0, count * 16)

    @property
    def size_bytes(self):
        """What TDLEN or RDLEN wants."""
        return self.count * 16


@cython.final
cdef class TxGen(Ring):
    """Transmit ring of `count` legacy (or, with `offload`, data) descriptors over buffers with
    prepared frames."""
    cdef uint32_t *lengths      # of the frame in buffer i, 0 = none yet
    cdef public uint32_t cmd    # descriptor command byte
    cdef public bint offload    # data descriptors that ask for IXSM and TXSM
    cdef public uint64_t posted, done

    def __cinit__(self, HostMemory mem not None, count=256, buf_bytes=2048):
        self.lengths = <uint32_t *>calloc(count, sizeof(uint32_t))
        if self.lengths == NULL:
            raise MemoryError
        self.cmd = CMD_EOP | CMD_IFCS | CMD_RS

    def __dealloc__(self):
        free(self.lengths)

    def load(self, frames):
        """Put `frames` (bytes objects) into the buffers, round robin. ValueError: longer than a
        buffer."""
        frames = list(frames)
        if not frames:
            raise ValueError("TxGen.load: no frame")
        for i in range(self.count):
            frame = frames[i % len(frames)]
            if len(frame) > self.buf_bytes:
                raise ValueError(f"TxGen.load: frame of {len(frame)} bytes, "
                                 f"buffers hold {self.buf_bytes}")
            self.mem.write(self.bufs_addr + i * self.buf_bytes, frame)
            self.lengths[i] = len(frame)

    def set_context(self, TxEngine tx not None, ipcss=14, ipcso=24, ipcse=33, tucss=34, tucso=40,
                    tucse=0, tucmd=2):
        """Send one context descriptor through `tx` (ring must be idle), so that `offload` frames
        find it loaded."""
        cdef uint64_t a = ipcss | ipcso << 8 | ipcse << 16 | tucss << 32 | tucso << 40 | tucse << 48
        cdef uint64_t q = (<uint64_t>(tucmd | CMD_DEXT | CMD_RS)) << 24
        cdef uint8_t *d = self.ring + self.tail * 16
        st64le(d, a)
        st64le(d + 8, q)
        self.tail = (self.tail + 1) % self.count
        tx.v[TDT >> 2] = self.tail
        tx.run(FrameBatch())
        self._reap()

    def post(self, want):
        """Write up to `want` descriptors; returns how many fitted."""
        return self._post(want)

    def reap(self):
        """Count the descriptors that are done."""
        return self._reap()

    cdef uint32_t _post(self, uint32_t want) noexcept nogil:
        cdef uint32_t wrap = 0 if self.clean > self.tail else self.count
        cdef uint32_t room = self.clean + wrap - self.tail - 1
        cdef uint32_t _i, k = self.tail
        cdef uint64_t q = <uint64_t>self.cmd << 24
        cdef uint8_t *d
        if self.offload:
            q |= <uint64_t>1 << 20 | <uint64_t>CMD_DEXT << 24 | <uint64_t>POPTS_BOTH << 40
        if want > room:
            want = room
        for _i in range(want):
            d = self.ring + k * 16
            st64le(d, self.bufs_addr + <uint64_t>k * self.buf_bytes)
            st64le(d + 8, q | self.lengths[k])
            k += 1
            if k == self.count:
                k = 0
        self.tail = k
        self.posted += want
        return want

    cdef uint32_t _reap(self) noexcept nogil:
        cdef uint32_t k = self.clean, out = 0
        while k != self.tail and self.ring[k * 16 + 12] & 1:
            out += 1
            k += 1
            if k == self.count:
                k = 0
        self.clean = k
        self.done += out
        return out


@cython.final
cdef class RxSink(Ring):
    """Receive ring of `count` descriptors; a buffer goes back as soon as its frame is counted."""
    cdef public uint64_t frames, descriptors, octets, csum_ok, errors

    def __cinit__(self, HostMemory mem not None, count=256, buf_bytes=2048):
        cdef uint32_t i
        for i in range(self.count):
            st64le(self.ring + i * 16, self.bufs_addr + <uint64_t>i * self.buf_bytes)
        self.tail = count - 1

    def reap(self, budget=1 << 30):
        """Count frames that arrived and give their descriptors back; returns descriptors reaped."""
        return self._reap(budget)

    def frame(self, back=1):
        """Bytes of the `back`-th descriptor before the next one to reap (its buffer is the device's
        again)."""
        cdef uint32_t k = (self.clean + self.count - <uint32_t>back) % self.count
        return self.mem.read(self.bufs_addr + k * self.buf_bytes, self.buf_bytes)

    cdef uint32_t _reap(self, uint32_t budget) noexcept nogil:
        cdef uint32_t k = self.clean, out = 0
        cdef uint8_t *d
        cdef uint64_t q
        while out < budget:
            d = self.ring + k * 16
            q = ld64le(d + 8)
            if not q >> 32 & 1:
                break
            self.octets += q & 0xFFFF
            if q >> 33 & 1:
                self.frames += 1
                if q >> 40 & 0xFF:
                    self.errors += 1
                elif q >> 37 & 1:
                    self.csum_ok += 1
            st64le(d, self.bufs_addr + <uint64_t>k * self.buf_bytes)
            st64le(d + 8, 0)
            self.tail = k
            out += 1
            k += 1
            if k == self.count:
                k = 0
        self.clean = k
        self.descriptors += out
        return out


def attach(TxGen gen, TxEngine tx, RxSink sink, RxEngine rx):
    """Program the rings of `gen` and `sink` into the engines (either pair may be None)."""
    if gen is not None and tx is not None:
        _ring(tx.v + (TDBAL >> 2), gen)
    if sink is not None and rx is not None:
        _ring(rx.v + (RDBAL >> 2), sink)


cdef void _ring(uint32_t *v, Ring ring) noexcept:
    """Write the five registers of a ring, which stand alike from TDBAL and from RDBAL on."""
    v[0] = <uint32_t>ring.dma
    v[(TDBAH - TDBAL) >> 2] = <uint32_t>(ring.dma >> 32)
    v[(TDLEN - TDBAL) >> 2] = ring.count * 16
    v[(TDH - TDBAL) >> 2] = ring.clean
    v[(TDT - TDBAL) >> 2] = ring.tail


def pump(TxGen gen not None, TxEngine tx not None, FrameBatch batch not None, RxEngine rx not None,
         RxSink sink not None, int rounds, int burst):
    """Move `rounds` bursts from ring to ring; returns frames that left the transmit engine. Empties
    `batch`."""
    cdef uint64_t moved = 0
    cdef int _i
    cdef tx_budget budget = tx_budget_of(burst)
    batch.clear()
    tx.dma.busy += 1
    rx.dma.busy += 1
    with nogil:
        for _i in range(rounds):
            gen._post(burst)
            tx.v[TDT >> 2] = gen.tail
            tx._run(batch, &budget)
            moved += batch.n
            rx._receive(batch, 0, False)
            batch.n = 0
            batch.used = 0
            sink._reap(0xFFFFFFFFU)
            rx.v[RDT >> 2] = sink.tail
            gen._reap()
    tx.dma.busy -= 1
    rx.dma.busy -= 1
    return moved
