"""Open files and a host's descriptor table (fs/file.c, fs/file_table.c, linux/fs.h).

A host has one process, whose descriptors are those of its network namespace. A descriptor refers to
a `struct_file`: a socket's, an epoll's, a pipe's end, or a file of the machine that runs this. Call
every function with the host's lock held.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from fastpath.base.intmap import IntMap
from stack.core.errors import os_error
from stack.core.iov import msghdr
from stack.core.rows import i32, row, state, u32
from stack.core.wait import wait_queue_head
from stack.net import Net

if TYPE_CHECKING:
    from stack.core.bsd_socket import socket
    from stack.core.eventpoll import eventpoll
    from stack.core.pipe import pipe_inode_info

NR_OPEN = 1 << 16
FIRST_FD = 3
"""0, 1 and 2 are a process's standard streams."""

O_RDONLY = 0
O_WRONLY = 1
O_RDWR = 2
O_ACCMODE = 3
O_APPEND = 0o2000
O_CLOEXEC = 0o2000000
FASYNC = 0o20000  # O_ASYNC


@state
class file_operations:
    """struct file_operations: the functions of an open file; None: not supported.

    poll(file): POLL* bits. poll_wait(file): the queue that is woken when they may have changed.
    read_iter(file, to) and write_iter(file, from): bytes; they raise OSError. fasync(fd, file, on).
    release(file): the last reference to the file is gone.
    """

    release: Callable[[struct_file], None]
    poll: Callable[[struct_file], int] | None = None
    poll_wait: Callable[[struct_file], wait_queue_head] | None = None
    read_iter: Callable[[struct_file, msghdr], int] | None = None
    write_iter: Callable[[struct_file, msghdr], int] | None = None
    unlocked_ioctl: Callable[[struct_file, int, Any], Any] | None = None
    fasync: Callable[[int, struct_file, bool], None] | None = None
    splice_read: Callable[[struct_file, int | None, pipe_inode_info, int], int] | None = None
    """(file, position or None for its own, pipe, bytes): into the pipe's free slots."""


@state
class vm_area_struct:
    """struct vm_area_struct: an mmap of `size` bytes from byte `vm_pgoff` on.

    `still()` returns whether it is still mapped. The file's mmap sets `vm_file`, the descriptor of
    a file of the real machine, whose pages are mapped.
    """

    size: int
    vm_pgoff: int
    still: Callable[[], bool]
    vm_file: int = row(-1)


@state
class fown_struct:
    """struct fown_struct: the process that gets a file's signals; signum 0 is SIGIO."""

    pid: int = row(0)
    pid_type: int = row(0)
    signum: int = row(0)


@state
class struct_file:
    """struct file: an open file, shared by descriptors that dup() made."""

    net: Net
    f_op: file_operations
    private_data: Any
    """The socket, eventpoll, pipe or Python file, depending on `f_op`."""
    f_flags: u32
    sock: socket | None = row(hot=True)
    """`private_data` of a socket's file with its exact type; `ep` is that of an epoll's file."""
    ep: eventpoll | None = row()
    f_count: i32 = row(1)
    f_pos: int = row(0)
    f_owner: fown_struct | None = row()
    f_ep: list[Any] | None = row()
    """The epitems that watch the file; None before the first one."""
    f_ep_release: Callable[[struct_file], None] | None = row()
    """eventpoll_release_file, set when the file is first watched."""


