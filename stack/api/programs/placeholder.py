"""The kernel descriptor that a program has for a socket, which shows its readiness.

It is one end of a pair of AF_UNIX sockets; the other end is here. So dup, fork, exec, SCM_RIGHTS,
close, O_NONBLOCK and close-on-exec are handled by the kernel, as are poll, select and epoll on such
and other descriptors together. When the last copy is closed in any way, this end hangs
up, and the socket is closed.

Readiness is shown all the time, so neither epoll_ctl nor a blocking epoll_wait has to stop.
But a call that waits here receives the data first, and the rest is shown when
it returns:

    POLLIN      a byte waits in the program's end
    POLLPRI     a byte of MSG_OOB waits there; implies POLLIN
    POLLOUT     cleared by bytes in this end, which fill the program's small send buffer
    POLLRDHUP   this end is shut down for writing
    POLLHUP     this end is shut down both ways
    POLLERR     this end was closed with an unread byte in it; implies POLLHUP

Only calls of the program clear POLLIN, POLLPRI and POLLOUT, and they provide its end
(`end`). Only a ring is emptied without a call, so it is polled while POLLIN is shown. A hang-up
is permanent. After it, this end cannot signal that the program's end closes. So before it, one
end of another pair, the guard, is sent to the queue of the program's end, which the kernel closes
with it. POLLERR alone, as of a datagram socket, cannot be shown; POLLIN and POLLOUT are shown
instead.
"""

from __future__ import annotations

import contextlib
import os
import socket as unix
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from fastpath.base.seccomp import get_fd
from stack.core.bsd_socket import socket
from stack.core.file import fget, struct_file, vfs_poll
from stack.core.rows import row, state
from stack.core.sock import sk_sleep
from stack.core.uapi import POLLERR, POLLHUP, POLLIN, POLLOUT, POLLPRI, POLLRDHUP
from stack.core.wait import wait_queue_head
from stack.net import Net

FILL = bytes(2048)
"""Over a quarter of the smallest send buffer."""
MANY: Final = 1 << 16
HANG_UP: Final = POLLHUP | POLLRDHUP


@state
class Opened:
    """The host file of a program's descriptor."""

    fd: int
    """The number on the host."""
    file: struct_file
    sock: socket
    """None: not a socket. Then only read, write, ioctl and poll apply."""


@state
class Placeholder(Opened):
    """One open socket, or other file, of a program. Call with the host's lock held."""

    ours: Any = row()
    """The other end, which shows the readiness."""
    theirs: unix.socket | None = row()
    """The program's end, until the program receives it."""
    inode: int = row(0)
    """The inode of the program's end."""
    watched: bool = row(True)
    shown: int = row(POLLOUT)
    """Bits of poll(2)."""
    waiting: int = row(0)
    """Number of calls that wait here."""
    closed: bool = row(False)
    """No program has a copy left, but waiting calls still use the socket."""
    where: tuple[int, int] = row((0, -1))
    """The last known thread and its number for the program's end."""
    guard: unix.socket | None = row()
    moves: Callable[[Placeholder, int, int], None] | None = row()
    """Called with the number of the end that signalled a close, and of the next one."""
    changed: Callable[[], None] | None = row()
    """Called when the kernel may have woken a waiter on the program's end."""
    filled: Callable[[Placeholder], None] | None = row()
    """Called when POLLIN is shown for a ring, which a program empties without a call."""

    if TYPE_CHECKING:

        def init_state(self) -> None:
            """As `@state` makes it."""

    def __init__(
        self, net: Net, fd: int, nonblock: bool, changed: Callable[[], None] | None = None
    ) -> None:
        self.init_state()
        self.fd = fd
        self.file = fget(net, fd)
        self.sock = self.file.sock  # type: ignore[assignment]  # None, as `Opened` says
        self.changed = changed
        kind = unix.SOCK_STREAM | unix.SOCK_CLOEXEC
        theirs, self.ours = unix.socketpair(unix.AF_UNIX, kind)
        theirs.setblocking(not nonblock)
        theirs.setsockopt(unix.SOL_SOCKET, unix.SO_SNDBUF, 0)  # the minimum
        self.ours.setblocking(False)
        self.inode = os.fstat(theirs.fileno()).st_ino
        self.theirs = theirs
        queue = wait_queue(self)
        if queue is not None:
            queue.add(self.woken)
        self.refresh(theirs)

    def given(self) -> None:
        """The program has received its end."""
        if self.theirs is not None:
            self.theirs.close()
            self.theirs = None

    def close(self) -> None:
        """Close the descriptors."""
        self.given()
        self._unwatch()
        self.ours.close()
        if self.guard is not None:
            self.guard.close()

    def number(self) -> int:
        """The descriptor that hangs up after the program closes the last copy of its end."""
        return (self.ours if self.guard is None else self.guard).fileno()

    def hides(self, bits: int) -> bool:
        """Whether `bits` has a bit that is not shown directly: POLLERR, POLLHUP, POLLPRI."""
        return bool(bits & (POLLERR | POLLHUP) & ~self.shown or bits & POLLPRI)

    def _unwatch(self) -> None:
        """Stop showing changes."""
        queue = wait_queue(self)
        if self.watched and queue is not None:
            queue.remove(self.woken)
        self.watched = False

    def end(self) -> None:
        """The socket is released: wake its waiters."""
        self._unwatch()
        with contextlib.suppress(OSError):
            self.ours.shutdown(unix.SHUT_WR)
        if self.changed is not None:
            self.changed()

    def woken(self) -> None:
        """The socket's wait queue was woken."""
        if not self.waiting:
            show(self)

    def hang_up(self, bits: int) -> bool:
        """Show POLLHUP, and POLLERR if set. False: no room for the guard."""
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
        self.shown = bits
        return True

    def refresh(self, end: unix.socket) -> None:
        """Show the current readiness; `end` is the program's."""
        bits = true_bits(self)
        if self.shown & POLLHUP:
            if self.shown & ~bits & POLLERR:
                end.getsockopt(unix.SOL_SOCKET, unix.SO_ERROR)  # which clears it
                self.shown &= ~POLLERR
            return
        if self.shown & ~bits & (POLLIN | POLLPRI):
            with contextlib.suppress(OSError):
                while end.recv(MANY, unix.MSG_DONTWAIT):  # up to the urgent byte, and over it
                    pass
            self.shown &= ~(POLLIN | POLLPRI)
        if self.shown & ~bits & POLLOUT:
            with contextlib.suppress(OSError):
                end.send(FILL, unix.MSG_DONTWAIT)
            self.shown &= ~POLLOUT
        if bits & ~self.shown:
            show_bits(self, bits)


