"""The memory and descriptors of other programs.

What answers calls is tested with programs, tests/programs.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath.base import seccomp

pytestmark = pytest.mark.skipif(not seccomp.available(), reason="needs Linux's seccomp")
ME = os.getpid()
READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
LIBC = ctypes.CDLL(None)
LIBC.mmap.restype = ctypes.c_size_t
LIBC.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
LIBC.munmap.argtypes = (ctypes.c_size_t, ctypes.c_size_t)


def test_memory_that_is_not_there():
    for call in (
        lambda: seccomp.read_memory(ME, 8, 1),
        lambda: seccomp.write_memory(ME, 8, b"x"),
        lambda: seccomp.read_memory(ME, (1 << 64) - 8, 16),
    ):
        with pytest.raises(OSError) as raised:  # noqa: PT011 - the errno is looked at
            call()
        assert raised.value.errno == errno.EFAULT
    with pytest.raises(OSError):  # noqa: PT011 - no such process
        seccomp.read_memory(1 << 22, 4096, 1)
    with pytest.raises(ValueError, match="give 0 to"):
        seccomp.read_memory(ME, 4096, 1 << 40)
    assert seccomp.read_memory(ME, 8, 0) == b""


@given(st.binary(max_size=64), st.integers(0, 80), st.integers(-8, 1 << 12))
def test_memory_is_moved_up_to_the_end_of_a_mapping(data, count, beyond):
    """The last page of the mapping has `data` at its end, with nothing behind it."""
    start = LIBC.mmap(None, 2 * mmap.PAGESIZE, READ_WRITE, PRIVATE, -1, 0)
    try:
        LIBC.munmap(start + mmap.PAGESIZE, mmap.PAGESIZE)
        addr = start + mmap.PAGESIZE - len(data)
        first = min(beyond, 0)
        try:
            seccomp.write_memory(ME, addr, data)
            same = seccomp.read_memory(ME, addr, len(data)) == data
            found = bytes(seccomp.read_memory(ME, addr + first, count))
        except OSError as exc:
            found = exc.errno
    finally:
        LIBC.munmap(start, mmap.PAGESIZE)
    assert same
    there = bytes(-first) + data
    assert found == (there[:count] if count <= len(there) else errno.EFAULT)


def test_descriptors_of_others_and_of_nobody():
    read, write = os.pipe()
    with os.fdopen(seccomp.get_fd(ME, write), "wb") as file:
        file.write(b"x")
    assert os.read(read, 10) == b"x"
    for tid, number, code in ((ME, 9999, errno.EBADF), (1 << 22, 0, errno.EINVAL)):
        with pytest.raises(OSError) as raised:  # noqa: PT011 - the errno is looked at
            seccomp.get_fd(tid, number)
        assert raised.value.errno in (code, errno.ESRCH)
    os.close(read)
    os.close(write)
