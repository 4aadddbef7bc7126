"""dup(2), dup2(2), dup3(2) and fcntl(2) (fs/file.c, fs/fcntl.c)."""

from __future__ import annotations

import errno
import struct
from typing import Any

from stack.core.errors import os_error
from stack.core.fasync import (
    PIDTYPE_PGID,
    PIDTYPE_PID,
    PIDTYPE_TGID,
    __f_setown,
    f_getown,
    f_setown,
    file_f_owner,
)
from stack.core.file import (
    FASYNC,
    NR_OPEN,
    O_APPEND,
    O_CLOEXEC,
    fget,
    filp_close,
    get_file,
    struct_file,
)
from stack.core.pipe import O_DIRECT, get_pipe_info, pipe_fcntl
from stack.core.signal import valid_signal
from stack.core.uapi import O_NONBLOCK
from stack.net import Net

# include/uapi/asm-generic/fcntl.h, linux/fcntl.h
F_DUPFD = 0
F_GETFD = 1
F_SETFD = 2
F_GETFL = 3
F_SETFL = 4
F_SETOWN = 8
F_GETOWN = 9
F_SETSIG = 10
F_GETSIG = 11
F_SETOWN_EX = 15
F_GETOWN_EX = 16
F_DUPFD_CLOEXEC = 1030
F_SETPIPE_SZ = 1031
F_GETPIPE_SZ = 1032
FD_CLOEXEC = 1
F_OWNER_TID = 0
F_OWNER_PID = 1
F_OWNER_PGRP = 2
O_NOATIME = 0o1000000
SETFL_MASK = O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME
"""SETFL_MASK without FASYNC, which `setfl` handles by itself. O_NDELAY equals O_NONBLOCK."""
OWNER_EX = struct.Struct("=ii")
"""struct f_owner_ex: kind and number."""


def sys_dup(net: Net, fd: int) -> int:
    """dup(2): another descriptor of the same open file. Raises: OSError EBADF, EMFILE."""
    file: struct_file = fget(net, fd)
    new = net.fdtable.install(file)
    get_file(file)
    return new


def sys_dup2(net: Net, oldfd: int, newfd: int) -> int:
    """dup2(2): `newfd`, which is closed first if it is open. Raises: OSError EBADF."""
    if newfd == oldfd:
        fget(net, oldfd)
        return oldfd
    return ksys_dup3(net, oldfd, newfd, 0)


def sys_dup3(net: Net, oldfd: int, newfd: int, flags: int) -> int:
    """dup3(2): flags 0 or O_CLOEXEC. Raises: OSError EBADF, EINVAL."""
    return ksys_dup3(net, oldfd, newfd, flags)


def ksys_dup3(net: Net, oldfd: int, newfd: int, flags: int) -> int:
    """fs/file.c"""
    if flags & ~O_CLOEXEC:
        raise os_error(errno.EINVAL, f"dup3: flags {flags:#o}")
    if oldfd == newfd:
        raise os_error(errno.EINVAL, "dup3 to the same descriptor")
    if not 0 <= newfd < NR_OPEN:
        raise os_error(errno.EBADF, f"no descriptor may have the number {newfd}")
    file: struct_file = fget(net, oldfd)
    get_file(file)
    table = net.fdtable
    before: struct_file | None = table.remove(newfd)
    table.install_at(file, newfd)
    if flags & O_CLOEXEC:
        table.close_on_exec.add(newfd)
    if before is not None:
        filp_close(before)
    return newfd


def f_dupfd(net: Net, file: struct_file, start: int, cloexec: bool) -> int:
    """fs/file.c: the lowest free number from `start` on. Raises: OSError EINVAL, EMFILE."""
    if not 0 <= start < NR_OPEN:
        raise os_error(errno.EINVAL, f"no descriptor may have the number {start}")
    fd = net.fdtable.install_from(file, start)
    get_file(file)
    if cloexec:
        net.fdtable.close_on_exec.add(fd)
    return fd


