"""splice(2), tee(2) and sendfile(2) (fs/splice.c, fs/read_write.c, net/socket.c).

Bytes go from a socket or file into the slots of a pipe, and from the slots into another socket or
file. A socket gets the slots themselves, as with MSG_SPLICE_PAGES, so that the protocol copies the
bytes once, into its packets.
"""

from __future__ import annotations

import errno
from typing import Any

from stack.core.bsd_socket import sock_sendmsg, socket
from stack.core.errors import os_error
from stack.core.file import O_APPEND, fget, struct_file
from stack.core.hostfile import at_position, is_hostfile, open_hostfile, readable, writable
from stack.core.iov import msghdr
from stack.core.pipe import (
    PAGE_SIZE,
    get_pipe_info,
    pipe_buffer,
    pipe_full,
    pipe_inode_info,
    pipe_wait_readable,
    pipe_wait_writable,
    pipe_wake_readers,
    pipe_wake_writers,
)
from stack.core.uapi import MSG_DONTWAIT, MSG_MORE, O_NONBLOCK
from stack.net import Net

SPLICE_F_MOVE = 1
SPLICE_F_NONBLOCK = 2
SPLICE_F_MORE = 4
SPLICE_F_ALL = 15
SPLICE_SLOTS = 16
MAX_RW_COUNT = 0x7FFFF000
SENDFILE_PIPE_BYTES = 16 * PAGE_SIZE


# --- into a pipe ---------------------------------------------------------------------------


def wait_for_space(pipe: pipe_inode_info, flags: int) -> None:
    """fs/splice.c: sleep until a slot is free. Raises: OSError EPIPE, EAGAIN."""
    while True:
        if not pipe.readers:
            raise os_error(errno.EPIPE, "nobody reads the pipe")
        if not pipe_full(pipe):
            return
        if flags & SPLICE_F_NONBLOCK:
            raise os_error(errno.EAGAIN, "the pipe is full")
        pipe_wait_writable(pipe)


def do_splice_read(
    file: struct_file, pos: int | None, pipe: pipe_inode_info, size: int, flags: int
) -> int:
    """fs/splice.c: from a file into the free slots of a pipe: bytes. Raises: OSError."""
    size = min(size, (pipe.max_usage - len(pipe.bufs)) * PAGE_SIZE)
    splice_read = file.f_op.splice_read
    if splice_read is None:
        raise os_error(errno.EINVAL, "what is open cannot be spliced from")
    return splice_read(file, pos, pipe, size)


# --- out of a pipe -------------------------------------------------------------------------


def wait_for_bytes(pipe: pipe_inode_info, flags: int) -> bool:
    """fs/splice.c splice_from_pipe_next, ipipe_prep: sleep until there is something to take.

    False: nobody writes any more. Raises: OSError EAGAIN.
    """
    while not pipe.bufs:
        if not pipe.writers:
            return False
        if flags & SPLICE_F_NONBLOCK:
            raise os_error(errno.EAGAIN, "the pipe is empty")
        pipe_wait_readable(pipe)
    return True


def pipe_consume(pipe: pipe_inode_info, n: int) -> None:
    """Remove the first `n` bytes."""
    was_full = pipe_full(pipe)
    while n:
        buf: pipe_buffer = pipe.bufs[0]
        size = min(n, buf.len)
        buf.offset += size
        buf.len -= size
        n -= size
        if not buf.len:
            pipe.bufs.popleft()
    if was_full and not pipe_full(pipe):
        pipe_wake_writers(pipe)


def pipe_views(pipe: pipe_inode_info, size: int) -> list[memoryview]:
    """Views of the first `size` bytes, of at most 16 slots: as many as one message takes."""
    views: list[memoryview] = []
    for buf in pipe.bufs:
        if size <= 0 or len(views) == SPLICE_SLOTS:
            break
        views.append(memoryview(buf.page)[buf.offset : buf.offset + min(buf.len, size)])
        size -= buf.len
    return views


