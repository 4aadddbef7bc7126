"""What a program has under a socket's number: a descriptor of the kernel that shows its readiness.

It is one end of a pair of AF_UNIX sockets; the other end is here. So dup, fork, exec, SCM_RIGHTS,
close, O_NONBLOCK and close-on-exec are the kernel's, and so are poll, select and epoll, over such
descriptors and any others together. When the last copy is closed, by whatever way, this end hangs
up, and the socket is closed.

Readiness is shown all the time, so neither epoll_ctl nor epoll_wait has to stop. While a call waits
here, though, it is that which takes what comes, and what is left is shown when it returns:

    POLLIN      a byte waits in the program's end
    POLLOUT     cleared by bytes in this end, which fill the program's small send buffer
    POLLRDHUP   this end is shut down for writing
    POLLHUP     this end is shut down both ways
    POLLERR     this end was closed with a byte in it that nobody has read; POLLHUP comes along

What clears POLLIN and POLLOUT is a call of the program itself, in which its end is at hand
(`end`). A hang-up is for ever. From then on this end would not tell that the program's is closed.
So before it, one end of another pair, the guard, is put into the queue of the program's end, which
the kernel closes along with that. POLLERR alone, as of a datagram socket, cannot be shown; what it
comes with is: POLLIN and POLLOUT.
"""

from __future__ import annotations

import contextlib
import os
import socket as unix
from collections.abc import Callable

from fastpath.base.seccomp import get_fd
from stack.core.bsd_socket import socket, sockfd_lookup
from stack.core.sock import sk_sleep
from stack.core.uapi import POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDHUP
from stack.net import Net

FILL = bytes(2048)
"""Over a quarter of the smallest send buffer."""
MANY = 1 << 16
HANG_UP = POLLHUP | POLLRDHUP


