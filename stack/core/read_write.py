"""read(2), write(2) and their vectors (fs/read_write.c); of sockets, into the two funnels."""

from __future__ import annotations

import errno
from typing import Any

from stack.core.bsd_socket import msghdr_get, msghdr_put
from stack.core.errors import os_error
from stack.core.file import O_ACCMODE, O_RDONLY, O_WRONLY, fget, struct_file
from stack.core.iov import UIO_MAXIOV, msghdr
from stack.net import Net


def sys_read(net: Net, fd: int, buf: Any) -> int:
    """read(2) into `buf`: bytes. Raises: OSError EBADF, EINVAL, or what recv() would."""
    return vfs_iter_read(net, fget(net, fd), buf)


def sys_readv(net: Net, fd: int, vec: Any) -> int:
    """readv(2) into a list of buffers, in order: bytes. Raises: OSError; EINVAL for over 1024."""
    file: struct_file = fget(net, fd)
    if not import_iovec(vec):
        reader(file)
        return 0
    return vfs_iter_read(net, file, vec)


def sys_write(net: Net, fd: int, buf: Any) -> int:
    """write(2): bytes taken. Raises: OSError EBADF, EINVAL, or what send() would."""
    return vfs_iter_write(net, fget(net, fd), buf)


def sys_writev(net: Net, fd: int, vec: Any) -> int:
    """writev(2) of a list of buffers: bytes taken; nothing at all is not even an empty message.

    Raises: OSError; EINVAL for over 1024.
    """
    file: struct_file = fget(net, fd)
    if not import_iovec(vec):
        writer(file)
        return 0
    return vfs_iter_write(net, file, vec)


def import_iovec(vec: Any) -> int:
    """lib/iov_iter.c: the bytes of a vector. Raises: OSError EINVAL: it has too many buffers."""
    if len(vec) > UIO_MAXIOV:
        raise os_error(errno.EINVAL, f"{len(vec)} buffers; UIO_MAXIOV is {UIO_MAXIOV}")
    total = 0
    for buf in vec:
        total += memoryview(buf).nbytes
    return total


def reader(file: struct_file) -> None:
    """FMODE_READ and FMODE_CAN_READ. Raises: OSError EBADF, EINVAL."""
    if file.f_flags & O_ACCMODE == O_WRONLY:
        raise os_error(errno.EBADF, "not open for reading")
    if file.f_op.read_iter is None:
        raise os_error(errno.EINVAL, "what is open cannot be read")


def writer(file: struct_file) -> None:
    """FMODE_WRITE and FMODE_CAN_WRITE. Raises: OSError EBADF, EINVAL."""
    if file.f_flags & O_ACCMODE == O_RDONLY:
        raise os_error(errno.EBADF, "not open for writing")
    if file.f_op.write_iter is None:
        raise os_error(errno.EINVAL, "what is open cannot be written")


def vfs_iter_read(net: Net, file: struct_file, bufs: Any) -> int:
    """fs/read_write.c: into one buffer, or a list of them. Raises: OSError."""
    reader(file)
    msg: msghdr = msghdr_get(net, None, bufs, 0)
    read = file.f_op.read_iter
    assert read is not None
    n: int = read(file, msg)
    msghdr_put(net, msg)
    return n


def vfs_iter_write(net: Net, file: struct_file, bufs: Any) -> int:
    """fs/read_write.c: from one buffer, or a list of them. Raises: OSError."""
    writer(file)
    msg: msghdr = msghdr_get(net, None, bufs, 0)
    write = file.f_op.write_iter
    assert write is not None
    n: int = write(file, msg)
    msghdr_put(net, msg)
    return n
