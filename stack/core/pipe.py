"""Pipes of a host (fs/pipe.c), used by splice(2).

sys_pipe2 makes one with a file for each end. Its file_operations map read(2), write(2), poll(2),
ioctl(2), fcntl(2) and close(2) to pipe_read, pipe_write, pipe_poll, pipe_ioctl, pipe_fcntl and
pipe_release. splice(2) fills a pipe by splice_to_pipe (stack/core/splice.py).

A pipe has slots (16, or as F_SETPIPE_SZ sets) of a page each. As in the kernel, a write first fills
the last slot if that has room for the write's odd part (its length modulo the page size). State is
pipe_inode_info: the slots, the numbers of readers and writers, and the waiters.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import Any

from stack.core import uapi
from stack.core.errors import os_error
from stack.core.fasync import fasync_helper, fasync_struct, kill_fasync
from stack.core.file import O_CLOEXEC, O_RDONLY, O_WRONLY, fd_install, file_operations, struct_file
from stack.core.iov import msghdr
from stack.core.memory import put_user_int
from stack.core.rows import row, state
from stack.core.signal import SIGIO
from stack.core.uapi import POLL_IN, POLL_OUT
from stack.core.wait import wait_queue_head, wake_up_poll
from stack.net import Net

PAGE_SIZE = 4096
PIPE_DEF_BUFFERS = 16
PIPE_MAX_SIZE = 1 << 20
"""fs.pipe-max-size."""
O_DIRECT = 0o40000


@state
class pipe_buffer:
    """struct pipe_buffer: `len` bytes at `offset` of a page; `can_merge`: a write may append."""

    page: Any
    offset: int
    len: int
    can_merge: bool = False
    packet: bool = False
    """Written with O_DIRECT: one read takes it, and bytes beyond the reader's buffer are lost."""


@state
class pipe_inode_info:
    """struct pipe_inode_info."""

    net: Net
    bufs: deque[pipe_buffer] = row(make=deque)
    max_usage: int = row(PIPE_DEF_BUFFERS)
    readers: int = row(1)
    writers: int = row(1)
    rd_wait: wait_queue_head = row(of=lambda pipe: wait_queue_head(pipe.net.wake_clock))
    wr_wait: wait_queue_head = row(of=lambda pipe: wait_queue_head(pipe.net.wake_clock))
    fasync_readers: list[fasync_struct] = row(make=list)
    fasync_writers: list[fasync_struct] = row(make=list)


def pipe_full(pipe: pipe_inode_info) -> bool:
    """include/linux/pipe_fs_i.h: no slot is free."""
    return len(pipe.bufs) >= pipe.max_usage


def get_pipe_info(file: struct_file) -> pipe_inode_info | None:
    """fs/pipe.c: the pipe behind an open file; None when it is none."""
    private = file.private_data
    if isinstance(private, pipe_inode_info):
        pipe: pipe_inode_info = private
        return pipe
    return None


def pipe_wake_readers(pipe: pipe_inode_info, end: int = 0) -> None:
    """There is data to read, or no writer is left. `end`: more POLL* bits."""
    wake_up_poll(pipe.rd_wait, uapi.POLLIN | uapi.POLLRDNORM | end)
    if pipe.fasync_readers:
        kill_fasync(pipe.fasync_readers, SIGIO, POLL_IN)


def pipe_wake_writers(pipe: pipe_inode_info, end: int = 0) -> None:
    """There is room, or no reader is left. `end`: more POLL* bits."""
    wake_up_poll(pipe.wr_wait, uapi.POLLOUT | uapi.POLLWRNORM | end)
    if pipe.fasync_writers:
        kill_fasync(pipe.fasync_writers, SIGIO, POLL_OUT)


def pipe_wait_readable(pipe: pipe_inode_info) -> None:
    """fs/pipe.c: sleep until there is something to read or no writer is left."""
    pipe.net.clock.wait(lambda: bool(pipe.bufs) or not pipe.writers)


def pipe_wait_writable(pipe: pipe_inode_info) -> None:
    """fs/pipe.c: sleep until a slot is free or no reader is left."""
    pipe.net.clock.wait(lambda: not pipe_full(pipe) or not pipe.readers)