def wait_queue(at: Opened) -> wait_queue_head | None:
    """The wait queue of the socket. None: it has been released."""
    sock = at.sock
    if sock is None:
        poll_wait = at.file.f_op.poll_wait
        return None if poll_wait is None else poll_wait(at.file)
    return None if sock.sk is None else sk_sleep(sock.sk)


def true_bits(at: Placeholder) -> int:
    """The poll(2) result of the socket."""
    sock = at.sock
    if sock is None:
        bits = vfs_poll(at.file)
        return (bits | POLLIN | POLLOUT if bits & POLLERR else bits) & (POLLIN | POLLOUT)
    if sock.ops is None or sock.sk is None:
        return POLLIN | POLLOUT | POLLRDHUP
    bits = sock.ops.poll(sock.file, sock, None)
    if bits & POLLERR:
        bits |= POLLIN | POLLOUT
    if bits & HANG_UP == HANG_UP:
        return bits & (HANG_UP | POLLERR) | POLLIN | POLLOUT
    return bits & (POLLIN | POLLPRI | POLLOUT | POLLRDHUP)


def show(at: Placeholder) -> None:
    """Show new data or room, as far as possible without the program's end."""
    if at.watched and not at.shown & POLLHUP:
        show_bits(at, true_bits(at))


def show_bits(at: Placeholder, bits: int) -> None:
    """Show `bits` as far as the program's end is not needed for it."""
    if bits & POLLHUP and at.hang_up(bits):
        pass
    elif bits & POLLRDHUP and not at.shown & POLLRDHUP:
        at.ours.shutdown(unix.SHUT_WR)
        at.shown |= POLLRDHUP | POLLIN
    elif bits & POLLIN:
        # Again where it is shown: edge-triggered waiters (EPOLLET) get an edge.
        try:  # noqa: SIM105  # contextlib.suppress() takes longer, and this is per packet
            at.ours.send(b"\0")
        except OSError:
            pass
        at.shown |= POLLIN
        if at.filled is not None:
            at.filled(at)
    if bits & POLLPRI and not at.shown & POLLPRI:
        with contextlib.suppress(OSError):
            at.ours.send(b"\0", unix.MSG_OOB)
        at.shown |= POLLPRI
    if bits & POLLOUT and not at.shown & POLLOUT:
        with contextlib.suppress(OSError):
            at.ours.recv(MANY)  # the filling
        at.shown |= POLLOUT
    if at.changed is not None:
        at.changed()


def stale(at: Placeholder) -> int:
    """The shown bits that are outdated, so that `refresh` must follow."""
    if not at.watched:
        return 0
    gone = at.shown & ~true_bits(at)
    if at.shown & POLLHUP:
        return gone & POLLERR
    return gone & (POLLOUT if at.shown & POLLRDHUP else POLLIN | POLLPRI | POLLOUT)
