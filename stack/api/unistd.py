"""Functions of the standard library's `os` for descriptors of a host (`sock.host_fd`).

    unistd.write(host, sock.host_fd, b"hello")

A call sleeps as the socket's own calls do, on the host's clock; O_NONBLOCK of the open file
(`set_blocking`, `Socket.setblocking`) makes it fail with BlockingIOError instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

from stack.core.bsd_socket import sys_close
from stack.core.fcntl import (
    F_DUPFD_CLOEXEC,
    F_GETFD,
    F_GETFL,
    F_SETFD,
    F_SETFL,
    FD_CLOEXEC,
    sys_dup3,
    sys_fcntl,
)
from stack.core.file import O_CLOEXEC
from stack.core.hostfile import install_hostfile
from stack.core.pipe import sys_pipe2
from stack.core.read_write import sys_read, sys_readv, sys_write, sys_writev
from stack.core.splice import (
    SPLICE_F_MORE,
    SPLICE_F_MOVE,
    SPLICE_F_NONBLOCK,
    sys_sendfile,
    sys_splice,
    sys_tee,
)
from stack.core.uapi import O_NONBLOCK
from stack.net import Net

__all__ = [
    "O_CLOEXEC",
    "O_NONBLOCK",
    "SPLICE_F_MORE",
    "SPLICE_F_MOVE",
    "SPLICE_F_NONBLOCK",
    "close",
    "dup",
    "dup2",
    "get_blocking",
    "get_inheritable",
    "open_file",
    "pipe",
    "pipe2",
    "read",
    "readv",
    "sendfile",
    "set_blocking",
    "set_inheritable",
    "splice",
    "tee",
    "write",
    "writev",
]

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


def read(net: Net, fd: int, n: int) -> bytes:
    """Up to `n` bytes; b"" at the end. Raises: OSError."""
    room = bytearray(n)
    with net.lock:
        got = sys_read(net, fd, room)
    return bytes(memoryview(room)[:got])


def readv(net: Net, fd: int, buffers: Sequence[WriteableBuffer]) -> int:
    """Into several buffers, in order; bytes read. Raises: OSError."""
    with net.lock:
        return sys_readv(net, fd, list(buffers))


def write(net: Net, fd: int, data: ReadableBuffer) -> int:
    """Returns the bytes accepted. Raises: OSError."""
    with net.lock:
        return sys_write(net, fd, data)


def writev(net: Net, fd: int, buffers: Sequence[ReadableBuffer]) -> int:
    """Several buffers as one message; returns the bytes accepted. Raises: OSError."""
    with net.lock:
        return sys_writev(net, fd, list(buffers))


def pipe(net: Net) -> tuple[int, int]:
    """(read end, write end), close-on-exec as from `os.pipe`."""
    return pipe2(net, O_CLOEXEC)


def pipe2(net: Net, flags: int) -> tuple[int, int]:
    """(read end, write end); O_NONBLOCK, O_CLOEXEC."""
    with net.lock:
        return sys_pipe2(net, flags)


def open_file(net: Net, file: IO[bytes]) -> int:
    """A descriptor for a seekable binary Python file, for `sendfile` and `splice`.

    `close` closes the descriptor, not the file. Raises: OSError EINVAL, EMFILE.
    """
    with net.lock:
        return install_hostfile(net, file)


def sendfile(net: Net, out_fd: int, in_fd: int | IO[bytes], offset: int | None, count: int) -> int:
    """Send a file; bytes sent. `in_fd` is a number of `open_file`, or a binary file itself.

    `offset` None: send from the file's position, and move it. Raises: OSError.
    """
    with net.lock:
        return sys_sendfile(net, out_fd, in_fd, offset, count)


def splice(
    net: Net,
    src: int,
    dst: int,
    count: int,
    offset_src: int | None = None,
    offset_dst: int | None = None,
    flags: int = 0,
) -> int:
    """Move up to `count` bytes; `src` or `dst` is a pipe. Bytes moved. Raises: OSError."""
    with net.lock:
        return sys_splice(net, src, offset_src, dst, offset_dst, count, flags)


def tee(net: Net, src: int, dst: int, count: int, flags: int = 0) -> int:
    """Copy up to `count` bytes between two pipes, without consuming them. Returns a count."""
    with net.lock:
        return sys_tee(net, src, dst, count, flags)


def close(net: Net, fd: int) -> None:
    """Raises: OSError EBADF."""
    with net.lock:
        sys_close(net, fd)


def dup(net: Net, fd: int) -> int:
    """Another descriptor of the same open file, close-on-exec as from `os.dup`."""
    with net.lock:
        number: int = sys_fcntl(net, fd, F_DUPFD_CLOEXEC, 0)
    return number


def dup2(net: Net, fd: int, fd2: int, inheritable: bool = True) -> int:
    """`fd2` becomes another descriptor of `fd`'s open file; its old file is closed."""
    with net.lock:
        if fd == fd2:
            sys_fcntl(net, fd, F_GETFD)
            return fd2
        return sys_dup3(net, fd, fd2, 0 if inheritable else O_CLOEXEC)


def get_blocking(net: Net, fd: int) -> bool:
    """Whether calls may sleep: no O_NONBLOCK."""
    with net.lock:
        return not sys_fcntl(net, fd, F_GETFL) & O_NONBLOCK


def set_blocking(net: Net, fd: int, blocking: bool) -> None:
    """O_NONBLOCK of the open file, which all its descriptors share."""
    with net.lock:
        flags = sys_fcntl(net, fd, F_GETFL) & ~O_NONBLOCK
        sys_fcntl(net, fd, F_SETFL, flags if blocking else flags | O_NONBLOCK)


def get_inheritable(net: Net, fd: int) -> bool:
    """No FD_CLOEXEC. It has no effect, since a host does not execute programs."""
    with net.lock:
        return not sys_fcntl(net, fd, F_GETFD) & FD_CLOEXEC


def set_inheritable(net: Net, fd: int, inheritable: bool) -> None:
    """FD_CLOEXEC off or on."""
    with net.lock:
        sys_fcntl(net, fd, F_SETFD, 0 if inheritable else FD_CLOEXEC)