def pipe_read(file: struct_file, to: msghdr) -> int:
    """fs/pipe.c: 0 at the end. Raises: OSError EAGAIN."""
    pipe: pipe_inode_info = file.private_data
    ret = 0
    if not to.count:
        return 0
    was_full = pipe_full(pipe)
    while True:
        while pipe.bufs and to.count:
            buf: pipe_buffer = pipe.bufs[0]
            chars = to.put(bytes(memoryview(buf.page)[buf.offset : buf.offset + buf.len]))
            ret += chars
            buf.offset += chars
            buf.len -= chars
            if buf.packet:
                buf.len = 0
            if not buf.len:
                pipe.bufs.popleft()
            if buf.packet:
                break
        if not to.count or ret or not pipe.writers:
            break
        if file.f_flags & uapi.O_NONBLOCK:
            raise os_error(errno.EAGAIN, "the pipe is empty")
        pipe_wait_readable(pipe)
        was_full = pipe_full(pipe)
    if was_full:
        pipe_wake_writers(pipe)
    return ret


def splice_to_pipe(pipe: pipe_inode_info, data: Any, count: int, skew: int = 0) -> None:
    """fs/splice.c: add `count` bytes, a page per slot; the first page starts at offset `skew`."""
    was_empty = not pipe.bufs
    at = 0
    while at < count:
        size = min(PAGE_SIZE - (at + skew) % PAGE_SIZE, count - at)
        pipe.bufs.append(pipe_buffer(data, at, size))
        at += size
    if count and (was_empty or pipe.fasync_readers):
        pipe_wake_readers(pipe)


def copy_splice_read(file: struct_file, pos: int | None, pipe: pipe_inode_info, size: int) -> int:
    """fs/splice.c: file_operations.splice_read of a file without pages: read, at most `size`."""
    read_iter = file.f_op.read_iter
    assert read_iter is not None
    room = bytearray(size)
    n = read_iter(file, msghdr(None, room))
    splice_to_pipe(pipe, room, n)
    return n


def pipe_write(file: struct_file, source: msghdr) -> int:
    """fs/pipe.c: bytes taken. Raises: OSError EPIPE, EAGAIN."""
    pipe: pipe_inode_info = file.private_data
    if not source.count:
        return 0
    if not pipe.readers:
        raise os_error(errno.EPIPE, "nobody reads the pipe")
    was_empty = not pipe.bufs
    ret = 0
    chars = source.count & (PAGE_SIZE - 1)
    if chars and pipe.bufs:
        last: pipe_buffer = pipe.bufs[len(pipe.bufs) - 1]
        end = last.offset + last.len
        if last.can_merge and end + chars <= PAGE_SIZE:
            last.page[end : end + chars] = source.take(chars)
            last.len += chars
            ret = chars
    while source.count:
        if not pipe.readers:
            if not ret:
                raise os_error(errno.EPIPE, "nobody reads the pipe")
            break
        if not pipe_full(pipe):
            data = source.take(min(PAGE_SIZE, source.count))
            packet = bool(file.f_flags & O_DIRECT)
            page = bytearray(data).ljust(PAGE_SIZE, b"\0")
            pipe.bufs.append(pipe_buffer(page, 0, len(data), not packet, packet))
            ret += len(data)
            continue
        if file.f_flags & uapi.O_NONBLOCK:
            if not ret:
                raise os_error(errno.EAGAIN, "the pipe is full")
            break
        if was_empty:
            pipe_wake_readers(pipe)
        pipe_wait_writable(pipe)
        was_empty = not pipe.bufs
    if was_empty or pipe.fasync_readers:
        pipe_wake_readers(pipe)
    return ret


def pipe_poll(file: struct_file) -> int:
    """fs/pipe.c: POLL* bits of one end."""
    pipe: pipe_inode_info = file.private_data
    mask = 0
    if not file.f_flags & O_WRONLY:
        if pipe.bufs:
            mask |= uapi.POLLIN | uapi.POLLRDNORM
        if not pipe.writers:
            mask |= uapi.POLLHUP
    else:
        if not pipe_full(pipe):
            mask |= uapi.POLLOUT | uapi.POLLWRNORM
        if not pipe.readers:
            mask |= uapi.POLLERR
    return mask