def splice_to_socket(pipe: pipe_inode_info, file: struct_file, size: int, flags: int) -> int:
    """fs/splice.c: send what a pipe holds, at most `size` bytes: bytes. Raises: OSError.

    Sleeps until the first bytes come, then sends what the pipe holds.
    """
    sock: socket = file.private_data
    spliced = 0
    while size:
        if not pipe.bufs and (spliced or not wait_for_bytes(pipe, flags)):
            break
        views = pipe_views(pipe, size)
        msg_flags = MSG_DONTWAIT if file.f_flags & O_NONBLOCK else 0
        if flags & SPLICE_F_MORE or (
            len(pipe.bufs) > len(views) and size > sum(len(view) for view in views)
        ):
            msg_flags |= MSG_MORE
        try:
            n = sock_sendmsg(sock, msghdr(None, views, None, msg_flags))
        except OSError:
            if spliced:
                break
            raise
        pipe_consume(pipe, n)
        spliced += n
        size -= n
    return spliced


def splice_from_pipe(
    pipe: pipe_inode_info, file: struct_file, pos: int | None, size: int, flags: int
) -> int:
    """fs/splice.c: into a file (iter_file_splice_write): bytes. Raises: OSError."""
    if not wait_for_bytes(pipe, flags):
        return 0
    n = at_position(file, pos, msghdr(None, pipe_views(pipe, size)), file.f_op.write_iter)
    pipe_consume(pipe, n)
    return n


def do_splice_from(
    pipe: pipe_inode_info, file: struct_file, pos: int | None, size: int, flags: int
) -> int:
    """fs/splice.c: out of a pipe into a socket or file. Raises: OSError EINVAL ..."""
    if file.sock is not None:
        return splice_to_socket(pipe, file, size, flags)
    if not is_hostfile(file):
        raise os_error(errno.EINVAL, "what is open cannot be spliced to")
    return splice_from_pipe(pipe, file, pos, size, flags)


def splice_pipe_to_pipe(
    ipipe: pipe_inode_info, opipe: pipe_inode_info, size: int, flags: int, link: bool
) -> int:
    """fs/splice.c (and link_pipe): move slots from one pipe to another, or copy them."""
    wait_for_bytes(ipipe, flags)
    wait_for_space(opipe, flags)
    was_empty = not opipe.bufs
    done = 0
    for buf in tuple(ipipe.bufs):
        if done >= size or pipe_full(opipe):
            break
        n = min(buf.len, size - done)
        moved = not link and n == buf.len  # whole: what is written next may still be appended
        merge = moved and buf.can_merge
        opipe.bufs.append(pipe_buffer(buf.page, buf.offset, n, merge, buf.packet))
        done += n
    if not link:
        pipe_consume(ipipe, done)
    if was_empty or opipe.fasync_readers:
        pipe_wake_readers(opipe)
    return done


# --- the calls -----------------------------------------------------------------------------


def check_ends(source: struct_file, target: struct_file) -> None:
    """FMODE_READ of one, FMODE_WRITE of the other. Raises: OSError EBADF."""
    if not readable(source) or not writable(target):
        raise os_error(errno.EBADF, "not open for that direction")


def do_splice(
    source: struct_file,
    off_in: int | None,
    target: struct_file,
    off_out: int | None,
    size: int,
    flags: int,
) -> int:
    """fs/splice.c: one of the two is a pipe. Raises: OSError EBADF, EINVAL, ESPIPE, EAGAIN ..."""
    check_ends(source, target)
    ipipe = get_pipe_info(source)
    opipe = get_pipe_info(target)
    if (ipipe is not None and off_in is not None) or (opipe is not None and off_out is not None):
        raise os_error(errno.ESPIPE, "pipes have no positions")
    if (ipipe is not None and source.f_flags & O_NONBLOCK) or (
        opipe is not None and target.f_flags & O_NONBLOCK
    ):
        flags |= SPLICE_F_NONBLOCK
    if ipipe is not None and opipe is not None:
        if ipipe is opipe:
            raise os_error(errno.EINVAL, "a pipe into itself")
        return splice_pipe_to_pipe(ipipe, opipe, size, flags, False)
    if ipipe is not None:
        if off_out is not None and not is_hostfile(target):
            raise os_error(errno.EINVAL, "a socket has no positions")
        if target.f_flags & O_APPEND:
            raise os_error(errno.EINVAL, "splice does not append")
        return do_splice_from(ipipe, target, off_out, size, flags)
    if opipe is not None:
        if off_in is not None and not is_hostfile(source):
            raise os_error(errno.EINVAL, "a socket has no positions")
        wait_for_space(opipe, flags)
        return do_splice_read(source, off_in, opipe, size, flags)
    raise os_error(errno.EINVAL, "neither is a pipe")


