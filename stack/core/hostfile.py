"""Python files under descriptors of a host, for sendfile and splice.

A host has no file system, so its programs send and store files of Python: any binary file with
`seek` and `readinto` or `write`. To the host such a file is like one on a disk: always ready, with
a position, and without poll (epoll refuses it with EPERM).
"""

from __future__ import annotations

import errno
from typing import Any

from stack.core.errors import os_error
from stack.core.file import (
    O_ACCMODE,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    fd_install,
    file_operations,
    struct_file,
)
from stack.core.iov import msghdr
from stack.core.pipe import PAGE_SIZE, pipe_inode_info, splice_to_pipe
from stack.net import Net

PIECE_BYTES = 1 << 16


def hostfile_read(file: struct_file, to: msghdr) -> int:
    """From the file's position on. Raises: what the Python file raises."""
    done = 0
    python = file.private_data
    while to.count:
        python.seek(file.f_pos)
        data = python.read(min(to.count, PIECE_BYTES))
        if not data:
            break
        to.put(data)
        file.f_pos += len(data)
        done += len(data)
    return done


def hostfile_write(file: struct_file, source: msghdr) -> int:
    """At the file's position. Raises: what the Python file raises."""
    done = 0
    python = file.private_data
    while source.count:
        python.seek(file.f_pos)
        written = python.write(source.take(min(source.count, PIECE_BYTES)))
        file.f_pos += written
        done += written
    return done


def at_position(file: struct_file, pos: int | None, msg: msghdr, call: Any) -> int:
    """Read or write at `pos` without moving the file's position; None: at that position."""
    if pos is None:
        n: int = call(file, msg)
        return n
    kept, file.f_pos = file.f_pos, pos
    try:
        n = call(file, msg)
        return n
    finally:
        file.f_pos = kept


def filemap_splice_read(
    file: struct_file, pos: int | None, pipe: pipe_inode_info, size: int
) -> int:
    """mm/filemap.c: file_operations.splice_read: slots are pages of the file. Bytes."""
    skew = (file.f_pos if pos is None else pos) % PAGE_SIZE
    room = bytearray(min(size, (pipe.max_usage - len(pipe.bufs)) * PAGE_SIZE - skew))
    n = at_position(file, pos, msghdr(None, room), hostfile_read)
    splice_to_pipe(pipe, room, n, skew)
    return n


def hostfile_release(file: struct_file) -> None:
    """Do nothing: the Python file belongs to the program."""


hostfile_fops = file_operations(
    release=hostfile_release,
    read_iter=hostfile_read,
    write_iter=hostfile_write,
    splice_read=filemap_splice_read,
)


def open_hostfile(net: Net, python: Any) -> struct_file:
    """An open file of a Python file, at its position. Raises: OSError EINVAL, not seekable."""
    if not python.seekable():
        raise os_error(errno.EINVAL, f"{python!r} has no positions")
    reads, writes = python.readable(), python.writable()
    mode = O_RDWR if reads and writes else O_WRONLY if writes else O_RDONLY
    file = struct_file(net, hostfile_fops, python, mode)
    file.f_pos = python.tell()
    return file


def install_hostfile(net: Net, python: Any) -> int:
    """A number for a Python file. Raises: OSError EMFILE, EINVAL."""
    return fd_install(net, open_hostfile(net, python), 0)


def is_hostfile(file: struct_file) -> bool:
    """Whether it has positions (FMODE_LSEEK)."""
    return file.f_op is hostfile_fops


def readable(file: struct_file) -> bool:
    """FMODE_READ"""
    return file.f_flags & O_ACCMODE != O_WRONLY


def writable(file: struct_file) -> bool:
    """FMODE_WRITE"""
    return file.f_flags & O_ACCMODE != O_RDONLY