def setfl(fd: int, file: struct_file, arg: int) -> None:
    """fs/fcntl.c: O_NONBLOCK, O_ASYNC, O_APPEND ... of an open file. Raises: OSError EINVAL."""
    if arg & O_DIRECT and get_pipe_info(file) is None:
        raise os_error(errno.EINVAL, "O_DIRECT is for files of a disk")
    if (arg ^ file.f_flags) & FASYNC and file.f_op.fasync is not None:
        file.f_op.fasync(fd, file, bool(arg & FASYNC))
    file.f_flags = (arg & SETFL_MASK) | (file.f_flags & ~SETFL_MASK)


def sys_fcntl(net: Net, fd: int, cmd: int, arg: Any = 0) -> Any:
    """fcntl(2): an int; of F_GETOWN_EX the struct's bytes. Raises: OSError EBADF, EINVAL, ESRCH."""
    return do_fcntl(net, fd, cmd, arg, fget(net, fd))


def do_fcntl(net: Net, fd: int, cmd: int, arg: Any, file: struct_file) -> Any:
    """fs/fcntl.c"""
    if cmd == F_SETOWN_EX:
        f_setown_ex(file, arg)
        return 0
    if cmd == F_GETOWN_EX:
        return f_getown_ex(file)
    number = int(arg)
    if cmd in (F_DUPFD, F_DUPFD_CLOEXEC):
        return f_dupfd(net, file, number, cmd == F_DUPFD_CLOEXEC)
    if cmd == F_GETFD:
        return FD_CLOEXEC if fd in net.fdtable.close_on_exec else 0
    if cmd == F_SETFD:
        if number & FD_CLOEXEC:
            net.fdtable.close_on_exec.add(fd)
        else:
            net.fdtable.close_on_exec.discard(fd)
        return 0
    if cmd == F_GETFL:
        return file.f_flags
    if cmd == F_SETFL:
        setfl(fd, file, number)
        return 0
    if cmd == F_GETOWN:
        return f_getown(file)
    if cmd == F_SETOWN:
        f_setown(file, number)
        return 0
    if cmd == F_GETSIG:
        return file.f_owner.signum if file.f_owner is not None else 0
    if cmd == F_SETSIG:
        if not valid_signal(number):
            raise os_error(errno.EINVAL, f"there is no signal {number}")
        file_f_owner(file).signum = number
        return 0
    if cmd in (F_GETPIPE_SZ, F_SETPIPE_SZ):
        return pipe_fcntl(file, cmd == F_SETPIPE_SZ, number)
    raise os_error(errno.EINVAL, f"fcntl: unknown command {cmd}")


def f_setown_ex(file: struct_file, arg: Any) -> None:
    """fs/fcntl.c: the owner by kind and number. Raises: OSError EINVAL, ESRCH, EFAULT."""
    data = bytes(arg)
    if len(data) < OWNER_EX.size:
        raise os_error(errno.EFAULT, f"struct f_owner_ex has {OWNER_EX.size} bytes")
    kind, pid = OWNER_EX.unpack_from(data)
    if kind not in (F_OWNER_TID, F_OWNER_PID, F_OWNER_PGRP):
        raise os_error(errno.EINVAL, f"f_owner_ex: unknown kind {kind}")
    __f_setown(file, pid, (PIDTYPE_PID, PIDTYPE_TGID, PIDTYPE_PGID)[kind])


def f_getown_ex(file: struct_file) -> bytes:
    """fs/fcntl.c: struct f_owner_ex."""
    fown = file.f_owner
    if fown is None:
        return OWNER_EX.pack(F_OWNER_PID, 0)
    kinds = {PIDTYPE_PID: F_OWNER_TID, PIDTYPE_TGID: F_OWNER_PID, PIDTYPE_PGID: F_OWNER_PGRP}
    return OWNER_EX.pack(kinds[fown.pid_type], fown.pid)