def pipe_poll_wait(file: struct_file) -> wait_queue_head:
    """The wait queue for those that poll one end."""
    pipe: pipe_inode_info = file.private_data
    return pipe.wr_wait if file.f_flags & O_WRONLY else pipe.rd_wait


def pipe_release(file: struct_file) -> None:
    """fs/pipe.c: an end is closed."""
    pipe: pipe_inode_info = file.private_data
    if file.f_flags & O_WRONLY:
        pipe.writers -= 1
    else:
        pipe.readers -= 1
    if not pipe.readers and not pipe.writers:
        pipe.bufs.clear()
        return
    pipe_wake_readers(pipe, uapi.POLLERR | uapi.POLLHUP)
    pipe_wake_writers(pipe, uapi.POLLERR | uapi.POLLHUP)


def pipe_fasync(fd: int, file: struct_file, on: bool) -> None:
    """fs/pipe.c: O_ASYNC of one end."""
    pipe: pipe_inode_info = file.private_data
    writes = file.f_flags & O_WRONLY
    fasync_helper(fd, file, on, pipe.fasync_writers if writes else pipe.fasync_readers)


def pipe_ioctl(file: struct_file, cmd: int, arg: Any) -> int:
    """fs/pipe.c: FIONREAD. Raises: OSError ENOTTY."""
    pipe: pipe_inode_info = file.private_data
    if cmd != uapi.FIONREAD:
        raise os_error(errno.ENOTTY, f"request {cmd:#x} is not for pipes")
    count = 0
    for buf in pipe.bufs:
        count += buf.len
    return put_user_int(count, arg)


def pipe_fcntl(file: struct_file, setting: bool, arg: int) -> int:
    """fs/pipe.c: F_GETPIPE_SZ, F_SETPIPE_SZ: bytes. Raises: OSError EBADF, EINVAL, EPERM, EBUSY."""
    pipe = get_pipe_info(file)
    if pipe is None:
        raise os_error(errno.EBADF, "not a pipe")
    if setting:
        if not 0 <= arg <= 1 << 31:
            raise os_error(errno.EINVAL, f"a pipe of {arg} bytes")
        slots = 1
        while slots * PAGE_SIZE < arg:
            slots *= 2
        if slots > pipe.max_usage and slots * PAGE_SIZE > PIPE_MAX_SIZE and pipe.net.uid:
            raise os_error(errno.EPERM, f"pipe-max-size is {PIPE_MAX_SIZE}")
        if slots < len(pipe.bufs):
            raise os_error(errno.EBUSY, f"{len(pipe.bufs)} pages are in the pipe")
        pipe.max_usage = slots
        pipe_wake_writers(pipe)
    return pipe.max_usage * PAGE_SIZE


pipefifo_fops = file_operations(
    release=pipe_release,
    poll=pipe_poll,
    poll_wait=pipe_poll_wait,
    read_iter=pipe_read,
    write_iter=pipe_write,
    unlocked_ioctl=pipe_ioctl,
    fasync=pipe_fasync,
)


def sys_pipe2(net: Net, flags: int = 0) -> tuple[int, int]:
    """pipe2(2): (read end, write end); O_NONBLOCK, O_CLOEXEC, O_DIRECT (packets).

    Raises: OSError EINVAL, EMFILE.
    """
    if flags & ~(O_CLOEXEC | uapi.O_NONBLOCK | O_DIRECT):
        raise os_error(errno.EINVAL, f"pipe2: flags {flags:#o}")
    pipe = pipe_inode_info(net)
    kept = flags & (uapi.O_NONBLOCK | O_DIRECT)
    reading = struct_file(net, pipefifo_fops, pipe, O_RDONLY | kept)
    writing = struct_file(net, pipefifo_fops, pipe, O_WRONLY | kept)
    fd = fd_install(net, reading, flags)
    try:
        return fd, fd_install(net, writing, flags)
    except OSError:
        net.fdtable.remove(fd)
        raise
