"""The program's memory in a call (linux/uaccess.h): a writable buffer that the caller gives."""

from __future__ import annotations

import errno
import struct
from typing import Any

INT = struct.Struct("=i")


def user_memory(arg: Any) -> bool:
    """Whether it is memory: not None, no number."""
    return arg is not None and not isinstance(arg, int)


def copy_from_user(arg: Any, size: int) -> bytes:
    """The first `size` bytes. Raises: OSError EFAULT, there are not as many."""
    if not user_memory(arg):
        raise OSError(errno.EFAULT, f"the request takes a buffer of {size} bytes")
    data = bytes(memoryview(arg).cast("B")[:size])
    if len(data) < size:
        raise OSError(errno.EFAULT, f"the request takes {size} bytes, not {len(data)}")
    return data


def copy_to_user(arg: Any, data: bytes) -> None:
    """Write `data` at the beginning. Raises: OSError EFAULT: no buffer, too small, read-only."""
    if not user_memory(arg):
        raise OSError(errno.EFAULT, f"the request writes a buffer of {len(data)} bytes")
    view = memoryview(arg).cast("B")
    if view.readonly or len(view) < len(data):
        raise OSError(errno.EFAULT, f"the request writes {len(data)} bytes, of {len(view)}")
    view[: len(data)] = data


def get_user_int(arg: Any) -> int:
    """An int from memory, or the number that was given itself. Raises: OSError EFAULT."""
    if arg is None:
        raise OSError(errno.EFAULT, "the request takes an int")
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
