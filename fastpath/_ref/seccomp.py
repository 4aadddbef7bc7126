"""Twin of ``fastpath.base.seccomp``, by ioctl and ctypes."""

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import struct
import sys
from pathlib import Path

from fastpath.errors import ArgumentError

# linux/seccomp.h: _IOWR('!', 0, struct seccomp_notif) and so on
RECV, SEND, ID_VALID = 0xC0502100, 0xC0182101, 0x40082102
ADDFD, SET_FLAGS = 0x40182103, 0x40082104
CONTINUE, ADDFD_SETFD, ADDFD_SEND, SYNC_WAKE_UP = 1, 1, 2, 1
SYS_PIDFD_OPEN, SYS_PIDFD_GETFD = 434, 438


def available() -> bool:
    """Whether the system has all of it."""
    return sys.platform == "linux"


class Listener:
    """The calls that wait for an answer, of one filter."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.ended = False
        with contextlib.suppress(OSError):
            fcntl.ioctl(fd, SET_FLAGS, SYNC_WAKE_UP)

    def fileno(self) -> int:
        """The listener's descriptor."""
        return self.fd

    def close(self) -> None:
        """From now on the calls fail with ENOSYS."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def next(self) -> tuple[int, int, int, tuple[int, ...]] | None:
        """Return a call that waits; None: none does, or nobody is left (`ended`)."""
        look = select.poll()
        look.register(self.fd, select.POLLIN)
        while True:
            if not look.poll(0):
                os.sched_yield()
            ((_, events),) = look.poll(0) or [(0, 0)]
            if not events & select.POLLIN:
                self.ended = bool(events & select.POLLHUP)
                return None
            call = self.recv()
            if call is not None:
                return call

    def recv(self) -> tuple[int, int, int, tuple[int, ...]] | None:
        """Return (id, thread, number, arguments) of a call."""
        room = bytearray(80)
        try:
            fcntl.ioctl(self.fd, RECV, room)
        except OSError as exc:
            if exc.errno in (errno.ENOENT, errno.EINTR):
                return None
            raise
        call_id, tid, _, number, _, _, *args = struct.unpack("=QIIiIQ6Q", room)
        return call_id, tid, number, tuple(args)

    def _send(self, call_id: int, value: int, error: int, flags: int) -> bool:
        try:
            fcntl.ioctl(self.fd, SEND, struct.pack("=QqiI", call_id, value, -error, flags))
        except OSError:
            return False
        return True

    def valid(self, call_id: int) -> bool:
        """Whether the call still waits."""
        try:
            fcntl.ioctl(self.fd, ID_VALID, struct.pack("=Q", call_id))
        except OSError:
            return False
        return True

    def answer(self, call_id: int, value: int, error: int = 0) -> bool:
        """Let the call return or fail."""
        return self._send(call_id, value, error, 0)

    def go_on(self, call_id: int) -> bool:
        """Let the kernel do the call."""
        return self._send(call_id, 0, 0, CONTINUE)

    def answer_fd(self, call_id: int, fd: int, flags: int = 0) -> int:
        """Put a descriptor into the program's table and let the call return its number."""
        # Of a bytearray the call's own result is returned.
        asked = bytearray(struct.pack("=QIIII", call_id, ADDFD_SEND, fd, 0, flags))
        return fcntl.ioctl(self.fd, ADDFD, asked)

    def put_fd(self, call_id: int, fd: int, number: int, flags: int = 0) -> None:
        """Put a descriptor into the program's table under `number`."""
        asked = bytearray(struct.pack("=QIIII", call_id, ADDFD_SETFD, fd, number, flags))
        fcntl.ioctl(self.fd, ADDFD, asked)


def socket_inode(tid: int, number: int) -> int:
    """Return the inode of the socket under a thread's number; -1: there is none."""
    try:
        name = os.readlink(f"/proc/{tid}/fd/{number}")
    except OSError:
        return -1
    return int(name[8:-1]) if name.startswith("socket:[") else -1


def fd_flags(tid: int, number: int) -> int:
    """Return the flags of a thread's descriptor; -1: there is none."""
    try:
        text = Path(f"/proc/{tid}/fdinfo/{number}").read_text()
    except OSError:
        return -1
    return int(text.partition("flags:")[2].split()[0], 8)


# struct iovec: a base and a length, each a word.
_iovec = ctypes.c_size_t * 2


def _move(call: str, tid: int, addr: int, local: ctypes.Array[ctypes.c_char], count: int) -> None:
    function = getattr(ctypes.CDLL(None, use_errno=True), call)
    function.restype = ctypes.c_ssize_t
    here, there = _iovec(ctypes.addressof(local), count), _iovec(addr, count)
    n = function(tid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    if n != count:
        raise OSError(ctypes.get_errno() if n < 0 else errno.EFAULT, f"memory of {tid}")


def read_memory(tid: int, addr: int, count: int) -> bytearray:
    """Return `count` bytes of a program's memory."""
    if not 0 <= count <= 1 << 30:
        raise ArgumentError(f"read_memory: {count} bytes; give 0 to 2**30")
    local = ctypes.create_string_buffer(max(count, 1))
    if count:
        _move("process_vm_readv", tid, addr, local, count)
    return bytearray(local.raw[:count])


def write_memory(tid: int, addr: int, data: bytes) -> None:
    """Write to a program's memory."""
    if data:
        local = ctypes.create_string_buffer(bytes(data), len(data))
        _move("process_vm_writev", tid, addr, local, len(data))


def get_fd(tid: int, number: int) -> int:
    """Return a descriptor of this process for descriptor `number` of a thread."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = libc.syscall(SYS_PIDFD_OPEN, tid, os.O_EXCL)
    fd = -1
    if pidfd >= 0:
        fd = libc.syscall(SYS_PIDFD_GETFD, pidfd, number, 0)
        why = ctypes.get_errno()
        os.close(pidfd)
        ctypes.set_errno(why)
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(fd)
