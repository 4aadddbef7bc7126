"""The program's memory in a call (linux/uaccess.h).

The caller gives a writable buffer, which holds the request's struct and receives the answer. Some
structs (ifconf, rtentry) hold addresses of more memory, which ctypes and array give. The kernel
reads and writes that memory for us: a bad address is EFAULT, where our own load or store would end
the process.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from typing import Any

from stack.core.errors import os_error

INT = struct.Struct("=i")
STRING_MAX = 4096


class iovec(ctypes.Structure):
    """struct iovec of process_vm_readv(2)."""

    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


def user_memory(arg: Any) -> bool:
    """Whether `arg` is memory: neither None nor a number."""
    return arg is not None and not isinstance(arg, int)


def copy_from_user(arg: Any, size: int) -> bytearray:
    """The first `size` bytes. Raises: OSError EFAULT, there are not as many."""
    if not user_memory(arg):
        raise os_error(errno.EFAULT, f"the request takes a buffer of {size} bytes")
    data = bytearray(memoryview(arg).cast("B")[:size])
    if len(data) < size:
        raise os_error(errno.EFAULT, f"the request takes {size} bytes, not {len(data)}")
    return data


def copy_to_user(arg: Any, data: bytes | bytearray) -> None:
    """Write `data` at the beginning. Raises: OSError EFAULT: no buffer, too small, read-only."""
    if not user_memory(arg):
        raise os_error(errno.EFAULT, f"the request writes a buffer of {len(data)} bytes")
    view = memoryview(arg).cast("B")
    if view.readonly or len(view) < len(data):
        raise os_error(errno.EFAULT, f"the request writes {len(data)} bytes, of {len(view)}")
    view[: len(data)] = data


def get_user_int(arg: Any) -> int:
    """An int from memory, or the number that was given itself. Raises: OSError EFAULT."""
    if arg is None:
        raise os_error(errno.EFAULT, "the request takes an int")
    if isinstance(arg, int):
        return arg
    number: int = INT.unpack(copy_from_user(arg, INT.size))[0]
    return number


def put_user_int(value: int, arg: Any) -> int:
    """Write an int into memory and return 0, or return it where there is none."""
    if not user_memory(arg):
        return value
    copy_to_user(arg, INT.pack(value))
    return 0


def _process_vm(call: str, address: int, local: Any, size: int) -> int:
    """process_vm_readv(2) or _writev(2) on this process: bytes moved. Raises: OSError EFAULT."""
    if sys.platform != "linux":
        raise os_error(errno.EFAULT, "memory by its address needs Linux's process_vm_readv")
    function = getattr(ctypes.CDLL(None, use_errno=True), call)
    here = iovec(ctypes.addressof(local), size)
    there = iovec(address, size)
    function.restype = ctypes.c_ssize_t
    done = function(os.getpid(), ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    if done < 0:
        raise os_error(errno.EFAULT, f"memory at {address:#x}")
    return int(done)


def write_address(address: int, data: bytes) -> None:
    """copy_to_user to an address of this process. Raises: OSError EFAULT."""
    if data:
        local = ctypes.create_string_buffer(data, len(data))
        if _process_vm("process_vm_writev", address, local, len(data)) < len(data):
            raise os_error(errno.EFAULT, f"memory at {address:#x} ends too early")


def read_address(address: int, size: int) -> bytes:
    """copy_from_user from an address of this process. Raises: OSError EFAULT."""
    local = ctypes.create_string_buffer(max(size, 1))
    if size and _process_vm("process_vm_readv", address, local, size) < size:
        raise os_error(errno.EFAULT, f"memory at {address:#x} ends too early")
    return local.raw[:size]


def read_string(address: int, size: int) -> bytes:
    """strncpy_from_user: up to a NUL or `size` bytes. Raises: OSError EFAULT."""
    found = b""
    while len(found) < size:
        # Not over the end of a page: the next one may not be there.
        piece = min(size - len(found), STRING_MAX - (address + len(found)) % STRING_MAX)
        local = ctypes.create_string_buffer(piece)
        done = _process_vm("process_vm_readv", address + len(found), local, piece)
        text, nul, _ = local.raw[:done].partition(b"\0")
        found += text
        if nul or done < piece:
            break
    return found
