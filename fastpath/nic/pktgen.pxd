# cython: language_level=3
"""Driver-side generator and sink for measuring the ring engines."""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpath.base.batch cimport FrameBatch
from fastpath.base.dma cimport HostMemory
from fastpath.nic.rxring cimport RxEngine
from fastpath.nic.txring cimport TxEngine


@cython.final
cdef class TxGen:
    cdef HostMemory mem
    cdef uint64_t ring_addr, bufs_addr
    cdef uint8_t *ring
    cdef uint32_t n, buf_bytes
    cdef uint32_t *lengths      # of the frame in buffer i, 0 = none yet
    cdef uint32_t next, clean
    cdef public uint32_t cmd    # descriptor command byte
    cdef public bint offload    # data descriptors that ask for IXSM and TXSM
    cdef public uint64_t posted, done
    cdef uint32_t _post(self, uint32_t want) noexcept nogil
    cdef uint32_t _reap(self) noexcept nogil


@cython.final
cdef class RxSink:
    cdef HostMemory mem
    cdef uint64_t ring_addr, bufs_addr
    cdef uint8_t *ring
    cdef uint32_t n, buf_bytes
    cdef uint32_t next, tail_
    cdef public uint64_t frames, descriptors, octets, csum_ok, errors
    cdef uint32_t _reap(self, uint32_t budget) noexcept nogil