def sys_splice(
    net: Net,
    fd_in: int,
    off_in: int | None,
    fd_out: int,
    off_out: int | None,
    size: int,
    flags: int = 0,
) -> int:
    """splice(2): bytes moved, one end being a pipe. An offset leaves the file's position alone.

    Raises: OSError EBADF, EINVAL, ESPIPE, EAGAIN, EPIPE, and what recv() and send() would.
    """
    if not size:
        return 0
    if flags & ~SPLICE_F_ALL:
        raise os_error(errno.EINVAL, f"splice: flags {flags:#x}")
    source, target = fget(net, fd_in), fget(net, fd_out)
    return do_splice(source, off_in, target, off_out, min(size, MAX_RW_COUNT), flags)


def sys_tee(net: Net, fd_in: int, fd_out: int, size: int, flags: int = 0) -> int:
    """tee(2): the same bytes in another pipe, too. Raises: OSError EBADF, EINVAL, EAGAIN."""
    if flags & ~SPLICE_F_ALL:
        raise os_error(errno.EINVAL, f"tee: flags {flags:#x}")
    if not size:
        return 0
    source, target = fget(net, fd_in), fget(net, fd_out)
    check_ends(source, target)
    ipipe = get_pipe_info(source)
    opipe = get_pipe_info(target)
    if ipipe is None or opipe is None or ipipe is opipe:
        raise os_error(errno.EINVAL, "tee: two pipes")
    if (source.f_flags | target.f_flags) & O_NONBLOCK:
        flags |= SPLICE_F_NONBLOCK
    return splice_pipe_to_pipe(ipipe, opipe, size, flags, True)


def sys_sendfile(net: Net, out_fd: int, source: Any, offset: int | None, count: int) -> int:
    """sendfile(2): bytes that went from a file of the machine to a socket or pipe.

    `source` is a number (`install_hostfile`) or the Python file itself. `offset` None: from its
    position on, which moves; else from there, and it stays. Raises: OSError EBADF, EINVAL, ESPIPE,
    EAGAIN, and what send() would.
    """
    target = fget(net, out_fd)
    file = fget(net, source) if isinstance(source, int) else open_hostfile(net, source)
    sent = do_sendfile(target, file, offset, count)
    if not isinstance(source, int):
        source.seek(file.f_pos)
    return sent


def do_sendfile(target: struct_file, file: struct_file, offset: int | None, count: int) -> int:
    """fs/read_write.c, do_splice_direct: through a pipe of its own."""
    if offset is not None:
        if not is_hostfile(file):
            raise os_error(errno.ESPIPE, "what is no file has no positions")
        if offset < 0:
            raise os_error(errno.EINVAL, f"offset {offset}")
    check_ends(file, target)
    opipe = get_pipe_info(target)
    if opipe is not None:
        return sendfile_to_pipe(file, offset, opipe, count, target.f_flags)
    if not is_hostfile(file):
        raise os_error(errno.EINVAL, "sendfile takes from files")
    if target.sock is None and not is_hostfile(target):
        raise os_error(errno.EINVAL, "what is open cannot be sent to")
    start = file.f_pos if offset is None else offset
    done = 0
    count = min(count, MAX_RW_COUNT)
    pipe = pipe_inode_info(file.net)
    while done < count:
        size = min(count - done, SENDFILE_PIPE_BYTES)
        got = do_splice_read(file, start + done, pipe, size, 0)
        if not got:
            break
        more = SPLICE_F_MORE if done + got < count and got == size else 0
        try:
            went = do_splice_from(pipe, target, None, got, more)
        except OSError:
            if not done:
                raise
            break
        done += went
        if went < got:
            break
    if offset is None:
        file.f_pos = start + done
    return done


def sendfile_to_pipe(
    file: struct_file, offset: int | None, opipe: pipe_inode_info, count: int, flags: int
) -> int:
    """fs/splice.c splice_file_to_pipe: as much as there is room for. Raises: OSError."""
    wait_for_space(opipe, SPLICE_F_NONBLOCK if flags & O_NONBLOCK else 0)
    return do_splice_read(file, offset, opipe, min(count, MAX_RW_COUNT), 0)
