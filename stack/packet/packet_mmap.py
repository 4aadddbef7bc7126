"""The memory of packet rings: pages of a file that a program, or Python, maps as well."""

from __future__ import annotations

import errno
import mmap
import os
import sys
import tempfile
import weakref

from stack.core.bsd_socket import sys_mmap
from stack.core.errors import os_error
from stack.core.file import vm_area_struct
from stack.core.pipe import PAGE_SIZE
from stack.net import Net

if sys.platform == "linux":
    import fcntl


MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
"""Memory of this machine, bytes: more is ENOMEM. Unused pages take no memory."""


def alloc_pg_vec(size: int) -> tuple[int, mmap.mmap]:
    """net/packet/af_packet.c: a file of `size` bytes, and its pages. Raises: OSError ENOMEM.

    No user of the file can change its size, because readers beyond its end would be killed.
    """
    if size > MEMORY:
        raise os_error(errno.ENOMEM, f"a ring of {size} bytes")
    if sys.platform == "linux":
        fd = os.memfd_create("packet ring", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    try:
        os.ftruncate(fd, size)
        if sys.platform == "linux":
            seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        return fd, mmap.mmap(fd, size)
    except (OSError, OverflowError, ValueError):
        os.close(fd)
        raise os_error(errno.ENOMEM, f"a ring of {size} bytes") from None


class Mapped:
    """Whether Python still has a mapping of a ring."""

    def __init__(self) -> None:
        self.area: weakref.ref[mmap.mmap] | None = None

    def __call__(self) -> bool:
        area = None if self.area is None else self.area()
        return area is not None and not area.closed


def map_ring(net: Net, fd: int, length: int, offset: int) -> mmap.mmap:
    """mmap(2) of a packet socket's ring by Python. Raises: OSError EINVAL, ENODEV."""
    mapped = Mapped()
    vma = vm_area_struct(length, offset // PAGE_SIZE, mapped)
    if offset % PAGE_SIZE:
        raise os_error(errno.EINVAL, f"a mapping begins with a page, not at {offset}")
    sys_mmap(net, fd, vma)
    area = mmap.mmap(vma.vm_file, length)
    mapped.area = weakref.ref(area)
    return area
