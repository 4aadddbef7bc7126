"""The standard library's `fcntl` for descriptors of a host: `fcntl(host, sock, F_GETFL)`.

`ioctl` takes and returns the kernel's structs (struct ifreq has 40 bytes). So code written for
`fcntl.ioctl` needs the host as its first argument and no other change.
"""

from __future__ import annotations

from typing import Any

from stack.api.select import host_fd
from stack.core.fcntl import (
    F_DUPFD,
    F_DUPFD_CLOEXEC,
    F_GETFD,
    F_GETFL,
    F_GETOWN,
    F_GETOWN_EX,
    F_GETPIPE_SZ,
    F_GETSIG,
    F_OWNER_PGRP,
    F_OWNER_PID,
    F_OWNER_TID,
    F_SETFD,
    F_SETFL,
    F_SETOWN,
    F_SETOWN_EX,
    F_SETPIPE_SZ,
    F_SETSIG,
    FD_CLOEXEC,
    OWNER_EX,
    sys_fcntl,
)
from stack.core.file import FASYNC
from stack.core.ioctl import sys_ioctl
from stack.core.memory import user_memory
from stack.net import Net

__all__ = [
    "FASYNC",
    "FD_CLOEXEC",
    "F_DUPFD",
    "F_DUPFD_CLOEXEC",
    "F_GETFD",
    "F_GETFL",
    "F_GETOWN",
    "F_GETOWN_EX",
    "F_GETPIPE_SZ",
    "F_GETSIG",
    "F_OWNER_PGRP",
    "F_OWNER_PID",
    "F_OWNER_TID",
    "F_SETFD",
    "F_SETFL",
    "F_SETOWN",
    "F_SETOWN_EX",
    "F_SETPIPE_SZ",
    "F_SETSIG",
    "O_ASYNC",
    "fcntl",
    "ioctl",
]

O_ASYNC = FASYNC
IOCTL_BUFSZ = 1024


def fcntl(net: Net, fd: Any, cmd: int, arg: Any = 0) -> Any:
    """As `fcntl.fcntl`: an int, or with `arg` bytes the struct. Raises: OSError."""
    with net.lock:
        found = sys_fcntl(net, host_fd(fd), cmd, arg)
    if not user_memory(arg):
        return found
    data = bytes(arg)
    return found + data[OWNER_EX.size :] if isinstance(found, bytes) else data


def ioctl(net: Net, fd: Any, request: int, arg: Any = 0, mutate_flag: bool = True) -> Any:
    """As `fcntl.ioctl`.

    `arg` is a number or memory. With `mutate_flag` a writable buffer receives the answer, and the
    call's result is returned. With bytes, or without the flag, a changed copy is returned. Requests
    whose answer is an int (FIONREAD ...) return it when `arg` is omitted. As in the standard
    library, a buffer of less than 1024 bytes may be shorter than the request's struct.
    """
    number = host_fd(fd)
    if not user_memory(arg):
        with net.lock:
            return sys_ioctl(net, number, request, arg)
    view = memoryview(arg).cast("B")
    size = len(view)
    answers = not view.readonly and mutate_flag
    if size > IOCTL_BUFSZ:
        if not answers:
            raise ValueError("ioctl string arg too long")
        with net.lock:
            return sys_ioctl(net, number, request, view)
    copy = bytearray(view).ljust(IOCTL_BUFSZ, b"\0")
    with net.lock:
        found = sys_ioctl(net, number, request, copy)
    if not answers:
        return bytes(copy[:size])
    view[:] = copy[:size]
    return found