@state
class files_struct:
    """The descriptor table of a host (one process per host). Lowest free number first."""

    fd: IntMap[struct_file] = row(make=IntMap)
    free: list[int] = row(make=list)
    """A heap of numbers below `next_fd` that may be free."""
    next_fd: int = row(FIRST_FD)
    close_on_exec: set[int] = row(make=set)
    msg: msghdr | None = row()
    """A msghdr that calls reuse; None while a call has it."""
    scratch: bytearray | None = row()
    """A buffer that short recv(2) calls reuse, as long as the last one asked for."""

    def install(self, file: struct_file) -> int:
        """fs/file.c: get_unused_fd and fd_install. Raises: OSError EMFILE."""
        table = self.fd
        free = self.free
        while free:
            fd: int = heappop(free)
            if fd not in table:  # else dup2 took it
                table[fd] = file
                return fd
        fd = self.next_fd
        if fd >= NR_OPEN:
            raise os_error(errno.EMFILE)
        self.next_fd = fd + 1
        table[fd] = file
        return fd

    def full(self) -> bool:
        """Whether no number is free, so that `install` would fail."""
        return not self.free and self.next_fd >= NR_OPEN

    def install_from(self, file: struct_file, start: int) -> int:
        """fs/file.c alloc_fd: the same with the lowest number from `start` on."""
        fd = start if start > FIRST_FD else FIRST_FD
        while fd in self.fd:
            fd += 1
        if fd >= NR_OPEN:
            raise os_error(errno.EMFILE)
        self.install_at(file, fd)
        return fd

    def install_at(self, file: struct_file, fd: int) -> None:
        """A file under a number that is free."""
        while self.next_fd <= fd:
            heappush(self.free, self.next_fd)
            self.next_fd += 1
        self.fd[fd] = file

    def remove(self, fd: int) -> struct_file | None:
        """fs/file.c: close_fd; None when it was not open."""
        file = self.fd.pop(fd, None)
        if file is not None:
            if self.close_on_exec:
                self.close_on_exec.discard(fd)
            heappush(self.free, fd)
        return file


def fget(net: Net, fd: int) -> struct_file:
    """fs/file.c: the open file of a descriptor. Raises: OSError EBADF."""
    file: struct_file | None = net.fdtable.fd.find(fd)
    if file is None:
        raise os_error(errno.EBADF, f"{fd} is not open")
    return file


def fd_install(net: Net, file: struct_file, flags: int) -> int:
    """fs/file.c: a descriptor of a new file; `flags` O_CLOEXEC. Raises: OSError EMFILE."""
    fd = net.fdtable.install(file)
    if flags & O_CLOEXEC:
        net.fdtable.close_on_exec.add(fd)
    return fd


def get_file(file: struct_file) -> struct_file:
    """include/linux/fs.h: one more holds the file."""
    file.f_count += 1
    return file


def filp_close(file: struct_file) -> None:
    """fs/open.c: one descriptor fewer; the last holder releases the file."""
    file.f_count -= 1
    if not file.f_count:
        __fput(file)


def fput(file: struct_file) -> None:
    """fs/file_table.c: drop a reference; release the file with the last one.

    While another file is being released, this one is queued behind it as in the kernel. A chain of
    sockets, each in a message to the next, would otherwise recurse once per socket.
    """
    file.f_count -= 1
    if file.f_count:
        return
    net = file.net
    delayed = net.delayed_fput
    delayed.append(file)
    if not net.flushing_fput:
        flush_delayed_fput(net)


def flush_delayed_fput(net: Net) -> None:
    """fs/file_table.c: release files without holders."""
    net.flushing_fput = True
    try:
        delayed = net.delayed_fput
        while delayed:
            file: struct_file = delayed.pop()
            __fput(file)
    finally:
        net.flushing_fput = False


def __fput(file: struct_file) -> None:
    """fs/file_table.c: remove the file from epolls, then release it."""
    forget = file.f_ep_release
    if forget is not None:
        forget(file)
    op = file.f_op
    if file.f_flags & FASYNC and op.fasync is not None:
        op.fasync(-1, file, False)
    op.release(file)


def vfs_poll(file: struct_file) -> int:
    """include/linux/poll.h: POLL* bits of an open file; one without poll is always ready."""
    poll = file.f_op.poll
    return DEFAULT_POLLMASK if poll is None else poll(file)


DEFAULT_POLLMASK = 0x145  # EPOLLIN | EPOLLOUT | EPOLLRDNORM | EPOLLWRNORM