class Placeholder:
    """One open socket of a program. Call with the host's lock held."""

    def __init__(
        self, net: Net, fd: int, nonblock: bool, changed: Callable[[], None] | None = None
    ) -> None:
        self.fd = fd
        """The socket's number on the host."""
        self.sock: socket = sockfd_lookup(net, fd)
        kind = unix.SOCK_STREAM | unix.SOCK_CLOEXEC
        theirs, self.ours = unix.socketpair(unix.AF_UNIX, kind)
        theirs.setblocking(not nonblock)
        theirs.setsockopt(unix.SOL_SOCKET, unix.SO_SNDBUF, 0)  # the least there is
        self.ours.setblocking(False)
        self.inode = os.fstat(theirs.fileno()).st_ino
        self.theirs: unix.socket | None = theirs
        """The program's end, until the program has it."""
        self._watched = True
        self._shown = POLLOUT
        self.waiting = 0
        """Calls that wait here."""
        self.where = (0, -1)
        """A thread and its number for the program's end, when it was last at hand."""
        self.guard: unix.socket | None = None
        self.moves: Callable[[Placeholder, int, int], None] | None = None
        """Called with the number of the end that told of the close, and of that which will."""
        self._changed = changed
        """Called when the kernel may have woken whoever waits for the program's end."""
        sk_sleep(self.sock.sk).add(self._woken)
        self.refresh(theirs)

    def given(self) -> None:
        """The program has its end."""
        if self.theirs is not None:
            self.theirs.close()
            self.theirs = None

    def close(self) -> None:
        """Give the descriptors back."""
        self.given()
        self._unwatch()
        self.ours.close()
        if self.guard is not None:
            self.guard.close()

    def number(self) -> int:
        """The descriptor that hangs up when the program has closed the last copy of its end."""
        return (self.ours if self.guard is None else self.guard).fileno()

    def hides(self, bits: int) -> bool:
        """Whether POLLERR or POLLHUP of `bits` is not shown."""
        return bool(bits & (POLLERR | POLLHUP) & ~self._shown)

    def _unwatch(self) -> None:
        """Show no more changes."""
        if self._watched and self.sock.sk is not None:
            sk_sleep(self.sock.sk).remove(self._woken)
        self._watched = False

    def end(self) -> None:
        """The socket goes: whoever waits for it goes on, and finds out."""
        self._unwatch()
        with contextlib.suppress(OSError):
            self.ours.shutdown(unix.SHUT_WR)
        if self._changed is not None:
            self._changed()

    def bits(self) -> int:
        """What poll(2) would say of the socket."""
        sock = self.sock
        if sock.ops is None or sock.sk is None:
            return POLLIN | POLLOUT | POLLRDHUP
        bits = sock.ops.poll(sock.file, sock, None)
        if bits & POLLERR:
            bits |= POLLIN | POLLOUT
        if bits & HANG_UP == HANG_UP:
            return bits & (HANG_UP | POLLERR) | POLLIN | POLLOUT
        return bits & (POLLIN | POLLOUT | POLLRDHUP)

    def _woken(self) -> None:
        if not self.waiting:
            self.show()

    def show(self) -> None:
        """Something has come, or there is room: what needs the program's end is not shown yet."""
        if self._watched and not self._shown & POLLHUP:
            self._show(self.bits())

    def _show(self, bits: int) -> None:
        if bits & POLLHUP and self._hang_up(bits):
            pass
        elif bits & POLLRDHUP and not self._shown & POLLRDHUP:
            self.ours.shutdown(unix.SHUT_WR)
            self._shown |= POLLRDHUP | POLLIN
        elif bits & POLLIN:
            # Again where it is shown: whoever waits for an edge (EPOLLET) has one.
            try:  # noqa: SIM105  # contextlib.suppress() takes longer, and this is per packet
                self.ours.send(b"\0")
            except OSError:
                pass
            self._shown |= POLLIN
        if bits & POLLOUT and not self._shown & POLLOUT:
            with contextlib.suppress(OSError):
                self.ours.recv(MANY)  # the filling
            self._shown |= POLLOUT
        if self._changed is not None:
            self._changed()

    def _hang_up(self, bits: int) -> bool:
        """Show POLLHUP, and POLLERR if it is there. False: there is no room for the guard."""
        theirs, guard = unix.socketpair()
        with theirs:
            try:
                unix.send_fds(self.ours, [b"\0"], [theirs.fileno()])
            except OSError:
                guard.close()
                return False
        if self.moves is not None:
            self.moves(self, self.ours.fileno(), guard.fileno())
        self.guard = guard
        if bits & POLLERR:
            with contextlib.suppress(OSError):
                copy = get_fd(*self.where) if self.theirs is None else os.dup(self.theirs.fileno())
                with unix.socket(unix.AF_UNIX, unix.SOCK_STREAM, 0, copy) as end:
                    if os.fstat(end.fileno()).st_ino == self.inode:
                        end.send(b"\0", unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL)
            self.ours.close()
        else:
            self.ours.shutdown(unix.SHUT_RDWR)
        self._shown = bits
        return True

    def stale(self) -> int:
        """What is shown and no longer true, so that `refresh` has to follow."""
        if not self._watched:
            return 0
        gone = self._shown & ~self.bits()
        if self._shown & POLLHUP:
            return gone & POLLERR
        return gone & (POLLOUT if self._shown & POLLRDHUP else POLLIN | POLLOUT)

    def drained(self) -> None:
        """Nothing is left in the program's end: POLLIN is not shown any more."""
        self._shown &= ~POLLIN

    def refresh(self, end: unix.socket) -> None:
        """Show all that is true now; `end` is the program's."""
        bits = self.bits()
        if self._shown & POLLHUP:
            if self._shown & ~bits & POLLERR:
                end.getsockopt(unix.SOL_SOCKET, unix.SO_ERROR)  # which clears it
                self._shown &= ~POLLERR
            return
        if self._shown & ~bits & POLLIN:
            with contextlib.suppress(OSError):
                end.recv(MANY, unix.MSG_DONTWAIT)
            self._shown &= ~POLLIN
        if self._shown & ~bits & POLLOUT:
            with contextlib.suppress(OSError):
                end.send(FILL, unix.MSG_DONTWAIT)
            self._shown &= ~POLLOUT
        if bits & ~self._shown:
            self._show(bits)
