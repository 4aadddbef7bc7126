"""A packet socket's ring in a program's memory.

The kernel maps the file of the descriptor given to mmap(2), which is a placeholder. So for
that one call the ring's file replaces it, and the placeholder returns with the next
call handled for the thread. The program may use the descriptor earlier in close, dup,
fcntl, fork, select and epoll_ctl: a descriptor created meanwhile refers to the file, which is
always readable.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fastpath.base.seccomp import fd_flags, get_fd
from stack.core.file import O_CLOEXEC

if TYPE_CHECKING:
    from stack.api.programs.supervisor import Call


class Mapped:
    """Whether a program still maps a ring. `inode`: that of the ring's file, once it is known."""

    def __init__(self, tid: int) -> None:
        self._tid = tid
        self.inode = 0

    def __call__(self) -> bool:
        try:
            with open(f"/proc/{self._tid}/maps", "rb") as file:
                return any(int(line.split(None, 5)[4]) == self.inode for line in file)
        except OSError:
            return False


class Lent:
    """A ring's file that temporarily replaces a program's placeholder."""

    def __init__(self, call: Call, number: int, fd: int) -> None:
        """Replace the placeholder. Raises: OSError."""
        self._tid = call.tid
        self._number = number
        self._inode = os.fstat(fd).st_ino
        self._flags = max(fd_flags(call.tid, number), 0) & O_CLOEXEC
        self._end = get_fd(call.tid, number)
        try:
            call.supervisor.listener.put_fd(call.id, fd, number, self._flags)
        except OSError:
            self.close()
            raise

    def back(self, call: Call) -> bool:
        """Put the placeholder back, if `call` is from its thread. False: from another one."""
        if call.tid != self._tid and os.path.exists(f"/proc/{self._tid}"):
            return False
        try:
            there = os.stat(f"/proc/{call.tid}/fd/{self._number}").st_ino == self._inode
            if call.tid == self._tid and there:
                call.supervisor.listener.put_fd(call.id, self._end, self._number, self._flags)
        except OSError:
            pass  # the program has closed it, or was killed
        self.close()
        return True

    def close(self) -> None:
        """Release the placeholder."""
        os.close(self._end)
